//! Why a backend brought no reply, and what the client is told of it.

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use policy::traffic::retry::Failure;
use tracing::debug;

use super::{TEXT, text};
use crate::{
    headers, picker,
    refusal::{Answer, Content},
    upstream::CallError,
};

/// Why a backend brought no reply.
#[derive(Debug)]
pub(super) enum Failed {
    /// The call did not come about, or broke off.
    Call(CallError),
    /// The backend is asked too much at once already.
    Overflow,
    /// The attempt took too long.
    Timeout,
    /// The request as a whole took too long.
    Deadline,
    /// The picker that was to see the reply failed.
    Picker(picker::Failed),
    /// The client fell silent.
    Silent,
    /// The request is larger than a policy lets it be.
    TooLarge,
    /// The client broke off, or sent what is no body.
    Broken,
}

impl Failed {
    /// Returns the failure, in the words of the table that says what comes of it.
    pub(super) fn failure(&self) -> Failure {
        match self {
            Failed::Call(CallError::Connect(_)) => Failure::Connect,
            Failed::Call(CallError::Refused(_)) => Failure::RefusedStream,
            Failed::Call(CallError::Reset(_)) => Failure::Reset,
            Failed::Overflow => Failure::Overflow,
            Failed::Timeout => Failure::Timeout,
            Failed::Deadline => Failure::Deadline,
            // The backend has answered: it is not asked to do it again.
            Failed::Picker(_) => Failure::Deadline,
            Failed::Silent | Failed::TooLarge | Failed::Broken => Failure::Client,
        }
    }

    /// Returns the word for metrics.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Failed::Call(CallError::Connect(_)) => "connect",
            Failed::Call(CallError::Refused(_)) => "refused_stream",
            Failed::Call(CallError::Reset(_)) => "reset",
            Failed::Overflow => "overflow",
            Failed::Timeout => "timeout",
            Failed::Deadline => "deadline",
            Failed::Picker(_) => "picker",
            Failed::Silent | Failed::TooLarge | Failed::Broken => "client",
        }
    }

    /// Returns the status of the answer.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Failed::Call(CallError::Connect(_)) | Failed::Overflow | Failed::Picker(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Failed::Call(CallError::Refused(_) | CallError::Reset(_)) => StatusCode::BAD_GATEWAY,
            Failed::Timeout | Failed::Deadline => StatusCode::GATEWAY_TIMEOUT,
            Failed::Silent => StatusCode::REQUEST_TIMEOUT,
            Failed::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Failed::Broken => StatusCode::BAD_REQUEST,
        }
    }

    /// Returns what the client is told.
    pub(super) fn into_answer(self) -> Answer {
        let status = self.status();
        let message = match self {
            Failed::Call(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                debug!(%error, cause, "no reply");
                let mut answer = text(status, "");
                answer.headers.insert(header::CONTENT_TYPE, TEXT);
                answer.content = Content::Whole(Bytes::from(format!("{error}\n")));
                return answer;
            }
            Failed::Overflow => {
                let mut answer = text(status, "the backend is asked too much at once");
                let yes = HeaderValue::from_static("true");
                answer.headers.insert(headers::OVERLOADED, yes);
                return answer;
            }
            Failed::Picker(failed) => {
                debug!(
                    error = &failed as &dyn std::error::Error,
                    "endpoint picker failed"
                );
                "the endpoint picker failed"
            }
            Failed::Timeout | Failed::Deadline => "upstream request timeout",
            Failed::Silent => "the request did not arrive in time",
            Failed::TooLarge => "the request body is too large",
            Failed::Broken => "the request body is malformed or was broken off",
        };
        text(status, message)
    }
}
