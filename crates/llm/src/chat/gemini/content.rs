//! Reads the contents of a request into turns.
//!
//! Clients gather a stream by appending each chunk's content to the history, so neighbouring contents of the
//! model are one turn, and pieces of one text or thought one part.

use std::{borrow::Cow, collections::VecDeque};

use serde_json::value::RawValue;

use super::wire;
use crate::{
    ApiError, Format, Severity,
    chat::{
        Extension, Extensions, Part, PartBody, Reasoned, Role, Seal, ToolCall, ToolKind, ToolResult, Turn,
    },
    json::{self, Kind, Object, Path},
    media::{Media, MediaKind, Source},
};

/// Reads contents; remembers the calls, so that results find theirs.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// Ids and names of the calls that no result has answered yet.
    open: VecDeque<(String, String)>,
    /// How many calls there were.
    calls: usize,
}

impl Reader {
    /// Reads the array of contents in `raw`, which lies at `path`.
    ///
    /// # Errors
    /// A 400 that names the part at fault.
    pub(super) fn contents(&mut self, raw: &RawValue, path: &Path<'_>) -> Result<Vec<Turn>, ApiError> {
        let contents = json::elements(raw, path)?;
        if contents.is_empty() {
            return Err(path.invalid("at least one content is required"));
        }
        let mut turns: Vec<Turn> = Vec::with_capacity(contents.len());
        for (origin, raw) in contents.into_iter().enumerate() {
            let turn = self.content(raw, origin, &path.index(origin))?;
            match turns.last_mut() {
                Some(last) if last.role == Role::Assistant && turn.role == Role::Assistant => {
                    for part in turn.parts {
                        append(&mut last.parts, part);
                    }
                    last.extensions.0.extend(turn.extensions.0);
                }
                _ => turns.push(turn),
            }
        }
        Ok(turns)
    }

    fn content(&mut self, raw: &RawValue, origin: usize, path: &Path<'_>) -> Result<Turn, ApiError> {
        let mut content = wire::object(raw, path)?;
        let role: Option<String> = content.optional("role", path)?;
        let role = match role.as_deref() {
            None | Some("" | "user" | "function" | "tool") => Role::User,
            Some("model") => Role::Assistant,
            Some("system") => Role::System,
            Some(_) => {
                return Err(path.key("role").invalid("expected \"user\" or \"model\""));
            }
        };
        Ok(Turn {
            role,
            parts: self.parts(&mut content, role, path)?,
            origin,
            name: None,
            extensions: wire::extensions(content, "", |_| Severity::Advisory),
        })
    }

    /// Reads the `parts` of `content`, which lies at `path`.
    ///
    /// # Errors
    /// A 400 that names the part at fault.
    pub(super) fn parts(
        &mut self,
        content: &mut Object<'_>,
        role: Role,
        path: &Path<'_>,
    ) -> Result<Vec<Part>, ApiError> {
        let path = path.key("parts");
        let Some(raw) = content.take("parts") else {
            return Ok(Vec::new());
        };
        // One part may stand for a list of one.
        let elements = match json::kind(raw) {
            Kind::Object => vec![raw],
            Kind::Array | Kind::String | Kind::Number | Kind::Bool | Kind::Null => {
                json::elements(raw, &path)?
            }
        };
        let mut parts = Vec::with_capacity(elements.len());
        for (index, raw) in elements.into_iter().enumerate() {
            for part in self.part(raw, role, &path.index(index))? {
                match role {
                    Role::Assistant => append(&mut parts, part),
                    Role::User | Role::System => parts.push(part),
                }
            }
        }
        Ok(parts)
    }

    /// Reads a part; a signature on it comes as a part of its own before it.
    fn part(&mut self, raw: &RawValue, role: Role, path: &Path<'_>) -> Result<Vec<Part>, ApiError> {
        let mut part = wire::object(raw, path)?;
        let thought = part.optional::<bool>("thought", path)?.unwrap_or(false);
        let signature: Option<String> = part.optional("thoughtSignature", path)?;
        let seal = signature.as_deref().and_then(wire::seal);
        if thought && part.peek("text").is_some() {
            let text: String = part.required("text", path)?;
            return Ok(vec![Part {
                body: PartBody::Reasoning(Reasoned {
                    text,
                    seal,
                    redacted: false,
                }),
                cache: None,
                citations: Vec::new(),
                tokens: Vec::new(),
                extensions: wire::extensions(part, "", |_| Severity::Advisory),
            }]);
        }
        let mut extensions = Extensions::default();
        let body = self.body(&mut part, role, &mut extensions, path)?;
        let rest = wire::extensions(part, "", |_| Severity::Advisory);
        let Some(body) = body else {
            // What no other format has keeps its signature.
            let kind = rest.0.first().map(|first| first.key.clone());
            let native = kind.map(|kind| {
                Part::new(PartBody::Native {
                    format: Format::Gemini,
                    kind,
                    raw: raw.to_owned(),
                })
            });
            let bare = seal.filter(|_| native.is_none()).map(redacted).map(Part::new);
            return Ok(native.into_iter().chain(bare).collect());
        };
        extensions.0.extend(rest.0);
        let blank = seal.is_some()
            && extensions.0.is_empty()
            && matches!(&body, PartBody::Text(text) if text.is_empty());
        let part = Part {
            body,
            cache: None,
            citations: Vec::new(),
            tokens: Vec::new(),
            extensions,
        };
        let signed = seal.map(redacted).map(Part::new);
        Ok(signed.into_iter().chain((!blank).then_some(part)).collect())
    }

    /// Reads what `part` is; `None` if it says nothing that other formats have.
    fn body(
        &mut self,
        part: &mut Object<'_>,
        role: Role,
        extensions: &mut Extensions,
        path: &Path<'_>,
    ) -> Result<Option<PartBody>, ApiError> {
        if let Some(text) = part.optional::<String>("text", path)? {
            return Ok(Some(PartBody::Text(text)));
        }
        if let Some(blob) = part.take("inlineData") {
            return inline(blob, part, extensions, &path.key("inlineData")).map(Some);
        }
        if let Some(file) = part.take("fileData") {
            return file_data(file, part, extensions, &path.key("fileData")).map(Some);
        }
        if let Some(call) = part.take("functionCall") {
            let path = path.key("functionCall");
            if role != Role::Assistant {
                return Err(path.invalid("only the model calls functions"));
            }
            return self.function_call(call, extensions, &path).map(Some);
        }
        if let Some(response) = part.take("functionResponse") {
            let path = path.key("functionResponse");
            if role != Role::User {
                return Err(path.invalid("only the user answers calls"));
            }
            return self.function_response(response, extensions, &path).map(Some);
        }
        Ok(None)
    }

    fn function_call(
        &mut self,
        raw: &RawValue,
        extensions: &mut Extensions,
        path: &Path<'_>,
    ) -> Result<PartBody, ApiError> {
        let mut call = wire::object(raw, path)?;
        let name: String = call.required("name", path)?;
        let id: Option<String> = call.optional("id", path)?;
        let arguments = match call.take("args") {
            None => "{}".to_owned(),
            Some(raw) if json::kind(raw) == Kind::Object => json::compact(raw),
            Some(_) => return Err(path.key("args").invalid("expected an object")),
        };
        let id = id
            .filter(|id| !id.is_empty())
            .unwrap_or_else(|| wire::call_id(&["history", &self.calls.to_string(), &name]));
        self.calls += 1;
        self.open.push_back((id.clone(), name.clone()));
        *extensions = wire::extensions(call, wire::CALL, |_| Severity::Advisory);
        Ok(PartBody::ToolCall(ToolCall {
            id,
            name,
            arguments,
            kind: ToolKind::Function,
        }))
    }

    fn function_response(
        &mut self,
        raw: &RawValue,
        extensions: &mut Extensions,
        path: &Path<'_>,
    ) -> Result<PartBody, ApiError> {
        let mut response = wire::object(raw, path)?;
        let name: String = response.required("name", path)?;
        let id: Option<String> = response.optional("id", path)?;
        let id = id.filter(|id| !id.is_empty());
        // A result without an id answers the first call of its name that has no answer yet.
        let at = self.open.iter().position(|(open, called)| match &id {
            Some(id) => open == id,
            None => *called == name,
        });
        let answered = at.and_then(|at| self.open.remove(at));
        let call = match (id, answered) {
            (Some(id), _) | (None, Some((id, _))) => id,
            (None, None) => {
                let message = format!("no call of \"{name}\" before it waits for a result");
                return Err(path.key("name").invalid(message));
            }
        };
        let (mut parts, is_error) = match response.take("response") {
            None => (Vec::new(), None),
            Some(raw) => result(raw, &path.key("response"))?,
        };
        let path = path.key("parts");
        if let Some(raw) = response.take("parts") {
            for (index, raw) in json::elements(raw, &path)?.into_iter().enumerate() {
                parts.push(result_part(raw, &path.index(index))?);
            }
        }
        *extensions = wire::extensions(response, wire::RESPONSE, |_| Severity::Advisory);
        Ok(PartBody::ToolResult(ToolResult {
            call,
            parts,
            is_error,
        }))
    }
}

/// Returns the part that a signature is which hangs on the part after it.
pub(super) fn redacted(seal: Seal) -> PartBody {
    PartBody::Reasoning(Reasoned {
        text: String::new(),
        seal: Some(seal),
        redacted: true,
    })
}

/// Returns whether `text` is a JSON object, which results of tools are in this format.
pub(super) fn as_object(text: &str) -> Option<&RawValue> {
    let raw: &RawValue = serde_json::from_str(text).ok()?;
    (json::kind(raw) == Kind::Object).then_some(raw)
}

/// Appends `part`, to the last one if both are pieces of one text or one thought.
pub(super) fn append(parts: &mut Vec<Part>, part: Part) {
    if let Some(last) = parts.last_mut()
        && last.extensions.0.is_empty()
        && part.extensions.0.is_empty()
    {
        match (&mut last.body, &part.body) {
            (PartBody::Text(text), PartBody::Text(more)) => {
                text.push_str(more);
                return;
            }
            (PartBody::Reasoning(thought), PartBody::Reasoning(more))
                if thought.seal.is_none() && !thought.redacted && !more.redacted =>
            {
                thought.text.push_str(&more.text);
                thought.seal.clone_from(&more.seal);
                return;
            }
            _ => {}
        }
    }
    parts.push(part);
}

fn inline(
    raw: &RawValue,
    part: &mut Object<'_>,
    extensions: &mut Extensions,
    path: &Path<'_>,
) -> Result<PartBody, ApiError> {
    let mut blob = wire::object(raw, path)?;
    let media_type: String = blob.required("mimeType", path)?;
    let data: Cow<'_, str> = blob.required("data", path)?;
    let name = blob.optional("displayName", path)?;
    let kind = MediaKind::of(&media_type);
    let source = Source::inline(media_type, wire::base64(&data))
        .ok_or_else(|| path.key("data").invalid("this is not base64"))?;
    *extensions = wire::extensions(blob, wire::BLOB, |_| Severity::Advisory);
    Ok(PartBody::Media(Media {
        kind,
        source,
        name,
        detail: detail(part),
        context: None,
        citable: None,
    }))
}

fn file_data(
    raw: &RawValue,
    part: &mut Object<'_>,
    extensions: &mut Extensions,
    path: &Path<'_>,
) -> Result<PartBody, ApiError> {
    let mut file = wire::object(raw, path)?;
    let uri: String = file.required("fileUri", path)?;
    let name = file.optional("displayName", path)?;
    let media_type: Option<String> = file.optional("mimeType", path)?;
    let guessed = guess(&uri, None);
    let kind = MediaKind::of(media_type.as_deref().unwrap_or(guessed));
    *extensions = wire::extensions(file, wire::FILE, |_| Severity::Advisory);
    if let Some(media_type) = media_type.filter(|media_type| media_type != guess(&uri, Some(kind))) {
        extensions.0.push(Extension {
            format: Format::Gemini,
            key: format!("{}mimeType", wire::FILE),
            value: json::raw(&media_type),
            severity: Severity::Advisory,
        });
    }
    let is_own = uri.starts_with("gs://") || uri.contains("generativelanguage.googleapis.com/");
    let source = if is_own {
        Source::File {
            issuer: Format::Gemini,
            id: uri,
        }
    } else {
        Source::Url(uri)
    };
    Ok(PartBody::Media(Media {
        kind,
        source,
        name,
        detail: detail(part),
        context: None,
        citable: None,
    }))
}

/// Returns the media type that the extension of `uri` stands for, or the most usual of `kind`; of a picture
/// where nothing is known, as the compatibility specification has it.
pub(super) fn guess(uri: &str, kind: Option<MediaKind>) -> &'static str {
    let path = uri.split(['?', '#']).next().unwrap_or_default();
    let file = path.rsplit('/').next().unwrap_or_default();
    let extension = file
        .rsplit_once('.')
        .map(|(_, extension)| extension.to_ascii_lowercase());
    let known = extension.and_then(|extension| {
        let row = MEDIA_TYPES.iter().find(|(name, _)| *name == extension)?;
        Some(row.1)
    });
    known.unwrap_or(match kind {
        None | Some(MediaKind::Image) => "image/jpeg",
        Some(MediaKind::Document) => "application/pdf",
        Some(MediaKind::Audio) => "audio/mpeg",
        Some(MediaKind::Video) => "video/mp4",
    })
}

/// Extensions of files and the media types that the provider takes ("Files API", supported formats).
const MEDIA_TYPES: &[(&str, &str)] = &[
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("webp", "image/webp"),
    ("gif", "image/gif"),
    ("heic", "image/heic"),
    ("heif", "image/heif"),
    ("pdf", "application/pdf"),
    ("txt", "text/plain"),
    ("md", "text/markdown"),
    ("html", "text/html"),
    ("csv", "text/csv"),
    ("mp3", "audio/mpeg"),
    ("wav", "audio/wav"),
    ("flac", "audio/flac"),
    ("ogg", "audio/ogg"),
    ("aac", "audio/aac"),
    ("mp4", "video/mp4"),
    ("mov", "video/quicktime"),
    ("webm", "video/webm"),
    ("mpeg", "video/mpeg"),
];

/// Takes out how closely a picture is to be looked at, where other formats have a word for it.
fn detail(part: &mut Object<'_>) -> Option<String> {
    let raw = part.peek("mediaResolution")?;
    let mut resolution = wire::object(raw, &Path::Root).ok()?;
    let level: String = resolution.optional("level", &Path::Root).ok()??;
    let (word, _) = DETAILS.iter().find(|(_, known)| *known == level)?;
    if resolution.rest().next().is_some() {
        return None;
    }
    part.take("mediaResolution");
    Some((*word).to_owned())
}

/// How closely a picture is looked at: the word of other formats and this one's.
pub(super) const DETAILS: &[(&str, &str)] = &[
    ("low", "MEDIA_RESOLUTION_LOW"),
    ("medium", "MEDIA_RESOLUTION_MEDIUM"),
    ("high", "MEDIA_RESOLUTION_HIGH"),
    ("auto", "MEDIA_RESOLUTION_UNSPECIFIED"),
];

/// Reads the object that a function gave. Its one member `output` or `error` may hold a text; anything else is
/// told as JSON.
fn result(raw: &RawValue, path: &Path<'_>) -> Result<(Vec<Part>, Option<bool>), ApiError> {
    let object = Object::parse(raw, path)?;
    let mut members = object.rest();
    let (only, more) = (members.next(), members.next());
    if let (Some((key, value)), None) = (only, more)
        && json::kind(value) == Kind::String
        && matches!(key.as_ref(), "output" | "error")
    {
        let text: String = json::read(value, path)?;
        if as_object(&text).is_none() {
            return Ok((vec![Part::text(text)], (key == "error").then_some(true)));
        }
    }
    let text = json::compact(raw);
    if text == "{}" {
        return Ok((Vec::new(), None));
    }
    Ok((vec![Part::text(text)], None))
}

fn result_part(raw: &RawValue, path: &Path<'_>) -> Result<Part, ApiError> {
    let mut part = wire::object(raw, path)?;
    let mut extensions = Extensions::default();
    let body = if let Some(blob) = part.take("inlineData") {
        inline(blob, &mut part, &mut extensions, &path.key("inlineData"))?
    } else if let Some(file) = part.take("fileData") {
        file_data(file, &mut part, &mut extensions, &path.key("fileData"))?
    } else {
        return Err(path.invalid("expected \"inlineData\" or \"fileData\""));
    };
    let rest = wire::extensions(part, "", |_| Severity::Advisory);
    extensions.0.extend(rest.0);
    Ok(Part {
        body,
        cache: None,
        citations: Vec::new(),
        tokens: Vec::new(),
        extensions,
    })
}
