//! What a relay overhears: usage, model, errors and the end. Never changes a reply and never fails a good one.

use std::{borrow::Cow, collections::HashMap, fmt};

use memchr::memmem::Finder;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use super::{error, wire};
use crate::{
    ApiError, Observed, Tier,
    chat::{Listen, Verdict},
    frame::Frame,
    json::{Object, Path},
};

/// Overhears one stream. Once the model is known and something was said, a chunk is looked into only if it
/// holds one of a few words.
pub(super) struct Listener {
    withhold_usage: bool,
    finish: Finder<'static>,
    usage: Finder<'static>,
    error: Finder<'static>,
}

impl Listener {
    /// Returns a listener that withholds chunks which hold usage alone if `withhold_usage` is set.
    pub(super) fn new(withhold_usage: bool) -> Self {
        Self {
            withhold_usage,
            finish: Finder::new(r#""finish_reason""#),
            usage: Finder::new(r#""usage""#),
            error: Finder::new(r#""error""#),
        }
    }

    /// Returns whether a chunk says anything that matters beyond being said. Quotes inside strings are
    /// escaped, so that what a model says never looks like a member.
    fn matters(&self, data: &str) -> bool {
        says(&self.finish, data) || says(&self.usage, data) || says(&self.error, data)
    }
}

impl Listen for Listener {
    fn frame(&mut self, frame: Frame<'_>, observed: &mut Observed) -> Verdict {
        let data = frame.data.trim();
        if data == "[DONE]" {
            observed.complete = true;
            return Verdict::Pass;
        }
        if observed.meaningful && observed.model.is_some() && !self.matters(data) {
            observed.said.frame(data.len());
            return Verdict::Pass;
        }
        let Ok(chunk) = serde_json::from_str::<Heard<'_>>(data) else {
            if frame.event == Some("error") {
                observed.error = Some(error::decode_in_band(data));
            }
            return Verdict::Pass;
        };
        if frame.event == Some("error") || chunk.is_error() {
            observed.error = Some(error::decode_in_band(data));
            return Verdict::Pass;
        }
        let counted = chunk.note(observed);
        if chunk.steps().iter().any(Step::says_something) {
            observed.said.frame(data.len());
            observed.meaningful = true;
        }
        if self.withhold_usage && counted && chunk.steps().is_empty() {
            Verdict::Withhold
        } else {
            Verdict::Pass
        }
    }
}

/// Notes what a whole reply says.
pub(super) fn response(body: &[u8], observed: &mut Observed) -> Result<(), ApiError> {
    let text = std::str::from_utf8(body).unwrap_or_default().trim_start();
    match serde_json::from_str::<Heard<'_>>(text) {
        // An array would do for a structure too.
        Ok(_) if !text.starts_with('{') => return Err(no_object("it is an array")),
        Ok(reply) if reply.is_error() => observed.error = Some(error::decode_in_band(text)),
        Ok(reply) => {
            reply.note(observed);
        }
        // A well-formed object of a shape that is not known here is still the upstream's answer.
        Err(_) => {
            serde_json::from_slice::<HashMap<String, IgnoredAny>>(body).map_err(no_object)?;
        }
    }
    observed.meaningful = true;
    observed.complete = true;
    Ok(())
}

fn no_object(reason: impl fmt::Display) -> ApiError {
    let message = format!("the upstream's reply is not a JSON object: {reason}");
    ApiError::bad_reply(message)
}

/// Returns whether a member is there and not `null`.
fn says(member: &Finder<'static>, data: &str) -> bool {
    member.find_iter(data.as_bytes()).any(|at| {
        let rest = data.get(at + member.needle().len()..).unwrap_or_default();
        let value = rest.trim_start().strip_prefix(':').map(str::trim_start);
        value.is_some_and(|value| !value.starts_with("null"))
    })
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Heard<'a> {
    #[serde(borrow)]
    object: Option<&'a RawValue>,
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    service_tier: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    choices: Option<Vec<Step<'a>>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Step<'a> {
    index: Option<usize>,
    #[serde(borrow)]
    delta: Option<&'a RawValue>,
    /// What completions have in place of it.
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    finish_reason: Option<&'a RawValue>,
}

impl Step<'_> {
    /// Returns whether it says more than whose turn it is.
    fn says_something(&self) -> bool {
        self.delta.is_some_and(is_meaningful) || self.text.is_some_and(|text| text.get() != r#""""#)
    }
}

impl<'a> Heard<'a> {
    fn steps(&self) -> &[Step<'a>] {
        self.choices.as_deref().unwrap_or_default()
    }

    fn is_error(&self) -> bool {
        self.error.is_some()
            || (self.choices.is_none() && self.object.is_some_and(|object| object.get() == r#""error""#))
    }

    /// Takes note; returns whether there are token counts.
    fn note(&self, observed: &mut Observed) -> bool {
        if let Some(model) = self.model.and_then(wire::text).filter(|model| !model.is_empty()) {
            observed.model = Some(model.into_owned());
        }
        for (position, step) in self.steps().iter().enumerate() {
            let word = step.finish_reason.and_then(wire::text);
            if let Some(word) = word.filter(|word| !word.is_empty()) {
                observed.meaningful = true;
                observed.complete = true;
                if step.index.unwrap_or(position) == 0 {
                    observed.finish(wire::read_finish(&word, false).reason, &word);
                }
            }
        }
        let tier = self.service_tier.and_then(Tier::overhear);
        observed.usage.tier = tier.or(observed.usage.tier);
        match self.usage.and_then(wire::read_usage) {
            Some(usage) => {
                observed.usage.merge(&usage);
                true
            }
            None => false,
        }
    }
}

/// Returns whether a delta says more than whose turn it is.
fn is_meaningful(delta: &RawValue) -> bool {
    Object::parse(delta, &Path::Root).is_ok_and(|delta| {
        delta.rest().any(|(key, value): (Cow<'_, str>, _)| {
            key != "role" && !matches!(value.get(), r#""""# | "[]" | "{}")
        })
    })
}
