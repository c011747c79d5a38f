//! In which words spans tell of the requests of a route, where an annotation says so.

use super::Notes;
use crate::{Key, kind::Metadata, words::Vocabularies};

/// Names the vocabularies, in the words of the variable that does for all routes.
const WORDS: &str = "tollgate.dev/tracing-semconv";

/// Returns what a route says of its spans.
pub(super) fn words(
    kind: &'static str,
    key: &Key,
    metadata: &Metadata,
    notes: &mut Notes,
) -> Option<Vocabularies> {
    let written = metadata.annotations.get(WORDS)?;
    match Vocabularies::parse(written) {
        Ok(words) => Some(words),
        Err(message) => {
            // What is served does not hang on how it is told of.
            let field = format!("metadata.annotations[{WORDS}]");
            notes.warn(kind, key, "Invalid", field.as_str(), message);
            None
        }
    }
}
