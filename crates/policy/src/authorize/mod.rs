//! Authorization: whether whoever calls may do so, by address, claims, headers and method.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, Method};
use serde_json::{Value, json};

use crate::{Caller, Cidr, claims::ClaimTest};

/// Rules, of which the first one that matches decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorize {
    /// The rules.
    pub rules: Vec<Rule>,
    /// What is done where none matches.
    pub otherwise: Action,
}

/// What is done with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is let in.
    Allow,
    /// It is refused.
    Deny,
}

/// What is done with which requests. Everything that is said must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What the rule is called.
    pub name: Option<String>,
    /// What is done.
    pub action: Action,
    /// With these methods; with any if empty.
    pub methods: Vec<Method>,
    /// From any of these; from anywhere if empty.
    pub addresses: Vec<Cidr>,
    /// With a token like this.
    pub token: Option<Token>,
    /// With each of these headers.
    pub headers: Vec<HeaderTest>,
}

/// What a token must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Who vouches for it; anybody if it is not said.
    pub provider: Option<String>,
    /// What it must allow, all of it.
    pub scopes: Vec<String>,
    /// What it must say, all of it.
    pub claims: Vec<ClaimTest>,
}

/// What one header must be. Debug and dumps show no values, which may be credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct HeaderTest {
    /// The header.
    pub name: HeaderName,
    /// What it may be.
    pub values: Vec<String>,
}

impl Authorize {
    /// Returns whether the request is let in.
    pub fn allows(&self, client: IpAddr, caller: &Caller, method: &Method, headers: &HeaderMap) -> bool {
        let matching = self
            .rules
            .iter()
            .find(|rule| rule.holds(client, caller, method, headers));
        match matching.map_or(self.otherwise, |rule| rule.action) {
            Action::Allow => true,
            Action::Deny => false,
        }
    }

    /// Returns what is declared, without values.
    pub fn dump(&self) -> Value {
        let rules: Vec<Value> = self.rules.iter().map(Rule::dump).collect();
        json!({ "rules": rules, "defaultAction": self.otherwise.name() })
    }
}

impl Action {
    /// Returns the word for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Action::Allow => "Allow",
            Action::Deny => "Deny",
        }
    }
}

impl Rule {
    fn holds(&self, client: IpAddr, caller: &Caller, method: &Method, headers: &HeaderMap) -> bool {
        (self.methods.is_empty() || self.methods.contains(method))
            && (self.addresses.is_empty() || self.addresses.iter().any(|block| block.contains(client)))
            && self.token.as_ref().is_none_or(|token| token.holds(caller))
            && self.headers.iter().all(|test| test.holds(headers))
    }

    fn dump(&self) -> Value {
        let methods: Vec<&str> = self.methods.iter().map(Method::as_str).collect();
        let addresses: Vec<String> = self.addresses.iter().map(Cidr::to_string).collect();
        let headers: Vec<&str> = self.headers.iter().map(|test| test.name.as_str()).collect();
        json!({
            "name": self.name,
            "action": self.action.name(),
            "methods": methods,
            "clientCIDRs": addresses,
            "jwt": self.token.as_ref().map(Token::dump),
            "headers": headers,
        })
    }
}

impl Token {
    fn holds(&self, caller: &Caller) -> bool {
        caller.vouched(self.provider.as_deref()).any(|claims| {
            self.scopes.iter().all(|scope| claims.has_scope(scope))
                && self.claims.iter().all(|test| test.holds(claims))
        })
    }

    pub(crate) fn dump(&self) -> Value {
        let claims: Vec<&str> = self.claims.iter().map(|test| test.name.as_str()).collect();
        json!({ "provider": self.provider, "scopes": self.scopes, "claims": claims })
    }
}

impl HeaderTest {
    fn holds(&self, headers: &HeaderMap) -> bool {
        let mut lines = headers.get_all(&self.name).iter();
        lines.any(|line| {
            let line = line.to_str().unwrap_or_default();
            self.values.iter().any(|wanted| wanted == line)
        })
    }
}

impl std::fmt::Debug for HeaderTest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("HeaderTest").field(&self.name).finish()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use serde_json::json;

    use super::*;
    use crate::Claims;

    fn any(action: Action) -> Rule {
        Rule {
            name: None,
            action,
            methods: Vec::new(),
            addresses: Vec::new(),
            token: None,
            headers: Vec::new(),
        }
    }

    fn caller() -> Caller {
        let claims = json!({"scope": "read write", "team": "a"});
        let claims = Claims::new(claims.as_object().expect("an object").clone());
        Caller {
            claims: vec![("idp".into(), claims)],
            ..Caller::default()
        }
    }

    #[track_caller]
    fn check(rules: &[Rule], otherwise: Action, expected: bool) {
        let authorize = Authorize {
            rules: rules.to_vec(),
            otherwise,
        };
        let mut headers = HeaderMap::new();
        headers.append("x-team", HeaderValue::from_static("a"));
        headers.append("x-team", HeaderValue::from_static("b"));
        let client = IpAddr::from([10, 1, 2, 3]);
        let allowed = authorize.allows(client, &caller(), &Method::POST, &headers);
        assert_eq!(allowed, expected, "{authorize:?}");
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        use Action::{Allow, Deny};
        check(&[], Deny, false);
        check(&[], Allow, true);
        check(&[any(Allow), any(Deny)], Deny, true);
        check(&[any(Deny), any(Allow)], Allow, false);
        let get = Rule {
            methods: vec![Method::GET],
            ..any(Deny)
        };
        check(&[get.clone(), any(Allow)], Deny, true);
        check(&[get], Deny, false);
    }

    #[test]
    fn everything_a_rule_says_must_hold() {
        let cidrs = |blocks: &[&str]| blocks.iter().filter_map(|block| Cidr::parse(block)).collect();
        let from = |blocks: &[&str]| Rule {
            addresses: cidrs(blocks),
            ..any(Action::Allow)
        };
        let token = |provider: Option<&str>, scopes: &[&str], team: &str| Rule {
            token: Some(Token {
                provider: provider.map(str::to_owned),
                scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
                claims: vec![ClaimTest {
                    name: "team".to_owned(),
                    list: false,
                    values: vec![team.to_owned()],
                }],
            }),
            ..any(Action::Allow)
        };
        let header = |values: &[&str]| Rule {
            headers: vec![HeaderTest {
                name: HeaderName::from_static("x-team"),
                values: values.iter().map(|value| (*value).to_owned()).collect(),
            }],
            ..any(Action::Allow)
        };
        for (rule, expected) in [
            (from(&["192.0.2.0/24", "10.0.0.0/8"]), true),
            (from(&["192.0.2.0/24"]), false),
            (token(None, &["read", "write"], "a"), true),
            (token(Some("idp"), &[], "a"), true),
            (token(Some("other"), &[], "a"), false),
            (token(None, &["admin"], "a"), false),
            (token(None, &[], "b"), false),
            (header(&["b"]), true),
            (header(&["c"]), false),
        ] {
            check(std::slice::from_ref(&rule), Action::Deny, expected);
            let narrowed = Rule {
                methods: vec![Method::GET],
                ..rule
            };
            check(&[narrowed], Action::Deny, false);
        }
    }
}
