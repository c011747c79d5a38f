//! Pictures, documents and sound in a conversation: what they are and where their bytes are.

use base64::{Engine, prelude::BASE64_STANDARD};

use crate::{ApiError, Format, json::Path};

/// A piece of content that is not text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Media {
    /// What it is.
    pub kind: MediaKind,
    /// Where its bytes are.
    pub source: Source,
    /// The file name, where one was given.
    pub name: Option<String>,
    /// How closely a picture is to be looked at, in the client's word (`low`, `high`, `auto`).
    pub detail: Option<String>,
    /// What is to be known of a document beside its content.
    pub context: Option<String>,
    /// Whether answers are to cite a document; `None` leaves it to the provider.
    pub citable: Option<bool>,
}

/// What a piece of media is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MediaKind {
    /// A picture.
    Image,
    /// A PDF or a plain text.
    Document,
    /// Sound.
    Audio,
    /// Moving pictures.
    Video,
}

/// Where the bytes of a piece of media are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// In the request, as standard base64.
    Inline {
        /// `image/png`
        media_type: String,
        /// Standard base64 with padding.
        data: String,
    },
    /// In the request, as plain text.
    Text(String),
    /// At an address that the provider fetches.
    Url(String),
    /// At the provider, under an id that only it knows.
    File {
        /// Whose id it is.
        issuer: Format,
        /// The id.
        id: String,
    },
}

impl Source {
    /// Returns bytes inside the request, or `None` if `data` is not standard base64 with padding.
    pub fn inline(media_type: impl Into<String>, data: impl Into<String>) -> Option<Self> {
        let data = data.into();
        let digits = data
            .strip_suffix("==")
            .or(data.strip_suffix('='))
            .unwrap_or(&data);
        let digit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
        if !data.len().is_multiple_of(4) || !digits.bytes().all(digit) {
            return None;
        }
        Some(Source::Inline {
            media_type: media_type.into(),
            data,
        })
    }

    /// Returns bytes inside the request, which lie at `path`.
    ///
    /// # Errors
    /// A 400, if `data` is empty or not standard base64 with padding.
    pub(crate) fn read(
        media_type: impl Into<String>,
        data: impl Into<String>,
        path: &Path<'_>,
    ) -> Result<Self, ApiError> {
        Self::inline(media_type, data)
            .filter(|source| !matches!(source, Source::Inline { data, .. } if data.is_empty()))
            .ok_or_else(|| path.invalid("the data is not standard base64"))
    }

    /// Returns plain text as text, which more formats can say than a file of it.
    pub(crate) fn into_text(self) -> Self {
        match &self {
            Source::Inline { media_type, data } if media_type.starts_with("text/") => BASE64_STANDARD
                .decode(data)
                .ok()
                .and_then(|bytes| String::from_utf8(bytes).ok())
                .map_or(self, Source::Text),
            Source::Inline { .. } | Source::Text(_) | Source::Url(_) | Source::File { .. } => self,
        }
    }
}

/// Returns the media type that a file name stands for, where a file comes without one.
pub(crate) fn type_of(name: Option<&str>) -> &'static str {
    let end = name.and_then(|name| name.rsplit_once('.')).map(|(_, end)| end);
    match end.map(str::to_ascii_lowercase).as_deref() {
        Some("pdf") | None => "application/pdf",
        Some("txt" | "md") => "text/plain",
        Some(_) => "application/octet-stream",
    }
}

impl MediaKind {
    /// Returns what a media type such as `application/pdf` stands for; anything unknown is a document.
    pub fn of(media_type: &str) -> Self {
        match media_type.split('/').next() {
            Some("image") => MediaKind::Image,
            Some("audio") => MediaKind::Audio,
            Some("video") => MediaKind::Video,
            _ => MediaKind::Document,
        }
    }

    /// Returns the word for a person.
    pub fn name(self) -> &'static str {
        match self {
            MediaKind::Image => "image",
            MediaKind::Document => "document",
            MediaKind::Audio => "audio",
            MediaKind::Video => "video",
        }
    }
}

/// A `data:` URL (RFC 2397) taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataUrl<'a> {
    /// Media type without parameters; `text/plain` where none was given.
    pub media_type: &'a str,
    /// Whether the payload is base64.
    pub base64: bool,
    /// The payload as written.
    pub data: &'a str,
}

impl<'a> DataUrl<'a> {
    /// Takes `url` apart, or returns `None` if it is not a `data:` URL.
    pub fn parse(url: &'a str) -> Option<Self> {
        let rest = url
            .get(..5)
            .filter(|scheme| scheme.eq_ignore_ascii_case("data:"))
            .and(url.get(5..))?;
        let (head, data) = rest.split_once(',')?;
        let (head, base64) = match head.strip_suffix(";base64") {
            Some(head) => (head, true),
            None => (head, false),
        };
        let media_type = head.split(';').next().filter(|media_type| !media_type.is_empty());
        Some(Self {
            media_type: media_type.unwrap_or("text/plain"),
            base64,
            data,
        })
    }
}
