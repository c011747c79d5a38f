//! Streams: the laws over every fixture, and what breaks one.

use std::fs;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};
use testkit::event_stream::{event, exception};

use super::{CLAUDE, cases, reply, target, words};
use crate::{
    End, Endpoint, ErrorKind, Inbound, Losses, Observed,
    chat::{Delta, Event, Grammar, PartHead, Upstream, Verdict, converse::Converse, fold::Fold},
    frame::{Frame, Framer, Framing},
    reply::Stream,
};

/// Returns the names and payloads of `frames`, one a line.
fn parse(frames: &str) -> Vec<(&str, Value)> {
    let frames = frames.lines().map(|line| line.split_once(' ').unwrap());
    frames
        .map(|(name, payload)| (name, serde_json::from_str(payload).unwrap()))
        .collect()
}

fn binary(frames: &[(&str, Value)]) -> Vec<u8> {
    frames
        .iter()
        .flat_map(|(name, payload)| event(name, payload))
        .collect()
}

fn decode(bytes: &[u8], size: usize) -> (Vec<Event>, Vec<String>) {
    let mut framer = Framer::new(Framing::EventStream);
    let mut decoder = reply().into_stream();
    let mut events = Vec::new();
    let mut losses = Losses::default();
    for piece in bytes.chunks(size) {
        framer
            .push(piece, |frame, _| decoder.frame(frame, &mut events, &mut losses))
            .unwrap();
    }
    decoder.end(End::Clean, &mut events);
    (events, words(&losses))
}

/// Returns the stream of a client at `path` whose request was sent to the format.
fn client(path: &str) -> Stream {
    let body = r#"{"model":"m","stream":true,"max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#;
    let place = Endpoint::find(path, "").unwrap();
    let inbound = Inbound::parse(place, Bytes::from_static(body.as_bytes())).unwrap();
    let call = inbound.call(&target(CLAUDE), &HeaderMap::new()).unwrap();
    assert_eq!(call.path, format!("/model/{CLAUDE}/converse-stream"));
    assert_eq!(call.reply.stream_type(), "application/vnd.amazon.eventstream");
    call.reply.stream()
}

fn text(index: u64, text: &str) -> (&'static str, Value) {
    (
        "contentBlockDelta",
        json!({"contentBlockIndex": index, "delta": {"text": text}}),
    )
}

#[test]
fn a_stream_says_what_the_reply_says_however_it_is_split() {
    for (name, folder) in cases() {
        let mut losses = Losses::default();
        let whole = fs::read(folder.join("reply.json")).unwrap();
        let plain = reply().decode_response(&whole, &mut losses).unwrap();
        let frames = fs::read_to_string(folder.join("reply.frames")).unwrap();
        let bytes = binary(&parse(&frames));
        let (events, lost) = decode(&bytes, bytes.len());
        assert_eq!(lost, words(&losses), "{name}");
        let mut fold = Fold::default();
        let mut grammar = Grammar::default();
        for event in &events {
            grammar.check(event).unwrap();
            fold.push(event);
        }
        grammar.end().unwrap();
        let streamed = fold.finish().unwrap();
        assert_eq!(format!("{streamed:?}"), format!("{plain:?}"), "{name}");
        for size in [1, 7, 64] {
            assert_eq!(decode(&bytes, size).0, events, "{name} in pieces of {size}");
        }
    }
}

#[test]
fn every_stream_is_complete_for_every_client() {
    for (name, folder) in cases() {
        let frames = fs::read_to_string(folder.join("reply.frames")).unwrap();
        let bytes = Bytes::from(binary(&parse(&frames)));
        for (path, last) in [
            ("/v1/chat/completions", "data: [DONE]\n\n"),
            ("/anthropic/v1/messages", "data: {\"type\":\"message_stop\"}\n\n"),
        ] {
            let mut stream = client(path);
            let mut out = stream.push(bytes.clone()).to_vec();
            out.extend_from_slice(&stream.end(End::Clean));
            let out = String::from_utf8(out).unwrap();
            assert!(out.ends_with(last), "{name}: {out}");
            let observed = stream.observed();
            assert!(observed.complete && observed.error.is_none(), "{name}");
        }
    }
}

#[test]
fn a_messages_client_sees_blocks_begin_and_counts_at_the_end() {
    let mut stream = client("/anthropic/v1/messages");
    let frames = [
        ("messageStart", json!({"role": "assistant"})),
        text(0, "Hi"),
        ("contentBlockStop", json!({"contentBlockIndex": 0})),
        ("messageStop", json!({"stopReason": "end_turn"})),
        (
            "metadata",
            json!({"usage": {"inputTokens": 12, "outputTokens": 3, "cacheReadInputTokens": 5}}),
        ),
    ];
    let mut out = stream.push(Bytes::from(binary(&frames))).to_vec();
    out.extend_from_slice(&stream.end(End::Clean));
    let out = String::from_utf8(out).unwrap();
    let names: Vec<&str> = out
        .lines()
        .filter_map(|line| line.strip_prefix("event: "))
        .collect();
    assert_eq!(
        names,
        [
            "message_start",
            "content_block_start",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop",
        ]
    );
    let delta = out
        .lines()
        .find(|line| line.contains("\"message_delta\""))
        .unwrap();
    let delta: Value = serde_json::from_str(delta.strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(delta["usage"]["input_tokens"], 12);
    assert_eq!(delta["usage"]["output_tokens"], 3);
    assert_eq!(delta["usage"]["cache_read_input_tokens"], 5);
}

#[test]
fn the_id_of_the_answer_is_that_of_the_reply() {
    let body = r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#;
    let mut headers = HeaderMap::new();
    headers.insert("x-amzn-requestid", HeaderValue::from_static("8a1b"));
    for (path, expected) in [
        ("/v1/chat/completions", "8a1b"),
        ("/anthropic/v1/messages", "msg_8a1b"),
    ] {
        let place = Endpoint::find(path, "").unwrap();
        let inbound = Inbound::parse(place, Bytes::from_static(body.as_bytes())).unwrap();
        let mut reply = inbound.call(&target(CLAUDE), &HeaderMap::new()).unwrap().reply;
        reply.hear(&headers);
        let answer = json!({"output": {"message": {"content": [{"text": "a"}]}}, "stopReason": "end_turn"});
        let answer = reply.response(Bytes::from(answer.to_string())).unwrap();
        let document: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(document["id"], expected);
    }
}

#[test]
fn a_block_of_another_kind_ends_the_one_before() {
    let (events, losses) = decode(
        &binary(&[
            text(0, "a"),
            (
                "contentBlockDelta",
                json!({"contentBlockIndex": 0, "delta": {"reasoningContent": {"text": "b"}}}),
            ),
            (
                "contentBlockStart",
                json!({"contentBlockIndex": 1, "start": {"image": {"format": "png"}}}),
            ),
            (
                "contentBlockDelta",
                json!({"contentBlockIndex": 1, "delta": {"image": {}}}),
            ),
            ("someday", json!({"delta": {"text": "?"}})),
            (
                "messageStop",
                json!({"stopReason": "malformed_tool_use", "eventType": "messageStop"}),
            ),
        ]),
        1000,
    );
    assert_eq!(losses, ["image", "someday"]);
    let opened: Vec<&PartHead> = events
        .iter()
        .filter_map(|event| match event {
            Event::Open { part, .. } => Some(part),
            _ => None,
        })
        .collect();
    assert_eq!(
        opened,
        [&PartHead::Text, &PartHead::Reasoning { redacted: false }]
    );
    let Some(Event::Finish { reason, .. }) = events.last() else {
        panic!("{events:?}");
    };
    assert_eq!(reason.raw.as_deref(), Some("malformed_tool_use"));
}

#[test]
fn a_broken_stream_ends_with_an_error() {
    #[track_caller]
    fn check(bytes: Vec<u8>, kind: ErrorKind, status: u16, message: &str) {
        for path in ["/v1/chat/completions", "/anthropic/v1/messages"] {
            let mut stream = client(path);
            let mut out = stream.push(Bytes::from(bytes.clone())).to_vec();
            out.extend_from_slice(&stream.end(End::Clean));
            let out = String::from_utf8(out).unwrap();
            let error = stream.observed().error.clone().expect("an error");
            assert_eq!((error.kind, error.status.as_u16()), (kind, status), "{out}");
            assert!(error.message.contains(message), "{}", error.message);
            assert!(out.contains(message), "{out}");
            assert!(!out.contains("[DONE]") && !out.contains("message_stop"), "{out}");
            assert!(stream.push(Bytes::from(binary(&[text(0, "late")]))).is_empty());
        }
    }
    let start = || binary(&[("messageStart", json!({"role": "assistant"})), text(0, "Hi")]);
    let failed = |name: &str| [start(), exception(name, &json!({"message": "it is so"}))].concat();
    let (bad, unreadable) = (ErrorKind::BadUpstream, ErrorKind::BadReply);
    check(vec![], bad, 502, "before the answer was complete");
    check(start(), bad, 502, "before the answer was complete");
    check(
        failed("throttlingException"),
        ErrorKind::RateLimit,
        429,
        "it is so",
    );
    check(
        failed("validationException"),
        ErrorKind::InvalidRequest,
        400,
        "it is so",
    );
    check(
        failed("serviceUnavailableException"),
        ErrorKind::Unavailable,
        503,
        "it is so",
    );
    check(
        failed("internalServerException"),
        ErrorKind::Internal,
        500,
        "it is so",
    );
    check(failed("modelStreamErrorException"), bad, 502, "it is so");
    check(failed("novelException"), bad, 502, "it is so");
    check(
        event("messageStart", &json!("no object")),
        unreadable,
        502,
        "cannot be read",
    );
    check(
        binary(&[(
            "contentBlockDelta",
            json!({"contentBlockIndex": 0, "delta": {"toolUse": {"input": "{"}}}),
        )]),
        unreadable,
        502,
        "belong to none",
    );
    let mut corrupt = start();
    if let Some(last) = corrupt.last_mut() {
        *last ^= 1;
    }
    check(corrupt, unreadable, 502, "corrupt");
}

#[test]
fn what_is_overheard_is_what_is_read() {
    let frames = fs::read_to_string(cases()[0].1.join("reply.frames")).unwrap();
    let mut listener = Converse.listen_stream(false);
    let mut observed = Observed::default();
    for (name, payload) in parse(&frames) {
        let frame = Frame {
            event: Some(name),
            data: &payload.to_string(),
        };
        assert_eq!(listener.frame(frame, &mut observed), Verdict::Pass);
    }
    assert!(observed.complete && observed.meaningful);
    let mut whole = Observed::default();
    let body = fs::read(cases()[0].1.join("reply.json")).unwrap();
    Converse.listen_response(&body, &mut whole).unwrap();
    assert_eq!(whole.usage, observed.usage);
    assert_eq!(whole.finish, observed.finish);
    assert_eq!(whole.usage.prompt(), 12 + 1024 + 4);
    assert!(Converse.listen_response(b"{}", &mut whole).is_err());
}

#[test]
fn nothing_is_said_of_an_announced_text() {
    let (events, _) = decode(
        &binary(&[
            ("messageStart", json!({"role": "assistant"})),
            ("contentBlockStart", json!({"contentBlockIndex": 0, "start": {}})),
            (
                "contentBlockDelta",
                json!({"contentBlockIndex": 0, "delta": {"text": ""}}),
            ),
            ("contentBlockStop", json!({"contentBlockIndex": 0})),
            ("messageStop", json!({"stopReason": "end_turn"})),
        ]),
        1000,
    );
    let said = events.iter().filter(|event| {
        matches!(
            event,
            Event::Open { .. }
                | Event::Delta {
                    delta: Delta::Text(_),
                    ..
                }
        )
    });
    assert_eq!(said.count(), 0, "{events:?}");
}
