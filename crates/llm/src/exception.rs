//! Exceptions of AWS services: how they are called in headers, documents and streams, and what they amount to.
//!
//! Follows the API reference of Amazon Bedrock ("Common errors", `Converse`, `InvokeModel`) and the Smithy
//! protocols for what may stand around a name.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use crate::{ApiError, ErrorKind, error::RawError};

/// The header in which an error reply names its exception.
const HEADER: &str = "x-amzn-errortype";

/// The most bytes of an upstream's text that become a message.
const MAX_MESSAGE: usize = 1024;

/// The exceptions that say more than their status does, without the `Exception` at their end.
const KINDS: &[(&str, ErrorKind)] = &[
    ("validation", ErrorKind::InvalidRequest),
    ("accessDenied", ErrorKind::Permission),
    ("expiredToken", ErrorKind::Authentication),
    ("incompleteSignature", ErrorKind::Authentication),
    ("invalidSignature", ErrorKind::Authentication),
    ("missingAuthenticationToken", ErrorKind::Authentication),
    ("unrecognizedClient", ErrorKind::Authentication),
    ("resourceNotFound", ErrorKind::NotFound),
    ("throttling", ErrorKind::RateLimit),
    ("serviceQuotaExceeded", ErrorKind::RateLimit),
    ("modelTimeout", ErrorKind::Timeout),
    ("modelError", ErrorKind::BadUpstream),
    ("modelStreamError", ErrorKind::BadUpstream),
    ("modelNotReady", ErrorKind::Unavailable),
    ("serviceUnavailable", ErrorKind::Unavailable),
    ("internalServer", ErrorKind::Internal),
];

/// An exception, as far as it was said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exception {
    /// Its name, without what protocols write around it; empty if it has none.
    pub name: String,
    /// What it says; empty if it says nothing.
    pub message: String,
    /// The document that says so, if there is one.
    pub document: Option<Bytes>,
}

/// The members of an exception's document that matter.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Document {
    #[serde(rename = "__type")]
    kind: Option<String>,
    #[serde(alias = "Message")]
    message: Option<String>,
    /// An exception of the framework around the service, which comes with a good status.
    #[serde(rename = "Output")]
    output: Option<Box<Document>>,
}

impl Exception {
    /// Returns the exception called `name` that says `message`.
    pub fn new(name: &str, message: &str) -> Self {
        Self {
            name: bare(name).to_owned(),
            message: bounded(message).to_owned(),
            document: None,
        }
    }

    /// Reads the exception called `name` whose document is `body`; any other text is its message.
    pub fn named(name: &str, body: &[u8]) -> Self {
        let found = Self::find(body).unwrap_or_default();
        let text = String::from_utf8_lossy(body);
        Self {
            name: bare(name).to_owned(),
            message: if found.message.is_empty() {
                bounded(text.trim()).to_owned()
            } else {
                found.message
            },
            document: found.document,
        }
    }

    /// Reads the exception of an error reply; `None` if the reply is not AWS's.
    pub fn of_reply(headers: &HeaderMap, body: &[u8]) -> Option<Self> {
        match headers.get(HEADER).and_then(|name| name.to_str().ok()) {
            Some(name) => Some(Self::named(name, body)),
            None => Self::find(body).filter(|found| !found.name.is_empty()),
        }
    }

    /// Finds an exception in `body`; `None` if it is not a document of one.
    pub fn find(body: &[u8]) -> Option<Self> {
        let mut document: Document = serde_json::from_slice(body).ok()?;
        if let Some(inner) = document.output.take() {
            document = *inner;
        }
        if document.kind.is_none() && document.message.is_none() {
            return None;
        }
        Some(Self {
            document: Some(Bytes::copy_from_slice(body)),
            ..Self::new(
                &document.kind.unwrap_or_default(),
                &document.message.unwrap_or_default(),
            )
        })
    }

    /// Returns what a client is told; `status` is that of the error reply, if there was one.
    pub fn into_error(self, status: Option<StatusCode>) -> ApiError {
        let known = KINDS
            .iter()
            .find(|(name, _)| self.is(name))
            .map(|(_, kind)| *kind);
        let kind = match status {
            Some(status) => known.unwrap_or(ErrorKind::of_status(status)),
            None => known.unwrap_or(ErrorKind::BadUpstream),
        };
        let message = match (self.message.is_empty(), self.name.is_empty()) {
            (false, _) => self.message,
            (true, false) => format!("the upstream answered with {} and did not say why", self.name),
            (true, true) => "the upstream reported an error and did not say why".to_owned(),
        };
        ApiError {
            status: status.unwrap_or(kind.status()),
            code: Some(self.name).filter(|name| !name.is_empty()),
            raw: self.document.map(|body| RawError { format: None, body }),
            ..ApiError::new(kind, message)
        }
    }

    /// Returns whether the exception is called `name`; headers begin names in upper case, streams in lower.
    fn is(&self, name: &str) -> bool {
        let own = self.name.strip_suffix("Exception").unwrap_or(&self.name);
        own.eq_ignore_ascii_case(name)
    }
}

/// Returns `name` without the namespace before it and the address behind it.
fn bare(name: &str) -> &str {
    let name = name.rsplit_once('#').map_or(name, |(_, name)| name);
    name.split(':').next().unwrap_or(name).trim()
}

fn bounded(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_MESSAGE))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn an_error_reply_is_told_by_its_exception() {
        #[track_caller]
        fn check(
            header: Option<&'static str>,
            body: &str,
            status: u16,
            expected: Option<(ErrorKind, &str, &str)>,
        ) {
            let mut headers = HeaderMap::new();
            if let Some(name) = header {
                headers.insert(HEADER, HeaderValue::from_static(name));
            }
            let found = Exception::of_reply(&headers, body.as_bytes());
            let error = found.map(|found| found.into_error(StatusCode::from_u16(status).ok()));
            let told = error.as_ref().map(|error| {
                assert_eq!(error.status, status);
                (
                    error.kind,
                    error.message.as_str(),
                    error.code.as_deref().unwrap_or_default(),
                )
            });
            assert_eq!(told, expected, "{body}");
        }
        check(
            Some("ThrottlingException:http://internal.amazon.com/coral/com.amazon.bedrock/"),
            r#"{"message":"Too many requests"}"#,
            429,
            Some((ErrorKind::RateLimit, "Too many requests", "ThrottlingException")),
        );
        check(
            Some("ServiceQuotaExceededException"),
            r#"{"Message":"Too many tokens"}"#,
            400,
            Some((
                ErrorKind::RateLimit,
                "Too many tokens",
                "ServiceQuotaExceededException",
            )),
        );
        check(
            None,
            r#"{"__type":"com.amazon.coral.service#AccessDeniedException","message":"no"}"#,
            403,
            Some((ErrorKind::Permission, "no", "AccessDeniedException")),
        );
        check(
            None,
            r#"{"Output":{"__type":"com.amazon.coral.service#UnknownOperationException"},"Version":"1.0"}"#,
            404,
            Some((
                ErrorKind::NotFound,
                "the upstream answered with UnknownOperationException and did not say why",
                "UnknownOperationException",
            )),
        );
        check(
            Some("NovelException"),
            "plain text",
            418,
            Some((ErrorKind::InvalidRequest, "plain text", "NovelException")),
        );
        check(None, r#"{"message":"somebody else's"}"#, 500, None);
        check(None, "[]", 500, None);
        check(None, "", 500, None);
    }
}
