//! Requests of clients of other formats.

use serde_json::{Value, json};

use super::{CLAUDE, encode, request};
use crate::{
    Format,
    chat::{CacheMark, Part, PartBody, Reasoned, Seal},
};

use Format::{Messages, OpenAi};

/// A model that is not Claude, and one of a family with words of its own.
const QWEN: &str = "qwen.qwen3-32b-v1:0";
const NOVA: &str = "us.amazon.nova-2-lite-v1:0";

/// Checks what members of a `client`'s request become, for `model`, and what is lost.
#[track_caller]
fn check_for(model: &str, client: Format, members: Value, expected: Value, losses: &[&str]) {
    let (document, lost, _) = encode(&request(client, members.clone()), model).unwrap();
    for (key, value) in expected.as_object().unwrap() {
        let found = document.get(key).unwrap_or(&Value::Null);
        assert_eq!(found, value, "{key} of {members}");
    }
    assert_eq!(lost, losses, "{members}");
}

#[track_caller]
fn check(client: Format, members: Value, expected: Value, losses: &[&str]) {
    check_for(CLAUDE, client, members, expected, losses);
}

#[track_caller]
fn check_refused(client: Format, members: Value, status: u16, message: &str) {
    let Err(error) = encode(&request(client, members), CLAUDE) else {
        panic!("nothing was refused");
    };
    assert_eq!(error.status, status);
    assert!(error.message.contains(message), "{}", error.message);
}

#[test]
fn a_document_has_what_every_document_has() {
    let asked = request(
        OpenAi,
        json!({"max_tokens": null, "messages": [{"role": "system", "content": "Be brief."}]}),
    );
    let (document, losses, _) = encode(&asked, CLAUDE).unwrap();
    assert_eq!(
        document,
        json!({"inferenceConfig": {}, "messages": [], "system": [{"text": "Be brief."}]})
    );
    assert_eq!(losses, Vec::<String>::new());
}

#[test]
fn a_tool_loop_is_said_in_turns() {
    let messages = json!([
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Depths?"}]},
        {"role": "assistant", "content": "Both.", "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "depth", "arguments": "{\"at\": 1.50}"}},
            {"id": "b", "type": "function", "function": {"name": "depth", "arguments": ""}},
        ]},
        {"role": "tool", "tool_call_id": "a", "content": "6 m"},
        {"role": "tool", "tool_call_id": "b", "content": [{"type": "text", "text": "7"}, {"type": "text", "text": "m"}]},
        {"role": "user", "content": "And?"},
        {"role": "assistant", "content": ""},
    ]);
    let tools = json!([{"type": "function", "function": {"name": "depth", "strict": true}}]);
    let expected = json!({
        "system": [{"text": "Be brief."}],
        "messages": [
            {"role": "user", "content": [{"text": "Depths?"}]},
            {"role": "assistant", "content": [
                {"text": "Both."},
                {"toolUse": {"toolUseId": "a", "name": "depth", "input": {"at": 1.5}}},
                {"toolUse": {"toolUseId": "b", "name": "depth", "input": {}}},
            ]},
            {"role": "user", "content": [
                {"toolResult": {"toolUseId": "a", "content": [{"text": "6 m"}]}},
                {"toolResult": {"toolUseId": "b", "content": [{"text": "7"}, {"text": "m"}]}},
                {"text": "And?"},
            ]},
        ],
        "toolConfig": {"tools": [{"toolSpec": {
            "name": "depth", "inputSchema": {"json": {"type": "object", "properties": {}}}, "strict": true,
        }}]},
    });
    check(
        OpenAi,
        json!({"messages": messages, "tools": tools}),
        expected,
        &[],
    );
}

#[test]
fn messages_of_the_model_and_the_user_alternate() {
    let expected = json!({
        "system": [{"text": "first"}, {"cachePoint": {"type": "default"}}, {"text": "then"}],
        "messages": [
            {"role": "user", "content": [
                {"toolResult": {"toolUseId": "t", "status": "error", "content": [
                    {"text": "it broke"}, {"image": {"format": "png", "source": {"bytes": "AAAA"}}},
                ]}},
                {"cachePoint": {"type": "default", "ttl": "1h"}},
                {"toolResult": {"toolUseId": "u", "content": [{"json": {}}]}},
                {"text": "one"}, {"text": "two"},
            ]},
        ],
    });
    let mark = json!({"type": "ephemeral"});
    let image =
        json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}});
    check(
        Messages,
        json!({
            "system": [{"type": "text", "text": "first", "cache_control": mark}],
            "messages": [
                {"role": "user", "content": "one"},
                {"role": "system", "content": "then"},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "t", "is_error": true, "content": [
                        {"type": "text", "text": "it broke"}, image,
                    ], "cache_control": {"type": "ephemeral", "ttl": "1h"}},
                    {"type": "text", "text": "two"},
                    {"type": "tool_result", "tool_use_id": "u", "is_error": false},
                    {"type": "text", "text": "  "},
                ]},
            ],
        }),
        expected,
        &["messages[1]"],
    );
}

#[test]
fn media_are_blocks_of_their_kind() {
    #[track_caller]
    fn check_part(part: Value, block: Value, losses: &[&str]) {
        let content = json!([{"type": "text", "text": "see"}, part]);
        let mut blocks = vec![json!({"text": "see"})];
        blocks.extend((!block.is_null()).then_some(block));
        check(
            OpenAi,
            json!({"messages": [{"role": "user", "content": content}]}),
            json!({"messages": [{"role": "user", "content": blocks}]}),
            losses,
        );
    }
    let image = |url: &str| json!({"type": "image_url", "image_url": {"url": url}});
    let bytes = json!({"bytes": "AAAA"});
    let file = |name: &str, media: &str| json!({"type": "file", "file": {"filename": name, "file_data": format!("data:{media};base64,AAAA")}});
    let document =
        |format: &str, name: &str| json!({"document": {"format": format, "name": name, "source": bytes}});

    for (media, format) in [
        ("png", "png"),
        ("jpeg", "jpeg"),
        ("jpg", "jpeg"),
        ("gif", "gif"),
        ("webp", "webp"),
    ] {
        check_part(
            image(&format!("data:image/{media};base64,AAAA")),
            json!({"image": {"format": format, "source": bytes}}),
            &[],
        );
    }
    check_part(
        image("data:image/bmp;base64,AAAA"),
        Value::Null,
        &["!messages[0]"],
    );
    check_part(image("https://example.com/a.png"), Value::Null, &["!messages[0]"]);
    check_part(
        image("s3://harbour/a.JPG"),
        json!({"image": {"format": "jpeg", "source": {"s3Location": {"uri": "s3://harbour/a.JPG"}}}}),
        &[],
    );
    check_part(image("s3://harbour/a"), Value::Null, &["!messages[0]"]);
    check_part(
        image("data:application/pdf;base64,AAAA"),
        document("pdf", "document"),
        &[],
    );
    check_part(
        json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}}),
        json!({"image": {"format": "png", "source": bytes}}),
        &["messages[0]"],
    );
    check_part(
        file("tide  table.v2.pdf", "application/pdf"),
        document("pdf", "tide table-v2"),
        &[],
    );
    check_part(
        file("naïve_(1).PDF", "application/pdf"),
        document("pdf", "na-ve-(1)"),
        &[],
    );
    check_part(file(".md", "text/markdown"), document("md", "document"), &[]);
    check_part(file("a.csv", "text/csv"), document("csv", "a"), &[]);
    check_part(file("a.py", "text/x-python"), document("txt", "a-py"), &[]);
    check_part(
        json!({"type": "video_url", "video_url": {"url": "s3://harbour/b.mp4"}}),
        json!({"video": {"format": "mp4", "source": {"s3Location": {"uri": "s3://harbour/b.mp4"}}}}),
        &[],
    );
    check_part(
        json!({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}),
        json!({"audio": {"format": "wav", "source": bytes}}),
        &[],
    );
    check_part(
        json!({"type": "file", "file": {"file_id": "file-1"}}),
        Value::Null,
        &["!messages[0]"],
    );
}

#[test]
fn documents_have_names_that_differ_and_a_text_beside_them() {
    let text = |title: Option<&str>| {
        let source = json!({"type": "text", "media_type": "text/plain", "data": "hi"});
        json!({"type": "document", "source": source, "title": title})
    };
    let document =
        |name: &str| json!({"document": {"format": "txt", "name": name, "source": {"bytes": "aGk="}}});
    check(
        Messages,
        json!({"messages": [{"role": "user", "content": [text(Some("log")), text(Some("log.txt")), text(None)]}]}),
        json!({"messages": [{"role": "user", "content": [
            document("log"), document("log 2"), document("document"), {"text": "log, log 2, document"},
        ]}]}),
        &[],
    );
}

#[test]
fn reasoning_goes_back_to_whom_it_came_from() {
    #[track_caller]
    fn check(model: &str, reasoned: Reasoned, expected: Option<Value>) {
        let mut asked = request(
            OpenAi,
            json!({"messages": [{"role": "assistant", "content": "So."}, {"role": "user", "content": "Go on."}]}),
        );
        asked.turns[0].parts.insert(
            0,
            Part {
                cache: Some(CacheMark { ttl: None }),
                ..Part::new(PartBody::Reasoning(reasoned))
            },
        );
        let (document, losses, _) = encode(&asked, model).unwrap();
        let mut blocks: Vec<Value> = expected.clone().into_iter().collect();
        blocks.push(json!({"text": "So."}));
        assert_eq!(document["messages"][0]["content"], json!(blocks));
        let lost = if expected.is_some() {
            &["cache_control"][..]
        } else {
            &["messages[0]", "cache_control"]
        };
        assert_eq!(losses, lost);
    }
    let thought = |text: &str, issuer: Option<Format>, redacted| Reasoned {
        text: text.to_owned(),
        seal: issuer.map(|issuer| Seal {
            issuer,
            bytes: "c2VhbA==".into(),
        }),
        redacted,
    };
    let own = Some(Format::Converse);
    let shown = |more: Value| Some(json!({"reasoningContent": {"reasoningText": more}}));
    check(
        CLAUDE,
        thought("hm", own, false),
        shown(json!({"text": "hm", "signature": "c2VhbA=="})),
    );
    check(
        CLAUDE,
        thought("", own, true),
        Some(json!({"reasoningContent": {"redactedContent": "c2VhbA=="}})),
    );
    check(CLAUDE, thought("hm", Some(Messages), false), None);
    check(CLAUDE, thought("hm", None, false), None);
    check(QWEN, thought("hm", None, false), shown(json!({"text": "hm"})));
    check(QWEN, thought("hm", Some(Messages), false), None);
}

#[test]
fn sampling_and_limits() {
    check(
        OpenAi,
        json!({
            "max_tokens": null, "max_completion_tokens": 9, "temperature": 0.5, "top_p": 0.25, "top_k": 7,
            "stop": ["END", " "], "seed": 1, "frequency_penalty": 0.5, "presence_penalty": 0, "n": 2,
            "user": "u-1", "service_tier": "priority",
        }),
        json!({
            "inferenceConfig": {"maxTokens": 9, "temperature": 0.5, "topP": 0.25, "stopSequences": ["END"]},
            "additionalModelRequestFields": {"top_k": 7},
            "additionalModelResponseFieldPaths": ["/stop_sequence"],
            "requestMetadata": {"user_id": "u-1"},
            "serviceTier": {"type": "priority"},
        }),
        &["seed", "frequency_penalty", "!n", "stop"],
    );
    check_for(
        NOVA,
        OpenAi,
        json!({"top_k": 7, "stop": "\n", "user": "{}", "service_tier": "scale"}),
        json!({
            "inferenceConfig": {"maxTokens": 4096, "stopSequences": ["\n"]},
            "additionalModelRequestFields": {"inferenceConfig": {"topK": 7}},
            "additionalModelResponseFieldPaths": null, "requestMetadata": null, "serviceTier": null,
        }),
        &["user", "service_tier"],
    );
}

#[test]
fn thinking_is_said_as_the_model_takes_it() {
    #[track_caller]
    fn check_fields(model: &str, client: Format, members: Value, fields: Value, losses: &[&str]) {
        check_for(
            model,
            client,
            members,
            json!({"additionalModelRequestFields": fields}),
            losses,
        );
    }
    let effort = |word: &str| json!({"reasoning_effort": word});
    let budget = json!({"thinking": {"type": "enabled", "budget_tokens": 2000}});
    let haiku = "anthropic.claude-haiku-4-5-20251001-v1:0";

    check_fields(
        CLAUDE,
        OpenAi,
        effort("high"),
        json!({"output_config": {"effort": "high"}}),
        &[],
    );
    check_fields(
        CLAUDE,
        Messages,
        json!({"thinking": {"type": "adaptive", "display": "omitted"}, "temperature": 0.5, "top_k": 3}),
        json!({"thinking": {"type": "adaptive", "display": "omitted"}}),
        &["temperature", "top_k"],
    );
    check_fields(
        haiku,
        Messages,
        budget.clone(),
        json!({"thinking": {"type": "enabled", "budget_tokens": 2000}}),
        &[],
    );
    check_fields(
        haiku,
        Messages,
        json!({"thinking": {"type": "disabled"}}),
        json!({"thinking": {"type": "disabled"}}),
        &[],
    );
    check_fields(
        haiku,
        OpenAi,
        effort("low"),
        json!({"thinking": {"type": "enabled", "budget_tokens": 2048}}),
        &[],
    );
    check_fields(
        QWEN,
        OpenAi,
        effort("high"),
        json!({"reasoning_config": "high"}),
        &[],
    );
    check_fields(
        QWEN,
        Messages,
        budget.clone(),
        json!({"thinking": {"type": "enabled", "budget_tokens": 2000}}),
        &[],
    );
    check_fields(
        NOVA,
        OpenAi,
        effort("xhigh"),
        json!({"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "high"}}),
        &["reasoning_effort"],
    );
    check_fields(
        NOVA,
        Messages,
        budget,
        json!({"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "medium"}}),
        &["reasoning_effort"],
    );
    check_fields(
        NOVA,
        OpenAi,
        effort("none"),
        json!({"reasoningConfig": {"type": "disabled"}}),
        &[],
    );
    check_fields(
        "openai.gpt-oss-20b-1:0",
        OpenAi,
        effort("low"),
        json!({"reasoning_effort": "low"}),
        &[],
    );
    check_fields(
        "openai.gpt-oss-20b-1:0",
        OpenAi,
        effort("none"),
        Value::Null,
        &["reasoning_effort"],
    );
}

#[test]
fn claude_is_offered_the_tools_that_it_knows_by_itself() {
    let bash = json!({"type": "bash_20250124", "name": "bash"});
    let screen = json!({"type": "computer_20250124", "name": "computer", "display_width_px": 800, "display_height_px": 600});
    // It is told in the words in which the client says it.
    let with = |choice: Value| json!({"tools": [bash, screen], "tool_choice": choice});
    check(
        Messages,
        json!({"tools": [bash, screen]}),
        json!({"toolConfig": null, "additionalModelRequestFields": {"tools": [bash, screen]}}),
        &[],
    );
    for choice in [json!({"type": "any"}), json!({"type": "tool", "name": "bash"})] {
        check(
            Messages,
            with(choice.clone()),
            json!({"toolConfig": null, "additionalModelRequestFields": with(choice)}),
            &[],
        );
    }
    check(
        Messages,
        with(json!({"type": "none"})),
        json!({"toolConfig": null, "additionalModelRequestFields": null}),
        &[],
    );

    // The provider knows nothing of them, and must be told of some tool where one was called.
    let called = |name: &str| {
        json!([
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": name, "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "x"}]},
        ])
    };
    let told = |name: &str, description: Option<&str>| {
        let mut spec = json!({"name": name, "inputSchema": {"json": {"type": "object", "properties": {}}}});
        if let Some(description) = description {
            spec["description"] = json!(description);
        }
        json!({
            "toolConfig": {"tools": [{"toolSpec": spec}]},
            "additionalModelRequestFields": {"tools": [bash, screen]},
        })
    };
    let members = |name: &str| json!({"tools": [bash, screen], "messages": called(name)});
    check(
        Messages,
        members("bash"),
        told("nothing", Some("Does nothing.")),
        &[],
    );
    check(Messages, members("f"), told("f", None), &[]);

    // Others are run where the model is not, or unknown to it.
    for kind in [
        "web_search_20250305",
        "code_execution_20250825",
        "tool_search_tool_regex_20251119",
    ] {
        let tools = json!([{"type": kind, "name": "t"}]);
        check(
            Messages,
            json!({"tools": tools}),
            json!({"toolConfig": null, "additionalModelRequestFields": null}),
            &["!tools[0]"],
        );
    }
    check_for(
        QWEN,
        Messages,
        json!({"tools": [bash]}),
        json!({"toolConfig": null, "additionalModelRequestFields": null}),
        &["!tools[0]"],
    );
}

#[test]
fn tools_are_chosen_as_far_as_the_format_can_say() {
    let tools = json!([{"name": "f", "description": "", "input_schema": {"type": "object"}}]);
    let spec = json!({"toolSpec": {"name": "f", "inputSchema": {"json": {"type": "object"}}}});
    let with = |choice: Value| json!({"tools": tools, "tool_choice": choice});
    let chosen = |choice: Value| json!({"toolConfig": {"tools": [spec], "toolChoice": choice}});
    check(
        Messages,
        json!({"tools": tools}),
        json!({"toolConfig": {"tools": [spec]}}),
        &[],
    );
    check(
        Messages,
        with(json!({"type": "auto"})),
        chosen(json!({"auto": {}})),
        &[],
    );
    check(
        Messages,
        with(json!({"type": "any"})),
        chosen(json!({"any": {}})),
        &[],
    );
    check(
        Messages,
        with(json!({"type": "tool", "name": "f"})),
        chosen(json!({"tool": {"name": "f"}})),
        &[],
    );
    check(
        Messages,
        with(json!({"type": "none"})),
        json!({"toolConfig": null}),
        &[],
    );
    let one = |choice: Value| json!({"toolConfig": {"tools": [spec]}, "additionalModelRequestFields": {"tool_choice": choice}});
    check(
        Messages,
        with(json!({"type": "tool", "name": "f", "disable_parallel_tool_use": true})),
        one(json!({"type": "tool", "name": "f", "disable_parallel_tool_use": true})),
        &[],
    );
    check_for(
        QWEN,
        Messages,
        with(json!({"type": "auto", "disable_parallel_tool_use": true})),
        chosen(json!({"auto": {}})),
        &["parallel_tool_calls"],
    );

    // Tools that the conversation has used must be declared, forbidden or not.
    let history = json!([
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "g", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "x"}]},
    ]);
    let empty =
        json!({"toolSpec": {"name": "g", "inputSchema": {"json": {"type": "object", "properties": {}}}}});
    let forbidden = json!({"messages": history, "tools": tools, "tool_choice": {"type": "none"}});
    let none = json!({"tool_choice": {"type": "none"}});
    for (members, tool) in [(json!({"messages": history}), &empty), (forbidden, &spec)] {
        let told = json!({"toolConfig": {"tools": [tool]}, "additionalModelRequestFields": none});
        check(Messages, members.clone(), told, &[]);
        let told = json!({"toolConfig": {"tools": [tool]}, "additionalModelRequestFields": null});
        check_for(QWEN, Messages, members, told, &["tool_choice"]);
    }
    check(
        Messages,
        json!({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
        json!({"toolConfig": null}),
        &["!tools[0]"],
    );
}

#[test]
fn an_answer_follows_a_schema() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}}});
    let format = json!({"response_format": {"type": "json_schema", "json_schema": {
        "name": "tide", "description": "a tide", "schema": schema, "strict": true,
    }}});
    let constrained = json!({"outputConfig": {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": {
        "name": "tide", "description": "a tide", "schema": schema.to_string(),
    }}}}});
    let called = json!({"outputConfig": null, "toolConfig": {
        "tools": [{"toolSpec": {"name": "tide", "description": "a tide", "inputSchema": {"json": schema}}}],
        "toolChoice": {"any": {}},
    }});
    check(OpenAi, format.clone(), constrained.clone(), &[]);
    check_for(QWEN, OpenAi, format.clone(), constrained, &[]);
    check_for(NOVA, OpenAi, format.clone(), called.clone(), &[]);
    check_for(
        "anthropic.claude-3-haiku-20240307-v1:0",
        OpenAi,
        format.clone(),
        called,
        &[],
    );
    let unsaid = json!({"outputConfig": null, "toolConfig": null});
    check_for(
        "meta.llama3-1-8b",
        OpenAi,
        format.clone(),
        unsaid,
        &["!response_format"],
    );
    let strict = json!({"tools": [{"type": "function", "function": {"name": "f", "strict": true}}]});
    let spec = json!({"name": "f", "inputSchema": {"json": {"type": "object", "properties": {}}}});
    let lax = json!({"toolConfig": {"tools": [{"toolSpec": spec}]}});
    check_for(NOVA, OpenAi, strict, lax, &["tools[0]"]);
    let mut with_tools = format;
    with_tools["tools"] = json!([{"type": "function", "function": {"name": "f"}}]);
    check_for(
        NOVA,
        OpenAi,
        with_tools,
        json!({"outputConfig": null}),
        &["!response_format"],
    );
}

#[test]
fn cache_points_are_what_the_model_takes() {
    let mark = |ttl: Option<&str>| match ttl {
        Some(ttl) => json!({"type": "ephemeral", "ttl": ttl}),
        None => json!({"type": "ephemeral"}),
    };
    let asked = |ttl| {
        json!({
            "tools": [{"name": "f", "input_schema": {"type": "object"}, "cache_control": mark(ttl)}],
            "messages": [{"role": "user", "content": [{"type": "text", "text": "hi", "cache_control": mark(ttl)}]}],
        })
    };
    let sent = |point: Option<Value>| {
        let mut tools = vec![json!({"toolSpec": {"name": "f", "inputSchema": {"json": {"type": "object"}}}})];
        let mut content = vec![json!({"text": "hi"})];
        for list in [&mut tools, &mut content] {
            list.extend(point.clone().map(|point| json!({"cachePoint": point})));
        }
        json!({"toolConfig": {"tools": tools}, "messages": [{"role": "user", "content": content}]})
    };
    let plain = || Some(json!({"type": "default"}));
    check(Messages, asked(None), sent(plain()), &[]);
    check(
        Messages,
        asked(Some("1h")),
        sent(Some(json!({"type": "default", "ttl": "1h"}))),
        &[],
    );
    check(
        Messages,
        asked(Some("5m")),
        sent(Some(json!({"type": "default", "ttl": "5m"}))),
        &[],
    );
    check_for(NOVA, Messages, asked(Some("5m")), sent(plain()), &[]);
    check_for(
        NOVA,
        Messages,
        asked(Some("1h")),
        sent(plain()),
        &["cache_control"],
    );
    check_for(
        "meta.llama3-1-8b",
        Messages,
        asked(None),
        sent(None),
        &["cache_control"],
    );

    let blocks: Vec<Value> = (0..6)
        .map(|n| json!({"type": "text", "text": format!("{n}"), "cache_control": mark(None)}))
        .collect();
    let mut expected = Vec::new();
    for n in 0..6 {
        expected.push(json!({"text": format!("{n}")}));
        if n >= 2 {
            expected.push(json!({"cachePoint": {"type": "default"}}));
        }
    }
    check(
        Messages,
        json!({"messages": [{"role": "user", "content": blocks}]}),
        json!({"messages": [{"role": "user", "content": expected}]}),
        &["cache_control"],
    );
}

#[test]
fn members_of_the_format_itself_reach_it_from_any_client() {
    let guardrail = json!({"guardrailIdentifier": "g", "guardrailVersion": "1"});
    for client in [OpenAi, Messages] {
        check(
            client,
            json!({
                "guardrailConfig": guardrail,
                "performanceConfig": {"latency": "optimized"},
                "additionalModelRequestFields": {"top_k": 1, "anthropic_beta": ["b"]},
                "requestMetadata": {"team": "harbour"},
                "top_k": 9,
                "user": null,
            }),
            json!({
                "guardrailConfig": guardrail,
                "performanceConfig": {"latency": "optimized"},
                "additionalModelRequestFields": {"top_k": 1, "anthropic_beta": ["b"]},
                "requestMetadata": {"team": "harbour"},
            }),
            &[],
        );
    }
    check(
        OpenAi,
        json!({"user": "u", "requestMetadata": {"team": "h"}}),
        json!({"requestMetadata": {"team": "h"}}),
        &[],
    );
    check(
        OpenAi,
        json!({"logit_bias": {"1": 2}}),
        json!({"logit_bias": null}),
        &["logit_bias"],
    );
}

#[test]
fn what_cannot_be_said_at_all_is_refused() {
    let call = |arguments: &str| {
        json!({"messages": [{"role": "assistant", "content": null, "tool_calls": [
            {"id": "t", "type": "function", "function": {"name": "f", "arguments": arguments}},
        ]}]})
    };
    check_refused(
        OpenAi,
        call("[]"),
        400,
        "messages[0]: the arguments of tool call \"t\"",
    );
    check_refused(OpenAi, json!({"reasoning_effort": "heroic"}), 422, "heroic");
}
