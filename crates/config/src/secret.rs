//! A value that must not be printed.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A credential. Prints and serialises as `[secret]`; [`Secret::expose`] is the only way to its content.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Secret(Box<str>);

impl Secret {
    /// Wraps `value`.
    pub fn new(value: impl Into<Box<str>>) -> Self {
        Self(value.into())
    }

    /// Returns the content, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("[secret]")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<str>::deserialize(deserializer).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    #[test]
    fn nothing_prints_it() {
        let secret = Secret::new("marker");
        let written = serde_json::to_string(&secret).expect("a string");
        // What a panic says of a value that nobody expected.
        let refused = || -> Result<(), Secret> { Err(Secret::new("marker")) };
        let panicked = catch_unwind(|| refused().expect("a value"));
        let said = *panicked
            .expect_err("a panic")
            .downcast::<String>()
            .expect("words");
        for printed in [format!("{secret:?} {secret:#?}"), written, said] {
            assert!(
                printed.contains("[secret]") && !printed.contains("marker"),
                "{printed}"
            );
        }
    }
}
