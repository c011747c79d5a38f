//! Who may call what: which policy guards which rule of which route.
//!
//! A policy is attached to a Gateway, to one of its listeners, to a route or to one of its rules. The narrowest
//! one guards a request and replaces the others, or is laid over the next one (`mergeType`). Of several for the same target the oldest counts, then the
//! first by name. What a policy demands and cannot be honoured refuses everybody, because leaving it out would
//! let everybody in.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use policy::Policies;

use self::builder::Builder;
use super::{
    Notes, Reach,
    attach::Hosts,
    targets::{self, Attached, Attaching, Routed, Site, Targets, Tools},
};
use crate::{
    Condition, ConditionKind, Key, Resources, Severity,
    host::Host,
    kind::{ENVOY, SecurityPolicy, backend_traffic_policy::MergeType},
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
    attached: Attached,
    guards: BTreeMap<Key, Guard>,
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
    let attached = targets::attach(
        ATTACHING,
        &resources.security_policies,
        of_policy,
        resources,
        notes,
    );
    let guards = resources.security_policies.iter().filter_map(|(key, declared)| {
        let authorization = declared.spec.authorization.as_ref();
        let guard = Guard {
            policy: key.clone(),
            policies: Arc::clone(built.get(key)?),
            merges: match declared.spec.merge_type {
                Some(MergeType::StrategicMerge | MergeType::JSONMerge) => true,
                Some(MergeType::Replace) | None => false,
            },
            says_default: authorization.is_some_and(|authorization| authorization.default_action.is_some()),
        };
        Some((key.clone(), guard))
    });
    Access {
        attached,
        guards: guards.collect(),
        unread: unread(resources),
        outside,
        unknown: Arc::new(Policies::broken(
            "unread",
            "a SecurityPolicy of the namespace may not have been read",
        )),
        ..Access::default()
    }
}

/// Returns what a policy is for.
pub(super) fn of_policy(spec: &SecurityPolicy) -> Targets<'_> {
    Targets {
        one: spec.target_ref.as_ref(),
        several: &spec.target_refs,
        selected: &spec.target_selectors,
    }
}

impl Access {
    /// Returns what guards a rule of a route where it is reached by a listener of a Gateway.
    fn of(
        &mut self,
        route: Routed<'_>,
        rule: Option<&str>,
        (gateway, listener): (&Key, &str),
    ) -> Option<Arc<Policies>> {
        if self.guards_nobody() {
            return None;
        }
        let namespaces = [&route.key().namespace, &gateway.namespace];
        if self.unread.contains(&None)
            || namespaces
                .into_iter()
                .any(|namespace| self.unread.contains(&Some(namespace.clone())))
        {
            return Some(Arc::clone(&self.unknown));
        }
        let site = Site {
            gateway,
            listener,
            route,
            rule,
        };
        let placed = self.attached.placed(site);
        let mut found = placed.filter_map(|(_, policy)| self.guards.get(policy));
        let narrowest = found.next()?;
        let mut others = found.filter(|guard| guard.policy != narrowest.policy);
        let below = if narrowest.merges { others.next() } else { None };
        for replaced in others.map(|guard| guard.policy.clone()).collect::<Vec<_>>() {
            self.replaced
                .entry(replaced)
                .or_default()
                .insert(route.key().clone());
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

    /// Adds `entry`, which serves `hosts`, once for each policy that guards it at some of them. What its rule demands
    /// itself is laid over that.
    pub(super) fn guard(
        &mut self,
        route: Routed<'_>,
        entry: router::Entry,
        hosts: &Hosts,
        entries: &mut Vec<router::Entry>,
    ) {
        if self.guards_nobody() && entry.rule.policies.is_none() {
            entries.push(entry);
            return;
        }
        let mut groups: Vec<(Option<Arc<Policies>>, Vec<Host>)> = Vec::new();
        for (host, listeners) in hosts {
            let declared = self.of_all(route, entry.rule.name.as_deref(), listeners);
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
        entries.extend(groups.into_iter().map(|(policies, hosts)| {
            let mut entry = entry.clone();
            if policies.is_some() {
                Arc::make_mut(&mut entry.rule).policies = policies;
            }
            router::Entry {
                hosts: hosts.into(),
                ..entry
            }
        }));
    }

    /// Returns whether no policy guards anything.
    fn guards_nobody(&self) -> bool {
        self.attached.is_empty() && self.unread.is_empty()
    }

    /// Returns what guards a rule that is reached by any of `listeners`, between which a request does not tell.
    pub(super) fn of_all(
        &mut self,
        route: Routed<'_>,
        rule: Option<&str>,
        listeners: &[(Key, String)],
    ) -> Option<Arc<Policies>> {
        let mut found = listeners
            .iter()
            .map(|(gateway, listener)| self.of(route, rule, (gateway, listener)));
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

fn unread(resources: &Resources) -> BTreeSet<Option<String>> {
    let unreadable = resources.unreadable.keys();
    let namespaces = unreadable
        .filter(|(kind, _)| *kind == KIND)
        .map(|(_, key)| Some(key.namespace.clone()));
    namespaces.chain(resources.incomplete.then_some(None)).collect()
}

/// How SecurityPolicies are attached.
pub(super) const ATTACHING: Attaching = Attaching {
    kind: KIND,
    missing: Severity::Error,
    tools: Tools::Routes,
};

const KIND: &str = "SecurityPolicy";

/// How many routes a condition names.
const SHOWN: usize = 5;
