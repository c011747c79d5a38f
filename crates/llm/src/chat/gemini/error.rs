//! Errors in the words of the format (google.rpc.Status), and whatever else upstreams answer with.

use bytes::Bytes;
use http::StatusCode;
use serde::Serialize;
use serde_json::value::RawValue;

use super::wire;
use crate::{
    ApiError, ErrorKind, Format,
    error::RawError,
    json::{self, Kind, Object, Path},
};

/// The most bytes of an upstream's text that become a message.
const MAX_MESSAGE: usize = 1024;

/// An error document.
#[derive(Serialize)]
struct Document<'a> {
    error: Inner<'a>,
}

#[derive(Serialize)]
struct Inner<'a> {
    code: u16,
    message: &'a str,
    status: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    details: Vec<Detail<'a>>,
}

/// What is said beyond the message (google.rpc, "Error details").
#[derive(Serialize)]
#[serde(tag = "@type")]
enum Detail<'a> {
    #[serde(
        rename = "type.googleapis.com/google.rpc.BadRequest",
        rename_all = "camelCase"
    )]
    BadRequest { field_violations: [Violation<'a>; 1] },
    #[serde(rename = "type.googleapis.com/google.rpc.ErrorInfo")]
    ErrorInfo { reason: &'a str, domain: &'static str },
    #[serde(rename = "type.googleapis.com/google.rpc.RetryInfo", rename_all = "camelCase")]
    RetryInfo { retry_delay: String },
}

#[derive(Serialize)]
struct Violation<'a> {
    field: &'a str,
    description: &'a str,
}

/// Writes `error` as a document; an upstream's own document of this format stays as it is.
pub(super) fn encode(error: &ApiError) -> Bytes {
    let raw = error.raw.as_ref();
    if let Some(own) = raw.and_then(|raw| raw.in_format(Format::Gemini)) {
        return own.clone();
    }
    let violation = error.param.as_deref().map(|field| Detail::BadRequest {
        field_violations: [Violation {
            field,
            description: &error.message,
        }],
    });
    let info = error.code.as_deref().map(|reason| Detail::ErrorInfo {
        reason,
        domain: "tollgate",
    });
    let retry = error.retry_after.map(|seconds| Detail::RetryInfo {
        retry_delay: format!("{seconds}s"),
    });
    let document = Document {
        error: Inner {
            code: error.status.as_u16(),
            message: &error.message,
            status: wire::status(error.kind),
            details: violation.into_iter().chain(info).chain(retry).collect(),
        },
    };
    Bytes::from(serde_json::to_vec(&document).unwrap_or_default())
}

/// Writes `error` as a document on one line, to stand in a stream.
pub(super) fn encode_line(error: &ApiError) -> String {
    let document = encode(error);
    // Blanks may be line feeds, which would end an event's data.
    let line = serde_json::from_slice::<&RawValue>(&document).map(json::compact);
    line.unwrap_or_default()
}

/// Reads an upstream's error reply.
pub(super) fn decode(status: StatusCode, body: &Bytes) -> ApiError {
    let Some(found) = find(body) else {
        let text = String::from_utf8_lossy(body);
        let text = text.trim();
        return ApiError::upstream(
            status,
            if text.is_empty() {
                nameless(status)
            } else {
                bounded(text)
            },
        );
    };
    let mut error = ApiError::upstream(status, found.message.unwrap_or_else(|| nameless(status)));
    error.code = found.word.filter(|word| *word != wire::status(error.kind));
    error.retry_after = found.retry_after;
    error.raw = found.document;
    error
}

/// Reads an error that came where an answer was due: as a chunk of a stream, or with a good status.
pub(super) fn within(body: &[u8]) -> ApiError {
    let found = find(body).unwrap_or_default();
    let known = found.word.as_deref().and_then(wire::error_kind);
    let kind = known.unwrap_or(ErrorKind::BadUpstream);
    let unnamed = || "the upstream reported an error in place of an answer".to_owned();
    let mut error = ApiError::new(kind, found.message.unwrap_or_else(unnamed));
    if let Some(status) = found.code {
        error.status = status;
    }
    error.code = found.word.filter(|_| known.is_none());
    error.retry_after = found.retry_after;
    error.raw = found.document;
    error
}

/// What a JSON document says of an error.
#[derive(Debug, Default)]
struct Found {
    code: Option<StatusCode>,
    word: Option<String>,
    message: Option<String>,
    retry_after: Option<u64>,
    document: Option<RawError>,
}

/// Finds the words in the error documents of this and other APIs: `error.message`, `error` as text, or
/// `message`. A document may be the one element of an array.
fn find(body: &[u8]) -> Option<Found> {
    let raw: &RawValue = serde_json::from_slice(body).ok()?;
    let raw = if json::kind(raw) == Kind::Array {
        *json::elements(raw, &Path::Root).ok()?.first()?
    } else {
        raw
    };
    let said = |format: Option<Format>| {
        let body = Bytes::copy_from_slice(raw.get().as_bytes());
        Some(RawError { format, body })
    };
    let mut document = Object::parse(raw, &Path::Root).ok()?;
    let Some(error) = document.take("error") else {
        return Some(Found {
            message: text(&mut document, "message"),
            document: said(None),
            ..Found::default()
        });
    };
    let Ok(mut inner) = Object::parse(error, &Path::Root) else {
        let message: Option<String> = json::read(error, &Path::Root).ok();
        return Some(Found {
            message: message.map(|text| bounded(&text)),
            document: said(None),
            ..Found::default()
        });
    };
    let message = text(&mut inner, "message");
    let details = inner.take("details").filter(|details| details.get() != "[]");
    let code = inner.optional::<u16>("code", &Path::Root).ok().flatten();
    let word = text(&mut inner, "status");
    Some(Found {
        document: said(word.is_some().then_some(Format::Gemini)),
        code: code
            .and_then(|code| StatusCode::from_u16(code).ok())
            .filter(|status| status.is_client_error() || status.is_server_error()),
        retry_after: details.and_then(retry_delay),
        message: match (message, details) {
            (Some(message), Some(details)) => Some(bounded(&format!(
                "Error: {message}\nDetails: {}",
                json::compact(details)
            ))),
            (message, _) => message,
        },
        word: word.or_else(|| text(&mut inner, "type")),
    })
}

/// Returns the seconds of a google.rpc.RetryInfo among `details`, rounded up.
fn retry_delay(details: &RawValue) -> Option<u64> {
    let details = json::elements(details, &Path::Root).ok()?;
    let delay = details.into_iter().find_map(|detail| {
        let mut detail = Object::parse(detail, &Path::Root).ok()?;
        detail.optional::<String>("retryDelay", &Path::Root).ok()?
    })?;
    let seconds: f64 = delay.strip_suffix('s')?.parse().ok()?;
    (seconds >= 0.0).then_some(seconds.ceil() as u64)
}

fn text(object: &mut Object<'_>, key: &str) -> Option<String> {
    let text: String = object.optional(key, &Path::Root).ok()??;
    (!text.is_empty()).then(|| bounded(&text))
}

fn bounded(text: &str) -> String {
    text.get(..text.floor_char_boundary(MAX_MESSAGE))
        .unwrap_or_default()
        .to_owned()
}

fn nameless(status: StatusCode) -> String {
    format!("the upstream answered {status} and did not say why")
}
