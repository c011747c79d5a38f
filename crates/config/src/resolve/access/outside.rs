//! Services that policies ask: those that an address names, and those that a resource refers to.

use std::sync::Arc;

use http::Uri;

use super::{super::backends::Place, builder::Builder};
use crate::{
    host,
    kind::{reference::BackendObjectRef, security_policy::ext_auth::ServiceRef},
    snapshot::{Endpoint, Protocol, Service, Tls},
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
            endpoints: vec![endpoint],
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
            if reference.fallback == Some(true) {
                let message = "has no effect: all that are named are asked alike";
                self.warn("NotSupportedYet", &format!("{at}.fallback"), message);
            }
            if reference.weight.is_some_and(|weight| weight != 1) && references.len() > 1 {
                let message = "has no effect: all that are named are asked alike";
                self.warn("NotSupportedYet", &format!("{at}.weight"), message);
            }
            let (name, service) = self.backend(reference, &at)?;
            names.push(name);
            match &mut found {
                None => found = Some(service),
                Some(known) if known.tls == service.tls => known.endpoints.extend(service.endpoints),
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
        }
        let mut id = names.join(", ");
        let mut service = found?;
        if http2 {
            id = format!("h2 {id}");
            for endpoint in &mut service.endpoints {
                endpoint.protocol = Protocol::Http2;
            }
        }
        Some(self.serve(id, service))
    }

    fn backend(&mut self, reference: &ServiceRef, field: &str) -> Option<(String, Service)> {
        let reference = BackendObjectRef {
            group: reference.group.clone(),
            kind: reference.kind.clone(),
            name: reference.name.clone(),
            namespace: reference.namespace.clone(),
            port: reference.port,
        };
        let home = &self.owner.key.namespace;
        let reached = Place::of(&reference, home).and_then(|place| {
            self.reach.permit(&[self.owner], &place, self.notes)?;
            Ok((place.id(), self.reach.endpoints(&place, self.notes)?))
        });
        match reached {
            Ok((id, (endpoints, tls))) => Some((id, Service { endpoints, tls })),
            Err((reason, message)) => {
                self.unresolved(reason, field, message);
                None
            }
        }
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
