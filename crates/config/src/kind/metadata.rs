//! What every resource says about itself.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Opaque, Time};

/// The metadata of a resource. Members that a cluster writes are accepted and not looked at.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// Unique within kind and namespace.
    pub name: Option<String>,
    /// `default` by default.
    pub namespace: Option<String>,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// When the resource was made, RFC 3339; the older of two routes wins.
    pub creation_timestamp: Option<Time>,
    /// Written by the cluster.
    pub generate_name: Option<Opaque>,
    /// Written by the cluster.
    pub uid: Option<Opaque>,
    /// Written by the cluster.
    pub resource_version: Option<Opaque>,
    /// Written by the cluster.
    pub generation: Option<Opaque>,
    /// Written by the cluster.
    pub owner_references: Option<Opaque>,
    /// Written by the cluster.
    pub finalizers: Option<Opaque>,
    /// Written by the cluster.
    pub managed_fields: Option<Opaque>,
    /// Written by the cluster.
    pub deletion_timestamp: Option<Opaque>,
    /// Written by the cluster.
    pub deletion_grace_period_seconds: Option<Opaque>,
    /// Written by the cluster.
    pub self_link: Option<Opaque>,
}
