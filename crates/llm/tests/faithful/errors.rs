//! Errors: what is unheard of in the document of one, as a reply or within a stream, reaches the client or is reported.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use llm::{Format, Losses, Reply};
use serde_json::Value;
use testkit::event_stream;

use super::{ANSWERING, CLIENTS, VALUE, Vanished, call, mutants, names, reply};

/// Errors as upstreams write them, each of its format or of whatever stands before one.
const ERRORS: &[(Format, &str)] = &[
    (
        Format::OpenAi,
        r#"{"error":{"message":"no such model","type":"odd_error","param":"model","code":"model_not_found"}}"#,
    ),
    (
        Format::OpenAi,
        r#"{"error":{"message":"Provider returned error","code":502,"metadata":{"raw":"{\"a\":1}","provider_name":"p"}}}"#,
    ),
    (
        Format::OpenAi,
        r#"{"object":"error","message":"too long","code":40303}"#,
    ),
    (
        Format::OpenAi,
        r#"{"detail":[{"loc":["body","messages",0],"msg":"field required","type":"missing"}]}"#,
    ),
    (
        Format::OpenAi,
        r#"[{"error":{"code":400,"message":"bad","status":"INVALID_ARGUMENT"}}]"#,
    ),
    (Format::OpenAi, r#"{"error":"out of memory"}"#),
    (
        Format::Responses,
        r#"{"error":{"message":"slow down","type":"tokens","param":null,"code":"rate_limit_exceeded"}}"#,
    ),
    (
        Format::Messages,
        r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"req_1"}"#,
    ),
    (Format::Messages, r#"{"detail":"no"}"#),
    (
        Format::Gemini,
        r#"{"error":{"code":400,"message":"bad","status":"INVALID_ARGUMENT","details":[{"@type":"type.googleapis.com/google.rpc.BadRequest","fieldViolations":[{"field":"contents[0]","description":"no \"parts\""}]}]}}"#,
    ),
    (Format::Gemini, r#"{"error":{"code":403,"message":"denied"}}"#),
    (Format::Gemini, r#"{"message":"no"}"#),
    (
        Format::Converse,
        r#"{"message":"it broke","originalStatusCode":429,"originalMessage":"slow down"}"#,
    ),
    (
        Format::Converse,
        r#"{"Output":{"__type":"com.amazon.coral.service#UnknownOperationException","message":"what"},"Version":"1.0"}"#,
    ),
];

/// Errors within streams.
const EVENTS: &[(Format, &str)] = &[
    (
        Format::OpenAi,
        r#"{"error":{"message":"out of memory","type":"server_error","param":null,"code":500}}"#,
    ),
    (
        Format::Messages,
        r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
    ),
    (
        Format::Gemini,
        r#"{"error":{"code":503,"message":"busy","status":"UNAVAILABLE"}}"#,
    ),
    (
        Format::Converse,
        r#"{"message":"it broke","originalStatusCode":500,"originalMessage":"it broke within"}"#,
    ),
];

#[test]
fn what_error_replies_add_is_delivered_or_reported() {
    let mut vanished = Vanished::default();
    for (upstream, text) in ERRORS {
        let document: Value = serde_json::from_str(text).expect("the document is JSON");
        for (place, more) in mutants(&document) {
            for (format, path, body) in CLIENTS {
                let (told, losses) = refused(path, body, *upstream, &more, *format);
                let is_there = told.contains(VALUE) || names(&losses, *format);
                vanished.note(&format!("{} {text}", format.name()), &place, is_there);
            }
        }
    }
    vanished.none_of(100);
}

#[test]
fn what_error_events_add_is_delivered_or_reported() {
    let mut vanished = Vanished::default();
    for (upstream, text) in EVENTS {
        let document: Value = serde_json::from_str(text).expect("the document is JSON");
        for (place, more) in mutants(&document) {
            for (format, path, body) in CLIENTS {
                let Some(reply) = reply(path, body, *upstream) else {
                    continue;
                };
                let mut stream = reply.stream();
                let told = stream.push(Bytes::from(event(*upstream, &more)));
                assert!(stream.observed().error.is_some(), "{more}");
                let is_there = String::from_utf8_lossy(&told).contains(VALUE)
                    || names(&stream.observed().losses, *format);
                vanished.note(&format!("{} {text}", format.name()), &place, is_there);
            }
        }
    }
    vanished.none_of(15);
}

#[test]
fn clients_of_the_format_are_handed_an_error_as_it_is() {
    let own = [0, 6, 7, 9].map(|index| ERRORS.get(index).expect("there are so many"));
    for (upstream, text) in own {
        let row = CLIENTS.iter().find(|(format, _, _)| format == upstream);
        let (format, path, body) = row.expect("clients speak it");
        let document = serde_json::from_str(text).expect("the document is JSON");
        let (told, losses) = refused(path, body, *upstream, &document, *format);
        let told: Value = serde_json::from_str(&told).expect("errors are JSON");
        assert_eq!(told, document);
        assert_eq!(losses.names(*format), [""; 0]);
    }
}

/// Returns what a client is told of the error `document` in `upstream`, and what was lost.
fn refused(path: &str, body: &str, upstream: Format, document: &Value, client: Format) -> (String, Losses) {
    let row = ANSWERING.iter().find(|(format, _, _)| *format == upstream);
    let (_, provider, model) = row.expect("somebody answers in every format");
    let body: Value = serde_json::from_str(body).expect("the request is JSON");
    let call = call(path, &body, *provider, model).expect("the request can be said to any upstream");
    let (mut headers, document) = (HeaderMap::new(), Bytes::from(document.to_string()));
    if upstream == Format::Converse {
        headers.insert(
            "x-amzn-errortype",
            HeaderValue::from_static("ModelErrorException"),
        );
    }
    let reply: Reply = call.reply;
    let error = reply.error(StatusCode::BAD_REQUEST, &headers, &document);
    let told = client.encode_error(&error);
    let losses = error.untold(&told);
    (String::from_utf8(told.into()).expect("errors are text"), losses)
}

/// Returns the event of a stream in `upstream` that holds the error `document`.
fn event(upstream: Format, document: &Value) -> Vec<u8> {
    match upstream {
        Format::Converse => event_stream::exception("modelStreamErrorException", document),
        Format::Messages => format!("event: error\ndata: {document}\n\n").into_bytes(),
        Format::OpenAi | Format::Responses | Format::Gemini | Format::Cohere => {
            format!("data: {document}\n\n").into_bytes()
        }
    }
}
