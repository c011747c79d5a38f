//! Limits: the stores of counters, and the decision over the claims of one request.

mod memory;
mod redis;

use std::{sync::Arc, time::Duration};

use policy::{
    cost::Subject,
    rate_limit::{
        Claims, Ticket, Told,
        store::{self, Entry, State, Store, Vote},
        switch::Failure,
    },
};
use serde_json::{Value, json};
use tracing::debug;

use self::{memory::Memory, redis::Redis};
use crate::redis::Dialer;

/// The stores of counters.
#[derive(Default)]
pub(crate) struct Limiter {
    local: Memory,
    shared: Option<Redis>,
}

/// A request that its limits let through.
#[derive(Default)]
pub(crate) struct Admitted {
    pub(crate) ticket: Ticket,
    /// What the client is told of what is left.
    pub(crate) told: Option<Told>,
    /// The ids of the rules whose counters could not be asked.
    pub(crate) unasked: Vec<Arc<str>>,
}

/// A request that a limit does not let through.
pub(crate) enum Denied {
    /// A limit is used up.
    Over {
        /// The rule's id.
        rule: String,
        /// Seconds after which it begins anew.
        retry_after: u64,
        /// What the client is told of what is left.
        told: Option<Told>,
    },
    /// The counters of a rule that fails closed cannot be asked, or the rule could not be read.
    Unknown {
        /// The rule's id.
        rule: String,
    },
}

impl Limiter {
    /// Returns the stores; the one that all gateways share is where `redis` connects to, if there is one.
    pub(crate) fn start(redis: Option<Arc<Dialer>>) -> Self {
        Self {
            local: Memory::default(),
            shared: redis.map(Redis::start),
        }
    }

    /// Waits until everything that was used is booked, for at most `limit`.
    pub(crate) async fn flush(&self, limit: Duration) {
        if let Some(redis) = &self.shared {
            redis.flush(limit).await;
        }
    }

    /// Returns whether the store that all gateways share answers; `None` without one.
    pub(crate) fn answers(&self) -> Option<bool> {
        self.shared.as_ref().map(Redis::answers)
    }

    /// Decides the claims of one request. What it is admitted with has to be settled. Whether it is told what is
    /// left, should it be admitted, is in `tells`.
    ///
    /// # Errors
    /// If a limit is used up, or cannot be asked and fails closed.
    pub(crate) async fn admit(&self, claims: Claims, tells: bool, now: u64) -> Result<Admitted, Denied> {
        if let Some(rule) = &claims.unread {
            let rule = rule.to_string();
            return Err(Denied::Unknown { rule });
        }
        if claims.is_empty() {
            return Ok(Admitted::default());
        }
        let Some(redis) = &self.shared else {
            return Self::ask(&self.local, claims, tells, now).await;
        };
        let (local, shared) = claims.split();
        let mut local = Held {
            limiter: self,
            admitted: Self::ask(&self.local, local, tells, now).await?,
            now,
        };
        let also = Self::ask(redis, shared, tells, now).await?;
        let mut admitted = std::mem::take(&mut local.admitted);
        admitted.ticket.append(also.ticket);
        admitted.told = tighter(admitted.told, also.told);
        admitted.unasked.extend(also.unasked);
        Ok(admitted)
    }

    /// Books what a request has cost, nothing if it was not served.
    pub(crate) fn settle(&self, ticket: Ticket, spent: Option<&Subject<'_>>, now: u64) {
        if ticket.is_empty() {
            return;
        }
        let (local, shared) = ticket.settle(spent, now);
        for (store, settlements) in [(&self.local as &dyn Store, local), (self.shared(), shared)] {
            if !settlements.is_empty() {
                store.settle(settlements, now);
            }
        }
    }

    /// Returns the counters whose windows are open.
    pub(crate) fn entries(&self, now: u64) -> Vec<Entry> {
        let mut entries = self.local.entries(now);
        entries.extend(self.shared.iter().flat_map(|redis| redis.entries(now)));
        entries
    }

    /// Returns the store that all gateways share; without one, that of this gateway.
    fn shared(&self) -> &dyn Store {
        match &self.shared {
            Some(redis) => redis,
            None => &self.local,
        }
    }

    async fn ask(store: &dyn Store, mut claims: Claims, tells: bool, now: u64) -> Result<Admitted, Denied> {
        if claims.is_empty() {
            return Ok(Admitted::default());
        }
        let states = match store.admit(&mut claims.claims, now).await {
            Ok(states) => states,
            Err(error) => {
                debug!(%error, "limits cannot be asked");
                return Ok(Admitted {
                    unasked: unasked(&claims, None)?,
                    ..Admitted::default()
                });
            }
        };
        if !store::decide(&claims.claims, states.iter().map(|state| state.over)) {
            return Err(denied(&claims, &states, now));
        }
        let unasked = unasked(&claims, Some(&states));
        let told = if tells { claims.told(&states, now) } else { None };
        let ticket = claims.ticket();
        match unasked {
            Ok(unasked) => Ok(Admitted {
                ticket,
                told,
                unasked,
            }),
            Err(denied) => {
                let (mut held, shared) = ticket.settle(None, now);
                held.extend(shared);
                store.settle(held, now);
                Err(denied)
            }
        }
    }
}

/// What is held in one store while the other is asked. It is given back where that one refuses, and where nobody waits
/// for its answer any longer.
struct Held<'a> {
    limiter: &'a Limiter,
    admitted: Admitted,
    now: u64,
}

impl Held<'_> {
    fn give_back(&mut self) {
        let ticket = std::mem::take(&mut self.admitted.ticket);
        self.limiter.settle(ticket, None, self.now);
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.give_back();
    }
}

fn denied(claims: &Claims, states: &[State], now: u64) -> Denied {
    let (retry_after, rule) = match claims.refused(states, now) {
        Some((retry_after, rule)) => (retry_after, rule.to_string()),
        None => (1, String::new()),
    };
    Denied::Over {
        rule,
        retry_after,
        told: claims.told(states, now),
    }
}

/// Returns the ids of the rules that let a request through whose counters cannot be asked: those that `states` says so
/// of, or all of them without any.
fn unasked(claims: &Claims, states: Option<&[State]>) -> Result<Vec<Arc<str>>, Denied> {
    let is_unknown =
        |place: usize| states.is_none_or(|states| states.get(place).is_some_and(|state| state.unknown));
    let asked = claims.claims.iter().zip(&claims.askers).enumerate();
    let mut rules = Vec::new();
    for (_, (claim, asker)) in asked.filter(|(place, _)| is_unknown(*place)) {
        // What only counts refuses nobody.
        if asker.failure == Failure::Closed && claim.vote != Vote::Never {
            let rule = claim.rule.to_string();
            return Err(Denied::Unknown { rule });
        }
        rules.push(Arc::clone(&claim.rule));
    }
    Ok(rules)
}

/// Returns the counters as a document.
pub(crate) fn usage(limiter: &Limiter, now: u64) -> Value {
    let entries = limiter.entries(now);
    let entries = entries.iter().map(|entry| {
        json!({
            "rule": entry.rule,
            "counter": entry.counter,
            "used": entry.used,
            "held": entry.held,
            "limit": entry.limit,
            "remaining": entry.limit.saturating_sub(entry.used.saturating_add(entry.held)),
            "resets": entry.end,
        })
    });
    let mut usage = json!({ "counters": entries.collect::<Vec<_>>() });
    if let Some(answers) = limiter.answers() {
        usage["redis"] = json!({ "answers": answers });
    }
    usage
}

/// Returns of what less is left.
pub(crate) fn tighter(one: Option<Told>, other: Option<Told>) -> Option<Told> {
    match (one, other) {
        (Some(one), Some(other)) if one.remaining <= other.remaining => Some(one),
        (one, None) => one,
        (_, other) => other,
    }
}
