//! What spans in the words of OpenInference leave out.

use serde_json::{Map, Value};

/// Stands for what is left out.
pub(super) const REDACTED: &str = "__REDACTED__";

/// What is left out; names are those of the variables `OPENINFERENCE_…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hide {
    pub(super) inputs: bool,
    pub(super) outputs: bool,
    pub(super) input_messages: bool,
    pub(super) output_messages: bool,
    pub(super) input_images: bool,
    pub(super) input_text: bool,
    pub(super) output_text: bool,
    pub(super) embeddings_text: bool,
    pub(super) embeddings_vectors: bool,
    pub(super) prompts: bool,
    pub(super) choices: bool,
    pub(super) invocation_parameters: bool,
    /// The longest picture inside a request that is kept, in characters.
    pub(super) longest_picture: usize,
}

impl Hide {
    /// Reads the variables.
    pub(crate) fn from_environment(variable: &dyn Fn(&str) -> Option<String>) -> Self {
        let hides = |name: &str| {
            let value = variable(&format!("OPENINFERENCE_HIDE_{name}"));
            value.is_some_and(|value| is_true(&value))
        };
        let longest = variable("OPENINFERENCE_BASE64_IMAGE_MAX_LENGTH");
        Self {
            inputs: hides("INPUTS"),
            outputs: hides("OUTPUTS"),
            input_messages: hides("INPUT_MESSAGES"),
            output_messages: hides("OUTPUT_MESSAGES"),
            input_images: hides("INPUT_IMAGES"),
            input_text: hides("INPUT_TEXT"),
            output_text: hides("OUTPUT_TEXT"),
            embeddings_text: hides("EMBEDDINGS_TEXT"),
            embeddings_vectors: hides("EMBEDDINGS_VECTORS"),
            prompts: hides("PROMPTS"),
            choices: hides("CHOICES"),
            invocation_parameters: hides("LLM_INVOCATION_PARAMETERS"),
            longest_picture: longest.and_then(|longest| longest.parse().ok()).unwrap_or(32_000),
        }
    }

    /// Returns whether spans tell what was said message by message.
    pub(crate) fn tells_messages(&self) -> bool {
        let asked = !(self.inputs || self.input_messages);
        asked || !(self.outputs || self.output_messages)
    }

    /// Returns whether `url` is a picture inside the request that is too long to be kept.
    pub(super) fn is_too_long(&self, url: &str) -> bool {
        url.starts_with("data:image/") && url.len() > self.longest_picture
    }

    /// Returns `input`, which is `document`, without the pictures that are left out.
    pub(super) fn pictures_in(&self, input: &[u8], document: &Value) -> String {
        // No text within it is longer than the whole.
        let may_be_left_out = self.input_images || input.len() > self.longest_picture;
        let mut document = if may_be_left_out {
            document.clone()
        } else {
            Value::Null
        };
        if self.leave_out(&mut document, false) {
            return document.to_string();
        }
        match std::str::from_utf8(input) {
            Ok(text) => text.to_owned(),
            Err(_) => String::from_utf8_lossy(input).into_owned(),
        }
    }

    /// Leaves out what is too long, and what is a picture where none is wanted: texts that begin as one, and those
    /// that are `pictured`, in a place where formats have pictures or their addresses.
    fn leave_out(&self, value: &mut Value, pictured: bool) -> bool {
        match value {
            Value::String(text) => {
                let unwanted = self.input_images && (pictured || text.starts_with("data:image/"));
                let hidden = unwanted || self.is_too_long(text);
                if hidden {
                    REDACTED.clone_into(text);
                }
                hidden
            }
            Value::Array(items) => {
                let mut hidden = false;
                for item in items {
                    hidden |= self.leave_out(item, pictured);
                }
                hidden
            }
            Value::Object(members) => {
                let is_picture = is_picture(members);
                let mut hidden = false;
                for (name, value) in members {
                    let place = match name.as_str() {
                        "image_url" | "inlineData" | "inline_data" => true,
                        "source" => is_picture,
                        "type" | "media_type" | "mimeType" | "mime_type" | "detail" => false,
                        _ => pictured,
                    };
                    hidden |= self.leave_out(value, place);
                }
                hidden
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
        }
    }
}

/// Returns whether a part says of itself that it is a picture.
fn is_picture(members: &Map<String, Value>) -> bool {
    members.get("type").is_some_and(|kind| kind == "image")
}

/// Reads a boolean as these variables have it; anything else is false.
pub(crate) fn is_true(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pictures_are_left_out_wherever_formats_have_them() {
        let hide = Hide::from_environment(&|name| match name {
            "OPENINFERENCE_HIDE_INPUT_IMAGES" => Some("true".to_owned()),
            _ => None,
        });
        let check = |document: Value| {
            let shown = hide.pictures_in(document.to_string().as_bytes(), &document);
            assert!(!shown.contains("canary"), "{shown}");
            assert!(shown.contains("kept"), "{shown}");
        };
        check(
            json!({"text": "kept", "parts": [{"type": "image_url", "image_url": {"url": "https://h/canary", "detail": "low"}}]}),
        );
        check(
            json!({"input": [{"type": "input_image", "image_url": "data:image/png;base64,canary"}], "is": "kept"}),
        );
        check(
            json!([{"type": "image", "source": {"type": "base64", "media_type": "kept", "data": "canary"}}]),
        );
        check(json!([{"type": "image", "source": {"type": "url", "url": "https://h/canary"}}, "kept"]));
        check(json!({"contents": [{"inlineData": {"mimeType": "kept", "data": "canary"}}]}));
    }
}
