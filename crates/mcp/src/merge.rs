//! Answers of many backends as one, always in the order of the route's references: a list that changes its
//! order spoils the caches of whoever puts it before a model.

use serde::Serialize;
use serde_json::{Value, value::RawValue};

use crate::{
    capability::{BITS, Capabilities},
    json::{self, Object},
    method::List,
};

/// The longest `instructions`, in bytes.
const MAX_INSTRUCTIONS: usize = 16 * 1024;

/// What one backend answered to `initialize`.
#[derive(Clone, Debug)]
pub struct Initialized<'a> {
    /// The backend.
    pub backend: &'a str,
    /// Its result.
    pub result: &'a RawValue,
}

/// A backend that a list is without, and why.
#[derive(Clone, Debug, Serialize)]
pub struct Missing {
    /// The backend.
    pub backend: String,
    /// Why, in a word or two.
    pub reason: String,
    /// Whether its part is the last that is known, in place of none.
    #[serde(rename = "lastKnown", skip_serializing_if = "std::ops::Not::not")]
    pub last_known: bool,
}

/// Returns the capabilities of all `answers`: whatever any of them can do, the gateway can relay.
pub fn capabilities(answers: &[Initialized<'_>]) -> Box<RawValue> {
    let read = answers.iter().filter_map(|answer| {
        Object::parse(answer.result)?
            .get("capabilities")
            .map(RawValue::to_owned)
    });
    let read: Vec<Box<RawValue>> = read.collect();
    let all = read
        .iter()
        .map(|raw| Capabilities::read(Some(raw)))
        .fold(Capabilities::NONE, |all, one| all | one);
    let mut merged = Object::default();
    for (key, own, flags) in BITS {
        if !all.has(*own) {
            continue;
        }
        let mut value = Object::default();
        for (flag, bit) in *flags {
            if all.has(*bit) {
                value.set(flag, json::raw(&true));
            }
        }
        merged.set(key, value.to_raw());
    }
    if let [only] = read.as_slice()
        && let Some(experimental) =
            Object::parse(only).and_then(|only| only.get("experimental").map(RawValue::to_owned))
    {
        merged.set("experimental", experimental);
    }
    if let Some(extensions) = extensions(&read) {
        merged.set("extensions", extensions);
    }
    merged.to_raw()
}

/// Joins the extensions; where several backends have the same one the first decides, others add to it.
fn extensions(capabilities: &[Box<RawValue>]) -> Option<Box<RawValue>> {
    let mut all = serde_json::Map::new();
    for raw in capabilities {
        let own = Object::parse(raw).and_then(|own| serde_json::from_str(own.get("extensions")?.get()).ok());
        if let Some(Value::Object(own)) = own {
            join(&mut all, own);
        }
    }
    (!all.is_empty()).then(|| json::raw(&all))
}

fn join(into: &mut serde_json::Map<String, Value>, from: serde_json::Map<String, Value>) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (None, value) => {
                into.insert(key, value);
            }
            (Some(Value::Object(into)), Value::Object(from)) => join(into, from),
            (Some(_), _) => {}
        }
    }
}

/// Returns the instructions of all `answers`, each headed by its backend where there are several.
pub fn instructions(answers: &[Initialized<'_>]) -> Option<String> {
    let mut all = String::new();
    for answer in answers {
        let object = Object::parse(answer.result);
        let text = object.as_ref().and_then(|object| object.text("instructions"));
        let Some(text) = text.filter(|text| !text.trim().is_empty()) else {
            continue;
        };
        let block = if answers.len() == 1 {
            text.into_owned()
        } else {
            format!("# {}\n\n{}", answer.backend, text.trim())
        };
        if !all.is_empty() {
            all.push_str("\n\n");
        }
        let left = MAX_INSTRUCTIONS.saturating_sub(all.len());
        if block.len() > left {
            let end = block.floor_char_boundary(left);
            all.push_str(block.get(..end).unwrap_or_default());
            break;
        }
        all.push_str(&block);
    }
    (!all.is_empty()).then_some(all)
}

/// Returns the result of a list: all of `items`, and which backends are missing.
pub fn listed(
    list: List,
    items: &[Box<RawValue>],
    metas: &[(&str, Box<RawValue>)],
    missing: &[Missing],
) -> Box<RawValue> {
    let mut result = Object::default();
    result.set(list.member(), json::raw(items));
    let mut meta = Object::default();
    match metas {
        [(_, only)] if missing.is_empty() => {
            if let Some(only) = Object::parse(only) {
                meta = only;
            }
        }
        metas => {
            for (backend, own) in metas {
                meta.set(backend, own.clone());
            }
        }
    }
    if !missing.is_empty() {
        meta.set(PARTIAL, json::raw(missing));
    }
    if meta.members().next().is_some() {
        result.set("_meta", meta.to_raw());
    }
    result.to_raw()
}

/// Where a list says which backends it is without.
pub const PARTIAL: &str = "gateway/partial";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answers(results: &[Value]) -> Vec<Box<RawValue>> {
        results.iter().map(json::raw).collect()
    }

    fn named(results: &[Box<RawValue>]) -> Vec<Initialized<'_>> {
        let names = ["alpha", "beta", "gamma"];
        let both = names.iter().zip(results);
        both.map(|(backend, result)| Initialized { backend, result })
            .collect()
    }

    #[test]
    fn capabilities_are_joined_in_the_order_of_backends() {
        let results = answers(&[
            json!({ "capabilities": { "tools": {}, "experimental": { "e": {} },
                    "extensions": { "x": { "a": 1 }, "y": { "n": { "p": 1 } } } } }),
            json!({ "capabilities": { "tools": { "listChanged": true }, "resources": { "subscribe": true },
                    "extensions": { "x": { "a": 2, "b": 3 }, "y": { "n": { "q": 2 } } } } }),
            json!({}),
        ]);
        let merged: Value = serde_json::from_str(capabilities(&named(&results)).get()).expect("a document");
        let expected = json!({
            "tools": { "listChanged": true }, "resources": { "subscribe": true },
            "extensions": { "x": { "a": 1, "b": 3 }, "y": { "n": { "p": 1, "q": 2 } } },
        });
        assert_eq!(merged, expected);
        let alone = capabilities(&named(&results[..1]));
        assert!(alone.get().contains("experimental"), "{}", alone.get());
    }

    #[test]
    fn instructions_say_whose_they_are() {
        let results = answers(&[
            json!({ "instructions": "use a" }),
            json!({ "instructions": " " }),
            json!({ "instructions": "use c\n" }),
        ]);
        let named = named(&results);
        assert_eq!(
            instructions(&named).as_deref(),
            Some("# alpha\n\nuse a\n\n# gamma\n\nuse c")
        );
        assert_eq!(instructions(&named[..1]).as_deref(), Some("use a"));
        assert_eq!(instructions(&named[1..2]), None);
        // What is too long is cut, and not left out.
        let long = "ü".repeat(MAX_INSTRUCTIONS);
        let results = answers(&[
            json!({ "instructions": "use a" }),
            json!({ "instructions": long }),
        ]);
        let named = self::named(&results);
        let cut = instructions(&named).unwrap_or_default();
        assert!(
            cut.starts_with("# alpha\n\nuse a\n\n# beta\n\nüü"),
            "{}",
            cut.len()
        );
        assert!(
            (MAX_INSTRUCTIONS - 1..=MAX_INSTRUCTIONS).contains(&cut.len()),
            "{}",
            cut.len()
        );
        let alone = instructions(&named[1..]).unwrap_or_default();
        assert_eq!(alone.len(), MAX_INSTRUCTIONS);
    }

    #[test]
    fn lists_say_what_they_are_without() {
        let item = json::raw(&json!({ "name": "t" }));
        let missing = [false, true].map(|last_known| Missing {
            backend: "beta".to_owned(),
            reason: "timeout".to_owned(),
            last_known,
        });
        let check = |items: &[Box<RawValue>], missing: &[Missing], expected: &str| {
            assert_eq!(listed(List::Tools, items, &[], missing).get(), expected);
        };
        check(std::slice::from_ref(&item), &[], r#"{"tools":[{"name":"t"}]}"#);
        check(&[], &[], r#"{"tools":[]}"#);
        check(
            &[item],
            &missing[..1],
            r#"{"tools":[{"name":"t"}],"_meta":{"gateway/partial":[{"backend":"beta","reason":"timeout"}]}}"#,
        );
        check(
            &[],
            &missing[1..],
            r#"{"tools":[],"_meta":{"gateway/partial":[{"backend":"beta","reason":"timeout","lastKnown":true}]}}"#,
        );
    }
}
