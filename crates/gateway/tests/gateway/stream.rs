//! Streamed answers: when the client hears what, and how a stream ends that breaks.

use std::time::Duration;

use config::snapshot::Timeouts;
use gateway::Options;
use testkit::{Client, Gate, Reply, Upstream, fixture};

use crate::fixture::{CHAT, MESSAGES, MODEL, messages, openai, options, serve, serve_with};

#[tokio::test]
async fn events_pass_as_they_come() {
    let gate = Gate::new();
    let frames = fixture::messages::frames("claude");
    let (first, rest) = frames.split_at(4);
    let upstream = Upstream::start(Reply::stream().frames(first).wait(&gate).frames(rest).end()).await;
    let served = serve([messages(&upstream)]).await;
    let mut client = Client::connect(served.address).await;
    client
        .post(MESSAGES, &[], &fixture::messages::request(MODEL, true))
        .await
        .expect("sent");
    assert_eq!(client.head().await.expect("a head").status, 200);
    for frame in first {
        let seen = client.frame().await.expect("an event");
        assert_eq!(seen.as_deref(), Some(frame.trim_end()));
    }
    gate.open();
    for frame in rest {
        let seen = client.frame().await.expect("an event");
        assert_eq!(seen.as_deref(), Some(frame.trim_end()));
    }
    assert_eq!(client.frame().await.expect("an end"), None);
    served
        .metric_reaches("gen_ai_server_time_to_first_token_seconds_count", &[], 1.0)
        .await;
    served
        .metric_reaches("gen_ai_server_time_per_output_token_seconds_count", &[], 1.0)
        .await;
    served
        .metric_reaches("tollgate_requests_total", &["outcome=\"complete\""], 1.0)
        .await;
}

#[tokio::test]
async fn usage_is_asked_for_and_withheld() {
    let frames = fixture::openai::frames("gpt");
    let upstream = Upstream::start(Reply::sse(&frames)).await;
    let served = serve([openai(&upstream)]).await;
    let mut request = fixture::openai::request(MODEL, true);
    if let Some(request) = request.as_object_mut() {
        request.remove("stream_options");
    }
    let answer = served.post(CHAT, &request).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(
        upstream.requests()[0].json()["stream_options"]["include_usage"],
        true
    );
    assert_eq!(answer.frames().last().map(String::as_str), Some("data: [DONE]"));
    let with_usage = answer
        .frames()
        .iter()
        .filter(|frame| frame.contains("\"choices\":[]"))
        .count();
    assert_eq!(with_usage, 0, "{}", answer.text());
    served
        .metric_reaches("gen_ai_client_token_usage_count", &["\"output\""], 1.0)
        .await;
}

#[tokio::test]
async fn a_client_that_waits_hears_that_we_are_there() {
    let gate = Gate::new();
    let frames = fixture::openai::frames("gpt");
    let (first, rest) = frames.split_at(2);
    let upstream = Upstream::start(Reply::stream().frames(first).wait(&gate).frames(rest).end()).await;
    let eager = Options {
        keep_alive: Duration::from_millis(50),
        ..options()
    };
    let served = serve_with(eager, Timeouts::default(), [openai(&upstream)]).await;
    let mut client = Client::connect(served.address).await;
    client
        .post(CHAT, &[], &fixture::openai::request(MODEL, true))
        .await
        .expect("sent");
    client.head().await.expect("a head");
    let mut seen = Vec::new();
    while let Some(frame) = client.frame().await.expect("an event") {
        if frame.starts_with(':') {
            gate.open();
        }
        seen.push(frame);
    }
    let comments = seen.iter().filter(|frame| frame.starts_with(':')).count();
    assert!(comments > 0, "{seen:?}");
    // The counts that nobody asked for are withheld.
    assert_eq!(seen.len(), frames.len() - 1 + comments, "{seen:?}");
}

/// Streams that break after they have said something end with an event that clients understand.
#[tokio::test]
async fn a_broken_stream_ends_with_an_error_event() {
    let begun = || Reply::stream().frames(fixture::openai::frames("gpt").into_iter().take(3));
    check_openai(begun().reset()).await;
    check_openai(begun().close()).await;
    check_openai(begun().end()).await;
    check_openai(
        begun()
            .frame("data: {\"error\":{\"message\":\"boom\",\"type\":\"server_error\"}}\n\n")
            .end(),
    )
    .await;
    check_openai(begun().stall()).await;
    check_openai(begun().frame("data: {\"choices\":[{\"ind").reset()).await;
}

async fn check_openai(reply: Reply) {
    let upstream = Upstream::start(reply).await;
    let timeouts = Timeouts {
        stream_idle: Some(Duration::from_millis(300)),
        ..Timeouts::default()
    };
    let served = serve_with(options(), timeouts, [openai(&upstream)]).await;
    let answer = served.post(CHAT, &fixture::openai::request(MODEL, true)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.whole, "the body ends as HTTP says: {}", answer.text());
    let errors = answer
        .frames()
        .iter()
        .filter(|frame| frame.contains("\"error\""))
        .count();
    assert_eq!(errors, 1, "{}", answer.text());
    served
        .metric_reaches(
            "tollgate_requests_total",
            &["outcome=\"broken\"", "status=\"200\""],
            1.0,
        )
        .await;
    served
        .metric_reaches("tollgate_requests_in_flight", &[], 0.0)
        .await;
}

#[tokio::test]
async fn the_total_limit_ends_a_stream_with_an_error_event() {
    let begun = Reply::stream().frames(fixture::messages::frames("claude").into_iter().take(4));
    let upstream = Upstream::start(begun.stall()).await;
    let timeouts = Timeouts {
        request: Some(Duration::from_millis(400)),
        ..Timeouts::default()
    };
    let served = serve_with(options(), timeouts, [messages(&upstream)]).await;
    let answer = served
        .post(MESSAGES, &fixture::messages::request(MODEL, true))
        .await;
    let last = answer.frames().last().cloned().unwrap_or_default();
    assert!(last.starts_with("event: error"), "{}", answer.text());
    upstream.closed().await;
}
