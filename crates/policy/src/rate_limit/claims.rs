//! What a request asks of counters, what it is told of them, and what it owes them.

use std::{fmt::Write as _, sync::Arc};

use http::HeaderName;

use super::{
    Charge, Rule,
    store::{Claim, Manner, Settlement, State, Vote},
    window::{Span, Window},
};
use crate::cost;

/// The claims of a request, in the order of the rules that make them.
#[derive(Debug, Default)]
pub struct Claims<'a> {
    /// What is asked of the store.
    pub claims: Vec<Claim>,
    /// The rules that ask.
    pub rules: Vec<&'a Rule>,
    pub(super) charges: Vec<Option<(Charge, Window)>>,
}

/// What a request owes to counters; it is settled once.
#[derive(Debug, Default)]
#[must_use = "what is held stays held until it is due"]
pub struct Ticket(Vec<Owed>);

#[derive(Debug)]
struct Owed {
    local: bool,
    rule: Arc<str>,
    key: String,
    span: Span,
    limit: u64,
    window: Window,
    hold: u64,
    due: u64,
    manner: Manner,
    charge: Charge,
}

impl<'a> Claims<'a> {
    /// Returns whether no rule is for the request.
    pub fn is_empty(&self) -> bool {
        self.claims.is_empty()
    }

    /// Takes apart what is asked of a store that each gateway has for itself, and of the one that all share.
    pub fn split(self) -> (Self, Self) {
        let (mut local, mut shared) = (Self::default(), Self::default());
        let asked = self.claims.into_iter().zip(self.rules).zip(self.charges);
        for ((claim, rule), charge) in asked {
            let side = if rule.local { &mut local } else { &mut shared };
            side.claims.push(claim);
            side.rules.push(rule);
            side.charges.push(charge);
        }
        (local, shared)
    }

    /// Returns what the request owes once it is admitted.
    pub fn ticket(self) -> Ticket {
        let asked = self.claims.into_iter().zip(self.rules).zip(self.charges);
        Ticket(
            asked
                .filter_map(|((claim, rule), charge)| {
                    let (charge, window) = charge?;
                    Some(Owed {
                        local: rule.local,
                        rule: claim.rule,
                        key: claim.key,
                        span: claim.span,
                        limit: claim.limit,
                        window,
                        hold: claim.hold,
                        due: claim.due,
                        manner: claim.manner,
                        charge,
                    })
                })
                .collect(),
        )
    }

    /// Returns what clients are told of what is left, by the counters as the store has returned them.
    pub fn told(&self, states: &[State], now: u64) -> Option<Told> {
        let counted = self.claims.iter().zip(states);
        let counted = counted.filter(|(claim, _)| claim.vote != Vote::Never);
        let mut limits = String::new();
        let mut tightest: Option<(u64, u64)> = None;
        for (claim, state) in counted.clone() {
            let _ = write!(
                limits,
                ", {};w={}",
                claim.limit,
                claim.span.end - claim.span.start
            );
            let taken = claim.taken(state.used, state.held, state.before, now);
            let left = claim.limit.saturating_sub(taken);
            let reset = claim.span.end.saturating_sub(now);
            if tightest.is_none_or(|(known, _)| left < known) {
                tightest = Some((left, reset));
            }
        }
        let least = counted.map(|(claim, _)| claim.limit).min()?;
        let (remaining, reset) = tightest?;
        Some(Told {
            limit: format!("{least}{limits}"),
            remaining,
            reset,
        })
    }

    /// Returns the seconds after which the limits that have refused the request have room for it, and the first of
    /// their rules; `None` if none has.
    pub fn refused(&self, states: &[State], now: u64) -> Option<(u64, &'a Rule)> {
        let asked = self.claims.iter().zip(states).zip(&self.rules);
        let over = asked.filter(|((claim, state), _)| state.over && claim.vote != Vote::Never);
        let (_, rule) = over.clone().next()?;
        let waits = |vote| {
            let of = over.clone().filter(move |((claim, _), _)| claim.vote == vote);
            of.map(|((claim, state), _)| claim.wait(state, now))
        };
        // All that must hold, and the first of those one of which must.
        let wait = waits(Vote::Must).chain(waits(Vote::Any).min()).max();
        Some((wait.unwrap_or(1), *rule))
    }
}

/// What clients are told of limits (draft-polli-ratelimit-headers-03).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The smallest limit, then each with its window.
    pub limit: String,
    /// What is left of the tightest.
    pub remaining: u64,
    /// Seconds until the tightest begins anew.
    pub reset: u64,
}

impl Told {
    /// Returns the headers and their values.
    pub fn headers(&self) -> [(HeaderName, String); 3] {
        let name = HeaderName::from_static;
        [
            (name("x-ratelimit-limit"), self.limit.clone()),
            (name("x-ratelimit-remaining"), self.remaining.to_string()),
            (name("x-ratelimit-reset"), self.reset.to_string()),
        ]
    }
}

impl Ticket {
    /// Returns whether nothing is owed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds what is owed to other counters.
    pub fn append(&mut self, mut other: Ticket) {
        self.0.append(&mut other.0);
    }

    /// Returns what is booked for a request that has cost `spent`, nothing if it was not served: what is owed to
    /// the store of this gateway, and to the one that all share.
    ///
    /// What was held is used in the window that it was held in. Where nothing was held, the window is the one of
    /// `now`.
    pub fn settle(self, spent: Option<&cost::Subject<'_>>, now: u64) -> (Vec<Settlement>, Vec<Settlement>) {
        let (mut local, mut shared) = (Vec::new(), Vec::new());
        for owed in self.0 {
            let charge = spent.map_or(0, |spent| owed.charge.of(spent));
            if charge == 0 && owed.hold == 0 {
                continue;
            }
            let side = if owed.local { &mut local } else { &mut shared };
            side.push(Settlement {
                rule: owed.rule,
                key: owed.key,
                span: match owed.manner {
                    Manner::Reserve => owed.span,
                    Manner::Check => owed.window.at(now),
                },
                slides: owed.window.slides(),
                limit: owed.limit,
                release: owed.hold,
                due: owed.due,
                charge,
            });
        }
        (local, shared)
    }
}
