//! Writes a streamed answer as chunks.
//!
//! Everything that all chunks share is written once, when the answer begins; an event then costs a copy of
//! that and its own text.

use std::{borrow::Cow, collections::BTreeMap};

use bytes::{BufMut, BytesMut};
use serde::Serialize;
use serde_json::value::RawValue;

use super::super::{
    error,
    note::Annotation,
    reasoning::ThinkingBlock,
    wire::{self, Counts, Logprobs, Remarks, Shown, ToolCall},
};
use crate::{
    Field, Losses, Usage,
    chat::{
        Citation, Delta, EncodeStream, Event, Finish, Head, PartHead, StreamOptions, Token, ToolKind,
        citation, note::Notes,
    },
};

/// A comment, which no reader hands on (WHATWG HTML, section 9.2.6).
pub(in super::super) const KEEP_ALIVE: &[u8] = b": keep-alive\n\n";

/// Writes one streamed answer.
pub(in super::super) struct Encoder {
    include_usage: bool,
    usage: Usage,
    /// `data: {…` up to where `choices` follows.
    prefix: Vec<u8>,
    parts: Vec<Option<Part>>,
    /// What is noted about open parts and not told yet: tokens of text that follows, citations of whole texts.
    notes: BTreeMap<usize, Notes>,
    choices: BTreeMap<usize, Choice>,
}

/// What is known of a part.
#[derive(Clone, Copy)]
struct Part {
    choice: usize,
    kind: Kind,
    /// How many characters of the answer's content come before it.
    start: usize,
}

#[derive(Clone, Copy)]
enum Kind {
    Text,
    Reasoning { redacted: bool },
    ToolCall { index: usize, kind: ToolKind },
    Refusal,
}

/// What is known of an answer.
#[derive(Clone, Copy, Default)]
struct Choice {
    begun: bool,
    calls: usize,
    /// How many characters its content has.
    said: usize,
}

impl Encoder {
    /// Returns a writer that reports usage if `stream` asks for it.
    pub(in super::super) fn new(stream: StreamOptions) -> Self {
        Self {
            include_usage: stream.include_usage,
            usage: Usage::default(),
            prefix: Vec::new(),
            parts: Vec::new(),
            notes: BTreeMap::new(),
            choices: BTreeMap::new(),
        }
    }

    fn start(&mut self, head: &Head) {
        #[derive(Serialize)]
        struct Shared<'a> {
            id: &'a str,
            object: &'static str,
            created: u64,
            model: &'a str,
        }
        let shared = serde_json::to_vec(&Shared {
            id: &head.id,
            object: "chat.completion.chunk",
            created: head.created.unwrap_or(0),
            model: &head.model,
        });
        self.prefix = b"data: ".to_vec();
        self.prefix.extend_from_slice(&shared.unwrap_or_default());
        self.prefix.pop();
    }

    fn open(
        &mut self,
        index: usize,
        choice: usize,
        head: &PartHead,
        out: &mut BytesMut,
        losses: &mut Losses,
    ) {
        if self.parts.len() <= index {
            self.parts.resize(index + 1, None);
        }
        let kind = match head {
            PartHead::Text => Kind::Text,
            PartHead::Refusal => Kind::Refusal,
            PartHead::Reasoning { redacted } => Kind::Reasoning { redacted: *redacted },
            PartHead::ToolCall { id, name, kind } => {
                let state = self.choice(choice);
                let index = state.calls;
                state.calls += 1;
                let call = ToolCall::piece(Some(index), Some((id, name)), *kind, "");
                self.delta(choice, Said::tool_call(call), out);
                Kind::ToolCall { index, kind: *kind }
            }
            PartHead::Media(media) => {
                if let Some(shown) = Shown::new(media, losses) {
                    let said = Said {
                        images: Some([shown]),
                        ..Said::default()
                    };
                    self.delta(choice, said, out);
                }
                return;
            }
        };
        let start = self.choice(choice).said;
        if let Some(part) = self.parts.get_mut(index) {
            *part = Some(Part { choice, kind, start });
        }
    }

    fn more(&mut self, index: usize, part: Part, delta: &Delta, out: &mut BytesMut, losses: &mut Losses) {
        let said = match (part.kind, delta) {
            (Kind::Text, Delta::Text(text)) => {
                self.choice(part.choice).said += text.chars().count();
                let tokens = self.take_tokens(index);
                let said = Said {
                    content: Some(text),
                    ..Said::default()
                };
                let logprobs = Logprobs::new(tokens.into(), Cow::default());
                return self.say(part.choice, said, logprobs, out);
            }
            (Kind::Refusal, Delta::Text(text)) => {
                let tokens = self.take_tokens(index);
                let said = Said {
                    refusal: Some(text),
                    ..Said::default()
                };
                let logprobs = Logprobs::new(Cow::default(), tokens.into());
                return self.say(part.choice, said, logprobs, out);
            }
            (Kind::Text | Kind::Refusal, Delta::Tokens(tokens)) => {
                let notes = self.notes.entry(index).or_default();
                return notes.tokens.extend_from_slice(tokens);
            }
            (Kind::Refusal, Delta::Citation(_)) => return citation::lose(losses),
            (Kind::Text, Delta::Citation(citation)) => {
                let notes = self.notes.entry(index).or_default();
                return notes.citations.push(Citation::clone(citation));
            }
            (Kind::Reasoning { .. }, Delta::Text(text)) => Said {
                reasoning_content: Some(text),
                ..Said::default()
            },
            (Kind::Reasoning { redacted }, Delta::Seal(seal)) => Said {
                thinking_blocks: Some([ThinkingBlock::new("", Some(seal), redacted)]),
                ..Said::default()
            },
            (Kind::ToolCall { index, kind }, Delta::Arguments(arguments)) => {
                Said::tool_call(ToolCall::piece(Some(index), None, kind, arguments))
            }
            (Kind::ToolCall { .. } | Kind::Text | Kind::Refusal, Delta::Seal(_)) => {
                return losses.advisory(
                    Field::Reply("choices[].delta"),
                    "only reasoning can carry a seal in this format",
                );
            }
            (Kind::Text | Kind::Refusal | Kind::Reasoning { .. }, Delta::Arguments(_))
            | (Kind::Reasoning { .. } | Kind::ToolCall { .. }, Delta::Tokens(_) | Delta::Citation(_))
            | (Kind::ToolCall { .. }, Delta::Text(_)) => {
                return debug_assert!(false, "a delta of another kind than its part");
            }
        };
        self.delta(part.choice, said, out);
    }

    /// Takes the tokens that were noted for the text which now comes.
    fn take_tokens(&mut self, index: usize) -> Vec<Token> {
        if self.notes.is_empty() {
            return Vec::new();
        }
        let notes = self.notes.get_mut(&index);
        notes
            .map(|notes| std::mem::take(&mut notes.tokens))
            .unwrap_or_default()
    }

    /// Tells what is noted about a part that is complete.
    fn close(&mut self, index: usize, out: &mut BytesMut) {
        let (Some(notes), Some(part)) = (
            self.notes.remove(&index),
            self.parts.get(index).copied().flatten(),
        ) else {
            return;
        };
        let end = self.choice(part.choice).said;
        let annotations = notes.citations.iter();
        let said = Said {
            annotations: annotations
                .map(|citation| Annotation::new(citation, part.start, end))
                .collect(),
            ..Said::default()
        };
        let tokens = Cow::from(&notes.tokens);
        let logprobs = match part.kind {
            Kind::Refusal => Logprobs::new(Cow::default(), tokens),
            Kind::Text | Kind::Reasoning { .. } | Kind::ToolCall { .. } => {
                Logprobs::new(tokens, Cow::default())
            }
        };
        if !said.annotations.is_empty() || logprobs.is_some() {
            self.say(part.choice, said, logprobs, out);
        }
    }

    fn finish(&mut self, choice: usize, finish: &Finish, out: &mut BytesMut, losses: &mut Losses) {
        let remarks = Remarks::new(finish, losses);
        let said = Said {
            safety_ratings: remarks.safety_ratings,
            grounding_metadata: remarks.grounding_metadata,
            ..Said::default()
        };
        self.chunk(
            &[Step {
                index: choice,
                delta: self.with_role(choice, said),
                logprobs: None,
                finish_reason: Some(wire::finish_word(finish.reason)),
                native_finish_reason: wire::native_finish(finish),
                stop_reason: finish.stop_sequence.as_deref(),
            }],
            None,
            out,
        );
        self.choice(choice).begun = true;
    }

    /// Says nothing, in a chunk where the answer has begun: readers that wait for one see that it goes on.
    fn ping(&self, out: &mut BytesMut) {
        if self.prefix.is_empty() {
            return out.extend_from_slice(KEEP_ALIVE);
        }
        let step = Step {
            index: 0,
            delta: Said::default(),
            logprobs: None,
            finish_reason: None,
            native_finish_reason: None,
            stop_reason: None,
        };
        self.chunk(&[step], None, out);
    }

    fn delta(&mut self, choice: usize, said: Said<'_>, out: &mut BytesMut) {
        self.say(choice, said, None, out);
    }

    fn say(&mut self, choice: usize, said: Said<'_>, logprobs: Option<Logprobs<'_>>, out: &mut BytesMut) {
        self.chunk(
            &[Step {
                index: choice,
                delta: self.with_role(choice, said),
                logprobs,
                finish_reason: None,
                native_finish_reason: None,
                stop_reason: None,
            }],
            None,
            out,
        );
        self.choice(choice).begun = true;
    }

    /// Adds the role to the first thing that an answer says.
    fn with_role<'a>(&self, choice: usize, said: Said<'a>) -> Said<'a> {
        let begun = self.choices.get(&choice).is_some_and(|choice| choice.begun);
        Said {
            role: (!begun).then_some("assistant"),
            ..said
        }
    }

    fn choice(&mut self, choice: usize) -> &mut Choice {
        self.choices.entry(choice).or_default()
    }

    fn chunk(&self, steps: &[Step<'_>], usage: Option<Counts>, out: &mut BytesMut) {
        out.extend_from_slice(&self.prefix);
        out.extend_from_slice(b",\"choices\":");
        write_json(out, steps);
        if let Some(tier) = self.usage.tier_among(wire::TIERS) {
            out.extend_from_slice(b",\"service_tier\":");
            write_json(out, tier);
        }
        if self.include_usage {
            out.extend_from_slice(b",\"usage\":");
            write_json(out, &usage);
        }
        out.extend_from_slice(b"}\n\n");
    }
}

impl EncodeStream for Encoder {
    fn event(&mut self, event: &Event, out: &mut BytesMut, losses: &mut Losses) {
        match event {
            Event::Start(head) => self.start(head),
            Event::Open { index, choice, part } => self.open(*index, *choice, part, out, losses),
            Event::Delta { delta, .. } if citation::lose_delta(delta, losses) => {}
            Event::Delta { index, delta } => {
                if let Some(part) = self.parts.get(*index).copied().flatten() {
                    self.more(*index, part, delta, out, losses);
                }
            }
            Event::Close { index } => {
                if !self.notes.is_empty() {
                    self.close(*index, out);
                }
            }
            Event::Usage(usage) => {
                usage.lose(wire::TIERS, false, losses);
                self.usage.merge(usage);
            }
            Event::Finish { choice, reason } => self.finish(*choice, reason, out, losses),
            Event::Ping => self.ping(out),
            Event::Error(error) => out.extend_from_slice(&error::encode_event(error)),
        }
    }

    fn end(&mut self, out: &mut BytesMut, _losses: &mut Losses) {
        if self.include_usage && !self.usage.is_unknown() {
            self.chunk(&[], Some(Counts::from(&self.usage)), out);
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }
}

/// One element of a chunk's `choices`.
#[derive(Serialize)]
struct Step<'a> {
    index: usize,
    delta: Said<'a>,
    logprobs: Option<Logprobs<'a>>,
    finish_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    native_finish_reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_reason: Option<&'a str>,
}

#[derive(Default, Serialize)]
struct Said<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_blocks: Option<[ThinkingBlock<'a>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<[ToolCall<'a>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    images: Option<[Shown; 1]>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    annotations: Vec<Annotation<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    safety_ratings: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    grounding_metadata: Option<&'a RawValue>,
}

impl<'a> Said<'a> {
    fn tool_call(call: ToolCall<'a>) -> Self {
        Self {
            tool_calls: Some([call]),
            ..Self::default()
        }
    }
}

fn write_json(out: &mut BytesMut, value: &(impl Serialize + ?Sized)) {
    // Writing to memory cannot fail, and none of the values has keys that are not strings.
    let written = serde_json::to_writer(out.writer(), value);
    debug_assert!(written.is_ok(), "{written:?}");
}
