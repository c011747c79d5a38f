//! What was asked for.

use llm::{
    Format,
    chat::{Request, Role},
};
use serde::Serializer;
use serde_json::Value as Json;

use super::{
    super::{hide::REDACTED, span::Attributes},
    Describe,
    items::Items,
    messages::Messages,
};

/// The members of a request that are its parameters.
#[derive(Clone, Copy)]
enum Members {
    /// All but these, which are content.
    Without(&'static [&'static str]),
    /// These alone.
    Only(&'static [&'static str]),
    /// All of them, as they were sent.
    All,
}

impl Describe<'_> {
    /// Sets what was asked for.
    pub(super) fn request(&self, attributes: &mut Attributes) {
        let model = self.exchange.decision.model.as_deref().unwrap_or_default();
        match self.label {
            "embeddings" => {}
            "rerank" => attributes.set("reranker.model_name", model),
            _ => attributes.set("llm.model_name", model),
        }
        self.input(attributes);
        self.parameters(attributes);
        self.settings(attributes);
        if !self.hide.inputs {
            self.said(attributes);
        }
    }

    fn input(&self, attributes: &mut Attributes) {
        let Some(input) = self.exchange.trace.request.as_deref() else {
            return;
        };
        let counter = matches!(
            self.label,
            "responses_input_tokens" | "count_tokens" | "total_tokens" | "tokenize"
        );
        if self.hide.inputs {
            if !counter {
                attributes.set("input.value", REDACTED);
            }
            if self.label == "responses" {
                attributes.set("input.mime_type", JSON);
            }
            return;
        }
        let value = match self.label {
            "speech" => self.members(&["input", "instructions", "response_format", "speed", "voice"]),
            _ => self.hide.pictures_in(input, &self.content.document),
        };
        attributes.set("input.value", value);
        attributes.set("input.mime_type", JSON);
    }

    /// Sets what was asked for beside the content itself.
    fn parameters(&self, attributes: &mut Attributes) {
        use Members::{All, Only, Without};
        let (name, members) = match self.label {
            "chat" => ("llm.invocation_parameters", Without(&["messages", "tools"])),
            "messages" => (
                "llm.invocation_parameters",
                Without(&["messages", "tools", "system"]),
            ),
            "responses" => (
                "llm.invocation_parameters",
                Without(&["input", "tools", "instructions"]),
            ),
            "generate_content" => (
                "llm.invocation_parameters",
                Without(&["contents", "tools", "systemInstruction"]),
            ),
            "completion" => ("llm.invocation_parameters", Without(&["prompt"])),
            "embeddings" => (
                "embedding.invocation_parameters",
                Only(&["model", "encoding_format", "dimensions", "user"]),
            ),
            // The prompt is among the parameters, unless it is hidden.
            "image_generation" if self.hide.inputs => ("llm.invocation_parameters", Without(&["prompt"])),
            "speech" if self.hide.inputs => {
                ("llm.invocation_parameters", Without(&["input", "instructions"]))
            }
            "image_generation" | "speech" => ("llm.invocation_parameters", All),
            _ => return,
        };
        if self.hide.invocation_parameters || !self.content.document.is_object() {
            return;
        }
        let written = match members {
            Without(content) => self.without(content),
            Only(members) => self.members(members),
            All => {
                let input = self.exchange.trace.request.as_deref().unwrap_or_default();
                String::from_utf8_lossy(input).into_owned()
            }
        };
        attributes.set(name, written);
    }

    /// Sets what is no content, whatever is hidden.
    fn settings(&self, attributes: &mut Attributes) {
        let document = &self.content.document;
        let flag = |name: &str, default: bool| document[name].as_bool().unwrap_or(default);
        match self.label {
            "rerank" => attributes.maybe("reranker.top_k", document["top_n"].as_u64()),
            "tokenize" => {
                let messages = document["messages"].as_array();
                let kind = if messages.is_some() { "chat" } else { "completion" };
                attributes.set("tokenize.request_type", kind);
                // A prompt gets the tokens that a template of conversations has already.
                let special = flag("add_special_tokens", messages.is_none());
                attributes.set("tokenize.add_special_tokens", special);
                attributes.set("tokenize.return_token_strs", flag("return_token_strs", false));
                if let Some(messages) = messages {
                    let prompts = flag("add_generation_prompt", true);
                    attributes.set("tokenize.add_generation_prompt", prompts);
                    let goes_on = flag("continue_final_message", false);
                    attributes.set("tokenize.continue_final_message", goes_on);
                    attributes.set("tokenize.message_count", messages.len() as u64);
                }
            }
            _ => {}
        }
    }

    /// Sets the content, piece by piece.
    fn said(&self, attributes: &mut Attributes) {
        let document = &self.content.document;
        match self.label {
            "completion" if !self.hide.prompts => {
                for (at, text) in texts(&document["prompt"]).into_iter().enumerate() {
                    attributes.set(format!("llm.prompts.{at}.prompt.text"), text);
                }
            }
            "embeddings" if !self.hide.embeddings_text => {
                let messages = document["messages"].as_array();
                let users = messages.into_iter().flatten().filter(|one| one["role"] == "user");
                let spoken = users.flat_map(|one| texts(&one["content"]));
                let all = texts(&document["input"]).into_iter().chain(spoken);
                for (at, text) in all.enumerate() {
                    attributes.set(format!("embedding.embeddings.{at}.embedding.text"), text);
                }
            }
            "rerank" => {
                attributes.maybe("reranker.query", document["query"].as_str());
                for (at, text) in texts(&document["documents"]).into_iter().enumerate() {
                    attributes.set(format!("reranker.input_documents.{at}.document.content"), text);
                }
            }
            "chat" | "messages" | "responses" | "generate_content" => self.conversation(attributes),
            _ => {}
        }
    }

    fn conversation(&self, attributes: &mut Attributes) {
        let document = &self.content.document;
        if !self.hide.input_messages {
            let items = Items {
                prefix: "llm.input_messages",
                hide_text: self.hide.input_text,
                hide: self.hide,
            };
            match self.label {
                "chat" => items.turns(&document["messages"], attributes),
                "responses" => items.asked(document, attributes),
                _ => {
                    if let Some(request) = self.content.request() {
                        self.turns(request, attributes);
                    }
                }
            }
        }
        let declared = document["tools"].as_array().into_iter().flatten();
        let functions: Vec<&Json> = match self.exchange.format() {
            // Google declares several functions in what it calls a tool.
            Format::Gemini => declared
                .flat_map(|tool| match tool["functionDeclarations"].as_array() {
                    Some(functions) => functions.iter().collect(),
                    None => vec![tool],
                })
                .collect(),
            Format::OpenAi | Format::Messages | Format::Responses | Format::Converse | Format::Cohere => {
                declared.collect()
            }
        };
        for (at, tool) in functions.into_iter().enumerate() {
            attributes.set(format!("llm.tools.{at}.tool.json_schema"), tool.to_string());
        }
    }

    fn turns(&self, request: &Request, attributes: &mut Attributes) {
        let mut messages = Messages {
            prefix: "llm.input_messages",
            next: 0,
            hide_text: self.hide.input_text,
            hide: self.hide,
        };
        if !request.instructions.is_empty() {
            messages.push("system", false, &request.instructions, attributes);
        }
        for turn in &request.turns {
            let role = match turn.role {
                Role::System => "system",
                Role::User => "user",
                Role::Assistant => "assistant",
            };
            let said = &self.content.document["messages"][turn.origin];
            messages.push(role, said["content"].is_array(), &turn.parts, attributes);
        }
    }

    /// Returns the members of the request but for `content`, as a document.
    fn without(&self, content: &[&str]) -> String {
        self.picked(|name| !content.contains(&name))
    }

    /// Returns these members of the request, as a document.
    fn members(&self, names: &[&str]) -> String {
        self.picked(|name| names.contains(&name))
    }

    fn picked(&self, wanted: impl Fn(&str) -> bool) -> String {
        let members = self.content.document.as_object().into_iter().flatten();
        let mut written = Vec::new();
        // Writing to memory cannot fail.
        let _ =
            serde_json::Serializer::new(&mut written).collect_map(members.filter(|(name, _)| wanted(name)));
        String::from_utf8(written).unwrap_or_default()
    }
}

const JSON: &str = "application/json";

/// Returns the texts of a string, or of a list of strings and of parts with a text.
fn texts(value: &Json) -> Vec<&str> {
    match value {
        Json::String(text) => vec![text],
        Json::Array(items) => items
            .iter()
            .filter_map(|item| item.as_str().or(item["text"].as_str()))
            .collect(),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::Object(_) => Vec::new(),
    }
}
