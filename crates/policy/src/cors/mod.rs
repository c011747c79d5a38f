//! Cross-origin requests (the Fetch standard, section 3.2): which pages in browsers may call, and what they may see.

use std::time::Duration;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode,
    header::{self, Entry},
};
use serde_json::{Value, json};

/// Which pages may call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cors {
    /// Where a page may come from.
    pub origins: Vec<Origin>,
    /// Methods that it may use.
    pub methods: Listed,
    /// Headers that it may send.
    pub headers: Listed,
    /// Headers of answers that it may read.
    pub expose: Listed,
    /// How long a browser may remember what it was told.
    pub max_age: Option<Duration>,
    /// Whether a browser may send what it keeps for the gateway, such as cookies.
    pub credentials: bool,
}

/// Names, or every name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listed {
    /// These, joined by commas; empty for none.
    These(String),
    /// All.
    All,
}

/// Where a page may come from: `https://a.example`, `https://*.example:*` or `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    written: String,
    scheme: Option<&'static str>,
    host: Host,
    port: Port,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Any,
    /// With its leading dot.
    Suffix(String),
    Exact(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Port {
    Any,
    Exact(Option<u16>),
}

impl Default for Listed {
    fn default() -> Self {
        Listed::These(String::new())
    }
}

impl Listed {
    /// Returns these names; `*` among them is every name.
    pub fn new(names: &[String]) -> Self {
        if names.iter().any(|name| name == "*") {
            Listed::All
        } else {
            Listed::These(names.join(","))
        }
    }

    /// Returns the value of a header that allows these. A browser that sends credentials does not understand
    /// `*`, so that what it asks for is repeated.
    fn value(&self, asked: Option<&HeaderValue>, credentials: bool) -> Option<HeaderValue> {
        match self {
            Listed::These(names) => HeaderValue::from_str(names)
                .ok()
                .filter(|names| !names.is_empty()),
            Listed::All if credentials => asked.cloned(),
            Listed::All => Some(STAR),
        }
    }

    fn dump(&self) -> &str {
        match self {
            Listed::These(names) => names,
            Listed::All => "*",
        }
    }
}

impl Origin {
    /// Reads an origin, with `*` for any host or port, or as the first label of a host.
    pub fn parse(written: &str) -> Option<Self> {
        let origin = |scheme, host, port| Self {
            written: written.to_owned(),
            scheme,
            host,
            port,
        };
        if written == "*" {
            return Some(origin(None, Host::Any, Port::Any));
        }
        let (scheme, rest) = split_scheme(written)?;
        let (host, port) = match split_port(rest)? {
            (host, Some("*")) => (host, Port::Any),
            (host, Some(port)) => (host, Port::Exact(Some(port.parse().ok()?))),
            (host, None) => (host, Port::Exact(None)),
        };
        let host = match host.strip_prefix('*') {
            // As the reference has it, `https://*` is any host at the usual port.
            Some("") => Host::Any,
            Some(suffix) if suffix.starts_with('.') && is_host(&suffix[1..]) => {
                Host::Suffix(suffix.to_ascii_lowercase())
            }
            Some(_) => return None,
            None if is_host(host) => Host::Exact(host.to_ascii_lowercase()),
            None => return None,
        };
        Some(origin(Some(scheme), host, port))
    }

    /// Returns whether a page from `origin`, as a browser writes it, is one of these.
    fn contains(&self, origin: &str) -> bool {
        let Some(wanted) = self.scheme else {
            return true;
        };
        let Some((scheme, (host, port))) =
            split_scheme(origin).and_then(|(scheme, rest)| Some((scheme, split_port(rest)?)))
        else {
            return false;
        };
        let port = port.map(str::parse).transpose();
        let host = host.to_ascii_lowercase();
        let hosts = match &self.host {
            Host::Any => true,
            Host::Exact(name) => *name == host,
            Host::Suffix(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
        };
        let ports = match (&self.port, port) {
            (_, Err(_)) => false,
            (Port::Any, Ok(_)) => true,
            (Port::Exact(wanted), Ok(found)) => *wanted == found,
        };
        scheme == wanted && is_host(&host) && hosts && ports
    }
}

impl Cors {
    /// Returns the answer to a browser that asks whether it may send a request; `None` if it does not ask, or
    /// its page may not.
    pub fn preflight(&self, method: &Method, headers: &HeaderMap) -> Option<Response<()>> {
        let asked = headers.get(header::ACCESS_CONTROL_REQUEST_METHOD)?;
        if *method != Method::OPTIONS {
            return None;
        }
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::OK;
        let answer = response.headers_mut();
        if !self.allow_origin(headers, answer) {
            return None;
        }
        let mut set = |name: HeaderName, value: Option<HeaderValue>| {
            if let Some(value) = value {
                answer.insert(name, value);
            }
        };
        let methods = self.methods.value(Some(asked), self.credentials);
        set(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
        let wanted = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS);
        let names = self.headers.value(wanted, self.credentials);
        set(header::ACCESS_CONTROL_ALLOW_HEADERS, names);
        let max_age = self.max_age.map(|age| HeaderValue::from(age.as_secs()));
        set(header::ACCESS_CONTROL_MAX_AGE, max_age);
        Some(response)
    }

    /// Puts into `answer` what lets a page read it, if the page may.
    pub fn allow(&self, headers: &HeaderMap, answer: &mut HeaderMap) {
        if self.allow_origin(headers, answer)
            && let Some(names) = self.expose.value(None, false)
        {
            answer.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, names);
        }
    }

    /// Returns what is declared.
    pub fn dump(&self) -> Value {
        let origins: Vec<&str> = self.origins.iter().map(|origin| &*origin.written).collect();
        json!({
            "allowOrigins": origins,
            "allowMethods": self.methods.dump(),
            "allowHeaders": self.headers.dump(),
            "exposeHeaders": self.expose.dump(),
            "maxAge": self.max_age.map(|age| age.as_secs()),
            "allowCredentials": self.credentials,
        })
    }

    fn allow_origin(&self, headers: &HeaderMap, answer: &mut HeaderMap) -> bool {
        // Another page may get another answer, whoever keeps them has to know.
        if let Entry::Vacant(vary) = answer.entry(header::VARY) {
            vary.insert(HeaderValue::from_static("origin"));
        }
        let Some(origin) = headers.get(header::ORIGIN) else {
            return false;
        };
        let text = origin.to_str().unwrap_or_default();
        if !self.origins.iter().any(|allowed| allowed.contains(text)) {
            return false;
        }
        answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        if self.credentials {
            let yes = HeaderValue::from_static("true");
            answer.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
        }
        true
    }
}

fn split_scheme(origin: &str) -> Option<(&'static str, &str)> {
    ["http", "https"].into_iter().find_map(|scheme| {
        let rest = origin.strip_prefix(scheme)?.strip_prefix("://")?;
        Some((scheme, rest))
    })
}

/// Returns host and port; `None` for what is neither.
fn split_port(rest: &str) -> Option<(&str, Option<&str>)> {
    match rest.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') => Some((host, Some(port))),
        Some(_) => None,
        None => Some((rest, None)),
    }
}

fn is_host(host: &str) -> bool {
    !host.is_empty()
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

const STAR: HeaderValue = HeaderValue::from_static("*");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins() {
        let check = |written: &str, origin: &str, expected: bool| {
            let parsed = Origin::parse(written).expect("an origin");
            assert_eq!(parsed.contains(origin), expected, "{written} {origin}");
        };
        check("*", "null", true);
        check("https://a.example", "https://a.example", true);
        check("https://a.example", "https://A.example", true);
        check("https://a.example", "http://a.example", false);
        check("https://a.example", "https://a.example:8443", false);
        check("https://a.example:8443", "https://a.example:8443", true);
        check("https://a.example:*", "https://a.example:8443", true);
        check("https://a.example:*", "https://a.example", true);
        check("https://*.example", "https://a.b.example", true);
        check("https://*.example", "https://example", false);
        check("https://*.example", "https://.example", false);
        check("https://*.example", "https://evil/.example", false);
        check("https://*.example", "https://evil@a.example", false);
        check("https://*.example", "https://a.example.evil", false);
        check("https://*", "https://anything", true);
        check("https://*", "https://anything:1", false);
        check("https://a.example", "https://a.example:x", false);
        check("http://localhost:*", "http://localhost:5173", true);
        for malformed in [
            "",
            "a.example",
            "ftp://a",
            "https://",
            "https://a*b",
            "https://a:x",
            "https://a b",
        ] {
            assert_eq!(Origin::parse(malformed), None, "{malformed}");
        }
    }

    fn cors(credentials: bool, names: &[&str]) -> Cors {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        Cors {
            origins: vec![Origin::parse("https://*.example").expect("an origin")],
            methods: Listed::new(&["GET".to_owned(), "POST".to_owned()]),
            headers: Listed::new(&names),
            expose: Listed::new(&["x-request-id".to_owned()]),
            max_age: Some(Duration::from_secs(600)),
            credentials,
        }
    }

    fn asking(origin: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            (header::ORIGIN, origin),
            (header::ACCESS_CONTROL_REQUEST_METHOD, "POST"),
            (header::ACCESS_CONTROL_REQUEST_HEADERS, "authorization,x-a"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn preflights() {
        let check = |cors: &Cors, names: Option<&str>, credentials: Option<&str>| {
            let answer = cors.preflight(&Method::OPTIONS, &asking("https://a.example"));
            let answer = answer.expect("an answer");
            assert_eq!(answer.status(), 200);
            let header = |name: &str| {
                answer
                    .headers()
                    .get(name)
                    .map(|value| value.to_str().expect("text"))
            };
            assert_eq!(header("access-control-allow-origin"), Some("https://a.example"));
            assert_eq!(header("access-control-allow-methods"), Some("GET,POST"));
            assert_eq!(header("access-control-allow-headers"), names);
            assert_eq!(header("access-control-allow-credentials"), credentials);
            assert_eq!(header("access-control-max-age"), Some("600"));
            assert_eq!(header("access-control-expose-headers"), None);
            assert_eq!(header("vary"), Some("origin"));
        };
        check(&cors(false, &["x-a"]), Some("x-a"), None);
        check(&cors(false, &["*"]), Some("*"), None);
        check(&cors(true, &["*"]), Some("authorization,x-a"), Some("true"));
        check(&cors(true, &[]), None, Some("true"));
        let cors = cors(false, &[]);
        assert!(
            cors.preflight(&Method::OPTIONS, &asking("https://evil"))
                .is_none()
        );
        assert!(
            cors.preflight(&Method::GET, &asking("https://a.example"))
                .is_none()
        );
        assert!(cors.preflight(&Method::OPTIONS, &HeaderMap::new()).is_none());
    }

    #[test]
    fn answers() {
        for (origin, names) in [
            (
                "https://a.example",
                &[
                    "access-control-allow-origin",
                    "access-control-expose-headers",
                    "vary",
                ][..],
            ),
            ("https://evil", &["vary"]),
        ] {
            let mut answer = HeaderMap::new();
            cors(false, &[]).allow(&asking(origin), &mut answer);
            let mut found: Vec<&str> = answer.keys().map(HeaderName::as_str).collect();
            found.sort_unstable();
            assert_eq!(found, names, "{origin}");
        }
    }
}
