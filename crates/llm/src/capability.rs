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
    /// The most tokens it generates: the limit where the format demands one and the client set none; 0 where
    /// the format demands none.
    pub max_output: u64,
}

impl Capability {
    /// What is assumed of a model that no row knows.
    pub const UNKNOWN: Capability = Capability {
        effort: false,
        thinking_budget: false,
        adaptive_thinking: false,
        json_schema: true,
        max_output: 0,
    };

    /// Returns what `model` accepts when it is spoken to in `format`.
    pub fn of(format: Format, model: &str) -> Capability {
        let model = model.to_ascii_lowercase();
        let rows = match format {
            Format::OpenAi | Format::Responses => OPENAI,
            Format::Messages => MESSAGES,
            Format::Gemini | Format::Converse => &[],
        };
        rows.iter()
            .filter(|(fragment, _)| model.contains(fragment))
            .max_by_key(|(fragment, _)| fragment.len())
            .map_or(
                match format {
                    Format::Messages => CLAUDE_3,
                    Format::OpenAi | Format::Responses | Format::Gemini | Format::Converse => {
                        Capability::UNKNOWN
                    }
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
    max_output: 0,
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
    max_output: 4096,
};
const CLAUDE_3_5: Capability = Capability {
    max_output: 8192,
    ..CLAUDE_3
};
const THINKING: Capability = Capability {
    thinking_budget: true,
    max_output: 64_000,
    ..CLAUDE_3
};
const OPUS_4: Capability = Capability {
    max_output: 32_000,
    ..THINKING
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
const OPUS_4_6: Capability = Capability {
    max_output: 128_000,
    ..ADAPTIVE
};
const ADAPTIVE_ONLY: Capability = Capability {
    thinking_budget: false,
    ..OPUS_4_6
};

/// Source: the lists of structured-output and effort models of the compatibility specification, and the
/// provider's pages "Models overview" (largest outputs), "Extended thinking" and "Adaptive thinking".
const MESSAGES: &[(&str, Capability)] = &[
    ("3-5-sonnet", CLAUDE_3_5),
    ("3-5-haiku", CLAUDE_3_5),
    ("3-7-sonnet", THINKING),
    ("sonnet-4", THINKING),
    ("opus-4", OPUS_4),
    ("opus-4-1", OPUS_4),
    ("sonnet-4-5", STRUCTURED),
    ("haiku-4-5", STRUCTURED),
    ("opus-4-5", EFFORT),
    ("opus-4-6", OPUS_4_6),
    ("sonnet-4-6", ADAPTIVE),
    ("opus-4-7", ADAPTIVE_ONLY),
    ("opus-4-8", ADAPTIVE_ONLY),
    ("sonnet-5", ADAPTIVE_ONLY),
    ("fable-5", ADAPTIVE_ONLY),
    ("mythos-5", ADAPTIVE_ONLY),
    ("mythos-preview", ADAPTIVE_ONLY),
    ("sim-1", ADAPTIVE),
];
