//! Which URI a template (RFC 6570) could have been expanded to, for resources that no list names.

/// Returns whether `uri` is an expansion of `template`.
///
/// An expression stands for any text without `/`; one with `+` or `#` for any text at all, and one with `?`, `&`,
/// `/`, `.` or `;` for its operator and any text, or for nothing.
pub fn matches(template: &str, uri: &str) -> bool {
    uri.len() <= MAX_URI && parts(template).is_some_and(|parts| fits(&parts, uri))
}

/// The longest URI that is tried, in bytes; a longer one is no expansion of anything.
const MAX_URI: usize = 16 * 1024;

#[derive(Debug)]
enum Part<'t> {
    Text(&'t str),
    Segment,
    Anything,
    /// Begins with this, or is not there.
    Optional(char),
}

fn parts(template: &str) -> Option<Vec<Part<'_>>> {
    let mut parts = Vec::new();
    let mut rest = template;
    while let Some((text, after)) = rest.split_once('{') {
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        let (expression, after) = after.split_once('}')?;
        parts.push(match expression.chars().next()? {
            '+' | '#' => Part::Anything,
            operator @ ('?' | '&' | '/' | '.' | ';') => Part::Optional(operator),
            _ => Part::Segment,
        });
        if parts.len() > MAX_PARTS {
            return None;
        }
        rest = after;
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest));
    }
    Some(parts)
}

/// Templates with more parts match nothing: trying them would take too long.
const MAX_PARTS: usize = 32;

/// Walks all parts at once: `reached` holds every place in `uri` that the parts so far can end at.
fn fits(parts: &[Part<'_>], uri: &str) -> bool {
    let length = uri.len();
    let mut reached = vec![false; length + 1];
    if let Some(start) = reached.first_mut() {
        *start = true;
    }
    for part in parts {
        let mut next = vec![false; length + 1];
        let mut mark = |from: usize, to: usize| {
            for place in next.iter_mut().take(to + 1).skip(from) {
                *place = true;
            }
        };
        let mut covered = 0;
        for at in (0..=length).filter(|at| reached.get(*at) == Some(&true)) {
            let Some(rest) = uri.get(at..) else { continue };
            let segment = || rest.find('/').map_or(length, |slash| at + slash);
            match part {
                Part::Text(text) if rest.starts_with(text) => mark(at + text.len(), at + text.len()),
                Part::Text(_) => {}
                // An end that was marked from an earlier place need not be marked again, nor looked for.
                Part::Segment if at < covered => {}
                Part::Segment => {
                    let end = segment();
                    mark(at + 1, end);
                    covered = covered.max(end);
                }
                Part::Anything => {
                    mark(at.max(covered), length);
                    covered = length;
                }
                Part::Optional(operator) => {
                    mark(at, at);
                    if covered < length && rest.starts_with(*operator) {
                        mark(at, length);
                        covered = length;
                    }
                }
            }
        }
        reached = next;
    }
    reached.last() == Some(&true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_match_their_expansions() {
        let check = |template: &str, uri: &str, expected: bool| {
            assert_eq!(matches(template, uri), expected, "{template} and {uri}");
        };
        check("test://template/{id}/data", "test://template/123/data", true);
        check("test://template/{id}/data", "test://template/1/2/data", false);
        check("test://template/{id}/data", "test://template//data", false);
        check("file:///{+path}", "file:///a/b/c", true);
        check("file:///{name}.txt", "file:///a.b.txt", true);
        check("file:///{name}.txt", "file:///a.md", false);
        check("db://q{?limit,offset}", "db://q?limit=1&offset=2", true);
        check("db://q{?limit}", "db://q", true);
        check("db://q{?limit}", "db://queue", false);
        check("plain:a", "plain:a", true);
        check("plain:a", "plain:ab", false);
        check("bad:{", "bad:{", false);
        check("ü{x}", "üé", true);
        check("{a}{b}{c}", "xyz", true);
        check("{a}{b}/{c}{d}", "xy/zw", true);
        check("{a}{b}/{c}{d}", "x/zw", false);
        check("a{/b}{/c}", "a/b/c", true);
        check("a{/b}.{/c}", "a/b./c", true);
        // However long it is, and however much fits.
        let slashes = "/".repeat(MAX_URI - 1);
        check("a{/b}{/c}{/d}{/e}x", &format!("a{slashes}"), false);
        check("{a}{b}{c}{d}/", &"x".repeat(MAX_URI), false);
        check("{+a}", &"x".repeat(MAX_URI), true);
        check("{+a}", &"x".repeat(MAX_URI + 1), false);
    }
}
