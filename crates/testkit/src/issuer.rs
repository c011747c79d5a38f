//! Strict stand-ins for those who issue tokens: what they would refuse is refused, with their words.
//!
//! Written after the issuers' documentation: OAuth 2.0 client credentials, Entra, Google's token services, and
//! AWS's token and metadata services. What a test asks for besides, such as an issuer that is slow, is up to its
//! script.

use std::collections::BTreeMap;

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::{Received, Reply};

/// The fields of a form, or of a query.
pub type Fields = BTreeMap<String, String>;

/// Returns the fields that `text` holds.
pub fn fields(text: &str) -> Fields {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    let decode = |text: &str| {
        let text = text.replace('+', " ");
        percent_decode_str(&text).decode_utf8_lossy().into_owned()
    };
    pairs.map(|(name, value)| (decode(name), decode(value))).collect()
}

/// Returns the fields of a posted form; `Err` is the refusal of what is none.
pub fn form(request: &Received) -> Result<Fields, Reply> {
    let kind = request.header("content-type");
    let posted = request.method == "POST" && kind.starts_with("application/x-www-form-urlencoded");
    let text = String::from_utf8_lossy(&request.body);
    posted
        .then(|| fields(&text))
        .ok_or_else(|| refused(400, "invalid_request"))
}

/// Answers a posted form: a token if it has exactly the fields of `wanted`, `invalid_client` otherwise.
pub fn exchange(request: &Received, wanted: &[(&str, &str)], token: &str, lifetime: u64) -> Reply {
    let posted = match form(request) {
        Ok(posted) => posted,
        Err(refusal) => return refusal,
    };
    let wanted: Fields = wanted
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    if posted == wanted {
        issued(token, lifetime)
    } else {
        // As real issuers do: with what was wrong, the secret included.
        let mut body = json!({ "error": "invalid_client", "error_codes": [7_000_215] });
        body["error_description"] = json!(format!("{posted:?} is not {wanted:?}"));
        Reply::json(401, &body)
    }
}

/// Returns the answer with a token.
pub fn issued(token: &str, lifetime: u64) -> Reply {
    let body = json!({ "access_token": token, "expires_in": lifetime, "token_type": "Bearer" });
    Reply::json(200, &body)
}

/// Returns a refusal.
pub fn refused(status: u16, word: &str) -> Reply {
    Reply::json(status, &json!({ "error": word }))
}

/// Returns header and claims of the statement `token`, which must be signed by the owner of the public key
/// `key`, in DER.
///
/// # Errors
/// What is wrong with it.
pub fn statement(token: &str, key: &[u8]) -> Result<(Value, Value), String> {
    let parts: Vec<&str> = token.split('.').collect();
    let [header, claims, signature] = parts.as_slice() else {
        return Err(format!("{} parts", parts.len()));
    };
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|error| error.to_string());
    let json = |part: &str| serde_json::from_slice(&decode(part)?).map_err(|error| error.to_string());
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key)
        .verify(format!("{header}.{claims}").as_bytes(), &decode(signature)?)
        .map_err(|_| "the signature does not match".to_owned())?;
    Ok((json(header)?, json(claims)?))
}

/// Returns the answer of AWS's token service to the action that `request` names; `key` is what it gives.
pub fn sts(request: &Received, key: &crate::aws::Key) -> Reply {
    let posted = match form(request) {
        Ok(posted) => posted,
        Err(refusal) => return refusal,
    };
    let action = posted.get("Action").cloned().unwrap_or_default();
    let body = format!(
        "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result><Credentials>\
         <AccessKeyId>{}</AccessKeyId><SecretAccessKey>{}</SecretAccessKey><SessionToken>{}</SessionToken>\
         <Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></{action}Result></{action}Response>",
        key.id,
        key.secret,
        key.session.as_deref().unwrap_or_default()
    );
    Reply::whole(200, &[("content-type", "text/xml")], &body)
}

/// Returns keys as the services for containers and machines write them.
pub fn keys(key: &crate::aws::Key) -> Reply {
    Reply::json(
        200,
        &json!({
            "Code": "Success",
            "Type": "AWS-HMAC",
            "AccessKeyId": key.id,
            "SecretAccessKey": key.secret,
            "Token": key.session,
            "Expiration": "2099-01-01T00:00:00Z",
            "LastUpdated": "2026-01-01T00:00:00Z",
        }),
    )
}
