//! Streamed replies, written ("Streaming messages", API reference).
//!
//! The format has one block open at a time, while parts of other formats interleave: what belongs to a later
//! part is held until its block may begin. The last token counts must stand before the end, while other
//! formats give them after it: the end is held until they come, or until nothing more will.

use std::{borrow::Cow, collections::VecDeque};

use bytes::{BufMut, BytesMut};
use serde::Serialize;

use super::{
    cite::{self, Cited},
    error,
    reply::{self, Block},
    wire,
};
use crate::{
    ApiError, Field, Losses, Usage,
    chat::{Delta, EncodeStream, Event, Finish, Head, PartHead, ToolKind, note},
    json,
};

/// An event that only keeps the connection alive.
pub(super) const PING: &[u8] = b"event: ping\ndata: {\"type\": \"ping\"}\n\n";

/// The most bytes of later parts that are held while an earlier one is open.
const MAX_HELD: usize = 16 * 1024 * 1024;

/// Writes a stream.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    /// The id of the message.
    id: String,
    usage: Usage,
    /// Parts that have begun and not been written whole, the open one first.
    parts: VecDeque<Part>,
    /// How many bytes the parts hold.
    held: usize,
    /// The index of the next block.
    next: usize,
    refused: bool,
    finish: Option<Finish>,
    ended: bool,
}

/// A part that is being written, or waits for it.
#[derive(Debug)]
struct Part {
    index: usize,
    head: PartHead,
    /// The index of its block, once that has begun. Only a part with something in it begins one.
    block: Option<usize>,
    held: Vec<Delta>,
    closed: bool,
}

/// The data of an event.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Data<'a> {
    MessageStart {
        message: Message<'a>,
    },
    ContentBlockStart {
        index: usize,
        content_block: Block<'a>,
    },
    ContentBlockDelta {
        index: usize,
        delta: BlockDelta<'a>,
    },
    ContentBlockStop {
        index: usize,
    },
    MessageDelta {
        delta: MessageDelta<'a>,
        usage: wire::Totals,
    },
    MessageStop,
}

#[derive(Serialize)]
struct Message<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    role: &'static str,
    content: [(); 0],
    model: &'a str,
    stop_reason: Option<()>,
    stop_sequence: Option<()>,
    usage: wire::Totals,
}

#[derive(Serialize)]
#[serde(tag = "type")]
enum BlockDelta<'a> {
    #[serde(rename = "text_delta")]
    Text { text: &'a str },
    #[serde(rename = "thinking_delta")]
    Thinking { thinking: &'a str },
    #[serde(rename = "signature_delta")]
    Signature { signature: Cow<'a, str> },
    #[serde(rename = "input_json_delta")]
    InputJson { partial_json: &'a str },
    #[serde(rename = "citations_delta")]
    Citations { citation: Cited<'a> },
}

#[derive(Serialize)]
struct MessageDelta<'a> {
    stop_reason: &'static str,
    stop_sequence: Option<&'a str>,
}

impl EncodeStream for Encoder {
    fn event(&mut self, event: &Event, out: &mut BytesMut, losses: &mut Losses) {
        if self.ended {
            return;
        }
        match event {
            Event::Start(head) => self.start(head, out),
            Event::Open {
                choice: 0,
                index,
                part,
            } => self.open(*index, part, out, losses),
            Event::Open { .. } => losses.advisory(Field::Reply("choices"), "a message is one answer"),
            Event::Delta { index, delta } => self.delta(*index, delta, out, losses),
            Event::Close { index } => {
                if let Some(part) = self.parts.iter_mut().find(|part| part.index == *index) {
                    part.closed = true;
                    self.advance(out);
                }
            }
            Event::Usage(usage) => {
                usage.lose(wire::TIERS, true, losses);
                self.usage.merge(usage);
                if self.finish.is_some() {
                    self.close(out);
                }
            }
            Event::Finish { choice: 0, reason } => {
                reason.lose_remarks(&[], losses);
                self.finish = Some(reason.clone());
            }
            Event::Finish { .. } => {}
            Event::Ping => out.put_slice(PING),
            Event::Error(error) => {
                out.put_slice(&error::encode_event(error));
                self.ended = true;
            }
        }
    }

    fn end(&mut self, out: &mut BytesMut, _losses: &mut Losses) {
        if self.finish.is_some() && !self.ended {
            self.close(out);
        }
    }
}

impl Encoder {
    fn start(&mut self, head: &Head, out: &mut BytesMut) {
        self.id = reply::message_id(head);
        let message = Message {
            id: &self.id,
            kind: "message",
            role: "assistant",
            content: [],
            model: &head.model,
            stop_reason: None,
            stop_sequence: None,
            usage: wire::Totals::from(&self.usage),
        };
        write("message_start", &Data::MessageStart { message }, out);
    }

    fn open(&mut self, index: usize, head: &PartHead, out: &mut BytesMut, losses: &mut Losses) {
        if let PartHead::Media(media) = head {
            return reply::lose_media(media, losses);
        }
        self.refused |= matches!(head, PartHead::Refusal);
        self.parts.push_back(Part {
            index,
            head: head.clone(),
            block: None,
            held: Vec::new(),
            closed: false,
        });
        self.advance(out);
    }

    fn delta(&mut self, index: usize, delta: &Delta, out: &mut BytesMut, losses: &mut Losses) {
        match delta {
            Delta::Tokens(_) => return note::lose_tokens(losses),
            Delta::Citation(_) | Delta::Text(_) | Delta::Arguments(_) | Delta::Seal(_) => {}
        }
        if let Some(open) = self.parts.front_mut().filter(|part| part.index == index) {
            open.write(delta, &mut self.next, out);
            return;
        }
        // A part that is not here belongs to an answer that is lost as a whole.
        let Some(part) = self.parts.iter_mut().find(|part| part.index == index) else {
            return;
        };
        self.held += size(delta);
        if self.held > MAX_HELD {
            let reason = "too much was said out of order";
            losses.material(Field::Reply("content"), reason);
            let error = ApiError::bad_reply("the upstream's parts interleave too far");
            out.put_slice(&error::encode_event(&error));
            self.ended = true;
            return;
        }
        part.held.push(delta.clone());
    }

    /// Writes as much as may be written: the first part so far, and those after it once it is closed.
    fn advance(&mut self, out: &mut BytesMut) {
        while let Some(part) = self.parts.front_mut() {
            if part.block.is_none()
                && let Some(block) = part.early(&self.id, self.next)
            {
                part.begin(block, &mut self.next, out);
            }
            for delta in std::mem::take(&mut part.held) {
                self.held -= size(&delta);
                part.write(&delta, &mut self.next, out);
            }
            if !part.closed {
                return;
            }
            part.stop(out);
            self.parts.pop_front();
        }
    }

    /// Writes everything that is still owed, and the end.
    fn close(&mut self, out: &mut BytesMut) {
        for part in &mut self.parts {
            part.closed = true;
        }
        self.advance(out);
        let finish = self.finish.take().unwrap_or_default();
        let delta = MessageDelta {
            stop_reason: reply::stop_reason(&finish, self.refused),
            stop_sequence: finish.stop_sequence.as_deref(),
        };
        let usage = wire::Totals::from(&self.usage);
        write("message_delta", &Data::MessageDelta { delta, usage }, out);
        write("message_stop", &Data::MessageStop, out);
        self.ended = true;
    }
}

impl Part {
    /// Returns the block that begins before anything is said in it: a call, which is news by itself.
    fn early(&self, message: &str, index: usize) -> Option<Block<'static>> {
        match &self.head {
            PartHead::ToolCall { id, name, .. } => Some(Block::ToolUse {
                id: Cow::Owned(reply::call_id(id, message, index).into_owned()),
                name: Cow::Owned(name.clone()),
                input: json::raw(&serde_json::Map::new()),
            }),
            PartHead::Text | PartHead::Refusal | PartHead::Reasoning { .. } | PartHead::Media(_) => None,
        }
    }

    fn begin(&mut self, content_block: Block<'_>, next: &mut usize, out: &mut BytesMut) -> usize {
        let index = *next;
        *next += 1;
        self.block = Some(index);
        let data = Data::ContentBlockStart { index, content_block };
        write("content_block_start", &data, out);
        if self.is_custom() {
            let delta = BlockDelta::InputJson {
                partial_json: "{\"input\":\"",
            };
            write(
                "content_block_delta",
                &Data::ContentBlockDelta { index, delta },
                out,
            );
        }
        index
    }

    /// Writes `delta`, and the beginning of the block if this is the first thing said in it.
    fn write(&mut self, delta: &Delta, next: &mut usize, out: &mut BytesMut) {
        let index = match (self.block, &self.head, delta) {
            (Some(index), _, _) => index,
            (None, PartHead::Reasoning { redacted: true }, Delta::Seal(seal)) => {
                let data = wire::signature(seal);
                self.begin(Block::RedactedThinking { data }, next, out);
                return;
            }
            (None, PartHead::Reasoning { redacted: true } | PartHead::Media(_), _) => return,
            (None, PartHead::Reasoning { redacted: false }, _) => {
                let (thinking, signature) = Default::default();
                self.begin(Block::Thinking { thinking, signature }, next, out)
            }
            (None, PartHead::Text | PartHead::Refusal | PartHead::ToolCall { .. }, _) => {
                let (text, citations) = Default::default();
                self.begin(Block::Text { text, citations }, next, out)
            }
        };
        let escaped;
        let delta = match (&self.head, delta) {
            (PartHead::Reasoning { .. }, Delta::Text(thinking)) => BlockDelta::Thinking { thinking },
            (_, Delta::Text(text)) => BlockDelta::Text { text },
            (PartHead::Reasoning { .. }, Delta::Seal(seal)) => BlockDelta::Signature {
                signature: wire::signature(seal),
            },
            (_, Delta::Seal(_) | Delta::Tokens(_)) => return,
            (_, Delta::Citation(citation)) => BlockDelta::Citations {
                citation: cite::write(citation),
            },
            (_, Delta::Arguments(text)) if self.is_custom() => {
                escaped = escape(text);
                BlockDelta::InputJson {
                    partial_json: &escaped,
                }
            }
            (_, Delta::Arguments(partial_json)) => BlockDelta::InputJson { partial_json },
        };
        write(
            "content_block_delta",
            &Data::ContentBlockDelta { index, delta },
            out,
        );
    }

    fn stop(&self, out: &mut BytesMut) {
        let Some(index) = self.block else {
            return;
        };
        if self.is_custom() {
            let delta = BlockDelta::InputJson { partial_json: "\"}" };
            write(
                "content_block_delta",
                &Data::ContentBlockDelta { index, delta },
                out,
            );
        }
        write("content_block_stop", &Data::ContentBlockStop { index }, out);
    }

    /// Returns whether the part is a call with free text, which this format says as an object's one member.
    fn is_custom(&self) -> bool {
        match self.head {
            PartHead::ToolCall { kind, .. } => kind == ToolKind::Custom,
            PartHead::Text | PartHead::Refusal | PartHead::Reasoning { .. } | PartHead::Media(_) => false,
        }
    }
}

fn write(name: &str, data: &Data<'_>, out: &mut BytesMut) {
    out.put_slice(b"event: ");
    out.put_slice(name.as_bytes());
    out.put_slice(b"\ndata: ");
    let written = serde_json::to_writer((&mut *out).writer(), data);
    debug_assert!(written.is_ok(), "{written:?}");
    out.put_slice(b"\n\n");
}

/// Returns `text` as it stands between the quotes of a JSON string.
fn escape(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    let inner = quoted.strip_prefix('"').and_then(|inner| inner.strip_suffix('"'));
    inner.unwrap_or_default().to_owned()
}

fn size(delta: &Delta) -> usize {
    match delta {
        Delta::Text(text) | Delta::Arguments(text) => text.len(),
        Delta::Seal(seal) => seal.bytes.len(),
        Delta::Citation(citation) => citation.weight(),
        Delta::Tokens(_) => 0,
    }
}
