//! What a resource says of a value that comes from the request.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rate_limit::spec::MetadataKey;

/// Where a value comes from; exactly one member is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ValueFrom {
    /// A header of the client's, as upstreams may see it; several lines are joined by `, `.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// A claim of the token that let the client in; dots lead into objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<String>,
    /// What a policy said of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<MetadataKey>,
    /// What the gateway itself knows of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attribute: Option<Attribute>,
}

/// What the gateway knows of every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Attribute {
    /// The model as the client calls it.
    Model,
    /// The model that the upstream is asked for.
    UpstreamModel,
    /// `namespace/name` of the AIServiceBackend.
    Backend,
    /// `namespace/name` of the route.
    Route,
    /// The client's address, as far as it can be believed.
    ClientAddress,
    /// The client whose API key let it in.
    ClientID,
    /// The name whose password let the client in.
    Username,
    /// The id of the request.
    RequestID,
}
