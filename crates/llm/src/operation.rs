//! What can be asked for, and at which path: the table of the client-facing endpoints.

use http::Method;

use crate::Format;

/// Every endpoint that clients may call.
pub const ENDPOINTS: &[Endpoint] = &[
    Endpoint::chat("/v1/chat/completions", Format::OpenAi, "chat"),
    Endpoint::chat("/anthropic/v1/messages", Format::Messages, "messages"),
    Endpoint::models("/v1/models", Format::OpenAi),
    Endpoint::models("/anthropic/v1/models", Format::Messages),
];

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// The next turn of a conversation, unary or streamed.
    Chat,
    /// The list of models; answered by the gateway itself.
    Models,
}

/// One row of the endpoint table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The one method that is served; any other is answered with 405.
    pub method: Method,
    /// Matched exactly, once the query is cut off.
    pub path: &'static str,
    /// What is asked for at this path.
    pub operation: Operation,
    /// The format that clients speak at this path, errors included.
    pub format: Format,
    /// The value of `gen_ai.operation.name` in metrics; spec "GenAI metrics", attributes.
    pub label: &'static str,
}

impl Endpoint {
    const fn chat(path: &'static str, format: Format, label: &'static str) -> Self {
        Self {
            method: Method::POST,
            path,
            operation: Operation::Chat,
            format,
            label,
        }
    }

    const fn models(path: &'static str, format: Format) -> Self {
        Self {
            method: Method::GET,
            path,
            operation: Operation::Models,
            format,
            label: "models",
        }
    }

    /// Returns the endpoint at `path`, which must not carry a query.
    pub fn find(path: &str) -> Option<&'static Endpoint> {
        ENDPOINTS.iter().find(|endpoint| endpoint.path == path)
    }

    /// Returns the format in which errors about an unknown `path` are said.
    pub fn dialect(path: &str) -> Format {
        if path.starts_with("/anthropic/") || path == "/anthropic" {
            Format::Messages
        } else {
            Format::OpenAi
        }
    }
}
