//! What a resource says about bodies.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Body changes as written: `bodyMutation` of a backend or of a route's reference to one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BodyMutation {
    /// Members to set, in order; at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<BodySet>,
    /// Members to remove, before any is set; at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
}

/// One member to set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BodySet {
    /// Dotted path of the member: `service_tier`, `metadata.team`.
    pub path: String,
    /// JSON text; what is not JSON is taken as a string.
    pub value: String,
}
