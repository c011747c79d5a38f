//! Declared to resolved: the passes, in order.
//!
//! 1. `validate`: is each resource well-formed in itself?
//! 2. `listeners`: which ports are served? `intake`: how are clients taken there?
//! 3. `policies`: which credential and which encryption does each backend have?
//! 4. `backends`: which backends can be called, and how?
//! 5. `proxies`: which of them are reached through a proxy?
//! 6. `access`, `traffic`: which policies guard what, and how are upstreams treated?
//! 7. `mcp`: which MCP servers stand behind which paths?
//! 8. `routes`: which rules serve at which listeners, and by which backends? `http_routes` adds those of plain
//!    requests.
//!
//! Each pass says what it finds to one `Notes`, and takes only what the passes before it accepted. What is
//! broken fails closed: a backend whose credential or encryption is not as declared is not called at all.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    Condition, ConditionKind, Key, Origin, Report, Resources, Severity, Snapshot,
    kind::{AI, ENVOY, GATEWAY_API, KindInfo},
    places::Places,
    report::{Entry, ListenerStatus, ParentStatus},
    resources::{Declared, Map},
    router::McpRouter,
};

mod access;
mod access_logs;
mod attach;
mod backends;
mod certificates;
mod credential;
mod filters;
pub mod holding;
mod http_routes;
mod intake;
mod listeners;
mod log_receivers;
mod mcp;
mod metering;
mod parameters;
mod policies;
mod proxies;
mod routes;
mod schemas;
mod services;
mod targets;
mod traffic;
mod validate;

use backends::Reach;
use services::Services;

pub use schemas::{PROVIDER, schema_of};

/// Resolves everything that was declared. `loaded`, in seconds since the Unix epoch, is the age of models of
/// which nothing is said; it should stay the same as long as the process lives.
///
/// Total: what is broken fails closed and is reported; the rest is served.
pub fn resolve(resources: &Resources, loaded: u64) -> (Snapshot, Report) {
    let mut notes = Notes::new(resources);
    unserved(resources, &mut notes);
    validate::check(resources, &mut notes);
    metering::check(resources, &mut notes);
    let mut listeners = listeners::resolve(resources, &mut notes);
    intake::resolve(resources, &mut listeners, &mut notes);
    let policies = policies::resolve(resources, &mut notes);
    let reach = Reach {
        resources,
        services: Services::new(resources),
        policies: &policies,
    };
    let mut backends = backends::resolve(&reach, &mut notes);
    let ways = proxies::of_gateways(resources, &mut notes);
    proxies::resolve(resources, &ways, &mut backends, &mut notes);
    let mut access = access::resolve(&reach, &mut notes);
    let mut logs = access_logs::resolve(&reach, &listeners, &mut notes);
    let traffic = traffic::resolve(resources, &mut notes);
    let tools = mcp::resolve(&reach, &listeners, &mut access, &mut notes);
    let mut snapshot = routes::resolve(
        &reach,
        loaded,
        listeners,
        (&backends, &ways),
        &mut access,
        traffic,
        &mut notes,
    );
    for (port, rows) in tools {
        snapshot.listeners.entry(port).or_default().mcp = McpRouter::new(rows);
    }
    snapshot.outside = access.finish(&mut notes);
    for (port, listener) in &mut snapshot.listeners {
        listener.access_logs = logs.remove(port);
    }
    (snapshot, notes.finish())
}

fn unserved(resources: &Resources, notes: &mut Notes) {
    for (kind, key) in resources.unserved.keys() {
        let info = KindInfo::find(kind);
        let (severity, effect) = if info.is_some_and(|info| info.guards) {
            (Severity::Error, "what it guards is refused")
        } else if info.is_some_and(|info| matches!(info.group, "" | "apps")) {
            (Severity::Note, "it has no effect")
        } else {
            (Severity::Warning, "it has no effect")
        };
        let message = format!("{kind} is not served by this version: {effect}");
        notes.unsupported(kind, key, severity, None, message);
    }
}

/// What is found out about the resources while they are resolved.
struct Notes {
    /// By kind, then by name.
    entries: BTreeMap<&'static str, BTreeMap<Key, Noted>>,
    used: BTreeMap<&'static str, BTreeSet<Key>>,
}

struct Noted {
    order: usize,
    origin: Origin,
    places: Places,
    conditions: Vec<Condition>,
    listeners: Vec<ListenerStatus>,
    parents: Vec<ParentStatus>,
}

impl Notes {
    fn new(resources: &Resources) -> Self {
        let mut notes = Self {
            entries: BTreeMap::new(),
            used: BTreeMap::new(),
        };
        notes.add("GatewayClass", &resources.gateway_classes);
        notes.add("Gateway", &resources.gateways);
        notes.add("AIGatewayRoute", &resources.ai_gateway_routes);
        notes.add("AIServiceBackend", &resources.ai_service_backends);
        notes.add("BackendSecurityPolicy", &resources.backend_security_policies);
        notes.add("Backend", &resources.backends);
        notes.add("BackendTLSPolicy", &resources.backend_tls_policies);
        notes.add("MCPRoute", &resources.mcp_routes);
        notes.add("GatewayConfig", &resources.gateway_configs);
        notes.add("BackendTrafficPolicy", &resources.backend_traffic_policies);
        notes.add("ClientTrafficPolicy", &resources.client_traffic_policies);
        notes.add("QuotaPolicy", &resources.quota_policies);
        notes.add("Secret", &resources.secrets);
        notes.add("ReferenceGrant", &resources.reference_grants);
        notes.add("EnvoyProxy", &resources.envoy_proxies);
        notes.add("Namespace", &resources.namespaces);
        notes.add("SecurityPolicy", &resources.security_policies);
        notes.add("HTTPRoute", &resources.http_routes);
        notes.add("HTTPRouteFilter", &resources.http_route_filters);
        notes.add("Service", &resources.services);
        notes.add("EndpointSlice", &resources.endpoint_slices);
        notes.add("ConfigMap", &resources.config_maps);
        for ((kind, key), declared) in &resources.unserved {
            let entries = notes.entries.entry(kind).or_default();
            entries.insert(key.clone(), Noted::of(declared));
            notes.used(kind, key);
        }
        notes
    }

    fn add<S>(&mut self, kind: &'static str, map: &Map<S>) {
        let entries = self.entries.entry(kind).or_default();
        entries.extend(
            map.iter()
                .map(|(key, declared)| (key.clone(), Noted::of(declared))),
        );
    }

    fn noted(&mut self, kind: &'static str, key: &Key) -> Option<&mut Noted> {
        self.entries.get_mut(kind)?.get_mut(key)
    }

    fn say(&mut self, kind: &'static str, key: &Key, condition: Condition) {
        if let Some(noted) = self.noted(kind, key)
            && !noted.conditions.contains(&condition)
        {
            noted.conditions.push(condition);
        }
    }

    /// The resource itself is not well-formed, or not one that is served.
    fn refuse(
        &mut self,
        kind: &'static str,
        key: &Key,
        reason: &'static str,
        field: impl Into<Option<String>>,
        message: impl Into<String>,
    ) {
        let condition = Condition {
            kind: ConditionKind::Accepted,
            status: false,
            reason,
            message: message.into(),
            field: field.into(),
            at: None,
            severity: Severity::Error,
        };
        self.say(kind, key, condition);
    }

    /// A part of the resource is not served, because another claims the same.
    fn conflicted(
        &mut self,
        kind: &'static str,
        key: &Key,
        reason: &'static str,
        field: String,
        message: impl Into<String>,
    ) {
        let condition = Condition {
            kind: ConditionKind::Conflicted,
            status: true,
            reason,
            message: message.into(),
            field: Some(field),
            at: None,
            severity: Severity::Error,
        };
        self.say(kind, key, condition);
    }

    /// Something that the resource refers to cannot be used.
    fn unresolved(
        &mut self,
        kind: &'static str,
        key: &Key,
        reason: &'static str,
        field: impl Into<Option<String>>,
        message: impl Into<String>,
    ) {
        let condition = Condition {
            kind: ConditionKind::ResolvedRefs,
            status: false,
            reason,
            message: message.into(),
            field: field.into(),
            at: None,
            severity: Severity::Error,
        };
        self.say(kind, key, condition);
    }

    /// Something in the resource is understood and not served.
    fn unsupported<'f>(
        &mut self,
        kind: &'static str,
        key: &Key,
        severity: Severity,
        field: impl Into<Option<&'f str>>,
        message: impl Into<String>,
    ) {
        let condition = Condition {
            kind: ConditionKind::NotSupportedYet,
            status: true,
            reason: "NotSupportedYet",
            message: message.into(),
            field: field.into().map(str::to_owned),
            at: None,
            severity,
        };
        self.say(kind, key, condition);
    }

    /// Something that is served, but perhaps not as meant.
    fn warn<'f>(
        &mut self,
        kind: &'static str,
        key: &Key,
        reason: &'static str,
        field: impl Into<Option<&'f str>>,
        message: impl Into<String>,
    ) {
        let condition = Condition {
            kind: ConditionKind::Accepted,
            status: true,
            reason,
            message: message.into(),
            field: field.into().map(str::to_owned),
            at: None,
            severity: Severity::Warning,
        };
        self.say(kind, key, condition);
    }

    /// The resource does not reach what it is for.
    fn unattached(
        &mut self,
        kind: &'static str,
        key: &Key,
        severity: Severity,
        field: impl Into<Option<String>>,
        message: impl Into<String>,
    ) {
        let condition = Condition {
            kind: ConditionKind::Attached,
            status: false,
            reason: "NotAttached",
            message: message.into(),
            field: field.into(),
            at: None,
            severity,
        };
        self.say(kind, key, condition);
    }

    /// What is said of a listener of a Gateway.
    fn listener(&mut self, gateway: &Key, status: ListenerStatus) {
        if let Some(noted) = self.noted("Gateway", gateway) {
            noted.listeners.push(status);
        }
    }

    /// A route is attached to a listener.
    fn attached(&mut self, gateway: &Key, listener: &str) {
        if let Some(noted) = self.noted("Gateway", gateway)
            && let Some(status) = noted.listeners.iter_mut().find(|status| status.name == listener)
        {
            status.attached_routes += 1;
        }
    }

    /// What is said of a parent of a route.
    fn parent(&mut self, kind: &'static str, key: &Key, status: ParentStatus) {
        if let Some(noted) = self.noted(kind, key) {
            noted.parents.push(status);
        }
    }

    /// Something refers to the resource.
    fn used(&mut self, kind: &'static str, key: &Key) {
        let used = self.used.entry(kind).or_default();
        if !used.contains(key) {
            used.insert(key.clone());
        }
    }

    /// Returns whether no pass has refused the resource so far.
    fn accepts(&self, kind: &'static str, key: &Key) -> bool {
        let noted = self.entries.get(kind).and_then(|entries| entries.get(key));
        noted.is_some_and(|noted| {
            let refused =
                |condition: &Condition| condition.kind == ConditionKind::Accepted && !condition.status;
            !noted.conditions.iter().any(refused)
        })
    }

    fn finish(self) -> Report {
        let mut entries = Vec::new();
        for (kind, of_kind) in self.entries {
            let used = self.used.get(kind);
            for (key, noted) in of_kind {
                let used = used.is_some_and(|used| used.contains(&key));
                entries.push((noted.order, noted.entry(kind, key, used)));
            }
        }
        entries.sort_by_key(|(order, _)| *order);
        Report {
            entries: entries.into_iter().map(|(_, entry)| entry).collect(),
        }
    }
}

impl Noted {
    fn of<S>(declared: &Declared<S>) -> Self {
        Self {
            order: declared.order,
            origin: declared.origin.clone(),
            places: declared.places.clone(),
            conditions: Vec::new(),
            listeners: Vec::new(),
            parents: Vec::new(),
        }
    }

    fn entry(mut self, kind: &'static str, key: Key, used: bool) -> Entry {
        conclude(&mut self.conditions, used);
        for condition in &mut self.conditions {
            let field = condition.field.as_deref();
            condition.at = field.and_then(|field| self.places.find(field));
        }
        Entry {
            kind: kind.to_owned(),
            key,
            origin: self.origin,
            conditions: self.conditions,
            listeners: self.listeners,
            parents: self.parents,
        }
    }
}

/// Says of a resource what nobody objected to, and puts the conditions in order.
fn conclude(conditions: &mut Vec<Condition>, used: bool) {
    let says = |conditions: &[Condition], kind| conditions.iter().any(|condition| condition.kind == kind);
    if !says(conditions, ConditionKind::Accepted) {
        conditions.push(Condition {
            kind: ConditionKind::Accepted,
            status: true,
            reason: "Accepted",
            message: "well-formed".to_owned(),
            field: None,
            at: None,
            severity: Severity::Note,
        });
    }
    if !used && !says(conditions, ConditionKind::Attached) {
        conditions.push(Condition {
            kind: ConditionKind::Attached,
            status: false,
            reason: "NotUsed",
            message: "nothing refers to it".to_owned(),
            field: None,
            at: None,
            severity: Severity::Note,
        });
    }
    conditions.sort_by_key(|condition| condition.kind);
}

/// One end of a reference across namespaces.
#[derive(Clone, Copy, Debug)]
struct End<'a> {
    group: &'a str,
    kind: &'a str,
    key: &'a Key,
}

impl<'a> End<'a> {
    fn route(key: &'a Key) -> Self {
        Self {
            group: AI,
            kind: "AIGatewayRoute",
            key,
        }
    }

    fn service(key: &'a Key) -> Self {
        Self {
            group: AI,
            kind: "AIServiceBackend",
            key,
        }
    }

    fn policy(key: &'a Key) -> Self {
        Self {
            group: AI,
            kind: "BackendSecurityPolicy",
            key,
        }
    }

    fn backend(key: &'a Key) -> Self {
        Self {
            group: ENVOY,
            kind: "Backend",
            key,
        }
    }

    fn gateway(key: &'a Key) -> Self {
        Self {
            group: GATEWAY_API,
            kind: "Gateway",
            key,
        }
    }

    fn proxy(key: &'a Key) -> Self {
        Self {
            group: ENVOY,
            kind: "EnvoyProxy",
            key,
        }
    }

    fn secret(key: &'a Key) -> Self {
        Self {
            group: "",
            kind: "Secret",
            key,
        }
    }

    fn cluster_service(key: &'a Key) -> Self {
        Self {
            group: "",
            kind: "Service",
            key,
        }
    }

    fn filter(key: &'a Key) -> Self {
        Self {
            group: ENVOY,
            kind: "HTTPRouteFilter",
            key,
        }
    }

    /// The route that the Gateway API knows in place of an AIGatewayRoute: older grants name it.
    fn http_route(key: &'a Key) -> Self {
        Self {
            group: GATEWAY_API,
            kind: "HTTPRoute",
            key,
        }
    }
}

/// Returns whether `from` may refer to `to`: they share a namespace, or a ReferenceGrant beside `to` allows it.
fn permitted(resources: &Resources, from: End<'_>, to: End<'_>, notes: &mut Notes) -> bool {
    if from.key.namespace == to.key.namespace {
        return true;
    }
    let beside = Key::new(&to.key.namespace, "")..;
    let grants = resources.reference_grants.range(beside);
    let mut grants = grants.take_while(|(key, _)| key.namespace == to.key.namespace);
    let grant = grants.find(|(_, grant)| {
        grant.spec.from.iter().any(|granted| {
            granted.group == from.group
                && granted.kind == from.kind
                && granted.namespace == from.key.namespace
        }) && grant.spec.to.iter().any(|granted| {
            let name = granted.name.as_deref().filter(|name| !name.is_empty());
            granted.group == to.group
                && granted.kind == to.kind
                && name.is_none_or(|name| name == to.key.name)
        })
    });
    if let Some((key, _)) = grant {
        notes.used("ReferenceGrant", key);
    }
    grant.is_some()
}

/// Returns the key of what `name` and `namespace` refer to from the namespace `home`.
fn target(namespace: Option<&str>, name: &str, home: &str) -> Key {
    let namespace = namespace.filter(|namespace| !namespace.is_empty());
    Key::new(namespace.unwrap_or(home), name)
}
