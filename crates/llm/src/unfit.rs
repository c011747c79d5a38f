//! Prompts that one provider will not serve and another one may.

use crate::ApiError;

/// Why a provider will not serve a prompt that another one may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It is too long for the model.
    ContextLength,
    /// The provider's filter refuses it.
    ContentFilter,
    /// It goes on from an answer that the provider does not have.
    PreviousAnswer,
}

/// How providers say so, in the code or, where that says nothing, in the message.
const WORDS: &[(&str, Unfit)] = &[
    ("context_length_exceeded", Unfit::ContextLength),
    ("string_above_max_length", Unfit::ContextLength),
    ("prompt is too long", Unfit::ContextLength),
    ("input is too long", Unfit::ContextLength),
    ("maximum context length", Unfit::ContextLength),
    ("exceeds the maximum number of tokens", Unfit::ContextLength),
    ("exceed context limit", Unfit::ContextLength),
    ("content_filter", Unfit::ContentFilter),
    ("content_policy_violation", Unfit::ContentFilter),
    ("content management policy", Unfit::ContentFilter),
    ("content filtering policy", Unfit::ContentFilter),
    ("previous_response_not_found", Unfit::PreviousAnswer),
];

impl ApiError {
    /// Returns why the prompt does not fit, if that is what the upstream complains of.
    pub fn unfit(&self) -> Option<Unfit> {
        let told = |text: &str| {
            let text = text.to_ascii_lowercase();
            let found = WORDS.iter().find(|(words, _)| text.contains(words));
            found.map(|(_, unfit)| *unfit)
        };
        let coded = self.code.as_deref().and_then(told);
        coded.or_else(|| told(&self.message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_are_understood() {
        let check = |code: Option<&str>, message: &str, expected| {
            let error = ApiError::invalid(message);
            let error = code.map_or(error.clone(), |code| error.with_code(code));
            assert_eq!(error.unfit(), expected, "{code:?} {message}");
        };
        let long = Some(Unfit::ContextLength);
        check(Some("context_length_exceeded"), "x", long);
        check(None, "This model's maximum context length is 8192 tokens", long);
        check(None, "prompt is too long: 210000 tokens > 200000 maximum", long);
        check(None, "Input is too long for requested model.", long);
        check(Some("content_filter"), "x", Some(Unfit::ContentFilter));
        check(
            Some("previous_response_not_found"),
            "x",
            Some(Unfit::PreviousAnswer),
        );
        check(Some("invalid_value"), "max_tokens is too large", None);
    }
}
