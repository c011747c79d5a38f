//! Sessions: which endpoint a client comes back to (Gateway API, "session persistence").
//!
//! A client carries the hash of the endpoint's name, which says nothing to anybody else, and when its session is over:
//! in any case, and if it is not used. Nothing is remembered here, so that every gateway knows every session.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::carrier::cookies;

/// How a client is bound to the endpoint that served it first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// What carries it.
    pub carrier: Carrier,
    /// How long it lasts; `None` for as long as the client keeps it.
    pub lasts: Option<Duration>,
    /// How long it lasts that is not used; `None` for no other limit.
    pub idle: Option<Duration>,
}

/// A client's session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The hash of the endpoint's name.
    pub endpoint: u64,
    /// When it is over in any case, in seconds; 0 if it is not.
    end: u64,
}

/// What carries a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// A cookie.
    Cookie {
        /// Its name.
        name: String,
        /// Whether browsers keep it when they are closed.
        permanent: bool,
    },
    /// A header of replies that the client repeats with its requests.
    Header(HeaderName),
}

impl Session {
    /// Returns the session of a client, unless it is over. `now` is in seconds.
    pub fn of(&self, headers: &HeaderMap, now: u64) -> Option<Bound> {
        let value = match &self.carrier {
            Carrier::Cookie { name, .. } => {
                let mut cookies = cookies(headers);
                cookies.find(|(found, _)| found == name).map(|(_, value)| value)
            }
            Carrier::Header(name) => headers.get(name).and_then(|value| value.to_str().ok()),
        };
        let (endpoint, ends) = value?.split_once('.')?;
        let (end, unused) = match (ends.split_once('.'), self.idle) {
            (None, None) => (number(ends)?, u64::MAX),
            (Some((end, unused)), Some(_)) => (number(end)?, number(unused)?),
            (None, Some(_)) | (Some(_), None) => return None,
        };
        let over = (self.lasts.is_some() && end <= now) || unused <= now;
        let is_ours = endpoint.len() == 16 && !over;
        number(endpoint)
            .filter(|_| is_ours)
            .map(|endpoint| Bound { endpoint, end })
    }

    /// Returns what binds a client to `endpoint` from `now` on, `before` being its session so far; `None` where it has
    /// that already.
    pub fn bind(&self, endpoint: u64, before: Option<Bound>, now: u64) -> Option<(HeaderName, HeaderValue)> {
        let before = before.filter(|before| before.endpoint == endpoint);
        if before.is_some() && self.idle.is_none() {
            return None;
        }
        let begun = || self.lasts.map_or(0, |lasts| now.saturating_add(lasts.as_secs()));
        let end = before.map_or_else(begun, |before| before.end);
        let unused = self.idle.map(|idle| now.saturating_add(idle.as_secs()));
        let value = match unused {
            None => format!("{endpoint:016x}.{end:x}"),
            Some(unused) => format!("{endpoint:016x}.{end:x}.{unused:x}"),
        };
        let (header, line) = match &self.carrier {
            Carrier::Cookie { name, permanent } => {
                let age = Some(end.saturating_sub(now)).filter(|_| *permanent && end > 0);
                let age = age.map(|age| format!("; Max-Age={age}")).unwrap_or_default();
                (
                    header::SET_COOKIE,
                    format!("{name}={value}{age}; Path=/; HttpOnly"),
                )
            }
            Carrier::Header(name) => (name.clone(), value),
        };
        HeaderValue::try_from(line).ok().map(|line| (header, line))
    }
}

fn number(digits: &str) -> Option<u64> {
    let is_plain = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    u64::from_str_radix(digits, 16).ok().filter(|_| is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(session: &Session, expected: &str, repeated: (&str, &str)) {
        let (header, line) = session.bind(0xab, None, 1000).expect("a header");
        assert_eq!(format!("{header}: {}", line.to_str().expect("text")), expected);
        let mut headers = HeaderMap::new();
        let (name, value) = repeated;
        headers.insert(
            HeaderName::try_from(name).expect("a name"),
            HeaderValue::try_from(value).expect("a value"),
        );
        let endpoint = |now| session.of(&headers, now).map(|bound| bound.endpoint);
        assert_eq!(endpoint(1001), Some(0xab));
        let over = session.lasts.is_none().then_some(0xab);
        assert_eq!(endpoint(1060), over);
        let again = session.bind(0xab, session.of(&headers, 1001), 1001);
        assert_eq!(again, None, "it has that already");
        assert!(session.bind(0xcd, session.of(&headers, 1001), 1001).is_some());
    }

    /// A session that is used goes on, but not for ever.
    #[test]
    fn a_session_is_renewed() {
        let session = Session {
            carrier: Carrier::Header(HeaderName::from_static("x-lane")),
            lasts: Some(Duration::from_secs(100)),
            idle: Some(Duration::from_secs(60)),
        };
        let bind = |before, now| {
            let (_, value) = session.bind(0xab, before, now).expect("a header");
            HeaderMap::from_iter([(HeaderName::from_static("x-lane"), value)])
        };
        let given = bind(None, 1000);
        assert_eq!(given["x-lane"], "00000000000000ab.44c.424");
        assert_eq!(session.of(&given, 1060), None, "it was not used");
        let renewed = bind(session.of(&given, 1050), 1050);
        assert_eq!(renewed["x-lane"], "00000000000000ab.44c.456");
        assert!(session.of(&renewed, 1099).is_some());
        assert_eq!(session.of(&renewed, 1100), None, "it has lasted for long enough");
    }

    #[test]
    fn a_client_comes_back() {
        let cookie = |permanent, lasts| Session {
            carrier: Carrier::Cookie {
                name: "lane".to_owned(),
                permanent,
            },
            lasts,
            idle: None,
        };
        let minute = Some(Duration::from_secs(60));
        let header = Session {
            carrier: Carrier::Header(HeaderName::from_static("x-lane")),
            lasts: minute,
            idle: None,
        };
        check(
            &cookie(true, minute),
            "set-cookie: lane=00000000000000ab.424; Max-Age=60; Path=/; HttpOnly",
            ("cookie", "a=1; lane=00000000000000ab.424"),
        );
        check(
            &cookie(false, None),
            "set-cookie: lane=00000000000000ab.0; Path=/; HttpOnly",
            ("cookie", "lane=00000000000000ab.0"),
        );
        check(
            &header,
            "x-lane: 00000000000000ab.424",
            ("x-lane", "00000000000000ab.424"),
        );
    }

    #[test]
    fn what_is_not_ours_binds_nobody() {
        let session = Session {
            carrier: Carrier::Header(HeaderName::from_static("x-lane")),
            lasts: None,
            idle: None,
        };
        for value in [
            "",
            "ab",
            "xyz.0",
            "ab.xyz",
            "00000000000000000ab0000000.0",
            "00000000000000ab.0.ffffffffffff",
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("x-lane", HeaderValue::from_static(value));
            assert_eq!(session.of(&headers, 0), None, "{value:?}");
        }
    }
}
