//! What was said, read again from the bytes that the client sent and was sent.
//!
//! Both are in the client's format, whatever the upstream speaks, so one decoder for each format serves relays and
//! translations, whole answers and streams. It runs beside the requests, when spans are built.

mod stream;

use std::cell::OnceCell;

use bytes::Bytes;
use llm::{Document, Endpoint, Format, Losses, Operation, Site, Target, Upload, chat, provider};
use serde::Deserialize;
use serde_json::Value;

/// What was said in one exchange.
#[derive(Default)]
pub(super) struct Content<'a> {
    /// The request, as a document.
    pub(super) document: Value,
    /// The answer, as text; of a stream, what it says when it is whole.
    pub(super) answer: Option<String>,
    asked: Asked<'a>,
    /// The request as a conversation, where it is one, or asks how long one is.
    request: OnceCell<Option<chat::Request>>,
    /// The answer as a conversation.
    response: OnceCell<Option<chat::Response>>,
    /// The answer as a document, where it is one.
    answered: OnceCell<Value>,
    /// The counts of a stream, as they are said.
    usage: Option<Value>,
    /// Whether a stream has announced its end as a good one.
    pub(super) completed: bool,
}

/// What a request has to do with conversations.
#[derive(Clone, Copy, Default)]
enum Asked<'a> {
    /// It goes on with one.
    Conversation(Format, &'a [u8]),
    /// It asks how long one is.
    Count(Format),
    #[default]
    Other,
}

impl<'a> Content<'a> {
    /// Reads what `endpoint` was sent and has answered with. `answer` is a stream if `streamed`.
    pub(super) fn read(endpoint: &Endpoint, request: &'a [u8], answer: &[Bytes], streamed: bool) -> Self {
        let mut content = Self {
            document: serde_json::from_slice(request).unwrap_or_default(),
            ..Self::default()
        };
        match endpoint.operation {
            Operation::Chat => {
                content.asked = Asked::Conversation(endpoint.format, request);
                if streamed {
                    content.listens(endpoint.format, answer);
                } else {
                    content.hears(answer, false);
                }
            }
            Operation::Document(document) => {
                if matches!(
                    document,
                    Document::CountTokens
                        | Document::InputTokens
                        | Document::TotalTokens
                        | Document::Compaction
                ) {
                    content.asked = Asked::Count(endpoint.format);
                }
                match document {
                    Document::Completion if streamed => content.says(stream::completion(answer)),
                    Document::Completion
                    | Document::Embedding
                    | Document::InputTokens
                    | Document::Compaction
                    | Document::Tokenize
                    | Document::CountTokens
                    | Document::TotalTokens
                    | Document::Image
                    | Document::Speech
                    | Document::Rerank
                    | Document::Moderation => content.hears(answer, streamed),
                }
            }
            Operation::Upload(Upload::Transcription | Upload::Translation) if streamed => {
                content.says(stream::transcript(answer));
            }
            Operation::Upload(_) | Operation::Models | Operation::Model | Operation::Kept => {
                content.hears(answer, streamed);
            }
        }
        content
    }

    /// Returns the request as a conversation, where it is one, or asks how long one is. It is read when it is first
    /// asked for, as the answer is: of many exchanges all is known from the documents.
    pub(super) fn request(&self) -> Option<&chat::Request> {
        let read = || match self.asked {
            Asked::Conversation(format, request) => {
                let client = format.client()?;
                client.decode_request(request, &mut Losses::default()).ok()
            }
            Asked::Count(format) => counted(format, &self.document),
            Asked::Other => None,
        };
        self.request.get_or_init(read).as_ref()
    }

    /// Returns the answer as a conversation.
    pub(super) fn response(&self) -> Option<&chat::Response> {
        let read = || {
            let answer = self.answer.as_ref()?;
            let reader = self.reader()?;
            reader
                .decode_response(answer.as_bytes(), &mut Losses::default())
                .ok()
        };
        self.response.get_or_init(read).as_ref()
    }

    /// Returns what reads the answer to a conversation.
    fn reader(&self) -> Option<Box<dyn chat::DecodeReply>> {
        let Asked::Conversation(format, _) = self.asked else {
            return None;
        };
        let (request, upstream) = self.request().zip(format.upstream())?;
        let target = Target {
            provider: &provider::COMPATIBLE,
            site: &Site::default(),
            model: &request.model,
            now: 0,
        };
        upstream.reader(request, &target).ok()
    }

    /// Gathers a conversation's answer from its stream.
    fn listens(&mut self, format: Format, answer: &[Bytes]) {
        let response = self.reader().and_then(|reader| stream::fold(reader, answer));
        if format == Format::Responses {
            // The last event repeats the whole answer.
            let (document, completed) = stream::response(answer);
            self.completed = completed;
            if document.is_object() {
                self.response = response.into();
                self.says(document);
                return;
            }
        }
        let document = response.as_ref().zip(format.client()).map(|(response, client)| {
            let document = client.encode_response(response, &mut Losses::default());
            String::from_utf8_lossy(&document).into_owned()
        });
        self.response = response.into();
        self.answer = document;
        self.usage = Some(stream::usage(answer));
    }

    /// Takes a whole answer, if it is text.
    fn hears(&mut self, answer: &[Bytes], streamed: bool) {
        if streamed {
            return;
        }
        self.answer = String::from_utf8(answer.concat()).ok();
    }

    /// Takes what a stream says.
    fn says(&mut self, document: Value) {
        self.answer = document.is_object().then(|| document.to_string());
        self.answered = document.into();
    }

    /// Returns the answer as a document, where it is one. It is read when it is first asked for: of many answers all is
    /// known without that.
    pub(super) fn answered(&self) -> &Value {
        self.answered.get_or_init(|| {
            let answer = self.answer.as_deref();
            answer
                .and_then(|answer| serde_json::from_str(answer).ok())
                .unwrap_or_default()
        })
    }

    /// Returns the choices of an answer to chat. Nothing else of it is told piece by piece, so nothing else is read.
    pub(super) fn choices(&self) -> Value {
        let answer = self.answer.as_deref();
        let read = answer.and_then(|answer| serde_json::from_str::<Choices>(answer).ok());
        read.map_or(Value::Null, |read| read.choices)
    }

    /// Returns how many of the tokens of one `half` were of sound, where the answer says it.
    pub(super) fn audio_tokens(&self, half: &str) -> Option<u64> {
        const MEMBER: &str = "audio_tokens";
        let usage = match &self.usage {
            Some(usage) => usage,
            None if self.answer.as_ref()?.contains(MEMBER) => &self.answered()["usage"],
            None => return None,
        };
        usage[half][MEMBER].as_u64()
    }
}

/// An answer to chat, as far as it is told piece by piece.
#[derive(Deserialize)]
struct Choices {
    choices: Value,
}

/// Returns the conversation whose tokens are to be counted.
fn counted(format: Format, document: &Value) -> Option<chat::Request> {
    let mut document = document.clone();
    if let (Format::Messages, Value::Object(members)) = (format, &mut document) {
        // A conversation must have a limit, a count of it need not.
        members.entry("max_tokens").or_insert(1.into());
    }
    let text = document.to_string();
    let client = format.client()?;
    client
        .decode_request(text.as_bytes(), &mut Losses::default())
        .ok()
}
