//! Messages of chat and items of Responses on their way into attributes, each a message of its own and told as the client
//! has written it (API reference, "Chat" and "Responses").

use serde_json::{Value as Json, json};

use super::super::{
    hide::{Hide, REDACTED},
    span::Attributes,
};

/// How messages and items are said.
pub(super) struct Items<'a> {
    pub(super) prefix: &'static str,
    pub(super) hide_text: bool,
    pub(super) hide: &'a Hide,
}

/// A call of a tool.
struct Call<'a> {
    id: &'a Json,
    name: &'a str,
    arguments: String,
}

impl Items<'_> {
    /// Sets the messages of chat.
    pub(super) fn turns(&self, messages: &Json, attributes: &mut Attributes) {
        for (at, said) in messages.as_array().into_iter().flatten().enumerate() {
            let role = said["role"].as_str().unwrap_or_default();
            let message = self.message(at, role, attributes);
            self.contents(&message, &said["content"], attributes);
            if let Some(id) = said["tool_call_id"].as_str() {
                attributes.set(format!("{message}.tool_call_id"), id);
            }
            for (at, call) in said["tool_calls"].as_array().into_iter().flatten().enumerate() {
                let prefix = format!("{message}.tool_calls.{at}.tool_call");
                let (name, arguments) = match call["custom"].is_object() {
                    true => (&call["custom"]["name"], &call["custom"]["input"]),
                    false => (&call["function"]["name"], &call["function"]["arguments"]),
                };
                attributes.set(format!("{prefix}.id"), text_of(&call["id"]));
                attributes.set(format!("{prefix}.function.name"), text_of(name));
                let arguments = text_of(arguments);
                attributes.set(format!("{prefix}.function.arguments"), self.text(&arguments));
            }
        }
    }

    /// Sets what a request of Responses says: its instructions, and what follows.
    pub(super) fn asked(&self, document: &Json, attributes: &mut Attributes) {
        let mut first = 0;
        if let Some(instructions) = document["instructions"].as_str() {
            let message = self.message(0, "system", attributes);
            attributes.set(format!("{message}.content"), self.text(instructions));
            first = 1;
        }
        match &document["input"] {
            Json::String(text) => {
                let message = self.message(first, "user", attributes);
                attributes.set(format!("{message}.content"), self.text(text));
            }
            input => self.list(first, input, attributes),
        }
    }

    /// Sets `items`, numbered from `first` on.
    pub(super) fn list(&self, first: usize, items: &Json, attributes: &mut Attributes) {
        for (at, item) in items.as_array().into_iter().flatten().enumerate() {
            self.item(first + at, item, attributes);
        }
    }

    fn item(&self, at: usize, item: &Json, attributes: &mut Attributes) {
        // An item without a type is a message.
        let kind = item["type"].as_str().unwrap_or("message");
        match kind {
            "message" => {
                let role = item["role"].as_str().unwrap_or("assistant");
                let message = self.message(at, role, attributes);
                self.contents(&message, &item["content"], attributes);
            }
            "reasoning" => {
                let message = self.message(at, "assistant", attributes);
                self.contents(&message, &item["summary"], attributes);
            }
            "computer_call" => {
                let message = self.message(at, "assistant", attributes);
                attributes.set(format!("{message}.tool_calls.0.message.role"), "tool");
                self.call(&message, &call(kind, item), attributes);
            }
            "mcp_list_tools" => {
                let message = self.message(at, "tool", attributes);
                self.content(&message, &item["tools"], attributes);
            }
            "mcp_approval_response" => {
                let message = self.message(at, "user", attributes);
                let answer = json!({"approve": item["approve"], "reason": item["reason"]});
                self.content(&message, &answer, attributes);
            }
            "compaction" | "item_reference" => {
                self.message(at, "assistant", attributes);
            }
            _ if kind.ends_with("_output") => {
                let message = self.message(at, "tool", attributes);
                let id = text_of(&item["call_id"]);
                attributes.set(format!("{message}.tool_call_id"), self.text(&id));
                attributes.set(format!("{message}.tool_calls.0.tool_call.id"), self.text(&id));
                self.content(&message, &item["output"], attributes);
            }
            _ => {
                let message = self.message(at, "assistant", attributes);
                self.call(&message, &call(kind, item), attributes);
            }
        }
    }

    fn message(&self, at: usize, role: &str, attributes: &mut Attributes) -> String {
        let message = format!("{}.{at}.message", self.prefix);
        attributes.set(format!("{message}.role"), role);
        message
    }

    /// Sets the content of a tool's answer, as JSON.
    fn content(&self, message: &str, content: &Json, attributes: &mut Attributes) {
        let written = content.to_string();
        attributes.set(format!("{message}.content"), self.text(&written));
    }

    fn contents(&self, message: &str, content: &Json, attributes: &mut Attributes) {
        if let Some(text) = content.as_str().filter(|text| !text.is_empty()) {
            attributes.set(format!("{message}.content"), self.text(text));
        }
        for (at, part) in content.as_array().into_iter().flatten().enumerate() {
            let prefix = format!("{message}.contents.{at}.message_content");
            let kind = part["type"].as_str().unwrap_or_default();
            if let "input_image" | "image_url" = kind {
                self.picture(&prefix, part, attributes);
                continue;
            }
            let text = part["text"].as_str().or(part["refusal"].as_str());
            match text {
                Some(text) => {
                    attributes.set(format!("{prefix}.type"), "text");
                    attributes.set(format!("{prefix}.text"), self.text(text));
                }
                None => attributes.set(
                    format!("{prefix}.type"),
                    kind.strip_prefix("input_").unwrap_or(kind),
                ),
            }
        }
    }

    fn picture(&self, prefix: &str, part: &Json, attributes: &mut Attributes) {
        let image = &part["image_url"];
        let url = image
            .as_str()
            .or(image["url"].as_str())
            .or(part["file_id"].as_str());
        let url = url.unwrap_or_default();
        // A picture of chat leaves no trace where none is wanted.
        let is_chat = part["type"] == "image_url";
        if is_chat && self.hide.input_images {
            return;
        }
        let hidden = self.hide.input_images || self.hide.is_too_long(url);
        attributes.set(format!("{prefix}.type"), "image");
        attributes.set(
            format!("{prefix}.image.image.url"),
            if hidden { REDACTED } else { url },
        );
    }

    fn call(&self, message: &str, call: &Call<'_>, attributes: &mut Attributes) {
        let prefix = format!("{message}.tool_calls.0.tool_call");
        attributes.set(format!("{prefix}.id"), self.text(&text_of(call.id)));
        attributes.set(format!("{prefix}.function.name"), self.text(call.name));
        if !call.arguments.is_empty() {
            attributes.set(format!("{prefix}.function.arguments"), self.text(&call.arguments));
        }
    }

    fn text<'t>(&self, text: &'t str) -> &'t str {
        if self.hide_text { REDACTED } else { text }
    }
}

/// Returns an item of the type `kind` as a call: what it is called by, and what is to be done.
fn call<'i>(kind: &'i str, item: &'i Json) -> Call<'i> {
    let id = Some(&item["call_id"]).filter(|id| id.is_string());
    let arguments = match kind {
        "function_call" | "mcp_call" | "mcp_approval_request" => text_of(&item["arguments"]),
        "custom_tool_call" => json!({ "input": item["input"] }).to_string(),
        "code_interpreter_call" => json!({ "code": item["code"] }).to_string(),
        "apply_patch_call" => item["operation"].to_string(),
        "file_search_call" => json!({ "queries": item["queries"] }).to_string(),
        _ if item["action"].is_object() => item["action"].to_string(),
        _ => String::new(),
    };
    Call {
        id: id.unwrap_or(&item["id"]),
        name: item["name"].as_str().unwrap_or(kind),
        arguments,
    }
}

fn text_of(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        Json::Null => String::new(),
        Json::Bool(_) | Json::Number(_) | Json::Array(_) | Json::Object(_) => value.to_string(),
    }
}
