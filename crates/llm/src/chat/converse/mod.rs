//! Amazon Bedrock Converse, in which upstreams are asked; no client speaks it.
//!
//! `message` writes turns, `model` the members that belong to one family of models, `media` pictures and
//! documents; `reply` reads whole answers and `stream` streamed ones; `cite` says what they are taken from.
//!
//! Follows the provider's API reference (`Converse`, `ConverseStream` and the data types that they name).

use serde_json::value::RawValue;

use crate::{Format, Severity, chat::Extension};

mod cite;
mod listen;
mod media;
mod message;
mod model;
mod reply;
mod request;
mod stream;
mod upstream;
mod wire;

/// The upstream half of the format.
#[derive(Clone, Copy, Debug)]
pub struct Converse;

/// Top-level members that only this format has, and what losing each amounts to. Clients of other formats may
/// add them to theirs.
const MEMBERS: &[(&str, Severity)] = &[
    ("additionalModelRequestFields", Severity::Advisory),
    ("additionalModelResponseFieldPaths", Severity::Advisory),
    ("guardrailConfig", Severity::Material),
    ("performanceConfig", Severity::Advisory),
    ("promptVariables", Severity::Material),
    ("requestMetadata", Severity::Advisory),
];

/// Returns the top-level member `key` of a client's document, if it is one that only this format has.
pub(in crate::chat) fn member(key: &str, value: &RawValue) -> Option<Extension> {
    let (_, severity) = MEMBERS.iter().find(|(name, _)| *name == key)?;
    Some(Extension {
        format: Format::Converse,
        key: key.to_owned(),
        value: value.to_owned(),
        severity: *severity,
    })
}

#[cfg(test)]
mod tests;
