//! Sound: bytes of the upstream's own type, handed on while they come.

use serde_json::{Value, json};
use testkit::{Client, Gate, Reply, Upstream};

use crate::fixture::{MODEL, openai, serve};

const SPEECH: &str = "/v1/audio/speech";

fn request() -> Value {
    json!({ "model": MODEL, "input": "say it", "voice": "alloy" })
}

fn sound() -> Reply {
    Reply::chunked(200, &[("content-type", "audio/mpeg"), ("x-request-id", "up-1")])
}

#[tokio::test]
async fn sound_is_handed_on_as_it_comes() {
    let gate = Gate::new();
    let begun = sound().frame(b"ID3\x00").wait(&gate).frame(b"\xff\xfb\x90");
    let upstream = Upstream::start(begun.end()).await;
    let served = serve([openai(&upstream)]).await;
    let mut client = Client::connect(served.address).await;
    client.post(SPEECH, &[], &request()).await.expect("sent");
    let head = client.head().await.expect("a head");
    assert_eq!(head.status, 200);
    assert_eq!(head.headers["content-type"], "audio/mpeg");
    assert_eq!(head.headers["x-upstream-request-id"], "up-1");
    // The upstream has not sent the rest.
    assert_eq!(
        client.piece().await.expect("a piece").as_deref(),
        Some(&b"ID3\x00"[..])
    );
    gate.open();
    assert_eq!(
        client.piece().await.expect("a piece").as_deref(),
        Some(&b"\xff\xfb\x90"[..])
    );
    assert_eq!(client.piece().await.expect("the end"), None);
    let labels = ["operation=\"speech\"", "outcome=\"complete\""];
    served
        .metric_reaches("tollgate_requests_total", &labels, 1.0)
        .await;
}

#[tokio::test]
async fn a_client_that_goes_away_ends_the_upstreams_speech() {
    let upstream = Upstream::start(sound().frame(b"ID3").stall()).await;
    let served = serve([openai(&upstream)]).await;
    let mut client = Client::connect(served.address).await;
    client.post(SPEECH, &[], &request()).await.expect("sent");
    client.head().await.expect("a head");
    client.piece().await.expect("a piece");
    client.reset();
    upstream.closed().await;
    let labels = ["outcome=\"dropped\"", "status=\"200\""];
    served
        .metric_reaches("tollgate_requests_total", &labels, 1.0)
        .await;
}

#[tokio::test]
async fn speech_that_breaks_off_is_not_taken_for_whole() {
    let gate = Gate::new();
    let upstream = Upstream::start(sound().frame(b"ID3").wait(&gate).reset()).await;
    let served = serve([openai(&upstream)]).await;
    let mut client = Client::connect(served.address).await;
    client.post(SPEECH, &[], &request()).await.expect("sent");
    client.head().await.expect("a head");
    assert_eq!(
        client.piece().await.expect("a piece").as_deref(),
        Some(&b"ID3"[..])
    );
    gate.open();
    client.piece().await.expect_err("no end of the body");
    let labels = ["operation=\"speech\"", "outcome=\"broken\""];
    served
        .metric_reaches("tollgate_requests_total", &labels, 1.0)
        .await;
}

#[tokio::test]
async fn what_breaks_before_the_first_sound_goes_elsewhere() {
    let silent = Upstream::start(sound().reset()).await;
    let failing = Upstream::start(Reply::json(500, &json!({ "error": { "message": "no" } }))).await;
    let upstream = Upstream::start(sound().frame(b"ID3").end()).await;
    for first in [&silent, &failing] {
        let served = serve([openai(first), openai(&upstream).after()]).await;
        let answer = served.post(SPEECH, &request()).await;
        assert_eq!((answer.status, answer.body.as_slice()), (200, &b"ID3"[..]));
        assert!(answer.whole);
    }
}

#[tokio::test]
async fn speech_is_streamed_as_events_where_that_is_asked_for() {
    let frames = [
        "data: {\"type\":\"speech.audio.delta\",\"audio\":\"AA\"}",
        "data: {\"type\":\"speech.audio.done\",\"usage\":{\"input_tokens\":3,\"output_tokens\":4}}",
    ];
    let upstream = Upstream::start(Reply::sse(frames.map(|frame| format!("{frame}\n\n")))).await;
    let served = serve([openai(&upstream)]).await;
    let mut request = request();
    request["stream_format"] = json!("sse");
    let answer = served.post(SPEECH, &request).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), "text/event-stream");
    assert_eq!(answer.frames(), frames);
    let labels = ["gen_ai_operation_name=\"speech\"", "gen_ai_token_type=\"output\""];
    served
        .metric_reaches("gen_ai_client_token_usage_sum", &labels, 4.0)
        .await;
}
