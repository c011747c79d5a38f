//! What is done with requests that are handed on as they are, and with their replies: the filters of HTTPRoutes,
//! compiled. Their application is pure: headers, paths and texts in, the same out.

use std::{fmt, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use regex::Regex;

use crate::{Secret, snapshot::Backend};

/// The filters of a rule.
#[derive(Clone, Debug, Default)]
pub struct Plain {
    /// Set where no backend is asked.
    pub answer: Option<Answer>,
    /// Changes of the request's headers.
    pub request: Edits,
    /// Changes of the reply's headers.
    pub response: Edits,
    /// The host for the backend; the client's where absent.
    pub host: Option<HostRewrite>,
    /// The path for the backend; the client's where absent.
    pub path: Option<PathRewrite>,
    /// The credential for the backend.
    pub credential: Option<Injection>,
    /// Who is sent copies of requests besides.
    pub mirrors: Vec<Mirror>,
    /// For each candidate of the rule: further changes of the request's headers, and of the reply's.
    pub candidates: Vec<(Edits, Edits)>,
}

/// Somebody who is sent copies of requests, whose replies nobody waits for.
#[derive(Clone, Debug)]
pub struct Mirror {
    /// The backend.
    pub backend: Arc<Backend>,
    /// Of `denominator` requests, how many are copied.
    pub numerator: u32,
    /// See `numerator`.
    pub denominator: u32,
}

/// An answer of the gateway's own.
#[derive(Clone, Debug)]
pub enum Answer {
    /// The same thing is found elsewhere.
    Redirect(Redirect),
    /// What was written down.
    Direct(Direct),
    /// A 500: a filter cannot be honoured, or nobody is there to serve.
    Broken(String),
}

/// Where the same thing is found; what is absent stays as it was asked for.
#[derive(Clone, Debug)]
pub struct Redirect {
    /// `http` or `https`.
    pub scheme: Option<&'static str>,
    /// The host.
    pub host: Option<String>,
    /// The path.
    pub path: Option<PathRewrite>,
    /// The port.
    pub port: Option<u16>,
    /// How the client is told.
    pub status: StatusCode,
}

/// An answer that was written down.
#[derive(Clone, Debug)]
pub struct Direct {
    /// Its status.
    pub status: StatusCode,
    /// The type of its body.
    pub content_type: Option<HeaderValue>,
    /// Further headers.
    pub headers: Edits,
    /// Its body.
    pub body: Arc<str>,
}

/// Changes of headers. Debug shows their names alone, because values may be credentials.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Edits {
    /// Removed.
    pub remove: Vec<HeaderName>,
    /// In place of what there is.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Beside what there is.
    pub add: Vec<(HeaderName, HeaderValue)>,
}

/// Where the host for the backend comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostRewrite {
    /// It is written down.
    Name(HeaderValue),
    /// From a header of the request.
    Header(HeaderName),
    /// It is the backend's own.
    Backend,
}

/// Where the path for the backend comes from.
#[derive(Clone, Debug)]
pub enum PathRewrite {
    /// It is written down.
    Full(String),
    /// A prefix is replaced; both without a slash at the end.
    Prefix {
        /// What was matched.
        from: String,
        /// What takes its place.
        to: String,
    },
    /// What an expression matches is replaced.
    Pattern {
        /// The expression.
        from: Regex,
        /// What takes its place, `$1` for the first group.
        to: String,
    },
}

/// A credential for the backend.
#[derive(Clone, Debug)]
pub struct Injection {
    /// The header that carries it.
    pub header: HeaderName,
    /// The value of the header.
    pub value: Secret,
    /// Whether it takes the place of what the client sent.
    pub overwrite: bool,
}

impl Edits {
    /// Applies the changes: removals first, additions last.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name, value.clone());
        }
    }

    /// Returns the changes and, after them, those of `other`.
    pub fn and(mut self, other: Self) -> Self {
        self.remove.extend(other.remove);
        self.set.extend(other.set);
        self.add.extend(other.add);
        self
    }
}

impl PathRewrite {
    /// Returns what takes the place of `path`.
    pub fn apply(&self, path: &str) -> String {
        let path = match self {
            PathRewrite::Full(full) => full.clone(),
            PathRewrite::Prefix { from, to } => match path.strip_prefix(from.as_str()) {
                Some(rest) => format!("{to}{rest}"),
                None => path.to_owned(),
            },
            PathRewrite::Pattern { from, to } => from.replace_all(path, to).into_owned(),
        };
        if path.starts_with('/') {
            path
        } else {
            format!("/{path}")
        }
    }
}

impl Redirect {
    /// Returns the place that the client is told of. `scheme`, `host`, `port` and `path` are those that it asked for;
    /// `port` is that of the listener.
    pub fn location(&self, scheme: &str, host: &str, port: u16, path: &str, query: Option<&str>) -> String {
        let (known, port) = match (self.scheme, self.port) {
            (scheme, Some(port)) => (scheme, Some(port)),
            (Some(scheme), None) => (Some(scheme), None),
            (None, None) => (None, Some(port)),
        };
        let scheme = known.unwrap_or(scheme);
        let host = self.host.as_deref().unwrap_or(host);
        let host = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.to_owned()
        };
        let default = if scheme == "https" { 443 } else { 80 };
        let port = match port {
            Some(port) if port != default => format!(":{port}"),
            Some(_) | None => String::new(),
        };
        let path = match &self.path {
            Some(rewrite) => rewrite.apply(path),
            None => path.to_owned(),
        };
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        format!("{scheme}://{host}{port}{path}{query}")
    }
}

impl fmt::Debug for Edits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |pairs: &[(HeaderName, HeaderValue)]| -> Vec<HeaderName> {
            pairs.iter().map(|(name, _)| name.clone()).collect()
        };
        f.debug_struct("Edits")
            .field("remove", &self.remove)
            .field("set", &names(&self.set))
            .field("add", &names(&self.add))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_rewritten() {
        let prefix = |from: &str, to: &str| PathRewrite::Prefix {
            from: from.to_owned(),
            to: to.to_owned(),
        };
        let pattern = PathRewrite::Pattern {
            from: Regex::new("^/service/([^/]+)(/.*)$").expect("an expression"),
            to: "${2}/instance/${1}".to_owned(),
        };
        for (rewrite, path, expected) in [
            (PathRewrite::Full("/one".to_owned()), "/a/b", "/one"),
            (prefix("/foo", "/bar"), "/foo/x", "/bar/x"),
            (prefix("/foo", "/bar"), "/foo", "/bar"),
            (prefix("/foo", ""), "/foo", "/"),
            (prefix("/foo", ""), "/foo/x", "/x"),
            (prefix("", "/bar"), "/x", "/bar/x"),
            (pattern, "/service/foo/v1/api", "/v1/api/instance/foo"),
        ] {
            assert_eq!(rewrite.apply(path), expected, "{rewrite:?} {path}");
        }
    }

    #[test]
    fn redirects_say_what_changes() {
        let same = || Redirect {
            scheme: None,
            host: None,
            path: None,
            port: None,
            status: StatusCode::FOUND,
        };
        let https = || Redirect {
            scheme: Some("https"),
            ..same()
        };
        let host = |redirect: Redirect| Redirect {
            host: Some("example.org".to_owned()),
            ..redirect
        };
        let port = |redirect: Redirect, port| Redirect {
            port: Some(port),
            ..redirect
        };
        for (redirect, listener, expected) in [
            (host(same()), 80, "http://example.org/a?b=c"),
            (host(same()), 8080, "http://example.org:8080/a?b=c"),
            (https(), 8080, "https://example.com/a?b=c"),
            (port(https(), 8443), 80, "https://example.com:8443/a?b=c"),
            (port(https(), 443), 80, "https://example.com/a?b=c"),
            (port(same(), 80), 8080, "http://example.com/a?b=c"),
        ] {
            let location = redirect.location("http", "example.com", listener, "/a", Some("b=c"));
            assert_eq!(location, expected);
        }
    }
}
