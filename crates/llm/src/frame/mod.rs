//! How a streamed reply is cut into frames.

pub mod sse;

/// The framings of streamed replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Server-sent events (WHATWG HTML, section 9.2).
    Sse,
}

/// One frame of a streamed reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The name of the event; `None` where the stream did not name it.
    pub event: Option<&'a str>,
    /// The payload; several `data` lines are joined with a line feed.
    pub data: &'a str,
}
