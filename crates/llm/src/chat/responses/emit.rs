//! Streamed replies, written ("Streaming events", API reference).
//!
//! Parts may interleave, as items of this format may. An item begins with the first thing said in it; texts
//! that follow one another are one message, which is complete when something else begins or the answer ends.
//! The last event repeats the whole answer, so that all of it is kept. The last token counts stand in it, while
//! other formats give them after the end: it is held until they come, or until nothing more will.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    answer::{self, Body, Document, Item, Piece, Status},
    error,
    event::{Data, Place, Said, hush, say, write},
};
use crate::{
    ApiError, Losses, Usage,
    chat::{Delta, EncodeStream, Event, Finish, Head, PartHead, Token, citation, note, openai},
    media::Media,
};

/// A comment, which no reader hands on (WHATWG HTML, section 9.2.6).
pub(super) const KEEP_ALIVE: &[u8] = b": keep-alive\n\n";

/// The most bytes that an answer may have.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// Writes a stream.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    head: Head,
    /// The id of the response.
    id: String,
    begun: bool,
    sequence: u64,
    items: Vec<Item>,
    /// The open parts by their index.
    parts: BTreeMap<usize, Part>,
    /// How many bytes were said.
    said: usize,
    usage: Usage,
    finish: Option<Finish>,
    ended: bool,
    /// Whether the whole answer is wanted when it is complete.
    keep: bool,
    whole: Option<Bytes>,
}

/// A part that has begun and is not closed.
#[derive(Debug)]
struct Part {
    head: PartHead,
    /// Where it stands, once anything was said in it.
    place: Option<Place>,
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
            Event::Open { .. } => answer::lose_choices(losses),
            Event::Delta { delta, .. } if citation::lose_delta(delta, losses) => {}
            Event::Delta { index, delta } => self.delta(*index, delta, out, losses),
            Event::Close { index } => {
                if let Some(part) = self.parts.remove(index) {
                    self.close(&part, out);
                }
            }
            Event::Usage(usage) => {
                usage.lose(openai::wire::TIERS, false, losses);
                self.usage.merge(usage);
                if self.finish.is_some() {
                    self.complete(out);
                }
            }
            Event::Finish { choice: 0, reason } => {
                answer::lose_finish(reason.reason, losses);
                reason.lose_remarks(&[], losses);
                self.finish = Some(reason.clone());
            }
            Event::Finish { .. } => {}
            Event::Ping => out.put_slice(KEEP_ALIVE),
            Event::Error(error) => self.fail(error, out),
        }
    }

    fn end(&mut self, out: &mut BytesMut, _losses: &mut Losses) {
        if self.finish.is_some() && !self.ended {
            self.complete(out);
        }
    }

    fn whole(&mut self) -> Option<Bytes> {
        self.whole.take()
    }
}

impl Encoder {
    /// Returns an encoder; `keep` tells whether the answer is wanted whole when it is complete.
    pub(super) fn new(keep: bool) -> Self {
        Self {
            keep,
            ..Self::default()
        }
    }

    fn start(&mut self, head: &Head, out: &mut BytesMut) {
        self.begun = true;
        self.head = head.clone();
        self.id = answer::response_id(head);
        for kind in ["response.created", "response.in_progress"] {
            let response = Document::new(&self.head, &self.id, &[], Status::InProgress);
            let response = Some(response);
            write(
                &mut self.sequence,
                Data {
                    kind,
                    response,
                    ..Data::default()
                },
                out,
            );
        }
    }

    fn open(&mut self, index: usize, head: &PartHead, out: &mut BytesMut, losses: &mut Losses) {
        if let PartHead::Media(media) = head {
            return self.show(media, out, losses);
        }
        let mut part = Part {
            head: head.clone(),
            place: None,
        };
        // A call is news by itself; anything else begins with what is said in it.
        match head {
            PartHead::ToolCall { .. } => part.place = Some(self.begin(head, out)),
            PartHead::Text | PartHead::Refusal | PartHead::Reasoning { .. } | PartHead::Media(_) => {}
        }
        self.parts.insert(index, part);
    }

    /// Says a picture, which is an item of its own.
    fn show(&mut self, media: &Media, out: &mut BytesMut, losses: &mut Losses) {
        let Some(body) = Body::shown(media, losses) else {
            return;
        };
        if let Body::Picture(data) = &body {
            self.said += data.len();
        }
        if self.said > MAX_ANSWER {
            return self.fail(&too_long(), out);
        }
        let index = self.begin_item(body, out);
        self.settle(index, Status::Completed, out);
    }

    /// Begins what a part of this kind is: an item, or more of the message that was said last.
    fn begin(&mut self, head: &PartHead, out: &mut BytesMut) -> Place {
        let next = self.items.len();
        let last = next.checked_sub(1);
        let body = match head {
            PartHead::Text | PartHead::Refusal => {
                let open = last.filter(|last| self.is_message(*last));
                let item = match open {
                    Some(item) => item,
                    None => self.begin_item(Body::Message(Vec::new()), out),
                };
                let refusal = matches!(head, PartHead::Refusal);
                return self.begin_piece(item, refusal, out);
            }
            PartHead::Reasoning { .. } | PartHead::Media(_) => Body::Reasoning {
                text: String::new(),
                encrypted: None,
            },
            PartHead::ToolCall { id, name, kind } => Body::call(id, name, *kind, &self.id, next),
        };
        Place {
            item: self.begin_item(body, out),
            piece: 0,
        }
    }

    fn begin_item(&mut self, body: Body, out: &mut BytesMut) -> usize {
        let index = self.items.len();
        let before = index.checked_sub(1);
        self.items.push(Item::new(&self.id, index, body));
        if let Some(before) = before {
            self.settle(before, Status::Completed, out);
        }
        if let Some(item) = self.items.get(index) {
            write(
                &mut self.sequence,
                Data {
                    kind: "response.output_item.added",
                    output_index: Some(index),
                    item: Some(item),
                    ..Data::default()
                },
                out,
            );
        }
        index
    }

    fn begin_piece(&mut self, item: usize, refusal: bool, out: &mut BytesMut) -> Place {
        let mut place = Place { item, piece: 0 };
        if let Some(Item {
            id,
            body: Body::Message(pieces),
            ..
        }) = self.items.get_mut(item)
        {
            place.piece = pieces.len();
            pieces.push(Piece::new(refusal));
            write(
                &mut self.sequence,
                Data {
                    kind: "response.content_part.added",
                    item_id: Some(id),
                    output_index: Some(item),
                    content_index: Some(place.piece),
                    part: pieces.last().map(Said::Piece),
                    ..Data::default()
                },
                out,
            );
        }
        place
    }

    fn is_message(&self, item: usize) -> bool {
        let item = self.items.get(item);
        item.is_some_and(|item| matches!(item.body, Body::Message(_)))
    }

    fn delta(&mut self, index: usize, delta: &Delta, out: &mut BytesMut, losses: &mut Losses) {
        // A part that is not here belongs to an answer that is lost as a whole.
        let Some(part) = self.parts.get(&index) else {
            return;
        };
        self.said += match delta {
            Delta::Text(text) | Delta::Arguments(text) => text.len(),
            Delta::Seal(seal) => seal.bytes.len(),
            Delta::Tokens(_) if part.head == PartHead::Refusal => return note::lose_tokens(losses),
            Delta::Tokens(tokens) => tokens.iter().map(Token::weight).sum(),
            Delta::Citation(_) if part.head == PartHead::Refusal => return citation::lose(losses),
            Delta::Citation(citation) => citation.weight(),
        };
        if self.said > MAX_ANSWER {
            return self.fail(&too_long(), out);
        }
        let redacted = matches!(part.head, PartHead::Reasoning { redacted: true });
        let place = match part.place {
            Some(place) => place,
            None => {
                let head = part.head.clone();
                let place = self.begin(&head, out);
                if let Some(part) = self.parts.get_mut(&index) {
                    part.place = Some(place);
                }
                place
            }
        };
        if let Some(item) = self.items.get_mut(place.item) {
            say(item, place, delta, redacted, &mut self.sequence, out);
        }
    }

    /// Says that a part is complete, and its item with it, unless more of that may follow.
    fn close(&mut self, part: &Part, out: &mut BytesMut) {
        let Some(place) = part.place else {
            return;
        };
        let last = place.item + 1 == self.items.len();
        if let Some(item) = self.items.get_mut(place.item) {
            item.body.complete();
            hush(item, place, &mut self.sequence, out);
        }
        if !(last && self.is_message(place.item)) {
            self.settle(place.item, Status::Completed, out);
        }
    }

    /// Says that an item is complete, unless a part of it is open or it was said already.
    fn settle(&mut self, index: usize, status: Status, out: &mut BytesMut) {
        let open = |part: &Part| part.place.is_some_and(|place| place.item == index);
        if self.parts.values().any(open) {
            return;
        }
        let unsettled = |item: &&mut Item| item.status == Status::InProgress;
        if let Some(item) = self.items.get_mut(index).filter(unsettled) {
            item.status = status;
            write(
                &mut self.sequence,
                Data {
                    kind: "response.output_item.done",
                    output_index: Some(index),
                    item: Some(item),
                    ..Data::default()
                },
                out,
            );
        }
    }

    /// Writes everything that is still owed, and the end.
    fn complete(&mut self, out: &mut BytesMut) {
        for part in std::mem::take(&mut self.parts).into_values() {
            self.close(&part, out);
        }
        let finish = self.finish.take().unwrap_or_default();
        let status = answer::status(finish.reason);
        if let Some(last) = self.items.len().checked_sub(1) {
            self.settle(last, status, out);
        }
        let response = Document::new(&self.head, &self.id, &self.items, status);
        let response = response.finished(finish.reason, &self.usage);
        if self.keep {
            self.whole = serde_json::to_vec(&response).ok().map(Bytes::from);
        }
        let kind = match status {
            Status::Incomplete => "response.incomplete",
            Status::Completed | Status::InProgress | Status::Failed => "response.completed",
        };
        write(
            &mut self.sequence,
            Data {
                kind,
                response: Some(response),
                ..Data::default()
            },
            out,
        );
        self.ended = true;
    }

    /// Writes that the answer failed; before it began, there is none that could.
    fn fail(&mut self, error: &ApiError, out: &mut BytesMut) {
        self.ended = true;
        if !self.begun {
            out.put_slice(&error::encode_event(error, self.sequence));
            return;
        }
        let response = Document::new(&self.head, &self.id, &self.items, Status::Failed);
        write(
            &mut self.sequence,
            Data {
                kind: "response.failed",
                response: Some(response.failed(error)),
                ..Data::default()
            },
            out,
        );
    }
}

fn too_long() -> ApiError {
    ApiError::bad_reply("the upstream's answer exceeds 16 MiB")
}
