//! OTLP messages. Numbers of fields are those of opentelemetry-proto 1.x, named beside each.

use policy::protobuf::Message;

use crate::telemetry::{
    log::LogRecord,
    trace::span::{Attributes, Event, Span, Status, Value},
};

/// Writes a KeyValue: key = 1, value = 2.
pub(super) fn attribute(message: &mut Message, field: u32, name: &str, value: &Value) {
    message.message(field, |pair| {
        pair.text(1, name);
        pair.message(2, |any| any_value(any, value));
    });
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
    let mut request = Message::default();
    // ResourceSpans: resource = 1, scope_spans = 2; ScopeSpans: scope = 1, spans = 2.
    request.message(1, |of_resource| {
        of_resource.message(1, |message| self::resource(message, resource));
        of_resource.message(2, |of_scope| {
            of_scope.message(1, scope);
            for span in spans {
                of_scope.message(2, |message| self::span(message, span));
            }
        });
    });
    request.into_bytes()
}

/// Returns an ExportLogsServiceRequest: resource_logs = 1.
pub(super) fn logs(resource: &[(String, String)], records: &[LogRecord]) -> Vec<u8> {
    let mut request = Message::default();
    // ResourceLogs: resource = 1, scope_logs = 2; ScopeLogs: scope = 1, log_records = 2.
    request.message(1, |of_resource| {
        of_resource.message(1, |message| self::resource(message, resource));
        of_resource.message(2, |of_scope| {
            of_scope.message(1, scope);
            for record in records {
                of_scope.message(2, |message| log_record(message, record));
            }
        });
    });
    request.into_bytes()
}

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
}
