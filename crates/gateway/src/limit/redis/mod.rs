//! Counters in Redis, which all gateways share.
//!
//! One script decides all claims of a request where the counters are: a request waits for one round trip, and never
//! longer than [`WAIT`]; where a counter is asked for often, most requests are served from what was taken ahead and
//! wait for nothing. What requests have cost is booked behind their backs, in batches, by the one task that also
//! connects; while Redis is away nothing waits, and what is to be booked waits in a bounded queue. A batch has
//! a number by which it is booked once, however often it is sent. Keys are those of the compatibility specification
//! ("Counter algorithm"); what is held lies beside each, under `:held`. In a cluster each claim is decided by itself.

mod apart;
mod clerk;
mod keys;
mod late;
mod seen;

use std::{
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use policy::rate_limit::store::{
    AHEAD_OF, Admitting, Claim, Entry, Manner, Settlement, State, Store, StoreError, Vote, lease::Leases,
};
use redis::{RedisError, Script};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};
use tracing::{debug, warn};

use self::{
    clerk::Clerk,
    keys::Keys,
    late::{Late, Waiting, states},
    seen::Seen,
};
use crate::redis::{Dialer, Link, WAIT, is_lost};

/// How often it is said that Redis refuses to decide.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// The most settlements that wait to be booked; more are lost, and what was held for them is given back when due.
const MAX_WAITING: usize = 65_536;

/// The most that the time to live of counters is spread by, in seconds.
const JITTER: u64 = 300;

/// The largest number that scripts count exactly.
const MAX_NUMBER: u64 = 1 << 53;

/// Counters in Redis.
pub(crate) struct Redis {
    shared: Arc<Shared>,
    jobs: mpsc::Sender<Job>,
    task: JoinHandle<()>,
}

struct Shared {
    /// `None` while Redis is away.
    connection: ArcSwapOption<Link>,
    /// Tells the task that the connection is of no use.
    lost: Notify,
    seen: Mutex<Seen>,
    leases: Mutex<Leases>,
    /// When it was last said that Redis refuses to decide.
    said: Mutex<Option<Instant>>,
    dropped: AtomicU64,
}

/// Decides the claims of a request.
static ADMIT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("admit.lua")));

/// Books what requests have cost.
static SETTLE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("settle.lua")));

/// What the task is given to do.
enum Job {
    Settle(Vec<Settlement>),
    /// Waits for a call whose request has given up, and gives back what it holds.
    Late(Late),
    /// Tells when everything before it is booked.
    Flush(oneshot::Sender<()>),
}

impl Redis {
    /// Returns the counters there, and begins to connect.
    #[expect(
        clippy::disallowed_methods,
        reason = "the connection lives as long as the gateway"
    )]
    pub(crate) fn start(dialer: Arc<Dialer>) -> Self {
        let shared = Arc::new(Shared {
            connection: ArcSwapOption::empty(),
            lost: Notify::new(),
            seen: Mutex::default(),
            leases: Mutex::default(),
            said: Mutex::default(),
            dropped: AtomicU64::new(0),
        });
        let (jobs, queue) = mpsc::channel(MAX_WAITING);
        let clerk = Clerk::new(dialer, Arc::clone(&shared), queue);
        Self {
            shared,
            jobs,
            task: tokio::spawn(clerk.run()),
        }
    }

    /// Returns whether Redis answers.
    pub(crate) fn answers(&self) -> bool {
        self.shared.connection.load().is_some()
    }

    /// Waits until everything is booked, for at most `limit`.
    pub(crate) async fn flush(&self, limit: Duration) {
        let leased = self.shared.leases().end(u64::MAX);
        self.settle(leased, u64::MAX);
        let (send, receive) = oneshot::channel();
        let flushed = async {
            if self.jobs.send(Job::Flush(send)).await.is_ok() {
                // Whoever was to answer is gone: there is nothing left to wait for.
                let _ = receive.await;
            }
        };
        if timeout(limit, flushed).await.is_err() {
            warn!("not everything that was used could be booked in time");
        }
    }

    /// Returns the counters that this gateway has asked for and whose windows are open, as they were then: the first
    /// `most` after the name `after`.
    pub(crate) fn entries(&self, after: &str, most: usize, now: u64) -> Vec<Entry> {
        self.shared.seen().entries(after, most, now)
    }

    async fn decide(&self, claims: &mut [Claim], now: u64) -> Result<Vec<State>, StoreError> {
        let leased = self.shared.leases().admit(claims, now);
        if let Some((states, booked)) = leased {
            self.settle(booked, now);
            return Ok(states);
        }
        self.shared.leases().ask(claims, now);
        let Some(link) = self.shared.connection.load_full() else {
            return Err(StoreError::Unreachable);
        };
        let states = match &*link {
            Link::Server(_) => self.call(&link, claims, now).await?,
            Link::Cluster(_) => apart::ask(self, &link, claims, now).await?,
        };
        // Nothing is waited for from here: what was granted is not lost on the way.
        let mut leases = self.shared.leases();
        let kept = claims.iter().zip(&states);
        let rests: Vec<Settlement> = kept
            .filter_map(|(claim, state)| leases.keep(claim, state, now))
            .collect();
        drop(leases);
        self.settle(rests, now);
        Ok(states)
    }

    /// Has one script decide `claims`, whose counters lie beside each other.
    async fn call(&self, link: &Link, claims: &[Claim], now: u64) -> Result<Vec<State>, StoreError> {
        let (shared, keys) = (&self.shared, Keys::behind(link));
        let place = claims
            .first()
            .map(|claim| keys.counter(&claim.counter, claim.before.is_some()));
        let place = place.unwrap_or_default();
        let mut route = link.route(&place, late::PATIENCE);
        let mut script = ADMIT.prepare_invoke();
        script.arg(now).arg(AHEAD_OF);
        for claim in claims {
            let counter = keys.counter(&claim.counter, claim.before.is_some());
            script.key(&*counter).key(keys.holds(&counter));
            let (mut seconds, mut left) = (0, 0);
            if let Some(before) = claim.counter_before() {
                let before = keys.counter(&before, true);
                script.key(&*before).key(keys.holds(&before));
                let span = claim.counter.span;
                (seconds, left) = (span.seconds(), span.left(now));
            }
            for number in [claim.limit, claim.charge, claim.hold] {
                script.arg(number.min(MAX_NUMBER));
            }
            script.arg(claim.due).arg(claim.ahead.min(MAX_NUMBER));
            script.arg(manner(claim.manner)).arg(vote(claim.vote));
            script.arg(claim.kept() + fastrand::u64(..=JITTER));
            script.arg(seconds).arg(left);
        }
        let call = Box::pin(async move { script.invoke_async(&mut route).await });
        match timeout(WAIT, Waiting::new(call, claims, &self.jobs)).await {
            Ok(Ok(numbers)) => {
                let states = states(claims, &numbers).ok_or(StoreError::Unreachable)?;
                shared.note(claims, &states, now);
                Ok(states)
            }
            Ok(Err(error)) => {
                shared.refused(link, &place, &error);
                Err(StoreError::Unreachable)
            }
            Err(_) => {
                // Whoever comes next must not wait as long again.
                shared.lose_at(link, &place);
                Err(StoreError::Unreachable)
            }
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Store for Redis {
    fn admit<'a>(&'a self, claims: &'a mut [Claim], now: u64) -> Admitting<'a> {
        Admitting::Asked(Box::pin(self.decide(claims, now)))
    }

    fn settle(&self, settlements: Vec<Settlement>, _now: u64) {
        if !settlements.is_empty() && self.jobs.try_send(Job::Settle(settlements)).is_err() {
            self.shared.drop_some(1);
        }
    }
}

impl Shared {
    /// Gives the connection up; the task makes another.
    fn lose(&self) {
        if self.connection.swap(None).is_some() {
            warn!("redis does not answer: limits cannot be asked");
        }
        self.lost.notify_one();
    }

    /// Gives the connection up to who has the counter called `place`.
    fn lose_at(&self, link: &Link, place: &str) {
        if link.lose(place) {
            self.lose();
        }
    }

    /// Gives up what is of no use. What Redis refuses to decide while it answers, somebody has to mend: a user without
    /// rights on the counters, a key that is none.
    fn refused(&self, link: &Link, place: &str, error: &RedisError) {
        debug!(%error, "redis refuses");
        if is_lost(error) {
            self.lose_at(link, place);
            return;
        }
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_none_or(|said| said.elapsed() >= SAID_EVERY) {
            *said = Some(Instant::now());
            warn!(%error, "redis refuses to decide: limits cannot be asked");
        }
    }

    fn note(&self, claims: &[Claim], states: &[State], now: u64) {
        let mut seen = self.seen();
        for (claim, state) in claims.iter().zip(states) {
            seen.note(claim, state, now);
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leases(&self) -> MutexGuard<'_, Leases> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn drop_some(&self, count: u64) {
        if self.dropped.fetch_add(count, Ordering::Relaxed) == 0 {
            warn!("too much waits to be booked: some of it is lost");
        }
    }
}

fn manner(manner: Manner) -> &'static str {
    match manner {
        Manner::Reserve => "reserve",
        Manner::Check => "check",
    }
}

fn vote(vote: Vote) -> &'static str {
    match vote {
        Vote::Must => "must",
        Vote::Any => "any",
        Vote::Never => "never",
    }
}
