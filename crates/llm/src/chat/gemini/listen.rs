//! What a relay overhears: model, usage, why the answer ended, errors. Nothing is ever withheld, and what
//! cannot be read is passed on all the same.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{error, wire};
use crate::{
    ApiError, Observed, Usage,
    chat::{Finish, Listen, Verdict},
    frame::Frame,
};

/// Overhears a stream.
#[derive(Debug, Default)]
pub(super) struct Listener {
    /// The answers that were begun, and whether they called functions and ended.
    answers: BTreeMap<u64, Heard>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Heard {
    calls: bool,
    ended: bool,
}

/// As much of a reply as is looked at.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Reply<'a> {
    #[serde(borrow)]
    candidates: Option<Vec<Candidate<'a>>>,
    prompt_feedback: Option<wire::PromptFeedback>,
    #[serde(borrow, deserialize_with = "wire::counts")]
    usage_metadata: Option<wire::Counts<'a>>,
    model_version: Option<String>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Candidate<'a> {
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    finish_reason: Option<String>,
    index: Option<u64>,
}

impl Listen for Listener {
    fn frame(&mut self, frame: Frame<'_>, observed: &mut Observed) -> Verdict {
        if let Ok(reply) = serde_json::from_str::<Reply<'_>>(frame.data) {
            if reply.error.is_some() {
                observed.error = Some(error::within(frame.data.as_bytes()));
            } else if self.hear(reply, observed) {
                observed.said.frame(frame.data.len());
                observed.meaningful = true;
            }
        }
        Verdict::Pass
    }
}

impl Listener {
    /// Notes what a reply says of itself; returns whether the model says something in it.
    fn hear(&mut self, reply: Reply<'_>, observed: &mut Observed) -> bool {
        if reply.model_version.is_some() {
            observed.model = reply.model_version;
        }
        if let Some(counts) = reply.usage_metadata {
            observed.usage.merge(&Usage::from(&counts));
        }
        let blocked = reply.prompt_feedback.and_then(|feedback| feedback.block_reason);
        if let Some(word) = blocked {
            observed.finish = Some(wire::blocked(&word));
            observed.meaningful = true;
            observed.complete = true;
            return false;
        }
        let mut says = false;
        for candidate in reply.candidates.unwrap_or_default() {
            let index = candidate.index.unwrap_or(0);
            let heard = self.answers.entry(index).or_default();
            if let Some(content) = candidate.content {
                heard.calls |= content.get().contains("\"functionCall\"");
                says |= says_something(content);
            }
            let Some(word) = candidate.finish_reason.as_deref() else {
                continue;
            };
            heard.ended = true;
            observed.meaningful = true;
            let finish: Finish = wire::finish(word, heard.calls);
            if index == 0 {
                observed.finish = Some(finish);
            }
        }
        let answers = &self.answers;
        observed.complete = !answers.is_empty() && answers.values().all(|heard| heard.ended);
        says
    }
}

/// Notes what a whole reply says.
///
/// # Errors
/// A 502, if `body` is not a JSON object.
pub(super) fn response(body: &[u8], observed: &mut Observed) -> Result<(), ApiError> {
    let unreadable = |reason: &dyn std::fmt::Display| {
        let message = format!("the upstream's reply is not a JSON object: {reason}");
        ApiError::bad_reply(message)
    };
    let members: BTreeMap<String, &RawValue> =
        serde_json::from_slice(body).map_err(|reason| unreadable(&reason))?;
    if members.contains_key("error") {
        observed.error = Some(error::within(body));
    } else if let Ok(reply) = serde_json::from_slice::<Reply<'_>>(body) {
        Listener::default().hear(reply, observed);
    }
    observed.meaningful = true;
    observed.complete = true;
    Ok(())
}

/// Returns whether `content` has a part that is more than an empty text.
fn says_something(content: &RawValue) -> bool {
    let content = serde_json::from_str::<wire::Content<'_>>(content.get()).unwrap_or_default();
    let parts = content.parts.unwrap_or_default();
    parts
        .into_iter()
        .any(|part| part.text.is_none_or(|text| !text.is_empty()))
}
