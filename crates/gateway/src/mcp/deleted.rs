//! Sessions that their clients have deleted: their tokens open nothing any longer, until they would have ended.

use std::collections::{BTreeSet, HashMap};

use super::sessions::Fingerprint;

/// The most that are remembered; of more, those whose tokens end first are forgotten.
pub(super) const MAX_DELETED: usize = 262_144;

/// The longest that one is remembered, in seconds: 30 days.
pub(super) const LONGEST: u64 = 30 * 86_400;

/// Returns until when a session is remembered whose token ends at `end`: tokens of the compatibility specification's
/// form do not.
pub(super) fn end(end: Option<u64>, now: u64) -> u64 {
    let longest = now.saturating_add(LONGEST);
    end.map_or(longest, |end| end.min(longest))
}

/// Deleted sessions, and when their tokens end.
#[derive(Default)]
pub(super) struct Deleted {
    ends: HashMap<Fingerprint, u64>,
    first_to_end: BTreeSet<(u64, Fingerprint)>,
}

impl Deleted {
    /// Remembers `session` until `end`, and forgets those that have ended at `now`; both in seconds since the Unix
    /// epoch.
    pub(super) fn add(&mut self, session: Fingerprint, end: u64, now: u64) {
        while let Some((ends, ended)) = self.first_to_end.first().copied()
            && (ends <= now || self.ends.len() >= MAX_DELETED)
        {
            self.remove(&ended);
        }
        let end = self::end(Some(end), now);
        if end > now && self.ends.get(&session).is_none_or(|known| *known < end) {
            self.remove(&session);
            self.ends.insert(session, end);
            self.first_to_end.insert((end, session));
        }
    }

    /// Returns whether `session` was deleted.
    pub(super) fn contains(&self, session: &Fingerprint) -> bool {
        self.ends.contains_key(session)
    }

    fn remove(&mut self, session: &Fingerprint) {
        if let Some(end) = self.ends.remove(session) {
            self.first_to_end.remove(&(end, *session));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(number: usize) -> Fingerprint {
        let mut name = Fingerprint::default();
        name[..8].copy_from_slice(&number.to_be_bytes());
        name
    }

    #[test]
    fn forgotten_when_their_tokens_have_ended() {
        let mut deleted = Deleted::default();
        deleted.add(named(1), 110, 100);
        deleted.add(named(2), 120, 100);
        deleted.add(named(1), 105, 100);
        deleted.add(named(3), 115, 109);
        assert!(deleted.contains(&named(1)), "the later end counts");
        deleted.add(named(3), 116, 110);
        assert!(!deleted.contains(&named(1)));
        assert!(deleted.contains(&named(2)) && deleted.contains(&named(3)));
        deleted.add(named(4), 110, 110);
        assert!(!deleted.contains(&named(4)), "its token opens nothing anyway");
        assert_eq!(deleted.first_to_end.len(), deleted.ends.len());
    }

    #[test]
    fn as_many_as_there_is_room_for() {
        let mut deleted = Deleted::default();
        for number in 0..=MAX_DELETED {
            deleted.add(named(number), 1000 + number as u64, 100);
        }
        assert_eq!(deleted.ends.len(), MAX_DELETED);
        assert!(!deleted.contains(&named(0)));
        assert!(deleted.contains(&named(1)) && deleted.contains(&named(MAX_DELETED)));
        assert_eq!(deleted.first_to_end.len(), MAX_DELETED);
    }

    #[test]
    fn not_for_ever() {
        let mut deleted = Deleted::default();
        deleted.add(named(1), u64::MAX, 100);
        deleted.add(named(2), 101 + LONGEST, 100 + LONGEST);
        assert!(!deleted.contains(&named(1)));
    }
}
