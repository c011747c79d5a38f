//! The document of a request, as it is written.

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::items::Item;
use crate::{
    Format,
    chat::{Extensions, custom::Grammar},
};

/// Objects of the document in which members lie that only this format has; their extensions are called
/// `text.verbosity` and the like.
const NESTED: &[&str] = &["text.", "reasoning.", "stream_options."];

/// A whole request.
#[derive(Serialize)]
pub(super) struct Document<'a> {
    pub(super) model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) instructions: Option<String>,
    pub(super) input: Vec<Item<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tools: Vec<Tool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tool_choice: Option<Choice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) parallel_tool_calls: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) text: Option<Object<'a, Text<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reasoning: Option<Object<'a, Reasoning<'a>>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) include: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_output_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) top_logprobs: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) safety_identifier: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) service_tier: Option<&'a str>,
    /// What is translated is not kept at the provider, unless the client's own document says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) store: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stream: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stream_options: Option<Object<'a, Nothing>>,
    #[serde(flatten)]
    pub(super) more: More<'a>,
}

/// A tool.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Tool<'a> {
    /// A tool that is called with JSON.
    Function {
        name: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        description: Option<&'a str>,
        parameters: std::borrow::Cow<'a, RawValue>,
        strict: bool,
        #[serde(flatten)]
        more: More<'a>,
    },
    /// A tool that is called with free text.
    Custom {
        name: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        description: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        format: Option<Shape>,
    },
    /// As the client wrote it.
    #[serde(untagged)]
    Native(&'a RawValue),
}

/// The form of free text.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Shape {
    /// Text that follows a grammar.
    Grammar(Grammar),
}

/// Whether a tool must be called.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Choice<'a> {
    Word(&'static str),
    Tool {
        #[serde(rename = "type")]
        kind: &'static str,
        name: &'a str,
    },
}

/// How the answer is written.
#[derive(Serialize)]
pub(super) struct Text<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) format: Option<Form<'a>>,
}

/// The form of the answer.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Form<'a> {
    Text,
    JsonObject,
    JsonSchema {
        name: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        description: Option<&'a str>,
        schema: &'a RawValue,
        #[serde(skip_serializing_if = "Option::is_none")]
        strict: Option<bool>,
    },
}

/// How much to think.
#[derive(Serialize)]
pub(super) struct Reasoning<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) effort: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) summary: Option<&'static str>,
}

/// No members that other formats have.
#[derive(Serialize)]
pub(super) struct Nothing {}

/// An object of the document with the members that only this format has.
#[derive(Serialize)]
pub(super) struct Object<'a, T> {
    #[serde(flatten)]
    own: T,
    #[serde(flatten)]
    more: More<'a>,
}

impl<'a, T> Object<'a, T> {
    /// Returns `own` with the members of `extensions` behind `prefix`; `None` if there are none and `own` is
    /// `empty`.
    pub(super) fn new(own: T, empty: bool, prefix: &'static str, extensions: &'a Extensions) -> Option<Self> {
        let more = More {
            prefix,
            extensions,
            of_tool: false,
        };
        let nothing = empty && more.iter().next().is_none();
        (!nothing).then_some(Self { own, more })
    }
}

/// Members without a neutral counterpart, from one object of the document or of a tool.
pub(super) struct More<'a> {
    prefix: &'static str,
    extensions: &'a Extensions,
    of_tool: bool,
}

impl<'a> More<'a> {
    /// Returns the members of the document itself.
    pub(super) fn top(extensions: &'a Extensions) -> Self {
        Self {
            prefix: "",
            extensions,
            of_tool: false,
        }
    }

    /// Returns the members of a tool.
    pub(super) fn of_tool(extensions: &'a Extensions) -> Self {
        Self {
            of_tool: true,
            ..Self::top(extensions)
        }
    }

    fn iter(&self) -> impl Iterator<Item = (&'a str, &'a RawValue)> {
        let (prefix, of_tool) = (self.prefix, self.of_tool);
        self.extensions.0.iter().filter_map(move |extension| {
            let own = extension.format == Format::Responses;
            let name = extension.name(Format::Responses).filter(|_| own || !of_tool)?;
            Some((member(name, prefix)?, &*extension.value))
        })
    }
}

/// Returns what the member `key` is called in the object of `prefix`, if it lies there. What is repeated in the list
/// of things to include is written with that.
fn member<'a>(key: &'a str, prefix: &str) -> Option<&'a str> {
    match NESTED.iter().find(|nested| key.starts_with(**nested)) {
        Some(nested) => key.strip_prefix(nested).filter(|_| *nested == prefix),
        None => Some(key).filter(|key| prefix.is_empty() && *key != "include"),
    }
}

impl Serialize for More<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}
