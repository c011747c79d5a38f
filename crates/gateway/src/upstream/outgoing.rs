//! The body of a call: held whole, or pulled from the client while it is sent.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;

use crate::{
    llm::upload::{Broken, Pull},
    picker::Speech,
    plain::{Arriving, Cut},
};

/// The body of a call.
pub(crate) enum Outgoing {
    /// A document.
    Whole(Full<Bytes>),
    /// A form that may still be arriving.
    Form(Box<Pull>),
    /// Whatever the client sends.
    Plain(Box<Arriving>),
    /// What the gateway has to say while it listens.
    Speech(Speech),
}

/// The body of a call does not come to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unsent {
    /// The form is not whole.
    #[error(transparent)]
    Form(#[from] Broken),
    /// What a client sends.
    #[error(transparent)]
    Plain(#[from] Cut),
}

impl Outgoing {
    /// Returns the body once more, where it is held.
    pub(super) fn again(&self) -> Option<Self> {
        match self {
            Outgoing::Whole(body) => Some(Outgoing::Whole(body.clone())),
            Outgoing::Form(_) | Outgoing::Plain(_) | Outgoing::Speech(_) => None,
        }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Unsent;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Unsent>>> {
        match self.get_mut() {
            Outgoing::Whole(body) => Pin::new(body)
                .poll_frame(cx)
                .map_err(|impossible| match impossible {}),
            Outgoing::Form(pull) => Pin::new(pull.as_mut()).poll_frame(cx).map_err(Unsent::Form),
            Outgoing::Plain(arriving) => Pin::new(arriving.as_mut()).poll_frame(cx).map_err(Unsent::Plain),
            Outgoing::Speech(speech) => speech.take().map(|frame| frame.map(Ok)),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Outgoing::Whole(body) => body.is_end_stream(),
            Outgoing::Form(pull) => pull.is_end_stream(),
            Outgoing::Plain(arriving) => arriving.is_end_stream(),
            Outgoing::Speech(speech) => speech.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Outgoing::Whole(body) => body.size_hint(),
            Outgoing::Form(pull) => pull.size_hint(),
            Outgoing::Plain(arriving) => arriving.size_hint(),
            Outgoing::Speech(_) => SizeHint::default(),
        }
    }
}
