//! Faults that a policy wants made.

use std::time::{Duration, Instant};

use crate::setup::{Setup, asked, at, good};

#[tokio::test]
async fn requests_are_refused_by_the_status_that_is_wanted() {
    for (status, kind) in [
        (503, "server_error"),
        (429, "rate_limit_error"),
        (418, "invalid_request_error"),
    ] {
        let upstream = good().await;
        let policy = format!("faultInjection: {{ abort: {{ httpStatus: {status} }} }}");
        let setup = Setup::start(&policy, &[at(&upstream)]).await;
        let answer = setup.ask().await;
        assert_eq!(answer.status, status);
        let error = &answer.json()["error"];
        assert_eq!(error["type"], kind, "{error}");
        assert_eq!(error["message"], "a fault that a policy wants made");
        assert_eq!(asked([&upstream]), [0]);
    }
}

/// Clients of HTTP are told what the status means there.
#[tokio::test]
async fn a_status_of_grpc_is_one_of_http_too() {
    for (written, status) in [(14, 503), (8, 429), (5, 404), (2, 500)] {
        let upstream = good().await;
        let policy = format!("faultInjection: {{ abort: {{ grpcStatus: {written} }} }}");
        let setup = Setup::start(&policy, &[at(&upstream)]).await;
        assert_eq!(setup.ask().await.status, status, "{written}");
        assert_eq!(asked([&upstream]), [0]);
    }
}

#[tokio::test]
async fn a_share_of_requests_is_refused() {
    for (percentage, expected) in [("0", 0..=0), ("50", 20..=80), ("100.0", 100..=100)] {
        let upstream = good().await;
        let policy = format!("faultInjection: {{ abort: {{ httpStatus: 503, percentage: {percentage} }} }}");
        let setup = Setup::start(&policy, &[at(&upstream)]).await;
        let mut refused = 0;
        for _ in 0..100 {
            refused += usize::from(setup.ask().await.status == 503);
        }
        assert!(expected.contains(&refused), "{percentage}: {refused}");
        assert_eq!(asked([&upstream]), [100 - refused]);
    }
}

#[tokio::test]
async fn requests_are_held_up() {
    let upstream = good().await;
    let setup = Setup::start(
        "faultInjection: { delay: { fixedDelay: 150ms } }",
        &[at(&upstream)],
    )
    .await;
    let begun = Instant::now();
    assert_eq!(setup.ask().await.status, 200);
    assert!(begun.elapsed() >= Duration::from_millis(150));
}
