//! EnvoyProxy: how the proxy of a Gateway runs; here, how its access log looks.

use policy::access_log::spec::AccessLog;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Opaque;

/// What an EnvoyProxy says. Most of it is about Envoy's own process, of which there is none.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "EnvoyProxySpec")]
pub struct EnvoyProxy {
    /// What is told of requests.
    pub telemetry: Option<Telemetry>,
    /// Where Envoy runs.
    pub provider: Option<Opaque>,
    /// What Envoy says about itself.
    pub logging: Option<Opaque>,
    /// Envoy's own configuration.
    pub bootstrap: Option<Opaque>,
    /// Envoy's threads.
    pub concurrency: Option<Opaque>,
    /// Envoy's arguments.
    #[serde(default)]
    pub extra_args: Vec<String>,
    /// How Envoy ends.
    pub shutdown: Option<Opaque>,
    /// Whether endpoints or Services are called.
    pub routing_type: Option<String>,
    /// Whether all Gateways of a class share a proxy.
    pub merge_gateways: Option<bool>,
    /// The order of Envoy's filters.
    #[serde(default)]
    pub filter_order: Vec<Opaque>,
    /// TLS towards backends.
    #[serde(rename = "backendTLS")]
    pub backend_tls: Option<Opaque>,
    /// Which addresses are listened on.
    pub ip_family: Option<String>,
    /// Whether routes keep the order in which they are written.
    pub preserve_route_order: Option<bool>,
    /// How Lua scripts are checked.
    pub lua_validation: Option<String>,
    /// Where addresses lie.
    #[serde(rename = "geoIP")]
    pub geo_ip: Option<Opaque>,
}

/// What is told of requests.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "EnvoyProxyTelemetry")]
pub struct Telemetry {
    /// One record for each.
    pub access_log: Option<AccessLog>,
    /// Envoy's spans.
    pub tracing: Option<Opaque>,
    /// Envoy's metrics.
    pub metrics: Option<Opaque>,
    /// Envoy's ids of requests.
    #[serde(rename = "requestID")]
    pub request_id: Option<Opaque>,
}
