//! Reads the parts of an item's content.

use serde_json::value::RawValue;

use super::wire;
use crate::{
    ApiError, Field, Format, Losses, Severity,
    chat::{CacheMark, CacheTtl, Part, PartBody},
    json::{self, Kind, Object, Path},
    media::{self, DataUrl, Media, MediaKind, Source},
};

/// Whether a part of type `kind` stands in the content of an item; what does not is an item of its own.
pub(super) fn stands_in_content(kind: &str) -> bool {
    ["input_", "output_", "computer_screenshot"]
        .iter()
        .any(|prefix| kind.starts_with(prefix))
}

/// Reads `raw`, the content of an item: a string or an array of parts.
///
/// # Errors
/// A 400 that names the part at fault.
pub(super) fn decode(raw: &RawValue, path: &Path<'_>, losses: &mut Losses) -> Result<Vec<Part>, ApiError> {
    match json::kind(raw) {
        Kind::String => Ok(vec![Part::text(json::read::<String>(raw, path)?)]),
        Kind::Array => json::elements(raw, path)?
            .into_iter()
            .enumerate()
            .map(|(index, raw)| part(raw, &path.index(index), losses))
            .collect(),
        Kind::Object | Kind::Number | Kind::Bool | Kind::Null => {
            Err(path.invalid("expected a string or an array of content parts"))
        }
    }
}

fn part(raw: &RawValue, path: &Path<'_>, losses: &mut Losses) -> Result<Part, ApiError> {
    let mut object = Object::parse(raw, path)?;
    let kind: String = object.required("type", path)?;
    let body = match kind.as_str() {
        "input_text" | "output_text" | "text" | "summary_text" => {
            PartBody::Text(object.required("text", path)?)
        }
        "refusal" => PartBody::Refusal(object.required("refusal", path)?),
        "input_image" => PartBody::Media(image(&mut object, path)?),
        "input_file" => PartBody::Media(file(&mut object, path)?),
        "input_audio" => PartBody::Media(audio(&mut object, path, losses)?),
        _ => {
            return Ok(Part::new(PartBody::Native {
                format: Format::Responses,
                kind,
                raw: raw.to_owned(),
            }));
        }
    };
    let mut part = Part::new(body);
    part.cache = cache_mark(&mut object, path, losses)?;
    for (key, value) in object.rest() {
        // Replies have these where nothing is to be said in them; clients send them back so.
        if !matches!(value.get(), "[]" | "{}") {
            part.extensions
                .0
                .push(wire::extension(key, value, Severity::Advisory));
        }
    }
    Ok(part)
}

/// Takes `prompt_cache_breakpoint` out of `object`. Its lifetimes are those of one provider.
fn cache_mark(
    object: &mut Object<'_>,
    path: &Path<'_>,
    losses: &mut Losses,
) -> Result<Option<CacheMark>, ApiError> {
    let Some(raw) = object.take("prompt_cache_breakpoint") else {
        return Ok(None);
    };
    let path = path.key("prompt_cache_breakpoint");
    let mut mark = Object::parse(raw, &path)?;
    let ttl: Option<String> = mark.optional("ttl", &path)?;
    let ttl = ttl.map(|ttl| {
        losses.advisory(
            Field::Cache,
            format!("what is cached for {ttl} is cached for as long as the upstream can, up to an hour"),
        );
        CacheTtl::OneHour
    });
    mark.take("mode");
    losses.rest(mark, &path);
    Ok(Some(CacheMark { ttl }))
}

/// Reads a picture; a PDF in its place is a document.
fn image(part: &mut Object<'_>, path: &Path<'_>) -> Result<Media, ApiError> {
    let detail: Option<String> = part.optional("detail", path)?;
    let source = match part.optional::<String>("file_id", path)? {
        Some(id) => stored(id),
        None => {
            let path = path.key("image_url");
            let url: String = match part.take("image_url") {
                Some(raw) => json::read(raw, &path)?,
                None => return Err(path.invalid("a picture must have an address or a file id")),
            };
            address(url, &path)?
        }
    };
    Ok(Media {
        kind: match &source {
            Source::Inline { media_type, .. } => MediaKind::of(media_type),
            Source::Url(_) | Source::Text(_) | Source::File { .. } => MediaKind::Image,
        },
        source,
        name: None,
        detail: detail.filter(|detail| detail != "auto"),
        context: None,
        citable: None,
    })
}

/// Reads a file: its bytes, its address or the id that it has at the provider.
fn file(part: &mut Object<'_>, path: &Path<'_>) -> Result<Media, ApiError> {
    let name: Option<String> = part.optional("filename", path)?;
    let id: Option<String> = part.optional("file_id", path)?;
    let url: Option<String> = part.optional("file_url", path)?;
    let source = match (id, url) {
        (Some(id), _) => stored(id),
        (None, Some(url)) => address(url, &path.key("file_url"))?,
        (None, None) => {
            let path = path.key("file_data");
            let data: String = match part.take("file_data") {
                Some(raw) => json::read(raw, &path)?,
                None => return Err(path.invalid("a file must have data, an address or an id")),
            };
            match DataUrl::parse(&data) {
                Some(url) => Source::read(url.media_type, url.data, &path)?,
                None => Source::read(media::type_of(name.as_deref()), data, &path)?,
            }
        }
    };
    let source = source.into_text();
    let kind = match &source {
        Source::Inline { media_type, .. } => MediaKind::of(media_type),
        Source::Text(_) | Source::Url(_) | Source::File { .. } => MediaKind::Document,
    };
    Ok(Media {
        kind,
        source,
        name,
        detail: None,
        context: None,
        citable: None,
    })
}

fn audio(part: &mut Object<'_>, path: &Path<'_>, losses: &mut Losses) -> Result<Media, ApiError> {
    let path = path.key("input_audio");
    let Some(raw) = part.take("input_audio") else {
        return Err(path.invalid("this member is required"));
    };
    let mut audio = Object::parse(raw, &path)?;
    let format: String = audio.required("format", &path)?;
    let data: String = audio.required("data", &path)?;
    losses.rest(audio, &path);
    let media_type = match format.as_str() {
        "mp3" => "audio/mpeg".to_owned(),
        format => format!("audio/{format}"),
    };
    Ok(Media {
        kind: MediaKind::Audio,
        source: Source::read(media_type, data, &path.key("data"))?,
        name: None,
        detail: None,
        context: None,
        citable: None,
    })
}

fn stored(id: String) -> Source {
    // Files are those of OpenAI's account, whichever of its formats names them.
    Source::File {
        issuer: Format::OpenAi,
        id,
    }
}

/// Reads bytes in a `data:` URL, or an address.
fn address(url: String, path: &Path<'_>) -> Result<Source, ApiError> {
    match DataUrl::parse(&url) {
        Some(url) => Source::read(url.media_type, url.data, path),
        None if url.is_empty() => Err(path.invalid("an address must not be empty")),
        None => Ok(Source::Url(url)),
    }
}
