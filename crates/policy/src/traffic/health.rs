//! Which endpoints are left out because of how requests to them fare.
//!
//! Counters are atomic, so that no request waits for another; a count that races with another one is off by
//! one for a moment, which nobody can tell from the requests having come in another order.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

/// When an endpoint is left out, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passive {
    /// Statuses from 500 in a row; 0 for none. Failures of connections are among them unless `split`.
    pub server_errors: u32,
    /// Statuses 502, 503 and 504 in a row; 0 for none. Failures of connections are among them unless `split`.
    pub gateway_errors: u32,
    /// Failures of connections in a row, where they are counted apart; 0 for none.
    pub local_failures: u32,
    /// Whether failures of connections are counted apart from answers.
    pub split: bool,
    /// Failures of any kind among the attempts of one interval, in percent, where there are [`LEAST_ATTEMPTS`].
    pub share: Option<u32>,
    /// How often an ejection is forgotten, and how long shares are counted for.
    pub interval: Duration,
    /// How long the first ejection lasts.
    pub base: Duration,
    /// How many of the endpoints may be left out, in percent.
    pub max_percent: u32,
    /// Whether one may be left out whatever the percentage says.
    pub always_one: bool,
}

/// How an attempt fared, as far as its endpoint's health is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fared {
    /// It was answered.
    Well,
    /// Status 502, 503 or 504.
    GatewayError,
    /// Another status from 500.
    ServerError,
    /// The connection could not be made or broke, or nothing was said in time.
    LocalFailure,
}

/// What is remembered of an endpoint's failures.
#[derive(Debug, Default)]
pub struct Outlier {
    server_errors: AtomicU32,
    gateway_errors: AtomicU32,
    local_failures: AtomicU32,
    /// Attempts of the interval that began at `began`, in milliseconds, and how many have failed.
    began: AtomicU64,
    attempts: AtomicU32,
    failures: AtomicU32,
    /// Ejections that are not forgotten yet.
    ejections: AtomicU32,
    /// Milliseconds until which the endpoint is left out; 0 if it is not.
    until: AtomicU64,
}

/// Of fewer attempts no share is taken.
pub const LEAST_ATTEMPTS: u32 = 50;

/// The longest ejection.
const MAX_EJECTION: Duration = Duration::from_secs(300);

impl Default for Passive {
    fn default() -> Self {
        Self {
            server_errors: 5,
            gateway_errors: 0,
            local_failures: 5,
            split: false,
            share: None,
            interval: Duration::from_secs(3),
            base: Duration::from_secs(30),
            max_percent: 10,
            always_one: false,
        }
    }
}

impl Passive {
    /// Returns whether another endpoint may be left out where `ejected` of `all` are.
    pub fn permits(&self, ejected: usize, all: usize) -> bool {
        let within = (ejected + 1) * 100 <= all * usize::try_from(self.max_percent).unwrap_or(100);
        within || (self.always_one && ejected == 0)
    }
}

impl Outlier {
    /// Notes how an attempt fared; returns whether the endpoint is to be left out.
    pub fn note(&self, fared: Fared, passive: &Passive) -> bool {
        let reached = |counter: &AtomicU32, limit: u32| {
            let count = counter.fetch_add(1, Ordering::Relaxed).saturating_add(1);
            limit > 0 && count >= limit
        };
        let forget = |counters: &[&AtomicU32]| {
            for counter in counters {
                counter.store(0, Ordering::Relaxed);
            }
        };
        let Self {
            server_errors,
            gateway_errors,
            local_failures,
            ..
        } = self;
        match fared {
            Fared::Well => {
                forget(&[server_errors, gateway_errors, local_failures]);
                false
            }
            Fared::LocalFailure if passive.split => reached(local_failures, passive.local_failures),
            Fared::LocalFailure | Fared::GatewayError => {
                if fared == Fared::GatewayError {
                    forget(&[local_failures]);
                }
                let gateway = reached(gateway_errors, passive.gateway_errors);
                reached(server_errors, passive.server_errors) || gateway
            }
            Fared::ServerError => {
                forget(&[gateway_errors, local_failures]);
                reached(server_errors, passive.server_errors)
            }
        }
    }

    /// Notes how an attempt fared that ended at `now`, in milliseconds; returns whether so many fail that the endpoint is to
    /// be left out.
    pub fn fails_too_often(&self, fared: Fared, passive: &Passive, now: u64) -> bool {
        let Some(share) = passive.share else {
            return false;
        };
        let began = self.began.load(Ordering::Relaxed);
        let is_over = now.saturating_sub(began) >= millis(passive.interval);
        let turn = |began| {
            let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
            self.began.compare_exchange(began, now, set, fetch)
        };
        if is_over && turn(began).is_ok() {
            self.attempts.store(0, Ordering::Relaxed);
            self.failures.store(0, Ordering::Relaxed);
        }
        let failed = u32::from(fared != Fared::Well);
        let failures = self.failures.fetch_add(failed, Ordering::Relaxed) + failed;
        let attempts = self.attempts.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let (failures, attempts) = (u64::from(failures), u64::from(attempts));
        attempts >= u64::from(LEAST_ATTEMPTS) && failures * 100 >= attempts * u64::from(share)
    }

    /// Leaves the endpoint out from `now` on, in milliseconds, each time for longer; returns until when.
    pub fn eject(&self, now: u64, passive: &Passive) -> u64 {
        let last = self.until.load(Ordering::Relaxed);
        let forgotten = now
            .saturating_sub(last)
            .checked_div(millis(passive.interval))
            .unwrap_or(0);
        let before = u64::from(self.ejections.load(Ordering::Relaxed)).saturating_sub(forgotten);
        let count = u32::try_from(before).unwrap_or(u32::MAX).saturating_add(1);
        let time = passive
            .base
            .saturating_mul(count)
            .min(MAX_EJECTION.max(passive.base));
        let until = now + millis(time).max(1);
        self.ejections.store(count, Ordering::Relaxed);
        self.until.store(until, Ordering::Relaxed);
        let in_a_row = [&self.server_errors, &self.gateway_errors, &self.local_failures];
        for counter in in_a_row.into_iter().chain([&self.attempts, &self.failures]) {
            counter.store(0, Ordering::Relaxed);
        }
        until
    }

    /// Returns until when the endpoint is left out, or was the last time; 0 if never.
    pub fn until(&self) -> u64 {
        self.until.load(Ordering::Relaxed)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Passive = Passive {
        server_errors: 3,
        gateway_errors: 2,
        local_failures: 2,
        split: false,
        share: None,
        interval: Duration::from_secs(1),
        base: Duration::from_secs(10),
        max_percent: 50,
        always_one: false,
    };

    /// Checks at which step of a course the endpoint is left out.
    #[track_caller]
    fn check(course: &str, passive: Passive, expected: Option<usize>) {
        let outlier = Outlier::default();
        let left_out = course.chars().position(|step| {
            let fared = match step {
                '.' => Fared::Well,
                'g' => Fared::GatewayError,
                's' => Fared::ServerError,
                _ => Fared::LocalFailure,
            };
            outlier.note(fared, &passive)
        });
        assert_eq!(left_out, expected, "{course}");
    }

    #[test]
    fn failures_in_a_row_count() {
        let split = Passive { split: true, ..GRACE };
        check("sss", GRACE, Some(2));
        check("ss.ss.", GRACE, None);
        check("gg", GRACE, Some(1));
        check("gsg", GRACE, Some(2));
        check("g.g.", GRACE, None);
        check("ll", GRACE, Some(1));
        check("ll", split, Some(1));
        check("lsl", split, None);
        let lenient = Passive {
            server_errors: 0,
            gateway_errors: 0,
            ..GRACE
        };
        check("sssggglll", lenient, None);
    }

    /// Checks after how many attempts, of which every `nth` is answered, an endpoint is left out.
    #[track_caller]
    fn check_share(share: Option<u32>, nth: usize, pace: u64, expected: Option<usize>) {
        let outlier = Outlier::default();
        let passive = Passive { share, ..GRACE };
        let left_out = (1..=200).position(|attempt: usize| {
            let fared = match attempt % nth {
                0 => Fared::Well,
                _ => Fared::ServerError,
            };
            let now = u64::try_from(attempt).expect("small") * pace;
            outlier.fails_too_often(fared, &passive, now)
        });
        assert_eq!(left_out.map(|at| at + 1), expected, "{share:?} {nth} {pace}");
    }

    #[test]
    fn a_share_of_failures_counts_among_enough_attempts() {
        check_share(None, 100, 1, None);
        check_share(Some(85), 100, 1, Some(50));
        check_share(Some(85), 10, 1, Some(50));
        check_share(Some(85), 2, 1, None);
        check_share(Some(50), 2, 1, Some(50));
        check_share(Some(0), 1, 1, Some(50));
        // The counts of an interval end with it: there are 40 attempts in each.
        check_share(Some(85), 100, 25, None);
    }

    #[test]
    fn ejections_grow_and_are_forgotten() {
        let outlier = Outlier::default();
        assert_eq!(outlier.eject(0, &GRACE), 10_000);
        assert_eq!(outlier.eject(10_000, &GRACE), 30_000);
        assert_eq!(outlier.eject(30_000, &GRACE), 60_000);
        assert_eq!(outlier.eject(62_000, &GRACE), 82_000, "two intervals have passed");
        assert_eq!(outlier.eject(1_000_000, &GRACE), 1_010_000);
        for _ in 0..100 {
            outlier.eject(2_000_000, &GRACE);
        }
        assert_eq!(outlier.until(), 2_300_000, "never longer than five minutes");
    }

    #[test]
    fn the_share_of_the_ejected_is_bounded() {
        let check = |percent, always, ejected, all| {
            let passive = Passive {
                max_percent: percent,
                always_one: always,
                ..GRACE
            };
            passive.permits(ejected, all)
        };
        assert!(!check(10, false, 0, 2), "a tenth of two is none");
        assert!(check(10, true, 0, 2));
        assert!(!check(10, true, 1, 2));
        assert!(check(50, false, 0, 2));
        assert!(!check(50, false, 1, 2));
        assert!(check(100, false, 1, 2));
    }
}
