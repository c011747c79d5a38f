//! Configuration out of the environment: the providers whose variables are set, as the resources that say the
//! same.
//!
//! What is generated is text, and goes through the same parser as a file; so it can be printed, kept and
//! extended. Keys stand in it as the variables that hold them. Who is known, and by which variables, is said
//! in the rows of the providers.

use std::collections::HashSet;

use config::{kind::ai_service_backend::ApiName, resolve::schema_of};
use llm::{
    Operation,
    provider::{self, CredentialKind, PROVIDERS, Preset, Provider, Trigger},
};
use thiserror::Error;

use super::{
    base::Base,
    cloud,
    generate::{self, Service},
};

/// Why the environment cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum EnvironmentError {
    /// A base URL is not one.
    #[error("{variable}: invalid base URL: {reason}")]
    BaseUrl {
        /// The variable.
        variable: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The only provider of which there is a key lacks something else.
    #[error("{key} is set, but {missing} is not: both are needed")]
    Incomplete {
        /// The variable that holds the key.
        key: &'static str,
        /// The variable that is missing.
        missing: &'static str,
    },
}

/// What was found in the environment.
#[derive(Debug)]
pub(crate) struct Found {
    /// Never empty; in the order of the table of providers.
    providers: Vec<Known>,
    /// What the user should know.
    pub(crate) notes: Vec<String>,
}

/// A provider whose variables are set.
#[derive(Debug)]
struct Known {
    provider: &'static dyn Provider,
    preset: &'static Preset,
    schema: ApiName,
    base: Base,
    /// What says which credential it is called with, if any.
    policy: Option<String>,
    /// Headers whose variables are set, and these.
    headers: Vec<(&'static str, &'static str)>,
}

/// Looks for the variables of providers. `variable` returns the value of one that is set.
///
/// # Errors
/// If what is set cannot be used.
pub(crate) fn find(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Found>, EnvironmentError> {
    let set = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
    let mut found = Found {
        providers: Vec::new(),
        notes: Vec::new(),
    };
    let mut incomplete = None;
    for provider in PROVIDERS {
        match known(*provider, &set) {
            Ok(known) => found.providers.extend(known),
            Err(error @ EnvironmentError::BaseUrl { .. }) => return Err(error),
            Err(error @ EnvironmentError::Incomplete { .. }) => {
                found
                    .notes
                    .push(format!("{}: {error}; it is left out", provider.id()));
                incomplete.get_or_insert(error);
            }
        }
    }
    // Last, so that a cloud takes the models that nobody claims only where there is nobody else.
    for cloud in cloud::find(&set) {
        found
            .providers
            .extend(schema_of(cloud.provider).map(|schema| Known {
                provider: cloud.provider,
                preset: cloud.preset,
                schema,
                base: cloud.base,
                policy: Some(cloud.policy),
                headers: Vec::new(),
            }));
    }
    found.prefer("azure-openai", "openai");
    match incomplete {
        Some(error) if found.providers.is_empty() => Err(error),
        _ if found.providers.is_empty() => Ok(None),
        _ => {
            found.remark();
            Ok(Some(found))
        }
    }
}

fn known(
    provider: &'static dyn Provider,
    set: &impl Fn(&str) -> Option<String>,
) -> Result<Option<Known>, EnvironmentError> {
    let Some((preset, schema)) = provider.preset().zip(schema_of(provider)) else {
        return Ok(None);
    };
    let (key, url) = (set(preset.key), set(preset.base));
    let wanted = match preset.trigger {
        Trigger::Key | Trigger::Both => key.is_some(),
        Trigger::Base => url.is_some(),
    };
    if !wanted {
        return Ok(None);
    }
    let incomplete = |missing| EnvironmentError::Incomplete {
        key: preset.key,
        missing,
    };
    if preset.trigger == Trigger::Both && url.is_none() {
        return Err(incomplete(preset.base));
    }
    if let Some(version) = preset.version.filter(|version| set(version).is_none()) {
        return Err(incomplete(version));
    }
    let base = Base::parse(url.as_deref().unwrap_or(preset.url).trim()).map_err(|reason| {
        EnvironmentError::BaseUrl {
            variable: preset.base,
            reason,
        }
    })?;
    let headers = preset.headers.iter().copied();
    Ok(Some(Known {
        provider,
        preset,
        schema,
        base,
        policy: key.map(|_| keyed(provider, preset)),
        headers: headers.filter(|(_, variable)| set(variable).is_some()).collect(),
    }))
}

/// Returns the policy that sends the key of `provider`, and the key as the variable that holds it.
fn keyed(provider: &dyn Provider, preset: &Preset) -> String {
    let (policy, member) = match provider.credential() {
        CredentialKind::Bearer | CredentialKind::XGoogApiKey => ("APIKey", "apiKey"),
        CredentialKind::XApiKey => ("AnthropicAPIKey", "anthropicAPIKey"),
        CredentialKind::ApiKey => ("AzureAPIKey", "azureAPIKey"),
    };
    generate::credential(provider.id(), preset.key, policy, member)
}

impl Found {
    /// Returns the variables by which the providers were found.
    pub(crate) fn variables(&self) -> Vec<&'static str> {
        let variables = self.providers.iter().map(|known| match known.preset.trigger {
            Trigger::Key | Trigger::Both => known.preset.key,
            Trigger::Base => known.preset.base,
        });
        variables.collect()
    }

    /// Returns, for a person, where the models go that are not listed.
    pub(crate) fn others(&self) -> String {
        let claims = self.families();
        let owners: Vec<_> = claims.iter().map(|(known, _)| known.provider.id()).collect();
        let rest = self.rest().map_or("nobody", |known| known.provider.id());
        if owners.is_empty() {
            format!("any other from {rest}")
        } else {
            format!(
                "names like theirs from {}, all others from {rest}",
                owners.join(", ")
            )
        }
    }

    /// Returns a model that is sure to answer; `None` where no provider is a public one.
    pub(crate) fn sample(&self) -> Option<&'static str> {
        let mut public = self.providers.iter().filter(|known| known.is_public());
        public.find_map(|known| known.preset.models.first().copied())
    }

    /// Returns the resources as YAML.
    pub(crate) fn to_yaml(&self) -> String {
        let mut rules: Vec<String> = Vec::new();
        for (known, models) in self.models() {
            rules.push(generate::rule("Exact", &models, known.provider.id()));
        }
        for (known, family) in self.families() {
            rules.push(generate::rule(
                "RegularExpression",
                &[family],
                known.provider.id(),
            ));
        }
        if let Some(rest) = self.rest() {
            rules.push(generate::rule("RegularExpression", &[".*"], rest.provider.id()));
        }
        let mut yaml = generate::frame(&format!("from {}", self.variables().join(" and ")), &rules);
        for known in &self.providers {
            yaml.push_str(&known.to_yaml());
        }
        yaml
    }

    /// Leaves out `other` where `preferred` is found too: they go by the same names of models.
    fn prefer(&mut self, preferred: &str, other: &str) {
        let at = |id: &str| self.providers.iter().position(|known| known.provider.id() == id);
        if let (Some(_), Some(index)) = (at(preferred), at(other)) {
            let known = self.providers.remove(index);
            let key = known.preset.key;
            self.notes
                .push(format!("{key} is set too, but {preferred} goes before {other}"));
        }
    }

    /// Notes who is found and gets no model.
    fn remark(&mut self) {
        let claims = self.models().into_iter().map(|(known, _)| known);
        let claims = claims.chain(self.families().into_iter().map(|(known, _)| known));
        let served: HashSet<_> = claims
            .chain(self.rest())
            .map(|known| known.provider.id())
            .collect();
        let ids = self.providers.iter().map(|known| known.provider.id());
        let idle: Vec<_> = ids.filter(|id| !served.contains(id)).collect();
        for id in idle {
            self.notes.push(format!(
                "no model goes to {id}, because others take every name; write a file to route by another rule"
            ));
        }
    }

    /// Returns who takes the models that nobody claims: a server of one's own, or else the first.
    fn rest(&self) -> Option<&Known> {
        let own = |known: &&Known| known.preset.trigger == Trigger::Base;
        self.providers.iter().find(own).or_else(|| self.providers.first())
    }

    /// Returns the models that public APIs are known to have, each at the first provider that has it.
    fn models(&self) -> Vec<(&Known, Vec<&'static str>)> {
        let mut claimed = HashSet::new();
        let public = self.providers.iter().filter(|known| known.is_public());
        let shares = public.map(|known| {
            let models = known.preset.models.iter().copied();
            (known, models.filter(|model| claimed.insert(*model)).collect())
        });
        shares
            .filter(|(_, models): &(_, Vec<_>)| !models.is_empty())
            .collect()
    }

    /// Returns the patterns of names that belong to a provider, each at the first that has it.
    fn families(&self) -> Vec<(&Known, &'static str)> {
        let rest = self.rest().map(|known| known.provider.id());
        let mut claimed = HashSet::new();
        let others = self
            .providers
            .iter()
            .filter(|known| Some(known.provider.id()) != rest && !known.preset.family.is_empty());
        others
            .map(|known| (known, known.preset.family))
            .filter(|(_, family)| claimed.insert(*family))
            .collect()
    }
}

impl Known {
    /// Returns whether calls go to the provider's public API.
    fn is_public(&self) -> bool {
        Base::parse(self.preset.url).is_ok_and(|public| public == self.base)
    }

    fn to_yaml(&self) -> String {
        let id = self.provider.id();
        let own = Base::parse(self.preset.url).ok().and_then(|base| base.prefix);
        let prefixed = self.preset.version.is_none() && self.base.prefix != own;
        let schema = format!("{:?}", self.schema);
        let mut yaml = generate::backend(&Service {
            name: id,
            schema: &schema,
            endpoint: id,
            prefix: self.base.prefix.as_deref().filter(|_| prefixed),
            version: self.preset.version,
            provider: Some(id).filter(|_| !self.is_found_by_host()),
            headers: &self.headers,
        });
        yaml.push_str(&generate::endpoint(&self.base, id));
        yaml.extend(self.policy.as_deref());
        yaml
    }

    /// Returns whether schema and host say who this is. OpenAI's variables serve any server of its format, so
    /// that its host alone decides.
    fn is_found_by_host(&self) -> bool {
        let formats = self.provider.formats(Operation::Chat, "");
        let by_host = formats
            .first()
            .is_some_and(|format| provider::find(*format, &self.base.host).id() == self.provider.id());
        by_host || self.schema == ApiName::AzureOpenAI || self.provider.id() == "openai"
    }
}

/// Returns the resources of the simulated provider, which listens on the loopback interface at `port`.
pub(crate) fn simulated(port: u16, openai: &[&str], anthropic: &[&str]) -> String {
    let rules = [
        generate::rule("Exact", openai, "simulated-openai"),
        generate::rule("Exact", anthropic, "simulated-anthropic"),
    ];
    let service = |name, schema| Service {
        name,
        schema,
        endpoint: "simulated",
        ..Service::default()
    };
    let base = Base {
        host: "127.0.0.1".to_owned(),
        ip: true,
        port,
        tls: false,
        prefix: None,
    };
    generate::frame(
        "for the simulated provider, which `tollgate run` brings with it on a port that the system chooses",
        &rules,
    ) + &generate::backend(&service("simulated-openai", "OpenAI"))
        + &generate::backend(&service("simulated-anthropic", "Anthropic"))
        + &generate::endpoint(&base, "simulated")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(variables: &[(&str, &str)]) -> Result<Option<Found>, EnvironmentError> {
        find(|name| {
            let value = variables.iter().find(|(key, _)| *key == name);
            value.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn all_that_is_set_is_used() {
        let check = |variables: &[(&str, &str)], expected: Option<(&[&str], &str)>| {
            let found = found(variables).unwrap();
            let found = found.map(|found| (found.variables(), found.others()));
            let expected = expected.map(|(keys, models)| (keys.to_vec(), models.to_owned()));
            assert_eq!(found, expected, "{variables:?}");
        };
        check(&[], None);
        check(&[("OPENAI_API_KEY", " ")], None);
        check(&[("OPENAI_BASE_URL", "http://localhost/")], None);
        check(&[("OLLAMA_API_KEY", "k")], None);
        check(
            &[("OPENAI_API_KEY", "k")],
            Some((&["OPENAI_API_KEY"], "any other from openai")),
        );
        check(
            &[("ANTHROPIC_API_KEY", "k"), ("OPENAI_API_KEY", "k")],
            Some((
                &["OPENAI_API_KEY", "ANTHROPIC_API_KEY"],
                "names like theirs from anthropic, all others from openai",
            )),
        );
        check(
            &[
                ("OPENROUTER_API_KEY", "k"),
                ("TOGETHER_API_KEY", "k"),
                ("MISTRAL_API_KEY", "k"),
                ("OLLAMA_BASE_URL", "http://localhost:11434"),
            ],
            Some((
                &[
                    "MISTRAL_API_KEY",
                    "TOGETHER_API_KEY",
                    "OPENROUTER_API_KEY",
                    "OLLAMA_BASE_URL",
                ],
                "names like theirs from mistral, together, all others from ollama",
            )),
        );
    }

    #[test]
    fn azure_needs_three_variables_and_goes_before_openai() {
        let azure = [
            ("AZURE_OPENAI_API_KEY", "k"),
            ("AZURE_OPENAI_ENDPOINT", "https://mine.openai.azure.com/"),
            ("OPENAI_API_VERSION", "2025-01-01-preview"),
        ];
        let missing = |count: usize| found(azure.get(..count).unwrap()).unwrap_err();
        let incomplete = |missing| EnvironmentError::Incomplete {
            key: "AZURE_OPENAI_API_KEY",
            missing,
        };
        assert_eq!(missing(1), incomplete("AZURE_OPENAI_ENDPOINT"));
        assert_eq!(missing(2), incomplete("OPENAI_API_VERSION"));
        let whole = found(&azure).unwrap().unwrap();
        assert_eq!(
            (whole.variables(), whole.notes.len()),
            (vec!["AZURE_OPENAI_API_KEY"], 0)
        );
        let mut both = azure.to_vec();
        both.push(("OPENAI_API_KEY", "k"));
        let both = found(&both).unwrap().unwrap();
        assert_eq!(
            (both.variables(), both.notes.len()),
            (vec!["AZURE_OPENAI_API_KEY"], 1)
        );
        let beside = found(&[("AZURE_OPENAI_API_KEY", "k"), ("OPENAI_API_KEY", "k")]);
        let beside = beside.unwrap().unwrap();
        assert_eq!(
            (beside.variables(), beside.notes.len()),
            (vec!["OPENAI_API_KEY"], 1)
        );
    }

    #[test]
    fn who_gets_no_model_is_noted() {
        let found = found(&[
            ("VLLM_BASE_URL", "http://localhost:8000/v1"),
            ("LM_STUDIO_BASE_URL", "http://localhost:1234/v1"),
        ]);
        let notes = found.unwrap().unwrap().notes;
        assert!(
            notes.len() == 1 && notes.concat().contains("lm-studio"),
            "{notes:?}"
        );
    }

    #[test]
    fn keys_are_not_copied_into_the_configuration() {
        let found = find(|name| name.ends_with("_API_KEY").then(|| "very-secret".to_owned()));
        let yaml = found.unwrap().unwrap().to_yaml();
        assert!(
            yaml.contains("\"${OPENAI_API_KEY}\"") && !yaml.contains("very-secret"),
            "{yaml}"
        );
    }
}
