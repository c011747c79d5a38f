//! Changes to the JSON body of a request on its way to an upstream.
//!
//! Only the objects and arrays on the way to a change are written anew; every value beside it stays as it was
//! spelled. A change that cannot be made refuses the request: one that goes out without, say, its spending
//! cap is worse than one that does not go out.

pub mod spec;

use std::{borrow::Cow, fmt};

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use self::spec::BodyMutation;

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
    pub reason: &'static str,
}

impl Body {
    /// Checks what a resource says.
    ///
    /// # Errors
    /// If a path is empty or a value looks like JSON and is none.
    pub fn parse(spec: &BodyMutation) -> Result<Self, BodyError> {
        let mut body = Self::default();
        for path in &spec.remove {
            segments(path)?;
            body.remove(path);
        }
        for set in &spec.set {
            segments(&set.path)?;
            let value = json(&set.value).ok_or_else(|| BodyError {
                path: set.path.clone(),
                reason: "the value looks like JSON and is none; put a string in quotes of its own",
            })?;
            body.set(&set.path, value);
        }
        Ok(body)
    }

    /// Returns these changes and those of `over`, which wins where both set the same path.
    pub fn overlaid(&self, over: &Self) -> Self {
        let mut merged = self.clone();
        for path in &over.remove {
            merged.remove(path);
        }
        for (path, value) in &over.set {
            merged.set(path, value.clone());
        }
        merged
    }

    /// Returns `body` with the changes applied; the same bytes if there are none.
    ///
    /// # Errors
    /// If a change cannot be made, because the body is not a JSON object or a path leads nowhere.
    pub fn apply(&self, body: Bytes) -> Result<Bytes, BodyError> {
        let changes = self.remove.iter().map(|path| (path, Change::Remove));
        let changes = changes.chain(self.set.iter().map(|(path, value)| (path, Change::Set(value))));
        let mut text: Option<String> = None;
        for (path, change) in changes {
            let fail = |reason| BodyError {
                path: path.clone(),
                reason,
            };
            let current = match &text {
                Some(text) => text.as_str(),
                None => std::str::from_utf8(&body).map_err(|_| fail(NOT_AN_OBJECT))?,
            };
            let raw: &RawValue = serde_json::from_str(current).map_err(|_| fail(NOT_AN_OBJECT))?;
            if !raw.get().starts_with('{') {
                return Err(fail(NOT_AN_OBJECT));
            }
            let changed = edit(raw, &segments(path)?, change).map_err(fail)?;
            text = changed.or(text);
        }
        Ok(text.map_or(body, Bytes::from))
    }

    fn remove(&mut self, path: &str) {
        if !self.remove.iter().any(|known| known == path) {
            self.remove.push(path.to_owned());
        }
    }

    fn set(&mut self, path: &str, value: String) {
        match self.set.iter_mut().find(|(known, _)| known == path) {
            Some((_, known)) => *known = value,
            None => self.set.push((path.to_owned(), value)),
        }
    }
}

/// What is done at the end of a path.
#[derive(Clone, Copy)]
enum Change<'a> {
    Remove,
    Set(&'a str),
}

/// Returns `raw` with the change made below it; `None` if there is nothing to change.
fn edit(raw: &RawValue, path: &[String], change: Change<'_>) -> Result<Option<String>, &'static str> {
    let Some((name, rest)) = path.split_first() else {
        return Ok(None);
    };
    match raw.get().as_bytes().first() {
        Some(b'{') => edit_object(raw, name, rest, change),
        Some(b'[') => edit_array(raw, name, rest, change),
        Some(_) | None => match change {
            Change::Remove => Ok(None),
            Change::Set(_) => Err("the path leads into a value that has no members"),
        },
    }
}

fn edit_object(
    raw: &RawValue,
    name: &str,
    rest: &[String],
    change: Change<'_>,
) -> Result<Option<String>, &'static str> {
    let Members(members) = serde_json::from_str(raw.get()).map_err(|_| "malformed JSON")?;
    let mut found = members.iter().filter(|(known, _)| known == name);
    let value = found.next().map(|(_, value)| *value);
    if found.next().is_some() {
        return Err("the member is there twice");
    }
    let value = match changed(value, rest, change)? {
        Outcome::Same => return Ok(None),
        Outcome::Gone => None,
        Outcome::Now(value) => Some(value),
    };
    let mut out = Writer::new('{', raw.get().len());
    let mut written = false;
    for (known, old) in &members {
        if known != name {
            out.member(known, old.get());
        } else if let Some(value) = &value {
            out.member(known, value);
            written = true;
        }
    }
    if let Some(value) = value.filter(|_| !written) {
        out.member(name, &value);
    }
    Ok(Some(out.finish('}')))
}

fn edit_array(
    raw: &RawValue,
    name: &str,
    rest: &[String],
    change: Change<'_>,
) -> Result<Option<String>, &'static str> {
    let items: Vec<&RawValue> = serde_json::from_str(raw.get()).map_err(|_| "malformed JSON")?;
    let index: Option<usize> = name.parse().ok();
    let Some(index) = index.filter(|index| *index <= items.len()) else {
        return match change {
            Change::Remove => Ok(None),
            Change::Set(_) => Err("the path names no element of the array"),
        };
    };
    let value = match changed(items.get(index).copied(), rest, change)? {
        Outcome::Same => return Ok(None),
        Outcome::Gone => None,
        Outcome::Now(value) => Some(value),
    };
    let mut out = Writer::new('[', raw.get().len());
    for (at, item) in items.iter().enumerate() {
        if at != index {
            out.item(item.get());
        } else if let Some(value) = &value {
            out.item(value);
        }
    }
    if let Some(value) = value.filter(|_| index == items.len()) {
        out.item(&value);
    }
    Ok(Some(out.finish(']')))
}

/// What becomes of a member.
enum Outcome {
    Same,
    Gone,
    Now(String),
}

/// Returns what becomes of a member that is `value` now, or absent.
fn changed(value: Option<&RawValue>, rest: &[String], change: Change<'_>) -> Result<Outcome, &'static str> {
    match (value, rest, change) {
        (None, _, Change::Remove) => Ok(Outcome::Same),
        (Some(_), [], Change::Remove) => Ok(Outcome::Gone),
        (_, [], Change::Set(text)) => Ok(Outcome::Now(text.to_owned())),
        (Some(value), _, _) => Ok(edit(value, rest, change)?.map_or(Outcome::Same, Outcome::Now)),
        (None, _, Change::Set(text)) => Ok(Outcome::Now(rest.iter().rev().fold(
            text.to_owned(),
            |inner, name| {
                let mut out = Writer::new('{', inner.len());
                out.member(name, &inner);
                out.finish('}')
            },
        ))),
    }
}

/// Writes an object or array of values that are JSON already.
struct Writer {
    out: String,
    empty: bool,
}

impl Writer {
    fn new(open: char, capacity: usize) -> Self {
        let mut out = String::with_capacity(capacity + 64);
        out.push(open);
        Self { out, empty: true }
    }

    fn member(&mut self, name: &str, value: &str) {
        self.separate();
        self.out.push_str(&serde_json::Value::from(name).to_string());
        self.out.push(':');
        self.out.push_str(value);
    }

    fn item(&mut self, value: &str) {
        self.separate();
        self.out.push_str(value);
    }

    fn separate(&mut self) {
        if !self.empty {
            self.out.push(',');
        }
        self.empty = false;
    }

    fn finish(mut self, close: char) -> String {
        self.out.push(close);
        self.out
    }
}

/// The members of an object in order, repeated ones included.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(Name(name)) = map.next_key()? {
                    members.push((name, map.next_value()?));
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Object)
    }
}

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Splits a path at its dots; `\.` is a dot within a name, `\\` a backslash.
fn segments(path: &str) -> Result<Vec<String>, BodyError> {
    let mut segments = vec![String::new()];
    let mut escaped = false;
    for c in path.chars() {
        match (c, escaped, segments.last_mut()) {
            ('\\', false, _) => escaped = true,
            ('.', false, _) => segments.push(String::new()),
            (c, _, Some(last)) => {
                last.push(c);
                escaped = false;
            }
            (_, _, None) => {}
        }
    }
    if escaped || segments.iter().any(String::is_empty) {
        return Err(BodyError {
            path: path.to_owned(),
            reason: "a path is names joined by single dots",
        });
    }
    Ok(segments)
}

/// Returns the JSON that `value` stands for: itself if it looks like JSON, else a string. `None` if it looks
/// like JSON and is none.
fn json(value: &str) -> Option<String> {
    let text = value.trim();
    let wrapped = |open, close| text.len() >= 2 && text.starts_with(open) && text.ends_with(close);
    let number = text.starts_with(|c: char| c.is_ascii_digit() || c == '+' || c == '-')
        && text.chars().all(|c| c.is_ascii_digit() || ".+-eE".contains(c));
    let literal = ["true", "false", "null"].contains(&text);
    if literal || number || wrapped('"', '"') || wrapped('{', '}') || wrapped('[', ']') {
        serde_json::from_str::<&RawValue>(text)
            .ok()
            .map(|raw| raw.get().to_owned())
    } else {
        Some(serde_json::Value::from(value).to_string())
    }
}

const NOT_AN_OBJECT: &str = "the body is not a JSON object";

#[cfg(test)]
mod tests {
    use super::{spec::BodySet, *};

    fn mutation(set: &[(&str, &str)], remove: &[&str]) -> BodyMutation {
        BodyMutation {
            set: set
                .iter()
                .map(|(path, value)| BodySet {
                    path: (*path).to_owned(),
                    value: (*value).to_owned(),
                })
                .collect(),
            remove: remove.iter().map(|path| (*path).to_owned()).collect(),
        }
    }

    #[track_caller]
    fn check(set: &[(&str, &str)], remove: &[&str], body: &str, expected: Result<&str, &str>) {
        let changes = Body::parse(&mutation(set, remove)).expect("the changes are well-formed");
        let found = changes.apply(Bytes::copy_from_slice(body.as_bytes()));
        let found = found.map_err(|error| error.to_string());
        let found = found
            .as_ref()
            .map(|bytes| std::str::from_utf8(bytes).expect("text"));
        assert_eq!(found.map_err(String::as_str), expected);
    }

    #[test]
    fn changes() {
        check(&[], &[], "not json \u{7f}", Ok("not json \u{7f}"));
        check(&[], &["gone"], r#"{ "a" : 1.0 }"#, Ok(r#"{ "a" : 1.0 }"#));
        check(
            &[("tier", "flex")],
            &[],
            r#"{"a": 1.50e2}"#,
            Ok(r#"{"a":1.50e2,"tier":"flex"}"#),
        );
        check(
            &[("n", "12")],
            &[],
            r#"{"n":1,"b":[1, 2]}"#,
            Ok(r#"{"n":12,"b":[1, 2]}"#),
        );
        check(&[("n", "\"12\"")], &[], "{}", Ok(r#"{"n":"12"}"#));
        check(
            &[("a.b.c", "true")],
            &[],
            r#"{"a":{"x":0.10}}"#,
            Ok(r#"{"a":{"x":0.10,"b":{"c":true}}}"#),
        );
        check(&[], &["a.b"], r#"{"a":{"b":1,"c":2}}"#, Ok(r#"{"a":{"c":2}}"#));
        check(
            &[("m.0.role", "user")],
            &[],
            r#"{"m":[{"role":"x"},2]}"#,
            Ok(r#"{"m":[{"role":"user"},2]}"#),
        );
        check(&[("m.1", "{}")], &[], r#"{"m":[1]}"#, Ok(r#"{"m":[1,{}]}"#));
        check(
            &[("a", "null")],
            &["a"],
            r#"{"a":1,"b":2}"#,
            Ok(r#"{"b":2,"a":null}"#),
        );
        check(&[(r"a\.b", "1")], &[], r#"{"a.b":0}"#, Ok(r#"{"a.b":1}"#));
        check(
            &[("*", "1")],
            &["?"],
            r##"{"x":0,"?":2,"#":3}"##,
            Ok(r##"{"x":0,"#":3,"*":1}"##),
        );
        check(&[("é\"", "1")], &[], "{}", Ok("{\"é\\\"\":1}"));
    }

    #[test]
    fn failures() {
        check(&[("a", "1")], &[], "[1]", Err("a: the body is not a JSON object"));
        check(
            &[("a", "1")],
            &[],
            "--boundary",
            Err("a: the body is not a JSON object"),
        );
        check(
            &[("a.b", "1")],
            &[],
            r#"{"a":1}"#,
            Err("a.b: the path leads into a value that has no members"),
        );
        check(
            &[("a.7", "1")],
            &[],
            r#"{"a":[1]}"#,
            Err("a.7: the path names no element of the array"),
        );
        check(
            &[("a", "1")],
            &[],
            r#"{"a":1,"a":2}"#,
            Err("a: the member is there twice"),
        );
        check(&[], &["a.b"], r#"{"a":1}"#, Ok(r#"{"a":1}"#));
    }

    #[test]
    fn malformed() {
        for value in ["{oops}", "1-2", "+1", "\"a\"b\"", "[1,]"] {
            assert!(Body::parse(&mutation(&[("a", value)], &[])).is_err(), "{value}");
        }
        for path in ["", "a..b", ".a", "a.", r"a\"] {
            assert!(Body::parse(&mutation(&[], &[path])).is_err(), "{path}");
        }
    }

    #[test]
    fn merging() {
        let backend = Body::parse(&mutation(&[("a", "1"), ("b", "2")], &["x"])).expect("well-formed");
        let route = Body::parse(&mutation(&[("a", "3")], &["x", "y"])).expect("well-formed");
        let merged = backend.overlaid(&route);
        assert_eq!(merged.remove, ["x", "y"]);
        assert_eq!(
            merged.set,
            [("a".to_owned(), "3".to_owned()), ("b".to_owned(), "2".to_owned())]
        );
    }
}
