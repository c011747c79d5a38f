//! What an upstream's error is called in a span, by its status, in both vocabularies.

use serde_json::{Value, json};
use testkit::{Reply, Script, Upstream, client};

use crate::process::Gateway;

/// A status, and its names in the words of OpenInference and of OpenTelemetry.
const NAMES: &[(u16, &str, &str)] = &[
    (400, "BadRequestError", "400"),
    (401, "AuthenticationError", "401"),
    (403, "PermissionDeniedError", "403"),
    (404, "NotFoundError", "404"),
    (418, "Error", "418"),
    (429, "RateLimitError", "429"),
    (500, "InternalServerError", "500"),
    (502, "InternalServerError", "500"),
    (503, "InternalServerError", "500"),
    (529, "Error", "529"),
];

/// Returns the spans of one request for each status.
async fn spans(variables: &[(&str, &str)]) -> Vec<Value> {
    let upstream = Upstream::start(Script::answer(|request| {
        let status = request.json()["seed"].as_u64().unwrap_or_default();
        let status = u16::try_from(status).unwrap_or_default();
        Reply::json(status, &json!({ "error": { "message": "canary" } }))
    }))
    .await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spans");
    let base = format!("http://{}/v1", upstream.address());
    let own = [
        ("OTEL_TRACES_EXPORTER", "console"),
        ("OPENAI_API_KEY", "key"),
        ("OPENAI_BASE_URL", base.as_str()),
    ];
    let variables = [&own[..], variables].concat();
    let stdout = std::fs::File::create(&path).unwrap();
    let mut gateway = Gateway::start_to(stdout.into(), &["--access-log", "off"], &variables);
    for (status, ..) in NAMES {
        let messages = json!([{ "role": "user", "content": "Hello" }]);
        let request = json!({ "model": "gpt-5", "messages": messages, "seed": status });
        let answer = client::post(gateway.address, "/v1/chat/completions", &[], &request).await;
        assert_eq!(answer.status, *status, "{}", answer.text());
    }
    gateway.signal("TERM");
    assert_eq!(gateway.ended(), 0);
    let written = std::fs::read_to_string(&path).unwrap();
    let spans = written.lines().map(|line| serde_json::from_str(line).unwrap());
    let mut spans: Vec<Value> = spans.filter(|span: &Value| span["name"] != "attempt").collect();
    spans.sort_by_key(|span| span["start"].as_u64());
    assert_eq!(spans.len(), NAMES.len());
    spans
}

#[tokio::test]
async fn errors_are_called_by_their_status() {
    for (span, (status, name, _)) in spans(&[]).await.iter().zip(NAMES) {
        let exception = &span["events"][0];
        assert_eq!(exception["name"], "exception", "{span:#}");
        assert_eq!(exception["attributes"]["exception.type"], *name, "{status}");
        let message = &exception["attributes"]["exception.message"];
        assert_eq!(span["status"], json!({ "code": "Error", "description": message }));
        let message = message.as_str().unwrap();
        assert!(
            message.starts_with(&format!("Error code: {status} - {{")),
            "{message}"
        );
    }
}

/// What was said is in no status where content is not told.
#[tokio::test]
async fn errors_have_types_in_the_words_of_opentelemetry() {
    let variables = [("AI_GATEWAY_TRACING_SEMCONV", "gen_ai")];
    for (span, (status, _, kind)) in spans(&variables).await.iter().zip(NAMES) {
        assert_eq!(span["attributes"]["error.type"], *kind, "{status}");
        let description = format!("Error code: {status}");
        assert_eq!(
            span["status"],
            json!({ "code": "Error", "description": description })
        );
        assert_eq!(span["events"], json!([]));
    }
}
