//! What OpenAI's Responses refuse.
//!
//! Rules: <https://platform.openai.com/docs/api-reference/responses/create>.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::{Refusal, array, base64, boolean, join, name, number, object, only, openai, text};
use crate::upstream::Received;

/// Judges a request to `/v1/responses`; returns its body.
///
/// # Errors
/// The refusal that the provider would send.
pub fn check(request: &Received, key: &str) -> Result<Value, Refusal> {
    openai::check_head(request, "/v1/responses", key)?;
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
    let reasons = reasons(text(body, "model", "")?);
    boolean(body, "stream")?;
    boolean(body, "store")?;
    number(body, "temperature", 0.0..=2.0)?;
    number(body, "top_p", 0.0..=1.0)?;
    number(body, "top_logprobs", 0.0..=20.0)?;
    number(body, "max_output_tokens", 1.0..=f64::MAX)?;
    if reasons && body.contains_key("temperature") {
        return Err(Refusal::invalid(
            "temperature",
            "Unsupported parameter: 'temperature' is not supported with this model.",
        ));
    }
    check_reasoning(body, reasons)?;
    for include in array(body, "include", "")? {
        if !INCLUDE.iter().any(|known| include == known) {
            return Err(Refusal::invalid(
                "include[0]",
                format!("Invalid value: {include}."),
            ));
        }
    }
    let tools = check_tools(body)?;
    check_tool_choice(body, &tools)?;
    check_text(body)?;
    match body.get("input") {
        Some(Value::String(input)) if !input.is_empty() => Ok(()),
        Some(Value::Array(items)) if !items.is_empty() => check_items(items),
        Some(_) => Err(Refusal::invalid("input", "a text or items are expected")),
        None => Err(Refusal::invalid("input", "Missing required parameter: 'input'.")),
    }
}

/// Returns whether a model reasons.
fn reasons(model: &str) -> bool {
    ["o1", "o3", "o4", "gpt-5"]
        .iter()
        .any(|family| model.starts_with(family))
}

fn check_reasoning(body: &Map<String, Value>, reasons: bool) -> Result<(), Refusal> {
    let path = "reasoning";
    let Some(reasoning) = body.get(path) else {
        return Ok(());
    };
    let reasoning = object(reasoning, path)?;
    only(reasoning, &["effort", "summary", "generate_summary"], path)?;
    if !reasons {
        return Err(Refusal::invalid(
            "reasoning.effort",
            "Unsupported parameter: 'reasoning.effort' is not supported with this model.",
        ));
    }
    for (key, words) in [
        (
            "effort",
            &["none", "minimal", "low", "medium", "high", "xhigh"][..],
        ),
        ("summary", &["auto", "concise", "detailed"]),
    ] {
        let word = reasoning.get(key).filter(|word| !word.is_null());
        if word.is_some_and(|word| !words.iter().any(|known| word == known)) {
            return Err(Refusal::invalid(&join(path, key), "Invalid value."));
        }
    }
    Ok(())
}

fn check_tools(body: &Map<String, Value>) -> Result<HashSet<&str>, Refusal> {
    let mut names = HashSet::new();
    for (index, tool) in array(body, "tools", "")?.iter().enumerate() {
        let path = format!("tools[{index}]");
        let tool = object(tool, &path)?;
        match text(tool, "type", &path)? {
            "function" => {
                only(
                    tool,
                    &["type", "name", "description", "parameters", "strict"],
                    &path,
                )?;
                if !tool.contains_key("parameters") {
                    let path = join(&path, "parameters");
                    let message = format!("Missing required parameter: '{path}'.");
                    return Err(Refusal::invalid(&path, message));
                }
                if tool.get("strict") == Some(&Value::Bool(true)) {
                    let parameters = tool.get("parameters").unwrap_or(&Value::Null);
                    openai::check_strict_schema(parameters, &join(&path, "parameters"), true)?;
                }
            }
            "custom" => only(tool, &["type", "name", "description", "format"], &path)?,
            other => {
                let message = format!("Invalid value: '{other}'.");
                return Err(Refusal::invalid(&join(&path, "type"), message));
            }
        }
        let tool_name = text(tool, "name", &path)?;
        name(tool_name, 64, &join(&path, "name"))?;
        names.insert(tool_name);
    }
    Ok(names)
}

fn check_tool_choice(body: &Map<String, Value>, tools: &HashSet<&str>) -> Result<(), Refusal> {
    boolean(body, "parallel_tool_calls")?;
    let path = "tool_choice";
    match body.get(path) {
        None => Ok(()),
        Some(Value::String(word)) if ["none", "auto", "required"].contains(&word.as_str()) => Ok(()),
        Some(choice) => {
            let choice = object(choice, path)?;
            only(choice, &["type", "name"], path)?;
            let chosen = text(choice, "name", path)?;
            if tools.contains(chosen) {
                Ok(())
            } else {
                let message = format!("Tool choice '{chosen}' not found in 'tools' parameter.");
                Err(Refusal::invalid(path, message))
            }
        }
    }
}

fn check_text(body: &Map<String, Value>) -> Result<(), Refusal> {
    let Some(said) = body.get("text") else {
        return Ok(());
    };
    let said = object(said, "text")?;
    only(said, &["format", "verbosity"], "text")?;
    let path = "text.format";
    let Some(format) = said.get("format") else {
        return Ok(());
    };
    let format = object(format, path)?;
    match text(format, "type", path)? {
        "text" | "json_object" => only(format, &["type"], path),
        "json_schema" => {
            only(format, &["type", "name", "description", "schema", "strict"], path)?;
            name(text(format, "name", path)?, 64, &join(path, "name"))?;
            let schema = format.get("schema").unwrap_or(&Value::Null);
            if format.get("strict") == Some(&Value::Bool(true)) {
                openai::check_strict_schema(schema, &join(path, "schema"), true)?;
            }
            object(schema, &join(path, "schema")).map(drop)
        }
        other => Err(Refusal::invalid(
            &join(path, "type"),
            format!("Invalid value: '{other}'."),
        )),
    }
}

/// Judges the items: every output follows its call, and every call has one.
fn check_items(items: &[Value]) -> Result<(), Refusal> {
    let mut unanswered: HashSet<&str> = HashSet::new();
    for (index, item) in items.iter().enumerate() {
        let path = format!("input[{index}]");
        let item = object(item, &path)?;
        match item.get("type").and_then(Value::as_str).unwrap_or("message") {
            "message" => check_message(item, &path)?,
            "reasoning" => check_sealed(item, &path)?,
            kind @ ("function_call" | "custom_tool_call") => {
                let said = if kind == "function_call" {
                    "arguments"
                } else {
                    "input"
                };
                only(item, &["type", "id", "status", "call_id", "name", said], &path)?;
                name(text(item, "name", &path)?, 64, &join(&path, "name"))?;
                text(item, said, &path)?;
                unanswered.insert(text(item, "call_id", &path)?);
            }
            "function_call_output" | "custom_tool_call_output" => {
                only(item, &["type", "id", "status", "call_id", "output"], &path)?;
                let id = text(item, "call_id", &path)?;
                if !unanswered.remove(id) {
                    let message = format!("No tool call found for function call output with call_id {id}.");
                    return Err(Refusal::invalid("input", message));
                }
                check_content(
                    item,
                    "output",
                    &["input_text", "input_image", "input_file"],
                    &path,
                )?;
            }
            other => {
                let message = format!("Invalid value: '{other}'.");
                return Err(Refusal::invalid(&join(&path, "type"), message));
            }
        }
    }
    match unanswered.iter().next() {
        Some(id) => {
            let message = format!("No tool output found for function call {id}.");
            Err(Refusal::invalid("input", message))
        }
        None => Ok(()),
    }
}

fn check_message(item: &Map<String, Value>, path: &str) -> Result<(), Refusal> {
    only(item, &["type", "role", "content", "id", "status"], path)?;
    match text(item, "role", path)? {
        "user" => check_content(
            item,
            "content",
            &["input_text", "input_image", "input_file"],
            path,
        ),
        "system" | "developer" => check_content(item, "content", &["input_text"], path),
        "assistant" => check_content(item, "content", &["output_text", "refusal"], path),
        other => Err(Refusal::invalid(
            &join(path, "role"),
            format!("Invalid value: '{other}'."),
        )),
    }
}

/// Refuses reasoning that comes without what proves it.
fn check_sealed(item: &Map<String, Value>, path: &str) -> Result<(), Refusal> {
    only(
        item,
        &["type", "id", "summary", "content", "encrypted_content", "status"],
        path,
    )?;
    let mut said = String::new();
    for part in array(item, "summary", path)? {
        let path = join(path, "summary");
        let part = object(part, &path)?;
        only(part, &["type", "text"], &path)?;
        said.push_str(text(part, "text", &path)?);
    }
    let sealed = text(item, "encrypted_content", path)?;
    if sealed == crate::fixture::seal(&said) {
        return Ok(());
    }
    Err(Refusal::invalid(
        "input",
        "The encrypted content could not be verified.",
    ))
}

fn check_content(item: &Map<String, Value>, key: &str, kinds: &[&str], path: &str) -> Result<(), Refusal> {
    let path = join(path, key);
    let parts = match item.get(key) {
        Some(Value::String(_)) => return Ok(()),
        Some(Value::Array(parts)) => parts,
        _ => return Err(Refusal::invalid(&path, "a text or parts are expected")),
    };
    for (index, part) in parts.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let part = object(part, &path)?;
        let kind = text(part, "type", &path)?;
        if !kinds.contains(&kind) {
            let message = format!("Invalid value: '{kind}'. Supported values are: {kinds:?}.");
            return Err(Refusal::invalid(&join(&path, "type"), message));
        }
        let (members, required): (&[&str], &str) = match kind {
            "input_text" => (&["type", "text"], "text"),
            "output_text" => (&["type", "text", "annotations", "logprobs"], "text"),
            "refusal" => (&["type", "refusal"], "refusal"),
            "input_image" => (&["type", "image_url", "detail"], "image_url"),
            _ => (&["type", "file_data", "filename"], "file_data"),
        };
        only(part, members, &path)?;
        let said = text(part, required, &path)?;
        if let Some((_, data)) = said
            .strip_prefix("data:")
            .and_then(|said| said.split_once(";base64,"))
        {
            base64(data, &join(&path, required))?;
        }
    }
    Ok(())
}

const INCLUDE: &[&str] = &["reasoning.encrypted_content", "message.output_text.logprobs"];

const KNOWN: &[&str] = &[
    "background",
    "conversation",
    "include",
    "input",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "model",
    "parallel_tool_calls",
    "previous_response_id",
    "prompt",
    "prompt_cache_key",
    "prompt_cache_retention",
    "reasoning",
    "safety_identifier",
    "service_tier",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "truncation",
    "user",
];
