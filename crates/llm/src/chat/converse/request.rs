//! The document of a request, as it is written.

use std::{borrow::Cow, collections::BTreeMap};

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::message::{Block, CachePoint, Marked, Message};
use crate::{Format, chat::Extensions};

/// A whole request.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Document<'a> {
    #[serde(skip_serializing_if = "Marked::is_empty")]
    pub(super) system: Marked<Block<'a>>,
    pub(super) messages: Vec<Message<'a>>,
    pub(super) inference_config: InferenceConfig<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tool_config: Option<ToolConfig<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) output_config: Option<OutputConfig<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) service_tier: Option<ServiceTier<'a>>,
    #[serde(flatten)]
    pub(super) more: More<'a>,
}

/// Members that are the client's own or one model's.
pub(super) struct More<'a> {
    /// `additionalModelRequestFields`, beside what the client says of it.
    pub(super) fields: BTreeMap<String, Box<RawValue>>,
    /// Members that we say unless the client does.
    pub(super) own: Vec<(&'static str, Box<RawValue>)>,
    pub(super) extensions: &'a Extensions,
}

/// How tokens are drawn.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct InferenceConfig<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) top_p: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) stop_sequences: Vec<&'a str>,
}

/// What the model may call, and whether it must.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ToolConfig<'a> {
    pub(super) tools: Marked<Tool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tool_choice: Option<Choice<'a>>,
}

/// A tool.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Tool<'a> {
    /// Called with JSON.
    #[serde(rename_all = "camelCase")]
    ToolSpec {
        name: Cow<'a, str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        description: Option<&'a str>,
        input_schema: Schema<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        strict: Option<bool>,
    },
    /// As it was written.
    #[serde(untagged)]
    Native(&'a RawValue),
}

/// The schema of a tool's arguments.
#[derive(Serialize)]
pub(super) struct Schema<'a> {
    pub(super) json: Cow<'a, RawValue>,
}

/// Whether a tool must be called.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Choice<'a> {
    /// It may.
    Auto {},
    /// One must.
    Any {},
    /// This one must.
    Tool { name: Cow<'a, str> },
}

/// The form of the answer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OutputConfig<'a> {
    pub(super) text_format: TextFormat<'a>,
}

/// A schema that the answer follows.
#[derive(Serialize)]
#[serde(tag = "type", content = "structure", rename_all = "snake_case")]
pub(super) enum TextFormat<'a> {
    JsonSchema(Structure<'a>),
}

/// What the answer follows.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Structure<'a> {
    JsonSchema {
        #[serde(skip_serializing_if = "str::is_empty")]
        name: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        description: Option<&'a str>,
        /// JSON text, as text.
        schema: &'a str,
    },
}

/// The tier of service.
#[derive(Serialize)]
pub(super) struct ServiceTier<'a> {
    #[serde(rename = "type")]
    pub(super) kind: &'a str,
}

/// The member whose own members are one model's.
const FIELDS: &str = "additionalModelRequestFields";

impl Document<'_> {
    /// Returns every cache mark, in the order in which the provider builds its prefix: tools, instructions,
    /// messages ("Prompt caching").
    pub(super) fn marks(&mut self) -> Vec<&mut Option<CachePoint>> {
        let tools = self
            .tool_config
            .iter_mut()
            .flat_map(|config| config.tools.marks());
        let messages = self.messages.iter_mut();
        let messages = messages.flat_map(|message| message.content.marks());
        tools.chain(self.system.marks()).chain(messages).collect()
    }
}

impl Serialize for More<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let said = || self.extensions.of(Format::Converse);
        let mut fields: BTreeMap<&str, &RawValue> = self
            .fields
            .iter()
            .map(|(key, value)| (key.as_str(), &**value))
            .collect();
        let theirs = said().find(|extension| extension.key == FIELDS);
        let theirs: BTreeMap<String, &RawValue> = theirs
            .and_then(|extension| serde_json::from_str(extension.value.get()).ok())
            .unwrap_or_default();
        fields.extend(theirs.iter().map(|(key, value)| (key.as_str(), *value)));
        let fields = (!fields.is_empty()).then(|| crate::json::raw(&fields));

        let own = self.own.iter().map(|(key, value)| (*key, &**value));
        let own = own.filter(|(key, _)| said().all(|extension| extension.key != *key));
        let said = said().filter(|extension| extension.key != FIELDS);
        let said = said.map(|extension| (extension.key.as_str(), &*extension.value));
        let fields = fields.as_deref().map(|fields| (FIELDS, fields));
        serializer.collect_map(fields.into_iter().chain(own).chain(said))
    }
}
