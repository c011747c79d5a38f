//! What a resource says about headers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::value::spec::ValueFrom;

/// Header changes as written: `headerMutation` of a backend or of a route's reference to one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeaderMutation {
    /// Headers to set, whatever they were; at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub set: Vec<HeaderSet>,
    /// Headers to remove, before any is set; at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub remove: Vec<String>,
    /// Headers to set where they are not there; at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub default: Vec<HeaderSet>,
    /// Headers to add, beside what is there of that name; at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub append: Vec<HeaderSet>,
}

/// One header and its value; either `value` or `valueFrom` is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeaderSet {
    /// Its name, in any case.
    pub name: String,
    /// Its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// What of the request is its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<ValueFrom>,
}
