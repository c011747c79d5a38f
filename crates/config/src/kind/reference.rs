//! References from one resource to another, as several kinds write them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Opaque,
    selector::{LabelSelector, Requirement},
};

/// A reference to a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Empty for the core group.
    pub group: Option<String>,
    /// `Secret` by default.
    pub kind: Option<String>,
    /// The Secret's name.
    pub name: String,
    /// The namespace of the referring resource by default; another needs a ReferenceGrant.
    pub namespace: Option<String>,
}

/// A reference to a network endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackendObjectRef {
    /// Empty by default.
    pub group: Option<String>,
    /// `Service` by default.
    pub kind: Option<String>,
    /// The name.
    pub name: String,
    /// The namespace of the referring resource by default; another needs a ReferenceGrant.
    pub namespace: Option<String>,
    /// The port, required of a Service.
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u32>,
}

/// A reference from a policy to what it is for, in the policy's own namespace.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetRef {
    /// The target's API group.
    pub group: String,
    /// The target's kind.
    pub kind: String,
    /// The target's name.
    pub name: String,
    /// A part of the target.
    pub section_name: Option<String>,
}

/// The resources of a kind that a policy is for, by their labels, in the policy's own namespace.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetSelector {
    /// Their API group; the Gateway API's by default.
    pub group: Option<String>,
    /// Their kind.
    pub kind: String,
    /// Labels with their values.
    #[serde(default)]
    pub match_labels: BTreeMap<String, String>,
    /// Conditions on single labels.
    #[serde(default)]
    pub match_expressions: Vec<Requirement>,
    /// The namespaces of the targets; the policy's own if absent.
    pub namespaces: Option<Opaque>,
}

impl TargetSelector {
    /// Returns whether something with these labels is meant.
    pub fn covers(&self, labels: &BTreeMap<String, String>) -> bool {
        let selector = LabelSelector {
            match_labels: self.match_labels.clone(),
            match_expressions: self.match_expressions.clone(),
        };
        selector.matches(|name| labels.get(name).map(String::as_str))
    }
}

/// A reference to a resource in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalRef {
    /// Its API group.
    #[serde(default)]
    pub group: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
}
