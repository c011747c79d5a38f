//! What a resource says about the numbers that are counted for each reply.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One number that is counted for each reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LLMRequestCost {
    /// What the number is called.
    pub metadata_key: String,
    /// What is counted.
    #[serde(rename = "type")]
    pub kind: CostKind,
    /// The expression, with type CEL.
    pub cel: Option<String>,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CostKind {
    /// Tokens written by the model.
    OutputToken,
    /// Tokens read by the model.
    InputToken,
    /// Tokens read from a cache.
    CachedInputToken,
    /// Tokens written to a cache.
    CacheCreationInputToken,
    /// All tokens.
    TotalToken,
    /// Tokens of reasoning.
    ReasoningToken,
    /// The result of an expression.
    #[serde(rename = "CEL")]
    Cel,
}
