//! The candidates of a rule by chance, and how often one is asked again.

use std::{
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    time::Instant,
};

use config::snapshot::Candidate;

/// The candidates of a rule, each once: by priority, at random by weight within one.
pub(crate) struct Draw<'a> {
    left: Vec<&'a Candidate>,
}

/// How often the process may ask an upstream again that a request has asked before: a burst, refilled by time and
/// by requests. Without it a failing upstream would be asked several times as often as a healthy one. To ask
/// another upstream costs nothing: that is what it is there for.
#[derive(Debug)]
pub(crate) struct Budget {
    /// Thousandths of retries.
    free: AtomicI64,
    /// Milliseconds after `start` at which time was last paid for.
    paid: AtomicU64,
    start: Instant,
}

/// Thousandths of a retry that a request earns.
const PER_REQUEST: i64 = 200;

/// Thousandths of a retry that a millisecond earns: ten retries a second.
const PER_MILLISECOND: i64 = 10;

/// The most thousandths of retries that are saved up.
const BURST: i64 = 100_000;

impl<'a> Draw<'a> {
    pub(crate) fn new(candidates: &'a [Candidate]) -> Self {
        Self {
            left: candidates
                .iter()
                .filter(|candidate| candidate.weight > 0)
                .collect(),
        }
    }

    /// Returns whether another candidate is left.
    pub(crate) fn has_more(&self) -> bool {
        !self.left.is_empty()
    }

    fn draw(&mut self, random: impl FnOnce(u64) -> u64) -> Option<&'a Candidate> {
        let priority = self.left.iter().map(|candidate| candidate.priority).min()?;
        let of_priority = || {
            self.left
                .iter()
                .enumerate()
                .filter(|(_, candidate)| candidate.priority == priority)
        };
        let sum: u64 = of_priority()
            .map(|(_, candidate)| u64::from(candidate.weight))
            .sum();
        let mut drawn = if of_priority().nth(1).is_some() {
            random(sum)
        } else {
            0
        };
        let place = of_priority().find(|(_, candidate)| {
            let weight = u64::from(candidate.weight);
            let hit = drawn < weight;
            drawn = drawn.saturating_sub(weight);
            hit
        });
        let (place, _) = place?;
        Some(self.left.swap_remove(place))
    }
}

impl<'a> Iterator for Draw<'a> {
    type Item = &'a Candidate;

    fn next(&mut self) -> Option<&'a Candidate> {
        self.draw(|sum| fastrand::u64(..sum.max(1)))
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            free: AtomicI64::new(BURST),
            paid: AtomicU64::new(0),
            start: Instant::now(),
        }
    }
}

impl Budget {
    /// Notes a request, which earns a share of a retry.
    pub(crate) fn deposit(&self) {
        if self.free.load(Ordering::Relaxed) < BURST {
            self.free.fetch_add(PER_REQUEST, Ordering::Relaxed);
        }
    }

    /// Takes one retry out; returns whether there was one.
    pub(crate) fn withdraw(&self) -> bool {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.withdraw_at(now)
    }

    fn withdraw_at(&self, now: u64) -> bool {
        let passed = now.saturating_sub(self.paid.fetch_max(now, Ordering::Relaxed));
        let earned = i64::try_from(passed).unwrap_or(BURST).min(BURST) * PER_MILLISECOND;
        let taken = self
            .free
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| {
                let free = (free + earned).min(BURST) - 1000;
                Some(free).filter(|free| *free >= 0)
            });
        taken.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(id: &str, priority: u32, weight: u32) -> Candidate {
        Candidate {
            id: id.into(),
            weight,
            priority,
            model: None,
            headers: policy::headers::Headers::default(),
            body: policy::body::Body::default(),
            backend: Err(String::new()),
        }
    }

    /// Draws with `at` as the random number, reduced to the range.
    #[track_caller]
    fn check(candidates: &[(&str, u32, u32)], at: u64, expected: &[&str]) {
        let candidates: Vec<Candidate> = candidates
            .iter()
            .map(|(id, priority, weight)| candidate(id, *priority, *weight))
            .collect();
        let mut order = Draw::new(&candidates);
        let drawn: Vec<&str> = std::iter::from_fn(|| order.draw(|sum| at % sum))
            .map(|candidate| &*candidate.id)
            .collect();
        assert_eq!(drawn, expected);
    }

    #[test]
    fn candidates_come_by_priority_then_weight() {
        check(&[("b", 1, 1), ("a", 0, 1)], 0, &["a", "b"]);
        check(&[("a", 0, 1), ("b", 0, 3)], 0, &["a", "b"]);
        check(&[("a", 0, 1), ("b", 0, 3)], 1, &["b", "a"]);
        check(&[("a", 0, 0), ("b", 5, 1), ("c", 9, 0)], 7, &["b"]);
        check(&[("a", 0, 0)], 0, &[]);
        check(&[], 0, &[]);
    }

    #[test]
    fn weights_are_shares() {
        let candidates = [candidate("a", 0, 1), candidate("b", 0, 9)];
        let first = |_| {
            Draw::new(&candidates)
                .next()
                .map(|candidate| candidate.id.to_string())
        };
        let shares = (0..2000).filter_map(first).filter(|id| id == "a").count();
        assert!((100..320).contains(&shares), "{shares} of 2000");
    }

    #[test]
    fn retries_are_bounded_and_earned() {
        let budget = Budget::default();
        let burst = (0..1000).filter(|_| budget.withdraw_at(0)).count();
        assert_eq!(burst, 100);
        for _ in 0..10 {
            budget.deposit();
        }
        let earned = (0..10).filter(|_| budget.withdraw_at(0)).count();
        assert_eq!(earned, 2, "a fifth of a retry for each request");
        let in_a_second = (0..100).filter(|_| budget.withdraw_at(1000)).count();
        assert_eq!(in_a_second, 10);
    }
}
