//! What is counted of answers: tokens by type, times, and the names of who gave them.

use serde_json::{Value, json};
use testkit::{Reply, Upstream, fixture};

use crate::fixture::{CHAT, MESSAGES, MODEL, Served, messages, openai, serve};

const TOKENS: &str = "gen_ai_client_token_usage";
const DURATION: &str = "gen_ai_server_request_duration_seconds";

/// Returns the buckets of the first series of a family that has these labels.
async fn bounds(served: &Served, name: &str, label: &str) -> Vec<f64> {
    let text = served.admin("/metrics").await.text();
    let name = format!("{name}_bucket{{");
    let lines = text
        .lines()
        .filter(|line| line.starts_with(&name) && line.contains(label));
    let bounds = lines.filter_map(|line| line.split("le=\"").nth(1)?.split('"').next());
    bounds.filter_map(|bound| bound.parse().ok()).collect()
}

/// Asks once, and finds the tokens of each type that the answer says, and no others.
async fn check(served: &Served, path: &str, request: &Value, expected: &[(&str, f64)]) {
    assert_eq!(served.post(path, request).await.status, 200);
    let (count, sum) = (format!("{TOKENS}_count"), format!("{TOKENS}_sum"));
    served.metric_reaches(&count, &[], expected.len() as f64).await;
    for (kind, tokens) in expected {
        let label = format!("gen_ai_token_type=\"{kind}\"");
        assert_eq!(served.metric(&count, &[&label]).await, 1.0, "{kind}");
        assert_eq!(served.metric(&sum, &[&label]).await, *tokens, "{kind}");
    }
}

/// Whatever was read from a cache and written to one is a part of the input, whichever way the provider counts, and what
/// is told to be nothing is counted as nothing.
#[tokio::test]
async fn tokens_are_counted_by_type() {
    let mut answer = fixture::openai::response("gpt");
    answer["usage"] = json!({
        "prompt_tokens": 40, "completion_tokens": 9, "total_tokens": 49,
        "prompt_tokens_details": { "cached_tokens": 16 },
        "completion_tokens_details": { "reasoning_tokens": 0 },
    });
    let upstream = Upstream::start(Reply::json(200, &answer)).await;
    let served = serve([openai(&upstream)]).await;
    let expected = [
        ("input", 40.0),
        ("cached_input", 16.0),
        ("output", 9.0),
        ("reasoning", 0.0),
    ];
    check(&served, CHAT, &fixture::openai::request(MODEL, false), &expected).await;

    let mut answer = fixture::messages::response("claude");
    answer["usage"] = json!({
        "input_tokens": 12, "cache_read_input_tokens": 20, "cache_creation_input_tokens": 5, "output_tokens": 7,
    });
    let upstream = Upstream::start(Reply::json(200, &answer)).await;
    let served = serve([messages(&upstream)]).await;
    let expected = [
        ("input", 37.0),
        ("cached_input", 20.0),
        ("cache_creation_input", 5.0),
        ("output", 7.0),
    ];
    check(
        &served,
        MESSAGES,
        &fixture::messages::request(MODEL, false),
        &expected,
    )
    .await;
}

/// The bounds of the compatibility specification are all there, and others where it says that these end too early.
#[tokio::test]
async fn buckets_have_the_bounds_that_dashboards_know() {
    let frames = fixture::openai::frames("gpt");
    let upstream = Upstream::start(Reply::stream().frames(frames).end()).await;
    let served = serve([openai(&upstream)]).await;
    let mut request = fixture::openai::request(MODEL, true);
    request["stream_options"] = json!({ "include_usage": true });
    assert_eq!(served.post(CHAT, &request).await.status, 200);
    served
        .metric_reaches(&format!("{DURATION}_count"), &[], 1.0)
        .await;
    let tokens = (0..14).map(|power| 4f64.powi(power));
    assert_eq!(
        bounds(&served, TOKENS, "\"input\"").await,
        tokens.chain([f64::INFINITY]).collect::<Vec<_>>()
    );
    let durations: Vec<f64> = (0..14).map(|power| 0.01 * 2f64.powi(power)).collect();
    let first = [
        0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 15.0,
        20.0, 30.0, 45.0, 60.0,
    ];
    let each = [
        0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5,
    ];
    for (name, known, least, most) in [
        (DURATION, &durations[..], 0.01, 1310.72),
        ("gen_ai_server_time_to_first_token_seconds", &first, 0.001, 600.0),
        ("gen_ai_server_time_per_output_token_seconds", &each, 0.0005, 10.0),
    ] {
        let found = bounds(&served, name, "").await;
        for bound in known {
            assert!(
                found.iter().any(|own| (own - bound).abs() < 1e-9),
                "{name} {bound}: {found:?}"
            );
        }
        let (first, last) = (found.first().copied(), found.iter().rev().nth(1).copied());
        assert_eq!((first, last), (Some(least), Some(most)), "{name}");
    }
}

/// What a provider says of a prompt that is too long, or that its filter refuses, has a type of its own; and what it says
/// in the middle of a stream that nobody understands.
#[tokio::test]
async fn complaints_about_prompts_have_types() {
    for (status, code, message, kind) in [
        (400, "context_length_exceeded", "too long", "context_length"),
        (
            413,
            "none",
            "Input is too long for requested model.",
            "context_length",
        ),
        (400, "content_filter", "refused", "content_filter"),
        (403, "none", "content management policy", "content_filter"),
        (400, "previous_response_not_found", "gone", "invalid_request"),
        (429, "none", "prompt is too long for this minute", "rate_limit"),
    ] {
        let error = json!({ "error": { "message": message, "code": code } });
        let upstream = Upstream::start(Reply::json(status, &error)).await;
        let served = serve([openai(&upstream)]).await;
        let request = fixture::openai::request(MODEL, false);
        assert_eq!(served.post(CHAT, &request).await.status, status);
        let label = format!("error_type=\"{kind}\"");
        served
            .metric_reaches(&format!("{DURATION}_count"), &[&label], 1.0)
            .await;
        let told = served.admin("/debug/requests").await.json();
        let id = told[0]["id"].as_str().expect("an id");
        assert_eq!(told[0]["error"], kind);
        let told = served.admin(&format!("/debug/requests/{id}")).await.json();
        assert_eq!(told["attempts"][0]["error"], kind);
    }
}

/// Once a stream has begun, what cannot be understood of it ends it under a name of its own.
#[tokio::test]
async fn a_stream_that_cannot_be_understood_has_a_type() {
    let start = |frames: Vec<String>| Upstream::start(Reply::sse(frames).end());
    let strange =
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":\"first\"}\n\n";
    let mut frames: Vec<String> = fixture::messages::frames("claude")
        .iter()
        .take(4)
        .map(ToString::to_string)
        .collect();
    frames.push(strange.to_owned());
    let upstream = start(frames).await;
    let served = serve([messages(&upstream)]).await;
    let answer = served.post(CHAT, &fixture::openai::request(MODEL, true)).await;
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains("cannot be read"), "{}", answer.text());
    served
        .metric_reaches(&format!("{DURATION}_count"), &["error_type=\"bad_reply\""], 1.0)
        .await;
    let labels = ["provider=\"anthropic\"", "side=\"reply\""];
    served
        .metric_reaches("tollgate_translation_errors_total", &labels, 1.0)
        .await;
    // Before that it is an attempt that failed, and counted once.
    let upstream = start(vec![strange.to_owned()]).await;
    let served = serve([messages(&upstream)]).await;
    let answer = served.post(CHAT, &fixture::openai::request(MODEL, true)).await;
    assert_eq!(answer.status, 502);
    served
        .metric_reaches("tollgate_attempts_total", &["outcome=\"bad_reply\""], 1.0)
        .await;
    served
        .metric_reaches("tollgate_translation_errors_total", &labels, 1.0)
        .await;
}

/// Failures are timed by their type, and have no tokens.
#[tokio::test]
async fn failures_are_counted_by_type() {
    for (status, kind) in [
        (400, "invalid_request"),
        (401, "authentication"),
        (403, "permission"),
        (404, "not_found"),
        (429, "rate_limit"),
        (500, "internal"),
        (503, "unavailable"),
        (504, "timeout"),
    ] {
        let error = json!({ "error": { "message": "no" }, "usage": { "prompt_tokens": 1 } });
        let upstream = Upstream::start(Reply::json(status, &error)).await;
        let served = serve([openai(&upstream)]).await;
        served.post(CHAT, &fixture::openai::request(MODEL, false)).await;
        let labels = [
            format!("error_type=\"{kind}\""),
            "gen_ai_response_model=\"unknown\"".to_owned(),
        ];
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        served
            .metric_reaches(&format!("{DURATION}_count"), &labels, 1.0)
            .await;
        assert_eq!(
            served.metric(&format!("{TOKENS}_count"), &[]).await,
            0.0,
            "{status}"
        );
    }
}
