//! A key or a token in a header.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use llm::provider::CredentialKind;

/// Returns the header that carries `key` in the way of `kind`; `None` if its characters do not fit.
pub(super) fn header(kind: CredentialKind, key: &str) -> Option<(HeaderName, HeaderValue)> {
    let value = match kind {
        CredentialKind::Bearer => HeaderValue::try_from(format!("Bearer {key}")),
        CredentialKind::XApiKey | CredentialKind::ApiKey | CredentialKind::XGoogApiKey => {
            HeaderValue::try_from(key)
        }
    };
    let mut value = value.ok()?;
    value.set_sensitive(true);
    Some((name(kind), value))
}

/// Puts `key` into `headers`; returns whether its characters fit.
pub(super) fn put(kind: CredentialKind, key: &str, headers: &mut HeaderMap) -> bool {
    let Some((name, value)) = header(kind, key) else {
        return false;
    };
    headers.insert(name, value);
    true
}

/// Returns the header in which `kind` travels.
pub(super) fn name(kind: CredentialKind) -> HeaderName {
    match kind {
        CredentialKind::Bearer => header::AUTHORIZATION,
        CredentialKind::XApiKey => HeaderName::from_static("x-api-key"),
        CredentialKind::ApiKey => HeaderName::from_static("api-key"),
        CredentialKind::XGoogApiKey => HeaderName::from_static("x-goog-api-key"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_header() {
        let check = |kind, name: &str, wanted: &str| {
            let mut headers = HeaderMap::new();
            assert!(put(kind, "k", &mut headers));
            assert_eq!(headers.len(), 1);
            assert_eq!(headers[name], wanted);
            assert!(headers[name].is_sensitive());
            assert!(!put(kind, "k\n", &mut headers));
        };
        check(CredentialKind::Bearer, "authorization", "Bearer k");
        check(CredentialKind::XApiKey, "x-api-key", "k");
        check(CredentialKind::ApiKey, "api-key", "k");
        check(CredentialKind::XGoogApiKey, "x-goog-api-key", "k");
    }
}
