//! Credentials that are had from a cloud: AWS, Azure, Google, and the tokens that they exchange.

use super::{CLIENT_SECRET, Fault, Policy, profile};
use crate::{
    Secret,
    credential::{Application, Aws, AwsBase, Azure, AzureProof, Gcp, Oidc, Role, Token},
    kind::backend_security_policy::{self as kind, AzureCredentials, WorkloadIdentity},
    resolve::Notes,
};

impl Policy<'_> {
    pub(super) fn aws(&self, notes: &mut Notes) -> Result<Aws, Fault> {
        let at = "spec.awsCredentials";
        let declared = self.spec.aws_credentials.as_ref().ok_or_else(|| absent(at))?;
        let base = match (&declared.credentials_file, &declared.oidc_exchange_token) {
            (Some(_), Some(_)) => {
                let message = "at most one of credentialsFile and oidcExchangeToken may be specified";
                return Err((at.to_owned(), message.to_owned()));
            }
            (Some(file), None) => {
                let field = format!("{at}.credentialsFile.secretRef");
                let text = self.secret(&field, &file.secret_ref, "credentials", notes)?;
                let name = file.profile.as_deref().unwrap_or("default");
                AwsBase::Keys(profile::keys(text.expose(), name).map_err(|message| (field, message))?)
            }
            (None, Some(exchange)) => AwsBase::Web {
                role: exchange.aws_role_arn.clone(),
                token: self.token(
                    &Exchange {
                        at: format!("{at}.oidcExchangeToken"),
                        oidc: exchange.oidc.as_ref(),
                        file: exchange.token_file.as_deref(),
                        grant: exchange.grant_type.as_deref(),
                        audience: exchange.aud.as_deref(),
                    },
                    notes,
                )?,
            },
            (None, None) => AwsBase::Chain,
        };
        let role = declared.assume_role.as_ref();
        let session = role.and_then(|role| role.session_name.clone());
        Ok(Aws {
            region: declared.region.clone(),
            session: session.unwrap_or_else(|| session_name(&self.key.name)),
            base,
            role: role.map(|role| Role {
                arn: role.role_arn.clone(),
                external_id: role.external_id.clone(),
            }),
        })
    }

    pub(super) fn azure(&self, notes: &mut Notes) -> Result<Azure, Fault> {
        let at = "spec.azureCredentials";
        let declared = self.spec.azure_credentials.as_ref().ok_or_else(|| absent(at))?;
        let scope = declared.scope.as_deref().unwrap_or(AZURE_SCOPE);
        let proof = if let Some(secret) = &declared.client_secret_ref {
            let field = format!("{at}.clientSecretRef");
            let secret = self.trimmed(&field, secret, CLIENT_SECRET, notes)?;
            AzureProof::Secret(application(declared), secret)
        } else if let Some(certificate) = &declared.client_certificate_ref {
            let field = format!("{at}.clientCertificateRef");
            AzureProof::Certificate {
                application: application(declared),
                certificate: self.secret(&field, certificate, "tls.crt", notes)?,
                key: self.secret(&field, certificate, "tls.key", notes)?,
            }
        } else if let Some(exchange) = &declared.oidc_exchange_token {
            let exchange = Exchange::new(format!("{at}.oidcExchangeToken"), exchange);
            AzureProof::Assertion(application(declared), self.token(&exchange, notes)?)
        } else {
            AzureProof::Machine {
                client: declared.client_id.clone().filter(|client| !client.is_empty()),
            }
        };
        Ok(Azure {
            scope: scope.to_owned(),
            proof,
        })
    }

    pub(super) fn gcp(&self, notes: &mut Notes) -> Result<Gcp, Fault> {
        let at = "spec.gcpCredentials";
        let declared = self.spec.gcp_credentials.as_ref().ok_or_else(|| absent(at))?;
        if let Some(file) = &declared.credentials_file {
            let field = format!("{at}.credentialsFile.secretRef");
            let key = self.secret(&field, &file.secret_ref, "service_account.json", notes)?;
            let sound = serde_json::from_str::<serde_json::Value>(key.expose());
            if !sound.is_ok_and(|value| value.get("type").is_some()) {
                let message = "\"service_account.json\" is not a key file: JSON with a member \"type\"";
                return Err((field, message.to_owned()));
            }
            return Ok(Gcp::Key(key));
        }
        let Some(federation) = &declared.workload_identity_federation_config else {
            return Ok(Gcp::Default);
        };
        let field = format!("{at}.workloadIdentityFederationConfig.oidcExchangeToken");
        let exchange = Exchange::new(field, &federation.oidc_exchange_token);
        Ok(Gcp::Federation {
            audience: audience(federation),
            token: self.token(&exchange, notes)?,
            exchange: GOOGLE_EXCHANGE.to_owned(),
            impersonation: account(federation, &declared.project_name)
                .map(|account| format!("{GOOGLE_ACCOUNTS}/{account}:generateAccessToken")),
        })
    }

    /// Returns the token that is to be exchanged.
    fn token(&self, exchange: &Exchange<'_>, notes: &mut Notes) -> Result<Token, Fault> {
        let fault = |message: &str| Err((exchange.at.clone(), message.to_owned()));
        if exchange.grant.is_some_and(|grant| grant != "client_credentials") {
            return fault("grantType must be client_credentials");
        }
        let oidc = match (exchange.oidc, exchange.file) {
            (Some(oidc), None) => oidc,
            (None, Some(file)) => return Ok(Token::File(file.to_owned())),
            (None, None) | (Some(_), Some(_)) => {
                return fault("exactly one of oidc and tokenFile must be specified");
            }
        };
        let Some(client) = oidc.client_id.as_deref().filter(|client| !client.is_empty()) else {
            return fault("oidc.clientID is required; clientIDRef is not served by this version");
        };
        let field = format!("{}.oidc.clientSecret", exchange.at);
        Ok(Token::Oidc(Box::new(Oidc {
            issuer: oidc.provider.issuer.trim_end_matches('/').to_owned(),
            endpoint: oidc.provider.token_endpoint.clone(),
            client: client.to_owned(),
            secret: self.trimmed(&field, &oidc.client_secret, CLIENT_SECRET, notes)?,
            scopes: oidc.scopes.clone(),
            audience: exchange.audience.map(str::to_owned),
            resource: None,
        })))
    }

    /// Returns a value of a Secret without surrounding whitespace, which editors like to add.
    fn trimmed(
        &self,
        field: &str,
        reference: &crate::kind::reference::SecretRef,
        entry: &str,
        notes: &mut Notes,
    ) -> Result<Secret, Fault> {
        let secret = self.secret(field, reference, entry, notes)?;
        let trimmed = secret.expose().trim();
        if trimmed.is_empty() {
            let message = format!("key \"{entry}\" of Secret {} is empty", self.named(reference));
            return Err((field.to_owned(), message));
        }
        Ok(Secret::new(trimmed))
    }
}

/// A token that is exchanged, as the three clouds declare it.
struct Exchange<'a> {
    at: String,
    oidc: Option<&'a kind::Oidc>,
    file: Option<&'a str>,
    grant: Option<&'a str>,
    audience: Option<&'a str>,
}

impl<'a> Exchange<'a> {
    fn new(at: String, declared: &'a kind::OidcExchange) -> Self {
        Self {
            at,
            oidc: declared.oidc.as_ref(),
            file: declared.token_file.as_deref(),
            grant: declared.grant_type.as_deref(),
            audience: declared.aud.as_deref(),
        }
    }
}

fn absent(field: &str) -> Fault {
    (field.to_owned(), "is absent".to_owned())
}

fn application(declared: &AzureCredentials) -> Application {
    let authority = declared.authority.as_deref().unwrap_or(AUTHORITY);
    Application {
        authority: authority.trim_end_matches('/').to_owned(),
        tenant: declared.tenant_id.clone().unwrap_or_default(),
        client: declared.client_id.clone().unwrap_or_default(),
    }
}

fn audience(federation: &WorkloadIdentity) -> String {
    format!(
        "//iam.googleapis.com/projects/{}/locations/global/workloadIdentityPools/{}/providers/{}",
        federation.project_id,
        federation.workload_identity_pool_name,
        federation.workload_identity_provider_name
    )
}

/// Returns the address of the service account to act as: as it is written, or by its name in `project`.
fn account(federation: &WorkloadIdentity, project: &str) -> Option<String> {
    let name = &federation
        .service_account_impersonation
        .as_ref()?
        .service_account_name;
    Some(if name.contains('@') {
        name.clone()
    } else {
        format!("{name}@{project}.iam.gserviceaccount.com")
    })
}

/// Returns a name for sessions of AWS, which takes 64 characters of `[\w+=,.@-]`.
fn session_name(policy: &str) -> String {
    let name = policy
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' });
    "ai-gateway-".chars().chain(name).take(64).collect()
}

const AZURE_SCOPE: &str = "https://cognitiveservices.azure.com/.default";
const AUTHORITY: &str = "https://login.microsoftonline.com";
const GOOGLE_EXCHANGE: &str = "https://sts.googleapis.com/v1/token";
const GOOGLE_ACCOUNTS: &str = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts";
