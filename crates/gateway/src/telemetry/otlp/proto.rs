//! OTLP messages. Numbers of fields are those of opentelemetry-proto 1.x, named beside each.

use policy::protobuf::{Message, field_size};

use crate::telemetry::{
    log::LogRecord,
    trace::span::{Attributes, Event, Span, Status, Value},
};

/// Writes a KeyValue: key = 1, value = 2.
pub(super) fn attribute(message: &mut Message, field: u32, name: &str, value: &Value) {
    if let Value::Text(text) = value {
        text_attribute(message, field, name, text);
        return;
    }
    message.message(field, |pair| {
        pair.text(1, name);
        pair.message(2, |any| any_value(any, value));
    });
}

/// Writes the KeyValue of a text, which may be long: with the lengths known, nothing has to be moved on for them.
fn text_attribute(message: &mut Message, field: u32, name: &str, text: &str) {
    let any = field_size(text.len());
    message.announce(field, field_size(name.len()) + field_size(any));
    message.bytes(1, name.as_bytes());
    message.announce(2, any);
    message.bytes(1, text.as_bytes());
}

/// Writes an AnyValue: string = 1, bool = 2, int = 3, double = 4, array = 5.
fn any_value(any: &mut Message, value: &Value) {
    match value {
        Value::Text(text) => any.bytes(1, text.as_bytes()),
        Value::Bool(bool) => any.number(2, u64::from(*bool)),
        Value::Integer(number) => any.number(3, number.cast_unsigned()),
        Value::Float(number) => any.double(4, *number),
        Value::Texts(texts) => any.message(5, |array| {
            for text in texts {
                array.message(1, |item| item.bytes(1, text.as_bytes()));
            }
        }),
        Value::Floats(numbers) => any.message(5, |array| {
            for number in numbers {
                array.message(1, |item| item.double(4, *number));
            }
        }),
    }
}

fn attributes(message: &mut Message, field: u32, attributes: &Attributes) {
    for (name, value) in &attributes.0 {
        attribute(message, field, name, value);
    }
}

/// Returns an ExportTraceServiceRequest: resource_spans = 1.
pub(super) fn spans(resource: &[(String, String)], spans: &[Span]) -> Vec<u8> {
    let spans = spans.iter().map(|span| {
        let mut message = Message::with_capacity(span_size(span));
        self::span(&mut message, span);
        message
    });
    exported(resource, &spans.collect::<Vec<_>>())
}

/// Returns an ExportLogsServiceRequest: resource_logs = 1.
pub(super) fn logs(resource: &[(String, String)], records: &[LogRecord]) -> Vec<u8> {
    let records = records.iter().map(|record| {
        let mut message = Message::default();
        log_record(&mut message, record);
        message
    });
    exported(resource, &records.collect::<Vec<_>>())
}

/// Returns a request to export `items` of either kind. ResourceSpans: resource = 1, scope_spans = 2; ScopeSpans:
/// scope = 1, spans = 2; the messages of logs have the same numbers. It is large, so its lengths are known before its
/// parts are put into it.
fn exported(resource: &[(String, String)], items: &[Message]) -> Vec<u8> {
    let (mut of_resource, mut of_scope) = (Message::default(), Message::default());
    of_resource.message(1, |message| self::resource(message, resource));
    of_scope.message(1, scope);
    let sizes = items.iter().map(|item| field_size(item.size()));
    let scoped = of_scope.size() + sizes.sum::<usize>();
    let whole = of_resource.size() + field_size(scoped);
    let mut request = Message::with_capacity(field_size(whole));
    request.announce(1, whole);
    request.append(&of_resource);
    request.announce(2, scoped);
    request.append(&of_scope);
    for item in items {
        request.announce(2, item.size());
        request.append(item);
    }
    request.into_bytes()
}

/// Returns about how many bytes a span takes.
fn span_size(span: &Span) -> usize {
    let attributes = span.attributes.0.iter().map(|(name, value)| {
        let length = match value {
            Value::Text(text) => text.len(),
            Value::Integer(_) | Value::Float(_) | Value::Bool(_) => 0,
            Value::Texts(texts) => texts.iter().map(|text| text.len() + FRAME).sum(),
            Value::Floats(numbers) => numbers.len() * FRAME,
        };
        name.len() + length + FRAME
    });
    FRAME * 16 + attributes.sum::<usize>()
}

/// What stands around a value, at most.
const FRAME: usize = 16;

/// Writes a LogRecord: time = 1, severity_number = 2, body = 5, attributes = 6, trace_id = 9, span_id = 10, observed = 11.
fn log_record(message: &mut Message, record: &LogRecord) {
    message.fixed64(1, record.at);
    message.varint(2, INFO);
    if !record.body.is_empty() {
        message.message(5, |any| any.text(1, &record.body));
    }
    attributes(message, 6, &record.attributes);
    if let Some((trace, span)) = &record.place {
        message.bytes(9, trace);
        message.bytes(10, span);
    }
    message.fixed64(11, record.at);
}

/// Writes a Resource: attributes = 1.
pub(super) fn resource(message: &mut Message, resource: &[(String, String)]) {
    for (name, value) in resource {
        attribute(message, 1, name, &Value::Text(value.clone()));
    }
}

/// Writes an InstrumentationScope: name = 1.
pub(super) fn scope(message: &mut Message) {
    message.text(1, SCOPE);
}

/// Writes a Span: trace_id = 1, span_id = 2, trace_state = 3, parent_span_id = 4, name = 5, kind = 6, start = 7,
/// end = 8, attributes = 9, events = 11, status = 15.
fn span(message: &mut Message, span: &Span) {
    message.bytes(1, &span.trace);
    message.bytes(2, &span.id);
    message.text(3, &span.state);
    if let Some(parent) = &span.parent {
        message.bytes(4, parent);
    }
    message.text(5, &span.name);
    message.varint(6, span.kind as u64);
    message.fixed64(7, span.start);
    message.fixed64(8, span.end);
    attributes(message, 9, &span.attributes);
    for event in &span.events {
        message.message(11, |message| self::event(message, event));
    }
    // Status: message = 2, code = 3.
    match &span.status {
        Status::Unset => {}
        Status::Ok => message.message(15, |status| status.varint(3, 1)),
        Status::Error(description) => message.message(15, |status| {
            status.text(2, description);
            status.varint(3, 2);
        }),
    }
}

/// Writes a Span.Event: time = 1, name = 2, attributes = 3.
fn event(message: &mut Message, event: &Event) {
    message.fixed64(1, event.at);
    message.text(2, event.name);
    attributes(message, 3, &event.attributes);
}

/// SEVERITY_NUMBER_INFO.
const INFO: u64 = 9;

/// What the reference calls itself in its signals.
pub(super) const SCOPE: &str = "envoyproxy/ai-gateway";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_below_0_take_all_their_bytes() {
        let mut message = Message::default();
        any_value(&mut message, &Value::Integer(-1));
        let expected = [0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        assert_eq!(message.into_bytes(), expected);
    }

    /// A message whose lengths are known before is the message whose lengths are counted.
    #[test]
    fn lengths_are_known_before() {
        for length in [0, 1, 100, 127, 128, 16_200, 16_384, 2_100_000] {
            let text = "x".repeat(length);
            let value = Value::Text(text.clone());
            let (mut known, mut counted) = (Message::default(), Message::default());
            attribute(&mut known, 9, "name", &value);
            counted.message(9, |pair| {
                pair.text(1, "name");
                pair.message(2, |any| any_value(any, &value));
            });
            assert!(known.into_bytes() == counted.into_bytes(), "{length}");
            assert_eq!(field_size(length), {
                let mut message = Message::default();
                message.bytes(1, text.as_bytes());
                message.size()
            });
        }
    }

    #[test]
    fn records_are_in_the_scope_of_a_resource() {
        let record = |length| {
            let mut message = Message::default();
            message.bytes(5, &vec![b'x'; length]);
            message
        };
        let resource_of = [("service.name".to_owned(), "t".to_owned())];
        let mut counted = Message::default();
        counted.message(1, |of_resource| {
            of_resource.message(1, |message| resource(message, &resource_of));
            of_resource.message(2, |of_scope| {
                of_scope.message(1, scope);
                for length in [3, 300] {
                    of_scope.message(2, |message| message.append(&record(length)));
                }
            });
        });
        assert_eq!(
            exported(&resource_of, &[record(3), record(300)]),
            counted.into_bytes()
        );
    }
}
