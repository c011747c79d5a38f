//! What Anthropic's Messages API refuses.
//!
//! Rules: <https://docs.anthropic.com/en/api/messages> and the guides it links to.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::{
    Refusal, array, base64, boolean, count, join, name, number, object, only,
    openai::{check_leaks, check_strict_schema},
    text,
};
use crate::{fixture, upstream::Received};

/// Judges a request to `/v1/messages`; returns its body.
///
/// # Errors
/// The refusal that the provider would send.
pub fn check(request: &Received, key: &str) -> Result<Value, Refusal> {
    check_head(request, key, "/v1/messages")?;
    let value: Value = serde_json::from_slice(&request.body)
        .map_err(|error| Refusal::invalid("", format!("the body is not JSON: {error}")))?;
    check_body(&value)?;
    Ok(value)
}

/// Judges a body alone. Signatures of thinking blocks must be those of [`fixture::seal`].
///
/// # Errors
/// As [`check`].
pub fn check_body(value: &Value) -> Result<(), Refusal> {
    let body = object(value, "")?;
    only(body, KNOWN, "")?;
    text(body, "model", "")?;
    boolean(body, "stream")?;
    let max_tokens = body
        .get("max_tokens")
        .ok_or_else(|| Refusal::invalid("max_tokens", "Field required"))?;
    let max_tokens = max_tokens
        .as_u64()
        .filter(|tokens| *tokens >= 1)
        .ok_or_else(|| Refusal::invalid("max_tokens", "Input should be greater than or equal to 1"))?;
    number(body, "temperature", 0.0..=1.0)?;
    number(body, "top_p", 0.0..=1.0)?;
    number(body, "top_k", 0.0..=f64::MAX)?;
    let stops = array(body, "stop_sequences", "")?;
    if stops
        .iter()
        .any(|stop| stop.as_str().is_none_or(|stop| stop.trim().is_empty()))
    {
        return Err(Refusal::invalid(
            "stop_sequences",
            "each stop sequence must contain non-whitespace",
        ));
    }
    check_output(body)?;
    let thinks = check_thinking(body, max_tokens)?;
    let mut judge = Judge::default();
    judge.system(body)?;
    judge.tools(body, thinks)?;
    judge.messages(array(body, "messages", "")?)?;
    judge.cache_marks_used()
}

/// Judges a request to `/v1/messages/count_tokens`; returns its body as one of Messages.
///
/// # Errors
/// As [`check`].
pub fn check_count(request: &Received, key: &str) -> Result<Value, Refusal> {
    check_head(request, key, "/v1/messages/count_tokens")?;
    count::check_messages(&request.json())
}

fn check_head(request: &Received, key: &str, expected: &str) -> Result<(), Refusal> {
    let path = request.target.split('?').next().unwrap_or_default();
    let refuse = |status, kind, message: &str| {
        Err(Refusal {
            status,
            kind,
            param: String::new(),
            message: message.to_owned(),
        })
    };
    if request.method != "POST" || path != expected {
        return refuse(404, "not_found_error", "Not found");
    }
    if request.headers.get_all("x-api-key").iter().count() != 1 || request.header("x-api-key") != key {
        return refuse(401, "authentication_error", "invalid x-api-key");
    }
    if !VERSIONS.contains(&request.header("anthropic-version")) {
        return Err(Refusal::invalid("", "anthropic-version: header is required"));
    }
    if !request.header("content-type").starts_with("application/json") {
        return Err(Refusal::invalid("", "content-type: application/json is required"));
    }
    check_leaks(request, &["x-api-key"])
}

/// Judges `thinking`; returns whether it is on.
fn check_thinking(body: &Map<String, Value>, max_tokens: u64) -> Result<bool, Refusal> {
    let Some(thinking) = body.get("thinking") else {
        return Ok(false);
    };
    let thinking = object(thinking, "thinking")?;
    match text(thinking, "type", "thinking")? {
        "disabled" => {
            only(thinking, &["type"], "thinking")?;
            return Ok(false);
        }
        "between_tools" => only(thinking, &["type"], "thinking")?,
        "adaptive" => only(thinking, &["type", "display"], "thinking")?,
        "enabled" => {
            only(thinking, &["type", "budget_tokens", "display"], "thinking")?;
            let path = "thinking.enabled.budget_tokens";
            let budget = thinking.get("budget_tokens").and_then(Value::as_u64).unwrap_or(0);
            if budget < 1024 {
                return Err(Refusal::invalid(
                    path,
                    "Input should be greater than or equal to 1024",
                ));
            }
            if budget >= max_tokens {
                return Err(Refusal::invalid(
                    "",
                    "`max_tokens` must be greater than `thinking.budget_tokens`",
                ));
            }
        }
        other => {
            return Err(Refusal::invalid(
                "thinking",
                format!("Input tag '{other}' is unknown"),
            ));
        }
    }
    let fixed = body.get("temperature").and_then(Value::as_f64);
    if fixed.is_some_and(|temperature| temperature < 1.0) {
        return Err(Refusal::invalid(
            "",
            "`temperature` may only be set to 1 when thinking is enabled",
        ));
    }
    if body.contains_key("top_k") {
        return Err(Refusal::invalid(
            "",
            "`top_k` must be unset when thinking is enabled",
        ));
    }
    Ok(true)
}

/// Judges `output_config`: how much effort is made and which schema the answer keeps to.
fn check_output(body: &Map<String, Value>) -> Result<(), Refusal> {
    let path = "output_config";
    let Some(config) = body.get(path) else {
        return Ok(());
    };
    let config = object(config, path)?;
    only(config, &["effort", "format", "task_budget"], path)?;
    if let Some(effort) = config.get("effort").and_then(Value::as_str)
        && !["low", "medium", "high", "xhigh", "max"].contains(&effort)
    {
        return Err(Refusal::invalid(
            "output_config.effort",
            "Input should be a known effort",
        ));
    }
    let Some(format) = config.get("format") else {
        return Ok(());
    };
    let path = "output_config.format";
    let format = object(format, path)?;
    only(format, &["type", "schema"], path)?;
    if text(format, "type", path)? != "json_schema" {
        return Err(Refusal::invalid(
            "output_config.format.type",
            "Input should be 'json_schema'",
        ));
    }
    let path = "output_config.format.schema";
    check_strict_schema(format.get("schema").unwrap_or(&Value::Null), path, false)
}

/// What must be remembered while a body is judged from top to bottom.
#[derive(Default)]
struct Judge<'v> {
    cache_marks: usize,
    tools: HashSet<&'v str>,
    ids: HashSet<&'v str>,
}

impl<'v> Judge<'v> {
    fn system(&mut self, body: &'v Map<String, Value>) -> Result<(), Refusal> {
        match body.get("system") {
            None | Some(Value::String(_)) => Ok(()),
            Some(Value::Array(blocks)) => blocks
                .iter()
                .enumerate()
                .try_for_each(|(index, block)| self.block(block, &["text"], &format!("system.{index}"))),
            Some(_) => Err(Refusal::invalid("system", "a string or text blocks are expected")),
        }
    }

    fn tools(&mut self, body: &'v Map<String, Value>, thinks: bool) -> Result<(), Refusal> {
        for (index, tool) in array(body, "tools", "")?.iter().enumerate() {
            let path = format!("tools.{index}");
            let tool = object(tool, &path)?;
            let kind = tool.get("type").and_then(Value::as_str).unwrap_or("custom");
            let tool_name = text(tool, "name", &path)?;
            name(tool_name, 128, &join(&path, "name"))?;
            if !self.tools.insert(tool_name) {
                return Err(Refusal::invalid("tools", "Tool names must be unique."));
            }
            self.cache_mark(tool, &path)?;
            if kind != "custom" {
                continue;
            }
            only(tool, CUSTOM_TOOL, &path)?;
            let path = join(&path, "input_schema");
            let schema = tool
                .get("input_schema")
                .ok_or_else(|| Refusal::invalid(&path, "Field required"))?;
            if object(schema, &path)?.get("type").and_then(Value::as_str) != Some("object") {
                return Err(Refusal::invalid(&join(&path, "type"), "Input should be 'object'"));
            }
        }
        self.tool_choice(body, thinks)
    }

    fn tool_choice(&self, body: &Map<String, Value>, thinks: bool) -> Result<(), Refusal> {
        let Some(choice) = body.get("tool_choice") else {
            return Ok(());
        };
        if self.tools.is_empty() {
            return Err(Refusal::invalid(
                "tool_choice",
                "tool_choice may only be specified while providing tools",
            ));
        }
        let path = "tool_choice";
        let choice = object(choice, path)?;
        let kind = text(choice, "type", path)?;
        match kind {
            "none" => only(choice, &["type"], path)?,
            "auto" | "any" => only(choice, &["type", "disable_parallel_tool_use"], path)?,
            "tool" => {
                only(choice, &["type", "name", "disable_parallel_tool_use"], path)?;
                if !self.tools.contains(text(choice, "name", path)?) {
                    return Err(Refusal::invalid(path, "the tool is not among the tools"));
                }
            }
            other => {
                return Err(Refusal::invalid(path, format!("Input tag '{other}' is unknown")));
            }
        }
        if thinks && (kind == "any" || kind == "tool") {
            return Err(Refusal::invalid(
                "",
                "Thinking may not be enabled when tool_choice forces tool use.",
            ));
        }
        Ok(())
    }

    fn messages(&mut self, messages: &'v [Value]) -> Result<(), Refusal> {
        if messages.is_empty() {
            return Err(Refusal::invalid("messages", "at least one message is required"));
        }
        let mut called: HashSet<&str> = HashSet::new();
        for (index, message) in messages.iter().enumerate() {
            let path = format!("messages.{index}");
            let message = object(message, &path)?;
            only(message, &["role", "content"], &path)?;
            let role = text(message, "role", &path)?;
            if !["user", "assistant", "system"].contains(&role) {
                return Err(Refusal::invalid(
                    &join(&path, "role"),
                    "Input should be 'user', 'assistant' or 'system'",
                ));
            }
            if index == 0 && role != "user" {
                return Err(Refusal::invalid(
                    "messages",
                    "first message must use the \"user\" role",
                ));
            }
            let last = index + 1 == messages.len();
            let blocks = self.content(message, role, last, &path)?;
            // Turns of the same role in a row are combined, but results must stand in one message, the next one.
            check_results(blocks, &called, &path)?;
            called = uses(blocks);
        }
        if called.is_empty() {
            Ok(())
        } else {
            Err(Refusal::invalid(
                "messages",
                "`tool_use` ids were found without `tool_result` blocks immediately after",
            ))
        }
    }

    fn content(
        &mut self,
        message: &'v Map<String, Value>,
        role: &str,
        last: bool,
        path: &str,
    ) -> Result<&'v [Value], Refusal> {
        let empty = Err(Refusal::invalid(
            path,
            "all messages must have non-empty content except for the optional final assistant message",
        ));
        match message.get("content") {
            Some(Value::String(content)) if content.trim().is_empty() => empty,
            Some(Value::String(content)) => {
                if last && role == "assistant" && content.ends_with(char::is_whitespace) {
                    return Err(Refusal::invalid(
                        "messages",
                        "final assistant content cannot end with trailing whitespace",
                    ));
                }
                Ok(&[])
            }
            Some(Value::Array(blocks)) if blocks.is_empty() && !(last && role == "assistant") => empty,
            Some(Value::Array(blocks)) => {
                let kinds = match role {
                    "user" => USER,
                    "assistant" => ASSISTANT,
                    _ => &["text"],
                };
                for (index, block) in blocks.iter().enumerate() {
                    self.block(block, kinds, &format!("{path}.content.{index}"))?;
                }
                Ok(blocks)
            }
            _ => Err(Refusal::invalid(&join(path, "content"), "Field required")),
        }
    }

    fn block(&mut self, block: &'v Value, kinds: &[&str], path: &str) -> Result<(), Refusal> {
        let block = object(block, path)?;
        let kind = text(block, "type", path)?;
        if !kinds.contains(&kind) {
            return Err(Refusal::invalid(
                path,
                format!(
                    "Input tag '{kind}' found using 'type' does not match any of the expected tags: {kinds:?}"
                ),
            ));
        }
        self.cache_mark(block, path)?;
        match kind {
            "text" => {
                only(block, &["type", "text", "cache_control", "citations"], path)?;
                let said = block.get("text").and_then(Value::as_str).unwrap_or_default();
                if said.trim().is_empty() {
                    return Err(Refusal::invalid(
                        path,
                        "text content blocks must be non-empty and contain non-whitespace text",
                    ));
                }
                Ok(())
            }
            "image" => {
                only(block, &["type", "source", "cache_control"], path)?;
                check_source(block, &["base64", "url", "file"], IMAGES, path)
            }
            "document" => {
                only(
                    block,
                    &["type", "source", "cache_control", "citations", "context", "title"],
                    path,
                )?;
                check_source(
                    block,
                    &["base64", "url", "file", "text", "content"],
                    &["application/pdf", "text/plain"],
                    path,
                )
            }
            "thinking" => {
                only(block, &["type", "thinking", "signature"], path)?;
                let thought = block.get("thinking").and_then(Value::as_str).unwrap_or_default();
                if text(block, "signature", path)? != fixture::seal(thought) {
                    return Err(Refusal::invalid(path, "Invalid `signature` in `thinking` block"));
                }
                Ok(())
            }
            "redacted_thinking" => {
                only(block, &["type", "data"], path)?;
                if text(block, "data", path)? != fixture::REDACTED {
                    return Err(Refusal::invalid(
                        path,
                        "Invalid `data` in `redacted_thinking` block",
                    ));
                }
                Ok(())
            }
            "search_result" => {
                let members = ["type", "source", "title", "content", "citations", "cache_control"];
                only(block, &members, path)?;
                text(block, "source", path)?;
                text(block, "title", path)?;
                let texts = array(block, "content", path)?.iter().enumerate();
                texts
                    .map(|(index, inner)| (inner, format!("{path}.content.{index}")))
                    .try_for_each(|(inner, path)| self.block(inner, &["text"], &path))
            }
            "tool_use" => self.tool_use(block, path),
            "tool_result" => self.tool_result(block, path),
            _ => Ok(()),
        }
    }

    fn tool_use(&mut self, block: &'v Map<String, Value>, path: &str) -> Result<(), Refusal> {
        only(
            block,
            &["type", "id", "name", "input", "cache_control", "caller"],
            path,
        )?;
        let id = text(block, "id", path)?;
        name(id, 256, &join(path, "id"))?;
        if !self.ids.insert(id) {
            return Err(Refusal::invalid("messages", "`tool_use` ids must be unique"));
        }
        name(text(block, "name", path)?, 200, &join(path, "name"))?;
        let path = join(path, "input");
        object(block.get("input").unwrap_or(&Value::Null), &path).map(|_| ())
    }

    fn tool_result(&mut self, block: &'v Map<String, Value>, path: &str) -> Result<(), Refusal> {
        only(
            block,
            &["type", "tool_use_id", "content", "is_error", "cache_control"],
            path,
        )?;
        text(block, "tool_use_id", path)?;
        boolean(block, "is_error")?;
        match block.get("content") {
            None | Some(Value::String(_)) => Ok(()),
            Some(Value::Array(inner)) => inner.iter().enumerate().try_for_each(|(index, inner)| {
                let kinds = ["text", "image", "document", "search_result"];
                self.block(inner, &kinds, &format!("{path}.content.{index}"))
            }),
            Some(_) => Err(Refusal::invalid(
                &join(path, "content"),
                "a string or blocks are expected",
            )),
        }
    }

    fn cache_mark(&mut self, block: &Map<String, Value>, path: &str) -> Result<(), Refusal> {
        let Some(mark) = block.get("cache_control").filter(|mark| !mark.is_null()) else {
            return Ok(());
        };
        self.cache_marks += 1;
        let path = join(path, "cache_control");
        let mark = object(mark, &path)?;
        only(mark, &["type", "ttl"], &path)?;
        let ttl = mark.get("ttl").and_then(Value::as_str).unwrap_or("5m");
        if text(mark, "type", &path)? != "ephemeral" || !["5m", "1h"].contains(&ttl) {
            return Err(Refusal::invalid(&path, "unknown cache control"));
        }
        Ok(())
    }

    fn cache_marks_used(&self) -> Result<(), Refusal> {
        if self.cache_marks <= 4 {
            return Ok(());
        }
        Err(Refusal::invalid(
            "",
            format!(
                "A maximum of 4 blocks with cache_control may be provided. Found {}.",
                self.cache_marks
            ),
        ))
    }
}

/// Judges the results in a user's message: they answer the calls just before, all of them, and come first.
fn check_results(blocks: &[Value], called: &HashSet<&str>, path: &str) -> Result<(), Refusal> {
    let kind = |block: &Value| block.get("type").and_then(Value::as_str) == Some("tool_result");
    let results = blocks.iter().take_while(|block| kind(block)).count();
    if blocks.iter().skip(results).any(kind) {
        return Err(Refusal::invalid(
            path,
            "`tool_result` blocks must come before other content",
        ));
    }
    let mut answered = HashSet::new();
    for result in blocks.iter().take(results) {
        let id = result
            .get("tool_use_id")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if !called.contains(id) || !answered.insert(id) {
            return Err(Refusal::invalid(
                path,
                format!(
                    "unexpected `tool_use_id` found in `tool_result` blocks: {id}. Each `tool_result` block must have a \
                     corresponding `tool_use` block in the previous message."
                ),
            ));
        }
    }
    if answered.len() == called.len() {
        return Ok(());
    }
    Err(Refusal::invalid(
        path,
        "`tool_use` ids were found without `tool_result` blocks immediately after",
    ))
}

fn uses(blocks: &[Value]) -> HashSet<&str> {
    blocks
        .iter()
        .filter(|block| block.get("type").and_then(Value::as_str) == Some("tool_use"))
        .filter_map(|block| block.get("id").and_then(Value::as_str))
        .collect()
}

fn check_source(
    block: &Map<String, Value>,
    kinds: &[&str],
    media: &[&str],
    path: &str,
) -> Result<(), Refusal> {
    let path = join(path, "source");
    let source = object(block.get("source").unwrap_or(&Value::Null), &path)?;
    let kind = text(source, "type", &path)?;
    if !kinds.contains(&kind) {
        return Err(Refusal::invalid(&path, format!("Input tag '{kind}' is unknown")));
    }
    match kind {
        "base64" => {
            only(source, &["type", "media_type", "data"], &path)?;
            if !media.contains(&text(source, "media_type", &path)?) {
                return Err(Refusal::invalid(
                    &join(&path, "media_type"),
                    "this media type is not supported",
                ));
            }
            base64(text(source, "data", &path)?, &join(&path, "data"))
        }
        "url" => {
            only(source, &["type", "url"], &path)?;
            let url = text(source, "url", &path)?;
            if url.starts_with("https://") {
                Ok(())
            } else {
                Err(Refusal::invalid(
                    &join(&path, "url"),
                    "Only HTTPS URLs are supported.",
                ))
            }
        }
        _ => Ok(()),
    }
}

/// The version that the public reference documents, and the one that the current official SDK sends.
const VERSIONS: &[&str] = &["2023-06-01", "2026-10-21"];
const IMAGES: &[&str] = &["image/jpeg", "image/png", "image/gif", "image/webp"];
const USER: &[&str] = &["text", "image", "document", "search_result", "tool_result"];
const ASSISTANT: &[&str] = &[
    "text",
    "thinking",
    "redacted_thinking",
    "tool_use",
    "server_tool_use",
    "web_search_tool_result",
];
const CUSTOM_TOOL: &[&str] = &[
    "type",
    "name",
    "description",
    "input_schema",
    "cache_control",
    "strict",
    "defer_loading",
    "input_examples",
    "allowed_callers",
    "eager_input_streaming",
];
const KNOWN: &[&str] = &[
    "cache_control",
    "container",
    "context_management",
    "diagnostics",
    "inference_geo",
    "max_tokens",
    "mcp_servers",
    "messages",
    "metadata",
    "model",
    "output_config",
    "output_format",
    "service_tier",
    "speed",
    "stop_sequences",
    "stream",
    "system",
    "temperature",
    "thinking",
    "tool_choice",
    "tools",
    "top_k",
    "top_p",
    "user_profile_id",
    "workspace_id",
];
