//! Whether whoever calls may: rules, and pages in browsers.

use http::Method;
use policy::{
    Authorize, Cidr, Cors,
    authorize::{self, HeaderTest, Rule, Token},
    claims::ClaimTest,
    cors::{Listed, Origin},
};

use super::builder::Builder;
use crate::kind::security_policy::{
    self, Authorization,
    authorization::{Action, AuthorizationRule, ClaimType, JwtClaim, JwtPrincipal, Principal},
};

impl Builder<'_> {
    /// Returns what `spec`, which lies at `field`, allows.
    pub(in crate::resolve) fn cors(&mut self, spec: &security_policy::Cors, field: &str) -> Cors {
        let mut origins = Vec::new();
        for (index, written) in spec.allow_origins.iter().enumerate() {
            match Origin::parse(written) {
                Some(origin) => origins.push(origin),
                None => {
                    let at = format!("{field}.allowOrigins[{index}]");
                    self.invalid(
                        &at,
                        "expected an origin such as https://a.example or https://*.example:*",
                    );
                }
            }
        }
        Cors {
            origins,
            methods: Listed::new(&spec.allow_methods),
            headers: Listed::new(&spec.allow_headers),
            expose: Listed::new(&spec.expose_headers),
            max_age: spec.max_age.map(|age| age.0),
            credentials: spec.allow_credentials == Some(true),
        }
    }

    /// Returns what `spec`, which lies at `field`, decides; `providers` are those of tokens.
    pub(in crate::resolve) fn authorize(
        &mut self,
        spec: &Authorization,
        providers: &[&str],
        field: &str,
    ) -> Authorize {
        let rules = spec.rules.iter().enumerate();
        let rules = rules
            .map(|(index, rule)| self.rule(rule, providers, &format!("{field}.rules[{index}]")))
            .collect();
        Authorize {
            rules,
            otherwise: action(spec.default_action.unwrap_or(Action::Deny)),
        }
    }

    fn rule(&mut self, rule: &AuthorizationRule, providers: &[&str], field: &str) -> Rule {
        if rule.operation.is_none() && rule.principal.is_none() {
            self.invalid(field, "at least one of operation or principal must be specified");
        }
        let methods = rule.operation.iter().flat_map(|operation| &operation.methods);
        let mut parsed = Vec::new();
        for (index, method) in methods.enumerate() {
            match Method::from_bytes(method.to_ascii_uppercase().as_bytes()) {
                Ok(method) => parsed.push(method),
                Err(_) => self.invalid(
                    &format!("{field}.operation.methods[{index}]"),
                    "expected a method",
                ),
            }
        }
        if rule.operation.is_some() && parsed.is_empty() {
            self.invalid(&format!("{field}.operation.methods"), "must have at least 1 item");
        }
        let at = format!("{field}.principal");
        let principal = rule.principal.as_ref();
        let (addresses, token, headers) = match principal {
            Some(principal) => (
                self.addresses(&principal.client_cidrs, &at),
                principal.jwt.as_ref().map(|jwt| self.token(jwt, providers, &at)),
                self.headers(principal, &at),
            ),
            None => (Vec::new(), None, Vec::new()),
        };
        Rule {
            name: rule.name.clone(),
            action: action(rule.action),
            methods: parsed,
            addresses,
            token,
            headers,
        }
    }

    fn addresses(&mut self, written: &[String], field: &str) -> Vec<Cidr> {
        let mut blocks = Vec::new();
        for (index, written) in written.iter().enumerate() {
            match Cidr::parse(written) {
                Some(block) => blocks.push(block),
                None => {
                    let at = format!("{field}.clientCIDRs[{index}]");
                    self.invalid(&at, "expected a block of addresses such as 10.0.0.0/8");
                }
            }
        }
        blocks
    }

    fn headers(&mut self, principal: &Principal, field: &str) -> Vec<HeaderTest> {
        let empty = principal.client_cidrs.is_empty()
            && principal.jwt.is_none()
            && principal.headers.is_empty()
            && principal.client_ip_geo_locations.is_none();
        if empty {
            self.invalid(
                field,
                "at least one of clientCIDRs, jwt, or headers must be specified",
            );
        }
        if principal.client_ip_geo_locations.is_some() {
            let at = format!("{field}.clientIPGeoLocations");
            self.unsupported(
                &at,
                "not served by this version: what the policy guards is refused",
            );
        }
        let mut tests = Vec::new();
        for (index, header) in principal.headers.iter().enumerate() {
            let at = format!("{field}.headers[{index}]");
            if header.values.is_empty() {
                self.invalid(&format!("{at}.values"), "must have at least 1 item");
            }
            tests.extend(self.header(&header.name, &at).map(|name| HeaderTest {
                name,
                values: header.values.clone(),
            }));
        }
        tests
    }

    fn token(&mut self, jwt: &JwtPrincipal, providers: &[&str], field: &str) -> Token {
        let at = format!("{field}.jwt");
        if !providers.contains(&jwt.provider.as_str()) {
            // A rule that can never hold would, as a denial, let everybody in.
            let message = format!("\"{}\" is none of the providers of spec.jwt", jwt.provider);
            self.invalid(&format!("{at}.provider"), message);
        }
        if jwt.claims.is_empty() && jwt.scopes.is_empty() {
            self.invalid(&at, "at least one of claims or scopes must be specified");
        }
        Token {
            provider: Some(jwt.provider.clone()),
            scopes: jwt.scopes.clone(),
            claims: jwt.claims.iter().map(claim).collect(),
        }
    }
}

pub(super) fn claim(claim: &JwtClaim) -> ClaimTest {
    ClaimTest {
        name: claim.name.clone(),
        list: match claim.value_type.unwrap_or(ClaimType::String) {
            ClaimType::String => false,
            ClaimType::StringArray => true,
        },
        values: claim.values.clone(),
    }
}

pub(super) fn action(action: Action) -> authorize::Action {
    match action {
        Action::Allow => authorize::Action::Allow,
        Action::Deny => authorize::Action::Deny,
    }
}
