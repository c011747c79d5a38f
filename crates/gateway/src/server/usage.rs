//! How long and how much a connection is used, where a policy bounds it.

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
    time::{Instant, timeout_at},
};

/// How long the end of the last answer may still be on its way out.
const LAST_WRITE: Duration = Duration::from_secs(1);

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
    /// Goes off when a request is done.
    freed: Notify,
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
            freed: Notify::new(),
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
            let done = self.began + Duration::from_millis(self.done.load(Ordering::Relaxed));
            let idle = self.idle.map(|idle| done + idle);
            let up = self.is_up().then(|| done + LAST_WRITE);
            let end = idle.into_iter().chain(up).min().filter(|_| is_free);
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
        let now = u64::try_from(usage.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        usage.done.store(now, Ordering::Relaxed);
        usage.open.fetch_sub(1, Ordering::Relaxed);
        usage.freed.notify_one();
    }
}
