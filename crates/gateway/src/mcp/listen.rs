//! The stream that a client listens to: what backends say unasked, as one stream, and the rest of answers that
//! broke off.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use config::mcp_route::{Backend, Route};
use http::{HeaderMap, StatusCode};
use mcp::{Capabilities, Message, RpcError, Version, event::Place, session::Entry, sse};

use super::{
    call::{Ask, Failure, Fault, LAST_EVENT, Reply},
    gather::gather,
    hear::{Heard, hear},
    outlet::{Outlet, Said},
    refused::Refused,
    sessions::{Listening, now},
    single::{Answering, Followed},
    turn::{Turn, own_notification, own_request},
};

/// What ids of the gateway's own pings begin with; answers to them mean nothing.
pub(super) const PING: &str = "aigw-server-to-client-ping";

/// The first and the longest wait before a backend's stream is asked for again.
const WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What a client wants of a stream.
pub(super) enum Wanted {
    /// All that is said unasked, from these events on.
    All(Vec<(String, String)>, Listening),
    /// The rest of one answer.
    Rest {
        backend: String,
        event: String,
        method: String,
    },
}

impl Wanted {
    /// Reads what the client wants, and claims the stream where there is only one.
    pub(super) fn read(turn: &Turn, headers: &HeaderMap) -> Result<Self, Box<Refused>> {
        let last = headers
            .get(LAST_EVENT)
            .map(|last| last.to_str().unwrap_or_default());
        let tokens = &turn.runtime.sessions.tokens;
        let place = match last.filter(|last| !last.is_empty()) {
            None => Place::All(Vec::new()),
            Some(last) => tokens
                .open_place(last, &turn.token, now())
                .ok_or_else(|| Refused::bad(RpcError::invalid_request("invalid Last-Event-ID")))?,
        };
        match place {
            Place::Answer {
                backend,
                event,
                method,
            } => Ok(Wanted::Rest {
                backend,
                event,
                method,
            }),
            Place::All(events) => {
                let listening = Listening::new(&turn.runtime, turn.fingerprint);
                let taken = || RpcError::invalid_request("the session's stream is being listened to already");
                let listening = listening.ok_or_else(|| Refused::new(StatusCode::CONFLICT, taken()))?;
                Ok(Wanted::All(events, listening))
            }
        }
    }
}

/// Gives the client what it wants.
pub(super) async fn serve(turn: &Turn, outlet: &Outlet, wanted: Wanted) -> Result<Said, Box<Refused>> {
    match wanted {
        Wanted::Rest {
            backend,
            event,
            method,
        } => rest(turn, outlet, &backend, &event, &method).await,
        Wanted::All(events, _listening) => {
            all(turn, outlet, events).await;
            Ok(Said::nothing())
        }
    }
}

async fn rest(
    turn: &Turn,
    outlet: &Outlet,
    backend: &str,
    event: &str,
    method: &str,
) -> Result<Said, Box<Refused>> {
    let backend = turn.route.backend(backend).ok_or_else(Refused::no_session)?;
    let answer = Answering {
        turn,
        outlet,
        backend,
        method,
    };
    match turn
        .ask(backend, Ask::Get(Some(event)), backend.list_timeout)
        .await?
    {
        Reply::Events(events, _) => match answer.follow(events).await? {
            Followed::Answer(response, event) => Ok(Said {
                event,
                ..Said::message(answer.said(response, None))
            }),
            Followed::Later => Ok(Said::nothing()),
        },
        Reply::Message(..) | Reply::Nothing => {
            let failure = Failure::new(&backend.name, Fault::BadReply, "it cannot resume a stream");
            Err(failure.into())
        }
    }
}

/// Listens to every backend that has a stream, until the client goes away or the route does.
async fn all(turn: &Turn, outlet: &Outlet, events: Vec<(String, String)>) {
    outlet.write(|out| first_words(turn, out)).await;
    let places = Mutex::new(events);
    let backends = turn.able(Capabilities::NONE);
    let streams = async {
        let streams = backends
            .iter()
            .map(|(backend, entry)| stream(turn, outlet, backend, entry, &places));
        gather(streams).await;
        // The client may still be told of changes here.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = streams => {}
        () = changes(turn, outlet) => {}
    }
}

/// Some clients of older revisions wait for a first event before they do anything else.
fn first_words(turn: &Turn, out: &mut Vec<u8>) {
    if turn.session.version > Version::V2025_06_18 {
        out.extend_from_slice(sse::KEEP_ALIVE);
        return;
    }
    let id = format!("{PING}{:032x}", fastrand::u128(..));
    let ping = Message::Request(own_request(&id, "ping", Some(mcp::json::empty())));
    sse::write(out, None, ping.to_raw().get());
}

/// Hands on the stream of one backend, for as long as it has one.
async fn stream(
    turn: &Turn,
    outlet: &Outlet,
    backend: &Backend,
    entry: &Entry,
    places: &Mutex<Vec<(String, String)>>,
) {
    // Without a session there is nothing that could be said to this client only.
    if entry.session.is_empty() {
        return;
    }
    let mut wait = WAIT;
    loop {
        let last = lock(places)
            .iter()
            .find(|(name, _)| **name == *backend.name)
            .map(|(_, event)| event.clone());
        let last = last.filter(|last| !last.is_empty());
        match turn
            .ask(backend, Ask::Get(last.as_deref()), backend.list_timeout)
            .await
        {
            Ok(Reply::Events(mut events, _)) => {
                wait = WAIT;
                loop {
                    let arrived = match events.next().await {
                        Ok(Some(arrived)) => arrived,
                        Ok(None) => break,
                        Err(failure) => {
                            tracing::debug!(backend = %backend.name, reason = %failure.reason, "a stream ended");
                            break;
                        }
                    };
                    if let Some(retry) = arrived.retry {
                        wait = Duration::from_millis(retry).min(LONGEST_WAIT);
                    }
                    let event = arrived
                        .id
                        .map(|id| turn.place(&Place::All(noted(places, &backend.name, id))));
                    let Some(message) = arrived.message else { continue };
                    match hear(turn, backend, message).await {
                        Heard::Tell(document) => outlet.say(event.as_deref(), &document).await,
                        // An answer to nobody.
                        Heard::Answer(_) | Heard::Settled => {}
                    }
                }
            }
            Ok(Reply::Message(..) | Reply::Nothing) => return,
            Err(Failure {
                fault: Fault::Status(status),
                ..
            }) => {
                tracing::debug!(backend = %backend.name, status = status.as_u16(), "a backend has no stream");
                return;
            }
            Err(failure) => {
                tracing::debug!(backend = %backend.name, reason = %failure.reason, "a stream cannot be had");
            }
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// Takes note of a backend's last event, and returns those of all.
fn noted(places: &Mutex<Vec<(String, String)>>, backend: &str, event: String) -> Vec<(String, String)> {
    let mut places = lock(places);
    match places.iter_mut().find(|(name, _)| name == backend) {
        Some((_, last)) => *last = event,
        None => places.push((backend.to_owned(), event)),
    }
    places.clone()
}

fn lock(places: &Mutex<Vec<(String, String)>>) -> std::sync::MutexGuard<'_, Vec<(String, String)>> {
    places.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells the client when a reload changes what the route offers; returns when the route is gone.
async fn changes(turn: &Turn, outlet: &Outlet) {
    let mut installed = turn.runtime.installed.subscribe();
    let mut offered = offer(&turn.route);
    while installed.changed().await.is_ok() {
        let state = installed.borrow_and_update().clone();
        let listeners = state.iter().flat_map(|state| state.snapshot.listeners.values());
        let route = listeners
            .flat_map(|listener| listener.mcp.routes())
            .find(|route| route.id == turn.route.id);
        let Some(now) = route.map(|route| offer(route)) else {
            return;
        };
        if now == offered {
            continue;
        }
        offered = now;
        for what in ["tools", "prompts", "resources"] {
            let changed = own_notification(&format!("notifications/{what}/list_changed"));
            outlet.say(None, &changed.to_raw()).await;
        }
    }
}

/// Returns what decides which names a route offers.
fn offer(route: &Route) -> String {
    let backends = route
        .backends
        .iter()
        .map(|backend| (&backend.name, &backend.selector));
    format!("{:?} {:?}", route.prefix, backends.collect::<Vec<_>>())
}
