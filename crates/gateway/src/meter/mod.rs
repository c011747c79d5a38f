//! What a request is charged for, and what it owes to limits.
//!
//! A metered request carries a [`Meter`] in its facts. Facts are emitted once, whatever becomes of the request, and
//! settle the meter then: there is no way out of a request that leads past its charge. What the upstream has not
//! counted is estimated, and the record says so.

pub(crate) mod budget;
mod spent;

use std::sync::Arc;

use config::snapshot::{Candidate, Rule};
use http::HeaderMap;
use llm::{ApiError, ErrorKind, Estimate, Usage};
use policy::{
    cost::{
        Costs, Subject,
        prices::{self, Money, Prices},
    },
    rate_limit::{Claims, Limits, Request, Ticket, Told, selector},
};
use tracing::debug;

use self::spent::{Spent, most, writes};
use crate::{
    ctx::Ctx,
    facts::{Attempted, Facts, Outcome},
    limit::{Admitted, Denied, tighter},
    llm::Asked,
    refusal::Refusal,
    telemetry::quotas::{Check, Decision},
};

/// How long something is held beyond the time that the request may take, in seconds.
const GRACE: u64 = 60;

/// The longest that something is held, in seconds.
const MAX_HOLD: u64 = 3600;

/// What a request owes, until it is known what it has cost.
#[derive(Default)]
pub(crate) struct Meter {
    costs: Option<Arc<Costs>>,
    estimate: Estimate,
    /// What is owed whoever serves the request.
    ticket: Ticket,
    /// What is owed if the upstream serves it that is being asked.
    attempt: Ticket,
    /// What the upstream that is being asked costs in money, where that is known.
    prices: Option<Arc<Prices>>,
    /// The prices of the answer that was kept back last.
    kept: Option<Arc<Prices>>,
    /// What the client is told of what is left of the quota of the upstream that is being asked.
    told: Option<Told>,
    /// Where quotas have led the request; `None` if none was asked.
    decision: Option<Decision>,
    /// Whether being asked is all that it is charged for, whatever comes of it.
    asked: bool,
}

/// What a request was charged.
#[derive(Debug, Default)]
pub(crate) struct Bill {
    /// Whether tokens were estimated.
    pub(crate) estimated: bool,
    /// The costs, by name.
    pub(crate) costs: Vec<(Arc<str>, u64)>,
    /// The costs whose expressions have failed, so that the tokens stand in for them.
    pub(crate) failed: Vec<Arc<str>>,
    /// What it has cost the quota of its backend's model; `None` without one.
    pub(crate) quota: Option<u64>,
    /// What it has cost in money; `None` where that is not known.
    pub(crate) charge: Option<Charge>,
}

/// What a request has cost in money.
#[derive(Debug)]
pub(crate) struct Charge {
    prices: Arc<Prices>,
    /// `None` where there are prices, but none for the model.
    pub(crate) spent: Option<prices::Spent>,
}

impl Charge {
    /// Returns the currency.
    pub(crate) fn currency(&self) -> &str {
        self.prices.currency()
    }
}

impl Bill {
    /// Returns what was spent, and in which currency.
    pub(crate) fn spent(&self) -> Option<(prices::Spent, &str)> {
        let charge = self.charge.as_ref()?;
        Some((charge.spent?, charge.currency()))
    }
}

/// Returns whether something about requests of `rule` is counted.
pub(crate) fn meters(rule: &Rule) -> bool {
    rule.costs.is_some()
        || rule.limits.is_some()
        || rule.prices.is_some()
        || rule
            .candidates
            .iter()
            .any(|candidate| quota(candidate).is_some() || own_prices(candidate).is_some())
}

/// Begins to meter a request, and holds it against the limits of `rule`. What the client is to be told of them is
/// returned.
///
/// # Errors
/// A 429 if a limit is used up; a 500 if it cannot be asked and fails closed.
pub(crate) async fn open(
    ctx: &mut Ctx,
    rule: &Rule,
    asked: Asked<'_>,
    headers: &HeaderMap,
) -> Result<Option<Told>, Box<Refusal>> {
    let estimate = asked.estimate();
    ctx.facts.meter = Some(Box::new(Meter {
        costs: rule.costs.clone(),
        estimate,
        ticket: Ticket::default(),
        attempt: Ticket::default(),
        prices: None,
        kept: None,
        told: None,
        decision: None,
        asked: false,
    }));
    let Some(limits) = &rule.limits else {
        return Ok(None);
    };
    hold(ctx, rule, limits, asked.model(), headers, estimate).await
}

/// Holds a request of which nothing is counted against the limits of `rule`. What the client is to be told of them is returned.
///
/// # Errors
/// Those of [`open`].
pub(crate) async fn open_uncounted(
    ctx: &mut Ctx,
    rule: &Rule,
    headers: &HeaderMap,
) -> Result<Option<Told>, Box<Refusal>> {
    let Some(limits) = &rule.limits else {
        return Ok(None);
    };
    ctx.facts.meter = Some(Box::new(Meter {
        asked: true,
        ..Meter::default()
    }));
    hold(ctx, rule, limits, "", headers, Estimate::default()).await
}

async fn hold(
    ctx: &mut Ctx,
    rule: &Rule,
    limits: &Limits,
    model: &str,
    headers: &HeaderMap,
    estimate: Estimate,
) -> Result<Option<Told>, Box<Refusal>> {
    let usage = expected(ctx, estimate);
    let mut claims = Claims::default();
    let now = ctx.facts.now();
    let (route, path) = (rule.id(), ctx.path());
    let request = request(
        ctx,
        rule,
        (&route, &path),
        (rule.candidates.first(), model),
        headers,
        &usage,
    );
    for limit in &limits.rules {
        limit.claim(&request, &mut claims);
    }
    let admitted = ctx.runtime.limiter.admit(claims, limits.tells, now).await;
    let admitted = admitted.map_err(|denied| refuse(ctx, denied, limits.tells))?;
    unasked(ctx, &admitted);
    if let Some(meter) = &mut ctx.facts.meter {
        meter.ticket = admitted.ticket;
    }
    Ok(admitted.told)
}

/// Holds an attempt against the quota of its backend. What was held for the attempt before is given back.
///
/// # Errors
/// A 429 if the quota is used up; a 500 if it cannot be asked and fails closed.
pub(crate) async fn attempt(
    ctx: &mut Ctx,
    rule: &Rule,
    candidate: &Candidate,
    asked: Asked<'_>,
    headers: &HeaderMap,
) -> Result<(), Box<Refusal>> {
    let now = ctx.facts.now();
    let Some(meter) = &mut ctx.facts.meter else {
        return Ok(());
    };
    let before = std::mem::take(&mut meter.attempt);
    meter.told = None;
    let usage = meter.estimate;
    ctx.runtime.limiter.settle(before, None, now);
    let Some((backend, quota)) = quota(candidate) else {
        meter.decision = meter.decision.map(Decision::pass);
        let model = candidate.model.as_deref().unwrap_or(asked.model());
        meter.prices = prices(rule, candidate, model).cloned();
        return Ok(());
    };
    let usage = expected(ctx, usage);
    let model = candidate.model.as_deref().unwrap_or(asked.model());
    // A quota is the same whatever rule and path led there: no key of one names them.
    let request = request(ctx, rule, ("", ""), (Some(candidate), model), headers, &usage);
    let claims = quota.claims(model, &request);
    let admitted = ctx.runtime.limiter.admit(claims, true, now).await;
    let check = match &admitted {
        Ok(admitted) if admitted.unasked.is_empty() => Check::Allowed,
        Err(Denied::Over { .. }) => Check::Exhausted,
        Ok(_) | Err(Denied::Unknown { .. }) => Check::Unknown,
    };
    let metrics = &ctx.runtime.metrics;
    metrics.quotas.check(backend, metrics.name(model), check);
    if let Some(meter) = &mut ctx.facts.meter {
        meter.decision = Some(match admitted {
            Ok(_) => meter.decision.map_or(Decision::First, Decision::pass),
            Err(_) => Decision::Exhausted,
        });
    }
    let admitted = admitted.map_err(|denied| refuse(ctx, denied, true))?;
    unasked(ctx, &admitted);
    if let Some(meter) = &mut ctx.facts.meter {
        meter.attempt = admitted.ticket;
        meter.told = admitted.told;
        meter.prices = prices(rule, candidate, model).cloned();
    }
    Ok(())
}

/// Charges the quota of an upstream whose answer is kept back: it has counted the answer, whoever's is told in the end.
pub(crate) fn kept_back(ctx: &mut Ctx) {
    let facts = &mut *ctx.facts;
    let (Some(meter), Some(attempted)) = (&mut facts.meter, &facts.attempt) else {
        return;
    };
    let ticket = std::mem::take(&mut meter.attempt);
    meter.kept.clone_from(&meter.prices);
    let usage = facts.usage;
    let spent = meter
        .kept
        .as_ref()
        .and_then(|prices| prices.of(&attempted.model, &usage, facts.seconds));
    let subject = subject(facts, attempted, &usage, spent);
    facts.limiter().settle(ticket, Some(&subject), facts.now());
}

/// Has an answer that was kept back be the one that the request is charged for: `attempted` was who gave it, and who was
/// asked after that has answered nothing.
pub(crate) fn brought_back(ctx: &mut Ctx, attempted: Attempted) {
    if let Some(meter) = &mut ctx.facts.meter {
        let ticket = std::mem::take(&mut meter.attempt);
        meter.prices = meter.kept.take();
        meter.told = None;
        ctx.runtime.limiter.settle(ticket, None, ctx.facts.now());
    }
    ctx.facts.attempt = Some(attempted);
}

/// Returns what the client of an answer is told, where so much is left of the limits of its rule: that, or what is left of
/// the quota of the upstream that has answered, if that is less.
pub(crate) fn told(ctx: &mut Ctx, of_limits: Option<Told>) -> Option<Told> {
    let meter = ctx.facts.meter.as_mut();
    tighter(of_limits, meter.and_then(|meter| meter.told.take()))
}

/// Puts what is left of limits into the headers of an answer.
pub(crate) fn tell(told: Told, headers: &mut HeaderMap) {
    for (name, value) in told.headers() {
        headers.insert(name, value);
    }
}

impl Meter {
    /// Returns whether an answer is cut off that goes on beyond what is held for it.
    pub(crate) fn cuts(&self) -> bool {
        self.ticket.cuts() || self.attempt.cuts()
    }

    /// Books what the request has cost.
    pub(crate) fn settle(self, facts: &Facts, outcome: Outcome) -> Bill {
        let Self {
            costs,
            estimate,
            ticket,
            attempt,
            prices,
            kept: _,
            told: _,
            decision,
            asked,
        } = self;
        if let Some((decision, route)) = decision.zip(facts.route.as_ref()) {
            facts.runtime().metrics.quotas.decided(route, decision);
        }
        let (usage, estimated) = match Spent::of(facts, outcome, estimate) {
            Spent::Nothing => (None, false),
            Spent::Known(usage) => (Some(usage), false),
            Spent::Estimated(usage) => (Some(usage), true),
        };
        let mut bill = Bill {
            estimated,
            ..Bill::default()
        };
        let (limiter, now) = (facts.limiter(), facts.now());
        if asked {
            limiter.settle(ticket, Some(&plain(facts)), now);
            return bill;
        }
        let Some((usage, attempted)) = usage.as_ref().zip(facts.attempt.as_ref()) else {
            limiter.settle(ticket, None, now);
            limiter.settle(attempt, None, now);
            return bill;
        };
        let spent = prices
            .as_deref()
            .and_then(|prices| prices.of(&attempted.model, usage, facts.seconds));
        let subject = subject(facts, attempted, usage, spent);
        limiter.settle(ticket, Some(&subject), now);
        bill.quota = attempt.costs(&subject);
        limiter.settle(attempt, Some(&subject), now);
        for (key, number, failure) in costs.iter().flat_map(|costs| costs.of(&subject)) {
            if let Some(failure) = failure {
                debug!(%key, %failure, "the tokens stand in for a cost");
                bill.failed.push(Arc::clone(key));
            }
            bill.costs.push((Arc::clone(key), number));
        }
        bill.charge = prices.map(|prices| Charge { prices, spent });
        bill
    }
}

/// Returns what an answer is charged for that has used `usage`, and so much money.
fn subject<'a>(
    facts: &'a Facts,
    attempted: &'a Attempted,
    usage: &'a Usage,
    spent: Option<prices::Spent>,
) -> Subject<'a> {
    Subject {
        model: &attempted.model,
        backend: &attempted.backend,
        reference: &attempted.reference,
        route: facts.route.as_deref().unwrap_or_default(),
        usage,
        money: spent.map_or_else(Money::default, |spent| spent.total),
    }
}

/// Returns such a request as what it is charged for: being asked, whatever came of it.
fn plain(facts: &Facts) -> Subject<'_> {
    Subject {
        model: "",
        backend: facts.upstream.as_deref().unwrap_or_default(),
        reference: "",
        route: facts.route.as_deref().unwrap_or_default(),
        usage: &NOTHING,
        money: Money::default(),
    }
}

/// No tokens.
const NOTHING: Usage = Usage {
    input: None,
    cache_read: None,
    cache_write: None,
    cache_write_hour: None,
    output: None,
    reasoning: None,
    search_units: None,
    tier: None,
};

/// Returns what a request is expected to use.
fn expected(ctx: &Ctx, estimate: Estimate) -> Usage {
    let writes = ctx
        .facts
        .endpoint
        .is_some_and(|endpoint| writes(endpoint.operation));
    Usage {
        input: Some(estimate.input),
        output: writes.then(|| most(estimate)),
        ..Usage::default()
    }
}

fn quota(candidate: &Candidate) -> Option<(&Arc<str>, &policy::quota::Quota)> {
    let backend = candidate.backend.as_ref().ok()?;
    Some((&backend.id, backend.quota.as_deref()?))
}

/// Returns the list that has prices for `model`: the backend's own, or else that of the Gateways. Where neither has any, the
/// backend's says so.
fn prices<'a>(rule: &'a Rule, candidate: &'a Candidate, model: &str) -> Option<&'a Arc<Prices>> {
    let own = own_prices(candidate);
    let usual = rule.prices.as_ref();
    match own {
        Some(own) if own.has(model) => Some(own),
        own => usual.filter(|usual| own.is_none() || usual.has(model)).or(own),
    }
}

fn own_prices(candidate: &Candidate) -> Option<&Arc<Prices>> {
    candidate.backend.as_ref().ok()?.prices.as_ref()
}

/// Returns the request as limits see it, should `candidate` serve it with that model.
fn request<'a>(
    ctx: &'a Ctx,
    rule: &'a Rule,
    (id, path): (&'a str, &'a str),
    (candidate, model): (Option<&'a Candidate>, &'a str),
    headers: &'a HeaderMap,
    usage: &'a Usage,
) -> Request<'a> {
    let facts = &ctx.facts;
    let now = facts.now();
    let limit = rule.timeouts.request.map_or(MAX_HOLD, |limit| limit.as_secs());
    let asked = candidate
        .and_then(|candidate| candidate.model.as_deref())
        .unwrap_or(model);
    let spent = candidate
        .and_then(|candidate| prices(rule, candidate, asked))
        .and_then(|prices| prices.of(asked, usage, None));
    Request {
        subject: selector::Subject {
            headers,
            model: facts.model.as_deref().unwrap_or_default(),
            method: &facts.method,
            path,
            query: facts.uri.query().unwrap_or_default(),
            address: Some(ctx.client(headers)),
            metadata: &ctx.metadata,
        },
        listener: ctx
            .listener()
            .and_then(|listener| listener.names.first())
            .map_or("", String::as_str),
        rule: id,
        costs: rule.costs.as_deref(),
        estimate: Subject {
            model: asked,
            backend: candidate
                .and_then(|candidate| candidate.backend.as_ref().ok())
                .map_or("", |backend| &backend.id),
            reference: candidate.map_or("", |candidate| &candidate.id),
            route: &rule.route,
            usage,
            money: spent.map_or_else(Money::default, |spent| spent.total),
        },
        now,
        // In steps, so that what many requests hold is one number for each step.
        due: (now + limit.saturating_add(GRACE).min(MAX_HOLD)).next_multiple_of(GRACE),
    }
}

/// Counts the rules that have let a request through because they could not be asked.
fn unasked(ctx: &Ctx, admitted: &Admitted) {
    for rule in &admitted.unasked {
        ctx.runtime.metrics.limited(rule, "open");
    }
}

/// Returns what a client is told where limits cannot be asked.
fn unknown() -> ApiError {
    ApiError::new(
        ErrorKind::Internal,
        "the limits of this route cannot be checked now",
    )
}

/// Returns what a client is told that is not let through.
fn refuse(ctx: &Ctx, denied: Denied, tells: bool) -> Box<Refusal> {
    let mut headers = HeaderMap::new();
    let error = match denied {
        Denied::Over {
            rule,
            retry_after,
            told,
        } => {
            ctx.runtime.metrics.limited(&rule, "over");
            if let Some(told) = told.filter(|_| tells) {
                tell(told, &mut headers);
            }
            ApiError {
                retry_after: Some(retry_after),
                ..ApiError::new(
                    ErrorKind::RateLimit,
                    format!("the limit is used up: try again in {retry_after} s"),
                )
                .with_code("rate_limit_exceeded")
            }
        }
        Denied::Unknown { rule } => {
            ctx.runtime.metrics.limited(&rule, "unknown");
            unknown()
        }
    };
    Box::new(Refusal {
        headers,
        ..*Box::<Refusal>::from(error)
    })
}
