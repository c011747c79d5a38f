//! Whole replies and errors.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::{encode, request, words};
use crate::{
    ApiError, ErrorKind, Losses, Observed, Usage,
    chat::{
        Choice, Client, Finish, FinishReason, Head, Part, PartBody, Response, ToolCall, ToolKind, Upstream,
        responses::Responses,
    },
};

fn decode(reply: &str) -> Result<Response, ApiError> {
    let (_, _, decoder) = encode(&request(json!({})), "gpt-5");
    decoder.decode_response(reply.as_bytes(), &mut Losses::default())
}

#[test]
fn refuses_replies_that_are_none() {
    #[track_caller]
    fn check(reply: &str, kind: ErrorKind, message: &str) {
        let error = decode(reply).unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.message.contains(message), "{error}");
    }
    check("<html>", ErrorKind::BadReply, "cannot be read");
    check("{}", ErrorKind::BadReply, "no output");
    check(r#"{"output":5}"#, ErrorKind::BadReply, "cannot be read");
    check(
        r#"{"output":[{"type":"message","content":7}]}"#,
        ErrorKind::BadReply,
        "cannot be read",
    );
    check(
        r#"{"status":"in_progress","output":[]}"#,
        ErrorKind::BadReply,
        "not complete",
    );
    check(
        r#"{"status":"cancelled","output":[]}"#,
        ErrorKind::BadUpstream,
        "did not say why",
    );
    check(
        r#"{"status":"failed","error":{"code":"rate_limit_exceeded","message":"slow down"},"output":[]}"#,
        ErrorKind::RateLimit,
        "slow down",
    );
    check(
        r#"{"error":{"type":"invalid_request_error","message":"bad"}}"#,
        ErrorKind::InvalidRequest,
        "bad",
    );
}

#[test]
fn reads_why_an_answer_ended() {
    #[track_caller]
    fn check(members: Value, reason: FinishReason, raw: Option<&str>) {
        let mut reply = json!({"output": []});
        reply
            .as_object_mut()
            .unwrap()
            .extend(members.as_object().unwrap().clone());
        let finish = decode(&reply.to_string()).unwrap().choices.remove(0).finish;
        assert_eq!((finish.reason, finish.raw.as_deref()), (reason, raw), "{reply}");
    }
    let incomplete = |reason: &str| json!({"status": "incomplete", "incomplete_details": {"reason": reason}});
    let call = json!({"type": "function_call", "call_id": "c", "name": "f", "arguments": ""});
    check(json!({}), FinishReason::Stop, None);
    check(json!({"status": "completed"}), FinishReason::Stop, None);
    check(
        json!({"status": "completed", "output": [call]}),
        FinishReason::ToolCalls,
        None,
    );
    check(incomplete("max_output_tokens"), FinishReason::Length, None);
    check(incomplete("content_filter"), FinishReason::ContentFilter, None);
    check(incomplete("steered"), FinishReason::Stop, Some("steered"));
    check(json!({"status": "incomplete"}), FinishReason::Length, None);
}

#[test]
fn says_why_an_answer_ended() {
    #[track_caller]
    fn check(reason: FinishReason, status: &str, detail: Option<&str>) {
        let response = Response {
            choices: vec![Choice {
                parts: vec![Part::text("a")],
                finish: Finish {
                    reason,
                    ..Finish::default()
                },
            }],
            ..Response::default()
        };
        let written = Responses.encode_response(&response, &mut Losses::default());
        let written: Value = serde_json::from_slice(&written).unwrap();
        assert_eq!(written["status"], status, "{reason:?}");
        assert_eq!(
            written["incomplete_details"]["reason"].as_str(),
            detail,
            "{reason:?}"
        );
        assert_eq!(written["output"][0]["status"], status, "{reason:?}");
    }
    check(FinishReason::Stop, "completed", None);
    check(FinishReason::StopSequence, "completed", None);
    check(FinishReason::ToolCalls, "completed", None);
    check(FinishReason::Pause, "completed", None);
    check(FinishReason::Length, "incomplete", Some("max_output_tokens"));
    check(
        FinishReason::ContextWindow,
        "incomplete",
        Some("max_output_tokens"),
    );
    check(FinishReason::ContentFilter, "incomplete", Some("content_filter"));
    check(FinishReason::Refusal, "incomplete", Some("content_filter"));
}

#[test]
fn completes_what_upstreams_leave_out() {
    let call = |name: &str| {
        Part::new(PartBody::ToolCall(ToolCall {
            id: String::new(),
            name: name.to_owned(),
            arguments: String::new(),
            kind: ToolKind::Function,
        }))
    };
    let choice = Choice {
        parts: vec![Part::text(""), call("f"), call("g")],
        finish: Finish::default(),
    };
    let response = Response {
        head: Head {
            model: "m".into(),
            ..Head::default()
        },
        choices: vec![choice.clone(), choice],
        usage: Usage::default(),
    };
    let mut losses = Losses::default();
    let written: Value = serde_json::from_slice(&Responses.encode_response(&response, &mut losses)).unwrap();
    assert_eq!(words(&losses), ["choices"]);
    let output = written["output"].as_array().unwrap();
    assert_eq!(output.len(), 2, "a text of no length is not said");
    assert_ne!(output[0]["call_id"], output[1]["call_id"]);
    assert_eq!(output[0]["arguments"], "{}");
    assert_eq!(written["usage"]["total_tokens"], 0);
    assert_eq!(written["tool_choice"], "auto");
}

#[test]
fn counts_are_exclusive_inside_and_inclusive_outside() {
    let reply = json!({"output": [], "usage": {"input_tokens": 100.0, "output_tokens": 9,
        "input_tokens_details": {"cached_tokens": 60, "cache_creation_input_tokens": 30},
        "output_tokens_details": {"reasoning_tokens": 4}}});
    let response = decode(&reply.to_string()).unwrap();
    let expected = Usage {
        input: Some(10),
        cache_read: Some(60),
        cache_write: Some(30),
        output: Some(9),
        reasoning: Some(4),
        ..Usage::default()
    };
    assert_eq!(response.usage, expected);
    let written = Responses.encode_response(&response, &mut Losses::default());
    let written: Value = serde_json::from_slice(&written).unwrap();
    assert_eq!(written["usage"]["input_tokens"], 100);
    assert_eq!(written["usage"]["input_tokens_details"]["cached_tokens"], 60);
    assert_eq!(written["usage"]["total_tokens"], 109);
}

#[test]
fn errors_are_those_of_chat() {
    let body = Bytes::from_static(
        br#"{"error":{"message":"no","type":"invalid_request_error","param":"input","code":"bad_input"}}"#,
    );
    let error = Responses.decode_error(StatusCode::BAD_REQUEST, &HeaderMap::new(), &body);
    assert_eq!(error.code.as_deref(), Some("bad_input"));
    assert_eq!(Responses.encode_error(&error), body, "handed on as it is");
    let own = Responses.encode_error(&ApiError::invalid("no").with_param("input[0]"));
    let own: Value = serde_json::from_slice(&own).unwrap();
    assert_eq!(own["error"]["param"], "input[0]");
}

#[test]
fn a_listener_passes_what_it_cannot_read() {
    #[track_caller]
    fn check(body: &str, failed: Option<ErrorKind>) {
        let mut observed = Observed::default();
        Responses.listen_response(body.as_bytes(), &mut observed).unwrap();
        assert_eq!(observed.error.map(|error| error.kind), failed, "{body}");
        assert!(observed.complete);
    }
    check("{}", None);
    check(r#"{"output":"?"}"#, None);
    check(r#"{"object":"response","status":"queued","output":[]}"#, None);
    check(
        r#"{"status":"failed","error":{"code":"server_error","message":"x"}}"#,
        Some(ErrorKind::Internal),
    );
    let array = Responses.listen_response(b"[]", &mut Observed::default());
    assert_eq!(array.unwrap_err().kind, ErrorKind::BadReply);
}
