//! A Rust file as checks read it: its text, and the same text with parts blanked out.
//!
//! This is not a parser. It knows comments, literals and braces, which is what line-by-line rules need so as
//! not to be fooled by a word in a string. All views have the length of the text, so offsets agree.

use std::ops::Range;

/// A Rust file.
#[derive(Debug)]
pub(crate) struct Source {
    /// From the root of the workspace.
    pub path: String,
    /// As it was written.
    pub text: String,
    /// Comments and the contents of literals are blank.
    pub code: String,
    /// As `code`, and items under `#[cfg(test)]` are blank too; all of it in a file of tests.
    pub production: String,
    /// How many lines are not part of a test.
    pub production_lines: usize,
}

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function<'s> {
    /// Its name.
    pub name: &'s str,
    /// The line of its head, from 1.
    pub line: usize,
    /// How many lines it takes, head and closing brace included.
    pub lines: usize,
}

impl Source {
    /// Prepares the views of `text`.
    pub(crate) fn new(path: &str, text: String) -> Self {
        let code = blank_literals(&text);
        let mut production = code.clone();
        let mut production_lines = text.lines().count();
        for test in tests(path, &code) {
            production_lines -= text.get(test.clone()).unwrap_or_default().lines().count();
            production = blank(&production, test);
        }
        Self {
            path: path.to_owned(),
            text,
            code,
            production,
            production_lines,
        }
    }

    /// Returns the line at `offset`, from 1.
    pub(crate) fn line(&self, offset: usize) -> usize {
        let before = self.text.as_bytes().iter().take(offset);
        1 + before.filter(|byte| **byte == b'\n').count()
    }

    /// Returns the paths that are named in production code, imports taken apart:
    /// `use std::{fs, net::IpAddr}` names `std::fs` and `std::net::IpAddr`.
    pub(crate) fn named_paths(&self) -> Vec<(usize, String)> {
        let mut named = Vec::new();
        for at in words(&self.production, "use") {
            let after = at + "use".len();
            let tree = self.production.get(after..).unwrap_or_default();
            let end = tree.find(';').unwrap_or(tree.len());
            let squeezed: String = tree
                .get(..end)
                .unwrap_or_default()
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ");
            flatten("", &squeezed, &mut |path| named.push((at, path)));
        }
        for at in words(&self.production, "std") {
            let rest = self.production.get(at..).unwrap_or_default();
            let end = rest.find(|c: char| !is_word(c) && c != ':').unwrap_or(rest.len());
            named.push((at, rest.get(..end).unwrap_or_default().to_owned()));
        }
        named
    }

    /// Returns the functions with a body that are not tests, in order.
    pub(crate) fn functions(&self) -> Vec<Function<'_>> {
        let mut found = Vec::new();
        for at in words(&self.production, "fn") {
            let head = self.production.get(at + 2..).unwrap_or_default();
            let name = head.trim_start();
            let end = name.find(|c| !is_word(c)).unwrap_or(name.len());
            let Some(name) = name.get(..end).filter(|name| !name.is_empty()) else {
                continue;
            };
            let Some(open) = body(head) else { continue };
            let open = at + 2 + open;
            let line = self.line(at);
            let lines = self.line(closing(&self.production, open)) - line + 1;
            found.push(Function { name, line, lines });
        }
        found
    }
}

/// Returns where `word` stands in `code` as a word of its own.
pub(crate) fn words(code: &str, word: &str) -> Vec<usize> {
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(|at| {
            let before = code.get(..*at).and_then(|before| before.chars().next_back());
            let after = code.get(at + word.len()..).and_then(|after| after.chars().next());
            !before.is_some_and(is_word) && !after.is_some_and(is_word)
        })
        .collect()
}

/// Returns the offset of what closes the bracket at `open`, or the end of `code`.
pub(crate) fn closing(code: &str, open: usize) -> usize {
    let mut depth = 0usize;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at;
                }
            }
            _ => {}
        }
    }
    code.len()
}

/// Returns the parts of `code` that are compiled for tests alone, in order.
fn tests(path: &str, code: &str) -> Vec<Range<usize>> {
    let path = format!("/{path}");
    let mut tests: Vec<Range<usize>> = Vec::new();
    if path.contains("/tests/") || path.contains("/benches/") || path.ends_with("/tests.rs") {
        tests.push(0..code.len());
    }
    for (at, _) in code.match_indices("#[cfg(test)]") {
        if tests.last().is_some_and(|last| at < last.end) {
            continue;
        }
        let item = code.get(at..).unwrap_or_default();
        let end = match body(item) {
            Some(open) => (closing(code, at + open) + 1).min(code.len()),
            None => at + item.find(';').map_or(item.len(), |end| end + 1),
        };
        tests.push(at..end);
    }
    tests
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Returns where the body opens of a function whose head `head` begins with; `None` if it has none.
fn body(head: &str) -> Option<usize> {
    let mut depth = 0usize;
    for (at, byte) in head.bytes().enumerate() {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth = depth.saturating_sub(1),
            b'{' if depth == 0 => return Some(at),
            b';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// Hands each path of the use tree `tree` below `prefix` to `each`.
fn flatten(prefix: &str, tree: &str, each: &mut impl FnMut(String)) {
    let tree = tree.trim();
    let Some((head, group)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or(tree).trim();
        if !path.is_empty() {
            each(format!("{prefix}{path}"));
        }
        return;
    };
    let prefix = format!("{prefix}{}", head.trim());
    let group = group.strip_suffix('}').unwrap_or(group);
    let mut depth = 0usize;
    let mut from = 0;
    for (at, byte) in group.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                flatten(&prefix, group.get(from..at).unwrap_or_default(), each);
                from = at + 1;
            }
            _ => {}
        }
    }
    flatten(&prefix, group.get(from..).unwrap_or_default(), each);
}

/// Returns `code` with everything in `range` blank but for line ends.
fn blank(code: &str, range: Range<usize>) -> String {
    let mut bytes = code.as_bytes().to_vec();
    erase(&mut bytes, range);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn erase(bytes: &mut [u8], range: Range<usize>) {
    for byte in bytes.get_mut(range).into_iter().flatten() {
        if *byte != b'\n' {
            *byte = b' ';
        }
    }
}

/// Returns `text` with comments and the contents of literals blank.
fn blank_literals(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let after_word = at
            .checked_sub(1)
            .and_then(|at| bytes.get(at))
            .is_some_and(|byte| is_word(char::from(*byte)));
        let (skip, keep) = match literal(rest, after_word) {
            Some(found) => found,
            None => {
                at += 1;
                continue;
            }
        };
        // An unfinished literal may be shorter than its delimiters.
        erase(&mut out, at + keep.0..(at + skip).saturating_sub(keep.1));
        at += skip;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Returns the length of the comment or literal that `rest` begins with, and how many bytes at both ends of
/// it stay: delimiters of strings do.
fn literal(rest: &[u8], after_word: bool) -> Option<(usize, (usize, usize))> {
    if rest.starts_with(b"//") {
        let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        return Some((end, (0, 0)));
    }
    if rest.starts_with(b"/*") {
        return Some((block_comment(rest), (0, 0)));
    }
    if rest.starts_with(b"\"") {
        return Some((quoted(rest), (1, 1)));
    }
    if rest.starts_with(b"'") {
        return character(rest).map(|length| (length, (1, 1)));
    }
    if !after_word {
        return raw_string(rest);
    }
    None
}

fn block_comment(rest: &[u8]) -> usize {
    let mut depth = 0usize;
    let mut at = 0;
    while let Some(here) = rest.get(at..).filter(|here| !here.is_empty()) {
        if here.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

fn quoted(rest: &[u8]) -> usize {
    let mut escaped = false;
    for (at, byte) in rest.iter().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Returns the length of a character literal; `None` if the quote begins a lifetime.
fn character(rest: &[u8]) -> Option<usize> {
    if rest.get(1) == Some(&b'\\') {
        let end = rest.iter().skip(3).position(|byte| *byte == b'\'')?;
        return Some(end + 4);
    }
    // A character has up to four bytes; a lifetime has no quote behind its first one.
    let text = std::str::from_utf8(rest.get(1..rest.len().min(5))?).unwrap_or_else(|error| {
        std::str::from_utf8(rest.get(1..1 + error.valid_up_to()).unwrap_or_default()).unwrap_or_default()
    });
    let length = text.chars().next()?.len_utf8();
    (rest.get(1 + length) == Some(&b'\'')).then_some(length + 2)
}

fn raw_string(rest: &[u8]) -> Option<(usize, (usize, usize))> {
    let prefix = [&b"br"[..], b"cr", b"r"]
        .into_iter()
        .find(|prefix| rest.starts_with(prefix))?;
    let hashes = rest
        .get(prefix.len()..)?
        .iter()
        .take_while(|byte| **byte == b'#')
        .count();
    let open = prefix.len() + hashes + 1;
    if rest.get(open - 1) != Some(&b'"') {
        return None;
    }
    let mut end = vec![b'"'];
    end.resize(hashes + 1, b'#');
    let length = rest
        .get(open..)?
        .windows(end.len())
        .position(|window| window == end)
        .map_or(rest.len(), |at| open + at + end.len());
    Some((length, (open, end.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blank() {
        let check = |text: &str, code: &str| {
            let source = Source::new("a.rs", text.to_owned());
            assert_eq!(source.code, code);
            assert_eq!(source.code.len(), text.len());
        };
        check("a // b\nc", "a     \nc");
        check("a /* b /* c */ */ d", "a                 d");
        check(r#"f("a\"b", c)"#, r#"f("    ", c)"#);
        check(r##"f(r#"a"b"#, c)"##, r##"f(r#"   "#, c)"##);
        check(r#"f(br"ab", var"#, r#"f(br"  ", var"#);
        check("f('\"', '\\'', 'é', b'x')", "f(' ', '  ', '  ', b' ')");
        check("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}");
    }

    #[test]
    fn tests_are_not_production() {
        let check = |path: &str, text: &str, production: &str| {
            let source = Source::new(path, text.to_owned());
            assert_eq!(source.production.trim_end(), production);
        };
        check("src/a.rs", "a();\n#[cfg(test)]\nmod tests { b(); }\n", "a();");
        check(
            "src/a.rs",
            "a();\n#[cfg(test)]\nmod tests;\nb();\n",
            "a();\n            \n          \nb();",
        );
        check("tests/a.rs", "a();\n", "");
        check("crates/x/tests/a.rs", "a();\n", "");
    }

    #[test]
    fn imports_are_taken_apart() {
        let source = Source::new(
            "a.rs",
            "use std::{fs, net::{IpAddr, TcpStream as Tcp}};\nfn f() { std::env::var(\"A\"); }".to_owned(),
        );
        let named: Vec<String> = source.named_paths().into_iter().map(|(_, path)| path).collect();
        assert_eq!(
            named,
            [
                "std::fs",
                "std::net::IpAddr",
                "std::net::TcpStream",
                "std::",
                "std::env::var"
            ]
        );
    }

    #[test]
    fn functions_are_measured() {
        let source = Source::new(
            "a.rs",
            "trait T { fn no(&self); }\nfn one() {}\n\nfn two(x: [u8; 2])\nwhere\n{\n    \"}\";\n}\n"
                .to_owned(),
        );
        let function = |name, line, lines| Function { name, line, lines };
        assert_eq!(source.functions(), [function("one", 2, 1), function("two", 4, 5)]);
    }
}
