//! The laws, over every fixture: what is decoded is encoded again, and a stream says what the reply says.

use std::fs;

use bytes::BytesMut;
use proptest::prelude::{ProptestConfig, proptest};
use serde_json::{Value, json};

use super::{cases, data, encode, request, target, words};
use crate::{
    End, Losses, Observed, Usage,
    chat::{Client, Event, Grammar, Response, StreamOptions, Upstream, fold::Fold, responses::Responses},
    frame::sse::Sse,
};

/// What replies lose that only this format can say, by fixture.
const LOST: &[(&str, &[&str])] = &[("hosted_tools", &["web_search_call"])];

#[test]
fn a_request_is_encoded_as_it_was_decoded() {
    for (name, folder) in cases() {
        let document: Value =
            serde_json::from_slice(&fs::read(folder.join("request.json")).unwrap()).unwrap();
        let model = document["model"].as_str().unwrap().to_owned();
        let (again, losses, _) = encode(&request(document.clone()), &model);
        assert_eq!(again, canonical(document), "{name}");
        assert!(losses.is_empty(), "{name}: {losses:?}");
    }
}

#[test]
fn a_stream_says_what_the_reply_says() {
    for (name, folder) in cases() {
        let (plain, lost) = plain(&fs::read(folder.join("reply.json")).unwrap());
        let (events, streamed_lost) = events(&fs::read(folder.join("reply.sse")).unwrap());
        assert_eq!(format!("{:?}", folded(&events)), format!("{plain:?}"), "{name}");
        let expected = LOST.iter().find(|(case, _)| *case == name);
        let expected = expected.map_or(&[][..], |(_, lost)| lost);
        assert_eq!(lost, expected, "{name}");
        assert_eq!(streamed_lost, expected, "{name}");
    }
}

#[test]
fn a_reply_is_encoded_as_it_was_decoded() {
    for (name, folder) in cases() {
        let bytes = fs::read(folder.join("reply.json")).unwrap();
        let (mut response, _) = plain(&bytes);
        let document: Value =
            serde_json::from_slice(&fs::read(folder.join("request.json")).unwrap()).unwrap();
        let document = document.to_string();
        response.head.echo = Responses.echo(
            &crate::json::Shallow::parse(document.into_bytes().into()).unwrap(),
            false,
        );
        let mut losses = Losses::default();
        let again: Value =
            serde_json::from_slice(&Responses.encode_response(&response, &mut losses)).unwrap();
        assert_eq!(without_ids(again), sayable(&name, &bytes), "{name}");
        assert!(losses.is_empty(), "{name}: {losses:?}");
    }
}

#[test]
fn a_stream_is_encoded_as_it_was_decoded() {
    for (name, folder) in cases() {
        let (first, _) = events(&fs::read(folder.join("reply.sse")).unwrap());
        let out = encoded(&first);
        let (again, _) = events(&out);
        let written = data(&out);
        assert_eq!(
            format!("{:?}", folded(&again)),
            format!("{:?}", folded(&first)),
            "{name}"
        );
        well_formed(&name, &written);
        // The last event says what a whole reply would.
        let plain = Responses.encode_response(&folded(&first), &mut Losses::default());
        let plain: Value = serde_json::from_slice(&plain).unwrap();
        assert_eq!(written.last().unwrap()["response"], plain, "{name}");
    }
}

#[test]
fn a_listener_hears_what_a_decoder_reads() {
    for (name, folder) in cases() {
        let (read, _) = plain(&fs::read(folder.join("reply.json")).unwrap());
        let mut whole = Observed::default();
        Responses
            .listen_response(&fs::read(folder.join("reply.json")).unwrap(), &mut whole)
            .unwrap();
        let mut streamed = Observed::default();
        let mut listener = Responses.listen_stream(false);
        let mut sse = Sse::default();
        sse.push(&fs::read(folder.join("reply.sse")).unwrap(), |frame, _| {
            listener.frame(frame, &mut streamed);
        })
        .unwrap();
        for heard in [&whole, &streamed] {
            assert_eq!(heard.model.as_deref(), Some(read.head.model.as_str()), "{name}");
            // The tier of service is not overheard.
            let tier = read.usage.tier;
            assert_eq!(Usage { tier, ..heard.usage }, read.usage, "{name}");
            assert_eq!(heard.finish.as_ref(), Some(&read.choices[0].finish), "{name}");
            assert!(
                heard.complete && heard.meaningful && heard.error.is_none(),
                "{name}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_split_gives_the_same_events(case in 0..40_usize, size in 1..97_usize) {
        let (name, folder) = cases().swap_remove(case);
        let stream = fs::read(folder.join("reply.sse")).unwrap();
        let whole = events(&stream);
        let cut = events_of(stream.chunks(size));
        assert_eq!(format!("{cut:?}"), format!("{whole:?}"), "{name} in pieces of {size}");
    }
}

/// Holds a written stream against the reference: numbers, order, and ids that stay.
fn well_formed(name: &str, events: &[Value]) {
    let kinds: Vec<&str> = events
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds[..2], ["response.created", "response.in_progress"], "{name}");
    let last = events.last().unwrap();
    assert!(
        matches!(
            last["type"].as_str(),
            Some("response.completed" | "response.incomplete")
        ),
        "{name}: {last}"
    );
    let output = last["response"]["output"].as_array().unwrap();
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], number, "{name}");
        if let Some(index) = event["output_index"].as_u64() {
            let item = &output[usize::try_from(index).unwrap()];
            let id = event.get("item_id").unwrap_or(&event["item"]["id"]);
            assert_eq!(*id, item["id"], "{name}: {event}");
        }
    }
    for (index, item) in output.iter().enumerate() {
        let about: Vec<&Value> = events
            .iter()
            .filter(|event| event["output_index"] == index)
            .collect();
        assert_eq!(about[0]["type"], "response.output_item.added", "{name}");
        let done = about.last().unwrap();
        assert_eq!(done["type"], "response.output_item.done", "{name}");
        assert_eq!(done["item"], *item, "{name}");
    }
}

/// Returns `document` in the one of several equal forms that is written.
fn canonical(mut document: Value) -> Value {
    let model = document["model"].as_str().unwrap().to_owned();
    if let Some(text) = document["input"].as_str() {
        document["input"] = json!([{"role": "user", "content": text}]);
    }
    let mut items: Vec<Value> = document["input"].as_array().unwrap().clone();
    items.iter_mut().for_each(item);
    // Instructions are one text.
    while items.first().is_some_and(|item| item["role"] == "developer") {
        let text = items.remove(0)["content"][0]["text"].as_str().unwrap().to_owned();
        let before = document["instructions"]
            .as_str()
            .map(|before| format!("{before}\n\n{text}"));
        document["instructions"] = json!(before.unwrap_or(text));
    }
    document["input"] = json!(items);
    let members = document.as_object_mut().unwrap();
    members.entry("store").or_insert(json!(false));
    // Sealed reasoning is asked for of every model that reasons.
    let sealed = json!("reasoning.encrypted_content");
    let mut include = members.remove("include").unwrap_or(json!([]));
    let words = include.as_array_mut().unwrap();
    words.retain(|word| *word != sealed);
    if model.starts_with("gpt-5") || model.starts_with("gpt-oss") {
        words.insert(0, sealed);
    }
    if !words.is_empty() {
        members.insert("include".to_owned(), include);
    }
    document
}

/// Says an item as it is written: without what means something only where items are stored.
fn item(item: &mut Value) {
    let members = item.as_object_mut().unwrap();
    if members.get("type").is_none() {
        members.insert("type".to_owned(), json!("message"));
    }
    let kind = members["type"].as_str().unwrap().to_owned();
    if ["message", "function_call", "function_call_output"].contains(&kind.as_str()) {
        members.remove("id");
        members.remove("status");
    }
    if kind != "message" {
        return;
    }
    let role = members["role"].as_str().unwrap().to_owned();
    let content = &mut members["content"];
    if role == "assistant" {
        if let Some(text) = content[0]["text"].as_str() {
            *content = json!(text);
        }
    } else if let Some(text) = content.as_str() {
        *content = json!([{"type": "input_text", "text": text}]);
    }
}

/// Returns a reply without ids of items, which are made anew, and seals, which are marked.
fn without_ids(mut reply: Value) -> Value {
    for item in reply["output"].as_array_mut().unwrap() {
        let item = item.as_object_mut().unwrap();
        item.remove("id");
        item.remove("encrypted_content");
    }
    reply
}

/// Returns the reply in `bytes` without what only this format can say.
fn sayable(name: &str, bytes: &[u8]) -> Value {
    let mut reply = without_ids(serde_json::from_slice(bytes).unwrap());
    let output = reply["output"].as_array_mut().unwrap();
    output.retain(|item| item["type"] != "web_search_call");
    for item in output {
        // The text of reasoning is written as its summary, and a summary is one text.
        if let Some(content) = item.as_object_mut().unwrap().remove("content") {
            if item["type"] == "reasoning" {
                item["summary"] = json!([{"type": "summary_text", "text": content[0]["text"]}]);
            } else {
                item["content"] = content;
            }
        }
        if name == "reasoning_summaries" && item["type"] == "reasoning" {
            item["summary"] = json!([{"type": "summary_text", "text": "First.\n\nThen."}]);
        }
    }
    reply
}

fn plain(bytes: &[u8]) -> (Response, Vec<String>) {
    let (_, _, reply) = encode(&request(json!({})), "gpt-5");
    let mut losses = Losses::default();
    let response = reply.decode_response(bytes, &mut losses).unwrap();
    (response, words(&losses))
}

fn events(bytes: &[u8]) -> (Vec<Event>, Vec<String>) {
    events_of(std::iter::once(bytes))
}

fn events_of<'b>(pieces: impl Iterator<Item = &'b [u8]>) -> (Vec<Event>, Vec<String>) {
    let mut losses = Losses::default();
    let (_, reply) = Responses
        .encode_request(&request(json!({})), &target(&super::Only, "gpt-5"), &mut losses)
        .unwrap();
    let mut decoder = reply.into_stream();
    let mut sse = Sse::default();
    let mut events = Vec::new();
    for piece in pieces {
        sse.push(piece, |frame, _| decoder.frame(frame, &mut events, &mut losses))
            .unwrap();
    }
    decoder.end(End::Clean, &mut events);
    (events, words(&losses))
}

fn encoded(events: &[Event]) -> BytesMut {
    let mut encoder = Responses.encode_stream(StreamOptions::default());
    let mut out = BytesMut::new();
    let mut losses = Losses::default();
    for event in events {
        encoder.event(event, &mut out, &mut losses);
    }
    encoder.end(&mut out, &mut losses);
    assert!(losses.is_empty(), "{losses:?}");
    out
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
