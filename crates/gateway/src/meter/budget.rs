//! What a streamed answer may still use, where a limit cuts off what goes on beyond it.
//!
//! What a request may cost was held when it arrived. As its answer grows beyond that, more is held, a step at a time
//! and ahead of what is said, without having the client wait: the answer goes on while the counters are asked. Where
//! nothing is left it ends with an error event.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use llm::{ApiError, ErrorKind, Observed, Usage};
use policy::rate_limit::Claims;

use super::{Meter, spent::prompt};
use crate::{
    Runtime,
    facts::Facts,
    limit::{Admitted, Denied},
};

/// For so many tokens more is held at a time.
const STEP: u64 = 256;

/// So many tokens before the end of what is held more is asked for: pieces of a stream hold several.
const AHEAD: u64 = 8;

/// What an answer may still use.
pub(crate) struct Budget {
    runtime: Arc<Runtime>,
    /// So many tokens may be said before it is looked at again.
    until: u64,
    asking: Option<Asking>,
}

type Asking = Pin<Box<dyn Future<Output = Result<Admitted, Denied>> + Send>>;

impl Budget {
    /// Returns the budget of an answer; `None` if no limit cuts it off.
    pub(crate) fn of(facts: &Facts) -> Option<Box<Self>> {
        let cuts = facts.meter.as_deref().is_some_and(Meter::cuts);
        cuts.then(|| {
            Box::new(Self {
                runtime: Arc::clone(facts.runtime()),
                until: 0,
                asking: None,
            })
        })
    }

    /// Looks at what was said; returns the error that the answer ends with if it may not go on.
    pub(crate) fn poll(
        &mut self,
        facts: &mut Facts,
        observed: &Observed,
        cx: &mut Context<'_>,
    ) -> Option<ApiError> {
        loop {
            if let Some(asking) = &mut self.asking {
                let Poll::Ready(answer) = asking.as_mut().poll(cx) else {
                    return None;
                };
                self.asking = None;
                match answer {
                    Ok(admitted) => widen(facts, admitted),
                    Err(denied) => return Some(cut_off(facts, &denied)),
                }
            }
            let said = observed.said.tokens().max(observed.usage.output.unwrap_or(0));
            if said.saturating_add(AHEAD) < self.until || observed.complete {
                return None;
            }
            self.until = said.saturating_add(STEP);
            let estimate = facts.meter.as_ref().map(|meter| meter.estimate);
            let most = estimate.and_then(|estimate| Some(estimate.of_answers(estimate.output?)));
            // Who says how long an answer may be is not sent a longer one: nothing is to be held beyond that.
            let until = most
                .filter(|most| *most >= said)
                .map_or(self.until, |most| most.min(self.until));
            let more = more(facts, &observed.usage, until);
            if more.is_empty() {
                return None;
            }
            let (runtime, now) = (Arc::clone(&self.runtime), facts.now());
            self.asking = Some(Box::pin(
                async move { runtime.limiter.admit(more, false, now).await },
            ));
        }
    }
}

/// Returns what has to be held beyond what is, for an answer that has used `usage` so far to go on to `output` tokens.
fn more(facts: &Facts, usage: &Usage, output: u64) -> Claims {
    let (Some(meter), Some(attempted)) = (&facts.meter, &facts.attempt) else {
        return Claims::default();
    };
    let usage = Usage {
        output: Some(output),
        ..prompt(*usage, meter.estimate)
    };
    let prices = meter.prices.as_deref();
    let spent = prices.and_then(|prices| prices.of(&attempted.model, &usage, facts.seconds));
    let subject = super::subject(facts, attempted, &usage, spent);
    let mut more = meter.ticket.more(&subject);
    more.append(meter.attempt.more(&subject));
    more
}

/// Notes what is held beyond what was.
fn widen(facts: &mut Facts, admitted: Admitted) {
    for rule in &admitted.unasked {
        facts.runtime().metrics.limited(rule, "open");
    }
    let rest = match &mut facts.meter {
        Some(meter) => {
            let rest = meter.ticket.widen(admitted.ticket);
            meter.attempt.widen(rest)
        }
        None => admitted.ticket,
    };
    facts.limiter().settle(rest, None, facts.now());
}

/// Returns what a client is told whose answer ends here because a limit is used up.
fn cut_off(facts: &Facts, denied: &Denied) -> ApiError {
    let metrics = &facts.runtime().metrics;
    match denied {
        Denied::Over {
            rule, retry_after, ..
        } => {
            metrics.limited(rule, "cut");
            let message =
                format!("the limit is used up and the answer cut off: try again in {retry_after} s");
            ApiError {
                retry_after: Some(*retry_after),
                ..ApiError::new(ErrorKind::RateLimit, message).with_code("rate_limit_exceeded")
            }
        }
        Denied::Unknown { rule } => {
            metrics.limited(rule, "unknown");
            super::unknown()
        }
    }
}
