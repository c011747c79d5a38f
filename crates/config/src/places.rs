//! Where the fields of a resource were written.
//!
//! What is wrong with a field is found out long after the text is gone, so its place is kept: by a hash of the field's
//! name, which is small enough to be kept for every field of every resource.

use std::sync::Arc;

/// Line and column, both from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// Where the fields of a resource were written.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// The lines before the resource's own text.
    lines: usize,
    places: Arc<[Place]>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    field: u64,
    line: u32,
    column: u32,
}

/// The places of a document while it is read.
#[derive(Debug, Default)]
pub(crate) struct Collected(Vec<Place>);

/// A field on the way through a document, as `spec.rules[0].name`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field(u64);

impl Places {
    /// Returns the places of the same text after so many lines.
    pub(crate) fn after(&self, lines: usize) -> Self {
        Self {
            lines,
            places: Arc::clone(&self.places),
        }
    }

    /// Returns where `field` was written, or what it lies in.
    pub fn find(&self, field: &str) -> Option<Position> {
        let mut field = field;
        loop {
            let wanted = Field::ROOT.then(field.as_bytes()).0;
            if let Ok(at) = self.places.binary_search_by_key(&wanted, |place| place.field) {
                return self.places.get(at).map(|place| place.position(self.lines));
            }
            field = field.get(..field.rfind(['.', '['])?)?;
        }
    }
}

impl Place {
    fn position(&self, lines: usize) -> Position {
        let wide = |number| usize::try_from(number).unwrap_or(usize::MAX);
        Position {
            line: wide(self.line) + lines,
            column: wide(self.column),
        }
    }
}

impl Collected {
    /// Notes that `field` was written at a place.
    pub(crate) fn add(&mut self, field: Field, at: Position) {
        let narrow = |number| u32::try_from(number).unwrap_or(u32::MAX);
        self.0.push(Place {
            field: field.0,
            line: narrow(at.line),
            column: narrow(at.column),
        });
    }

    /// Returns the places.
    pub(crate) fn finish(mut self) -> Places {
        self.0.sort_unstable_by_key(|place| place.field);
        Places {
            lines: 0,
            places: self.0.into(),
        }
    }
}

impl Field {
    /// The resource as a whole.
    pub(crate) const ROOT: Self = Self(0xcbf2_9ce4_8422_2325);

    /// Returns the member called `name`.
    pub(crate) fn member(self, name: &str) -> Self {
        let dotted = if self.0 == Self::ROOT.0 {
            self
        } else {
            self.then(b".")
        };
        dotted.then(name.as_bytes())
    }

    /// Returns the member called `name` of what holds names that are not fields.
    pub(crate) fn entry(self, name: &str) -> Self {
        self.then(b"[").then(name.as_bytes()).then(b"]")
    }

    /// Returns the item at `index`.
    pub(crate) fn item(self, index: usize) -> Self {
        self.entry(&index.to_string())
    }

    /// FNV-1a: what comes after a name is hashed on from it.
    fn then(self, bytes: &[u8]) -> Self {
        let hash = bytes.iter().fold(self.0, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Self(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_or_what_it_lies_in_is_found() {
        let mut collected = Collected::default();
        let at = |line| Position { line, column: 1 };
        let spec = Field::ROOT.member("spec");
        let rule = spec.member("rules").item(10);
        let annotations = Field::ROOT.member("metadata").member("annotations");
        collected.add(spec, at(1));
        collected.add(rule, at(2));
        collected.add(rule.member("name"), at(3));
        collected.add(annotations.entry("tollgate.dev/balance"), at(4));
        let places = collected.finish();
        for (field, expected) in [
            ("spec", Some(1)),
            ("spec.rules[10]", Some(2)),
            ("spec.rules[10].name", Some(3)),
            ("spec.rules[10].filters[0].type", Some(2)),
            ("spec.rules[1]", Some(1)),
            ("metadata.annotations[tollgate.dev/balance]", Some(4)),
            ("metadata.annotations[other]", None),
            ("status", None),
        ] {
            assert_eq!(places.find(field), expected.map(at), "{field}");
        }
    }
}
