//! Counters of this process alone, in memory.

use std::sync::{Mutex, MutexGuard, PoisonError};

use policy::rate_limit::store::{Admitting, Claim, Counter, Entry, Ledger, Settlement, Store};

/// The most counters: each value that a rule tells apart has one.
pub(super) const MAX_COUNTERS: usize = 100_000;

/// Counters in memory. The lock is held for as long as it takes to add a few numbers.
#[derive(Debug)]
pub(crate) struct Memory(Mutex<Ledger>);

impl Memory {
    /// Returns the counters whose windows are open, by name: the first `most` after the name `after`.
    pub(crate) fn entries(&self, after: &str, most: usize, now: u64) -> Vec<Entry> {
        self.lock().entries(after, most, now)
    }

    /// Returns the fullest counter of each rule.
    pub(crate) fn fullest(&self, now: u64) -> Vec<Entry> {
        self.lock().fullest(now)
    }

    /// Gives back what was used of counters by a request that was refused then.
    pub(crate) fn take_back(&self, used: &[(Counter, u64)]) {
        if used.is_empty() {
            return;
        }
        let mut ledger = self.lock();
        for (counter, charge) in used {
            ledger.take_back(counter, *charge);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self(Mutex::new(Ledger::new(MAX_COUNTERS)))
    }
}

impl Store for Memory {
    fn admit<'a>(&'a self, claims: &'a mut [Claim], now: u64) -> Admitting<'a> {
        let states = self.lock().admit(claims, now);
        for (claim, _) in claims.iter_mut().zip(&states).filter(|(_, state)| state.unknown) {
            // Nothing is to be given back of a counter that comes to be meanwhile.
            (claim.charge, claim.hold) = (0, 0);
        }
        Admitting::Known(Some(Ok(states)))
    }

    fn settle(&self, settlements: Vec<Settlement>, now: u64) {
        let mut ledger = self.lock();
        for settlement in settlements {
            ledger.settle(&settlement, now);
        }
    }
}
