//! Forms of an answer that servers of OpenAI's format are told in members of their own: one of several words, a text
//! after a pattern, JSON after a schema. The compatibility specification, "generationConfig".
//!
//! The provider writes a word with space around it, and a text after a pattern as JSON, in quotes; neither is what was
//! asked for.

use serde_json::{Value, json, value::RawValue};

use super::wire::Fields;
use crate::{
    ApiError, ErrorKind, Format,
    chat::{Extension, Output, Request},
    json::{self, Path},
};

/// The members.
const CHOICE: &str = "guided_choice";
const REGEX: &str = "guided_regex";
const JSON: &str = "guided_json";

/// What has to come off the texts of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrap {
    /// Space at either end.
    Space,
    /// A quote at either end.
    Quotes,
}

/// What was taken off a text that is still being said.
#[derive(Debug, Default)]
pub(super) struct Unwrapped {
    begun: bool,
    /// What may be the end.
    held: String,
}

/// Returns whether `extension` says the form of the answer.
pub(super) fn is_guide(extension: &Extension) -> bool {
    extension.format == Format::OpenAi && [CHOICE, REGEX, JSON].contains(&extension.key.as_str())
}

/// Returns the member of `request` that says the form of the answer.
///
/// # Errors
/// A 422, if there is more than one.
pub(super) fn of(request: &Request) -> Result<Option<&Extension>, ApiError> {
    let mut guides = request
        .extensions
        .0
        .iter()
        .filter(|extension| is_guide(extension));
    let Some(guide) = guides.next() else {
        return Ok(None);
    };
    let excluded = match request.output {
        Output::Text => guides.next().is_some(),
        Output::Plain | Output::JsonObject | Output::JsonSchema { .. } => true,
    };
    if excluded {
        let message = format!("{} excludes any other form of the answer", guide.key);
        return Err(ApiError::new(ErrorKind::Unprocessable, message).with_param(&guide.key));
    }
    Ok(Some(guide))
}

/// Writes the form that `guide` says.
///
/// # Errors
/// A 400, if it is not written as it should be.
pub(super) fn write(guide: &Extension, fields: &mut Fields) -> Result<(), ApiError> {
    let (root, raw) = (Path::Root, &guide.value);
    let (media_type, schema): (_, Value) = match guide.key.as_str() {
        CHOICE => {
            let words: Vec<String> = json::read(raw, &root.key(CHOICE))?;
            ("text/x.enum", json!({"type": "STRING", "enum": words}))
        }
        REGEX => {
            let pattern: String = json::read(raw, &root.key(REGEX))?;
            ("application/json", json!({"type": "STRING", "pattern": pattern}))
        }
        _ => {
            fields.put("responseMimeType", Some("application/json"));
            fields.put("responseJsonSchema", Some::<&RawValue>(raw));
            return Ok(());
        }
    };
    fields.put("responseMimeType", Some(media_type));
    fields.put("responseSchema", Some(schema));
    Ok(())
}

/// Returns what has to come off the texts of the answer.
pub(super) fn wrap(guide: &Extension) -> Option<Wrap> {
    match guide.key.as_str() {
        CHOICE => Some(Wrap::Space),
        REGEX => Some(Wrap::Quotes),
        _ => None,
    }
}

impl Wrap {
    /// Returns what is in `text`, all of it.
    pub(super) fn unwrap(self, text: &str) -> &str {
        match self {
            Wrap::Space => text.trim(),
            Wrap::Quotes => {
                let text = text.strip_prefix('"').unwrap_or(text);
                text.strip_suffix('"').unwrap_or(text)
            }
        }
    }

    /// Returns what is in `more` of a text of which `so_far` was taken off.
    pub(super) fn unwrap_more(self, more: &str, so_far: &mut Unwrapped) -> String {
        let mut text = std::mem::take(&mut so_far.held);
        text.push_str(if so_far.begun {
            more
        } else {
            match self {
                Wrap::Space => more.trim_start(),
                Wrap::Quotes => more.strip_prefix('"').unwrap_or(more),
            }
        });
        so_far.begun |= match self {
            Wrap::Space => !text.is_empty(),
            Wrap::Quotes => !more.is_empty(),
        };
        let kept = match self {
            Wrap::Space => text.trim_end().len(),
            Wrap::Quotes => text.strip_suffix('"').unwrap_or(&text).len(),
        };
        so_far.held = text.split_off(kept);
        text
    }
}
