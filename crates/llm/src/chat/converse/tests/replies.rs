//! Whole replies and errors.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::{CLAUDE, encode, reply, request, words};
use crate::{
    ErrorKind, Format, Losses,
    chat::{
        Client, FinishReason, PartBody, Upstream, converse::Converse, messages::Messages, openai::OpenAi,
    },
};

#[test]
fn reads_replies_of_every_kind() {
    let mut losses = Losses::default();
    let body = json!({"output": {"message": {"content": [
        {"text": ""},
        {"image": {"format": "png"}},
        {"fromTheFuture": 1},
        {"reasoningContent": {"reasoningText": {"text": ""}}},
        {"text": "so"},
    ]}}, "stopReason": "tired", "usage": "unknown"});
    let response = reply()
        .decode_response(body.to_string().as_bytes(), &mut losses)
        .unwrap();
    assert_eq!(response.head.model, CLAUDE);
    assert!(response.usage.is_unknown());
    assert_eq!(response.choices[0].parts.len(), 1);
    assert_eq!(response.choices[0].finish.reason, FinishReason::Stop);
    assert_eq!(response.choices[0].finish.raw.as_deref(), Some("tired"));
    assert_eq!(
        words(&losses),
        ["image", "output.message.content[].fromTheFuture"]
    );
}

#[test]
fn a_reply_without_an_answer_is_an_error() {
    #[track_caller]
    fn check(body: &str, kind: ErrorKind, message: &str) {
        let error = reply()
            .decode_response(body.as_bytes(), &mut Losses::default())
            .unwrap_err();
        assert_eq!(error.kind, kind, "{body}");
        assert!(error.message.contains(message), "{}", error.message);
    }
    let bad = ErrorKind::BadUpstream;
    for broken in ["", "[]", "{}", r#"{"output":{"message":{"content":5}}}"#] {
        check(broken, ErrorKind::BadReply, "cannot be read");
    }
    check(
        r#"{"Output":{"__type":"com.amazon.coral.service#UnknownOperationException"},"Version":"1.0"}"#,
        bad,
        "UnknownOperationException",
    );
    check(
        r#"{"__type":"ThrottlingException","message":"slower"}"#,
        ErrorKind::RateLimit,
        "slower",
    );
}

#[test]
fn errors_keep_status_and_words() {
    #[track_caller]
    fn check(status: u16, kind: Option<&'static str>, body: &'static str, expected: (ErrorKind, &str)) {
        let mut headers = HeaderMap::new();
        if let Some(kind) = kind {
            headers.insert("x-amzn-errortype", HeaderValue::from_static(kind));
        }
        let status = StatusCode::from_u16(status).unwrap();
        let error = Converse.decode_error(status, &headers, &Bytes::from_static(body.as_bytes()));
        assert_eq!(error.status, status);
        assert_eq!((error.kind, error.message.as_str()), expected);
        // Both clients are told in their own words.
        for (client, word) in [(&OpenAi as &dyn Client, "error"), (&Messages, "error")] {
            let document: Value = serde_json::from_slice(&client.encode_error(&error)).unwrap();
            assert_eq!(document[word]["message"], expected.1);
        }
    }
    check(
        429,
        Some("ThrottlingException:http://internal.amazon.com/"),
        r#"{"message":"Too many tokens, please wait"}"#,
        (ErrorKind::RateLimit, "Too many tokens, please wait"),
    );
    check(
        400,
        Some("ValidationException"),
        r#"{"message":"The model returned: \"no\""}"#,
        (ErrorKind::InvalidRequest, "The model returned: \"no\""),
    );
    check(
        424,
        Some("ModelErrorException"),
        r#"{"message":"x"}"#,
        (ErrorKind::BadUpstream, "x"),
    );
    check(403, None, r#"{"Message":"no"}"#, (ErrorKind::Permission, "no"));
    check(
        503,
        None,
        "upstream connect error",
        (ErrorKind::Unavailable, "upstream connect error"),
    );
    check(
        500,
        Some("InternalServerException"),
        "",
        (
            ErrorKind::Internal,
            "the upstream answered with InternalServerException and did not say why",
        ),
    );
}

#[test]
fn reasoning_comes_back_as_it_was_said() {
    let thought = json!([
        {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "c2lnbmVk"}}},
        {"reasoningContent": {"redactedContent": "d2l0aGhlbGQ="}},
        {"toolUse": {"toolUseId": "t", "name": "f", "input": {"a": 1}}},
    ]);
    let said = json!({"output": {"message": {"content": thought}}, "stopReason": "tool_use"});
    let answer = |client: &dyn Client| {
        let response = reply()
            .decode_response(said.to_string().as_bytes(), &mut Losses::default())
            .unwrap();
        let body = client.encode_response(&response, &mut Losses::default());
        serde_json::from_slice::<Value>(&body).unwrap()
    };
    let openai = answer(&OpenAi)["choices"][0]["message"].clone();
    let messages = json!({"role": "assistant", "content": answer(&Messages)["content"]});
    let result = json!({"type": "tool_result", "tool_use_id": "t", "content": "6"});
    for (format, message, result) in [
        (
            Format::OpenAi,
            openai,
            json!({"role": "tool", "tool_call_id": "t", "content": "6"}),
        ),
        (
            Format::Messages,
            messages,
            json!({"role": "user", "content": [result]}),
        ),
    ] {
        let asked = json!({"messages": [{"role": "user", "content": "Deep?"}, message, result]});
        let (document, losses, _) = encode(&request(format, asked), CLAUDE).unwrap();
        assert_eq!(document["messages"][1]["content"], thought, "{format:?}");
        assert_eq!(losses, Vec::<String>::new(), "{format:?}");
    }
}

#[test]
fn the_forced_tool_is_the_answer() {
    let asked = request(
        Format::OpenAi,
        json!({"response_format": {"type": "json_object"}}),
    );
    let (document, losses, reply) = encode(&asked, CLAUDE).unwrap();
    let name = &document["toolConfig"]["tools"][0]["toolSpec"]["name"];
    assert_eq!(document["toolConfig"]["toolChoice"], json!({"any": {}}));
    assert_eq!(losses, Vec::<String>::new());
    let body = json!({
        "output": {"message": {"content": [{"toolUse": {"toolUseId": "t", "name": name, "input": {"a": 1}}}]}},
        "stopReason": "tool_use",
    });
    let response = reply
        .decode_response(body.to_string().as_bytes(), &mut Losses::default())
        .unwrap();
    let choice = &response.choices[0];
    assert!(matches!(&choice.parts[0].body, PartBody::Text(text) if text == r#"{"a":1}"#));
    assert_eq!(choice.finish.reason, FinishReason::Stop);
}

#[test]
fn a_renamed_tool_keeps_its_name_for_the_client() {
    let name = "weather.now".repeat(9);
    let asked = request(
        Format::Messages,
        json!({"tools": [{"name": name, "input_schema": {"type": "object"}}]}),
    );
    let (document, _, reply) = encode(&asked, CLAUDE).unwrap();
    let renamed = document["toolConfig"]["tools"][0]["toolSpec"]["name"]
        .as_str()
        .unwrap();
    assert!(renamed.len() <= 64 && !renamed.contains('.'), "{renamed}");
    let body = json!({"output": {"message": {"content": [
        {"toolUse": {"toolUseId": "t", "name": renamed, "input": {}}},
    ]}}});
    let response = reply
        .decode_response(body.to_string().as_bytes(), &mut Losses::default())
        .unwrap();
    assert!(matches!(&response.choices[0].parts[0].body, PartBody::ToolCall(call) if call.name == name));
}
