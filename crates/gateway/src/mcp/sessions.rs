//! What this process remembers of sessions beside their tokens: little, bounded, and nothing that another
//! replica could not do without.

use std::{
    collections::{HashMap, VecDeque},
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use mcp::{
    Id,
    session::{self, Config, Entry, Form, Tokens},
};
use rustls::crypto::{SecureRandom, aws_lc_rs};

use super::index::Index;
use crate::Runtime;

/// How session tokens are sealed.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// What all replicas share; random if `None`, so that sessions end with the process.
    pub seed: Option<config::Secret>,
    /// What they shared before.
    pub fallback: Option<config::Secret>,
    /// Rounds of the derivation for tokens of the compatibility specification.
    pub iterations: NonZeroU32,
    /// Whether new tokens are those of the compatibility specification.
    pub compatible: bool,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            seed: None,
            fallback: None,
            // The compatibility specification's default.
            iterations: NonZeroU32::MIN.saturating_add(99_999),
            compatible: false,
        }
    }
}

/// Tokens, and what is remembered of their sessions.
pub(crate) struct Sessions {
    pub(super) tokens: Tokens,
    pub(super) index: Index,
    random: &'static dyn SecureRandom,
    known: Mutex<Known>,
}

/// The name of a session in memory.
pub(super) type Fingerprint = [u8; 16];

#[derive(Default)]
struct Known {
    sessions: HashMap<Fingerprint, Remembered>,
    oldest_first: VecDeque<Fingerprint>,
}

#[derive(Default)]
struct Remembered {
    /// The client has ended it.
    ended: bool,
    /// Whether somebody listens to its stream.
    listened: bool,
    /// Backends that were opened, or opened anew, since the token was issued.
    healed: Vec<Entry>,
    /// Requests that are being served.
    open: Vec<(Id, Arc<str>)>,
}

/// The most sessions of which something is remembered.
const MAX_KNOWN: usize = 65_536;

/// A request that is being served; forgotten when it is dropped.
pub(super) struct Open {
    runtime: Arc<Runtime>,
    session: Fingerprint,
    id: Id,
}

/// A stream that is listened to; forgotten when it is dropped.
pub(super) struct Listening {
    runtime: Arc<Runtime>,
    session: Fingerprint,
}

impl Sessions {
    /// Returns the keys for `options`, and no memory yet.
    pub(crate) fn new(options: &SessionOptions) -> Self {
        let random = aws_lc_rs::default_provider().secure_random;
        let bytes = |secret: &config::Secret| secret.expose().as_bytes().to_vec();
        let seed = options.seed.as_ref().map(bytes);
        let tokens = Tokens::new(&Config {
            seed: seed.unwrap_or_else(|| draw::<32>(random).to_vec()),
            fallback: options.fallback.as_ref().map(bytes),
            iterations: options.iterations,
            fallback_iterations: options.iterations,
            form: if options.compatible { Form::V0 } else { Form::V1 },
            salt: draw(random),
        });
        Self {
            tokens,
            index: Index::default(),
            random,
            known: Mutex::default(),
        }
    }

    /// Returns random bytes.
    pub(super) fn draw<const N: usize>(&self) -> [u8; N] {
        draw(self.random)
    }

    /// Remembers that the session was ended by its client.
    pub(super) fn end(&self, session: Fingerprint) {
        self.lock().of(session).ended = true;
    }

    /// Returns whether the session was ended, as far as is known here.
    pub(super) fn is_ended(&self, session: &Fingerprint) -> bool {
        self.lock().sessions.get(session).is_some_and(|known| known.ended)
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
        let healed = &mut known.of(session).healed;
        healed.retain(|known| known.backend != entry.backend);
        healed.push(entry);
    }

    /// Returns the backends that serve the request called `id`.
    pub(super) fn serving(&self, session: &Fingerprint, id: &Id) -> Vec<Arc<str>> {
        let known = self.lock();
        let open = known.sessions.get(session).map(|known| &known.open);
        let of_id = open.into_iter().flatten().filter(|(open, _)| open == id);
        of_id.map(|(_, backend)| Arc::clone(backend)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
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
}

impl Open {
    /// Remembers that `backend` serves the request called `id`.
    pub(super) fn new(runtime: &Arc<Runtime>, session: Fingerprint, id: &Id, backend: &Arc<str>) -> Self {
        let mut known = runtime.sessions.lock();
        known.of(session).open.push((id.clone(), Arc::clone(backend)));
        Self {
            runtime: Arc::clone(runtime),
            session,
            id: id.clone(),
        }
    }

    fn close(&self) {
        if let Some(known) = self.runtime.sessions.lock().sessions.get_mut(&self.session)
            && let Some(at) = known.open.iter().position(|(id, _)| *id == self.id)
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
    /// Claims the stream of a session; `None` if somebody listens already.
    pub(super) fn new(runtime: &Arc<Runtime>, session: Fingerprint) -> Option<Self> {
        let taken = std::mem::replace(&mut runtime.sessions.lock().of(session).listened, true);
        (!taken).then(|| Self {
            runtime: Arc::clone(runtime),
            session,
        })
    }

    fn close(&self) {
        if let Some(known) = self.runtime.sessions.lock().sessions.get_mut(&self.session) {
            known.listened = false;
        }
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

fn draw<const N: usize>(random: &dyn SecureRandom) -> [u8; N] {
    let mut bytes = [0; N];
    if random.fill(&mut bytes).is_err() {
        // The system gives no randomness: tokens that others could make are worse than none that open.
        tracing::error!("the system gives no random bytes");
        fastrand::fill(&mut bytes);
    }
    bytes
}
