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
    /// By Backend.
    pub(super) tls: BTreeMap<Key, Result<Tls, String>>,
    /// By AIServiceBackend.
    pub(super) quotas: BTreeMap<Key, Arc<Quota>>,
    /// The BackendTLSPolicies of Services, by the Service.
    encrypted: BTreeMap<Key, Key>,
}

impl Policies {
    /// Returns why a Service cannot be called in clear: a BackendTLSPolicy is for it, or may be.
    pub(super) fn encrypted_service(&self, resources: &Resources, service: &Key) -> Option<String> {
        let kind = "BackendTLSPolicy";
        if unreadable(resources, kind, &service.namespace) {
            return Some(format!("a {kind} of the namespace may not have been read"));
        }
        let policy = self.encrypted.get(service);
        policy.map(|key| format!("{kind} {key}: encryption of Services is not served by this version"))
    }
}

pub(super) fn resolve(resources: &Resources, notes: &mut Notes) -> Policies {
    Policies {
        credentials: credentials(resources, notes),
        tls: tls(resources, notes),
        quotas: metering::quotas(resources, notes),
        encrypted: encrypted(resources),
    }
}

fn encrypted(resources: &Resources) -> BTreeMap<Key, Key> {
    let mut encrypted = BTreeMap::new();
    for (key, policy) in &resources.backend_tls_policies {
        for target in &policy.spec.target_refs {
            if (target.group.as_str(), target.kind.as_str()) == ("", "Service") {
                let service = Key::new(&key.namespace, &target.name);
                encrypted.entry(service).or_insert_with(|| key.clone());
            }
        }
    }
    encrypted
}

fn credentials(resources: &Resources, notes: &mut Notes) -> BTreeMap<Key, Result<Credential, String>> {
    let kind = "BackendSecurityPolicy";
    let mut targeted: BTreeMap<Key, Vec<Key>> = BTreeMap::new();
    let mut credentials: BTreeMap<Key, Result<Credential, String>> = BTreeMap::new();
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
            match (reference.group.as_str(), reference.kind.as_str()) {
                (AI, "AIServiceBackend") if resources.ai_service_backends.contains_key(&to) => {
                    notes.used(kind, key);
                    if accepted {
                        targeted.entry(to.clone()).or_default().push(key.clone());
                    }
                    credentials.entry(to).or_insert_with(|| credential.clone());
                }
                (AI, "AIServiceBackend") => {
                    let message = format!("AIServiceBackend {to} does not exist");
                    notes.unattached(kind, key, Severity::Warning, field, message);
                }
                (INFERENCE, _) => {
                    let message = "InferencePools are not served by this version";
                    notes.unsupported(kind, key, Severity::Warning, field.as_str(), message);
                    notes.used(kind, key);
                }
                // Refused already: no other target is well-formed.
                (_, _) => {}
            }
        }
    }
    for (backend, policies) in targeted {
        if policies.len() > 1 {
            let names: Vec<String> = policies.iter().map(Key::to_string).collect();
            let message = format!("multiple BackendSecurityPolicies found: {}", names.join(", "));
            notes.refuse("AIServiceBackend", &backend, "Conflicted", None, &message);
            for policy in &policies {
                let message = format!("AIServiceBackend {backend} has other policies too, so none is used");
                notes.refuse(kind, policy, "Conflicted", "spec.targetRefs".to_owned(), message);
            }
            credentials.insert(backend, Err(message));
        }
    }
    credentials
}

fn tls(resources: &Resources, notes: &mut Notes) -> BTreeMap<Key, Result<Tls, String>> {
    let kind = "BackendTLSPolicy";
    let mut found: BTreeMap<Key, Result<Tls, String>> = BTreeMap::new();
    for (key, policy) in ordered(kind, &resources.backend_tls_policies, notes) {
        let honoured = encryption(resources, key, &policy.spec, notes);
        for (index, reference) in policy.spec.target_refs.iter().enumerate() {
            let field = format!("spec.targetRefs[{index}]");
            let to = Key::new(&key.namespace, &reference.name);
            if (reference.group.as_str(), reference.kind.as_str()) != (ENVOY, "Backend") {
                let message = format!(
                    "{} is not called by this version: only a Backend is",
                    reference.kind
                );
                notes.unsupported(kind, key, Severity::Warning, field.as_str(), message);
            } else if !resources.backends.contains_key(&to) {
                let message = format!("Backend {to} does not exist");
                notes.unattached(kind, key, Severity::Warning, field, message);
                continue;
            } else {
                match found.entry(to) {
                    Entry::Occupied(entry) => {
                        let message = format!("Backend {} has an older policy, which is used", entry.key());
                        notes.refuse(kind, key, "Conflicted", field, message);
                    }
                    Entry::Vacant(entry) if reference.section_name.is_some() => {
                        let message = "encryption of single ports is not served by this version";
                        notes.unsupported(kind, key, Severity::Error, field.as_str(), message);
                        entry.insert(Err(format!("{kind} {key}: {message}")));
                    }
                    Entry::Vacant(entry) => {
                        entry.insert(honoured.clone());
                    }
                }
            }
            notes.used(kind, key);
        }
    }
    found
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
    })
}
