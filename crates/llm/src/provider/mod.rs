//! Providers: everything that is not the format. Which formats one serves, at which path, with which headers
//! and which kind of credential.
//!
//! A provider is one row in [`PROVIDERS`] and one file where it differs.

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::{Document, Format, Losses, Operation, Reply, document::Served, frame::Framing, json::Edit};

mod abilities;
mod anthropic;
mod azure;
mod bedrock;
pub(crate) mod beta;
mod compatible;
mod dialect;
mod flags;
mod google;
mod openai;
mod plain;
mod preset;
mod responding;
mod serve;
mod vertex;

#[cfg(test)]
mod tests;

pub use abilities::{Abilities, AbilitiesError};
pub use anthropic::Anthropic;
pub use azure::Azure;
pub use bedrock::{Bedrock, BedrockClaude};
pub use compatible::{
    COHERE, COHERE_V2, COMPATIBLE, Compatible, DEEPINFRA, DEEPSEEK, GROQ, HUNYUAN, LITELLM, LM_STUDIO,
    MISTRAL, OLLAMA, OPENROUTER, SAMBANOVA, TETRATE, TOGETHER, VLLM, XAI,
};
pub use dialect::{Dialect, Member, Replay, Thinking};
pub use flags::{Flags, FlagsError};
pub use google::{AiStudio, Vertex};
pub use openai::OpenAi;
pub use plain::Plain;
pub use preset::{Preset, Trigger};
pub use responding::{AZURE_RESPONSES, OPENAI_RESPONSES, Responding};
pub use vertex::VertexClaude;

/// Every provider: those that own the names of their models, then those that serve the models of others,
/// then servers of one's own, and last the general row.
///
/// Where keys are found in the environment the first of them takes the models that nobody claims.
pub const PROVIDERS: &[&'static dyn Provider] = &[
    &Azure,
    &OpenAi,
    &Anthropic,
    &AiStudio,
    &Vertex,
    &Bedrock,
    &BedrockClaude,
    &VertexClaude,
    &MISTRAL,
    &COHERE,
    &COHERE_V2,
    &DEEPSEEK,
    &XAI,
    &HUNYUAN,
    &GROQ,
    &SAMBANOVA,
    &TOGETHER,
    &DEEPINFRA,
    &OPENROUTER,
    &TETRATE,
    &LITELLM,
    &VLLM,
    &OLLAMA,
    &LM_STUDIO,
    &OPENAI_RESPONSES,
    &AZURE_RESPONSES,
    &compatible::AZURE_V1,
    &COMPATIBLE,
];

/// Who serves a format.
pub trait Provider: fmt::Debug + Send + Sync {
    /// Returns the row's own name, by which configurations mean it.
    fn id(&self) -> &'static str;

    /// Returns the value of `gen_ai.provider.name` in metrics and traces, which rows of one schema share.
    fn name(&self) -> &'static str;

    /// Returns the row of which this one is another manner; it goes with the same schema.
    fn base(&self) -> Option<&'static dyn Provider> {
        None
    }

    /// Returns the formats in which the provider serves `operation` with `model`, the best first.
    fn formats(&self, operation: Operation, model: &str) -> &'static [Format];

    /// Returns how and where the provider serves `document`; `None` where it does not.
    fn document(&self, _document: Document, _target: &Target<'_>) -> Option<Served> {
        None
    }

    /// Returns path and query of a call, without host.
    fn path(&self, ask: Ask, target: &Target<'_>) -> String;

    /// Returns headers that every call in `format` must have; what the client sent is kept.
    fn headers(&self, _format: Format) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    /// Returns the edits that make a document of the format fit for this provider, such as a model that is
    /// named in the path alone.
    fn edits(&self, _ask: Ask, _target: &Target<'_>) -> Vec<Edit> {
        Vec::new()
    }

    /// Returns what the provider makes of flags of the header `anthropic-beta`; `None` where they are left to it.
    fn betas(&self) -> Option<&'static beta::Platform> {
        None
    }

    /// Returns whether the provider searches the web for models that ask it to, in its format's own words.
    fn searches(&self) -> bool {
        true
    }

    /// Returns how a streamed reply is cut into frames.
    fn framing(&self, _format: Format) -> Framing {
        Framing::Sse
    }

    /// Returns the host of the provider's public API; `None` where there is no such thing.
    fn host(&self) -> Option<&'static str>;

    /// Returns whether the provider is known to serve at `host`.
    fn serves_at(&self, host: &str) -> bool {
        self.host().is_some_and(|own| own.eq_ignore_ascii_case(host))
    }

    /// Returns how a call is dressed with a key.
    fn credential(&self) -> CredentialKind;

    /// Returns the habits in which the provider's chat completions differ from OpenAI's.
    fn dialect(&self, _site: &Site) -> Dialect {
        Dialect::PLAIN
    }

    /// Returns how the provider is found in the environment; `None` where it takes a configuration.
    fn preset(&self) -> Option<&Preset> {
        None
    }
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
    /// `api-key: …`
    ApiKey,
    /// `x-goog-api-key: …`
    XGoogApiKey,
}

/// Where a provider's API lies at an upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Site {
    /// First segments of the path, without slashes around: `v1`, `openai/v1`; empty for none. `None` takes
    /// the provider's own.
    pub prefix: Option<String>,
    /// The version of the API, where the provider has several: `2025-01-01-preview`, `vertex-2023-10-16`.
    pub version: Option<String>,
    /// What is declared of flags of `anthropic-beta`.
    pub flags: Flags,
    /// What is declared of the models there.
    pub abilities: Abilities,
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
    /// What takes the place of the client's headers of these names: another value, or nothing.
    pub replaces: Vec<(HeaderName, Option<HeaderValue>)>,
    /// The body.
    pub body: Bytes,
    /// The bodies of further calls that differ in nothing else, where the upstream takes only a part of what is asked
    /// at once; the replies, in this order, are one answer.
    pub more: Vec<Bytes>,
    /// What this upstream will not hear.
    pub losses: Losses,
    /// What is to be done with the reply.
    pub reply: Reply,
}

/// Returns the provider that serves `format` at `host`: its own row, or the general one for the format.
pub fn find(format: Format, host: &str) -> &'static dyn Provider {
    let own = PROVIDERS
        .iter()
        .copied()
        .find(|provider| provider.serves_at(host) && provider.formats(Operation::Chat, "").contains(&format));
    own.unwrap_or(match format {
        Format::Messages => &Anthropic,
        Format::Converse => &Bedrock,
        Format::Gemini => &Vertex,
        Format::OpenAi | Format::Responses | Format::Cohere => &COMPATIBLE,
    })
}

/// Returns the provider whose row is called `id`.
pub fn by_id(id: &str) -> Option<&'static dyn Provider> {
    PROVIDERS.iter().copied().find(|provider| provider.id() == id)
}

/// Returns `model` as one segment of a path.
pub(crate) fn segment(model: &str) -> String {
    utf8_percent_encode(model, SEGMENT).to_string()
}

/// What is escaped in a segment: all but letters, digits and `-_.~$&+=:@`; the compatibility specification, "Upstream
/// path".
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
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

impl CredentialKind {
    /// Returns what documentation and dumps call it.
    pub fn name(self) -> &'static str {
        match self {
            CredentialKind::Bearer => "bearer",
            CredentialKind::XApiKey => "x-api-key",
            CredentialKind::ApiKey => "api-key",
            CredentialKind::XGoogApiKey => "x-goog-api-key",
        }
    }
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
