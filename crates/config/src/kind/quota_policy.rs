//! QuotaPolicy: how much of a backend, and of each of its models, may be used.

use policy::quota::spec::{PerModelQuota, ServiceQuota};
use schemars::JsonSchema;
use serde::Deserialize;

use super::reference::TargetRef;

/// What a QuotaPolicy says.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "QuotaPolicySpec")]
pub struct QuotaPolicy {
    /// The AIServiceBackends, of the same namespace.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub target_refs: Vec<TargetRef>,
    /// How much of the whole backend may be used.
    pub service_quota: Option<ServiceQuota>,
    /// How much of single models may be used.
    #[serde(default)]
    #[schemars(length(max = 128))]
    pub per_model_quotas: Vec<PerModelQuota>,
}
