//! Streamed replies, written: as server-sent events or as one JSON array, as the client asked.
//!
//! A call is written when it is whole, for the format has no pieces of one. The reasons and the last token
//! counts stand in the last chunk: the end is held until nothing more will come.

use std::collections::BTreeMap;

use bytes::{BufMut, BytesMut};
use serde::Serialize;

use super::{
    error,
    note::{Grounding, Logprobs},
    part::{self, Block, Body},
    reply::{self, Candidate, Content, Reply},
    wire::{self, Own, Totals},
};
use crate::{
    ApiError, Losses, Usage,
    chat::{
        Citation, Delta, EncodeStream, Event, Finish, Head, PartHead, Reframe, Seal, StreamOptions, ToolCall,
        citation, note::Notes,
    },
    frame::Frame,
    media::Media,
};

/// Bytes that mean nothing between events. Google's own library for Python takes a comment for data, so this
/// is an empty line, which ends an event that was not begun.
const BLANK_LINE: &[u8] = b"\n";

/// Bytes that mean nothing between the elements of an array.
const BLANK: &[u8] = b" ";

/// Returns bytes that keep a stream alive which is written as `stream` says.
pub(super) fn keep_alive(stream: StreamOptions) -> &'static [u8] {
    if stream.array { BLANK } else { BLANK_LINE }
}

/// Writes `error` as the last event of a stream.
pub(super) fn error_event(error: &ApiError) -> Vec<u8> {
    format!("data: {}\n\n", error::encode_line(error)).into_bytes()
}

/// The most bytes of a text that are kept to tell in it what is from where.
const MAX_GROUNDED: usize = 1024 * 1024;

/// How chunks are told apart.
#[derive(Clone, Copy, Debug)]
enum Frames {
    /// As events.
    Events,
    /// As elements of an array; whether one was written.
    Array { begun: bool },
}

impl Frames {
    fn new(stream: StreamOptions) -> Self {
        if stream.array {
            Frames::Array { begun: false }
        } else {
            Frames::Events
        }
    }

    /// Appends one chunk, which `write` writes without line feeds.
    fn chunk(&mut self, out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
        match self {
            Frames::Events => {
                out.put_slice(b"data: ");
                write(out);
                out.put_slice(b"\n\n");
            }
            Frames::Array { begun } => {
                out.put_slice(if *begun { b",\n" } else { b"[" });
                *begun = true;
                write(out);
            }
        }
    }

    fn end(&mut self, out: &mut BytesMut) {
        if let Frames::Array { begun } = self {
            out.put_slice(if *begun { b"]\n" } else { b"[]\n" });
        }
    }
}

/// Writes the events of a relayed stream as the elements of an array.
#[derive(Debug)]
pub(super) struct Array(Frames);

impl Array {
    /// Returns a writer of the array that `stream` asks for, if it does.
    pub(super) fn new(stream: StreamOptions) -> Option<Self> {
        stream.array.then(|| Self(Frames::new(stream)))
    }
}

impl Reframe for Array {
    fn frame(&mut self, frame: Frame<'_>, out: &mut BytesMut) {
        self.0.chunk(out, |out| out.put_slice(frame.data.as_bytes()));
    }

    fn error(&mut self, error: &ApiError, out: &mut BytesMut) {
        self.0
            .chunk(out, |out| out.put_slice(error::encode_line(error).as_bytes()));
        self.0.end(out);
    }

    fn end(&mut self, out: &mut BytesMut) {
        self.0.end(out);
    }
}

/// Writes a stream.
#[derive(Debug)]
pub(super) struct Encoder {
    keep_alive: &'static [u8],
    frames: Frames,
    head: Head,
    usage: Usage,
    /// The open parts.
    parts: BTreeMap<usize, Part>,
    /// The signature of the part that comes next, by answer.
    signatures: BTreeMap<usize, Seal>,
    finishes: BTreeMap<usize, Finish>,
    /// Where answers are from.
    groundings: BTreeMap<usize, Grounding>,
    ended: bool,
}

/// A part that is being written.
#[derive(Debug)]
struct Part {
    choice: usize,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// A text as far as it was said, and what is noted about it and was not told.
    Text {
        said: String,
        notes: Notes,
    },
    Thought,
    /// What is withheld: only its seal counts.
    Redacted,
    /// A call and what is known of its arguments.
    Call(ToolCall),
    /// A picture or a sound.
    Media(Box<Media>),
}

impl Encoder {
    /// Returns a writer of a stream as `stream` asks for it.
    pub(super) fn new(stream: StreamOptions) -> Self {
        Self {
            keep_alive: keep_alive(stream),
            frames: Frames::new(stream),
            head: Head::default(),
            usage: Usage::default(),
            parts: BTreeMap::new(),
            signatures: BTreeMap::new(),
            finishes: BTreeMap::new(),
            groundings: BTreeMap::new(),
            ended: false,
        }
    }

    fn open(&mut self, index: usize, choice: usize, head: &PartHead) {
        let kind = match head {
            PartHead::Text | PartHead::Refusal => Kind::Text {
                said: String::new(),
                notes: Notes::default(),
            },
            PartHead::Reasoning { redacted: false } => Kind::Thought,
            PartHead::Reasoning { redacted: true } => Kind::Redacted,
            PartHead::ToolCall { id, name, kind } => Kind::Call(ToolCall {
                id: id.clone(),
                name: name.clone(),
                arguments: String::new(),
                kind: *kind,
            }),
            PartHead::Media(media) => Kind::Media(media.clone()),
        };
        self.parts.insert(index, Part { choice, kind });
    }

    fn delta(&mut self, index: usize, delta: &Delta, out: &mut BytesMut) {
        let Some(part) = self.parts.get_mut(&index) else {
            return;
        };
        let choice = part.choice;
        match (&mut part.kind, delta) {
            (Kind::Text { said, notes }, Delta::Text(text)) if !text.is_empty() => {
                if said.len() < MAX_GROUNDED {
                    said.push_str(text);
                }
                let tokens = std::mem::take(&mut notes.tokens);
                let signature = self.signatures.remove(&choice);
                let block = reply::block(Body::Text(text.into()));
                let block = block.signed(signature.as_ref().map(wire::signature));
                self.say(choice, block, Logprobs::new(&tokens), out);
            }
            (Kind::Text { notes, .. }, Delta::Tokens(tokens)) => notes.tokens.extend_from_slice(tokens),
            (Kind::Text { notes, .. }, Delta::Citation(citation)) => {
                notes.citations.push(Citation::clone(citation));
            }
            (Kind::Thought, Delta::Text(text)) if !text.is_empty() => {
                self.chunk(choice, reply::thought(text, None), out);
            }
            (Kind::Thought, Delta::Seal(seal)) => {
                self.chunk(choice, reply::thought("", Some(wire::signature(seal))), out);
            }
            (Kind::Redacted, Delta::Seal(seal)) => {
                if let Some(left) = self.signatures.insert(choice, seal.clone()) {
                    self.chunk(choice, part::bare(wire::signature(&left)), out);
                }
            }
            (Kind::Call(call), Delta::Arguments(more)) => call.arguments.push_str(more),
            (Kind::Text { .. } | Kind::Thought | Kind::Redacted | Kind::Call(_) | Kind::Media(_), _) => {}
        }
    }

    fn close(&mut self, index: usize, out: &mut BytesMut, losses: &mut Losses) {
        let Some(Part { choice, kind }) = self.parts.remove(&index) else {
            return;
        };
        match kind {
            Kind::Call(call) => {
                let signature = self.signatures.remove(&choice);
                let block = reply::block(Body::FunctionCall(reply::function_call(&call, losses)));
                let block = block.signed(signature.as_ref().map(wire::signature));
                self.chunk(choice, block, out);
            }
            Kind::Text { said, notes } => {
                if !notes.citations.is_empty() {
                    let grounding = self.groundings.entry(choice).or_default();
                    grounding.add(&notes.citations, &said);
                }
            }
            Kind::Media(media) => match part::blob(&media) {
                Some(blob) => {
                    let signature = self.signatures.remove(&choice);
                    let block = reply::block(Body::InlineData(blob));
                    self.chunk(choice, block.signed(signature.as_ref().map(wire::signature)), out);
                }
                None => reply::lose_media(&media, losses),
            },
            Kind::Thought | Kind::Redacted => {}
        }
    }

    fn chunk(&mut self, index: usize, block: Block<'_>, out: &mut BytesMut) {
        self.say(index, block, None, out);
    }

    fn say(&mut self, index: usize, block: Block<'_>, logprobs: Option<Logprobs<'_>>, out: &mut BytesMut) {
        let candidate = Candidate {
            content: Content::new(vec![block]),
            finish_reason: None,
            logprobs_result: logprobs,
            grounding_metadata: None,
            own: Own(&[]),
            index,
        };
        let reply = Reply {
            candidates: vec![candidate],
            usage_metadata: None,
            model_version: &self.head.model,
            response_id: &self.head.id,
        };
        self.frames.chunk(out, |out| write(&reply, out));
    }

    /// Writes everything that is still owed, and the end.
    fn last(&mut self, out: &mut BytesMut, losses: &mut Losses) {
        for index in self.parts.keys().copied().collect::<Vec<usize>>() {
            self.close(index, out, losses);
        }
        let candidates = self.finishes.iter().map(|(index, finish)| {
            reply::lose_stop_sequence(finish, losses);
            let signature = self.signatures.get(index).map(wire::signature);
            Candidate {
                content: Content::new(signature.map(part::bare).into_iter().collect()),
                finish_reason: Some(wire::finish_reason(finish)),
                logprobs_result: None,
                grounding_metadata: self
                    .groundings
                    .remove(index)
                    .and_then(|grounding| grounding.unless_said(finish)),
                own: Own(&finish.remarks),
                index: *index,
            }
        });
        let reply = Reply {
            candidates: candidates.collect(),
            usage_metadata: Some(Totals::from(&self.usage)),
            model_version: &self.head.model,
            response_id: &self.head.id,
        };
        self.frames.chunk(out, |out| write(&reply, out));
        self.frames.end(out);
        self.ended = true;
    }
}

impl EncodeStream for Encoder {
    fn event(&mut self, event: &Event, out: &mut BytesMut, losses: &mut Losses) {
        if self.ended {
            return;
        }
        match event {
            Event::Start(head) => self.head = head.clone(),
            Event::Open { index, choice, part } => self.open(*index, *choice, part),
            Event::Delta { delta, .. } if citation::lose_delta(delta, losses) => {}
            Event::Delta { index, delta } => self.delta(*index, delta, out),
            Event::Close { index } => self.close(*index, out, losses),
            Event::Usage(usage) => {
                usage.lose(wire::TRAFFIC_TYPES, false, losses);
                self.usage.merge(usage);
            }
            Event::Finish { choice, reason } => {
                self.finishes.insert(*choice, reason.clone());
            }
            Event::Ping => out.put_slice(self.keep_alive),
            Event::Error(error) => {
                self.frames
                    .chunk(out, |out| out.put_slice(error::encode_line(error).as_bytes()));
                self.frames.end(out);
                self.ended = true;
            }
        }
    }

    fn end(&mut self, out: &mut BytesMut, losses: &mut Losses) {
        if !self.ended {
            self.last(out, losses);
        }
    }
}

fn write(reply: &impl Serialize, out: &mut BytesMut) {
    let written = serde_json::to_writer(out.writer(), reply);
    debug_assert!(written.is_ok(), "{written:?}");
}
