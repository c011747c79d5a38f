//! Chat in the neutral form, and the traits that join a format to it.
//!
//! The form follows the richest block model: ordered turns of typed parts, cache marks on parts, reasoning
//! with a seal that only its issuer can read, tool results made of parts. What at least two formats can say
//! is a variant, matched exhaustively, so that adding one makes the compiler list every encoder that must
//! decide. What only one format can say is an [`Extension`] (a member) or [`PartBody::Native`] (a part) and
//! reaches only that format; elsewhere it becomes a loss. Members that two formats carry unread are in `shared`.
//!
//! A format is a folder with the same parts everywhere: `wire` (its JSON, as tables), `client` (we answer in
//! it), `upstream` (we ask in it), `stream` (both directions of its events), `listen` (what a relay
//! overhears) and `error`.

use std::{borrow::Cow, sync::Arc};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use serde_json::value::RawValue;

use crate::{
    ApiError, Field, Format, Losses, Observed, Severity, Target, Usage,
    frame::Frame,
    json::{Edit, Shallow},
    media::{Media, Source},
    name,
    reply::End,
};

pub(crate) mod attribution;
pub mod citation;
pub mod converse;
pub(crate) mod custom;
pub mod event;
mod fingerprint;
pub mod fold;
pub mod gemini;
pub mod messages;
pub mod note;
pub mod openai;
pub mod responses;
pub(crate) mod search;
mod shared;
pub(crate) mod shown;

pub use citation::{Citation, SearchResult};
pub use event::{Delta, Event, Grammar, Head, PartHead};
pub use note::Token;

/// The half of a format that speaks with clients.
pub trait Client: Sync {
    /// Reads a request. Members that only this format has become extensions.
    ///
    /// # Errors
    /// A 400 that names the member at fault.
    fn decode_request(&self, body: &[u8], losses: &mut Losses) -> Result<Request, ApiError>;

    /// Writes a whole answer.
    fn encode_response(&self, response: &Response, losses: &mut Losses) -> Bytes;

    /// Returns a writer for a streamed answer to a request that asked for `stream`.
    fn encode_stream(&self, stream: StreamOptions) -> Box<dyn EncodeStream>;

    /// Writes an error as a document of its own.
    fn encode_error(&self, error: &ApiError) -> Bytes;

    /// Writes an error as the last event of a stream.
    fn encode_error_event(&self, error: &ApiError) -> Bytes;

    /// Returns bytes that keep a waiting stream alive and mean nothing.
    fn keep_alive(&self, stream: StreamOptions) -> &'static [u8];

    /// Returns a writer of relayed frames for a client that reads anything but server-sent events.
    fn reframe(&self, _stream: StreamOptions) -> Option<Box<dyn Reframe>> {
        None
    }

    /// Returns the members of `request` that answers in this format repeat, as a JSON object. `kept` tells whether
    /// the answer is kept.
    fn echo(&self, _request: &Shallow, _kept: bool) -> Option<Arc<str>> {
        None
    }

    /// Returns where answers in this format name the model.
    fn names_model(&self) -> name::Place;

    /// Returns the client's name for a member of the neutral form.
    fn field(&self, field: &Field) -> Cow<'static, str>;
}

/// The half of a format that speaks with upstreams.
pub trait Upstream: Sync {
    /// Writes a request for `target`, and returns what is needed to read the reply.
    ///
    /// # Errors
    /// A 4xx, if the request cannot be said in this format at all.
    fn encode_request(
        &self,
        request: &Request,
        target: &Target<'_>,
        losses: &mut Losses,
    ) -> Result<(Bytes, Box<dyn DecodeReply>), ApiError>;

    /// Returns what is needed to read the reply to `request`, which need not be sent.
    ///
    /// # Errors
    /// Those of [`Upstream::encode_request`].
    fn reader(&self, request: &Request, target: &Target<'_>) -> Result<Box<dyn DecodeReply>, ApiError> {
        let (_, reader) = self.encode_request(request, target, &mut Losses::default())?;
        Ok(reader)
    }

    /// Reads an error reply. Some providers say its kind in `headers`. Anything that is not the format's own error document becomes its message.
    fn decode_error(&self, status: StatusCode, headers: &HeaderMap, body: &Bytes) -> ApiError;

    /// Returns the edits, beside that of `model`, that make a client's own document fit for an upstream of
    /// this format. `streamed` tells whether the client asked for a stream.
    fn relay_edits(&self, request: &Shallow, streamed: bool, target: &Target<'_>) -> Vec<Edit>;

    /// Notes what a whole reply of this format says, without changing it.
    ///
    /// # Errors
    /// A 502, if the body is not a JSON object.
    fn listen_response(&self, body: &[u8], observed: &mut Observed) -> Result<(), ApiError>;

    /// Returns a listener for a streamed reply. `withhold_usage` tells that usage was asked for on the
    /// client's behalf, so that a frame that holds nothing else is not for the client.
    fn listen_stream(&self, withhold_usage: bool) -> Box<dyn Listen>;
}

/// Reads one reply; remembers what reading needs, such as tool names that had to be shortened.
pub trait DecodeReply: Send {
    /// Reads a whole reply. What the neutral form cannot say is a loss of the reply.
    ///
    /// # Errors
    /// A 502, if the reply breaks its format.
    fn decode_response(self: Box<Self>, body: &[u8], losses: &mut Losses) -> Result<Response, ApiError>;

    /// Returns a reader for a streamed reply.
    fn into_stream(self: Box<Self>) -> Box<dyn DecodeStream>;
}

/// Reads a streamed reply, frame by frame.
pub trait DecodeStream: Send {
    /// Reads one frame; pushes any number of events. A frame that cannot be read becomes `Event::Error`; what
    /// the neutral form cannot say is a loss of the reply.
    fn frame(&mut self, frame: Frame<'_>, out: &mut Vec<Event>, losses: &mut Losses);

    /// Hears how the stream ended; pushes what is still owed, an error where the answer is incomplete.
    fn end(&mut self, how: End, out: &mut Vec<Event>);
}

/// Writes a streamed answer, event by event. Total: what it cannot say is a loss, never a failure.
pub trait EncodeStream: Send {
    /// Appends what `event` is in the client's format.
    fn event(&mut self, event: &Event, out: &mut BytesMut, losses: &mut Losses);

    /// Appends what is still owed when no event follows. Not called after `Event::Error`.
    fn end(&mut self, out: &mut BytesMut, losses: &mut Losses);

    /// Returns the answer as one document, once: when it is complete and was to be kept.
    fn whole(&mut self) -> Option<Bytes> {
        None
    }
}

/// Writes the frames of a relayed stream as a client reads them that does not read server-sent events.
pub trait Reframe: Send {
    /// Appends a frame.
    fn frame(&mut self, frame: Frame<'_>, out: &mut BytesMut);

    /// Appends an error, after which nothing follows.
    fn error(&mut self, error: &ApiError, out: &mut BytesMut);

    /// Appends what is owed after the last frame.
    fn end(&mut self, out: &mut BytesMut);
}

/// Overhears a relayed stream.
pub trait Listen: Send {
    /// Notes what one frame says.
    fn frame(&mut self, frame: Frame<'_>, observed: &mut Observed) -> Verdict;

    /// Hears that the stream ended as HTTP says it should.
    fn end(&mut self, _observed: &mut Observed) {}
}

/// What becomes of a relayed frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The client gets it as it is.
    Pass,
    /// The client did not ask for it.
    Withhold,
}

/// What a client asks for.
#[derive(Clone, Debug)]
pub struct Request {
    /// The model in the client's words.
    pub model: String,
    /// What stands before the first turn.
    pub instructions: Vec<Part>,
    /// The conversation, in the client's order.
    pub turns: Vec<Turn>,
    /// What the model may call.
    pub tools: Vec<Tool>,
    /// Whether it must.
    pub tool_choice: Option<ToolChoice>,
    /// Whether it may call several at once; `None` leaves it to the provider.
    pub parallel_tool_calls: Option<bool>,
    /// The form of the answer.
    pub output: Output,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// How much to think; `None` leaves it to the provider.
    pub reasoning: Option<Reasoning>,
    /// The most tokens to generate.
    pub max_output: Option<u64>,
    /// Whether and how to stream; `None` asks for one document.
    pub stream: Option<StreamOptions>,
    /// The end user, opaque to us.
    pub user: Option<String>,
    /// Whether that is what OpenAI calls a safety identifier: a name that tells users apart and nothing of them.
    pub user_is_pseudonym: bool,
    /// The tier of service, in the client's word.
    pub service_tier: Option<String>,
    /// Top-level members that only the client's format has.
    pub extensions: Extensions,
}

/// One message of the conversation.
#[derive(Clone, Debug)]
pub struct Turn {
    /// Whose turn it is.
    pub role: Role,
    /// What was said, in order.
    pub parts: Vec<Part>,
    /// The index of the message in the client's document.
    pub origin: usize,
    /// The speaker's name, where one was given.
    pub name: Option<String>,
    /// Members that only the client's format has.
    pub extensions: Extensions,
}

/// Whose turn it is. Results of tools are parts of a user's turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Instructions in the middle of a conversation.
    System,
    /// The user, or the tools on the user's side.
    User,
    /// The model.
    Assistant,
}

/// A part of a turn.
#[derive(Clone, Debug)]
pub struct Part {
    /// What it is.
    pub body: PartBody,
    /// Whether the provider should cache everything up to here.
    pub cache: Option<CacheMark>,
    /// Where a text of the model's is taken from.
    pub citations: Vec<Citation>,
    /// The tokens of a text of the model's, as far as the provider tells them.
    pub tokens: Vec<Token>,
    /// Members that only the client's format has.
    pub extensions: Extensions,
}

/// What a part is.
#[derive(Clone, Debug)]
pub enum PartBody {
    /// Text.
    Text(String),
    /// A picture, a document, sound.
    Media(Media),
    /// What a search of the client's found.
    SearchResult(SearchResult),
    /// What the model thought.
    Reasoning(Reasoned),
    /// The model calls a tool.
    ToolCall(ToolCall),
    /// A tool's answer.
    ToolResult(ToolResult),
    /// The model declines, in its words.
    Refusal(String),
    /// A part that only one format has.
    Native {
        /// The format that can read it.
        format: Format,
        /// Its `type`.
        kind: String,
        /// The part as it was written.
        raw: Box<RawValue>,
    },
}

/// A mark after which the provider should cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheMark {
    /// How long; `None` leaves it to the provider.
    pub ttl: Option<CacheTtl>,
}

/// How long a cached prefix lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheTtl {
    /// `5m`
    FiveMinutes,
    /// `1h`
    OneHour,
}

/// A piece of the model's reasoning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reasoned {
    /// The text, as far as the provider shows it.
    pub text: String,
    /// The provider's proof that the text is its own.
    pub seal: Option<Seal>,
    /// Whether the text is withheld and the seal is all there is.
    pub redacted: bool,
}

/// Opaque bytes that only the format that issued them understands; replayed to it alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// Who issued it.
    pub issuer: Format,
    /// As the issuer wrote it.
    pub bytes: Box<str>,
}

/// A call of a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolCall {
    /// Repeated by the result.
    pub id: String,
    /// The tool.
    pub name: String,
    /// JSON text of the arguments; for custom tools any text.
    pub arguments: String,
    /// How the arguments are written.
    pub kind: ToolKind,
}

/// How a tool's arguments are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ToolKind {
    /// As JSON after a schema.
    Function,
    /// As free text.
    Custom,
}

/// What a tool answered.
#[derive(Clone, Debug)]
pub struct ToolResult {
    /// The call's id.
    pub call: String,
    /// Text and media.
    pub parts: Vec<Part>,
    /// Whether the tool failed; `None` where the format does not say.
    pub is_error: Option<bool>,
}

/// A tool that the model may call.
#[derive(Clone, Debug)]
pub struct Tool {
    /// What it is.
    pub body: ToolBody,
    /// Whether the provider should cache everything up to here.
    pub cache: Option<CacheMark>,
    /// Members that only the client's format has.
    pub extensions: Extensions,
}

/// What a tool is.
#[derive(Clone, Debug)]
pub enum ToolBody {
    /// Called with JSON.
    Function {
        /// What it is called.
        name: String,
        /// What it does.
        description: Option<String>,
        /// JSON schema of the arguments; `None` takes none.
        parameters: Option<Box<RawValue>>,
        /// Whether the arguments must follow the schema to the letter.
        strict: Option<bool>,
    },
    /// A tool that only one format has, such as a provider's own web search.
    Native {
        /// The format that can read it.
        format: Format,
        /// Its `type`.
        kind: String,
        /// The tool as it was written.
        raw: Box<RawValue>,
    },
}

/// Whether the model must call a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolChoice {
    /// It may.
    Auto,
    /// It must not.
    None,
    /// It must call one.
    Required,
    /// It must call this one.
    Tool(String),
}

/// The form of the answer.
#[derive(Clone, Debug, Default)]
pub enum Output {
    /// Any text.
    #[default]
    Text,
    /// Text and nothing else, said in so many words.
    Plain,
    /// Some JSON object.
    JsonObject,
    /// JSON after a schema.
    JsonSchema {
        /// What the schema is called; empty where the format has no name for it.
        name: String,
        /// What the answer is for.
        description: Option<String>,
        /// The schema.
        schema: Box<RawValue>,
        /// Whether the answer must follow it to the letter.
        strict: Option<bool>,
    },
}

/// How tokens are drawn.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sampling {
    /// 0 to 2.
    pub temperature: Option<f64>,
    /// 0 to 1.
    pub top_p: Option<f64>,
    /// From this many likeliest tokens.
    pub top_k: Option<u64>,
    /// For repeatable answers.
    pub seed: Option<i64>,
    /// -2 to 2.
    pub frequency_penalty: Option<f64>,
    /// -2 to 2.
    pub presence_penalty: Option<f64>,
    /// Sequences that end the answer.
    pub stop: Vec<String>,
    /// How many answers; `None` is one.
    pub choices: Option<u64>,
    /// Whether the answer carries log-probabilities, and of how many alternatives.
    pub logprobs: Option<u64>,
}

/// How much to think.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reasoning {
    /// Whether to think.
    pub mode: Option<ReasoningMode>,
    /// In a word.
    pub effort: Option<String>,
    /// In tokens.
    pub budget: Option<u64>,
    /// `summarized` or `omitted`: how much of it is shown.
    pub display: Option<String>,
}

/// Whether to think.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReasoningMode {
    /// Yes.
    Enabled,
    /// No.
    Disabled,
    /// As the model sees fit.
    Adaptive,
}

/// How to stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamOptions {
    /// Whether the client wants token counts in the stream, where its format makes that a choice.
    pub include_usage: bool,
    /// Whether the stream is one JSON array instead of events, where the format has both.
    pub array: bool,
    /// Whether the answer is to be kept, so that it is needed whole at the end.
    pub keep: bool,
}

/// Members that only one format has.
#[derive(Clone, Debug, Default)]
pub struct Extensions(pub Vec<Extension>);

/// A member that only one format has.
#[derive(Clone, Debug)]
pub struct Extension {
    /// The format that can read it.
    pub format: Format,
    /// What it is called.
    pub key: String,
    /// As it was written.
    pub value: Box<RawValue>,
    /// What losing it amounts to.
    pub severity: Severity,
}

/// A whole answer.
#[derive(Clone, Debug, Default)]
pub struct Response {
    /// Id, model and time.
    pub head: Head,
    /// The answers; one unless several were asked for.
    pub choices: Vec<Choice>,
    /// Token counts.
    pub usage: Usage,
}

/// One answer.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Text, reasoning, tool calls, a refusal; in order.
    pub parts: Vec<Part>,
    /// Why it ended.
    pub finish: Finish,
}

/// Why an answer ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finish {
    /// In the words that all formats share.
    pub reason: FinishReason,
    /// In the provider's word, where it says more.
    pub raw: Option<String>,
    /// The stop sequence that was met.
    pub stop_sequence: Option<String>,
    /// What else the provider says about the answer, in words that only its format has.
    pub remarks: Vec<Remark>,
}

/// What a provider says about an answer, in words that only its format has.
#[derive(Clone, Debug)]
pub struct Remark {
    /// The format.
    pub format: Format,
    /// What it is called there.
    pub key: &'static str,
    /// As it was written.
    pub value: Box<RawValue>,
}

impl PartialEq for Remark {
    fn eq(&self, other: &Self) -> bool {
        let told = |remark: &Self| (remark.format, remark.key, remark.value.get().to_owned());
        told(self) == told(other)
    }
}

impl Eq for Remark {}

/// Why an answer ended, in the words that all formats share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FinishReason {
    /// The model was done.
    #[default]
    Stop,
    /// A stop sequence was met.
    StopSequence,
    /// The limit on generated tokens was met.
    Length,
    /// The context window is full.
    ContextWindow,
    /// The model waits for tools.
    ToolCalls,
    /// The provider's filter stepped in.
    ContentFilter,
    /// The model declined.
    Refusal,
    /// The provider paused a long turn; sending it back continues.
    Pause,
}

impl Request {
    /// Returns about how many bytes the request takes when it is written: space that is reserved at once is not
    /// outgrown, which would copy a large request several times.
    pub fn weight(&self) -> usize {
        let parts = self.turns.iter().flat_map(|turn| &turn.parts);
        let parts: usize = self.instructions.iter().chain(parts).map(Part::weight).sum();
        let tools = self.tools.iter().map(|tool| match &tool.body {
            ToolBody::Function { parameters, .. } => {
                PUNCTUATION + parameters.as_ref().map_or(0, |parameters| parameters.get().len())
            }
            ToolBody::Native { raw, .. } => raw.get().len(),
        });
        let weight = PUNCTUATION + parts + tools.sum::<usize>();
        // Escapes take space too.
        weight + weight / 8
    }
}

/// About how many bytes stand around the content of a part or a tool.
const PUNCTUATION: usize = 128;

impl Part {
    fn weight(&self) -> usize {
        let content = match &self.body {
            PartBody::Text(text) | PartBody::Refusal(text) => text.len(),
            PartBody::Media(media) => match &media.source {
                Source::Inline { data, .. } => data.len(),
                Source::Text(text) => text.len(),
                Source::Url(url) => url.len(),
                Source::File { id, .. } => id.len(),
            },
            PartBody::Reasoning(reasoned) => {
                reasoned.text.len() + reasoned.seal.as_ref().map_or(0, |seal| seal.bytes.len())
            }
            PartBody::ToolCall(call) => call.arguments.len(),
            PartBody::ToolResult(result) => result.parts.iter().map(Part::weight).sum(),
            PartBody::SearchResult(result) => result.parts.iter().map(Part::weight).sum(),
            PartBody::Native { raw, .. } => raw.get().len(),
        };
        content + PUNCTUATION
    }

    /// Returns a part without marks or extensions.
    pub fn new(body: PartBody) -> Self {
        Self {
            body,
            cache: None,
            citations: Vec::new(),
            tokens: Vec::new(),
            extensions: Extensions::default(),
        }
    }

    /// Returns a text part.
    pub fn text(text: impl Into<String>) -> Self {
        Self::new(PartBody::Text(text.into()))
    }
}

impl Finish {
    /// Records the remarks as losses, but for those that the client is told under the names of `told`.
    pub fn lose_remarks(&self, told: &[&str], losses: &mut Losses) {
        for remark in self.remarks.iter().filter(|remark| !told.contains(&remark.key)) {
            let reason = format!("{} is known to {} only", remark.key, remark.format.name());
            losses.advisory(Field::Reply(remark.key), reason);
        }
    }
}

impl Extensions {
    /// Returns the members that `format` can read.
    pub fn of(&self, format: Format) -> impl Iterator<Item = &Extension> {
        self.0.iter().filter(move |extension| extension.format == format)
    }

    /// Records the members that `format` cannot read as losses, each named by `field`.
    pub fn lose(&self, format: Format, losses: &mut Losses, field: impl Fn(&str) -> Field) {
        for extension in self.0.iter().filter(|extension| extension.format != format) {
            losses.push(extension.loss(field(&extension.key)));
        }
    }

    /// Records every member as a loss: what carries them is not sent.
    pub fn lose_all(&self, losses: &mut Losses, field: impl Fn(&str) -> Field) {
        for extension in &self.0 {
            losses.push(extension.loss(field(&extension.key)));
        }
    }
}

impl CacheTtl {
    /// Returns the word that clients and providers use.
    pub fn as_str(self) -> &'static str {
        match self {
            CacheTtl::FiveMinutes => "5m",
            CacheTtl::OneHour => "1h",
        }
    }
}
