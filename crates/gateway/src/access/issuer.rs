//! What an authorization server says of itself, and where that is found.

use bytes::Bytes;
use http::Uri;
use serde::Deserialize;

/// What an authorization server says of itself.
pub(super) struct Metadata {
    /// The document, as it came.
    pub(super) document: Bytes,
    /// Where its keys are.
    pub(super) keys: Uri,
}

#[derive(Deserialize)]
struct Written {
    issuer: String,
    jwks_uri: String,
}

/// Returns where the metadata of the server at `uri` may be (RFC 8414, section 3; OpenID Connect Discovery 1.0,
/// section 4).
pub(crate) fn places(uri: &Uri) -> Vec<Uri> {
    let path = uri.path().trim_end_matches('/');
    let paths = [
        format!("{SERVER}{path}"),
        format!("{OPENID}{path}"),
        format!("{path}{SERVER}"),
        format!("{path}{OPENID}"),
    ];
    let places = paths.into_iter().filter_map(|path| {
        let mut parts = uri.clone().into_parts();
        parts.path_and_query = Some(path.parse().ok()?);
        Uri::from_parts(parts).ok()
    });
    places.collect()
}

impl Metadata {
    /// Reads the metadata of the server that calls itself `issuer`.
    ///
    /// # Errors
    /// If they are none, another server's, or name no keys.
    pub(super) fn read(document: Bytes, issuer: &str) -> Result<Self, String> {
        let written: Written =
            serde_json::from_slice(&document).map_err(|_| "the metadata are malformed".to_owned())?;
        // Whoever answers for somebody else could vouch for them (RFC 8414, section 3.3).
        if written.issuer != issuer {
            return Err("the metadata are of another issuer".to_owned());
        }
        let keys: Option<Uri> = written.jwks_uri.parse().ok();
        let secure = |keys: &Uri| keys.scheme_str() == Some("https") || !issuer.starts_with("https:");
        let keys = keys.filter(|keys| keys.authority().is_some() && secure(keys));
        let keys = keys.ok_or_else(|| "the metadata name no keys".to_owned())?;
        Ok(Self { document, keys })
    }
}

const SERVER: &str = "/.well-known/oauth-authorization-server";
/// Where a server's description lies below its address, as OpenID Connect has it.
pub(crate) const OPENID: &str = "/.well-known/openid-configuration";
