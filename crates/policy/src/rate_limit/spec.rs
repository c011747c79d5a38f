//! What a resource says about how much is let through.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How much is let through: `rateLimit` of a BackendTrafficPolicy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// `Global` or `Local`; where it is absent, whatever is there holds.
    #[serde(rename = "type")]
    pub kind: Option<RateLimitType>,
    /// Limits that all gateways share.
    pub global: Option<Global>,
    /// Limits of each gateway.
    pub local: Option<Local>,
}

impl RateLimit {
    /// Returns the rules whose counters all gateways share, whether they hold or not.
    pub fn global_rules(&self) -> &[Rule] {
        self.global.as_ref().map_or(&[], |global| &global.rules)
    }

    /// Returns the rules that each gateway counts by itself, whether they hold or not.
    pub fn local_rules(&self) -> &[Rule] {
        self.local.as_ref().map_or(&[], |local| &local.rules)
    }

    /// Returns how many places of rules there are.
    pub fn places(&self) -> usize {
        self.global_rules().len().max(self.local_rules().len())
    }
}

/// Who counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RateLimitType {
    /// All gateways together.
    Global,
    /// Each gateway by itself.
    Local,
}

/// Limits that all gateways share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Global {
    /// The rules; at most 256. Each counts by itself, and each can refuse.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub rules: Vec<Rule>,
    /// Whether the routes that the policy is for share the counters of all rules.
    pub shared: Option<bool>,
    /// Whether clients are told what is left; `DraftVersion03` by default.
    pub x_rate_limit_headers: Option<XRateLimitHeaders>,
}

/// Limits of each gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Local {
    /// The rules; at most 256.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub rules: Vec<Rule>,
}

/// Whether clients are told what is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum XRateLimitHeaders {
    /// They are not.
    Off,
    /// In `x-ratelimit-limit`, `-remaining` and `-reset`.
    DraftVersion03,
}

/// One limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// Whose requests it counts, and which of them together; all of them if empty.
    #[serde(default)]
    #[schemars(length(max = 8))]
    pub client_selectors: Vec<ClientSelector>,
    /// How much.
    pub limit: Limit,
    /// What a request counts; 1 by default.
    pub cost: Option<Cost>,
    /// Whether the routes that the policy is for share the counters.
    pub shared: Option<bool>,
    /// Whether it only counts.
    pub shadow_mode: Option<bool>,
}

/// What requests must be, and which of them are counted together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientSelector {
    /// Headers.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub headers: Vec<HeaderMatch>,
    /// Methods, any of them.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub methods: Vec<MethodMatch>,
    /// The path.
    pub path: Option<PathMatch>,
    /// The client's address.
    #[serde(rename = "sourceCIDR")]
    pub source_cidr: Option<SourceMatch>,
    /// Parameters of the path.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub query_params: Vec<HeaderMatch>,
}

/// What a header or parameter must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeaderMatch {
    /// `Exact` by default.
    #[serde(rename = "type")]
    pub kind: Option<HeaderMatchType>,
    /// Its name.
    pub name: String,
    /// The value, or the expression that the whole value must match.
    pub value: Option<String>,
    /// Whether the opposite must hold.
    pub invert: Option<bool>,
}

/// How a header is held against a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HeaderMatchType {
    /// They are equal.
    Exact,
    /// The value is a regular expression.
    RegularExpression,
    /// It is there; each value is counted by itself.
    Distinct,
}

/// What the method must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MethodMatch {
    /// The method.
    pub value: String,
    /// Whether the opposite must hold.
    pub invert: Option<bool>,
}

/// What the path must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PathMatch {
    /// `PathPrefix` by default.
    #[serde(rename = "type")]
    pub kind: Option<PathMatchType>,
    /// The path, or the expression.
    pub value: String,
    /// Whether the opposite must hold.
    pub invert: Option<bool>,
}

/// How the path is held against a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PathMatchType {
    /// They are equal.
    Exact,
    /// The path begins with the segments of the value.
    PathPrefix,
    /// The value is a regular expression.
    RegularExpression,
}

/// What the client's address must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SourceMatch {
    /// `Exact` by default.
    #[serde(rename = "type")]
    pub kind: Option<SourceMatchType>,
    /// A block of addresses, as `10.0.0.0/8`.
    pub value: String,
    /// Whether the opposite must hold.
    pub invert: Option<bool>,
}

/// How addresses are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SourceMatchType {
    /// Those of the block together.
    Exact,
    /// Each by itself.
    Distinct,
}

/// How much is let through in what time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Limit {
    /// How much.
    #[schemars(range(min = 0, max = 4_294_967_295_i64))]
    pub requests: u64,
    /// In what time.
    pub unit: Unit,
    /// Where a request carries a limit of its own.
    pub from_metadata: Option<MetadataKey>,
}

/// A length of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Unit {
    /// One second.
    Second,
    /// 60 seconds.
    Minute,
    /// 60 minutes.
    Hour,
    /// 24 hours.
    Day,
    /// 7 days.
    Week,
    /// 30 days.
    Month,
    /// 365 days.
    Year,
}

/// What a request counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cost {
    /// When it arrives; 1 by default.
    pub request: Option<CostFrom>,
    /// When it has been answered; nothing by default.
    pub response: Option<CostFrom>,
}

/// Where the number comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CostFrom {
    /// `Number` or `Metadata`.
    pub from: CostSource,
    /// The number.
    #[schemars(range(min = 0))]
    pub number: Option<u64>,
    /// The name of the number.
    pub metadata: Option<MetadataKey>,
}

/// Where a number comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CostSource {
    /// It is always the same.
    Number,
    /// It is one of the costs of the request, or what something before has said about it.
    Metadata,
}

/// The name of something that is known of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MetadataKey {
    /// Who knows it.
    pub namespace: String,
    /// Its name there.
    pub key: String,
}
