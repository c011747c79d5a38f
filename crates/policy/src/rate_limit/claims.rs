//! What a request asks of counters, what it is told of them, and what it owes them.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use super::{
    Charge,
    store::{Claim, Counter, Manner, Settlement, State, Vote},
    switch::Failure,
    window::Window,
};
use crate::cost;

/// The claims of a request, in the order of the rules that make them.
#[derive(Debug, Default)]
pub struct Claims {
    /// What is asked of the store.
    pub claims: Vec<Claim>,
    /// The rules that ask.
    pub askers: Vec<Asker>,
    /// The id of a rule that could not be read: what it would ask is not known, and the request is not let through.
    pub unread: Option<Arc<str>>,
}

/// What a rule that makes a claim says of it.
#[derive(Clone, Debug)]
pub struct Asker {
    /// Whether each gateway counts by itself.
    pub local: bool,
    /// What is done with requests while the store of counters cannot be asked.
    pub failure: Failure,
    /// Whether answers are cut off that go on beyond what is held for them, where nothing is left.
    pub cuts: bool,
    /// What the answer is charged, if anything.
    pub(super) charge: Option<(Charge, Window)>,
}

/// What a request owes to counters; it is settled once. Claims that owe nothing are none of it.
#[derive(Debug, Default)]
#[must_use = "what is held stays held until it is due"]
pub struct Ticket(Claims);

impl Claims {
    /// Returns whether no rule is for the request.
    pub fn is_empty(&self) -> bool {
        self.claims.is_empty()
    }

    /// Adds what is asked of other counters.
    pub fn append(&mut self, mut other: Self) {
        self.claims.append(&mut other.claims);
        self.askers.append(&mut other.askers);
    }

    /// Takes apart what is asked of a store that each gateway has for itself, and of the one that all share.
    pub fn split(self) -> (Self, Self) {
        let locals = self.askers.iter().filter(|asker| asker.local).count();
        if locals == 0 {
            return (Self::default(), self);
        }
        if locals == self.askers.len() {
            return (self, Self::default());
        }
        let (mut local, mut shared) = (Self::default(), Self::default());
        for (claim, asker) in self.claims.into_iter().zip(self.askers) {
            let side = if asker.local { &mut local } else { &mut shared };
            side.push(claim, asker);
        }
        (local, shared)
    }

    /// Returns what the request owes once it is admitted.
    pub fn ticket(self) -> Ticket {
        if self.askers.iter().all(|asker| asker.charge.is_some()) {
            return Ticket(self);
        }
        let mut owed = Claims::default();
        let asked = self.claims.into_iter().zip(self.askers);
        for (claim, asker) in asked.filter(|(_, asker)| asker.charge.is_some()) {
            owed.push(claim, asker);
        }
        Ticket(owed)
    }

    /// Returns what an admitted request has used at once, of counters that requests that are refused use nothing of.
    pub fn used(&self) -> Vec<(Counter, u64)> {
        let charged = self.claims.iter().filter(|claim| claim.charge > 0);
        let charged = charged.filter(|claim| match claim.manner {
            Manner::Reserve => true,
            Manner::Check => false,
        });
        charged
            .map(|claim| (claim.counter.clone(), claim.charge))
            .collect()
    }

    pub(super) fn push(&mut self, claim: Claim, asker: Asker) {
        self.claims.push(claim);
        self.askers.push(asker);
    }

    fn iter(&self) -> impl Iterator<Item = (&Claim, &Asker)> + Clone {
        self.claims.iter().zip(&self.askers)
    }

    /// Returns what clients are told of what is left, by the counters as the store has returned them.
    pub fn told(&self, states: &[State], now: u64) -> Option<Told> {
        let counted = self.claims.iter().zip(states);
        let counted = counted.filter(|(claim, _)| claim.vote != Vote::Never);
        let least = counted.clone().map(|(claim, _)| claim.limit).min()?;
        let mut limit = String::with_capacity(LIMIT);
        let mut digits = itoa::Buffer::new();
        limit.push_str(digits.format(least));
        let mut tightest: Option<(u64, u64)> = None;
        for (claim, state) in counted {
            limit.push_str(", ");
            limit.push_str(digits.format(claim.limit));
            limit.push_str(";w=");
            limit.push_str(digits.format(claim.counter.span.seconds()));
            let taken = claim.taken(state.used, state.held, state.before, now);
            let left = claim.limit.saturating_sub(taken);
            let reset = claim.counter.span.end.saturating_sub(now);
            if tightest.is_none_or(|(known, _)| left < known) {
                tightest = Some((left, reset));
            }
        }
        let (remaining, reset) = tightest?;
        Some(Told {
            limit: HeaderValue::try_from(limit).ok()?,
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
    pub limit: HeaderValue,
    /// What is left of the tightest.
    pub remaining: u64,
    /// Seconds until the tightest begins anew.
    pub reset: u64,
}

impl Told {
    /// The header that is there wherever a client is told what is left.
    pub const HEADER: HeaderName = HeaderName::from_static("x-ratelimit-limit");

    /// Returns the headers and their values.
    pub fn headers(self) -> [(HeaderName, HeaderValue); 3] {
        [
            (Self::HEADER, self.limit),
            (REMAINING_HEADER, self.remaining.into()),
            (RESET_HEADER, self.reset.into()),
        ]
    }
}

const REMAINING_HEADER: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET_HEADER: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// How long the header of a limit is, about.
const LIMIT: usize = 48;

impl Ticket {
    /// Returns whether nothing is owed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds what is owed to other counters.
    pub fn append(&mut self, other: Ticket) {
        self.0.append(other.0);
    }

    /// Returns what an answer that has used `spent` costs, by the last of those whom it is owed to.
    pub fn costs(&self, spent: &cost::Subject<'_>) -> Option<u64> {
        Some(self.0.askers.last()?.costs(spent))
    }

    /// Returns whether an answer may be cut off that goes on beyond what is held for it.
    pub fn cuts(&self) -> bool {
        self.0.askers.iter().any(|asker| asker.cuts)
    }

    /// Returns what has to be held beyond what is, for an answer to go on until the request has cost `spent`.
    pub fn more(&self, spent: &cost::Subject<'_>) -> Claims {
        let mut more = Claims::default();
        // While one of those has something left of which one must, the others only count.
        let lacks = |(claim, asker): (&Claim, &Asker)| asker.costs(spent).saturating_sub(claim.hold);
        let mut any = self.0.iter().filter(|(claim, _)| claim.vote == Vote::Any);
        let spared = any.any(|(claim, asker)| !asker.cuts || lacks((claim, asker)) == 0);
        for (claim, asker) in self.0.iter().filter(|(_, asker)| asker.cuts) {
            let hold = lacks((claim, asker));
            if hold == 0 {
                continue;
            }
            let vote = match claim.vote {
                Vote::Any if spared => Vote::Never,
                vote => vote,
            };
            let claim = Claim {
                charge: 0,
                hold,
                ahead: 0,
                vote,
                ..claim.clone()
            };
            more.push(claim, asker.clone());
        }
        more
    }

    /// Adds what is held beyond what was, as [`Ticket::more`] has asked for it; returns what others have asked for.
    pub fn widen(&mut self, more: Ticket) -> Ticket {
        let mut others = Claims::default();
        for (added, asker) in more.0.claims.into_iter().zip(more.0.askers) {
            let known = self.0.claims.iter_mut().find(|claim| {
                (&claim.rule, &claim.counter, claim.due) == (&added.rule, &added.counter, added.due)
            });
            match known {
                Some(claim) => claim.hold = claim.hold.saturating_add(added.hold),
                None => others.push(added, asker),
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
        for (claim, asker) in self.0.claims.into_iter().zip(self.0.askers) {
            let charge = spent.map_or(0, |spent| asker.costs(spent));
            if charge == 0 && claim.hold == 0 {
                continue;
            }
            let Some((_, window)) = &asker.charge else {
                continue;
            };
            let side = if asker.local { &mut local } else { &mut shared };
            side.push(Settlement {
                rule: claim.rule,
                slides: window.slides(),
                counter: match claim.manner {
                    Manner::Reserve => claim.counter,
                    Manner::Check => claim.counter.at(window.at(now)),
                },
                limit: claim.limit,
                release: claim.hold,
                due: claim.due,
                charge,
            });
        }
        (local, shared)
    }
}

impl Asker {
    /// Returns what is charged for an answer that has used `spent`.
    fn costs(&self, spent: &cost::Subject<'_>) -> u64 {
        self.charge.as_ref().map_or(0, |(charge, _)| charge.of(spent))
    }
}
