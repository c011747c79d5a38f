//! The four dialects, as plain JSON: what a client of each asks, and what it reads.

use serde_json::{Value, json};
use testkit::fixture::PIXEL;

use crate::fixture::{CHAT, MESSAGES, Served};

/// A client of one dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
    OpenAi,
    Responses,
    Messages,
    Gemini,
}

pub(super) const CLIENTS: &[Client] = &[
    Client::OpenAi,
    Client::Responses,
    Client::Messages,
    Client::Gemini,
];

/// What came of one request.
pub(super) struct Answered {
    pub(super) status: u16,
    /// The whole answer, for who wonders.
    pub(super) text: String,
    pub(super) reply: Value,
    pub(super) losses: String,
    /// Whether it says what it should.
    pub(super) expected: bool,
    /// Whether any reasoning is shown.
    pub(super) thought: bool,
}

/// What an answer says.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) text: String,
    /// The arguments of the calls.
    pub(super) calls: Vec<String>,
    pub(super) thought: String,
}

const CITY: &str = r#"{"type":"object","properties":{"city":{"type":"string"}},"required":["city"],"additionalProperties":false}"#;

impl Client {
    pub(super) fn name(self) -> &'static str {
        match self {
            Client::OpenAi => "OpenAI chat completions",
            Client::Responses => "OpenAI Responses",
            Client::Messages => "Anthropic Messages",
            Client::Gemini => "Gemini",
        }
    }

    pub(super) fn note(self) -> &'static str {
        match self {
            Client::OpenAi => {
                "Caching is asked for with `cache_control` on a part, which servers of the format have added."
            }
            Client::Responses | Client::Gemini => "The format has no marks for caching.",
            Client::Messages => "Caching is asked for with `cache_control`.",
        }
    }

    /// Returns a request that says `text`.
    pub(super) fn request(self, model: &str, text: &str) -> Value {
        match self {
            Client::OpenAi => json!({
                "model": model, "max_completion_tokens": 4096,
                "messages": [
                    { "role": "system", "content": "Be brief." },
                    { "role": "user", "content": [{ "type": "text", "text": text }] },
                ],
            }),
            Client::Responses => json!({
                "model": model, "max_output_tokens": 4096, "instructions": "Be brief.", "store": false,
                "input": [{ "role": "user", "content": [{ "type": "input_text", "text": text }] }],
            }),
            Client::Messages => json!({
                "model": model, "max_tokens": 4096, "system": "Be brief.",
                "messages": [{ "role": "user", "content": [{ "type": "text", "text": text }] }],
            }),
            Client::Gemini => json!({
                "systemInstruction": { "parts": [{ "text": "Be brief." }] },
                "contents": [{ "role": "user", "parts": [{ "text": text }] }],
                "generationConfig": { "maxOutputTokens": 4096 },
            }),
        }
    }

    pub(super) fn stream(self, request: &mut Value) {
        match self {
            Client::OpenAi | Client::Responses | Client::Messages => request["stream"] = json!(true),
            Client::Gemini => {}
        }
    }

    pub(super) fn tools(self, request: &mut Value) {
        let schema: Value = serde_json::from_str(CITY).expect("JSON");
        let (name, description) = ("get_weather", "Tells the weather of a city.");
        request["tools"] = match self {
            Client::OpenAi => json!([{ "type": "function", "function": {
                "name": name, "description": description, "parameters": schema,
            } }]),
            Client::Responses => json!([{
                "type": "function", "name": name, "description": description, "parameters": schema, "strict": true,
            }]),
            Client::Messages => json!([{ "name": name, "description": description, "input_schema": schema }]),
            Client::Gemini => json!([{ "functionDeclarations": [{
                "name": name, "description": description, "parametersJsonSchema": schema,
            }] }]),
        };
    }

    /// Adds what the model said in `reply`, and what its tools `said`.
    pub(super) fn results(self, request: &mut Value, reply: &Value, said: &[&str]) {
        let (turns, mut added) = match self {
            Client::OpenAi => {
                let message = reply["choices"][0]["message"].clone();
                let calls = elements(&message["tool_calls"]).zip(said);
                let results: Vec<Value> = calls
                    .map(
                        |(call, said)| json!({ "role": "tool", "tool_call_id": call["id"], "content": said }),
                    )
                    .collect();
                ("messages", [vec![message], results].concat())
            }
            Client::Responses => {
                let output: Vec<Value> = elements(&reply["output"]).cloned().collect();
                let calls = output
                    .iter()
                    .filter(|item| item["type"] == "function_call")
                    .zip(said);
                let results: Vec<Value> = calls
                    .map(|(call, said)| {
                        json!({ "type": "function_call_output", "call_id": call["call_id"], "output": said })
                    })
                    .collect();
                ("input", [output, results].concat())
            }
            Client::Messages => {
                let calls = elements(&reply["content"])
                    .filter(|block| block["type"] == "tool_use")
                    .zip(said);
                let results: Vec<Value> = calls
                    .map(|(call, said)| json!({ "type": "tool_result", "tool_use_id": call["id"], "content": said }))
                    .collect();
                let turns = vec![
                    json!({ "role": "assistant", "content": reply["content"] }),
                    json!({ "role": "user", "content": results }),
                ];
                ("messages", turns)
            }
            Client::Gemini => {
                let content = reply["candidates"][0]["content"].clone();
                let calls = elements(&content["parts"])
                    .filter_map(|part| part.get("functionCall"))
                    .zip(said);
                let results: Vec<Value> = calls
                    .map(|(call, said)| {
                        let mut response = json!({ "name": call["name"], "response": { "result": said } });
                        if let Some(id) = call.get("id") {
                            response["id"] = id.clone();
                        }
                        json!({ "functionResponse": response })
                    })
                    .collect();
                (
                    "contents",
                    vec![content, json!({ "role": "user", "parts": results })],
                )
            }
        };
        if let Some(turns) = request[turns].as_array_mut() {
            turns.append(&mut added);
        }
    }

    pub(super) fn picture(self, request: &mut Value) {
        let url = format!("data:image/png;base64,{PIXEL}");
        let (parts, part) = match self {
            Client::OpenAi => (
                "/messages/1/content",
                json!({ "type": "image_url", "image_url": { "url": url } }),
            ),
            Client::Responses => (
                "/input/0/content",
                json!({ "type": "input_image", "image_url": url }),
            ),
            Client::Messages => (
                "/messages/0/content",
                json!({ "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": PIXEL } }),
            ),
            Client::Gemini => (
                "/contents/0/parts",
                json!({ "inlineData": { "mimeType": "image/png", "data": PIXEL } }),
            ),
        };
        let parts = request.pointer_mut(parts).and_then(Value::as_array_mut);
        parts.expect("parts").push(part);
    }

    pub(super) fn think(self, request: &mut Value) {
        match self {
            Client::OpenAi => request["reasoning_effort"] = json!("low"),
            Client::Responses => {
                request["reasoning"] = json!({ "effort": "low", "summary": "auto" });
                request["include"] = json!(["reasoning.encrypted_content"]);
            }
            Client::Messages => request["thinking"] = json!({ "type": "enabled", "budget_tokens": 1024 }),
            Client::Gemini => {
                request["generationConfig"]["thinkingConfig"] =
                    json!({ "includeThoughts": true, "thinkingBudget": 1024 });
            }
        }
    }

    pub(super) fn schema(self, request: &mut Value) {
        let schema: Value = serde_json::from_str(CITY).expect("JSON");
        match self {
            Client::OpenAi => {
                let named = json!({ "name": "place", "schema": schema, "strict": true });
                request["response_format"] = json!({ "type": "json_schema", "json_schema": named });
            }
            Client::Responses => {
                let format =
                    json!({ "type": "json_schema", "name": "place", "schema": schema, "strict": true });
                request["text"] = json!({ "format": format });
            }
            Client::Messages => {
                request["output_config"] = json!({ "format": { "type": "json_schema", "schema": schema } });
            }
            Client::Gemini => {
                request["generationConfig"]["responseMimeType"] = json!("application/json");
                request["generationConfig"]["responseJsonSchema"] = schema;
            }
        }
    }

    /// Marks what is to be cached; returns whether the format can.
    pub(super) fn mark(self, request: &mut Value) -> bool {
        let part = match self {
            Client::OpenAi => &mut request["messages"][1]["content"][0],
            Client::Messages => &mut request["messages"][0]["content"][0],
            Client::Responses | Client::Gemini => return false,
        };
        part["cache_control"] = json!({ "type": "ephemeral" });
        true
    }

    /// Sends `request` and judges the answer by what it says.
    pub(super) async fn ask(
        self,
        served: &Served,
        request: &Value,
        stream: bool,
        expected: impl Fn(&Said) -> bool,
    ) -> Answered {
        let path = match (self, stream) {
            (Client::OpenAi, _) => CHAT.to_owned(),
            (Client::Responses, _) => "/v1/responses".to_owned(),
            (Client::Messages, _) => MESSAGES.to_owned(),
            (Client::Gemini, false) => "/v1beta/models/m:generateContent".to_owned(),
            (Client::Gemini, true) => "/v1beta/models/m:streamGenerateContent?alt=sse".to_owned(),
        };
        let answer = served.post(&path, request).await;
        let mut said = Said::default();
        let mut reply = Value::Null;
        if stream {
            // Google ends its lines with both, which a relay keeps.
            for line in answer.text().lines() {
                let data = line.strip_prefix("data: ").unwrap_or_default();
                if let Ok(event) = serde_json::from_str(data) {
                    self.read_event(&event, &mut said);
                }
            }
        } else if answer.status == 200 {
            reply = answer.json();
            self.read(&reply, &mut said);
        }
        said.calls = said.calls.iter().map(|call| canonical(call)).collect();
        Answered {
            status: answer.status,
            text: answer.text(),
            reply,
            losses: answer.header("x-tollgate-loss").to_owned(),
            expected: expected(&said),
            thought: !said.thought.is_empty(),
        }
    }

    /// Reads a whole answer.
    fn read(self, reply: &Value, said: &mut Said) {
        match self {
            Client::OpenAi => {
                let message = &reply["choices"][0]["message"];
                add(&mut said.text, &message["content"]);
                add(&mut said.thought, &message["reasoning_content"]);
                let calls = elements(&message["tool_calls"]).map(|call| &call["function"]["arguments"]);
                said.calls
                    .extend(calls.filter_map(Value::as_str).map(str::to_owned));
            }
            Client::Responses => elements(&reply["output"]).for_each(|item| match item["type"].as_str() {
                Some("message") => add(&mut said.text, &item["content"][0]["text"]),
                Some("reasoning") => add(&mut said.thought, &item["summary"][0]["text"]),
                Some("function_call") => said.calls.extend(item["arguments"].as_str().map(str::to_owned)),
                _ => {}
            }),
            Client::Messages => elements(&reply["content"]).for_each(|block| {
                add(&mut said.text, &block["text"]);
                add(&mut said.thought, &block["thinking"]);
                said.calls.extend(block.get("input").map(Value::to_string));
            }),
            Client::Gemini => elements(&reply["candidates"][0]["content"]["parts"]).for_each(|part| {
                let thought = part["thought"] == true;
                add(
                    if thought {
                        &mut said.thought
                    } else {
                        &mut said.text
                    },
                    &part["text"],
                );
                said.calls
                    .extend(part.pointer("/functionCall/args").map(Value::to_string));
            }),
        }
    }

    /// Reads one event of a stream.
    fn read_event(self, event: &Value, said: &mut Said) {
        match self {
            Client::OpenAi => {
                let delta = &event["choices"][0]["delta"];
                add(&mut said.text, &delta["content"]);
                add(&mut said.thought, &delta["reasoning_content"]);
                for call in elements(&delta["tool_calls"]) {
                    at(&mut said.calls, &call["index"], &call["function"]["arguments"]);
                }
            }
            Client::Responses => {
                let text = match event["type"].as_str() {
                    Some("response.output_text.delta") => &mut said.text,
                    Some("response.reasoning_summary_text.delta") => &mut said.thought,
                    Some("response.function_call_arguments.done") => {
                        said.calls.extend(event["arguments"].as_str().map(str::to_owned));
                        return;
                    }
                    _ => return,
                };
                add(text, &event["delta"]);
            }
            Client::Messages => {
                if event.pointer("/content_block/type") == Some(&json!("tool_use")) {
                    said.calls.push(String::new());
                }
                let delta = &event["delta"];
                add(&mut said.text, &delta["text"]);
                add(&mut said.thought, &delta["thinking"]);
                if let Some(call) = said.calls.last_mut() {
                    add(call, &delta["partial_json"]);
                }
            }
            // Each event is an answer of its own.
            Client::Gemini => self.read(event, said),
        }
    }
}

fn elements(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn add(text: &mut String, more: &Value) {
    text.push_str(more.as_str().unwrap_or_default());
}

fn at(calls: &mut Vec<String>, index: &Value, more: &Value) {
    let index = index
        .as_u64()
        .and_then(|index| usize::try_from(index).ok())
        .unwrap_or(0);
    if calls.len() <= index {
        calls.resize(index + 1, String::new());
    }
    add(&mut calls[index], more);
}

fn canonical(call: &str) -> String {
    serde_json::from_str::<Value>(call).map_or_else(|_| call.to_owned(), |call| call.to_string())
}
