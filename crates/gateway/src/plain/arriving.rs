//! The body of a client's request while it is handed on, how far it has come, and what is kept of it to be sent again.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::mirror::Copies;
use crate::{
    body::{Pieces, Reserved},
    given::Given,
    upstream::Outgoing,
};

/// What a client sends, to be handed on once or again.
pub(super) struct Sending {
    source: Source,
    progress: Progress,
    /// The share of what was held before it was known who serves the request.
    _held: Option<Reserved>,
}

enum Source {
    /// All of it is here.
    Held(Bytes),
    /// It arrives while it is handed on; gone once that has begun.
    Once(Option<Incoming>),
    /// It arrives while it is handed on, and is kept.
    Kept(Arc<Mutex<Kept>>),
}

/// How much of a body is kept.
pub(super) struct Keep {
    /// What it counts against.
    pub(super) reserved: Reserved,
    /// The most bytes.
    pub(super) limit: usize,
    /// Whether a larger one is refused; else it is handed on, but not again.
    pub(super) refuses: bool,
    /// What is sent to others once all of it is here.
    pub(super) copies: Option<Copies>,
}

/// What has arrived of a body, and the rest that has not.
struct Kept {
    body: Incoming,
    pieces: Vec<Piece>,
    bytes: usize,
    keep: Keep,
    /// Whether more arrived than is kept, or the client broke off.
    gone: bool,
    ended: bool,
}

/// A piece of a body.
enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
}

/// The body of a client's request while it is handed on.
pub(crate) struct Arriving {
    source: Pulled,
    progress: Progress,
}

enum Pulled {
    Once(Incoming),
    Kept {
        kept: Arc<Mutex<Kept>>,
        next: usize,
        length: SizeHint,
    },
}

/// A body does not come to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Cut {
    /// The client broke off.
    #[error("the client broke off")]
    Client(#[source] hyper::Error),
    /// It is larger than a policy lets it be.
    #[error("the request body is too large")]
    TooLarge,
}

/// How far a body has come.
#[derive(Clone, Default)]
pub(super) struct Progress(Arc<State>);

#[derive(Default)]
struct State {
    bytes: AtomicU64,
    ended: OnceLock<Instant>,
    too_large: OnceLock<()>,
    broken: OnceLock<()>,
}

impl Progress {
    /// Returns how many bytes have been handed on.
    pub(super) fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// Returns when the last byte was.
    pub(super) fn ended(&self) -> Option<Instant> {
        self.0.ended.get().copied()
    }

    /// Returns whether more came than a policy lets pass.
    pub(super) fn is_too_large(&self) -> bool {
        self.0.too_large.get().is_some()
    }

    /// Returns whether the client broke off, or sent what is no body.
    pub(super) fn is_broken(&self) -> bool {
        self.0.broken.get().is_some()
    }

    fn add(&self, bytes: usize) {
        self.0.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn end(&self) {
        self.0.ended.get_or_init(Instant::now);
    }

    fn cut(&self, error: hyper::Error) -> Cut {
        self.0.broken.get_or_init(|| ());
        Cut::Client(error)
    }
}

impl Sending {
    /// Returns what is to be sent; so much of it is kept as `keep` says.
    pub(super) fn new(given: Given, keep: Option<Keep>) -> Self {
        let progress = Progress::default();
        let held = |bytes: Bytes, keep: Option<Keep>| {
            if let Some(copies) = keep.and_then(|keep| keep.copies) {
                copies.send(&bytes);
            }
            Source::Held(bytes)
        };
        let mut reserved = None;
        let source = match given {
            Given::Held(bytes, share) => {
                reserved = Some(share);
                held(bytes, keep)
            }
            Given::Arriving(body) if body.is_end_stream() => held(Bytes::new(), keep),
            Given::Arriving(body) => match keep {
                None => Source::Once(Some(body)),
                Some(keep) => Source::Kept(Arc::new(Mutex::new(Kept {
                    body,
                    pieces: Vec::new(),
                    bytes: 0,
                    keep,
                    gone: false,
                    ended: false,
                }))),
            },
        };
        if let Source::Held(bytes) = &source {
            progress.add(bytes.len());
            progress.end();
        }
        Self {
            source,
            progress,
            _held: reserved,
        }
    }

    /// Returns how far it has come.
    pub(super) fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Returns whether it can be sent from its beginning.
    pub(super) fn is_whole(&self) -> bool {
        match &self.source {
            Source::Held(_) => true,
            Source::Once(body) => body.is_some(),
            Source::Kept(kept) => !lock(kept).gone,
        }
    }

    /// Returns the body of a call, from its beginning. The one before is no longer asked for anything.
    pub(super) fn body(&mut self) -> Outgoing {
        let source = match &mut self.source {
            Source::Held(bytes) => return Outgoing::Whole(Full::new(bytes.clone())),
            Source::Once(body) => match body.take() {
                Some(body) => Pulled::Once(body),
                None => return Outgoing::Whole(Full::default()),
            },
            Source::Kept(kept) => {
                let known = lock(kept);
                let arrived = u64::try_from(known.bytes).unwrap_or(u64::MAX);
                let left = known.body.size_hint().exact();
                let length = left.map(|left| SizeHint::with_exact(left.saturating_add(arrived)));
                Pulled::Kept {
                    kept: Arc::clone(kept),
                    next: 0,
                    length: length.unwrap_or_default(),
                }
            }
        };
        Outgoing::Plain(Box::new(Arriving {
            source,
            progress: self.progress.clone(),
        }))
    }
}

impl Kept {
    fn poll(
        &mut self,
        next: &mut usize,
        progress: &Progress,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if let Some(piece) = self.pieces.get(*next) {
            *next += 1;
            return Poll::Ready(Some(Ok(piece.frame())));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        let frame = match std::task::ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            None => {
                self.end(progress);
                return Poll::Ready(None);
            }
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                self.forget();
                return Poll::Ready(Some(Err(progress.cut(error))));
            }
        };
        let length = frame.data_ref().map_or(0, Bytes::len);
        progress.add(length);
        self.bytes += length;
        if self.bytes > self.keep.limit && self.keep.refuses {
            progress.0.too_large.get_or_init(|| ());
            self.forget();
            return Poll::Ready(Some(Err(Cut::TooLarge)));
        }
        // What the process has no room for is not kept either.
        if self.bytes > self.keep.limit || self.keep.reserved.grow_to(self.bytes).is_err() {
            self.forget();
        }
        if !self.gone
            && let Some(piece) = Piece::of(&frame)
        {
            self.pieces.push(piece);
            *next += 1;
        }
        if self.body.is_end_stream() {
            self.end(progress);
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn end(&mut self, progress: &Progress) {
        self.ended = true;
        progress.end();
        if let Some(copies) = self.keep.copies.take() {
            let mut whole = Pieces::default();
            for piece in &self.pieces {
                match piece {
                    Piece::Data(bytes) => whole.push(bytes.clone()),
                    Piece::Trailers(_) => {}
                }
            }
            copies.send(&whole.join());
        }
    }

    fn forget(&mut self) {
        self.gone = true;
        if let Some(copies) = self.keep.copies.take() {
            copies.give_up();
        }
        self.pieces = Vec::new();
        self.keep.reserved.release();
    }
}

impl Piece {
    fn of(frame: &Frame<Bytes>) -> Option<Self> {
        let data = frame.data_ref().cloned().map(Piece::Data);
        data.or_else(|| frame.trailers_ref().cloned().map(Piece::Trailers))
    }

    fn frame(&self) -> Frame<Bytes> {
        match self {
            Piece::Data(bytes) => Frame::data(bytes.clone()),
            Piece::Trailers(headers) => Frame::trailers(headers.clone()),
        }
    }
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let Self { source, progress } = self.get_mut();
        let body = match source {
            Pulled::Once(body) => body,
            Pulled::Kept { kept, next, length } => {
                let frame = std::task::ready!(lock(kept).poll(next, progress, cx));
                if let (Some(Ok(frame)), Some(left)) = (&frame, length.exact()) {
                    let read = frame.data_ref().map_or(0, Bytes::len) as u64;
                    length.set_exact(left.saturating_sub(read));
                }
                return Poll::Ready(frame);
            }
        };
        let frame = std::task::ready!(Pin::new(&mut *body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            progress.add(frame.data_ref().map_or(0, Bytes::len));
        }
        if frame.is_none() || body.is_end_stream() {
            progress.end();
        }
        Poll::Ready(frame.map(|frame| frame.map_err(|error| progress.cut(error))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Pulled::Once(body) => body.is_end_stream(),
            Pulled::Kept { kept, next, .. } => {
                let kept = lock(kept);
                kept.ended && *next >= kept.pieces.len()
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Pulled::Once(body) => body.size_hint(),
            Pulled::Kept { length, .. } => *length,
        }
    }
}

fn lock(kept: &Mutex<Kept>) -> std::sync::MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}
