//! Tokens of one's own, which clouds exchange for theirs.

use bytes::Bytes;
use config::{
    Secret,
    credential::{Oidc, Token},
};
use http::{HeaderMap, StatusCode, Uri};
use serde::Deserialize;

use super::{MintError, World, oauth, refresh::Minted};
use crate::access::issuer::{OPENID, places};

/// What is read of an issuer's description (OpenID Connect Discovery 1.0, section 4).
#[derive(Deserialize)]
struct Description {
    issuer: String,
    token_endpoint: String,
}

/// Returns a token that can be exchanged now.
pub(crate) async fn token(world: &World, token: &Token) -> Result<Secret, MintError> {
    match token {
        Token::File(path) => read(path).await,
        Token::Oidc(oidc) => Ok(ask(world, oidc).await?.value),
    }
}

/// Returns the content of a file that somebody else keeps up to date, which is why it is read each time.
pub(crate) async fn read(path: &str) -> Result<Secret, MintError> {
    let content = tokio::fs::read_to_string(path).await;
    let content = content.map_err(|source| MintError::File {
        path: path.to_owned(),
        source,
    })?;
    let token = content.trim();
    if token.is_empty() {
        return Err(MintError::Malformed("the token file is empty"));
    }
    Ok(Secret::new(token))
}

/// Has the issuer issue a token to the client.
pub(crate) async fn ask(world: &World, oidc: &Oidc) -> Result<Minted<Secret>, MintError> {
    let endpoint = match &oidc.endpoint {
        Some(endpoint) => endpoint.clone(),
        None => discover(world, &oidc.issuer).await?,
    };
    let scope = oidc.scopes.join(" ");
    let mut fields = vec![
        ("grant_type", "client_credentials"),
        ("client_id", oidc.client.as_str()),
        ("client_secret", oidc.secret.expose()),
    ];
    if !scope.is_empty() {
        fields.push(("scope", scope.as_str()));
    }
    if let Some(audience) = &oidc.audience {
        fields.push(("audience", audience.as_str()));
    }
    if let Some(resource) = &oidc.resource {
        fields.push(("resource", resource.as_str()));
    }
    oauth::token(&world.http, &endpoint, &fields).await
}

/// Returns where the issuer says that tokens are had. Servers that know no people may have no OpenID document, but that of
/// RFC 8414 alone.
async fn discover(world: &World, issuer: &str) -> Result<String, MintError> {
    let mut refusal = None;
    let openid = format!("{issuer}{OPENID}");
    let others = issuer
        .parse()
        .map(|issuer: Uri| places(&issuer))
        .unwrap_or_default();
    let others = others
        .iter()
        .map(ToString::to_string)
        .filter(|place| *place != openid);
    for place in std::iter::once(openid.clone()).chain(others) {
        let (status, body) = world.http.get(&place, HeaderMap::new()).await?;
        if status == StatusCode::OK {
            return described(issuer, &body);
        }
        refusal.get_or_insert_with(|| oauth::refusal(status, &body));
        if !status.is_client_error() {
            break;
        }
    }
    Err(refusal.unwrap_or(MintError::Malformed("the issuer has no description")))
}

/// Returns the endpoint for tokens in the description of `issuer`.
fn described(issuer: &str, body: &Bytes) -> Result<String, MintError> {
    let description: Description = serde_json::from_slice(body)
        .map_err(|_| MintError::Malformed("the issuer's description has no issuer and token_endpoint"))?;
    if description.issuer.trim_end_matches('/') != issuer {
        return Err(MintError::Malformed(
            "the issuer's description is that of another issuer",
        ));
    }
    Ok(description.token_endpoint)
}
