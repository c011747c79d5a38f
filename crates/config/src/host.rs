//! Host names as listeners and routes write them: `example.com`, `*.example.com`, or none for every host.

use std::fmt;

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

    fn contains(&self, name: &str) -> bool {
        match self {
            Host::Exact(own) => own == name,
            Host::Suffix(suffix) => name.len() > suffix.len() && name.ends_with(suffix.as_str()),
            Host::Any => true,
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
