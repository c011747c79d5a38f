//! What the client half reads, and what it refuses.

use serde_json::{Value, json};

use crate::{
    ErrorKind, Losses, Severity,
    chat::{
        CacheTtl, Client, Delta, EncodeStream, Event, Finish, FinishReason, Head, Part, PartBody, PartHead,
        Request, Role, Seal, StreamOptions, ToolChoice, ToolKind, openai::OpenAi,
    },
    format::Format,
    media::{MediaKind, Source},
};

fn decode(document: &Value) -> (Request, Losses) {
    let mut losses = Losses::default();
    let request = OpenAi
        .decode_request(document.to_string().as_bytes(), &mut losses)
        .expect("a request");
    (request, losses)
}

fn message(message: Value) -> (Request, Losses) {
    decode(&json!({"model": "m", "messages": [message]}))
}

fn user(part: Value) -> PartBody {
    let (mut request, _) = message(json!({"role": "user", "content": [part]}));
    request.turns.remove(0).parts.remove(0).body
}

#[test]
fn refusals_name_the_member_at_fault() {
    #[track_caller]
    fn check(document: &Value, param: &str) {
        let error = OpenAi
            .decode_request(document.to_string().as_bytes(), &mut Losses::default())
            .expect_err("refused");
        assert_eq!(error.kind, ErrorKind::InvalidRequest);
        assert_eq!(error.param.as_deref(), Some(param), "{error}");
    }
    let with = |member: &str, value: Value| {
        let mut document = json!({"model": "m", "messages": [{"role": "user", "content": "x"}]});
        document[member] = value;
        document
    };
    let messages = |message: Value| with("messages", json!([message]));
    let part = |part: Value| messages(json!({"role": "user", "content": [part]}));
    check(&json!({"model": "m"}), "messages");
    check(&json!({"model": "m", "messages": null}), "messages");
    check(&with("messages", json!([])), "messages");
    check(&with("temperature", json!("hot")), "temperature");
    check(&with("max_tokens", json!(1.5)), "max_tokens");
    check(&with("stop", json!(5)), "stop");
    check(&with("n", json!(0)), "n");
    check(&with("tool_choice", json!("function")), "tool_choice");
    check(
        &with("tool_choice", json!({"type": "function", "function": {}})),
        "tool_choice.function.name",
    );
    check(&with("tools", json!([{"type": "function"}])), "tools[0].function");
    check(
        &with(
            "tools",
            json!([{"type": "function", "function": {"name": "f", "parameters": []}}]),
        ),
        "tools[0].function.parameters",
    );
    check(
        &with("response_format", json!({"type": "xml"})),
        "response_format.type",
    );
    check(
        &with(
            "response_format",
            json!({"type": "json_schema", "json_schema": {"name": "n"}}),
        ),
        "response_format.json_schema.schema",
    );
    check(&with("thinking", json!({"type": "maybe"})), "thinking.type");
    check(&messages(json!({"content": "x"})), "messages[0].role");
    check(
        &messages(json!({"role": "function", "content": "x"})),
        "messages[0].role",
    );
    check(
        &messages(json!({"role": "user", "content": null})),
        "messages[0].content",
    );
    check(
        &messages(json!({"role": "user", "content": {"type": "text", "text": "x"}})),
        "messages[0].content",
    );
    check(
        &messages(json!({"role": "tool", "content": "x"})),
        "messages[0].tool_call_id",
    );
    check(
        &messages(json!({"role": "assistant", "tool_calls": [{"id": "", "function": {}}]})),
        "messages[0].tool_calls[0].id",
    );
    check(
        &messages(
            json!({"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{"}}]}),
        ),
        "messages[0].tool_calls[0].function.arguments",
    );
    check(&part(json!({"text": "x"})), "messages[0].content[0].type");
    check(
        &part(json!({"type": "image_url", "image_url": "u"})),
        "messages[0].content[0].image_url",
    );
    check(
        &part(json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,?"}})),
        "messages[0].content[0].image_url.url",
    );
    check(
        &part(json!({"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "1d"}})),
        "messages[0].content[0].cache_control.ttl",
    );
}

#[test]
fn leading_instructions_are_apart_from_later_ones() {
    let (request, losses) = decode(&json!({"model": "m", "messages": [
        {"role": "system", "content": "a"},
        {"role": "developer", "content": [{"type": "text", "text": "b"}, {"type": "text", "text": "c"}]},
        {"role": "user", "content": "d"},
        {"role": "developer", "content": "e"},
        {"role": "tool", "tool_call_id": "t1", "content": "f"},
        {"role": "tool", "tool_call_id": "t2", "content": "g"}]}));
    assert_eq!(request.instructions.len(), 3);
    let turns: Vec<(Role, usize)> = request
        .turns
        .iter()
        .map(|turn| (turn.role, turn.origin))
        .collect();
    assert_eq!(
        turns,
        [
            (Role::User, 2),
            (Role::System, 3),
            (Role::User, 4),
            (Role::User, 5)
        ]
    );
    assert!(losses.is_empty());
}

#[test]
fn media_is_told_by_its_bytes() {
    #[track_caller]
    fn check(part: Value, kind: MediaKind, source: &Source) {
        match user(part) {
            PartBody::Media(media) => assert_eq!((media.kind, &media.source), (kind, source)),
            other => panic!("{other:?}"),
        }
    }
    let inline = |media_type: &str| Source::Inline {
        media_type: media_type.to_owned(),
        data: "YWJj".to_owned(),
    };
    let image = |url: &str| json!({"type": "image_url", "image_url": {"url": url}});
    let url = |url: &str| Source::Url(url.to_owned());
    check(
        image("data:image/gif;base64,YWJj"),
        MediaKind::Image,
        &inline("image/gif"),
    );
    check(
        image("data:application/pdf;base64,YWJj"),
        MediaKind::Document,
        &inline("application/pdf"),
    );
    check(
        image("https://h/a.PDF"),
        MediaKind::Document,
        &url("https://h/a.PDF"),
    );
    check(image("https://h/a"), MediaKind::Image, &url("https://h/a"));
    let file =
        |name: &str, data: &str| json!({"type": "file", "file": {"filename": name, "file_data": data}});
    check(
        file("a.pdf", "YWJj"),
        MediaKind::Document,
        &inline("application/pdf"),
    );
    check(
        file("a.txt", "data:text/plain;base64,YWJj"),
        MediaKind::Document,
        &Source::Text("abc".to_owned()),
    );
    let audio = json!({"type": "input_audio", "input_audio": {"data": "YWJj", "format": "mp3"}});
    check(audio, MediaKind::Audio, &inline("audio/mpeg"));
    let video = json!({"type": "video_url", "video_url": {"url": "https://h/v"}});
    check(video, MediaKind::Video, &url("https://h/v"));
}

#[test]
fn what_only_this_format_has_is_kept_for_it() {
    assert!(matches!(
        user(json!({"type": "hologram", "hologram": {}})),
        PartBody::Native { format: Format::OpenAi, kind, .. } if kind == "hologram"
    ));
    let (request, _) = decode(
        &json!({"model": "m", "messages": [{"role": "assistant", "audio": {"id": "a"}, "x": 1}],
        "modalities": ["text", "audio"], "audio": {}, "functions": [], "web_search_options": {}, "metadata": {},
        "novelty": 1, "tool_choice": {"type": "allowed_tools", "allowed_tools": {}}}),
    );
    let severities = |extensions: &crate::chat::Extensions| {
        let mut all: Vec<(String, Severity)> = extensions
            .0
            .iter()
            .map(|extension| (extension.key.clone(), extension.severity))
            .collect();
        all.sort();
        all
    };
    let own = |all: &[(&str, Severity)]| -> Vec<(String, Severity)> {
        all.iter()
            .map(|(key, severity)| ((*key).to_owned(), *severity))
            .collect()
    };
    use Severity::{Advisory, Material};
    assert_eq!(
        severities(&request.extensions),
        own(&[
            ("audio", Material),
            ("functions", Material),
            ("metadata", Advisory),
            ("modalities", Material),
            ("novelty", Advisory),
            ("tool_choice", Material),
            ("web_search_options", Material),
        ])
    );
    assert_eq!(
        severities(&request.turns[0].extensions),
        own(&[("audio", Material), ("x", Advisory)])
    );
    let (_, losses) = user_losses();
    assert_eq!(losses.iter().count(), 1, "{losses:?}");
}

/// An unknown member that lies deeper than an extension reaches.
fn user_losses() -> (Request, Losses) {
    message(json!({"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "https://h/a", "format": "image/png"}}]}))
}

#[test]
fn settings_are_read() {
    let (request, _) = decode(
        &json!({"model": "m", "messages": [{"role": "user", "content": "x"}],
        "max_tokens": 1, "max_completion_tokens": 2, "stop": "a", "logprobs": true, "top_logprobs": 3, "top_k": -1,
        "tool_choice": "any", "safety_identifier": "u", "stream": true, "stream_options": {"include_usage": true},
        "reasoning_effort": "high", "thinking": {"type": "adaptive", "includeThoughts": true}}),
    );
    assert_eq!(request.max_output, Some(2));
    assert_eq!(request.sampling.stop, ["a"]);
    assert_eq!(
        (request.sampling.logprobs, request.sampling.top_k),
        (Some(3), None)
    );
    assert_eq!(request.tool_choice, Some(ToolChoice::Required));
    assert_eq!(request.user.as_deref(), Some("u"));
    assert_eq!(
        request.stream,
        Some(StreamOptions {
            include_usage: true,
            ..StreamOptions::default()
        })
    );
    let reasoning = request.reasoning.expect("reasoning");
    assert_eq!(
        (reasoning.effort.as_deref(), reasoning.display.as_deref()),
        (Some("high"), Some("summarized"))
    );
}

#[test]
fn marks_are_found_wherever_clients_put_them() {
    let mark = json!({"type": "ephemeral", "ttl": "1h"});
    let (request, _) = decode(&json!({"model": "m", "messages": [
        {"role": "system", "content": "a", "cache_control": mark},
        {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": ""}, "cache_control": mark}]},
        {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "x"}], "cache_control": mark}],
        "tools": [{"type": "function", "function": {"name": "f", "cache_control": mark}}]}));
    let parts = request.turns.iter().flat_map(|turn| &turn.parts);
    for part in request.instructions.iter().chain(parts) {
        assert_eq!(
            part.cache.and_then(|mark| mark.ttl),
            Some(CacheTtl::OneHour),
            "{part:?}"
        );
    }
    assert_eq!(
        request.tools[0].cache.and_then(|mark| mark.ttl),
        Some(CacheTtl::OneHour)
    );
}

#[test]
fn reasoning_comes_back_in_any_shape() {
    #[track_caller]
    fn check(message: Value, text: &str, seal: Option<(Format, &str)>, redacted: bool) {
        let (request, _) = self::message(message);
        let parts = &request.turns[0].parts;
        let PartBody::Reasoning(reasoned) = &parts[0].body else {
            panic!("{parts:?}");
        };
        assert_eq!((reasoned.text.as_str(), reasoned.redacted), (text, redacted));
        let wanted = seal.map(|(issuer, bytes)| Seal {
            issuer,
            bytes: bytes.into(),
        });
        assert_eq!(reasoned.seal, wanted);
        assert!(parts.len() == 1, "{parts:?}");
    }
    let said = |key: &str, value: Value| {
        let mut message = json!({"role": "assistant"});
        message[key] = value;
        message
    };
    let sealed = Some((Format::Messages, "sig"));
    check(said("reasoning_content", json!("t")), "t", None, false);
    check(
        said(
            "reasoning_content",
            json!({"reasoningContent": {"reasoningText": {"text": "t", "signature": "sig"}}}),
        ),
        "t",
        sealed,
        false,
    );
    check(
        said("reasoning_content", json!({"text": "t", "signature": "sig"})),
        "t",
        sealed,
        false,
    );
    let block = json!({"type": "thinking", "thinking": "t", "signature": "sig"});
    check(said("thinking_blocks", json!([block])), "t", sealed, false);
    check(
        json!({"role": "assistant", "thinking_blocks": [block], "reasoning_content": "t"}),
        "t",
        sealed,
        false,
    );
    check(
        said(
            "content",
            json!({"type": "thinking", "text": "t", "signature": "sig"}),
        ),
        "t",
        sealed,
        false,
    );
    check(
        said(
            "content",
            json!([{"type": "redacted_thinking", "redactedContent": "c2ln"}]),
        ),
        "",
        Some((Format::Messages, "c2ln")),
        true,
    );
    check(
        said(
            "thinking_blocks",
            json!([{"type": "thinking", "thinking": "t", "signature": "openai:sig"}]),
        ),
        "t",
        Some((Format::OpenAi, "sig")),
        false,
    );
}

fn write(include_usage: bool, events: &[Event]) -> Vec<Value> {
    let (mut out, mut losses) = (bytes::BytesMut::new(), Losses::default());
    let mut writer: Box<dyn EncodeStream> = OpenAi.encode_stream(StreamOptions {
        include_usage,
        ..StreamOptions::default()
    });
    for event in events {
        writer.event(event, &mut out, &mut losses);
    }
    writer.end(&mut out, &mut losses);
    let text = std::str::from_utf8(&out).expect("UTF-8");
    let text = text
        .strip_suffix("data: [DONE]\n\n")
        .expect("the end mark and a blank line");
    text.split_terminator("\n\n")
        .map(|frame| serde_json::from_str(frame.strip_prefix("data: ").expect("data")).expect("JSON"))
        .collect()
}

#[test]
fn streams_have_the_shapes_that_clients_know() {
    let call = |index, id: &str| Event::Open {
        index,
        choice: 0,
        part: PartHead::ToolCall {
            id: id.to_owned(),
            name: "f".to_owned(),
            kind: ToolKind::Function,
        },
    };
    let argue = |index| Event::Delta {
        index,
        delta: Delta::Arguments("{}".to_owned()),
    };
    let usage = crate::Usage {
        input: Some(3),
        output: Some(2),
        ..crate::Usage::default()
    };
    let events = [
        Event::Start(Head {
            id: "i".to_owned(),
            model: "m".to_owned(),
            created: Some(5),
            ..Head::default()
        }),
        Event::Open {
            index: 0,
            choice: 0,
            part: PartHead::Reasoning { redacted: false },
        },
        Event::Delta {
            index: 0,
            delta: Delta::Text("t".to_owned()),
        },
        Event::Delta {
            index: 0,
            delta: Delta::Seal(Seal {
                issuer: Format::Messages,
                bytes: "s".into(),
            }),
        },
        Event::Close { index: 0 },
        call(1, "a"),
        call(2, "b"),
        argue(2),
        argue(1),
        Event::Close { index: 1 },
        Event::Close { index: 2 },
        Event::Usage(usage),
        Event::Finish {
            choice: 0,
            reason: Finish {
                reason: FinishReason::ContextWindow,
                raw: Some("model_context_window_exceeded".to_owned()),
                stop_sequence: None,
                ..Finish::default()
            },
        },
    ];
    let chunks = write(true, &events);
    let deltas: Vec<&Value> = chunks
        .iter()
        .filter_map(|chunk| chunk.pointer("/choices/0/delta"))
        .collect();
    assert_eq!(
        deltas,
        [
            &json!({"role": "assistant", "reasoning_content": "t"}),
            &json!({"thinking_blocks": [{"type": "thinking", "thinking": "", "signature": "s"}]}),
            &json!({"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}]}),
            &json!({"tool_calls": [{"index": 1, "id": "b", "type": "function", "function": {"name": "f", "arguments": ""}}]}),
            &json!({"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]}),
            &json!({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}),
            &json!({}),
        ]
    );
    let last = &chunks[chunks.len() - 2];
    assert_eq!(last["choices"][0]["finish_reason"], "length");
    assert_eq!(
        last["choices"][0]["native_finish_reason"],
        "model_context_window_exceeded"
    );
    assert_eq!(last["usage"], Value::Null);
    assert_eq!(chunks[chunks.len() - 1]["choices"], json!([]));
    assert_eq!(chunks[chunks.len() - 1]["usage"]["total_tokens"], 5);
    for chunk in &chunks {
        assert_eq!((&chunk["id"], &chunk["created"]), (&json!("i"), &json!(5)));
        assert_eq!(chunk["object"], "chat.completion.chunk");
    }
    let silent = write(false, &events);
    assert_eq!(silent.len(), chunks.len() - 1);
    assert!(silent.iter().all(|chunk| chunk.get("usage").is_none()));
}

#[test]
fn answers_join_their_texts() {
    let response = crate::chat::Response {
        choices: vec![crate::chat::Choice {
            parts: vec![Part::text("a"), Part::text("b")],
            finish: Finish::default(),
        }],
        ..crate::chat::Response::default()
    };
    let body = OpenAi.encode_response(&response, &mut Losses::default());
    let document: Value = serde_json::from_slice(&body).expect("JSON");
    let message = &document["choices"][0]["message"];
    assert_eq!(
        message,
        &json!({"role": "assistant", "content": "ab", "refusal": null})
    );
    assert_eq!(document["choices"][0]["logprobs"], Value::Null);
}
