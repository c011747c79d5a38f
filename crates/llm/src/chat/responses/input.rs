//! Reads `input` into instructions and turns.

use serde_json::value::RawValue;

use super::{content, wire};
use crate::{
    ApiError, Field, Format, Losses, Severity,
    chat::{Extensions, Part, PartBody, Reasoned, Role, ToolCall, ToolKind, ToolResult, Turn},
    json::{self, Kind, Object, Path},
    media::{Media, MediaKind, Source},
};

/// Put before the name of a member that an item has, not the part of its content that carries it.
pub(super) const OF_ITEM: &str = "item.";

/// Members that mean something only where items are stored.
const STORED: &[&str] = &["id", "status", "created_by", "object"];

/// What `input` holds.
#[derive(Default)]
pub(super) struct Conversation {
    /// The texts of the system and developer messages before all others.
    pub(super) instructions: Vec<Part>,
    /// The other items; those that follow one another and are of one speaker make one turn.
    pub(super) turns: Vec<Turn>,
}

/// Reads `raw`, which lies at `path`: a string or an array of items.
///
/// # Errors
/// A 400 that names the item at fault.
pub(super) fn decode(raw: &RawValue, path: &Path<'_>, losses: &mut Losses) -> Result<Conversation, ApiError> {
    let mut conversation = Conversation::default();
    match json::kind(raw) {
        Kind::String => {
            let text = json::read::<String>(raw, path)?;
            conversation.add(0, Role::User, vec![Part::text(text)]);
        }
        Kind::Array => {
            for (index, raw) in json::elements(raw, path)?.into_iter().enumerate() {
                let (role, parts) = item(raw, &path.index(index), losses)?;
                conversation.add(index, role, parts);
            }
        }
        Kind::Object | Kind::Number | Kind::Bool | Kind::Null => {
            return Err(path.invalid("expected a string or an array of items"));
        }
    }
    Ok(conversation)
}

impl Conversation {
    fn add(&mut self, origin: usize, role: Role, mut parts: Vec<Part>) {
        let texts = parts.iter().all(|part| matches!(part.body, PartBody::Text(_)));
        if role == Role::System && self.turns.is_empty() && texts {
            self.instructions.append(&mut parts);
            return;
        }
        match self.turns.last_mut() {
            // What users say are messages of their own; results, and all that the model does at a time, belong
            // together.
            Some(last) if last.role == role && (role == Role::Assistant || both_results(last, &parts)) => {
                last.parts.append(&mut parts);
            }
            _ => self.turns.push(Turn {
                role,
                parts,
                origin,
                name: None,
                extensions: Extensions::default(),
            }),
        }
    }
}

fn both_results(turn: &Turn, parts: &[Part]) -> bool {
    let mut all = turn.parts.iter().chain(parts);
    all.all(|part| matches!(part.body, PartBody::ToolResult(_)))
}

fn item(raw: &RawValue, path: &Path<'_>, losses: &mut Losses) -> Result<(Role, Vec<Part>), ApiError> {
    let mut object = Object::parse(raw, path)?;
    let kind: Option<String> = object.optional("type", path)?;
    let kind = kind.unwrap_or_else(|| implied(&object).to_owned());
    let (role, mut parts) = match kind.as_str() {
        "message" => message(&mut object, path, losses)?,
        "reasoning" => (Role::Assistant, vec![reasoning(&mut object, path, losses)?]),
        "function_call" => (
            Role::Assistant,
            vec![call(&mut object, path, ToolKind::Function, "arguments")?],
        ),
        "custom_tool_call" => (
            Role::Assistant,
            vec![call(&mut object, path, ToolKind::Custom, "input")?],
        ),
        "function_call_output" | "custom_tool_call_output" => {
            (Role::User, vec![result(&mut object, path, losses)?])
        }
        "image_generation_call" if object.peek("result").is_some() => {
            (Role::Assistant, vec![picture(&mut object, path)?])
        }
        _ => {
            let part = Part::new(PartBody::Native {
                format: Format::Responses,
                raw: raw.to_owned(),
                kind: kind.clone(),
            });
            return Ok((speaker(&kind), vec![part]));
        }
    };
    for key in STORED {
        object.take(key);
    }
    let Some(first) = parts.first_mut() else {
        losses.rest(object, path);
        return Ok((role, parts));
    };
    let rest = object.rest();
    let extensions =
        rest.map(|(key, value)| wire::extension(format!("{OF_ITEM}{key}"), value, Severity::Advisory));
    first.extensions.0.extend(extensions);
    Ok((role, parts))
}

/// Reads a picture of an answer.
fn picture(item: &mut Object<'_>, path: &Path<'_>) -> Result<Part, ApiError> {
    let format: Option<String> = item.optional("output_format", path)?;
    let data: String = item.required("result", path)?;
    let media_type = format!("image/{}", format.as_deref().unwrap_or("png"));
    Ok(Part::new(PartBody::Media(Media {
        kind: MediaKind::Image,
        source: Source::read(media_type, data, &path.key("result"))?,
        name: None,
        detail: None,
        context: None,
        citable: None,
    })))
}

/// Returns the type of an item that does not name it.
fn implied(item: &Object<'_>) -> &'static str {
    if item.peek("role").is_none() && item.peek("id").is_some() {
        "item_reference"
    } else {
        "message"
    }
}

/// Returns whose item of a type that only this format has is.
fn speaker(kind: &str) -> Role {
    let answers = kind.ends_with("_output") || kind.ends_with("_response");
    if answers || matches!(kind, "additional_tools" | "compaction_trigger") {
        Role::User
    } else {
        Role::Assistant
    }
}

fn message(
    object: &mut Object<'_>,
    path: &Path<'_>,
    losses: &mut Losses,
) -> Result<(Role, Vec<Part>), ApiError> {
    let role = match object.required::<String>("role", path)?.as_str() {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" | "developer" => Role::System,
        role => {
            return Err(path.key("role").invalid(format!(
                "\"{role}\" is not one of \"user\", \"assistant\", \"system\" and \"developer\""
            )));
        }
    };
    let path = path.key("content");
    let raw = object
        .take("content")
        .ok_or_else(|| path.invalid("this member is required"))?;
    Ok((role, content::decode(raw, &path, losses)?))
}

/// Reads reasoning: its summary or, where there is none, its text.
fn reasoning(object: &mut Object<'_>, path: &Path<'_>, losses: &mut Losses) -> Result<Part, ApiError> {
    let summary = texts(object, "summary", path, losses)?;
    let content = texts(object, "content", path, losses)?;
    if !summary.is_empty() && !content.is_empty() {
        let reason = "the text of reasoning and its summary are one in other formats";
        losses.advisory(Field::Extension(path.key("content").to_string()), reason);
    }
    let text = if summary.is_empty() { content } else { summary };
    let id: Option<String> = object.optional("id", path)?;
    let encrypted: Option<String> = object.optional("encrypted_content", path)?;
    let seal = encrypted.and_then(|encrypted| wire::seal(id.as_deref(), &encrypted, text.is_empty()));
    let (seal, redacted) = seal.unzip();
    Ok(Part::new(PartBody::Reasoning(Reasoned {
        text,
        seal,
        redacted: redacted.unwrap_or(false),
    })))
}

fn texts(
    object: &mut Object<'_>,
    key: &str,
    path: &Path<'_>,
    losses: &mut Losses,
) -> Result<String, ApiError> {
    let path = path.key(key);
    let Some(raw) = object.take(key) else {
        return Ok(String::new());
    };
    let mut texts = Vec::new();
    for (index, raw) in json::elements(raw, &path)?.into_iter().enumerate() {
        let path = path.index(index);
        let mut piece = Object::parse(raw, &path)?;
        piece.take("type");
        texts.push(piece.required::<String>("text", &path)?);
        losses.rest(piece, &path);
    }
    Ok(texts.join(BETWEEN_SUMMARIES))
}

/// Stands between the parts of a summary, which are paragraphs.
pub(super) const BETWEEN_SUMMARIES: &str = "\n\n";

fn call(object: &mut Object<'_>, path: &Path<'_>, kind: ToolKind, key: &str) -> Result<Part, ApiError> {
    Ok(Part::new(PartBody::ToolCall(ToolCall {
        id: call_id(object, path)?,
        name: object.required("name", path)?,
        arguments: object.required(key, path)?,
        kind,
    })))
}

fn result(object: &mut Object<'_>, path: &Path<'_>, losses: &mut Losses) -> Result<Part, ApiError> {
    let call = call_id(object, path)?;
    let path = path.key("output");
    let raw = object
        .take("output")
        .ok_or_else(|| path.invalid("this member is required"))?;
    Ok(Part::new(PartBody::ToolResult(ToolResult {
        call,
        parts: content::decode(raw, &path, losses)?,
        is_error: None,
    })))
}

fn call_id(object: &mut Object<'_>, path: &Path<'_>) -> Result<String, ApiError> {
    let id: String = object.required("call_id", path)?;
    if id.is_empty() {
        return Err(path
            .key("call_id")
            .invalid("a call and its result must have an id"));
    }
    Ok(id)
}
