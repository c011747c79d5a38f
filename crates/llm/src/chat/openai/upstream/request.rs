//! Writes the top level of a request.

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    super::wire::Members,
    Names,
    messages::{Message, Writer},
};
use crate::{
    ApiError, Field, Format, Losses, Target,
    capability::Capability,
    chat::{Output, Reasoning, ReasoningMode, Request, Tool, ToolBody, ToolChoice},
    json,
    provider::Dialect,
};

/// What a schema for the answer is called where the client's format has no names for them.
const SCHEMA_NAME: &str = "response";

/// Thinking budgets from which on an effort fits, the highest first: Anthropic's smallest budget is 1,024
/// tokens, and 16,384 is where its guide begins to speak of complex tasks.
const EFFORTS: &[(u64, &str)] = &[(16_384, "high"), (4_096, "medium"), (0, "low")];

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: Vec<Message<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<WireTool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Choice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parallel_tool_calls: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<ResponseFormat<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<f64>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    stop: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    n: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_logprobs: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_effort: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<Thinking<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
    #[serde(flatten)]
    extensions: Members<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum WireTool<'a> {
    Function {
        #[serde(rename = "type")]
        kind: &'static str,
        function: Function<'a>,
        #[serde(flatten)]
        extensions: Members<'a>,
    },
    Native(&'a RawValue),
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<super::super::wire::CacheControl>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Choice<'a> {
    Word(&'static str),
    Tool {
        #[serde(rename = "type")]
        kind: &'static str,
        function: Named<'a>,
    },
}

#[derive(Serialize)]
struct Named<'a> {
    name: &'a str,
}

#[derive(Serialize)]
struct ResponseFormat<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    json_schema: Option<JsonSchema<'a>>,
}

#[derive(Serialize)]
struct JsonSchema<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    schema: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

#[derive(Serialize)]
struct Thinking<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    display: Option<&'a str>,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

/// Writes `request` for `target`; see [`Upstream::encode_request`](crate::chat::Upstream::encode_request).
pub(super) fn encode(
    request: &Request,
    target: &Target<'_>,
    names: &Names,
    losses: &mut Losses,
) -> Result<Bytes, ApiError> {
    let dialect = target.provider.dialect();
    let effort_taken = Capability::of(Format::OpenAi, target.model).effort;
    request
        .extensions
        .lose(Format::OpenAi, losses, |key| Field::Extension(key.to_owned()));
    if request.sampling.top_k.is_some() && !dialect.top_k {
        losses.advisory(
            Field::TopK,
            "this upstream does not sample from the k likeliest tokens",
        );
    }
    let mut writer = Writer::new(dialect, names, losses);
    let tools = tools(&request.tools, &mut writer);
    let messages = writer.write(request)?;
    // The upstream refuses these two where it is offered no tool.
    let with_tools = !tools.is_empty();
    let (reasoning_effort, thinking) = match &request.reasoning {
        Some(reasoning) => think(reasoning, dialect, effort_taken, losses),
        None => (None, None),
    };
    let sampling = &request.sampling;
    let body = Body {
        model: target.model,
        messages,
        tools,
        tool_choice: request
            .tool_choice
            .as_ref()
            .filter(|_| with_tools)
            .map(|choice| choose(choice, names)),
        parallel_tool_calls: request.parallel_tool_calls.filter(|_| with_tools),
        response_format: response_format(&request.output),
        max_completion_tokens: request.max_output,
        temperature: sampling.temperature,
        top_p: sampling.top_p,
        top_k: sampling.top_k.filter(|_| dialect.top_k),
        seed: sampling.seed,
        frequency_penalty: sampling.frequency_penalty,
        presence_penalty: sampling.presence_penalty,
        stop: &sampling.stop,
        n: sampling.choices,
        logprobs: sampling.logprobs.map(|_| true),
        top_logprobs: sampling.logprobs.filter(|alternatives| *alternatives > 0),
        reasoning_effort,
        thinking,
        user: request.user.as_deref(),
        service_tier: request.service_tier.as_deref().map(service_tier),
        stream: request.stream.map(|_| true),
        stream_options: request.stream.map(|_| StreamOptions { include_usage: true }),
        extensions: Members::from(&request.extensions),
    };
    json::write(&body, request.weight())
        .map_err(|error| ApiError::invalid(format!("the request cannot be written as JSON: {error}")))
}

fn tools<'a>(tools: &'a [Tool], writer: &mut Writer<'a, '_>) -> Vec<WireTool<'a>> {
    let mut written = Vec::with_capacity(tools.len());
    for (index, tool) in tools.iter().enumerate() {
        tool.extensions
            .lose(Format::OpenAi, writer.losses, |_| Field::Tool(index));
        match &tool.body {
            ToolBody::Function {
                name,
                description,
                parameters,
                strict,
            } => written.push(WireTool::Function {
                kind: "function",
                function: Function {
                    name: writer.names.wire(name),
                    description: description.as_deref().filter(|text| !text.is_empty()),
                    parameters: parameters.as_deref(),
                    strict: *strict,
                    cache_control: writer.mark(tool.cache),
                },
                extensions: Members::from(&tool.extensions),
            }),
            ToolBody::Native { format, kind, raw } => match format {
                Format::OpenAi => written.push(WireTool::Native(raw)),
                Format::Messages | Format::Responses | Format::Gemini | Format::Converse => {
                    writer.losses.material(
                        Field::Tool(index),
                        format!("a tool of type {kind} is known to {} only", format.name()),
                    )
                }
            },
        }
    }
    written
}

fn choose<'a>(choice: &'a ToolChoice, names: &'a Names) -> Choice<'a> {
    match choice {
        ToolChoice::Auto => Choice::Word("auto"),
        ToolChoice::None => Choice::Word("none"),
        ToolChoice::Required => Choice::Word("required"),
        ToolChoice::Tool(name) => Choice::Tool {
            kind: "function",
            function: Named {
                name: names.wire(name),
            },
        },
    }
}

fn response_format(output: &Output) -> Option<ResponseFormat<'_>> {
    match output {
        Output::Text => None,
        Output::JsonObject => Some(ResponseFormat {
            kind: "json_object",
            json_schema: None,
        }),
        Output::JsonSchema {
            name,
            description,
            schema,
            strict,
        } => Some(ResponseFormat {
            kind: "json_schema",
            json_schema: Some(JsonSchema {
                name: if name.is_empty() { SCHEMA_NAME } else { name },
                description: description.as_deref(),
                schema,
                strict: *strict,
            }),
        }),
    }
}

/// Returns the effort and the thinking object that say how much to think.
fn think<'a>(
    reasoning: &'a Reasoning,
    dialect: Dialect,
    effort_taken: bool,
    losses: &mut Losses,
) -> (Option<&'a str>, Option<Thinking<'a>>) {
    let thinking = reasoning.mode.filter(|_| dialect.thinking).map(|mode| Thinking {
        kind: match mode {
            ReasoningMode::Enabled => "enabled",
            ReasoningMode::Disabled => "disabled",
            ReasoningMode::Adaptive => "adaptive",
        },
        budget_tokens: reasoning.budget,
        display: reasoning.display.as_deref(),
    });
    let said = thinking.is_some();
    let effort = match (&reasoning.effort, reasoning.mode) {
        (Some(effort), _) => Some(effort_word(effort, losses)),
        (None, _) if said => None,
        (None, Some(ReasoningMode::Enabled)) => Some(effort_of(reasoning.budget)),
        (None, Some(ReasoningMode::Disabled)) if effort_taken => {
            losses.advisory(
                Field::Reasoning,
                "reasoning cannot be switched off at this upstream; the least effort is asked for",
            );
            Some("low")
        }
        // Models without reasoning do not reason, and those with it do as they see fit.
        (None, Some(ReasoningMode::Disabled | ReasoningMode::Adaptive) | None) => None,
    };
    if effort.is_some() && !effort_taken {
        losses.advisory(Field::Reasoning, "the upstream's model takes no reasoning effort");
    }
    if !said && reasoning.display.as_deref() == Some("summarized") {
        losses.advisory(Field::Reasoning, "this upstream does not show its reasoning");
    }
    (effort.filter(|_| effort_taken), thinking)
}

/// Returns an effort that every reasoning model takes; the two above `high` are known to few.
pub(in crate::chat) fn effort_word<'a>(effort: &'a str, losses: &mut Losses) -> &'a str {
    match effort {
        "xhigh" | "max" => {
            losses.advisory(Field::Reasoning, "the highest effort of this upstream is high");
            "high"
        }
        effort => effort,
    }
}

/// Returns the effort that is nearest to a thinking budget; without one, the middle.
pub(in crate::chat) fn effort_of(budget: Option<u64>) -> &'static str {
    let Some(budget) = budget else {
        return "medium";
    };
    EFFORTS
        .iter()
        .find(|(from, _)| budget >= *from)
        .map_or("low", |(_, effort)| effort)
}

/// Returns OpenAI's word for a tier of service; Anthropic says `standard_only` for the ordinary one.
fn service_tier(tier: &str) -> &str {
    match tier {
        "standard_only" => "default",
        tier => tier,
    }
}
