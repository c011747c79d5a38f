//! What a backend answers: nothing, a message or a stream, or a status that says that it is none.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header, response};
use llm::frame::sse::{Event, Sse};
use mcp::{Message, error, message::Payload, session::Entry};

use super::{Ask, Caller, Events, Failure, Fault, Replied, SESSION, body::Body};
use crate::mcp::stdio::Talk;

/// The largest reply that is no stream.
pub(super) const MAX_REPLY: usize = 64 * 1024 * 1024;

/// The most that is read of a reply whose status says that it is none.
const MAX_ERROR: usize = 64 * 1024;

/// A backend's reply.
pub(in crate::mcp) enum Reply {
    /// It took the message, or has no stream, and says nothing.
    Nothing,
    /// One message, and the session that it opened.
    Message(Message, Option<Begun>),
    /// Several, over time, and the session that it opened.
    Events(Box<Events>, Option<Begun>),
}

/// A session that a backend has opened.
#[derive(Debug, Default)]
pub(in crate::mcp) struct Begun {
    pub(in crate::mcp) id: String,
    /// The hash of the address of the endpoint that keeps it.
    pub(in crate::mcp) endpoint: Option<u64>,
}

impl Reply {
    /// Returns the reply that is what a program says.
    pub(in crate::mcp) fn talk(backend: &Arc<str>, talk: Talk, opened: Option<Begun>) -> Self {
        Reply::Events(Box::new(Events::program(backend, talk)), opened)
    }
}

impl Caller<'_> {
    /// Reads the reply to `ask`.
    pub(super) async fn read(
        &self,
        replied: Replied,
        entry: Option<&Entry>,
        ask: Ask<'_>,
    ) -> Result<Reply, Failure> {
        let Replied {
            response,
            endpoint,
            busy,
        } = replied;
        let (head, body) = response.into_parts();
        let opened = head
            .headers
            .get(SESSION)
            .and_then(|id| id.to_str().ok())
            .map(|id| Begun {
                id: id.to_owned(),
                endpoint: Some(endpoint),
            });
        match head.status {
            StatusCode::ACCEPTED | StatusCode::NO_CONTENT => return Ok(Reply::Nothing),
            // A backend need not have a stream, nor end sessions.
            StatusCode::METHOD_NOT_ALLOWED if !matches!(ask, Ask::Post(_)) => return Ok(Reply::Nothing),
            status if !status.is_success() => {
                let body = Body::new(&self.backend.name, &head.headers, body);
                return self.refused(&head, body, entry, ask).await;
            }
            _ => {}
        }
        if matches!(ask, Ask::Delete) {
            return Ok(Reply::Nothing);
        }
        let body = Body::new(&self.backend.name, &head.headers, body)?;
        let asked = match ask {
            Ask::Post(Message::Request(request)) => Some(&request.id),
            Ask::Post(Message::Notification(_) | Message::Response(_)) | Ask::Get(_) | Ask::Delete => None,
        };
        if media_type(&head.headers).is_some_and(|kind| kind.eq_ignore_ascii_case("text/event-stream")) {
            let events = Events::http(self.backend, body, busy, asked);
            return Ok(Reply::Events(Box::new(events), opened));
        }
        let bytes = body.whole(MAX_REPLY).await?;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Reply::Nothing);
        }
        match Payload::parse(&bytes) {
            Ok(Payload::One(message)) => Ok(Reply::Message(message, opened)),
            Ok(Payload::Batch(messages)) => {
                let events = Events::read(&self.backend.name, messages, asked);
                Ok(Reply::Events(Box::new(events), opened))
            }
            // Events under another name.
            Err(error) => answer_among(&bytes).map_or_else(
                || {
                    Err(Failure::new(
                        &self.backend.name,
                        Fault::BadReply,
                        error.to_string(),
                    ))
                },
                |message| Ok(Reply::Message(message, opened)),
            ),
        }
    }

    /// Reads a reply whose status says that it is none; an error that it holds is an answer all the same, where one is wanted.
    async fn refused(
        &self,
        head: &response::Parts,
        body: Result<Body, Failure>,
        entry: Option<&Entry>,
        ask: Ask<'_>,
    ) -> Result<Reply, Failure> {
        let bytes = match body {
            Ok(body) => body.whole(MAX_ERROR).await.unwrap_or_default(),
            Err(_) => Bytes::new(),
        };
        let status = head.status;
        let message = Message::parse(&bytes).ok();
        let said = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
        let in_session = entry.is_some_and(|entry| !entry.session.is_empty());
        let lost = in_session && is_lost(status, ask, message.as_ref(), &said);
        let answers = match ask {
            // What answers a notification is passed over.
            Ask::Post(Message::Request(_) | Message::Notification(_)) => !lost && !demands_login(status),
            // Neither a stream nor the end of a question or a session is in an error.
            Ask::Post(Message::Response(_)) | Ask::Get(_) | Ask::Delete => false,
        };
        match message {
            Some(message @ Message::Response(_)) if answers => Ok(Reply::Message(message, None)),
            _ => Err(Failure {
                challenge: head.headers.get(header::WWW_AUTHENTICATE).cloned(),
                retry_after: head
                    .headers
                    .get(header::RETRY_AFTER)
                    .and_then(|seconds| seconds.to_str().ok()?.parse().ok()),
                lost,
                ..Failure::new(
                    &self.backend.name,
                    Fault::Status(status),
                    format!("it answered with status {}", status.as_u16()),
                )
            }),
        }
    }
}

/// Returns whether a refusal, which says this in small letters, is that of a session that is not known. Revision 2025-03-26
/// wants a 404 for that; some servers answer 400, and some say 404 of other things as well.
fn is_lost(status: StatusCode, ask: Ask<'_>, message: Option<&Message>, said: &str) -> bool {
    let of_session = said.contains("session");
    match status {
        StatusCode::BAD_REQUEST => of_session && !said.contains("initialized"),
        StatusCode::NOT_FOUND => match (ask, message) {
            // An answer to what was asked.
            (Ask::Post(Message::Request(request)), Some(Message::Response(response)))
                if response.id.as_ref() == Some(&request.id) =>
            {
                of_session || response.code() == Some(error::SESSION_NOT_FOUND)
            }
            // Whoever has no stream may have no such page either.
            (Ask::Get(_), None) => of_session || said.trim().is_empty(),
            (Ask::Post(_) | Ask::Get(_) | Ask::Delete, _) => true,
        },
        _ => false,
    }
}

/// Returns the answer in a stream that was not announced as one.
fn answer_among(bytes: &[u8]) -> Option<Message> {
    let mut found = None;
    let mut sse = Sse::within(MAX_REPLY);
    let mut look = |event: Event<'_>| {
        if let Ok(message @ Message::Response(_)) = Message::parse(event.frame.data.as_bytes()) {
            found = Some(message);
        }
    };
    sse.push_events(bytes, |event, _| look(event)).ok()?;
    sse.finish_events(look);
    found
}

/// Returns whether a status is about who calls, which no other answer can stand for.
pub(in crate::mcp) fn demands_login(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
}

/// Returns the media type of a body, without parameters.
pub(in crate::mcp) fn media_type(headers: &HeaderMap) -> Option<&str> {
    let kind = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    kind.split(';').next().map(str::trim)
}
