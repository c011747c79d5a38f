//! The words of the format, and the shapes of its replies as they are read.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub(super) use crate::chat::openai::wire::text;
use crate::{
    Format, Losses, Severity, Usage,
    chat::{Extension, Finish, FinishReason, Seal, fingerprint::fingerprint, openai::note},
    json::Path,
    unread::{self, Silent},
    usage::Count,
};

/// Top-level members without a neutral counterpart whose loss changes what is asked for: they stand for a
/// part of the conversation that is kept at the provider, or for another way of answering. The loss of any
/// other is a nuance.
const MATERIAL: &[&str] = &[
    "background",
    "conversation",
    "previous_response_id",
    "prompt",
    "tool_choice",
];

/// Items and parts of a reply that no other format has, by the name under which their loss is reported.
const NATIVE_ITEMS: &[&str] = &[
    "file_search_call",
    "web_search_call",
    "computer_call",
    "code_interpreter_call",
    "image_generation_call",
    "local_shell_call",
    "shell_call",
    "shell_call_output",
    "apply_patch_call",
    "mcp_call",
    "mcp_list_tools",
    "mcp_approval_request",
    "tool_search_call",
    "tool_search_output",
    "compaction",
];

/// The most bytes that the provider takes in the id of a call.
const MAX_CALL_ID: usize = 64;

/// What stands before the seal of reasoning whose text its issuer withholds.
const REDACTED: &str = "redacted:";

/// Returns what losing the top-level member `key` amounts to.
pub(super) fn severity(key: &str) -> Severity {
    if MATERIAL.contains(&key) {
        Severity::Material
    } else {
        Severity::Advisory
    }
}

/// Returns a member that only this format has.
pub(super) fn extension(key: impl Into<String>, value: &RawValue, severity: Severity) -> Extension {
    Extension {
        format: Format::Responses,
        key: key.into(),
        value: value.to_owned(),
        severity,
    }
}

/// Returns whether events called `kind` tell of an item that no other format has.
pub(super) fn is_of_native_item(kind: &str) -> bool {
    let item = kind.strip_prefix("response.");
    item.is_some_and(|item| NATIVE_ITEMS.iter().any(|name| item.starts_with(name)))
}

/// Returns the name under which the loss of a reply's item of type `kind` is reported.
pub(super) fn native_item(kind: &str) -> &'static str {
    NATIVE_ITEMS
        .iter()
        .find(|name| **name == kind)
        .map_or("output", |name| *name)
}

/// Returns why an answer ended whose `status` is this; `called` tells whether it calls tools.
pub(super) fn finish(status: Option<&str>, reason: Option<&str>, called: bool) -> Finish {
    let (reason, raw) = match (status, reason) {
        (Some("incomplete"), Some("max_output_tokens") | None) => (FinishReason::Length, None),
        (Some("incomplete"), Some("content_filter")) => (FinishReason::ContentFilter, None),
        (Some("incomplete"), Some(reason)) => (FinishReason::Stop, Some(reason.to_owned())),
        (_, _) if called => (FinishReason::ToolCalls, None),
        (_, _) => (FinishReason::Stop, None),
    };
    Finish {
        reason,
        raw,
        stop_sequence: None,
        remarks: Vec::new(),
    }
}

/// Returns why an answer is incomplete that ended for `reason`; `None` if it is complete.
pub(super) fn incomplete(reason: FinishReason) -> Option<&'static str> {
    match reason {
        FinishReason::Stop | FinishReason::StopSequence | FinishReason::ToolCalls | FinishReason::Pause => {
            None
        }
        FinishReason::Length | FinishReason::ContextWindow => Some("max_output_tokens"),
        FinishReason::ContentFilter | FinishReason::Refusal => Some("content_filter"),
    }
}

/// Returns the `encrypted_content` that carries `seal` to a client, marked with its issuer so that it finds its
/// way back; `redacted` tells whether the seal is all there is. No seal of the provider itself holds a colon.
pub(super) fn encrypted(seal: &Seal, redacted: bool) -> String {
    let mark = if redacted { REDACTED } else { "" };
    format!("{mark}{}:{}", seal.issuer.name(), seal.bytes)
}

/// Returns the seal that the `encrypted_content` of the item called `id` carries, and whether it is all there
/// is of reasoning, which is `bare` where nothing else was said of it; `None` if it is empty.
///
/// The provider refuses its own seals on an item of another id, so that the id becomes a part of them.
pub(super) fn seal(id: Option<&str>, encrypted: &str, bare: bool) -> Option<(Seal, bool)> {
    let (marked, rest) = match encrypted.strip_prefix(REDACTED) {
        Some(rest) => (true, rest),
        None => (false, encrypted),
    };
    if let Some((issuer, bytes)) = rest
        .split_once(':')
        .and_then(|(issuer, bytes)| Some((Format::parse(issuer)?, bytes)))
    {
        let bytes = bytes.into();
        return Some((Seal { issuer, bytes }, marked));
    }
    if encrypted.is_empty() {
        return None;
    }
    let bytes = match id.filter(|id| !id.is_empty() && !id.contains(':')) {
        Some(id) => format!("{id}:{encrypted}").into(),
        None => encrypted.into(),
    };
    let issuer = Format::Responses;
    Some((Seal { issuer, bytes }, bare))
}

/// Returns a seal of this format as its issuer wrote it: the id of its item, where known, and what it sealed.
pub(super) fn own_seal(bytes: &str) -> (Option<&str>, &str) {
    match bytes.split_once(':') {
        Some((id, encrypted)) => (Some(id), encrypted),
        None => (None, bytes),
    }
}

/// Returns `id` as ids of calls must be, unchanged where it fits. The same id always gives the same result, so
/// a result finds its call.
pub(super) fn call_id(id: &str) -> Cow<'_, str> {
    if id.len() <= MAX_CALL_ID {
        Cow::Borrowed(id)
    } else {
        Cow::Owned(format!("call_{:016x}", fingerprint(&[id])))
    }
}

/// Token counts as they are read; the prompt includes what was read from and written to a cache. What was
/// written goes by two names.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
struct Counts {
    input_tokens: Option<Count>,
    input_tokens_details: Option<InputDetails>,
    output_tokens: Option<Count>,
    output_tokens_details: Option<OutputDetails>,
    #[serde(rename = "total_tokens")]
    _total_tokens: Silent,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
struct InputDetails {
    cached_tokens: Option<Count>,
    cache_write_tokens: Option<Count>,
    cache_creation_input_tokens: Option<Count>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
struct OutputDetails {
    reasoning_tokens: Option<Count>,
}

/// Reads token counts, as many as there are; `None` if there are none, or they cannot be read.
pub(super) fn usage(raw: &RawValue) -> Option<Usage> {
    let counts: Counts = serde_json::from_str(raw.get()).ok()?;
    counts.into_usage()
}

/// Reads the token counts at `path`, and hears of those that have no name here.
pub(super) fn hear_usage(raw: &RawValue, path: &Path<'_>, losses: &mut Losses) -> Option<Usage> {
    let counts: Counts = unread::read(raw.get(), path, losses).ok()?;
    counts.into_usage()
}

impl Counts {
    fn into_usage(self) -> Option<Usage> {
        let count = |count: Option<Count>| count.map(|Count(count)| count);
        let details = self.input_tokens_details.unwrap_or_default();
        let cache_read = count(details.cached_tokens);
        let cache_write = count(details.cache_write_tokens.or(details.cache_creation_input_tokens));
        let usage = Usage {
            input: count(self.input_tokens).map(|prompt| {
                prompt
                    .saturating_sub(cache_read.unwrap_or(0))
                    .saturating_sub(cache_write.unwrap_or(0))
            }),
            cache_read,
            cache_write,
            cache_write_hour: None,
            output: count(self.output_tokens),
            reasoning: count(self.output_tokens_details.unwrap_or_default().reasoning_tokens),
            search_units: None,
            tier: None,
        };
        (!usage.is_unknown()).then_some(usage)
    }
}

/// Token counts as they are written.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Totals {
    input_tokens: u64,
    input_tokens_details: InputTotals,
    output_tokens: u64,
    output_tokens_details: OutputTotals,
    total_tokens: u64,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct InputTotals {
    cached_tokens: u64,
    cache_write_tokens: u64,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct OutputTotals {
    reasoning_tokens: u64,
}

impl From<&Usage> for Totals {
    fn from(usage: &Usage) -> Self {
        Self {
            input_tokens: usage.prompt(),
            input_tokens_details: InputTotals {
                cached_tokens: usage.cache_read.unwrap_or(0),
                cache_write_tokens: usage.cache_write.unwrap_or(0),
            },
            output_tokens: usage.output.unwrap_or(0),
            output_tokens_details: OutputTotals {
                reasoning_tokens: usage.reasoning.unwrap_or(0),
            },
            total_tokens: usage.total(),
        }
    }
}

/// A whole reply as it is read, and the `response` of an event.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Reply<'a> {
    #[serde(borrow)]
    pub(super) id: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) model: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) created_at: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) status: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) error: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) incomplete_details: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) output: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    pub(super) usage: Option<&'a RawValue>,
    /// Whether it is made without anybody waiting for it.
    #[serde(borrow)]
    pub(super) background: Option<&'a RawValue>,
    // What follows repeats the request, or says nothing of the answer.
    #[serde(rename = "completed_at")]
    _completed_at: Silent,
    #[serde(rename = "frequency_penalty")]
    _frequency_penalty: Silent,
    #[serde(rename = "instructions")]
    _instructions: Silent,
    #[serde(rename = "max_output_tokens")]
    _max_output_tokens: Silent,
    #[serde(rename = "max_tool_calls")]
    _max_tool_calls: Silent,
    #[serde(rename = "metadata")]
    _metadata: Silent,
    #[serde(rename = "object")]
    _object: Silent,
    #[serde(rename = "parallel_tool_calls")]
    _parallel_tool_calls: Silent,
    #[serde(rename = "presence_penalty")]
    _presence_penalty: Silent,
    #[serde(rename = "previous_response_id")]
    _previous_response_id: Silent,
    #[serde(rename = "prompt_cache_key")]
    _prompt_cache_key: Silent,
    #[serde(rename = "prompt_cache_retention")]
    _prompt_cache_retention: Silent,
    #[serde(rename = "reasoning")]
    _reasoning: Silent,
    #[serde(rename = "safety_identifier")]
    _safety_identifier: Silent,
    #[serde(borrow)]
    pub(super) service_tier: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) store: Option<&'a RawValue>,
    #[serde(rename = "temperature")]
    _temperature: Silent,
    #[serde(rename = "text")]
    _text: Silent,
    #[serde(rename = "tool_choice")]
    _tool_choice: Silent,
    #[serde(rename = "tools")]
    _tools: Silent,
    #[serde(rename = "top_logprobs")]
    _top_logprobs: Silent,
    #[serde(rename = "top_p")]
    _top_p: Silent,
    #[serde(rename = "truncation")]
    _truncation: Silent,
    #[serde(rename = "user")]
    _user: Silent,
}

/// Why an answer is incomplete.
#[derive(Deserialize)]
struct Details {
    reason: Option<String>,
}

impl Reply<'_> {
    /// Hears of what is said beside why the answer is incomplete; it lies in the object at `path`.
    pub(super) fn hear_details(&self, path: &Path<'_>, losses: &mut Losses) {
        if let Some(raw) = self.incomplete_details {
            // What cannot be read is no reason.
            let _ = unread::read::<Details>(raw.get(), &path.key("incomplete_details"), losses);
        }
    }

    /// Returns why the answer ended; `called` tells whether it calls tools.
    pub(super) fn finish(&self, called: bool) -> Finish {
        let status = self.status.and_then(text);
        let details = self
            .incomplete_details
            .and_then(|raw| serde_json::from_str::<Details>(raw.get()).ok());
        let reason = details.and_then(|details| details.reason);
        finish(status.as_deref(), reason.as_deref(), called)
    }
}

/// An item of a reply as it is read; which members count depends on its type.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Item<'a> {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) id: Option<String>,
    pub(super) call_id: Option<String>,
    pub(super) name: Option<String>,
    pub(super) arguments: Option<String>,
    pub(super) input: Option<String>,
    pub(super) encrypted_content: Option<String>,
    #[serde(borrow)]
    pub(super) content: Option<Vec<Piece<'a>>>,
    #[serde(borrow)]
    pub(super) summary: Option<Vec<Piece<'a>>>,
    #[serde(rename = "role")]
    _role: Silent,
    #[serde(rename = "status")]
    _status: Silent,
}

/// A part of an item of a reply as it is read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Piece<'a> {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) text: Option<String>,
    pub(super) refusal: Option<String>,
    #[serde(borrow)]
    pub(super) annotations: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) logprobs: Option<&'a RawValue>,
}

impl Piece<'_> {
    /// Hears of what nobody reads in what is said about the text of the piece at `path`, which may be said again and
    /// is then not read.
    pub(super) fn hear(&self, path: &Path<'_>, losses: &mut Losses) {
        if let Some(logprobs) = self.logprobs {
            note::read_tokens(logprobs, &path.key("logprobs"), losses);
        }
        let annotations = self.annotations.map_or("[]", RawValue::get);
        let annotations: Vec<&RawValue> = serde_json::from_str(annotations).unwrap_or_default();
        let list = path.key("annotations");
        for annotation in annotations {
            note::read_citation(annotation, &list.index(0), losses);
        }
    }
}

/// An event of a stream as it is read; which members count depends on its type.
#[derive(Debug, Deserialize)]
pub(super) struct Event<'a> {
    #[serde(rename = "type", borrow)]
    pub(super) kind: Cow<'a, str>,
    #[serde(default, borrow)]
    pub(super) response: Option<&'a RawValue>,
    #[serde(default, borrow)]
    pub(super) item: Option<&'a RawValue>,
    #[serde(default)]
    pub(super) output_index: Option<u64>,
    #[serde(default)]
    pub(super) content_index: Option<u64>,
    #[serde(default)]
    pub(super) summary_index: Option<u64>,
    #[serde(default, borrow)]
    pub(super) delta: Option<&'a RawValue>,
    #[serde(default, borrow)]
    pub(super) text: Option<&'a RawValue>,
    #[serde(default, borrow)]
    pub(super) refusal: Option<&'a RawValue>,
    #[serde(default, borrow)]
    pub(super) logprobs: Option<&'a RawValue>,
    #[serde(default, borrow)]
    pub(super) annotation: Option<&'a RawValue>,
    /// A part that begins, or is said again.
    #[serde(default, borrow)]
    pub(super) part: Option<Piece<'a>>,
    #[serde(default, rename = "annotation_index")]
    _annotation_index: Silent,
    #[serde(default, rename = "arguments")]
    _arguments: Silent,
    #[serde(default, rename = "error")]
    _error: Silent,
    #[serde(default, rename = "input")]
    _input: Silent,
    #[serde(default, rename = "item_id")]
    _item_id: Silent,
    #[serde(default, rename = "name")]
    _name: Silent,
    #[serde(default, rename = "obfuscation")]
    _obfuscation: Silent,
    #[serde(default, rename = "sequence_number")]
    _sequence_number: Silent,
}
