//! What the clouds' stand-ins refuse of a request's head.

use serde_json::json;
use testkit::{Cloud, Upstream, client};

const KEY: &str = "sk-test";

#[tokio::test]
async fn azure_wants_a_deployment_a_version_and_its_own_key() {
    let azure = Cloud::Azure.start(KEY).await;
    let chat = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": "a"}]});
    let check = async |target: &str, header: (&str, &str), expected: u16| {
        check(&azure, target, &[header], &chat, expected).await;
    };
    let path = "/openai/deployments/gpt-4o/chat/completions";
    let dated = format!("{path}?api-version=2024-10-21");
    let own = ("api-key", KEY);
    check(&dated, own, 200).await;
    check(path, own, 404).await;
    check(&format!("{path}?api-version="), own, 404).await;
    check(&format!("{path}?api-version=2019-01-01"), own, 404).await;
    check(&format!("{dated}&api-version=2024-10-21"), own, 404).await;
    check("/v1/chat/completions?api-version=2024-10-21", own, 404).await;
    check(&dated, ("api-key", "other"), 401).await;
    check(&dated, ("authorization", "Bearer sk-test"), 401).await;
    // The version is of before there were Responses, and then it is no body of them.
    check("/openai/responses?api-version=2024-10-21", own, 400).await;
    check("/openai/responses?api-version=2025-04-01-preview", own, 400).await;
}

#[tokio::test]
async fn google_wants_a_project_a_location_and_a_token() {
    let vertex = Cloud::Vertex.start(KEY).await;
    let claude = Cloud::VertexClaude.start(KEY).await;
    let contents = json!({"contents": [{"role": "user", "parts": [{"text": "a"}]}]});
    let messages = json!({
        "anthropic_version": "vertex-2023-10-16", "max_tokens": 9,
        "messages": [{"role": "user", "content": "a"}],
    });
    let token = format!("Bearer {KEY}");
    let own = [("authorization", token.as_str())];
    let placed = |place: &str, model: &str| format!("{place}/publishers/{model}");
    for (place, gemini, claudes) in [
        ("/v1/projects/p/locations/l", 200, 200),
        ("/v1beta1/projects/p/locations/l", 200, 200),
        ("/v1", 200, 404),
        ("", 404, 404),
        ("/v1/projects/p", 404, 404),
        ("/v1/projects//locations/l", 404, 404),
        ("/v2/projects/p/locations/l", 404, 404),
    ] {
        let target = placed(place, "google/models/gemini-2.5-pro:generateContent");
        check(&vertex, &target, &own, &contents, gemini).await;
        let target = placed(place, "anthropic/models/claude-sonnet-4-5:rawPredict");
        check(&claude, &target, &own, &messages, claudes).await;
    }
    let place = "/v1/projects/p/locations/l";
    let gemini = placed(place, "google/models/gemini-2.5-pro:generateContent");
    check(&vertex, &gemini, &[("x-goog-api-key", KEY)], &contents, 401).await;
    check(&vertex, &gemini, &[("authorization", KEY)], &contents, 401).await;
    // An array of answers would be no stream of events.
    let array = placed(place, "google/models/gemini-2.5-pro:streamGenerateContent");
    check(&vertex, &array, &own, &contents, 404).await;
    check(
        &vertex,
        &gemini,
        &own,
        &json!({"contents": [], "mystery": 1}),
        400,
    )
    .await;
    let raw = placed(place, "anthropic/models/claude-sonnet-4-5:rawPredict");
    let named =
        json!({"anthropic_version": "vertex-2023-10-16", "model": "m", "max_tokens": 9, "messages": []});
    check(&claude, &raw, &own, &named, 400).await;
    check(
        &claude,
        &raw,
        &own,
        &json!({"max_tokens": 9, "messages": []}),
        400,
    )
    .await;
}

async fn check(
    cloud: &Upstream,
    target: &str,
    headers: &[(&str, &str)],
    body: &serde_json::Value,
    expected: u16,
) {
    let answer = client::post(cloud.address(), target, headers, body).await;
    assert_eq!(answer.status, expected, "{target} {headers:?}: {}", answer.text());
}
