//! The words of the format and the shapes of its replies.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::{
    ErrorKind, Format, Losses, Severity, Tier, Usage,
    chat::{CacheMark, CacheTtl, Finish, FinishReason, Seal, fingerprint::fingerprint},
    json::{Path, Typed},
    unread::{self, Silent},
};

/// Top-level members without a neutral counterpart whose loss changes what is asked for; the loss of any
/// other is a nuance.
const MATERIAL: &[&str] = &["container", "mcp_servers"];

/// The stop reasons of the API reference and what they are called here.
const STOP_REASONS: &[(&str, FinishReason)] = &[
    ("end_turn", FinishReason::Stop),
    ("stop_sequence", FinishReason::StopSequence),
    ("max_tokens", FinishReason::Length),
    ("model_context_window_exceeded", FinishReason::ContextWindow),
    ("tool_use", FinishReason::ToolCalls),
    ("pause_turn", FinishReason::Pause),
    ("refusal", FinishReason::Refusal),
];

/// The error types of the API reference and what they are called here.
const ERROR_TYPES: &[(&str, ErrorKind)] = &[
    ("invalid_request_error", ErrorKind::InvalidRequest),
    ("authentication_error", ErrorKind::Authentication),
    ("billing_error", ErrorKind::Billing),
    ("permission_error", ErrorKind::Permission),
    ("not_found_error", ErrorKind::NotFound),
    ("request_too_large", ErrorKind::TooLarge),
    ("rate_limit_error", ErrorKind::RateLimit),
    ("timeout_error", ErrorKind::Timeout),
    ("overloaded_error", ErrorKind::Overloaded),
    ("api_error", ErrorKind::Internal),
];

/// Blocks of a reply that no other format has, by the name under which their loss is reported.
const NATIVE_BLOCKS: &[&str] = &[
    "server_tool_use",
    "web_search_tool_result",
    "web_fetch_tool_result",
    "code_execution_tool_result",
    "bash_code_execution_tool_result",
    "text_editor_code_execution_tool_result",
    "tool_search_tool_result",
    "mcp_tool_use",
    "mcp_tool_result",
    "container_upload",
];

/// Blocks of a reply that other formats have.
const BLOCKS: &[&str] = &["text", "thinking", "redacted_thinking", "tool_use"];

/// Returns what losing the top-level member `key` amounts to.
pub(super) fn severity(key: &str) -> Severity {
    if MATERIAL.contains(&key) {
        Severity::Material
    } else {
        Severity::Advisory
    }
}

/// Returns what `word`, a stop reason, is called here; a word that is not known is a plain end.
pub(super) fn finish(word: Option<&str>, stop_sequence: Option<String>) -> Finish {
    let known = STOP_REASONS.iter().find(|(name, _)| Some(*name) == word);
    Finish {
        reason: known.map_or(FinishReason::Stop, |(_, reason)| *reason),
        raw: word.map(str::to_owned),
        stop_sequence,
        remarks: Vec::new(),
    }
}

/// Returns the stop reason that says `reason`.
pub(super) fn stop_reason(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "end_turn",
        FinishReason::StopSequence => "stop_sequence",
        FinishReason::Length => "max_tokens",
        FinishReason::ContextWindow => "model_context_window_exceeded",
        FinishReason::ToolCalls => "tool_use",
        FinishReason::ContentFilter | FinishReason::Refusal => "refusal",
        FinishReason::Pause => "pause_turn",
    }
}

/// Returns the kind of error that `word`, an error type, stands for.
pub(super) fn error_kind(word: &str) -> Option<ErrorKind> {
    let (_, kind) = ERROR_TYPES.iter().find(|(name, _)| *name == word)?;
    Some(*kind)
}

/// Returns the error type that says `kind`.
pub(super) fn error_type(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidRequest | ErrorKind::Unprocessable | ErrorKind::MethodNotAllowed => {
            "invalid_request_error"
        }
        ErrorKind::Authentication => "authentication_error",
        ErrorKind::Billing => "billing_error",
        ErrorKind::Permission => "permission_error",
        ErrorKind::NotFound => "not_found_error",
        ErrorKind::TooLarge => "request_too_large",
        ErrorKind::RateLimit => "rate_limit_error",
        ErrorKind::Internal | ErrorKind::BadUpstream | ErrorKind::BadReply => "api_error",
        ErrorKind::Timeout => "timeout_error",
        ErrorKind::Unavailable | ErrorKind::Overloaded => "overloaded_error",
    }
}

/// Returns the name under which the loss of a reply's block of type `kind` is reported.
pub(super) fn native_block(kind: &str) -> &'static str {
    NATIVE_BLOCKS
        .iter()
        .find(|name| **name == kind)
        .map_or("content", |name| *name)
}

/// Returns the signature that carries `seal`. A seal of another format is marked with its issuer, so that it
/// finds its way back when the client repeats it; no signature of the provider itself holds a colon.
pub(super) fn signature(seal: &Seal) -> Cow<'_, str> {
    match seal.issuer {
        Format::Messages => Cow::Borrowed(&seal.bytes),
        issuer => Cow::Owned(format!("{}:{}", issuer.name(), seal.bytes)),
    }
}

/// Returns the seal that `signature` carries; `None` if it is empty.
pub(super) fn seal(signature: &str) -> Option<Seal> {
    let (issuer, bytes) = signature
        .split_once(':')
        .and_then(|(issuer, bytes)| Some((Format::parse(issuer)?, bytes)))
        .unwrap_or((Format::Messages, signature));
    (!bytes.is_empty()).then(|| Seal {
        issuer,
        bytes: bytes.into(),
    })
}

/// Returns `id` with nothing but the letters that tool ids may have, unchanged where it fits. The same id
/// always gives the same result, and different ids different ones, so a tool's result finds its call.
pub(super) fn tool_id(id: &str) -> Cow<'_, str> {
    fit(id, usize::MAX)
}

/// Returns `name` as tool names must be (`^[a-zA-Z0-9_-]{1,128}$`), unchanged where it fits.
pub(super) fn tool_name(name: &str) -> Cow<'_, str> {
    fit(name, 128)
}

/// Returns `word` with nothing but letters, digits, `_` and `-`, and no longer than `limit`, unchanged where it
/// fits.
pub(in crate::chat) fn fit(word: &str, limit: usize) -> Cow<'_, str> {
    let fits = |char: char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-');
    if !word.is_empty() && word.len() <= limit && word.chars().all(fits) {
        return Cow::Borrowed(word);
    }
    let mark = format!("_{:08x}", fingerprint(&[word]) as u32);
    let letters = word.chars().map(|char| if fits(char) { char } else { '_' });
    Cow::Owned(
        letters
            .take(limit.min(128) - mark.len())
            .chain(mark.chars())
            .collect(),
    )
}

/// A mark on what is to be cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct CacheControl {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<&'static str>,
}

impl From<CacheMark> for CacheControl {
    fn from(mark: CacheMark) -> Self {
        Self {
            kind: "ephemeral",
            ttl: mark.ttl.map(CacheTtl::as_str),
        }
    }
}

/// Token counts as they are read. Counts may be written as floats.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct Counts<'a> {
    #[serde(default, deserialize_with = "count")]
    input_tokens: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    cache_read_input_tokens: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    cache_creation_input_tokens: Option<u64>,
    #[serde(default, deserialize_with = "count")]
    output_tokens: Option<u64>,
    #[serde(default)]
    output_tokens_details: Option<OutputDetails>,
    #[serde(default)]
    cache_creation: Option<CacheCreation>,
    #[serde(default, rename = "server_tool_use")]
    _server_tool_use: Option<ServerTools>,
    #[serde(default, borrow)]
    service_tier: Option<&'a RawValue>,
    /// What that says.
    #[serde(skip)]
    tier: Option<Tier>,
    #[serde(default, rename = "inference_geo")]
    _inference_geo: Silent,
}

/// What was written to a cache, by how long it is kept.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct CacheCreation {
    #[serde(default, rename = "ephemeral_1h_input_tokens", deserialize_with = "count")]
    hour: Option<u64>,
    /// The rest of all that was written.
    #[serde(default, rename = "ephemeral_5m_input_tokens")]
    _minutes: Silent,
}

/// How often the provider's own tools were used; what is not 0 is heard of.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct ServerTools {}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct OutputDetails {
    #[serde(default, deserialize_with = "count")]
    thinking_tokens: Option<u64>,
}

impl<'a> Counts<'a> {
    /// Reads counts; those that cannot be read must not cost the client its answer.
    pub(super) fn read(raw: Option<&'a RawValue>) -> Option<Self> {
        serde_json::from_str::<Option<Self>>(raw?.get()).ok().flatten()
    }

    /// Reads the counts at `path` likewise, and hears of those that have no name here.
    pub(super) fn hear(raw: Option<&'a RawValue>, path: &Path<'_>, losses: &mut Losses) -> Option<Self> {
        let counts: Option<Self> = unread::read(raw?.get(), path, losses).ok();
        let mut counts = counts?;
        counts.tier = Tier::hear(counts.service_tier, &path.key("service_tier"), losses);
        Some(counts)
    }

    /// Takes the counts over that `message_start` or a whole reply begins with.
    pub(super) fn begin(&self, usage: &mut Usage) {
        usage.merge(&Usage {
            input: self.input_tokens,
            cache_read: self.cache_read_input_tokens,
            cache_write: self.cache_creation_input_tokens,
            cache_write_hour: self.hour(),
            output: self.output_tokens,
            reasoning: self.thinking(),
            search_units: None,
            tier: self.tier.or_else(|| self.service_tier.and_then(Tier::overhear)),
        });
    }

    /// Takes the counts of a `message_delta` over. They are absolute, but servers that do not know the prompt's
    /// counts there write 0, which must not erase what `message_start` said.
    pub(super) fn update(&self, usage: &mut Usage) {
        let known = |count: Option<u64>| count.filter(|count| *count > 0);
        usage.merge(&Usage {
            input: known(self.input_tokens),
            cache_read: known(self.cache_read_input_tokens),
            cache_write: known(self.cache_creation_input_tokens),
            cache_write_hour: known(self.hour()),
            output: self.output_tokens,
            reasoning: self.thinking(),
            search_units: None,
            tier: self.tier.or_else(|| self.service_tier.and_then(Tier::overhear)),
        });
        settle(usage);
    }

    fn hour(&self) -> Option<u64> {
        self.cache_creation?.hour
    }

    fn thinking(&self) -> Option<u64> {
        self.output_tokens_details?.thinking_tokens
    }
}

/// Sets the prompt's counts to 0 where only the output was ever counted.
pub(super) fn settle(usage: &mut Usage) {
    if usage.output.is_some() && usage.input.is_none() {
        usage.input = Some(0);
        usage.cache_read.get_or_insert(0);
        usage.cache_write.get_or_insert(0);
    }
}

fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let number = Option::<f64>::deserialize(deserializer)?;
    // A float-to-integer cast saturates: what is negative becomes 0.
    Ok(number.map(|number| number as u64))
}

/// Token counts as they are written.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Totals {
    input_tokens: u64,
    cache_creation_input_tokens: u64,
    cache_read_input_tokens: u64,
    output_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_creation: Option<CacheTotals>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_tokens_details: Option<TotalDetails>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct CacheTotals {
    ephemeral_5m_input_tokens: u64,
    ephemeral_1h_input_tokens: u64,
}

/// The tiers of service that the format has words for.
pub(super) const TIERS: &[(Tier, &str)] = &[
    (Tier::Default, "standard"),
    (Tier::Priority, "priority"),
    (Tier::Batch, "batch"),
];

#[derive(Clone, Copy, Debug, Serialize)]
struct TotalDetails {
    thinking_tokens: u64,
}

impl From<&Usage> for Totals {
    fn from(usage: &Usage) -> Self {
        let cache_creation = usage.cache_write_hour.map(|hour| CacheTotals {
            ephemeral_5m_input_tokens: usage.cache_write.unwrap_or(0).saturating_sub(hour),
            ephemeral_1h_input_tokens: hour,
        });
        Self {
            input_tokens: usage.input.unwrap_or(0),
            cache_creation_input_tokens: usage.cache_write.unwrap_or(0),
            cache_read_input_tokens: usage.cache_read.unwrap_or(0),
            output_tokens: usage.output.unwrap_or(0),
            cache_creation,
            service_tier: usage.tier_among(TIERS),
            output_tokens_details: usage
                .reasoning
                .map(|thinking_tokens| TotalDetails { thinking_tokens }),
        }
    }
}

/// A whole reply as it is read, and the `message` of a `message_start`.
#[derive(Debug, Deserialize)]
pub(super) struct Message<'a> {
    #[serde(default, rename = "type")]
    pub(super) kind: Option<String>,
    #[serde(default)]
    pub(super) id: Option<String>,
    #[serde(default)]
    pub(super) model: Option<String>,
    #[serde(default, borrow)]
    pub(super) content: Option<Vec<&'a RawValue>>,
    #[serde(default)]
    pub(super) stop_reason: Option<String>,
    #[serde(default)]
    pub(super) stop_sequence: Option<String>,
    #[serde(default, borrow)]
    pub(super) usage: Option<&'a RawValue>,
    #[serde(default, rename = "role")]
    _role: Silent,
}

/// A content block of a reply as it is read; which members count depends on its type.
#[derive(Debug, Deserialize)]
pub(super) struct Block<'a> {
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) text: Option<String>,
    #[serde(default)]
    pub(super) thinking: Option<String>,
    #[serde(default)]
    pub(super) signature: Option<String>,
    #[serde(default)]
    pub(super) data: Option<String>,
    #[serde(default)]
    pub(super) id: Option<String>,
    #[serde(default)]
    pub(super) name: Option<String>,
    #[serde(default, borrow)]
    pub(super) input: Option<&'a RawValue>,
    #[serde(default, borrow)]
    pub(super) citations: Option<&'a RawValue>,
    #[serde(default)]
    caller: Option<Caller>,
}

/// Who calls a tool: the model itself, or what it runs.
#[derive(Debug, Deserialize)]
struct Caller {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default, rename = "tool_id")]
    _tool_id: Silent,
}

impl<'a> Block<'a> {
    /// Reads the block at `path`. Blocks that no other format has are lost as a whole.
    pub(super) fn read(
        raw: &'a RawValue,
        path: &Path<'_>,
        losses: &mut Losses,
    ) -> Result<Self, serde_json::Error> {
        let typed: Typed<'_> = serde_json::from_str(raw.get())?;
        if !typed.kind.is_some_and(|kind| BLOCKS.contains(&&*kind)) {
            return serde_json::from_str(raw.get());
        }
        let block: Self = unread::read(raw.get(), path, losses)?;
        if block
            .caller
            .as_ref()
            .is_some_and(|caller| caller.kind != "direct")
        {
            losses.unread(&path.key("caller"));
        }
        Ok(block)
    }
}

/// An event of a stream as it is read; which members count depends on its type.
#[derive(Debug, Deserialize)]
pub(super) struct Event<'a> {
    #[serde(rename = "type", borrow)]
    pub(super) kind: Cow<'a, str>,
    #[serde(default)]
    pub(super) index: Option<u64>,
    #[serde(default, borrow)]
    pub(super) message: Option<Message<'a>>,
    #[serde(default, borrow)]
    pub(super) content_block: Option<&'a RawValue>,
    #[serde(default)]
    pub(super) delta: Option<Delta<'a>>,
    #[serde(default, borrow)]
    pub(super) usage: Option<&'a RawValue>,
    #[serde(default, rename = "error")]
    _error: Silent,
}

/// The `delta` of an event as it is read.
#[derive(Debug, Deserialize)]
pub(super) struct Delta<'a> {
    #[serde(default, rename = "type")]
    pub(super) kind: Option<String>,
    #[serde(default)]
    pub(super) text: Option<String>,
    #[serde(default)]
    pub(super) thinking: Option<String>,
    #[serde(default)]
    pub(super) signature: Option<String>,
    #[serde(default)]
    pub(super) partial_json: Option<String>,
    #[serde(default, borrow)]
    pub(super) citation: Option<&'a RawValue>,
    #[serde(default)]
    pub(super) stop_reason: Option<String>,
    #[serde(default)]
    pub(super) stop_sequence: Option<String>,
}
