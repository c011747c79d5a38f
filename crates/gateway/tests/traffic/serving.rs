//! Endpoints that say by gRPC whether they serve: real servers of both versions of HTTP.
#![expect(clippy::disallowed_methods, reason = "servers run beside the test")]

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use policy::{
    grpc,
    protobuf::{Fields, Message},
};
use testkit::fixture;
use tokio::{net::TcpListener, task::JoinSet};

use crate::setup::{Setup, nowhere};

/// A server of a model that says by gRPC whether it serves; stops when dropped.
struct Server {
    address: SocketAddr,
    seen: Arc<Seen>,
    _serving: JoinSet<()>,
}

#[derive(Default)]
struct Seen {
    /// What is said of health.
    status: AtomicU64,
    asked: AtomicUsize,
    served: AtomicUsize,
}

impl Server {
    async fn start(status: u64) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let seen = Arc::new(Seen::default());
        seen.status.store(status, Ordering::SeqCst);
        let own = Arc::clone(&seen);
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let seen = Arc::clone(&own);
                let service = service_fn(move |request| answer(Arc::clone(&seen), request));
                connections.spawn(async move {
                    let builder = auto::Builder::new(TokioExecutor::new());
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self {
            address,
            seen,
            _serving: serving,
        }
    }
}

async fn answer(
    seen: Arc<Seen>,
    request: Request<Incoming>,
) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
    if request.uri().path() != "/grpc.health.v1.Health/Check" {
        seen.served.fetch_add(1, Ordering::SeqCst);
        let document = fixture::openai::response("gpt").to_string();
        let mut response = Response::new(Full::from(document).boxed());
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert("content-type", json);
        return Ok(response);
    }
    let body = request.into_body().collect().await.expect("a message").to_bytes();
    let service = Fields::of(&body[5..]).find_map(|field| match field.expect("well-formed") {
        (1, service) => Some(service.as_text().expect("a text").to_owned()),
        _ => None,
    });
    assert_eq!(service.as_deref(), Some("models"));
    let mut message = Message::default();
    message.varint(1, seen.status.load(Ordering::SeqCst));
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let framed = Full::new(grpc::framed(message.into_bytes()));
    let body = framed.with_trailers(async { Some(Ok(trailers)) }).boxed();
    seen.asked.fetch_add(1, Ordering::SeqCst);
    Ok(Response::new(body))
}

/// Waits until `is_so`.
async fn until(is_so: impl AsyncFn() -> bool) {
    let wait = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(30), wait).await;
    waited.expect("it comes about");
}

#[tokio::test]
async fn who_says_that_it_does_not_serve_is_left_out() {
    let (first, second) = (Server::start(2).await, Server::start(1).await);
    let policy = "healthCheck: { active: { type: GRPC, interval: 10ms, unhealthyThreshold: 1, healthyThreshold: 1, grpc: { \
                  service: models } } }";
    let backends = [nowhere(first.address), nowhere(second.address).after(1)];
    let setup = Setup::start(policy, &backends).await;
    until(async || first.seen.asked.load(Ordering::SeqCst) >= 3).await;
    let before = first.seen.served.load(Ordering::SeqCst);
    for _ in 0..4 {
        assert_eq!(setup.ask().await.status, 200);
    }
    let served = |server: &Server| server.seen.served.load(Ordering::SeqCst);
    assert_eq!((served(&first) - before, served(&second)), (0, 4));
    // It is back once it says so.
    first.seen.status.store(1, Ordering::SeqCst);
    until(async || {
        assert_eq!(setup.ask().await.status, 200);
        served(&first) > before
    })
    .await;
}
