//! Whom a plain request is handed to: a backend by chance, or endpoints in turn as a policy says.

use std::{pin::pin, sync::Arc};

use config::{
    plain::{Edits, Plain},
    snapshot::{Backend, Candidate, Rule},
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header, request::Parts};
use policy::traffic::{
    Traffic,
    health::Fared,
    retry::{Failure, Retry},
};
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use super::{
    arriving::Sending,
    failed::Failed,
    forward,
    limit::Limits,
    text,
    tunnel::{self, UPGRADE},
};
use crate::{
    State,
    ctx::Ctx,
    lane::{
        Busy,
        affinity::Affinity,
        order::{Choice, Managed},
    },
    refusal::Answer,
    upstream::{Client, Reply},
};

/// A request that is to be handed on.
pub(super) struct Handing<'a> {
    pub(super) rule: &'a Rule,
    pub(super) plain: &'a Plain,
    pub(super) head: Parts,
    pub(super) path: &'a str,
    pub(super) sending: Sending,
}

/// A backend's reply.
pub(super) struct Replied<'a> {
    pub(super) reply: Response<Reply>,
    /// Changes of its headers.
    pub(super) edits: Option<&'a Edits>,
    /// The other protocol that the client asks for.
    pub(super) upgrade: Option<tunnel::Wanted>,
    /// The attempt that it still is while it is handed through.
    pub(super) busy: Option<Busy>,
    /// Headers by which the client comes back to the same endpoint.
    pub(super) bound: Vec<(HeaderName, HeaderValue)>,
}

/// Asks a backend, at random by weight.
pub(super) async fn once<'a>(ctx: &mut Ctx, handing: Handing<'a>) -> Result<Replied<'a>, Answer> {
    let Handing {
        rule,
        plain,
        head,
        path,
        mut sending,
    } = handing;
    let Some(at) = pick(&rule.candidates) else {
        return Err(text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "no backend serves this route",
        ));
    };
    let candidate = rule.candidates.get(at);
    let backend = usable(ctx, rule, candidate)?;
    let Some(client) = ctx.state.clients.pick(backend, ctx.peer()).cloned() else {
        return Err(text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the backend has no endpoint",
        ));
    };
    let limits = Limits::of(rule, ctx);
    if let (Some(trail), Some(candidate)) = (&mut ctx.facts.trail, candidate) {
        trail.begin(candidate);
    }
    let dressed = dress(ctx, plain, at, head, path, &client.host);
    let asked = ask(&mut sending, dressed, &client, &limits).await;
    if let Some(trail) = &mut ctx.facts.trail {
        trail.end(asked.as_ref().map_or_else(Failed::name, |_| "answered"), None);
    }
    asked.map_err(Failed::into_answer)
}

/// Asks endpoints in turn, as `traffic` says, until one replies in a way that is not tried again.
pub(super) async fn managed<'a>(
    ctx: &mut Ctx,
    mut handing: Handing<'a>,
    traffic: &Traffic,
    state: &State,
) -> Result<Replied<'a>, Answer> {
    ctx.facts.tells_attempts = traffic.tells_attempts;
    let affinity = affinity(ctx, traffic, &handing.head.headers);
    let managed = Managed::new(handing.rule, traffic, &state.lanes, ctx.wish.as_ref(), affinity);
    let Some(mut managed) = managed else {
        let message = "x-ai-eg-fallback names no backend of the rule";
        return Err(text(StatusCode::BAD_REQUEST, message));
    };
    ctx.runtime.retries.deposit();
    let limits = Limits::of(handing.rule, ctx);
    let mut last = None;
    while let Some(choice) = managed.next(&ctx.runtime.records) {
        if choice.is_repeated && !ctx.runtime.retries.withdraw() {
            debug!(candidate = %choice.candidate.id, "retry budget is spent");
            break;
        }
        // The connection of the reply before is let go of.
        drop(last.take());
        let tried = turn(ctx, &mut handing, &managed, &choice, &limits).await?;
        let (goes_on, tried) = judge(ctx, &mut managed, &choice, tried);
        last = Some(tried);
        if !goes_on || !managed.has_more() || !handing.sending.is_whole() {
            break;
        }
    }
    match last {
        Some(Ok(replied)) => Ok(replied),
        Some(Err(failed)) => Err(failed.into_answer()),
        None => Err(text(StatusCode::SERVICE_UNAVAILABLE, "no healthy upstream")),
    }
}

/// Makes one attempt, after a wait where it is a retry.
///
/// # Errors
/// The answer where the backend is not usable: its share of requests is refused.
async fn turn<'a>(
    ctx: &mut Ctx,
    handing: &mut Handing<'a>,
    managed: &Managed<'_>,
    choice: &Choice<'_>,
    limits: &Limits,
) -> Result<Result<Replied<'a>, Failed>, Answer> {
    usable(ctx, handing.rule, Some(choice.candidate))?;
    let retry = managed.attempts().saturating_sub(1);
    let progress = handing.sending.progress().clone();
    if let Some(policy) = managed.traffic().retry.as_ref().filter(|_| retry > 0) {
        let until = Instant::now() + policy.wait(retry, fastrand::f64());
        tokio::time::sleep_until(until.min(limits.end(&progress))).await;
    }
    let (Some(way), Some((lane, place))) = (choice.way(), choice.lane) else {
        return Err(text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the backend has no endpoint",
        ));
    };
    let admitted = timeout_at(limits.end(&progress), lane.admit(place, retry > 0)).await;
    let Ok(Ok(busy)) = admitted else {
        return Ok(Err(Failed::Overflow));
    };
    if let Some(waited) = busy.waited {
        ctx.runtime.metrics.own.queued(&choice.candidate.id, waited);
    }
    let mut candidates = handing.rule.candidates.iter();
    let at = candidates.position(|candidate| std::ptr::eq(candidate, choice.candidate));
    ctx.facts.attempts += 1;
    if let Some(trail) = &mut ctx.facts.trail {
        trail.begin(choice.candidate);
    }
    let (plain, head, path) = (handing.plain, handing.head.clone(), handing.path);
    let dressed = dress(ctx, plain, at.unwrap_or_default(), head, path, &way.client.host);
    let asked = ask(&mut handing.sending, dressed, &way.client, limits).await;
    Ok(asked.map(|mut replied| {
        replied.busy = Some(busy);
        replied
    }))
}

/// Learns from an attempt; returns whether another one may be made.
fn judge<'a, 's>(
    ctx: &mut Ctx,
    managed: &mut Managed<'s>,
    choice: &Choice<'s>,
    mut tried: Result<Replied<'a>, Failed>,
) -> (bool, Result<Replied<'a>, Failed>) {
    let (failure, status) = match &tried {
        Ok(replied) => (failure(replied.reply.status()), replied.reply.status()),
        Err(failed) => (Some(failed.failure()), failed.status()),
    };
    let outcome = match (&tried, failure) {
        (Ok(_), None) => "answered",
        (Ok(_), Some(_)) => "failed",
        (Err(failed), _) => failed.name(),
    };
    ctx.runtime.metrics.attempt(&choice.candidate.id, outcome);
    if let Some(trail) = &mut ctx.facts.trail {
        trail.end(outcome, None);
    }
    let records = &ctx.runtime.records;
    if let Some(fared) = failure.map_or(Some(Fared::Well), Failure::fared) {
        managed.learn(choice, fared, records);
    }
    let policy = managed.traffic().retry.as_ref();
    let goes_on = match (&tried, failure) {
        (_, Some(failure)) => managed.refused(choice, failure, status),
        (Ok(replied), None) => policy.is_some_and(|policy| is_refused_call(policy, replied.reply.headers())),
        (Err(_), None) => false,
    };
    if let Ok(replied) = &mut tried {
        if let Some(record) = choice.record() {
            let headers = replied.reply.headers();
            record.cool(records.now(), retry_after(status, headers), headers);
        }
        replied.bound = bound(ctx, managed, choice);
    }
    (goes_on, tried)
}

/// A request as one candidate is sent it.
pub(super) struct Dressed<'a> {
    pub(super) head: Parts,
    upgrade: Option<tunnel::Wanted>,
    /// Changes of the reply's headers.
    pub(super) edits: Option<&'a Edits>,
}

/// Returns the request as the candidate at `at` is sent it, which has this `host`.
pub(super) fn dress<'a>(
    ctx: &Ctx,
    plain: &'a Plain,
    at: usize,
    head: Parts,
    path: &str,
    host: &HeaderValue,
) -> Dressed<'a> {
    let own = plain.candidates.get(at);
    let edits = own.map(|(request, _)| request);
    let (mut head, upgrade) = forward::head(ctx, plain, edits, head, path, host);
    if let Some(upgrade) = &upgrade {
        head.headers.insert(header::CONNECTION, UPGRADE);
        head.headers.insert(header::UPGRADE, upgrade.protocol.clone());
    }
    Dressed {
        head,
        upgrade,
        edits: own.map(|(_, reply)| reply),
    }
}

async fn ask<'a>(
    sending: &mut Sending,
    dressed: Dressed<'a>,
    client: &Arc<Client>,
    limits: &Limits,
) -> Result<Replied<'a>, Failed> {
    let body = sending.body();
    let call = pin!(client.call(Request::from_parts(dressed.head, body)));
    let reply = limits.within(sending.progress(), call).await?;
    Ok(Replied {
        reply,
        edits: dressed.edits,
        upgrade: dressed.upgrade,
        busy: None,
        bound: Vec::new(),
    })
}

/// Returns the backend of a candidate, which is asked from now on.
fn usable<'a>(
    ctx: &mut Ctx,
    rule: &Rule,
    candidate: Option<&'a Candidate>,
) -> Result<&'a Arc<Backend>, Answer> {
    match candidate.map(|candidate| &candidate.backend) {
        Some(Ok(backend)) => {
            ctx.facts.upstream = Some(Arc::clone(&backend.id));
            Ok(backend)
        }
        Some(Err(reason)) => {
            debug!(rule = %rule.id(), reason, "a backend is not usable");
            let message = "the backend of this route is not usable";
            Err(text(StatusCode::INTERNAL_SERVER_ERROR, message))
        }
        None => Err(text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "no backend serves this route",
        )),
    }
}

/// Returns the place of a candidate, at random by weight. One that cannot be called has its share too: of refusals.
fn pick(candidates: &[Candidate]) -> Option<usize> {
    // Whether a pool is asked was drawn before.
    let weight = |candidate: &Candidate| match candidate.is_picked() {
        true => 0,
        false => u64::from(candidate.weight),
    };
    draw(candidates, weight)
}

/// Returns the place of a candidate, at random by `weight`.
pub(super) fn draw(candidates: &[Candidate], weight: impl Fn(&Candidate) -> u64) -> Option<usize> {
    let weights = || candidates.iter().map(&weight);
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

/// Returns what chooses the endpoint of a request.
fn affinity(ctx: &Ctx, traffic: &Traffic, headers: &HeaderMap) -> Affinity {
    let query = ctx.facts.uri.query().unwrap_or_default();
    let affinity = Affinity::of(&traffic.balance, ctx.peer(), headers, query, Vec::new);
    let session = traffic.session.as_ref();
    Affinity {
        session: session.and_then(|session| session.of(headers, ctx.facts.now())),
        ..affinity
    }
}

/// Returns the headers by which the client comes back to the endpoint of `choice`.
fn bound(ctx: &Ctx, managed: &Managed<'_>, choice: &Choice<'_>) -> Vec<(HeaderName, HeaderValue)> {
    let affinity = managed.affinity();
    let cookie = affinity.cookie.clone().map(|cookie| (header::SET_COOKIE, cookie));
    let session = managed.traffic().session.as_ref().zip(choice.way());
    let session =
        session.and_then(|(session, way)| session.bind(way.name, affinity.session, ctx.facts.now()));
    cookie.into_iter().chain(session).collect()
}

/// Returns what a status amounts to; `None` for a reply that is as good as any.
pub(super) fn failure(status: StatusCode) -> Option<Failure> {
    let is_error = status.is_client_error() || status.is_server_error();
    is_error.then(|| Failure::of_status(status.as_u16()))
}

/// Returns whether a reply refuses a call of gRPC in a way that is tried again.
fn is_refused_call(retry: &Retry, headers: &HeaderMap) -> bool {
    let status = headers.get("grpc-status").and_then(|status| status.to_str().ok());
    status.is_some_and(|status| retry.covers_rpc(status))
}

/// Returns for how many seconds an upstream asks to be left alone that cannot serve.
fn retry_after(status: StatusCode, headers: &HeaderMap) -> Option<u64> {
    let busy = matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
    );
    busy.then(|| crate::headers::retry_after(headers)).flatten()
}
