//! Which policies hold for a rule, and which give way to them: for a person.

use std::fmt;

use super::{
    Notes, access, intake,
    targets::{self, Place, Routed, Site},
    traffic, validate,
};
use crate::{Key, Resources, host::Host, kind::backend_traffic_policy::MergeType, snapshot::Rule};

/// A policy that is attached where a rule serves, or to a backend of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Its kind.
    pub kind: &'static str,
    /// The policy.
    pub policy: Key,
    /// What it is attached to, as `rule fast`.
    pub target: String,
    /// What comes of it.
    pub effect: Effect,
}

/// What comes of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It holds.
    Holds,
    /// A more specific one is laid over it, member by member.
    Below,
    /// A more specific one holds in its place.
    Replaced,
}

impl Effect {
    /// Returns the word for it.
    pub fn name(self) -> &'static str {
        match self {
            Effect::Holds => "holds",
            Effect::Below => "holds where the one before it says nothing",
            Effect::Replaced => "replaced by the one before it",
        }
    }
}

/// `SecurityPolicy default/keys, of rule fast: holds`.
impl fmt::Display for Holding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind, policy, target, ..
        } = self;
        write!(f, "{kind} {policy}, of {target}: {}", self.effect.name())
    }
}

/// Returns the policies for `rule` at the listeners of `port` whose host is `host`, of each kind the most specific
/// first.
pub fn holding(resources: &Resources, port: u16, host: &Host, rule: &Rule) -> Vec<Holding> {
    let mut notes = Notes::new(resources);
    validate::check(resources, &mut notes);
    let security = targets::attach(
        access::ATTACHING,
        &resources.security_policies,
        access::of_policy,
        resources,
        &mut notes,
    );
    let traffic = traffic::resolve(resources, &mut notes);
    let clients = targets::attach(
        intake::ATTACHING,
        &resources.client_traffic_policies,
        intake::of_policy,
        resources,
        &mut notes,
    );
    let Some((namespace, name)) = rule.route.split_once('/') else {
        return Vec::new();
    };
    let route = Key::new(namespace, name);
    let mut found = Vec::new();
    for (gateway, listener) in listeners(resources, port, host) {
        let site = Site {
            gateway,
            listener,
            route: Routed::Route(&route),
            rule: rule.name.as_deref(),
        };
        let intakes = clients.placed(site).map(|(place, key)| (place, key, false));
        found.extend(ranked("ClientTrafficPolicy", intakes));
        let guards = security.placed(site).map(|(place, key)| {
            let policy = resources.security_policies.get(key);
            let merge = policy.and_then(|policy| policy.spec.merge_type);
            (place, key, merges(merge))
        });
        found.extend(ranked("SecurityPolicy", guards));
        let treatments = traffic.placed(site).map(|(place, key)| {
            let policy = resources.backend_traffic_policies.get(key);
            let merge = policy.and_then(|policy| policy.spec.merge_type);
            (place, key, merges(merge))
        });
        found.extend(ranked("BackendTrafficPolicy", treatments));
    }
    found.extend(quotas(resources, rule));
    let mut once = Vec::new();
    for holding in found {
        if !once.contains(&holding) {
            once.push(holding);
        }
    }
    once
}

/// Returns whether a policy is laid over the next one.
fn merges(merge: Option<MergeType>) -> bool {
    match merge {
        Some(MergeType::StrategicMerge | MergeType::JSONMerge) => true,
        Some(MergeType::Replace) | None => false,
    }
}

/// Returns the listeners of a port that have this host: their Gateways and names.
fn listeners<'r>(
    resources: &'r Resources,
    port: u16,
    host: &'r Host,
) -> impl Iterator<Item = (&'r Key, &'r str)> {
    resources.gateways.iter().flat_map(move |(key, gateway)| {
        let listeners = gateway.spec.listeners.iter().filter(move |listener| {
            let own = listener.hostname.as_deref().and_then(Host::parse);
            listener.port == u32::from(port) && own.unwrap_or(Host::Any) == *host
        });
        listeners.map(move |listener| (key, listener.name.as_str()))
    })
}

/// Returns policies of one kind, the most specific first, each with whether it is laid over the next one.
fn ranked<'p>(kind: &'static str, policies: impl Iterator<Item = (Place, &'p Key, bool)>) -> Vec<Holding> {
    let mut effect = Effect::Holds;
    let ranked = policies.map(|(place, policy, merges)| {
        let own = effect;
        effect = match own {
            Effect::Holds if merges => Effect::Below,
            Effect::Holds | Effect::Below | Effect::Replaced => Effect::Replaced,
        };
        Holding {
            kind,
            policy: policy.clone(),
            target: place.to_string(),
            effect: own,
        }
    });
    ranked.collect()
}

/// Returns the quotas of the backends that may serve `rule`.
fn quotas(resources: &Resources, rule: &Rule) -> Vec<Holding> {
    let mut found = Vec::new();
    let backends = rule.candidates.iter();
    let backends = backends.filter_map(|candidate| candidate.backend.as_ref().ok());
    for backend in backends.filter(|backend| backend.quota.is_some()) {
        let policies = resources.quota_policies.iter().filter(|(key, policy)| {
            let mut targets = policy.spec.target_refs.iter();
            targets.any(|target| Key::new(&key.namespace, &target.name).to_string() == *backend.id)
        });
        found.extend(policies.map(|(key, _)| Holding {
            kind: "QuotaPolicy",
            policy: key.clone(),
            target: format!("backend {}", backend.id),
            effect: Effect::Holds,
        }));
    }
    found
}
