//! OpenAI itself.

use super::{Ask, CredentialKind, Preset, Provider, Target, serve};
use crate::{Document, Format, Operation, document::Served};

/// OpenAI at `api.openai.com`.
#[derive(Debug)]
pub struct OpenAi;

impl Provider for OpenAi {
    fn id(&self) -> &'static str {
        "openai"
    }

    fn name(&self) -> &'static str {
        "openai"
    }

    fn formats(&self, operation: Operation, _model: &str) -> &'static [Format] {
        match operation {
            Operation::Chat => &[Format::OpenAi, Format::Responses],
            Operation::Upload(_) => &[Format::OpenAi],
            Operation::Document(_) | Operation::Models | Operation::Model | Operation::Kept => &[],
        }
    }

    fn document(&self, document: Document, target: &Target<'_>) -> Option<Served> {
        serve::openai(document, target)
    }

    fn path(&self, ask: Ask, target: &Target<'_>) -> String {
        chat_path(ask, target, "v1")
    }

    fn host(&self) -> Option<&'static str> {
        Some("api.openai.com")
    }

    fn credential(&self) -> CredentialKind {
        CredentialKind::Bearer
    }

    fn preset(&self) -> Option<&Preset> {
        Some(&PRESET)
    }
}

/// Returns the path at which servers of OpenAI's and Anthropic's kind answer, under the site's prefix or else
/// `prefix`.
pub(super) fn chat_path(ask: Ask, target: &Target<'_>, prefix: &str) -> String {
    if let Operation::Upload(upload) = ask.operation {
        return target.site.join(prefix, upload.path());
    }
    let suffix = match ask.format {
        Format::Messages => "messages",
        Format::Responses => "responses",
        Format::OpenAi | Format::Gemini | Format::Converse | Format::Cohere => "chat/completions",
    };
    target.site.join(prefix, suffix)
}

/// Headers by which accounts are told apart (API reference, "Authentication").
pub(super) const HEADERS: &[(&str, &str)] = &[
    ("OpenAI-Organization", "OPENAI_ORG_ID"),
    ("OpenAI-Project", "OPENAI_PROJECT_ID"),
];

/// Models: the provider's page "Models".
const PRESET: Preset = Preset {
    key: "OPENAI_API_KEY",
    base: "OPENAI_BASE_URL",
    url: "https://api.openai.com/v1",
    headers: HEADERS,
    models: &[
        "gpt-5-mini",
        "gpt-5",
        "gpt-5-nano",
        "gpt-4.1",
        "gpt-4.1-mini",
        "gpt-4o",
        "gpt-4o-mini",
    ],
    family: "(gpt|chatgpt|codex|ft:gpt)-.*|o[1-9].*",
    ..Preset::NONE
};
