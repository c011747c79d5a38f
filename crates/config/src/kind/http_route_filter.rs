//! HTTPRouteFilter: what HTTPRoutes do beyond the filters of the Gateway API.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Opaque,
    http_route::HeaderFilter,
    reference::{LocalRef, SecretRef},
};

/// What an HTTPRouteFilter says.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "HTTPRouteFilterSpec")]
pub struct HTTPRouteFilter {
    /// Another host or path for the backend.
    pub url_rewrite: Option<Rewrite>,
    /// An answer in place of the backend's.
    pub direct_response: Option<DirectResponse>,
    /// A credential for the backend.
    pub credential_injection: Option<CredentialInjection>,
    /// Conditions beyond those of the Gateway API.
    pub matches: Option<Opaque>,
}

/// Another host or path for the backend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "ExtendedRewrite")]
pub struct Rewrite {
    /// The host.
    pub hostname: Option<HostModifier>,
    /// The path.
    pub path: Option<PathModifier>,
}

/// Where the host for the backend comes from.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostModifier {
    /// What it is taken from.
    #[serde(rename = "type")]
    pub kind: HostModifierKind,
    /// The header, with type `Header`.
    pub header: Option<String>,
}

/// What the host for the backend is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum HostModifierKind {
    /// A header of the request.
    Header,
    /// The backend's address.
    Backend,
}

/// How a path is changed by an expression.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "ExtendedPathModifier")]
pub struct PathModifier {
    /// `ReplaceRegexMatch`
    #[serde(rename = "type")]
    pub kind: PathModifierKind,
    /// What is replaced, by what.
    pub replace_regex_match: Option<ReplaceRegexMatch>,
}

/// How a path is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(rename = "ExtendedPathModifierKind")]
pub enum PathModifierKind {
    /// What an expression matches is replaced.
    ReplaceRegexMatch,
}

/// What is replaced, by what.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplaceRegexMatch {
    /// The expression.
    pub pattern: String,
    /// The replacement; `\1` stands for the first group.
    pub substitution: String,
}

/// An answer in place of the backend's.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DirectResponse {
    /// The type of the body.
    pub content_type: Option<String>,
    /// The body; empty if absent.
    pub body: Option<DirectBody>,
    /// 200 by default.
    pub status_code: Option<u16>,
    /// Headers of the answer.
    pub header: Option<HeaderFilter>,
}

/// Where the body of an answer comes from.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DirectBody {
    /// `Inline` or `ValueRef`; `Inline` by default.
    #[serde(rename = "type")]
    pub kind: Option<DirectBodyKind>,
    /// The body itself.
    pub inline: Option<String>,
    /// A ConfigMap of the same namespace that holds it under `response.body`, or as its only value.
    pub value_ref: Option<LocalRef>,
}

/// Where the body of an answer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum DirectBodyKind {
    /// It is written down.
    Inline,
    /// It lies in a ConfigMap.
    ValueRef,
}

/// A credential for the backend.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CredentialInjection {
    /// The header that carries it; `Authorization` by default.
    pub header: Option<String>,
    /// Whether it takes the place of what the client sends; it does not by default.
    pub overwrite: Option<bool>,
    /// The credential.
    pub credential: InjectedCredential,
}

/// A credential that is kept in a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InjectedCredential {
    /// A Secret that holds it under `credential`.
    pub value_ref: SecretRef,
}
