//! BackendTLSPolicy: that calls to a Backend are encrypted, and whom the certificate must be for.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Opaque, reference::TargetRef};

/// What a BackendTLSPolicy says.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "BackendTLSPolicySpec")]
pub struct BackendTLSPolicy {
    /// The Backends, of the same namespace.
    #[schemars(length(min = 1, max = 16))]
    pub target_refs: Vec<TargetRef>,
    /// How certificates are checked.
    pub validation: Validation,
    /// Options of an implementation.
    pub options: Option<Opaque>,
}

/// How certificates are checked.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Validation {
    /// The name that is asked for, and that the certificate must be for.
    pub hostname: String,
    /// `System` for the authorities that the system trusts.
    #[serde(rename = "wellKnownCACertificates")]
    pub well_known_ca_certificates: Option<String>,
    /// Authorities of one's own.
    #[serde(default)]
    pub ca_certificate_refs: Vec<Opaque>,
    /// Other names that the certificate may be for.
    #[serde(default)]
    pub subject_alt_names: Vec<Opaque>,
}
