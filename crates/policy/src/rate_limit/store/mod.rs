//! What is asked of a store of counters, and the answer as arithmetic.
//!
//! A counter belongs to one window of one key. It knows what was used, and what is held for requests that are under
//! way. A request makes a claim on each counter that a rule finds for it; all of them are decided at once, so that
//! nothing is taken from one limit when another refuses. [`Ledger`] is the arithmetic; a store that several
//! processes share does the same where its counters are, and each of them may take a little ahead, in [`lease`].

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use super::window::Span;

pub mod lease;
mod ledger;

pub use self::ledger::{Entry, Ledger, first};

/// A store of counters.
pub trait Store: Send + Sync {
    /// Decides the claims of one request, and books them if it is admitted. The store may take more than they ask
    /// for.
    fn admit<'a>(&'a self, claims: &'a mut [Claim], now: u64) -> Admitting<'a>;

    /// Books what requests have cost in the end. Never waits: what cannot be booked now is booked later.
    fn settle(&self, settlements: Vec<Settlement>, now: u64);
}

/// The answer of a store, which some know at once.
pub enum Admitting<'a> {
    /// It is here, until it is taken.
    Known(Option<Answer>),
    /// It is on its way.
    Asked(Pin<Box<dyn Future<Output = Answer> + Send + 'a>>),
}

/// The counters as they are now, one for each claim.
pub type Answer = Result<Vec<State>, StoreError>;

impl Future for Admitting<'_> {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        match &mut *self {
            Admitting::Known(answer) => Poll::Ready(answer.take().unwrap_or(Err(StoreError::Unreachable))),
            Admitting::Asked(asked) => asked.as_mut().poll(cx),
        }
    }
}

/// A store cannot answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached, or takes too long.
    #[error("the store of counters cannot be reached")]
    Unreachable,
}

/// A counter: one window of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counter {
    /// The key, then the start of the window.
    name: String,
    /// The length of the key.
    key: usize,
    /// The window.
    pub span: Span,
}

impl Counter {
    /// Returns the counter of `key` for the window `span`.
    pub fn new(key: String, span: Span) -> Self {
        let len = key.len();
        let mut name = key;
        name.push_str(itoa::Buffer::new().format(span.start));
        Self { name, key: len, span }
    }

    /// Returns the name under which stores keep it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the key.
    pub fn key(&self) -> &str {
        self.name.get(..self.key).unwrap_or_default()
    }

    /// Returns the counter of the same key for another window.
    pub fn at(&self, span: Span) -> Self {
        let mut key = String::with_capacity(self.name.len());
        key.push_str(self.key());
        Self::new(key, span)
    }
}

/// What a request asks of one counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The rule that makes it.
    pub rule: Arc<str>,
    /// The counter.
    pub counter: Counter,
    /// The window before its own, which counts for as much of it as is not over yet; `None` where windows do not slide.
    pub before: Option<Span>,
    /// How much the window has.
    pub limit: u64,
    /// What is used at once.
    pub charge: u64,
    /// What is held until the request is settled.
    pub hold: u64,
    /// When what is held is given back if the request never is settled, in seconds since the Unix epoch.
    pub due: u64,
    /// What would be held beside it for requests to come, if there is plenty.
    pub ahead: u64,
    /// How it is decided.
    pub manner: Manner,
    /// What the decision is worth.
    pub vote: Vote,
}

/// How a claim is decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manner {
    /// What the request will cost, as far as can be told, must be left. A request that is refused uses nothing.
    #[default]
    Reserve,
    /// It is used first and looked at then; refused requests count too. What an answer costs is used when it is
    /// there, so that requests that run at the same time do not see one another.
    Check,
}

/// What the decision of a claim is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vote {
    /// It must hold.
    Must,
    /// One of these must hold.
    Any,
    /// It is only counted.
    Never,
}

/// A counter, after a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// What was used.
    pub used: u64,
    /// What is held.
    pub held: u64,
    /// What was used and is held of the window before, the whole of it.
    pub before: u64,
    /// What is held for requests to come.
    pub granted: u64,
    /// Whether the claim does not hold.
    pub over: bool,
    /// Whether there is no counter and no room for one: nothing was booked.
    pub unknown: bool,
}

/// What a request has cost in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// The rule that it was claimed by.
    pub rule: Arc<str>,
    /// The counter.
    pub counter: Counter,
    /// Whether its window counts into the one after it.
    pub slides: bool,
    /// How much the window has.
    pub limit: u64,
    /// What was held.
    pub release: u64,
    /// Until when it was held.
    pub due: u64,
    /// What is used in its place.
    pub charge: u64,
}

impl Claim {
    /// Returns the counter of the window before, where that counts.
    pub fn counter_before(&self) -> Option<Counter> {
        self.before.map(|before| self.counter.at(before))
    }

    /// Returns for how many seconds from its start the window is needed.
    pub fn kept(&self) -> u64 {
        kept(self.counter.span, self.before.is_some())
    }

    /// Returns what gives `release` back of what is held, and uses `charge`.
    pub fn booked(&self, release: u64, charge: u64) -> Settlement {
        Settlement {
            rule: Arc::clone(&self.rule),
            counter: self.counter.clone(),
            slides: self.before.is_some(),
            limit: self.limit,
            release,
            due: self.due,
            charge,
        }
    }

    /// Returns how much of the limit the claim wants.
    pub fn asks(&self) -> u64 {
        self.charge.saturating_add(self.hold)
    }

    /// Returns what the claim finds taken already at `now`: what was `used`, what is `held`, and as much of what
    /// the window `before` has had as still counts.
    pub fn taken(&self, used: u64, held: u64, before: u64, now: u64) -> u64 {
        let held = match self.manner {
            Manner::Reserve => held,
            Manner::Check => 0,
        };
        let span = self.counter.span;
        let slid = share(before, span.left(now), span.seconds());
        used.saturating_add(held).saturating_add(slid)
    }

    /// Returns whether the claim does not hold where so much is taken already.
    pub fn is_over(&self, taken: u64) -> bool {
        taken.saturating_add(self.asks()) > self.limit
    }

    /// Returns what is left for others once the claim is granted, where so much was taken before it.
    pub fn left(&self, taken: u64) -> u64 {
        self.limit.saturating_sub(taken.saturating_add(self.asks()))
    }

    /// Returns the seconds after which there is room for the claim, if nobody else asks and all that is held is
    /// used.
    pub fn wait(&self, state: &State, now: u64) -> u64 {
        let span = self.counter.span;
        let (rest, seconds) = (span.left(now), span.seconds());
        if self.before.is_none() {
            return rest.max(1);
        }
        let own = self.taken(state.used, state.held, 0, now);
        let room = self.limit.saturating_sub(self.asks());
        let wait = if own <= room {
            // As soon as enough of the window before is over.
            rest.saturating_sub(share(seconds, room - own, state.before))
        } else {
            // In the window after this one, when enough of this one is over.
            rest + seconds.saturating_sub(share(seconds, room, own))
        };
        wait.max(1)
    }
}

impl Settlement {
    /// Returns for how many seconds from its start the window is needed.
    pub fn kept(&self) -> u64 {
        kept(self.counter.span, self.slides)
    }
}

/// Returns whether a request is admitted, by its claims and whether each is over.
pub fn decide(claims: &[Claim], over: impl Iterator<Item = bool>) -> bool {
    let (mut any, mut one) = (false, false);
    for (claim, over) in claims.iter().zip(over) {
        match claim.vote {
            Vote::Must if over => return false,
            Vote::Any => {
                any = true;
                one |= !over;
            }
            Vote::Must | Vote::Never => {}
        }
    }
    !any || one
}

/// A window that slides is looked at for as long as the next one lasts.
fn kept(span: Span, slides: bool) -> u64 {
    if slides {
        span.seconds() * 2
    } else {
        span.seconds()
    }
}

/// Returns `number * part / whole`, rounded down.
fn share(number: u64, part: u64, whole: u64) -> u64 {
    let share = u128::from(number) * u128::from(part) / u128::from(whole.max(1));
    u64::try_from(share).unwrap_or(u64::MAX)
}

/// Returns what is granted ahead of a claim where `left` is left: nothing, unless a request like it could be served
/// from that.
fn granted(claim: &Claim, left: u64) -> u64 {
    let granted = claim.ahead.min(left / AHEAD_OF);
    if granted < claim.asks() { 0 } else { granted }
}

/// One part in this many of what is left is what a process may hold for requests to come.
pub const AHEAD_OF: u64 = 16;

#[cfg(test)]
mod tests;
