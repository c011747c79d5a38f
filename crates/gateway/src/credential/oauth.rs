//! What issuers of tokens have in common: a form is posted, a document comes back (RFC 6749, section 4.4).

use std::time::Duration;

use bytes::Bytes;
use config::Secret;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::{MintError, http::Http, refresh::Minted};

/// The lifetime of a token whose issuer names none.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(300);

/// The longest word of an issuer that is repeated.
const MAX_WORD: usize = 64;

/// What is written as it is in a form.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// A token as issuers write it. Google's services write the second pair of names.
#[derive(Deserialize)]
struct Issued {
    #[serde(alias = "accessToken")]
    access_token: Option<String>,
    expires_in: Option<Seconds>,
}

/// Seconds, which some issuers write as text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(f64),
    Text(String),
}

/// An issuer's refusal. What it says in sentences may repeat what it was sent, so only words are read.
#[derive(Default, Deserialize)]
struct Refused {
    error: Option<serde_json::Value>,
    #[serde(default)]
    error_codes: Vec<u64>,
}

/// Returns `fields` as the body of a form.
pub(crate) fn form(fields: &[(&str, &str)]) -> String {
    let pairs = fields.iter().map(|(name, value)| {
        let value = utf8_percent_encode(value, PLAIN);
        format!("{name}={value}")
    });
    pairs.collect::<Vec<_>>().join("&")
}

/// Posts `fields` to `url` and returns the token that comes back.
pub(crate) async fn token(
    http: &Http,
    url: &str,
    fields: &[(&str, &str)],
) -> Result<Minted<Secret>, MintError> {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, FORM);
    headers.insert(header::ACCEPT, JSON);
    let (status, body) = http.post(url, headers, form(fields)).await?;
    issued(status, &body)
}

/// Returns the token in an issuer's answer.
pub(crate) fn issued(status: StatusCode, body: &Bytes) -> Result<Minted<Secret>, MintError> {
    if status != StatusCode::OK {
        return Err(refusal(status, body));
    }
    let issued: Issued =
        serde_json::from_slice(body).map_err(|_| MintError::Malformed("the answer is not a token"))?;
    let token = issued.access_token.filter(|token| !token.is_empty());
    let token = token.ok_or(MintError::Malformed("the answer holds no access_token"))?;
    let lifetime = match issued.expires_in {
        Some(Seconds::Number(seconds)) => Some(seconds),
        Some(Seconds::Text(seconds)) => seconds.trim().parse().ok(),
        None => Some(DEFAULT_LIFETIME.as_secs_f64()),
    };
    let lifetime = lifetime.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let lifetime = lifetime.ok_or(MintError::Malformed("expires_in is not a number of seconds"))?;
    Ok(Minted::new(Secret::new(token), Some(lifetime)))
}

/// Returns what an issuer's refusal amounts to.
pub(crate) fn refusal(status: StatusCode, body: &Bytes) -> MintError {
    let refused: Refused = serde_json::from_slice(body).unwrap_or_default();
    let word = refused.error.as_ref().and_then(|error| {
        // Google's services wrap the word into an object.
        let word = error.as_str().or_else(|| error.get("status")?.as_str())?;
        let plain = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
        (word.len() <= MAX_WORD && word.bytes().all(plain)).then(|| word.to_owned())
    });
    let codes = refused.error_codes.iter().map(|code| format!(" AADSTS{code}"));
    let reason: String = word.into_iter().chain(codes).collect();
    MintError::Refused {
        status,
        reason: if reason.is_empty() {
            "no reason is given".to_owned()
        } else {
            reason
        },
    }
}

const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_whole_answers_are_tokens() {
        let check = |status: u16, body: &str, expected: Result<(&str, u64), &str>| {
            let status = StatusCode::from_u16(status).expect("a status");
            let issued = issued(status, &Bytes::from(body.to_owned()));
            let issued = issued.as_ref().map(|minted| {
                let left = minted.expires.expect("tokens expire") - tokio::time::Instant::now();
                (minted.value.expose(), left.as_secs_f64().round() as u64)
            });
            let issued = issued.map_err(ToString::to_string);
            assert_eq!(issued, expected.map_err(str::to_owned), "{body}");
        };
        check(200, r#"{"access_token":"t","expires_in":3600}"#, Ok(("t", 3600)));
        check(
            200,
            r#"{"access_token":"t","expires_in":"86399"}"#,
            Ok(("t", 86_399)),
        );
        check(200, r#"{"access_token":"t"}"#, Ok(("t", 300)));
        check(
            200,
            r#"{"expires_in":3600}"#,
            Err("the answer holds no access_token"),
        );
        check(
            200,
            r#"{"access_token":""}"#,
            Err("the answer holds no access_token"),
        );
        let lifetime = "expires_in is not a number of seconds";
        check(200, r#"{"access_token":"t","expires_in":"soon"}"#, Err(lifetime));
        check(200, r#"{"access_token":"t","expires_in":-5}"#, Err(lifetime));
        check(200, "<html>", Err("the answer is not a token"));
        let refused = |status, reason| format!("the issuer refused with status {status}: {reason}");
        check(
            401,
            r#"{"error":"invalid_client","error_description":"secret s3cr3t is wrong","error_codes":[7000215]}"#,
            Err(&refused(401, "invalid_client AADSTS7000215")),
        );
        check(
            400,
            r#"{"error":"s3cr3t!"}"#,
            Err(&refused(400, "no reason is given")),
        );
        check(
            403,
            r#"{"error":{"status":"PERMISSION_DENIED"}}"#,
            Err(&refused(403, "PERMISSION_DENIED")),
        );
        check(503, "busy", Err(&refused(503, "no reason is given")));
    }

    #[test]
    fn forms_are_escaped() {
        assert_eq!(
            form(&[("a", "b c&=+/é"), ("d", "~-_.")]),
            "a=b%20c%26%3D%2B%2F%C3%A9&d=~-_."
        );
    }
}
