//! Which policy holds where: policies find their targets, and the more specific one goes before the less
//! specific one (Gateway API, "policy attachment").

use std::{collections::BTreeMap, fmt};

use super::{Notes, ordered};
use crate::{
    Key, Resources, Severity,
    kind::{
        AI, GATEWAY_API,
        reference::{TargetRef, TargetSelector},
    },
    resources::{Declared, Map},
};

/// Where a policy is attached; the less specific before the more specific.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// A Gateway.
    Gateway(Key),
    /// A listener of a Gateway.
    Listener(Key, String),
    /// A route, whatever its kind: an AIGatewayRoute is an HTTPRoute of the same name too.
    Route(Key),
    /// A rule of a route.
    Rule(Key, String),
    /// An MCPRoute.
    Tools(Key),
    /// A server of an MCPRoute.
    Server(Key, String),
}

/// `rule fast`, `route default/chat`, `listener http`, `Gateway default/edge`.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Gateway(key) => write!(f, "Gateway {key}"),
            Place::Listener(gateway, name) => write!(f, "listener {name} of Gateway {gateway}"),
            Place::Route(key) => write!(f, "route {key}"),
            Place::Rule(route, name) => write!(f, "rule {name} of route {route}"),
            Place::Tools(key) => write!(f, "MCPRoute {key}"),
            Place::Server(route, name) => write!(f, "server {name} of MCPRoute {route}"),
        }
    }
}

/// How the policies of a kind are attached.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attaching {
    pub(super) kind: &'static str,
    /// How bad it is that something is not a target: what a policy was to guard is open.
    pub(super) missing: Severity,
    /// Whether MCPRoutes are targets.
    pub(super) tools: Tools,
}

/// What of MCPRoutes is a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tools {
    /// Nothing.
    No,
    /// Routes as a whole.
    Routes,
    /// Routes, and their servers each by itself.
    Servers,
}

/// What a policy names as its targets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Targets<'a> {
    pub(super) one: Option<&'a TargetRef>,
    pub(super) several: &'a [TargetRef],
    pub(super) selected: &'a [TargetSelector],
}

/// Where requests are served: what a policy may be attached to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Site<'a> {
    pub(super) gateway: &'a Key,
    pub(super) listener: &'a str,
    pub(super) route: Routed<'a>,
    /// The name of a rule, or of a server of an MCPRoute.
    pub(super) rule: Option<&'a str>,
}

/// A route, as policies tell them apart.
#[derive(Clone, Copy, Debug)]
pub(super) enum Routed<'a> {
    /// An AIGatewayRoute or an HTTPRoute.
    Route(&'a Key),
    /// An MCPRoute.
    Tools(&'a Key),
}

impl<'a> Routed<'a> {
    /// Returns the key of the route.
    pub(super) fn key(self) -> &'a Key {
        match self {
            Routed::Route(key) | Routed::Tools(key) => key,
        }
    }

    fn place(self) -> Place {
        match self {
            Routed::Route(key) => Place::Route(key.clone()),
            Routed::Tools(key) => Place::Tools(key.clone()),
        }
    }
}

/// The policies of one kind by where they are attached, at each place the one that wins.
#[derive(Debug, Default)]
pub(super) struct Attached(BTreeMap<Place, Key>);

impl Attached {
    /// Returns the policies that hold at a site and where they are attached, the most specific first.
    pub(super) fn placed<'a>(&'a self, site: Site<'a>) -> impl Iterator<Item = (Place, &'a Key)> {
        let rule = site.rule.map(|rule| match site.route {
            Routed::Route(key) => Place::Rule(key.clone(), rule.to_owned()),
            Routed::Tools(key) => Place::Server(key.clone(), rule.to_owned()),
        });
        let rest = [
            site.route.place(),
            Place::Listener(site.gateway.clone(), site.listener.to_owned()),
            Place::Gateway(site.gateway.clone()),
        ];
        rule.into_iter()
            .chain(rest)
            .filter_map(|place| self.0.get(&place).map(|key| (place, key)))
    }

    /// Returns the policy that holds at a listener, whatever the route.
    pub(super) fn at_listener(&self, gateway: &Key, listener: &str) -> Option<&Key> {
        let own = Place::Listener(gateway.clone(), listener.to_owned());
        let found = self.0.get(&own);
        found.or_else(|| self.0.get(&Place::Gateway(gateway.clone())))
    }

    /// Returns whether no policy is attached to anything.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Attaches the policies of a kind to their targets. Of two at one place the older one wins, one that is not
/// accepted being the youngest; the other is reported.
pub(super) fn attach<S>(
    attaching: Attaching,
    policies: &Map<S>,
    targets: impl Fn(&S) -> Targets<'_>,
    resources: &Resources,
    notes: &mut Notes,
) -> Attached {
    let Attaching { kind, missing, .. } = attaching;
    let mut attached = Attached::default();
    for (key, policy) in ordered(kind, policies, notes) {
        let targets = targets(&policy.spec);
        let named = targets.one.map(|target| ("spec.targetRef".to_owned(), target));
        let several = targets.several.iter().enumerate();
        let several = several.map(|(index, target)| (format!("spec.targetRefs[{index}]"), target));
        let mut places: Vec<(String, Place)> = Vec::new();
        for (field, target) in named.into_iter().chain(several) {
            match place(attaching, key, target, resources) {
                Ok(place) => places.push((field, place)),
                Err(message) => notes.unattached(kind, key, missing, field, message),
            }
        }
        for (index, selector) in targets.selected.iter().enumerate() {
            let field = format!("spec.targetSelectors[{index}]");
            if selector.namespaces.is_some() {
                let message = "targets in other namespaces are not selected by this version";
                let field = format!("{field}.namespaces");
                notes.unsupported(kind, key, missing, field.as_str(), message);
            }
            match selected(attaching, key, selector, resources) {
                None => {
                    let message = format!("a {} cannot have this policy in this version", selector.kind);
                    notes.unsupported(kind, key, missing, field.as_str(), message);
                }
                Some(found) if found.is_empty() => {
                    let message = format!("no {} of the namespace has these labels", selector.kind);
                    notes.unattached(kind, key, Severity::Warning, field, message);
                }
                Some(found) => places.extend(found.into_iter().map(|place| (field.clone(), place))),
            }
        }
        for (field, place) in places {
            notes.used(kind, key);
            match attached.0.get(&place) {
                Some(other) if other == key => {}
                Some(other) => {
                    let message = format!("the target has an older policy, {other}, which is used");
                    notes.refuse(kind, key, "Conflicted", field, message);
                }
                None => {
                    attached.0.insert(place, key.clone());
                }
            }
        }
    }
    attached
}

/// Returns where `target`, of the policy called `policy`, is; says why it is nowhere.
fn place(
    attaching: Attaching,
    policy: &Key,
    target: &TargetRef,
    resources: &Resources,
) -> Result<Place, String> {
    let to = Key::new(&policy.namespace, &target.name);
    let section = target.section_name.as_deref().filter(|name| !name.is_empty());
    let missing = |what: &str| Err(format!("{what} does not exist"));
    match (target.group.as_str(), target.kind.as_str()) {
        (GATEWAY_API, "Gateway") => {
            let Some(gateway) = resources.gateways.get(&to) else {
                return missing(&format!("Gateway {to}"));
            };
            match section {
                None => Ok(Place::Gateway(to)),
                Some(name)
                    if gateway
                        .spec
                        .listeners
                        .iter()
                        .any(|listener| listener.name == name) =>
                {
                    Ok(Place::Listener(to, name.to_owned()))
                }
                Some(name) => missing(&format!("listener {name} of Gateway {to}")),
            }
        }
        (GATEWAY_API, "HTTPRoute") | (AI, "AIGatewayRoute") => {
            let Some(rules) = rules(&to, resources) else {
                let generated = generated(attaching.tools, &to, resources).filter(|_| section.is_none());
                return generated.map_or_else(|| missing(&format!("{} {to}", target.kind)), Ok);
            };
            match section {
                None => Ok(Place::Route(to)),
                Some(name) if rules.contains(&Some(name)) => Ok(Place::Rule(to, name.to_owned())),
                Some(name) => missing(&format!("rule {name} of {} {to}", target.kind)),
            }
        }
        (AI, "MCPRoute") if attaching.tools != Tools::No => {
            let Some(route) = resources.mcp_routes.get(&to) else {
                return missing(&format!("MCPRoute {to}"));
            };
            let serves = |name: &str| route.spec.backend_refs.iter().any(|server| server.name == name);
            match (section, attaching.tools) {
                (None, _) => Ok(Place::Tools(to)),
                (Some(name), Tools::Servers) if serves(name) => Ok(Place::Server(to, name.to_owned())),
                (Some(name), Tools::Servers) => missing(&format!("server {name} of MCPRoute {to}")),
                (Some(name), Tools::Routes | Tools::No) => missing(&format!("rule {name} of MCPRoute {to}")),
            }
        }
        (_, kind) => Err(format!("a {kind} cannot have this policy in this version")),
    }
}

/// Returns what is behind an HTTPRoute that Envoy AI Gateway would make of an MCPRoute: the route itself, or one of its
/// servers.
fn generated(tools: Tools, key: &Key, resources: &Resources) -> Option<Place> {
    if tools == Tools::No {
        return None;
    }
    if let Some(name) = key.name.strip_prefix("ai-eg-mcp-main-") {
        let route = Key::new(&key.namespace, name);
        let declared = resources.mcp_routes.contains_key(&route);
        return declared.then_some(Place::Tools(route));
    }
    let name = key.name.strip_prefix("ai-eg-mcp-br-")?;
    let mut routes = resources.mcp_routes.iter();
    routes.find_map(|(route, declared)| {
        let own = name.strip_prefix(&route.name)?.strip_prefix('-');
        let own = own.filter(|_| route.namespace == key.namespace && tools == Tools::Servers)?;
        let mut servers = declared.spec.backend_refs.iter();
        let server = servers.find(|server| server.name == own)?;
        Some(Place::Server(route.clone(), server.name.clone()))
    })
}

/// Returns the names of a route's rules; `None` if there is no such route.
fn rules<'r>(key: &Key, resources: &'r Resources) -> Option<Vec<Option<&'r str>>> {
    let for_models = resources.ai_gateway_routes.get(key);
    let for_models =
        for_models.map(|route| route.spec.rules.iter().map(|rule| rule.name.as_deref()).collect());
    let plain = resources.http_routes.get(key);
    let plain = plain.map(|route| route.spec.rules.iter().map(|rule| rule.name.as_deref()));
    match (for_models, plain) {
        (None, plain) => plain.map(Iterator::collect),
        (for_models, None) => for_models,
        (Some(names), Some(plain)) => Some(Vec::into_iter(names).chain(plain).collect()),
    }
}

/// Returns the Gateways and routes of the policy's namespace whose labels are as selected; `None` if that kind is no target.
fn selected(
    attaching: Attaching,
    policy: &Key,
    selector: &TargetSelector,
    resources: &Resources,
) -> Option<Vec<Place>> {
    let group = selector.group.as_deref().unwrap_or(GATEWAY_API);
    let matching = |namespace: &str, labels: &BTreeMap<String, String>| {
        namespace == policy.namespace && selector.covers(labels)
    };
    Some(match (group, selector.kind.as_str()) {
        (GATEWAY_API, "Gateway") => keys(&resources.gateways, matching)
            .into_iter()
            .map(Place::Gateway)
            .collect(),
        (GATEWAY_API, "HTTPRoute") => {
            let plain = keys(&resources.http_routes, matching).into_iter();
            let for_models = keys(&resources.ai_gateway_routes, matching);
            plain.chain(for_models).map(Place::Route).collect()
        }
        (AI, "AIGatewayRoute") => keys(&resources.ai_gateway_routes, matching)
            .into_iter()
            .map(Place::Route)
            .collect(),
        (AI, "MCPRoute") if attaching.tools != Tools::No => keys(&resources.mcp_routes, matching)
            .into_iter()
            .map(Place::Tools)
            .collect(),
        (_, _) => return None,
    })
}

fn keys<S>(map: &Map<S>, matching: impl Fn(&str, &BTreeMap<String, String>) -> bool) -> Vec<Key> {
    let found = map
        .iter()
        .filter(|(key, declared): &(&Key, &Declared<S>)| matching(&key.namespace, &declared.metadata.labels));
    found.map(|(key, _)| key.clone()).collect()
}
