//! Claims on counters that lie on several servers, of which no script can decide at once.
//!
//! Each claim is asked for by itself, all at the same time, and what the request would use is held first. Where one of them
//! does not hold, or nobody waits for the answers any longer, what is held is given back; where all do, it is
//! booked behind the request's back. So limits hold as at one server, and others may be refused for the time of one round
//! trip by what a refused request holds. Claims that are only looked at after they were used are used in any case.

use std::{
    slice,
    sync::{Mutex, MutexGuard, PoisonError},
};

use policy::rate_limit::store::{self, Claim, Manner, Settlement, State, Store, StoreError, Vote};

use super::Redis;
use crate::{gather::gather, redis::Link};

/// Decides the claims of a request. Those of servers that are away are unknown, and ask for nothing any longer.
///
/// # Errors
/// If all servers are away.
pub(super) async fn ask(
    redis: &Redis,
    link: &Link,
    claims: &mut [Claim],
    now: u64,
) -> Result<Vec<State>, StoreError> {
    let held = Held {
        redis,
        booked: Mutex::default(),
        now,
    };
    let alone: Vec<Claim> = claims.iter().map(alone).collect();
    let asked = alone.iter().map(|claim| async {
        let mut states = redis.call(link, slice::from_ref(claim), now).await.ok()?;
        let state = states.pop()?;
        held.note(claim, &state);
        Some(state)
    });
    let answers = gather(asked).await;
    if answers.iter().all(Option::is_none) {
        return Err(StoreError::Unreachable);
    }
    let unknown = || State {
        unknown: true,
        ..State::default()
    };
    let mut states: Vec<State> = answers
        .into_iter()
        .map(|state| state.unwrap_or_else(unknown))
        .collect();
    if !store::decide(claims, states.iter().map(|state| state.over)) {
        return Ok(states);
    }
    held.forget();
    let mut used = Vec::new();
    for (claim, state) in claims.iter_mut().zip(&mut states) {
        if state.unknown {
            (claim.charge, claim.hold) = (0, 0);
        } else if claim.manner == Manner::Reserve && claim.charge > 0 {
            used.push(claim.booked(claim.charge, claim.charge));
            state.used = state.used.saturating_add(claim.charge);
            state.held = state.held.saturating_sub(claim.charge);
        }
    }
    redis.settle(used, now);
    Ok(states)
}

/// Returns what is asked of one counter, whatever becomes of the others.
fn alone(claim: &Claim) -> Claim {
    let (charge, hold) = match claim.manner {
        Manner::Reserve => (0, claim.asks()),
        Manner::Check => (claim.charge, claim.hold),
    };
    let vote = match claim.vote {
        Vote::Must => Vote::Must,
        // Which of them hold is known in the end.
        Vote::Any | Vote::Never => Vote::Never,
    };
    Claim {
        charge,
        hold,
        vote,
        ..claim.clone()
    }
}

/// What is held of the claims that are answered. It is given back unless all is well.
struct Held<'a> {
    redis: &'a Redis,
    booked: Mutex<Vec<Settlement>>,
    now: u64,
}

impl Held<'_> {
    fn note(&self, claim: &Claim, state: &State) {
        let refused = claim.vote == Vote::Must && state.over;
        let held = claim.hold.saturating_add(state.granted);
        if !refused && held > 0 {
            self.booked().push(claim.booked(held, 0));
        }
    }

    fn forget(&self) {
        self.booked().clear();
    }

    fn booked(&self) -> MutexGuard<'_, Vec<Settlement>> {
        self.booked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let booked = std::mem::take(&mut *self.booked());
        self.redis.settle(booked, self.now);
    }
}
