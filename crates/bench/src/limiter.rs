//! What holding one request against a limit takes by itself, counted in memory: the claim, the decision, what the client
//! is told, and the settlement. No connection and no document is in the way, so that it is the limiter that is timed.

use std::{
    fs,
    hint::black_box,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use anyhow::{Context, ensure};
use http::{HeaderMap, HeaderValue, Method};
use llm::Usage;
use policy::{
    Metadata,
    cost::{self, Costs, prices::Money, spec::LLMRequestCost},
    rate_limit::{
        Claims, Limits, Request, Switches,
        selector::Subject,
        spec::RateLimit,
        store::{self, Ledger},
    },
};
use serde_json::json;

/// Requests of one round, and rounds, of which the median counts.
const REQUESTS: u32 = 20_000;
const ROUNDS: usize = 9;

/// Users whose requests are counted apart.
const USERS: usize = 64;

/// The most counters.
const COUNTERS: usize = 100_000;

/// Seconds since the Unix epoch; requests come at one time.
const NOW: u64 = 1_700_000_000;

/// Returns the processor time that a request takes, in the median of several rounds.
pub(crate) fn measure() -> anyhow::Result<Duration> {
    let limiter = Limiter::new()?;
    let mut rounds = Vec::with_capacity(ROUNDS);
    for _ in 0..=ROUNDS {
        let before = spent()?;
        for nth in 0..REQUESTS {
            limiter.request(nth as usize % USERS)?;
        }
        rounds.push(spent()?.saturating_sub(before) / REQUESTS);
    }
    // The first one has everything still to fetch.
    rounds.remove(0);
    rounds.sort_unstable();
    rounds.get(ROUNDS / 2).copied().context("rounds")
}

/// Returns the processor time of this thread.
fn spent() -> anyhow::Result<Duration> {
    let statistics = fs::read_to_string("/proc/thread-self/schedstat")?;
    let run = statistics.split_whitespace().next().context("a time")?;
    Ok(Duration::from_nanos(run.parse()?))
}

/// A limit on the tokens of each user, as the gateway holds it.
struct Limiter {
    limits: Limits,
    costs: Costs,
    ledger: Mutex<Ledger>,
    metadata: Metadata,
    users: Vec<HeaderMap>,
}

impl Limiter {
    fn new() -> anyhow::Result<Self> {
        let spec: RateLimit = serde_json::from_value(json!({"global": {"rules": [{
            "clientSelectors": [{"headers": [{"name": "x-user-id", "type": "Distinct"}]}],
            "limit": {"requests": 1_000_000_000_000_u64, "unit": "Hour"},
            "cost": {
                "request": {"from": "Number", "number": 0},
                "response": {
                    "from": "Metadata",
                    "metadata": {"namespace": "io.envoy.ai_gateway", "key": "tokens"},
                },
            },
        }]}}))?;
        let (limits, faults) = Limits::parse("default/limit", &spec, &Switches::default());
        ensure!(faults.is_empty(), "the limit is malformed: {faults:?}");
        let costs = json!([{"metadataKey": "tokens", "type": "TotalToken"}]);
        let costs: Vec<LLMRequestCost> = serde_json::from_value(costs)?;
        let user = |nth| -> anyhow::Result<HeaderMap> {
            let mut headers = HeaderMap::new();
            headers.insert("x-user-id", HeaderValue::try_from(format!("user-{nth}"))?);
            Ok(headers)
        };
        Ok(Self {
            limits,
            costs: Costs::parse(&costs, &[]).0,
            ledger: Mutex::new(Ledger::new(COUNTERS)),
            metadata: Metadata::new(),
            users: (0..USERS).map(user).collect::<Result<_, _>>()?,
        })
    }

    fn request(&self, user: usize) -> anyhow::Result<()> {
        let expected = usage(100);
        let request = Request {
            subject: Subject {
                headers: self.users.get(user).context("a user")?,
                model: "gpt-4o",
                method: &Method::POST,
                path: "/v1/chat/completions",
                query: "",
                address: None,
                metadata: &self.metadata,
            },
            listener: "default/gateway/http",
            rule: "default/route/rule/0",
            costs: Some(&self.costs),
            estimate: subject(&expected),
            now: NOW,
            due: NOW + 60,
        };
        let mut claims = Claims::default();
        for rule in &self.limits.rules {
            rule.claim(&request, &mut claims);
        }
        let states = self.ledger()?.admit(&claims.claims, NOW);
        let over = states.iter().map(|state| state.over);
        ensure!(store::decide(&claims.claims, over), "the limit is used up");
        black_box(claims.told(&states, NOW).map(|told| told.headers()));
        let used = usage(40);
        let (local, shared) = claims.ticket().settle(Some(&subject(&used)), NOW);
        for settlement in local.iter().chain(&shared) {
            self.ledger()?.settle(settlement, NOW);
        }
        Ok(())
    }

    fn ledger(&self) -> anyhow::Result<MutexGuard<'_, Ledger>> {
        self.ledger.lock().ok().context("no panic")
    }
}

fn usage(output: u64) -> Usage {
    Usage {
        input: Some(20),
        output: Some(output),
        ..Usage::default()
    }
}

fn subject(usage: &Usage) -> cost::Subject<'_> {
    cost::Subject {
        model: "gpt-4o",
        backend: "default/openai",
        reference: "default/openai/route/route/rule/0/ref/0",
        route: "default/route",
        usage,
        money: Money::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_timed_is_counted() {
        let limiter = Limiter::new().expect("a limit");
        for nth in 0..3 * USERS {
            limiter.request(nth % USERS).expect("admitted");
        }
        let entries = limiter.ledger().expect("no panic").entries("", usize::MAX, NOW);
        assert_eq!(entries.len(), USERS);
        assert!(entries.iter().all(|entry| (entry.used, entry.held) == (180, 0)));
    }
}
