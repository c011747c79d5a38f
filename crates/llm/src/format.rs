//! The wire schemas, one variant each: what a format is called and where its two halves are.

use crate::chat;

/// The wire schema of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// OpenAI chat completions.
    OpenAi,
    /// Anthropic Messages.
    Messages,
}

impl Format {
    /// Every format, in the order in which they are documented.
    pub const ALL: &'static [Format] = &[Format::OpenAi, Format::Messages];

    /// Returns the word used for the format in logs, metrics and seals.
    pub fn name(self) -> &'static str {
        match self {
            Format::OpenAi => "openai",
            Format::Messages => "messages",
        }
    }

    /// Returns the format called `name`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|format| format.name() == name)
    }

    /// Returns the half that speaks with clients.
    pub fn client(self) -> &'static dyn chat::Client {
        match self {
            Format::OpenAi => &chat::openai::OpenAi,
            Format::Messages => &chat::messages::Messages,
        }
    }

    /// Returns the half that speaks with upstreams.
    pub fn upstream(self) -> &'static dyn chat::Upstream {
        match self {
            Format::OpenAi => &chat::openai::OpenAi,
            Format::Messages => &chat::messages::Messages,
        }
    }
}
