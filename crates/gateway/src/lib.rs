//! The data path: what happens between a client's bytes and an upstream's.
//!
//! Start at `handle`: one function, straight down. [`Gateway`] is the whole of it: it is given a snapshot and
//! serves it until the next one; what must survive a swap (clients, health, budgets) is its runtime.

mod access;
mod admin;
mod apart;
mod body;
mod coding;
mod credential;
mod ctx;
mod facts;
mod fault;
mod framing;
mod gather;
mod given;
mod handle;
mod headers;
mod kept;
mod lane;
mod limit;
mod llm;
mod mcp;
mod meter;
mod models;
mod picker;
mod plain;
mod profile;
mod redis;
mod refusal;
mod server;
mod telemetry;
mod terms;
mod trail;
mod upstream;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc, LazyLock, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use config::Snapshot;
use tokio::{
    io::DuplexStream,
    sync::watch,
    task::{JoinHandle, JoinSet},
};

use crate::{
    access::{egress::Services, keys::Keys},
    body::Memory,
    credential::{Credentials, World},
    kept::Shelf,
    lane::{Lanes, Records, retry::Budget},
    limit::Limiter,
    mcp::{Errands, Holding, Programs, Sessions},
    picker::{Parting, Pods},
    plain::mirror::Mirrors,
    redis::Dialer,
    server::{Server, drain::Stop, tls::Encryption},
    telemetry::{
        decision::Decisions,
        ended::Ended,
        histogram::Form,
        log::{Log, declared::Logs},
        metrics::Metrics,
        otlp::Pusher,
        trace::Tracer,
    },
    upstream::Clients,
};
pub use crate::{
    credential::ProxyError,
    redis::{AddressError, RedisOptions},
    telemetry::{
        attributes::{AttributesError, HeaderAttributes},
        level::LogLevel,
        otlp::{Bounds, Destination, Export, Push, Receiver, SendError},
        settings::{AccessRecords, Telemetry, TelemetryError},
        trace::{Hide, Limits, Propagator, Sampler, Speech, Traces},
    },
};

pub use ::llm::Prefixes;
pub use mcp::SessionOptions;

/// How the process serves, beside what the resources say.
#[derive(Clone, Debug)]
pub struct Options {
    /// The address that listeners bind.
    pub address: IpAddr,
    /// Whether ports are bound at all; without, nobody is served but who comes through [`Gateway::connect`], and standard
    /// output is left to them.
    pub listen: bool,
    /// Where the admin listener binds; `None` for none.
    pub admin: Option<SocketAddr>,
    /// What is written about each request to standard output.
    pub access_log: AccessLog,
    /// What is told of requests beside the access log.
    pub telemetry: Telemetry,
    /// Changes what the process says about itself; `None` where that cannot be changed.
    pub log_level: Option<LogLevel>,
    /// How many recent requests can be explained on the admin listener; 1,000 by default, 0 for none.
    pub decisions: usize,
    /// What stands before the paths of endpoints.
    pub prefixes: Prefixes,
    /// The most bytes that a request body may have; 32 MiB by default.
    pub max_body: usize,
    /// The most bytes that a form with a file may have, which is not held; 512 MiB by default.
    pub max_upload: usize,
    /// The most bytes of request bodies that are held at once, all requests together; 1 GiB by default.
    pub body_memory: usize,
    /// The most bytes of translated answers that are kept for clients of Responses; 64 MiB by default, 0 keeps none.
    pub kept_memory: usize,
    /// How long such an answer is kept; 1 h by default.
    pub kept_for: Duration,
    /// After this long without a byte a streaming client is told that we are still there; 10 s by default.
    pub keep_alive: Duration,
    /// The most bytes that a message of an MCP client may have, if not fewer than `max_body`; 4 MiB by default.
    pub mcp_max_body: usize,
    /// After how long an MCP client that listens is told that we are still there, if not after `keep_alive`.
    pub mcp_keep_alive: Option<Duration>,
    /// The Redis whose counters, and deleted sessions, all gateways share; `None` for those of this one alone.
    pub redis: Option<RedisOptions>,
    /// How long open streams may take to finish once draining has begun; 30 s by default.
    pub drain: Duration,
    /// The environment in which the default credentials of clouds are looked for; empty by default.
    pub variables: BTreeMap<String, String>,
    /// How the sessions of MCP clients are sealed.
    pub sessions: SessionOptions,
    /// What is told of the process itself on the admin listener; `None` for nothing.
    pub profiling: Option<Profiling>,
    /// Whether metrics have the names too that the reference gives them by mistake.
    pub old_metric_names: bool,
    /// Whether histograms are kept in fine buckets too, for who reads those.
    pub native_histograms: bool,
}

/// How it is learned what the process spends its time and its memory on. Stacks are looked at in any case.
#[derive(Clone, Copy, Debug)]
pub struct Profiling {
    /// Returns what the allocator says of itself, as JSON.
    pub heap: fn() -> Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            listen: true,
            admin: None,
            access_log: AccessLog::Off,
            telemetry: Telemetry::default(),
            log_level: None,
            decisions: 1000,
            prefixes: Prefixes::default(),
            max_body: 32 * 1024 * 1024,
            max_upload: 512 * 1024 * 1024,
            body_memory: 1024 * 1024 * 1024,
            kept_memory: 64 * 1024 * 1024,
            kept_for: Duration::from_secs(3600),
            keep_alive: Duration::from_secs(10),
            mcp_max_body: 4 * 1024 * 1024,
            mcp_keep_alive: None,
            redis: None,
            drain: Duration::from_secs(30),
            variables: BTreeMap::new(),
            sessions: SessionOptions::default(),
            profiling: None,
            old_metric_names: false,
            native_histograms: false,
        }
    }
}

/// The form of the access record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// None.
    Off,
    /// One JSON object a line.
    Json,
    /// `key=value` pairs, for a person.
    Text,
}

/// The gateway.
pub struct Gateway {
    state: ArcSwap<State>,
    /// What was served before and may be in use still. To let go of thousands of rules takes a while, which is not to be
    /// a request's.
    retired: Mutex<Vec<Arc<State>>>,
    runtime: Arc<Runtime>,
    server: Mutex<Server>,
    /// Held while a snapshot is installed, so that two of them cannot interleave.
    installing: tokio::sync::Mutex<()>,
    admin: Option<SocketAddr>,
    pusher: Option<Pusher>,
    /// Asks endpoints for their health, as the snapshot's policies say.
    probes: Mutex<JoinSet<()>>,
    tasks: Vec<JoinHandle<()>>,
}

/// What changes with a snapshot, swapped as one.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) snapshot: Snapshot,
    pub(crate) clients: Clients,
    /// What policies ask.
    pub(crate) services: Services,
    pub(crate) encryption: Encryption,
    pub(crate) credentials: Credentials,
    pub(crate) logs: Logs,
    pub(crate) lanes: Lanes,
}

/// What survives a snapshot.
pub(crate) struct Runtime {
    pub(crate) options: Options,
    pub(crate) metrics: Metrics,
    pub(crate) log: Log,
    pub(crate) decisions: Decisions,
    /// Requests that log, metrics, decisions and spans are still to tell of.
    pub(crate) ended: Ended,
    pub(crate) attributes: Arc<HeaderAttributes>,
    pub(crate) tracer: Option<Tracer>,
    pub(crate) retries: Budget,
    /// The connections to endpoints that pickers name.
    pub(crate) pods: Pods,
    pub(crate) partings: Arc<Parting>,
    /// What is known of endpoints that policies speak of.
    pub(crate) records: Records,
    pub(crate) limiter: Limiter,
    pub(crate) mirrors: Mirrors,
    pub(crate) memory: Arc<Memory>,
    pub(crate) shelf: Shelf,
    /// What credentials are had with.
    pub(crate) world: Arc<World>,
    pub(crate) keys: Keys,
    /// Goes off when the time to drain is over.
    pub(crate) stop: Arc<Stop>,
    /// Made when the first MCP client comes: the first random bytes of a process take tens of milliseconds. Where
    /// others are to tell which sessions are deleted, that is heard beforehand.
    pub(crate) sessions: LazyLock<Sessions, Box<dyn FnOnce() -> Sessions + Send>>,
    /// MCP servers that are programs of this machine.
    pub(crate) programs: Programs,
    /// Calls to MCP servers that wait for an answer of their client.
    pub(crate) held: Holding,
    /// What MCP servers are told when nobody waits for them any more.
    pub(crate) errands: Errands,
    /// What is served, for streams that outlive a snapshot.
    pub(crate) installed: watch::Sender<Option<Arc<State>>>,
    ready: AtomicBool,
}

/// A listener could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct BindError {
    /// Where.
    pub address: SocketAddr,
    /// Why.
    #[source]
    pub source: std::io::Error,
}

/// A gateway could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The admin listener could not be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The address of Redis is none.
    #[error(transparent)]
    Redis(#[from] AddressError),
    /// A variable does not name a proxy.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
}

impl Gateway {
    /// Returns a gateway that serves nothing yet. The admin listener answers `/health` at once and `/ready`
    /// with 503 until the first snapshot is installed.
    ///
    /// # Errors
    /// If the admin listener cannot be bound, there can be no Redis at its address, or a variable names no proxy.
    pub async fn start(options: Options) -> Result<Arc<Self>, StartError> {
        let admin = options.admin.map(server::listener::bind).transpose()?;
        let metrics = Metrics::new(&options);
        let redis = options.redis.as_ref().map(Dialer::new).transpose()?.map(Arc::new);
        let runtime = Arc::new(Runtime {
            world: Arc::new(World::new(
                options.variables.clone(),
                metrics.own.refreshes.clone(),
            )?),
            metrics,
            log: Log::new(options.access_log, &options.telemetry.records, !options.listen),
            decisions: Decisions::new(options.decisions),
            ended: Ended::start(),
            attributes: Arc::new(options.telemetry.attributes.clone()),
            tracer: options.telemetry.traces.clone().map(Tracer::start),
            retries: Budget::default(),
            pods: Pods::default(),
            partings: Arc::default(),
            records: Records::default(),
            limiter: Limiter::start(redis.clone()),
            mirrors: Mirrors::default(),
            memory: Memory::new(options.body_memory),
            shelf: Shelf::new(options.kept_memory, options.kept_for),
            keys: Keys::default(),
            stop: Arc::default(),
            sessions: LazyLock::new({
                let options = options.sessions.clone();
                Box::new(move || Sessions::new(&options, redis))
            }),
            programs: Programs::default(),
            held: Holding::default(),
            errands: Errands::default(),
            installed: watch::Sender::default(),
            ready: AtomicBool::new(false),
            options,
        });
        let push = runtime.options.telemetry.metrics.clone();
        let pusher = push.map(|push| Pusher::start(push, Arc::downgrade(&runtime)));
        Ok(Arc::new_cyclic(|gateway| {
            let address = admin.as_ref().and_then(|admin| admin.local_addr().ok());
            let admin = admin.map(|admin| admin::serve(admin, gateway.clone()));
            Self {
                state: ArcSwap::default(),
                retired: Mutex::default(),
                runtime,
                server: Mutex::default(),
                installing: tokio::sync::Mutex::default(),
                admin: address,
                pusher,
                probes: Mutex::default(),
                tasks: admin
                    .into_iter()
                    .chain([upstream::prune(gateway.clone())])
                    .collect(),
            }
        }))
    }

    /// Serves `snapshot` from now on. New ports are bound before anything is swapped: if one cannot be, the
    /// old snapshot stays. Requests that are being served keep the snapshot they began with; ports that are
    /// gone are closed once their requests are done.
    ///
    /// # Errors
    /// The ports that could not be bound.
    pub async fn install(self: &Arc<Self>, snapshot: Snapshot) -> Result<(), Vec<BindError>> {
        let _installing = self.installing.lock().await;
        let ports = snapshot.listeners.keys().copied();
        let ports: Vec<u16> = ports.filter(|_| self.runtime.options.listen).collect();
        let bound = self
            .server()
            .bind(self.runtime.options.address, ports.iter().copied())?;
        self.runtime.keys.begin(&snapshot.outside, &Arc::downgrade(self));
        let state = Arc::new(self.state(snapshot));
        *self.probes.lock().unwrap_or_else(PoisonError::into_inner) =
            lane::probe::start(&state.lanes, &self.runtime);
        let mut listeners = state.snapshot.listeners.values();
        let hears =
            self.runtime.options.redis.is_some() && listeners.any(|listener| !listener.mcp.is_empty());
        let before = self.state.swap(Arc::clone(&state));
        self.runtime.records.prune();
        self.runtime.keys.end(&state.snapshot.outside);
        self.runtime.installed.send_replace(Some(state));
        let unbound = self.server().reconcile(self, bound, |port| ports.contains(&port));
        for unbound in unbound {
            // A listener whose task is gone has let go of its port too.
            let _ = unbound.await;
        }
        self.runtime.metrics.process.installed();
        self.runtime.ready.store(true, Ordering::Release);
        if hears {
            LazyLock::force(&self.runtime.sessions);
        }
        self.retired().push(before);
        self.let_go();
        tracing::info!(listeners = ports.len(), "snapshot installed");
        Ok(())
    }

    /// Returns what serves `snapshot`: clients and lanes, those of the state before where nothing changed.
    fn state(&self, snapshot: Snapshot) -> State {
        let before = self.state.load();
        let mut clients = Clients::new(&snapshot, &before.clients);
        let lanes = Lanes::new(&snapshot, &mut clients, &before.lanes, &self.runtime.records);
        State {
            clients: clients.settled(),
            lanes,
            services: Services::new(&snapshot.outside, &before.services),
            encryption: Encryption::new(&snapshot, &before.encryption),
            credentials: Credentials::new(&snapshot, &before.credentials, &self.runtime.world),
            logs: Logs::new(&snapshot, &before.logs, &self.runtime.log),
            snapshot,
        }
    }

    /// Returns the addresses that are served, by declared port; with port 0 the one the system chose.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.server().addresses()
    }

    /// Returns a connection to the port that is declared as `declared`, inside the process and as if from this machine.
    pub fn connect(self: &Arc<Self>, declared: u16) -> DuplexStream {
        server::listener::join(server::Port::new(self, declared))
    }

    /// Returns the address of the admin listener.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Seals the sessions of MCP clients with other seeds from now on; what was sealed with either is opened.
    pub fn reseed(&self, options: &SessionOptions) {
        self.runtime.sessions.reseed(options);
    }

    /// Opens the files of access logs anew, after they were moved away.
    pub fn reopen_logs(&self) {
        self.state.load().logs.reopen();
    }

    /// Stops serving: readiness turns false, listeners close, requests finish; after `Options::drain` those
    /// that are left end with an error event in their client's dialect.
    pub async fn drain(self: &Arc<Self>) {
        let _installing = self.installing.lock().await;
        self.runtime.ready.store(false, Ordering::Release);
        let serving = self.server().take();
        server::drain::drain(&self.runtime, serving).await;
        self.runtime.programs.end().await;
        self.runtime.limiter.flush(LIMIT_FLUSH).await;
        self.runtime.ended.tell();
        self.runtime.log.flush(LOG_FLUSH);
        self.state.load().logs.flush(LOG_FLUSH);
        if let Some(tracer) = &self.runtime.tracer {
            tracer.flush(EXPORT_FLUSH);
        }
        if let Some(pusher) = &self.pusher {
            pusher.flush(EXPORT_FLUSH);
        }
    }

    /// Lets go of what was served before and is not in use any more.
    pub(crate) fn let_go(&self) {
        self.retired().retain(|state| Arc::strong_count(state) > 1);
    }

    fn retired(&self) -> std::sync::MutexGuard<'_, Vec<Arc<State>>> {
        self.retired.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn server(&self) -> std::sync::MutexGuard<'_, Server> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Runtime {
    /// Returns all metrics as text, histograms in `form`.
    pub(crate) fn encode_metrics(&self, form: Form) -> Result<String, std::fmt::Error> {
        self.ended.tell();
        let spans = self.tracer.as_ref().map_or(0, Tracer::dropped);
        let installed = self.installed.borrow();
        let records = installed.as_ref().map_or(0, |state| state.logs.dropped());
        let now = u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or_default();
        let counters = self.limiter.fullest(now);
        let records = self.log.dropped() + records;
        self.metrics.encode(form, records, spans, &counters)
    }

    /// Returns whether the configuration says of `model` how it is served.
    pub(crate) fn names_model(&self, model: &str) -> bool {
        let installed = self.installed.borrow();
        let state = installed.as_ref();
        let mut listeners = state
            .into_iter()
            .flat_map(|state| state.snapshot.listeners.values());
        listeners.any(|listener| listener.router.names_model(model))
    }

    /// Returns whether requests are being served.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }
}

/// How long the end may wait for a slow receiver of spans, or of metrics.
const EXPORT_FLUSH: Duration = Duration::from_secs(3);

/// How long the end may wait until what was used is booked.
const LIMIT_FLUSH: Duration = Duration::from_secs(2);

/// How long the end may wait for a slow reader of the access log.
const LOG_FLUSH: Duration = Duration::from_secs(1);
