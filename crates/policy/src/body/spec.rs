//! What a resource says about bodies.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::value::spec::ValueFrom;

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
    /// Members to set where they are not there; at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub default: Vec<BodySet>,
    /// Elements to add to lists, which are made where they are not there; at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub append: Vec<BodySet>,
}

/// One member and its value; one of `value`, `json` and `valueFrom` is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BodySet {
    /// Path of the member: names joined by dots, as `metadata.team`; a dot within a name is written `\.`,
    /// and elements of arrays are named by their index. A path that begins with a slash is a JSON Pointer (RFC 6901).
    pub path: String,
    /// JSON text if it looks like such (a number, a literal, or text in quotes, braces or brackets), else a
    /// string.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The value as it is, with its type.
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    pub json: Option<Value>,
    /// What of the request is the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<ValueFrom>,
}

/// Reads a member that is there: `null` is a value, too.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}
