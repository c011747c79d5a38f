//! What is counted for replies, and how much of each backend may be used.

use std::{
    cell::LazyCell,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use policy::{
    cost::{
        Costs,
        prices::{Prices, PricesError},
    },
    quota::{Owner, Quota, Together},
    rate_limit::{
        Switches,
        switch::{self, Switch},
    },
};

use super::{Notes, ordered, parameters::GATEWAY_CONFIG, schemas::PRICES, target, unreadable};
use crate::{
    Key, Resources, Severity,
    kind::{AI, AIGatewayRoute, GatewayConfig, QuotaPolicy},
    resources::Declared,
};

/// Says how limits are held: `reserve`, `cut` or `check`.
const MODE: &str = "tollgate.dev/limit-mode";

/// Says what is done while counters cannot be asked: `open` or `closed`.
const FAILURE: &str = "tollgate.dev/limit-failure";

/// Names the time zone whose calendar windows follow.
const CALENDAR: &str = "tollgate.dev/limit-calendar";

/// Says whether windows slide: `fixed` or `sliding`.
const SHAPE: &str = "tollgate.dev/limit-window";

/// Says how the buckets of a quota go together: `any` or `all`.
const BUCKETS: &str = "tollgate.dev/quota-buckets";

/// Says what is wrong with the costs of GatewayConfigs.
pub(super) fn check(resources: &Resources, notes: &mut Notes) {
    let kind = "GatewayConfig";
    for (key, declared) in &resources.gateway_configs {
        if let Some(Err(error)) = priced(declared) {
            let field = format!("metadata.annotations[{PRICES}]");
            notes.refuse(kind, key, "InvalidPrices", field, error.to_string());
        }
        let mut keys = BTreeSet::new();
        for (index, cost) in declared.spec.global_llm_request_costs.iter().enumerate() {
            let field = |name: &str| format!("spec.globalLLMRequestCosts[{index}].{name}");
            if !keys.insert(&cost.metadata_key) {
                let message = format!("\"{}\" is counted twice", cost.metadata_key);
                notes.refuse(kind, key, "Invalid", field("metadataKey"), message);
            }
            if let Err(error) = policy::cost::Price::parse(cost) {
                notes.refuse(kind, key, "Invalid", field("cel"), error.to_string());
            }
        }
    }
}

/// Returns what is counted for replies of a route whose Gateways have `config` for all routes.
pub(super) fn costs(
    config: Option<&GatewayConfig>,
    key: &Key,
    route: &AIGatewayRoute,
    notes: &mut Notes,
) -> Option<Arc<Costs>> {
    let own = &route.llm_request_costs;
    let global = config.map_or(&[][..], |config| &config.global_llm_request_costs);
    if own.is_empty() && global.is_empty() {
        return None;
    }
    let (costs, faults) = Costs::parse(own, global);
    for (index, error) in faults {
        let field = format!("spec.llmRequestCosts[{index}].cel");
        notes.refuse("AIGatewayRoute", key, "Invalid", field, error.to_string());
    }
    Some(Arc::new(costs)).filter(|costs| !costs.is_empty())
}

/// Returns what models cost in money of which their backends do not say so, where the Gateways of a route have `config`.
pub(super) fn prices(config: Option<&Declared<GatewayConfig>>) -> Option<Arc<Prices>> {
    // What is wrong with it is said of the resource that it stands in.
    priced(config?)?.ok().map(Arc::new)
}

fn priced(config: &Declared<GatewayConfig>) -> Option<Result<Prices, PricesError>> {
    let written = config.metadata.annotations.get(PRICES)?;
    Some(Prices::parse(written))
}

/// Returns the GatewayConfig of a route: that of the first of its Gateways that has one. What is well-formed of it holds
/// although something else is not: limits would not find what they charge.
pub(super) fn config<'r>(
    resources: &'r Resources,
    key: &Key,
    route: &AIGatewayRoute,
) -> Option<&'r Declared<GatewayConfig>> {
    if resources.gateway_configs.is_empty() {
        return None;
    }
    let mut configs = route.parent_refs.iter().filter_map(|parent| {
        let gateway = target(parent.namespace.as_deref(), &parent.name, &key.namespace);
        let declared = resources.gateways.get(&gateway)?;
        let name = declared.metadata.annotations.get(GATEWAY_CONFIG)?;
        resources.gateway_configs.get(&Key::new(&gateway.namespace, name))
    });
    configs.next()
}

/// Returns the quotas, by AIServiceBackend. Where a policy was not read, it may have limited any backend of its namespace.
pub(super) fn quotas(resources: &Resources, notes: &mut Notes) -> BTreeMap<Key, Arc<Quota>> {
    let mut quotas: BTreeMap<Key, Quota> = BTreeMap::new();
    let asked = LazyCell::new(|| asked(resources));
    let mut policies = ordered(QUOTA, &resources.quota_policies, notes);
    policies.sort_by_key(|(key, _)| *key);
    for (key, policy) in policies {
        let (switches, together) = annotated(key, policy, notes);
        let targets = targets(resources, key, &policy.spec, notes);
        for target in targets {
            let owner = Owner {
                backend: &target.to_string(),
                policy: &key.to_string(),
                switches: &switches,
                together,
            };
            let quota = quotas.entry(target.clone()).or_default();
            let mut said = Vec::new();
            if let Some(service) = &policy.spec.service_quota
                && let Err((field, message)) = quota.serve(owner, service)
            {
                said.push((join("spec.serviceQuota", &field), message));
            }
            for (index, model) in policy.spec.per_model_quotas.iter().enumerate() {
                let at = format!("spec.perModelQuotas[{index}]");
                if let Err((field, message)) = quota.limit(owner, model) {
                    said.push((join(&at, &field), message));
                } else if !asked
                    .get(&target)
                    .is_some_and(|asked| asked.has(&model.model_name))
                {
                    let message = format!("no route asks {target} for \"{}\"", model.model_name);
                    notes.warn(
                        QUOTA,
                        key,
                        "NoSuchModel",
                        join(&at, "modelName").as_str(),
                        message,
                    );
                }
            }
            for (field, message) in said {
                notes.refuse(QUOTA, key, "Invalid", field, message);
            }
        }
    }
    for backend in resources.ai_service_backends.keys() {
        if unreadable(resources, QUOTA, &backend.namespace) {
            quotas
                .entry(backend.clone())
                .or_default()
                .close(&backend.namespace);
        }
    }
    let quotas = quotas.into_iter();
    quotas.map(|(key, quota)| (key, Arc::new(quota))).collect()
}

/// Returns the targets of a policy that exist.
fn targets(resources: &Resources, key: &Key, policy: &QuotaPolicy, notes: &mut Notes) -> Vec<Key> {
    let mut found = Vec::new();
    if policy.target_refs.is_empty() {
        notes.unattached(QUOTA, key, Severity::Note, None, "the policy has no target");
    }
    for (index, reference) in policy.target_refs.iter().enumerate() {
        let field = format!("spec.targetRefs[{index}]");
        let to = Key::new(&key.namespace, &reference.name);
        if (reference.group.as_str(), reference.kind.as_str()) != (AI, "AIServiceBackend") {
            let message = "targetRefs must reference AIServiceBackend resources";
            notes.refuse(QUOTA, key, "Invalid", field, message);
        } else if resources.ai_service_backends.contains_key(&to) {
            notes.used(QUOTA, key);
            found.push(to);
        } else {
            let message = format!("AIServiceBackend {to} does not exist");
            notes.unattached(QUOTA, key, Severity::Warning, field, message);
        }
    }
    found
}

/// Returns what the annotations of a policy say of its limits.
fn annotated(key: &Key, policy: &Declared<QuotaPolicy>, notes: &mut Notes) -> (Switches, Together) {
    let annotations = &policy.metadata.annotations;
    let (switches, faults) = switches(annotations);
    for (name, message) in faults {
        let field = format!("metadata.annotations[{name}]");
        notes.refuse(QUOTA, key, "Invalid", field, message);
    }
    let models = policy.spec.per_model_quotas.iter();
    // The default bucket, and the quota of the whole backend, come after the rules.
    let rules = models
        .map(|model| model.quota.bucket_rules.len())
        .max()
        .unwrap_or(0)
        + 1;
    for (name, place) in misplaced(annotations, rules) {
        let field = format!("metadata.annotations[{name}]");
        let message = format!("there is no rule {place}");
        notes.warn(QUOTA, key, "NoSuchRule", field.as_str(), message);
    }
    let together = match annotations.get(BUCKETS).map(String::as_str) {
        None | Some("any") => Together::Any,
        Some("all") => Together::All,
        Some(_) => {
            let field = format!("metadata.annotations[{BUCKETS}]");
            notes.refuse(QUOTA, key, "Invalid", field, "expected \"any\" or \"all\"");
            Together::All
        }
    };
    (switches, together)
}

/// Reads what annotations say of limits; what is wrong comes with the annotation's name.
fn switches(annotations: &BTreeMap<String, String>) -> (Switches, Vec<(&str, String)>) {
    let mut switches = Switches::default();
    let faults = annotations.iter().filter_map(|(name, value)| {
        let read = switch(&mut switches, name, value);
        read.err().map(|message| (name.as_str(), message))
    });
    let faults = faults.collect();
    (switches, faults)
}

/// What annotations say of limits.
pub(super) const SWITCHES: &[&str] = &[MODE, FAILURE, CALENDAR, SHAPE];

/// Reads one of [`SWITCHES`].
pub(super) fn switch(switches: &mut Switches, name: &str, value: &str) -> Result<(), String> {
    match name {
        MODE => switches.mode = Switch::parse(value, switch::mode)?,
        FAILURE => switches.failure = Switch::parse(value, switch::failure)?,
        CALENDAR => switches.calendar = Switch::parse(value, switch::calendar)?,
        SHAPE => switches.shape = Switch::parse(value, switch::shape)?,
        _ => {}
    }
    Ok(())
}

/// Returns the places of rules that annotations speak of and that `rules` rules do not have, with the annotation's name.
pub(super) fn misplaced(annotations: &BTreeMap<String, String>, rules: usize) -> Vec<(&'static str, usize)> {
    // What else is wrong has been reported.
    let (switches, _) = switches(annotations);
    let Switches {
        mode,
        failure,
        calendar,
        shape,
    } = &switches;
    let places = [
        (MODE, mode.places().max()),
        (FAILURE, failure.places().max()),
        (CALENDAR, calendar.places().max()),
        (SHAPE, shape.places().max()),
    ];
    let places = places
        .into_iter()
        .filter_map(|(name, place)| Some((name, place?)));
    places.filter(|(_, place)| *place >= rules).collect()
}

/// What routes may ask a backend for.
#[derive(Default)]
struct Asked<'r> {
    /// Whether by names of clients, which may be any.
    any: bool,
    /// By names of their own.
    models: BTreeSet<&'r str>,
}

impl Asked<'_> {
    fn has(&self, model: &str) -> bool {
        self.any || self.models.contains(model)
    }
}

/// Returns what routes may ask each backend for.
fn asked(resources: &Resources) -> BTreeMap<Key, Asked<'_>> {
    let mut all: BTreeMap<Key, Asked<'_>> = BTreeMap::new();
    for (key, route) in &resources.ai_gateway_routes {
        for to in route.spec.rules.iter().flat_map(|rule| &rule.backend_refs) {
            let asked = all.entry(target(to.namespace.as_deref(), &to.name, &key.namespace));
            let asked = asked.or_default();
            match to.model_name_override.as_deref().filter(|name| !name.is_empty()) {
                Some(name) => drop(asked.models.insert(name)),
                None => asked.any = true,
            }
        }
    }
    all
}

fn join(field: &str, member: &str) -> String {
    if member.is_empty() {
        field.to_owned()
    } else {
        format!("{field}.{member}")
    }
}

const QUOTA: &str = "QuotaPolicy";
