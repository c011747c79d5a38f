//! Azure OpenAI: OpenAI's formats, at paths that name a deployment and a version.
//!
//! Resources of the newer kind serve the same under `/openai/v1` as OpenAI does; they are a row of
//! `compatible`.

use super::{
    Ask, CredentialKind, Dialect, Member, Preset, Provider, Site, Target, Trigger, openai, segment, serve,
};
use crate::{Document, Format, Operation, document::Served};

/// Azure OpenAI at a customer's own host.
#[derive(Debug)]
pub struct Azure;

impl Azure {
    /// The version of the API where none is configured: the first that serves both formats.
    pub const VERSION: &'static str = "2025-04-01-preview";
}

impl Provider for Azure {
    fn id(&self) -> &'static str {
        "azure-openai"
    }

    fn name(&self) -> &'static str {
        "azure.openai"
    }

    fn formats(&self, operation: Operation, model: &str) -> &'static [Format] {
        openai::OpenAi.formats(operation, model)
    }

    fn document(&self, document: Document, target: &Target<'_>) -> Option<Served> {
        serve::azure(document, target, version(target.site))
    }

    fn path(&self, ask: Ask, target: &Target<'_>) -> String {
        let version = version(target.site);
        let action = match (ask.operation, ask.format) {
            (Operation::Upload(upload), _) => upload.path(),
            (_, Format::Responses) => return format!("/openai/responses?api-version={version}"),
            (_, Format::OpenAi | Format::Messages | Format::Gemini | Format::Converse | Format::Cohere) => {
                "chat/completions"
            }
        };
        format!(
            "/openai/deployments/{}/{action}?api-version={version}",
            segment(target.model)
        )
    }

    fn host(&self) -> Option<&'static str> {
        None
    }

    fn credential(&self) -> CredentialKind {
        CredentialKind::ApiKey
    }

    /// Source: Azure OpenAI, "API version lifecycle": both members came with 2024-09-01-preview.
    fn dialect(&self, site: &Site) -> Dialect {
        // Versions are dates, so that their order is that of their text.
        if version(site) < "2024-09-01" {
            Dialect {
                renames: &[("max_completion_tokens", "max_tokens")],
                refuses: &[Member::StreamOptions],
                ..Dialect::PLAIN
            }
        } else {
            Dialect::PLAIN
        }
    }

    fn preset(&self) -> Option<&Preset> {
        Some(&PRESET)
    }
}

fn version(site: &Site) -> &str {
    site.version.as_deref().unwrap_or(Azure::VERSION)
}

/// Deployments have names of their customers' own, so that no model is known.
const PRESET: Preset = Preset {
    key: "AZURE_OPENAI_API_KEY",
    base: "AZURE_OPENAI_ENDPOINT",
    trigger: Trigger::Both,
    version: Some("OPENAI_API_VERSION"),
    headers: openai::HEADERS,
    ..Preset::NONE
};
