//! Bodies pass as they come, both ways, to their end or to where they break off.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use testkit::{Client, Gate, Reply, Script, Upstream, client};
use tokio::net::TcpStream;

use super::{EVERYTHING, Setup};

#[tokio::test]
async fn a_reply_passes_as_it_comes() {
    let gate = Gate::new();
    let later = gate.clone();
    let setup = Setup::answering(EVERYTHING, move |_| {
        Reply::chunked(200, &[])
            .frame("one")
            .wait(&later)
            .frame("two")
            .end()
    })
    .await;
    let mut client = Client::connect(setup.served.address).await;
    client.get("/", &[]).await.expect("sent");
    assert_eq!(client.head().await.expect("a head").status, 200);
    assert_eq!(client.piece().await.expect("a piece"), Some(b"one".to_vec()));
    gate.open();
    assert_eq!(client.piece().await.expect("a piece"), Some(b"two".to_vec()));
    assert_eq!(client.piece().await.expect("the end"), None);
    let labels = ["operation=\"plain\"", "status=\"200\"", "outcome=\"complete\""];
    setup
        .served
        .metric_reaches("tollgate_requests_total", &labels, 1.0)
        .await;
}

#[tokio::test]
async fn a_request_passes_whatever_its_size() {
    let setup = Setup::answering(EVERYTHING, |request| {
        Reply::whole(200, &[], &request.body.len().to_string())
    })
    .await;
    let mut client = Client::connect(setup.served.address).await;
    let body = vec![b'x'; 48 << 20];
    let head = format!(
        "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    client.send(head).await.expect("sent");
    client.send(&body).await.expect("sent");
    assert_eq!(
        client.answer().await.expect("a reply").text(),
        body.len().to_string()
    );
}

#[tokio::test]
async fn a_reply_that_breaks_off_does_not_look_whole() {
    let gate = Gate::new();
    let later = gate.clone();
    let setup = Setup::answering(EVERYTHING, move |_| {
        Reply::chunked(200, &[]).frame("one").wait(&later).close()
    })
    .await;
    let mut client = Client::connect(setup.served.address).await;
    client.get("/", &[]).await.expect("sent");
    assert_eq!(client.head().await.expect("a head").status, 200);
    assert_eq!(client.piece().await.expect("a piece"), Some(b"one".to_vec()));
    gate.open();
    assert!(
        !matches!(client.piece().await, Ok(None)),
        "it does not look whole"
    );
    let labels = ["operation=\"plain\"", "outcome=\"broken\""];
    setup
        .served
        .metric_reaches("tollgate_requests_total", &labels, 1.0)
        .await;
}

#[tokio::test]
async fn a_client_that_goes_away_takes_the_call_with_it() {
    let setup = Setup::answering(EVERYTHING, |_| Reply::chunked(200, &[]).frame("one").stall()).await;
    let mut client = Client::connect(setup.served.address).await;
    client.get("/", &[]).await.expect("sent");
    assert_eq!(client.head().await.expect("a head").status, 200);
    drop(client);
    setup.upstreams[0].closed().await;
}

#[tokio::test]
async fn who_does_not_answer_in_time_is_not_waited_for() {
    let yaml = EVERYTHING.replace("rules: [{", "rules: [{timeouts: {request: 50ms}, ");
    let setup = Setup::answering(&yaml, |_| Reply::new().stall()).await;
    let answer = client::get(setup.served.address, "/", &[]).await;
    assert_eq!(answer.status, 504);
    let refusing = Upstream::refusing();
    let yaml = EVERYTHING.replace(
        "name: v1, port: 8080",
        "group: gateway.envoyproxy.io, kind: Backend, name: gone",
    ) + &format!(
        "---\napiVersion: gateway.envoyproxy.io/v1alpha1\nkind: Backend\nmetadata: {{name: gone}}\nspec: {{endpoints: \
             [{{ip: {{address: 127.0.0.1, port: {}}}}}]}}\n",
        refusing.address.port()
    );
    let setup = Setup::over(&yaml, Vec::new()).await;
    assert_eq!(client::get(setup.served.address, "/", &[]).await.status, 503);
    let setup = Setup::answering(EVERYTHING, |_| Reply::new().reset()).await;
    assert_eq!(client::get(setup.served.address, "/", &[]).await.status, 502);
}

/// Over HTTP/2, where both sides can say trailers without further ado.
#[tokio::test]
async fn trailers_pass() {
    let reply = "HTTP/1.1 200 OK\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n0\r\nx-sum: 7\r\n\r\n";
    let setup = Setup::over(
        EVERYTHING,
        vec![Upstream::start(Script::from(Reply::new().raw(reply))).await],
    )
    .await;
    let stream = TcpStream::connect(setup.served.address).await.expect("listening");
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.expect("HTTP/2 is spoken");
    let mut trailers = HeaderMap::new();
    trailers.insert("x-client-sum", http::HeaderValue::from_static("3"));
    let body = Frames(VecDeque::from([
        Frame::data(Bytes::from_static(b"abc")),
        Frame::trailers(trailers),
    ]));
    let request = Request::post("http://h/")
        .header("te", "trailers")
        .header("trailer", "x-client-sum");
    let asked = async {
        let reply = sender
            .send_request(request.body(body).expect("a request"))
            .await
            .expect("a reply");
        let whole = reply.into_body().collect().await.expect("a body");
        let sum = whole
            .trailers()
            .and_then(|trailers| trailers.get("x-sum"))
            .cloned();
        (whole.to_bytes(), sum)
    };
    let (body, sum) = tokio::select! {
        answered = asked => answered,
        ended = connection => panic!("the connection ended: {ended:?}"),
    };
    assert_eq!(body, "one");
    assert_eq!(sum.expect("a trailer"), "7");
    let seen = setup.upstreams[0].requests();
    assert_eq!(seen[0].body, "abc");
    assert_eq!(seen[0].header("te"), "trailers");
    assert_eq!(seen[0].header("trailer"), "x-client-sum");
}

/// Frames that are there already.
struct Frames(VecDeque<Frame<Bytes>>);

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }
}

#[tokio::test]
async fn draining_lets_a_reply_finish_or_breaks_it_off() {
    let setup = Setup::answering(EVERYTHING, |_| Reply::chunked(200, &[]).frame("one").stall()).await;
    let mut client = Client::connect(setup.served.address).await;
    client.get("/", &[]).await.expect("sent");
    assert_eq!(client.head().await.expect("a head").status, 200);
    let ended = tokio::time::timeout(Duration::from_secs(20), setup.served.gateway.drain());
    ended.await.expect("draining comes to an end");
    assert_eq!(client.piece().await.expect("a piece"), Some(b"one".to_vec()));
    assert!(
        !matches!(client.piece().await, Ok(None)),
        "it does not look whole"
    );
}

#[tokio::test]
async fn replies_that_say_two_lengths_or_none() {
    let two =
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let garbled = "the upstream's reply is not one of HTTP\n";
    for (raw, expected) in [(two, (200, "abc")), ("hello\r\n\r\n", (502, garbled))] {
        let setup = Setup::answering(EVERYTHING, move |_| Reply::new().raw(raw)).await;
        let answer = client::get(setup.served.address, "/a", &[]).await;
        assert_eq!((answer.status, answer.text().as_str()), expected, "{raw}");
    }
}

#[tokio::test]
async fn requests_that_could_mean_two_things() {
    let setup = Setup::answering(EVERYTHING, |_| Reply::whole(200, &[], "")).await;
    for (request, expected) in [
        ("GET /a HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
        ("GET /a HTTP/1.1\r\n\r\n", 400),
        ("GET http://u:p@a/a HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n", 405),
        (
            "POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            501,
        ),
        ("GET /a HTTP/1.0\r\n\r\n", 200),
    ] {
        let mut client = Client::connect(setup.served.address).await;
        client.send(request).await.expect("sent");
        let answer = client.answer().await.expect("an answer");
        assert_eq!(answer.status, expected, "{request}: {}", answer.text());
    }
    assert_eq!(setup.upstreams[0].requests().len(), 1);
}
