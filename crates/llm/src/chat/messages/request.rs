//! The document of a request, as it is written.

use std::borrow::Cow;

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::{
    message::{Block, Members, Message},
    wire::CacheControl,
};
use crate::{
    Format,
    chat::{Extension, Extensions},
};

/// Objects of the document in which members lie that only this format has; their extensions are called
/// `output_config.task_budget` and the like.
const NESTED: &[&str] = &["metadata.", "output_config.", "thinking.", "tool_choice."];

/// A whole request.
#[derive(Serialize)]
pub(super) struct Document<'a> {
    pub(super) model: &'a str,
    pub(super) max_tokens: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) system: Vec<Block<'a>>,
    pub(super) messages: Vec<Message<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tools: Vec<Tool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tool_choice: Option<Object<'a, Choice<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) thinking: Option<Object<'a, Thinking<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) output_config: Option<Object<'a, OutputConfig<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) top_k: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) stop_sequences: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stream: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) metadata: Option<Object<'a, Metadata<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) service_tier: Option<&'static str>,
    #[serde(flatten)]
    pub(super) more: More<'a>,
}

/// An object of the document with the members that only this format has.
#[derive(Serialize)]
pub(super) struct Object<'a, T> {
    #[serde(flatten)]
    pub(super) own: T,
    #[serde(flatten)]
    more: More<'a>,
}

/// Members that only this format has, from one object of the document.
pub(super) struct More<'a> {
    prefix: &'static str,
    extensions: &'a Extensions,
}

/// A tool.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Tool<'a> {
    /// A tool that is called with JSON.
    Function(Function<'a>),
    /// As the client wrote it.
    Native(&'a RawValue),
}

/// A tool that is called with JSON.
#[derive(Serialize)]
pub(super) struct Function<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) description: &'a str,
    pub(super) input_schema: Cow<'a, RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) strict: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cache_control: Option<CacheControl>,
    #[serde(flatten)]
    pub(super) members: Option<Members<'a>>,
}

/// Whether a tool must be called.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Choice<'a> {
    /// It may.
    Auto { disable_parallel_tool_use: bool },
    /// One must.
    Any { disable_parallel_tool_use: bool },
    /// This one must.
    Tool {
        name: Cow<'a, str>,
        disable_parallel_tool_use: bool,
    },
    /// None must.
    None,
}

/// Whether to think.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(in crate::chat) enum Thinking<'a> {
    /// Yes, within a budget of tokens.
    Enabled {
        budget_tokens: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        display: Option<&'a str>,
    },
    /// As the model sees fit.
    Adaptive {
        #[serde(skip_serializing_if = "Option::is_none")]
        display: Option<&'a str>,
    },
    /// No.
    Disabled,
}

/// How much effort to make, and the form of the answer.
#[derive(Serialize)]
pub(super) struct OutputConfig<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) effort: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) format: Option<OutputFormat<'a>>,
}

/// The form of the answer.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum OutputFormat<'a> {
    /// After a schema.
    JsonSchema { schema: &'a RawValue },
}

/// Who the end user is.
#[derive(Serialize)]
pub(super) struct Metadata<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user_id: Option<&'a str>,
}

impl<'a, T> Object<'a, T> {
    /// Returns `own` with the members that `extensions` holds for `prefix`.
    pub(super) fn new(own: T, prefix: &'static str, extensions: &'a Extensions) -> Self {
        let more = More { prefix, extensions };
        Self { own, more }
    }

    /// Returns the object, unless `empty` tells that it has no members of its own and there are no others.
    pub(super) fn unless(self, empty: bool) -> Option<Self> {
        (!empty || self.more.iter().next().is_some()).then_some(self)
    }
}

impl<'a> More<'a> {
    /// Returns the members that lie in no nested object.
    pub(super) fn top(extensions: &'a Extensions) -> Self {
        More {
            prefix: "",
            extensions,
        }
    }

    fn iter(&self) -> impl Iterator<Item = (&'a str, &'a RawValue)> {
        let prefix = self.prefix;
        let member = move |extension: &'a Extension| {
            let key = extension.key.strip_prefix(prefix)?;
            let nested = prefix.is_empty() && NESTED.iter().any(|nested| key.starts_with(nested));
            (!nested).then_some((key, &*extension.value))
        };
        self.extensions.of(Format::Messages).filter_map(member)
    }
}

impl Serialize for More<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl Document<'_> {
    /// Returns every cache mark, in the order in which the provider builds its prefix: tools, instructions,
    /// messages ("Prompt caching").
    pub(super) fn marks(&mut self) -> Vec<&mut Option<CacheControl>> {
        let tools = self.tools.iter_mut().filter_map(|tool| match tool {
            Tool::Function(function) => Some(&mut function.cache_control),
            Tool::Native(_) => None,
        });
        let messages = self.messages.iter_mut().flat_map(|message| &mut message.content);
        let blocks = self.system.iter_mut().chain(messages).flat_map(Block::marks);
        tools.chain(blocks).filter(|mark| mark.is_some()).collect()
    }
}
