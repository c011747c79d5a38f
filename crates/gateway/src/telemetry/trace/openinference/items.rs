//! Messages of chat and items of Responses on their way into attributes, each a message of its own and told as the client
//! has written it (API reference, "Chat" and "Responses").

use std::borrow::Cow;

use serde_json::{Value as Json, json};

use super::{
    super::{
        hide::{Hide, REDACTED},
        span::Attributes,
    },
    below,
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
            self.turn(at, said, attributes);
        }
    }

    /// Sets the answers of chat.
    pub(super) fn choices(&self, choices: &Json, attributes: &mut Attributes) {
        for (at, choice) in choices.as_array().into_iter().flatten().enumerate() {
            self.turn(at, &choice["message"], attributes);
        }
    }

    fn turn(&self, at: usize, said: &Json, attributes: &mut Attributes) {
        let role = said["role"].as_str().unwrap_or_default();
        let message = self.message(at, role, attributes);
        self.contents(&message, &whole(said), attributes);
        if let Some(id) = said["tool_call_id"].as_str() {
            attributes.set(below(&message, "tool_call_id"), id);
        }
        for (at, call) in said["tool_calls"].as_array().into_iter().flatten().enumerate() {
            let prefix = format!("{message}.tool_calls.{at}.tool_call");
            let (name, arguments) = match call["custom"].is_object() {
                true => (&call["custom"]["name"], &call["custom"]["input"]),
                false => (&call["function"]["name"], &call["function"]["arguments"]),
            };
            attributes.set(below(&prefix, "id"), text_of(&call["id"]));
            attributes.set(below(&prefix, "function.name"), text_of(name));
            let arguments = text_of(arguments);
            attributes.set(below(&prefix, "function.arguments"), self.text(&arguments));
        }
    }

    /// Sets what a request of Responses says: its instructions, and what follows.
    pub(super) fn asked(&self, document: &Json, attributes: &mut Attributes) {
        let mut first = 0;
        if let Some(instructions) = document["instructions"].as_str() {
            let message = self.message(0, "system", attributes);
            attributes.set(below(&message, "content"), self.text(instructions));
            first = 1;
        }
        match &document["input"] {
            Json::String(text) => {
                let message = self.message(first, "user", attributes);
                attributes.set(below(&message, "content"), self.text(text));
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
                attributes.set(below(&message, "tool_calls.0.message.role"), "tool");
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
                attributes.set(below(&message, "tool_call_id"), self.text(&id));
                attributes.set(below(&message, "tool_calls.0.tool_call.id"), self.text(&id));
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
        attributes.set(below(&message, "role"), role);
        message
    }

    /// Sets the content of a tool's answer, as JSON.
    fn content(&self, message: &str, content: &Json, attributes: &mut Attributes) {
        let written = content.to_string();
        attributes.set(below(message, "content"), self.text(&written));
    }

    fn contents(&self, message: &str, content: &Json, attributes: &mut Attributes) {
        if let Some(text) = content.as_str().filter(|text| !text.is_empty()) {
            attributes.set(below(message, "content"), self.text(text));
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
                Some(text) => self.spoken(&prefix, text, attributes),
                None => attributes.set(
                    below(&prefix, "type"),
                    kind.strip_prefix("input_").unwrap_or(kind),
                ),
            }
        }
    }

    fn spoken(&self, prefix: &str, text: &str, attributes: &mut Attributes) {
        attributes.set(below(prefix, "type"), "text");
        attributes.set(below(prefix, "text"), self.text(text));
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
        attributes.set(below(prefix, "type"), "image");
        attributes.set(
            below(prefix, "image.image.url"),
            if hidden { REDACTED } else { url },
        );
    }

    fn call(&self, message: &str, call: &Call<'_>, attributes: &mut Attributes) {
        let prefix = below(message, "tool_calls.0.tool_call");
        attributes.set(below(&prefix, "id"), self.text(&text_of(call.id)));
        attributes.set(below(&prefix, "function.name"), self.text(call.name));
        if !call.arguments.is_empty() {
            attributes.set(below(&prefix, "function.arguments"), self.text(&call.arguments));
        }
    }

    fn text<'t>(&self, text: &'t str) -> &'t str {
        if self.hide_text { REDACTED } else { text }
    }
}

/// Returns the content of a message of chat, as a list if it has reasoning before it or a refusal after it.
fn whole(said: &Json) -> Cow<'_, Json> {
    let text = |name: &str| said[name].as_str().filter(|text| !text.is_empty());
    // Reasoning goes by two names; who uses both says the same in both.
    let thought = text("reasoning_content").or_else(|| text("reasoning"));
    let refusal = text("refusal");
    let content = &said["content"];
    if thought.or(refusal).is_none() {
        return Cow::Borrowed(content);
    }
    let spoken = |text: &str| json!({"type": "text", "text": text});
    let parts = content.as_array().into_iter().flatten().cloned();
    let before = thought.into_iter().chain(text("content")).map(spoken);
    Cow::Owned(before.chain(parts).chain(refusal.map(spoken)).collect())
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

#[cfg(test)]
mod tests {
    use super::{super::super::span::Value, *};

    /// Checks what is told of an answer, names without what they all begin with.
    fn check(said: &Json, expected: &[(&str, &str)]) {
        let hide = Hide::from_environment(&|_| None);
        let items = Items {
            prefix: "p",
            hide_text: false,
            hide: &hide,
        };
        let mut attributes = Attributes::default();
        items.choices(&json!([{"message": said}]), &mut attributes);
        let told: Vec<(&str, String)> = attributes
            .0
            .iter()
            .map(|(name, value)| match value {
                Value::Text(text) => (name.trim_start_matches("p.0.message."), text.clone()),
                other => (name.as_ref(), format!("{other:?}")),
            })
            .collect();
        let told: Vec<(&str, &str)> = told.iter().map(|(name, text)| (*name, text.as_str())).collect();
        assert_eq!(told, expected, "{said}");
    }

    #[test]
    fn answers_of_chat_are_told_whole() {
        check(
            &json!({"role": "assistant", "content": "hi", "refusal": null}),
            &[("role", "assistant"), ("content", "hi")],
        );
        check(
            &json!({"role": "assistant", "reasoning_content": "hm", "content": "hi"}),
            &[
                ("role", "assistant"),
                ("contents.0.message_content.type", "text"),
                ("contents.0.message_content.text", "hm"),
                ("contents.1.message_content.type", "text"),
                ("contents.1.message_content.text", "hi"),
            ],
        );
        check(
            &json!({"role": "assistant", "content": null, "refusal": "no"}),
            &[
                ("role", "assistant"),
                ("contents.0.message_content.type", "text"),
                ("contents.0.message_content.text", "no"),
            ],
        );
        let call = json!({"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}});
        check(
            &json!({"role": "assistant", "content": null, "tool_calls": [call]}),
            &[
                ("role", "assistant"),
                ("tool_calls.0.tool_call.id", "c"),
                ("tool_calls.0.tool_call.function.name", "f"),
                ("tool_calls.0.tool_call.function.arguments", "{}"),
            ],
        );
    }
}
