//! GatewayConfig: how one or several Gateways are run.

use policy::cost::spec::LLMRequestCost;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Opaque, reference::SecretRef};

/// What a GatewayConfig says.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "GatewayConfigSpec")]
pub struct GatewayConfig {
    /// How the process beside a proxy is run, of which there is none.
    pub ext_proc: Option<Opaque>,
    /// What is counted for each reply of every route; a route's own cost of the same name goes before.
    #[serde(default, rename = "globalLLMRequestCosts")]
    #[schemars(length(max = 36))]
    pub global_llm_request_costs: Vec<LLMRequestCost>,
    /// The proxy that upstreams are reached through.
    pub forward_proxy: Option<ForwardProxy>,
}

/// A proxy that takes CONNECT.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ForwardProxy {
    /// Host and port.
    #[schemars(length(min = 1))]
    pub address: String,
    /// Set where the connection to the proxy itself is encrypted.
    pub tls: Option<ForwardProxyTls>,
    /// Who asks, under `username` and `password`.
    pub credentials_ref: Option<SecretRef>,
    /// Who is called without it: host names, which stand for what is below them too, addresses, or `*`.
    #[serde(default)]
    pub no_proxy: Vec<String>,
}

/// How the connection to a proxy is encrypted.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ForwardProxyTls {
    /// The name that its certificate must be for; the host by default.
    pub hostname: Option<String>,
}
