//! How servers of OpenAI's chat completions differ from OpenAI: as data, so that the format's encoder asks
//! for a habit and never for a name.

/// The habits of one server. [`Dialect::PLAIN`] is OpenAI's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// Takes `top_k`.
    pub top_k: bool,
    /// Takes `reasoning_effort` whatever the model.
    pub effort: bool,
    /// How it is told to think.
    pub thinking: Thinking,
    /// What it reads of earlier reasoning.
    pub replay: Replay,
    /// Takes `cache_control` on parts, messages and tools.
    pub cache_control: bool,
    /// Takes `audio_url` parts, and sound in any format.
    pub audio_url: bool,
    /// Takes `video_url` parts.
    pub video_url: bool,
    /// Takes ids of tool calls only if they are nine letters and digits.
    pub short_call_ids: bool,
    /// Top-level members that it calls otherwise: OpenAI's name and its own.
    pub renames: &'static [(&'static str, &'static str)],
    /// What it refuses, or ignores, of what OpenAI takes.
    pub refuses: &'static [Member],
}

/// How a server is told to think, beside `reasoning_effort`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thinking {
    /// Not at all.
    None,
    /// `thinking` with a type: on or off.
    Switch,
    /// `thinking` as Anthropic has it, with a budget.
    Budget,
    /// `reasoning` with an effort or `max_tokens`.
    Reasoning,
}

/// What a server reads of the reasoning in earlier turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// Nothing.
    None,
    /// Its text, as `reasoning`.
    Reasoning,
    /// Its text, as `reasoning_content`.
    ReasoningContent,
    /// Its text, as `reasoning_content`, and what Anthropic has sealed, as `thinking_blocks`.
    ThinkingBlocks,
}

/// Something in a chat completion that not every server takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Member {
    /// `n` above one.
    Choices,
    /// `response_format` of type `json_schema`.
    JsonSchema,
    /// `logprobs` and `top_logprobs`.
    Logprobs,
    /// `metadata`, and what else OpenAI's own service is told beside the question: `prompt_cache_key`, `verbosity`.
    Metadata,
    /// `name` in messages.
    Name,
    /// `parallel_tool_calls`.
    ParallelToolCalls,
    /// `frequency_penalty` and `presence_penalty`.
    Penalties,
    /// `seed`.
    Seed,
    /// `service_tier`.
    ServiceTier,
    /// `stream_options`; such a server counts the tokens of every stream.
    StreamOptions,
    /// `strict` in tools.
    Strict,
    /// `tool_choice`.
    ToolChoice,
    /// `user`.
    User,
}

impl Dialect {
    /// OpenAI's own habits, which are also those of a server of which nothing is known.
    pub const PLAIN: Dialect = Dialect {
        top_k: false,
        effort: false,
        thinking: Thinking::None,
        replay: Replay::None,
        cache_control: false,
        audio_url: false,
        video_url: false,
        short_call_ids: false,
        renames: &[],
        refuses: &[],
    };

    /// Returns whether `member` is taken.
    pub fn takes(&self, member: Member) -> bool {
        !self.refuses.contains(&member)
    }
}

impl Member {
    /// Returns what documentation calls it.
    pub fn name(self) -> &'static str {
        match self {
            Member::Choices => "n",
            Member::JsonSchema => "json_schema",
            Member::Logprobs => "logprobs",
            Member::Metadata => "metadata",
            Member::Name => "messages[].name",
            Member::ParallelToolCalls => "parallel_tool_calls",
            Member::Penalties => "penalties",
            Member::Seed => "seed",
            Member::ServiceTier => "service_tier",
            Member::StreamOptions => "stream_options",
            Member::Strict => "strict",
            Member::ToolChoice => "tool_choice",
            Member::User => "user",
        }
    }
}
