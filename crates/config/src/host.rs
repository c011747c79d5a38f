//! Host names as listeners and routes write them: `example.com`, `*.example.com`, or none for every host.

use std::{collections::BTreeMap, fmt};

/// A set of host names. A wildcard stands for one or more labels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// One name, in lower case.
    Exact(String),
    /// Every name that ends like this, in lower case, with the leading dot.
    Suffix(String),
    /// Every name.
    Any,
}

/// Something for each of several sets of host names, found by name, the most specific set first: the name itself,
/// then the longest suffix, then every name.
#[derive(Clone, Debug)]
pub struct Hosts<T> {
    exact: BTreeMap<String, T>,
    suffix: BTreeMap<String, T>,
    any: Option<T>,
}

impl Host {
    /// Reads a host name with an optional leading `*.`.
    pub fn parse(written: &str) -> Option<Self> {
        let name = written.strip_prefix("*.").unwrap_or(written);
        if !is_name(name) {
            return None;
        }
        let name = name.to_ascii_lowercase();
        Some(if written.starts_with("*.") {
            Host::Suffix(format!(".{name}"))
        } else {
            Host::Exact(name)
        })
    }

    /// Returns the names that both have; `None` if there are none.
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Host::Any, host) | (host, Host::Any) => Some(host.clone()),
            (Host::Exact(name), host) | (host, Host::Exact(name)) => {
                host.contains(name).then(|| Host::Exact(name.clone()))
            }
            (Host::Suffix(one), Host::Suffix(two)) => {
                let (longer, shorter) = if one.len() >= two.len() {
                    (one, two)
                } else {
                    (two, one)
                };
                longer
                    .ends_with(shorter.as_str())
                    .then(|| Host::Suffix(longer.clone()))
            }
        }
    }

    /// Returns how specific the set is for `name`, which is in lower case: more is more; `None` if it is not in
    /// the set.
    pub fn specificity(&self, name: &str) -> Option<usize> {
        let specificity = match self {
            Host::Exact(_) => usize::MAX,
            Host::Suffix(suffix) => suffix.len(),
            Host::Any => 0,
        };
        self.contains(name).then_some(specificity)
    }

    fn contains(&self, name: &str) -> bool {
        match self {
            Host::Exact(own) => own == name,
            Host::Suffix(suffix) => name.len() > suffix.len() && name.ends_with(suffix.as_str()),
            Host::Any => true,
        }
    }
}

impl<T> Default for Hosts<T> {
    fn default() -> Self {
        Self {
            exact: BTreeMap::new(),
            suffix: BTreeMap::new(),
            any: None,
        }
    }
}

impl<T> Hosts<T> {
    /// Returns what there is for `name`, which is in lower case, the most specific first.
    pub fn of<'h>(&'h self, name: &str) -> impl Iterator<Item = &'h T> + use<'h, T> {
        let suffixes: Vec<&T> = if self.suffix.is_empty() {
            Vec::new()
        } else {
            let dots = name.match_indices('.').filter(|(at, _)| *at > 0);
            dots.filter_map(|(at, _)| self.suffix.get(name.get(at..)?))
                .collect()
        };
        self.exact.get(name).into_iter().chain(suffixes).chain(&self.any)
    }

    /// Returns everything, the most specific kinds of sets first.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.exact.values().chain(self.suffix.values()).chain(&self.any)
    }

    /// Returns everything, in the order of [`Hosts::values`], to be changed.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let exact = self.exact.values_mut();
        exact.chain(self.suffix.values_mut()).chain(&mut self.any)
    }

    /// Returns what there is for exactly `host`, made by `new` if there is nothing.
    pub fn entry(&mut self, host: &Host, new: impl FnOnce() -> T) -> &mut T {
        match host {
            Host::Exact(name) => self.exact.entry(name.clone()).or_insert_with(new),
            Host::Suffix(suffix) => self.suffix.entry(suffix.clone()).or_insert_with(new),
            Host::Any => self.any.get_or_insert_with(new),
        }
    }
}

/// Returns whether `name` is labels of letters, digits and inner hyphens, joined by dots.
pub(crate) fn is_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Exact(name) => f.write_str(name),
            Host::Suffix(suffix) => write!(f, "*{suffix}"),
            Host::Any => f.write_str("*"),
        }
    }
}
