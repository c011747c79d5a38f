//! HTTPRoutes: what they match, and who serves it.

use std::{collections::BTreeMap, sync::Arc};

use llm::{Site, provider};
use policy::{body::Body, headers::Headers};

use super::{
    End, Notes,
    access::Access,
    attach::{self, attach},
    backends::{Place, Reach, Trouble},
    filters::{self, Scope},
    listeners::Listeners,
    memory::{Compiled, Memory, Sources},
    pools::Pools,
    proxies::{Way, Ways},
    routes::{Guards, Treatment, add, annotations},
    target,
    traffic::{self, Own},
};
use crate::{
    Key, Resources, Severity,
    host::Host,
    kind::{
        Duration, ENVOY, HTTPRoute, HTTPRouteFilter, INFERENCE,
        ai_gateway_route::HeaderMatchKind,
        http_route::{self, BackendRef, FilterKind, Match, Method, PathMatchKind, Rule},
        reference::BackendObjectRef,
    },
    plain::{Answer, Edits, Mirror, Plain},
    resources::Declared,
    router::{self, Entry, HeaderTest, PathTest, QueryTest},
    snapshot::{self, Backend, Candidate, Timeouts},
};

/// Adds the rules of every HTTPRoute to `entries`, by port.
pub(super) fn resolve(
    reach: &Reach<'_>,
    memory: &mut Memory,
    (listeners, pools, ways): (&Listeners, &Pools, &Ways<'_>),
    access: &mut Access,
    traffic: &mut traffic::Policies<'_>,
    entries: &mut BTreeMap<u16, Vec<Entry>>,
    notes: &mut Notes,
) {
    let resources = reach.resources;
    let mut routes: Vec<_> = resources.http_routes.iter().collect();
    routes.sort_by_key(|(_, route)| route.order);
    let mut known = BTreeMap::new();
    let guards = Guards::of(resources);
    for (key, route) in routes {
        let places = attach(
            attach::Route {
                kind: KIND,
                key,
                parents: &route.spec.parent_refs,
                hostnames: &route.spec.hostnames,
            },
            listeners,
            notes,
        );
        if route.spec.use_default_gateways.is_some() {
            let message = "there are no default Gateways: the route is attached to the parents that it names";
            let field = "spec.useDefaultGateways";
            notes.unsupported(KIND, key, Severity::Warning, field, message);
        }
        if !notes.accepts(KIND, key) {
            continue;
        }
        let mut resolving = Resolving {
            reach,
            pools,
            key,
            way: ways.of(&route.spec.parent_refs, key),
            known: &mut known,
            memory,
            notes,
        };
        let sources = resolving.sources(route);
        let mut compile = |sources: &Sources<Backend>| {
            let (rules, said) = notes.hear(|notes| rules(reach.resources, key, route, sources, notes));
            Compiled {
                rules: rules.into(),
                said: said.into(),
            }
        };
        let mut extensions = route
            .spec
            .rules
            .iter()
            .flat_map(|rule| extensions(resources, key, rule));
        let compiled = match extensions.any(|(_, filter)| filter.is_some_and(leads_on)) {
            // What such a filter means lies elsewhere.
            true => compile(&sources),
            false => memory.plain.route(key, route, sources, compile),
        };
        // What was heard just now is not said twice.
        for condition in compiled.said.iter() {
            notes.say(KIND, key, condition.clone());
        }
        let mut rules = compiled.rules.to_vec();
        for (at, (entry, rule)) in rules.iter_mut().zip(&route.spec.rules).enumerate() {
            if let Some(policies) = access.of_rule(reach, key, (at, rule), notes) {
                Arc::make_mut(&mut entry.rule).policies = Some(policies);
            }
        }
        if let Some(reason) = guards.cover(KIND, key, &route.spec.parent_refs) {
            notes.unresolved(KIND, key, "GuardNotServed", None, reason.as_str());
            for entry in &mut rules {
                Arc::make_mut(&mut entry.rule).plain = Some(Arc::new(broken(reason.clone())));
            }
        }
        // An expression that does not compile is found only now.
        if notes.accepts(KIND, key) {
            let own = route.spec.rules.iter().enumerate();
            let own: Vec<Own> = own.map(|(index, rule)| Own::of(key, index, rule)).collect();
            let treatment = Treatment {
                kind: KIND,
                traffic,
                own: &own,
                notes,
            };
            add(entries, places, key, &rules, access, treatment);
        }
    }
}

/// Backends, by the Gateway that says how they are called, and by their ids.
type Known<'a> = BTreeMap<(Option<&'a Key>, String), Result<Arc<Backend>, Trouble>>;

/// One route on its way.
struct Resolving<'a, 'r> {
    reach: &'a Reach<'a>,
    pools: &'a Pools,
    key: &'a Key,
    /// How the backends of its Gateway are called, and which Gateway that is.
    way: Option<(&'r Key, &'r Way)>,
    /// What places were found to be that other references led to, by that Gateway.
    known: &'a mut Known<'r>,
    memory: &'a mut Memory,
    notes: &'a mut Notes,
}

impl Resolving<'_, '_> {
    /// Returns what the references of a route lead to: of each rule those of its filters first.
    fn sources(&mut self, route: &Declared<HTTPRoute>) -> Sources<Backend> {
        let mut sources = Sources::none();
        for (index, rule) in route.spec.rules.iter().enumerate() {
            for (named, filter) in extensions(self.reach.resources, self.key, rule) {
                self.notes.used(filters::FILTER, &named);
                sources
                    .filters
                    .push(filter.map(|filter| Arc::clone(&filter.spec)));
            }
            for (at, written) in mirrored(rule) {
                let field = format!("spec.rules[{index}].filters[{at}].requestMirror.backendRef");
                let backend = self.backend(&field, &written.backend_ref);
                sources.references.push(backend);
            }
            for (at, reference) in rule.backend_refs.iter().enumerate() {
                let field = format!("spec.rules[{index}].backendRefs[{at}]");
                let backend = match is_pool(reference) {
                    true => self.pool(&field, reference),
                    false => self.backend(&field, &reference.target()),
                };
                sources.references.push(backend);
            }
        }
        sources
    }

    /// Returns the pool that a reference leads to; says so if it leads nowhere. Its port has no meaning there.
    fn pool(&mut self, field: &str, reference: &BackendRef) -> Result<Arc<Backend>, String> {
        let to = target(
            reference.namespace.as_deref(),
            &reference.name,
            &self.key.namespace,
        );
        let from = End::http_route(self.key);
        let reached = self.pools.reached(self.reach, from, &to, self.notes);
        let reached = reached.and_then(|service| {
            let backend = service.backend.clone();
            backend.map_err(|message| ("BackendNotUsable", message))
        });
        reached.map_err(|(reason, message)| {
            self.notes
                .unresolved(KIND, self.key, reason, field.to_owned(), &message);
            message
        })
    }

    /// Returns what a reference leads to; says so if it leads nowhere.
    fn backend(&mut self, field: &str, reference: &BackendObjectRef) -> Result<Arc<Backend>, String> {
        let reached = self.reached(reference);
        reached.map_err(|(reason, message)| {
            self.notes
                .unresolved(KIND, self.key, reason, field.to_owned(), &message);
            message
        })
    }

    fn reached(&mut self, reference: &BackendObjectRef) -> Result<Arc<Backend>, Trouble> {
        let place = Place::of(reference, &self.key.namespace)?;
        self.reach
            .permit(&[End::http_route(self.key)], &place, self.notes)?;
        let id = place.id();
        let known = (self.way.map(|(gateway, _)| gateway), id.clone());
        if let Some(known) = self.known.get(&known) {
            return known.clone();
        }
        let found = self.reach.endpoints(&place, self.notes);
        let found = found.and_then(|(endpoints, mut tls)| {
            let own = tls.clone();
            if let Some((_, way)) = self.way {
                way.encrypt(&mut tls).map_err(|message| ("InvalidTLS", message))?;
            }
            // What one Gateway shows a backend is not what another does.
            let id = match self.way {
                Some((gateway, _)) if tls != own => format!("{id} by {gateway}"),
                Some(_) | None => id,
            };
            let backend = Backend {
                id: Arc::from(id.as_str()),
                provider: &provider::Plain,
                site: Site::default(),
                endpoints,
                is_sticky: self.reach.is_sticky(&place),
                tls,
                credential: None,
                quota: None,
                prices: None,
                picker: None,
            };
            Ok(self.memory.backend(known.0, &id, backend))
        });
        self.known.insert(known, found.clone());
        found
    }
}

/// Compiles the rules of a route.
fn rules(
    resources: &Resources,
    key: &Key,
    route: &Declared<HTTPRoute>,
    sources: &Sources<Backend>,
    notes: &mut Notes,
) -> Vec<Entry> {
    let mut reached = sources.references.iter();
    let mut compiling = Compiling {
        resources,
        key,
        annotations: annotations(&route.metadata),
        notes,
    };
    let rules = route.spec.rules.iter().enumerate();
    rules
        .map(|(index, rule)| Entry {
            rule: Arc::new(compiling.rule(index, rule, &mut reached)),
            listener: Host::Any,
            hosts: Arc::default(),
            created: route.metadata.creation_timestamp,
            matches: compiling.matches(index, rule).into(),
            owned_by: Arc::default(),
            models_created: 0,
        })
        .collect()
}

/// Returns the HTTPRouteFilters that a rule names, as far as they are there.
fn extensions<'r>(
    resources: &'r Resources,
    key: &'r Key,
    rule: &'r Rule,
) -> impl Iterator<Item = (Key, Option<&'r Declared<HTTPRouteFilter>>)> {
    let named = rule
        .filters
        .iter()
        .filter_map(|filter| filter.extension_ref.as_ref());
    let known = named.filter(|named| (named.group.as_str(), named.kind.as_str()) == (ENVOY, filters::FILTER));
    known.map(|named| {
        let key = Key::new(&key.namespace, &named.name);
        let filter = resources.http_route_filters.get(&key);
        (key, filter)
    })
}

/// Returns whether a filter says more than stands in it: what that is lies elsewhere again, or is told of the filter.
fn leads_on(filter: &Declared<HTTPRouteFilter>) -> bool {
    let HTTPRouteFilter {
        url_rewrite: _,
        direct_response,
        credential_injection,
        matches,
    } = &*filter.spec;
    let body = direct_response.as_ref().and_then(|direct| direct.body.as_ref());
    credential_injection.is_some() || matches.is_some() || body.is_some_and(|body| body.value_ref.is_some())
}

/// Returns whether a reference is to a pool.
fn is_pool(reference: &BackendRef) -> bool {
    reference.group.as_deref() == Some(INFERENCE) && reference.kind.as_deref() == Some("InferencePool")
}

/// Returns whom a rule is mirrored to, with the places of the filters.
fn mirrored(rule: &Rule) -> impl Iterator<Item = (usize, &http_route::Mirror)> {
    let filters = rule.filters.iter().enumerate();
    filters.filter_map(|(at, filter)| Some((at, filter.request_mirror.as_ref()?)))
}

/// A route whose references are known.
struct Compiling<'a> {
    resources: &'a Resources,
    key: &'a Key,
    annotations: Option<Arc<BTreeMap<String, String>>>,
    notes: &'a mut Notes,
}

/// What references lead to, in their order.
type Reached<'s> = std::slice::Iter<'s, Result<Arc<Backend>, String>>;

impl Compiling<'_> {
    fn rule(&mut self, index: usize, rule: &Rule, reached: &mut Reached<'_>) -> snapshot::Rule {
        let field = format!("spec.rules[{index}]");
        let scope = Scope {
            resources: self.resources,
            kind: KIND,
            key: self.key,
            prefix: rule.prefix(),
        };
        let plain = filters::compile(scope, &field, &rule.filters, self.notes);
        let mut plain = plain.unwrap_or_else(broken);
        plain.mirrors = mirrors(rule, reached);
        let references = rule.backend_refs.iter().zip(reached).enumerate();
        let mut candidates = Vec::new();
        for (at, (reference, backend)) in references {
            let field = format!("{field}.backendRefs[{at}]");
            let (candidate, edits) = self.candidate((index, at), &field, reference, backend);
            candidates.push(candidate);
            plain.candidates.push(edits);
        }
        if plain.answer.is_none() && candidates.iter().all(|candidate| candidate.weight == 0) {
            let message = "no backend can serve the rule: its requests are refused";
            let field = format!("{field}.backendRefs");
            self.notes
                .warn(KIND, self.key, "NoBackend", field.as_str(), message);
            plain.answer = Some(Answer::Broken("no backend".to_owned()));
        }
        let (request, attempt) = rule.limits();
        snapshot::Rule {
            route: Arc::from(self.key.to_string()),
            index,
            name: rule.name.clone(),
            annotations: self.annotations.clone(),
            candidates: candidates.into(),
            timeouts: Timeouts {
                request: request.map_or(Some(REPLY), Duration::limit),
                attempt: attempt.and_then(Duration::limit),
                stream_idle: None,
                declared: request.is_some(),
            },
            policies: None,
            plain: Some(Arc::new(plain)),
            traffic: None,
            costs: None,
            prices: None,
            words: None,
            limits: None,
        }
    }

    fn matches(&mut self, index: usize, rule: &Rule) -> Vec<Arc<router::Match>> {
        let mut matches = Vec::new();
        for (at, written) in rule.matches.iter().enumerate() {
            match matching(written) {
                Ok(wanted) => matches.push(Arc::new(wanted)),
                Err((name, message)) => {
                    let field = format!("spec.rules[{index}].matches[{at}].{name}");
                    self.notes.refuse(KIND, self.key, "Invalid", field, message);
                }
            }
        }
        matches
    }

    fn candidate(
        &mut self,
        (rule, at): (usize, usize),
        field: &str,
        reference: &BackendRef,
        backend: &Result<Arc<Backend>, String>,
    ) -> (Candidate, (Edits, Edits)) {
        let scope = Scope {
            resources: self.resources,
            kind: KIND,
            key: self.key,
            prefix: None,
        };
        let only = &[
            FilterKind::RequestHeaderModifier,
            FilterKind::ResponseHeaderModifier,
        ];
        let filters = filters::of_backend(scope, field, &reference.filters, only, self.notes);
        let (edits, backend) = match filters {
            Ok(edits) => (edits, backend.clone()),
            Err(reason) => (<(Edits, Edits)>::default(), Err(reason)),
        };
        let Key { namespace, name } = self.key;
        let candidate = Candidate {
            id: Arc::from(format!(
                "{namespace}/{}/route/{name}/rule/{rule}/ref/{at}",
                reference.name
            )),
            weight: reference.weight.unwrap_or(1),
            priority: 0,
            model: None,
            headers: Headers::default(),
            body: Body::default(),
            backend,
        };
        (candidate, edits)
    }
}

/// Returns who is sent copies of the rule's requests; who cannot be is sent none.
fn mirrors(rule: &Rule, reached: &mut Reached<'_>) -> Vec<Mirror> {
    let written = mirrored(rule).zip(reached);
    let mirrors = written.filter_map(|((_, written), backend)| {
        let backend = Arc::clone(backend.as_ref().ok()?);
        let (numerator, denominator) = match (written.percent, written.fraction) {
            (Some(percent), _) => (percent, 100),
            (None, Some(fraction)) => (
                u32::try_from(fraction.numerator).unwrap_or(0),
                fraction
                    .denominator
                    .map_or(100, |below| u32::try_from(below).unwrap_or(1)),
            ),
            (None, None) => (1, 1),
        };
        Some(Mirror {
            backend,
            numerator,
            denominator,
        })
    });
    mirrors.collect()
}

/// Compiles a match; an error names the member and says why not.
fn matching(written: &Match) -> Result<router::Match, (String, String)> {
    let path = match &written.path {
        None => PathTest::default(),
        Some(path) => {
            let value = path.value.as_deref().unwrap_or("/");
            let kind = path.kind.unwrap_or(PathMatchKind::PathPrefix);
            PathTest::new(value, kind).map_err(|message| ("path.value".to_owned(), message))?
        }
    };
    let mut wanted = router::Match {
        path,
        method: written.method.map(method),
        ..router::Match::default()
    };
    for (at, header) in written.headers.iter().enumerate() {
        let kind = header.kind.unwrap_or(HeaderMatchKind::Exact);
        let test = HeaderTest::new(&header.name, &header.value, kind);
        wanted
            .headers
            .push(test.map_err(|message| (format!("headers[{at}]"), message))?);
    }
    for (at, query) in written.query_params.iter().enumerate() {
        let kind = query.kind.unwrap_or(HeaderMatchKind::Exact);
        let test = QueryTest::new(&query.name, &query.value, kind);
        wanted
            .query
            .push(test.map_err(|message| (format!("queryParams[{at}]"), message))?);
    }
    Ok(wanted)
}

fn method(method: Method) -> http::Method {
    match method {
        Method::Get => http::Method::GET,
        Method::Head => http::Method::HEAD,
        Method::Post => http::Method::POST,
        Method::Put => http::Method::PUT,
        Method::Delete => http::Method::DELETE,
        Method::Connect => http::Method::CONNECT,
        Method::Options => http::Method::OPTIONS,
        Method::Trace => http::Method::TRACE,
        Method::Patch => http::Method::PATCH,
    }
}

/// Returns what refuses every request.
fn broken(reason: String) -> Plain {
    Plain {
        answer: Some(Answer::Broken(reason)),
        ..Plain::default()
    }
}

const KIND: &str = "HTTPRoute";

/// How long a backend may take for the head of its reply where a rule says nothing (Envoy's default).
const REPLY: std::time::Duration = std::time::Duration::from_secs(15);
