//! Tokens of Google.
//!
//! Source: Google Cloud, "How Application Default Credentials works", "Authenticating with service accounts
//! over HTTP/REST", "Workload Identity Federation" (AIP-4110, 4112, 4115, 4117).

use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use config::{
    Secret,
    credential::{Gcp, Token},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Deserialize;
use serde_json::json;

use super::{MintError, World, jwt, oauth, oidc, refresh::Minted};

/// What every token is for.
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// What a token is for that is only good for acting as a service account.
const IAM: &str = "https://www.googleapis.com/auth/iam";

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const STATEMENT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// Where users' tokens are renewed.
const RENEWAL: &str = "https://oauth2.googleapis.com/token";

/// The host of the metadata service.
const METADATA: &str = "metadata.google.internal";

/// A key file, of one of several kinds.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum KeyFile {
    ServiceAccount {
        client_email: String,
        private_key: Secret,
        private_key_id: Option<String>,
        token_uri: String,
    },
    AuthorizedUser {
        client_id: String,
        client_secret: Secret,
        refresh_token: Secret,
        token_uri: Option<String>,
    },
    ExternalAccount {
        audience: String,
        subject_token_type: String,
        token_url: String,
        credential_source: Box<SubjectSource>,
        service_account_impersonation_url: Option<String>,
    },
}

/// Where the token to exchange comes from.
#[derive(Deserialize)]
struct SubjectSource {
    file: Option<String>,
    url: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    format: Option<SubjectFormat>,
}

/// How the token is written there: as it is, or as a member of a document.
#[derive(Deserialize)]
struct SubjectFormat {
    subject_token_field_name: Option<String>,
}

/// What is exchanged for what.
struct Exchange<'a> {
    url: &'a str,
    audience: &'a str,
    token: Secret,
    token_type: &'a str,
    impersonation: Option<&'a str>,
}

/// A token of a service account, as it is given to those who act as it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Impersonated {
    access_token: String,
    expire_time: String,
}

/// Returns a new token.
pub(crate) async fn mint(world: &World, gcp: &Gcp) -> Result<Minted<Secret>, MintError> {
    match gcp {
        Gcp::Key(file) => by_key(world, file.expose()).await,
        Gcp::Federation {
            audience,
            token,
            exchange: url,
            impersonation,
        } => {
            let exchange = Exchange {
                url,
                audience,
                token: oidc::token(world, token).await?,
                token_type: JWT,
                impersonation: impersonation.as_deref(),
            };
            exchange.run(world).await
        }
        Gcp::Default => default(world).await,
    }
}

/// Returns a token by what the environment offers: a key file that is named, that of the command-line tool, and
/// the metadata service of machines and clusters.
async fn default(world: &World) -> Result<Minted<Secret>, MintError> {
    if let Some(path) = world.variable("GOOGLE_APPLICATION_CREDENTIALS") {
        return by_key(world, oidc::read(&path).await?.expose()).await;
    }
    let folder = world.variable("CLOUDSDK_CONFIG").map(PathBuf::from);
    let home = || Some(PathBuf::from(world.variable("HOME")?).join(".config/gcloud"));
    if let Some(folder) = folder.or_else(home) {
        let path = folder.join("application_default_credentials.json");
        if tokio::fs::try_exists(&path).await.unwrap_or(false) {
            return by_key(world, oidc::read(&path.to_string_lossy()).await?.expose()).await;
        }
    }
    let host = world.variable("GCE_METADATA_HOST");
    let host = host.as_deref().unwrap_or(METADATA);
    let url = format!("http://{host}/computeMetadata/v1/instance/service-accounts/default/token");
    let mut headers = HeaderMap::new();
    headers.insert("metadata-flavor", HeaderValue::from_static("Google"));
    let (status, body) = world.http.get(&url, headers).await?;
    oauth::issued(status, &body)
}

async fn by_key(world: &World, text: &str) -> Result<Minted<Secret>, MintError> {
    let file: KeyFile =
        serde_json::from_str(text).map_err(|_| MintError::Key("it is not a key file of a known type"))?;
    match &file {
        KeyFile::ServiceAccount {
            client_email,
            private_key,
            private_key_id,
            token_uri,
        } => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let now = now.as_secs();
            let header = json!({ "alg": "RS256", "typ": "JWT", "kid": private_key_id });
            let claims = json!({
                "iss": client_email,
                "scope": SCOPE,
                "aud": token_uri,
                "iat": now,
                "exp": now + 3600,
            });
            let statement = jwt::sign(&header, &claims, private_key.expose())?;
            let fields = [("grant_type", STATEMENT), ("assertion", &statement)];
            oauth::token(&world.gcp, token_uri, &fields).await
        }
        KeyFile::AuthorizedUser {
            client_id,
            client_secret,
            refresh_token,
            token_uri,
        } => {
            let fields = [
                ("grant_type", "refresh_token"),
                ("client_id", client_id),
                ("client_secret", client_secret.expose()),
                ("refresh_token", refresh_token.expose()),
            ];
            let url = token_uri.as_deref().unwrap_or(RENEWAL);
            oauth::token(&world.gcp, url, &fields).await
        }
        KeyFile::ExternalAccount {
            audience,
            subject_token_type,
            token_url,
            credential_source,
            service_account_impersonation_url,
        } => {
            let exchange = Exchange {
                url: token_url,
                audience,
                token: credential_source.token(world).await?,
                token_type: subject_token_type,
                impersonation: service_account_impersonation_url.as_deref(),
            };
            exchange.run(world).await
        }
    }
}

impl SubjectSource {
    async fn token(&self, world: &World) -> Result<Secret, MintError> {
        let content = match (&self.file, &self.url) {
            (Some(path), _) => oidc::token(world, &Token::File(path.clone())).await?,
            (None, Some(url)) => {
                let (status, body) = world.http.get(url, self.headers()?).await?;
                if status != StatusCode::OK {
                    return Err(oauth::refusal(status, &body));
                }
                let text = String::from_utf8(body.to_vec());
                Secret::new(text.map_err(|_| MintError::Malformed("the token is not text"))?)
            }
            (None, None) => return Err(MintError::Key("credential_source names neither file nor url")),
        };
        let field = self.format.as_ref();
        let Some(field) = field.and_then(|format| format.subject_token_field_name.as_deref()) else {
            return Ok(content);
        };
        let document: serde_json::Value = serde_json::from_str(content.expose())
            .map_err(|_| MintError::Malformed("the token's document is not JSON"))?;
        let token = document.get(field).and_then(serde_json::Value::as_str);
        token
            .map(Secret::new)
            .ok_or(MintError::Malformed("the token's document does not hold it"))
    }

    fn headers(&self) -> Result<HeaderMap, MintError> {
        let pairs = self.headers.iter().map(|(name, value)| {
            let name = HeaderName::try_from(name).ok()?;
            Some((name, HeaderValue::try_from(value).ok()?))
        });
        let headers: Option<HeaderMap> = pairs.collect();
        headers.ok_or(MintError::Key(
            "credential_source has a header that cannot be one",
        ))
    }
}

impl Exchange<'_> {
    async fn run(self, world: &World) -> Result<Minted<Secret>, MintError> {
        let scope = if self.impersonation.is_some() { IAM } else { SCOPE };
        let fields = [
            ("grant_type", EXCHANGE),
            ("audience", self.audience),
            ("scope", scope),
            ("requested_token_type", ACCESS_TOKEN),
            ("subject_token", self.token.expose()),
            ("subject_token_type", self.token_type),
        ];
        let exchanged = oauth::token(&world.gcp, self.url, &fields).await?;
        match self.impersonation {
            Some(url) => impersonate(world, url, &exchanged.value).await,
            None => Ok(exchanged),
        }
    }
}

async fn impersonate(world: &World, url: &str, token: &Secret) -> Result<Minted<Secret>, MintError> {
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, super::bearer(token)?);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let body = json!({ "scope": [SCOPE] }).to_string();
    let (status, body) = world.gcp.post(url, headers, body).await?;
    impersonated(status, &body)
}

fn impersonated(status: StatusCode, body: &Bytes) -> Result<Minted<Secret>, MintError> {
    if status != StatusCode::OK {
        return Err(oauth::refusal(status, body));
    }
    let malformed = || MintError::Malformed("the answer is not a token of a service account");
    let given: Impersonated = serde_json::from_slice(body).map_err(|_| malformed())?;
    let expires: jiff::Timestamp = given.expire_time.parse().map_err(|_| malformed())?;
    let left = expires.duration_since(jiff::Timestamp::now());
    let left = Duration::try_from(left).map_err(|_| MintError::Expired)?;
    Ok(Minted::new(Secret::new(given.access_token), Some(left)))
}
