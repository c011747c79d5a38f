//! Credentials that requests bring themselves.
//!
//! They come off every request before anything else looks at its headers, whoever will serve it: what one
//! backend's policy calls a credential must not reach another backend.

use config::{
    Secret, Snapshot,
    credential::{AwsKeys, Place},
};
use http::{HeaderMap, HeaderName};
use policy::Metadata;
use serde_json::Value;

use super::CredentialError;

/// The headers that hold credentials by any policy of the snapshot.
#[derive(Default)]
pub(crate) struct Names(Vec<HeaderName>);

/// What one request brought.
#[derive(Default)]
pub(crate) struct Luggage {
    headers: HeaderMap,
    /// What policies said of the request, by namespace.
    pub(crate) metadata: Metadata,
}

/// A credential that a request brought.
pub(super) enum Own {
    /// A key or a token.
    Key(Secret),
    /// Keys of AWS.
    Aws(AwsKeys),
}

impl Names {
    pub(crate) fn new(snapshot: &Snapshot) -> Self {
        let mut names: Vec<HeaderName> = super::declared(snapshot)
            .flat_map(|credential| credential.headers().iter().cloned())
            .collect();
        names.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        names.dedup();
        Self(names)
    }

    /// Takes the credentials out of `headers`.
    pub(crate) fn take(&self, headers: &mut HeaderMap, metadata: Metadata) -> Luggage {
        let mut taken = HeaderMap::new();
        for name in &self.0 {
            // Of a repeated header the last one counts.
            if let Some(value) = headers.get_all(name).iter().next_back().cloned() {
                taken.insert(name.clone(), value);
                headers.remove(name);
            }
        }
        Luggage {
            headers: taken,
            metadata,
        }
    }

    /// Takes the credentials out of `headers` of a request that no backend of models serves.
    pub(crate) fn strip(&self, headers: &mut HeaderMap) {
        for name in &self.0 {
            headers.remove(name);
        }
    }
}

impl Luggage {
    /// Returns what was brought at `place`.
    ///
    /// # Errors
    /// If it is only a part of a credential: what is missing must not be made up from another.
    pub(super) fn find(&self, place: &Place) -> Result<Option<Own>, CredentialError> {
        match place {
            Place::Header(name) => Ok(self.header(name).map(Own::Key)),
            Place::Headers([id, secret, session]) => {
                triple([self.header(id), self.header(secret), self.header(session)])
            }
            Place::Metadata { namespace, key } => {
                let value = self.metadata.get(namespace).and_then(|said| said.get(key));
                match value {
                    Some(Value::String(text)) => Ok(filled(text).map(Own::Key)),
                    Some(Value::Object(keys)) => {
                        let member = |name| keys.get(name).and_then(Value::as_str).and_then(filled);
                        triple(["accessKeyId", "secretAccessKey", "sessionToken"].map(member))
                    }
                    Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_)) | None => {
                        Ok(None)
                    }
                }
            }
        }
    }

    fn header(&self, name: &HeaderName) -> Option<Secret> {
        self.headers.get(name)?.to_str().ok().and_then(filled)
    }
}

fn filled(text: &str) -> Option<Secret> {
    let text = text.trim();
    (!text.is_empty()).then(|| Secret::new(text))
}

fn triple(parts: [Option<Secret>; 3]) -> Result<Option<Own>, CredentialError> {
    match parts {
        [None, None, None] => Ok(None),
        [Some(id), Some(secret), session] => Ok(Some(Own::Aws(AwsKeys {
            id: id.expose().to_owned(),
            secret,
            session,
        }))),
        [_, _, _] => Err(CredentialError::Partial),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use serde_json::json;

    use super::*;

    fn names() -> [HeaderName; 3] {
        ["p-access-key-id", "p-secret-access-key", "p-session-token"].map(HeaderName::from_static)
    }

    #[track_caller]
    fn check(lines: &[(&'static str, &'static str)], place: &Place, expected: &str) {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let mut wanted = names().to_vec();
        wanted.push(HeaderName::from_static("x-own"));
        let said = json!({ "key": " k ", "blank": "", "number": 1,
            "aws": { "accessKeyId": "i", "secretAccessKey": "s" }, "half": { "sessionToken": "t" } });
        let luggage = Names(wanted).take(&mut headers, [("policy".to_owned(), said)].into());
        assert!(headers.keys().all(|name| name == "x-other"), "{headers:?}");
        let found = match luggage.find(place) {
            Ok(None) => "none".to_owned(),
            Ok(Some(Own::Key(key))) => key.expose().to_owned(),
            Ok(Some(Own::Aws(keys))) => {
                let session = keys.session.as_ref().map_or("-", Secret::expose);
                format!("{} {} {session}", keys.id, keys.secret.expose())
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected, "{lines:?} {place:?}");
    }

    #[test]
    fn what_is_brought_is_found_and_taken() {
        let own = Place::Header(HeaderName::from_static("x-own"));
        check(&[], &own, "none");
        check(&[("x-own", "  "), ("x-other", "o")], &own, "none");
        check(&[("x-own", "a"), ("x-own", " b ")], &own, "b");
        check(&[("x-own", "Bearer b")], &own, "Bearer b");
        let aws = Place::Headers(names());
        let (id, secret, session) = ("p-access-key-id", "p-secret-access-key", "p-session-token");
        check(&[("x-own", "a")], &aws, "none");
        check(&[(id, "i"), (secret, "s")], &aws, "i s -");
        check(&[(id, "i"), (secret, "s"), (session, "t")], &aws, "i s t");
        let partial = "incomplete upstream credential";
        check(&[(id, "i")], &aws, partial);
        check(&[(id, "i"), (secret, " ")], &aws, partial);
        check(&[(session, "t")], &aws, partial);
        let said = |namespace: &str, key: &str| Place::Metadata {
            namespace: namespace.to_owned(),
            key: key.to_owned(),
        };
        check(&[], &said("policy", "key"), "k");
        check(&[], &said("policy", "blank"), "none");
        check(&[], &said("policy", "number"), "none");
        check(&[], &said("other", "key"), "none");
        check(&[], &said("policy", "aws"), "i s -");
        check(&[], &said("policy", "half"), partial);
    }
}
