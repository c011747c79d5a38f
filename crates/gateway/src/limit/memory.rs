//! Counters of this process alone, in memory.

use std::sync::{Mutex, MutexGuard, PoisonError};

use policy::rate_limit::store::{Admitting, Claim, Entry, Ledger, Settlement, Store};

/// The most counters: each value that a rule tells apart has one.
const MAX_COUNTERS: usize = 100_000;

/// Counters in memory. The lock is held for as long as it takes to add a few numbers.
#[derive(Debug)]
pub(crate) struct Memory(Mutex<Ledger>);

impl Memory {
    /// Returns the counters whose windows are open, in order.
    pub(crate) fn entries(&self, now: u64) -> Vec<Entry> {
        let mut entries = self.lock().entries(now);
        // Requests do not wait for this.
        entries.sort_unstable_by(|one, other| one.counter.cmp(&other.counter));
        entries
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
            claim.hold = 0;
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
