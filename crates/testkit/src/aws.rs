//! The other side of AWS's signatures: checks one as AWS does, from what arrived and the key that is known.
//!
//! Written after AWS's documentation alone, so that a mistake made in signing is not repeated here.

use std::time::{Duration, SystemTime};

use aws_lc_rs::{digest, hmac};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use crate::{Received, Reply};

/// A key that AWS knows.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its id.
    pub id: String,
    /// The key.
    pub secret: String,
    /// The session token that has to come with it.
    pub session: Option<String>,
    /// The region and the service that it is used for.
    pub scope: (String, String),
}

/// How far the date of a signature may be off.
const TOLERANCE: Duration = Duration::from_secs(300);

/// What is not escaped in a canonical path, beside the slashes.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

impl Key {
    /// Returns a key for Bedrock in a region.
    pub fn bedrock(id: &str, secret: &str, region: &str) -> Self {
        Self {
            id: id.to_owned(),
            secret: secret.to_owned(),
            session: None,
            scope: (region.to_owned(), "bedrock".to_owned()),
        }
    }

    /// Returns what is wrong with the signature of `request` when the clock of AWS shows `now`.
    ///
    /// # Errors
    /// AWS's word for it.
    pub fn check(&self, request: &Received, now: SystemTime) -> Result<(), String> {
        let date = request.header("x-amz-date");
        let at = date
            .parse_date()
            .ok_or("IncompleteSignatureException: x-amz-date")?;
        let off = now.duration_since(at).unwrap_or_else(|behind| behind.duration());
        if off > TOLERANCE {
            return Err("InvalidSignatureException: Signature not yet current or expired".to_owned());
        }
        let session = request.headers.get("x-amz-security-token");
        let session = session.and_then(|token| token.to_str().ok());
        if session != self.session.as_deref() {
            return Err("UnrecognizedClientException: session token".to_owned());
        }
        let mut signed = vec!["host", "x-amz-date"];
        signed.extend(session.map(|_| "x-amz-security-token"));
        let (region, service) = &self.scope;
        let scope = format!(
            "{}/{region}/{service}/aws4_request",
            date.get(..8).unwrap_or_default()
        );
        let text = format!(
            "AWS4-HMAC-SHA256\n{date}\n{scope}\n{}",
            hex(digest::digest(&digest::SHA256, canonical(request, &signed).as_bytes()).as_ref())
        );
        let mut key = format!("AWS4{}", self.secret).into_bytes();
        for part in scope.split('/') {
            key = sign(&key, part);
        }
        let expected = format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={}, Signature={}",
            self.id,
            signed.join(";"),
            hex(&sign(&key, &text))
        );
        if request.header("authorization") == expected {
            Ok(())
        } else {
            Err("InvalidSignatureException: the signature does not match".to_owned())
        }
    }

    /// Returns `answer`, or AWS's refusal of a request that is not signed as it must be.
    pub fn guard(&self, request: &Received, now: SystemTime, answer: impl FnOnce() -> Reply) -> Reply {
        match self.check(request, now) {
            Ok(()) => answer(),
            Err(message) => {
                let kind = message.split(':').next().unwrap_or_default();
                let headers = [
                    ("content-type", "application/json"),
                    ("x-amzn-errortype", kind),
                    ("date", &httpdate::fmt_http_date(now)),
                ];
                Reply::whole(403, &headers, &json!({ "message": message }).to_string())
            }
        }
    }
}

/// Reads dates as signatures have them.
trait ParseDate {
    fn parse_date(&self) -> Option<SystemTime>;
}

impl ParseDate for str {
    fn parse_date(&self) -> Option<SystemTime> {
        let time = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", self).ok()?;
        let time = time.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
        Some(time.timestamp().into())
    }
}

fn canonical(request: &Received, signed: &[&str]) -> String {
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    let segments: Vec<String> = path
        .split('/')
        .map(|segment| utf8_percent_encode(segment, UNRESERVED).to_string())
        .collect();
    let mut query: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty()).collect();
    query.sort_unstable();
    let headers: String = signed
        .iter()
        .map(|name| format!("{name}:{}\n", request.header(name).trim()))
        .collect();
    format!(
        "{}\n{}\n{}\n{headers}\n{}\n{}",
        request.method,
        segments.join("/"),
        query.join("&"),
        signed.join(";"),
        hex(digest::digest(&digest::SHA256, &request.body).as_ref())
    )
}

fn sign(key: &[u8], text: &str) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
