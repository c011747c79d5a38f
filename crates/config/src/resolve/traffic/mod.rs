//! What BackendTrafficPolicies mean for the rules that they are attached to.
//!
//! A policy that is malformed is left out: its targets are served as if it were not there, and its report says so. That
//! is safe for all that it can say but for its limits: they hold, and one that is malformed lets nobody through. Where a
//! policy was not read, it may have limited any route of its namespace, and of the Gateways there.

mod annotated;
mod faults;
mod own;
mod settings;
mod tools;

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use policy::traffic::Traffic;
use serde_json::Value;

use self::annotated::Annotated;
pub(super) use self::{
    faults::faults,
    own::Own,
    settings::{connections, streams},
};
use super::{
    Notes,
    targets::{self, Attached, Attaching, Place, Site, Targets, Tools},
    unreadable,
};
use crate::{
    Key, Resources, Severity,
    kind::{BackendTrafficPolicy, backend_traffic_policy::MergeType},
    resources::Declared,
};

/// What holds at each place.
pub(super) struct Policies<'r> {
    resources: &'r Resources,
    attached: Attached,
    declared: BTreeMap<&'r Key, Said<'r>>,
    /// By the policy and the one that it is laid over.
    resolved: BTreeMap<(Key, Option<Key>), Arc<Traffic>>,
}

/// What a policy says that holds.
struct Said<'r> {
    policy: &'r Declared<BackendTrafficPolicy>,
    spec: Cow<'r, BackendTrafficPolicy>,
    annotated: Annotated,
}

pub(super) fn resolve<'r>(resources: &'r Resources, notes: &mut Notes) -> Policies<'r> {
    let policies = &resources.backend_traffic_policies;
    let (mut declared, mut resolved) = (BTreeMap::new(), BTreeMap::new());
    for (key, policy) in policies {
        faults::remark(key, policy, notes);
        if let Some(said) = said(policy, notes.accepts(KIND, key)) {
            let traffic = settings::traffic(key.to_string(), &said.spec, &said.annotated);
            resolved.insert((key.clone(), None), Arc::new(traffic));
            declared.insert(key, said);
        }
    }
    // Last: a policy that gives way at one place holds at the others.
    let attached = targets::attach(ATTACHING, policies, of_policy, resources, notes);
    Policies {
        resources,
        attached,
        declared,
        resolved,
    }
}

/// Returns what holds of a policy: all of it if it is `accepted`, or else how much it lets through, if it says so.
fn said(policy: &Declared<BackendTrafficPolicy>, accepted: bool) -> Option<Said<'_>> {
    let annotated = Annotated::of(policy);
    if accepted {
        let spec = Cow::Borrowed(&*policy.spec);
        return Some(Said {
            policy,
            spec,
            annotated,
        });
    }
    Some(Said {
        policy,
        spec: Cow::Owned(BackendTrafficPolicy {
            rate_limit: Some(policy.spec.rate_limit.clone()?),
            ..BackendTrafficPolicy::default()
        }),
        annotated: Annotated {
            switches: annotated.switches,
            ..Annotated::default()
        },
    })
}

fn of_policy(spec: &BackendTrafficPolicy) -> Targets<'_> {
    Targets {
        one: spec.target_ref.as_ref(),
        several: &spec.target_refs,
        selected: &spec.target_selectors,
    }
}

impl Policies<'_> {
    /// Returns the policies that are served at a site and where they are attached, the most specific first.
    pub(super) fn placed<'a>(&'a self, site: Site<'a>) -> impl Iterator<Item = (Place, &'a Key)> {
        let attached = self.attached.placed(site);
        attached.filter(|(_, key)| self.resolved.contains_key(&((*key).clone(), None)))
    }

    /// Returns how upstreams are treated at a site; `None` where no policy says anything.
    pub(super) fn at(&mut self, site: Site<'_>) -> Option<Arc<Traffic>> {
        for namespace in [&site.route.key().namespace, &site.gateway.namespace] {
            if unreadable(self.resources, KIND, namespace) {
                return Some(Arc::new(settings::closed(namespace)));
            }
        }
        if self.attached.is_empty() {
            return None;
        }
        let (own, below) = {
            let mut holding = self.placed(site).map(|(_, key)| key.clone());
            (holding.next()?, holding.next())
        };
        let policy = self.declared.get(&own)?;
        let below = match policy.spec.merge_type {
            Some(MergeType::StrategicMerge | MergeType::JSONMerge) => below,
            Some(MergeType::Replace) | None => None,
        };
        let place = (own, below);
        if let Some(known) = self.resolved.get(&place) {
            return Some(Arc::clone(known));
        }
        let (own, below) = (&place.0, place.1.as_ref()?);
        let lower = self.declared.get(below)?;
        let merged = Arc::new(laid_over(own, policy, below, lower)?);
        self.resolved.insert(place, Arc::clone(&merged));
        Some(merged)
    }
}

/// Returns what `upper` and `lower` say together.
fn laid_over(own: &Key, upper: &Said<'_>, below: &Key, lower: &Said<'_>) -> Option<Traffic> {
    let mut members = serde_json::to_value(&*lower.spec).ok()?;
    lay(&mut members, serde_json::to_value(&*upper.spec).ok()?);
    let spec: BackendTrafficPolicy = serde_json::from_value(members).ok()?;
    let annotated = upper.annotated.clone().or(lower.annotated.clone());
    Some(settings::traffic(format!("{own}+{below}"), &spec, &annotated))
}

/// Lays `upper` over `lower`, member by member; a member that says nothing changes nothing.
fn lay(lower: &mut Value, upper: Value) {
    match (lower, upper) {
        (_, Value::Null) => {}
        (Value::Object(lower), Value::Object(upper)) => {
            for (name, value) in upper {
                lay(lower.entry(name).or_insert(Value::Null), value);
            }
        }
        (lower, upper) => {
            if upper.as_array().is_none_or(|items| !items.is_empty()) {
                *lower = upper;
            }
        }
    }
}

/// How BackendTrafficPolicies are attached.
const ATTACHING: Attaching = Attaching {
    kind: KIND,
    missing: Severity::Warning,
    tools: Tools::Servers,
};

const KIND: &str = "BackendTrafficPolicy";
