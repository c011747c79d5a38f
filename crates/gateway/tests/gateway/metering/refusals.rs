//! What clients are told whose limit is used up: a 429 in their own words, and when there is room again.

use serde_json::{Value, json};
use testkit::{Reply, Upstream, client::Answer, fixture};

use super::Declared;
use crate::fixture::{CHAT, MESSAGES, MODEL, Served, openai};

/// Asks where nothing is left, and checks what is told in headers.
async fn refused(served: &Served, path: &str, body: &Value) -> Answer {
    let answer = served.post(path, body).await;
    assert_eq!(answer.status, 429, "{path}: {}", answer.text());
    let header = |name: &str| answer.header(name);
    assert_eq!(header("content-type"), "application/json", "{path}");
    assert_eq!(header("x-ratelimit-limit"), "0, 0;w=3600", "{path}");
    assert_eq!(header("x-ratelimit-remaining"), "0", "{path}");
    let reset: u64 = header("x-ratelimit-reset").parse().expect("seconds");
    let wait: u64 = header("retry-after").parse().expect("seconds");
    assert!(
        (1..=3600).contains(&reset) && wait.abs_diff(reset) <= 1,
        "{path}: {reset} {wait}"
    );
    answer
}

#[tokio::test]
async fn every_client_is_refused_in_its_own_words() {
    let upstream = Upstream::start(Reply::new()).await;
    let rules = json!([{ "limit": { "requests": 0, "unit": "Hour" } }]);
    let served = Declared::limit(rules).serve([openai(&upstream)]).await;
    let says = "the limit is used up: try again in ";
    for stream in [false, true] {
        let chat = fixture::openai::request(MODEL, stream);
        for (path, body) in [
            (CHAT, chat.clone()),
            (
                "/v1/responses",
                json!({ "model": MODEL, "input": "hi", "stream": stream }),
            ),
            (
                "/v1/completions",
                json!({ "model": MODEL, "prompt": "hi", "stream": stream }),
            ),
            ("/v1/embeddings", json!({ "model": MODEL, "input": "hi" })),
            (
                "/v1/audio/speech",
                json!({ "model": MODEL, "input": "hi", "voice": "alloy" }),
            ),
        ] {
            let told = refused(&served, path, &body).await.json();
            let error = &told["error"];
            assert_eq!(error["type"], "rate_limit_error", "{path}: {told}");
            assert_eq!(error["code"], "rate_limit_exceeded", "{path}: {told}");
            assert!(
                error["message"]
                    .as_str()
                    .is_some_and(|message| message.starts_with(says))
            );
        }
        let messages = fixture::messages::request(MODEL, stream);
        for path in [MESSAGES, "/anthropic/v1/messages/count_tokens"] {
            let answer = refused(&served, path, &messages).await;
            let told = answer.json();
            assert_eq!(
                (&told["type"], &told["error"]["type"]),
                (&json!("error"), &json!("rate_limit_error"))
            );
            assert_eq!(answer.header("request-id"), answer.header("x-request-id"));
        }
    }
    let contents = json!({ "contents": [{ "role": "user", "parts": [{ "text": "hi" }] }] });
    for method in ["generateContent", "streamGenerateContent?alt=sse", "countTokens"] {
        let path = format!("/v1beta/models/{MODEL}:{method}");
        let told = refused(&served, &path, &contents).await.json();
        let error = &told["error"];
        assert_eq!(
            (&error["code"], &error["status"]),
            (&json!(429), &json!("RESOURCE_EXHAUSTED")),
            "{told}"
        );
    }
    let documents = json!({ "model": MODEL, "query": "q", "documents": ["a"] });
    let told = refused(&served, "/cohere/v2/rerank", &documents).await.json();
    assert!(
        told["message"]
            .as_str()
            .is_some_and(|message| message.starts_with(says)),
        "{told}"
    );
    assert_eq!(upstream.requests().len(), 0);
    // Whoever reads records sees which route it was.
    let labels = ["route=\"default/route\"", "status=\"429\""];
    served
        .metric_reaches("tollgate_requests_total", &labels, 18.0)
        .await;
}
