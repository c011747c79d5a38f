//! How a streamed reply is cut into frames.

use bytes::BytesMut;

use crate::{ApiError, exception::Exception};

pub mod event_stream;
pub mod sse;

use event_stream::{EventStream, Payload};
use sse::Sse;

/// The framings of streamed replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Server-sent events (WHATWG HTML, section 9.2).
    Sse,
    /// AWS event streams.
    EventStream,
    /// AWS event streams that carry the events of another format, base64 inside their payloads.
    WrappedEventStream,
}

/// A decoder of any framing: bytes in any pieces to whole frames.
#[derive(Debug)]
pub enum Framer {
    /// Of server-sent events.
    Sse(Sse),
    /// Of AWS event streams.
    EventStream(EventStream),
}

/// Why a stream cannot be cut into frames any further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broken {
    /// A frame exceeds [`sse::MAX_EVENT`] or [`event_stream::MAX_MESSAGE`].
    TooLarge,
    /// A checksum or a length is wrong.
    Corrupt,
    /// The framing itself says that the upstream failed; nothing follows.
    Exception(Exception),
}

/// One frame of a streamed reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The name of the event; `None` where the stream did not name it.
    pub event: Option<&'a str>,
    /// The payload; several `data` lines are joined with a line feed.
    pub data: &'a str,
}

impl Frame<'_> {
    /// Appends the frame as a server-sent event.
    pub fn write_event(&self, out: &mut BytesMut) {
        if let Some(event) = self.event {
            for piece in ["event: ", event, "\n"] {
                out.extend_from_slice(piece.as_bytes());
            }
        }
        for line in self.data.split('\n') {
            for piece in ["data: ", line, "\n"] {
                out.extend_from_slice(piece.as_bytes());
            }
        }
        out.extend_from_slice(b"\n");
    }
}

impl Framing {
    /// Returns the media type of replies that are framed so.
    pub fn media_type(self) -> &'static str {
        match self {
            Framing::Sse => "text/event-stream",
            Framing::EventStream | Framing::WrappedEventStream => "application/vnd.amazon.eventstream",
        }
    }
}

impl Framer {
    /// Returns a decoder of `framing`.
    pub fn new(framing: Framing) -> Self {
        match framing {
            Framing::Sse => Framer::Sse(Sse::default()),
            Framing::EventStream => Framer::EventStream(EventStream::new(Payload::Document)),
            Framing::WrappedEventStream => Framer::EventStream(EventStream::new(Payload::Wrapped)),
        }
    }

    /// Takes the next bytes and hands every frame that they complete to `each`, with the number of bytes of
    /// `bytes` that were read when it was complete.
    ///
    /// # Errors
    /// Why the stream is broken. Nothing that follows can be read.
    pub fn push(&mut self, bytes: &[u8], each: impl FnMut(Frame<'_>, usize)) -> Result<(), Broken> {
        match self {
            Framer::Sse(sse) => sse.push(bytes, each).map_err(|_| Broken::TooLarge),
            Framer::EventStream(stream) => stream.push(bytes, each),
        }
    }

    /// Hands out a frame that only the end of the stream completes.
    pub fn finish(&mut self, each: impl FnMut(Frame<'_>)) {
        match self {
            Framer::Sse(sse) => sse.finish(each),
            // What has no checksum yet is nothing.
            Framer::EventStream(_) => {}
        }
    }

    /// Returns whether no frame is begun and not ended.
    pub fn is_between_frames(&self) -> bool {
        match self {
            Framer::Sse(sse) => sse.is_between_events(),
            Framer::EventStream(stream) => stream.is_between_messages(),
        }
    }
}

impl From<Broken> for ApiError {
    fn from(broken: Broken) -> Self {
        let message = match broken {
            Broken::TooLarge => "the upstream sent an event that exceeds 16 MiB",
            Broken::Corrupt => "the upstream's stream is corrupt: a checksum or a length is wrong",
            Broken::Exception(exception) => return exception.into_error(None),
        };
        ApiError::bad_reply(message)
    }
}
