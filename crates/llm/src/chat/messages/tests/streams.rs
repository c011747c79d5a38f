//! Streams, event by event.

use bytes::BytesMut;
use serde_json::{Value, json};

use super::{encode, request};
use crate::{
    ApiError, End, ErrorKind, Losses, Observed, Usage,
    chat::{
        Client, Delta, Event, Finish, FinishReason, Head, Output, PartHead, StreamOptions, ToolKind,
        Upstream, Verdict, messages::Messages,
    },
    frame::{Frame, sse::Sse},
};

/// Decodes frames with the given data, then the end.
fn decode(frames: &[Value]) -> (Vec<Event>, Vec<String>) {
    decode_for(&super::request(json!({})), frames)
}

fn decode_for(request: &crate::chat::Request, frames: &[Value]) -> (Vec<Event>, Vec<String>) {
    let (_, _, reply) = encode(request, "claude-sonnet-4-5");
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
    (events, super::words(&losses))
}

fn start(usage: Value) -> Value {
    json!({"type": "message_start", "message": {"id": "msg_1", "model": "m", "usage": usage}})
}

fn delta(usage: Value) -> Value {
    json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage})
}

fn stop() -> Value {
    json!({"type": "message_stop"})
}

/// The table of the compatibility specification, "usage accounting", and the example of chat's accumulation.
#[test]
fn counts_tokens_as_they_are_reported() {
    #[track_caller]
    fn check(frames: &[Value], prompt: u64, output: u64, read: u64, write: u64) {
        let expected = (prompt, output, prompt + output, read, write);
        let counts = |usage: Usage| {
            (
                usage.prompt(),
                usage.output.unwrap_or(0),
                usage.total(),
                usage.cache_read.unwrap_or(0),
                usage.cache_write.unwrap_or(0),
            )
        };
        let mut usage = Usage::default();
        for event in decode(frames).0 {
            if let Event::Usage(later) = event {
                usage.merge(&later);
            }
        }
        assert_eq!(counts(usage), expected, "translated");
        let mut observed = Observed::default();
        let mut listener = Messages.listen_stream(false);
        for frame in frames {
            let frame = Frame {
                event: frame["type"].as_str(),
                data: &frame.to_string(),
            };
            assert_eq!(listener.frame(frame, &mut observed), Verdict::Pass);
        }
        assert_eq!(counts(observed.usage), expected, "relayed");
    }
    let counts = |input: u64, read: u64, write: u64, output: u64| {
        json!({
            "input_tokens": input, "cache_read_input_tokens": read, "cache_creation_input_tokens": write,
            "output_tokens": output,
        })
    };
    check(
        &[start(counts(9, 1, 0, 0)), delta(json!({"output_tokens": 16}))],
        10,
        16,
        1,
        0,
    );
    check(
        &[start(counts(0, 0, 0, 0)), delta(counts(4522, 0, 4511, 5))],
        9033,
        5,
        0,
        4511,
    );
    check(
        &[
            start(json!({"input_tokens": 1000})),
            delta(json!({"cache_read_input_tokens": 500, "output_tokens": 10})),
        ],
        1500,
        10,
        500,
        0,
    );
    check(&[delta(json!({"output_tokens": 7}))], 0, 7, 0, 0);
    check(
        &[
            start(counts(20, 5, 3, 0)),
            delta(json!({"cache_read_input_tokens": 7, "cache_creation_input_tokens": 2})),
        ],
        29,
        0,
        7,
        2,
    );
    check(
        &[
            start(json!({"input_tokens": 42.0})),
            delta(json!({"output_tokens": 1.9})),
        ],
        42,
        1,
        0,
        0,
    );
}

#[test]
fn survives_what_it_does_not_know() {
    let (events, losses) = decode(&[
        start(json!(null)),
        json!({"type": "brand_new", "delta": 5}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "server_tool_use", "id": "s"}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": "{"}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": "a"}}),
        json!({"type": "content_block_delta", "index": 1, "delta": {"type": "citations_delta", "citation": {}}}),
        json!({"type": "content_block_delta", "index": 1, "delta": {"type": "citations_delta", "citation": {}}}),
        json!({"type": "content_block_delta", "index": 1, "delta": {"type": "wink_delta"}}),
        json!({"type": "ping"}),
        stop(),
        json!("after the end"),
    ]);
    let index = 0;
    assert_eq!(
        events,
        [
            Event::Start(Head {
                id: "msg_1".into(),
                model: "m".into(),
                ..Head::default()
            }),
            Event::Open {
                index,
                choice: 0,
                part: PartHead::Text
            },
            Event::Delta {
                index,
                delta: Delta::Text("a".into())
            },
            Event::Ping,
            Event::Close { index },
            Event::Finish {
                choice: 0,
                reason: Finish::default()
            },
        ]
    );
    assert_eq!(
        losses,
        ["brand_new", "server_tool_use", "citations", "delta.wink_delta"]
    );
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
    let overloaded = json!({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}});
    let text = |index: u64, kind: &str| json!({"type": "content_block_delta", "index": index, "delta": {"type": kind, "text": "x"}});
    let open = json!({"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}});

    check(&[], ErrorKind::BadUpstream, 502);
    check(&[start(json!({}))], ErrorKind::BadUpstream, 502);
    check(&[start(json!({})), delta(json!({}))], ErrorKind::BadUpstream, 502);
    check(
        &[start(json!({})), overloaded, stop()],
        ErrorKind::Overloaded,
        529,
    );
    check(
        &[json!({"type": "error", "error": "odd"})],
        ErrorKind::BadUpstream,
        502,
    );
    check(&[json!("not json"), stop()], ErrorKind::BadReply, 502);
    check(
        &[start(json!({})), text(3, "text_delta"), stop()],
        ErrorKind::BadReply,
        502,
    );
    check(
        &[start(json!({})), open, text(0, "text_delta"), stop()],
        ErrorKind::BadReply,
        502,
    );
}

#[test]
fn the_forced_tool_is_streamed_as_the_answer() {
    let mut asked = request(json!({}));
    asked.output = Output::JsonObject;
    let (events, _) = decode_for(
        &asked,
        &[
            start(json!({})),
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "id": "t", "name": "json_response", "input": {}}}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": "{\"a\":1}"}}),
            json!({"type": "content_block_stop", "index": 0}),
            json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}}),
            stop(),
        ],
    );
    let text = Delta::Text("{\"a\":1}".into());
    assert!(events.contains(&Event::Delta {
        index: 0,
        delta: text
    }));
    let reason = Finish::default();
    assert!(events.contains(&Event::Finish { choice: 0, reason }));
}

/// Encodes `events` and the end; returns each event's data in short.
fn written(events: &[Event]) -> Vec<String> {
    let mut encoder = Messages.encode_stream(StreamOptions::default());
    let mut out = BytesMut::new();
    let mut losses = Losses::default();
    for event in events {
        encoder.event(event, &mut out, &mut losses);
    }
    if !events.iter().any(|event| matches!(event, Event::Error(_))) {
        encoder.end(&mut out, &mut losses);
    }
    let mut written = Vec::new();
    let mut sse = Sse::default();
    sse.push(&out, |frame, _| {
        let data: Value = serde_json::from_str(frame.data).unwrap();
        assert_eq!(data["type"].as_str(), frame.event);
        written.push(short(&data));
    })
    .unwrap();
    assert!(sse.is_between_events());
    written
}

fn short(data: &Value) -> String {
    let kind = data["type"].as_str().unwrap();
    let index = &data["index"];
    match kind {
        "content_block_start" => {
            let block = &data["content_block"];
            let named = [&block["type"], &block["id"], &block["data"]];
            let words: Vec<&str> = named.iter().filter_map(|word| word.as_str()).collect();
            format!("start {index} {}", words.join(" "))
        }
        "content_block_delta" => {
            let delta = data["delta"].as_object().unwrap();
            let said = delta.iter().find(|(key, _)| *key != "type").unwrap();
            format!("delta {index} {}", said.1.as_str().unwrap())
        }
        "content_block_stop" => format!("stop {index}"),
        "message_delta" => format!(
            "{} in {} out {}",
            data["delta"]["stop_reason"].as_str().unwrap(),
            data["usage"]["input_tokens"],
            data["usage"]["output_tokens"]
        ),
        kind => kind.to_owned(),
    }
}

fn open(index: usize, part: PartHead) -> Event {
    Event::Open {
        index,
        choice: 0,
        part,
    }
}

fn tool(index: usize, id: &str) -> Event {
    let kind = ToolKind::Function;
    let (id, name) = (id.to_owned(), "f".to_owned());
    open(index, PartHead::ToolCall { id, name, kind })
}

fn said(index: usize, text: &str) -> Event {
    Event::Delta {
        index,
        delta: Delta::Text(text.to_owned()),
    }
}

fn arguments(index: usize, text: &str) -> Event {
    Event::Delta {
        index,
        delta: Delta::Arguments(text.to_owned()),
    }
}

fn finish(reason: FinishReason) -> Event {
    Event::Finish {
        choice: 0,
        reason: Finish {
            reason,
            ..Finish::default()
        },
    }
}

fn usage(input: u64, output: u64) -> Event {
    Event::Usage(Usage {
        input: Some(input),
        output: Some(output),
        ..Usage::default()
    })
}

fn close(index: usize) -> Event {
    Event::Close { index }
}

fn begin() -> Event {
    Event::Start(Head::default())
}

#[test]
fn writes_one_block_at_a_time() {
    let interleaved = [
        begin(),
        open(0, PartHead::Text),
        said(0, "Hi"),
        tool(1, "a"),
        arguments(1, "{\"x\""),
        tool(2, "b"),
        said(0, "!"),
        arguments(2, "{}"),
        arguments(1, ":1}"),
        close(2),
        close(0),
        close(1),
        finish(FinishReason::ToolCalls),
        usage(7, 3),
    ];
    assert_eq!(
        written(&interleaved),
        [
            "message_start",
            "start 0 text",
            "delta 0 Hi",
            "delta 0 !",
            "stop 0",
            "start 1 tool_use a",
            "delta 1 {\"x\"",
            "delta 1 :1}",
            "stop 1",
            "start 2 tool_use b",
            "delta 2 {}",
            "stop 2",
            "tool_use in 7 out 3",
            "message_stop",
        ]
    );
}

#[test]
fn ends_when_the_usage_is_known_or_nothing_more_comes() {
    #[track_caller]
    fn check(rest: &[Event], expected: &[&str]) {
        let events = [&[begin(), open(0, PartHead::Text), close(0)], rest].concat();
        let expected = [&["message_start"], expected].concat();
        assert_eq!(written(&events), expected);
    }
    let reason = FinishReason::Stop;
    check(
        &[finish(reason), usage(7, 3)],
        &["end_turn in 7 out 3", "message_stop"],
    );
    check(
        &[usage(7, 3), finish(reason)],
        &["end_turn in 7 out 3", "message_stop"],
    );
    check(&[finish(reason)], &["end_turn in 0 out 0", "message_stop"]);
    check(&[usage(7, 3)], &[]);
    check(
        &[Event::Ping, finish(reason)],
        &["ping", "end_turn in 0 out 0", "message_stop"],
    );
    let error = Event::Error(ApiError::invalid("no"));
    check(&[finish(reason), error, usage(7, 3)], &["error"]);
}

#[test]
fn writes_parts_of_every_kind() {
    #[track_caller]
    fn check(part: PartHead, delta: Option<Delta>, expected: &[&str], reason: &str) {
        let delta = delta.map(|delta| Event::Delta { index: 0, delta });
        let mut events = vec![begin(), open(0, part)];
        events.extend(delta);
        events.extend([close(0), finish(FinishReason::Stop)]);
        let written = written(&events);
        let end = format!("{reason} in 0 out 0");
        let expected = [&["message_start"], expected, &[&end, "message_stop"]].concat();
        assert_eq!(written, expected);
    }
    let text = |text: &str| Some(Delta::Text(text.to_owned()));
    let seal = Some(Delta::Seal(crate::chat::Seal {
        issuer: crate::Format::Messages,
        bytes: "s".into(),
    }));
    let custom = PartHead::ToolCall {
        id: "c.1".into(),
        name: "f".into(),
        kind: ToolKind::Custom,
    };
    let thinking = PartHead::Reasoning { redacted: false };
    let redacted = PartHead::Reasoning { redacted: true };
    check(
        PartHead::Refusal,
        text("no"),
        &["start 0 text", "delta 0 no", "stop 0"],
        "refusal",
    );
    check(
        thinking.clone(),
        text("hm"),
        &["start 0 thinking", "delta 0 hm", "stop 0"],
        "end_turn",
    );
    check(
        thinking,
        seal.clone(),
        &["start 0 thinking", "delta 0 s", "stop 0"],
        "end_turn",
    );
    check(
        redacted.clone(),
        seal,
        &["start 0 redacted_thinking s", "stop 0"],
        "end_turn",
    );
    check(redacted, None, &[], "end_turn");
    check(
        custom,
        Some(Delta::Arguments("a \"b\"".into())),
        &[
            "start 0 tool_use c_1_4efddda0",
            "delta 0 {\"input\":\"",
            "delta 0 a \\\"b\\\"",
            "delta 0 \"}",
            "stop 0",
        ],
        "end_turn",
    );
}

#[test]
fn overhears_a_relayed_stream() {
    let mut observed = Observed::default();
    let mut listener = Messages.listen_stream(false);
    let mut hear = |frame: Value, observed: &mut Observed| {
        let data = frame.to_string();
        let frame = Frame {
            event: None,
            data: &data,
        };
        listener.frame(frame, observed)
    };
    hear(start(json!({"input_tokens": 5})), &mut observed);
    hear(json!({"type": "ping"}), &mut observed);
    assert!(
        !observed.meaningful && observed.usage.input == Some(5) && observed.model.as_deref() == Some("m")
    );
    let begun =
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}});
    hear(begun, &mut observed);
    assert!(!observed.meaningful, "a text is begun before there is any");
    let word =
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "a"}});
    hear(word, &mut observed);
    assert!(observed.meaningful && !observed.complete);
    hear(delta(json!({"output_tokens": 2})), &mut observed);
    hear(stop(), &mut observed);
    assert!(observed.complete && observed.error.is_none());
    assert_eq!(observed.finish.clone().unwrap().raw.as_deref(), Some("end_turn"));
    hear(
        json!({"type": "error", "error": {"type": "rate_limit_error", "message": "slow"}}),
        &mut observed,
    );
    assert_eq!(observed.error.unwrap().kind, ErrorKind::RateLimit);
}
