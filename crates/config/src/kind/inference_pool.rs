//! InferencePool: pods that serve models, and who says which of them a request goes to.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

/// What an InferencePool says.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "InferencePoolSpec")]
pub struct InferencePool {
    /// Which pods of the namespace serve.
    pub selector: PoolSelector,
    /// At which ports each of them serves; no two are the same.
    #[serde(default)]
    #[schemars(length(min = 1, max = 8))]
    pub target_ports: Vec<TargetPort>,
    /// What is spoken with them in clear; `http` by default.
    pub app_protocol: Option<AppProtocol>,
    /// Who says which of them a request goes to.
    pub endpoint_picker_ref: Option<EndpointPickerRef>,
}

/// Which pods serve.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoolSelector {
    /// Labels that a pod must have.
    #[serde(default)]
    #[schemars(length(min = 1, max = 64))]
    pub match_labels: BTreeMap<String, String>,
}

/// A port of the pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct TargetPort {
    /// Its number.
    #[schemars(range(min = 1, max = 65535))]
    pub number: u32,
}

/// What is spoken in clear.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum AppProtocol {
    /// HTTP/1.1.
    #[default]
    #[serde(rename = "http")]
    Http,
    /// HTTP/2.
    #[serde(rename = "kubernetes.io/h2c")]
    H2c,
}

/// Who says which pod a request goes to.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndpointPickerRef {
    /// Empty, for the core.
    pub group: Option<String>,
    /// `Service`, which is the default.
    pub kind: Option<String>,
    /// Its name, in the pool's namespace.
    pub name: String,
    /// Its port; 9002 by default.
    pub port: Option<TargetPort>,
    /// What becomes of requests where it does not answer; `FailClose` by default.
    pub failure_mode: Option<FailureMode>,
}

/// What becomes of requests where a picker does not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum FailureMode {
    /// They go to any pod.
    FailOpen,
    /// They are refused.
    #[default]
    FailClose,
}
