//! Asks upstreams in this format.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::value::RawValue;

use super::{
    Responses,
    items::Writer,
    listen,
    request::{Choice, Document, Form, More, Nothing, Object, Reasoning, Shape, Text, Tool},
    stream::Memory,
};
use crate::{
    ApiError, ErrorKind, Field, Format, Losses, Observed, Target,
    chat::{
        self, DecodeReply, Listen, Output, Part, PartBody, ReasoningMode, Request, Sampling, ToolBody,
        ToolChoice, Upstream,
        custom::Custom,
        openai::{
            self,
            upstream::{Names, effort_of, effort_word},
        },
    },
    json::{Edit, Shallow},
    provider::Dialect,
};

/// The schema of a tool that takes nothing.
const NO_PARAMETERS: &str = r#"{"type":"object","properties":{}}"#;

/// What a schema for the answer is called where the client's format has no names for them.
const SCHEMA_NAME: &str = "response";

/// Asks for sealed reasoning, without which the provider forgets it between two requests.
const SEALED: &str = "reasoning.encrypted_content";

/// Asks for log-probabilities.
const LOGPROBS: &str = "message.output_text.logprobs";

impl Upstream for Responses {
    fn encode_request(
        &self,
        request: &Request,
        target: &Target<'_>,
        losses: &mut Losses,
    ) -> Result<(Bytes, Box<dyn DecodeReply>), ApiError> {
        let reasons = target.capability(Format::Responses).effort;
        let extensions = &request.extensions;
        let names = Names::new(request, &Dialect::PLAIN);
        extensions.lose_untold(Format::Responses, losses);
        sampling(&request.sampling, losses);
        let instructions = instructions(&request.instructions, losses);
        let tools = tools(&request.tools, &names, losses);
        let reasoning = reasoning(request, reasons, losses);
        let idle = reasoning.effort.is_none() && reasoning.summary.is_none();
        let format = form(&request.output);
        let plain = format.is_none();
        let input = Writer::new(request, &names, losses).write(&request.turns)?;
        let document = Document {
            model: target.model,
            instructions,
            input,
            tools,
            tool_choice: request
                .tool_choice
                .as_ref()
                .map(|choice| choose(choice, &request.tools, &names)),
            parallel_tool_calls: request.parallel_tool_calls,
            text: Object::new(Text { format }, plain, "text.", extensions),
            reasoning: Object::new(reasoning, idle, "reasoning.", extensions),
            include: include(request, reasons),
            max_output_tokens: request.max_output,
            temperature: request.sampling.temperature,
            top_p: request.sampling.top_p,
            top_logprobs: request.sampling.logprobs.filter(|alternatives| *alternatives > 0),
            user: request.user.as_deref().filter(|_| !request.user_is_pseudonym),
            safety_identifier: request.user.as_deref().filter(|_| request.user_is_pseudonym),
            service_tier: request.service_tier.as_deref().map(service_tier),
            store: (!says(request, "store")).then_some(false),
            stream: request.stream.map(|_| true),
            stream_options: Object::new(Nothing {}, true, "stream_options.", extensions),
            more: More::top(extensions),
        };
        let body = serde_json::to_vec(&document).map_err(|reason| {
            ApiError::new(
                ErrorKind::Internal,
                format!("the request cannot be written: {reason}"),
            )
        })?;
        drop(document);
        let memory = Memory {
            model: target.model.to_owned(),
            names,
        };
        Ok((Bytes::from(body), Box::new(memory)))
    }

    fn decode_error(&self, status: StatusCode, _headers: &HeaderMap, body: &Bytes) -> ApiError {
        openai::error::decode(status, body)
    }

    fn relay_edits(&self, _request: &Shallow, _streamed: bool, _target: &Target<'_>) -> Vec<Edit> {
        Vec::new()
    }

    fn listen_response(&self, body: &[u8], observed: &mut Observed) -> Result<(), ApiError> {
        listen::response_document(body, observed)
    }

    fn listen_stream(&self, _withhold_usage: bool) -> Box<dyn Listen> {
        Box::<listen::Listener>::default()
    }
}

/// Returns whether the client's own document says what this format has as `key`.
fn says(request: &Request, key: &str) -> bool {
    let mut told = request.extensions.told(Format::Responses);
    told.any(|(name, _)| name == key)
}

/// Writes the instructions before the first turn as one text.
fn instructions(parts: &[Part], losses: &mut Losses) -> Option<String> {
    let mut texts = Vec::with_capacity(parts.len());
    for part in parts {
        part.extensions
            .lose(Format::Responses, losses, |_| Field::Instructions);
        if part.cache.is_some() {
            losses.advisory(Field::Cache, "this upstream decides itself what it caches");
        }
        match &part.body {
            PartBody::Text(text) | PartBody::Refusal(text) => texts.push(text.as_str()),
            PartBody::Media(_)
            | PartBody::Reasoning(_)
            | PartBody::ToolCall(_)
            | PartBody::SearchResult(_)
            | PartBody::ToolResult(_)
            | PartBody::Native { .. } => {
                let reason = "instructions of the responses format are text";
                losses.material(Field::Instructions, reason);
            }
        }
    }
    (!texts.is_empty()).then(|| texts.join("\n\n"))
}

fn tools<'a>(tools: &'a [chat::Tool], names: &'a Names, losses: &mut Losses) -> Vec<Tool<'a>> {
    let mut written = Vec::with_capacity(tools.len());
    for (index, tool) in tools.iter().enumerate() {
        let field = Field::Tool(index);
        tool.extensions.lose(Format::Responses, losses, |_| field.clone());
        if tool.cache.is_some() {
            losses.advisory(Field::Cache, "this upstream decides itself what it caches");
        }
        match &tool.body {
            ToolBody::Function {
                name,
                description,
                parameters,
                strict,
            } => written.push(Tool::Function {
                name: names.wire(name),
                description: description.as_deref().filter(|text| !text.is_empty()),
                parameters: parameters.as_deref().map_or_else(no_parameters, Cow::Borrowed),
                // Left out, it would mean that the schema is to be followed to the letter.
                strict: strict.unwrap_or(false),
                more: More::of_tool(&tool.extensions),
            }),
            ToolBody::Native {
                format: Format::Responses,
                raw,
                ..
            } => written.push(Tool::Native(raw)),
            ToolBody::Native { format, kind, .. } => match Custom::read(&tool.body, index, losses) {
                Some(custom) => written.push(Tool::Custom {
                    name: custom.name,
                    description: custom.description,
                    format: custom.grammar.map(Shape::Grammar),
                }),
                None => {
                    let reason = format!("a tool of type \"{kind}\" is known to {} only", format.name());
                    losses.material(field, reason);
                }
            },
        }
    }
    written
}

fn no_parameters<'a>() -> Cow<'a, RawValue> {
    let none = RawValue::from_string(NO_PARAMETERS.to_owned());
    Cow::Owned(none.unwrap_or_else(|_| RawValue::NULL.to_owned()))
}

fn choose<'a>(choice: &'a ToolChoice, tools: &[chat::Tool], names: &'a Names) -> Choice<'a> {
    match choice {
        ToolChoice::Auto => Choice::Word("auto"),
        ToolChoice::None => Choice::Word("none"),
        ToolChoice::Required => Choice::Word("required"),
        ToolChoice::Tool(name) => {
            // What is lost of the tool is recorded where it is written.
            let mut unheard = Losses::default();
            let mut customs = tools
                .iter()
                .filter_map(|tool| Custom::read(&tool.body, 0, &mut unheard));
            let custom = customs.any(|custom| custom.name == *name);
            Choice::Tool {
                kind: if custom { "custom" } else { "function" },
                name: names.wire(name),
            }
        }
    }
}

fn form(output: &Output) -> Option<Form<'_>> {
    match output {
        Output::Text => None,
        Output::Plain => Some(Form::Text),
        Output::JsonObject => Some(Form::JsonObject),
        Output::JsonSchema {
            name,
            description,
            schema,
            strict,
        } => Some(Form::JsonSchema {
            name: if name.is_empty() { SCHEMA_NAME } else { name },
            description: description.as_deref(),
            schema,
            strict: *strict,
        }),
    }
}

/// Returns how much to think, for a model that `reasons` or not.
fn reasoning<'a>(request: &'a Request, reasons: bool, losses: &mut Losses) -> Reasoning<'a> {
    let Some(reasoning) = &request.reasoning else {
        return Reasoning {
            effort: None,
            summary: None,
        };
    };
    let effort = match (&reasoning.effort, reasoning.mode) {
        (Some(effort), _) => Some(effort_word(effort, losses)),
        (None, Some(ReasoningMode::Enabled)) => Some(effort_of(reasoning.budget)),
        (None, Some(ReasoningMode::Disabled)) if reasons => {
            losses.advisory(
                Field::Reasoning,
                "reasoning cannot be switched off at this upstream; the least effort is asked for",
            );
            Some("low")
        }
        // Models without reasoning do not reason, and those with it do as they see fit.
        (None, Some(ReasoningMode::Disabled | ReasoningMode::Adaptive) | None) => None,
    };
    if effort.is_some() && !reasons {
        losses.advisory(Field::Reasoning, "the upstream's model takes no reasoning effort");
    }
    let shown = reasoning.display.as_deref() == Some("summarized");
    Reasoning {
        effort: effort.filter(|_| reasons),
        summary: (shown && reasons && !says(request, "reasoning.summary")).then_some("auto"),
    }
}

/// Returns what else the answer is to hold.
fn include(request: &Request, reasons: bool) -> Vec<String> {
    let own = request.extensions.of(Format::Responses);
    let own = own.filter(|extension| extension.key == "include");
    let mut include: Vec<String> = own
        .filter_map(|extension| serde_json::from_str::<Vec<String>>(extension.value.get()).ok())
        .flatten()
        .collect();
    if reasons {
        include.push(SEALED.to_owned());
    }
    if request.sampling.logprobs.is_some() {
        include.push(LOGPROBS.to_owned());
    }
    include
}

/// Records what the format cannot say of how tokens are drawn.
fn sampling(sampling: &Sampling, losses: &mut Losses) {
    let Sampling {
        temperature: _,
        top_p: _,
        top_k,
        seed,
        frequency_penalty,
        presence_penalty,
        stop,
        choices,
        logprobs: _,
    } = sampling;
    let penalty = |penalty: &Option<f64>| penalty.is_some_and(|penalty| penalty != 0.0);
    for (said, field) in [
        (top_k.is_some(), Field::TopK),
        (seed.is_some(), Field::Seed),
        (penalty(frequency_penalty), Field::FrequencyPenalty),
        (penalty(presence_penalty), Field::PresencePenalty),
        (!stop.is_empty(), Field::Stop),
    ] {
        if said {
            losses.advisory(field, "the responses format has no such member");
        }
    }
    if choices.is_some_and(|choices| choices > 1) {
        losses.material(Field::Choices, "the responses format gives one answer");
    }
}

/// Returns the provider's word for a tier of service; Anthropic says `standard_only` for the ordinary one.
fn service_tier(tier: &str) -> &str {
    match tier {
        "standard_only" => "default",
        tier => tier,
    }
}
