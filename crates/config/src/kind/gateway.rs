//! Gateway: the ports that are listened on.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Opaque, gateway_class::Infrastructure, reference::SecretRef, selector::LabelSelector};

/// What a Gateway says.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "GatewaySpec")]
pub struct Gateway {
    /// The GatewayClass.
    pub gateway_class_name: String,
    /// What is listened on.
    #[schemars(length(min = 1, max = 64))]
    pub listeners: Vec<Listener>,
    /// Addresses asked for.
    #[serde(default)]
    pub addresses: Vec<Opaque>,
    /// Where the Gateway runs.
    pub infrastructure: Option<Infrastructure>,
    /// TLS towards backends and clients for the whole Gateway.
    pub tls: Option<GatewayTls>,
    /// TLS towards backends, in older versions of the API.
    #[serde(rename = "backendTLS")]
    pub backend_tls: Option<GatewayBackendTls>,
    /// Which ListenerSets may add listeners.
    pub allowed_listeners: Option<Opaque>,
    /// Which scopes the Gateway is the default of.
    pub default_scope: Option<String>,
}

/// TLS towards backends and clients for the whole Gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct GatewayTls {
    /// Towards backends.
    pub backend: Option<GatewayBackendTls>,
    /// Towards clients.
    pub frontend: Option<FrontendTls>,
}

/// TLS towards backends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayBackendTls {
    /// A Secret with the certificate that backends are shown, and its key.
    pub client_certificate_ref: Option<SecretRef>,
}

/// TLS towards clients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FrontendTls {
    /// At every port.
    pub default: Option<FrontendPortTls>,
    /// At single ports, in place of that.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub per_port: Vec<PortTls>,
}

/// TLS towards clients at a port.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct PortTls {
    /// The port.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u32,
    /// How TLS ends there.
    pub tls: FrontendPortTls,
}

/// How TLS ends at a port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct FrontendPortTls {
    /// How the certificates of clients are checked.
    pub validation: Option<FrontendValidation>,
}

/// How the certificates of clients are checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FrontendValidation {
    /// ConfigMaps and Secrets with the authorities that sign them, under `ca.crt`.
    #[serde(default)]
    #[schemars(length(min = 1, max = 8))]
    pub ca_certificate_refs: Vec<SecretRef>,
    /// `AllowValidOnly` by default.
    pub mode: Option<String>,
}

/// One port with a protocol and a host name.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Listener {
    /// Unique in the Gateway; routes name it as `sectionName`.
    pub name: String,
    /// `example.com` or `*.example.com`; every host if absent.
    pub hostname: Option<String>,
    /// The port.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u32,
    /// `HTTP`, `HTTPS`, `TLS`, `TCP` or `UDP`.
    pub protocol: String,
    /// How TLS ends here.
    pub tls: Option<ListenerTls>,
    /// Which routes may attach.
    pub allowed_routes: Option<AllowedRoutes>,
}

/// How TLS ends at a listener.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListenerTls {
    /// `Terminate` by default.
    pub mode: Option<TlsMode>,
    /// Secrets with a certificate and its key.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub certificate_refs: Vec<SecretRef>,
    /// How the certificates of clients are checked, in older versions of the API.
    pub frontend_validation: Option<FrontendValidation>,
    /// Options of an implementation.
    pub options: Option<Opaque>,
}

/// Where TLS ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum TlsMode {
    /// Here.
    Terminate,
    /// At the backend.
    Passthrough,
}

/// Which routes may attach to a listener.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AllowedRoutes {
    /// Of which namespaces.
    pub namespaces: Option<RouteNamespaces>,
    /// Of which kinds; every kind that fits the protocol if empty.
    #[serde(default)]
    pub kinds: Vec<RouteKind>,
}

/// The namespaces whose routes may attach.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteNamespaces {
    /// `Same` by default.
    pub from: Option<From>,
    /// The labels of the namespaces, with `Selector`.
    pub selector: Option<LabelSelector>,
}

/// Where routes may come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum From {
    /// Every namespace.
    All,
    /// The Gateway's own.
    Same,
    /// Namespaces with certain labels.
    Selector,
    /// None.
    None,
}

/// A kind of route.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteKind {
    /// Its API group; that of the Gateway API by default.
    pub group: Option<String>,
    /// Its name.
    pub kind: String,
}
