//! Whole replies.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::{cite::Cited, stream, wire};
use crate::{
    ApiError, Field, Losses,
    chat::{
        Choice, Citation, DecodeReply, DecodeStream, Finish, FinishReason, Head, Part, PartBody, Reasoned,
        Response, ToolCall, ToolKind,
    },
    exception::Exception,
    json::{self, Path},
    unread,
};

/// Where members of the model's own reply lie.
pub(super) const MORE: &str = "additionalModelResponseFields";

/// What a call remembers to read its reply by.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    /// The model that was asked; replies name none.
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

    /// Returns what is known of an answer when it begins.
    pub(super) fn head(&self) -> Head {
        Head {
            model: self.model.clone(),
            ..Head::default()
        }
    }

    /// Returns why the answer ended, for a client that knows nothing of the tool that stood for the answer.
    pub(super) fn finish(&self, word: Option<&str>, more: Option<wire::More>) -> Finish {
        let finish = wire::finish(word, more);
        match finish.reason {
            FinishReason::ToolCalls if self.answer.is_some() => Finish::default(),
            _ => finish,
        }
    }
}

impl DecodeReply for Memory {
    fn decode_response(self: Box<Self>, body: &[u8], losses: &mut Losses) -> Result<Response, ApiError> {
        let reply: wire::Reply<'_> = unread::reply(body, losses).map_err(|reason| unreadable(&reason))?;
        let Some(message) = reply.output.and_then(|output| output.message) else {
            // The framework around the service says with a good status what it refuses.
            return Err(match Exception::find(body) {
                Some(exception) => exception.into_error(None),
                None => unreadable(&"it has no output"),
            });
        };
        let mut parts = Vec::new();
        let root = Path::Reply;
        let path = root.key("output");
        let path = path.key("message");
        let list = path.key("content");
        for (index, raw) in message.content.unwrap_or_default().into_iter().enumerate() {
            parts.extend(part(raw, &list.index(index), &self, losses)?);
        }
        let path = root.key(MORE);
        let more = wire::tolerant(reply.additional_model_response_fields, &path, losses);
        let counts: Option<wire::Counts> = wire::tolerant(reply.usage, &root.key("usage"), losses);
        let usage = wire::ServiceTier::of(counts, reply.service_tier.as_ref(), losses);
        Ok(Response {
            head: self.head(),
            choices: vec![Choice {
                parts,
                finish: self.finish(reply.stop_reason.as_deref(), more),
            }],
            usage: usage.unwrap_or_default(),
        })
    }

    fn into_stream(self: Box<Self>) -> Box<dyn DecodeStream> {
        Box::new(stream::Decoder::new(*self))
    }
}

/// Returns what the block `raw` is, unless it is empty or no other format has it.
fn part(
    raw: &RawValue,
    path: &Path<'_>,
    memory: &Memory,
    losses: &mut Losses,
) -> Result<Option<Part>, ApiError> {
    let block: wire::Block<'_> =
        unread::read(raw.get(), path, losses).map_err(|reason| unreadable(&reason))?;
    if let Some(text) = block.text {
        return Ok((!text.is_empty()).then(|| Part::text(text)));
    }
    if let Some(call) = block.tool_use {
        let arguments = call.input.map_or_else(|| "{}".to_owned(), json::compact);
        let name = call.name.unwrap_or_default();
        if memory.is_answer(&name) {
            return Ok(Some(Part::text(arguments)));
        }
        return Ok(Some(Part::new(PartBody::ToolCall(ToolCall {
            id: call.tool_use_id.unwrap_or_default(),
            name: memory.tool(name),
            arguments,
            kind: ToolKind::Function,
        }))));
    }
    if let Some(reasoning) = block.reasoning_content {
        return Ok(reasoned(reasoning).map(PartBody::Reasoning).map(Part::new));
    }
    if let Some(cited) = block.citations_content {
        let pieces = cited.content.unwrap_or_default();
        let text: String = pieces.iter().map(|piece| &*piece.text).collect();
        let path = path.key("citationsContent");
        let path = path.key("citations");
        let raws = cited.citations.unwrap_or_default().into_iter().enumerate();
        let citations = raws.filter_map(|(index, raw)| citation(raw, &path.index(index), losses));
        let citations = citations.collect();
        return Ok((!text.is_empty()).then(|| Part {
            citations,
            ..Part::text(text)
        }));
    }
    for (key, there) in [
        ("guardContent", block.guard_content),
        ("image", block.image),
        ("searchResult", block.search_result),
        ("toolResult", block.tool_result),
        ("video", block.video),
    ] {
        if there.is_some() {
            lose_native(key, losses);
        }
    }
    Ok(None)
}

/// Returns what `reasoning` says, unless that is nothing.
fn reasoned(reasoning: wire::ReasoningContent) -> Option<Reasoned> {
    if let Some(seal) = wire::seal(reasoning.redacted_content) {
        return Some(Reasoned {
            text: String::new(),
            seal: Some(seal),
            redacted: true,
        });
    }
    let shown = reasoning.reasoning_text?;
    let reasoned = Reasoned {
        text: shown.text.unwrap_or_default(),
        seal: wire::seal(shown.signature),
        redacted: false,
    };
    (reasoned != Reasoned::default()).then_some(reasoned)
}

/// Records that a block called `key` cannot be said in another format.
pub(super) fn lose_native(key: &'static str, losses: &mut Losses) {
    let reason = format!("a block called \"{key}\" is known to converse only");
    losses.advisory(Field::Reply(key), reason);
}

/// Reads the citation at `path`, unless no other format has its like.
pub(super) fn citation(raw: &RawValue, path: &Path<'_>, losses: &mut Losses) -> Option<Citation> {
    let cited: Option<Cited<'_>> = unread::read(raw.get(), path, losses).ok();
    if cited.is_none() {
        losses.advisory(
            Field::Reply("citations"),
            "a citation is of a kind known to converse only",
        );
    }
    cited.map(Citation::from)
}

/// Returns a 502 for a reply that breaks the format.
pub(super) fn unreadable(reason: &dyn std::fmt::Display) -> ApiError {
    ApiError::bad_reply(format!("the upstream's reply cannot be read: {reason}"))
}
