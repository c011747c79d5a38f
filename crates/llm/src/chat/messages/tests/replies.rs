//! Whole replies and errors.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::{encode, request};
use crate::{
    ApiError, ErrorKind, Format, Losses, Observed, Usage,
    chat::{
        Choice, Client, Finish, FinishReason, Head, Output, Part, PartBody, Reasoned, Response, Seal,
        ToolCall, ToolKind, Upstream, messages::Messages,
    },
    error::RawError,
};

#[test]
fn reads_replies_of_every_kind() {
    let (_, _, reply) = encode(&request(json!({})), "claude-sonnet-4-5");
    let mut losses = Losses::default();
    let body = json!({"content": [
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
        {"type": "text", "text": "so", "citations": [{}]},
        {"type": "from_the_future"},
    ], "stop_reason": "tired", "usage": "unknown"});
    let response = reply
        .decode_response(body.to_string().as_bytes(), &mut losses)
        .unwrap();
    assert_eq!(response.head.model, "claude-sonnet-4-5");
    assert_eq!(response.usage, Usage::default());
    assert_eq!(response.choices[0].parts.len(), 1);
    assert_eq!(response.choices[0].finish.reason, FinishReason::Stop);
    assert_eq!(response.choices[0].finish.raw.as_deref(), Some("tired"));
    assert_eq!(super::words(&losses), ["server_tool_use", "citations", "content"]);

    for broken in [
        "",
        "[]",
        "{}",
        r#"{"content":5}"#,
        r#"{"content":[{"text":"x"}]}"#,
    ] {
        let (_, _, reply) = encode(&request(json!({})), "m");
        let error = reply.decode_response(broken.as_bytes(), &mut losses).unwrap_err();
        assert_eq!(error.status, 502, "{broken}");
    }
}

#[test]
fn the_forced_tool_is_the_answer() {
    let mut asked = request(json!({}));
    asked.output = Output::JsonObject;
    let (document, _, reply) = encode(&asked, "claude-sonnet-4-5");
    let name = &document["tools"][0]["name"];
    let body = json!({
        "content": [{"type": "tool_use", "id": "t", "name": name, "input": {"a": 1}}],
        "stop_reason": "tool_use",
    });
    let body = body.to_string();
    let response = reply
        .decode_response(body.as_bytes(), &mut Losses::default())
        .unwrap();
    let choice = &response.choices[0];
    assert!(matches!(&choice.parts[0].body, PartBody::Text(text) if text == r#"{"a":1}"#));
    assert_eq!(choice.finish.reason, FinishReason::Stop);
}

#[test]
fn a_renamed_tool_keeps_its_name_for_the_client() {
    let asked = request(json!({"tools": [{"name": "weather.now", "input_schema": {"type": "object"}}]}));
    let (document, _, reply) = encode(&asked, "claude-sonnet-4-5");
    let body = json!({"content": [{"type": "tool_use", "id": "t", "name": document["tools"][0]["name"], "input": {}}]});
    let response = reply
        .decode_response(body.to_string().as_bytes(), &mut Losses::default())
        .unwrap();
    assert!(
        matches!(&response.choices[0].parts[0].body, PartBody::ToolCall(call) if call.name == "weather.now")
    );
}

#[test]
fn writes_answers_of_other_formats() {
    #[track_caller]
    fn check(parts: Vec<PartBody>, reason: FinishReason, content: Value, stop_reason: &str, losses: &[&str]) {
        let response = Response {
            head: Head {
                id: "chatcmpl-1".into(),
                model: "gpt".into(),
                ..Head::default()
            },
            choices: vec![Choice {
                parts: parts.into_iter().map(Part::new).collect(),
                finish: Finish {
                    reason,
                    ..Finish::default()
                },
            }],
            usage: Usage::default(),
        };
        let mut lost = Losses::default();
        let body = Messages.encode_response(&response, &mut lost);
        let zeros = json!({"input_tokens": 0, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 0});
        let expected = json!({
            "id": "msg_chatcmpl-1", "type": "message", "role": "assistant", "model": "gpt", "content": content,
            "stop_reason": stop_reason, "stop_sequence": null, "usage": zeros,
        });
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), expected);
        assert_eq!(super::words(&lost), losses);
    }
    let call = |id: &str, arguments: &str, kind| {
        PartBody::ToolCall(ToolCall {
            id: id.into(),
            name: "f".into(),
            arguments: arguments.into(),
            kind,
        })
    };
    let used = |id: &str, input: Value| json!([{"type": "tool_use", "id": id, "name": "f", "input": input}]);
    let thought = |issuer| {
        PartBody::Reasoning(Reasoned {
            text: "hm".into(),
            seal: Some(Seal {
                issuer,
                bytes: "s".into(),
            }),
            redacted: false,
        })
    };

    check(vec![], FinishReason::Stop, json!([]), "end_turn", &[]);
    check(
        vec![PartBody::Text(String::new())],
        FinishReason::Length,
        json!([]),
        "max_tokens",
        &[],
    );
    check(
        vec![PartBody::Refusal("no".into())],
        FinishReason::Stop,
        json!([{"type": "text", "text": "no"}]),
        "refusal",
        &[],
    );
    check(
        vec![call("call_1", "{\"a\":1}", ToolKind::Function)],
        FinishReason::ToolCalls,
        used("call_1", json!({"a": 1})),
        "tool_use",
        &[],
    );
    check(
        vec![call("", "", ToolKind::Function)],
        FinishReason::ToolCalls,
        used("toolu_e40f1db313488181", json!({})),
        "tool_use",
        &[],
    );
    check(
        vec![call("a", "{", ToolKind::Function)],
        FinishReason::ToolCalls,
        used("a", json!({})),
        "tool_use",
        &["tool_calls"],
    );
    check(
        vec![call("a", "free \"text\"", ToolKind::Custom)],
        FinishReason::ToolCalls,
        used("a", json!({"input": "free \"text\""})),
        "tool_use",
        &[],
    );
    for (issuer, signature) in [(Format::Messages, "s"), (Format::OpenAi, "openai:s")] {
        check(
            vec![thought(issuer)],
            FinishReason::ContentFilter,
            json!([{"type": "thinking", "thinking": "hm", "signature": signature}]),
            "refusal",
            &[],
        );
    }
}

#[test]
fn a_foreign_seal_finds_its_way_back() {
    let request = request(json!({"messages": [{"role": "assistant", "content": [
        {"type": "thinking", "thinking": "hm", "signature": "openai:s"},
    ]}]}));
    let PartBody::Reasoning(reasoned) = &request.turns[0].parts[0].body else {
        panic!("{:?}", request.turns);
    };
    assert_eq!(
        reasoned.seal,
        Some(Seal {
            issuer: Format::OpenAi,
            bytes: "s".into()
        })
    );
}

#[test]
fn reads_errors_of_every_kind() {
    #[track_caller]
    fn check(status: u16, body: &str, kind: ErrorKind, message: &str, code: Option<&str>) {
        let status = StatusCode::from_u16(status).unwrap();
        let error = Messages.decode_error(
            status,
            &HeaderMap::new(),
            &Bytes::copy_from_slice(body.as_bytes()),
        );
        assert_eq!((error.status, error.kind), (status, kind));
        assert_eq!(error.message, message);
        assert_eq!(error.code.as_deref(), code);
        assert_eq!(
            error.raw.is_some_and(|raw| raw.format.is_some()),
            body.starts_with(r#"{"type":"error""#),
            "{body}"
        );
    }
    check(
        529,
        r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
        ErrorKind::Overloaded,
        "Overloaded",
        None,
    );
    check(
        400,
        r#"[{"error":{"code":400,"message":"bad","status":"INVALID_ARGUMENT"}}]"#,
        ErrorKind::InvalidRequest,
        "bad",
        Some("INVALID_ARGUMENT"),
    );
    check(
        429,
        r#"{"message":"Too many"}"#,
        ErrorKind::RateLimit,
        "Too many",
        None,
    );
    check(
        403,
        r#"{"error":"denied"}"#,
        ErrorKind::Permission,
        "denied",
        None,
    );
    check(500, r#"{"detail":"oops"}"#, ErrorKind::Internal, "oops", None);
    check(
        503,
        "  upstream connect error\n",
        ErrorKind::Unavailable,
        "upstream connect error",
        None,
    );
    check(
        502,
        "",
        ErrorKind::BadUpstream,
        "the upstream answered 502 Bad Gateway and did not say why",
        None,
    );
    check(
        500,
        &"é".repeat(2000),
        ErrorKind::Internal,
        &"é".repeat(512),
        None,
    );
}

#[test]
fn writes_errors_in_the_formats_words() {
    let error = ApiError::upstream(StatusCode::PAYMENT_REQUIRED, "pay \"now\"\n");
    let expected = json!({
        "type": "error", "error": {"type": "billing_error", "message": "pay \"now\"\n"}, "request_id": null,
    });
    assert_eq!(
        serde_json::from_slice::<Value>(&Messages.encode_error(&error)).unwrap(),
        expected
    );

    let raw = RawError {
        format: Some(Format::Messages),
        body: Bytes::from_static(b"{\n\"type\": \"error\"}"),
    };
    let error = ApiError {
        raw: Some(raw.clone()),
        ..error
    };
    assert_eq!(Messages.encode_error(&error), raw.body);
    assert_eq!(
        Messages.encode_error_event(&error),
        "event: error\ndata: {\"type\":\"error\"}\n\n"
    );
}

#[test]
fn overhears_whole_replies() {
    let mut observed = Observed::default();
    let body = br#"{"model":"m","content":5,"stop_reason":"stop_sequence","stop_sequence":"END","usage":{"input_tokens":9.0,"output_tokens":2}}"#;
    Messages.listen_response(body, &mut observed).unwrap();
    assert_eq!(observed.model.as_deref(), Some("m"));
    assert_eq!(observed.usage.total(), 11);
    assert_eq!(observed.finish.unwrap().stop_sequence.as_deref(), Some("END"));
    assert!(observed.complete);
    for (body, status) in [("[]", Some(502)), ("", Some(502)), (r#"{"usage":"odd"}"#, None)] {
        let heard = Messages.listen_response(body.as_bytes(), &mut Observed::default());
        assert_eq!(heard.err().map(|error| error.status.as_u16()), status, "{body}");
    }
}
