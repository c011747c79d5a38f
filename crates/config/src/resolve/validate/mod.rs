//! Is each resource well-formed in itself? The rules, and their messages, that the cluster's API would apply
//! when it is written (compatibility specification, "CRD validation cases").

use std::{collections::BTreeSet, fmt};

use policy::{
    body::{
        Body,
        spec::{BodyMutation, BodySet},
    },
    headers::{
        Headers,
        spec::{HeaderMutation, HeaderSet},
    },
};

use super::{Notes, intake, mcp, traffic};
use crate::{
    Key, Resources,
    host::{self, Host},
    kind::{
        AIGatewayRoute, AIServiceBackend, Backend, BackendTLSPolicy, ENVOY, GATEWAY_API, Gateway, INFERENCE,
        QuotaPolicy,
        ai_gateway_route::{HeaderMatch, Match, ParentRef, Rule, Timeouts},
        backend_tls_policy::SubjectAltNameType,
        gateway::{Listener, TlsMode},
        reference::BackendObjectRef,
    },
    resources::{Declared, Map},
};

mod credential;
mod http_route;
mod pool;

/// Checks every resource and refuses those that are malformed.
pub(super) fn check(resources: &Resources, notes: &mut Notes) {
    check_plain(resources, notes);
    each("Gateway", &resources.gateways, notes, |declared, faults| {
        gateway(&declared.spec, faults)
    });
    each(
        "AIGatewayRoute",
        &resources.ai_gateway_routes,
        notes,
        |declared, faults| {
            route(&declared.spec, faults);
        },
    );
    each(
        "AIServiceBackend",
        &resources.ai_service_backends,
        notes,
        |declared, faults| {
            service(&declared.spec, faults);
        },
    );
    each(
        "BackendSecurityPolicy",
        &resources.backend_security_policies,
        notes,
        |declared, faults| {
            credential::policy(&declared.spec, &declared.version, faults);
        },
    );
    each(
        "InferencePool",
        &resources.inference_pools,
        notes,
        |declared, faults| {
            pool::pool(&declared.spec, faults);
        },
    );
    each("MCPRoute", &resources.mcp_routes, notes, |declared, faults| {
        mcp::validate(&declared.spec, faults);
    });
    each("Backend", &resources.backends, notes, |declared, faults| {
        backend(&declared.spec, faults)
    });
    each(
        "BackendTLSPolicy",
        &resources.backend_tls_policies,
        notes,
        |declared, faults| {
            tls(&declared.spec, faults);
        },
    );
    each(
        "QuotaPolicy",
        &resources.quota_policies,
        notes,
        |declared, faults| {
            quota(&declared.spec, faults);
        },
    );
    each(
        "GatewayConfig",
        &resources.gateway_configs,
        notes,
        |declared, faults| {
            let proxy = declared.spec.forward_proxy.as_ref();
            if let Some(proxy) = proxy {
                faults.filled(&proxy.address, "spec.forwardProxy.address");
            }
        },
    );
    each(
        "BackendTrafficPolicy",
        &resources.backend_traffic_policies,
        notes,
        |declared, faults| {
            faults.0.extend(traffic::faults(&declared.spec));
        },
    );
    each(
        "ClientTrafficPolicy",
        &resources.client_traffic_policies,
        notes,
        |declared, faults| {
            faults.0.extend(intake::faults(&declared.spec));
        },
    );
}

/// Checks the resources that serve plain requests.
fn check_plain(resources: &Resources, notes: &mut Notes) {
    each("HTTPRoute", &resources.http_routes, notes, |declared, faults| {
        http_route::route(&declared.spec, faults);
    });
    let filters = &resources.http_route_filters;
    each("HTTPRouteFilter", filters, notes, |declared, faults| {
        http_route::filter(&declared.spec, faults);
    });
    each("Service", &resources.services, notes, |declared, faults| {
        for (index, port) in declared.spec.ports.iter().enumerate() {
            faults.port(port.port, format!("spec.ports[{index}].port"));
        }
    });
    each(
        "ReferenceGrant",
        &resources.reference_grants,
        notes,
        |declared, faults| {
            for (name, found) in [("from", declared.spec.from.len()), ("to", declared.spec.to.len())] {
                let field = format!("spec.{name}");
                faults.add_if(found == 0, &field, "must have at least 1 item");
                faults.at_most(16, found, field);
            }
        },
    );
}

fn each<S>(kind: &'static str, map: &Map<S>, notes: &mut Notes, check: fn(&Declared<S>, &mut Faults)) {
    for (key, declared) in map {
        let mut faults = Faults::default();
        check(declared, &mut faults);
        faults.tell(kind, key, notes);
    }
}

/// What is wrong with one resource: field and message.
#[derive(Default)]
pub(super) struct Faults(Vec<(String, String)>);

impl Faults {
    pub(super) fn add(&mut self, field: impl fmt::Display, message: impl fmt::Display) {
        self.0.push((field.to_string(), message.to_string()));
    }

    pub(super) fn add_if(&mut self, wrong: bool, field: impl fmt::Display, message: impl fmt::Display) {
        if wrong {
            self.add(field, message);
        }
    }

    pub(super) fn at_most(&mut self, limit: usize, found: usize, field: impl fmt::Display) {
        self.add_if(
            found > limit,
            field,
            format_args!("has {found} items, must have at most {limit} items"),
        );
    }

    pub(super) fn hostname(&mut self, name: &str, field: impl fmt::Display) {
        let message = "expected a host name with an optional leading \"*.\"";
        self.add_if(
            Host::parse(name).is_none() || name.contains(char::is_uppercase),
            field,
            message,
        );
    }

    pub(super) fn port(&mut self, port: u32, field: impl fmt::Display) {
        self.add_if(
            !(1..=65535).contains(&port),
            field,
            "a port is between 1 and 65535",
        );
    }

    pub(super) fn filled(&mut self, value: &str, field: impl fmt::Display) {
        self.add_if(value.is_empty(), field, "must not be empty");
    }

    /// A reference to a network endpoint.
    pub(super) fn target(&mut self, reference: &BackendObjectRef, field: fmt::Arguments<'_>) {
        self.filled(&reference.name, format_args!("{field}.name"));
        let group = reference.group.as_deref().unwrap_or_default();
        let kind = reference.kind.as_deref().unwrap_or("Service");
        let portless = (group, kind) == ("", "Service") && reference.port.is_none();
        self.add_if(portless, field, "Must have port for Service reference");
        if let Some(port) = reference.port {
            self.port(port, format_args!("{field}.port"));
        }
    }

    /// Only Gateways are parents.
    fn parents(&mut self, parents: &[ParentRef], limit: usize) {
        self.at_most(limit, parents.len(), "spec.parentRefs");
        for (index, parent) in parents.iter().enumerate() {
            let kind = parent.kind.as_deref().unwrap_or("Gateway");
            let group = parent.group.as_deref().unwrap_or(GATEWAY_API);
            let wrong = (group, kind) != (GATEWAY_API, "Gateway");
            let field = format_args!("spec.parentRefs[{index}]");
            self.add_if(wrong, field, "only Gateway is supported");
            self.filled(&parent.name, format_args!("{field}.name"));
        }
    }

    fn headers(&mut self, headers: &[HeaderMatch], field: fmt::Arguments<'_>) {
        self.at_most(16, headers.len(), format_args!("{field}.headers"));
        for (index, header) in headers.iter().enumerate() {
            let name = format_args!("{field}.headers[{index}].name");
            let before = headers.get(..index).unwrap_or_default();
            let repeated = before
                .iter()
                .any(|before| before.name.eq_ignore_ascii_case(&header.name));
            self.add_if(repeated, name, "a header is matched once");
            let length = (1..=256).contains(&header.name.len());
            self.add_if(!length, name, "a name of 1 to 256 characters is required");
            let length = (1..=4096).contains(&header.value.len());
            let message = "a value of 1 to 4096 characters is required";
            self.add_if(!length, format_args!("{field}.headers[{index}].value"), message);
        }
    }

    fn timeouts(&mut self, timeouts: Option<Timeouts>, field: fmt::Arguments<'_>) {
        let timeouts = timeouts.unwrap_or_default();
        if let (Some(request), Some(attempt)) = (timeouts.request, timeouts.backend_request) {
            let longer = request.limit().is_some_and(|request| attempt.0 > request);
            let message = "backendRequest timeout cannot be longer than request timeout";
            self.add_if(longer, format_args!("{field}.timeouts"), message);
        }
    }

    fn tell(self, kind: &'static str, key: &Key, notes: &mut Notes) {
        for (field, message) in self.0 {
            notes.refuse(kind, key, "Invalid", field, message);
        }
    }
}

fn gateway(spec: &Gateway, faults: &mut Faults) {
    faults.add_if(
        spec.listeners.is_empty(),
        "spec.listeners",
        "the gateway has no listeners configured",
    );
    faults.at_most(64, spec.listeners.len(), "spec.listeners");
    let (mut names, mut places) = (BTreeSet::new(), BTreeSet::new());
    for (index, listener) in spec.listeners.iter().enumerate() {
        let field = |name: &str| format!("spec.listeners[{index}].{name}");
        faults.add_if(
            !names.insert(&listener.name),
            field("name"),
            "Listener name must be unique within the Gateway",
        );
        let place = (listener.port, &listener.protocol, &listener.hostname);
        let message = "Combination of port, protocol and hostname must be unique for each listener";
        faults.add_if(!places.insert(place), format!("spec.listeners[{index}]"), message);
        faults.filled(&listener.name, field("name"));
        faults.port(listener.port, field("port"));
        if let Some(name) = listener.hostname.as_deref().filter(|name| !name.is_empty()) {
            faults.hostname(name, field("hostname"));
        }
        encryption(listener, &field("tls"), faults);
    }
}

fn encryption(listener: &Listener, field: &str, faults: &mut Faults) {
    let protocol = listener.protocol.as_str();
    let mode = listener.tls.as_ref().and_then(|tls| tls.mode);
    faults.add_if(
        listener.tls.is_some() && matches!(protocol, "HTTP" | "TCP" | "UDP"),
        field,
        "tls must not be specified for protocols ['HTTP', 'TCP', 'UDP']",
    );
    faults.add_if(
        protocol == "HTTPS" && mode == Some(TlsMode::Passthrough),
        format!("{field}.mode"),
        "tls mode must be Terminate for protocol HTTPS",
    );
    faults.add_if(
        listener.hostname.as_deref().is_some_and(|name| !name.is_empty())
            && matches!(protocol, "TCP" | "UDP"),
        field.replace("tls", "hostname"),
        "hostname must not be specified for protocols ['TCP', 'UDP']",
    );
    let refs = listener.tls.as_ref().map_or(&[][..], |tls| &tls.certificate_refs);
    faults.at_most(64, refs.len(), format!("{field}.certificateRefs"));
    faults.add_if(
        protocol == "HTTPS" && mode != Some(TlsMode::Passthrough) && refs.is_empty(),
        field,
        "certificateRefs must be specified when mode is Terminate",
    );
}

fn route(spec: &AIGatewayRoute, faults: &mut Faults) {
    faults.parents(&spec.parent_refs, 16);
    faults.at_most(16, spec.hostnames.len(), "spec.hostnames");
    for (index, name) in spec.hostnames.iter().enumerate() {
        faults.hostname(name, format_args!("spec.hostnames[{index}]"));
    }
    faults.at_most(36, spec.llm_request_costs.len(), "spec.llmRequestCosts");
    faults.at_most(15, spec.rules.len(), "spec.rules");
    let mut names = BTreeSet::new();
    for (index, own) in spec.rules.iter().enumerate() {
        let field = format_args!("spec.rules[{index}]");
        if let Some(name) = &own.name {
            let field = format_args!("{field}.name");
            faults.add_if(
                !names.insert(name),
                field,
                "rule name must be unique within the route",
            );
            faults.add_if(
                name == "route-not-found",
                field,
                "rule name route-not-found is reserved",
            );
            let wrong = !host::is_name(name) || name.contains(char::is_uppercase);
            faults.add_if(wrong, field, "expected a DNS subdomain");
        }
        rule(own, field, faults);
    }
}

fn rule(rule: &Rule, field: fmt::Arguments<'_>, faults: &mut Faults) {
    faults.timeouts(rule.timeouts, field);
    faults.at_most(128, rule.matches.len(), format_args!("{field}.matches"));
    for (index, own) in rule.matches.iter().enumerate() {
        matching(own, format_args!("{field}.matches[{index}]"), faults);
    }
    faults.at_most(128, rule.backend_refs.len(), format_args!("{field}.backendRefs"));
    let mut pools = 0;
    for (index, reference) in rule.backend_refs.iter().enumerate() {
        let at = format_args!("{field}.backendRefs[{index}]");
        faults.filled(&reference.name, format_args!("{at}.name"));
        match (reference.group.as_deref(), reference.kind.as_deref()) {
            (None, None) => {}
            (Some(INFERENCE), Some("InferencePool")) => pools += 1,
            (Some(_), Some(_)) => {
                faults.add(
                    at,
                    format_args!("only InferencePool from {INFERENCE} group is supported"),
                );
            }
            (Some(_), None) | (None, Some(_)) => {
                faults.add(at, "group and kind must be specified together");
            }
        }
        mutations(
            reference.header_mutation.as_ref(),
            reference.body_mutation.as_ref(),
            at,
            faults,
        );
    }
    let field = format_args!("{field}.backendRefs");
    let mixed = pools > 0 && pools < rule.backend_refs.len();
    let message = "cannot mix InferencePool and AIServiceBackend references in the same rule";
    faults.add_if(mixed, field, message);
    faults.add_if(
        pools > 1,
        field,
        "only one InferencePool backend is allowed per rule",
    );
}

fn matching(own: &Match, field: fmt::Arguments<'_>, faults: &mut Faults) {
    faults.headers(&own.headers, field);
}

fn mutations(
    headers: Option<&HeaderMutation>,
    body: Option<&BodyMutation>,
    field: fmt::Arguments<'_>,
    faults: &mut Faults,
) {
    if let Some(headers) = headers {
        let field = format_args!("{field}.headerMutation");
        let names = |list: &[HeaderSet]| list.iter().map(|own| own.name.to_ascii_lowercase()).collect();
        let removed = headers.remove.iter().map(|name| name.to_ascii_lowercase());
        changed("set", names(&headers.set), field, faults);
        changed("remove", removed.collect(), field, faults);
        changed("default", names(&headers.default), field, faults);
        faults.at_most(16, headers.append.len(), format_args!("{field}.append"));
        if let Err((member, error)) = Headers::parse(headers) {
            faults.add(format_args!("{field}.{member}"), error.to_string());
        }
    }
    if let Some(body) = body {
        let field = format_args!("{field}.bodyMutation");
        let paths = |list: &[BodySet]| list.iter().map(|own| own.path.clone()).collect();
        changed("set", paths(&body.set), field, faults);
        changed("remove", body.remove.clone(), field, faults);
        changed("default", paths(&body.default), field, faults);
        faults.at_most(16, body.append.len(), format_args!("{field}.append"));
        if let Err((member, error)) = Body::parse(body) {
            faults.add(format_args!("{field}.{member}"), error.to_string());
        }
    }
}

/// One list of changes: it is not too long, and names each thing once.
fn changed(member: &str, names: Vec<String>, field: fmt::Arguments<'_>, faults: &mut Faults) {
    let field = format_args!("{field}.{member}");
    faults.at_most(16, names.len(), field);
    let mut seen = BTreeSet::new();
    for (index, name) in names.iter().enumerate() {
        let at = format_args!("{field}[{index}]");
        faults.add_if(!seen.insert(name), at, format_args!("\"{name}\" is named twice"));
    }
}

fn service(spec: &AIServiceBackend, faults: &mut Faults) {
    let reference = &spec.backend_ref;
    let place = (
        reference.group.as_deref().unwrap_or_default(),
        reference.kind.as_deref().unwrap_or("Service"),
    );
    // The reference takes Backends alone; a Service is as good a place to call.
    let message = "BackendRef must be a Backend resource of Envoy Gateway, or a Service";
    let known = [(ENVOY, "Backend"), ("", "Service")].contains(&place);
    faults.add_if(!known, "spec.backendRef", message);
    faults.target(reference, format_args!("spec.backendRef"));
    if let Some(prefix) = &spec.api.prefix {
        let clean = prefix
            .bytes()
            .all(|b| b.is_ascii_graphic() && !b"?#\"<>\\^`{|}".contains(&b));
        faults.add_if(
            !clean,
            "spec.schema.prefix",
            "expected the first segments of a path",
        );
    }
    mutations(
        spec.header_mutation.as_ref(),
        spec.body_mutation.as_ref(),
        format_args!("spec"),
        faults,
    );
}

fn quota(spec: &QuotaPolicy, faults: &mut Faults) {
    faults.at_most(16, spec.target_refs.len(), "spec.targetRefs");
    faults.at_most(128, spec.per_model_quotas.len(), "spec.perModelQuotas");
    for (index, own) in spec.per_model_quotas.iter().enumerate() {
        let field = format!("spec.perModelQuotas[{index}]");
        faults.filled(&own.model_name, format!("{field}.modelName"));
        for (at, rule) in own.quota.bucket_rules.iter().enumerate() {
            let field = format!("{field}.quota.bucketRules[{at}].clientSelectors");
            faults.at_most(8, rule.client_selectors.len(), field);
        }
    }
}

/// The longest path of a Unix socket that systems take.
const MAX_SOCKET_PATH: usize = 107;

fn backend(spec: &Backend, faults: &mut Faults) {
    faults.at_most(64, spec.endpoints.len(), "spec.endpoints");
    for (index, endpoint) in spec.endpoints.iter().enumerate() {
        let field = |name: &str| format!("spec.endpoints[{index}].{name}");
        let kinds = [
            endpoint.fqdn.is_some(),
            endpoint.ip.is_some(),
            endpoint.unix.is_some(),
        ];
        let one = kinds.iter().filter(|present| **present).count() == 1;
        let message = "exactly one of fqdn, ip and unix must be specified";
        faults.add_if(!one, format!("spec.endpoints[{index}]"), message);
        if let Some(fqdn) = &endpoint.fqdn {
            let name = fqdn.hostname.strip_suffix('.').unwrap_or(&fqdn.hostname);
            faults.add_if(
                !host::is_name(name),
                field("fqdn.hostname"),
                "expected a host name",
            );
            faults.port(fqdn.port, field("fqdn.port"));
        }
        if let Some(ip) = &endpoint.ip {
            let address: Result<std::net::IpAddr, _> = ip.address.parse();
            faults.add_if(address.is_err(), field("ip.address"), "expected an IP address");
            faults.port(ip.port, field("ip.port"));
        }
        if let Some(unix) = &endpoint.unix {
            faults.filled(&unix.path, field("unix.path"));
            faults.add_if(
                unix.path.len() > MAX_SOCKET_PATH,
                field("unix.path"),
                format!("must have at most {MAX_SOCKET_PATH} bytes"),
            );
        }
    }
}

fn tls(spec: &BackendTLSPolicy, faults: &mut Faults) {
    faults.add_if(
        spec.target_refs.is_empty(),
        "spec.targetRefs",
        "must have at least 1 item",
    );
    faults.at_most(16, spec.target_refs.len(), "spec.targetRefs");
    let validation = &spec.validation;
    let name = &validation.hostname;
    let named = host::is_name(name) || name.parse::<std::net::IpAddr>().is_ok();
    faults.add_if(!named, "spec.validation.hostname", "expected a host name");
    let system = validation
        .well_known_ca_certificates
        .as_deref()
        .filter(|value| !value.is_empty());
    for (index, name) in validation.subject_alt_names.iter().enumerate() {
        let as_meant = match name.kind {
            SubjectAltNameType::Hostname => name.hostname.as_deref().is_some_and(host::is_name),
            SubjectAltNameType::URI => name.uri.is_some(),
        };
        let field = format!("spec.validation.subjectAltNames[{index}]");
        faults.add_if(!as_meant, field, "the member that the type names is required");
    }
    let own = !validation.ca_certificate_refs.is_empty();
    let message = "must specify exactly one of caCertificateRefs and wellKnownCACertificates";
    faults.add_if(system.is_some() == own, "spec.validation", message);
    let unknown = system.is_some_and(|value| value != "System");
    faults.add_if(
        unknown,
        "spec.validation.wellKnownCACertificates",
        "unsupported value; supported: System",
    );
}
