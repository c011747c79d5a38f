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

use self::spec::{BodyMutation, BodySet};
use crate::value::{Content, Known, Origin};

/// Body changes, checked and merged, in the order in which they are made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body {
    /// Paths of members to remove.
    pub remove: Vec<String>,
    /// Paths of members and the JSON text each is to have.
    pub set: Vec<(String, Content<String>)>,
    /// Paths of members and the JSON text each is to have where it is not there.
    pub default: Vec<(String, Content<String>)>,
    /// Paths of lists and the JSON text of what is added to each.
    pub append: Vec<(String, Content<String>)>,
}

/// Why a body could not be changed; the request must not be sent without the change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct BodyError {
    /// The path of the change that failed.
    pub path: String,
    /// Why it failed.
    pub reason: Cow<'static, str>,
}

impl Body {
    /// Checks what a resource says.
    ///
    /// # Errors
    /// The member that is wrong, as `set[0]`, and why: a path is none, a value looks like JSON and is none, or it is not
    /// said what the value is.
    pub fn parse(spec: &BodyMutation) -> Result<Self, (String, BodyError)> {
        let mut body = Self::default();
        for (index, path) in spec.remove.iter().enumerate() {
            segments(path).map_err(|error| (format!("remove[{index}]"), error))?;
            body.remove(path);
        }
        let lists = [
            (&spec.set, &mut body.set, "set"),
            (&spec.default, &mut body.default, "default"),
            (&spec.append, &mut body.append, "append"),
        ];
        for (written, parsed, member) in lists {
            for (index, own) in written.iter().enumerate() {
                let at = |error| (format!("{member}[{index}]"), error);
                segments(&own.path).map_err(at)?;
                let value = content(own).map_err(at)?;
                if member == "append" {
                    parsed.push((own.path.clone(), value));
                } else {
                    put(parsed, &own.path, value);
                }
            }
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
            put(&mut merged.set, path, value.clone());
        }
        for (path, value) in &over.default {
            put(&mut merged.default, path, value.clone());
        }
        merged.append.extend_from_slice(&over.append);
        merged
    }

    /// Returns `body` with the changes applied; the same bytes if there are none. A member that is set to what the
    /// request does not have is removed.
    ///
    /// # Errors
    /// If a change cannot be made, because the body is not a JSON object or a path leads nowhere.
    pub fn apply(&self, body: Bytes, known: &Known<'_>) -> Result<Bytes, BodyError> {
        let mut text: Option<String> = None;
        for (path, change) in self.changes(known) {
            let fail = |reason: &'static str| BodyError {
                path: path.to_owned(),
                reason: reason.into(),
            };
            let current = match &text {
                Some(text) => text.as_str(),
                None => std::str::from_utf8(&body).map_err(|_| fail(NOT_AN_OBJECT))?,
            };
            let raw: &RawValue = serde_json::from_str(current).map_err(|_| fail(NOT_AN_OBJECT))?;
            if !raw.get().starts_with('{') {
                return Err(fail(NOT_AN_OBJECT));
            }
            let changed = edit(raw, &segments(path)?, &change).map_err(fail)?;
            text = changed.or(text);
        }
        Ok(text.map_or(body, Bytes::from))
    }

    /// Returns the changes in the order in which they are made.
    fn changes<'a>(&'a self, known: &'a Known<'_>) -> impl Iterator<Item = (&'a str, Change<'a>)> {
        let remove = self.remove.iter().map(|path| (path.as_str(), Change::Remove));
        let set = self.set.iter().map(|(path, content)| {
            let change = value(content, known).map_or(Change::Remove, Change::Set);
            (path.as_str(), change)
        });
        let default = self.default.iter().filter_map(|(path, content)| {
            let value = value(content, known)?;
            Some((path.as_str(), Change::Default(value)))
        });
        let append = self.append.iter().filter_map(|(path, content)| {
            let value = value(content, known)?;
            Some((path.as_str(), Change::Append(value)))
        });
        remove.chain(set).chain(default).chain(append)
    }

    fn remove(&mut self, path: &str) {
        if !self.remove.iter().any(|known| known == path) {
            self.remove.push(path.to_owned());
        }
    }
}

/// Puts a value in the place of the one of that path.
fn put(list: &mut Vec<(String, Content<String>)>, path: &str, value: Content<String>) {
    match list.iter_mut().find(|(known, _)| known == path) {
        Some((_, known)) => *known = value,
        None => list.push((path.to_owned(), value)),
    }
}

/// Returns what a member is to be, as JSON text.
fn content(written: &BodySet) -> Result<Content<String>, BodyError> {
    let fail = |reason: Cow<'static, str>| BodyError {
        path: written.path.clone(),
        reason,
    };
    match (&written.value, &written.json, &written.value_from) {
        (Some(value), None, None) => json(value).map(Content::Written).ok_or_else(|| {
            fail("the value looks like JSON and is none; put a string in quotes of its own".into())
        }),
        (None, Some(value), None) => Ok(Content::Written(value.to_string())),
        (None, None, Some(from)) => Origin::parse(from)
            .map(Content::Drawn)
            .map_err(|error| fail(error.to_string().into())),
        _ => Err(fail(
            "exactly one of value, json and valueFrom must be specified".into(),
        )),
    }
}

/// Returns the JSON text of a value; `None` if the request does not have it.
fn value<'a>(content: &'a Content<String>, known: &Known<'_>) -> Option<Cow<'a, str>> {
    match content {
        Content::Written(text) => Some(text.as_str().into()),
        Content::Drawn(origin) => origin.json(known).map(|value| value.to_string().into()),
    }
}

/// What is done at the end of a path.
enum Change<'a> {
    Remove,
    Set(Cow<'a, str>),
    Default(Cow<'a, str>),
    Append(Cow<'a, str>),
}

impl Change<'_> {
    /// Returns the JSON text that stands where there is nothing yet.
    fn anew(&self) -> Option<String> {
        match self {
            Change::Remove => None,
            Change::Set(text) | Change::Default(text) => Some(text.clone().into_owned()),
            Change::Append(text) => Some(format!("[{text}]")),
        }
    }
}

/// Returns `raw` with the change made below it; `None` if there is nothing to change.
fn edit(raw: &RawValue, path: &[String], change: &Change<'_>) -> Result<Option<String>, &'static str> {
    let Some((name, rest)) = path.split_first() else {
        return Ok(None);
    };
    match raw.get().as_bytes().first() {
        Some(b'{') => edit_object(raw, name, rest, change),
        Some(b'[') => edit_array(raw, name, rest, change),
        Some(_) | None => match change {
            Change::Remove => Ok(None),
            Change::Set(_) | Change::Default(_) | Change::Append(_) => {
                Err("the path leads into a value that has no members")
            }
        },
    }
}

fn edit_object(
    raw: &RawValue,
    name: &str,
    rest: &[String],
    change: &Change<'_>,
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
    change: &Change<'_>,
) -> Result<Option<String>, &'static str> {
    let items: Vec<&RawValue> = serde_json::from_str(raw.get()).map_err(|_| "malformed JSON")?;
    let index = index(name, items.len());
    let Some(index) = index.filter(|index| *index <= items.len()) else {
        return match change {
            Change::Remove => Ok(None),
            Change::Set(_) | Change::Default(_) | Change::Append(_) => {
                Err("the path names no element of the array")
            }
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

/// Returns which element a name stands for (RFC 6901, section 4): digits, or `-` for the one after the last.
fn index(name: &str, length: usize) -> Option<usize> {
    if name == "-" {
        return Some(length);
    }
    let strict = name == "0" || !name.starts_with('0') && name.bytes().all(|byte| byte.is_ascii_digit());
    strict.then(|| name.parse().ok()).flatten()
}

/// Returns what becomes of a member that is `value` now, or absent.
fn changed(value: Option<&RawValue>, rest: &[String], change: &Change<'_>) -> Result<Outcome, &'static str> {
    let Some(value) = value else {
        let Some(text) = change.anew() else {
            return Ok(Outcome::Same);
        };
        return Ok(Outcome::Now(rest.iter().rev().fold(text, |inner, name| {
            let mut out = Writer::new('{', inner.len());
            out.member(name, &inner);
            out.finish('}')
        })));
    };
    if !rest.is_empty() {
        return Ok(edit(value, rest, change)?.map_or(Outcome::Same, Outcome::Now));
    }
    match change {
        Change::Remove => Ok(Outcome::Gone),
        Change::Set(text) => Ok(Outcome::Now(text.clone().into_owned())),
        Change::Default(_) => Ok(Outcome::Same),
        Change::Append(text) => appended(value, text).map(Outcome::Now),
    }
}

/// Returns the list `raw` with one more element.
fn appended(raw: &RawValue, text: &str) -> Result<String, &'static str> {
    let before = raw
        .get()
        .strip_suffix(']')
        .ok_or("the path leads to a value that is no list")?;
    let comma = if before.trim_end() == "[" { "" } else { "," };
    Ok(format!("{before}{comma}{text}]"))
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

/// Splits a path: a JSON Pointer if it begins with a slash, else names joined by dots.
fn segments(path: &str) -> Result<Vec<String>, BodyError> {
    let (segments, reason) = match path.strip_prefix('/') {
        Some(pointer) => (
            pointer.split('/').map(unescaped).collect(),
            "a \"~\" in a JSON Pointer is followed by 0 or 1",
        ),
        None => (dotted(path), "a path is names joined by single dots"),
    };
    segments.ok_or_else(|| BodyError {
        path: path.to_owned(),
        reason: reason.into(),
    })
}

/// Returns the name that a part of a JSON Pointer stands for (RFC 6901, section 3).
fn unescaped(part: &str) -> Option<String> {
    let mut pieces = part.split('~');
    let mut name = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (char, rest) = match piece.strip_prefix('0') {
            Some(rest) => ('~', rest),
            None => ('/', piece.strip_prefix('1')?),
        };
        name.push(char);
        name.push_str(rest);
    }
    Some(name)
}

/// Splits a path at its dots; `\.` is a dot within a name, `\\` a backslash.
fn dotted(path: &str) -> Option<Vec<String>> {
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
    (!escaped && segments.iter().all(|segment| !segment.is_empty())).then_some(segments)
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
mod tests;
