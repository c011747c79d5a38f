//! Namespace: labels by which listeners choose whose routes they take.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Opaque;

/// What a Namespace says beside its labels; not looked at.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "NamespaceSpec")]
pub struct Namespace {
    /// Written by the cluster.
    pub finalizers: Option<Opaque>,
}
