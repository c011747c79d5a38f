//! One call to one backend: what it is sent, and its reply as messages.

mod events;
mod failure;
mod reply;
mod request;

use std::time::Duration;

use config::mcp_route::{Backend, Reach};
use http::{HeaderMap, HeaderName, HeaderValue};
use mcp::{Message, Version, modern::About, session::Entry};
use tokio::time::{Instant, timeout_at};

use super::stdio::{self, Programs};
use crate::{State, telemetry::trace::Position, upstream::CallError};

pub(super) use events::Events;
pub(super) use failure::{Failure, Fault};
pub(super) use reply::{Reply, demands_login, media_type};

/// Names a session with a backend, and ours with a client.
pub(super) const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
/// Says which revision is spoken.
pub(super) const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
/// Says where in a stream to go on.
pub(super) const LAST_EVENT: HeaderName = HeaderName::from_static("last-event-id");

/// What a backend is asked.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ask<'a> {
    /// To take a message.
    Post(&'a Message),
    /// For its stream, from after this event on.
    Get(Option<&'a str>),
    /// To end the session.
    Delete,
}

/// A backend and what is needed to call it.
pub(super) struct Caller<'a> {
    pub(super) state: &'a State,
    pub(super) programs: &'a Programs,
    pub(super) backend: &'a Backend,
    /// The client's headers, of which those are sent on that the route names.
    pub(super) client: &'a HeaderMap,
    /// Headers in which every server is told who calls.
    pub(super) told: &'a [HeaderName],
    pub(super) request_id: &'a HeaderValue,
    /// What servers that keep no session are told of the client.
    pub(super) about: About<'a>,
    /// Whether the client keeps none either.
    pub(super) modern: bool,
    /// Arguments that headers repeat, where the client does not send these headers itself.
    pub(super) repeated: Vec<(String, String)>,
    /// Where the call stands, where there are traces; otherwise what the client says of it is sent on.
    pub(super) position: Option<Position>,
}

impl Caller<'_> {
    /// Asks the backend, in the session of `entry` if there is one; a reply must begin within `limit`.
    pub(super) async fn ask(
        &self,
        entry: Option<&Entry>,
        ask: Ask<'_>,
        limit: Duration,
    ) -> Result<Reply, Failure> {
        let fail = |fault, reason: String| Failure::new(&self.backend.name, fault, reason);
        let in_line = match ask {
            Ask::Post(message) if is_modern(entry) => {
                // Servers of this line are told nothing but requests.
                let Message::Request(_) = message else {
                    return Ok(Reply::Nothing);
                };
                self.stamped(message)
            }
            Ask::Post(_) | Ask::Get(_) | Ask::Delete => None,
        };
        let ask = in_line.as_ref().map_or(ask, Ask::Post);
        let placed = match (ask, &self.position) {
            (Ask::Post(message), Some(position)) => position.named_in(message),
            (Ask::Post(_) | Ask::Get(_) | Ask::Delete, _) => None,
        };
        let ask = placed.as_ref().map_or(ask, Ask::Post);
        let reach = self.backend.reach.as_ref();
        let reach = reach.map_err(|reason| fail(Fault::Unreachable, reason.clone()))?;
        let reach = match reach {
            Reach::Http(http) => http,
            Reach::Program(program) => {
                let call = stdio::Call {
                    programs: self.programs,
                    backend: &self.backend.name,
                    program,
                    entry,
                };
                return call.ask(ask, limit).await;
            }
        };
        let client = self.state.clients.pick_of(&reach.id);
        let client = client.ok_or_else(|| fail(Fault::Unreachable, "it has no endpoint".to_owned()))?;
        let request = self.request(reach, &client.host, entry, ask)?;
        let until = Instant::now() + limit;
        let in_time = || {
            fail(
                Fault::Timeout,
                format!("no answer within {} s", limit.as_secs_f32()),
            )
        };
        let response = match timeout_at(until, client.call(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                let fault = match error {
                    CallError::Connect(_) | CallError::Refused(_) => Fault::Unreachable,
                    CallError::Reset(_) => Fault::Broken,
                };
                return Err(fail(fault, error.to_string()));
            }
            Err(_) => return Err(in_time()),
        };
        let (head, body) = response.into_parts();
        let read = self.read(&head, body, entry, ask);
        timeout_at(until, read).await.unwrap_or_else(|_| Err(in_time()))
    }
}

/// Returns whether a backend is spoken with in the line without sessions.
pub(super) fn is_modern(entry: Option<&Entry>) -> bool {
    entry
        .and_then(|entry| entry.version)
        .is_some_and(Version::is_modern)
}
