//! Changes to the headers of a request on its way to an upstream.

pub mod spec;

use http::{HeaderMap, HeaderName, HeaderValue};

use self::spec::HeaderMutation;

/// Header changes, checked and merged: removals first, then settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    /// Removed from the request.
    pub remove: Vec<HeaderName>,
    /// Put into the request in place of any value of that name.
    pub set: Vec<(HeaderName, HeaderValue)>,
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
}

impl Headers {
    /// Checks what a resource says. Names that belong to the gateway are left out and returned.
    ///
    /// # Errors
    /// If a name or a value is not one of HTTP's.
    pub fn parse(spec: &HeaderMutation) -> Result<(Self, Vec<String>), HeaderError> {
        let mut headers = Self::default();
        let mut reserved = Vec::new();
        for written in &spec.remove {
            match name(written)? {
                Some(name) => headers.remove(name),
                None => reserved.push(written.clone()),
            }
        }
        for written in &spec.set {
            match name(&written.name)? {
                Some(name) => {
                    let value = HeaderValue::from_str(&written.value);
                    let mut value = value.map_err(|_| HeaderError::Value(name.clone()))?;
                    // It may be a credential: Debug does not show it then, and HTTP/2 does not index it.
                    value.set_sensitive(true);
                    headers.set(name, value);
                }
                None => reserved.push(written.name.clone()),
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
            merged.set(name.clone(), value.clone());
        }
        merged
    }

    /// Applies the changes to `headers`.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name.clone(), value.clone());
        }
    }

    fn remove(&mut self, name: HeaderName) {
        if !self.remove.contains(&name) {
            self.remove.push(name);
        }
    }

    fn set(&mut self, name: HeaderName, value: HeaderValue) {
        match self.set.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => self.set.push((name, value)),
        }
    }
}

/// Returns the checked name; `None` if it belongs to the gateway.
fn name(written: &str) -> Result<Option<HeaderName>, HeaderError> {
    let lower = written.to_ascii_lowercase();
    if lower.starts_with(':') || lower.starts_with("x-ai-eg-") || lower == "x-envoy-original-path" {
        return Ok(None);
    }
    let name = HeaderName::from_bytes(lower.as_bytes());
    name.map(Some).map_err(|_| HeaderError::Name(written.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::{HeaderError, Headers, spec::HeaderSet, *};

    fn mutation(set: &[(&str, &str)], remove: &[&str]) -> HeaderMutation {
        HeaderMutation {
            set: set
                .iter()
                .map(|(name, value)| HeaderSet {
                    name: (*name).to_owned(),
                    value: (*value).to_owned(),
                })
                .collect(),
            remove: remove.iter().map(|name| (*name).to_owned()).collect(),
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
        backend.overlaid(&route).apply(&mut headers);
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
    fn reserved_names_are_left_out() {
        let spec = mutation(
            &[("x-ai-eg-model", "m"), ("x-ok", "1")],
            &[":path", "X-Envoy-Original-Path"],
        );
        let (headers, reserved) = Headers::parse(&spec).expect("nothing is malformed");
        assert_eq!(reserved, [":path", "X-Envoy-Original-Path", "x-ai-eg-model"]);
        assert_eq!(headers.set.len(), 1);
        assert!(headers.remove.is_empty());
    }

    #[test]
    fn malformed() {
        let name = Headers::parse(&mutation(&[("a b", "1")], &[]));
        assert_eq!(name, Err(HeaderError::Name("a b".to_owned())));
        let value =
            Headers::parse(&mutation(&[("x-a", "sk-1\n")], &[])).expect_err("a line break is refused");
        assert!(!value.to_string().contains("sk-1"));
    }
}
