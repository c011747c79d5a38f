//! What a resource says about the access log.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

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

/// A form of the record.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[schemars(rename = "AccessLogFormat")]
pub struct Format {
    /// Which of the two is written to files.
    #[serde(rename = "type")]
    pub kind: Option<FormatType>,
    /// One line, with operators as `%RESPONSE_CODE%` in it.
    pub text: Option<String>,
    /// Members of an object, with operators in their values.
    pub json: Option<BTreeMap<String, String>>,
}

/// The type of a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum FormatType {
    /// One line.
    Text,
    /// One object.
    #[serde(rename = "JSON")]
    Json,
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
    pub open_telemetry: Option<Value>,
    /// A receiver of Envoy's own protocol.
    pub als: Option<Value>,
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

/// A file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(rename = "AccessLogFile")]
pub struct FileSink {
    /// Its path; `/dev/stdout` and `/dev/stderr` are the streams of the process.
    #[schemars(length(min = 1))]
    pub path: String,
}
