//! AIGatewayRoute: which model is served by which backends.

use policy::{body::spec::BodyMutation, cost::spec::LLMRequestCost, headers::spec::HeaderMutation};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Duration, Time};

/// What an AIGatewayRoute says.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "AIGatewayRouteSpec")]
pub struct AIGatewayRoute {
    /// The Gateways that it attaches to.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub parent_refs: Vec<ParentRef>,
    /// The hosts that it serves; those of the listeners if empty.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub hostnames: Vec<String>,
    /// The rules.
    #[schemars(length(max = 15))]
    pub rules: Vec<Rule>,
    /// What is counted for each reply.
    #[serde(default)]
    #[schemars(length(max = 36))]
    pub llm_request_costs: Vec<LLMRequestCost>,
}

/// A reference to a Gateway or one of its listeners.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ParentRef {
    /// `gateway.networking.k8s.io` by default.
    pub group: Option<String>,
    /// `Gateway` by default; no other is served.
    pub kind: Option<String>,
    /// The Gateway's name.
    pub name: String,
    /// The Gateway's namespace; the route's by default.
    pub namespace: Option<String>,
    /// The listener's name; every listener by default.
    pub section_name: Option<String>,
    /// The listener's port; every port by default.
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u32>,
}

/// One rule: when any match holds, one of the backends serves.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// Unique in the route; `route-not-found` is reserved.
    pub name: Option<String>,
    /// Alternatives; without any, the rule takes every request.
    #[serde(default)]
    #[schemars(length(max = 128))]
    pub matches: Vec<Match>,
    /// Who serves it.
    #[serde(default)]
    #[schemars(length(max = 128))]
    pub backend_refs: Vec<BackendRef>,
    /// Time limits.
    pub timeouts: Option<Timeouts>,
    /// The longest silence of an upstream within one attempt.
    pub stream_idle_timeout: Option<Duration>,
    /// Who owns the models, in model lists; `Envoy AI Gateway` by default.
    pub models_owned_by: Option<String>,
    /// When the models were made, in model lists; the route's creation time by default. RFC 3339.
    pub models_created_at: Option<Time>,
}

/// One alternative of a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Match {
    /// All of them must hold.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub headers: Vec<HeaderMatch>,
}

/// What one header must be.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeaderMatch {
    /// `Exact` by default.
    #[serde(rename = "type")]
    pub kind: Option<HeaderMatchKind>,
    /// The header; `x-ai-eg-model` is the model that the body names.
    pub name: String,
    /// The value, or the expression that the whole value must match.
    pub value: String,
}

/// How a header is held against a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum HeaderMatchKind {
    /// They are equal.
    Exact,
    /// The value is a regular expression that matches the whole header.
    RegularExpression,
}

/// A reference from a rule to a backend.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackendRef {
    /// The backend's name.
    pub name: String,
    /// The backend's namespace; the route's by default, another needs a ReferenceGrant.
    pub namespace: Option<String>,
    /// With `kind`, for an InferencePool: `inference.networking.k8s.io`.
    pub group: Option<String>,
    /// With `group`: `InferencePool`. An AIServiceBackend if both are absent.
    pub kind: Option<String>,
    /// The model that the upstream is asked for, in place of the client's.
    pub model_name_override: Option<String>,
    /// The share among references of equal priority; 1 by default, 0 is never used.
    pub weight: Option<u32>,
    /// 0, the default, is tried first.
    pub priority: Option<u32>,
    /// Header changes for this reference.
    pub header_mutation: Option<HeaderMutation>,
    /// Body changes for this reference.
    pub body_mutation: Option<BodyMutation>,
}

/// Time limits of a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Timeouts {
    /// Of the whole request; 60s by default, `0s` for none.
    pub request: Option<Duration>,
    /// Of one attempt; none by default.
    pub backend_request: Option<Duration>,
}
