//! Messages of protocol buffers as bytes, read strictly: what a definition does not have is a fault.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// The fields of a message: numbers, and what has a length.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Field {
    Number(u64),
    Bytes(Vec<u8>),
}

/// Reads the fields of a message; each has to be one of `known`.
pub(super) fn fields(bytes: &[u8], known: &[u64], what: &str) -> Result<Vec<(u64, Field)>, String> {
    let mut rest = bytes;
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let key = number(&mut rest, what)?;
        let field = match key & 7 {
            0 => Field::Number(number(&mut rest, what)?),
            2 => {
                let length = usize::try_from(number(&mut rest, what)?).map_err(|error| error.to_string())?;
                let (taken, left) = rest
                    .split_at_checked(length)
                    .ok_or(format!("{what} is cut off"))?;
                rest = left;
                Field::Bytes(taken.to_vec())
            }
            other => return Err(format!("{what} has a field of wire type {other}")),
        };
        if !known.contains(&(key >> 3)) {
            return Err(format!("{what} has no field {}", key >> 3));
        }
        fields.push((key >> 3, field));
    }
    Ok(fields)
}

fn number(rest: &mut &[u8], what: &str) -> Result<u64, String> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, left) = rest.split_first().ok_or(format!("{what} is cut off"))?;
        *rest = left;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(format!("{what} has a number that is too long"))
}

impl Field {
    pub(super) fn bytes(&self) -> Result<&[u8], String> {
        match self {
            Field::Bytes(bytes) => Ok(bytes),
            Field::Number(_) => Err("a number stands where bytes belong".to_owned()),
        }
    }

    pub(super) fn text(&self) -> Result<String, String> {
        String::from_utf8(self.bytes()?.to_vec()).map_err(|error| error.to_string())
    }

    pub(super) fn number(&self) -> Result<u64, String> {
        match self {
            Field::Number(number) => Ok(*number),
            Field::Bytes(_) => Err("bytes stand where a number belongs".to_owned()),
        }
    }
}

/// Reads a HeaderMap, whose values are raw and whose names are in lower case.
pub(super) fn headers(bytes: &[u8]) -> Result<Vec<(String, String)>, String> {
    let mut headers = Vec::new();
    for (_, header) in fields(bytes, &[1], "HeaderMap")? {
        let (mut name, mut value) = (String::new(), String::new());
        for (field, written) in fields(header.bytes()?, &[1, 3], "HeaderValue")? {
            match field {
                1 => name = written.text()?,
                _ => value = written.text()?,
            }
        }
        if name.is_empty() || name != name.to_lowercase() {
            return Err(format!("a header is called \"{name}\""));
        }
        headers.push((name, value));
    }
    Ok(headers)
}

/// Reads a Metadata: Structs of texts and lists of texts, by namespace.
pub(super) fn metadata(bytes: &[u8]) -> Result<Value, String> {
    let mut metadata = Map::new();
    for (_, entry) in fields(bytes, &[1], "Metadata")? {
        let entry: BTreeMap<u64, Field> = fields(entry.bytes()?, &[1, 2], "an entry")?.into_iter().collect();
        let name = entry.get(&1).ok_or("an entry has no key")?.text()?;
        let value = entry.get(&2).ok_or("an entry has no value")?;
        metadata.insert(name, object(value.bytes()?)?);
    }
    Ok(Value::Object(metadata))
}

fn object(bytes: &[u8]) -> Result<Value, String> {
    let mut object = Map::new();
    for (_, entry) in fields(bytes, &[1], "Struct")? {
        let entry: BTreeMap<u64, Field> = fields(entry.bytes()?, &[1, 2], "an entry")?.into_iter().collect();
        let name = entry.get(&1).ok_or("an entry has no key")?.text()?;
        let value = entry.get(&2).ok_or("an entry has no value")?;
        object.insert(name, value_of(value.bytes()?)?);
    }
    Ok(Value::Object(object))
}

fn value_of(bytes: &[u8]) -> Result<Value, String> {
    match fields(bytes, &[3, 6], "Value")?.as_slice() {
        [(3, text)] => Ok(json!(text.text()?)),
        [(_, list)] => {
            let items = fields(list.bytes()?, &[1], "ListValue")?.into_iter();
            let items = items.map(|(_, item)| value_of(item.bytes()?));
            Ok(Value::Array(items.collect::<Result<_, String>>()?))
        }
        _ => Err("a Value has not exactly one kind".to_owned()),
    }
}

/// A message that is being written.
#[derive(Default)]
pub(super) struct Message(Vec<u8>);

impl Message {
    pub(super) fn number(mut self, field: u64, value: u64) -> Self {
        self.bare(field << 3);
        self.bare(value);
        self
    }

    pub(super) fn bytes(mut self, field: u64, value: &[u8]) -> Self {
        self.bare(field << 3 | 2);
        self.bare(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    pub(super) fn message(self, field: u64, inner: Message) -> Self {
        self.bytes(field, &inner.0)
    }

    /// Returns the message, not compressed and with its length.
    pub(super) fn framed(self) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        [&[0], &length.to_be_bytes()[..], &self.0].concat()
    }

    fn bare(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push((value & 0x7f) as u8);
    }
}

/// Returns a HeaderMutation that sets headers.
pub(super) fn mutation<'a>(headers: impl IntoIterator<Item = (&'a str, &'a str)>) -> Message {
    headers
        .into_iter()
        .fold(Message::default(), |mutation, (name, value)| {
            let header = Message::default()
                .bytes(1, name.as_bytes())
                .bytes(3, value.as_bytes());
            mutation.message(1, Message::default().message(1, header))
        })
}

/// Returns a Struct with one text below two names.
pub(super) fn nested(outer: &str, inner: &str, text: &str) -> Message {
    let entry = |name: &str, value: Message| {
        let entry = Message::default().bytes(1, name.as_bytes()).message(2, value);
        Message::default().message(1, entry)
    };
    let text = Message::default().bytes(3, text.as_bytes());
    entry(outer, Message::default().message(5, entry(inner, text)))
}
