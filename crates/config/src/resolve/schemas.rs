//! Who serves an AIServiceBackend: what its schema stands for, and what tells the rows of one schema apart.

use llm::{Format, Operation, Provider, provider};

use crate::kind::ai_service_backend::ApiName;

/// Names the row of a provider that a backend is called by, where the host does not tell.
pub const PROVIDER: &str = "tollgate.dev/provider";

/// Says which flags of `anthropic-beta` a backend takes, over what its platform is known to take.
pub(super) const FLAGS: &str = "tollgate.dev/anthropic-beta";

/// Says what models of a backend can, over what is known of them.
pub(super) const ABILITIES: &str = "tollgate.dev/capabilities";

/// Says what models of a backend cost in money, or those of all backends.
pub(super) const PRICES: &str = "tollgate.dev/prices";

/// What a schema stands for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Serving {
    /// Any provider of a format, told apart by host or annotation.
    Format(Format),
    /// One provider.
    Provider(&'static dyn Provider),
}

/// Returns what a schema stands for.
fn serving(name: ApiName) -> Serving {
    match name {
        ApiName::OpenAI => Serving::Format(Format::OpenAi),
        ApiName::Anthropic => Serving::Format(Format::Messages),
        ApiName::AzureOpenAI => Serving::Provider(&provider::Azure),
        ApiName::GCPVertexAI => Serving::Format(Format::Gemini),
        ApiName::GCPAnthropic => Serving::Provider(&provider::VertexClaude),
        ApiName::AWSBedrock => Serving::Provider(&provider::Bedrock),
        ApiName::AWSAnthropic => Serving::Provider(&provider::BedrockClaude),
        ApiName::Cohere => Serving::Provider(&provider::COHERE_V2),
    }
}

/// Returns the schema under which `provider` is declared.
pub fn schema_of(provider: &dyn Provider) -> Option<ApiName> {
    let provider = provider.base().unwrap_or(provider);
    let is_own = |name: &ApiName| match serving(*name) {
        Serving::Provider(own) => own.id() == provider.id(),
        Serving::Format(_) => false,
    };
    let is_spoken = |name: &ApiName| match serving(*name) {
        Serving::Format(format) => provider.formats(Operation::Chat, "").contains(&format),
        Serving::Provider(_) => false,
    };
    let names = ApiName::ALL.iter();
    names
        .clone()
        .find(|name| is_own(name))
        .or_else(|| names.clone().find(|name| is_spoken(name)))
        .copied()
}

/// Returns what schema `name` stands for at a backend; `declared` is its annotation.
pub(super) fn declared(name: ApiName, declared: Option<&str>) -> Result<Serving, String> {
    let serving = serving(name);
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
    Err(format!(
        "{wrong}; known for schema {name:?} are {}",
        known.join(", ")
    ))
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What metrics and spans call a provider is told by the schema of its backend (compatibility specification, "GenAI
    /// metrics", attributes).
    #[test]
    fn schemas_have_the_names_that_metrics_know() {
        let check = |name: ApiName, host: &str, expected: &str| {
            assert_eq!(serving(name).at(host).name(), expected, "{name:?}");
        };
        check(ApiName::OpenAI, "models.internal", "openai");
        check(ApiName::AzureOpenAI, "own.openai.azure.com", "azure.openai");
        check(ApiName::AWSBedrock, "models.internal", "aws.bedrock");
        check(ApiName::AWSAnthropic, "models.internal", "aws.anthropic");
        check(
            ApiName::GCPVertexAI,
            "europe-west4-aiplatform.googleapis.com",
            "gcp.vertex_ai",
        );
        check(
            ApiName::GCPAnthropic,
            "europe-west4-aiplatform.googleapis.com",
            "gcp.anthropic",
        );
        check(ApiName::Anthropic, "api.anthropic.com", "anthropic");
        check(ApiName::Cohere, "api.cohere.com", "cohere");
    }
}
