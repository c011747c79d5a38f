//! What is tried again, where, and what the client is told when nothing helps.

use std::time::Duration;

use config::snapshot::Timeouts;
use serde_json::json;
use testkit::{Reply, Upstream, fixture};

use crate::fixture::{CHAT, MESSAGES, MODEL, To, messages, openai, options, serve, serve_with, to};

/// Limits that make a stall short.
fn impatient() -> Timeouts {
    Timeouts {
        attempt: Some(Duration::from_millis(300)),
        ..Timeouts::default()
    }
}

fn error(status: u16) -> Reply {
    Reply::json(status, &fixture::openai::error("server_error", "x", "it broke"))
}

/// Returns replies that another candidate is asked after, unary and streamed.
fn faults() -> Vec<(&'static str, Reply)> {
    let json = [("content-type", "application/json")];
    vec![
        ("reset", Reply::new().reset()),
        ("close", Reply::new().close()),
        ("500", error(500)),
        ("503", error(503)),
        ("529", error(529)),
        ("429", error(429)),
        ("408", error(408)),
        (
            "429 with retry-after",
            Reply::whole(429, &[("retry-after", "7")], "{}"),
        ),
        ("stall", Reply::new().stall()),
        ("stall after the head", Reply::stream().stall()),
        (
            "stall in the body",
            Reply::new()
                .head(200, &[("content-length", "9")])
                .raw("{")
                .stall(),
        ),
        (
            "cut body",
            Reply::new()
                .head(200, &[("content-length", "9")])
                .raw("{")
                .close(),
        ),
        ("not JSON", Reply::whole(200, &json, "<html>")),
        (
            "compressed",
            Reply::whole(200, &[("content-encoding", "gzip")], "x"),
        ),
        ("redirect", Reply::whole(302, &[("location", "/")], "")),
    ]
}

#[tokio::test]
async fn a_fault_leads_to_the_next_candidate() {
    for (name, fault) in faults() {
        check_fallback(name, fault, false).await;
    }
}

#[tokio::test]
async fn a_fault_of_a_stream_leads_to_the_next_candidate() {
    let in_band = "data: {\"error\":{\"message\":\"overloaded\",\"type\":\"server_error\"}}\n\n";
    let of_streams = [
        ("error event", Reply::sse([in_band])),
        ("end at once", Reply::stream().end()),
        ("cut at once", Reply::stream().reset()),
        (
            "no stream",
            Reply::json(200, &json!({"error": {"message": "no", "type": "x"}})),
        ),
    ];
    for (name, fault) in faults().into_iter().chain(of_streams) {
        check_fallback(name, fault, true).await;
    }
}

async fn check_fallback(name: &str, fault: Reply, stream: bool) {
    let broken = Upstream::start(fault).await;
    let good = if stream {
        Upstream::start(Reply::sse(fixture::openai::frames("gpt"))).await
    } else {
        Upstream::start(Reply::json(200, &fixture::openai::response("gpt"))).await
    };
    let served = serve_with(options(), impatient(), [openai(&broken), openai(&good).after()]).await;
    let answer = served.post(CHAT, &fixture::openai::request(MODEL, stream)).await;
    assert_eq!(answer.status, 200, "{name}: {}", answer.text());
    assert!(!answer.text().contains("error"), "{name}: {}", answer.text());
    assert_eq!((broken.requests().len(), good.requests().len()), (1, 1), "{name}");
    served.metric_reaches("tollgate_attempts_total", &[], 2.0).await;
    served
        .metric_reaches("gen_ai_client_token_usage_count", &["\"output\""], 1.0)
        .await;
}

#[tokio::test]
async fn a_fallback_may_speak_another_format() {
    let broken = Upstream::start(error(500)).await;
    let good = Upstream::start(Reply::json(200, &fixture::messages::response("claude"))).await;
    let fallback = To {
        model: Some("claude".to_owned()),
        ..messages(&good)
    };
    let served = serve([openai(&broken), fallback.after()]).await;
    let answer = served.post(CHAT, &fixture::openai::request(MODEL, false)).await;
    assert_eq!(
        (answer.status, &answer.json()["object"]),
        (200, &json!("chat.completion"))
    );
    assert_eq!(good.requests()[0].target, "/v1/messages");
    assert_eq!(good.requests()[0].json()["model"], "claude");
    assert_eq!(good.requests()[0].header("authorization"), "");
}

#[tokio::test]
async fn who_cannot_be_reached_is_passed_over() {
    let refusing = Upstream::refusing();
    let good = Upstream::start(Reply::json(200, &fixture::openai::response("gpt"))).await;
    let dead = to(&llm::provider::COMPATIBLE, refusing.address);
    let served = serve([dead.clone(), openai(&good).after()]).await;
    let answer = served.post(CHAT, &fixture::openai::request(MODEL, false)).await;
    assert_eq!(answer.status, 200);

    let served = serve([dead]).await;
    let answer = served.post(CHAT, &fixture::openai::request(MODEL, false)).await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.json()["error"]["message"].is_string());
    served
        .metric_reaches("tollgate_attempts_total", &["outcome=\"connect\""], 2.0)
        .await;
}

#[tokio::test]
async fn a_client_error_is_the_answer() {
    for status in [400, 401, 403, 404, 413, 422] {
        let strict = Upstream::start(error(status)).await;
        let other = Upstream::start(Reply::json(200, &fixture::openai::response("gpt"))).await;
        let served = serve([openai(&strict), openai(&other).after()]).await;
        let answer = served.post(CHAT, &fixture::openai::request(MODEL, false)).await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.json()["error"]["message"], "it broke");
        assert_eq!(other.requests().len(), 0);
    }
}

/// With nobody left to ask the client learns what happened, and is asked to wait where that helps.
#[tokio::test]
async fn the_last_failure_is_told() {
    check_alone(error(500), 500).await;
    check_alone(error(529), 529).await;
    check_alone(Reply::whole(403, &[("content-encoding", "br")], "x"), 403).await;
    check_alone(Reply::whole(200, &[("content-encoding", "br")], "x"), 502).await;
    check_alone(Reply::sse(fixture::openai::frames("gpt")), 502).await;
    check_alone(Reply::new().reset(), 502).await;
    check_alone(Reply::new().stall(), 504).await;
    check_alone(
        Reply::whole(200, &[("content-type", "application/json")], "<html>"),
        502,
    )
    .await;
    check_alone(
        Reply::new()
            .head(200, &[("content-length", "9")])
            .raw("{")
            .reset(),
        502,
    )
    .await;
}

async fn check_alone(reply: Reply, status: u16) {
    let upstream = Upstream::start(reply).await;
    let served = serve_with(options(), impatient(), [openai(&upstream)]).await;
    let answer = served
        .post(MESSAGES, &fixture::messages::request(MODEL, false))
        .await;
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(answer.json()["type"], "error");
    assert_eq!(
        upstream.requests().len(),
        1,
        "it may have been billed: not asked again"
    );
}

#[tokio::test]
async fn retry_after_reaches_the_client() {
    let body = fixture::openai::error("rate_limit_error", "x", "slow down").to_string();
    let headers = [
        ("retry-after", "7"),
        ("content-type", "application/json"),
        ("x-ratelimit-remaining", "0"),
    ];
    let upstream = Upstream::start(Reply::whole(429, &headers, &body)).await;
    let served = serve([openai(&upstream)]).await;
    let answer = served.post(CHAT, &fixture::openai::request(MODEL, false)).await;
    assert_eq!((answer.status, answer.header("retry-after")), (429, "7"));
    assert_eq!(answer.header("x-ratelimit-remaining"), "0");
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test]
async fn nobody_to_ask_is_an_error_in_the_clients_dialect() {
    let upstream = Upstream::start(Reply::new()).await;
    let never = To {
        weight: 0,
        ..openai(&upstream)
    };
    let served = serve([never]).await;
    let answer = served
        .post(MESSAGES, &fixture::messages::request(MODEL, false))
        .await;
    assert_eq!((answer.status, &answer.json()["type"]), (503, &json!("error")));
}

#[tokio::test]
async fn the_total_limit_is_told_and_not_retried() {
    let (slow, other) = (
        Upstream::start(Reply::new().stall()).await,
        Upstream::start(Reply::new().stall()).await,
    );
    let timeouts = Timeouts {
        request: Some(Duration::from_millis(400)),
        ..Timeouts::default()
    };
    let served = serve_with(options(), timeouts, [openai(&slow), openai(&other).after()]).await;
    let answer = served.post(CHAT, &fixture::openai::request(MODEL, true)).await;
    assert_eq!(answer.status, 504, "{}", answer.text());
    assert_eq!(
        (slow.requests().len(), other.requests().len()),
        (1, 1),
        "half of the time was kept"
    );
}
