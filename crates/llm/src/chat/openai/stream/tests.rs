//! What servers of the format send, and what is made of it.

use serde_json::{Value, json};

use crate::{
    ErrorKind,
    chat::{
        Event, FinishReason, PartBody, Response,
        openai::tests::{events, fold},
    },
    reply::End,
};

fn frames(chunks: &[Value]) -> Vec<u8> {
    let frames = chunks.iter().map(|chunk| match chunk {
        Value::String(text) => format!("data: {text}\n\n"),
        chunk => format!("data: {chunk}\n\n"),
    });
    frames.collect::<String>().into_bytes()
}

fn read(chunks: &[Value], how: End) -> Vec<Event> {
    let request = json!({"model": "m", "messages": [
        {"role": "user", "content": "x"},
        {"role": "assistant", "tool_calls": [{"id": "old", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "old", "content": "y"}]});
    events(request.to_string().as_bytes(), &frames(chunks), how)
}

fn answer(chunks: &[Value]) -> Response {
    fold(&read(chunks, End::Clean)).expect("an answer")
}

fn delta(delta: Value) -> Value {
    json!({"id": "i", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": null}]})
}

fn finish(word: &str) -> Value {
    json!({"id": "i", "model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": word}]})
}

/// Returns the parts of the first answer in short: `text a`, `call id name arguments`.
fn brief(response: &Response) -> Vec<String> {
    let parts = response.choices[0].parts.iter().map(|part| match &part.body {
        PartBody::Text(text) => format!("text {text}"),
        PartBody::Refusal(text) => format!("refusal {text}"),
        PartBody::ToolCall(call) => format!("call {} {} {}", call.id, call.name, call.arguments),
        PartBody::Reasoning(reasoned) => format!(
            "reasoning {} {:?} {}",
            reasoned.text,
            reasoned.seal.as_ref().map(|seal| seal.bytes.as_ref()),
            reasoned.redacted
        ),
        other => format!("{other:?}"),
    });
    parts.collect()
}

#[track_caller]
fn check(deltas: &[Value], wanted: &[&str]) {
    let mut chunks: Vec<Value> = deltas.iter().cloned().map(delta).collect();
    chunks.push(finish("stop"));
    chunks.push(json!("[DONE]"));
    assert_eq!(brief(&answer(&chunks)), wanted);
}

#[test]
fn calls_are_gathered_however_they_are_cut() {
    let call = |piece: Value| json!({"tool_calls": [piece]});
    // The name comes after the id, and arguments before it.
    check(
        &[
            call(json!({"index": 0, "id": "a"})),
            call(json!({"index": 0, "function": {"arguments": "{\"x\""}})),
            call(json!({"index": 0, "function": {"name": "f", "arguments": ":1}"}})),
        ],
        &["call a f {\"x\":1}"],
    );
    // Every call is numbered 0.
    check(
        &[
            call(json!({"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}})),
            call(json!({"index": 0, "id": "b", "function": {"name": "g", "arguments": "{}"}})),
        ],
        &["call a f {}", "call b g {}"],
    );
    // No call is numbered.
    check(
        &[
            call(json!({"id": "a", "function": {"name": "f", "arguments": "{\"x\":"}})),
            call(json!({"function": {"arguments": "1}"}})),
            call(json!({"id": "b", "function": {"name": "g", "arguments": ""}})),
            call(json!({"id": "a", "function": {"arguments": " "}})),
        ],
        &["call a f {\"x\":1} ", "call b g {}"],
    );
    // No ids: the conversation holds one call already.
    check(
        &[
            call(json!({"index": 0, "function": {"name": "f"}})),
            call(json!({"index": 1, "function": {"name": "g", "arguments": {"y": 2}}})),
        ],
        &["call call_1 f {}", "call call_2 g {\"y\":2}"],
    );
    // Legacy.
    check(
        &[
            json!({"function_call": {"name": "f", "arguments": "{\"a\":"}}),
            json!({"function_call": {"arguments": "1}"}}),
        ],
        &["call call_1 f {\"a\":1}"],
    );
}

#[test]
fn text_after_a_call_is_a_part_of_its_own() {
    check(
        &[
            json!({"role": "assistant", "content": ""}),
            json!({"content": "a"}),
            json!({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{"}}]}),
            json!({"content": "b"}),
            json!({"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]}),
            json!({"content": "b"}),
            json!({"refusal": "no"}),
        ],
        &["text a", "call c f {}", "text bb", "refusal no"],
    );
}

#[test]
fn reasoning_has_many_names() {
    check(
        &[
            json!({"reasoning": "a"}),
            json!({"reasoning": "b", "content": "c"}),
        ],
        &["reasoning ab None false", "text c"],
    );
    check(
        &[
            json!({"reasoning_content": "a", "thinking_blocks": [{"type": "thinking", "thinking": "a"}]}),
            json!({"reasoning_content": "", "thinking_blocks": [{"type": "thinking", "signature": "s"}]}),
            json!({"reasoning_content": {"text": "b", "signature": "t"}}),
            json!({"thinking_blocks": [{"type": "redacted_thinking", "data": "r"}]}),
            json!({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "d"}]}, {"type": "text", "text": "e"}]}),
        ],
        &[
            "reasoning a Some(\"s\") false",
            "reasoning b Some(\"t\") false",
            "reasoning  Some(\"r\") true",
            "reasoning d None false",
            "text e",
        ],
    );
}

#[test]
fn endings_are_told_apart() {
    #[track_caller]
    fn check(chunks: &[Value], how: End, wanted: Option<ErrorKind>) {
        let events = read(chunks, how);
        let error = match events.last() {
            Some(Event::Error(error)) => Some(error.kind),
            _ => None,
        };
        assert_eq!(error, wanted, "{events:?}");
    }
    let said = delta(json!({"content": "a"}));
    let done = json!("[DONE]");
    let (bad, unreadable) = (Some(ErrorKind::BadUpstream), Some(ErrorKind::BadReply));
    check(&[said.clone(), finish("stop"), done.clone()], End::Clean, None);
    check(&[said.clone(), finish("stop")], End::Clean, None);
    check(&[said.clone(), finish("stop")], End::Cut, None);
    check(&[said.clone(), done.clone()], End::Clean, bad);
    check(std::slice::from_ref(&said), End::Clean, bad);
    check(std::slice::from_ref(&said), End::Cut, bad);
    check(&[], End::Clean, bad);
    check(&[said.clone(), json!("{\"choices\": [")], End::Clean, unreadable);
    let error = |code: Value| json!({"error": {"message": "m", "code": code}});
    check(
        &[said.clone(), error(json!(429))],
        End::Clean,
        Some(ErrorKind::RateLimit),
    );
    let listed = json!([{"error": {"message": "m", "code": 401}}]);
    check(&[listed], End::Clean, Some(ErrorKind::Authentication));
    check(&[json!("upstream timed out")], End::Clean, bad);
    check(&[error(json!("503"))], End::Clean, Some(ErrorKind::Unavailable));
    check(&[error(json!("odd")), finish("stop")], End::Clean, bad);
    check(
        &[json!({"object": "error", "message": "m", "code": 400})],
        End::Clean,
        Some(ErrorKind::InvalidRequest),
    );
    let nameless = delta(json!({"tool_calls": [{"index": 0, "id": "a", "function": {"arguments": "{}"}}]}));
    check(&[nameless, finish("tool_calls"), done], End::Clean, unreadable);
}

#[test]
fn finish_words_are_understood() {
    #[track_caller]
    fn check(word: &str, called: bool, reason: FinishReason, raw: Option<&str>) {
        let call = json!({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f"}}]});
        let said = if called { call } else { json!({"content": "a"}) };
        let response = answer(&[delta(said), finish(word), finish(word)]);
        let finish = &response.choices[0].finish;
        assert_eq!((finish.reason, finish.raw.as_deref()), (reason, raw));
    }
    check("stop", false, FinishReason::Stop, None);
    check("stop", true, FinishReason::ToolCalls, Some("stop"));
    check("length", true, FinishReason::Length, None);
    check("tool_calls", true, FinishReason::ToolCalls, None);
    check(
        "function_call",
        true,
        FinishReason::ToolCalls,
        Some("function_call"),
    );
    check("content_filter", false, FinishReason::ContentFilter, None);
    check("eos", false, FinishReason::Stop, Some("eos"));
}

#[test]
fn counts_are_read_wherever_they_are() {
    #[track_caller]
    fn check(usage: Value, wanted: [Option<u64>; 5]) {
        let mut last = finish("stop");
        last["usage"] = usage;
        let usage = answer(&[
            delta(json!({"content": "a"})),
            last,
            json!({"choices": [], "usage": null}),
        ])
        .usage;
        let got = [
            usage.input,
            usage.cache_read,
            usage.cache_write,
            usage.output,
            usage.reasoning,
        ];
        assert_eq!(got, wanted);
    }
    check(
        json!({"prompt_tokens": 9.0, "completion_tokens": 2}),
        [Some(9), None, None, Some(2), None],
    );
    check(
        json!({"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": 4, "cache_creation_input_tokens": 3},
            "completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 1}}),
        [Some(3), Some(4), Some(3), Some(5), Some(1)],
    );
    check(
        json!({"prompt_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}}),
        [Some(0), Some(4), None, None, None],
    );
    check(
        json!({"prompt_tokens": 3, "prompt_cache_hit_tokens": 2, "prompt_tokens_details": null}),
        [Some(1), Some(2), None, None, None],
    );
    // What was thought is part of the answer, and the total knows it.
    check(
        json!({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 12,
            "completion_tokens_details": {"reasoning_tokens": 7}}),
        [Some(3), None, None, Some(9), Some(7)],
    );
    check(
        json!({"prompt_tokens": 3, "completion_tokens": 9, "total_tokens": 12,
            "completion_tokens_details": {"reasoning_tokens": 7}}),
        [Some(3), None, None, Some(9), Some(7)],
    );
    check(
        json!({"prompt_tokens": 3, "completion_tokens": 9, "total_tokens": 0}),
        [Some(3), None, None, Some(9), None],
    );
    check(Value::Null, [None; 5]);
}
