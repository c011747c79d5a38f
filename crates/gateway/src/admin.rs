//! The listener for operators: health, readiness, metrics, and what is being served.

use std::{convert::Infallible, sync::Weak, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use percent_encoding::percent_decode_str;
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinHandle};
use tracing::debug;

use crate::{
    Gateway, Runtime, State,
    limit::Page,
    profile::{self, ProfileError},
    telemetry::exposition::Exposition,
};

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
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let gateway = gateway.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let gateway = gateway.clone();
                async move {
                    Ok::<_, Infallible>(match gateway.upgrade() {
                        Some(gateway) => answer(request, &gateway.runtime, &gateway.state.load_full()).await,
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

async fn answer(request: Request<Incoming>, runtime: &Runtime, state: &State) -> Response<Full<Bytes>> {
    if request.uri().path() == "/log-level" {
        return log_level(request, runtime).await;
    }
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
        "/metrics" => {
            let format = Exposition::asked(request.headers(), runtime.options.native_histograms);
            match format.write(|form| runtime.encode_metrics(form)) {
                Ok(metrics) => document(StatusCode::OK, format.media_type(), metrics),
                Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "metrics cannot be written\n"),
            }
        }
        "/config" => document(
            StatusCode::OK,
            "application/json",
            state.snapshot.dump().to_string(),
        ),
        "/credentials" => {
            let standings = state.credentials.standings(jiff::Timestamp::now());
            document(StatusCode::OK, "application/json", standings.to_string())
        }
        "/usage" => usage(request.uri().query().unwrap_or_default(), runtime),
        path => {
            let query = request.uri().query().unwrap_or_default();
            if let Some(rest) = path.strip_prefix("/debug/requests") {
                return requests(rest, query, runtime);
            }
            if let Some(rest) = path.strip_prefix("/debug/pprof") {
                return profiles(rest, query, runtime).await;
            }
            text(
                StatusCode::NOT_FOUND,
                "try /health, /ready, /metrics, /config, /credentials, /usage, /log-level, /debug/requests or \
                 /debug/pprof\n",
            )
        }
    }
}

/// Tells what was used of limits.
fn usage(query: &str, runtime: &Runtime) -> Response<Full<Bytes>> {
    let Some(page) = Page::parse(query) else {
        return text(StatusCode::BAD_REQUEST, "limit is not a number from 1\n");
    };
    let now = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or_default();
    match page.of(&runtime.limiter, now) {
        Ok(usage) => document(StatusCode::OK, "application/json", usage),
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "usage cannot be written\n"),
    }
}

/// Tells what the process spends its time and its memory on, where that is switched on.
async fn profiles(rest: &str, query: &str, runtime: &Runtime) -> Response<Full<Bytes>> {
    let Some(profiling) = &runtime.options.profiling else {
        return text(StatusCode::NOT_FOUND, "there are no profiles: see --profiling\n");
    };
    match rest {
        "/profile" => {
            let seconds = query.split('&').find_map(|pair| pair.strip_prefix("seconds="));
            let seconds = seconds
                .map_or(Ok(DEFAULT_PROFILE), str::parse)
                .map(Duration::from_secs);
            let Some(time) = seconds
                .ok()
                .filter(|time| !time.is_zero() && *time <= profile::LONGEST)
            else {
                return text(StatusCode::BAD_REQUEST, "seconds is not a number from 1 to 300\n");
            };
            match profile::take(time).await {
                Ok(profile) => document(StatusCode::OK, "application/octet-stream", profile),
                Err(error) => {
                    let status = match &error {
                        ProfileError::Busy => StatusCode::CONFLICT,
                        ProfileError::Profiler(_) | ProfileError::Write(_) => {
                            StatusCode::INTERNAL_SERVER_ERROR
                        }
                    };
                    document(status, "text/plain; charset=utf-8", format!("{error}\n"))
                }
            }
        }
        "/heap" => match (profiling.heap)() {
            Some(statistics) => document(StatusCode::OK, "application/json", statistics),
            None => text(StatusCode::NOT_FOUND, "the allocator tells nothing\n"),
        },
        _ => text(
            StatusCode::NOT_FOUND,
            "try /debug/pprof/profile?seconds=N or /debug/pprof/heap\n",
        ),
    }
}

/// How many seconds a profile takes where nothing else is asked for.
const DEFAULT_PROFILE: u64 = 30;

/// Tells or changes how much the process says about itself.
async fn log_level(request: Request<Incoming>, runtime: &Runtime) -> Response<Full<Bytes>> {
    let Some(level) = &runtime.options.log_level else {
        return text(StatusCode::NOT_FOUND, "the log level cannot be changed\n");
    };
    let said = |status, level: String| document(status, "text/plain; charset=utf-8", level + "\n");
    match *request.method() {
        Method::GET | Method::HEAD => said(StatusCode::OK, level.current()),
        Method::PUT => {
            let body = Limited::new(request.into_body(), MAX_LEVEL).collect().await;
            let Ok(body) = body else {
                return text(StatusCode::BAD_REQUEST, "not a level\n");
            };
            let wanted = String::from_utf8_lossy(&body.to_bytes()).trim().to_owned();
            match level.change(&wanted) {
                Ok(()) => said(StatusCode::OK, wanted),
                Err(reason) => said(StatusCode::BAD_REQUEST, reason),
            }
        }
        _ => {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and PUT\n");
            let allow = HeaderValue::from_static("GET, PUT");
            response.headers_mut().insert(header::ALLOW, allow);
            response
        }
    }
}

/// The longest level that is read.
const MAX_LEVEL: usize = 4096;

/// Tells of recent requests, or of the one that `rest` names.
fn requests(rest: &str, query: &str, runtime: &Runtime) -> Response<Full<Bytes>> {
    let json = |value: Value| document(StatusCode::OK, "application/json", value.to_string());
    if !runtime.decisions.are_kept() {
        return text(StatusCode::NOT_FOUND, "no decisions are kept: see --decisions\n");
    }
    runtime.ended.tell();
    let Some(id) = rest.strip_prefix('/').filter(|id| !id.is_empty()) else {
        let limit = query.split('&').find_map(|pair| pair.strip_prefix("limit="));
        let limit = limit.map_or(Ok(DEFAULT_LIMIT), str::parse);
        return match limit {
            Ok(limit) if rest.is_empty() || rest == "/" => json(runtime.decisions.list(limit)),
            Ok(_) => text(StatusCode::NOT_FOUND, "try /debug/requests\n"),
            Err(_) => text(StatusCode::BAD_REQUEST, "limit is not a number\n"),
        };
    };
    match runtime
        .decisions
        .find(&percent_decode_str(id).decode_utf8_lossy())
    {
        Some(decision) => json(decision),
        None => text(
            StatusCode::NOT_FOUND,
            "no such request, or too many others came after it\n",
        ),
    }
}

/// How many requests are listed where nothing else is asked for.
const DEFAULT_LIMIT: usize = 100;

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
