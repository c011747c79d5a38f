//! Which of a backend's tools are offered at all.

use std::collections::BTreeSet;

use regex::Regex;

/// What is offered; everything by default. Refusals win, and names are the backend's own.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    include: BTreeSet<String>,
    include_regex: Vec<Regex>,
    exclude: BTreeSet<String>,
    exclude_regex: Vec<Regex>,
}

/// What a selector may say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Written<'a> {
    /// Only these.
    pub include: &'a [String],
    /// Only what one of these finds a match in.
    pub include_regex: &'a [String],
    /// Not these.
    pub exclude: &'a [String],
    /// Nothing that one of these finds a match in.
    pub exclude_regex: &'a [String],
}

impl Selector {
    /// Compiles a selector.
    ///
    /// # Errors
    /// The expression that is malformed, and why.
    pub fn new(written: Written<'_>) -> Result<Self, (String, regex::Error)> {
        let compile = |expressions: &[String]| {
            let compiled = expressions
                .iter()
                .map(|expression| Regex::new(expression).map_err(|error| (expression.clone(), error)));
            compiled.collect::<Result<Vec<_>, _>>()
        };
        Ok(Self {
            include: written.include.iter().cloned().collect(),
            include_regex: compile(written.include_regex)?,
            exclude: written.exclude.iter().cloned().collect(),
            exclude_regex: compile(written.exclude_regex)?,
        })
    }

    /// Returns whether `name` is offered.
    pub fn allows(&self, name: &str) -> bool {
        let hit = |expressions: &[Regex]| expressions.iter().any(|expression| expression.is_match(name));
        if self.exclude.contains(name) || hit(&self.exclude_regex) {
            false
        } else if !self.include.is_empty() {
            self.include.contains(name)
        } else {
            self.include_regex.is_empty() || hit(&self.include_regex)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_win_and_expressions_are_searched_for() {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let check = |written: [&[&str]; 4], allowed: &[&str]| {
            let [include, include_regex, exclude, exclude_regex] = written.map(list);
            let selector = Selector::new(Written {
                include: &include,
                include_regex: &include_regex,
                exclude: &exclude,
                exclude_regex: &exclude_regex,
            });
            let selector = selector.expect("expressions");
            let found: Vec<&str> = ["get_a", "get_b", "set_a"]
                .into_iter()
                .filter(|name| selector.allows(name))
                .collect();
            assert_eq!(found, allowed, "{written:?}");
        };
        check([&[], &[], &[], &[]], &["get_a", "get_b", "set_a"]);
        check([&["get_a"], &[], &[], &[]], &["get_a"]);
        check([&[], &["et_a"], &[], &[]], &["get_a", "set_a"]);
        check([&[], &["^get"], &["get_b"], &[]], &["get_a"]);
        check([&["get_a", "set_a"], &[], &[], &["^set"]], &["get_a"]);
        check([&[], &[], &["get_a"], &["b$"]], &["set_a"]);
        let bad = list(&["("]);
        let written = Written {
            exclude_regex: &bad,
            ..Written::default()
        };
        assert!(Selector::new(written).is_err());
    }
}
