//! Anthropic itself, and servers that speak its Messages format.

use super::{Ask, CredentialKind, Dialect, Provider, Target, openai};
use crate::{Format, Operation};

/// Anthropic at `api.anthropic.com`.
#[derive(Debug)]
pub struct Anthropic;

impl Provider for Anthropic {
    fn name(&self) -> &'static str {
        "anthropic"
    }

    fn formats(&self, operation: Operation, _model: &str) -> &'static [Format] {
        match operation {
            Operation::Chat => &[Format::Messages],
            Operation::Models => &[],
        }
    }

    fn path(&self, ask: Ask, target: &Target<'_>) -> String {
        openai::chat_path(ask, target)
    }

    fn headers(&self, _format: Format) -> &'static [(&'static str, &'static str)] {
        HEADERS
    }

    fn host(&self) -> Option<&'static str> {
        Some("api.anthropic.com")
    }

    fn credential(&self) -> CredentialKind {
        CredentialKind::XApiKey
    }

    fn dialect(&self) -> Dialect {
        Dialect {
            top_k: true,
            thinking: true,
            cache_control: true,
            media_urls: false,
        }
    }
}

/// Anthropic refuses calls that name no version (API reference, "Versions").
const HEADERS: &[(&str, &str)] = &[("anthropic-version", "2023-06-01")];
