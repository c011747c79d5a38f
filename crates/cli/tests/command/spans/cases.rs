//! What is asked for and answered in the tests of [`operations`](super::operations): one exchange for each way in which an
//! operation can go. All content is called a canary.

use serde_json::{Value, json};
use testkit::{Reply, fixture::PIXEL};

/// One exchange.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) path: &'static str,
    pub(super) asked: Asked,
    pub(super) reply: Reply,
}

/// What a client sends.
pub(super) enum Asked {
    Document(Value),
    /// Fields, and a file.
    Form(&'static [(&'static str, &'static str)]),
}

fn case(name: &'static str, path: &'static str, request: Value, reply: Reply) -> Case {
    Case {
        name,
        path,
        asked: Asked::Document(request),
        reply,
    }
}

fn form(
    name: &'static str,
    path: &'static str,
    fields: &'static [(&'static str, &'static str)],
    reply: Reply,
) -> Case {
    Case {
        name,
        path,
        asked: Asked::Form(fields),
        reply,
    }
}

/// Returns every exchange, in the order in which they are made.
pub(super) fn cases() -> Vec<Case> {
    [
        chats(),
        completions(),
        responses(),
        messages(),
        documents(),
        counts(),
        forms(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";
const MESSAGES: &str = "/anthropic/v1/messages";

fn chats() -> Vec<Case> {
    let said = json!([
        {"role": "developer", "content": "canary developer"},
        {"role": "system", "content": "canary system"},
        {"role": "user", "name": "ann", "content": [
            {"type": "text", "text": "canary text"},
            {"type": "image_url", "image_url": {"url": "https://pictures.example/canary.png"}},
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        ]},
        {"role": "assistant", "content": "", "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{\"q\":\"canary\"}"}},
        ]},
        {"role": "tool", "tool_call_id": "call_1", "content": "canary result"},
        {"role": "user", "content": [{"type": "text", "text": "canary listed"}]},
    ]);
    let tools = json!([{"type": "function", "function": {"name": "look", "description": "canary tool",
        "parameters": {"type": "object", "properties": {}}, "strict": true}}]);
    let usage = json!({"prompt_tokens": 40, "completion_tokens": 9, "total_tokens": 49,
        "prompt_tokens_details": {"cached_tokens": 16, "audio_tokens": 3},
        "completion_tokens_details": {"reasoning_tokens": 2, "audio_tokens": 0}});
    let answer = json!({"id": "chatcmpl-1", "object": "chat.completion", "created": 1_750_000_000, "model": "m-2",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "canary one"}, "finish_reason": "stop"},
            {"index": 1, "message": {"role": "assistant", "content": null, "tool_calls": [
                {"id": "call_2", "type": "function", "function": {"name": "look", "arguments": "{}"}}]},
                "finish_reason": "tool_calls"},
        ], "usage": usage});
    let chunk = |choices: Value, usage: Value| {
        let chunk = json!({"id": "chatcmpl-2", "object": "chat.completion.chunk", "created": 1_750_000_000,
            "model": "m-2", "choices": choices, "usage": usage});
        format!("data: {chunk}\n\n")
    };
    let delta = |index: u32, delta: Value| {
        chunk(
            json!([{"index": index, "delta": delta, "finish_reason": null}]),
            Value::Null,
        )
    };
    let finish = |index: u32, reason: &str| {
        let choice = json!([{"index": index, "delta": {}, "finish_reason": reason}]);
        chunk(choice, Value::Null)
    };
    let streamed = [
        delta(0, json!({"role": "assistant", "content": "canary "})),
        delta(
            1,
            json!({"role": "assistant", "tool_calls": [
            {"index": 0, "id": "call_3", "type": "function", "function": {"name": "look", "arguments": "{\"q\":"}}]}),
        ),
        delta(0, json!({"content": "streamed"})),
        delta(
            1,
            json!({"tool_calls": [{"index": 0, "function": {"arguments": "\"canary\"}"}}]}),
        ),
        finish(0, "length"),
        finish(1, "tool_calls"),
        chunk(json!([]), usage.clone()),
        "data: [DONE]\n\n".to_owned(),
    ];
    let asked = json!({"model": "m", "messages": said, "tools": tools, "temperature": 0.0, "top_p": 0.9, "n": 2,
        "frequency_penalty": 0.1, "presence_penalty": 0.2, "seed": 7, "stop": ["END"], "max_tokens": 5,
        "max_completion_tokens": 64});
    let hello = json!([{"role": "user", "content": "canary hello"}]);
    let error = json!({"error": {"message": "canary is refused", "type": "invalid_request_error"}});
    let breaks = [
        delta(0, json!({"role": "assistant", "content": "canary begins"})),
        format!(
            "data: {}\n\n",
            json!({"error": {"message": "canary overloaded", "type": "server_error"}})
        ),
    ];
    let streams = json!({"model": "m", "messages": hello, "stream": true,
        "stream_options": {"include_usage": true}});
    let gemini = json!({"contents": [{"role": "user", "parts": [{"text": "canary hello"}]}]});
    vec![
        case("chat", CHAT, asked, Reply::json(200, &answer)),
        case(
            "chat-streamed",
            CHAT,
            streams.clone(),
            Reply::sse(streamed.clone()),
        ),
        case("chat-broken", CHAT, streams, Reply::sse(breaks)),
        case(
            "chat-refused",
            CHAT,
            json!({"model": "m", "messages": hello}),
            Reply::json(400, &error),
        ),
        case(
            "chat-limited",
            CHAT,
            json!({"model": "m", "messages": hello}),
            Reply::json(429, &error),
        ),
        case(
            "generate-content",
            "/v1beta/models/m:streamGenerateContent",
            gemini,
            Reply::sse(streamed),
        ),
    ]
}

fn completions() -> Vec<Case> {
    let path = "/v1/completions";
    let choice = |index: u32, text: &str, reason: Option<&str>| json!({"index": index, "text": text, "finish_reason": reason});
    let answer = |choices: Value, usage: Value| {
        json!({"id": "cmpl-1", "object": "text_completion", "created": 1_750_000_000, "model": "m-2",
            "choices": choices, "usage": usage})
    };
    let usage = json!({"prompt_tokens": 4, "completion_tokens": 6, "total_tokens": 10});
    let chunk = |choices: Value, usage: Value| format!("data: {}\n\n", answer(choices, usage));
    let streamed = [
        chunk(json!([choice(0, "canary ", None)]), Value::Null),
        chunk(json!([choice(1, "second", Some("stop"))]), Value::Null),
        chunk(json!([choice(0, "first", Some("length"))]), usage.clone()),
        "data: [DONE]\n\n".to_owned(),
    ];
    let whole = answer(json!([choice(0, "canary end", Some("stop"))]), usage);
    let parameters = json!({"model": "m", "prompt": ["canary one", "canary two"], "max_tokens": 8, "temperature": 0.5,
        "stop": "END", "n": 1, "seed": 3});
    vec![
        case("completion", path, parameters, Reply::json(200, &whole)),
        case(
            "completion-streamed",
            path,
            json!({"model": "m", "prompt": "canary", "stream": true}),
            Reply::sse(streamed),
        ),
        case(
            "completion-of-tokens",
            path,
            json!({"model": "m", "prompt": [1, 2, 3]}),
            Reply::json(200, &whole),
        ),
    ]
}

fn responses() -> Vec<Case> {
    let input = json!([
        {"role": "user", "content": "canary plain"},
        {"type": "message", "role": "user", "content": [
            {"type": "input_text", "text": "canary text"},
            {"type": "input_image", "image_url": "https://pictures.example/canary.png"},
            {"type": "input_file", "file_id": "file-1"},
        ]},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "canary thought"}]},
        {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": "{\"q\":\"canary\"}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "canary result"},
        {"type": "custom_tool_call", "call_id": "call_2", "name": "note", "input": "canary note"},
        {"type": "custom_tool_call_output", "call_id": "call_2", "output": "canary noted"},
        {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "canary"}},
        {"type": "computer_call", "id": "cu_1", "call_id": "call_3", "status": "completed",
            "action": {"type": "click", "x": 1, "y": 2, "button": "left"}, "pending_safety_checks": []},
        {"type": "computer_call_output", "call_id": "call_3", "output": {"type": "computer_screenshot", "image_url": "data:image/png;base64,canary"}},
        {"type": "code_interpreter_call", "id": "ci_1", "code": "print('canary')", "container_id": "c", "outputs": [], "status": "completed"},
        {"type": "shell_call", "call_id": "call_4", "action": {"commands": ["echo canary"]}, "status": "completed"},
        {"type": "apply_patch_call", "call_id": "call_5", "operation": {"type": "delete_file", "path": "canary"}, "status": "completed"},
        {"type": "mcp_list_tools", "id": "mcpl_1", "server_label": "s", "tools": [{"name": "canary", "input_schema": {}}]},
        {"type": "mcp_call", "id": "mcp_1", "server_label": "s", "name": "look", "arguments": "{\"q\":\"canary\"}", "output": "canary"},
        {"type": "mcp_approval_request", "id": "mcpr_1", "server_label": "s", "name": "look", "arguments": "{}"},
        {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": true, "reason": "canary"},
        {"type": "compaction", "id": "cmp_1", "encrypted_content": "sealed"},
    ]);
    let output = json!([
        {"type": "reasoning", "id": "rs_2", "summary": [{"type": "summary_text", "text": "canary thought"}]},
        {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [
            {"type": "output_text", "text": "canary said", "annotations": []},
            {"type": "refusal", "refusal": "canary no"},
        ]},
        {"type": "function_call", "id": "fc_1", "call_id": "call_6", "name": "look", "arguments": "{}", "status": "completed"},
        {"type": "file_search_call", "id": "fs_1", "queries": ["canary"], "status": "completed", "results": null},
        {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": "canary"},
    ]);
    let usage = json!({"input_tokens": 30, "input_tokens_details": {"cached_tokens": 10}, "output_tokens": 8,
        "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 38});
    let answer = json!({"id": "resp_1", "object": "response", "created_at": 1_750_000_000, "status": "completed",
        "model": "m-2", "output": output, "usage": usage, "error": null, "incomplete_details": null});
    let mut begun = answer.clone();
    begun["status"] = "in_progress".into();
    begun["output"] = json!([]);
    begun["usage"] = Value::Null;
    let event = |kind: &str, mut event: Value| {
        event["type"] = kind.into();
        format!("event: {kind}\ndata: {event}\n\n")
    };
    let mut said = answer.clone();
    said["output"] = json!([{"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
        "content": [{"type": "output_text", "text": "canary said", "annotations": []}]}]);
    let item = json!({"type": "message", "id": "msg_1", "role": "assistant", "status": "in_progress", "content": []});
    let streamed = [
        event(
            "response.created",
            json!({"sequence_number": 0, "response": begun}),
        ),
        event(
            "response.output_item.added",
            json!({"sequence_number": 1, "output_index": 0, "item": item}),
        ),
        event(
            "response.content_part.added",
            json!({"sequence_number": 2, "output_index": 0, "content_index": 0,
            "item_id": "msg_1", "part": {"type": "output_text", "text": "", "annotations": []}}),
        ),
        event(
            "response.output_text.delta",
            json!({"sequence_number": 3, "output_index": 0, "content_index": 0,
            "item_id": "msg_1", "delta": "canary said"}),
        ),
        event(
            "response.completed",
            json!({"sequence_number": 4, "response": said}),
        ),
    ];
    let asked = json!({"model": "m", "input": input, "instructions": "canary rules", "max_output_tokens": 64,
        "temperature": 0.5, "top_p": 0.8, "conversation": {"id": "conv_1"},
        "tools": [{"type": "function", "name": "look", "description": "canary tool", "parameters": {"type": "object"}},
            {"type": "web_search"}]});
    vec![
        case("responses", RESPONSES, asked, Reply::json(200, &answer)),
        case(
            "responses-streamed",
            RESPONSES,
            json!({"model": "m", "input": "canary", "stream": true}),
            Reply::sse(streamed),
        ),
    ]
}

fn messages() -> Vec<Case> {
    let said = json!([
        {"role": "user", "content": [
            {"type": "text", "text": "canary text"},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
        ]},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "canary thought", "signature": "sealed"},
            {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"q": "canary"}},
        ]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "canary result"}]},
    ]);
    let usage = json!({"input_tokens": 12, "cache_read_input_tokens": 20, "cache_creation_input_tokens": 5, "output_tokens": 7});
    let answer = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-2", "content": [
            {"type": "thinking", "thinking": "canary again", "signature": "sealed"},
            {"type": "text", "text": "canary said"},
            {"type": "tool_use", "id": "toolu_2", "name": "look", "input": {"q": "canary"}},
        ], "stop_reason": "tool_use", "stop_sequence": null, "usage": usage});
    let event = |kind: &str, mut event: Value| {
        event["type"] = kind.into();
        format!("event: {kind}\ndata: {event}\n\n")
    };
    let begun = json!({"id": "msg_2", "type": "message", "role": "assistant", "model": "claude-2", "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": {"input_tokens": 9, "output_tokens": 1}});
    let streamed = [
        event("message_start", json!({"message": begun})),
        event(
            "content_block_start",
            json!({"index": 0, "content_block": {"type": "text", "text": ""}}),
        ),
        event("ping", json!({})),
        event(
            "content_block_delta",
            json!({"index": 0, "delta": {"type": "text_delta", "text": "canary said"}}),
        ),
        event("content_block_stop", json!({"index": 0})),
        event(
            "content_block_start",
            json!({"index": 1, "content_block": {"type": "tool_use", "id": "toolu_3", "name": "look", "input": {}}}),
        ),
        event(
            "content_block_delta",
            json!({"index": 1, "delta": {"type": "input_json_delta", "partial_json": "{\"q\":\"canary\"}"}}),
        ),
        event("content_block_stop", json!({"index": 1})),
        event(
            "message_delta",
            json!({"delta": {"stop_reason": "tool_use", "stop_sequence": null}, "usage": {"output_tokens": 15}}),
        ),
        event("message_stop", json!({})),
    ];
    let tools = json!([{"name": "look", "description": "canary tool", "input_schema": {"type": "object"}},
        {"type": "web_search_20250305", "name": "web_search"}]);
    let asked = json!({"model": "claude-m", "messages": said, "system": [{"type": "text", "text": "canary rules"}],
        "tools": tools, "max_tokens": 64, "top_k": 3, "stop_sequences": ["END"]});
    let hello = json!([{"role": "user", "content": "canary hello"}]);
    let error =
        json!({"type": "error", "error": {"type": "overloaded_error", "message": "canary overloaded"}});
    vec![
        case("messages", MESSAGES, asked, Reply::json(200, &answer)),
        case(
            "messages-streamed",
            MESSAGES,
            json!({"model": "claude-m", "messages": hello, "max_tokens": 64, "stream": true}),
            Reply::sse(streamed),
        ),
        case(
            "messages-refused",
            MESSAGES,
            json!({"model": "claude-m", "messages": hello, "max_tokens": 64}),
            Reply::json(529, &error),
        ),
    ]
}

fn documents() -> Vec<Case> {
    let vectors = |embedding: Value| {
        json!({"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": embedding}],
            "model": "m-2", "usage": {"prompt_tokens": 3, "total_tokens": 3}})
    };
    let numbers = Reply::json(200, &vectors(json!([0.5, -1.25])));
    // The same numbers, as bytes.
    let bytes = Reply::json(200, &vectors(json!("AAAAPwAAoL8=")));
    let picture = json!({"created": 1_750_000_000, "data": [{"b64_json": "canary"}],
        "usage": {"input_tokens": 3, "output_tokens": 5, "total_tokens": 8}});
    let ranked = json!({"id": "rerank-1", "results": [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.25}],
        "meta": {"tokens": {"input_tokens": 11.0, "output_tokens": 2.0}}});
    let moderated = json!({"id": "modr-1", "model": "m-2", "results": [{"flagged": false, "categories": {}, "category_scores": {}}]});
    let sound = Reply::whole(200, &[("content-type", "audio/mpeg")], "ID3 canary");
    vec![
        case(
            "embeddings",
            "/v1/embeddings",
            json!({"model": "m", "input": ["canary one", "canary two"], "encoding_format": "float", "dimensions": 2, "user": "u"}),
            numbers.clone(),
        ),
        case(
            "embeddings-in-base64",
            "/v1/embeddings",
            json!({"model": "m", "input": "canary", "encoding_format": "base64"}),
            bytes,
        ),
        case(
            "images",
            "/v1/images/generations",
            json!({"model": "m", "prompt": "canary", "size": "1024x1024"}),
            Reply::json(200, &picture),
        ),
        case(
            "speech",
            "/v1/audio/speech",
            json!({"model": "m", "input": "canary", "voice": "alloy", "instructions": "canary", "speed": 1.5, "response_format": "mp3"}),
            sound,
        ),
        case(
            "rerank",
            "/cohere/v2/rerank",
            json!({"model": "rerank-m", "query": "canary?", "documents": ["canary one", "canary two"], "top_n": 2}),
            Reply::json(200, &ranked),
        ),
        case(
            "moderation",
            "/v1/moderations",
            json!({"model": "m", "input": "canary"}),
            Reply::json(200, &moderated),
        ),
    ]
}

fn counts() -> Vec<Case> {
    let hello = json!([{"role": "user", "content": "canary hello"}]);
    let tokens =
        json!({"count": 3, "max_model_len": 4096, "tokens": [1, 2, 3], "token_strs": ["a", "b", "c"]});
    vec![
        case(
            "responses-input-tokens",
            "/v1/responses/input_tokens",
            json!({"model": "m", "input": "canary"}),
            Reply::json(
                200,
                &json!({"object": "response.input_tokens", "input_tokens": 14}),
            ),
        ),
        case(
            "count-tokens",
            "/anthropic/v1/messages/count_tokens",
            json!({"model": "claude-m", "messages": hello, "tools": [{"name": "look", "input_schema": {"type": "object"}}]}),
            Reply::json(200, &json!({"input_tokens": 21})),
        ),
        case(
            "tokenize",
            "/tokenize",
            json!({"model": "m", "prompt": "canary", "return_token_strs": true}),
            Reply::json(200, &tokens),
        ),
        case(
            "tokenize-chat",
            "/tokenize",
            json!({"model": "m", "messages": hello, "add_generation_prompt": false}),
            Reply::json(200, &json!({"count": 3, "max_model_len": 0, "tokens": []})),
        ),
    ]
}

fn forms() -> Vec<Case> {
    let transcriptions = "/v1/audio/transcriptions";
    let verbose = json!({"task": "transcribe", "language": "english", "duration": 8.5, "text": "canary said",
        "segments": [], "usage": {"type": "duration", "seconds": 9}});
    let event = |event: Value| format!("data: {event}\n\n");
    let streamed = [
        event(json!({"type": "transcript.text.delta", "delta": "canary "})),
        event(json!({"type": "transcript.text.delta", "delta": "sa"})),
        event(json!({"type": "transcript.text.done", "text": "canary said",
            "usage": {"type": "tokens", "input_tokens": 14, "output_tokens": 9, "total_tokens": 23}})),
    ];
    let plain = Reply::whole(200, &[("content-type", "text/plain")], "canary said\n");
    let picture = json!({"created": 1_750_000_000, "data": [{"b64_json": "canary"}]});
    vec![
        form(
            "transcription",
            transcriptions,
            &[
                ("model", "m"),
                ("language", "en"),
                ("response_format", "verbose_json"),
            ],
            Reply::json(200, &verbose),
        ),
        form(
            "transcription-streamed",
            transcriptions,
            &[("model", "m"), ("stream", "true")],
            Reply::sse(streamed),
        ),
        form(
            "translation",
            "/v1/audio/translations",
            &[("model", "m"), ("response_format", "text"), ("prompt", "canary")],
            plain,
        ),
        form(
            "image-edit",
            "/v1/images/edits",
            &[("model", "m"), ("prompt", "canary")],
            Reply::json(200, &picture),
        ),
    ]
}
