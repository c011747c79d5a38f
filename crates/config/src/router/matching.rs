//! What a rule wants of a request: path, method, headers, query.

use std::{borrow::Cow, cmp::Ordering, fmt, sync::Arc};

use http::{HeaderMap, HeaderName, Method};
use percent_encoding::percent_decode_str;
use regex::Regex;

use super::MODEL_HEADER;
use crate::kind::{ai_gateway_route::HeaderMatchKind, http_route::PathMatchKind};

/// A request, as far as rules look at it.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// In lower case and without port.
    pub host: &'a str,
    /// The method.
    pub method: &'a Method,
    /// The path, without query.
    pub path: &'a str,
    /// The query, without its question mark.
    pub query: &'a str,
    /// The client's headers, without reserved ones.
    pub headers: &'a HeaderMap,
    /// The model that the body names; empty if it names none, or is not known yet.
    pub model: &'a str,
}

/// One alternative of a rule: all of it must hold.
#[derive(Clone, Debug, Default)]
pub struct Match {
    /// The path.
    pub path: PathTest,
    /// The method; any if absent.
    pub method: Option<Method>,
    /// Headers.
    pub headers: Vec<HeaderTest>,
    /// Parameters of the query.
    pub query: Vec<QueryTest>,
}

/// What the path must be.
#[derive(Clone, Debug)]
pub enum PathTest {
    /// Exactly this.
    Exact(String),
    /// Its first elements must be these; without a slash at the end.
    Prefix(String),
    /// All of it must match.
    Regex(Pattern),
}

/// What one header must be. Debug shows what Display does, so no credential that is matched for.
#[derive(Clone)]
pub struct HeaderTest {
    name: HeaderName,
    wanted: Wanted,
}

/// What the first value of one parameter of the query must be, percent-decoded. Debug shows no value.
#[derive(Clone)]
pub struct QueryTest {
    name: String,
    wanted: Wanted,
}

/// An expression that a whole text must match.
#[derive(Clone, Debug)]
pub struct Pattern {
    written: String,
    whole: Regex,
}

#[derive(Clone)]
enum Wanted {
    Exact(Arc<str>),
    Regex(Pattern),
}

/// Why a match does not hold. Values are left out: headers and queries carry credentials.
pub(super) enum Refusal<'r> {
    Path,
    Method,
    Header { test: &'r HeaderTest, absent: bool },
    Query { test: &'r QueryTest, absent: bool },
}

impl From<Vec<HeaderTest>> for Match {
    /// Wants these headers, at any path.
    fn from(headers: Vec<HeaderTest>) -> Self {
        Self {
            headers,
            ..Self::default()
        }
    }
}

impl Match {
    /// Returns the first part that does not hold.
    pub(super) fn refusal(&self, asked: &Asked<'_>) -> Option<Refusal<'_>> {
        if !self.path.holds(asked.path) {
            return Some(Refusal::Path);
        }
        if self.method.as_ref().is_some_and(|method| method != asked.method) {
            return Some(Refusal::Method);
        }
        let mut headers = self.headers.iter();
        let header = headers.find_map(|test| test.refusal(asked.headers, asked.model));
        header.or_else(|| self.query.iter().find_map(|test| test.refusal(asked.query)))
    }

    /// Compares by the Gateway API's precedence: what goes first is less.
    pub(super) fn precedence(&self, other: &Self) -> Ordering {
        let key = |own: &Self| {
            (
                own.path.rank(),
                own.method.is_some(),
                own.headers.len(),
                own.query.len(),
            )
        };
        key(other).cmp(&key(self))
    }

    /// Returns the one model that the match wants.
    pub(super) fn exact_model(&self) -> Option<&Arc<str>> {
        self.headers.iter().find_map(HeaderTest::exact_model)
    }

    /// Returns whether the match takes every request.
    pub(super) fn takes_all(&self) -> bool {
        let path = matches!(&self.path, PathTest::Prefix(prefix) if prefix.is_empty());
        path && self.method.is_none() && self.headers.is_empty() && self.query.is_empty()
    }
}

impl Default for PathTest {
    fn default() -> Self {
        PathTest::Prefix(String::new())
    }
}

impl PathTest {
    /// Compiles a match.
    ///
    /// # Errors
    /// Why the expression is malformed.
    pub fn new(value: &str, kind: PathMatchKind) -> Result<Self, String> {
        Ok(match kind {
            PathMatchKind::Exact => PathTest::Exact(value.to_owned()),
            PathMatchKind::PathPrefix => PathTest::Prefix(value.trim_end_matches('/').to_owned()),
            PathMatchKind::RegularExpression => PathTest::Regex(Pattern::new(value)?),
        })
    }

    fn holds(&self, path: &str) -> bool {
        match self {
            PathTest::Exact(wanted) => wanted == path,
            PathTest::Prefix(prefix) => path
                .strip_prefix(prefix.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
            PathTest::Regex(pattern) => pattern.whole.is_match(path),
        }
    }

    /// Exact paths go before expressions, those before prefixes, and longer ones before shorter ones.
    fn rank(&self) -> (u8, usize) {
        match self {
            PathTest::Exact(path) => (2, path.len()),
            PathTest::Regex(pattern) => (1, pattern.written.len()),
            PathTest::Prefix(prefix) => (0, prefix.len()),
        }
    }
}

impl Pattern {
    /// Compiles an expression.
    ///
    /// # Errors
    /// Why it is malformed.
    pub fn new(written: &str) -> Result<Self, String> {
        let malformed = |error: regex::Error| {
            // The lines before the last one draw where the error is.
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default();
            let reason = reason.strip_prefix("error: ").unwrap_or(reason);
            format!("malformed regular expression: {reason}")
        };
        Regex::new(written).map_err(malformed)?;
        Ok(Self {
            written: written.to_owned(),
            whole: Regex::new(&format!(r"\A(?:{written})\z")).map_err(malformed)?,
        })
    }
}

impl Wanted {
    fn new(value: &str, kind: HeaderMatchKind) -> Result<Self, String> {
        Ok(match kind {
            HeaderMatchKind::Exact => Wanted::Exact(Arc::from(value)),
            HeaderMatchKind::RegularExpression => Wanted::Regex(Pattern::new(value)?),
        })
    }

    fn holds(&self, value: &str) -> bool {
        match self {
            Wanted::Exact(wanted) => **wanted == *value,
            Wanted::Regex(pattern) => pattern.whole.is_match(value),
        }
    }
}

impl HeaderTest {
    /// Compiles a match.
    ///
    /// # Errors
    /// Why the name or the expression is malformed.
    pub fn new(name: &str, value: &str, kind: HeaderMatchKind) -> Result<Self, String> {
        let malformed = |_| format!("\"{name}\" is not a header name");
        let name = if name.eq_ignore_ascii_case(MODEL_HEADER) {
            HeaderName::from_static(MODEL_HEADER)
        } else {
            HeaderName::from_bytes(name.as_bytes()).map_err(malformed)?
        };
        let wanted = Wanted::new(value, kind)?;
        Ok(Self { name, wanted })
    }

    /// Returns the header that it is about.
    pub(super) fn name(&self) -> &HeaderName {
        &self.name
    }

    /// Returns the one model that the test wants.
    fn exact_model(&self) -> Option<&Arc<str>> {
        match &self.wanted {
            Wanted::Exact(model) if self.name == MODEL_HEADER => Some(model),
            Wanted::Exact(_) | Wanted::Regex(_) => None,
        }
    }

    pub(super) fn refusal(&self, headers: &HeaderMap, model: &str) -> Option<Refusal<'_>> {
        let refuse = |absent| Some(Refusal::Header { test: self, absent });
        if self.name == MODEL_HEADER {
            return match model {
                "" => refuse(true),
                model if self.wanted.holds(model) => None,
                _ => refuse(false),
            };
        }
        let mut values = headers.get_all(&self.name).iter();
        let Some(first) = values.next() else {
            return refuse(true);
        };
        let mut value = String::from_utf8_lossy(first.as_bytes());
        for more in values {
            let joined = value.to_mut();
            joined.push(',');
            joined.push_str(&String::from_utf8_lossy(more.as_bytes()));
        }
        if self.wanted.holds(&value) {
            None
        } else {
            refuse(false)
        }
    }

    fn is_secret(&self) -> bool {
        SECRET_HEADERS.contains(&self.name.as_str())
    }
}

impl QueryTest {
    /// Compiles a match.
    ///
    /// # Errors
    /// Why the expression is malformed.
    pub fn new(name: &str, value: &str, kind: HeaderMatchKind) -> Result<Self, String> {
        Ok(Self {
            name: name.to_owned(),
            wanted: Wanted::new(value, kind)?,
        })
    }

    fn refusal(&self, query: &str) -> Option<Refusal<'_>> {
        let decode = |text| -> Cow<'_, str> { percent_decode_str(text).decode_utf8_lossy() };
        let mut pairs = query
            .split('&')
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let found = pairs.find(|(name, _)| decode(name) == self.name);
        match found {
            Some((_, value)) if self.wanted.holds(&decode(value)) => None,
            found => Some(Refusal::Query {
                test: self,
                absent: found.is_none(),
            }),
        }
    }
}

/// `path /v1/*, method GET, x-team = a, query q ~ .+`; nothing for what takes every request.
impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            PathTest::Prefix(prefix) if prefix.is_empty() => {}
            path => write!(f, ", {path}")?,
        }
        if let Some(method) = &self.method {
            write!(f, ", method {method}")?;
        }
        self.headers.iter().try_for_each(|test| write!(f, ", {test}"))?;
        self.query.iter().try_for_each(|test| write!(f, ", {test}"))
    }
}

impl fmt::Display for PathTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PathTest::Exact(path) => write!(f, "path = {path}"),
            PathTest::Prefix(prefix) => write!(f, "path {prefix}/*"),
            PathTest::Regex(pattern) => write!(f, "path ~ {}", pattern.written),
        }
    }
}

impl fmt::Display for HeaderTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, value) = match &self.wanted {
            Wanted::Exact(value) => ("=", &**value),
            Wanted::Regex(pattern) => ("~", pattern.written.as_str()),
        };
        let value = if self.is_secret() { "[secret]" } else { value };
        write!(f, "{} {sign} {value}", self.name)
    }
}

impl fmt::Debug for HeaderTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for QueryTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "query {}", self.name)
    }
}

impl fmt::Debug for QueryTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Refusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, absent): (&dyn fmt::Display, bool) = match self {
            Refusal::Path => return f.write_str("the path is another"),
            Refusal::Method => return f.write_str("the method is another"),
            Refusal::Header { test, absent } if test.name == MODEL_HEADER => (&"the model", *absent),
            Refusal::Header { test, absent } => (&test.name, *absent),
            Refusal::Query { test, absent } => (test, *absent),
        };
        let state = if absent { "absent" } else { "another" };
        write!(f, "{what} is {state}")
    }
}

/// Headers whose wanted values are not shown.
const SECRET_HEADERS: &[&str] = &[
    "authorization",
    "proxy-authorization",
    "x-api-key",
    "api-key",
    "cookie",
];
