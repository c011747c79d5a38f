//! Events: what is unheard of in a stream reaches the client or is reported, once, and kinds of events that are unheard
//! of are.

use std::{fs, iter, path::Path};

use bytes::Bytes;
use llm::{End, Field, Format, Losses};
use serde_json::{Value, json};
use testkit::event_stream;

use super::{CLIENTS, MEMBER, VALUE, Vanished, fixtures, is_silent, lost_with, mutants, names, reply};

/// Arguments of a call as it begins, in whose place others follow.
const PLACEHOLDER: &str = "/content_block/input";

/// A piece of a stream.
struct Piece {
    /// The name of a binary frame.
    name: Option<String>,
    /// The document in it.
    data: Option<Value>,
    /// As it is written in the fixture.
    text: String,
}

#[test]
fn what_chunks_of_chat_completions_add_is_delivered_or_reported() {
    check(Format::OpenAi, 300);
}

#[test]
fn what_events_of_messages_add_is_delivered_or_reported() {
    check(Format::Messages, 300);
}

#[test]
fn what_events_of_responses_add_is_delivered_or_reported() {
    check(Format::Responses, 300);
}

#[test]
fn what_chunks_of_gemini_add_is_delivered_or_reported() {
    check(Format::Gemini, 300);
}

#[test]
fn what_events_of_converse_add_is_delivered_or_reported() {
    check(Format::Converse, 200);
}

/// Adds the member to every object of every event of every stream in `upstream`, one at a time.
#[track_caller]
fn check(upstream: Format, enough: usize) {
    let mut vanished = Vanished::default();
    for file in files(upstream) {
        let pieces = pieces(&file);
        for (at, data) in documents(&pieces) {
            for (place, more) in mutants(data) {
                let bytes = written(&pieces, at, &more);
                for (format, path, body) in CLIENTS {
                    let Some((told, losses)) = streamed(path, body, upstream, &bytes) else {
                        continue;
                    };
                    let is_there = told.contains(VALUE)
                        || names(&losses, *format)
                        || lost_with(&place, data, &losses)
                        || is_silent(&place)
                        || place == PLACEHOLDER;
                    let whom = format!("{} {} event {at}", format.name(), file.display());
                    vanished.note(&whom, &place, is_there);
                }
            }
        }
    }
    vanished.none_of(enough);
}

#[test]
fn events_that_are_unheard_of_are_reported() {
    for upstream in [Format::Messages, Format::Responses, Format::Converse] {
        for file in files(upstream) {
            let mut pieces = pieces(&file);
            // After the first, so that it stands within the stream.
            let (first, _) = documents(&pieces).next().expect("a stream has events");
            let name = pieces
                .iter()
                .find_map(|piece| piece.name.as_ref())
                .map(|_| MEMBER.to_owned());
            let end = name.is_none().then(|| Piece {
                name: None,
                data: None,
                text: "\n".to_owned(),
            });
            let event = Piece {
                name,
                data: Some(json!({"type": MEMBER, "said": VALUE})),
                text: String::new(),
            };
            let at = first + 1 + usize::from(end.is_some());
            pieces.splice(at..at, iter::once(event).chain(end));
            let unheard = |losses: &Losses| {
                losses
                    .iter()
                    .any(|loss| loss.field == Field::Member(MEMBER.into()))
            };
            for (_, path, body) in CLIENTS {
                if let Some((_, losses)) = streamed(path, body, upstream, &whole(&pieces)) {
                    assert!(unheard(&losses), "{}: {losses:?}", file.display());
                }
            }
        }
    }
}

#[test]
fn what_every_event_repeats_is_reported_once() {
    for upstream in [
        Format::OpenAi,
        Format::Messages,
        Format::Responses,
        Format::Gemini,
        Format::Converse,
    ] {
        for file in files(upstream) {
            let mut pieces = pieces(&file);
            for data in pieces.iter_mut().filter_map(|piece| piece.data.as_mut()) {
                data[MEMBER] = json!(VALUE);
            }
            for (_, path, body) in CLIENTS {
                if let Some((_, losses)) = streamed(path, body, upstream, &whole(&pieces)) {
                    let members = losses
                        .iter()
                        .filter(|loss| loss.field == Field::Member(MEMBER.into()));
                    assert_eq!(members.count(), 1, "{}: {losses:?}", file.display());
                }
            }
        }
    }
}

/// Returns the streams in `upstream`.
fn files(upstream: Format) -> Vec<std::path::PathBuf> {
    let mut files = fixtures(upstream, "reply.sse");
    files.extend(fixtures(upstream, "reply.frames"));
    files
}

fn pieces(file: &Path) -> Vec<Piece> {
    let text = fs::read_to_string(file).expect("the fixture can be read");
    let is_binary = file.extension().is_some_and(|extension| extension == "frames");
    let piece = |line: &str| {
        let (name, data) = if is_binary {
            let (name, payload) = line.split_once(' ').expect("a name and a payload");
            (Some(name.to_owned()), Some(payload))
        } else {
            (None, line.strip_prefix("data:"))
        };
        let data = data.and_then(|data| serde_json::from_str(data).ok());
        Piece {
            name,
            data: data.filter(Value::is_object),
            text: line.to_owned(),
        }
    };
    text.split_inclusive('\n').map(piece).collect()
}

/// Returns the documents of a stream and where they are.
fn documents(pieces: &[Piece]) -> impl Iterator<Item = (usize, &Value)> {
    let pieces = pieces.iter().enumerate();
    pieces.filter_map(|(at, piece)| Some((at, piece.data.as_ref()?)))
}

/// Returns the stream as its documents have become.
fn whole(pieces: &[Piece]) -> Vec<u8> {
    pieces
        .iter()
        .flat_map(|piece| piece.write(piece.data.as_ref()))
        .collect()
}

/// Returns the stream with the document at `at` replaced.
fn written(pieces: &[Piece], at: usize, document: &Value) -> Vec<u8> {
    let pieces = pieces.iter().enumerate();
    let written = pieces.flat_map(|(index, piece)| match index == at {
        true => piece.write(Some(document)),
        false => piece.write(None),
    });
    written.collect()
}

impl Piece {
    /// Returns the piece with `document` in it, or as it is in the fixture.
    fn write(&self, document: Option<&Value>) -> Vec<u8> {
        match (&self.name, document) {
            (Some(name), document) => {
                let payload = document
                    .or(self.data.as_ref())
                    .expect("every frame has a payload");
                event_stream::event(name, payload)
            }
            (None, Some(document)) => format!("data: {document}\n").into_bytes(),
            (None, None) => self.text.clone().into_bytes(),
        }
    }
}

/// Returns what a client is told of a stream in `upstream`, and what was lost; `None` if they share the format.
fn streamed(path: &str, body: &str, upstream: Format, bytes: &[u8]) -> Option<(String, Losses)> {
    let mut stream = reply(path, body, upstream)?.stream();
    let mut told = stream.push(Bytes::copy_from_slice(bytes)).to_vec();
    told.extend_from_slice(&stream.end(End::Clean));
    let told = String::from_utf8(told).expect("events are text");
    Some((told, stream.observed().losses.clone()))
}
