//! Streams that go on beyond what is held for them, where the limit cuts them off.

use serde_json::{Value, json};
use testkit::{Client, Gate, Reply, Upstream, fixture};

use super::{Declared, of_user, quota, used};
use crate::fixture::{CHAT, MESSAGES, MODEL, openai};

/// More is held for so many tokens at a time.
const STEP: u64 = 256;

/// Returns a stream of `words` words, each a token.
fn long(words: usize) -> Reply {
    let mut frames = fixture::openai::frames("gpt");
    let word = json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt",
        "choices": [{ "index": 0, "delta": { "content": "word" }, "finish_reason": null }],
    });
    let word = format!("data: {word}\n\n");
    let told = frames.split_off(1);
    frames.extend(std::iter::repeat_n(word, words));
    frames.extend(told);
    Reply::sse(frames)
}

/// Returns a request that does not say how long its answer may be.
fn request() -> Value {
    fixture::openai::request(MODEL, true)
}

/// Asks for an answer of `words` words under a limit of 2,000 tokens in that mode; returns the answer's text and
/// what was used.
async fn check(mode: &str, path: &str, body: &Value, words: usize) -> (String, u64) {
    let upstream = Upstream::start(long(words)).await;
    let served = Declared::limit(of_user(2000))
        .held(mode)
        .serve([openai(&upstream)])
        .await;
    let headers = [("x-user-id", "alice")];
    let answer = testkit::client::post(served.address, path, &headers, body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let used = used(&served, "alice").await;
    if answer.text().contains("rate_limit") {
        let labels = ["default/policy/rule/0", "reason=\"cut\""];
        served
            .metric_reaches("tollgate_limited_total", &labels, 1.0)
            .await;
    }
    (answer.text(), used)
}

#[tokio::test]
async fn an_answer_ends_where_nothing_is_left() {
    let (text, used) = check("cut", CHAT, &request(), 5000).await;
    let end = text.trim_end().rsplit("data: ").next().expect("an event");
    let end: Value = serde_json::from_str(end).expect("an error");
    assert_eq!(end["error"]["type"], "rate_limit_error", "{end}");
    assert_eq!(end["error"]["code"], "rate_limit_exceeded", "{end}");
    assert!((2000 - 2 * STEP..=2000).contains(&used), "{used}");
}

#[tokio::test]
async fn the_end_is_told_in_the_clients_format() {
    let mut body = fixture::messages::request(MODEL, true);
    body["max_tokens"] = json!(10_000);
    let (text, used) = check("cut", MESSAGES, &body, 5000).await;
    let end = text.trim_end().rsplit("\n\n").next().expect("an event");
    assert!(end.starts_with("event: error\n"), "{end}");
    assert!(end.contains("rate_limit_error"), "{end}");
    assert!((2000 - 2 * STEP..=2000).contains(&used), "{used}");
}

#[tokio::test]
async fn an_answer_that_has_room_grows_beyond_its_estimate() {
    // 1,024 tokens are expected of an answer of unknown length.
    let (text, used) = check("cut", CHAT, &request(), 1500).await;
    assert!(!text.contains("rate_limit"), "{used}");
    assert_eq!(text.matches("\"word\"").count(), 1500);
}

#[tokio::test]
async fn without_that_mode_an_answer_is_told_whole() {
    let (text, _) = check("reserve", CHAT, &request(), 5000).await;
    assert_eq!(text.matches("\"word\"").count(), 5000);
}

/// Who says how long an answer may be has no more held than that, however early it is looked at.
#[tokio::test]
async fn no_more_is_held_than_an_answer_may_have() {
    let (begin, go_on) = (Gate::new(), Gate::new());
    let frames = fixture::openai::frames("gpt");
    let reply = Reply::stream()
        .frames(frames.iter().take(1))
        .wait(&begin)
        .frames(frames.iter().skip(1).take(2))
        .wait(&go_on)
        .frames(frames.iter().skip(3))
        .end();
    let upstream = Upstream::start(reply).await;
    let served = Declared::limit(of_user(2000))
        .held("cut")
        .serve([openai(&upstream)])
        .await;
    let mut client = Client::connect(served.address).await;
    let headers = [("x-user-id", "alice")];
    client
        .post(CHAT, &headers, &super::request(true))
        .await
        .expect("sent");
    upstream.received(1).await;
    let expected = super::held(&served).await;
    begin.open();
    client.head().await.expect("a head");
    for _ in 0..2 {
        client.frame().await.expect("an event");
    }
    assert_eq!(super::held(&served).await, expected);
    go_on.open();
    while client.frame().await.expect("an event").is_some() {}
    used(&served, "alice").await;
}

#[tokio::test]
async fn a_quota_cuts_off_too() {
    let upstream = Upstream::start(long(5000)).await;
    let declared = Declared {
        quotas: vec![(0, quota(2000))],
        ..Declared::default()
    };
    let served = declared.held("cut").serve([openai(&upstream)]).await;
    let answer = testkit::client::post(served.address, CHAT, &[], &request()).await;
    assert!(answer.text().contains("rate_limit_exceeded"));
    let used = used(&served, "backend-0").await;
    assert!((2000 - 2 * STEP..=2000).contains(&used), "{used}");
}

#[tokio::test]
async fn answers_at_the_same_time_share_what_is_left() {
    let upstream = Upstream::start(long(5000)).await;
    let served = Declared::limit(of_user(4000))
        .held("cut")
        .serve([openai(&upstream)])
        .await;
    let calls = (0..3).map(|_| async {
        let headers = [("x-user-id", "alice")];
        testkit::client::post(served.address, CHAT, &headers, &request()).await
    });
    let answers = super::join(calls.collect()).await;
    assert!(
        answers
            .iter()
            .all(|answer| answer.text().contains("rate_limit_exceeded"))
    );
    let used = used(&served, "alice").await;
    assert!((2000..=4000).contains(&used), "{used}");
}
