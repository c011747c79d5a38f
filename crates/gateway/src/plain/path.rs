//! Paths that mean one thing to whoever matches them and to whoever serves them (RFC 3986, section 6.2.2).

use std::borrow::Cow;

use config::intake::{EscapedSlashes, Intake};
use percent_encoding::percent_decode_str;

/// A path, made unambiguous.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Path<'p> {
    /// Matched and served as this.
    Here(Cow<'p, str>),
    /// Its slashes are escaped, so that the client has to say what it means: this.
    Elsewhere(String),
    /// Its slashes are escaped, which is not taken.
    Refused,
}

/// What is done with slashes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Slashes {
    escaped: EscapedSlashes,
    /// Whether those that follow one another stay so.
    keep: bool,
}

impl Slashes {
    /// Returns what `intake` says.
    pub(crate) fn of(intake: &Intake) -> Self {
        Self {
            escaped: intake.escaped_slashes,
            keep: intake.keeps_slashes,
        }
    }
}

impl<'p> Path<'p> {
    /// Reads what need not be escaped, resolves dots, and does with slashes what is to be done.
    pub(crate) fn of(path: &'p str, slashes: &Slashes) -> Self {
        if !ESCAPES.iter().any(|(escape, _)| path.contains(escape)) {
            return Path::Here(normal(path, slashes));
        }
        match slashes.escaped {
            EscapedSlashes::Keep | EscapedSlashes::Unescape => Path::Here(normal(path, slashes)),
            EscapedSlashes::Refuse => Path::Refused,
            EscapedSlashes::Redirect => {
                let path = unescaped(&plain(path));
                Path::Elsewhere(joined(&path, slashes.keep).into_owned())
            }
        }
    }
}

const ESCAPES: [(&str, &str); 4] = [("%2f", "/"), ("%2F", "/"), ("%5c", "/"), ("%5C", "/")];

fn unescaped(path: &str) -> String {
    let replaced = |path: String, (escape, slash): (&str, &str)| path.replace(escape, slash);
    ESCAPES.into_iter().fold(path.to_owned(), replaced)
}

/// Returns the path as it is matched, whatever is to become of the request.
pub(crate) fn normal<'p>(path: &'p str, slashes: &Slashes) -> Cow<'p, str> {
    let mut path = plain(path);
    let reads = slashes.escaped == EscapedSlashes::Unescape;
    if reads && ESCAPES.iter().any(|(escape, _)| path.contains(escape)) {
        path = Cow::Owned(unescaped(&path));
    }
    match path {
        Cow::Borrowed(path) => joined(path, slashes.keep),
        Cow::Owned(path) => Cow::Owned(joined(&path, slashes.keep).into_owned()),
    }
}

/// Reads the escapes of what need not be escaped: `/%61` is `/a` to whoever serves it, so it is to whoever matches it.
/// A backslash is a slash, and a percent sign that escapes nothing is escaped, so that it cannot become another escape.
fn plain(path: &str) -> Cow<'_, str> {
    if !path.contains(['%', '\\']) {
        return Cow::Borrowed(path);
    }
    let mut read = String::with_capacity(path.len() + 2);
    let mut rest = path;
    while let Some(at) = rest.find(['%', '\\']) {
        let (before, after) = rest.split_at(at);
        read.push_str(before);
        let escape = after.get(..3).filter(|escape| escape.starts_with('%'));
        let byte = escape.and_then(|escape| percent_decode_str(escape).next().zip(Some(escape)));
        match byte {
            Some((b'%', escape)) if !escape.eq_ignore_ascii_case("%25") => read.push_str("%25"),
            Some((byte, _)) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                read.push(char::from(byte));
                rest = after.get(3..).unwrap_or_default();
                continue;
            }
            Some((_, escape)) => {
                read.push_str(escape);
                rest = after.get(3..).unwrap_or_default();
                continue;
            }
            None if after.starts_with('%') => read.push_str("%25"),
            None => read.push('/'),
        }
        rest = after.get(1..).unwrap_or_default();
    }
    read.push_str(rest);
    Cow::Owned(read)
}

/// Resolves dots, and joins slashes that follow one another unless those are to be kept.
fn joined(path: &str, keep: bool) -> Cow<'_, str> {
    let suspect = path.contains("//") || path.contains("/.");
    if !suspect || !path.starts_with('/') {
        return Cow::Borrowed(path);
    }
    let mut segments: Vec<&str> = Vec::new();
    let mut inner = path.split('/').skip(1).peekable();
    while let Some(segment) = inner.next() {
        let last = inner.peek().is_none();
        match dots(segment) {
            Some(1) => {}
            Some(_) => {
                segments.pop();
            }
            None if segment.is_empty() && !last && !keep => continue,
            None => {
                segments.push(segment);
                continue;
            }
        }
        // What the dots stand for is a folder.
        if last {
            segments.push("");
        }
    }
    Cow::Owned(format!("/{}", segments.join("/")))
}

/// Returns how many dots a segment consists of, one or two.
fn dots(segment: &str) -> Option<usize> {
    matches!(segment, "." | "..").then_some(segment.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_mean_one_thing() {
        for (path, expected) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b/"),
            ("//a///b//", "/a/b/"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/b/..", "/a/"),
            ("/a/%2e%2E/b", "/b"),
            ("/../../a", "/a"),
            ("/.hidden/..x", "/.hidden/..x"),
            ("/a%20b", "/a%20b"),
            ("/adm%69n/%7Ea", "/admin/~a"),
            ("/a%252e", "/a%252e"),
            ("/a/%2%65%2%65/b", "/a/%252e%252e/b"),
            ("/%zz/%4", "/%25zz/%254"),
            ("/é%C3%A9", "/é%C3%A9"),
            ("/a%é1", "/a%25é1"),
            ("/a\\..\\b", "/b"),
            ("*", "*"),
        ] {
            assert_eq!(
                Path::of(path, &Slashes::default()),
                Path::Here(expected.into()),
                "{path}"
            );
        }
        for (path, expected) in [
            ("/public%2f..%2fadmin", "/admin"),
            ("/a%5Cb", "/a/b"),
            ("/%2e%2e%2f%61", "/a"),
        ] {
            let found = Path::of(path, &Slashes::default());
            assert_eq!(found, Path::Elsewhere(expected.to_owned()), "{path}");
        }
    }

    #[test]
    fn a_policy_says_what_is_done_with_slashes() {
        let check = |escaped: EscapedSlashes, keep: bool, path: &str, expected: Path<'_>| {
            let slashes = Slashes { escaped, keep };
            assert_eq!(Path::of(path, &slashes), expected, "{slashes:?} {path}");
        };
        let here = |path: &'static str| Path::Here(path.into());
        check(EscapedSlashes::Keep, false, "/a%2Fb//c", here("/a%2Fb/c"));
        check(EscapedSlashes::Keep, true, "/a%2Fb//c", here("/a%2Fb//c"));
        check(EscapedSlashes::Refuse, false, "/a%2Fb", Path::Refused);
        check(EscapedSlashes::Refuse, false, "/a/b", here("/a/b"));
        check(EscapedSlashes::Unescape, false, "/a%2F..%5Cb", here("/b"));
        check(EscapedSlashes::Unescape, true, "/a%2F%2fb", here("/a//b"));
        check(
            EscapedSlashes::Redirect,
            true,
            "/a%2F%2fb",
            Path::Elsewhere("/a//b".to_owned()),
        );
    }
}
