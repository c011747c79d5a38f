//! MCPRoute: many MCP servers behind one path.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Duration,
    ai_gateway_route::{HeaderMatch, ParentRef},
    mcp_security::{BackendSelector, SecurityPolicy},
    reference::{BackendObjectRef, SecretRef},
};
use crate::Secret;

/// What an MCPRoute says.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "MCPRouteSpec")]
pub struct MCPRoute {
    /// The Gateways that it attaches to.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub parent_refs: Vec<ParentRef>,
    /// The one path that is served; `/mcp` by default.
    #[schemars(length(max = 1024))]
    pub path: Option<String>,
    /// Whether the path is served alone, or all below it as well; `exact` by default.
    pub path_match: Option<PathMatch>,
    /// What requests must carry beside.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub headers: Vec<HeaderMatch>,
    /// The hosts that it serves; those of the listeners if empty.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub hostnames: Vec<String>,
    /// The servers.
    #[schemars(length(min = 1, max = 256))]
    pub backend_refs: Vec<BackendRef>,
    /// Who may do what.
    pub security_policy: Option<SecurityPolicy>,
    /// Which servers a session is opened with.
    pub backend_selector: Option<BackendSelector>,
    /// When names of tools are prefixed with their server's; `always` by default.
    pub tool_name_prefix: Option<ToolNamePrefix>,
    /// The longest name of a tool or prompt that has a prefix; a longer one ends in a hash. 64 by default.
    #[schemars(range(min = 32, max = 256))]
    pub max_tool_name_length: Option<u32>,
    /// What a list is worth that some server did not contribute to; `open` by default.
    pub failure_mode: Option<FailureMode>,
    /// Whether lists are given whole, or page by page as the servers do; `aggregate` by default.
    pub pagination: Option<Pagination>,
    /// Origins of web pages that may call; the gateway's own by default.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub allowed_origins: Vec<String>,
    /// Values of `host` that are served; on loopback addresses only those by default, else all.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub allowed_hosts: Vec<String>,
    /// How long a session lasts; 24h by default.
    #[serde(rename = "sessionTTL")]
    pub session_ttl: Option<Duration>,
    /// How long the token of a session may be that clients carry; 16384 by default.
    #[schemars(range(min = 256, max = 1_048_576))]
    pub max_session_token_bytes: Option<u32>,
    /// How long an event of a server's stream may be; 4194304 by default.
    #[schemars(range(min = 1024, max = 67_108_864))]
    pub max_event_bytes: Option<u32>,
    /// Which clients are served: those that open a session (`legacy`), those that do not (`modern`), or both (`any`).
    pub protocol: Option<Protocol>,
    /// What clients are told that they speak with; the gateway by default, or the only server if its names have no
    /// prefix.
    pub server_info: Option<ServerInfo>,
    /// What becomes of sessions when the route changes; `overlay` by default.
    pub on_config_change: Option<OnConfigChange>,
    /// How clients with a session are told what is refused; `json` by default.
    pub error_format: Option<ErrorFormat>,
}

/// A server.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "MCPBackendRef")]
pub struct BackendRef {
    /// `gateway.envoyproxy.io` for a Backend; empty by default.
    pub group: Option<String>,
    /// `Service` by default.
    pub kind: Option<String>,
    /// The name, which is also the prefix of its tools.
    pub name: String,
    /// The namespace, which must be the route's.
    pub namespace: Option<String>,
    /// The port, required of a Service.
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u32>,
    /// The server's path; `/mcp` by default.
    #[schemars(length(max = 1024))]
    pub path: Option<String>,
    /// What stands before its names in place of its own.
    #[schemars(length(max = 63))]
    pub alias: Option<String>,
    /// Which line of the protocol it is spoken with in; `any`, by default, finds it out.
    pub protocol: Option<Protocol>,
    /// Which of its tools are offered; all by default.
    pub tool_selector: Option<Selector>,
    /// What tools have to say of themselves to be offered.
    pub tool_annotations: Option<ToolAnnotations>,
    /// Which of its prompts are offered; all by default.
    pub prompt_selector: Option<Selector>,
    /// Which of its resources and templates are offered, by their URIs; all by default.
    pub resource_selector: Option<Selector>,
    /// Tools and prompts that have another name.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub rename: Vec<Rename>,
    /// What it is shown as a credential.
    pub security_policy: Option<BackendSecurityPolicy>,
    /// Headers of the client that it is sent.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub forward_headers: Vec<ForwardHeader>,
    /// How long it is waited for.
    pub timeouts: Option<Timeouts>,
    /// How long its lists are kept where it does not say so itself; not at all by default.
    #[serde(rename = "listCacheTTL")]
    pub list_cache_ttl: Option<Duration>,
    /// Headers that it is sent.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub headers: Vec<Header>,
    /// The program that it is, in place of a Service or Backend.
    pub stdio: Option<Stdio>,
}

impl BackendRef {
    /// Returns what it refers to.
    pub(crate) fn object(&self) -> BackendObjectRef {
        BackendObjectRef {
            group: self.group.clone(),
            kind: self.kind.clone(),
            name: self.name.clone(),
            namespace: self.namespace.clone(),
            port: self.port,
        }
    }
}

/// What clients are told that they speak with.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "MCPServerInfo")]
pub struct ServerInfo {
    /// A name for programs.
    #[schemars(length(max = 128))]
    pub name: String,
    /// A name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub title: Option<String>,
    /// The version.
    #[schemars(length(max = 64))]
    pub version: String,
}

/// A header with its value.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "MCPHeader")]
pub struct Header {
    /// Its name.
    pub name: String,
    /// Its value.
    #[serde(deserialize_with = "super::secret::value")]
    #[schemars(with = "String")]
    pub value: Secret,
}

/// A server that is a program of the gateway's machine.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "MCPStdio")]
pub struct Stdio {
    /// The program.
    pub command: String,
    /// Its arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// Variables of its environment, beside the gateway's own.
    #[serde(default)]
    pub env: Vec<Header>,
    /// The folder that it runs in; the gateway's own by default.
    pub cwd: Option<String>,
    /// Whether one program serves all clients, rather than one each.
    #[serde(default)]
    pub shared: bool,
}

/// Which tools, prompts or resources are offered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "MCPSelector")]
pub struct Selector {
    /// Only these.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub include: Vec<String>,
    /// Only what one of these matches a part of.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub include_regex: Vec<String>,
    /// Not these.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub exclude: Vec<String>,
    /// Nothing that one of these matches a part of.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub exclude_regex: Vec<String>,
}

/// What tools have to say of themselves to be offered, in their `annotations`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "MCPToolAnnotations")]
pub struct ToolAnnotations {
    /// Whether they change nothing.
    pub read_only_hint: Option<bool>,
    /// Whether they may destroy something.
    pub destructive_hint: Option<bool>,
    /// Whether calling them twice does what calling them once does.
    pub idempotent_hint: Option<bool>,
    /// Whether they reach out to who knows whom.
    pub open_world_hint: Option<bool>,
}

/// Another name: exactly one of `tool` and `prompt`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "MCPRename")]
pub struct Rename {
    /// What the server calls a tool.
    pub tool: Option<String>,
    /// What the server calls a prompt.
    pub prompt: Option<String>,
    /// What clients call it, after the prefix.
    #[schemars(length(max = 128))]
    pub to: String,
    /// Whether it keeps its own name beside.
    #[serde(default)]
    pub keep_original: bool,
}

/// What a server is shown as a credential.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "MCPBackendSecurityPolicy")]
pub struct BackendSecurityPolicy {
    /// An API key.
    pub api_key: Option<ApiKey>,
    /// A token that the gateway has issued to itself, in place of a key.
    pub client_credentials: Option<ClientCredentials>,
}

/// Who the gateway is for an authorization server that issues tokens to programs (RFC 6749, section 4.4).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "MCPClientCredentials")]
pub struct ClientCredentials {
    /// The authorization server, below whose address its metadata are.
    pub issuer: String,
    /// Where tokens are had; as the metadata say by default.
    pub token_endpoint: Option<String>,
    /// The client.
    #[serde(rename = "clientID")]
    pub client_id: String,
    /// The client's secret, under `client-secret`.
    pub client_secret_ref: SecretRef,
    /// What the token is for.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub scopes: Vec<String>,
    /// Whom the token is for, as some authorization servers want to be told.
    pub audience: Option<String>,
    /// The address of the server that the token is for (RFC 8707).
    pub resource: Option<String>,
}

/// An API key: exactly one of `secretRef` and `inline`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "MCPBackendAPIKey")]
pub struct ApiKey {
    /// A Secret that holds it as `apiKey`.
    pub secret_ref: Option<SecretRef>,
    /// The key itself.
    #[serde(default, deserialize_with = "super::secret::inline")]
    #[schemars(with = "Option<String>")]
    pub inline: Option<Secret>,
    /// The header that carries it; `Authorization` by default, where `Bearer` is put before it.
    pub header: Option<String>,
    /// The parameter of the query that carries it.
    pub query_param: Option<String>,
}

/// A header of the client that a server is sent.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "MCPForwardHeader")]
pub struct ForwardHeader {
    /// What the client calls it.
    pub name: String,
    /// What the server calls it; the same by default.
    pub backend_header: Option<String>,
}

/// How long a server is waited for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "MCPTimeouts")]
pub struct Timeouts {
    /// To open a session; 10s by default.
    pub initialize: Option<Duration>,
    /// For a list; 30s by default.
    pub list: Option<Duration>,
    /// For everything else; 30m by default.
    pub call: Option<Duration>,
    /// For calls of single tools.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub tools: Vec<ToolTimeout>,
}

/// How long a tool is waited for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "MCPToolTimeout")]
pub struct ToolTimeout {
    /// What the server calls it.
    pub tool: String,
    /// How long.
    pub call: Duration,
}

/// Which paths are served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "MCPPathMatch")]
pub enum PathMatch {
    /// The one.
    #[default]
    Exact,
    /// It and all below it.
    Prefix,
}

/// What becomes of sessions when their route changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OnConfigChange {
    /// They go on, with the servers that there are now.
    #[default]
    Overlay,
    /// They end, so that clients open others.
    Reinit,
}

/// How much of a list is given at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "MCPPagination")]
pub enum Pagination {
    /// All of it.
    #[default]
    Aggregate,
    /// The next page of every server.
    Cursor,
}

/// A line of the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "MCPProtocol")]
pub enum Protocol {
    /// Either.
    #[default]
    Any,
    /// That with sessions, up to revision 2025-11-25.
    Legacy,
    /// That without, from revision 2026-07-28 on.
    Modern,
}

impl Protocol {
    /// Returns whether it is the line without sessions; `None` for either.
    pub(crate) fn is_modern(self) -> Option<bool> {
        match self {
            Protocol::Any => None,
            Protocol::Legacy => Some(false),
            Protocol::Modern => Some(true),
        }
    }
}

/// How refusals are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "MCPErrorFormat")]
pub enum ErrorFormat {
    /// As errors of JSON-RPC.
    #[default]
    Json,
    /// As plain text, with the statuses of Envoy AI Gateway.
    Text,
}

/// When names of tools are prefixed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ToolNamePrefix {
    /// Always.
    #[default]
    Always,
    /// With more than one server.
    Conditional,
    /// Never.
    Never,
}

/// What a list is worth that some server did not contribute to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum FailureMode {
    /// It is given, and says what it is without.
    #[default]
    Open,
    /// It is an error.
    Closed,
}
