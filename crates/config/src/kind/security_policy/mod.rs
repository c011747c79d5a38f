//! SecurityPolicy: who may call.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Opaque,
    backend_traffic_policy::MergeType,
    reference::{TargetRef, TargetSelector},
};

pub mod authentication;
pub mod authorization;
pub mod cors;
pub mod ext_auth;

pub use authentication::{ApiKeyAuth, BasicAuth, Jwt};
pub use authorization::Authorization;
pub use cors::Cors;
pub use ext_auth::ExtAuth;

/// What a SecurityPolicy says.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "SecurityPolicySpec")]
pub struct SecurityPolicy {
    /// What it is for, by name and in its own namespace.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub target_refs: Vec<TargetRef>,
    /// The one target, in the older spelling.
    pub target_ref: Option<TargetRef>,
    /// What it is for, by labels and in its own namespace.
    #[serde(default)]
    pub target_selectors: Vec<TargetSelector>,
    /// How it is joined with a policy of something wider; the narrower one replaces it by default.
    pub merge_type: Option<MergeType>,
    /// Clients are known by keys.
    pub api_key_auth: Option<ApiKeyAuth>,
    /// Which pages in browsers may call.
    pub cors: Option<Cors>,
    /// Clients are known by names and passwords.
    pub basic_auth: Option<BasicAuth>,
    /// Clients are known by signed tokens.
    pub jwt: Option<Jwt>,
    /// Clients log in at a provider.
    pub oidc: Option<Opaque>,
    /// A service decides.
    pub ext_auth: Option<ExtAuth>,
    /// Rules decide.
    pub authorization: Option<Authorization>,
    /// Requests of other sites are refused.
    pub csrf: Option<Opaque>,
}
