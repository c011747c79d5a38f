//! Connections that switch to another protocol.

use testkit::{Client, client};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::{EVERYTHING, Setup};

/// Serves a gateway in front of `listener`.
async fn in_front_of(listener: &TcpListener) -> Setup {
    let port = listener.local_addr().expect("bound").port();
    let yaml = EVERYTHING.replace(
        "name: v1, port: 8080",
        "group: gateway.envoyproxy.io, kind: Backend, name: raw",
    ) + &format!(
        "---\napiVersion: gateway.envoyproxy.io/v1alpha1\nkind: Backend\nmetadata: {{name: raw}}\nspec: {{endpoints: \
             [{{ip: {{address: 127.0.0.1, port: {port}}}}}]}}\n"
    );
    Setup::over(&yaml, Vec::new()).await
}

const SWITCH: &[(&str, &str)] = &[
    ("connection", "Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

#[tokio::test]
async fn bytes_pass_both_ways_once_the_protocol_has_changed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let setup = in_front_of(&listener).await;
    let upstream = async {
        let (mut stream, _) = listener.accept().await.expect("called");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("a head"));
        }
        let head = String::from_utf8(head).expect("text").to_ascii_lowercase();
        assert!(
            head.contains("upgrade: websocket\r\n") && head.contains("connection: upgrade\r\n"),
            "{head}"
        );
        assert!(head.contains("sec-websocket-key: "), "{head}");
        // The first bytes of the other protocol come with the head.
        let answer =
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello";
        stream.write_all(answer).await.expect("sent");
        let mut said = [0; 5];
        stream.read_exact(&mut said).await.expect("said");
        assert_eq!(&said, b"world");
        stream.write_all(b"bye").await.expect("sent");
    };
    let client = async {
        let mut client = Client::connect(setup.served.address).await;
        client.get("/socket", SWITCH).await.expect("sent");
        let head = client.head().await.expect("a head");
        assert_eq!(head.status, 101);
        assert_eq!(head.headers["upgrade"], "websocket");
        let (mut stream, mut said) = client.into_stream();
        while said.len() < 5 {
            said.push(stream.read_u8().await.expect("said"));
        }
        assert_eq!(said, b"hello");
        stream.write_all(b"world").await.expect("sent");
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.expect("the end");
        assert_eq!(rest, b"bye");
    };
    tokio::join!(upstream, client);
    let labels = ["operation=\"plain\"", "status=\"101\"", "outcome=\"complete\""];
    setup
        .served
        .metric_reaches("tollgate_requests_total", &labels, 1.0)
        .await;
}

#[tokio::test]
async fn a_backend_may_decline() {
    let setup = Setup::new(EVERYTHING).await;
    let answer = client::get(setup.served.address, "/socket", SWITCH).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "v1"));
}

#[tokio::test]
async fn nobody_switches_unasked() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let setup = in_front_of(&listener).await;
    let upstream = async {
        let (mut stream, _) = listener.accept().await.expect("called");
        let answer = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: odd\r\n\r\n";
        stream.write_all(answer).await.expect("sent");
        let mut rest = Vec::new();
        // Whether the gateway ends or breaks off the connection does not matter.
        let _ = stream.read_to_end(&mut rest).await;
    };
    let (answer, ()) = tokio::join!(client::get(setup.served.address, "/", &[]), upstream);
    assert_eq!(answer.status, 502);
}

#[tokio::test]
async fn draining_ends_a_tunnel() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let setup = in_front_of(&listener).await;
    let mut client = Client::connect(setup.served.address).await;
    client.get("/socket", SWITCH).await.expect("sent");
    let (mut stream, _) = listener.accept().await.expect("called");
    let answer = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    stream.write_all(answer).await.expect("sent");
    assert_eq!(client.head().await.expect("a head").status, 101);
    setup.served.gateway.drain().await;
    let (mut near, _) = client.into_stream();
    let mut rest = Vec::new();
    // Whether it is ended or broken off does not matter.
    let _ = near.read_to_end(&mut rest).await;
    assert_eq!(rest, b"");
}
