//! The words of the format and the shapes of its replies.

use std::borrow::Cow;

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::{
    ApiError, ErrorKind, Format, Losses, Severity, Tier, Usage,
    chat::{Extension, Extensions, Finish, FinishReason, Remark, Seal, fingerprint::fingerprint},
    json::{self, Object, Path},
    unread::{self, Silent},
};

/// Top-level members without a neutral counterpart whose loss changes what is asked for; the loss of any other
/// is a nuance.
const MATERIAL: &[&str] = &["cachedContent", "continuationToken"];

/// Objects of the document in which members lie that only this format has; their extensions are called
/// `generationConfig.mediaResolution` and the like.
pub(super) const CONFIG: &str = "generationConfig.";
/// See [`CONFIG`].
pub(super) const THINKING: &str = "generationConfig.thinkingConfig.";
/// See [`CONFIG`].
pub(super) const TOOLS: &str = "toolConfig.";
/// See [`CONFIG`].
pub(super) const CALLING: &str = "toolConfig.functionCallingConfig.";
/// See [`CONFIG`]; of a part.
pub(super) const FILE: &str = "fileData.";
/// See [`CONFIG`]; of a part.
pub(super) const BLOB: &str = "inlineData.";
/// See [`CONFIG`]; of a part.
pub(super) const CALL: &str = "functionCall.";
/// See [`CONFIG`]; of a part.
pub(super) const RESPONSE: &str = "functionResponse.";

const PREFIXES: &[&str] = &[CONFIG, THINKING, TOOLS, CALLING, FILE, BLOB, CALL, RESPONSE];

/// The finish reasons of the API reference and what they are called here, the writing one of each first.
const FINISH_REASONS: &[(&str, FinishReason)] = &[
    ("STOP", FinishReason::Stop),
    ("MAX_TOKENS", FinishReason::Length),
    ("SAFETY", FinishReason::ContentFilter),
    ("RECITATION", FinishReason::ContentFilter),
    ("LANGUAGE", FinishReason::ContentFilter),
    ("BLOCKLIST", FinishReason::ContentFilter),
    ("PROHIBITED_CONTENT", FinishReason::ContentFilter),
    ("SPII", FinishReason::ContentFilter),
    ("IMAGE_SAFETY", FinishReason::ContentFilter),
    ("IMAGE_PROHIBITED_CONTENT", FinishReason::ContentFilter),
    ("IMAGE_RECITATION", FinishReason::ContentFilter),
    ("MODEL_ARMOR", FinishReason::ContentFilter),
    ("ESCALATION", FinishReason::ContentFilter),
    ("PUP_LIMITED_DISABLED", FinishReason::ContentFilter),
    ("CONTINUATION", FinishReason::Pause),
    ("MALFORMED_FUNCTION_CALL", FinishReason::Stop),
    ("UNEXPECTED_TOOL_CALL", FinishReason::Stop),
    ("TOO_MANY_TOOL_CALLS", FinishReason::Stop),
    ("MISSING_THOUGHT_SIGNATURE", FinishReason::Stop),
    ("MALFORMED_RESPONSE", FinishReason::Stop),
    ("NO_IMAGE", FinishReason::Stop),
    ("IMAGE_OTHER", FinishReason::Stop),
    ("OTHER", FinishReason::Stop),
];

/// The status words of Google's APIs (google.rpc.Code) and what they are called here, the most usual first.
const STATUSES: &[(&str, ErrorKind)] = &[
    ("INVALID_ARGUMENT", ErrorKind::InvalidRequest),
    ("INVALID_ARGUMENT", ErrorKind::Unprocessable),
    ("INVALID_ARGUMENT", ErrorKind::TooLarge),
    ("OUT_OF_RANGE", ErrorKind::InvalidRequest),
    ("FAILED_PRECONDITION", ErrorKind::InvalidRequest),
    ("FAILED_PRECONDITION", ErrorKind::Billing),
    ("ALREADY_EXISTS", ErrorKind::InvalidRequest),
    ("UNAUTHENTICATED", ErrorKind::Authentication),
    ("PERMISSION_DENIED", ErrorKind::Permission),
    ("NOT_FOUND", ErrorKind::NotFound),
    ("UNIMPLEMENTED", ErrorKind::MethodNotAllowed),
    ("RESOURCE_EXHAUSTED", ErrorKind::RateLimit),
    ("INTERNAL", ErrorKind::Internal),
    ("UNKNOWN", ErrorKind::Internal),
    ("DATA_LOSS", ErrorKind::Internal),
    ("ABORTED", ErrorKind::Unavailable),
    ("CANCELLED", ErrorKind::Unavailable),
    ("UNAVAILABLE", ErrorKind::Unavailable),
    ("UNAVAILABLE", ErrorKind::BadUpstream),
    ("UNAVAILABLE", ErrorKind::BadReply),
    ("UNAVAILABLE", ErrorKind::Overloaded),
    ("DEADLINE_EXCEEDED", ErrorKind::Timeout),
];

/// What the id of a call begins with that was made up here.
const MADE_UP: &str = "call_gemini_";

/// Returns the member name `key` as this format writes it: `top_p` is `topP`.
pub(super) fn camel(key: Cow<'_, str>) -> Cow<'_, str> {
    if !key.contains('_') {
        return key;
    }
    let mut upper = false;
    let mut camel = String::with_capacity(key.len());
    for char in key.chars() {
        if char == '_' && !camel.is_empty() {
            upper = true;
        } else if upper {
            camel.push(char.to_ascii_uppercase());
            upper = false;
        } else {
            camel.push(char);
        }
    }
    Cow::Owned(camel)
}

/// Reads the object in `raw`, which lies at `path`, with its members in this format's spelling.
///
/// # Errors
/// A 400 that names `path`.
pub(super) fn object<'a>(raw: &'a RawValue, path: &Path<'_>) -> Result<Object<'a>, ApiError> {
    Object::parse(raw, path)?.renamed(path, camel)
}

/// Returns the members that are left in `object` as extensions, their names behind `prefix`.
pub(super) fn extensions(
    object: Object<'_>,
    prefix: &str,
    severity: impl Fn(&str) -> Severity,
) -> Extensions {
    let extension = |(key, value): (Cow<'_, str>, &RawValue)| Extension {
        format: Format::Gemini,
        severity: severity(&key),
        key: format!("{prefix}{key}"),
        value: value.to_owned(),
    };
    let mut extensions: Vec<Extension> = object.rest().map(extension).collect();
    extensions.sort_by(|one, other| one.key.cmp(&other.key));
    Extensions(extensions)
}

/// Returns what losing the top-level member `key` amounts to.
pub(super) fn severity(key: &str) -> Severity {
    if MATERIAL.contains(&key) {
        Severity::Material
    } else {
        Severity::Advisory
    }
}

/// Members of an object that is being written; those that only this format has are put over the others.
#[derive(Debug, Default)]
pub(super) struct Fields(Vec<(Cow<'static, str>, Box<RawValue>)>);

impl Fields {
    /// Puts `value` under `key`, unless there is none.
    pub(super) fn put<T: Serialize>(&mut self, key: &'static str, value: Option<T>) {
        if let Some(value) = value {
            self.0.push((Cow::Borrowed(key), json::raw(&value)));
        }
    }

    /// Puts what `extensions` hold for the object behind `prefix`.
    pub(super) fn extend(&mut self, extensions: &Extensions, prefix: &str) {
        for (key, value) in of(extensions, prefix) {
            self.0.retain(|(known, _)| known != key);
            self.0.push((Cow::Owned(key.to_owned()), value.to_owned()));
        }
    }

    /// Returns the object, unless it has no members.
    pub(super) fn unless_empty(self) -> Option<Self> {
        (!self.0.is_empty()).then_some(self)
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

/// Members that only this format has, of the object behind a prefix, as the client wrote them.
pub(super) struct Members<'a> {
    pub(super) extensions: &'a Extensions,
    pub(super) prefix: &'static str,
}

impl Serialize for Members<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(of(self.extensions, self.prefix))
    }
}

fn of<'a>(extensions: &'a Extensions, prefix: &str) -> impl Iterator<Item = (&'a str, &'a RawValue)> {
    extensions.of(Format::Gemini).filter_map(move |extension| {
        let deeper = PREFIXES
            .iter()
            .any(|nested| nested.len() > prefix.len() && extension.key.starts_with(nested));
        let key = extension.key.strip_prefix(prefix)?;
        (!deeper).then_some((key, &*extension.value))
    })
}

/// A number with the precision that the provider keeps, in its shortest form.
#[derive(Clone, Copy, Debug)]
pub(super) struct Single(pub(super) f64);

impl Serialize for Single {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let single = self.0 as f32;
        // Whole numbers of this size are exact in either type.
        if single.fract() == 0.0 && single.abs() < 16_777_216.0 {
            serializer.serialize_i64(single as i64)
        } else {
            serializer.serialize_f32(single)
        }
    }
}

/// Returns what `word`, a finish reason, is called here; `calls` tells that the model called tools, which this
/// format does not count as a reason.
pub(super) fn finish(word: &str, calls: bool) -> Finish {
    let known = FINISH_REASONS.iter().find(|(name, _)| *name == word);
    let reason = match known.map_or(FinishReason::Stop, |(_, reason)| *reason) {
        FinishReason::Stop if calls => FinishReason::ToolCalls,
        reason => reason,
    };
    Finish {
        reason,
        raw: Some(word.to_owned()),
        stop_sequence: None,
        remarks: Vec::new(),
    }
}

/// Returns how an answer ended that was never begun, because the prompt was blocked for the reason `word`.
pub(super) fn blocked(word: &str) -> Finish {
    Finish {
        reason: FinishReason::ContentFilter,
        raw: Some(word.to_owned()),
        stop_sequence: None,
        remarks: Vec::new(),
    }
}

/// Returns the finish reason that says `finish`.
pub(super) fn finish_reason(finish: &Finish) -> &'static str {
    let own = finish.raw.as_deref();
    if let Some((own, _)) = FINISH_REASONS.iter().find(|(name, _)| own == Some(name)) {
        return own;
    }
    match finish.reason {
        FinishReason::Stop | FinishReason::StopSequence | FinishReason::ToolCalls => "STOP",
        FinishReason::Length | FinishReason::ContextWindow => "MAX_TOKENS",
        FinishReason::ContentFilter | FinishReason::Refusal => "SAFETY",
        FinishReason::Pause => "OTHER",
    }
}

/// What is said about an answer beside the answer, by the name that it has in the format.
pub(super) fn remarks(candidate: &Candidate<'_>) -> Vec<Remark> {
    let told = [
        (candidate.safety_ratings, "safetyRatings"),
        (candidate.grounding_metadata, "groundingMetadata"),
        (candidate.citation_metadata, "citationMetadata"),
        (candidate.url_context_metadata, "urlContextMetadata"),
    ];
    let said = told.into_iter().filter_map(|(value, key)| Some((value?, key)));
    said.filter(|(value, _)| !matches!(value.get(), "[]" | "{}" | "null"))
        .filter_map(|(value, key)| {
            Some(Remark {
                format: Format::Gemini,
                key,
                // The same, however the provider sets its spaces.
                value: RawValue::from_string(json::compact(value)).ok()?,
            })
        })
        .collect()
}

/// What is said about an answer in words of this format, as members of the answer.
pub(super) struct Own<'a>(pub(super) &'a [Remark]);

impl Serialize for Own<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let own = self.0.iter().filter(|remark| remark.format == Format::Gemini);
        serializer.collect_map(own.map(|remark| (remark.key, &remark.value)))
    }
}

/// Returns the status word that says `kind`.
pub(super) fn status(kind: ErrorKind) -> &'static str {
    let known = STATUSES.iter().find(|(_, known)| *known == kind);
    known.map_or("UNKNOWN", |(word, _)| word)
}

/// Returns the kind of error that the status word `word` stands for.
pub(super) fn error_kind(word: &str) -> Option<ErrorKind> {
    let known = STATUSES.iter().find(|(name, _)| *name == word);
    known.map(|(_, kind)| *kind)
}

/// Returns `seal` as a thought signature. One of another issuer names it, in base64 as all signatures are.
pub(super) fn signature(seal: &Seal) -> Cow<'_, str> {
    match seal.issuer {
        Format::Gemini => Cow::Borrowed(&seal.bytes),
        Format::OpenAi | Format::Messages | Format::Responses | Format::Converse | Format::Cohere => {
            Cow::Owned(STANDARD.encode(format!("{}:{}", seal.issuer.name(), seal.bytes)))
        }
    }
}

/// Reads what [`signature`] wrote, or the provider's own; nothing is no seal.
pub(super) fn seal(signature: &str) -> Option<Seal> {
    if signature.is_empty() {
        return None;
    }
    let named = STANDARD.decode(&*base64(signature)).ok();
    let named = named.and_then(|bytes| {
        let (issuer, rest) = bytes.split_at_checked(bytes.iter().position(|byte| *byte == b':')?)?;
        let issuer = Format::parse(std::str::from_utf8(issuer).ok()?)?;
        let bytes = std::str::from_utf8(rest.get(1..)?).ok()?;
        Some(Seal {
            issuer,
            bytes: bytes.into(),
        })
    });
    Some(named.unwrap_or_else(|| Seal {
        issuer: Format::Gemini,
        bytes: signature.into(),
    }))
}

/// Returns `text` in the standard alphabet of base64 with padding. Google's libraries write the alphabet for
/// addresses, which the JSON form of protocol buffers allows.
pub(super) fn base64(text: &str) -> Cow<'_, str> {
    let standard = |text: &str| !text.contains(['-', '_']) && text.len().is_multiple_of(4);
    if standard(text) {
        return Cow::Borrowed(text);
    }
    let digits = text.trim_end_matches('=').replace('-', "+").replace('_', "/");
    match STANDARD_NO_PAD.decode(&digits) {
        Ok(bytes) => Cow::Owned(STANDARD.encode(bytes)),
        Err(_) => Cow::Borrowed(text),
    }
}

/// Returns an id for a call that has none: the same whenever it is made of the same `words`.
pub(super) fn call_id(words: &[&str]) -> String {
    format!("{MADE_UP}{:016x}", fingerprint(words))
}

/// Returns the id of a call as the provider knows it; `None` if it was made up here.
pub(super) fn known_id(id: &str) -> Option<&str> {
    (!id.is_empty() && !id.starts_with(MADE_UP)).then_some(id)
}

/// Returns `name` as names of functions must be: up to 64 letters of a few kinds, the first no digit and no
/// sign. Unchanged where it fits; different names stay different.
pub(super) fn tool_name(name: &str) -> Cow<'_, str> {
    const LIMIT: usize = 64;
    let fits = |char: char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-' | '.' | ':');
    let begins = |char: char| char.is_ascii_alphabetic() || char == '_';
    if name.starts_with(begins) && name.len() <= LIMIT && name.chars().all(fits) {
        return Cow::Borrowed(name);
    }
    let mark = format!("_{:08x}", fingerprint(&[name]) as u32);
    let first = if name.starts_with(begins) { "" } else { "_" };
    let letters = name.chars().map(|char| if fits(char) { char } else { '_' });
    let kept = first.chars().chain(letters).take(LIMIT - mark.len());
    Cow::Owned(kept.chain(mark.chars()).collect())
}

/// Token counts as they are read. The prompt's include what was read from a cache, but not what the provider's
/// own tools added.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Counts<'a> {
    prompt_token_count: Option<u64>,
    cached_content_token_count: Option<u64>,
    tool_use_prompt_token_count: Option<u64>,
    candidates_token_count: Option<u64>,
    thoughts_token_count: Option<u64>,
    // Sums, and what they are made of.
    #[serde(rename = "cacheTokensDetails")]
    _cache_tokens_details: Silent,
    #[serde(rename = "candidatesTokensDetails")]
    _candidates_tokens_details: Silent,
    #[serde(rename = "promptTokensDetails")]
    _prompt_tokens_details: Silent,
    #[serde(rename = "toolUsePromptTokensDetails")]
    _tool_use_prompt_tokens_details: Silent,
    #[serde(rename = "totalTokenCount")]
    _total_token_count: Silent,
    #[serde(borrow)]
    service_tier: Option<&'a RawValue>,
    #[serde(borrow)]
    traffic_type: Option<&'a RawValue>,
    /// What these two say: Gemini's API has the one, Vertex AI the other.
    #[serde(skip)]
    tier: Option<Tier>,
}

impl From<&Counts<'_>> for Usage {
    fn from(counts: &Counts<'_>) -> Self {
        let sum = |one: Option<u64>, other: Option<u64>| match (one, other) {
            (None, None) => None,
            (one, other) => Some(one.unwrap_or(0).saturating_add(other.unwrap_or(0))),
        };
        let cached = counts.cached_content_token_count;
        let prompt = sum(counts.prompt_token_count, counts.tool_use_prompt_token_count);
        Usage {
            input: prompt.map(|prompt| prompt.saturating_sub(cached.unwrap_or(0))),
            cache_read: cached,
            cache_write: None,
            cache_write_hour: None,
            output: sum(counts.candidates_token_count, counts.thoughts_token_count),
            reasoning: counts.thoughts_token_count,
            search_units: None,
            tier: counts.tier,
        }
    }
}

/// The words for tiers of service in the Gemini API ("Flex inference" and "Priority inference").
const SERVICE_TIERS: &[(Tier, &str)] = &[
    (Tier::Default, "standard"),
    (Tier::Flex, "flex"),
    (Tier::Priority, "priority"),
];

/// Those of Vertex AI, which says what was paid for ahead of time, too (`TrafficType`, API reference).
pub(super) const TRAFFIC_TYPES: &[(Tier, &str)] = &[
    (Tier::Default, "ON_DEMAND"),
    (Tier::Flex, "ON_DEMAND_FLEX"),
    (Tier::Priority, "ON_DEMAND_PRIORITY"),
    (Tier::Scale, "PROVISIONED_THROUGHPUT"),
    (Tier::Reserved, "PROVISIONED_THROUGHPUT"),
];

/// Token counts as they are written.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Totals {
    prompt_token_count: u64,
    candidates_token_count: u64,
    total_token_count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cached_content_token_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thoughts_token_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traffic_type: Option<&'static str>,
}

impl From<&Usage> for Totals {
    fn from(usage: &Usage) -> Self {
        let thoughts = usage.reasoning.unwrap_or(0);
        Self {
            prompt_token_count: usage.prompt(),
            candidates_token_count: usage.output.unwrap_or(0).saturating_sub(thoughts),
            total_token_count: usage.total(),
            cached_content_token_count: usage.cache_read,
            thoughts_token_count: usage.reasoning,
            service_tier: usage.tier_among(SERVICE_TIERS),
            traffic_type: usage.tier_among(TRAFFIC_TYPES),
        }
    }
}

/// A reply as it is read, whole or one chunk of a stream.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Reply<'a> {
    #[serde(borrow)]
    pub(super) candidates: Option<Vec<Candidate<'a>>>,
    pub(super) prompt_feedback: Option<PromptFeedback>,
    #[serde(borrow)]
    pub(super) usage_metadata: Option<&'a RawValue>,
    pub(super) model_version: Option<String>,
    pub(super) response_id: Option<String>,
    pub(super) create_time: Option<String>,
    #[serde(borrow)]
    pub(super) error: Option<&'a RawValue>,
}

/// What is said of a prompt.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PromptFeedback {
    pub(super) block_reason: Option<String>,
}

/// One answer as it is read.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Candidate<'a> {
    #[serde(borrow)]
    pub(super) content: Option<Content<'a>>,
    pub(super) finish_reason: Option<String>,
    pub(super) index: Option<u64>,
    #[serde(borrow)]
    pub(super) safety_ratings: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) grounding_metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) citation_metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) url_context_metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) logprobs_result: Option<&'a RawValue>,
    #[serde(rename = "avgLogprobs")]
    _avg_logprobs: Silent,
    #[serde(rename = "tokenCount")]
    _token_count: Silent,
}

/// What an answer says, as it is read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Content<'a> {
    #[serde(borrow)]
    pub(super) parts: Option<Vec<Part<'a>>>,
    #[serde(rename = "role")]
    _role: Silent,
}

/// A part of an answer as it is read; which members count depends on which there are.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Part<'a> {
    pub(super) text: Option<String>,
    pub(super) thought: Option<bool>,
    pub(super) thought_signature: Option<String>,
    #[serde(borrow)]
    pub(super) function_call: Option<FunctionCall<'a>>,
    pub(super) inline_data: Option<Blob>,
    #[serde(borrow)]
    pub(super) file_data: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) executable_code: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) code_execution_result: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) tool_call: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) tool_response: Option<&'a RawValue>,
}

/// A call as it is read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct FunctionCall<'a> {
    pub(super) id: Option<String>,
    pub(super) name: Option<String>,
    #[serde(borrow)]
    pub(super) args: Option<&'a RawValue>,
}

/// Bytes as they are read.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Blob {
    pub(super) mime_type: Option<String>,
    pub(super) data: Option<String>,
}

/// Reads counts; those that cannot be read must not cost the client its answer.
pub(super) fn counts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Counts<'de>>, D::Error> {
    let raw = <&RawValue>::deserialize(deserializer)?;
    Ok(serde_json::from_str::<Option<Counts<'_>>>(raw.get())
        .ok()
        .flatten())
}

/// Reads the counts at `path` likewise, and hears of those that have no name here.
pub(super) fn hear_counts<'a>(
    raw: Option<&'a RawValue>,
    path: &Path<'_>,
    losses: &mut Losses,
) -> Option<Counts<'a>> {
    let counts: Option<Counts<'_>> = unread::read(raw?.get(), path, losses).ok()?;
    let mut counts = counts?;
    let tier = Tier::hear(counts.service_tier, &path.key("serviceTier"), losses);
    let traffic = Tier::hear(counts.traffic_type, &path.key("trafficType"), losses);
    counts.tier = tier.or(traffic);
    Some(counts)
}

/// Returns the seconds since the Unix epoch at `time` (RFC 3339, always in UTC here); `None` if it is written
/// otherwise.
pub(super) fn seconds(time: &str) -> Option<u64> {
    let number = |from: usize, to: usize| time.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    if !time.ends_with('Z') || !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || day == 0 {
        return None;
    }
    // Years are counted from March, so that the leap day is a year's last.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leaps = year / 4 - year / 100 + year / 400;
    let days = 365 * year + leaps + (153 * month + 2) / 5 + day - 1;
    let days = days.checked_sub(719_468)?;
    Some(days * 86_400 + number(11, 13)? * 3_600 + number(14, 16)? * 60 + number(17, 19)?)
}
