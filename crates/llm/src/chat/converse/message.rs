//! Writes turns as messages: blocks of one role gathered, tool results first, nothing empty.

use std::{borrow::Cow, collections::BTreeMap};

use serde::{Serialize, Serializer, ser::SerializeSeq};
use serde_json::value::RawValue;

use super::{
    cite::{Cited, Words},
    media::{self, Citable, Document, File, Found, Names},
};
use crate::{
    ApiError, Field, Format, Losses,
    capability::{Caching, Family, Hosted},
    chat::{
        CacheMark, CacheTtl, Part, PartBody, Reasoned, Request, Role, SearchResult, ToolCall, ToolResult,
        Turn, citation,
        messages::{message, wire},
    },
    json,
    media::{Media, MediaKind},
};

/// The most letters of a tool's name or a call's id.
const LETTERS: usize = 64;

/// One message.
#[derive(Serialize)]
pub(super) struct Message<'a> {
    role: &'static str,
    pub(super) content: Marked<Block<'a>>,
}

/// Elements of a list in which a mark after an element is an element of its own.
pub(super) struct Marked<T>(pub(super) Vec<Item<T>>);

/// An element, and the mark after it.
pub(super) struct Item<T> {
    pub(super) body: T,
    pub(super) mark: Option<CachePoint>,
}

/// A mark after which the provider caches.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct CachePoint {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<&'static str>,
}

/// A content block.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Block<'a> {
    Text(Cow<'a, str>),
    CitationsContent {
        content: [Words<'a>; 1],
        citations: Vec<Cited<'a>>,
    },
    SearchResult {
        source: &'a str,
        title: &'a str,
        content: Vec<Words<'a>>,
        citations: Citable,
    },
    Image(File<'a>),
    Audio(File<'a>),
    Video(File<'a>),
    Document(Document<'a>),
    Json(Box<RawValue>),
    ReasoningContent(Reasoning<'a>),
    #[serde(rename_all = "camelCase")]
    ToolUse {
        tool_use_id: Cow<'a, str>,
        name: Cow<'a, str>,
        input: Cow<'a, RawValue>,
    },
    #[serde(rename_all = "camelCase")]
    ToolResult {
        tool_use_id: Cow<'a, str>,
        content: Vec<Block<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        status: Option<&'static str>,
    },
    #[serde(untagged)]
    Native(&'a RawValue),
}

/// What the model thought.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Reasoning<'a> {
    ReasoningText {
        text: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        signature: Option<&'a str>,
    },
    RedactedContent(&'a str),
}

/// Instructions and turns.
pub(super) struct Conversation<'a> {
    pub(super) system: Marked<Block<'a>>,
    pub(super) messages: Vec<Message<'a>>,
}

/// Writes turns; remembers what was lost and which tools were renamed.
pub(super) struct Writer<'w> {
    /// How the model is told what the format has no member for.
    pub(super) hosted: Hosted,
    /// What the format cannot say.
    pub(super) losses: &'w mut Losses,
    /// The client's names of renamed tools, by their new names.
    pub(super) names: &'w mut BTreeMap<String, String>,
    /// The names of documents.
    pub(super) documents: Names,
}

impl Writer<'_> {
    /// Writes the instructions and the turns of `request`, in order.
    ///
    /// # Errors
    /// A 400, if a tool call's arguments are not an object; a 422, if a call or a result has no id.
    pub(super) fn conversation<'a>(&mut self, request: &'a Request) -> Result<Conversation<'a>, ApiError> {
        let mut system = self.system(&request.instructions, &Field::Instructions);
        let mut messages: Vec<Message<'a>> = Vec::with_capacity(request.turns.len());
        for turn in &request.turns {
            let field = Field::Message(turn.origin);
            if turn.name.is_some() {
                let reason = "the converse format has no names of speakers";
                self.losses.advisory(field.clone(), reason);
            }
            turn.extensions
                .lose(Format::Converse, self.losses, |_| field.clone());
            let role = match turn.role {
                Role::System => {
                    let reason = "a system message amid the conversation is sent before it";
                    self.losses.advisory(field.clone(), reason);
                    system.extend(self.system(&turn.parts, &field));
                    continue;
                }
                Role::User => "user",
                Role::Assistant => "assistant",
            };
            let content = self.turn(turn)?;
            match messages.last_mut() {
                _ if content.is_empty() => {}
                Some(last) if last.role == role => last.content.0.extend(content),
                _ => messages.push(Message {
                    role,
                    content: Marked(content),
                }),
            }
        }
        for message in &mut messages {
            // A result must follow its call at once; what the user adds comes after it.
            message.content.0.sort_by_key(|item| !item.body.is_tool_result());
            message.accompany_documents();
        }
        Ok(Conversation {
            system: Marked(system),
            messages,
        })
    }

    /// Returns the name that `tool` has upstream.
    pub(super) fn tool_name<'a>(&mut self, tool: &'a str) -> Cow<'a, str> {
        let name = wire::fit(tool, LETTERS);
        if let Cow::Owned(name) = &name {
            self.names.insert(name.clone(), tool.to_owned());
        }
        name
    }

    /// Returns the mark that says `mark`, as far as the model takes it.
    pub(super) fn mark(&mut self, mark: Option<CacheMark>) -> Option<CachePoint> {
        let mark = mark?;
        let ttl = match (self.hosted.caching, mark.ttl) {
            (Caching::None, _) => {
                self.losses
                    .advisory(Field::Cache, "this model takes no cache points");
                return None;
            }
            (Caching::Plain, Some(CacheTtl::OneHour)) => {
                self.losses.advisory(
                    Field::Cache,
                    "this model's cache points have no lifetime of an hour",
                );
                None
            }
            (Caching::Plain, Some(CacheTtl::FiveMinutes)) => None,
            (Caching::Plain | Caching::Hour, ttl) => ttl.map(CacheTtl::as_str),
        };
        Some(CachePoint { kind: "default", ttl })
    }

    fn system<'a>(&mut self, parts: &'a [Part], field: &Field) -> Vec<Item<Block<'a>>> {
        let mut items = Vec::with_capacity(parts.len());
        for part in parts {
            match &part.body {
                PartBody::Text(text) | PartBody::Refusal(text) => items.extend(self.text(text, part, field)),
                PartBody::Media(_)
                | PartBody::Reasoning(_)
                | PartBody::ToolCall(_)
                | PartBody::SearchResult(_)
                | PartBody::ToolResult(_)
                | PartBody::Native { .. } => {
                    let reason = "instructions of the converse format are text";
                    self.losses.material(field.clone(), reason);
                }
            }
        }
        items
    }

    fn turn<'a>(&mut self, turn: &'a Turn) -> Result<Vec<Item<Block<'a>>>, ApiError> {
        let mut items = Vec::with_capacity(turn.parts.len());
        for part in &turn.parts {
            items.extend(self.part(part, turn)?);
        }
        Ok(items)
    }

    fn part<'a>(&mut self, part: &'a Part, turn: &Turn) -> Result<Option<Item<Block<'a>>>, ApiError> {
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
            PartBody::Reasoning(reasoned) => {
                let block = self.reasoning(reasoned, turn);
                part.extensions
                    .lose(Format::Converse, self.losses, |_| field.clone());
                if part.cache.is_some() {
                    self.losses
                        .advisory(Field::Cache, "reasoning cannot carry a cache mark");
                }
                return Ok(block.map(|body| Item { body, mark: None }));
            }
            PartBody::ToolCall(call) => Some(self.tool_use(call, turn.origin)?),
            PartBody::ToolResult(result) => return self.tool_result(result, part, turn.origin).map(Some),
            PartBody::Native {
                format: Format::Converse,
                raw,
                ..
            } => Some(Block::Native(raw)),
            PartBody::Native { kind, format, .. } => {
                let reason = format!("a part of type \"{kind}\" is known to {} only", format.name());
                self.losses.material(field, reason);
                return Ok(None);
            }
        };
        Ok(body.map(|body| self.written(body, part, &field)))
    }

    /// Writes a text, unless it is blank: the provider refuses blank texts.
    fn text<'a>(&mut self, text: &'a str, part: &'a Part, field: &Field) -> Option<Item<Block<'a>>> {
        if text.trim().is_empty() {
            part.extensions.lose_all(self.losses, |_| field.clone());
            if part.cache.is_some() {
                self.losses
                    .advisory(Field::Cache, "a blank text is not sent, nor its cache mark");
            }
            return None;
        }
        let text = Cow::Borrowed(text);
        // Only models that cite take back what they cited.
        if part.citations.is_empty() || self.hosted.family != Family::Claude {
            if !part.citations.is_empty() {
                self.losses.advisory(field.clone(), "this model cites nothing");
            }
            return Some(self.written(Block::Text(text), part, field));
        }
        if part.citations.iter().any(|citation| citation.seal.is_some()) {
            let reason = "by what another provider knows its search again is not told";
            self.losses.advisory(field.clone(), reason);
        }
        let body = Block::CitationsContent {
            content: [Words { text }],
            citations: part.citations.iter().map(Cited::from).collect(),
        };
        Some(self.written(body, part, field))
    }

    fn search_result<'a>(&mut self, result: &'a SearchResult, field: &Field) -> Block<'a> {
        result.lose_inner(Format::Converse, field, self.losses);
        if self.hosted.family != Family::Claude {
            self.losses.advisory(field.clone(), citation::AS_TEXT);
            return Block::Text(Cow::Owned(result.to_text()));
        }
        let mut content = Vec::with_capacity(result.parts.len());
        for part in &result.parts {
            match &part.body {
                PartBody::Text(text) => content.push(Words {
                    text: Cow::Borrowed(text),
                }),
                PartBody::Media(_)
                | PartBody::SearchResult(_)
                | PartBody::Reasoning(_)
                | PartBody::ToolCall(_)
                | PartBody::ToolResult(_)
                | PartBody::Refusal(_)
                | PartBody::Native { .. } => self.losses.material(field.clone(), "search results are text"),
            }
        }
        Block::SearchResult {
            source: &result.source,
            title: &result.title,
            content,
            citations: Citable::from(result.citable == Some(true)),
        }
    }

    fn written<'a>(&mut self, body: Block<'a>, part: &Part, field: &Field) -> Item<Block<'a>> {
        part.extensions
            .lose(Format::Converse, self.losses, |_| field.clone());
        Item {
            body,
            mark: self.mark(part.cache),
        }
    }

    fn reasoning<'a>(&mut self, reasoned: &'a Reasoned, turn: &Turn) -> Option<Block<'a>> {
        let own = match &reasoned.seal {
            Some(seal) if seal.issuer == Format::Converse => Some(Some(&*seal.bytes)),
            Some(_) => None,
            // Claude takes nothing back that it has not signed; other models sign nothing.
            None => (self.hosted.family != Family::Claude && !reasoned.text.is_empty()).then_some(None),
        };
        match (own, turn.role) {
            (Some(Some(data)), Role::Assistant) if reasoned.redacted => {
                Some(Block::ReasoningContent(Reasoning::RedactedContent(data)))
            }
            (Some(signature), Role::Assistant) => Some(Block::ReasoningContent(Reasoning::ReasoningText {
                text: &reasoned.text,
                signature,
            })),
            _ => {
                let reason = "reasoning that the provider has not signed is not sent back to it";
                self.losses.advisory(Field::Message(turn.origin), reason);
                None
            }
        }
    }

    fn media<'a>(&mut self, media: &'a Media, field: &Field) -> Option<Block<'a>> {
        if media.detail.as_deref().is_some_and(|detail| detail != "auto") {
            self.losses
                .advisory(field.clone(), "the converse format has no detail of pictures");
        }
        self.lose_sources(media, field);
        match media::find(media, &mut self.documents, self.hosted.family) {
            Some(Found::Image(file)) => Some(Block::Image(file)),
            Some(Found::Audio(file)) => Some(Block::Audio(file)),
            Some(Found::Video(file)) => Some(Block::Video(file)),
            Some(Found::Document(document)) => Some(Block::Document(document)),
            None => {
                self.losses.material(field.clone(), media::unsendable(media));
                None
            }
        }
    }

    /// Records what is not told of a document to a model that cites none.
    fn lose_sources(&mut self, media: &Media, field: &Field) {
        if self.hosted.family == Family::Claude && media.kind == MediaKind::Document {
            return;
        }
        if media.citable == Some(true) {
            self.losses
                .advisory(field.clone(), "this model does not cite documents");
        }
        if media.context.is_some() {
            self.losses
                .advisory(field.clone(), "this model takes no context of documents");
        }
    }

    fn tool_use<'a>(&mut self, call: &'a ToolCall, origin: usize) -> Result<Block<'a>, ApiError> {
        Ok(Block::ToolUse {
            input: message::input(call, origin)?,
            tool_use_id: wire::fit(&call.id, LETTERS),
            name: self.tool_name(&call.name),
        })
    }

    fn tool_result<'a>(
        &mut self,
        result: &'a ToolResult,
        part: &Part,
        origin: usize,
    ) -> Result<Item<Block<'a>>, ApiError> {
        if result.call.is_empty() {
            return Err(message::unidentified(origin, "a tool result"));
        }
        let field = Field::Message(origin);
        let mut content = Vec::with_capacity(result.parts.len());
        // A mark inside stands behind the whole result, for the format has none inside.
        let mut mark = part.cache;
        for part in &result.parts {
            mark = mark.or(part.cache);
            part.extensions
                .lose(Format::Converse, self.losses, |_| field.clone());
            match &part.body {
                PartBody::Text(text) | PartBody::Refusal(text) => {
                    if !text.trim().is_empty() {
                        content.push(Block::Text(Cow::Borrowed(text)));
                    }
                }
                PartBody::Media(media) => match self.media(media, &field) {
                    Some(Block::Audio(_)) => {
                        let reason = "results of tools have no sound";
                        self.losses.material(field.clone(), reason);
                    }
                    block => content.extend(block),
                },
                PartBody::SearchResult(result) => content.push(self.search_result(result, &field)),
                PartBody::Native {
                    format: Format::Converse,
                    raw,
                    ..
                } => content.push(Block::Native(raw)),
                PartBody::Reasoning(_)
                | PartBody::ToolCall(_)
                | PartBody::ToolResult(_)
                | PartBody::Native { .. } => {
                    let reason = "results of tools are text, pictures, films and documents";
                    self.losses.material(field.clone(), reason);
                }
            }
        }
        if content.is_empty() {
            content.push(Block::Json(json::raw(&serde_json::Map::new())));
        }
        let body = Block::ToolResult {
            tool_use_id: wire::fit(&result.call, LETTERS),
            content,
            status: (result.is_error == Some(true)).then_some("error"),
        };
        let mark = self.mark(mark);
        part.extensions
            .lose(Format::Converse, self.losses, |_| field.clone());
        Ok(Item { body, mark })
    }
}

impl Message<'_> {
    /// Adds a text to documents that come without one, which the provider refuses: their names, which it has
    /// anyway.
    fn accompany_documents(&mut self) {
        let blocks = || self.content.0.iter().map(|item| &item.body);
        let is_text = |block: &Block<'_>| matches!(block, Block::Text(_) | Block::Native(_));
        if blocks().any(is_text) {
            return;
        }
        let names: Vec<&str> = blocks()
            .filter_map(|block| match block {
                Block::Document(document) => Some(document.name.as_str()),
                _ => None,
            })
            .collect();
        if !names.is_empty() {
            let text = Cow::Owned(names.join(", "));
            self.content.0.push(Item {
                body: Block::Text(text),
                mark: None,
            });
        }
    }
}

impl Block<'_> {
    fn is_tool_result(&self) -> bool {
        matches!(self, Block::ToolResult { .. })
    }
}

impl<T> Marked<T> {
    /// Returns whether there is nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns every mark.
    pub(super) fn marks(&mut self) -> impl Iterator<Item = &mut Option<CachePoint>> {
        let marks = self.0.iter_mut().map(|item| &mut item.mark);
        marks.filter(|mark| mark.is_some())
    }
}

impl<T: Serialize> Serialize for Marked<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Mark {
            cache_point: CachePoint,
        }

        let mut list = serializer.serialize_seq(None)?;
        for item in &self.0 {
            list.serialize_element(&item.body)?;
            if let Some(cache_point) = item.mark {
                list.serialize_element(&Mark { cache_point })?;
            }
        }
        list.end()
    }
}
