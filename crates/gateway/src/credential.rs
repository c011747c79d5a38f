//! Dresses a call with the upstream's credential, last of all, so that nothing else can take its place.

use config::snapshot::Credential;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use llm::provider::CredentialKind;

/// The key cannot stand in a header.
#[derive(Debug, thiserror::Error)]
#[error("the key of {policy} holds characters that a header cannot carry")]
pub(crate) struct CredentialError {
    policy: String,
}

/// Puts `credential` into `headers`.
///
/// # Errors
/// If the key is not fit for a header.
pub(crate) fn apply(credential: &Credential, headers: &mut HeaderMap) -> Result<(), CredentialError> {
    let key = credential.key.expose();
    let (name, value) = match credential.kind {
        CredentialKind::Bearer => (
            header::AUTHORIZATION,
            HeaderValue::try_from(format!("Bearer {key}")),
        ),
        CredentialKind::XApiKey => (HeaderName::from_static("x-api-key"), HeaderValue::try_from(key)),
        CredentialKind::ApiKey => (HeaderName::from_static("api-key"), HeaderValue::try_from(key)),
        CredentialKind::XGoogApiKey => (
            HeaderName::from_static("x-goog-api-key"),
            HeaderValue::try_from(key),
        ),
    };
    let mut value = value.map_err(|_| CredentialError {
        policy: credential.policy.to_string(),
    })?;
    value.set_sensitive(true);
    headers.insert(name, value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use config::Secret;

    use super::*;

    #[test]
    fn each_kind_has_its_header() {
        let check = |kind, name: &str, wanted: &str| {
            let credential = Credential {
                policy: Arc::from("default/key"),
                kind,
                key: Secret::new("k"),
            };
            let mut headers = HeaderMap::new();
            apply(&credential, &mut headers).expect("fit for a header");
            assert_eq!(headers.len(), 1);
            assert_eq!(headers[name], wanted);
            assert!(headers[name].is_sensitive());
        };
        check(CredentialKind::Bearer, "authorization", "Bearer k");
        check(CredentialKind::XApiKey, "x-api-key", "k");
        check(CredentialKind::ApiKey, "api-key", "k");
        check(CredentialKind::XGoogApiKey, "x-goog-api-key", "k");
    }
}
