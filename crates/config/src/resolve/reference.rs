//! References: what they lead to, whether they may, and which of several that claim the same goes first.

use super::Notes;
use crate::{
    Key, Resources,
    kind::{
        AI, ENVOY, GATEWAY_API, INFERENCE,
        reference::{LocalRef, SecretRef},
    },
    resources::{Declared, Map},
};

/// One end of a reference across namespaces.
#[derive(Clone, Copy, Debug)]
pub(super) struct End<'a> {
    pub(super) group: &'a str,
    pub(super) kind: &'a str,
    pub(super) key: &'a Key,
}

impl<'a> End<'a> {
    pub(super) fn route(key: &'a Key) -> Self {
        Self {
            group: AI,
            kind: "AIGatewayRoute",
            key,
        }
    }

    pub(super) fn service(key: &'a Key) -> Self {
        Self {
            group: AI,
            kind: "AIServiceBackend",
            key,
        }
    }

    pub(super) fn policy(key: &'a Key) -> Self {
        Self {
            group: AI,
            kind: "BackendSecurityPolicy",
            key,
        }
    }

    pub(super) fn backend(key: &'a Key) -> Self {
        Self {
            group: ENVOY,
            kind: "Backend",
            key,
        }
    }

    pub(super) fn gateway(key: &'a Key) -> Self {
        Self {
            group: GATEWAY_API,
            kind: "Gateway",
            key,
        }
    }

    pub(super) fn proxy(key: &'a Key) -> Self {
        Self {
            group: ENVOY,
            kind: "EnvoyProxy",
            key,
        }
    }

    pub(super) fn secret(key: &'a Key) -> Self {
        Self {
            group: "",
            kind: "Secret",
            key,
        }
    }

    pub(super) fn cluster_service(key: &'a Key) -> Self {
        Self {
            group: "",
            kind: "Service",
            key,
        }
    }

    pub(super) fn filter(key: &'a Key) -> Self {
        Self {
            group: ENVOY,
            kind: "HTTPRouteFilter",
            key,
        }
    }

    pub(super) fn pool(key: &'a Key) -> Self {
        Self {
            group: INFERENCE,
            kind: "InferencePool",
            key,
        }
    }

    /// The route that the Gateway API knows in place of an AIGatewayRoute: older grants name it.
    pub(super) fn http_route(key: &'a Key) -> Self {
        Self {
            group: GATEWAY_API,
            kind: "HTTPRoute",
            key,
        }
    }
}

/// Returns whether `from` may refer to `to`: they share a namespace, or a ReferenceGrant beside `to` allows it.
pub(super) fn permitted(resources: &Resources, from: End<'_>, to: End<'_>, notes: &mut Notes) -> bool {
    if from.key.namespace == to.key.namespace {
        return true;
    }
    let beside = Key::new(&to.key.namespace, "")..;
    let grants = resources.reference_grants.range(beside);
    let mut grants = grants.take_while(|(key, _)| key.namespace == to.key.namespace);
    let grant = grants.find(|(_, grant)| {
        grant.spec.from.iter().any(|granted| {
            granted.group == from.group
                && granted.kind == from.kind
                && granted.namespace == from.key.namespace
        }) && grant.spec.to.iter().any(|granted| {
            let name = granted.name.as_deref().filter(|name| !name.is_empty());
            granted.group == to.group
                && granted.kind == to.kind
                && name.is_none_or(|name| name == to.key.name)
        })
    });
    if let Some((key, _)) = grant {
        notes.used("ReferenceGrant", key);
    }
    grant.is_some()
}

/// Returns the key of what `name` and `namespace` refer to from the namespace `home`.
pub(super) fn target(namespace: Option<&str>, name: &str, home: &str) -> Key {
    let namespace = namespace.filter(|namespace| !namespace.is_empty());
    Key::new(namespace.unwrap_or(home), name)
}

/// Returns a reference within a namespace as one that may leave it.
pub(super) fn in_place(reference: &LocalRef) -> SecretRef {
    SecretRef {
        group: Some(reference.group.clone()),
        kind: Some(reference.kind.clone()),
        name: reference.name.clone(),
        namespace: None,
    }
}

/// Returns whether a resource of that kind and namespace was, or may have been, declared and could not be
/// read.
pub(super) fn unreadable(resources: &Resources, kind: &str, namespace: &str) -> bool {
    let mut unreadable = resources.unreadable.keys();
    resources.incomplete || unreadable.any(|(found, key)| *found == kind && key.namespace == namespace)
}

/// Returns the resources in the order in which they win conflicts: those that are accepted first, then by age
/// and name.
pub(super) fn ordered<'r, S>(
    kind: &'static str,
    map: &'r Map<S>,
    notes: &Notes,
) -> Vec<(&'r Key, &'r Declared<S>)> {
    let mut all: Vec<_> = map.iter().collect();
    all.sort_by_key(|(key, declared)| {
        let created = declared.metadata.creation_timestamp;
        (!notes.accepts(kind, key), created.is_none(), created)
    });
    all
}
