//! Streamed replies.
//!
//! Text and reasoning begin with their first piece, for only calls of tools are announced. Why the answer ended
//! is said before its token counts, so it is held back until they come.

use std::collections::BTreeMap;

use super::{
    reply::{MORE, Memory, citation, lose_native, unreadable},
    wire,
};
use crate::{
    ApiError, ErrorKind, Losses,
    chat::{DecodeStream, Delta, Event, Finish, PartHead, ToolKind},
    frame::Frame,
    json::Path,
    reply::End,
    unread,
};

/// Reads a stream.
#[derive(Debug)]
pub(super) struct Decoder {
    memory: Memory,
    /// The open blocks, by their index in the stream.
    blocks: BTreeMap<u64, Block>,
    /// The index of the next part.
    next: usize,
    /// Why the answer ended, until the token counts or the end of the stream come.
    finish: Option<Finish>,
    state: State,
}

/// How far a stream has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing was said; anything leads to `Begun`.
    Waiting,
    /// Blocks come and go; `metadata` after `messageStop`, the end or an error leads to `Ended`.
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
    Reasoning,
    Redacted,
    ToolUse,
    /// A tool call that stands for the answer: its arguments are text.
    Answer,
}

type Step = Result<(), ApiError>;

impl Decoder {
    /// Returns a reader for the reply to the call that `memory` is of.
    pub(super) fn new(memory: Memory) -> Self {
        Self {
            memory,
            blocks: BTreeMap::new(),
            next: 0,
            finish: None,
            state: State::Waiting,
        }
    }

    fn read(&mut self, frame: Frame<'_>, out: &mut Vec<Event>, losses: &mut Losses) -> Step {
        let path = Path::Reply;
        let event: wire::Event<'_> =
            unread::read(frame.data, &path, losses).map_err(|reason| unreadable(&reason))?;
        let name = event.event_type.as_deref().or(frame.event);
        match name.unwrap_or_default() {
            "messageStart" => self.start(out),
            "contentBlockStart" => self.open(event, out, losses),
            "contentBlockDelta" => return self.delta(event, out, losses),
            "contentBlockStop" => self.close(event.content_block_index, out),
            "messageStop" => {
                self.start(out);
                self.close_all(out);
                let more = event.additional_model_response_fields;
                let more = wire::tolerant(more, &path.key(MORE), losses);
                self.finish = Some(self.memory.finish(event.stop_reason.as_deref(), more));
            }
            "metadata" => {
                self.start(out);
                let counts: Option<wire::Counts> = wire::tolerant(event.usage, &path.key("usage"), losses);
                let usage = wire::ServiceTier::of(counts, event.service_tier.as_ref(), losses);
                out.extend(usage.map(Event::Usage));
                self.stop(out);
            }
            name => losses.unread(&path.key(name)),
        }
        Ok(())
    }

    fn start(&mut self, out: &mut Vec<Event>) {
        if self.state == State::Waiting {
            self.state = State::Begun;
            out.push(Event::Start(self.memory.head()));
        }
    }

    fn open(&mut self, event: wire::Event<'_>, out: &mut Vec<Event>, losses: &mut Losses) {
        self.start(out);
        let Some(start) = event.start else {
            return;
        };
        for (key, there) in [
            ("image", start.image.is_some()),
            ("toolResult", start.tool_result.is_some()),
        ] {
            if there {
                lose_native(key, losses);
            }
        }
        let Some(call) = start.tool_use else {
            return;
        };
        let name = call.name.unwrap_or_default();
        let at = event.content_block_index.unwrap_or_default();
        if self.memory.is_answer(&name) {
            self.begin(at, BlockKind::Answer, PartHead::Text, out);
            return;
        }
        let head = PartHead::ToolCall {
            id: call.tool_use_id.unwrap_or_default(),
            name: self.memory.tool(name),
            kind: ToolKind::Function,
        };
        self.begin(at, BlockKind::ToolUse, head, out);
    }

    fn delta(&mut self, event: wire::Event<'_>, out: &mut Vec<Event>, losses: &mut Losses) -> Step {
        self.start(out);
        let at = event.content_block_index.unwrap_or_default();
        let delta = event.delta.unwrap_or_default();
        let text = delta.text.map(Delta::Text);
        self.say(at, BlockKind::Text, PartHead::Text, text, out);
        let path = Path::Reply;
        let path = path.key("delta");
        let path = path.key("citation");
        let cited = delta.citation.and_then(|raw| citation(raw, &path, losses));
        let cited = cited.map(Box::new).map(Delta::Citation);
        self.say(at, BlockKind::Text, PartHead::Text, cited, out);
        if let Some(reasoning) = delta.reasoning_content {
            let shown = PartHead::Reasoning { redacted: false };
            let kind = BlockKind::Reasoning;
            self.say(at, kind, shown.clone(), reasoning.text.map(Delta::Text), out);
            self.say(
                at,
                kind,
                shown,
                wire::seal(reasoning.signature).map(Delta::Seal),
                out,
            );
            let withheld = wire::seal(reasoning.redacted_content).map(Delta::Seal);
            let head = PartHead::Reasoning { redacted: true };
            self.say(at, BlockKind::Redacted, head, withheld, out);
        }
        if let Some(input) = delta.tool_use.and_then(|piece| piece.input) {
            let Some(block) = self.blocks.get_mut(&at).filter(|block| block.takes_input()) else {
                return Err(unreadable(&"the arguments of a tool call belong to none"));
            };
            if !input.is_empty() {
                block.empty = false;
                let delta = match block.kind {
                    BlockKind::Answer => Delta::Text(input),
                    BlockKind::Text | BlockKind::Reasoning | BlockKind::Redacted | BlockKind::ToolUse => {
                        Delta::Arguments(input)
                    }
                };
                out.push(Event::Delta {
                    index: block.part,
                    delta,
                });
            }
        }
        Ok(())
    }

    /// Says `delta`, unless it is nothing, in block `at`; a block of another kind there ends first.
    fn say(&mut self, at: u64, kind: BlockKind, head: PartHead, delta: Option<Delta>, out: &mut Vec<Event>) {
        let said = delta.filter(|delta| match delta {
            Delta::Text(text) | Delta::Arguments(text) => !text.is_empty(),
            Delta::Seal(_) | Delta::Tokens(_) | Delta::Citation(_) => true,
        });
        let Some(delta) = said else {
            return;
        };
        let open = self.blocks.get(&at).filter(|block| block.kind == kind);
        let index = match open {
            Some(block) => block.part,
            None => self.begin(at, kind, head, out),
        };
        out.push(Event::Delta { index, delta });
    }

    /// Begins block `at`; returns the index of its part.
    fn begin(&mut self, at: u64, kind: BlockKind, part: PartHead, out: &mut Vec<Event>) -> usize {
        self.close(Some(at), out);
        let index = self.next;
        self.next += 1;
        let block = Block {
            part: index,
            kind,
            empty: true,
        };
        self.blocks.insert(at, block);
        out.push(Event::Open {
            index,
            choice: 0,
            part,
        });
        index
    }

    fn close(&mut self, at: Option<u64>, out: &mut Vec<Event>) {
        let Some(block) = self.blocks.remove(&at.unwrap_or_default()) else {
            return;
        };
        let index = block.part;
        // A call without arguments has none to stream, while a whole reply says that they are an empty object.
        let nothing = "{}".to_owned();
        let owed = match block.kind {
            BlockKind::ToolUse if block.empty => Some(Delta::Arguments(nothing)),
            BlockKind::Answer if block.empty => Some(Delta::Text(nothing)),
            BlockKind::ToolUse
            | BlockKind::Answer
            | BlockKind::Text
            | BlockKind::Reasoning
            | BlockKind::Redacted => None,
        };
        out.extend(owed.map(|delta| Event::Delta { index, delta }));
        out.push(Event::Close { index });
    }

    fn close_all(&mut self, out: &mut Vec<Event>) {
        for at in self.blocks.keys().copied().collect::<Vec<u64>>() {
            self.close(Some(at), out);
        }
    }

    /// Says why the answer ended, if that is known, and ends.
    fn stop(&mut self, out: &mut Vec<Event>) {
        if let Some(reason) = self.finish.take() {
            self.close_all(out);
            out.push(Event::Finish { choice: 0, reason });
            self.state = State::Ended;
        }
    }
}

impl Block {
    fn takes_input(&self) -> bool {
        match self.kind {
            BlockKind::ToolUse | BlockKind::Answer => true,
            BlockKind::Text | BlockKind::Reasoning | BlockKind::Redacted => false,
        }
    }
}

impl DecodeStream for Decoder {
    fn frame(&mut self, frame: Frame<'_>, out: &mut Vec<Event>, losses: &mut Losses) {
        if self.state == State::Ended {
            return;
        }
        if let Err(error) = self.read(frame, out, losses) {
            out.push(Event::Error(error));
            self.state = State::Ended;
        }
    }

    fn end(&mut self, how: End, out: &mut Vec<Event>) {
        self.stop(out);
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
