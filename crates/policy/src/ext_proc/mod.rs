//! Asking while a request and its reply pass, by gRPC: the messages of one stream of
//! `envoy.service.ext_proc.v3.ExternalProcessor/Process`.
//!
//! There is a stream for each request. What passes is said to the service in pieces, and it says what becomes of each.
//! Numbers of fields are those of the definitions that Envoy publishes, named beside each.

mod pick;
mod say;
mod told;

pub use pick::{DESTINATION, SERVED, destinations, served, subset};
pub use say::{Head, body, head, trailers};
pub use told::{BodyChange, Change, Immediate, Told, What};

/// The method that begins a stream.
pub const PROCESS: &str = "/envoy.service.ext_proc.v3.ExternalProcessor/Process";

/// Which way something passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// From the client to the upstream.
    Request,
    /// Back.
    Reply,
}

/// How a service sees bodies: `ProcessingMode.BodySendMode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyMode {
    /// Not at all.
    #[default]
    Skipped,
    /// Piece by piece, each of which is waited for.
    Streamed,
    /// Whole.
    Buffered,
    /// Piece by piece, and what comes back is what is handed on, piece by piece, whenever it comes.
    Duplex,
}

/// What a service sees of a request and its reply: a ProcessingMode. Heads of requests are always seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modes {
    /// Bodies of requests.
    pub request: BodyMode,
    /// Whether heads of replies.
    pub reply_head: bool,
    /// Bodies of replies.
    pub reply: BodyMode,
    /// Whether what comes after bodies of replies.
    pub reply_trailers: bool,
}

impl Modes {
    /// Returns that everything is seen, and bodies in this way.
    pub fn all(body: BodyMode) -> Self {
        Self {
            request: body,
            reply_head: true,
            reply: body,
            reply_trailers: true,
        }
    }
}

impl BodyMode {
    /// Returns the word for it.
    pub fn name(self) -> &'static str {
        match self {
            BodyMode::Skipped => "skipped",
            BodyMode::Streamed => "streamed",
            BodyMode::Buffered => "buffered",
            BodyMode::Duplex => "duplex",
        }
    }

    fn number(self) -> u64 {
        match self {
            BodyMode::Skipped => 0,
            BodyMode::Streamed => 1,
            BodyMode::Buffered => 2,
            BodyMode::Duplex => 4,
        }
    }

    /// Reads the number; of bodies that are to be held up to a limit (3) all is held.
    fn of(number: u64) -> Self {
        match number {
            1 => BodyMode::Streamed,
            2 | 3 => BodyMode::Buffered,
            4 => BodyMode::Duplex,
            _ => BodyMode::Skipped,
        }
    }
}

#[cfg(test)]
mod tests;
