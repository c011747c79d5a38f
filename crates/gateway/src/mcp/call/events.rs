//! What a backend says over time, as messages: the events of a stream, or what a program writes.

use std::{collections::VecDeque, sync::Arc};

use config::mcp_route::Backend;
use http_body_util::BodyExt;
use llm::frame::sse::{Event, Sse};
use mcp::Message;

use super::{Failure, Fault};
use crate::{
    lane::Busy,
    mcp::{
        errand::Unanswered,
        stdio::{Abandoned, Talk},
    },
    upstream,
};

/// Messages as they arrive.
pub(in crate::mcp) struct Events {
    backend: Arc<str>,
    from: From,
    ready: VecDeque<Arrived>,
    ended: bool,
    /// What is done if nobody waits for the answer.
    unanswered: Option<Unanswered>,
    /// What the call weighs on its lane.
    _busy: Option<Busy>,
}

/// Where messages come from.
enum From {
    /// A stream of events.
    Http(upstream::Reply, Sse),
    /// A program.
    Program(Talk),
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
    /// Returns the messages in a body that is a stream of events.
    pub(super) fn http(backend: &Backend, body: upstream::Reply, busy: Option<Busy>) -> Self {
        let sse = Sse::within(backend.max_event);
        Self::new(&backend.name, From::Http(body, sse), busy)
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
            From::Http(..) => None,
        }
    }

    /// Leaves that to whoever goes on where these messages end.
    pub(in crate::mcp) fn unwatch(&mut self) -> Option<Unanswered> {
        self.unanswered.take()
    }

    /// Returns the next event; `None` at the end.
    ///
    /// # Errors
    /// If the stream breaks off.
    pub(in crate::mcp) async fn next(&mut self) -> Result<Option<Arrived>, Failure> {
        loop {
            if let Some(arrived) = self.ready.pop_front() {
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
            let (body, sse) = match &mut self.from {
                From::Http(body, sse) => (body, sse),
                From::Program(talk) => {
                    let message = talk.next().await;
                    self.ended = message.is_none();
                    ready.extend(message.map(Arrived::message));
                    continue;
                }
            };
            match body.frame().await {
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    let pushed = sse.push_events(&data, |event, _| ready.extend(arrived(backend, &event)));
                    pushed.map_err(|_| Failure::new(backend, Fault::BadReply, "an event is too large"))?;
                }
                Some(Err(_)) => {
                    self.ended = true;
                    return Err(Failure::new(backend, Fault::Broken, "its stream broke off"));
                }
                None => {
                    self.ended = true;
                    sse.finish_events(|event| ready.extend(arrived(backend, &event)));
                }
            }
        }
    }
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
    if let Ok(message) = Message::parse(data.as_bytes()) {
        return vec![place(Some(message))];
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
