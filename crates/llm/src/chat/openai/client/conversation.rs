//! Reads `messages` into instructions and turns.

use serde_json::value::RawValue;

use super::{
    super::{reasoning, wire},
    part::{self, Speaker},
    request::require,
};
use crate::{
    ApiError, Field, Losses, Severity,
    chat::{Extensions, Part, PartBody, Role, ToolCall, ToolKind, ToolResult, Turn},
    json::{self, Kind, Object, Path},
};

/// What `messages` holds.
pub(super) struct Conversation {
    /// The parts of the system and developer messages before all others.
    pub(super) instructions: Vec<Part>,
    /// The other messages, one turn each.
    pub(super) turns: Vec<Turn>,
}

/// Reads `messages`, which lie at `path`.
///
/// `developer` is OpenAI's newer word for `system`; nothing else tells them apart.
pub(super) fn decode(
    messages: Vec<Object<'_>>,
    path: &Path<'_>,
    losses: &mut Losses,
) -> Result<Conversation, ApiError> {
    if messages.is_empty() {
        return Err(path.invalid("at least one message is required"));
    }
    let mut conversation = Conversation {
        instructions: Vec::new(),
        turns: Vec::with_capacity(messages.len()),
    };
    for (index, message) in messages.into_iter().enumerate() {
        let path = path.index(index);
        let mut turn = turn(message, &path, index, losses)?;
        if turn.role == Role::System && conversation.turns.is_empty() {
            if turn.name.is_some() {
                losses.advisory(Field::Message(index), "instructions have no speaker's name");
            }
            if let Some(last) = turn.parts.last_mut() {
                last.extensions.0.append(&mut turn.extensions.0);
            }
            conversation.instructions.append(&mut turn.parts);
        } else {
            conversation.turns.push(turn);
        }
    }
    Ok(conversation)
}

fn turn(
    mut message: Object<'_>,
    path: &Path<'_>,
    origin: usize,
    losses: &mut Losses,
) -> Result<Turn, ApiError> {
    let role: String = message.required("role", path)?;
    let mut extensions = Extensions::default();
    let (role, mut parts) = match role.as_str() {
        "system" | "developer" => {
            let raw = require(&mut message, "content", path)?;
            let parts = content(raw, &path.key("content"), Speaker::System, losses)?;
            (Role::System, parts)
        }
        "user" => {
            let raw = require(&mut message, "content", path)?;
            let parts = content(raw, &path.key("content"), Speaker::User, losses)?;
            (Role::User, parts)
        }
        "assistant" => (Role::Assistant, assistant(&mut message, path, losses)?),
        "tool" => (Role::User, vec![tool_result(&mut message, path, losses)?]),
        role => {
            return Err(path.key("role").invalid(format!(
                "\"{role}\" is not one of \"system\", \"developer\", \"user\", \"assistant\" and \"tool\""
            )));
        }
    };
    let mark = part::cache_mark(&mut message, path, &mut extensions, losses)?;
    if let (Some(mark), Some(last)) = (mark, parts.last_mut()) {
        last.cache = Some(mark);
    }
    let name = message.optional("name", path)?;
    for (key, value) in message.rest() {
        let severity = wire::message_severity(&key);
        extensions.0.push(wire::extension(key, value, severity));
    }
    Ok(Turn {
        role,
        parts,
        origin,
        name,
        extensions,
    })
}

/// Reads a string, an array of parts or, from assistants, a single part.
fn content(
    raw: &RawValue,
    path: &Path<'_>,
    speaker: Speaker,
    losses: &mut Losses,
) -> Result<Vec<Part>, ApiError> {
    match (json::kind(raw), speaker) {
        (Kind::String, _) => Ok(vec![Part::text(json::text(raw, path)?)]),
        (Kind::Array, _) => json::elements(raw, path)?
            .into_iter()
            .enumerate()
            .map(|(index, raw)| part::decode(raw, &path.index(index), speaker, losses))
            .collect(),
        (Kind::Object, Speaker::Assistant) => Ok(vec![part::decode(raw, path, speaker, losses)?]),
        (Kind::Object | Kind::Number | Kind::Bool | Kind::Null, _) => {
            Err(path.invalid("expected a string or an array of parts"))
        }
    }
}

/// Reads what the model said: reasoning, content, pictures, a refusal, calls; in the order in which it said them.
fn assistant(message: &mut Object<'_>, path: &Path<'_>, losses: &mut Losses) -> Result<Vec<Part>, ApiError> {
    let said = match message.take("content") {
        Some(raw) => content(raw, &path.key("content"), Speaker::Assistant, losses)?,
        None => Vec::new(),
    };
    // Reasoning among the parts is in its place; beside them it would be said twice.
    let thoughts = thoughts(message, path, losses)?;
    let placed = said
        .iter()
        .any(|part| matches!(part.body, PartBody::Reasoning(_)));
    let mut parts = if placed { Vec::new() } else { thoughts };
    parts.extend(said);
    // As answers show pictures (OpenRouter, "Image generation").
    if let Some(raw) = message.take("images") {
        parts.extend(content(raw, &path.key("images"), Speaker::Assistant, losses)?);
    }
    let refusal: Option<String> = message.optional("refusal", path)?;
    parts.extend(refusal.map(|refusal| Part::new(PartBody::Refusal(refusal))));
    if let Some(raw) = message.take("tool_calls") {
        let path = path.key("tool_calls");
        for (index, raw) in json::elements(raw, &path)?.into_iter().enumerate() {
            parts.push(tool_call(raw, &path.index(index), losses)?);
        }
    }
    Ok(parts)
}

/// Reads `thinking_blocks` or, where there are none, `reasoning_content`, which says the same without seals.
fn thoughts(message: &mut Object<'_>, path: &Path<'_>, losses: &mut Losses) -> Result<Vec<Part>, ApiError> {
    let blocks = message.take("thinking_blocks");
    let content = message.take("reasoning_content");
    let reasoned = match (blocks, content) {
        (Some(raw), _) => {
            let path = path.key("thinking_blocks");
            let blocks = json::elements(raw, &path)?.into_iter().enumerate();
            blocks
                .map(|(index, raw)| {
                    let path = path.index(index);
                    reasoning::read_thinking(raw, &path, losses)
                        .ok_or_else(|| path.invalid("expected a thinking block"))
                })
                .collect::<Result<Vec<_>, _>>()?
        }
        (None, Some(raw)) => reasoning::read_reasoning(raw, &path.key("reasoning_content"), losses),
        (None, None) => Vec::new(),
    };
    Ok(reasoned
        .into_iter()
        .map(|reasoned| Part::new(PartBody::Reasoning(reasoned)))
        .collect())
}

fn tool_call(raw: &RawValue, path: &Path<'_>, losses: &mut Losses) -> Result<Part, ApiError> {
    let mut call = Object::parse(raw, path)?;
    let id: String = call.required("id", path)?;
    if id.is_empty() {
        return Err(path.key("id").invalid("a tool call must have an id"));
    }
    // Clients that gather a stream keep the position of the call, which means nothing here.
    call.take("index");
    let kind: Option<String> = call.optional("type", path)?;
    let (kind, member, text) = match kind.as_deref() {
        Some("function") | None => (ToolKind::Function, "function", "arguments"),
        Some("custom") => (ToolKind::Custom, "custom", "input"),
        Some(kind) => {
            return Err(path
                .key("type")
                .invalid(format!("\"{kind}\" is not one of \"function\" and \"custom\"")));
        }
    };
    let at = path.key(member);
    let mut inner = Object::parse(require(&mut call, member, path)?, &at)?;
    let name = inner.required("name", &at)?;
    let arguments: String = inner.required(text, &at)?;
    if kind == ToolKind::Function && !arguments.is_empty() {
        serde_json::from_str::<serde::de::IgnoredAny>(&arguments)
            .map_err(|error| at.key(text).invalid(format!("this is not JSON text: {error}")))?;
    }
    let mut part = Part::new(PartBody::ToolCall(ToolCall {
        id,
        name,
        arguments,
        kind,
    }));
    part.cache = part::cache_mark(&mut call, path, &mut part.extensions, losses)?;
    losses.rest(inner, &at);
    part.extensions.0.extend(
        call.rest()
            .map(|(key, value)| wire::extension(key, value, Severity::Advisory)),
    );
    Ok(part)
}

fn tool_result(message: &mut Object<'_>, path: &Path<'_>, losses: &mut Losses) -> Result<Part, ApiError> {
    let call: String = message.required("tool_call_id", path)?;
    if call.is_empty() {
        return Err(path
            .key("tool_call_id")
            .invalid("a result must name the call that it answers"));
    }
    let raw = require(message, "content", path)?;
    let parts = content(raw, &path.key("content"), Speaker::User, losses)?;
    let mut part = Part::new(PartBody::ToolResult(ToolResult {
        call,
        parts,
        is_error: None,
    }));
    // Some clients repeat the tool's name here, where it is no speaker.
    if let Some(name) = message.take("name") {
        part.extensions
            .0
            .push(wire::extension("name", name, Severity::Advisory));
    }
    Ok(part)
}
