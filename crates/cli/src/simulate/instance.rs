//! The smallest value that a JSON schema allows, as far as the keywords that providers take say it.

use std::cell::Cell;

use serde_json::{Map, Value};

/// Returns an instance of `schema`: required members only, the first of several alternatives. Where text is
/// wanted and nothing says which, it is taken from `prompt`.
pub(crate) fn of(schema: &Value, prompt: &str) -> Value {
    let builder = Builder {
        root: schema,
        prompt,
        left: Cell::new(MAX_VALUES),
    };
    builder.build(schema, 0)
}

struct Builder<'a> {
    root: &'a Value,
    prompt: &'a str,
    /// How many more values may be built, so that a small schema cannot ask for a huge instance.
    left: Cell<usize>,
}

impl Builder<'_> {
    fn build(&self, schema: &Value, depth: usize) -> Value {
        let left = self.left.get().saturating_sub(1);
        self.left.set(left);
        if depth > MAX_DEPTH || left == 0 {
            return Value::Null;
        }
        if let Some(fixed) = schema.get("const").or_else(|| schema.get("default")) {
            return fixed.clone();
        }
        if let Some(first) = first(schema, "enum") {
            return first.clone();
        }
        if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
            let target = target.strip_prefix('#').and_then(|at| self.root.pointer(at));
            return target.map_or(Value::Null, |target| self.build(target, depth + 1));
        }
        if let Some(first) = first(schema, "anyOf").or_else(|| first(schema, "oneOf")) {
            return self.build(first, depth + 1);
        }
        let declared = match schema.get("type") {
            Some(Value::Array(kinds)) => kinds
                .iter()
                .filter_map(Value::as_str)
                .find(|kind| *kind != "null")
                .or(Some("null")),
            Some(kind) => kind.as_str(),
            None => None,
        };
        match declared {
            Some("object") => self.object(schema, depth),
            Some("array") => self.array(schema, depth),
            Some("string") => Value::String(self.text(schema)),
            Some("integer") => Value::from(least(schema).ceil() as i64),
            Some("number") => Value::from(least(schema)),
            Some("boolean") => Value::Bool(true),
            Some(_) => Value::Null,
            None if schema.get("properties").is_some() || schema.get("allOf").is_some() => {
                self.object(schema, depth)
            }
            None if schema.get("items").is_some() => self.array(schema, depth),
            None => Value::Object(Map::new()),
        }
    }

    fn object(&self, schema: &Value, depth: usize) -> Value {
        let mut members = Map::new();
        for part in list(schema, "allOf") {
            if let Value::Object(more) = self.build(part, depth + 1) {
                members.extend(more);
            }
        }
        for name in list(schema, "required").iter().filter_map(Value::as_str) {
            let member = schema
                .get("properties")
                .and_then(|properties| properties.get(name));
            let value = member.map_or_else(|| Value::from("text"), |member| self.build(member, depth + 1));
            members.insert(name.to_owned(), value);
        }
        Value::Object(members)
    }

    fn array(&self, schema: &Value, depth: usize) -> Value {
        let least = schema
            .get("minItems")
            .and_then(Value::as_u64)
            .unwrap_or(1)
            .min(MAX_ITEMS);
        let most = schema
            .get("maxItems")
            .and_then(Value::as_u64)
            .unwrap_or(MAX_ITEMS);
        let Some(items) = schema.get("items") else {
            return Value::Array(Vec::new());
        };
        Value::Array(
            (0..least.min(most))
                .map(|_| self.build(items, depth + 1))
                .collect(),
        )
    }

    fn text(&self, schema: &Value) -> String {
        let mut text = match schema.get("format").and_then(Value::as_str) {
            Some("date") => "2025-01-01".to_owned(),
            Some("time") => "12:00:00Z".to_owned(),
            Some("date-time") => "2025-01-01T12:00:00Z".to_owned(),
            Some("duration") => "PT1H".to_owned(),
            Some("email") => "someone@example.com".to_owned(),
            Some("hostname") => "example.com".to_owned(),
            Some("ipv4") => "192.0.2.1".to_owned(),
            Some("ipv6") => "2001:db8::1".to_owned(),
            Some("uri" | "url") => "https://example.com/".to_owned(),
            Some("uuid") => "00000000-0000-4000-8000-000000000000".to_owned(),
            Some(_) | None => topic(self.prompt).to_owned(),
        };
        let length = |key| {
            let length = schema.get(key).and_then(Value::as_u64)?;
            usize::try_from(length).ok()
        };
        if let Some(most) = length("maxLength") {
            text = text.chars().take(most).collect();
        }
        let short = length("minLength").map_or(0, |least| least.saturating_sub(text.chars().count()));
        text.extend(std::iter::repeat_n('x', short.min(MAX_PADDING)));
        text
    }
}

/// Returns what a prompt seems to be about: what it quotes, else its last word with a capital that does not
/// begin it, else `text`.
fn topic(prompt: &str) -> &str {
    let quoted = prompt
        .split(['"', '“', '”'])
        .nth(1)
        .filter(|quoted| !quoted.is_empty() && quoted.len() < 80);
    let capital = || {
        prompt
            .split(|c: char| !c.is_alphanumeric())
            .filter(|word| !word.is_empty())
            .skip(1)
            .filter(|word| word.len() > 1 && word.starts_with(char::is_uppercase))
            .last()
    };
    quoted.or_else(capital).unwrap_or("text")
}

fn least(schema: &Value) -> f64 {
    let number = |key| schema.get(key).and_then(Value::as_f64);
    let most = number("maximum").or_else(|| number("exclusiveMaximum").map(|most| most - 1.0));
    let least = number("minimum").or_else(|| number("exclusiveMinimum").map(|least| least + 1.0));
    least.unwrap_or_else(|| most.map_or(1.0, |most| most.min(1.0)))
}

fn first<'v>(schema: &'v Value, key: &str) -> Option<&'v Value> {
    list(schema, key).first()
}

fn list<'v>(schema: &'v Value, key: &str) -> &'v [Value] {
    schema
        .get(key)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// Schemas that refer to themselves end here.
const MAX_DEPTH: usize = 16;

/// The most values of one instance.
const MAX_VALUES: usize = 4096;

/// The most elements of an array, whatever the schema demands.
const MAX_ITEMS: u64 = 16;

/// The most characters that a text is padded with, whatever the schema demands.
const MAX_PADDING: usize = 4096;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn instances_are_the_smallest_that_the_schema_allows() {
        check(
            json!({"type": "object", "properties": {"a": {"type": "string"}}}),
            json!({}),
        );
        check(
            json!({"type": "object", "required": ["city", "unit", "days"], "properties": {
                "city": {"type": "string"},
                "unit": {"enum": ["celsius", "fahrenheit"]},
                "days": {"type": "integer", "minimum": 3},
                "more": {"type": "string"},
            }}),
            json!({"city": "Paris", "unit": "celsius", "days": 3}),
        );
        check(
            json!({"type": "array", "items": {"type": "boolean"}}),
            json!([true]),
        );
        check(
            json!({"type": "array", "items": {"type": "number"}, "minItems": 2}),
            json!([1.0, 1.0]),
        );
        check(json!({"type": ["null", "string"], "maxLength": 2}), json!("Pa"));
        check(json!({"type": "string", "minLength": 7}), json!("Parisxx"));
        check(json!({"anyOf": [{"const": 7}, {"type": "null"}]}), json!(7));
        check(json!({"type": "string", "format": "date"}), json!("2025-01-01"));
        check(
            json!({"$defs": {"name": {"type": "string"}}, "type": "object", "required": ["n"],
                "properties": {"n": {"$ref": "#/$defs/name"}}}),
            json!({"n": "Paris"}),
        );
    }

    #[test]
    fn a_schema_that_needs_itself_ends() {
        let schema = json!({"type": "object", "required": ["again"], "properties": {"again": {"$ref": "#"}}});
        assert!(of(&schema, "").to_string().ends_with("null}}}}}}}}}"));
    }

    #[test]
    fn a_small_schema_cannot_ask_for_a_huge_instance() {
        let members: Vec<_> = ('a'..='z').map(String::from).collect();
        let member = json!({"type": "array", "minItems": 1000, "items": {"$ref": "#"}});
        let properties: Map<_, _> = members
            .iter()
            .map(|name| (name.clone(), member.clone()))
            .collect();
        let schema = json!({"type": "object", "required": members, "properties": properties});
        assert!(of(&schema, "").to_string().len() < 200_000);
    }

    fn check(schema: Value, expected: Value) {
        assert_eq!(of(&schema, "What is the weather in Paris?"), expected, "{schema}");
    }
}
