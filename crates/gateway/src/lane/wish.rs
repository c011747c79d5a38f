//! What a client says of fallback in a header: none at all, or whom to ask, in which order.

use config::snapshot::Candidate;
use http::{HeaderMap, HeaderName};

/// The header. It is taken off with all that only the gateway may set, so that no upstream sees it.
const FALLBACK: HeaderName = HeaderName::from_static("x-ai-eg-fallback");

/// The most names that are looked at.
const MAX_NAMES: usize = 16;

/// What a client says of fallback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// There is to be one attempt.
    Never,
    /// Backends or models, by name, in the order in which they are to be asked.
    These(Vec<String>),
}

impl Wish {
    /// Returns what the headers of a request say.
    pub(crate) fn read(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(FALLBACK)?.to_str().ok()?;
        if ["none", "off", "false"].contains(&value.trim().to_ascii_lowercase().as_str()) {
            return Some(Wish::Never);
        }
        let names = value.split(',').map(str::trim).filter(|name| !name.is_empty());
        let names: Vec<String> = names.take(MAX_NAMES).map(str::to_owned).collect();
        (!names.is_empty()).then_some(Wish::These(names))
    }

    /// Returns whether there is to be one attempt.
    pub(crate) fn declines(&self) -> bool {
        match self {
            Wish::Never => true,
            Wish::These(_) => false,
        }
    }

    /// Returns whether somebody is named.
    pub(crate) fn names(&self) -> bool {
        !self.declines()
    }

    /// Returns when `candidate` is to be asked; `None` if it is not named. A name is that of the backend, with or
    /// without its namespace, or of the model that it is asked for.
    pub(crate) fn place(&self, candidate: &Candidate) -> Option<u32> {
        let names = match self {
            Wish::Never => return Some(candidate.priority),
            Wish::These(names) => names,
        };
        let backend = candidate.backend.as_ref().map(|backend| &*backend.id);
        let backend = backend.unwrap_or_default();
        let short = backend.rsplit('/').next().unwrap_or_default();
        let place = names.iter().position(|name| {
            name == backend || name == short || candidate.model.as_deref() == Some(name.as_str())
        });
        place.and_then(|place| u32::try_from(place).ok())
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn wishes_are_read() {
        let check = |value: &'static str, expected: Option<Wish>| {
            let mut headers = HeaderMap::new();
            headers.insert(FALLBACK, HeaderValue::from_static(value));
            assert_eq!(Wish::read(&headers), expected, "{value:?}");
        };
        let these = |names: &[&str]| {
            let names = names.iter().map(|name| (*name).to_owned());
            Some(Wish::These(names.collect()))
        };
        check("none", Some(Wish::Never));
        check(" Off ", Some(Wish::Never));
        check("a, default/b ,m", these(&["a", "default/b", "m"]));
        check(" , ", None);
        assert_eq!(Wish::read(&HeaderMap::new()), None);
    }
}
