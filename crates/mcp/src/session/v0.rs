//! The compatibility specification's session, "Plaintext grammar": `route@subject@backend:id:caps,…`.
//!
//! Its entries have no place for the endpoints that keep sessions, and the other gateway never looks at the subject of
//! one that it is brought: they follow the subject, one for each entry, after a character that stands in no name.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{Client, Entry, Owner, Session};
use crate::{Capabilities, Version};

/// Returns the session as text. What it has no place for is left out.
pub(super) fn encode(session: &Session) -> String {
    let subject = match &session.owner {
        Owner::Subject(subject) => subject.as_str(),
        Owner::Anyone | Owner::Hash(_) => "",
    };
    let endpoints = endpoints(session, subject);
    let entries = session.backends.iter().map(|entry| {
        let id = STANDARD.encode(&entry.session);
        format!("{}:{id}:{}", entry.backend, entry.capabilities.to_hex())
    });
    let entries: Vec<String> = entries.collect();
    format!("{}@{subject}{endpoints}@{}", session.route, entries.join(","))
}

/// Returns what follows the subject: nothing where no endpoint is known.
fn endpoints(session: &Session, subject: &str) -> String {
    let mut entries = session.backends.iter();
    if entries.all(|entry| entry.endpoint.is_none()) && !subject.contains(ENDPOINTS) {
        return String::new();
    }
    let known = session.backends.iter().map(|entry| {
        let endpoint = entry.endpoint.map(|endpoint| format!("{endpoint:x}"));
        endpoint.unwrap_or_default()
    });
    format!("{ENDPOINTS}{}", known.collect::<Vec<_>>().join(","))
}

/// Reads such a text. The last `@` ends the subject, which may have some of its own, and the first the route.
pub(super) fn decode(text: &str) -> Option<Session> {
    let (head, entries) = text.rsplit_once('@')?;
    let (route, subject) = head.split_once('@')?;
    let (subject, endpoints) = subject.rsplit_once(ENDPOINTS).unwrap_or((subject, ""));
    let endpoints = endpoints
        .split(',')
        .map(|text| u64::from_str_radix(text, 16).ok());
    let endpoints = endpoints.chain(std::iter::repeat(None));
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
        backends: entries
            .zip(endpoints)
            .map(|(text, endpoint)| entry(text, endpoint))
            .collect::<Option<_>>()?,
    })
}

/// Stands between the subject and the endpoints.
const ENDPOINTS: char = '\u{1f}';

fn entry(text: &str, endpoint: Option<u64>) -> Option<Entry> {
    let mut parts = text.splitn(3, ':');
    let backend = parts.next().filter(|backend| !backend.is_empty())?;
    let session = STANDARD.decode(parts.next()?).ok()?;
    Some(Entry {
        backend: backend.to_owned(),
        session: String::from_utf8(session).ok()?,
        capabilities: parts.next().map_or(Capabilities::ALL, Capabilities::from_hex),
        version: None,
        endpoint,
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
    fn endpoints_follow_the_subject() {
        let check = |text: &str, endpoints: &[Option<u64>]| {
            let session = decode(text).expect("a session");
            let known: Vec<_> = session.backends.iter().map(|entry| entry.endpoint).collect();
            assert_eq!(known, endpoints, "{text:?}");
            assert_eq!(session.owner, Owner::Subject("a@b".to_owned()), "{text:?}");
        };
        check("r@a@b\u{1f}1f,@x:eA==:1ff,y::003", &[Some(0x1f), None]);
        check("r@a@b\u{1f}@x:eA==:1ff", &[None]);
        check("r@a@b\u{1f}1,2,3@x:eA==:1ff", &[Some(1)]);
        check("r@a@b\u{1f}-1,zz@x:eA==:1ff,y:eA==", &[None, None]);
        check("r@a@b@x:eA==:1ff", &[None]);
        let subject = Session {
            owner: Owner::Subject("a\u{1f}7".to_owned()),
            ..decode("r@@x:eA==:1ff").expect("a session")
        };
        assert_eq!(decode(&encode(&subject)), Some(subject));
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
