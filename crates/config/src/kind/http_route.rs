//! HTTPRoute: plain requests, matched by path, headers, method and query, and what is done with them.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Duration,
    ai_gateway_route::{HeaderMatch, HeaderMatchKind, ParentRef, Timeouts},
    backend_traffic_policy::Fraction,
    http_route_access::{CorsFilter, ExternalAuth},
    reference::{BackendObjectRef, LocalRef},
};

/// What an HTTPRoute says.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "HTTPRouteSpec")]
pub struct HTTPRoute {
    /// The Gateways that it attaches to.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub parent_refs: Vec<ParentRef>,
    /// Whether it attaches to default Gateways.
    pub use_default_gateways: Option<String>,
    /// The hosts that it serves; those of the listeners if empty.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub hostnames: Vec<String>,
    /// The rules; one that takes every request by default.
    #[serde(default = "everything")]
    #[schemars(length(min = 1, max = 16))]
    pub rules: Vec<Rule>,
}

/// One rule: when any match holds, the filters are applied and one of the backends serves.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "HTTPRouteRule")]
pub struct Rule {
    /// Unique in the route.
    pub name: Option<String>,
    /// Alternatives; without any, the rule takes every request.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub matches: Vec<Match>,
    /// What is done with requests and replies.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub filters: Vec<Filter>,
    /// Who serves it.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub backend_refs: Vec<BackendRef>,
    /// Time limits.
    pub timeouts: Option<Timeouts>,
    /// What is tried again.
    pub retry: Option<Retry>,
    /// Which backend a client comes back to.
    pub session_persistence: Option<SessionPersistence>,
}

/// What is tried again; connections that fail always are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "HTTPRouteRetry")]
pub struct Retry {
    /// Statuses that are tried again.
    #[serde(default)]
    pub codes: Vec<u16>,
    /// Attempts after the first; 2 by default.
    pub attempts: Option<u32>,
    /// What the wait between attempts grows from.
    pub backoff: Option<Duration>,
}

/// Which backend a client comes back to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionPersistence {
    /// What the cookie or header is called.
    #[schemars(length(max = 128))]
    pub session_name: Option<String>,
    /// How long a session lasts at the most.
    pub absolute_timeout: Option<Duration>,
    /// How long a session lasts that is not used.
    pub idle_timeout: Option<Duration>,
    /// `Cookie` by default.
    #[serde(rename = "type")]
    pub kind: Option<SessionKind>,
    /// With type Cookie.
    pub cookie_config: Option<CookieConfig>,
}

/// What carries a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(rename = "SessionPersistenceType")]
pub enum SessionKind {
    /// A cookie.
    Cookie,
    /// A header of replies that clients repeat with their requests.
    Header,
}

/// What the cookie of a session is like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "SessionCookieConfig")]
pub struct CookieConfig {
    /// `Session` by default.
    pub lifetime_type: Option<CookieLifetime>,
}

/// How long browsers keep a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(rename = "SessionCookieLifetime")]
pub enum CookieLifetime {
    /// For as long as the session lasts.
    Permanent,
    /// Until they are closed.
    Session,
}

/// One alternative of a rule; all of it must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "HTTPRouteMatch")]
pub struct Match {
    /// The path; every path by default.
    pub path: Option<PathMatch>,
    /// Headers.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub headers: Vec<HeaderMatch>,
    /// Parameters of the query.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub query_params: Vec<QueryMatch>,
    /// The method.
    pub method: Option<Method>,
}

/// What the path must be.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PathMatch {
    /// `PathPrefix` by default.
    #[serde(rename = "type")]
    pub kind: Option<PathMatchKind>,
    /// The path, its first elements or an expression; `/` by default.
    pub value: Option<String>,
}

/// How a path is held against a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum PathMatchKind {
    /// They are equal.
    Exact,
    /// The path begins with the value's elements.
    PathPrefix,
    /// The value is a regular expression that matches the whole path.
    RegularExpression,
}

/// What a parameter of the query must be.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueryMatch {
    /// `Exact` by default.
    #[serde(rename = "type")]
    pub kind: Option<HeaderMatchKind>,
    /// The parameter.
    pub name: String,
    /// The value, or the expression that the whole value must match.
    pub value: String,
}

/// A method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "they are the methods of HTTP")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
}

/// Something that is done with requests or replies: the member that is called as the type.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "HTTPRouteRuleFilter")]
pub struct Filter {
    /// What is done.
    #[serde(rename = "type")]
    pub kind: FilterKind,
    /// Changes of the request's headers.
    pub request_header_modifier: Option<HeaderFilter>,
    /// Changes of the reply's headers.
    pub response_header_modifier: Option<HeaderFilter>,
    /// A copy of the request for another backend.
    pub request_mirror: Option<Mirror>,
    /// An answer that names another place.
    pub request_redirect: Option<Redirect>,
    /// Another host or path for the backend.
    pub url_rewrite: Option<Rewrite>,
    /// Which pages of other origins may use it.
    pub cors: Option<CorsFilter>,
    /// Who is asked whether the request may pass.
    pub external_auth: Option<ExternalAuth>,
    /// A filter of another kind, in the same namespace.
    pub extension_ref: Option<LocalRef>,
}

/// What a filter does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
pub enum FilterKind {
    /// Changes headers of the request.
    RequestHeaderModifier,
    /// Changes headers of the reply.
    ResponseHeaderModifier,
    /// Sends a copy to another backend.
    RequestMirror,
    /// Answers with another place.
    RequestRedirect,
    /// Changes host or path for the backend.
    URLRewrite,
    /// Tells browsers which pages may use it.
    #[serde(rename = "CORS")]
    Cors,
    /// Asks whether the request may pass.
    ExternalAuth,
    /// Is another resource.
    ExtensionRef,
}

/// Changes of headers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeaderFilter {
    /// Headers that take the place of what there is.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub set: Vec<Header>,
    /// Headers that are added to what there is.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub add: Vec<Header>,
    /// Names of headers that are removed.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub remove: Vec<String>,
}

/// A header.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Header {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// An answer that names another place; what it does not say stays as it was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Redirect {
    /// `http` or `https`.
    pub scheme: Option<String>,
    /// The host.
    pub hostname: Option<String>,
    /// The path.
    pub path: Option<PathModifier>,
    /// The port; that of the scheme where that is given, else that of the listener.
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u32>,
    /// 302 by default.
    pub status_code: Option<u16>,
}

/// A copy of the request for another backend, whose reply nobody waits for.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "HTTPRequestMirrorFilter")]
pub struct Mirror {
    /// The other backend.
    pub backend_ref: BackendObjectRef,
    /// How many of a hundred requests are copied; all by default.
    #[schemars(range(max = 100))]
    pub percent: Option<u32>,
    /// The same as a fraction.
    pub fraction: Option<Fraction>,
}

/// Another host or path for the backend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rewrite {
    /// The host.
    pub hostname: Option<String>,
    /// The path.
    pub path: Option<PathModifier>,
}

/// How a path is changed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PathModifier {
    /// What is replaced.
    #[serde(rename = "type")]
    pub kind: PathModifierKind,
    /// In place of the whole path.
    pub replace_full_path: Option<String>,
    /// In place of the prefix that was matched.
    pub replace_prefix_match: Option<String>,
}

/// What is replaced of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum PathModifierKind {
    /// All of it.
    ReplaceFullPath,
    /// The prefix that was matched.
    ReplacePrefixMatch,
}

/// A reference from a rule to a backend.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "HTTPBackendRef")]
pub struct BackendRef {
    /// Empty by default.
    pub group: Option<String>,
    /// `Service` by default, or `Backend` of Envoy Gateway.
    pub kind: Option<String>,
    /// The backend's name.
    pub name: String,
    /// The backend's namespace; the route's by default, another needs a ReferenceGrant.
    pub namespace: Option<String>,
    /// The port, required of a Service.
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u32>,
    /// The share; 1 by default, 0 is never used.
    #[schemars(range(max = 1_000_000))]
    pub weight: Option<u32>,
    /// What is done with requests for this backend, and their replies.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub filters: Vec<Filter>,
}

impl BackendRef {
    /// Returns the network endpoint that is referred to.
    pub fn target(&self) -> BackendObjectRef {
        BackendObjectRef {
            group: self.group.clone(),
            kind: self.kind.clone(),
            name: self.name.clone(),
            namespace: self.namespace.clone(),
            port: self.port,
        }
    }
}

impl Filter {
    /// Returns the types whose members are there.
    pub fn members(&self) -> Vec<FilterKind> {
        let members = [
            (
                FilterKind::RequestHeaderModifier,
                self.request_header_modifier.is_some(),
            ),
            (
                FilterKind::ResponseHeaderModifier,
                self.response_header_modifier.is_some(),
            ),
            (FilterKind::RequestMirror, self.request_mirror.is_some()),
            (FilterKind::RequestRedirect, self.request_redirect.is_some()),
            (FilterKind::URLRewrite, self.url_rewrite.is_some()),
            (FilterKind::Cors, self.cors.is_some()),
            (FilterKind::ExternalAuth, self.external_auth.is_some()),
            (FilterKind::ExtensionRef, self.extension_ref.is_some()),
        ];
        let present = members.into_iter().filter(|(_, present)| *present);
        present.map(|(kind, _)| kind).collect()
    }
}

impl Rule {
    /// Returns the prefix of the one match, where the rule has one match and that is by prefix.
    pub fn prefix(&self) -> Option<&str> {
        let path = match self.matches.as_slice() {
            [] => return Some("/"),
            [only] => only.path.as_ref(),
            [_, _, ..] => return None,
        };
        match path.map(|path| (path.kind, path.value.as_deref())) {
            None => Some("/"),
            Some((None | Some(PathMatchKind::PathPrefix), value)) => Some(value.unwrap_or("/")),
            Some((Some(PathMatchKind::Exact | PathMatchKind::RegularExpression), _)) => None,
        }
    }

    /// Returns the time that the whole request may take, and one attempt.
    pub fn limits(&self) -> (Option<Duration>, Option<Duration>) {
        let timeouts = self.timeouts.unwrap_or_default();
        (timeouts.request, timeouts.backend_request)
    }
}

fn everything() -> Vec<Rule> {
    vec![Rule::default()]
}
