//! OpenAI itself.

use super::{Ask, CredentialKind, Dialect, Provider, Target};
use crate::{Format, Operation};

/// OpenAI at `api.openai.com`.
#[derive(Debug)]
pub struct OpenAi;

impl Provider for OpenAi {
    fn name(&self) -> &'static str {
        "openai"
    }

    fn formats(&self, operation: Operation, _model: &str) -> &'static [Format] {
        match operation {
            Operation::Chat => &[Format::OpenAi, Format::Responses],
            Operation::Models => &[],
        }
    }

    fn path(&self, ask: Ask, target: &Target<'_>) -> String {
        chat_path(ask, target)
    }

    fn host(&self) -> Option<&'static str> {
        Some("api.openai.com")
    }

    fn credential(&self) -> CredentialKind {
        CredentialKind::Bearer
    }

    fn dialect(&self) -> Dialect {
        Dialect {
            top_k: false,
            thinking: false,
            cache_control: false,
            media_urls: false,
        }
    }
}

/// Returns the path at which servers of OpenAI's and Anthropic's kind answer, under the site's prefix.
pub(super) fn chat_path(ask: Ask, target: &Target<'_>) -> String {
    let suffix = match ask.format {
        Format::Messages => "messages",
        Format::Responses => "responses",
        Format::OpenAi | Format::Gemini | Format::Converse => "chat/completions",
    };
    target.site.join("v1", suffix)
}
