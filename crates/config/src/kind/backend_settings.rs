//! How the services are called that policies ask.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    BackendTrafficPolicy, Opaque,
    backend_traffic_policy::{CircuitBreaker, Retry, TcpKeepalive, Timeout},
    http2::Http2,
};

/// How a service is called; the members are those of a BackendTrafficPolicy.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackendSettings {
    /// Time limits.
    pub timeout: Option<Timeout>,
    /// How often it is asked again.
    pub retry: Option<Retry>,
    /// Probes on connections that are silent.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// How much it is asked at once.
    pub circuit_breaker: Option<CircuitBreaker>,
    /// HTTP/2.
    pub http2: Option<Http2>,
    /// How an endpoint is chosen.
    pub load_balancer: Option<Opaque>,
    /// Which endpoints are left out.
    pub health_check: Option<Opaque>,
    /// The header of the PROXY protocol.
    pub proxy_protocol: Option<Opaque>,
    /// Buffers of connections.
    pub connection: Option<Opaque>,
    /// How host names are looked up.
    pub dns: Option<Opaque>,
}

impl BackendSettings {
    /// Returns what a policy would say that says the same of connections.
    pub fn of_connections(&self) -> BackendTrafficPolicy {
        BackendTrafficPolicy {
            timeout: self.timeout,
            tcp_keepalive: self.tcp_keepalive,
            circuit_breaker: self.circuit_breaker.clone(),
            http2: self.http2,
            ..BackendTrafficPolicy::default()
        }
    }
}
