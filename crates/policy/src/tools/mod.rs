//! What of MCP servers may be used: rules about tools, prompts and resources, and which servers a session is opened
//! with.
//!
//! The same rules decide about calls and about what lists show. Claims are those of verified tokens. What a rule
//! cannot tell counts against the request: a condition that fails allows nothing, and denies where it would deny.

mod expression;
mod target;
#[cfg(test)]
mod tests;

use serde_json::{Value, json};

pub use expression::{Expression, ExpressionError, Request};
pub use target::{Named, Pattern, Targets, What};

use self::expression::Holds;
use crate::{
    Caller, Claims,
    authorize::{Action, Token},
};

/// Rules, of which the first one that matches decides.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The rules.
    pub rules: Vec<Rule>,
    /// What is done where none matches.
    pub otherwise: Action,
    /// Whether prompts and resources are governed by rules that are about tools only.
    pub strict: bool,
    /// Whether whoever lacks scopes is told those that they have as well: a token that is asked for anew has to have them.
    pub tells_held: bool,
}

/// What is done with which requests. Everything that is said must hold.
#[derive(Clone, Debug)]
pub struct Rule {
    /// What is done.
    pub action: Action,
    /// With a token like this.
    pub token: Option<Token>,
    /// For these; for everything if `None`.
    pub targets: Option<Targets>,
    /// If this holds.
    pub condition: Option<Expression>,
}

/// What is asked, and by whom.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Who asks.
    pub caller: &'a Caller,
    /// The HTTP request that it came with.
    pub request: &'a Request,
    /// The method, or that by which what is listed would be used.
    pub method: &'a str,
    /// The server.
    pub backend: &'a str,
    /// What of the server's.
    pub what: What<'a>,
    /// The parameters; `None` while lists are made.
    pub params: Option<&'a Value>,
}

/// What the rules say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may be done.
    Allowed,
    /// It may not; with these scopes it might.
    Denied(Vec<String>),
}

/// Which servers a session is opened with.
#[derive(Clone, Debug)]
pub struct Selector {
    /// Rules, of which the first one whose condition holds decides; one without a condition always holds.
    pub rules: Vec<(Option<Expression>, Action)>,
    /// What is done where none holds.
    pub otherwise: Action,
    /// Whether this is asked for every request, and not only when a session is opened.
    pub per_request: bool,
}

impl Rules {
    /// Returns whether what is asked may be done. The smallest set of scopes is told that some rule wants besides.
    pub fn decide(&self, asked: &Asked<'_>) -> Verdict {
        if !self.governs(asked) {
            return Verdict::Allowed;
        }
        let mut wanted: Option<&[String]> = None;
        for rule in self.rules.iter().filter(|rule| rule.covers(asked)) {
            let Some(token) = &rule.token else {
                return rule.action.verdict(&[]);
            };
            let vouched = asked.caller.vouched(token.provider.as_deref());
            let meant: Vec<&Claims> = vouched
                .filter(|claims| token.claims.iter().all(|test| test.holds(claims)))
                .collect();
            let scoped = |claims: &&Claims| token.scopes.iter().all(|scope| claims.has_scope(scope));
            if meant.iter().any(scoped) {
                return rule.action.verdict(&[]);
            }
            let only_scopes = !meant.is_empty() || token.claims.is_empty();
            let fewer = wanted.is_none_or(|wanted| token.scopes.len() < wanted.len());
            if only_scopes && fewer && rule.action == Action::Allow {
                wanted = Some(&token.scopes);
            }
        }
        let wanted = wanted.unwrap_or_default();
        if !self.tells_held || wanted.is_empty() {
            return self.otherwise.verdict(wanted);
        }
        let mut all: Vec<String> = Vec::new();
        let held = asked.caller.vouched(None).flat_map(Claims::scopes);
        for scope in held.chain(wanted.iter().map(String::as_str)) {
            if !all.iter().any(|known| known == scope) {
                all.push(scope.to_owned());
            }
        }
        self.otherwise.verdict(&all)
    }

    /// Returns whether every rule is about tools, so that the others are open unless that is said.
    pub fn is_about_tools(&self) -> bool {
        !self.rules.is_empty() && self.rules.iter().all(Rule::is_about_tools)
    }

    /// Returns what is declared.
    pub fn dump(&self) -> Value {
        let rules: Vec<Value> = self.rules.iter().map(Rule::dump).collect();
        json!({ "rules": rules, "defaultAction": self.otherwise.name(), "strict": self.strict })
    }

    /// Returns whether some rule is about `method` as such, and not about anything that it is asked for. Methods that no
    /// rule is about are open where they are for nothing in particular: whoever may use something has to be able to begin.
    pub fn name(&self, method: &str) -> bool {
        let mut targets = self.rules.iter().filter_map(|rule| rule.targets.as_ref());
        targets.any(|targets| targets.name(method))
    }

    /// Returns whether some rule looks at parameters.
    pub fn read_params(&self) -> bool {
        let mut conditions = self.rules.iter().filter_map(|rule| rule.condition.as_ref());
        conditions.any(Expression::reads_params)
    }

    fn governs(&self, asked: &Asked<'_>) -> bool {
        match asked.what {
            What::Tool(_) => true,
            What::Prompt(_) | What::Resource(_) | What::Server => {
                self.strict || !self.is_about_tools() || self.name(asked.method)
            }
        }
    }
}

impl Rule {
    fn covers(&self, asked: &Asked<'_>) -> bool {
        if !self.targets.as_ref().is_none_or(|targets| targets.cover(asked)) {
            return false;
        }
        match self.condition.as_ref().map_or(Holds::Yes, |own| own.holds(asked)) {
            Holds::Yes => true,
            Holds::No => false,
            Holds::Failed => self.action == Action::Deny,
            // Arguments decide, and there are none yet.
            Holds::Unknown => self.action == Action::Allow,
        }
    }

    fn is_about_tools(&self) -> bool {
        let targets = self.targets.as_ref().is_some_and(Targets::are_tools);
        targets || self.condition.as_ref().is_some_and(Expression::reads_tool)
    }

    fn dump(&self) -> Value {
        json!({
            "action": self.action.name(),
            "jwt": self.token.as_ref().map(Token::dump),
            "target": self.targets.as_ref().map(Targets::dump),
            "cel": self.condition.as_ref().map(Expression::source),
        })
    }
}

impl Selector {
    /// Returns whether a session has the server that is asked about.
    pub fn selects(&self, asked: &Asked<'_>) -> bool {
        let deciding = self.rules.iter().find(|(condition, action)| {
            match condition.as_ref().map_or(Holds::Yes, |own| own.holds(asked)) {
                Holds::Yes => true,
                Holds::No => false,
                Holds::Failed | Holds::Unknown => *action == Action::Deny,
            }
        });
        deciding.map_or(self.otherwise, |(_, action)| *action) == Action::Allow
    }

    /// Returns what is declared.
    pub fn dump(&self) -> Value {
        let rules = self.rules.iter().map(|(condition, action)| {
            json!({ "action": action.name(), "cel": condition.as_ref().map(Expression::source) })
        });
        json!({
            "rules": rules.collect::<Vec<_>>(),
            "defaultAction": self.otherwise.name(),
            "perRequest": self.per_request,
        })
    }
}

impl Action {
    fn verdict(self, scopes: &[String]) -> Verdict {
        match self {
            Action::Allow => Verdict::Allowed,
            Action::Deny => Verdict::Denied(scopes.to_vec()),
        }
    }
}
