//! An answer that is written while the client reads it.
//!
//! What an MCP request says on its way comes from several backends and is written by straight-line code that
//! awaits each of them. That code is one future, and the response's body is what polls it: no task and no
//! channel, a client that does not read stops it, and one that goes away drops it with all its upstream calls.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use mcp::sse;
use serde_json::value::RawValue;
use tokio::time::{Duration, Instant, Sleep};

use crate::{
    facts::{Facts, Outcome},
    server::drain::Stopped,
    telemetry::tools::Streaming,
};

/// Where running work puts what the client is to be told before the end.
#[derive(Clone, Debug, Default)]
pub(super) struct Outlet(Arc<Mutex<Vec<u8>>>);

/// What there is to be said at the end.
#[derive(Debug)]
pub(super) struct Said {
    /// The status, if nothing was said before.
    pub(super) status: StatusCode,
    /// Headers, if nothing was said before.
    pub(super) headers: HeaderMap,
    /// The last message; `None` if the stream just ends.
    pub(super) document: Option<Box<RawValue>>,
    /// The id of the last event.
    pub(super) event: Option<String>,
    /// The status and the text in place of a document, if nothing was said before.
    pub(super) plain: Option<(StatusCode, String)>,
}

/// Work that answers one request.
pub(super) type Work = Pin<Box<dyn Future<Output = Said> + Send>>;

/// How work began.
pub(super) enum Begun {
    /// It is over, and nothing was said before the end.
    Done(Said),
    /// It has something to say, or takes long.
    Streams,
}

/// Work whose answer has been committed to.
pub(crate) struct Stream {
    work: Option<Work>,
    outlet: Outlet,
    keep_alive: Duration,
    /// Whether the client listens to it, and waits for no answer.
    listened: bool,
}

/// A streamed answer on its way to the client, with the facts inside.
pub(crate) struct Streamed {
    stream: Stream,
    /// When the client was last told anything, and the timer for the next time.
    alarm: Pin<Box<Sleep>>,
    last_write: Instant,
    /// Goes off when the time to drain is over.
    stop: Stopped,
    _open: Streaming,
    facts: Option<Box<Facts>>,
}

impl Outlet {
    /// Says an event, and waits until the client has been handed it.
    pub(super) async fn say(&self, id: Option<&str>, document: &RawValue) {
        self.write(|out| sse::write(out, id, document.get())).await;
    }

    /// Lets `write` add to what is said, and waits until the client has been handed it.
    pub(super) async fn write(&self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.lock());
        // Nobody is woken for this: whoever polls the work takes what was written and polls again.
        poll_fn(|_| {
            if self.is_empty() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn take(&self) -> Bytes {
        std::mem::take(&mut *self.lock()).into()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Said {
    /// Returns a document with status 200.
    pub(super) fn message(document: Box<RawValue>) -> Self {
        Self {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            document: Some(document),
            event: None,
            plain: None,
        }
    }

    /// Returns an end without words.
    pub(super) fn nothing() -> Self {
        Self {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            document: None,
            event: None,
            plain: None,
        }
    }
}

/// Runs `work` until it is over or has something to say, but no longer than `patience` if the client takes a
/// stream; if not, what is said before the end is lost on it.
pub(super) async fn begin(work: &mut Work, outlet: &Outlet, streams: bool, patience: Duration) -> Begun {
    let mut alarm = Box::pin(tokio::time::sleep(patience));
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(said) = work.as_mut().poll(cx) {
                return Poll::Ready(Begun::Done(said));
            }
            let spoke = !outlet.is_empty();
            if streams && (spoke || alarm.as_mut().poll(cx).is_ready()) {
                return Poll::Ready(Begun::Streams);
            }
            if !spoke {
                return Poll::Pending;
            }
            outlet.take();
        }
    })
    .await
}

impl Stream {
    pub(super) fn new(work: Work, outlet: Outlet, keep_alive: Duration) -> Self {
        Self {
            work: Some(work),
            outlet,
            keep_alive,
            listened: false,
        }
    }

    /// Notes that the client listens to the stream, and waits for no answer.
    pub(super) fn listen(&mut self) {
        self.listened = true;
    }

    /// Returns a stream that says one thing only.
    pub(super) fn said(said: Said, keep_alive: Duration) -> Self {
        Self::new(Box::pin(async { said }), Outlet::default(), keep_alive)
    }

    /// Returns the stream with what is to be emitted when it ends.
    pub(crate) fn with(self, facts: Box<Facts>) -> Streamed {
        let now = Instant::now();
        Streamed {
            alarm: Box::pin(tokio::time::sleep_until(now + self.keep_alive)),
            last_write: now,
            stop: facts.stop(),
            _open: facts.runtime().metrics.tools.streaming(),
            stream: self,
            facts: Some(facts),
        }
    }

    /// Returns what the work says next; `None` when it is over.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            let bytes = self.outlet.take();
            if !bytes.is_empty() {
                return Poll::Ready(Some(bytes));
            }
            let Some(work) = &mut self.work else {
                return Poll::Ready(None);
            };
            match work.as_mut().poll(cx) {
                Poll::Ready(said) => {
                    self.work = None;
                    if let Some(document) = said.document {
                        sse::write(&mut self.outlet.lock(), said.event.as_deref(), document.get());
                    }
                }
                Poll::Pending if self.outlet.is_empty() => return Poll::Pending,
                Poll::Pending => {}
            }
        }
    }
}

impl Streamed {
    /// Returns the next bytes for the client; none when the answer is over.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        match self.stream.poll(cx) {
            Poll::Ready(Some(bytes)) => return self.give(bytes),
            Poll::Ready(None) => {
                self.settle(Outcome::Complete);
                return Poll::Ready(None);
            }
            Poll::Pending => {}
        }
        if self.stop.poll(cx).is_ready() {
            self.stream.work = None;
            self.settle(Outcome::Broken);
            return Poll::Ready(None);
        }
        while self.alarm.as_mut().poll(cx).is_ready() {
            let due = self.last_write + self.stream.keep_alive;
            if Instant::now() >= due {
                return self.give(Bytes::from_static(sse::KEEP_ALIVE));
            }
            self.alarm.as_mut().reset(due);
        }
        Poll::Pending
    }

    /// Returns whether it is silent for most of its time, which is long.
    pub(crate) fn lasts(&self) -> bool {
        self.stream.listened
    }

    /// Returns whether nothing follows.
    pub(crate) fn is_done(&self) -> bool {
        self.facts.is_none()
    }

    fn give(&mut self, bytes: Bytes) -> Poll<Option<Bytes>> {
        self.last_write = Instant::now();
        if let Some(facts) = &mut self.facts {
            facts.bytes_sent += bytes.len() as u64;
        }
        Poll::Ready(Some(bytes))
    }

    /// Emits the facts, once.
    fn settle(&mut self, outcome: Outcome) {
        if let Some(facts) = self.facts.take() {
            facts.emit(outcome);
        }
    }
}

impl Drop for Streamed {
    fn drop(&mut self) {
        self.settle(Outcome::Dropped);
    }
}
