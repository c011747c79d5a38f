//! What a resource says about the form of access records.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

/// A form of the record.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[schemars(rename = "AccessLogFormat")]
pub struct Format {
    /// Which of the two is written to files.
    #[serde(rename = "type")]
    pub kind: Option<FormatType>,
    /// One line, with operators as `%RESPONSE_CODE%` in it.
    pub text: Option<String>,
    /// Members of an object, with operators in their values.
    pub json: Option<BTreeMap<String, String>>,
}

/// The type of a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum FormatType {
    /// One line.
    Text,
    /// One object.
    #[serde(rename = "JSON")]
    Json,
}
