//! YAML and JSON documents to [`Resources`], with the position of everything that is wrong.

use std::fmt;

use crate::Resources;

/// What a file may refer to; this crate does no IO of its own.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// Returns the value of an environment variable, if it is set.
    pub environment: &'a dyn Fn(&str) -> Option<String>,
    /// Returns the text of the file at a path, or why it cannot be read.
    pub reader: &'a dyn Fn(&str) -> Result<String, String>,
}

/// Something wrong in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// The field, as `spec.rules[0].name`; empty where the whole document is meant.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// How bad it is.
    pub severity: Severity,
}

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Served, but perhaps not as meant.
    Warning,
    /// Not served.
    Error,
}

/// Reads the documents of `text`, which came from `file`, into `resources` and returns what is wrong with them.
///
/// A document with an error is left out; the others are read all the same.
pub fn parse(
    file: &str,
    text: &str,
    surroundings: &Surroundings<'_>,
    resources: &mut Resources,
) -> Vec<Fault> {
    let _ = (file, text, surroundings, resources);
    Vec::new()
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file, self.line, self.column)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}
