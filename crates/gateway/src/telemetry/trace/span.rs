//! A span as it is exported.

use std::borrow::Cow;

use serde_json::{Map, Value as Json, json};

use super::{Limits, Vocabulary, Words};

/// One span. Times are in nanoseconds since the Unix epoch.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) trace: [u8; 16],
    pub(crate) id: [u8; 8],
    pub(crate) parent: Option<[u8; 8]>,
    pub(crate) state: String,
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) attributes: Attributes,
    pub(crate) events: Vec<Event>,
    pub(crate) status: Status,
}

/// How a span stands to others, by its number in OTLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Internal = 1,
    Client = 3,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Unset,
    Ok,
    Error(String),
}

/// Something that happened within it.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) name: &'static str,
    pub(crate) at: u64,
    pub(crate) attributes: Attributes,
}

/// Names and values, in the order in which they were set.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attributes(pub(crate) Vec<(Cow<'static, str>, Value)>);

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Text(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    Texts(Vec<String>),
    Floats(Vec<f64>),
}

impl Attributes {
    /// Sets an attribute that is not set yet.
    pub(crate) fn set(&mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Value>) {
        self.0.push((name.into(), value.into()));
    }

    /// Sets an attribute if there is a value.
    pub(crate) fn maybe(&mut self, name: &'static str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    /// Sets an attribute in place of its value so far, if there is a value.
    pub(crate) fn replace(&mut self, name: &'static str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.0.retain(|(known, _)| known != name);
            self.set(name, value);
        }
    }

    /// Sets an attribute if the count is not 0.
    pub(crate) fn count(&mut self, name: &'static str, count: Option<u64>) {
        self.maybe(name, count.filter(|count| *count > 0));
    }

    fn json(&self) -> Json {
        let members = self.0.iter().map(|(name, value)| {
            let value = match value {
                Value::Text(text) => json!(text),
                Value::Integer(number) => json!(number),
                Value::Float(number) => json!(number),
                Value::Bool(bool) => json!(bool),
                Value::Texts(texts) => json!(texts),
                Value::Floats(numbers) => json!(numbers),
            };
            (name.clone().into_owned(), value)
        });
        Json::Object(members.collect::<Map<_, _>>())
    }
}

impl Span {
    /// Has each of the `words` fill it in. What the first says of its name, its kind and its status holds, and what it
    /// says under a name that the second has too.
    pub(super) fn say(&mut self, words: &Words, fill: impl Fn(&mut Self, &Vocabulary)) {
        let blank = words.second.as_ref().map(|second| (second, self.clone()));
        fill(self, &words.first);
        let Some((second, mut other)) = blank else {
            return;
        };
        fill(&mut other, second);
        let told = self.attributes.0.len();
        for (name, value) in other.attributes.0 {
            let mut known = self.attributes.0.iter().take(told);
            if !known.any(|(known, _)| *known == name) {
                self.attributes.0.push((name, value));
            }
        }
        for event in other.events {
            let mut known = self.events.iter();
            if !known.any(|known| known.name == event.name && known.at == event.at) {
                self.events.push(event);
            }
        }
        self.events.sort_by_key(|event| event.at);
    }

    /// Leaves out what exceeds `limits`.
    pub(crate) fn limit(&mut self, limits: &Limits) {
        self.events.truncate(limits.events);
        let of_events = self.events.iter_mut().map(|event| &mut event.attributes);
        for attributes in std::iter::once(&mut self.attributes).chain(of_events) {
            attributes.0.truncate(limits.attributes);
            for (_, value) in &mut attributes.0 {
                match value {
                    Value::Text(text) => cut(text, limits.length),
                    Value::Texts(texts) => texts.iter_mut().for_each(|text| cut(text, limits.length)),
                    Value::Integer(_) | Value::Float(_) | Value::Bool(_) | Value::Floats(_) => {}
                }
            }
        }
    }

    /// Returns the span as the console shows it.
    pub(crate) fn json(&self) -> Json {
        let events = self.events.iter().map(
            |event| json!({"name": event.name, "time": event.at, "attributes": event.attributes.json()}),
        );
        let (status, description) = match &self.status {
            Status::Unset => ("Unset", None),
            Status::Ok => ("Ok", None),
            Status::Error(description) => ("Error", Some(description)),
        };
        json!({
            "name": self.name,
            "traceId": hex(&self.trace),
            "spanId": hex(&self.id),
            "parentSpanId": self.parent.map(|id| hex(&id)),
            "kind": match self.kind {
                Kind::Internal => "INTERNAL",
                Kind::Client => "CLIENT",
            },
            "start": self.start,
            "end": self.end,
            "attributes": self.attributes.json(),
            "events": events.collect::<Json>(),
            "status": {"code": status, "description": description},
        })
    }
}

fn cut(text: &mut String, length: usize) {
    // Most texts have fewer bytes than they may have characters.
    if text.len() > length
        && let Some((end, _)) = text.char_indices().nth(length)
    {
        text.truncate(end);
    }
}

/// Returns bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from_digit(half.into(), 16).unwrap_or('0');
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(digit(byte >> 4));
        text.push(digit(byte & 0xf));
    }
    text
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::Text(text)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Value::Integer(number)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Value::Float(number)
    }
}

impl From<bool> for Value {
    fn from(bool: bool) -> Self {
        Value::Bool(bool)
    }
}

impl From<Vec<String>> for Value {
    fn from(texts: Vec<String>) -> Self {
        Value::Texts(texts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_keep_their_limits() {
        let attributes = |names: [&'static str; 2]| {
            let mut attributes = Attributes::default();
            for name in names {
                attributes.set(name, "Grüße an alle");
            }
            attributes
        };
        let event = |name| Event {
            name,
            at: 0,
            attributes: attributes(["c", "d"]),
        };
        let mut span = Span {
            trace: [1; 16],
            id: [1; 8],
            parent: None,
            state: String::new(),
            name: "n".to_owned(),
            kind: Kind::Client,
            start: 0,
            end: 0,
            attributes: attributes(["a", "b"]),
            events: vec![event("first"), event("second")],
            status: Status::Unset,
        };
        span.limit(&Limits {
            attributes: 1,
            length: 5,
            events: 1,
        });
        assert_eq!(span.json()["attributes"], json!({"a": "Grüße"}));
        assert_eq!(
            span.json()["events"],
            json!([{"name": "first", "time": 0, "attributes": {"c": "Grüße"}}])
        );
    }
}
