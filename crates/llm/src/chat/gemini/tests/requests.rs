//! Requests, decoded and encoded.

use serde_json::{Value, json};

use super::{GEMINI_2, GEMINI_2_5, GEMINI_2_5_PRO, GEMINI_3, GEMINI_3_PRO, encode, request, target};
use crate::{
    Format, Losses, Site,
    chat::{
        Client, Output, Part, PartBody, Reasoned, Reasoning, ReasoningMode, Request, Role, Seal, Tool,
        ToolBody, ToolCall, ToolChoice, ToolKind, ToolResult, Turn, Upstream,
        gemini::{Gemini, message::UNSIGNED},
    },
    json,
    media::{Media, MediaKind, Source},
};

#[test]
fn refuses_what_breaks_the_format() {
    #[track_caller]
    fn check(document: Value, param: &str) {
        let mut whole = json!({"contents": [{"role": "user", "parts": [{"text": "x"}]}]});
        for (key, value) in document.as_object().unwrap() {
            whole[key] = value.clone();
        }
        let error = Gemini
            .decode_request(whole.to_string().as_bytes(), &mut Losses::default())
            .unwrap_err();
        assert_eq!(error.status, 400);
        assert_eq!(error.param.as_deref(), Some(param), "{}", error.message);
    }
    let part = |part: Value| json!({"contents": [{"role": "user", "parts": [part]}]});
    let model = |part: Value| json!({"contents": [{"role": "model", "parts": [part]}]});
    let config = |key: &str, value: Value| json!({"generationConfig": {key: value}});

    check(json!({"contents": null}), "contents");
    check(json!({"contents": []}), "contents");
    check(json!({"contents": "hi"}), "contents");
    check(
        json!({"contents": [{"role": "assistant", "parts": []}]}),
        "contents[0].role",
    );
    check(part(json!({"text": 5})), "contents[0].parts[0].text");
    check(part(json!("text")), "contents[0].parts[0]");
    check(
        part(json!({"inlineData": {"mimeType": "image/png", "data": "not base64!"}})),
        "contents[0].parts[0].inlineData.data",
    );
    check(
        part(json!({"inlineData": {"data": "AAAA"}})),
        "contents[0].parts[0].inlineData.mimeType",
    );
    check(
        part(json!({"fileData": {"mimeType": "image/png"}})),
        "contents[0].parts[0].fileData.fileUri",
    );
    check(
        part(json!({"functionCall": {"name": "f"}})),
        "contents[0].parts[0].functionCall",
    );
    check(
        model(json!({"functionCall": {"args": {}}})),
        "contents[0].parts[0].functionCall.name",
    );
    check(
        model(json!({"functionCall": {"name": "f", "args": []}})),
        "contents[0].parts[0].functionCall.args",
    );
    check(
        part(json!({"functionResponse": {"name": "f", "response": {}}})),
        "contents[0].parts[0].functionResponse.name",
    );
    check(
        part(json!({"thought_signature": "a", "thoughtSignature": "b", "text": ""})),
        "contents[0].parts[0]",
    );
    check(config("topK", json!(1.5)), "generationConfig.topK");
    check(
        config("temperature", json!("hot")),
        "generationConfig.temperature",
    );
    check(
        config("responseSchema", json!(1)),
        "generationConfig.responseSchema",
    );
    check(
        config("responseJsonSchema", json!([])),
        "generationConfig.responseJsonSchema",
    );
    check(
        json!({"toolConfig": {"functionCallingConfig": {"mode": "SOMETIMES"}}}),
        "toolConfig.functionCallingConfig.mode",
    );
    check(
        json!({"tools": [{"functionDeclarations": [{}]}]}),
        "tools[0].functionDeclarations[0].name",
    );
    check(
        json!({"tools": [{"functionDeclarations": [{"name": "f", "parameters": {}, "parametersJsonSchema": {}}]}]}),
        "tools[0].functionDeclarations[0]",
    );
}

#[test]
fn understands_what_other_formats_can_say() {
    let asked = request(json!({
        "contents": [
            {"role": "user", "parts": [{"inline_data": {"mime_type": "image/png", "data": "-_8"}}]},
            {"role": "model", "parts": [{"text": "I ", "thought": true}]},
            {"role": "model", "parts": [{"text": "see.", "thought": true}]},
            {"role": "model", "parts": [{"text": "", "thought": true, "thoughtSignature": "bWVzc2FnZXM6c2ln"}]},
            {"role": "model", "parts": [{"text": "A "}]},
            {"role": "model", "parts": [{"text": "cat."}, {"functionCall": {"name": "f"}}, {"functionCall": {"name": "f"}}]},
            {"role": "user", "parts": [
                {"functionResponse": {"name": "f", "response": {"output": "one"}}},
                {"functionResponse": {"name": "f", "response": {"n": 2}}},
            ]},
        ],
        "tools": [{"functionDeclarations": [{"name": "f", "parameters": {"type": "OBJECT", "properties": {"a": {"type": "STRING", "nullable": true}}}}], "googleSearch": {}}],
        "generationConfig": {"thinkingConfig": {"thinkingBudget": -1, "includeThoughts": true}, "responseModalities": ["TEXT"]},
        "cachedContent": "cachedContents/x",
    }));
    assert_eq!(asked.turns.len(), 3, "what the model said in pieces is one turn");
    assert!(matches!(
        &asked.turns[0].parts[0].body,
        PartBody::Media(Media { kind: MediaKind::Image, source: Source::Inline { data, .. }, .. }) if data == "+/8="
    ));
    let said = &asked.turns[1].parts;
    assert_eq!(said.len(), 4);
    assert!(matches!(
        &said[0].body,
        PartBody::Reasoning(Reasoned { text, seal: Some(Seal { issuer: Format::Messages, bytes }), redacted: false })
            if text == "I see." && &**bytes == "sig"
    ));
    assert!(matches!(&said[1].body, PartBody::Text(text) if text == "A cat."));
    let ids: Vec<&str> = said
        .iter()
        .filter_map(|part| match &part.body {
            PartBody::ToolCall(call) => Some(call.id.as_str()),
            _ => None,
        })
        .collect();
    let answered: Vec<(&str, &PartBody)> = asked.turns[2]
        .parts
        .iter()
        .filter_map(|part| match &part.body {
            PartBody::ToolResult(result) => Some((result.call.as_str(), &result.parts[0].body)),
            _ => None,
        })
        .collect();
    assert_ne!(ids[0], ids[1]);
    assert_eq!([answered[0].0, answered[1].0], [ids[0], ids[1]]);
    assert!(matches!(answered[0].1, PartBody::Text(text) if text == "one"));
    assert!(matches!(answered[1].1, PartBody::Text(text) if text == r#"{"n":2}"#));
    assert!(matches!(
        &asked.tools[0].body,
        ToolBody::Function { parameters: Some(schema), .. }
            if schema.get() == r#"{"properties":{"a":{"type":["string","null"]}},"type":"object"}"#
    ));
    assert!(matches!(&asked.tools[1].body, ToolBody::Native { kind, .. } if kind == "googleSearch"));
    let reasoning = asked.reasoning.unwrap();
    assert_eq!(reasoning.mode, Some(ReasoningMode::Adaptive));
    assert_eq!(reasoning.display.as_deref(), Some("summarized"));
    let keys: Vec<&str> = asked
        .extensions
        .0
        .iter()
        .map(|extension| extension.key.as_str())
        .collect();
    assert_eq!(keys, ["cachedContent"]);
}

#[test]
fn an_unknown_part_is_kept_as_it_is() {
    let part = json!({"hologram": {"depth": 3}, "thoughtSignature": "QUJD"});
    let asked = request(json!({"contents": [{"role": "user", "parts": [part]}]}));
    assert!(matches!(&asked.turns[0].parts[0].body, PartBody::Native { kind, .. } if kind == "hologram"));
    assert_eq!(encode(&asked, GEMINI_3).0["contents"][0]["parts"], json!([part]));
}

fn turn(role: Role, parts: Vec<PartBody>) -> Turn {
    Turn {
        role,
        parts: parts.into_iter().map(Part::new).collect(),
        origin: 0,
        name: None,
        extensions: Default::default(),
    }
}

fn call(id: &str, arguments: &str) -> PartBody {
    PartBody::ToolCall(ToolCall {
        id: id.into(),
        name: "look.up".into(),
        arguments: arguments.into(),
        kind: ToolKind::Function,
    })
}

fn result(call: &str, parts: Vec<PartBody>, is_error: Option<bool>) -> PartBody {
    PartBody::ToolResult(ToolResult {
        call: call.into(),
        parts: parts.into_iter().map(Part::new).collect(),
        is_error,
    })
}

fn thought(text: &str, issuer: Format, bytes: &str) -> PartBody {
    PartBody::Reasoning(Reasoned {
        text: text.into(),
        seal: Some(Seal {
            issuer,
            bytes: bytes.into(),
        }),
        redacted: text.is_empty(),
    })
}

fn text(text: &str) -> PartBody {
    PartBody::Text(text.into())
}

/// Returns a request with these turns after a first one of the user.
fn conversation(turns: Vec<Turn>) -> Request {
    let mut asked = request(json!({}));
    asked.turns.extend(turns);
    asked
}

#[test]
fn signatures_hang_where_they_came_from() {
    #[track_caller]
    fn check(model: &str, parts: Vec<PartBody>, expected: Value, losses: &[&str]) {
        let asked = conversation(vec![turn(Role::Assistant, parts)]);
        let (document, lost, _) = encode(&asked, model);
        assert_eq!(document["contents"][1]["parts"], expected);
        assert_eq!(lost, losses);
    }
    let plain = |id: &str| json!({"functionCall": {"id": id, "name": "look.up", "args": {}}});
    let signed = |id: &str, signature: &str| {
        let mut call = plain(id);
        call["thoughtSignature"] = json!(signature);
        call
    };
    let own = || thought("", Format::Gemini, "U0lH");
    check(
        GEMINI_3,
        vec![own(), call("a", "{}"), call("b", "")],
        json!([signed("a", "U0lH"), plain("b")]),
        &[],
    );
    // Clients of formats with one place for reasoning send the signature before the text.
    check(
        GEMINI_3,
        vec![own(), text("Let me see."), call("a", "{}")],
        json!([{"text": "Let me see."}, signed("a", "U0lH")]),
        &[],
    );
    check(
        GEMINI_2_5,
        vec![own(), text("Let me see."), call("a", "{}")],
        json!([{"text": "Let me see.", "thoughtSignature": "U0lH"}, plain("a")]),
        &[],
    );
    // Histories of other models have calls that nobody signed.
    check(
        GEMINI_3,
        vec![text("Hm."), call("a", "{}"), call("b", "{}")],
        json!([{"text": "Hm."}, signed("a", UNSIGNED), plain("b")]),
        &[],
    );
    check(GEMINI_2_5, vec![call("a", "{}")], json!([plain("a")]), &[]);
    check(
        GEMINI_3,
        vec![
            thought("I think.", Format::Messages, "s"),
            thought("", Format::Messages, "s"),
            text("So."),
        ],
        json!([{"text": "I think.", "thought": true}, {"text": "So."}]),
        &["contents[0]"],
    );
    check(
        GEMINI_3,
        vec![text("So."), own()],
        json!([{"text": "So."}, {"text": "", "thoughtSignature": "U0lH"}]),
        &[],
    );
    // Ids that were made up here are not known to the provider.
    check(
        GEMINI_2_5,
        vec![call("call_gemini_0123456789abcdef", "{}")],
        json!([{"functionCall": {"name": "look.up", "args": {}}}]),
        &[],
    );
}

#[test]
fn results_name_their_tool() {
    #[track_caller]
    fn check(model: &str, given: PartBody, expected: Value) {
        let asked = conversation(vec![
            turn(Role::Assistant, vec![call("a", "{}")]),
            turn(Role::User, vec![given]),
        ]);
        let (document, _, _) = encode(&asked, model);
        assert_eq!(document["contents"][2]["parts"], expected);
    }
    let response =
        |response: Value| json!({"functionResponse": {"id": "a", "name": "look.up", "response": response}});
    let picture = || {
        PartBody::Media(Media {
            kind: MediaKind::Image,
            source: Source::inline("image/png", "AAAA").unwrap(),
            name: None,
            detail: None,
            context: None,
            citable: None,
        })
    };
    let blob = json!({"inlineData": {"mimeType": "image/png", "data": "AAAA"}});
    check(
        GEMINI_2_5,
        result("a", vec![text("21 "), text("degrees")], None),
        json!([response(json!({"output": "21 degrees"}))]),
    );
    check(
        GEMINI_2_5,
        result("a", vec![text("{\"celsius\": 21}")], Some(false)),
        json!([response(json!({"celsius": 21}))]),
    );
    check(
        GEMINI_2_5,
        result("a", vec![text("[1]")], None),
        json!([response(json!({"output": "[1]"}))]),
    );
    check(
        GEMINI_2_5,
        result("a", vec![text("{}")], Some(true)),
        json!([response(json!({"error": "{}"}))]),
    );
    check(
        GEMINI_2_5,
        result("a", vec![picture()], None),
        json!([response(json!({"output": ""})), blob]),
    );
    let mut within = response(json!({"output": ""}));
    within["functionResponse"]["parts"] = json!([blob]);
    check(GEMINI_3, result("a", vec![picture()], None), json!([within]));
}

#[test]
fn refuses_what_cannot_be_sent() {
    #[track_caller]
    fn check(asked: &Request, model: &str, param: &str) {
        let site = Site::default();
        let encoded = Gemini.encode_request(asked, &target(&site, model), &mut Losses::default());
        let Err(error) = encoded else {
            panic!("it was sent");
        };
        assert_eq!(error.status, 422, "{}", error.message);
        assert_eq!(error.param.as_deref(), Some(param), "{}", error.message);
    }
    let called =
        |id: &str, arguments: &str| conversation(vec![turn(Role::Assistant, vec![call(id, arguments)])]);
    check(&called("", "{}"), GEMINI_3, "messages[0]");
    check(&called("a", "[]"), GEMINI_3, "messages[0]");
    check(
        &conversation(vec![turn(Role::User, vec![result("a", vec![], None)])]),
        GEMINI_3,
        "messages[0]",
    );
    let mut asked = request(json!({}));
    asked.output = Output::JsonSchema {
        name: String::new(),
        description: None,
        schema: json::raw("no schema"),
        strict: None,
    };
    check(&asked, GEMINI_3, "response_format");
    let unheard = |effort: &str| {
        let mut asked = request(json!({}));
        asked.reasoning = Some(Reasoning {
            effort: Some(effort.into()),
            ..Reasoning::default()
        });
        asked
    };
    check(&unheard("extreme"), GEMINI_3, "reasoning_effort");
    check(&unheard("none"), GEMINI_3_PRO, "reasoning_effort");
    let mut asked = request(json!({}));
    asked.tools = vec![tool(json!({"$ref": "#/nowhere"}))];
    check(&asked, GEMINI_2, "tools[0]");
}

fn tool(schema: Value) -> Tool {
    Tool {
        body: ToolBody::Function {
            name: "look up".into(),
            description: None,
            parameters: Some(json::raw(&schema)),
            strict: Some(true),
        },
        cache: None,
        extensions: Default::default(),
    }
}

#[test]
fn tools_are_said_as_the_model_takes_them() {
    let mut asked = request(json!({}));
    let schema = json!({"type": "object", "properties": {"a": {"const": 1}}, "additionalProperties": false});
    asked.tools = vec![
        tool(schema.clone()),
        tool(json!({"type": "object", "properties": {}})),
    ];
    asked.tool_choice = Some(ToolChoice::Tool("look up".into()));
    asked.parallel_tool_calls = Some(false);
    let name = "look_up_e70e0720";
    let (document, losses, _) = encode(&asked, GEMINI_2_5);
    assert_eq!(
        document["tools"],
        json!([{"functionDeclarations": [
            {"name": name, "parametersJsonSchema": schema},
            {"name": name, "parametersJsonSchema": {"type": "object", "properties": {}}},
        ]}])
    );
    assert_eq!(
        document["toolConfig"],
        json!({"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": [name]}})
    );
    assert_eq!(losses, ["tools", "tools", "toolConfig"]);
    let (document, _, _) = encode(&asked, GEMINI_2);
    assert_eq!(
        document["tools"],
        json!([{"functionDeclarations": [
            {"name": name, "parameters": {"type": "object", "properties": {"a": {"type": "string", "enum": ["1"]}}}},
            {"name": name},
        ]}])
    );
}

#[test]
fn thinking_is_said_as_the_model_takes_it() {
    #[track_caller]
    fn check(model: &str, reasoning: Reasoning, expected: Value, losses: &[&str]) {
        let mut asked = request(json!({}));
        asked.reasoning = Some(reasoning);
        let (document, lost, _) = encode(&asked, model);
        let config = &document["generationConfig"]["thinkingConfig"];
        assert_eq!(*config, expected);
        assert_eq!(lost, losses);
    }
    let effort = |effort: &str| Reasoning {
        effort: Some(effort.into()),
        ..Reasoning::default()
    };
    let mode = |mode, budget| Reasoning {
        mode: Some(mode),
        budget,
        ..Reasoning::default()
    };
    let lost = &["generationConfig.thinkingConfig"];
    let level = |level: &str| json!({"thinkingLevel": level});
    let budget = |budget: i64| json!({"thinkingBudget": budget});
    check(GEMINI_3, effort("none"), level("MINIMAL"), &[]);
    check(GEMINI_3, effort("minimal"), level("MINIMAL"), &[]);
    check(GEMINI_3, effort("low"), level("LOW"), &[]);
    check(GEMINI_3, effort("medium"), level("MEDIUM"), &[]);
    check(GEMINI_3, effort("high"), level("HIGH"), &[]);
    check(GEMINI_3, effort("max"), level("HIGH"), lost);
    check(GEMINI_3_PRO, effort("minimal"), level("LOW"), lost);
    check(GEMINI_3_PRO, effort("medium"), level("HIGH"), &[]);
    check(GEMINI_3_PRO, effort("high"), level("HIGH"), &[]);
    check(
        GEMINI_3_PRO,
        mode(ReasoningMode::Disabled, None),
        level("LOW"),
        lost,
    );
    check(GEMINI_2_5, effort("none"), budget(0), &[]);
    check(GEMINI_2_5, effort("low"), budget(1024), &[]);
    check(GEMINI_2_5, effort("medium"), budget(8192), &[]);
    check(GEMINI_2_5_PRO, effort("xhigh"), budget(32768), &[]);
    check(GEMINI_2_5, mode(ReasoningMode::Disabled, None), budget(0), &[]);
    check(
        GEMINI_2_5_PRO,
        mode(ReasoningMode::Disabled, None),
        budget(128),
        lost,
    );
    check(
        GEMINI_2_5,
        mode(ReasoningMode::Enabled, Some(2048)),
        json!({"thinkingBudget": 2048, "includeThoughts": true}),
        &[],
    );
    check(
        GEMINI_2_5,
        mode(ReasoningMode::Enabled, Some(60_000)),
        json!({"thinkingBudget": 24_576, "includeThoughts": true}),
        lost,
    );
    check(
        GEMINI_2_5,
        mode(ReasoningMode::Adaptive, None),
        json!({"thinkingBudget": -1, "includeThoughts": true}),
        &[],
    );
    check(
        GEMINI_3,
        mode(ReasoningMode::Adaptive, None),
        json!({"includeThoughts": true}),
        &[],
    );
    check(GEMINI_2, effort("high"), Value::Null, lost);
    check(GEMINI_2, mode(ReasoningMode::Disabled, None), Value::Null, &[]);
}

#[test]
fn numbers_keep_the_precision_of_the_provider() {
    let mut asked = request(json!({}));
    asked.sampling.temperature = Some(0.7);
    asked.sampling.top_p = Some(1.0);
    asked.sampling.presence_penalty = Some(0.123_456_789);
    asked.sampling.seed = Some(1 << 32);
    asked.max_output = Some(u64::MAX);
    let mut losses = Losses::default();
    let site = Site::default();
    let (body, _) = Gemini
        .encode_request(&asked, &target(&site, GEMINI_2_5), &mut losses)
        .unwrap();
    let text = String::from_utf8(body.to_vec()).unwrap();
    let config = r#""generationConfig":{"temperature":0.7,"topP":1,"seed":0,"maxOutputTokens":2147483647,"presencePenalty":0.12345679}"#;
    assert!(text.contains(config), "{text}");
}

/// The vector of the compatibility specification: a body with nothing but instructions.
#[test]
fn a_request_may_be_instructions_alone() {
    let mut asked = request(json!({}));
    asked.turns.clear();
    asked.instructions = vec![Part::text("Be brief.")];
    assert_eq!(
        encode(&asked, GEMINI_2_5).0,
        json!({
            "contents": null, "tools": null, "generationConfig": {},
            "systemInstruction": {"parts": [{"text": "Be brief."}]},
        })
    );
}

#[test]
fn says_what_is_lost() {
    #[track_caller]
    fn check(change: impl FnOnce(&mut Request), losses: &[&str]) {
        let mut asked = request(json!({}));
        change(&mut asked);
        assert_eq!(encode(&asked, GEMINI_2_5).1, losses);
    }
    let native = |format| PartBody::Native {
        format,
        kind: "search_result".into(),
        raw: json::raw(&json!({})),
    };
    check(|asked| asked.user = Some("u".into()), &["user"]);
    check(
        |asked| asked.service_tier = Some("scale".into()),
        &["serviceTier"],
    );
    check(|asked| asked.service_tier = Some("auto".into()), &[]);
    check(
        |asked| asked.turns.push(turn(Role::System, vec![text("Hush.")])),
        &["contents[0]"],
    );
    check(
        |asked| asked.turns[0].parts.push(Part::new(native(Format::Messages))),
        &["!contents[0]"],
    );
    check(
        |asked| asked.instructions.push(Part::new(native(Format::Messages))),
        &["!systemInstruction"],
    );
    check(
        |asked| {
            asked.turns[0].parts.push(Part::new(PartBody::Media(Media {
                kind: MediaKind::Image,
                source: Source::File {
                    issuer: Format::OpenAi,
                    id: "file_1".into(),
                },
                name: None,
                detail: None,
                context: None,
                citable: None,
            })));
        },
        &["!contents[0]"],
    );
    check(
        |asked| asked.turns[0].parts[0].cache = Some(crate::chat::CacheMark { ttl: None }),
        &["cachedContent"],
    );
}
