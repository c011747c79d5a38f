//! A call that came to nothing, and why.

use std::sync::Arc;

use http::{HeaderValue, StatusCode};

/// A call that came to nothing.
#[derive(Clone, Debug)]
pub(in crate::mcp) struct Failure {
    pub(in crate::mcp) backend: Arc<str>,
    pub(in crate::mcp) fault: Fault,
    /// What happened, without anything secret.
    pub(in crate::mcp) reason: String,
    /// What the backend demands of whoever calls it.
    pub(in crate::mcp) challenge: Option<HeaderValue>,
    /// In how many seconds it wants to be asked again.
    pub(in crate::mcp) retry_after: Option<u64>,
    /// Whether the backend does not know the session, so that the call was certainly not carried out.
    pub(in crate::mcp) lost: bool,
}

/// What kind of failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::mcp) enum Fault {
    /// It was not reached.
    Unreachable,
    /// It did not answer in time.
    Timeout,
    /// It answered with a status that is no success.
    Status(StatusCode),
    /// Its reply broke off.
    Broken,
    /// Its reply is none.
    BadReply,
    /// A policy lets it be asked only so much at once.
    Overflow,
    /// There is no token that it could be shown.
    Credential,
}

impl Failure {
    pub(in crate::mcp) fn new(backend: &Arc<str>, fault: Fault, reason: impl Into<String>) -> Self {
        Self {
            backend: Arc::clone(backend),
            fault,
            reason: reason.into(),
            challenge: None,
            retry_after: None,
            lost: false,
        }
    }

    /// Returns the word for what kind of failure it is.
    pub(in crate::mcp) fn kind(&self) -> &'static str {
        match self.fault {
            Fault::Unreachable => "unreachable",
            Fault::Timeout => "timeout",
            Fault::Status(_) => "status",
            Fault::Broken => "broken",
            Fault::BadReply => "malformed",
            Fault::Overflow => "overflow",
            Fault::Credential => "credential",
        }
    }

    /// Returns the word for lists that lack a backend's part.
    pub(in crate::mcp) fn word(&self) -> String {
        match self.fault {
            Fault::Unreachable => "unreachable".to_owned(),
            Fault::Timeout => "timeout".to_owned(),
            Fault::Status(status) => format!("status {}", status.as_u16()),
            Fault::Broken => "connection lost".to_owned(),
            Fault::BadReply => "malformed reply".to_owned(),
            Fault::Overflow => "overloaded".to_owned(),
            Fault::Credential => "no credential".to_owned(),
        }
    }
}
