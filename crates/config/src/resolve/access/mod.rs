//! Who may call what: which policy guards which rule of which route.
//!
//! A policy is attached to a Gateway, to one of its listeners, to a route or to one of its rules. The narrowest
//! one guards a request and replaces the others, or is laid over the next one (`mergeType`). Of several for the same target the oldest counts, then the
//! first by name. What a policy demands and cannot be honoured refuses everybody, because leaving it out would
//! let everybody in.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::Arc,
};

use policy::Policies;

use self::builder::Builder;
use super::{Notes, Reach, attach::Hosts, policies::ordered};
use crate::{
    Condition, ConditionKind, Key, Resources, Severity,
    host::Host,
    kind::{
        AI, ENVOY, GATEWAY_API, Metadata, SecurityPolicy, backend_traffic_policy::MergeType,
        reference::TargetRef,
    },
    router,
    snapshot::Outside,
};

mod authentication;
mod authorization;
pub(super) mod builder;
mod external;
mod filter;
mod login;
mod merge;
mod outside;
mod tools;

pub(super) use tools::own;

/// Which policy guards what.
#[derive(Debug, Default)]
pub(super) struct Access {
    guards: BTreeMap<Target, Guard>,
    /// What a policy and a wider one that it is laid over demand together.
    merged: BTreeMap<(Arc<str>, Arc<str>), Arc<Policies>>,
    /// Namespaces of which a policy may not have been read; `None` for all.
    unread: BTreeSet<Option<String>>,
    /// Policies that a narrower one replaces, by the routes where it does.
    replaced: BTreeMap<Key, BTreeSet<Key>>,
    /// What the policies ask.
    outside: Outside,
    /// What refuses everybody where it is not known which policies there are.
    unknown: Arc<Policies>,
}

/// What a policy is attached to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Target {
    kind: &'static str,
    key: Key,
    /// A listener or a rule of it.
    section: Option<String>,
}

#[derive(Clone, Debug)]
struct Guard {
    policy: Key,
    policies: Arc<Policies>,
    /// Whether it is laid over the next wider one.
    merges: bool,
    /// Whether it says what is done where none of its rules matches.
    says_default: bool,
}

pub(super) fn resolve(reach: &Reach<'_>, notes: &mut Notes) -> Access {
    let resources = reach.resources;
    let mut built = BTreeMap::new();
    let mut outside = Outside::default();
    for (key, declared) in &resources.security_policies {
        let (policies, asked) = build(reach, key, &declared.spec, notes);
        built.insert(key, Arc::new(policies));
        outside.join(asked);
    }
    let mut access = Access {
        unread: unread(resources),
        outside,
        unknown: Arc::new(Policies::broken(
            "unread",
            "a SecurityPolicy of the namespace may not have been read",
        )),
        ..Access::default()
    };
    for (key, declared) in ordered(KIND, &resources.security_policies, notes) {
        let Some(policies) = built.get(key) else { continue };
        let guard = Guard {
            policy: key.clone(),
            policies: Arc::clone(policies),
            merges: match declared.spec.merge_type {
                Some(MergeType::StrategicMerge | MergeType::JSONMerge) => true,
                Some(MergeType::Replace) | None => false,
            },
            says_default: declared
                .spec
                .authorization
                .as_ref()
                .is_some_and(|authorization| authorization.default_action.is_some()),
        };
        for (field, target) in targets(resources, key, &declared.spec, notes) {
            access.attach(field, target, guard.clone(), notes);
        }
    }
    access
}

impl Access {
    fn attach(&mut self, field: String, target: Target, guard: Guard, notes: &mut Notes) {
        notes.used(KIND, &guard.policy);
        match self.guards.entry(target) {
            Entry::Vacant(entry) => {
                entry.insert(guard);
            }
            Entry::Occupied(entry) if entry.get().policy == guard.policy => {}
            Entry::Occupied(entry) => {
                let Target { kind, key, .. } = entry.key();
                let message = format!("{kind} {key} has {KIND} {}, which counts", entry.get().policy);
                notes.refuse(KIND, &guard.policy, "Conflicted", field, message);
            }
        }
    }

    /// Returns what guards a rule of the route of `kind` where it is reached by a listener of a Gateway.
    pub(super) fn of(
        &mut self,
        kind: &'static str,
        route: &Key,
        rule: Option<&str>,
        (gateway, listener): (&Key, &str),
    ) -> Option<Arc<Policies>> {
        let namespaces = [&route.namespace, &gateway.namespace];
        if self.unread.contains(&None)
            || namespaces
                .into_iter()
                .any(|namespace| self.unread.contains(&Some(namespace.clone())))
        {
            return Some(Arc::clone(&self.unknown));
        }
        let places = [
            rule.map(|rule| (kind, route, Some(rule))),
            Some((kind, route, None)),
            Some(("Gateway", gateway, Some(listener))),
            Some(("Gateway", gateway, None)),
        ];
        let mut found = places.into_iter().flatten().filter_map(|(kind, key, section)| {
            self.guards.get(&Target {
                kind,
                key: key.clone(),
                section: section.map(str::to_owned),
            })
        });
        let narrowest = found.next()?;
        let mut others = found.filter(|guard| guard.policy != narrowest.policy);
        let below = if narrowest.merges { others.next() } else { None };
        for replaced in others.map(|guard| guard.policy.clone()).collect::<Vec<_>>() {
            self.replaced.entry(replaced).or_default().insert(route.clone());
        }
        let Some(below) = below else {
            return Some(Arc::clone(&narrowest.policies));
        };
        let (above, says_default, below) = (
            Arc::clone(&narrowest.policies),
            narrowest.says_default,
            Arc::clone(&below.policies),
        );
        Some(self.together(&above, says_default, &below))
    }

    /// Returns what a narrower policy demands and a wider one that it is laid over.
    fn together(&mut self, above: &Policies, says_default: bool, below: &Policies) -> Arc<Policies> {
        let place = (Arc::clone(&above.id), Arc::clone(&below.id));
        let merged = self.merged.entry(place);
        let merged = merged.or_insert_with(|| Arc::new(merge::laid_over(above, says_default, below)));
        Arc::clone(merged)
    }

    /// Returns `entry` for `hosts`, once for each policy that guards it at some of them. What its rule demands itself is
    /// laid over that.
    pub(super) fn guard(
        &mut self,
        kind: &'static str,
        route: &Key,
        entry: router::Entry,
        hosts: &Hosts,
    ) -> Vec<router::Entry> {
        let mut groups: Vec<(Option<Arc<Policies>>, Vec<Host>)> = Vec::new();
        for (host, listeners) in hosts {
            let declared = self.of_all(kind, route, entry.rule.name.as_deref(), listeners);
            let policies = match (&entry.rule.policies, declared) {
                (None, declared) => declared,
                (Some(own), None) => Some(Arc::clone(own)),
                (Some(own), Some(declared)) => Some(self.together(own, false, &declared)),
            };
            match groups.iter_mut().find(|(known, _)| same(known, &policies)) {
                Some((_, hosts)) => hosts.push(host.clone()),
                None => groups.push((policies, vec![host.clone()])),
            }
        }
        let guarded = |mut entry: router::Entry, (policies, hosts): (Option<Arc<Policies>>, Vec<Host>)| {
            if policies.is_some() {
                Arc::make_mut(&mut entry.rule).policies = policies;
            }
            router::Entry { hosts, ..entry }
        };
        let Some(last) = groups.pop() else {
            return Vec::new();
        };
        let mut entries: Vec<_> = groups
            .into_iter()
            .map(|group| guarded(entry.clone(), group))
            .collect();
        entries.push(guarded(entry, last));
        entries
    }

    /// Returns what guards a rule that is reached by any of `listeners`, between which a request does not tell.
    pub(super) fn of_all(
        &mut self,
        kind: &'static str,
        route: &Key,
        rule: Option<&str>,
        listeners: &[(Key, String)],
    ) -> Option<Arc<Policies>> {
        let mut found = listeners
            .iter()
            .map(|(gateway, listener)| self.of(kind, route, rule, (gateway, listener)));
        let first = found.next()?;
        if found.all(|other| same(&other, &first)) {
            return first;
        }
        let reason =
            "listeners of several Gateways share port and host and are guarded by different policies";
        Some(Arc::new(Policies::broken("ambiguous", reason)))
    }

    /// Says of the policies which of them narrower ones replace; returns what they ask.
    pub(super) fn finish(self, notes: &mut Notes) -> Outside {
        for (policy, routes) in self.replaced {
            let mut names: Vec<String> = routes.iter().take(SHOWN).map(Key::to_string).collect();
            if routes.len() > SHOWN {
                names.push(format!("{} more", routes.len() - SHOWN));
            }
            let condition = Condition {
                kind: ConditionKind::Accepted,
                status: true,
                reason: "Overridden",
                message: format!("narrower policies replace it for: {}", names.join(", ")),
                field: None,
                at: None,
                severity: Severity::Note,
            };
            notes.say(KIND, &policy, condition);
        }
        self.outside
    }
}

fn same(one: &Option<Arc<Policies>>, other: &Option<Arc<Policies>>) -> bool {
    one.as_ref().map(Arc::as_ptr) == other.as_ref().map(Arc::as_ptr)
}

fn build(reach: &Reach<'_>, key: &Key, spec: &SecurityPolicy, notes: &mut Notes) -> (Policies, Outside) {
    let mut builder = Builder::new(reach, (ENVOY, KIND), key, notes);
    let none = spec.target_refs.is_empty() && spec.target_ref.is_none() && spec.target_selectors.is_empty();
    if none {
        let message = "either targetRef or targetRefs or targetSelectors must be used";
        builder.invalid("spec", message);
    }
    for (present, field) in [
        (spec.oidc.is_some(), "spec.oidc"),
        (spec.csrf.is_some(), "spec.csrf"),
    ] {
        if present {
            builder.unsupported(
                field,
                "not served by this version: what the policy guards is refused",
            );
        }
    }
    let mut policies = Policies {
        id: Arc::from(key.to_string()),
        ..Policies::default()
    };
    policies.cors = spec.cors.as_ref().map(|cors| builder.cors(cors, "spec.cors"));
    policies.ext_auth = spec
        .ext_auth
        .as_ref()
        .and_then(|ext_auth| builder.ext_auth(ext_auth, "spec.extAuth"));
    policies.authenticate.api_key = spec
        .api_key_auth
        .as_ref()
        .map(|api_key| builder.api_key(api_key, "spec.apiKeyAuth"));
    policies.authenticate.basic = spec
        .basic_auth
        .as_ref()
        .and_then(|basic| builder.basic(basic, "spec.basicAuth"));
    policies.authenticate.jwt = spec.jwt.as_ref().map(|jwt| builder.jwt(jwt, "spec.jwt"));
    let providers = spec.jwt.iter().flat_map(|jwt| &jwt.providers);
    let providers: Vec<&str> = providers.map(|provider| provider.name.as_str()).collect();
    policies.authorize = spec
        .authorization
        .as_ref()
        .map(|authorization| builder.authorize(authorization, &providers, "spec.authorization"));
    match builder.finish() {
        Ok(outside) => (policies, outside),
        Err(reason) => (Policies::broken(policies.id, reason), Outside::default()),
    }
}

/// Returns what the policy is attached to, and the field that says so.
fn targets(
    resources: &Resources,
    key: &Key,
    spec: &SecurityPolicy,
    notes: &mut Notes,
) -> Vec<(String, Target)> {
    let listed = spec.target_refs.iter().enumerate();
    let listed = listed.map(|(index, reference)| (format!("spec.targetRefs[{index}]"), reference));
    let single = spec
        .target_ref
        .iter()
        .map(|reference| ("spec.targetRef".to_owned(), reference));
    let mut targets = Vec::new();
    for (field, reference) in listed.chain(single) {
        match named(resources, key, reference) {
            Ok(target) => targets.push((field, target)),
            // What was meant is open, which nobody would notice.
            Err(message) => notes.unattached(KIND, key, Severity::Error, field, message),
        }
    }
    for (index, selector) in spec.target_selectors.iter().enumerate() {
        let field = format!("spec.targetSelectors[{index}]");
        let group = selector.group.as_deref().unwrap_or(GATEWAY_API);
        let Some(kind) = kind_of(group, &selector.kind) else {
            let message = format!("a {} cannot be guarded by this version", selector.kind);
            notes.unsupported(KIND, key, Severity::Error, field.as_str(), message);
            continue;
        };
        if selector.namespaces.is_some() {
            let message = "targets in other namespaces are not guarded by this version";
            let field = format!("{field}.namespaces");
            notes.unsupported(KIND, key, Severity::Error, field.as_str(), message);
        }
        let before = targets.len();
        for (found, metadata) in declared(resources, kind) {
            if found.namespace == key.namespace && selector.covers(&metadata.labels) {
                let target = Target {
                    kind,
                    key: found.clone(),
                    section: None,
                };
                targets.push((field.clone(), target));
            }
        }
        if targets.len() == before {
            let message = format!("no {} of the namespace has these labels", selector.kind);
            notes.unattached(KIND, key, Severity::Warning, field, message);
        }
    }
    targets
}

/// Returns what `reference` names, if it exists.
fn named(resources: &Resources, policy: &Key, reference: &TargetRef) -> Result<Target, String> {
    let TargetRef {
        group,
        kind: written,
        name,
        section_name,
    } = reference;
    let kind = kind_of(group, written);
    let kind = kind.ok_or_else(|| format!("a {written} cannot be guarded by this version"))?;
    let key = Key::new(&policy.namespace, name);
    let exists = match kind {
        "Gateway" => resources.gateways.contains_key(&key),
        TOOLS => resources.mcp_routes.contains_key(&key),
        _ => resources.ai_gateway_routes.contains_key(&key) || resources.http_routes.contains_key(&key),
    };
    if !exists {
        return Err(format!("{written} {key} does not exist"));
    }
    if let Some(section) = section_name
        && !sections(resources, kind, &key).contains(&section.as_str())
    {
        return Err(format!("{written} {key} has no \"{section}\""));
    }
    Ok(Target {
        kind,
        key,
        section: section_name.clone(),
    })
}

/// Returns the kind whose resources are meant. An AIGatewayRoute is an HTTPRoute to policies, as it is in the
/// cluster of the reference.
fn kind_of(group: &str, kind: &str) -> Option<&'static str> {
    match (group, kind) {
        (GATEWAY_API, "Gateway") => Some("Gateway"),
        (GATEWAY_API, "HTTPRoute") | (AI, "AIGatewayRoute") => Some(ROUTE),
        (AI, TOOLS) => Some(TOOLS),
        _ => None,
    }
}

/// Returns the resources that a policy for `kind` can be attached to.
fn declared<'r>(resources: &'r Resources, kind: &str) -> Vec<(&'r Key, &'r Metadata)> {
    match kind {
        "Gateway" => {
            let gateways = resources.gateways.iter();
            gateways
                .map(|(key, declared)| (key, &*declared.metadata))
                .collect()
        }
        TOOLS => {
            let routes = resources.mcp_routes.iter();
            routes.map(|(key, declared)| (key, &*declared.metadata)).collect()
        }
        _ => {
            let routes = resources.ai_gateway_routes.iter();
            let routes = routes.map(|(key, declared)| (key, &*declared.metadata));
            let plain = resources.http_routes.iter();
            routes
                .chain(plain.map(|(key, declared)| (key, &*declared.metadata)))
                .collect()
        }
    }
}

/// Returns the names of the listeners or rules of a resource.
fn sections<'r>(resources: &'r Resources, kind: &str, key: &Key) -> Vec<&'r str> {
    match kind {
        "Gateway" => {
            let listeners = resources.gateways.get(key).map(|gateway| &gateway.spec.listeners);
            let listeners = listeners.into_iter().flatten();
            listeners.map(|listener| listener.name.as_str()).collect()
        }
        // It has no rules that have names.
        TOOLS => Vec::new(),
        _ => {
            let rules = resources
                .ai_gateway_routes
                .get(key)
                .map(|route| &route.spec.rules);
            let rules = rules.into_iter().flatten();
            let plain = resources.http_routes.get(key).map(|route| &route.spec.rules);
            let plain = plain.into_iter().flatten();
            rules
                .map(|rule| &rule.name)
                .chain(plain.map(|rule| &rule.name))
                .filter_map(|name| name.as_deref())
                .collect()
        }
    }
}

fn unread(resources: &Resources) -> BTreeSet<Option<String>> {
    let unreadable = resources.unreadable.keys();
    let namespaces = unreadable
        .filter(|(kind, _)| *kind == KIND)
        .map(|(_, key)| Some(key.namespace.clone()));
    namespaces.chain(resources.incomplete.then_some(None)).collect()
}

/// What AIGatewayRoutes and HTTPRoutes are to policies.
pub(super) const ROUTE: &str = "HTTPRoute";

/// What MCPRoutes are to policies.
pub(super) const TOOLS: &str = "MCPRoute";

const KIND: &str = "SecurityPolicy";

/// How many routes a condition names.
const SHOWN: usize = 5;
