//! Tokens, counted one way for all providers.
//!
//! Providers disagree on whether the prompt count includes cached tokens (OpenAI: yes, Anthropic: no). Here
//! the three input counts exclude one another, so that nothing is counted twice; formats convert.

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::{Field, Losses, json::Path};

/// Token counts of one exchange. Absolute, not increments; a count never reported is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Prompt tokens that were neither read from nor written to a cache.
    pub input: Option<u64>,
    /// Prompt tokens read from a cache.
    pub cache_read: Option<u64>,
    /// Prompt tokens written to a cache.
    pub cache_write: Option<u64>,
    /// The share of `cache_write` that is kept for an hour and not for minutes, where the provider tells them apart.
    pub cache_write_hour: Option<u64>,
    /// Generated tokens, reasoning included.
    pub output: Option<u64>,
    /// The share of `output` that was reasoning.
    pub reasoning: Option<u64>,
    /// What a search cost, in the provider's units, where documents were put in order; no tokens.
    pub search_units: Option<u64>,
    /// The tier of service at which all of them were served.
    pub tier: Option<Tier>,
}

/// A tier of service, in the words of all providers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tier {
    /// What whoever asks for nothing else gets; `standard` at Anthropic.
    Default,
    /// Cheaper, and as there is room.
    Flex,
    /// Before others.
    Priority,
    /// What was paid for ahead of time, at OpenAI.
    Scale,
    /// What was paid for ahead of time, at Bedrock.
    Reserved,
    /// Hours later.
    Batch,
}

/// How much of an answer was said, for those that nobody counts to their end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Said {
    pieces: u64,
    bytes: u64,
    /// The length of the shortest frame, which is about what frames have around what they say.
    envelope: Option<u64>,
}

impl Said {
    /// Notes a piece of text.
    pub(crate) fn text(&mut self, text: &str) {
        self.pieces += 1;
        self.bytes += text.len() as u64;
    }

    /// Notes a frame of `bytes` with a piece in it.
    pub(crate) fn frame(&mut self, bytes: usize) {
        let bytes = bytes as u64;
        self.pieces += 1;
        self.bytes += bytes;
        self.envelope = Some(self.envelope.map_or(bytes, |known| known.min(bytes)));
    }

    /// Returns about how many tokens that was: one for each piece, which is how most providers stream, or more
    /// where pieces are longer.
    pub fn tokens(&self) -> u64 {
        let around = self.envelope.unwrap_or(0).saturating_mul(self.pieces);
        let text = self.bytes.saturating_sub(around);
        self.pieces.max(text.div_ceil(BYTES_PER_TOKEN))
    }
}

/// What prose and code have, about.
pub(crate) const BYTES_PER_TOKEN: u64 = 4;

impl Usage {
    /// Takes over every count that `later` reports; the others stay.
    pub fn merge(&mut self, later: &Usage) {
        fn take(count: &mut Option<u64>, later: Option<u64>) {
            if later.is_some() {
                *count = later;
            }
        }
        take(&mut self.input, later.input);
        take(&mut self.cache_read, later.cache_read);
        take(&mut self.cache_write, later.cache_write);
        take(&mut self.cache_write_hour, later.cache_write_hour);
        take(&mut self.output, later.output);
        take(&mut self.reasoning, later.reasoning);
        take(&mut self.search_units, later.search_units);
        self.tier = later.tier.or(self.tier);
    }

    /// Returns the word for the tier of service, among those that a client's format has.
    pub(crate) fn tier_among(&self, words: &[(Tier, &'static str)]) -> Option<&'static str> {
        let (_, word) = words.iter().find(|(known, _)| Some(*known) == self.tier)?;
        Some(*word)
    }

    /// Records what is not told to a client whose format has these words for tiers and counts all that is written to
    /// a cache together, unless it `tells_lifetimes`. That there is no word for the ordinary tier says nothing.
    pub(crate) fn lose(&self, words: &[(Tier, &'static str)], tells_lifetimes: bool, losses: &mut Losses) {
        let untold = self.tier.filter(|_| self.tier_among(words).is_none());
        if let Some(tier) = untold.filter(|tier| *tier != Tier::Default) {
            let reason = format!("the client's format has no word for the tier {}", tier.as_str());
            losses.advisory(Field::Reply("service_tier"), reason);
        }
        if !tells_lifetimes && self.cache_write_hour.is_some_and(|tokens| tokens > 0) {
            let reason =
                "the client's format does not tell for how long is cached what was written to a cache";
            losses.advisory(Field::Reply("cache_creation"), reason);
        }
    }

    /// Returns the whole prompt: fresh, read from cache and written to cache. An upstream may count what it likes: what is
    /// beyond all numbers is the largest of them.
    pub fn prompt(&self) -> u64 {
        let parts = [self.input, self.cache_read, self.cache_write];
        parts.into_iter().flatten().fold(0, u64::saturating_add)
    }

    /// Returns prompt plus output.
    pub fn total(&self) -> u64 {
        self.prompt().saturating_add(self.output.unwrap_or(0))
    }

    /// Returns whether no count of tokens was ever reported.
    pub fn is_unknown(&self) -> bool {
        let counts = Usage {
            search_units: None,
            tier: None,
            ..*self
        };
        counts == Usage::default()
    }
}

impl Tier {
    /// Returns the word that OpenAI and AWS have for it, or would.
    pub fn as_str(self) -> &'static str {
        match self {
            Tier::Default => "default",
            Tier::Flex => "flex",
            Tier::Priority => "priority",
            Tier::Scale => "scale",
            Tier::Reserved => "reserved",
            Tier::Batch => "batch",
        }
    }

    /// Returns the tier that `raw`, a member of a reply at `path`, names; what is not known is a loss.
    pub(crate) fn hear(raw: Option<&RawValue>, path: &Path<'_>, losses: &mut Losses) -> Option<Self> {
        /// A reply that has only begun repeats what was asked for.
        const UNDECIDED: &[&str] = &["\"auto\"", "\"unspecified\"", "\"TRAFFIC_TYPE_UNSPECIFIED\""];

        let raw = raw?;
        let known = Tier::overhear(raw);
        if known.is_none() && !UNDECIDED.contains(&raw.get()) {
            losses.unread(path);
        }
        known
    }

    /// Returns the tier that `raw`, a member of a reply, names, if it is known.
    pub(crate) fn overhear(raw: &RawValue) -> Option<Self> {
        const ALL: &[(&str, Tier)] = &[
            ("\"default\"", Tier::Default),
            ("\"standard\"", Tier::Default),
            ("\"on_demand\"", Tier::Default),
            ("\"ON_DEMAND\"", Tier::Default),
            ("\"flex\"", Tier::Flex),
            ("\"ON_DEMAND_FLEX\"", Tier::Flex),
            ("\"priority\"", Tier::Priority),
            ("\"ON_DEMAND_PRIORITY\"", Tier::Priority),
            ("\"scale\"", Tier::Scale),
            ("\"PROVISIONED_THROUGHPUT\"", Tier::Scale),
            ("\"reserved\"", Tier::Reserved),
            ("\"batch\"", Tier::Batch),
        ];

        let known = ALL.iter().find(|(word, _)| *word == raw.get());
        known.map(|(_, tier)| *tier)
    }
}

/// A token count as it is read; some servers write a decimal number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Count(pub(crate) u64);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The cast saturates: a negative count is none.
        f64::deserialize(deserializer).map(|count| Count(count as u64))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{Format, Observed, frame::Frame};

    /// Streams `words` between what else a format has in its streams, and counts what was said by the end.
    #[track_caller]
    fn check(format: Format, before: &[Value], word: impl Fn(&str) -> Value, after: &[Value]) {
        let words = ["a", "b", "c", "d", "e", &"long ".repeat(80)];
        let said = words.iter().map(|text| word(text));
        let frames: Vec<Value> = before
            .iter()
            .cloned()
            .chain(said)
            .chain(after.iter().cloned())
            .collect();
        let upstream = format.upstream().expect("an upstream half");
        let (mut listener, mut observed) = (upstream.listen_stream(false), Observed::default());
        for frame in frames {
            // What is no JSON is said as it is.
            let data = frame.as_str().map_or_else(|| frame.to_string(), str::to_owned);
            let frame = Frame {
                event: None,
                data: &data,
            };
            listener.frame(frame, &mut observed);
        }
        assert_eq!(observed.said.tokens(), 100, "{format:?}");
    }

    /// The frames around an answer are shorter or longer than those with words in them, and say nothing.
    #[test]
    fn what_is_said_is_told_from_what_is_around_it() {
        let chunk = |delta: Value, finish: Value| json!({ "model": "m", "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }] });
        check(
            Format::OpenAi,
            &[chunk(json!({ "role": "assistant", "content": "" }), json!(null))],
            |word| chunk(json!({ "content": word }), json!(null)),
            &[chunk(json!({}), json!("stop")), json!("[DONE]")],
        );
        check(
            Format::Messages,
            &[
                json!({ "type": "message_start", "message": { "model": "m" } }),
                json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" } }),
            ],
            |word| {
                let delta = json!({ "type": "text_delta", "text": word });
                json!({ "type": "content_block_delta", "index": 0, "delta": delta })
            },
            &[
                json!({ "type": "ping" }),
                json!({ "type": "content_block_stop", "index": 0 }),
                json!({ "type": "message_stop" }),
            ],
        );
        let whole = "the whole text again ".repeat(100);
        check(
            Format::Responses,
            &[json!({ "type": "response.created", "response": { "model": "m" } })],
            |word| json!({ "type": "response.output_text.delta", "item_id": "msg_1", "delta": word }),
            &[
                json!({ "type": "response.output_text.done", "text": whole }),
                json!({ "type": "response.completed", "response": {} }),
            ],
        );
        let reply = |content: Value, finish: Value| {
            let candidate = json!({ "index": 0, "content": content, "finishReason": finish });
            json!({ "modelVersion": "m", "candidates": [candidate] })
        };
        check(
            Format::Gemini,
            &[],
            |word| reply(json!({ "parts": [{ "text": word }] }), json!(null)),
            &[reply(json!({}), json!("STOP"))],
        );
    }

    #[test]
    fn what_is_beyond_all_numbers_is_the_largest() {
        let usage = Usage {
            input: Some(u64::MAX),
            cache_read: Some(1),
            output: Some(u64::MAX),
            ..Usage::default()
        };
        assert_eq!((usage.prompt(), usage.total()), (u64::MAX, u64::MAX));
    }
}
