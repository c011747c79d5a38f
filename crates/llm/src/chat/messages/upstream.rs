//! Asks upstreams in this format.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    Messages, error, listen,
    message::{Members, Writer},
    reply::Memory,
    request::{Choice, Document, Function, Metadata, More, Object, OutputConfig, OutputFormat, Tool},
    think,
    wire::{self, CacheControl},
};
use crate::{
    ApiError, ErrorKind, Field, Format, Losses, Observed, Target,
    capability::Capability,
    chat::{self, DecodeReply, Listen, Output, PartBody, Request, Sampling, ToolBody, ToolChoice, Upstream},
    exception::Exception,
    json::{self, Edit, Kind, Path, Shallow},
};

/// The most cache marks that the provider takes ("Prompt caching").
const MARKS: usize = 4;

/// The least nucleus that the provider takes of a model that thinks ("Extended thinking").
const THINKING_TOP_P: f64 = 0.95;

/// The schema of a tool that takes nothing.
const NO_PARAMETERS: &str = r#"{"type":"object","properties":{}}"#;

/// The tool that stands for an answer in JSON without a schema, and the name of a schema that has none.
const ANSWER: &str = "json_response";

impl Upstream for Messages {
    fn encode_request(
        &self,
        request: &Request,
        target: &Target<'_>,
        losses: &mut Losses,
    ) -> Result<(Bytes, Box<dyn DecodeReply>), ApiError> {
        let capability = target.capability(Format::Messages);
        let extensions = &request.extensions;
        let mut memory = Memory {
            model: target.model.to_owned(),
            ..Memory::default()
        };
        let mut writer = Writer {
            losses,
            names: &mut memory.names,
        };
        let system = writer.system(&request.instructions);
        let messages = writer.messages(&request.turns)?;
        let mut offer = offer(request, &mut writer)?;
        let mut format = None;
        match answer(request, &capability, losses)? {
            Answer::Free => {}
            Answer::Constrained(schema) => format = Some(OutputFormat::JsonSchema { schema }),
            Answer::Call(tool) => {
                memory.answer = Some(tool.name.clone().into_owned());
                offer = Offer::forced(tool);
            }
        }
        let max_tokens = max_tokens(request, &capability, losses);
        let forced = matches!(offer.choice, Some(Choice::Any { .. } | Choice::Tool { .. }));
        let plan = think::plan(
            request.reasoning.as_ref(),
            &capability,
            max_tokens,
            forced,
            losses,
        )?;
        let sampling = sampling(&request.sampling, plan.is_on(), losses)?;
        let output = OutputConfig {
            effort: plan.effort,
            format,
        };
        let plain = output.effort.is_none() && output.format.is_none();
        let metadata = Metadata {
            user_id: request.user.as_deref(),
        };
        let nobody = metadata.user_id.is_none();
        let mut document = Document {
            model: target.model,
            max_tokens,
            system,
            messages,
            tools: offer.tools,
            tool_choice: offer
                .choice
                .map(|choice| Object::new(choice, "tool_choice.", extensions)),
            thinking: plan
                .thinking
                .map(|thinking| Object::new(thinking, "thinking.", extensions)),
            output_config: Object::new(output, "output_config.", extensions).unless(plain),
            temperature: sampling.temperature,
            top_p: sampling.top_p,
            top_k: sampling.top_k,
            stop_sequences: stop_sequences(&request.sampling, losses),
            stream: request.stream.map(|_| true),
            metadata: Object::new(metadata, "metadata.", extensions).unless(nobody),
            service_tier: service_tier(request.service_tier.as_deref(), losses),
            more: More::top(extensions),
        };
        limit_marks(&mut document, losses);
        extensions.lose(Format::Messages, losses, |key| Field::Extension(key.to_owned()));
        let body = json::write(&document, request.weight()).map_err(|reason| {
            ApiError::new(
                ErrorKind::Internal,
                format!("the request cannot be written: {reason}"),
            )
        })?;
        Ok((body, Box::new(memory)))
    }

    fn decode_error(&self, status: StatusCode, headers: &HeaderMap, body: &Bytes) -> ApiError {
        // InvokeModel answers as AWS does.
        match Exception::of_reply(headers, body) {
            Some(exception) => exception.into_error(Some(status)),
            None => error::decode(status, body),
        }
    }

    fn relay_edits(&self, _request: &Shallow, _streamed: bool, _target: &Target<'_>) -> Vec<Edit> {
        Vec::new()
    }

    fn listen_response(&self, body: &[u8], observed: &mut Observed) -> Result<(), ApiError> {
        listen::response(body, observed)
    }

    fn listen_stream(&self, _withhold_usage: bool) -> Box<dyn Listen> {
        Box::<listen::Listener>::default()
    }
}

/// What the model may call, and whether it must.
struct Offer<'a> {
    tools: Vec<Tool<'a>>,
    choice: Option<Choice<'a>>,
}

impl<'a> Offer<'a> {
    /// Returns the offer of one tool that must be called.
    fn forced(tool: Function<'a>) -> Self {
        let choice = Choice::Tool {
            name: tool.name.clone(),
            disable_parallel_tool_use: true,
        };
        Self {
            tools: vec![Tool::Function(tool)],
            choice: Some(choice),
        }
    }
}

fn offer<'a>(request: &'a Request, writer: &mut Writer<'_>) -> Result<Offer<'a>, ApiError> {
    if !request.tools.is_empty() {
        return Ok(Offer {
            tools: tools(&request.tools, writer)?,
            choice: tool_choice(request, writer),
        });
    }
    // The provider refuses calls in a conversation whose tools are not declared.
    let parts = request.turns.iter().flat_map(|turn| &turn.parts);
    let called: BTreeSet<&str> = parts
        .filter_map(|part| match &part.body {
            PartBody::ToolCall(call) => Some(call.name.as_str()),
            PartBody::Text(_)
            | PartBody::Media(_)
            | PartBody::Reasoning(_)
            | PartBody::SearchResult(_)
            | PartBody::ToolResult(_)
            | PartBody::Refusal(_)
            | PartBody::Native { .. } => None,
        })
        .collect();
    let mut tools = Vec::with_capacity(called.len());
    for (index, name) in called.into_iter().enumerate() {
        tools.push(Tool::Function(Function {
            name: writer.tool_name(name),
            description: "",
            input_schema: input_schema(None, index)?,
            strict: None,
            cache_control: None,
            members: None,
        }));
    }
    let choice = (!tools.is_empty()).then_some(Choice::None);
    Ok(Offer { tools, choice })
}

/// How the model is brought to answer in the form that the client wants.
enum Answer<'a> {
    /// Any form will do.
    Free,
    /// The provider constrains the answer to a schema.
    Constrained(&'a RawValue),
    /// The model must call a tool whose arguments are the answer.
    Call(Function<'a>),
}

fn answer<'a>(
    request: &'a Request,
    capability: &Capability,
    losses: &mut Losses,
) -> Result<Answer<'a>, ApiError> {
    let (name, description, schema) = match &request.output {
        Output::Text | Output::Plain => return Ok(Answer::Free),
        Output::JsonObject => ("", None, None),
        Output::JsonSchema {
            name,
            description,
            schema,
            ..
        } => (name.as_str(), description.as_deref(), Some(&**schema)),
    };
    if schema.is_some_and(|schema| json::kind(schema) != Kind::Object) {
        return Err(ApiError::invalid("the schema of the answer is not a JSON object"));
    }
    if let Some(schema) = schema.filter(|_| capability.json_schema) {
        if description.is_some() {
            losses.advisory(
                Field::Output,
                "the messages format has no description of a schema",
            );
        }
        return Ok(Answer::Constrained(schema));
    }
    let input_schema = match schema {
        None if !request.tools.is_empty() => {
            losses.advisory(
                Field::Output,
                "a model that has tools cannot be made to answer in JSON",
            );
            return Ok(Answer::Free);
        }
        None => Some(Cow::Owned(json::raw(&BTreeMap::from([("type", "object")])))),
        Some(_) if !request.tools.is_empty() => {
            losses.material(
                Field::Output,
                "this model cannot follow a schema while it has tools",
            );
            return Ok(Answer::Free);
        }
        Some(schema) => object_schema(schema),
    };
    let Some(input_schema) = input_schema else {
        losses.material(
            Field::Output,
            "this model can only follow the schema of an object",
        );
        return Ok(Answer::Free);
    };
    Ok(Answer::Call(Function {
        name: wire::tool_name(if name.is_empty() { ANSWER } else { name }),
        description: description.unwrap_or("Gives the answer."),
        input_schema,
        strict: None,
        cache_control: None,
        members: None,
    }))
}

/// Returns `schema` as the schema of an object that the provider demands; `None` if it is one of something
/// else.
fn object_schema(schema: &RawValue) -> Option<Cow<'_, RawValue>> {
    let object = json::Object::parse(schema, &Path::Root).ok()?;
    match object.peek("type").map(RawValue::get) {
        Some(r#""object""#) => Some(Cow::Borrowed(schema)),
        Some(_) => None,
        None => {
            let members: BTreeMap<Cow<'_, str>, &RawValue> = object.rest().collect();
            let typed = Typed {
                kind: "object",
                members,
            };
            Some(Cow::Owned(json::raw(&typed)))
        }
    }
}

/// A schema that did not say that it is one of an object.
#[derive(Serialize)]
struct Typed<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    members: BTreeMap<Cow<'a, str>, &'a RawValue>,
}

fn tools<'a>(tools: &'a [chat::Tool], writer: &mut Writer<'_>) -> Result<Vec<Tool<'a>>, ApiError> {
    let mut written = Vec::with_capacity(tools.len());
    for (index, tool) in tools.iter().enumerate() {
        let field = Field::Tool(index);
        match &tool.body {
            ToolBody::Function {
                name,
                description,
                parameters,
                strict,
            } => {
                tool.extensions
                    .lose(Format::Messages, writer.losses, |_| field.clone());
                written.push(Tool::Function(Function {
                    name: writer.tool_name(name),
                    description: description.as_deref().unwrap_or_default(),
                    input_schema: input_schema(parameters.as_deref(), index)?,
                    strict: strict.filter(|strict| *strict),
                    cache_control: tool.cache.map(CacheControl::from),
                    members: Some(Members(&tool.extensions)),
                }));
            }
            ToolBody::Native {
                format: Format::Messages,
                raw,
                ..
            } => written.push(Tool::Native(raw)),
            ToolBody::Native { format, kind, .. } => {
                let reason = format!("a tool of type \"{kind}\" is known to {} only", format.name());
                writer.losses.material(field, reason);
            }
        }
    }
    Ok(written)
}

fn input_schema(parameters: Option<&RawValue>, index: usize) -> Result<Cow<'_, RawValue>, ApiError> {
    let Some(schema) = parameters else {
        let none = RawValue::from_string(NO_PARAMETERS.to_owned());
        return Ok(Cow::Owned(none.unwrap_or_default()));
    };
    if json::kind(schema) != Kind::Object {
        let path = Path::Root.key("tools");
        return Err(path.index(index).invalid("the parameters are not a JSON object"));
    }
    Ok(object_schema(schema).unwrap_or(Cow::Borrowed(schema)))
}

fn tool_choice<'a>(request: &'a Request, writer: &mut Writer<'_>) -> Option<Choice<'a>> {
    let disable_parallel_tool_use = request.parallel_tool_calls == Some(false);
    match &request.tool_choice {
        None => disable_parallel_tool_use.then_some(Choice::Auto {
            disable_parallel_tool_use,
        }),
        Some(ToolChoice::Auto) => Some(Choice::Auto {
            disable_parallel_tool_use,
        }),
        Some(ToolChoice::Required) => Some(Choice::Any {
            disable_parallel_tool_use,
        }),
        Some(ToolChoice::Tool(name)) => Some(Choice::Tool {
            name: writer.tool_name(name),
            disable_parallel_tool_use,
        }),
        Some(ToolChoice::None) => Some(Choice::None),
    }
}

fn max_tokens(request: &Request, capability: &Capability, losses: &mut Losses) -> u64 {
    request.max_output.unwrap_or_else(|| {
        let limit = capability.max_output;
        let reason = format!("the messages format demands a limit; {limit}, the model's own, was set");
        losses.advisory(Field::MaxOutput, reason);
        limit
    })
}

/// Returns how tokens are drawn, without what the format or a `thinking` model does not take.
///
/// # Errors
/// A 422, if the temperature is outside the format's range.
fn sampling(sampling: &Sampling, thinking: bool, losses: &mut Losses) -> Result<Sampling, ApiError> {
    let Sampling {
        temperature,
        top_p,
        top_k,
        seed,
        frequency_penalty,
        presence_penalty,
        stop: _,
        choices,
        logprobs,
    } = sampling;
    if let Some(hot) = temperature.filter(|temperature| !(0.0..=1.0).contains(temperature)) {
        let message = format!("temperature {hot:.2} is not supported by Anthropic, which takes 0.0 to 1.0");
        return Err(ApiError::new(ErrorKind::Unprocessable, message).with_param("temperature"));
    }
    let penalty = |penalty: &Option<f64>| penalty.is_some_and(|penalty| penalty != 0.0);
    for (said, field) in [
        (seed.is_some(), Field::Seed),
        (penalty(frequency_penalty), Field::FrequencyPenalty),
        (penalty(presence_penalty), Field::PresencePenalty),
        (logprobs.is_some(), Field::Logprobs),
    ] {
        if said {
            losses.advisory(field, "the messages format has no such member");
        }
    }
    if choices.is_some_and(|choices| choices > 1) {
        losses.material(Field::Choices, "the messages format gives one answer");
    }
    let mut fitting = |fits: bool, field: Field| {
        if !fits {
            losses.advisory(field, "a model that thinks does not take this value");
        }
        fits
    };
    Ok(Sampling {
        temperature: temperature
            .filter(|temperature| !thinking || fitting(*temperature == 1.0, Field::Temperature)),
        top_p: top_p.filter(|top_p| !thinking || fitting(*top_p >= THINKING_TOP_P, Field::TopP)),
        top_k: top_k.filter(|_| !thinking || fitting(false, Field::TopK)),
        ..Sampling::default()
    })
}

fn stop_sequences<'a>(sampling: &'a Sampling, losses: &mut Losses) -> Vec<&'a str> {
    let (blank, kept): (Vec<&str>, Vec<&str>) = sampling
        .stop
        .iter()
        .map(String::as_str)
        .partition(|stop| stop.trim().is_empty());
    if !blank.is_empty() {
        losses.advisory(Field::Stop, "the messages format has no blank stop sequences");
    }
    kept
}

fn service_tier(tier: Option<&str>, losses: &mut Losses) -> Option<&'static str> {
    match tier {
        None => None,
        Some("auto") => Some("auto"),
        Some("default" | "standard_only") => Some("standard_only"),
        Some(tier) => {
            let reason = format!("the messages format has no tier \"{tier}\"");
            losses.advisory(Field::ServiceTier, reason);
            None
        }
    }
}

/// Drops the earliest cache marks beyond what the provider takes: later ones cover the same prefix.
fn limit_marks(document: &mut Document<'_>, losses: &mut Losses) {
    let marks = document.marks();
    let excess = marks.len().saturating_sub(MARKS);
    if excess > 0 {
        let reason =
            format!("the messages format takes {MARKS} cache marks; the first {excess} were dropped");
        losses.advisory(Field::Cache, reason);
    }
    for mark in marks.into_iter().take(excess) {
        *mark = None;
    }
}
