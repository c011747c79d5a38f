//! What the counters of tokens refuse: Anthropic's, and those of the clouds that serve its models.
//!
//! Rules: <https://docs.anthropic.com/en/api/messages-count-tokens> and
//! <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_CountTokens.html>.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::{Refusal, converse, join, messages, object, only};
use crate::upstream::Received;

/// What is counted, and in which form.
#[derive(Debug)]
pub enum Counted {
    /// A body of Messages.
    Messages(Value),
    /// A body of Converse.
    Converse(Value),
}

/// Judges a body of Anthropic's counter, which is one of Messages without what an answer needs.
///
/// # Errors
/// The refusal that the provider would send.
pub fn check_messages(value: &Value) -> Result<Value, Refusal> {
    only(object(value, "")?, MESSAGES, "")?;
    let mut body = value.clone();
    body["max_tokens"] = json!(u32::MAX);
    messages::check_body(&body)?;
    Ok(body)
}

/// The versions that Vertex AI takes: the one that its documentation names, and the one that Anthropic's SDK says.
pub const VERTEX_VERSIONS: &[&str] = &["vertex-2023-10-16", "2026-10-21"];

/// Judges a request to the counter of Claude on Vertex AI, which takes no flags and names the model in the body.
///
/// # Errors
/// As [`check_messages`].
pub fn check_vertex(request: &Received) -> Result<Value, Refusal> {
    let mut body = request.json();
    let version = body
        .as_object_mut()
        .and_then(|body| body.remove("anthropic_version"));
    if !version.is_some_and(|version| VERTEX_VERSIONS.iter().any(|known| version == *known)) {
        return Err(Refusal::new("anthropic_version", "Field required"));
    }
    let flags = request.header("anthropic-beta");
    if !flags.is_empty() {
        let message = format!("Unexpected value(s) `{flags}` for the `anthropic-beta` header.");
        return Err(Refusal::new("", &message));
    }
    let model = body["model"].as_str().unwrap_or_default();
    if model.ends_with("@latest") || model.ends_with("@default") {
        return Err(Refusal::new("model", "this is no version of a model"));
    }
    check_messages(&body)
}

/// Judges a body of Amazon Bedrock's counter, asked for `model`: it counts for Claude, and knows no profiles.
///
/// # Errors
/// As [`check_messages`].
pub fn check_bedrock(value: &Value, model: &str) -> Result<Counted, Refusal> {
    if model.starts_with("arn:") || PROFILES.iter().any(|region| model.starts_with(region)) {
        return Err(Refusal::new("", "The provided model identifier is invalid."));
    }
    if !model.contains("anthropic.") {
        let message = "The provided model doesn't support counting tokens.";
        return Err(Refusal::new("", message));
    }
    only(object(value, "")?, &["input"], "")?;
    let input = object(value.get("input").unwrap_or(&Value::Null), "input")?;
    only(input, &["invokeModel", "converse"], "input")?;
    if let Some(body) = input.get("converse") {
        let members = ["messages", "system", "toolConfig", "additionalModelRequestFields"];
        only(object(body, "input.converse")?, &members, "input.converse")?;
        converse::check_body(body)?;
        return Ok(Counted::Converse(body.clone()));
    }
    let path = "input.invokeModel.body";
    let body = value.pointer("/input/invokeModel/body").and_then(Value::as_str);
    let body = body.and_then(|body| BASE64_STANDARD.decode(body).ok());
    let body = body.and_then(|body| serde_json::from_slice(&body).ok());
    let mut body: Value = body.ok_or_else(|| Refusal::new(path, "this is not JSON in base64"))?;
    let members = object(&body, path)?;
    for required in ["anthropic_version", "max_tokens"] {
        if !members.contains_key(required) {
            return Err(Refusal::new(&join(path, required), "Field required"));
        }
    }
    super::beta::check_body(&mut body)?;
    body["model"] = json!(model);
    messages::check_body(&body)?;
    Ok(Counted::Messages(body))
}

const PROFILES: &[&str] = &["us.", "eu.", "apac.", "global.", "us-gov.", "jp.", "au."];

const MESSAGES: &[&str] = &[
    "cache_control",
    "context_management",
    "mcp_servers",
    "messages",
    "model",
    "output_config",
    "system",
    "thinking",
    "tool_choice",
    "tools",
];
