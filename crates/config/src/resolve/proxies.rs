//! Which backends are reached through a proxy, and what they are shown: those of the Gateway whose routes refer to them.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use super::{
    End, Notes,
    backends::Backends,
    certificates,
    parameters::{self, GATEWAY_CONFIG},
    permitted, target,
    terms::WrittenTerms,
};
use crate::{
    Key, Resources, Secret, Severity,
    certificate::Certificate,
    encryption::Terms,
    kind::{Gateway, ai_gateway_route::ParentRef, gateway_config::ForwardProxy},
    snapshot::{Backend, Endpoint, Proxy, Tls},
};

/// A proxy, and who is called directly all the same.
type Proxied = (Arc<Proxy>, Vec<String>);

/// How the backends of each Gateway are called.
pub(super) struct Ways<'r>(BTreeMap<&'r Key, Way>);

/// How the backends of a Gateway are called; an error where what it says cannot be honoured.
#[derive(Debug, PartialEq)]
pub(super) struct Way {
    /// The proxy, and who is called directly all the same.
    proxy: Result<Option<Proxied>, String>,
    /// What those are shown and offered that are called encrypted.
    tls: Result<Shown, String>,
}

/// What backends are shown and offered that have nothing of their own.
#[derive(Debug, Default, PartialEq)]
struct Shown {
    certificate: Option<Certificate>,
    /// Versions of HTTP.
    protocols: Vec<String>,
    terms: Terms,
}

/// Returns how the backends of each Gateway are called.
pub(super) fn of_gateways<'r>(resources: &'r Resources, notes: &mut Notes) -> Ways<'r> {
    for (key, declared) in &resources.gateway_configs {
        if declared.spec.ext_proc.is_some() {
            let message = "there is no other process";
            notes.unsupported(KIND, key, Severity::Warning, "spec.extProc", message);
        }
    }
    let ways = resources.gateways.iter().map(|(key, gateway)| {
        let name = gateway.metadata.annotations.get(GATEWAY_CONFIG);
        let name = name.filter(|name| !name.is_empty());
        let proxy = name.map(|name| of(resources, key, name, notes));
        let way = Way {
            proxy: proxy.unwrap_or(Ok(None)),
            tls: shown(resources, key, &gateway.spec, notes),
        };
        (key, way)
    });
    Ways(ways.collect())
}

/// Has the backends of routes called as their Gateways say.
pub(super) fn resolve(resources: &Resources, ways: &Ways<'_>, backends: &mut Backends, notes: &mut Notes) {
    let mut reached: BTreeMap<Key, &Way> = BTreeMap::new();
    let mut routes: Vec<_> = resources.ai_gateway_routes.iter().collect();
    routes.sort_by_key(|(_, route)| route.order);
    for (key, route) in routes {
        let Some((_, way)) = ways.of(&route.spec.parent_refs, key) else {
            continue;
        };
        let references = route.spec.rules.iter().flat_map(|rule| &rule.backend_refs);
        // Pods of pools are called directly.
        for reference in references.filter(|reference| reference.kind.is_none()) {
            let to = target(reference.namespace.as_deref(), &reference.name, &key.namespace);
            match reached.entry(to) {
                Entry::Vacant(entry) => {
                    entry.insert(way);
                }
                Entry::Occupied(entry) if !std::ptr::eq(*entry.get(), way) && *entry.get() != way => {
                    let message = format!(
                        "AIServiceBackend {} is reached as by the Gateway of a route before this one",
                        entry.key()
                    );
                    notes.warn("AIGatewayRoute", key, "OtherProxy", None, message);
                }
                Entry::Occupied(_) => {}
            }
        }
    }
    for (key, way) in reached {
        let Some(service) = backends.get_mut(&key).filter(|_| !way.changes_nothing()) else {
            continue;
        };
        let service = Arc::make_mut(service);
        if let Ok(backend) = &mut service.backend
            && let Err(message) = way.apply(Arc::make_mut(backend))
        {
            service.backend = Err(message);
        }
    }
}

impl Ways<'_> {
    /// Returns how the backends of the route `key` are called, and the Gateway that says so: the first that there is of
    /// its parents.
    pub(super) fn of(&self, parents: &[ParentRef], key: &Key) -> Option<(&Key, &Way)> {
        parents.iter().find_map(|parent| {
            let gateway = target(parent.namespace.as_deref(), &parent.name, &key.namespace);
            self.0
                .get_key_value(&gateway)
                .map(|(gateway, way)| (*gateway, way))
        })
    }
}

impl Way {
    fn changes_nothing(&self) -> bool {
        self.proxy == Ok(None) && self.tls.as_ref().is_ok_and(|shown| *shown == Shown::default())
    }

    fn apply(&self, backend: &mut Backend) -> Result<(), String> {
        if let Some((proxy, direct)) = self.proxy.as_ref().map_err(Clone::clone)? {
            for endpoint in &mut backend.endpoints {
                route(endpoint, proxy, direct);
            }
        }
        self.encrypt(&mut backend.tls)
    }

    /// Has what is called encrypted shown and offered what the Gateway says, where it has nothing of its own.
    ///
    /// # Errors
    /// Why it must not be called.
    pub(super) fn encrypt(&self, tls: &mut Option<Tls>) -> Result<(), String> {
        let Some(tls) = tls else {
            return Ok(());
        };
        let shown = self.tls.as_ref().map_err(Clone::clone)?;
        if tls.certificate.is_none() {
            tls.certificate.clone_from(&shown.certificate);
        }
        if tls.protocols.is_empty() {
            tls.protocols.clone_from(&shown.protocols);
        }
        if tls.terms == Terms::default() {
            tls.terms.clone_from(&shown.terms);
        }
        Ok(())
    }
}

/// Returns what the backends of a Gateway are shown and offered: as it says itself, then as its EnvoyProxy does.
fn shown(resources: &Resources, key: &Key, gateway: &Gateway, notes: &mut Notes) -> Result<Shown, String> {
    let mut shown = Shown {
        certificate: certificate(resources, key, gateway, notes)?,
        ..Shown::default()
    };
    let Some(proxy) = parameters::envoy_proxy(resources, key, notes) else {
        return Ok(shown);
    };
    let Some(declared) = resources.envoy_proxies.get(&proxy) else {
        return Ok(shown);
    };
    let Some(tls) = &declared.spec.backend_tls else {
        return Ok(shown);
    };
    let terms = WrittenTerms {
        oldest: tls.min_version.as_deref(),
        newest: tls.max_version.as_deref(),
        ciphers: &tls.ciphers,
        groups: &tls.ecdh_curves,
    };
    if let Some((member, message)) = terms.faults().into_iter().next() {
        let message = format!("{message}: nobody is called encrypted");
        let field = format!("spec.backendTLS.{member}");
        notes.refuse("EnvoyProxy", &proxy, "Invalid", field, &message);
        return Err(format!("EnvoyProxy {proxy}: spec.backendTLS.{member}: {message}"));
    }
    shown.terms = terms.terms();
    shown.protocols.clone_from(&tls.alpn_protocols);
    if let (None, Some(reference)) = (&shown.certificate, &tls.client_certificate_ref) {
        let found = certificates::certificate(resources, End::proxy(&proxy), reference, notes);
        let found = found.map_err(|(reason, message)| {
            let field = "spec.backendTLS.clientCertificateRef".to_owned();
            notes.unresolved("EnvoyProxy", &proxy, reason, field, &message);
            format!("EnvoyProxy {proxy}: {message}")
        });
        shown.certificate = Some(found?);
    }
    Ok(shown)
}

/// Returns the certificate that the backends of a Gateway are shown.
fn certificate(
    resources: &Resources,
    key: &Key,
    gateway: &Gateway,
    notes: &mut Notes,
) -> Result<Option<Certificate>, String> {
    let of_tls = gateway.tls.as_ref().and_then(|tls| tls.backend.as_ref());
    let (field, backend) = match (of_tls, &gateway.backend_tls) {
        (Some(backend), _) => ("spec.tls.backend", backend),
        (None, Some(backend)) => ("spec.backendTLS", backend),
        (None, None) => return Ok(None),
    };
    let Some(reference) = &backend.client_certificate_ref else {
        return Ok(None);
    };
    let found = certificates::certificate(resources, End::gateway(key), reference, notes);
    found.map(Some).map_err(|(reason, message)| {
        let field = format!("{field}.clientCertificateRef");
        notes.unresolved("Gateway", key, reason, field, &message);
        format!("Gateway {key}: {message}")
    })
}

/// Has `endpoint` reached through `proxy`, unless it is of this machine or one of those that are called directly.
fn route(endpoint: &mut Endpoint, proxy: &Arc<Proxy>, direct: &[String]) {
    if endpoint.socket.is_none() && !direct.iter().any(|pattern| covers(pattern, &endpoint.host)) {
        endpoint.proxy = Some(Arc::clone(proxy));
    }
}

/// Returns whether `pattern` stands for `host`: as itself, as a domain above it, or as `*`.
fn covers(pattern: &str, host: &str) -> bool {
    let name = pattern.trim().trim_start_matches("*.").trim_start_matches('.');
    let name = name.trim_start_matches('[').trim_end_matches(']');
    let below = host
        .len()
        .checked_sub(name.len())
        .and_then(|at| host.split_at_checked(at));
    name == "*"
        || below.is_some_and(|(before, end)| {
            !name.is_empty()
                && end.eq_ignore_ascii_case(name)
                && (before.is_empty() || (before.ends_with('.') && host.parse::<std::net::IpAddr>().is_err()))
        })
}

/// Returns the proxy that the GatewayConfig `name` says to the Gateway `key`, and who is called directly.
fn of(resources: &Resources, key: &Key, name: &str, notes: &mut Notes) -> Result<Option<Proxied>, String> {
    let to = Key::new(&key.namespace, name);
    let field = format!("metadata.annotations[{GATEWAY_CONFIG}]");
    let Some(declared) = resources.gateway_configs.get(&to) else {
        let message = format!("{KIND} {to} does not exist");
        if resources.unreadable.contains_key(&(KIND, to)) {
            // It may have said that nothing is called directly.
            return Err(message);
        }
        notes.warn("Gateway", key, "NoConfig", field.as_str(), message);
        return Ok(None);
    };
    notes.used(KIND, &to);
    let Some(forward) = &declared.spec.forward_proxy else {
        return Ok(None);
    };
    match proxy(resources, &to, forward, notes) {
        Ok(proxy) => Ok(Some((Arc::new(proxy), forward.no_proxy.clone()))),
        Err(message) => {
            notes.unresolved(
                KIND,
                &to,
                "InvalidProxy",
                "spec.forwardProxy".to_owned(),
                &message,
            );
            Err(format!("{KIND} {to}: {message}"))
        }
    }
}

fn proxy(
    resources: &Resources,
    key: &Key,
    forward: &ForwardProxy,
    notes: &mut Notes,
) -> Result<Proxy, String> {
    let wrong = || format!("\"{}\" is not a host and a port", forward.address);
    let (host, port) = forward.address.rsplit_once(':').ok_or_else(wrong)?;
    let port: u16 = port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?;
    let host = match host.strip_prefix('[').map(|host| host.strip_suffix(']')) {
        Some(address) => address.ok_or_else(wrong)?,
        None => host,
    };
    if host.is_empty() || host.contains(['/', '@']) {
        return Err(wrong());
    }
    let tls = forward.tls.as_ref().map(|tls| {
        Tls::to(
            tls.hostname
                .clone()
                .unwrap_or_else(|| host.to_owned())
                .to_ascii_lowercase(),
        )
    });
    let credentials = forward.credentials_ref.as_ref().map(|reference| {
        let to = target(reference.namespace.as_deref(), &reference.name, &key.namespace);
        let from = End {
            group: crate::kind::AI,
            kind: KIND,
            key,
        };
        if !permitted(resources, from, End::secret(&to), notes) {
            return Err(format!("no ReferenceGrant allows the reference to Secret {to}"));
        }
        let secret = resources.secrets.get(&to);
        let secret = secret.ok_or_else(|| format!("Secret {to} does not exist"))?;
        notes.used("Secret", &to);
        let entry = |name: &str| {
            let value = secret.spec.data.get(name).map(|value| value.expose().trim());
            value.ok_or_else(|| format!("Secret {to} has no key \"{name}\""))
        };
        Ok(Secret::new(format!(
            "{}:{}",
            entry("username")?,
            entry("password")?
        )))
    });
    Ok(Proxy {
        host: host.to_ascii_lowercase(),
        port,
        tls,
        credentials: credentials.transpose()?,
    })
}

const KIND: &str = "GatewayConfig";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_cover_names_and_what_is_below() {
        let check = |pattern: &str, host: &str, expected: bool| {
            assert_eq!(covers(pattern, host), expected, "{pattern} {host}");
        };
        check("example.com", "example.com", true);
        check("Example.com", "api.example.com", true);
        check(".example.com", "api.example.com", true);
        check("*.example.com", "api.example.com", true);
        check("example.com", "badexample.com", false);
        check("api.example.com", "example.com", false);
        check("*", "anything", true);
        check("", "anything", false);
        check("10.0.0.1", "10.0.0.1", true);
        check("0.0.1", "10.0.0.1", false);
        check("[::1]", "::1", true);
    }
}
