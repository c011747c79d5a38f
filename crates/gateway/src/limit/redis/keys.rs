//! The names of counters and of what lies beside them.
//!
//! At one server counters have the names of the compatibility specification ("Counter algorithm"). So they have in a
//! cluster, where other keys are named so that they lie in the slot of their counter; but for windows that slide, two of which
//! have to lie in one slot.

use std::borrow::Cow;

use policy::rate_limit::store::Counter;

use crate::redis::{Link, beside, nameable};

/// How keys are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keys {
    /// For a server that has all of them.
    Together,
    /// For a cluster.
    Apart,
}

impl Keys {
    /// Returns how keys are named behind `link`.
    pub(super) fn behind(link: &Link) -> Self {
        match link {
            Link::Server(_) => Keys::Together,
            Link::Cluster(_) => Keys::Apart,
        }
    }

    /// Returns the name of a counter, whose window `slides` or not.
    pub(super) fn counter(self, counter: &Counter, slides: bool) -> Cow<'_, str> {
        match self {
            Keys::Together => counter.name().into(),
            Keys::Apart if slides => {
                let start = counter.span.start;
                beside(&nameable(counter.key()), &start.to_string()).into()
            }
            Keys::Apart => nameable(counter.name()).into(),
        }
    }

    /// Returns where it lies what is held of the counter called `counter`.
    pub(super) fn holds(self, counter: &str) -> String {
        self.beside(counter, ":held")
    }

    /// Returns where it is remembered which batch of the gateway called `gateway` was the last for the counter called
    /// `counter`.
    pub(super) fn batches(self, counter: &str, gateway: &str) -> String {
        match self {
            Keys::Together => gateway.to_owned(),
            Keys::Apart => self.beside(counter, &format!(":{gateway}")),
        }
    }

    fn beside(self, counter: &str, suffix: &str) -> String {
        match self {
            Keys::Together => format!("{counter}{suffix}"),
            Keys::Apart => beside(counter, suffix),
        }
    }
}

#[cfg(test)]
mod tests {
    use policy::rate_limit::window::Span;

    use super::*;

    fn counter(key: &str) -> Counter {
        Counter::new(key.to_owned(), Span { start: 60, end: 120 })
    }

    #[track_caller]
    fn check(keys: Keys, key: &str, slides: bool, expected: [&str; 3]) {
        let counter = counter(key);
        let name = keys.counter(&counter, slides);
        let found = [name.as_ref(), &keys.holds(&name), &keys.batches(&name, "g")];
        assert_eq!(found, expected, "{key}");
    }

    #[test]
    fn at_one_server() {
        for slides in [false, true] {
            check(Keys::Together, "a_", slides, ["a_60", "a_60:held", "g"]);
            check(
                Keys::Together,
                "{a}b}_",
                slides,
                ["{a}b}_60", "{a}b}_60:held", "g"],
            );
        }
    }

    #[test]
    fn in_a_cluster() {
        check(Keys::Apart, "a_", false, ["a_60", "{a_60}:held", "{a_60}:g"]);
        check(Keys::Apart, "a_", true, ["{a_}60", "{a_}60:held", "{a_}60:g"]);
        // What has a slot by a part of its name keeps it.
        check(
            Keys::Apart,
            "a{b}_",
            false,
            ["a{b}_60", "a{b}_60:held", "a{b}_60:g"],
        );
        check(
            Keys::Apart,
            "a{b}_",
            true,
            ["a{b}_60", "a{b}_60:held", "a{b}_60:g"],
        );
        // Nothing could be beside it.
        check(Keys::Apart, "a}_", false, ["a)_60", "{a)_60}:held", "{a)_60}:g"]);
    }
}
