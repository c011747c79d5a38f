//! What is counted of the gateway's own part: what it refuses, how long it keeps requests, what it cannot translate.

use gateway::{HeaderAttributes, Options, Telemetry};
use serde_json::json;
use testkit::{Client, Reply, Upstream, client, fixture};

use crate::{
    access::{BY_KEY, GATEWAY, KEYS, policy, serve_with as serve_declared},
    fixture::{CHAT, MODEL, messages, openai, options, serve, serve_with, to},
};

const REFUSALS: &str = "tollgate_refusals_total";

#[tokio::test]
async fn what_is_refused_is_counted_by_its_reason() {
    let upstream = Upstream::start(Reply::new()).await;
    let small = Options {
        max_body: 64,
        ..options()
    };
    let served = serve_with(small, Default::default(), [openai(&upstream)]).await;
    let check = async |method: &str, path: &str, body: &str, reason: &str, status: u16| {
        let mut client = Client::connect(served.address).await;
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n");
        client.send(head + body).await.expect("sent");
        assert_eq!(client.answer().await.expect("a reply").status, status, "{reason}");
        let labels = [format!("reason=\"{reason}\""), format!("status=\"{status}\"")];
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        served.metric_reaches(REFUSALS, &labels, 1.0).await;
    };
    let large = format!("{{\"model\":\"m\",\"user\":\"{}\"}}", "x".repeat(100));
    check("POST", "/v1/chat/completion", "{}", "unknown_path", 404).await;
    check("POST", CHAT, "{\"model\":\"n\"}", "unknown_model", 404).await;
    check("POST", CHAT, "{\"model\"", "invalid_request", 400).await;
    check("GET", CHAT, "", "method_not_allowed", 405).await;
    check("POST", CHAT, &large, "too_large", 413).await;
    served.metric_reaches(REFUSALS, &[], 5.0).await;
}

/// What an upstream says is not the gateway's word; that it says nothing is.
#[tokio::test]
async fn errors_of_upstreams_are_not_refusals() {
    let error = json!({ "error": { "message": "overloaded" } });
    let failing = Upstream::start(Reply::json(500, &error)).await;
    let served = serve([openai(&failing)]).await;
    let request = fixture::openai::request(MODEL, false);
    assert_eq!(served.post(CHAT, &request).await.status, 500);
    served
        .metric_reaches("tollgate_requests_total", &["status=\"500\""], 1.0)
        .await;
    assert_eq!(served.metric(REFUSALS, &[]).await, 0.0);

    let gone = to(&llm::provider::COMPATIBLE, Upstream::refusing().address);
    let served = serve([gone]).await;
    assert_eq!(served.post(CHAT, &request).await.status, 503);
    served
        .metric_reaches(REFUSALS, &["reason=\"connect\"", "status=\"503\""], 1.0)
        .await;
}

/// The time until the first call is counted once for a request, however many attempts follow; nothing is counted of what
/// calls nobody.
#[tokio::test]
async fn the_time_before_the_first_call_is_counted() {
    let failing = Upstream::start(Reply::json(500, &json!({}))).await;
    let upstream = Upstream::start(Reply::json(200, &fixture::openai::response("gpt"))).await;
    let served = serve([openai(&failing), openai(&upstream).after()]).await;
    let overhead = "tollgate_request_overhead_seconds_count";
    assert_eq!(
        served
            .post(CHAT, &fixture::openai::request("n", false))
            .await
            .status,
        404
    );
    assert_eq!(served.metric(overhead, &[]).await, 0.0);
    assert_eq!(
        served
            .post(CHAT, &fixture::openai::request(MODEL, false))
            .await
            .status,
        200
    );
    served.metric_reaches(overhead, &[], 1.0).await;
    let known = ["route=\"default/route\"", "status=\"200\""];
    served
        .metric_reaches("tollgate_requests_total", &known, 1.0)
        .await;
}

#[tokio::test]
async fn what_cannot_be_translated_is_counted_by_its_side() {
    let strange = Upstream::start(Reply::json(200, &json!("what is this?"))).await;
    let served = serve([messages(&strange)]).await;
    let name = "tollgate_translation_errors_total";
    let labels = ["operation=\"chat\"", "provider=\"anthropic\"", "side=\"reply\""];
    assert_eq!(
        served
            .post(CHAT, &fixture::openai::request(MODEL, false))
            .await
            .status,
        502
    );
    served.metric_reaches(name, &labels, 1.0).await;
    let speech = json!({ "model": MODEL, "input": "Hello", "voice": "alloy" });
    assert_ne!(served.post("/v1/audio/speech", &speech).await.status, 200);
    let labels = [
        "operation=\"speech\"",
        "provider=\"anthropic\"",
        "side=\"request\"",
    ];
    served.metric_reaches(name, &labels, 1.0).await;
    assert_eq!(strange.requests().len(), 1);
}

/// Where a policy tells upstreams who is calling, that is what attributes have, and not what a client makes up.
#[tokio::test]
async fn a_verified_caller_is_a_label() {
    let attributes = HeaderAttributes::parse(None, None, Some("x-client-id:tenant"), None);
    let options = Options {
        telemetry: Telemetry {
            attributes: attributes.expect("a list"),
            ..Telemetry::default()
        },
        ..options()
    };
    let policies = format!("{KEYS}{}", policy("keys", GATEWAY, BY_KEY));
    let setup = serve_declared(options, &["m"], &policies).await;
    let key = ("authorization", "Bearer sk-client-two");
    assert_eq!(setup.ask("m", &[key, ("x-client-id", "one")]).await.status, 200);
    let labels = ["tenant=\"two\"", "route=\"default/m\""];
    setup
        .served
        .metric_reaches("tollgate_requests_total", &labels, 1.0)
        .await;
    let labels = ["tenant=\"two\"", "gen_ai_original_model=\"m\""];
    setup
        .served
        .metric_reaches("gen_ai_server_request_duration_seconds_count", &labels, 1.0)
        .await;
}

/// Native histograms are for who reads them, and only where they are kept.
#[tokio::test]
async fn native_histograms_are_told_where_they_are_kept() {
    let upstream = Upstream::start(Reply::json(200, &fixture::openai::response("gpt"))).await;
    let reader = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,\
                  application/openmetrics-text;version=1.0.0;q=0.8";
    for (kept, expected) in [
        (false, "application/openmetrics-text"),
        (true, "application/vnd.google.protobuf"),
    ] {
        let native = Options {
            native_histograms: kept,
            ..options()
        };
        let served = serve_with(native, Default::default(), [openai(&upstream)]).await;
        served.post(CHAT, &fixture::openai::request(MODEL, false)).await;
        let name = "gen_ai_server_request_duration_seconds_count";
        served.metric_reaches(name, &[], 1.0).await;
        let admin = served.gateway.admin_address().expect("an admin listener");
        let answer = client::get(admin, "/metrics", &[("accept", reader)]).await;
        assert!(
            answer.header("content-type").starts_with(expected),
            "{}",
            answer.header("content-type")
        );
        // Whoever asks next for text has the declared buckets.
        let text = served.admin("/metrics").await.text();
        assert!(
            text.contains("gen_ai_server_request_duration_seconds_bucket"),
            "{text}"
        );
        for bound in ["\"81.92\"", "\"1310.72\""] {
            assert!(text.contains(&format!("le={bound}")), "{bound}");
        }
    }
}
