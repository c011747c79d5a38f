//! EnvoyProxy: how the proxy of a Gateway runs; here, how its access log looks.

use std::collections::BTreeMap;

use policy::access_log::spec::Format;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Opaque,
    reference::{BackendObjectRef, SecretRef},
};
use crate::Secret;

/// What an EnvoyProxy says. Most of it is about Envoy's own process, of which there is none.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "EnvoyProxySpec")]
pub struct EnvoyProxy {
    /// What is told of requests.
    pub telemetry: Option<Telemetry>,
    /// Where Envoy runs.
    pub provider: Option<Opaque>,
    /// What Envoy says about itself.
    pub logging: Option<Opaque>,
    /// Envoy's own configuration.
    pub bootstrap: Option<Opaque>,
    /// Envoy's threads.
    pub concurrency: Option<Opaque>,
    /// Envoy's arguments.
    #[serde(default)]
    pub extra_args: Vec<String>,
    /// How Envoy ends.
    pub shutdown: Option<Opaque>,
    /// Whether endpoints or Services are called.
    pub routing_type: Option<String>,
    /// Whether all Gateways of a class share a proxy.
    pub merge_gateways: Option<bool>,
    /// The order of Envoy's filters.
    #[serde(default)]
    pub filter_order: Vec<Opaque>,
    /// TLS towards backends.
    #[serde(rename = "backendTLS")]
    pub backend_tls: Option<ProxyBackendTls>,
    /// Which addresses are listened on.
    pub ip_family: Option<String>,
    /// Whether routes keep the order in which they are written.
    pub preserve_route_order: Option<bool>,
    /// How Lua scripts are checked.
    pub lua_validation: Option<String>,
    /// Where addresses lie.
    #[serde(rename = "geoIP")]
    pub geo_ip: Option<Opaque>,
}

/// TLS towards backends that say nothing of it themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "EnvoyProxyBackendTLS")]
pub struct ProxyBackendTls {
    /// A Secret with the certificate that they are shown, and its key.
    pub client_certificate_ref: Option<SecretRef>,
    /// The oldest version.
    pub min_version: Option<String>,
    /// The newest version.
    pub max_version: Option<String>,
    /// Ciphers.
    #[serde(default)]
    pub ciphers: Vec<String>,
    /// Groups for the exchange of keys.
    #[serde(default)]
    pub ecdh_curves: Vec<String>,
    /// Signature algorithms.
    #[serde(default)]
    pub signature_algorithms: Vec<String>,
    /// Versions of HTTP that are offered, the most wanted first.
    #[serde(default)]
    pub alpn_protocols: Vec<String>,
}

/// What is told of requests.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "EnvoyProxyTelemetry")]
pub struct Telemetry {
    /// One record for each.
    pub access_log: Option<AccessLog>,
    /// Envoy's spans.
    pub tracing: Option<Opaque>,
    /// Envoy's metrics.
    pub metrics: Option<Opaque>,
    /// Envoy's ids of requests.
    #[serde(rename = "requestID")]
    pub request_id: Option<Opaque>,
}

/// `telemetry.accessLog` of an EnvoyProxy.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "AccessLogSpec")]
pub struct AccessLog {
    /// Whether nothing is written at all.
    #[serde(default)]
    pub disable: bool,
    /// What is written, and where to.
    #[serde(default)]
    #[schemars(length(max = 50))]
    pub settings: Vec<Setting>,
}

/// One form of the record.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "AccessLogSetting")]
pub struct Setting {
    /// The form; the gateway's own JSON record if absent.
    pub format: Option<Format>,
    /// Expressions that must all hold for a record to be written.
    #[serde(default)]
    #[schemars(length(max = 10))]
    pub matches: Vec<String>,
    /// Where to.
    #[schemars(length(min = 1, max = 50))]
    pub sinks: Vec<Sink>,
    /// Which of Envoy's logs is meant, `Listener` or `Route`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
}

/// Where records go.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "AccessLogSink")]
pub struct Sink {
    /// Which of the others it is.
    #[serde(rename = "type")]
    pub kind: SinkType,
    /// A file.
    pub file: Option<FileSink>,
    /// A receiver of OTLP.
    pub open_telemetry: Option<ReceiverSink>,
    /// A receiver of Envoy's own protocol.
    pub als: Option<Opaque>,
}

/// The type of a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum SinkType {
    /// A file, or a stream of the process.
    File,
    /// A receiver of OTLP.
    OpenTelemetry,
    /// A receiver of Envoy's own protocol.
    #[serde(rename = "ALS")]
    Als,
}

/// A receiver of OTLP, called by gRPC.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "AccessLogReceiver")]
pub struct ReceiverSink {
    /// Host name or IP address, where there are no `backend_refs`.
    pub host: Option<String>,
    /// TCP port; 4317 if absent.
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// What calls go to, in place of `host`. The first that can be called is.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub backend_refs: Vec<BackendObjectRef>,
    /// Attributes of the process, beside the name of the service.
    #[serde(default)]
    pub resources: BTreeMap<String, String>,
    /// What calls carry beside the records.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub headers: Vec<ReceiverHeader>,
}

/// A header of calls to a receiver.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(rename = "AccessLogReceiverHeader")]
pub struct ReceiverHeader {
    /// Its name.
    pub name: String,
    /// Its value, which may be a credential.
    #[schemars(with = "String")]
    pub value: Secret,
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(rename = "AccessLogFile")]
pub struct FileSink {
    /// Its path; `/dev/stdout` and `/dev/stderr` are the streams of the process.
    #[schemars(length(min = 1))]
    pub path: String,
}
