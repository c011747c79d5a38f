//! Backend: network addresses.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    backend_tls_policy::SubjectAltName,
    reference::{LocalRef, SecretRef},
};

/// What a Backend says.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "BackendSpec")]
pub struct Backend {
    /// `Endpoints` by default, or `DynamicResolver`.
    #[serde(rename = "type")]
    pub kind: Option<BackendType>,
    /// The addresses.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub endpoints: Vec<Endpoint>,
    /// Protocols of the application.
    #[serde(default)]
    pub app_protocols: Vec<String>,
    /// Whether the backend serves only where others fail; a reference's `priority` says it better.
    pub fallback: Option<bool>,
    /// How calls are encrypted.
    pub tls: Option<BackendTls>,
}

/// How a Backend's addresses are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum BackendType {
    /// They are written down.
    Endpoints,
    /// They are taken from the request.
    DynamicResolver,
}

/// One address: exactly one of `fqdn`, `ip` and `unix`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// A host name.
    pub fqdn: Option<Fqdn>,
    /// An IP address.
    pub ip: Option<Ip>,
    /// A Unix socket.
    pub unix: Option<Unix>,
    /// The host name to use with the address.
    pub hostname: Option<String>,
    /// Where the endpoint is.
    pub zone: Option<String>,
}

/// A host name and port.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Fqdn {
    /// The host name.
    pub hostname: String,
    /// The port.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u32,
}

/// An IP address and port.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ip {
    /// The address.
    pub address: String,
    /// The port.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u32,
}

/// A Unix socket.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Unix {
    /// Its path.
    pub path: String,
}

/// How calls to a Backend are encrypted.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackendTls {
    /// `System` for the authorities that the system trusts.
    #[serde(rename = "wellKnownCACertificates")]
    pub well_known_ca_certificates: Option<String>,
    /// Authorities of one's own.
    #[serde(default)]
    pub ca_certificate_refs: Vec<LocalRef>,
    /// Whether certificates are not checked at all.
    pub insecure_skip_verify: Option<bool>,
    /// The name that is asked for, and that the certificate must be for.
    pub sni: Option<String>,
    /// A Secret with the certificate that the upstream is shown, and its key.
    pub client_certificate_ref: Option<SecretRef>,
    /// Other names that the certificate may be for.
    #[serde(default)]
    pub subject_alt_names: Vec<SubjectAltName>,
    /// The oldest version.
    pub min_version: Option<String>,
    /// The newest version.
    pub max_version: Option<String>,
    /// Ciphers.
    #[serde(default)]
    pub ciphers: Vec<String>,
    /// Curves.
    #[serde(default)]
    pub ecdh_curves: Vec<String>,
    /// Signature algorithms.
    #[serde(default)]
    pub signature_algorithms: Vec<String>,
    /// Protocols that are offered.
    #[serde(default)]
    pub alpn_protocols: Vec<String>,
}
