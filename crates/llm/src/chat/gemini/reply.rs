//! Whole replies, read and written.

use std::{borrow::Cow, collections::BTreeMap};

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    content, error,
    guide::Wrap,
    note::{self, Grounding, Logprobs},
    part::{self, Block, Body, FunctionCall, Written},
    stream,
    wire::{self, Own, Totals},
};
use crate::{
    ApiError, Field, Format, Losses, Usage,
    chat::{
        Choice, DecodeReply, DecodeStream, Finish, Head, Part, PartBody, Reasoned, Response, Seal, Token,
        ToolCall, ToolKind, citation,
    },
    json::{self, Path},
    media::{Media, MediaKind, Source},
    unread,
};

/// Where it is said how likely tokens were.
pub(super) const LOGPROBS: &str = "logprobsResult";

/// Where tokens are counted.
pub(super) const USAGE: &str = "usageMetadata";

/// What a call remembers to read its reply by.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    /// The model that was asked, for replies that name none.
    pub(super) model: String,
    /// How many turns the conversation had, so that no id comes again in it.
    pub(super) turns: usize,
    /// The client's names of tools that are called otherwise upstream, by the name they have there.
    pub(super) names: BTreeMap<String, String>,
    /// Whether the answer may be from pages that the provider's own tools have found.
    pub(super) grounded: bool,
    /// What has to come off the texts of the answer.
    pub(super) wrap: Option<Wrap>,
}

impl DecodeReply for Memory {
    fn decode_response(self: Box<Self>, body: &[u8], losses: &mut Losses) -> Result<Response, ApiError> {
        let reply: wire::Reply<'_> = unread::reply(body, losses).map_err(|reason| unreadable(&reason))?;
        if reply.error.is_some() {
            return Err(error::within(body));
        }
        let mut head = Head::default();
        self.begin(&reply, &mut head);
        let blocked = reply.prompt_feedback.and_then(|feedback| feedback.block_reason);
        let candidates = reply.candidates.unwrap_or_default();
        if candidates.is_empty() && blocked.is_none() {
            return Err(unreadable(&"it has no candidates"));
        }
        let mut calls = 0;
        let mut choices = Vec::with_capacity(candidates.len());
        let root = Path::Reply;
        let list = root.key("candidates");
        for (index, candidate) in candidates.into_iter().enumerate() {
            let path = list.index(index);
            let tokens = candidate.logprobs_result;
            let tokens = tokens.map(|raw| note::read_tokens(raw, &path.key(LOGPROBS), losses));
            let remarks = wire::remarks(&candidate);
            let mut parts: Vec<Part> = Vec::new();
            let said = candidate.content.and_then(|content| content.parts);
            for part in said.unwrap_or_default() {
                let (seal, piece) = self.pieces(part, &head, &mut calls, losses);
                parts.extend(seal.map(content::redacted).map(Part::new));
                if let Some(piece) = piece {
                    content::append(&mut parts, Part::new(piece.into_body()));
                }
            }
            if let Some(wrap) = self.wrap {
                unwrap(&mut parts, wrap);
            }
            annotate(
                &mut parts,
                tokens.unwrap_or_default(),
                candidate.grounding_metadata,
                losses,
            );
            let called = parts
                .iter()
                .any(|part| matches!(part.body, PartBody::ToolCall(_)));
            let finish = match (candidate.finish_reason, &blocked) {
                (Some(word), _) => wire::finish(&word, called),
                (None, Some(word)) => wire::blocked(word),
                (None, None) => Finish::default(),
            };
            let finish = Finish { remarks, ..finish };
            choices.push(Choice { parts, finish });
        }
        if let Some(word) = blocked.filter(|_| choices.is_empty()) {
            choices.push(Choice {
                parts: Vec::new(),
                finish: wire::blocked(&word),
            });
        }
        Ok(Response {
            head,
            choices,
            usage: wire::hear_counts(reply.usage_metadata, &root.key(USAGE), losses)
                .map(|counts| Usage::from(&counts))
                .unwrap_or_default(),
        })
    }

    fn into_stream(self: Box<Self>) -> Box<dyn DecodeStream> {
        Box::new(stream::Decoder::new(*self))
    }
}

/// What one part of a reply says.
pub(super) enum Piece {
    /// A piece of a text.
    Text(String),
    /// A piece of what the model thought.
    Thought(String, Option<Seal>),
    /// A whole call.
    Call(ToolCall),
    /// A picture or a sound.
    Media(Media),
}

impl Piece {
    fn into_body(self) -> PartBody {
        match self {
            Piece::Text(text) => PartBody::Text(text),
            Piece::Thought(text, seal) => PartBody::Reasoning(Reasoned {
                text,
                seal,
                redacted: false,
            }),
            Piece::Call(call) => PartBody::ToolCall(call),
            Piece::Media(media) => PartBody::Media(media),
        }
    }
}

impl Memory {
    /// Notes what `reply` says of itself.
    pub(super) fn begin(&self, reply: &wire::Reply<'_>, head: &mut Head) {
        head.id = reply.response_id.clone().unwrap_or_default();
        head.model = reply.model_version.clone().unwrap_or_else(|| self.model.clone());
        head.created = reply.create_time.as_deref().and_then(wire::seconds);
    }

    /// Returns what `part` says, after the seal that hangs on it. `calls` counts the calls of the reply.
    pub(super) fn pieces(
        &self,
        part: wire::Part<'_>,
        head: &Head,
        calls: &mut usize,
        losses: &mut Losses,
    ) -> (Option<Seal>, Option<Piece>) {
        let seal = part.thought_signature.as_deref().and_then(wire::seal);
        if let Some(text) = part.text {
            if part.thought == Some(true) {
                let silent = text.is_empty() && seal.is_none();
                return (None, (!silent).then_some(Piece::Thought(text, seal)));
            }
            return (seal, (!text.is_empty()).then_some(Piece::Text(text)));
        }
        if let Some(call) = part.function_call {
            let name = call.name.unwrap_or_default();
            let id = call.id.filter(|id| !id.is_empty()).unwrap_or_else(|| {
                let (turns, nth) = (self.turns.to_string(), calls.to_string());
                wire::call_id(&[&head.id, &head.model, &turns, &nth, &name])
            });
            *calls += 1;
            return (
                seal,
                Some(Piece::Call(ToolCall {
                    id,
                    name: self.names.get(&name).cloned().unwrap_or(name),
                    arguments: call.args.map_or_else(|| "{}".to_owned(), json::compact),
                    kind: ToolKind::Function,
                })),
            );
        }
        if let Some(blob) = part.inline_data {
            let media_type = blob.mime_type.unwrap_or_default();
            let kind = MediaKind::of(&media_type);
            let data = blob.data.unwrap_or_default();
            let source = Source::inline(media_type, wire::base64(&data));
            if source.is_none() {
                losses.advisory(Field::Reply("inlineData"), "it is not base64");
            }
            let media = source.map(|source| Media {
                kind,
                source,
                name: None,
                detail: None,
                context: None,
                citable: None,
            });
            return (seal, media.map(Piece::Media));
        }
        for (there, kind) in [
            (part.executable_code.is_some(), "executableCode"),
            (part.code_execution_result.is_some(), "codeExecutionResult"),
            (part.file_data.is_some(), "fileData"),
            (part.tool_call.is_some(), "toolCall"),
            (part.tool_response.is_some(), "toolResponse"),
        ] {
            if there {
                losses.advisory(
                    Field::Reply(kind),
                    format!("a part of type \"{kind}\" is known to gemini only"),
                );
            }
        }
        (seal, None)
    }
}

/// Records that `media` is not shown, because its bytes are not here.
pub(super) fn lose_media(media: &Media, losses: &mut Losses) {
    let reason = format!("an answer holds no {} from elsewhere", media.kind.name());
    losses.advisory(Field::Reply("content"), reason);
}

/// Takes off the texts of an answer what nobody asked for.
fn unwrap(parts: &mut Vec<Part>, wrap: Wrap) {
    for part in parts.iter_mut() {
        if let PartBody::Text(text) = &mut part.body {
            *text = wrap.unwrap(text).to_owned();
        }
    }
    parts.retain(|part| !matches!(&part.body, PartBody::Text(text) if text.is_empty()));
}

/// Notes on the text of an answer how likely its tokens were and where it is from.
fn annotate(parts: &mut [Part], tokens: Vec<Token>, grounding: Option<&RawValue>, losses: &mut Losses) {
    let said = |part: &Part| {
        if let PartBody::Text(text) = &part.body {
            Some(text.clone())
        } else {
            None
        }
    };
    let Some((text, part)) = parts.iter_mut().find_map(|part| Some((said(part)?, part))) else {
        if !tokens.is_empty() {
            lose_logprobs(losses);
        }
        return;
    };
    let citations = grounding.map(|raw| note::read_citations(raw, &text));
    let citations = citations.unwrap_or_default();
    part.tokens = tokens;
    part.citations = citations;
}

/// Records that log-probabilities belong to no text.
pub(super) fn lose_logprobs(losses: &mut Losses) {
    losses.advisory(Field::Reply("logprobsResult"), "the answer has no text");
}

/// Returns a 502 for a reply that breaks the format.
pub(super) fn unreadable(reason: &dyn std::fmt::Display) -> ApiError {
    ApiError::bad_reply(format!("the upstream's reply cannot be read: {reason}"))
}

/// A reply as it is written, whole or one chunk of a stream.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Reply<'a> {
    pub(super) candidates: Vec<Candidate<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) usage_metadata: Option<Totals>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) model_version: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) response_id: &'a str,
}

/// One answer as it is written.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Candidate<'a> {
    pub(super) content: Content<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) finish_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) logprobs_result: Option<Logprobs<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) grounding_metadata: Option<Grounding>,
    #[serde(flatten)]
    pub(super) own: Own<'a>,
    pub(super) index: usize,
}

/// What an answer says, as it is written.
#[derive(Serialize)]
pub(super) struct Content<'a> {
    pub(super) parts: Vec<Block<'a>>,
    pub(super) role: &'static str,
}

impl<'a> Content<'a> {
    /// Returns the content of `parts`. Clients take a content without any for a broken one.
    pub(super) fn new(mut parts: Vec<Block<'a>>) -> Self {
        if parts.is_empty() {
            parts.push(Block::Written(Box::default()));
        }
        Self { parts, role: "model" }
    }
}

/// Writes a whole reply.
pub(super) fn encode(response: &Response, losses: &mut Losses) -> Bytes {
    response.usage.lose(wire::TRAFFIC_TYPES, false, losses);
    let answers = response.choices.iter().enumerate();
    let candidates = answers.map(|(index, choice)| {
        lose_stop_sequence(&choice.finish, losses);
        Candidate {
            content: Content::new(blocks(&choice.parts, losses)),
            finish_reason: Some(wire::finish_reason(&choice.finish)),
            logprobs_result: Logprobs::new(choice.parts.iter().flat_map(|part| &part.tokens)),
            grounding_metadata: grounding(&choice.parts).unless_said(&choice.finish),
            own: Own(&choice.finish.remarks),
            index,
        }
    });
    let reply = Reply {
        candidates: candidates.collect(),
        usage_metadata: Some(Totals::from(&response.usage)),
        model_version: &response.head.model,
        response_id: &response.head.id,
    };
    Bytes::from(serde_json::to_vec(&reply).unwrap_or_default())
}

/// Returns where the texts of an answer are from.
fn grounding(parts: &[Part]) -> Grounding {
    let mut grounding = Grounding::default();
    for part in parts {
        if let PartBody::Text(text) = &part.body {
            grounding.add(&part.citations, text);
        }
    }
    grounding
}

/// Records that the format does not tell which stop sequence was met.
pub(super) fn lose_stop_sequence(finish: &Finish, losses: &mut Losses) {
    if finish.stop_sequence.is_some() {
        let reason = "the gemini format does not tell which stop sequence was met";
        losses.advisory(Field::Reply("stop_sequence"), reason);
    }
}

fn blocks<'a>(parts: &'a [Part], losses: &mut Losses) -> Vec<Block<'a>> {
    let mut blocks = Vec::with_capacity(parts.len());
    let mut signature: Option<Cow<'a, str>> = None;
    citation::lose_all(parts, losses);
    for part in parts {
        let body = match &part.body {
            PartBody::Text(text) | PartBody::Refusal(text) => {
                (!text.is_empty()).then_some(Body::Text(text.into()))
            }
            PartBody::Reasoning(reasoned) => {
                let seal = reasoned.seal.as_ref().map(wire::signature);
                if reasoned.redacted {
                    if let Some(left) = signature.take_if(|_| seal.is_some()) {
                        blocks.push(part::bare(left));
                    }
                    signature = seal.or(signature);
                } else if !reasoned.text.is_empty() || seal.is_some() {
                    blocks.push(thought(&reasoned.text, seal));
                }
                continue;
            }
            PartBody::ToolCall(call) => Some(Body::FunctionCall(function_call(call, losses))),
            PartBody::Native {
                format: Format::Gemini,
                raw,
                ..
            } => {
                blocks.push(Block::Native(raw));
                continue;
            }
            PartBody::Media(media) => match part::blob(media) {
                Some(blob) => Some(Body::InlineData(blob)),
                None => {
                    lose_media(media, losses);
                    None
                }
            },
            PartBody::Native { kind, .. } => {
                losses.advisory(Field::Reply("content"), format!("an answer has no {kind} parts"));
                None
            }
            PartBody::SearchResult(_) => {
                losses.advisory(Field::Reply("content"), "an answer has no search results");
                None
            }
            PartBody::ToolResult(_) => {
                losses.advisory(Field::Reply("content"), "an answer has no tool results");
                None
            }
        };
        blocks.extend(body.map(|body| block(body).signed(signature.take())));
    }
    blocks.extend(signature.map(part::bare));
    blocks
}

/// Returns a part that says what the model thought.
pub(super) fn thought<'a>(text: &'a str, signature: Option<Cow<'a, str>>) -> Block<'a> {
    Block::Written(Box::new(Written {
        body: Body::Text(text.into()),
        thought: true,
        thought_signature: signature,
        ..Written::default()
    }))
}

/// Returns a part that is `body` and nothing else.
pub(super) fn block(body: Body<'_>) -> Block<'_> {
    Block::Written(Box::new(Written {
        body,
        ..Written::default()
    }))
}

/// Returns `call` as it is written. Arguments that are no object are lost.
pub(super) fn function_call<'a>(call: &'a ToolCall, losses: &mut Losses) -> FunctionCall<'a> {
    let args = part::arguments(call).unwrap_or_else(|| {
        let reason = "the arguments of a tool call are not a JSON object";
        losses.advisory(Field::Reply("functionCall"), reason);
        Cow::Owned(json::raw(&serde_json::Map::new()))
    });
    FunctionCall {
        id: (!call.id.is_empty()).then_some(Cow::Borrowed(&call.id)),
        name: Cow::Borrowed(&call.name),
        args,
        members: None,
    }
}
