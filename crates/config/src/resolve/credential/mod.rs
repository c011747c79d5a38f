//! What one BackendSecurityPolicy says: the credential of its targets, or why they cannot be called.

use std::{str::FromStr, sync::Arc};

use http::{HeaderName, HeaderValue};
use llm::provider::CredentialKind;

use super::{End, Notes, permitted, target};
use crate::{
    Key, Resources, Secret,
    credential::{Brought, Credential, Place, Scheme, Signature, Source},
    kind::{
        BackendSecurityPolicy,
        backend_security_policy::{ApiKey, AwsCredentials, CredentialOverride, CredentialType},
        reference::SecretRef,
    },
};

mod cloud;
mod profile;

/// A policy on its way to a credential.
struct Policy<'a> {
    resources: &'a Resources,
    key: &'a Key,
    spec: &'a BackendSecurityPolicy,
}

/// What is wrong with a policy: the field and why.
type Fault = (String, String);

/// Returns the credential that `spec` declares; says why if there is none.
pub(super) fn resolve(
    resources: &Resources,
    key: &Key,
    spec: &BackendSecurityPolicy,
    notes: &mut Notes,
) -> Result<Credential, String> {
    let policy = Policy { resources, key, spec };
    policy.credential(notes).map_err(|(field, message)| {
        notes.unresolved(KIND, key, "InvalidCredential", field, &message);
        format!("{KIND} {key}: {message}")
    })
}

impl Policy<'_> {
    fn credential(&self, notes: &mut Notes) -> Result<Credential, Fault> {
        let brought = self.spec.credential_override.as_ref();
        let brought = brought.map(|brought| self.brought(brought)).transpose()?;
        let source = match (self.source(notes), &brought) {
            (Ok(source), _) => Some(source),
            // Nothing that is declared is used, so that nothing has to be there.
            (Err((field, message)), Some(brought)) if !brought.fallback => {
                let message = format!("{message}: every request must bring its own");
                notes.warn(KIND, self.key, "NothingConfigured", field.as_str(), message);
                None
            }
            (Err(fault), _) => return Err(fault),
        };
        Ok(Credential {
            policy: Arc::from(self.key.to_string()),
            scheme: self.scheme(),
            source,
            brought,
            prefix: self.spec.gcp_credentials.as_ref().map(|gcp| {
                let (project, region) = (&gcp.project_name, &gcp.region);
                format!("v1/projects/{project}/locations/{region}")
            }),
        })
    }

    fn scheme(&self) -> Scheme {
        Scheme::Header(match self.spec.kind {
            CredentialType::APIKey | CredentialType::AzureCredentials | CredentialType::GCPCredentials => {
                CredentialKind::Bearer
            }
            CredentialType::AnthropicAPIKey => CredentialKind::XApiKey,
            CredentialType::AzureAPIKey => CredentialKind::ApiKey,
            CredentialType::AWSCredentials => {
                return Scheme::Signature(signature(self.spec.aws_credentials.as_ref()));
            }
        })
    }

    fn source(&self, notes: &mut Notes) -> Result<Source, Fault> {
        let spec = self.spec;
        match spec.kind {
            CredentialType::APIKey => self.api_key("apiKey", spec.api_key.as_ref(), notes),
            CredentialType::AnthropicAPIKey => {
                self.api_key("anthropicAPIKey", spec.anthropic_api_key.as_ref(), notes)
            }
            CredentialType::AzureAPIKey => self.api_key("azureAPIKey", spec.azure_api_key.as_ref(), notes),
            CredentialType::AWSCredentials => self.aws(notes).map(Source::Aws),
            CredentialType::AzureCredentials => self.azure(notes).map(Source::Azure),
            CredentialType::GCPCredentials => self.gcp(notes).map(Source::Gcp),
        }
    }

    fn api_key(&self, member: &str, key: Option<&ApiKey>, notes: &mut Notes) -> Result<Source, Fault> {
        let field = format!("spec.{member}.secretRef");
        let reference = key.map(|key| &key.secret_ref);
        let reference = reference.ok_or_else(|| (field.clone(), "no secret is named".to_owned()))?;
        self.header(&field, reference, API_KEY, notes).map(Source::Key)
    }

    /// Returns the value of `entry` in the Secret that `reference` leads to, trimmed and fit for a header.
    fn header(
        &self,
        field: &str,
        reference: &SecretRef,
        entry: &str,
        notes: &mut Notes,
    ) -> Result<Secret, Fault> {
        let secret = self.secret(field, reference, entry, notes)?;
        let trimmed = secret.expose().trim();
        let wrong = |what: &str| {
            let name = &reference.name;
            (
                field.to_owned(),
                format!("key \"{entry}\" of Secret {name} {what}"),
            )
        };
        if trimmed.is_empty() {
            return Err(wrong("is empty"));
        }
        if HeaderValue::from_str(trimmed).is_err() {
            return Err(wrong("has characters that headers must not have"));
        }
        Ok(Secret::new(trimmed))
    }

    /// Returns the value of `entry` in the Secret that `reference` leads to.
    fn secret(
        &self,
        field: &str,
        reference: &SecretRef,
        entry: &str,
        notes: &mut Notes,
    ) -> Result<Secret, Fault> {
        let fault = |message: String| (field.to_owned(), message);
        let (group, kind) = (reference.group.as_deref(), reference.kind.as_deref());
        if !group.unwrap_or_default().is_empty() || !matches!(kind, None | Some("" | "Secret")) {
            return Err(fault("only a Secret can hold a key".to_owned()));
        }
        let to = self.named(reference);
        if !permitted(self.resources, End::policy(self.key), End::secret(&to), notes) {
            let message = format!("no ReferenceGrant allows the reference to Secret {to}");
            return Err(fault(message));
        }
        let declared = self.resources.secrets.get(&to);
        let declared = declared.ok_or_else(|| fault(format!("Secret {to} does not exist")))?;
        notes.used("Secret", &to);
        let value = declared.spec.data.get(entry);
        let value = value.ok_or_else(|| fault(format!("Secret {to} has no key \"{entry}\"")))?;
        Ok(value.clone())
    }

    /// Returns the key of the Secret that `reference` means.
    fn named(&self, reference: &SecretRef) -> Key {
        target(
            reference.namespace.as_deref(),
            &reference.name,
            &self.key.namespace,
        )
    }

    fn brought(&self, declared: &CredentialOverride) -> Result<Brought, Fault> {
        let defaults = Defaults::of(self.spec.kind);
        match (&declared.from_request_headers, &declared.from_dynamic_metadata) {
            (Some(headers), _) => Ok(Brought {
                place: defaults.headers(headers.header.as_deref())?,
                fallback: headers.fallback_to_configured.unwrap_or(true),
            }),
            (None, Some(metadata)) => Ok(Brought {
                place: Place::Metadata {
                    namespace: metadata.namespace.clone(),
                    key: metadata.key.clone().unwrap_or_else(|| defaults.key.to_owned()),
                },
                fallback: metadata.fallback_to_configured.unwrap_or(true),
            }),
            (None, None) => Err((
                "spec.credentialOverride".to_owned(),
                "no place is named".to_owned(),
            )),
        }
    }
}

/// Where requests bring a credential of a type unless the policy says otherwise; the compatibility
/// specification, "Per-request credentials".
struct Defaults {
    header: &'static str,
    key: &'static str,
    /// Whether the header is the beginning of three.
    triple: bool,
}

impl Defaults {
    fn of(kind: CredentialType) -> Self {
        let same = |name| Self {
            header: name,
            key: name,
            triple: false,
        };
        match kind {
            CredentialType::APIKey => same("x-aigw-api-key"),
            CredentialType::AnthropicAPIKey => same("x-aigw-anthropic-api-key"),
            CredentialType::AzureAPIKey => same("x-aigw-azure-api-key"),
            CredentialType::AzureCredentials => same("x-aigw-azure-access-token"),
            CredentialType::GCPCredentials => same("x-aigw-gcp-access-token"),
            CredentialType::AWSCredentials => Self {
                header: "x-aigw-aws-",
                key: "x-aigw-aws-credentials",
                triple: true,
            },
        }
    }

    fn headers(&self, declared: Option<&str>) -> Result<Place, Fault> {
        let declared = declared.filter(|name| !name.is_empty()).unwrap_or(self.header);
        let name = |suffix: &str| {
            HeaderName::from_str(&format!("{declared}{suffix}")).map_err(|_| {
                (
                    "spec.credentialOverride.fromRequestHeaders.header".to_owned(),
                    format!("\"{declared}\" cannot be the name of a header"),
                )
            })
        };
        if !self.triple {
            return name("").map(Place::Header);
        }
        let names = [
            name("access-key-id")?,
            name("secret-access-key")?,
            name("session-token")?,
        ];
        Ok(Place::Headers(names))
    }
}

fn signature(aws: Option<&AwsCredentials>) -> Signature {
    let service = aws.and_then(|aws| aws.service.clone());
    let host = aws.and_then(|aws| aws.signing_host.as_deref());
    Signature {
        region: aws.map(|aws| aws.region.clone()).unwrap_or_default(),
        service: service.unwrap_or_else(|| SERVICE.to_owned()),
        host: host.map(str::to_ascii_lowercase),
    }
}

const KIND: &str = "BackendSecurityPolicy";

/// Where a Secret keeps an API key.
const API_KEY: &str = "apiKey";

/// Where a Secret keeps the secret of a client.
pub(super) const CLIENT_SECRET: &str = "client-secret";

/// The service that Bedrock's calls are signed for, whatever the host.
const SERVICE: &str = "bedrock";
