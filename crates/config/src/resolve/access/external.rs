//! Services that decide about requests.

use std::{sync::Arc, time::Duration};

use http::{HeaderName, StatusCode, uri::PathAndQuery};
use policy::ext_auth::{ExtAuth, Extensions, Protocol, Shown};

use super::builder::Builder;
use crate::kind::{
    backend_settings::BackendSettings,
    security_policy::ext_auth::{
        self, ContextExtension, ContextExtensionType, EntryRef, GrpcExtAuth, HttpExtAuth, ServiceRef,
    },
};

impl Builder<'_> {
    /// Returns the service that `spec`, which lies at `field`, names.
    pub(in crate::resolve) fn ext_auth(&mut self, spec: &ext_auth::ExtAuth, field: &str) -> Option<ExtAuth> {
        let shown = self.names(&spec.headers_to_ext_auth, &format!("{field}.headersToExtAuth"));
        let (service, protocol, shown) = match (&spec.grpc, &spec.http) {
            (Some(grpc), None) => {
                let (service, protocol) = self.by_grpc(spec, grpc, field)?;
                let shown = if shown.is_empty() {
                    Shown::All
                } else {
                    Shown::These(shown)
                };
                (service, protocol, shown)
            }
            (None, Some(http)) => {
                if !spec.context_extensions.is_empty() {
                    let at = format!("{field}.contextExtensions");
                    self.warn("NoEffect", &at, "only gRPC services are told these");
                }
                if spec.include_route_metadata == Some(true) {
                    let at = format!("{field}.includeRouteMetadata");
                    self.warn("NoEffect", &at, "only gRPC services are told this");
                }
                let (service, protocol) = self.by_http(http, &format!("{field}.http"))?;
                (service, protocol, Shown::These(shown))
            }
            (None, None) => {
                self.invalid(field, "one of grpc or http must be specified");
                return None;
            }
            (Some(_), Some(_)) => {
                self.invalid(field, "only one of grpc or http can be specified");
                return None;
            }
        };
        let timeout = spec.timeout.and_then(crate::kind::Duration::limit);
        Some(ExtAuth {
            service,
            protocol,
            shown,
            body: spec.body_to_ext_auth.and_then(|body| {
                let size = usize::try_from(body.max_request_bytes).ok();
                let size = size.filter(|size| *size > 0);
                if size.is_none() {
                    let at = format!("{field}.bodyToExtAuth.maxRequestBytes");
                    self.invalid(&at, "must be greater than 0");
                }
                size
            }),
            fail_open: spec.fail_open == Some(true),
            status_on_error: self.status(spec.status_on_error, &format!("{field}.statusOnError")),
            timeout: timeout.unwrap_or(TIMEOUT),
            recompute_route: spec.recompute_route == Some(true),
            tells_rule: spec.include_route_metadata == Some(true) && spec.grpc.is_some(),
        })
    }

    fn by_grpc(
        &mut self,
        spec: &ext_auth::ExtAuth,
        grpc: &GrpcExtAuth,
        field: &str,
    ) -> Option<(Arc<str>, Protocol)> {
        let at = format!("{field}.grpc");
        let settings = grpc.backend_settings.as_ref();
        let service = self.asked((&grpc.backend_ref, &grpc.backend_refs), (settings, true), &at);
        let mut extensions = Extensions::default();
        for (index, extension) in spec.context_extensions.iter().enumerate() {
            let at = format!("{field}.contextExtensions[{index}]");
            if let Some(value) = self.extension(extension, &at)
                && extensions.0.insert(extension.name.clone(), value).is_some()
            {
                self.invalid(
                    &format!("{at}.name"),
                    "names of context extensions must be unique",
                );
            }
        }
        Some((service?, Protocol::Grpc { extensions }))
    }

    fn by_http(&mut self, http: &HttpExtAuth, field: &str) -> Option<(Arc<str>, Protocol)> {
        let settings = http.backend_settings.as_ref();
        let passed = (http.headers_to_backend.as_slice(), "headersToBackend");
        let protocol = self.over_http(http.path.as_deref(), passed, field);
        let service = self.asked((&http.backend_ref, &http.backend_refs), (settings, false), field)?;
        Some((service, protocol))
    }

    /// Returns how a service at `field` is asked over HTTP: what stands before paths, and the headers of its answer that
    /// upstreams are sent, with the name of the member that lists them.
    pub(super) fn over_http(
        &mut self,
        path: Option<&str>,
        (passed, member): (&[String], &str),
        field: &str,
    ) -> Protocol {
        let path = path.unwrap_or_default();
        let is_path = path.starts_with('/') && path.parse::<PathAndQuery>().is_ok();
        if !path.is_empty() && !is_path {
            self.invalid(&format!("{field}.path"), "expected a path such as /check");
        }
        let mut to_upstream = Vec::new();
        for (index, written) in passed.iter().enumerate() {
            to_upstream.extend(self.told_in(Some(written), &format!("{field}.{member}[{index}]")));
        }
        Protocol::Http {
            path: path.to_owned(),
            to_upstream,
        }
    }

    /// Returns the service that either spelling names.
    fn asked(
        &mut self,
        (one, several): (&Option<ServiceRef>, &[ServiceRef]),
        way: (Option<&BackendSettings>, bool),
        field: &str,
    ) -> Option<Arc<str>> {
        match (one, several) {
            (None, several) => self.service(several, way, &format!("{field}.backendRefs")),
            (Some(one), []) => self.service(std::slice::from_ref(one), way, &format!("{field}.backendRef")),
            (Some(_), _) => {
                self.invalid(field, "only one of backendRef and backendRefs can be specified");
                None
            }
        }
    }

    fn extension(&mut self, extension: &ContextExtension, field: &str) -> Option<String> {
        let kind = extension.kind.unwrap_or(ContextExtensionType::Value);
        match (kind, &extension.value, &extension.value_ref) {
            (ContextExtensionType::Value, Some(value), None) => Some(value.clone()),
            (ContextExtensionType::ValueRef, None, Some(reference)) => {
                self.entry(reference, &format!("{field}.valueRef"))
            }
            (_, _, _) => {
                let message = "Exactly one of value or valueRef must be set with correct type";
                self.invalid(field, message);
                None
            }
        }
    }

    /// Returns the entry of a ConfigMap or a Secret.
    fn entry(&mut self, reference: &EntryRef, field: &str) -> Option<String> {
        let EntryRef {
            group,
            kind,
            name,
            key,
        } = reference;
        let to = self.named(None, name);
        let (known, value) = match (group.as_str(), kind.as_str()) {
            ("", "ConfigMap") => {
                let map = self.resources.config_maps.get(&to);
                self.notes.used("ConfigMap", &to);
                (map.is_some(), map.and_then(|map| map.spec.data.get(key)).cloned())
            }
            ("", "Secret") => {
                let secret = self.resources.secrets.get(&to);
                self.notes.used("Secret", &to);
                let value = secret.and_then(|secret| secret.spec.data.get(key));
                (secret.is_some(), value.map(|value| value.expose().to_owned()))
            }
            _ => {
                self.invalid(field, "only a ConfigMap or a Secret can be referred to");
                return None;
            }
        };
        if value.is_none() {
            let message = if known {
                format!("{kind} {to} has no key \"{key}\"")
            } else {
                format!("{kind} {to} does not exist")
            };
            self.unresolved("InvalidValueRef", field, message);
        }
        value
    }

    /// Returns headers of clients.
    pub(super) fn names(&mut self, written: &[String], field: &str) -> Vec<HeaderName> {
        let mut names = Vec::new();
        for (index, written) in written.iter().enumerate() {
            names.extend(self.header(written, &format!("{field}[{index}]")));
        }
        names
    }

    fn status(&mut self, written: Option<u32>, field: &str) -> StatusCode {
        let Some(written) = written else {
            return StatusCode::FORBIDDEN;
        };
        let status = u16::try_from(written)
            .ok()
            .and_then(|code| StatusCode::from_u16(code).ok());
        let status = status.filter(|status| (200..600).contains(&status.as_u16()));
        status.unwrap_or_else(|| {
            self.invalid(field, "expected a status such as 403");
            StatusCode::FORBIDDEN
        })
    }
}

/// How long a service may take that is not given a time.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);
