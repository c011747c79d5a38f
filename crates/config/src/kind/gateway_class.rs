//! GatewayClass: who serves the Gateways of a class.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Opaque, reference::LocalRef};

/// What a GatewayClass says.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "GatewayClassSpec")]
pub struct GatewayClass {
    /// The controller that serves the class.
    pub controller_name: String,
    /// Configuration of the class.
    pub parameters_ref: Option<ParametersRef>,
    /// Text for people.
    pub description: Option<String>,
}

/// A reference to configuration of a class.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ParametersRef {
    /// Its API group.
    pub group: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: Option<String>,
}

/// Where something runs and what it is labelled with.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Infrastructure {
    /// Labels for what is created.
    pub labels: Option<Opaque>,
    /// Annotations for what is created.
    pub annotations: Option<Opaque>,
    /// Configuration of what is created, usually an EnvoyProxy.
    pub parameters_ref: Option<LocalRef>,
}
