//! JSON edited in place: an object's members in their order, each still as it was written.
//!
//! Not the reader of the `llm` crate, although the idea is the same: that one takes a request apart and knows
//! paths for its errors; this one puts a document together again after a few members were replaced.

use std::{borrow::Cow, collections::HashSet, fmt};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor},
    ser::SerializeMap,
};
use serde_json::{Map, Number, Value, value::RawValue};

/// The members of one object, in their order.
#[derive(Clone, Debug, Default)]
pub struct Object<'a> {
    members: Vec<(Cow<'a, str>, Cow<'a, RawValue>)>,
}

impl<'a> Object<'a> {
    /// Returns the object in `raw`; `None` if it is something else, or repeats a member: two readers that
    /// disagree on which one counts are a smuggling hole.
    pub fn parse(raw: &'a RawValue) -> Option<Self> {
        serde_json::from_str(raw.get()).ok()
    }

    /// Returns the member called `key`.
    pub fn get(&self, key: &str) -> Option<&RawValue> {
        let found = self.members.iter().find(|(name, _)| name == key);
        found.map(|(_, value)| value.as_ref())
    }

    /// Returns the member called `key` if it is a string.
    pub fn text(&self, key: &str) -> Option<Cow<'_, str>> {
        self.get(key).and_then(text)
    }

    /// Returns the member called `key` if it is an object.
    pub fn object(&self, key: &str) -> Option<Object<'_>> {
        self.get(key).and_then(Object::parse)
    }

    /// Returns the member called `key` if it is `true` or `false`.
    pub fn flag(&self, key: &str) -> Option<bool> {
        self.get(key)
            .and_then(|value| serde_json::from_str(value.get()).ok())
    }

    /// Gives the member called `key` another value; one that was absent comes last.
    pub fn set(&mut self, key: &str, value: Box<RawValue>) {
        match self.members.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = Cow::Owned(value),
            None => self.members.push((Cow::Owned(key.to_owned()), Cow::Owned(value))),
        }
    }

    /// Replaces the member called `key` by what `change` makes of it, if it is there and `change` has an opinion.
    pub fn edit(&mut self, key: &str, change: impl FnOnce(&RawValue) -> Option<Box<RawValue>>) {
        if let Some((_, value)) = self.members.iter_mut().find(|(name, _)| name == key)
            && let Some(changed) = change(value)
        {
            *value = Cow::Owned(changed);
        }
    }

    /// Takes the member called `key` out; returns whether it was there.
    pub fn remove(&mut self, key: &str) -> bool {
        let before = self.members.len();
        self.members.retain(|(name, _)| name != key);
        self.members.len() < before
    }

    /// Returns the members.
    pub fn members(&self) -> impl Iterator<Item = (&str, &RawValue)> {
        self.members
            .iter()
            .map(|(name, value)| (name.as_ref(), value.as_ref()))
    }

    /// Returns the object as a document.
    pub fn to_raw(&self) -> Box<RawValue> {
        raw(self)
    }
}

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.members.len()))?;
        for (key, value) in &self.members {
            map.serialize_entry(key, value.as_ref())?;
        }
        map.end()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members)
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Object<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
        let mut members: Vec<(Cow<'de, str>, Cow<'de, RawValue>)> = Vec::new();
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key_seed(Key)? {
            let value: &'de RawValue = map.next_value()?;
            let repeated = if members.len() < FEW {
                members.iter().any(|(name, _)| *name == key)
            } else {
                if seen.is_empty() {
                    seen.extend(members.iter().map(|(name, _)| name.clone()));
                }
                !seen.insert(key.clone())
            };
            if repeated {
                return Err(A::Error::custom(format_args!("duplicate member \"{key}\"")));
            }
            members.push((key, Cow::Borrowed(value)));
        }
        Ok(Object { members })
    }
}

/// Up to this many members are compared one by one.
const FEW: usize = 16;

/// A member's name, borrowed unless it is written with escapes.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a member")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

/// A value in which no object repeats a member.
struct Once(Value);

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Anything)
    }
}

struct Anything;

impl<'de> Visitor<'de> for Anything {
    type Value = Once;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Once, E> {
        Ok(Once(Value::Null))
    }

    fn visit_bool<E>(self, own: bool) -> Result<Once, E> {
        Ok(Once(Value::Bool(own)))
    }

    fn visit_i64<E>(self, own: i64) -> Result<Once, E> {
        Ok(Once(Value::from(own)))
    }

    fn visit_u64<E>(self, own: u64) -> Result<Once, E> {
        Ok(Once(Value::from(own)))
    }

    fn visit_f64<E>(self, own: f64) -> Result<Once, E> {
        Ok(Once(Number::from_f64(own).map_or(Value::Null, Value::Number)))
    }

    fn visit_str<E>(self, own: &str) -> Result<Once, E> {
        Ok(Once(Value::from(own)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Once, A::Error> {
        let mut items = Vec::new();
        while let Some(Once(item)) = list.next_element()? {
            items.push(item);
        }
        Ok(Once(Value::Array(items)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Once, A::Error> {
        let mut members = Map::new();
        while let Some((key, Once(value))) = map.next_entry::<String, Once>()? {
            if members.contains_key(&key) {
                return Err(A::Error::custom(format_args!("duplicate member \"{key}\"")));
            }
            members.insert(key, value);
        }
        Ok(Once(Value::Object(members)))
    }
}

/// Returns the value that `raw` is, all of it; `None` if an object in it repeats a member, as two readers could take
/// different ones for it.
pub fn value(raw: &RawValue) -> Option<Value> {
    let Once(value) = serde_json::from_str(raw.get()).ok()?;
    Some(value)
}

/// Returns the string that `raw` is; `None` if it is something else.
pub fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    let written = raw.get();
    let plain = written.strip_prefix('"')?.strip_suffix('"')?;
    if plain.contains('\\') {
        serde_json::from_str(written).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(plain))
    }
}

/// Returns the elements of the array that `raw` is; `None` if it is something else.
pub fn elements(raw: &RawValue) -> Option<Vec<&RawValue>> {
    // Nearly nothing that is asked for is one, and to say why not takes as long as to read what is.
    let array = raw.get().starts_with('[');
    array.then(|| serde_json::from_str(raw.get()).ok()).flatten()
}

/// Returns `value` as raw JSON.
pub fn raw<T: Serialize + ?Sized>(value: &T) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// Returns the document that `text` is; an empty object if it is none.
pub fn document(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap_or_else(|_| empty())
}

/// Returns an empty object.
pub fn empty() -> Box<RawValue> {
    raw(&Object::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).expect("a document")
    }

    #[test]
    fn what_is_not_touched_stays_as_written() {
        let check = |before: &str, change: &dyn Fn(&mut Object<'_>), after: &str| {
            let raw = parsed(before);
            let mut object = Object::parse(&raw).expect("an object");
            change(&mut object);
            assert_eq!(object.to_raw().get(), after);
        };
        let before = r#"{"a":1.0,"b":{ "c" : 1e2 },"d":"\u00e9"}"#;
        check(before, &|_| {}, before);
        check(
            before,
            &|object| object.set("b", raw(&2)),
            r#"{"a":1.0,"b":2,"d":"\u00e9"}"#,
        );
        check(
            before,
            &|object| object.set("e", raw("x")),
            r#"{"a":1.0,"b":{ "c" : 1e2 },"d":"\u00e9","e":"x"}"#,
        );
        check(
            before,
            &|object| assert!(object.remove("b") && !object.remove("b")),
            r#"{"a":1.0,"d":"\u00e9"}"#,
        );
    }

    #[test]
    fn repeated_members_are_refused() {
        let many: String = (0..40).map(|index| format!("\"k{index}\":0,")).collect();
        for text in [
            r#"{"a":1,"a":2}"#.to_owned(),
            r#"{"a":1,"\u0061":2}"#.to_owned(),
            format!("{{{many}\"k3\":1}}"),
            "[]".to_owned(),
        ] {
            assert!(Object::parse(&parsed(&text)).is_none(), "{text}");
        }
    }

    #[test]
    fn values_are_read_whole_or_not_at_all() {
        let check = |text: &str, good: bool| {
            let plain: Option<Value> = serde_json::from_str(text).ok();
            assert_eq!(value(&parsed(text)), plain.filter(|_| good), "{text}");
        };
        check(
            r#"{"a":[1,-2,1.5,18446744073709551615,null,true,{"b":"\u00e9"}],"c":{}}"#,
            true,
        );
        check(r#"[{"a":1},{"a":1}]"#, true);
        check(r#"{"a":{"b":[{"c":1,"c":2}]}}"#, false);
        check(r#"{"a":1,"\u0061":1}"#, false);
        check("1e999", false);
    }
}
