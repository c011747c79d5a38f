//! The end: no new connections, requests finish, and what is left is told so and cut.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{
    sync::{Notify, futures::OwnedNotified},
    time::timeout,
};
use tracing::{info, warn};

use super::listener::Serving;
use crate::Runtime;

/// How long streams that were told to end may take to say so.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Tells open streams that the time to drain is over, or connections that their listener closes.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    over: AtomicBool,
    notify: Arc<Notify>,
}

/// Waits for a [`Stop`].
pub(crate) struct Stopped {
    stop: Arc<Stop>,
    notified: Pin<Box<OwnedNotified>>,
    waker: Option<Waker>,
}

/// Ends everything in `serving`, within the time that the options give it and [`LAST_WORDS`].
pub(crate) async fn drain(runtime: &Runtime, mut serving: Vec<Serving>) {
    info!("draining");
    for serving in &mut serving {
        serving.close();
    }
    if timeout(runtime.options.drain, done(&mut serving)).await.is_ok() {
        info!("drained");
        return;
    }
    warn!("some requests did not finish in time");
    runtime.stop.tell();
    if timeout(LAST_WORDS, done(&mut serving)).await.is_err() {
        warn!("some requests were cut off");
    }
}

async fn done(serving: &mut [Serving]) {
    for serving in serving.iter_mut().filter(|serving| !serving.is_done()) {
        serving.done().await;
    }
}

impl Stop {
    /// Returns what waits for it.
    pub(crate) fn wait(self: &Arc<Self>) -> Stopped {
        Stopped {
            stop: Arc::clone(self),
            notified: Box::pin(Arc::clone(&self.notify).notified_owned()),
            waker: None,
        }
    }

    /// Tells whoever waits, now or later.
    pub(super) fn tell(&self) {
        self.over.store(true, Ordering::Release);
        self.notify.notify_waiters();
    }
}

impl Stopped {
    /// Returns whether the time is over.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.stop.over.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        // Asking takes a lock that all streams share: once per waker will do.
        if self
            .waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            return Poll::Pending;
        }
        self.waker = Some(cx.waker().clone());
        self.notified.as_mut().poll(cx)
    }
}
