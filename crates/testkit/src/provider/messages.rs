//! Plays Anthropic.

use serde_json::{Value, json};

use super::{Asked, Fault, Turn, converse, fault};
use crate::{
    event_stream,
    fixture::{
        self,
        messages::{error, frame},
    },
    script::Reply,
    strict::{self, Refusal, cloud},
    upstream::Received,
};

pub(super) fn reply(request: &Received, key: &str) -> Reply {
    if request.target.starts_with("/v1/messages/count_tokens") {
        return match strict::messages::check_count(request, key) {
            Ok(body) => count(&body),
            Err(refusal) => refusal.messages(),
        };
    }
    match strict::messages::check(request, key) {
        Ok(body) => answer(&body, failure, Reply::stream(), String::into_bytes),
        Err(refusal) => refusal.messages(),
    }
}

/// Plays Claude on Vertex AI.
pub(super) fn vertex(request: &Received, key: &str) -> Reply {
    let method = cloud::vertex(request, key, "anthropic");
    if let Ok(method) = &method
        && method.model == "count-tokens"
    {
        return match strict::count::check_vertex(request) {
            Ok(body) => count(&body),
            Err(refusal) => refusal.messages(),
        };
    }
    let body = method.and_then(|method| {
        strict::beta::check_header(request)?;
        let stream = method.name == "streamRawPredict";
        enveloped(request, method, strict::count::VERTEX_VERSIONS, stream)
    });
    match body {
        Ok(body) => answer(&body, failure, Reply::stream(), String::into_bytes),
        Err(refusal) => refusal.messages(),
    }
}

/// Plays Claude on Amazon Bedrock, whose events are wrapped in AWS's binary streams.
pub(super) fn invoke(request: &Received, key: &str) -> Reply {
    let method = cloud::bedrock(request, key);
    if let Ok(method) = &method
        && method.name == "count-tokens"
    {
        return converse::count(request, method);
    }
    let body = method.and_then(|method| {
        let stream = method.name == "invoke-with-response-stream";
        enveloped(request, method, &["bedrock-2023-05-31"], stream)
    });
    let wrapped = |frame: String| {
        let (_, data) = frame.split_once("data: ").unwrap_or_default();
        event_stream::chunk(data.trim_end())
    };
    let stream = Reply::chunked(200, &[("content-type", converse::EVENT_STREAM)]);
    match body {
        Ok(body) => answer(&body, converse::failure, stream, wrapped),
        Err(refusal) => refusal.bedrock(),
    }
}

/// Judges a body that leaves to the path which model is asked and whether to stream, and names one of its `versions`;
/// returns it as Anthropic's own.
fn enveloped(
    request: &Received,
    method: cloud::Method,
    versions: &[&str],
    stream: bool,
) -> Result<Value, Refusal> {
    let mut body = request.json();
    let version = body["anthropic_version"].as_str().unwrap_or_default().to_owned();
    if !versions.contains(&version.as_str()) {
        return Err(Refusal::new("anthropic_version", "Field required"));
    }
    if version.starts_with("bedrock") && body.get("stream").is_some() {
        return Err(Refusal::new("stream", "Extra inputs are not permitted"));
    }
    if version.starts_with("bedrock") {
        strict::beta::check_body(&mut body)?;
    } else if let Some(body) = body.as_object_mut() {
        body.remove("anthropic_version");
    }
    if body.get("model").is_some() {
        return Err(Refusal::new("model", "Extra inputs are not permitted"));
    }
    body["model"] = json!(method.model);
    body["stream"] = json!(stream);
    strict::messages::check_body(&body)?;
    Ok(body)
}

/// Counts the tokens of a body that was judged.
fn count(body: &Value) -> Reply {
    Reply::json(200, &json!({"input_tokens": tokens(body)}))
}

/// Returns how many tokens a body has, which is what an answer to it says.
pub(super) fn tokens(body: &Value) -> usize {
    super::prompt_tokens(&read(body))
}

/// Answers a body that was judged; a stream begins with `head`, and each of its events is `framed`.
fn answer(body: &Value, failure: fn(u16) -> Reply, head: Reply, framed: impl Fn(String) -> Vec<u8>) -> Reply {
    let asked = read(body);
    let stall_stream = match fault(&asked.model) {
        Some(Fault::Status(status)) => return failure(status),
        Some(Fault::Stall) => return Reply::new().stall(),
        Some(Fault::StallStream) => true,
        None => false,
    };
    let turn = Turn::of(&asked);
    if !asked.stream {
        return Reply::json(200, &response(&asked, &turn));
    }
    let frames = frames(&asked, &turn);
    // The start, a ping, the first block and its first word.
    let said = if stall_stream { 4 } else { frames.len() };
    let frames = frames.into_iter().take(said).map(framed);
    let reply = frames.fold(head, Reply::frame);
    if stall_stream { reply.stall() } else { reply.end() }
}

fn failure(status: u16) -> Reply {
    let kind = match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    };
    let body = error(kind, "This failure was asked for.").to_string();
    let mut headers = vec![
        ("content-type", "application/json"),
        ("request-id", "req_anthropic"),
    ];
    if status == 429 {
        headers.push(("retry-after", "2"));
    }
    Reply::whole(status, &headers, &body)
}

fn read(body: &Value) -> Asked {
    let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let limit = body.get("max_tokens").and_then(Value::as_u64).unwrap_or(0);
    let mut asked = Asked {
        model: text("/model").to_owned(),
        stream: body.get("stream") == Some(&Value::Bool(true)),
        limit: usize::try_from(limit).unwrap_or(usize::MAX),
        parallel: body.pointer("/tool_choice/disable_parallel_tool_use") != Some(&Value::Bool(true)),
        schema: body
            .pointer("/output_config/format/schema")
            .or_else(|| body.pointer("/output_format/schema"))
            .cloned(),
        thinks: ["enabled", "adaptive"].contains(&text("/thinking/type")),
        ..Asked::default()
    };
    match text("/tool_choice/type") {
        "none" => asked.forbidden = true,
        "any" => asked.forced = Some(String::new()),
        "tool" => asked.forced = Some(text("/tool_choice/name").to_owned()),
        _ => {}
    }
    let elements = |key: &str| body.get(key).and_then(Value::as_array).into_iter().flatten();
    asked.tools = elements("tools")
        .filter_map(|tool| Some(tool.get("name")?.as_str()?.to_owned()))
        .collect();
    match body.get("system") {
        Some(Value::String(system)) => asked.length += system.len(),
        Some(Value::Array(blocks)) => {
            asked.length += blocks.iter().map(|block| said(block).len()).sum::<usize>()
        }
        _ => {}
    }
    for message in elements("messages") {
        read_message(message, &mut asked);
    }
    asked
}

fn read_message(message: &Value, asked: &mut Asked) {
    let user = message.get("role").and_then(Value::as_str) == Some("user");
    if user {
        asked.said.clear();
        asked.shown.clear();
    }
    asked.results.clear();
    match message.get("content") {
        Some(Value::String(content)) => {
            asked.length += content.len();
            if user {
                asked.said.push_str(content);
            }
        }
        Some(Value::Array(blocks)) => {
            for block in blocks {
                asked.length += said(block).len();
                if user {
                    read_block(block, asked);
                }
            }
        }
        _ => {}
    }
}

fn read_block(block: &Value, asked: &mut Asked) {
    match block.get("type").and_then(Value::as_str) {
        Some("text") => asked.said.push_str(said(block)),
        Some("image" | "document") => asked.shown.push(describe(block)),
        Some("tool_result") => {
            let mut result = String::new();
            match block.get("content") {
                Some(Value::String(content)) => result.push_str(content),
                Some(Value::Array(inner)) => {
                    for inner in inner {
                        match inner.get("type").and_then(Value::as_str) {
                            Some("image" | "document") => {
                                result.push_str(&format!("picture {}", describe(inner)));
                            }
                            _ => result.push_str(said(inner)),
                        }
                    }
                }
                _ => {}
            }
            asked.length += result.len();
            asked.results.push(result);
        }
        _ => {}
    }
}

fn said(block: &Value) -> &str {
    block.get("text").and_then(Value::as_str).unwrap_or_default()
}

fn describe(block: &Value) -> String {
    let text = |pointer: &str| block.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    match text("/source/type") {
        "url" => text("/source/url").to_owned(),
        _ => format!(
            "{} ({} characters)",
            text("/source/media_type"),
            text("/source/data").len()
        ),
    }
}

fn stop_reason(turn: &Turn) -> &'static str {
    if !turn.calls.is_empty() {
        "tool_use"
    } else if turn.limited {
        "max_tokens"
    } else {
        "end_turn"
    }
}

fn message(asked: &Asked, content: Value, stop_reason: Value, usage: (usize, usize)) -> Value {
    json!({
        "id": "msg_testkit",
        "type": "message",
        "role": "assistant",
        "model": asked.model,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": null,
        "usage": {
            "input_tokens": usage.0,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": usage.1,
            "service_tier": "standard",
        },
    })
}

fn response(asked: &Asked, turn: &Turn) -> Value {
    let mut content = Vec::new();
    if let Some(thinking) = &turn.thinking {
        content.push(json!({
            "type": "thinking", "thinking": thinking, "signature": fixture::seal(thinking),
        }));
    }
    if let Some(text) = &turn.text {
        content.push(json!({"type": "text", "text": text}));
    }
    for call in &turn.calls {
        content.push(json!({
            "type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments,
        }));
    }
    let (input, _, output) = turn.usage(asked);
    message(
        asked,
        Value::from(content),
        Value::from(stop_reason(turn)),
        (input, output),
    )
}

fn frames(asked: &Asked, turn: &Turn) -> Vec<String> {
    let (input, _, output) = turn.usage(asked);
    let start = message(asked, json!([]), Value::Null, (input, 1));
    let mut frames = vec![
        frame(
            "message_start",
            &json!({"type": "message_start", "message": start}),
        ),
        frame("ping", &json!({"type": "ping"})),
    ];
    let mut index = 0;
    let mut block = |begin: Value, deltas: Vec<Value>| {
        let data = json!({"type": "content_block_start", "index": index, "content_block": begin});
        frames.push(frame("content_block_start", &data));
        for delta in deltas {
            let data = json!({"type": "content_block_delta", "index": index, "delta": delta});
            frames.push(frame("content_block_delta", &data));
        }
        let data = json!({"type": "content_block_stop", "index": index});
        frames.push(frame("content_block_stop", &data));
        index += 1;
    };
    if let Some(thinking) = &turn.thinking {
        let (first, second) = thinking.split_at(thinking.len() / 2);
        block(
            json!({"type": "thinking", "thinking": "", "signature": ""}),
            vec![
                json!({"type": "thinking_delta", "thinking": first}),
                json!({"type": "thinking_delta", "thinking": second}),
                json!({"type": "signature_delta", "signature": fixture::seal(thinking)}),
            ],
        );
    }
    if turn.text.is_some() {
        let deltas = turn
            .pieces()
            .into_iter()
            .map(|piece| json!({"type": "text_delta", "text": piece}))
            .collect();
        block(json!({"type": "text", "text": ""}), deltas);
    }
    for call in &turn.calls {
        let arguments = call.arguments.to_string();
        let (first, second) = arguments.split_at(arguments.len() / 2);
        block(
            json!({"type": "tool_use", "id": call.id, "name": call.name, "input": {}}),
            vec![
                json!({"type": "input_json_delta", "partial_json": ""}),
                json!({"type": "input_json_delta", "partial_json": first}),
                json!({"type": "input_json_delta", "partial_json": second}),
            ],
        );
    }
    let delta = json!({"stop_reason": stop_reason(turn), "stop_sequence": null});
    frames.push(frame(
        "message_delta",
        &json!({"type": "message_delta", "delta": delta, "usage": {"output_tokens": output}}),
    ));
    frames.push(frame("message_stop", &json!({"type": "message_stop"})));
    frames
}
