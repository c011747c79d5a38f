//! Streams, event by event.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use serde_json::{Value, json};

use super::{GEMINI_3, encode, request, target, words};
use crate::{
    ApiError, End, Endpoint, ErrorKind, Inbound, Losses, Observed, Site, Usage,
    chat::{
        Client, Delta, Event, Finish, FinishReason, Head, PartHead, Seal, StreamOptions, ToolKind, Upstream,
        Verdict, gemini::Gemini,
    },
    frame::Frame,
    media::{Media, MediaKind, Source},
};

/// Decodes frames with the given data, then the end.
fn decode(frames: &[Value]) -> (Vec<Event>, Vec<String>) {
    let (_, _, reply) = encode(&request(json!({})), GEMINI_3);
    let mut decoder = reply.into_stream();
    let mut events = Vec::new();
    let mut losses = Losses::default();
    for frame in frames {
        let data = frame.as_str().map_or_else(|| frame.to_string(), str::to_owned);
        let frame = Frame {
            event: None,
            data: &data,
        };
        decoder.frame(frame, &mut events, &mut losses);
    }
    decoder.end(End::Clean, &mut events);
    (events, words(&losses))
}

fn chunk(parts: Value) -> Value {
    json!({"candidates": [{"content": {"parts": parts, "role": "model"}, "index": 0}], "modelVersion": "m", "responseId": "r"})
}

fn last(word: &str) -> Value {
    json!({"candidates": [{"finishReason": word, "index": 0}], "usageMetadata": {"promptTokenCount": 7, "candidatesTokenCount": 3}})
}

#[test]
fn reads_what_comes_in_pieces() {
    let call =
        json!({"functionCall": {"id": "c", "name": "f", "args": {"a": 1}}, "thoughtSignature": "U0lH"});
    let (events, losses) = decode(&[
        chunk(json!([{"text": "Hm", "thought": true}])),
        chunk(json!([{"text": ".", "thought": true}, {"text": ""}, {"text": "So"}])),
        chunk(json!([call, {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}])),
        last("STOP"),
    ]);
    let delta = |index, delta| Event::Delta { index, delta };
    let open = |index, part| Event::Open {
        index,
        choice: 0,
        part,
    };
    let tool = PartHead::ToolCall {
        id: "c".into(),
        name: "f".into(),
        kind: ToolKind::Function,
    };
    let picture = Media {
        kind: MediaKind::Image,
        source: Source::inline("image/png", "AAAA").expect("base64"),
        name: None,
        detail: None,
        context: None,
        citable: None,
    };
    let seal = Seal {
        issuer: crate::Format::Gemini,
        bytes: "U0lH".into(),
    };
    assert_eq!(
        events,
        [
            Event::Start(Head {
                id: "r".into(),
                model: "m".into(),
                created: None,
                echo: None
            }),
            open(0, PartHead::Reasoning { redacted: false }),
            delta(0, Delta::Text("Hm".into())),
            delta(0, Delta::Text(".".into())),
            Event::Close { index: 0 },
            open(1, PartHead::Text),
            delta(1, Delta::Text("So".into())),
            Event::Close { index: 1 },
            open(2, PartHead::Reasoning { redacted: true }),
            delta(2, Delta::Seal(seal)),
            Event::Close { index: 2 },
            open(3, tool),
            delta(3, Delta::Arguments(r#"{"a":1}"#.into())),
            Event::Close { index: 3 },
            open(4, PartHead::Media(Box::new(picture))),
            Event::Close { index: 4 },
            Event::Usage(Usage {
                input: Some(7),
                output: Some(3),
                ..Usage::default()
            }),
            Event::Finish {
                choice: 0,
                reason: Finish {
                    reason: FinishReason::ToolCalls,
                    raw: Some("STOP".into()),
                    stop_sequence: None,
                    remarks: Vec::new(),
                }
            },
        ]
    );
    assert_eq!(losses, Vec::<String>::new());
}

#[test]
fn a_broken_stream_ends_with_an_error() {
    #[track_caller]
    fn check(frames: &[Value], kind: ErrorKind, status: u16) {
        let (events, _) = decode(frames);
        let Some(Event::Error(error)) = events.last() else {
            panic!("{events:?}");
        };
        assert_eq!((error.kind, error.status.as_u16()), (kind, status));
        let errors = events.iter().filter(|event| matches!(event, Event::Error(_)));
        assert_eq!(errors.count(), 1);
    }
    let said = || chunk(json!([{"text": "x"}]));
    let busy = json!({"error": {"code": 503, "message": "busy", "status": "UNAVAILABLE"}});
    check(&[], ErrorKind::BadUpstream, 502);
    check(&[said()], ErrorKind::BadUpstream, 502);
    check(
        &[
            json!({"candidates": [{"finishReason": "STOP", "index": 0}, {"index": 1}]}),
            json!("[DONE]"),
        ],
        ErrorKind::BadUpstream,
        502,
    );
    check(&[said(), busy, last("STOP")], ErrorKind::Unavailable, 503);
    check(&[json!({"error": "odd"})], ErrorKind::BadUpstream, 502);
    check(&[json!("not json"), last("STOP")], ErrorKind::BadReply, 502);
    check(&[json!({"candidates": 5})], ErrorKind::BadReply, 502);
}

fn begin() -> Event {
    Event::Start(Head {
        id: "r".into(),
        model: "m".into(),
        created: None,
        echo: None,
    })
}

fn open(index: usize, choice: usize, part: PartHead) -> Event {
    Event::Open { index, choice, part }
}

fn said(index: usize, text: &str) -> Event {
    Event::Delta {
        index,
        delta: Delta::Text(text.to_owned()),
    }
}

fn finish(choice: usize, reason: FinishReason) -> Event {
    Event::Finish {
        choice,
        reason: Finish {
            reason,
            ..Finish::default()
        },
    }
}

/// Encodes `events`, and the end unless they end with an error.
fn written(events: &[Event], array: bool) -> String {
    let mut encoder = Gemini.encode_stream(StreamOptions {
        include_usage: true,
        array,
        keep: false,
    });
    let mut out = BytesMut::new();
    let mut losses = Losses::default();
    for event in events {
        encoder.event(event, &mut out, &mut losses);
    }
    if !events.iter().any(|event| matches!(event, Event::Error(_))) {
        encoder.end(&mut out, &mut losses);
    }
    String::from_utf8(out.to_vec()).unwrap()
}

#[test]
fn writes_events_or_an_array() {
    let chunk = |text: &str, rest: &str| {
        format!(
            r#"{{"candidates":[{{"content":{{"parts":[{{"text":"{text}"}}],"role":"model"}},{rest},"modelVersion":"m","responseId":"r"}}"#
        )
    };
    let first = chunk("Hi", r#""index":0}]"#);
    let end = chunk(
        "",
        r#""finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":0,"candidatesTokenCount":0,"totalTokenCount":0}"#,
    );
    let spoken = [
        begin(),
        open(0, 0, PartHead::Text),
        said(0, "Hi"),
        Event::Ping,
        Event::Close { index: 0 },
        finish(0, FinishReason::Stop),
    ];
    assert_eq!(
        written(&spoken, false),
        format!("data: {first}\n\n\ndata: {end}\n\n")
    );
    assert_eq!(written(&spoken, true), format!("[{first} ,\n{end}]\n"));
    let broken = [
        begin(),
        open(0, 0, PartHead::Text),
        said(0, "Hi"),
        Event::Error(ApiError::new(ErrorKind::Internal, "no")),
    ];
    let error = r#"{"error":{"code":500,"message":"no","status":"INTERNAL"}}"#;
    assert_eq!(
        written(&broken, false),
        format!("data: {first}\n\ndata: {error}\n\n")
    );
    assert_eq!(written(&broken, true), format!("[{first},\n{error}]\n"));
}

#[test]
fn a_call_is_written_when_it_is_whole() {
    let tool = PartHead::ToolCall {
        id: "c".into(),
        name: "f".into(),
        kind: ToolKind::Function,
    };
    let arguments = |text: &str| Event::Delta {
        index: 1,
        delta: Delta::Arguments(text.to_owned()),
    };
    let seal = Event::Delta {
        index: 0,
        delta: Delta::Seal(Seal {
            issuer: crate::Format::Gemini,
            bytes: "U0lH".into(),
        }),
    };
    let events = [
        begin(),
        open(0, 0, PartHead::Reasoning { redacted: true }),
        seal,
        Event::Close { index: 0 },
        open(1, 0, tool),
        arguments("{\"a\""),
        open(2, 1, PartHead::Text),
        said(2, "two"),
        arguments(":1}"),
        Event::Close { index: 2 },
        Event::Close { index: 1 },
        finish(0, FinishReason::ToolCalls),
        finish(1, FinishReason::Length),
    ];
    let elements: Vec<Value> = serde_json::from_str(&written(&events, true)).unwrap();
    let shown: Vec<Value> = elements
        .iter()
        .map(|element| element["candidates"].clone())
        .collect();
    assert_eq!(
        shown,
        [
            json!([{"content": {"parts": [{"text": "two"}], "role": "model"}, "index": 1}]),
            json!([{"content": {"parts": [{"functionCall": {"id": "c", "name": "f", "args": {"a": 1}}, "thoughtSignature": "U0lH"}], "role": "model"}, "index": 0}]),
            json!([
                {"content": {"parts": [{"text": ""}], "role": "model"}, "finishReason": "STOP", "index": 0},
                {"content": {"parts": [{"text": ""}], "role": "model"}, "finishReason": "MAX_TOKENS", "index": 1},
            ]),
        ]
    );
}

#[test]
fn overhears_a_relayed_stream() {
    let mut observed = Observed::default();
    let mut listener = Gemini.listen_stream(false);
    let mut hear = |frame: Value, observed: &mut Observed| {
        let data = frame.to_string();
        let frame = Frame {
            event: None,
            data: &data,
        };
        assert_eq!(listener.frame(frame, observed), Verdict::Pass);
    };
    hear(chunk(json!([{"text": ""}])), &mut observed);
    assert!(!observed.meaningful && observed.model.as_deref() == Some("m"));
    hear(chunk(json!([{"functionCall": {"name": "f"}}])), &mut observed);
    assert!(observed.meaningful && !observed.complete);
    hear(last("STOP"), &mut observed);
    assert!(observed.complete && observed.error.is_none());
    assert_eq!(observed.usage.total(), 10);
    assert_eq!(observed.finish.clone().unwrap().reason, FinishReason::ToolCalls);
    hear(json!("nonsense"), &mut observed);
    assert!(observed.complete);
    hear(
        json!({"error": {"status": "RESOURCE_EXHAUSTED", "message": "slow"}}),
        &mut observed,
    );
    assert_eq!(observed.error.unwrap().kind, ErrorKind::RateLimit);
}

/// Relays `pieces` of an upstream's stream to a client that asked with `query`.
fn relayed(query: &str, pieces: &[&str], end: End) -> (String, Observed) {
    let place = Endpoint::find("/v1beta/models/alias:streamGenerateContent", query).unwrap();
    let body = Bytes::from_static(br#"{"contents":[{"parts":[{"text":"hi"}]}]}"#);
    let inbound = Inbound::parse(place, body.clone()).unwrap();
    assert_eq!((inbound.model.as_str(), inbound.stream), ("alias", true));
    let site = Site::default();
    let call = inbound
        .call(&target(&site, "gemini-x"), &HeaderMap::new())
        .unwrap();
    assert_eq!(call.path, "/v1beta/models/gemini-x:streamGenerateContent?alt=sse");
    assert_eq!(call.body, body);
    let mut stream = call.reply.stream();
    let mut out = BytesMut::new();
    for piece in pieces {
        out.extend_from_slice(&stream.push(Bytes::copy_from_slice(piece.as_bytes())));
    }
    out.extend_from_slice(&stream.end(end));
    (
        String::from_utf8(out.to_vec()).unwrap(),
        stream.observed().clone(),
    )
}

#[test]
fn a_relayed_stream_is_framed_as_the_client_reads() {
    let begun = r#"{"candidates":[{"content":{"parts":[{"text":"Hi"}]},"index":0}]}"#;
    let ended = r#"{"candidates":[{"finishReason":"STOP","index":0}]}"#;
    let events = format!("data: {begun}\r\n\r\ndata: {ended}\r\n\r\n");
    let (head, tail) = events.split_at(20);
    let (out, observed) = relayed("alt=sse&key=k", &[head, tail], End::Clean);
    assert_eq!(out, events);
    assert!(observed.complete);
    let (out, observed) = relayed("", &[head, tail], End::Clean);
    assert_eq!(out, format!("[{begun},\n{ended}]\n"));
    assert!(observed.complete);

    let half = format!("data: {begun}\r\n\r\n");
    let (out, observed) = relayed("", &[&half], End::Cut);
    let elements: Vec<Value> = serde_json::from_str(&out).unwrap();
    assert_eq!(elements[1]["error"]["status"], "UNAVAILABLE");
    assert!(observed.error.is_some());
    let (out, _) = relayed("alt=sse", &[&half], End::Cut);
    assert!(
        out.starts_with(&half) && out.contains(r#""status":"UNAVAILABLE""#),
        "{out}"
    );
}
