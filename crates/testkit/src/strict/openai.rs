//! What OpenAI's chat completions refuse.
//!
//! Rules: <https://platform.openai.com/docs/api-reference/chat/create>.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::{Refusal, array, base64, boolean, join, name, number, object, only, text};
use crate::upstream::Received;

/// Judges a request to `/v1/chat/completions`; returns its body.
///
/// # Errors
/// The refusal that the provider would send.
pub fn check(request: &Received, key: &str) -> Result<Value, Refusal> {
    check_head(request, "/v1/chat/completions", key)?;
    let value: Value = serde_json::from_slice(&request.body)
        .map_err(|error| Refusal::invalid("", format!("the body is not JSON: {error}")))?;
    check_body(&value)?;
    Ok(value)
}

/// Judges a body alone.
///
/// # Errors
/// As [`check`].
pub fn check_body(value: &Value) -> Result<(), Refusal> {
    let body = object(value, "")?;
    only(body, KNOWN, "")?;
    let model = text(body, "model", "")?;
    for key in body
        .iter()
        .filter(|(_, value)| value.is_null())
        .map(|(key, _)| key)
    {
        if !NULLABLE.contains(&key.as_str()) {
            return Err(Refusal::invalid(key, "null is not allowed"));
        }
    }
    check_sampling(body)?;
    check_limits(body, model)?;
    let streamed = boolean(body, "stream")?;
    check_stream_options(body, streamed)?;
    let tools = check_tools(body)?;
    check_tool_choice(body, &tools)?;
    check_response_format(body)?;
    check_messages(array(body, "messages", "")?)
}

/// Judges the head of a request to `path`.
pub(crate) fn check_head(request: &Received, path: &str, key: &str) -> Result<(), Refusal> {
    if request.method != "POST" || request.target != path {
        return Err(Refusal {
            status: 404,
            kind: "invalid_request_error",
            param: String::new(),
            message: format!("Invalid URL ({} {})", request.method, request.target),
        });
    }
    if request.headers.get_all("authorization").iter().count() != 1
        || request.header("authorization") != format!("Bearer {key}")
    {
        return Err(Refusal {
            status: 401,
            kind: "invalid_request_error",
            param: String::new(),
            message: "Incorrect API key provided.".to_owned(),
        });
    }
    if !request.header("content-type").starts_with("application/json") {
        return Err(Refusal::invalid(
            "",
            "you must send content-type: application/json",
        ));
    }
    check_leaks(request, &["authorization"])
}

/// Refuses headers that only a gateway could have let through; the provider would log and keep them.
pub(super) fn check_leaks(request: &Received, own: &[&str]) -> Result<(), Refusal> {
    let foreign = ["authorization", "x-api-key", "api-key", "x-envoy-original-path"];
    let leaked = request
        .headers
        .keys()
        .map(http::HeaderName::as_str)
        .find(|header| (foreign.contains(header) && !own.contains(header)) || header.starts_with("x-ai-eg-"));
    match leaked {
        Some(header) => Err(Refusal::invalid(
            "",
            format!("header {header} is not for this provider"),
        )),
        None => Ok(()),
    }
}

fn check_sampling(body: &Map<String, Value>) -> Result<(), Refusal> {
    number(body, "temperature", 0.0..=2.0)?;
    number(body, "top_p", 0.0..=1.0)?;
    number(body, "presence_penalty", -2.0..=2.0)?;
    number(body, "frequency_penalty", -2.0..=2.0)?;
    number(body, "n", 1.0..=128.0)?;
    number(body, "top_logprobs", 0.0..=20.0)?;
    match body.get("stop") {
        None | Some(Value::Null | Value::String(_)) => Ok(()),
        Some(Value::Array(stops)) if (1..=4).contains(&stops.len()) && stops.iter().all(Value::is_string) => {
            Ok(())
        }
        Some(_) => Err(Refusal::invalid(
            "stop",
            "a string or one to four strings are expected",
        )),
    }
}

/// Judges the output limits; models that reason know only the newer one and no sampling.
fn check_limits(body: &Map<String, Value>, model: &str) -> Result<(), Refusal> {
    number(body, "max_tokens", 1.0..=f64::MAX)?;
    number(body, "max_completion_tokens", 1.0..=f64::MAX)?;
    let reasons = ["o1", "o3", "o4", "gpt-5"]
        .iter()
        .any(|family| model.starts_with(family));
    if body.contains_key("max_tokens") && body.contains_key("max_completion_tokens") {
        return Err(Refusal::invalid(
            "max_tokens",
            "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
        ));
    }
    if reasons && body.contains_key("max_tokens") {
        return Err(Refusal::invalid(
            "max_tokens",
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
        ));
    }
    match body.get("reasoning_effort") {
        None | Some(Value::Null) => Ok(()),
        Some(_) if !reasons => Err(Refusal::invalid(
            "reasoning_effort",
            "Unrecognized request argument supplied: reasoning_effort",
        )),
        Some(Value::String(effort)) if EFFORTS.contains(&effort.as_str()) => Ok(()),
        Some(effort) => Err(Refusal::invalid(
            "reasoning_effort",
            format!("Invalid value: {effort}."),
        )),
    }
}

fn check_stream_options(body: &Map<String, Value>, streamed: bool) -> Result<(), Refusal> {
    match body.get("stream_options") {
        None | Some(Value::Null) => Ok(()),
        Some(_) if !streamed => Err(Refusal::invalid(
            "stream_options",
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.",
        )),
        Some(options) => only(
            object(options, "stream_options")?,
            &["include_usage", "include_obfuscation"],
            "stream_options",
        ),
    }
}

fn check_tools(body: &Map<String, Value>) -> Result<HashSet<&str>, Refusal> {
    let mut names = HashSet::new();
    if body
        .get("tools")
        .and_then(Value::as_array)
        .is_some_and(Vec::is_empty)
    {
        return Err(Refusal::invalid(
            "tools",
            "[] is too short. Expected an array with minimum length 1.",
        ));
    }
    for (index, tool) in array(body, "tools", "")?.iter().enumerate() {
        let path = format!("tools[{index}]");
        let tool = object(tool, &path)?;
        only(tool, &["type", "function"], &path)?;
        if text(tool, "type", &path)? != "function" {
            return Err(Refusal::invalid(&join(&path, "type"), "Invalid value."));
        }
        let path = join(&path, "function");
        let function = object(tool.get("function").unwrap_or(&Value::Null), &path)?;
        only(function, &["name", "description", "parameters", "strict"], &path)?;
        let tool_name = text(function, "name", &path)?;
        name(tool_name, 64, &join(&path, "name"))?;
        if let Some(parameters) = function.get("parameters") {
            let path = join(&path, "parameters");
            let parameters = object(parameters, &path)?;
            if parameters.get("type").and_then(Value::as_str) != Some("object") && !parameters.is_empty() {
                return Err(Refusal::invalid(
                    &path,
                    "schema must be a JSON Schema of 'type: \"object\"'",
                ));
            }
        }
        names.insert(tool_name);
    }
    Ok(names)
}

fn check_tool_choice(body: &Map<String, Value>, tools: &HashSet<&str>) -> Result<(), Refusal> {
    if tools.is_empty() {
        for key in ["tool_choice", "parallel_tool_calls"] {
            if body.contains_key(key) {
                return Err(Refusal::invalid(
                    key,
                    format!("'{key}' is only allowed when 'tools' are specified."),
                ));
            }
        }
        return Ok(());
    }
    boolean(body, "parallel_tool_calls")?;
    match body.get("tool_choice") {
        None => Ok(()),
        Some(Value::String(choice)) if ["none", "auto", "required"].contains(&choice.as_str()) => Ok(()),
        Some(choice) => {
            let choice = object(choice, "tool_choice")?;
            only(choice, &["type", "function"], "tool_choice")?;
            let function = object(
                choice.get("function").unwrap_or(&Value::Null),
                "tool_choice.function",
            )?;
            let chosen = text(function, "name", "tool_choice.function")?;
            if tools.contains(chosen) {
                Ok(())
            } else {
                Err(Refusal::invalid(
                    "tool_choice",
                    format!("Tool choice '{chosen}' not found in 'tools' parameter."),
                ))
            }
        }
    }
}

fn check_response_format(body: &Map<String, Value>) -> Result<(), Refusal> {
    let path = "response_format";
    let Some(format) = body.get(path) else {
        return Ok(());
    };
    let format = object(format, path)?;
    match text(format, "type", path)? {
        "text" => only(format, &["type"], path),
        "json_object" => {
            only(format, &["type"], path)?;
            let said = body.get("messages").map(Value::to_string).unwrap_or_default();
            if said.to_lowercase().contains("json") {
                Ok(())
            } else {
                Err(Refusal::invalid(
                    "messages",
                    "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.",
                ))
            }
        }
        "json_schema" => {
            only(format, &["type", "json_schema"], path)?;
            let path = "response_format.json_schema";
            let schema = object(format.get("json_schema").unwrap_or(&Value::Null), path)?;
            only(schema, &["name", "description", "schema", "strict"], path)?;
            name(text(schema, "name", path)?, 64, &join(path, "name"))?;
            if schema.get("strict").and_then(Value::as_bool) == Some(true) {
                check_strict_schema(
                    schema.get("schema").unwrap_or(&Value::Null),
                    "response_format.json_schema.schema",
                    true,
                )?;
            }
            Ok(())
        }
        other => Err(Refusal::invalid(
            "response_format.type",
            format!("Invalid value: '{other}'."),
        )),
    }
}

/// Judges a schema that a provider is to enforce: objects allow no members but their own, and where `all` is
/// set, require each of them.
pub(super) fn check_strict_schema(schema: &Value, path: &str, all: bool) -> Result<(), Refusal> {
    let schema = object(schema, path)?;
    if schema.get("type").and_then(Value::as_str) == Some("object") {
        if schema.get("additionalProperties") != Some(&Value::Bool(false)) {
            return Err(Refusal::invalid(
                path,
                "Invalid schema: 'additionalProperties' is required to be supplied and to be false.",
            ));
        }
        let required = array(schema, "required", path)?;
        let properties = object(schema.get("properties").unwrap_or(&Value::Null), path)?;
        for (key, property) in properties {
            if all && !required.iter().any(|required| required == key) {
                return Err(Refusal::invalid(
                    path,
                    format!(
                        "Invalid schema: 'required' must include every key in properties. Missing '{key}'."
                    ),
                ));
            }
            check_strict_schema(property, &join(path, key), all)?;
        }
    }
    match schema.get("items") {
        Some(items) => check_strict_schema(items, &join(path, "items"), all),
        None => Ok(()),
    }
}

/// Judges the conversation: every call of a tool is answered right after it, and nothing else is.
fn check_messages(messages: &[Value]) -> Result<(), Refusal> {
    if messages.is_empty() {
        return Err(Refusal::invalid(
            "messages",
            "[] is too short. Expected an array with minimum length 1.",
        ));
    }
    let mut unanswered: HashSet<&str> = HashSet::new();
    for (index, message) in messages.iter().enumerate() {
        let path = format!("messages[{index}]");
        let message = object(message, &path)?;
        let role = text(message, "role", &path)?;
        if role != "tool" && !unanswered.is_empty() {
            return Err(Refusal::invalid(
                &path,
                format!(
                    "An assistant message with 'tool_calls' must be followed by tool messages responding to each \
                     'tool_call_id'. The following tool_call_ids did not have response messages: {unanswered:?}"
                ),
            ));
        }
        match role {
            "system" | "developer" => {
                only(message, &["role", "content", "name"], &path)?;
                check_content(message, &["text"], &path)?;
            }
            "user" => {
                only(message, &["role", "content", "name"], &path)?;
                check_content(message, &["text", "image_url", "input_audio", "file"], &path)?;
            }
            "assistant" => unanswered = check_assistant(message, &path)?,
            "tool" => {
                only(message, &["role", "content", "tool_call_id"], &path)?;
                let id = text(message, "tool_call_id", &path)?;
                if !unanswered.remove(id) {
                    return Err(Refusal::invalid(
                        &join(&path, "role"),
                        "messages with role 'tool' must be a response to a preceeding message with 'tool_calls'.",
                    ));
                }
                check_content(message, &["text"], &path)?;
            }
            other => {
                return Err(Refusal::invalid(
                    &join(&path, "role"),
                    format!("Invalid value: '{other}'."),
                ));
            }
        }
    }
    if unanswered.is_empty() {
        Ok(())
    } else {
        Err(Refusal::invalid(
            "messages",
            "the last tool_calls have no response messages",
        ))
    }
}

fn check_assistant<'v>(message: &'v Map<String, Value>, path: &str) -> Result<HashSet<&'v str>, Refusal> {
    only(
        message,
        &[
            "role",
            "content",
            "name",
            "refusal",
            "audio",
            "tool_calls",
            "annotations",
        ],
        path,
    )?;
    let has_calls = message.contains_key("tool_calls");
    if message.get("content").is_some_and(|content| !content.is_null()) {
        check_content(message, &["text", "refusal"], path)?;
    } else if !has_calls && message.get("refusal").is_none_or(Value::is_null) {
        return Err(Refusal::invalid(
            &join(path, "content"),
            "Invalid value for 'content': expected a string, got null.",
        ));
    }
    if has_calls && array(message, "tool_calls", path)?.is_empty() {
        return Err(Refusal::invalid(
            &join(path, "tool_calls"),
            "[] is too short. Expected an array with minimum length 1.",
        ));
    }
    let mut ids = HashSet::new();
    for (index, call) in array(message, "tool_calls", path)?.iter().enumerate() {
        let path = format!("{path}.tool_calls[{index}]");
        let call = object(call, &path)?;
        only(call, &["id", "type", "function"], &path)?;
        if text(call, "type", &path)? != "function" {
            return Err(Refusal::invalid(&join(&path, "type"), "Invalid value."));
        }
        let id = text(call, "id", &path)?;
        if !ids.insert(id) {
            return Err(Refusal::invalid(
                &join(&path, "id"),
                format!("Duplicate tool call id '{id}'."),
            ));
        }
        let path = join(&path, "function");
        let function = object(call.get("function").unwrap_or(&Value::Null), &path)?;
        only(function, &["name", "arguments"], &path)?;
        name(text(function, "name", &path)?, 64, &join(&path, "name"))?;
        if !function.get("arguments").is_some_and(Value::is_string) {
            return Err(Refusal::invalid(
                &join(&path, "arguments"),
                "a string is expected",
            ));
        }
    }
    Ok(ids)
}

fn check_content(message: &Map<String, Value>, kinds: &[&str], path: &str) -> Result<(), Refusal> {
    let path = join(path, "content");
    let parts = match message.get("content") {
        Some(Value::String(_)) => return Ok(()),
        Some(Value::Array(parts)) if !parts.is_empty() => parts,
        _ => {
            return Err(Refusal::invalid(
                &path,
                "a string or an array of content parts is expected",
            ));
        }
    };
    for (index, part) in parts.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let part = object(part, &path)?;
        let kind = text(part, "type", &path)?;
        if !kinds.contains(&kind) {
            return Err(Refusal::invalid(
                &join(&path, "type"),
                format!("Invalid value: '{kind}'. Supported values are: {kinds:?}."),
            ));
        }
        only(part, &["type", kind, "prompt_cache_breakpoint"], &path)?;
        let path = join(&path, kind);
        let value = part.get(kind).unwrap_or(&Value::Null);
        match kind {
            "image_url" => {
                let image = object(value, &path)?;
                only(image, &["url", "detail"], &path)?;
                check_url(text(image, "url", &path)?, &join(&path, "url"))?;
            }
            "input_audio" => only(object(value, &path)?, &["data", "format"], &path)?,
            "file" => only(
                object(value, &path)?,
                &["file_data", "file_id", "filename"],
                &path,
            )?,
            _ if value.is_string() => {}
            _ => return Err(Refusal::invalid(&path, "a string is expected")),
        }
    }
    Ok(())
}

fn check_url(url: &str, path: &str) -> Result<(), Refusal> {
    if url.starts_with("https://") || url.starts_with("http://") {
        return Ok(());
    }
    let data = url
        .strip_prefix("data:image/")
        .and_then(|rest| rest.split_once(";base64,"));
    match data {
        Some((_, data)) => base64(data, path),
        None => Err(Refusal::invalid(path, "Invalid image URL.")),
    }
}

const EFFORTS: &[&str] = &["none", "minimal", "low", "medium", "high", "xhigh", "max"];

/// Members that may be `null`; the reference calls them nullable.
const NULLABLE: &[&str] = &[
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "max_tokens",
    "metadata",
    "n",
    "presence_penalty",
    "reasoning_effort",
    "service_tier",
    "stop",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "top_logprobs",
    "top_p",
    "verbosity",
];

const KNOWN: &[&str] = &[
    "audio",
    "frequency_penalty",
    "function_call",
    "functions",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "max_tokens",
    "messages",
    "metadata",
    "modalities",
    "model",
    "moderation",
    "n",
    "parallel_tool_calls",
    "prediction",
    "presence_penalty",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning_effort",
    "response_format",
    "safety_identifier",
    "seed",
    "service_tier",
    "stop",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "user",
    "verbosity",
    "web_search_options",
];
