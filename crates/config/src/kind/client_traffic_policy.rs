//! ClientTrafficPolicy: how connections and requests of clients are taken.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Duration, Opaque, Quantity,
    backend_traffic_policy::TcpKeepalive,
    http_route::HeaderFilter,
    http2::Http2,
    reference::{SecretRef, TargetRef, TargetSelector},
};

/// What a ClientTrafficPolicy says.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "ClientTrafficPolicySpec")]
pub struct ClientTrafficPolicy {
    /// The one target, in the older spelling.
    pub target_ref: Option<TargetRef>,
    /// The targets: Gateways, or listeners of theirs, of the same namespace.
    #[serde(default)]
    pub target_refs: Vec<TargetRef>,
    /// Targets by their labels.
    #[serde(default)]
    pub target_selectors: Vec<TargetSelector>,
    /// Probes on connections that are silent.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// The PROXY protocol, in the older spelling.
    pub enable_proxy_protocol: Option<bool>,
    /// The PROXY protocol: a first line that tells whose connection a proxy hands on.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Whom to believe about the addresses of clients.
    #[serde(rename = "clientIPDetection")]
    pub client_ip_detection: Option<ClientIpDetection>,
    /// How connections are encrypted.
    pub tls: Option<ClientTls>,
    /// How paths are made unambiguous.
    pub path: Option<PathSettings>,
    /// Changes of headers, and which are taken.
    pub headers: Option<HeaderSettings>,
    /// Time limits.
    pub timeout: Option<ClientTimeout>,
    /// Bounds of connections.
    pub connection: Option<ClientConnection>,
    /// HTTP/1.1.
    pub http1: Option<Http1>,
    /// HTTP/2.
    pub http2: Option<Http2>,
    /// HTTP/3.
    pub http3: Option<Opaque>,
    /// A path that is answered without asking anybody.
    pub health_check: Option<HealthCheck>,
    /// What is put down as the scheme of requests.
    pub scheme: Option<Opaque>,
}

/// The PROXY protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct ProxyProtocol {
    /// Whether connections without it are taken too.
    pub optional: Option<bool>,
}

/// Whom to believe about the addresses of clients: one of the two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientIpDetection {
    /// Proxies that add to `x-forwarded-for`.
    pub x_forwarded_for: Option<XForwardedFor>,
    /// A header that something trusted sets.
    pub custom_header: Option<CustomHeader>,
}

/// Proxies that add to `x-forwarded-for`: one of the two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct XForwardedFor {
    /// How many of them there are.
    pub num_trusted_hops: Option<u32>,
    /// Where they are.
    #[serde(default, rename = "trustedCIDRs")]
    pub trusted_cidrs: Vec<String>,
}

/// A header that something trusted sets.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CustomHeader {
    /// Its name.
    pub name: String,
    /// Whether requests without it are refused.
    pub fail_closed: Option<bool>,
}

/// How connections of clients are encrypted.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientTls {
    /// The oldest version.
    pub min_version: Option<String>,
    /// The newest version.
    pub max_version: Option<String>,
    /// Ciphers of TLS 1.2, by their names in OpenSSL.
    #[serde(default)]
    pub ciphers: Vec<String>,
    /// Groups for the exchange of keys.
    #[serde(default)]
    pub ecdh_curves: Vec<String>,
    /// Signature algorithms.
    #[serde(default)]
    pub signature_algorithms: Vec<String>,
    /// Protocols that are agreed to, the most wanted first.
    pub alpn_protocols: Option<Vec<String>>,
    /// Which certificates clients must have.
    pub client_validation: Option<ClientValidation>,
    /// How sessions are resumed.
    pub session: Option<Opaque>,
    /// Fingerprints of handshakes.
    #[serde(default)]
    pub fingerprints: Vec<String>,
}

/// Which certificates clients must have.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientValidation {
    /// Whether clients without one are let in too.
    pub optional: Option<bool>,
    /// Secrets and ConfigMaps with the authorities that sign them, under `ca.crt`.
    #[serde(default)]
    #[schemars(length(max = 8))]
    pub ca_certificate_refs: Vec<SecretRef>,
    /// SHA-256 of keys, in base64, of which one must be the certificate's.
    #[serde(default)]
    pub spki_hashes: Vec<String>,
    /// SHA-256 of certificates, in hex, of which one must be the client's.
    #[serde(default)]
    pub certificate_hashes: Vec<String>,
    /// Names of which the certificate must have one.
    pub subject_alt_names: Option<SubjectAltNames>,
    /// Certificates that are void.
    pub crl: Option<Crl>,
}

/// Names of certificates.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SubjectAltNames {
    /// Of hosts.
    #[serde(default)]
    pub dns_names: Vec<StringMatch>,
    /// Of people.
    #[serde(default)]
    pub email_addresses: Vec<Opaque>,
    /// Addresses.
    #[serde(default)]
    pub ip_addresses: Vec<Opaque>,
    /// URIs, such as SPIFFE ids.
    #[serde(default)]
    pub uris: Vec<StringMatch>,
    /// Anything else.
    #[serde(default)]
    pub other_names: Vec<Opaque>,
}

/// What a text must be.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct StringMatch {
    /// `Exact` by default.
    #[serde(rename = "type")]
    pub kind: Option<StringMatchType>,
    /// What it is compared with.
    pub value: String,
}

/// How a text is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum StringMatchType {
    /// It is the value.
    #[default]
    Exact,
    /// It begins with the value.
    Prefix,
    /// It ends with the value.
    Suffix,
    /// The value, an expression, matches all of it.
    RegularExpression,
}

/// Certificates that are void.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Crl {
    /// Secrets and ConfigMaps with lists of them, under `ca.crl`.
    #[schemars(length(min = 1))]
    pub refs: Vec<SecretRef>,
    /// Whether authorities in between are not looked up in them.
    pub only_verify_leaf_certificate: Option<bool>,
}

/// How paths are made unambiguous.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PathSettings {
    /// What is done with a path with an escaped slash.
    pub escaped_slashes_action: Option<EscapedSlashes>,
    /// Whether slashes that follow one another stay so.
    pub disable_merge_slashes: Option<bool>,
}

/// What is done with a path with an escaped slash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum EscapedSlashes {
    /// Nothing.
    KeepUnchanged,
    /// The request is refused.
    RejectRequest,
    /// The slash is read as one.
    UnescapeAndForward,
    /// The client is told to ask for the path with the slash.
    UnescapeAndRedirect,
}

/// Changes of headers, and which are taken.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeaderSettings {
    /// Whether Envoy's own headers are sent.
    pub enable_envoy_headers: Option<bool>,
    /// Whether headers about limits are withheld.
    pub disable_rate_limit_headers: Option<bool>,
    /// What is told of certificates of clients.
    pub x_forwarded_client_cert: Option<ForwardedCertificate>,
    /// What is done with headers that have an underscore in their name.
    pub with_underscores_action: Option<Underscores>,
    /// Whether ids that clients give their requests are kept.
    #[serde(rename = "preserveXRequestID")]
    pub preserve_x_request_id: Option<bool>,
    /// Where ids of requests come from.
    #[serde(rename = "requestID")]
    pub request_id: Option<RequestId>,
    /// Changes before a route is looked for.
    pub early_request_headers: Option<HeaderFilter>,
    /// Changes of what clients are sent, last of all.
    pub late_response_headers: Option<HeaderFilter>,
}

/// What upstreams are told of certificates of clients, in `x-forwarded-client-cert`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "XForwardedClientCert")]
pub struct ForwardedCertificate {
    /// `Sanitize` by default.
    pub mode: Option<ForwardMode>,
    /// What is told of a certificate beside its hash, with modes that tell anything.
    #[serde(default)]
    #[schemars(length(max = 5))]
    pub cert_details_to_add: Vec<CertificateDetail>,
}

/// What becomes of what a client says itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(rename = "XFCCForwardMode")]
pub enum ForwardMode {
    /// It is taken off, and nothing is told.
    #[default]
    Sanitize,
    /// It stays where the client has shown a certificate.
    ForwardOnly,
    /// It stays there, and what is known is added.
    AppendForward,
    /// What is known takes its place.
    SanitizeSet,
    /// It stays, whoever says it.
    AlwaysForwardOnly,
}

/// What is told of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(rename = "XFCCCertData")]
pub enum CertificateDetail {
    /// Whom it is for.
    Subject,
    /// It itself, in PEM.
    Cert,
    /// It and those that vouch for it, in PEM.
    Chain,
    /// The hosts that it is for.
    DNS,
    /// The URIs that it is for.
    URI,
}

/// What is done with headers that have an underscore in their name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Underscores {
    /// They are taken.
    Allow,
    /// The request is refused.
    RejectRequest,
    /// They are left out.
    DropHeader,
}

/// Where ids of requests come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum RequestId {
    /// From the client, or else from the gateway.
    PreserveOrGenerate,
    /// From the client alone.
    Preserve,
    /// From the gateway.
    Generate,
    /// There are none.
    Disable,
}

/// Time limits towards clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct ClientTimeout {
    /// Of TCP.
    pub tcp: Option<ClientTcpTimeout>,
    /// Of HTTP.
    pub http: Option<ClientHttpTimeout>,
}

/// Time limits of TCP routes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientTcpTimeout {
    /// The longest silence.
    pub idle_timeout: Option<Duration>,
}

/// Time limits of HTTP towards clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientHttpTimeout {
    /// Until the last byte of a request is here.
    pub request_received_timeout: Option<Duration>,
    /// How long a connection is kept on which nothing is asked.
    pub idle_timeout: Option<Duration>,
    /// The longest silence within a request.
    pub stream_idle_timeout: Option<Duration>,
}

/// Bounds of connections of clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientConnection {
    /// How many there may be.
    pub connection_limit: Option<ConnectionLimit>,
    /// The most bytes of a request that is held.
    pub buffer_limit: Option<Quantity>,
    /// How many are accepted at once.
    pub max_accept_per_socket_event: Option<u32>,
    /// How long one is used.
    pub max_connection_duration: Option<Duration>,
    /// How many requests one carries.
    pub max_requests_per_connection: Option<u32>,
    /// How long one request may take.
    pub max_stream_duration: Option<Duration>,
}

/// How many connections there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionLimit {
    /// That many.
    pub value: i64,
    /// How long one beyond that is held before it is closed.
    pub close_delay: Option<Duration>,
    /// How long one is used.
    pub max_connection_duration: Option<Duration>,
    /// How many requests one carries.
    pub max_requests_per_connection: Option<u32>,
    /// How long one request may take.
    pub max_stream_duration: Option<Duration>,
}

/// HTTP/1.1.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Http1 {
    /// Whether trailers pass.
    pub enable_trailers: Option<bool>,
    /// Whether the case of header names is kept.
    pub preserve_header_case: Option<bool>,
    /// HTTP/1.0.
    pub http10: Option<Opaque>,
    /// Whether connections that are used for long enough are cut.
    pub disable_safe_max_connection_duration: Option<bool>,
}

/// A path that is answered without asking anybody.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct HealthCheck {
    /// The path.
    pub path: String,
}
