//! Tokens of one's own, which clouds exchange for theirs.

use config::{
    Secret,
    credential::{Oidc, Token},
};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use super::{MintError, World, oauth, refresh::Minted};

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

async fn ask(world: &World, oidc: &Oidc) -> Result<Minted<Secret>, MintError> {
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
    oauth::token(&world.http, &endpoint, &fields).await
}

async fn discover(world: &World, issuer: &str) -> Result<String, MintError> {
    let url = format!("{issuer}/.well-known/openid-configuration");
    let (status, body) = world.http.get(&url, HeaderMap::new()).await?;
    if status != StatusCode::OK {
        return Err(oauth::refusal(status, &body));
    }
    let description: Description = serde_json::from_slice(&body)
        .map_err(|_| MintError::Malformed("the issuer's description has no issuer and token_endpoint"))?;
    if description.issuer.trim_end_matches('/') != issuer {
        return Err(MintError::Malformed(
            "the issuer's description is that of another issuer",
        ));
    }
    Ok(description.token_endpoint)
}
