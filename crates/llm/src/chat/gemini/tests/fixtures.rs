//! The laws, over every fixture: what is decoded is encoded again, and a stream says what the reply says,
//! however its bytes are cut.

use std::fs;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use serde_json::{Map, Value, json, value::RawValue};

use super::{GEMINI_2_5, cases, encode, request, words};
use crate::{
    End, Losses,
    chat::{Client, Event, Grammar, Response, StreamOptions, fold::Fold, gemini::Gemini},
    frame::{Framer, Framing},
};

#[test]
fn a_request_is_encoded_as_it_was_decoded() {
    for (name, folder) in cases() {
        let document: Value =
            serde_json::from_slice(&fs::read(folder.join("request.json")).unwrap()).unwrap();
        let (again, losses, _) = encode(&request(document.clone()), document["model"].as_str().unwrap());
        assert_eq!(again, canonical(document), "{name}");
        assert!(losses.is_empty(), "{name}: {losses:?}");
    }
}

#[test]
fn a_stream_says_what_the_reply_says() {
    for (name, folder) in cases() {
        let (plain, lost) = plain(&fs::read(folder.join("reply.json")).unwrap());
        let bytes = fs::read(folder.join("reply.sse")).unwrap();
        let (events, streamed) = events(&bytes, bytes.len());
        assert_eq!(format!("{:?}", folded(&events)), format!("{plain:?}"), "{name}");
        assert_eq!(streamed, lost, "{name}");
    }
}

#[test]
fn a_reply_is_encoded_as_it_was_decoded() {
    for (name, folder) in cases() {
        let bytes = fs::read(folder.join("reply.json")).unwrap();
        let mut losses = Losses::default();
        let again = Gemini.encode_response(&plain(&bytes).0, &mut losses);
        let again: Value = serde_json::from_slice(&again).unwrap();
        assert_eq!(again, sayable(serde_json::from_slice(&bytes).unwrap()), "{name}");
        assert!(losses.is_empty(), "{name}: {losses:?}");
    }
}

#[test]
fn a_stream_is_encoded_as_it_was_decoded() {
    for (name, folder) in cases() {
        let bytes = fs::read(folder.join("reply.sse")).unwrap();
        let (first, _) = events(&bytes, bytes.len());
        for array in [false, true] {
            let mut encoder = Gemini.encode_stream(StreamOptions {
                include_usage: true,
                array,
                keep: false,
            });
            let mut out = BytesMut::new();
            let mut losses = Losses::default();
            for event in &first {
                encoder.event(event, &mut out, &mut losses);
            }
            encoder.end(&mut out, &mut losses);
            if array {
                let elements: Vec<&RawValue> = serde_json::from_slice(&out).unwrap();
                let lines = elements.iter().map(|element| format!("data: {element}\n\n"));
                out = BytesMut::from(lines.collect::<String>().as_bytes());
            }
            let (again, _) = events(&out, out.len());
            let (again, mut expected) = (folded(&again), folded(&first));
            // Counts that nobody gave are written as 0.
            expected.usage.input.get_or_insert(0);
            expected.usage.output.get_or_insert(0);
            assert_eq!(format!("{again:?}"), format!("{expected:?}"), "{name}");
            assert!(losses.is_empty(), "{name}: {losses:?}");
        }
    }
}

proptest! {
    #[test]
    fn any_split_gives_the_same_events(case in any::<prop::sample::Index>(), size in 1usize..200) {
        let cases = cases();
        let (_, folder) = case.get(&cases);
        let bytes = fs::read(folder.join("reply.sse")).unwrap();
        prop_assert_eq!(events(&bytes, size), events(&bytes, bytes.len()));
    }
}

/// Returns `document` in the one of several equal forms that is written: names in camel case, what must stand
/// even if it is empty, and no model.
fn canonical(document: Value) -> Value {
    let Value::Object(members) = camel(document) else {
        unreachable!("a request is an object");
    };
    let mut whole = json!({"contents": null, "tools": null, "generationConfig": {}});
    for (key, value) in members {
        whole[key] = value;
    }
    whole.as_object_mut().unwrap().remove("model");
    whole
}

/// Returns `value` with its members in camel case, but not what functions take and give.
fn camel(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let renamed = members.into_iter().map(|(key, value)| {
                let mut words = key.split('_');
                let first = words.next().unwrap().to_owned();
                let key = words.fold(first, |camel, word| {
                    let (initial, rest) = word.split_at(1);
                    camel + &initial.to_uppercase() + rest
                });
                let own = ["args", "response", "parametersJsonSchema"].contains(&key.as_str());
                let value = if own { value } else { camel(value) };
                (key, value)
            });
            Value::Object(renamed.collect::<Map<String, Value>>())
        }
        Value::Array(elements) => elements.into_iter().map(camel).collect(),
        value => value,
    }
}

/// Returns `reply` without what only this format can say, and a blocked prompt as an answer that is blocked.
fn sayable(mut reply: Value) -> Value {
    let members = reply.as_object_mut().unwrap();
    if members.remove("promptFeedback").is_some() {
        let blocked = json!([{"content": {"parts": []}, "index": 0, "finishReason": "PROHIBITED_CONTENT"}]);
        members.insert("candidates".to_owned(), blocked);
        reply["usageMetadata"]["candidatesTokenCount"] = json!(0);
    }
    for candidate in reply["candidates"].as_array_mut().unwrap() {
        let candidate = candidate.as_object_mut().unwrap();
        candidate.retain(|key, _| key != "avgLogprobs");
        candidate["content"]["role"] = json!("model");
        let parts = candidate["content"]["parts"].as_array_mut().unwrap();
        parts
            .retain(|part| part.get("executableCode").is_none() && part.get("codeExecutionResult").is_none());
        if parts.is_empty() {
            parts.push(json!({"text": ""}));
        }
    }
    reply
}

fn plain(bytes: &[u8]) -> (Response, Vec<String>) {
    let (_, _, reply) = encode(&request(json!({})), GEMINI_2_5);
    let mut losses = Losses::default();
    let response = reply.decode_response(bytes, &mut losses).unwrap();
    (response, words(&losses))
}

fn events(bytes: &[u8], size: usize) -> (Vec<Event>, Vec<String>) {
    let (_, _, reply) = encode(&request(json!({})), GEMINI_2_5);
    let mut losses = Losses::default();
    let mut decoder = reply.into_stream();
    let mut framer = Framer::new(Framing::Sse);
    let mut events = Vec::new();
    for piece in Bytes::copy_from_slice(bytes).chunks(size) {
        framer
            .push(piece, |frame, _| decoder.frame(frame, &mut events, &mut losses))
            .unwrap();
    }
    framer.finish(|frame| decoder.frame(frame, &mut events, &mut losses));
    decoder.end(End::Clean, &mut events);
    (events, words(&losses))
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
