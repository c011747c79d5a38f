//! The events of a stream, as they are written.

use std::borrow::Cow;

use bytes::{BufMut, BytesMut};
use serde::Serialize;

use super::{
    answer::{Body, Document, Item, Piece, Summary},
    wire,
};
use crate::chat::{
    Citation, Delta, ToolKind,
    openai::note::{Tokens, UrlCitation},
};

/// The data of an event; which members it has depends on its type.
#[derive(Default, Serialize)]
pub(super) struct Data<'a> {
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) sequence_number: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) response: Option<Document<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) item_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) output_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) summary_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) item: Option<&'a Item>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) part: Option<Said<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) delta: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) refusal: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) arguments: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) input: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) logprobs: Option<Tokens<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) annotation_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) annotation: Option<UrlCitation<'a>>,
}

/// A part of an item, in an event of its own.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Said<'a> {
    Piece(&'a Piece),
    Summary(Summary<'a>),
}

/// Where a part stands: its item, and its place in that.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) item: usize,
    pub(super) piece: usize,
}

/// Adds `delta` to `item`, and says so.
pub(super) fn say(
    item: &mut Item,
    place: Place,
    delta: &Delta,
    redacted: bool,
    sequence: &mut u64,
    out: &mut BytesMut,
) {
    let mut data = Data {
        output_index: Some(place.item),
        ..Data::default()
    };
    match (&mut item.body, delta) {
        (Body::Message(pieces), Delta::Text(more)) => {
            let Some(piece) = pieces.get_mut(place.piece) else {
                return;
            };
            piece.text.push_str(more);
            data.content_index = Some(place.piece);
            data.delta = Some(more);
            if piece.refusal {
                data.kind = "response.refusal.delta";
            } else {
                data.kind = "response.output_text.delta";
                let told = std::mem::replace(&mut piece.told, piece.notes.tokens.len());
                let tokens = piece.notes.tokens.get(told..).unwrap_or_default();
                data.logprobs = Some(Tokens(tokens.into()));
            }
        }
        (Body::Message(pieces), Delta::Tokens(tokens)) => {
            if let Some(piece) = pieces.get_mut(place.piece) {
                piece.notes.tokens.extend_from_slice(tokens);
            }
            return;
        }
        (Body::Message(pieces), Delta::Citation(citation)) => {
            let Some(piece) = pieces.get_mut(place.piece) else {
                return;
            };
            let index = piece.notes.citations.len();
            piece.notes.citations.push(Citation::clone(citation));
            // One of the whole text is said when that is complete.
            if citation.span.is_some() {
                annotate(&item.id, place, piece, index, sequence, out);
            }
            return;
        }
        (Body::Reasoning { text, .. }, Delta::Text(more)) => {
            if text.is_empty() {
                let added = Data {
                    kind: "response.reasoning_summary_part.added",
                    item_id: Some(&item.id),
                    output_index: Some(place.item),
                    summary_index: Some(0),
                    part: Some(Said::Summary(Summary::new(""))),
                    ..Data::default()
                };
                write(sequence, added, out);
            }
            text.push_str(more);
            data.kind = "response.reasoning_summary_text.delta";
            data.summary_index = Some(0);
            data.delta = Some(more);
        }
        (Body::Reasoning { encrypted, .. }, Delta::Seal(seal)) => {
            *encrypted = Some(wire::encrypted(seal, redacted));
            return;
        }
        (Body::Call { kind, arguments, .. }, Delta::Arguments(more)) => {
            arguments.push_str(more);
            data.delta = Some(more);
            data.kind = match kind {
                ToolKind::Function => "response.function_call_arguments.delta",
                ToolKind::Custom => "response.custom_tool_call_input.delta",
            };
        }
        (body, delta) => {
            debug_assert!(false, "{delta:?} on {body:?}");
            return;
        }
    }
    data.item_id = Some(&item.id);
    write(sequence, data, out);
}

/// Says the citation of `piece` at `index`.
fn annotate(
    item_id: &str,
    place: Place,
    piece: &Piece,
    index: usize,
    sequence: &mut u64,
    out: &mut BytesMut,
) {
    let citation = piece.notes.citations.get(index);
    let length = piece.length();
    let data = Data {
        kind: "response.output_text.annotation.added",
        item_id: Some(item_id),
        output_index: Some(place.item),
        content_index: Some(place.piece),
        annotation_index: Some(index),
        annotation: citation.map(|citation| UrlCitation::new(citation, length)),
        ..Data::default()
    };
    write(sequence, data, out);
}

/// Says that the part of `item` at `place` is complete.
pub(super) fn hush(item: &Item, place: Place, sequence: &mut u64, out: &mut BytesMut) {
    let data = |kind| Data {
        kind,
        item_id: Some(&item.id),
        output_index: Some(place.item),
        ..Data::default()
    };
    match &item.body {
        Body::Message(pieces) => {
            let Some(piece) = pieces.get(place.piece) else {
                return;
            };
            let citations = piece.notes.citations.iter().enumerate();
            for (index, _) in citations.filter(|(_, citation)| citation.span.is_none()) {
                annotate(&item.id, place, piece, index, sequence, out);
            }
            let content_index = Some(place.piece);
            let text = Some(piece.text.as_str());
            let done = if piece.refusal {
                Data {
                    content_index,
                    refusal: text,
                    ..data("response.refusal.done")
                }
            } else {
                Data {
                    content_index,
                    text,
                    logprobs: Some(Tokens(Cow::from(&piece.notes.tokens))),
                    ..data("response.output_text.done")
                }
            };
            write(sequence, done, out);
            let part = Some(Said::Piece(piece));
            let done = Data {
                content_index,
                part,
                ..data("response.content_part.done")
            };
            write(sequence, done, out);
        }
        Body::Reasoning { text, .. } if text.is_empty() => {}
        Body::Reasoning { text, .. } => {
            let summary_index = Some(0);
            let done = Data {
                summary_index,
                text: Some(text),
                ..data("response.reasoning_summary_text.done")
            };
            write(sequence, done, out);
            let done = Data {
                summary_index,
                part: Some(Said::Summary(Summary::new(text))),
                ..data("response.reasoning_summary_part.done")
            };
            write(sequence, done, out);
        }
        Body::Call {
            kind: ToolKind::Function,
            name,
            arguments,
            ..
        } => {
            let done = Data {
                name: Some(name),
                arguments: Some(arguments),
                ..data("response.function_call_arguments.done")
            };
            write(sequence, done, out);
        }
        Body::Call {
            kind: ToolKind::Custom,
            arguments,
            ..
        } => {
            let done = Data {
                input: Some(arguments),
                ..data("response.custom_tool_call_input.done")
            };
            write(sequence, done, out);
        }
        Body::Picture(_) => {}
    }
}

/// Writes an event, with the next number.
pub(super) fn write(sequence: &mut u64, data: Data<'_>, out: &mut BytesMut) {
    let data = Data {
        sequence_number: *sequence,
        ..data
    };
    *sequence += 1;
    out.put_slice(b"event: ");
    out.put_slice(data.kind.as_bytes());
    out.put_slice(b"\ndata: ");
    let written = serde_json::to_writer((&mut *out).writer(), &data);
    debug_assert!(written.is_ok(), "{written:?}");
    out.put_slice(b"\n\n");
}
