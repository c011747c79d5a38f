//! Requests that have ended and are not told of yet: gathered in a bounded queue that a thread of its own empties, by
//! number or every few milliseconds.
//!
//! To count a request and to write its record takes code and tables that serving it does not. Done for many requests, one
//! after the other, they are in the processor's caches; done between two requests, they are fetched each time and drive
//! out what the next request needs. Whoever reads what is told has the queue emptied first, so that nobody can see the
//! difference.

#![expect(
    clippy::vec_box,
    reason = "facts are more than a thousand bytes, which nobody has to move"
)]

use std::{
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::Builder,
    time::Duration,
};

use crate::facts::Facts;

/// How long a request may wait. What it holds leaves the caches meanwhile.
const TELL_EVERY: Duration = Duration::from_millis(5);

/// From this many requests on the thread is woken at once.
const MANY: usize = 128;

/// From this many requests on whoever adds one tells of all of them itself.
const MAX_WAITING: usize = 4096;

/// Requests that have ended.
pub(crate) struct Ended(Arc<Shared>);

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    wake: Condvar,
    /// Held while requests are told of, so that this happens in the order in which they have ended.
    telling: Mutex<Vec<Box<Facts>>>,
}

#[derive(Default)]
struct Waiting {
    ended: Vec<Box<Facts>>,
    /// Whether the thread waits for the first one.
    idle: bool,
    closed: bool,
}

impl Ended {
    /// Starts the thread.
    pub(crate) fn start() -> Self {
        let shared = Arc::<Shared>::default();
        let teller = Arc::clone(&shared);
        let started = Builder::new()
            .name("telemetry".to_owned())
            .spawn(move || teller.run());
        if let Err(error) = started {
            tracing::error!(%error, "no thread for telemetry");
        }
        Self(shared)
    }

    /// Adds a request.
    pub(crate) fn push(&self, facts: Box<Facts>) {
        let mut waiting = self.0.waiting();
        waiting.ended.push(facts);
        let count = waiting.ended.len();
        let wakes = mem::take(&mut waiting.idle) || count == MANY;
        drop(waiting);
        if count >= MAX_WAITING {
            self.tell();
        } else if wakes {
            self.0.wake.notify_one();
        }
    }

    /// Tells of all requests that have ended so far.
    pub(crate) fn tell(&self) {
        self.0.tell();
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.waiting().closed = true;
        self.0.wake.notify_one();
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        let mut telling = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        mem::swap(&mut self.waiting().ended, &mut *telling);
        for facts in telling.drain(..) {
            facts.tell();
        }
    }

    fn run(&self) {
        loop {
            let mut waiting = self.waiting();
            waiting.idle = waiting.ended.is_empty();
            waiting = self
                .wake
                .wait_while(waiting, |waiting| waiting.idle && !waiting.closed)
                .unwrap_or_else(PoisonError::into_inner);
            let (waiting, _) = self
                .wake
                .wait_timeout_while(waiting, TELL_EVERY, |waiting| {
                    waiting.ended.len() < MANY && !waiting.closed
                })
                .unwrap_or_else(PoisonError::into_inner);
            let closed = waiting.closed;
            drop(waiting);
            self.tell();
            if closed {
                return;
            }
        }
    }
}
