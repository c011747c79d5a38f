//! What this process remembers of sessions beside their tokens: little, bounded, and nothing that another
//! replica could not do without.

use std::{
    collections::{HashMap, VecDeque},
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use mcp::{
    Id, Level,
    session::{self, Config, Entry, Form, Tokens},
};
use rustls::crypto::{SecureRandom, aws_lc_rs};
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::{
    cache::Cache,
    call::Failure,
    deleted::{self, Deleted},
    inband::Waits,
    index::Index,
    line::Lines,
    long::Long,
    peers::Peers,
    replicas::Replicas,
};
use crate::{Runtime, redis::Dialer};

/// How session tokens are sealed.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// What all replicas share; random if `None`, so that sessions end with the process.
    pub seed: Option<config::Secret>,
    /// What they shared before.
    pub fallback: Option<config::Secret>,
    /// Rounds of the derivation for tokens of the compatibility specification.
    pub iterations: NonZeroU32,
    /// Rounds for the seed before.
    pub fallback_iterations: NonZeroU32,
    /// Whether new tokens are those of the compatibility specification.
    pub compatible: bool,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            seed: None,
            fallback: None,
            iterations: ROUNDS,
            fallback_iterations: ROUNDS,
            compatible: false,
        }
    }
}

/// The compatibility specification's default.
const ROUNDS: NonZeroU32 = NonZeroU32::MIN.saturating_add(99_999);

/// Tokens, and what is remembered of their sessions.
pub(crate) struct Sessions {
    tokens: ArcSwap<Tokens>,
    pub(super) index: Index,
    pub(super) cache: Cache,
    pub(super) lines: Lines,
    pub(super) peers: Peers,
    pub(super) waits: Waits,
    pub(super) long: Long,
    random: &'static dyn SecureRandom,
    known: Arc<Mutex<Known>>,
    /// Other gateways that are told of sessions.
    replicas: Option<Replicas>,
}

/// The name of a session in memory.
pub(super) type Fingerprint = [u8; 16];

#[derive(Default)]
struct Known {
    sessions: HashMap<Fingerprint, Remembered>,
    oldest_first: VecDeque<Fingerprint>,
    deleted: Deleted,
}

#[derive(Default)]
struct Remembered {
    /// Whether somebody listens to its stream.
    listened: bool,
    /// Goes off for whoever does when the session is deleted.
    over: Option<Arc<Notify>>,
    /// Goes off when nobody listens any more, and when a backend has another session.
    changed: Arc<Notify>,
    /// Backends that were opened, or opened anew, since the token was issued.
    healed: Vec<Entry>,
    /// Held while a backend is opened.
    joining: Vec<(Arc<str>, Arc<tokio::sync::Mutex<()>>)>,
    /// Backends that could not be opened since, and when.
    away: Vec<(Failure, Instant)>,
    /// Requests that are being served.
    open: Vec<Served>,
    /// Which log messages the client wants.
    level: Option<Level>,
    /// Resources of whose changes it wants to know.
    subscribed: Vec<(Arc<str>, String)>,
    /// Goes off when these change.
    resubscribed: Arc<Notify>,
}

/// A request that is being served.
#[derive(Clone)]
struct Served {
    id: Id,
    backend: Arc<str>,
    cancel: Arc<Notify>,
}

/// The most sessions of which something is remembered.
const MAX_KNOWN: usize = 65_536;

/// A request that is being served; forgotten when it is dropped.
pub(super) struct Open {
    runtime: Arc<Runtime>,
    session: Fingerprint,
    cancel: Arc<Notify>,
}

/// How long a backend that could not be opened is not asked again.
const AWAY: Duration = Duration::from_secs(15);

/// The most resources of which one session wants to know.
const MAX_SUBSCRIBED: usize = 1024;

/// How long whoever wants to listen waits for somebody else to stop.
const HANDOVER: Duration = Duration::from_secs(1);

/// A stream that is listened to; forgotten when it is dropped.
pub(super) struct Listening {
    runtime: Arc<Runtime>,
    session: Fingerprint,
    over: Arc<Notify>,
}

impl Sessions {
    /// Returns the keys for `options`, and no memory yet. Sessions are shared with the gateways that `redis` leads to.
    pub(crate) fn new(options: &SessionOptions, redis: Option<Arc<Dialer>>) -> Self {
        let random = aws_lc_rs::default_provider().secure_random;
        let known = Arc::new(Mutex::new(Known::default()));
        let replicas = redis.map(|redis| {
            let known = Arc::clone(&known);
            let heard = move |session, end| locked(&known).delete(session, end);
            Replicas::start(redis, Box::new(heard))
        });
        Self {
            tokens: ArcSwap::from_pointee(tokens(options, random)),
            index: Index::default(),
            cache: Cache::default(),
            lines: Lines::default(),
            peers: Peers::default(),
            waits: Waits::default(),
            long: Long::default(),
            random,
            known,
            replicas,
        }
    }

    /// Seals with other seeds from now on.
    pub(crate) fn reseed(&self, options: &SessionOptions) {
        self.tokens.store(Arc::new(tokens(options, self.random)));
    }

    /// Returns what seals and opens tokens now.
    pub(super) fn tokens(&self) -> Arc<Tokens> {
        self.tokens.load_full()
    }

    /// Returns random bytes.
    pub(super) fn draw<const N: usize>(&self) -> [u8; N] {
        draw(self.random)
    }

    /// Remembers that the session, whose token ends at `end`, was deleted by its client.
    pub(super) fn delete(&self, session: Fingerprint, end: Option<u64>) {
        self.lock().delete(session, deleted::end(end, now()));
    }

    /// Tells other gateways so, as far as they can be reached now.
    pub(super) async fn tell_deleted(&self, session: Fingerprint, end: Option<u64>) {
        if let Some(replicas) = &self.replicas {
            replicas.tell(session, deleted::end(end, now())).await;
        }
    }

    /// Keeps a token that is too long to be carried, of a session that ends at `end`; returns its name.
    pub(super) async fn keep(&self, token: String, end: Option<u64>) -> String {
        let Some(replicas) = &self.replicas else {
            return self.long.keep(self.draw(), token);
        };
        let name = self.long.keep(self.draw(), token.clone());
        let seconds = deleted::end(end, now()).saturating_sub(now());
        replicas.keep(&name, &token, seconds).await;
        name
    }

    /// Has the token here that a client carries the name of, if another gateway has kept it.
    pub(super) async fn fetch(&self, carried: &str) {
        if let Some(replicas) = &self.replicas
            && self.long.find(carried).is_none()
            && let Some(token) = replicas.find(carried).await
        {
            self.long.know(carried, token);
        }
    }

    /// Forgets the token that a client carries the name of.
    pub(super) async fn forget(&self, carried: &str) {
        if self.long.forget(carried)
            && let Some(replicas) = &self.replicas
        {
            replicas.forget(carried).await;
        }
    }

    /// Returns whether the session was deleted, as far as is known here.
    pub(super) fn is_deleted(&self, session: &Fingerprint) -> bool {
        self.lock().deleted.contains(session)
    }

    /// Returns what is known of `backend` since the token was issued.
    pub(super) fn healed(&self, session: &Fingerprint, backend: &str) -> Option<Entry> {
        let known = self.lock();
        let healed = &known.sessions.get(session)?.healed;
        healed.iter().find(|entry| entry.backend == backend).cloned()
    }

    /// Remembers what is known of a backend now.
    pub(super) fn heal(&self, session: Fingerprint, entry: Entry) {
        let mut known = self.lock();
        let known = known.of(session);
        known.healed.retain(|known| known.backend != entry.backend);
        known.healed.push(entry);
        known.changed.notify_waiters();
    }

    /// Returns what goes off when nobody listens to the session any more, and when a backend has another one for it.
    pub(super) fn changed(&self, session: Fingerprint) -> Arc<Notify> {
        Arc::clone(&self.lock().of(session).changed)
    }

    /// Returns what is held by whoever opens a backend in this session.
    pub(super) fn joining(&self, session: Fingerprint, backend: &Arc<str>) -> Arc<tokio::sync::Mutex<()>> {
        let mut known = self.lock();
        let joining = &mut known.of(session).joining;
        if let Some((_, lock)) = joining.iter().find(|(of, _)| of == backend) {
            return Arc::clone(lock);
        }
        let lock = Arc::default();
        joining.push((Arc::clone(backend), Arc::clone(&lock)));
        lock
    }

    /// Remembers that a backend could not be opened.
    pub(super) fn away(&self, session: Fingerprint, failure: &Failure) {
        let mut known = self.lock();
        let away = &mut known.of(session).away;
        away.retain(|(known, since)| known.backend != failure.backend && since.elapsed() < AWAY);
        away.push((failure.clone(), Instant::now()));
    }

    /// Returns why a backend could not be opened just now, if it could not.
    pub(super) fn why_away(&self, session: &Fingerprint, backend: &str) -> Option<Failure> {
        let known = self.lock();
        let mut away = known.sessions.get(session)?.away.iter();
        let of_backend = away.find(|(known, since)| *known.backend == *backend && since.elapsed() < AWAY);
        of_backend.map(|(failure, _)| failure.clone())
    }

    /// Returns the backends that serve the request called `id`.
    pub(super) fn serving(&self, session: &Fingerprint, id: &Id) -> Vec<Arc<str>> {
        let served = self.served(session, id);
        served.into_iter().map(|served| served.backend).collect()
    }

    /// Ends the requests called `id` here, for backends that see it by that.
    pub(super) fn cancel(&self, session: &Fingerprint, id: &Id) {
        for served in self.served(session, id) {
            served.cancel.notify_one();
        }
    }

    fn served(&self, session: &Fingerprint, id: &Id) -> Vec<Served> {
        let known = self.lock();
        let open = known.sessions.get(session).map(|known| &known.open);
        let of_id = open.into_iter().flatten().filter(|open| open.id == *id);
        of_id.cloned().collect()
    }

    /// Returns which log messages the client wants, if it has said so.
    pub(super) fn level(&self, session: &Fingerprint) -> Option<Level> {
        self.lock().sessions.get(session)?.level
    }

    /// Remembers that.
    pub(super) fn set_level(&self, session: Fingerprint, level: Level) {
        self.lock().of(session).level = Some(level);
    }

    /// Remembers whether the session wants to know of changes of a resource of `backend`.
    pub(super) fn subscribe(&self, session: Fingerprint, backend: &Arc<str>, uri: &str, wanted: bool) {
        let mut known = self.lock();
        let known = known.of(session);
        known
            .subscribed
            .retain(|(of, own)| (of, own.as_str()) != (backend, uri));
        if wanted && known.subscribed.len() < MAX_SUBSCRIBED {
            known.subscribed.push((Arc::clone(backend), uri.to_owned()));
        }
        known.resubscribed.notify_waiters();
    }

    /// Returns the resources of `backend` of whose changes the session wants to know.
    pub(super) fn wants(&self, session: &Fingerprint, backend: &str) -> Vec<String> {
        let known = self.lock();
        let known = known.sessions.get(session);
        known.map_or_else(Vec::new, |known| known.wants(backend))
    }

    /// Returns the resources of `backend` of whose changes the session wants to know, and what goes off when
    /// these are others.
    pub(super) fn subscribed(&self, session: Fingerprint, backend: &str) -> (Vec<String>, Arc<Notify>) {
        let mut known = self.lock();
        let known = known.of(session);
        (known.wants(backend), Arc::clone(&known.resubscribed))
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        locked(&self.known)
    }
}

fn locked(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Remembered {
    fn wants(&self, backend: &str) -> Vec<String> {
        let own = self.subscribed.iter().filter(|(of, _)| **of == *backend);
        own.map(|(_, uri)| uri.clone()).collect()
    }
}

impl Known {
    fn of(&mut self, session: Fingerprint) -> &mut Remembered {
        if !self.sessions.contains_key(&session) {
            self.oldest_first.push_back(session);
            if self.oldest_first.len() > MAX_KNOWN
                && let Some(oldest) = self.oldest_first.pop_front()
            {
                self.sessions.remove(&oldest);
            }
        }
        self.sessions.entry(session).or_default()
    }

    fn delete(&mut self, session: Fingerprint, end: u64) {
        self.deleted.add(session, end, now());
        if let Some(known) = self.sessions.get_mut(&session) {
            known.subscribed = Vec::new();
            if let Some(over) = &known.over {
                over.notify_one();
            }
        }
    }
}

impl Open {
    /// Remembers that `backend` serves the request called `id`.
    pub(super) fn new(runtime: &Arc<Runtime>, session: Fingerprint, id: &Id, backend: &Arc<str>) -> Self {
        let cancel = Arc::new(Notify::new());
        let mut known = runtime.sessions.lock();
        known.of(session).open.push(Served {
            id: id.clone(),
            backend: Arc::clone(backend),
            cancel: Arc::clone(&cancel),
        });
        Self {
            runtime: Arc::clone(runtime),
            session,
            cancel,
        }
    }

    /// Waits until the client no longer wants it.
    pub(super) async fn cancelled(&self) {
        self.cancel.notified().await;
    }

    fn close(&self) {
        if let Some(known) = self.runtime.sessions.lock().sessions.get_mut(&self.session)
            && let Some(at) = known
                .open
                .iter()
                .position(|open| Arc::ptr_eq(&open.cancel, &self.cancel))
        {
            known.open.swap_remove(at);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.close();
    }
}

impl Listening {
    /// Claims the stream of a session; `None` if somebody listens already, and goes on to. A client that comes back may be
    /// there before it is seen to have gone.
    pub(super) async fn claim(runtime: &Arc<Runtime>, session: Fingerprint) -> Option<Self> {
        let until = Instant::now() + HANDOVER;
        let changed = runtime.sessions.changed(session);
        loop {
            let changed = changed.notified();
            if let Some(listening) = Self::new(runtime, session) {
                return Some(listening);
            }
            timeout_at(until, changed).await.ok()?;
        }
    }

    fn new(runtime: &Arc<Runtime>, session: Fingerprint) -> Option<Self> {
        let over = Arc::new(Notify::new());
        {
            let mut known = runtime.sessions.lock();
            if known.deleted.contains(&session) {
                over.notify_one();
            }
            let known = known.of(session);
            if std::mem::replace(&mut known.listened, true) {
                return None;
            }
            known.over = Some(Arc::clone(&over));
        }
        runtime.metrics.tools.recent.listened(session, true);
        Some(Self {
            runtime: Arc::clone(runtime),
            session,
            over,
        })
    }

    /// Waits until the client deletes the session.
    pub(super) async fn over(&self) {
        self.over.notified().await;
    }

    fn close(&self) {
        if let Some(known) = self.runtime.sessions.lock().sessions.get_mut(&self.session) {
            known.listened = false;
            known.over = None;
            known.changed.notify_waiters();
        }
        let metrics = &self.runtime.metrics.tools;
        metrics.recent.listened(self.session, false);
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.close();
    }
}

/// Returns the name of the session with this token.
pub(super) fn fingerprint(token: &str) -> Fingerprint {
    session::fingerprint(token)
}

/// Returns the seconds since the Unix epoch.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

fn tokens(options: &SessionOptions, random: &dyn SecureRandom) -> Tokens {
    let bytes = |secret: &config::Secret| secret.expose().as_bytes().to_vec();
    let seed = options.seed.as_ref().map(bytes);
    Tokens::new(&Config {
        seed: seed.unwrap_or_else(|| draw::<32>(random).to_vec()),
        fallback: options.fallback.as_ref().map(bytes),
        iterations: options.iterations,
        fallback_iterations: options.fallback_iterations,
        form: if options.compatible { Form::V0 } else { Form::V1 },
        salt: draw(random),
    })
}

fn draw<const N: usize>(random: &dyn SecureRandom) -> [u8; N] {
    let mut bytes = [0; N];
    if random.fill(&mut bytes).is_err() {
        // The system gives no randomness: tokens that others could make are worse than none that open.
        tracing::error!("the system gives no random bytes");
        fastrand::fill(&mut bytes);
    }
    bytes
}
