//! Where a route serves: its parents, what they allow, and the hosts that both sides have.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Notes,
    listeners::{Listener, Listeners},
    target,
};
use crate::{Key, Severity, host::Host, kind::ai_gateway_route::ParentRef, report::ParentStatus};

/// A route, as far as its parents are concerned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route<'a> {
    pub(super) kind: &'static str,
    pub(super) key: &'a Key,
    pub(super) parents: &'a [ParentRef],
    pub(super) hostnames: &'a [String],
}

/// The hosts that a route serves, by port and by the host of the listener there.
pub(super) type Places = BTreeMap<u16, BTreeMap<Host, Hosts>>;

/// Hosts, and by which listeners (Gateway and name) the route is reached at each.
pub(super) type Hosts = BTreeMap<Host, Vec<(Key, String)>>;

/// Returns where the route serves. Without hosts of its own it serves those of the listeners.
pub(super) fn attach(route: Route<'_>, listeners: &Listeners, notes: &mut Notes) -> Places {
    let mut places = Places::new();
    if route.parents.is_empty() {
        let message = "the route names no parent, so nothing reaches it";
        notes.unattached(route.kind, route.key, Severity::Note, None, message);
    }
    let own: Vec<Host> = if route.hostnames.is_empty() {
        vec![Host::Any]
    } else {
        let hosts = route.hostnames.iter();
        hosts.filter_map(|name| Host::parse(name)).collect()
    };
    let mut counted = BTreeSet::new();
    for (index, parent) in route.parents.iter().enumerate() {
        let gateway = target(parent.namespace.as_deref(), &parent.name, &route.key.namespace);
        let found = attach_to(route, &gateway, parent, &own, listeners);
        notes.parent(route.kind, route.key, status(&gateway, parent, &found));
        match found {
            Ok(found) => {
                notes.used("Gateway", &gateway);
                notes.used(route.kind, route.key);
                for (listener, host) in found {
                    if counted.insert((gateway.clone(), &listener.name)) {
                        notes.attached(&gateway, &listener.name);
                    }
                    let at_port = places.entry(listener.port).or_default();
                    let at_host = at_port.entry(listener.host.clone()).or_default();
                    let reached = at_host.entry(host).or_default();
                    reached.push((gateway.clone(), listener.name.clone()));
                }
            }
            Err(Refused { message, .. }) => {
                let field = format!("spec.parentRefs[{index}]");
                notes.unattached(route.kind, route.key, Severity::Error, field, message);
            }
        }
    }
    places
}

/// Why a parent does not take a route: in the Gateway API's word and in a sentence.
struct Refused {
    reason: &'static str,
    message: String,
}

fn attach_to<'l>(
    route: Route<'_>,
    gateway: &Key,
    parent: &ParentRef,
    own: &[Host],
    listeners: &'l Listeners,
) -> Result<Vec<(&'l Listener, Host)>, Refused> {
    let refuse = |reason, message| Err(Refused { reason, message });
    let Some(served) = listeners.get(gateway) else {
        let message = format!("gateway {gateway} not found, or not served");
        return refuse("NoMatchingParent", message);
    };
    let named = |listener: &&Listener| {
        let section = parent.section_name.as_ref();
        section.is_none_or(|name| *name == listener.name)
            && parent.port.is_none_or(|port| port == u32::from(listener.port))
    };
    let named: Vec<&Listener> = served.iter().filter(named).collect();
    if named.is_empty() {
        let message = format!("gateway {gateway} has no such listener that is served");
        return refuse("NoMatchingParent", message);
    }
    let allowed: Vec<&Listener> = named
        .into_iter()
        .filter(|listener| listener.takes(route.kind) && listener.allows(&route.key.namespace))
        .collect();
    if allowed.is_empty() {
        let message = format!(
            "gateway {gateway} does not allow {}s of namespace {}",
            route.kind, route.key.namespace
        );
        return refuse("NotAllowedByListeners", message);
    }
    let mut found = Vec::new();
    for listener in allowed {
        let hosts = own.iter().filter_map(|host| host.intersection(&listener.host));
        found.extend(hosts.map(|host| (listener, host)));
    }
    if found.is_empty() {
        let message = format!("no listener of gateway {gateway} serves any of the route's hostnames");
        return refuse("NoMatchingListenerHostname", message);
    }
    Ok(found)
}

fn status<T>(gateway: &Key, parent: &ParentRef, found: &Result<T, Refused>) -> ParentStatus {
    let (reason, message) = match found {
        Ok(_) => ("Accepted", "the route is attached".to_owned()),
        Err(refused) => (refused.reason, refused.message.clone()),
    };
    ParentStatus {
        gateway: gateway.clone(),
        section: parent.section_name.clone(),
        port: parent.port,
        accepted: found.is_ok(),
        reason,
        message,
    }
}
