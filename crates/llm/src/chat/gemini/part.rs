//! The parts of contents as they are written, in requests and in replies.

use std::{borrow::Cow, collections::BTreeMap};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    content::{self, DETAILS},
    wire::{self, Members},
};
use crate::{
    Format,
    capability::Capability,
    chat::{Extensions, PartBody, ToolCall, ToolKind},
    json,
    media::{Media, MediaKind, Source},
};

/// What one side said.
#[derive(Serialize)]
pub(super) struct Content<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) role: Option<&'static str>,
    pub(super) parts: Vec<Block<'a>>,
    #[serde(flatten)]
    pub(super) members: Option<Members<'a>>,
}

/// A part.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Block<'a> {
    /// Written from a part of the neutral form.
    Written(Box<Written<'a>>),
    /// As the client wrote it.
    Native(&'a RawValue),
}

/// A part that was written from one of the neutral form.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Written<'a> {
    #[serde(flatten)]
    pub(super) body: Body<'a>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) thought: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) thought_signature: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) media_resolution: Option<Resolution>,
    #[serde(flatten)]
    pub(super) members: Option<Members<'a>>,
}

/// What a part is.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Body<'a> {
    Text(Cow<'a, str>),
    InlineData(Blob<'a>),
    FileData(File<'a>),
    FunctionCall(FunctionCall<'a>),
    FunctionResponse(FunctionResponse<'a>),
}

impl Default for Body<'_> {
    fn default() -> Self {
        Body::Text(Cow::Borrowed(""))
    }
}

/// How closely a picture is looked at.
#[derive(Serialize)]
pub(super) struct Resolution {
    level: &'static str,
}

/// Bytes in the request.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Blob<'a> {
    pub(super) mime_type: &'a str,
    pub(super) data: Cow<'a, str>,
    #[serde(flatten)]
    pub(super) members: Option<Members<'a>>,
}

/// Bytes at an address.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct File<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    mime_type: Option<&'static str>,
    file_uri: &'a str,
    #[serde(flatten)]
    members: Members<'a>,
}

/// A call.
#[derive(Serialize)]
pub(super) struct FunctionCall<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<Cow<'a, str>>,
    pub(super) name: Cow<'a, str>,
    pub(super) args: Cow<'a, RawValue>,
    #[serde(flatten)]
    pub(super) members: Option<Members<'a>>,
}

/// What a function gave.
#[derive(Serialize)]
pub(super) struct FunctionResponse<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<&'a str>,
    pub(super) name: Cow<'a, str>,
    pub(super) response: Cow<'a, RawValue>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) parts: Vec<Block<'a>>,
    #[serde(flatten)]
    pub(super) members: Members<'a>,
}

impl<'a> Block<'a> {
    /// Hangs `signature` on the part.
    pub(super) fn signed(mut self, signature: Option<Cow<'a, str>>) -> Self {
        if let (Block::Written(written), Some(_)) = (&mut self, &signature) {
            written.thought_signature = signature;
        }
        self
    }

    /// Says how closely a picture is to be looked at, to a model that takes it.
    pub(super) fn look(&mut self, body: &PartBody, capability: &Capability) {
        let PartBody::Media(media) = body else {
            return;
        };
        let word = media.detail.as_deref().filter(|_| capability.media_resolution);
        let known = DETAILS.iter().find(|(name, _)| Some(*name) == word);
        if let (Block::Written(written), Some((_, level))) = (self, known) {
            written.media_resolution = Some(Resolution { level });
        }
    }
}

/// Returns a part that says nothing and carries `signature`, as the provider writes it at the end of a stream.
pub(super) fn bare(signature: Cow<'_, str>) -> Block<'_> {
    Block::Written(Box::default()).signed(Some(signature))
}

/// Returns the bytes of `media`, if they came with it.
pub(super) fn blob(media: &Media) -> Option<Blob<'_>> {
    let (mime_type, data) = match &media.source {
        Source::Inline { media_type, data } => (media_type.as_str(), Cow::Borrowed(data.as_str())),
        Source::Text(text) => ("text/plain", Cow::Owned(STANDARD.encode(text))),
        Source::Url(_) | Source::File { .. } => return None,
    };
    Some(Blob {
        mime_type,
        data,
        members: None,
    })
}

/// Returns the file at `uri`, of which `extensions` may know the media type.
pub(super) fn file<'a>(uri: &'a str, kind: MediaKind, extensions: &'a Extensions) -> File<'a> {
    let members = Members {
        extensions,
        prefix: wire::FILE,
    };
    let key = format!("{}mimeType", wire::FILE);
    let said = extensions
        .of(Format::Gemini)
        .any(|extension| extension.key == key);
    File {
        mime_type: (!said).then(|| content::guess(uri, Some(kind))),
        file_uri: uri,
        members,
    }
}

/// Returns the arguments of `call` as the object that this format demands; `None` if they are something else.
pub(super) fn arguments(call: &ToolCall) -> Option<Cow<'_, RawValue>> {
    match call.kind {
        ToolKind::Custom => Some(Cow::Owned(json::raw(&BTreeMap::from([(
            "input",
            &call.arguments,
        )])))),
        ToolKind::Function if call.arguments.trim().is_empty() => {
            Some(Cow::Owned(json::raw(&serde_json::Map::new())))
        }
        ToolKind::Function => content::as_object(&call.arguments).map(Cow::Borrowed),
    }
}
