//! Services that policies ask: those that an address names, and those that a resource refers to.

use std::sync::Arc;

use http::Uri;

use policy::traffic::Connections;

use super::{
    super::{backends::Place, traffic::connections},
    builder::Builder,
};
use crate::{
    host,
    kind::{
        backend_settings::BackendSettings, backend_traffic_policy::CircuitBreaker,
        reference::BackendObjectRef, security_policy::ext_auth::ServiceRef,
    },
    snapshot::{Endpoint, Part, Protocol, Service, Tls},
};

impl Builder<'_> {
    /// Returns the address that is written at `field`, and the service that it names: what that is called, and
    /// where it is.
    pub(super) fn address(&mut self, written: &str, field: &str) -> Option<(Uri, String, Service)> {
        let Some((uri, endpoint)) = parse(written) else {
            self.invalid(field, "expected an address such as https://idp.example/keys");
            return None;
        };
        let encrypted = uri.scheme_str() == Some("https");
        let local = endpoint.host == "localhost"
            || endpoint
                .host
                .parse()
                .is_ok_and(|address: std::net::IpAddr| address.is_loopback());
        if !encrypted && !local {
            let message = "in clear: whoever is in between can put other keys in place of these";
            self.warn("NotEncrypted", field, message);
        }
        let tls = encrypted.then(|| Tls::to(endpoint.host.clone()));
        let id = format!("{}://{}:{}", uri.scheme_str()?, endpoint.host, endpoint.port);
        let service = Service {
            parts: vec![part(vec![endpoint])],
            tls,
            connections: Connections::default(),
            retries: 0,
        };
        Some((uri, id, service))
    }

    /// Returns the service that the references at `field` lead to, which is called as `settings` say; `http2` tells whether
    /// that is spoken with it in any case.
    pub(super) fn service(
        &mut self,
        references: &[ServiceRef],
        (settings, http2): (Option<&BackendSettings>, bool),
        field: &str,
    ) -> Option<Arc<str>> {
        let mut found: Option<Service> = None;
        let mut names = Vec::new();
        for (index, reference) in references.iter().enumerate() {
            let at = format!("{field}[{index}]");
            let (name, service) = self.backend(reference, &at)?;
            names.push(name);
            match &mut found {
                None => found = Some(service),
                Some(known) if known.tls == service.tls => known.parts.extend(service.parts),
                Some(_) => {
                    self.invalid(
                        &at,
                        "the connection is encrypted in another way than that of the first",
                    );
                    return None;
                }
            }
        }
        if found.is_none() {
            self.invalid(field, "must have at least 1 item");
        } else if found
            .iter()
            .flat_map(|found| &found.parts)
            .all(|part| part.weight == 0)
        {
            self.invalid(field, "must have an item whose weight is not 0");
        }
        let mut id = names.join(", ");
        let mut service = found?;
        if http2 {
            id = format!("h2 {id}");
            for endpoint in service.parts.iter_mut().flat_map(|part| &mut part.endpoints) {
                endpoint.protocol = Protocol::Http2;
            }
        }
        if let Some(settings) = settings {
            // Elsewhere it may be called in another way.
            let parent = field.rsplit_once('.').map_or(field, |(parent, _)| parent);
            id = format!("{id} for {} {} {parent}", self.owner.kind, self.owner.key);
            self.settle(settings, &mut service, parent);
        }
        Some(self.serve(id, service))
    }

    /// Has a service called as `settings` below `field` say, and says what of them has no effect.
    fn settle(&mut self, settings: &BackendSettings, service: &mut Service, field: &str) {
        let at = format!("{field}.backendSettings");
        service.connections = connections(&settings.of_connections());
        let retry = settings.retry.as_ref();
        service.retries = retry.map_or(0, |retry| {
            let times = retry.num_retries.unwrap_or(RETRIES);
            u32::try_from(times).unwrap_or(u32::MAX)
        });
        for (member, message) in settings.http2.unwrap_or_default().faults() {
            self.invalid(&format!("{at}.http2.{member}"), message);
        }
        let http = settings
            .timeout
            .and_then(|timeout| timeout.http)
            .unwrap_or_default();
        let breaker = settings.circuit_breaker.clone().map(|breaker| CircuitBreaker {
            max_requests_per_connection: None,
            ..breaker
        });
        let limits = http
            .request_timeout
            .or(http.max_stream_duration)
            .or(http.stream_idle_timeout);
        for (present, member) in [
            (limits.is_some(), "timeout.http"),
            (
                retry.is_some_and(|retry| retry.retry_on.is_some()),
                "retry.retryOn",
            ),
            (
                retry.is_some_and(|retry| retry.per_retry.is_some()),
                "retry.perRetry",
            ),
            (
                breaker.is_some_and(|breaker| breaker != CircuitBreaker::default()),
                "circuitBreaker",
            ),
            (settings.load_balancer.is_some(), "loadBalancer"),
            (settings.health_check.is_some(), "healthCheck"),
            (settings.proxy_protocol.is_some(), "proxyProtocol"),
            (settings.connection.is_some(), "connection"),
            (settings.dns.is_some(), "dns"),
        ] {
            if present {
                let message = "has no effect in this version";
                self.warn("NotSupportedYet", &format!("{at}.{member}"), message);
            }
        }
    }

    fn backend(&mut self, written: &ServiceRef, field: &str) -> Option<(String, Service)> {
        let reference = BackendObjectRef {
            group: written.group.clone(),
            kind: written.kind.clone(),
            name: written.name.clone(),
            namespace: written.namespace.clone(),
            port: written.port,
        };
        let home = &self.owner.key.namespace;
        let reached = Place::of(&reference, home).and_then(|place| {
            self.reach.permit(&[self.owner], &place, self.notes)?;
            Ok((place.id(), self.reach.endpoints(&place, self.notes)?))
        });
        match reached {
            Ok((mut id, (endpoints, tls))) => {
                let part = Part {
                    weight: written.weight.unwrap_or(1),
                    reserve: written.fallback == Some(true),
                    ..part(endpoints)
                };
                if part.weight != 1 {
                    id = format!("{} of {id}", part.weight);
                }
                if part.reserve {
                    id = format!("in reserve {id}");
                }
                let service = Service {
                    parts: vec![part],
                    tls,
                    connections: Connections::default(),
                    retries: 0,
                };
                Some((id, service))
            }
            Err((reason, message)) => {
                self.unresolved(reason, field, message);
                None
            }
        }
    }
}

/// Returns a part that is asked as any other.
fn part(endpoints: Vec<Endpoint>) -> Part {
    Part {
        endpoints,
        weight: 1,
        reserve: false,
    }
}

/// Returns an address in full, and where it leads.
fn parse(written: &str) -> Option<(Uri, Endpoint)> {
    let uri: Uri = written.parse().ok()?;
    let default = match uri.scheme_str()? {
        "https" => 443,
        "http" => 80,
        _ => return None,
    };
    let authority = uri.authority()?;
    if authority.as_str().contains('@') {
        return None;
    }
    let name = authority.host();
    let name = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'))
        .unwrap_or(name);
    let is_address = name.parse::<std::net::IpAddr>().is_ok();
    (is_address || host::is_name(name)).then(|| {
        let port = authority.port_u16().unwrap_or(default);
        let endpoint = Endpoint::new(name.to_ascii_lowercase(), port);
        (uri.clone(), endpoint)
    })
}

/// How often a service is asked again of which that is not said.
const RETRIES: i64 = 2;
