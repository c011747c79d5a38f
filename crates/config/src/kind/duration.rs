//! The durations of the Gateway API: `30s`, `1h30m`, `250ms`.

use std::{borrow::Cow, time};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// A duration as written, already checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration(pub time::Duration);

impl Duration {
    /// Reads one to four numbers of up to five digits, each with `h`, `m`, `s` or `ms`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut total = time::Duration::ZERO;
        let mut rest = text;
        for _ in 0..4 {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            if !(1..=5).contains(&digits) {
                return None;
            }
            let (number, after) = rest.split_at_checked(digits)?;
            let number: u64 = number.parse().ok()?;
            let (unit, after) = UNITS
                .iter()
                .find_map(|(name, unit)| Some((unit, after.strip_prefix(name)?)))?;
            total += time::Duration::from_millis(number.saturating_mul(*unit));
            if after.is_empty() {
                return Some(Self(total));
            }
            rest = after;
        }
        None
    }

    /// Returns the limit that the duration sets: none if it is zero.
    pub fn limit(self) -> Option<time::Duration> {
        Some(self.0).filter(|duration| !duration.is_zero())
    }

    /// Returns the limit that the duration sets: one that nothing reaches if it is zero.
    pub fn bound(self) -> time::Duration {
        self.limit().unwrap_or(FOREVER)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <Cow<'de, str>>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom("expected a duration such as 30s, 1h30m or 250ms"))
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = String::new();
        let mut left = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        for (name, unit) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
            let count = left / unit;
            left %= unit;
            if count > 0 {
                text.push_str(&format!("{count}{name}"));
            }
        }
        if text.is_empty() {
            text.push_str("0s");
        }
        serializer.serialize_str(&text)
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^([0-9]{1,5}(h|m|s|ms)){1,4}$" })
    }
}

/// Units and their milliseconds, `ms` before the `m` that it begins with.
const UNITS: &[(&str, u64)] = &[("h", 3_600_000), ("ms", 1), ("m", 60_000), ("s", 1_000)];

/// Stands for "no limit": nothing that is served lasts longer.
const FOREVER: time::Duration = time::Duration::from_secs(365 * 24 * 3600);
