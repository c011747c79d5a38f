//! AIServiceBackend: an upstream and the API that it speaks.

use policy::{body::spec::BodyMutation, headers::spec::HeaderMutation};
use schemars::JsonSchema;
use serde::Deserialize;

use super::reference::BackendObjectRef;

/// What an AIServiceBackend says.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "AIServiceBackendSpec")]
pub struct AIServiceBackend {
    /// The API that the upstream speaks.
    #[serde(rename = "schema")]
    pub api: ApiSchema,
    /// Where it is: a Backend.
    pub backend_ref: BackendObjectRef,
    /// Header changes for this backend.
    pub header_mutation: Option<HeaderMutation>,
    /// Body changes for this backend.
    pub body_mutation: Option<BodyMutation>,
}

/// The API that an upstream speaks.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiSchema {
    /// Which API.
    pub name: ApiName,
    /// First segments of the path, for OpenAI and Anthropic; the provider's own by default, which is mostly
    /// `v1`, and `/` for none.
    pub prefix: Option<String>,
    /// The version of the API, for the other schemas.
    pub version: Option<String>,
}

/// The APIs that upstreams speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum ApiName {
    /// OpenAI's.
    OpenAI,
    /// Cohere's rerank.
    Cohere,
    /// Bedrock's Converse.
    AWSBedrock,
    /// OpenAI's, as Azure serves it.
    AzureOpenAI,
    /// Gemini, as Vertex AI and AI Studio serve it.
    GCPVertexAI,
    /// Anthropic's, as Vertex AI serves it.
    GCPAnthropic,
    /// Anthropic's.
    Anthropic,
    /// Anthropic's, as Bedrock serves it.
    AWSAnthropic,
}

impl ApiName {
    /// Every API.
    pub const ALL: &'static [ApiName] = &[
        ApiName::OpenAI,
        ApiName::Cohere,
        ApiName::AWSBedrock,
        ApiName::AzureOpenAI,
        ApiName::GCPVertexAI,
        ApiName::GCPAnthropic,
        ApiName::Anthropic,
        ApiName::AWSAnthropic,
    ];
}
