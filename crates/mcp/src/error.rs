//! Errors as JSON-RPC says them.

use serde::Serialize;
use serde_json::{Value, value::RawValue};

use crate::{
    json,
    message::{Id, Message, Outcome, Response},
};

/// What is no JSON.
pub const PARSE: i32 = -32700;
/// What is no message, or none that may be sent now.
pub const INVALID_REQUEST: i32 = -32600;
/// An unknown method.
pub const METHOD_NOT_FOUND: i32 = -32601;
/// Parameters that are malformed, or name something unknown.
pub const INVALID_PARAMS: i32 = -32602;
/// The gateway failed.
pub const INTERNAL: i32 = -32603;
/// An upstream failed, or something is refused.
pub const SERVER: i32 = -32000;
/// The session is not known, any more or at all.
pub const SESSION_NOT_FOUND: i32 = -32001;
/// A resource is not there (revisions up to 2025-11-25).
pub const RESOURCE_NOT_FOUND: i32 = -32002;
/// The client has to be sent to a page first (revision 2025-11-25).
pub const ELICITATION_REQUIRED: i32 = -32042;
/// Headers and body disagree (revision 2026-07-28).
pub const HEADER_MISMATCH: i32 = -32020;
/// The client did not declare a capability that is needed (revision 2026-07-28).
pub const MISSING_CAPABILITY: i32 = -32021;
/// The revision is not served (revision 2026-07-28).
pub const UNSUPPORTED_VERSION: i32 = -32022;

/// An error object.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct RpcError {
    /// What kind of error it is.
    pub code: i32,
    /// What happened.
    pub message: String,
    /// More about it.
    pub data: Option<Value>,
}

impl RpcError {
    /// Returns an error.
    pub fn new(code: i32, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            data: None,
        }
    }

    /// Returns a −32700.
    pub fn parse(message: impl Into<String>) -> Self {
        Self::new(PARSE, message)
    }

    /// Returns a −32600.
    pub fn invalid_request(message: impl Into<String>) -> Self {
        Self::new(INVALID_REQUEST, message)
    }

    /// Returns a −32602.
    pub fn invalid_params(message: impl Into<String>) -> Self {
        Self::new(INVALID_PARAMS, message)
    }

    /// Returns a −32601 about `method`.
    pub fn unknown_method(method: &str) -> Self {
        let shown: String = method.chars().take(200).collect();
        Self::new(METHOD_NOT_FOUND, format!("unsupported method: {shown}"))
    }

    /// Returns a −32001.
    pub fn session_not_found() -> Self {
        Self::new(SESSION_NOT_FOUND, "session not found")
    }

    /// Returns the error with more about it.
    #[must_use]
    pub fn with_data(self, data: Value) -> Self {
        Self {
            data: Some(data),
            ..self
        }
    }

    /// Returns the error object.
    pub fn to_raw(&self) -> Box<RawValue> {
        #[derive(Serialize)]
        struct Written<'a> {
            code: i32,
            message: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            data: Option<&'a Value>,
        }
        json::raw(&Written {
            code: self.code,
            message: &self.message,
            data: self.data.as_ref(),
        })
    }

    /// Returns the error as the answer to the request called `id`.
    pub fn to_message(&self, id: Option<&Id>) -> Message {
        Message::Response(Response {
            id: id.cloned(),
            outcome: Outcome::Error(self.to_raw()),
        })
    }
}
