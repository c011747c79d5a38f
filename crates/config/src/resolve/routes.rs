//! Which rules serve at which listeners, and by which backends.

use std::{collections::BTreeMap, sync::Arc};

use policy::{
    body::Body,
    headers::Headers,
    traffic::{Balance, Traffic, balance::HashKey},
};

use super::{
    End, Notes,
    access::Access,
    attach::{self, Places, attach},
    backends::{Backends, Reach, Service},
    http_routes,
    listeners::Listeners,
    memory::{Compiled, Memory, Sources},
    metering, permitted,
    pools::Pools,
    proxies::Ways,
    spans, target,
    targets::{Routed, Site},
    traffic::{self, Own},
};
use crate::{
    Key, Resources, Router, Snapshot,
    host::Host,
    kind::{
        AIGatewayRoute, Duration, ENVOY, Guard, Metadata,
        ai_gateway_route::{BackendRef, HeaderMatchKind, ParentRef, Rule},
    },
    resources::Declared,
    router::{Entry, HeaderTest, MODEL_HEADER, Match},
    snapshot::{self, Candidate, Timeouts},
};

pub(super) fn resolve(
    reach: &Reach<'_>,
    (loaded, memory): (u64, &mut Memory),
    listeners: Listeners,
    (backends, pools, ways): (&Backends, &Pools, &Ways<'_>),
    access: &mut Access,
    mut traffic: traffic::Policies<'_>,
    notes: &mut Notes,
) -> Snapshot {
    let resources = reach.resources;
    let mut entries: BTreeMap<u16, Vec<Entry>> = BTreeMap::new();
    let mut routes: Vec<_> = resources.ai_gateway_routes.iter().collect();
    routes.sort_by_key(|(_, route)| route.order);
    let guards = Guards::of(resources);
    for (key, route) in routes {
        let places = attach(
            attach::Route {
                kind: KIND,
                key,
                parents: &route.spec.parent_refs,
                hostnames: &route.spec.hostnames,
            },
            &listeners,
            notes,
        );
        if !notes.accepts(KIND, key) {
            continue;
        }
        let sources = sources(reach, key, &route.spec, (backends, pools), notes);
        let compiled = memory.models.route(key, route, sources, |sources| {
            let (rules, said) = notes.hear(|notes| rules(loaded, key, route, sources, notes));
            Compiled {
                rules: rules.into(),
                said: said.into(),
            }
        });
        // What was heard just now is not said twice.
        for condition in compiled.said.iter() {
            notes.say(KIND, key, condition.clone());
        }
        let mut rules = compiled.rules;
        if let Some(reason) = guards.cover(KIND, key, &route.spec.parent_refs) {
            notes.unresolved(KIND, key, "GuardNotServed", None, reason.as_str());
            rules = rules.iter().map(|entry| closed(entry, &reason)).collect();
        }
        // An expression that does not compile is found only now.
        if !notes.accepts(KIND, key) {
            continue;
        }
        let treatment = Treatment {
            kind: KIND,
            traffic: &mut traffic,
            own: &[],
            notes,
        };
        add(&mut entries, places, key, &rules, access, treatment);
    }
    http_routes::resolve(
        reach,
        memory,
        (&listeners, pools, ways),
        access,
        &mut traffic,
        &mut entries,
        notes,
    );
    ports(&listeners, entries)
}

/// How the upstreams of a route are treated.
pub(super) struct Treatment<'a, 'r> {
    pub(super) kind: &'static str,
    pub(super) traffic: &'a mut traffic::Policies<'r>,
    /// What its rules say themselves; empty for an AIGatewayRoute.
    pub(super) own: &'a [Own],
    pub(super) notes: &'a mut Notes,
}

/// Adds the rules of the route `key` to those of the ports where it serves, each with what guards it there and
/// with how its upstreams are treated.
pub(super) fn add(
    entries: &mut BTreeMap<u16, Vec<Entry>>,
    places: Places,
    key: &Key,
    rules: &[Entry],
    access: &mut Access,
    mut treatment: Treatment<'_, '_>,
) {
    let places = places.into_iter().flat_map(|(port, listeners)| {
        let listeners = listeners.into_iter();
        listeners.map(move |(listener, hosts)| (port, listener, hosts))
    });
    for (port, listener, hosts) in places {
        let reached = hosts.values().flatten().next();
        let all: Arc<[Host]> = hosts.keys().cloned().collect();
        let at_port = entries.entry(port).or_default();
        for entry in rules {
            let mut entry = Entry {
                listener: listener.clone(),
                hosts: Arc::clone(&all),
                ..entry.clone()
            };
            if let Some((gateway, listener)) = reached {
                treatment.treat(&mut entry.rule, (gateway, listener), key);
            }
            access.guard(Routed::Route(key), entry, &hosts, at_port);
        }
    }
}

impl Treatment<'_, '_> {
    /// Has the upstreams of a rule of the route `key` treated as is declared where a listener reaches it.
    fn treat(&mut self, rule: &mut Arc<snapshot::Rule>, (gateway, listener): (&Key, &str), key: &Key) {
        let declared = self.traffic.at(Site {
            gateway,
            listener,
            route: Routed::Route(key),
            rule: rule.name.as_deref(),
        });
        let declared = match self.own.get(rule.index) {
            Some(own) => own.over(declared),
            None => declared,
        };
        if let Some(traffic) = declared {
            treat(Arc::make_mut(rule), traffic);
            uncounted(self.kind, key, rule, self.notes);
        }
    }
}

/// Says which costs the limits of a policy charge that are not counted for a rule which it treats.
pub(super) fn uncounted(kind: &'static str, key: &Key, rule: &snapshot::Rule, notes: &mut Notes) {
    let Some(traffic) = &rule.traffic else { return };
    let charged = traffic.limits.iter().flat_map(|limits| limits.costs());
    for cost in charged {
        if rule
            .costs
            .as_ref()
            .is_none_or(|costs| costs.price(cost).is_none())
        {
            let message = format!(
                "{} charges \"{cost}\", which is not counted here: answers count nothing",
                traffic.policy
            );
            let field = (kind == KIND).then_some("spec.llmRequestCosts");
            notes.warn(kind, key, "NoSuchCost", field, message);
        }
    }
}

/// Has the upstreams of a rule treated as a policy says; what the rule itself says goes before.
fn treat(rule: &mut snapshot::Rule, mut traffic: Arc<Traffic>) {
    let timeouts = &mut rule.timeouts;
    if let (false, Some(request)) = (timeouts.declared, traffic.request) {
        timeouts.request = request;
    }
    timeouts.stream_idle = timeouts.stream_idle.or(traffic.stream_idle);
    rule.limits.clone_from(&traffic.limits);
    if traffic.balance == Balance::LeastRequest && is_sticky(rule) {
        Arc::make_mut(&mut traffic).balance = Balance::Consistent(HashKey::Source);
    }
    rule.traffic = Some(traffic);
}

/// Returns whether a backend of a rule wants requests of one client at one endpoint.
fn is_sticky(rule: &snapshot::Rule) -> bool {
    let backends = rule.candidates.iter().flat_map(|candidate| &candidate.backend);
    backends.into_iter().any(|backend| backend.is_sticky)
}

/// Returns what is served at each port.
fn ports(listeners: &Listeners, mut entries: BTreeMap<u16, Vec<Entry>>) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for (gateway, listeners) in listeners {
        for listener in listeners {
            let port = snapshot.listeners.entry(listener.port).or_insert_with(|| {
                let entries = entries.remove(&listener.port).unwrap_or_default();
                snapshot::Listener {
                    router: Router::new(entries),
                    ..snapshot::Listener::default()
                }
            });
            port.names.push(format!("{gateway}/{}", listener.name));
            port.router.listen(&listener.host);
            if let Some(intake) = &listener.intake {
                // Connections in clear name no host before their first request.
                let host = match &listener.tls {
                    Some(_) => &listener.host,
                    None => &Host::Any,
                };
                let all = port.intake.get_or_insert_default();
                all.entry(host, || Arc::clone(intake));
            }
            if let Some(tls) = &listener.tls {
                let all = port.tls.get_or_insert_default();
                let own = all.entry(&listener.host, || Arc::clone(tls));
                if !Arc::ptr_eq(own, tls) {
                    // Listeners of several Gateways that are one to clients show the certificates of all.
                    Arc::make_mut(own).join(tls);
                }
            }
        }
    }
    snapshot
}

/// The policies that restrict access and are not served.
pub(super) struct Guards<'r>(Vec<(&'static str, &'r Key, &'r Guard)>);

impl<'r> Guards<'r> {
    pub(super) fn of(resources: &'r Resources) -> Self {
        let unserved = resources.unserved.iter();
        let guards = unserved
            .filter_map(|((kind, policy), declared)| Some((*kind, policy, (*declared.spec).as_ref()?)));
        Self(guards.collect())
    }

    /// Returns why nobody may use the route: one of them is for it, or for a Gateway of it.
    pub(super) fn cover(&self, route: &'static str, key: &Key, parents: &[ParentRef]) -> Option<String> {
        self.0.iter().find_map(|(kind, policy, guard)| {
            let of_route =
                policy.namespace == key.namespace && guard.covers(&[route, "HTTPRoute"], &key.name);
            let of_parent = |parent: &ParentRef| {
                let parent = target(parent.namespace.as_deref(), &parent.name, &key.namespace);
                policy.namespace == parent.namespace && guard.covers(&["Gateway"], &parent.name)
            };
            (of_route || parents.iter().any(of_parent))
                .then(|| format!("{kind} {policy} guards it and is not served by this version"))
        })
    }
}

/// Returns an entry of which nothing is left that could answer.
fn closed(entry: &Entry, reason: &str) -> Entry {
    let candidates = entry.rule.candidates.iter().map(|candidate| Candidate {
        backend: Err(reason.to_owned()),
        ..candidate.clone()
    });
    let rule = snapshot::Rule {
        candidates: candidates.collect(),
        ..snapshot::Rule::clone(&entry.rule)
    };
    Entry {
        rule: Arc::new(rule),
        ..entry.clone()
    }
}

/// Returns what a route is made of besides its declaration; says of references that they lead nowhere.
fn sources(
    reach: &Reach<'_>,
    key: &Key,
    route: &AIGatewayRoute,
    known: (&Backends, &Pools),
    notes: &mut Notes,
) -> Sources<Service> {
    let mut references = Vec::new();
    for (index, rule) in route.rules.iter().enumerate() {
        for (at, reference) in rule.backend_refs.iter().enumerate() {
            let field = || format!("spec.rules[{index}].backendRefs[{at}]");
            references.push(service(reach, key, &field, reference, known, notes));
        }
    }
    Sources {
        references,
        filters: Vec::new(),
        config: metering::config(reach.resources, key, route).cloned(),
    }
}

/// Compiles the rules of a route.
fn rules(
    loaded: u64,
    key: &Key,
    route: &Declared<AIGatewayRoute>,
    sources: &Sources<Service>,
    notes: &mut Notes,
) -> Vec<Entry> {
    let config = sources.config.as_ref();
    let costs = metering::costs(config.map(|config| &*config.spec), key, &route.spec, notes);
    let prices = metering::prices(config);
    let words = spans::words(KIND, key, &route.metadata, notes);
    let mut services = sources.references.iter();
    let created = route.metadata.creation_timestamp;
    let annotations = annotations(&route.metadata);
    let (id, owner) = (Arc::<str>::from(key.to_string()), Arc::from(OWNER));
    let rules = route.spec.rules.iter().enumerate();
    rules
        .map(|(index, rule)| {
            let references = rule.backend_refs.iter().zip(&mut services).enumerate();
            let candidates: Arc<[Candidate]> = references
                .map(|(at, (reference, service))| candidate(key, (index, at), reference, service, notes))
                .collect();
            if candidates.iter().all(|candidate| candidate.weight == 0) {
                let field = format!("spec.rules[{index}].backendRefs");
                let message = "no backend can serve the rule: its requests are refused";
                notes.warn(KIND, key, "NoBackend", field.as_str(), message);
            }
            Entry {
                rule: Arc::new(snapshot::Rule {
                    route: Arc::clone(&id),
                    index,
                    name: rule.name.clone(),
                    annotations: annotations.clone(),
                    candidates,
                    timeouts: timeouts(rule),
                    policies: None,
                    plain: None,
                    traffic: None,
                    costs: costs.clone(),
                    prices: prices.clone(),
                    words,
                    limits: None,
                }),
                listener: Host::Any,
                hosts: Arc::default(),
                created,
                matches: matches(key, index, rule, notes).into(),
                owned_by: match &rule.models_owned_by {
                    Some(own) => Arc::from(own.as_str()),
                    None => Arc::clone(&owner),
                },
                models_created: rule
                    .models_created_at
                    .or(created)
                    .map_or(loaded, |time| time.seconds()),
            }
        })
        .collect()
}

/// Returns the annotations that services may be told of.
pub(super) fn annotations(metadata: &Metadata) -> Option<Arc<BTreeMap<String, String>>> {
    let told = metadata.annotations.iter().filter_map(|(name, value)| {
        let name = name.strip_prefix(ENVOY)?.strip_prefix('/')?;
        Some((name.to_owned(), value.clone()))
    });
    let told: BTreeMap<String, String> = told.collect();
    (!told.is_empty()).then(|| Arc::new(told))
}

fn matches(key: &Key, index: usize, rule: &Rule, notes: &mut Notes) -> Vec<Arc<Match>> {
    let mut matches = Vec::with_capacity(rule.matches.len());
    for (at, written) in rule.matches.iter().enumerate() {
        let mut tests = Vec::with_capacity(written.headers.len());
        for (place, header) in written.headers.iter().enumerate() {
            let field = || format!("spec.rules[{index}].matches[{at}].headers[{place}]");
            let name = header.name.as_str();
            let reserved = name.get(..RESERVED.len());
            let reserved = reserved.is_some_and(|start| start.eq_ignore_ascii_case(RESERVED));
            if reserved && !name.eq_ignore_ascii_case(MODEL_HEADER) {
                let message = "clients cannot send this header, so the match never holds";
                notes.warn(KIND, key, "ReservedHeader", field().as_str(), message);
            }
            let kind = header.kind.unwrap_or(HeaderMatchKind::Exact);
            match HeaderTest::new(&header.name, &header.value, kind) {
                Ok(test) => tests.push(test),
                Err(message) => notes.refuse(KIND, key, "Invalid", field(), message),
            }
        }
        matches.push(Arc::new(Match::from(tests)));
    }
    matches
}

fn timeouts(rule: &Rule) -> Timeouts {
    let written = rule.timeouts.unwrap_or_default();
    Timeouts {
        request: match written.request {
            Some(duration) => duration.limit(),
            None => Timeouts::default().request,
        },
        attempt: written.backend_request.and_then(Duration::limit),
        stream_idle: rule.stream_idle_timeout.and_then(Duration::limit),
        declared: written.request.is_some(),
    }
}

fn candidate(
    key: &Key,
    (rule, at): (usize, usize),
    reference: &BackendRef,
    service: &Result<Arc<Service>, String>,
    notes: &mut Notes,
) -> Candidate {
    let field = || format!("spec.rules[{rule}].backendRefs[{at}]");
    let headers = own_headers(key, &field, reference, notes);
    let body = reference.body_mutation.as_ref().map(Body::parse);
    let body = body.and_then(Result::ok).unwrap_or_default();
    let (backend, headers, body) = match service {
        Ok(service) => {
            let backend = service.backend.clone();
            (
                backend,
                service.headers.overlaid(&headers),
                service.body.overlaid(&body),
            )
        }
        Err(message) => (Err(message.clone()), headers, body),
    };
    Candidate {
        // The route's namespace, even where the backend lies in another: the reference is what is named.
        id: Arc::from(format!(
            "{}/{}/route/{}/rule/{rule}/ref/{at}",
            key.namespace, reference.name, key.name
        )),
        weight: reference.weight.unwrap_or(1),
        priority: reference.priority.unwrap_or(0),
        model: reference
            .model_name_override
            .clone()
            .filter(|model| !model.is_empty()),
        headers,
        body,
        backend,
    }
}

/// Returns what the reference leads to; says so if it leads nowhere.
fn service(
    reach: &Reach<'_>,
    key: &Key,
    field: &dyn Fn() -> String,
    reference: &BackendRef,
    (backends, pools): (&Backends, &Pools),
    notes: &mut Notes,
) -> Result<Arc<Service>, String> {
    let to = target(reference.namespace.as_deref(), &reference.name, &key.namespace);
    // No other kind is well-formed.
    if reference.kind.is_some() {
        let reached = pools.reached(reach, End::route(key), &to, notes);
        return reached.map_err(|(reason, message)| {
            notes.unresolved(KIND, key, reason, field(), &message);
            message
        });
    }
    let Some(service) = backends.get(&to) else {
        let message = format!("AIServiceBackend {to} not found");
        notes.unresolved(KIND, key, "BackendNotFound", field(), &message);
        return Err(message);
    };
    if !permitted(reach.resources, End::route(key), End::service(&to), notes) {
        let message = format!(
            "cross-namespace reference to AIServiceBackend {to} not permitted: no valid ReferenceGrant"
        );
        notes.unresolved(KIND, key, "RefNotPermitted", field(), &message);
        return Err(message);
    }
    notes.used("AIServiceBackend", &to);
    if let Err(message) = &service.backend {
        notes.unresolved(KIND, key, "BackendNotUsable", field(), message);
    }
    Ok(Arc::clone(service))
}

/// Returns the reference's own header changes, which were validated.
fn own_headers(key: &Key, field: &dyn Fn() -> String, reference: &BackendRef, notes: &mut Notes) -> Headers {
    let Some(Ok((headers, reserved))) = reference.header_mutation.as_ref().map(Headers::parse) else {
        return Headers::default();
    };
    for name in reserved {
        let field = format!("{}.headerMutation", field());
        let message = format!("\"{name}\" belongs to the gateway and is left alone");
        notes.warn(KIND, key, "ReservedHeader", field.as_str(), message);
    }
    headers
}

const KIND: &str = "AIGatewayRoute";

/// What the names of headers begin with that clients cannot send.
const RESERVED: &str = "x-ai-eg-";

/// Who owns models of which nothing else is said.
const OWNER: &str = "Envoy AI Gateway";
