//! Which ports are served, and which routes may attach there.

use std::collections::BTreeMap;

use super::Notes;
use crate::{
    Key, Resources, Severity,
    host::Host,
    kind::{
        AI, GATEWAY_API, Gateway,
        gateway::{self, From},
    },
    resources::Declared,
};

/// The listeners that are served, by Gateway.
pub(super) type Listeners = BTreeMap<Key, Vec<Listener>>;

/// A declared listener that is served.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) name: String,
    pub(super) port: u16,
    pub(super) host: Host,
    pub(super) from: From,
    /// Whether routes of our kind may attach.
    pub(super) takes_routes: bool,
}

pub(super) fn resolve(resources: &Resources, notes: &mut Notes) -> Listeners {
    for (key, class) in &resources.gateway_classes {
        if !CONTROLLERS.contains(&class.spec.controller_name.as_str()) {
            let message = "the class belongs to another controller: its Gateways are not served";
            notes.warn(
                "GatewayClass",
                key,
                "OtherController",
                "spec.controllerName",
                message,
            );
        }
        if class.spec.parameters_ref.is_some() {
            let message = "parameters of a class have no effect in this version";
            notes.unsupported(
                "GatewayClass",
                key,
                Severity::Warning,
                "spec.parametersRef",
                message,
            );
        }
    }
    let mut listeners = Listeners::new();
    for (key, gateway) in &resources.gateways {
        if notes.accepts("Gateway", key) && ours(resources, key, &gateway.spec, notes) {
            listeners.insert(key.clone(), of_gateway(key, gateway, notes));
        }
    }
    listeners
}

/// Returns whether the Gateway's class is one of ours. Files that declare no class at all mean us.
fn ours(resources: &Resources, key: &Key, gateway: &Gateway, notes: &mut Notes) -> bool {
    let class = Key::new("", &gateway.gateway_class_name);
    let field = "spec.gatewayClassName".to_owned();
    match resources.gateway_classes.get(&class) {
        None if resources.gateway_classes.is_empty() => true,
        None => {
            let message = format!("GatewayClass {class} does not exist");
            notes.refuse("Gateway", key, "InvalidClass", field, message);
            false
        }
        Some(declared) => {
            notes.used("GatewayClass", &class);
            let controller = &declared.spec.controller_name;
            let ours = CONTROLLERS.contains(&controller.as_str());
            if !ours {
                let message = format!("class {class} belongs to {controller}: the Gateway is not served");
                notes.refuse("Gateway", key, "OtherController", field, message);
            }
            ours
        }
    }
}

fn of_gateway(key: &Key, gateway: &Declared<Gateway>, notes: &mut Notes) -> Vec<Listener> {
    let spec = &gateway.spec;
    let mut unsupported = |present: bool, field: &str, message: &str| {
        if present {
            notes.unsupported("Gateway", key, Severity::Warning, field, message);
        }
    };
    let parameters = spec
        .infrastructure
        .as_ref()
        .and_then(|own| own.parameters_ref.as_ref());
    unsupported(
        parameters.is_some(),
        "spec.infrastructure.parametersRef",
        "parameters have no effect in this version",
    );
    let annotated = gateway.metadata.annotations.contains_key(GATEWAY_CONFIG);
    let field = format!("metadata.annotations[{GATEWAY_CONFIG}]");
    unsupported(annotated, &field, "a GatewayConfig has no effect in this version");
    unsupported(
        !spec.addresses.is_empty(),
        "spec.addresses",
        "addresses have no effect: the command says where to listen",
    );
    unsupported(
        spec.tls.is_some(),
        "spec.tls",
        "TLS of a whole Gateway has no effect in this version",
    );
    unsupported(
        spec.backend_tls.is_some(),
        "spec.backendTLS",
        "client certificates are not sent by this version",
    );
    unsupported(
        spec.allowed_listeners.is_some(),
        "spec.allowedListeners",
        "ListenerSets are not served by this version",
    );
    unsupported(
        spec.default_scope.is_some(),
        "spec.defaultScope",
        "routes without parents are not attached by this version",
    );
    let listeners = spec.listeners.iter().enumerate();
    listeners
        .filter_map(|(index, listener)| of_listener(key, index, listener, notes))
        .collect()
}

fn of_listener(key: &Key, index: usize, spec: &gateway::Listener, notes: &mut Notes) -> Option<Listener> {
    let field = |name: &str| format!("spec.listeners[{index}].{name}");
    if spec.protocol != "HTTP" {
        let message = format!("{} listeners are not served by this version", spec.protocol);
        notes.unsupported(
            "Gateway",
            key,
            Severity::Error,
            field("protocol").as_str(),
            message,
        );
        return None;
    }
    // Plain HTTP in place of TLS would send what was to be encrypted in clear.
    if spec.tls.is_some() {
        let message = "an HTTP listener has no TLS: it is not served";
        notes.unsupported("Gateway", key, Severity::Error, field("tls").as_str(), message);
        return None;
    }
    let allowed = spec.allowed_routes.as_ref();
    let from = allowed.and_then(|allowed| allowed.namespaces.as_ref());
    let from = from.and_then(|namespaces| namespaces.from).unwrap_or(From::Same);
    if from == From::Selector {
        let message = "namespaces are not selected by label in this version: no route can attach";
        notes.unsupported(
            "Gateway",
            key,
            Severity::Error,
            field("allowedRoutes.namespaces").as_str(),
            message,
        );
    }
    let kinds = allowed
        .map(|allowed| allowed.kinds.as_slice())
        .unwrap_or_default();
    let takes_routes = kinds.is_empty()
        || kinds.iter().any(|kind| {
            let group = kind.group.as_deref().unwrap_or(GATEWAY_API);
            [(GATEWAY_API, "HTTPRoute"), (AI, "AIGatewayRoute")].contains(&(group, kind.kind.as_str()))
        });
    // Both were validated; a listener that slipped through is not served.
    let port = u16::try_from(spec.port).ok()?;
    let host = match spec.hostname.as_deref() {
        None | Some("") => Host::Any,
        Some(name) => Host::parse(name)?,
    };
    Some(Listener {
        name: spec.name.clone(),
        port,
        host,
        from,
        takes_routes,
    })
}

/// The controllers whose classes are served: Envoy Gateway's, so that its manifests work unchanged, and ours.
const CONTROLLERS: &[&str] = &[
    "gateway.envoyproxy.io/gatewayclass-controller",
    "tollgate.dev/gateway-controller",
];

const GATEWAY_CONFIG: &str = "aigateway.envoyproxy.io/gateway-config";
