//! Which backends can be called, and how.

use std::{collections::BTreeMap, fmt::Display, sync::Arc};

use llm::{
    Site,
    provider::{Abilities, Azure, CredentialKind, Flags, Provider, Vertex, VertexClaude},
};
use policy::{body::Body, cost::prices::Prices, headers::Headers};

use super::{
    End, Notes, certificates, in_place, permitted,
    policies::Policies,
    schemas::{self, Serving},
    services::{self, Services},
    target,
    terms::WrittenTerms,
    unreadable,
};
use crate::{
    Key, Resources, Severity,
    certificate::Authorities,
    credential::{Credential, Scheme, Source},
    kind::{
        AIServiceBackend, Backend, ENVOY,
        ai_service_backend::{ApiName, ApiSchema},
        backend::{BackendTls, BackendType},
        backend_tls_policy::SubjectAltName,
        reference::{BackendObjectRef, SecretRef},
    },
    resources::Declared,
    snapshot::{self, Endpoint, Protocol, Tls},
};

/// Every AIServiceBackend, resolved.
pub(super) type Backends = BTreeMap<Key, Arc<Service>>;

/// An AIServiceBackend, resolved.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Service {
    /// How it is called, or why it cannot be.
    pub(super) backend: Result<Arc<snapshot::Backend>, String>,
    /// Its header changes.
    pub(super) headers: Headers,
    /// Its body changes.
    pub(super) body: Body,
}

/// Leads from references to network addresses.
pub(super) struct Reach<'r> {
    pub(super) resources: &'r Resources,
    pub(super) services: Services<'r>,
    pub(super) policies: &'r Policies,
}

pub(super) fn resolve(reach: &Reach<'_>, notes: &mut Notes) -> Backends {
    let resources = reach.resources;
    for (key, backend) in &resources.backends {
        remark(key, &backend.spec, notes);
    }
    services::remark(resources, notes);
    let services = resources.ai_service_backends.iter();
    services
        .map(|(key, declared)| {
            let service = Service {
                backend: service(reach, key, declared, notes).map(Arc::new),
                headers: headers(key, &declared.spec, notes),
                body: body(&declared.spec),
            };
            (key.clone(), Arc::new(service))
        })
        .collect()
}

fn service(
    reach: &Reach<'_>,
    key: &Key,
    declared: &Declared<AIServiceBackend>,
    notes: &mut Notes,
) -> Result<snapshot::Backend, String> {
    let spec = &declared.spec;
    if !notes.accepts(KIND, key) {
        return Err(format!("{KIND} {key} is not accepted"));
    }
    let serving = serving(key, declared, notes).map_err(|message| format!("{KIND} {key}: {message}"))?;
    let backend = (key, declared);
    let flags = (schemas::FLAGS, "InvalidFlags");
    let flags = annotated(backend, flags, Flags::parse, notes)?;
    let abilities = (schemas::ABILITIES, "InvalidCapabilities");
    let abilities = annotated(backend, abilities, Abilities::parse, notes)?;
    let prices = (schemas::PRICES, "InvalidPrices");
    let prices = annotated(backend, prices, Prices::parse, notes)?;
    let site = Site {
        flags: flags.unwrap_or(Flags::NONE),
        abilities: abilities.unwrap_or(Abilities::NONE),
        ..site(key, &spec.api, notes)
    };
    // Grants from before AIServiceBackends were known name the route that the Gateway API knows.
    let from = [End::service(key), End::http_route(key)];
    let resolved = reach
        .reach(&from, &key.namespace, &spec.backend_ref, notes)
        .and_then(|(endpoints, tls)| {
            let credential = credential_of(reach.resources, key, &reach.policies.credentials)?;
            Ok((endpoints, tls, credential))
        });
    match resolved {
        Ok((endpoints, tls, credential)) => {
            let host = endpoints.first().map(|endpoint| endpoint.host.as_str());
            let provider = serving.at(host.unwrap_or_default());
            Ok(snapshot::Backend {
                id: Arc::from(key.to_string()),
                provider,
                site: placed(site, credential.as_ref(), provider),
                endpoints,
                is_sticky: Place::of(&spec.backend_ref, &key.namespace)
                    .is_ok_and(|place| reach.is_sticky(&place)),
                tls,
                credential: credential.map(|credential| dressed(credential, provider)),
                quota: reach.policies.quotas.get(key).cloned(),
                prices: prices.map(Arc::new),
                picker: None,
            })
        }
        Err((reason, message)) => {
            notes.unresolved(KIND, key, reason, None, &message);
            Err(format!("{KIND} {key}: {message}"))
        }
    }
}

/// Returns what the backend's schema stands for; says why if it cannot be served.
fn serving(key: &Key, declared: &Declared<AIServiceBackend>, notes: &mut Notes) -> Result<Serving, String> {
    let name = declared.spec.api.name;
    let annotation = declared.metadata.annotations.get(schemas::PROVIDER);
    schemas::declared(name, annotation.map(String::as_str)).inspect_err(|message| {
        let field = format!("metadata.annotations[{}]", schemas::PROVIDER);
        notes.refuse(KIND, key, "UnknownProvider", field, message);
    })
}

/// Returns what the annotation `name` declares, as `parse` reads it; says why, under `reason`, if it cannot be understood.
fn annotated<T, E: Display>(
    (key, declared): (&Key, &Declared<AIServiceBackend>),
    (name, reason): (&str, &'static str),
    parse: fn(&str) -> Result<T, E>,
    notes: &mut Notes,
) -> Result<Option<T>, String> {
    let Some(written) = declared.metadata.annotations.get(name) else {
        return Ok(None);
    };
    let read = parse(written).map_err(|error| error.to_string());
    let read = read.inspect_err(|message| {
        let field = format!("metadata.annotations[{name}]");
        notes.refuse(KIND, key, reason, field, message);
    });
    read.map(Some)
        .map_err(|message| format!("{KIND} {key}: {message}"))
}

/// Returns `site` in the project and region of `credential`, where `provider` has such places.
fn placed(site: Site, credential: Option<&Credential>, provider: &dyn Provider) -> Site {
    let has_projects = [Vertex.id(), VertexClaude.id()].contains(&provider.id());
    let prefix = credential.and_then(|credential| credential.prefix.clone());
    Site {
        prefix: site.prefix.or(prefix.filter(|_| has_projects)),
        ..site
    }
}

/// Returns `credential` as `provider` wants a key: Gemini's own API takes one in no `authorization`.
fn dressed(credential: Credential, provider: &dyn Provider) -> Credential {
    let key = matches!(credential.source, Some(Source::Key(_)) | None);
    let scheme = match (credential.scheme, provider.credential()) {
        (Scheme::Header(CredentialKind::Bearer), CredentialKind::XGoogApiKey) if key => {
            Scheme::Header(CredentialKind::XGoogApiKey)
        }
        (scheme, _) => scheme,
    };
    Credential { scheme, ..credential }
}

/// Why a backend cannot be called: in one word and in a sentence.
pub(super) type Trouble = (&'static str, String);

/// What a reference to network addresses means.
#[derive(Clone, Debug)]
pub(super) enum Place {
    Backend(Key),
    /// With its port.
    Service(Key, u32),
}

impl Place {
    /// Returns what `reference` means in the namespace `home`.
    pub(super) fn of(reference: &BackendObjectRef, home: &str) -> Result<Self, Trouble> {
        let to = target(reference.namespace.as_deref(), &reference.name, home);
        let group = reference.group.as_deref().unwrap_or_default();
        let kind = reference.kind.as_deref().unwrap_or("Service");
        match (group, kind, reference.port) {
            (ENVOY, "Backend", _) => Ok(Place::Backend(to)),
            ("", "Service", Some(port)) => Ok(Place::Service(to, port)),
            ("", "Service", None) => Err(("InvalidKind", format!("Service {to} is named without a port"))),
            _ => Err((
                "InvalidKind",
                format!("{kind} {to} is nothing that can be called"),
            )),
        }
    }

    /// Returns a name that no other place has.
    pub(super) fn id(&self) -> String {
        match self {
            Place::Backend(key) => format!("backend/{key}"),
            Place::Service(key, port) => format!("service/{key}:{port}"),
        }
    }
}

impl Reach<'_> {
    /// Checks that one of `from` may refer to `to`.
    pub(super) fn permit(&self, from: &[End<'_>], to: &Place, notes: &mut Notes) -> Result<(), Trouble> {
        let (end, kind, key) = match to {
            Place::Backend(key) => (End::backend(key), "Backend", key),
            Place::Service(key, _) => (End::cluster_service(key), "Service", key),
        };
        let granted = from
            .iter()
            .any(|from| permitted(self.resources, *from, end, notes));
        if granted {
            return Ok(());
        }
        let message = format!("no ReferenceGrant allows the reference to {kind} {key}");
        Err(("RefNotPermitted", message))
    }

    /// Returns where calls go and how they are encrypted.
    pub(super) fn reach(
        &self,
        from: &[End<'_>],
        home: &str,
        reference: &BackendObjectRef,
        notes: &mut Notes,
    ) -> Result<(Vec<Endpoint>, Option<Tls>), Trouble> {
        let to = Place::of(reference, home)?;
        self.permit(from, &to, notes)?;
        self.endpoints(&to, notes)
    }

    /// Returns whether requests of one client to a place go to one of its endpoints.
    pub(super) fn is_sticky(&self, to: &Place) -> bool {
        match to {
            Place::Backend(_) => false,
            Place::Service(key, _) => self.services.is_sticky(key),
        }
    }

    /// Returns where calls to a place go and how they are encrypted.
    pub(super) fn endpoints(
        &self,
        to: &Place,
        notes: &mut Notes,
    ) -> Result<(Vec<Endpoint>, Option<Tls>), Trouble> {
        match to {
            Place::Backend(to) => self.backend(to, notes),
            Place::Service(to, port) => {
                let endpoints = self.services.endpoints(to, *port, notes);
                let endpoints = endpoints.map_err(|message| ("BackendNotFound", message))?;
                let tls = self.policies.of_service(self.resources, to, *port);
                Ok((endpoints, tls.map_err(|message| ("InvalidTLS", message))?))
            }
        }
    }

    fn backend(&self, to: &Key, notes: &mut Notes) -> Result<(Vec<Endpoint>, Option<Tls>), Trouble> {
        let Some(backend) = self.resources.backends.get(to) else {
            return Err(("BackendNotFound", format!("Backend {to} does not exist")));
        };
        notes.used("Backend", to);
        if !notes.accepts("Backend", to) {
            return Err(("InvalidBackend", format!("Backend {to} is not accepted")));
        }
        let endpoints = endpoints(&backend.spec);
        let endpoints = endpoints.map_err(|reason| ("InvalidBackend", format!("Backend {to}: {reason}")))?;
        let tls = tls(
            self.resources,
            to,
            &backend.spec,
            &endpoints,
            self.policies,
            notes,
        );
        let tls = tls.map_err(|message| ("InvalidTLS", message))?;
        Ok((endpoints, tls))
    }
}

/// Returns what calls carry to the backend `key`, of those that policies give to backends of its kind.
///
/// # Errors
/// Why that cannot be honoured.
pub(super) fn credential_of(
    resources: &Resources,
    key: &Key,
    credentials: &BTreeMap<Key, Result<Credential, String>>,
) -> Result<Option<Credential>, Trouble> {
    match credentials.get(key) {
        Some(Ok(credential)) => Ok(Some(credential.clone())),
        Some(Err(message)) => Err(("InvalidCredential", message.clone())),
        None if unreadable(resources, "BackendSecurityPolicy", &key.namespace) => {
            let message = "a BackendSecurityPolicy of the namespace may not have been read";
            Err(("InvalidCredential", message.to_owned()))
        }
        None => Ok(None),
    }
}

/// Returns where the API lies. Manifests from before `prefix` said it in `version`, so that is understood
/// where `prefix` is absent.
fn site(key: &Key, schema: &ApiSchema, notes: &mut Notes) -> Site {
    let version = schema.version.as_deref().filter(|version| !version.is_empty());
    let prefixed = matches!(schema.name, ApiName::OpenAI | ApiName::Anthropic);
    let written = match (&schema.prefix, version) {
        (Some(prefix), _) => Some(prefix.as_str()),
        (None, Some(version)) if prefixed => {
            let message = format!("taken as the prefix of paths; write \"prefix: {version}\"");
            notes.warn(KIND, key, "VersionIsPrefix", "spec.schema.version", message);
            Some(version)
        }
        (None, _) => None,
    };
    if schema.name == ApiName::AzureOpenAI && version.is_none() {
        let message = format!("is absent; {} is taken", Azure::VERSION);
        notes.warn(KIND, key, "VersionMissing", "spec.schema.version", message);
    }
    Site {
        prefix: written.map(|written| written.trim_matches('/').to_owned()),
        version: version.map(str::to_owned),
        flags: Flags::NONE,
        abilities: Abilities::NONE,
    }
}

pub(super) fn endpoints(backend: &Backend) -> Result<Vec<Endpoint>, String> {
    let resolver = match backend.kind {
        None | Some(BackendType::Endpoints) => false,
        Some(BackendType::DynamicResolver) => true,
    };
    if resolver {
        return Err("type DynamicResolver is not served by this version".to_owned());
    }
    let is_http2 = backend
        .app_protocols
        .iter()
        .any(|name| H2C.contains(&name.as_str()));
    let protocol = if is_http2 {
        Protocol::Http2
    } else {
        Protocol::Http1
    };
    let endpoints = backend.endpoints.iter().map(|endpoint| {
        let (host, port) = match (&endpoint.fqdn, &endpoint.ip, &endpoint.unix) {
            (Some(fqdn), None, None) => (
                fqdn.hostname.trim_end_matches('.').to_ascii_lowercase(),
                fqdn.port,
            ),
            (None, Some(ip), None) => (ip.address.clone(), ip.port),
            (None, None, Some(unix)) => {
                return Ok(Endpoint {
                    protocol,
                    ..Endpoint::at_socket(unix.path.as_str())
                });
            }
            _ => return Err("an endpoint has exactly one of fqdn, ip and unix".to_owned()),
        };
        let port = u16::try_from(port).map_err(|_| "a port is out of range".to_owned())?;
        Ok(Endpoint {
            protocol,
            ..Endpoint::new(host, port)
        })
    });
    let endpoints: Vec<Endpoint> = endpoints.collect::<Result<_, String>>()?;
    if endpoints.is_empty() {
        return Err("no endpoint is declared".to_owned());
    }
    Ok(endpoints)
}

/// Returns how calls are encrypted; an error where they are to be and cannot be as declared.
pub(super) fn tls(
    resources: &Resources,
    key: &Key,
    backend: &Backend,
    endpoints: &[Endpoint],
    policies: &Policies,
    notes: &mut Notes,
) -> Result<Option<Tls>, String> {
    let policy = policies.of_backend(resources, key)?;
    let Some(own) = &backend.tls else {
        return Ok(policy);
    };
    if let Some(field) = unsupported_tls(own) {
        return Err(format!(
            "Backend {key}: spec.tls.{field} is not served by this version"
        ));
    }
    let terms = written(own);
    if let Some((member, message)) = terms.faults().into_iter().next() {
        return Err(format!("Backend {key}: spec.tls.{member}: {message}"));
    }
    // A policy says whom to trust; what the Backend is shown and offered is its own.
    let trusted = match policy {
        Some(policy) => policy,
        None => trusted(resources, key, own, endpoints, notes)?,
    };
    let certificate = own.client_certificate_ref.as_ref().map(|reference| {
        let found = certificates::certificate(resources, End::backend(key), reference, notes);
        found.map_err(|(reason, message)| {
            let field = "spec.tls.clientCertificateRef".to_owned();
            notes.unresolved("Backend", key, reason, field, &message);
            format!("Backend {key}: {message}")
        })
    });
    Ok(Some(Tls {
        certificate: certificate.transpose()?,
        protocols: own.alpn_protocols.clone(),
        terms: terms.terms(),
        ..trusted
    }))
}

/// Returns what a Backend writes of the terms of encryption.
fn written(tls: &BackendTls) -> WrittenTerms<'_> {
    WrittenTerms {
        oldest: tls.min_version.as_deref(),
        newest: tls.max_version.as_deref(),
        ciphers: &tls.ciphers,
        groups: &tls.ecdh_curves,
    }
}

/// Returns whose certificates a Backend itself says to be trusted.
fn trusted(
    resources: &Resources,
    key: &Key,
    tls: &BackendTls,
    endpoints: &[Endpoint],
    notes: &mut Notes,
) -> Result<Tls, String> {
    let system = tls.well_known_ca_certificates.as_deref() == Some("System");
    if !system && tls.ca_certificate_refs.is_empty() {
        return Err(format!("Backend {key}: spec.tls names no authorities"));
    }
    let references: Vec<SecretRef> = tls.ca_certificate_refs.iter().map(in_place).collect();
    let texts = certificates::texts(resources, End::backend(key), &references, "ca.crt", notes);
    let authorities = texts.and_then(|texts| match texts.is_empty() {
        true => Ok(None),
        false => Authorities::parse(&texts.join("\n"))
            .map(Some)
            .map_err(|message| (0, message)),
    });
    let authorities = authorities.map_err(|(index, message)| {
        let field = format!("spec.tls.caCertificateRefs[{index}]");
        notes.unresolved("Backend", key, "InvalidCACertificateRef", field, &message);
        format!("Backend {key}: {message}")
    })?;
    if tls.sni.is_none() && endpoints.iter().any(|endpoint| endpoint.socket.is_some()) {
        return Err(format!(
            "Backend {key}: spec.tls.sni is required with a Unix socket"
        ));
    }
    let mut hosts = endpoints.iter().map(|endpoint| &endpoint.host);
    let hostname = match (&tls.sni, hosts.next()) {
        (Some(sni), _) => sni.to_ascii_lowercase(),
        (None, Some(first)) if hosts.all(|host| host == first) => first.clone(),
        (None, _) => {
            return Err(format!(
                "Backend {key}: spec.tls.sni is required with several hosts"
            ));
        }
    };
    let names = tls.subject_alt_names.iter();
    Ok(Tls {
        authorities,
        names: names.filter_map(|name| name.hostname.clone()).collect(),
        ..Tls::to(hostname)
    })
}

/// Returns the first member that this version cannot honour.
fn unsupported_tls(tls: &BackendTls) -> Option<&'static str> {
    let uri = |name: &SubjectAltName| name.hostname.is_none();
    [
        (tls.insecure_skip_verify == Some(true), "insecureSkipVerify"),
        (tls.subject_alt_names.iter().any(uri), "subjectAltNames"),
        (!tls.signature_algorithms.is_empty(), "signatureAlgorithms"),
        (
            tls.alpn_protocols
                .iter()
                .any(|protocol| !["h2", "http/1.1"].contains(&protocol.as_str())),
            "alpnProtocols",
        ),
    ]
    .into_iter()
    .find_map(|(present, field)| present.then_some(field))
}

/// Says what a Backend declares and this version does not do.
fn remark(key: &Key, backend: &Backend, notes: &mut Notes) {
    let mut unsupported = |severity, field: &str, message: &str| {
        notes.unsupported("Backend", key, severity, field, message);
    };
    match backend.kind {
        Some(BackendType::DynamicResolver) => {
            unsupported(
                Severity::Error,
                "spec.type",
                "addresses are not taken from requests by this version",
            );
        }
        Some(BackendType::Endpoints) | None => {}
    }
    for (index, name) in backend.app_protocols.iter().enumerate() {
        // WebSocket is spoken wherever a client asks for it.
        if !H2C.iter().chain(&WEB_SOCKET).any(|known| known == name) {
            let message = format!("\"{name}\" has no effect");
            unsupported(
                Severity::Warning,
                &format!("spec.appProtocols[{index}]"),
                &message,
            );
        }
    }
    if backend.fallback == Some(true) {
        let message = "has no effect; use the priority of the route's references";
        unsupported(Severity::Warning, "spec.fallback", message);
    }
    if let Some(field) = backend.tls.as_ref().and_then(unsupported_tls) {
        let message = "not served by this version: the Backend is not called";
        unsupported(Severity::Error, &format!("spec.tls.{field}"), message);
    }
    for (member, message) in backend.tls.iter().flat_map(|tls| written(tls).faults()) {
        let field = format!("spec.tls.{member}");
        unsupported(
            Severity::Error,
            &field,
            &format!("{message}: the Backend is not called"),
        );
    }
    for (index, endpoint) in backend.endpoints.iter().enumerate() {
        if endpoint.zone.is_some() {
            unsupported(
                Severity::Note,
                &format!("spec.endpoints[{index}].zone"),
                "zones have no effect",
            );
        }
        if endpoint.hostname.is_some() {
            let message = "has no effect: the address is the host name";
            unsupported(
                Severity::Warning,
                &format!("spec.endpoints[{index}].hostname"),
                message,
            );
        }
    }
}

/// Returns the backend's own header changes, which were validated.
fn headers(key: &Key, spec: &AIServiceBackend, notes: &mut Notes) -> Headers {
    let Some(Ok((headers, reserved))) = spec.header_mutation.as_ref().map(Headers::parse) else {
        return Headers::default();
    };
    for name in reserved {
        let message = format!("\"{name}\" belongs to the gateway and is left alone");
        notes.warn(KIND, key, "ReservedHeader", "spec.headerMutation", message);
    }
    headers
}

fn body(spec: &AIServiceBackend) -> Body {
    let body = spec.body_mutation.as_ref().map(Body::parse);
    body.and_then(Result::ok).unwrap_or_default()
}

const KIND: &str = "AIServiceBackend";

/// The names of HTTP/2 in clear.
const H2C: [&str; 2] = ["gateway.envoyproxy.io/h2c", "kubernetes.io/h2c"];

/// The names of WebSocket.
const WEB_SOCKET: [&str; 4] = [
    "gateway.envoyproxy.io/ws",
    "gateway.envoyproxy.io/wss",
    "kubernetes.io/ws",
    "kubernetes.io/wss",
];
