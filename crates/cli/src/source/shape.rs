//! What the members of a server are in a list of servers.

use serde_json::Value;

/// What a member is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
    Text,
    Flag,
    Number,
    /// A list of strings.
    Texts,
    /// A list of strings, as which numbers are taken too.
    Words,
    /// An object of strings, as which numbers are taken too.
    Pairs,
    /// Means something to whoever writes the list only.
    Any,
}

impl Shape {
    /// Returns what was expected, if `value` is something else. What is `null` is as good as absent.
    pub(super) fn misses(self, value: &Value) -> Option<&'static str> {
        let plain = |value: &Value| value.is_string() || value.is_number() || value.is_boolean();
        let list = |fits: &dyn Fn(&Value) -> bool| value.as_array().is_some_and(|list| list.iter().all(fits));
        let (fits, expected) = match self {
            Shape::Text => (value.is_string(), "a string"),
            Shape::Flag => (value.is_boolean(), "true or false"),
            Shape::Number => (value.is_u64(), "a whole number"),
            Shape::Texts => (list(&Value::is_string), "a list of strings"),
            Shape::Words => (list(&plain), "a list of strings"),
            Shape::Pairs => {
                let values = value.as_object().map(|pairs| pairs.values());
                let fits =
                    |mut values: serde_json::map::Values<'_>| values.all(|own| plain(own) || own.is_null());
                (values.is_some_and(fits), "an object of strings")
            }
            Shape::Any => (true, ""),
        };
        (!fits && !value.is_null()).then_some(expected)
    }
}

/// Members that are understood, and those that mean something to whoever writes the list only.
pub(super) const KNOWN: &[(&str, Shape)] = &[
    ("type", Shape::Text),
    ("url", Shape::Text),
    ("headers", Shape::Pairs),
    ("includeTools", Shape::Texts),
    ("excludeTools", Shape::Texts),
    ("command", Shape::Text),
    ("args", Shape::Words),
    ("env", Shape::Pairs),
    ("envFile", Shape::Text),
    ("cwd", Shape::Text),
    ("disabled", Shape::Flag),
    ("enabled", Shape::Flag),
    ("timeout", Shape::Number),
    ("alwaysAllow", Shape::Any),
    ("autoApprove", Shape::Any),
    ("description", Shape::Any),
];
