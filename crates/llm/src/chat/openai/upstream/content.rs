//! Writes the parts of a message's content.

use std::borrow::Cow;

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::{
    super::wire::{CacheControl, Members},
    messages::Writer,
};
use crate::{
    Field, Format,
    chat::{CacheMark, Part},
    media::{Media, MediaKind, Source},
    provider::Member,
};

/// The content of a message.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Content<'a> {
    /// Text alone.
    Text(Cow<'a, str>),
    /// Parts of several kinds, or with marks.
    Parts(Vec<Piece<'a>>),
}

/// A part.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Piece<'a> {
    /// One that other formats have too.
    Known(Box<Known<'a>>),
    /// One that only this format has, as the client wrote it.
    Native(&'a RawValue),
}

#[derive(Default, Serialize)]
pub(super) struct Known<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_url: Option<Picture<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    input_audio: Option<Sound<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<File<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    audio_url: Option<Picture<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    video_url: Option<Picture<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<CacheControl>,
    #[serde(flatten)]
    extensions: Members<'a>,
    /// Whether the text must not run together with what stands beside it.
    #[serde(skip)]
    apart: bool,
}

#[derive(Serialize)]
struct Picture<'a> {
    url: Address<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
}

#[derive(Serialize)]
struct Sound<'a> {
    data: &'a str,
    format: &'a str,
}

#[derive(Serialize)]
struct File<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    file_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filename: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_data: Option<Address<'a>>,
}

/// An address, or bytes in a `data:` URL, which is put together only as it is written.
enum Address<'a> {
    Url(&'a str),
    Inline { media_type: &'a str, data: &'a str },
}

impl Serialize for Address<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Address::Url(url) => serializer.serialize_str(url),
            Address::Inline { media_type, data } => {
                serializer.collect_str(&format_args!("data:{media_type};base64,{data}"))
            }
        }
    }
}

impl<'a> Content<'a> {
    /// Returns the content that `pieces` make: text as long as there is nothing else, and nothing if that is
    /// empty.
    pub(super) fn new(mut pieces: Vec<Piece<'a>>) -> Option<Self> {
        pieces.retain(|piece| !piece.is_empty());
        if pieces.is_empty() {
            return None;
        }
        if pieces.iter().any(|piece| piece.plain().is_none()) {
            return Some(Content::Parts(pieces));
        }
        let mut texts = pieces.into_iter().filter_map(Piece::into_text);
        let first = texts.next()?;
        Some(Content::Text(texts.fold(first, |text, more| text + more)))
    }

    /// Returns a text of no length.
    pub(super) fn empty() -> Self {
        Content::Text(Cow::Borrowed(""))
    }
}

impl<'a> Piece<'a> {
    /// Returns a text part.
    pub(super) fn text(text: impl Into<Cow<'a, str>>) -> Self {
        Self::known(Known {
            kind: "text",
            text: Some(text.into()),
            ..Known::default()
        })
    }

    fn known(known: Known<'a>) -> Self {
        Piece::Known(Box::new(known))
    }

    /// Returns whether this is a text of no length, which upstreams refuse.
    fn is_empty(&self) -> bool {
        match self {
            Piece::Known(known) => known.text.as_deref() == Some(""),
            Piece::Native(_) => false,
        }
    }

    /// Returns the text of a part that has neither marks nor members of its own and need not stand alone.
    fn plain(&self) -> Option<&str> {
        match self {
            Piece::Known(known) => known
                .text
                .as_deref()
                .filter(|_| known.cache_control.is_none() && known.extensions.is_empty() && !known.apart),
            Piece::Native(_) => None,
        }
    }

    fn into_text(self) -> Option<Cow<'a, str>> {
        match self {
            Piece::Known(known) => known.text,
            Piece::Native(_) => None,
        }
    }
}

impl<'a> Writer<'a, '_> {
    /// Writes a text.
    pub(super) fn text(&mut self, text: &'a str, part: &'a Part, field: &Field) -> Piece<'a> {
        self.marked(
            Known {
                kind: "text",
                text: Some(Cow::Borrowed(text)),
                ..Known::default()
            },
            part,
            field,
        )
    }

    /// Writes a part that only `format` has, if that is this one.
    pub(super) fn native(
        &mut self,
        format: Format,
        kind: &str,
        raw: &'a RawValue,
        field: &Field,
    ) -> Option<Piece<'a>> {
        match format {
            Format::OpenAi => Some(Piece::Native(raw)),
            Format::Messages | Format::Responses | Format::Gemini | Format::Converse | Format::Cohere => {
                let reason = format!("a part of type {kind} is known to {} only", format.name());
                self.losses.material(field.clone(), reason);
                None
            }
        }
    }

    /// Writes a picture, a document, sound or moving pictures; `None` if the upstream could not read it.
    pub(super) fn media(&mut self, media: &'a Media, part: &'a Part, field: &Field) -> Option<Piece<'a>> {
        let written = match (media.kind, &media.source) {
            (_, Source::File { issuer, id }) if *issuer == Format::OpenAi => Ok(Known {
                kind: "file",
                file: Some(File {
                    file_id: Some(id),
                    filename: media.name.as_deref(),
                    file_data: None,
                }),
                ..Known::default()
            }),
            (_, Source::File { .. }) => {
                Err("a file of another provider is known by an id that this upstream cannot read")
            }
            (_, Source::Text(text)) => {
                self.losses.advisory(
                    field.clone(),
                    "a document of text is sent as text to this upstream",
                );
                Ok(Known {
                    kind: "text",
                    text: Some(match &media.name {
                        Some(name) => Cow::Owned(format!("{name}\n\n{text}")),
                        None => Cow::Borrowed(text),
                    }),
                    apart: true,
                    ..Known::default()
                })
            }
            (MediaKind::Image, source) => Ok(Known {
                kind: "image_url",
                image_url: picture(source, media.detail.as_deref()),
                ..Known::default()
            }),
            (MediaKind::Document, Source::Inline { media_type, data }) => Ok(Known {
                kind: "file",
                file: Some(File {
                    file_id: None,
                    filename: Some(media.name.as_deref().unwrap_or(match media_type.as_str() {
                        "application/pdf" => "document.pdf",
                        _ => "document",
                    })),
                    file_data: Some(Address::Inline { media_type, data }),
                }),
                ..Known::default()
            }),
            (MediaKind::Document, Source::Url(_)) => {
                Err("this upstream takes documents only with their bytes, not by address")
            }
            (MediaKind::Audio, Source::Inline { media_type, data }) => self.sound(media_type, data),
            (MediaKind::Audio, source @ Source::Url(_)) if self.dialect.audio_url => Ok(Known {
                kind: "audio_url",
                audio_url: picture(source, None),
                ..Known::default()
            }),
            (MediaKind::Audio, Source::Url(_)) => Err("this upstream does not fetch sound"),
            (MediaKind::Video, source) if self.dialect.video_url => Ok(Known {
                kind: "video_url",
                video_url: picture(source, None),
                ..Known::default()
            }),
            (MediaKind::Video, _) => Err("this upstream does not take moving pictures"),
        };
        match written {
            Ok(known) => Some(self.marked(known, part, field)),
            Err(reason) => {
                self.losses.material(field.clone(), reason);
                None
            }
        }
    }

    /// Returns the mark, if the upstream takes marks.
    pub(super) fn mark(&mut self, mark: Option<CacheMark>) -> Option<CacheControl> {
        if mark.is_some() && !self.dialect.cache_control {
            self.losses
                .advisory(Field::Cache, "this upstream decides itself what it caches");
            return None;
        }
        mark.map(CacheControl::from)
    }

    /// Returns whether arguments must follow the schema of the tool at `index`, if the upstream takes that.
    pub(super) fn strict(&mut self, strict: Option<bool>, index: usize) -> Option<bool> {
        let taken = self.dialect.takes(Member::Strict);
        if strict == Some(true) && !taken {
            self.losses.advisory(
                Field::Tool(index),
                "this upstream does not hold arguments to their schema",
            );
        }
        strict.filter(|_| taken)
    }

    fn sound(&self, media_type: &'a str, data: &'a str) -> Result<Known<'a>, &'static str> {
        let format = match media_type {
            "audio/wav" | "audio/x-wav" | "audio/wave" => "wav",
            "audio/mpeg" | "audio/mp3" => "mp3",
            other if self.dialect.audio_url => other.strip_prefix("audio/").unwrap_or(other),
            _ => return Err("this upstream takes sound as wav and mp3 only"),
        };
        Ok(Known {
            kind: "input_audio",
            input_audio: Some(Sound { data, format }),
            ..Known::default()
        })
    }

    fn marked(&mut self, known: Known<'a>, part: &'a Part, field: &Field) -> Piece<'a> {
        part.extensions
            .lose(Format::OpenAi, self.losses, |_| field.clone());
        Piece::known(Known {
            cache_control: self.mark(part.cache),
            extensions: Members::from(&part.extensions),
            ..known
        })
    }
}

fn picture<'a>(source: &'a Source, detail: Option<&'a str>) -> Option<Picture<'a>> {
    let url = match source {
        Source::Url(url) => Address::Url(url),
        Source::Inline { media_type, data } => Address::Inline { media_type, data },
        Source::Text(_) | Source::File { .. } => return None,
    };
    Some(Picture { url, detail })
}
