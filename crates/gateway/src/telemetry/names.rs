//! Names that are labels, of which only so many are told apart, alone and together: a client must not be able to grow the
//! memory of the process.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use arc_swap::ArcSwap;

/// The most names that are told apart, beside those of the configuration.
const MAX_NAMES: usize = 4096;

/// The longest name of a model that is a label.
const MAX_NAME: usize = 256;

/// The most sets of such names that are told apart: a few names make many sets.
const MAX_SETS: usize = MAX_NAMES;

/// What all names are called beyond that.
const OTHER: &str = "_other";

/// The names that are told apart so far.
#[derive(Default)]
pub(super) struct Names {
    known: ArcSwap<Known>,
    /// The hashes of sets.
    sets: ArcSwap<HashSet<u64>>,
    hashing: RandomState,
}

#[derive(Clone, Default)]
struct Known {
    /// Each with whether somebody else has chosen it than the configuration.
    all: HashMap<Arc<str>, bool>,
    /// How many of them are such.
    free: usize,
}

/// A name that is a label.
pub(super) struct Named {
    pub(super) name: Arc<str>,
    /// Whether somebody else has chosen it than the configuration.
    free: bool,
}

impl Named {
    /// Returns the name of all that are not told apart.
    pub(super) fn other() -> Arc<str> {
        OTHER.into()
    }

    /// Returns the name, if somebody else has chosen it than the configuration.
    pub(super) fn free(&self) -> Option<&Arc<str>> {
        self.free.then_some(&self.name)
    }
}

impl Names {
    /// Returns `name` as a label. One that is `declared` is always told apart: clients that make up names must not be able
    /// to hide those that are served. Past [`MAX_NAMES`] all other new names are one.
    pub(super) fn label(&self, name: &str, declared: impl FnOnce() -> bool) -> Named {
        let names = self.known.load();
        if let Some((known, free)) = names.all.get_key_value(name) {
            return Named {
                name: Arc::clone(known),
                free: *free,
            };
        }
        let free = !declared();
        if free && (names.free >= MAX_NAMES || name.len() > MAX_NAME) {
            // It is the same for all of them.
            return Named {
                name: Named::other(),
                free: false,
            };
        }
        let new: Arc<str> = name.into();
        self.known.rcu(|names| {
            let mut names = Known::clone(names);
            if names.all.insert(Arc::clone(&new), free).is_none() && free {
                names.free += 1;
            }
            names
        });
        Named { name: new, free }
    }

    /// Returns whether a series may be told by all of `free`, which others have chosen than the configuration. Past
    /// [`MAX_SETS`] no new sets are.
    pub(super) fn together<'a>(&self, free: impl Iterator<Item = &'a Arc<str>>) -> bool {
        let mut set: Vec<&str> = free.map(|name| &**name).collect();
        set.dedup();
        // As many as there are names.
        if set.len() < 2 {
            return true;
        }
        let hash = self.hashing.hash_one(&set);
        let sets = self.sets.load();
        if sets.contains(&hash) || sets.len() >= MAX_SETS {
            return sets.contains(&hash);
        }
        self.sets.rcu(|sets| {
            let mut sets = HashSet::clone(sets);
            sets.insert(hash);
            sets
        });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever makes up names uses up those of others, and hides nothing that is declared.
    #[test]
    fn names_have_a_bound_and_declared_ones_have_none() {
        let names = Names::default();
        let made_up = |name: &str| names.label(name, || false).name.to_string();
        for number in 0..MAX_NAMES {
            let name = format!("made-up-{number}");
            assert_eq!(made_up(&name), name);
        }
        assert_eq!(made_up("one more"), "_other");
        assert_eq!(made_up("made-up-7"), "made-up-7");
        assert_eq!(&*names.label("declared", || true).name, "declared");
        assert_eq!(made_up("declared"), "declared");
        assert_eq!(made_up(&"x".repeat(MAX_NAME + 1)), "_other");
    }

    /// Names that are few make sets that are many.
    #[test]
    fn sets_of_names_have_a_bound() {
        let names = Names::default();
        let made_up: Vec<Arc<str>> = (0..200).map(|number| Arc::from(number.to_string())).collect();
        let together = |first: usize, second: usize| {
            let pair = [made_up.get(first), made_up.get(second)];
            names.together(pair.into_iter().flatten())
        };
        let mut told = 0;
        for first in 0..200 {
            told += (0..200)
                .filter(|second| *second != first && together(first, *second))
                .count();
        }
        assert_eq!(told, MAX_SETS);
        assert!(
            together(0, 1) && !together(199, 198),
            "sets that are told apart stay so"
        );
        // A name alone is among those that have a bound of their own.
        assert!(together(199, 199));
        assert!(names.together(std::iter::empty()));
    }
}
