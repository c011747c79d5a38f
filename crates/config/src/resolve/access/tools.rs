//! Who may use an MCPRoute, and what of it: what the route itself says.

use std::sync::Arc;

use mcp::Method;
use policy::{
    Authenticate, Policies,
    authorize::Token,
    tools::{Expression, Named, Pattern, Rule, Rules, Selector, Targets},
};
use regex::Regex;

use super::{
    super::{Notes, Reach},
    Access,
    authorization::{action, claim},
    builder::Builder,
    login::PROVIDER,
};
use crate::{
    Key,
    kind::{
        AI, MCPRoute,
        mcp_security::{self, Authorization, BackendSelector, JwtSource, Target},
        security_policy::authorization::Action,
    },
    mcp_access,
};

/// Returns what the route demands of whoever uses it. What cannot be honoured lets nobody in.
pub(in crate::resolve) fn own(
    reach: &Reach<'_>,
    key: &Key,
    spec: &MCPRoute,
    access: &mut Access,
    notes: &mut Notes,
) -> mcp_access::Access {
    let mut builder = Builder::new(reach, (AI, "MCPRoute"), key, notes);
    let mut own = mcp_access::Access::default();
    let mut policies = Policies {
        id: Arc::from(key.to_string()),
        ..Policies::default()
    };
    let security = spec.security_policy.as_ref();
    if let Some(oauth) = security.and_then(|security| security.oauth.as_ref()) {
        let path = spec.path.as_deref().unwrap_or(super::super::mcp::PATH);
        let (jwt, login) = builder.oauth(oauth, path, "spec.securityPolicy.oauth");
        let told = jwt.iter().flat_map(|jwt| &jwt.providers);
        own.forward
            .extend(told.flat_map(|provider| provider.told_in.iter().map(|(_, header)| header.clone())));
        policies.authenticate.jwt = jwt;
        own.login = login.map(Arc::new);
    }
    if let Some(keys) = security.and_then(|security| security.api_key_auth.as_ref()) {
        let keys = builder.api_key(keys, "spec.securityPolicy.apiKeyAuth");
        own.forward.extend(keys.told_in.clone());
        policies.authenticate.api_key = Some(keys);
    }
    if let Some(ext_auth) = security.and_then(|security| security.ext_auth.as_ref()) {
        policies.ext_auth = builder.ext_auth(ext_auth, "spec.securityPolicy.extAuth");
    }
    own.forward.sort_by(|one, other| one.as_str().cmp(other.as_str()));
    own.forward.dedup();
    let backends: Vec<&str> = spec.backend_refs.iter().map(|own| own.name.as_str()).collect();
    if let Some(spec) = security.and_then(|security| security.authorization.as_ref()) {
        let known = security.is_some_and(|security| security.oauth.is_some());
        own.rules = Some(Arc::new(builder.tool_rules(spec, known, &backends)));
    }
    if let Some(spec) = &spec.backend_selector {
        own.selector = Some(Arc::new(builder.selector(spec)));
    }
    match builder.finish() {
        Ok(outside) => access.outside.join(outside),
        Err(reason) => policies.broken = Some(reason),
    }
    let Authenticate { jwt, api_key, .. } = &policies.authenticate;
    let asks = jwt.is_some() || api_key.is_some() || policies.ext_auth.is_some();
    if asks || policies.broken.is_some() {
        own.policies = Some(Arc::new(policies));
    }
    own
}

impl Builder<'_> {
    fn tool_rules(&mut self, spec: &Authorization, known: bool, backends: &[&str]) -> Rules {
        let field = "spec.securityPolicy.authorization";
        self.at_most(32, spec.rules.len(), &format!("{field}.rules"));
        let rules = spec.rules.iter().enumerate();
        let rules = rules
            .map(|(index, rule)| self.tool_rule(rule, known, backends, &format!("{field}.rules[{index}]")))
            .collect();
        let rules = Rules {
            rules,
            otherwise: action(spec.default_action.unwrap_or(Action::Deny)),
            strict: spec.strict == Some(true),
            tells_held: spec.challenge_held_scopes == Some(true),
        };
        if rules.is_about_tools() && spec.strict.is_none() {
            let message = "the rules are about tools: prompts and resources are open; say strict: true to have \
                           them governed too";
            self.warn("PromptsAndResourcesOpen", field, message);
        }
        rules
    }

    fn tool_rule(&mut self, rule: &mcp_security::Rule, known: bool, backends: &[&str], field: &str) -> Rule {
        let source = rule.source.as_ref();
        Rule {
            action: action(rule.action.unwrap_or(Action::Allow)),
            token: source.map(|source| self.tool_token(&source.jwt, known, &format!("{field}.source.jwt"))),
            targets: rule
                .target
                .as_ref()
                .map(|target| self.targets(target, backends, &format!("{field}.target"))),
            condition: self.expression(rule.cel.as_deref(), &format!("{field}.cel")),
        }
    }

    fn tool_token(&mut self, jwt: &JwtSource, known: bool, field: &str) -> Token {
        if !known {
            let message = "oauth must be configured when any authorization rule uses a jwt source";
            self.invalid(field, message);
        }
        if jwt.claims.is_empty() && jwt.scopes.is_empty() {
            self.invalid(field, "either scopes or claims must be specified");
        }
        self.at_most(16, jwt.scopes.len(), &format!("{field}.scopes"));
        self.at_most(16, jwt.claims.len(), &format!("{field}.claims"));
        for (index, claim) in jwt.claims.iter().enumerate() {
            let at = format!("{field}.claims[{index}]");
            if claim.name == "scope" {
                let message = "'scope' claim name is reserved for OAuth scopes";
                self.invalid(&format!("{at}.name"), message);
            }
            if claim.values.is_empty() {
                self.invalid(&format!("{at}.values"), "must have at least 1 item");
            }
        }
        Token {
            provider: Some(PROVIDER.to_owned()),
            scopes: jwt.scopes.clone(),
            claims: jwt.claims.iter().map(claim).collect(),
        }
    }

    fn targets(&mut self, target: &Target, backends: &[&str], field: &str) -> Targets {
        let mut named = |kind: &str, written: Vec<(&str, [Option<&String>; 3])>| -> Vec<Named> {
            self.at_most(16, written.len(), &format!("{field}.{kind}"));
            let mut found = Vec::new();
            for (index, (backend, patterns)) in written.into_iter().enumerate() {
                let at = format!("{field}.{kind}[{index}]");
                if !backends.contains(&backend) {
                    let message = format!("\"{backend}\" is none of the backends of the route");
                    self.warn("BackendUnknown", &at, message);
                }
                let pattern = self.pattern(patterns, &at);
                found.extend(pattern.map(|pattern| Named {
                    backend: backend.to_owned(),
                    pattern,
                }));
            }
            found
        };
        let tools = target.tools.iter();
        let tools = tools.map(|own| {
            (
                own.backend.as_str(),
                [own.tool.as_ref(), None, own.tool_regex.as_ref()],
            )
        });
        let tools = named("tools", tools.collect());
        let prompts = target.prompts.iter();
        let prompts = prompts.map(|own| {
            (
                own.backend.as_str(),
                [own.prompt.as_ref(), None, own.prompt_regex.as_ref()],
            )
        });
        let prompts = named("prompts", prompts.collect());
        let resources = target.resources.iter().map(|own| {
            let patterns = [own.uri.as_ref(), own.uri_prefix.as_ref(), own.uri_regex.as_ref()];
            (own.backend.as_str(), patterns)
        });
        let resources = named("resources", resources.collect());
        if [
            &target.tools.len(),
            &target.prompts.len(),
            &target.resources.len(),
            &target.methods.len(),
        ]
        .into_iter()
        .all(|length| *length == 0)
        {
            self.invalid(
                field,
                "at least one of tools, prompts, resources, or methods must be specified",
            );
        }
        for (index, method) in target.methods.iter().enumerate() {
            if Method::find(method).is_none() {
                let at = format!("{field}.methods[{index}]");
                self.warn(
                    "MethodUnknown",
                    &at,
                    format!("\"{method}\" is no method of the protocol"),
                );
            }
        }
        Targets {
            tools,
            prompts,
            resources,
            methods: target.methods.clone(),
        }
    }

    fn pattern(&mut self, [exact, prefix, regex]: [Option<&String>; 3], field: &str) -> Option<Pattern> {
        match (exact, prefix, regex) {
            (Some(name), None, None) if name == "*" => Some(Pattern::Any),
            (Some(name), None, None) if !name.is_empty() => Some(Pattern::Exactly(name.clone())),
            (None, Some(prefix), None) => Some(Pattern::Begins(prefix.clone())),
            (None, None, Some(regex)) => match Regex::new(regex) {
                Ok(regex) => Some(Pattern::Matches(regex)),
                Err(_) => {
                    self.invalid(field, format!("malformed regular expression \"{regex}\""));
                    None
                }
            },
            _ => {
                self.invalid(field, "exactly one name or pattern must be specified");
                None
            }
        }
    }

    fn selector(&mut self, spec: &BackendSelector) -> Selector {
        self.at_most(32, spec.rules.len(), "spec.backendSelector.rules");
        let rules = spec.rules.iter().enumerate().map(|(index, rule)| {
            let field = format!("spec.backendSelector.rules[{index}].cel");
            let condition = self.expression(rule.cel.as_deref(), &field);
            (condition, action(rule.action.unwrap_or(Action::Allow)))
        });
        Selector {
            rules: rules.collect(),
            otherwise: action(spec.default_action.unwrap_or(Action::Deny)),
            per_request: spec.per_request == Some(true),
        }
    }

    fn expression(&mut self, written: Option<&str>, field: &str) -> Option<Expression> {
        let written = written.filter(|written| !written.trim().is_empty())?;
        match Expression::parse(written) {
            Ok(expression) => Some(expression),
            Err(error) => {
                self.invalid(field, error.to_string());
                None
            }
        }
    }

    /// Says that a list is longer than it may be.
    pub(super) fn at_most(&mut self, limit: usize, length: usize, field: &str) {
        if length > limit {
            self.invalid(field, format!("must have at most {limit} items"));
        }
    }
}
