//! One message of a client, and all that is needed to serve it.

use std::{net::IpAddr, sync::Arc, time::Duration};

use config::mcp_route::{Backend, Route};
use http::{HeaderMap, HeaderValue};
use mcp::{
    Capabilities, Id, Level, List, Message, Notification, Request, RpcError, Session, Version, event::Place,
    modern::About, rewrite::Naming, session::Entry,
};
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::{
    account::{Shared, word},
    call::{Ask, Caller, Failure, Fault, Reply, is_modern},
    errand, line, peers,
    refused::Refused,
    repeat, restore,
    sessions::{Fingerprint, Open, fingerprint, now},
    who::Who,
};
use crate::{
    Runtime, State, apart,
    facts::Facts,
    headers,
    telemetry::{attributes::Signal, tools::Mapped},
};

/// How long a backend may take for what it only has to take note of.
pub(super) const NOTE_TIMEOUT: Duration = Duration::from_secs(10);

/// One message of a client.
#[derive(Clone)]
pub(super) struct Turn {
    pub(super) state: Arc<State>,
    pub(super) runtime: Arc<Runtime>,
    pub(super) route: Arc<Route>,
    /// Where the client is.
    pub(super) peer: IpAddr,
    /// The client's headers.
    pub(super) headers: Arc<HeaderMap>,
    pub(super) who: Arc<Who>,
    pub(super) request_id: HeaderValue,
    /// The session's token; empty before there is one.
    pub(super) token: String,
    pub(super) fingerprint: Fingerprint,
    pub(super) session: Session,
    /// What the client says with each request, if it keeps no session.
    pub(super) own: Option<Own>,
    /// What it says beside in the request that opens its session.
    pub(super) opening: Option<Arc<RawValue>>,
    /// Where in a stream the client goes on, if it says so with a message.
    pub(super) last: Option<Arc<Place>>,
    /// Whether the client can be told anything before the answer.
    pub(super) hears: bool,
    /// Where it is noted what is done.
    pub(super) account: Shared,
    /// Labels of metrics that headers and the message became.
    pub(super) mapped: Mapped,
}

/// What a client without a session says of one request.
#[derive(Clone, Debug, Default)]
pub(super) struct Own {
    /// Which log messages it wants.
    pub(super) level: Option<Level>,
    /// What it calls the progress of the request.
    pub(super) progress: Option<Box<RawValue>>,
    /// Backends that could not be met.
    pub(super) unmet: Vec<Failure>,
    /// The backend that the request goes on with.
    pub(super) meant: Option<String>,
}

impl Turn {
    /// Returns the turn in the session whose token the client sent.
    pub(super) fn resume(mut self, token: &str) -> Result<Self, Box<Refused>> {
        let (sessions, metrics) = (&self.runtime.sessions, &self.runtime.metrics.tools);
        let (tokens, fingerprint) = (sessions.tokens(), fingerprint(token));
        let carried = sessions.long.find(token);
        let session = carried.and_then(|carried| tokens.open(&carried, &self.route.sealed, now()));
        metrics.derived(tokens.derivations());
        self.session = session
            .filter(|session| !sessions.is_deleted(&fingerprint) && self.who.owns(session))
            .ok_or_else(Refused::no_session)?;
        metrics.recent.used(fingerprint);
        token.clone_into(&mut self.token);
        self.fingerprint = fingerprint;
        self.introduce();
        Ok(self)
    }

    /// Returns the turn of `message`, of which an account is kept with `facts`.
    pub(super) fn about(mut self, facts: &mut Facts, message: &Message) -> Self {
        self.account = Shared::open(facts, message);
        let mapped = self.account.read(|account| {
            let named = facts.attributes().of(Signal::Metrics, &account.captured);
            self.runtime.metrics.mapped(named)
        });
        self.mapped = mapped.unwrap_or_default();
        self.introduce();
        self
    }

    /// Lets go of what came with the request, as a stream is to that outlives all of it but a few words.
    pub(super) fn stand_apart(&mut self, facts: &mut Facts) {
        self.headers = Arc::new(headers::apart(&self.headers));
        self.request_id = headers::value_apart(&self.request_id);
        facts.stand_apart();
    }

    /// Notes whose session it is, and which revision is spoken.
    pub(super) fn introduce(&self) {
        let session = (!self.token.is_empty()).then(|| word(&self.fingerprint));
        self.account.note(|account| {
            account.session = session;
            account.version = self.session.version.name();
        });
    }

    /// Returns what is known of `backend` by now.
    pub(super) fn entry(&self, backend: &str) -> Option<Entry> {
        let healed = self.runtime.sessions.healed(&self.fingerprint, backend);
        let entry = healed.or_else(|| self.session.entry(backend).cloned());
        entry.filter(|_| {
            self.route
                .backend(backend)
                .is_none_or(|backend| self.keeps(backend))
        })
    }

    /// Returns the backends of the session that can do what is asked, in the order of the route.
    pub(super) fn able(&self, capability: Capabilities) -> Vec<(&Backend, Entry)> {
        let entries = self
            .route
            .backends
            .iter()
            .filter_map(|backend| Some((backend, self.entry(&backend.name)?)));
        entries
            .filter(|(_, entry)| entry.capabilities.has(capability))
            .collect()
    }

    /// Returns how the names of `backend` are said to the client.
    pub(super) fn naming<'a>(&self, backend: &'a Backend) -> Naming<'a> {
        Naming {
            backend: &backend.prefix,
            prefixed: self.route.prefixes(),
            max: self.route.max_name,
        }
    }

    /// Returns what calls `backend`.
    pub(super) fn caller<'a>(&'a self, backend: &'a Backend) -> Caller<'a> {
        Caller {
            state: &self.state,
            runtime: &self.runtime,
            backend,
            peer: self.peer,
            whose: self.fingerprint,
            client: &self.headers,
            told: &self.route.access.forward,
            request_id: &self.request_id,
            about: About {
                capabilities: &self.session.client.capabilities,
                info: &self.session.client.info,
                level: self.own.as_ref().and_then(|own| own.level),
            },
            modern: self.is_modern(),
            opening: self.opening.as_deref(),
            last: self.last(backend),
            repeated: Vec::new(),
            position: self.account.position(),
        }
    }

    /// Returns whether the client keeps no session.
    pub(super) fn is_modern(&self) -> bool {
        self.own.is_some()
    }

    /// Asks `backend` in its session; one that it has lost is opened anew, once.
    pub(super) async fn ask(
        &self,
        backend: &Backend,
        ask: Ask<'_>,
        limit: Duration,
    ) -> Result<Reply, Failure> {
        // Streams last: what it takes to ask is not to lie in them for as long as they do.
        apart::begun(|| self.reply_to(backend, ask, limit)).await
    }

    async fn reply_to(&self, backend: &Backend, ask: Ask<'_>, limit: Duration) -> Result<Reply, Failure> {
        let Some(entry) = self.entry(&backend.name) else {
            return Err(Failure::new(
                &backend.name,
                Fault::Unreachable,
                "the session was opened without it",
            ));
        };
        let mut caller = self.caller(backend);
        let in_common = match ask {
            Ask::Post(message) => peers::in_common(self, &entry, message),
            Ask::Get(_) | Ask::Delete => None,
        };
        let ask = in_common.as_ref().map_or(ask, Ask::Post);
        if is_modern(Some(&entry)) && !self.is_modern() {
            caller.about.level = self.runtime.sessions.level(&self.fingerprint);
            if let Ask::Post(Message::Request(request)) = ask {
                caller.repeated = repeat::headers(self, backend, request).await;
            }
        }
        let until = Instant::now() + limit;
        self.account.call(&backend.name, &entry.session, false);
        let unanswered = errand::unanswered(self, backend, &entry, ask);
        let answered = caller.ask(Some(&entry), ask, limit).await;
        self.account
            .called(&backend.name, "", answered.as_ref().err().map(Failure::kind));
        let failure = match errand::settle(unanswered, answered) {
            Err(failure) if failure.lost && !entry.session.is_empty() && outlives(ask) => failure,
            Err(failure) if failure.fault == Fault::Timeout => {
                if let Ask::Post(Message::Request(request)) = ask {
                    errand::give_up(self, backend, &request.id, None);
                }
                return Err(failure);
            }
            answered => return answered,
        };
        let Some(entry) = self.reopened(backend, &entry, limit).await else {
            return Err(failure);
        };
        self.account.call(&backend.name, &entry.session, false);
        let unanswered = errand::unanswered(self, backend, &entry, ask);
        let left = until.saturating_duration_since(Instant::now());
        let answered = caller.ask(Some(&entry), ask, left).await;
        self.account
            .called(&backend.name, "", answered.as_ref().err().map(Failure::kind));
        errand::settle(unanswered, answered)
    }

    /// Opens the session of `entry`, which `backend` has lost, anew; returns what is known of it then.
    async fn reopened(&self, backend: &Backend, entry: &Entry, limit: Duration) -> Option<Entry> {
        let sessions = &self.runtime.sessions;
        // It is over there because it is over here.
        if sessions.is_deleted(&self.fingerprint) {
            return None;
        }
        // What clients without sessions have in common waits for nobody.
        let joining = (!self.is_modern()).then(|| sessions.joining(self.fingerprint, &backend.name));
        let _joining = match &joining {
            Some(joining) => Some(joining.lock().await),
            None => None,
        };
        let now = self.entry(&backend.name).filter(|_| joining.is_some());
        if let Some(now) = now.filter(|now| now != entry) {
            // Somebody else has found out first.
            return Some(now);
        }
        tracing::info!(backend = %backend.name, "a backend lost its session");
        // It may have been started anew, as something else.
        sessions.cache.forget(&self.route.id, &backend.name, List::ALL);
        let opened = line::open(self, backend, limit.min(backend.open_timeout)).await;
        let opened = opened.ok()?;
        let entry = opened.entry.clone();
        if self.is_modern() {
            peers::replace(self, backend, opened).await;
        } else {
            restore::all(self, backend, &entry).await;
            sessions.heal(self.fingerprint, entry.clone());
        }
        Some(entry)
    }

    /// Remembers that `backend` serves the request called `id`, if there is a session in which it can be cancelled.
    pub(super) fn opening(&self, id: &Id, backend: &Backend) -> Option<Open> {
        let in_session = !self.is_modern();
        in_session.then(|| Open::new(&self.runtime, self.fingerprint, id, &backend.name))
    }

    /// Tells `backend` something that it does not answer.
    pub(super) async fn tell(&self, backend: &Backend, message: &Message) -> Result<(), Failure> {
        self.ask(backend, Ask::Post(message), NOTE_TIMEOUT)
            .await
            .map(|_| ())
    }

    /// Tells `backend` something about what it has asked in the session of `entry`, and in no other.
    pub(super) async fn tell_in(
        &self,
        backend: &Backend,
        entry: &Entry,
        message: &Message,
    ) -> Result<(), Failure> {
        self.account.call(&backend.name, &entry.session, false);
        let told = self.caller(backend);
        let told = told.ask(Some(entry), Ask::Post(message), NOTE_TIMEOUT).await;
        self.account
            .called(&backend.name, "", told.as_ref().err().map(Failure::kind));
        told.map(|_| ())
    }

    /// Returns the token of a place in the client's stream, if it is not too long to be carried.
    pub(super) fn place(&self, place: &Place) -> Option<String> {
        let sessions = &self.runtime.sessions;
        let token = sessions.tokens().seal_place(place, &self.token, sessions.draw());
        (token.len() <= self.route.max_token).then_some(token)
    }

    /// Returns what the client sees in place of an id or token of `backend`.
    pub(super) fn ticket(&self, backend: &str, value: &RawValue) -> Id {
        let own = self.session.entry(backend);
        let elsewhere = self.entry(backend);
        let elsewhere = elsewhere.filter(|entry| own.is_none_or(|own| own.session != entry.session));
        let tokens = self.runtime.sessions.tokens();
        let tickets = &tokens.tickets;
        Id::text(&tickets.issue(&self.token, backend, value, elsewhere.as_ref()))
    }

    /// Returns the backend, its session and its own id or token for what the client sees in its place. The session is the one
    /// in which it has asked: in any other the same id means something else.
    pub(super) fn redeem(&self, ticket: &str) -> Option<(&Backend, Entry, Box<RawValue>)> {
        let tokens = self.runtime.sessions.tokens();
        let redeemed = tokens.tickets.redeem(&self.token, ticket)?;
        let backend = self
            .route
            .backend(redeemed.backend)
            .filter(|backend| self.keeps(backend))?;
        let own = || self.session.entry(&backend.name).cloned();
        let entry = redeemed.elsewhere.or_else(own)?;
        Some((backend, entry, redeemed.value))
    }

    /// Returns the event of `backend` after which the client says that it goes on with this message.
    fn last(&self, backend: &Backend) -> Option<&str> {
        let event = match self.last.as_deref()? {
            Place::All(events) => {
                let own = events.iter().find(|(name, _)| **name == *backend.name);
                own.map(|(_, event)| event)?
            }
            Place::Answer {
                backend: name, event, ..
            } => (**name == *backend.name).then_some(event)?,
        };
        (!event.is_empty()).then_some(event)
    }

    /// Returns whether the client can come back for the rest of an answer.
    pub(super) fn resumes(&self) -> bool {
        self.session.version >= Version::V2025_11_25 && !self.is_modern()
    }
}

/// Returns whether what is asked means the same in another session of its backend. A place in a stream does not, nor does
/// an answer: there it could be taken for that to another question.
fn outlives(ask: Ask<'_>) -> bool {
    match ask {
        Ask::Get(Some(_)) | Ask::Post(Message::Response(_)) => false,
        Ask::Get(None) | Ask::Delete | Ask::Post(Message::Request(_) | Message::Notification(_)) => true,
    }
}

/// Returns a request of the gateway's own, under an id that no other has: several may be open in one session.
pub(super) fn own_request(method: &str, params: Option<Box<RawValue>>) -> Request {
    Request {
        id: Id::text(&format!("tollgate-{:016x}", fastrand::u64(..))),
        method: method.to_owned(),
        params,
    }
}

/// Returns a notification of the gateway's own.
pub(super) fn own_notification(method: &str) -> Message {
    Message::Notification(Notification::new(method))
}

/// Returns the error for parameters that are no object.
pub(super) fn malformed() -> RpcError {
    RpcError::invalid_params("invalid params")
}
