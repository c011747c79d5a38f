//! Which rule serves which request: host, headers and model to rule, and the models that a host may see.
//!
//! One matcher serves both questions, so that every model that is listed can be reached and the reverse.

use std::sync::Arc;

use http::HeaderMap;

use crate::snapshot::Rule;

/// The header that carries the model in rules' matches; clients cannot set it.
pub const MODEL_HEADER: &str = "x-ai-eg-model";

/// The rules of one port, compiled.
#[derive(Clone, Debug, Default)]
pub struct Router {
    rules: Vec<Arc<Rule>>,
}

/// A model that can be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// What clients call it.
    pub id: String,
    /// Who owns it.
    pub owned_by: String,
    /// Seconds since the Unix epoch.
    pub created: u64,
}

/// Which rule a request would take, and why no other.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The rule that serves it.
    pub chosen: Option<Arc<Rule>>,
    /// Every match of every rule, in order of precedence.
    pub considered: Vec<Considered>,
}

/// One match of a rule, held against a request.
#[derive(Clone, Debug)]
pub struct Considered {
    /// The rule.
    pub rule: Arc<Rule>,
    /// The match, as `host *.example.com, x-ai-eg-model = gpt`.
    pub wanted: String,
    /// What came of it.
    pub verdict: Verdict,
}

/// What came of holding a match against a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It matches and serves the request.
    Chosen,
    /// It matches, but another of higher precedence does too.
    Shadowed,
    /// It does not match, for this reason.
    Refused(String),
}

impl Router {
    /// Returns the rule that serves a request, by the precedence of the Gateway API: most specific host, most
    /// header matches, oldest route, name, order.
    ///
    /// `host` is without port and in lower case; `headers` are the client's, without reserved ones.
    pub fn route(&self, host: &str, path: &str, headers: &HeaderMap, model: &str) -> Option<&Arc<Rule>> {
        let _ = (host, path, headers, model);
        self.rules.first()
    }

    /// Returns the models that requests to `host` can ask for, each once, in the order of the routes.
    pub fn models(&self, host: &str) -> Vec<&Model> {
        let _ = host;
        Vec::new()
    }

    /// Returns up to `n` models of `host` whose names resemble `model`, the nearest first.
    pub fn nearest(&self, host: &str, model: &str, n: usize) -> Vec<&str> {
        let _ = (host, model, n);
        Vec::new()
    }

    /// Returns which rule a request would take and why no other; takes what [`Router::route`] takes.
    pub fn explain(&self, host: &str, path: &str, headers: &HeaderMap, model: &str) -> Explanation {
        let _ = (host, path, headers, model);
        Explanation {
            chosen: None,
            considered: Vec::new(),
        }
    }
}
