//! Streams, event by event.

use bytes::BytesMut;
use serde_json::{Value, json};

use super::{data, encode, request, words};
use crate::{
    ApiError, End, ErrorKind, Losses, Observed, Usage,
    chat::{
        Client, Delta, Event, Finish, FinishReason, Grammar, Head, PartHead, Response, Seal, StreamOptions,
        ToolKind, Upstream, Verdict, fold::Fold, responses::Responses,
    },
    format::Format,
    frame::Frame,
};

/// Decodes frames with the given data, then the end; holds the events against the grammar.
fn decode(frames: &[Value]) -> (Vec<Event>, Vec<String>) {
    let (_, _, reply) = encode(&request(json!({})), "gpt-5");
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
    let mut grammar = Grammar::default();
    for event in &events {
        grammar.check(event).unwrap();
    }
    grammar.end().unwrap();
    (events, words(&losses))
}

fn folded(frames: &[Value]) -> Result<Response, ApiError> {
    let mut fold = Fold::default();
    for event in decode(frames).0 {
        fold.push(&event);
    }
    fold.finish()
}

fn added(index: u64, item: Value) -> Value {
    json!({"type": "response.output_item.added", "output_index": index, "item": item})
}

fn done(index: u64, item: Value) -> Value {
    json!({"type": "response.output_item.done", "output_index": index, "item": item})
}

fn text(index: u64, delta: &str) -> Value {
    json!({"type": "response.output_text.delta", "output_index": index, "content_index": 0, "delta": delta})
}

fn completed(output: Value) -> Value {
    json!({"type": "response.completed", "response": {"id": "resp_1", "status": "completed", "output": output}})
}

fn message(text: &str) -> Value {
    json!({"type": "message", "content": [{"type": "output_text", "text": text}]})
}

/// Whatever a server leaves out, the answer is the same.
#[test]
fn events_may_be_left_out() {
    #[track_caller]
    fn check(frames: &[Value]) {
        let response = folded(frames).unwrap();
        let parts = format!("{:?}", response.choices[0].parts);
        let expected = folded(&[completed(json!([message("Hello"), call()]))]).unwrap();
        assert_eq!(parts, format!("{:?}", expected.choices[0].parts));
        assert_eq!(response.choices[0].finish.reason, FinishReason::ToolCalls);
    }
    fn call() -> Value {
        json!({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{\"a\":1}"})
    }
    let begun = json!({"type": "function_call", "call_id": "c", "name": "f", "arguments": ""});
    let argued =
        json!({"type": "response.function_call_arguments.delta", "output_index": 1, "delta": "{\"a\""});
    check(&[completed(json!([message("Hello"), call()]))]);
    check(&[done(0, message("Hello")), done(1, call()), completed(json!([]))]);
    check(&[
        text(0, "Hel"),
        text(0, "lo"),
        done(1, call()),
        completed(json!([message("Hello"), call()])),
    ]);
    check(&[text(0, "Hel"), completed(json!([message("Hello"), call()]))]);
    check(&[
        added(0, json!({"type": "message", "content": []})),
        text(0, "Hel"),
        added(1, begun.clone()),
        argued.clone(),
        done(1, call()),
        text(0, "lo"),
        done(0, message("Hello")),
        completed(json!([message("Hello"), call()])),
        json!("[DONE]"),
    ]);
    // Arguments of a call that did not begin are said when it is complete.
    check(&[
        argued,
        done(0, message("Hello")),
        done(1, call()),
        completed(json!([])),
    ]);
    check(&[
        json!({"type": "response.some_new_thing", "delta": {"x": 1}, "item": 5, "output_index": "a"}),
        json!({"type": "response.output_text.done", "output_index": 0, "content_index": 0, "text": "Hello"}),
        done(0, message("Hello")),
        added(1, begun),
        completed(json!([message("Hello"), call()])),
    ]);
}

#[test]
fn a_stream_that_fails_says_so() {
    #[track_caller]
    fn check(frames: &[Value], kind: ErrorKind, message: &str) {
        let error = folded(frames).unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.message.contains(message), "{error}");
    }
    let failed =
        |error: Value| json!({"type": "response.failed", "response": {"status": "failed", "error": error}});
    check(
        &[
            text(0, "a"),
            failed(json!({"code": "rate_limit_exceeded", "message": "slow"})),
        ],
        ErrorKind::RateLimit,
        "slow",
    );
    check(&[failed(Value::Null)], ErrorKind::BadUpstream, "did not say why");
    check(
        &[json!({"type": "error", "code": "server_error", "message": "oops", "param": null})],
        ErrorKind::Internal,
        "oops",
    );
    check(
        &[json!({"type": "error", "error": {"type": "invalid_request_error", "message": "bad"}})],
        ErrorKind::InvalidRequest,
        "bad",
    );
    check(
        &[text(0, "a")],
        ErrorKind::BadUpstream,
        "before the answer was complete",
    );
    check(&[], ErrorKind::BadUpstream, "before the answer was complete");
    check(&[json!("{")], ErrorKind::BadReply, "cannot be read");
    check(
        &[json!({"type": "response.completed"})],
        ErrorKind::BadReply,
        "cannot be read",
    );
    check(&[added(0, json!("x"))], ErrorKind::BadReply, "cannot be read");
}

#[test]
fn what_only_this_format_has_is_a_loss_of_the_reply() {
    #[track_caller]
    fn check(frames: &[Value], expected: &[&str]) {
        let mut frames = frames.to_vec();
        frames.push(completed(json!([])));
        assert_eq!(decode(&frames).1, expected);
    }
    check(&[added(0, json!({"type": "mcp_call"}))], &[]);
    check(
        &[done(0, json!({"type": "mcp_call", "arguments": {"odd": 1}}))],
        &["mcp_call"],
    );
    check(&[done(0, json!({"type": "brand_new"}))], &["output"]);
    let odd = json!({"type": "message", "content": [{"type": "output_audio"}]});
    check(&[done(0, odd)], &["content"]);
    let think =
        |kind: &str| json!({"type": format!("response.{kind}.delta"), "output_index": 0, "delta": "a"});
    check(
        &[think("reasoning_text"), think("reasoning_summary_text")],
        &["reasoning"],
    );
}

/// Encodes `events`; returns the data of what is written.
fn written(events: &[Event]) -> Vec<Value> {
    let mut encoder = Responses.encode_stream(StreamOptions::default());
    let mut out = BytesMut::new();
    let mut losses = Losses::default();
    for event in events {
        encoder.event(event, &mut out, &mut losses);
    }
    encoder.end(&mut out, &mut losses);
    data(&out)
}

fn begin() -> Event {
    Event::Start(Head {
        id: "1".into(),
        model: "m".into(),
        ..Head::default()
    })
}

fn open(index: usize, part: PartHead) -> Event {
    Event::Open {
        index,
        choice: 0,
        part,
    }
}

fn say(index: usize, text: &str) -> Event {
    Event::Delta {
        index,
        delta: Delta::Text(text.to_owned()),
    }
}

fn argue(index: usize, text: &str) -> Event {
    Event::Delta {
        index,
        delta: Delta::Arguments(text.to_owned()),
    }
}

fn finish() -> Event {
    Event::Finish {
        choice: 0,
        reason: Finish::default(),
    }
}

fn function(id: &str) -> PartHead {
    PartHead::ToolCall {
        id: id.to_owned(),
        name: "f".to_owned(),
        kind: ToolKind::Function,
    }
}

/// Returns the types of events, without what they have in common, and whose they are.
fn told(events: &[Value]) -> Vec<String> {
    let short = |event: &Value| {
        let kind = event["type"].as_str().unwrap().replace("response.", "");
        match event["output_index"].as_u64() {
            Some(index) => format!("{index} {kind}"),
            None => kind,
        }
    };
    events.iter().map(short).collect()
}

#[test]
fn parts_that_interleave_are_items_that_interleave() {
    let events = written(&[
        begin(),
        open(0, PartHead::Text),
        say(0, "a"),
        open(1, function("x")),
        open(2, function("y")),
        argue(2, "{}"),
        say(0, "b"),
        argue(1, "{\"k\":1}"),
        Event::Close { index: 2 },
        Event::Close { index: 0 },
        Event::Close { index: 1 },
        open(3, PartHead::Text),
        say(3, "c"),
        Event::Close { index: 3 },
        finish(),
    ]);
    assert_eq!(
        told(&events)[2..],
        [
            "0 output_item.added",
            "0 content_part.added",
            "0 output_text.delta",
            "1 output_item.added",
            "2 output_item.added",
            "2 function_call_arguments.delta",
            "0 output_text.delta",
            "1 function_call_arguments.delta",
            "2 function_call_arguments.done",
            "2 output_item.done",
            "0 output_text.done",
            "0 content_part.done",
            "0 output_item.done",
            "1 function_call_arguments.done",
            "1 output_item.done",
            "3 output_item.added",
            "3 content_part.added",
            "3 output_text.delta",
            "3 output_text.done",
            "3 content_part.done",
            "3 output_item.done",
            "completed",
        ]
    );
    let output = events.last().unwrap()["response"]["output"].clone();
    assert_eq!(output[0]["content"][0]["text"], "ab");
    assert_eq!(output[1]["arguments"], "{\"k\":1}");
}

#[test]
fn texts_that_follow_one_another_are_one_message() {
    let events = written(&[
        begin(),
        open(0, PartHead::Text),
        say(0, "a"),
        Event::Close { index: 0 },
        open(1, PartHead::Refusal),
        say(1, "b"),
        Event::Close { index: 1 },
        open(2, PartHead::Text),
        Event::Close { index: 2 },
        finish(),
    ]);
    let output = events.last().unwrap()["response"]["output"].clone();
    assert_eq!(output.as_array().unwrap().len(), 1);
    assert_eq!(
        output[0]["content"].as_array().unwrap().len(),
        2,
        "what says nothing is not told"
    );
    assert_eq!(output[0]["content"][1]["refusal"], "b");
}

#[test]
fn the_last_counts_stand_in_the_last_event() {
    #[track_caller]
    fn check(events: &[Event], total: u64) {
        let events = written(&[&[begin()], events].concat());
        let last = events.last().unwrap();
        assert_eq!(last["type"], "response.completed");
        assert_eq!(last["response"]["usage"]["total_tokens"], total);
        let named = |event: &&Value| event["type"] == "response.completed";
        assert_eq!(events.iter().filter(named).count(), 1);
    }
    let usage = Event::Usage(Usage {
        input: Some(7),
        output: Some(3),
        ..Usage::default()
    });
    check(&[finish(), usage.clone()], 10);
    check(&[usage.clone(), finish()], 10);
    check(&[finish(), usage.clone(), usage], 10);
    check(&[finish()], 0);
}

#[test]
fn reasoning_is_a_summary_with_a_seal() {
    let seal = Event::Delta {
        index: 0,
        delta: Delta::Seal(Seal {
            issuer: Format::Gemini,
            bytes: "s".into(),
        }),
    };
    let think = |redacted| open(0, PartHead::Reasoning { redacted });
    let close = Event::Close { index: 0 };
    let events = written(&[
        begin(),
        think(false),
        say(0, "a"),
        seal.clone(),
        close.clone(),
        finish(),
    ]);
    assert_eq!(
        told(&events)[2..],
        [
            "0 output_item.added",
            "0 reasoning_summary_part.added",
            "0 reasoning_summary_text.delta",
            "0 reasoning_summary_text.done",
            "0 reasoning_summary_part.done",
            "0 output_item.done",
            "completed",
        ]
    );
    let item = &events.last().unwrap()["response"]["output"][0];
    assert_eq!(item["encrypted_content"], "gemini:s");
    assert_eq!(item["summary"], json!([{"type": "summary_text", "text": "a"}]));
    let events = written(&[begin(), think(true), seal, close.clone(), finish()]);
    let item = &events.last().unwrap()["response"]["output"][0];
    assert_eq!(item["encrypted_content"], "redacted:gemini:s");
    assert_eq!(item["summary"], json!([]));
    let events = written(&[begin(), think(false), close, finish()]);
    assert_eq!(told(&events), ["created", "in_progress", "completed"]);
}

#[test]
fn nothing_follows_an_error() {
    let error = Event::Error(ApiError::new(ErrorKind::Overloaded, "busy"));
    let events = written(&[begin(), error.clone(), finish()]);
    assert_eq!(told(&events), ["created", "in_progress", "failed"]);
    assert_eq!(events[2]["response"]["error"]["code"], "server_is_overloaded");
    assert_eq!(told(&written(&[error])), ["error"]);
    let long = written(&[
        begin(),
        open(0, PartHead::Text),
        say(0, &"a".repeat(17 << 20)),
        finish(),
    ]);
    assert_eq!(told(&long), ["created", "in_progress", "failed"]);
}

#[test]
fn overhears_a_relayed_stream() {
    let mut observed = Observed::default();
    let mut listener = Responses.listen_stream(false);
    let mut hear = |frame: Value, observed: &mut Observed| {
        let data = frame.to_string();
        let frame = Frame {
            event: None,
            data: &data,
        };
        assert_eq!(listener.frame(frame, observed), Verdict::Pass);
    };
    hear(
        json!({"type": "response.created", "response": {"model": "m", "status": "in_progress"}}),
        &mut observed,
    );
    hear(added(0, json!({"type": "reasoning"})), &mut observed);
    hear(
        json!({"type": "response.reasoning_summary_part.added"}),
        &mut observed,
    );
    assert!(!observed.meaningful && observed.model.as_deref() == Some("m"));
    hear(text(0, "a"), &mut observed);
    assert!(observed.meaningful && !observed.complete);
    hear(
        json!({"type": "response.incomplete", "response": {"status": "incomplete",
            "incomplete_details": {"reason": "max_output_tokens"}, "usage": {"output_tokens": 4}}}),
        &mut observed,
    );
    assert!(observed.complete && observed.usage.output == Some(4));
    assert_eq!(observed.finish.clone().unwrap().reason, FinishReason::Length);

    let mut failed = Observed::default();
    hear(
        json!({"type": "response.failed", "response": {"error": {"code": "rate_limit_exceeded", "message": "slow"},
            "usage": {"input_tokens": 3}}}),
        &mut failed,
    );
    assert_eq!(failed.error.unwrap().kind, ErrorKind::RateLimit);
    assert_eq!(failed.usage.input, Some(3));
    assert!(!failed.complete && !failed.meaningful);
}
