//! What the upstream half writes for clients of other formats, and what it reads from imitations.

use serde_json::{Value, json};

use crate::{
    Field, Format, Losses, Provider, Severity, Site,
    chat::{
        CacheMark, Client, FinishReason, Output, Part, PartBody, Reasoned, Reasoning, ReasoningMode, Request,
        Role, Seal, Tool, ToolBody, ToolCall, ToolChoice, ToolKind, ToolResult, Turn, Upstream,
        openai::{OpenAi, tests},
    },
    json,
    media::{Media, MediaKind, Source},
    provider,
};

fn request() -> Request {
    let document = br#"{"model":"client","messages":[{"role":"user","content":"x"}]}"#;
    OpenAi
        .decode_request(document, &mut Losses::default())
        .expect("a request")
}

fn turn(role: Role, origin: usize, parts: Vec<PartBody>) -> Turn {
    Turn {
        role,
        parts: parts.into_iter().map(Part::new).collect(),
        origin,
        name: None,
        extensions: Default::default(),
    }
}

fn call(id: &str, name: &str) -> PartBody {
    PartBody::ToolCall(ToolCall {
        id: id.to_owned(),
        name: name.to_owned(),
        arguments: "{}".to_owned(),
        kind: ToolKind::Function,
    })
}

fn result(call: &str, parts: Vec<PartBody>, is_error: Option<bool>) -> PartBody {
    PartBody::ToolResult(ToolResult {
        call: call.to_owned(),
        parts: parts.into_iter().map(Part::new).collect(),
        is_error,
    })
}

fn text(text: &str) -> PartBody {
    PartBody::Text(text.to_owned())
}

fn media(kind: MediaKind, source: Source) -> PartBody {
    PartBody::Media(Media {
        kind,
        source,
        name: None,
        detail: None,
        context: None,
        citable: None,
    })
}

fn inline(media_type: &str) -> Source {
    Source::Inline {
        media_type: media_type.to_owned(),
        data: "YWJj".to_owned(),
    }
}

fn function(name: &str) -> Tool {
    Tool {
        body: ToolBody::Function {
            name: name.to_owned(),
            description: Some(String::new()),
            parameters: None,
            strict: None,
        },
        cache: None,
        extensions: Default::default(),
    }
}

fn encode(request: &Request, provider: &'static dyn Provider, model: &str) -> (Value, Losses) {
    let (site, mut losses) = (Site::default(), Losses::default());
    let target = tests::target(provider, &site, model);
    let (body, _) = OpenAi
        .encode_request(request, &target, &mut losses)
        .expect("said");
    (serde_json::from_slice(&body).expect("JSON"), losses)
}

fn strict(request: &Request) -> (Value, Losses) {
    encode(request, &provider::OpenAi, "gpt-4.1")
}

fn fields(losses: &Losses, severity: Severity) -> Vec<Field> {
    let fields = losses.iter().filter(|loss| loss.severity == severity);
    fields.map(|loss| loss.field.clone()).collect()
}

#[test]
fn conversations_of_blocks_become_messages() {
    let mut request = request();
    request.instructions = vec![Part::text("A"), Part::text("B")];
    request.turns = vec![
        turn(Role::Assistant, 0, vec![call("t1", "ls"), call("t2", "cat")]),
        turn(
            Role::User,
            1,
            vec![
                text("go on"),
                result("t1", vec![text("x"), text("y")], Some(false)),
                result(
                    "t2",
                    vec![media(MediaKind::Image, inline("image/png"))],
                    Some(true),
                ),
            ],
        ),
        turn(Role::System, 2, vec![text("be brief")]),
        turn(Role::User, 3, vec![text(""), text("a"), text("b")]),
        turn(Role::User, 4, vec![text("")]),
    ];
    request.max_output = Some(0);
    let (body, losses) = strict(&request);
    let called = |id: &str, name: &str| json!({"id": id, "type": "function", "function": {"name": name, "arguments": "{}"}});
    assert_eq!(
        body,
        json!({"model": "gpt-4.1", "max_completion_tokens": 0, "messages": [
            {"role": "system", "content": "AB"},
            {"role": "assistant", "tool_calls": [called("t1", "ls"), called("t2", "cat")]},
            {"role": "tool", "tool_call_id": "t1", "content": "xy"},
            {"role": "tool", "tool_call_id": "t2", "content": "Error: "},
            {"role": "user", "content": [
                {"type": "text", "text": "Output of tool call t2:"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,YWJj"}},
                {"type": "text", "text": "go on"}]},
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "ab"}]})
    );
    assert_eq!(fields(&losses, Severity::Material), []);
    assert_eq!(fields(&losses, Severity::Advisory).len(), 2, "{losses:?}");
}

#[test]
fn results_stay_together() {
    let mut request = request();
    request.turns = vec![
        turn(Role::Assistant, 0, vec![call("a", "f"), call("b", "f")]),
        turn(
            Role::User,
            1,
            vec![result("a", vec![text("1")], None), text("first")],
        ),
        turn(Role::User, 2, vec![result("b", vec![text("2")], None)]),
        turn(Role::Assistant, 3, vec![text("so")]),
    ];
    let (body, _) = strict(&request);
    let roles: Vec<&Value> = body["messages"]
        .as_array()
        .expect("messages")
        .iter()
        .map(|message| &message["role"])
        .collect();
    assert_eq!(roles, ["assistant", "tool", "tool", "user", "assistant"]);
}

#[test]
fn media_that_cannot_be_said_is_a_material_loss() {
    #[track_caller]
    fn check(kind: MediaKind, source: Source, provider: &'static dyn Provider, wanted: Option<&str>) {
        let mut request = request();
        request.turns = vec![turn(Role::User, 4, vec![media(kind, source)])];
        let (body, losses) = encode(&request, provider, "m");
        let content = body.pointer("/messages/0/content");
        let written = match content.and_then(Value::as_array) {
            Some(parts) => parts[0]["type"].as_str(),
            None => content.and_then(Value::as_str),
        };
        assert_eq!(written, wanted);
        let material = fields(&losses, Severity::Material);
        let expected = if wanted.is_some() {
            vec![]
        } else {
            vec![Field::Message(4)]
        };
        assert_eq!(material, expected);
    }
    let url = || Source::Url("https://h/x".to_owned());
    let strict: &'static dyn Provider = &provider::OpenAi;
    check(MediaKind::Image, url(), strict, Some("image_url"));
    check(
        MediaKind::Document,
        inline("application/pdf"),
        strict,
        Some("file"),
    );
    check(MediaKind::Document, url(), strict, None);
    let file = |issuer| Source::File {
        issuer,
        id: "file_1".to_owned(),
    };
    check(MediaKind::Document, file(Format::Messages), strict, None);
    check(MediaKind::Document, file(Format::OpenAi), strict, Some("file"));
    check(
        MediaKind::Document,
        Source::Text("plain".to_owned()),
        strict,
        Some("text"),
    );
    check(MediaKind::Audio, inline("audio/wav"), strict, Some("input_audio"));
    check(MediaKind::Audio, inline("audio/ogg"), strict, None);
    check(MediaKind::Audio, url(), strict, None);
    check(MediaKind::Video, inline("video/mp4"), strict, None);
    check(MediaKind::Audio, url(), &provider::VLLM, Some("audio_url"));
    check(
        MediaKind::Video,
        inline("video/mp4"),
        &provider::VLLM,
        Some("video_url"),
    );
}

#[test]
fn foreign_parts_and_tools_are_material_losses() {
    let mut request = request();
    let native = || PartBody::Native {
        format: Format::Messages,
        kind: "search_result".to_owned(),
        raw: json::raw("x"),
    };
    request.turns = vec![
        turn(Role::User, 0, vec![native()]),
        turn(Role::User, 1, vec![result("c", vec![native()], None)]),
    ];
    request.tools = vec![
        function("f"),
        Tool {
            body: ToolBody::Native {
                format: Format::Messages,
                kind: "bash_20250124".to_owned(),
                raw: json::raw("x"),
            },
            ..function("g")
        },
    ];
    let (_, losses) = strict(&request);
    assert_eq!(
        fields(&losses, Severity::Material),
        [Field::Tool(1), Field::Message(0), Field::Message(1)]
    );
}

#[test]
fn tool_settings_need_a_tool() {
    let mut request = request();
    request.tool_choice = Some(ToolChoice::Required);
    request.parallel_tool_calls = Some(false);
    let (body, _) = strict(&request);
    assert_eq!(
        (body.get("tool_choice"), body.get("parallel_tool_calls")),
        (None, None)
    );
    request.tools = vec![function("f")];
    let (body, _) = strict(&request);
    assert_eq!(body["tool_choice"], "required");
    assert_eq!(body["parallel_tool_calls"], false);
    assert_eq!(
        body["tools"],
        json!([{"type": "function", "function": {"name": "f"}}])
    );
}

#[test]
fn names_that_do_not_fit_come_back() {
    let long = "mcp__a_server_with_a_very_long_name__a_tool_with_an_even_longer_name";
    let twin = format!("{long}2");
    let mut request = request();
    let names = [long, &twin, "dotted.name", "naïve", "plain-one", ""];
    request.tools = names.iter().map(|name| function(name)).collect();
    request.tool_choice = Some(ToolChoice::Tool("dotted.name".to_owned()));
    request
        .turns
        .push(turn(Role::Assistant, 1, vec![call("c", &twin)]));
    let (site, mut losses) = (Site::default(), Losses::default());
    let target = tests::target(&provider::OpenAi, &site, "m");
    let (body, reader) = OpenAi
        .encode_request(&request, &target, &mut losses)
        .expect("said");
    let body: Value = serde_json::from_slice(&body).expect("JSON");
    let written: Vec<&str> = (0..names.len())
        .filter_map(|index| body["tools"][index]["function"]["name"].as_str())
        .collect();
    for name in &written {
        assert!((1..=64).contains(&name.len()), "{name}");
        assert!(
            name.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte)),
            "{name}"
        );
    }
    assert_eq!(written[4], "plain-one");
    assert_eq!(body["tool_choice"]["function"]["name"], written[2]);
    assert_eq!(
        body["messages"][1]["tool_calls"][0]["function"]["name"],
        written[1]
    );
    let calls: Vec<Value> = written
        .iter()
        .map(|name| json!({"id": name, "function": {"name": name, "arguments": "{}"}}))
        .collect();
    let reply = json!({"choices": [{"message": {"tool_calls": calls}, "finish_reason": "tool_calls"}]});
    let response = reader
        .decode_response(reply.to_string().as_bytes(), &mut losses)
        .expect("a reply");
    let read: Vec<&str> = response.choices[0]
        .parts
        .iter()
        .filter_map(|part| match &part.body {
            PartBody::ToolCall(call) => Some(call.name.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(read, names);
}

#[test]
fn calls_without_an_id_are_refused() {
    for part in [call("", "f"), result("", vec![], None)] {
        let role = if matches!(part, PartBody::ToolCall(_)) {
            Role::Assistant
        } else {
            Role::User
        };
        let mut request = request();
        request.turns = vec![turn(role, 2, vec![part])];
        let site = Site::default();
        let target = tests::target(&provider::OpenAi, &site, "m");
        let refused = OpenAi.encode_request(&request, &target, &mut Losses::default());
        let error = refused.err().expect("refused");
        assert_eq!(
            (error.status.as_u16(), error.param.as_deref()),
            (400, Some("messages[2]"))
        );
    }
}

#[test]
fn thinking_is_asked_for_in_the_upstreams_way() {
    #[track_caller]
    fn check(
        reasoning: Reasoning,
        provider: &'static dyn Provider,
        model: &str,
        wanted: Value,
        losses: usize,
    ) {
        let mut request = request();
        request.reasoning = Some(reasoning);
        let (body, found) = encode(&request, provider, model);
        let got = json!([body["reasoning_effort"], body["thinking"]]);
        assert_eq!((got, found.iter().count()), (wanted, losses), "{found:?}");
    }
    let budget = |budget: u64| Reasoning {
        mode: Some(ReasoningMode::Enabled),
        budget: Some(budget),
        ..Reasoning::default()
    };
    let mode = |mode| Reasoning {
        mode: Some(mode),
        ..Reasoning::default()
    };
    let effort = |word: &str| Reasoning {
        effort: Some(word.to_owned()),
        ..Reasoning::default()
    };
    let (strict, loose): (&'static dyn Provider, &'static dyn Provider) =
        (&provider::OpenAi, &provider::LITELLM);
    check(budget(1024), strict, "gpt-5", json!(["low", null]), 0);
    check(budget(4096), strict, "gpt-5", json!(["medium", null]), 0);
    check(budget(16_384), strict, "gpt-5", json!(["high", null]), 0);
    check(budget(1024), strict, "gpt-4.1", json!([null, null]), 1);
    check(
        budget(1024),
        loose,
        "any",
        json!([null, {"type": "enabled", "budget_tokens": 1024}]),
        0,
    );
    check(
        mode(ReasoningMode::Disabled),
        strict,
        "gpt-5",
        json!(["low", null]),
        1,
    );
    check(
        mode(ReasoningMode::Disabled),
        strict,
        "gpt-4.1",
        json!([null, null]),
        0,
    );
    check(
        mode(ReasoningMode::Adaptive),
        strict,
        "gpt-5",
        json!([null, null]),
        0,
    );
    check(
        mode(ReasoningMode::Adaptive),
        loose,
        "any",
        json!([null, {"type": "adaptive"}]),
        0,
    );
    let unknown = &provider::COMPATIBLE;
    check(budget(1024), unknown, "any", json!([null, null]), 1);
    check(budget(1024), unknown, "gpt-oss-20b", json!(["low", null]), 0);
    let switch = &provider::DEEPSEEK;
    let on = json!({"type": "enabled"});
    check(budget(1024), switch, "any", json!(["low", on]), 0);
    check(mode(ReasoningMode::Adaptive), switch, "any", json!([null, on]), 0);
    check(
        mode(ReasoningMode::Disabled),
        switch,
        "any",
        json!([null, {"type": "disabled"}]),
        0,
    );
    check(effort("high"), switch, "any", json!(["high", null]), 0);
    check(effort("medium"), strict, "gpt-5", json!(["medium", null]), 0);
    check(effort("max"), strict, "gpt-5", json!(["high", null]), 1);
    check(effort("high"), strict, "gpt-4.1", json!([null, null]), 1);
}

#[test]
fn thinking_is_an_object_of_its_own_at_openrouter() {
    #[track_caller]
    fn check(mode: Option<ReasoningMode>, effort: Option<&str>, budget: Option<u64>, wanted: Value) {
        let mut request = request();
        request.reasoning = Some(Reasoning {
            mode,
            effort: effort.map(str::to_owned),
            budget,
            display: None,
        });
        let (body, losses) = encode(&request, &provider::OPENROUTER, "m");
        assert_eq!(body["reasoning"], wanted);
        assert_eq!((body.get("thinking"), body.get("reasoning_effort")), (None, None));
        assert!(losses.is_empty());
    }
    let enabled = Some(ReasoningMode::Enabled);
    check(enabled, None, Some(2048), json!({"max_tokens": 2048}));
    check(enabled, None, None, json!({"enabled": true}));
    check(
        Some(ReasoningMode::Adaptive),
        None,
        None,
        json!({"enabled": true}),
    );
    check(
        Some(ReasoningMode::Disabled),
        None,
        None,
        json!({"effort": "none"}),
    );
    check(None, Some("xhigh"), None, json!({"effort": "xhigh"}));
}

#[test]
fn reasoning_goes_back_under_the_servers_name() {
    let mut request = request();
    let thought = PartBody::Reasoning(Reasoned {
        text: "t".to_owned(),
        seal: None,
        redacted: false,
    });
    request.turns = vec![turn(Role::Assistant, 0, vec![thought, text("a")])];
    for (provider, member) in [
        (&provider::DEEPSEEK, Some("reasoning_content")),
        (&provider::LITELLM, Some("reasoning_content")),
        (&provider::OPENROUTER, Some("reasoning")),
        (&provider::VLLM, Some("reasoning")),
        (&provider::GROQ, None),
        (&provider::MISTRAL, None),
        (&provider::COMPATIBLE, None),
    ] {
        let (body, losses) = encode(&request, provider, "m");
        let mut wanted = json!({"role": "assistant", "content": "a"});
        if let Some(member) = member {
            wanted[member] = json!("t");
        }
        assert_eq!(body["messages"], json!([wanted]));
        assert_eq!(losses.is_empty(), member.is_some());
    }
}

#[test]
fn earlier_reasoning_goes_to_those_who_read_it() {
    let mut request = request();
    let thought = |issuer| {
        PartBody::Reasoning(Reasoned {
            text: "t".to_owned(),
            seal: Some(Seal {
                issuer,
                bytes: "s".into(),
            }),
            redacted: false,
        })
    };
    request.turns = vec![turn(
        Role::Assistant,
        0,
        vec![thought(Format::Messages), text("a")],
    )];
    let (body, losses) = encode(&request, &provider::LITELLM, "m");
    assert_eq!(
        body["messages"],
        json!([{"role": "assistant", "content": "a", "reasoning_content": "t",
            "thinking_blocks": [{"type": "thinking", "thinking": "t", "signature": "s"}]}])
    );
    assert!(losses.is_empty());
    let (body, losses) = strict(&request);
    assert_eq!(body["messages"], json!([{"role": "assistant", "content": "a"}]));
    assert_eq!(fields(&losses, Severity::Advisory), [Field::Reasoning]);
    request.turns = vec![turn(Role::Assistant, 0, vec![thought(Format::OpenAi)])];
    let (body, losses) = encode(&request, &provider::LITELLM, "m");
    assert_eq!(
        body["messages"],
        json!([{"role": "assistant", "reasoning_content": "t"}])
    );
    assert_eq!(fields(&losses, Severity::Advisory), [Field::Reasoning]);
}

#[test]
fn nuances_are_advisory_losses() {
    let mut request = request();
    request.sampling.top_k = Some(5);
    request.turns[0].parts[0].cache = Some(CacheMark { ttl: None });
    request.service_tier = Some("standard_only".to_owned());
    request.output = Output::JsonSchema {
        name: String::new(),
        description: None,
        schema: json::raw(&json!({"type": "object"})),
        strict: None,
    };
    request.stream = Some(Default::default());
    let (body, losses) = strict(&request);
    assert_eq!(fields(&losses, Severity::Material), []);
    assert_eq!(fields(&losses, Severity::Advisory), [Field::TopK, Field::Cache]);
    assert_eq!(
        body,
        json!({"model": "gpt-4.1", "messages": [{"role": "user", "content": "x"}], "service_tier": "default",
            "response_format": {"type": "json_schema", "json_schema": {"name": "response", "schema": {"type": "object"}}},
            "stream": true, "stream_options": {"include_usage": true}})
    );
}

#[test]
fn whole_replies_are_read_from_any_server() {
    #[track_caller]
    fn check(reply: Value) -> Result<crate::chat::Response, crate::ApiError> {
        let site = Site::default();
        let target = tests::target(&provider::COMPATIBLE, &site, "m");
        let mut losses = Losses::default();
        let (_, reader) = OpenAi
            .encode_request(&request(), &target, &mut losses)
            .expect("said");
        reader.decode_response(reply.to_string().as_bytes(), &mut losses)
    }
    let response = check(json!({"created": 1.5, "choices": [{"message": {
        "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "reasoning": "r",
        "tool_calls": [{"function": {"name": "f", "arguments": ""}}, {"id": "", "function": {"name": "g", "arguments": "{}"}}]}}],
        "usage": {"prompt_tokens": 1}}))
    .expect("a reply");
    assert_eq!(response.head.created, Some(1));
    assert_eq!(response.choices[0].finish.reason, FinishReason::ToolCalls);
    let calls: Vec<(&str, &str)> = response.choices[0]
        .parts
        .iter()
        .filter_map(|part| match &part.body {
            PartBody::ToolCall(call) => Some((call.id.as_str(), call.arguments.as_str())),
            _ => None,
        })
        .collect();
    assert_eq!(calls, [("call_0", "{}"), ("call_1", "{}")]);
    for broken in [
        json!({}),
        json!({"choices": []}),
        json!([]),
        json!({"choices": 1}),
    ] {
        let error = check(broken).expect_err("no answer");
        assert_eq!(error.status.as_u16(), 502);
    }
    let error = check(json!({"error": {"message": "m", "code": 500}})).expect_err("an error");
    assert_eq!((error.status.as_u16(), error.message.as_str()), (500, "m"));
}

#[test]
fn each_server_is_spoken_to_in_its_dialect() {
    #[track_caller]
    fn check(provider: &'static dyn Provider, wanted: Value, advisory: &[Field], material: &[Field]) {
        let mut request = request();
        request.tools = vec![function("f")];
        if let Some(Tool {
            body: ToolBody::Function { strict, .. },
            ..
        }) = request.tools.first_mut()
        {
            *strict = Some(true);
        }
        request.tool_choice = Some(ToolChoice::Tool("f".to_owned()));
        request.parallel_tool_calls = Some(false);
        request.max_output = Some(9);
        request.sampling.seed = Some(7);
        request.sampling.choices = Some(2);
        request.sampling.logprobs = Some(3);
        request.sampling.presence_penalty = Some(0.5);
        request.user = Some("u".to_owned());
        request.service_tier = Some("flex".to_owned());
        request.stream = Some(Default::default());
        request.output = Output::JsonSchema {
            name: "s".to_owned(),
            description: None,
            schema: json::raw(&json!({})),
            strict: None,
        };
        for turn in &mut request.turns {
            turn.name = Some("ann".to_owned());
        }
        let (mut body, losses) = encode(&request, provider, "m");
        let said = body.as_object_mut().expect("an object");
        for constant in ["model", "stream", "response_format", "tool_choice"] {
            said.remove(constant);
        }
        said.insert("strict".to_owned(), json!(null));
        let strict = body.pointer("/tools/0/function/strict").cloned();
        let name = body.pointer("/messages/0/name").cloned();
        body["strict"] = json!(strict);
        body["name"] = json!(name);
        let said = body.as_object_mut().expect("an object");
        said.retain(|key, value| !value.is_null() && key != "tools" && key != "messages");
        assert_eq!(body, wanted);
        assert_eq!(fields(&losses, Severity::Advisory), advisory);
        assert_eq!(fields(&losses, Severity::Material), material);
    }
    let usage = json!({"include_usage": true});
    check(
        &provider::COMPATIBLE,
        json!({"max_completion_tokens": 9, "seed": 7, "n": 2, "logprobs": true, "top_logprobs": 3,
            "presence_penalty": 0.5, "user": "u", "service_tier": "flex", "parallel_tool_calls": false,
            "stream_options": usage, "strict": true, "name": "ann"}),
        &[],
        &[],
    );
    check(
        &provider::MISTRAL,
        json!({"max_tokens": 9, "random_seed": 7, "n": 2, "presence_penalty": 0.5,
            "parallel_tool_calls": false, "strict": true}),
        &[
            Field::Logprobs,
            Field::ServiceTier,
            Field::User,
            Field::Message(0),
        ],
        &[],
    );
    check(
        &provider::GROQ,
        json!({"max_completion_tokens": 9, "seed": 7, "presence_penalty": 0.5, "user": "u",
            "parallel_tool_calls": false, "stream_options": usage, "strict": true}),
        &[Field::Logprobs, Field::ServiceTier, Field::Message(0)],
        &[Field::Choices],
    );
    check(
        &provider::DEEPSEEK,
        json!({"max_tokens": 9, "logprobs": true, "top_logprobs": 3, "presence_penalty": 0.5,
            "stream_options": usage, "name": "ann"}),
        &[
            Field::ParallelToolCalls,
            Field::Seed,
            Field::ServiceTier,
            Field::User,
            Field::Tool(0),
        ],
        &[Field::Choices, Field::Output],
    );
    check(
        &provider::COHERE,
        json!({"max_completion_tokens": 9, "seed": 7, "logprobs": true, "top_logprobs": 3,
            "presence_penalty": 0.5, "user": "u", "stream_options": usage, "strict": true, "name": "ann"}),
        &[Field::ParallelToolCalls, Field::ServiceTier],
        &[Field::Choices],
    );
    check(
        &provider::SAMBANOVA,
        json!({"max_completion_tokens": 9, "seed": 7, "n": 2, "logprobs": true, "top_logprobs": 3,
            "user": "u", "service_tier": "flex", "parallel_tool_calls": false, "stream_options": usage,
            "strict": true, "name": "ann"}),
        &[Field::PresencePenalty],
        &[],
    );
    check(
        &provider::OLLAMA,
        json!({"max_tokens": 9, "seed": 7, "logprobs": true, "top_logprobs": 3, "presence_penalty": 0.5,
            "stream_options": usage, "strict": true, "name": "ann"}),
        &[Field::ParallelToolCalls, Field::ServiceTier, Field::User],
        &[Field::Choices, Field::ToolChoice],
    );
}

#[test]
fn a_choice_of_no_tool_is_kept_where_it_cannot_be_said() {
    let mut request = request();
    request.tools = vec![function("f")];
    request.tool_choice = Some(ToolChoice::None);
    let (body, losses) = encode(&request, &provider::OLLAMA, "m");
    assert_eq!((body.get("tools"), body.get("tool_choice")), (None, None));
    assert!(losses.is_empty());
}

#[test]
fn ids_of_calls_are_short_where_they_must_be() {
    let mut request = request();
    request.turns = vec![
        turn(
            Role::Assistant,
            0,
            vec![call("toolu_01A", "f"), call("abcDEF123", "f")],
        ),
        turn(
            Role::User,
            1,
            vec![
                result("toolu_01A", vec![text("1")], None),
                result("abcDEF123", vec![text("2")], None),
            ],
        ),
    ];
    let ids = |body: &Value| {
        let calls = [0, 1].map(|index| body["messages"][0]["tool_calls"][index]["id"].clone());
        let results = [1, 2].map(|index| body["messages"][index]["tool_call_id"].clone());
        assert_eq!(calls, results);
        calls.map(|id| id.as_str().expect("an id").to_owned())
    };
    let (body, _) = strict(&request);
    assert_eq!(ids(&body), ["toolu_01A", "abcDEF123"]);
    let (body, losses) = encode(&request, &provider::MISTRAL, "m");
    let [short, kept] = ids(&body);
    assert_eq!(kept, "abcDEF123");
    assert_eq!(short.len(), 9);
    assert!(short.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{short}");
    assert!(losses.is_empty());
    let (again, _) = encode(&request, &provider::MISTRAL, "m");
    assert_eq!(ids(&again), [short, kept]);
}
