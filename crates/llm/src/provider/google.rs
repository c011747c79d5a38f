//! Google's Gemini models, at AI Studio and at Vertex AI.
//!
//! The model stands in the path alone. Streams are asked for as server-sent events, whatever the client reads.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Ask, CredentialKind, Dialect, Provider, Target};
use crate::{Format, Operation};

/// AI Studio at `generativelanguage.googleapis.com`.
#[derive(Debug)]
pub struct AiStudio;

/// Gemini at Vertex AI. The site's prefix is `v1/projects/{project}/locations/{region}`; without one the call
/// is made without a project, as keys of Vertex AI's express mode have it.
#[derive(Debug)]
pub struct Vertex;

impl Provider for AiStudio {
    fn name(&self) -> &'static str {
        "gcp.gemini"
    }

    fn formats(&self, operation: Operation, _model: &str) -> &'static [Format] {
        formats(operation)
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

    fn dialect(&self) -> Dialect {
        DIALECT
    }
}

impl Provider for Vertex {
    fn name(&self) -> &'static str {
        "gcp.vertex_ai"
    }

    fn formats(&self, operation: Operation, _model: &str) -> &'static [Format] {
        formats(operation)
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

    fn dialect(&self) -> Dialect {
        DIALECT
    }
}

/// Of the habits, none is this format's.
const DIALECT: Dialect = Dialect {
    top_k: true,
    thinking: true,
    cache_control: false,
    media_urls: true,
};

/// What stays as it is in a model's name; the compatibility specification, "Upstream path".
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');

fn formats(operation: Operation) -> &'static [Format] {
    match operation {
        Operation::Chat => &[Format::Gemini],
        Operation::Models => &[],
    }
}

/// Returns the model and what it is asked for: the last segment of the path, and the query.
fn method(ask: Ask, target: &Target<'_>) -> String {
    let model = target.model.strip_prefix("models/").unwrap_or(target.model);
    let model = utf8_percent_encode(model, PLAIN);
    if ask.stream {
        format!("{model}:streamGenerateContent?alt=sse")
    } else {
        format!("{model}:generateContent")
    }
}
