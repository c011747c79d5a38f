//! Streamed replies, read ("Streaming messages", API reference). The other direction is in [`super::emit`].

use std::collections::BTreeMap;

use super::{
    error,
    reply::{Memory, citation, citations, lose_native, unreadable},
    wire,
};
use crate::{
    ApiError, ErrorKind, Losses, Usage,
    chat::{DecodeStream, Delta, Event, Finish, Head, PartHead, ToolKind},
    frame::Frame,
    json::{self, Path, Typed},
    reply::End,
    unread,
};

/// The events of the API reference; others mean nothing here, as it demands.
const EVENTS: &[&str] = &[
    "message_start",
    "content_block_start",
    "content_block_delta",
    "content_block_stop",
    "message_delta",
    "message_stop",
    "ping",
    "error",
];

/// Reads a stream.
#[derive(Debug)]
pub(super) struct Decoder {
    memory: Memory,
    /// The open blocks, by their index in the stream.
    blocks: BTreeMap<u64, Block>,
    /// The index of the next part.
    next: usize,
    usage: Usage,
    finish: Option<Finish>,
    state: State,
}

/// How far a stream has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing was said; `message_start` leads to `Begun`.
    Waiting,
    /// Blocks come and go; `message_stop` or an error leads to `Ended`.
    Begun,
    /// Whatever follows means nothing.
    Ended,
}

/// A block that has begun and not ended.
#[derive(Clone, Copy, Debug)]
struct Block {
    /// The part that it is.
    part: usize,
    kind: BlockKind,
    /// Whether nothing was said in it yet.
    empty: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BlockKind {
    Text,
    Thinking,
    Redacted,
    ToolUse,
    /// A tool call that stands for the answer: its arguments are text.
    Answer,
    /// A block that no other format has.
    Native,
}

type Step = Result<(), ApiError>;

impl Decoder {
    /// Returns a reader for the reply to the call that `memory` is of.
    pub(super) fn new(memory: Memory) -> Self {
        Self {
            memory,
            blocks: BTreeMap::new(),
            next: 0,
            usage: Usage::default(),
            finish: None,
            state: State::Waiting,
        }
    }

    fn read(&mut self, data: &str, out: &mut Vec<Event>, losses: &mut Losses) -> Step {
        let event: wire::Event<'_> = match unread::read(data, &Path::Reply, losses) {
            Ok(event) => event,
            Err(reason) => return foreign(data, &reason, losses),
        };
        match &*event.kind {
            "ping" => out.push(Event::Ping),
            "error" => return Err(error::within(data.as_bytes())),
            "message_start" => self.start(event.message, out, losses),
            "content_block_start" => return self.open(&event, out, losses),
            "content_block_delta" => return self.delta(event, out, losses),
            "content_block_stop" => self.close(event.index, out),
            "message_delta" => self.message_delta(event, out, losses),
            "message_stop" => self.stop(out, losses),
            kind => losses.unread(&Path::Reply.key(kind)),
        }
        Ok(())
    }

    fn start(&mut self, message: Option<wire::Message<'_>>, out: &mut Vec<Event>, losses: &mut Losses) {
        if self.state != State::Waiting {
            return;
        }
        self.state = State::Begun;
        let (id, model, counts) = message.map_or((None, None, None), |message| {
            (message.id, message.model, message.usage)
        });
        out.push(Event::Start(Head {
            id: id.unwrap_or_default(),
            model: model.unwrap_or_else(|| self.memory.model.clone()),
            ..Head::default()
        }));
        let path = Path::Reply;
        let path = path.key("message");
        if let Some(counts) = wire::Counts::hear(counts, &path.key("usage"), losses) {
            counts.begin(&mut self.usage);
            out.push(Event::Usage(self.usage));
        }
    }

    fn open(&mut self, event: &wire::Event<'_>, out: &mut Vec<Event>, losses: &mut Losses) -> Step {
        self.start(None, out, losses);
        let (Some(at), Some(raw)) = (event.index, event.content_block) else {
            return Err(unreadable(&"a block begins without index or content"));
        };
        let path = Path::Reply;
        let path = path.key("content_block");
        let block = wire::Block::read(raw, &path, losses).map_err(|reason| unreadable(&reason))?;
        self.close(Some(at), out);
        let mut first: Vec<Delta> = Vec::new();
        let mut say = |text: Option<String>| {
            first.extend(text.filter(|text| !text.is_empty()).map(Delta::Text));
        };
        let (kind, head) = match block.kind.as_str() {
            "text" => {
                say(block.text);
                let path = path.key("citations");
                let citations = block.citations.map(|raw| citations(raw, &path, losses));
                let citations = citations.unwrap_or_default().into_iter();
                first.extend(citations.map(Box::new).map(Delta::Citation));
                (BlockKind::Text, PartHead::Text)
            }
            "thinking" => {
                say(block.thinking);
                let seal = wire::seal(&block.signature.unwrap_or_default());
                first.extend(seal.map(Delta::Seal));
                (BlockKind::Thinking, PartHead::Reasoning { redacted: false })
            }
            "redacted_thinking" => {
                let seal = wire::seal(&block.data.unwrap_or_default());
                first.extend(seal.map(Delta::Seal));
                (BlockKind::Redacted, PartHead::Reasoning { redacted: true })
            }
            "tool_use" => {
                let arguments = block.input.map(json::compact);
                let arguments = arguments.filter(|arguments| arguments != "{}");
                let name = block.name.unwrap_or_default();
                if self.memory.is_answer(&name) {
                    first.extend(arguments.map(Delta::Text));
                    (BlockKind::Answer, PartHead::Text)
                } else {
                    first.extend(arguments.map(Delta::Arguments));
                    let head = PartHead::ToolCall {
                        id: block.id.unwrap_or_default(),
                        name: self.memory.tool(name),
                        kind: ToolKind::Function,
                    };
                    (BlockKind::ToolUse, head)
                }
            }
            kind => {
                lose_native(kind, losses);
                let block = Block {
                    part: 0,
                    kind: BlockKind::Native,
                    empty: true,
                };
                self.blocks.insert(at, block);
                return Ok(());
            }
        };
        let index = self.next;
        self.next += 1;
        let block = Block {
            part: index,
            kind,
            empty: first.is_empty(),
        };
        self.blocks.insert(at, block);
        out.push(Event::Open {
            index,
            choice: 0,
            part: head,
        });
        out.extend(first.into_iter().map(|delta| Event::Delta { index, delta }));
        Ok(())
    }

    fn delta(&mut self, event: wire::Event<'_>, out: &mut Vec<Event>, losses: &mut Losses) -> Step {
        let block = event.index.and_then(|index| self.blocks.get_mut(&index));
        let (Some(block), Some(delta)) = (block, event.delta) else {
            return Err(unreadable(&"a delta belongs to no open block"));
        };
        let path = Path::Reply;
        let path = path.key("delta");
        let kind = delta.kind.as_deref().unwrap_or_default();
        let delta = match (kind, block.kind) {
            (_, BlockKind::Native) => return Ok(()),
            ("citations_delta", BlockKind::Text) => {
                let path = path.key("citation");
                let citation = delta.citation.and_then(|raw| citation(raw, &path, losses));
                citation.map(Box::new).map(Delta::Citation)
            }
            ("text_delta", BlockKind::Text) => delta.text.map(Delta::Text),
            ("thinking_delta", BlockKind::Thinking) => delta.thinking.map(Delta::Text),
            ("signature_delta", BlockKind::Thinking) => {
                wire::seal(&delta.signature.unwrap_or_default()).map(Delta::Seal)
            }
            ("input_json_delta", BlockKind::ToolUse) => delta.partial_json.map(Delta::Arguments),
            ("input_json_delta", BlockKind::Answer) => delta.partial_json.map(Delta::Text),
            (
                "text_delta" | "thinking_delta" | "signature_delta" | "input_json_delta" | "citations_delta",
                _,
            ) => {
                let reason = format!("a {kind} belongs to a block of another type");
                return Err(unreadable(&reason));
            }
            (kind, _) => {
                losses.unread(&path.key(kind));
                None
            }
        };
        let said = delta.filter(|delta| match delta {
            Delta::Text(text) | Delta::Arguments(text) => !text.is_empty(),
            Delta::Seal(_) | Delta::Tokens(_) | Delta::Citation(_) => true,
        });
        block.empty &= said.is_none();
        let index = block.part;
        out.extend(said.map(|delta| Event::Delta { index, delta }));
        Ok(())
    }

    fn close(&mut self, index: Option<u64>, out: &mut Vec<Event>) {
        let Some(block) = index.and_then(|index| self.blocks.remove(&index)) else {
            return;
        };
        let index = block.part;
        // A call without arguments has none to stream, while a whole reply says that they are an empty object.
        let nothing = "{}".to_owned();
        let owed = match block.kind {
            BlockKind::Native => return,
            BlockKind::ToolUse if block.empty => Some(Delta::Arguments(nothing)),
            BlockKind::Answer if block.empty => Some(Delta::Text(nothing)),
            BlockKind::ToolUse
            | BlockKind::Answer
            | BlockKind::Text
            | BlockKind::Thinking
            | BlockKind::Redacted => None,
        };
        out.extend(owed.map(|delta| Event::Delta { index, delta }));
        out.push(Event::Close { index });
    }

    fn message_delta(&mut self, event: wire::Event<'_>, out: &mut Vec<Event>, losses: &mut Losses) {
        self.start(None, out, losses);
        if let Some(delta) = event.delta.filter(|delta| delta.stop_reason.is_some()) {
            let finish = self
                .memory
                .finish(delta.stop_reason.as_deref(), delta.stop_sequence);
            self.finish = Some(finish);
        }
        if let Some(counts) = wire::Counts::hear(event.usage, &Path::Reply.key("usage"), losses) {
            counts.update(&mut self.usage);
            out.push(Event::Usage(self.usage));
        }
    }

    fn stop(&mut self, out: &mut Vec<Event>, losses: &mut Losses) {
        self.start(None, out, losses);
        for index in self.blocks.keys().copied().collect::<Vec<u64>>() {
            self.close(Some(index), out);
        }
        out.push(Event::Finish {
            choice: 0,
            reason: self.finish.take().unwrap_or_default(),
        });
        self.state = State::Ended;
    }
}

impl DecodeStream for Decoder {
    fn frame(&mut self, frame: Frame<'_>, out: &mut Vec<Event>, losses: &mut Losses) {
        if self.state == State::Ended {
            return;
        }
        if let Err(error) = self.read(frame.data, out, losses) {
            out.push(Event::Error(error));
            self.state = State::Ended;
        }
    }

    fn end(&mut self, how: End, out: &mut Vec<Event>) {
        if self.state == State::Ended {
            return;
        }
        self.state = State::Ended;
        out.push(Event::Error(ApiError::new(
            ErrorKind::BadUpstream,
            match how {
                End::Clean => "the upstream ended its stream before the answer was complete",
                End::Cut => "the upstream's stream was cut before the answer was complete",
            },
        )));
    }
}

/// Hears `data`, which cannot be read: events of names that are not known may look like anything.
fn foreign(data: &str, reason: &serde_json::Error, losses: &mut Losses) -> Step {
    let typed = serde_json::from_str::<Typed<'_>>(data).ok();
    match typed.and_then(|typed| typed.kind) {
        Some(kind) if !EVENTS.contains(&&*kind) => {
            losses.unread(&Path::Reply.key(&kind));
            Ok(())
        }
        Some(_) | None => Err(unreadable(reason)),
    }
}
