//! Changes to the JSON body of a request on its way to an upstream.

pub mod spec;

/// Body changes, checked and merged: removals first, then settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body {
    /// Paths of members to remove.
    pub remove: Vec<String>,
    /// Paths of members and the JSON text each is to have.
    pub set: Vec<(String, String)>,
}
