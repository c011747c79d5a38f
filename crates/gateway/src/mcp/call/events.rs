//! What a backend says over time, as messages: the events of a stream, or what a program writes.

use std::{borrow::Cow, collections::VecDeque, sync::Arc};

use bytes::Bytes;
use config::mcp_route::Backend;
use llm::frame::sse::{Event, Sse};
use mcp::{Id, Message, Response, json, message::Payload};

use super::{Failure, Fault, body::Body, reply::MAX_REPLY};
use crate::{
    body::Pieces,
    lane::Busy,
    mcp::{
        errand::Unanswered,
        stdio::{Abandoned, Talk},
    },
};

/// Messages as they arrive.
pub(in crate::mcp) struct Events {
    backend: Arc<str>,
    from: From,
    ready: VecDeque<Arrived>,
    ended: bool,
    /// What is done if nobody waits for the answer.
    unanswered: Option<Unanswered>,
    /// The request that is answered; `None` where any answer is taken.
    asked: Option<Id>,
    /// What the call weighs on its lane.
    _busy: Option<Busy>,
}

/// Where messages come from.
enum From {
    /// A stream of events.
    Http(Box<Reading>),
    /// A program.
    Program(Talk),
    /// What was read already.
    Whole,
}

/// A body that is read.
struct Reading {
    body: Body,
    sse: Sse,
    /// Whether anything but blanks has come.
    begun: bool,
    /// What has come of a document under the name of a stream of events.
    document: Option<Pieces>,
}

/// One event.
#[derive(Debug)]
pub(in crate::mcp) struct Arrived {
    /// `None` for an event that only says where the stream is.
    pub(in crate::mcp) message: Option<Message>,
    /// The backend's id for the event.
    pub(in crate::mcp) id: Option<String>,
    /// Milliseconds to wait before asking again.
    pub(in crate::mcp) retry: Option<u64>,
}

impl Events {
    /// Returns the messages in a body that is a stream of events, which answers the request called `asked`.
    pub(super) fn http(backend: &Backend, body: Body, busy: Option<Busy>, asked: Option<&Id>) -> Self {
        let reading = Reading {
            body,
            sse: Sse::within(backend.max_event),
            begun: false,
            document: None,
        };
        Self {
            asked: asked.cloned(),
            ..Self::new(&backend.name, From::Http(Box::new(reading)), busy)
        }
    }

    /// Returns messages that came at once, in answer to the request called `asked`.
    pub(in crate::mcp) fn read(backend: &Arc<str>, messages: Vec<Message>, asked: Option<&Id>) -> Self {
        Self {
            asked: asked.cloned(),
            ready: messages.into_iter().map(Arrived::message).collect(),
            ..Self::new(backend, From::Whole, None)
        }
    }

    /// Returns the messages that a program says.
    pub(super) fn program(backend: &Arc<str>, talk: Talk) -> Self {
        Self::new(backend, From::Program(talk), None)
    }

    fn new(backend: &Arc<str>, from: From, busy: Option<Busy>) -> Self {
        Self {
            backend: Arc::clone(backend),
            from,
            ready: VecDeque::new(),
            ended: false,
            unanswered: None,
            asked: None,
            _busy: busy,
        }
    }

    /// Sees to what is done if nobody waits for the answer.
    pub(in crate::mcp) fn watch(&mut self, call: Unanswered) {
        self.unanswered = Some(match self.abandoned() {
            Some(abandoned) => call.at(abandoned),
            None => call,
        });
    }

    /// Returns what a program is to be told if nobody waits for its answer.
    pub(in crate::mcp) fn abandoned(&self) -> Option<Abandoned> {
        match &self.from {
            From::Program(talk) => talk.abandoned(),
            From::Http(_) | From::Whole => None,
        }
    }

    /// Leaves that to whoever goes on where these messages end.
    pub(in crate::mcp) fn unwatch(&mut self) -> Option<Unanswered> {
        self.unanswered.take()
    }

    /// Returns whether an answer is one to the request. Some servers say strings as numbers or numbers as strings, and
    /// errors about what they could not read are without an id.
    fn is_asked(&self, response: &Response) -> bool {
        let plain =
            |id: &'_ Id| json::text(id.raw()).map_or_else(|| id.raw().get().to_owned(), Cow::into_owned);
        match (&self.asked, &response.id) {
            (Some(asked), Some(id)) => asked == id || plain(asked) == plain(id),
            (Some(_), None) | (None, _) => true,
        }
    }

    /// Returns the next event; `None` at the end.
    ///
    /// # Errors
    /// If the stream breaks off.
    pub(in crate::mcp) async fn next(&mut self) -> Result<Option<Arrived>, Failure> {
        loop {
            if let Some(mut arrived) = self.ready.pop_front() {
                if let Some(Message::Response(response)) = &arrived.message
                    && !self.is_asked(response)
                {
                    tracing::debug!(backend = %self.backend, "an answer to what was not asked");
                    arrived.message = None;
                }
                if let Some(Message::Response(_)) = &arrived.message
                    && let Some(call) = self.unanswered.take()
                {
                    call.answered();
                }
                return Ok(Some(arrived));
            }
            if self.ended {
                return Ok(None);
            }
            let (ready, backend) = (&mut self.ready, &self.backend);
            match &mut self.from {
                From::Http(reading) => {
                    let piece = reading.body.piece().await;
                    self.ended = !matches!(piece, Ok(Some(_)));
                    reading.take(backend, piece?, ready)?;
                }
                From::Whole => self.ended = true,
                From::Program(talk) => {
                    let message = talk.next().await;
                    self.ended = message.is_none();
                    ready.extend(message.map(Arrived::message));
                }
            }
        }
    }
}

impl Reading {
    /// Takes the next piece, or the end, and adds what it completes to `ready`.
    fn take(
        &mut self,
        backend: &Arc<str>,
        piece: Option<Bytes>,
        ready: &mut VecDeque<Arrived>,
    ) -> Result<(), Failure> {
        let too_large = |what| Failure::new(backend, Fault::BadReply, what);
        let Some(piece) = piece else {
            match self.document.take() {
                Some(document) => ready.extend(read(backend, &document.join())),
                None => self
                    .sse
                    .finish_events(|event| ready.extend(arrived(backend, &event))),
            }
            return Ok(());
        };
        let first = piece.iter().find(|byte| !is_blank(**byte));
        if let (false, Some(first)) = (self.begun, first) {
            self.begun = true;
            // No line of a stream begins like that.
            self.document = matches!(first, b'{' | b'[').then(Pieces::default);
        }
        match &mut self.document {
            Some(document) if document.len() + piece.len() > MAX_REPLY => {
                Err(too_large("its reply is too large"))
            }
            Some(document) => {
                document.push(piece);
                Ok(())
            }
            None => {
                let pushed = self
                    .sse
                    .push_events(&piece, |event, _| ready.extend(arrived(backend, &event)));
                pushed.map_err(|_| too_large("an event is too large"))
            }
        }
    }
}

/// Returns whether a byte means nothing before a document: a blank, or one of a byte order mark.
fn is_blank(byte: u8) -> bool {
    byte.is_ascii_whitespace() || b"\xEF\xBB\xBF".contains(&byte)
}

/// Returns the messages of a document.
fn read(backend: &Arc<str>, document: &[u8]) -> Vec<Arrived> {
    let messages = match Payload::parse(document) {
        Ok(Payload::One(message)) => vec![message],
        Ok(Payload::Batch(messages)) => messages,
        Err(error) => {
            tracing::debug!(%backend, %error, "a document is no message");
            Vec::new()
        }
    };
    messages.into_iter().map(Arrived::message).collect()
}

impl Arrived {
    fn message(message: Message) -> Self {
        Self {
            message: Some(message),
            id: None,
            retry: None,
        }
    }
}

/// Returns what an event amounts to: messages, or a place in the stream. What is no message is left out.
fn arrived(backend: &Arc<str>, event: &Event<'_>) -> Vec<Arrived> {
    let data = event.frame.data;
    let place = |message| Arrived {
        message,
        id: event.id.map(str::to_owned),
        retry: event.retry,
    };
    if data.trim().is_empty() {
        return vec![place(None)];
    }
    match Payload::parse(data.as_bytes()) {
        Ok(Payload::One(message)) => return vec![place(Some(message))],
        // Revision 2025-03-26 allows servers that.
        Ok(Payload::Batch(messages)) => {
            return messages.into_iter().map(|message| place(Some(message))).collect();
        }
        Err(_) => {}
    }
    // One message to a line, as some servers have it.
    let lines: Result<Vec<Message>, _> = data.lines().map(|line| Message::parse(line.as_bytes())).collect();
    match lines {
        Ok(messages) => messages.into_iter().map(|message| place(Some(message))).collect(),
        Err(error) => {
            tracing::debug!(%backend, %error, "an event is no message");
            Vec::new()
        }
    }
}
