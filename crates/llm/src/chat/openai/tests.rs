//! The format against itself: every fixture comes back as it went in, and errors and relays are read rightly.

use std::{collections::BTreeMap, fs, path::PathBuf};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::OpenAi;
use crate::{
    ApiError, ErrorKind, Format, Losses, Observed, Site, Target, Usage,
    chat::{
        Client, Event, FinishReason, Grammar, Response, StreamOptions, Upstream, Verdict,
        fold::{Fold, unfold},
    },
    error::RawError,
    frame::{Frame, sse::Sse},
    json::Shallow,
    provider::{self, Ask, CredentialKind, Dialect, Provider, Replay, Thinking},
    reply::End,
};

/// A server that takes whatever the format has been extended with.
#[derive(Debug)]
pub(super) struct Everything;

impl Provider for Everything {
    fn id(&self) -> &'static str {
        "everything"
    }

    fn name(&self) -> &'static str {
        "everything"
    }

    fn formats(&self, _operation: crate::Operation, _model: &str) -> &'static [Format] {
        &[Format::OpenAi]
    }

    fn path(&self, _ask: Ask, _target: &Target<'_>) -> String {
        String::new()
    }

    fn host(&self) -> Option<&'static str> {
        None
    }

    fn credential(&self) -> CredentialKind {
        CredentialKind::Bearer
    }

    fn dialect(&self, _site: &Site) -> Dialect {
        Dialect {
            top_k: true,
            thinking: Thinking::Budget,
            replay: Replay::ThinkingBlocks,
            cache_control: true,
            audio_url: true,
            video_url: true,
            ..Dialect::PLAIN
        }
    }
}

/// What is not said again as it was, by fixture: `(case, member, written instead)`.
const REQUEST_EXCEPTIONS: &[(&str, &str, &str)] = &[
    // Leading instructions become one message, and `developer` is a word for `system`.
    ("system_developer", "/messages", "two leading messages"),
];

pub(super) fn target<'a>(provider: &'static dyn Provider, site: &'a Site, model: &'a str) -> Target<'a> {
    Target {
        provider,
        site,
        model,
        now: 0,
    }
}

fn fixtures() -> BTreeMap<String, PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/openai");
    fs::read_dir(root)
        .expect("the fixtures are there")
        .map(|entry| entry.expect("a folder").path())
        .map(|path| {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (name, path)
        })
        .collect()
}

fn read(path: &std::path::Path, file: &str) -> Vec<u8> {
    fs::read(path.join(file)).expect("the fixture has this file")
}

fn value(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("JSON")
}

/// Returns a document without members that are `null`, which say the same as no member.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => members
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key, without_nulls(value)))
            .collect(),
        Value::Array(elements) => elements.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

fn decode(request: &[u8], reply: &[u8]) -> Response {
    let mut losses = Losses::default();
    let request = OpenAi.decode_request(request, &mut losses).expect("a request");
    let site = Site::default();
    let target = target(&Everything, &site, &request.model);
    let (_, reader) = OpenAi
        .encode_request(&request, &target, &mut losses)
        .expect("said");
    reader.decode_response(reply, &mut losses).expect("a reply")
}

pub(super) fn events(request: &[u8], stream: &[u8], how: End) -> Vec<Event> {
    let mut losses = Losses::default();
    let request = OpenAi.decode_request(request, &mut losses).expect("a request");
    let site = Site::default();
    let target = target(&Everything, &site, &request.model);
    let (_, reader) = OpenAi
        .encode_request(&request, &target, &mut losses)
        .expect("said");
    let mut reader = reader.into_stream();
    let (mut sse, mut events) = (Sse::default(), Vec::new());
    sse.push(stream, |frame, _| reader.frame(frame, &mut events, &mut losses))
        .expect("small events");
    sse.finish(|frame| reader.frame(frame, &mut events, &mut losses));
    reader.end(how, &mut events);
    let mut grammar = Grammar::default();
    for event in &events {
        assert_eq!(grammar.check(event), Ok(()), "{event:?} in {events:#?}");
    }
    assert_eq!(grammar.end(), Ok(()), "{events:#?}");
    events
}

pub(super) fn fold(events: &[Event]) -> Result<Response, ApiError> {
    let mut fold = Fold::default();
    for event in events {
        fold.push(event);
    }
    fold.finish()
}

/// Returns the chunks that say `response`, as a client that wants token counts gets them.
fn stream(response: &Response) -> Vec<u8> {
    let (mut out, mut losses) = (BytesMut::new(), Losses::default());
    let mut writer = OpenAi.encode_stream(StreamOptions {
        include_usage: true,
        ..StreamOptions::default()
    });
    for event in unfold(response) {
        writer.event(&event, &mut out, &mut losses);
    }
    writer.end(&mut out, &mut losses);
    assert!(losses.is_empty(), "{losses:?}");
    out.to_vec()
}

#[test]
fn requests_come_back_as_they_went_in() {
    for (case, path) in fixtures() {
        let document = read(&path, "request.json");
        let mut losses = Losses::default();
        let request = OpenAi.decode_request(&document, &mut losses).expect(&case);
        let site = Site::default();
        let target = target(&Everything, &site, &request.model);
        let (body, _) = OpenAi
            .encode_request(&request, &target, &mut losses)
            .expect(&case);
        let (mut wanted, mut got) = (without_nulls(value(&document)), value(&body));
        for (_, member, _) in REQUEST_EXCEPTIONS.iter().filter(|(name, ..)| *name == case) {
            assert_ne!(
                wanted.pointer(member),
                got.pointer(member),
                "{case}: no exception"
            );
            wanted.pointer_mut(member).expect("a member").take();
            got.pointer_mut(member).expect("a member").take();
        }
        assert_eq!(wanted, got, "{case}");
        assert!(losses.is_empty(), "{case}: {losses:?}");
    }
}

#[test]
fn replies_come_back_as_they_went_in() {
    for (case, path) in fixtures() {
        let document = read(&path, "reply.json");
        let response = decode(&read(&path, "request.json"), &document);
        let mut losses = Losses::default();
        let body = OpenAi.encode_response(&response, &mut losses);
        let (wanted, got) = (value(&document), value(&body));
        assert_eq!(wanted, got, "{case}");
        assert!(losses.is_empty(), "{case}: {losses:?}");
    }
}

#[test]
fn streams_say_what_plain_replies_say() {
    for (case, path) in fixtures() {
        let request = read(&path, "request.json");
        let plain = decode(&request, &read(&path, "reply.json"));
        let events = events(&request, &read(&path, "reply.sse"), End::Clean);
        let folded = fold(&events).expect(&case);
        assert_eq!(format!("{plain:#?}"), format!("{folded:#?}"), "{case}");
    }
}

#[test]
fn written_streams_are_read_as_they_were_meant() {
    for (case, path) in fixtures() {
        let request = read(&path, "request.json");
        let plain = decode(&request, &read(&path, "reply.json"));
        let folded = fold(&events(&request, &stream(&plain), End::Clean)).expect(&case);
        assert_eq!(format!("{plain:#?}"), format!("{folded:#?}"), "{case}");
    }
}

#[test]
fn relays_overhear_what_translations_read() {
    for (case, path) in fixtures() {
        let plain = decode(&read(&path, "request.json"), &read(&path, "reply.json"));
        let mut whole = Observed::default();
        OpenAi
            .listen_response(&read(&path, "reply.json"), &mut whole)
            .expect(&case);
        let mut streamed = Observed::default();
        let mut listener = OpenAi.listen_stream(false);
        Sse::default()
            .push(&read(&path, "reply.sse"), |frame, _| {
                assert_eq!(listener.frame(frame, &mut streamed), Verdict::Pass);
            })
            .expect("small events");
        for observed in [whole, streamed] {
            // The tier of service is not overheard.
            let tier = plain.usage.tier;
            assert_eq!(
                Usage {
                    tier,
                    ..observed.usage
                },
                plain.usage,
                "{case}"
            );
            assert_eq!(
                observed.model.as_deref(),
                Some(plain.head.model.as_str()),
                "{case}"
            );
            let finish = observed.finish.expect(&case);
            assert_eq!(finish.reason, plain.choices[0].finish.reason, "{case}");
            assert!(observed.complete && observed.meaningful, "{case}");
        }
    }
}

#[test]
fn relays_withhold_counts_alone() {
    #[track_caller]
    fn check(data: &str, withhold: bool, wanted: Verdict) {
        let mut listener = OpenAi.listen_stream(withhold);
        let mut observed = Observed::default();
        let verdict = listener.frame(Frame { event: None, data }, &mut observed);
        assert_eq!(verdict, wanted, "{data}");
    }
    let alone = r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#;
    let beside = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":1}}"#;
    check(alone, true, Verdict::Withhold);
    check(alone, false, Verdict::Pass);
    check(beside, true, Verdict::Pass);
    check(
        r#"{"choices":[],"prompt_filter_results":[],"usage":null}"#,
        true,
        Verdict::Pass,
    );
    check("[DONE]", true, Verdict::Pass);
    check("not JSON", true, Verdict::Pass);
}

#[test]
fn relays_know_when_something_is_said() {
    #[track_caller]
    fn check(delta: &str, wanted: bool) {
        let data =
            format!(r#"{{"model":"m","choices":[{{"index":0,"delta":{delta},"finish_reason":null}}]}}"#);
        let mut observed = Observed::default();
        let frame = Frame {
            event: None,
            data: &data,
        };
        OpenAi.listen_stream(false).frame(frame, &mut observed);
        assert_eq!(observed.meaningful, wanted, "{delta}");
        assert!(!observed.complete);
    }
    check(r#"{"role":"assistant"}"#, false);
    check(
        r#"{"role":"assistant","content":"","refusal":null,"tool_calls":[]}"#,
        false,
    );
    check(r#"{"content":"a \"finish_reason\": \"stop\" in words"}"#, true);
    check(r#"{"reasoning_content":"h"}"#, true);
    check(r#"{"tool_calls":[{"index":0}]}"#, true);
}

#[test]
fn relays_overhear_errors_and_odd_replies() {
    let mut observed = Observed::default();
    let data = r#"{"error":{"message":"out of memory","type":"server_error","code":503}}"#;
    let frame = Frame { event: None, data };
    assert_eq!(
        OpenAi.listen_stream(true).frame(frame, &mut observed),
        Verdict::Pass
    );
    let error = observed.error.expect("an error");
    assert_eq!(
        (error.status.as_u16(), error.message.as_str()),
        (503, "out of memory")
    );

    // A reply of an unknown shape is the upstream's business as long as it is an object.
    let mut observed = Observed::default();
    let odd = br#"{"choices":"none","usage":{"prompt_tokens":4.0}}"#;
    assert_eq!(OpenAi.listen_response(odd, &mut observed), Ok(()));
    for body in [&b"null"[..], b"[]", b"<html>", b"{\"a\":"] {
        let error = OpenAi
            .listen_response(body, &mut observed)
            .expect_err("no object");
        assert_eq!(error.kind, ErrorKind::BadReply);
    }
}

#[test]
fn usage_is_asked_for_on_the_clients_behalf() {
    #[track_caller]
    fn check(document: &str, streamed: bool, wanted: Option<&str>) {
        let shallow = Shallow::parse(Bytes::copy_from_slice(document.as_bytes())).expect("an object");
        let edits = OpenAi.relay_edits(
            &shallow,
            streamed,
            &target(&provider::OpenAi, &Site::default(), "m"),
        );
        let edit = edits.first().map(|(key, value)| {
            assert_eq!(*key, "stream_options");
            value.as_deref().expect("a value")
        });
        assert_eq!(edit, wanted, "{document}");
    }
    check(r#"{"stream":false}"#, false, None);
    check(r#"{"stream":true}"#, true, Some(r#"{"include_usage":true}"#));
    check(
        r#"{"stream_options":null}"#,
        true,
        Some(r#"{"include_usage":true}"#),
    );
    check(r#"{"stream_options":{"include_usage":true}}"#, true, None);
    check(r#"{"stream_options":7}"#, true, None);
    check(
        r#"{"stream_options":{ "x": 1.50, "include_usage":false }}"#,
        true,
        Some(r#"{ "x": 1.50, "include_usage":true }"#),
    );
}

#[test]
fn error_replies_are_read_from_any_server() {
    #[track_caller]
    fn check(body: &str, message: &str, code: Option<&str>, kept: bool) {
        let body = Bytes::copy_from_slice(body.as_bytes());
        let error = OpenAi.decode_error(StatusCode::TOO_MANY_REQUESTS, &HeaderMap::new(), &body);
        assert_eq!(error.message, message);
        assert_eq!(error.code.as_deref(), code);
        assert_eq!((error.status.as_u16(), error.kind), (429, ErrorKind::RateLimit));
        let own = error.raw.as_ref().is_some_and(|raw| raw.format.is_some());
        assert_eq!(own, kept, "{body:?}");
        if kept {
            assert_eq!(OpenAi.encode_error(&error), body);
        }
    }
    check(
        r#"{"error":{"message":"slow down","type":"requests","param":null,"code":"rate_limit_exceeded"}}"#,
        "slow down",
        Some("rate_limit_exceeded"),
        true,
    );
    check(
        r#"{"error":{"message":"no","code":429}}"#,
        "no",
        Some("429"),
        true,
    );
    check(r#"{"error":"no"}"#, "no", None, false);
    check(
        r#"{"object":"error","message":"no","code":42901}"#,
        "no",
        Some("42901"),
        false,
    );
    check(r#"{"detail":"no"}"#, "no", None, false);
    check(
        r#"{"detail":[{"loc":["body"],"msg":"no"}]}"#,
        r#"[{"loc":["body"],"msg":"no"}]"#,
        None,
        false,
    );
    check(
        r#"[{"error":{"message":"no","code":429}}]"#,
        "no",
        Some("429"),
        false,
    );
    check("no", "no", None, false);
    for nothing in ["", "{}", "<html><body>429</body></html>"] {
        let bare = "the upstream answered with status 429 Too Many Requests";
        check(nothing, bare, None, false);
    }
    let long = OpenAi.decode_error(
        StatusCode::BAD_GATEWAY,
        &HeaderMap::new(),
        &Bytes::from("é".repeat(4000)),
    );
    assert!(
        long.message.len() <= 1024 + '…'.len_utf8(),
        "{}",
        long.message.len()
    );
}

#[test]
fn errors_are_said_in_the_formats_words() {
    #[track_caller]
    fn check(error: &ApiError, wanted: &Value) {
        assert_eq!(&value(&OpenAi.encode_error(error)), wanted);
        let event = OpenAi.encode_error_event(error);
        let mut frames = Vec::new();
        Sse::default()
            .push(&event, |frame, _| frames.push(value(frame.data.as_bytes())))
            .expect("a small event");
        assert_eq!(frames, std::slice::from_ref(wanted));
    }
    check(
        &ApiError::invalid("bad \"quote\"\n")
            .with_param("messages[0]")
            .with_code("c"),
        &json!({"type": "error", "error": {"message": "bad \"quote\"\n", "type": "invalid_request_error", "param": "messages[0]", "code": "c"}}),
    );
    let mut error = ApiError::upstream(StatusCode::SERVICE_UNAVAILABLE, "busy");
    error.raw = Some(RawError {
        format: Some(Format::Messages),
        body: Bytes::from_static(br#"{"type":"error","error":{"type":"overloaded_error","message":"busy"}}"#),
    });
    check(
        &error,
        &json!({"type": "error", "error": {"message": "busy", "type": "server_error", "param": null, "code": "503", "native_type": "overloaded_error"}}),
    );
    error.raw = Some(RawError {
        format: Some(Format::OpenAi),
        body: Bytes::from_static(b"{\n  \"error\": {\"message\": \"pretty\"}\r\n}\n"),
    });
    check(&error, &json!({"error": {"message": "pretty"}}));
    for (kind, word) in [
        (ErrorKind::Authentication, "authentication_error"),
        (ErrorKind::Permission, "permission_error"),
        (ErrorKind::NotFound, "not_found_error"),
        (ErrorKind::RateLimit, "rate_limit_error"),
        (ErrorKind::Timeout, "server_error"),
        (ErrorKind::Overloaded, "server_error"),
    ] {
        let document = value(&OpenAi.encode_error(&ApiError::new(kind, "m")));
        assert_eq!(document.pointer("/error/type"), Some(&json!(word)));
    }
}

#[test]
fn the_provider_finish_word_is_kept_where_it_says_more() {
    let reply = json!({"id": "i", "model": "m", "choices": [
        {"message": {"content": "a"}, "finish_reason": "recitation"},
        {"message": {"content": "b"}, "finish_reason": "stop", "stop_reason": "END"}]});
    let request = json!({"model": "m", "messages": [{"role": "user", "content": "x"}]});
    let response = decode(request.to_string().as_bytes(), reply.to_string().as_bytes());
    let reasons: Vec<FinishReason> = response
        .choices
        .iter()
        .map(|choice| choice.finish.reason)
        .collect();
    assert_eq!(reasons, [FinishReason::Stop, FinishReason::StopSequence]);
    let document = value(&OpenAi.encode_response(&response, &mut Losses::default()));
    assert_eq!(document["choices"][0]["finish_reason"], "stop");
    assert_eq!(document["choices"][0]["native_finish_reason"], "recitation");
    assert_eq!(document["choices"][1]["stop_reason"], "END");
    assert_eq!(document.get("usage"), None);
}

#[test]
fn relays_speak_the_servers_words() {
    #[track_caller]
    fn check(provider: &'static dyn provider::Provider, version: Option<&str>, document: &str, wanted: &str) {
        let shallow = Shallow::parse(Bytes::copy_from_slice(document.as_bytes())).expect("an object");
        let site = Site {
            version: version.map(str::to_owned),
            ..Site::default()
        };
        let edits = OpenAi.relay_edits(&shallow, true, &target(provider, &site, "m"));
        assert_eq!(shallow.with(&edits), wanted);
    }
    let usage = r#""stream_options":{"include_usage":true}"#;
    let document = format!(r#"{{"seed":7,"max_completion_tokens": 9,{usage}}}"#);
    check(&provider::OpenAi, None, &document, &document);
    check(&provider::COMPATIBLE, None, &document, &document);
    check(
        &provider::MISTRAL,
        None,
        &document,
        r#"{"max_tokens":9,"random_seed":7}"#,
    );
    check(
        &provider::OLLAMA,
        None,
        &document,
        &format!(r#"{{"max_tokens":9,"seed":7,{usage}}}"#),
    );
    check(
        &provider::MISTRAL,
        None,
        r#"{"max_tokens":1}"#,
        r#"{"max_tokens":1}"#,
    );
    check(
        &provider::DEEPSEEK,
        None,
        r#"{"max_tokens":1,"max_completion_tokens":2,"stream_options":{"include_usage":true}}"#,
        r#"{"max_tokens":1,"stream_options":{"include_usage":true}}"#,
    );
    check(
        &provider::Azure,
        Some("2024-02-15-preview"),
        &document,
        r#"{"max_tokens":9,"seed":7}"#,
    );
    check(&provider::Azure, Some("2025-01-01-preview"), &document, &document);
}
