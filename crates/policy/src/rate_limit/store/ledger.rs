//! Counters in memory: the arithmetic that every store does.

use std::{cmp::Ordering, collections::HashMap, sync::Arc};

use indexmap::IndexMap;

use super::{Claim, Counter, Manner, Settlement, State, decide, granted};

/// Counters in memory.
#[derive(Debug)]
pub struct Ledger {
    /// By name. A request finds the place of each of its counters once.
    counters: IndexMap<String, Count>,
    max: usize,
    /// With this many counters those whose windows are over are forgotten.
    sweep_at: usize,
    /// When they were looked for last.
    swept: Option<u64>,
}

#[derive(Clone, Debug, Default)]
struct Count {
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
            counters: IndexMap::new(),
            max,
            sweep_at: FIRST_SWEEP.min(max),
            swept: None,
        }
    }

    /// Decides the claims of one request, and books them if it is admitted. Those that there is no room for are not
    /// known to hold or not, and take no part: who finds names for ever more counters is held against the others all
    /// the same.
    pub fn admit(&mut self, claims: &[Claim], now: u64) -> Vec<State> {
        let mut states = Vec::with_capacity(claims.len());
        let mut places = Vec::with_capacity(claims.len());
        for claim in claims {
            let (place, (used, held)) = self.look(&claim.counter, now);
            let before = claim.counter_before().map(|counter| self.look(&counter, now));
            let before = before.map_or(0, |(_, (used, held))| used.saturating_add(held));
            states.push(State {
                used,
                held,
                before,
                over: claim.is_over(claim.taken(used, held, before, now)),
                ..State::default()
            });
            places.push(place);
        }
        let admitted = decide(claims, states.iter().map(|state| state.over));
        // Who only looks at a counter that is not there leaves none behind.
        let books = |claim: &Claim| match claim.manner {
            Manner::Reserve => admitted && claim.asks() > 0,
            Manner::Check => claim.charge > 0 || (admitted && claim.hold > 0),
        };
        let asked = claims.iter().zip(&places);
        let new = asked
            .filter(|(claim, place)| place.is_none() && books(claim))
            .count();
        let mut room = true;
        if new > 0 {
            if self.forget(new, now) {
                let place = |claim: &Claim| self.counters.get_index_of(claim.counter.name());
                places = claims.iter().map(place).collect();
            }
            room = self.counters.len() + new <= self.max;
        }
        for ((claim, state), place) in claims.iter().zip(&mut states).zip(places) {
            if !room && place.is_none() && books(claim) {
                state.unknown = true;
                continue;
            }
            let booked = if books(claim) {
                self.count(place, claim)
            } else {
                None
            };
            let Some(count) = booked else {
                continue;
            };
            let ahead = if admitted {
                let taken = claim.taken(state.used, state.held, state.before, now);
                granted(claim, claim.left(taken))
            } else {
                0
            };
            count.used = count.used.saturating_add(claim.charge);
            if admitted && claim.hold.saturating_add(ahead) > 0 {
                count.hold(claim.hold.saturating_add(ahead), claim.due);
            }
            state.used = count.used;
            state.held = count.held(now);
            state.granted = ahead;
        }
        states
    }

    /// Books what a request has cost in the end. A window that is forgotten is not opened again.
    pub fn settle(&mut self, settlement: &Settlement, now: u64) {
        let Counter { span, .. } = settlement.counter;
        if let Some(count) = self.counters.get_mut(settlement.counter.name()) {
            return count.settle(settlement);
        }
        if settlement.charge == 0 || span.end <= now {
            return;
        }
        self.forget(1, now);
        if self.counters.len() < self.max {
            let mut count = Count {
                rule: Some(Arc::clone(&settlement.rule)),
                limit: settlement.limit,
                end: span.end,
                kept: span.start.saturating_add(settlement.kept()),
                ..Count::default()
            };
            count.settle(settlement);
            self.counters.insert(settlement.counter.name().to_owned(), count);
        }
    }

    /// Gives back what was used of a counter by a request that another store has refused.
    pub fn take_back(&mut self, counter: &Counter, charge: u64) {
        if let Some(count) = self.counters.get_mut(counter.name()) {
            count.used = count.used.saturating_sub(charge);
        }
    }

    /// Returns the counters whose windows are not over, by name: the first `most` of those that come after the name `after`.
    pub fn entries(&mut self, after: &str, most: usize, now: u64) -> Vec<Entry> {
        let open = self.counters.iter_mut();
        let open = open.filter(|(name, count)| count.end > now && name.as_str() > after);
        let open = first(open.collect(), most, |(one, _), (other, _)| one.cmp(other));
        let open = open.into_iter().map(|(name, count)| count.entry(name, now));
        open.collect()
    }

    /// Returns the fullest counter of each rule, of those whose windows are not over.
    pub fn fullest(&mut self, now: u64) -> Vec<Entry> {
        let mut fullest: HashMap<Option<Arc<str>>, (f64, usize)> = HashMap::new();
        for (place, count) in self.counters.values_mut().enumerate() {
            if count.end <= now {
                continue;
            }
            let taken = count.used.saturating_add(count.held(now));
            let full = taken as f64 / count.limit.max(1) as f64;
            match fullest.get_mut(&count.rule) {
                Some(known) if known.0 >= full => {}
                Some(known) => *known = (full, place),
                None => drop(fullest.insert(count.rule.clone(), (full, place))),
            }
        }
        let mut entries = Vec::with_capacity(fullest.len());
        for (_, place) in fullest.into_values() {
            let found = self.counters.get_index_mut(place);
            entries.extend(found.map(|(name, count)| count.entry(name, now)));
        }
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

    /// Returns the place of a counter, and what was used and is held of it.
    fn look(&mut self, counter: &Counter, now: u64) -> (Option<usize>, (u64, u64)) {
        match self.counters.get_full_mut(counter.name()) {
            Some((place, _, count)) => (Some(place), (count.used, count.held(now))),
            None => (None, (0, 0)),
        }
    }

    /// Returns the counter of `claim`, which is at `place` or else new.
    fn count(&mut self, place: Option<usize>, claim: &Claim) -> Option<&mut Count> {
        let count = match place {
            Some(place) => self.counters.get_index_mut(place)?.1,
            None => self.counters.entry(claim.counter.name().to_owned()).or_default(),
        };
        let Counter { span, .. } = claim.counter;
        if !count
            .rule
            .as_ref()
            .is_some_and(|rule| Arc::ptr_eq(rule, &claim.rule))
        {
            count.rule = Some(Arc::clone(&claim.rule));
        }
        count.end = span.end;
        // Windows of several lengths may begin with the same second.
        count.kept = count.kept.max(span.start.saturating_add(claim.kept()));
        count.limit = claim.limit;
        Some(count)
    }

    /// Forgets windows that are over, from time to time and at most once a second, where `new` counters are to come.
    /// Returns whether any were looked for, so that counters have other places.
    fn forget(&mut self, new: usize, now: u64) -> bool {
        let sweeps = self.counters.len() + new > self.sweep_at && self.swept != Some(now);
        if sweeps {
            self.swept = Some(now);
            self.counters
                .retain(|_, count| count.kept > now || count.held(now) > 0);
            self.sweep_at = (self.counters.len() * 2).clamp(FIRST_SWEEP.min(self.max), self.max);
        }
        sweeps
    }
}

impl Count {
    fn entry(&mut self, name: &str, now: u64) -> Entry {
        Entry {
            rule: self.rule.clone().unwrap_or_default(),
            counter: name.into(),
            used: self.used,
            held: self.held(now),
            limit: self.limit,
            end: self.end,
        }
    }

    fn settle(&mut self, settlement: &Settlement) {
        self.used = self.used.saturating_add(settlement.charge);
        self.release(settlement.release, settlement.due);
    }

    /// Returns what is held, without what was due.
    fn held(&mut self, now: u64) -> u64 {
        self.holds.retain(|(due, _)| *due > now);
        let amounts = self.holds.iter().map(|(_, amount)| *amount);
        amounts.fold(0, u64::saturating_add)
    }

    fn hold(&mut self, amount: u64, due: u64) {
        match self.holds.iter_mut().find(|(known, _)| *known == due) {
            Some((_, held)) => *held = held.saturating_add(amount),
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

/// Returns the first `most` of `items`, in order.
pub fn first<T>(mut items: Vec<T>, most: usize, order: impl Fn(&T, &T) -> Ordering) -> Vec<T> {
    if most < items.len() {
        items.select_nth_unstable_by(most, &order);
        items.truncate(most);
    }
    items.sort_unstable_by(order);
    items
}

/// With this many counters the first are forgotten.
const FIRST_SWEEP: usize = 1024;
