//! Writes turns as messages: blocks of one role gathered, tool results first, nothing empty.

use std::{borrow::Cow, collections::BTreeMap};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::{
    cite::{self, Cited},
    wire::{self, CacheControl},
};
use crate::{
    ApiError, ErrorKind, Field, Format, Losses,
    chat::{Extensions, Part, PartBody, Reasoned, Role, SearchResult, ToolCall, ToolKind, ToolResult, Turn},
    json::{self, Kind, Path},
    media::{Media, MediaKind, Source as MediaSource},
};

/// The media types of pictures that the provider takes.
const IMAGES: &[&str] = &["image/jpeg", "image/png", "image/gif", "image/webp"];

/// One message.
#[derive(Serialize)]
pub(super) struct Message<'a> {
    role: &'static str,
    pub(super) content: Vec<Block<'a>>,
    #[serde(flatten)]
    extensions: Members<'a>,
}

/// A content block.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Block<'a> {
    /// Written from a part.
    Written(Written<'a>),
    /// As the client wrote it.
    Native(&'a RawValue),
}

/// A content block that was written from a part.
#[derive(Serialize)]
pub(super) struct Written<'a> {
    #[serde(flatten)]
    pub(super) body: Body<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cache_control: Option<CacheControl>,
    #[serde(flatten)]
    extensions: Members<'a>,
}

/// What a content block is.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Body<'a> {
    Text {
        text: Cow<'a, str>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        citations: Vec<Cited<'a>>,
    },
    Image {
        source: Source<'a>,
    },
    Document {
        source: Source<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        title: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        context: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        citations: Option<Citable>,
    },
    SearchResult {
        source: &'a str,
        title: &'a str,
        content: Vec<Block<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        citations: Option<Citable>,
    },
    Thinking {
        thinking: &'a str,
        signature: &'a str,
    },
    RedactedThinking {
        data: &'a str,
    },
    ToolUse {
        id: Cow<'a, str>,
        name: Cow<'a, str>,
        input: Cow<'a, RawValue>,
    },
    ToolResult {
        tool_use_id: Cow<'a, str>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        content: Vec<Block<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        is_error: Option<bool>,
    },
}

/// Where the bytes of a picture or document are.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Source<'a> {
    Base64 {
        media_type: &'a str,
        data: &'a str,
    },
    Text {
        media_type: &'static str,
        data: Cow<'a, str>,
    },
    Url {
        url: &'a str,
    },
    File {
        file_id: &'a str,
    },
}

/// Whether answers are to cite something.
#[derive(Serialize)]
pub(super) struct Citable {
    enabled: bool,
}

impl Citable {
    fn new(citable: Option<bool>) -> Option<Self> {
        citable.map(|enabled| Self { enabled })
    }
}

/// Members that only this format has, as the client wrote them.
pub(super) struct Members<'a>(pub(super) &'a Extensions);

impl Serialize for Members<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.of(Format::Messages).map(|own| (&own.key, &own.value)))
    }
}

/// Writes turns; remembers what was lost and which tools were renamed.
pub(super) struct Writer<'w> {
    /// What the format cannot say.
    pub(super) losses: &'w mut Losses,
    /// The client's names of renamed tools, by their new names.
    pub(super) names: &'w mut BTreeMap<String, String>,
}

impl Writer<'_> {
    /// Writes `turns` as messages, in order.
    ///
    /// # Errors
    /// A 400, if a tool call's arguments are not an object or nothing is left; a 422, if a call has no id.
    pub(super) fn messages<'a>(&mut self, turns: &'a [Turn]) -> Result<Vec<Message<'a>>, ApiError> {
        let mut messages: Vec<Message<'a>> = Vec::with_capacity(turns.len());
        for turn in turns {
            if turn.name.is_some() {
                let reason = "the messages format has no names of speakers";
                self.losses.advisory(Field::Message(turn.origin), reason);
            }
            turn.extensions
                .lose(Format::Messages, self.losses, |_| Field::Message(turn.origin));
            let role = match turn.role {
                Role::User | Role::System => "user",
                Role::Assistant => "assistant",
            };
            let content = self.turn(turn)?;
            match messages.last_mut() {
                _ if content.is_empty() => {}
                Some(last) if last.role == role => last.content.extend(content),
                _ => messages.push(Message {
                    role,
                    content,
                    extensions: Members(&turn.extensions),
                }),
            }
        }
        if messages.is_empty() {
            return Err(Path::Root.key("messages").invalid("no message has any content"));
        }
        // A result must follow its call at once; what the user adds comes after it ("Tool use", API guide).
        for message in &mut messages {
            message.content.sort_by_key(|block| !block.is_tool_result());
        }
        Ok(messages)
    }

    /// Writes the instructions before the first turn as the blocks of `system`.
    pub(super) fn system<'a>(&mut self, parts: &'a [Part]) -> Vec<Block<'a>> {
        let mut blocks = Vec::with_capacity(parts.len());
        for part in parts {
            match &part.body {
                PartBody::Text(text) | PartBody::Refusal(text) => {
                    blocks.extend(self.text(text, part, &Field::Instructions));
                }
                PartBody::Native {
                    format: Format::Messages,
                    raw,
                    ..
                } => blocks.push(Block::Native(raw)),
                PartBody::Media(_)
                | PartBody::Reasoning(_)
                | PartBody::ToolCall(_)
                | PartBody::SearchResult(_)
                | PartBody::ToolResult(_)
                | PartBody::Native { .. } => {
                    let reason = "instructions of the messages format are text";
                    self.losses.material(Field::Instructions, reason);
                }
            }
        }
        blocks
    }

    /// Returns the name that `tool` has upstream.
    pub(super) fn tool_name<'a>(&mut self, tool: &'a str) -> Cow<'a, str> {
        let name = wire::tool_name(tool);
        if let Cow::Owned(name) = &name {
            self.names.insert(name.clone(), tool.to_owned());
        }
        name
    }

    fn turn<'a>(&mut self, turn: &'a Turn) -> Result<Vec<Block<'a>>, ApiError> {
        let field = Field::Message(turn.origin);
        let mut blocks = Vec::with_capacity(turn.parts.len());
        for part in &turn.parts {
            if turn.role == Role::System
                && let PartBody::Text(text) = &part.body
                && !text.trim().is_empty()
            {
                let reason = "a system message amid the conversation is sent as the user's, marked as such";
                self.losses.advisory(field.clone(), reason);
                let text = Cow::Owned(format!("<system>\n{text}\n</system>"));
                let citations = Vec::new();
                blocks.push(self.written(Body::Text { text, citations }, part, &field));
                continue;
            }
            blocks.extend(self.part(part, turn)?);
        }
        Ok(blocks)
    }

    fn part<'a>(&mut self, part: &'a Part, turn: &Turn) -> Result<Option<Block<'a>>, ApiError> {
        let field = Field::Message(turn.origin);
        let body = match &part.body {
            PartBody::Text(text) | PartBody::Refusal(text) => return Ok(self.text(text, part, &field)),
            PartBody::Media(_) if turn.role == Role::Assistant => {
                self.losses
                    .material(field, "messages from the model have no media");
                return Ok(None);
            }
            PartBody::Media(media) => self.media(media, &field),
            PartBody::SearchResult(_) if turn.role == Role::Assistant => {
                let reason = "messages from the model have no search results";
                self.losses.material(field, reason);
                return Ok(None);
            }
            PartBody::SearchResult(result) => Some(self.search_result(result, &field)),
            PartBody::Reasoning(reasoned) => self.reasoning(reasoned, part, turn),
            PartBody::ToolCall(call) => Some(self.tool_use(call, turn.origin)?),
            PartBody::ToolResult(result) => Some(self.tool_result(result, turn.origin)?),
            PartBody::Native {
                format: Format::Messages,
                raw,
                ..
            } => return Ok(Some(Block::Native(raw))),
            PartBody::Native { kind, format, .. } => {
                let reason = format!("a part of type \"{kind}\" is known to {} only", format.name());
                self.losses.material(field, reason);
                return Ok(None);
            }
        };
        Ok(body.map(|body| self.written(body, part, &field)))
    }

    /// Writes a text, unless it is blank: the provider refuses blank texts.
    fn text<'a>(&mut self, text: &'a str, part: &'a Part, field: &Field) -> Option<Block<'a>> {
        if text.trim().is_empty() {
            part.extensions.lose_all(self.losses, |_| field.clone());
            if part.cache.is_some() {
                self.losses
                    .advisory(Field::Cache, "a blank text is not sent, nor its cache mark");
            }
            return None;
        }
        let text = Cow::Borrowed(text);
        let citations = cite::write_all(&part.citations);
        Some(self.written(Body::Text { text, citations }, part, field))
    }

    fn written<'a>(&mut self, body: Body<'a>, part: &'a Part, field: &Field) -> Block<'a> {
        part.extensions
            .lose(Format::Messages, self.losses, |_| field.clone());
        Block::Written(Written {
            body,
            cache_control: part.cache.map(CacheControl::from),
            extensions: Members(&part.extensions),
        })
    }

    fn reasoning<'a>(&mut self, reasoned: &'a Reasoned, part: &Part, turn: &Turn) -> Option<Body<'a>> {
        if part.cache.is_some() {
            self.losses
                .advisory(Field::Cache, "reasoning cannot carry a cache mark");
        }
        let seal = reasoned.seal.as_ref().map(|seal| (seal.issuer, &*seal.bytes));
        match (seal, turn.role) {
            (Some((Format::Messages, data)), Role::Assistant) if reasoned.redacted => {
                Some(Body::RedactedThinking { data })
            }
            (Some((Format::Messages, signature)), Role::Assistant) => Some(Body::Thinking {
                thinking: &reasoned.text,
                signature,
            }),
            _ => {
                let reason = "reasoning that the provider has not signed is not sent back to it";
                let field = Field::Message(turn.origin);
                self.losses.advisory(field.clone(), reason);
                part.extensions.lose_all(self.losses, |_| field.clone());
                None
            }
        }
    }

    fn media<'a>(&mut self, media: &'a Media, field: &Field) -> Option<Body<'a>> {
        let body = match (&media.source, media.kind) {
            (MediaSource::Inline { media_type, data }, _) => inline(media_type, data, media),
            (MediaSource::Text(text), _) => Some(document(
                Source::Text {
                    media_type: "text/plain",
                    data: Cow::Borrowed(text),
                },
                media,
            )),
            (MediaSource::Url(url), MediaKind::Document) => Some(document(Source::Url { url }, media)),
            (MediaSource::Url(url), MediaKind::Image) if is_pdf(url) => {
                Some(document(Source::Url { url }, media))
            }
            (MediaSource::Url(url), MediaKind::Image) => Some(Body::Image {
                source: Source::Url { url },
            }),
            (MediaSource::File { issuer, id }, kind) if *issuer == Format::Messages => {
                let source = Source::File { file_id: id };
                match kind {
                    MediaKind::Image => Some(Body::Image { source }),
                    MediaKind::Document => Some(document(source, media)),
                    MediaKind::Audio | MediaKind::Video => None,
                }
            }
            (MediaSource::File { .. }, _) | (MediaSource::Url(_), MediaKind::Audio | MediaKind::Video) => {
                None
            }
        };
        if body.is_none() {
            self.losses.material(field.clone(), unsendable(media));
        }
        if media.detail.as_deref().is_some_and(|detail| detail != "auto") {
            self.losses
                .advisory(field.clone(), "the messages format has no detail of pictures");
        }
        body
    }

    fn search_result<'a>(&mut self, result: &'a SearchResult, field: &Field) -> Body<'a> {
        let mut content = Vec::with_capacity(result.parts.len());
        for part in &result.parts {
            match &part.body {
                PartBody::Text(text) | PartBody::Refusal(text) => {
                    content.extend(self.text(text, part, field))
                }
                PartBody::Media(_)
                | PartBody::SearchResult(_)
                | PartBody::Reasoning(_)
                | PartBody::ToolCall(_)
                | PartBody::ToolResult(_)
                | PartBody::Native { .. } => {
                    let reason = "search results are text";
                    self.losses.material(field.clone(), reason);
                }
            }
        }
        Body::SearchResult {
            source: &result.source,
            title: &result.title,
            content,
            citations: Citable::new(result.citable),
        }
    }

    fn tool_use<'a>(&mut self, call: &'a ToolCall, origin: usize) -> Result<Body<'a>, ApiError> {
        Ok(Body::ToolUse {
            input: input(call, origin)?,
            id: wire::tool_id(&call.id),
            name: self.tool_name(&call.name),
        })
    }

    fn tool_result<'a>(&mut self, result: &'a ToolResult, origin: usize) -> Result<Body<'a>, ApiError> {
        if result.call.is_empty() {
            return Err(unidentified(origin, "a tool result"));
        }
        let field = Field::Message(origin);
        let mut content = Vec::with_capacity(result.parts.len());
        for part in &result.parts {
            match &part.body {
                PartBody::Text(text) | PartBody::Refusal(text) => {
                    content.extend(self.text(text, part, &field));
                }
                PartBody::Media(media) => {
                    let body = self.media(media, &field);
                    content.extend(body.map(|body| self.written(body, part, &field)));
                }
                PartBody::SearchResult(result) => {
                    let body = self.search_result(result, &field);
                    content.push(self.written(body, part, &field));
                }
                PartBody::Native {
                    format: Format::Messages,
                    raw,
                    ..
                } => content.push(Block::Native(raw)),
                PartBody::Reasoning(_)
                | PartBody::ToolCall(_)
                | PartBody::ToolResult(_)
                | PartBody::Native { .. } => {
                    let reason = "results of tools are text, pictures and documents";
                    self.losses.material(field.clone(), reason);
                }
            }
        }
        Ok(Body::ToolResult {
            tool_use_id: wire::tool_id(&result.call),
            content,
            is_error: result.is_error.filter(|is_error| *is_error),
        })
    }
}

impl<'a> Block<'a> {
    /// Returns every cache mark of the block, its content's first.
    pub(super) fn marks(&mut self) -> Vec<&mut Option<CacheControl>> {
        match self {
            Block::Written(written) => {
                let mut marks = match &mut written.body {
                    Body::ToolResult { content, .. } | Body::SearchResult { content, .. } => {
                        content.iter_mut().flat_map(Block::marks).collect()
                    }
                    Body::Text { .. }
                    | Body::Image { .. }
                    | Body::Document { .. }
                    | Body::Thinking { .. }
                    | Body::RedactedThinking { .. }
                    | Body::ToolUse { .. } => Vec::new(),
                };
                marks.push(&mut written.cache_control);
                marks
            }
            Block::Native(_) => Vec::new(),
        }
    }

    fn is_tool_result(&self) -> bool {
        matches!(
            self,
            Block::Written(Written {
                body: Body::ToolResult { .. },
                ..
            })
        )
    }
}

/// Writes bytes that came with the request, by their media type rather than by what the client called them.
fn inline<'a>(media_type: &'a str, data: &'a str, media: &'a Media) -> Option<Body<'a>> {
    let media_type = match media_type {
        "image/jpg" => "image/jpeg",
        media_type => media_type,
    };
    if IMAGES.contains(&media_type) {
        return Some(Body::Image {
            source: Source::Base64 { media_type, data },
        });
    }
    if media_type == "application/pdf" {
        return Some(document(Source::Base64 { media_type, data }, media));
    }
    if !media_type.starts_with("text/") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(data).ok()?).ok()?;
    let source = Source::Text {
        media_type: "text/plain",
        data: Cow::Owned(text),
    };
    Some(document(source, media))
}

fn document<'a>(source: Source<'a>, media: &'a Media) -> Body<'a> {
    Body::Document {
        source,
        title: media.name.as_deref(),
        context: media.context.as_deref(),
        citations: Citable::new(media.citable),
    }
}

fn is_pdf(url: &str) -> bool {
    let bytes = url.as_bytes();
    bytes
        .len()
        .checked_sub(4)
        .and_then(|start| bytes.get(start..))
        .is_some_and(|end| end.eq_ignore_ascii_case(b".pdf"))
}

fn unsendable(media: &Media) -> String {
    let kind = media.kind.name();
    match &media.source {
        MediaSource::Inline { media_type, .. } => {
            format!("the messages format has no {kind} of type {media_type}")
        }
        MediaSource::File { issuer, .. } => {
            format!("the file id of this {kind} is known to {} only", issuer.name())
        }
        MediaSource::Url(_) | MediaSource::Text(_) => format!("the messages format has no {kind}"),
    }
}

/// Returns the arguments of `call`, which is in the message at `origin`, as the object that they must be.
///
/// # Errors
/// A 400, if they are none; a 422, if the call has no id.
pub(in crate::chat) fn input(call: &ToolCall, origin: usize) -> Result<Cow<'_, RawValue>, ApiError> {
    if call.id.is_empty() {
        return Err(unidentified(origin, "a tool call"));
    }
    match call.kind {
        ToolKind::Custom => Ok(Cow::Owned(json::raw(&BTreeMap::from([(
            "input",
            &call.arguments,
        )])))),
        ToolKind::Function if call.arguments.trim().is_empty() => {
            Ok(Cow::Owned(json::raw(&serde_json::Map::new())))
        }
        ToolKind::Function => serde_json::from_str::<&RawValue>(&call.arguments)
            .ok()
            .filter(|raw| json::kind(raw) == Kind::Object)
            .map(Cow::Borrowed)
            .ok_or_else(|| {
                let reason = format!("the arguments of tool call \"{}\" are not a JSON object", call.id);
                Path::Root.key("messages").index(origin).invalid(reason)
            }),
    }
}

/// Returns a 422: `what`, in the message at `origin`, has no id.
pub(in crate::chat) fn unidentified(origin: usize, what: &str) -> ApiError {
    let path = format!("messages[{origin}]");
    ApiError::new(ErrorKind::Unprocessable, format!("{path}: {what} has no id")).with_param(path)
}
