//! The body of a reply, whichever version of HTTP it comes by.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::{Io, http1, http2, outgoing::Unsent, quiet};
use crate::picker;

/// The body of a reply. Dropping one that is not wholly read tells the upstream that nobody wants the rest.
pub(crate) enum Reply {
    /// Over a connection of its own.
    Alone(http1::Arriving),
    /// Over a connection that others share.
    Shared(Box<http2::Arriving>),
    /// Over a connection of its own, on which nothing is said for most of the time.
    Quiet(Box<quiet::Arriving>),
    /// Past a picker.
    Shown(Box<picker::Shown>),
}

/// A reply, or the request before it, did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    /// The connection broke.
    #[error(transparent)]
    Connection(#[from] hyper::Error),
    /// The stream broke, or the connection that it is part of.
    #[error(transparent)]
    Stream(#[from] h2::Error),
    /// The connection of a quiet reply broke, or it is none.
    #[error(transparent)]
    Quiet(#[from] quiet::Broken),
    /// What was to be sent did not come to its end.
    #[error(transparent)]
    Request(#[from] Unsent),
    /// Whoever was to see it failed.
    #[error(transparent)]
    Picker(#[from] picker::Failed),
}

impl Broken {
    /// Returns what became of a call whose reply did not begin.
    pub(super) fn as_told(&self) -> &'static str {
        match self {
            Broken::Connection(error) if error.is_parse() => "the upstream's reply is not one of HTTP",
            Broken::Connection(_) | Broken::Stream(_) | Broken::Quiet(_) => {
                "the upstream closed the connection without a reply"
            }
            Broken::Picker(_) => "the picker did not see the reply through",
            Broken::Request(_) => "the request did not come to its end",
        }
    }
}

impl Reply {
    /// Returns the connection of a reply that switches to another protocol, and what was already read from it; `None`
    /// if it does not.
    pub(crate) async fn into_io(self) -> Option<(Io, Bytes)> {
        match self {
            Reply::Alone(arriving) => arriving.into_io().await,
            Reply::Shared(_) | Reply::Quiet(_) | Reply::Shown(_) => None,
        }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Reply::Alone(arriving) => arriving.poll(cx).map_err(Broken::Connection),
            Reply::Shared(arriving) => arriving.poll(cx),
            Reply::Quiet(arriving) => arriving.poll(cx).map_err(Broken::Quiet),
            Reply::Shown(shown) => shown.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Reply::Alone(arriving) => arriving.body.is_end_stream(),
            Reply::Shared(arriving) => arriving.is_end_stream(),
            Reply::Quiet(arriving) => arriving.is_end_stream(),
            Reply::Shown(shown) => shown.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Reply::Alone(arriving) => arriving.body.size_hint(),
            Reply::Shared(arriving) => arriving.size_hint(),
            Reply::Quiet(_) | Reply::Shown(_) => SizeHint::default(),
        }
    }
}
