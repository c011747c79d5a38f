//! Requests of HTTPRoutes: handed to a backend as they come, and the reply back as it comes.
//!
//! Nothing is read whole and nothing is understood. Errors are short texts, because it is not known what the client
//! speaks.

mod arriving;
mod attempt;
mod failed;
mod forward;
mod limit;
pub(crate) mod mirror;
pub(crate) mod passing;
pub(crate) mod path;
mod pooled;
pub(crate) mod tunnel;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use config::{
    plain::{Answer as Own, Direct, Plain, Redirect},
    snapshot::Rule,
};
use http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts};
use policy::traffic::Traffic;
use tokio::time::Instant;
use tracing::debug;

pub(crate) use arriving::{Arriving, Cut};
use arriving::{Keep, Sending};
use attempt::{Handing, Replied};
use failed::Failed;
use limit::Limits;
use mirror::Copies;
use passing::Passing;
use path::Path;
use tunnel::{Tunnel, UPGRADE};

use crate::{
    ctx::Ctx,
    fault,
    given::Given,
    headers, meter,
    refusal::{Answer, Content, Refusal},
};

/// The most of a request that is kept, to be sent again, where a policy sets no other limit.
const MAX_KEPT: usize = 1024 * 1024;

/// Holds a request against the limits of `rule`, if it has any, and serves it.
///
/// # Errors
/// A 429.
pub(crate) async fn serve(
    ctx: &mut Ctx,
    rule: &Arc<Rule>,
    head: Parts,
    given: Given,
) -> Result<Answer, Box<Refusal>> {
    ctx.facts.route = Some(Arc::clone(&rule.route));
    ctx.facts.plain = true;
    if let Some(trail) = &mut ctx.facts.trail {
        trail.rule = Some(Arc::clone(rule));
    }
    if let Some(abort) = fault::inject(ctx, rule).await {
        return Ok(match abort.grpc.filter(|_| is_grpc(&head)) {
            Some(status) => grpc(status, fault::MESSAGE),
            None => text(abort.status, fault::MESSAGE),
        });
    }
    if rule.limits.is_none() {
        return Ok(answer(ctx, rule, head, given).await);
    }
    let told = meter::open_uncounted(ctx, rule, &head.headers).await?;
    let mut answer = answer(ctx, rule, head, given).await;
    if let Some(told) = told {
        meter::tell(told, &mut answer.headers);
    }
    Ok(answer)
}

async fn answer(ctx: &mut Ctx, rule: &Rule, head: Parts, given: Given) -> Answer {
    let Some(plain) = rule.plain.as_deref() else {
        let message = "this route serves no plain requests";
        return text(StatusCode::INTERNAL_SERVER_ERROR, message);
    };
    let path = match Path::of(head.uri.path(), &ctx.slashes()) {
        Path::Refused => return text(StatusCode::BAD_REQUEST, "escaped slashes are not taken in paths"),
        Path::Elsewhere(path) => return elsewhere(&path, head.uri.query()),
        Path::Here(path) => path.into_owned(),
    };
    match &plain.answer {
        Some(Own::Redirect(redirect)) => return redirected(ctx, plain, redirect, &head, &path),
        Some(Own::Direct(direct)) => return direct_response(plain, direct),
        Some(Own::Broken(reason)) => {
            debug!(rule = %rule.id(), reason, "a rule cannot serve");
            let message = "this route cannot serve requests";
            return text(StatusCode::INTERNAL_SERVER_ERROR, message);
        }
        None => {}
    }
    let policy = rule.traffic.as_deref();
    if let Some(refusal) = policy.and_then(|traffic| too_large(traffic, &head.headers)) {
        return refusal;
    }
    let copies = match plain.mirrors.is_empty() {
        true => None,
        false => Copies::of(ctx, plain, &head, &path),
    };
    if let Some(pool) = pooled::drawn(rule) {
        let request = pooled::Request {
            head,
            path: &path,
            given,
            copies,
        };
        return Box::pin(pooled::answer(ctx, (rule, plain), pool, request)).await;
    }
    let sending = Sending::new(given, keep(ctx, policy, copies));
    let progress = sending.progress().clone();
    let handing = Handing {
        rule,
        plain,
        head,
        path: &path,
        sending,
    };
    let replied = match policy {
        None => attempt::once(ctx, handing).await,
        Some(traffic) => {
            let state = Arc::clone(&ctx.state);
            attempt::managed(ctx, handing, traffic, &state).await
        }
    };
    ctx.facts.bytes_received = progress.bytes();
    match replied {
        Ok(replied) => {
            let limits = Limits::of(rule, ctx);
            respond(plain, replied, limits.idle, limits.last(&progress)).await
        }
        Err(refusal) => refusal,
    }
}

/// Returns how much of a request is kept, to be sent again or to others.
fn keep(ctx: &Ctx, traffic: Option<&Traffic>, copies: Option<Copies>) -> Option<Keep> {
    let retry = traffic.and_then(|traffic| traffic.retry.as_ref());
    let again = retry.is_some_and(|retry| retry.retries > 0);
    let largest = traffic.and_then(|traffic| traffic.max_body);
    (again || largest.is_some() || copies.is_some()).then(|| Keep {
        reserved: ctx.runtime.memory.reserve(),
        limit: largest.unwrap_or(MAX_KEPT),
        refuses: largest.is_some(),
        copies,
    })
}

/// Returns the refusal of a request that says itself that it is larger than a policy lets it be.
fn too_large(traffic: &Traffic, headers: &HeaderMap) -> Option<Answer> {
    let limit = traffic.max_body?;
    let length = headers.get(header::CONTENT_LENGTH)?.to_str().ok()?;
    let length: usize = length.parse().ok()?;
    (length > limit).then(|| Failed::TooLarge.into_answer())
}

async fn respond(plain: &Plain, replied: Replied<'_>, idle: Duration, last: Option<Instant>) -> Answer {
    let Replied {
        reply,
        edits,
        upgrade,
        busy,
        bound,
    } = replied;
    let (head, body) = reply.into_parts();
    let mut headers = head.headers;
    let protocol = headers.remove(header::UPGRADE);
    headers::to_plain_client(&mut headers);
    plain.response.apply(&mut headers);
    if let Some(edits) = edits {
        edits.apply(&mut headers);
    }
    for (name, value) in bound {
        headers.append(name, value);
    }
    if head.status != StatusCode::SWITCHING_PROTOCOLS {
        return Answer {
            status: head.status,
            headers,
            content: Content::Passing(Box::new(Passing::new(body, idle, last, busy))),
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

/// Returns whether the client speaks gRPC.
fn is_grpc(head: &Parts) -> bool {
    let kind = head.headers.get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(GRPC.as_bytes()))
}

/// Returns an answer of gRPC that is over with its head ("Trailers-Only").
fn grpc(status: u8, message: &'static str) -> Answer {
    let mut answer = text(StatusCode::OK, "");
    let headers = &mut answer.headers;
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(GRPC));
    headers.insert("grpc-status", HeaderValue::from(u16::from(status)));
    headers.insert("grpc-message", HeaderValue::from_static(message));
    answer
}

const GRPC: &str = "application/grpc";
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
