//! The compatibility specification's session, "Plaintext grammar": `route@subject@backend:id:caps,…`.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{Client, Entry, Owner, Session};
use crate::{Capabilities, Version};

/// Returns the session as text. What it has no place for is left out.
pub(super) fn encode(session: &Session) -> String {
    let subject = match &session.owner {
        Owner::Subject(subject) => subject.as_str(),
        Owner::Anyone | Owner::Hash(_) => "",
    };
    let entries = session.backends.iter().map(|entry| {
        let id = STANDARD.encode(&entry.session);
        format!("{}:{id}:{}", entry.backend, entry.capabilities.to_hex())
    });
    let entries: Vec<String> = entries.collect();
    format!("{}@{subject}@{}", session.route, entries.join(","))
}

/// Reads such a text. The last `@` ends the subject, which may have some of its own, and the first the route.
pub(super) fn decode(text: &str) -> Option<Session> {
    let (head, entries) = text.rsplit_once('@')?;
    let (route, subject) = head.split_once('@')?;
    let entries = entries.split(',').filter(|entry| !entry.is_empty());
    Some(Session {
        route: route.to_owned(),
        owner: if subject.is_empty() {
            Owner::Anyone
        } else {
            Owner::Subject(subject.to_owned())
        },
        expires: None,
        // The one revision that the other gateway speaks.
        version: Version::V2025_06_18,
        client: Client::default(),
        backends: entries.map(entry).collect::<Option<_>>()?,
    })
}

fn entry(text: &str) -> Option<Entry> {
    let mut parts = text.splitn(3, ':');
    let backend = parts.next().filter(|backend| !backend.is_empty())?;
    let session = STANDARD.decode(parts.next()?).ok()?;
    Some(Entry {
        backend: backend.to_owned(),
        session: String::from_utf8(session).ok()?,
        capabilities: parts.next().map_or(Capabilities::ALL, Capabilities::from_hex),
        version: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_specified_example_is_read() {
        let text = "default/mcp@alice@example.com@alpha:c2lkLTE=:1ff,beta::003";
        let session = decode(text).expect("a session");
        assert_eq!(session.route, "default/mcp");
        assert_eq!(session.owner, Owner::Subject("alice@example.com".to_owned()));
        let [alpha, beta] = session.backends.as_slice() else {
            panic!("two backends");
        };
        assert_eq!(
            (alpha.backend.as_str(), alpha.session.as_str()),
            ("alpha", "sid-1")
        );
        assert_eq!(alpha.capabilities, Capabilities::ALL);
        assert_eq!((beta.backend.as_str(), beta.session.as_str()), ("beta", ""));
        assert_eq!(beta.capabilities.to_hex(), "003");
        assert_eq!(encode(&session), text);
    }

    #[test]
    fn what_is_missing_is_assumed_or_refused() {
        let capabilities = |text: &str| decode(text).map(|session| session.backends[0].capabilities);
        assert_eq!(capabilities("r@@a:"), Some(Capabilities::ALL));
        assert_eq!(capabilities("r@@a::xyz"), Some(Capabilities::ALL));
        assert_eq!(decode("r@@").map(|session| session.backends.len()), Some(0));
        for bad in ["", "r", "r@a:", "r@@a", "r@@:eA==", "r@@a:*", "r@@a:eA==,b"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }
}
