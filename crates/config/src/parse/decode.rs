//! From nodes to the types of the kinds: a deserializer that knows where it is.
//!
//! Errors carry the place and path of the value that they are about, unknown fields are collected instead of
//! ending the document, and a null counts as if the field were empty, as it does for the Kubernetes API.

use std::{cell::RefCell, fmt};

use serde::{
    Deserialize,
    de::{
        self, DeserializeSeed, Deserializer, EnumAccess, Error as _, Expected, MapAccess, SeqAccess,
        Unexpected, VariantAccess, Visitor,
    },
};

use super::node::{Data, Member, NULLS, Node};
use crate::places::Position;

/// Why a document is not of its kind.
#[derive(Debug)]
pub(super) struct DecodeError {
    pub(super) at: Option<Position>,
    pub(super) path: String,
    pub(super) reason: String,
}

/// A field that its kind does not have.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unknown {
    pub(super) at: Position,
    pub(super) path: String,
    /// The field that was probably meant.
    pub(super) nearest: Option<&'static str>,
}

/// Reads `node`, which lies at `path`, as a `T`; fields that `T` does not have go to `unknown`.
pub(super) fn decode<'n, T: Deserialize<'n>>(
    node: &'n Node,
    path: &str,
    unknown: &RefCell<Vec<Unknown>>,
) -> Result<T, DecodeError> {
    T::deserialize(Decoder {
        node,
        path: Trail::Start(path),
        unknown,
    })
}

/// How a node is reached; written out only where something is wrong with it.
#[derive(Clone, Copy)]
enum Trail<'p> {
    Start(&'p str),
    Member(&'p Trail<'p>, &'p str),
    Item(&'p Trail<'p>, usize),
}

impl fmt::Display for Trail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trail::Start(path) => f.write_str(path),
            Trail::Member(Trail::Start(""), name) => f.write_str(name),
            Trail::Member(parent, name) => write!(f, "{parent}.{name}"),
            Trail::Item(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

#[derive(Clone, Copy)]
struct Decoder<'n, 'p> {
    node: &'n Node,
    path: Trail<'p>,
    unknown: &'p RefCell<Vec<Unknown>>,
}

impl<'n> Decoder<'n, '_> {
    /// Reads the scalar by the YAML core schema, or whatever else the node is.
    fn any<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.node.data {
            Data::Sequence(items) => self.items(items, visitor),
            Data::Mapping(members) => self.members(members, &[], visitor),
            Data::Scalar { text, typed: false } => visitor.visit_borrowed_str(text),
            Data::Scalar { text, typed: true } => match scalar(text) {
                Typed::Null => visitor.visit_unit(),
                Typed::Bool(value) => visitor.visit_bool(value),
                Typed::Unsigned(value) => visitor.visit_u64(value),
                Typed::Signed(value) => visitor.visit_i64(value),
                Typed::Float(value) => visitor.visit_f64(value),
                Typed::Text => visitor.visit_borrowed_str(text),
            },
        }
        .map_err(|error: DecodeError| error.or_at(self.node.at, &self.path))
    }

    fn items<V: Visitor<'n>>(self, items: &'n [Node], visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_seq(Items {
            items: items.iter(),
            index: 0,
            decoder: self,
        })
    }

    fn members<V: Visitor<'n>>(
        self,
        members: &'n [Member],
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_map(Members {
            members: members.iter(),
            current: None,
            known,
            decoder: self,
        })
    }

    fn structure<V: Visitor<'n>>(
        self,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match &self.node.data {
            Data::Mapping(members) => self.members(members, known, visitor),
            Data::Scalar { .. } if self.node.is_null() => self.members(&[], known, visitor),
            Data::Scalar { .. } | Data::Sequence(_) => Err(DecodeError::expected("an object", self.node)),
        }
        .map_err(|error| error.or_at(self.node.at, &self.path))
    }
}

impl<'n> Deserializer<'n> for Decoder<'n, '_> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.any(visitor)
    }

    fn deserialize_option<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        if self.node.is_null() {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_struct<V: Visitor<'n>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.structure(fields, visitor)
    }

    fn deserialize_map<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.structure(&[], visitor)
    }

    fn deserialize_seq<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.node.data {
            Data::Sequence(items) => self.items(items, visitor),
            Data::Scalar { .. } if self.node.is_null() => self.items(&[], visitor),
            Data::Scalar { .. } | Data::Mapping(_) => Err(DecodeError::expected("a list", self.node)),
        }
        .map_err(|error| error.or_at(self.node.at, &self.path))
    }

    fn deserialize_str<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        if self.node.is_null() {
            return visitor.visit_borrowed_str("");
        }
        match &self.node.data {
            Data::Scalar { text, typed } if !typed || matches!(scalar(text), Typed::Text) => {
                visitor.visit_borrowed_str(text)
            }
            Data::Scalar { .. } => Err(DecodeError::expected("a string: put it in quotes", self.node)),
            Data::Sequence(_) | Data::Mapping(_) => Err(DecodeError::expected("a string", self.node)),
        }
        .map_err(|error| error.or_at(self.node.at, &self.path))
    }

    fn deserialize_string<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_enum<V: Visitor<'n>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        let text = self
            .node
            .text()
            .ok_or_else(|| DecodeError::expected("a string", self.node));
        text.and_then(|text| visitor.visit_enum(Word(text)))
            .map_err(|error| error.or_at(self.node.at, &self.path))
    }

    fn deserialize_newtype_struct<V: Visitor<'n>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    /// Called for the value of a field that the type does not have, and for no other.
    fn deserialize_ignored_any<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        <V: Visitor<'n>>
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct tuple
        tuple_struct identifier
    }
}

struct Items<'n, 'p> {
    items: std::slice::Iter<'n, Node>,
    index: usize,
    decoder: Decoder<'n, 'p>,
}

impl<'n> SeqAccess<'n> for Items<'n, '_> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'n>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        let Some(node) = self.items.next() else {
            return Ok(None);
        };
        let path = Trail::Item(&self.decoder.path, self.index);
        self.index += 1;
        let unknown = self.decoder.unknown;
        let decoder = Decoder { node, path, unknown };
        seed.deserialize(decoder)
            .map(Some)
            .map_err(|error| error.or_at(node.at, &path))
    }
}

struct Members<'n, 'p> {
    members: std::slice::Iter<'n, Member>,
    current: Option<&'n Member>,
    /// The fields of the type; empty for maps.
    known: &'static [&'static str],
    decoder: Decoder<'n, 'p>,
}

impl<'n> MapAccess<'n> for Members<'n, '_> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'n>>(&mut self, seed: K) -> Result<Option<K::Value>, DecodeError> {
        self.current = self.members.next();
        let Some(member) = self.current else {
            return Ok(None);
        };
        if !self.known.is_empty() && !self.known.contains(&member.name.as_str()) {
            self.decoder.unknown.borrow_mut().push(Unknown {
                at: member.at,
                path: Trail::Member(&self.decoder.path, &member.name).to_string(),
                nearest: nearest(&member.name, self.known.iter().copied()),
            });
        }
        let name = de::value::BorrowedStrDeserializer::new(&member.name);
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'n>>(&mut self, seed: V) -> Result<V::Value, DecodeError> {
        let member = self
            .current
            .ok_or_else(|| DecodeError::custom("a value without a key"))?;
        let path = Trail::Member(&self.decoder.path, &member.name);
        let unknown = self.decoder.unknown;
        let decoder = Decoder {
            node: &member.value,
            path,
            unknown,
        };
        seed.deserialize(decoder)
            .map_err(|error| error.or_at(member.value.at, &path))
    }
}

/// A variant without content.
struct Word<'n>(&'n str);

impl<'n> EnumAccess<'n> for Word<'n> {
    type Error = DecodeError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'n>>(self, seed: V) -> Result<(V::Value, Self), DecodeError> {
        let name = de::value::BorrowedStrDeserializer::new(self.0);
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'n> VariantAccess<'n> for Word<'n> {
    type Error = DecodeError;

    fn unit_variant(self) -> Result<(), DecodeError> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'n>>(self, _: T) -> Result<T::Value, DecodeError> {
        Err(DecodeError::custom("expected an object"))
    }

    fn tuple_variant<V: Visitor<'n>>(self, _: usize, _: V) -> Result<V::Value, DecodeError> {
        Err(DecodeError::custom("expected a list"))
    }

    fn struct_variant<V: Visitor<'n>>(
        self,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, DecodeError> {
        Err(DecodeError::custom("expected an object"))
    }
}

impl DecodeError {
    fn expected(what: &str, node: &Node) -> Self {
        let found = match &node.data {
            Data::Sequence(_) => "a list",
            Data::Mapping(_) => "an object",
            Data::Scalar { typed: false, .. } => "a string",
            Data::Scalar { text, typed: true } => match scalar(text) {
                Typed::Null => "nothing",
                Typed::Bool(_) => "a boolean",
                Typed::Unsigned(_) | Typed::Signed(_) | Typed::Float(_) => "a number",
                Typed::Text => "a string",
            },
        };
        Self::custom(format_args!("found {found}, expected {what}"))
    }

    /// Says where the error is, unless a value further in has said so.
    fn or_at(mut self, at: Position, path: &Trail<'_>) -> Self {
        if self.at.is_none() {
            self.at = Some(at);
            self.path = path.to_string();
        }
        self
    }
}

impl de::Error for DecodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self {
            at: None,
            path: String::new(),
            reason: message.to_string(),
        }
    }

    /// The value itself is left out: it may be a secret that an environment variable brought.
    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let found = match unexpected {
            Unexpected::Bool(_) => "a boolean",
            Unexpected::Unsigned(_) | Unexpected::Signed(_) | Unexpected::Float(_) => "a number",
            Unexpected::Str(_) | Unexpected::Char(_) | Unexpected::Bytes(_) => "a string",
            Unexpected::Unit | Unexpected::Option => "nothing",
            Unexpected::Seq => "a list",
            Unexpected::Map => "an object",
            Unexpected::NewtypeStruct
            | Unexpected::Enum
            | Unexpected::UnitVariant
            | Unexpected::NewtypeVariant
            | Unexpected::TupleVariant
            | Unexpected::StructVariant
            | Unexpected::Other(_) => "something else",
        };
        Self::custom(format_args!("found {found}, expected {}", plain(expected)))
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::custom(format_args!("out of range, expected {}", plain(expected)))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let list = expected.join(", ");
        match nearest(variant, expected.iter().copied()) {
            Some(near) => Self::custom(format_args!(
                "unsupported value \"{variant}\"; did you mean \"{near}\"? Supported: {list}"
            )),
            None => Self::custom(format_args!("unsupported value \"{variant}\"; supported: {list}")),
        }
    }

    fn missing_field(field: &'static str) -> Self {
        Self::custom(format_args!("\"{field}\" is required"))
    }
}

/// Returns what is expected in words of the file, not of Rust.
fn plain(expected: &dyn Expected) -> String {
    match expected.to_string().as_str() {
        "u8" | "u16" | "u32" | "u64" => "a whole number that is not negative".to_owned(),
        other => other.to_owned(),
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for DecodeError {}

/// What a plain scalar is in YAML's core schema.
enum Typed {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text,
}

fn scalar(text: &str) -> Typed {
    if NULLS.contains(&text) {
        return Typed::Null;
    }
    match text {
        "true" | "True" | "TRUE" => return Typed::Bool(true),
        "false" | "False" | "FALSE" => return Typed::Bool(false),
        _ => {}
    }
    let radix = |prefix: &str, radix| {
        let digits = text.strip_prefix(prefix)?;
        u64::from_str_radix(digits, radix)
            .ok()
            .filter(|_| !digits.starts_with('+'))
    };
    if let Some(value) = radix("0x", 16).or_else(|| radix("0o", 8)) {
        return Typed::Unsigned(value);
    }
    if let Ok(value) = text.parse() {
        return Typed::Unsigned(value);
    }
    if let Ok(value) = text.parse() {
        return Typed::Signed(value);
    }
    // Rust also reads `inf` and `nan`, which YAML writes with a dot.
    let number = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b))
        && text.bytes().any(|b| b.is_ascii_digit());
    match text.parse() {
        Ok(value) if number => Typed::Float(value),
        Ok(_) | Err(_) => Typed::Text,
    }
}

/// Returns the candidate that `name` was probably meant to be.
pub(super) fn nearest<'c>(name: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    candidates
        .map(|candidate| {
            (
                strsim::damerau_levenshtein(&name.to_lowercase(), &candidate.to_lowercase()),
                candidate,
            )
        })
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Returns the path of the member `name` of what lies at `path`.
pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}
