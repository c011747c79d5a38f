//! Schemas in either form.

use serde_json::{Value, json};

use crate::chat::gemini::schema::{convert, restore};

#[test]
fn json_schemas_are_converted() {
    #[track_caller]
    fn check(schema: Value, expected: Value, lost: &[&str]) {
        let converted = convert(&schema).unwrap();
        assert_eq!(converted.schema, expected);
        assert_eq!(converted.lost, lost);
    }
    // The example of the compatibility specification.
    check(
        json!({"type": "object", "properties": {
            "s": {"$ref": "#/$defs/S"}, "p": {"anyOf": [{"type": "string"}, {"type": "null"}], "title": "P"},
        }, "$defs": {"S": {"type": ["integer", "null"]}}, "additionalProperties": false}),
        json!({"type": "object", "properties": {
            "s": {"type": "integer", "nullable": true}, "p": {"anyOf": [{"type": "string"}], "nullable": true, "title": "P"},
        }}),
        &["additionalProperties"],
    );
    // What stands beside a reference is kept, and escapes of pointers are understood.
    check(
        json!({"$ref": "#/$defs/a~1b", "description": "mine", "$defs": {"a/b": {"type": "string", "description": "its"}}}),
        json!({"type": "string", "description": "mine"}),
        &[],
    );
    check(
        json!({"allOf": [{"properties": {"a": {"type": "string"}}, "required": ["a"]}, {"properties": {"b": {"type": "number"}}, "required": ["b"]}], "type": "object"}),
        json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "number"}}, "required": ["a", "b"]}),
        &[],
    );
    check(
        json!({"oneOf": [{"const": "a"}, {"type": "integer", "enum": [1, 2, null]}]}),
        json!({"anyOf": [{"type": "string", "enum": ["a"]}, {"type": "integer", "enum": ["1", "2"], "nullable": true}]}),
        &[],
    );
    check(
        json!({"type": ["string", "integer"], "not": {}, "if": {}}),
        json!({"anyOf": [{"type": "string"}, {"type": "integer"}]}),
        &["if", "not"],
    );
    // A property may be called like a keyword, and a schema contain itself.
    check(
        json!({"properties": {"$defs": {"type": "string"}, "self": {"$ref": "#"}}}),
        json!({"properties": {"$defs": {"type": "string"}, "self": {"properties": {
            "$defs": {"type": "string"}, "self": {"type": "object"},
        }}}}),
        &["$ref to # within itself"],
    );
    check(json!({"items": true}), json!({"items": {}}), &[]);
}

#[test]
fn what_cannot_be_said_is_refused() {
    #[track_caller]
    fn check(schema: Value) {
        assert!(convert(&schema).is_err(), "{schema}");
    }
    check(json!(5));
    check(json!({"$ref": 5}));
    check(json!({"$ref": "#/$defs/missing"}));
    check(json!({"$ref": "https://example.com/schema"}));
    check(json!({"items": [{"type": "string"}]}));
    check(json!({"properties": []}));
    check(json!({"anyOf": []}));
    check(json!({"allOf": [true]}));
    check(json!({"required": [1]}));
    check(json!({"minItems": "1"}));
    // Each definition refers to the next one ten times.
    let mut definitions = serde_json::Map::new();
    for level in 0..10 {
        let next: Vec<Value> = vec![json!({"$ref": format!("#/$defs/{}", level + 1)}); 10];
        definitions.insert(level.to_string(), json!({"anyOf": next}));
    }
    definitions.insert("10".to_owned(), json!({"type": "string"}));
    check(json!({"$ref": "#/$defs/0", "$defs": definitions}));
}

#[test]
fn own_schemas_become_json_schemas() {
    #[track_caller]
    fn check(own: Value, expected: Value) {
        assert_eq!(restore(&own), expected);
    }
    check(
        json!({"type": "OBJECT", "properties": {"min_items": {"type": "ARRAY", "min_items": "1", "items": {"type": "STRING", "format": "enum", "enum": ["a"]}}}, "property_ordering": ["min_items"]}),
        json!({"type": "object", "properties": {"min_items": {"type": "array", "minItems": 1, "items": {"type": "string", "enum": ["a"]}}}}),
    );
    check(
        json!({"type": "INTEGER", "nullable": true, "enum": ["1", "2"]}),
        json!({"type": ["integer", "null"], "enum": [1, 2, null]}),
    );
    check(
        json!({"anyOf": [{"type": "STRING"}], "nullable": true, "example": "x"}),
        json!({"anyOf": [{"type": "string"}, {"type": "null"}], "examples": ["x"]}),
    );
}
