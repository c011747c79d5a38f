//! The kinds of resources, one file each: what may be written, and nothing about what it means.
//!
//! A kind is one row in [`KINDS`] and, where it is served, one file here and one map in
//! [`crate::Resources`].

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

pub mod ai_gateway_route;
pub mod ai_service_backend;
pub mod backend;
pub mod backend_security_policy;
pub mod backend_settings;
pub mod backend_tls_policy;
pub mod backend_traffic_policy;
pub mod client_traffic_policy;
pub mod config_map;
pub mod duration;
pub mod endpoint_slice;
pub mod envoy_proxy;
pub mod gateway;
pub mod gateway_class;
pub mod gateway_config;
pub mod guard;
pub mod http2;
pub mod http_route;
pub mod http_route_access;
pub mod http_route_filter;
pub mod inference_pool;
pub mod mcp_route;
pub mod mcp_security;
pub mod metadata;
pub mod namespace;
pub mod quantity;
pub mod quota_policy;
pub mod reference;
pub mod reference_grant;
pub mod secret;
pub mod security_policy;
pub mod selector;
pub mod service;
pub mod time;

pub use ai_gateway_route::AIGatewayRoute;
pub use ai_service_backend::AIServiceBackend;
pub use backend::Backend;
pub use backend_security_policy::BackendSecurityPolicy;
pub use backend_tls_policy::BackendTLSPolicy;
pub use backend_traffic_policy::BackendTrafficPolicy;
pub use client_traffic_policy::ClientTrafficPolicy;
pub use config_map::ConfigMapData;
pub use duration::Duration;
pub use endpoint_slice::EndpointSlice;
pub use envoy_proxy::EnvoyProxy;
pub use gateway::Gateway;
pub use gateway_class::GatewayClass;
pub use gateway_config::GatewayConfig;
pub use guard::Guard;
pub use http_route::HTTPRoute;
pub use http_route_filter::HTTPRouteFilter;
pub use inference_pool::InferencePool;
pub use mcp_route::MCPRoute;
pub use metadata::Metadata;
pub use namespace::Namespace;
pub use quantity::Quantity;
pub use quota_policy::QuotaPolicy;
pub use reference_grant::ReferenceGrant;
pub use secret::SecretData;
pub use security_policy::SecurityPolicy;
pub use service::Service;
pub use time::Time;

/// A value that is accepted as it is.
pub type Opaque = Value;

/// The group of the AI kinds.
pub const AI: &str = "aigateway.envoyproxy.io";
/// The group of the Gateway API.
pub const GATEWAY_API: &str = "gateway.networking.k8s.io";
/// The group of Envoy Gateway.
pub const ENVOY: &str = "gateway.envoyproxy.io";
/// The group of inference pools.
pub const INFERENCE: &str = "inference.networking.k8s.io";

/// Every kind that may be written.
pub const KINDS: &[KindInfo] = &[
    KindInfo::new("GatewayClass", GATEWAY_API, &["v1", "v1beta1"]).unscoped(),
    KindInfo::new("Gateway", GATEWAY_API, &["v1", "v1beta1"]),
    KindInfo::new("AIGatewayRoute", AI, AI_VERSIONS),
    KindInfo::new("AIServiceBackend", AI, AI_VERSIONS),
    KindInfo::new("BackendSecurityPolicy", AI, AI_VERSIONS),
    KindInfo::new("Backend", ENVOY, &["v1alpha1"]),
    KindInfo::new("BackendTLSPolicy", GATEWAY_API, &["v1", "v1alpha3"]),
    KindInfo::new("Secret", "", &["v1"]),
    KindInfo::new("ReferenceGrant", GATEWAY_API, &["v1", "v1beta1"]),
    KindInfo::new("GatewayConfig", AI, AI_VERSIONS),
    KindInfo::new("MCPRoute", AI, AI_VERSIONS),
    KindInfo::new("QuotaPolicy", AI, &["v1alpha1"]),
    KindInfo::new("HTTPRoute", GATEWAY_API, &["v1", "v1beta1"]),
    KindInfo::new("GRPCRoute", GATEWAY_API, &["v1"]),
    KindInfo::new("TLSRoute", GATEWAY_API, &["v1", "v1alpha2", "v1alpha3"]),
    KindInfo::new("TCPRoute", GATEWAY_API, &["v1alpha2"]),
    KindInfo::new("UDPRoute", GATEWAY_API, &["v1alpha2"]),
    KindInfo::new("EnvoyProxy", ENVOY, &["v1alpha1"]),
    KindInfo::new("ClientTrafficPolicy", ENVOY, &["v1alpha1"]),
    KindInfo::new("BackendTrafficPolicy", ENVOY, &["v1alpha1"]),
    KindInfo::new("SecurityPolicy", ENVOY, &["v1alpha1"]),
    KindInfo::new("EnvoyExtensionPolicy", ENVOY, &["v1alpha1"]).guards(),
    KindInfo::new("EnvoyPatchPolicy", ENVOY, &["v1alpha1"]),
    KindInfo::new("HTTPRouteFilter", ENVOY, &["v1alpha1"]),
    KindInfo::new("InferencePool", INFERENCE, &["v1"]),
    KindInfo::new(
        "InferenceObjective",
        "inference.networking.x-k8s.io",
        &["v1alpha2"],
    ),
    KindInfo::new("InferenceModel", "inference.networking.x-k8s.io", &["v1alpha2"]),
    KindInfo::new("Service", "", &["v1"]),
    KindInfo::new("EndpointSlice", "discovery.k8s.io", &["v1"]),
    KindInfo::new("ConfigMap", "", &["v1"]),
    KindInfo::new("Namespace", "", &["v1"]).unscoped(),
    KindInfo::new("ServiceAccount", "", &["v1"]),
    KindInfo::new("Deployment", "apps", &["v1"]),
];

const AI_VERSIONS: &[&str] = &["v1beta1", "v1alpha1"];

/// One row of the table of kinds.
#[derive(Clone, Copy, Debug)]
pub struct KindInfo {
    /// The kind.
    pub name: &'static str,
    /// Its API group; empty for the core.
    pub group: &'static str,
    /// Its versions, the current one first.
    pub versions: &'static [&'static str],
    /// Whether its resources lie in namespaces.
    pub namespaced: bool,
    /// Whether it restricts who may do what, so that leaving it out opens something.
    pub guards: bool,
}

impl KindInfo {
    const fn new(name: &'static str, group: &'static str, versions: &'static [&'static str]) -> Self {
        Self {
            name,
            group,
            versions,
            namespaced: true,
            guards: false,
        }
    }

    const fn unscoped(self) -> Self {
        Self {
            namespaced: false,
            ..self
        }
    }

    const fn guards(self) -> Self {
        Self { guards: true, ..self }
    }

    /// Returns the row of the kind called `name`.
    pub fn find(name: &str) -> Option<&'static Self> {
        KINDS.iter().find(|kind| kind.name == name)
    }

    fn api_versions(&self) -> Vec<String> {
        let versions = self.versions.iter();
        versions
            .map(|version| match self.group {
                "" => (*version).to_owned(),
                group => format!("{group}/{version}"),
            })
            .collect()
    }
}

/// Returns the JSON schema of the kinds that are served: one document that takes any of them, with a
/// definition per kind under `$defs`.
pub fn schema() -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let specs = [
        ("GatewayClass", reference::<GatewayClass>(&mut generator)),
        ("Gateway", reference::<Gateway>(&mut generator)),
        ("AIGatewayRoute", reference::<AIGatewayRoute>(&mut generator)),
        ("AIServiceBackend", reference::<AIServiceBackend>(&mut generator)),
        (
            "BackendSecurityPolicy",
            reference::<BackendSecurityPolicy>(&mut generator),
        ),
        ("Backend", reference::<Backend>(&mut generator)),
        ("BackendTLSPolicy", reference::<BackendTLSPolicy>(&mut generator)),
        ("MCPRoute", reference::<MCPRoute>(&mut generator)),
        ("GatewayConfig", reference::<GatewayConfig>(&mut generator)),
        (
            "BackendTrafficPolicy",
            reference::<BackendTrafficPolicy>(&mut generator),
        ),
        (
            "ClientTrafficPolicy",
            reference::<ClientTrafficPolicy>(&mut generator),
        ),
        ("QuotaPolicy", reference::<QuotaPolicy>(&mut generator)),
        ("ReferenceGrant", reference::<ReferenceGrant>(&mut generator)),
        ("EnvoyProxy", reference::<EnvoyProxy>(&mut generator)),
        ("Namespace", reference::<Namespace>(&mut generator)),
        ("SecurityPolicy", reference::<SecurityPolicy>(&mut generator)),
        ("HTTPRoute", reference::<HTTPRoute>(&mut generator)),
        ("HTTPRouteFilter", reference::<HTTPRouteFilter>(&mut generator)),
        ("Service", reference::<Service>(&mut generator)),
        ("InferencePool", reference::<InferencePool>(&mut generator)),
    ];
    let metadata = reference::<Metadata>(&mut generator);
    let documents = [
        ("Secret", reference::<secret::Written>(&mut generator)),
        ("ConfigMap", reference::<config_map::Written>(&mut generator)),
        ("EndpointSlice", reference::<EndpointSlice>(&mut generator)),
    ];
    let mut definitions = generator.take_definitions(true);
    for (name, spec) in specs {
        // What a Namespace says are its labels.
        let required: &[&str] = if name == "Namespace" { &[] } else { &["spec"] };
        definitions.insert(
            name.to_owned(),
            document(name, &metadata, json!({ "spec": spec }), required),
        );
    }
    for (name, reference) in documents {
        // These keep their values beside their metadata, so their definition is the document itself.
        let written = definitions.remove(&format!("{name}Document"));
        debug_assert!(reference.get("$ref").is_some() && written.is_some());
        let values = written.and_then(|written| written.get("properties").cloned());
        let values = values.unwrap_or_else(|| json!({}));
        definitions.insert(name.to_owned(), document(name, &metadata, values, &[]));
    }
    for definition in definitions.values_mut() {
        close(definition);
    }
    let any: Vec<Value> = KINDS
        .iter()
        .filter(|kind| definitions.contains_key(kind.name))
        .map(|kind| json!({ "$ref": format!("#/$defs/{}", kind.name) }))
        .collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Tollgate resources",
        "anyOf": any,
        "$defs": definitions,
    })
}

fn reference<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    generator.subschema_for::<T>().to_value()
}

fn document(kind: &str, metadata: &Value, members: Value, required: &[&str]) -> Value {
    let versions = KindInfo::find(kind)
        .map(KindInfo::api_versions)
        .unwrap_or_default();
    let mut properties = match members {
        Value::Object(members) => members,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
    };
    properties.insert("apiVersion".to_owned(), json!({ "enum": versions }));
    properties.insert("kind".to_owned(), json!({ "const": kind }));
    properties.insert("metadata".to_owned(), metadata.clone());
    properties.insert("status".to_owned(), json!({}));
    let required: Vec<&str> = ["apiVersion", "kind", "metadata"]
        .iter()
        .chain(required)
        .copied()
        .collect();
    json!({ "type": "object", "properties": properties, "required": required })
}

/// Says of every object with known members that it has no others: unknown fields are errors.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            for member in members.values_mut() {
                close(member);
            }
            let object = members.get("type").is_some_and(|kind| kind == "object");
            if object && members.contains_key("properties") {
                members.insert("additionalProperties".to_owned(), Value::Bool(false));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
