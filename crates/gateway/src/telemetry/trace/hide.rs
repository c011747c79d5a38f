//! What spans in the words of OpenInference leave out.

use serde_json::Value;

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

    /// Returns whether `url` is a picture inside the request that is too long to be kept.
    pub(super) fn is_too_long(&self, url: &str) -> bool {
        url.starts_with("data:image/") && url.len() > self.longest_picture
    }

    /// Returns `input`, which is `document`, without the pictures that are left out.
    pub(super) fn pictures_in(&self, input: &[u8], document: &Value) -> String {
        let mut document = document.clone();
        if self.leave_out(&mut document) {
            document.to_string()
        } else {
            String::from_utf8_lossy(input).into_owned()
        }
    }

    fn leave_out(&self, value: &mut Value) -> bool {
        match value {
            Value::String(text) => {
                let hidden = self.is_too_long(text) || (self.input_images && text.starts_with("data:image/"));
                if hidden {
                    REDACTED.clone_into(text);
                }
                hidden
            }
            Value::Array(items) => self.leave_out_of(items.iter_mut()),
            Value::Object(members) => self.leave_out_of(members.values_mut()),
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
        }
    }

    fn leave_out_of<'v>(&self, values: impl Iterator<Item = &'v mut Value>) -> bool {
        let mut hidden = false;
        for value in values {
            hidden |= self.leave_out(value);
        }
        hidden
    }
}

/// Reads a boolean as these variables have it; anything else is false.
pub(crate) fn is_true(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True")
}
