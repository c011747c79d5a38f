//! Configuration out of the environment: the provider keys that are set, as the resources that say the same.
//!
//! What is generated is text, and goes through the same parser as a file; so it can be printed, kept and
//! extended. Keys stand in it as the variables that hold them.

use thiserror::Error;

use super::{base::Base, generate};

/// A provider that is configured by a key in the environment.
#[derive(Debug)]
pub(crate) struct Known {
    /// The name of its resources.
    pub(crate) name: &'static str,
    /// The variable that holds the key.
    pub(crate) key: &'static str,
    /// A model that its public API is sure to have.
    pub(crate) model: &'static str,
    base_url: &'static str,
    default_url: &'static str,
    schema: &'static str,
    /// The models that are its own when another provider takes all the others.
    models: &'static str,
    policy: &'static str,
    member: &'static str,
    /// Headers that a variable sets, where it is set.
    headers: &'static [(&'static str, &'static str)],
}

/// The providers, in the order in which their keys are looked for; the first of those found takes the models that
/// nobody claims.
const KNOWN: &[Known] = &[
    Known {
        name: "openai",
        key: "OPENAI_API_KEY",
        model: "gpt-5-mini",
        base_url: "OPENAI_BASE_URL",
        default_url: "https://api.openai.com/v1",
        schema: "OpenAI",
        models: "(gpt|chatgpt|codex|ft:gpt)-.*|o[1-9].*",
        policy: "APIKey",
        member: "apiKey",
        headers: &[
            ("OpenAI-Organization", "OPENAI_ORG_ID"),
            ("OpenAI-Project", "OPENAI_PROJECT_ID"),
        ],
    },
    Known {
        name: "anthropic",
        key: "ANTHROPIC_API_KEY",
        model: "claude-haiku-4-5",
        base_url: "ANTHROPIC_BASE_URL",
        default_url: "https://api.anthropic.com/v1",
        schema: "Anthropic",
        models: "claude-.*",
        policy: "AnthropicAPIKey",
        member: "anthropicAPIKey",
        headers: &[],
    },
];

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
    /// Only a provider is configured that is not served.
    #[error(
        "AZURE_OPENAI_API_KEY is set, but Azure OpenAI is not supported yet; unset it, or set OPENAI_API_KEY and \
         OPENAI_BASE_URL=https://RESOURCE.openai.azure.com/openai/v1 for its OpenAI-compatible endpoint"
    )]
    Azure,
}

/// What was found in the environment.
#[derive(Debug)]
pub(crate) struct Found {
    /// The providers and where each is.
    providers: Vec<(&'static Known, Base)>,
    headers: Vec<(&'static str, &'static str, &'static str)>,
    /// What the user should know.
    pub(crate) notes: Vec<String>,
}

/// Looks for the keys of providers. `variable` returns the value of a variable that is set.
///
/// # Errors
/// If what is set cannot be used.
pub(crate) fn find(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Found>, EnvironmentError> {
    let set = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
    let mut found = Found {
        providers: Vec::new(),
        headers: Vec::new(),
        notes: Vec::new(),
    };
    for known in KNOWN.iter().filter(|known| set(known.key).is_some()) {
        let url = set(known.base_url);
        let base = Base::parse(url.as_deref().unwrap_or(known.default_url).trim()).map_err(|reason| {
            EnvironmentError::BaseUrl {
                variable: known.base_url,
                reason,
            }
        })?;
        found.providers.push((known, base));
        let headers = known
            .headers
            .iter()
            .filter(|(_, variable)| set(variable).is_some());
        found
            .headers
            .extend(headers.map(|(header, variable)| (known.name, *header, *variable)));
    }
    if set("AZURE_OPENAI_API_KEY").is_some() {
        if found.providers.is_empty() {
            return Err(EnvironmentError::Azure);
        }
        let note = "AZURE_OPENAI_API_KEY is set, but Azure OpenAI is not supported yet and is left out";
        found.notes.push(note.to_owned());
    }
    Ok((!found.providers.is_empty()).then_some(found))
}

impl Found {
    /// Returns the variables that hold the keys.
    pub(crate) fn keys(&self) -> Vec<&'static str> {
        self.providers.iter().map(|(known, _)| known.key).collect()
    }

    /// Returns, for a person, which models go where.
    pub(crate) fn models(&self) -> String {
        let shares: Vec<_> = self
            .shares()
            .map(|(known, pattern)| match pattern {
                ".*" if self.providers.len() == 1 => format!("any, from {}", known.name),
                ".*" => format!("all others from {}", known.name),
                pattern => format!("{} from {}", pattern.trim_end_matches(".*"), known.name),
            })
            .collect();
        shares.join(", ")
    }

    /// Returns a model that is sure to answer; `None` where the provider is not the public one.
    pub(crate) fn sample(&self) -> Option<&'static str> {
        let public = |(known, base): &&(&'static Known, Base)| {
            Base::parse(known.default_url).is_ok_and(|public| public == *base)
        };
        self.providers.iter().find(public).map(|(known, _)| known.model)
    }

    /// Returns each provider and the pattern of the models that it serves, the narrow ones first.
    fn shares(&self) -> impl Iterator<Item = (&'static Known, &'static str)> {
        let claimed = self
            .providers
            .iter()
            .skip(1)
            .map(|(known, _)| (*known, known.models));
        let rest = self.providers.iter().take(1).map(|(known, _)| (*known, ".*"));
        claimed.chain(rest)
    }

    /// Returns the resources as YAML.
    pub(crate) fn to_yaml(&self) -> String {
        let rules: String = self
            .shares()
            .map(|(known, pattern)| generate::rule("RegularExpression", &[pattern], known.name))
            .collect();
        let mut yaml = generate::frame(&format!("from {}", self.keys().join(" and ")), &rules);
        for (known, base) in &self.providers {
            let headers: Vec<_> = self
                .headers
                .iter()
                .filter(|(name, ..)| *name == known.name)
                .map(|(_, header, variable)| (*header, *variable))
                .collect();
            yaml.push_str(&generate::backend(
                known.name,
                known.schema,
                known.name,
                base.prefix.as_deref(),
                &headers,
            ));
            yaml.push_str(&generate::endpoint(base, known.name));
            yaml.push_str(&generate::credential(
                known.name,
                known.key,
                known.policy,
                known.member,
            ));
        }
        yaml
    }
}

/// Returns the resources of the simulated provider, which listens on the loopback interface at `port`.
pub(crate) fn simulated(port: u16, openai: &[&str], anthropic: &[&str]) -> String {
    let rules = generate::rule("Exact", openai, "simulated-openai")
        + &generate::rule("Exact", anthropic, "simulated-anthropic");
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
    ) + &generate::backend("simulated-openai", "OpenAI", "simulated", None, &[])
        + &generate::backend("simulated-anthropic", "Anthropic", "simulated", None, &[])
        + &generate::endpoint(&base, "simulated")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_keys_that_are_set_are_used() {
        let check = |variables: &[(&str, &str)], expected: Option<(&[&str], &str)>| {
            let found = find(|name| {
                let value = variables.iter().find(|(key, _)| *key == name);
                value.map(|(_, value)| value.to_string())
            });
            let found = found.unwrap().map(|found| (found.keys(), found.models()));
            let expected = expected.map(|(keys, models)| (keys.to_vec(), models.to_owned()));
            assert_eq!(found, expected, "{variables:?}");
        };
        check(&[], None);
        check(&[("OPENAI_API_KEY", " ")], None);
        check(&[("OPENAI_BASE_URL", "http://localhost/")], None);
        check(
            &[("OPENAI_API_KEY", "k")],
            Some((&["OPENAI_API_KEY"], "any, from openai")),
        );
        check(
            &[("ANTHROPIC_API_KEY", "k")],
            Some((&["ANTHROPIC_API_KEY"], "any, from anthropic")),
        );
        check(
            &[("ANTHROPIC_API_KEY", "k"), ("OPENAI_API_KEY", "k")],
            Some((
                &["OPENAI_API_KEY", "ANTHROPIC_API_KEY"],
                "claude- from anthropic, all others from openai",
            )),
        );
    }

    #[test]
    fn azure_alone_is_refused_and_beside_others_noted() {
        let only = find(|name| (name == "AZURE_OPENAI_API_KEY").then(|| "k".to_owned()));
        assert_eq!(only.unwrap_err(), EnvironmentError::Azure);
        let both = find(|name| name.ends_with("OPENAI_API_KEY").then(|| "k".to_owned()));
        assert_eq!(both.unwrap().unwrap().notes.len(), 1);
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
