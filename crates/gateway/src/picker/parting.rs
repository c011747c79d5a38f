//! Conversations in which all is said: each is kept until the picker has hung up too, so that it is not told that somebody
//! broke off. Nobody waits for that.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::talk::Talk;

/// The most conversations that are kept; the oldest gives way.
const MAX_KEPT: usize = 256;

/// How long a picker may take to hang up.
const PATIENCE: Duration = Duration::from_secs(5);

/// Conversations in which all is said.
#[derive(Default)]
pub(crate) struct Parting(Mutex<VecDeque<(Instant, Talk)>>);

impl Parting {
    /// Keeps a conversation until it is over.
    pub(super) fn keep(&self, talk: Talk) {
        let mut kept = self.tidied();
        if kept.len() >= MAX_KEPT {
            kept.pop_front();
        }
        kept.push_back((Instant::now(), talk));
    }

    /// Lets go of what is over, or has taken too long.
    pub(crate) fn prune(&self) {
        drop(self.tidied());
    }

    fn tidied(&self) -> MutexGuard<'_, VecDeque<(Instant, Talk)>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain_mut(|(since, talk)| since.elapsed() < PATIENCE && !talk.is_over());
        kept
    }
}
