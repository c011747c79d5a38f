//! Rules about Rust files that no lint knows.

use super::Fault;
use crate::{
    rust::{Source, words},
    tree::Tree,
};

/// Names that say nothing of what a module is for.
const EMPTY_NAMES: &[&str] = &[
    "common", "helper", "helpers", "misc", "prelude", "types", "util", "utils",
];

/// The crates that do no IO and read no clock.
const PURE: &[&str] = &["crates/config/", "crates/llm/", "crates/mcp/", "crates/policy/"];

/// What a pure crate must not name, and why.
const IMPURE: &[(&str, &str)] = &[
    ("std::env", "the environment is an argument"),
    ("std::fs", "files are read by the source"),
    ("std::io::stdin", "input is an argument"),
    ("std::net::TcpListener", "sockets are the gateway's"),
    ("std::net::TcpStream", "sockets are the gateway's"),
    ("std::net::ToSocketAddrs", "names are looked up by the gateway"),
    ("std::net::UdpSocket", "sockets are the gateway's"),
    ("std::process", "processes are the command's"),
    ("std::thread", "pure code runs where it is called"),
    ("std::time::Instant", "the time is an argument"),
    ("std::time::SystemTime", "the time is an argument"),
];

/// Marks of unfinished work, in halves so that this file does not hold them.
const UNFINISHED: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("HA", "CK"),
];

/// Finds files that do not begin by saying what they are for.
pub(super) fn heads(tree: &Tree) -> Vec<Fault> {
    each(tree, |source, faults| {
        if !source.text.starts_with("//!") {
            faults.push(Fault::new(
                &source.path,
                1,
                "a file begins with //! and what it is for",
            ));
        }
    })
}

/// Finds modules whose names say nothing.
pub(super) fn names(tree: &Tree) -> Vec<Fault> {
    each(tree, |source, faults| {
        let empty = source
            .path
            .split('/')
            .map(|segment| segment.strip_suffix(".rs").unwrap_or(segment))
            .find(|segment| EMPTY_NAMES.contains(segment));
        if let Some(name) = empty {
            faults.push(Fault::new(
                &source.path,
                0,
                format!("name the module for what it is, not {name}"),
            ));
        }
        for at in words(&source.code, "mod") {
            let rest = source.code.get(at + 3..).unwrap_or_default().trim_start();
            let end = rest
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(rest.len());
            let name = rest.get(..end).unwrap_or_default();
            if EMPTY_NAMES.contains(&name) {
                let message = format!("name the module for what it is, not {name}");
                faults.push(Fault::new(&source.path, source.line(at), message));
            }
        }
    })
}

/// Finds imports of everything that a module of ours has.
pub(super) fn globs(tree: &Tree) -> Vec<Fault> {
    each(tree, |source, faults| {
        for (at, path) in source.named_paths() {
            let ours = path.starts_with("crate::") || path.starts_with("super::");
            if ours && path.ends_with("::*") {
                faults.push(Fault::new(
                    &source.path,
                    source.line(at),
                    format!("name what is used of {path}"),
                ));
            }
        }
    })
}

/// Finds IO and clocks in the crates that have none.
pub(super) fn purity(tree: &Tree) -> Vec<Fault> {
    each(tree, |source, faults| {
        if !PURE.iter().any(|krate| source.path.starts_with(krate)) {
            return;
        }
        for (at, path) in source.named_paths() {
            let impure = IMPURE.iter().find(|(name, _)| {
                path == *name || path.strip_prefix(name).is_some_and(|rest| rest.starts_with("::"))
            });
            if let Some((name, why)) = impure {
                let message = format!("{name} in a pure crate: {why}");
                faults.push(Fault::new(&source.path, source.line(at), message));
            }
        }
        faults.dedup();
    })
}

/// Finds marks of unfinished work, in code, manifests and pages.
pub(super) fn unfinished(tree: &Tree) -> Vec<Fault> {
    let sources = tree.sources.iter().map(|source| (&source.path, &source.text));
    let mut faults = Vec::new();
    for (path, text) in sources.chain(&tree.texts) {
        for (line, text) in text.lines().enumerate() {
            for mark in UNFINISHED.iter().filter(|mark| !words(text, mark).is_empty()) {
                let message = format!("{mark}: finish it, or leave it out");
                faults.push(Fault::new(path, line + 1, message));
            }
        }
    }
    faults
}

/// Finds tests that are not run.
pub(super) fn ignored(tree: &Tree) -> Vec<Fault> {
    each(tree, |source, faults| {
        for (at, _) in source.code.match_indices("#[ignore") {
            let message = "a test runs, or asserts today's wrong behaviour with a comment";
            faults.push(Fault::new(&source.path, source.line(at), message));
        }
    })
}

fn each(tree: &Tree, mut check: impl FnMut(&Source, &mut Vec<Fault>)) -> Vec<Fault> {
    let mut faults = Vec::new();
    for source in &tree.sources {
        check(source, &mut faults);
    }
    faults
}
