//! The listener for operators: health, readiness, metrics, and what is being served.

use std::{convert::Infallible, sync::Weak};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, task::JoinHandle};
use tracing::debug;

use crate::{Gateway, Runtime, State};

/// Serves `listener` for as long as the gateway exists.
#[expect(
    clippy::disallowed_methods,
    reason = "the admin listener lives as long as the gateway"
)]
pub(crate) fn serve(listener: TcpListener, gateway: Weak<Gateway>) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    debug!(%error, "cannot accept on the admin listener");
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    continue;
                }
            };
            let gateway = gateway.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let gateway = gateway.clone();
                async move {
                    Ok::<_, Infallible>(match gateway.upgrade() {
                        Some(gateway) => answer(&request, &gateway.runtime, &gateway.state.load_full()),
                        None => text(StatusCode::SERVICE_UNAVAILABLE, "gone\n"),
                    })
                }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service);
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    debug!(%error, "admin connection ended");
                }
            });
        }
    })
}

fn answer<B>(request: &Request<B>, runtime: &Runtime, state: &State) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
        response
            .headers_mut()
            .insert(header::ALLOW, HeaderValue::from_static("GET"));
        return response;
    }
    match request.uri().path() {
        "/health" => text(StatusCode::OK, "OK\n"),
        "/ready" if runtime.is_ready() => text(StatusCode::OK, "OK\n"),
        "/ready" => text(StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
        "/metrics" => match runtime.metrics.encode(runtime.log.dropped()) {
            Ok(metrics) => document(StatusCode::OK, OPEN_METRICS, metrics),
            Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "metrics cannot be written\n"),
        },
        "/config" => document(
            StatusCode::OK,
            "application/json",
            state.snapshot.dump().to_string(),
        ),
        _ => text(
            StatusCode::NOT_FOUND,
            "try /health, /ready, /metrics or /config\n",
        ),
    }
}

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

fn text(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    document(status, "text/plain; charset=utf-8", text)
}

fn document(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
