//! The body of a client's request while it is handed on, and how far it has come.

use std::{
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

/// The body of a client's request while it is handed on.
pub(crate) struct Arriving {
    body: Incoming,
    progress: Progress,
}

/// How far a body has come.
#[derive(Clone, Default)]
pub(super) struct Progress(Arc<State>);

#[derive(Default)]
struct State {
    bytes: AtomicU64,
    ended: OnceLock<Instant>,
}

impl Progress {
    /// Notes that everything is here already.
    pub(super) fn hold(&self, bytes: usize) {
        self.0.bytes.store(bytes as u64, Ordering::Relaxed);
        self.end();
    }

    /// Returns how many bytes have been handed on.
    pub(super) fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// Returns when the last byte was.
    pub(super) fn ended(&self) -> Option<Instant> {
        self.0.ended.get().copied()
    }

    fn end(&self) {
        self.0.ended.get_or_init(Instant::now);
    }
}

impl Arriving {
    pub(super) fn new(body: Incoming, progress: Progress) -> Self {
        if body.is_end_stream() {
            progress.end();
        }
        Self { body, progress }
    }
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let frame = std::task::ready!(Pin::new(&mut this.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            let length = frame.data_ref().map_or(0, Bytes::len);
            this.progress.0.bytes.fetch_add(length as u64, Ordering::Relaxed);
        }
        if frame.is_none() || this.body.is_end_stream() {
            this.progress.end();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
