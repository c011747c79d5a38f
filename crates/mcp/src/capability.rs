//! What a server can do, as a session token remembers it.

use serde_json::value::RawValue;

use crate::json::Object;

/// A set of capabilities; bits and their order are part of the token's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Capabilities(u16);

impl Capabilities {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Everything that there is a bit for: what is assumed where nothing is known.
    pub const ALL: Self = Self(0x1ff);
    /// Tools.
    pub const TOOLS: Self = Self(1);
    /// Says when its tools change.
    pub const TOOLS_CHANGED: Self = Self(1 << 1);
    /// Prompts.
    pub const PROMPTS: Self = Self(1 << 2);
    /// Says when its prompts change.
    pub const PROMPTS_CHANGED: Self = Self(1 << 3);
    /// Logging.
    pub const LOGGING: Self = Self(1 << 4);
    /// Resources.
    pub const RESOURCES: Self = Self(1 << 5);
    /// Says when its list of resources changes.
    pub const RESOURCES_CHANGED: Self = Self(1 << 6);
    /// Says when a resource changes.
    pub const SUBSCRIBE: Self = Self(1 << 7);
    /// Completions.
    pub const COMPLETIONS: Self = Self(1 << 8);

    /// Reads the `capabilities` of an initialize result.
    pub fn read(raw: Option<&RawValue>) -> Self {
        let Some(object) = raw.and_then(Object::parse) else {
            return Self::NONE;
        };
        let mut found = Self::NONE;
        for (key, own, flags) in BITS {
            let Some(value) = object.get(key).filter(|value| value.get() != "null") else {
                continue;
            };
            found = found | *own;
            let value = Object::parse(value).unwrap_or_default();
            for (flag, bit) in *flags {
                if value.flag(flag) == Some(true) {
                    found = found | *bit;
                }
            }
        }
        found
    }

    /// Returns the three digits that stand in a token.
    pub fn to_hex(self) -> String {
        format!("{:03x}", self.0)
    }

    /// Reads such digits; everything where there are none.
    pub fn from_hex(text: &str) -> Self {
        match u16::from_str_radix(text, 16) {
            Ok(bits) if !text.starts_with('+') => Self(bits & Self::ALL.0),
            Ok(_) | Err(_) => Self::ALL,
        }
    }

    /// Returns the bits.
    pub fn bits(self) -> u16 {
        self.0
    }

    /// Returns the capabilities of these bits; unknown ones are left out.
    pub fn from_bits(bits: u16) -> Self {
        Self(bits & Self::ALL.0)
    }

    /// Returns whether all of `other` are among these.
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl std::ops::BitOr for Capabilities {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

type Flags = &'static [(&'static str, Capabilities)];

/// The members of `capabilities`, with the flags inside them.
pub(crate) const BITS: &[(&str, Capabilities, Flags)] = &[
    (
        "tools",
        Capabilities::TOOLS,
        &[("listChanged", Capabilities::TOOLS_CHANGED)],
    ),
    (
        "prompts",
        Capabilities::PROMPTS,
        &[("listChanged", Capabilities::PROMPTS_CHANGED)],
    ),
    (
        "resources",
        Capabilities::RESOURCES,
        &[
            ("listChanged", Capabilities::RESOURCES_CHANGED),
            ("subscribe", Capabilities::SUBSCRIBE),
        ],
    ),
    ("logging", Capabilities::LOGGING, &[]),
    ("completions", Capabilities::COMPLETIONS, &[]),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::raw;

    #[test]
    fn capabilities_are_bits() {
        let check = |written: serde_json::Value, hex: &str| {
            assert_eq!(Capabilities::read(Some(&raw(&written))).to_hex(), hex);
        };
        check(serde_json::json!({}), "000");
        check(serde_json::json!({ "tools": {} }), "001");
        check(serde_json::json!({ "tools": { "listChanged": true } }), "003");
        check(
            serde_json::json!({
                "tools": { "listChanged": true }, "prompts": { "listChanged": true }, "logging": {},
                "resources": { "listChanged": true, "subscribe": true }, "completions": {},
            }),
            "1ff",
        );
        check(serde_json::json!({ "tools": null, "resources": true }), "020");
        assert_eq!(Capabilities::from_hex("zz"), Capabilities::ALL);
        assert_eq!(Capabilities::from_hex("003").bits(), 3);
    }
}
