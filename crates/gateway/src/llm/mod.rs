//! Serves a model request: attempts over a rule's candidates until one answers.

mod asked;
mod attempt;
mod limit;
mod refused;
pub(crate) mod reply;
pub(crate) mod retry;
pub(crate) mod upload;

use std::time::Duration;

use config::snapshot::Rule;
use http::HeaderMap;
use llm::{ApiError, ErrorKind};
use tokio::time::Instant;
use tracing::debug;

use crate::{
    ctx::Ctx,
    headers,
    refusal::{Answer, Refusal},
};
pub(crate) use asked::Asked;
use attempt::Attempt;
use limit::{Alarm, Limits};
use refused::Refused;
use retry::{Next, Order};

/// The longest silence of an upstream where a rule sets no other.
const DEFAULT_IDLE: Duration = Duration::from_secs(300);

/// Tries the candidates of `rule` in turn and returns the first answer.
///
/// # Errors
/// The most informative of the refusals.
pub(crate) async fn serve(
    ctx: &mut Ctx,
    rule: &Rule,
    asked: Asked<'_>,
    mut client_headers: HeaderMap,
) -> Result<Answer, Box<Refusal>> {
    let metadata = std::mem::take(&mut ctx.metadata);
    let luggage = ctx.state.credentials.names.take(&mut client_headers, metadata);
    headers::to_upstream(&mut client_headers, ctx.request_id());
    ctx.facts.route = Some(rule.route.as_str().into());
    ctx.runtime.retries.deposit();
    let deadline = ctx.deadline(rule.timeouts.request);
    let mut alarm = Alarm::new(deadline);
    let mut order = Order::new(&rule.candidates);
    let mut worst: Option<Box<Refused>> = None;
    let mut again = None;
    while let Some(candidate) = again.take().or_else(|| order.next()) {
        if worst.is_some() && !ctx.runtime.retries.withdraw() {
            debug!(candidate = %candidate.id, "retry budget is spent");
            stopped(ctx, "the retry budget is spent");
            break;
        }
        let attempt = Attempt {
            asked,
            candidate,
            headers: &client_headers,
            luggage: &luggage,
            limits: limits(ctx, rule, asked, deadline, order.has_more()),
        };
        let refused = match attempt.run(ctx, &mut alarm).await {
            Ok(answer) => return Ok(answer),
            Err(refused) => refused,
        };
        debug!(
            candidate = %candidate.id,
            outcome = refused.cause.name(),
            error = %refused.error,
            "attempt refused"
        );
        let next = refused.cause.next();
        if next == Next::Same && !order.has_more() && ctx.facts.attempts == 1 {
            again = Some(candidate);
        }
        worst = Some(match worst {
            Some(before) if before.cause.tells_more_than(&refused.cause) => before,
            Some(_) | None => refused,
        });
        if next == Next::No {
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
    Err(match worst {
        Some(refused) => {
            let Refused { error, headers, .. } = *refused;
            Box::new(Refusal {
                error,
                headers,
                document: None,
            })
        }
        None => ApiError::new(ErrorKind::Unavailable, "no healthy upstream").into(),
    })
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
    let half = has_more.then(|| deadline.saturating_duration_since(now) / 2);
    let attempt = [rule.timeouts.attempt, half].into_iter().flatten().min();
    // A unary answer is silent until it is done, so that the limit on silence would be one on length.
    let idle = rule.timeouts.stream_idle.filter(|_| asked.stream());
    Limits {
        total: deadline,
        attempt: attempt.map_or(deadline, |attempt| deadline.min(now + attempt)),
        idle: idle.unwrap_or(DEFAULT_IDLE),
        keep_alive: ctx.runtime.options.keep_alive,
    }
}
