//! What rules are about: tools, prompts, resources and methods, by server and name.

use regex::Regex;
use serde_json::{Value, json};

use super::Asked;

/// What of a server's is asked for. Names and URIs are the server's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What<'a> {
    /// A tool.
    Tool(&'a str),
    /// A prompt.
    Prompt(&'a str),
    /// A resource or a template of some.
    Resource(&'a str),
    /// The server itself.
    Server,
}

/// What a rule is about. Where methods are listed the method must be one of them; where anything else is, that must
/// be what is asked for.
#[derive(Clone, Debug, Default)]
pub struct Targets {
    /// Tools.
    pub tools: Vec<Named>,
    /// Prompts.
    pub prompts: Vec<Named>,
    /// Resources.
    pub resources: Vec<Named>,
    /// Methods.
    pub methods: Vec<String>,
}

/// Something of one server's.
#[derive(Clone, Debug)]
pub struct Named {
    /// The server.
    pub backend: String,
    /// What it is called.
    pub pattern: Pattern,
}

/// What a name must be.
#[derive(Clone, Debug)]
pub enum Pattern {
    /// Any.
    Any,
    /// This one.
    Exactly(String),
    /// One that begins like this.
    Begins(String),
    /// One in which this is found.
    Matches(Regex),
}

impl Targets {
    pub(super) fn cover(&self, asked: &Asked<'_>) -> bool {
        if !self.methods.is_empty() && !self.methods.iter().any(|method| method == asked.method) {
            return false;
        }
        let kinds = [&self.tools, &self.prompts, &self.resources];
        if kinds.iter().all(|kind| kind.is_empty()) {
            return true;
        }
        let (named, name) = match asked.what {
            What::Tool(name) => (&self.tools, name),
            What::Prompt(name) => (&self.prompts, name),
            What::Resource(uri) => (&self.resources, uri),
            What::Server => return false,
        };
        named
            .iter()
            .any(|own| own.backend == asked.backend && own.pattern.fits(name))
    }

    /// Returns whether it is `method` itself that is meant.
    pub(super) fn name(&self, method: &str) -> bool {
        let kinds = [&self.tools, &self.prompts, &self.resources];
        kinds.iter().all(|kind| kind.is_empty()) && self.methods.iter().any(|own| own == method)
    }

    pub(super) fn are_tools(&self) -> bool {
        !self.tools.is_empty() && self.prompts.is_empty() && self.resources.is_empty()
    }

    pub(super) fn dump(&self) -> Value {
        let named = |named: &[Named]| -> Vec<Value> {
            let named = named.iter();
            named
                .map(|own| json!({ "backend": own.backend, "name": own.pattern.text() }))
                .collect()
        };
        json!({
            "tools": named(&self.tools),
            "prompts": named(&self.prompts),
            "resources": named(&self.resources),
            "methods": self.methods,
        })
    }
}

impl Pattern {
    fn fits(&self, name: &str) -> bool {
        match self {
            Pattern::Any => true,
            Pattern::Exactly(own) => own == name,
            Pattern::Begins(own) => name.starts_with(own.as_str()),
            Pattern::Matches(own) => own.is_match(name),
        }
    }

    fn text(&self) -> String {
        match self {
            Pattern::Any => "*".to_owned(),
            Pattern::Exactly(own) => own.clone(),
            Pattern::Begins(own) => format!("{own}*"),
            Pattern::Matches(own) => format!("/{own}/"),
        }
    }
}
