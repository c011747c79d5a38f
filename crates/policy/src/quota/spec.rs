//! What a resource says about the quotas of a backend.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::rate_limit::spec::HeaderMatch;

/// A quota of a whole backend.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceQuota {
    /// What a request costs; `total_tokens` by default.
    pub cost_expression: Option<String>,
    /// How much.
    pub quota: Bucket,
}

/// The quota of one model.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PerModelQuota {
    /// The model in the upstream's words.
    #[schemars(length(min = 1))]
    pub model_name: String,
    /// How much.
    pub quota: ModelQuota,
}

/// How much of one model may be used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelQuota {
    /// What a request costs; `total_tokens` by default.
    pub cost_expression: Option<String>,
    /// How buckets go together; `Shared` by default.
    pub mode: Option<QuotaMode>,
    /// What every request uses.
    pub default_bucket: Option<Bucket>,
    /// What some requests use.
    #[serde(default)]
    pub bucket_rules: Vec<BucketRule>,
}

/// How buckets go together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum QuotaMode {
    /// Every bucket that is for a request is charged; one of them must have something left.
    #[default]
    Shared,
}

/// What some requests use.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BucketRule {
    /// Which requests; all of it must hold.
    #[serde(default)]
    #[schemars(length(max = 8))]
    pub client_selectors: Vec<HeaderSelector>,
    /// How much.
    pub quota: Bucket,
    /// Whether it only counts.
    pub shadow_mode: Option<bool>,
}

/// Which requests, by their headers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct HeaderSelector {
    /// The headers.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub headers: Vec<HeaderMatch>,
}

/// How much in what time.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct Bucket {
    /// How much.
    pub limit: u64,
    /// In what time: `1s`, `1m`, `1h`, `1d`, and as an extension `1w`, `1mo`, `1y`.
    pub duration: String,
}
