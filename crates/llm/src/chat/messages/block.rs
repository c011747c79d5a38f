//! Reads the content blocks of a request into parts.

use serde_json::value::RawValue;

use super::{cite, wire};
use crate::{
    ApiError, Field, Format, Losses, Severity,
    chat::{
        CacheMark, CacheTtl, Citation, Extension, Extensions, Part, PartBody, Reasoned, Role, SearchResult,
        ToolCall, ToolKind, ToolResult,
    },
    json::{self, Kind, Object, Path},
    media::{Media, MediaKind, Source},
};

/// Where blocks may stand; not every type may stand everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In `system`.
    System,
    /// In a message.
    Message(Role),
    /// In a tool's result.
    ToolResult,
    /// In a search result.
    SearchResult,
}

/// Reads `raw`, the content of something at `path`: a string or an array of blocks.
///
/// # Errors
/// A 400 that names the block at fault.
pub(super) fn content(
    raw: &RawValue,
    place: Place,
    path: &Path<'_>,
    losses: &mut Losses,
) -> Result<Vec<Part>, ApiError> {
    match json::kind(raw) {
        Kind::String => Ok(vec![Part::text(json::text(raw, path)?)]),
        Kind::Array => json::elements(raw, path)?
            .into_iter()
            .enumerate()
            .map(|(index, raw)| block(raw, place, &path.index(index), losses))
            .collect(),
        Kind::Object | Kind::Number | Kind::Bool | Kind::Null => {
            Err(path.invalid("expected a string or an array of content blocks"))
        }
    }
}

/// Takes the cache mark out of `object`, which lies at `path`.
///
/// # Errors
/// A 400 that names the mark, if it is malformed.
pub(super) fn cache(
    object: &mut Object<'_>,
    path: &Path<'_>,
    losses: &mut Losses,
) -> Result<Option<CacheMark>, ApiError> {
    let path = path.key("cache_control");
    let Some(raw) = object.take("cache_control") else {
        return Ok(None);
    };
    let mut mark = Object::parse(raw, &path)?;
    let kind: String = mark.required("type", &path)?;
    if kind != "ephemeral" {
        losses.advisory(Field::Cache, format!("{path} has the unknown type \"{kind}\""));
        return Ok(None);
    }
    let ttl = match mark.optional::<String>("ttl", &path)?.as_deref() {
        None => None,
        Some("5m") => Some(CacheTtl::FiveMinutes),
        Some("1h") => Some(CacheTtl::OneHour),
        Some(_) => return Err(path.key("ttl").invalid("expected \"5m\" or \"1h\"")),
    };
    for (key, _) in mark.rest() {
        losses.advisory(Field::Cache, format!("{key} is not known here"));
    }
    Ok(Some(CacheMark { ttl }))
}

/// Returns the members that are left in `object` as extensions, their names behind `prefix`.
pub(super) fn extensions(
    object: Object<'_>,
    prefix: &str,
    severity: impl Fn(&str) -> Severity,
) -> Extensions {
    let extension = |(key, value): (std::borrow::Cow<'_, str>, &RawValue)| Extension {
        format: Format::Messages,
        severity: severity(&key),
        key: format!("{prefix}{key}"),
        value: value.to_owned(),
    };
    let mut extensions: Vec<Extension> = object.rest().map(extension).collect();
    extensions.sort_by(|one, other| one.key.cmp(&other.key));
    Extensions(extensions)
}

fn block(raw: &RawValue, place: Place, path: &Path<'_>, losses: &mut Losses) -> Result<Part, ApiError> {
    let mut object = Object::parse(raw, path)?;
    let kind: String = object.required("type", path)?;
    if !stands(&kind, place) {
        return Err(path.invalid(format_args!("a block of type \"{kind}\" cannot stand here")));
    }
    let mut citations = Vec::new();
    let body = match kind.as_str() {
        "text" => {
            citations = cited(&mut object, path, losses);
            Some(PartBody::Text(object.text("text", path)?))
        }
        "search_result" => Some(PartBody::SearchResult(search_result(&mut object, path, losses)?)),
        "image" => image(&mut object, path, losses)?.map(PartBody::Media),
        "document" => document(&mut object, path, losses)?.map(PartBody::Media),
        "thinking" => {
            let signature: Option<String> = object.optional("signature", path)?;
            Some(PartBody::Reasoning(Reasoned {
                text: object.required("thinking", path)?,
                seal: wire::seal(&signature.unwrap_or_default()),
                redacted: false,
            }))
        }
        "redacted_thinking" => Some(PartBody::Reasoning(Reasoned {
            text: String::new(),
            seal: wire::seal(&object.required::<String>("data", path)?),
            redacted: true,
        })),
        "tool_use" => Some(PartBody::ToolCall(tool_use(&mut object, path)?)),
        "tool_result" => Some(PartBody::ToolResult(tool_result(&mut object, path, losses)?)),
        _ => None,
    };
    let Some(body) = body else {
        return Ok(Part::new(PartBody::Native {
            format: Format::Messages,
            kind,
            raw: raw.to_owned(),
        }));
    };
    Ok(Part {
        body,
        cache: cache(&mut object, path, losses)?,
        citations,
        tokens: Vec::new(),
        extensions: extensions(object, "", |_| Severity::Advisory),
    })
}

/// Takes the citations of a text out of `object`, unless one of them is of a kind that no other format has.
fn cited(object: &mut Object<'_>, path: &Path<'_>, losses: &mut Losses) -> Vec<Citation> {
    let Some(raw) = object.peek("citations") else {
        return Vec::new();
    };
    let Some(citations) = cite::read_all(raw, &path.key("citations"), losses) else {
        return Vec::new();
    };
    object.take("citations");
    citations
}

/// Returns whether a block of type `kind` may stand at `place`. What is not known may stand anywhere but in
/// `system`.
fn stands(kind: &str, place: Place) -> bool {
    match kind {
        "text" => true,
        "thinking" | "redacted_thinking" | "tool_use" => place == Place::Message(Role::Assistant),
        "tool_result" => place == Place::Message(Role::User),
        _ => place != Place::System && place != Place::SearchResult,
    }
}

/// Reads the `source` of a picture; `None` if it is of a kind that no other format has.
fn image(object: &mut Object<'_>, path: &Path<'_>, losses: &mut Losses) -> Result<Option<Media>, ApiError> {
    let source = source(object, path, losses)?;
    Ok(source.map(|source| Media {
        kind: MediaKind::Image,
        source,
        name: None,
        detail: None,
        context: None,
        citable: None,
    }))
}

/// Reads a document; `None` if its source is of a kind that no other format has.
fn document(
    object: &mut Object<'_>,
    path: &Path<'_>,
    losses: &mut Losses,
) -> Result<Option<Media>, ApiError> {
    let source = source(object, path, losses)?;
    let name = object.optional("title", path)?;
    let context = object.optional("context", path)?;
    let citable = citable(object, path, losses)?;
    Ok(source.map(|source| Media {
        kind: MediaKind::Document,
        source,
        name,
        detail: None,
        context,
        citable,
    }))
}

/// Takes out of `object` whether it is to be cited.
fn citable(object: &mut Object<'_>, path: &Path<'_>, losses: &mut Losses) -> Result<Option<bool>, ApiError> {
    let Some(raw) = object.take("citations") else {
        return Ok(None);
    };
    let path = path.key("citations");
    let mut citations = Object::parse(raw, &path)?;
    let enabled = citations.optional("enabled", &path)?;
    losses.rest(citations, &path);
    Ok(enabled)
}

fn search_result(
    object: &mut Object<'_>,
    path: &Path<'_>,
    losses: &mut Losses,
) -> Result<SearchResult, ApiError> {
    let Some(raw) = object.take("content") else {
        return Err(path.key("content").invalid("this member is required"));
    };
    Ok(SearchResult {
        source: object.required("source", path)?,
        title: object.required("title", path)?,
        parts: content(raw, Place::SearchResult, &path.key("content"), losses)?,
        citable: citable(object, path, losses)?,
    })
}

fn source(object: &mut Object<'_>, path: &Path<'_>, losses: &mut Losses) -> Result<Option<Source>, ApiError> {
    let path = path.key("source");
    let Some(raw) = object.take("source") else {
        return Err(path.invalid("this member is required"));
    };
    let mut source = Object::parse(raw, &path)?;
    let kind: String = source.required("type", &path)?;
    let found = match kind.as_str() {
        "base64" => {
            let media_type: String = source.required("media_type", &path)?;
            let data: String = source.required("data", &path)?;
            let inline = Source::inline(media_type, data);
            inline.ok_or_else(|| path.key("data").invalid("this is not base64"))?
        }
        "text" => {
            // It has one value, which is known.
            source.take("media_type");
            Source::Text(source.required("data", &path)?)
        }
        "url" => Source::Url(source.required("url", &path)?),
        "file" => Source::File {
            issuer: Format::Messages,
            id: source.required("file_id", &path)?,
        },
        // The block stays as it was written.
        _ => return Ok(None),
    };
    losses.rest(source, &path);
    Ok(Some(found))
}

fn tool_use(object: &mut Object<'_>, path: &Path<'_>) -> Result<ToolCall, ApiError> {
    let input = object
        .take("input")
        .filter(|raw| json::kind(raw) == Kind::Object)
        .ok_or_else(|| path.key("input").invalid("expected an object"))?;
    Ok(ToolCall {
        id: object.required("id", path)?,
        name: object.required("name", path)?,
        arguments: json::compact(input),
        kind: ToolKind::Function,
    })
}

fn tool_result(
    object: &mut Object<'_>,
    path: &Path<'_>,
    losses: &mut Losses,
) -> Result<ToolResult, ApiError> {
    let parts = match object.take("content") {
        Some(raw) => content(raw, Place::ToolResult, &path.key("content"), losses)?,
        None => Vec::new(),
    };
    Ok(ToolResult {
        call: object.required("tool_use_id", path)?,
        parts,
        is_error: object.optional("is_error", path)?,
    })
}
