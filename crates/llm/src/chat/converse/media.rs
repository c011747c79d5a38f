//! Pictures, documents, sound and film as blocks.

use std::{borrow::Cow, collections::BTreeSet};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Serialize;

use crate::{
    capability::Family,
    media::{Media, MediaKind, Source as MediaSource},
};

/// The formats of the API reference, each with the media types and the endings of file names that mean it.
const FORMATS: &[(MediaKind, &str, &[&str])] = &[
    (MediaKind::Image, "png", &["image/png", "png"]),
    (
        MediaKind::Image,
        "jpeg",
        &["image/jpeg", "image/jpg", "jpeg", "jpg"],
    ),
    (MediaKind::Image, "gif", &["image/gif", "gif"]),
    (MediaKind::Image, "webp", &["image/webp", "webp"]),
    (MediaKind::Document, "pdf", &["application/pdf", "pdf"]),
    (MediaKind::Document, "csv", &["text/csv", "csv"]),
    (MediaKind::Document, "doc", &["application/msword", "doc"]),
    (
        MediaKind::Document,
        "docx",
        &[
            "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
            "docx",
        ],
    ),
    (MediaKind::Document, "xls", &["application/vnd.ms-excel", "xls"]),
    (
        MediaKind::Document,
        "xlsx",
        &[
            "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
            "xlsx",
        ],
    ),
    (MediaKind::Document, "html", &["text/html", "html", "htm"]),
    (MediaKind::Document, "md", &["text/markdown", "md"]),
    (
        MediaKind::Document,
        "txt",
        &["text/plain", "application/json", "txt"],
    ),
    (MediaKind::Audio, "mp3", &["audio/mpeg", "audio/mp3", "mp3"]),
    (MediaKind::Audio, "wav", &["audio/wav", "audio/x-wav", "wav"]),
    (MediaKind::Audio, "opus", &["audio/opus", "opus"]),
    (MediaKind::Audio, "aac", &["audio/aac", "aac"]),
    (MediaKind::Audio, "flac", &["audio/flac", "flac"]),
    (MediaKind::Audio, "ogg", &["audio/ogg", "ogg"]),
    (MediaKind::Audio, "m4a", &["audio/m4a", "audio/x-m4a", "m4a"]),
    (MediaKind::Audio, "mp4", &["audio/mp4", "mp4"]),
    (MediaKind::Audio, "webm", &["audio/webm", "webm"]),
    (MediaKind::Audio, "pcm", &["audio/pcm", "audio/pcm16", "pcm"]),
    (MediaKind::Video, "mp4", &["video/mp4", "mp4"]),
    (MediaKind::Video, "mov", &["video/quicktime", "mov"]),
    (MediaKind::Video, "mkv", &["video/x-matroska", "mkv"]),
    (MediaKind::Video, "webm", &["video/webm", "webm"]),
    (MediaKind::Video, "flv", &["video/x-flv", "flv"]),
    (MediaKind::Video, "mpeg", &["video/mpeg", "mpeg", "mpg"]),
    (MediaKind::Video, "wmv", &["video/x-ms-wmv", "wmv"]),
    (MediaKind::Video, "three_gp", &["video/3gpp", "3gp"]),
];

/// The formats of documents that are text.
const TEXTS: &[&str] = &["csv", "html", "md", "txt"];

/// The most characters that the name of a document has.
const MAX_NAME: usize = 200;

/// The name of a document that has none.
const NAMELESS: &str = "document";

/// A picture, sound or a film.
#[derive(Serialize)]
pub(super) struct File<'a> {
    format: &'static str,
    source: Source<'a>,
}

/// A document.
#[derive(Serialize)]
pub(super) struct Document<'a> {
    format: &'static str,
    pub(super) name: String,
    source: Source<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    citations: Option<Citable>,
}

/// Whether answers are to cite something.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Citable {
    enabled: bool,
}

impl From<bool> for Citable {
    fn from(enabled: bool) -> Self {
        Self { enabled }
    }
}

/// Where the bytes are.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Source<'a> {
    Bytes(Cow<'a, str>),
    S3Location { uri: &'a str },
}

/// A piece of media as the format has it.
pub(super) enum Found<'a> {
    Image(File<'a>),
    Audio(File<'a>),
    Video(File<'a>),
    Document(Document<'a>),
}

/// The names of the documents of one request, which must differ.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeSet<String>);

/// Returns `media` as the format has it, by its media type rather than by what the client called it; `None` if
/// the format has no such thing. Of the models that the format serves only Claude cites.
pub(super) fn find<'a>(media: &'a Media, names: &mut Names, family: Family) -> Option<Found<'a>> {
    let cites = family == Family::Claude;
    let (kind, format, source) = match &media.source {
        MediaSource::Inline { media_type, data } => {
            let (kind, format) = by_type(media_type)?;
            (kind, format, Source::Bytes(Cow::Borrowed(data)))
        }
        MediaSource::Text(text) => {
            let data = BASE64_STANDARD.encode(text);
            let format = ending(media).filter(|format| TEXTS.contains(format));
            let source = Source::Bytes(Cow::Owned(data));
            (MediaKind::Document, format.unwrap_or("txt"), source)
        }
        MediaSource::Url(uri) if uri.starts_with("s3://") => {
            let (_, ending) = uri.rsplit_once('.')?;
            let (kind, format) = by_word(Some(media.kind), ending).or_else(|| by_word(None, ending))?;
            (kind, format, Source::S3Location { uri })
        }
        MediaSource::Url(_) | MediaSource::File { .. } => return None,
    };
    Some(match kind {
        MediaKind::Image => Found::Image(File { format, source }),
        MediaKind::Audio => Found::Audio(File { format, source }),
        MediaKind::Video => Found::Video(File { format, source }),
        MediaKind::Document => Found::Document(Document {
            format,
            name: names.give(media.name.as_deref().unwrap_or_default(), format),
            source,
            context: media.context.as_deref().filter(|_| cites),
            citations: media.citable.filter(|_| cites).map(Citable::from),
        }),
    })
}

/// Returns why `media` is not sent.
pub(super) fn unsendable(media: &Media) -> String {
    let kind = media.kind.name();
    match &media.source {
        MediaSource::Inline { media_type, .. } => {
            format!("the converse format has no {kind} of type {media_type}")
        }
        MediaSource::File { issuer, .. } => {
            format!("the file id of this {kind} is known to {} only", issuer.name())
        }
        MediaSource::Url(_) => {
            format!(
                "for the converse format this {kind} must come as bytes, or from s3:// with a known ending"
            )
        }
        MediaSource::Text(_) => format!("the converse format has no {kind}"),
    }
}

/// Returns the format of a document that its name ends in.
fn ending(media: &Media) -> Option<&'static str> {
    let (_, ending) = media.name.as_deref()?.rsplit_once('.')?;
    let (_, format) = by_word(Some(MediaKind::Document), ending)?;
    Some(format)
}

fn by_type(media_type: &str) -> Option<(MediaKind, &'static str)> {
    let found = by_word(None, media_type);
    found.or_else(|| {
        media_type
            .starts_with("text/")
            .then_some((MediaKind::Document, "txt"))
    })
}

fn by_word(kind: Option<MediaKind>, word: &str) -> Option<(MediaKind, &'static str)> {
    let (kind, format, _) = FORMATS.iter().find(|(own, _, words)| {
        kind.is_none_or(|kind| kind == *own) && words.iter().any(|own| own.eq_ignore_ascii_case(word))
    })?;
    Some((*kind, format))
}

impl Names {
    /// Returns the name of a document that the client calls `name`: nothing but letters, digits, single blanks
    /// and a few marks, without the ending that the format says, and not given before.
    fn give(&mut self, name: &str, format: &str) -> String {
        let stem = name.rsplit_once('.').filter(|(_, ending)| {
            by_word(Some(MediaKind::Document), ending).is_some_and(|(_, own)| own == format)
        });
        let stem = stem.map_or(name, |(stem, _)| stem);
        let mut fit = String::with_capacity(stem.len());
        for char in stem.chars().take(MAX_NAME - 4) {
            match char {
                'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '(' | ')' | '[' | ']' => fit.push(char),
                char if char.is_whitespace() => {
                    if !fit.ends_with(' ') {
                        fit.push(' ');
                    }
                }
                _ => fit.push('-'),
            }
        }
        let fit = match fit.trim() {
            "" => NAMELESS,
            fit => fit,
        };
        let mut given = fit.to_owned();
        let mut number = 1;
        while !self.0.insert(given.clone()) {
            number += 1;
            given = format!("{fit} {number}");
        }
        given
    }
}
