//! What is found out about the resources while they are resolved, and what is said of each in the end.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::{
    Condition, ConditionKind, Key, Origin, Report, Resources, Severity,
    places::Places,
    report::{Entry, ListenerStatus, ParentStatus},
    resources::{Declared, Map},
};

/// What is found out about the resources while they are resolved.
pub(super) struct Notes {
    /// By kind, then by name.
    entries: HashMap<&'static str, HashMap<Key, Noted, RandomState>, RandomState>,
    /// What is said for the time being, where that is to be known.
    heard: Option<Vec<Condition>>,
}

struct Noted {
    order: usize,
    used: bool,
    origin: Origin,
    places: Places,
    conditions: Vec<Condition>,
    listeners: Vec<ListenerStatus>,
    parents: Vec<ParentStatus>,
}

impl Notes {
    pub(super) fn new(resources: &Resources) -> Self {
        let mut notes = Self {
            entries: HashMap::default(),
            heard: None,
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
        notes.add("InferencePool", &resources.inference_pools);
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

    /// Returns what `speak` returns, and all that it says.
    pub(super) fn hear<T>(&mut self, speak: impl FnOnce(&mut Self) -> T) -> (T, Vec<Condition>) {
        self.heard = Some(Vec::new());
        let returned = speak(self);
        (returned, self.heard.take().unwrap_or_default())
    }

    pub(super) fn say(&mut self, kind: &'static str, key: &Key, condition: Condition) {
        if let Some(heard) = &mut self.heard {
            heard.push(condition.clone());
        }
        if let Some(noted) = self.noted(kind, key)
            && !noted.conditions.contains(&condition)
        {
            noted.conditions.push(condition);
        }
    }

    /// The resource itself is not well-formed, or not one that is served.
    pub(super) fn refuse(
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
    pub(super) fn conflicted(
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
    pub(super) fn unresolved(
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
    pub(super) fn unsupported<'f>(
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
    pub(super) fn warn<'f>(
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
    pub(super) fn unattached(
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
    pub(super) fn listener(&mut self, gateway: &Key, status: ListenerStatus) {
        if let Some(noted) = self.noted("Gateway", gateway) {
            noted.listeners.push(status);
        }
    }

    /// A route is attached to a listener.
    pub(super) fn attached(&mut self, gateway: &Key, listener: &str) {
        if let Some(noted) = self.noted("Gateway", gateway)
            && let Some(status) = noted.listeners.iter_mut().find(|status| status.name == listener)
        {
            status.attached_routes += 1;
        }
    }

    /// What is said of a parent of a route.
    pub(super) fn parent(&mut self, kind: &'static str, key: &Key, status: ParentStatus) {
        if let Some(noted) = self.noted(kind, key) {
            noted.parents.push(status);
        }
    }

    /// Something refers to the resource.
    pub(super) fn used(&mut self, kind: &'static str, key: &Key) {
        if let Some(noted) = self.noted(kind, key) {
            noted.used = true;
        }
    }

    /// Returns whether no pass has refused the resource so far.
    pub(super) fn accepts(&self, kind: &'static str, key: &Key) -> bool {
        let noted = self.entries.get(kind).and_then(|entries| entries.get(key));
        noted.is_some_and(|noted| {
            let refused =
                |condition: &Condition| condition.kind == ConditionKind::Accepted && !condition.status;
            !noted.conditions.iter().any(refused)
        })
    }

    pub(super) fn finish(self) -> Report {
        let mut entries = Vec::new();
        for (kind, of_kind) in self.entries {
            entries.extend(
                of_kind
                    .into_iter()
                    .map(|(key, noted)| (noted.order, noted.entry(kind, key))),
            );
        }
        entries.sort_unstable_by_key(|(order, _)| *order);
        Report {
            entries: entries.into_iter().map(|(_, entry)| entry).collect(),
        }
    }
}

impl Noted {
    fn of<S>(declared: &Declared<S>) -> Self {
        Self {
            order: declared.order,
            used: false,
            origin: declared.origin.clone(),
            places: declared.places.clone(),
            conditions: Vec::new(),
            listeners: Vec::new(),
            parents: Vec::new(),
        }
    }

    fn entry(mut self, kind: &'static str, key: Key) -> Entry {
        conclude(&mut self.conditions, self.used);
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
