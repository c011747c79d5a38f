//! How much an upstream is asked at once.

use std::net::SocketAddr;

use gateway::Options;
use serde_json::json;
use testkit::{Gate, Upstream, client};

use crate::setup::{PATH, Setup, asked, at, good, greeting};

/// Has one request under way, asks for another one and checks its status and who was asked.
async fn check(policy: &str, status: u16, expected: [usize; 2]) {
    let gate = Gate::new();
    let held = greeting_after(&gate);
    let (first, second) = (Upstream::start(vec![held, greeting()]).await, good().await);
    let setup = Setup::start(policy, &[at(&first), at(&second).after(1)]).await;
    let (held, _) = tokio::join!(setup.ask(), async {
        first.received(1).await;
        let answer = setup.ask().await;
        assert_eq!(answer.status, status, "{policy}: {}", answer.text());
        assert_eq!(
            answer.header("x-envoy-overloaded") == "true",
            status == 503,
            "{policy}"
        );
        assert_eq!(asked([&first, &second]), expected, "{policy}");
        gate.open();
    });
    assert_eq!(held.status, 200);
    assert_eq!(setup.ask().await.status, 200);
    assert_eq!(
        asked([&first, &second]),
        [expected[0] + 1, expected[1]],
        "{policy}: what is done weighs nothing"
    );
}

fn greeting_after(gate: &Gate) -> testkit::Reply {
    let body = testkit::fixture::openai::response("gpt").to_string();
    let length = body.len().to_string();
    testkit::Reply::new()
        .wait(gate)
        .head(
            200,
            &[("content-type", "application/json"), ("content-length", &length)],
        )
        .raw(body)
}

#[tokio::test]
async fn who_is_asked_too_much_is_passed_over() {
    check("circuitBreaker: { maxParallelRequests: 1 }", 200, [1, 1]).await;
    check("circuitBreaker: { maxParallelRequests: 2 }", 200, [2, 0]).await;
    check(
        "circuitBreaker: { maxConnections: 1, maxPendingRequests: 0 }",
        200,
        [1, 1],
    )
    .await;
    check(
        "circuitBreaker: { perEndpoint: { maxConnections: 1 }, maxPendingRequests: 0 }",
        200,
        [1, 1],
    )
    .await;
    check(
        "circuitBreaker: { maxParallelRequests: 1, maxParallelRetries: 0 }",
        503,
        [1, 0],
    )
    .await;
    check(
        "circuitBreaker: { maxParallelRequests: 1 }\n  retry: { numRetries: 0 }",
        503,
        [1, 0],
    )
    .await;
}

/// Who waits for a connection is served when there is one.
#[tokio::test]
async fn a_request_waits_for_a_connection() {
    let gate = Gate::new();
    let upstream = Upstream::start(vec![greeting_after(&gate), greeting()]).await;
    let options = Options {
        admin: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        ..Options::default()
    };
    let policy = "circuitBreaker: { maxConnections: 1 }";
    let setup = Setup::with(options, "", policy, &[at(&upstream)]).await;
    let (one, two, ()) = tokio::join!(setup.ask(), setup.ask(), async {
        upstream.received(1).await;
        gate.open();
    });
    assert_eq!((one.status, two.status), (200, 200));
    assert_eq!(upstream.connections(), 1);
    // One had to wait, and the other had not.
    let admin = setup.gateway.admin_address().expect("an admin listener");
    let metrics = client::get(admin, "/metrics", &[]).await.text();
    let mut lines = metrics.lines();
    let waited = lines.find(|line| line.starts_with("tollgate_queue_seconds_count{"));
    assert!(waited.is_some_and(|line| line.ends_with("} 1")), "{waited:?}");
}

#[tokio::test]
async fn a_connection_carries_so_many_requests_and_no_more() {
    let upstream = good().await;
    let setup = Setup::start(
        "circuitBreaker: { maxRequestsPerConnection: 2 }",
        &[at(&upstream)],
    )
    .await;
    for _ in 0..6 {
        assert_eq!(setup.ask().await.status, 200);
    }
    assert_eq!(upstream.connections(), 3);
}

/// A rule may take less than the process does, and more.
#[tokio::test]
async fn a_request_may_weigh_what_its_rule_allows() {
    let small = Options {
        max_body: 2048,
        ..Options::default()
    };
    for (policy, options, length, status) in [
        ("requestBuffer: { limit: 1Ki }", Options::default(), 500, 200),
        ("requestBuffer: { limit: 1Ki }", Options::default(), 1500, 413),
        ("requestBuffer: { limit: 4Ki }", small.clone(), 3000, 200),
        ("requestBuffer: { limit: 4Ki }", small.clone(), 5000, 413),
        ("timeout: {}", small, 3000, 413),
    ] {
        let upstream = good().await;
        let setup = Setup::with(options, "", policy, &[at(&upstream)]).await;
        let text = "x".repeat(length);
        let body = json!({"model": "m", "messages": [{"role": "user", "content": text}]});
        let answer = client::post(setup.address, PATH, &[], &body).await;
        assert_eq!(answer.status, status, "{policy}, {length}: {}", answer.text());
        assert_eq!(asked([&upstream]), [usize::from(status == 200)]);
    }
}
