//! The end: what is being answered finishes, what does not finish is told so.

use std::time::Duration;

use gateway::Options;
use testkit::{Client, Gate, Reply, Upstream, fixture};
use tokio::net::TcpStream;

use crate::fixture::{CHAT, MODEL, openai, options, serve, serve_with};

#[tokio::test]
async fn a_request_finishes_while_the_gateway_drains() {
    let gate = Gate::new();
    let reply = Reply::new().wait(&gate);
    let body = fixture::openai::response("gpt").to_string();
    let length = body.len().to_string();
    let headers = [
        ("content-type", "application/json"),
        ("content-length", length.as_str()),
    ];
    let upstream = Upstream::start(reply.head(200, &headers).raw(body)).await;
    let patient = Options {
        drain: Duration::from_secs(20),
        ..options()
    };
    let served = serve_with(patient, Default::default(), [openai(&upstream)]).await;
    let mut client = Client::connect(served.address).await;
    client
        .post(CHAT, &[], &fixture::openai::request(MODEL, false))
        .await
        .expect("sent");
    upstream.received(1).await;
    let answered = async {
        while TcpStream::connect(served.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        assert_eq!(served.admin("/ready").await.status, 503);
        gate.open();
        client.answer().await.expect("a reply").status
    };
    let (status, ()) = tokio::join!(answered, served.gateway.drain());
    assert_eq!(status, 200);
}

#[tokio::test]
async fn a_stream_that_does_not_finish_ends_with_an_error_event() {
    let begun = Reply::stream().frames(fixture::openai::frames("gpt").into_iter().take(3));
    let upstream = Upstream::start(begun.stall()).await;
    let served = serve([openai(&upstream)]).await;
    let mut client = Client::connect(served.address).await;
    client
        .post(CHAT, &[], &fixture::openai::request(MODEL, true))
        .await
        .expect("sent");
    client.head().await.expect("a head");
    let rest = async {
        let mut last = None;
        while let Some(frame) = client.frame().await.expect("an event") {
            last = Some(frame);
        }
        last.unwrap_or_default()
    };
    let (last, ()) = tokio::join!(rest, served.gateway.drain());
    assert!(last.contains("\"error\""), "{last}");
    upstream.closed().await;
}

#[tokio::test]
async fn a_request_that_is_not_answered_in_time_is_told_so() {
    let upstream = Upstream::start(Reply::new().stall()).await;
    let served = serve([openai(&upstream)]).await;
    let mut client = Client::connect(served.address).await;
    client
        .post(CHAT, &[], &fixture::openai::request(MODEL, false))
        .await
        .expect("sent");
    upstream.received(1).await;
    let (answer, ()) = tokio::join!(client.answer(), served.gateway.drain());
    let answer = answer.expect("a reply");
    assert_eq!(answer.status, 503);
    assert!(answer.text().contains("shutting down"), "{}", answer.text());
    upstream.closed().await;
}

#[tokio::test]
async fn an_idle_connection_does_not_hold_up_the_end() {
    let upstream = Upstream::start(Reply::json(200, &fixture::openai::response("gpt"))).await;
    let patient = Options {
        drain: Duration::from_secs(3600),
        ..options()
    };
    let served = serve_with(patient, Default::default(), [openai(&upstream)]).await;
    let mut client = Client::connect(served.address).await;
    client
        .post(CHAT, &[], &fixture::openai::request(MODEL, false))
        .await
        .expect("sent");
    client.answer().await.expect("a reply");
    served.gateway.drain().await;
}
