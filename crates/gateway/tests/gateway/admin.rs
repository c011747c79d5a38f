//! The listener for operators.

use config::snapshot::Timeouts;
use gateway::Gateway;
use testkit::{Reply, Upstream, client, fixture};

use crate::fixture::{CHAT, KEY, MODEL, openai, options, serve, snapshot};

#[tokio::test]
async fn readiness_follows_the_first_snapshot_and_the_end() {
    let upstream = Upstream::start(Reply::new()).await;
    let gateway = Gateway::start(options()).await.expect("the admin port is free");
    let address = gateway.admin_address().expect("an admin listener");
    let ask = async |path| client::get(address, path, &[]).await.status;
    assert_eq!((ask("/health").await, ask("/ready").await), (200, 503));
    let first = snapshot(Timeouts::default(), [openai(&upstream)]);
    gateway.install(first).await.expect("the port is free");
    assert_eq!((ask("/health").await, ask("/ready").await), (200, 200));
    gateway.drain().await;
    assert_eq!((ask("/health").await, ask("/ready").await), (200, 503));
    assert_eq!(ask("/nothing").await, 404);
}

#[tokio::test]
async fn metrics_have_the_names_and_labels_that_dashboards_know() {
    let upstream = Upstream::start(Reply::json(200, &fixture::openai::response("gpt"))).await;
    let served = serve([openai(&upstream)]).await;
    served.post(CHAT, &fixture::openai::request(MODEL, false)).await;
    served
        .metric_reaches("gen_ai_server_request_duration_seconds_count", &[], 1.0)
        .await;
    let text = served.admin("/metrics").await.text();
    let line = text
        .lines()
        .find(|line| line.starts_with("gen_ai_server_request_duration_seconds_count"))
        .expect("a duration");
    for label in [
        "otel_scope_name=\"envoyproxy/ai-gateway\"",
        "otel_scope_version=\"\"",
        "otel_scope_schema_url=\"\"",
        "gen_ai_operation_name=\"chat\"",
        "gen_ai_provider_name=\"openai\"",
        "gen_ai_original_model=\"m\"",
        "gen_ai_request_model=\"m\"",
        "gen_ai_response_model=\"gpt\"",
    ] {
        assert!(line.contains(label), "{label}: {line}");
    }
    assert!(!line.contains("error_type"), "{line}");
    for name in ["gen_ai_client_token_usage_bucket", "target_info"] {
        assert!(text.lines().any(|line| line.starts_with(name)), "{name}");
    }
    assert!(
        text.contains("le=\"81.92\"") && text.contains("le=\"67108864.0\""),
        "{text}"
    );
}

#[tokio::test]
async fn the_snapshot_is_shown_without_keys() {
    let upstream = Upstream::start(Reply::new()).await;
    let served = serve([openai(&upstream)]).await;
    let answer = served.admin("/config").await;
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, "application/json")
    );
    assert!(!answer.text().contains(KEY));
}
