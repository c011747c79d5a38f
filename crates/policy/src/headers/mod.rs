//! Changes to the headers of a request on its way to an upstream.

pub mod spec;

use http::{HeaderMap, HeaderName, HeaderValue, header::Entry};

use self::spec::{HeaderMutation, HeaderSet};
use crate::value::{Content, Known, Origin, OriginError, ValueError};

/// Header changes, checked and merged, in the order in which they are made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    /// Removed from the request.
    pub remove: Vec<HeaderName>,
    /// Put into the request in place of any value of that name.
    pub set: Vec<(HeaderName, Content<HeaderValue>)>,
    /// Put into the request where there is none of that name.
    pub default: Vec<(HeaderName, Content<HeaderValue>)>,
    /// Put into the request beside those of that name.
    pub append: Vec<(HeaderName, Content<HeaderValue>)>,
}

/// Why header changes cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Not a header's name.
    #[error("\"{0}\" is not a header name")]
    Name(String),
    /// A value with bytes that headers must not have. It is not shown, as it may be a credential.
    #[error("the value of \"{0}\" has characters that headers must not have")]
    Value(HeaderName),
    /// Neither a value nor where it comes from, or both.
    #[error("exactly one of value and valueFrom must be specified")]
    Several,
    /// Not a place that values come from.
    #[error(transparent)]
    Origin(#[from] OriginError),
}

/// Why headers could not be changed; the request must not be sent without the change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("header {name}: {reason}")]
pub struct Unchanged {
    /// The header.
    pub name: HeaderName,
    /// Why it could not be changed.
    pub reason: ValueError,
}

/// Changes, and the names among them that belong to the gateway: these are left alone.
type Parsed = (Headers, Vec<String>);

impl Headers {
    /// Checks what a resource says. Names that belong to the gateway are left out and returned.
    ///
    /// # Errors
    /// The member that is wrong, as `set[0]`, and why.
    pub fn parse(spec: &HeaderMutation) -> Result<Parsed, (String, HeaderError)> {
        let mut headers = Self::default();
        let mut reserved = Vec::new();
        for (index, written) in spec.remove.iter().enumerate() {
            match name(written).map_err(|error| (format!("remove[{index}]"), error))? {
                Some(name) => headers.remove(name),
                None => reserved.push(written.clone()),
            }
        }
        let lists = [
            (&spec.set, &mut headers.set, "set"),
            (&spec.default, &mut headers.default, "default"),
            (&spec.append, &mut headers.append, "append"),
        ];
        for (written, parsed, member) in lists {
            for (index, own) in written.iter().enumerate() {
                let at = |error| (format!("{member}[{index}]"), error);
                match name(&own.name).map_err(at)? {
                    Some(name) => {
                        let value = content(&name, own).map_err(at)?;
                        if member == "append" {
                            parsed.push((name, value));
                        } else {
                            put(parsed, name, value);
                        }
                    }
                    None => reserved.push(own.name.clone()),
                }
            }
        }
        Ok((headers, reserved))
    }

    /// Returns these changes and those of `over`, which wins where both set the same header.
    pub fn overlaid(&self, over: &Self) -> Self {
        let mut merged = self.clone();
        for name in &over.remove {
            merged.remove(name.clone());
        }
        for (name, value) in &over.set {
            put(&mut merged.set, name.clone(), value.clone());
        }
        for (name, value) in &over.default {
            put(&mut merged.default, name.clone(), value.clone());
        }
        merged.append.extend_from_slice(&over.append);
        merged
    }

    /// Applies the changes to `headers`: those that set a header to what the request does not have remove it.
    ///
    /// # Errors
    /// If a value that comes from the request cannot stand in a header.
    pub fn apply(&self, headers: &mut HeaderMap, known: &Known<'_>) -> Result<(), Unchanged> {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, content) in &self.set {
            match value(name, content, known)? {
                Some(value) => headers.insert(name.clone(), value),
                None => headers.remove(name),
            };
        }
        for (name, content) in &self.default {
            if let Entry::Vacant(vacant) = headers.entry(name)
                && let Some(value) = value(name, content, known)?
            {
                vacant.insert(value);
            }
        }
        for (name, content) in &self.append {
            if let Some(value) = value(name, content, known)? {
                headers.append(name.clone(), value);
            }
        }
        Ok(())
    }

    fn remove(&mut self, name: HeaderName) {
        if !self.remove.contains(&name) {
            self.remove.push(name);
        }
    }
}

/// Returns what a header is to be.
fn content(name: &HeaderName, written: &HeaderSet) -> Result<Content<HeaderValue>, HeaderError> {
    match (&written.value, &written.value_from) {
        (Some(value), None) => {
            let value = HeaderValue::from_str(value);
            let mut value = value.map_err(|_| HeaderError::Value(name.clone()))?;
            // It may be a credential: Debug does not show it then, and HTTP/2 does not index it.
            value.set_sensitive(true);
            Ok(Content::Written(value))
        }
        (None, Some(from)) => Ok(Content::Drawn(Origin::parse(from)?)),
        (None, None) | (Some(_), Some(_)) => Err(HeaderError::Several),
    }
}

/// Returns the value for `name`; `None` if the request does not have it.
fn value(
    name: &HeaderName,
    content: &Content<HeaderValue>,
    known: &Known<'_>,
) -> Result<Option<HeaderValue>, Unchanged> {
    match content {
        Content::Written(value) => Ok(Some(value.clone())),
        Content::Drawn(origin) => origin.header(known).map_err(|reason| Unchanged {
            name: name.clone(),
            reason,
        }),
    }
}

/// Puts a value in the place of the one of that name.
fn put(list: &mut Vec<(HeaderName, Content<HeaderValue>)>, name: HeaderName, value: Content<HeaderValue>) {
    match list.iter_mut().find(|(known, _)| *known == name) {
        Some((_, known)) => *known = value,
        None => list.push((name, value)),
    }
}

/// Returns the checked name; `None` if it belongs to the gateway.
fn name(written: &str) -> Result<Option<HeaderName>, HeaderError> {
    let lower = written.to_ascii_lowercase();
    let reserved = lower.starts_with(':')
        || lower.starts_with("x-ai-eg-")
        || lower == "x-envoy-original-path"
        || OF_THE_MESSAGE.contains(&lower.as_str());
    if reserved {
        return Ok(None);
    }
    let name = HeaderName::from_bytes(lower.as_bytes());
    name.map(Some).map_err(|_| HeaderError::Name(written.to_owned()))
}

/// Headers of the call itself: where it goes, where its body ends, and what can be read of its answer. Changed by hand
/// they would make another request of it than the one that was judged.
const OF_THE_MESSAGE: [&str; 10] = [
    "accept-encoding",
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::tests::{claim, with_known};

    fn written(name: &str, value: &str) -> HeaderSet {
        HeaderSet {
            name: name.to_owned(),
            value: Some(value.to_owned()),
            value_from: None,
        }
    }

    fn drawn(name: &str, from: &str) -> HeaderSet {
        HeaderSet {
            name: name.to_owned(),
            value: None,
            value_from: Some(claim(from)),
        }
    }

    fn mutation(set: &[(&str, &str)], remove: &[&str]) -> HeaderMutation {
        HeaderMutation {
            set: set.iter().map(|(name, value)| written(name, value)).collect(),
            remove: remove.iter().map(|name| (*name).to_owned()).collect(),
            ..HeaderMutation::default()
        }
    }

    #[track_caller]
    fn check(
        backend: &HeaderMutation,
        route: &HeaderMutation,
        request: &[(&str, &str)],
        expected: &[(&str, &str)],
    ) {
        let (backend, _) = Headers::parse(backend).expect("the backend's changes are well-formed");
        let (route, _) = Headers::parse(route).expect("the route's changes are well-formed");
        let mut headers = HeaderMap::new();
        for (name, value) in request {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
            headers.append(name, HeaderValue::from_str(value).expect("a value"));
        }
        let before = headers.clone();
        let changes = backend.overlaid(&route);
        with_known(&before, |known| changes.apply(&mut headers, known)).expect("headers carry all of it");
        let mut found: Vec<(&str, &str)> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().expect("text")))
            .collect();
        found.sort_unstable();
        assert_eq!(found, expected);
    }

    #[test]
    fn merging() {
        let none = mutation(&[], &[]);
        check(&none, &none, &[("x-a", "1")], &[("x-a", "1")]);
        check(
            &mutation(&[("X-A", "b")], &[]),
            &mutation(&[("x-a", "r")], &[]),
            &[("x-a", "1")],
            &[("x-a", "r")],
        );
        check(
            &mutation(&[("x-a", "b")], &["x-c"]),
            &mutation(&[("x-b", "r")], &["X-D"]),
            &[("x-c", "1"), ("x-d", "2")],
            &[("x-a", "b"), ("x-b", "r")],
        );
        check(
            &mutation(&[("x-a", "b")], &[]),
            &mutation(&[], &["x-a"]),
            &[("x-a", "1")],
            &[("x-a", "b")],
        );
        check(
            &mutation(&[("x-a", "b")], &[]),
            &none,
            &[("x-a", "1"), ("x-a", "2")],
            &[("x-a", "b")],
        );
    }

    #[test]
    fn defaults_and_additions() {
        let none = HeaderMutation::default();
        let spec = HeaderMutation {
            default: vec![written("x-a", "d")],
            append: vec![written("x-a", "e")],
            ..HeaderMutation::default()
        };
        check(&spec, &none, &[], &[("x-a", "d"), ("x-a", "e")]);
        check(&spec, &none, &[("x-a", "1")], &[("x-a", "1"), ("x-a", "e")]);
        check(
            &spec,
            &mutation(&[], &["x-a"]),
            &[("x-a", "1")],
            &[("x-a", "d"), ("x-a", "e")],
        );
        check(
            &spec,
            &mutation(&[("x-a", "s")], &[]),
            &[],
            &[("x-a", "e"), ("x-a", "s")],
        );
        let over = HeaderMutation {
            default: vec![written("X-A", "f")],
            append: vec![written("x-a", "g")],
            ..HeaderMutation::default()
        };
        check(&spec, &over, &[], &[("x-a", "e"), ("x-a", "f"), ("x-a", "g")]);
    }

    #[test]
    fn values_of_the_request() {
        let none = HeaderMutation::default();
        let spec = HeaderMutation {
            set: vec![drawn("x-user", "sub"), drawn("x-none", "absent")],
            default: vec![drawn("x-org", "org.id"), drawn("x-more", "absent")],
            append: vec![drawn("x-all", "sub"), drawn("x-all", "absent")],
            ..HeaderMutation::default()
        };
        check(
            &spec,
            &none,
            &[("x-user", "forged"), ("x-none", "forged"), ("x-all", "1")],
            &[("x-all", "1"), ("x-all", "u1"), ("x-org", "7"), ("x-user", "u1")],
        );
        for (from, reason) in [("teams", ValueError::NotText), ("bad", ValueError::Characters)] {
            let spec = HeaderMutation {
                set: vec![drawn("x-a", from)],
                ..HeaderMutation::default()
            };
            let (changes, _) = Headers::parse(&spec).expect("well-formed");
            let mut headers = HeaderMap::new();
            let applied = with_known(&HeaderMap::new(), |known| changes.apply(&mut headers, known));
            let name = HeaderName::from_static("x-a");
            assert_eq!(applied, Err(Unchanged { name, reason }));
        }
    }

    #[test]
    fn reserved_names_are_left_out() {
        let spec = mutation(
            &[("x-ai-eg-model", "m"), ("x-ok", "1")],
            &[":path", "X-Envoy-Original-Path", "Content-Length"],
        );
        let (headers, reserved) = Headers::parse(&spec).expect("nothing is malformed");
        assert_eq!(
            reserved,
            [
                ":path",
                "X-Envoy-Original-Path",
                "Content-Length",
                "x-ai-eg-model"
            ]
        );
        assert_eq!(headers.set.len(), 1);
        assert!(headers.remove.is_empty());
    }

    #[test]
    fn malformed() {
        let fails = |spec: &HeaderMutation| Headers::parse(spec).expect_err("the changes are malformed");
        let name = fails(&mutation(&[("x-a", "1"), ("a b", "1")], &[]));
        assert_eq!(name, ("set[1]".to_owned(), HeaderError::Name("a b".to_owned())));
        let (_, value) = fails(&mutation(&[("x-a", "sk-1\n")], &[]));
        assert!(!value.to_string().contains("sk-1"));
        let both = HeaderSet {
            value: Some("1".to_owned()),
            ..drawn("x-a", "sub")
        };
        let neither = HeaderSet {
            value_from: None,
            ..drawn("x-a", "sub")
        };
        for own in [both, neither] {
            let spec = HeaderMutation {
                append: vec![own],
                ..HeaderMutation::default()
            };
            assert_eq!(fails(&spec), ("append[0]".to_owned(), HeaderError::Several));
        }
    }
}
