//! Servers that speak OpenAI's format and are not OpenAI: one row each.
//!
//! A habit is in a row only where the server's own documentation, named above the row, says so; what is said
//! nowhere is as it is at OpenAI. Whoever stands behind a host that no row names gets [`COMPATIBLE`], which
//! has none of them, unless the configuration says whose server it is.

use super::{
    Ask, CredentialKind, Dialect, Member, Preset, Provider, Replay, Site, Target, Thinking, Trigger, openai,
    serve,
};
use crate::{Document, Format, Operation, document::Served};

/// A server of OpenAI's format, as data.
#[derive(Debug)]
pub struct Compatible {
    id: &'static str,
    name: &'static str,
    /// Hosts of the public API; `*.` stands for any first labels.
    hosts: &'static [&'static str],
    /// First segments of the path, where the configuration names none.
    prefix: &'static str,
    /// Whether it serves Responses itself, beside chat completions.
    responses: bool,
    /// What it serves beside chat.
    documents: Documents,
    dialect: Dialect,
    preset: Option<Preset>,
}

/// What a server serves beside chat.
#[derive(Clone, Copy, Debug)]
enum Documents {
    /// What servers of one's own do: tokens, and documents in order, too.
    Own,
    /// What OpenAI does, or a part of it.
    Hosted,
    /// What Cohere does, at paths of its own.
    Cohere,
}

/// Any server of OpenAI's format.
///
/// Responses are sent on as they are: the schema promises the path (compatibility specification, "Upstream
/// path").
pub const COMPATIBLE: Compatible = Compatible {
    id: "openai-compatible",
    name: "openai",
    hosts: &[],
    prefix: "v1",
    responses: true,
    documents: Documents::Own,
    dialect: Dialect::PLAIN,
    preset: None,
};

/// Azure OpenAI where it serves OpenAI's own paths. Source: Azure OpenAI, "v1 API".
pub(super) const AZURE_V1: Compatible = Compatible {
    id: "azure-openai-v1",
    name: "azure.openai",
    hosts: &["*.openai.azure.com"],
    documents: Documents::Hosted,
    prefix: "openai/v1",
    ..COMPATIBLE
};

/// Mistral. Source: API reference, "Chat Completion", which has no other members and refuses unknown ones;
/// "Function calling" for the ids; "Models" for the aliases.
pub const MISTRAL: Compatible = Compatible {
    id: "mistral",
    hosts: &["api.mistral.ai", "codestral.mistral.ai"],
    documents: Documents::Hosted,
    responses: false,
    dialect: Dialect {
        short_call_ids: true,
        renames: &[LIMIT, ("seed", "random_seed")],
        refuses: &[
            Member::Logprobs,
            Member::Metadata,
            Member::Name,
            Member::ServiceTier,
            Member::StreamOptions,
            Member::User,
        ],
        ..Dialect::PLAIN
    },
    preset: Some(Preset {
        key: "MISTRAL_API_KEY",
        base: "MISTRAL_BASE_URL",
        url: "https://api.mistral.ai/v1",
        models: &[
            "mistral-small-latest",
            "mistral-medium-latest",
            "mistral-large-latest",
            "codestral-latest",
        ],
        family: "(open-)?(mistral|mixtral|ministral|codestral|devstral|magistral|pixtral|voxtral)-.*",
        ..Preset::NONE
    }),
    ..COMPATIBLE
};

/// Cohere's compatibility API. Source: "Using Cohere models via the OpenAI SDK", unsupported parameters;
/// "Models".
pub const COHERE: Compatible = Compatible {
    id: "cohere",
    hosts: &["api.cohere.com", "api.cohere.ai"],
    prefix: "compatibility/v1",
    responses: false,
    documents: Documents::Cohere,
    dialect: Dialect {
        refuses: &[
            Member::Choices,
            Member::Metadata,
            Member::ParallelToolCalls,
            Member::ServiceTier,
        ],
        ..Dialect::PLAIN
    },
    preset: Some(Preset {
        key: "CO_API_KEY",
        base: "COHERE_BASE_URL",
        url: "https://api.cohere.com/compatibility/v1",
        models: &["command-r7b-12-2024", "command-a-03-2025"],
        family: "(command|c4ai)-.*",
        ..Preset::NONE
    }),
    ..COMPATIBLE
};

/// Cohere where it is declared by its own schema, whose version says where embeddings and rerank are.
pub const COHERE_V2: Compatible = Compatible {
    id: "cohere-v2",
    name: "cohere",
    hosts: &[],
    preset: None,
    ..COHERE
};

/// DeepSeek. Source: API documentation, "Create Chat Completion" and "Thinking Mode", which demands the
/// reasoning of earlier turns back where tools were called.
pub const DEEPSEEK: Compatible = Compatible {
    id: "deepseek",
    hosts: &["api.deepseek.com"],
    documents: Documents::Hosted,
    responses: false,
    dialect: Dialect {
        effort: true,
        thinking: Thinking::Switch,
        replay: Replay::ReasoningContent,
        renames: &[LIMIT],
        refuses: &[
            Member::Choices,
            Member::JsonSchema,
            Member::Metadata,
            Member::ParallelToolCalls,
            Member::Seed,
            Member::ServiceTier,
            Member::Strict,
            Member::User,
        ],
        ..Dialect::PLAIN
    },
    preset: Some(Preset {
        key: "DEEPSEEK_API_KEY",
        base: "DEEPSEEK_BASE_URL",
        url: "https://api.deepseek.com/v1",
        models: &["deepseek-v4-flash", "deepseek-v4-pro"],
        family: "deepseek-.*",
        ..Preset::NONE
    }),
    ..COMPATIBLE
};

/// Grok. Source: xAI's REST API reference, "Chat completions" and "Responses"; "Models".
pub const XAI: Compatible = Compatible {
    id: "xai",
    hosts: &["api.x.ai"],
    documents: Documents::Hosted,
    dialect: Dialect {
        refuses: &[Member::ServiceTier],
        ..Dialect::PLAIN
    },
    preset: Some(Preset {
        key: "XAI_API_KEY",
        base: "XAI_BASE_URL",
        url: "https://api.x.ai/v1",
        models: &["grok-4.3", "grok-4.5"],
        family: "grok-.*",
        ..Preset::NONE
    }),
    ..COMPATIBLE
};

/// Tencent Hunyuan. Source: Tencent Cloud, "Hunyuan OpenAI-compatible interface".
pub const HUNYUAN: Compatible = Compatible {
    id: "hunyuan",
    hosts: &["api.hunyuan.cloud.tencent.com"],
    documents: Documents::Hosted,
    responses: false,
    preset: Some(Preset {
        key: "HUNYUAN_API_KEY",
        base: "HUNYUAN_BASE_URL",
        url: "https://api.hunyuan.cloud.tencent.com/v1",
        models: &["hunyuan-turbos-latest"],
        family: "hunyuan-.*",
        ..Preset::NONE
    }),
    ..COMPATIBLE
};

/// Groq. Source: GroqDocs, "OpenAI Compatibility" and API reference (the tiers have other names);
/// "Supported Models".
pub const GROQ: Compatible = Compatible {
    id: "groq",
    hosts: &["api.groq.com"],
    documents: Documents::Hosted,
    prefix: "openai/v1",
    dialect: Dialect {
        refuses: &[
            Member::Choices,
            Member::Logprobs,
            Member::Metadata,
            Member::Name,
            Member::ServiceTier,
        ],
        ..Dialect::PLAIN
    },
    preset: Some(Preset {
        key: "GROQ_API_KEY",
        base: "GROQ_BASE_URL",
        url: "https://api.groq.com/openai/v1",
        models: &[
            "llama-3.1-8b-instant",
            "llama-3.3-70b-versatile",
            "openai/gpt-oss-20b",
            "openai/gpt-oss-120b",
        ],
        family: "llama-.*",
        ..Preset::NONE
    }),
    ..COMPATIBLE
};

/// SambaNova. Source: SambaNova documentation, "OpenAI compatibility" and "Create chat-based completion".
pub const SAMBANOVA: Compatible = Compatible {
    id: "sambanova",
    hosts: &["api.sambanova.ai"],
    documents: Documents::Hosted,
    dialect: Dialect {
        top_k: true,
        refuses: &[Member::Penalties],
        ..Dialect::PLAIN
    },
    preset: Some(Preset {
        key: "SAMBANOVA_API_KEY",
        base: "SAMBANOVA_BASE_URL",
        url: "https://api.sambanova.ai/v1",
        models: &["Meta-Llama-3.3-70B-Instruct"],
        family: "Meta-Llama-.*",
        ..Preset::NONE
    }),
    ..COMPATIBLE
};

/// Together AI. Source: API reference, "Create chat completion" (`logprobs` is a number there).
pub const TOGETHER: Compatible = Compatible {
    id: "together",
    hosts: &["api.together.xyz", "api.together.ai"],
    documents: Documents::Hosted,
    responses: false,
    dialect: Dialect {
        top_k: true,
        audio_url: true,
        video_url: true,
        renames: &[LIMIT],
        refuses: &[Member::Logprobs],
        ..Dialect::PLAIN
    },
    preset: Some(Preset {
        key: "TOGETHER_API_KEY",
        base: "TOGETHER_BASE_URL",
        url: "https://api.together.xyz/v1",
        models: &["openai/gpt-oss-20b", "meta-llama/Llama-3.3-70B-Instruct-Turbo"],
        family: OTHERS,
        ..Preset::NONE
    }),
    ..COMPATIBLE
};

/// DeepInfra. Source: DeepInfra documentation, "OpenAI-compatible API".
pub const DEEPINFRA: Compatible = Compatible {
    id: "deepinfra",
    hosts: &["api.deepinfra.com"],
    documents: Documents::Hosted,
    prefix: "v1/openai",
    responses: false,
    dialect: Dialect {
        top_k: true,
        renames: &[LIMIT],
        ..Dialect::PLAIN
    },
    preset: Some(Preset {
        key: "DEEPINFRA_API_KEY",
        base: "DEEPINFRA_BASE_URL",
        url: "https://api.deepinfra.com/v1/openai",
        models: &["openai/gpt-oss-20b", "meta-llama/Llama-3.3-70B-Instruct"],
        family: OTHERS,
        ..Preset::NONE
    }),
    ..COMPATIBLE
};

/// OpenRouter. Source: API reference, "Chat Completion"; guides "Reasoning Tokens", "Prompt Caching" and
/// "Video Inputs".
pub const OPENROUTER: Compatible = Compatible {
    id: "openrouter",
    hosts: &["openrouter.ai"],
    documents: Documents::Hosted,
    prefix: "api/v1",
    dialect: Dialect {
        top_k: true,
        thinking: Thinking::Reasoning,
        replay: Replay::Reasoning,
        cache_control: true,
        video_url: true,
        ..Dialect::PLAIN
    },
    preset: Some(Preset {
        key: "OPENROUTER_API_KEY",
        base: "OPENROUTER_BASE_URL",
        url: "https://openrouter.ai/api/v1",
        models: &[
            "openrouter/auto",
            "openai/gpt-5-mini",
            "anthropic/claude-sonnet-4.5",
        ],
        family: OTHERS,
        ..Preset::NONE
    }),
    ..COMPATIBLE
};

/// Tetrate Agent Router. Source: Tetrate documentation, "Supported APIs" and "Make an AI API call".
pub const TETRATE: Compatible = Compatible {
    id: "tetrate",
    hosts: &["api.router.tetrate.ai"],
    documents: Documents::Hosted,
    preset: Some(Preset {
        key: "TETRATE_API_KEY",
        base: "TETRATE_BASE_URL",
        url: "https://api.router.tetrate.ai/v1",
        models: &["gpt-5.5", "claude-sonnet-4-6", "gemini-2.5-flash"],
        ..Preset::NONE
    }),
    ..COMPATIBLE
};

/// A LiteLLM proxy. Source: LiteLLM documentation, "Reasoning content", "Prompt caching" and "/responses".
pub const LITELLM: Compatible = Compatible {
    id: "litellm",
    dialect: Dialect {
        top_k: true,
        effort: true,
        thinking: Thinking::Budget,
        replay: Replay::ThinkingBlocks,
        cache_control: true,
        ..Dialect::PLAIN
    },
    preset: Some(Preset {
        key: "LITELLM_API_KEY",
        base: "LITELLM_BASE_URL",
        url: "http://localhost:4000/v1",
        trigger: Trigger::Base,
        ..Preset::NONE
    }),
    ..COMPATIBLE
};

/// vLLM. Source: vLLM documentation, "OpenAI-Compatible Server", "Multimodal Inputs" and "Interleaved
/// Thinking"; it ignores who the user is.
pub const VLLM: Compatible = Compatible {
    id: "vllm",
    dialect: Dialect {
        top_k: true,
        replay: Replay::Reasoning,
        audio_url: true,
        video_url: true,
        refuses: &[Member::User],
        ..Dialect::PLAIN
    },
    preset: Some(Preset {
        key: "VLLM_API_KEY",
        base: "VLLM_BASE_URL",
        url: "http://localhost:8000/v1",
        trigger: Trigger::Base,
        ..Preset::NONE
    }),
    ..COMPATIBLE
};

/// Ollama. Source: Ollama documentation, "OpenAI compatibility", supported request fields.
pub const OLLAMA: Compatible = Compatible {
    id: "ollama",
    dialect: Dialect {
        renames: &[LIMIT],
        refuses: &[
            Member::Choices,
            Member::Metadata,
            Member::ParallelToolCalls,
            Member::ServiceTier,
            Member::ToolChoice,
            Member::User,
        ],
        ..Dialect::PLAIN
    },
    preset: Some(Preset {
        key: "OLLAMA_API_KEY",
        base: "OLLAMA_BASE_URL",
        url: "http://localhost:11434/v1",
        trigger: Trigger::Base,
        family: "[^/:]+:[^/:]+",
        ..Preset::NONE
    }),
    ..COMPATIBLE
};

/// LM Studio. Source: LM Studio documentation, "OpenAI Compatibility Endpoints", supported payload parameters.
pub const LM_STUDIO: Compatible = Compatible {
    id: "lm-studio",
    dialect: Dialect {
        top_k: true,
        renames: &[LIMIT],
        ..Dialect::PLAIN
    },
    preset: Some(Preset {
        key: "LM_STUDIO_API_KEY",
        base: "LM_STUDIO_BASE_URL",
        url: "http://localhost:1234/v1",
        trigger: Trigger::Base,
        ..Preset::NONE
    }),
    ..COMPATIBLE
};

impl Provider for Compatible {
    fn id(&self) -> &'static str {
        self.id
    }

    fn name(&self) -> &'static str {
        self.name
    }

    fn formats(&self, operation: Operation, model: &str) -> &'static [Format] {
        if self.responses {
            return openai::OpenAi.formats(operation, model);
        }
        match operation {
            Operation::Chat | Operation::Upload(_) => &[Format::OpenAi],
            Operation::Document(_) | Operation::Models | Operation::Model | Operation::Kept => &[],
        }
    }

    fn document(&self, document: Document, target: &Target<'_>) -> Option<Served> {
        if document == Document::Compaction && !self.responses {
            return None;
        }
        match self.documents {
            Documents::Own => serve::own(document, target, self.prefix),
            Documents::Hosted => serve::hosted(document, target, self.prefix),
            Documents::Cohere => serve::cohere(document, target),
        }
    }

    fn path(&self, ask: Ask, target: &Target<'_>) -> String {
        openai::chat_path(ask, target, self.prefix)
    }

    fn host(&self) -> Option<&'static str> {
        self.hosts.first().copied()
    }

    fn serves_at(&self, host: &str) -> bool {
        self.hosts.iter().any(|own| match own.strip_prefix('*') {
            Some(suffix) => host.to_ascii_lowercase().ends_with(suffix),
            None => own.eq_ignore_ascii_case(host),
        })
    }

    fn credential(&self) -> CredentialKind {
        CredentialKind::Bearer
    }

    fn dialect(&self, _site: &Site) -> Dialect {
        self.dialect
    }

    fn preset(&self) -> Option<&Preset> {
        self.preset.as_ref()
    }
}

/// The limit on generated tokens, by its older name.
const LIMIT: (&str, &str) = ("max_completion_tokens", "max_tokens");

/// Names of models that say whose they are.
const OTHERS: &str = "[^/]+/.+";
