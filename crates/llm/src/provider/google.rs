//! Google's Gemini models, at AI Studio and at Vertex AI.
//!
//! The model stands in the path alone. Streams are asked for as server-sent events, whatever the client reads.

use super::{Ask, CredentialKind, Preset, Provider, Target, segment, serve};
use crate::{Document, Format, Operation, document::Served};

/// AI Studio at `generativelanguage.googleapis.com`.
#[derive(Debug)]
pub struct AiStudio;

/// Gemini at Vertex AI. The site's prefix is `v1/projects/{project}/locations/{region}`; without one the call
/// is made without a project, as keys of Vertex AI's express mode have it.
#[derive(Debug)]
pub struct Vertex;

impl AiStudio {
    /// A regular expression of the names of Google's models.
    pub const FAMILY: &'static str = "(models/)?(gemini|gemma|learnlm)-.*";
}

impl Provider for AiStudio {
    fn id(&self) -> &'static str {
        "google-ai-studio"
    }

    fn name(&self) -> &'static str {
        "gcp.gemini"
    }

    fn formats(&self, operation: Operation, _model: &str) -> &'static [Format] {
        formats(operation)
    }

    fn document(&self, document: Document, target: &Target<'_>) -> Option<Served> {
        serve::gemini(document, target)
    }

    fn path(&self, ask: Ask, target: &Target<'_>) -> String {
        target
            .site
            .join("v1beta", &format!("models/{}", method(ask, target)))
    }

    fn host(&self) -> Option<&'static str> {
        Some("generativelanguage.googleapis.com")
    }

    fn credential(&self) -> CredentialKind {
        CredentialKind::XGoogApiKey
    }

    fn preset(&self) -> Option<&Preset> {
        Some(&PRESET)
    }
}

impl Provider for Vertex {
    fn id(&self) -> &'static str {
        "vertex"
    }

    fn name(&self) -> &'static str {
        "gcp.vertex_ai"
    }

    fn formats(&self, operation: Operation, _model: &str) -> &'static [Format] {
        formats(operation)
    }

    fn document(&self, document: Document, target: &Target<'_>) -> Option<Served> {
        serve::vertex(document, target, "v1")
    }

    fn path(&self, ask: Ask, target: &Target<'_>) -> String {
        let suffix = format!("publishers/google/models/{}", method(ask, target));
        target.site.join("v1", &suffix)
    }

    fn host(&self) -> Option<&'static str> {
        Some("aiplatform.googleapis.com")
    }

    fn credential(&self) -> CredentialKind {
        CredentialKind::Bearer
    }
}

/// Source: the Gemini API's pages "API keys" and "Models".
const PRESET: Preset = Preset {
    key: "GEMINI_API_KEY",
    base: "GEMINI_BASE_URL",
    url: "https://generativelanguage.googleapis.com/v1beta",
    models: &[
        "gemini-2.5-flash",
        "gemini-2.5-pro",
        "gemini-2.5-flash-lite",
        "gemini-3-flash-preview",
        "gemini-3-pro-preview",
    ],
    family: AiStudio::FAMILY,
    ..Preset::NONE
};

fn formats(operation: Operation) -> &'static [Format] {
    match operation {
        Operation::Chat => &[Format::Gemini],
        Operation::Document(_)
        | Operation::Upload(_)
        | Operation::Models
        | Operation::Model
        | Operation::Kept => &[],
    }
}

/// Returns the model and what it is asked for: the last segment of the path, and the query.
fn method(ask: Ask, target: &Target<'_>) -> String {
    let model = target.model.strip_prefix("models/").unwrap_or(target.model);
    let model = segment(model);
    if ask.stream {
        format!("{model}:streamGenerateContent?alt=sse")
    } else {
        format!("{model}:generateContent")
    }
}
