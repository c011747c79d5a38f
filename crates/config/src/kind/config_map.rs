//! ConfigMap: texts that others refer to, by key.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Metadata, Opaque};

/// A ConfigMap as written. It has no `spec`: its values lie beside its metadata.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "ConfigMapDocument")]
pub struct Written {
    /// `v1`
    pub api_version: Option<String>,
    /// `ConfigMap`
    pub kind: Option<String>,
    /// What it says about itself.
    pub metadata: Metadata,
    /// Whether it may change; not looked at.
    pub immutable: Option<bool>,
    /// Texts.
    #[serde(default)]
    pub data: BTreeMap<String, String>,
    /// Bytes in base64; not looked at.
    #[serde(default)]
    pub binary_data: BTreeMap<String, String>,
    /// Not looked at.
    pub status: Option<Opaque>,
}

/// The texts of a ConfigMap, by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigMapData {
    /// The texts.
    pub data: BTreeMap<String, String>,
}

impl ConfigMapData {
    /// Returns the text under `key`, or the only text there is.
    pub fn text(&self, key: &str) -> Option<&str> {
        let only = || self.data.values().next().filter(|_| self.data.len() == 1);
        self.data.get(key).or_else(only).map(String::as_str)
    }
}
