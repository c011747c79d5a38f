//! What clippy cannot check. Each check is a function from the workspace to its faults, listed in [`CHECKS`];
//! what is forbidden stands in tables, so that changing a rule is changing a row.

use std::{fmt, io::Write, process::ExitCode};

use anyhow::Result;

use crate::tree::Tree;

mod crates;
mod docs;
mod log;
mod size;
mod source;

/// Runs every check, prints what is wrong, and then the longest files and functions, which fail nothing.
pub(crate) fn run(tree: &Tree, out: &mut impl Write) -> Result<ExitCode> {
    let mut faults = 0;
    for (name, check) in CHECKS {
        let mut found = check(tree);
        found.sort();
        for fault in &found {
            writeln!(out, "{fault} [{name}]")?;
        }
        faults += found.len();
    }
    size::print(tree, out)?;
    if faults > 0 {
        writeln!(out, "tidy: {faults} faults")?;
        return Ok(ExitCode::FAILURE);
    }
    writeln!(
        out,
        "tidy: {} checks of {} Rust files found nothing",
        CHECKS.len(),
        tree.sources.len()
    )?;
    Ok(ExitCode::SUCCESS)
}

type Check = fn(&Tree) -> Vec<Fault>;

/// Every check.
const CHECKS: &[(&str, Check)] = &[
    ("crate-edges", crates::edges),
    ("outside-crates", crates::outside),
    ("manifests", crates::manifests),
    ("module-heads", source::heads),
    ("module-names", source::names),
    ("glob-imports", source::globs),
    ("pure-crates", source::purity),
    ("unfinished", source::unfinished),
    ("ignored-tests", source::ignored),
    ("log-messages", log::messages),
    ("examples", docs::examples),
    ("design-pages", docs::design),
    ("doc-links", docs::links),
    ("named-tests", docs::tests),
];

/// Something to mend.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Fault {
    path: String,
    /// From 1; 0 where the fault is the file's as a whole.
    line: usize,
    message: String,
}

impl Fault {
    fn new(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line,
            message: message.into(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.message),
            line => write!(f, "{}:{line}: {}", self.path, self.message),
        }
    }
}

#[cfg(test)]
mod tests;
