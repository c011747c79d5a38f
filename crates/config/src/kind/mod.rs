//! The kinds of resources, one file each: what may be written, and nothing about what it means.

use serde_json::Value;

/// Returns the JSON schema of the kinds: one document with a definition per kind under `$defs`.
pub fn schema() -> Value {
    Value::Null
}
