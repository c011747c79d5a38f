//! Reads the parts of a message's content.

use serde_json::value::RawValue;

use super::{
    super::{
        reasoning,
        wire::{self, Text},
    },
    request::require,
};
use crate::{
    ApiError, Format, Losses, Severity,
    chat::{CacheMark, CacheTtl, Extensions, Part, PartBody},
    json::{Object, Path},
    media::{self, DataUrl, Media, MediaKind, Source},
};

/// Whose content is read: not every part may stand everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaker {
    /// Instructions; text alone.
    System,
    /// The user, or a tool.
    User,
    /// The model.
    Assistant,
}

/// Reads the part in `raw`, which lies at `path`.
pub(super) fn decode(
    raw: &RawValue,
    path: &Path<'_>,
    speaker: Speaker,
    losses: &mut Losses,
) -> Result<Part, ApiError> {
    let mut object = Object::parse(raw, path)?;
    let kind: String = object.required("type", path)?;
    let mut extensions = Extensions::default();
    let cache = cache_mark(&mut object, path, &mut extensions, losses)?;
    let body = match (kind.as_str(), speaker) {
        ("text", _) => PartBody::Text(object.text("text", path)?),
        (kind, Speaker::System) => {
            return Err(path
                .key("type")
                .invalid(format!("instructions are made of text, not of \"{kind}\"")));
        }
        ("refusal", Speaker::Assistant) => PartBody::Refusal(object.required("refusal", path)?),
        ("thinking" | "redacted_thinking", Speaker::Assistant) => {
            let reasoned = reasoning::read_thinking(raw, path, losses);
            let reasoned = reasoned.ok_or_else(|| path.invalid("expected a thinking part"))?;
            return Ok(Part {
                cache,
                ..Part::new(PartBody::Reasoning(reasoned))
            });
        }
        ("image_url", Speaker::User | Speaker::Assistant) => image(&mut object, path, losses)?,
        ("input_audio", Speaker::User) => audio(&mut object, path, losses)?,
        ("audio_url", Speaker::User) => fetched(&mut object, path, MediaKind::Audio, losses)?,
        ("video_url", Speaker::User) => fetched(&mut object, path, MediaKind::Video, losses)?,
        ("file", Speaker::User) => file(&mut object, path, losses)?,
        (_, Speaker::User | Speaker::Assistant) => return Ok(native(kind, raw, cache)),
    };
    extensions.0.extend(
        object
            .rest()
            .map(|(key, value)| wire::extension(key, value, Severity::Advisory)),
    );
    Ok(Part {
        body,
        cache,
        citations: Vec::new(),
        tokens: Vec::new(),
        extensions,
    })
}

/// Takes `cache_control` out of `object`. A mark of another type than `ephemeral` is kept for this format.
pub(super) fn cache_mark(
    object: &mut Object<'_>,
    path: &Path<'_>,
    extensions: &mut Extensions,
    losses: &mut Losses,
) -> Result<Option<CacheMark>, ApiError> {
    let Some(raw) = object.take("cache_control") else {
        return Ok(None);
    };
    let path = path.key("cache_control");
    let mut control = Object::parse(raw, &path)?;
    let kind: String = control.required("type", &path)?;
    if kind != "ephemeral" {
        extensions
            .0
            .push(wire::extension("cache_control", raw, Severity::Advisory));
        return Ok(None);
    }
    let ttl: Option<String> = control.optional("ttl", &path)?;
    let ttl = match ttl.as_deref() {
        None => None,
        Some("5m") => Some(CacheTtl::FiveMinutes),
        Some("1h") => Some(CacheTtl::OneHour),
        Some(ttl) => {
            return Err(path
                .key("ttl")
                .invalid(format!("\"{ttl}\" is not one of \"5m\" and \"1h\"")));
        }
    };
    losses.rest(control, &path);
    Ok(Some(CacheMark { ttl }))
}

/// Returns a part that only this format has. Its mark stays where it is, in the part.
fn native(kind: String, raw: &RawValue, cache: Option<CacheMark>) -> Part {
    Part {
        body: PartBody::Native {
            format: Format::OpenAi,
            kind,
            raw: raw.to_owned(),
        },
        cache,
        citations: Vec::new(),
        tokens: Vec::new(),
        extensions: Extensions::default(),
    }
}

/// Reads a picture; a PDF in its place is a document, as clients of this format send them so.
fn image(part: &mut Object<'_>, path: &Path<'_>, losses: &mut Losses) -> Result<PartBody, ApiError> {
    let raw = require(part, "image_url", path)?;
    let path = path.key("image_url");
    let mut image = Object::parse(raw, &path)?;
    let source = address(&mut image, &path)?;
    let kind = match &source {
        Source::Inline { media_type, .. } => MediaKind::of(media_type),
        Source::Url(url) if url.to_ascii_lowercase().ends_with(".pdf") => MediaKind::Document,
        Source::Url(_) | Source::Text(_) | Source::File { .. } => MediaKind::Image,
    };
    let media = Media {
        kind,
        source,
        name: None,
        detail: image.optional("detail", &path)?,
        context: None,
        citable: None,
    };
    losses.rest(image, &path);
    Ok(PartBody::Media(media))
}

fn audio(part: &mut Object<'_>, path: &Path<'_>, losses: &mut Losses) -> Result<PartBody, ApiError> {
    let raw = require(part, "input_audio", path)?;
    let path = path.key("input_audio");
    let mut audio = Object::parse(raw, &path)?;
    let format: String = audio.required("format", &path)?;
    let Text(data) = audio.required("data", &path)?;
    let media_type = match format.as_str() {
        "mp3" => "audio/mpeg".to_owned(),
        format => format!("audio/{format}"),
    };
    let source = Source::read(&media_type, data, &path.key("data"))?;
    losses.rest(audio, &path);
    Ok(PartBody::Media(Media {
        kind: MediaKind::Audio,
        source,
        name: None,
        detail: None,
        context: None,
        citable: None,
    }))
}

/// Reads sound or moving pictures at an address.
fn fetched(
    part: &mut Object<'_>,
    path: &Path<'_>,
    kind: MediaKind,
    losses: &mut Losses,
) -> Result<PartBody, ApiError> {
    let key = match kind {
        MediaKind::Audio => "audio_url",
        MediaKind::Video | MediaKind::Image | MediaKind::Document => "video_url",
    };
    let raw = require(part, key, path)?;
    let path = path.key(key);
    let mut object = Object::parse(raw, &path)?;
    let source = address(&mut object, &path)?;
    losses.rest(object, &path);
    Ok(PartBody::Media(Media {
        kind,
        source,
        name: None,
        detail: None,
        context: None,
        citable: None,
    }))
}

/// Reads a file, whose bytes are in the request or at the provider.
fn file(part: &mut Object<'_>, path: &Path<'_>, losses: &mut Losses) -> Result<PartBody, ApiError> {
    let raw = require(part, "file", path)?;
    let path = path.key("file");
    let mut file = Object::parse(raw, &path)?;
    let name: Option<String> = file.optional("filename", &path)?;
    let source = match file.optional("file_id", &path)? {
        Some(id) => Source::File {
            issuer: Format::OpenAi,
            id,
        },
        None => {
            let Text(data) = file.required("file_data", &path)?;
            let at = path.key("file_data");
            let source = match DataUrl::parse(&data) {
                Some(url) => Source::read(url.media_type, url.data, &at)?,
                None => Source::read(media::type_of(name.as_deref()), data, &at)?,
            };
            source.into_text()
        }
    };
    let kind = match &source {
        Source::Inline { media_type, .. } => MediaKind::of(media_type),
        Source::Text(_) | Source::Url(_) | Source::File { .. } => MediaKind::Document,
    };
    losses.rest(file, &path);
    Ok(PartBody::Media(Media {
        kind,
        source,
        name,
        detail: None,
        context: None,
        citable: None,
    }))
}

/// Reads `url`: bytes in a `data:` URL, or an address.
fn address(object: &mut Object<'_>, path: &Path<'_>) -> Result<Source, ApiError> {
    let Text(url) = object.required("url", path)?;
    let path = path.key("url");
    match DataUrl::parse(&url) {
        Some(url) => Source::read(url.media_type, url.data, &path),
        None if url.is_empty() => Err(path.invalid("an address must not be empty")),
        None => Ok(Source::Url(url.into_owned())),
    }
}
