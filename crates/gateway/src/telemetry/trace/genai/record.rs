//! What was said, as the conventions have it: messages of parts.

use llm::chat::{Part, PartBody, Role, ToolBody};
use serde_json::{Value as Json, json};

use super::{super::span::Attributes, Content, finish_name};

/// Records what was said in an exchange of the operation `label`.
pub(super) fn record(label: &str, content: &Content<'_>, attributes: &mut Attributes, succeeded: bool) {
    if label == "completion" {
        completion(content, attributes, succeeded);
    }
    if let Some(request) = content.request() {
        // What chat begins with stays among its messages.
        let mut messages = if label == "chat" {
            leading(&content.document["messages"])
        } else {
            Vec::new()
        };
        if !request.instructions.is_empty() && label != "chat" {
            let parts: Json = request.instructions.iter().map(part).collect();
            attributes.set("gen_ai.system_instructions", parts.to_string());
        }
        messages.extend(request.turns.iter().map(|turn| {
            let role = match turn.role {
                Role::System => "system",
                Role::User => "user",
                Role::Assistant => "assistant",
            };
            json!({"role": role, "parts": turn.parts.iter().map(part).collect::<Json>()})
        }));
        if !messages.is_empty() {
            attributes.set("gen_ai.input.messages", Json::Array(messages).to_string());
        }
        if !request.tools.is_empty() {
            let tools: Json = request
                .tools
                .iter()
                .map(|declared| tool(&declared.body))
                .collect();
            attributes.set("gen_ai.tool.definitions", tools.to_string());
        }
    }
    if let Some(response) = content.response().filter(|_| succeeded) {
        let messages: Json = response
            .choices
            .iter()
            .map(|choice| {
                let reason = choice.finish.raw.as_deref();
                json!({
                    "role": "assistant",
                    "parts": choice.parts.iter().map(part).collect::<Json>(),
                    "finish_reason": reason.unwrap_or(finish_name(&choice.finish.reason)),
                })
            })
            .collect();
        attributes.set("gen_ai.output.messages", messages.to_string());
    }
}

/// Returns the instructions that a conversation begins with, in the words of the client.
fn leading(messages: &Json) -> Vec<Json> {
    let messages = messages.as_array().into_iter().flatten();
    let leading = messages.take_while(|said| said["role"] == "system" || said["role"] == "developer");
    leading
        .map(|said| {
            let texts: Vec<&str> = match &said["content"] {
                Json::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
                content => content.as_str().into_iter().collect(),
            };
            let parts = texts
                .into_iter()
                .map(|text| json!({"type": "text", "content": text}));
            json!({"role": said["role"], "parts": parts.collect::<Json>()})
        })
        .collect()
}

/// Records a prompt as what a user said, and the texts that go on from it as answers.
fn completion(content: &Content<'_>, attributes: &mut Attributes, succeeded: bool) {
    let text = |text: &str| json!({"type": "text", "content": text});
    let prompt = &content.document["prompt"];
    let prompts: Vec<Json> = match prompt {
        Json::String(said) => vec![text(said)],
        Json::Array(items) if items.iter().all(Json::is_number) => {
            vec![text(&format!("<{} tokens>", items.len()))]
        }
        Json::Array(items) => {
            let said = |item: &Json| match item {
                Json::String(said) => said.clone(),
                Json::Array(tokens) => format!("<{} tokens>", tokens.len()),
                Json::Null | Json::Bool(_) | Json::Number(_) | Json::Object(_) => item.to_string(),
            };
            items.iter().map(|item| text(&said(item))).collect()
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Object(_) => Vec::new(),
    };
    if !prompts.is_empty() {
        let messages = json!([{"role": "user", "parts": prompts}]);
        attributes.set("gen_ai.input.messages", messages.to_string());
    }
    let choices = content.answered()["choices"].as_array();
    if let Some(choices) = choices.filter(|_| succeeded) {
        let messages = choices.iter().map(|choice| {
            let said = choice["text"].as_str().unwrap_or_default();
            let mut message = json!({"role": "assistant", "parts": [text(said)]});
            if let Some(reason) = choice["finish_reason"].as_str() {
                message["finish_reason"] = reason.into();
            }
            message
        });
        attributes.set("gen_ai.output.messages", messages.collect::<Json>().to_string());
    }
}

fn part(part: &Part) -> Json {
    match &part.body {
        PartBody::Text(text) | PartBody::Refusal(text) => json!({"type": "text", "content": text}),
        PartBody::Reasoning(_) => json!({"type": "reasoning"}),
        PartBody::Media(media) => json!({"type": media.kind.name()}),
        PartBody::SearchResult(result) => json!({"type": "text", "content": result.to_text()}),
        PartBody::ToolCall(call) => {
            json!({"type": "tool_call", "id": call.id, "name": call.name, "arguments": call.arguments})
        }
        PartBody::ToolResult(result) => {
            let first = result.parts.iter().find_map(|part| match &part.body {
                PartBody::Text(text) => Some(text.as_str()),
                PartBody::Media(_)
                | PartBody::Reasoning(_)
                | PartBody::ToolCall(_)
                | PartBody::SearchResult(_)
                | PartBody::ToolResult(_)
                | PartBody::Refusal(_)
                | PartBody::Native { .. } => None,
            });
            match first {
                Some(text) => json!({"type": "tool_call_response", "id": result.call, "content": text}),
                None => json!({"type": "tool_call_response", "id": result.call}),
            }
        }
        PartBody::Native { kind, .. } => json!({"type": kind}),
    }
}

fn tool(tool: &ToolBody) -> Json {
    match tool {
        ToolBody::Native { kind, raw, .. } => {
            let declared: Json = serde_json::from_str(raw.get()).unwrap_or_default();
            match declared["name"].as_str() {
                Some(name) => json!({"type": kind, "name": name}),
                None => json!({"type": kind}),
            }
        }
        ToolBody::Function {
            name,
            description,
            parameters,
            ..
        } => {
            let mut definition = json!({"type": "function", "name": name});
            if let Some(description) = description {
                definition["description"] = description.as_str().into();
            }
            let parameters = parameters
                .as_ref()
                .map(|raw| serde_json::from_str::<Json>(raw.get()));
            if let Some(Ok(parameters)) = parameters {
                definition["parameters"] = parameters;
            }
            definition
        }
    }
}
