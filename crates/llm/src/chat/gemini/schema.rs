//! JSON schemas and the format's own schemas, which are a part of OpenAPI's: each said in terms of the other.
//!
//! Models that take JSON schemas are sent the client's own; this is for the others, and for clients that write
//! the format's.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::wire;

/// Keywords that both kinds of schema have; the compatibility specification, "JSON-schema conversion".
const SHARED: &[&str] = &[
    "default",
    "description",
    "enum",
    "example",
    "format",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "nullable",
    "pattern",
    "propertyOrdering",
    "required",
    "title",
    "type",
];

/// Keywords of which nothing is to be said: they hold what was looked up, or are for people.
const SILENT: &[&str] = &["$defs", "definitions", "$schema", "$id", "$comment", "examples"];

/// The deepest nesting that is converted, references looked up.
const MAX_DEPTH: usize = 100;

/// The most schemas that one may consist of, references looked up: they can be nested so that they multiply.
const MAX_SCHEMAS: usize = 10_000;

/// A schema that was converted.
#[derive(Debug)]
pub(super) struct Converted {
    /// The schema in the other form.
    pub(super) schema: Value,
    /// What it no longer says, in order, each once.
    pub(super) lost: Vec<String>,
}

/// Converts `schema`, a JSON schema, to the format's form.
///
/// # Errors
/// What cannot be said in it.
pub(super) fn convert(schema: &Value) -> Result<Converted, String> {
    let mut converter = Converter {
        root: schema,
        within: Vec::new(),
        left: MAX_SCHEMAS,
        lost: Vec::new(),
    };
    let schema = converter.schema(schema, 0)?;
    Ok(Converted {
        schema,
        lost: converter.lost,
    })
}

struct Converter<'s> {
    root: &'s Value,
    /// The references that are being looked up.
    within: Vec<String>,
    /// How many schemas may still be met.
    left: usize,
    lost: Vec<String>,
}

impl Converter<'_> {
    fn schema(&mut self, schema: &Value, depth: usize) -> Result<Value, String> {
        let Value::Object(members) = schema else {
            return match schema {
                Value::Bool(true) => Ok(Value::Object(Map::new())),
                _ => Err("a part of it is no object".to_owned()),
            };
        };
        let known = self.within.len();
        let merged = self.merge(members, depth)?;
        let converted = self.members(&merged, depth);
        self.within.truncate(known);
        converted
    }

    /// Returns `members` with what their `$ref` and `allOf` say merged into them. What stands beside a
    /// reference is said over what it refers to.
    fn merge(&mut self, members: &Map<String, Value>, depth: usize) -> Result<Map<String, Value>, String> {
        if depth > MAX_DEPTH {
            return Err(format!("it is nested deeper than {MAX_DEPTH} levels"));
        }
        self.left = self
            .left
            .checked_sub(1)
            .ok_or_else(|| format!("it consists of more than {MAX_SCHEMAS} schemas"))?;
        let mut merged = members.clone();
        if let Some(reference) = merged.remove("$ref") {
            let Value::String(reference) = reference else {
                return Err("a $ref is no text".to_owned());
            };
            let target = if self.within.contains(&reference) {
                // A schema that contains itself is cut off where it comes again.
                self.lose(&format!("$ref to {reference} within itself"));
                Map::from_iter([("type".to_owned(), Value::from("object"))])
            } else {
                let Some(Value::Object(target)) = self.look_up(&reference) else {
                    return Err(format!("its $ref to {reference} leads nowhere"));
                };
                self.within.push(reference);
                self.merge(&target, depth + 1)?
            };
            merge_into(&mut merged, target);
        }
        if let Some(all) = merged.remove("allOf") {
            let Value::Array(all) = all else {
                return Err("an allOf is no list".to_owned());
            };
            for one in &all {
                let Value::Object(one) = one else {
                    return Err("a part of an allOf is no object".to_owned());
                };
                let one = self.merge(one, depth + 1)?;
                merge_into(&mut merged, one);
            }
        }
        Ok(merged)
    }

    fn members(&mut self, members: &Map<String, Value>, depth: usize) -> Result<Value, String> {
        let mut out = Map::new();
        let mut any: Vec<Value> = Vec::new();
        for (key, value) in members {
            match (key.as_str(), value) {
                ("type", Value::Array(types)) => {
                    let named: Vec<&Value> = types.iter().filter(|one| *one != "null").collect();
                    if named.len() < types.len() {
                        out.insert("nullable".to_owned(), Value::Bool(true));
                    }
                    match named.as_slice() {
                        [] => {}
                        [one] => {
                            out.insert("type".to_owned(), (*one).clone());
                        }
                        several => {
                            any.extend(several.iter().map(|one| {
                                Value::Object(Map::from_iter([("type".to_owned(), (*one).clone())]))
                            }))
                        }
                    }
                }
                ("items", items) => {
                    let items = self.schema(items, depth + 1)?;
                    out.insert("items".to_owned(), items);
                }
                ("properties", Value::Object(properties)) => {
                    let mut converted = Map::new();
                    for (name, property) in properties {
                        converted.insert(name.clone(), self.schema(property, depth + 1)?);
                    }
                    out.insert("properties".to_owned(), Value::Object(converted));
                }
                ("properties", _) => return Err("its properties are no object".to_owned()),
                ("anyOf" | "oneOf", Value::Array(choices)) if !choices.is_empty() => {
                    for choice in choices {
                        if choice.get("type").is_some_and(|kind| kind == "null") {
                            out.insert("nullable".to_owned(), Value::Bool(true));
                        } else {
                            any.push(self.schema(choice, depth + 1)?);
                        }
                    }
                }
                ("anyOf" | "oneOf", _) => return Err(format!("its {key} is no list")),
                ("const", value) => {
                    out.insert("enum".to_owned(), Value::Array(vec![as_text(value)]));
                }
                ("enum", Value::Array(values)) => {
                    if values.contains(&Value::Null) {
                        out.insert("nullable".to_owned(), Value::Bool(true));
                    }
                    let texts = values.iter().filter(|value| !value.is_null()).map(as_text);
                    out.insert("enum".to_owned(), texts.collect());
                }
                (key, value) if SHARED.contains(&key) => {
                    check(key, value)?;
                    out.entry(key).or_insert_with(|| value.clone());
                }
                (key, _) if SILENT.contains(&key) => {}
                (key, _) => self.lose(key),
            }
        }
        if !any.is_empty() {
            out.insert("anyOf".to_owned(), Value::Array(any));
        }
        // Values that are texts are the only thing that says so where a constant has no type.
        if out.contains_key("enum") && !out.contains_key("type") {
            out.insert("type".to_owned(), Value::from("string"));
        }
        Ok(Value::Object(out))
    }

    fn look_up(&self, reference: &str) -> Option<Value> {
        let pointer = reference.strip_prefix('#')?;
        self.root.pointer(pointer).cloned()
    }

    fn lose(&mut self, keyword: &str) {
        if !self.lost.iter().any(|known| known == keyword) {
            self.lost.push(keyword.to_owned());
        }
    }
}

/// Adds what `target` says to `members`, which come first; properties and required names are put together.
fn merge_into(members: &mut Map<String, Value>, target: Map<String, Value>) {
    for (key, value) in target {
        match (key.as_str(), members.get_mut(&key), value) {
            ("properties", Some(Value::Object(known)), Value::Object(more)) => {
                for (name, property) in more {
                    known.entry(name).or_insert(property);
                }
            }
            ("required", Some(Value::Array(known)), Value::Array(more)) => {
                for name in more {
                    if !known.contains(&name) {
                        known.push(name);
                    }
                }
            }
            (_, Some(_), _) => {}
            (_, None, value) => {
                members.insert(key, value);
            }
        }
    }
}

/// Checks that `value` has the type that the format demands of `key`.
fn check(key: &str, value: &Value) -> Result<(), String> {
    let fits = match key {
        "required" | "propertyOrdering" => value
            .as_array()
            .is_some_and(|names| names.iter().all(Value::is_string)),
        "enum" => value.is_array(),
        "maxItems" | "maxLength" | "maxProperties" | "minItems" | "minLength" | "minProperties" => {
            value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0)
        }
        "maximum" | "minimum" => value.is_number(),
        "nullable" => value.is_boolean(),
        "description" | "format" | "pattern" | "title" | "type" => value.is_string(),
        _ => true,
    };
    if fits {
        Ok(())
    } else {
        Err(format!("its {key} is of the wrong type"))
    }
}

fn as_text(value: &Value) -> Value {
    match value {
        Value::String(_) => value.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Value::from(value.to_string())
        }
    }
}

/// Returns `schema`, one in the format's form, as a JSON schema.
pub(super) fn restore(schema: &Value) -> Value {
    let Value::Object(members) = schema else {
        return schema.clone();
    };
    let mut out = Map::new();
    let mut nullable = false;
    for (key, value) in members {
        let key = wire::camel(Cow::Borrowed(key));
        let restored = match (&*key, value) {
            (_, Value::Null) | ("propertyOrdering", _) => continue,
            ("nullable", value) => {
                nullable = value == true;
                continue;
            }
            ("type", Value::String(kind)) if kind == "TYPE_UNSPECIFIED" => continue,
            ("type", Value::String(kind)) => Value::from(kind.to_ascii_lowercase()),
            ("format", Value::String(format)) if format == "enum" => continue,
            ("items", items) => restore(items),
            ("properties" | "defs", Value::Object(properties)) => {
                let restored = properties
                    .iter()
                    .map(|(name, property)| (name.clone(), restore(property)));
                Value::Object(restored.collect())
            }
            ("anyOf", Value::Array(choices)) => choices.iter().map(restore).collect(),
            // Whole numbers of 64 bits may be written as text.
            (
                "maxItems" | "maxLength" | "maxProperties" | "minItems" | "minLength" | "minProperties",
                value,
            ) => number(value).unwrap_or_else(|| value.clone()),
            ("enum", Value::Array(values)) if is_numeric(members) => values
                .iter()
                .map(|value| number(value).unwrap_or_else(|| value.clone()))
                .collect(),
            ("additionalProperties", Value::Object(_)) => restore(value),
            (_, value) => value.clone(),
        };
        let key = match &*key {
            "defs" => "$defs",
            "ref" => "$ref",
            "example" => "examples",
            key => key,
        };
        let restored = if key == "examples" {
            Value::Array(vec![restored])
        } else {
            restored
        };
        out.insert(key.to_owned(), restored);
    }
    if nullable {
        allow_null(&mut out);
    }
    Value::Object(out)
}

fn allow_null(schema: &mut Map<String, Value>) {
    let null = || Value::from("null");
    if let Some(kind) = schema.get_mut("type") {
        *kind = Value::Array(vec![kind.take(), null()]);
    }
    if let Some(Value::Array(choices)) = schema.get_mut("anyOf") {
        choices.push(Value::Object(Map::from_iter([("type".to_owned(), null())])));
    }
    if let Some(Value::Array(values)) = schema.get_mut("enum") {
        values.push(Value::Null);
    }
}

fn is_numeric(members: &Map<String, Value>) -> bool {
    let kind = members.get("type").and_then(Value::as_str).unwrap_or_default();
    kind.eq_ignore_ascii_case("integer") || kind.eq_ignore_ascii_case("number")
}

fn number(value: &Value) -> Option<Value> {
    let number: serde_json::Number = value.as_str()?.parse().ok()?;
    Some(Value::Number(number))
}
