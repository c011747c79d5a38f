//! Where a request carries a credential: a header, a parameter of its query, a cookie.

use std::{borrow::Cow, fmt};

use http::{HeaderMap, HeaderName, HeaderValue, Uri, header, request::Parts};
use percent_encoding::percent_decode_str;

/// Where a request carries a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// A header, with what stands before the credential in it.
    Header(HeaderName, String),
    /// A parameter of the query.
    Param(String),
    /// A cookie.
    Cookie(String),
}

impl Carrier {
    /// Returns a header that holds the credential alone; `authorization` with or without the word `Bearer`.
    pub fn header(name: HeaderName) -> Self {
        Carrier::Header(name, String::new())
    }

    /// Returns the credential that `head` carries here; an empty one is none, and so are several headers.
    pub fn read<'h>(&self, head: &'h Parts) -> Option<Cow<'h, str>> {
        let found: Option<Cow<'h, str>> = match self {
            Carrier::Header(name, prefix) => {
                let mut values = head.headers.get_all(name).iter();
                let value = values.next()?.to_str().ok()?;
                // Of several, whoever is behind us could take another one.
                if values.next().is_some() {
                    return None;
                }
                if prefix.is_empty() && *name == header::AUTHORIZATION {
                    Some(strip_scheme(value, "Bearer").unwrap_or(value).into())
                } else {
                    // The case of a scheme does not matter; that of anything else may.
                    let (found, rest) = value.split_at_checked(prefix.len())?;
                    let same = found == prefix
                        || (*name == header::AUTHORIZATION && found.eq_ignore_ascii_case(prefix));
                    same.then_some(rest.into())
                }
            }
            Carrier::Param(name) => pairs(&head.uri)
                .find(|(found, _)| decode(found) == *name)
                .map(|(_, value)| decode(value)),
            Carrier::Cookie(name) => cookies(&head.headers)
                .find(|(found, _)| found == name)
                .map(|(_, value)| value.trim_matches('"').into()),
        };
        found.filter(|value| !value.trim().is_empty())
    }

    /// Takes the credential off `head`.
    pub fn strip(&self, head: &mut Parts) {
        match self {
            Carrier::Header(name, _) => {
                head.headers.remove(name);
            }
            Carrier::Param(name) => strip_param(&mut head.uri, name),
            Carrier::Cookie(name) => strip_cookie(&mut head.headers, name),
        }
    }

    /// Takes the credential off `headers`, where it lies there.
    pub fn strip_header(&self, headers: &mut HeaderMap) {
        match self {
            Carrier::Header(name, _) => {
                headers.remove(name);
            }
            Carrier::Cookie(name) => strip_cookie(headers, name),
            Carrier::Param(_) => {}
        }
    }

    /// Returns whether the credential is one of HTTP's own authentication.
    pub fn is_authorization(&self) -> bool {
        matches!(self, Carrier::Header(name, _) if *name == header::AUTHORIZATION)
    }
}

/// `header x-api-key`, `param key`, `cookie session`.
impl fmt::Display for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Carrier::Header(name, _) => write!(f, "header {name}"),
            Carrier::Param(name) => write!(f, "param {name}"),
            Carrier::Cookie(name) => write!(f, "cookie {name}"),
        }
    }
}

/// Returns what follows an authentication scheme, whose case does not matter (RFC 9110, section 11.1).
pub(crate) fn strip_scheme<'v>(value: &'v str, scheme: &str) -> Option<&'v str> {
    let (found, rest) = value.split_at_checked(scheme.len())?;
    let rest = rest.strip_prefix(' ')?;
    found.eq_ignore_ascii_case(scheme).then(|| rest.trim())
}

fn pairs(uri: &Uri) -> impl Iterator<Item = (&str, &str)> {
    let query = uri.query().unwrap_or_default();
    query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

fn decode(text: &str) -> Cow<'_, str> {
    percent_decode_str(text).decode_utf8_lossy()
}

/// Returns the cookies of a request: names and values.
pub fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let lines = headers.get_all(header::COOKIE).into_iter();
    lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|cookie| cookie.split_once('='))
        .map(|(name, value)| (name.trim(), value.trim()))
}

fn strip_param(uri: &mut Uri, name: &str) {
    let Some(query) = uri.query() else { return };
    let kept: Vec<&str> = query
        .split('&')
        .filter(|pair| decode(pair.split('=').next().unwrap_or_default()) != name)
        .collect();
    let path = uri.path();
    let target = if kept.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{}", kept.join("&"))
    };
    let mut parts = uri.clone().into_parts();
    // Parts of a target are a target: this cannot fail, and a target that stays shows nothing new.
    if let Ok(target) = target.parse() {
        parts.path_and_query = Some(target);
        if let Ok(stripped) = Uri::from_parts(parts) {
            *uri = stripped;
        }
    }
}

fn strip_cookie(headers: &mut HeaderMap, name: &str) {
    if !cookies(headers).any(|(found, _)| found == name) {
        return;
    }
    let kept: Vec<String> = cookies(headers)
        .filter(|(found, _)| *found != name)
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    headers.remove(header::COOKIE);
    if let Ok(line) = HeaderValue::try_from(kept.join("; "))
        && !kept.is_empty()
    {
        headers.insert(header::COOKIE, line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(uri: &str, headers: &[(&'static str, &'static str)]) -> Parts {
        let mut request = http::Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request").into_parts().0
    }

    #[test]
    fn credentials_are_found_and_taken_off() {
        let check = |carrier: Carrier, read: Option<&str>, uri: &str, left: &[&str]| {
            let mut head = head(
                "/v1/x?a=1&my%2Dkey=k%201&b=2",
                &[
                    ("authorization", "bEARER tok"),
                    ("x-key", " "),
                    ("x-token", "T k2"),
                    ("cookie", "a=1; session=\"s1\""),
                    ("cookie", "b=2"),
                ],
            );
            assert_eq!(carrier.read(&head).as_deref(), read, "{carrier}");
            carrier.strip(&mut head);
            assert_eq!(head.uri, *uri, "{carrier}");
            let mut names: Vec<&str> = head.headers.keys().map(HeaderName::as_str).collect();
            names.sort_unstable();
            assert_eq!(names, left, "{carrier}");
            assert_eq!(carrier.read(&head), None, "{carrier}");
        };
        let name = HeaderName::from_static;
        let all = ["authorization", "cookie", "x-key", "x-token"];
        let whole = "/v1/x?a=1&my%2Dkey=k%201&b=2";
        check(
            Carrier::header(header::AUTHORIZATION),
            Some("tok"),
            whole,
            &["cookie", "x-key", "x-token"],
        );
        check(
            Carrier::header(name("x-key")),
            None,
            whole,
            &["authorization", "cookie", "x-token"],
        );
        let prefixed = Carrier::Header(name("x-token"), "T ".to_owned());
        check(prefixed, Some("k2"), whole, &["authorization", "cookie", "x-key"]);
        check(
            Carrier::Param("my-key".to_owned()),
            Some("k 1"),
            "/v1/x?a=1&b=2",
            &all,
        );
        check(Carrier::Param("none".to_owned()), None, whole, &all);
        check(Carrier::Cookie("session".to_owned()), Some("s1"), whole, &all);
    }

    #[test]
    fn several_headers_are_none() {
        let twice = [
            ("authorization", "Bearer a"),
            ("authorization", "Bearer b"),
            ("x-key", "k"),
            ("x-key", "k"),
        ];
        let head = head("/x", &twice);
        for name in [header::AUTHORIZATION, HeaderName::from_static("x-key")] {
            assert_eq!(Carrier::header(name.clone()).read(&head), None, "{name}");
        }
        let prefixed = Carrier::Header(header::AUTHORIZATION, "Bearer ".to_owned());
        assert_eq!(prefixed.read(&head), None);
    }

    #[test]
    fn other_cookies_and_no_query_stay() {
        let mut head = head("/x?key=1", &[("cookie", "session=1; a=2")]);
        Carrier::Param("key".to_owned()).strip(&mut head);
        Carrier::Cookie("session".to_owned()).strip(&mut head);
        assert_eq!(head.uri, "/x");
        assert_eq!(head.headers["cookie"], "a=2");
        Carrier::Cookie("a".to_owned()).strip(&mut head);
        assert!(!head.headers.contains_key("cookie"));
    }
}
