//! Tokens of Entra.
//!
//! Source: Microsoft identity platform, "OAuth 2.0 client credentials flow", "Certificate credentials", and
//! "Managed identities: how to acquire a token".

use std::time::{SystemTime, UNIX_EPOCH};

use config::{
    Secret,
    credential::{Application, Azure, AzureProof},
};
use http::{HeaderMap, HeaderValue};
use serde_json::json;

use super::{MintError, World, jwt, oauth, oidc, refresh::Minted};

/// Where a machine asks for its own tokens.
const MACHINE: &str = "http://169.254.169.254/metadata/identity/oauth2/token";

const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Seconds that a statement made with a certificate is good for.
const STATEMENT: u64 = 600;

/// Returns a new token.
pub(crate) async fn mint(world: &World, azure: &Azure) -> Result<Minted<Secret>, MintError> {
    match &azure.proof {
        AzureProof::Secret(application, secret) => {
            let proof = [("client_secret", secret.expose())];
            ask(world, application, &azure.scope, &proof).await
        }
        AzureProof::Certificate {
            application,
            certificate,
            key,
        } => {
            let statement = statement(application, certificate.expose(), key.expose())?;
            assert(world, application, &azure.scope, &statement).await
        }
        AzureProof::Assertion(application, token) => {
            let token = oidc::token(world, token).await?;
            assert(world, application, &azure.scope, token.expose()).await
        }
        AzureProof::Machine { client } => machine(world, &azure.scope, client.as_deref()).await,
    }
}

async fn assert(
    world: &World,
    application: &Application,
    scope: &str,
    assertion: &str,
) -> Result<Minted<Secret>, MintError> {
    let proof = [
        ("client_assertion_type", ASSERTION),
        ("client_assertion", assertion),
    ];
    ask(world, application, scope, &proof).await
}

async fn ask(
    world: &World,
    application: &Application,
    scope: &str,
    proof: &[(&str, &str)],
) -> Result<Minted<Secret>, MintError> {
    let mut fields = vec![
        ("grant_type", "client_credentials"),
        ("client_id", application.client.as_str()),
        ("scope", scope),
    ];
    fields.extend_from_slice(proof);
    oauth::token(&world.azure, &endpoint(application), &fields).await
}

fn endpoint(application: &Application) -> String {
    format!(
        "{}/{}/oauth2/v2.0/token",
        application.authority, application.tenant
    )
}

/// Returns a statement that only the owner of the certificate can make.
fn statement(application: &Application, certificate: &str, key: &str) -> Result<String, MintError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = now.as_secs();
    let header = json!({ "alg": "RS256", "typ": "JWT", "x5t#S256": jwt::thumbprint(certificate)? });
    let claims = json!({
        "aud": endpoint(application),
        "iss": application.client,
        "sub": application.client,
        "jti": format!("{:032x}", fastrand::u128(..)),
        "nbf": now,
        "iat": now,
        "exp": now + STATEMENT,
    });
    jwt::sign(&header, &claims, key)
}

/// Returns a token of the machine: from where App Service and its kin say, or else from the metadata service.
async fn machine(world: &World, scope: &str, client: Option<&str>) -> Result<Minted<Secret>, MintError> {
    // Machines are asked for a resource, of which the default scope is one.
    let resource = scope.strip_suffix("/.default").unwrap_or(scope);
    let mut headers = HeaderMap::new();
    let (url, version) = match (
        world.variable("IDENTITY_ENDPOINT"),
        world.variable("IDENTITY_HEADER"),
    ) {
        (Some(endpoint), Some(secret)) => {
            let mut secret = HeaderValue::try_from(secret)
                .map_err(|_| MintError::Malformed("IDENTITY_HEADER is not a header"))?;
            secret.set_sensitive(true);
            headers.insert("x-identity-header", secret);
            (endpoint, "2019-08-01")
        }
        _ => {
            headers.insert("metadata", HeaderValue::from_static("true"));
            let host = world.variable("AZURE_POD_IDENTITY_AUTHORITY_HOST");
            let url =
                host.map(|host| format!("{}/metadata/identity/oauth2/token", host.trim_end_matches('/')));
            (url.unwrap_or_else(|| MACHINE.to_owned()), "2018-02-01")
        }
    };
    let mut fields = vec![("api-version", version), ("resource", resource)];
    if let Some(client) = client {
        fields.push(("client_id", client));
    }
    let url = format!("{url}?{}", oauth::form(&fields));
    let (status, body) = world.http.get(&url, headers).await?;
    oauth::issued(status, &body)
}
