//! Why an attempt is not the answer, and whether another one may be.

use http::{HeaderMap, HeaderValue, StatusCode};
use llm::{ApiError, ErrorKind, Unfit};

use policy::traffic::{health::Fared, retry};

use super::arriving::Broken;
use crate::{
    facts::Attempted,
    headers,
    refusal::Answer,
    telemetry::{error_type::ErrorType, own::Side},
    trail::Failure,
    upstream::{self, CallError},
};

/// Why an attempt is not the answer.
pub(super) struct Refused {
    pub(super) cause: Cause,
    pub(super) error: ApiError,
    /// Headers for the client, should this become the answer after all.
    pub(super) headers: HeaderMap,
    /// What the upstream answered all the same, should nobody answer better, and the attempt.
    pub(super) answer: Option<Box<(Answer, Attempted)>>,
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
    /// The upstream is asked too much at once already.
    Overflow,
    /// The upstream said that it has not looked at the request.
    RefusedStream,
    /// The connection broke before the reply was whole, or had begun.
    Reset,
    /// The picker that was to see the reply failed.
    Picker,
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
    /// The upstream's filter kept back what it would have said.
    Filtered,
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
            Cause::Overflow => "overflow",
            Cause::RefusedStream => "refused_stream",
            Cause::Reset => "reset",
            Cause::Picker => "picker",
            Cause::Timeout => "timeout",
            Cause::Deadline => "deadline",
            Cause::BadReply => "bad_reply",
            Cause::Failed => "failed",
            Cause::Rejected => "rejected",
            Cause::Filtered => "filtered",
        }
    }

    /// Returns whether it is the gateway's own word, and not an upstream's.
    pub(super) fn is_own(self) -> bool {
        match self {
            Cause::Stale | Cause::Failed | Cause::Rejected | Cause::Filtered => false,
            Cause::Unresolved
            | Cause::Unsayable
            | Cause::Client
            | Cause::Credential
            | Cause::Connect
            | Cause::Overflow
            | Cause::RefusedStream
            | Cause::Reset
            | Cause::Picker
            | Cause::Timeout
            | Cause::Deadline
            | Cause::BadReply => true,
        }
    }

    /// Returns which translation has failed, if one has.
    pub(super) fn side(self) -> Option<Side> {
        match self {
            Cause::Unsayable => Some(Side::Request),
            Cause::BadReply => Some(Side::Reply),
            Cause::Unresolved
            | Cause::Client
            | Cause::Credential
            | Cause::Stale
            | Cause::Connect
            | Cause::Overflow
            | Cause::RefusedStream
            | Cause::Reset
            | Cause::Picker
            | Cause::Timeout
            | Cause::Deadline
            | Cause::Failed
            | Cause::Rejected
            | Cause::Filtered => None,
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
            Cause::Credential | Cause::Stale | Cause::Connect | Cause::Overflow | Cause::RefusedStream => 2,
            Cause::Reset | Cause::Picker | Cause::Timeout | Cause::Deadline | Cause::BadReply => 3,
            Cause::Failed | Cause::Rejected => 4,
            Cause::Client | Cause::Filtered => 5,
        }
    }
}

impl Refused {
    pub(super) fn new(cause: Cause, error: ApiError) -> Box<Self> {
        Box::new(Self {
            cause,
            error,
            headers: HeaderMap::new(),
            answer: None,
        })
    }

    /// Returns what is told of it to whoever runs the gateway.
    pub(super) fn failure(&self) -> Failure {
        Failure {
            error: if self.cause.is_own() {
                ErrorType::own(&self.error)
            } else {
                ErrorType::upstreams(&self.error)
            },
            status: self.error.status.as_u16(),
            // What cannot be understood is quoted where it stands.
            reason: self.cause.is_own().then(|| self.error.unquoted()),
        }
    }

    /// Returns the failure, in the words of the table that says what comes of it.
    pub(super) fn class(&self) -> retry::Failure {
        match self.cause {
            Cause::Unresolved | Cause::Credential | Cause::Stale => retry::Failure::Unresolved,
            // The upstream has answered: it is not asked to do it again.
            Cause::Picker => retry::Failure::Deadline,
            Cause::Unsayable => retry::Failure::Unsayable,
            Cause::Client => retry::Failure::Client,
            Cause::Connect => retry::Failure::Connect,
            Cause::Overflow => retry::Failure::Overflow,
            Cause::RefusedStream => retry::Failure::RefusedStream,
            Cause::Reset => retry::Failure::Reset,
            Cause::Timeout => retry::Failure::Timeout,
            Cause::Deadline => retry::Failure::Deadline,
            Cause::BadReply => retry::Failure::BadReply,
            Cause::Filtered => retry::Failure::ContentFilter,
            Cause::Failed => match retry::Failure::of_status(self.error.status.as_u16()) {
                failure @ (retry::Failure::GatewayStatus
                | retry::Failure::ServerStatus
                | retry::Failure::Busy) => failure,
                // An error event that stands for no such status: the reply had begun well.
                _ => retry::Failure::ServerStatus,
            },
            Cause::Rejected => match self.error.unfit() {
                Some(Unfit::ContextLength) => retry::Failure::ContextLength,
                Some(Unfit::ContentFilter) => retry::Failure::ContentFilter,
                Some(Unfit::PreviousAnswer) => retry::Failure::PreviousAnswer,
                None => retry::Failure::of_status(self.error.status.as_u16()),
            },
        }
    }

    /// Returns what the attempt tells of the upstream's health; `None` if it did not get there.
    pub(super) fn fared(&self) -> Option<Fared> {
        self.class().fared()
    }

    pub(super) fn overflow() -> Box<Self> {
        let error = ApiError::new(ErrorKind::Unavailable, "the upstream is asked too much at once");
        let mut refused = Self::new(Cause::Overflow, error);
        let yes = HeaderValue::from_static("true");
        refused.headers.insert(headers::OVERLOADED, yes);
        refused
    }

    pub(super) fn call(error: CallError) -> Box<Self> {
        let (cause, kind) = match &error {
            CallError::Connect(_) => (Cause::Connect, ErrorKind::Unavailable),
            CallError::Refused(_) => (Cause::RefusedStream, ErrorKind::BadUpstream),
            CallError::Reset(_) => (Cause::Reset, ErrorKind::BadUpstream),
        };
        tracing::debug!(error = &error as &dyn std::error::Error, "call failed");
        Self::new(cause, ApiError::new(kind, error.to_string()))
    }

    /// Returns what it means that a reply broke before it was read.
    pub(super) fn reply(broken: upstream::Broken) -> Box<Self> {
        match broken {
            upstream::Broken::Picker(failed) => {
                tracing::debug!(
                    error = &failed as &dyn std::error::Error,
                    "endpoint picker failed"
                );
                Self::new(
                    Cause::Picker,
                    ApiError::new(ErrorKind::Unavailable, failed.to_string()),
                )
            }
            error @ (upstream::Broken::Connection(_)
            | upstream::Broken::Stream(_)
            | upstream::Broken::Quiet(_)
            | upstream::Broken::Request(_)) => Self::broken(&Broken::Cut(error)),
        }
    }

    pub(super) fn broken(broken: &Broken) -> Box<Self> {
        match broken {
            Broken::Cut(error) => {
                tracing::debug!(error = error as &dyn std::error::Error, "reply was cut");
                let error = ApiError::new(ErrorKind::BadUpstream, "the upstream's reply was cut off");
                Self::new(Cause::Reset, error)
            }
            Broken::Coding(fault) => {
                let message = format!("the upstream's reply cannot be decoded: {fault}");
                Self::new(Cause::BadReply, ApiError::bad_reply(message))
            }
        }
    }
}
