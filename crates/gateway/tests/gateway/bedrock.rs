//! Amazon Bedrock as an upstream: its binary streams, its errors and its exceptions.

use serde_json::{Value, json};
use testkit::{
    Reply, Upstream,
    event_stream::{chunk, event, exception},
    fixture,
};

use crate::fixture::{CHAT, KEY, MESSAGES, MODEL, To, messages, serve, to};

/// Returns the head of a binary stream.
fn stream() -> Reply {
    Reply::chunked(
        200,
        &[
            ("content-type", "application/vnd.amazon.eventstream"),
            ("x-amzn-requestid", "8a1b"),
        ],
    )
}

fn start() -> Vec<u8> {
    let text = json!({"contentBlockIndex": 0, "delta": {"text": "Hi"}});
    [
        event("messageStart", &json!({"role": "assistant"})),
        event("contentBlockDelta", &text),
    ]
    .concat()
}

fn converse(upstream: &Upstream) -> To {
    To {
        model: Some("us.anthropic.claude-sonnet-4-6".to_owned()),
        ..to(&llm::provider::Bedrock, upstream.address())
    }
}

fn invoke(upstream: &Upstream) -> To {
    to(&llm::provider::BedrockClaude, upstream.address())
}

/// Wraps the data of server-sent events as InvokeModel does.
fn wrapped(frames: &[String]) -> Vec<u8> {
    let lines = frames.iter().flat_map(|frame| frame.lines());
    let data = lines.filter_map(|line| line.strip_prefix("data: "));
    data.flat_map(chunk).collect()
}

#[tokio::test]
async fn a_binary_stream_reaches_clients_as_events() {
    let rest = [
        event("contentBlockStop", &json!({"contentBlockIndex": 0})),
        event("messageStop", &json!({"stopReason": "end_turn"})),
        event(
            "metadata",
            &json!({"usage": {"inputTokens": 12, "outputTokens": 3}}),
        ),
    ];
    let bytes = [start(), rest.concat()].concat();
    let reply = bytes
        .chunks(9)
        .fold(stream(), |reply, piece| reply.frame(piece))
        .end();
    let upstream = Upstream::start(reply).await;
    let served = serve([converse(&upstream)]).await;
    for (path, request, last) in [
        (CHAT, fixture::openai::request(MODEL, true), "data: [DONE]"),
        (
            MESSAGES,
            fixture::messages::request(MODEL, true),
            "event: message_stop\ndata: {\"type\":\"message_stop\"}",
        ),
    ] {
        let answer = served.post(path, &request).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("content-type"), "text/event-stream");
        assert_eq!(answer.frames().last().map(String::as_str), Some(last));
        assert!(answer.text().contains("8a1b"), "{}", answer.text());
    }
    let request = &upstream.requests()[0];
    assert_eq!(
        request.target,
        "/model/us.anthropic.claude-sonnet-4-6/converse-stream"
    );
    assert_eq!(request.json().get("model"), None);
    served
        .metric_reaches(
            "gen_ai_client_token_usage_sum",
            &["gen_ai_token_type=\"input\""],
            24.0,
        )
        .await;
}

#[tokio::test]
async fn a_wrapped_stream_is_relayed() {
    let frames = fixture::messages::frames("claude");
    let upstream = Upstream::start(stream().frame(wrapped(&frames)).end()).await;
    let served = serve([invoke(&upstream)]).await;
    let answer = served
        .post(MESSAGES, &fixture::messages::request(MODEL, true))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), "text/event-stream");
    let expected: Vec<&str> = frames.iter().map(|frame| frame.trim_end()).collect();
    assert_eq!(answer.frames(), expected);
    let request = &upstream.requests()[0];
    assert_eq!(
        request.target,
        format!("/model/{MODEL}/invoke-with-response-stream")
    );
    let body = request.json();
    assert_eq!((body.get("model"), body.get("stream")), (None, None));
    assert_eq!(body["anthropic_version"], "bedrock-2023-05-31");
}

#[tokio::test]
async fn an_exception_before_the_answer_is_a_reason_to_try_another() {
    let throttled = exception("throttlingException", &json!({"message": "slower"}));
    let first = Upstream::start(stream().frame(&throttled).end()).await;
    let second = Upstream::start(Reply::sse(fixture::messages::frames("claude"))).await;
    let served = serve([converse(&first), messages(&second).after()]).await;
    let answer = served
        .post(MESSAGES, &fixture::messages::request(MODEL, true))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!((first.requests().len(), second.requests().len()), (1, 1));
}

#[tokio::test]
async fn an_exception_within_the_answer_ends_it() {
    let failed = exception(
        "modelStreamErrorException",
        &json!({"message": "the model broke"}),
    );
    let upstream = Upstream::start(stream().frame(start()).frame(failed).end()).await;
    let served = serve([converse(&upstream)]).await;
    let answer = served.post(CHAT, &fixture::openai::request(MODEL, true)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let frames = answer.frames();
    let last = frames
        .last()
        .and_then(|frame| frame.strip_prefix("data: "))
        .unwrap_or_default();
    let error: Value = serde_json::from_str(last).expect("the error is JSON");
    assert_eq!(error["error"]["message"], "the model broke");
    assert!(frames.iter().any(|frame| frame.contains("\"Hi\"")), "{frames:?}");
}

#[tokio::test]
async fn an_error_reply_is_told_in_the_clients_words() {
    let headers = [
        ("content-type", "application/json"),
        (
            "x-amzn-errortype",
            "ValidationException:http://internal.amazon.com/",
        ),
    ];
    let refused = Reply::whole(400, &headers, r#"{"message":"Input is too long"}"#);
    let upstream = Upstream::start(refused).await;
    let served = serve([converse(&upstream)]).await;
    let answer = served
        .post(MESSAGES, &fixture::messages::request(MODEL, false))
        .await;
    assert_eq!(answer.status, 400);
    let error = &answer.json()["error"];
    assert_eq!(
        (&error["type"], &error["message"]),
        (&json!("invalid_request_error"), &json!("Input is too long"))
    );
    assert_eq!(
        upstream.requests()[0].header("authorization"),
        format!("Bearer {KEY}")
    );
}
