//! What the real providers refuse, refused in their own words.
//!
//! A gateway that translates can send what looks right and is not. Each format has one function that judges
//! a whole request, head and body, by the rules of the provider's public reference.

pub mod beta;
pub mod cloud;
pub mod converse;
pub mod count;
pub mod forms;
pub mod gemini;
pub mod messages;
pub mod openai;
pub mod responses;

use serde_json::{Map, Value};

use crate::script::Reply;

/// Why a provider would refuse a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status code.
    pub status: u16,
    /// The provider's word for the kind of error.
    pub kind: &'static str,
    /// Where in the body the fault lies: `messages[2].content`.
    pub param: String,
    /// What is wrong.
    pub message: String,
}

impl Refusal {
    fn invalid(path: &str, message: impl Into<String>) -> Self {
        Self {
            status: 400,
            kind: "invalid_request_error",
            param: path.to_owned(),
            message: message.into(),
        }
    }

    /// Returns the refusal of what stands at `param`.
    pub(crate) fn new(param: &str, message: &str) -> Self {
        Self::invalid(param, message)
    }

    /// Returns the refusal as Google says it.
    pub fn gemini(&self) -> Reply {
        let word = match self.status {
            401 => "UNAUTHENTICATED",
            404 => "NOT_FOUND",
            _ => "INVALID_ARGUMENT",
        };
        let error = serde_json::json!({"code": self.status, "message": self.told(), "status": word});
        Reply::json(self.status, &serde_json::json!({ "error": error }))
    }

    /// Returns the refusal as AWS says it.
    pub fn bedrock(&self) -> Reply {
        let (status, exception) = match self.status {
            401 => (403, "UnrecognizedClientException"),
            404 => (404, "ResourceNotFoundException"),
            _ => (400, "ValidationException"),
        };
        let headers = [
            ("content-type", "application/json"),
            ("x-amzn-errortype", exception),
        ];
        let body = serde_json::json!({"message": self.told()});
        Reply::whole(status, &headers, &body.to_string())
    }

    fn told(&self) -> String {
        if self.param.is_empty() {
            self.message.clone()
        } else {
            format!("{}: {}", self.param, self.message)
        }
    }

    /// Returns the refusal as OpenAI says it.
    pub fn openai(&self) -> Reply {
        let code = match self.status {
            401 => Value::from("invalid_api_key"),
            404 => Value::from("model_not_found"),
            _ => Value::Null,
        };
        let param = if self.param.is_empty() {
            Value::Null
        } else {
            Value::from(self.param.as_str())
        };
        Reply::json(
            self.status,
            &serde_json::json!({"error": {
                "message": self.message, "type": self.kind, "param": param, "code": code,
            }}),
        )
    }

    /// Returns the refusal as Anthropic says it.
    pub fn messages(&self) -> Reply {
        let message = self.told();
        Reply::json(
            self.status,
            &serde_json::json!({
                "type": "error",
                "error": {"type": self.kind, "message": message},
                "request_id": "req_testkit",
            }),
        )
    }
}

/// Refuses members of `object` that are not among `known`.
pub(crate) fn only(object: &Map<String, Value>, known: &[&str], path: &str) -> Result<(), Refusal> {
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(Refusal::invalid(
            &join(path, key),
            format!("Unknown parameter: '{}'.", join(path, key)),
        )),
        None => Ok(()),
    }
}

/// Returns `value` as an object.
pub(crate) fn object<'v>(value: &'v Value, path: &str) -> Result<&'v Map<String, Value>, Refusal> {
    value
        .as_object()
        .ok_or_else(|| Refusal::invalid(path, "an object is expected"))
}

/// Returns the member `key` of `object`, which must be a string; an empty one counts as missing.
fn text<'v>(object: &'v Map<String, Value>, key: &str, path: &str) -> Result<&'v str, Refusal> {
    object
        .get(key)
        .and_then(Value::as_str)
        .filter(|text| !text.is_empty())
        .ok_or_else(|| Refusal::invalid(&join(path, key), "a string that is not empty is required"))
}

/// Returns the member `key` of `object`, which must be an array if it is there.
fn array<'v>(object: &'v Map<String, Value>, key: &str, path: &str) -> Result<&'v [Value], Refusal> {
    match object.get(key) {
        None => Ok(&[]),
        Some(Value::Array(elements)) => Ok(elements),
        Some(_) => Err(Refusal::invalid(&join(path, key), "an array is expected")),
    }
}

/// Refuses a number that lies outside of `range`, and what is no number.
fn number(
    object: &Map<String, Value>,
    key: &str,
    range: std::ops::RangeInclusive<f64>,
) -> Result<(), Refusal> {
    match object.get(key) {
        None => Ok(()),
        Some(value) if value.as_f64().is_some_and(|number| range.contains(&number)) => Ok(()),
        Some(value) => Err(Refusal::invalid(
            key,
            format!("{value} is not between {} and {}", range.start(), range.end()),
        )),
    }
}

/// Refuses what is no boolean.
fn boolean(object: &Map<String, Value>, key: &str) -> Result<bool, Refusal> {
    match object.get(key) {
        None => Ok(false),
        Some(Value::Bool(value)) => Ok(*value),
        Some(_) => Err(Refusal::invalid(key, "a boolean is expected")),
    }
}

/// Refuses names that providers refuse for tools, schemas and ids: `[a-zA-Z0-9_-]{1,longest}`.
fn name(name: &str, longest: usize, path: &str) -> Result<(), Refusal> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !name.is_empty() && name.len() <= longest && name.bytes().all(allowed) {
        return Ok(());
    }
    Err(Refusal::invalid(
        path,
        format!("'{name}' does not match the pattern '^[a-zA-Z0-9_-]{{1,{longest}}}$'."),
    ))
}

/// Refuses base64 that is malformed.
fn base64(data: &str, path: &str) -> Result<(), Refusal> {
    let trimmed = data.trim_end_matches('=');
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
    if !data.is_empty() && data.len().is_multiple_of(4) && trimmed.bytes().all(allowed) {
        return Ok(());
    }
    Err(Refusal::invalid(path, "this is not valid base64"))
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}
