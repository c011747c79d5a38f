//! Writes turns as items.

use std::{borrow::Cow, collections::BTreeSet};

use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    content,
    piece::{self, Content, Members, Piece, Said},
    wire,
};
use crate::{
    ApiError, Field, Format, Losses,
    chat::{
        Part, PartBody, Reasoned, Request, Role, ToolCall, ToolKind, ToolResult, Turn,
        openai::upstream::Names,
    },
};

/// Put before the output of a tool that failed, because the format has no mark for it.
const FAILED: &str = "Error: ";

/// An item.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Item<'a> {
    /// Written from parts.
    Written(Written<'a>),
    /// As the client wrote it.
    Native(&'a RawValue),
}

/// An item that was written from parts.
#[derive(Serialize)]
pub(super) struct Written<'a> {
    #[serde(flatten)]
    body: Body<'a>,
    #[serde(flatten)]
    members: Members<'a>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Body<'a> {
    Message {
        role: &'static str,
        content: Content<'a>,
    },
    Reasoning {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a str>,
        summary: Vec<Piece<'a>>,
        encrypted_content: &'a str,
    },
    FunctionCall {
        call_id: Cow<'a, str>,
        name: &'a str,
        arguments: &'a str,
    },
    FunctionCallOutput {
        call_id: Cow<'a, str>,
        output: Content<'a>,
    },
    CustomToolCall {
        call_id: Cow<'a, str>,
        name: &'a str,
        input: &'a str,
    },
    CustomToolCallOutput {
        call_id: Cow<'a, str>,
        output: Content<'a>,
    },
}

/// Writes turns; remembers what was lost.
pub(super) struct Writer<'a, 'w> {
    losses: &'w mut Losses,
    names: &'a Names,
    /// The ids of the calls of tools that take free text.
    customs: BTreeSet<&'a str>,
    items: Vec<Item<'a>>,
}

impl<'a, 'w> Writer<'a, 'w> {
    /// Returns a writer of the turns of `request`.
    pub(super) fn new(request: &'a Request, names: &'a Names, losses: &'w mut Losses) -> Self {
        let parts = request.turns.iter().flat_map(|turn| &turn.parts);
        let customs = parts.filter_map(|part| match &part.body {
            PartBody::ToolCall(call) if call.kind == ToolKind::Custom => Some(call.id.as_str()),
            PartBody::ToolCall(_)
            | PartBody::Text(_)
            | PartBody::Media(_)
            | PartBody::Reasoning(_)
            | PartBody::SearchResult(_)
            | PartBody::ToolResult(_)
            | PartBody::Refusal(_)
            | PartBody::Native { .. } => None,
        });
        Self {
            losses,
            names,
            customs: customs.collect(),
            items: Vec::with_capacity(request.turns.len()),
        }
    }

    /// Returns `turns` as items, in order.
    ///
    /// # Errors
    /// A 400, if a call or its result has no id.
    pub(super) fn write(mut self, turns: &'a [Turn]) -> Result<Vec<Item<'a>>, ApiError> {
        for turn in turns {
            let field = Field::Message(turn.origin);
            if turn.name.is_some() {
                let reason = "the responses format has no names of speakers";
                self.losses.advisory(field.clone(), reason);
            }
            turn.extensions
                .lose(Format::Responses, self.losses, |_| field.clone());
            self.turn(turn, &field)?;
        }
        Ok(self.items)
    }

    fn turn(&mut self, turn: &'a Turn, field: &Field) -> Result<(), ApiError> {
        // What can stand in a message, until an item of another kind comes.
        let mut message: Vec<&'a Part> = Vec::new();
        for part in &turn.parts {
            let alone = match &part.body {
                PartBody::Text(_) | PartBody::Refusal(_) | PartBody::Media(_) | PartBody::SearchResult(_) => {
                    false
                }
                PartBody::Native { format, kind, .. } => {
                    *format != Format::Responses || !content::stands_in_content(kind)
                }
                PartBody::Reasoning(_) | PartBody::ToolCall(_) | PartBody::ToolResult(_) => true,
            };
            if !alone && !begins_item(part) {
                message.push(part);
                continue;
            }
            self.message(turn.role, &std::mem::take(&mut message), field);
            if alone {
                self.item(part, turn, field)?;
            } else {
                message.push(part);
            }
        }
        self.message(turn.role, &message, field);
        Ok(())
    }

    /// Writes a part that is an item of its own.
    fn item(&mut self, part: &'a Part, turn: &Turn, field: &Field) -> Result<(), ApiError> {
        let body = match &part.body {
            PartBody::Reasoning(reasoned) => self.reasoning(reasoned),
            PartBody::ToolCall(call) => Some(self.call(call, turn)?),
            PartBody::ToolResult(result) => Some(self.result(result, turn, field)?),
            PartBody::Native {
                format: Format::Responses,
                raw,
                ..
            } => {
                self.items.push(Item::Native(raw));
                return Ok(());
            }
            PartBody::Native { format, kind, .. } => {
                let reason = format!("a part of type \"{kind}\" is known to {} only", format.name());
                self.losses.material(field.clone(), reason);
                return Ok(());
            }
            PartBody::Text(_) | PartBody::Refusal(_) | PartBody::Media(_) | PartBody::SearchResult(_) => None,
        };
        self.lose_members(part, field);
        if let Some(body) = body {
            self.items.push(Item::Written(Written {
                body,
                members: Members::of_item(part),
            }));
        }
        Ok(())
    }

    /// Writes parts that stand in one message. What the model said before may be told as its text alone, which
    /// more servers read than the parts of a reply without its id.
    fn message(&mut self, role: Role, parts: &[&'a Part], field: &Field) {
        let said: Vec<Said<'a>> = parts
            .iter()
            .filter_map(|part| self.piece(role, part, field))
            .collect();
        let Some(first) = parts.first().filter(|_| !said.is_empty()) else {
            return;
        };
        let content = match (&*said, &first.body) {
            ([Said::Written { members, .. }], PartBody::Text(text))
                if role == Role::Assistant && members.iter().next().is_none() =>
            {
                Content::Text(Cow::Borrowed(text))
            }
            _ => Content::Parts(said),
        };
        self.items.push(Item::Written(Written {
            body: Body::Message {
                role: match role {
                    Role::System => "developer",
                    Role::User => "user",
                    Role::Assistant => "assistant",
                },
                content,
            },
            members: Members::of_item(first),
        }));
    }

    fn piece(&mut self, role: Role, part: &'a Part, field: &Field) -> Option<Said<'a>> {
        let piece = match &part.body {
            PartBody::Text(text) | PartBody::Refusal(text) if text.is_empty() => {
                part.extensions.lose_all(self.losses, |_| field.clone());
                return None;
            }
            PartBody::Text(text) if role == Role::Assistant => Piece::OutputText { text },
            PartBody::Refusal(refusal) if role == Role::Assistant => Piece::Refusal { refusal },
            PartBody::Text(text) | PartBody::Refusal(text) => Piece::InputText {
                text: Cow::Borrowed(text),
            },
            PartBody::Media(_) if role == Role::Assistant => {
                let reason = "messages from the model have no media";
                self.losses.material(field.clone(), reason);
                return None;
            }
            PartBody::Media(media) => piece::media(media, field, self.losses)?,
            PartBody::Native {
                format: Format::Responses,
                raw,
                ..
            } => return Some(Said::Native(raw)),
            PartBody::Native { .. }
            | PartBody::Reasoning(_)
            | PartBody::ToolCall(_)
            | PartBody::SearchResult(_)
            | PartBody::ToolResult(_) => {
                let reason = "content is made of text and media";
                self.losses.material(field.clone(), reason);
                return None;
            }
        };
        self.lose_members(part, field);
        Some(Said::Written {
            piece,
            members: Members::of_part(part),
        })
    }

    /// Writes reasoning that this format sealed; any other is of no use to the provider.
    fn reasoning(&mut self, reasoned: &'a Reasoned) -> Option<Body<'a>> {
        let seal = reasoned.seal.as_ref();
        let Some(seal) = seal.filter(|seal| seal.issuer == Format::Responses) else {
            self.losses.advisory(
                Field::Reasoning,
                "earlier reasoning is not replayed to an upstream that cannot read it",
            );
            return None;
        };
        let (id, encrypted_content) = wire::own_seal(&seal.bytes);
        let text = Some(reasoned.text.as_str()).filter(|text| !text.is_empty());
        Some(Body::Reasoning {
            id,
            summary: text.map(|text| Piece::SummaryText { text }).into_iter().collect(),
            encrypted_content,
        })
    }

    fn call(&mut self, call: &'a ToolCall, turn: &Turn) -> Result<Body<'a>, ApiError> {
        check_id(&call.id, turn)?;
        let call_id = wire::call_id(&call.id);
        Ok(match call.kind {
            ToolKind::Function => Body::FunctionCall {
                call_id,
                name: self.names.wire(&call.name),
                arguments: Some(call.arguments.as_str())
                    .filter(|arguments| !arguments.trim().is_empty())
                    .unwrap_or("{}"),
            },
            ToolKind::Custom => Body::CustomToolCall {
                call_id,
                name: self.names.wire(&call.name),
                input: &call.arguments,
            },
        })
    }

    fn result(&mut self, result: &'a ToolResult, turn: &Turn, field: &Field) -> Result<Body<'a>, ApiError> {
        check_id(&result.call, turn)?;
        let mut said: Vec<Said<'a>> = result
            .parts
            .iter()
            .filter_map(|part| self.piece(Role::User, part, field))
            .collect();
        if result.is_error == Some(true) {
            let reason = "the responses format has no mark for tools that failed; the text says so";
            self.losses.advisory(field.clone(), reason);
            said.insert(
                0,
                Said::Written {
                    piece: Piece::InputText {
                        text: Cow::Borrowed(FAILED),
                    },
                    members: Members::none(),
                },
            );
        }
        let texts: Option<Vec<&str>> = said.iter().map(Said::plain).collect();
        let output = match texts {
            Some(texts) if texts.len() < 2 || result.is_error == Some(true) => {
                Content::Text(Cow::Owned(texts.concat()))
            }
            Some(_) | None => Content::Parts(said),
        };
        let call_id = wire::call_id(&result.call);
        Ok(if self.customs.contains(result.call.as_str()) {
            Body::CustomToolCallOutput { call_id, output }
        } else {
            Body::FunctionCallOutput { call_id, output }
        })
    }

    fn lose_members(&mut self, part: &Part, field: &Field) {
        part.extensions
            .lose(Format::Responses, self.losses, |_| field.clone());
        if part.cache.is_some() {
            self.losses
                .advisory(Field::Cache, "this upstream decides itself what it caches");
        }
    }
}

/// Returns whether `part` was the first of an item with members of its own.
fn begins_item(part: &Part) -> bool {
    Members::of_item(part).iter().next().is_some()
}

/// Returns a 400 if a call or its result has no id: the upstream could not tell which answers which.
fn check_id(id: &str, turn: &Turn) -> Result<(), ApiError> {
    if !id.is_empty() {
        return Ok(());
    }
    let at = format!("input[{}]", turn.origin);
    let message = format!("{at}: a tool call and its result must have an id");
    Err(ApiError::invalid(message).with_param(at))
}
