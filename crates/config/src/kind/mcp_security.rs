//! Who may use an MCPRoute, and what of it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Opaque,
    security_policy::{
        ApiKeyAuth, ExtAuth,
        authentication::{ClaimToHeader, LocalJwks, RemoteJwks},
        authorization::{Action, JwtClaim},
    },
};

/// Who may do what.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "MCPSecurityPolicy")]
pub struct SecurityPolicy {
    /// Clients are known by tokens of an authorization server.
    pub oauth: Option<OAuth>,
    /// Clients are known by keys.
    pub api_key_auth: Option<ApiKeyAuth>,
    /// A service decides.
    pub ext_auth: Option<ExtAuth>,
    /// Rules decide.
    pub authorization: Option<Authorization>,
}

/// Tokens of an authorization server, and how clients find it.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "MCPOAuth")]
pub struct OAuth {
    /// The server, which is what `iss` must be.
    pub issuer: String,
    /// One of which `aud` must hold; the address of the resource by default.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub audiences: Vec<String>,
    /// The keys of tokens; those that the server's metadata name by default.
    pub jwks: Option<Jwks>,
    /// What clients are told of the route.
    pub protected_resource_metadata: ResourceMetadata,
    /// What clients are told of the authorization server; what it says itself by default.
    pub authorization_server_metadata: Option<BTreeMap<String, Opaque>>,
    /// Whether what clients are told lies at the bare paths too, without the route's.
    #[serde(default)]
    pub documents_at_root: bool,
    /// Headers in which servers are told claims.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub claim_to_headers: Vec<ClaimToHeader>,
}

/// The keys of tokens: exactly one of the members.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[schemars(rename = "MCPJWKS")]
pub struct Jwks {
    /// Where they are fetched.
    #[serde(rename = "remoteJWKS")]
    pub remote: Option<RemoteJwks>,
    /// The keys themselves.
    #[serde(rename = "localJWKS")]
    pub local: Option<LocalJwks>,
}

/// What clients are told of a route that wants tokens (RFC 9728).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "MCPProtectedResourceMetadata")]
pub struct ResourceMetadata {
    /// The address by which clients know the route.
    pub resource: String,
    /// Its name.
    #[schemars(length(max = 256))]
    pub resource_name: Option<String>,
    /// Scopes that clients ask for.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub scopes_supported: Vec<String>,
    /// Algorithms by which answers are signed.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub resource_signing_alg_values_supported: Vec<String>,
    /// A page about it.
    pub resource_documentation: Option<String>,
    /// A page about what may be done with it.
    pub resource_policy_uri: Option<String>,
}

/// Rules, of which the first one that matches decides.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "MCPAuthorization")]
pub struct Authorization {
    /// What is done where none matches; `Deny` by default.
    pub default_action: Option<Action>,
    /// The rules.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub rules: Vec<Rule>,
    /// Whether rules about tools alone govern prompts and resources too; they are open otherwise.
    pub strict: Option<bool>,
    /// Whether whoever lacks scopes is told those that they have as well.
    pub challenge_held_scopes: Option<bool>,
}

/// What is done with which requests. Everything that is said must hold.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "MCPAuthorizationRule")]
pub struct Rule {
    /// `Allow` by default.
    pub action: Option<Action>,
    /// Who asks; anybody by default.
    pub source: Option<Source>,
    /// What is asked for; everything by default.
    pub target: Option<Target>,
    /// A condition in the Common Expression Language.
    #[schemars(length(max = 4096))]
    pub cel: Option<String>,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "MCPAuthorizationSource")]
pub struct Source {
    /// What the token is.
    pub jwt: JwtSource,
}

/// What a token is: all that is said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "MCPJWTSource")]
pub struct JwtSource {
    /// Scopes that it has.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub scopes: Vec<String>,
    /// What it says.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub claims: Vec<JwtClaim>,
}

/// What is asked for. Names and URIs are the server's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "MCPAuthorizationTarget")]
pub struct Target {
    /// Tools.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub tools: Vec<ToolTarget>,
    /// Prompts.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub prompts: Vec<PromptTarget>,
    /// Resources.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub resources: Vec<ResourceTarget>,
    /// Methods.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub methods: Vec<String>,
}

/// A tool: exactly one of `tool` and `toolRegex`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "MCPToolTarget")]
pub struct ToolTarget {
    /// The server.
    pub backend: String,
    /// Its name; `*` for any.
    pub tool: Option<String>,
    /// What its name matches a part of.
    pub tool_regex: Option<String>,
}

/// A prompt: exactly one of `prompt` and `promptRegex`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "MCPPromptTarget")]
pub struct PromptTarget {
    /// The server.
    pub backend: String,
    /// Its name; `*` for any.
    pub prompt: Option<String>,
    /// What its name matches a part of.
    pub prompt_regex: Option<String>,
}

/// A resource: exactly one of `uri`, `uriPrefix` and `uriRegex`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "MCPResourceTarget")]
pub struct ResourceTarget {
    /// The server.
    pub backend: String,
    /// Its URI; `*` for any.
    pub uri: Option<String>,
    /// What its URI begins with.
    pub uri_prefix: Option<String>,
    /// What its URI matches a part of.
    pub uri_regex: Option<String>,
}

/// Which servers a session is opened with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "MCPBackendSelector")]
pub struct BackendSelector {
    /// What is done where no rule holds; `Deny` by default.
    pub default_action: Option<Action>,
    /// Rules, of which the first one that holds decides.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub rules: Vec<SelectorRule>,
    /// Whether this is asked for every request, and not only when a session is opened.
    pub per_request: Option<bool>,
}

/// A rule about servers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "MCPBackendSelectorRule")]
pub struct SelectorRule {
    /// A condition in the Common Expression Language; it always holds by default.
    #[schemars(length(max = 4096))]
    pub cel: Option<String>,
    /// `Allow` by default.
    pub action: Option<Action>,
}
