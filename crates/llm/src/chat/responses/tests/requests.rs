//! Requests, member by member.

use serde_json::{Value, json};

use super::{encode, request, try_request, words};
use crate::{
    Losses,
    chat::{
        CacheMark, Client, Output, Part, PartBody, Reasoned, ReasoningMode, Role, Seal, ToolChoice, ToolKind,
        responses::Responses,
    },
    format::Format,
    media::{MediaKind, Source},
};

#[test]
fn says_what_is_wrong_and_where() {
    #[track_caller]
    fn check(members: Value, param: &str) {
        let error = try_request(members).unwrap_err();
        assert_eq!(error.param.as_deref(), Some(param), "{error}");
        assert_eq!(error.status, 400);
    }
    let item = |item: Value| json!({"input": [item]});
    let part = |part: Value| json!({"input": [{"role": "user", "content": [part]}]});
    check(json!({"input": 5}), "input");
    check(json!({"input": null, "instructions": "x"}), "input");
    check(item(json!("text")), "input[0]");
    check(item(json!({"role": "user"})), "input[0].content");
    check(item(json!({"role": "robot", "content": "x"})), "input[0].role");
    check(item(json!({"role": "user", "content": 1})), "input[0].content");
    check(
        item(json!({"type": "function_call", "name": "f", "arguments": ""})),
        "input[0].call_id",
    );
    check(
        item(json!({"type": "function_call", "call_id": "", "name": "f", "arguments": ""})),
        "input[0].call_id",
    );
    check(
        item(json!({"type": "function_call", "call_id": "c", "name": "f"})),
        "input[0].arguments",
    );
    check(
        item(json!({"type": "function_call_output", "call_id": "c"})),
        "input[0].output",
    );
    check(
        item(json!({"type": "reasoning", "summary": [{}]})),
        "input[0].summary[0].text",
    );
    check(part(json!({"type": "input_text"})), "input[0].content[0].text");
    check(
        part(json!({"type": "input_image"})),
        "input[0].content[0].image_url",
    );
    check(
        part(json!({"type": "input_image", "image_url": ""})),
        "input[0].content[0].image_url",
    );
    check(
        part(json!({"type": "input_image", "image_url": "data:image/png;base64,?"})),
        "input[0].content[0].image_url",
    );
    check(
        part(json!({"type": "input_file"})),
        "input[0].content[0].file_data",
    );
    check(
        part(json!({"type": "input_audio"})),
        "input[0].content[0].input_audio",
    );
    check(json!({"tools": [{"type": "function"}]}), "tools[0].name");
    check(
        json!({"tools": [{"type": "function", "name": ""}]}),
        "tools[0].name",
    );
    check(
        json!({"tools": [{"type": "function", "name": "f", "parameters": []}]}),
        "tools[0].parameters",
    );
    check(json!({"tool_choice": "sometimes"}), "tool_choice");
    check(json!({"tool_choice": {"type": "function"}}), "tool_choice.name");
    check(
        json!({"text": {"format": {"type": "json_schema", "name": "n"}}}),
        "text.format.schema",
    );
    check(
        json!({"text": {"format": {"type": "json_schema", "schema": {}}}}),
        "text.format.name",
    );
    check(json!({"reasoning": {"effort": 3}}), "reasoning.effort");
    check(json!({"include": "all"}), "include");
    check(json!({"stream": "yes"}), "stream");
    check(json!({"temperature": "hot"}), "temperature");
}

#[test]
fn gathers_items_into_turns() {
    let request = request(json!({"instructions": "A", "input": [
        {"role": "system", "content": "B"},
        {"role": "developer", "content": [{"type": "input_text", "text": "C"}]},
        {"role": "user", "content": "1"},
        {"role": "user", "content": "2"},
        {"type": "reasoning", "summary": [], "encrypted_content": "x"},
        {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
        {"type": "custom_tool_call", "call_id": "b", "name": "g", "input": "text"},
        {"type": "function_call_output", "call_id": "a", "output": "1"},
        {"type": "custom_tool_call_output", "call_id": "b", "output": "2"},
        {"role": "user", "content": "3"},
        {"role": "developer", "content": "D"},
        {"type": "web_search_call", "id": "ws"},
        {"role": "assistant", "content": "4"},
    ]}));
    assert_eq!(request.instructions.len(), 3);
    let turns: Vec<(Role, usize, usize)> = request
        .turns
        .iter()
        .map(|turn| (turn.role, turn.origin, turn.parts.len()))
        .collect();
    assert_eq!(
        turns,
        [
            (Role::User, 2, 1),
            (Role::User, 3, 1),
            (Role::Assistant, 4, 3),
            (Role::User, 7, 2),
            (Role::User, 9, 1),
            (Role::System, 10, 1),
            (Role::Assistant, 11, 2),
        ]
    );
    let PartBody::ToolCall(call) = &request.turns[2].parts[2].body else {
        panic!("a call");
    };
    assert_eq!((call.kind, call.arguments.as_str()), (ToolKind::Custom, "text"));
}

#[test]
fn reads_members() {
    let request = request(json!({
        "tools": [{"type": "function", "name": "f", "parameters": null, "defer_loading": true}],
        "tool_choice": {"type": "custom", "name": "g"},
        "text": {"format": {"type": "json_object"}, "verbosity": "low"},
        "reasoning": {"effort": "none", "generate_summary": "auto"},
        "safety_identifier": "who",
        "top_logprobs": 3,
        "include": ["message.output_text.logprobs", "file_search_call.results"],
        "max_output_tokens": 5,
        "stream": true,
    }));
    assert_eq!(request.tool_choice, Some(ToolChoice::Tool("g".into())));
    assert!(matches!(request.output, Output::JsonObject));
    let reasoning = request.reasoning.unwrap();
    assert_eq!(reasoning.effort.as_deref(), Some("none"));
    assert_eq!(reasoning.display.as_deref(), Some("summarized"));
    assert_eq!(request.user.as_deref(), Some("who"));
    assert_eq!(request.sampling.logprobs, Some(3));
    assert_eq!(request.max_output, Some(5));
    assert!(request.stream.is_some());
    let keys: Vec<&str> = request
        .extensions
        .0
        .iter()
        .map(|extension| extension.key.as_str())
        .collect();
    assert_eq!(keys, ["text.verbosity", "include"]);
    assert_eq!(request.tools[0].extensions.0[0].key, "defer_loading");
}

#[test]
fn reads_media() {
    #[track_caller]
    fn check(part: Value, kind: MediaKind, source: Source) {
        let request = request(json!({"input": [{"role": "user", "content": [part]}]}));
        let PartBody::Media(media) = &request.turns[0].parts[0].body else {
            panic!("media");
        };
        assert_eq!((media.kind, &media.source), (kind, &source));
    }
    let file = |id: &str| Source::File {
        issuer: Format::OpenAi,
        id: id.to_owned(),
    };
    let inline = |media_type: &str| Source::inline(media_type, "AAAA").unwrap();
    check(
        json!({"type": "input_image", "file_id": "f"}),
        MediaKind::Image,
        file("f"),
    );
    check(
        json!({"type": "input_image", "image_url": "data:application/pdf;base64,AAAA"}),
        MediaKind::Document,
        inline("application/pdf"),
    );
    check(
        json!({"type": "input_file", "filename": "a.pdf", "file_data": "AAAA"}),
        MediaKind::Document,
        inline("application/pdf"),
    );
    check(
        json!({"type": "input_file", "filename": "a.txt", "file_data": "data:text/plain;base64,aGk="}),
        MediaKind::Document,
        Source::Text("hi".to_owned()),
    );
    check(
        json!({"type": "input_file", "file_url": "https://x.example/a"}),
        MediaKind::Document,
        Source::Url("https://x.example/a".to_owned()),
    );
    check(
        json!({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}}),
        MediaKind::Audio,
        inline("audio/mpeg"),
    );
}

#[test]
fn seals_find_their_way_back() {
    #[track_caller]
    fn check(item: Value, seal: Option<(Format, &str)>, redacted: bool) {
        let mut item = item;
        item["type"] = json!("reasoning");
        let request = request(json!({"input": [item]}));
        let PartBody::Reasoning(reasoned) = &request.turns[0].parts[0].body else {
            panic!("reasoning");
        };
        let read = reasoned.seal.as_ref().map(|seal| (seal.issuer, &*seal.bytes));
        assert_eq!((read, reasoned.redacted), (seal, redacted));
    }
    let own = Some((Format::Responses, "rs_1:enc"));
    check(
        json!({"id": "rs_1", "summary": [], "encrypted_content": "enc"}),
        own,
        true,
    );
    check(
        json!({"id": "rs_1", "summary": [{"type": "summary_text", "text": "a"}], "encrypted_content": "enc"}),
        own,
        false,
    );
    check(
        json!({"summary": [], "encrypted_content": "enc"}),
        Some((Format::Responses, "enc")),
        true,
    );
    check(
        json!({"id": "rs_9", "summary": [], "encrypted_content": "messages:a:b"}),
        Some((Format::Messages, "a:b")),
        false,
    );
    check(
        json!({"id": "rs_9", "summary": [], "encrypted_content": "redacted:messages:ab"}),
        Some((Format::Messages, "ab")),
        true,
    );
    check(
        json!({"id": "rs_9", "summary": [], "encrypted_content": "responses:rs_1:enc"}),
        own,
        false,
    );
    check(
        json!({"id": "rs_9", "summary": [], "encrypted_content": ""}),
        None,
        false,
    );
    check(
        json!({"id": "rs_9", "summary": [], "encrypted_content": null}),
        None,
        false,
    );
}

#[test]
fn what_the_format_cannot_say_is_a_loss() {
    #[track_caller]
    fn check(change: impl FnOnce(&mut crate::chat::Request), expected: &[&str]) {
        let mut request = request(json!({}));
        change(&mut request);
        let (_, losses, _) = encode(&request, "gpt-5");
        assert_eq!(losses, expected);
    }
    check(|request| request.sampling.top_k = Some(4), &["top_k"]);
    check(|request| request.sampling.seed = Some(4), &["seed"]);
    check(
        |request| request.sampling.frequency_penalty = Some(1.0),
        &["frequency_penalty"],
    );
    check(|request| request.sampling.presence_penalty = Some(0.0), &[]);
    check(|request| request.sampling.stop = vec!["x".into()], &["stop"]);
    check(|request| request.sampling.choices = Some(2), &["!n"]);
    check(
        |request| request.turns[0].name = Some("Ada".into()),
        &["input[0]"],
    );
    check(
        |request| request.turns[0].parts[0].cache = Some(CacheMark { ttl: None }),
        &["prompt_cache_breakpoint"],
    );
    check(
        |request| {
            request.turns[0].parts.push(Part::new(PartBody::Native {
                format: Format::Messages,
                kind: "search_result".into(),
                raw: crate::json::raw(&json!({})),
            }));
        },
        &["!input[0]"],
    );
    check(
        |request| {
            request.reasoning.get_or_insert_default().mode = Some(ReasoningMode::Disabled);
        },
        &["reasoning"],
    );
    check(
        |request| {
            let seal = Seal {
                issuer: Format::Messages,
                bytes: "s".into(),
            };
            request.turns[0].role = Role::Assistant;
            request.turns[0]
                .parts
                .push(Part::new(PartBody::Reasoning(Reasoned {
                    seal: Some(seal),
                    ..Reasoned::default()
                })));
        },
        &["reasoning"],
    );
}

#[test]
fn a_cache_breakpoint_is_a_mark() {
    let mark = json!({"type": "input_text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit"}});
    let marked = request(json!({"input": [{"role": "user", "content": [mark]}]}));
    assert_eq!(marked.turns[0].parts[0].cache, Some(CacheMark { ttl: None }));
    let mut losses = Losses::default();
    let lasting = json!({"model": "m", "input": [{"role": "user", "content": [
        {"type": "input_text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit", "ttl": "12h"}}]}]});
    Responses
        .decode_request(lasting.to_string().as_bytes(), &mut losses)
        .unwrap();
    assert_eq!(words(&losses), ["prompt_cache_breakpoint"]);
}

#[test]
fn ids_that_are_too_long_still_join_calls_and_results() {
    let id = "x".repeat(65);
    let request = request(json!({"input": [
        {"type": "function_call", "call_id": id, "name": "f", "arguments": ""},
        {"type": "function_call_output", "call_id": id, "output": ""},
    ]}));
    let (document, _, _) = encode(&request, "gpt-5");
    let short = document["input"][0]["call_id"].as_str().unwrap();
    assert!(short.len() <= 64 && document["input"][1]["call_id"] == short);
    assert_eq!(document["input"][0]["arguments"], "{}");
}
