//! What an upstream's error document says, and the client is not told.
//!
//! Servers of all kinds write errors as they like, so that no list of members would do: a value that does not stand
//! in what the client is told is a loss, whatever its name is.

use serde_json::Value;

use crate::{ApiError, Losses, json::Path};

/// Members that the status, the kind of an error or a header says in their place.
const SAID_OTHERWISE: &[&str] = &[
    "__type",
    "code",
    "error_type",
    "object",
    "requestId",
    "request_id",
    "status",
    "status_code",
    "type",
];

/// Members whose text is the message, or a part of one.
const MESSAGES: &[&str] = &["Message", "detail", "error", "message", "msg"];

impl ApiError {
    /// Returns what the upstream's own document says beyond `told`, which is what the client is told.
    pub fn untold(&self, told: &[u8]) -> Losses {
        let mut losses = Losses::default();
        let document = self.raw.as_ref().map(|raw| serde_json::from_slice(&raw.body));
        if let Some(Ok(document)) = document {
            let told = Told(&String::from_utf8_lossy(told));
            told.compare(&document, "", &Path::Reply, &mut losses);
        }
        losses
    }
}

/// What the client is told: JSON, in whatever frame.
struct Told<'a>(&'a str);

impl Told<'_> {
    /// Records what is not told of `value`, which lies at `path`, under `key`.
    fn compare(&self, value: &Value, key: &str, path: &Path<'_>, losses: &mut Losses) {
        let is_told = match value {
            Value::Null => true,
            Value::Bool(_) => self.has_member(key, value),
            Value::Number(number) => {
                number.as_f64() == Some(0.0) || SAID_OTHERWISE.contains(&key) || self.has_member(key, value)
            }
            Value::String(text) => text.is_empty() || self.says(text, key),
            Value::Array(_) | Value::Object(_) if self.has(&value.to_string()) => true,
            Value::Array(elements) => {
                for (index, element) in elements.iter().enumerate() {
                    self.compare(element, key, &path.index(index), losses);
                }
                true
            }
            Value::Object(members) => {
                for (key, member) in members {
                    self.compare(member, key, &path.key(key), losses);
                }
                true
            }
        };
        if !is_told {
            losses.unread(path);
        }
    }

    /// Returns whether `text` is told: as a value, as one within a message that quotes JSON, or as a part of a message
    /// if it is one. A code is a word or repeats the status.
    fn says(&self, text: &str, key: &str) -> bool {
        let is_code = key == "code" && !text.bytes().all(|byte| byte.is_ascii_digit());
        if SAID_OTHERWISE.contains(&key) && !is_code {
            return true;
        }
        let value = Value::from(text).to_string();
        self.has(if MESSAGES.contains(&key) {
            inside(&value)
        } else {
            &value
        })
    }

    fn has_member(&self, key: &str, value: &Value) -> bool {
        self.has(&format!("{}:{value}", Value::from(key)))
    }

    /// Returns whether `json` is told, be it within a text.
    fn has(&self, json: &str) -> bool {
        self.0.contains(json) || self.0.contains(inside(&Value::from(json).to_string()))
    }
}

/// Returns a quoted text without its quotes.
fn inside(quoted: &str) -> &str {
    let text = quoted.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    text.unwrap_or(quoted)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::*;
    use crate::{Format, error::RawError};

    #[track_caller]
    fn check(document: &Value, told: &Value, expected: &[&str]) {
        let mut error = ApiError::invalid("no");
        error.raw = Some(RawError {
            format: None,
            body: Bytes::from(document.to_string()),
        });
        let losses = error.untold(told.to_string().as_bytes());
        assert_eq!(losses.names(Format::OpenAi), expected, "{document}");
    }

    #[test]
    fn values_that_do_not_stand_in_what_is_told_are_lost() {
        let told = json!({ "error": { "message": "a \"b\"\n", "code": "c", "retry": 7 } });
        check(&told, &told, &[]);
        check(&json!({ "error": "b", "detail": ["a"] }), &told, &[]);
        let more = json!({ "error": { "message": "a", "code": "c", "hint": "c", "x": [{ "y": "z" }, { "y": "z" }] } });
        check(&more, &told, &["error.x[].y"]);
        check(
            &json!({ "message": "other", "param": "a" }),
            &told,
            &["message", "param"],
        );
        check(
            &json!({ "code": "odd", "retry": 8, "fatal": true }),
            &told,
            &["code", "fatal", "retry"],
        );
    }

    #[test]
    fn what_repeats_the_status_or_says_nothing_is_not_missed() {
        let told = json!({ "error": { "message": "no" } });
        let silent = json!({ "type": "error", "status": 400, "code": "400", "request_id": "r", "n": 0, "s": "", "l": [], "o": {}, "x": null });
        check(&silent, &told, &[]);
    }

    #[test]
    fn what_a_message_quotes_is_told() {
        let detail = json!([{ "loc": ["body", 3], "msg": "a \"b\"", "fatal": true }]);
        let told = json!({ "error": { "message": format!("Details: {detail}") } });
        check(&json!({ "detail": detail }), &told, &[]);
        check(
            &json!({ "detail": [{ "loc": ["body", 4], "msg": "a \"b\"" }] }),
            &told,
            &["detail[].loc[]"],
        );
    }
}
