//! Claude on Amazon Bedrock and Vertex AI: what Anthropic's own streams become when they come wrapped.

use std::{fs, path::Path};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use llm::{
    Call, Endpoint, ErrorKind, Inbound, Provider, Site, Stream, Target,
    frame::sse::Sse,
    provider::{Anthropic, BedrockClaude, VertexClaude},
    reply::End,
};
use serde_json::{Value, json};
use testkit::event_stream::{chunk, exception};

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/anthropic/v1/messages";

/// Returns what `provider` is sent for a client at `path`.
fn call(provider: &'static dyn Provider, path: &str) -> Call {
    let body = r#"{"model":"m","stream":true,"max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#;
    let place = Endpoint::find(path, "").expect("the path is in the table");
    let inbound = Inbound::parse(place, Bytes::from_static(body.as_bytes())).expect("the request is valid");
    let site = Site::default();
    let target = Target {
        provider,
        site: &site,
        model: "claude-sonnet-4-5",
        now: 1_700_000_000,
    };
    inbound
        .call(&target, &HeaderMap::new())
        .unwrap_or_else(|error| panic!("the request can be said: {error}"))
}

/// Returns the name and data of every server-sent event.
fn events(sse: &[u8]) -> Vec<(Option<String>, String)> {
    let mut events = Vec::new();
    let mut decoder = Sse::default();
    decoder
        .push(sse, |frame, _| {
            events.push((frame.event.map(str::to_owned), frame.data.to_owned()))
        })
        .expect("no event is too large");
    assert!(decoder.is_between_events());
    events
}

/// Pushes `bytes` in pieces of `size`; returns what the client gets.
fn drive(mut stream: Stream, bytes: &[u8], size: usize) -> (Vec<u8>, Stream) {
    let mut out = Vec::new();
    for piece in bytes.chunks(size) {
        out.extend_from_slice(&stream.push(Bytes::copy_from_slice(piece)));
    }
    out.extend_from_slice(&stream.end(End::Clean));
    (out, stream)
}

/// Returns name and stream of every fixture of the format.
fn recorded() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/messages");
    let cases = fs::read_dir(folder).expect("the folder of fixtures is there");
    let mut recorded: Vec<(String, Vec<u8>)> = cases
        .map(|case| case.expect("the folder can be listed").path())
        .map(|case| {
            let sse = fs::read(case.join("reply.sse")).expect("every case has a stream");
            (case.display().to_string(), sse)
        })
        .collect();
    recorded.sort();
    assert!(recorded.len() >= 16);
    recorded
}

#[test]
fn a_wrapped_stream_is_relayed_as_server_sent_events() {
    for (name, sse) in recorded() {
        let expected = events(&sse);
        let wrapped: Vec<u8> = expected.iter().flat_map(|(_, data)| chunk(data)).collect();
        let whole = drive(
            call(&BedrockClaude, MESSAGES).reply.stream(),
            &wrapped,
            wrapped.len(),
        );
        assert_eq!(events(&whole.0), expected, "{name}");
        assert!(whole.1.observed().complete, "{name}");
        let direct = drive(call(&Anthropic, MESSAGES).reply.stream(), &sse, sse.len());
        assert_eq!(whole.1.observed().usage, direct.1.observed().usage, "{name}");
        for size in [1, 13, 64] {
            let pieces = drive(call(&BedrockClaude, MESSAGES).reply.stream(), &wrapped, size);
            assert_eq!(pieces.0, whole.0, "{name} in pieces of {size}");
        }
    }
}

#[test]
fn a_wrapped_stream_is_translated_like_an_unwrapped_one() {
    for (name, sse) in recorded() {
        let wrapped: Vec<u8> = events(&sse).iter().flat_map(|(_, data)| chunk(data)).collect();
        let direct = drive(call(&Anthropic, CHAT).reply.stream(), &sse, sse.len());
        let bedrock = drive(call(&BedrockClaude, CHAT).reply.stream(), &wrapped, 17);
        assert_eq!(bedrock.0, direct.0, "{name}");
        let vertex = drive(call(&VertexClaude, CHAT).reply.stream(), &sse, 17);
        assert_eq!(vertex.0, direct.0, "{name}");
    }
}

#[test]
fn a_translated_request_is_made_fit_for_the_platform() {
    #[track_caller]
    fn check(provider: &'static dyn Provider, path: &str, version: &str, streams: Option<bool>) {
        for client in [CHAT, MESSAGES] {
            let call = call(provider, client);
            assert_eq!(call.path, path);
            let body: Value = serde_json::from_slice(&call.body).expect("the body is JSON");
            assert_eq!(body.get("model"), None);
            assert_eq!(body["anthropic_version"], version);
            assert_eq!(body.get("stream").and_then(Value::as_bool), streams);
            assert_eq!(body["max_tokens"], 9);
        }
    }
    check(
        &BedrockClaude,
        "/model/claude-sonnet-4-5/invoke-with-response-stream",
        "bedrock-2023-05-31",
        None,
    );
    check(
        &VertexClaude,
        "/publishers/anthropic/models/claude-sonnet-4-5:streamRawPredict",
        "vertex-2023-10-16",
        Some(true),
    );
}

#[test]
fn an_exception_is_told_in_the_clients_words() {
    #[track_caller]
    fn check(client: &str, end: Vec<u8>, kind: ErrorKind, word: &str) {
        let start =
            r#"{"type":"message_start","message":{"id":"msg_1","model":"m","usage":{"input_tokens":1}}}"#;
        let (out, stream) = drive(
            call(&BedrockClaude, client).reply.stream(),
            &[chunk(start), end].concat(),
            4096,
        );
        let error = stream.observed().error.clone().expect("the stream failed");
        assert_eq!(error.kind, kind);
        let events = events(&out);
        let (name, data) = events.last().expect("the client is told");
        let data: Value = serde_json::from_str(data).expect("the error is JSON");
        assert_eq!(data["error"]["type"], word);
        assert_eq!(data["error"]["message"], error.message);
        if client == MESSAGES {
            assert_eq!(name.as_deref(), Some("error"));
            assert_eq!(events.len(), 2, "what came before is still said");
        }
    }
    let throttled = || exception("throttlingException", &json!({"message": "slower"}));
    check(MESSAGES, throttled(), ErrorKind::RateLimit, "rate_limit_error");
    check(CHAT, throttled(), ErrorKind::RateLimit, "rate_limit_error");
    let inner = chunk(r#"{"type":"error","error":{"type":"overloaded_error","message":"busy"}}"#);
    let mut stream = call(&BedrockClaude, MESSAGES).reply.stream();
    let out = stream.push(Bytes::from(inner));
    assert!(out.starts_with(b"event: error\ndata: "));
    assert_eq!(
        stream.observed().error.as_ref().map(|error| error.kind),
        Some(ErrorKind::Overloaded)
    );
}

#[test]
fn an_error_reply_is_told_in_the_clients_words() {
    let mut headers = HeaderMap::new();
    headers.insert(
        "x-amzn-errortype",
        HeaderValue::from_static("AccessDeniedException:http://x/"),
    );
    let body = Bytes::from_static(br#"{"message":"no access to the model"}"#);
    let error = call(&BedrockClaude, MESSAGES)
        .reply
        .error(StatusCode::FORBIDDEN, &headers, &body);
    assert_eq!(
        (error.kind, error.status),
        (ErrorKind::Permission, StatusCode::FORBIDDEN)
    );
    assert_eq!(error.code.as_deref(), Some("AccessDeniedException"));
    let google =
        Bytes::from_static(br#"[{"error":{"code":429,"message":"quota","status":"RESOURCE_EXHAUSTED"}}]"#);
    let error =
        call(&VertexClaude, MESSAGES)
            .reply
            .error(StatusCode::TOO_MANY_REQUESTS, &HeaderMap::new(), &google);
    assert_eq!(
        (error.kind, error.message.as_str()),
        (ErrorKind::RateLimit, "quota")
    );
    assert!(error.raw.is_none_or(|raw| raw.format.is_none()));
}
