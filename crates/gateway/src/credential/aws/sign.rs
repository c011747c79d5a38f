//! Signature Version 4.
//!
//! Only what nobody on the way changes is signed: host, date and session token. Source: AWS General Reference,
//! "Signature Version 4 signing process".

use std::{fmt::Write, time::SystemTime};

use aws_lc_rs::digest;
use aws_sigv4::{
    http_request::{PercentEncodingMode, SignableBody, SignableRequest, SigningSettings},
    sign::v4::SigningParams,
};
use aws_smithy_runtime_api::client::identity::Identity;
use config::credential::Signature;
use http::{HeaderName, HeaderValue};

use crate::credential::{Call, CredentialError};

/// Puts a signature on `call`, as of `now`.
pub(super) fn sign(
    signature: &Signature,
    identity: &Identity,
    now: SystemTime,
    call: &mut Call<'_>,
) -> Result<(), CredentialError> {
    let body = call.body.ok_or(CredentialError::Streamed)?;
    let host = signature.host.as_deref().unwrap_or(call.host);
    let mut settings = SigningSettings::default();
    // What is on the wire is escaped once; Bedrock escapes it again before it looks at the signature.
    settings.percent_encoding_mode = PercentEncodingMode::Double;
    let params = SigningParams::builder()
        .identity(identity)
        .region(region(host).unwrap_or(&signature.region))
        .name(&signature.service)
        .time(now)
        .settings(settings)
        .build()
        .map_err(|_| CredentialError::Sign)?
        .into();
    let headers = [("host", host)];
    let request = SignableRequest::new(
        call.method,
        call.path,
        headers.into_iter(),
        SignableBody::Precomputed(hash(body)),
    )
    .map_err(|_| CredentialError::Sign)?;
    let signed = aws_sigv4::http_request::sign(request, &params).map_err(|_| CredentialError::Sign)?;
    let (headers, _) = signed.into_parts().0.into_parts();
    for header in headers {
        let mut value = HeaderValue::try_from(header.value()).map_err(|_| CredentialError::Sign)?;
        value.set_sensitive(true);
        call.headers.insert(HeaderName::from_static(header.name()), value);
    }
    Ok(())
}

/// Returns the region that the name of a Bedrock runtime's host holds; the compatibility specification,
/// "SigV4".
fn region(host: &str) -> Option<&str> {
    let host = host.split(':').next()?;
    let rest = [".vpce.amazonaws.com", ".amazonaws.com", ".api.aws"]
        .iter()
        .find_map(|suffix| host.strip_suffix(suffix))?;
    let (before, region) = rest.rsplit_once('.')?;
    let service = before.rsplit('.').next()?;
    ["bedrock-runtime", "bedrock-runtime-fips"]
        .contains(&service)
        .then_some(region)
}

fn hash(body: &[u8]) -> String {
    let mut text = String::with_capacity(2 * digest::SHA256_OUTPUT_LEN);
    for byte in digest::digest(&digest::SHA256, body).as_ref() {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use config::{Secret, credential::AwsKeys};
    use http::HeaderMap;

    use super::*;

    /// 2026-01-02T03:04:05Z
    const TIME: u64 = 1_767_323_045;

    #[track_caller]
    fn check(path: &str, session: Option<&str>, signed: &str, signature: &str) {
        let keys = AwsKeys {
            id: "AKIDEXAMPLE".to_owned(),
            secret: Secret::new("secretexample"),
            session: session.map(Secret::new),
        };
        let scope = Signature {
            region: "elsewhere".to_owned(),
            service: "bedrock".to_owned(),
            host: None,
        };
        let mut headers = HeaderMap::new();
        let mut call = Call {
            headers: &mut headers,
            method: "POST",
            path,
            host: "bedrock-runtime.us-east-1.amazonaws.com",
            body: Some(br#"{"a":1}"#),
        };
        let now = UNIX_EPOCH + Duration::from_secs(TIME);
        sign(&scope, &super::super::identity(&keys), now, &mut call).expect("it can be signed");
        assert_eq!(headers["x-amz-date"], "20260102T030405Z");
        assert_eq!(
            headers.get("x-amz-security-token").map(HeaderValue::as_bytes),
            session.map(str::as_bytes)
        );
        let expected = format!(
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260102/us-east-1/bedrock/aws4_request, \
             SignedHeaders={signed}, Signature={signature}"
        );
        assert_eq!(headers["authorization"], expected);
        assert!(headers.values().all(HeaderValue::is_sensitive));
        assert_eq!(headers.len(), if session.is_some() { 3 } else { 2 });
    }

    /// The vectors of the compatibility specification.
    #[test]
    fn vectors() {
        check(
            "/model/us.anthropic.claude-x-v1:0/converse",
            None,
            "host;x-amz-date",
            "324078c6b4104dd8739c78fb23d534920486749bcdc2153610dcb07624900183",
        );
        check(
            "/model/arn:aws:bedrock:us-east-1:1:inference-profile%2Fus.x-v1:0/invoke",
            Some("TOKEN"),
            "host;x-amz-date;x-amz-security-token",
            "15b46d45ca5f9f823c95fb6ff1e9336bbe281722e792cf268e0613c983d296a7",
        );
    }

    /// Prints what a signature costs: `cargo test --release -p tollgate-gateway --lib cost -- --nocapture`.
    #[test]
    #[expect(
        clippy::print_stdout,
        reason = "the figure is for a reader; no build fails on it"
    )]
    fn cost() {
        const ROUNDS: u32 = 2000;
        let keys = AwsKeys {
            id: "AKIDEXAMPLE".to_owned(),
            secret: Secret::new("secretexample"),
            session: None,
        };
        let identity = super::super::identity(&keys);
        let scope = Signature {
            region: "us-east-1".to_owned(),
            service: "bedrock".to_owned(),
            host: None,
        };
        for size in [1 << 10, 1 << 20] {
            let body = vec![b'x'; size];
            let mut headers = HeaderMap::new();
            let rounds = ROUNDS / (1 + u32::try_from(size / (1 << 16)).unwrap_or(ROUNDS));
            let began = std::time::Instant::now();
            for round in 0..rounds {
                let mut call = Call {
                    headers: &mut headers,
                    method: "POST",
                    path: "/model/us.anthropic.claude-x-v1:0/converse",
                    host: "bedrock-runtime.us-east-1.amazonaws.com",
                    body: Some(&body),
                };
                let now = UNIX_EPOCH + Duration::from_secs(TIME + u64::from(round));
                sign(&scope, &identity, now, &mut call).expect("it can be signed");
            }
            let each = began.elapsed() / rounds.max(1);
            assert_eq!(headers.len(), 2);
            println!("a signature over {size} bytes takes {each:?}");
        }
    }

    #[test]
    fn hosts_name_regions() {
        let check = |host: &str, expected: Option<&str>| assert_eq!(region(host), expected, "{host}");
        check(
            "bedrock-runtime.us-gov-west-1.amazonaws.com",
            Some("us-gov-west-1"),
        );
        check(
            "bedrock-runtime-fips.us-east-1.amazonaws.com:8443",
            Some("us-east-1"),
        );
        check("bedrock-runtime.eu-west-1.api.aws", Some("eu-west-1"));
        check(
            "vpce-0a-1b.bedrock-runtime.eu-west-1.vpce.amazonaws.com",
            Some("eu-west-1"),
        );
        check("bedrock-runtime.cn-north-1.amazonaws.com.cn", None);
        check("bedrock-mantle.us-east-1.api.aws", None);
        check("evil-bedrock-runtime.us-east-1.amazonaws.com", None);
        check("bedrock-runtime.us-east-1.amazonaws.com.evil.org", None);
        check("bedrock-runtime.us-east-1.evilamazonaws.com", None);
        check("amazonaws.com", None);
        check("127.0.0.1:80", None);
    }
}
