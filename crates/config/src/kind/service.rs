//! Service: a name and ports for what EndpointSlices give the addresses of.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Opaque;

/// What a Service says. Members that only a cluster acts on are accepted and not looked at.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "ServiceSpec")]
pub struct Service {
    /// `ClusterIP`, `NodePort`, `LoadBalancer` or `ExternalName`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The ports.
    #[serde(default)]
    pub ports: Vec<ServicePort>,
    /// The address, or `None` for none.
    #[serde(rename = "clusterIP")]
    pub cluster_ip: Option<String>,
    /// The host name, with type `ExternalName`.
    pub external_name: Option<String>,
    /// Which pods serve it.
    pub selector: Option<Opaque>,
    /// Not looked at.
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Option<Opaque>,
    /// Not looked at.
    #[serde(rename = "externalIPs")]
    pub external_ips: Option<Opaque>,
    /// `None`, or `ClientIP`.
    pub session_affinity: Option<String>,
    /// Not looked at.
    pub session_affinity_config: Option<Opaque>,
    /// Not looked at.
    #[serde(rename = "loadBalancerIP")]
    pub load_balancer_ip: Option<Opaque>,
    /// Not looked at.
    pub load_balancer_class: Option<Opaque>,
    /// Not looked at.
    pub load_balancer_source_ranges: Option<Opaque>,
    /// Not looked at.
    pub allocate_load_balancer_node_ports: Option<Opaque>,
    /// Not looked at.
    pub external_traffic_policy: Option<Opaque>,
    /// `Cluster`, or `Local` for endpoints of the caller's node.
    pub internal_traffic_policy: Option<String>,
    /// Not looked at.
    pub health_check_node_port: Option<Opaque>,
    /// Whether endpoints that are not ready are called too.
    pub publish_not_ready_addresses: Option<bool>,
    /// Not looked at.
    pub ip_families: Option<Opaque>,
    /// Not looked at.
    pub ip_family_policy: Option<Opaque>,
    /// Which endpoints are preferred, as `PreferClose`.
    pub traffic_distribution: Option<String>,
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    /// Unique in the Service; EndpointSlices name it.
    pub name: Option<String>,
    /// The port by which others refer to it.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u32,
    /// The port of the pods, by number or name; `port` by default.
    pub target_port: Option<Opaque>,
    /// `TCP` by default.
    pub protocol: Option<String>,
    /// The protocol of the application.
    pub app_protocol: Option<String>,
    /// Not looked at.
    pub node_port: Option<Opaque>,
}
