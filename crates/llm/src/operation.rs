//! What can be asked for, and at which path: the table of the client-facing endpoints.

use http::Method;
use percent_encoding::percent_decode_str;

use crate::{Document, Format, Upload};

/// Every endpoint that clients may call.
pub const ENDPOINTS: &[Endpoint] = &[
    Endpoint::chat("/v1/chat/completions", Format::OpenAi, "chat"),
    Endpoint::chat("/anthropic/v1/messages", Format::Messages, "messages"),
    Endpoint::chat("/v1/responses", Format::Responses, "responses"),
    Endpoint::generate("/v1beta/models/{model}:generateContent", false),
    Endpoint::generate("/v1beta/models/{model}:streamGenerateContent", true),
    Endpoint::generate("/v1/models/{model}:generateContent", false),
    Endpoint::generate("/v1/models/{model}:streamGenerateContent", true),
    Endpoint::generate("/v1beta1/publishers/google/models/{model}:generateContent", false),
    Endpoint::generate(
        "/v1beta1/publishers/google/models/{model}:streamGenerateContent",
        true,
    ),
    Endpoint::generate("/v1/publishers/google/models/{model}:generateContent", false),
    Endpoint::generate("/v1/publishers/google/models/{model}:streamGenerateContent", true),
    Endpoint::counted("/v1beta/models/{model}:countTokens"),
    Endpoint::counted("/v1/models/{model}:countTokens"),
    Endpoint::counted("/v1beta1/publishers/google/models/{model}:countTokens"),
    Endpoint::counted("/v1/publishers/google/models/{model}:countTokens"),
    Endpoint::document(
        "/v1/completions",
        Format::OpenAi,
        Document::Completion,
        "completion",
    ),
    Endpoint::document(
        "/v1/embeddings",
        Format::OpenAi,
        Document::Embedding,
        "embeddings",
    ),
    Endpoint::document(
        "/v1/responses/input_tokens",
        Format::Responses,
        Document::InputTokens,
        "responses_input_tokens",
    ),
    Endpoint::document(
        "/v1/responses/compact",
        Format::Responses,
        Document::Compaction,
        "responses_compact",
    ),
    Endpoint::document("/tokenize", Format::OpenAi, Document::Tokenize, "tokenize"),
    Endpoint::document(
        "/anthropic/v1/messages/count_tokens",
        Format::Messages,
        Document::CountTokens,
        "count_tokens",
    ),
    Endpoint::document(
        "/v1/images/generations",
        Format::OpenAi,
        Document::Image,
        "image_generation",
    ),
    Endpoint::document("/v1/audio/speech", Format::OpenAi, Document::Speech, "speech"),
    Endpoint::document("/cohere/v2/rerank", Format::Cohere, Document::Rerank, "rerank"),
    Endpoint::document("/v1/rerank", Format::OpenAi, Document::Rerank, "rerank"),
    Endpoint::document("/rerank", Format::OpenAi, Document::Rerank, "rerank"),
    Endpoint::document(
        "/v1/moderations",
        Format::OpenAi,
        Document::Moderation,
        "moderation",
    ),
    Endpoint::upload("/v1/audio/transcriptions", Upload::Transcription, "transcription"),
    Endpoint::upload("/v1/audio/translations", Upload::Translation, "translation"),
    Endpoint::upload("/v1/images/edits", Upload::ImageEdit, "image_edit"),
    Endpoint::upload("/v1/images/variations", Upload::ImageVariation, "image_variation"),
    Endpoint {
        methods: &[Method::GET, Method::DELETE],
        path: "/v1/responses/{id}",
        operation: Operation::Kept,
        format: Format::Responses,
        streams: None,
        label: "kept_response",
    },
    Endpoint::models("/v1/models", Format::OpenAi, Operation::Models),
    Endpoint::models("/v1/models/{model}", Format::OpenAi, Operation::Model),
    Endpoint::models("/anthropic/v1/models", Format::Messages, Operation::Models),
    Endpoint::models("/anthropic/v1/models/{model}", Format::Messages, Operation::Model),
];

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// The next turn of a conversation, unary or streamed.
    Chat,
    /// Anything else that is asked for with one JSON document.
    Document(Document),
    /// The list of models; answered by the gateway itself.
    Models,
    /// Something that is asked for with a form and a file.
    Upload(Upload),
    /// One model; answered by the gateway itself.
    Model,
    /// An answer that the gateway has kept; read or deleted.
    Kept,
}

/// Where a request was sent: an endpoint, and what the address says beside it.
#[derive(Clone, Debug)]
pub struct Place<'a> {
    /// The endpoint.
    pub endpoint: &'static Endpoint,
    /// What the path names: a model, or an answer.
    pub name: Option<String>,
    /// What follows the question mark.
    pub query: &'a str,
}

/// One row of the endpoint table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The methods that are served; any other is answered with 405.
    pub methods: &'static [Method],
    /// Matched exactly, once the query is cut off; what stands in braces is a name.
    pub path: &'static str,
    /// What is asked for at this path.
    pub operation: Operation,
    /// The format that clients speak at this path, errors included.
    pub format: Format,
    /// Whether the answer is a stream, where the path says so and not the body.
    pub streams: Option<bool>,
    /// The value of `gen_ai.operation.name` in metrics; spec "GenAI metrics", attributes.
    pub label: &'static str,
}

impl Endpoint {
    const fn chat(path: &'static str, format: Format, label: &'static str) -> Self {
        Self {
            methods: &[Method::POST],
            path,
            operation: Operation::Chat,
            format,
            streams: None,
            label,
        }
    }

    const fn generate(path: &'static str, streams: bool) -> Self {
        Self {
            methods: &[Method::POST],
            path,
            operation: Operation::Chat,
            format: Format::Gemini,
            streams: Some(streams),
            label: "generate_content",
        }
    }

    const fn counted(path: &'static str) -> Self {
        Self::document(path, Format::Gemini, Document::TotalTokens, "total_tokens")
    }

    const fn upload(path: &'static str, upload: Upload, label: &'static str) -> Self {
        Self {
            methods: &[Method::POST],
            path,
            operation: Operation::Upload(upload),
            format: Format::OpenAi,
            streams: None,
            label,
        }
    }

    const fn document(path: &'static str, format: Format, document: Document, label: &'static str) -> Self {
        Self {
            methods: &[Method::POST],
            path,
            operation: Operation::Document(document),
            format,
            streams: None,
            label,
        }
    }

    const fn models(path: &'static str, format: Format, operation: Operation) -> Self {
        Self {
            methods: &[Method::GET],
            path,
            operation,
            format,
            streams: None,
            label: "models",
        }
    }

    /// Returns the place at `path`, which must not carry the `query`.
    pub fn find<'a>(path: &str, query: &'a str) -> Option<Place<'a>> {
        let begins_alike = |endpoint: &&Endpoint| {
            let both = endpoint.path.bytes().zip(path.bytes()).take(LOOKED_AT);
            both.take_while(|(own, _)| *own != b'{')
                .all(|(own, other)| own == other)
        };
        ENDPOINTS.iter().filter(begins_alike).find_map(|endpoint| {
            let name = match endpoint.path.split_once('{') {
                None => (endpoint.path == path).then_some(None),
                Some((before, rest)) => path
                    .strip_prefix(before)
                    .and_then(|path| path.strip_suffix(rest.split_once('}').map_or("", |(_, after)| after)))
                    // What follows the name tells where it ends. Where nothing does, a slash is the model's own:
                    // not every client escapes it.
                    .filter(|name| !name.is_empty())
                    .map(|name| Some(percent_decode_str(name).decode_utf8_lossy().into_owned())),
            };
            Some(Place {
                endpoint,
                name: name?,
                query,
            })
        })
    }

    /// Returns the methods that are served, as a list.
    pub fn allowed(&self) -> String {
        let methods: Vec<&str> = self.methods.iter().map(Method::as_str).collect();
        methods.join(", ")
    }

    /// Returns the format in which errors about `path` are said, which may be unknown.
    pub fn dialect(path: &str) -> Format {
        if let Some(place) = Self::find(path, "") {
            return place.endpoint.format;
        }
        let is_below = |folder: &str| {
            path.strip_prefix(folder)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if is_below("/anthropic") {
            Format::Messages
        } else if path.starts_with("/cohere/") || path == "/cohere" {
            Format::Cohere
        } else if ["/v1beta", "/v1beta1", "/v1/publishers"]
            .into_iter()
            .any(is_below)
        {
            Format::Gemini
        } else {
            Format::OpenAi
        }
    }
}

/// How many bytes of a path are looked at before all of it: most paths of other things end here.
const LOOKED_AT: usize = 4;

impl Place<'_> {
    /// Returns whether the query asks for server-sent events (Google's `alt=sse`).
    pub(crate) fn asks_for_events(&self) -> bool {
        self.query.split('&').any(|pair| pair == "alt=sse")
    }
}
