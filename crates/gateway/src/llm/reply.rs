//! The body adapter of streamed answers, relayed and translated alike: pulled by the client, it pulls the
//! upstream.
//!
//! There is no task and no channel: a client that stops reading stops the upstream, and one that goes away
//! drops this body and with it the upstream's connection. One timer serves the total limit, the upstream's
//! silence and our own keep-alive; it is not touched when bytes pass, but looks at the clock when it goes off.

use std::{
    fmt,
    task::{Context, Poll},
};

use bytes::Bytes;
use llm::{ApiError, End, ErrorKind, Observed};
use tokio::time::Instant;

use super::{
    arriving::Arriving,
    limit::{Alarm, Limits},
};
use crate::{
    body::Pieces,
    facts::{Facts, Outcome},
    lane::Busy,
    meter::budget::Budget,
    refusal,
    server::drain::Stopped,
    telemetry::own::Side,
};

/// Above this many bytes no more is waited for that has arrived as well.
const MAX_JOINED: usize = 64 * 1024;

/// So many bytes are looked at before it is asked again whether a limit lets the answer go on: less than what is held
/// ahead, whatever they say.
const CAUTIOUS: usize = 1024;

/// A streamed answer that has been committed to.
pub(crate) struct Stream {
    /// What was held back until the commitment.
    first: Bytes,
    inner: llm::Stream,
    /// `None` once nothing more is to be read.
    upstream: Option<Arriving>,
    /// What has arrived and is not looked at yet, and whether that is all.
    waiting: (Bytes, Option<End>),
    /// So much is looked at at once.
    at_once: usize,
    alarm: Alarm,
    limits: Limits,
    last_read: Instant,
    last_write: Instant,
    /// What it weighs on while it lasts, where a policy says so.
    busy: Option<Busy>,
}

/// A streamed answer on its way to the client, with the facts inside.
pub(crate) struct Streamed {
    stream: Stream,
    /// Goes off when the time to drain is over.
    stop: Stopped,
    /// What it may still use; `None` where no limit cuts it off.
    budget: Option<Box<Budget>>,
    facts: Option<Box<Facts>>,
}

/// Why the client's connection is broken off in the middle of an answer.
#[derive(Debug)]
pub(crate) struct BrokenOff;

/// Takes what has arrived of an upstream, as one piece, and whether that was all of it: what is handed on
/// piece by piece is framed and looked into piece by piece.
pub(super) fn poll_arrived(upstream: &mut Arriving, cx: &mut Context<'_>) -> Poll<(Bytes, Option<End>)> {
    let mut arrived = Pieces::default();
    let end = loop {
        match upstream.poll_piece(cx) {
            Poll::Ready(Some(Ok(piece))) => arrived.push(piece),
            Poll::Ready(Some(Err(_))) => break Some(End::Cut),
            Poll::Ready(None) => break Some(End::Clean),
            Poll::Pending if arrived.is_empty() => return Poll::Pending,
            Poll::Pending => break None,
        }
        if arrived.len() >= MAX_JOINED {
            break None;
        }
    };
    Poll::Ready((arrived.join(), end))
}

impl fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the upstream's reply broke off")
    }
}

impl std::error::Error for BrokenOff {}

impl Stream {
    pub(super) fn new(
        first: Bytes,
        inner: llm::Stream,
        upstream: Option<Arriving>,
        mut alarm: Alarm,
        limits: Limits,
    ) -> Self {
        let now = Instant::now();
        alarm.set(limits.total.min(now + limits.idle.min(limits.keep_alive)));
        Self {
            first,
            inner,
            upstream,
            waiting: (Bytes::new(), None),
            at_once: usize::MAX,
            alarm,
            limits,
            last_read: now,
            last_write: now,
            busy: None,
        }
    }

    /// Has the stream weigh on its lane for as long as it lasts.
    pub(super) fn weigh(&mut self, busy: Busy) {
        self.busy = Some(busy);
    }

    /// Returns what was overheard so far.
    pub(crate) fn observed(&self) -> &Observed {
        self.inner.observed()
    }

    /// Returns the stream with what is to be emitted when it ends.
    pub(crate) fn with(mut self, facts: Box<Facts>) -> Streamed {
        let (stop, budget) = (facts.stop(), Budget::of(&facts));
        if budget.is_some() {
            self.at_once = CAUTIOUS;
        }
        Streamed {
            stream: self,
            stop,
            budget,
            facts: Some(facts),
        }
    }

    /// Returns the next bytes of the upstream, in the client's words; none when it has ended.
    fn poll_upstream(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        while let Some(upstream) = &mut self.upstream {
            let (mut arrived, mut end) = if self.waiting.0.is_empty() {
                let arrived = std::task::ready!(poll_arrived(upstream, cx));
                self.last_read = Instant::now();
                arrived
            } else {
                std::mem::take(&mut self.waiting)
            };
            if arrived.len() > self.at_once {
                self.waiting = (arrived.split_off(self.at_once), end.take());
            }
            let mut said = Pieces::default();
            said.push(self.inner.push(arrived));
            match end {
                _ if self.inner.observed().error.is_some() => self.upstream = None,
                Some(how) => said.push(self.close(how)),
                None => {}
            }
            let bytes = said.join();
            if !bytes.is_empty() {
                return Poll::Ready(Some(bytes));
            }
        }
        Poll::Ready(None)
    }

    /// Returns what a limit that has passed makes us say, or waits for the next one.
    fn poll_limits(&mut self, cx: &mut Context<'_>) -> Poll<Bytes> {
        while self.alarm.poll(cx).is_ready() {
            let now = Instant::now();
            let silent = self.last_read + self.limits.idle;
            let quiet = self.last_write + self.limits.keep_alive;
            if now >= self.limits.total || now >= silent {
                return Poll::Ready(self.fail(ApiError::new(
                    ErrorKind::Timeout,
                    if now >= silent {
                        "the upstream fell silent"
                    } else {
                        "the answer took longer than is allowed"
                    },
                )));
            }
            let mut next = self.limits.total.min(silent);
            if now >= quiet {
                self.last_write = now;
                self.alarm.set(next.min(now + self.limits.keep_alive));
                let bytes = self.inner.keep_alive();
                if !bytes.is_empty() {
                    return Poll::Ready(bytes);
                }
            } else {
                next = next.min(quiet);
                self.alarm.set(next);
            }
        }
        Poll::Pending
    }

    fn close(&mut self, how: End) -> Bytes {
        self.upstream = None;
        self.inner.end(how)
    }

    fn fail(&mut self, error: ApiError) -> Bytes {
        self.upstream = None;
        self.inner.fail(error)
    }
}

impl Streamed {
    /// Returns the next bytes for the client; none when the answer is over.
    ///
    /// # Errors
    /// If the answer is broken in a way that its bytes cannot tell.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BrokenOff>>> {
        if !self.stream.first.is_empty() {
            let first = std::mem::take(&mut self.stream.first);
            return self.give(first);
        }
        if let Some(error) = self.overrun(cx) {
            let bytes = self.stream.fail(error);
            return self.give(bytes);
        }
        match self.stream.poll_upstream(cx) {
            Poll::Ready(Some(bytes)) => return self.give(bytes),
            Poll::Ready(None) => return self.give(Bytes::new()),
            Poll::Pending => {}
        }
        let bytes = if self.stop.poll(cx).is_ready() {
            self.stream.fail(refusal::stopping())
        } else {
            std::task::ready!(self.stream.poll_limits(cx))
        };
        self.give(bytes)
    }

    /// Returns the error that the answer ends with, once a limit has nothing left for it.
    fn overrun(&mut self, cx: &mut Context<'_>) -> Option<ApiError> {
        let (budget, facts) = (self.budget.as_mut()?, self.facts.as_mut()?);
        let error = budget.poll(facts, self.stream.observed(), cx)?;
        self.budget = None;
        // The upstream has done nothing wrong.
        self.stream.busy = None;
        Some(error)
    }

    /// Returns whether nothing follows.
    pub(crate) fn is_done(&self) -> bool {
        self.facts.is_none()
    }

    /// Gives the client `bytes`, or the end if there are none.
    fn give(&mut self, bytes: Bytes) -> Poll<Option<Result<Bytes, BrokenOff>>> {
        if bytes.is_empty() {
            self.settle();
            return Poll::Ready(self.stream.inner.breaks_off().then_some(Err(BrokenOff)));
        }
        self.stream.last_write = Instant::now();
        let kept = self.stream.inner.kept();
        if let Some(facts) = &mut self.facts {
            // Before the client learns that it can go on from here.
            if let Some(kept) = kept {
                facts.keep(kept);
            }
            facts.bytes_sent += bytes.len() as u64;
            if let Some(trace) = &mut facts.trace {
                trace.answered(&bytes);
            }
        }
        Poll::Ready(Some(Ok(bytes)))
    }

    /// Emits the facts, once.
    fn settle(&mut self) {
        let Some(mut facts) = self.facts.take() else {
            return;
        };
        let observed = self.stream.observed();
        if let Some(busy) = self.stream.busy.as_ref().filter(|_| observed.error.is_some()) {
            busy.broke();
        }
        facts.observe(observed);
        let error = observed.error.as_ref();
        if error.is_some_and(|error| error.kind == ErrorKind::BadReply) {
            facts.untranslated(Side::Reply);
        }
        facts.emit(if observed.error.is_some() {
            Outcome::Broken
        } else if observed.complete {
            Outcome::Complete
        } else {
            Outcome::Dropped
        });
    }
}

impl Drop for Streamed {
    fn drop(&mut self) {
        self.settle();
    }
}
