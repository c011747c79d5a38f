//! Counters in Redis, which all gateways share.
//!
//! One script decides all claims of a request where the counters are: a request waits for one round trip, and never
//! longer than [`WAIT`]. What requests have cost is booked behind their backs, in batches, by the one task that also
//! connects; while Redis is away nothing waits, and what is to be booked waits in a bounded queue. A batch carries
//! a name by which it is booked once, however often it is sent. Keys are those of the compatibility specification
//! ("Counter algorithm"); what is held lies beside each, under `:held`.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use config::Secret;
use policy::rate_limit::store::{
    Admitting, Claim, Entry, Manner, Settlement, State, Store, StoreError, Vote,
};
use redis::{AsyncConnectionConfig, Client, RedisError, Script, aio::MultiplexedConnection};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    task::JoinHandle,
    time::{sleep, timeout},
};
use tracing::{debug, info, warn};

/// The longest that a request waits for Redis.
const WAIT: Duration = Duration::from_millis(250);

/// The longest that connecting, or booking a batch, may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long is waited before connecting again: from the first to the last, doubled each time, up to half of it at
/// random, so that gateways do not come back all at once.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// The most settlements of a batch.
const BATCH: usize = 256;

/// The most settlements that wait to be booked; more are lost, and what was held for them is given back when due.
const MAX_WAITING: usize = 65_536;

/// How long a batch is remembered, in seconds.
const REMEMBERED: u64 = 3600;

/// The most that the time to live of counters is spread by, in seconds.
const JITTER: u64 = 300;

/// The most counters that are remembered for `/usage`.
const MAX_SEEN: usize = 10_000;

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
    connection: ArcSwapOption<MultiplexedConnection>,
    /// Tells the task that the connection is of no use.
    lost: Notify,
    admit: Script,
    settle: Script,
    seen: Mutex<HashMap<String, Entry>>,
    dropped: AtomicU64,
}

/// What the task is given to do.
enum Job {
    Settle(Vec<Settlement>),
    /// Tells when everything before it is booked.
    Flush(oneshot::Sender<()>),
}

/// Why Redis cannot be used at all.
#[derive(Debug, thiserror::Error)]
#[error("the address of Redis is not one, such as redis://localhost:6379/0")]
pub struct AddressError;

impl Redis {
    /// Returns the counters at `address`, which holds the password, and begins to connect.
    ///
    /// # Errors
    /// If `address` is none.
    #[expect(
        clippy::disallowed_methods,
        reason = "the connection lives as long as the gateway"
    )]
    pub(crate) fn start(address: &Secret) -> Result<Self, AddressError> {
        let client = Client::open(address.expose()).map_err(|_| AddressError)?;
        let shared = Arc::new(Shared {
            connection: ArcSwapOption::empty(),
            lost: Notify::new(),
            admit: Script::new(include_str!("admit.lua")),
            settle: Script::new(include_str!("settle.lua")),
            seen: Mutex::default(),
            dropped: AtomicU64::new(0),
        });
        let (jobs, queue) = mpsc::channel(MAX_WAITING);
        let clerk = Clerk {
            client,
            shared: Arc::clone(&shared),
            queue,
            waiting: VecDeque::new(),
        };
        Ok(Self {
            shared,
            jobs,
            task: tokio::spawn(clerk.run()),
        })
    }

    /// Waits until everything is booked, for at most `limit`.
    pub(crate) async fn flush(&self, limit: Duration) {
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

    /// Returns the counters that this gateway has asked for and whose windows are open, as they were then.
    pub(crate) fn entries(&self, now: u64) -> Vec<Entry> {
        let seen = self.shared.seen();
        let mut entries: Vec<Entry> = seen.values().filter(|entry| entry.end > now).cloned().collect();
        entries.sort_by(|one, other| one.counter.cmp(&other.counter));
        entries
    }

    async fn ask(&self, claims: &[Claim], now: u64) -> Result<Vec<State>, StoreError> {
        let shared = &self.shared;
        let Some(connection) = shared.connection.load_full() else {
            return Err(StoreError::Unreachable);
        };
        let mut connection = MultiplexedConnection::clone(&connection);
        let mut script = shared.admit.prepare_invoke();
        script.arg(now);
        for claim in claims {
            let counter = claim.counter();
            script.key(&counter).key(holds(&counter));
            script.arg(claim.limit.min(MAX_NUMBER));
            script
                .arg(claim.charge.min(MAX_NUMBER))
                .arg(claim.hold.min(MAX_NUMBER));
            script
                .arg(claim.due)
                .arg(manner(claim.manner))
                .arg(vote(claim.vote));
            script.arg(claim.span.end - claim.span.start + fastrand::u64(..=JITTER));
        }
        let asked = timeout(WAIT, script.invoke_async::<Vec<u64>>(&mut connection)).await;
        match asked {
            Ok(Ok(numbers)) if numbers.len() == claims.len() * 3 => {
                let states = numbers.chunks_exact(3).filter_map(|state| match state {
                    [used, held, over] => Some(State {
                        used: *used,
                        held: *held,
                        over: *over == 1,
                    }),
                    _ => None,
                });
                let states: Vec<State> = states.collect();
                shared.note(claims, &states, now);
                Ok(states)
            }
            Ok(Ok(_)) => Err(StoreError::Unreachable),
            Ok(Err(error)) => {
                shared.fail(&error);
                Err(StoreError::Unreachable)
            }
            Err(_) => {
                // Whoever comes next must not wait as long again.
                shared.lose();
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
    fn admit<'a>(&'a self, claims: &'a [Claim], now: u64) -> Admitting<'a> {
        Box::pin(self.ask(claims, now))
    }

    fn settle(&self, settlements: Vec<Settlement>, _now: u64) {
        if self.jobs.try_send(Job::Settle(settlements)).is_err() {
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

    fn fail(&self, error: &RedisError) {
        debug!(%error, "redis refuses");
        if error.is_io_error() || error.is_connection_dropped() || error.is_timeout() {
            self.lose();
        }
    }

    fn note(&self, claims: &[Claim], states: &[State], now: u64) {
        let mut seen = self.seen();
        if seen.len() >= MAX_SEEN {
            seen.retain(|_, entry| entry.end > now);
        }
        for (claim, state) in claims.iter().zip(states) {
            let counter = claim.counter();
            if seen.len() >= MAX_SEEN && !seen.contains_key(&counter) {
                continue;
            }
            let entry = Entry {
                counter: counter.as_str().into(),
                used: state.used,
                held: state.held,
                limit: claim.limit,
                end: claim.span.end,
            };
            seen.insert(counter, entry);
        }
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn drop_some(&self, count: u64) {
        if self.dropped.fetch_add(count, Ordering::Relaxed) == 0 {
            warn!("too much waits to be booked: some of it is lost");
        }
    }
}

/// Connects, and books what requests have cost.
struct Clerk {
    client: Client,
    shared: Arc<Shared>,
    queue: mpsc::Receiver<Job>,
    waiting: VecDeque<Batch>,
}

/// Settlements that are booked at once, and once.
struct Batch {
    id: String,
    settlements: Vec<Settlement>,
    /// Who waits for them.
    flushed: Vec<oneshot::Sender<()>>,
}

impl Clerk {
    async fn run(mut self) {
        let mut pause = BACK_OFF.0;
        loop {
            match self.connect().await {
                Ok(connection) => {
                    info!("redis answers");
                    pause = BACK_OFF.0;
                    self.shared.connection.store(Some(Arc::new(connection.clone())));
                    if !self.book(connection).await {
                        return;
                    }
                    self.shared.lose();
                }
                Err(error) => debug!(%error, "redis cannot be reached"),
            }
            sleep(pause.mul_f64(1.0 + fastrand::f64() / 2.0)).await;
            pause = (pause * 2).min(BACK_OFF.1);
        }
    }

    async fn connect(&self) -> Result<MultiplexedConnection, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let mut connection = self
            .client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        redis::cmd("PING").query_async::<()>(&mut connection).await?;
        Ok(connection)
    }

    /// Books batches until the connection is lost; returns whether there will be more to book.
    async fn book(&mut self, mut connection: MultiplexedConnection) -> bool {
        loop {
            let Some(batch) = self.waiting.front_mut() else {
                tokio::select! {
                    () = self.shared.lost.notified() => {
                        // Told of a connection before this one, perhaps.
                        if self.shared.connection.load().is_none() {
                            return true;
                        }
                    }
                    job = self.queue.recv() => match job {
                        Some(job) => self.gather(job),
                        None => return false,
                    },
                }
                continue;
            };
            if let Err(error) = batch.send(&self.shared.settle, &mut connection).await {
                self.shared.fail(&error);
                if error.is_io_error() || error.is_connection_dropped() || error.is_timeout() {
                    self.keep();
                    return true;
                }
                warn!(%error, "redis refuses what was to be booked: it is lost");
            }
            for flushed in self
                .waiting
                .pop_front()
                .into_iter()
                .flat_map(|batch| batch.flushed)
            {
                // Who has stopped waiting need not be told.
                let _ = flushed.send(());
            }
        }
    }

    /// Makes a batch of `job` and what has come after it.
    fn gather(&mut self, job: Job) {
        let mut batch = Batch {
            id: format!("tollgate_settled_{:032x}", fastrand::u128(..)),
            settlements: Vec::new(),
            flushed: Vec::new(),
        };
        let mut next = Some(job);
        while let Some(job) = next {
            match job {
                Job::Settle(settlements) => batch.settlements.extend(settlements),
                Job::Flush(flushed) => batch.flushed.push(flushed),
            }
            next = if batch.settlements.len() < BATCH {
                self.queue.try_recv().ok()
            } else {
                None
            };
        }
        self.waiting.push_back(batch);
    }

    /// Empties the queue into batches, while Redis is away, and forgets the oldest where there are too many.
    fn keep(&mut self) {
        while let Ok(job) = self.queue.try_recv() {
            self.gather(job);
        }
        while self.waiting.len() > MAX_WAITING / BATCH {
            if let Some(batch) = self.waiting.pop_front() {
                self.shared.drop_some(batch.settlements.len() as u64);
            }
        }
    }
}

impl Batch {
    async fn send(&self, script: &Script, connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
        if self.settlements.is_empty() {
            return Ok(());
        }
        let mut call = script.prepare_invoke();
        call.key(&self.id).arg(REMEMBERED);
        for settlement in &self.settlements {
            let counter = settlement.counter();
            let holds = holds(&counter);
            call.key(counter).key(holds);
            call.arg(settlement.charge.min(MAX_NUMBER))
                .arg(settlement.release.min(MAX_NUMBER));
            let length = settlement.span.end - settlement.span.start;
            call.arg(settlement.due).arg(length + fastrand::u64(..=JITTER));
        }
        call.invoke_async::<u64>(connection).await.map(|_| ())
    }
}

/// Returns where it lies what is held of a counter.
fn holds(counter: &str) -> String {
    format!("{counter}:held")
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
