//! BackendSecurityPolicy: how the gateway authenticates itself to an upstream.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Opaque,
    reference::{SecretRef, TargetRef},
};

/// What a BackendSecurityPolicy says.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "BackendSecurityPolicySpec")]
pub struct BackendSecurityPolicy {
    /// Whom it is for: AIServiceBackends or InferencePools of the same namespace.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub target_refs: Vec<TargetRef>,
    /// Which of the following members is set.
    #[serde(rename = "type")]
    pub kind: CredentialType,
    /// With type APIKey.
    pub api_key: Option<ApiKey>,
    /// With type AWSCredentials.
    pub aws_credentials: Option<AwsCredentials>,
    /// With type AzureAPIKey.
    #[serde(rename = "azureAPIKey")]
    pub azure_api_key: Option<ApiKey>,
    /// With type AzureCredentials.
    pub azure_credentials: Option<AzureCredentials>,
    /// With type GCPCredentials.
    pub gcp_credentials: Option<GcpCredentials>,
    /// With type AnthropicAPIKey.
    #[serde(rename = "anthropicAPIKey")]
    pub anthropic_api_key: Option<ApiKey>,
    /// A credential that comes with each request. Not in v1alpha1.
    pub credential_override: Option<CredentialOverride>,
}

/// How the gateway authenticates itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum CredentialType {
    /// `Authorization: Bearer …`
    APIKey,
    /// A signature.
    AWSCredentials,
    /// `api-key: …`
    AzureAPIKey,
    /// A token of Entra.
    AzureCredentials,
    /// A token of Google.
    GCPCredentials,
    /// `x-api-key: …`
    AnthropicAPIKey,
}

/// A key in a Secret, under `apiKey`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiKey {
    /// The Secret.
    pub secret_ref: SecretRef,
}

/// Credentials of AWS; the default chain if neither block is set.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AwsCredentials {
    /// The region that calls are signed for.
    pub region: String,
    /// A credentials file.
    pub credentials_file: Option<AwsCredentialsFile>,
    /// A token of one's own that is exchanged.
    pub oidc_exchange_token: Option<AwsOidc>,
}

/// A credentials file of AWS, under `credentials` in a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AwsCredentialsFile {
    /// The Secret.
    pub secret_ref: SecretRef,
    /// The profile; `default` by default.
    pub profile: Option<String>,
}

/// A token that AWS exchanges for credentials.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AwsOidc {
    /// Who issues the token.
    pub oidc: Opaque,
    /// The role to take.
    pub aws_role_arn: String,
    /// The grant.
    pub grant_type: Option<String>,
    /// The audience.
    pub aud: Option<String>,
}

/// Credentials of Azure: exactly one of the two blocks.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AzureCredentials {
    /// The application.
    #[serde(rename = "clientID")]
    pub client_id: String,
    /// The tenant.
    #[serde(rename = "tenantID")]
    pub tenant_id: String,
    /// The application's secret, under `client-secret`.
    pub client_secret_ref: Option<SecretRef>,
    /// A token of one's own that is exchanged.
    pub oidc_exchange_token: Option<OidcExchange>,
}

/// A token that is exchanged for credentials.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OidcExchange {
    /// Who issues the token.
    pub oidc: Opaque,
    /// The grant.
    pub grant_type: Option<String>,
    /// The audience.
    pub aud: Option<String>,
}

/// Credentials of Google: at most one of the two blocks, and exactly one in v1alpha1.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GcpCredentials {
    /// The project, also a part of paths.
    pub project_name: String,
    /// The region, also a part of paths.
    pub region: String,
    /// A service account's key, under `service_account.json`.
    pub credentials_file: Option<GcpCredentialsFile>,
    /// A token of one's own that is exchanged.
    pub workload_identity_federation_config: Option<WorkloadIdentity>,
}

/// A service account's key in a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GcpCredentialsFile {
    /// The Secret.
    pub secret_ref: SecretRef,
}

/// Workload identity federation.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadIdentity {
    /// The number of the project.
    #[serde(rename = "projectID")]
    pub project_id: String,
    /// The pool.
    pub workload_identity_pool_name: String,
    /// The provider in the pool.
    pub workload_identity_provider_name: String,
    /// The token that is exchanged.
    pub oidc_exchange_token: OidcExchange,
    /// The service account to act as.
    pub service_account_impersonation: Option<Impersonation>,
}

/// A service account to act as.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Impersonation {
    /// Its name.
    pub service_account_name: String,
}

/// Where each request's own credential is found: exactly one of the two.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CredentialOverride {
    /// In headers.
    pub from_request_headers: Option<FromHeaders>,
    /// In what an earlier filter said.
    pub from_dynamic_metadata: Option<FromMetadata>,
}

/// A credential in headers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FromHeaders {
    /// The header, or the start of the headers' names for AWS.
    pub header: Option<String>,
    /// Whether the configured credential is used where a request has none; true by default.
    pub fallback_to_configured: Option<bool>,
}

/// A credential in what an earlier filter said.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FromMetadata {
    /// Who said it.
    pub namespace: String,
    /// Under which name.
    pub key: Option<String>,
    /// Whether the configured credential is used where a request has none; true by default.
    pub fallback_to_configured: Option<bool>,
}
