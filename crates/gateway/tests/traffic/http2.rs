//! Upstreams that speak HTTP/2: what shares a connection, and what becomes of a request that one refuses, resets or
//! does not answer.

#![expect(clippy::disallowed_methods, reason = "clients run beside the test")]

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, HeaderValue, Request};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use testkit::{
    Client, Gate,
    fixture::openai,
    http2::{Act, Answer, Http2, Manner},
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::{
    encryption::Authority,
    setup::{Backend, PATH, Setup, at, good, nowhere},
};

const H2C: &str = "appProtocols: [gateway.envoyproxy.io/h2c]";

fn greeting() -> Answer {
    Answer::new(200, "application/json", &[&openai::response("gpt").to_string()])
}

fn backend(upstream: &Http2) -> Backend {
    nowhere(upstream.address()).saying(H2C)
}

#[tokio::test]
async fn requests_share_a_connection() {
    let gate = Gate::new();
    let later = gate.clone();
    let upstream = Http2::start(move |_, _| Act::Answer(greeting().after(&later))).await;
    let setup = Setup::beside("", &[backend(&upstream)]).await;
    let asked = async {
        let (one, two, three) = tokio::join!(setup.ask(), setup.ask(), setup.ask());
        for answer in [one, two, three] {
            // The route names another model than the client.
            assert_eq!(answer.json(), openai::response("m"));
        }
    };
    let opened = async {
        upstream.received(3).await;
        gate.open();
    };
    tokio::join!(asked, opened);
    assert_eq!(upstream.connections(), 1);
    let requests = upstream.requests();
    let first = requests.first().expect("a request");
    assert_eq!((first.method.as_str(), first.target.as_str()), ("POST", PATH));
    assert_eq!(first.header("host"), upstream.address().to_string());
    assert_eq!(first.header("content-length"), first.body.len().to_string());
    assert_eq!(first.json()["model"], "m0");
    setup.reload().await;
    assert_eq!(setup.ask().await.status, 200);
    assert_eq!(upstream.connections(), 1, "a reload keeps connections");
}

#[tokio::test]
async fn an_upstream_that_takes_few_requests_is_given_more_connections() {
    let gate = Gate::new();
    let later = gate.clone();
    let script = move |_: usize, _: &_| Act::Answer(greeting().after(&later));
    let upstream = Http2::with(&[], Some(1), script).await;
    let setup = Setup::beside("", &[backend(&upstream)]).await;
    // The bound is known once the first request was answered.
    let first = async {
        upstream.received(1).await;
        gate.open();
    };
    let (answer, ()) = tokio::join!(setup.ask(), first);
    assert_eq!(answer.status, 200);
    let (one, two) = tokio::join!(setup.ask(), setup.ask());
    assert_eq!((one.status, two.status), (200, 200));
    assert!(upstream.connections() <= 2);
}

#[tokio::test]
async fn a_policy_bounds_what_a_connection_carries() {
    let gate = Gate::new();
    let later = gate.clone();
    let upstream = Http2::start(move |_, _| Act::Answer(greeting().after(&later))).await;
    let setup = Setup::start("http2: { maxConcurrentStreams: 1 }", &[backend(&upstream)]).await;
    let asked = async {
        let (one, two) = tokio::join!(setup.ask(), setup.ask());
        assert_eq!((one.status, two.status), (200, 200));
    };
    let opened = async {
        upstream.received(2).await;
        gate.open();
    };
    tokio::join!(asked, opened);
    assert_eq!(upstream.connections(), 2);
}

#[tokio::test]
async fn windows_are_as_the_policy_says() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let policy = "http2: { initialStreamWindowSize: 128Ki, initialConnectionWindowSize: 1Mi }";
    let setup = Setup::start(policy, &[nowhere(address).saying(H2C)]).await;
    let served = async {
        let (stream, _) = listener.accept().await.expect("a connection");
        let mut connection = h2::server::handshake(stream).await.expect("HTTP/2 is spoken");
        let (_request, mut respond) = connection.accept().await.expect("a request").expect("a request");
        let reply = http::Response::builder().header("content-type", "application/json");
        let mut body = respond
            .send_response(reply.body(()).expect("a reply"), false)
            .expect("sent");
        body.reserve_capacity(1 << 20);
        tokio::select! {
            room = poll_fn(|cx| body.poll_capacity(cx)) => {
                assert_eq!(room.expect("a window").expect("a window"), 128 << 10);
            }
            _ = connection.accept() => panic!("nothing else is asked"),
        }
        let answer = openai::response("gpt").to_string();
        body.send_data(Bytes::from(answer), true).expect("sent");
        while connection.accept().await.is_some() {}
    };
    tokio::select! {
        answer = setup.ask() => assert_eq!(answer.status, 200),
        () = served => panic!("the connection ended"),
    }
}

#[tokio::test]
async fn the_version_is_agreed_on() {
    let authority = Authority::new();
    let documents = authority.trusted("hostname: a.test");
    let shared = Http2::start(|_, _| Act::Answer(greeting())).await;
    let alone = good().await;
    let both = ["h2", "http/1.1"];
    let encrypted = authority.serve(shared.address(), "a.test", 2100, &both).await;
    let setup = Setup::beside(&documents, &[nowhere(encrypted.address)]).await;
    let (one, two) = tokio::join!(setup.ask(), setup.ask());
    assert_eq!((one.status, two.status), (200, 200));
    assert_eq!((shared.connections(), shared.requests().len()), (1, 2));
    for protocols in [&both[1..], &[]] {
        let encrypted = authority.serve(alone.address(), "a.test", 2100, protocols).await;
        let setup = Setup::beside(&documents, &[nowhere(encrypted.address)]).await;
        let before = alone.connections();
        for _ in 0..2 {
            assert_eq!(setup.ask().await.status, 200);
        }
        assert_eq!(alone.connections(), before + 1);
    }
}

#[tokio::test]
async fn what_is_refused_unseen_is_asked_again() {
    // On another connection of the same upstream, because it said so for all of them.
    let upstream = Http2::with(&[Manner::Leaving], None, |_, _| Act::Answer(greeting())).await;
    let setup = Setup::beside("", &[backend(&upstream)]).await;
    assert_eq!(setup.ask().await.status, 200);
    assert_eq!((upstream.connections(), upstream.requests().len()), (2, 1));
    // Not for ever.
    let upstream = Http2::with(&[Manner::Leaving; 9], None, |_, _| Act::Answer(greeting())).await;
    let setup = Setup::beside("", &[backend(&upstream)]).await;
    let answer = setup.ask().await;
    assert!(
        answer.status == 502 && answer.text().contains("refused the request unseen"),
        "{}",
        answer.text()
    );
    // Of another upstream, where the one asked is too busy.
    let upstream = Http2::start(|_, _| Act::Reset(Reason::REFUSED_STREAM)).await;
    let setup = Setup::beside("", &[backend(&upstream)]).await;
    assert_eq!(setup.ask().await.status, 502);
    let other = good().await;
    for policy in [
        "timeout: {}",
        "retry: { retryOn: { triggers: [refused-stream] } }",
    ] {
        let setup = Setup::start(policy, &[backend(&upstream), at(&other).after(1)]).await;
        assert_eq!(setup.ask().await.status, 200, "{policy}");
    }
    let policy = "retry: { retryOn: { triggers: [retriable-4xx] } }";
    let setup = Setup::start(policy, &[backend(&upstream), at(&other).after(1)]).await;
    assert_eq!(setup.ask().await.status, 502);
}

#[tokio::test]
async fn a_stream_that_is_reset_is_a_reset() {
    let upstream = Http2::start(|_, _| Act::Reset(Reason::INTERNAL_ERROR)).await;
    let other = good().await;
    let setup = Setup::beside("", &[backend(&upstream)]).await;
    assert_eq!(setup.ask().await.status, 502);
    let setup = Setup::start("timeout: {}", &[backend(&upstream), at(&other).after(1)]).await;
    assert_eq!(setup.ask().await.status, 200);
    // Once something was said there is no other attempt.
    let first = openai::frames("gpt").into_iter().take(2).collect::<String>();
    let script = move |_: usize, _: &_| Act::Answer(Answer::new(200, "text/event-stream", &[&first]).cut());
    let upstream = Http2::start(script).await;
    let setup = Setup::start("timeout: {}", &[backend(&upstream), at(&other).after(1)]).await;
    let answer = setup.ask_stream().await;
    assert!(
        answer.text().contains("content") && answer.text().contains("\"error\""),
        "{}",
        answer.text()
    );
}

#[tokio::test]
async fn a_connection_that_does_not_answer_is_left() {
    let manners = [Manner::Silent];
    let upstream = Http2::with(&manners, None, |_, _| Act::Answer(greeting())).await;
    let policy = "retry: { numRetries: 1, retryOn: { triggers: [reset] }, perRetry: { timeout: 200ms } }";
    let setup = Setup::start(policy, &[backend(&upstream)]).await;
    assert_eq!(setup.ask().await.status, 200);
    assert_eq!(upstream.connections(), 2);
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_stream_alone() {
    let gate = Gate::new();
    let later = gate.clone();
    let script = move |index, _: &_| match index {
        0 => Act::Stall,
        _ => Act::Answer(greeting().after(&later)),
    };
    let upstream = Http2::start(script).await;
    let setup = Setup::beside("", &[backend(&upstream)]).await;
    let mut client = Client::connect(setup.address).await;
    let request = openai::request("m", false);
    client.post(PATH, &[], &request).await.expect("sent");
    upstream.received(1).await;
    let leaving = async {
        upstream.received(2).await;
        drop(client);
        upstream.given_up(1).await;
        gate.open();
    };
    let (answer, ()) = tokio::join!(setup.ask(), leaving);
    assert_eq!(answer.status, 200);
    assert_eq!(upstream.connections(), 1);
}

/// Larger than any window.
const MUCH: usize = 4 << 20;

#[tokio::test]
async fn bodies_of_any_size_pass() {
    let long = "x".repeat(MUCH);
    let mut answered = openai::response("m");
    answered["choices"][0]["message"]["content"] = long.as_str().into();
    let text = answered.to_string();
    let script = move |_: usize, _: &_| Act::Answer(Answer::new(200, "application/json", &[&text]));
    let upstream = Http2::start(script).await;
    let setup = Setup::beside("", &[backend(&upstream)]).await;
    let mut request = openai::request("m", false);
    request["messages"][0]["content"] = long.as_str().into();
    let answer = testkit::client::post(setup.address, PATH, &[], &request).await;
    assert_eq!(answer.json(), answered);
    let requests = upstream.requests();
    let sent = requests.first().expect("a request").json();
    assert_eq!(sent["messages"][0]["content"].as_str().map(str::len), Some(MUCH));
}

/// A route that hands everything on to a Service that speaks HTTP/2.
fn plain(upstream: &Http2) -> String {
    format!(
        r"---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{ name: plain }}
spec:
  parentRefs: [{{ name: gateway }}]
  rules:
    - matches: [{{ path: {{ type: PathPrefix, value: /plain }} }}]
      backendRefs: [{{ name: plain, port: 80 }}]
---
apiVersion: v1
kind: Service
metadata: {{ name: plain }}
spec: {{ ports: [{{ port: 80, appProtocol: kubernetes.io/h2c }}] }}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{ name: plain, labels: {{ kubernetes.io/service-name: plain }} }}
addressType: IPv4
endpoints: [{{ addresses: [127.0.0.1] }}]
ports: [{{ port: {} }}]
",
        upstream.address().port()
    )
}

#[tokio::test]
async fn plain_requests_keep_their_trailers() {
    let script = |_: usize, _: &_| {
        let answer = Answer::new(200, "application/grpc", &["one", "two"]);
        Act::Answer(answer.trailer("grpc-status", "0"))
    };
    let upstream = Http2::start(script).await;
    let setup = Setup::beside(&plain(&upstream), &[backend(&upstream)]).await;
    let stream = TcpStream::connect(setup.address).await.expect("listening");
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.expect("HTTP/2 is spoken");
    let mut running = JoinSet::new();
    running.spawn(async move {
        // It ends with the test.
        let _ = connection.await;
    });
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("7"));
    let frames = [
        Frame::data(Bytes::from_static(b"asked")),
        Frame::trailers(trailers.clone()),
    ];
    let request = Request::post("http://gateway.test/plain/call")
        .header("te", "trailers")
        .body(Frames(frames.into()))
        .expect("a request");
    let reply = sender.send_request(request).await.expect("a reply");
    let body = reply.into_body().collect().await.expect("a whole reply");
    assert_eq!(
        body.trailers().and_then(|trailers| trailers.get("grpc-status")),
        Some(&HeaderValue::from_static("0"))
    );
    assert_eq!(body.to_bytes(), "onetwo");
    let requests = upstream.requests();
    let first = requests.first().expect("a request");
    assert_eq!((first.header("te"), &first.body[..]), ("trailers", &b"asked"[..]));
    assert_eq!(upstream.trailers(), [trailers]);
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
async fn who_does_not_answer_a_plain_request_is_not_waited_for() {
    let upstream = Http2::start(|_, _| Act::Stall).await;
    let documents = plain(&upstream).replace(
        "backendRefs: [{ name: plain",
        "timeouts: { request: 50ms }\n      backendRefs: [{ name: plain",
    );
    let setup = Setup::beside(&documents, &[backend(&upstream)]).await;
    let answer = testkit::client::get(setup.address, "/plain", &[]).await;
    assert_eq!(answer.status, 504);
    upstream.given_up(1).await;
}
