//! Anthropic itself, and servers that speak its Messages format.

use super::{Ask, CredentialKind, Preset, Provider, Target, openai, serve};
use crate::{Document, Format, Operation, document::Served};

/// Anthropic at `api.anthropic.com`.
#[derive(Debug)]
pub struct Anthropic;

impl Provider for Anthropic {
    fn id(&self) -> &'static str {
        "anthropic"
    }

    fn name(&self) -> &'static str {
        "anthropic"
    }

    fn formats(&self, operation: Operation, _model: &str) -> &'static [Format] {
        match operation {
            Operation::Chat => &[Format::Messages],
            Operation::Document(_)
            | Operation::Upload(_)
            | Operation::Models
            | Operation::Model
            | Operation::Kept => &[],
        }
    }

    fn document(&self, document: Document, target: &Target<'_>) -> Option<Served> {
        serve::anthropic(document, target)
    }

    fn path(&self, ask: Ask, target: &Target<'_>) -> String {
        openai::chat_path(ask, target, "v1")
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

    fn preset(&self) -> Option<&Preset> {
        Some(&PRESET)
    }
}

/// Anthropic refuses calls that name no version (API reference, "Versions").
const HEADERS: &[(&str, &str)] = &[("anthropic-version", "2023-06-01")];

/// Models: the provider's page "Models overview", aliases.
const PRESET: Preset = Preset {
    key: "ANTHROPIC_API_KEY",
    base: "ANTHROPIC_BASE_URL",
    url: "https://api.anthropic.com/v1",
    models: &[
        "claude-haiku-4-5",
        "claude-sonnet-4-6",
        "claude-opus-4-6",
        "claude-sonnet-4-5",
        "claude-opus-4-5",
    ],
    family: "claude-.*",
    ..Preset::NONE
};
