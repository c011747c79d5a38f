//! The wire schemas, one variant each: what a format is called and where its halves are.

use std::borrow::Cow;

use bytes::Bytes;

use crate::{ApiError, Field, chat, document};

/// The wire schema of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// OpenAI chat completions.
    OpenAi,
    /// Anthropic Messages.
    Messages,
    /// OpenAI Responses.
    Responses,
    /// Google Gemini, `generateContent`.
    Gemini,
    /// Amazon Bedrock Converse. Upstreams speak it; clients do not.
    Converse,
    /// Cohere's own, version 2. Nobody chats in it here.
    Cohere,
}

impl Format {
    /// Every format, in the order in which they are documented.
    pub const ALL: &'static [Format] = &[
        Format::OpenAi,
        Format::Messages,
        Format::Responses,
        Format::Gemini,
        Format::Converse,
        Format::Cohere,
    ];

    /// Returns the word used for the format in logs, metrics and seals.
    pub fn name(self) -> &'static str {
        match self {
            Format::OpenAi => "openai",
            Format::Messages => "messages",
            Format::Responses => "responses",
            Format::Gemini => "gemini",
            Format::Converse => "converse",
            Format::Cohere => "cohere",
        }
    }

    /// Returns the format called `name`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|format| format.name() == name)
    }

    /// Returns the half that speaks chat with clients.
    pub fn client(self) -> Option<&'static dyn chat::Client> {
        match self {
            Format::OpenAi => Some(&chat::openai::OpenAi),
            Format::Messages => Some(&chat::messages::Messages),
            Format::Responses => Some(&chat::responses::Responses),
            Format::Gemini => Some(&chat::gemini::Gemini),
            Format::Converse | Format::Cohere => None,
        }
    }

    /// Returns the half that speaks chat with upstreams.
    pub fn upstream(self) -> Option<&'static dyn chat::Upstream> {
        match self {
            Format::OpenAi => Some(&chat::openai::OpenAi),
            Format::Messages => Some(&chat::messages::Messages),
            Format::Responses => Some(&chat::responses::Responses),
            Format::Gemini => Some(&chat::gemini::Gemini),
            Format::Converse => Some(&chat::converse::Converse),
            Format::Cohere => None,
        }
    }

    /// Writes an error as a document, for any operation. What no client speaks is said as OpenAI says it.
    pub fn encode_error(self, error: &ApiError) -> Bytes {
        match self {
            Format::Cohere => document::encode_error(error),
            Format::OpenAi | Format::Messages | Format::Responses | Format::Gemini | Format::Converse => {
                self.words().encode_error(error)
            }
        }
    }

    /// Returns a client's name for a member of the neutral form.
    pub fn field(self, field: &Field) -> Cow<'static, str> {
        self.words().field(field)
    }

    pub(crate) fn words(self) -> &'static dyn chat::Client {
        self.client().unwrap_or(&chat::openai::OpenAi)
    }
}
