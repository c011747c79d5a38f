//! Providers: everything that is not the format. Which formats one serves, at which path, with which headers
//! and which kind of credential.
//!
//! A provider is one row in [`PROVIDERS`] and one file where it differs.

use std::fmt;

use bytes::Bytes;
use http::HeaderMap;

use crate::{Format, Losses, Operation, Reply, frame::Framing, json::Edit};

mod anthropic;
mod bedrock;
mod compatible;
mod google;
mod openai;
mod vertex;

pub use anthropic::Anthropic;
pub use bedrock::{Bedrock, BedrockClaude};
pub use compatible::Compatible;
pub use google::{AiStudio, Vertex};
pub use openai::OpenAi;
pub use vertex::VertexClaude;

/// Every provider, the specific ones before the general.
pub const PROVIDERS: &[&'static dyn Provider] = &[
    &OpenAi,
    &Anthropic,
    &AiStudio,
    &Vertex,
    &Bedrock,
    &BedrockClaude,
    &VertexClaude,
    &Compatible,
];

/// Who serves a format.
pub trait Provider: fmt::Debug + Send + Sync {
    /// Returns the value of `gen_ai.provider.name` in metrics and traces.
    fn name(&self) -> &'static str;

    /// Returns the formats in which the provider serves `operation` with `model`, the best first.
    fn formats(&self, operation: Operation, model: &str) -> &'static [Format];

    /// Returns path and query of a call, without host.
    fn path(&self, ask: Ask, target: &Target<'_>) -> String;

    /// Returns headers that every call in `format` must have; what the client sent is kept.
    fn headers(&self, _format: Format) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    /// Returns the edits that make a document of the format fit for this provider, such as a model that is
    /// named in the path alone. `headers` are the client's.
    fn edits(&self, _ask: Ask, _target: &Target<'_>, _headers: &HeaderMap) -> Vec<Edit> {
        Vec::new()
    }

    /// Returns how a streamed reply is cut into frames.
    fn framing(&self, _format: Format) -> Framing {
        Framing::Sse
    }

    /// Returns the host of the provider's public API; `None` where there is no such thing.
    fn host(&self) -> Option<&'static str>;

    /// Returns how a call is dressed with a key.
    fn credential(&self) -> CredentialKind;

    /// Returns the habits in which the provider's dialect differs from the format's norm.
    fn dialect(&self) -> Dialect;
}

/// What a provider is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The operation.
    pub operation: Operation,
    /// The format in which it is said.
    pub format: Format,
    /// Whether the reply is to be a stream.
    pub stream: bool,
}

/// How a call carries an API key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialKind {
    /// `Authorization: Bearer …`
    Bearer,
    /// `x-api-key: …`
    XApiKey,
    /// `x-goog-api-key: …`
    XGoogApiKey,
}

/// Habits in which servers of one format differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// Takes `top_k` in chat completions.
    pub top_k: bool,
    /// Takes the `thinking` object, `thinking_blocks` and thinking parts in chat completions.
    pub thinking: bool,
    /// Takes `cache_control` on parts of chat completions.
    pub cache_control: bool,
    /// Takes `audio_url` and `video_url` parts in chat completions.
    pub media_urls: bool,
}

/// Where a provider's API lies at an upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Site {
    /// First segments of the path, without slashes around: `v1`, `openai/v1`; empty for none. `None` takes
    /// the provider's own.
    pub prefix: Option<String>,
    /// The version of the API, where the provider has several: `2025-01-01-preview`, `vertex-2023-10-16`.
    pub version: Option<String>,
}

/// Whom a request is for.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Who serves it.
    pub provider: &'static dyn Provider,
    /// Where.
    pub site: &'a Site,
    /// The model, in the provider's words.
    pub model: &'a str,
    /// Seconds since the Unix epoch, for members that a format requires and an upstream leaves out.
    pub now: u64,
}

/// What one upstream is sent.
pub struct Call {
    /// The format it is in.
    pub format: Format,
    /// Path and query.
    pub path: String,
    /// Headers of the format and the provider; neither credentials nor the client's own.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// What this upstream will not hear.
    pub losses: Losses,
    /// What is to be done with the reply.
    pub reply: Reply,
}

/// Returns the provider that serves `format` at `host`: its own row, or the general one for the format.
pub fn find(format: Format, host: &str) -> &'static dyn Provider {
    let own = PROVIDERS.iter().copied().find(|provider| {
        provider.host().is_some_and(|own| own.eq_ignore_ascii_case(host))
            && provider.formats(Operation::Chat, "").contains(&format)
    });
    own.unwrap_or(match format {
        Format::Messages => &Anthropic,
        Format::Converse => &Bedrock,
        Format::OpenAi | Format::Responses | Format::Gemini => &Compatible,
    })
}

impl Site {
    /// Returns `/`, the prefix (or `default`) and `suffix`, joined with single slashes.
    pub fn join(&self, default: &str, suffix: &str) -> String {
        let prefix = self.prefix.as_deref().unwrap_or(default).trim_matches('/');
        let suffix = suffix.trim_start_matches('/');
        if prefix.is_empty() {
            format!("/{suffix}")
        } else {
            format!("/{prefix}/{suffix}")
        }
    }
}
