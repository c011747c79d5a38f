//! What a request asks of counters, what it is told of them, and what it owes them.

use std::{fmt::Write as _, sync::Arc};

use http::HeaderName;

use super::{
    Charge,
    store::{Claim, Manner, Settlement, State, Vote},
    switch::Failure,
    window::{Span, Window},
};
use crate::cost;

/// The claims of a request, in the order of the rules that make them.
#[derive(Debug, Default)]
pub struct Claims {
    /// What is asked of the store.
    pub claims: Vec<Claim>,
    /// The rules that ask.
    pub askers: Vec<Asker>,
    pub(super) charges: Vec<Option<(Charge, Window)>>,
}

/// What a rule that makes a claim says of it.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    /// Whether each gateway counts by itself.
    pub local: bool,
    /// What is done with requests while the store of counters cannot be asked.
    pub failure: Failure,
    /// Whether answers are cut off that go on beyond what is held for them, where nothing is left.
    pub cuts: bool,
}

/// What a request owes to counters; it is settled once.
#[derive(Debug, Default)]
#[must_use = "what is held stays held until it is due"]
pub struct Ticket(Vec<Owed>);

#[derive(Debug)]
struct Owed {
    asker: Asker,
    rule: Arc<str>,
    key: String,
    span: Span,
    limit: u64,
    window: Window,
    hold: u64,
    due: u64,
    manner: Manner,
    vote: Vote,
    charge: Charge,
}

impl Claims {
    /// Returns whether no rule is for the request.
    pub fn is_empty(&self) -> bool {
        self.claims.is_empty()
    }

    /// Adds what is asked of other counters.
    pub fn append(&mut self, mut other: Self) {
        self.claims.append(&mut other.claims);
        self.askers.append(&mut other.askers);
        self.charges.append(&mut other.charges);
    }

    /// Takes apart what is asked of a store that each gateway has for itself, and of the one that all share.
    pub fn split(self) -> (Self, Self) {
        let (mut local, mut shared) = (Self::default(), Self::default());
        let asked = self.claims.into_iter().zip(self.askers).zip(self.charges);
        for ((claim, asker), charge) in asked {
            let side = if asker.local { &mut local } else { &mut shared };
            side.claims.push(claim);
            side.askers.push(asker);
            side.charges.push(charge);
        }
        (local, shared)
    }

    /// Returns what the request owes once it is admitted.
    pub fn ticket(self) -> Ticket {
        let asked = self.claims.into_iter().zip(self.askers).zip(self.charges);
        Ticket(
            asked
                .filter_map(|((claim, asker), charge)| {
                    let (charge, window) = charge?;
                    Some(Owed {
                        asker,
                        rule: claim.rule,
                        key: claim.key,
                        span: claim.span,
                        limit: claim.limit,
                        window,
                        hold: claim.hold,
                        due: claim.due,
                        manner: claim.manner,
                        vote: claim.vote,
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

    /// Returns the seconds after which the limits that have refused the request have room for it, and the id
    /// of the first of their rules; `None` if none has.
    pub fn refused(&self, states: &[State], now: u64) -> Option<(u64, &Arc<str>)> {
        let asked = self.claims.iter().zip(states);
        let over = asked.filter(|(claim, state)| state.over && claim.vote != Vote::Never);
        let (first, _) = over.clone().next()?;
        let waits = |vote| {
            let of = over.clone().filter(move |(claim, _)| claim.vote == vote);
            of.map(|(claim, state)| claim.wait(state, now))
        };
        // All that must hold, and the first of those one of which must.
        let wait = waits(Vote::Must).chain(waits(Vote::Any).min()).max();
        Some((wait.unwrap_or(1), &first.rule))
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

    /// Returns whether an answer may be cut off that goes on beyond what is held for it.
    pub fn cuts(&self) -> bool {
        self.0.iter().any(|owed| owed.asker.cuts)
    }

    /// Returns what has to be held beyond what is, for an answer to go on until the request has cost `spent`.
    pub fn more(&self, spent: &cost::Subject<'_>) -> Claims {
        let mut more = Claims::default();
        // While one of those has something left of which one must, the others only count.
        let lacks = |owed: &Owed| owed.charge.of(spent).saturating_sub(owed.hold);
        let mut any = self.0.iter().filter(|owed| owed.vote == Vote::Any);
        let spared = any.any(|owed| !owed.asker.cuts || lacks(owed) == 0);
        for owed in self.0.iter().filter(|owed| owed.asker.cuts) {
            let hold = lacks(owed);
            if hold == 0 {
                continue;
            }
            more.claims.push(Claim {
                rule: Arc::clone(&owed.rule),
                key: owed.key.clone(),
                span: owed.span,
                before: owed.window.before(owed.span),
                limit: owed.limit,
                charge: 0,
                hold,
                due: owed.due,
                ahead: 0,
                manner: owed.manner,
                vote: match owed.vote {
                    Vote::Any if spared => Vote::Never,
                    vote => vote,
                },
            });
            more.askers.push(owed.asker);
            more.charges
                .push(Some((owed.charge.clone(), owed.window.clone())));
        }
        more
    }

    /// Adds what is held beyond what was, as [`Ticket::more`] has asked for it; returns what others have asked for.
    pub fn widen(&mut self, more: Ticket) -> Ticket {
        let mut others = Vec::new();
        for added in more.0 {
            let known = self.0.iter_mut().find(|owed| {
                (&owed.rule, &owed.key, owed.span, owed.due)
                    == (&added.rule, &added.key, added.span, added.due)
            });
            match known {
                Some(owed) => owed.hold = owed.hold.saturating_add(added.hold),
                None => others.push(added),
            }
        }
        Ticket(others)
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
            let side = if owed.asker.local { &mut local } else { &mut shared };
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
