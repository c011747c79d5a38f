//! What is to be said about the declared resources.

/// One entry per resource, in the order in which they were declared.
#[derive(Clone, Debug, Default)]
pub struct Report {}
