//! What the strict upstreams take and what they refuse.

use serde_json::{Value, json};
use testkit::{fixture, strict, strict::Refusal};

#[test]
fn openai_takes_what_the_provider_takes() {
    check_openai(json!({}), None);
    check_openai(json!({"messages": conversation()}), None);
    check_openai(
        json!({"temperature": 2, "stop": ["a"], "seed": 1, "user": "u", "n": 2}),
        None,
    );
    check_openai(
        json!({"stream": true, "stream_options": {"include_usage": true}}),
        None,
    );
    check_openai(
        json!({"tools": [tool("f")], "tool_choice": "required", "parallel_tool_calls": false}),
        None,
    );
    check_openai(
        json!({"model": "o3", "max_completion_tokens": 9, "reasoning_effort": "low"}),
        None,
    );
    check_openai(
        json!({"response_format": schema("answer", strict_schema())}),
        None,
    );
    check_openai(
        json!({"messages": [{"role": "user", "content": [
            {"type": "text", "text": "what?"},
            {"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{}", fixture::PIXEL)}},
        ]}]}),
        None,
    );
}

#[test]
fn openai_refuses_what_the_provider_refuses() {
    check_openai(json!({"messages": []}), Some("messages"));
    check_openai(json!({"max_output": 1}), Some("max_output"));
    check_openai(json!({"temperature": 2.1}), Some("temperature"));
    check_openai(json!({"stop": []}), Some("stop"));
    check_openai(json!({"tools": null}), Some("tools"));
    check_openai(json!({"tools": []}), Some("tools"));
    check_openai(
        json!({"tools": [tool("get weather")]}),
        Some("tools[0].function.name"),
    );
    check_openai(json!({"tool_choice": "auto"}), Some("tool_choice"));
    check_openai(json!({"parallel_tool_calls": true}), Some("parallel_tool_calls"));
    check_openai(
        json!({"stream_options": {"include_usage": true}}),
        Some("stream_options"),
    );
    check_openai(json!({"model": "o3", "max_tokens": 9}), Some("max_tokens"));
    check_openai(json!({"reasoning_effort": "low"}), Some("reasoning_effort"));
    check_openai(
        json!({"response_format": schema("the answer", strict_schema())}),
        Some("response_format.json_schema.name"),
    );
    check_openai(
        json!({"response_format": schema("answer", json!({"type": "object", "properties": {}}))}),
        Some("response_format.json_schema.schema"),
    );
    check_openai(
        json!({"response_format": {"type": "json_object"}}),
        Some("messages"),
    );
    check_turn(json!([{"role": "human", "content": "a"}]), "messages[0].role");
    check_turn(json!([{"role": "user", "content": null}]), "messages[0].content");
    check_turn(
        json!([{"role": "user", "content": [{"type": "thinking", "thinking": "a"}]}]),
        "messages[0].content[0].type",
    );
    check_turn(
        json!([{"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {}}]}]),
        "messages[0].content[0].cache_control",
    );
    check_turn(
        json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": ""}}]}]),
        "messages[0].content[0].image_url.url",
    );
    check_turn(
        json!([{"role": "tool", "tool_call_id": "a", "content": "b"}]),
        "messages[0].role",
    );
    check_turn(json!([calls(&["a", "b"]), result("a")]), "messages");
    check_turn(
        json!([calls(&["a"]), {"role": "user", "content": "c"}]),
        "messages[1]",
    );
    check_turn(json!([calls(&["a", "a"])]), "messages[0].tool_calls[1].id");
    check_turn(
        json!([{"role": "assistant", "content": null}]),
        "messages[0].content",
    );
}

#[test]
fn messages_takes_what_the_provider_takes() {
    check_messages(json!({}), None);
    check_messages(
        json!({"messages": [user("a"), user("b"), {"role": "system", "content": "c"}]}),
        None,
    );
    check_messages(
        json!({"output_config": {"effort": "low", "format": {"type": "json_schema", "schema": strict_schema()}}}),
        None,
    );
    check_messages(
        json!({"system": [{"type": "text", "text": "a", "cache_control": mark()}]}),
        None,
    );
    check_messages(
        json!({"max_tokens": 2048, "thinking": {"type": "enabled", "budget_tokens": 1024}}),
        None,
    );
    check_messages(
        json!({"tools": [{"name": "f", "input_schema": {"type": "object"}}], "tool_choice": {"type": "any"}}),
        None,
    );
    check_messages(
        json!({"messages": [
            user("a"),
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": fixture::seal("hm")},
                {"type": "tool_use", "id": "t1", "name": "f", "input": {}},
                {"type": "tool_use", "id": "t2", "name": "f", "input": {}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t2", "content": "x", "is_error": true},
                {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "y"}]},
                {"type": "text", "text": "go on"},
            ]},
        ]}),
        None,
    );
}

#[test]
fn messages_refuses_what_the_provider_refuses() {
    check_messages(json!({"max_tokens": null}), Some("max_tokens"));
    check_messages(json!({"max_tokens": 0}), Some("max_tokens"));
    check_messages(json!({"temperature": 1.5}), Some("temperature"));
    check_messages(json!({"n": 1}), Some("n"));
    check_messages(json!({"tool_choice": {"type": "auto"}}), Some("tool_choice"));
    check_messages(
        json!({"thinking": {"type": "enabled", "budget_tokens": 512}}),
        Some("thinking.enabled.budget_tokens"),
    );
    check_messages(
        json!({"thinking": {"type": "enabled", "budget_tokens": 1024}}),
        Some(""),
    );
    check_messages(json!({"messages": []}), Some("messages"));
    check_messages(
        json!({"messages": [{"role": "assistant", "content": "a"}]}),
        Some("messages"),
    );
    check_messages(
        json!({"messages": [{"role": "system", "content": "a"}]}),
        Some("messages"),
    );
    check_messages(
        json!({"messages": [user("a"), {"role": "tool", "content": "a"}]}),
        Some("messages.1.role"),
    );
    check_messages(
        json!({"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}}),
        Some("output_config.format.schema"),
    );
    check_messages(
        json!({"output_config": {"effort": "huge"}}),
        Some("output_config.effort"),
    );
    check_messages(json!({"messages": [user(" ")]}), Some("messages.0"));
    check_blocks(json!([{"type": "text", "text": ""}]), "messages.0.content.0");
    check_blocks(json!([{"type": "image_url"}]), "messages.0.content.0");
    check_blocks(
        json!([{"type": "image", "source": {"type": "url", "url": "http://a/b"}}]),
        "messages.0.content.0.source.url",
    );
    check_blocks(
        json!([{"type": "tool_result", "tool_use_id": "t1"}]),
        "messages.0",
    );
    check_answer(
        json!([{"type": "tool_use", "id": "t1", "name": "f", "input": {}}]),
        json!([text("b")]),
        "messages.2",
    );
    check_answer(
        json!([{"type": "tool_use", "id": "t1", "name": "f", "input": {}}]),
        json!([text("b"), {"type": "tool_result", "tool_use_id": "t1"}]),
        "messages.2",
    );
    check_answer(
        json!([{"type": "tool_use", "id": "t 1", "name": "f", "input": {}}]),
        json!([text("b")]),
        "messages.1.content.0.id",
    );
    check_answer(
        json!([{"type": "thinking", "thinking": "hm", "signature": "other"}]),
        json!([text("b")]),
        "messages.1.content.0",
    );
    let marked = json!({"type": "text", "text": "a", "cache_control": mark()});
    check_messages(
        json!({"system": [marked, marked, marked, marked, marked]}),
        Some(""),
    );
}

/// Judges a good request with `members` in place of its own.
fn check_openai(members: Value, refused: Option<&str>) {
    let body = with(fixture::openai::request("gpt-4o", false), members);
    compare(strict::openai::check_body(&body), refused, &body);
}

fn check_turn(messages: Value, refused: &str) {
    check_openai(json!({"messages": messages}), Some(refused));
}

fn check_messages(members: Value, refused: Option<&str>) {
    let body = with(fixture::messages::request("claude-sonnet-4-5", false), members);
    compare(strict::messages::check_body(&body), refused, &body);
}

fn check_blocks(blocks: Value, refused: &str) {
    check_messages(
        json!({"messages": [{"role": "user", "content": blocks}]}),
        Some(refused),
    );
}

fn check_answer(assistant: Value, user_blocks: Value, refused: &str) {
    let messages = json!([
        user("a"),
        {"role": "assistant", "content": assistant},
        {"role": "user", "content": user_blocks},
    ]);
    check_messages(json!({"messages": messages}), Some(refused));
}

fn compare(judged: Result<(), Refusal>, refused: Option<&str>, body: &Value) {
    let param = judged.err().map(|refusal| refusal.param);
    assert_eq!(param.as_deref(), refused, "{body}");
}

fn with(mut body: Value, members: Value) -> Value {
    for (key, value) in members.as_object().into_iter().flatten() {
        body[key] = value.clone();
    }
    body
}

fn conversation() -> Value {
    json!([
        {"role": "developer", "content": "a"},
        {"role": "user", "content": "b"},
        calls(&["x", "y"]),
        result("y"),
        result("x"),
        {"role": "assistant", "content": "c"},
    ])
}

fn calls(ids: &[&str]) -> Value {
    let calls: Vec<Value> = ids
        .iter()
        .map(|id| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}}))
        .collect();
    json!({"role": "assistant", "content": null, "tool_calls": calls})
}

fn result(id: &str) -> Value {
    json!({"role": "tool", "tool_call_id": id, "content": "r"})
}

fn tool(name: &str) -> Value {
    json!({"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}})
}

fn schema(name: &str, schema: Value) -> Value {
    json!({"type": "json_schema", "json_schema": {"name": name, "strict": true, "schema": schema}})
}

fn strict_schema() -> Value {
    json!({
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "required": ["a"],
        "additionalProperties": false,
    })
}

fn user(content: &str) -> Value {
    json!({"role": "user", "content": content})
}

fn text(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

fn mark() -> Value {
    json!({"type": "ephemeral"})
}

/// Judges a body with `more` members; names where the fault is expected to lie.
#[track_caller]
fn check_body(
    judge: impl Fn(&Value) -> Result<(), Refusal>,
    mut body: Value,
    more: Value,
    expected: Option<&str>,
) {
    if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
        body.extend(more);
    }
    let found = judge(&body).err().map(|refusal| refusal.param);
    assert_eq!(found.as_deref(), expected, "{body}");
}

#[test]
fn responses_are_judged_item_by_item() {
    let check = |more, expected| {
        let body = json!({"model": "gpt-5", "input": "a"});
        check_body(strict::responses::check_body, body, more, expected);
    };
    let call = json!({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"});
    let output = json!({"type": "function_call_output", "call_id": "c", "output": "x"});
    let thought = |seal: String| json!({"type": "reasoning", "summary": [{"type": "summary_text", "text": "t"}], "encrypted_content": seal});
    check(
        json!({"input": [{"role": "user", "content": "a"}, call, output]}),
        None,
    );
    check(
        json!({"input": [thought(fixture::seal("t")), call, output]}),
        None,
    );
    check(
        json!({"reasoning": {"effort": "low", "summary": "auto"}, "include": ["reasoning.encrypted_content"]}),
        None,
    );
    check(json!({"messages": []}), Some("messages"));
    check(json!({"input": []}), Some("input"));
    check(json!({"input": [call]}), Some("input"));
    check(json!({"input": [output]}), Some("input"));
    check(json!({"input": [thought("forged".to_owned())]}), Some("input"));
    check(
        json!({"input": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]}),
        Some("input[0].content[0].type"),
    );
    check(json!({"temperature": 1}), Some("temperature"));
    check(
        json!({"model": "gpt-4o", "reasoning": {"effort": "low"}}),
        Some("reasoning.effort"),
    );
    check(
        json!({"tools": [{"type": "function", "name": "f"}]}),
        Some("tools[0].parameters"),
    );
    check(json!({"tools": [{"type": "web_search"}]}), Some("tools[0].type"));
    check(
        json!({"text": {"format": {"type": "xml"}}}),
        Some("text.format.type"),
    );
}

#[test]
fn gemini_knows_its_fields_at_any_depth() {
    let check = |more, expected| {
        let body = json!({"contents": [{"role": "user", "parts": [{"text": "a"}]}]});
        check_body(strict::gemini::check_body, body, more, expected);
    };
    let turn = |role: &str, part: Value| json!({"role": role, "parts": [part]});
    let call = turn("model", json!({"functionCall": {"name": "f", "args": {}}}));
    let output = turn(
        "user",
        json!({"functionResponse": {"name": "f", "response": {"x": 1}}}),
    );
    let declared =
        |schema: Value| json!({"tools": [{"functionDeclarations": [{"name": "f", "parameters": schema}]}]});
    check(json!({}), None);
    check(
        json!({"tools": null, "contents": [turn("user", json!({"text": "a"})), call, output]}),
        None,
    );
    check(
        declared(json!({"type": "OBJECT", "properties": {"a": {"type": "STRING"}}})),
        None,
    );
    // A name may be written in either way.
    let named =
        json!({"system_instruction": {}, "contents": [{"parts": [{"inline_data": {"mime_type": "a"}}]}]});
    let named = strict::gemini::named(&named);
    assert_eq!(
        named.pointer("/contents/0/parts/0/inlineData/mimeType"),
        Some(&json!("a"))
    );
    assert_eq!(named.get("system_instruction"), None);
    check(json!({"messages": []}), Some("messages"));
    check(json!({"contents": []}), Some("contents"));
    check(
        json!({"contents": [turn("user", json!({"text": "a"})), call]}),
        Some("contents"),
    );
    check(json!({"contents": [output]}), Some("contents[0]"));
    check(
        json!({"contents": [turn("assistant", json!({"text": "a"}))]}),
        Some("contents[0].role"),
    );
    check(
        json!({"contents": [turn("user", json!({"text": "a", "inlineData": {}}))]}),
        Some("contents[0].parts[0]"),
    );
    check(
        json!({"contents": [turn("user", json!({"inlineData": {"mimeType": "image/png", "data": "AAAA", "detail": 1}}))]}),
        Some("contents[0].parts[0].inlineData.detail"),
    );
    check(
        json!({"contents": [turn("model", json!({"text": "a", "thoughtSignature": "forged"}))]}),
        Some("contents[0].parts[0].thoughtSignature"),
    );
    check(
        declared(json!({"type": "OBJECT", "additionalProperties": false})),
        Some("tools[0].functionDeclarations[0].parameters.additionalProperties"),
    );
    check(
        json!({"generationConfig": {"thinkingConfig": {"thinkingBudget": 1, "thinkingLevel": "low"}}}),
        Some("generationConfig.thinkingConfig"),
    );
    check(
        json!({"generationConfig": {"responseJsonSchema": {}}}),
        Some("generationConfig.responseMimeType"),
    );
}

#[test]
fn converse_wants_turns_that_alternate() {
    let check = |more, expected| {
        let body = json!({"messages": [{"role": "user", "content": [{"text": "a"}]}]});
        check_body(strict::converse::check_body, body, more, expected);
    };
    let turn = |role: &str, block: Value| json!({"role": role, "content": [block]});
    let asked = turn("user", json!({"text": "a"}));
    let call = turn(
        "assistant",
        json!({"toolUse": {"toolUseId": "c", "name": "f", "input": {}}}),
    );
    let output = turn(
        "user",
        json!({"toolResult": {"toolUseId": "c", "content": [{"text": "x"}]}}),
    );
    let tools = json!({"tools": [{"toolSpec": {"name": "f", "inputSchema": {"json": {}}}}]});
    let looped = json!([asked, call, output]);
    check(json!({"messages": looped, "toolConfig": tools}), None);
    check(
        json!({"system": [{"text": "s"}, {"cachePoint": {"type": "default"}}]}),
        None,
    );
    check(json!({"messages": looped}), Some("toolConfig"));
    check(json!({"model": "m"}), Some("model"));
    check(json!({"messages": [asked, asked]}), Some("messages[1]"));
    check(
        json!({"messages": [asked, call, asked], "toolConfig": tools}),
        Some("messages[2]"),
    );
    check(json!({"messages": [asked, call]}), Some("messages"));
    check(
        json!({"messages": [turn("user", json!({"text": " "}))]}),
        Some("messages[0].content[0].text"),
    );
    check(
        json!({"messages": [turn("user", json!({"text": "a", "cachePoint": {}}))]}),
        Some("messages[0].content[0]"),
    );
    check(json!({"toolConfig": {"tools": []}}), Some("toolConfig.tools"));
    check(
        json!({"toolConfig": {"tools": tools["tools"], "toolChoice": {"tool": {"name": "g"}}}}),
        Some("toolConfig.toolChoice"),
    );
    let forged = json!({"reasoningContent": {"reasoningText": {"text": "t", "signature": "forged"}}});
    check(
        json!({"messages": [asked, turn("assistant", forged), asked]}),
        Some("messages[1].content[0].reasoningContent.reasoningText"),
    );
}

#[tokio::test]
async fn bedrock_reads_keys_and_signatures() {
    use testkit::{Cloud, client};

    let bedrock = Cloud::Converse.start("AKIDEXAMPLE").await;
    let check = async |authorization: &str, expected: u16| {
        let headers = [
            ("authorization", authorization),
            ("x-amz-date", "20261121T101010Z"),
        ];
        let body = json!({"messages": [{"role": "user", "content": [{"text": "a"}]}]});
        let answer = client::post(bedrock.address(), "/model/m/converse", &headers, &body).await;
        assert_eq!(answer.status, expected, "{authorization}: {}", answer.text());
    };
    let signed = |scope: &str, headers: &str, signature: &str| {
        format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders={headers}, Signature={signature}")
    };
    let scope = "AKIDEXAMPLE/20261121/us-east-1/bedrock/aws4_request";
    let digits = "0123456789abcdef".repeat(4);
    check("Bearer AKIDEXAMPLE", 200).await;
    check(&signed(scope, "content-type;host;x-amz-date", &digits), 200).await;
    check("Bearer other", 403).await;
    check(
        &signed(&scope.replace("AKID", "akid"), "host;x-amz-date", &digits),
        403,
    )
    .await;
    check(
        &signed(&scope.replace("20261121", "20261122"), "host;x-amz-date", &digits),
        403,
    )
    .await;
    check(
        &signed(&scope.replace("bedrock/", "s3/"), "host;x-amz-date", &digits),
        403,
    )
    .await;
    check(&signed(scope, "x-amz-date;host", &digits), 403).await;
    check(&signed(scope, "host", &digits), 403).await;
    check(&signed(scope, "host;x-amz-date;x-amz-token", &digits), 403).await;
    check(&signed(scope, "host;x-amz-date", "0123"), 403).await;
}

#[test]
fn counters_refuse_what_the_providers_refuse() {
    #[track_caller]
    fn check(model: &str, body: Value, refused: Option<&str>) {
        let result = strict::count::check_bedrock(&body, model);
        let message = result.err().map(|refusal| refusal.message);
        match (message, refused) {
            (None, None) => {}
            (Some(message), Some(expected)) if message.contains(expected) => {}
            (message, expected) => panic!("{message:?} in place of {expected:?}"),
        }
    }
    let claude = "anthropic.claude-sonnet-4-5-20250929-v1:0";
    let converse =
        json!({"input": {"converse": {"messages": [{"role": "user", "content": [{"text": "hi"}]}]}}});
    check(claude, converse.clone(), None);
    check(&format!("us.{claude}"), converse.clone(), Some("invalid"));
    check("amazon.nova-pro-v1:0", converse, Some("support counting tokens"));
    check(
        claude,
        json!({"input": {"invokeModel": {"body": "!"}}}),
        Some("base64"),
    );
    check(claude, json!({"messages": []}), Some("Unknown parameter"));

    let plain = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
    assert!(strict::count::check_messages(&plain).is_ok());
    let mut limited = plain;
    limited["max_tokens"] = json!(1);
    assert!(strict::count::check_messages(&limited).is_err());
}

#[test]
fn clouds_refuse_flags_and_members_without_theirs() {
    #[track_caller]
    fn check(mut body: Value, refused: Option<&str>) {
        let message = strict::beta::check_body(&mut body)
            .err()
            .map(|refusal| refusal.message);
        assert_eq!(message.as_deref(), refused);
    }
    check(json!({"anthropic_version": "v"}), None);
    check(json!({"anthropic_beta": ["pdfs-2024-09-25"]}), None);
    check(
        json!({"anthropic_beta": ["files-api-2025-04-14"]}),
        Some("invalid beta flag"),
    );
    check(
        json!({"context_management": {}}),
        Some("Extra inputs are not permitted"),
    );
    check(
        json!({"context_management": {}, "anthropic_beta": ["context-management-2025-06-27"]}),
        None,
    );
}
