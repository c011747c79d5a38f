//! Asks upstreams in this format.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::value::RawValue;

use super::{
    Converse, listen,
    media::Names,
    message::{Item, Marked, Writer},
    model::{self, Fields},
    reply::Memory,
    request::{
        Choice, Document, InferenceConfig, More, OutputConfig, Schema, ServiceTier, Structure, TextFormat,
        Tool, ToolConfig,
    },
};
use crate::{
    ApiError, ErrorKind, Field, Format, Losses, Observed, Target,
    capability::{Capability, Family, Hosted},
    chat::{self, DecodeReply, Listen, Output, PartBody, Request, Sampling, ToolBody, ToolChoice, Upstream},
    exception::Exception,
    json::{self, Edit, Kind, Path, Shallow},
};

/// The most cache marks that the provider takes ("Prompt caching").
const MARKS: usize = 4;

/// The least nucleus that Claude takes when it thinks.
const THINKING_TOP_P: f64 = 0.95;

/// The schema of a tool that takes nothing.
const NO_PARAMETERS: &str = r#"{"type":"object","properties":{}}"#;

/// The tool that stands for an answer in JSON, where the schema has no name.
const ANSWER: &str = "json_response";

/// The tool that is declared where some must be and the client declares none.
const NOTHING: &str = "nothing";

/// The tiers of service that the provider knows.
const TIERS: &[&str] = &["default", "flex", "priority", "reserved"];

impl Upstream for Converse {
    fn encode_request(
        &self,
        request: &Request,
        target: &Target<'_>,
        losses: &mut Losses,
    ) -> Result<(Bytes, Box<dyn DecodeReply>), ApiError> {
        let capability = target.capability(Format::Converse);
        let hosted = target.hosted();
        let mut memory = Memory {
            model: target.model.to_owned(),
            ..Memory::default()
        };
        let mut writer = Writer {
            hosted,
            losses,
            names: &mut memory.names,
            documents: Names::default(),
        };
        let conversation = writer.conversation(request)?;
        let mut fields = Fields::new();
        let mut tool_config = offer(request, &capability, &mut writer, &mut fields)?;
        let mut output_config = None;
        match answer(request, &capability, hosted, losses)? {
            Answer::Free => {}
            Answer::Constrained(config) => output_config = Some(config),
            Answer::Call { name, config } => {
                memory.answer = Some(name);
                tool_config = Some(config);
            }
        }
        let forced = memory.answer.is_some()
            || matches!(
                request.tool_choice,
                Some(ToolChoice::Required | ToolChoice::Tool(_))
            );
        model::hand_on(&request.extensions, hosted.family, &mut fields);
        let thinks = model::reason(request, hosted.family, &capability, forced, &mut fields, losses)?;
        let inference_config = sampling(request, hosted.family, thinks, &mut fields, losses);
        let mut own = Vec::new();
        if hosted.family == Family::Claude && !inference_config.stop_sequences.is_empty() {
            own.push((
                "additionalModelResponseFieldPaths",
                json::raw(&["/stop_sequence"]),
            ));
        }
        own.extend(metadata(request.user.as_deref(), losses).map(|raw| ("requestMetadata", raw)));
        let mut document = Document {
            system: conversation.system,
            messages: conversation.messages,
            inference_config,
            tool_config,
            output_config,
            service_tier: service_tier(request.service_tier.as_deref(), losses),
            more: More {
                fields,
                own,
                extensions: &request.extensions,
            },
        };
        limit_marks(&mut document, losses);
        for extension in &request.extensions.0 {
            if extension.format != Format::Converse && !model::is_told(hosted.family, extension) {
                losses.push(extension.loss(Field::Extension(extension.key.clone())));
            }
        }
        let body = serde_json::to_vec(&document).map_err(|reason| {
            ApiError::new(
                ErrorKind::Internal,
                format!("the request cannot be written: {reason}"),
            )
        })?;
        Ok((Bytes::from(body), Box::new(memory)))
    }

    fn decode_error(&self, status: StatusCode, headers: &HeaderMap, body: &Bytes) -> ApiError {
        // What stands between us and the provider answers in words of its own.
        Exception::of_reply(headers, body)
            .unwrap_or_else(|| Exception::named("", body))
            .into_error(Some(status))
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

/// Returns what the model may call, and whether it must; what only the model itself has words for is added to
/// `fields`.
fn offer<'a>(
    request: &'a Request,
    capability: &Capability,
    writer: &mut Writer<'_>,
    fields: &mut Fields,
) -> Result<Option<ToolConfig<'a>>, ApiError> {
    let called = called(request);
    if request.tool_choice == Some(ToolChoice::None) && called.is_empty() {
        return Ok(None);
    }
    let own = model::offer(&request.tools, writer.hosted.family, fields);
    let mut tools = tools(&request.tools, capability, writer)?;
    let offered = Offered {
        anything: !tools.is_empty() || !own.is_empty(),
        own: !own.is_empty(),
    };
    if tools.is_empty() && !called.is_empty() {
        // The provider refuses calls in a conversation for which it is told of no tools, and knows nothing of what the
        // model is told.
        tools = undeclared(called, &own, writer)?;
    }
    if tools.is_empty() && !offered.anything {
        return Ok(None);
    }
    let tool_choice = choice(request, offered, writer, fields);
    Ok((!tools.is_empty()).then_some(ToolConfig {
        tools: Marked(tools),
        tool_choice,
    }))
}

/// What the client offers the model.
#[derive(Clone, Copy)]
struct Offered {
    anything: bool,
    /// Tools that the model knows by itself.
    own: bool,
}

/// Returns tools in place of those that the conversation has `called` and the client does not declare; there is one at
/// least.
fn undeclared<'a>(
    called: BTreeSet<&'a str>,
    own: &[String],
    writer: &mut Writer<'_>,
) -> Result<Vec<Item<Tool<'a>>>, ApiError> {
    let mut called: Vec<&str> = called
        .into_iter()
        .filter(|name| !own.iter().any(|own| own == name))
        .collect();
    if called.is_empty() {
        called.push(NOTHING);
    }
    let tools = called.into_iter().enumerate().map(|(index, name)| {
        let body = Tool::ToolSpec {
            name: writer.tool_name(name),
            description: (name == NOTHING).then_some("Does nothing."),
            input_schema: input_schema(None, index)?,
            strict: None,
        };
        Ok(Item { body, mark: None })
    });
    tools.collect()
}

/// Returns whether a tool must be called, unless that is said in the model's own words: Claude has some for what the
/// format has none for.
fn choice<'a>(
    request: &'a Request,
    offered: Offered,
    writer: &mut Writer<'_>,
    fields: &mut Fields,
) -> Option<Choice<'a>> {
    let forbidden = request.tool_choice == Some(ToolChoice::None) || !offered.anything;
    let one_at_a_time = !forbidden && request.parallel_tool_calls == Some(false);
    let wanted = request.tool_choice.as_ref();
    if writer.hosted.family == Family::Claude {
        if forbidden {
            model::choose(&ToolChoice::None, false, str::to_owned, fields);
            return None;
        }
        if one_at_a_time || (offered.own && wanted.is_some()) {
            let names: &BTreeMap<String, String> = writer.names;
            let upstream = |tool: &str| {
                let renamed = names.iter().find(|(_, name)| *name == tool);
                renamed.map_or_else(|| tool.to_owned(), |(name, _)| name.clone())
            };
            model::choose(
                wanted.unwrap_or(&ToolChoice::Auto),
                one_at_a_time,
                upstream,
                fields,
            );
            return None;
        }
    }
    if forbidden {
        let reason = "the converse format cannot forbid the tools that the conversation has used";
        writer.losses.advisory(Field::ToolChoice, reason);
    }
    if one_at_a_time {
        let reason = "this model cannot be kept to one call at a time";
        writer.losses.advisory(Field::ParallelToolCalls, reason);
    }
    match wanted {
        None | Some(ToolChoice::None) => None,
        Some(ToolChoice::Auto) => Some(Choice::Auto {}),
        Some(ToolChoice::Required) => Some(Choice::Any {}),
        Some(ToolChoice::Tool(name)) => Some(Choice::Tool {
            name: writer.tool_name(name),
        }),
    }
}

/// Returns the tools that the conversation has called.
fn called(request: &Request) -> BTreeSet<&str> {
    let parts = request.turns.iter().flat_map(|turn| &turn.parts);
    parts
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
        .collect()
}

fn tools<'a>(
    tools: &'a [chat::Tool],
    capability: &Capability,
    writer: &mut Writer<'_>,
) -> Result<Vec<Item<Tool<'a>>>, ApiError> {
    let mut written = Vec::with_capacity(tools.len());
    for (index, tool) in tools.iter().enumerate() {
        let field = Field::Tool(index);
        let body = match &tool.body {
            ToolBody::Function {
                name,
                description,
                parameters,
                strict,
            } => {
                tool.extensions
                    .lose(Format::Converse, writer.losses, |_| field.clone());
                let strict = strict.filter(|strict| *strict);
                if strict.is_some() && !capability.json_schema {
                    let reason = "this model does not follow the schema of a tool to the letter";
                    writer.losses.advisory(field, reason);
                }
                Tool::ToolSpec {
                    name: writer.tool_name(name),
                    description: description.as_deref().filter(|text| !text.is_empty()),
                    input_schema: input_schema(parameters.as_deref(), index)?,
                    strict: strict.filter(|_| capability.json_schema),
                }
            }
            ToolBody::Native {
                format: Format::Converse,
                raw,
                ..
            } => Tool::Native(raw),
            ToolBody::Native { format, kind, .. } if model::has(writer.hosted.family, *format, kind) => {
                continue;
            }
            ToolBody::Native { format, kind, .. } => {
                let reason = format!("a tool of type \"{kind}\" is known to {} only", format.name());
                writer.losses.material(field, reason);
                continue;
            }
        };
        let mark = writer.mark(tool.cache);
        written.push(Item { body, mark });
    }
    Ok(written)
}

fn input_schema(parameters: Option<&RawValue>, index: usize) -> Result<Schema<'_>, ApiError> {
    let json = match parameters {
        None => {
            let none = RawValue::from_string(NO_PARAMETERS.to_owned());
            Cow::Owned(none.unwrap_or_default())
        }
        Some(schema) if json::kind(schema) != Kind::Object => {
            let path = Path::Root.key("tools");
            return Err(path.index(index).invalid("the parameters are not a JSON object"));
        }
        Some(schema) => Cow::Borrowed(schema),
    };
    Ok(Schema { json })
}

/// How the model is brought to answer in the form that the client wants.
enum Answer<'a> {
    /// Any form will do.
    Free,
    /// The provider constrains the answer to a schema.
    Constrained(OutputConfig<'a>),
    /// The model must call a tool whose arguments are the answer.
    Call { name: String, config: ToolConfig<'a> },
}

fn answer<'a>(
    request: &'a Request,
    capability: &Capability,
    hosted: Hosted,
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
        let structure = Structure::JsonSchema {
            name,
            description,
            schema: schema.get(),
        };
        return Ok(Answer::Constrained(OutputConfig {
            text_format: TextFormat::JsonSchema(structure),
        }));
    }
    let hindrance = match (request.tools.is_empty(), hosted.forced_tool) {
        (false, _) => Some("this model cannot be made to answer in JSON while it has tools"),
        (true, false) => Some("this model cannot be made to answer in JSON"),
        (true, true) => None,
    };
    if let Some(reason) = hindrance {
        match schema {
            None => losses.advisory(Field::Output, reason),
            Some(_) => losses.material(Field::Output, reason),
        }
        return Ok(Answer::Free);
    }
    let json = match schema {
        Some(schema) => Cow::Borrowed(schema),
        None => Cow::Owned(json::raw(&BTreeMap::from([("type", "object")]))),
    };
    let name = chat::messages::wire::fit(if name.is_empty() { ANSWER } else { name }, 64).into_owned();
    let body = Tool::ToolSpec {
        name: Cow::Owned(name.clone()),
        description: Some(description.unwrap_or("Gives the answer.")),
        input_schema: Schema { json },
        strict: None,
    };
    Ok(Answer::Call {
        name,
        config: ToolConfig {
            tools: Marked(vec![Item { body, mark: None }]),
            // Of one tool, more models take this than its name.
            tool_choice: Some(Choice::Any {}),
        },
    })
}

/// Returns how tokens are drawn, without what the format does not have or a Claude that `thinks` does not take.
fn sampling<'a>(
    request: &'a Request,
    family: Family,
    thinks: bool,
    fields: &mut Fields,
    losses: &mut Losses,
) -> InferenceConfig<'a> {
    let Sampling {
        temperature,
        top_p,
        top_k,
        seed,
        frequency_penalty,
        presence_penalty,
        stop,
        choices,
        logprobs,
    } = &request.sampling;
    let penalty = |penalty: &Option<f64>| penalty.is_some_and(|penalty| penalty != 0.0);
    for (said, field) in [
        (seed.is_some(), Field::Seed),
        (penalty(frequency_penalty), Field::FrequencyPenalty),
        (penalty(presence_penalty), Field::PresencePenalty),
        (logprobs.is_some(), Field::Logprobs),
    ] {
        if said {
            losses.advisory(field, "the converse format has no such member");
        }
    }
    if choices.is_some_and(|choices| choices > 1) {
        losses.material(Field::Choices, "the converse format gives one answer");
    }
    let mut fitting = |fits: bool, field: Field| {
        if !fits {
            losses.advisory(field, "a model that thinks does not take this value");
        }
        fits
    };
    let temperature =
        temperature.filter(|temperature| !thinks || fitting(*temperature == 1.0, Field::Temperature));
    let top_p = top_p.filter(|top_p| !thinks || fitting(*top_p >= THINKING_TOP_P, Field::TopP));
    let top_k = top_k.filter(|_| !thinks || fitting(false, Field::TopK));
    model::draw(family, top_k, fields);
    let taken = |stop: &&str| match family {
        Family::Claude => !stop.trim().is_empty(),
        Family::Nova | Family::GptOss | Family::Other => !stop.is_empty(),
    };
    let (stop_sequences, blank): (Vec<&str>, Vec<&str>) = stop.iter().map(String::as_str).partition(taken);
    if !blank.is_empty() {
        losses.advisory(Field::Stop, "this model has no blank stop sequences");
    }
    InferenceConfig {
        max_tokens: request.max_output,
        temperature,
        top_p,
        stop_sequences,
    }
}

/// Returns `requestMetadata` that names the end user, if the provider takes the name.
fn metadata(user: Option<&str>, losses: &mut Losses) -> Option<Box<RawValue>> {
    let user = user?;
    let taken = |char: char| char.is_ascii_alphanumeric() || " :_@$#=/+,-.".contains(char);
    if user.len() > 256 || !user.chars().all(taken) {
        losses.advisory(
            Field::User,
            "the converse format does not take this name of a user",
        );
        return None;
    }
    Some(json::raw(&BTreeMap::from([("user_id", user)])))
}

fn service_tier<'a>(tier: Option<&'a str>, losses: &mut Losses) -> Option<ServiceTier<'a>> {
    let kind = match tier? {
        "auto" => return None,
        "standard_only" => "default",
        tier => tier,
    };
    if !TIERS.contains(&kind) {
        let reason = format!("the converse format has no tier \"{kind}\"");
        losses.advisory(Field::ServiceTier, reason);
        return None;
    }
    Some(ServiceTier { kind })
}

/// Drops the earliest cache marks beyond what the provider takes: later ones cover the same prefix.
fn limit_marks(document: &mut Document<'_>, losses: &mut Losses) {
    let marks = document.marks();
    let excess = marks.len().saturating_sub(MARKS);
    if excess > 0 {
        let reason =
            format!("the converse format takes {MARKS} cache marks; the first {excess} were dropped");
        losses.advisory(Field::Cache, reason);
    }
    for mark in marks.into_iter().take(excess) {
        *mark = None;
    }
}
