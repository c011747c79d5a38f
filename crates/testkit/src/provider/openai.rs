//! Plays OpenAI.

use serde_json::{Value, json};

use super::{Asked, Fault, Turn, documents, fault, forms, responses};
use crate::{
    fixture::openai::{chunk, delta, error, frame},
    script::Reply,
    strict::{self, Refusal, cloud},
    upstream::Received,
};

pub(super) fn reply(request: &Received, key: &str) -> Reply {
    if let Some(reply) = forms::reply(request, key) {
        return reply;
    }
    if let Some(reply) = documents::openai(request, key) {
        return reply;
    }
    if request.target == "/v1/responses" {
        return responses::reply(request, key);
    }
    match strict::openai::check(request, key) {
        Ok(body) => answer(&body),
        Err(refusal) => refusal.openai(),
    }
}

/// Plays Azure OpenAI: the same documents under paths and a credential of its own.
pub(super) fn azure(request: &Received, key: &str) -> Reply {
    let answered = cloud::azure(request, key).and_then(|method| {
        let body: Value = serde_json::from_slice(&request.body)
            .map_err(|error| Refusal::new("", &format!("the body is not JSON: {error}")))?;
        match method.name.as_str() {
            "chat/completions" => strict::openai::check_body(&body).map(|()| answer(&body)),
            "responses" => strict::responses::check_body(&body).map(|()| responses::answer(&body)),
            "responses/input_tokens" => documents::input_tokens(&body),
            "embeddings" => documents::embeddings(&body),
            other => Err(Refusal::new("", &format!("{other} is not played"))),
        }
    });
    answered.unwrap_or_else(|refusal| refusal.openai())
}

/// Answers a body that was judged.
fn answer(body: &Value) -> Reply {
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
    let with_usage = body.pointer("/stream_options/include_usage") == Some(&Value::Bool(true));
    let frames = frames(&asked, &turn, with_usage);
    if stall_stream {
        return Reply::stream().frames(frames.into_iter().take(2)).stall();
    }
    Reply::sse(frames)
}

pub(super) fn failure(status: u16) -> Reply {
    let (kind, code) = match status {
        401 => ("invalid_request_error", "invalid_api_key"),
        404 => ("invalid_request_error", "model_not_found"),
        429 => ("requests", "rate_limit_exceeded"),
        400..=499 => ("invalid_request_error", "invalid_value"),
        _ => ("server_error", "server_error"),
    };
    let body = error(kind, code, "This failure was asked for.").to_string();
    let mut headers = vec![
        ("content-type", "application/json"),
        ("x-request-id", "req_openai"),
    ];
    if status == 429 {
        headers.push(("retry-after", "2"));
    }
    Reply::whole(status, &headers, &body)
}

fn read(body: &Value) -> Asked {
    let text = |key: &str| {
        body.get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let messages = body
        .get("messages")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let mut asked = Asked {
        model: text("model"),
        stream: body.get("stream") == Some(&Value::Bool(true)),
        limit: limit(body),
        parallel: body.get("parallel_tool_calls") != Some(&Value::Bool(false)),
        schema: body.pointer("/response_format/json_schema/schema").cloned(),
        thinks: !["", "none"].contains(&text("reasoning_effort").as_str()),
        ..Asked::default()
    };
    match body.get("tool_choice") {
        Some(Value::String(choice)) if choice == "none" => asked.forbidden = true,
        Some(Value::String(choice)) if choice == "required" => asked.forced = Some(String::new()),
        Some(Value::Object(choice)) => {
            let name = choice.get("function").and_then(|function| function.get("name"));
            asked.forced = name.and_then(Value::as_str).map(str::to_owned);
        }
        _ => {}
    }
    asked.tools = body
        .get("tools")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|tool| Some(tool.pointer("/function/name")?.as_str()?.to_owned()))
        .collect();
    for message in &messages {
        read_message(message, &mut asked);
    }
    asked
}

fn read_message(message: &Value, asked: &mut Asked) {
    let (mut said, mut shown) = (String::new(), Vec::new());
    match message.get("content") {
        Some(Value::String(content)) => said.push_str(content),
        Some(Value::Array(parts)) => {
            for part in parts {
                if let Some(text) = part.get("text").and_then(Value::as_str) {
                    said.push_str(text);
                }
                if let Some(url) = part.pointer("/image_url/url").and_then(Value::as_str) {
                    shown.push(describe(url));
                }
                if let Some(data) = part.pointer("/file/file_data").and_then(Value::as_str) {
                    shown.push(describe(data));
                }
            }
        }
        _ => {}
    }
    asked.length += said.len();
    match message.get("role").and_then(Value::as_str) {
        Some("tool") => asked.results.push(said),
        Some("assistant") => asked.results.clear(),
        // A picture that a tool returned can only be carried in a user's message after the results.
        Some("user") if !asked.results.is_empty() && !shown.is_empty() => {
            asked
                .results
                .extend(shown.iter().map(|shown| format!("picture {shown}")));
        }
        Some("user") => {
            (asked.said, asked.shown) = (said, shown);
            asked.results.clear();
        }
        _ => {}
    }
}

fn limit(body: &Value) -> usize {
    ["max_completion_tokens", "max_tokens"]
        .iter()
        .find_map(|key| body.get(key)?.as_u64())
        .and_then(|limit| usize::try_from(limit).ok())
        .unwrap_or(0)
}

pub(super) fn describe(url: &str) -> String {
    match url
        .strip_prefix("data:")
        .and_then(|rest| rest.split_once(";base64,"))
    {
        Some((media, data)) => format!("{media} ({} characters)", data.len()),
        None => url.to_owned(),
    }
}

fn finish(turn: &Turn) -> &'static str {
    if !turn.calls.is_empty() {
        "tool_calls"
    } else if turn.limited {
        "length"
    } else {
        "stop"
    }
}

fn usage(asked: &Asked, turn: &Turn) -> Value {
    let (input, reasoning, output) = turn.usage(asked);
    json!({
        "prompt_tokens": input,
        "completion_tokens": output,
        "total_tokens": input + output,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": reasoning, "audio_tokens": 0},
    })
}

fn response(asked: &Asked, turn: &Turn) -> Value {
    let mut message = json!({"role": "assistant", "content": turn.text, "refusal": null, "annotations": []});
    if !turn.calls.is_empty() {
        let calls: Vec<Value> = turn
            .calls
            .iter()
            .map(|call| {
                let function = json!({"name": call.name, "arguments": call.arguments.to_string()});
                json!({"id": call.id, "type": "function", "function": function})
            })
            .collect();
        message["tool_calls"] = Value::from(calls);
    }
    json!({
        "id": "chatcmpl-testkit",
        "object": "chat.completion",
        "created": 1_750_000_000,
        "model": asked.model,
        "choices": [{"index": 0, "message": message, "logprobs": null, "finish_reason": finish(turn)}],
        "usage": usage(asked, turn),
        "service_tier": "default",
        "system_fingerprint": "fp_testkit",
    })
}

fn frames(asked: &Asked, turn: &Turn, with_usage: bool) -> Vec<String> {
    let model = &asked.model;
    let mut frames = vec![delta(
        model,
        json!({"role": "assistant", "content": turn.text.as_ref().map(|_| ""), "refusal": null}),
        Value::Null,
    )];
    for piece in turn.pieces() {
        frames.push(delta(model, json!({"content": piece}), Value::Null));
    }
    for (index, call) in turn.calls.iter().enumerate() {
        let function = json!({"name": call.name, "arguments": ""});
        let begun = json!({"index": index, "id": call.id, "type": "function", "function": function});
        frames.push(delta(model, json!({"tool_calls": [begun]}), Value::Null));
        let arguments = call.arguments.to_string();
        let (first, second) = arguments.split_at(arguments.len() / 2);
        for piece in [first, second] {
            let more = json!({"index": index, "function": {"arguments": piece}});
            frames.push(delta(model, json!({"tool_calls": [more]}), Value::Null));
        }
    }
    frames.push(delta(model, json!({}), Value::from(finish(turn))));
    if with_usage {
        let mut last = chunk(model, json!([]));
        last["usage"] = usage(asked, turn);
        frames.push(frame(&last));
    }
    frames.push("data: [DONE]\n\n".to_owned());
    frames
}
