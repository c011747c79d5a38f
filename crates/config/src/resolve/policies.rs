//! Which credential and which encryption each backend has, by the policies that target it.
//!
//! A policy that cannot be honoured is an error of its targets, not an absence: without it they would be
//! called with no credential, or in clear.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use policy::quota::Quota;

use super::{End, Notes, certificates, credential, in_place, metering, ordered, unreadable};
use crate::{
    Key, Resources, Severity,
    certificate::Authorities,
    credential::Credential,
    encryption::Terms,
    kind::{
        AI, BackendTLSPolicy, ENVOY, GATEWAY_API, INFERENCE, backend_tls_policy::SubjectAltNameType,
        reference::SecretRef,
    },
    snapshot::Tls,
};

/// What policies say of backends.
#[derive(Debug, Default)]
pub(super) struct Policies {
    /// By AIServiceBackend.
    pub(super) credentials: BTreeMap<Key, Result<Credential, String>>,
    /// By InferencePool.
    pub(super) pool_credentials: BTreeMap<Key, Result<Credential, String>>,
    /// By what a BackendTLSPolicy is for.
    tls: BTreeMap<Encrypted, Result<Tls, String>>,
    /// By AIServiceBackend.
    pub(super) quotas: BTreeMap<Key, Arc<Quota>>,
}

/// What is called encrypted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Encrypted {
    Backend(Key),
    /// The one port by this name, or all.
    Service(Key, Option<String>),
}

impl Policies {
    /// Returns how a Backend is called, if a policy says so.
    ///
    /// # Errors
    /// Why that cannot be honoured.
    pub(super) fn of_backend(&self, resources: &Resources, backend: &Key) -> Result<Option<Tls>, String> {
        let policy = self.tls.get(&Encrypted::Backend(backend.clone()));
        read(policy, resources, &backend.namespace)
    }

    /// Returns how a port of a Service is called, if a policy says so: one for the port goes before one for all.
    ///
    /// # Errors
    /// Why that cannot be honoured.
    pub(super) fn of_service(
        &self,
        resources: &Resources,
        service: &Key,
        port: u32,
    ) -> Result<Option<Tls>, String> {
        let declared = resources.services.get(service);
        let mut ports = declared.iter().flat_map(|service| &service.spec.ports);
        let name = ports
            .find(|own| own.port == port)
            .and_then(|own| own.name.clone());
        let of = |section| self.tls.get(&Encrypted::Service(service.clone(), section));
        let own = name.and_then(|name| of(Some(name)));
        read(own.or_else(|| of(None)), resources, &service.namespace)
    }
}

/// Returns what a policy says. Where there is none, one that was not read may be for the same.
fn read(
    policy: Option<&Result<Tls, String>>,
    resources: &Resources,
    namespace: &str,
) -> Result<Option<Tls>, String> {
    if policy.is_none() && unreadable(resources, "BackendTLSPolicy", namespace) {
        return Err("a BackendTLSPolicy of the namespace may not have been read".to_owned());
    }
    policy.cloned().transpose()
}

pub(super) fn resolve(resources: &Resources, notes: &mut Notes) -> Policies {
    let [credentials, pool_credentials] = credentials(resources, notes);
    Policies {
        credentials,
        pool_credentials,
        tls: tls(resources, notes),
        quotas: metering::quotas(resources, notes),
    }
}

/// What policies give to backends of one kind.
#[derive(Default)]
struct Given {
    /// The policies for each.
    targeted: BTreeMap<Key, Vec<Key>>,
    credentials: BTreeMap<Key, Result<Credential, String>>,
}

/// Returns what AIServiceBackends and what InferencePools are called with.
fn credentials(resources: &Resources, notes: &mut Notes) -> [BTreeMap<Key, Result<Credential, String>>; 2] {
    let kind = "BackendSecurityPolicy";
    let (mut backends, mut pools) = (Given::default(), Given::default());
    for (key, policy) in ordered(kind, &resources.backend_security_policies, notes) {
        let accepted = notes.accepts(kind, key);
        let credential = if accepted {
            credential::resolve(resources, key, &policy.spec, notes)
        } else {
            Err(format!("{kind} {key} is not accepted"))
        };
        if policy.spec.target_refs.is_empty() {
            notes.unattached(kind, key, Severity::Note, None, "the policy has no target");
        }
        for (index, reference) in policy.spec.target_refs.iter().enumerate() {
            let field = format!("spec.targetRefs[{index}]");
            let to = Key::new(&key.namespace, &reference.name);
            let (given, exists) = match (reference.group.as_str(), reference.kind.as_str()) {
                (AI, "AIServiceBackend") => (&mut backends, resources.ai_service_backends.contains_key(&to)),
                (INFERENCE, "InferencePool") => (&mut pools, resources.inference_pools.contains_key(&to)),
                // Refused already: no other target is well-formed.
                (_, _) => continue,
            };
            if !exists {
                let message = format!("{} {to} does not exist", reference.kind);
                notes.unattached(kind, key, Severity::Warning, field, message);
                continue;
            }
            notes.used(kind, key);
            if accepted {
                given.targeted.entry(to.clone()).or_default().push(key.clone());
            }
            given.credentials.entry(to).or_insert_with(|| credential.clone());
        }
    }
    [
        backends.settle("AIServiceBackend", notes),
        pools.settle("InferencePool", notes),
    ]
}

impl Given {
    /// Returns the credentials; a backend that several policies are for is not called.
    fn settle(mut self, of: &'static str, notes: &mut Notes) -> BTreeMap<Key, Result<Credential, String>> {
        let kind = "BackendSecurityPolicy";
        for (backend, policies) in self.targeted {
            if policies.len() > 1 {
                let names: Vec<String> = policies.iter().map(Key::to_string).collect();
                let message = format!("multiple BackendSecurityPolicies found: {}", names.join(", "));
                notes.refuse(of, &backend, "Conflicted", None, &message);
                for policy in &policies {
                    let message = format!("{of} {backend} has other policies too, so none is used");
                    notes.refuse(kind, policy, "Conflicted", "spec.targetRefs".to_owned(), message);
                }
                self.credentials.insert(backend, Err(message));
            }
        }
        self.credentials
    }
}

fn tls(resources: &Resources, notes: &mut Notes) -> BTreeMap<Encrypted, Result<Tls, String>> {
    let kind = "BackendTLSPolicy";
    let mut found: BTreeMap<Encrypted, Result<Tls, String>> = BTreeMap::new();
    for (key, policy) in ordered(kind, &resources.backend_tls_policies, notes) {
        let honoured = encryption(resources, key, &policy.spec, notes);
        for (index, reference) in policy.spec.target_refs.iter().enumerate() {
            let field = format!("spec.targetRefs[{index}]");
            let to = Key::new(&key.namespace, &reference.name);
            let section = reference.section_name.clone();
            let is_backend = match (reference.group.as_str(), reference.kind.as_str()) {
                (ENVOY, "Backend") => true,
                ("", "Service") => false,
                (_, other) => {
                    let message =
                        format!("{other} is not called by this version: only Backends and Services are");
                    notes.unsupported(kind, key, Severity::Warning, field.as_str(), message);
                    notes.used(kind, key);
                    continue;
                }
            };
            if let Some(message) = missing(resources, is_backend, &to, section.as_deref()) {
                notes.unattached(kind, key, Severity::Warning, field, message);
                continue;
            }
            notes.used(kind, key);
            let of_one_port = is_backend && section.is_some();
            let place = if is_backend {
                Encrypted::Backend(to.clone())
            } else {
                Encrypted::Service(to.clone(), section)
            };
            match found.entry(place) {
                Entry::Occupied(_) => {
                    let message = format!("{} {to} has an older policy, which is used", reference.kind);
                    notes.refuse(kind, key, "Conflicted", field, message);
                }
                Entry::Vacant(entry) if of_one_port => {
                    let message = "encryption of single ports is not served by this version";
                    notes.unsupported(kind, key, Severity::Error, field.as_str(), message);
                    entry.insert(Err(format!("{kind} {key}: {message}")));
                }
                Entry::Vacant(entry) => {
                    entry.insert(honoured.clone());
                }
            }
        }
    }
    found
}

/// Returns what is not there that a policy is for.
fn missing(resources: &Resources, is_backend: bool, to: &Key, section: Option<&str>) -> Option<String> {
    if is_backend {
        let there = resources.backends.contains_key(to);
        return (!there).then(|| format!("Backend {to} does not exist"));
    }
    let Some(service) = resources.services.get(to) else {
        return Some(format!("Service {to} does not exist"));
    };
    let section = section?;
    let mut ports = service.spec.ports.iter();
    let there = ports.any(|port| port.name.as_deref() == Some(section));
    (!there).then(|| format!("port {section} of Service {to} does not exist"))
}

/// Returns what the policy demands, or why it cannot be honoured.
fn encryption(
    resources: &Resources,
    key: &Key,
    policy: &BackendTLSPolicy,
    notes: &mut Notes,
) -> Result<Tls, String> {
    let kind = "BackendTLSPolicy";
    if !notes.accepts(kind, key) {
        return Err(format!("{kind} {key} is not accepted"));
    }
    let validation = &policy.validation;
    let names = &validation.subject_alt_names;
    let uris = names.iter().any(|name| name.kind == SubjectAltNameType::URI);
    let unsupported = [
        (uris, "spec.validation.subjectAltNames"),
        (policy.options.is_some(), "spec.options"),
    ];
    for (present, field) in unsupported {
        if present {
            let message = "not served by this version: the targets are not called";
            notes.unsupported(kind, key, Severity::Error, field, message);
            return Err(format!("{kind} {key}: {field} is not served by this version"));
        }
    }
    let from = End {
        group: GATEWAY_API,
        kind,
        key,
    };
    let references: Vec<SecretRef> = validation.ca_certificate_refs.iter().map(in_place).collect();
    let texts = certificates::texts(resources, from, &references, "ca.crt", notes);
    let texts = texts.and_then(|texts| {
        for (index, text) in texts.iter().enumerate() {
            Authorities::parse(text).map_err(|message| (index, message))?;
        }
        Ok(texts)
    });
    let texts = texts.map_err(|(index, message)| {
        let field = format!("spec.validation.caCertificateRefs[{index}]");
        notes.unresolved(kind, key, "InvalidCACertificateRef", field, &message);
        format!("{kind} {key}: {message}")
    })?;
    // Each was read for itself, so that all together can be.
    let authorities = (!texts.is_empty()).then(|| Authorities::parse(&texts.join("\n")));
    Ok(Tls {
        hostname: validation.hostname.to_ascii_lowercase(),
        authorities: authorities.transpose()?,
        names: names.iter().filter_map(|name| name.hostname.clone()).collect(),
        certificate: None,
        protocols: Vec::new(),
        terms: Terms::default(),
        unverified: false,
    })
}
