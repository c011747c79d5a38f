//! Answers that are kept for clients of Responses, in memory: to go on from, to be read again and to be deleted. Of
//! those that providers keep it is remembered which one did, so that it is asked when a request goes on from one.
//!
//! An answer is there for whoever asked for it, at the host where it was given: for the caller that the policies
//! have verified, or, where they verify nobody, for whoever knows its id, which cannot be guessed. That an answer
//! is somebody else's and that there is none is told in the same words. What is too old goes, and what is oldest
//! where there is no room; a replica of the gateway knows nothing of another.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::Method;
use llm::{ApiError, ErrorKind, Inbound, Kept, operation::Place};
use rustls::crypto::{SecureRandom, aws_lc_rs};
use serde_json::json;

use crate::{
    access::{Admitted, Passed},
    ctx::Ctx,
    refusal::Answer,
};

/// The share of the memory that one conversation may have: a few long ones must not displace all others.
const SHARE: usize = 8;

/// About what an answer takes beside its own bytes.
const ENTRY: usize = 256;

/// Reads what the request goes on from, and sees to it that what comes of it is kept.
///
/// # Errors
/// A 400 that names the member at fault.
pub(crate) fn prepare(ctx: &mut Ctx, inbound: &mut Inbound) -> Result<(), ApiError> {
    let shelf = &ctx.runtime.shelf;
    if shelf.bound == 0 || !inbound.may_go_on() {
        return Ok(());
    }
    let owner = ctx.access.as_deref().and_then(Admitted::caller);
    let mut weight = inbound.len();
    if let Some(previous) = inbound.previous()? {
        let is_own = |other: &Owner| *other == owner;
        let earlier = match shelf.find(&ctx.facts.host, &previous, is_own, Instant::now()) {
            Some(Held::Here(earlier)) => earlier,
            Some(Held::At(backend)) => {
                ctx.holder = Some(backend);
                return Ok(());
            }
            // It may be at any provider.
            None => return Ok(()),
        };
        weight += earlier.weight();
        inbound.go_on(&earlier)?;
    }
    if weight <= shelf.bound / SHARE
        && inbound.wants_keeping()?
        && let Some(random) = shelf.random()
    {
        inbound.keep(random);
        ctx.facts.owner = owner;
    }
    Ok(())
}

/// Remembers that the answer `id`, which the client is given, is kept at `backend`.
pub(crate) fn remember(ctx: &Ctx, id: &str, backend: &Arc<str>) {
    let shelf = &ctx.runtime.shelf;
    if shelf.bound > 0 {
        let owner = ctx.access.as_deref().and_then(Admitted::caller);
        let held = Held::At(Arc::clone(backend));
        shelf.put_held(&ctx.facts.host, owner, id, held, Instant::now());
    }
}

/// Returns the refusal of a request that goes on from an answer which none of its backends has.
pub(crate) fn held_elsewhere() -> ApiError {
    let message = "the response is kept by a backend that does not serve this model";
    ApiError::invalid(message)
        .with_param("previous_response_id")
        .with_code("previous_response_not_found")
}

/// Returns the answer that `place` names, or deletes it. `passed` tells as whom the client is known.
///
/// # Errors
/// A 404, if it is not kept here for this client.
pub(crate) fn answer(
    ctx: &Ctx,
    method: &Method,
    place: &Place<'_>,
    passed: &[Passed],
) -> Result<Answer, ApiError> {
    let id = place.name.as_deref().unwrap_or_default();
    let (shelf, host) = (&ctx.runtime.shelf, &ctx.facts.host);
    let is_own = |owner: &Owner| owner.is_none() || passed.iter().any(|passed| passed.caller == *owner);
    let document = if *method == Method::DELETE {
        let deleted = json!({ "id": id, "object": "response", "deleted": true });
        shelf
            .take(host, id, is_own, Instant::now())
            .map(|_| Bytes::from(deleted.to_string()))
    } else {
        match shelf.find(host, id, is_own, Instant::now()) {
            Some(Held::Here(kept)) => Some(kept.document.clone()),
            Some(Held::At(_)) | None => None,
        }
    };
    document.map(Answer::json).ok_or_else(|| {
        let shown: String = id.chars().take(100).collect();
        let message = format!("the response \"{shown}\" is not kept here, or not any more");
        ApiError::new(ErrorKind::NotFound, message).with_code("response_not_found")
    })
}

/// What is kept.
pub(crate) struct Shelf {
    bound: usize,
    lifetime: Duration,
    secure: &'static dyn SecureRandom,
    kept: Mutex<Entries>,
}

/// The host at which an answer was given, and its id.
type Key = (String, String);

/// Who asked for an answer; `None` where nobody was verified.
pub(crate) type Owner = Option<String>;

#[derive(Default)]
struct Entries {
    by_key: HashMap<Key, Entry>,
    /// By the order in which they were put, which is that in which they expire.
    by_age: BTreeMap<u64, Key>,
    put: u64,
    weight: usize,
}

/// Where an answer is.
#[derive(Clone)]
enum Held {
    /// Here.
    Here(Arc<Kept>),
    /// At the backend of this id.
    At(Arc<str>),
}

struct Entry {
    held: Held,
    owner: Owner,
    age: u64,
    until: Instant,
}

impl Shelf {
    /// Returns a shelf for answers of `bound` bytes together, each for `lifetime`.
    pub(crate) fn new(bound: usize, lifetime: Duration) -> Self {
        Self {
            bound,
            lifetime,
            secure: aws_lc_rs::default_provider().secure_random,
            kept: Mutex::default(),
        }
    }

    /// Keeps an answer that `owner` was given at `host`; what is oldest makes room.
    pub(crate) fn put(&self, host: &str, owner: Owner, kept: Kept, now: Instant) {
        let kept = Arc::new(kept);
        self.put_held(host, owner, &kept.id, Held::Here(Arc::clone(&kept)), now);
    }

    fn put_held(&self, host: &str, owner: Owner, id: &str, held: Held, now: Instant) {
        let mut entries = self.entries(now);
        let key = (host.to_owned(), id.to_owned());
        entries.remove(&key);
        let age = entries.put;
        entries.put += 1;
        entries.weight += held.weight();
        entries.by_age.insert(age, key.clone());
        let entry = Entry {
            held,
            owner,
            age,
            until: now + self.lifetime,
        };
        entries.by_key.insert(key, entry);
        while entries.weight > self.bound && entries.drop_oldest() {}
    }

    /// Returns the answer that was given at `host` under `id`, if `is_own` says so of its owner.
    fn find(&self, host: &str, id: &str, is_own: impl Fn(&Owner) -> bool, now: Instant) -> Option<Held> {
        let entries = self.entries(now);
        let entry = entries.by_key.get(&(host.to_owned(), id.to_owned()))?;
        is_own(&entry.owner).then(|| entry.held.clone())
    }

    /// Takes the answer out that is kept here and was given at `host` under `id`, if `is_own` says so of its owner.
    fn take(&self, host: &str, id: &str, is_own: impl Fn(&Owner) -> bool, now: Instant) -> Option<Held> {
        let mut entries = self.entries(now);
        let key = (host.to_owned(), id.to_owned());
        let entry = entries.by_key.get(&key)?;
        if !is_own(&entry.owner) || matches!(entry.held, Held::At(_)) {
            return None;
        }
        entries.remove(&key)
    }

    /// Returns what nobody can guess; `None` if the system has none to give.
    fn random(&self) -> Option<u128> {
        let mut bytes = [0; 16];
        self.secure.fill(&mut bytes).ok()?;
        Some(u128::from_ne_bytes(bytes))
    }

    /// Returns what has not expired.
    fn entries(&self, now: Instant) -> std::sync::MutexGuard<'_, Entries> {
        let mut entries = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        while entries.oldest().is_some_and(|entry| entry.until <= now) {
            entries.drop_oldest();
        }
        entries
    }
}

impl Entries {
    fn oldest(&self) -> Option<&Entry> {
        let (_, key) = self.by_age.first_key_value()?;
        self.by_key.get(key)
    }

    fn drop_oldest(&mut self) -> bool {
        let Some((_, key)) = self.by_age.first_key_value() else {
            return false;
        };
        let key = key.clone();
        self.remove(&key).is_some()
    }

    fn remove(&mut self, key: &Key) -> Option<Held> {
        let entry = self.by_key.remove(key)?;
        self.by_age.remove(&entry.age);
        self.weight = self.weight.saturating_sub(entry.held.weight());
        Some(entry.held)
    }
}

impl Held {
    fn weight(&self) -> usize {
        match self {
            Held::Here(kept) => kept.weight() + ENTRY,
            Held::At(_) => ENTRY,
        }
    }
}
