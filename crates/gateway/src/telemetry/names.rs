//! Names that are labels, of which only so many are told apart: a client must not be able to grow the memory of the
//! process.

use std::{collections::HashSet, sync::Arc};

use arc_swap::ArcSwap;

/// The most names that are told apart, beside those of the configuration.
const MAX_NAMES: usize = 4096;

/// The longest name of a model that is a label.
const MAX_NAME: usize = 256;

/// The names that are told apart so far.
#[derive(Default)]
pub(super) struct Names(ArcSwap<Known>);

#[derive(Clone, Default)]
struct Known {
    all: HashSet<Arc<str>>,
    /// How many of them others have chosen than the configuration.
    free: usize,
}

impl Names {
    /// Returns `name` as a label. One that is `declared` is always told apart: clients that make up names must not be able
    /// to hide those that are served. Past [`MAX_NAMES`] all other new names are one.
    pub(super) fn label(&self, name: &str, declared: impl FnOnce() -> bool) -> Arc<str> {
        let names = self.0.load();
        if let Some(known) = names.all.get(name) {
            return Arc::clone(known);
        }
        let declared = declared();
        if !declared && (names.free >= MAX_NAMES || name.len() > MAX_NAME) {
            return "_other".into();
        }
        let new: Arc<str> = name.into();
        self.0.rcu(|names| {
            let mut names = Known::clone(names);
            if names.all.insert(Arc::clone(&new)) && !declared {
                names.free += 1;
            }
            names
        });
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever makes up names uses up those of others, and hides nothing that is declared.
    #[test]
    fn names_have_a_bound_and_declared_ones_have_none() {
        let names = Names::default();
        let made_up = |name: &str| names.label(name, || false).to_string();
        for number in 0..MAX_NAMES {
            let name = format!("made-up-{number}");
            assert_eq!(made_up(&name), name);
        }
        assert_eq!(made_up("one more"), "_other");
        assert_eq!(made_up("made-up-7"), "made-up-7");
        assert_eq!(&*names.label("declared", || true), "declared");
        assert_eq!(made_up("declared"), "declared");
        assert_eq!(made_up(&"x".repeat(MAX_NAME + 1)), "_other");
    }
}
