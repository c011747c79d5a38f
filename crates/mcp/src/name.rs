//! What a backend's tools, prompts and resources are called on the client's side.
//!
//! Tools and prompts are `<backend>__<name>`, resources `<backend>+<uri>`, and those of MCP Apps
//! `ui://<backend>/<rest>`, because their scheme has a meaning. The backend's part never contains what it is
//! separated by, so the first separator is the one.

use std::{borrow::Cow, fmt::Write};

use aws_lc_rs::digest;

/// When names are prefixed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Prefix {
    /// Always.
    #[default]
    Always,
    /// With more than one backend.
    Conditional,
    /// Never; whose a name is has to be known from the lists.
    Never,
}

impl Prefix {
    /// Returns whether names are prefixed on a route with so many backends.
    pub fn applies(self, backends: usize) -> bool {
        match self {
            Prefix::Always => true,
            Prefix::Conditional => backends > 1,
            Prefix::Never => false,
        }
    }
}

/// The longest name of a tool that the large models' APIs take, and the longest that there is by default.
pub const MAX_NAME: usize = 64;

/// Why a backend cannot have a name: it could not be told apart again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// It is empty.
    #[error("a backend's name must not be empty")]
    Empty,
    /// It contains `__`.
    #[error("a backend's name must not contain \"__\", which ends it in names of tools")]
    Separator,
    /// It contains another mark.
    #[error("a backend's name must not contain {0:?}")]
    Mark(char),
}

/// Checks the name of a backend.
///
/// # Errors
/// What is wrong with it.
pub fn check(name: &str) -> Result<(), BadName> {
    if name.is_empty() {
        return Err(BadName::Empty);
    }
    if name.contains(SEPARATOR) || name.ends_with('_') {
        return Err(BadName::Separator);
    }
    let mark = |char: &char| "+/:,@".contains(*char) || char.is_whitespace() || char.is_control();
    match name.chars().find(mark) {
        Some(mark) => Err(BadName::Mark(mark)),
        None => Ok(()),
    }
}

const SEPARATOR: &str = "__";

/// Returns what the tool or prompt `name` of `backend` is called.
pub fn prefixed(backend: &str, name: &str) -> String {
    format!("{backend}{SEPARATOR}{name}")
}

/// Returns the backend and its own name for what is called `name`.
pub fn split(name: &str) -> Option<(&str, &str)> {
    name.split_once(SEPARATOR)
        .filter(|(backend, _)| !backend.is_empty())
}

/// Returns `name`, or if it is longer than `max` bytes a shorter one that ends in its hash.
pub fn shortened(name: &str, max: usize) -> Cow<'_, str> {
    if name.len() <= max {
        return Cow::Borrowed(name);
    }
    let hash = digest::digest(&digest::SHA256, name.as_bytes());
    let mut end = max.saturating_sub(1 + 2 * HASH);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    let mut short = name.get(..end).unwrap_or_default().to_owned();
    short.push('_');
    for byte in hash.as_ref().iter().take(HASH) {
        // Writing to a string cannot fail.
        let _ = write!(short, "{byte:02x}");
    }
    Cow::Owned(short)
}

/// Bytes of the hash in a shortened name.
const HASH: usize = 4;

/// Returns what the resource or template `uri` of `backend` is called.
pub fn prefixed_uri(backend: &str, uri: &str) -> String {
    match uri.strip_prefix(UI) {
        Some(rest) => format!("{UI}{backend}/{rest}"),
        None => format!("{backend}+{uri}"),
    }
}

/// Returns the backend and its own URI for what is called `uri`.
pub fn split_uri(uri: &str) -> Option<(&str, Cow<'_, str>)> {
    if let Some(rest) = uri.strip_prefix(UI) {
        let (backend, rest) = rest.split_once('/')?;
        return (!backend.is_empty()).then(|| (backend, Cow::Owned(format!("{UI}{rest}"))));
    }
    let (backend, own) = uri.split_once('+')?;
    (!backend.is_empty()).then_some((backend, Cow::Borrowed(own)))
}

const UI: &str = "ui://";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_are_mapped_and_back() {
        let check = |backend: &str, own: &str, client: &str| {
            assert_eq!(prefixed_uri(backend, own), client);
            assert_eq!(split_uri(client), Some((backend, Cow::Borrowed(own))));
        };
        check("fs", "file:///a.txt", "fs+file:///a.txt");
        check("fs", "file:///{name}.txt", "fs+file:///{name}.txt");
        check("app", "ui://prefab/tool/r.html", "ui://app/prefab/tool/r.html");
        check("repo", "git+ssh://h/x", "repo+git+ssh://h/x");
        for bad in ["file:///a", "+x", "ui://", "ui://app", "ui:///x"] {
            assert_eq!(split_uri(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_first_separator_ends_the_backend() {
        assert_eq!(prefixed("calc", "sum"), "calc__sum");
        assert_eq!(split("calc__sum"), Some(("calc", "sum")));
        assert_eq!(split("calc__a__b"), Some(("calc", "a__b")));
        assert_eq!(split("calc___b"), Some(("calc", "_b")));
        assert_eq!(split("sum"), None);
        assert_eq!(split("__sum"), None);
    }

    #[test]
    fn names_that_could_not_be_told_apart_are_refused() {
        for good in ["calc", "my_srv", "a-b.c", "Ünï"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        assert_eq!(check(""), Err(BadName::Empty));
        assert_eq!(check("my__srv"), Err(BadName::Separator));
        assert_eq!(check("srv_"), Err(BadName::Separator));
        for bad in ["a+b", "a/b", "a:b", "a,b", "a@b", "a b"] {
            assert!(matches!(check(bad), Err(BadName::Mark(_))), "{bad}");
        }
    }

    #[test]
    fn long_names_are_cut_to_a_hash() {
        let fits = "x".repeat(MAX_NAME);
        assert_eq!(shortened(&fits, MAX_NAME), fits);
        let (one, two) = ("x".repeat(80), "x".repeat(81));
        assert_eq!(shortened(&one, MAX_NAME).len(), MAX_NAME);
        assert_ne!(shortened(&one, MAX_NAME), shortened(&two, MAX_NAME));
        assert!(shortened(&"ü".repeat(60), MAX_NAME).len() <= MAX_NAME);
        assert_eq!(shortened(&one, 128), one);
    }
}
