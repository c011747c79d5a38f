//! The body of an upstream's reply, piece by piece, without the content coding that it may have come in.
//!
//! Upstreams are asked for none. Some send one all the same, or something between does; whoever reads the reply
//! has to understand it, so that it is decoded here and the client is given what was inside. A whole reply that is
//! handed on as it is may keep its coding for a client that reads it.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::Body as _;

use crate::{
    body::Pieces,
    coding::{Decoder, Fault},
    upstream,
};

/// The body of an upstream's reply.
pub(super) struct Arriving {
    body: upstream::Reply,
    /// `None` where nothing is to be decoded, which is nearly always.
    decoder: Option<Box<Decoder>>,
    /// What arrived, as it came, where that is wanted.
    raw: Option<Pieces>,
}

/// Why nothing more arrives.
#[derive(Debug)]
pub(super) enum Broken {
    /// The connection broke off.
    Cut(upstream::Broken),
    /// What arrives cannot be decoded.
    Coding(Fault),
}

impl Arriving {
    pub(super) fn new(body: upstream::Reply, decoder: Option<Decoder>) -> Self {
        Self {
            body,
            decoder: decoder.map(Box::new),
            raw: None,
        }
    }

    /// Keeps what arrives as it comes, too.
    pub(super) fn keep_raw(&mut self) {
        self.raw = Some(Pieces::default());
    }

    /// Returns what has arrived, as it came, if that was kept.
    pub(super) fn take_raw(&mut self) -> Option<Bytes> {
        self.raw.take().map(Pieces::join)
    }

    /// Takes the next piece; some are empty.
    pub(super) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Poll::Ready(Some(Err(Broken::Cut(error)))),
            None => {
                let left = self.decoder.take().map(|mut decoder| decoder.end());
                return Poll::Ready(left.map(|left| left.map_err(Broken::Coding)));
            }
        };
        let piece = frame.into_data().unwrap_or_default();
        if let Some(raw) = &mut self.raw {
            raw.push(piece.clone());
        }
        let decoded = match &mut self.decoder {
            None => Ok(piece),
            Some(decoder) => decoder.push(&piece).map_err(Broken::Coding),
        };
        Poll::Ready(Some(decoded))
    }
}
