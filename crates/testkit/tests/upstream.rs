//! The scripted upstream breaks where it is told to, and the client sees it.

use std::time::Duration;

use serde_json::json;
use testkit::{Client, Gate, Reply, Upstream, client, fixture::openai};

#[tokio::test]
async fn a_whole_reply_keeps_the_connection() {
    let upstream = Upstream::start(vec![
        Reply::json(200, &json!({"n": 1})),
        Reply::sse(["data: 2\n\n", "data: 3\n\n"]),
    ])
    .await;
    let mut client = Client::connect(upstream.address()).await;
    client
        .post("/a", &[("x-a", "b")], &json!({"q": 1}))
        .await
        .expect("sent");
    assert_eq!(client.answer().await.expect("a reply").json(), json!({"n": 1}));
    client.post("/b", &[], &json!({"q": 2})).await.expect("sent");
    assert_eq!(client.head().await.expect("a head").status, 200);
    assert_eq!(
        client.frame().await.expect("an event").as_deref(),
        Some("data: 2")
    );
    assert_eq!(
        client.frame().await.expect("an event").as_deref(),
        Some("data: 3")
    );
    assert_eq!(client.frame().await.expect("an end"), None);
    let requests = upstream.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(upstream.connections(), 1);
    assert_eq!(
        (requests[0].method.as_str(), requests[0].target.as_str()),
        ("POST", "/a")
    );
    assert_eq!(requests[0].header("x-a"), "b");
    assert_eq!(requests[1].json(), json!({"q": 2}));
}

#[tokio::test]
async fn a_reply_breaks_where_it_is_told_to() {
    let head = || Reply::stream().frame("data: 1\n\n");
    check(Reply::new().reset(), None).await;
    check(Reply::new().close(), None).await;
    check(head().reset(), Some((200, "data: 1\n\n", false))).await;
    check(head().close(), Some((200, "data: 1\n\n", false))).await;
    check(head().end(), Some((200, "data: 1\n\n", true))).await;
    check(
        Reply::new()
            .head(200, &[("content-length", "5")])
            .raw("abc")
            .close(),
        Some((200, "abc", false)),
    )
    .await;
    check(
        Reply::new().head(200, &[]).raw("abc").close(),
        Some((200, "abc", true)),
    )
    .await;
    check(
        Reply::stream().split("data: ä\n\n", 1).end(),
        Some((200, "data: ä\n\n", true)),
    )
    .await;
    check(
        Reply::stream().drip("ab", Duration::from_millis(1)).end(),
        Some((200, "ab", true)),
    )
    .await;
    check(
        Reply::whole(529, &[("content-type", "text/html")], "<p>"),
        Some((529, "<p>", true)),
    )
    .await;
}

async fn check(reply: Reply, seen: Option<(u16, &str, bool)>) {
    let upstream = Upstream::start(reply).await;
    let mut client = Client::connect(upstream.address()).await;
    client.post("/", &[], &json!({})).await.expect("sent");
    let answer = client.answer().await.ok();
    let answer = answer.map(|answer| (answer.status, answer.text(), answer.whole));
    assert_eq!(
        answer,
        seen.map(|(status, text, whole)| (status, text.to_owned(), whole))
    );
    upstream.played(1).await;
}

#[tokio::test]
async fn the_test_decides_when_the_reply_goes_on() {
    let (gate, reached) = (Gate::new(), Gate::new());
    let upstream = Upstream::start(
        Reply::stream()
            .frame("data: 1\n\n")
            .signal(&reached)
            .wait(&gate)
            .frame("data: 2\n\n")
            .end(),
    )
    .await;
    let mut client = Client::connect(upstream.address()).await;
    client.post("/", &[], &json!({})).await.expect("sent");
    client.head().await.expect("a head");
    assert_eq!(
        client.frame().await.expect("an event").as_deref(),
        Some("data: 1")
    );
    reached.wait().await;
    assert_eq!(upstream.finished(), 0);
    gate.open();
    assert_eq!(
        client.frame().await.expect("an event").as_deref(),
        Some("data: 2")
    );
    assert_eq!(client.frame().await.expect("an end"), None);
}

#[tokio::test]
async fn the_upstream_knows_when_its_client_goes_away() {
    for (reply, reset) in [
        (Reply::new().stall(), false),
        (Reply::stream().frame("data: 1\n\n").stall(), false),
        (Reply::stream().stall(), true),
    ] {
        let upstream = Upstream::start(reply).await;
        let mut client = Client::connect(upstream.address()).await;
        client.post("/", &[], &json!({})).await.expect("sent");
        upstream.received(1).await;
        if reset {
            client.reset()
        } else {
            drop(client)
        }
        upstream.closed().await;
    }
}

#[tokio::test]
async fn nobody_listens_at_a_refusing_address() {
    let refusing = Upstream::refusing();
    let connected = tokio::net::TcpStream::connect(refusing.address).await;
    assert_eq!(
        connected.expect_err("nobody listens").kind(),
        std::io::ErrorKind::ConnectionRefused
    );
}

#[tokio::test]
async fn replies_to_parallel_connections_do_not_wait_for_each_other() {
    let gate = Gate::new();
    let upstream = Upstream::start(vec![
        Reply::new().wait(&gate).head(200, &[("content-length", "0")]),
        Reply::json(200, &openai::response("m")),
    ])
    .await;
    let mut first = Client::connect(upstream.address()).await;
    first.post("/", &[], &json!({})).await.expect("sent");
    upstream.received(1).await;
    let second = client::post(upstream.address(), "/", &[], &json!({})).await;
    assert_eq!(second.json(), openai::response("m"));
    gate.open();
    assert_eq!(first.answer().await.expect("a reply").status, 200);
}
