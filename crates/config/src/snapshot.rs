//! What requests read: plain immutable data with everything compiled.
//!
//! A snapshot holds no connection, counter or session; those live in the gateway's runtime, keyed by the ids
//! given here, and survive a swap. Ordered maps make it deterministic, so that it can be dumped and compared.

use std::{
    collections::{BTreeMap, HashSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue};
use llm::{Operation, Site, provider::Provider};
use policy::{
    Policies, Remote,
    access_log::{AccessLog, Form},
    body::Body,
    cost::{Costs, prices::Prices},
    ext_proc::BodyMode,
    headers::Headers,
    quota::Quota,
    rate_limit::Limits,
    traffic::{Connections, Lossy, Naming, Traffic, session::Carrier},
};
use serde_json::{Map, Value, json};

use crate::{
    Credential, Router, Secret,
    certificate::{Authorities, Certificate},
    encryption::{ServerTls, Terms, TlsVersion},
    host::Hosts,
    intake::Intake,
    plain::Plain,
    router::McpRouter,
    words::Vocabularies,
};

/// Everything that was declared, resolved.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// By port. Listeners of several Gateways on one port share it; host names tell their routes apart.
    pub listeners: BTreeMap<u16, Listener>,
    /// What policies ask.
    pub outside: Outside,
}

/// What policies ask, beside the upstreams that serve models.
#[derive(Clone, Debug, Default)]
pub struct Outside {
    /// Services, by what policies call them.
    pub services: BTreeMap<Arc<str>, Service>,
    /// Keys that are fetched.
    pub key_sets: HashSet<Arc<Remote>>,
}

/// A service that a policy asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// What each reference leads to; never empty.
    pub parts: Vec<Part>,
    /// Set where calls are encrypted.
    pub tls: Option<Tls>,
    /// How connections are made and kept.
    pub connections: Connections,
    /// How often it is asked again that was not reached.
    pub retries: u32,
}

/// What one reference to a service leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Network addresses; never empty. One is picked at random for each call.
    pub endpoints: Vec<Endpoint>,
    /// Share among the parts; 0 is never asked.
    pub weight: u32,
    /// Whether it is asked only where none of the others is reached.
    pub reserve: bool,
}

/// A port to listen on.
#[derive(Clone, Debug, Default)]
pub struct Listener {
    /// The declared listeners behind it, as `namespace/gateway/listener`.
    pub names: Vec<String>,
    /// Which rule serves which request.
    pub router: Router,
    /// Which paths have MCP servers behind them.
    pub mcp: McpRouter,
    /// Set where policies say how connections and requests are taken: how, by the host that clients name (SNI), or for
    /// every host where nothing is encrypted.
    pub intake: Option<Hosts<Arc<Intake>>>,
    /// Set where connections are encrypted: how, by the host that clients name (SNI).
    pub tls: Option<Hosts<Arc<ServerTls>>>,
    /// How records of requests look, where the resources say so; no record at all if it is empty.
    pub access_logs: Option<Vec<DeclaredLog>>,
}

/// One rule of a route.
#[derive(Clone, Debug)]
pub struct Rule {
    /// `namespace/route`
    pub route: Arc<str>,
    /// The rule's place in its route.
    pub index: usize,
    /// The rule's name, where it has one.
    pub name: Option<String>,
    /// Annotations of the route that begin with Envoy Gateway's name, without that; `None` if there are none.
    pub annotations: Option<Arc<BTreeMap<String, String>>>,
    /// Who may serve it, in the order of the references.
    pub candidates: Arc<[Candidate]>,
    /// Time limits.
    pub timeouts: Timeouts,
    /// Who may use it; anybody if there are none.
    pub policies: Option<Arc<Policies>>,
    /// Set where requests are handed on as they are: what is done with them besides.
    pub plain: Option<Arc<Plain>>,
    /// How its upstreams are chosen, tried again, bounded and watched; `None` where no policy says so.
    pub traffic: Option<Arc<Traffic>>,
    /// What is counted for each reply; `None` for nothing.
    pub costs: Option<Arc<Costs>>,
    /// What models cost in money of which their backend does not say so; `None` where nobody says.
    pub prices: Option<Arc<Prices>>,
    /// In which words spans tell of its requests; `None` for those of the process.
    pub words: Option<Vocabularies>,
    /// How much is let through; `None` for everything.
    pub limits: Option<Arc<Limits>>,
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
    /// Network addresses; never empty but where a picker knows them. One is picked at random for each attempt, or by the
    /// client's address.
    pub endpoints: Vec<Endpoint>,
    /// Whether requests of one client go to one endpoint.
    pub is_sticky: bool,
    /// Set where calls are encrypted.
    pub tls: Option<Tls>,
    /// What a call carries; `None` for upstreams that take anybody.
    pub credential: Option<Credential>,
    /// How much of it may be used; `None` for everything.
    pub quota: Option<Arc<Quota>>,
    /// What its models cost in money; `None` where nobody says.
    pub prices: Option<Arc<Prices>>,
    /// Set where somebody is asked at which endpoint a request is served.
    pub picker: Option<Arc<Picker>>,
}

/// Who says at which endpoint of an InferencePool a request is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picker {
    /// The service that is asked; it is among those that policies ask.
    pub service: Arc<str>,
    /// Whom calls name as who is asked.
    pub authority: HeaderValue,
    /// How it sees bodies.
    pub body: BodyMode,
    /// Whether it may change what it sees.
    pub may_change_modes: bool,
    /// Whether any endpoint will do where it does not answer.
    pub fails_open: bool,
    /// Whom it may pick, where that is known.
    pub subset: Option<Vec<String>>,
    /// What is spoken in clear with those that it picks.
    pub protocol: Protocol,
}

/// A network address of an upstream.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// Host name or IP address, without brackets; with a socket, what it is called.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The path of the Unix socket that is connected to in place of host and port.
    pub socket: Option<Arc<str>>,
    /// The proxy that it is reached through.
    pub proxy: Option<Arc<Proxy>>,
    /// What is spoken in clear; where calls are encrypted, both sides agree on it (ALPN).
    pub protocol: Protocol,
}

impl Endpoint {
    /// Returns what no other endpoint of an upstream has.
    pub fn address(&self) -> String {
        match &self.socket {
            Some(path) => path.to_string(),
            None => format!("{}:{}", self.host, self.port),
        }
    }
}

/// A version of HTTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2.
    Http2,
}

/// A proxy that takes CONNECT.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Proxy {
    /// Host name or IP address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Set where the connection to the proxy itself is encrypted.
    pub tls: Option<Tls>,
    /// Name and password, with a colon between them.
    pub credentials: Option<Secret>,
}

/// An access log that a resource declares.
#[derive(Clone, Debug)]
pub struct DeclaredLog {
    /// What is written, of which requests, and to which files.
    pub log: AccessLog,
    /// Who is told by OTLP.
    pub receivers: Vec<LogReceiver>,
}

/// A receiver of access records by OTLP, called by gRPC.
#[derive(Clone, Debug, PartialEq)]
pub struct LogReceiver {
    /// Where it is.
    pub endpoint: Endpoint,
    /// Set where calls are encrypted.
    pub tls: Option<Tls>,
    /// What calls carry beside the records; values are marked as sensitive.
    pub headers: HeaderMap,
    /// Attributes of the process.
    pub resource: Vec<(String, String)>,
}

/// How calls to an upstream are encrypted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tls {
    /// The name that is sent as SNI, and that the certificate must be for unless `names` says otherwise.
    pub hostname: String,
    /// The authorities that certificates are checked against; `None` for those of the system.
    pub authorities: Option<Authorities>,
    /// Names of which the certificate must be for one, in place of `hostname`.
    pub names: Vec<String>,
    /// What the upstream is shown.
    pub certificate: Option<Certificate>,
    /// Versions of HTTP that are offered, the most wanted first; HTTP/2 and HTTP/1.1 if it is empty.
    pub protocols: Vec<String>,
    /// What is agreed to besides.
    pub terms: Terms,
    /// Whether any certificate will do.
    pub unverified: bool,
}

impl Tls {
    /// Returns encryption for `hostname`, whose certificate one of the system's authorities vouches for.
    pub fn to(hostname: impl Into<String>) -> Self {
        Self {
            hostname: hostname.into(),
            authorities: None,
            names: Vec::new(),
            certificate: None,
            protocols: Vec::new(),
            terms: Terms::default(),
            unverified: false,
        }
    }
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
    /// Whether the rule itself says how long the request may take.
    pub declared: bool,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            request: Some(Duration::from_secs(60)),
            attempt: None,
            stream_idle: None,
            declared: false,
        }
    }
}

impl Snapshot {
    /// Returns the snapshot as JSON: deterministic, and without secrets. Of header and body changes only the
    /// names are shown, because their values may be credentials.
    pub fn dump(&self) -> Value {
        let (mut backends, mut policies) = (BTreeMap::new(), BTreeMap::new());
        let listeners: Map<String, Value> = self
            .listeners
            .iter()
            .map(|(port, listener)| (port.to_string(), listener.dump(&mut backends, &mut policies)))
            .collect();
        let mut dump = json!({ "listeners": listeners, "backends": backends });
        if !policies.is_empty() {
            dump["policies"] = json!(policies);
        }
        dump
    }
}

/// Whether calls are the same: of providers there is one of each id.
impl PartialEq for Backend {
    fn eq(&self, other: &Self) -> bool {
        let Self {
            id,
            provider,
            site,
            endpoints,
            is_sticky,
            tls,
            credential,
            quota,
            prices,
            picker,
        } = self;
        (id, provider.id(), site) == (&other.id, other.provider.id(), &other.site)
            && (endpoints, is_sticky, tls) == (&other.endpoints, &other.is_sticky, &other.tls)
            && (credential, quota, prices, picker)
                == (&other.credential, &other.quota, &other.prices, &other.picker)
    }
}

impl Outside {
    /// Adds what `other` asks.
    pub fn join(&mut self, other: Self) {
        self.services.extend(other.services);
        self.key_sets.extend(other.key_sets);
    }
}

impl Listener {
    /// Returns how connections are taken whose clients asked for `name` in their handshake, if they made one; `None`
    /// where no policy says so.
    pub fn intake(&self, name: Option<&str>) -> Option<&Arc<Intake>> {
        self.intake.as_ref()?.of(name.unwrap_or_default()).next()
    }

    /// Returns how connections are taken, of each listener that a policy is attached to.
    pub fn intakes(&self) -> impl Iterator<Item = &Arc<Intake>> {
        self.intake.iter().flat_map(Hosts::values)
    }

    fn dump(&self, backends: &mut BTreeMap<String, Value>, policies: &mut BTreeMap<String, Value>) -> Value {
        let mut rules = BTreeMap::new();
        let mut routes = Vec::new();
        for (wanted, rule) in self.router.rows() {
            let mut route = json!({ "match": wanted, "rule": rule.treated_id() });
            if let Some(own) = &rule.policies {
                route["policies"] = json!(own.id);
                policies.entry(own.id.to_string()).or_insert_with(|| own.dump());
            }
            routes.push(route);
            for backend in rule
                .candidates
                .iter()
                .filter_map(|candidate| candidate.backend.as_ref().ok())
            {
                backends
                    .entry(backend.id.to_string())
                    .or_insert_with(|| backend.dump());
            }
            rules.entry(rule.treated_id()).or_insert_with(|| rule.dump());
        }
        let mut dump = json!({ "names": self.names, "routes": routes, "rules": rules });
        if !self.mcp.is_empty() {
            let routes = self.mcp.routes();
            let routes: Map<String, Value> =
                routes.map(|route| (route.id.to_string(), route.dump())).collect();
            dump["mcp"] = Value::Object(routes);
        }
        if let Some(tls) = &self.tls {
            let certificates = tls.values().map(|tls| {
                let count = tls.certificates.len();
                (tls.host.to_string(), Value::from(count))
            });
            dump["certificates"] = Value::Object(certificates.collect());
        }
        if let Some(intake) = &self.intake {
            dump["intake"] = intake.values().map(|intake| &*intake.policy).collect();
        }
        if let Some(logs) = &self.access_logs {
            dump["accessLogs"] = logs.iter().map(dump_log).collect();
        }
        dump
    }
}

fn dump_log(declared: &DeclaredLog) -> Value {
    let log = &declared.log;
    let form = match &log.form {
        Form::Own => Value::from("own"),
        Form::Text(_) => Value::from("text"),
        Form::Json(members) => members.iter().map(|(name, _)| name.as_str()).collect(),
    };
    let matches: Vec<String> = log
        .conditions
        .iter()
        .map(|condition| format!("{condition:?}"))
        .collect();
    let receivers = declared.receivers.iter().map(|receiver| {
        let Endpoint { host, port, .. } = &receiver.endpoint;
        format!("{host}:{port}")
    });
    let receivers: Vec<String> = receivers.collect();
    json!({ "matches": matches, "form": form, "files": log.files, "receivers": receivers })
}

impl Rule {
    /// Returns `namespace/route/rule/i`.
    pub fn id(&self) -> String {
        format!("{}/rule/{}", self.route, self.index)
    }

    /// Returns the id, and the policy that tells the rule from itself at another listener.
    fn treated_id(&self) -> String {
        match &self.traffic {
            Some(traffic) => format!("{} under {}", self.id(), traffic.policy),
            None => self.id(),
        }
    }

    fn dump(&self) -> Value {
        let seconds = |limit: Option<Duration>| limit.map(|limit| limit.as_secs_f64());
        let mut dump = json!({
            "name": self.name,
            "timeouts": {
                "request": seconds(self.timeouts.request),
                "attempt": seconds(self.timeouts.attempt),
                "streamIdle": seconds(self.timeouts.stream_idle),
            },
            "candidates": self.candidates.iter().map(Candidate::dump).collect::<Vec<_>>(),
        });
        if let Some(traffic) = &self.traffic {
            dump["traffic"] = treated(traffic);
        }
        if let Some(costs) = &self.costs {
            dump["costs"] = costs.keys().collect();
        }
        if let Some(prices) = &self.prices {
            dump["prices"] = json!(prices.to_string());
        }
        if let Some(words) = self.words {
            dump["words"] = json!(words.names());
        }
        if let Some(limits) = &self.limits {
            dump["limits"] = limits.rules.iter().map(|rule| &*rule.id).collect();
        }
        dump
    }
}

/// Returns how upstreams are treated, as far as a person wants to compare it with what was declared.
fn treated(traffic: &Traffic) -> Value {
    let seconds = |limit: Option<Duration>| limit.map(|limit| limit.as_secs_f64());
    let breaker = &traffic.breaker;
    json!({
        "policy": traffic.policy,
        "balance": traffic.balance.name(),
        "slowStart": seconds(traffic.slow_start),
        "retry": traffic.retry.as_ref().map(|retry| json!({
            "retries": retry.retries,
            "perPriority": retry.per_priority,
            "triggers": retry.triggers.iter().map(|trigger| trigger.name()).collect::<Vec<_>>(),
            "statuses": retry.statuses,
            "timeout": seconds(retry.timeout),
            "backOff": [retry.base.as_secs_f64(), retry.max.as_secs_f64()],
        })),
        "also": { "contextLength": traffic.also.context_length, "contentFilter": traffic.also.content_filter },
        "session": traffic.session.as_ref().map(|session| match &session.carrier {
            Carrier::Cookie { name, .. } => name.as_str(),
            Carrier::Header(name) => name.as_str(),
        }),
        "passive": traffic.passive.map(|passive| json!({
            "serverErrors": passive.server_errors,
            "gatewayErrors": passive.gateway_errors,
            "localFailures": passive.local_failures,
            "baseEjection": passive.base.as_secs_f64(),
            "maxPercent": passive.max_percent,
        })),
        "active": traffic.active.as_ref().map(|active| active.interval.as_secs_f64()),
        "panicThreshold": traffic.panic_threshold,
        "breaker": {
            "connections": breaker.connections,
            "pending": breaker.pending,
            "requests": breaker.requests,
            "retries": breaker.retries,
        },
        "connect": traffic.connections.connect.as_secs_f64(),
        "firstEvent": seconds(traffic.first_event),
        "maxStream": seconds(traffic.max_stream),
        "maxBody": traffic.max_body,
        "trustsOrder": traffic.trusts_order,
        "tellsAttempts": traffic.tells_attempts,
        "losses": match traffic.lossy {
            Lossy::Told => "tell",
            Lossy::Untold => "hide",
            Lossy::Refused => "refuse",
        },
        "modelName": match traffic.naming {
            Naming::Client => "client",
            Naming::Upstream => "upstream",
        },
    })
}

impl Tls {
    fn dump(&self) -> Value {
        let mut dump = json!({ "hostname": self.hostname });
        if let Some(authorities) = &self.authorities {
            dump["authorities"] = json!(authorities.len());
        }
        if !self.names.is_empty() {
            dump["names"] = json!(self.names);
        }
        if self.certificate.is_some() {
            dump["certificate"] = json!(true);
        }
        if !self.protocols.is_empty() {
            dump["protocols"] = json!(self.protocols);
        }
        if self.unverified {
            dump["unverified"] = json!(true);
        }
        if self.terms != Terms::default() {
            let version = |version| match version {
                TlsVersion::Tls12 => "1.2",
                TlsVersion::Tls13 => "1.3",
            };
            dump["versions"] = json!([version(self.terms.oldest), version(self.terms.newest)]);
        }
        dump
    }
}

impl Candidate {
    /// Returns whether a picker names its endpoints.
    pub fn is_picked(&self) -> bool {
        let backend = self.backend.as_ref();
        backend.is_ok_and(|backend| backend.picker.is_some())
    }

    fn dump(&self) -> Value {
        let (backend, error) = match &self.backend {
            Ok(backend) => (Some(&backend.id), None),
            Err(error) => (None, Some(error)),
        };
        let removed: Vec<&str> = self.headers.remove.iter().map(HeaderName::as_str).collect();
        let names = |list: &[(HeaderName, _)]| list.iter().map(|(name, _)| name.to_string()).collect();
        let paths = |list: &[(String, _)]| list.iter().map(|(path, _)| path.clone()).collect();
        let (of_headers, of_body) = (&self.headers, &self.body);
        let lists: [(&str, Vec<String>, Vec<String>); 3] = [
            ("set", names(&of_headers.set), paths(&of_body.set)),
            ("default", names(&of_headers.default), paths(&of_body.default)),
            ("append", names(&of_headers.append), paths(&of_body.append)),
        ];
        let (mut headers, mut body) = (json!({ "remove": removed }), json!({ "remove": of_body.remove }));
        for (member, names, paths) in lists {
            // What files of the reference do not have is shown where there is any.
            if member == "set" || !names.is_empty() {
                headers[member] = names.into();
            }
            if member == "set" || !paths.is_empty() {
                body[member] = paths.into();
            }
        }
        json!({
            "id": self.id,
            "weight": self.weight,
            "priority": self.priority,
            "model": self.model,
            "headers": headers,
            "body": body,
            "backend": backend,
            "error": error,
        })
    }
}

impl Endpoint {
    /// Returns the endpoint at `host` and `port`, which speaks HTTP/1.1 and is called directly.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self {
            host: host.into(),
            port,
            socket: None,
            proxy: None,
            protocol: Protocol::Http1,
        }
    }

    /// Returns the endpoint at the Unix socket `path`.
    pub fn at_socket(path: impl Into<Arc<str>>) -> Self {
        Self {
            socket: Some(path.into()),
            ..Self::new("localhost", 80)
        }
    }

    /// Returns the address as it stands in an authority: IPv6 addresses in brackets.
    pub fn written(&self) -> String {
        match self.host.parse() {
            Ok(address) => SocketAddr::new(address, self.port).to_string(),
            Err(_) => self.address(),
        }
    }

    fn dump(&self) -> Value {
        let mut dump = match &self.socket {
            Some(path) => json!({ "socket": path }),
            None => json!({ "host": self.host, "port": self.port }),
        };
        if let Some(proxy) = &self.proxy {
            let of_proxy = json!({ "host": proxy.host, "port": proxy.port, "tls": proxy.tls.is_some() });
            dump["proxy"] = of_proxy;
        }
        if self.protocol == Protocol::Http2 {
            dump["protocol"] = json!("h2c");
        }
        dump
    }
}

impl Backend {
    fn dump(&self) -> Value {
        let endpoints = self.endpoints.iter();
        let endpoints: Vec<Value> = endpoints.map(Endpoint::dump).collect();
        let mut dump = json!({
            "provider": self.provider.id(),
            "formats": self.provider.formats(Operation::Chat, "").iter().map(|format| format.name()).collect::<Vec<_>>(),
            "prefix": self.site.prefix,
            "version": self.site.version,
            "endpoints": endpoints,
            "tls": self.tls.as_ref().map(|tls| tls.dump()),
            "credential": self.credential.as_ref().map(Credential::dump),
        });
        if !self.site.flags.is_empty() {
            dump["flags"] = json!(self.site.flags.to_string());
        }
        if !self.site.abilities.is_empty() {
            dump["capabilities"] = json!(self.site.abilities.to_string());
        }
        if let Some(quota) = &self.quota {
            dump["quota"] = quota.rules().map(|rule| &*rule.id).collect();
        }
        if let Some(prices) = &self.prices {
            dump["prices"] = json!(prices.to_string());
        }
        if let Some(picker) = &self.picker {
            dump["picker"] = json!({
                "authority": picker.authority.to_str().unwrap_or_default(),
                "body": picker.body.name(),
                "mayChangeModes": picker.may_change_modes,
                "failsOpen": picker.fails_open,
                "subset": picker.subset,
                "h2c": picker.protocol == Protocol::Http2,
            });
        }
        dump
    }
}
