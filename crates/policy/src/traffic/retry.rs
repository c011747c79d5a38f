//! What triggers another attempt: one table, which the documentation repeats and a test holds it to.

use std::time::Duration;

use super::health::Fared;

/// How an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The connection cannot be made, TLS included.
    Connect,
    /// The upstream is asked too much at once already.
    Overflow,
    /// An HTTP/2 upstream refused the request unseen.
    RefusedStream,
    /// The connection broke before the reply was whole, or had begun.
    Reset,
    /// The attempt took too long, or said nothing for too long.
    Timeout,
    /// Status 502, 503 or 504, or an error event that stands for one.
    GatewayStatus,
    /// Another status from 500, or an error event that stands for one.
    ServerStatus,
    /// Status 408 or 429, or an error event that stands for one.
    Busy,
    /// Status 409.
    Conflict,
    /// Another 4xx.
    ClientStatus,
    /// A reply that cannot be understood, or another form than was asked for.
    BadReply,
    /// The prompt is too long for the model.
    ContextLength,
    /// The provider's filter refused prompt or answer.
    ContentFilter,
    /// The request goes on from an answer that the provider does not have.
    PreviousAnswer,
    /// The request cannot be said in the upstream's format.
    Unsayable,
    /// The upstream is not usable: its key or certificate is missing, say.
    Unresolved,
    /// The request's own time limit passed.
    Deadline,
    /// The client's own form is at fault, or did not come to its end.
    Client,
}

/// What a policy may name as a reason for another attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trigger {
    /// `5xx`
    ServerErrors,
    /// `gateway-error`
    GatewayErrors,
    /// `reset`
    Reset,
    /// `reset-before-request`
    ResetBeforeRequest,
    /// `connect-failure`
    ConnectFailure,
    /// `retriable-4xx`
    Retriable4xx,
    /// `refused-stream`
    RefusedStream,
    /// `retriable-status-codes`
    StatusCodes,
    /// `cancelled`, a status of gRPC
    Cancelled,
    /// `deadline-exceeded`, a status of gRPC
    DeadlineExceeded,
    /// `internal`, a status of gRPC
    Internal,
    /// `resource-exhausted`, a status of gRPC
    ResourceExhausted,
    /// `unavailable`, a status of gRPC
    Unavailable,
}

/// One failure and what comes of it.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The failure.
    pub failure: Failure,
    /// The failure in the documentation's words.
    pub words: &'static str,
    /// When another upstream is asked.
    pub when: When,
    /// What the client gets where there is none.
    pub alone: &'static str,
}

/// When another upstream is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Whatever a policy says: the upstream was not asked anything.
    Always,
    /// Without a policy's `retry`, and with one that names any of these triggers.
    Usually(&'static [Trigger]),
    /// Only with a policy that names any of these triggers.
    If(&'static [Trigger]),
    /// Only where an annotation demands it.
    OnDemand,
    /// Never.
    Never,
}

/// What triggers another attempt, before anything meaningful was said.
pub const TABLE: &[Row] = &[
    Row {
        failure: Failure::Connect,
        words: "the connection cannot be made, or the TLS handshake fails",
        when: When::Usually(&[
            Trigger::ConnectFailure,
            Trigger::ServerErrors,
            Trigger::GatewayErrors,
            Trigger::Reset,
        ]),
        alone: "503",
    },
    Row {
        failure: Failure::Overflow,
        words: "a circuit breaker is open",
        when: When::Usually(&[
            Trigger::ConnectFailure,
            Trigger::ServerErrors,
            Trigger::GatewayErrors,
            Trigger::Reset,
        ]),
        alone: "503",
    },
    Row {
        failure: Failure::RefusedStream,
        words: "an HTTP/2 upstream refuses the request unseen",
        when: When::Usually(&[Trigger::RefusedStream, Trigger::ServerErrors, Trigger::Reset]),
        alone: "502",
    },
    Row {
        failure: Failure::Reset,
        words: "the connection is reset or closed before the reply, within a reply that is not streamed, or before \
                the first meaningful event",
        when: When::Usually(&[Trigger::Reset, Trigger::ServerErrors]),
        alone: "502",
    },
    Row {
        failure: Failure::Timeout,
        words: "`perRetry.timeout`, `backendRequest` or the limit for the first event passes",
        when: When::Usually(&[Trigger::Reset, Trigger::ServerErrors, Trigger::GatewayErrors]),
        alone: "504",
    },
    Row {
        failure: Failure::GatewayStatus,
        words: "502, 503, 504, or an error event that stands for one",
        when: When::Usually(&[Trigger::ServerErrors, Trigger::GatewayErrors]),
        alone: "that status, with the provider's `retry-after`",
    },
    Row {
        failure: Failure::ServerStatus,
        words: "another 5xx, or any other error event before anything meaningful",
        when: When::Usually(&[Trigger::ServerErrors]),
        alone: "that status",
    },
    Row {
        failure: Failure::Busy,
        words: "408 or 429, or an error event that stands for one",
        when: When::Usually(&[]),
        alone: "that status, with the provider's `retry-after`",
    },
    Row {
        failure: Failure::Conflict,
        words: "409",
        when: When::If(&[Trigger::Retriable4xx]),
        alone: "409",
    },
    Row {
        failure: Failure::ClientStatus,
        words: "any other 4xx",
        when: When::If(&[]),
        alone: "that status",
    },
    Row {
        failure: Failure::BadReply,
        words: "a reply that cannot be understood, or another form than was asked for",
        when: When::Usually(&[Trigger::ServerErrors, Trigger::GatewayErrors]),
        alone: "502",
    },
    Row {
        failure: Failure::ContextLength,
        words: "the prompt is too long for the model",
        when: When::OnDemand,
        alone: "the provider's status",
    },
    Row {
        failure: Failure::ContentFilter,
        words: "the provider's filter refuses the prompt, or the whole answer",
        when: When::OnDemand,
        alone: "the provider's answer",
    },
    Row {
        failure: Failure::PreviousAnswer,
        words: "the provider does not have the answer that `previous_response_id` names",
        when: When::Always,
        alone: "the provider's status",
    },
    Row {
        failure: Failure::Unsayable,
        words: "the request cannot be said in the backend's format",
        when: When::Always,
        alone: "422",
    },
    Row {
        failure: Failure::Unresolved,
        words: "the backend is not usable: its key or certificate is missing, say",
        when: When::Always,
        alone: "500",
    },
    Row {
        failure: Failure::Deadline,
        words: "the request's own time limit passes",
        when: When::Never,
        alone: "504",
    },
    Row {
        failure: Failure::Client,
        words: "the client's form is at fault, or breaks off",
        when: When::Never,
        alone: "400 or 408",
    },
];

/// The names of triggers.
pub const TRIGGERS: &[(&str, Trigger)] = &[
    ("5xx", Trigger::ServerErrors),
    ("gateway-error", Trigger::GatewayErrors),
    ("reset", Trigger::Reset),
    ("reset-before-request", Trigger::ResetBeforeRequest),
    ("connect-failure", Trigger::ConnectFailure),
    ("retriable-4xx", Trigger::Retriable4xx),
    ("refused-stream", Trigger::RefusedStream),
    ("retriable-status-codes", Trigger::StatusCodes),
    ("cancelled", Trigger::Cancelled),
    ("deadline-exceeded", Trigger::DeadlineExceeded),
    ("internal", Trigger::Internal),
    ("resource-exhausted", Trigger::ResourceExhausted),
    ("unavailable", Trigger::Unavailable),
];

/// When and how often another attempt is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Attempts after the first.
    pub retries: u32,
    /// Attempts at one priority before the next one is asked; 0 for one to each of its upstreams.
    pub per_priority: u32,
    /// What is tried again.
    pub triggers: Vec<Trigger>,
    /// Statuses that are tried again, with [`Trigger::StatusCodes`].
    pub statuses: Vec<u16>,
    /// How long an attempt may take to begin its answer.
    pub timeout: Option<Duration>,
    /// What the wait between attempts grows from.
    pub base: Duration,
    /// What it grows to.
    pub max: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            retries: 2,
            per_priority: 0,
            triggers: vec![
                Trigger::ConnectFailure,
                Trigger::RefusedStream,
                Trigger::Unavailable,
                Trigger::Cancelled,
                Trigger::StatusCodes,
            ],
            statuses: vec![503],
            timeout: None,
            base: Duration::from_millis(25),
            max: Duration::from_millis(250),
        }
    }
}

impl Retry {
    /// Returns whether `failure`, for which `status` stands, is tried again.
    pub fn covers(&self, failure: Failure, status: u16) -> bool {
        let named = |triggers: &[Trigger]| triggers.iter().any(|trigger| self.triggers.contains(trigger));
        let listed = || self.triggers.contains(&Trigger::StatusCodes) && self.statuses.contains(&status);
        match failure.when() {
            When::Always => true,
            When::Usually(triggers) | When::If(triggers) => named(triggers) || listed(),
            When::OnDemand => listed(),
            When::Never => false,
        }
    }

    /// Returns whether a reply is tried again that has this status of gRPC (gRPC, "status codes").
    pub fn covers_rpc(&self, status: &str) -> bool {
        let trigger = match status {
            "1" => Trigger::Cancelled,
            "4" => Trigger::DeadlineExceeded,
            "8" => Trigger::ResourceExhausted,
            "13" => Trigger::Internal,
            "14" => Trigger::Unavailable,
            _ => return false,
        };
        self.triggers.contains(&trigger)
    }

    /// Returns how long to wait before retry `count`, from 1: a share, by `random` from 0 to 1, of a bound that
    /// doubles.
    pub fn wait(&self, count: u32, random: f64) -> Duration {
        let factor = 1_u32.checked_shl(count).map_or(u32::MAX, |power| power - 1);
        let bound = self.base.saturating_mul(factor).min(self.max);
        bound.mul_f64(random.clamp(0.0, 1.0))
    }
}

impl Failure {
    /// Returns the failure that a status amounts to.
    pub fn of_status(status: u16) -> Self {
        match status {
            502..=504 => Failure::GatewayStatus,
            500..=599 => Failure::ServerStatus,
            408 | 429 => Failure::Busy,
            409 => Failure::Conflict,
            400..=499 => Failure::ClientStatus,
            _ => Failure::BadReply,
        }
    }

    /// Returns when another upstream is asked.
    pub fn when(self) -> When {
        let row = TABLE.iter().find(|row| row.failure == self);
        row.map_or(When::Never, |row| row.when)
    }

    /// Returns what an attempt that failed so tells of its upstream's health; `None` if it did not get there.
    pub fn fared(self) -> Option<Fared> {
        match self {
            Failure::Connect | Failure::Reset | Failure::Timeout | Failure::Deadline => {
                Some(Fared::LocalFailure)
            }
            Failure::GatewayStatus | Failure::BadReply => Some(Fared::GatewayError),
            Failure::ServerStatus => Some(Fared::ServerError),
            Failure::Busy
            | Failure::Conflict
            | Failure::ClientStatus
            | Failure::ContextLength
            | Failure::ContentFilter
            | Failure::PreviousAnswer => Some(Fared::Well),
            Failure::RefusedStream
            | Failure::Overflow
            | Failure::Unsayable
            | Failure::Unresolved
            | Failure::Client => None,
        }
    }

    /// Returns whether another upstream is asked where no policy says anything.
    pub fn usually(self) -> bool {
        match self.when() {
            When::Always | When::Usually(_) => true,
            When::If(_) | When::OnDemand | When::Never => false,
        }
    }
}

impl Trigger {
    /// Returns the trigger that is called `name`.
    pub fn parse(name: &str) -> Option<Self> {
        let found = TRIGGERS.iter().find(|(known, _)| *known == name);
        found.map(|(_, trigger)| *trigger)
    }

    /// Returns what the trigger is called.
    pub fn name(self) -> &'static str {
        let found = TRIGGERS.iter().find(|(_, trigger)| *trigger == self);
        found.map_or("", |(name, _)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_has_one_row() {
        for row in TABLE {
            let rows = TABLE.iter().filter(|other| other.failure == row.failure);
            assert_eq!(rows.count(), 1, "{:?}", row.failure);
        }
    }

    #[track_caller]
    fn check(triggers: &[&str], statuses: &[u16], covered: &[u16]) {
        let retry = Retry {
            triggers: triggers.iter().filter_map(|name| Trigger::parse(name)).collect(),
            statuses: statuses.to_vec(),
            ..Retry::default()
        };
        let found: Vec<u16> = [400, 408, 409, 429, 500, 501, 502, 503, 504, 529]
            .into_iter()
            .filter(|status| retry.covers(Failure::of_status(*status), *status))
            .collect();
        assert_eq!(found, covered, "{triggers:?} {statuses:?}");
    }

    #[test]
    fn triggers_name_statuses() {
        check(&[], &[500], &[]);
        check(&["5xx"], &[], &[500, 501, 502, 503, 504, 529]);
        check(&["gateway-error"], &[], &[502, 503, 504]);
        check(&["retriable-4xx"], &[], &[409]);
        check(&["retriable-status-codes"], &[429, 500], &[429, 500]);
        check(&["connect-failure", "reset"], &[500], &[]);
        check(&["cancelled", "unavailable"], &[500], &[]);
    }

    #[test]
    fn waits_grow_up_to_a_bound() {
        let retry = Retry::default();
        let waits: Vec<u128> = (1..6).map(|count| retry.wait(count, 1.0).as_millis()).collect();
        assert_eq!(waits, [25, 75, 175, 250, 250]);
        assert_eq!(retry.wait(3, 0.0), Duration::ZERO);
        assert_eq!(retry.wait(u32::MAX, 1.0).as_millis(), 250);
    }
}
