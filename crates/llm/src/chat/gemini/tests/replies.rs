//! Whole replies and errors.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::{GEMINI_2, GEMINI_3, encode, request, words};
use crate::{
    ApiError, ErrorKind, Format, Losses, Observed, Usage,
    chat::{
        Choice, Client, Finish, FinishReason, Head, Part, PartBody, Reasoned, Response, Seal, ToolCall,
        ToolKind, Upstream, gemini::Gemini,
    },
    error::RawError,
};

fn decode(reply: &Value) -> (Response, Vec<String>) {
    let (_, _, reader) = encode(&request(json!({})), GEMINI_3);
    let mut losses = Losses::default();
    let response = reader
        .decode_response(reply.to_string().as_bytes(), &mut losses)
        .unwrap();
    (response, words(&losses))
}

#[test]
fn reads_replies_of_every_kind() {
    let (response, losses) = decode(&json!({
        "candidates": [{"content": {"parts": [
            {"text": "a"}, {"text": "b"}, {"executableCode": {"code": "1"}}, {"fromTheFuture": {}},
            {"inlineData": {"mimeType": "image/png", "data": "AAAA"}},
        ]}, "finishReason": "TIRED", "safetyRatings": [], "groundingMetadata": {"webSearchQueries": []}}],
        "usageMetadata": "unknown", "createTime": "2025-02-28T12:34:56.789Z",
    }));
    assert_eq!(response.head.model, GEMINI_3);
    assert_eq!(response.head.created, Some(1_740_746_096));
    assert_eq!(response.usage, Usage::default());
    let parts = &response.choices[0].parts;
    assert!(matches!(&parts[0].body, PartBody::Text(text) if text == "ab"));
    assert!(matches!(&parts[1].body, PartBody::Media(_)));
    assert_eq!(parts.len(), 2);
    assert_eq!(response.choices[0].finish.reason, FinishReason::Stop);
    assert_eq!(response.choices[0].finish.raw.as_deref(), Some("TIRED"));
    let remarks: Vec<&str> = response.choices[0]
        .finish
        .remarks
        .iter()
        .map(|remark| remark.key)
        .collect();
    assert_eq!(remarks, ["groundingMetadata"]);
    assert_eq!(losses, ["executableCode"]);

    for broken in ["", "[]", "{}", r#"{"candidates":5}"#, r#"{"candidates":[]}"#] {
        let (_, _, reader) = encode(&request(json!({})), GEMINI_3);
        let error = reader
            .decode_response(broken.as_bytes(), &mut Losses::default())
            .unwrap_err();
        assert_eq!(error.status, 502, "{broken}");
    }
}

/// The table of the compatibility specification, with the words that other formats know.
#[test]
fn every_reason_has_a_word() {
    #[track_caller]
    fn check(word: &str, part: Value, reason: FinishReason) {
        let (response, _) =
            decode(&json!({"candidates": [{"content": {"parts": [part]}, "finishReason": word}]}));
        assert_eq!(response.choices[0].finish.reason, reason, "{word}");
        assert_eq!(response.choices[0].finish.raw.as_deref(), Some(word));
    }
    let text = || json!({"text": "x"});
    let call = || json!({"functionCall": {"name": "f"}});
    check("STOP", text(), FinishReason::Stop);
    check("STOP", call(), FinishReason::ToolCalls);
    check("MAX_TOKENS", call(), FinishReason::Length);
    for word in [
        "SAFETY",
        "RECITATION",
        "BLOCKLIST",
        "PROHIBITED_CONTENT",
        "SPII",
        "IMAGE_SAFETY",
        "MODEL_ARMOR",
        "LANGUAGE",
    ] {
        check(word, text(), FinishReason::ContentFilter);
    }
    for word in ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "OTHER", "NEW"] {
        check(word, text(), FinishReason::Stop);
    }
}

#[test]
fn counts_tokens_once() {
    #[track_caller]
    fn check(counts: Value, expected: (Option<u64>, Option<u64>, Option<u64>, Option<u64>)) {
        let reply = json!({"candidates": [{"finishReason": "STOP"}], "usageMetadata": counts});
        let (Response { usage, .. }, _) = decode(&reply);
        assert_eq!(
            (usage.input, usage.cache_read, usage.output, usage.reasoning),
            expected
        );
        let mut observed = Observed::default();
        Gemini
            .listen_response(reply.to_string().as_bytes(), &mut observed)
            .unwrap();
        assert_eq!(observed.usage, usage, "relayed");
    }
    check(
        json!({"promptTokenCount": 100, "cachedContentTokenCount": 60, "candidatesTokenCount": 10, "thoughtsTokenCount": 5, "totalTokenCount": 115}),
        (Some(40), Some(60), Some(15), Some(5)),
    );
    check(
        json!({"promptTokenCount": 10, "toolUsePromptTokenCount": 30, "candidatesTokenCount": 1}),
        (Some(40), None, Some(1), None),
    );
    check(json!({"promptTokenCount": 10}), (Some(10), None, None, None));
    check(
        json!({"promptTokenCount": 1, "cachedContentTokenCount": 2}),
        (Some(0), Some(2), None, None),
    );
    check(json!({}), (None, None, None, None));
}

#[test]
fn calls_without_ids_get_their_own() {
    let call = json!({"functionCall": {"name": "f", "args": {"a": [1, "b c"]}}});
    let reply = json!({"responseId": "r", "candidates": [{"content": {"parts": [call, call]}, "finishReason": "STOP"}]});
    let ids = |reply: &Value| -> Vec<String> {
        let (response, _) = decode(reply);
        let calls = response.choices[0].parts.iter().map(|part| match &part.body {
            PartBody::ToolCall(call) => {
                assert_eq!(call.arguments, r#"{"a":[1,"b c"]}"#);
                call.id.clone()
            }
            other => panic!("{other:?}"),
        });
        calls.collect()
    };
    let first = ids(&reply);
    assert_ne!(first[0], first[1]);
    assert_eq!(first, ids(&reply), "the same whenever they are read");
    let mut other = reply.clone();
    other["responseId"] = json!("s");
    assert_ne!(first, ids(&other));
}

#[test]
fn a_renamed_tool_keeps_its_name_for_the_client() {
    let asked = request(json!({"tools": [{"functionDeclarations": [{"name": "mcp/look up"}]}]}));
    let (document, _, reader) = encode(&asked, GEMINI_2);
    let name = &document["tools"][0]["functionDeclarations"][0]["name"];
    assert_ne!(name, "mcp/look up");
    let body = json!({"candidates": [{"content": {"parts": [{"functionCall": {"name": name}}]}}]});
    let response = reader
        .decode_response(body.to_string().as_bytes(), &mut Losses::default())
        .unwrap();
    assert!(
        matches!(&response.choices[0].parts[0].body, PartBody::ToolCall(call) if call.name == "mcp/look up")
    );
}

#[test]
fn writes_answers_of_other_formats() {
    #[track_caller]
    fn check(parts: Vec<PartBody>, reason: FinishReason, written: Value, word: &str, losses: &[&str]) {
        let response = Response {
            head: Head {
                id: "msg_1".into(),
                model: "claude".into(),
                created: Some(5),
                echo: None,
            },
            choices: vec![Choice {
                parts: parts.into_iter().map(Part::new).collect(),
                finish: Finish {
                    reason,
                    raw: Some("end_turn".into()),
                    stop_sequence: None,
                    ..Finish::default()
                },
            }],
            usage: Usage {
                input: Some(3),
                cache_read: Some(2),
                cache_write: Some(1),
                output: Some(9),
                reasoning: Some(4),
                ..Usage::default()
            },
        };
        let mut lost = Losses::default();
        let body = Gemini.encode_response(&response, &mut lost);
        let expected = json!({
            "candidates": [{"content": {"parts": written, "role": "model"}, "finishReason": word, "index": 0}],
            "usageMetadata": {
                "promptTokenCount": 6, "candidatesTokenCount": 5, "totalTokenCount": 15,
                "cachedContentTokenCount": 2, "thoughtsTokenCount": 4,
            },
            "modelVersion": "claude", "responseId": "msg_1",
        });
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), expected);
        assert_eq!(words(&lost), losses);
    }
    let call = |arguments: &str, kind| {
        PartBody::ToolCall(ToolCall {
            id: "toolu_1".into(),
            name: "f".into(),
            arguments: arguments.into(),
            kind,
        })
    };
    let called = |args: Value| json!([{"functionCall": {"id": "toolu_1", "name": "f", "args": args}}]);
    let seal = |issuer, bytes: &str| Seal {
        issuer,
        bytes: bytes.into(),
    };
    let thought = |text: &str, seal: Seal| {
        PartBody::Reasoning(Reasoned {
            text: text.into(),
            redacted: text.is_empty(),
            seal: Some(seal),
        })
    };
    let text = |text: &str| PartBody::Text(text.into());

    check(vec![], FinishReason::Stop, json!([{"text": ""}]), "STOP", &[]);
    check(
        vec![PartBody::Refusal("no".into())],
        FinishReason::Refusal,
        json!([{"text": "no"}]),
        "SAFETY",
        &[],
    );
    check(
        vec![call(r#"{"a":1}"#, ToolKind::Function)],
        FinishReason::ToolCalls,
        called(json!({"a": 1})),
        "STOP",
        &[],
    );
    check(
        vec![call("free", ToolKind::Custom)],
        FinishReason::ToolCalls,
        called(json!({"input": "free"})),
        "STOP",
        &[],
    );
    check(
        vec![call("{", ToolKind::Function)],
        FinishReason::Length,
        called(json!({})),
        "MAX_TOKENS",
        &["functionCall"],
    );
    check(
        vec![thought("hm", seal(Format::Messages, "sig")), text("so")],
        FinishReason::Pause,
        json!([{"text": "hm", "thought": true, "thoughtSignature": "bWVzc2FnZXM6c2ln"}, {"text": "so"}]),
        "OTHER",
        &[],
    );
    check(
        vec![thought("", seal(Format::Gemini, "QUJD")), text("so")],
        FinishReason::Stop,
        json!([{"text": "so", "thoughtSignature": "QUJD"}]),
        "STOP",
        &[],
    );
    check(
        vec![
            thought("", seal(Format::Messages, "a")),
            thought("", seal(Format::Messages, "b")),
        ],
        FinishReason::ContextWindow,
        json!([{"text": "", "thoughtSignature": "bWVzc2FnZXM6YQ=="}, {"text": "", "thoughtSignature": "bWVzc2FnZXM6Yg=="}]),
        "MAX_TOKENS",
        &[],
    );
}

#[test]
fn reads_errors_of_every_kind() {
    #[track_caller]
    fn check(status: u16, body: &str, kind: ErrorKind, message: &str, code: Option<&str>) -> ApiError {
        let status = StatusCode::from_u16(status).unwrap();
        let body = Bytes::copy_from_slice(body.as_bytes());
        let error = Gemini.decode_error(status, &HeaderMap::new(), &body);
        assert_eq!((error.status, error.kind), (status, kind));
        assert_eq!(error.message, message);
        assert_eq!(error.code.as_deref(), code);
        error
    }
    let invalid = r#"{"error":{"code":400,"message":"bad","status":"INVALID_ARGUMENT"}}"#;
    let error = check(400, invalid, ErrorKind::InvalidRequest, "bad", None);
    assert_eq!(error.raw.unwrap().body, invalid);
    let listed = check(
        400,
        r#"[{"error":{"message":"bad","status":"FAILED_PRECONDITION"}}]"#,
        ErrorKind::InvalidRequest,
        "bad",
        Some("FAILED_PRECONDITION"),
    );
    assert_eq!(
        listed.raw.unwrap().body,
        r#"{"error":{"message":"bad","status":"FAILED_PRECONDITION"}}"#
    );
    let limited = check(
        429,
        r#"{"error":{"message":"slow","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"33.2s"}]}}"#,
        ErrorKind::RateLimit,
        "Error: slow\nDetails: [{\"@type\":\"type.googleapis.com/google.rpc.RetryInfo\",\"retryDelay\":\"33.2s\"}]",
        None,
    );
    assert_eq!(limited.retry_after, Some(34));
    check(
        403,
        r#"{"error":"denied"}"#,
        ErrorKind::Permission,
        "denied",
        None,
    );
    check(404, r#"{"message":"gone"}"#, ErrorKind::NotFound, "gone", None);
    check(503, " try later\n", ErrorKind::Unavailable, "try later", None);
    check(
        502,
        "",
        ErrorKind::BadUpstream,
        "the upstream answered 502 Bad Gateway and did not say why",
        None,
    );
}

#[test]
fn writes_errors_in_the_formats_words() {
    #[track_caller]
    fn check(error: ApiError, expected: Value) {
        let written: Value = serde_json::from_slice(&Gemini.encode_error(&error)).unwrap();
        assert_eq!(written, json!({"error": expected}));
    }
    check(
        ApiError::new(ErrorKind::NotFound, "no \"such\"\nmodel"),
        json!({"code": 404, "message": "no \"such\"\nmodel", "status": "NOT_FOUND"}),
    );
    check(
        ApiError::new(ErrorKind::Overloaded, "busy"),
        json!({"code": 529, "message": "busy", "status": "UNAVAILABLE"}),
    );
    let mut slow = ApiError::new(ErrorKind::RateLimit, "slow").with_code("tokens");
    slow.retry_after = Some(3);
    check(
        slow,
        json!({"code": 429, "message": "slow", "status": "RESOURCE_EXHAUSTED", "details": [
            {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "tokens", "domain": "tollgate"},
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "3s"},
        ]}),
    );
    check(
        ApiError::invalid("bad").with_param("contents[0]"),
        json!({"code": 400, "message": "bad", "status": "INVALID_ARGUMENT", "details": [
            {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [{"field": "contents[0]", "description": "bad"}]},
        ]}),
    );
    let raw = RawError {
        format: Some(Format::Gemini),
        body: Bytes::from_static(b"{\n\"error\": {}}"),
    };
    let error = ApiError {
        raw: Some(raw.clone()),
        ..ApiError::invalid("x")
    };
    assert_eq!(Gemini.encode_error(&error), raw.body);
    assert_eq!(Gemini.encode_error_event(&error), "data: {\"error\":{}}\n\n");
}

#[test]
fn overhears_whole_replies() {
    #[track_caller]
    fn check(body: &str, finish: Option<FinishReason>, failed: bool) {
        let mut observed = Observed::default();
        Gemini.listen_response(body.as_bytes(), &mut observed).unwrap();
        assert!(observed.complete && observed.meaningful);
        assert_eq!(observed.finish.map(|finish| finish.reason), finish, "{body}");
        assert_eq!(observed.error.is_some(), failed);
    }
    check(
        r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f"}}]},"finishReason":"STOP"}],"modelVersion":"m"}"#,
        Some(FinishReason::ToolCalls),
        false,
    );
    check(
        r#"{"promptFeedback":{"blockReason":"SAFETY"}}"#,
        Some(FinishReason::ContentFilter),
        false,
    );
    check(r#"{"candidates":"odd"}"#, None, false);
    check(r#"{"error":{"status":"INTERNAL"}}"#, None, true);
    for broken in ["[]", "", "data: {}"] {
        let heard = Gemini.listen_response(broken.as_bytes(), &mut Observed::default());
        assert_eq!(heard.unwrap_err().status, 502, "{broken}");
    }
}
