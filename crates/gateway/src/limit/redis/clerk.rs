//! The task that connects, and books what requests have cost.

use std::{
    collections::VecDeque,
    error::Error,
    future::pending,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use policy::rate_limit::store::Settlement;
use redis::RedisError;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Interval, MissedTickBehavior, interval, sleep},
};
use tracing::{debug, info, warn};

use super::{ADMIT, JITTER, Job, Keys, MAX_NUMBER, MAX_WAITING, SETTLE, Shared, late::Lates};
use crate::{
    gather::gather,
    redis::{AGAIN, Dialer, Link, Pauses, is_lost, is_passing},
};

/// How often leases are looked at, and the connection is used: a server, or whoever is between, may close one on which
/// nothing is said, and no request is to be the first that finds out.
const ROUND: Duration = Duration::from_secs(1);

/// The most settlements of a batch.
const BATCH: usize = 256;

/// How long a batch waits for more: what requests have cost is held until it is booked, and each batch is a round trip.
const LINGER: Duration = Duration::from_millis(5);

/// How long the answer to a batch is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long it is remembered which batch was the last, in seconds.
const REMEMBERED: u64 = 3600;

/// Connects, and books what requests have cost.
pub(super) struct Clerk {
    dialer: Arc<Dialer>,
    shared: Arc<Shared>,
    queue: mpsc::Receiver<Job>,
    /// The key under which it is remembered which batch was the last.
    name: String,
    /// How many batches there were.
    batches: u64,
    waiting: VecDeque<Batch>,
    /// Calls whose requests have given up.
    late: Lates,
    /// When leases are looked at.
    rounds: Interval,
}

/// Settlements that are booked at once, and once.
struct Batch {
    /// Its place among all of them.
    number: u64,
    settlements: Vec<Settlement>,
    /// Who waits for them.
    flushed: Vec<oneshot::Sender<()>>,
}

impl Clerk {
    /// Returns one that books what comes by `queue`.
    pub(super) fn new(dialer: Arc<Dialer>, shared: Arc<Shared>, queue: mpsc::Receiver<Job>) -> Self {
        let mut rounds = interval(ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            dialer,
            shared,
            queue,
            name: format!("tollgate_settled_{:032x}", fastrand::u128(..)),
            batches: 0,
            waiting: VecDeque::new(),
            late: Lates::default(),
            rounds,
        }
    }

    /// Connects and books until there is nothing more to come.
    pub(super) async fn run(mut self) {
        let mut pauses = Pauses::default();
        loop {
            match self.dialer.dial(&[&ADMIT, &SETTLE]).await {
                Ok(link) => {
                    info!("redis answers");
                    let begun = Instant::now();
                    self.shared.connection.store(Some(Arc::new(link.clone())));
                    let shared = Arc::clone(&self.shared);
                    // Whoever books is told and not cut off: what is under way stays to be booked.
                    let kept = async {
                        link.keep(Some(ROUND)).await;
                        shared.lose();
                        pending().await
                    };
                    let more = tokio::select! {
                        more = self.book(&link) => more,
                        never = kept => never,
                    };
                    if !more {
                        return;
                    }
                    self.shared.lose();
                    // A server that answers and takes nothing is no better than one that does not answer.
                    pauses.lasted(begun.elapsed());
                }
                Err(error) => debug!(error = &error as &dyn Error, "redis cannot be reached"),
            }
            pauses.wait().await;
        }
    }

    /// Books batches until the connection is lost; returns whether there will be more to book.
    async fn book(&mut self, link: &Link) -> bool {
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
                        Some(job @ Job::Settle(_)) => {
                            sleep(LINGER).await;
                            self.gather(job);
                        }
                        Some(job @ (Job::Flush(_) | Job::Late(_))) => self.gather(job),
                        None => return false,
                    },
                    back = self.late.next() => self.gather(Job::Settle(back)),
                    _ = self.rounds.tick() => self.give_back(),
                }
                continue;
            };
            match batch.send(&self.name, link).await {
                Ok(0) => {}
                Ok(refused) => warn!(
                    refused,
                    "redis does not book on some counters: what was used of them is lost"
                ),
                Err(error) => {
                    debug!(%error, "redis refuses");
                    let is_over = self.shared.connection.load().is_none();
                    if is_over || is_lost(&error) && matches!(link, Link::Server(_)) {
                        self.keep();
                        return true;
                    }
                    if is_lost(&error) || is_passing(&error) {
                        warn!(%error, "redis does not take what is to be booked: it is kept");
                        self.keep();
                        sleep(AGAIN).await;
                        continue;
                    }
                    warn!(%error, "redis refuses what was to be booked: it is lost");
                }
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

    /// Gives back what was taken ahead and has not been used.
    fn give_back(&mut self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |now| now.as_secs());
        let rests = self.shared.leases().end(now);
        if !rests.is_empty() {
            self.gather(Job::Settle(rests));
        }
    }

    /// Makes a batch of `job` and what has come after it.
    fn gather(&mut self, job: Job) {
        let mut batch = Batch {
            number: self.batches + 1,
            settlements: Vec::new(),
            flushed: Vec::new(),
        };
        let mut next = Some(job);
        while let Some(job) = next {
            match job {
                Job::Settle(settlements) => batch.settlements.extend(settlements),
                Job::Late(late) => self.late.add(late),
                Job::Flush(flushed) => batch.flushed.push(flushed),
            }
            next = if batch.settlements.len() < BATCH {
                self.queue.try_recv().ok()
            } else {
                None
            };
        }
        if batch.settlements.is_empty() && batch.flushed.is_empty() {
            return;
        }
        batch.merge();
        self.batches = batch.number;
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
    /// Makes one settlement of those that book on the same counter what was held until the same time.
    fn merge(&mut self) {
        fn place(settlement: &Settlement) -> (&str, u64) {
            (settlement.counter.name(), settlement.due)
        }
        self.settlements
            .sort_unstable_by(|one, other| place(one).cmp(&place(other)));
        self.settlements.dedup_by(|next, kept| {
            let same = place(next) == place(kept);
            if same {
                kept.charge = kept.charge.saturating_add(next.charge);
                kept.release = kept.release.saturating_add(next.release);
            }
            same
        });
    }

    /// Has the batch of whoever is called `name` booked; returns how many of its counters could not be. What is booked is
    /// not in the batch any longer.
    ///
    /// # Errors
    /// If not all of it could be sent.
    async fn send(&mut self, name: &str, link: &Link) -> Result<u64, RedisError> {
        let parts: Vec<&[Settlement]> = match link {
            Link::Server(_) if self.settlements.is_empty() => Vec::new(),
            Link::Server(_) => vec![&self.settlements],
            // Merging has put together what is of one counter.
            Link::Cluster(_) => self
                .settlements
                .chunk_by(|one, other| one.counter.name() == other.counter.name())
                .collect(),
        };
        let answers = gather(parts.iter().map(|part| self.book(name, link, part))).await;
        let (mut refused, mut failure, mut left) = (0, None, Vec::new());
        for (part, answer) in parts.iter().zip(answers) {
            match answer {
                Ok(some) => refused += some,
                Err(error) => {
                    left.extend_from_slice(part);
                    // What may be taken later is not lost for what is refused for ever.
                    if failure.is_none() || is_lost(&error) || is_passing(&error) {
                        failure = Some(error);
                    }
                }
            }
        }
        self.settlements = left;
        failure.map_or(Ok(refused), Err)
    }

    /// Has settlements booked whose counters lie beside each other.
    async fn book(&self, name: &str, link: &Link, settlements: &[Settlement]) -> Result<u64, RedisError> {
        let keys = Keys::behind(link);
        let first = settlements.first();
        let place = first.map(|first| keys.counter(&first.counter, first.slides));
        let place = place.unwrap_or_default();
        let mut call = SETTLE.prepare_invoke();
        call.key(keys.batches(&place, name))
            .arg(REMEMBERED)
            .arg(self.number);
        for settlement in settlements {
            let counter = keys.counter(&settlement.counter, settlement.slides);
            call.key(&*counter).key(keys.holds(&counter));
            call.arg(settlement.charge.min(MAX_NUMBER))
                .arg(settlement.release.min(MAX_NUMBER));
            call.arg(settlement.due)
                .arg(settlement.kept() + fastrand::u64(..=JITTER));
        }
        call.invoke_async(&mut link.route(&place, PATIENCE)).await
    }
}
