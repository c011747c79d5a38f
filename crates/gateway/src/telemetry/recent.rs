//! Which sessions are in use: those of late, and those whose streams are open. A process that keeps no sessions knows
//! them by their use alone.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// What stands for a session.
type Name = [u8; 16];

/// A session counts for so long after a request, and for twice that at most.
const LATELY: Duration = Duration::from_secs(5 * 60);

/// The most sessions that are told apart in that time.
const MAX_NAMES: usize = 65_536;

/// Sessions that are in use.
pub(crate) struct Recent(Mutex<Names>);

struct Names {
    now: HashSet<Name>,
    before: HashSet<Name>,
    open: HashSet<Name>,
    turned: Instant,
}

impl Default for Recent {
    fn default() -> Self {
        Self(Mutex::new(Names {
            now: HashSet::new(),
            before: HashSet::new(),
            open: HashSet::new(),
            turned: Instant::now(),
        }))
    }
}

impl Recent {
    /// Takes note of a request.
    pub(crate) fn used(&self, name: Name) {
        let mut names = self.names(Instant::now());
        if names.now.len() < MAX_NAMES {
            names.now.insert(name);
        }
    }

    /// Takes note of the stream of a session: that it is open, or is not any more.
    pub(crate) fn listened(&self, name: Name, open: bool) {
        let mut names = self.names(Instant::now());
        if !open {
            names.open.remove(&name);
        } else if names.open.len() < MAX_NAMES {
            names.open.insert(name);
        }
    }

    /// Takes note of the end of a session.
    pub(crate) fn ended(&self, name: &Name) {
        let mut names = self.names(Instant::now());
        names.now.remove(name);
        names.before.remove(name);
    }

    /// Returns how many there are.
    pub(crate) fn count(&self) -> usize {
        self.count_at(Instant::now())
    }

    fn count_at(&self, now: Instant) -> usize {
        let names = self.names(now);
        let before = names.before.difference(&names.now).count();
        let open = names.open.iter();
        let only_open = open.filter(|name| !names.now.contains(*name) && !names.before.contains(*name));
        names.now.len() + before + only_open.count()
    }

    fn names(&self, now: Instant) -> MutexGuard<'_, Names> {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let age = now.saturating_duration_since(names.turned);
        if age >= LATELY {
            names.before = std::mem::take(&mut names.now);
            if age >= LATELY * 2 {
                names.before = HashSet::new();
            }
            names.turned = now;
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_count_while_they_are_used() {
        let recent = Recent::default();
        let later = |count: u32| Instant::now() + LATELY * count + Duration::from_secs(1);
        recent.used([1; 16]);
        recent.used([1; 16]);
        recent.used([2; 16]);
        assert_eq!(recent.count(), 2);
        recent.ended(&[2; 16]);
        recent.listened([1; 16], true);
        recent.listened([3; 16], true);
        assert_eq!(recent.count(), 2);
        assert_eq!(recent.count_at(later(1)), 2, "a while ago");
        assert_eq!(recent.count_at(later(3)), 2, "streams are open");
        recent.listened([3; 16], false);
        assert_eq!(recent.count_at(later(3)), 1);
        recent.listened([1; 16], false);
        assert_eq!(recent.count_at(later(3)), 0);
    }
}
