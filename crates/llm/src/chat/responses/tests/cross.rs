//! The format beside the others, through the door that the gateway uses.

use std::{fs, path::PathBuf};

use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Value, json};

use super::{Only, data, target};
use crate::{
    ApiError, Call, End, Endpoint, ErrorKind, Format, Inbound,
    provider::{Anthropic, Ask, CredentialKind, OpenAi, Provider},
};

const RESPONSES: &str = "/v1/responses";
const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/anthropic/v1/messages";

/// A server that speaks chat completions alone.
#[derive(Debug)]
struct Chat;

impl Provider for Chat {
    fn id(&self) -> &'static str {
        "chat"
    }

    fn name(&self) -> &'static str {
        "chat"
    }

    fn formats(&self, _operation: crate::Operation, _model: &str) -> &'static [Format] {
        &[Format::OpenAi]
    }

    fn path(&self, _ask: Ask, _target: &crate::Target<'_>) -> String {
        String::new()
    }

    fn host(&self) -> Option<&'static str> {
        None
    }

    fn credential(&self) -> CredentialKind {
        CredentialKind::Bearer
    }
}

fn try_call(
    path: &str,
    provider: &'static dyn Provider,
    model: &str,
    document: &Value,
) -> Result<Call, ApiError> {
    let place = Endpoint::find(path, "").unwrap();
    let inbound = Inbound::parse(place, Bytes::from(document.to_string()))?;
    inbound.call(&target(provider, model), &HeaderMap::new())
}

fn call(path: &str, provider: &'static dyn Provider, model: &str, document: &Value) -> Call {
    try_call(path, provider, model, document).unwrap()
}

fn body(call: &Call) -> Value {
    serde_json::from_slice(&call.body).unwrap()
}

fn losses(call: &Call) -> Vec<String> {
    super::words(&call.losses)
}

/// Returns a reply that was recorded in `format`.
fn recorded(format: &str, case: &str, file: &str) -> Bytes {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    Bytes::from(fs::read(root.join(format).join(case).join(file)).unwrap())
}

/// Returns the document that a client gets for a whole reply.
fn answer(call: Call, reply: impl Into<Bytes>) -> Value {
    serde_json::from_slice(&call.reply.response(reply.into()).unwrap().body).unwrap()
}

/// Returns the events that a client gets for a streamed reply.
fn stream(call: Call, reply: &[u8]) -> Vec<Value> {
    let mut stream = call.reply.stream();
    let mut out = stream.push(Bytes::copy_from_slice(reply)).to_vec();
    out.extend_from_slice(&stream.end(End::Clean));
    data(&out)
}

/// Returns the last event's response.
fn last(events: &[Value]) -> Value {
    events.last().unwrap()["response"].clone()
}

/// What a client asks for that edits files by a custom tool.
fn patcher() -> Value {
    json!({
        "model": "m",
        "instructions": "You edit files.",
        "input": [
            {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Sandbox: read-only."}]},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Weather and patch."}]},
        ],
        "tools": [
            {"type": "function", "name": "weather", "description": "Tells it.", "strict": false,
             "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
            {"type": "custom", "name": "apply_patch", "description": "Edits files.",
             "format": {"type": "grammar", "syntax": "lark", "definition": "start: /.+/"}},
        ],
        "tool_choice": "auto",
        "parallel_tool_calls": true,
        "reasoning": {"effort": "medium", "summary": "auto"},
        "store": false,
        "stream": true,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "key",
        "text": {"verbosity": "low"},
    })
}

#[test]
fn a_client_with_custom_tools_reaches_claude() {
    let call = call(RESPONSES, &Anthropic, "claude-sonnet-4-5", &patcher());
    let body = body(&call);
    let system: Vec<&Value> = body["system"]
        .as_array()
        .unwrap()
        .iter()
        .map(|block| &block["text"])
        .collect();
    assert_eq!(system, ["You edit files.", "Sandbox: read-only."]);
    assert_eq!(
        body["messages"],
        json!([{"role": "user", "content": [{"type": "text", "text": "Weather and patch."}]}])
    );
    assert_eq!(body["tools"][1]["name"], "apply_patch");
    assert_eq!(body["tools"][1]["input_schema"]["required"], json!(["input"]));
    let told = body["tools"][1]["description"].as_str().unwrap();
    assert!(
        told.starts_with("Edits files.") && told.ends_with("start: /.+/"),
        "{told}"
    );
    assert_eq!(body["thinking"]["type"], "enabled");
    let mut lost = losses(&call);
    lost.sort();
    assert!(lost.contains(&"prompt_cache_key".to_owned()) && lost.contains(&"text.verbosity".to_owned()));
    assert!(lost.contains(&"tools[1]".to_owned()), "the grammar: {lost:?}");
    assert!(!lost.iter().any(|loss| loss.starts_with('!')), "{lost:?}");
}

/// Two turns: what was thought goes back to its issuer with its signature, and calls find their results.
#[test]
fn a_tool_loop_with_claude_keeps_its_seals() {
    let request = patcher();
    let reply = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "stop_reason": "tool_use",
        "content": [
            {"type": "thinking", "thinking": "Look it up.", "signature": "c2lnbmF0dXJl"},
            {"type": "redacted_thinking", "data": "aGlkZGVu"},
            {"type": "thinking", "thinking": "", "signature": "YmFyZQ=="},
            {"type": "text", "text": "Looking."},
            {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Rome"}},
            {"type": "tool_use", "id": "toolu_2", "name": "apply_patch", "input": {"input": "a \"b\"\n"}},
        ],
        "usage": {"input_tokens": 3, "cache_read_input_tokens": 10, "output_tokens": 7},
    });
    let answer = answer(
        call(RESPONSES, &Anthropic, "claude-sonnet-4-5", &request),
        reply.to_string(),
    );
    let output = answer["output"].as_array().unwrap().clone();
    let kinds: Vec<&str> = output.iter().map(|item| item["type"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        [
            "reasoning",
            "reasoning",
            "reasoning",
            "message",
            "function_call",
            "custom_tool_call"
        ]
    );
    assert_eq!(output[0]["encrypted_content"], "messages:c2lnbmF0dXJl");
    assert_eq!(output[4]["arguments"], r#"{"city":"Rome"}"#);
    assert_eq!(output[5]["input"], "a \"b\"\n");
    assert_eq!(answer["usage"]["input_tokens_details"]["cached_tokens"], 10);
    assert_eq!(answer["usage"]["input_tokens"], 13);

    let mut next = request;
    let input = next["input"].as_array_mut().unwrap();
    input.extend(output);
    input.push(json!({"type": "function_call_output", "call_id": "toolu_1", "output": "sunny"}));
    input.push(json!({"type": "custom_tool_call_output", "call_id": "toolu_2", "output": "done"}));
    let body = body(&call(RESPONSES, &Anthropic, "claude-sonnet-4-5", &next));
    assert_eq!(body["messages"][1]["content"], reply["content"]);
    assert_eq!(
        body["messages"][2]["content"],
        json!([
            {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "sunny"}]},
            {"type": "tool_result", "tool_use_id": "toolu_2", "content": [{"type": "text", "text": "done"}]},
        ])
    );
}

#[test]
fn recorded_replies_of_messages_say_the_same_whole_and_streamed() {
    for case in [
        "thinking",
        "redacted_thinking",
        "thinking_omitted",
        "tool_use_parallel",
        "tool_use_empty_input",
        "refusal",
        "max_tokens",
        "context_window",
        "cache_usage",
        "multi_turn",
        "stop_sequence",
    ] {
        let request = |stream: bool| {
            let mut request = patcher();
            request["stream"] = json!(stream);
            call(RESPONSES, &Anthropic, "claude-sonnet-4-5", &request)
        };
        let whole = answer(request(false), recorded("messages", case, "reply.json"));
        let events = stream(request(true), &recorded("messages", case, "reply.sse"));
        assert_eq!(last(&events), whole, "{case}");
        let ended = match case {
            "refusal" => json!({"reason": "content_filter"}),
            "max_tokens" | "context_window" => json!({"reason": "max_output_tokens"}),
            _ => Value::Null,
        };
        assert_eq!(whole["incomplete_details"], ended, "{case}");
        assert_eq!(
            whole["tools"],
            patcher()["tools"],
            "{case}: the request is repeated"
        );
        assert_eq!(whole["instructions"], patcher()["instructions"], "{case}");
    }
}

#[test]
fn recorded_replies_of_chat_say_the_same_whole_and_streamed() {
    for case in [
        "text_minimal",
        "tools_parallel",
        "tools_interleaved",
        "tools_no_arguments",
        "refusal",
        "length",
        "content_filter",
        "usage_cache_reasoning",
        "thinking_blocks",
    ] {
        let request = |stream: bool| {
            let request = json!({"model": "m", "input": "hi", "stream": stream});
            call(RESPONSES, &Chat, "gpt-4.1", &request)
        };
        let whole = answer(request(false), recorded("openai", case, "reply.json"));
        let events = stream(request(true), &recorded("openai", case, "reply.sse"));
        assert_eq!(last(&events), whole, "{case}");
    }
}

/// The provider refuses results that do not follow their calls at once.
#[test]
fn parallel_calls_reach_chat_as_one_message() {
    let request = json!({"model": "m", "input": [
        {"role": "user", "content": "Weather?"},
        {"type": "reasoning", "summary": [], "encrypted_content": "gAAAA"},
        {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Two."}]},
        {"type": "function_call", "call_id": "b", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "b", "output": [
            {"type": "input_text", "text": "seen"},
            {"type": "input_image", "image_url": "https://images.example/a.png"}]},
        {"type": "function_call_output", "call_id": "a", "output": "sun"},
    ]});
    let call = call(RESPONSES, &Chat, "gpt-4.1", &request);
    let messages = body(&call)["messages"].as_array().unwrap().clone();
    let roles: Vec<&str> = messages
        .iter()
        .map(|message| message["role"].as_str().unwrap())
        .collect();
    assert_eq!(roles, ["user", "assistant", "tool", "tool", "user"]);
    assert_eq!(messages[1]["tool_calls"].as_array().unwrap().len(), 2);
    assert_eq!(messages[1]["content"], "Two.");
    assert!(
        losses(&call).contains(&"reasoning".to_owned()),
        "the seal is not for this upstream"
    );
}

#[test]
fn media_reach_the_other_formats() {
    let request = json!({"model": "m", "input": [{"role": "user", "content": [
        {"type": "input_text", "text": "See:"},
        {"type": "input_image", "image_url": "https://images.example/a.png"},
        {"type": "input_image", "image_url": "data:image/png;base64,AAAA"},
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"},
    ]}]});
    let claude = body(&call(RESPONSES, &Anthropic, "claude-sonnet-4-5", &request));
    let kinds: Vec<&str> = claude["messages"][0]["content"]
        .as_array()
        .unwrap()
        .iter()
        .map(|block| block["type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["text", "image", "image", "document"]);
    let chat = body(&call(RESPONSES, &Chat, "gpt-4.1", &request));
    let content = &chat["messages"][0]["content"];
    assert_eq!(content[1]["image_url"]["url"], "https://images.example/a.png");
    assert_eq!(
        content[3]["file"]["file_data"],
        "data:application/pdf;base64,AAAA"
    );
}

#[test]
fn structured_output_reaches_the_other_formats() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}}});
    let format = json!({"type": "json_schema", "name": "n", "schema": schema, "strict": true});
    let request = json!({"model": "m", "input": "hi", "text": {"format": format}});
    let claude = body(&call(RESPONSES, &Anthropic, "claude-sonnet-4-5", &request));
    assert_eq!(claude["output_config"]["format"]["schema"], schema);
    let chat = body(&call(RESPONSES, &Chat, "gpt-4.1", &request));
    let written =
        json!({"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": true}});
    assert_eq!(chat["response_format"], written);
}

#[test]
fn what_is_kept_at_the_provider_is_refused_elsewhere() {
    #[track_caller]
    fn check(member: Value, param: &str) {
        let mut request = json!({"model": "m", "input": "hi"});
        request
            .as_object_mut()
            .unwrap()
            .extend(member.as_object().unwrap().clone());
        let refused = try_call(RESPONSES, &Anthropic, "claude-sonnet-4-5", &request);
        let error = refused.err().unwrap();
        assert_eq!(error.kind, ErrorKind::Unprocessable, "{error}");
        assert_eq!(error.param.as_deref(), Some(param));
        let relayed = call(RESPONSES, &OpenAi, "m", &request);
        assert_eq!(relayed.body, request.to_string(), "relayed byte for byte");
        assert_eq!(relayed.path, "/v1/responses");
    }
    check(json!({"previous_response_id": "resp_1"}), "previous_response_id");
    check(json!({"conversation": {"id": "conv_1"}}), "conversation");
    check(json!({"background": true}), "background");
    check(json!({"prompt": {"id": "pmpt_1"}}), "prompt");
    check(json!({"tools": [{"type": "file_search"}]}), "tools[0]");
    check(
        json!({"tools": [{"type": "mcp", "server_label": "s"}]}),
        "tools[0]",
    );
    check(
        json!({"input": [{"role": "user", "content": "hi"}, {"type": "item_reference", "id": "msg_1"}]}),
        "input[1]",
    );
    check(
        json!({"input": [{"role": "user", "content": "hi"}, {"type": "computer_call_output", "call_id": "c", "output": {}}]}),
        "input[1]",
    );
    check(
        json!({"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": []}}),
        "tool_choice",
    );
    check(json!({"text": {"format": {"type": "grammar"}}}), "text.format");
}

#[test]
fn what_asks_for_nothing_is_no_loss() {
    let request = json!({"model": "m", "input": "hi", "store": false, "background": false,
        "truncation": "disabled", "metadata": {}, "include": ["reasoning.encrypted_content"],
        "stream_options": {"include_obfuscation": false}, "previous_response_id": null,
        "max_output_tokens": 9});
    let call = call(RESPONSES, &Anthropic, "claude-sonnet-4-5", &request);
    assert_eq!(losses(&call), Vec::<String>::new());
    let stored = json!({"model": "m", "input": "hi", "store": true, "max_output_tokens": 9});
    let call = self::call(RESPONSES, &Anthropic, "claude-sonnet-4-5", &stored);
    assert_eq!(losses(&call), ["store"]);
}

/// Two turns of a Messages client with an upstream of this format: the seal travels with its item's id.
#[test]
fn a_tool_loop_of_messages_keeps_the_seals_of_this_format() {
    let request = json!({"model": "m", "max_tokens": 100, "system": "Be brief.",
        "thinking": {"type": "enabled", "budget_tokens": 2048},
        "tools": [{"name": "weather", "input_schema": {"type": "object"}}],
        "messages": [{"role": "user", "content": "Weather?"}]});
    let first = call(MESSAGES, &Only, "gpt-5", &request);
    let sent = body(&first);
    assert_eq!(sent["instructions"], "Be brief.");
    assert_eq!(sent["reasoning"], json!({"effort": "low"}));
    assert_eq!(sent["include"], json!(["reasoning.encrypted_content"]));
    assert_eq!(sent["store"], false);
    assert_eq!(sent["tools"][0]["strict"], false);
    assert_eq!(sent["max_output_tokens"], 100);
    let reply = json!({"id": "resp_1", "object": "response", "status": "completed", "model": "gpt-5", "output": [
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAA-1"},
        {"type": "reasoning", "id": "rs_2", "summary": [{"type": "summary_text", "text": "Look."}], "encrypted_content": "gAAAA-2"},
        {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "weather", "arguments": "{}"},
    ], "usage": {"input_tokens": 10, "input_tokens_details": {"cached_tokens": 4}, "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 3}}});
    let answer = answer(first, reply.to_string());
    assert_eq!(answer["stop_reason"], "tool_use");
    assert_eq!(answer["usage"]["input_tokens"], 6);
    assert_eq!(
        answer["content"],
        json!([
            {"type": "redacted_thinking", "data": "responses:rs_1:gAAAA-1"},
            {"type": "thinking", "thinking": "Look.", "signature": "responses:rs_2:gAAAA-2"},
            {"type": "tool_use", "id": "call_1", "name": "weather", "input": {}},
        ])
    );
    let mut next = request;
    let messages = next["messages"].as_array_mut().unwrap();
    messages.push(json!({"role": "assistant", "content": answer["content"]}));
    messages.push(json!({"role": "user", "content": [
        {"type": "tool_result", "tool_use_id": "call_1", "content": "sunny", "is_error": true}]}));
    let sent = body(&call(MESSAGES, &Only, "gpt-5", &next));
    assert_eq!(
        sent["input"],
        json!([
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAA-1"},
            {"type": "reasoning", "id": "rs_2", "summary": [{"type": "summary_text", "text": "Look."}], "encrypted_content": "gAAAA-2"},
            {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "call_1", "output": "Error: sunny"},
        ])
    );
}

#[test]
fn recorded_replies_of_this_format_reach_the_other_clients() {
    for (case, _) in super::cases() {
        for (path, request) in [
            (
                CHAT,
                json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]}),
            ),
            (
                MESSAGES,
                json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}),
            ),
        ] {
            let whole = answer(
                call(path, &Only, "gpt-5", &request),
                recorded("responses", &case, "reply.json"),
            );
            let mut streamed = request;
            streamed["stream"] = json!(true);
            let mut stream = call(path, &Only, "gpt-5", &streamed).reply.stream();
            stream.push(recorded("responses", &case, "reply.sse"));
            stream.end(End::Clean);
            let observed = stream.observed();
            assert!(observed.complete && observed.error.is_none(), "{path} {case}");
            let (ended, expected) = match path {
                CHAT => (
                    &whole["choices"][0]["finish_reason"],
                    ("length", "content_filter", "tool_calls"),
                ),
                _ => (&whole["stop_reason"], ("max_tokens", "refusal", "tool_use")),
            };
            match case.as_str() {
                "length" => assert_eq!(*ended, expected.0),
                "content_filter" => assert_eq!(*ended, expected.1),
                "tools" | "tools_parallel" => assert_eq!(*ended, expected.2),
                _ => {}
            }
        }
    }
}

/// Chat's tools that take free text are those of this format, in another shape.
#[test]
fn custom_tools_of_chat_are_rewritten() {
    let request = json!({"model": "m", "messages": [
        {"role": "user", "content": "Patch."},
        {"role": "assistant", "tool_calls": [{"id": "c", "type": "custom", "custom": {"name": "patch", "input": "a"}}]},
        {"role": "tool", "tool_call_id": "c", "content": "done"},
    ], "tools": [{"type": "custom", "custom": {"name": "patch", "description": "Edits.",
        "format": {"type": "grammar", "grammar": {"syntax": "regex", "definition": ".+"}}}}]});
    let call = call(CHAT, &Only, "gpt-5", &request);
    let sent = body(&call);
    assert_eq!(
        sent["tools"],
        json!([{"type": "custom", "name": "patch", "description": "Edits.",
            "format": {"type": "grammar", "syntax": "regex", "definition": ".+"}}])
    );
    assert_eq!(
        sent["input"][1],
        json!({"type": "custom_tool_call", "call_id": "c", "name": "patch", "input": "a"})
    );
    assert_eq!(
        sent["input"][2],
        json!({"type": "custom_tool_call_output", "call_id": "c", "output": "done"})
    );
    assert!(losses(&call).is_empty());
}

#[test]
fn a_custom_tool_is_called_through_a_function_in_a_stream() {
    let event = |data: Value| format!("data: {data}\n\n");
    let reply: String = [
        json!({"type": "message_start", "message": {"id": "msg_1", "model": "claude", "usage": {"input_tokens": 1}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "id": "t", "name": "apply_patch", "input": {}}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": "{\"input\": \"a\\"}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": "nb\"}"}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 2}}),
        json!({"type": "message_stop"}),
    ]
    .map(event)
    .concat();
    let events = stream(
        call(RESPONSES, &Anthropic, "claude-sonnet-4-5", &patcher()),
        reply.as_bytes(),
    );
    let kinds: Vec<&str> = events
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds[2..],
        [
            "response.output_item.added",
            "response.custom_tool_call_input.delta",
            "response.custom_tool_call_input.done",
            "response.output_item.done",
            "response.completed",
        ]
    );
    assert_eq!(events[4]["input"], "a\nb");
    assert_eq!(last(&events)["output"][0]["call_id"], "t");
}

#[test]
fn a_stream_that_breaks_off_fails_its_response() {
    let whole = recorded("messages", "thinking", "reply.sse");
    let cut = whole.slice(..whole.len() / 2);
    let events = stream(call(RESPONSES, &Anthropic, "claude-sonnet-4-5", &patcher()), &cut);
    let failed = events.last().unwrap();
    assert_eq!(failed["type"], "response.failed");
    assert_eq!(failed["response"]["status"], "failed");
    assert_eq!(failed["response"]["error"]["code"], "server_error");
    let slow = b"event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"slow\"}}\n\n";
    let events = stream(call(RESPONSES, &Anthropic, "claude-sonnet-4-5", &patcher()), slow);
    assert_eq!(
        events,
        [
            json!({"type": "error", "sequence_number": 0, "code": "rate_limit_exceeded", "message": "slow", "param": null})
        ]
    );
}
