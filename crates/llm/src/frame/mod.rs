//! How a streamed reply is cut into frames.

use std::fmt;

use bytes::BytesMut;

pub mod sse;

use sse::Sse;

/// The framings of streamed replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Server-sent events (WHATWG HTML, section 9.2).
    Sse,
}

/// A decoder of any framing: bytes in any pieces to whole frames.
#[derive(Debug)]
pub enum Framer {
    /// Of server-sent events.
    Sse(Sse),
}

/// Why a stream cannot be cut into frames any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// A frame exceeds [`sse::MAX_EVENT`].
    TooLarge,
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

impl Framer {
    /// Returns a decoder of `framing`.
    pub fn new(framing: Framing) -> Self {
        match framing {
            Framing::Sse => Framer::Sse(Sse::default()),
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
        }
    }

    /// Hands out a frame that only the end of the stream completes.
    pub fn finish(&mut self, each: impl FnMut(Frame<'_>)) {
        match self {
            Framer::Sse(sse) => sse.finish(each),
        }
    }

    /// Returns whether no frame is begun and not ended.
    pub fn is_between_frames(&self) -> bool {
        match self {
            Framer::Sse(sse) => sse.is_between_events(),
        }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Broken::TooLarge => "the upstream sent an event that exceeds 16 MiB",
        })
    }
}
