//! The form of log messages: a constant in lower case without a full stop; what varies is a field.

use super::Fault;
use crate::{
    rust::{closing, words},
    tree::Tree,
};

/// The macros of `tracing` that take a message.
const MACROS: &[&str] = &["trace", "debug", "info", "warn", "error"];

/// Finds log messages that are not constant, or not in the form of the others.
pub(super) fn messages(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for source in &tree.sources {
        for name in MACROS {
            for at in words(&source.production, name) {
                let open = at + name.len() + 1;
                let called = source
                    .production
                    .get(open - 1..)
                    .is_some_and(|rest| rest.starts_with("!("));
                if !called {
                    continue;
                }
                let end = closing(&source.production, open);
                let code = source.production.get(open + 1..end).unwrap_or_default();
                let text = source.text.get(open + 1..end).unwrap_or_default();
                if let Some(fault) = fault(code, text) {
                    faults.push(Fault::new(&source.path, source.line(at), fault));
                }
            }
        }
    }
    faults
}

/// Returns what is wrong with the arguments `text`, which are `code` where literals are blank.
fn fault(code: &str, text: &str) -> Option<&'static str> {
    let mut arguments = arguments(code, text).skip_while(|argument| !argument.starts_with('"'));
    let message = arguments.next()?;
    let message = message.trim_matches('"');
    if arguments.next().is_some() || message.replace("{{", "").contains('{') {
        return Some("what varies in a log message is a field");
    }
    if message.ends_with('.') {
        return Some("a log message has no full stop");
    }
    let word = message
        .split(|c: char| !c.is_alphanumeric())
        .next()
        .unwrap_or_default();
    let is_abbreviation = word.chars().skip(1).any(char::is_uppercase);
    if word.starts_with(char::is_uppercase) && !is_abbreviation {
        return Some("a log message begins in lower case");
    }
    None
}

/// Returns the arguments between top-level commas.
fn arguments<'t>(code: &str, text: &'t str) -> impl Iterator<Item = &'t str> {
    let mut cuts = vec![0];
    let mut depth = 0usize;
    for (at, byte) in code.bytes().enumerate() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => cuts.push(at + 1),
            _ => {}
        }
    }
    cuts.push(text.len() + 1);
    let pairs: Vec<(usize, usize)> = cuts.iter().copied().zip(cuts.iter().copied().skip(1)).collect();
    pairs
        .into_iter()
        .filter_map(|(from, to)| text.get(from..to - 1))
        .map(str::trim)
        .filter(|argument| !argument.is_empty())
}
