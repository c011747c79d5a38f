//! Lanes: the ways to the upstreams of rules that a policy speaks of, and what is known of each.
//!
//! A lane is made for a snapshot and ends with it. What is known of an endpoint, its [`Record`], is kept in the
//! runtime by candidate and address for as long as any snapshot names it, so that a reload forgets nothing. All
//! of it is atomic: no request waits for another to look at it.

pub(crate) mod affinity;
mod cool;
pub(crate) mod order;
pub(crate) mod probe;
pub(crate) mod retry;
pub(crate) mod wish;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use config::{
    Snapshot,
    mcp_route::Reach,
    snapshot::{Endpoint, Tls},
};
use http::HeaderMap;
use policy::traffic::{
    Breaker, Passive, Traffic, balance,
    health::{Fared, Outlier},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::upstream::{Client, Clients};

/// The longest that an upstream's own words keep it from being asked.
const MAX_COOL: Duration = Duration::from_secs(300);

/// The weight of the newest latency in the average, as a divisor.
const SMOOTHING: u64 = 4;

/// What is known of endpoints, across snapshots.
#[derive(Debug)]
pub(crate) struct Records {
    /// Held only while a snapshot is installed.
    known: Mutex<HashMap<Name, Arc<Record>>>,
    start: Instant,
}

/// An endpoint of a candidate, which is named by its id.
type Name = (Arc<str>, Endpoint);

/// What is known of one endpoint of a candidate. Times are milliseconds since the records began.
#[derive(Debug, Default)]
pub(crate) struct Record {
    outlier: Outlier,
    /// Until when the upstream itself asked to be left alone.
    cool_until: AtomicU64,
    /// Whether it did not answer when it was asked for its health.
    unhealthy: AtomicBool,
    /// Probes in a row that contradict `unhealthy`.
    contradicted: AtomicU32,
    /// Since when it has been there, or back.
    since: AtomicU64,
    in_flight: AtomicU32,
    /// The time to an answer, in microseconds, the newer the more it counts; 0 if none is known.
    latency: AtomicU64,
}

/// The ways to one candidate.
#[derive(Debug)]
pub(crate) struct Lane {
    /// One to each endpoint of the candidate.
    pub(crate) ways: Vec<Way>,
    pub(crate) traffic: Arc<Traffic>,
    load: Load,
}

/// The way to one endpoint.
#[derive(Debug)]
pub(crate) struct Way {
    pub(crate) client: Arc<Client>,
    pub(crate) record: Arc<Record>,
    /// The hash of candidate and address.
    pub(crate) name: u64,
    connections: Arc<Semaphore>,
}

/// How much a candidate is asked at the moment.
#[derive(Debug)]
struct Load {
    requests: AtomicU32,
    retries: AtomicU32,
    pending: AtomicU32,
    connections: Arc<Semaphore>,
    turns: AtomicU64,
}

/// The lanes of a snapshot.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    by_policy: HashMap<Arc<str>, HashMap<Arc<str>, Arc<Lane>>>,
    largest_body: usize,
}

/// An attempt under way; it weighs on its lane until it is dropped.
#[derive(Debug)]
pub(crate) struct Busy {
    lane: Arc<Lane>,
    way: usize,
    is_retry: bool,
    /// How long a connection to be free was waited for; `None` if one was.
    pub(crate) waited: Option<Duration>,
    _permits: [OwnedSemaphorePermit; 2],
}

/// The upstream is asked too much at once already.
#[derive(Debug)]
pub(crate) struct Overflow;

impl Default for Records {
    fn default() -> Self {
        Self {
            known: Mutex::default(),
            start: Instant::now(),
        }
    }
}

impl Records {
    /// Returns the time, as records have it.
    pub(crate) fn now(&self) -> u64 {
        millis(self.start.elapsed())
    }

    /// Returns what is known of an endpoint.
    fn of(&self, candidate: &Arc<str>, endpoint: &Endpoint) -> Arc<Record> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (Arc::clone(candidate), endpoint.clone());
        let record = known.entry(key).or_insert_with(|| {
            Arc::new(Record {
                since: AtomicU64::new(self.now().max(1)),
                ..Record::default()
            })
        });
        Arc::clone(record)
    }

    /// Forgets what no snapshot, and no request, asks about any more.
    pub(crate) fn prune(&self) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, record| Arc::strong_count(record) > 1);
    }
}

impl Lanes {
    /// Returns the lanes for `snapshot`; what is known of endpoints is taken from `records`.
    pub(crate) fn new(snapshot: &Snapshot, clients: &mut Clients, before: &Lanes, records: &Records) -> Self {
        let mut lanes = Self::default();
        let rules = snapshot
            .listeners
            .values()
            .flat_map(|listener| listener.router.rules());
        for rule in rules {
            let Some(traffic) = &rule.traffic else {
                continue;
            };
            lanes.largest_body = lanes.largest_body.max(traffic.max_body.unwrap_or(0));
            let of_policy = lanes.by_policy.entry(Arc::clone(&traffic.policy)).or_default();
            for candidate in rule.candidates.iter() {
                let Some(backend) = candidate.backend.as_ref().ok().filter(|_| !candidate.is_picked()) else {
                    continue;
                };
                let to = Destination {
                    id: &candidate.id,
                    endpoints: &backend.endpoints,
                    tls: backend.tls.as_ref(),
                };
                to.join(of_policy, traffic, clients, before, records);
            }
        }
        let tools = snapshot
            .listeners
            .values()
            .flat_map(|listener| listener.mcp.routes());
        for backend in tools.flat_map(|route| &route.backends) {
            let (Some(traffic), Ok(Reach::Http(http))) = (&backend.traffic, &backend.reach) else {
                continue;
            };
            let of_policy = lanes.by_policy.entry(Arc::clone(&traffic.policy)).or_default();
            let to = Destination {
                id: &http.id,
                endpoints: &http.endpoints,
                tls: http.tls.as_ref(),
            };
            to.join(of_policy, traffic, clients, before, records);
        }
        lanes
    }

    /// Returns the lane of `candidate` under `traffic`; `None` if it leads nowhere.
    pub(crate) fn find(&self, traffic: &Traffic, candidate: &str) -> Option<&Arc<Lane>> {
        self.by_policy.get(&traffic.policy)?.get(candidate)
    }

    /// Returns the most bytes that a policy allows a request to have; 0 where none says so.
    pub(crate) fn largest_body(&self) -> usize {
        self.largest_body
    }

    /// Returns all lanes.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Lane>> {
        self.by_policy.values().flat_map(HashMap::values)
    }
}

/// Where a lane leads: a candidate of a rule, or an MCP server.
struct Destination<'a> {
    id: &'a Arc<str>,
    endpoints: &'a [Endpoint],
    tls: Option<&'a Tls>,
}

impl Destination<'_> {
    /// Adds the lane that leads here to those of a policy, if it is not there.
    fn join(
        &self,
        of_policy: &mut HashMap<Arc<str>, Arc<Lane>>,
        traffic: &Arc<Traffic>,
        clients: &mut Clients,
        before: &Lanes,
        records: &Records,
    ) {
        if !of_policy.contains_key(self.id) {
            let before = before.find(traffic, self.id);
            let lane = Lane::new(traffic, self, clients, before, records);
            of_policy.insert(Arc::clone(self.id), Arc::new(lane));
        }
    }
}

impl Lane {
    fn new(
        traffic: &Arc<Traffic>,
        to: &Destination<'_>,
        clients: &mut Clients,
        before: Option<&Arc<Lane>>,
        records: &Records,
    ) -> Self {
        let breaker = &traffic.breaker;
        let before = before.filter(|lane| lane.traffic.breaker == *breaker);
        let permits = |count: u32| Arc::new(Semaphore::new(usize::try_from(count).unwrap_or(1)));
        let ways = to.endpoints.iter().map(|endpoint| {
            let client = clients.client(endpoint, to.tls, &traffic.connections);
            let mut known = before.into_iter().flat_map(|lane| &lane.ways);
            let known = known.find(|way| Arc::ptr_eq(&way.client, &client));
            Way {
                record: records.of(to.id, endpoint),
                name: balance::hash(balance::hash(0, to.id.as_bytes()), endpoint.address().as_bytes()),
                connections: known.map_or_else(
                    || permits(breaker.connections_per_endpoint),
                    |way| Arc::clone(&way.connections),
                ),
                client,
            }
        });
        Self {
            ways: ways.collect(),
            load: Load {
                requests: AtomicU32::new(0),
                retries: AtomicU32::new(0),
                pending: AtomicU32::new(0),
                connections: before.map_or_else(
                    || permits(breaker.connections),
                    |lane| Arc::clone(&lane.load.connections),
                ),
                turns: AtomicU64::new(0),
            },
            traffic: Arc::clone(traffic),
        }
    }

    /// Returns the number of the turn that it is now.
    pub(crate) fn turn(&self) -> u64 {
        self.load.turns.fetch_add(1, Ordering::Relaxed)
    }

    /// Lets an attempt through, waiting for a connection to be free.
    ///
    /// # Cancel safety
    /// Dropping the future takes the attempt back.
    pub(crate) async fn admit(self: &Arc<Self>, way: usize, is_retry: bool) -> Result<Busy, Overflow> {
        let breaker: &Breaker = &self.traffic.breaker;
        let load = &self.load;
        let requests = Counted::within(&load.requests, breaker.requests)?;
        let retries = match is_retry {
            true => {
                let bound = breaker.retries_among(load.requests.load(Ordering::Relaxed));
                Some(Counted::within(&load.retries, bound)?)
            }
            false => None,
        };
        let own = self.ways.get(way).ok_or(Overflow)?;
        let (of_lane, before) = self.connection(&load.connections).await?;
        let (of_way, after) = self.connection(&own.connections).await?;
        own.record.in_flight.fetch_add(1, Ordering::Relaxed);
        requests.keep();
        retries.into_iter().for_each(Counted::keep);
        Ok(Busy {
            lane: Arc::clone(self),
            way,
            is_retry,
            waited: before.into_iter().chain(after).reduce(|one, other| one + other),
            _permits: [of_lane, of_way],
        })
    }

    async fn connection(
        &self,
        connections: &Arc<Semaphore>,
    ) -> Result<(OwnedSemaphorePermit, Option<Duration>), Overflow> {
        if let Ok(permit) = Arc::clone(connections).try_acquire_owned() {
            return Ok((permit, None));
        }
        let begun = Instant::now();
        let _pending = Counted::within(&self.load.pending, self.traffic.breaker.pending)?;
        let acquired = Arc::clone(connections).acquire_owned().await;
        let permit = acquired.map_err(|_| Overflow)?;
        Ok((permit, Some(begun.elapsed())))
    }
}

/// One more in a counter, taken back when it is dropped.
struct Counted<'a>(&'a AtomicU32);

impl<'a> Counted<'a> {
    fn within(counter: &'a AtomicU32, bound: u32) -> Result<Self, Overflow> {
        let taken = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
            (count < bound).then_some(count + 1)
        });
        taken.map(|_| Self(counter)).map_err(|_| Overflow)
    }

    /// Leaves the one more where it is.
    fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let load = &self.lane.load;
        load.requests.fetch_sub(1, Ordering::Relaxed);
        if self.is_retry {
            load.retries.fetch_sub(1, Ordering::Relaxed);
        }
        if let Some(way) = self.lane.ways.get(self.way) {
            way.record.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Busy {
    /// Notes that the answer broke off after it had begun.
    pub(crate) fn broke(&self) {
        if let (Some(way), Some(passive)) = (self.lane.ways.get(self.way), &self.lane.traffic.passive) {
            // Whether that is once too often shows at the next attempt.
            way.record.outlier.note(Fared::LocalFailure, passive);
        }
    }
}

impl Record {
    /// Returns whether the endpoint is to be asked, as far as its health is known.
    pub(crate) fn is_healthy(&self, now: u64) -> bool {
        !self.unhealthy.load(Ordering::Relaxed) && now >= self.outlier.until()
    }

    /// Returns whether the endpoint asked to be left alone.
    pub(crate) fn is_cooling(&self, now: u64) -> bool {
        now < self.cool_until.load(Ordering::Relaxed)
    }

    /// Returns which share of its weight an endpoint has that is new, or was left out, `window` being how long
    /// it is spared.
    pub(crate) fn warmth(&self, now: u64, window: Duration) -> f64 {
        let since = self.since.load(Ordering::Relaxed).max(self.outlier.until());
        let (age, window) = (now.saturating_sub(since), millis(window));
        if age >= window {
            1.0
        } else {
            (age as f64 / window as f64).max(COLDEST)
        }
    }

    /// Returns the number of requests under way.
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Returns how long one more request is expected to take, in microseconds; 0 where nothing is known.
    pub(crate) fn expected(&self) -> f64 {
        self.latency.load(Ordering::Relaxed) as f64 * f64::from(self.in_flight() + 1)
    }

    /// Notes how an attempt fared that ended at `now`; returns whether the endpoint is to be left out.
    pub(crate) fn note(&self, fared: Fared, passive: &Passive, now: u64) -> bool {
        let in_a_row = self.outlier.note(fared, passive);
        self.outlier.fails_too_often(fared, passive, now) || in_a_row
    }

    /// Leaves the endpoint out.
    pub(crate) fn eject(&self, now: u64, passive: &Passive) {
        self.outlier.eject(now, passive);
    }

    /// Notes how long an answer took to begin.
    pub(crate) fn took(&self, time: Duration) {
        let time = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1);
        let known = self.latency.load(Ordering::Relaxed);
        let average = if known == 0 {
            time
        } else {
            known - known / SMOOTHING + time / SMOOTHING
        };
        self.latency.store(average, Ordering::Relaxed);
    }

    /// Leaves the endpoint alone for as long as its reply asks, in seconds or in its headers.
    pub(crate) fn cool(&self, now: u64, seconds: Option<u64>, headers: &HeaderMap) {
        let asked = seconds.map(Duration::from_secs);
        let Some(wait) = asked.or_else(|| cool::wait(headers, jiff::Timestamp::now())) else {
            return;
        };
        let until = now + millis(wait.min(MAX_COOL));
        self.cool_until.fetch_max(until, Ordering::Relaxed);
    }

    /// Notes the outcome of a probe; after as many in a row as `threshold` it is believed.
    fn probed(&self, well: bool, threshold: u32, now: u64) {
        if well != self.unhealthy.load(Ordering::Relaxed) {
            self.contradicted.store(0, Ordering::Relaxed);
            return;
        }
        if self.contradicted.fetch_add(1, Ordering::Relaxed) + 1 < threshold {
            return;
        }
        self.contradicted.store(0, Ordering::Relaxed);
        self.unhealthy.store(!well, Ordering::Relaxed);
        if well {
            self.since.store(now, Ordering::Relaxed);
        }
    }
}

/// The least share of its weight that an endpoint has which is spared.
const COLDEST: f64 = 0.1;

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
