//! What Gemini refuses, at AI Studio and at Vertex AI: above all every field that it does not know, at any depth.
//!
//! Rules: <https://ai.google.dev/api/generate-content> and
//! <https://ai.google.dev/gemini-api/docs/function-calling>.

use serde_json::{Map, Value};

use super::{Refusal, array, base64, boolean, join, name, number, object, text};
use crate::fixture;

/// Judges a body.
///
/// # Errors
/// The refusal that the provider would send.
pub fn check_body(value: &Value) -> Result<(), Refusal> {
    // A field that is null counts as absent (ProtoJSON).
    let said = object(value, "")?.iter().filter(|(_, value)| !value.is_null());
    let body = &said.map(|(key, value)| (key.clone(), value.clone())).collect();
    known(body, KNOWN, "")?;
    check_config(body)?;
    let declared = check_tools(body)?;
    check_choice(body, &declared)?;
    if let Some(instruction) = body.get("systemInstruction") {
        let path = "systemInstruction";
        let instruction = object(instruction, path)?;
        known(instruction, &["role", "parts"], path)?;
        for (index, part) in array(instruction, "parts", path)?.iter().enumerate() {
            check_part(part, &format!("{path}.parts[{index}]"))?;
        }
    }
    check_contents(array(body, "contents", "")?)
}

/// Returns `value` with its fields named as the reference names them: they may be written with underscores, too
/// (ProtoJSON). What is the caller's own JSON stays as it is.
pub fn named(value: &Value) -> Value {
    match value {
        Value::Object(members) => members
            .iter()
            .map(|(key, value)| {
                let key = camel(key);
                let own = OWN.contains(&key.as_str());
                let value = if own { value.clone() } else { named(value) };
                (key, value)
            })
            .collect(),
        Value::Array(elements) => elements.iter().map(named).collect(),
        other => other.clone(),
    }
}

fn camel(key: &str) -> String {
    let mut words = key.split('_');
    let mut name = words.next().unwrap_or_default().to_owned();
    for word in words {
        let (first, rest) = word.split_at(word.len().min(1));
        name.push_str(&first.to_ascii_uppercase());
        name.push_str(rest);
    }
    name
}

/// Refuses fields that the API does not have.
fn known(object: &Map<String, Value>, known: &[&str], path: &str) -> Result<(), Refusal> {
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => {
            let at = if path.is_empty() {
                String::new()
            } else {
                format!(" at '{path}'")
            };
            let message =
                format!("Invalid JSON payload received. Unknown name \"{key}\"{at}: Cannot find field.");
            Err(Refusal::invalid(&join(path, key), message))
        }
        None => Ok(()),
    }
}

fn check_config(body: &Map<String, Value>) -> Result<(), Refusal> {
    let path = "generationConfig";
    let Some(config) = body.get(path) else {
        return Ok(());
    };
    let config = object(config, path)?;
    known(config, CONFIG, path)?;
    number(config, "temperature", 0.0..=2.0)?;
    number(config, "topP", 0.0..=1.0)?;
    number(config, "topK", 1.0..=1000.0)?;
    number(config, "candidateCount", 1.0..=8.0)?;
    number(config, "maxOutputTokens", 1.0..=f64::MAX)?;
    number(config, "logprobs", 0.0..=20.0)?;
    boolean(config, "responseLogprobs")?;
    if array(config, "stopSequences", path)?.len() > 5 {
        return Err(Refusal::invalid(
            "generationConfig.stopSequences",
            "the number of stop sequences must be at most 5",
        ));
    }
    let schemas = ["responseSchema", "responseJsonSchema"].map(|key| config.contains_key(key));
    let json = config.get("responseMimeType").and_then(Value::as_str) == Some("application/json");
    if schemas.contains(&true) && !json {
        return Err(Refusal::invalid(
            "generationConfig.responseMimeType",
            "a response schema is only supported with application/json",
        ));
    }
    if let Some(schema) = config.get("responseSchema") {
        check_schema(schema, "generationConfig.responseSchema")?;
    }
    check_thinking(config)
}

fn check_thinking(config: &Map<String, Value>) -> Result<(), Refusal> {
    let path = "generationConfig.thinkingConfig";
    let Some(thinking) = config.get("thinkingConfig") else {
        return Ok(());
    };
    let thinking = object(thinking, path)?;
    known(
        thinking,
        &["includeThoughts", "thinkingBudget", "thinkingLevel"],
        path,
    )?;
    boolean(thinking, "includeThoughts")?;
    if thinking.contains_key("thinkingBudget") && thinking.contains_key("thinkingLevel") {
        let message = "You can only set only one of thinking budget and thinking level.";
        return Err(Refusal::invalid(path, message));
    }
    number(thinking, "thinkingBudget", -1.0..=32768.0)?;
    let level = thinking.get("thinkingLevel").and_then(Value::as_str);
    let levels = ["minimal", "low", "medium", "high"];
    if level.is_some_and(|level| !levels.contains(&level.to_lowercase().as_str())) {
        return Err(Refusal::invalid(path, "Invalid value for thinkingLevel."));
    }
    Ok(())
}

/// Judges a schema in the API's own subset of OpenAPI.
fn check_schema(schema: &Value, path: &str) -> Result<(), Refusal> {
    let schema = object(schema, path)?;
    known(schema, SCHEMA, path)?;
    for (key, property) in schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        check_schema(property, &format!("{path}.properties[{key}]"))?;
    }
    if let Some(items) = schema.get("items") {
        check_schema(items, &join(path, "items"))?;
    }
    for branch in array(schema, "anyOf", path)? {
        check_schema(branch, &join(path, "anyOf"))?;
    }
    Ok(())
}

/// Judges the tools; returns the names of the functions.
fn check_tools(body: &Map<String, Value>) -> Result<Vec<&str>, Refusal> {
    let mut names = Vec::new();
    for (index, tool) in array(body, "tools", "")?.iter().enumerate() {
        let path = format!("tools[{index}]");
        let tool = object(tool, &path)?;
        known(
            tool,
            &[
                "functionDeclarations",
                "googleSearch",
                "codeExecution",
                "urlContext",
            ],
            &path,
        )?;
        for (index, function) in array(tool, "functionDeclarations", &path)?.iter().enumerate() {
            let path = format!("{path}.functionDeclarations[{index}]");
            let function = object(function, &path)?;
            known(function, FUNCTION, &path)?;
            let called = text(function, "name", &path)?;
            name(called, 64, &join(&path, "name"))?;
            if function.contains_key("parameters") && function.contains_key("parametersJsonSchema") {
                let message = "parameters and parametersJsonSchema exclude each other";
                return Err(Refusal::invalid(&path, message));
            }
            if let Some(schema) = function.get("parameters") {
                check_schema(schema, &join(&path, "parameters"))?;
            }
            names.push(called);
        }
    }
    Ok(names)
}

fn check_choice(body: &Map<String, Value>, declared: &[&str]) -> Result<(), Refusal> {
    let Some(config) = body.get("toolConfig") else {
        return Ok(());
    };
    let config = object(config, "toolConfig")?;
    known(
        config,
        &["functionCallingConfig", "retrievalConfig"],
        "toolConfig",
    )?;
    let path = "toolConfig.functionCallingConfig";
    let Some(calling) = config.get("functionCallingConfig") else {
        return Ok(());
    };
    let calling = object(calling, path)?;
    known(calling, &["mode", "allowedFunctionNames"], path)?;
    let mode = text(calling, "mode", path)?;
    if !["AUTO", "ANY", "NONE", "VALIDATED"].contains(&mode) {
        return Err(Refusal::invalid(&join(path, "mode"), "Invalid value"));
    }
    let allowed = array(calling, "allowedFunctionNames", path)?;
    if !allowed.is_empty() && mode != "ANY" && mode != "VALIDATED" {
        let message = "Allowed function names should only be set when mode is ANY.";
        return Err(Refusal::invalid(path, message));
    }
    match allowed
        .iter()
        .find(|name| !declared.iter().any(|known| name == known))
    {
        Some(name) => Err(Refusal::invalid(path, format!("{name} is not declared"))),
        None => Ok(()),
    }
}

/// Judges the conversation: calls are answered in the turn after them, each by one response.
fn check_contents(contents: &[Value]) -> Result<(), Refusal> {
    if contents.is_empty() {
        return Err(Refusal::invalid("contents", "contents is not specified"));
    }
    let mut called: Vec<&str> = Vec::new();
    for (index, content) in contents.iter().enumerate() {
        let path = format!("contents[{index}]");
        let content = object(content, &path)?;
        known(content, &["role", "parts"], &path)?;
        let role = text(content, "role", &path)?;
        if !["user", "model"].contains(&role) {
            let message = "Please use a valid role: user, model.";
            return Err(Refusal::invalid(&join(&path, "role"), message));
        }
        let parts = array(content, "parts", &path)?;
        if parts.is_empty() {
            return Err(Refusal::invalid(&join(&path, "parts"), "must not be empty"));
        }
        let mut answered = Vec::new();
        let mut calls = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            check_part(part, &format!("{path}.parts[{index}]"))?;
            answered.extend(part.pointer("/functionResponse/name").and_then(Value::as_str));
            calls.extend(part.pointer("/functionCall/name").and_then(Value::as_str));
        }
        if !calls.is_empty() && role != "model" || !answered.is_empty() && role != "user" {
            return Err(Refusal::invalid(&path, "the role does not fit its parts"));
        }
        if answered != called {
            let message = "Please ensure that the number of function response parts is equal to the number of \
                           function call parts of the function call turn.";
            return Err(Refusal::invalid(&path, message));
        }
        called = calls;
    }
    if called.is_empty() {
        Ok(())
    } else {
        Err(Refusal::invalid("contents", "the last calls have no responses"))
    }
}

fn check_part(part: &Value, path: &str) -> Result<(), Refusal> {
    let part = object(part, path)?;
    known(part, PART, path)?;
    let data: Vec<&str> = DATA
        .iter()
        .copied()
        .filter(|key| part.contains_key(*key))
        .collect();
    let [kind] = data[..] else {
        let message = "a part has exactly one of its kinds of data";
        return Err(Refusal::invalid(path, message));
    };
    check_signature(part, path)?;
    let inside = join(path, kind);
    if kind == "text" {
        return match part.get("text") {
            Some(Value::String(_)) => Ok(()),
            _ => Err(Refusal::invalid(&inside, "a text is expected")),
        };
    }
    let data = object(part.get(kind).unwrap_or(&Value::Null), &inside)?;
    match kind {
        "inlineData" => {
            known(data, &["mimeType", "data", "displayName"], &inside)?;
            text(data, "mimeType", &inside)?;
            base64(text(data, "data", &inside)?, &join(&inside, "data"))
        }
        "fileData" => {
            known(data, &["mimeType", "fileUri", "displayName"], &inside)?;
            text(data, "fileUri", &inside).map(drop)
        }
        "functionCall" => {
            known(data, &["id", "name", "args"], &inside)?;
            object(data.get("args").unwrap_or(&Value::Null), &join(&inside, "args")).map(drop)
        }
        "functionResponse" => {
            known(
                data,
                &["id", "name", "response", "parts", "willContinue", "scheduling"],
                &inside,
            )?;
            object(
                data.get("response").unwrap_or(&Value::Null),
                &join(&inside, "response"),
            )?;
            for (index, media) in array(data, "parts", &inside)?.iter().enumerate() {
                let path = format!("{inside}.parts[{index}]");
                known(object(media, &path)?, &["inlineData", "fileData"], &path)?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Refuses a signature that was not given: thoughts are sealed by their text, calls by their name.
fn check_signature(part: &Map<String, Value>, path: &str) -> Result<(), Refusal> {
    let Some(signature) = part.get("thoughtSignature") else {
        return Ok(());
    };
    let own = |seal: String| signature.as_str() == Some(&seal);
    let text = part.get("text").and_then(Value::as_str).unwrap_or_default();
    let known = own(fixture::seal(text))
        || own(fixture::seal(CALLS))
        || PLACEHOLDERS.iter().any(|word| signature == word);
    if known {
        return Ok(());
    }
    Err(Refusal::invalid(
        &join(path, "thoughtSignature"),
        "Thought signature is not valid.",
    ))
}

/// What stands for the thoughts behind calls in their signature.
pub const CALLS: &str = "calls";

/// What the documentation allows in place of a signature, for calls that the model did not make itself.
const PLACEHOLDERS: &[&str] = &[
    "context_engineering_is_the_way_to_go",
    "skip_thought_signature_validator",
];

/// Fields whose value is the caller's own JSON.
const OWN: &[&str] = &[
    "args",
    "response",
    "parametersJsonSchema",
    "responseJsonSchema",
    "properties",
    "labels",
];

const KNOWN: &[&str] = &[
    "contents",
    "systemInstruction",
    "tools",
    "toolConfig",
    "generationConfig",
    "safetySettings",
    "cachedContent",
    "labels",
];

const CONFIG: &[&str] = &[
    "temperature",
    "topP",
    "topK",
    "candidateCount",
    "maxOutputTokens",
    "stopSequences",
    "responseMimeType",
    "responseSchema",
    "responseJsonSchema",
    "responseModalities",
    "responseLogprobs",
    "logprobs",
    "presencePenalty",
    "frequencyPenalty",
    "seed",
    "mediaResolution",
    "speechConfig",
    "thinkingConfig",
    "imageConfig",
];

const SCHEMA: &[&str] = &[
    "type",
    "format",
    "title",
    "description",
    "nullable",
    "enum",
    "maxItems",
    "minItems",
    "properties",
    "required",
    "minProperties",
    "maxProperties",
    "minLength",
    "maxLength",
    "pattern",
    "example",
    "anyOf",
    "propertyOrdering",
    "default",
    "items",
    "minimum",
    "maximum",
];

const FUNCTION: &[&str] = &[
    "name",
    "description",
    "behavior",
    "parameters",
    "parametersJsonSchema",
    "response",
    "responseJsonSchema",
];

const PART: &[&str] = &[
    "text",
    "inlineData",
    "fileData",
    "functionCall",
    "functionResponse",
    "executableCode",
    "codeExecutionResult",
    "thought",
    "thoughtSignature",
    "videoMetadata",
    "mediaResolution",
];

const DATA: &[&str] = &[
    "text",
    "inlineData",
    "fileData",
    "functionCall",
    "functionResponse",
    "executableCode",
    "codeExecutionResult",
];
