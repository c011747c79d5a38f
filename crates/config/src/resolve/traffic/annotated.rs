//! What annotations of a policy say, beyond what its kind can.

use std::time::Duration;

use policy::rate_limit::Switches;
use policy::traffic::{Also, Balance, Lossy, Naming, balance::HashKey};

use super::super::metering;
use crate::{
    kind::{BackendTrafficPolicy, Duration as Written},
    resources::Declared,
};

/// What annotations say.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Annotated {
    pub(super) balance: Option<Balance>,
    pub(super) also: Option<Also>,
    pub(super) first_event: Option<Duration>,
    pub(super) trusts_order: Option<bool>,
    pub(super) tells_attempts: Option<bool>,
    pub(super) lossy: Option<Lossy>,
    pub(super) naming: Option<Naming>,
    pub(super) switches: Switches,
}

impl Annotated {
    pub(super) fn of(policy: &Declared<BackendTrafficPolicy>) -> Self {
        let mut annotated = Self::default();
        for (name, value) in &policy.metadata.annotations {
            // What cannot be read has been reported.
            let _ = annotated.read(name, value);
        }
        annotated
    }

    /// Reads one annotation; those of others say nothing.
    pub(super) fn read(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            BALANCE => {
                self.balance = Some(match value {
                    "latency" => Balance::Latency,
                    "prefix" => Balance::Consistent(HashKey::Prefix),
                    _ => return Err("expected \"latency\" or \"prefix\"".to_owned()),
                });
            }
            RETRY_ON => {
                let mut also = Also::default();
                for word in value.split(',').map(str::trim) {
                    match word {
                        "context-length" => also.context_length = true,
                        "content-filter" => also.content_filter = true,
                        _ => return Err("expected \"context-length\", \"content-filter\" or both".to_owned()),
                    }
                }
                self.also = Some(also);
            }
            FIRST_EVENT => {
                let written = Written::parse(value);
                let written = written.ok_or_else(|| "expected a duration such as 5s".to_owned())?;
                self.first_event = written.limit();
            }
            FALLBACK_HEADER => {
                if value != "trusted" {
                    return Err("expected \"trusted\"".to_owned());
                }
                self.trusts_order = Some(true);
            }
            ATTEMPT_HEADERS => match value {
                "true" => self.tells_attempts = Some(true),
                "false" => self.tells_attempts = Some(false),
                _ => return Err("expected \"true\" or \"false\"".to_owned()),
            },
            LOSSES => {
                self.lossy = Some(match value {
                    "tell" => Lossy::Told,
                    "hide" => Lossy::Untold,
                    "refuse" => Lossy::Refused,
                    _ => return Err("expected \"tell\", \"hide\" or \"refuse\"".to_owned()),
                });
            }
            NAMING => {
                self.naming = Some(match value {
                    "client" => Naming::Client,
                    "upstream" => Naming::Upstream,
                    _ => return Err("expected \"client\" or \"upstream\"".to_owned()),
                });
            }
            _ if metering::SWITCHES.contains(&name) => metering::switch(&mut self.switches, name, value)?,
            _ if name.starts_with(OURS) => {
                let known = [ANNOTATIONS, metering::SWITCHES].concat();
                return Err(format!("unknown; known are {}", known.join(", ")));
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn or(self, lower: Self) -> Self {
        Self {
            balance: self.balance.or(lower.balance),
            also: self.also.or(lower.also),
            first_event: self.first_event.or(lower.first_event),
            trusts_order: self.trusts_order.or(lower.trusts_order),
            tells_attempts: self.tells_attempts.or(lower.tells_attempts),
            lossy: self.lossy.or(lower.lossy),
            naming: self.naming.or(lower.naming),
            switches: if self.switches == Switches::default() {
                lower.switches
            } else {
                self.switches
            },
        }
    }
}

/// What our annotations begin with.
const OURS: &str = "tollgate.dev/";

/// Chooses by what the kind has no word for: `latency` or `prefix`.
pub(super) const BALANCE: &str = "tollgate.dev/balance";

/// Names failures that are tried elsewhere only on demand.
const RETRY_ON: &str = "tollgate.dev/retry-on";

/// Limits the wait for the first event of a stream, apart from that for the next one.
const FIRST_EVENT: &str = "tollgate.dev/first-event-timeout";

/// Says that `x-ai-eg-fallback` comes from somebody who may say whom to ask.
const FALLBACK_HEADER: &str = "tollgate.dev/fallback-header";

/// Says that answers tell the number of attempts and the upstream.
const ATTEMPT_HEADERS: &str = "tollgate.dev/attempt-headers";

/// Says what becomes of requests that an upstream's format cannot say in full.
const LOSSES: &str = "tollgate.dev/losses";

/// Says what answers call the model where a route names another than the client.
const NAMING: &str = "tollgate.dev/model-name";

const ANNOTATIONS: &[&str] = &[
    BALANCE,
    RETRY_ON,
    FIRST_EVENT,
    FALLBACK_HEADER,
    ATTEMPT_HEADERS,
    LOSSES,
    NAMING,
];

/// Those that mean nothing where no model answers.
pub(super) const OF_MODELS: &[&str] = &[RETRY_ON, FIRST_EVENT, FALLBACK_HEADER, ATTEMPT_HEADERS, LOSSES];
