//! The words of the format and the shapes of its replies.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::cite::Words;
use crate::{
    Format, Losses, Tier, Usage,
    chat::{Finish, FinishReason, Seal},
    json::Path,
    unread::{self, Silent},
};

/// The stop reasons of the API reference, and two of Claude's own, and what they are called here.
const STOP_REASONS: &[(&str, FinishReason)] = &[
    ("end_turn", FinishReason::Stop),
    ("stop_sequence", FinishReason::StopSequence),
    ("max_tokens", FinishReason::Length),
    ("model_context_window_exceeded", FinishReason::ContextWindow),
    ("tool_use", FinishReason::ToolCalls),
    ("guardrail_intervened", FinishReason::ContentFilter),
    ("content_filtered", FinishReason::ContentFilter),
    ("refusal", FinishReason::Refusal),
    ("pause_turn", FinishReason::Pause),
];

/// The longer of the two lifetimes that what is cached has.
const HOUR: &str = "1h";

/// Returns what `word`, a stop reason, is called here; a word that is not known is a plain end.
pub(super) fn finish(word: Option<&str>, more: Option<More>) -> Finish {
    let known = STOP_REASONS.iter().find(|(name, _)| Some(*name) == word);
    Finish {
        reason: known.map_or(FinishReason::Stop, |(_, reason)| *reason),
        raw: word.map(str::to_owned),
        stop_sequence: more.and_then(|more| more.stop_sequence),
        remarks: Vec::new(),
    }
}

/// Returns the seal that `bytes`, a signature or withheld reasoning, is.
pub(super) fn seal(bytes: Option<String>) -> Option<Seal> {
    let bytes = bytes.filter(|bytes| !bytes.is_empty())?;
    Some(Seal {
        issuer: Format::Converse,
        bytes: bytes.into(),
    })
}

/// A whole reply.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Reply<'a> {
    #[serde(borrow)]
    pub(super) output: Option<Output<'a>>,
    pub(super) stop_reason: Option<String>,
    #[serde(borrow)]
    pub(super) usage: Option<&'a RawValue>,
    pub(super) service_tier: Option<ServiceTier<'a>>,
    #[serde(borrow)]
    pub(super) additional_model_response_fields: Option<&'a RawValue>,
    #[serde(rename = "metrics")]
    _metrics: Silent,
}

/// What was generated.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Output<'a> {
    #[serde(borrow)]
    pub(super) message: Option<Message<'a>>,
}

/// The model's message.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Message<'a> {
    #[serde(borrow)]
    pub(super) content: Option<Vec<&'a RawValue>>,
    #[serde(rename = "role")]
    _role: Silent,
}

/// A content block; one member is there. The last five are those that no other format has.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Block<'a> {
    pub(super) text: Option<String>,
    #[serde(borrow)]
    pub(super) tool_use: Option<ToolUse<'a>>,
    pub(super) reasoning_content: Option<ReasoningContent>,
    #[serde(borrow)]
    pub(super) citations_content: Option<CitationsContent<'a>>,
    #[serde(borrow)]
    pub(super) guard_content: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) image: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) search_result: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) tool_result: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) video: Option<&'a RawValue>,
}

/// A call of a tool; in a stream, what is known of it when it begins.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ToolUse<'a> {
    pub(super) tool_use_id: Option<String>,
    pub(super) name: Option<String>,
    #[serde(borrow)]
    pub(super) input: Option<&'a RawValue>,
    #[serde(rename = "type")]
    _type: Silent,
}

/// Reasoning; in a stream, a piece of it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ReasoningContent {
    pub(super) reasoning_text: Option<ReasoningText>,
    pub(super) text: Option<String>,
    pub(super) signature: Option<String>,
    pub(super) redacted_content: Option<String>,
}

/// Reasoning that is shown.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ReasoningText {
    pub(super) text: Option<String>,
    pub(super) signature: Option<String>,
}

/// Text with its sources.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct CitationsContent<'a> {
    pub(super) content: Option<Vec<Words<'a>>>,
    #[serde(borrow)]
    pub(super) citations: Option<Vec<&'a RawValue>>,
}

/// The payload of an event; which members count depends on its name.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Event<'a> {
    /// The event's name, where the payload repeats it.
    pub(super) event_type: Option<String>,
    pub(super) content_block_index: Option<u64>,
    #[serde(borrow)]
    pub(super) start: Option<Start<'a>>,
    pub(super) delta: Option<Delta<'a>>,
    pub(super) stop_reason: Option<String>,
    #[serde(borrow)]
    pub(super) usage: Option<&'a RawValue>,
    pub(super) service_tier: Option<ServiceTier<'a>>,
    #[serde(borrow)]
    pub(super) additional_model_response_fields: Option<&'a RawValue>,
    #[serde(rename = "metrics")]
    _metrics: Silent,
    #[serde(rename = "p")]
    _p: Silent,
    #[serde(rename = "role")]
    _role: Silent,
}

/// What is known of a block when it begins; nothing for text and reasoning.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Start<'a> {
    #[serde(borrow)]
    pub(super) tool_use: Option<ToolUse<'a>>,
    #[serde(borrow)]
    pub(super) image: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) tool_result: Option<&'a RawValue>,
}

/// A piece of a block; one member is there.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Delta<'a> {
    pub(super) text: Option<String>,
    pub(super) tool_use: Option<Input>,
    pub(super) reasoning_content: Option<ReasoningContent>,
    #[serde(borrow)]
    pub(super) citation: Option<&'a RawValue>,
}

/// A piece of a tool call's arguments.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Input {
    pub(super) input: Option<String>,
}

/// The tier of service.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ServiceTier<'a> {
    #[serde(rename = "type", borrow)]
    pub(super) kind: Option<&'a RawValue>,
}

impl ServiceTier<'_> {
    /// Returns `counts` with the tier in them.
    pub(super) fn of(counts: Option<Counts>, tier: Option<&Self>, losses: &mut Losses) -> Option<Usage> {
        let path = Path::Reply;
        let path = path.key("serviceTier");
        let tier = tier.and_then(|tier| Tier::hear(tier.kind, &path.key("type"), losses));
        if counts.is_none() && tier.is_none() {
            return None;
        }
        let usage = counts.map(Usage::from).unwrap_or_default();
        Some(Usage { tier, ..usage })
    }
}

/// Members of the model's own reply that were asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct More {
    stop_sequence: Option<String>,
}

/// Token counts. The prompt's exclude one another.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Counts {
    input_tokens: Option<f64>,
    output_tokens: Option<f64>,
    #[serde(alias = "cacheReadInputTokenCount")]
    cache_read_input_tokens: Option<f64>,
    #[serde(alias = "cacheWriteInputTokenCount")]
    cache_write_input_tokens: Option<f64>,
    cache_details: Option<Vec<CacheDetail>>,
    #[serde(rename = "totalTokens")]
    _total_tokens: Silent,
}

/// What was written to a cache with one lifetime.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct CacheDetail {
    input_tokens: f64,
    ttl: String,
}

impl From<Counts> for Usage {
    fn from(counts: Counts) -> Self {
        // A float-to-integer cast saturates: what is negative becomes 0.
        let whole = |count: Option<f64>| count.map(|count| count as u64);
        Self {
            input: whole(counts.input_tokens),
            cache_read: whole(counts.cache_read_input_tokens),
            cache_write: whole(counts.cache_write_input_tokens),
            cache_write_hour: counts.cache_details.map(|details| {
                let hour = details.iter().filter(|detail| detail.ttl == HOUR);
                hour.map(|detail| detail.input_tokens as u64)
                    .fold(0, u64::saturating_add)
            }),
            output: whole(counts.output_tokens),
            reasoning: None,
            search_units: None,
            tier: None,
        }
    }
}

/// Reads what lies at `path` and must not cost the client its answer if it cannot be read.
pub(super) fn tolerant<'a, T: Deserialize<'a>>(
    raw: Option<&'a RawValue>,
    path: &Path<'_>,
    losses: &mut Losses,
) -> Option<T> {
    unread::read::<Option<T>>(raw?.get(), path, losses).ok().flatten()
}
