//! How many tokens a request may have, where nobody who serves the model counts them.
//!
//! Clients shorten a conversation when it comes near a model's limit, so that the estimate is high rather than
//! low: a token for three bytes, which are fewer than any current tokenizer needs for prose or code, and one for
//! a character of the scripts that take three bytes for it. Everything that is said counts, names and schemas
//! included; pictures count as the largest that providers do not scale down.

use std::{borrow::Cow, fmt};

use serde::{
    Deserializer,
    de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use crate::json::Shallow;

/// What is said to a model, in any of the formats that are counted.
const SAID: &[&str] = &[
    "messages",
    "prompt",
    "system",
    "instructions",
    "input",
    "contents",
    "systemInstruction",
    "system_instruction",
];

/// What a model is told of tools and schemas, which is all there is to them.
const DECLARED: &[&str] = &["tools", "functions", "response_format", "text"];

/// Members that hold a medium, or where to find one.
const MEDIA: &[&str] = &["data", "file_data", "url", "image_url", "file_url", "file_id"];

/// Members that no model is told.
const UNSAID: &[&str] = &[
    "type",
    "id",
    "call_id",
    "tool_call_id",
    "tool_use_id",
    "media_type",
    "cache_control",
    "signature",
    "thoughtSignature",
    "encrypted_content",
    "mimeType",
    "detail",
    "status",
];

const BYTES_PER_TOKEN: usize = 3;

/// What stands around a message, a tool or a part.
const TOKENS_PER_OBJECT: u64 = 4;

const TOKENS_PER_MEDIUM: u64 = 1600;

/// Bytes of base64 for a token, of a document with many pages.
const DOCUMENT_BYTES_PER_TOKEN: usize = 64;

/// How PDF documents begin in base64.
const PDF: &str = "JVBERi";

/// Returns about how many tokens `request` has.
pub(crate) fn tokens(request: &Shallow) -> u64 {
    let declared = DECLARED.iter().filter_map(|key| request.get(key));
    let mut count = Count {
        tokens: 0,
        bytes: declared.map(str::len).sum(),
    };
    for value in SAID.iter().filter_map(|key| request.get(key)) {
        // What is no JSON was refused when it arrived.
        let mut deserializer = serde_json::Deserializer::from_str(value);
        let said = Said {
            count: &mut count,
            is_medium: false,
        };
        let _ = said.deserialize(&mut deserializer);
    }
    count.tokens + count.bytes.div_ceil(BYTES_PER_TOKEN) as u64
}

struct Count {
    tokens: u64,
    bytes: usize,
}

/// Counts a value, without keeping any of it.
struct Said<'a> {
    count: &'a mut Count,
    /// Whether a text in it is a medium.
    is_medium: bool,
}

impl<'de> DeserializeSeed<'de> for Said<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Said<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        if !self.is_medium {
            self.count.bytes += text.len();
            return Ok(());
        }
        let data = text.split_once(";base64,").map_or(text, |(_, data)| data);
        let pages = if data.starts_with(PDF) {
            data.len() / DOCUMENT_BYTES_PER_TOKEN
        } else {
            0
        };
        self.count.tokens += TOKENS_PER_MEDIUM.max(pages as u64);
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        self.number()
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        self.number()
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        self.number()
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.number()
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let Self { count, is_medium } = self;
        while elements.next_element_seed(Said { count, is_medium })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        self.count.tokens += TOKENS_PER_OBJECT;
        while let Some(key) = members.next_key::<Cow<'de, str>>()? {
            if UNSAID.contains(&&*key) {
                members.next_value::<IgnoredAny>()?;
                continue;
            }
            self.count.bytes += key.len();
            members.next_value_seed(Said {
                count: self.count,
                is_medium: MEDIA.contains(&&*key),
            })?;
        }
        Ok(())
    }
}

impl Said<'_> {
    fn number<E>(self) -> Result<(), E> {
        self.count.tokens += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::{Value, json};

    use super::*;

    #[track_caller]
    fn check(request: &Value, expected: u64) {
        let shallow = Shallow::parse(Bytes::from(request.to_string())).expect("an object");
        assert_eq!(tokens(&shallow), expected, "{request}");
    }

    #[test]
    fn what_a_model_is_told_counts() {
        check(
            &json!({ "model": "m", "max_tokens": 9, "metadata": { "a": "b" } }),
            0,
        );
        check(&json!({ "prompt": "abcdef" }), 2);
        check(&json!({ "prompt": "漢字" }), 2);
        // "role", "user", "content" and "abc" in an object of its own.
        let messages = json!([{ "role": "user", "content": "abc" }]);
        check(&json!({ "messages": messages, "stream": true }), 4 + 6);
        // Tools with all that they say.
        let tools = json!([{ "name": "f", "input_schema": { "type": "object" } }]);
        let length = tools.to_string().len() as u64;
        check(&json!({ "tools": tools }), length.div_ceil(3));
    }

    #[test]
    fn media_count_by_what_they_are() {
        let part = |url: String| json!({ "input": [{ "type": "input_image", "image_url": url }] });
        // The object, the name of the member, and the picture.
        check(&part("https://example.com/a.png".to_owned()), 4 + 3 + 1600);
        check(
            &part(format!("data:image/png;base64,{}", "A".repeat(9000))),
            4 + 3 + 1600,
        );
        let pdf = format!("JVBERi{}", "A".repeat(640_000 - 6));
        check(
            &part(format!("data:application/pdf;base64,{pdf}")),
            4 + 3 + 10_000,
        );
        // A seal is the provider's own.
        check(
            &json!({ "input": [{ "encrypted_content": "A".repeat(9000) }] }),
            4,
        );
    }
}
