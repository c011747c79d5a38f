//! YAML and JSON documents to [`Resources`], with the position of everything that is wrong.
//!
//! A text is cut into its documents, and each goes through four steps: text to nodes (`node`), variables in its
//! scalars (`substitute`), nodes to the types of its kind (`decode`), and into the resources (`piece`). A document in
//! which one of them fails is left out; the others are read all the same. What was read once can be remembered, so that
//! a change of one document of many costs little more than that one.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, LazyLock},
};

use foldhash::fast::RandomState;
use memchr::memmem::Finder;

use self::{document::Reader, piece::Piece};
use crate::Resources;

mod decode;
mod document;
mod node;
mod piece;
mod secret;
mod substitute;

/// What a file may refer to; this crate does no IO of its own.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// Returns the value of an environment variable, if it is set.
    pub environment: &'a dyn Fn(&str) -> Option<String>,
    /// Returns the text of the file at a path, or why it cannot be read. A leading `~/` is the reader's to
    /// expand.
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

/// What was read before, so that it need not be read again.
///
/// A document that refers to the environment or to files is not remembered: they may have changed.
#[derive(Debug, Default)]
pub struct Memory {
    /// By their texts: those of the load before, and those of this one.
    before: HashMap<Box<str>, Arc<Piece>, RandomState>,
    now: HashMap<Box<str>, Arc<Piece>, RandomState>,
}

impl Memory {
    /// Begins another load, of `texts`: what the one before did not have is forgotten.
    ///
    /// Returns the documents that are not known and that depend on nothing else. They are read as they come, unless they
    /// were read before, wherever that is best, and are learnt.
    pub fn turn<'t>(&mut self, texts: impl IntoIterator<Item = &'t str>) -> Vec<&'t str> {
        self.before = std::mem::take(&mut self.now);
        let mut once = HashSet::with_hasher(RandomState::default());
        let pieces = texts.into_iter().flat_map(pieces);
        let unknown = pieces.filter(|text| stands_alone(text) && !self.before.contains_key(*text));
        unknown.filter(|text| once.insert(*text)).collect()
    }

    /// Learns what `text` says.
    pub fn learn(&mut self, text: &str, says: Says) {
        self.now.insert(Box::from(text), Arc::new(says.0));
    }

    /// Returns what `text` says; it is read unless it is known.
    fn piece(&mut self, text: &str, surroundings: &Surroundings<'_>) -> Arc<Piece> {
        if let Some((text, known)) = self.before.remove_entry(text) {
            self.now.insert(text, Arc::clone(&known));
            return known;
        }
        if let Some(known) = self.now.get(text) {
            return Arc::clone(known);
        }
        let piece = Arc::new(Reader::new(surroundings).read(text));
        if stands_alone(text) {
            self.now.insert(Box::from(text), Arc::clone(&piece));
        }
        piece
    }
}

/// What a document says that depends on nothing else.
#[derive(Debug)]
pub struct Says(Piece);

impl Says {
    /// Reads one of the documents that [`Memory::turn`] returns.
    pub fn of(text: &str) -> Self {
        let nothing = Surroundings {
            environment: &|_| None,
            reader: &|_| Err(String::new()),
        };
        Self(Reader::new(&nothing).read(text))
    }
}

/// Returns whether what `text` says depends on nothing else.
fn stands_alone(text: &str) -> bool {
    !text.contains('$') && !text.contains(secret::ORIGIN)
}

/// Reads the documents of `text`, which came from `file`, into `resources` and returns what is wrong with
/// them.
///
/// A document with an error is left out; the others are read all the same. What was left out is remembered
/// in `resources`, so that nothing is called in clear because a policy could not be read; still, resources
/// with an error among their faults are better not served where older ones can be kept.
pub fn parse(
    file: &str,
    text: &str,
    surroundings: &Surroundings<'_>,
    resources: &mut Resources,
) -> Vec<Fault> {
    each(&pieces(text), file, resources, |piece| {
        Arc::new(Reader::new(surroundings).read(piece))
    })
}

/// Does what [`parse`] does, with what `memory` knows.
pub fn parse_again(
    file: &str,
    text: &str,
    surroundings: &Surroundings<'_>,
    memory: &mut Memory,
    resources: &mut Resources,
) -> Vec<Fault> {
    each(&pieces(text), file, resources, |piece| {
        memory.piece(piece, surroundings)
    })
}

fn each(
    texts: &[&str],
    file: &str,
    resources: &mut Resources,
    mut read: impl FnMut(&str) -> Arc<Piece>,
) -> Vec<Fault> {
    let file: Arc<str> = Arc::from(file);
    let mut faults = Vec::new();
    let mut lines = 0;
    for text in texts {
        let piece = read(text);
        piece.put(&file, lines, resources, &mut faults);
        // What follows malformed YAML is not known.
        if piece.is_broken() {
            break;
        }
        lines += text.bytes().filter(|byte| *byte == b'\n').count();
    }
    faults
}

/// Cuts a text before each line that begins a document. A text with directives, which belong to the document after
/// them, stays whole.
fn pieces(text: &str) -> Vec<&str> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.starts_with('%') || text.contains("\n%") {
        return vec![text];
    }
    let mut pieces = Vec::new();
    let mut begin = 0;
    for found in BREAK.find_iter(text.as_bytes()) {
        let at = found + 1;
        let after = text.get(at + 3..).unwrap_or_default();
        if after.is_empty() || after.starts_with(char::is_whitespace) {
            pieces.extend(text.get(begin..at));
            begin = at;
        }
    }
    pieces.extend(text.get(begin..));
    pieces
}

/// What a line of a text may begin another document with.
static BREAK: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\n---"));

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
