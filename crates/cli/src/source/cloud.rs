//! Clouds in the environment: providers for whom there is no key, but what the cloud's own tools would use.
//!
//! Each is brought in by variables that name a place and an identity, as the clouds' SDKs read them; one of
//! them alone is set on many machines for other reasons.

use llm::provider::{AiStudio, Azure, Bedrock, Preset, Provider, Trigger, Vertex};

use super::{base::Base, generate};

/// A cloud whose variables are set.
pub(super) struct Cloud {
    pub(super) provider: &'static dyn Provider,
    pub(super) preset: &'static Preset,
    pub(super) base: Base,
    /// What its policy says, and the Secret that it refers to.
    pub(super) policy: String,
}

/// Returns the clouds whose variables are `set`.
pub(super) fn find(set: &impl Fn(&str) -> Option<String>) -> Vec<Cloud> {
    [azure(set), vertex(set), bedrock(set)]
        .into_iter()
        .flatten()
        .collect()
}

fn bedrock(set: &impl Fn(&str) -> Option<String>) -> Option<Cloud> {
    let variable = REGIONS.iter().find(|variable| set(variable).is_some())?;
    let region = set(variable)?;
    let named = AWS_IDENTITIES.iter().any(|variable| set(variable).is_some());
    let policy = if set(BEDROCK_KEY).is_some() {
        generate::credential(Bedrock.id(), BEDROCK_KEY, "APIKey", "apiKey")
    } else if named {
        let says = format!("  type: AWSCredentials\n  awsCredentials:\n    region: \"${{{variable}}}\"\n");
        generate::policy(Bedrock.id(), &says)
    } else {
        return None;
    };
    Some(Cloud {
        provider: &Bedrock,
        preset: &BEDROCK,
        base: host(format!("bedrock-runtime.{}.amazonaws.com", region.trim())),
        policy,
    })
}

fn vertex(set: &impl Fn(&str) -> Option<String>) -> Option<Cloud> {
    set(PROJECT)?;
    let region = set(LOCATION)?;
    let says = format!(
        "  type: GCPCredentials\n  gcpCredentials:\n    projectName: \"${{{PROJECT}}}\"\n    region: \"${{{LOCATION}}}\"\n"
    );
    let name = match region.trim() {
        "global" => "aiplatform.googleapis.com".to_owned(),
        region => format!("{region}-aiplatform.googleapis.com"),
    };
    Some(Cloud {
        provider: &Vertex,
        preset: &VERTEX,
        base: host(name),
        policy: generate::policy(Vertex.id(), &says),
    })
}

/// Returns Azure OpenAI with tokens of Entra, where there is no key.
fn azure(set: &impl Fn(&str) -> Option<String>) -> Option<Cloud> {
    if set("AZURE_OPENAI_API_KEY").is_some() {
        return None;
    }
    let base = Base::parse(set(AZURE.base)?.trim()).ok()?;
    ["OPENAI_API_VERSION", "AZURE_TENANT_ID", "AZURE_CLIENT_ID"]
        .iter()
        .all(|variable| set(variable).is_some())
        .then_some(())?;
    let mut says = String::from(
        "  type: AzureCredentials\n  azureCredentials:\n    tenantID: \"${AZURE_TENANT_ID}\"\n    clientID: \
         \"${AZURE_CLIENT_ID}\"\n",
    );
    if set("AZURE_AUTHORITY_HOST").is_some() {
        says.push_str("    authority: \"${AZURE_AUTHORITY_HOST}\"\n");
    }
    let id = Azure.id();
    let policy = if set("AZURE_CLIENT_SECRET").is_some() {
        says.push_str(&format!("    clientSecretRef:\n      name: {id}-client\n"));
        generate::policy(id, &says)
            + &generate::secret(&format!("{id}-client"), "client-secret", "AZURE_CLIENT_SECRET")
    } else if set("AZURE_FEDERATED_TOKEN_FILE").is_some() {
        says.push_str("    oidcExchangeToken:\n      tokenFile: \"${AZURE_FEDERATED_TOKEN_FILE}\"\n");
        generate::policy(id, &says)
    } else {
        return None;
    };
    Some(Cloud {
        provider: &Azure,
        preset: &AZURE,
        base,
        policy,
    })
}

fn host(name: String) -> Base {
    Base {
        host: name,
        ip: false,
        port: 443,
        tls: true,
        prefix: None,
    }
}

const REGIONS: &[&str] = &["AWS_REGION", "AWS_DEFAULT_REGION"];

/// Variables that say whose calls are made; the chain of AWS's SDKs reads them.
const AWS_IDENTITIES: &[&str] = &[
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
];

const BEDROCK_KEY: &str = "AWS_BEARER_TOKEN_BEDROCK";
const PROJECT: &str = "GOOGLE_CLOUD_PROJECT";
const LOCATION: &str = "GOOGLE_CLOUD_LOCATION";

const BEDROCK: Preset = Preset {
    key: "AWS_REGION",
    base: "",
    url: "",
    trigger: Trigger::Key,
    version: None,
    headers: &[],
    models: &[],
    family: "(arn:aws.*|((us|us-gov|eu|apac|jp|au|global)[.])?(ai21|amazon|anthropic|cohere|deepseek|meta|mistral|openai|qwen)[.].*)",
};

const VERTEX: Preset = Preset {
    key: PROJECT,
    family: AiStudio::FAMILY,
    ..BEDROCK
};

const AZURE: Preset = Preset {
    key: "AZURE_OPENAI_ENDPOINT",
    base: "AZURE_OPENAI_ENDPOINT",
    version: Some("OPENAI_API_VERSION"),
    family: "",
    ..BEDROCK
};
