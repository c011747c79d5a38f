//! What an upstream is to do, step by step.
//!
//! A [`Reply`] is a list of steps that end in bytes, a wait or a fault. Waits are [`Gate`]s that the test
//! opens, never times, so that a test decides what happens first.

use std::{fmt::Write, sync::Arc, time::Duration};

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::watch;

use crate::upstream::Received;

/// Something that a test opens once and others wait for.
#[derive(Clone, Debug)]
pub struct Gate(Arc<watch::Sender<bool>>);

/// Which request is answered how.
pub enum Script {
    /// The first request by the first reply and so on; the last reply serves all further ones.
    Replies(Vec<Reply>),
    /// Each request by what a function makes of it.
    Answer(Box<dyn Fn(&Received) -> Reply + Send + Sync>),
}

/// How one request is answered.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    steps: Vec<Step>,
    chunked: bool,
}

/// One step of a reply.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Puts bytes on the wire.
    Write(Bytes),
    /// Goes on when the gate is open.
    Wait(Gate),
    /// Opens a gate, to tell the test that the reply got here.
    Signal(Gate),
    /// Goes on after a time; only for replies that are slow by nature.
    Pause(Duration),
    /// Says nothing more until the client goes away.
    Stall,
    /// Closes the connection in an orderly way.
    Close,
    /// Breaks the connection off with a reset.
    Reset,
}

impl Default for Gate {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }
}

impl Gate {
    /// Returns a gate that is closed.
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens the gate for good.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    /// Waits until the gate is open.
    pub async fn wait(&self) {
        let mut gate = self.0.subscribe();
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = gate.wait_for(|open| *open).await;
    }
}

impl From<Reply> for Script {
    fn from(reply: Reply) -> Self {
        Script::Replies(vec![reply])
    }
}

impl From<Vec<Reply>> for Script {
    fn from(replies: Vec<Reply>) -> Self {
        Script::Replies(replies)
    }
}

impl Script {
    /// Returns a script that answers each request by what `answer` makes of it.
    pub fn answer(answer: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        Script::Answer(Box::new(answer))
    }

    /// Returns the reply to the request that arrived as number `index`.
    pub(crate) fn reply(&self, index: usize, request: &Received) -> Reply {
        match self {
            Script::Replies(replies) => replies.get(index).or(replies.last()).cloned().unwrap_or_default(),
            Script::Answer(answer) => answer(request),
        }
    }
}

impl Reply {
    /// Returns a reply that says nothing yet; see [`Reply::stall`], [`Reply::reset`], [`Reply::raw`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns a whole JSON reply.
    pub fn json(status: u16, body: &Value) -> Self {
        Self::whole(status, &[("content-type", "application/json")], &body.to_string())
    }

    /// Returns a whole reply with a `content-length`.
    pub fn whole(status: u16, headers: &[(&str, &str)], body: &str) -> Self {
        let length = body.len().to_string();
        let headers = [headers, &[("content-length", length.as_str())]].concat();
        Self::new().head(status, &headers).raw(body.to_owned())
    }

    /// Returns the head of an event stream; events follow by [`Reply::frame`].
    pub fn stream() -> Self {
        Self::chunked(200, &[("content-type", "text/event-stream; charset=utf-8")])
    }

    /// Returns a head after which each [`Reply::frame`] is sent as a chunk.
    pub fn chunked(status: u16, headers: &[(&str, &str)]) -> Self {
        let headers = [headers, &[("transfer-encoding", "chunked")]].concat();
        let mut reply = Self::new().head(status, &headers);
        reply.chunked = true;
        reply
    }

    /// Returns a whole event stream with an orderly end.
    pub fn sse<F: AsRef<str>>(frames: impl IntoIterator<Item = F>) -> Self {
        Self::stream().frames(frames).end()
    }

    /// Adds a head; the body's framing is up to the caller.
    #[must_use]
    pub fn head(self, status: u16, headers: &[(&str, &str)]) -> Self {
        let mut head = format!("HTTP/1.1 {status} {}\r\n", reason(status));
        for (name, value) in headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        head.push_str("\r\n");
        self.raw(head)
    }

    /// Adds bytes just as they are.
    #[must_use]
    pub fn raw(self, bytes: impl Into<Bytes>) -> Self {
        self.step(Step::Write(bytes.into()))
    }

    /// Adds a piece of the body: a chunk of its own where the reply is chunked.
    #[must_use]
    pub fn frame(self, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        if !self.chunked {
            return self.raw(bytes.to_vec());
        }
        if bytes.is_empty() {
            return self;
        }
        let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
        chunk.extend_from_slice(bytes);
        chunk.extend_from_slice(b"\r\n");
        self.raw(chunk)
    }

    /// Adds pieces of the body.
    #[must_use]
    pub fn frames<F: AsRef<str>>(self, frames: impl IntoIterator<Item = F>) -> Self {
        frames
            .into_iter()
            .fold(self, |reply, frame| reply.frame(frame.as_ref()))
    }

    /// Adds `body` in pieces of `size` bytes, whatever they cut in two.
    #[must_use]
    pub fn split(self, body: &str, size: usize) -> Self {
        body.as_bytes()
            .chunks(size.max(1))
            .fold(self, |reply, piece| reply.frame(piece))
    }

    /// Adds `body` byte by byte with a pause after each.
    #[must_use]
    pub fn drip(self, body: &str, pause: Duration) -> Self {
        body.as_bytes()
            .chunks(1)
            .fold(self, |reply, piece| reply.frame(piece).step(Step::Pause(pause)))
    }

    /// Ends a chunked body in an orderly way.
    #[must_use]
    pub fn end(self) -> Self {
        if self.chunked { self.raw("0\r\n\r\n") } else { self }
    }

    /// Waits until the test opens `gate`.
    #[must_use]
    pub fn wait(self, gate: &Gate) -> Self {
        self.step(Step::Wait(gate.clone()))
    }

    /// Opens `gate` when the reply has got here.
    #[must_use]
    pub fn signal(self, gate: &Gate) -> Self {
        self.step(Step::Signal(gate.clone()))
    }

    /// Goes on after `time`; only for upstreams that are slow by nature, never to wait for something.
    #[must_use]
    pub fn pause(self, time: Duration) -> Self {
        self.step(Step::Pause(time))
    }

    /// Says nothing more until the client goes away.
    #[must_use]
    pub fn stall(self) -> Self {
        self.step(Step::Stall)
    }

    /// Closes the connection here, in an orderly way; within a body that is a cut.
    #[must_use]
    pub fn close(self) -> Self {
        self.step(Step::Close)
    }

    /// Breaks the connection off here with a reset.
    #[must_use]
    pub fn reset(self) -> Self {
        self.step(Step::Reset)
    }

    pub(crate) fn into_steps(self) -> Vec<Step> {
        self.steps
    }

    fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }
}

/// Returns the words that go with a status; clients ignore them, people who read a trace do not.
fn reason(status: u16) -> &'static str {
    http::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("Unknown")
}
