//! The stream that a client listens to: what backends say unasked, as one stream, and the rest of answers that
//! broke off.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use config::mcp_route::{Backend, Route};
use http::{HeaderMap, StatusCode};
use mcp::{
    Capabilities, Message, Notification, RpcError, Version, event::Place, session::Entry, sse,
    subscription::Filter,
};

use super::{
    answering::{Answering, Followed},
    call::{Ask, Events, Failure, Fault, LAST_EVENT, Reply, is_modern},
    gather::gather,
    hear::{Heard, hear},
    inband, join,
    notices::{KINDS, Notices},
    outlet::{Outlet, Said},
    refused::Refused,
    sessions::{Listening, now},
    subscribe,
    turn::{Turn, own_request},
};

/// What ids of the gateway's own pings begin with; answers to them mean nothing.
pub(super) const PING: &str = "aigw-server-to-client-ping";

/// The first and the longest wait before a backend's stream is asked for again.
pub(super) const WAIT: Duration = Duration::from_millis(500);
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(30);

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
        let tokens = turn.runtime.sessions.tokens();
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
        request: None,
    };
    match turn
        .ask(backend, Ask::Get(Some(event)), backend.list_timeout)
        .await?
    {
        Reply::Events(events, _) => match answer.follow(events).await? {
            Followed::Answer(response, event) => Ok(Said {
                event,
                ..answer.said(response, None)?
            }),
            Followed::Later => Ok(Said::nothing()),
            Followed::Asks(asked, events) => answer.asks(asked, events),
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
    join::all(turn).await;
    let hearing = Hearing {
        turn,
        places: Mutex::new(events),
        notices: Notices::new(outlet, None),
    };
    let backends = turn.able(Capabilities::NONE);
    let streams = async {
        gather(
            backends
                .iter()
                .map(|(backend, entry)| hearing.stream(backend, entry)),
        )
        .await;
        // The client may still be told of changes here.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = streams => {}
        () = hearing.notices.rest() => {}
        () = changes(turn, &hearing.notices) => {}
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

/// The stream of a session, while its client listens.
struct Hearing<'a> {
    turn: &'a Turn,
    /// The last event of each backend.
    places: Mutex<Vec<(String, String)>>,
    notices: Notices<'a>,
}

impl Hearing<'_> {
    /// Hands on the stream of one backend, for as long as it has one.
    async fn stream(&self, backend: &Backend, entry: &Entry) {
        if is_modern(Some(entry)) {
            return self.subscription(backend, entry).await;
        }
        // Without a session there is nothing that could be said to this client only.
        if entry.session.is_empty() {
            return;
        }
        let mut wait = WAIT;
        loop {
            let last = self.last(&backend.name);
            let ask = Ask::Get(last.as_deref());
            match self.turn.ask(backend, ask, backend.list_timeout).await {
                Ok(Reply::Events(mut events, _)) => {
                    wait = self.hand_on(backend, &mut events).await;
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

    /// Hands on what a backend says until its stream ends; returns how long to wait before it is asked again.
    async fn hand_on(&self, backend: &Backend, events: &mut Events) -> Duration {
        let mut wait = WAIT;
        loop {
            let arrived = match events.next().await {
                Ok(Some(arrived)) => arrived,
                Ok(None) => return wait,
                Err(failure) => {
                    tracing::debug!(backend = %backend.name, reason = %failure.reason, "a stream ended");
                    return wait;
                }
            };
            if let Some(retry) = arrived.retry {
                wait = Duration::from_millis(retry).min(LONGEST_WAIT);
            }
            let event = arrived
                .id
                .map(|id| self.turn.place(&Place::All(self.noted(&backend.name, id))));
            let Some(message) = arrived.message else { continue };
            match hear(self.turn, backend, message).await {
                Heard::Tell(message) => self.notices.tell(event.as_deref(), message).await,
                Heard::Asks(asked) => inband::decline(self.turn, backend, &asked).await,
                // An answer to nobody.
                Heard::Answer(_) | Heard::Settled => {}
            }
        }
    }

    /// Hands on what a backend without sessions tells, which is asked for anew when the client wants to know of
    /// other resources.
    async fn subscription(&self, backend: &Backend, entry: &Entry) {
        let sessions = &self.turn.runtime.sessions;
        let mut wait = WAIT;
        loop {
            let (uris, changed) = sessions.subscribed(self.turn.fingerprint, &backend.name);
            let changed = changed.notified();
            let filter = Filter::all(uris).within(entry.capabilities);
            if filter.is_empty() {
                changed.await;
                continue;
            }
            let told = async {
                let listening = subscribe::listen(self.turn, backend, &filter).await;
                match listening {
                    Ok(mut events) => {
                        subscribe::hand_on(self.turn, backend, &mut events, &self.notices).await
                    }
                    Err(failure) => {
                        tracing::debug!(backend = %backend.name, reason = %failure.reason, "a stream cannot be had");
                    }
                }
                tokio::time::sleep(wait).await;
            };
            tokio::select! {
                () = told => wait = (wait * 2).min(LONGEST_WAIT),
                () = changed => wait = WAIT,
            }
        }
    }

    fn last(&self, backend: &str) -> Option<String> {
        let places = self.lock();
        let last = places.iter().find(|(name, _)| name == backend);
        last.map(|(_, event)| event.clone())
            .filter(|last| !last.is_empty())
    }

    /// Takes note of a backend's last event, and returns those of all.
    fn noted(&self, backend: &str, event: String) -> Vec<(String, String)> {
        let mut places = self.lock();
        match places.iter_mut().find(|(name, _)| name == backend) {
            Some((_, last)) => *last = event,
            None => places.push((backend.to_owned(), event)),
        }
        places.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(String, String)>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the client when a reload changes what the route offers; returns when the route is gone.
pub(super) async fn changes(turn: &Turn, notices: &Notices<'_>) {
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
        for method in KINDS {
            notices.say(Notification::new(method)).await;
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
