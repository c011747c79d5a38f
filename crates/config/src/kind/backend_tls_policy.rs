//! BackendTLSPolicy: that calls to a Backend are encrypted, and whom the certificate must be for.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Opaque,
    reference::{LocalRef, TargetRef},
};

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
    #[schemars(length(max = 8))]
    pub ca_certificate_refs: Vec<LocalRef>,
    /// Names of which the certificate must be for one, in place of `hostname`.
    #[serde(default)]
    #[schemars(length(max = 5))]
    pub subject_alt_names: Vec<SubjectAltName>,
}

/// A name that a certificate may be for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct SubjectAltName {
    /// Which of the following members is set.
    #[serde(rename = "type")]
    pub kind: SubjectAltNameType,
    /// With type Hostname.
    pub hostname: Option<String>,
    /// With type URI.
    pub uri: Option<String>,
}

/// What kind of name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum SubjectAltNameType {
    /// That of a host.
    Hostname,
    /// A URI, such as a SPIFFE id.
    URI,
}
