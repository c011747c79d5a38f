//! Writes the top level of a request.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::{
    super::wire::Members,
    Names,
    messages::{Message, Writer},
    think::{ReasoningObject, Think, ThinkingObject, think},
};
use crate::{
    ApiError, Field, Format, Loss, Losses, Severity, Target,
    chat::{Extensions, Output, Request, Tool, ToolBody, ToolChoice},
    json,
    provider::{Dialect, Member},
};

/// What a schema for the answer is called where the client's format has no names for them.
const SCHEMA_NAME: &str = "response";

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
    thinking: Option<ThinkingObject<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<ReasoningObject<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    safety_identifier: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
    #[serde(flatten)]
    told: Told<'a>,
}

/// Top-level members without a neutral counterpart.
struct Told<'a> {
    extensions: &'a Extensions,
    /// Whether those of other formats are among them that OpenAI has too.
    shared: bool,
}

impl Serialize for Told<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let extensions = self.extensions.0.iter();
        let told = extensions.filter(|extension| self.shared || extension.format == Format::OpenAi);
        serializer.collect_map(
            told.filter_map(|extension| Some((extension.name(Format::OpenAi)?, &extension.value))),
        )
    }
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
    let dialect = target.provider.dialect(target.site);
    let effort_taken = dialect.effort || target.capability(Format::OpenAi).effort;
    refuse(request, &dialect, losses);
    request.extensions.lose_untold(Format::OpenAi, losses);
    if !dialect.takes(Member::Metadata) {
        lose_shared(&request.extensions, losses);
    }
    if request.sampling.top_k.is_some() && !dialect.top_k {
        losses.advisory(
            Field::TopK,
            "this upstream does not sample from the k likeliest tokens",
        );
    }
    let mut writer = Writer::new(dialect, names, losses);
    // Where a choice cannot be said, only a tool that is not offered is a tool that is not called.
    let withheld = request.tool_choice == Some(ToolChoice::None) && !dialect.takes(Member::ToolChoice);
    let offered = if withheld { &[] } else { request.tools.as_slice() };
    let tools = tools(offered, &mut writer);
    let messages = writer.write(request)?;
    // The upstream refuses these two where it is offered no tool.
    let with_tools = !tools.is_empty();
    let Think {
        effort,
        thinking,
        reasoning,
    } = match &request.reasoning {
        Some(reasoning) => think(reasoning, &dialect, effort_taken, losses),
        None => Think::default(),
    };
    let user = request.user.as_deref().filter(|_| dialect.takes(Member::User));
    // Others than OpenAI have one word for whoever asks.
    let pseudonym = request.user_is_pseudonym && dialect.takes(Member::Metadata);
    let sampling = &request.sampling;
    let (penalties, logprobs) = (dialect.takes(Member::Penalties), dialect.takes(Member::Logprobs));
    let body = Body {
        model: target.model,
        messages,
        tools,
        tool_choice: request
            .tool_choice
            .as_ref()
            .filter(|_| with_tools && dialect.takes(Member::ToolChoice))
            .map(|choice| choose(choice, names)),
        parallel_tool_calls: request
            .parallel_tool_calls
            .filter(|_| with_tools && dialect.takes(Member::ParallelToolCalls)),
        response_format: response_format(&request.output),
        max_completion_tokens: request.max_output,
        temperature: sampling.temperature,
        top_p: sampling.top_p,
        top_k: sampling.top_k.filter(|_| dialect.top_k),
        seed: sampling.seed.filter(|_| dialect.takes(Member::Seed)),
        frequency_penalty: sampling.frequency_penalty.filter(|_| penalties),
        presence_penalty: sampling.presence_penalty.filter(|_| penalties),
        stop: &sampling.stop,
        n: sampling.choices.filter(|_| dialect.takes(Member::Choices)),
        logprobs: sampling.logprobs.filter(|_| logprobs).map(|_| true),
        top_logprobs: sampling
            .logprobs
            .filter(|alternatives| logprobs && *alternatives > 0),
        reasoning_effort: effort,
        thinking,
        reasoning,
        user: user.filter(|_| !pseudonym),
        safety_identifier: user.filter(|_| pseudonym),
        service_tier: request
            .service_tier
            .as_deref()
            .filter(|_| dialect.takes(Member::ServiceTier))
            .map(service_tier),
        stream: request.stream.map(|_| true),
        stream_options: request
            .stream
            .filter(|_| dialect.takes(Member::StreamOptions))
            .map(|_| StreamOptions { include_usage: true }),
        told: Told {
            extensions: &request.extensions,
            shared: dialect.takes(Member::Metadata),
        },
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
                    strict: writer.strict(*strict, index),
                    cache_control: writer.mark(tool.cache),
                },
                extensions: Members::from(&tool.extensions),
            }),
            ToolBody::Native { format, kind, raw } => match format {
                Format::OpenAi => written.push(WireTool::Native(raw)),
                Format::Messages | Format::Responses | Format::Gemini | Format::Converse | Format::Cohere => {
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
        Output::Plain => Some(ResponseFormat {
            kind: "text",
            json_schema: None,
        }),
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

/// Records as losses what the upstream refuses of the top level.
fn refuse(request: &Request, dialect: &Dialect, losses: &mut Losses) {
    for (member, is_said, field, severity, reason) in REFUSALS {
        if is_said(request) && !dialect.takes(*member) {
            losses.push(Loss {
                field: field.clone(),
                severity: *severity,
                reason: Cow::Borrowed(reason),
            });
        }
    }
}

/// Records as losses what OpenAI's own service would be told in the words of another format.
fn lose_shared(extensions: &Extensions, losses: &mut Losses) {
    let foreign = extensions.0.iter();
    let foreign = foreign.filter(|extension| extension.format != Format::OpenAi);
    for extension in foreign.filter(|extension| extension.name(Format::OpenAi).is_some()) {
        let reason = "this upstream takes nothing of the kind";
        losses.advisory(Field::Extension(extension.key.clone()), reason);
    }
}

/// Returns OpenAI's word for a tier of service; Anthropic says `standard_only` for the ordinary one.
fn service_tier(tier: &str) -> &str {
    match tier {
        "standard_only" => "default",
        tier => tier,
    }
}

/// What a request says that a server may refuse: the member, whether it is said, and what losing it amounts to.
///
/// Names and strictness are judged where they are written, and the tokens of a stream are counted whether that
/// can be asked for or not.
type Refusal = (Member, fn(&Request) -> bool, Field, Severity, &'static str);

const REFUSALS: &[Refusal] = &[
    (
        Member::Choices,
        |request| request.sampling.choices.is_some_and(|choices| choices > 1),
        Field::Choices,
        Severity::Material,
        "this upstream gives one answer",
    ),
    (
        Member::JsonSchema,
        |request| matches!(request.output, Output::JsonSchema { .. }),
        Field::Output,
        Severity::Material,
        "this upstream answers in JSON, but not after a schema",
    ),
    (
        Member::ToolChoice,
        |request| {
            matches!(
                request.tool_choice,
                Some(ToolChoice::Required | ToolChoice::Tool(_))
            )
        },
        Field::ToolChoice,
        Severity::Material,
        "this upstream cannot be made to call a tool",
    ),
    (
        Member::Logprobs,
        |request| request.sampling.logprobs.is_some(),
        Field::Logprobs,
        Severity::Advisory,
        "this upstream does not tell log-probabilities",
    ),
    (
        Member::ParallelToolCalls,
        |request| request.parallel_tool_calls == Some(false),
        Field::ParallelToolCalls,
        Severity::Advisory,
        "this upstream calls as many tools at once as it sees fit",
    ),
    (
        Member::Penalties,
        |request| {
            request
                .sampling
                .frequency_penalty
                .is_some_and(|penalty| penalty != 0.0)
        },
        Field::FrequencyPenalty,
        Severity::Advisory,
        "this upstream has no penalties",
    ),
    (
        Member::Penalties,
        |request| {
            request
                .sampling
                .presence_penalty
                .is_some_and(|penalty| penalty != 0.0)
        },
        Field::PresencePenalty,
        Severity::Advisory,
        "this upstream has no penalties",
    ),
    (
        Member::Seed,
        |request| request.sampling.seed.is_some(),
        Field::Seed,
        Severity::Advisory,
        "this upstream takes no seed",
    ),
    (
        Member::ServiceTier,
        |request| request.service_tier.is_some(),
        Field::ServiceTier,
        Severity::Advisory,
        "this upstream has no such tiers",
    ),
    (
        Member::User,
        |request| request.user.is_some(),
        Field::User,
        Severity::Advisory,
        "this upstream is not told who the user is",
    ),
];
