//! How long and how much a connection is used, and until when it is kept while nothing is asked on it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use config::intake::Intake;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout_at},
};

/// How long a connection is kept on which nothing is asked, where no policy says how long. Longer than the idle limits of
/// load balancers, which must not find a connection closed that they just chose.
pub(super) const IDLE: Duration = Duration::from_secs(3600);

/// Where no policy bounds a connection, it is looked at so many times within [`IDLE`], and no request reads a clock for it.
const LOOKS: u32 = 8;

/// How long the end of the last answer may still be on its way out.
const LAST_WRITE: Duration = Duration::from_secs(1);

/// How much a connection is used.
#[derive(Debug)]
pub(crate) struct Usage {
    began: Instant,
    /// Whether a policy bounds the connection, to the moment.
    is_bounded: bool,
    idle: Duration,
    lifetime: Option<Duration>,
    requests: Option<u32>,
    served: AtomicU32,
    open: AtomicU32,
    /// When the last request was done, in milliseconds since the beginning.
    done: AtomicU64,
    is_old: AtomicBool,
    /// Goes off when a request is done.
    freed: Notify,
}

/// A request under way on a connection.
#[derive(Debug)]
pub(crate) struct UnderWay(Arc<Usage>);

impl Usage {
    /// Returns how much a new connection is used, within what `intake` says of that.
    pub(super) fn of(intake: Option<&Intake>) -> Arc<Self> {
        let (idle, lifetime, requests) = intake.map_or((None, None, None), |intake| {
            (intake.idle, intake.lifetime, intake.requests)
        });
        Arc::new(Self {
            began: Instant::now(),
            is_bounded: idle.is_some() || lifetime.is_some() || requests.is_some(),
            idle: idle.unwrap_or(IDLE),
            lifetime,
            requests,
            served: AtomicU32::new(0),
            open: AtomicU32::new(0),
            done: AtomicU64::new(0),
            is_old: AtomicBool::new(false),
            freed: Notify::new(),
        })
    }

    /// Notes that a request has come.
    pub(crate) fn enter(self: &Arc<Self>) -> UnderWay {
        self.served.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
        UnderWay(Arc::clone(self))
    }

    /// Returns whether the connection has been used for long enough.
    pub(crate) fn is_up(&self) -> bool {
        let served = self.served.load(Ordering::Relaxed);
        self.is_old.load(Ordering::Relaxed) || self.requests.is_some_and(|requests| served >= requests)
    }

    /// Waits until the connection carries nothing and has been idle, or used, for long enough.
    pub(super) async fn ended(&self) {
        if self.is_bounded {
            self.used_up().await;
        } else {
            self.unused().await;
        }
    }

    /// Waits until nothing was asked for long enough, and for one look longer at most.
    async fn unused(&self) {
        let (mut served, mut looks) = (0, 0);
        while looks <= LOOKS {
            sleep(self.idle / LOOKS).await;
            let before = std::mem::replace(&mut served, self.served.load(Ordering::Relaxed));
            let is_free = self.open.load(Ordering::Relaxed) == 0;
            looks = if is_free && served == before { looks + 1 } else { 0 };
        }
    }

    /// Waits until the bounds of a policy are met.
    async fn used_up(&self) {
        loop {
            let now = Instant::now();
            let old = self.lifetime.map(|lifetime| self.began + lifetime);
            if old.is_some_and(|old| now >= old) {
                self.is_old.store(true, Ordering::Relaxed);
            }
            let is_free = self.open.load(Ordering::Relaxed) == 0;
            let done = self.began + Duration::from_millis(self.done.load(Ordering::Relaxed));
            let idle = done + self.idle;
            let up = self.is_up().then(|| done + LAST_WRITE);
            let end = Some(up.map_or(idle, |up| idle.min(up))).filter(|_| is_free);
            if end.is_some_and(|end| now >= end) {
                return;
            }
            let old = old.filter(|old| now < *old);
            match end.into_iter().chain(old).min() {
                // Whether a request was done meanwhile shows at the next turn.
                Some(next) => drop(timeout_at(next, self.freed.notified()).await),
                None => self.freed.notified().await,
            }
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let Self(usage) = self;
        if usage.is_bounded {
            let now = u64::try_from(usage.began.elapsed().as_millis()).unwrap_or(u64::MAX);
            usage.done.store(now, Ordering::Relaxed);
        }
        usage.open.fetch_sub(1, Ordering::Relaxed);
        if usage.is_bounded {
            usage.freed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long a connection is kept on which a request was under way from `begin` to `end`.
    async fn kept(intake: Option<&Intake>, (begin, end): (u64, u64)) -> Duration {
        let (usage, start) = (Usage::of(intake), Instant::now());
        let request = async {
            sleep(Duration::from_secs(begin)).await;
            let _under_way = usage.enter();
            sleep(Duration::from_secs(end - begin)).await;
        };
        tokio::join!(usage.ended(), request);
        start.elapsed() - Duration::from_secs(end)
    }

    #[tokio::test(start_paused = true)]
    async fn connections_are_kept_for_an_hour_of_silence() {
        let hour = Duration::from_secs(3600);
        for request in [(0, 1), (0, 7200), (1000, 1000), (449, 451), (3000, 9000)] {
            let kept = kept(None, request).await;
            assert!(
                kept >= hour && kept <= hour + 2 * hour / LOOKS,
                "{request:?} {kept:?}"
            );
        }
        // Nothing was ever asked.
        let start = Instant::now();
        Usage::of(None).ended().await;
        assert!(start.elapsed() >= hour && start.elapsed() <= hour + hour / LOOKS);
    }

    #[tokio::test(start_paused = true)]
    async fn a_policy_says_for_how_long_to_the_moment() {
        let intake = Intake {
            idle: Some(Duration::from_secs(5)),
            ..Intake::default()
        };
        for request in [(0, 1), (2, 100), (3, 4)] {
            assert_eq!(
                kept(Some(&intake), request).await,
                Duration::from_secs(5),
                "{request:?}"
            );
        }
    }
}
