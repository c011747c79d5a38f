//! Secret: what must not be printed, by key.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::{Metadata, Opaque};

/// A Secret as written. It has no `spec`: its values lie beside its metadata.
#[derive(Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "SecretDocument")]
pub struct Written {
    /// `v1`
    pub api_version: Option<String>,
    /// `Secret`
    pub kind: Option<String>,
    /// What it says about itself.
    pub metadata: Metadata,
    /// `Opaque` and others; not looked at.
    #[serde(rename = "type")]
    pub purpose: Option<String>,
    /// Whether it may change; not looked at.
    pub immutable: Option<bool>,
    /// Values in base64.
    #[serde(default)]
    pub data: BTreeMap<String, String>,
    /// Values in clear, which win over `data`.
    #[serde(default)]
    pub string_data: BTreeMap<String, String>,
    /// Not looked at.
    pub status: Option<Opaque>,
}

/// The decoded values of a Secret, by key. Values that are not UTF-8 are absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretData {
    /// The values.
    pub data: BTreeMap<String, crate::Secret>,
}

/// Reads a value that is written where it is used.
pub(super) fn inline<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<crate::Secret>, D::Error> {
    let written = Option::<String>::deserialize(deserializer)?;
    Ok(written.map(crate::Secret::new))
}

/// Reads a value that is written where it is used, and has to be there.
pub(super) fn value<'de, D: Deserializer<'de>>(deserializer: D) -> Result<crate::Secret, D::Error> {
    String::deserialize(deserializer).map(crate::Secret::new)
}
