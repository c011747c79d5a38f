//! Changes to the headers of a request on its way to an upstream.

pub mod spec;

use http::{HeaderMap, HeaderName, HeaderValue};

/// Header changes, checked and merged: removals first, then settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    /// Removed from the request.
    pub remove: Vec<HeaderName>,
    /// Put into the request in place of any value of that name.
    pub set: Vec<(HeaderName, HeaderValue)>,
}

impl Headers {
    /// Applies the changes to `headers`.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name.clone(), value.clone());
        }
    }
}
