//! What a process takes ahead of counters that it shares with others.
//!
//! Where a counter is asked for often, the process asks for more than a request wants, and the requests after it are
//! served from that without asking. The lease is held like what requests are expected to cost, under the same due
//! time, so that the limit of all processes together holds as it does without leases, and what a process takes with
//! it when it dies is given back as its requests are. A lease lasts for [`LIFE`] and never takes more than a small
//! part of what is left, so that others are refused too early by little, and near the limit not at all.

use std::collections::HashMap;

use super::{Claim, Manner, Settlement, State};

/// How long a lease lasts, in seconds.
pub const LIFE: u64 = 2;

/// The most requests that a lease is taken for.
const MAX_AHEAD: u64 = 1024;

/// The most counters whose demand is watched.
const MAX_WATCHED: usize = 10_000;

/// The leases of a process.
#[derive(Debug, Default)]
pub struct Leases(HashMap<String, Watched>);

/// A counter that has been asked for, and what is held of it.
#[derive(Debug)]
struct Watched {
    /// When the requests began to be counted that have asked since.
    since: u64,
    asked: u64,
    /// How many asked in the time before.
    before: u64,
    /// When more was asked for ahead, of which nobody knows yet whether it was granted.
    asking: Option<u64>,
    lease: Option<Lease>,
}

#[derive(Debug)]
struct Lease {
    /// What is left, as it would be given back.
    rest: Settlement,
    until: u64,
    /// The counter as it was when the lease was granted.
    state: State,
}

impl Leases {
    /// Decides the claims of a request by what is leased, all or none; returns the counters as far as they are
    /// known, and what is to be booked. `None` if the store has to be asked.
    pub fn admit(&mut self, claims: &[Claim], now: u64) -> Option<(Vec<State>, Vec<Settlement>)> {
        let covered = claims.iter().all(|claim| {
            let lease = self.lease(claim.counter.name(), now);
            lease.is_some_and(|lease| lease.covers(claim))
        });
        if !covered {
            return None;
        }
        let (mut states, mut booked) = (Vec::with_capacity(claims.len()), Vec::new());
        for claim in claims {
            let counter = claim.counter.name();
            let state = self.lease(counter, now).map(|lease| lease.take(claim));
            states.push(state.unwrap_or_default());
            if claim.charge > 0 {
                booked.push(claim.booked(claim.charge, claim.charge));
            }
            self.watch(counter, now);
        }
        Some((states, booked))
    }

    /// Says in `claims` how much is to be taken ahead.
    pub fn ask(&mut self, claims: &mut [Claim], now: u64) {
        for claim in claims {
            let asked = self.watch(claim.counter.name(), now);
            let ahead = match claim.manner {
                Manner::Reserve => claim.asks().saturating_mul(asked.min(MAX_AHEAD)),
                Manner::Check => 0,
            };
            claim.ahead = if ahead > 0 && self.begin(claim.counter.name(), now) {
                ahead
            } else {
                0
            };
        }
    }

    /// Returns whether nobody asks for more of the counter now, and notes that somebody does: of many requests that come at
    /// the same time each would be granted its part of what is left, until next to nothing is. An answer that is lost is
    /// waited for as long as a lease lasts.
    fn begin(&mut self, counter: &str, now: u64) -> bool {
        let Some(watched) = self.0.get_mut(counter) else {
            return false;
        };
        let free = watched.asking.is_none_or(|since| since + LIFE <= now);
        if free {
            watched.asking = Some(now);
        }
        free
    }

    /// Keeps what was granted; what of it cannot be used is returned.
    #[must_use = "it is held until it is due"]
    pub fn keep(&mut self, claim: &Claim, state: &State, now: u64) -> Option<Settlement> {
        if claim.ahead > 0
            && let Some(watched) = self.0.get_mut(claim.counter.name())
        {
            watched.asking = None;
        }
        if state.granted == 0 {
            return None;
        }
        let new = Lease {
            rest: claim.booked(state.granted, 0),
            until: now + LIFE,
            state: *state,
        };
        let Some(watched) = self.0.get_mut(claim.counter.name()) else {
            return Some(new.rest);
        };
        match watched.lease.replace(new) {
            Some(old) if old.rest.release > 0 => Some(old.rest),
            Some(_) | None => None,
        }
    }

    /// Forgets what has ended at `now`; what is left of it is returned.
    #[must_use = "it is held until it is due"]
    pub fn end(&mut self, now: u64) -> Vec<Settlement> {
        let mut rests = Vec::new();
        self.0.retain(|_, watched| {
            if let Some(old) = watched.lease.take_if(|lease| lease.until <= now)
                && old.rest.release > 0
            {
                rests.push(old.rest);
            }
            watched.lease.is_some() || watched.since + 2 * LIFE > now
        });
        rests
    }

    fn lease(&mut self, counter: &str, now: u64) -> Option<&mut Lease> {
        let lease = self.0.get_mut(counter)?.lease.as_mut();
        lease.filter(|lease| lease.until > now)
    }

    /// Counts a request, and returns how many there were lately.
    fn watch(&mut self, counter: &str, now: u64) -> u64 {
        let Some(watched) = self.0.get_mut(counter) else {
            if self.0.len() < MAX_WATCHED {
                let first = Watched {
                    since: now,
                    asked: 1,
                    before: 0,
                    asking: None,
                    lease: None,
                };
                self.0.insert(counter.to_owned(), first);
            }
            return 0;
        };
        if now >= watched.since + LIFE {
            let recent = now < watched.since + 2 * LIFE;
            watched.before = if recent { watched.asked } else { 0 };
            (watched.since, watched.asked) = (now, 0);
        }
        let lately = watched.asked.max(watched.before);
        watched.asked += 1;
        lately
    }
}

impl Lease {
    /// Returns whether `claim` can be served from what is left.
    fn covers(&self, claim: &Claim) -> bool {
        let Settlement {
            due, limit, release, ..
        } = &self.rest;
        claim.manner == Manner::Reserve
            && (claim.due, claim.limit) == (*due, *limit)
            && (1..=*release).contains(&claim.asks())
    }

    /// Takes what `claim` wants, and returns the counter as far as it is known.
    fn take(&mut self, claim: &Claim) -> State {
        self.rest.release = self.rest.release.saturating_sub(claim.asks());
        self.state.used = self.state.used.saturating_add(claim.charge);
        State {
            granted: 0,
            over: false,
            ..self.state
        }
    }
}

#[cfg(test)]
mod tests;
