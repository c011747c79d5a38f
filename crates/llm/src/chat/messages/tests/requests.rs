//! Requests, decoded and encoded.

use serde_json::{Value, json};

use super::{encode, request, target};
use crate::{
    Format, Losses,
    chat::{
        Client, Extension, Extensions, Output, Part, PartBody, Reasoned, Reasoning, ReasoningMode, Role,
        Seal, Tool, ToolBody, ToolCall, ToolChoice, ToolKind, ToolResult, Turn, Upstream, messages::Messages,
    },
    json,
    media::{Media, MediaKind, Source},
};

const SONNET_4: &str = "claude-sonnet-4-20250514";
const SONNET_4_5: &str = "claude-sonnet-4-5";
const OPUS_4_6: &str = "claude-opus-4-6";
const OPUS_4_7: &str = "claude-opus-4-7";
const HAIKU_3: &str = "claude-3-haiku-20240307";

#[test]
fn refuses_what_breaks_the_format() {
    #[track_caller]
    fn check(document: Value, param: &str) {
        let mut whole =
            json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]});
        for (key, value) in document.as_object().unwrap() {
            whole[key] = value.clone();
        }
        let error = Messages
            .decode_request(whole.to_string().as_bytes(), &mut Losses::default())
            .unwrap_err();
        assert_eq!(error.status, 400);
        assert_eq!(error.param.as_deref(), Some(param), "{}", error.message);
    }
    let block = |block: Value| json!({"messages": [{"role": "user", "content": [block]}]});
    let image = |source: Value| block(json!({"type": "image", "source": source}));

    check(json!({"max_tokens": null}), "max_tokens");
    check(json!({"max_tokens": 0}), "max_tokens");
    check(json!({"max_tokens": 1.5}), "max_tokens");
    check(json!({"max_tokens": "9"}), "max_tokens");
    check(json!({"messages": []}), "messages");
    check(
        json!({"messages": [{"role": "tool", "content": "x"}]}),
        "messages[0].role",
    );
    check(json!({"messages": [{"role": "user"}]}), "messages[0].content");
    check(
        json!({"messages": [{"role": "user", "content": 5}]}),
        "messages[0].content",
    );
    check(block(json!({"text": "x"})), "messages[0].content[0].type");
    check(block(json!({"type": "text"})), "messages[0].content[0].text");
    check(
        block(json!({"type": "tool_use", "id": "a", "name": "b", "input": {}})),
        "messages[0].content[0]",
    );
    check(
        json!({"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "b", "input": "{}"}]}]}),
        "messages[0].content[0].input",
    );
    check(
        block(json!({"type": "tool_result"})),
        "messages[0].content[0].tool_use_id",
    );
    check(
        image(json!({"type": "base64", "media_type": "image/png", "data": "not base64!"})),
        "messages[0].content[0].source.data",
    );
    check(image(json!({"type": "url"})), "messages[0].content[0].source.url");
    check(block(json!({"type": "image"})), "messages[0].content[0].source");
    check(
        block(json!({"type": "text", "text": "x", "cache_control": {"ttl": "5m"}})),
        "messages[0].content[0].cache_control.type",
    );
    check(
        block(json!({"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "2h"}})),
        "messages[0].content[0].cache_control.ttl",
    );
    check(json!({"system": [{"type": "image"}]}), "system[0]");
    check(
        json!({"tools": [{"name": "f", "input_schema": []}]}),
        "tools[0].input_schema",
    );
    check(json!({"tools": [{"input_schema": {}}]}), "tools[0].name");
    check(json!({"tool_choice": {"name": "f"}}), "tool_choice.type");
    check(json!({"tool_choice": {"type": "required"}}), "tool_choice.type");
    check(json!({"thinking": {"budget_tokens": 5}}), "thinking.type");
    check(json!({"thinking": {"type": "enabled"}}), "thinking.budget_tokens");
    check(json!({"temperature": "hot"}), "temperature");
    check(json!({"stop_sequences": "END"}), "stop_sequences");
    check(
        json!({"output_config": {"format": {"type": "json_schema", "schema": 1}}}),
        "output_config.format.schema",
    );
}

#[test]
fn understands_what_other_formats_can_say() {
    let request = request(json!({
        "max_tokens": 1024.0,
        "system": [{"type": "text", "text": "a"}, {"type": "text", "text": "b", "cache_control": {"type": "persistent"}}],
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": [
                {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
                {"type": "document", "source": {"type": "content", "content": "x"}},
            ]},
        ],
        "tools": [{"name": "f", "strict": true, "defer_loading": true}, {"type": "bash_20250124", "name": "bash"}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": true},
        "output_format": {"type": "json_schema", "schema": {"type": "object"}},
        "output_config": {"effort": "max", "task_budget": 5},
        "metadata": {"user_id": "u", "team": "red"},
        "mcp_servers": [],
        "unheard_of": true,
    }));
    assert_eq!(request.max_output, Some(1024));
    assert_eq!(request.instructions.len(), 2);
    assert!(request.instructions.iter().all(|part| part.cache.is_none()));
    assert_eq!(request.turns[0].role, Role::System);
    assert!(matches!(
        &request.turns[1].parts[0].body,
        PartBody::Media(Media {
            source: Source::File {
                issuer: Format::Messages,
                ..
            },
            ..
        })
    ));
    assert!(matches!(&request.turns[1].parts[1].body, PartBody::Native { kind, .. } if kind == "document"));
    assert!(matches!(
        request.tools[0].body,
        ToolBody::Function {
            strict: Some(true),
            ..
        }
    ));
    assert!(matches!(&request.tools[1].body, ToolBody::Native { kind, .. } if kind == "bash_20250124"));
    assert_eq!(request.tool_choice, Some(ToolChoice::Required));
    assert_eq!(request.parallel_tool_calls, Some(false));
    assert!(matches!(request.output, Output::JsonSchema { .. }));
    assert_eq!(request.reasoning.as_ref().unwrap().effort.as_deref(), Some("max"));
    assert_eq!(request.user.as_deref(), Some("u"));

    let mut losses = Losses::default();
    let field = |key: &str| crate::Field::Extension(key.to_owned());
    request.extensions.lose(Format::OpenAi, &mut losses, field);
    assert_eq!(
        super::words(&losses),
        [
            "metadata.team",
            "output_config.task_budget",
            "!mcp_servers",
            "unheard_of"
        ]
    );
}

/// Encodes the request that `edit` makes of a plain one and compares some members of the document.
#[track_caller]
fn check(model: &str, edit: impl FnOnce(&mut crate::chat::Request), expected: Value, losses: &[&str]) {
    let mut request = request(json!({}));
    edit(&mut request);
    let (document, lost, _) = encode(&request, model);
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(document.get(key).unwrap_or(&Value::Null), value, "{key}");
    }
    assert_eq!(lost, losses);
}

#[test]
fn sends_what_the_provider_takes_of_sampling() {
    check(
        HAIKU_3,
        |request| request.max_output = None,
        json!({"model": HAIKU_3, "max_tokens": 4096, "stream": null, "system": null, "tools": null}),
        &["max_tokens"],
    );
    check(
        OPUS_4_6,
        |request| request.max_output = None,
        json!({"max_tokens": 128_000}),
        &["max_tokens"],
    );
    check(
        SONNET_4_5,
        |request| {
            request.sampling.seed = Some(1);
            request.sampling.frequency_penalty = Some(0.5);
            request.sampling.presence_penalty = Some(0.0);
            request.sampling.logprobs = Some(2);
            request.sampling.choices = Some(2);
            request.sampling.stop = vec!["END".into(), "\n".into()];
            request.service_tier = Some("flex".into());
        },
        json!({"stop_sequences": ["END"], "service_tier": null}),
        &[
            "seed",
            "frequency_penalty",
            "logprobs",
            "!n",
            "stop_sequences",
            "service_tier",
        ],
    );
    check(
        SONNET_4_5,
        |request| request.service_tier = Some("default".into()),
        json!({"service_tier": "standard_only"}),
        &[],
    );

    let mut hot = request(json!({}));
    hot.sampling.temperature = Some(1.25);
    let refused = Messages.encode_request(&hot, &target(SONNET_4_5), &mut Losses::default());
    let error = refused.err().unwrap();
    assert_eq!(error.status, 422);
    assert!(
        error
            .message
            .starts_with("temperature 1.25 is not supported by Anthropic")
    );
}

#[test]
fn thinks_as_the_model_can() {
    #[track_caller]
    fn think(model: &str, reasoning: Reasoning, expected: Value, losses: &[&str]) {
        check(
            model,
            |request| request.reasoning = Some(reasoning),
            expected,
            losses,
        );
    }
    let effort = |word: &str| Reasoning {
        effort: Some(word.to_owned()),
        ..Reasoning::default()
    };
    let mode = |mode, budget| Reasoning {
        mode: Some(mode),
        budget,
        ..Reasoning::default()
    };
    let enabled = |budget: u64| json!({"thinking": {"type": "enabled", "budget_tokens": budget}, "output_config": null});

    think(
        OPUS_4_6,
        effort("high"),
        json!({"thinking": null, "output_config": {"effort": "high"}}),
        &[],
    );
    think(
        OPUS_4_6,
        effort("minimal"),
        json!({"output_config": {"effort": "low"}}),
        &["thinking"],
    );
    think(
        OPUS_4_6,
        effort("none"),
        json!({"thinking": {"type": "disabled"}, "output_config": null}),
        &[],
    );
    think(SONNET_4_5, effort("low"), enabled(2048), &[]);
    think(SONNET_4_5, effort("high"), enabled(4095), &["thinking"]);
    think(
        HAIKU_3,
        effort("high"),
        json!({"thinking": null, "output_config": null}),
        &["thinking"],
    );
    think(
        SONNET_4_5,
        mode(ReasoningMode::Enabled, Some(2000)),
        enabled(2000),
        &[],
    );
    think(
        SONNET_4_5,
        mode(ReasoningMode::Adaptive, None),
        enabled(4095),
        &["thinking", "thinking"],
    );
    think(
        OPUS_4_6,
        mode(ReasoningMode::Adaptive, None),
        json!({"thinking": {"type": "adaptive"}}),
        &[],
    );
    think(
        OPUS_4_7,
        mode(ReasoningMode::Enabled, Some(2000)),
        json!({"thinking": {"type": "adaptive"}}),
        &["thinking"],
    );
    check(
        SONNET_4_5,
        |request| {
            request.reasoning = Some(effort("low"));
            request.sampling.temperature = Some(0.2);
            request.sampling.top_p = Some(0.98);
            request.sampling.top_k = Some(5);
        },
        json!({"temperature": null, "top_p": 0.98, "top_k": null}),
        &["temperature", "top_k"],
    );
    check(
        SONNET_4_5,
        |request| {
            request.reasoning = Some(effort("low"));
            request.tools = vec![function("f", Some(r#"{"type":"object"}"#))];
            request.tool_choice = Some(ToolChoice::Required);
        },
        json!({"thinking": null}),
        &["thinking"],
    );

    let mut odd = request(json!({}));
    odd.reasoning = Some(effort("ludicrous"));
    let refused = Messages.encode_request(&odd, &target(OPUS_4_6), &mut Losses::default());
    let error = refused.err().unwrap();
    assert_eq!(error.status, 422);
    assert!(
        error.message.contains("low, medium, high, xhigh, max"),
        "{}",
        error.message
    );
}

#[test]
fn writes_tools_and_their_choice() {
    check(
        SONNET_4_5,
        |request| request.tools = vec![function("f", None), function("g.h", Some(r#"{"b":1,"a":2}"#))],
        json!({"tools": [
            {"name": "f", "description": "", "input_schema": {"type": "object", "properties": {}}},
            {"name": "g_h_cfb19cdd", "description": "", "input_schema": {"type": "object", "b": 1, "a": 2}},
        ], "tool_choice": null}),
        &[],
    );
    check(
        SONNET_4_5,
        |request| request.turns.push(turn(1, Role::Assistant, vec![call("a", "")])),
        json!({
            "tools": [{"name": "f", "description": "", "input_schema": {"type": "object", "properties": {}}}],
            "tool_choice": {"type": "none"},
        }),
        &[],
    );
    let choose = |choice: Option<ToolChoice>, parallel: Option<bool>, expected: Value| {
        check(
            SONNET_4_5,
            |request| {
                request.tools = vec![function("f", None)];
                request.tool_choice = choice;
                request.parallel_tool_calls = parallel;
            },
            json!({"tool_choice": expected}),
            &[],
        );
    };
    choose(None, None, Value::Null);
    choose(None, Some(true), Value::Null);
    choose(
        None,
        Some(false),
        json!({"type": "auto", "disable_parallel_tool_use": true}),
    );
    choose(
        Some(ToolChoice::Auto),
        None,
        json!({"type": "auto", "disable_parallel_tool_use": false}),
    );
    choose(
        Some(ToolChoice::Required),
        Some(false),
        json!({"type": "any", "disable_parallel_tool_use": true}),
    );
    choose(Some(ToolChoice::None), Some(false), json!({"type": "none"}));
    choose(
        Some(ToolChoice::Tool("f".into())),
        None,
        json!({"type": "tool", "name": "f", "disable_parallel_tool_use": false}),
    );
    check(
        SONNET_4_5,
        |request| request.tool_choice = Some(ToolChoice::Required),
        json!({"tools": null, "tool_choice": null}),
        &[],
    );
    check(
        SONNET_4_5,
        |request| {
            request.tools = vec![Tool {
                body: ToolBody::Native {
                    format: Format::OpenAi,
                    kind: "custom".into(),
                    raw: json::raw("x"),
                },
                cache: None,
                extensions: Extensions::default(),
            }];
        },
        json!({"tools": null}),
        &["!tools[0]"],
    );
}

#[test]
fn writes_turns() {
    #[track_caller]
    fn turns(turns: Vec<Turn>, expected: Value, losses: &[&str]) {
        check(
            SONNET_4_5,
            |request| request.turns = turns,
            json!({"messages": expected}),
            losses,
        );
    }
    let text = |text: &str| json!({"type": "text", "text": text});
    turns(
        vec![
            turn(0, Role::User, vec![Part::text("a"), Part::text(" \n")]),
            turn(1, Role::Assistant, vec![Part::text("")]),
            turn(2, Role::User, vec![Part::text("b")]),
            turn(3, Role::System, vec![Part::text("c")]),
        ],
        json!([{"role": "user", "content": [text("a"), text("b"), text("<system>\nc\n</system>")]}]),
        &["messages[3]"],
    );
    turns(
        vec![
            turn(
                0,
                Role::Assistant,
                vec![call("c1", ""), call("call.2", r#"{"z": 1}"#)],
            ),
            turn(
                1,
                Role::User,
                vec![Part::text("first"), result("c1", Some(false))],
            ),
            turn(2, Role::User, vec![result("call.2", Some(true))]),
        ],
        json!([
            {"role": "assistant", "content": [
                {"type": "tool_use", "id": "c1", "name": "f", "input": {}},
                {"type": "tool_use", "id": "call_2_debc495e", "name": "f", "input": {"z": 1}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": [text("ok")]},
                {"type": "tool_result", "tool_use_id": "call_2_debc495e", "content": [text("ok")], "is_error": true},
                text("first"),
            ]},
        ]),
        &[],
    );
    let thought = |issuer| {
        Part::new(PartBody::Reasoning(Reasoned {
            text: "hm".into(),
            seal: Some(Seal {
                issuer,
                bytes: "s".into(),
            }),
            redacted: false,
        }))
    };
    turns(
        vec![turn(
            0,
            Role::Assistant,
            vec![
                thought(Format::Messages),
                thought(Format::OpenAi),
                Part::new(PartBody::Refusal("no".into())),
            ],
        )],
        json!([{"role": "assistant", "content": [
            {"type": "thinking", "thinking": "hm", "signature": "s"}, text("no"),
        ]}]),
        &["messages[0]"],
    );
}

#[test]
fn writes_media_or_refuses_them() {
    #[track_caller]
    fn media(kind: MediaKind, source: Source, expected: Option<Value>) {
        let part = Part::new(PartBody::Media(Media {
            kind,
            source,
            name: None,
            detail: None,
            context: None,
            citable: None,
        }));
        let losses: &[&str] = if expected.is_some() {
            &[]
        } else {
            &["!messages[0]"]
        };
        let mut content = vec![json!({"type": "text", "text": "see"})];
        content.extend(expected);
        check(
            SONNET_4_5,
            |request| request.turns = vec![turn(0, Role::User, vec![Part::text("see"), part])],
            json!({"messages": [{"role": "user", "content": content}]}),
            losses,
        );
    }
    let inline = |media_type: &str| Source::inline(media_type, "aGk=").unwrap();
    let block = |kind: &str, source: Value| Some(json!({"type": kind, "source": source}));
    let base64 = |media_type: &str| json!({"type": "base64", "media_type": media_type, "data": "aGk="});
    let url = |url: &str| json!({"type": "url", "url": url});

    media(
        MediaKind::Image,
        inline("image/webp"),
        block("image", base64("image/webp")),
    );
    media(
        MediaKind::Image,
        inline("image/jpg"),
        block("image", base64("image/jpeg")),
    );
    media(MediaKind::Image, inline("image/tiff"), None);
    media(
        MediaKind::Image,
        inline("application/pdf"),
        block("document", base64("application/pdf")),
    );
    let plain = json!({"type": "text", "media_type": "text/plain", "data": "hi"});
    media(
        MediaKind::Document,
        inline("text/csv"),
        block("document", plain.clone()),
    );
    media(
        MediaKind::Document,
        Source::Text("hi".into()),
        block("document", plain),
    );
    media(
        MediaKind::Image,
        Source::Url("http://x/a.PDF".into()),
        block("document", url("http://x/a.PDF")),
    );
    media(
        MediaKind::Image,
        Source::Url("http://x/a".into()),
        block("image", url("http://x/a")),
    );
    media(MediaKind::Video, Source::Url("http://x/a".into()), None);
    media(MediaKind::Audio, inline("audio/wav"), None);
    let file = |issuer| Source::File {
        issuer,
        id: "f".into(),
    };
    let own = block("document", json!({"type": "file", "file_id": "f"}));
    media(MediaKind::Document, file(Format::Messages), own);
    media(MediaKind::Document, file(Format::OpenAi), None);
}

#[test]
fn refuses_what_cannot_be_said() {
    #[track_caller]
    fn check(turns: Vec<Turn>, status: u16, param: &str) {
        let mut request = request(json!({}));
        request.turns = turns;
        let refused = Messages.encode_request(&request, &target(SONNET_4_5), &mut Losses::default());
        let error = refused.err().unwrap();
        assert_eq!(
            (error.status.as_u16(), error.param.as_deref()),
            (status, Some(param))
        );
    }
    check(vec![turn(0, Role::User, vec![Part::text(" ")])], 400, "messages");
    check(
        vec![turn(4, Role::Assistant, vec![call("a", "{")])],
        400,
        "messages[4]",
    );
    check(
        vec![turn(4, Role::Assistant, vec![call("a", "[1]")])],
        400,
        "messages[4]",
    );
    check(
        vec![turn(4, Role::Assistant, vec![call("", "{}")])],
        422,
        "messages[4]",
    );
    check(
        vec![turn(5, Role::User, vec![result("", None)])],
        422,
        "messages[5]",
    );
}

#[test]
fn keeps_the_last_four_cache_marks() {
    let mark = json!({"type": "ephemeral", "ttl": "1h"});
    let block = |n: u8| json!({"type": "text", "text": n.to_string(), "cache_control": mark});
    let request = request(json!({
        "tools": [{"name": "f", "description": "", "input_schema": {"type": "object"}, "cache_control": mark}],
        "system": [block(1), block(2)],
        "messages": [{"role": "user", "content": [block(3), block(4), block(5)]}],
    }));
    let (document, losses, _) = encode(&request, SONNET_4_5);
    assert_eq!(losses, ["cache_control"]);
    assert_eq!(document["tools"][0].get("cache_control"), None);
    assert_eq!(document["system"][0].get("cache_control"), None);
    assert_eq!(document["system"][1]["cache_control"], mark);
    assert_eq!(document.to_string().matches("ephemeral").count(), 4);
}

#[test]
fn constrains_the_answer_as_the_model_can() {
    let schema = |schema: &str| Output::JsonSchema {
        name: "person".into(),
        description: None,
        schema: serde_json::from_str(schema).unwrap(),
        strict: Some(true),
    };
    let object = r#"{"type":"object","properties":{}}"#;
    check(
        SONNET_4_5,
        |request| request.output = schema(object),
        json!({"output_config": {"format": {"type": "json_schema", "schema": {"type": "object", "properties": {}}}}, "tools": null}),
        &[],
    );
    check(
        SONNET_4,
        |request| request.output = schema(object),
        json!({
            "output_config": null,
            "tools": [{"name": "person", "description": "Gives the answer.", "input_schema": {"type": "object", "properties": {}}}],
            "tool_choice": {"type": "tool", "name": "person", "disable_parallel_tool_use": true},
        }),
        &[],
    );
    check(
        OPUS_4_6,
        |request| request.output = Output::JsonObject,
        json!({"tool_choice": {"type": "tool", "name": "json_response", "disable_parallel_tool_use": true}}),
        &[],
    );
    check(
        SONNET_4,
        |request| request.output = schema(r#"{"type":"array"}"#),
        json!({"tools": null}),
        &["!output_config.format"],
    );
    check(
        SONNET_4,
        |request| {
            request.output = schema(object);
            request.tools = vec![function("f", None)];
        },
        json!({"tool_choice": null}),
        &["!output_config.format"],
    );
}

#[test]
fn foreign_extensions_are_losses() {
    let foreign = |severity| Extension {
        format: Format::OpenAi,
        key: "audio".into(),
        value: json::raw(&1),
        severity,
    };
    check(
        SONNET_4_5,
        |request| request.extensions.0.push(foreign(crate::Severity::Material)),
        json!({"audio": null}),
        &["!audio"],
    );
}

fn turn(origin: usize, role: Role, parts: Vec<Part>) -> Turn {
    Turn {
        role,
        parts,
        origin,
        name: None,
        extensions: Extensions::default(),
    }
}

fn call(id: &str, arguments: &str) -> Part {
    Part::new(PartBody::ToolCall(ToolCall {
        id: id.to_owned(),
        name: "f".to_owned(),
        arguments: arguments.to_owned(),
        kind: ToolKind::Function,
    }))
}

fn result(call: &str, is_error: Option<bool>) -> Part {
    Part::new(PartBody::ToolResult(ToolResult {
        call: call.to_owned(),
        parts: vec![Part::text("ok")],
        is_error,
    }))
}

fn function(name: &str, parameters: Option<&str>) -> Tool {
    Tool {
        body: ToolBody::Function {
            name: name.to_owned(),
            description: None,
            parameters: parameters.map(|schema| serde_json::from_str(schema).unwrap()),
            strict: Some(false),
        },
        cache: None,
        extensions: Extensions::default(),
    }
}
