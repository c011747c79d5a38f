//! A service that decides about each request.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::kind::{Duration, backend_settings::BackendSettings};

/// A service that decides: exactly one of `grpc` and `http`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExtAuth {
    /// It speaks `envoy.service.auth.v3.Authorization`.
    pub grpc: Option<GrpcExtAuth>,
    /// It answers HTTP requests: status 200 lets a request in.
    pub http: Option<HttpExtAuth>,
    /// The client's headers that it is shown. By default HTTP services see none and gRPC services all; host,
    /// method, path and `authorization` are always shown.
    #[serde(default)]
    pub headers_to_ext_auth: Vec<String>,
    /// How much of the body it is shown.
    pub body_to_ext_auth: Option<BodyToExtAuth>,
    /// Whether a request is let in where the service cannot be asked.
    pub fail_open: Option<bool>,
    /// The status where it cannot be asked and that is not so; 403 by default.
    pub status_on_error: Option<u32>,
    /// Whether the route is chosen by its headers too.
    pub recompute_route: Option<bool>,
    /// How long it may take; 10s by default.
    pub timeout: Option<Duration>,
    /// What a gRPC service is told beside the request.
    #[serde(default)]
    pub context_extensions: Vec<ContextExtension>,
    /// Whether a gRPC service is told which resources the route comes from.
    pub include_route_metadata: Option<bool>,
}

/// A gRPC service.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrpcExtAuth {
    /// The service, in the older spelling.
    pub backend_ref: Option<ServiceRef>,
    /// The service.
    #[serde(default)]
    pub backend_refs: Vec<ServiceRef>,
    /// How the connection is made.
    pub backend_settings: Option<BackendSettings>,
}

/// An HTTP service.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpExtAuth {
    /// The service, in the older spelling.
    pub backend_ref: Option<ServiceRef>,
    /// The service.
    #[serde(default)]
    pub backend_refs: Vec<ServiceRef>,
    /// How the connection is made.
    pub backend_settings: Option<BackendSettings>,
    /// What stands before the path of each request.
    pub path: Option<String>,
    /// Headers of its answer that upstreams are sent. A client's own are taken off.
    #[serde(default)]
    pub headers_to_backend: Vec<String>,
}

/// How much of the body a service is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BodyToExtAuth {
    /// The most bytes; a longer request is refused with a 413.
    pub max_request_bytes: u32,
}

/// Something that a service is told: exactly one of `value` and `valueRef`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContextExtension {
    /// What it is called.
    pub name: String,
    /// `Value` by default, or `ValueRef`.
    #[serde(rename = "type")]
    pub kind: Option<ContextExtensionType>,
    /// What it is.
    pub value: Option<String>,
    /// Where it lies.
    pub value_ref: Option<EntryRef>,
}

/// Where something lies that a service is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum ContextExtensionType {
    /// In the policy.
    Value,
    /// In a ConfigMap or a Secret.
    ValueRef,
}

/// A reference to one entry of a ConfigMap or a Secret in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EntryRef {
    /// Empty.
    #[serde(default)]
    pub group: String,
    /// `ConfigMap` or `Secret`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The entry's.
    pub key: String,
}

/// A reference from a policy to a service.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceRef {
    /// Empty for a Service, `gateway.envoyproxy.io` for a Backend.
    pub group: Option<String>,
    /// `Service` by default, or `Backend`.
    pub kind: Option<String>,
    /// The name.
    pub name: String,
    /// The namespace of the referring resource by default; another needs a ReferenceGrant.
    pub namespace: Option<String>,
    /// The port, required of a Service.
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u32>,
    /// Its share among several; 1 by default.
    pub weight: Option<u32>,
    /// Whether it serves only where others fail.
    pub fallback: Option<bool>,
}
