//! The gateway's own errors, in the dialect of the path.

use serde_json::Value;
use testkit::{Client, Reply, Upstream, fixture};

use crate::fixture::{CHAT, MESSAGES, openai, serve};

async fn check(method: &str, path: &str, body: &str, status: u16, expected: &[&str]) {
    let upstream = Upstream::start(Reply::json(200, &fixture::openai::response("gpt"))).await;
    let served = serve([openai(&upstream)]).await;
    let mut client = Client::connect(served.address).await;
    let length = body.len();
    let request =
        format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n{body}");
    client.send(request).await.expect("sent");
    let answer = client.answer().await.expect("a reply");
    assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
    assert_eq!(answer.header("content-type"), "application/json");
    assert!(!answer.header("x-request-id").is_empty());
    let document = answer.json();
    let is_messages = path.starts_with("/anthropic");
    assert_eq!(document["type"], "error", "{document}");
    assert_eq!(document.get("request_id").is_some(), is_messages, "{document}");
    if is_messages {
        assert_eq!(answer.header("request-id"), answer.header("x-request-id"));
    } else {
        assert!(document["error"]["code"].is_string(), "{document}");
    }
    let message = document["error"]["message"].as_str().unwrap_or_default();
    for word in expected {
        assert!(message.contains(word), "{word}: {document}");
    }
    if status == 405 {
        assert_eq!(answer.header("allow"), "POST");
    }
}

#[tokio::test]
async fn errors_are_said_in_the_dialect_of_the_path() {
    for path in [CHAT, MESSAGES] {
        check("POST", path, "{\"model\"", 400, &["line 1"]).await;
        check("POST", path, "{\"messages\":[]}", 400, &["model"]).await;
        check("POST", path, "{\"model\":7}", 400, &["model"]).await;
        check("POST", path, "{\"model\":\"m\",\"stream\":1}", 400, &["stream"]).await;
        check("POST", path, "", 400, &["body"]).await;
        check(
            "POST",
            path,
            "{\"model\":\"n\"}",
            404,
            &["\"n\"", "did you mean m?"],
        )
        .await;
        check(
            "POST",
            path,
            "{\"model\":\"a-quite-different-one\"}",
            404,
            &["is not served here"],
        )
        .await;
        check("GET", path, "", 405, &["POST"]).await;
    }
    check(
        "POST",
        "/v1/chat/completion",
        "{}",
        404,
        &["/v1/chat/completions"],
    )
    .await;
    check(
        "POST",
        "/anthropic/v1/message",
        "{}",
        404,
        &["/anthropic/v1/messages"],
    )
    .await;
    check("GET", "/", "", 404, &[]).await;
}

#[tokio::test]
async fn a_connection_outlives_an_error() {
    let upstream = Upstream::start(Reply::json(200, &fixture::openai::response("gpt"))).await;
    let served = serve([openai(&upstream)]).await;
    let mut client = Client::connect(served.address).await;
    client.post(CHAT, &[], &Value::Null).await.expect("sent");
    assert_eq!(client.answer().await.expect("a reply").status, 400);
    client
        .post(CHAT, &[], &fixture::openai::request("m", false))
        .await
        .expect("sent");
    assert_eq!(client.answer().await.expect("a reply").status, 200);
}
