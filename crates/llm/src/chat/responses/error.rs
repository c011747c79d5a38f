//! Errors in a stream: the `error` event, and the words for an answer that failed ("Streaming events", API
//! reference). As a document, an error is that of chat completions.

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{ApiError, ErrorKind, chat::openai};

/// Why an answer failed, as its response says it.
#[derive(Clone, Copy, Serialize)]
pub(super) struct Failure<'a> {
    code: &'a str,
    message: &'a str,
}

impl<'a> From<&'a ApiError> for Failure<'a> {
    fn from(error: &'a ApiError) -> Self {
        Self {
            code: code(error),
            message: &error.message,
        }
    }
}

/// Writes `error` as the last event of a stream.
pub(super) fn encode_event(error: &ApiError, sequence_number: u64) -> Bytes {
    #[derive(Serialize)]
    struct Event<'a> {
        #[serde(rename = "type")]
        kind: &'static str,
        sequence_number: u64,
        code: &'a str,
        message: &'a str,
        param: Option<&'a str>,
    }

    let event = Event {
        kind: "error",
        sequence_number,
        code: code(error),
        message: &error.message,
        param: error.param.as_deref(),
    };
    let data = serde_json::to_string(&event).unwrap_or_default();
    Bytes::from(format!("event: error\ndata: {data}\n\n"))
}

/// Reads the error that a response failed with.
pub(super) fn failure(error: Option<&RawValue>) -> ApiError {
    match error {
        Some(error) => openai::error::decode_in_band(&format!(r#"{{"error":{}}}"#, error.get())),
        None => ApiError::new(
            ErrorKind::BadUpstream,
            "the upstream's response failed, and it did not say why",
        ),
    }
}

/// Returns the upstream's own code, or the format's word for the kind.
fn code(error: &ApiError) -> &str {
    if let Some(code) = &error.code {
        return code;
    }
    match error.kind {
        ErrorKind::InvalidRequest
        | ErrorKind::Unprocessable
        | ErrorKind::MethodNotAllowed
        | ErrorKind::TooLarge => "invalid_prompt",
        ErrorKind::Billing => "insufficient_quota",
        ErrorKind::RateLimit => "rate_limit_exceeded",
        ErrorKind::Overloaded => "server_is_overloaded",
        ErrorKind::Authentication
        | ErrorKind::Permission
        | ErrorKind::NotFound
        | ErrorKind::Internal
        | ErrorKind::BadUpstream
        | ErrorKind::BadReply
        | ErrorKind::Unavailable
        | ErrorKind::Timeout => "server_error",
    }
}
