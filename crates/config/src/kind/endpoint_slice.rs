//! EndpointSlice: addresses behind a Service. It has no `spec`: everything lies beside its metadata.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Metadata, Opaque};

/// An EndpointSlice as written.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "EndpointSliceDocument")]
pub struct EndpointSlice {
    /// `discovery.k8s.io/v1`
    pub api_version: Option<String>,
    /// `EndpointSlice`
    pub kind: Option<String>,
    /// What it says about itself; the label `kubernetes.io/service-name` names the Service.
    pub metadata: Metadata,
    /// `IPv4`, `IPv6` or `FQDN`.
    pub address_type: String,
    /// Who serves.
    #[serde(default)]
    pub endpoints: Vec<SliceEndpoint>,
    /// At which ports.
    #[serde(default)]
    pub ports: Vec<SlicePort>,
}

/// One pod, or whatever serves.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SliceEndpoint {
    /// Its addresses, of which one is used.
    pub addresses: Vec<String>,
    /// Whether it can serve.
    pub conditions: Option<SliceConditions>,
    /// Not looked at.
    pub hostname: Option<Opaque>,
    /// Not looked at.
    pub node_name: Option<Opaque>,
    /// Not looked at.
    pub zone: Option<Opaque>,
    /// Not looked at.
    pub hints: Option<Opaque>,
    /// Not looked at.
    pub target_ref: Option<Opaque>,
    /// Not looked at.
    pub deprecated_topology: Option<Opaque>,
}

/// Whether something can serve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SliceConditions {
    /// Whether it is ready; it is unless it says otherwise.
    pub ready: Option<bool>,
    /// Whether it serves, be it about to end.
    pub serving: Option<bool>,
    /// Whether it is about to end.
    pub terminating: Option<bool>,
}

/// One port at which the endpoints serve.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SlicePort {
    /// The Service's name of the port.
    pub name: Option<String>,
    /// The port.
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u32>,
    /// `TCP` by default.
    pub protocol: Option<String>,
    /// Not looked at.
    pub app_protocol: Option<String>,
}
