//! Sizes: what is refused, and that what is large but allowed goes through.

use gateway::Options;
use serde_json::json;
use testkit::{Client, Reply, Upstream, fixture};

use crate::fixture::{CHAT, MODEL, openai, options, serve, serve_with};

const LIMIT: usize = 1000;

async fn check(head: &str, body: &str, status: u16) {
    let upstream = Upstream::start(Reply::json(200, &fixture::openai::response("gpt"))).await;
    let small = Options {
        max_body: LIMIT,
        ..options()
    };
    let served = serve_with(small, Default::default(), [openai(&upstream)]).await;
    let mut client = Client::connect(served.address).await;
    let request = format!("POST {CHAT} HTTP/1.1\r\nhost: localhost\r\n{head}\r\n\r\n{body}");
    client.send(request).await.expect("sent");
    let answer = client.answer().await.expect("a reply");
    assert_eq!(answer.status, status, "{head}: {}", answer.text());
    assert!(answer.json()["error"]["message"].is_string(), "{}", answer.text());
    assert_eq!(upstream.requests().len(), 0);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    // Announced by a client that waits to be told to go on: refused without waiting for it.
    check("expect: 100-continue\r\ncontent-length: 1001", "", 413).await;
    // A client that listens only once it has sent everything gets the answer, not a reset.
    let large = "x".repeat(20_000_000);
    check("content-length: 20000000", &large, 413).await;
    let chunk = format!("{:x}\r\n{}\r\n0\r\n\r\n", 1001, "x".repeat(1001));
    check("transfer-encoding: chunked", &chunk, 413).await;
}

#[tokio::test]
async fn bodies_that_cannot_be_read_are_refused() {
    check("content-length: 0", "", 400).await;
    check("content-length: 1", "{", 400).await;
    check("content-length: 2", "[]", 400).await;
    check("content-length: 2", "{}", 400).await;
    check("content-encoding: gzip\r\ncontent-length: 2", "{}", 400).await;
    check("content-encoding: gzip, gzip\r\ncontent-length: 2", "{}", 415).await;
    check("content-encoding: compress\r\ncontent-length: 2", "{}", 415).await;
}

#[tokio::test]
async fn the_memory_for_bodies_is_bounded() {
    let upstream = Upstream::start(Reply::json(200, &fixture::openai::response("gpt"))).await;
    let small = Options {
        body_memory: 10,
        ..options()
    };
    let served = serve_with(small, Default::default(), [openai(&upstream)]).await;
    let answer = served.post(CHAT, &fixture::openai::request(MODEL, false)).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, "1"));
}

#[tokio::test]
async fn a_large_prompt_goes_through_and_falls_back() {
    let broken = Upstream::start(Reply::json(500, &json!({}))).await;
    let good = Upstream::start(Reply::json(200, &fixture::openai::response("gpt"))).await;
    let served = serve([openai(&broken), openai(&good).after()]).await;
    let mut request = fixture::openai::request(MODEL, false);
    request["messages"][0]["content"] = json!("x".repeat(10_000_000));
    let answer = served.post(CHAT, &request).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(good.requests()[0].body, broken.requests()[0].body);
    assert_eq!(good.requests()[0].json(), request);
}
