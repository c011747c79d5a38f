//! Ways to know who calls: keys, passwords, signed tokens.

use schemars::JsonSchema;
use serde::Deserialize;

use super::ext_auth::ServiceRef;
use crate::kind::{
    Duration,
    backend_settings::BackendSettings,
    reference::{LocalRef, SecretRef},
};

/// Clients are known by keys.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeyAuth {
    /// Secrets that hold a key per client, under the client's name. Where two name the same client, the first
    /// one counts.
    pub credential_refs: Vec<SecretRef>,
    /// Where requests carry the key; the first place that has one decides.
    pub extract_from: Vec<ExtractFrom>,
    /// The header in which upstreams are told the client.
    #[serde(rename = "forwardClientIDHeader")]
    pub forward_client_id_header: Option<String>,
    /// Whether the key is taken off the request. It never reaches a provider of models in any case.
    pub sanitize: Option<bool>,
}

/// Places in a request: exactly one of the members.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExtractFrom {
    /// Headers.
    #[serde(default)]
    pub headers: Vec<String>,
    /// Parameters of the query.
    #[serde(default)]
    pub params: Vec<String>,
    /// Cookies.
    #[serde(default)]
    pub cookies: Vec<String>,
}

/// Clients are known by names and passwords.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BasicAuth {
    /// The Secret whose key `.htpasswd` holds lines `name:{SHA}digest`.
    pub users: SecretRef,
    /// The header in which upstreams are told the name.
    pub forward_username_header: Option<String>,
}

/// Clients are known by signed tokens.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Jwt {
    /// Whether a request without a token is let in; one with a wrong token never is.
    pub optional: Option<bool>,
    /// Who issues tokens; one of them has to vouch for a request.
    #[schemars(length(min = 1, max = 4))]
    pub providers: Vec<JwtProvider>,
}

/// Who issues tokens, and what they must be.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JwtProvider {
    /// What authorization rules call it.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// What `iss` must be; not looked at if absent.
    pub issuer: Option<String>,
    /// One of which `aud` must hold; not looked at if empty.
    #[serde(default)]
    #[schemars(length(max = 8))]
    pub audiences: Vec<String>,
    /// Where the keys are fetched.
    #[serde(rename = "remoteJWKS")]
    pub remote_jwks: Option<RemoteJwks>,
    /// The keys themselves.
    #[serde(rename = "localJWKS")]
    pub local_jwks: Option<LocalJwks>,
    /// Headers in which upstreams are told claims.
    #[serde(default)]
    pub claim_to_headers: Vec<ClaimToHeader>,
    /// Whether the route is chosen by these headers too.
    pub recompute_route: Option<bool>,
    /// Where requests carry the token; `authorization` or the parameter `access_token` by default.
    pub extract_from: Option<JwtExtractor>,
}

/// Where keys are fetched.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RemoteJwks {
    /// The address of the document.
    #[schemars(length(min = 1, max = 253))]
    pub uri: String,
    /// Who is asked in place of the address's host.
    #[serde(default)]
    pub backend_refs: Vec<ServiceRef>,
    /// How the connection is made.
    pub backend_settings: Option<BackendSettings>,
    /// How long keys are kept; what the answer says by default, or 5 minutes.
    pub cache_duration: Option<Duration>,
}

/// The keys themselves.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalJwks {
    /// `Inline` by default, or `ValueRef`.
    #[serde(rename = "type")]
    pub kind: Option<LocalJwksType>,
    /// The document, with `Inline`.
    pub inline: Option<String>,
    /// The ConfigMap that holds it as `jwks`, or as its only value, with `ValueRef`.
    pub value_ref: Option<LocalRef>,
}

/// Where keys lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum LocalJwksType {
    /// In the policy.
    Inline,
    /// In a ConfigMap.
    ValueRef,
}

/// A header in which upstreams are told a claim.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimToHeader {
    /// The header. A client's own is taken off.
    pub header: String,
    /// The claim; dots lead into objects.
    pub claim: String,
}

/// Where requests carry a token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JwtExtractor {
    /// Headers.
    #[serde(default)]
    pub headers: Vec<JwtHeader>,
    /// Cookies.
    #[serde(default)]
    pub cookies: Vec<String>,
    /// Parameters of the query.
    #[serde(default)]
    pub params: Vec<String>,
}

/// A header that carries a token.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JwtHeader {
    /// The header.
    pub name: String,
    /// What stands before the token, its space included.
    pub value_prefix: Option<String>,
}
