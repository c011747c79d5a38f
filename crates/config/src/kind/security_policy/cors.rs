//! Which pages in browsers may call.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::kind::Duration;

/// Which pages may call, and what they may see.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cors {
    /// Where a page may come from: `https://a.example`, `https://*.example:*`, `*`.
    #[serde(default)]
    pub allow_origins: Vec<String>,
    /// Methods that it may use; `*` for all.
    #[serde(default)]
    pub allow_methods: Vec<String>,
    /// Headers that it may send; `*` for all.
    #[serde(default)]
    pub allow_headers: Vec<String>,
    /// Headers of answers that it may read; `*` for all.
    #[serde(default)]
    pub expose_headers: Vec<String>,
    /// How long a browser may remember this.
    pub max_age: Option<Duration>,
    /// Whether it may send cookies and the like.
    pub allow_credentials: Option<bool>,
}
