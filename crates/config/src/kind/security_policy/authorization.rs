//! Rules that decide by what is known of a request.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::kind::Opaque;

/// Rules, of which the first one that matches decides.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Authorization {
    /// The rules.
    #[serde(default)]
    pub rules: Vec<AuthorizationRule>,
    /// What is done where none matches; `Deny` by default.
    pub default_action: Option<Action>,
}

/// What is done with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Action {
    /// It is let in.
    Allow,
    /// It is refused.
    Deny,
}

/// What is done with which requests.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuthorizationRule {
    /// What the rule is called.
    pub name: Option<String>,
    /// What is done.
    pub action: Action,
    /// What is asked for.
    pub operation: Option<Operation>,
    /// Who asks.
    pub principal: Option<Principal>,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Operation {
    /// Methods, one of which it must be.
    #[schemars(length(min = 1, max = 16))]
    pub methods: Vec<String>,
}

/// Who asks. Everything that is said must hold.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Principal {
    /// Blocks of addresses, in one of which the client must be.
    #[serde(default, rename = "clientCIDRs")]
    pub client_cidrs: Vec<String>,
    /// What the client's token must be.
    pub jwt: Option<JwtPrincipal>,
    /// Headers that the request must have, all of them.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub headers: Vec<HeaderPrincipal>,
    /// Where on earth the client must be.
    pub client_ip_geo_locations: Option<Opaque>,
}

/// What a token must be; at least one of `claims` and `scopes`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JwtPrincipal {
    /// The provider of `jwt` that vouches for it.
    pub provider: String,
    /// What it must say, all of it.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub claims: Vec<JwtClaim>,
    /// What it must allow, all of it.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub scopes: Vec<String>,
}

/// What a claim must be.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JwtClaim {
    /// The claim; dots lead into objects.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// `String` by default.
    pub value_type: Option<ClaimType>,
    /// What it may be.
    #[schemars(length(min = 1, max = 128))]
    pub values: Vec<String>,
}

/// What a claim is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum ClaimType {
    /// A string.
    String,
    /// A list, one string of which is enough.
    StringArray,
}

/// What a header must be.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeaderPrincipal {
    /// The header.
    #[schemars(length(min = 1, max = 256))]
    pub name: String,
    /// What it may be.
    #[schemars(length(min = 1, max = 256))]
    pub values: Vec<String>,
}
