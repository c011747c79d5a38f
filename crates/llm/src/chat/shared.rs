//! Top-level members that two formats have and nobody reads on the way: they are carried as they were written, under
//! the name that the other format has for them.
//!
//! OpenAI's two formats are told the same of its service. What a third format can say, or what is changed on the way,
//! belongs in the neutral form.

use std::{borrow::Cow, iter};

use serde_json::value::RawValue;

use super::{Extension, Extensions};
use crate::{Field, Format, Loss, Losses};

/// The names that chat completions and Responses have for a member.
const SHARED: &[(&str, &str)] = &[
    ("metadata", "metadata"),
    ("prompt_cache_key", "prompt_cache_key"),
    ("prompt_cache_retention", "prompt_cache_retention"),
    ("safety_identifier", "safety_identifier"),
    ("verbosity", "text.verbosity"),
];

/// The same, in one direction: a response that is stored under another id is not what a client of Responses asks for.
const TOLD_TO_RESPONSES: (&str, &str) = ("store", "store");

/// Returns what `format` calls the top-level member `key` of `of`.
fn name(of: Format, key: &str, format: Format) -> Option<&'static str> {
    let shared = SHARED.iter();
    match (of, format) {
        (Format::OpenAi, Format::Responses) => shared
            .chain(iter::once(&TOLD_TO_RESPONSES))
            .find(|(openai, _)| *openai == key)
            .map(|(_, responses)| *responses),
        (Format::Responses, Format::OpenAi) => shared
            .clone()
            .find(|(_, responses)| *responses == key)
            .map(|(openai, _)| *openai),
        (
            Format::OpenAi
            | Format::Messages
            | Format::Responses
            | Format::Gemini
            | Format::Converse
            | Format::Cohere,
            _,
        ) => None,
    }
}

impl Extensions {
    /// Returns the top-level members that `format` is told, by the names that it has for them.
    pub fn told(&self, format: Format) -> impl Iterator<Item = (&str, &RawValue)> {
        self.0
            .iter()
            .filter_map(move |extension| Some((extension.name(format)?, &*extension.value)))
    }

    /// Records the top-level members that `format` is not told as losses.
    pub fn lose_untold(&self, format: Format, losses: &mut Losses) {
        let untold = self.0.iter().filter(|extension| extension.name(format).is_none());
        for extension in untold {
            losses.push(extension.loss(Field::Extension(extension.key.clone())));
        }
    }
}

impl Extension {
    /// Returns what `format` calls this top-level member; `None` if it has none like it.
    pub fn name(&self, format: Format) -> Option<&str> {
        if self.format == format {
            Some(&self.key)
        } else {
            name(self.format, &self.key, format)
        }
    }

    /// Returns what it amounts to that this is not told, whose name is `field`.
    pub(super) fn loss(&self, field: Field) -> Loss {
        Loss {
            field,
            severity: self.severity,
            reason: Cow::Owned(format!("{} is known to {} only", self.key, self.format.name())),
        }
    }
}
