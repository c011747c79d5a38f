//! What Gateways, and the classes of Gateways, name as their parameters.

use super::{Notes, target};
use crate::{Key, Resources, kind::ENVOY};

/// Returns the EnvoyProxy of `gateway`; its own comes before that of its class.
pub(super) fn envoy_proxy(resources: &Resources, gateway: &Key, notes: &mut Notes) -> Option<Key> {
    let declared = &resources.gateways.get(gateway)?.spec;
    let own = declared.infrastructure.as_ref();
    let (kind, holder, field, reference) = match own.and_then(|own| own.parameters_ref.as_ref()) {
        Some(own) => {
            let reference = (
                own.group.as_str(),
                own.kind.as_str(),
                target(None, &own.name, &gateway.namespace),
            );
            (
                "Gateway",
                gateway.clone(),
                "spec.infrastructure.parametersRef",
                reference,
            )
        }
        None => {
            let class = Key::new("", &declared.gateway_class_name);
            let of_class = resources
                .gateway_classes
                .get(&class)?
                .spec
                .parameters_ref
                .as_ref()?;
            let proxy = target(of_class.namespace.as_deref(), &of_class.name, "");
            let reference = (of_class.group.as_str(), of_class.kind.as_str(), proxy);
            ("GatewayClass", class, "spec.parametersRef", reference)
        }
    };
    let (group, wanted, proxy) = reference;
    if (group, wanted) != (ENVOY, KIND) {
        let message = format!("{wanted} {proxy} is not an EnvoyProxy: it has no effect");
        notes.unresolved(kind, &holder, "InvalidParameters", field.to_owned(), message);
        return None;
    }
    if !resources.envoy_proxies.contains_key(&proxy) {
        let message = format!("EnvoyProxy {proxy} not found");
        notes.unresolved(kind, &holder, "InvalidParameters", field.to_owned(), message);
        return None;
    }
    notes.used(KIND, &proxy);
    Some(proxy)
}

const KIND: &str = "EnvoyProxy";

/// The annotation by which a Gateway names its GatewayConfig.
pub(super) const GATEWAY_CONFIG: &str = "aigateway.envoyproxy.io/gateway-config";
