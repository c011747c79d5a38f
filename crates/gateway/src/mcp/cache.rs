//! Lists that backends gave, for as long as they may be kept.
//!
//! Whose a list is, is a part of its name: who calls, what the backend is told of that, and what the client said of
//! itself. So nobody is given what somebody else was. A list is forgotten when the backend says that it has changed,
//! and with every reload; for a little longer than it may be kept it stands in for one that cannot be had.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use config::mcp_route::{Backend, Route};
use mcp::{List, modern::Hints, session::fingerprint};
use tokio::time::Instant;

use super::{lists::Part, pages::Whole, peers, sessions::Fingerprint, turn::Turn};

/// The most bytes of lists that are kept.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// The longest list that is kept.
const MAX_LIST: usize = 8 * 1024 * 1024;

/// How long a list is kept at most, whatever its backend says.
const MAX_TTL: Duration = Duration::from_secs(3600);

/// How long a list that may not be kept any more stands in for one that cannot be had.
const GRACE: Duration = Duration::from_secs(60);

/// Lists by whose they are.
#[derive(Default)]
pub(super) struct Cache(Mutex<Known>);

#[derive(Default)]
struct Known {
    lists: HashMap<Key, Kept>,
    bytes: usize,
}

/// Whose a list is.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    route: Arc<str>,
    backend: Arc<str>,
    list: List,
    /// Who is given it; `None` for everybody.
    whose: Option<Fingerprint>,
}

struct Kept {
    /// The route as it was; after a reload there is another.
    route: Weak<Route>,
    whole: Arc<Whole>,
    bytes: usize,
    since: Instant,
    until: Instant,
}

impl Cache {
    /// Returns the list of `backend` that may still be given to the client of `turn`.
    pub(super) fn find(&self, turn: &Turn, backend: &Backend, list: List) -> Option<Part> {
        let known = self.lock();
        if known.lists.is_empty() {
            return None;
        }
        let now = Instant::now();
        let kept = known.of(turn, backend, list).filter(|kept| kept.until > now)?;
        let left = (kept.until - now).as_millis();
        let ttl = kept.whole.ttl.map(|_| u64::try_from(left).unwrap_or(u64::MAX));
        Some(Part {
            whole: Arc::clone(&kept.whole),
            hints: Hints {
                ttl: ttl.unwrap_or_default(),
                public: kept.whole.public,
            },
            next: None,
        })
    }

    /// Returns the last list of `backend` that the client of `turn` could be given, if that is not long ago.
    pub(super) fn last_known(&self, turn: &Turn, backend: &Backend, list: List) -> Option<Arc<Whole>> {
        let known = self.lock();
        let kept = known.of(turn, backend, list)?;
        (kept.until + GRACE > Instant::now()).then(|| Arc::clone(&kept.whole))
    }

    /// Keeps a list that `backend` gave to the client of `turn`, if it may be kept.
    pub(super) fn keep(&self, turn: &Turn, backend: &Backend, list: List, whole: &Arc<Whole>) {
        let ttl = whole
            .ttl
            .map_or(backend.list_ttl, Duration::from_millis)
            .min(MAX_TTL);
        let bytes = weight(whole);
        if ttl.is_zero() || bytes > MAX_LIST {
            return;
        }
        let public = whole.public && whole.ttl.is_some();
        let key = Key {
            whose: (!public).then(|| whose(turn, backend)),
            ..Key::of_all(turn, backend, list)
        };
        let now = Instant::now();
        let kept = Kept {
            route: Arc::downgrade(&turn.route),
            whole: Arc::clone(whole),
            bytes,
            since: now,
            until: now + ttl,
        };
        let mut known = self.lock();
        known.remove(&key);
        known.make_room(bytes);
        known.bytes += bytes;
        known.lists.insert(key, kept);
    }

    /// Forgets `lists` of a backend, whoever was given them.
    pub(super) fn forget(&self, route: &str, backend: &str, lists: &[List]) {
        let mut known = self.lock();
        let gone = |key: &Key| *key.route == *route && *key.backend == *backend && lists.contains(&key.list);
        let gone: Vec<Key> = known.lists.keys().filter(|key| gone(key)).cloned().collect();
        gone.iter().for_each(|key| known.remove(key));
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Returns what is kept for the client of `turn`, fresh or not.
    fn of(&self, turn: &Turn, backend: &Backend, list: List) -> Option<&Kept> {
        let all = Key::of_all(turn, backend, list);
        let kept = match self.lists.get(&all) {
            Some(kept) => Some(kept),
            None => self.lists.get(&Key {
                whose: Some(whose(turn, backend)),
                ..all
            }),
        };
        kept.filter(|kept| std::ptr::eq(kept.route.as_ptr(), Arc::as_ptr(&turn.route)))
    }

    /// Lets go of the oldest lists until there is room for one of so many bytes.
    fn make_room(&mut self, bytes: usize) {
        while self.bytes + bytes > MAX_BYTES {
            let oldest = self.lists.iter().min_by_key(|(_, kept)| kept.since);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else {
                return;
            };
            self.remove(&oldest);
        }
    }

    fn remove(&mut self, key: &Key) {
        if let Some(kept) = self.lists.remove(key) {
            self.bytes -= kept.bytes;
        }
    }
}

impl Key {
    fn of_all(turn: &Turn, backend: &Backend, list: List) -> Self {
        Self {
            route: Arc::clone(&turn.route.id),
            backend: Arc::clone(&backend.name),
            list,
            whose: None,
        }
    }
}

/// Returns who asks, as far as `backend` can tell.
fn whose(turn: &Turn, backend: &Backend) -> Fingerprint {
    let client = &turn.session.client;
    let version = turn.entry(&backend.name).and_then(|entry| entry.version);
    let owner = peers::owner(turn, backend);
    fingerprint(&format!(
        "{owner:?}\n{version:?}\n{}\n{}",
        client.capabilities, client.info
    ))
}

/// Returns how many bytes a list takes, roughly.
fn weight(whole: &Whole) -> usize {
    let items = whole
        .items
        .iter()
        .map(|item| item.raw.get().len() + item.own.len() + ITEM);
    items.sum()
}

/// What an item takes beside its text.
const ITEM: usize = 64;
