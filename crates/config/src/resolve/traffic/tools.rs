//! What policies mean for MCPRoutes and their servers.

use std::{sync::Arc, time::Duration};

use policy::traffic::{Balance, Traffic, balance::HashKey};

use super::{
    KIND, Policies,
    annotated::{self, Annotated},
};
use crate::{
    Key, Severity,
    kind::BackendTrafficPolicy,
    mcp_route::Route,
    resolve::{
        Notes,
        routes::uncounted,
        targets::{Place, Routed, Site},
    },
    resources::Declared,
    snapshot::{Rule, Timeouts},
};

impl Policies<'_> {
    /// Has requests of the MCPRoute `key`, and its servers, treated as is declared where a listener of `gateway` reaches
    /// it. `timed` tells of which servers the route itself says how long a call may take.
    pub(in crate::resolve) fn treat(
        &mut self,
        route: &mut Arc<Route>,
        (key, timed): (&Key, &[bool]),
        (gateway, listener): (&Key, &str),
        notes: &mut Notes,
    ) {
        if self.attached.is_empty() {
            return;
        }
        let site = |rule| Site {
            gateway,
            listener,
            route: Routed::Tools(key),
            rule,
        };
        self.remark(site(None), notes);
        if let Some(traffic) = self.at(site(None)) {
            let rule = rule(&route.id, traffic);
            uncounted("MCPRoute", key, &rule, notes);
            Arc::make_mut(route).treated = Some(Arc::new(rule));
        }
        let names: Vec<Arc<str>> = route
            .backends
            .iter()
            .map(|backend| Arc::clone(&backend.name))
            .collect();
        for (index, name) in names.iter().enumerate() {
            let site = site(Some(&**name));
            self.remark(site, notes);
            let Some(traffic) = self.at(site) else { continue };
            // Policies for a whole Gateway are made for answers of models, and calls of tools may take long.
            let own = self.placed(site).next().is_some_and(|(place, _)| is_own(&place));
            let limit = traffic.request.filter(|_| own && timed.get(index) != Some(&true));
            let Some(backend) = Arc::make_mut(route).backends.get_mut(index) else {
                continue;
            };
            if let Some(limit) = limit {
                backend.call_timeout = limit.unwrap_or(FOREVER);
            }
            backend.traffic = Some(traffic);
        }
    }

    /// Says what of a policy that is attached to an MCPRoute, or to a server of one, has no effect there.
    fn remark(&self, site: Site<'_>, notes: &mut Notes) {
        let Some((place, key)) = self.placed(site).next() else {
            return;
        };
        let Some(said) = self.declared.get(key).filter(|_| is_own(&place)) else {
            return;
        };
        for field in idle(said.policy) {
            let message = format!("it has no effect on {place}");
            notes.unsupported(KIND, key, Severity::Warning, field.as_str(), message);
        }
    }
}

/// Returns the fields of a policy that mean nothing for MCP servers.
fn idle(policy: &Declared<BackendTrafficPolicy>) -> Vec<String> {
    let spec = &policy.spec;
    let http = spec.timeout.unwrap_or_default().http.unwrap_or_default();
    let balancer = spec.load_balancer.as_ref();
    let hash = balancer.and_then(|balancer| balancer.consistent_hash.as_ref());
    let cookie = hash.is_some_and(|hash| hash.cookie.is_some());
    let query = hash.is_some_and(|hash| !hash.query_params.is_empty());
    let fields = [
        (
            http.max_stream_duration.is_some(),
            "timeout.http.maxStreamDuration",
        ),
        (
            http.stream_idle_timeout.is_some(),
            "timeout.http.streamIdleTimeout",
        ),
        (cookie, "loadBalancer.consistentHash.cookie"),
        (query, "loadBalancer.consistentHash.queryParams"),
    ];
    let fields = fields.into_iter().filter(|(present, _)| *present);
    let annotations = policy.metadata.annotations.keys();
    let by_prompt = Annotated::of(policy).balance == Some(Balance::Consistent(HashKey::Prefix));
    let annotations = annotations.filter(|name| {
        annotated::OF_MODELS.contains(&name.as_str()) || (by_prompt && *name == annotated::BALANCE)
    });
    let annotations = annotations.map(|name| format!("metadata.annotations[{name}]"));
    fields
        .map(|(_, field)| format!("spec.{field}"))
        .chain(annotations)
        .collect()
}

fn is_own(place: &Place) -> bool {
    match place {
        Place::Tools(_) | Place::Server(..) => true,
        Place::Gateway(_) | Place::Listener(..) | Place::Route(_) | Place::Rule(..) => false,
    }
}

/// Returns what stands for a route whose requests are treated like this.
fn rule(route: &Arc<str>, traffic: Arc<Traffic>) -> Rule {
    Rule {
        route: Arc::clone(route),
        index: 0,
        name: None,
        annotations: None,
        candidates: Arc::default(),
        timeouts: Timeouts::default(),
        policies: None,
        plain: None,
        costs: None,
        prices: None,
        words: None,
        limits: traffic.limits.clone(),
        traffic: Some(traffic),
    }
}

/// Stands for "no limit".
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);
