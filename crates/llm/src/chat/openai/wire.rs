//! The format's JSON, as tables: its words, the shapes that both halves write, and tolerant readers for the
//! shapes that servers differ in.

use std::borrow::Cow;

use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap};
use serde_json::value::RawValue;

use super::note::Tokens;
use crate::{
    Field, Format, Losses, Severity, Tier, Usage,
    chat::{self, CacheMark, Extension, Extensions, Finish, FinishReason, Token, ToolKind},
    json::Path,
    media::{Media, MediaKind, Source},
    unread::{self, Silent},
    usage::Count,
};

/// Top-level members without which the answer would not be an answer to what was asked. Every other member
/// that the neutral form lacks is a nuance.
const MATERIAL: &[&str] = &[
    "audio",
    "function_call",
    "functions",
    "guided_choice",
    "guided_grammar",
    "guided_json",
    "guided_regex",
    "structured_outputs",
    "tool_choice",
    "web_search_options",
];

/// Members of a message that hold some of what was said.
const MATERIAL_IN_MESSAGE: &[&str] = &["audio", "function_call"];

/// Returns what losing the top-level member `key` amounts to.
pub(super) fn severity(key: &str, value: &RawValue) -> Severity {
    let material = match key {
        "modalities" => serde_json::from_str::<Vec<Text<'_>>>(value.get()).map_or(true, |modalities| {
            modalities.iter().any(|Text(word)| word != "text")
        }),
        key => MATERIAL.contains(&key),
    };
    if material {
        Severity::Material
    } else {
        Severity::Advisory
    }
}

/// Returns what losing the member `key` of a message amounts to.
pub(super) fn message_severity(key: &str) -> Severity {
    if MATERIAL_IN_MESSAGE.contains(&key) {
        Severity::Material
    } else {
        Severity::Advisory
    }
}

/// Returns a member that only this format has.
pub(super) fn extension(key: impl Into<String>, value: &RawValue, severity: Severity) -> Extension {
    Extension {
        format: Format::OpenAi,
        key: key.into(),
        value: value.to_owned(),
        severity,
    }
}

/// Returns the format's word for why an answer ended.
pub(super) fn finish_word(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop | FinishReason::StopSequence | FinishReason::Pause => "stop",
        FinishReason::Length | FinishReason::ContextWindow => "length",
        FinishReason::ToolCalls => "tool_calls",
        FinishReason::ContentFilter | FinishReason::Refusal => "content_filter",
    }
}

/// A picture of an answer, as servers of the format have added it (OpenRouter, "Image generation").
#[derive(Serialize)]
pub(super) struct Shown {
    #[serde(rename = "type")]
    kind: &'static str,
    image_url: ShownUrl,
}

#[derive(Serialize)]
struct ShownUrl {
    url: String,
}

impl Shown {
    /// Returns `media` as it is shown; `None`, and a loss, if that is no picture.
    pub(super) fn new(media: &Media, losses: &mut Losses) -> Option<Self> {
        let url = match (media.kind, &media.source) {
            (MediaKind::Image, Source::Inline { media_type, data }) => {
                format!("data:{media_type};base64,{data}")
            }
            (MediaKind::Image, Source::Url(url)) => url.clone(),
            (_, _) => {
                let reason = format!(
                    "the answer holds an {}, which this format cannot show",
                    media.kind.name()
                );
                losses.advisory(Field::Reply("choices[].message.content"), reason);
                return None;
            }
        };
        Some(Self {
            kind: "image_url",
            image_url: ShownUrl { url },
        })
    }
}

/// Returns what the format's word for the end of an answer means. `called` tells whether tools were called:
/// forced calls end with `stop`, although the model waits for the results.
pub(super) fn read_finish(word: &str, called: bool) -> Finish {
    let (reason, plain) = match word {
        "stop" if called => (FinishReason::ToolCalls, false),
        "stop" => (FinishReason::Stop, true),
        "length" => (FinishReason::Length, true),
        "tool_calls" => (FinishReason::ToolCalls, true),
        "function_call" => (FinishReason::ToolCalls, false),
        "content_filter" => (FinishReason::ContentFilter, true),
        _ => (FinishReason::Stop, false),
    };
    Finish {
        reason,
        raw: (!plain).then(|| word.to_owned()),
        stop_sequence: None,
        remarks: Vec::new(),
    }
}

/// Members of messages for what only Google says about an answer, and what it is called there; the compatibility
/// specification, "Non-standard message members".
const SAFETY_RATINGS: &str = "safetyRatings";
const GROUNDING_METADATA: &str = "groundingMetadata";

/// What a provider says about an answer in words of its own, as far as clients of this format know them.
pub(super) struct Remarks<'a> {
    pub(super) safety_ratings: Option<&'a RawValue>,
    pub(super) grounding_metadata: Option<&'a RawValue>,
}

impl<'a> Remarks<'a> {
    /// Returns what is said about the answer that ended with `finish`.
    pub(super) fn new(finish: &'a Finish, losses: &mut Losses) -> Self {
        finish.lose_remarks(&[SAFETY_RATINGS, GROUNDING_METADATA], losses);
        let told = |key: &str| {
            let remark = finish.remarks.iter().find(|remark| remark.key == key)?;
            Some(&*remark.value)
        };
        Self {
            safety_ratings: told(SAFETY_RATINGS),
            grounding_metadata: told(GROUNDING_METADATA),
        }
    }
}

/// Log-probabilities of an answer.
#[derive(Serialize)]
pub(super) struct Logprobs<'a> {
    content: Option<Tokens<'a>>,
    refusal: Option<Tokens<'a>>,
}

impl<'a> Logprobs<'a> {
    /// Returns the log-probabilities of these tokens; `None` if there are none.
    pub(super) fn new(content: Cow<'a, [Token]>, refusal: Cow<'a, [Token]>) -> Option<Self> {
        let tokens = |tokens: Cow<'a, [Token]>| (!tokens.is_empty()).then_some(Tokens(tokens));
        let (content, refusal) = (tokens(content), tokens(refusal));
        (content.is_some() || refusal.is_some()).then_some(Self { content, refusal })
    }
}

/// Returns the provider's word where it says more than the format's.
pub(super) fn native_finish(finish: &Finish) -> Option<&str> {
    finish
        .raw
        .as_deref()
        .filter(|raw| !PLAIN.iter().any(|plain| plain.eq_ignore_ascii_case(raw)))
}

/// Providers' words for how an answer ends that say no more than `finish_reason` does.
const PLAIN: &[&str] = &[
    "stop",
    "end_turn",
    "completed",
    "stop_sequence",
    "length",
    "max_tokens",
    "max_output_tokens",
    "tool_calls",
    "tool_use",
    "function_call",
    "content_filter",
];

/// A string that is borrowed from the document where it has no escapes.
#[derive(Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

/// Returns the string in `raw`; `None` if it is something else.
pub(in crate::chat) fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    serde_json::from_str::<Text<'_>>(raw.get())
        .ok()
        .map(|Text(text)| text)
}

/// Appends `more` to `all`, borrowing as long as there is only one piece.
pub(super) fn join<'a>(all: &mut Option<Cow<'a, str>>, more: &'a str) {
    match all {
        Some(all) => all.to_mut().push_str(more),
        None => *all = Some(Cow::Borrowed(more)),
    }
}

/// The tiers of service that OpenAI's formats have words for.
pub(in crate::chat) const TIERS: &[(Tier, &str)] = &[
    (Tier::Default, "default"),
    (Tier::Flex, "flex"),
    (Tier::Priority, "priority"),
    (Tier::Scale, "scale"),
];

/// Token counts as the format writes them: the prompt includes what was read from and written to a cache.
#[derive(Serialize)]
pub(super) struct Counts {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: PromptDetails,
    completion_tokens_details: CompletionDetails,
}

#[derive(Serialize)]
struct PromptDetails {
    cached_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_creation_input_tokens: Option<u64>,
}

#[derive(Serialize)]
struct CompletionDetails {
    reasoning_tokens: u64,
}

impl From<&Usage> for Counts {
    fn from(usage: &Usage) -> Self {
        Self {
            prompt_tokens: usage.prompt(),
            completion_tokens: usage.output.unwrap_or(0),
            total_tokens: usage.total(),
            prompt_tokens_details: PromptDetails {
                cached_tokens: usage.cache_read.unwrap_or(0),
                cache_creation_input_tokens: usage.cache_write,
            },
            completion_tokens_details: CompletionDetails {
                reasoning_tokens: usage.reasoning.unwrap_or(0),
            },
        }
    }
}

/// Reads token counts, as many as there are. `None` if there are none.
pub(super) fn read_usage(raw: &RawValue) -> Option<Usage> {
    let counted: Counted = serde_json::from_str(raw.get()).ok()?;
    counted.into_usage()
}

/// Reads the token counts at `path`, and hears of those that have no name here.
pub(super) fn hear_usage(raw: &RawValue, path: &Path<'_>, losses: &mut Losses) -> Option<Usage> {
    let counted: Counted = unread::read(raw.get(), path, losses).ok()?;
    counted.into_usage()
}

/// Token counts as they are read.
///
/// The share of the prompt that a cache served goes by several names: `prompt_tokens_details` at OpenAI,
/// `prompt_cache_hit_tokens` at DeepSeek; what was written to one is `cache_creation_input_tokens` in LiteLLM
/// and `cache_write_tokens` at OpenRouter.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Counted {
    prompt_tokens: Option<Count>,
    completion_tokens: Option<Count>,
    prompt_tokens_details: Option<Prompt>,
    completion_tokens_details: Option<Completion>,
    prompt_cache_hit_tokens: Option<Count>,
    total_tokens: Option<Count>,
    #[serde(rename = "prompt_cache_miss_tokens")]
    _prompt_cache_miss_tokens: Silent,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Prompt {
    cached_tokens: Option<Count>,
    cache_creation_input_tokens: Option<Count>,
    cache_write_tokens: Option<Count>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Completion {
    reasoning_tokens: Option<Count>,
}

impl Counted {
    fn into_usage(self) -> Option<Usage> {
        let count = |count: Option<Count>| count.map(|Count(count)| count);
        let prompt = self.prompt_tokens_details.unwrap_or_default();
        let cache_read = count(prompt.cached_tokens.or(self.prompt_cache_hit_tokens));
        let cache_write = count(prompt.cache_creation_input_tokens.or(prompt.cache_write_tokens));
        let whole = count(self.prompt_tokens);
        // Some leave what was thought out of the answer and count it in the total alone.
        let beside = count(self.total_tokens).map(|total| total.saturating_sub(whole.unwrap_or(total)));
        let usage = Usage {
            input: whole.map(|prompt| {
                prompt
                    .saturating_sub(cache_read.unwrap_or(0))
                    .saturating_sub(cache_write.unwrap_or(0))
            }),
            cache_read,
            cache_write,
            cache_write_hour: None,
            output: count(self.completion_tokens).map(|written| written.max(beside.unwrap_or(0))),
            reasoning: count(
                self.completion_tokens_details
                    .unwrap_or_default()
                    .reasoning_tokens,
            ),
            search_units: None,
            tier: None,
        };
        (!usage.is_unknown()).then_some(usage)
    }
}

/// A call of a tool; in streams with its position, and without what was said before.
#[derive(Serialize)]
pub(super) struct ToolCall<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<Function<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    custom: Option<Custom<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cache_control: Option<CacheControl>,
    #[serde(flatten)]
    pub(super) extensions: Members<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    arguments: &'a str,
}

#[derive(Serialize)]
struct Custom<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    input: &'a str,
}

impl<'a> ToolCall<'a> {
    /// Returns a whole call, which is called `id` on the wire, of the tool that is called `name` there.
    pub(super) fn whole(call: &'a chat::ToolCall, id: &'a str, name: &'a str) -> Self {
        Self::piece(None, Some((id, name)), call.kind, &call.arguments)
    }

    /// Returns a piece of a streamed call: the first with its id and name, the others without.
    pub(super) fn piece(
        index: Option<usize>,
        head: Option<(&'a str, &'a str)>,
        kind: ToolKind,
        arguments: &'a str,
    ) -> Self {
        let (id, name) = head.unzip();
        let (word, function, custom) = match kind {
            ToolKind::Function => ("function", Some(Function { name, arguments }), None),
            ToolKind::Custom => {
                let input = arguments;
                ("custom", None, Some(Custom { name, input }))
            }
        };
        Self {
            index,
            id,
            kind: head.map(|_| word),
            function,
            custom,
            cache_control: None,
            extensions: Members::default(),
        }
    }
}

/// A mark after which the provider should cache.
#[derive(Serialize)]
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
            ttl: mark.ttl.map(chat::CacheTtl::as_str),
        }
    }
}

/// Members that only this format has, put back where they came from.
#[derive(Clone, Copy, Default)]
pub(super) struct Members<'a>([Option<&'a Extensions>; 2]);

impl<'a> Members<'a> {
    /// Returns these members and those of `more`.
    pub(super) fn and(self, more: &'a Extensions) -> Self {
        let Self([first, _]) = self;
        Self([first, Some(more)])
    }

    /// Returns whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    fn iter(&self) -> impl Iterator<Item = &'a Extension> {
        let all = self.0.into_iter().flatten();
        all.flat_map(|extensions| extensions.of(Format::OpenAi))
    }
}

impl<'a> From<&'a Extensions> for Members<'a> {
    fn from(extensions: &'a Extensions) -> Self {
        Self([Some(extensions), None])
    }
}

impl Serialize for Members<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for extension in self.iter() {
            map.serialize_entry(&extension.key, &extension.value)?;
        }
        map.end()
    }
}
