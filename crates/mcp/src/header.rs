//! What headers repeat of a request: the value as it is, or in base64 where a header could not carry it
//! (revision 2026-07-28, "Standard Request Headers" and "Custom Headers from Tool Parameters").

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, value::RawValue};

use crate::{error::RpcError, modern::mismatch};

/// Says which revision is spoken.
pub const VERSION: &str = "mcp-protocol-version";
/// Repeats the method.
pub const METHOD: &str = "mcp-method";
/// Repeats the name or URI that is asked for.
pub const NAME: &str = "mcp-name";
/// What headers begin with that repeat arguments of tools.
pub const PARAM: &str = "mcp-param-";

/// What a property's schema says that a header repeats.
const ANNOTATION: &str = "x-mcp-header";

const OPEN: &str = "=?base64?";
const CLOSE: &str = "?=";

/// Returns the text that a header stands for; `None` if it is not what it claims to be.
pub fn decode(value: &str) -> Option<Cow<'_, str>> {
    let wrapped = value
        .strip_prefix(OPEN)
        .and_then(|value| value.strip_suffix(CLOSE));
    match wrapped {
        None => Some(Cow::Borrowed(value)),
        Some(wrapped) => String::from_utf8(STANDARD.decode(wrapped).ok()?)
            .ok()
            .map(Cow::Owned),
    }
}

/// Returns the header that stands for `text`.
pub fn encode(text: &str) -> Cow<'_, str> {
    let plain = text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        && text.trim() == text
        && !(text.starts_with(OPEN) && text.ends_with(CLOSE));
    if plain {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(format!("{OPEN}{}{CLOSE}", STANDARD.encode(text)))
    }
}

/// The arguments of one tool that headers repeat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repeated(Vec<Argument>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Argument {
    /// The names that lead to it.
    path: Vec<String>,
    /// The whole name of the header.
    header: String,
    /// Whether it is compared as a number.
    integer: bool,
}

impl Repeated {
    /// Reads the schema of a tool's input. One whose annotations are not as they should be repeats nothing, because
    /// clients do not offer such a tool.
    pub fn read(tool: &RawValue) -> Self {
        // Nearly no tool has any.
        if !tool.get().contains(ANNOTATION) {
            return Self::default();
        }
        let tool: Value = serde_json::from_str(tool.get()).unwrap_or_default();
        let mut found = Vec::new();
        let sound = tool
            .get("inputSchema")
            .is_some_and(|schema| walk(schema, Some(&mut Vec::new()), &mut found));
        if sound { Self(found) } else { Self::default() }
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the headers that repeat `arguments`, and their values.
    pub fn headers(&self, arguments: Option<&RawValue>) -> Vec<(String, String)> {
        let arguments = parsed(arguments);
        let headers = self.0.iter().filter_map(|argument| {
            let value = written(argument.find(&arguments)?)?;
            Some((argument.header.clone(), encode(&value).into_owned()))
        });
        headers.collect()
    }

    /// Holds headers against `arguments`; `header` gives the value of one.
    ///
    /// # Errors
    /// A −32020 about the first that differs.
    pub fn check<'h>(
        &self,
        arguments: Option<&RawValue>,
        header: impl Fn(&str) -> Option<&'h str>,
    ) -> Result<(), RpcError> {
        let arguments = parsed(arguments);
        for argument in &self.0 {
            let value = argument.find(&arguments).and_then(written);
            let said = header(&argument.header).map(|said| decode(said.trim()));
            let same = match (value, said) {
                (None, None) => true,
                (Some(value), Some(Some(said))) => argument.same(&value, &said),
                (Some(_), None | Some(None)) | (None, Some(_)) => false,
            };
            if !same {
                return Err(mismatch(&argument.header));
            }
        }
        Ok(())
    }
}

impl Argument {
    fn find<'v>(&self, arguments: &'v Value) -> Option<&'v Value> {
        let found = self.path.iter().try_fold(arguments, |at, name| at.get(name))?;
        (!found.is_null()).then_some(found)
    }

    fn same(&self, value: &str, said: &str) -> bool {
        // 42 and 42.0 are the same integer.
        let whole = |text: &str| {
            let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
            let digits = fraction.bytes().all(|byte| byte == b'0') && !fraction.is_empty();
            digits.then(|| whole.to_owned())
        };
        value == said || (self.integer && whole(said).is_some_and(|said| whole(value) == Some(said)))
    }
}

fn parsed(arguments: Option<&RawValue>) -> Value {
    arguments
        .and_then(|arguments| serde_json::from_str(arguments.get()).ok())
        .unwrap_or_default()
}

/// Returns the text of a value that a header can repeat.
fn written(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The deepest schema that is walked.
const MAX_DEPTH: usize = 64;

/// Collects annotations; returns whether all of them stand where they may. `path` is how the schema is reached, if
/// by nothing but properties.
fn walk(schema: &Value, mut path: Option<&mut Vec<String>>, found: &mut Vec<Argument>) -> bool {
    let Value::Object(members) = schema else {
        return true;
    };
    if let Some(header) = members.get(ANNOTATION)
        && !note(header, members.get("type"), path.as_deref(), found)
    {
        return false;
    }
    members.iter().all(|(key, value)| match (key.as_str(), value) {
        ("properties", Value::Object(properties)) => {
            properties.iter().all(|(name, schema)| match path.as_deref_mut() {
                Some(path) if path.len() < MAX_DEPTH => {
                    path.push(name.clone());
                    let sound = walk(schema, Some(path), found);
                    path.pop();
                    sound
                }
                Some(_) | None => walk(schema, None, found),
            })
        }
        // Data, however it looks.
        ("default" | "examples" | "const" | "enum", _) => true,
        (_, Value::Array(schemas)) => schemas.iter().all(|schema| walk(schema, None, found)),
        ("patternProperties" | "dependentSchemas" | "$defs" | "definitions", Value::Object(schemas)) => {
            schemas.values().all(|schema| walk(schema, None, found))
        }
        (_, schema) => walk(schema, None, found),
    })
}

fn note(header: &Value, kind: Option<&Value>, path: Option<&Vec<String>>, found: &mut Vec<Argument>) -> bool {
    let (Some(header), Some(path), Some(kind)) = (header.as_str(), path, kind.and_then(Value::as_str)) else {
        return false;
    };
    let header = format!("{PARAM}{}", header.to_ascii_lowercase());
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let sound = header.len() > PARAM.len()
        && header.bytes().all(token)
        && !path.is_empty()
        && matches!(kind, "string" | "integer" | "boolean")
        && found.iter().all(|other| other.header != header);
    found.push(Argument {
        path: path.clone(),
        header,
        integer: kind == "integer",
    });
    sound
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::json::raw;

    #[test]
    fn values_cross_whatever_is_in_them() {
        let check = |text: &str, header: &str| {
            assert_eq!(encode(text), header);
            assert_eq!(decode(header).as_deref(), Some(text));
        };
        check("sum", "sum");
        check("test://a?b=c d", "test://a?b=c d");
        check("ü", "=?base64?w7w=?=");
        check(" a", "=?base64?IGE=?=");
        check("a\n", "=?base64?YQo=?=");
        check("", "");
        check("=?base64?YQ==?=", "=?base64?PT9iYXNlNjQ/WVE9PT89?=");
        for literal in ["=?base64?YQ==", "YQ==?="] {
            assert_eq!(decode(literal).as_deref(), Some(literal));
        }
        for bad in [
            "=?base64?YQ?=",
            "=?base64?Y!==?=",
            "=?base64?/w==?=",
            "=?base64?YR==?=",
        ] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }

    fn tool(properties: &Value) -> Box<RawValue> {
        raw(&json!({ "name": "t", "inputSchema": { "type": "object", "properties": properties } }))
    }

    #[test]
    fn annotated_arguments_are_repeated() {
        let tool = tool(&json!({
            "region": { "type": "string", "x-mcp-header": "Region" },
            "at": { "type": "object", "properties": { "n": { "type": "integer", "x-mcp-header": "N" } } },
            "plain": { "type": "string" },
        }));
        let repeated = Repeated::read(&tool);
        let arguments = raw(&json!({ "region": "é", "at": { "n": 42 }, "plain": "x" }));
        let mut headers = repeated.headers(Some(&arguments));
        headers.sort();
        let expected = [("mcp-param-n", "42"), ("mcp-param-region", "=?base64?w6k=?=")];
        assert_eq!(
            headers,
            expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
        let check = |region: Option<&'static str>, n: Option<&'static str>, same: bool| {
            let header = |name: &str| if name == "mcp-param-n" { n } else { region };
            assert_eq!(
                repeated.check(Some(&arguments), header).is_ok(),
                same,
                "{region:?} {n:?}"
            );
        };
        check(Some("=?base64?w6k=?="), Some("42"), true);
        check(Some(" =?base64?w6k=?= "), Some("42.0"), true);
        check(Some("=?base64?w6k=?="), Some("42.5"), false);
        check(Some("=?base64?w6k?="), Some("42"), false);
        check(Some("e"), Some("42"), false);
        check(None, Some("42"), false);
        assert!(repeated.check(None, |_| None).is_ok());
        assert!(repeated.check(None, |_| Some("x")).is_err());
    }

    #[test]
    fn annotations_that_are_not_sound_repeat_nothing() {
        for properties in [
            json!({ "a": { "type": "number", "x-mcp-header": "A" } }),
            json!({ "a": { "x-mcp-header": "A" } }),
            json!({ "a": { "type": "string", "x-mcp-header": "A b" } }),
            json!({ "a": { "type": "string", "x-mcp-header": "" } }),
            json!({ "a": { "type": "string", "x-mcp-header": 1 } }),
            json!({ "a": { "type": "array", "items": { "type": "string", "x-mcp-header": "A" } } }),
            json!({ "a": { "anyOf": [{ "type": "string", "x-mcp-header": "A" }] } }),
            json!({ "a": { "type": "string", "x-mcp-header": "A" }, "b": { "type": "string", "x-mcp-header": "a" } }),
        ] {
            assert!(Repeated::read(&tool(&properties)).is_empty(), "{properties}");
        }
        let data = json!({ "a": { "type": "object", "default": { "x-mcp-header": 1 } },
            "b": { "type": "string", "x-mcp-header": "B" } });
        assert!(!Repeated::read(&tool(&data)).is_empty());
    }
}
