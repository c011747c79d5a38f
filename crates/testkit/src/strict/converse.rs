//! What Amazon Bedrock's Converse refuses.
//!
//! Rules: <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html>.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::{Refusal, array, base64, beta, boolean, join, name, number, object, only, text};
use crate::fixture;

/// Judges a body.
///
/// # Errors
/// The refusal that the provider would send.
pub fn check_body(value: &Value) -> Result<(), Refusal> {
    let body = object(value, "")?;
    only(body, KNOWN, "")?;
    check_inference(body)?;
    if let Some(fields) = body.get("additionalModelRequestFields") {
        beta::check_fields(fields)?;
    }
    let has_tools = check_tools(body)?;
    for (index, block) in array(body, "system", "")?.iter().enumerate() {
        let path = format!("system[{index}]");
        check_block(block, &["text", "guardContent", "cachePoint"], &path)?;
    }
    let uses_tools = check_messages(array(body, "messages", "")?)?;
    if uses_tools && !has_tools {
        return Err(Refusal::invalid(
            "toolConfig",
            "The toolConfig field must be defined when using toolUse and toolResult content blocks.",
        ));
    }
    Ok(())
}

fn check_inference(body: &Map<String, Value>) -> Result<(), Refusal> {
    let path = "inferenceConfig";
    let Some(config) = body.get(path) else {
        return Ok(());
    };
    let config = object(config, path)?;
    only(
        config,
        &["maxTokens", "temperature", "topP", "stopSequences"],
        path,
    )?;
    number(config, "maxTokens", 1.0..=f64::MAX)?;
    number(config, "temperature", 0.0..=1.0)?;
    number(config, "topP", 0.0..=1.0)
}

/// Judges the tools; returns whether there are any.
fn check_tools(body: &Map<String, Value>) -> Result<bool, Refusal> {
    let Some(config) = body.get("toolConfig") else {
        return Ok(false);
    };
    let config = object(config, "toolConfig")?;
    only(config, &["tools", "toolChoice"], "toolConfig")?;
    let tools = array(config, "tools", "toolConfig")?;
    let mut names = HashSet::new();
    for (index, tool) in tools.iter().enumerate() {
        let path = format!("toolConfig.tools[{index}]");
        let tool = object(tool, &path)?;
        if tool.len() != 1 {
            return Err(Refusal::invalid(&path, "a tool is exactly one of its kinds"));
        }
        if tool.contains_key("cachePoint") {
            continue;
        }
        let path = join(&path, "toolSpec");
        let spec = object(tool.get("toolSpec").unwrap_or(&Value::Null), &path)?;
        only(spec, &["name", "description", "inputSchema", "strict"], &path)?;
        let called = text(spec, "name", &path)?;
        name(called, 64, &join(&path, "name"))?;
        if spec.contains_key("description") {
            text(spec, "description", &path)?;
        }
        let schema = spec.get("inputSchema").and_then(|schema| schema.get("json"));
        object(schema.unwrap_or(&Value::Null), &join(&path, "inputSchema.json"))?;
        names.insert(called);
    }
    if names.is_empty() {
        return Err(Refusal::invalid(
            "toolConfig.tools",
            "at least one tool is required",
        ));
    }
    let Some(choice) = config.get("toolChoice") else {
        return Ok(true);
    };
    let path = "toolConfig.toolChoice";
    let choice = object(choice, path)?;
    only(choice, &["auto", "any", "tool"], path)?;
    match choice.get("tool").map(|tool| &tool["name"]) {
        Some(chosen) if !names.iter().any(|name| chosen == name) => {
            Err(Refusal::invalid(path, format!("{chosen} is not a tool")))
        }
        _ if choice.len() != 1 => Err(Refusal::invalid(path, "exactly one choice is expected")),
        _ => Ok(true),
    }
}

/// Judges the conversation; returns whether tools are part of it.
fn check_messages(messages: &[Value]) -> Result<bool, Refusal> {
    let mut unanswered: HashSet<&str> = HashSet::new();
    let mut uses_tools = false;
    let mut speaker = "assistant";
    for (index, message) in messages.iter().enumerate() {
        let path = format!("messages[{index}]");
        let message = object(message, &path)?;
        only(message, &["role", "content"], &path)?;
        let role = text(message, "role", &path)?;
        if role == speaker || !["user", "assistant"].contains(&role) {
            let reason = "A conversation must alternate between user and assistant roles.";
            return Err(Refusal::invalid(&path, reason));
        }
        speaker = role;
        let content = array(message, "content", &path)?;
        if content.is_empty() {
            return Err(Refusal::invalid(&join(&path, "content"), "content is empty"));
        }
        for (index, block) in content.iter().enumerate() {
            let path = format!("{path}.content[{index}]");
            check_block(block, if role == "user" { USER } else { ASSISTANT }, &path)?;
            if let Some(id) = block.pointer("/toolResult/toolUseId").and_then(Value::as_str)
                && !unanswered.remove(id)
            {
                let reason =
                    "The number of toolResult blocks exceeds the number of toolUse blocks of previous turn.";
                return Err(Refusal::invalid(&path, reason));
            }
        }
        if !unanswered.is_empty() {
            let reason = format!("Expected toolResult blocks for the following Ids: {unanswered:?}");
            return Err(Refusal::invalid(&path, reason));
        }
        let calls = content
            .iter()
            .filter_map(|block| block.pointer("/toolUse/toolUseId")?.as_str());
        unanswered.extend(calls);
        uses_tools |= !unanswered.is_empty();
    }
    match messages.last().map(|last| &last["role"]) {
        Some(role) if role == "user" => Ok(uses_tools),
        _ => Err(Refusal::invalid(
            "messages",
            "A conversation must end with a user message.",
        )),
    }
}

fn check_block(block: &Value, kinds: &[&str], path: &str) -> Result<(), Refusal> {
    let block = object(block, path)?;
    only(block, kinds, path)?;
    let Some((kind, value)) = block.iter().next().filter(|_| block.len() == 1) else {
        return Err(Refusal::invalid(path, "a block is exactly one of its kinds"));
    };
    let path = join(path, kind);
    match kind.as_str() {
        "text" => {
            let said = value.as_str().unwrap_or_default();
            if said.trim().is_empty() {
                return Err(Refusal::invalid(
                    &path,
                    "The text field in the ContentBlock object is blank.",
                ));
            }
            Ok(())
        }
        "cachePoint" => {
            let point = object(value, &path)?;
            only(point, &["type", "ttl"], &path)?;
            text(point, "type", &path).map(drop)
        }
        "image" => check_source(
            value,
            &["png", "jpeg", "gif", "webp"],
            &["format", "source"],
            &path,
        ),
        "document" => {
            let formats = ["pdf", "csv", "doc", "docx", "xls", "xlsx", "html", "txt", "md"];
            let members = ["format", "name", "source", "context", "citations"];
            let document = object(value, &path)?;
            text(document, "name", &path)?;
            check_citable(document, &path)?;
            check_source(value, &formats, &members, &path)
        }
        "searchResult" => check_search_result(object(value, &path)?, &path),
        "citationsContent" => {
            let cited = object(value, &path)?;
            only(cited, &["content", "citations"], &path)?;
            check_texts(cited, &path)?;
            for (index, citation) in array(cited, "citations", &path)?.iter().enumerate() {
                let path = format!("{path}.citations[{index}]");
                let members = ["title", "source", "sourceContent", "location"];
                only(object(citation, &path)?, &members, &path)?;
            }
            Ok(())
        }
        "toolUse" => {
            let call = object(value, &path)?;
            only(call, &["toolUseId", "name", "input"], &path)?;
            name(text(call, "toolUseId", &path)?, 64, &join(&path, "toolUseId"))?;
            name(text(call, "name", &path)?, 64, &join(&path, "name"))?;
            object(call.get("input").unwrap_or(&Value::Null), &join(&path, "input")).map(drop)
        }
        "toolResult" => {
            let result = object(value, &path)?;
            only(result, &["toolUseId", "content", "status"], &path)?;
            for (index, block) in array(result, "content", &path)?.iter().enumerate() {
                let path = format!("{path}.content[{index}]");
                let kinds = ["text", "json", "image", "document", "video", "searchResult"];
                check_block(block, &kinds, &path)?;
            }
            Ok(())
        }
        "reasoningContent" => check_reasoning(object(value, &path)?, &path),
        _ => Ok(()),
    }
}

fn check_search_result(result: &Map<String, Value>, path: &str) -> Result<(), Refusal> {
    only(result, &["source", "title", "content", "citations"], path)?;
    text(result, "source", path)?;
    text(result, "title", path)?;
    check_texts(result, path)?;
    if !result.contains_key("citations") {
        return Err(Refusal::invalid(
            &join(path, "citations"),
            "this member is required",
        ));
    }
    check_citable(result, path)
}

/// Judges a content that is made of texts and nothing else.
fn check_texts(holder: &Map<String, Value>, path: &str) -> Result<(), Refusal> {
    let path_of = |index| format!("{path}.content[{index}]");
    for (index, block) in array(holder, "content", path)?.iter().enumerate() {
        let block = object(block, &path_of(index))?;
        only(block, &["text"], &path_of(index))?;
        text(block, "text", &path_of(index))?;
    }
    Ok(())
}

fn check_citable(holder: &Map<String, Value>, path: &str) -> Result<(), Refusal> {
    let Some(citations) = holder.get("citations") else {
        return Ok(());
    };
    let path = join(path, "citations");
    let citations = object(citations, &path)?;
    only(citations, &["enabled"], &path)?;
    boolean(citations, "enabled").map(drop)
}

fn check_source(value: &Value, formats: &[&str], members: &[&str], path: &str) -> Result<(), Refusal> {
    let medium = object(value, path)?;
    only(medium, members, path)?;
    let format = text(medium, "format", path)?;
    if !formats.contains(&format) {
        return Err(Refusal::invalid(
            &join(path, "format"),
            format!("{format} is not supported"),
        ));
    }
    let path = join(path, "source");
    let source = object(medium.get("source").unwrap_or(&Value::Null), &path)?;
    only(source, &["bytes", "s3Location", "text", "content"], &path)?;
    match source.get("bytes").and_then(Value::as_str) {
        Some(bytes) => base64(bytes, &join(&path, "bytes")),
        None => Ok(()),
    }
}

/// Refuses reasoning that was not given with this signature.
fn check_reasoning(reasoning: &Map<String, Value>, path: &str) -> Result<(), Refusal> {
    only(reasoning, &["reasoningText", "redactedContent"], path)?;
    let Some(said) = reasoning.get("reasoningText") else {
        return Ok(());
    };
    let path = join(path, "reasoningText");
    let said = object(said, &path)?;
    only(said, &["text", "signature"], &path)?;
    if text(said, "signature", &path)? == fixture::seal(text(said, "text", &path)?) {
        return Ok(());
    }
    Err(Refusal::invalid(&path, "Invalid `signature` in `thinking` block"))
}

const USER: &[&str] = &[
    "text",
    "image",
    "document",
    "video",
    "toolResult",
    "guardContent",
    "cachePoint",
    "searchResult",
];

const ASSISTANT: &[&str] = &[
    "text",
    "toolUse",
    "reasoningContent",
    "cachePoint",
    "citationsContent",
];

const KNOWN: &[&str] = &[
    "messages",
    "system",
    "inferenceConfig",
    "toolConfig",
    "guardrailConfig",
    "additionalModelRequestFields",
    "additionalModelResponseFieldPaths",
    "promptVariables",
    "requestMetadata",
    "performanceConfig",
    "outputConfig",
    "serviceTier",
];
