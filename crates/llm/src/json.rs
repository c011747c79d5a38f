//! JSON read one level at a time, so that what is not looked at stays as it was written.
//!
//! [`Object`] is the reader of all decoders: members are taken out by name, and an error names the member
//! with its path. [`Shallow`] is the same for a whole request body that will be sent on: it knows where each
//! top-level value lies and can replace some, leaving every other byte alone.
//!
//! Both refuse duplicate members: two readers that disagree on which one counts are a smuggling hole.

use std::{borrow::Cow, collections::HashSet, fmt, ops::Range};

use bytes::{Bytes, BytesMut};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, DeserializeSeed, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::{ApiError, scan};

/// Where a value lies in a document; printed as `messages[2].content`.
#[derive(Clone, Copy, Debug)]
pub enum Path<'p> {
    /// The document itself, which a client sent.
    Root,
    /// The document itself, which an upstream answered, or an event of its stream.
    Reply,
    /// A member of an object.
    Key(&'p Path<'p>, &'p str),
    /// An element of an array.
    Index(&'p Path<'p>, usize),
}

impl<'p> Path<'p> {
    /// Returns the path of a member.
    pub fn key(&'p self, key: &'p str) -> Path<'p> {
        Path::Key(self, key)
    }

    /// Returns the path of an element.
    pub fn index(&'p self, index: usize) -> Path<'p> {
        Path::Index(self, index)
    }

    /// Returns whether this is a path of what an upstream answered.
    pub(crate) fn is_of_reply(&self) -> bool {
        match self {
            Path::Root => false,
            Path::Reply => true,
            Path::Key(parent, _) | Path::Index(parent, _) => parent.is_of_reply(),
        }
    }

    /// Returns a 400 that names this path.
    pub fn invalid(&self, message: impl fmt::Display) -> ApiError {
        match self {
            Path::Root | Path::Reply => ApiError::invalid(message.to_string()),
            Path::Key(..) | Path::Index(..) => {
                ApiError::invalid(format!("{self}: {message}")).with_param(self)
            }
        }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root | Path::Reply => Ok(()),
            Path::Key(Path::Root | Path::Reply, key) => f.write_str(key),
            Path::Key(parent, key) => write!(f, "{parent}.{key}"),
            // Of a reply, whose elements come and go, the member counts and not which element has it.
            Path::Index(parent, _) if parent.is_of_reply() => write!(f, "{parent}[]"),
            Path::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// The members of one object, not yet looked into. `null` counts as absent.
#[derive(Debug)]
pub struct Object<'a> {
    members: Vec<(Cow<'a, str>, &'a RawValue)>,
}

impl<'a> Object<'a> {
    /// Reads the object in `raw`, which lies at `path`.
    ///
    /// # Errors
    /// A 400 that names `path`, if `raw` is not an object or repeats a member.
    pub fn parse(raw: &'a RawValue, path: &Path<'_>) -> Result<Self, ApiError> {
        Self::parse_str(raw.get(), path)
    }

    /// Reads the object in `text`, which lies at `path`.
    ///
    /// # Errors
    /// As [`Object::parse`].
    pub fn parse_str(text: &'a str, path: &Path<'_>) -> Result<Self, ApiError> {
        serde_json::from_str(text).map_err(|error| path.invalid(Reason(&error)))
    }

    /// Reads the object in `bytes`, a whole document.
    ///
    /// # Errors
    /// A 400 with line and column.
    pub fn parse_slice(bytes: &'a [u8]) -> Result<Self, ApiError> {
        serde_json::from_slice(bytes).map_err(|error| ApiError::invalid(format!("malformed JSON: {error}")))
    }

    /// Reads the object in `bytes`, a whole document, and takes the member called `key` out of it, which has to
    /// be an array of objects.
    ///
    /// All three levels are read in one go: one after the other, the largest member of a request would be passed
    /// over three times.
    ///
    /// # Errors
    /// A 400 with line and column, or one that names the member or the element.
    pub fn parse_with_objects(bytes: &'a [u8], key: &str) -> Result<(Self, Vec<Self>), ApiError> {
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        let opened = Opened { apart: Some(key) }.deserialize(&mut deserializer);
        if let (Ok((object, Some(objects))), Ok(())) = (opened, deserializer.end()) {
            return Ok((object, objects));
        }
        // What is wrong is said best by reading level by level.
        let mut object = Self::parse_slice(bytes)?;
        let path = Path::Root.key(key);
        let raw = object
            .take(key)
            .ok_or_else(|| path.invalid("this member is required"))?;
        let objects = elements(raw, &path)?.into_iter().enumerate();
        let objects = objects.map(|(index, raw)| Self::parse(raw, &path.index(index)));
        Ok((object, objects.collect::<Result<_, _>>()?))
    }

    /// Takes the member called `key` out, unless it is absent or `null`.
    pub fn take(&mut self, key: &str) -> Option<&'a RawValue> {
        let at = self.members.iter().position(|(name, _)| name == key)?;
        let (_, raw) = self.members.swap_remove(at);
        (raw.get() != "null").then_some(raw)
    }

    /// Returns the member called `key` without taking it out, unless it is absent or `null`.
    pub fn peek(&self, key: &str) -> Option<&'a RawValue> {
        let (_, raw) = self.members.iter().find(|(name, _)| name == key)?;
        (raw.get() != "null").then_some(*raw)
    }

    /// Takes the member called `key` out and reads it as a `T`.
    ///
    /// # Errors
    /// A 400 that names the member, if it has another type.
    pub fn optional<T: Deserialize<'a>>(
        &mut self,
        key: &str,
        path: &Path<'_>,
    ) -> Result<Option<T>, ApiError> {
        self.take(key).map(|raw| read(raw, &path.key(key))).transpose()
    }

    /// Takes the member called `key` out and reads it as a `T`.
    ///
    /// # Errors
    /// A 400 that names the member, if it is absent or has another type.
    pub fn required<T: Deserialize<'a>>(&mut self, key: &str, path: &Path<'_>) -> Result<T, ApiError> {
        self.optional(key, path)?
            .ok_or_else(|| path.key(key).invalid("this member is required"))
    }

    /// Takes the member called `key` out, a string that may be large; see [`text`].
    ///
    /// # Errors
    /// A 400 that names the member, if it is absent or no string.
    pub fn text(&mut self, key: &str, path: &Path<'_>) -> Result<String, ApiError> {
        match self.take(key) {
            Some(raw) => text(raw, &path.key(key)),
            None => Err(path.key(key).invalid("this member is required")),
        }
    }

    /// Returns the object with every member called what `name` makes of it, for formats that spell names in
    /// more than one way.
    ///
    /// # Errors
    /// A 400 that names `path`, if two members then have the same name.
    pub fn renamed(
        self,
        path: &Path<'_>,
        name: impl Fn(Cow<'a, str>) -> Cow<'a, str>,
    ) -> Result<Self, ApiError> {
        let mut members: Vec<(Cow<'a, str>, &'a RawValue)> = self
            .members
            .into_iter()
            .map(|(key, raw)| (name(key), raw))
            .collect();
        members.sort_by(|(one, _), (other, _)| one.cmp(other));
        let repeated = members
            .windows(2)
            .find(|pair| matches!(pair, [(one, _), (other, _)] if one == other));
        match repeated.and_then(|pair| pair.first()) {
            Some((key, _)) => Err(path.invalid(format_args!("duplicate member \"{key}\""))),
            None => Ok(Self { members }),
        }
    }

    /// Returns the members that nobody took.
    pub fn rest(self) -> impl Iterator<Item = (Cow<'a, str>, &'a RawValue)> {
        self.members.into_iter().filter(|(_, raw)| raw.get() != "null")
    }
}

/// Reads `raw`, which lies at `path`, as a `T`.
///
/// # Errors
/// A 400 that names `path`.
pub fn read<'a, T: Deserialize<'a>>(raw: &'a RawValue, path: &Path<'_>) -> Result<T, ApiError> {
    serde_json::from_str(raw.get()).map_err(|error| path.invalid(Reason(&error)))
}

/// Reads the string in `raw`, which lies at `path`: as [`read`] does, but without a copy on the way, which counts
/// where a string is most of a request.
///
/// # Errors
/// A 400 that names `path`.
pub fn text(raw: &RawValue, path: &Path<'_>) -> Result<String, ApiError> {
    match unescape(raw.get()) {
        Some(text) => Ok(text),
        None => read(raw, path),
    }
}

/// Returns the text of a well-formed JSON string, or `None` for anything else.
fn unescape(raw: &str) -> Option<String> {
    let mut rest = raw.strip_prefix('"')?.strip_suffix('"')?;
    let mut text = String::with_capacity(rest.len());
    // A well-formed string has no quote in it and no control character.
    while let Some(at) = scan::run(rest.as_bytes()) {
        let (plain, escape) = rest.split_at_checked(at)?;
        text.push_str(plain);
        let [b'\\', escaped, ..] = escape.as_bytes() else {
            return None;
        };
        let (char, length) = match escaped {
            b'n' => ('\n', 2),
            b't' => ('\t', 2),
            b'r' => ('\r', 2),
            b'b' => ('\u{8}', 2),
            b'f' => ('\u{c}', 2),
            b'u' => unescape_unicode(escape)?,
            byte => (char::from(*byte), 2),
        };
        text.push(char);
        rest = escape.get(length..)?;
    }
    text.push_str(rest);
    Some(text)
}

/// Returns the character that `text` begins with as `\u` and four digits, or as two such units, and how many
/// bytes it takes.
fn unescape_unicode(text: &str) -> Option<(char, usize)> {
    let unit = |at| {
        let digits = text.get(at..at + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(digits, 16).ok()
    };
    let units = [unit(0)?, unit(6).unwrap_or_default()];
    let char = char::decode_utf16(units).next()?.ok()?;
    Some((char, 6 * char.len_utf16()))
}

/// Reads the elements of the array in `raw`, which lies at `path`.
///
/// # Errors
/// A 400 that names `path`.
pub fn elements<'a>(raw: &'a RawValue, path: &Path<'_>) -> Result<Vec<&'a RawValue>, ApiError> {
    read(raw, path)
}

/// Returns what kind of value `raw` is, by its first byte.
pub fn kind(raw: &RawValue) -> Kind {
    match raw.get().as_bytes().first() {
        Some(b'"') => Kind::String,
        Some(b'[') => Kind::Array,
        Some(b'{') => Kind::Object,
        Some(b't' | b'f') => Kind::Bool,
        Some(b'n') | None => Kind::Null,
        Some(_) => Kind::Number,
    }
}

/// The kinds of JSON values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `"…"`
    String,
    /// `1`
    Number,
    /// `true`
    Bool,
    /// `null`
    Null,
    /// `[…]`
    Array,
    /// `{…}`
    Object,
}

/// Returns `value` as raw JSON.
pub fn raw<T: serde::Serialize + ?Sized>(value: &T) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// Writes `value`, which takes about `weight` bytes.
///
/// # Errors
/// If `value` is not a document, such as a map without text for keys.
pub fn write<T: serde::Serialize + ?Sized>(value: &T, weight: usize) -> Result<Bytes, serde_json::Error> {
    let mut out = Vec::with_capacity(weight);
    serde_json::to_writer(&mut out, value)?;
    Ok(Bytes::from(out))
}

/// Returns the text of `raw` without the blanks between its tokens; everything else stays as it was written.
pub fn compact(raw: &RawValue) -> String {
    let mut quoted = false;
    let mut escaped = false;
    raw.get()
        .chars()
        .filter(|char| {
            let blank = !quoted && matches!(char, ' ' | '\t' | '\n' | '\r');
            if *char == '"' && !escaped {
                quoted = !quoted;
            }
            escaped = quoted && *char == '\\' && !escaped;
            !blank
        })
        .collect()
}

/// A change to a top-level member: the JSON text that it is to have, or `None` to take it out.
pub type Edit = (&'static str, Option<String>);

/// Members by name, each with where its value lies.
type Members = Vec<(Box<str>, Range<usize>)>;

/// A JSON object whose values are known only by where they lie.
#[derive(Clone, Debug)]
pub struct Shallow {
    bytes: Bytes,
    members: Members,
}

impl Shallow {
    /// Finds the top-level members of the object in `bytes`.
    ///
    /// # Errors
    /// A 400 with line and column, if `bytes` is not one well-formed object or repeats a top-level member.
    pub fn parse(bytes: Bytes) -> Result<Self, ApiError> {
        let found = std::str::from_utf8(&bytes).ok().and_then(scan::members);
        let members = match found {
            Some(members) => {
                let key = |range| Box::from(String::from_utf8_lossy(bytes.get(range).unwrap_or_default()));
                let members = members.into_iter();
                members.map(|member| (key(member.key), member.value)).collect()
            }
            None => Self::read_members(&bytes)?,
        };
        Ok(Self { bytes, members })
    }

    fn read_members(bytes: &[u8]) -> Result<Members, ApiError> {
        let start = bytes.as_ptr() as usize;
        let members = Object::parse_slice(bytes)?.members.into_iter();
        let place = |raw: &RawValue| {
            let from = raw.get().as_ptr() as usize - start;
            from..from + raw.get().len()
        };
        Ok(members.map(|(key, raw)| (Box::from(key), place(raw))).collect())
    }

    /// Returns the document as it was received.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Returns the text of a value, unless it is absent or `null`.
    pub fn get(&self, key: &str) -> Option<&str> {
        let text = std::str::from_utf8(self.bytes.get(self.range(key)?)?).ok()?;
        (text != "null").then_some(text)
    }

    /// Returns a value read as a `T`; `None` if it is absent or `null`.
    ///
    /// # Errors
    /// A 400 that names the member, if it has another type.
    pub fn read<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, ApiError> {
        self.get(key)
            .map(|text| {
                serde_json::from_str(text).map_err(|error| Path::Root.key(key).invalid(Reason(&error)))
            })
            .transpose()
    }

    /// Returns the document with `edits` made; members that were absent are put first.
    ///
    /// Every byte outside the edited members stays. Without `edits` this is the received buffer itself.
    pub fn with(&self, edits: &[Edit]) -> Bytes {
        if edits.is_empty() {
            return self.bytes.clone();
        }
        let added = edits.iter().filter(|(key, _)| self.range(key).is_none());
        let added: Vec<String> = added
            .filter_map(|(key, value)| Some(format!("{}:{}", serde_json::Value::from(*key), value.as_ref()?)))
            .collect();
        let added = added.join(",");
        let replaced: usize = edits
            .iter()
            .filter_map(|(_, value)| Some(value.as_ref()?.len()))
            .sum();
        let piece = |range: Range<usize>| self.bytes.get(range).unwrap_or_default();
        let mut at = memchr::memchr(b'{', &self.bytes).map_or(0, |at| at + 1);
        let mut out = BytesMut::with_capacity(self.bytes.len() + added.len() + 1 + replaced);
        out.extend_from_slice(piece(0..at));
        out.extend_from_slice(added.as_bytes());
        let mut is_empty = added.is_empty();
        for (index, (key, range)) in self.members.iter().enumerate() {
            let before = piece(at..range.start);
            at = range.end;
            let value = match edits.iter().find(|(edited, _)| *edited == key.as_ref()) {
                Some((_, Some(value))) => value.as_bytes(),
                Some((_, None)) => continue,
                None => piece(range.clone()),
            };
            // A comma stands before every member but the first.
            let comma = memchr::memchr(b',', before).filter(|_| index > 0);
            match comma {
                Some(comma) if is_empty => out.extend_from_slice(before.get(comma + 1..).unwrap_or_default()),
                None if !is_empty => {
                    out.extend_from_slice(b",");
                    out.extend_from_slice(before);
                }
                Some(_) | None => out.extend_from_slice(before),
            }
            out.extend_from_slice(value);
            is_empty = false;
        }
        out.extend_from_slice(piece(at..self.bytes.len()));
        out.freeze()
    }

    fn range(&self, key: &str) -> Option<Range<usize>> {
        self.members
            .iter()
            .find(|(name, _)| name.as_ref() == key)
            .map(|(_, range)| range.clone())
    }
}

/// A serde_json error without its position, which would be relative to a part of the document.
struct Reason<'e>(&'e serde_json::Error);

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        f.write_str(text.split(" at line ").next().unwrap_or(&text))
    }
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (object, _) = Opened { apart: None }.deserialize(deserializer)?;
        Ok(object)
    }
}

/// Reads an object; the member called `apart` is read as an array of objects and not kept among the others.
struct Opened<'k> {
    apart: Option<&'k str>,
}

impl<'de> DeserializeSeed<'de> for Opened<'_> {
    type Value = (Object<'de>, Option<Vec<Object<'de>>>);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Opened<'_> {
    type Value = (Object<'de>, Option<Vec<Object<'de>>>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members: Vec<(Cow<'de, str>, &'de RawValue)> = Vec::with_capacity(8);
        let mut seen: HashSet<String> = HashSet::new();
        let mut objects = None;
        while let Some(Key(key)) = map.next_key()? {
            if self.apart == Some(&*key) && objects.is_none() {
                objects = Some(map.next_value()?);
                continue;
            }
            // A scan is cheaper for the few members that real objects have; the set bounds the rest.
            let repeated = if members.len() < SCAN {
                members.iter().any(|(name, _)| *name == key)
            } else {
                if seen.is_empty() {
                    seen.extend(members.iter().map(|(name, _)| name.to_string()));
                }
                !seen.insert(key.to_string())
            };
            if repeated || self.apart == Some(&*key) {
                return Err(serde::de::Error::custom(format_args!(
                    "duplicate member \"{key}\""
                )));
            }
            members.push((key, map.next_value()?));
        }
        Ok((Object { members }, objects))
    }
}

/// Up to this many members, duplicates are looked for by scanning.
const SCAN: usize = 32;

/// The `type` of a document, whatever else is in it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Typed<'a> {
    /// As it was written.
    #[serde(rename = "type", borrow)]
    pub(crate) kind: Option<Cow<'a, str>>,
}

/// The name of a member.
#[derive(Deserialize)]
pub(crate) struct Key<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(document: &str, edits: &[Edit], expected: &str) {
        let shallow = Shallow::parse(Bytes::copy_from_slice(document.as_bytes())).expect("an object");
        assert_eq!(shallow.with(edits), expected, "{document}");
    }

    #[test]
    fn edits_leave_every_other_byte_alone() {
        let set = |key, value: &str| (key, Some(value.to_owned()));
        let cut = |key| (key, None);
        check(" { } ", &[set("a", "1")], " {\"a\":1 } ");
        check("{}", &[cut("a")], "{}");
        check("{\"a\": 1}", &[set("a", "2")], "{\"a\": 2}");
        check("{ \"a\": 1 }", &[cut("a")], "{ }");
        check("{ \"a\": 1 }", &[cut("a"), set("b", "2")], "{\"b\":2 }");
        check(
            "{\"x\" : 1.50 , \"a\":2,\n\"y,\":\"é\"}",
            &[cut("a"), set("n", "[]")],
            "{\"n\":[],\"x\" : 1.50,\n\"y,\":\"é\"}",
        );
        check("{\"a\":1,\"b\":2,\"c\":3}", &[cut("a"), cut("b")], "{\"c\":3}");
        check("{\"a\":1,\"b\":2,\"c\":3}", &[cut("b"), cut("c")], "{\"a\":1}");
        check("{\"a,b\":1,\"c\":{ }}", &[cut("c")], "{\"a,b\":1}");
        check(
            "{\"a\":1,\"b\":null}",
            &[cut("a"), set("b", "\"\"")],
            "{\"b\":\"\"}",
        );
    }

    #[test]
    fn text_is_read_as_serde_reads_it() {
        for raw in [
            r#""""#,
            r#""plain""#,
            r#""\n\t\r\b\f\"\\\/""#,
            r#""é\u00e9\ud83d\ude00\u0041 \\u0041""#,
            r#""\ud83d""#,
            r#""\ud83d\u0041""#,
            r#""\ude00\ud83d""#,
            r#""\u0000""#,
            "1",
            "[\"a\"]",
        ] {
            let value: &RawValue = serde_json::from_str(raw).expect("JSON");
            let path = Path::Root.key("content");
            let (ours, theirs) = (text(value, &path), read::<String>(value, &path));
            assert_eq!(format!("{ours:?}"), format!("{theirs:?}"), "{raw}");
        }
    }

    #[test]
    fn objects_are_taken_apart_or_named() {
        #[track_caller]
        fn check(document: &str, expected: Result<usize, &str>) {
            let read = Object::parse_with_objects(document.as_bytes(), "messages");
            let read = read.map(|(_, messages)| messages.len());
            let read = read.map_err(|error| error.message);
            assert_eq!(read, expected.map_err(str::to_owned), "{document}");
        }
        check(r#"{"a":1,"messages":[{"b":[{}]},{}],"c":{}}"#, Ok(2));
        check(r#"{"messages":[]}"#, Ok(0));
        let required = "messages: this member is required";
        check("{}", Err(required));
        check(r#"{"messages":null}"#, Err(required));
        check(
            r#"{"messages":[{},1]}"#,
            Err("messages[1]: invalid type: integer `1`, expected an object"),
        );
        check(
            r#"{"messages":[{"a":1,"a":2}]}"#,
            Err("messages[0]: duplicate member \"a\""),
        );
        check(
            r#"{"messages":[],"messages":[]}"#,
            Err("malformed JSON: duplicate member \"messages\" at line 1 column 25"),
        );
    }
}
