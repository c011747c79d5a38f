//! Paths that mean one thing to whoever matches them and to whoever serves them (RFC 3986, section 6.2.2).

use std::borrow::Cow;

/// A path, made unambiguous.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Path<'p> {
    /// Matched and served as this.
    Here(Cow<'p, str>),
    /// Its slashes are escaped, so that the client has to say what it means: this.
    Elsewhere(String),
}

impl<'p> Path<'p> {
    /// Resolves dots, and joins slashes that follow one another.
    pub(crate) fn of(path: &'p str) -> Self {
        let escaped = ["%2f", "%2F", "%5c", "%5C"]
            .iter()
            .any(|escape| path.contains(escape));
        if escaped {
            let mut plain = path.to_owned();
            for (escape, slash) in [("%2f", "/"), ("%2F", "/"), ("%5c", "/"), ("%5C", "/")] {
                plain = plain.replace(escape, slash);
            }
            return Path::Elsewhere(normal(&plain).into_owned());
        }
        Path::Here(normal(path))
    }
}

/// Returns the path as it is matched, whatever is to become of the request.
pub(crate) fn normal(path: &str) -> Cow<'_, str> {
    let suspect = path.contains("//") || path.contains("/.") || path.contains("/%2");
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
            None if segment.is_empty() && !last => continue,
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

/// Returns how many dots a segment consists of, one or two, escaped or not.
fn dots(segment: &str) -> Option<usize> {
    let plain = segment.replace("%2e", ".").replace("%2E", ".");
    matches!(plain.as_str(), "." | "..").then_some(plain.len())
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
            ("*", "*"),
        ] {
            assert_eq!(Path::of(path), Path::Here(expected.into()), "{path}");
        }
        for (path, expected) in [("/public%2f..%2fadmin", "/admin"), ("/a%5Cb", "/a/b")] {
            assert_eq!(Path::of(path), Path::Elsewhere(expected.to_owned()), "{path}");
        }
    }
}
