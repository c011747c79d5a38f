//! What is refused before or while it is handed on.

use gateway::Options;
use serde_json::Value;
use testkit::{Client, Reply, Upstream, client::Answer};

use super::{
    EDITS,
    Field::{File, Text},
    TRANSCRIPTIONS, form, head, post, recording,
};
use crate::fixture::{CHAT, MODEL, Served, messages, openai, options, serve, serve_with};

fn message(answer: &Answer) -> String {
    let document = answer.json();
    assert_eq!(answer.header("content-type"), "application/json");
    assert!(document["error"]["type"].is_string(), "{document}");
    document["error"]["message"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

async fn ask(served: &Served, path: &str, content_type: &str, body: &[u8]) -> Answer {
    let mut client = Client::connect(served.address).await;
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: a\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    client.send(head).await.expect("sent");
    client.send(body).await.expect("sent");
    client.answer().await.expect("a reply")
}

#[tokio::test]
async fn what_is_no_form_or_not_whole_is_told_so() {
    let upstream = Upstream::start(Reply::json(200, &Value::Null)).await;
    let served = serve([openai(&upstream)]).await;
    let kind = "multipart/form-data; boundary=b";
    let field = |name: &str, value: &str| {
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let model = field("model", MODEL);
    for (path, kind, body, words) in [
        (
            TRANSCRIPTIONS,
            "application/json",
            "{}".to_owned(),
            "must be multipart/form-data",
        ),
        (
            TRANSCRIPTIONS,
            "multipart/form-data",
            model.clone(),
            "without a boundary",
        ),
        (
            TRANSCRIPTIONS,
            kind,
            "{\"model\":\"m\"}".to_owned(),
            "ends before its last boundary",
        ),
        (
            TRANSCRIPTIONS,
            kind,
            String::new(),
            "ends before its last boundary",
        ),
        (
            TRANSCRIPTIONS,
            kind,
            field("file", "a") + "--b--",
            "model: you must name a model",
        ),
        (
            TRANSCRIPTIONS,
            kind,
            field("model", "") + "--b--",
            "model: you must name a model",
        ),
        (
            TRANSCRIPTIONS,
            kind,
            model.clone() + "--b--",
            "file: this field is required",
        ),
        (
            TRANSCRIPTIONS,
            kind,
            model.clone() + &model + "--b--",
            "model: it is given twice",
        ),
        (
            TRANSCRIPTIONS,
            kind,
            model.clone() + "--bx",
            "a line begins with the boundary",
        ),
        (
            TRANSCRIPTIONS,
            kind,
            model.clone() + &field("file", "a"),
            "ends before its last boundary",
        ),
        (
            EDITS,
            kind,
            model.clone() + &field("image", "a") + "--b--",
            "prompt: this field is required",
        ),
        (
            CHAT,
            kind,
            model.clone() + "--b--",
            "a multipart body is not supported",
        ),
    ] {
        let answer = ask(&served, path, kind, body.as_bytes()).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.text());
        assert!(message(&answer).contains(words), "{words}: {}", answer.text());
    }
    assert_eq!(upstream.requests().len(), 0, "nothing of it was whole");
    served
        .metric_reaches("tollgate_requests_total", &["status=\"400\""], 12.0)
        .await;
}

#[tokio::test]
async fn models_and_providers_are_checked() {
    let upstream = Upstream::start(Reply::json(200, &Value::Null)).await;
    let served = serve([messages(&upstream)]).await;
    let unknown = form(&[Text("model", "n"), File("file", &recording(2_000_000))]);
    let answer = post(served.address, TRANSCRIPTIONS, &unknown).await;
    assert_eq!(answer.status, 404);
    assert!(message(&answer).contains("did you mean m?"));
    let known = form(&[Text("model", MODEL), File("file", b"RIFF")]);
    let answer = post(served.address, TRANSCRIPTIONS, &known).await;
    assert_eq!(answer.status, 422);
    assert_eq!(
        message(&answer),
        "anthropic does not serve /v1/audio/transcriptions"
    );
    let answer = ask(
        &served,
        TRANSCRIPTIONS,
        "multipart/form-data; boundary=b\r\ncontent-encoding: gzip",
        b"x",
    )
    .await;
    assert_eq!(answer.status, 415);
}

#[tokio::test]
async fn sizes_are_bounded() {
    let upstream = Upstream::start(Reply::json(200, &Value::Null)).await;
    let small = Options {
        max_body: 100_000,
        max_upload: 1_000_000,
        ..options()
    };
    let served = serve_with(small, Default::default(), [openai(&upstream)]).await;
    let late = form(&[File("file", &recording(200_000)), Text("model", MODEL)]);
    let answer = post(served.address, TRANSCRIPTIONS, &late).await;
    assert_eq!(answer.status, 413);
    assert!(
        message(&answer).contains("name it before the file"),
        "{}",
        answer.text()
    );

    let large = form(&[Text("model", MODEL), File("file", &recording(3_000_000))]);
    let answer = post(served.address, TRANSCRIPTIONS, &large).await;
    assert_eq!(answer.status, 413);
    assert_eq!(message(&answer), "the request body exceeds 1000000 bytes");

    let mut client = Client::connect(served.address).await;
    client.send(head(TRANSCRIPTIONS, None)).await.expect("sent");
    client.send(format!("{:x}\r\n", large.len())).await.expect("sent");
    client.send(&large).await.expect("sent");
    client.send("\r\n0\r\n\r\n").await.expect("sent");
    let answer = client.answer().await.expect("a reply");
    assert_eq!(answer.status, 413);
    assert_eq!(
        upstream.requests().len(),
        0,
        "the upstream was left alone or cut off"
    );
}

#[tokio::test]
async fn the_memory_for_what_must_be_held_is_bounded() {
    let upstream = Upstream::start(Reply::json(200, &Value::Null)).await;
    let small = Options {
        body_memory: 10_000,
        ..options()
    };
    let served = serve_with(small, Default::default(), [openai(&upstream)]).await;
    let late = form(&[File("file", &recording(200_000)), Text("model", MODEL)]);
    let answer = post(served.address, TRANSCRIPTIONS, &late).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, "1"));
}
