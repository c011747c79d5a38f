//! API keys: a client is known by a key that it shares with the gateway.
//!
//! Keys are kept as digests. What is looked up is the digest of what a client presents, so that neither the
//! time that takes nor a dump of the memory tells anything about a key.

use std::{collections::HashMap, fmt, sync::Arc};

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{SHA256, digest},
};
use http::{HeaderName, HeaderValue, header, request::Parts};
use serde_json::{Value, json};

use crate::{Carrier, Refusal};

/// Who has which key, and where requests carry it.
#[derive(Clone, Debug)]
pub struct ApiKey {
    /// The keys.
    pub keys: Keys,
    /// Where a key is looked for; the first place that has one decides.
    pub carriers: Vec<Carrier>,
    /// The header in which upstreams are told the client.
    pub told_in: Option<HeaderName>,
    /// Whether the key is taken off the request at once.
    pub sanitize: bool,
}

/// The keys of clients. Debug shows the clients only.
#[derive(Clone, Default)]
pub struct Keys(HashMap<Digest, Arc<str>>);

type Digest = [u8; 32];

impl Keys {
    /// Adds the key of `client`; returns the client that has the same one already, which keeps it.
    pub fn add(&mut self, client: impl Into<Arc<str>>, key: &str) -> Option<Arc<str>> {
        let digest = sha256(key);
        if let Some(holder) = self.0.get(&digest) {
            return Some(Arc::clone(holder));
        }
        self.0.insert(digest, client.into());
        None
    }

    /// Returns whose key it is.
    pub fn holder(&self, key: &str) -> Option<&Arc<str>> {
        let presented = sha256(key);
        let (digest, client) = self.0.get_key_value(&presented)?;
        verify_slices_are_equal(digest, &presented).ok()?;
        Some(client)
    }

    /// Returns whether nobody has a key.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the clients, sorted.
    pub fn clients(&self) -> Vec<&str> {
        let mut clients: Vec<&str> = self.0.values().map(|client| &**client).collect();
        clients.sort_unstable();
        clients
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clients()).finish()
    }
}

impl ApiKey {
    /// Returns the client whose key `head` carries, and tells it to upstreams.
    ///
    /// # Errors
    /// A 401, if there is no key or nobody has it.
    pub fn verify(&self, head: &mut Parts) -> Result<Arc<str>, Box<Refusal>> {
        let presented = self.carriers.iter().find_map(|carrier| carrier.read(head));
        let Some(presented) = presented else {
            return Err(self.refusal("an API key is required"));
        };
        let client = self.keys.holder(presented.trim()).cloned();
        let Some(client) = client else {
            return Err(self.refusal("the API key is not known"));
        };
        if self.sanitize {
            for carrier in &self.carriers {
                carrier.strip(head);
            }
        }
        if let Some(name) = &self.told_in {
            head.headers.remove(name);
            if let Ok(value) = HeaderValue::from_str(&client) {
                head.headers.insert(name.clone(), value);
            }
        }
        Ok(client)
    }

    /// Returns what is declared, without keys.
    pub fn dump(&self) -> Value {
        let carriers: Vec<String> = self.carriers.iter().map(Carrier::to_string).collect();
        json!({
            "clients": self.keys.clients(),
            "extractFrom": carriers,
            "forwardClientIDHeader": self.told_in.as_ref().map(HeaderName::as_str),
            "sanitize": self.sanitize,
        })
    }

    fn refusal(&self, message: &str) -> Box<Refusal> {
        let known = self.carriers.iter().any(Carrier::is_authorization);
        let scheme = if known { BEARER } else { API_KEY };
        let mut refusal = Refusal::challenge(message, HeaderValue::from_static(scheme));
        refusal.error.code = Some("invalid_api_key".to_owned());
        refusal.headers.insert(header::CACHE_CONTROL, NO_STORE);
        refusal
    }
}

fn sha256(key: &str) -> Digest {
    let mut bytes = Digest::default();
    for (to, from) in bytes.iter_mut().zip(digest(&SHA256, key.as_bytes()).as_ref()) {
        *to = *from;
    }
    bytes
}

const BEARER: &str = "Bearer realm=\"tollgate\"";

/// No scheme of HTTP's stands for a key in a header of its own; a 401 has to name one all the same.
const API_KEY: &str = "ApiKey realm=\"tollgate\"";

const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(sanitize: bool) -> ApiKey {
        let mut keys = Keys::default();
        assert_eq!(keys.add("one", "sk-1"), None);
        assert_eq!(keys.add("two", "sk-2"), None);
        assert_eq!(keys.add("late", "sk-1").as_deref(), Some("one"));
        ApiKey {
            keys,
            carriers: vec![
                Carrier::header(HeaderName::from_static("x-api-key")),
                Carrier::header(header::AUTHORIZATION),
                Carrier::Param("key".to_owned()),
            ],
            told_in: Some(HeaderName::from_static("x-client")),
            sanitize,
        }
    }

    fn head(uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder().uri(uri).header("x-client", "forged");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request").into_parts().0
    }

    #[test]
    fn keys_name_their_clients() {
        let check = |uri: &str, headers: &[(&str, &str)], expected: Result<&str, &str>| {
            let mut head = head(uri, headers);
            let found = policy(false).verify(&mut head);
            match (found, expected) {
                (Ok(client), Ok(expected)) => {
                    assert_eq!(&*client, expected);
                    assert_eq!(head.headers["x-client"], expected);
                    assert_eq!(head.headers.get_all("x-client").iter().count(), 1);
                }
                (Err(refusal), Err(expected)) => {
                    assert_eq!(refusal.error.status, 401);
                    assert!(refusal.error.message.contains(expected), "{refusal:?}");
                    assert_eq!(refusal.headers["www-authenticate"], "Bearer realm=\"tollgate\"");
                    assert!(!format!("{refusal:?}").contains("sk-"));
                }
                (found, _) => panic!("{uri} {headers:?}: {found:?}"),
            }
        };
        check("/", &[("x-api-key", "sk-1")], Ok("one"));
        check("/", &[("authorization", "Bearer sk-2")], Ok("two"));
        check("/", &[("authorization", "sk-2")], Ok("two"));
        check("/?key=sk-2", &[], Ok("two"));
        // The first place that has a key decides, be it a wrong one.
        check(
            "/?key=sk-2",
            &[("x-api-key", "sk-3"), ("authorization", "Bearer sk-1")],
            Err("not known"),
        );
        check("/", &[("x-api-key", "sk-1x")], Err("not known"));
        check("/", &[("x-api-key", "sk-")], Err("not known"));
        check("/", &[("x-api-key", "")], Err("required"));
        check("/", &[], Err("required"));
        check("/", &[("authorization", "Basic sk-1")], Err("not known"));
    }

    #[test]
    fn keys_are_taken_off_where_that_is_asked() {
        for (sanitize, left) in [(false, true), (true, false)] {
            let mut head = head("/?key=sk-2&a=1", &[("x-api-key", "sk-1")]);
            policy(sanitize).verify(&mut head).expect("a known key");
            assert_eq!(head.headers.contains_key("x-api-key"), left);
            assert_eq!(head.uri.to_string().contains("sk-2"), left);
        }
    }

    #[test]
    fn nothing_shows_a_key() {
        let policy = policy(true);
        for shown in [format!("{policy:?}"), policy.dump().to_string()] {
            assert!(shown.contains("one") && !shown.contains("sk-"), "{shown}");
        }
    }
}
