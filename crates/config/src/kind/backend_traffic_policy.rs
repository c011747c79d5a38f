//! BackendTrafficPolicy: how upstreams are chosen, tried again, bounded and watched.

use std::collections::BTreeMap;

use policy::rate_limit::spec::RateLimit;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Duration, Opaque, Quantity,
    http2::Http2,
    reference::{TargetRef, TargetSelector},
};

/// What a BackendTrafficPolicy says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "BackendTrafficPolicySpec")]
pub struct BackendTrafficPolicy {
    /// The one target, in the older spelling.
    #[serde(skip_serializing)]
    pub target_ref: Option<TargetRef>,
    /// The targets: Gateways and routes, or listeners and rules of theirs, of the same namespace.
    #[serde(default, skip_serializing)]
    pub target_refs: Vec<TargetRef>,
    /// Targets by their labels.
    #[serde(default, skip_serializing)]
    pub target_selectors: Vec<TargetSelector>,
    /// How the policy of a route is laid over that of its Gateway; unset, it takes that one's place.
    pub merge_type: Option<MergeType>,
    /// How an endpoint is chosen.
    pub load_balancer: Option<LoadBalancer>,
    /// When and how often another attempt is made.
    pub retry: Option<Retry>,
    /// Which endpoints are left out because they fail.
    pub health_check: Option<HealthCheck>,
    /// How much an upstream is asked at once.
    pub circuit_breaker: Option<CircuitBreaker>,
    /// Time limits.
    pub timeout: Option<Timeout>,
    /// How large a request may be that is held.
    pub request_buffer: Option<RequestBuffer>,
    /// Probes on connections that are silent.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// Buffers of connections.
    pub connection: Option<Opaque>,
    /// How host names are looked up.
    pub dns: Option<Opaque>,
    /// HTTP/2 to upstreams.
    pub http2: Option<Http2>,
    /// The header of the PROXY protocol.
    pub proxy_protocol: Option<Opaque>,
    /// How many requests are let through.
    pub rate_limit: Option<RateLimit>,
    /// Faults that are made on purpose.
    pub fault_injection: Option<FaultInjection>,
    /// Whether upstreams are asked in the client's version of HTTP.
    pub use_client_protocol: Option<bool>,
    /// How answers are compressed.
    pub compression: Option<Opaque>,
    /// How answers are compressed.
    pub compressor: Option<Opaque>,
    /// What clients are told in place of certain answers.
    pub response_override: Option<Opaque>,
    /// Protocols that a connection may be changed to.
    pub http_upgrade: Option<Opaque>,
    /// What is traced and counted.
    pub telemetry: Option<Opaque>,
    /// Whether a Service or its endpoints are called.
    pub routing_type: Option<String>,
    /// How fast bytes are let through.
    pub bandwidth_limit: Option<Opaque>,
    /// Refusals in proportion to failures.
    pub admission_control: Option<Opaque>,
    /// Limits that follow latency.
    pub adaptive_concurrency: Option<Opaque>,
}

/// Faults that are made on purpose; at least one of the two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FaultInjection {
    /// Requests are held up.
    pub delay: Option<FaultDelay>,
    /// Requests are refused.
    pub abort: Option<FaultAbort>,
}

/// How long requests are held up.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "FaultInjectionDelay")]
pub struct FaultDelay {
    /// So long.
    pub fixed_delay: Duration,
    /// How many of a hundred requests; all by default.
    #[schemars(range(min = 0, max = 100))]
    pub percentage: Option<f64>,
}

/// How requests are refused: one of the two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "FaultInjectionAbort")]
pub struct FaultAbort {
    /// By this status.
    #[schemars(range(min = 200, max = 600))]
    pub http_status: Option<u32>,
    /// By this status of gRPC.
    #[schemars(range(min = 0, max = 16))]
    pub grpc_status: Option<u32>,
    /// How many of a hundred requests; all by default.
    #[schemars(range(min = 0, max = 100))]
    pub percentage: Option<f64>,
}

/// How the policy of a route is laid over that of its Gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MergeType {
    /// As the Kubernetes API lays patches over objects.
    StrategicMerge,
    /// Member by member (RFC 7396).
    JSONMerge,
    /// Not at all: it takes its place.
    Replace,
}

/// How an endpoint is chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancer {
    /// By what.
    #[serde(rename = "type")]
    pub kind: LoadBalancerType,
    /// With type ConsistentHash.
    pub consistent_hash: Option<ConsistentHash>,
    /// How an endpoint that is new or was left out comes back.
    pub slow_start: Option<SlowStart>,
    /// Endpoints that a request names.
    pub endpoint_override: Option<Opaque>,
    /// Whether endpoints nearby are preferred.
    pub zone_aware: Option<Opaque>,
    /// Loads that upstreams report.
    pub backend_utilization: Option<Opaque>,
    /// Code of one's own.
    pub dynamic_module: Option<Opaque>,
}

/// By what an endpoint is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LoadBalancerType {
    /// A property of the request.
    ConsistentHash,
    /// Which of two has fewer requests.
    LeastRequest,
    /// Chance.
    Random,
    /// Turns.
    RoundRobin,
}

/// Which property of a request chooses its endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConsistentHash {
    /// Where it is found.
    #[serde(rename = "type")]
    pub kind: ConsistentHashType,
    /// With type Header.
    pub header: Option<Named>,
    /// With type Headers.
    #[serde(default)]
    pub headers: Vec<Named>,
    /// With type QueryParams.
    #[serde(default)]
    pub query_params: Vec<Named>,
    /// With type Cookie.
    pub cookie: Option<Cookie>,
    /// The size of a table.
    #[schemars(range(min = 2, max = 5_000_011))]
    pub table_size: Option<u64>,
}

/// Where the property is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConsistentHashType {
    /// The client's address.
    SourceIP,
    /// A header.
    Header,
    /// Several headers.
    Headers,
    /// A cookie.
    Cookie,
    /// Parameters of the path.
    QueryParams,
}

/// A header or parameter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Named {
    /// Its name.
    pub name: String,
}

/// A cookie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cookie {
    /// Its name.
    pub name: String,
    /// How long a client keeps the one that it is given.
    pub ttl: Option<Duration>,
    /// Its other attributes.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
}

/// How an endpoint that is new or was left out comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SlowStart {
    /// After this long it is asked as often as the others.
    pub window: Duration,
}

/// When and how often another attempt is made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// Attempts after the first; 2 by default.
    #[schemars(range(min = 0))]
    pub num_retries: Option<i64>,
    /// Attempts at one priority before the next one is asked.
    #[schemars(range(min = 0))]
    pub num_attempts_per_priority: Option<i64>,
    /// What is tried again.
    pub retry_on: Option<RetryOn>,
    /// Limits of each attempt.
    pub per_retry: Option<PerRetry>,
}

/// What is tried again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetryOn {
    /// Kinds of failure.
    #[serde(default)]
    pub triggers: Vec<String>,
    /// Statuses, with trigger `retriable-status-codes`.
    #[serde(default)]
    pub http_status_codes: Vec<u32>,
}

/// Limits of each attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PerRetry {
    /// How long it may take to begin its answer.
    pub timeout: Option<Duration>,
    /// How long is waited before the next.
    pub back_off: Option<BackOff>,
}

/// How long is waited between attempts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackOff {
    /// What the growth begins with.
    pub base_interval: Option<Duration>,
    /// What it ends with; ten times the beginning by default.
    pub max_interval: Option<Duration>,
}

/// Which endpoints are left out because they fail.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HealthCheck {
    /// By asking them.
    pub active: Option<Active>,
    /// By how requests fare.
    pub passive: Option<Passive>,
    /// Below this share of healthy endpoints, in percent, health is not looked at; 50 by default, 0 for never.
    #[schemars(range(min = 0, max = 100))]
    pub panic_threshold: Option<u32>,
}

/// Health by how requests fare.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Passive {
    /// Whether failures of connections are counted apart from answers.
    pub split_external_local_origin_errors: Option<bool>,
    /// How often ejections are forgotten, one at a time; 3 s by default.
    pub interval: Option<Duration>,
    /// Failures of connections in a row, where those are counted apart; 5 by default.
    pub consecutive_local_origin_failures: Option<u32>,
    /// Statuses 502, 503 and 504 in a row; 0, the default, for none.
    pub consecutive_gateway_errors: Option<u32>,
    /// Statuses from 500 in a row; 5 by default.
    #[serde(rename = "consecutive5XxErrors")]
    pub consecutive_5xx_errors: Option<u32>,
    /// How long an endpoint is left out the first time; 30 s by default.
    pub base_ejection_time: Option<Duration>,
    /// How many of the endpoints may be left out; 10 by default.
    #[schemars(range(min = 0, max = 100))]
    pub max_ejection_percent: Option<u32>,
    /// Share of failures.
    #[schemars(range(min = 0, max = 100))]
    pub failure_percentage_threshold: Option<u32>,
    /// Whether one endpoint may be left out whatever the percentage says.
    pub always_eject_one_endpoint: Option<bool>,
}

/// Health by asking.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Active {
    /// How long an answer may take; 1 s by default.
    pub timeout: Option<Duration>,
    /// How often; every 3 s by default.
    pub interval: Option<Duration>,
    /// The longest wait before the first.
    pub initial_jitter: Option<Duration>,
    /// Failures in a row after which an endpoint is left out; 3 by default.
    #[schemars(range(min = 1))]
    pub unhealthy_threshold: Option<u32>,
    /// Successes in a row after which it is back; 1 by default.
    #[schemars(range(min = 1))]
    pub healthy_threshold: Option<u32>,
    /// How.
    #[serde(rename = "type")]
    pub kind: ActiveType,
    /// With type HTTP.
    pub http: Option<HttpCheck>,
    /// With type TCP.
    pub tcp: Option<TcpCheck>,
    /// With type GRPC.
    pub grpc: Option<GrpcCheck>,
    /// What differs from the endpoint itself.
    pub overrides: Option<Overrides>,
}

/// How an endpoint is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ActiveType {
    /// By a request.
    HTTP,
    /// By a connection.
    TCP,
    /// By gRPC's health protocol.
    GRPC,
}

/// A request that asks for health.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpCheck {
    /// Its host; the endpoint's by default.
    pub hostname: Option<String>,
    /// Its path.
    #[schemars(length(min = 1, max = 1024))]
    pub path: String,
    /// Its method; `GET` by default.
    pub method: Option<String>,
    /// The statuses of health; 200 by default.
    #[serde(default)]
    pub expected_statuses: Vec<u32>,
    /// Statuses that count as failures, but not at once.
    #[serde(default)]
    pub retriable_statuses: Vec<u32>,
    /// What the answer must hold.
    pub expected_response: Option<Payload>,
}

/// A connection that asks for health.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TcpCheck {
    /// What is sent.
    pub send: Option<Payload>,
    /// What must come back.
    pub receive: Option<Payload>,
}

/// A question by gRPC's health protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GrpcCheck {
    /// Whose health; that of the whole server by default.
    pub service: Option<String>,
}

/// Bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Payload {
    /// `Text` or `Binary`.
    #[serde(rename = "type")]
    pub kind: PayloadType,
    /// With type Text.
    pub text: Option<String>,
    /// With type Binary, in base64.
    pub binary: Option<String>,
}

/// How bytes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PayloadType {
    /// As text.
    Text,
    /// In base64.
    Binary,
}

/// What differs from the endpoint itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Overrides {
    /// The port that is asked.
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u32>,
}

/// How much an upstream is asked at once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CircuitBreaker {
    /// Connections; 1024 by default.
    #[schemars(range(min = 0, max = 4_294_967_295_i64))]
    pub max_connections: Option<i64>,
    /// Requests that wait for a connection; 1024 by default.
    #[schemars(range(min = 0, max = 4_294_967_295_i64))]
    pub max_pending_requests: Option<i64>,
    /// Requests; 1024 by default.
    #[schemars(range(min = 0, max = 4_294_967_295_i64))]
    pub max_parallel_requests: Option<i64>,
    /// Requests that are not the first attempt; 1024 by default.
    #[schemars(range(min = 0, max = 4_294_967_295_i64))]
    pub max_parallel_retries: Option<i64>,
    /// Requests that one connection carries in its life.
    #[schemars(range(min = 0, max = 4_294_967_295_i64))]
    pub max_requests_per_connection: Option<i64>,
    /// Limits of each endpoint.
    pub per_endpoint: Option<PerEndpoint>,
    /// Retries in proportion to requests.
    pub retry_budget: Option<RetryBudget>,
}

/// Limits of each endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PerEndpoint {
    /// Connections; 1024 by default.
    #[schemars(range(min = 0, max = 4_294_967_295_i64))]
    pub max_connections: Option<i64>,
}

/// Retries in proportion to requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetryBudget {
    /// Their share of the requests under way.
    pub percent: Option<Fraction>,
    /// How many there may be in any case; 3 by default.
    pub min_retry_concurrency: Option<u32>,
}

/// A share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Fraction {
    /// Above the line.
    #[schemars(range(min = 0))]
    pub numerator: i64,
    /// Below it; 100 by default.
    #[schemars(range(min = 1))]
    pub denominator: Option<i64>,
}

/// Time limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Timeout {
    /// Of connections.
    pub tcp: Option<TcpTimeout>,
    /// Of requests.
    pub http: Option<HttpTimeout>,
}

/// Time limits of connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TcpTimeout {
    /// How long it may take to connect, TLS included; 10 s by default.
    pub connect_timeout: Option<Duration>,
}

/// Time limits of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpTimeout {
    /// How long a connection is kept that nobody uses.
    pub connection_idle_timeout: Option<Duration>,
    /// How long a connection is used at all.
    pub max_connection_duration: Option<Duration>,
    /// The whole request, where the rule does not say.
    pub request_timeout: Option<Duration>,
    /// The longest stream.
    pub max_stream_duration: Option<Duration>,
    /// The longest silence within a stream.
    pub stream_idle_timeout: Option<Duration>,
}

/// How large a request may be that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RequestBuffer {
    /// Bytes, as `10Mi`.
    pub limit: Quantity,
}

/// Probes on connections that are silent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TcpKeepalive {
    /// Probes without an answer after which a connection is given up.
    pub probes: Option<u32>,
    /// Silence after which the first is sent.
    pub idle_time: Option<Duration>,
    /// Time between them.
    pub interval: Option<Duration>,
}
