//! Writes instructions and turns as `messages`.
//!
//! Results of tools must follow the calls at once, so what else users say in between waits until the last
//! result is written.

use std::borrow::Cow;

use serde::Serialize;

use super::{
    super::{
        reasoning::ThinkingBlock,
        wire::{self, Members, ToolCall},
    },
    Names,
    content::{Content, Piece},
};
use crate::{
    ApiError, Field, Format, Losses,
    chat::{Part, PartBody, Reasoned, Request, Role, ToolResult, Turn},
    provider::{Dialect, Member, Replay},
};

/// Put before the output of a tool that failed, because the format has no mark for it.
const FAILED: &str = "Error: ";

/// One message.
#[derive(Default, Serialize)]
pub(super) struct Message<'a> {
    role: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<Content<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    thinking_blocks: Vec<ThinkingBlock<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ToolCall<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<wire::CacheControl>,
    #[serde(flatten)]
    extensions: Members<'a>,
}

/// Writes the messages of one request.
pub(super) struct Writer<'a, 'l> {
    pub(super) dialect: Dialect,
    pub(super) names: &'a Names,
    pub(super) losses: &'l mut Losses,
    messages: Vec<Message<'a>>,
    /// What users said beside results that are not complete yet.
    waiting: Vec<Piece<'a>>,
}

/// Returns how many calls the conversation holds.
pub(super) fn calls(request: &Request) -> usize {
    let parts = request.turns.iter().flat_map(|turn| &turn.parts);
    parts
        .filter(|part| matches!(part.body, PartBody::ToolCall(_)))
        .count()
}

impl<'a, 'l> Writer<'a, 'l> {
    /// Returns a writer for an upstream with the habits of `dialect`.
    pub(super) fn new(dialect: Dialect, names: &'a Names, losses: &'l mut Losses) -> Self {
        Self {
            dialect,
            names,
            losses,
            messages: Vec::new(),
            waiting: Vec::new(),
        }
    }

    /// Returns the messages of `request`.
    pub(super) fn write(mut self, request: &'a Request) -> Result<Vec<Message<'a>>, ApiError> {
        self.instructions(&request.instructions);
        for turn in &request.turns {
            let origin = turn.origin;
            turn.extensions
                .lose(Format::OpenAi, self.losses, |_| Field::Message(origin));
            match turn.role {
                Role::System => {
                    self.flush();
                    let pieces = self.texts(&turn.parts, &Field::Message(origin));
                    self.say("system", turn, pieces);
                }
                Role::User => self.user(turn)?,
                Role::Assistant => {
                    self.flush();
                    self.assistant(turn)?;
                }
            }
        }
        self.flush();
        Ok(self.messages)
    }

    fn instructions(&mut self, parts: &'a [Part]) {
        let pieces = self.texts(parts, &Field::Instructions);
        if let Some(content) = Content::new(pieces) {
            self.messages.push(Message {
                role: "system",
                content: Some(content),
                ..Message::default()
            });
        }
    }

    /// Writes parts of which only text can stand here.
    fn texts(&mut self, parts: &'a [Part], field: &Field) -> Vec<Piece<'a>> {
        let mut pieces = Vec::with_capacity(parts.len());
        for part in parts {
            match &part.body {
                PartBody::Text(text) => pieces.push(self.text(text, part, field)),
                PartBody::Media(_)
                | PartBody::Reasoning(_)
                | PartBody::ToolCall(_)
                | PartBody::SearchResult(_)
                | PartBody::ToolResult(_)
                | PartBody::Refusal(_)
                | PartBody::Native { .. } => self
                    .losses
                    .material(field.clone(), "instructions of this upstream are made of text"),
            }
        }
        pieces
    }

    fn say(&mut self, role: &'static str, turn: &'a Turn, pieces: Vec<Piece<'a>>) {
        if let Some(content) = Content::new(pieces) {
            let name = self.name(turn);
            self.messages.push(Message {
                role,
                content: Some(content),
                name,
                extensions: Members::from(&turn.extensions),
                ..Message::default()
            });
        }
    }

    /// Says what waited for the last result.
    fn flush(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        if let Some(content) = Content::new(waiting) {
            self.messages.push(Message {
                role: "user",
                content: Some(content),
                ..Message::default()
            });
        }
    }

    fn user(&mut self, turn: &'a Turn) -> Result<(), ApiError> {
        let field = Field::Message(turn.origin);
        let answers = turn
            .parts
            .iter()
            .any(|part| matches!(part.body, PartBody::ToolResult(_)));
        if !answers {
            self.flush();
        }
        let mut pieces = Vec::with_capacity(turn.parts.len());
        for part in &turn.parts {
            match &part.body {
                PartBody::ToolResult(result) => self.tool_result(turn, part, result)?,
                PartBody::Text(text) | PartBody::Refusal(text) => pieces.push(self.text(text, part, &field)),
                PartBody::Media(media) => pieces.extend(self.media(media, part, &field)),
                PartBody::Native { format, kind, raw } => {
                    pieces.extend(self.native(*format, kind, raw, &field));
                }
                PartBody::SearchResult(_) => self
                    .losses
                    .material(field.clone(), "this upstream has no search results"),
                PartBody::Reasoning(_) | PartBody::ToolCall(_) => self
                    .losses
                    .material(field.clone(), "only the model can think and call tools"),
            }
        }
        if answers {
            if turn.name.is_some() {
                self.losses
                    .advisory(field, "who speaks beside the results of tools is not told");
            }
            self.waiting.append(&mut pieces);
        } else {
            self.say("user", turn, pieces);
        }
        Ok(())
    }

    /// Writes a result as a message of its own. What is not text cannot stand there and is shown by the user.
    fn tool_result(
        &mut self,
        turn: &'a Turn,
        part: &'a Part,
        result: &'a ToolResult,
    ) -> Result<(), ApiError> {
        let field = Field::Message(turn.origin);
        check_id(&result.call, turn)?;
        part.extensions
            .lose(Format::OpenAi, self.losses, |_| field.clone());
        let mut texts = Vec::with_capacity(result.parts.len());
        let mut shown = Vec::new();
        for part in &result.parts {
            match &part.body {
                PartBody::Text(text) | PartBody::Refusal(text) => texts.push(self.text(text, part, &field)),
                PartBody::Media(media) => shown.extend(self.media(media, part, &field)),
                PartBody::Native { format, kind, raw } => {
                    texts.extend(self.native(*format, kind, raw, &field));
                }
                PartBody::SearchResult(_)
                | PartBody::Reasoning(_)
                | PartBody::ToolCall(_)
                | PartBody::ToolResult(_) => self
                    .losses
                    .material(field.clone(), "the result of a tool is made of text and media"),
            }
        }
        if result.is_error == Some(true) {
            self.losses.advisory(
                field.clone(),
                "this upstream has no mark for tools that failed; the text says so",
            );
            texts.insert(0, Piece::text(FAILED));
        }
        if !shown.is_empty() {
            self.losses.advisory(
                field,
                "results of tools are text at this upstream; the media follows in a user message",
            );
            let label = format!("Output of tool call {}:", self.names.call(&result.call));
            self.waiting.push(Piece::text(label));
            self.waiting.append(&mut shown);
        }
        let content = Content::new(texts).unwrap_or_else(Content::empty);
        let cache_control = self.mark(part.cache);
        self.messages.push(Message {
            role: "tool",
            content: Some(content),
            tool_call_id: Some(self.names.call(&result.call)),
            cache_control,
            extensions: Members::from(&part.extensions).and(&turn.extensions),
            ..Message::default()
        });
        Ok(())
    }

    fn assistant(&mut self, turn: &'a Turn) -> Result<(), ApiError> {
        let field = Field::Message(turn.origin);
        let mut message = Message {
            role: "assistant",
            name: self.name(turn),
            extensions: Members::from(&turn.extensions),
            ..Message::default()
        };
        let mut pieces = Vec::with_capacity(turn.parts.len());
        for part in &turn.parts {
            match &part.body {
                PartBody::Text(text) => pieces.push(self.text(text, part, &field)),
                PartBody::Refusal(text) => wire::join(&mut message.refusal, text),
                PartBody::Reasoning(reasoned) => {
                    part.extensions
                        .lose(Format::OpenAi, self.losses, |_| field.clone());
                    self.thought(&mut message, reasoned);
                }
                PartBody::ToolCall(call) => {
                    check_id(&call.id, turn)?;
                    part.extensions
                        .lose(Format::OpenAi, self.losses, |_| field.clone());
                    let mut wire =
                        ToolCall::whole(call, self.names.call(&call.id), self.names.wire(&call.name));
                    wire.cache_control = self.mark(part.cache);
                    wire.extensions = Members::from(&part.extensions);
                    message.tool_calls.push(wire);
                }
                PartBody::Native { format, kind, raw } => {
                    pieces.extend(self.native(*format, kind, raw, &field));
                }
                PartBody::Media(_) | PartBody::SearchResult(_) | PartBody::ToolResult(_) => {
                    self.losses.material(
                        field.clone(),
                        "what the model said is text, reasoning and calls at this upstream",
                    )
                }
            }
        }
        // Without a seal, the blocks say nothing that the text does not.
        if !message.thinking_blocks.iter().any(ThinkingBlock::is_sealed) {
            message.thinking_blocks.clear();
        }
        message.content = Content::new(pieces);
        if message.says_something() {
            self.messages.push(message);
        }
        Ok(())
    }

    /// Writes reasoning, for upstreams that take it. Seals go to who can open them: those of Anthropic, to
    /// servers that hand them on.
    fn thought(&mut self, message: &mut Message<'a>, reasoned: &'a Reasoned) {
        let (text, blocks) = match self.dialect.replay {
            Replay::None => (None, false),
            Replay::Reasoning => (Some(&mut message.reasoning), false),
            Replay::ReasoningContent => (Some(&mut message.reasoning_content), false),
            Replay::ThinkingBlocks => (Some(&mut message.reasoning_content), true),
        };
        let seal = reasoned
            .seal
            .as_ref()
            .filter(|seal| blocks && seal.issuer == Format::Messages);
        if text.is_none() || (reasoned.seal.is_some() && seal.is_none()) {
            self.losses.advisory(
                Field::Reasoning,
                "earlier reasoning is not replayed to an upstream that cannot read it",
            );
        }
        let Some(text) = text.filter(|_| !reasoned.redacted || seal.is_some()) else {
            return;
        };
        if !reasoned.text.is_empty() {
            wire::join(text, &reasoned.text);
        }
        if blocks {
            message
                .thinking_blocks
                .push(ThinkingBlock::new(&reasoned.text, seal, reasoned.redacted));
        }
    }

    /// Returns who speaks, if the upstream takes that.
    fn name(&mut self, turn: &'a Turn) -> Option<&'a str> {
        let taken = self.dialect.takes(Member::Name);
        if turn.name.is_some() && !taken {
            self.losses.advisory(
                Field::Message(turn.origin),
                "this upstream is not told who speaks",
            );
        }
        turn.name.as_deref().filter(|_| taken)
    }
}

impl Message<'_> {
    fn says_something(&self) -> bool {
        self.content.is_some()
            || self.refusal.is_some()
            || self.reasoning.is_some()
            || self.reasoning_content.is_some()
            || !self.thinking_blocks.is_empty()
            || !self.tool_calls.is_empty()
            || !self.extensions.is_empty()
    }
}

/// Returns a 400 if a call or its result has no id: the upstream could not tell which answers which.
fn check_id(id: &str, turn: &Turn) -> Result<(), ApiError> {
    if !id.is_empty() {
        return Ok(());
    }
    let at = format!("messages[{}]", turn.origin);
    let message = format!("{at}: a tool call and its result must have an id");
    Err(ApiError::invalid(message).with_param(at))
}
