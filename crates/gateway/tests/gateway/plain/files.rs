//! What names no model, as the example hands it through: files, batches and sockets.

use serde_json::json;
use testkit::{Client, Reply, Upstream, client};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::Setup;
use crate::fixture::KEY;

const EXAMPLE: &str = include_str!("../../../../../examples/files.yaml");

/// Serves the example, with both of its providers on `port` and in clear.
async fn in_front_of(port: u16) -> Setup {
    let kept = EXAMPLE
        .split("---\n")
        .filter(|document| !document.contains("kind: BackendTLSPolicy"))
        .map(|document| match document.find("    - fqdn:") {
            Some(at) => format!(
                "{}    - ip: {{address: 127.0.0.1, port: {port}}}\n",
                &document[..at]
            ),
            None => document.to_owned(),
        });
    Setup::over(&kept.collect::<Vec<_>>().join("---\n"), Vec::new()).await
}

#[tokio::test]
async fn files_and_batches_have_the_providers_key_and_nothing_else_changes() {
    let upstream = Upstream::start(Reply::json(200, &json!({ "id": "file-1" }))).await;
    let setup = in_front_of(upstream.address().port()).await;
    let address = setup.served.address;
    let form = "--b\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--b--\r\n";
    let kind = "multipart/form-data; boundary=b";
    let head = format!(
        "POST /v1/files HTTP/1.1\r\nhost: g\r\nauthorization: Bearer of-the-client\r\ncontent-type: {kind}\r\n\
         content-length: {}\r\n\r\n",
        form.len()
    );
    let mut sender = Client::connect(address).await;
    sender.send(head + form).await.expect("sent");
    let answer = sender.answer().await.expect("an answer");
    assert_eq!((answer.status, answer.json()), (200, json!({ "id": "file-1" })));
    client::get(address, "/v1/files/file-1/content?x=1", &[]).await;
    client::get(address, "/anthropic/v1/messages/batches/b/results", &[]).await;
    let sent = upstream.received(3).await;
    let targets: Vec<&str> = sent.iter().map(|sent| sent.target.as_str()).collect();
    assert_eq!(
        targets,
        [
            "/v1/files",
            "/v1/files/file-1/content?x=1",
            "/v1/messages/batches/b/results"
        ]
    );
    assert_eq!(
        (sent[0].body.as_ref(), sent[0].header("content-type")),
        (form.as_bytes(), kind)
    );
    let keys = sent
        .iter()
        .map(|sent| (sent.header("authorization"), sent.header("x-api-key")));
    let bearer = format!("Bearer {KEY}");
    assert_eq!(
        keys.collect::<Vec<_>>(),
        [(&*bearer, ""), (&*bearer, ""), ("", KEY)]
    );
}

#[tokio::test]
async fn paths_that_are_not_listed_are_not_let_through() {
    let upstream = Upstream::start(Reply::json(200, &json!({}))).await;
    let setup = in_front_of(upstream.address().port()).await;
    for path in [
        "/v1/organization/costs",
        "/v1/filesystem",
        "/v1/files/../organization/costs",
        "/v1/assistants",
    ] {
        let answer = client::get(setup.served.address, path, &[]).await;
        assert!([400, 404].contains(&answer.status), "{path}: {}", answer.status);
    }
    assert_eq!(upstream.requests().len(), 0);
}

#[tokio::test]
async fn a_realtime_socket_has_the_providers_key() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let setup = in_front_of(listener.local_addr().expect("bound").port()).await;
    let upstream = async {
        let (mut stream, _) = listener.accept().await.expect("called");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("a head"));
        }
        let head = String::from_utf8(head).expect("text");
        assert!(
            head.starts_with("GET /v1/realtime?model=gpt-realtime HTTP/1.1\r\n"),
            "{head}"
        );
        assert!(head.contains(&format!("Bearer {KEY}")), "{head}");
        let answer =
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello";
        stream.write_all(answer).await.expect("sent");
    };
    let client = async {
        let mut client = Client::connect(setup.served.address).await;
        let switch = [
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        client
            .get("/v1/realtime?model=gpt-realtime", &switch)
            .await
            .expect("sent");
        assert_eq!(client.head().await.expect("a head").status, 101);
        let (mut stream, mut said) = client.into_stream();
        while said.len() < 5 {
            said.push(stream.read_u8().await.expect("said"));
        }
        assert_eq!(said, b"hello");
    };
    tokio::join!(upstream, client);
}
