//! Limits: the stores of counters, and the decision over the claims of one request.

mod memory;
mod redis;
mod usage;

use std::{sync::Arc, time::Duration};

use policy::{
    cost::Subject,
    rate_limit::{
        Claims, Ticket, Told,
        store::{self, Counter, Entry, State, Store, Vote},
        switch::Failure,
    },
};
use tracing::debug;

pub(crate) use self::usage::Page;
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
            return Ok(self.hold(claims, tells, now, false).await?.keep());
        };
        let (local, shared) = claims.split();
        let held = self.hold(local, tells, now, !shared.is_empty()).await?;
        let also = Self::share(redis, shared, tells, now).await?;
        let mut admitted = held.keep();
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

    /// Returns the counters whose windows are open, by name: the first `most` after the name `after`.
    pub(crate) fn entries(&self, after: &str, most: usize, now: u64) -> Vec<Entry> {
        let mut entries = self.local.entries(after, most, now);
        if let Some(redis) = &self.shared {
            entries.extend(redis.entries(after, most, now));
        }
        store::first(entries, most, |one, other| one.counter.cmp(&other.counter))
    }

    /// Returns counters whose windows are open, among them the fullest of each rule.
    pub(crate) fn fullest(&self, now: u64) -> Vec<Entry> {
        let mut entries = self.local.fullest(now);
        let shared = self.shared.iter();
        entries.extend(shared.flat_map(|redis| redis.entries("", usize::MAX, now)));
        entries
    }

    /// Returns the store that all gateways share; without one, that of this gateway.
    fn shared(&self) -> &dyn Store {
        match &self.shared {
            Some(redis) => redis,
            None => &self.local,
        }
    }

    /// Decides what is asked of the store of this gateway. Where others are `asked` after it, what is held and used of it
    /// may be given back yet.
    async fn hold(&self, mut claims: Claims, tells: bool, now: u64, asked: bool) -> Result<Held<'_>, Denied> {
        let mut held = Held {
            limiter: self,
            admitted: Admitted::default(),
            used: Vec::new(),
            now,
        };
        let Some(states) = decide(&self.local, &mut claims, now).await? else {
            return Ok(held);
        };
        let unasked = unasked(&claims, Some(&states));
        if asked || unasked.is_err() {
            held.used = claims.used();
        }
        held.admitted.told = if tells { claims.told(&states, now) } else { None };
        held.admitted.ticket = claims.ticket();
        held.admitted.unasked = unasked?;
        Ok(held)
    }

    /// Decides what is asked of the store that all gateways share.
    async fn share(redis: &Redis, mut claims: Claims, tells: bool, now: u64) -> Result<Admitted, Denied> {
        let Some(states) = decide(redis, &mut claims, now).await? else {
            return Ok(Admitted {
                unasked: unasked(&claims, None)?,
                ..Admitted::default()
            });
        };
        let told = if tells { claims.told(&states, now) } else { None };
        let unasked = unasked(&claims, Some(&states));
        let ticket = claims.ticket();
        match unasked {
            Ok(unasked) => Ok(Admitted {
                ticket,
                told,
                unasked,
            }),
            Err(denied) => {
                // One server of several is away: what the others hold is given back.
                let (_, held) = ticket.settle(None, now);
                redis.settle(held, now);
                Err(denied)
            }
        }
    }
}

/// Returns the counters as `store` has them after `claims`; `None` if it cannot be asked.
async fn decide(store: &dyn Store, claims: &mut Claims, now: u64) -> Result<Option<Vec<State>>, Denied> {
    if claims.is_empty() {
        return Ok(Some(Vec::new()));
    }
    let states = match store.admit(&mut claims.claims, now).await {
        Ok(states) => states,
        Err(error) => {
            debug!(%error, "limits cannot be asked");
            return Ok(None);
        }
    };
    if store::decide(&claims.claims, states.iter().map(|state| state.over)) {
        Ok(Some(states))
    } else {
        Err(denied(claims, &states, now))
    }
}

/// What is held and was used in the store of this gateway. It is given back where another one refuses, and where nobody
/// waits for that one's answer any longer.
struct Held<'a> {
    limiter: &'a Limiter,
    admitted: Admitted,
    /// What was used at once.
    used: Vec<(Counter, u64)>,
    now: u64,
}

impl Held<'_> {
    /// Returns what the request is admitted with: nothing is given back but by its settlement.
    fn keep(mut self) -> Admitted {
        self.used.clear();
        std::mem::take(&mut self.admitted)
    }

    fn give_back(&mut self) {
        let ticket = std::mem::take(&mut self.admitted.ticket);
        self.limiter.settle(ticket, None, self.now);
        self.limiter.local.take_back(&self.used);
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

/// Returns of what less is left.
pub(crate) fn tighter(one: Option<Told>, other: Option<Told>) -> Option<Told> {
    match (one, other) {
        (Some(one), Some(other)) if one.remaining <= other.remaining => Some(one),
        (one, None) => one,
        (_, other) => other,
    }
}

#[cfg(test)]
mod tests;
