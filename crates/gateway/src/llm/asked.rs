//! What is asked of upstreams: a document that is held, or a form that may still be arriving.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use llm::{ApiError, Estimate, Inbound, Losses, Target};

use super::{
    limit::{Alarm, Limits},
    upload::{Pull, Upload},
};

pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What is asked of upstreams.
#[derive(Clone, Copy)]
pub(crate) enum Asked<'a> {
    /// A document.
    Document(&'a Inbound),
    /// A form with a file.
    Form(&'a Upload),
}

/// What one upstream is sent.
pub(super) struct Said {
    pub(super) head: Head,
    pub(super) payload: Payload,
    /// The bodies of further calls, where the upstream takes only a part of what is asked at once.
    pub(super) more: Vec<Bytes>,
    pub(super) losses: Losses,
    pub(super) reply: llm::Reply,
}

/// The head of a call, as far as format and provider decide it.
#[derive(Clone)]
pub(super) struct Head {
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    /// What takes the place of the client's headers of these names.
    pub(super) replaces: Vec<(HeaderName, Option<HeaderValue>)>,
    pub(super) content_type: HeaderValue,
}

/// The body of a call.
pub(super) enum Payload {
    Document(Bytes),
    Form(Box<Pull>),
}

impl Asked<'_> {
    /// Returns about how many tokens it may use; those of a form are not told by its bytes.
    pub(crate) fn estimate(&self) -> Estimate {
        match self {
            Asked::Document(inbound) => inbound.estimate(),
            Asked::Form(_) => Estimate::default(),
        }
    }

    /// Returns the model that the client names.
    pub(crate) fn model(&self) -> &str {
        match self {
            Asked::Document(inbound) => &inbound.model,
            Asked::Form(upload) => &upload.model,
        }
    }

    /// Returns whether an upstream is sent something else than the client's own bytes.
    pub(super) fn is_replaced_by(&self, body: &Bytes) -> bool {
        match self {
            Asked::Document(inbound) => inbound.bytes().as_ptr_range() != body.as_ptr_range(),
            Asked::Form(_) => true,
        }
    }

    /// Returns whether the client wants a stream, as far as is known.
    pub(super) fn stream(&self) -> bool {
        match self {
            Asked::Document(inbound) => inbound.stream,
            Asked::Form(upload) => upload.stream(),
        }
    }

    /// Returns what the conversation begins with.
    pub(super) fn opening(&self) -> Vec<&str> {
        match self {
            Asked::Document(inbound) => inbound.opening(),
            Asked::Form(_) => Vec::new(),
        }
    }

    /// Returns whether an answer may be a stream, and whether it must be one. Some models transcribe in one
    /// piece whatever they are asked.
    pub(super) fn may_and_must_stream(&self) -> (bool, bool) {
        match self {
            Asked::Document(inbound) => (inbound.stream, inbound.stream),
            Asked::Form(_) => (true, false),
        }
    }

    /// Returns the content type of a streamed answer.
    pub(super) fn stream_type(&self) -> HeaderValue {
        match self {
            Asked::Document(inbound) => HeaderValue::from_static(inbound.stream_type()),
            Asked::Form(_) => EVENT_STREAM,
        }
    }

    /// Returns the content type of a whole answer whose upstream says that it is `upstreams`.
    pub(super) fn answer_type(&self, upstreams: Option<HeaderValue>) -> HeaderValue {
        match self {
            Asked::Document(_) => JSON,
            Asked::Form(_) => upstreams.unwrap_or(BYTES),
        }
    }

    /// Returns what `target` is to be sent. `headers` are the client's.
    pub(super) fn say(&self, target: &Target<'_>, headers: &HeaderMap) -> Result<Said, ApiError> {
        match self {
            Asked::Document(inbound) => {
                let call = inbound.call(target, headers)?;
                Ok(Said {
                    head: Head {
                        path: call.path,
                        headers: call.headers,
                        replaces: call.replaces,
                        content_type: JSON,
                    },
                    payload: Payload::Document(call.body),
                    more: call.more,
                    losses: call.losses,
                    reply: call.reply,
                })
            }
            Asked::Form(upload) => upload.say(target),
        }
    }

    /// Returns the document that the client is given in place of `refusal`, if there is one; what is lost is
    /// recorded in `losses`.
    pub(super) fn without(&self, refusal: &ApiError, losses: &mut Losses) -> Option<Bytes> {
        match self {
            Asked::Document(inbound) => inbound.without(refusal, losses),
            Asked::Form(_) => None,
        }
    }

    /// Returns what `call` gives, or `None` if it took too long.
    pub(super) async fn limit<F: Future + Unpin>(
        &self,
        alarm: &mut Alarm,
        limits: Limits,
        call: F,
    ) -> Option<F::Output> {
        match self {
            Asked::Document(_) => alarm.limit(limits.next(), call).await,
            Asked::Form(upload) => upload.limit(alarm, limits, call).await,
        }
    }

    /// Returns what is wrong with what the client sent, where that shows only while it is handed on.
    pub(super) fn fault(&self) -> Option<ApiError> {
        match self {
            Asked::Document(_) => None,
            Asked::Form(upload) => upload.fault(),
        }
    }

    /// Returns whether it can be said to another upstream.
    pub(super) fn is_whole(&self) -> bool {
        match self {
            Asked::Document(_) => true,
            Asked::Form(upload) => upload.is_whole(),
        }
    }
}

const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");
pub(super) const BYTES: HeaderValue = HeaderValue::from_static("application/octet-stream");
