//! How long and how much a connection is used, where a policy bounds it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use config::intake::Intake;
use tokio::time::{Instant, sleep_until};

/// How often it is looked whether the last request of a connection that is to end is done.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How much a connection is used.
#[derive(Debug)]
pub(crate) struct Usage {
    began: Instant,
    idle: Option<Duration>,
    lifetime: Option<Duration>,
    requests: Option<u32>,
    served: AtomicU32,
    open: AtomicU32,
    /// When the last request was done, in milliseconds since the beginning.
    done: AtomicU64,
    is_old: AtomicBool,
}

/// A request under way on a connection.
#[derive(Debug)]
pub(crate) struct UnderWay(Arc<Usage>);

impl Usage {
    /// Returns how much a new connection is used; `None` where `intake` does not bound that.
    pub(super) fn of(intake: &Intake) -> Option<Arc<Self>> {
        let Intake {
            idle,
            lifetime,
            requests,
            ..
        } = *intake;
        if idle.is_none() && lifetime.is_none() && requests.is_none() {
            return None;
        }
        Some(Arc::new(Self {
            began: Instant::now(),
            idle,
            lifetime,
            requests,
            served: AtomicU32::new(0),
            open: AtomicU32::new(0),
            done: AtomicU64::new(0),
            is_old: AtomicBool::new(false),
        }))
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
        loop {
            let now = Instant::now();
            let old = self.lifetime.map(|lifetime| self.began + lifetime);
            if old.is_some_and(|old| now >= old) {
                self.is_old.store(true, Ordering::Relaxed);
            }
            let is_free = self.open.load(Ordering::Relaxed) == 0;
            if is_free && self.is_up() {
                return;
            }
            let done = self.began + Duration::from_millis(self.done.load(Ordering::Relaxed));
            let idle = self
                .idle
                .map(|idle| if is_free { done + idle } else { now + idle });
            if is_free && idle.is_some_and(|idle| now >= idle) {
                return;
            }
            let soon = (self.is_up() || self.requests.is_some()).then(|| now + LOOK_EVERY);
            let old = old.filter(|_| !self.is_old.load(Ordering::Relaxed));
            match [idle, old, soon].into_iter().flatten().min() {
                Some(next) => sleep_until(next).await,
                None => std::future::pending().await,
            }
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let Self(usage) = self;
        let now = u64::try_from(usage.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        usage.done.store(now, Ordering::Relaxed);
        usage.open.fetch_sub(1, Ordering::Relaxed);
    }
}
