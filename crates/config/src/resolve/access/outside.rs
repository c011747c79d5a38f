//! Services that policies ask: those that an address names, and those that a resource refers to.

use std::sync::Arc;

use http::Uri;

use super::{super::backends::Place, builder::Builder};
use crate::{
    host,
    kind::{reference::BackendObjectRef, security_policy::ext_auth::ServiceRef},
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
        };
        Some((uri, id, service))
    }

    /// Returns the service that the references at `field` lead to; `http2` tells whether that is spoken with it in any
    /// case.
    pub(super) fn service(
        &mut self,
        references: &[ServiceRef],
        http2: bool,
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
        Some(self.serve(id, service))
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
                let parts = vec![part];
                Some((id, Service { parts, tls }))
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
