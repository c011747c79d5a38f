//! The body of a reply while it is handed through: every frame as it comes, trailers included.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};
use tracing::debug;

use crate::{
    facts::{Facts, Outcome},
    lane::Busy,
    llm::reply::BrokenOff,
    server::drain::Stopped,
    upstream::{Broken, Reply},
};

/// The body of a reply while it is handed through.
pub(crate) struct Passing {
    upstream: Reply,
    /// The longest silence.
    idle: Duration,
    /// When it must have come to its end.
    last: Option<Instant>,
    alarm: Pin<Box<Sleep>>,
    /// The attempt that it still is.
    busy: Option<Busy>,
    recorded: Option<(Box<Facts>, Stopped)>,
}

/// A reply that does not come to its end; the client sees its connection or stream break off.
#[derive(Debug, thiserror::Error)]
enum Cut {
    /// The upstream broke off.
    #[error("the upstream broke off")]
    Upstream(#[source] Broken),
    /// The upstream fell silent, or took too long.
    #[error("the upstream took too long")]
    Silent,
    /// The gateway is stopping.
    #[error("the gateway is shutting down")]
    Stopping,
}

impl Passing {
    pub(super) fn new(upstream: Reply, idle: Duration, last: Option<Instant>, busy: Option<Busy>) -> Self {
        let first = Instant::now() + idle;
        let first = last.map_or(first, |last| last.min(first));
        Self {
            upstream,
            idle,
            last,
            alarm: Box::pin(tokio::time::sleep_until(first)),
            busy,
            recorded: None,
        }
    }

    /// Gives the facts along, which are emitted when the reply ends.
    pub(crate) fn with(mut self, facts: Box<Facts>) -> Self {
        let stop = facts.stop();
        self.recorded = Some((facts, stop));
        self
    }

    fn settle(&mut self, outcome: Outcome) {
        self.busy = None;
        if let Some((facts, _)) = self.recorded.take() {
            facts.emit(outcome);
        }
    }

    fn cut(&mut self, cut: &Cut) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let cause = std::error::Error::source(cut).map(ToString::to_string);
        debug!(error = %cut, cause, "reply cut off");
        if let (Cut::Upstream(_) | Cut::Silent, Some(busy)) = (cut, &self.busy) {
            busy.broke();
        }
        self.busy = None;
        self.settle(Outcome::Broken);
        Poll::Ready(Some(Err(BrokenOff)))
    }
}

impl Body for Passing {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.upstream).poll_frame(cx) {
            let next = Instant::now() + this.idle;
            let next = this.last.map_or(next, |last| last.min(next));
            this.alarm.as_mut().reset(next);
            return match frame {
                None => {
                    this.settle(Outcome::Complete);
                    Poll::Ready(None)
                }
                Some(Ok(frame)) => {
                    if let Some((facts, _)) = &mut this.recorded {
                        facts.bytes_sent += frame.data_ref().map_or(0, Bytes::len) as u64;
                    }
                    if this.upstream.is_end_stream() {
                        this.settle(Outcome::Complete);
                    }
                    Poll::Ready(Some(Ok(frame)))
                }
                Some(Err(error)) => this.cut(&Cut::Upstream(error)),
            };
        }
        if let Some((_, stop)) = &mut this.recorded
            && stop.poll(cx).is_ready()
        {
            return this.cut(&Cut::Stopping);
        }
        match this.alarm.as_mut().poll(cx) {
            Poll::Ready(()) => this.cut(&Cut::Silent),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.upstream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.upstream.size_hint()
    }
}

impl Drop for Passing {
    /// A reply without a body is never asked for any.
    fn drop(&mut self) {
        if self.upstream.is_end_stream() {
            self.settle(Outcome::Complete);
        }
    }
}
