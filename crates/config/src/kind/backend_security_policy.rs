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

/// Credentials of AWS; the default chain if neither a file nor an exchange is set.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AwsCredentials {
    /// The region that calls are signed for.
    pub region: String,
    /// A credentials file.
    pub credentials_file: Option<AwsCredentialsFile>,
    /// A token of one's own that is exchanged.
    pub oidc_exchange_token: Option<AwsOidc>,
    /// A role that is taken with these credentials.
    pub assume_role: Option<AwsRole>,
    /// The service that calls are signed for; `bedrock` by default.
    pub service: Option<String>,
    /// The host that calls are signed for, where it is not the one that is called.
    pub signing_host: Option<String>,
}

/// A role that is taken with other credentials.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AwsRole {
    /// The role.
    pub role_arn: String,
    /// What the role's owner demands to be told.
    pub external_id: Option<String>,
    /// What AWS's records call the caller; `ai-gateway-` and the policy's name by default.
    pub session_name: Option<String>,
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
    /// The role to take.
    pub aws_role_arn: String,
    /// Who issues the token.
    pub oidc: Option<Oidc>,
    /// The file that holds the token, in place of an issuer.
    pub token_file: Option<String>,
    /// The grant; `client_credentials` by default, and the only one.
    pub grant_type: Option<String>,
    /// The audience that the issuer is asked for.
    pub aud: Option<String>,
}

/// Credentials of Azure: exactly one of a secret, a certificate, an exchange and a managed identity.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AzureCredentials {
    /// The application; optional for a managed identity.
    #[serde(rename = "clientID")]
    pub client_id: Option<String>,
    /// The tenant; needless for a managed identity.
    #[serde(rename = "tenantID")]
    pub tenant_id: Option<String>,
    /// The application's secret, under `client-secret`.
    pub client_secret_ref: Option<SecretRef>,
    /// The application's certificate and key, as PEM under `tls.crt` and `tls.key`.
    pub client_certificate_ref: Option<SecretRef>,
    /// A token of one's own that is exchanged.
    pub oidc_exchange_token: Option<OidcExchange>,
    /// The identity of the machine or of the cluster's workload.
    pub managed_identity: Option<ManagedIdentity>,
    /// What the token is for; `https://cognitiveservices.azure.com/.default` by default.
    pub scope: Option<String>,
    /// Who issues tokens; `https://login.microsoftonline.com` by default.
    pub authority: Option<String>,
}

/// The identity that Azure gives to a machine.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManagedIdentity {}

/// A token that is exchanged for credentials: from an issuer, or from a file.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OidcExchange {
    /// Who issues the token.
    pub oidc: Option<Oidc>,
    /// The file that holds the token, in place of an issuer.
    pub token_file: Option<String>,
    /// The grant; `client_credentials` by default, and the only one.
    pub grant_type: Option<String>,
    /// The audience that the issuer is asked for.
    pub aud: Option<String>,
}

/// An issuer of tokens, and who asks it. What concerns the logins of people has no meaning here.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Oidc {
    /// The issuer.
    pub provider: OidcProvider,
    /// The client.
    #[serde(rename = "clientID")]
    pub client_id: Option<String>,
    /// The client, in a Secret.
    #[serde(rename = "clientIDRef")]
    pub client_id_ref: Option<Opaque>,
    /// The client's secret, under `client-secret`.
    pub client_secret: SecretRef,
    /// What the token is for.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Not looked at.
    #[serde(default)]
    pub resources: Vec<String>,
    /// Not looked at.
    #[serde(rename = "redirectURL")]
    pub redirect_url: Option<Opaque>,
    /// Not looked at.
    pub deny_redirect: Option<Opaque>,
    /// Not looked at.
    pub logout_path: Option<Opaque>,
    /// Not looked at.
    pub forward_access_token: Option<Opaque>,
    /// Not looked at.
    #[serde(rename = "defaultTokenTTL")]
    pub default_token_ttl: Option<Opaque>,
    /// Not looked at.
    pub refresh_token: Option<Opaque>,
    /// Not looked at.
    #[serde(rename = "defaultRefreshTokenTTL")]
    pub default_refresh_token_ttl: Option<Opaque>,
    /// Not looked at.
    #[serde(rename = "csrfTokenTTL")]
    pub csrf_token_ttl: Option<Opaque>,
    /// Not looked at.
    #[serde(rename = "disableTokenEncryption")]
    pub disable_token_encryption: Option<Opaque>,
    /// Not looked at.
    #[serde(rename = "passThroughAuthHeader")]
    pub pass_through_auth_header: Option<Opaque>,
    /// Not looked at.
    pub cookie_names: Option<Opaque>,
    /// Not looked at.
    pub cookie_config: Option<Opaque>,
    /// Not looked at.
    pub cookie_domain: Option<Opaque>,
}

/// An issuer of tokens.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OidcProvider {
    /// Its URL, below which its description lies.
    pub issuer: String,
    /// Where tokens are had; as the description says by default.
    pub token_endpoint: Option<String>,
    /// Not looked at.
    pub authorization_endpoint: Option<Opaque>,
    /// Not looked at.
    pub end_session_endpoint: Option<Opaque>,
    /// Not looked at.
    pub backend_ref: Option<Opaque>,
    /// Not looked at.
    #[serde(default)]
    pub backend_refs: Vec<Opaque>,
    /// Not looked at.
    pub backend_settings: Option<Opaque>,
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
