//! Which of the two lines of the protocol a backend speaks, and the beginning of a conversation in it.
//!
//! A backend is asked in the client's line first, so that nothing has to be bridged where it speaks both. One that
//! refuses is asked in the other. What a backend spoke is remembered, as a guess that the next contradiction
//! corrects. Whoever is not let in has not said which line is spoken (compatibility specification, "2026-07-28
//! requirements").

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use config::mcp_route::{Backend, Reach};
use mcp::{
    Capabilities, Message, Outcome, Request, Response, Version,
    json::{self, Object},
    method,
    modern::Discovered,
    session::{Client, Entry},
};
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout};

use super::{
    call::{Ask, Begun, Caller, Failure, Fault, Reply, demands_login},
    initialize::Opened,
    turn::{NOTE_TIMEOUT, Turn, own_notification, own_request},
};
use crate::apart;

/// The lines that backends spoke, by where they are.
#[derive(Default)]
pub(super) struct Lines(Mutex<HashMap<Place, Line>>);

/// The id of a backend's connections, and its path.
type Place = (Arc<str>, Box<str>);

/// A line of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// With sessions.
    Legacy,
    /// Without.
    Modern,
}

/// The most backends whose line is remembered.
const MAX_KNOWN: usize = 4096;

/// Begins to speak with `backend`, for the client of `turn`.
pub(super) async fn open(turn: &Turn, backend: &Backend, limit: Duration) -> Result<Opened, Failure> {
    let began = Instant::now();
    turn.account.call(&backend.name, "", true);
    let opened = apart::begun(|| in_either(turn, backend, limit)).await;
    let session = opened.as_ref().map_or("", |opened| opened.entry.session.as_str());
    let failure = opened.as_ref().err().map(Failure::kind);
    turn.account.called(&backend.name, session, failure);
    turn.count_opened(backend, &opened, began.elapsed());
    opened
}

async fn in_either(turn: &Turn, backend: &Backend, limit: Duration) -> Result<Opened, Failure> {
    let until = Instant::now() + limit;
    let lines = &turn.runtime.sessions.lines;
    let client = Line::of(turn.is_modern());
    let pinned = backend.modern.map(Line::of);
    let known = pinned.or_else(|| lines.of(backend));
    let first = known.unwrap_or(client);
    let caller = turn.caller(backend);
    let limit = match first {
        // One that says nothing to this question needs time for the other.
        Line::Modern if known.is_none() => limit / 2,
        Line::Modern | Line::Legacy => limit,
    };
    let failure = match first.open(&caller, &turn.session.client, limit).await {
        Ok(opened) => {
            if known.is_none() {
                lines.note(backend, first);
            }
            return Ok(opened);
        }
        Err(failure) if pinned.is_none() && failure.may_be_of_the_other_line(first) => failure,
        Err(failure) => return Err(failure),
    };
    let other = first.other();
    let left = until.saturating_duration_since(Instant::now());
    match other.open(&caller, &turn.session.client, left).await {
        Ok(opened) => {
            lines.note(backend, other);
            Ok(opened)
        }
        // A server with sessions has said more about itself in the attempt that was meant for it.
        Err(second) if other == Line::Legacy => Err(second),
        Err(_) => Err(failure),
    }
}

impl Line {
    fn of(modern: bool) -> Self {
        if modern { Line::Modern } else { Line::Legacy }
    }

    fn other(self) -> Self {
        match self {
            Line::Legacy => Line::Modern,
            Line::Modern => Line::Legacy,
        }
    }

    async fn open(self, caller: &Caller<'_>, client: &Client, limit: Duration) -> Result<Opened, Failure> {
        let opened = async {
            match self {
                Line::Legacy => initialize(caller, client, limit).await,
                Line::Modern => discover(caller, limit).await,
            }
        };
        timeout(limit, opened).await.unwrap_or_else(|_| {
            let reason = format!("no answer within {} s", limit.as_secs_f32());
            Err(Failure::new(&caller.backend.name, Fault::Timeout, reason))
        })
    }
}

impl Failure {
    /// Returns whether a backend failed in `line` as one does that speaks the other.
    fn may_be_of_the_other_line(&self, line: Line) -> bool {
        match self.fault {
            Fault::BadReply => true,
            Fault::Status(status) => status.is_client_error() && !demands_login(status),
            // Some servers of old say nothing to what they do not know.
            Fault::Timeout => line == Line::Modern,
            Fault::Unreachable | Fault::Broken | Fault::Overflow | Fault::Credential => false,
        }
    }
}

impl Lines {
    fn of(&self, backend: &Backend) -> Option<Line> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&place(backend)?).copied()
    }

    fn note(&self, backend: &Backend, line: Line) {
        let Some(place) = place(backend) else { return };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(place, line);
    }
}

fn place(backend: &Backend) -> Option<Place> {
    match backend.reach.as_ref().ok()? {
        Reach::Http(http) => Some((Arc::clone(&http.id), Box::from(http.path.as_str()))),
        Reach::Program(program) => Some((Arc::clone(&program.id), Box::default())),
    }
}

/// Asks a backend what it is, in the line without sessions.
async fn discover(caller: &Caller<'_>, limit: Duration) -> Result<Opened, Failure> {
    let fail = |reason: &str| Failure::new(&caller.backend.name, Fault::BadReply, reason);
    let mut entry = Entry {
        backend: caller.backend.name.to_string(),
        session: String::new(),
        capabilities: Capabilities::NONE,
        version: Some(Version::V2026_07_28),
        endpoint: None,
    };
    let request = own_request("server/discover", None);
    let (result, opened) = answered(caller, Some(&entry), request, limit).await?;
    let discovered = Discovered::read(&result);
    let discovered = discovered.ok_or_else(|| fail("it speaks no revision without sessions"))?;
    entry.capabilities = discovered.capabilities;
    let opened = opened.unwrap_or_default();
    (entry.session, entry.endpoint) = (opened.id, opened.endpoint);
    Ok(Opened { entry, result })
}

/// Opens a session with a backend, for a client that says this about itself.
async fn initialize(caller: &Caller<'_>, client: &Client, limit: Duration) -> Result<Opened, Failure> {
    let fail = |reason: &str| Failure::new(&caller.backend.name, Fault::BadReply, reason);
    let mut params = Object::default();
    // The newest that we speak, whatever the client does; features are the client's, so that no backend asks for
    // what the client cannot do.
    params.set("protocolVersion", json::raw(Version::NEWEST_LEGACY.name()));
    params.set("capabilities", json::document(&client.capabilities));
    params.set("clientInfo", json::document(&client.info));
    if let Some(meta) = caller.opening {
        params.set("_meta", meta.to_owned());
    }
    let request = own_request("initialize", Some(params.to_raw()));
    let (result, session) = answered(caller, None, request, limit).await?;
    let object = Object::parse(&result).ok_or_else(|| fail("its answer to initialize is none"))?;
    let session = session.unwrap_or_default();
    let entry = Entry {
        backend: caller.backend.name.to_string(),
        session: session.id,
        endpoint: session.endpoint,
        capabilities: Capabilities::read(object.get("capabilities")),
        version: object
            .text("protocolVersion")
            .and_then(|own| Version::parse(&own)),
    };
    let initialized = own_notification(method::INITIALIZED);
    caller
        .ask(Some(&entry), Ask::Post(&initialized), limit.min(NOTE_TIMEOUT))
        .await?;
    Ok(Opened { entry, result })
}

/// Returns the result of a request of the gateway's own, and the session that it opened.
pub(super) async fn answered(
    caller: &Caller<'_>,
    entry: Option<&Entry>,
    request: Request,
    limit: Duration,
) -> Result<(Box<RawValue>, Option<Begun>), Failure> {
    let fail = |reason: String| Failure::new(&caller.backend.name, Fault::BadReply, reason);
    let method = request.method.clone();
    let message = Message::Request(request);
    let reply = caller.ask(entry, Ask::Post(&message), limit).await?;
    let (answer, session) = match reply {
        Reply::Message(message, session) => (Some(message), session),
        Reply::Events(mut events, session) => {
            let found = async {
                while let Some(arrived) = events.next().await? {
                    if let Some(message @ Message::Response(_)) = arrived.message {
                        return Ok(Some(message));
                    }
                }
                Ok(None)
            };
            (found.await?, session)
        }
        Reply::Nothing => (None, None),
    };
    let Some(Message::Response(Response { outcome, .. })) = answer else {
        return Err(fail(format!("it did not answer {method}")));
    };
    match outcome {
        Outcome::Result(result) => Ok((result, session)),
        Outcome::Error(error) => {
            let error = Object::parse(&error);
            let said = error.as_ref().and_then(|error| error.text("message"));
            Err(fail(format!("it refused: {}", said.unwrap_or_default())))
        }
    }
}
