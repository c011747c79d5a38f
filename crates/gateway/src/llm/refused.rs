//! Why an attempt is not the answer, and whether another one may be.

use http::{HeaderMap, StatusCode};
use llm::{ApiError, ErrorKind};

use super::retry::Next;
use crate::{trail::Failure, upstream::CallError};

/// Why an attempt is not the answer.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) cause: Cause,
    pub(super) error: ApiError,
    /// Headers for the client, should this become the answer after all.
    pub(super) headers: HeaderMap,
}

/// What went wrong with an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The reference leads to no upstream.
    Unresolved,
    /// The request cannot be said to this upstream.
    Unsayable,
    /// The client's form is at fault, or did not come to its end.
    Client,
    /// There is no credential for the upstream.
    Credential,
    /// The upstream does not take the credential, and there is another one by now.
    Stale,
    /// The upstream was certainly not reached.
    Connect,
    /// The connection broke before the reply was whole, or had begun.
    Reset,
    /// The attempt took too long.
    Timeout,
    /// The request as a whole took too long.
    Deadline,
    /// The reply cannot be understood.
    BadReply,
    /// The upstream said that it failed, or cannot now.
    Failed,
    /// The upstream said that the request is at fault.
    Rejected,
}

impl Cause {
    /// Returns what an upstream's error status amounts to.
    pub(super) fn of_status(status: StatusCode) -> Self {
        match status.as_u16() {
            408 | 429 | 500..=599 => Cause::Failed,
            400..=499 => Cause::Rejected,
            _ => Cause::BadReply,
        }
    }

    /// Returns the word for logs and metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Cause::Unresolved => "unresolved",
            Cause::Unsayable => "unsayable",
            Cause::Client => "client",
            Cause::Credential => "credential",
            Cause::Stale => "stale_credential",
            Cause::Connect => "connect",
            Cause::Reset => "reset",
            Cause::Timeout => "timeout",
            Cause::Deadline => "deadline",
            Cause::BadReply => "bad_reply",
            Cause::Failed => "failed",
            Cause::Rejected => "rejected",
        }
    }

    /// Returns where the request goes next.
    pub(super) fn next(self) -> Next {
        match self {
            Cause::Connect => Next::Same,
            Cause::Unresolved
            | Cause::Unsayable
            | Cause::Credential
            | Cause::Stale
            | Cause::Reset
            | Cause::Timeout
            | Cause::BadReply
            | Cause::Failed => Next::Other,
            Cause::Client | Cause::Deadline | Cause::Rejected => Next::No,
        }
    }

    /// Returns whether a client learns more from this failure than from a later one.
    pub(super) fn tells_more_than(self, later: &Cause) -> bool {
        self.rank() > later.rank()
    }

    fn rank(self) -> u8 {
        match self {
            Cause::Unresolved => 0,
            Cause::Unsayable => 1,
            Cause::Credential | Cause::Stale | Cause::Connect => 2,
            Cause::Reset | Cause::Timeout | Cause::Deadline | Cause::BadReply => 3,
            Cause::Failed | Cause::Rejected => 4,
            Cause::Client => 5,
        }
    }
}

impl Refused {
    pub(super) fn new(cause: Cause, error: ApiError) -> Box<Self> {
        Box::new(Self {
            cause,
            error,
            headers: HeaderMap::new(),
        })
    }

    /// Returns what is told of it to whoever runs the gateway.
    pub(super) fn failure(&self) -> Failure {
        let own = match self.cause {
            Cause::Stale | Cause::Failed | Cause::Rejected => false,
            Cause::Unresolved
            | Cause::Unsayable
            | Cause::Client
            | Cause::Credential
            | Cause::Connect
            | Cause::Reset
            | Cause::Timeout
            | Cause::Deadline
            | Cause::BadReply => true,
        };
        Failure {
            kind: self.error.kind,
            status: self.error.status.as_u16(),
            reason: own.then(|| self.error.message.clone()),
        }
    }

    pub(super) fn call(error: CallError) -> Box<Self> {
        let (cause, kind) = match &error {
            CallError::Connect(_) => (Cause::Connect, ErrorKind::Unavailable),
            CallError::Reset(_) => (Cause::Reset, ErrorKind::BadUpstream),
        };
        tracing::debug!(error = &error as &dyn std::error::Error, "call failed");
        Self::new(cause, ApiError::new(kind, error.to_string()))
    }

    pub(super) fn cut(error: &hyper::Error) -> Box<Self> {
        tracing::debug!(error = error as &dyn std::error::Error, "reply was cut");
        let error = ApiError::new(ErrorKind::BadUpstream, "the upstream's reply was cut off");
        Self::new(Cause::Reset, error)
    }
}
