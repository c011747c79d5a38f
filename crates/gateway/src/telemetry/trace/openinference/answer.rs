//! What was answered.

use base64::{Engine, prelude::BASE64_STANDARD};
use llm::{Format, Usage, chat::Response};
use serde_json::Value as Json;

use super::{
    super::{
        hide::REDACTED,
        span::{Attributes, Value},
    },
    Describe,
    items::Items,
    messages::Messages,
};

impl Describe<'_> {
    /// Sets what was answered.
    pub(super) fn response(&self, attributes: &mut Attributes) {
        let decision = self.exchange.decision;
        let model = decision
            .response_model
            .as_deref()
            .filter(|model| !model.is_empty());
        match self.label {
            "embeddings" => attributes.maybe("embedding.model_name", model),
            "rerank" | "responses_input_tokens" | "count_tokens" | "total_tokens" | "tokenize" => {}
            // The model that answered takes the place of the one that was asked for.
            _ => attributes.replace("llm.model_name", model),
        }
        self.output(attributes);
        if !self.hide.outputs {
            if !self.hide.output_messages {
                self.messages(attributes);
            }
            self.others(attributes);
        }
        self.counts(attributes);
    }

    fn output(&self, attributes: &mut Attributes) {
        let hidden = self.hide.outputs;
        let (answer, kind) = match self.label {
            "responses_input_tokens" | "count_tokens" | "total_tokens" => return,
            "speech" => {
                if !hidden && !self.exchange.decision.streamed {
                    attributes.set("output.mime_type", "audio/mpeg");
                    attributes.set("output.audio_bytes", self.exchange.decision.bytes_sent);
                }
                return;
            }
            "transcription" | "translation" => {
                let text = self.content.answered()["text"].as_str();
                (text.or(self.content.answer.as_deref()), "text/plain")
            }
            _ => (self.content.answer.as_deref(), "application/json"),
        };
        let Some(answer) = answer else { return };
        attributes.set("output.value", if hidden { REDACTED } else { answer });
        let always = matches!(
            self.label,
            "image_generation" | "image_edit" | "image_variation" | "responses" | "tokenize"
        );
        if always || !hidden {
            attributes.set("output.mime_type", kind);
        }
    }

    fn messages(&self, attributes: &mut Attributes) {
        let items = Items {
            prefix: OUTPUT,
            hide_text: self.hide.output_text,
            hide: self.hide,
        };
        match self.label {
            "chat" => items.choices(&self.content.choices(), attributes),
            "responses" => items.list(0, &self.content.answered()["output"], attributes),
            _ => {
                if let Some(response) = self.content.response() {
                    self.choices(response, attributes);
                }
            }
        }
    }

    fn choices(&self, response: &Response, attributes: &mut Attributes) {
        let mut messages = Messages {
            prefix: OUTPUT,
            next: 0,
            hide_text: self.hide.output_text,
            hide: self.hide,
        };
        for choice in &response.choices {
            match self.exchange.format() {
                // The blocks of an answer are messages of their own.
                Format::Messages => {
                    for part in &choice.parts {
                        messages.push("assistant", false, std::slice::from_ref(part), attributes);
                    }
                }
                Format::OpenAi | Format::Responses | Format::Gemini | Format::Converse | Format::Cohere => {
                    messages.push("assistant", false, &choice.parts, attributes);
                }
            }
        }
    }

    /// Sets what answers say that are no conversations.
    fn others(&self, attributes: &mut Attributes) {
        let answer = || self.content.answered();
        let list = |name: &str| answer()[name].as_array().into_iter().flatten().enumerate();
        match self.label {
            "completion" if !self.hide.choices => {
                for (at, choice) in list("choices") {
                    let text = choice["text"].as_str().unwrap_or_default();
                    attributes.set(format!("llm.choices.{at}.completion.text"), text);
                }
            }
            "embeddings" if !self.hide.embeddings_vectors => {
                for (at, item) in list("data") {
                    let vector = vector(&item["embedding"]);
                    if !vector.is_empty() {
                        let name = format!("embedding.embeddings.{at}.embedding.vector");
                        attributes.set(name, Value::Floats(vector));
                    }
                }
            }
            "rerank" => {
                for (at, item) in list("results") {
                    let name = format!("reranker.output_documents.{at}.document.score");
                    attributes.set(name, item["relevance_score"].as_f64().unwrap_or_default());
                }
            }
            "transcription" => {
                let duration = &answer()["duration"];
                let duration = duration
                    .as_f64()
                    .or_else(|| duration.as_str().and_then(|text| text.parse().ok()));
                attributes.maybe("output.audio_duration", duration.filter(|long| *long > 0.0));
                attributes.maybe("output.language", answer()["language"].as_str());
            }
            _ => {}
        }
    }

    /// Sets the counts of tokens, which are never hidden.
    fn counts(&self, attributes: &mut Attributes) {
        let (label, usage) = (self.label, &self.exchange.decision.usage);
        if label == "tokenize" {
            let answer = self.content.answered();
            let length = |name: &str| answer[name].as_array().map(|list| list.len() as u64);
            attributes.maybe("tokenize.token_count", answer["count"].as_u64());
            attributes.count("tokenize.max_model_len", answer["max_model_len"].as_u64());
            attributes.count("tokenize.tokens_returned", length("tokens"));
            attributes.count("tokenize.token_strings_returned", length("token_strs"));
            return;
        }
        if usage.is_unknown() {
            return;
        }
        let always = label == "messages";
        let mut count = |name: &'static str, value: u64| {
            if value > 0 || always {
                attributes.set(name, value);
            }
        };
        let counter = matches!(label, "responses_input_tokens" | "count_tokens" | "total_tokens");
        count("llm.token_count.prompt", usage.prompt());
        if !counter && !matches!(label, "embeddings" | "rerank") {
            count("llm.token_count.completion", usage.output.unwrap_or(0));
        }
        if !counter {
            count("llm.token_count.total", usage.total());
        }
        self.details(usage, attributes);
    }

    /// Sets what counts consist of, as far as the provider says it.
    fn details(&self, usage: &Usage, attributes: &mut Attributes) {
        let details = [
            ("llm.token_count.prompt_details.cache_read", usage.cache_read),
            ("llm.token_count.prompt_details.cache_creation", usage.cache_write),
            ("llm.token_count.completion_details.reasoning", usage.reasoning),
        ];
        for (name, count) in details {
            match self.label {
                "messages" if name.contains("cache") => attributes.set(name, count.unwrap_or(0)),
                "messages" | "responses" => attributes.count(name, count),
                _ => attributes.maybe(name, count),
            }
        }
        let audio = |half: &str| self.content.audio_tokens(half);
        attributes.maybe(
            "llm.token_count.prompt_details.audio",
            audio("prompt_tokens_details"),
        );
        attributes.maybe(
            "llm.token_count.completion_details.audio",
            audio("completion_tokens_details"),
        );
    }
}

/// What the attributes of what was answered begin with.
const OUTPUT: &str = "llm.output_messages";

/// Returns the numbers of a vector, which may be written as base64 of its bytes (API reference, "Embeddings").
fn vector(value: &Json) -> Vec<f64> {
    match value {
        Json::Array(numbers) => numbers.iter().filter_map(Json::as_f64).collect(),
        Json::String(text) => {
            let bytes = BASE64_STANDARD.decode(text).unwrap_or_default();
            let (numbers, _) = bytes.as_chunks::<4>();
            numbers
                .iter()
                .map(|number| f32::from_le_bytes(*number).into())
                .collect()
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Object(_) => Vec::new(),
    }
}
