//! BackendSecurityPolicies (compatibility specification, "BackendSecurityPolicy", fields).

use super::Faults;
use crate::kind::{
    AI, BackendSecurityPolicy, INFERENCE,
    backend_security_policy::{AzureCredentials, CredentialType, GcpCredentials, WorkloadIdentity},
};

pub(super) fn policy(spec: &BackendSecurityPolicy, version: &str, faults: &mut Faults) {
    faults.at_most(16, spec.target_refs.len(), "spec.targetRefs");
    for (index, reference) in spec.target_refs.iter().enumerate() {
        let place = (reference.group.as_str(), reference.kind.as_str());
        let known = [(AI, "AIServiceBackend"), (INFERENCE, "InferencePool")].contains(&place);
        let message = "targetRefs must reference AIServiceBackend or InferencePool resources";
        faults.add_if(!known, format!("spec.targetRefs[{index}]"), message);
    }
    let members = [
        (CredentialType::APIKey, "apiKey", spec.api_key.is_some()),
        (
            CredentialType::AWSCredentials,
            "awsCredentials",
            spec.aws_credentials.is_some(),
        ),
        (
            CredentialType::AzureAPIKey,
            "azureAPIKey",
            spec.azure_api_key.is_some(),
        ),
        (
            CredentialType::AzureCredentials,
            "azureCredentials",
            spec.azure_credentials.is_some(),
        ),
        (
            CredentialType::GCPCredentials,
            "gcpCredentials",
            spec.gcp_credentials.is_some(),
        ),
        (
            CredentialType::AnthropicAPIKey,
            "anthropicAPIKey",
            spec.anthropic_api_key.is_some(),
        ),
    ];
    for (kind, member, _) in &members {
        let as_meant = members
            .iter()
            .all(|(_, other, present)| *present == (other == member));
        let message = format!("When type is {kind:?}, only {member} field should be set");
        faults.add_if(*kind == spec.kind && !as_meant, "spec", message);
    }
    if let Some(aws) = &spec.aws_credentials {
        faults.filled(&aws.region, "spec.awsCredentials.region");
        if let Some(exchange) = &aws.oidc_exchange_token {
            let field = "spec.awsCredentials.oidcExchangeToken.awsRoleArn";
            faults.filled(&exchange.aws_role_arn, field);
        }
    }
    if let Some(azure) = &spec.azure_credentials {
        azure_credentials(azure, faults);
    }
    if let Some(gcp) = &spec.gcp_credentials {
        gcp_credentials(gcp, version, faults);
    }
    if let Some(own) = &spec.credential_override {
        let both = own.from_request_headers.is_some() == own.from_dynamic_metadata.is_some();
        let message = "exactly one of fromRequestHeaders and fromDynamicMetadata must be specified";
        faults.add_if(both, "spec.credentialOverride", message);
        if let Some(metadata) = &own.from_dynamic_metadata {
            let field = "spec.credentialOverride.fromDynamicMetadata.namespace";
            faults.filled(&metadata.namespace, field);
        }
    }
}

fn azure_credentials(azure: &AzureCredentials, faults: &mut Faults) {
    let proofs = [
        azure.client_secret_ref.is_some(),
        azure.oidc_exchange_token.is_some(),
        azure.client_certificate_ref.is_some(),
        azure.managed_identity.is_some(),
    ];
    // A machine is known without being named.
    if azure.managed_identity.is_none() {
        let given = |value: &Option<String>| value.clone().unwrap_or_default();
        faults.filled(&given(&azure.client_id), "spec.azureCredentials.clientID");
        faults.filled(&given(&azure.tenant_id), "spec.azureCredentials.tenantID");
    }
    let one = proofs.iter().filter(|present| **present).count() == 1;
    let message = "Exactly one of clientSecretRef or oidcExchangeToken must be specified, or in their place \
                   clientCertificateRef or managedIdentity";
    faults.add_if(!one, "spec.azureCredentials", message);
}

fn gcp_credentials(gcp: &GcpCredentials, version: &str, faults: &mut Faults) {
    faults.filled(&gcp.project_name, "spec.gcpCredentials.projectName");
    faults.filled(&gcp.region, "spec.gcpCredentials.region");
    if let Some(federation) = &gcp.workload_identity_federation_config {
        let WorkloadIdentity {
            project_id,
            workload_identity_pool_name,
            workload_identity_provider_name,
            service_account_impersonation,
            ..
        } = federation;
        let account = service_account_impersonation.as_ref();
        let account = account.map(|account| &account.service_account_name);
        let names = [
            ("projectID", Some(project_id)),
            ("workloadIdentityPoolName", Some(workload_identity_pool_name)),
            (
                "workloadIdentityProviderName",
                Some(workload_identity_provider_name),
            ),
            ("serviceAccountImpersonation.serviceAccountName", account),
        ];
        for (name, value) in names {
            if let Some(value) = value {
                let field = format!("spec.gcpCredentials.workloadIdentityFederationConfig.{name}");
                faults.filled(value, field);
            }
        }
    }
    let sources = (
        gcp.credentials_file.is_some(),
        gcp.workload_identity_federation_config.is_some(),
    );
    let message = match (version, sources) {
        ("v1alpha1", (true, true) | (false, false)) => {
            "Exactly one of GCPWorkloadIdentityFederationConfig or GCPCredentialsFile must be specified"
        }
        (_, (true, true)) => {
            "At most one of credentialsFile or workloadIdentityFederationConfig may be specified"
        }
        (_, (true, false) | (false, true) | (false, false)) => return,
    };
    faults.add("spec.gcpCredentials", message);
}
