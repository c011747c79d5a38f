//! What a resource says about bodies.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Body changes as written: `bodyMutation` of a backend or of a route's reference to one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BodyMutation {
    /// Members to set, in order; at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub set: Vec<BodySet>,
    /// Members to remove, before any is set; at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub remove: Vec<String>,
}

/// One member to set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BodySet {
    /// Path of the member: names joined by dots, as `metadata.team`; a dot within a name is written `\.`,
    /// and elements of arrays are named by their index.
    pub path: String,
    /// JSON text if it looks like such (a number, a literal, or text in quotes, braces or brackets), else a
    /// string.
    pub value: String,
}
