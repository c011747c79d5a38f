//! Access records on their way to a receiver of OTLP.

use std::time::Duration;

use serde_json::Value as Json;

use crate::{
    facts::Facts,
    telemetry::{
        otlp::{Bounds, Export, Queue},
        trace::span::{Attributes, Value},
    },
};

/// A record as OTLP has it.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogRecord {
    /// Nanoseconds since the Unix epoch.
    pub(crate) at: u64,
    /// The place in a trace, where the request has one that is sampled.
    pub(crate) place: Option<([u8; 16], [u8; 8])>,
    /// One line for a person; may be empty.
    pub(crate) body: String,
    pub(crate) attributes: Attributes,
}

/// Access records on their way to one receiver.
pub(crate) struct Sender(Queue<LogRecord>);

impl Sender {
    /// Starts to send to `export`.
    pub(crate) fn start(export: Export) -> Self {
        Self(Queue::start(
            "access records",
            BOUNDS,
            export,
            |exporter, batch| exporter.logs(&batch),
        ))
    }

    /// Takes a record.
    pub(crate) fn push(&self, record: LogRecord) {
        let size = record.size();
        self.0.push(record, size);
    }

    /// Returns how many records were not sent.
    pub(crate) fn dropped(&self) -> u64 {
        self.0.dropped()
    }

    /// Waits until everything is sent, for at most `limit`.
    pub(crate) fn flush(&self, limit: Duration) {
        self.0.flush(limit);
    }
}

impl LogRecord {
    /// Returns the record of a request that says `body`, and `members` as attributes.
    pub(crate) fn new(
        facts: &Facts,
        body: String,
        members: impl IntoIterator<Item = (String, Json)>,
    ) -> Self {
        let mut attributes = Attributes::default();
        for (name, value) in members {
            if let Some(value) = attribute(value) {
                attributes.set(name, value);
            }
        }
        Self {
            at: u64::try_from(facts.began.as_nanosecond()).unwrap_or_default(),
            place: facts.trace.as_deref().and_then(|trace| trace.place()),
            body,
            attributes,
        }
    }

    /// Returns about how many bytes it holds.
    fn size(&self) -> usize {
        let names = self.attributes.0.iter().map(|(name, _)| name.len() + 32);
        self.body.len() + names.sum::<usize>()
    }
}

/// Returns the value of an attribute; nothing is none.
fn attribute(value: Json) -> Option<Value> {
    Some(match value {
        Json::Null => return None,
        Json::Bool(bool) => Value::Bool(bool),
        Json::String(text) => Value::Text(text),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => Value::Integer(integer),
            (None, Some(float)) => Value::Float(float),
            (None, None) => Value::Text(number.to_string()),
        },
        other @ (Json::Array(_) | Json::Object(_)) => Value::Text(other.to_string()),
    })
}

/// As the defaults of OpenTelemetry's batching of log records, but for the delay: whoever looks for a record looks soon.
const BOUNDS: Bounds = Bounds {
    queue: 2048,
    batch: 512,
    delay: Duration::from_secs(1),
};

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_keep_their_types() {
        let check = |value, expected| assert_eq!(attribute(value), expected);
        check(Json::Null, None);
        check(json!("a"), Some(Value::Text("a".to_owned())));
        check(json!(7), Some(Value::Integer(7)));
        check(json!(0.5), Some(Value::Float(0.5)));
        check(json!(true), Some(Value::Bool(true)));
        check(json!(["a", 1]), Some(Value::Text(r#"["a",1]"#.to_owned())));
    }
}
