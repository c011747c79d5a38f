//! Different formats on the two sides.

use serde_json::json;
use testkit::{Provider, fixture};

use crate::fixture::{CHAT, KEY, MESSAGES, MODEL, serve, to};

#[tokio::test]
async fn an_openai_client_is_served_by_a_messages_upstream() {
    let provider = Provider::Messages.start(KEY).await;
    let served = serve([to(&llm::provider::Anthropic, provider.address())]).await;
    let answer = served.post(CHAT, &fixture::openai::request(MODEL, false)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["object"], "chat.completion");
    assert!(answer.json()["choices"][0]["message"]["content"].is_string());
    served
        .metric_reaches(
            "gen_ai_client_token_usage_count",
            &["gen_ai_token_type=\"input\""],
            1.0,
        )
        .await;
}

#[tokio::test]
async fn a_messages_client_is_served_by_an_openai_upstream() {
    let provider = Provider::OpenAi.start(KEY).await;
    let served = serve([to(&llm::provider::COMPATIBLE, provider.address())]).await;
    let answer = served
        .post(MESSAGES, &fixture::messages::request(MODEL, false))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["type"], "message");
    assert_eq!(answer.json()["content"][0]["type"], "text");
}

#[tokio::test]
async fn streams_are_translated() {
    let provider = Provider::Messages.start(KEY).await;
    let served = serve([to(&llm::provider::Anthropic, provider.address())]).await;
    let answer = served.post(CHAT, &fixture::openai::request(MODEL, true)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), "text/event-stream");
    assert_eq!(answer.frames().last().map(String::as_str), Some("data: [DONE]"));

    let provider = Provider::OpenAi.start(KEY).await;
    let served = serve([to(&llm::provider::COMPATIBLE, provider.address())]).await;
    let answer = served
        .post(MESSAGES, &fixture::messages::request(MODEL, true))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let last = answer.frames().last().cloned().unwrap_or_default();
    assert!(last.starts_with("event: message_stop"), "{last}");
}

#[tokio::test]
async fn what_is_lost_is_named() {
    let provider = Provider::Messages.start(KEY).await;
    let served = serve([to(&llm::provider::Anthropic, provider.address())]).await;
    let mut request = fixture::openai::request(MODEL, false);
    request["frequency_penalty"] = json!(0.5);
    let answer = served.post(CHAT, &request).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.header("x-tollgate-loss").contains("frequency_penalty"));
    let labels = ["field=\"frequency_penalty\"", "severity=\"advisory\""];
    served.metric_reaches("tollgate_losses_total", &labels, 1.0).await;
}
