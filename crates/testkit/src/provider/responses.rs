//! Plays OpenAI's Responses.

use serde_json::{Value, json};

use super::{Asked, Fault, Turn, fault, openai};
use crate::{fixture, script::Reply, strict, upstream::Received};

pub(super) fn reply(request: &Received, key: &str) -> Reply {
    match strict::responses::check(request, key) {
        Ok(body) => answer(&body),
        Err(refusal) => refusal.openai(),
    }
}

/// Answers a body that was judged.
pub(super) fn answer(body: &Value) -> Reply {
    let asked = read(body);
    let stall_stream = match fault(&asked.model) {
        Some(Fault::Status(status)) => return openai::failure(status),
        Some(Fault::Stall) => return Reply::new().stall(),
        Some(Fault::StallStream) => true,
        None => false,
    };
    let turn = Turn::of(&asked);
    if !asked.stream {
        return Reply::json(200, &response(&asked, &turn, items(&turn)));
    }
    let frames = frames(&asked, &turn);
    if stall_stream {
        return Reply::stream().frames(frames.into_iter().take(5)).stall();
    }
    Reply::sse(frames)
}

fn read(body: &Value) -> Asked {
    let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let mut asked = Asked {
        model: text("/model").to_owned(),
        stream: body.get("stream") == Some(&Value::Bool(true)),
        limit: body
            .get("max_output_tokens")
            .and_then(Value::as_u64)
            .and_then(|limit| usize::try_from(limit).ok())
            .unwrap_or(0),
        parallel: body.get("parallel_tool_calls") != Some(&Value::Bool(false)),
        schema: body.pointer("/text/format/schema").cloned(),
        thinks: !["", "none"].contains(&text("/reasoning/effort")),
        length: text("/instructions").len(),
        ..Asked::default()
    };
    match body.get("tool_choice") {
        Some(Value::String(choice)) if choice == "none" => asked.forbidden = true,
        Some(Value::String(choice)) if choice == "required" => asked.forced = Some(String::new()),
        Some(Value::Object(_)) => asked.forced = Some(text("/tool_choice/name").to_owned()),
        _ => {}
    }
    let elements = |key: &str| body.get(key).and_then(Value::as_array).into_iter().flatten();
    asked.tools = elements("tools")
        .filter_map(|tool| Some(tool.get("name")?.as_str()?.to_owned()))
        .collect();
    if let Some(Value::String(input)) = body.get("input") {
        asked.said.clone_from(input);
        asked.length += input.len();
    }
    for item in elements("input") {
        read_item(item, &mut asked);
    }
    asked
}

fn read_item(item: &Value, asked: &mut Asked) {
    let text = |key: &str| item.get(key).and_then(Value::as_str).unwrap_or_default();
    match text("type") {
        "function_call_output" | "custom_tool_call_output" => {
            let (mut said, shown) = read_content(item.get("output"));
            said.extend(shown.iter().map(|shown| format!("picture {shown}")));
            asked.length += said.concat().len();
            asked.results.push(said.join(" "));
        }
        "" | "message" => {
            let (said, shown) = read_content(item.get("content"));
            asked.length += said.concat().len();
            asked.results.clear();
            if text("role") == "user" {
                (asked.said, asked.shown) = (said.concat(), shown);
            }
        }
        _ => {}
    }
}

/// Returns the texts of content, and what it shows.
fn read_content(content: Option<&Value>) -> (Vec<String>, Vec<String>) {
    let (mut said, mut shown) = (Vec::new(), Vec::new());
    match content {
        Some(Value::String(text)) => said.push(text.clone()),
        Some(Value::Array(parts)) => {
            for part in parts {
                let text = |key: &str| part.get(key).and_then(Value::as_str);
                said.extend(text("text").map(str::to_owned));
                shown.extend(text("image_url").or(text("file_data")).map(openai::describe));
            }
        }
        _ => {}
    }
    (said, shown)
}

/// Returns the items of the answer.
fn items(turn: &Turn) -> Vec<Value> {
    let mut items = Vec::new();
    if let Some(thinking) = &turn.thinking {
        items.push(json!({
            "type": "reasoning", "id": "rs_testkit",
            "summary": [{"type": "summary_text", "text": thinking}],
            "encrypted_content": fixture::seal(thinking),
        }));
    }
    if let Some(text) = &turn.text {
        items.push(json!({
            "type": "message", "id": "msg_testkit", "status": "completed", "role": "assistant",
            "content": [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}],
        }));
    }
    for (index, call) in turn.calls.iter().enumerate() {
        items.push(json!({
            "type": "function_call", "id": format!("fc_{index}"), "status": "completed",
            "call_id": call.id, "name": call.name, "arguments": call.arguments.to_string(),
        }));
    }
    items
}

fn response(asked: &Asked, turn: &Turn, items: Vec<Value>) -> Value {
    let (input, reasoning, output) = turn.usage(asked);
    let (status, details) = if turn.limited {
        ("incomplete", json!({"reason": "max_output_tokens"}))
    } else {
        ("completed", Value::Null)
    };
    // Clients put a message in the place of one that has its id.
    let id = format!("resp_{:04}", asked.length);
    json!({
        "id": id, "object": "response", "created_at": 1_750_000_000, "status": status,
        "error": null, "incomplete_details": details, "model": asked.model, "output": items,
        "usage": {
            "input_tokens": input, "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": output, "output_tokens_details": {"reasoning_tokens": reasoning},
            "total_tokens": input + output,
        },
    })
}

fn frames(asked: &Asked, turn: &Turn) -> Vec<String> {
    let mut begun = response(asked, turn, Vec::new());
    begun["status"] = json!("in_progress");
    begun["usage"] = Value::Null;
    let mut events = vec![
        json!({"type": "response.created", "response": begun}),
        json!({"type": "response.in_progress", "response": begun}),
    ];
    for (index, item) in items(turn).into_iter().enumerate() {
        let mut empty = item.clone();
        for key in ["summary", "content"] {
            if let Some(parts) = empty.get_mut(key) {
                *parts = json!([]);
            }
        }
        if let Some(arguments) = empty.get_mut("arguments") {
            *arguments = json!("");
        }
        events.push(json!({"type": "response.output_item.added", "output_index": index, "item": empty}));
        match item["type"].as_str() {
            Some("reasoning") => events.extend(summary(&item, index)),
            Some("message") => events.extend(message(turn, &item, index)),
            _ => events.extend(call(&item, index)),
        }
        events.push(json!({"type": "response.output_item.done", "output_index": index, "item": item}));
    }
    let kind = if turn.limited {
        "response.incomplete"
    } else {
        "response.completed"
    };
    events.push(json!({"type": kind, "response": response(asked, turn, items(turn))}));
    let numbered = events.into_iter().enumerate().map(|(number, mut event)| {
        event["sequence_number"] = json!(number);
        format!(
            "event: {}\ndata: {event}\n\n",
            event["type"].as_str().unwrap_or_default()
        )
    });
    numbered.collect()
}

fn summary(item: &Value, index: usize) -> Vec<Value> {
    let part = &item["summary"][0];
    let at = |kind: &str, more: Value| event(kind, item, index, "summary_index", more);
    vec![
        at(
            "reasoning_summary_part.added",
            json!({"part": {"type": "summary_text", "text": ""}}),
        ),
        at("reasoning_summary_text.delta", json!({"delta": part["text"]})),
        at("reasoning_summary_text.done", json!({"text": part["text"]})),
        at("reasoning_summary_part.done", json!({"part": part})),
    ]
}

fn message(turn: &Turn, item: &Value, index: usize) -> Vec<Value> {
    let part = &item["content"][0];
    let at = |kind: &str, more: Value| event(kind, item, index, "content_index", more);
    let mut empty = part.clone();
    empty["text"] = json!("");
    let mut events = vec![at("content_part.added", json!({"part": empty}))];
    let deltas = turn.pieces().into_iter();
    events.extend(deltas.map(|piece| at("output_text.delta", json!({"delta": piece, "logprobs": []}))));
    events.push(at(
        "output_text.done",
        json!({"text": part["text"], "logprobs": []}),
    ));
    events.push(at("content_part.done", json!({"part": part})));
    events
}

fn call(item: &Value, index: usize) -> Vec<Value> {
    let arguments = item["arguments"].as_str().unwrap_or_default();
    let (first, second) = arguments.split_at(arguments.len() / 2);
    let at = |kind: &str, more: Value| {
        let mut event =
            json!({"type": format!("response.{kind}"), "item_id": item["id"], "output_index": index});
        extend(&mut event, more);
        event
    };
    vec![
        at("function_call_arguments.delta", json!({"delta": first})),
        at("function_call_arguments.delta", json!({"delta": second})),
        at(
            "function_call_arguments.done",
            json!({"arguments": arguments, "name": item["name"]}),
        ),
    ]
}

fn event(kind: &str, item: &Value, index: usize, place: &str, more: Value) -> Value {
    let mut event = json!({
        "type": format!("response.{kind}"), "item_id": item["id"], "output_index": index,
    });
    event[place] = json!(0);
    extend(&mut event, more);
    event
}

fn extend(event: &mut Value, more: Value) {
    if let (Some(event), Value::Object(more)) = (event.as_object_mut(), more) {
        event.extend(more);
    }
}
