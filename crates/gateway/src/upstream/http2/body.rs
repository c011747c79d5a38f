//! The bodies of one stream: what is sent while it is pulled, and what arrives.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, header};
use http_body::{Body, Frame, SizeHint};

use super::Open;
use crate::upstream::{Outgoing, outgoing::Unsent, reply::Broken};

/// The body of a request on its way.
pub(super) struct Sending {
    body: Outgoing,
    stream: SendStream<Bytes>,
    /// What was pulled and does not fit yet.
    held: Bytes,
}

/// The body of a reply.
pub(crate) struct Arriving {
    body: RecvStream,
    /// What is left to be sent: an upstream may answer before it has read everything.
    sending: Option<Sending>,
    /// What is still to come, if the upstream said so.
    left: Option<u64>,
    ended: Ended,
    _open: Open,
}

/// How far a reply has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// There may be more data.
    No,
    /// There may be trailers.
    Data,
    /// That was all.
    Wholly,
}

impl Sending {
    pub(super) fn new(body: Outgoing, stream: SendStream<Bytes>) -> Self {
        Self {
            body,
            stream,
            held: Bytes::new(),
        }
    }

    /// Sends as much as fits; ready when there is nothing more to be sent.
    ///
    /// # Errors
    /// If the body does not come to its end; the upstream is told then that the request is void. What becomes of the
    /// stream is told by its reply.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Unsent>> {
        loop {
            if !self.held.is_empty() {
                self.stream.reserve_capacity(self.held.len());
                let room = match ready!(self.stream.poll_capacity(cx)) {
                    Some(Ok(room)) => room.min(self.held.len()),
                    Some(Err(_)) | None => return Poll::Ready(Ok(())),
                };
                let piece = self.held.split_to(room);
                let is_last = self.held.is_empty() && self.body.is_end_stream();
                if self.stream.send_data(piece, is_last).is_err() || is_last {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.held = data,
                    Err(frame) => {
                        let trailers = frame.into_trailers().unwrap_or_default();
                        // A stream that is gone says so with its reply.
                        let _ = self.stream.send_trailers(trailers);
                        return Poll::Ready(Ok(()));
                    }
                },
                Some(Err(unsent)) => {
                    self.stream.send_reset(Reason::CANCEL);
                    return Poll::Ready(Err(unsent));
                }
                None => {
                    // As above.
                    let _ = self.stream.send_data(Bytes::new(), true);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl Arriving {
    pub(super) fn new(headers: &HeaderMap, body: RecvStream, sending: Option<Sending>, open: Open) -> Self {
        let length = headers.get(header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        Self {
            body,
            sending,
            left: length,
            ended: Ended::No,
            _open: open,
        }
    }

    /// Returns the next frame.
    pub(in crate::upstream) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if let Some(sending) = &mut self.sending
            && let Poll::Ready(sent) = sending.poll(cx)
        {
            self.sending = None;
            if let Err(unsent) = sent {
                return Poll::Ready(Some(Err(Broken::Request(unsent))));
            }
        }
        if self.ended == Ended::No {
            match ready!(self.body.poll_data(cx)) {
                Some(Ok(data)) => {
                    // A stream that is gone needs no window.
                    let _ = self.body.flow_control().release_capacity(data.len());
                    self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                // An upstream that wants no more of the request says so after its reply (RFC 9113, section 8.1).
                Some(Err(error)) if error.is_reset() && error.reason() == Some(Reason::NO_ERROR) => {
                    self.ended = Ended::Wholly;
                }
                Some(Err(error)) => {
                    self.ended = Ended::Wholly;
                    return Poll::Ready(Some(Err(Broken::Stream(error))));
                }
                None => self.ended = Ended::Data,
            }
        }
        if self.ended == Ended::Wholly {
            return Poll::Ready(None);
        }
        let trailers = ready!(self.body.poll_trailers(cx));
        self.ended = Ended::Wholly;
        let trailers = trailers.map_err(Broken::Stream).transpose();
        Poll::Ready(trailers.map(|trailers| trailers.map(Frame::trailers)))
    }

    pub(in crate::upstream) fn is_end_stream(&self) -> bool {
        self.ended == Ended::Wholly || self.body.is_end_stream()
    }

    pub(in crate::upstream) fn size_hint(&self) -> SizeHint {
        match self.left {
            _ if self.is_end_stream() => SizeHint::with_exact(0),
            Some(left) => SizeHint::with_exact(left),
            None => SizeHint::default(),
        }
    }
}
