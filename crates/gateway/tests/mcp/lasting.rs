//! Connections on which a client listens: what they carry, and what comes after.

use std::time::Duration;

use gateway::Options;
use serde_json::{Value, json};
use testkit::{Client, Reply};

use crate::{
    resume::polled,
    served::{PATH, Served, data, id, notification, open, plain, request, serve, serve_with, snapshot},
    server::{event, start},
};

/// A session with a server that answers later, and the place from which on it does.
async fn later() -> (Served, String, testkit::Upstream) {
    let upstream = polled().await;
    let mut served = serve(snapshot("", &[("polled", upstream.address(), "")])).await;
    served.open_with("2025-11-25").await;
    let begun = served
        .send(&request(5, "tools/call", &json!({ "name": "polled__x" })))
        .await;
    let place = id(&begun.frames()[1]).to_owned();
    (served, place, upstream)
}

/// Asks on `client` for the rest of an answer.
async fn ask_for_rest(client: &mut Client, served: &Served, place: &str, more: &[(&str, &str)]) {
    let own = [("accept", "text/event-stream"), ("last-event-id", place)];
    let headers = [&own, &*served.headers(), more].concat();
    client.get(PATH, &headers).await.expect("the request is taken");
}

async fn ping(client: &mut Client, served: &Served) {
    let ping = request(7, "ping", &json!({}));
    client
        .post(PATH, &served.headers(), &ping)
        .await
        .expect("the request is taken");
}

/// Reads the rest of an answer, and the answer to a ping.
async fn read_both(client: &mut Client) {
    let rest = client.answer().await.expect("a reply");
    assert!(rest.whole && rest.status == 200, "{}", rest.text());
    assert!(!rest.header("date").is_empty());
    assert_eq!(data(&rest.frames()[0])["id"], 5);
    let pong = client.answer().await.expect("a reply");
    assert_eq!(pong.json(), json!({ "jsonrpc": "2.0", "id": 7, "result": {} }));
}

#[tokio::test]
async fn requests_follow_a_stream_on_its_connection() {
    let (served, place, _upstream) = later().await;
    let mut client = Client::connect(served.address).await;
    for _ in 0..3 {
        // Sent without waiting, so that the next request is read before or during the answer.
        ask_for_rest(&mut client, &served, &place, &[("connection", "Keep-Alive")]).await;
        ping(&mut client, &served).await;
        read_both(&mut client).await;
    }
    for _ in 0..2 {
        ping(&mut client, &served).await;
        client.answer().await.expect("a reply");
        ask_for_rest(&mut client, &served, &place, &[]).await;
        ping(&mut client, &served).await;
        read_both(&mut client).await;
    }
}

#[tokio::test]
async fn who_wants_no_more_is_left_after_a_stream() {
    let (served, place, _upstream) = later().await;
    let mut client = Client::connect(served.address).await;
    ask_for_rest(
        &mut client,
        &served,
        &place,
        &[("connection", "keep-alive, Close")],
    )
    .await;
    let rest = client.answer().await.expect("a reply");
    assert!(rest.whole, "{}", rest.text());
    assert_eq!(rest.header("connection"), "close");
    assert!(client.head().await.is_err(), "the connection is closed");
}

#[tokio::test]
async fn much_is_said_as_it_comes() {
    let number = |number: usize| {
        notification(
            "notifications/message",
            &json!({ "data": number, "pad": "x".repeat(5000) }),
        )
    };
    let events: Vec<String> = (0..1000).map(|at| event("", &number(at))).collect();
    let upstream = start(
        "one",
        Box::new(move |received, _| {
            (received.method == "GET").then(|| Reply::stream().frames(&events).stall())
        }),
    )
    .await;
    let served = open(&[("one", &upstream)]).await;
    let mut client = served.listen(&[]).await;
    assert_eq!(client.head().await.expect("a head").status, 200);
    let mut expected = (0..1000).map(|at| number(at)["params"]["data"].clone());
    let mut next = expected.next();
    while let Some(wanted) = &next {
        let frame = client.frame().await.expect("a whole event").expect("an event");
        let said: Value = data(&frame);
        if said["method"] != "notifications/message" {
            continue;
        }
        assert_eq!(&said["params"]["data"], wanted);
        assert_eq!(said["params"]["pad"].as_str().map(str::len), Some(5000));
        next = expected.next();
    }
}

#[tokio::test]
async fn a_stream_ends_whole_when_the_gateway_does() {
    let upstream = start(
        "one",
        Box::new(|received, _| (received.method == "GET").then(|| Reply::stream().stall())),
    )
    .await;
    let options = Options {
        drain: Duration::from_millis(100),
        ..Options::default()
    };
    let mut served = serve_with(options, snapshot("", &plain(&[("one", &upstream)]))).await;
    served.open().await;
    let mut client = served.listen(&[]).await;
    assert_eq!(client.head().await.expect("a head").status, 200);
    let all = async { while client.frame().await.expect("a whole stream").is_some() {} };
    tokio::join!(all, served.gateway.drain());
    assert!(client.head().await.is_err(), "the connection is closed");
}
