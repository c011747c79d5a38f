//! Reads documents and hears of the members that nobody reads.
//!
//! What serde would pass over is a loss, named by where it stands. Nothing is allocated for a document of which
//! every member is read: paths are made of what lies on the stack, and written only for what is lost.

use std::{borrow::Cow, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{
        DeserializeSeed, EnumAccess, IgnoredAny, MapAccess, SeqAccess, VariantAccess, Visitor,
        value::{BorrowedStrDeserializer, StrDeserializer},
    },
};
use serde_json::value::RawValue;

use crate::{
    Losses,
    json::{Key, Path},
};

/// What serde_json calls a value that stays as it was written.
const RAW: &str = "$serde_json::private::RawValue";

/// A member that is known, and says nothing that a client of another format would miss.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Silent;

/// What such a member is called here, so that it is passed over and not heard of.
const SILENT: &str = "$tollgate::Silent";

impl<'de> Deserialize<'de> for Silent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(SILENT, Passing)
    }
}

/// Passes over a value, whatever it is.
struct Passing;

impl<'de> Visitor<'de> for Passing {
    type Value = Silent;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("anything")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Silent, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Silent)
    }
}

/// Reads `text`, which lies at `path`, as a `T`. Members that `T` does not have are recorded in `losses`, unless
/// they say nothing.
///
/// # Errors
/// If `text` is no `T`.
pub(crate) fn read<'de, T: Deserialize<'de>>(
    text: &'de str,
    path: &Path<'_>,
    losses: &mut Losses,
) -> Result<T, serde_json::Error> {
    document(serde_json::Deserializer::from_str(text), path, losses)
}

/// Reads `body`, a whole reply, as [`read`] does.
///
/// # Errors
/// If `body` is no `T`.
pub(crate) fn reply<'de, T: Deserialize<'de>>(
    body: &'de [u8],
    losses: &mut Losses,
) -> Result<T, serde_json::Error> {
    document(serde_json::Deserializer::from_slice(body), &Path::Reply, losses)
}

fn document<'de, T: Deserialize<'de>, R: serde_json::de::Read<'de>>(
    mut deserializer: serde_json::Deserializer<R>,
    path: &Path<'_>,
    losses: &mut Losses,
) -> Result<T, serde_json::Error> {
    let value = T::deserialize(Heard {
        inner: &mut deserializer,
        path,
        losses,
    })?;
    deserializer.end()?;
    Ok(value)
}

/// Something of serde's that reads the value at `path`.
struct Heard<'l, X> {
    inner: X,
    path: &'l Path<'l>,
    losses: &'l mut Losses,
}

impl<'l, X> Heard<'l, X> {
    /// Returns the same for `inner`, and what was wrapped.
    fn pass<Y>(self, inner: Y) -> (X, Heard<'l, Y>) {
        let heard = Heard {
            inner,
            path: self.path,
            losses: self.losses,
        };
        (self.inner, heard)
    }
}

/// Reads what holds no members as the inner reader does.
macro_rules! plain {
    ($($read:ident)*) => {$(
        fn $read<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.inner.$read(visitor)
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Heard<'_, D> {
    type Error = D::Error;

    plain! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128 deserialize_f32
        deserialize_f64 deserialize_char deserialize_str deserialize_string deserialize_bytes
        deserialize_byte_buf deserialize_unit deserialize_identifier
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let (inner, visitor) = self.pass(visitor);
        inner.deserialize_any(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let (inner, visitor) = self.pass(visitor);
        inner.deserialize_option(visitor)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_unit_struct(name, visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        // Neither holds anything that is read here.
        if name == RAW || name == SILENT {
            return self.inner.deserialize_newtype_struct(name, visitor);
        }
        let (inner, visitor) = self.pass(visitor);
        inner.deserialize_newtype_struct(name, visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let (inner, visitor) = self.pass(visitor);
        inner.deserialize_seq(visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, D::Error> {
        let (inner, visitor) = self.pass(visitor);
        inner.deserialize_tuple(length, visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let (inner, visitor) = self.pass(visitor);
        inner.deserialize_tuple_struct(name, length, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let (inner, visitor) = self.pass(visitor);
        inner.deserialize_map(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let (inner, visitor) = self.pass(visitor);
        inner.deserialize_struct(name, fields, visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let (inner, visitor) = self.pass(visitor);
        inner.deserialize_enum(name, variants, visitor)
    }

    /// What would be passed over.
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let raw = <&RawValue>::deserialize(self.inner)?;
        if !NOTHING.contains(&raw.get()) {
            self.losses.unread(self.path);
        }
        visitor.visit_unit()
    }
}

/// Values that say nothing, whatever the member is.
const NOTHING: &[&str] = &["null", "[]", "{}", "\"\"", "0", "0.0"];

/// Hands a value on that holds no members.
macro_rules! hand_on {
    ($($visit:ident: $value:ty)*) => {$(
        fn $visit<E: serde::de::Error>(self, value: $value) -> Result<V::Value, E> {
            self.inner.$visit(value)
        }
    )*};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Heard<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.expecting(f)
    }

    hand_on! {
        visit_bool: bool
        visit_i64: i64
        visit_u64: u64
        visit_f64: f64
        visit_str: &str
        visit_borrowed_str: &'de str
        visit_string: String
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        let (visitor, deserializer) = self.pass(deserializer);
        visitor.visit_some(deserializer)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        let (visitor, deserializer) = self.pass(deserializer);
        visitor.visit_newtype_struct(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<V::Value, A::Error> {
        self.inner.visit_seq(Elements {
            inner: seq,
            path: self.path,
            losses: self.losses,
            index: 0,
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.inner.visit_map(Members {
            inner: map,
            path: self.path,
            losses: self.losses,
            key: Cow::Borrowed(""),
        })
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<V::Value, A::Error> {
        let (visitor, data) = self.pass(data);
        visitor.visit_enum(data)
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Heard<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        let (seed, deserializer) = self.pass(deserializer);
        seed.deserialize(deserializer)
    }
}

/// The elements of an array.
struct Elements<'l, A> {
    inner: A,
    path: &'l Path<'l>,
    losses: &'l mut Losses,
    index: usize,
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Elements<'_, A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        let path = Path::Index(self.path, self.index);
        self.index += 1;
        self.inner.next_element_seed(Heard {
            inner: seed,
            path: &path,
            losses: self.losses,
        })
    }
}

/// The members of an object.
struct Members<'de, 'l, A> {
    inner: A,
    path: &'l Path<'l>,
    losses: &'l mut Losses,
    key: Cow<'de, str>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Members<'de, '_, A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        let Some(Key(key)) = self.inner.next_key()? else {
            return Ok(None);
        };
        self.key = key;
        name(&self.key, seed).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        let path = Path::Key(self.path, &self.key);
        self.inner.next_value_seed(Heard {
            inner: seed,
            path: &path,
            losses: self.losses,
        })
    }
}

/// Reads the name of a member or a variant.
fn name<'de, S: DeserializeSeed<'de>, E: serde::de::Error>(
    name: &Cow<'de, str>,
    seed: S,
) -> Result<S::Value, E> {
    match name {
        Cow::Borrowed(name) => seed.deserialize(BorrowedStrDeserializer::new(name)),
        Cow::Owned(name) => seed.deserialize(StrDeserializer::new(name)),
    }
}

/// A variant, whose members lie in the object that is called for it.
struct Variant<'de, 'l, A> {
    inner: A,
    path: &'l Path<'l>,
    losses: &'l mut Losses,
    name: Cow<'de, str>,
}

impl<'de, 'l, A: EnumAccess<'de>> EnumAccess<'de> for Heard<'l, A> {
    type Error = A::Error;
    type Variant = Variant<'de, 'l, A::Variant>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self::Variant), A::Error> {
        let (Key(key), variant) = self.inner.variant_seed(PhantomData::<Key<'de>>)?;
        let value = name(&key, seed)?;
        let variant = Variant {
            inner: variant,
            path: self.path,
            losses: self.losses,
            name: key,
        };
        Ok((value, variant))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Variant<'de, '_, A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.inner.unit_variant()
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        self.inner.newtype_variant_seed(Heard {
            inner: seed,
            path: &Path::Key(self.path, &self.name),
            losses: self.losses,
        })
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, A::Error> {
        let path = Path::Key(self.path, &self.name);
        let visitor = Heard {
            inner: visitor,
            path: &path,
            losses: self.losses,
        };
        self.inner.tuple_variant(length, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        let path = Path::Key(self.path, &self.name);
        let visitor = Heard {
            inner: visitor,
            path: &path,
            losses: self.losses,
        };
        self.inner.struct_variant(fields, visitor)
    }
}
