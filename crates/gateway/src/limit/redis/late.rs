//! Calls that nobody waits for any longer, and what their answers have booked.
//!
//! A request gives up when its client goes away, or when Redis takes too long. Its call is on its way all the same, and
//! may hold something that nobody would give back. So it is handed to the task, which waits in the request's place.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use policy::rate_limit::store::{self, Claim, Settlement, State};
use redis::RedisError;
use tokio::sync::mpsc;

use super::Job;

/// The longest that an answer is waited for by anyone. What a later one holds is given back when it is due.
pub(super) const PATIENCE: Duration = Duration::from_secs(300);

/// The most calls that are waited for; others are forgotten.
const MAX_LATE: usize = 4096;

/// A call that decides claims, on its way.
pub(super) type Call = Pin<Box<dyn Future<Output = Result<Vec<u64>, RedisError>> + Send>>;

/// The wait of a request for its call. Where it ends before the answer is there, the task goes on with it.
pub(super) struct Waiting<'a> {
    call: Option<Call>,
    claims: &'a [Claim],
    jobs: &'a mpsc::Sender<Job>,
}

/// A call whose request has given up.
pub(super) struct Late {
    call: Call,
    claims: Vec<Claim>,
}

/// All of those.
#[derive(Default)]
pub(super) struct Lates(Vec<Late>);

impl<'a> Waiting<'a> {
    /// Waits for `call`, which decides `claims`; the task takes jobs by `jobs`.
    pub(super) fn new(call: Call, claims: &'a [Claim], jobs: &'a mpsc::Sender<Job>) -> Self {
        Self {
            call: Some(call),
            claims,
            jobs,
        }
    }

    fn hand_over(&mut self) {
        if let Some(call) = self.call.take() {
            let claims = self.claims.to_vec();
            // With so many jobs that there is no room for one, what is held is given back when it is due.
            let _ = self.jobs.try_send(Job::Late(Late { call, claims }));
        }
    }
}

impl Future for Waiting<'_> {
    type Output = Result<Vec<u64>, RedisError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(call) = &mut self.call else {
            return Poll::Pending;
        };
        let answer = std::task::ready!(call.as_mut().poll(cx));
        self.call = None;
        Poll::Ready(answer)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.hand_over();
    }
}

impl Lates {
    /// Waits for one more call.
    pub(super) fn add(&mut self, late: Late) {
        if self.0.len() < MAX_LATE {
            self.0.push(late);
        }
    }

    /// Waits until calls are answered that have booked something, and returns what is to be given back; for ever where
    /// there are none.
    pub(super) async fn next(&mut self) -> Vec<Settlement> {
        poll_fn(|cx| {
            let mut back = Vec::new();
            self.0.retain_mut(|late| match late.call.as_mut().poll(cx) {
                Poll::Pending => true,
                Poll::Ready(answer) => {
                    back.extend(
                        answer
                            .iter()
                            .flat_map(|numbers| given_back(&late.claims, numbers)),
                    );
                    false
                }
            });
            if back.is_empty() {
                Poll::Pending
            } else {
                Poll::Ready(back)
            }
        })
        .await
    }
}

/// Returns the counters as the script has told them, one for each claim; `None` if it has not.
pub(super) fn states(claims: &[Claim], numbers: &[u64]) -> Option<Vec<State>> {
    let states = numbers.chunks(5).map(|state| match state {
        [used, held, before, granted, over] => Some(State {
            used: *used,
            held: *held,
            before: *before,
            granted: *granted,
            over: *over == 1,
            unknown: false,
        }),
        _ => None,
    });
    let states: Option<Vec<State>> = states.collect();
    states.filter(|states| states.len() == claims.len())
}

/// Returns what gives back what was held for a request that has given up.
fn given_back(claims: &[Claim], numbers: &[u64]) -> Vec<Settlement> {
    let states = states(claims, numbers).unwrap_or_default();
    if !store::decide(claims, states.iter().map(|state| state.over)) {
        return Vec::new();
    }
    let held = claims.iter().zip(&states).map(|(claim, state)| {
        let hold = claim.hold.saturating_add(state.granted);
        claim.booked(hold, 0)
    });
    held.filter(|settlement| settlement.release > 0).collect()
}
