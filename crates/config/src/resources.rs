//! Everything that was declared, by kind and name.

use std::{collections::BTreeMap, fmt, sync::Arc};

use crate::kind::{
    AIGatewayRoute, AIServiceBackend, Backend, BackendSecurityPolicy, BackendTLSPolicy, BackendTrafficPolicy,
    ClientTrafficPolicy, ConfigMapData, EndpointSlice, EnvoyProxy, Gateway, GatewayClass, GatewayConfig,
    Guard, HTTPRoute, HTTPRouteFilter, InferencePool, MCPRoute, Metadata, Namespace, QuotaPolicy,
    ReferenceGrant, SecretData, SecurityPolicy, Service,
};
use crate::places::Places;

/// The name of a resource within its kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Its namespace; empty for kinds that have none.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// Where a resource was declared.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// The file, as it was named by whoever read it.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
}

/// A resource of a kind, with all that is known of its declaration. What it says is shared with whoever remembers it.
#[derive(Clone, Debug)]
pub struct Declared<S> {
    /// Its place in the order of declaration.
    pub order: usize,
    /// Where it was declared.
    pub origin: Origin,
    /// Where its fields were written.
    pub places: Places,
    /// The version of its API, as `v1beta1`.
    pub version: Arc<str>,
    /// Labels, annotations, times.
    pub metadata: Arc<Metadata>,
    /// What it says.
    pub spec: Arc<S>,
}

/// The resources of one kind.
pub type Map<S> = BTreeMap<Key, Declared<S>>;

/// The declared resources.
#[derive(Clone, Debug, Default)]
pub struct Resources {
    /// GatewayClasses.
    pub gateway_classes: Map<GatewayClass>,
    /// Gateways.
    pub gateways: Map<Gateway>,
    /// AIGatewayRoutes.
    pub ai_gateway_routes: Map<AIGatewayRoute>,
    /// AIServiceBackends.
    pub ai_service_backends: Map<AIServiceBackend>,
    /// BackendSecurityPolicies.
    pub backend_security_policies: Map<BackendSecurityPolicy>,
    /// Backends.
    pub backends: Map<Backend>,
    /// BackendTLSPolicies.
    pub backend_tls_policies: Map<BackendTLSPolicy>,
    /// MCPRoutes.
    pub mcp_routes: Map<MCPRoute>,
    /// GatewayConfigs.
    pub gateway_configs: Map<GatewayConfig>,
    /// BackendTrafficPolicies.
    pub backend_traffic_policies: Map<BackendTrafficPolicy>,
    /// ClientTrafficPolicies.
    pub client_traffic_policies: Map<ClientTrafficPolicy>,
    /// QuotaPolicies.
    pub quota_policies: Map<QuotaPolicy>,
    /// Secrets.
    pub secrets: Map<SecretData>,
    /// ReferenceGrants.
    pub reference_grants: Map<ReferenceGrant>,
    /// HTTPRoutes.
    pub http_routes: Map<HTTPRoute>,
    /// HTTPRouteFilters.
    pub http_route_filters: Map<HTTPRouteFilter>,
    /// InferencePools.
    pub inference_pools: Map<InferencePool>,
    /// Services.
    pub services: Map<Service>,
    /// EndpointSlices.
    pub endpoint_slices: Map<EndpointSlice>,
    /// ConfigMaps.
    pub config_maps: Map<ConfigMapData>,
    /// Namespaces.
    pub namespaces: Map<Option<Namespace>>,
    /// SecurityPolicies.
    pub security_policies: Map<SecurityPolicy>,
    /// EnvoyProxies.
    pub envoy_proxies: Map<EnvoyProxy>,
    /// Resources of kinds that are understood and not served yet, by kind and key. Those that restrict access
    /// say what they guard.
    pub unserved: BTreeMap<(&'static str, Key), Declared<Option<Guard>>>,
    /// Resources that could not be read, by kind and key. What they would have demanded is not known, so what
    /// depends on policies among them fails closed.
    pub unreadable: BTreeMap<(&'static str, Key), Origin>,
    /// Whether a file broke off at malformed YAML, so that what followed is not known at all.
    pub incomplete: bool,
    /// How many resources were declared so far.
    pub count: usize,
}

impl Key {
    /// Returns the key of `namespace/name`.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}
