//! The body of a client's request: on its way, or held because something had to see the whole of it.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use llm::ApiError;

use crate::body::{self, Memory, Pace, Reserved};

/// The body of a request.
pub(crate) enum Given {
    /// It is pulled from the client while it is used.
    Arriving(Incoming),
    /// It was read whole.
    Held(Bytes, Reserved),
}

impl Given {
    /// Returns the whole body, which is held from now on.
    ///
    /// # Errors
    /// A 413 if it has more than `limit` bytes; a 503 if there is no room for it; what is wrong with how it arrives.
    pub(crate) async fn hold(
        &mut self,
        headers: &HeaderMap,
        limit: usize,
        pace: Pace,
        memory: &Arc<Memory>,
    ) -> Result<Bytes, ApiError> {
        let nothing = Given::Held(Bytes::new(), memory.reserve());
        let (bytes, reserved) = std::mem::replace(self, nothing)
            .whole(headers, limit, pace, memory)
            .await?;
        *self = Given::Held(bytes.clone(), reserved);
        Ok(bytes)
    }

    /// Returns the whole body and its share of `memory`.
    ///
    /// # Errors
    /// As [`Given::hold`].
    pub(crate) async fn whole(
        self,
        headers: &HeaderMap,
        limit: usize,
        pace: Pace,
        memory: &Arc<Memory>,
    ) -> Result<(Bytes, Reserved), ApiError> {
        match self {
            Given::Arriving(body) => body::gather(headers, body, limit, pace, memory).await,
            Given::Held(bytes, _) if bytes.len() > limit => Err(body::too_large(limit)),
            Given::Held(bytes, reserved) => Ok((bytes, reserved)),
        }
    }
}

impl Body for Given {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Given::Arriving(body) => Pin::new(body).poll_frame(cx),
            Given::Held(bytes, _) => {
                let bytes = std::mem::take(bytes);
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Given::Arriving(body) => body.is_end_stream(),
            Given::Held(bytes, _) => bytes.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Given::Arriving(body) => body.size_hint(),
            Given::Held(bytes, _) => SizeHint::with_exact(bytes.len() as u64),
        }
    }
}
