//! Plain requests for pools: a picker is asked where they go, and sees the reply.
//!
//! The request is held whole: the picker is shown all of it before it is known who is called, and each of those that it
//! names may have to be sent it.

use std::pin::pin;

use bytes::Bytes;
use config::{
    plain::Plain,
    snapshot::{Backend, Picker, Rule},
};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header, request::Parts};
use http_body_util::Full;
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use super::{
    TEXT,
    arriving::{Progress, Sending},
    attempt::{self, Dressed, Replied, draw, dress},
    failed::Failed,
    limit::Limits,
    mirror::Copies,
    respond, text,
};
use crate::{
    ctx::Ctx,
    given::Given,
    picker::{self, Pick, Picked, Question, Walk},
    refusal::{Answer, Content},
    upstream::{Broken, CallError, Outgoing, Reply},
};

/// The candidate of a rule that is a pool.
pub(super) struct Pool<'a> {
    at: usize,
    backend: &'a Backend,
    picker: &'a Picker,
}

/// A request that is to be handed on.
pub(super) struct Request<'a> {
    pub(super) head: Parts,
    pub(super) path: &'a str,
    pub(super) given: Given,
    pub(super) copies: Option<Copies>,
}

/// Returns the pool that serves a request, if it is one that is drawn of the candidates.
pub(super) fn drawn(rule: &Rule) -> Option<Pool<'_>> {
    if !rule.candidates.iter().any(|candidate| candidate.is_picked()) {
        return None;
    }
    let at = draw(&rule.candidates, |candidate| u64::from(candidate.weight))?;
    let backend = rule.candidates.get(at)?.backend.as_ref().ok()?;
    let picker = backend.picker.as_deref()?;
    Some(Pool { at, backend, picker })
}

/// Asks where a request goes, and hands it on.
pub(super) async fn answer(
    ctx: &mut Ctx,
    (rule, plain): (&Rule, &Plain),
    pool: Pool<'_>,
    request: Request<'_>,
) -> Answer {
    let Request {
        head,
        path,
        given,
        copies,
    } = request;
    ctx.facts.upstream = Some(pool.backend.id.clone());
    let traffic = rule.traffic.as_deref();
    ctx.facts.tells_attempts = traffic.is_some_and(|traffic| traffic.tells_attempts);
    let limit = traffic.and_then(|traffic| traffic.max_body);
    let limit = limit.unwrap_or_else(|| ctx.usual_body());
    let held = given
        .whole(&head.headers, limit, ctx.pace(), &ctx.runtime.memory)
        .await;
    let (body, reserved) = match held {
        Ok(held) => held,
        Err(error) => return worded(error.status, error.message),
    };
    // It has arrived, so that its time limits run from now on.
    let sending = Sending::new(Given::Held(body.clone(), reserved), None);
    let progress = sending.progress();
    ctx.facts.bytes_received = body.len() as u64;
    if let Some(copies) = copies {
        copies.send(&body);
    }
    let limits = Limits::of(rule, ctx);
    let end = limits.end(progress);
    let host = HeaderValue::from_str(&ctx.facts.host).unwrap_or(HeaderValue::from_static("invalid"));
    let mut dressed = dress(ctx, plain, pool.at, head, path, &host);
    // What is held has a length, and switches to no other protocol.
    for name in [header::CONTENT_LENGTH, header::CONNECTION, header::UPGRADE] {
        dressed.head.headers.remove(name);
    }
    let question = Question {
        method: &dressed.head.method,
        target: dressed
            .head
            .uri
            .path_and_query()
            .map_or("/", |target| target.as_str()),
        scheme: if ctx.is_secured() { "https" } else { "http" },
        headers: &dressed.head.headers,
        body: body.clone(),
    };
    let picked = match picker::pick(ctx, pool.backend, pool.picker, question, end).await {
        Ok(Pick::Named(picked)) => picked,
        Ok(Pick::Answer(answer)) => return answer,
        Err(failed) => return worded(failed.status(end), failed.to_string()),
    };
    picked.dress(&mut dressed.head.headers);
    if let Some(path) = picked.path() {
        match path.parse() {
            Ok(target) => dressed.head.uri = target,
            Err(_) => {
                let message = "the endpoint picker asks for a path that is none";
                return text(StatusCode::BAD_GATEWAY, message);
            }
        }
    }
    let body = picked.body().cloned().unwrap_or(body);
    let request = (&dressed.head, body);
    let called = call(ctx, (rule, pool.at), &picked, request, (&limits, progress)).await;
    let Dressed { edits, .. } = dressed;
    match called {
        Ok(reply) => {
            let replied = Replied {
                reply,
                edits,
                upgrade: None,
                busy: None,
                bound: Vec::new(),
            };
            respond(plain, replied, limits.idle, limits.last(progress)).await
        }
        Err(failed) => failed.into_answer(),
    }
}

/// Calls those that were named, in their order, until one replies in a way that is not tried again.
async fn call(
    ctx: &mut Ctx,
    (rule, at): (&Rule, usize),
    picked: &Picked,
    (head, body): (&Parts, Bytes),
    (limits, progress): (&Limits, &Progress),
) -> Result<Response<Reply>, Failed> {
    let once = ctx.wish.as_ref().is_some_and(|wish| wish.declines());
    let mut walk = Walk::new(picked.ways.len(), rule.traffic.as_deref(), once);
    let end = limits.end(progress);
    ctx.runtime.retries.deposit();
    let mut last = None;
    while let Some((place, is_repeated)) = walk.next() {
        if is_repeated && !ctx.runtime.retries.withdraw() {
            debug!("retry budget is spent");
            break;
        }
        wait(&walk, end).await;
        let (Some(way), Some(candidate)) = (picked.ways.get(place), rule.candidates.get(at)) else {
            break;
        };
        ctx.facts.attempts += 1;
        if let Some(trail) = &mut ctx.facts.trail {
            trail.begin(candidate);
        }
        let request = http::Request::from_parts(head.clone(), Outgoing::Whole(Full::new(body.clone())));
        let tried = limits.within(progress, pin!(way.client.call(request))).await;
        let tried = match tried {
            Ok(response) if walk.passes_over(response.status()) => Ok(response),
            Ok(response) => show(picked, place, response, end).await,
            Err(failed) => Err(failed),
        };
        let failure = match &tried {
            Ok(response) => attempt::failure(response.status()).map(|failure| (failure, response.status())),
            Err(failed) => Some((failed.failure(), failed.status())),
        };
        let outcome = match (&tried, failure) {
            (Ok(_), None) => "answered",
            (Ok(_), Some(_)) => "failed",
            (Err(failed), _) => failed.name(),
        };
        ctx.runtime.metrics.attempt(&candidate.id, outcome);
        if let Some(trail) = &mut ctx.facts.trail {
            trail.end(outcome, None);
        }
        let goes_on = failure.is_some_and(|(failure, status)| walk.refused(failure, status));
        last = Some(tried);
        if !goes_on {
            break;
        }
    }
    last.unwrap_or(Err(Failed::Picker(picker::Failed::Nowhere)))
}

/// Has the picker see a reply.
async fn show(
    picked: &Picked,
    place: usize,
    response: Response<Reply>,
    end: Instant,
) -> Result<Response<Reply>, Failed> {
    let shown = timeout_at(end, picked.show(place, response, end)).await;
    shown
        .map_err(|_| Failed::Deadline)?
        .map_err(|broken| match broken {
            Broken::Picker(failed) => Failed::Picker(failed),
            broken @ (Broken::Connection(_) | Broken::Stream(_) | Broken::Quiet(_) | Broken::Request(_)) => {
                Failed::Call(CallError::Reset(broken))
            }
        })
}

/// Waits before an attempt that is a retry, as a policy says.
async fn wait(walk: &Walk<'_>, end: Instant) {
    let retry = walk.attempts().saturating_sub(1);
    let policy = walk.traffic().and_then(|traffic| traffic.retry.as_ref());
    if let Some(policy) = policy.filter(|_| retry > 0) {
        let until = Instant::now() + policy.wait(retry, fastrand::f64());
        tokio::time::sleep_until(until.min(end)).await;
    }
}

fn worded(status: StatusCode, message: String) -> Answer {
    Answer {
        status,
        headers: HeaderMap::from_iter([(header::CONTENT_TYPE, TEXT)]),
        content: Content::Whole(Bytes::from(message)),
    }
}
