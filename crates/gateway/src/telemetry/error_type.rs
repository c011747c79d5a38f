//! What an error is called in logs, metrics and spans (OpenTelemetry, "error.type"): its kind, or more where a provider
//! tells more.

use llm::{ApiError, ErrorKind, Unfit};

/// What went wrong with a request or an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ErrorType {
    pub(crate) kind: ErrorKind,
    /// What the upstream complains of, where it is the prompt.
    unfit: Option<Unfit>,
}

impl ErrorType {
    /// Returns what an error of the gateway's own is called.
    pub(crate) fn own(error: &ApiError) -> Self {
        Self {
            kind: error.kind,
            unfit: None,
        }
    }

    /// Returns what an error is called that an upstream has answered with.
    pub(crate) fn upstreams(error: &ApiError) -> Self {
        let unfit = match error.kind {
            ErrorKind::InvalidRequest
            | ErrorKind::Unprocessable
            | ErrorKind::Permission
            | ErrorKind::TooLarge => error.unfit(),
            ErrorKind::Authentication
            | ErrorKind::Billing
            | ErrorKind::NotFound
            | ErrorKind::MethodNotAllowed
            | ErrorKind::RateLimit
            | ErrorKind::Internal
            | ErrorKind::BadUpstream
            | ErrorKind::BadReply
            | ErrorKind::Unavailable
            | ErrorKind::Timeout
            | ErrorKind::Overloaded => None,
        };
        Self {
            kind: error.kind,
            unfit,
        }
    }

    /// Returns the word for it.
    pub(crate) fn name(self) -> &'static str {
        match self.unfit {
            Some(Unfit::ContextLength) => "context_length",
            Some(Unfit::ContentFilter) => "content_filter",
            Some(Unfit::PreviousAnswer) | None => kind_name(self.kind),
        }
    }
}

/// Returns the word for a kind of error.
pub(crate) fn kind_name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidRequest => "invalid_request",
        ErrorKind::Unprocessable => "unprocessable",
        ErrorKind::Authentication => "authentication",
        ErrorKind::Billing => "billing",
        ErrorKind::Permission => "permission",
        ErrorKind::NotFound => "not_found",
        ErrorKind::MethodNotAllowed => "method_not_allowed",
        ErrorKind::TooLarge => "too_large",
        ErrorKind::RateLimit => "rate_limit",
        ErrorKind::Internal => "internal",
        ErrorKind::BadUpstream => "bad_upstream",
        ErrorKind::BadReply => "bad_reply",
        ErrorKind::Unavailable => "unavailable",
        ErrorKind::Timeout => "timeout",
        ErrorKind::Overloaded => "overloaded",
    }
}
