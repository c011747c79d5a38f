//! What servers of the format send, read as far as they agree on it.
//!
//! What differs in kind between servers stays raw here and is read where it is used.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::{note, reasoning, wire};
use crate::{
    Losses,
    chat::{Reasoned, Token},
    json::Path,
    unread::{self, Silent},
};

/// A chunk, or a whole reply.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Chunk<'a> {
    #[serde(borrow)]
    pub(super) id: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) model: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) created: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) object: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) usage: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) error: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) service_tier: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) choices: Option<Vec<Step<'a>>>,
    #[serde(rename = "system_fingerprint")]
    _system_fingerprint: Silent,
    #[serde(rename = "obfuscation")]
    _obfuscation: Silent,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Step<'a> {
    pub(super) index: Option<usize>,
    #[serde(borrow)]
    pub(super) delta: Option<Said<'a>>,
    #[serde(borrow)]
    pub(super) message: Option<Said<'a>>,
    #[serde(borrow)]
    pub(super) logprobs: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) finish_reason: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) stop_reason: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Said<'a> {
    #[serde(borrow)]
    pub(super) content: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) refusal: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) reasoning_content: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) reasoning: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) thinking_blocks: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) tool_calls: Option<Vec<Piece<'a>>>,
    #[serde(borrow)]
    pub(super) function_call: Option<Body<'a>>,
    #[serde(borrow)]
    pub(super) annotations: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) audio: Option<&'a RawValue>,
    #[serde(rename = "role")]
    _role: Silent,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Piece<'a> {
    pub(super) index: Option<usize>,
    #[serde(borrow)]
    pub(super) id: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) function: Option<Body<'a>>,
    #[serde(borrow)]
    pub(super) custom: Option<Body<'a>>,
    #[serde(rename = "type")]
    _type: Silent,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Body<'a> {
    #[serde(borrow)]
    pub(super) name: Option<&'a RawValue>,
    #[serde(borrow, alias = "input")]
    pub(super) arguments: Option<&'a RawValue>,
}

impl Chunk<'_> {
    /// Returns whether this is an error document in place of an answer.
    pub(super) fn is_error(&self) -> bool {
        self.error.is_some()
            || (self.choices.is_none() && self.object.is_some_and(|object| object.get() == r#""error""#))
    }
}

impl Said<'_> {
    /// Returns the reasoning in a message. Blocks and `reasoning_content` say the same text, but a stream may
    /// leave it to one of them; `reasoning` is what OpenRouter and vLLM call it.
    pub(super) fn thoughts(&self, path: &Path<'_>, losses: &mut Losses) -> Vec<Reasoned> {
        let blocks: Vec<&RawValue> = self
            .thinking_blocks
            .and_then(|raw| serde_json::from_str(raw.get()).ok())
            .unwrap_or_default();
        let list = path.key("thinking_blocks");
        let blocks = blocks.into_iter().enumerate();
        let mut blocks: Vec<Reasoned> = blocks
            .filter_map(|(index, raw)| reasoning::read_thinking(raw, &list.index(index), losses))
            .collect();
        if blocks.iter().any(|block| !block.text.is_empty()) {
            return blocks;
        }
        let spoken = [
            ("reasoning_content", self.reasoning_content),
            ("reasoning", self.reasoning),
        ];
        let mut spoken: Vec<Reasoned> = spoken
            .into_iter()
            .filter_map(|(key, raw)| Some(reasoning::read_reasoning(raw?, &path.key(key), losses)))
            .find(|spoken| spoken.iter().any(|piece| *piece != Reasoned::default()))
            .unwrap_or_default();
        spoken.append(&mut blocks);
        spoken
    }
}

/// Returns arguments as text; some servers send the object itself.
pub(super) fn arguments(raw: &RawValue) -> Cow<'_, str> {
    wire::text(raw).unwrap_or_else(|| Cow::Borrowed(raw.get()))
}

/// How likely the tokens of an answer were.
#[derive(Default)]
pub(super) struct Logprobs {
    pub(super) content: Vec<Token>,
    pub(super) refusal: Vec<Token>,
}

/// Reads log-probabilities.
pub(super) fn logprobs(raw: &RawValue, path: &Path<'_>, losses: &mut Losses) -> Logprobs {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Wire<'a> {
        #[serde(borrow)]
        content: Option<&'a RawValue>,
        #[serde(borrow)]
        refusal: Option<&'a RawValue>,
    }

    let wire: Wire<'_> = unread::read(raw.get(), path, losses).unwrap_or_default();
    let mut tokens = |key, raw: Option<&RawValue>| {
        raw.map(|raw| note::read_tokens(raw, &path.key(key), losses))
            .unwrap_or_default()
    };
    Logprobs {
        content: tokens("content", wire.content),
        refusal: tokens("refusal", wire.refusal),
    }
}
