//! Errors in the words of the format ("Errors", API reference), and whatever else upstreams answer with.

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
    #[serde(rename = "type")]
    kind: &'static str,
    error: Detail<'a>,
    request_id: Option<&'a str>,
}

#[derive(Serialize)]
struct Detail<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    message: &'a str,
}

/// Writes `error` as a document; an upstream's own document of this format stays as it is.
pub(super) fn encode(error: &ApiError) -> Bytes {
    let raw = error.raw.as_ref();
    if let Some(own) = raw.and_then(|raw| raw.in_format(Format::Messages)) {
        return own.clone();
    }
    let document = Document {
        kind: "error",
        error: Detail {
            kind: wire::error_type(error.kind),
            message: &error.message,
        },
        request_id: None,
    };
    Bytes::from(serde_json::to_vec(&document).unwrap_or_default())
}

/// Writes `error` as the last event of a stream.
pub(super) fn encode_event(error: &ApiError) -> Bytes {
    let document = encode(error);
    // Blanks may be line feeds, which would end the event's data.
    let line = serde_json::from_slice::<&RawValue>(&document).map(json::compact);
    Bytes::from(format!("event: error\ndata: {}\n\n", line.unwrap_or_default()))
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
    error.code = found.kind.filter(|kind| *kind != wire::error_type(error.kind));
    error.raw = Some(RawError {
        format: found.own.then_some(Format::Messages),
        body: body.clone(),
    });
    error
}

/// Reads an error that came where an answer was due: as an event of a stream, or with a good status.
pub(super) fn within(body: &[u8]) -> ApiError {
    let found = find(body).unwrap_or_default();
    let known = found.kind.as_deref().and_then(wire::error_kind);
    let kind = known.unwrap_or(ErrorKind::BadUpstream);
    let unnamed = || "the upstream reported an error in place of an answer".to_owned();
    let mut error = ApiError::new(kind, found.message.unwrap_or_else(unnamed));
    error.code = found.kind.filter(|_| known.is_none());
    error.raw = Some(RawError {
        format: found.own.then_some(Format::Messages),
        body: Bytes::copy_from_slice(body),
    });
    error
}

/// What a JSON document says of an error.
#[derive(Debug, Default)]
struct Found {
    kind: Option<String>,
    message: Option<String>,
    /// Whether the document is one of this format.
    own: bool,
}

/// Finds type and message in the error documents of this and other APIs: `error.message`, `error` as text,
/// `message` or `detail`; Google's may be the one element of an array.
fn find(body: &[u8]) -> Option<Found> {
    let raw: &RawValue = serde_json::from_slice(body).ok()?;
    let listed = json::kind(raw) == Kind::Array;
    let raw = if listed {
        *json::elements(raw, &Path::Root).ok()?.first()?
    } else {
        raw
    };
    let mut document = Object::parse(raw, &Path::Root).ok()?;
    let top = text(&mut document, "type");
    let Some(error) = document.take("error") else {
        let mut message = |key| text(&mut document, key);
        return Some(Found {
            message: message("message")
                .or_else(|| message("Message"))
                .or_else(|| message("detail")),
            ..Found::default()
        });
    };
    let Ok(mut detail) = Object::parse(error, &Path::Root) else {
        return Some(Found {
            message: json::read::<String>(error, &Path::Root)
                .ok()
                .map(|text| bounded(&text)),
            ..Found::default()
        });
    };
    let kind = text(&mut detail, "type");
    Some(Found {
        own: top.as_deref() == Some("error") && kind.is_some() && !listed,
        kind: kind.or_else(|| text(&mut detail, "status")),
        message: text(&mut detail, "message"),
    })
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
