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
    /// The least and the most tokens of a thinking budget, where the provider limits it.
    pub budgets: Option<(u64, u64)>,
    /// The words for how much to think, the least first, where the format has a fixed list of them.
    pub levels: &'static [&'static str],
    /// Thinks whatever it is told.
    pub always_thinks: bool,
    /// Takes adaptive thinking.
    pub adaptive_thinking: bool,
    /// Refuses calls in the current turn without the signature that its provider gave them.
    pub signed_calls: bool,
    /// Takes media inside the results of tools.
    pub result_media: bool,
    /// Is told for each picture how closely to look at it.
    pub media_resolution: bool,
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
        budgets: None,
        levels: &[],
        always_thinks: false,
        adaptive_thinking: false,
        signed_calls: false,
        result_media: false,
        media_resolution: false,
        json_schema: true,
        max_output: 0,
    };

    /// Returns what `model` accepts when it is spoken to in `format`.
    pub fn of(format: Format, model: &str) -> Capability {
        let model = base_model(model).to_ascii_lowercase();
        let is_claude = model.contains(CLAUDE);
        let (rows, other) = match format {
            Format::OpenAi | Format::Responses => (OPENAI, Capability::UNKNOWN),
            Format::Messages => (MESSAGES, CLAUDE_3),
            Format::Converse if is_claude => (MESSAGES, CLAUDE_3),
            Format::Converse => (CONVERSE, Capability::UNKNOWN),
            Format::Gemini => (GEMINI, GEMINI_1),
            Format::Cohere => (&[][..], Capability::UNKNOWN),
        };
        *longest(rows, &model).unwrap_or(&other)
    }
}

/// How a model on Amazon Bedrock is told what Converse itself has no member for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hosted {
    /// In which words it is told how to think, among other things.
    pub family: Family,
    /// Which cache points it takes.
    pub caching: Caching,
    /// Can be made to call a tool.
    pub forced_tool: bool,
}

/// Whose own members a model on Amazon Bedrock takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `thinking`, `output_config`, `top_k` and `tool_choice`, as in Messages.
    Claude,
    /// `reasoningConfig` and `inferenceConfig`.
    Nova,
    /// `reasoning_effort`, as in chat completions.
    GptOss,
    /// `reasoning_config` and `thinking`.
    Other,
}

/// Which cache points a model on Amazon Bedrock takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caching {
    /// None.
    None,
    /// Those that live as long as the provider likes.
    Plain,
    /// Those that live for an hour, too.
    Hour,
}

impl Hosted {
    /// Returns how `model` is told.
    pub fn of(model: &str) -> Self {
        let model = base_model(model).to_ascii_lowercase();
        *longest(HOSTED, &model).unwrap_or(&OTHER)
    }
}

/// Returns the model that `id` stands for: an id of Amazon Bedrock may name a region first, or be the address
/// of a profile.
pub fn base_model(id: &str) -> &str {
    let id = match id.strip_prefix("arn:") {
        Some(address) => address.rsplit('/').next().unwrap_or(address),
        None => id,
    };
    REGIONS
        .iter()
        .find_map(|region| id.strip_prefix(region))
        .unwrap_or(id)
}

/// Returns the row of `rows` with the longest fragment that occurs in `model`.
fn longest<'r, T>(rows: &'r [(&str, T)], model: &str) -> Option<&'r T> {
    rows.iter()
        .filter(|(fragment, _)| model.contains(fragment))
        .max_by_key(|(fragment, _)| fragment.len())
        .map(|(_, row)| row)
}

/// The regions across which a model on Amazon Bedrock may be served ("Cross-region inference").
const REGIONS: &[&str] = &[
    "us-gov.", "us.", "eu.", "apac.", "uk.", "au.", "jp.", "ca.", "global.",
];

/// The fragment that all of Anthropic's models on other platforms have.
const CLAUDE: &str = "claude";

const REASONING: Capability = Capability {
    effort: true,
    ..Capability::UNKNOWN
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
    json_schema: false,
    max_output: 4096,
    ..Capability::UNKNOWN
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

const UNSTRUCTURED: Capability = Capability {
    json_schema: false,
    ..Capability::UNKNOWN
};

/// Models on Amazon Bedrock that are not Claude. Source: the provider's pages "Structured outputs" and
/// "Supported models and model features".
const CONVERSE: &[(&str, Capability)] = &[
    ("command", UNSTRUCTURED),
    ("deepseek.r1", UNSTRUCTURED),
    ("jamba", UNSTRUCTURED),
    ("llama", UNSTRUCTURED),
    ("nova", UNSTRUCTURED),
    ("titan", UNSTRUCTURED),
];

/// What is assumed of a model on Amazon Bedrock that no row knows: what it does not take is refused there.
const OTHER: Hosted = Hosted {
    family: Family::Other,
    caching: Caching::Plain,
    forced_tool: true,
};
const UNCACHED: Hosted = Hosted {
    caching: Caching::None,
    ..OTHER
};
const UNFORCED: Hosted = Hosted {
    forced_tool: false,
    ..UNCACHED
};
const CLAUDE_HOSTED: Hosted = Hosted {
    family: Family::Claude,
    ..OTHER
};
const CLAUDE_HOUR: Hosted = Hosted {
    caching: Caching::Hour,
    ..CLAUDE_HOSTED
};
const CLAUDE_UNCACHED: Hosted = Hosted {
    caching: Caching::None,
    ..CLAUDE_HOSTED
};
const NOVA: Hosted = Hosted {
    family: Family::Nova,
    ..OTHER
};
const GPT_OSS: Hosted = Hosted {
    family: Family::GptOss,
    ..UNFORCED
};

/// Source: the provider's pages "Prompt caching" (models and lifetimes), "Tool use" (tool choice) and those on
/// the parameters of each family.
const HOSTED: &[(&str, Hosted)] = &[
    (CLAUDE, CLAUDE_HOSTED),
    ("claude-v2", CLAUDE_UNCACHED),
    ("claude-3-haiku", CLAUDE_UNCACHED),
    ("claude-3-opus", CLAUDE_UNCACHED),
    ("claude-3-sonnet", CLAUDE_UNCACHED),
    ("claude-haiku-4-5", CLAUDE_HOUR),
    ("claude-opus-4-5", CLAUDE_HOUR),
    ("claude-opus-4-6", CLAUDE_HOUR),
    ("claude-opus-4-7", CLAUDE_HOUR),
    ("claude-opus-4-8", CLAUDE_HOUR),
    ("claude-sonnet-4-5", CLAUDE_HOUR),
    ("claude-sonnet-4-6", CLAUDE_HOUR),
    ("claude-sonnet-5", CLAUDE_HOUR),
    ("claude-fable-5", CLAUDE_HOUR),
    ("claude-mythos", CLAUDE_HOUR),
    ("nova", NOVA),
    ("gpt-oss", GPT_OSS),
    ("mistral", UNCACHED),
    ("command", UNFORCED),
    ("deepseek", UNFORCED),
    ("jamba", UNFORCED),
    ("llama", UNFORCED),
    ("titan", UNFORCED),
];

const GEMINI_1: Capability = Capability {
    json_schema: false,
    ..Capability::UNKNOWN
};
const GEMINI_2_5: Capability = Capability {
    thinking_budget: true,
    budgets: Some((1, 24_576)),
    adaptive_thinking: true,
    ..Capability::UNKNOWN
};
const GEMINI_2_5_LITE: Capability = Capability {
    budgets: Some((512, 24_576)),
    ..GEMINI_2_5
};
const GEMINI_2_5_PRO: Capability = Capability {
    budgets: Some((128, 32_768)),
    always_thinks: true,
    ..GEMINI_2_5
};
const GEMINI_3: Capability = Capability {
    effort: true,
    thinking_budget: true,
    levels: &["LOW", "MEDIUM", "HIGH"],
    always_thinks: true,
    adaptive_thinking: true,
    signed_calls: true,
    result_media: true,
    media_resolution: true,
    ..Capability::UNKNOWN
};
const GEMINI_3_PRO: Capability = Capability {
    levels: &["LOW", "HIGH"],
    ..GEMINI_3
};
const GEMINI_3_FLASH: Capability = Capability {
    levels: &["MINIMAL", "LOW", "MEDIUM", "HIGH"],
    ..GEMINI_3
};

/// Source: the provider's pages "Gemini thinking" (levels and budgets), "Thought signatures", "Function
/// calling" (media in results) and "Media resolution", and the model gates of the compatibility specification.
/// Names without a version are the latest models'.
const GEMINI: &[(&str, Capability)] = &[
    ("gemini", GEMINI_3),
    ("gemini-1", GEMINI_1),
    ("gemini-2.0", GEMINI_1),
    ("gemini-2.5", GEMINI_2_5),
    ("gemini-2.5-flash-lite", GEMINI_2_5_LITE),
    ("gemini-2.5-pro", GEMINI_2_5_PRO),
    ("gemini-3-pro", GEMINI_3_PRO),
    ("gemini-3-flash", GEMINI_3_FLASH),
    ("gemini-3.1-flash", GEMINI_3_FLASH),
    ("gemini-3.5-flash", GEMINI_3_FLASH),
    ("gemini-3.6-flash", GEMINI_3_FLASH),
    ("sim-1", GEMINI_3_FLASH),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_stands_for_its_model() {
        #[track_caller]
        fn check(id: &str, expected: &str) {
            assert_eq!(base_model(id), expected);
        }
        check("anthropic.claude-opus-4-6-v1", "anthropic.claude-opus-4-6-v1");
        check("us.anthropic.claude-opus-4-6-v1", "anthropic.claude-opus-4-6-v1");
        check(
            "us-gov.anthropic.claude-opus-4-6-v1",
            "anthropic.claude-opus-4-6-v1",
        );
        check("global.amazon.nova-2-lite-v1:0", "amazon.nova-2-lite-v1:0");
        check(
            "arn:aws:bedrock:eu-west-1:1:inference-profile/eu.meta.llama3-2-1b-instruct-v1:0",
            "meta.llama3-2-1b-instruct-v1:0",
        );
        check(
            "arn:aws:bedrock:us-east-1::foundation-model/openai.gpt-oss-20b-1:0",
            "openai.gpt-oss-20b-1:0",
        );
        check(
            "arn:aws:bedrock:us-east-1:1:application-inference-profile/abc1nova",
            "abc1nova",
        );
        check("arn:odd", "odd");
        check("gpt-5", "gpt-5");
    }

    #[test]
    fn a_model_is_known_by_its_longest_row_wherever_it_is_served() {
        #[track_caller]
        fn check(id: &str, capability: Capability, hosted: Hosted) {
            assert_eq!(Capability::of(Format::Converse, id), capability, "{id}");
            assert_eq!(Hosted::of(id), hosted, "{id}");
        }
        check("us.anthropic.claude-opus-4-6-v1", OPUS_4_6, CLAUDE_HOUR);
        check(
            "anthropic.claude-3-haiku-20240307-v1:0",
            CLAUDE_3,
            CLAUDE_UNCACHED,
        );
        check(
            "anthropic.claude-3-5-haiku-20241022-v1:0",
            CLAUDE_3_5,
            CLAUDE_HOSTED,
        );
        check("us.amazon.nova-pro-v1:0", UNSTRUCTURED, NOVA);
        check("openai.gpt-oss-120b-1:0", Capability::UNKNOWN, GPT_OSS);
        check("qwen.qwen3-32b-v1:0", Capability::UNKNOWN, OTHER);
        assert_eq!(
            Capability::of(
                Format::Messages,
                "global.anthropic.claude-sonnet-4-5-20250929-v1:0"
            ),
            STRUCTURED
        );
    }
}
