//! Spans in the words of OpenTelemetry's conventions for generative AI (compatibility specification, "OTel GenAI
//! vocabulary"). Content is recorded only where that is asked for.

mod record;

use llm::chat::Request;
use serde_json::Value as Json;

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
pub(super) fn describe(span: &mut Span, exchange: &Exchange<'_>, content: &Content<'_>, capture: bool) {
    let (decision, label) = (exchange.decision, exchange.label());
    let operation = operation(label);
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
    match content.request() {
        Some(request) if operation == "chat" || label == "generate_content" => {
            parameters(request, attributes)
        }
        Some(_) | None => document(label, &content.document, attributes),
    }
    let conversation = &content.document["conversation"];
    let id = conversation.as_str().or(conversation["id"].as_str());
    attributes.maybe("gen_ai.conversation.id", id.filter(|_| label == "responses"));
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
        record::record(label, content, attributes, exchange.succeeded());
    }
    if exchange.failed() {
        let status = exchange.failure_status();
        let kind = match status.as_u16() {
            500 | 502 | 503 => "500".to_owned(),
            400..=599 => status.as_str().to_owned(),
            _ => "_OTHER".to_owned(),
        };
        attributes.set("error.type", kind);
        let body = content.answer.as_deref().filter(|_| capture);
        span.status = Status::Error(failure(status, body));
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
fn document(label: &str, document: &Json, attributes: &mut Attributes) {
    match label {
        "completion" => {
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
            let stop = match &document["stop"] {
                Json::String(text) => vec![text.clone()],
                Json::Array(texts) => texts
                    .iter()
                    .filter_map(|text| Some(text.as_str()?.to_owned()))
                    .collect(),
                Json::Null | Json::Bool(_) | Json::Number(_) | Json::Object(_) => Vec::new(),
            };
            if !stop.is_empty() {
                attributes.set("gen_ai.request.stop_sequences", stop);
            }
        }
        "embeddings" => {
            if let Some(encoding) = document["encoding_format"].as_str() {
                attributes.set("gen_ai.request.encoding_formats", vec![encoding.to_owned()]);
            }
        }
        _ => {}
    }
}

fn answer(exchange: &Exchange<'_>, content: &Content<'_>, attributes: &mut Attributes) {
    let decision = exchange.decision;
    let id = match content.response() {
        Some(response) => Some(response.head.id.as_str()),
        None => content.answered()["id"].as_str(),
    };
    attributes.maybe("gen_ai.response.id", id.filter(|id| !id.is_empty()));
    let model = decision.response_model.as_deref();
    attributes.maybe("gen_ai.response.model", model.filter(|model| !model.is_empty()));
    let label = exchange.label();
    // Completions and Responses have none.
    if let Some(response) = content.response().filter(|_| label != "responses") {
        let finishes = response.choices.iter().map(|choice| &choice.finish);
        let reason = |finish: &llm::chat::Finish| match &finish.raw {
            Some(raw) => raw.clone(),
            None => finish_name(&finish.reason).to_owned(),
        };
        let reasons: Vec<String> = finishes.map(reason).collect();
        if !reasons.is_empty() {
            attributes.set("gen_ai.response.finish_reasons", reasons);
        }
    }
    let usage = &decision.usage;
    attributes.count("gen_ai.usage.input_tokens", Some(usage.prompt()));
    attributes.count("gen_ai.usage.output_tokens", usage.output);
    attributes.count("gen_ai.usage.cache_read.input_tokens", usage.cache_read);
    attributes.count("gen_ai.usage.cache_creation.input_tokens", usage.cache_write);
    attributes.count("gen_ai.usage.reasoning.output_tokens", usage.reasoning);
    if label == "embeddings" {
        let first = content
            .answered()
            .pointer("/data/0/embedding")
            .and_then(Json::as_array);
        let length = first.and_then(|first| i64::try_from(first.len()).ok());
        attributes.maybe("gen_ai.embeddings.dimension.count", length.map(Value::Integer));
    }
}
