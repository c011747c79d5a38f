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
    /// How often an ejection is forgotten.
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
    /// Ejections that are not forgotten yet.
    ejections: AtomicU32,
    /// Milliseconds until which the endpoint is left out; 0 if it is not.
    until: AtomicU64,
}

/// The longest ejection.
const MAX_EJECTION: Duration = Duration::from_secs(300);

impl Default for Passive {
    fn default() -> Self {
        Self {
            server_errors: 5,
            gateway_errors: 0,
            local_failures: 5,
            split: false,
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
        for counter in [&self.server_errors, &self.gateway_errors, &self.local_failures] {
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
