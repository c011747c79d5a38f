//! How long an attempt may take, and the timer that ends it.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use llm::{ApiError, ErrorKind};
use tokio::time::{Instant, Sleep};

use super::refused::{Cause, Refused};

/// When patience ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// For the request as a whole.
    pub(crate) total: Instant,
    /// For this attempt, until it has said something; never after `total`.
    pub(crate) attempt: Instant,
    /// Between any two signs of life, once it has said something.
    pub(crate) idle: Duration,
    /// Between any two signs of life before that; `None` where `attempt` alone limits it.
    pub(crate) first_idle: Option<Duration>,
    /// The longest silence that a streaming client is left in.
    pub(crate) keep_alive: Duration,
}

/// The one timer of a request, set anew for each wait.
pub(crate) struct Alarm(Pin<Box<Sleep>>);

impl Limits {
    /// Returns when the next sign of life must have come.
    pub(super) fn next(&self) -> Instant {
        match self.first_idle {
            Some(idle) => self.attempt.min(Instant::now() + idle),
            None => self.attempt,
        }
    }

    /// Returns the refusal after a limit has passed.
    pub(super) fn passed(&self) -> Box<Refused> {
        let cause = if Instant::now() >= self.total {
            Cause::Deadline
        } else {
            Cause::Timeout
        };
        Refused::new(
            cause,
            ApiError::new(ErrorKind::Timeout, "the upstream did not answer in time"),
        )
    }
}

impl Alarm {
    pub(super) fn new(at: Instant) -> Self {
        Self(Box::pin(tokio::time::sleep_until(at)))
    }

    /// Returns what `future` gives, or `None` if it has not given it by `at`. It is pinned where it was made: each
    /// function that takes a future by value makes room for it twice.
    pub(super) async fn limit<F>(&mut self, at: Instant, mut future: F) -> Option<F::Output>
    where
        F: Future + Unpin,
    {
        self.set(at);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(output) = Pin::new(&mut future).poll(cx) {
                return Poll::Ready(Some(output));
            }
            self.0.as_mut().poll(cx).map(|()| None)
        })
        .await
    }

    /// Sets the alarm to `at`.
    pub(super) fn set(&mut self, at: Instant) {
        self.0.as_mut().reset(at);
    }

    /// Returns whether the alarm went off.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }

    /// Hands the timer to the body of the answer.
    pub(super) fn take(&mut self) -> Alarm {
        std::mem::replace(self, Alarm::new(Instant::now()))
    }
}
