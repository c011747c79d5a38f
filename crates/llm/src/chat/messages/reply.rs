//! Whole replies, read and written.

use std::{borrow::Cow, collections::BTreeMap};

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    cite::{self, Cited},
    error, stream, wire,
};
use crate::{
    ApiError, Field, Format, Losses, Usage,
    chat::{
        Choice, Citation, DecodeReply, DecodeStream, Finish, FinishReason, Head, Part, PartBody, Reasoned,
        Response, ToolCall, ToolKind, fingerprint::fingerprint, note,
    },
    json::{self, Kind, Path},
    media::Media,
    unread,
};

/// What a call remembers to read its reply by.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    /// The model that was asked, for replies that name none.
    pub(super) model: String,
    /// The client's names of tools that are called otherwise upstream, by the name they have there.
    pub(super) names: BTreeMap<String, String>,
    /// The tool that the model is made to call in place of constrained output: its arguments are the answer.
    pub(super) answer: Option<String>,
}

impl Memory {
    /// Returns the client's name of the tool that is called `name` upstream.
    pub(super) fn tool(&self, name: String) -> String {
        self.names.get(&name).cloned().unwrap_or(name)
    }

    /// Returns whether calling the tool `name` is how the model gives its answer.
    pub(super) fn is_answer(&self, name: &str) -> bool {
        self.answer.as_deref() == Some(name)
    }

    /// Returns why the answer ended, for a client that knows nothing of the tool that stood for the answer.
    pub(super) fn finish(&self, word: Option<&str>, stop_sequence: Option<String>) -> Finish {
        let finish = wire::finish(word, stop_sequence);
        match finish.reason {
            FinishReason::ToolCalls if self.answer.is_some() => Finish::default(),
            _ => finish,
        }
    }
}

impl DecodeReply for Memory {
    fn decode_response(self: Box<Self>, body: &[u8], losses: &mut Losses) -> Result<Response, ApiError> {
        let message: wire::Message<'_> = unread::reply(body, losses).map_err(|reason| unreadable(&reason))?;
        let Some(content) = message.content else {
            return Err(match message.kind.as_deref() {
                Some("error") => error::within(body),
                _ => unreadable(&"it has no content"),
            });
        };
        let mut parts = Vec::with_capacity(content.len());
        let root = Path::Reply;
        let list = root.key("content");
        for (index, raw) in content.into_iter().enumerate() {
            let path = list.index(index);
            let block = wire::Block::read(raw, &path, losses).map_err(|reason| unreadable(&reason))?;
            parts.extend(part(block, &path, &self, losses));
        }
        let mut usage = Usage::default();
        if let Some(counts) = wire::Counts::hear(message.usage, &root.key("usage"), losses) {
            counts.begin(&mut usage);
            wire::settle(&mut usage);
        }
        Ok(Response {
            head: Head {
                id: message.id.unwrap_or_default(),
                model: message.model.unwrap_or_else(|| self.model.clone()),
                ..Head::default()
            },
            choices: vec![Choice {
                parts,
                finish: self.finish(message.stop_reason.as_deref(), message.stop_sequence),
            }],
            usage,
        })
    }

    fn into_stream(self: Box<Self>) -> Box<dyn DecodeStream> {
        Box::new(stream::Decoder::new(*self))
    }
}

/// Returns what `block` is, unless no other format has it.
fn part(block: wire::Block<'_>, path: &Path<'_>, memory: &Memory, losses: &mut Losses) -> Option<Part> {
    let citations = block.citations;
    let citations = citations.map(|raw| self::citations(raw, &path.key("citations"), losses));
    Some(Part {
        citations: citations.unwrap_or_default(),
        ..Part::new(body(block, memory, losses)?)
    })
}

/// Reads the list of citations at `path`.
pub(super) fn citations(raw: &RawValue, path: &Path<'_>, losses: &mut Losses) -> Vec<Citation> {
    let raws = json::elements(raw, path).unwrap_or_default().into_iter();
    let citations = raws.enumerate();
    citations
        .filter_map(|(index, raw)| citation(raw, &path.index(index), losses))
        .collect()
}

/// Reads the citation at `path`, unless no other format has its like.
pub(super) fn citation(raw: &RawValue, path: &Path<'_>, losses: &mut Losses) -> Option<Citation> {
    let citation = cite::read(raw, path, losses);
    if citation.is_none() {
        losses.advisory(
            Field::Reply("citations"),
            "a citation is of a kind known to messages only",
        );
    }
    citation
}

fn body(block: wire::Block<'_>, memory: &Memory, losses: &mut Losses) -> Option<PartBody> {
    match block.kind.as_str() {
        "text" => Some(PartBody::Text(block.text.unwrap_or_default())),
        "thinking" => Some(PartBody::Reasoning(Reasoned {
            text: block.thinking.unwrap_or_default(),
            seal: wire::seal(&block.signature.unwrap_or_default()),
            redacted: false,
        })),
        "redacted_thinking" => Some(PartBody::Reasoning(Reasoned {
            text: String::new(),
            seal: wire::seal(&block.data.unwrap_or_default()),
            redacted: true,
        })),
        "tool_use" => {
            let arguments = block.input.map_or_else(|| "{}".to_owned(), json::compact);
            let name = block.name.unwrap_or_default();
            if memory.is_answer(&name) {
                return Some(PartBody::Text(arguments));
            }
            Some(PartBody::ToolCall(ToolCall {
                id: block.id.unwrap_or_default(),
                name: memory.tool(name),
                arguments,
                kind: ToolKind::Function,
            }))
        }
        kind => {
            lose_native(kind, losses);
            None
        }
    }
}

/// Records that a block of type `kind` cannot be said in another format.
pub(super) fn lose_native(kind: &str, losses: &mut Losses) {
    let reason = format!("a block of type \"{kind}\" is known to messages only");
    losses.advisory(Field::Reply(wire::native_block(kind)), reason);
}

/// Returns a 502 for a reply that breaks the format.
pub(super) fn unreadable(reason: &dyn std::fmt::Display) -> ApiError {
    ApiError::bad_reply(format!("the upstream's reply cannot be read: {reason}"))
}

/// Writes a whole reply.
pub(super) fn encode(response: &Response, losses: &mut Losses) -> Bytes {
    let id = message_id(&response.head);
    let choice = response.choices.first();
    if response.choices.len() > 1 {
        losses.advisory(Field::Reply("choices"), "a message is one answer");
    }
    response.usage.lose(wire::TIERS, true, losses);
    let parts = choice.map_or(&[][..], |choice| &choice.parts);
    let mut content: Vec<Block<'_>> = Vec::with_capacity(parts.len());
    for part in parts {
        note::lose(&part.tokens, losses);
        content.extend(block(part, &id, content.len(), losses));
    }
    let refused = parts.iter().any(|part| matches!(part.body, PartBody::Refusal(_)));
    let finish = choice.map(|choice| &choice.finish);
    if let Some(finish) = finish {
        finish.lose_remarks(&[], losses);
    }
    let message = Message {
        kind: "message",
        role: "assistant",
        content,
        model: &response.head.model,
        stop_reason: finish.map(|finish| stop_reason(finish, refused)),
        stop_sequence: finish.and_then(|finish| finish.stop_sequence.as_deref()),
        usage: wire::Totals::from(&response.usage),
        id,
    };
    Bytes::from(serde_json::to_vec(&message).unwrap_or_default())
}

/// Returns the id of the message: the upstream's, behind the prefix that this format's ids have.
pub(super) fn message_id(head: &Head) -> String {
    if head.id.starts_with("msg_") {
        head.id.clone()
    } else if head.id.is_empty() {
        let created = head.created.unwrap_or(0).to_string();
        format!("msg_{:016x}", fingerprint(&[&head.model, &created]))
    } else {
        format!("msg_{}", head.id)
    }
}

/// Returns the id of the tool call that is block `index` of `message`. A call without one gets an id that is
/// the same in a stream and in a whole reply, and does not come again in the conversation.
pub(super) fn call_id<'a>(id: &'a str, message: &str, index: usize) -> Cow<'a, str> {
    if id.is_empty() {
        let index = index.to_string();
        Cow::Owned(format!("toolu_{:016x}", fingerprint(&[message, &index])))
    } else {
        wire::tool_id(id)
    }
}

/// Returns the stop reason that says `finish`; an answer with a refusal in it is one.
pub(super) fn stop_reason(finish: &Finish, refused: bool) -> &'static str {
    match finish.reason {
        FinishReason::Stop if refused => wire::stop_reason(FinishReason::Refusal),
        reason => wire::stop_reason(reason),
    }
}

/// A whole reply.
#[derive(Serialize)]
struct Message<'a> {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    role: &'static str,
    content: Vec<Block<'a>>,
    model: &'a str,
    stop_reason: Option<&'static str>,
    stop_sequence: Option<&'a str>,
    usage: wire::Totals,
}

/// A content block of a reply; in a stream, as it is when it begins.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Block<'a> {
    Text {
        text: Cow<'a, str>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        citations: Vec<Cited<'a>>,
    },
    Thinking {
        thinking: Cow<'a, str>,
        signature: Cow<'a, str>,
    },
    RedactedThinking {
        data: Cow<'a, str>,
    },
    ToolUse {
        id: Cow<'a, str>,
        name: Cow<'a, str>,
        input: Box<RawValue>,
    },
    #[serde(untagged)]
    Native(&'a RawValue),
}

fn block<'a>(part: &'a Part, message: &str, index: usize, losses: &mut Losses) -> Option<Block<'a>> {
    match &part.body {
        PartBody::Text(text) | PartBody::Refusal(text) => (!text.is_empty()).then(|| Block::Text {
            text: text.as_str().into(),
            citations: cite::write_all(&part.citations),
        }),
        PartBody::Reasoning(reasoned) => {
            let seal = reasoned.seal.as_ref().map(wire::signature);
            if reasoned.redacted {
                return Some(Block::RedactedThinking { data: seal? });
            }
            let empty = reasoned.text.is_empty() && seal.is_none();
            (!empty).then(|| Block::Thinking {
                thinking: reasoned.text.as_str().into(),
                signature: seal.unwrap_or_default(),
            })
        }
        PartBody::ToolCall(call) => Some(Block::ToolUse {
            id: call_id(&call.id, message, index),
            name: call.name.as_str().into(),
            input: input(call, losses),
        }),
        PartBody::Native {
            format: Format::Messages,
            raw,
            ..
        } => Some(Block::Native(raw)),
        PartBody::Native { kind, .. } => {
            losses.advisory(Field::Reply("content"), format!("a message has no {kind} parts"));
            None
        }
        PartBody::Media(media) => {
            lose_media(media, losses);
            None
        }
        PartBody::SearchResult(_) => {
            let reason = "a message from the model has no search results";
            losses.advisory(Field::Reply("content"), reason);
            None
        }
        PartBody::ToolResult(_) => {
            losses.advisory(
                Field::Reply("content"),
                "a message from the model has no tool results",
            );
            None
        }
    }
}

/// Records that `media` is not shown.
pub(super) fn lose_media(media: &Media, losses: &mut Losses) {
    let reason = format!("a message from the model has no {} parts", media.kind.name());
    losses.advisory(Field::Reply("content"), reason);
}

/// Returns the arguments of `call` as the object that this format demands.
fn input(call: &ToolCall, losses: &mut Losses) -> Box<RawValue> {
    match call.kind {
        ToolKind::Custom => json::raw(&std::collections::BTreeMap::from([("input", &call.arguments)])),
        ToolKind::Function => {
            let arguments = RawValue::from_string(call.arguments.clone());
            match arguments.ok().filter(|raw| json::kind(raw) == Kind::Object) {
                Some(arguments) => arguments,
                None => {
                    if !call.arguments.trim().is_empty() {
                        let reason = "the arguments of a tool call are not a JSON object";
                        losses.advisory(Field::Reply("tool_calls"), reason);
                    }
                    json::raw(&serde_json::Map::new())
                }
            }
        }
    }
}
