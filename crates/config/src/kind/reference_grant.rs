//! ReferenceGrant: which other namespaces may refer to this one.

use schemars::JsonSchema;
use serde::Deserialize;

/// What a ReferenceGrant says.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "ReferenceGrantSpec")]
pub struct ReferenceGrant {
    /// Who may refer.
    #[schemars(length(min = 1, max = 16))]
    pub from: Vec<GrantFrom>,
    /// To what.
    #[schemars(length(min = 1, max = 16))]
    pub to: Vec<GrantTo>,
}

/// Who may refer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrantFrom {
    /// The API group of the referring resource.
    pub group: String,
    /// Its kind.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
}

/// What may be referred to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrantTo {
    /// The API group of the target.
    pub group: String,
    /// Its kind.
    pub kind: String,
    /// Its name; every name if absent.
    pub name: Option<String>,
}
