//! Filters of HTTPRoutes that say who may use a rule: pages of other origins, and whom a service lets in.

use schemars::JsonSchema;
use serde::Deserialize;

use super::reference::BackendObjectRef;

/// Which pages of other origins may use a rule, and what they may see.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "HTTPCORSFilter")]
pub struct CorsFilter {
    /// Where a page may come from: `https://a.example`, `https://*.example`, `*`.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub allow_origins: Vec<String>,
    /// Whether it may send cookies and the like.
    pub allow_credentials: Option<bool>,
    /// Methods that it may use; `*` for all.
    #[serde(default)]
    #[schemars(length(max = 9))]
    pub allow_methods: Vec<String>,
    /// Headers that it may send; `*` for all.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub allow_headers: Vec<String>,
    /// Headers of answers that it may read; `*` for all.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub expose_headers: Vec<String>,
    /// How many seconds a browser may remember this; 5 by default.
    #[schemars(range(min = 1))]
    pub max_age: Option<u32>,
}

/// A service that decides about the requests of a rule.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "HTTPExternalAuthFilter")]
pub struct ExternalAuth {
    /// What it speaks.
    pub protocol: ExternalAuthProtocol,
    /// The service.
    pub backend_ref: BackendObjectRef,
    /// With protocol GRPC.
    pub grpc: Option<GrpcAuth>,
    /// With protocol HTTP.
    pub http: Option<HttpAuth>,
    /// How much of the body it is shown; nothing by default.
    pub forward_body: Option<ForwardBody>,
}

/// What a service speaks that decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(rename = "HTTPRouteExternalAuthProtocol")]
pub enum ExternalAuthProtocol {
    /// It answers HTTP requests: status 200 lets a request in.
    HTTP,
    /// It speaks `envoy.service.auth.v3.Authorization`.
    GRPC,
}

/// How a service is asked by gRPC.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "GRPCAuthConfig")]
pub struct GrpcAuth {
    /// The client's headers that it is shown; all by default.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub allowed_headers: Vec<String>,
}

/// How a service is asked over HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "HTTPAuthConfig")]
pub struct HttpAuth {
    /// What stands before the path of each request.
    pub path: Option<String>,
    /// The client's headers that it is shown beside host, method, path and `authorization`.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub allowed_headers: Vec<String>,
    /// Headers of its answer that backends are sent. A client's own are taken off.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub allowed_response_headers: Vec<String>,
}

/// How much of the body a service is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "ForwardBodyConfig")]
pub struct ForwardBody {
    /// The most bytes, 0 for nothing; a longer request is refused with a 413.
    pub max_size: Option<u16>,
}
