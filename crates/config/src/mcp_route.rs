//! MCPRoutes, resolved: which servers stand behind a path, and how each is called.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use http::HeaderName;
use mcp::{name::Prefix, offer::Offer};
use policy::traffic::Traffic;
use serde_json::{Value, json};

use crate::{
    Secret,
    credential::Credential,
    kind::mcp_route::ServerInfo,
    mcp_access::Access,
    snapshot::{Endpoint, Rule, Tls},
    words::Vocabularies,
};

/// Where clients look for what a server says of itself to those who want to log in (RFC 9728, section 3).
pub const METADATA: &str = "/.well-known/oauth-protected-resource";

/// Returns whether a header says how a call itself is made: where it goes, where its body ends, and of which session it
/// is. Said by hand it would make another call of it.
pub fn is_of_the_call(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let framing = policy::is_reserved(&name) && !name.starts_with("x-");
    framing || OF_THE_CALL.contains(&name.as_str())
}

const OF_THE_CALL: [&str; 8] = [
    "accept",
    "accept-encoding",
    "content-type",
    "last-event-id",
    "mcp-method",
    "mcp-name",
    "mcp-protocol-version",
    "mcp-session-id",
];

/// A path with MCP servers behind it.
#[derive(Clone, Debug)]
pub struct Route {
    /// `namespace/route`
    pub id: Arc<str>,
    /// What its sessions are good for: the route, or the route as it is now.
    pub sealed: Arc<str>,
    /// The path.
    pub path: String,
    /// Whether what is below the path is served too.
    pub below: bool,
    /// The servers, in the order of the references.
    pub backends: Vec<Backend>,
    /// When names are prefixed.
    pub prefix: Prefix,
    /// The longest name of a tool or prompt that is prefixed.
    pub max_name: usize,
    /// Whether a list that lacks a server's part is an error.
    pub closed: bool,
    /// Whether the clients that are served are those without sessions, or those with them; all if `None`.
    pub modern: Option<bool>,
    /// What clients are told that they speak with, if not the gateway or the only server.
    pub server: Option<ServerInfo>,
    /// Whether lists are given page by page.
    pub paged: bool,
    /// Whether what is refused is told in plain text, as Envoy AI Gateway does it.
    pub plain_errors: bool,
    /// Origins that may call beside the gateway's own; `*` for any.
    pub origins: Vec<String>,
    /// Values of `host` that are served, without ports; empty for the default.
    pub hosts: Vec<String>,
    /// Whether the route names the hosts that it serves.
    pub hostnames: bool,
    /// How long a session lasts.
    pub session_ttl: Duration,
    /// The most bytes of a token that clients carry.
    pub max_token: usize,
    /// Stands for the route where a policy treats its requests: limits, faults, and how large they may be.
    pub treated: Option<Arc<Rule>>,
    /// In which words spans tell of its messages; `None` for those of the process.
    pub words: Option<Vocabularies>,
    /// Who may use it, and what of it.
    pub access: Access,
    /// Why nobody may use it: something that restricts access to it cannot be honoured.
    pub shut: Option<String>,
}

/// An MCP server.
#[derive(Clone, Debug)]
pub struct Backend {
    /// What it is called in sessions and metrics.
    pub name: Arc<str>,
    /// What stands before its names.
    pub prefix: Arc<str>,
    /// How it is reached, or why it cannot be.
    pub reach: Result<Reach, String>,
    /// Whether it is spoken with without sessions; found out if `None`.
    pub modern: Option<bool>,
    /// What of it is offered, and under which names.
    pub offer: Offer,
    /// Headers of the client that it is sent, and what it calls them.
    pub forward: Vec<(HeaderName, HeaderName)>,
    /// How long is waited for a session to be opened.
    pub open_timeout: Duration,
    /// How long is waited for a list.
    pub list_timeout: Duration,
    /// How long is waited for everything else.
    pub call_timeout: Duration,
    /// How long is waited for a call of some tools, by their own names.
    pub tool_timeouts: BTreeMap<String, Duration>,
    /// How long a list is kept of which the server does not say so itself; zero for not at all.
    pub list_ttl: Duration,
    /// The most bytes of an event of its streams.
    pub max_event: usize,
    /// How its endpoints are chosen, tried again, bounded and watched; `None` where no policy says so.
    pub traffic: Option<Arc<Traffic>>,
}

/// How a server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Over the network.
    Http(Http),
    /// As a program of this machine.
    Program(Program),
}

/// A server that is a program of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Names it; the same for the same program and arguments.
    pub id: Arc<str>,
    /// The program.
    pub command: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Variables of its environment, beside ours.
    pub env: Vec<(String, Secret)>,
    /// The folder that it runs in; ours if there is none.
    pub cwd: Option<String>,
    /// Whether one program serves all sessions.
    pub shared: bool,
}

/// A server on the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// Names its connections; the same wherever addresses and encryption are.
    pub id: Arc<str>,
    /// Network addresses; never empty.
    pub endpoints: Vec<Endpoint>,
    /// Set where calls are encrypted.
    pub tls: Option<Tls>,
    /// Its path, with a query where it has one.
    pub path: String,
    /// What it is shown as a credential.
    pub key: Option<Key>,
    /// Headers that it is sent beside.
    pub headers: Vec<(HeaderName, Secret)>,
}

/// A credential and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// In a header, with all that stands before it.
    Header(HeaderName, Secret),
    /// In a parameter of the query.
    Query(String, Secret),
    /// A token, which is issued to the gateway.
    Token(Arc<Credential>),
}

impl Route {
    /// Returns the server called `name`.
    pub fn backend(&self, name: &str) -> Option<&Backend> {
        self.backends.iter().find(|backend| &*backend.name == name)
    }

    /// Returns the only server, where clients log in there because nobody asks them here.
    pub fn lends_login(&self) -> Option<&Backend> {
        let [only] = self.backends.as_slice() else {
            return None;
        };
        let nobody = self.access.login.is_none() && self.access.policies.is_none();
        let http = only.reach.as_ref().is_ok_and(|reach| reach.http().is_some());
        (nobody && http && !only.is_shown_token()).then_some(only)
    }

    /// Returns the place of the server whose names `prefix` stands before. Its own name may stand there as well.
    pub fn called(&self, prefix: &str) -> Option<usize> {
        let mut backends = self.backends.iter();
        let place = backends.position(|backend| &*backend.prefix == prefix);
        place.or_else(|| self.backends.iter().position(|backend| &*backend.name == prefix))
    }

    /// Returns whether names of its tools are prefixed.
    pub fn prefixes(&self) -> bool {
        self.prefix.applies(self.backends.len())
    }

    /// Returns the route as JSON, without secrets.
    pub(crate) fn dump(&self) -> Value {
        let backends: Vec<Value> = self.backends.iter().map(Backend::dump).collect();
        let mut dump = json!({
            "path": self.path,
            "below": self.below,
            "backends": backends,
            "prefix": format!("{:?}", self.prefix),
            "maxName": self.max_name,
            "closed": self.closed,
            "modern": self.modern,
            "serverInfo": self.server,
            "paged": self.paged,
            "plainErrors": self.plain_errors,
            "sessionTTL": self.session_ttl.as_secs(),
            "access": self.access.dump(),
            "shut": self.shut,
        });
        if let Some(traffic) = self.treated.as_ref().and_then(|rule| rule.traffic.as_ref()) {
            dump["traffic"] = json!(traffic.policy);
        }
        dump
    }
}

impl Backend {
    /// Returns whether the server is a program of this machine.
    pub fn is_program(&self) -> bool {
        matches!(self.reach, Ok(Reach::Program(_)))
    }

    /// Returns whether the gateway logs in there itself, where a login of a client would mean nothing.
    pub fn is_shown_token(&self) -> bool {
        let http = self.reach.as_ref().ok().and_then(Reach::http);
        http.is_some_and(|http| http.token().is_some())
    }

    /// Returns how long is waited for a call, of `tool` if it is one of a tool.
    pub fn call_timeout(&self, tool: Option<&str>) -> Duration {
        let own = tool.and_then(|tool| self.tool_timeouts.get(tool));
        own.copied().unwrap_or(self.call_timeout)
    }

    /// Returns how long is waited where it is not known which tool is called.
    pub fn longest_call(&self) -> Duration {
        let tools = self.tool_timeouts.values().copied();
        tools.fold(self.call_timeout, Duration::max)
    }

    fn dump(&self) -> Value {
        let (reach, error) = match &self.reach {
            Ok(reach) => (Some(reach.dump()), None),
            Err(error) => (None, Some(error)),
        };
        let mut dump = json!({
            "name": self.name,
            "prefix": self.prefix,
            "modern": self.modern,
            "reach": reach,
            "error": error,
            "forward": self.forward.iter().map(|(from, _)| from.as_str()).collect::<Vec<_>>(),
            "timeouts": {
                "initialize": self.open_timeout.as_secs_f64(),
                "list": self.list_timeout.as_secs_f64(),
                "call": self.call_timeout.as_secs_f64(),
            },
            "listCacheTTL": self.list_ttl.as_secs_f64(),
        });
        if !self.tool_timeouts.is_empty() {
            let tools = self.tool_timeouts.iter();
            let tools: BTreeMap<_, _> = tools.map(|(tool, limit)| (tool, limit.as_secs_f64())).collect();
            dump["timeouts"]["tools"] = json!(tools);
        }
        if let Some(traffic) = &self.traffic {
            dump["traffic"] = json!(traffic.policy);
        }
        dump
    }
}

impl Reach {
    /// Returns how the server is reached on the network, if that is where it is.
    pub fn http(&self) -> Option<&Http> {
        match self {
            Reach::Http(http) => Some(http),
            Reach::Program(_) => None,
        }
    }

    fn dump(&self) -> Value {
        match self {
            Reach::Http(http) => http.dump(),
            // Arguments may hold credentials.
            Reach::Program(program) => json!({ "command": program.command, "shared": program.shared }),
        }
    }
}

impl Http {
    /// Returns the token that it is shown, if it is one.
    pub fn token(&self) -> Option<&Credential> {
        match &self.key {
            Some(Key::Token(credential)) => Some(credential),
            Some(Key::Header(..) | Key::Query(..)) | None => None,
        }
    }

    fn dump(&self) -> Value {
        let endpoints = self.endpoints.iter();
        let endpoints: Vec<Value> = endpoints
            .map(|endpoint| json!({ "host": endpoint.host, "port": endpoint.port }))
            .collect();
        let key = self.key.as_ref().map(|key| match key {
            Key::Header(name, key) => json!({ "header": name.as_str(), "key": key }),
            Key::Query(name, key) => json!({ "query": name, "key": key }),
            Key::Token(credential) => json!({ "token": credential.dump() }),
        });
        json!({
            "endpoints": endpoints,
            "tls": self.tls.as_ref().map(|tls| json!({ "hostname": tls.hostname })),
            // The query may hold a key.
            "path": self.path.split('?').next(),
            "key": key,
        })
    }
}
