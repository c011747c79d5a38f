//! Who may use an MCPRoute, as the route itself says: resolved.

use std::sync::Arc;

use http::HeaderName;
use policy::{
    Policies, Remote,
    tools::{Rules, Selector},
};
use serde_json::{Value, json};

/// Who may use a route, and what of it.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Who may call; anybody if there are none.
    pub policies: Option<Arc<Policies>>,
    /// How clients log in; `None` where they need not.
    pub login: Option<Arc<Login>>,
    /// What whoever calls may use; everything if there are none.
    pub rules: Option<Arc<Rules>>,
    /// Which servers a session is opened with; all if there is none.
    pub selector: Option<Arc<Selector>>,
    /// Headers that every server is sent, in which it is told who calls.
    pub forward: Vec<HeaderName>,
}

/// How clients of a route log in at its authorization server.
#[derive(Clone, Debug)]
pub struct Login {
    /// Where clients find what the route says of itself.
    pub metadata: String,
    /// What it says (RFC 9728).
    pub document: Arc<str>,
    /// Scopes that clients ask for, between spaces.
    pub scopes: String,
    /// The documents that are served, by path.
    pub paths: Vec<(String, Document)>,
    /// What the authorization server says of itself.
    pub server: Described,
}

/// What an authorization server says of itself (RFC 8414).
#[derive(Clone, Debug)]
pub enum Described {
    /// It is asked, here.
    There(Arc<Remote>),
    /// It is declared, as JSON.
    Here(Arc<str>),
}

/// A document about logging in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Document {
    /// What the route says of itself.
    Resource,
    /// What its authorization server says of itself.
    Server,
    /// What the only server of the route says of itself.
    Lent,
}

impl Login {
    /// Returns what a client without a good token is told (RFC 6750, section 3). One that has shown none has made no
    /// mistake.
    pub fn challenge(&self, shown: bool) -> String {
        let mut text = "Bearer ".to_owned();
        if shown {
            text.push_str(
                "error=\"invalid_token\", error_description=\"The access token is missing or invalid\", ",
            );
        }
        text.push_str(&format!("resource_metadata=\"{}\"", self.metadata));
        if !self.scopes.is_empty() {
            text.push_str(&format!(", scope=\"{}\"", self.scopes));
        }
        text
    }
}

impl Access {
    /// Returns what a client is told whose token lacks `scopes` (RFC 6750, section 3.1).
    pub fn step_up(&self, scopes: &[String]) -> String {
        let scopes = scopes.join(" ");
        let mut text = format!("Bearer error=\"insufficient_scope\", scope=\"{scopes}\", ");
        if let Some(login) = &self.login {
            text.push_str(&format!("resource_metadata=\"{}\", ", login.metadata));
        }
        text.push_str("error_description=\"The token is missing required scopes\"");
        text
    }

    /// Returns what is declared, without secrets; `None` if nothing is.
    pub(crate) fn dump(&self) -> Option<Value> {
        let Self {
            policies,
            login,
            rules,
            selector,
            forward,
        } = self;
        let any = policies.is_some() || login.is_some() || rules.is_some() || selector.is_some();
        any.then(|| {
            json!({
                "policies": policies.as_ref().map(|policies| policies.dump()),
                "metadata": login.as_ref().map(|login| &login.metadata),
                "documents": login.iter().flat_map(|login| &login.paths).map(|(path, _)| path).collect::<Vec<_>>(),
                "authorization": rules.as_ref().map(|rules| rules.dump()),
                "backendSelector": selector.as_ref().map(|selector| selector.dump()),
                "forward": forward.iter().map(HeaderName::as_str).collect::<Vec<_>>(),
            })
        })
    }
}
