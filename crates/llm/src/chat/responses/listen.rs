//! What a relay overhears: model, usage, why the answer ended, errors. Nothing is ever withheld, and what
//! cannot be read is passed on all the same.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{error, wire};
use crate::{
    ApiError, Observed, Tier,
    chat::{Listen, Verdict, openai},
    frame::Frame,
    json::{Object, Path, Typed},
};

/// Overhears a stream.
#[derive(Debug, Default)]
pub(super) struct Listener {
    called: bool,
}

impl Listen for Listener {
    fn frame(&mut self, frame: Frame<'_>, observed: &mut Observed) -> Verdict {
        match frame.event {
            Some(kind) => self.hear(kind, frame.data, observed),
            // Servers that leave the name out repeat it in the data.
            None => {
                if let Ok(Typed { kind: Some(kind) }) = serde_json::from_str(frame.data) {
                    self.hear(&kind, frame.data, observed);
                }
            }
        }
        Verdict::Pass
    }
}

impl Listener {
    fn hear(&mut self, kind: &str, data: &str, observed: &mut Observed) {
        match kind {
            "response.created" | "response.in_progress" | "response.queued" => {
                if let Some(reply) = response(data) {
                    note(&reply, observed);
                }
            }
            "response.completed" | "response.incomplete" => {
                if let Some(reply) = response(data) {
                    note(&reply, observed);
                    let called = self.called || reply.output.iter().flatten().any(|raw| calls(raw));
                    observed.finish = Some(reply.finish(called));
                }
                observed.meaningful = true;
                observed.complete = true;
            }
            "response.failed" | "response.cancelled" => {
                let reply = response(data).unwrap_or_default();
                note(&reply, observed);
                observed.error = Some(error::failure(reply.error));
            }
            "error" => observed.error = Some(openai::error::decode_in_band(data)),
            // Messages and reasoning are announced before anything is said in them.
            "response.output_item.added" => {
                let item = item_kind(data);
                self.called |= item.as_deref().is_some_and(is_call);
                observed.meaningful |= item.is_some_and(|item| item != "message" && item != "reasoning");
            }
            "response.content_part.added" | "response.reasoning_summary_part.added" => {}
            kind => {
                // The ends of texts repeat them.
                if kind.ends_with(".delta") {
                    observed.said.frame(data.len());
                }
                observed.meaningful |= kind.starts_with("response.");
            }
        }
    }
}

/// Notes what a whole reply says.
///
/// # Errors
/// A 502, if `body` is not a JSON object.
pub(super) fn response_document(body: &[u8], observed: &mut Observed) -> Result<(), ApiError> {
    Object::parse_slice(body).map_err(|reason| {
        let message = format!("the upstream's reply is not a JSON object: {reason}");
        ApiError::bad_reply(message)
    })?;
    // A well-formed object of a shape that is not known here is still the upstream's answer.
    if let Ok(reply) = serde_json::from_slice::<wire::Reply<'_>>(body) {
        note(&reply, observed);
        let status = reply.status.and_then(wire::text);
        if reply.error.is_some() {
            observed.error = Some(error::failure(reply.error));
        } else if status.is_some_and(|status| status == "completed" || status == "incomplete") {
            let called = reply.output.iter().flatten().any(|raw| calls(raw));
            observed.finish = Some(reply.finish(called));
        }
    }
    observed.meaningful = true;
    observed.complete = true;
    Ok(())
}

fn response(data: &str) -> Option<wire::Reply<'_>> {
    #[derive(Deserialize)]
    struct About<'a> {
        #[serde(borrow)]
        response: &'a RawValue,
    }

    let about: About<'_> = serde_json::from_str(data).ok()?;
    serde_json::from_str(about.response.get()).ok()
}

fn note(reply: &wire::Reply<'_>, observed: &mut Observed) {
    if let Some(model) = reply.model.and_then(wire::text).filter(|model| !model.is_empty()) {
        observed.model = Some(model.into_owned());
    }
    if let Some(usage) = reply.usage.and_then(wire::usage) {
        observed.usage.merge(&usage);
    }
    let under_way = |status: Cow<'_, str>| status == "queued" || status == "in_progress";
    observed.later = reply
        .background
        .is_some_and(|background| background.get() == "true")
        && reply.status.and_then(wire::text).is_some_and(under_way);
    let tier = reply.service_tier.and_then(Tier::overhear);
    observed.usage.tier = tier.or(observed.usage.tier);
    if observed.stored.is_none() && reply.store.is_none_or(|store| store.get() != "false") {
        observed.stored = reply.id.and_then(wire::text).map(Cow::into_owned);
    }
}

fn item_kind(data: &str) -> Option<String> {
    let mut event = Object::parse_str(data, &Path::Root).ok()?;
    kind_of(event.take("item")?)
}

fn calls(item: &RawValue) -> bool {
    kind_of(item).as_deref().is_some_and(is_call)
}

fn is_call(kind: &str) -> bool {
    matches!(kind, "function_call" | "custom_tool_call")
}

fn kind_of(item: &RawValue) -> Option<String> {
    let typed: Typed<'_> = serde_json::from_str(item.get()).ok()?;
    typed.kind.map(Cow::into_owned)
}
