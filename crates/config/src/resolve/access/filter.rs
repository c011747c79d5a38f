//! What the filters of HTTPRoutes say of who may use a rule.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use policy::{
    Cors, Policies,
    ext_auth::{ExtAuth, Extensions, Protocol, Shown},
};

use super::{super::Reach, Access, builder::Builder, external};
use crate::{
    Key,
    kind::{
        self, GATEWAY_API,
        http_route::Rule,
        http_route_access::{CorsFilter, ExternalAuth, ExternalAuthProtocol},
        security_policy::{self, ext_auth::ServiceRef},
    },
    resolve::Notes,
};

impl Access {
    /// Returns what the rule at `index` of the HTTPRoute `key` demands itself.
    pub(in crate::resolve) fn of_rule(
        &mut self,
        reach: &Reach<'_>,
        key: &Key,
        (index, rule): (usize, &Rule),
        notes: &mut Notes,
    ) -> Option<Arc<Policies>> {
        let decides =
            |filter: &kind::http_route::Filter| filter.cors.is_some() || filter.external_auth.is_some();
        if !rule.filters.iter().any(decides) {
            return None;
        }
        let mut policies = Policies {
            id: Arc::from(format!("{key}/rule/{index}")),
            ..Policies::default()
        };
        let mut builder = Builder::new(reach, (GATEWAY_API, "HTTPRoute"), key, notes);
        for (at, filter) in rule.filters.iter().enumerate() {
            let field = format!("spec.rules[{index}].filters[{at}]");
            if let Some(own) = &filter.cors {
                policies.cors = Some(builder.cors_filter(own, &format!("{field}.cors")));
            }
            if let Some(own) = &filter.external_auth {
                let field = format!("{field}.externalAuth");
                if policies.ext_auth.is_some() {
                    builder.unsupported(&field, "one service decides about a rule in this version");
                }
                policies.ext_auth = builder.external_auth(own, &field);
            }
        }
        Some(Arc::new(match builder.finish() {
            Ok(asked) => {
                self.outside.join(asked);
                policies
            }
            Err(reason) => Policies::broken(policies.id, reason),
        }))
    }
}

impl Builder<'_> {
    fn cors_filter(&mut self, spec: &CorsFilter, field: &str) -> Cors {
        let age = spec
            .max_age
            .map_or(MAX_AGE, |seconds| Duration::from_secs(seconds.into()));
        let spec = security_policy::Cors {
            allow_origins: spec.allow_origins.clone(),
            allow_methods: spec.allow_methods.clone(),
            allow_headers: spec.allow_headers.clone(),
            expose_headers: spec.expose_headers.clone(),
            max_age: Some(kind::Duration(age)),
            allow_credentials: spec.allow_credentials,
        };
        self.cors(&spec, field)
    }

    fn external_auth(&mut self, spec: &ExternalAuth, field: &str) -> Option<ExtAuth> {
        let (protocol, shown) = match spec.protocol {
            ExternalAuthProtocol::GRPC => {
                let own = spec.grpc.clone().unwrap_or_default();
                let shown = self.names(&own.allowed_headers, &format!("{field}.grpc.allowedHeaders"));
                let protocol = Protocol::Grpc {
                    extensions: Extensions::default(),
                };
                (
                    protocol,
                    if shown.is_empty() {
                        Shown::All
                    } else {
                        Shown::These(shown)
                    },
                )
            }
            ExternalAuthProtocol::HTTP => {
                let own = spec.http.clone().unwrap_or_default();
                let field = format!("{field}.http");
                let shown = self.names(&own.allowed_headers, &format!("{field}.allowedHeaders"));
                let passed = (own.allowed_response_headers.as_slice(), "allowedResponseHeaders");
                let protocol = self.over_http(own.path.as_deref(), passed, &field);
                (protocol, Shown::These(shown))
            }
        };
        let reference = &spec.backend_ref;
        let reference = ServiceRef {
            group: reference.group.clone(),
            kind: reference.kind.clone(),
            name: reference.name.clone(),
            namespace: reference.namespace.clone(),
            port: reference.port,
            weight: None,
            fallback: None,
        };
        let http2 = spec.protocol == ExternalAuthProtocol::GRPC;
        let field = format!("{field}.backendRef");
        let service = self.service(std::slice::from_ref(&reference), (None, http2), &field)?;
        let size = spec.forward_body.and_then(|body| body.max_size);
        Some(ExtAuth {
            service,
            protocol,
            shown,
            body: size.map(usize::from).filter(|size| *size > 0),
            fail_open: false,
            status_on_error: StatusCode::FORBIDDEN,
            timeout: external::TIMEOUT,
            recompute_route: false,
            tells_rule: false,
        })
    }
}

/// How long a browser may remember what it was told where a filter says nothing.
const MAX_AGE: Duration = Duration::from_secs(5);
