//! Spans in the words of OpenTelemetry's conventions for generative AI (compatibility specification, "OTel GenAI
//! vocabulary"). Content is recorded only where that is asked for.

use llm::chat::{Part, PartBody, Request, Role, ToolBody};
use serde_json::{Value as Json, json};

use super::{
    Exchange,
    content::Content,
    openinference::failure,
    span::{Attributes, Event, Kind, Span, Status, Value},
};
use crate::telemetry::log::finish_name;

/// Returns what the conventions call an operation.
fn operation(label: &'static str) -> &'static str {
    match label {
        "chat" | "responses" | "messages" => "chat",
        "completion" => "text_completion",
        "responses_input_tokens" | "count_tokens" | "total_tokens" => "tokenize",
        "image_edit" | "image_variation" => "image_generation",
        other => other,
    }
}

/// Fills in `span`, which has its place and its times. `capture` tells whether content is recorded.
pub(super) fn describe(span: &mut Span, exchange: &Exchange<'_>, content: &Content, capture: bool) {
    let decision = exchange.decision;
    let operation = operation(exchange.label());
    span.name = match &decision.model {
        Some(model) => format!("{operation} {model}"),
        None => operation.to_owned(),
    };
    span.kind = Kind::Client;
    let attributes = &mut span.attributes;
    attributes.set("gen_ai.operation.name", operation);
    attributes.maybe("gen_ai.request.model", decision.model.as_deref());
    let provider = decision.attempt.as_ref().map(|attempt| attempt.provider);
    attributes.maybe("gen_ai.provider.name", provider);
    match &content.request {
        Some(request) => parameters(request, attributes),
        None => document(&content.document, attributes),
    }
    if let Some(at) = exchange.first_token() {
        span.events.push(Event {
            name: "gen_ai.first_token",
            at,
            attributes: Attributes::default(),
        });
    }
    if exchange.succeeded() {
        answer(exchange, content, attributes);
        span.status = Status::Ok;
    }
    if capture {
        record(content, attributes, exchange.succeeded());
    }
    if exchange.failed() {
        let status = decision.status.as_u16();
        let kind = match status {
            500 | 502 | 503 => "500".to_owned(),
            400..=599 => status.to_string(),
            _ => "_OTHER".to_owned(),
        };
        attributes.set("error.type", kind);
        let body = content.answer.as_deref().filter(|_| capture);
        span.status = Status::Error(failure(decision.status, body));
    }
}

fn parameters(request: &Request, attributes: &mut Attributes) {
    let sampling = &request.sampling;
    attributes.maybe("gen_ai.request.temperature", sampling.temperature);
    attributes.maybe("gen_ai.request.top_p", sampling.top_p);
    attributes.maybe("gen_ai.request.top_k", sampling.top_k);
    attributes.maybe("gen_ai.request.frequency_penalty", sampling.frequency_penalty);
    attributes.maybe("gen_ai.request.presence_penalty", sampling.presence_penalty);
    attributes.maybe("gen_ai.request.seed", sampling.seed);
    attributes.maybe("gen_ai.request.choice.count", sampling.choices);
    attributes.maybe("gen_ai.request.max_tokens", request.max_output);
    if !sampling.stop.is_empty() {
        attributes.set("gen_ai.request.stop_sequences", sampling.stop.clone());
    }
}

/// Sets the parameters of what is no conversation.
fn document(document: &Json, attributes: &mut Attributes) {
    for (name, member) in [
        ("gen_ai.request.temperature", "temperature"),
        ("gen_ai.request.top_p", "top_p"),
        ("gen_ai.request.frequency_penalty", "frequency_penalty"),
        ("gen_ai.request.presence_penalty", "presence_penalty"),
    ] {
        attributes.maybe(name, document[member].as_f64());
    }
    for (name, member) in [
        ("gen_ai.request.max_tokens", "max_tokens"),
        ("gen_ai.request.seed", "seed"),
        ("gen_ai.request.choice.count", "n"),
    ] {
        attributes.maybe(name, document[member].as_i64());
    }
    if let Some(encoding) = document["encoding_format"].as_str() {
        attributes.set("gen_ai.request.encoding_formats", vec![encoding.to_owned()]);
    }
}

fn answer(exchange: &Exchange<'_>, content: &Content, attributes: &mut Attributes) {
    let decision = exchange.decision;
    let response = content.response.as_ref();
    let id = response.map(|response| response.head.id.as_str());
    attributes.maybe("gen_ai.response.id", id.filter(|id| !id.is_empty()));
    let model = decision.response_model.as_deref();
    attributes.maybe("gen_ai.response.model", model.filter(|model| !model.is_empty()));
    let reasons: Vec<String> = match response {
        Some(response) => {
            let finishes = response.choices.iter().map(|choice| &choice.finish);
            let reason = |finish: &llm::chat::Finish| match &finish.raw {
                Some(raw) => raw.clone(),
                None => finish_name(&finish.reason).to_owned(),
            };
            finishes.map(reason).collect()
        }
        None => decision
            .finish
            .iter()
            .map(|reason| finish_name(reason).to_owned())
            .collect(),
    };
    if !reasons.is_empty() {
        attributes.set("gen_ai.response.finish_reasons", reasons);
    }
    let usage = &decision.usage;
    attributes.count("gen_ai.usage.input_tokens", Some(usage.prompt()));
    attributes.count("gen_ai.usage.output_tokens", usage.output);
    attributes.count("gen_ai.usage.cache_read.input_tokens", usage.cache_read);
    attributes.count("gen_ai.usage.cache_creation.input_tokens", usage.cache_write);
    attributes.count("gen_ai.usage.reasoning.output_tokens", usage.reasoning);
    if exchange.label() == "embeddings" {
        let answer = content.answer.as_deref().unwrap_or_default();
        let vectors: Json = serde_json::from_str(answer).unwrap_or_default();
        let first = vectors.pointer("/data/0/embedding").and_then(Json::as_array);
        let length = first.and_then(|first| i64::try_from(first.len()).ok());
        attributes.maybe("gen_ai.embeddings.dimension.count", length.map(Value::Integer));
    }
}

/// Records what was said.
fn record(content: &Content, attributes: &mut Attributes, succeeded: bool) {
    if let Some(request) = &content.request {
        if !request.instructions.is_empty() {
            let parts: Json = request.instructions.iter().map(part).collect();
            attributes.set("gen_ai.system_instructions", parts.to_string());
        }
        let messages: Json = request
            .turns
            .iter()
            .map(|turn| {
                let role = match turn.role {
                    Role::System => "system",
                    Role::User => "user",
                    Role::Assistant => "assistant",
                };
                json!({"role": role, "parts": turn.parts.iter().map(part).collect::<Json>()})
            })
            .collect();
        if !request.turns.is_empty() {
            attributes.set("gen_ai.input.messages", messages.to_string());
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
    if let Some(response) = content.response.as_ref().filter(|_| succeeded) {
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
        ToolBody::Native { kind, .. } => json!({"type": kind}),
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
