//! The played providers say what follows from the request, and take back what they said.

use serde_json::{Value, json};
use testkit::{Provider, client, fixture};

const KEY: &str = "sk-test";

#[tokio::test]
async fn a_conversation_with_tools_comes_round() {
    let openai = Provider::OpenAi.start(KEY).await;
    let tool = json!({"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}});
    let mut body = fixture::openai::request("gpt-4o", false);
    body["tools"] = json!([tool]);
    body["messages"] = json!([{"role": "user", "content": "What is the weather in Paris and London?"}]);
    let authorization = format!("Bearer {KEY}");
    let headers = [("authorization", authorization.as_str())];
    let first = client::post(openai.address(), "/v1/chat/completions", &headers, &body)
        .await
        .json();
    let message = first["choices"][0]["message"].clone();
    assert_eq!(first["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(message["tool_calls"].as_array().map(Vec::len), Some(2));
    let ids = [
        message["tool_calls"][0]["id"].clone(),
        message["tool_calls"][1]["id"].clone(),
    ];
    let turns = body["messages"].as_array_mut().expect("messages are an array");
    turns.push(message);
    for (id, said) in ids.iter().zip(["sun", "rain"]) {
        turns.push(json!({"role": "tool", "tool_call_id": id, "content": said}));
    }
    let second = client::post(openai.address(), "/v1/chat/completions", &headers, &body)
        .await
        .json();
    assert_eq!(
        second["choices"][0]["message"]["content"],
        "The tools say: sun; rain"
    );
}

#[tokio::test]
async fn thinking_is_taken_back_with_its_signature_only() {
    let messages = Provider::Messages.start(KEY).await;
    let headers = [("x-api-key", KEY), ("anthropic-version", "2023-06-01")];
    let mut body = fixture::messages::request("claude-sonnet-4-5", false);
    body["max_tokens"] = json!(4096);
    body["thinking"] = json!({"type": "enabled", "budget_tokens": 1024});
    let first = client::post(messages.address(), "/v1/messages", &headers, &body)
        .await
        .json();
    assert_eq!(first["content"][0]["type"], "thinking");
    let turns = body["messages"].as_array_mut().expect("messages are an array");
    turns.push(json!({"role": "assistant", "content": first["content"]}));
    turns.push(json!({"role": "user", "content": "Go on."}));
    let second = client::post(messages.address(), "/v1/messages", &headers, &body).await;
    assert_eq!(second.status, 200, "{}", second.text());
    body["messages"][1]["content"][0]["signature"] = json!("forged");
    let third = client::post(messages.address(), "/v1/messages", &headers, &body).await;
    assert_eq!(third.status, 400);
}

#[tokio::test]
async fn a_stream_says_what_the_plain_reply_says() {
    let messages = Provider::Messages.start(KEY).await;
    let headers = [("x-api-key", KEY), ("anthropic-version", "2023-06-01")];
    let plain = fixture::messages::request("claude-sonnet-4-5", false);
    let plain = client::post(messages.address(), "/v1/messages", &headers, &plain)
        .await
        .json();
    let streamed = fixture::messages::request("claude-sonnet-4-5", true);
    let streamed = client::post(messages.address(), "/v1/messages", &headers, &streamed).await;
    let text: String = streamed
        .frames()
        .iter()
        .filter_map(|frame| serde_json::from_str::<Value>(frame.split_once("data: ")?.1).ok())
        .filter_map(|data| Some(data.pointer("/delta/text")?.as_str()?.to_owned()))
        .collect();
    assert_eq!(plain["content"][0]["text"], text);
}

#[tokio::test]
async fn the_wrong_credential_is_refused() {
    let openai = Provider::OpenAi.start(KEY).await;
    let body = fixture::openai::request("gpt-4o", false);
    for headers in [
        [("authorization", "Bearer other"), ("x-a", "b")],
        [("authorization", "Bearer sk-test"), ("x-api-key", "other")],
    ] {
        let refused = client::post(openai.address(), "/v1/chat/completions", &headers, &body).await;
        assert!(matches!(refused.status, 400 | 401), "{}", refused.text());
    }
}
