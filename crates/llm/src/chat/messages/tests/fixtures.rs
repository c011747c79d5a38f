//! The laws, over every fixture: what is decoded is encoded again, and a stream says what the reply says.

use std::fs;

use bytes::BytesMut;
use serde_json::{Value, json};

use super::{cases, request, target};
use crate::{
    End, Losses,
    chat::{Client, Event, Grammar, Response, StreamOptions, Upstream, fold::Fold, messages::Messages},
    frame::sse::Sse,
};

#[test]
fn a_request_is_encoded_as_it_was_decoded() {
    for (name, folder) in cases() {
        let document: Value =
            serde_json::from_slice(&fs::read(folder.join("request.json")).unwrap()).unwrap();
        let (again, losses, _) =
            super::encode(&request(document.clone()), document["model"].as_str().unwrap());
        assert_eq!(again, canonical(document), "{name}");
        assert!(losses.is_empty(), "{name}: {losses:?}");
    }
}

#[test]
fn a_stream_says_what_the_reply_says() {
    for (name, folder) in cases() {
        let plain = plain(&fs::read(folder.join("reply.json")).unwrap());
        let streamed = folded(&events(&fs::read(folder.join("reply.sse")).unwrap()));
        assert_eq!(format!("{streamed:?}"), format!("{plain:?}"), "{name}");
    }
}

#[test]
fn a_reply_is_encoded_as_it_was_decoded() {
    for (name, folder) in cases() {
        let bytes = fs::read(folder.join("reply.json")).unwrap();
        let mut losses = Losses::default();
        let again = Messages.encode_response(&plain(&bytes), &mut losses);
        let again: Value = serde_json::from_slice(&again).unwrap();
        assert_eq!(again, sayable(serde_json::from_slice(&bytes).unwrap()), "{name}");
        assert!(losses.is_empty(), "{name}: {losses:?}");
    }
}

#[test]
fn a_stream_is_encoded_as_it_was_decoded() {
    for (name, folder) in cases() {
        let first = events(&fs::read(folder.join("reply.sse")).unwrap());
        let mut encoder = Messages.encode_stream(StreamOptions::default());
        let mut out = BytesMut::new();
        let mut losses = Losses::default();
        for event in &first {
            encoder.event(event, &mut out, &mut losses);
        }
        encoder.end(&mut out, &mut losses);
        let again = folded(&events(&out));
        assert_eq!(format!("{again:?}"), format!("{:?}", folded(&first)), "{name}");
        assert!(losses.is_empty(), "{name}: {losses:?}");
    }
}

/// Returns `document` in the one of several equal forms that is written: contents are arrays.
fn canonical(mut document: Value) -> Value {
    let blocks = |content: &mut Value| {
        if let Some(text) = content.as_str() {
            *content = json!([{"type": "text", "text": text}]);
        }
    };
    document["messages"]
        .as_array_mut()
        .unwrap()
        .iter_mut()
        .for_each(|message| blocks(&mut message["content"]));
    if let Some(system) = document.get_mut("system") {
        blocks(system);
    }
    document
}

/// Returns `reply` without what only this format can say.
fn sayable(mut reply: Value) -> Value {
    let content = reply["content"].as_array_mut().unwrap();
    content.retain(|block| {
        let kind = block["type"].as_str().unwrap();
        ["text", "thinking", "redacted_thinking", "tool_use"].contains(&kind)
    });
    reply
}

fn plain(bytes: &[u8]) -> Response {
    let (_, _, reply) = super::encode(&request(json!({})), "claude-sonnet-4-5");
    reply.decode_response(bytes, &mut Losses::default()).unwrap()
}

fn events(bytes: &[u8]) -> Vec<Event> {
    let mut losses = Losses::default();
    let (_, reply) = Messages
        .encode_request(&request(json!({})), &target("claude-sonnet-4-5"), &mut losses)
        .unwrap();
    let mut decoder = reply.into_stream();
    let mut sse = Sse::default();
    let mut events = Vec::new();
    sse.push(bytes, |frame, _| decoder.frame(frame, &mut events, &mut losses))
        .unwrap();
    decoder.end(End::Clean, &mut events);
    events
}

fn folded(events: &[Event]) -> Response {
    let mut fold = Fold::default();
    let mut grammar = Grammar::default();
    for event in events {
        grammar.check(event).unwrap();
        fold.push(event);
    }
    grammar.end().unwrap();
    fold.finish().unwrap()
}
