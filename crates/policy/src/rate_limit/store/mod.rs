//! What is asked of a store of counters, and the answer as arithmetic.
//!
//! A counter belongs to one window of one key. It knows what was used, and what is held for requests that are under
//! way. A request makes a claim on each counter that a rule finds for it; all of them are decided at once, so that
//! nothing is taken from one limit when another refuses. [`Ledger`] is the arithmetic; a store that several
//! processes share does the same where its counters are.

use std::{collections::HashMap, future::Future, pin::Pin, sync::Arc};

use super::window::Span;

/// A store of counters.
pub trait Store: Send + Sync {
    /// Decides the claims of one request, and books them if it is admitted.
    fn admit<'a>(&'a self, claims: &'a [Claim], now: u64) -> Admitting<'a>;

    /// Books what requests have cost in the end. Never waits: what cannot be booked now is booked later.
    fn settle(&self, settlements: Vec<Settlement>, now: u64);
}

/// The answer of a store: the counters as they are now, one for each claim.
pub type Admitting<'a> = Pin<Box<dyn Future<Output = Result<Vec<State>, StoreError>> + Send + 'a>>;

/// A store cannot answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It holds as many counters as it may.
    #[error("too many counters")]
    Full,
    /// It cannot be reached, or takes too long.
    #[error("the store of counters cannot be reached")]
    Unreachable,
}

/// What a request asks of one counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The counter, without its window.
    pub key: String,
    /// The window.
    pub span: Span,
    /// How much the window has.
    pub limit: u64,
    /// What is used at once.
    pub charge: u64,
    /// What is held until the request is settled.
    pub hold: u64,
    /// When what is held is given back if the request never is settled, in seconds since the Unix epoch.
    pub due: u64,
    /// How it is decided.
    pub manner: Manner,
    /// What the decision is worth.
    pub vote: Vote,
}

/// How a claim is decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manner {
    /// What the request will cost, as far as can be told, must be left. A request that is refused uses nothing.
    #[default]
    Reserve,
    /// It is used first and looked at then; refused requests count too. What an answer costs is used when it is
    /// there, so that requests that run at the same time do not see one another.
    Check,
}

/// What the decision of a claim is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vote {
    /// It must hold.
    Must,
    /// One of these must hold.
    Any,
    /// It is only counted.
    Never,
}

/// A counter, after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// What was used.
    pub used: u64,
    /// What is held.
    pub held: u64,
    /// Whether the claim does not hold.
    pub over: bool,
}

/// What a request has cost in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// The counter, without its window.
    pub key: String,
    /// The window.
    pub span: Span,
    /// What was held.
    pub release: u64,
    /// Until when it was held.
    pub due: u64,
    /// What is used in its place.
    pub charge: u64,
}

impl Claim {
    /// Returns the counter with its window.
    pub fn counter(&self) -> String {
        counter(&self.key, self.span)
    }

    /// Returns whether the claim does not hold on a counter that has `used` and `held`.
    pub fn is_over(&self, used: u64, held: u64) -> bool {
        let after = used.saturating_add(self.charge);
        match self.manner {
            Manner::Reserve => after.saturating_add(held).saturating_add(self.hold) > self.limit,
            Manner::Check => after > self.limit,
        }
    }
}

impl Settlement {
    /// Returns the counter with its window.
    pub fn counter(&self) -> String {
        counter(&self.key, self.span)
    }
}

fn counter(key: &str, span: Span) -> String {
    format!("{key}{}", span.start)
}

/// Returns whether a request is admitted, by its claims and whether each is over.
pub fn decide(claims: &[Claim], over: impl Iterator<Item = bool>) -> bool {
    let (mut any, mut one) = (false, false);
    for (claim, over) in claims.iter().zip(over) {
        match claim.vote {
            Vote::Must if over => return false,
            Vote::Any => {
                any = true;
                one |= !over;
            }
            Vote::Must | Vote::Never => {}
        }
    }
    !any || one
}

/// Counters in memory.
#[derive(Debug)]
pub struct Ledger {
    counters: HashMap<String, Counter>,
    max: usize,
    /// With this many counters those whose windows are over are forgotten.
    sweep_at: usize,
}

#[derive(Clone, Debug, Default)]
struct Counter {
    used: u64,
    /// What is held, by when it is given back.
    holds: Vec<(u64, u64)>,
    end: u64,
    /// What the window had when it was last asked.
    limit: u64,
}

/// A counter, for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The counter with its window.
    pub counter: Arc<str>,
    /// What was used.
    pub used: u64,
    /// What is held.
    pub held: u64,
    /// What the window has.
    pub limit: u64,
    /// When the window ends, in seconds since the Unix epoch.
    pub end: u64,
}

impl Ledger {
    /// Returns a ledger of at most `max` counters.
    pub fn new(max: usize) -> Self {
        Self {
            counters: HashMap::new(),
            max,
            sweep_at: FIRST_SWEEP.min(max),
        }
    }

    /// Decides the claims of one request, and books them if it is admitted.
    ///
    /// # Errors
    /// If there would be too many counters; nothing is booked then.
    pub fn admit(&mut self, claims: &[Claim], now: u64) -> Result<Vec<State>, StoreError> {
        let mut states = Vec::with_capacity(claims.len());
        let mut keys = Vec::with_capacity(claims.len());
        for claim in claims {
            let key = claim.counter();
            let state = match self.counters.get_mut(&key) {
                Some(counter) => counter.look(claim, now),
                None => Counter::default().look(claim, now),
            };
            states.push(state);
            keys.push(key);
        }
        let admitted = decide(claims, states.iter().map(|state| state.over));
        for ((claim, state), key) in claims.iter().zip(&mut states).zip(keys) {
            // Who only looks at a counter that is not there leaves none behind.
            let counts = claim.charge > 0 || (admitted && claim.hold > 0);
            if !counts || (!admitted && claim.manner == Manner::Reserve) {
                continue;
            }
            let counter = self.counter(key, claim, now)?;
            counter.used = counter.used.saturating_add(claim.charge);
            if admitted && claim.hold > 0 {
                counter.hold(claim.hold, claim.due);
            }
            state.used = counter.used;
            state.held = counter.held(now);
        }
        Ok(states)
    }

    /// Books what a request has cost in the end. A window that is forgotten is not opened again.
    pub fn settle(&mut self, settlement: &Settlement, now: u64) {
        let key = settlement.counter();
        if !self.counters.contains_key(&key) {
            let opens = settlement.charge > 0 && settlement.span.end > now;
            if !opens || self.make_room(now).is_err() {
                return;
            }
        }
        let counter = self.counters.entry(key).or_default();
        counter.end = settlement.span.end;
        counter.used = counter.used.saturating_add(settlement.charge);
        counter.release(settlement.release, settlement.due);
    }

    /// Returns the counters whose windows are not over, in order.
    pub fn entries(&mut self, now: u64) -> Vec<Entry> {
        let open = self.counters.iter_mut().filter(|(_, counter)| counter.end > now);
        let mut entries: Vec<Entry> = open
            .map(|(key, counter)| Entry {
                counter: key.as_str().into(),
                used: counter.used,
                held: counter.held(now),
                limit: counter.limit,
                end: counter.end,
            })
            .collect();
        entries.sort_by(|one, other| one.counter.cmp(&other.counter));
        entries
    }

    /// Returns how many counters there are.
    pub fn len(&self) -> usize {
        self.counters.len()
    }

    /// Returns whether there are no counters.
    pub fn is_empty(&self) -> bool {
        self.counters.is_empty()
    }

    fn counter(&mut self, key: String, claim: &Claim, now: u64) -> Result<&mut Counter, StoreError> {
        if !self.counters.contains_key(&key) {
            self.make_room(now)?;
        }
        let counter = self.counters.entry(key).or_default();
        counter.end = claim.span.end;
        counter.limit = claim.limit;
        Ok(counter)
    }

    /// Forgets windows that are over, from time to time.
    fn make_room(&mut self, now: u64) -> Result<(), StoreError> {
        if self.counters.len() >= self.sweep_at {
            self.counters
                .retain(|_, counter| counter.end > now || counter.held(now) > 0);
            self.sweep_at = (self.counters.len() * 2).clamp(FIRST_SWEEP.min(self.max), self.max);
        }
        if self.counters.len() >= self.max {
            return Err(StoreError::Full);
        }
        Ok(())
    }
}

impl Counter {
    fn look(&mut self, claim: &Claim, now: u64) -> State {
        let held = self.held(now);
        State {
            used: self.used,
            held,
            over: claim.is_over(self.used, held),
        }
    }

    /// Returns what is held, without what was due.
    fn held(&mut self, now: u64) -> u64 {
        self.holds.retain(|(due, _)| *due > now);
        self.holds.iter().map(|(_, amount)| *amount).sum()
    }

    fn hold(&mut self, amount: u64, due: u64) {
        match self.holds.iter_mut().find(|(known, _)| *known == due) {
            Some((_, held)) => *held += amount,
            None => self.holds.push((due, amount)),
        }
    }

    fn release(&mut self, amount: u64, due: u64) {
        if let Some((_, held)) = self.holds.iter_mut().find(|(known, _)| *known == due) {
            *held = held.saturating_sub(amount);
        }
        self.holds.retain(|(_, held)| *held > 0);
    }
}

/// With this many counters the first are forgotten.
const FIRST_SWEEP: usize = 1024;

#[cfg(test)]
mod tests;
