//! Values of any shape, as gRPC services exchange them: google.protobuf.Struct as JSON.

use serde_json::{Map, Number, Value as Json};

use crate::protobuf::{Fields, Malformed, Message};

/// Reads a google.protobuf.Struct.
pub(crate) fn read(bytes: &[u8]) -> Result<Map<String, Json>, Malformed> {
    object(bytes, MAX_DEPTH)
}

/// Writes a google.protobuf.Struct: fields = 1; an entry has key = 1, value = 2.
pub(crate) fn write(message: &mut Message, object: &Map<String, Json>) {
    for (name, value) in object {
        message.message(1, |entry| {
            entry.text(1, name);
            entry.message(2, |message| write_json(message, value));
        });
    }
}

/// Writes a google.protobuf.Value: null = 1, number = 2, string = 3, bool = 4, struct = 5, list = 6.
fn write_json(message: &mut Message, value: &Json) {
    match value {
        Json::Null => message.number(1, 0),
        Json::Number(number) => message.double(2, number.as_f64().unwrap_or_default()),
        Json::String(text) => message.bytes(3, text.as_bytes()),
        Json::Bool(is_so) => message.number(4, u64::from(*is_so)),
        Json::Object(object) => message.message(5, |message| write(message, object)),
        Json::Array(items) => message.message(6, |list| {
            for item in items {
                list.message(1, |message| write_json(message, item));
            }
        }),
    }
}

/// Reads a google.protobuf.Struct: fields = 1; an entry has key = 1, value = 2.
fn object(bytes: &[u8], depth: usize) -> Result<Map<String, Json>, Malformed> {
    let mut object = Map::new();
    for field in Fields::of(bytes) {
        let (1, entry) = field? else { continue };
        let (mut name, mut value) = ("", Json::Null);
        for field in Fields::of(entry.as_bytes()?) {
            match field? {
                (1, key) => name = key.as_text()?,
                (2, written) => value = json(written.as_bytes()?, depth)?,
                _ => {}
            }
        }
        object.insert(name.to_owned(), value);
    }
    Ok(object)
}

/// Reads a google.protobuf.Value: null = 1, number = 2, string = 3, bool = 4, struct = 5, list = 6.
fn json(bytes: &[u8], depth: usize) -> Result<Json, Malformed> {
    let depth = depth.checked_sub(1).ok_or(Malformed)?;
    let mut read = Json::Null;
    for field in Fields::of(bytes) {
        read = match field? {
            (2, value) => number(value.as_double()?),
            (3, value) => Json::String(value.as_text()?.to_owned()),
            (4, value) => Json::Bool(value.as_number()? != 0),
            (5, value) => Json::Object(object(value.as_bytes()?, depth)?),
            (6, value) => Json::Array(list(value.as_bytes()?, depth)?),
            _ => continue,
        };
    }
    Ok(read)
}

/// Reads a google.protobuf.ListValue: values = 1.
fn list(bytes: &[u8], depth: usize) -> Result<Vec<Json>, Malformed> {
    let mut values = Vec::new();
    for field in Fields::of(bytes) {
        if let (1, value) = field? {
            values.push(json(value.as_bytes()?, depth)?);
        }
    }
    Ok(values)
}

/// Returns a number as JSON has it; one without a fraction is whole.
fn number(number: f64) -> Json {
    if number.fract() == 0.0 && number.abs() < MAX_WHOLE {
        return Json::Number(Number::from(number as i64));
    }
    Number::from_f64(number).map_or(Json::Null, Json::Number)
}

/// How deep what a service says may be.
const MAX_DEPTH: usize = 64;

/// Up to here numbers with fractions hold every whole number.
const MAX_WHOLE: f64 = 9_007_199_254_740_992.0;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let all = json!({ "number": 1.5, "whole": 2, "yes": true, "none": null, "empty": "", "list": [{ "a": "b" }] });
        let mut message = Message::default();
        write(&mut message, all.as_object().expect("an object"));
        assert_eq!(read(&message.into_bytes()).map(Json::Object), Ok(all));
    }

    #[test]
    fn what_is_too_deep_is_none() {
        let mut nested = Vec::new();
        for _ in 0..=MAX_DEPTH {
            let mut value = Message::default();
            value.message(6, |list| list.bytes(1, &nested));
            nested = value.into_bytes();
        }
        assert_eq!(super::json(&nested, MAX_DEPTH), Err(Malformed));
        assert!(super::json(&nested, MAX_DEPTH + 2).is_ok());
    }
}
