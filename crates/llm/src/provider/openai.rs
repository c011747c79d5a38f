//! OpenAI itself.

use super::{CredentialKind, Dialect, Provider, Target};
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
            Operation::Chat => &[Format::OpenAi],
            Operation::Models => &[],
        }
    }

    fn path(&self, format: Format, target: &Target<'_>) -> String {
        chat_path(format, target)
    }

    fn headers(&self, _format: Format) -> &'static [(&'static str, &'static str)] {
        &[]
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

/// Returns the path at which servers of either format answer chat, under the site's prefix.
pub(super) fn chat_path(format: Format, target: &Target<'_>) -> String {
    let suffix = match format {
        Format::OpenAi => "chat/completions",
        Format::Messages => "messages",
    };
    target.site.join("v1", suffix)
}
