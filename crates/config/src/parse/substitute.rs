//! Environment variables in scalar values: `$VAR`, `${VAR}` and the shell's forms with a default.
//!
//! Only values are looked at, never keys or comments, and a value cannot change the structure around it,
//! because the document has been taken apart by then. A `$` that no name follows stays as it is.
//!
//! In YAML's flow style an unquoted `{a: ${VAR}}` would end at the first brace. So before a text is read the
//! braces of variables are swapped for characters without meaning ([`shield`]), and back in each scalar.

use std::borrow::Cow;

use super::node::{Data, Node};
use crate::places::Position;

/// What came of a substitution that is worth saying.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Remark {
    /// Replaced by nothing.
    Unset(String),
    /// `${` without its `}`.
    Unclosed,
}

/// Returns `text` with the braces of `${…}` out of YAML's sight; no character changes its place.
pub(super) fn shield(text: &str) -> Cow<'_, str> {
    if !text.contains("${") || text.contains([OPEN, CLOSE]) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    hide(text, 0, &mut out);
    Cow::Owned(out)
}

/// Appends `text` to `out` without the braces of the variables in it. What is not closed, or has quotes in it,
/// is left alone: its closing brace may well be YAML's.
fn hide(text: &str, depth: usize, out: &mut String) {
    let mut rest = text;
    while let Some((before, inner)) = rest.split_once("${") {
        out.push_str(before);
        let (name, after) = split_name(inner);
        let end = if after.starts_with('}') {
            Some(0)
        } else if FORMS.iter().any(|(prefix, _)| after.starts_with(prefix)) {
            closing(after).filter(|_| depth < MAX_DEPTH)
        } else {
            None
        };
        let parts = end.and_then(|end| after.split_at_checked(end));
        rest = match parts.and_then(|(word, after)| Some((word, after.strip_prefix('}')?))) {
            Some((word, after)) if !name.is_empty() && !word.contains(['"', '\'']) => {
                out.extend(['$', OPEN]);
                out.push_str(name);
                hide(word, depth + 1, out);
                out.push(CLOSE);
                after
            }
            Some(_) | None => {
                out.push_str("${");
                inner
            }
        };
    }
    out.push_str(rest);
}

/// Returns a scalar of a shielded text as it was written.
pub(super) fn unshield(scalar: Cow<'_, str>) -> String {
    if scalar.contains([OPEN, CLOSE]) {
        scalar.replace(OPEN, "{").replace(CLOSE, "}")
    } else {
        scalar.into_owned()
    }
}

/// Replaces the variables in every scalar below `node` and hands each remark with its place to `remark`.
pub(super) fn substitute(
    node: &mut Node,
    environment: &dyn Fn(&str) -> Option<String>,
    remark: &mut dyn FnMut(Position, Remark),
) {
    match &mut node.data {
        Data::Scalar { text, .. } => {
            if text.contains('$') {
                let at = node.at;
                let mut scalar = Scalar {
                    environment,
                    remark: &mut |found| remark(at, found),
                };
                *text = scalar.expand(text, 0);
            }
        }
        Data::Sequence(items) => {
            for item in items {
                substitute(item, environment, remark);
            }
        }
        Data::Mapping(members) => {
            for member in members {
                substitute(&mut member.value, environment, remark);
            }
        }
    }
}

struct Scalar<'a> {
    environment: &'a dyn Fn(&str) -> Option<String>,
    remark: &'a mut dyn FnMut(Remark),
}

impl Scalar<'_> {
    fn expand(&mut self, text: &str, depth: usize) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            rest = if let Some(after) = after.strip_prefix('$') {
                out.push('$');
                after
            } else if let Some(inner) = after.strip_prefix('{') {
                self.braces(inner, depth, &mut out)
            } else {
                let (name, after) = split_name(after);
                if name.is_empty() || name == "_" {
                    out.push('$');
                    out.push_str(name);
                } else {
                    out.push_str(&self.value(name));
                }
                after
            };
        }
        out.push_str(rest);
        out
    }

    /// Expands what follows `${` and returns what follows its `}`.
    fn braces<'t>(&mut self, inner: &'t str, depth: usize, out: &mut String) -> &'t str {
        let (name, after) = split_name(inner);
        if name.is_empty() {
            out.push_str("${");
            return inner;
        }
        if let Some(after) = after.strip_prefix('}') {
            out.push_str(&self.value(name));
            return after;
        }
        let form = FORMS
            .iter()
            .find_map(|(prefix, form)| Some((form, after.strip_prefix(prefix)?)));
        let Some((form, word)) = form else {
            (self.remark)(Remark::Unclosed);
            return "";
        };
        let Some(end) = closing(word).filter(|_| depth < MAX_DEPTH) else {
            (self.remark)(Remark::Unclosed);
            return "";
        };
        let (word, after) = word.split_at_checked(end).unwrap_or((word, ""));
        let value = (self.environment)(name);
        let filled = value.as_deref().is_some_and(|value| !value.is_empty());
        match form {
            Form::Unset if value.is_some() => out.push_str(&value.unwrap_or_default()),
            Form::Empty if filled => out.push_str(&value.unwrap_or_default()),
            Form::Unset | Form::Empty => out.push_str(&self.expand(word, depth + 1)),
            Form::IfSet if value.is_some() => out.push_str(&self.expand(word, depth + 1)),
            Form::IfFilled if filled => out.push_str(&self.expand(word, depth + 1)),
            Form::IfSet | Form::IfFilled => {}
        }
        after.strip_prefix('}').unwrap_or(after)
    }

    fn value(&mut self, name: &str) -> String {
        (self.environment)(name).unwrap_or_else(|| {
            (self.remark)(Remark::Unset(name.to_owned()));
            String::new()
        })
    }
}

/// What the word after a name is for.
enum Form {
    /// The value of an unset variable.
    Unset,
    /// The value of an unset or empty variable.
    Empty,
    /// What a set variable is replaced by.
    IfSet,
    /// What a variable with a value is replaced by.
    IfFilled,
}

/// The longer forms first.
const FORMS: &[(&str, Form)] = &[
    (":-", Form::Empty),
    (":=", Form::Empty),
    (":+", Form::IfFilled),
    ("-", Form::Unset),
    ("=", Form::Unset),
    ("+", Form::IfSet),
];

const MAX_DEPTH: usize = 8;

/// Characters for private use, which YAML takes for letters.
const OPEN: char = '\u{f5d0a}';
const CLOSE: char = '\u{f5d0b}';

fn split_name(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

/// Returns where the brace that closes `word` is; it must be on the same line.
fn closing(word: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut previous = ' ';
    for (at, c) in word.char_indices() {
        match c {
            '\n' => return None,
            '{' if previous == '$' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
        previous = c;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str, remarks: &[Remark]) {
        let environment = |name: &str| match name {
            "A" => Some("a".to_owned()),
            "EMPTY" => Some(String::new()),
            "DOLLAR" => Some("${A}".to_owned()),
            _ => None,
        };
        let mut node = Node {
            at: Position { line: 1, column: 1 },
            data: Data::Scalar {
                text: unshield(shield(text)),
                typed: true,
            },
        };
        let mut found = Vec::new();
        substitute(&mut node, &environment, &mut |_, remark| found.push(remark));
        assert_eq!(node.text(), Some(expected));
        assert_eq!(found, remarks);
    }

    #[test]
    fn forms() {
        let unset = |name: &str| Remark::Unset(name.to_owned());
        check("$A-${A}.$A_", "a-a.", &[unset("A_")]);
        check("${NONE}|$NONE", "|", &[unset("NONE"), unset("NONE")]);
        check("${NONE-d}${NONE=d}${NONE:-d}${NONE:=d}", "dddd", &[]);
        check("${EMPTY-d}${EMPTY=d}|${EMPTY:-d}${EMPTY:=d}", "|dd", &[]);
        check("${A-d}${A:-d}${A+o}${A:+o}", "aaoo", &[]);
        check("${EMPTY+o}|${EMPTY:+o}${NONE+o}${NONE:+o}", "o|", &[]);
        check("${NONE:-$A}${NONE:-${EMPTY:-${A}}}", "aa", &[]);
        check("${NONE:-${GONE}}", "", &[unset("GONE")]);
        check("$$A $${A} $", "$A ${A} $", &[]);
        check("^a$|$_ ${} $-x ${ A}", "^a$|$_ ${} $-x ${ A}", &[]);
        check("$DOLLAR", "${A}", &[]);
    }

    #[test]
    fn unclosed() {
        check("x${A", "x", &[Remark::Unclosed]);
        check("${A:-b", "", &[Remark::Unclosed]);
        check("${A:-b\n}", "", &[Remark::Unclosed]);
        check("${A.b}", "", &[Remark::Unclosed]);
    }

    #[test]
    fn shielding_keeps_places() {
        for text in [
            "{a: ${B:-${C}}, d: {}}",
            "${A\n}",
            "é ${é} ${}",
            "\u{f5d0a} ${A}",
            "$${A}",
        ] {
            let shielded = shield(text);
            assert_eq!(shielded.chars().count(), text.chars().count());
            assert_eq!(unshield(shielded), text.replace(OPEN, "{"));
        }
        assert!(!shield("{a: ${B}, c: ${D:-${E}}}").contains("${"));
        for text in ["{a: \"${B\"}", "{a: \"${B:-\"}", "{a: ${}}"] {
            assert_eq!(shield(text), text);
        }
    }
}
