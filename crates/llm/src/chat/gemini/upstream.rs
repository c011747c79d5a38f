//! Asks upstreams in this format.

use std::{borrow::Cow, collections::BTreeMap};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde_json::{Value, value::RawValue};

use super::{
    Gemini, error, guide, listen,
    message::Writer,
    part::Content,
    reply::Memory,
    schema, think,
    wire::{self, Fields, Members, Single},
};
use crate::{
    ApiError, ErrorKind, Field, Format, Losses, Observed, Target,
    capability::Capability,
    chat::{
        DecodeReply, Extensions, Listen, Output, Request, Sampling, Tool, ToolBody, ToolChoice, Upstream,
    },
    json::{self, Edit, Kind, Path, Shallow},
};

impl Upstream for Gemini {
    fn encode_request(
        &self,
        request: &Request,
        target: &Target<'_>,
        losses: &mut Losses,
    ) -> Result<(Bytes, Box<dyn DecodeReply>), ApiError> {
        let capability = target.capability(Format::Gemini);
        let mut memory = Memory {
            model: target.model.to_owned(),
            turns: request.turns.len(),
            grounded: request.tools.iter().any(is_native),
            wrap: guide::of(request)?.and_then(guide::wrap),
            ..Memory::default()
        };
        let mut writer = Writer {
            losses,
            names: &mut memory.names,
            capability,
            calls: BTreeMap::new(),
        };
        let mut instructions = writer.instructions(&request.instructions);
        let contents = writer.contents(&request.turns, &mut instructions)?;
        let tools = tools(&request.tools, &mut writer)?;
        let tool_config = tool_config(request, &mut writer);
        let generation_config = generation_config(request, &capability, losses)?;
        let mut more = Fields::default();
        more.put(
            "serviceTier",
            service_tier(request.service_tier.as_deref(), losses),
        );
        more.extend(&request.extensions, "");
        lose_rest(request, losses);
        let document = Document {
            contents: (!contents.is_empty()).then_some(contents),
            tools: (!tools.is_empty()).then_some(tools),
            tool_config: tool_config.unless_empty(),
            generation_config,
            system_instruction: (!instructions.is_empty()).then_some(Content {
                role: None,
                parts: instructions,
                members: None,
            }),
            more,
        };
        let body = serde_json::to_vec(&document).map_err(|reason| {
            ApiError::new(
                ErrorKind::Internal,
                format!("the request cannot be written: {reason}"),
            )
        })?;
        Ok((Bytes::from(body), Box::new(memory)))
    }

    fn decode_error(&self, status: StatusCode, _headers: &HeaderMap, body: &Bytes) -> ApiError {
        error::decode(status, body)
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

/// A whole request. The first two members and the configuration always stand; the compatibility
/// specification, "Body skeleton".
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    contents: Option<Vec<Content<'a>>>,
    tools: Option<Vec<Declared<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_config: Option<Fields>,
    generation_config: Fields,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_instruction: Option<Content<'a>>,
    #[serde(flatten)]
    more: Fields,
}

/// A member of `tools`.
#[derive(Serialize)]
#[serde(untagged)]
enum Declared<'a> {
    /// A tool of the provider's, as the client wrote it.
    Native(&'a RawValue),
    /// All functions.
    #[serde(rename_all = "camelCase")]
    Functions {
        function_declarations: Vec<Function<'a>>,
    },
}

/// A function that may be called.
#[derive(Serialize)]
struct Function<'a> {
    name: Cow<'a, str>,
    #[serde(flatten)]
    fields: Fields,
    #[serde(flatten)]
    members: Members<'a>,
}

fn tools<'a>(tools: &'a [Tool], writer: &mut Writer<'a, '_>) -> Result<Vec<Declared<'a>>, ApiError> {
    let mut declared = Vec::new();
    let mut functions = Vec::new();
    for (index, tool) in tools.iter().enumerate() {
        let field = Field::Tool(index);
        if tool.cache.is_some() {
            let reason = "the gemini format has no cache marks; the provider caches by itself";
            writer.losses.advisory(Field::Cache, reason);
        }
        match &tool.body {
            ToolBody::Function {
                name,
                description,
                parameters,
                strict,
            } => {
                tool.extensions
                    .lose(Format::Gemini, writer.losses, |_| field.clone());
                if *strict == Some(true) {
                    let reason = "the gemini format has no strict functions";
                    writer.losses.advisory(field.clone(), reason);
                }
                let mut fields = Fields::default();
                fields.put("description", description.as_deref());
                if let Some(schema) = parameters.as_deref() {
                    self::parameters(schema, index, writer, &mut fields)?;
                }
                functions.push(Function {
                    name: writer.tool_name(name),
                    fields,
                    members: Members {
                        extensions: &tool.extensions,
                        prefix: "",
                    },
                });
            }
            ToolBody::Native {
                format: Format::Gemini,
                raw,
                ..
            } => declared.push(Declared::Native(raw)),
            ToolBody::Native { format, kind, .. } => {
                let reason = format!("a tool of type \"{kind}\" is known to {} only", format.name());
                writer.losses.material(field, reason);
            }
        }
    }
    if !functions.is_empty() {
        declared.push(Declared::Functions {
            function_declarations: functions,
        });
    }
    Ok(declared)
}

/// Writes the schema of a function's arguments, as the model takes it.
fn parameters(
    schema: &RawValue,
    index: usize,
    writer: &mut Writer<'_, '_>,
    fields: &mut Fields,
) -> Result<(), ApiError> {
    let root = Path::Root;
    let path = root.key("tools");
    let path = path.index(index);
    if json::kind(schema) != Kind::Object {
        return Err(unfit(&path, "the parameters are not a JSON object"));
    }
    if writer.capability.json_schema {
        fields.put("parametersJsonSchema", Some(schema));
        return Ok(());
    }
    let converted = converted(schema, &Field::Tool(index), writer.losses)
        .map_err(|reason| unfit(&path, &format!("the schema of the parameters: {reason}")))?;
    // A function that takes nothing has no schema: the provider refuses objects without properties.
    let takes_nothing = match converted.get("properties") {
        Some(properties) => *properties == Value::Object(serde_json::Map::new()),
        None => converted.get("anyOf").is_none(),
    };
    fields.put("parameters", (!takes_nothing).then_some(converted));
    Ok(())
}

/// Returns `schema` in the format's own form.
fn converted(schema: &RawValue, field: &Field, losses: &mut Losses) -> Result<Value, String> {
    let schema: Value = serde_json::from_str(schema.get()).map_err(|reason| reason.to_string())?;
    let converted = schema::convert(&schema)?;
    if !converted.lost.is_empty() {
        let reason = format!("this model's schemas cannot say {}", converted.lost.join(", "));
        losses.advisory(field.clone(), reason);
    }
    Ok(converted.schema)
}

fn tool_config(request: &Request, writer: &mut Writer<'_, '_>) -> Fields {
    let mut calling = Fields::default();
    let (mode, only) = match &request.tool_choice {
        None => (None, None),
        Some(ToolChoice::Auto) => (Some("AUTO"), None),
        Some(ToolChoice::None) => (Some("NONE"), None),
        Some(ToolChoice::Required) => (Some("ANY"), None),
        Some(ToolChoice::Tool(name)) => (Some("ANY"), Some([writer.tool_name(name)])),
    };
    calling.put("mode", mode);
    calling.put("allowedFunctionNames", only);
    calling.extend(&request.extensions, wire::CALLING);
    let mut fields = Fields::default();
    fields.put("functionCallingConfig", calling.unless_empty());
    fields.extend(&request.extensions, wire::TOOLS);
    fields
}

fn generation_config(
    request: &Request,
    capability: &Capability,
    losses: &mut Losses,
) -> Result<Fields, ApiError> {
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
    let mut fields = Fields::default();
    fields.put("temperature", temperature.map(Single));
    fields.put("topP", top_p.map(Single));
    fields.put("topK", *top_k);
    // The provider's seeds have 32 bits.
    fields.put("seed", seed.map(|seed| seed as i32));
    fields.put("candidateCount", *choices);
    let limit = u64::from(i32::MAX.unsigned_abs());
    fields.put("maxOutputTokens", request.max_output.map(|most| most.min(limit)));
    fields.put("stopSequences", (!stop.is_empty()).then_some(stop));
    fields.put("presencePenalty", presence_penalty.map(Single));
    fields.put("frequencyPenalty", frequency_penalty.map(Single));
    fields.put("responseLogprobs", logprobs.map(|_| true));
    fields.put("logprobs", logprobs.filter(|alternatives| *alternatives > 0));
    output(request, capability, &mut fields, losses)?;
    let mut thinking = think::plan(request.reasoning.as_ref(), capability, losses)?;
    thinking.extend(&request.extensions, wire::THINKING);
    fields.put("thinkingConfig", thinking.unless_empty());
    fields.extend(&request.extensions, wire::CONFIG);
    Ok(fields)
}

fn output(
    request: &Request,
    capability: &Capability,
    fields: &mut Fields,
    losses: &mut Losses,
) -> Result<(), ApiError> {
    let (description, schema) = match &request.output {
        Output::Text => {
            return match guide::of(request)? {
                Some(guide) => guide::write(guide, fields),
                None => Ok(()),
            };
        }
        Output::Plain => {
            guide::of(request)?;
            fields.put("responseMimeType", Some("text/plain"));
            return Ok(());
        }
        Output::JsonObject => (None, None),
        Output::JsonSchema {
            description, schema, ..
        } => (description.as_deref(), Some(&**schema)),
    };
    if description.is_some() {
        losses.advisory(Field::Output, "the gemini format has no description of a schema");
    }
    guide::of(request)?;
    fields.put("responseMimeType", Some("application/json"));
    let Some(schema) = schema else {
        return Ok(());
    };
    let path = Path::Root;
    let path = path.key("response_format");
    if json::kind(schema) != Kind::Object {
        return Err(unfit(&path, "the schema of the answer is not a JSON object"));
    }
    if capability.json_schema {
        fields.put("responseJsonSchema", Some(schema));
        return Ok(());
    }
    let schema = converted(schema, &Field::Output, losses)
        .map_err(|reason| unfit(&path, &format!("the schema of the answer: {reason}")))?;
    fields.put("responseSchema", Some(schema));
    Ok(())
}

fn is_native(tool: &Tool) -> bool {
    matches!(tool.body, ToolBody::Native { .. })
}

fn service_tier(tier: Option<&str>, losses: &mut Losses) -> Option<&'static str> {
    match tier {
        None | Some("auto") => None,
        Some("default" | "standard" | "standard_only") => Some("standard"),
        Some("flex") => Some("flex"),
        Some("priority") => Some("priority"),
        Some(tier) => {
            let reason = format!("the gemini format has no tier \"{tier}\"");
            losses.advisory(Field::ServiceTier, reason);
            None
        }
    }
}

/// Records what the format has no member for.
fn lose_rest(request: &Request, losses: &mut Losses) {
    if request.parallel_tool_calls == Some(false) {
        let reason = "the gemini format cannot forbid several calls at once";
        losses.advisory(Field::ParallelToolCalls, reason);
    }
    if request.user.is_some() {
        losses.advisory(Field::User, "the gemini format does not name the end user");
    }
    let extensions = request.extensions.0.iter();
    let extensions = Extensions(
        extensions
            .filter(|extension| !guide::is_guide(extension))
            .cloned()
            .collect(),
    );
    extensions.lose(Format::Gemini, losses, |key| Field::Extension(key.to_owned()));
}

fn unfit(path: &Path<'_>, reason: &str) -> ApiError {
    ApiError::new(ErrorKind::Unprocessable, format!("{path}: {reason}")).with_param(path)
}
