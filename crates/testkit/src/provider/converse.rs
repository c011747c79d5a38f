//! Plays Amazon Bedrock's Converse, with its binary streams.

use serde_json::{Value, json};

use super::{Asked, Fault, Turn, fault, messages};
use crate::{
    event_stream::event,
    fixture,
    script::Reply,
    strict::{self, cloud, count::Counted},
    upstream::Received,
};

/// The type of AWS's streams.
pub(super) const EVENT_STREAM: &str = "application/vnd.amazon.eventstream";

pub(super) fn reply(request: &Received, key: &str) -> Reply {
    let body = request.json();
    let method = cloud::bedrock(request, key);
    if let Ok(method) = &method
        && method.name == "count-tokens"
    {
        return count(request, method);
    }
    let judged = method.and_then(|method| {
        strict::converse::check_body(&body)?;
        Ok(method)
    });
    let method = match judged {
        Ok(method) => method,
        Err(refusal) => return refusal.bedrock(),
    };
    let asked = read(&body, method);
    let stall_stream = match fault(&asked.model) {
        Some(Fault::Status(status)) => return failure(status),
        Some(Fault::Stall) => return Reply::new().stall(),
        Some(Fault::StallStream) => true,
        None => false,
    };
    let turn = Turn::of(&asked);
    if !asked.stream {
        let headers = [
            ("content-type", "application/json"),
            ("x-amzn-requestid", "testkit"),
        ];
        return Reply::whole(200, &headers, &response(&asked, &turn).to_string());
    }
    let head = [("content-type", EVENT_STREAM), ("x-amzn-requestid", "testkit")];
    let events = events(&asked, &turn);
    let whole = events.len();
    let said = events.into_iter().take(if stall_stream { 2 } else { whole });
    let reply = said.fold(Reply::chunked(200, &head), Reply::frame);
    if stall_stream { reply.stall() } else { reply.end() }
}

/// Counts the tokens of a body of Converse or InvokeModel.
pub(super) fn count(request: &Received, method: &cloud::Method) -> Reply {
    let tokens = match strict::count::check_bedrock(&request.json(), &method.model) {
        Ok(Counted::Messages(body)) => messages::tokens(&body),
        Ok(Counted::Converse(body)) => super::prompt_tokens(&read(&body, method.clone())),
        Err(refusal) => return refusal.bedrock(),
    };
    Reply::json(200, &json!({"inputTokens": tokens}))
}

/// Returns an error as AWS says it.
pub(super) fn failure(status: u16) -> Reply {
    let exception = match status {
        400 => "ValidationException",
        403 => "AccessDeniedException",
        404 => "ResourceNotFoundException",
        429 => "ThrottlingException",
        503 => "ServiceUnavailableException",
        _ => "InternalServerException",
    };
    let headers = [
        ("content-type", "application/json"),
        ("x-amzn-errortype", exception),
    ];
    Reply::whole(status, &headers, r#"{"message":"This failure was asked for."}"#)
}

fn read(body: &Value, method: cloud::Method) -> Asked {
    let more = |pointer: &str| body.pointer(&format!("/additionalModelRequestFields/{pointer}"));
    let thinking = more("thinking/type").and_then(Value::as_str).unwrap_or_default();
    let limit = body.pointer("/inferenceConfig/maxTokens").and_then(Value::as_u64);
    let mut asked = Asked {
        model: method.model,
        stream: method.name == "converse-stream",
        limit: limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(0),
        parallel: more("tool_choice/disable_parallel_tool_use") != Some(&Value::Bool(true)),
        schema: body
            .pointer("/outputConfig/textFormat/structure/jsonSchema/schema")
            .and_then(|schema| serde_json::from_str(schema.as_str()?).ok()),
        thinks: ["enabled", "adaptive"].contains(&thinking),
        ..Asked::default()
    };
    match body.pointer("/toolConfig/toolChoice") {
        Some(choice) if choice.get("any").is_some() => asked.forced = Some(String::new()),
        Some(choice) => {
            asked.forced = choice
                .pointer("/tool/name")
                .and_then(Value::as_str)
                .map(str::to_owned)
        }
        None => {}
    }
    let elements = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    for tool in elements(body.pointer("/toolConfig/tools")) {
        let name = tool.pointer("/toolSpec/name").and_then(Value::as_str);
        asked.tools.extend(name.map(str::to_owned));
    }
    for message in elements(body.get("messages")) {
        let user = message["role"] == "user";
        asked.results.clear();
        if user {
            asked.said.clear();
            asked.shown.clear();
        }
        for block in elements(message.get("content")) {
            asked.length += block["text"].as_str().map_or(0, str::len);
            if user {
                read_block(&block, &mut asked);
            }
        }
    }
    asked
}

fn read_block(block: &Value, asked: &mut Asked) {
    asked.said.push_str(block["text"].as_str().unwrap_or_default());
    for (key, kind) in [("image", "image"), ("document", "application")] {
        asked
            .shown
            .extend(block.get(key).map(|medium| show(medium, kind)));
    }
    if let Some(result) = block.get("toolResult") {
        let mut said = Vec::new();
        for block in result["content"].as_array().into_iter().flatten() {
            said.extend(block["text"].as_str().map(str::to_owned));
            said.extend(block.get("json").map(Value::to_string));
            said.extend(
                block
                    .get("image")
                    .map(|image| format!("picture {}", show(image, "image"))),
            );
        }
        asked.results.push(said.join(" "));
    }
}

fn show(medium: &Value, kind: &str) -> String {
    let format = medium["format"].as_str().unwrap_or_default();
    let length = medium
        .pointer("/source/bytes")
        .and_then(Value::as_str)
        .map_or(0, str::len);
    format!("{kind}/{format} ({length} characters)")
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

fn usage(asked: &Asked, turn: &Turn) -> Value {
    let (input, _, output) = turn.usage(asked);
    json!({"inputTokens": input, "outputTokens": output, "totalTokens": input + output})
}

fn response(asked: &Asked, turn: &Turn) -> Value {
    let mut content = Vec::new();
    if let Some(thinking) = &turn.thinking {
        let said = json!({"text": thinking, "signature": fixture::seal(thinking)});
        content.push(json!({"reasoningContent": {"reasoningText": said}}));
    }
    content.extend(turn.text.as_ref().map(|text| json!({"text": text})));
    for call in &turn.calls {
        content.push(json!({"toolUse": {"toolUseId": call.id, "name": call.name, "input": call.arguments}}));
    }
    json!({
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": stop_reason(turn), "usage": usage(asked, turn), "metrics": {"latencyMs": 1},
    })
}

fn events(asked: &Asked, turn: &Turn) -> Vec<Vec<u8>> {
    let mut events = vec![event("messageStart", &json!({"role": "assistant"}))];
    let mut index = 0;
    let mut block = |start: Option<Value>, deltas: Vec<Value>| {
        if let Some(start) = start {
            let data = json!({"contentBlockIndex": index, "start": start});
            events.push(event("contentBlockStart", &data));
        }
        for delta in deltas {
            let data = json!({"contentBlockIndex": index, "delta": delta});
            events.push(event("contentBlockDelta", &data));
        }
        events.push(event("contentBlockStop", &json!({"contentBlockIndex": index})));
        index += 1;
    };
    if let Some(thinking) = &turn.thinking {
        let deltas = vec![
            json!({"reasoningContent": {"text": thinking}}),
            json!({"reasoningContent": {"signature": fixture::seal(thinking)}}),
        ];
        block(None, deltas);
    }
    if turn.text.is_some() {
        let deltas = turn.pieces().into_iter().map(|piece| json!({"text": piece}));
        block(None, deltas.collect());
    }
    for call in &turn.calls {
        let arguments = call.arguments.to_string();
        let (first, second) = arguments.split_at(arguments.len() / 2);
        let start = json!({"toolUse": {"toolUseId": call.id, "name": call.name}});
        let deltas = [first, second].map(|piece| json!({"toolUse": {"input": piece}}));
        block(Some(start), deltas.to_vec());
    }
    events.push(event("messageStop", &json!({"stopReason": stop_reason(turn)})));
    let metadata = json!({"usage": usage(asked, turn), "metrics": {"latencyMs": 1}});
    events.push(event("metadata", &metadata));
    events
}
