//! Reasoning and its seals, in the shapes that servers and clients of the format have for them.
//!
//! OpenAI itself shows no reasoning in chat completions. `reasoning_content` with `thinking_blocks`, which
//! spread from LiteLLM, is what is written; whatever else is in use is read.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::wire::text;
use crate::{
    Format, Losses,
    chat::{Reasoned, Seal},
    json::{self, Path},
    unread::{self, Silent},
};

/// A piece of reasoning with its seal, as LiteLLM writes it.
#[derive(Serialize)]
pub(super) struct ThinkingBlock<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signature: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Cow<'a, str>>,
}

impl<'a> ThinkingBlock<'a> {
    /// Returns the block that says `text` and `seal`.
    pub(super) fn new(text: &'a str, seal: Option<&'a Seal>, redacted: bool) -> Self {
        let seal = seal.map(seal_text);
        if redacted {
            Self {
                kind: "redacted_thinking",
                thinking: None,
                signature: None,
                data: seal,
            }
        } else {
            Self {
                kind: "thinking",
                thinking: Some(text),
                signature: seal,
                data: None,
            }
        }
    }
}

impl ThinkingBlock<'_> {
    /// Returns whether the block carries a seal.
    pub(super) fn is_sealed(&self) -> bool {
        self.signature.is_some() || self.data.is_some()
    }
}

impl<'a> From<&'a Reasoned> for ThinkingBlock<'a> {
    fn from(reasoned: &'a Reasoned) -> Self {
        Self::new(&reasoned.text, reasoned.seal.as_ref(), reasoned.redacted)
    }
}

/// Reads one element of `thinking_blocks`, or a thinking part of a message's content. The text is called
/// `thinking` or `text`, withheld text `data` or `redactedContent`; `thinking` may be a list of text parts.
pub(super) fn read_thinking(raw: &RawValue, path: &Path<'_>, losses: &mut Losses) -> Option<Reasoned> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Wire<'a> {
        #[serde(borrow)]
        thinking: Option<&'a RawValue>,
        #[serde(borrow)]
        text: Option<&'a RawValue>,
        signature: Option<String>,
        data: Option<String>,
        #[serde(rename = "redactedContent")]
        redacted_content: Option<String>,
        #[serde(rename = "type")]
        _type: Silent,
        /// What is marked is read with the part that it is.
        #[serde(rename = "cache_control")]
        _cache_control: Silent,
        /// The position of the block, which servers of streams tell.
        #[serde(rename = "index")]
        _index: Silent,
    }

    let wire: Wire<'_> = unread::read(raw.get(), path, losses).ok()?;
    if let Some(data) = wire.data.or(wire.redacted_content) {
        return Some(redacted(&data));
    }
    let thinking = wire.thinking.map(|raw| ("thinking", raw));
    let thinking = thinking.or(wire.text.map(|raw| ("text", raw)));
    Some(Reasoned {
        text: thinking
            .map(|(key, raw)| read_texts(raw, &path.key(key), losses))
            .unwrap_or_default(),
        seal: read_signature(wire.signature),
        redacted: false,
    })
}

/// Reads `reasoning_content`: a string, `{text, signature, redactedContent}`, or the same in the
/// nesting that the compatibility specification tells of.
pub(super) fn read_reasoning(raw: &RawValue, path: &Path<'_>, losses: &mut Losses) -> Vec<Reasoned> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Wire<'a> {
        #[serde(borrow, rename = "reasoningContent")]
        inner: Option<&'a RawValue>,
        #[serde(borrow, rename = "reasoningText")]
        nested: Option<&'a RawValue>,
        text: Option<String>,
        signature: Option<String>,
        #[serde(rename = "redactedContent")]
        redacted_content: Option<String>,
    }

    if let Some(text) = text(raw) {
        return vec![Reasoned {
            text: text.into_owned(),
            ..Reasoned::default()
        }];
    }
    let Ok(wire) = unread::read::<Wire<'_>>(raw.get(), path, losses) else {
        return Vec::new();
    };
    if let Some(inner) = wire.inner {
        return read_reasoning(inner, &path.key("reasoningContent"), losses);
    }
    let mut found = Vec::new();
    let nested = wire.nested;
    found.extend(nested.and_then(|raw| read_thinking(raw, &path.key("reasoningText"), losses)));
    if wire.text.is_some() || wire.signature.is_some() {
        found.push(Reasoned {
            text: wire.text.unwrap_or_default(),
            seal: read_signature(wire.signature),
            redacted: false,
        });
    }
    found.extend(wire.redacted_content.as_deref().map(redacted));
    found
}

fn redacted(data: &str) -> Reasoned {
    Reasoned {
        text: String::new(),
        seal: Some(read_seal(data)),
        redacted: true,
    }
}

fn read_signature(signature: Option<String>) -> Option<Seal> {
    signature
        .filter(|signature| !signature.is_empty())
        .map(|signature| read_seal(&signature))
}

/// Returns the text of a string, or of the text parts of a list.
fn read_texts(raw: &RawValue, path: &Path<'_>, losses: &mut Losses) -> String {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Piece {
        text: String,
        #[serde(rename = "type")]
        _type: Silent,
    }
    match json::kind(raw) {
        json::Kind::Array => unread::read::<Vec<Piece>>(raw.get(), path, losses)
            .unwrap_or_default()
            .into_iter()
            .map(|piece| piece.text)
            .collect(),
        json::Kind::String
        | json::Kind::Number
        | json::Kind::Bool
        | json::Kind::Null
        | json::Kind::Object => text(raw).map(Cow::into_owned).unwrap_or_default(),
    }
}

/// Returns a seal as text. One that Anthropic issued stays as it is, as clients of this format know it from
/// LiteLLM; any other names its issuer.
pub(super) fn seal_text(seal: &Seal) -> Cow<'_, str> {
    match seal.issuer {
        Format::Messages => Cow::Borrowed(&seal.bytes),
        issuer => Cow::Owned(format!("{}:{}", issuer.name(), seal.bytes)),
    }
}

/// Reads what [`seal_text`] wrote.
pub(super) fn read_seal(text: &str) -> Seal {
    let named = text
        .split_once(':')
        .and_then(|(name, bytes)| Some((Format::parse(name)?, bytes)));
    let (issuer, bytes) = named.unwrap_or((Format::Messages, text));
    Seal {
        issuer,
        bytes: bytes.into(),
    }
}
