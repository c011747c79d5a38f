//! Backends as clients without sessions meet them.
//!
//! Such a client opens nothing, so the gateway does: a backend that keeps sessions is given one for each kind of
//! client, and never one for two principals; of one that keeps none it is remembered what it said it is. Many
//! requests share such a session at once, so there they go by ids of the gateway's own.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use config::mcp_route::Backend;
use mcp::{
    Id, Message, Request,
    json::{self, Object},
    modern::{self, Discovered},
    session::{Entry, Owner, fingerprint},
};
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::{
    call::{Failure, is_modern},
    errand,
    initialize::Opened,
    line, restore,
    sessions::Fingerprint,
    turn::Turn,
};
use crate::gather::gather;

/// The backends that clients without sessions have met.
#[derive(Default)]
pub(super) struct Peers {
    known: Mutex<HashMap<Key, Arc<Slot>>>,
    next_id: AtomicU64,
}

/// For whom a backend was met: nobody else shares it.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    route: Arc<str>,
    backend: Arc<str>,
    owner: Fingerprint,
    client: Fingerprint,
}

/// A backend that is being met, or was.
type Slot = tokio::sync::Mutex<Option<Met>>;

struct Met {
    outcome: Result<Arc<Opened>, Failure>,
    until: Instant,
}

/// The most backends, counted for each kind of client, that are remembered.
const MAX_KNOWN: usize = 16_384;

/// How long a backend that was not reached is not asked again.
const AWAY: Duration = Duration::from_secs(5);

/// How long it is at least, and at most, believed what a backend says it is.
const BELIEVED: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(3600));

/// How long a session that nobody uses is kept.
const KEPT: Duration = Duration::from_secs(30 * 60);

/// Meets `backends`, all at once, for the client of `turn`; returns those that could not be met.
pub(super) async fn meet(turn: &mut Turn, backends: &[usize]) -> Vec<Failure> {
    let met = {
        let turn = &*turn;
        let backends = backends
            .iter()
            .filter_map(|index| turn.route.backends.get(*index));
        gather(backends.map(|backend| of(turn, backend))).await
    };
    let mut failures = Vec::new();
    for met in met {
        match met {
            Ok(opened) => turn.session.backends.push(opened.entry.clone()),
            Err(failure) => {
                tracing::warn!(backend = %failure.backend, reason = %failure.reason, "a backend cannot be met");
                failures.push(failure);
            }
        }
    }
    failures
}

/// Returns what is known of a backend for the client of `turn`.
pub(super) async fn of(turn: &Turn, backend: &Backend) -> Result<Arc<Opened>, Failure> {
    let slot = turn.runtime.sessions.peers.slot(turn, backend);
    let mut met = slot.lock().await;
    let now = Instant::now();
    if let Some(known) = met.as_mut().filter(|known| known.until > now) {
        if let Ok(opened) = &known.outcome
            && !is_modern(Some(&opened.entry))
        {
            known.until = now + KEPT;
        }
        return known.outcome.clone();
    }
    if let Some(Ok(unused)) = met.take().map(|known| known.outcome) {
        errand::end(turn, backend, &unused.entry);
    }
    let outcome = open(turn, backend).await.map(Arc::new);
    let outcome = met.insert(Met {
        until: now + patience(&outcome),
        outcome,
    });
    outcome.outcome.clone()
}

/// Remembers a session that was opened in place of one that the backend has lost.
pub(super) async fn replace(turn: &Turn, backend: &Backend, opened: Opened) {
    let outcome = Ok(Arc::new(opened));
    let slot = turn.runtime.sessions.peers.slot(turn, backend);
    *slot.lock().await = Some(Met {
        until: Instant::now() + patience(&outcome),
        outcome,
    });
}

/// Begins to speak with a backend, which says what is logged only once it is told to.
pub(super) async fn open(turn: &Turn, backend: &Backend) -> Result<Opened, Failure> {
    let opened = line::open(turn, backend, backend.open_timeout).await?;
    let level = turn.own.as_ref().and_then(|own| own.level);
    if let Some(level) = level
        && !is_modern(Some(&opened.entry))
    {
        restore::level_of(turn, backend, &opened.entry, level).await;
    }
    Ok(opened)
}

fn patience(outcome: &Result<Arc<Opened>, Failure>) -> Duration {
    match outcome {
        Err(_) => AWAY,
        Ok(opened) if is_modern(Some(&opened.entry)) => {
            let (least, most) = BELIEVED;
            let hints = Discovered::read(&opened.result).map(|discovered| discovered.hints);
            let said = hints.map_or(Duration::ZERO, |hints| Duration::from_millis(hints.ttl));
            said.clamp(least, most)
        }
        Ok(_) => KEPT,
    }
}

/// Returns who asks, as far as `backend` can tell: two that differ in it share nothing.
pub(super) fn owner(turn: &Turn, backend: &Backend) -> Fingerprint {
    let mut who = match &turn.session.owner {
        Owner::Anyone => String::new(),
        Owner::Subject(subject) => format!("s{subject}"),
        Owner::Hash(hash) => format!("h{hash:?}"),
    };
    let told = turn.route.access.forward.iter();
    for name in told.chain(backend.forward.iter().map(|(name, _)| name)) {
        for value in turn.headers.get_all(name) {
            who.push('\n');
            who.push_str(name.as_str());
            // In no name, so that one that goes on is another.
            who.push(':');
            who.push_str(&String::from_utf8_lossy(value.as_bytes()));
        }
    }
    fingerprint(&who)
}

/// Returns `message` as it is sent to a backend whose session many requests share; `None` if it can stay as it is.
pub(super) fn in_common(turn: &Turn, entry: &Entry, message: &Message) -> Option<Message> {
    let Message::Request(request) = message else {
        return None;
    };
    let own = turn.own.as_ref().filter(|_| !is_modern(Some(entry)))?;
    let id = turn
        .runtime
        .sessions
        .peers
        .next_id
        .fetch_add(1, Ordering::Relaxed);
    let id = format!("t-{id:x}");
    let params = request.params.as_deref().map(|params| {
        let plain = modern::unstamped(params);
        let plain = plain.unwrap_or_else(|| params.to_owned());
        let marked = own.progress.as_ref().and_then(|_| with_progress(&plain, &id));
        marked.unwrap_or(plain)
    });
    Some(Message::Request(Request {
        id: Id::text(&id),
        method: request.method.clone(),
        params,
    }))
}

fn with_progress(params: &RawValue, token: &str) -> Option<Box<RawValue>> {
    let mut params = Object::parse(params)?;
    params.edit("_meta", |meta| {
        let mut meta = Object::parse(meta)?;
        meta.edit("progressToken", |_| Some(json::raw(token)));
        Some(meta.to_raw())
    });
    Some(params.to_raw())
}

impl Peers {
    fn slot(&self, turn: &Turn, backend: &Backend) -> Arc<Slot> {
        let about = &turn.session.client;
        let level = turn.own.as_ref().and_then(|own| own.level);
        let client = format!("{}\n{level:?}", about.capabilities);
        let key = Key {
            route: Arc::clone(&turn.route.id),
            backend: Arc::clone(&backend.name),
            owner: owner(turn, backend),
            client: fingerprint(&client),
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_KNOWN && !known.contains_key(&key) {
            let now = Instant::now();
            let used = |met: &Option<Met>| met.as_ref().is_some_and(|met| met.until > now);
            known.retain(|_, slot| slot.try_lock().map_or(true, |met| used(&met)));
            if known.len() >= MAX_KNOWN {
                known.clear();
            }
        }
        Arc::clone(known.entry(key).or_default())
    }
}
