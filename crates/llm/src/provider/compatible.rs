//! Servers that speak OpenAI's format and are not OpenAI: vLLM, Ollama, routers and most providers.
//!
//! They take what their authors added to the format: `top_k`, and the `thinking` members that spread from
//! LiteLLM.

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
            top_k: true,
            thinking: true,
            cache_control: false,
            media_urls: true,
        }
    }
}
