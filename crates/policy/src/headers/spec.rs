//! What a resource says about headers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Header changes as written: `headerMutation` of a backend or of a route's reference to one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeaderMutation {
    /// Headers to set; at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub set: Vec<HeaderSet>,
    /// Headers to remove; at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub remove: Vec<String>,
}

/// One header to set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeaderSet {
    /// Its name, in any case.
    pub name: String,
    /// Its value.
    pub value: String,
}
