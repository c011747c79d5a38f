//! Plays Gemini, at AI Studio and at Vertex AI.

use serde_json::{Value, json};

use super::{Asked, Fault, Turn, documents, fault};
use crate::{
    fixture,
    script::Reply,
    strict::{self, Refusal, cloud, gemini::CALLS},
    upstream::Received,
};

/// Answers at AI Studio.
pub(super) fn ai_studio(request: &Received, key: &str) -> Reply {
    answer(request, cloud::ai_studio(request, key))
}

/// Answers at Vertex AI.
pub(super) fn vertex(request: &Received, key: &str) -> Reply {
    answer(request, cloud::vertex(request, key, "google"))
}

/// Answers a request whose head asks a model for `method`.
fn answer(request: &Received, head: Result<cloud::Method, Refusal>) -> Reply {
    let judged = head.and_then(|method| {
        let body = strict::gemini::named(&request.json());
        if method.name == "batchEmbedContents" || method.name == "countTokens" {
            return Ok((method, body));
        }
        strict::gemini::check_body(&body)?;
        Ok((method, body))
    });
    let (method, body) = match judged {
        Ok(judged) => judged,
        Err(refusal) => return refusal.gemini(),
    };
    if let Some(reply) = documents::gemini(&method.name, &body) {
        return reply;
    }
    let asked = read(&body, method);
    let stall_stream = match fault(&asked.model) {
        Some(Fault::Status(status)) => return failure(status),
        Some(Fault::Stall) => return Reply::new().stall(),
        Some(Fault::StallStream) => true,
        None => false,
    };
    let turn = Turn::of(&asked);
    if !asked.stream {
        return Reply::json(200, &reply(&asked, parts(&turn), Some(&turn)));
    }
    let pieces = pieces(&turn);
    let last = pieces.len().saturating_sub(1);
    let documents = pieces.into_iter().enumerate().map(|(index, part)| {
        let ends = (index == last).then_some(&turn);
        format!("data: {}\r\n\r\n", reply(&asked, vec![part], ends))
    });
    let frames: Vec<String> = documents.collect();
    if stall_stream {
        return Reply::stream().frames(frames.into_iter().take(1)).stall();
    }
    Reply::sse(frames)
}

fn failure(status: u16) -> Reply {
    let word = match status {
        400 => "INVALID_ARGUMENT",
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        503 => "UNAVAILABLE",
        _ => "INTERNAL",
    };
    let message = "This failure was asked for.";
    Reply::json(
        status,
        &json!({"error": {"code": status, "message": message, "status": word}}),
    )
}

fn read(body: &Value, method: cloud::Method) -> Asked {
    let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let config = |key: &str| body.pointer(&format!("/generationConfig/{key}"));
    let budget = config("thinkingConfig/thinkingBudget").and_then(Value::as_i64);
    let mut asked = Asked {
        model: method.model,
        stream: method.name == "streamGenerateContent",
        limit: config("maxOutputTokens")
            .and_then(Value::as_u64)
            .and_then(|limit| usize::try_from(limit).ok())
            .unwrap_or(0),
        parallel: true,
        schema: config("responseSchema")
            .or(config("responseJsonSchema"))
            .map(lower),
        thinks: config("thinkingConfig/includeThoughts") == Some(&Value::Bool(true)) && budget != Some(0),
        ..Asked::default()
    };
    match text("/toolConfig/functionCallingConfig/mode") {
        "NONE" => asked.forbidden = true,
        "ANY" => {
            let one = text("/toolConfig/functionCallingConfig/allowedFunctionNames/0");
            asked.forced = Some(one.to_owned());
        }
        _ => {}
    }
    let elements = |value: &Value, key: &str| {
        value
            .get(key)
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    for tool in elements(body, "tools") {
        for function in elements(&tool, "functionDeclarations") {
            asked.tools.extend(function["name"].as_str().map(str::to_owned));
        }
    }
    for content in elements(body, "contents") {
        let user = content["role"] == "user";
        asked.results.clear();
        if user {
            asked.said.clear();
            asked.shown.clear();
        }
        for part in elements(&content, "parts") {
            asked.length += part["text"].as_str().map_or(0, str::len);
            if user {
                read_part(&part, &mut asked);
            }
        }
    }
    asked
}

fn read_part(part: &Value, asked: &mut Asked) {
    if let Some(text) = part["text"].as_str() {
        asked.said.push_str(text);
    }
    let shown = |media: &Value| match media["fileUri"].as_str() {
        Some(uri) => uri.to_owned(),
        None => {
            let length = media["data"].as_str().map_or(0, str::len);
            let kind = media["mimeType"].as_str().unwrap_or_default();
            format!("{kind} ({length} characters)")
        }
    };
    for key in ["inlineData", "fileData"] {
        asked.shown.extend(part.get(key).map(shown));
    }
    if let Some(response) = part.get("functionResponse") {
        let said = response["response"].as_object().into_iter().flatten();
        let mut said: Vec<String> = said
            .map(|(_, said)| said.as_str().map_or_else(|| said.to_string(), str::to_owned))
            .collect();
        let media = response["parts"].as_array().into_iter().flatten();
        said.extend(media.map(|media| format!("picture {}", shown(&media["inlineData"]))));
        asked.results.push(said.join(" "));
    }
}

/// Returns a schema with its types in lower case, as those of all others are.
fn lower(schema: &Value) -> Value {
    match schema {
        Value::Object(members) => members
            .iter()
            .map(|(key, value)| {
                let word = value.as_str().filter(|_| key == "type");
                (
                    key.clone(),
                    word.map_or_else(|| lower(value), |word| json!(word.to_lowercase())),
                )
            })
            .collect(),
        Value::Array(elements) => elements.iter().map(lower).collect(),
        other => other.clone(),
    }
}

/// Returns the parts of a whole answer.
fn parts(turn: &Turn) -> Vec<Value> {
    let mut parts = Vec::new();
    if let Some(thinking) = &turn.thinking {
        parts.push(json!({"text": thinking, "thought": true}));
    }
    if let Some(text) = &turn.text {
        parts.push(json!({"text": text}));
    }
    for (index, call) in turn.calls.iter().enumerate() {
        let mut part = json!({"functionCall": {"name": call.name, "args": call.arguments}});
        // The first of parallel calls is signed, and stands for all.
        if index == 0 && turn.thinking.is_some() {
            part["thoughtSignature"] = json!(fixture::seal(CALLS));
        }
        parts.push(part);
    }
    parts
}

/// Returns the parts of a streamed answer, texts word by word.
fn pieces(turn: &Turn) -> Vec<Value> {
    let whole = parts(turn).into_iter();
    let others = whole.filter(|part| part.get("text").is_none() || part.get("thought").is_some());
    let (thoughts, calls): (Vec<Value>, Vec<Value>) = others.partition(|part| part.get("thought").is_some());
    let words = turn.pieces().into_iter().map(|piece| json!({"text": piece}));
    thoughts.into_iter().chain(words).chain(calls).collect()
}

/// Returns a document with `parts`; the last one tells how the answer `ends`.
fn reply(asked: &Asked, parts: Vec<Value>, ends: Option<&Turn>) -> Value {
    let mut candidate = json!({"content": {"role": "model", "parts": parts}, "index": 0});
    let mut reply = json!({"modelVersion": asked.model, "responseId": "testkit"});
    if let Some(turn) = ends {
        let (input, reasoning, output) = turn.usage(asked);
        candidate["finishReason"] = json!(if turn.limited { "MAX_TOKENS" } else { "STOP" });
        reply["usageMetadata"] = json!({
            "promptTokenCount": input, "candidatesTokenCount": output - reasoning,
            "thoughtsTokenCount": reasoning, "totalTokenCount": input + output,
        });
    }
    reply["candidates"] = json!([candidate]);
    reply
}
