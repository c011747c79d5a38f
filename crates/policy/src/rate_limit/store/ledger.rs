//! Counters in memory: the arithmetic that every store does.

use std::{collections::HashMap, sync::Arc};

use super::{Claim, Manner, Settlement, State, StoreError, decide, granted};

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
    /// Until when it is needed.
    kept: u64,
    /// What the window had when it was last asked.
    limit: u64,
    rule: Option<Arc<str>>,
}

/// A counter, for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The rule that counts.
    pub rule: Arc<str>,
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
            let (used, held) = self.look(&key, now);
            let before = claim.counter_before().map(|key| self.look(&key, now));
            let before = before.map_or(0, |(used, held)| used.saturating_add(held));
            states.push(State {
                used,
                held,
                before,
                granted: 0,
                over: claim.is_over(claim.taken(used, held, before, now)),
            });
            keys.push(key);
        }
        let admitted = decide(claims, states.iter().map(|state| state.over));
        for ((claim, state), key) in claims.iter().zip(&mut states).zip(keys) {
            let ahead = if admitted {
                let taken = claim.taken(state.used, state.held, state.before, now);
                granted(claim, claim.left(taken))
            } else {
                0
            };
            // Who only looks at a counter that is not there leaves none behind.
            let counts = claim.charge > 0 || (admitted && claim.hold > 0);
            if !counts || (!admitted && claim.manner == Manner::Reserve) {
                continue;
            }
            let counter = self.counter(key, claim, now)?;
            counter.used = counter.used.saturating_add(claim.charge);
            if admitted && claim.hold.saturating_add(ahead) > 0 {
                counter.hold(claim.hold.saturating_add(ahead), claim.due);
            }
            state.used = counter.used;
            state.held = counter.held(now);
            state.granted = ahead;
        }
        Ok(states)
    }

    /// Books what a request has cost in the end. A window that is forgotten is not opened again.
    pub fn settle(&mut self, settlement: &Settlement, now: u64) {
        let key = settlement.counter();
        if let Some(counter) = self.counters.get_mut(&key) {
            return counter.settle(settlement);
        }
        let opens = settlement.charge > 0 && settlement.span.end > now;
        if opens && self.make_room(now).is_ok() {
            let mut counter = Counter {
                rule: Some(Arc::clone(&settlement.rule)),
                limit: settlement.limit,
                end: settlement.span.end,
                kept: settlement.span.start.saturating_add(settlement.kept()),
                ..Counter::default()
            };
            counter.settle(settlement);
            self.counters.insert(key, counter);
        }
    }

    /// Returns the counters whose windows are not over, in order.
    pub fn entries(&mut self, now: u64) -> Vec<Entry> {
        let open = self.counters.iter_mut().filter(|(_, counter)| counter.end > now);
        let mut entries: Vec<Entry> = open
            .map(|(key, counter)| Entry {
                rule: counter.rule.clone().unwrap_or_default(),
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

    /// Returns what was used and is held of a counter.
    fn look(&mut self, key: &str, now: u64) -> (u64, u64) {
        let counter = self.counters.get_mut(key);
        counter.map_or((0, 0), |counter| (counter.used, counter.held(now)))
    }

    fn counter(&mut self, key: String, claim: &Claim, now: u64) -> Result<&mut Counter, StoreError> {
        if self.counters.len() >= self.sweep_at && !self.counters.contains_key(&key) {
            self.make_room(now)?;
        }
        let counter = self.counters.entry(key).or_default();
        counter.rule = Some(Arc::clone(&claim.rule));
        counter.end = claim.span.end;
        counter.kept = claim.span.start.saturating_add(claim.kept());
        counter.limit = claim.limit;
        Ok(counter)
    }

    /// Forgets windows that are over, from time to time.
    fn make_room(&mut self, now: u64) -> Result<(), StoreError> {
        if self.counters.len() >= self.sweep_at {
            self.counters
                .retain(|_, counter| counter.kept > now || counter.held(now) > 0);
            self.sweep_at = (self.counters.len() * 2).clamp(FIRST_SWEEP.min(self.max), self.max);
        }
        if self.counters.len() >= self.max {
            return Err(StoreError::Full);
        }
        Ok(())
    }
}

impl Counter {
    fn settle(&mut self, settlement: &Settlement) {
        self.used = self.used.saturating_add(settlement.charge);
        self.release(settlement.release, settlement.due);
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
