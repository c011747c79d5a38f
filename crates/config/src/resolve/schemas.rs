//! Who serves an AIServiceBackend: what its schema stands for, and what tells the rows of one schema apart.

use llm::{Format, Operation, Provider, provider};

use crate::kind::ai_service_backend::ApiName;

/// Names the row of a provider that a backend is called by, where the host does not tell.
pub const PROVIDER: &str = "tollgate.dev/provider";

/// What a schema stands for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Serving {
    /// Any provider of a format, told apart by host or annotation.
    Format(Format),
    /// One provider.
    Provider(&'static dyn Provider),
}

/// Returns what a schema stands for; `None` is not served by this version.
fn serving(name: ApiName) -> Option<Serving> {
    match name {
        ApiName::OpenAI => Some(Serving::Format(Format::OpenAi)),
        ApiName::Anthropic => Some(Serving::Format(Format::Messages)),
        ApiName::AzureOpenAI => Some(Serving::Provider(&provider::Azure)),
        ApiName::GCPVertexAI => Some(Serving::Format(Format::Gemini)),
        ApiName::GCPAnthropic => Some(Serving::Provider(&provider::VertexClaude)),
        ApiName::AWSBedrock => Some(Serving::Provider(&provider::Bedrock)),
        ApiName::AWSAnthropic => Some(Serving::Provider(&provider::BedrockClaude)),
        ApiName::Cohere => None,
    }
}

/// Returns the schema under which `provider` is declared.
pub fn schema_of(provider: &dyn Provider) -> Option<ApiName> {
    let is_own = |name: &ApiName| match serving(*name) {
        Some(Serving::Provider(own)) => own.id() == provider.id(),
        Some(Serving::Format(_)) | None => false,
    };
    let is_spoken = |name: &ApiName| match serving(*name) {
        Some(Serving::Format(format)) => provider.formats(Operation::Chat, "").contains(&format),
        Some(Serving::Provider(_)) | None => false,
    };
    let names = ApiName::ALL.iter();
    names
        .clone()
        .find(|name| is_own(name))
        .or_else(|| names.clone().find(|name| is_spoken(name)))
        .copied()
}

/// Why no provider can be named.
pub(super) enum Unknown {
    /// The schema is not served by this version.
    Schema,
    /// The annotation names nobody who goes with the schema.
    Provider(String),
}

/// Returns what schema `name` stands for at a backend; `declared` is its annotation.
pub(super) fn declared(name: ApiName, declared: Option<&str>) -> Result<Serving, Unknown> {
    let serving = serving(name).ok_or(Unknown::Schema)?;
    let Some(id) = declared else {
        return Ok(serving);
    };
    let goes = |provider: &dyn Provider| schema_of(provider) == Some(name);
    let wrong = match provider::by_id(id) {
        Some(provider) if goes(provider) => return Ok(Serving::Provider(provider)),
        Some(_) => format!("provider \"{id}\" does not go with schema {name:?}"),
        None => format!("there is no provider \"{id}\""),
    };
    let rows = provider::PROVIDERS.iter().filter(|provider| goes(**provider));
    let known: Vec<_> = rows.map(|provider| provider.id()).collect();
    Err(Unknown::Provider(format!(
        "{wrong}; known for schema {name:?} are {}",
        known.join(", ")
    )))
}

impl Serving {
    /// Returns who serves at `host`.
    pub(super) fn at(self, host: &str) -> &'static dyn Provider {
        match self {
            Serving::Format(format) => provider::find(format, host),
            Serving::Provider(provider) => provider,
        }
    }
}
