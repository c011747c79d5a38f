//! Errors about documents: in Cohere's words, and in those of providers whose chat is of no concern here.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};

use crate::{ApiError, Format, chat::Upstream, chat::openai::OpenAi};

/// Writes an error as Cohere does, who says the message and nothing more (API reference, "Errors").
pub(crate) fn encode(error: &ApiError) -> Bytes {
    #[derive(Serialize)]
    struct Document<'a> {
        message: &'a str,
    }

    match error.raw.as_ref().and_then(|raw| raw.in_format(Format::Cohere)) {
        Some(own) => own.clone(),
        None => super::to_bytes(&Document {
            message: &error.message,
        }),
    }
}

/// Reads an upstream's error reply that is said in `words`.
pub(super) fn decode(words: Format, status: StatusCode, headers: &HeaderMap, body: &Bytes) -> ApiError {
    #[derive(Deserialize)]
    struct Document {
        message: String,
    }

    if let Some(upstream) = words.upstream() {
        return upstream.decode_error(status, headers, body);
    }
    // OpenAI's reader knows every shape of a message; only the document itself is not OpenAI's.
    let mut error = OpenAi.decode_error(status, headers, body);
    let document = serde_json::from_slice::<Document>(body);
    let shaped = document.is_ok_and(|document| !document.message.is_empty());
    if let Some(raw) = &mut error.raw {
        raw.format = (words == Format::Cohere && shaped).then_some(Format::Cohere);
    }
    error
}
