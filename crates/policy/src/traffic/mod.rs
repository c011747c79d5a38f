//! How a rule's upstreams are chosen, tried again, bounded and watched.
//!
//! What a BackendTrafficPolicy says is resolved to a [`Traffic`]. The decisions are made here, from numbers and
//! the time as arguments; counting, waiting and calling are the gateway's.

pub mod balance;
pub mod fault;
pub mod health;
pub mod retry;
pub mod session;

use std::{sync::Arc, time::Duration};

use http::{Method, StatusCode};

use crate::rate_limit::Limits;

pub use balance::Balance;
pub use fault::{Abort, Faults};
pub use health::Passive;
pub use retry::Retry;
pub use session::Session;

/// How a rule's upstreams are treated.
#[derive(Clone, Debug, PartialEq)]
pub struct Traffic {
    /// `namespace/name` of the policy; several are joined by `+`, the one laid over the other first.
    pub policy: Arc<str>,
    /// How much is let through; `None` for everything.
    pub limits: Option<Arc<Limits>>,
    /// How one of the upstreams is chosen.
    pub balance: Balance,
    /// New and returning endpoints are asked more and more often until this has passed.
    pub slow_start: Option<Duration>,
    /// When and how often another attempt is made; `None` for the rules that hold without a policy.
    pub retry: Option<Retry>,
    /// What is tried elsewhere beyond that.
    pub also: Also,
    /// How clients are bound to the endpoint that served them first.
    pub session: Option<Session>,
    /// Which endpoints are left out because of how requests fare.
    pub passive: Option<Passive>,
    /// How endpoints are asked for their health.
    pub active: Option<Active>,
    /// Below this share of healthy endpoints, in percent, health is not looked at; 0 for never.
    pub panic_threshold: u32,
    /// How much each upstream is asked at once.
    pub breaker: Breaker,
    /// How connections are made and kept.
    pub connections: Connections,
    /// The whole request, where the rule does not say; `Some(None)` for no limit.
    pub request: Option<Option<Duration>>,
    /// The longest answer.
    pub max_stream: Option<Duration>,
    /// The longest wait for the first event of a stream, if it differs from that for the next one.
    pub first_event: Option<Duration>,
    /// The longest silence within a stream, where the rule does not say.
    pub stream_idle: Option<Duration>,
    /// Faults that are made on purpose.
    pub faults: Option<Faults>,
    /// The most bytes of a request that is held.
    pub max_body: Option<usize>,
    /// Whether clients may say in a header whom to ask, in which order.
    pub trusts_order: bool,
    /// Whether answers tell the number of attempts and the upstream.
    pub tells_attempts: bool,
    /// What becomes of a request of which an upstream would not hear everything.
    pub lossy: Lossy,
    /// What answers call the model.
    pub naming: Naming,
}

/// What answers call the model, where a route names another than the client does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Naming {
    /// What the client called it; a header tells the upstream's name.
    #[default]
    Client,
    /// What the upstream calls it.
    Upstream,
}

/// What becomes of a request of which an upstream would not hear everything. What it cannot do without is refused in any
/// case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lossy {
    /// It is served, and the client is told what was lost.
    #[default]
    Told,
    /// It is served, and records alone tell what was lost.
    Untold,
    /// It is refused there.
    Refused,
}

/// Failures that are tried elsewhere only on demand: the request itself may be at fault.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Also {
    /// The prompt is too long for the model.
    pub context_length: bool,
    /// The provider's filter refused prompt or answer.
    pub content_filter: bool,
}

/// How endpoints are asked for their health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Active {
    /// How long an answer may take.
    pub timeout: Duration,
    /// How often.
    pub interval: Duration,
    /// The longest wait before the first.
    pub jitter: Duration,
    /// Failures in a row after which an endpoint is left out.
    pub unhealthy: u32,
    /// Successes in a row after which it is back.
    pub healthy: u32,
    /// What is asked.
    pub probe: Probe,
    /// The port that is asked in place of the endpoint's.
    pub port: Option<u16>,
}

/// What an endpoint is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A request.
    Http {
        /// Its method.
        method: Method,
        /// Its host, if not the endpoint's.
        host: Option<String>,
        /// Its path.
        path: String,
        /// The statuses of health.
        expected: Vec<StatusCode>,
        /// What the answer must hold.
        holds: Option<Vec<u8>>,
    },
    /// gRPC's own question (grpc.health.v1).
    Grpc {
        /// Whose health; that of the whole server if it is empty.
        service: String,
    },
    /// A connection.
    Tcp {
        /// What is sent.
        send: Vec<u8>,
        /// What must come back.
        receive: Vec<u8>,
    },
}

/// How much an upstream is asked at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaker {
    /// Connections to all of its endpoints.
    pub connections: u32,
    /// Connections to one of them.
    pub connections_per_endpoint: u32,
    /// Requests that wait for a connection.
    pub pending: u32,
    /// Requests.
    pub requests: u32,
    /// Requests that are not the first attempt.
    pub retries: u32,
    /// Retries in proportion to requests, in place of `retries`.
    pub retry_budget: Option<RetryBudget>,
}

/// Retries in proportion to requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryBudget {
    /// Their share of the requests under way, in thousandths.
    pub per_mille: u32,
    /// How many there may be in any case.
    pub at_least: u32,
}

/// How connections are made and kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Connections {
    /// How long it may take to connect, TLS included.
    pub connect: Duration,
    /// How long a connection is kept that nobody uses.
    pub idle: Duration,
    /// How long a connection is used at all.
    pub lifetime: Option<Duration>,
    /// How many requests a connection carries in its life.
    pub requests: Option<u32>,
    /// Probes on connections that are silent.
    pub keep_alive: Option<KeepAlive>,
    /// HTTP/2.
    pub streams: Streams,
}

/// Probes on connections that are silent; what is not said is the system's choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeepAlive {
    /// Silence after which the first is sent.
    pub idle: Option<Duration>,
    /// Time between them.
    pub interval: Option<Duration>,
    /// Probes without an answer after which a connection is given up.
    pub probes: Option<u32>,
}

/// How HTTP/2 is spoken; what is `None` is as it is without a policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Streams {
    /// How many requests a connection carries at once.
    pub at_once: Option<u32>,
    /// Bytes that may arrive on one stream before they are read.
    pub window: Option<u32>,
    /// Bytes that may arrive on one connection before they are read.
    pub connection_window: Option<u32>,
    /// How often the other side is asked if it is there, while it is silent.
    pub ping_every: Option<Duration>,
    /// How long an answer may take.
    pub pong_within: Option<Duration>,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            connections: DEFAULT_BOUND,
            connections_per_endpoint: DEFAULT_BOUND,
            pending: DEFAULT_BOUND,
            requests: DEFAULT_BOUND,
            retries: DEFAULT_BOUND,
            retry_budget: None,
        }
    }
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(3600),
            lifetime: None,
            requests: None,
            keep_alive: None,
            streams: Streams::default(),
        }
    }
}

impl Breaker {
    /// Returns how many retries there may be while `requests` are under way.
    pub fn retries_among(&self, requests: u32) -> u32 {
        match self.retry_budget {
            None => self.retries,
            Some(budget) => {
                let share = u64::from(requests) * u64::from(budget.per_mille) / 1000;
                u32::try_from(share).unwrap_or(u32::MAX).max(budget.at_least)
            }
        }
    }
}

/// The bound of everything that a circuit breaker counts and of which nothing is said.
const DEFAULT_BOUND: u32 = 1024;
