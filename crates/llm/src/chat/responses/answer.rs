//! Whole replies, written; the items are those that a stream tells piece by piece.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::value::RawValue;

use super::{error::Failure, wire};
use crate::{
    ApiError, Field, Losses, Usage,
    chat::{
        FinishReason, Head, Part, PartBody, Response, ToolKind, citation,
        fingerprint::fingerprint,
        note::{self, Notes},
        openai::{
            self,
            note::{Tokens, UrlCitation},
        },
    },
    json::Shallow,
    kept,
    media::{Media, MediaKind, Source},
};

/// Members of a request that its response repeats, and what they are where the request leaves them out.
const ECHOED: &[(&str, &str)] = &[
    ("instructions", "null"),
    ("max_output_tokens", "null"),
    ("max_tool_calls", "null"),
    ("metadata", "{}"),
    ("parallel_tool_calls", "true"),
    ("prompt_cache_key", "null"),
    ("reasoning", r#"{"effort":null,"summary":null}"#),
    ("safety_identifier", "null"),
    (TIER, "null"),
    ("temperature", "1.0"),
    ("text", r#"{"format":{"type":"text"}}"#),
    ("tool_choice", r#""auto""#),
    ("tools", "[]"),
    ("top_logprobs", "0"),
    ("top_p", "1.0"),
    ("truncation", r#""disabled""#),
    ("user", "null"),
];

/// The member that says what tier of service there was, in a response, and is asked for, in a request.
const TIER: &str = "service_tier";

/// Returns the members of `request` that its response repeats, and whether that is `kept`.
pub(super) fn echo(request: &Shallow, kept: bool) -> Arc<str> {
    let members = ECHOED
        .iter()
        .map(|(key, default)| format!("\"{key}\":{}", request.get(key).unwrap_or(default)));
    let members: Vec<String> = members.collect();
    let previous = request.get(kept::PREVIOUS).unwrap_or("null");
    Arc::from(format!(
        r#"{{"{}":{previous},"{}":{kept},{}}}"#,
        kept::PREVIOUS,
        kept::STORE,
        members.join(",")
    ))
}

/// How far an answer or one of its items has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    /// More follows.
    InProgress,
    /// All was said.
    Completed,
    /// A limit or a filter cut it off.
    Incomplete,
    /// The upstream failed.
    Failed,
}

/// An item of the output, as far as it was said.
#[derive(Debug)]
pub(super) struct Item {
    /// The same through the item's life.
    pub(super) id: String,
    pub(super) status: Status,
    pub(super) body: Body,
}

/// What an item is.
#[derive(Debug)]
pub(super) enum Body {
    /// Texts and refusals, one after another.
    Message(Vec<Piece>),
    /// What the model thought.
    Reasoning { text: String, encrypted: Option<String> },
    /// A call of a tool.
    Call {
        kind: ToolKind,
        call_id: String,
        name: String,
        arguments: String,
    },
    /// A picture, in base64, as the provider's own tool for them gives it.
    Picture(String),
}

/// A part of a message.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) refusal: bool,
    pub(super) text: String,
    pub(super) notes: Notes,
    /// How many of the tokens were told.
    pub(super) told: usize,
}

impl Piece {
    /// Returns a text, or a refusal, of which nothing was said yet.
    pub(super) fn new(refusal: bool) -> Self {
        Self {
            refusal,
            text: String::new(),
            notes: Notes::default(),
            told: 0,
        }
    }
}

/// Returns the id of the response: the upstream's, behind the prefix that this format's ids have.
pub(super) fn response_id(head: &Head) -> String {
    if head.id.starts_with("resp_") {
        head.id.clone()
    } else if head.id.is_empty() {
        let created = head.created.unwrap_or(0).to_string();
        format!("resp_{:016x}", fingerprint(&[&head.model, &created]))
    } else {
        format!("resp_{}", head.id)
    }
}

impl Item {
    /// Returns item `index` of `response`, of which nothing was said yet.
    pub(super) fn new(response: &str, index: usize, body: Body) -> Self {
        let prefix = match &body {
            Body::Message(_) => "msg",
            Body::Reasoning { .. } => "rs",
            Body::Call {
                kind: ToolKind::Function,
                ..
            } => "fc",
            Body::Call {
                kind: ToolKind::Custom,
                ..
            } => "ctc",
            Body::Picture(_) => "ig",
        };
        Self {
            id: format!("{prefix}_{}", item_hash(response, index)),
            status: Status::InProgress,
            body,
        }
    }
}

impl Body {
    /// Returns `media` as an item; `None`, and a loss, if it is no picture or not here.
    pub(super) fn shown(media: &Media, losses: &mut Losses) -> Option<Self> {
        if let (MediaKind::Image, Source::Inline { data, .. }) = (media.kind, &media.source) {
            return Some(Body::Picture(data.clone()));
        }
        let reason = format!("a response has no {} parts", media.kind.name());
        losses.advisory(Field::Reply("output"), reason);
        None
    }

    /// Returns a call, with an id of its own if the upstream gave it none; no arguments are an empty object.
    pub(super) fn call(id: &str, name: &str, kind: ToolKind, response: &str, index: usize) -> Self {
        Body::Call {
            kind,
            call_id: if id.is_empty() {
                format!("call_{}", item_hash(response, index))
            } else {
                id.to_owned()
            },
            name: name.to_owned(),
            arguments: String::new(),
        }
    }

    /// Completes what must not stay empty.
    pub(super) fn complete(&mut self) {
        if let Body::Call {
            kind: ToolKind::Function,
            arguments,
            ..
        } = self
            && arguments.trim().is_empty()
        {
            "{}".clone_into(arguments);
        }
    }
}

fn item_hash(response: &str, index: usize) -> String {
    format!("{:016x}", fingerprint(&[response, &index.to_string()]))
}

impl Serialize for Item {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(tag = "type", rename_all = "snake_case")]
        enum Wire<'a> {
            Message {
                id: &'a str,
                status: Status,
                role: &'static str,
                content: &'a [Piece],
            },
            Reasoning {
                id: &'a str,
                summary: &'a [Summary<'a>],
                #[serde(skip_serializing_if = "Option::is_none")]
                encrypted_content: Option<&'a str>,
            },
            FunctionCall {
                id: &'a str,
                status: Status,
                call_id: &'a str,
                name: &'a str,
                arguments: &'a str,
            },
            CustomToolCall {
                id: &'a str,
                status: Status,
                call_id: &'a str,
                name: &'a str,
                input: &'a str,
            },
            ImageGenerationCall {
                id: &'a str,
                status: Status,
                result: Option<&'a str>,
            },
        }

        let (id, status) = (self.id.as_str(), self.status);
        let summary;
        let wire = match &self.body {
            Body::Message(content) => Wire::Message {
                id,
                status,
                role: "assistant",
                content,
            },
            Body::Reasoning { text, encrypted } => {
                summary = [Summary::new(text)];
                Wire::Reasoning {
                    id,
                    summary: if text.is_empty() { &[] } else { &summary },
                    encrypted_content: encrypted.as_deref(),
                }
            }
            Body::Call {
                kind,
                call_id,
                name,
                arguments,
            } => match kind {
                ToolKind::Function => Wire::FunctionCall {
                    id,
                    status,
                    call_id,
                    name,
                    arguments,
                },
                ToolKind::Custom => Wire::CustomToolCall {
                    id,
                    status,
                    call_id,
                    name,
                    input: arguments,
                },
            },
            Body::Picture(data) => Wire::ImageGenerationCall {
                id,
                status,
                result: (status != Status::InProgress).then_some(data),
            },
        };
        wire.serialize(serializer)
    }
}

/// A part of a summary.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Summary<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    text: &'a str,
}

impl<'a> Summary<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            kind: "summary_text",
            text,
        }
    }
}

impl Piece {
    /// Notes what is said about the text; refusals have no such members.
    fn note(&mut self, part: &Part, losses: &mut Losses) {
        let pages = part.citations.iter().filter(|citation| citation.page().is_some());
        if !self.refusal {
            self.notes.tokens.clone_from(&part.tokens);
            self.notes.citations.extend(pages.cloned());
            return;
        }
        note::lose(&part.tokens, losses);
        if pages.count() > 0 {
            citation::lose(losses);
        }
    }

    /// Returns how many characters the text has, where somebody asks.
    pub(super) fn length(&self) -> usize {
        if self.notes.citations.is_empty() {
            0
        } else {
            self.text.chars().count()
        }
    }
}

impl Serialize for Piece {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(tag = "type", rename_all = "snake_case")]
        enum Wire<'a> {
            OutputText {
                text: &'a str,
                annotations: Vec<UrlCitation<'a>>,
                logprobs: Tokens<'a>,
            },
            Refusal {
                refusal: &'a str,
            },
        }

        let wire = if self.refusal {
            Wire::Refusal { refusal: &self.text }
        } else {
            let length = self.length();
            let citations = self.notes.citations.iter();
            Wire::OutputText {
                text: &self.text,
                annotations: citations
                    .map(|citation| UrlCitation::new(citation, length))
                    .collect(),
                logprobs: Tokens(Cow::from(&self.notes.tokens)),
            }
        };
        wire.serialize(serializer)
    }
}

/// A response.
#[derive(Serialize)]
pub(super) struct Document<'a> {
    pub(super) id: &'a str,
    pub(super) object: &'static str,
    pub(super) created_at: u64,
    pub(super) status: Status,
    pub(super) background: bool,
    pub(super) error: Option<Failure<'a>>,
    pub(super) incomplete_details: Option<Details>,
    pub(super) model: &'a str,
    pub(super) output: &'a [Item],
    pub(super) previous_response_id: Option<&'a RawValue>,
    pub(super) store: bool,
    pub(super) usage: Option<wire::Totals>,
    #[serde(flatten)]
    pub(super) echo: Echo<'a>,
}

/// Why an answer is incomplete.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Details {
    reason: &'static str,
}

/// What a response repeats of its request.
pub(super) struct Echo<'a> {
    members: BTreeMap<&'a str, &'a RawValue>,
    /// The tier of service that it had, whichever it asked for.
    tier: Option<&'static str>,
}

impl<'a> Echo<'a> {
    fn new(echo: Option<&'a str>) -> Self {
        let members = echo.and_then(|echo| serde_json::from_str(echo).ok());
        Self {
            members: members.unwrap_or_default(),
            tier: None,
        }
    }
}

impl Serialize for Echo<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(ECHOED.len()))?;
        for (key, default) in ECHOED {
            match self.members.get(key) {
                _ if *key == TIER && self.tier.is_some() => map.serialize_entry(key, &self.tier)?,
                Some(value) => map.serialize_entry(key, value)?,
                None => map.serialize_entry(key, &serde_json::from_str::<&RawValue>(default).ok())?,
            }
        }
        map.end()
    }
}

impl<'a> Document<'a> {
    /// Returns the response that `head` begins, called `id`, with this `output`.
    pub(super) fn new(head: &'a Head, id: &'a str, output: &'a [Item], status: Status) -> Self {
        let echo = Echo::new(head.echo.as_deref());
        Self {
            id,
            object: "response",
            created_at: head.created.unwrap_or(0),
            status,
            background: false,
            error: None,
            incomplete_details: None,
            model: &head.model,
            output,
            previous_response_id: echo.members.get(kept::PREVIOUS).copied(),
            store: echo
                .members
                .get(kept::STORE)
                .is_some_and(|store| store.get() == "true"),
            usage: None,
            echo,
        }
    }

    /// Returns the response as it ended for `reason`.
    pub(super) fn finished(self, reason: FinishReason, usage: &Usage) -> Self {
        let incomplete = wire::incomplete(reason);
        Self {
            status: status(reason),
            incomplete_details: incomplete.map(|reason| Details { reason }),
            usage: Some(wire::Totals::from(usage)),
            echo: Echo {
                tier: usage.tier_among(openai::wire::TIERS),
                ..self.echo
            },
            ..self
        }
    }

    /// Returns the response as it failed with `error`.
    pub(super) fn failed(self, error: &'a ApiError) -> Self {
        Self {
            status: Status::Failed,
            error: Some(Failure::from(error)),
            ..self
        }
    }
}

/// Returns what became of an answer that ended for `reason`.
pub(super) fn status(reason: FinishReason) -> Status {
    match wire::incomplete(reason) {
        Some(_) => Status::Incomplete,
        None => Status::Completed,
    }
}

/// Records that an answer cannot be told as it ended.
pub(super) fn lose_finish(reason: FinishReason, losses: &mut Losses) {
    if reason == FinishReason::Pause {
        losses.advisory(Field::Reply("status"), "the format has no word for a paused turn");
    }
}

/// Records that there is more than the one answer that the format has.
pub(super) fn lose_choices(losses: &mut Losses) {
    losses.advisory(Field::Reply("choices"), "a response is one answer");
}

/// Writes a whole reply.
pub(super) fn encode(response: &Response, losses: &mut Losses) -> Bytes {
    let id = response_id(&response.head);
    if response.choices.len() > 1 {
        lose_choices(losses);
    }
    response.usage.lose(openai::wire::TIERS, false, losses);
    let choice = response.choices.first();
    let mut items: Vec<Item> = Vec::new();
    for part in choice.map_or(&[][..], |choice| &choice.parts) {
        add(part, &id, &mut items, losses);
    }
    if let Some(choice) = choice {
        citation::lose_all(&choice.parts, losses);
        choice.finish.lose_remarks(&[], losses);
    }
    let reason = choice.map(|choice| choice.finish.reason).unwrap_or_default();
    lose_finish(reason, losses);
    settle(&mut items, reason);
    let document = Document::new(&response.head, &id, &items, Status::Completed);
    let document = document.finished(reason, &response.usage);
    Bytes::from(serde_json::to_vec(&document).unwrap_or_default())
}

fn add(part: &Part, response: &str, items: &mut Vec<Item>, losses: &mut Losses) {
    let index = items.len();
    let body = match &part.body {
        PartBody::Text(text) | PartBody::Refusal(text) if text.is_empty() => return,
        PartBody::Text(text) | PartBody::Refusal(text) => {
            let mut piece = Piece::new(matches!(part.body, PartBody::Refusal(_)));
            piece.text.clone_from(text);
            piece.note(part, losses);
            if let Some(Item {
                body: Body::Message(pieces),
                ..
            }) = items.last_mut()
            {
                pieces.push(piece);
                return;
            }
            Body::Message(vec![piece])
        }
        PartBody::Reasoning(reasoned) => {
            if reasoned.text.is_empty() && reasoned.seal.is_none() {
                return;
            }
            Body::Reasoning {
                text: reasoned.text.clone(),
                encrypted: reasoned
                    .seal
                    .as_ref()
                    .map(|seal| wire::encrypted(seal, reasoned.redacted)),
            }
        }
        PartBody::ToolCall(call) => {
            let mut body = Body::call(&call.id, &call.name, call.kind, response, index);
            if let Body::Call { arguments, .. } = &mut body {
                arguments.clone_from(&call.arguments);
            }
            body
        }
        PartBody::Media(media) => match Body::shown(media, losses) {
            Some(body) => body,
            None => return,
        },
        PartBody::SearchResult(_) => {
            return losses.advisory(Field::Reply("output"), "a response has no search results");
        }
        PartBody::ToolResult(_) => {
            let reason = "the answer holds the result of a tool that the provider ran";
            return losses.advisory(Field::Reply("output"), reason);
        }
        PartBody::Native { kind, format, .. } => {
            let reason = format!("a part of type {kind} is known to {} only", format.name());
            return losses.advisory(Field::Reply("output"), reason);
        }
    };
    items.push(Item::new(response, index, body));
}

/// Marks what was said as complete, but for a message that was cut off.
fn settle(items: &mut [Item], reason: FinishReason) {
    for item in items.iter_mut() {
        item.body.complete();
        item.status = Status::Completed;
    }
    if let Some(
        last @ Item {
            body: Body::Message(_),
            ..
        },
    ) = items.last_mut()
    {
        last.status = status(reason);
    }
}
