//! Which model takes what: one table, instead of name tests in converters.
//!
//! A model is found by the longest row whose fragment occurs in its name, so `anthropic.claude-opus-4-6-v1`
//! and `claude-opus-4-6-20260101` share a row. What no row knows gets [`Capability::UNKNOWN`].

use crate::Format;

/// What a model accepts beyond what its format says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    /// Takes a reasoning effort: `reasoning_effort` in chat completions, `output_config.effort` in Messages.
    pub effort: bool,
    /// Takes a thinking budget in tokens.
    pub thinking_budget: bool,
    /// Takes adaptive thinking.
    pub adaptive_thinking: bool,
    /// Constrains its answer to a JSON schema.
    pub json_schema: bool,
}

impl Capability {
    /// What is assumed of a model that no row knows.
    pub const UNKNOWN: Capability = Capability {
        effort: false,
        thinking_budget: false,
        adaptive_thinking: false,
        json_schema: true,
    };

    /// Returns what `model` accepts when it is spoken to in `format`.
    pub fn of(format: Format, model: &str) -> Capability {
        let model = model.to_ascii_lowercase();
        let rows = match format {
            Format::OpenAi => OPENAI,
            Format::Messages => MESSAGES,
        };
        rows.iter()
            .filter(|(fragment, _)| model.contains(fragment))
            .max_by_key(|(fragment, _)| fragment.len())
            .map_or(
                match format {
                    Format::OpenAi => Capability::UNKNOWN,
                    Format::Messages => CLAUDE_3,
                },
                |(_, capability)| *capability,
            )
    }
}

const REASONING: Capability = Capability {
    effort: true,
    thinking_budget: false,
    adaptive_thinking: false,
    json_schema: true,
};

/// Source: the provider's model and reasoning guides (`reasoning_effort`).
const OPENAI: &[(&str, Capability)] = &[
    ("gpt-5", REASONING),
    ("gpt-oss", REASONING),
    ("o1", REASONING),
    ("o3", REASONING),
    ("o4-mini", REASONING),
    ("sim-1", REASONING),
];

const CLAUDE_3: Capability = Capability {
    effort: false,
    thinking_budget: false,
    adaptive_thinking: false,
    json_schema: false,
};
const THINKING: Capability = Capability {
    effort: false,
    thinking_budget: true,
    adaptive_thinking: false,
    json_schema: false,
};
const STRUCTURED: Capability = Capability {
    json_schema: true,
    ..THINKING
};
const EFFORT: Capability = Capability {
    effort: true,
    ..STRUCTURED
};
const ADAPTIVE: Capability = Capability {
    adaptive_thinking: true,
    ..EFFORT
};
const ADAPTIVE_ONLY: Capability = Capability {
    thinking_budget: false,
    ..ADAPTIVE
};

/// Source: the lists of structured-output and effort models of the compatibility specification, and the
/// provider's pages on extended and adaptive thinking.
const MESSAGES: &[(&str, Capability)] = &[
    ("3-7-sonnet", THINKING),
    ("sonnet-4", THINKING),
    ("opus-4", THINKING),
    ("opus-4-1", THINKING),
    ("sonnet-4-5", STRUCTURED),
    ("haiku-4-5", STRUCTURED),
    ("opus-4-5", EFFORT),
    ("opus-4-6", ADAPTIVE),
    ("sonnet-4-6", ADAPTIVE),
    ("opus-4-7", ADAPTIVE_ONLY),
    ("opus-4-8", ADAPTIVE_ONLY),
    ("sonnet-5", ADAPTIVE_ONLY),
    ("fable-5", ADAPTIVE_ONLY),
    ("mythos-5", ADAPTIVE_ONLY),
    ("mythos-preview", ADAPTIVE_ONLY),
    ("sim-1", ADAPTIVE),
];
