//! Answers clients in this format.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    OpenAi, error,
    note::Annotation,
    reasoning::ThinkingBlock,
    stream,
    wire::{self, Counts, Logprobs, Remarks, ToolCall},
};
use crate::{
    ApiError, Field, Losses,
    chat::{
        Choice, Citation, Client, EncodeStream, Part, PartBody, Request, Response, StreamOptions, Token,
        citation,
    },
    name,
};

mod conversation;
mod google;
mod part;
mod request;

#[cfg(test)]
mod tests;

impl Client for OpenAi {
    fn decode_request(&self, body: &[u8], losses: &mut Losses) -> Result<Request, ApiError> {
        request::decode(body, losses)
    }

    fn encode_response(&self, response: &Response, losses: &mut Losses) -> Bytes {
        response.usage.lose(wire::TIERS, false, losses);
        let completion = Completion {
            id: &response.head.id,
            object: "chat.completion",
            created: response.head.created.unwrap_or(0),
            model: &response.head.model,
            choices: response
                .choices
                .iter()
                .enumerate()
                .map(|(index, choice)| Answer::new(index, choice, losses))
                .collect(),
            service_tier: response.usage.tier_among(wire::TIERS),
            usage: (!response.usage.is_unknown()).then(|| Counts::from(&response.usage)),
        };
        Bytes::from(serde_json::to_vec(&completion).unwrap_or_default())
    }

    fn encode_stream(&self, stream: StreamOptions) -> Box<dyn EncodeStream> {
        Box::new(stream::Encoder::new(stream))
    }

    fn encode_error(&self, error: &ApiError) -> Bytes {
        error::encode(error)
    }

    fn encode_error_event(&self, error: &ApiError) -> Bytes {
        error::encode_event(error)
    }

    fn keep_alive(&self, _stream: StreamOptions) -> &'static [u8] {
        stream::KEEP_ALIVE
    }

    fn names_model(&self) -> name::Place {
        name::Place::MODEL
    }

    fn field(&self, field: &Field) -> Cow<'static, str> {
        Cow::Borrowed(match field {
            Field::Message(index) => return Cow::Owned(format!("messages[{index}]")),
            Field::Tool(index) => return Cow::Owned(format!("tools[{index}]")),
            Field::Extension(key) => return Cow::Owned(key.clone()),
            Field::Reply(key) => key,
            Field::Member(path) => return Cow::Owned(path.to_string()),
            Field::Instructions => "messages",
            Field::ToolChoice => "tool_choice",
            Field::ParallelToolCalls => "parallel_tool_calls",
            Field::Output => "response_format",
            Field::Temperature => "temperature",
            Field::TopP => "top_p",
            Field::TopK => "top_k",
            Field::Seed => "seed",
            Field::FrequencyPenalty => "frequency_penalty",
            Field::PresencePenalty => "presence_penalty",
            Field::Logprobs => "logprobs",
            Field::Stop => "stop",
            Field::Choices => "n",
            Field::Reasoning => "reasoning_effort",
            Field::MaxOutput => "max_completion_tokens",
            Field::User => "user",
            Field::ServiceTier => "service_tier",
            Field::Cache => "cache_control",
        })
    }
}

#[derive(Serialize)]
struct Completion<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: Vec<Answer<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Counts>,
}

/// One answer. `native_finish_reason` is OpenRouter's member, a textual `stop_reason` is vLLM's.
#[derive(Serialize)]
struct Answer<'a> {
    index: usize,
    message: Message<'a>,
    logprobs: Option<Logprobs<'a>>,
    finish_reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    native_finish_reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_reason: Option<&'a str>,
}

#[derive(Default, Serialize)]
struct Message<'a> {
    role: &'static str,
    content: Option<Cow<'a, str>>,
    refusal: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    thinking_blocks: Vec<ThinkingBlock<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ToolCall<'a>>,
    /// OpenRouter's member.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    images: Vec<wire::Shown>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    annotations: Vec<Annotation<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    safety_ratings: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    grounding_metadata: Option<&'a RawValue>,
}

impl<'a> Answer<'a> {
    fn new(index: usize, choice: &'a Choice, losses: &mut Losses) -> Self {
        let remarks = Remarks::new(&choice.finish, losses);
        Self {
            index,
            message: Message {
                safety_ratings: remarks.safety_ratings,
                grounding_metadata: remarks.grounding_metadata,
                ..Message::new(&choice.parts, losses)
            },
            logprobs: logprobs(&choice.parts),
            finish_reason: wire::finish_word(choice.finish.reason),
            native_finish_reason: wire::native_finish(&choice.finish),
            stop_reason: choice.finish.stop_sequence.as_deref(),
        }
    }
}

/// Returns how likely the tokens of an answer were.
fn logprobs(parts: &[Part]) -> Option<Logprobs<'_>> {
    let (mut content, mut refusal) = (Cow::default(), Cow::default());
    for part in parts {
        if part.tokens.is_empty() {
            continue;
        }
        let refused = matches!(part.body, PartBody::Refusal(_));
        let all: &mut Cow<'_, [Token]> = if refused { &mut refusal } else { &mut content };
        if all.is_empty() {
            *all = Cow::from(&part.tokens);
        } else {
            all.to_mut().extend_from_slice(&part.tokens);
        }
    }
    Logprobs::new(content, refusal)
}

impl<'a> Message<'a> {
    fn new(parts: &'a [Part], losses: &mut Losses) -> Self {
        let mut message = Self {
            role: "assistant",
            ..Self::default()
        };
        citation::lose_all(parts, losses);
        for part in parts {
            match &part.body {
                PartBody::Text(text) => {
                    message.annotate(&part.citations, text);
                    wire::join(&mut message.content, text);
                }
                PartBody::Refusal(text) => wire::join(&mut message.refusal, text),
                PartBody::Reasoning(reasoned) => {
                    if !reasoned.text.is_empty() {
                        wire::join(&mut message.reasoning_content, &reasoned.text);
                    }
                    message.thinking_blocks.push(ThinkingBlock::from(reasoned));
                }
                PartBody::ToolCall(call) => message
                    .tool_calls
                    .push(ToolCall::whole(call, &call.id, &call.name)),
                PartBody::Media(media) => message.images.extend(wire::Shown::new(media, losses)),
                PartBody::SearchResult(_) => losses.advisory(
                    Field::Reply("choices[].message.content"),
                    "the answer holds a search result, which this format cannot show",
                ),
                PartBody::ToolResult(_) => losses.advisory(
                    Field::Reply("choices[].message.content"),
                    "the answer holds the result of a tool that the provider ran",
                ),
                PartBody::Native { kind, format, .. } => losses.advisory(
                    Field::Reply("choices[].message.content"),
                    format!("a part of type {kind} is known to {} only", format.name()),
                ),
            }
        }
        // Without a seal, the blocks say nothing that the text does not.
        if !message.thinking_blocks.iter().any(ThinkingBlock::is_sealed) {
            message.thinking_blocks.clear();
        }
        message
    }

    /// Says where `text` is from, which comes next.
    fn annotate(&mut self, citations: &'a [Citation], text: &str) {
        let pages = citations.iter().filter(|citation| citation.page().is_some());
        let mut pages = pages.peekable();
        if pages.peek().is_none() {
            return;
        }
        let characters = |text: &str| text.chars().count();
        let start = self.content.as_deref().map_or(0, characters);
        let end = start + characters(text);
        self.annotations
            .extend(pages.map(|page| Annotation::new(page, start, end)));
    }
}
