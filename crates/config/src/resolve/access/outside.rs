//! Services that policies ask: those that an address names, and those that a resource refers to.

use std::sync::Arc;

use http::Uri;

use super::{super::backends::Place, builder::Builder};
use crate::{
    Key, host,
    kind::{ENVOY, security_policy::ext_auth::ServiceRef},
    snapshot::{Endpoint, Service, Tls},
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

    /// Returns the service that the references at `field` lead to.
    pub(super) fn service(&mut self, references: &[ServiceRef], field: &str) -> Option<Arc<str>> {
        let mut found: Option<Service> = None;
        let mut names = Vec::new();
        for (index, reference) in references.iter().enumerate() {
            let at = format!("{field}[{index}]");
            let (name, service) = self.backend(reference, &at)?;
            names.push(name.to_string());
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
        let id = format!("Backend {}", names.join(", "));
        found.map(|service| self.serve(id, service))
    }

    fn backend(&mut self, reference: &ServiceRef, field: &str) -> Option<(Key, Service)> {
        let group = reference.group.as_deref().unwrap_or_default();
        let kind = reference.kind.as_deref().unwrap_or("Service");
        if (group, kind) != (ENVOY, "Backend") {
            let message = "only a Backend is asked by this version: what the policy guards is refused";
            self.unsupported(field, message);
            return None;
        }
        let to = self.named(reference.namespace.as_deref(), &reference.name);
        if !self.may_refer(super::super::End::backend(&to)) {
            let message = format!("no ReferenceGrant allows the reference to Backend {to}");
            self.unresolved("RefNotPermitted", field, message);
            return None;
        }
        match self.reach.endpoints(&Place::Backend(to.clone()), self.notes) {
            Ok((endpoints, tls)) => Some((to, Service { endpoints, tls })),
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
