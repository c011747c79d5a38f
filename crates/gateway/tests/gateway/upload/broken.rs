//! Either side goes away, answers early or is slow while a form is on its way.

use std::{net::SocketAddr, time::Duration};

use config::snapshot::Timeouts;
use testkit::{Client, Reply, Upstream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{
    Field::{File, Text},
    TRANSCRIPTIONS, form, head, recording,
};
use crate::fixture::{MODEL, Served, To, openai, options, serve, serve_with, to};

const LARGE: usize = 8 * 1024 * 1024;

/// An upstream of which a test decides when it reads.
struct Raw(TcpListener);

impl Raw {
    async fn bind() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.expect("a free port"))
    }

    fn to(&self) -> To {
        let address: SocketAddr = self.0.local_addr().expect("bound");
        to(&llm::provider::COMPATIBLE, address)
    }

    /// Accepts a connection and reads at least `count` bytes from it.
    async fn accept(&self, count: usize) -> TcpStream {
        let (mut stream, _) = self.0.accept().await.expect("accepted");
        let mut buffer = vec![0; 64 * 1024];
        let mut left = count;
        while left > 0 {
            let read = stream.read(&mut buffer).await.expect("still open");
            assert_ne!(read, 0, "the call is not whole yet");
            left = left.saturating_sub(read);
        }
        stream
    }
}

/// Reads until the other side is gone.
async fn gone(mut stream: TcpStream) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(1..) = stream.read(&mut buffer).await {}
}

/// Returns a form of [`LARGE`] bytes and a client that has sent its head.
async fn begin(served: &Served) -> (Client, Vec<u8>) {
    let form = form(&[Text("model", MODEL), File("file", &recording(LARGE))]);
    let mut client = Client::connect(served.address).await;
    client
        .send(head(TRANSCRIPTIONS, Some(form.len())))
        .await
        .expect("sent");
    (client, form)
}

#[tokio::test]
async fn an_upstream_refuses_before_it_has_read_everything() {
    for reads in [1, 100_000, 3_000_000] {
        let raw = Raw::bind().await;
        let served = serve([raw.to()]).await;
        let (mut client, form) = begin(&served).await;
        let upstream = async {
            let mut stream = raw.accept(reads).await;
            let body = "{\"error\":{\"message\":\"no\",\"type\":\"invalid_request_error\"}}";
            let reply = format!(
                "HTTP/1.1 401 Unauthorized\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(reply.as_bytes()).await.expect("written");
            stream
        };
        let asked = async {
            // The client listens only once it has sent everything.
            client.send(&form).await.expect("sent");
            client.answer().await.expect("a reply")
        };
        let (_open, answer) = tokio::join!(upstream, asked);
        assert_eq!(
            (answer.status, &answer.json()["error"]["message"]),
            (401, &"no".into())
        );
        served
            .metric_reaches("tollgate_requests_total", &["status=\"401\""], 1.0)
            .await;
    }
}

#[tokio::test]
async fn an_upstream_streams_before_it_has_read_everything() {
    let raw = Raw::bind().await;
    let served = serve([raw.to()]).await;
    let (mut client, form) = begin(&served).await;
    let (first, rest) = form.split_at(1_000_000);
    let (sent, heard) = (tokio::sync::Notify::new(), tokio::sync::Notify::new());
    let upstream = async {
        let mut stream = raw.accept(1000).await;
        let frame = "data: {\"type\":\"transcript.text.delta\",\"delta\":\"Hi\"}\n\n";
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
        stream.write_all(head.as_bytes()).await.expect("written");
        stream.write_all(frame.as_bytes()).await.expect("written");
        heard.notified().await;
        let mut buffer = vec![0; 64 * 1024];
        let mut last = Vec::new();
        while !last.ends_with(b"--\r\n") {
            let read = stream.read(&mut buffer).await.expect("still open");
            assert_ne!(read, 0, "the form is not whole yet");
            last = buffer[read.saturating_sub(4)..read].to_vec();
        }
        sent.notified().await;
        let done = "data: {\"type\":\"transcript.text.done\",\"text\":\"Hi\"}\n\n";
        stream.write_all(done.as_bytes()).await.expect("written");
    };
    let asked = async {
        client.send(first).await.expect("sent");
        assert_eq!(client.head().await.expect("a head").status, 200);
        let frame = client.frame().await.expect("a frame").expect("not the end");
        assert!(frame.contains("delta"), "{frame}");
        heard.notify_one();
        client.send(rest).await.expect("sent");
        sent.notify_one();
        let frame = client.frame().await.expect("a frame").expect("not the end");
        assert!(frame.contains("done"), "{frame}");
        assert_eq!(client.frame().await.expect("the end"), None);
    };
    tokio::join!(upstream, asked);
    served
        .metric_reaches(
            "tollgate_requests_total",
            &["outcome=\"complete\"", "status=\"200\""],
            1.0,
        )
        .await;
}

#[tokio::test]
async fn a_client_that_goes_away_takes_the_call_with_it() {
    let raw = Raw::bind().await;
    let other = Upstream::start(Reply::new().stall()).await;
    let served = serve([raw.to(), openai(&other).after()]).await;
    let (mut client, form) = begin(&served).await;
    let asked = async {
        client.send(&form[..1_000_000]).await.expect("sent");
        client
    };
    let (stream, client) = tokio::join!(raw.accept(500_000), asked);
    client.reset();
    gone(stream).await;
    served
        .metric_reaches("tollgate_attempts_total", &["outcome=\"client\""], 1.0)
        .await;
    served
        .metric_reaches("tollgate_requests_in_flight", &[], 0.0)
        .await;
    assert_eq!(served.metric("tollgate_requests_total", &[]).await, 1.0);
    assert_eq!(other.connections(), 0);
}

#[tokio::test]
async fn an_upstream_that_goes_away_is_told_of() {
    let raw = Raw::bind().await;
    let other = Upstream::start(Reply::new().stall()).await;
    let served = serve([raw.to(), openai(&other).after()]).await;
    let (mut client, form) = begin(&served).await;
    let upstream = async {
        let stream = raw.accept(3_000_000).await;
        stream.set_zero_linger().expect("a socket");
    };
    let asked = async {
        client.send(&form).await.expect("sent");
        client.answer().await.expect("a reply")
    };
    let ((), answer) = tokio::join!(upstream, asked);
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert!(answer.json()["error"]["message"].is_string());
    assert_eq!(other.connections(), 0, "what was sent is gone");
}

#[tokio::test]
async fn a_slow_client_is_waited_for_until_the_deadline() {
    let raw = Raw::bind().await;
    let timeouts = Timeouts {
        request: Some(Duration::from_millis(300)),
        ..Timeouts::default()
    };
    let served = serve_with(options(), timeouts, [raw.to()]).await;
    let (mut client, form) = begin(&served).await;
    let asked = async {
        client.send(&form[..500_000]).await.expect("sent");
        // The rest comes once the gateway has given up: it listens on, so that it can be heard.
        client
    };
    let (stream, mut client) = tokio::join!(raw.accept(400_000), asked);
    gone(stream).await;
    client.send(&form[500_000..]).await.expect("sent");
    let answer = client.answer().await.expect("a reply");
    assert_eq!(answer.status, 504, "{}", answer.text());
}

#[tokio::test]
async fn draining_lets_a_form_finish() {
    let raw = Raw::bind().await;
    let served = serve([raw.to()]).await;
    let (mut client, form) = begin(&served).await;
    let asked = async {
        client.send(&form[..500_000]).await.expect("sent");
        client
    };
    let (stream, mut client) = tokio::join!(raw.accept(400_000), asked);
    let drained = served.gateway.drain();
    let asked = async {
        gone(stream).await;
        client.answer().await.expect("a reply")
    };
    let ((), answer) = tokio::join!(drained, asked);
    assert_eq!(answer.status, 503, "{}", answer.text());
}
