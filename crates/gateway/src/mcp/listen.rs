//! The stream that a client listens to: what backends say unasked, as one stream, and the rest of answers that
//! broke off.

use std::{
    future::poll_fn,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::Duration,
};

use config::mcp_route::{Backend, Route};
use http::{HeaderMap, StatusCode};
use mcp::{Id, Message, Request, RpcError, Version, event::Place, session::Entry, sse, subscription::Filter};
use tokio::{sync::watch, time::Instant};

use super::{
    answering::{Answering, Followed},
    call::{Ask, Events, Failure, Fault, LAST_EVENT, Reply, is_modern},
    hear::{Heard, hear},
    inband, join,
    notices::Notices,
    outlet::{Outlet, Said},
    refused::Refused,
    sessions::{Listening, now},
    subscribe,
    turn::{Turn, own_request},
};
use crate::{State, apart};

/// What ids of the gateway's own pings begin with; answers to them mean nothing.
pub(super) const PING: &str = "aigw-server-to-client-ping";

/// The first, the least that a backend may want, and the longest wait before its stream is asked for again.
pub(super) const WAIT: Duration = Duration::from_millis(500);
const LEAST_WAIT: Duration = Duration::from_millis(100);
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
    pub(super) async fn read(turn: &Turn, headers: &HeaderMap) -> Result<Self, Box<Refused>> {
        match place(turn, headers)?.unwrap_or_else(|| Place::All(Vec::new())) {
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
                let listening = Listening::claim(&turn.runtime, turn.fingerprint).await;
                let taken = || RpcError::invalid_request("the session's stream is being listened to already");
                let listening = listening.ok_or_else(|| Refused::new(StatusCode::CONFLICT, taken()))?;
                Ok(Wanted::All(events, listening))
            }
        }
    }
}

/// Reads where in a stream the client goes on, if it says so.
pub(super) fn place(turn: &Turn, headers: &HeaderMap) -> Result<Option<Place>, Box<Refused>> {
    let last = headers.get(LAST_EVENT);
    let last = last.map(|last| last.to_str().unwrap_or_default());
    let Some(last) = last.filter(|last| !last.is_empty()) else {
        return Ok(None);
    };
    let tokens = turn.runtime.sessions.tokens();
    let place = tokens.open_place(last, &turn.token, now());
    let invalid = || {
        let error = RpcError::invalid_request("invalid Last-Event-ID");
        Refused::bad(error).plainly(
            StatusCode::BAD_REQUEST,
            "invalid session ID: invalid Last-Event-ID",
        )
    };
    place.map(Some).ok_or_else(invalid)
}

/// Gives the client what it wants.
pub(super) async fn serve(turn: &Turn, outlet: &Outlet, wanted: Wanted) -> Result<Said, Box<Refused>> {
    match wanted {
        Wanted::Rest {
            backend,
            event,
            method,
        } => {
            let rest = Box::pin(rest(turn, outlet, &backend, &event, &method)).await;
            rest.map_err(|mut refused| {
                // An error in a stream would be an answer to nothing.
                if refused.status == StatusCode::OK {
                    refused.status = StatusCode::BAD_GATEWAY;
                }
                refused
            })
        }
        Wanted::All(events, listening) => {
            tokio::select! {
                () = all(turn, outlet, events) => {}
                () = listening.over() => {}
            }
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
        limit: backend.longest_call(),
    };
    let until = Instant::now() + answer.limit;
    match turn
        .ask(backend, Ask::Get(Some(event)), backend.list_timeout)
        .await?
    {
        Reply::Events(events, _) => match answer.follow(events, until).await? {
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
    let hearing = Hearing {
        places: Mutex::new(events),
        notices: Notices::new(outlet, None),
    };
    tokio::select! {
        () = hearing.follow(turn) => {}
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
    let ping = Message::Request(Request {
        id: Id::text(&id),
        ..own_request("ping", Some(mcp::json::empty()))
    });
    sse::write(out, None, ping.to_raw().get());
}

/// The stream of a session, while its client listens.
struct Hearing<'a> {
    /// The last event of each backend.
    places: Mutex<Vec<(String, String)>>,
    notices: Notices<'a>,
}

/// The streams of backends, each for as long as the route has its backend as it was when the stream began.
#[derive(Default)]
struct Streams<'h>(Vec<Running<'h>>);

struct Running<'h> {
    turn: Arc<Turn>,
    backend: Arc<str>,
    /// `None` once it has ended.
    stream: Option<Pin<Box<dyn Future<Output = ()> + Send + 'h>>>,
}

impl<'h> Streams<'h> {
    /// Begins with what is new in the route of `turn`, and ends what is not there any more.
    fn follow(&mut self, hearing: &'h Hearing<'h>, turn: &Arc<Turn>) {
        self.0.retain(|running| running.is_of(turn));
        for backend in &turn.route.backends {
            if self.0.iter().any(|running| running.backend == backend.name) {
                continue;
            }
            let name = Arc::clone(&backend.name);
            let stream = Box::pin(hearing.backend(Arc::clone(turn), Arc::clone(&name)));
            self.0.push(Running {
                turn: Arc::clone(turn),
                backend: name,
                stream: Some(stream),
            });
        }
    }

    /// Runs them, for ever: the client may still be told of changes when all have ended.
    async fn run(&mut self) {
        poll_fn(|cx| {
            for running in &mut self.0 {
                if let Some(stream) = &mut running.stream
                    && stream.as_mut().poll(cx).is_ready()
                {
                    running.stream = None;
                }
            }
            Poll::Pending
        })
        .await
    }
}

impl Running<'_> {
    /// Returns whether the backend is the same in the route of `turn`.
    fn is_of(&self, turn: &Turn) -> bool {
        let now = turn.route.backend(&self.backend);
        let before = self.turn.route.backend(&self.backend);
        now.zip(before)
            .is_some_and(|(now, before)| now.reach == before.reach && now.forward == before.forward)
    }
}

impl Hearing<'_> {
    /// Listens to the backends of the session's route, as they come and go; returns when the route is gone.
    async fn follow(&self, turn: &Turn) {
        let mut installed = turn.runtime.installed.subscribe();
        // A reload may have been between the request and this.
        installed.mark_changed();
        let mut streams = Streams::default();
        loop {
            let next = tokio::select! {
                next = reloaded(&mut installed, &turn.route.id) => next,
                () = streams.run() => return,
            };
            let Some((state, route)) = next else { return };
            let turn = Turn {
                state,
                route,
                ..turn.clone()
            };
            streams.follow(self, &Arc::new(turn));
        }
    }

    /// Hands on the stream of one backend; one that is away is waited for.
    async fn backend(&self, turn: Arc<Turn>, name: Arc<str>) {
        let Some(backend) = turn.route.backend(&name) else {
            return;
        };
        let lacked = turn.entry(&name).is_none();
        let mut wait = WAIT;
        // Apart, as all that is over before the stream is, or rare: it is not to lie in the stream for as long as that lasts.
        while apart::begun(|| join::one(&turn, backend)).await.is_err() {
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
        let Some(entry) = turn.entry(&name) else {
            return;
        };
        if lacked {
            // The lists that the client has may be without it.
            self.notices.all_changed().await;
        }
        self.stream(&turn, backend, &entry).await;
    }

    /// Hands on the stream of one backend, for as long as it has one.
    async fn stream(&self, turn: &Turn, backend: &Backend, entry: &Entry) {
        if is_modern(Some(entry)) {
            return apart::begun(|| self.subscription(turn, backend, entry)).await;
        }
        let reopened = turn.runtime.sessions.changed(turn.fingerprint);
        let mut session = entry.session.clone();
        let mut wait = WAIT;
        loop {
            if let Some(now) = turn.entry(&backend.name).filter(|now| now.session != session) {
                // Where its stream was, it was in the session before.
                session = now.session;
                self.noted(&backend.name, String::new());
            }
            let last = self.last(&backend.name);
            let ask = Ask::Get(last.as_deref());
            let asked = turn.ask(backend, ask, backend.list_timeout).await;
            let reopened = reopened.notified();
            match asked {
                Ok(Reply::Events(mut events, _)) => {
                    let began = Instant::now();
                    let said = self.hand_on(turn, backend, &mut events).await;
                    let lasted = begun_anew(said.is_some(), began.elapsed());
                    wait = said.or(lasted).unwrap_or(wait);
                }
                Ok(Reply::Message(..) | Reply::Nothing) => return,
                Err(failure) if last.is_some() && knows_no_place(&failure) => {
                    tracing::debug!(backend = %backend.name, reason = %failure.reason, "a stream begins anew");
                    self.noted(&backend.name, String::new());
                    continue;
                }
                Err(failure) if !passes(failure.fault) => {
                    tracing::debug!(backend = %backend.name, reason = %failure.reason, "a backend has no stream");
                    return;
                }
                Err(failure) => {
                    tracing::debug!(backend = %backend.name, reason = %failure.reason, "a stream cannot be had");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => wait = (wait * 2).min(LONGEST_WAIT),
                // A server asks for what it needs as soon as it has a session.
                () = reopened => wait = WAIT,
            }
        }
    }

    /// Hands on what a backend says until its stream ends; returns how long to wait before it is asked again, if it has
    /// said anything.
    async fn hand_on(&self, turn: &Turn, backend: &Backend, events: &mut Events) -> Option<Duration> {
        let mut wait = None;
        loop {
            let arrived = match events.next().await {
                Ok(Some(arrived)) => arrived,
                Ok(None) => return wait,
                Err(failure) => {
                    tracing::debug!(backend = %backend.name, reason = %failure.reason, "a stream ended");
                    return wait;
                }
            };
            let retry = arrived.retry.map(Duration::from_millis);
            let next = retry.or(wait).unwrap_or(WAIT);
            wait = Some(next.clamp(LEAST_WAIT, LONGEST_WAIT));
            let event = arrived
                .id
                .and_then(|id| turn.place(&Place::All(self.noted(&backend.name, id))));
            let Some(message) = arrived.message else { continue };
            match hear(turn, backend, message).await {
                Heard::Tell(message) => self.notices.tell(event.as_deref(), message).await,
                Heard::Asks(asked) => inband::decline(turn, backend, &asked).await,
                // An answer to nobody.
                Heard::Answer(_) | Heard::Settled => {}
            }
        }
    }

    /// Hands on what a backend without sessions tells, which is asked for anew when the client wants to know of
    /// other resources.
    async fn subscription(&self, turn: &Turn, backend: &Backend, entry: &Entry) {
        let sessions = &turn.runtime.sessions;
        let mut wait = WAIT;
        loop {
            let (uris, changed) = sessions.subscribed(turn.fingerprint, &backend.name);
            let changed = changed.notified();
            let filter = Filter::all(uris).within(entry.capabilities);
            if filter.is_empty() {
                changed.await;
                continue;
            }
            let told = async {
                let mut wait = wait;
                match subscribe::listen(turn, backend, &filter).await {
                    Ok(mut events) => {
                        let began = Instant::now();
                        let told = subscribe::hand_on(turn, backend, &mut events, &self.notices).await;
                        wait = begun_anew(told, began.elapsed()).unwrap_or(wait);
                    }
                    Err(failure) => {
                        tracing::debug!(backend = %backend.name, reason = %failure.reason, "a stream cannot be had");
                    }
                }
                tokio::time::sleep(wait).await;
                wait
            };
            tokio::select! {
                waited = told => wait = (waited * 2).min(LONGEST_WAIT),
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

/// Returns how long to wait after a stream that was worth having, because something was told in it or it lasted. Any other is
/// asked for less and less often.
pub(super) fn begun_anew(told: bool, lasted: Duration) -> Option<Duration> {
    (told || lasted >= LONGEST_WAIT).then_some(WAIT)
}

/// Returns whether a backend does not know where its stream was, or of no session in which that could have been.
fn knows_no_place(failure: &Failure) -> bool {
    let unknown = [StatusCode::BAD_REQUEST, StatusCode::NOT_FOUND].map(Fault::Status);
    failure.lost || unknown.contains(&failure.fault)
}

/// Returns whether a failure is one of the moment, so that there may be a stream later.
fn passes(fault: Fault) -> bool {
    match fault {
        Fault::Unreachable | Fault::Timeout | Fault::Broken | Fault::Overflow | Fault::Credential => true,
        // Whatever that page is, it is no stream.
        Fault::BadReply => false,
        Fault::Status(status) => matches!(
            status,
            // Somebody listens who is about to go: the same client, through another replica.
            StatusCode::CONFLICT
                | StatusCode::REQUEST_TIMEOUT
                | StatusCode::TOO_MANY_REQUESTS
                | StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT
        ),
    }
}

/// Tells the client when a reload changes what the route offers; returns when the route is gone.
pub(super) async fn changes(turn: &Turn, notices: &Notices<'_>) {
    let mut installed = turn.runtime.installed.subscribe();
    let mut offered = offer(&turn.route);
    while let Some((_, route)) = reloaded(&mut installed, &turn.route.id).await {
        let now = offer(&route);
        if now != offered {
            offered = now;
            notices.all_changed().await;
        }
    }
}

/// Waits for the next reload; returns the route called `id` as it is then, or `None` if there is none any more.
async fn reloaded(
    installed: &mut watch::Receiver<Option<Arc<State>>>,
    id: &str,
) -> Option<(Arc<State>, Arc<Route>)> {
    installed.changed().await.ok()?;
    let state = installed.borrow_and_update().clone()?;
    let listeners = state.snapshot.listeners.values();
    let mut routes = listeners.flat_map(|listener| listener.mcp.routes());
    let route = routes.find(|route| *route.id == *id).cloned()?;
    drop(routes);
    Some((state, route))
}

/// Returns a hash of what decides which names a route offers: every stream keeps one.
fn offer(route: &Route) -> u64 {
    let backends = route
        .backends
        .iter()
        .map(|backend| (&backend.name, &backend.prefix, &backend.offer));
    let offered = format!("{:?} {:?}", route.prefix, backends.collect::<Vec<_>>());
    let mut hasher = DefaultHasher::new();
    offered.hash(&mut hasher);
    hasher.finish()
}
