//! Serves a model request: attempts over a rule's candidates until one answers.

mod arriving;
mod asked;
mod attempt;
mod limit;
mod managed;
mod picking;
mod refused;
pub(crate) mod reply;
mod several;
pub(crate) mod upload;

use std::{sync::Arc, time::Duration};

use config::snapshot::{Candidate, Rule};
use http::{HeaderMap, header};
use llm::{ApiError, ErrorKind};
use policy::{
    rate_limit::Told,
    traffic::{Lossy, Naming},
};
use tokio::time::Instant;
use tracing::debug;

use crate::{
    State,
    ctx::Ctx,
    facts::Verdict,
    fault, headers, kept,
    lane::{
        affinity::Affinity,
        order::{Managed, Order},
        wish::Wish,
    },
    meter,
    picker::{Pick, Picked, Walk},
    refusal::{Answer, Refusal},
};
pub(crate) use asked::Asked;
use attempt::{Attempt, Named};
use limit::{Alarm, Limits};
use refused::Refused;

/// The longest silence of an upstream where a rule sets no other.
const DEFAULT_IDLE: Duration = Duration::from_secs(300);

/// Holds a request against the limits of `rule`, if it has any, and serves it.
///
/// # Errors
/// A 429, or the most informative of the refusals.
pub(crate) async fn serve(
    ctx: &mut Ctx,
    rule: &Rule,
    asked: Asked<'_>,
    client_headers: HeaderMap,
) -> Result<Answer, Box<Refusal>> {
    if let Some(abort) = fault::inject(ctx, rule).await {
        let error = ApiError {
            status: abort.status,
            ..ApiError::new(ErrorKind::of_status(abort.status), fault::MESSAGE)
        };
        return Err(error.into());
    }
    if !meter::meters(rule) {
        return attempts(ctx, rule, asked, client_headers).await;
    }
    let told = meter::open(ctx, rule, asked, &client_headers).await?;
    let mut answer = attempts(ctx, rule, asked, client_headers).await;
    if let Some(told) = meter::told(ctx, told) {
        match &mut answer {
            Ok(answer) => meter::tell(told, &mut answer.headers),
            // A quota that has refused it says itself how little is left.
            Err(refusal) if exhausted(refusal) => {}
            Err(refusal) => meter::tell(told, &mut refusal.headers),
        }
    }
    answer
}

/// Tries the candidates of `rule` in turn and returns the first answer. One whose quota is used up is left out.
async fn attempts(
    ctx: &mut Ctx,
    rule: &Rule,
    asked: Asked<'_>,
    mut client_headers: HeaderMap,
) -> Result<Answer, Box<Refusal>> {
    // What a policy speaks of is kept beside the request; without one there is nothing to keep.
    let state = rule.traffic.is_some().then(|| Arc::clone(&ctx.state));
    let pooled = picking::pooled(rule);
    let mut order = match pooled {
        // Who is asked is not known yet.
        Some((candidate, ..)) => Order::Picked(candidate, Walk::new(0, None, false)),
        None => order(ctx, rule, state.as_deref(), asked, &client_headers)?,
    };
    let metadata = std::mem::take(&mut ctx.metadata);
    let luggage = ctx.state.credentials.names.take(&mut client_headers, metadata);
    let codings = client_headers.get(header::ACCEPT_ENCODING).cloned();
    headers::to_upstream(&mut client_headers, ctx.request_id());
    ctx.facts.tells_losses = lossy(rule) != Lossy::Untold;
    let holder = ctx.holder.take();
    let has_it = |candidate: &Candidate| {
        let backend = candidate.backend.as_ref().map(|backend| &backend.id);
        holder.as_ref().is_none_or(|holder| backend == Ok(holder))
    };
    if !rule.candidates.iter().any(has_it) {
        return Err(kept::held_elsewhere().into());
    }
    ctx.runtime.retries.deposit();
    let deadline = ctx.deadline(rule.timeouts.request);
    let mut alarm = Alarm::new(deadline);
    let attempt_at = |candidate, limits| Attempt {
        asked,
        candidate,
        headers: &client_headers,
        codings: codings.as_ref(),
        luggage: &luggage,
        limits,
        client: None,
        picked: None,
        refuses_filtered: false,
        refuses_losses: lossy(rule) == Lossy::Refused,
        names_as_client: naming(rule) == Naming::Client,
        is_one_of_several: rule.candidates.len() > 1,
    };
    let mut picked = None;
    if let Some((candidate, backend, picker)) = pooled {
        let asking = attempt_at(candidate, limits(ctx, rule, asked, deadline, false));
        let asked = Box::pin(picking::pick(ctx, &asking, (backend, picker), deadline));
        match asked.await? {
            Pick::Answer(answer) => {
                stopped(ctx, "the endpoint picker has answered");
                return Ok(answer);
            }
            Pick::Named(named) => {
                order = picked_order(ctx, rule, candidate, &named);
                picked = Some(named);
            }
        }
    }
    let mut worst: Option<Box<Refused>> = None;
    let mut exhausted = None;
    while let Some(choice) = order.next(&ctx.runtime.records) {
        if !has_it(choice.candidate) {
            order.leave_out(&choice);
            continue;
        }
        if choice.is_repeated && !ctx.runtime.retries.withdraw() {
            debug!(candidate = %choice.candidate.id, "retry budget is spent");
            stopped(ctx, "the retry budget is spent");
            break;
        }
        if let Err(refusal) = meter::attempt(ctx, rule, choice.candidate, asked, &client_headers).await {
            debug!(candidate = %choice.candidate.id, "quota is used up");
            order.leave_out(&choice);
            exhausted = Some(sooner(exhausted, refusal));
            continue;
        }
        let within = limits(ctx, rule, asked, deadline, order.has_more());
        let mut attempt = attempt_at(choice.candidate, within);
        if let (Some(picked), Some(walk)) = (picked.as_deref(), order.as_picked()) {
            wait(&mut alarm, walk, &within).await;
            let place = choice.place();
            attempt.client = picked.ways.get(place).map(|way| &way.client);
            attempt.picked = Some(Named { picked, place, walk });
        }
        let tried = match order.as_managed() {
            None => attempt.run(ctx, &mut alarm).await,
            Some(managed) => {
                let tried = managed::run(ctx, &mut alarm, managed, &choice, &mut attempt).await;
                managed::learn(ctx, managed, &choice, tried)
            }
        };
        let refused = match tried {
            Ok(answer) => return Ok(answer),
            Err(refused) => refused,
        };
        debug!(
            candidate = %choice.candidate.id,
            outcome = refused.cause.name(),
            status = refused.error.status.as_u16(),
            reason = refused.failure().reason,
            "attempt refused"
        );
        let goes_on = order.refused(&choice, refused.class(), refused.error.status);
        worst = Some(match worst {
            Some(before) if before.cause.tells_more_than(&refused.cause) => before,
            Some(_) | None => refused,
        });
        if !goes_on {
            stopped(ctx, "the refusal before it is final");
            break;
        }
        if !asked.is_whole() {
            stopped(ctx, "the form cannot be sent again");
            break;
        }
    }
    if let Some(refused) = &worst
        && let Some(document) = asked.without(&refused.error, &mut ctx.facts.losses)
    {
        return Ok(Answer::json(document));
    }
    told(ctx, worst, exhausted)
}

/// Returns whether a quota refuses a request, and tells the client what is left of it.
fn exhausted(refusal: &Refusal) -> bool {
    refusal.headers.contains_key(Told::HEADER)
}

/// Returns which of two refusals of quotas is over first: then somebody can serve the request.
fn sooner(one: Option<Box<Refusal>>, other: Box<Refusal>) -> Box<Refusal> {
    let wait = |refusal: &Refusal| refusal.error.retry_after.unwrap_or(u64::MAX);
    match one {
        Some(one) if wait(&one) <= wait(&other) => one,
        Some(_) | None => other,
    }
}

/// Returns what a client is told where nobody has answered: what the attempts came to, or else what kept them from being made.
fn told(
    ctx: &mut Ctx,
    worst: Option<Box<Refused>>,
    exhausted: Option<Box<Refusal>>,
) -> Result<Answer, Box<Refusal>> {
    let Some(refused) = worst else {
        return Err(
            exhausted.unwrap_or_else(|| ApiError::new(ErrorKind::Unavailable, "no healthy upstream").into())
        );
    };
    let Refused {
        cause,
        error,
        headers,
        answer,
    } = *refused;
    if let Some(kept) = answer {
        let (answer, attempted) = *kept;
        meter::brought_back(ctx, attempted);
        return Ok(answer);
    }
    ctx.facts.verdict = Some(match cause.is_own() {
        true => Verdict::Ours(cause.name()),
        false => Verdict::Theirs,
    });
    Err(Box::new(Refusal {
        error,
        headers,
        document: None,
    }))
}

/// Returns the order in which a request asks the endpoints that a picker has named.
fn picked_order<'a>(ctx: &mut Ctx, rule: &'a Rule, candidate: &'a Candidate, picked: &Picked) -> Order<'a> {
    let traffic = rule.traffic.as_deref();
    ctx.facts.tells_attempts = traffic.is_some_and(|traffic| traffic.tells_attempts);
    let once = ctx.wish.as_ref().is_some_and(Wish::declines);
    Order::Picked(candidate, Walk::new(picked.ways.len(), traffic, once))
}

/// Waits before an attempt that is a retry, as a policy says.
async fn wait(alarm: &mut Alarm, walk: Walk<'_>, limits: &Limits) {
    let retry = walk.attempts().saturating_sub(1);
    let policy = walk.traffic().and_then(|traffic| traffic.retry.as_ref());
    if let Some(policy) = policy.filter(|_| retry > 0) {
        let until = Instant::now() + policy.wait(retry, fastrand::f64());
        // Nothing comes of it but the time.
        let _ = alarm
            .limit(until.min(limits.total), std::future::pending::<()>())
            .await;
    }
}

/// Returns the order in which a request asks the candidates of `rule`.
fn order<'a>(
    ctx: &mut Ctx,
    rule: &'a Rule,
    state: Option<&'a State>,
    asked: Asked<'_>,
    headers: &HeaderMap,
) -> Result<Order<'a>, ApiError> {
    let wish = ctx.wish.as_ref();
    let (Some(traffic), Some(state)) = (&rule.traffic, state) else {
        return Ok(Order::usual(rule, wish));
    };
    ctx.facts.tells_attempts = traffic.tells_attempts;
    let query = ctx.facts.uri.query().unwrap_or_default();
    let affinity = Affinity::of(&traffic.balance, ctx.peer(), headers, query, || asked.opening());
    let managed = Managed::new(rule, traffic, &state.lanes, wish, affinity);
    let managed =
        managed.ok_or_else(|| ApiError::invalid("x-ai-eg-fallback names no backend or model of the rule"))?;
    Ok(Order::Managed(Box::new(managed)))
}

/// Returns what becomes of requests of which an upstream would not hear everything.
fn lossy(rule: &Rule) -> Lossy {
    let traffic = rule.traffic.as_deref();
    traffic.map(|traffic| traffic.lossy).unwrap_or_default()
}

/// Returns what answers call a model that the rule names.
fn naming(rule: &Rule) -> Naming {
    let traffic = rule.traffic.as_deref();
    traffic.map(|traffic| traffic.naming).unwrap_or_default()
}

/// Notes why no other candidate is tried.
fn stopped(ctx: &mut Ctx, why: &'static str) {
    if let Some(trail) = &mut ctx.facts.trail {
        trail.stopped = Some(why);
    }
}

/// Returns the limits of an attempt.
///
/// Where another candidate remains, half of the time is kept for it, so that a stall can still be mended.
fn limits(ctx: &Ctx, rule: &Rule, asked: Asked<'_>, deadline: Instant, has_more: bool) -> Limits {
    let now = Instant::now();
    let traffic = rule.traffic.as_deref();
    let longest = traffic.and_then(|traffic| traffic.max_stream);
    let total = longest.map_or(deadline, |longest| deadline.min(ctx.began + longest));
    let half = has_more.then(|| total.saturating_duration_since(now) / 2);
    let retry = traffic.and_then(|traffic| traffic.retry.as_ref()?.timeout);
    let first = traffic.and_then(|traffic| traffic.first_event);
    let first = first.filter(|_| asked.stream());
    let attempt = [rule.timeouts.attempt, retry, half, first]
        .into_iter()
        .flatten()
        .min();
    // A unary answer is silent until it is done, so that the limit on silence would be one on length.
    let idle = rule.timeouts.stream_idle.filter(|_| asked.stream());
    let idle = idle.unwrap_or(DEFAULT_IDLE);
    Limits {
        total,
        attempt: attempt.map_or(total, |attempt| total.min(now + attempt)),
        idle,
        first_idle: first.is_none().then_some(idle),
        keep_alive: ctx.runtime.options.keep_alive,
    }
}
