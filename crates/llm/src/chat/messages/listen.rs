//! What a relay overhears: model, usage, why the answer ended, errors. Nothing is ever withheld, and what
//! cannot be read is passed on all the same.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{error, wire};
use crate::{
    ApiError, Observed,
    chat::{Listen, Verdict},
    frame::Frame,
    json::Typed,
};

/// Overhears a stream.
#[derive(Debug, Default)]
pub(super) struct Listener;

impl Listen for Listener {
    fn frame(&mut self, frame: Frame<'_>, observed: &mut Observed) -> Verdict {
        match frame.event {
            Some(kind) => hear(kind, frame.data, observed),
            // Servers that leave the name out repeat it in the data.
            None => {
                if let Ok(Typed { kind: Some(kind) }) = serde_json::from_str(frame.data) {
                    hear(&kind, frame.data, observed);
                }
            }
        }
        Verdict::Pass
    }
}

/// Notes what a whole reply says.
///
/// # Errors
/// A 502, if `body` is not a JSON object.
pub(super) fn response(body: &[u8], observed: &mut Observed) -> Result<(), ApiError> {
    let members: BTreeMap<String, &RawValue> = serde_json::from_slice(body).map_err(|reason| {
        let message = format!("the upstream's reply is not a JSON object: {reason}");
        ApiError::bad_reply(message)
    })?;
    observed.model = member(&members, "model");
    let counts: Option<wire::Counts> = member(&members, "usage");
    if let Some(counts) = counts {
        counts.begin(&mut observed.usage);
        wire::settle(&mut observed.usage);
    }
    let word: Option<String> = member(&members, "stop_reason");
    if word.is_some() {
        observed.finish = Some(wire::finish(word.as_deref(), member(&members, "stop_sequence")));
    }
    observed.meaningful = true;
    observed.complete = true;
    Ok(())
}

fn member<'a, T: Deserialize<'a>>(members: &BTreeMap<String, &'a RawValue>, key: &str) -> Option<T> {
    serde_json::from_str::<Option<T>>(members.get(key)?.get()).ok()?
}

fn hear(kind: &str, data: &str, observed: &mut Observed) {
    match kind {
        "content_block_start" => observed.meaningful |= says_something(data),
        "content_block_delta" => {
            observed.said.frame(data.len());
            observed.meaningful = true;
        }
        "message_start" => {
            let Ok(wire::Event {
                message: Some(message),
                ..
            }) = serde_json::from_str(data)
            else {
                return;
            };
            observed.model = message.model.or_else(|| observed.model.take());
            if let Some(counts) = wire::Counts::read(message.usage) {
                counts.begin(&mut observed.usage);
            }
        }
        "message_delta" => {
            observed.meaningful = true;
            let Ok(event) = serde_json::from_str::<wire::Event<'_>>(data) else {
                return;
            };
            if let Some(counts) = wire::Counts::read(event.usage) {
                counts.update(&mut observed.usage);
            }
            if let Some(delta) = event.delta.filter(|delta| delta.stop_reason.is_some()) {
                observed.finish = Some(wire::finish(delta.stop_reason.as_deref(), delta.stop_sequence));
            }
        }
        "message_stop" => observed.complete = true,
        "error" => observed.error = Some(error::within(data.as_bytes())),
        _ => {}
    }
}

/// Returns whether the start of a block is more than its announcement: text and thinking are started before
/// there is any.
fn says_something(data: &str) -> bool {
    let block = serde_json::from_str::<wire::Event<'_>>(data)
        .ok()
        .and_then(|event| event.content_block);
    let kind = block.and_then(|block| serde_json::from_str::<Typed>(block.get()).ok()?.kind);
    kind.is_some_and(|kind| kind != "text" && kind != "thinking")
}
