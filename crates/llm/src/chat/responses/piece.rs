//! Writes the parts of an item's content. The other direction is in [`super::content`].

use std::borrow::Cow;

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::input::OF_ITEM;
use crate::{
    Field, Format, Losses,
    chat::{Extensions, Part},
    media::{Media, MediaKind, Source},
};

/// The content of an item.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Content<'a> {
    Text(Cow<'a, str>),
    Parts(Vec<Said<'a>>),
}

/// A part of an item's content.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Said<'a> {
    Written {
        #[serde(flatten)]
        piece: Piece<'a>,
        #[serde(flatten)]
        members: Members<'a>,
    },
    Native(&'a RawValue),
}

/// What a part of an item's content is.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Piece<'a> {
    InputText {
        text: Cow<'a, str>,
    },
    OutputText {
        text: &'a str,
    },
    SummaryText {
        text: &'a str,
    },
    Refusal {
        refusal: &'a str,
    },
    InputImage {
        #[serde(skip_serializing_if = "Option::is_none")]
        image_url: Option<Address<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        file_id: Option<&'a str>,
        detail: &'a str,
    },
    InputFile {
        #[serde(skip_serializing_if = "Option::is_none")]
        filename: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        file_data: Option<Address<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        file_url: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        file_id: Option<&'a str>,
    },
    InputAudio {
        input_audio: Sound<'a>,
    },
}

/// Sound, with its bytes.
#[derive(Serialize)]
pub(super) struct Sound<'a> {
    data: &'a str,
    format: &'static str,
}

/// An address, or bytes in a `data:` URL, which is put together only as it is written.
pub(super) enum Address<'a> {
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

/// Members that only this format has: those of an item or, without a prefix, those of a part.
pub(super) struct Members<'a> {
    extensions: Option<&'a Extensions>,
    of_item: bool,
}

impl<'a> Members<'a> {
    /// Returns the members of the item that begins with `part`.
    pub(super) fn of_item(part: &'a Part) -> Self {
        Self {
            extensions: Some(&part.extensions),
            of_item: true,
        }
    }

    /// Returns the members of `part` itself.
    pub(super) fn of_part(part: &'a Part) -> Self {
        Self {
            extensions: Some(&part.extensions),
            of_item: false,
        }
    }

    /// Returns no members.
    pub(super) fn none() -> Self {
        Self {
            extensions: None,
            of_item: false,
        }
    }

    /// Returns the members and their values.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'a str, &'a RawValue)> {
        let of_item = self.of_item;
        let own = self.extensions.into_iter();
        let own = own.flat_map(|extensions| extensions.of(Format::Responses));
        own.filter_map(move |extension| {
            let key = match extension.key.strip_prefix(OF_ITEM) {
                Some(key) => of_item.then_some(key),
                None => (!of_item).then_some(extension.key.as_str()),
            };
            Some((key?, &*extension.value))
        })
    }
}

impl Serialize for Members<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl Said<'_> {
    /// Returns the text of a part that has no members of its own.
    pub(super) fn plain(&self) -> Option<&str> {
        match self {
            Said::Written {
                piece: Piece::InputText { text },
                members,
            } if members.iter().next().is_none() => Some(text),
            Said::Written { .. } | Said::Native(_) => None,
        }
    }
}

/// Writes a picture, a document or sound; `None` if the upstream could not read it.
pub(super) fn media<'a>(media: &'a Media, field: &Field, losses: &mut Losses) -> Option<Piece<'a>> {
    let unnamed = match media.kind {
        MediaKind::Document => Some("document.pdf"),
        MediaKind::Image | MediaKind::Audio | MediaKind::Video => None,
    };
    let filename = media.name.as_deref();
    let written = match (media.kind, &media.source) {
        (_, Source::File { issuer, .. }) if !matches!(issuer, Format::OpenAi | Format::Responses) => {
            Err(format!(
                "the file id of this {} is known to {} only",
                media.kind.name(),
                issuer.name()
            ))
        }
        (_, Source::Text(text)) => {
            let reason = "a document of text is sent as text to this upstream";
            losses.advisory(field.clone(), reason);
            let text = match filename {
                Some(name) => Cow::Owned(format!("{name}\n\n{text}")),
                None => Cow::Borrowed(text.as_str()),
            };
            Ok(Piece::InputText { text })
        }
        (MediaKind::Image, source) => Ok(Piece::InputImage {
            image_url: address(source),
            file_id: file_id(source),
            detail: media.detail.as_deref().unwrap_or("auto"),
        }),
        (MediaKind::Document, Source::Url(url)) => Ok(Piece::InputFile {
            filename,
            file_data: None,
            file_url: Some(url),
            file_id: None,
        }),
        (MediaKind::Document, source @ Source::Inline { .. }) => Ok(Piece::InputFile {
            filename: filename.or(unnamed),
            file_data: address(source),
            file_url: None,
            file_id: None,
        }),
        (MediaKind::Document, source @ Source::File { .. }) => Ok(Piece::InputFile {
            filename: None,
            file_data: None,
            file_url: None,
            file_id: file_id(source),
        }),
        (MediaKind::Audio, Source::Inline { media_type, data }) => match media_type.as_str() {
            "audio/wav" | "audio/x-wav" | "audio/wave" => Ok("wav"),
            "audio/mpeg" | "audio/mp3" => Ok("mp3"),
            _ => Err("this upstream takes sound as wav and mp3 only".to_owned()),
        }
        .map(|format| Piece::InputAudio {
            input_audio: Sound { data, format },
        }),
        (MediaKind::Audio | MediaKind::Video, _) => Err(format!(
            "the responses format has no {} of this kind",
            media.kind.name()
        )),
    };
    written
        .map_err(|reason| losses.material(field.clone(), reason))
        .ok()
}

fn address(source: &Source) -> Option<Address<'_>> {
    match source {
        Source::Url(url) => Some(Address::Url(url)),
        Source::Inline { media_type, data } => Some(Address::Inline { media_type, data }),
        Source::Text(_) | Source::File { .. } => None,
    }
}

fn file_id(source: &Source) -> Option<&str> {
    match source {
        Source::File { id, .. } => Some(id),
        Source::Url(_) | Source::Inline { .. } | Source::Text(_) => None,
    }
}
