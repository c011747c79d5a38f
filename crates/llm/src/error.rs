//! The error that a client is told, before it is said in the client's format.
//!
//! One type serves the gateway's own refusals and upstreams' errors, because a client must not have to tell
//! them apart. Formats give it words (`encode_error`, `decode_error`); nothing else does.

use std::fmt;

use bytes::Bytes;
use http::StatusCode;

use crate::Format;

/// An error on its way to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// Sent as the HTTP status; an upstream's own status is preserved.
    pub status: StatusCode,
    /// What went wrong, in the words that all formats share.
    pub kind: ErrorKind,
    /// For a person; never holds a credential.
    pub message: String,
    /// The member of the request that is at fault, in the client's spelling: `messages[2].content`.
    pub param: Option<String>,
    /// A machine-readable word more precise than the kind: `model_not_found`.
    pub code: Option<String>,
    /// Seconds after which a new try may succeed.
    pub retry_after: Option<u64>,
    /// The upstream's own error document.
    pub raw: Option<RawError>,
}

/// An upstream's error document and the format it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawError {
    /// Whose clients can read it, and are handed it as it is; `None` if nobody's.
    pub format: Option<Format>,
    /// The document: JSON, and an object if somebody can read it.
    pub body: Bytes,
}

impl RawError {
    /// Returns the document if clients of `format` can read it.
    pub(crate) fn in_format(&self, format: Format) -> Option<&Bytes> {
        (self.format == Some(format)).then_some(&self.body)
    }
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request is malformed or breaks a rule of its format.
    InvalidRequest,
    /// The request is well formed, but the chosen upstream cannot carry it.
    Unprocessable,
    /// No or a wrong credential.
    Authentication,
    /// The account cannot pay.
    Billing,
    /// The credential does not allow this.
    Permission,
    /// No such path or model.
    NotFound,
    /// The path exists, the method does not.
    MethodNotAllowed,
    /// The request exceeds a size limit.
    TooLarge,
    /// Too many requests or tokens.
    RateLimit,
    /// The gateway failed.
    Internal,
    /// The upstream broke off, or is itself let down by another.
    BadUpstream,
    /// The upstream answered with what cannot be understood.
    BadReply,
    /// No upstream can be reached or is healthy.
    Unavailable,
    /// A time limit passed.
    Timeout,
    /// The upstream is out of capacity.
    Overloaded,
}

impl ErrorKind {
    /// Returns the status that stands for the kind where no upstream has set one.
    pub fn status(self) -> StatusCode {
        match self {
            ErrorKind::InvalidRequest => StatusCode::BAD_REQUEST,
            ErrorKind::Unprocessable => StatusCode::UNPROCESSABLE_ENTITY,
            ErrorKind::Authentication => StatusCode::UNAUTHORIZED,
            ErrorKind::Billing => StatusCode::PAYMENT_REQUIRED,
            ErrorKind::Permission => StatusCode::FORBIDDEN,
            ErrorKind::NotFound => StatusCode::NOT_FOUND,
            ErrorKind::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            ErrorKind::RateLimit => StatusCode::TOO_MANY_REQUESTS,
            ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            ErrorKind::BadUpstream | ErrorKind::BadReply => StatusCode::BAD_GATEWAY,
            ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
            ErrorKind::Overloaded => StatusCode::from_u16(529).unwrap_or(StatusCode::SERVICE_UNAVAILABLE),
        }
    }

    /// Returns the kind that an upstream's `status` stands for.
    pub fn of_status(status: StatusCode) -> Self {
        match status.as_u16() {
            401 => ErrorKind::Authentication,
            402 => ErrorKind::Billing,
            403 => ErrorKind::Permission,
            404 => ErrorKind::NotFound,
            405 => ErrorKind::MethodNotAllowed,
            408 | 504 => ErrorKind::Timeout,
            413 => ErrorKind::TooLarge,
            422 => ErrorKind::Unprocessable,
            429 => ErrorKind::RateLimit,
            502 => ErrorKind::BadUpstream,
            503 => ErrorKind::Unavailable,
            529 => ErrorKind::Overloaded,
            400..=499 => ErrorKind::InvalidRequest,
            _ => ErrorKind::Internal,
        }
    }
}

impl ApiError {
    /// Returns an error of `kind` with the kind's own status.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            status: kind.status(),
            kind,
            message: message.into(),
            param: None,
            code: None,
            retry_after: None,
            raw: None,
        }
    }

    /// Returns a 400: the request is malformed.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidRequest, message)
    }

    /// Returns a 502: the upstream's answer cannot be understood.
    pub fn bad_reply(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::BadReply, message)
    }

    /// Returns an upstream's error, with its `status` preserved.
    pub fn upstream(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            ..Self::new(ErrorKind::of_status(status), message)
        }
    }

    /// Returns the message with nothing between its quotation marks, for where what was asked and answered must not be
    /// repeated.
    pub fn unquoted(&self) -> String {
        let mut out = String::with_capacity(self.message.len());
        let mut chars = self.message.chars();
        let mut quoted = false;
        while let Some(char) = chars.next() {
            match char {
                '"' => {
                    quoted = !quoted;
                    out.push_str(if quoted { "\"…" } else { "\"" });
                }
                '\\' if quoted => drop(chars.next()),
                _ if quoted => {}
                _ => out.push(char),
            }
        }
        out
    }

    /// Returns the error with the member of the request that is at fault.
    #[must_use]
    pub fn with_param(self, param: impl fmt::Display) -> Self {
        Self {
            param: Some(param.to_string()),
            ..self
        }
    }

    /// Returns the error with a machine-readable code.
    #[must_use]
    pub fn with_code(self, code: impl Into<String>) -> Self {
        Self {
            code: Some(code.into()),
            ..self
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ApiError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_is_left_out() {
        let check = |message: &str, expected: &str| {
            assert_eq!(ApiError::bad_reply(message).unquoted(), expected);
        };
        check("no choices", "no choices");
        check(
            "invalid type: string \"a \\\"b\\\" c\", expected a map at line 1",
            "invalid type: string \"…\", expected a map at line 1",
        );
        check("missing field `id`, \"half", "missing field `id`, \"…");
    }
}
