//! Requests of HTTPRoutes: handed to a backend as they come, and the reply back as it comes.
//!
//! Nothing is read whole and nothing is understood. Errors are short texts, because it is not known what the client
//! speaks.

mod arriving;
mod forward;
pub(crate) mod passing;
pub(crate) mod path;
pub(crate) mod tunnel;

use std::time::Duration;

use bytes::Bytes;
use config::{
    plain::{Answer as Own, Direct, Edits, Plain, Redirect},
    snapshot::{Candidate, Rule},
};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header, request::Parts};
use hyper::body::Incoming;
use tokio::time::Instant;
use tracing::debug;

pub(crate) use arriving::Arriving;
use arriving::Progress;
use passing::Passing;
use path::Path;
use tunnel::Tunnel;

use crate::{
    ctx::Ctx,
    headers,
    refusal::{Answer, Content},
    upstream::{self, CallError, Outgoing},
};

/// The longest silence of a backend within a reply.
const IDLE: Duration = Duration::from_secs(300);

/// The longest silence of a client within its request.
const CLIENT_IDLE: Duration = Duration::from_secs(30);

/// The body of a request.
pub(crate) enum Given {
    /// It is pulled from the client while it is sent.
    Arriving(Incoming),
    /// It was read whole to find out the model.
    Held(Bytes),
}

/// Serves a request by a rule of plain requests.
pub(crate) async fn serve(ctx: &mut Ctx, rule: &Rule, head: Parts, given: Given) -> Answer {
    let Some(plain) = rule.plain.as_deref() else {
        return text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "this route serves no plain requests",
        );
    };
    ctx.facts.route = Some(rule.route.as_str().into());
    ctx.facts.plain = true;
    let path = match Path::of(head.uri.path()) {
        Path::Elsewhere(path) => return elsewhere(&path, head.uri.query()),
        Path::Here(path) => path.into_owned(),
    };
    match &plain.answer {
        Some(Own::Redirect(redirect)) => return redirected(ctx, plain, redirect, &head, &path),
        Some(Own::Direct(direct)) => return direct_response(plain, direct),
        Some(Own::Broken(reason)) => {
            debug!(rule = %rule.id(), reason, "a rule cannot serve");
            return text(
                StatusCode::INTERNAL_SERVER_ERROR,
                "this route cannot serve requests",
            );
        }
        None => {}
    }
    let Some(at) = pick(&rule.candidates) else {
        return text(StatusCode::INTERNAL_SERVER_ERROR, "no backend serves this route");
    };
    let candidate = rule.candidates.get(at).map(|candidate| &candidate.backend);
    let backend = match candidate {
        Some(Ok(backend)) => backend,
        Some(Err(reason)) => {
            debug!(rule = %rule.id(), reason, "a backend is not usable");
            return text(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the backend of this route is not usable",
            );
        }
        None => return text(StatusCode::INTERNAL_SERVER_ERROR, "no backend serves this route"),
    };
    ctx.facts.upstream = Some(backend.id.clone());
    let Some(client) = ctx.state.clients.pick(backend).cloned() else {
        return text(StatusCode::INTERNAL_SERVER_ERROR, "the backend has no endpoint");
    };
    let none = <(Edits, Edits)>::default();
    let (request_edits, reply_edits) = plain.candidates.get(at).unwrap_or(&none);
    let (mut head, upgrade) = forward::head(ctx, plain, request_edits, head, &path, &client.host);
    if let Some(upgrade) = &upgrade {
        head.headers.insert(header::CONNECTION, UPGRADE);
        head.headers.insert(header::UPGRADE, upgrade.protocol.clone());
    }
    let (body, progress) = outgoing(given);
    let call = client.call(Request::from_parts(head, body));
    let reply = within(ctx, rule, &progress, call).await;
    ctx.facts.bytes_received = progress.bytes();
    let reply = match reply {
        Ok(reply) => reply,
        Err(refusal) => return refusal,
    };
    respond(plain, reply_edits, reply, upgrade).await
}

const UPGRADE: HeaderValue = HeaderValue::from_static("upgrade");

fn outgoing(given: Given) -> (Outgoing, Progress) {
    let progress = Progress::default();
    let body = match given {
        Given::Arriving(body) => Outgoing::Plain(Box::new(Arriving::new(body, progress.clone()))),
        Given::Held(bytes) => {
            progress.hold(bytes.len());
            Outgoing::Whole(bytes.into())
        }
    };
    (body, progress)
}

/// Returns what `call` gives within the limits of the rule, which count once the client has sent everything.
async fn within<T>(
    ctx: &Ctx,
    rule: &Rule,
    progress: &Progress,
    call: impl Future<Output = Result<T, CallError>>,
) -> Result<T, Answer> {
    let limits = [rule.timeouts.request, rule.timeouts.attempt];
    let limit = limits.into_iter().flatten().min();
    let mut call = std::pin::pin!(call);
    let mut seen = (progress.bytes(), Instant::now());
    loop {
        let ended = progress.ended();
        let until = match (ended, limit) {
            (Some(ended), Some(limit)) => ended + limit,
            (Some(_), None) => ctx.deadline(None),
            (None, limit) => Instant::now() + limit.map_or(CLIENT_IDLE, |limit| limit.min(CLIENT_IDLE)),
        };
        match tokio::time::timeout_at(until, call.as_mut()).await {
            Ok(Ok(reply)) => return Ok(reply),
            Ok(Err(error)) => return Err(failed(&error)),
            Err(_) if ended.is_some() => {
                return Err(text(StatusCode::GATEWAY_TIMEOUT, "upstream request timeout"));
            }
            Err(_) => {}
        }
        let bytes = progress.bytes();
        if bytes != seen.0 {
            seen = (bytes, Instant::now());
        } else if progress.ended().is_none() && seen.1.elapsed() >= CLIENT_IDLE {
            return Err(text(
                StatusCode::REQUEST_TIMEOUT,
                "the request did not arrive in time",
            ));
        }
    }
}

fn failed(error: &CallError) -> Answer {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    debug!(%error, cause, "no reply");
    let status = match error {
        CallError::Connect(_) => StatusCode::SERVICE_UNAVAILABLE,
        CallError::Reset(_) => StatusCode::BAD_GATEWAY,
    };
    let mut answer = text(status, "");
    answer.content = Content::Whole(Bytes::from(format!("{error}\n")));
    answer
}

async fn respond(
    plain: &Plain,
    edits: &Edits,
    reply: Response<upstream::Reply>,
    upgrade: Option<tunnel::Wanted>,
) -> Answer {
    let (head, body) = reply.into_parts();
    let mut headers = head.headers;
    let protocol = headers.remove(header::UPGRADE);
    headers::to_plain_client(&mut headers);
    plain.response.apply(&mut headers);
    edits.apply(&mut headers);
    if head.status != StatusCode::SWITCHING_PROTOCOLS {
        return Answer {
            status: head.status,
            headers,
            content: Content::Passing(Box::new(Passing::new(body, IDLE))),
        };
    }
    // Whoever did not ask for another protocol cannot be told of one.
    let tunnel = match upgrade {
        Some(upgrade) => body
            .into_io()
            .await
            .map(|upstream| Tunnel::new(upgrade, upstream)),
        None => None,
    };
    let Some(tunnel) = tunnel else {
        return text(StatusCode::BAD_GATEWAY, "the upstream switched protocols unasked");
    };
    headers.insert(header::CONNECTION, UPGRADE);
    headers.extend(protocol.map(|protocol| (header::UPGRADE, protocol)));
    Answer {
        status: head.status,
        headers,
        content: Content::Tunnel(Box::new(tunnel)),
    }
}

/// Returns the place of a candidate, at random by weight. One that cannot be called has its share too: of refusals.
fn pick(candidates: &[Candidate]) -> Option<usize> {
    let weights = || candidates.iter().map(|candidate| u64::from(candidate.weight));
    let sum: u64 = weights().sum();
    if sum == 0 {
        return None;
    }
    let mut drawn = fastrand::u64(..sum);
    weights().position(|weight| {
        let hit = drawn < weight;
        drawn = drawn.saturating_sub(weight);
        hit
    })
}

fn redirected(ctx: &Ctx, plain: &Plain, redirect: &Redirect, head: &Parts, path: &str) -> Answer {
    let scheme = if ctx.is_secured() { "https" } else { "http" };
    let host = &ctx.facts.host;
    let location = redirect.location(scheme, host, ctx.port(), path, head.uri.query());
    let mut answer = text(redirect.status, "");
    match HeaderValue::try_from(location) {
        Ok(location) => answer.headers.insert(header::LOCATION, location),
        Err(_) => return text(StatusCode::BAD_REQUEST, "no place can be named for this path"),
    };
    plain.response.apply(&mut answer.headers);
    answer
}

/// Sends a client to where its path means the same to everybody: behind an escaped slash an upstream might see more
/// than the rule that was to match.
fn elsewhere(path: &str, query: Option<&str>) -> Answer {
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    let mut answer = text(StatusCode::TEMPORARY_REDIRECT, "");
    match HeaderValue::try_from(format!("{path}{query}")) {
        Ok(location) => answer.headers.insert(header::LOCATION, location),
        Err(_) => return text(StatusCode::BAD_REQUEST, "the path is malformed"),
    };
    answer
}

fn direct_response(plain: &Plain, direct: &Direct) -> Answer {
    let mut headers = HeaderMap::new();
    if let Some(kind) = &direct.content_type {
        headers.insert(header::CONTENT_TYPE, kind.clone());
    } else if !direct.body.is_empty() {
        headers.insert(header::CONTENT_TYPE, TEXT);
    }
    direct.headers.apply(&mut headers);
    plain.response.apply(&mut headers);
    Answer {
        status: direct.status,
        headers,
        content: Content::Whole(Bytes::copy_from_slice(direct.body.as_bytes())),
    }
}

fn text(status: StatusCode, message: &'static str) -> Answer {
    let mut headers = HeaderMap::new();
    if !message.is_empty() {
        headers.insert(header::CONTENT_TYPE, TEXT);
    }
    Answer {
        status,
        headers,
        content: Content::Whole(Bytes::from_static(message.as_bytes())),
    }
}

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
