//! Sessions: which endpoint a client comes back to (Gateway API, "session persistence").
//!
//! A client carries the hash of the endpoint's name, which says nothing to anybody else, and when its session is over.
//! Nothing is remembered here, so that every gateway knows every session.

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
    /// Returns the endpoint that the client is bound to, by the hash of its name. `now` is in seconds.
    pub fn endpoint(&self, headers: &HeaderMap, now: u64) -> Option<u64> {
        let value = match &self.carrier {
            Carrier::Cookie { name, .. } => {
                let mut cookies = cookies(headers);
                cookies.find(|(found, _)| found == name).map(|(_, value)| value)
            }
            Carrier::Header(name) => headers.get(name).and_then(|value| value.to_str().ok()),
        };
        let (endpoint, end) = value?.split_once('.')?;
        let end = u64::from_str_radix(end, 16).ok()?;
        let over = self.lasts.is_some() && end <= now;
        let is_ours = endpoint.len() == 16 && endpoint.bytes().all(|digit| digit.is_ascii_hexdigit());
        u64::from_str_radix(endpoint, 16)
            .ok()
            .filter(|_| is_ours && !over)
    }

    /// Returns what binds a client to `endpoint` from `now` on.
    pub fn bind(&self, endpoint: u64, now: u64) -> Option<(HeaderName, HeaderValue)> {
        let lasts = self.lasts.map(|lasts| lasts.as_secs());
        let end = lasts.map_or(0, |lasts| now.saturating_add(lasts));
        let value = format!("{endpoint:016x}.{end:x}");
        let (header, line) = match &self.carrier {
            Carrier::Cookie { name, permanent } => {
                let age = lasts.filter(|_| *permanent);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(session: &Session, expected: &str, repeated: (&str, &str)) {
        let (header, line) = session.bind(0xab, 1000).expect("a header");
        assert_eq!(format!("{header}: {}", line.to_str().expect("text")), expected);
        let mut headers = HeaderMap::new();
        let (name, value) = repeated;
        headers.insert(
            HeaderName::try_from(name).expect("a name"),
            HeaderValue::try_from(value).expect("a value"),
        );
        assert_eq!(session.endpoint(&headers, 1001), Some(0xab));
        let over = session.lasts.is_none().then_some(0xab);
        assert_eq!(session.endpoint(&headers, 1060), over);
    }

    #[test]
    fn a_client_comes_back() {
        let cookie = |permanent, lasts| Session {
            carrier: Carrier::Cookie {
                name: "lane".to_owned(),
                permanent,
            },
            lasts,
        };
        let minute = Some(Duration::from_secs(60));
        let header = Session {
            carrier: Carrier::Header(HeaderName::from_static("x-lane")),
            lasts: minute,
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
        };
        for value in ["", "ab", "xyz.0", "ab.xyz", "00000000000000000ab0000000.0"] {
            let mut headers = HeaderMap::new();
            headers.insert("x-lane", HeaderValue::from_static(value));
            assert_eq!(session.endpoint(&headers, 0), None, "{value:?}");
        }
    }
}
