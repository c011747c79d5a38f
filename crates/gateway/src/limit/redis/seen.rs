//! Counters as they were when this gateway has last asked for them.

use std::{collections::HashMap, sync::Arc};

use policy::rate_limit::store::{Claim, Entry, State, first};

/// The most counters that are remembered.
const MAX_SEEN: usize = 10_000;

/// What is remembered of counters, by name.
#[derive(Default)]
pub(super) struct Seen {
    entries: HashMap<String, Entry>,
    /// When those were last forgotten whose windows are over: with as many values as clients like to think of it is
    /// full most of the time, and no request is to look through all of it.
    swept: Option<u64>,
}

impl Seen {
    /// Remembers the counter of `claim`, if there is room for it.
    pub(super) fn note(&mut self, claim: &Claim, state: &State, now: u64) {
        let counter = claim.counter.name();
        if let Some(entry) = self.entries.get_mut(counter) {
            (entry.used, entry.held) = (state.used, state.held);
            entry.limit = claim.limit;
            return;
        }
        if self.entries.len() >= MAX_SEEN && self.swept != Some(now) {
            self.swept = Some(now);
            self.entries.retain(|_, entry| entry.end > now);
        }
        if self.entries.len() < MAX_SEEN {
            let entry = Entry {
                rule: Arc::clone(&claim.rule),
                counter: counter.into(),
                used: state.used,
                held: state.held,
                limit: claim.limit,
                end: claim.counter.span.end,
            };
            self.entries.insert(counter.to_owned(), entry);
        }
    }

    /// Returns the counters whose windows are open, by name: the first `most` after the name `after`.
    pub(super) fn entries(&self, after: &str, most: usize, now: u64) -> Vec<Entry> {
        let open = self.entries.values();
        let open = open.filter(|entry| entry.end > now && &*entry.counter > after);
        let open = first(open.collect(), most, |one: &&Entry, other| {
            one.counter.cmp(&other.counter)
        });
        open.into_iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use policy::rate_limit::{
        store::{Counter, Manner, Vote},
        window::Span,
    };

    use super::*;

    fn claim(key: usize, start: u64) -> Claim {
        let span = Span {
            start,
            end: start + 60,
        };
        Claim {
            rule: "rule".into(),
            counter: Counter::new(format!("{key:05}_"), span),
            before: None,
            limit: 10,
            charge: 1,
            hold: 0,
            due: 30,
            ahead: 0,
            manner: Manner::Reserve,
            vote: Vote::Must,
        }
    }

    #[test]
    fn no_more_are_remembered_than_there_is_room_for() {
        let mut seen = Seen::default();
        for key in 0..MAX_SEEN + 1 {
            seen.note(&claim(key, 0), &State::default(), 59);
        }
        assert_eq!(seen.entries("", usize::MAX, 59).len(), MAX_SEEN);
        // One second later all are over. They are looked through once in it.
        seen.note(&claim(1, 60), &State::default(), 60);
        assert_eq!(seen.entries.len(), 1);
        for key in 2..MAX_SEEN + 2 {
            seen.note(&claim(key, 60), &State::default(), 60);
        }
        assert_eq!(seen.entries.len(), MAX_SEEN);
        let names: Vec<_> = seen
            .entries("00003_60", 2, 60)
            .iter()
            .map(|entry| entry.counter.to_string())
            .collect();
        assert_eq!(names, ["00004_60", "00005_60"]);
    }
}
