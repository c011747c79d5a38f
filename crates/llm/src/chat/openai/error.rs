//! Error documents: `{"error": {"message", "type", "param", "code"}}`, in the envelope of the compatibility
//! specification, "Errors": a type beside the error, and the status for a code where there is no word.

use bytes::Bytes;
use http::StatusCode;
use serde::Serialize;
use serde_json::Value;

use crate::{ApiError, ErrorKind, Format, error::RawError};

/// The most bytes of an upstream's text that become a message.
const MAX_TEXT: usize = 1024;

/// Writes an error as a document of its own. An upstream's own document of this format is handed on.
pub(in crate::chat) fn encode(error: &ApiError) -> Bytes {
    #[derive(Serialize)]
    struct Document<'a> {
        #[serde(rename = "type")]
        kind: &'static str,
        error: Inner<'a>,
    }
    #[derive(Serialize)]
    struct Inner<'a> {
        message: &'a str,
        #[serde(rename = "type")]
        kind: &'static str,
        param: Option<&'a str>,
        code: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        native_type: Option<String>,
    }

    let raw = error.raw.as_ref();
    if let Some(own) = raw.and_then(|raw| raw.in_format(Format::OpenAi)) {
        return own.clone();
    }
    let document = Document {
        kind: "error",
        error: Inner {
            message: &error.message,
            kind: word(error.kind),
            param: error.param.as_deref(),
            code: error.code.as_deref().unwrap_or(error.status.as_str()),
            native_type: raw.and_then(native_type),
        },
    };
    Bytes::from(serde_json::to_vec(&document).unwrap_or_default())
}

/// Writes an error as the last event of a stream; no `[DONE]` follows.
pub(super) fn encode_event(error: &ApiError) -> Bytes {
    let document = encode(error);
    let mut event = Vec::with_capacity(document.len() + 8);
    event.extend_from_slice(b"data: ");
    // Line breaks of a document are white space: within strings they are escaped.
    event.extend(document.iter().map(|byte| match byte {
        b'\n' | b'\r' => b' ',
        byte => *byte,
    }));
    event.extend_from_slice(b"\n\n");
    Bytes::from(event)
}

/// Reads an upstream's error reply.
pub(in crate::chat) fn decode(status: StatusCode, body: &Bytes) -> ApiError {
    match serde_json::from_slice::<Value>(body) {
        Ok(document) => of_document(status, &document, body),
        Err(_) => ApiError::upstream(status, of_text(status, &String::from_utf8_lossy(body))),
    }
}

/// Reads an error that an upstream reports inside a reply that began well. Its status is the one that the
/// document names, in digits or by its type.
pub(in crate::chat) fn decode_in_band(text: &str) -> ApiError {
    let Ok(document) = serde_json::from_str::<Value>(text) else {
        let status = StatusCode::BAD_GATEWAY;
        return ApiError::upstream(status, of_text(status, text));
    };
    let inner = inner(&document);
    let digits = ["code", "status", "status_code"]
        .iter()
        .filter_map(|key| inner.get(key).and_then(number))
        .find(|code| (400..600).contains(code));
    let status = digits
        .or_else(|| {
            let words = ["type", "code"].iter().filter_map(|key| inner.get(key)?.as_str());
            words.filter_map(status_of_word).next()
        })
        .and_then(|code| StatusCode::from_u16(code).ok())
        .unwrap_or(StatusCode::BAD_GATEWAY);
    of_document(status, &document, &Bytes::copy_from_slice(text.as_bytes()))
}

/// Returns the format's word for a kind of error.
fn word(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidRequest
        | ErrorKind::Unprocessable
        | ErrorKind::MethodNotAllowed
        | ErrorKind::TooLarge => "invalid_request_error",
        ErrorKind::Authentication => "authentication_error",
        ErrorKind::Billing => "insufficient_quota",
        ErrorKind::Permission => "permission_error",
        ErrorKind::NotFound => "not_found_error",
        ErrorKind::RateLimit => "rate_limit_error",
        ErrorKind::Internal
        | ErrorKind::BadUpstream
        | ErrorKind::BadReply
        | ErrorKind::Unavailable
        | ErrorKind::Timeout
        | ErrorKind::Overloaded => "server_error",
    }
}

/// Returns the status that a provider's word stands for, where its document names no status.
fn status_of_word(word: &str) -> Option<u16> {
    Some(match word {
        "invalid_request_error" => 400,
        "authentication_error" => 401,
        "permission_error" => 403,
        "not_found_error" => 404,
        "insufficient_quota" | "rate_limit_error" | "rate_limit_exceeded" | "requests" | "tokens" => 429,
        "server_error" | "internal_error" | "internal_server_error" | "api_error" => 500,
        "service_unavailable" | "service_unavailable_error" => 503,
        "overloaded_error" => 529,
        _ => return None,
    })
}

/// Returns the type that another format's document gives the error.
fn native_type(raw: &RawError) -> Option<String> {
    raw.format?;
    let document: Value = serde_json::from_slice(&raw.body).ok()?;
    inner(&document).get("type")?.as_str().map(str::to_owned)
}

/// Reads an error from JSON: OpenAI's shape, and what else servers answer with.
fn of_document(status: StatusCode, document: &Value, body: &Bytes) -> ApiError {
    let inner = inner(document);
    let message = match inner {
        Value::String(text) => of_text(status, text),
        inner => ["message", "detail", "error", "msg"]
            .iter()
            .filter_map(|key| inner.get(key))
            .find_map(message)
            .unwrap_or_else(|| bare(status)),
    };
    let mut error = ApiError::upstream(status, message);
    error.param = inner.get("param").and_then(Value::as_str).map(str::to_owned);
    error.code = inner.get("code").and_then(|code| match code {
        Value::String(code) => Some(code.clone()),
        Value::Number(code) => Some(code.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    });
    let shaped = document
        .get("error")
        .and_then(|inner| inner.get("message"))
        .is_some_and(Value::is_string);
    error.raw = Some(RawError {
        format: shaped.then_some(Format::OpenAi),
        body: body.clone(),
    });
    error
}

/// Returns the innermost value that tells of the error: that of `error`, or the first of a list.
fn inner(document: &Value) -> &Value {
    match document {
        Value::Array(elements) => elements.first().map_or(document, inner),
        Value::Object(members) => match members.get("error") {
            Some(error @ (Value::Object(_) | Value::String(_))) => error,
            _ => document,
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => document,
    }
}

/// Returns a message that is a string, or a list of what is wrong with the request, as FastAPI writes it.
fn message(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Array(_) | Value::Object(_) => Some(bounded(&value.to_string())),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

fn number(value: &Value) -> Option<u16> {
    match value {
        Value::Number(number) => number.as_u64().and_then(|number| u16::try_from(number).ok()),
        Value::String(text) => text.parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Returns a message for a body that is no document: its text, unless that is a page for browsers.
fn of_text(status: StatusCode, text: &str) -> String {
    let text = text.trim();
    if text.is_empty() || text.starts_with('<') {
        bare(status)
    } else {
        bounded(text)
    }
}

fn bare(status: StatusCode) -> String {
    format!("the upstream answered with status {status}")
}

/// Returns at most [`MAX_TEXT`] bytes of `text`.
fn bounded(text: &str) -> String {
    let end = text.floor_char_boundary(MAX_TEXT);
    match text.get(..end) {
        Some(start) if end < text.len() => format!("{start}…"),
        _ => text.to_owned(),
    }
}
