//! Refusals, as MCP says them: a JSON-RPC error with the request's id, under the status that makes clients do the
//! right thing.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use llm::ApiError;
use mcp::{Id, RpcError, error};
use serde_json::json;

use super::{
    call::{Failure, Fault},
    outlet::Said,
};
use crate::refusal::{Answer, Content, Refusal};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
pub(super) const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// A request that is refused.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) status: StatusCode,
    pub(super) error: RpcError,
    pub(super) headers: HeaderMap,
    /// The document that is the answer, where a service that decides has written it.
    pub(super) document: Option<Bytes>,
    /// What it is to clients of the compatibility specification's gateway, where the error does not say so itself.
    plain: Option<(StatusCode, String)>,
}

impl Refused {
    /// Returns a refusal.
    pub(super) fn new(status: StatusCode, error: RpcError) -> Box<Self> {
        Box::new(Self {
            status,
            error,
            headers: HeaderMap::new(),
            document: None,
            plain: None,
        })
    }

    /// Says what it is to clients of the compatibility specification's gateway.
    #[must_use]
    pub(super) fn plainly(mut self: Box<Self>, status: StatusCode, text: impl Into<String>) -> Box<Self> {
        self.plain = Some((status, text.into()));
        self
    }

    /// Returns the status and the text that the compatibility specification's gateway would answer with.
    fn plain(&self) -> (StatusCode, String) {
        let status = match (self.status, self.error.code) {
            (StatusCode::OK, error::SERVER | error::INTERNAL) => StatusCode::INTERNAL_SERVER_ERROR,
            (StatusCode::OK, _) => StatusCode::BAD_REQUEST,
            (status, _) => status,
        };
        let own = || (status, self.error.message.clone());
        self.plain.clone().unwrap_or_else(own)
    }

    /// Returns the refusal as what is said at the end of work for the request called `id`.
    pub(super) fn said(self, id: Option<&Id>, plainly: bool) -> Said {
        Said {
            plain: plainly.then(|| self.plain()),
            status: self.status,
            headers: self.headers,
            document: Some(self.error.to_message(id).to_raw()),
            event: None,
        }
    }

    /// The request as such is wrong.
    pub(super) fn bad(error: RpcError) -> Box<Self> {
        Self::new(StatusCode::BAD_REQUEST, error)
    }

    /// The session is not known: clients open another when they see this.
    pub(super) fn no_session() -> Box<Self> {
        let refused = Self::new(StatusCode::NOT_FOUND, RpcError::session_not_found());
        refused.plainly(StatusCode::BAD_REQUEST, "invalid session ID: session not found")
    }

    /// What is asked for is not there. SDKs take an error in an answer, and not one in a status.
    pub(super) fn params(message: impl Into<String>) -> Box<Self> {
        Self::new(StatusCode::OK, RpcError::invalid_params(message))
    }

    /// Returns the answer, to the request called `id`.
    pub(super) fn answer(self, id: Option<&Id>, plainly: bool) -> Answer {
        let (status, kind, document) = if plainly {
            let (status, text) = self.plain();
            (status, TEXT, Bytes::from(text))
        } else {
            let document = self.error.to_message(id).to_bytes();
            (self.status, JSON, Bytes::from(document))
        };
        let mut headers = self.headers;
        let document = self.document.unwrap_or_else(|| {
            headers.insert(header::CONTENT_TYPE, kind);
            document
        });
        Answer {
            status,
            headers,
            content: Content::Whole(document),
        }
    }
}

impl From<RpcError> for Box<Refused> {
    fn from(error: RpcError) -> Self {
        Refused::bad(error)
    }
}

impl From<ApiError> for Box<Refused> {
    /// Bodies that cannot be read are refused in the same words everywhere.
    fn from(refused: ApiError) -> Self {
        let code = match refused.status {
            StatusCode::SERVICE_UNAVAILABLE => error::SERVER,
            _ => error::INVALID_REQUEST,
        };
        let mut own = Refused::new(refused.status, RpcError::new(code, refused.message));
        if let Some(seconds) = refused.retry_after {
            own.headers
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        match refused.status {
            StatusCode::PAYLOAD_TOO_LARGE => own.plainly(refused.status, "request body too large"),
            _ => own,
        }
    }
}

impl From<Box<Refusal>> for Box<Refused> {
    /// Whoever is not let in is told so by the status, and by headers how to do better.
    fn from(refusal: Box<Refusal>) -> Self {
        let error = RpcError::new(error::SERVER, refusal.error.message);
        let error = match refusal.error.status {
            StatusCode::FORBIDDEN => error.with_data(json!({ "reason": "access_denied" })),
            _ => error,
        };
        let mut own = Refused::new(refusal.error.status, error);
        own.headers = refusal.headers;
        if let Some(seconds) = refusal.error.retry_after {
            own.headers
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        own.document = refusal.document;
        own
    }
}

impl From<Failure> for Box<Refused> {
    fn from(failure: Failure) -> Self {
        let status = match failure.fault {
            Fault::Status(status) => Some(status.as_u16()),
            Fault::Unreachable
            | Fault::Timeout
            | Fault::Broken
            | Fault::BadReply
            | Fault::Overflow
            | Fault::Credential => None,
        };
        let message = format!("call to {} failed: {}", failure.backend, failure.reason);
        let plain = status.map_or_else(
            || message.clone(),
            |status| format!("call to {} failed with status code {status}", failure.backend),
        );
        let mut data = json!({ "backend": &*failure.backend, "reason": failure.word() });
        if let Some(status) = status {
            data["upstreamStatus"] = json!(status);
        }
        if let Some(seconds) = failure.retry_after {
            data["retryAfter"] = json!(seconds);
        }
        let mut refused = Refused::new(
            StatusCode::OK,
            RpcError::new(error::SERVER, message).with_data(data),
        );
        if let Some(seconds) = failure.retry_after {
            refused
                .headers
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        refused.plainly(StatusCode::INTERNAL_SERVER_ERROR, plain)
    }
}
