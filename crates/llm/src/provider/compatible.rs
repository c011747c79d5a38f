//! Servers that speak OpenAI's format and are not OpenAI: vLLM, Ollama, routers and most providers.
//!
//! Of one that is not known by name nothing is assumed beyond the public format: many refuse what they do not
//! know.

use super::{Ask, CredentialKind, Dialect, Provider, Target, openai};
use crate::{Format, Operation};

/// Any server of OpenAI's format.
#[derive(Debug)]
pub struct Compatible;

impl Provider for Compatible {
    fn name(&self) -> &'static str {
        "openai"
    }

    fn formats(&self, operation: Operation, model: &str) -> &'static [Format] {
        openai::OpenAi.formats(operation, model)
    }

    fn path(&self, ask: Ask, target: &Target<'_>) -> String {
        openai::chat_path(ask, target)
    }

    fn host(&self) -> Option<&'static str> {
        None
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
