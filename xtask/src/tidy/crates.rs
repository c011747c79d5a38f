//! Which crate may know which: the edges between ours, and the outside crates that each is kept free of.

use super::Fault;
use crate::tree::{Crate, Tree};

/// One row per crate of ours.
struct Row {
    name: &'static str,
    /// The crates of ours that it may depend on. Tests may use more, see [`TESTS`].
    knows: &'static [&'static str],
    /// What must not be linked into it, by whatever way.
    free_of: &'static [&'static str],
}

/// The crates from the bottom up.
const TABLE: &[Row] = &[
    Row {
        name: "llm",
        knows: &[],
        free_of: &["hyper", "reqwest", "tokio", "tracing"],
    },
    Row {
        name: "mcp",
        knows: &[],
        free_of: &["hyper", "reqwest", "tokio", "tracing"],
    },
    Row {
        name: "policy",
        knows: &["llm", "mcp"],
        free_of: &["hyper", "kube", "redis", "reqwest", "tokio"],
    },
    Row {
        name: "config",
        knows: &["llm", "mcp", "policy"],
        free_of: &["hyper", "kube", "notify", "reqwest", "tokio"],
    },
    Row {
        name: "gateway",
        knows: &["config", "llm", "mcp", "policy"],
        free_of: &["clap", "kube", "notify", "reqwest"],
    },
    Row {
        name: "operator",
        knows: &["config"],
        free_of: &["clap"],
    },
    Row {
        name: "cli",
        knows: &["config", "gateway", "llm", "mcp", "operator", "policy"],
        free_of: &["reqwest"],
    },
    Row {
        name: "testkit",
        knows: &["llm"],
        free_of: &["reqwest"],
    },
    Row {
        name: "bench",
        knows: &["llm", "policy", "testkit"],
        free_of: &["reqwest"],
    },
    Row {
        name: "xtask",
        knows: &["config"],
        free_of: &["hyper", "tokio"],
    },
];

/// What the tests of any crate may use beside what the crate itself knows.
const TESTS: &[&str] = &["config", "testkit"];

/// What must be linked into none of ours, and what to use instead.
const BANNED: &[(&str, &str)] = &[
    ("native-tls", "rustls"),
    ("openssl", "rustls with aws-lc-rs"),
    ("ring", "aws-lc-rs, the one crypto provider"),
    ("serde_yaml", "saphyr, which knows positions"),
];

/// What none of ours may name, though others may bring it.
const BANNED_DIRECTLY: &[(&str, &str)] = &[(
    "async-trait",
    "async fn in traits, or a boxed future in the signature",
)];

/// Finds edges between our crates that the table does not have.
pub(super) fn edges(tree: &Tree) -> Vec<Fault> {
    let ours: Vec<&str> = tree.crates.iter().map(|one| one.name.as_str()).collect();
    let mut faults = Vec::new();
    for one in &tree.crates {
        let Some(row) = TABLE.iter().find(|row| row.name == one.name) else {
            faults.push(fault(one, "this crate has no row in the table of crates"));
            continue;
        };
        for to in one.direct.iter().filter(|to| ours.contains(&to.as_str())) {
            if !row.knows.contains(&to.as_str()) {
                faults.push(fault(one, format!("must not depend on our crate {to}")));
            }
        }
        for to in one.dev.iter().filter(|to| ours.contains(&to.as_str())) {
            if !row.knows.contains(&to.as_str()) && !TESTS.contains(&to.as_str()) && *to != one.name {
                faults.push(fault(one, format!("tests must not depend on our crate {to}")));
            }
        }
    }
    faults
}

/// Finds outside crates that are linked into a crate that is kept free of them.
pub(super) fn outside(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for one in &tree.crates {
        let free_of = TABLE
            .iter()
            .find(|row| row.name == one.name)
            .map_or(&[][..], |row| row.free_of);
        for name in free_of.iter().filter(|name| one.linked.contains(**name)) {
            faults.push(fault(
                one,
                format!("is kept free of {name}, which its dependencies bring in"),
            ));
        }
        for (name, instead) in BANNED.iter().filter(|(name, _)| one.linked.contains(*name)) {
            faults.push(fault(one, format!("brings in {name}; use {instead}")));
        }
        for (name, instead) in BANNED_DIRECTLY {
            if one.direct.contains(*name) || one.dev.contains(*name) {
                faults.push(fault(one, format!("names {name}; use {instead}")));
            }
        }
    }
    faults
}

/// Finds manifests that name a version of their own or leave the workspace's lints out.
pub(super) fn manifests(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (path, text) in &tree.texts {
        let ours = path.starts_with("crates/") || path.starts_with("xtask/");
        if !ours || !path.ends_with("/Cargo.toml") {
            continue;
        }
        let mut section = "";
        for (line, text) in text.lines().enumerate().map(|(at, text)| (at + 1, text.trim())) {
            if text.starts_with('[') {
                section = text;
            } else if section.ends_with("dependencies]") && !text.is_empty() && !text.starts_with('#') {
                let shared = text.contains(".workspace = true") || text.contains("{ workspace = true");
                if !shared {
                    faults.push(Fault::new(
                        path,
                        line,
                        "versions stand in the workspace's table only",
                    ));
                }
            }
        }
        if !text.contains("[lints]\nworkspace = true") {
            faults.push(Fault::new(path, 0, "the workspace's lints are not switched on"));
        }
    }
    faults
}

fn fault(one: &Crate, message: impl Into<String>) -> Fault {
    Fault::new(&one.name, 0, message)
}
