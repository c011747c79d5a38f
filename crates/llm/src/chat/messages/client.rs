//! Answers clients in this format.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::{
    Messages,
    block::{self, Place},
    emit, error, reply, wire,
};
use crate::{
    ApiError, Field, Format, Losses, Severity,
    chat::{
        Client, EncodeStream, Extension, Extensions, Output, Reasoning, ReasoningMode, Request, Response,
        Role, Sampling, StreamOptions, Tool, ToolBody, ToolChoice, Turn, converse,
    },
    json::{self, Kind, Object, Path},
    name,
};

impl Client for Messages {
    fn decode_request(&self, body: &[u8], losses: &mut Losses) -> Result<Request, ApiError> {
        let root = Path::Root;
        let (mut object, messages) = Object::parse_with_objects(body, "messages")?;
        let model: String = object.required("model", &root)?;
        let max_output = max_tokens(&mut object)?;
        let (tool_choice, parallel_tool_calls, choice_extensions) = tool_choice(&mut object)?;
        let (reasoning, thinking_extensions) = thinking(&mut object)?;
        let (user, metadata_extensions) = metadata(&mut object)?;
        let mut request = Request {
            model,
            instructions: match object.take("system") {
                Some(raw) => block::content(raw, Place::System, &root.key("system"), losses)?,
                None => Vec::new(),
            },
            turns: turns(messages, losses)?,
            tools: tools(&mut object, losses)?,
            tool_choice,
            parallel_tool_calls,
            output: Output::Text,
            sampling: Sampling {
                temperature: object.optional("temperature", &root)?,
                top_p: object.optional("top_p", &root)?,
                top_k: object.optional("top_k", &root)?,
                stop: object.optional("stop_sequences", &root)?.unwrap_or_default(),
                ..Sampling::default()
            },
            reasoning,
            max_output: Some(max_output),
            stream: object
                .optional::<bool>("stream", &root)?
                .unwrap_or(false)
                .then_some(StreamOptions {
                    include_usage: true,
                    ..StreamOptions::default()
                }),
            user,
            user_is_pseudonym: false,
            service_tier: object.optional("service_tier", &root)?,
            extensions: Extensions::default(),
        };
        let output_extensions = output(&mut object, &mut request, losses)?;
        let mut rest = block::extensions(object, "", wire::severity);
        for extension in &mut rest.0 {
            if let Some(foreign) = converse::member(&extension.key, &extension.value) {
                *extension = foreign;
            }
        }
        for extensions in [
            choice_extensions,
            thinking_extensions,
            metadata_extensions,
            output_extensions,
            rest,
        ] {
            request.extensions.0.extend(extensions.0);
        }
        Ok(request)
    }

    fn encode_response(&self, response: &Response, losses: &mut Losses) -> Bytes {
        reply::encode(response, losses)
    }

    fn encode_stream(&self, _stream: StreamOptions) -> Box<dyn EncodeStream> {
        Box::<emit::Encoder>::default()
    }

    fn encode_error(&self, error: &ApiError) -> Bytes {
        error::encode(error)
    }

    fn encode_error_event(&self, error: &ApiError) -> Bytes {
        error::encode_event(error)
    }

    fn keep_alive(&self, _stream: StreamOptions) -> &'static [u8] {
        emit::PING
    }

    fn names_model(&self) -> name::Place {
        name::Place::model_within("message")
    }

    fn field(&self, field: &Field) -> Cow<'static, str> {
        Cow::Borrowed(match field {
            Field::Instructions => "system",
            Field::Message(index) => return Cow::Owned(format!("messages[{index}]")),
            Field::Tool(index) => return Cow::Owned(format!("tools[{index}]")),
            Field::ToolChoice => "tool_choice",
            Field::ParallelToolCalls => "tool_choice.disable_parallel_tool_use",
            Field::Output => "output_config.format",
            Field::Temperature => "temperature",
            Field::TopP => "top_p",
            Field::TopK => "top_k",
            Field::Seed => "seed",
            Field::FrequencyPenalty => "frequency_penalty",
            Field::PresencePenalty => "presence_penalty",
            Field::Logprobs => "logprobs",
            Field::Stop => "stop_sequences",
            Field::Choices => "n",
            Field::Reasoning => "thinking",
            Field::MaxOutput => "max_tokens",
            Field::User => "metadata.user_id",
            Field::ServiceTier => "service_tier",
            Field::Cache => "cache_control",
            Field::Extension(key) => return Cow::Owned(key.clone()),
            Field::Reply(part) => part,
            Field::Member(path) => return Cow::Owned(path.to_string()),
        })
    }
}

fn max_tokens(object: &mut Object<'_>) -> Result<u64, ApiError> {
    let path = Path::Root.key("max_tokens");
    let limit: Option<f64> = object.optional("max_tokens", &Path::Root)?;
    match limit {
        None => Err(path.invalid("this member is required")),
        Some(limit) if limit < 1.0 || limit.fract() != 0.0 => {
            Err(path.invalid("expected a whole number of at least 1"))
        }
        Some(limit) => Ok(limit as u64),
    }
}

fn turns(messages: Vec<Object<'_>>, losses: &mut Losses) -> Result<Vec<Turn>, ApiError> {
    let path = Path::Root.key("messages");
    if messages.is_empty() {
        return Err(path.invalid("at least one message is required"));
    }
    messages
        .into_iter()
        .enumerate()
        .map(|(origin, message)| turn(message, origin, &path.index(origin), losses))
        .collect()
}

fn turn(
    mut message: Object<'_>,
    origin: usize,
    path: &Path<'_>,
    losses: &mut Losses,
) -> Result<Turn, ApiError> {
    let role = match message.required::<String>("role", path)?.as_str() {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" => Role::System,
        _ => {
            let reason = "expected \"user\", \"assistant\" or \"system\"";
            return Err(path.key("role").invalid(reason));
        }
    };
    let content = message
        .take("content")
        .ok_or_else(|| path.key("content").invalid("this member is required"))?;
    let parts = block::content(content, Place::Message(role), &path.key("content"), losses)?;
    Ok(Turn {
        role,
        parts,
        origin,
        name: None,
        extensions: block::extensions(message, "", |_| Severity::Advisory),
    })
}

fn tools(object: &mut Object<'_>, losses: &mut Losses) -> Result<Vec<Tool>, ApiError> {
    let path = Path::Root.key("tools");
    let Some(raw) = object.take("tools") else {
        return Ok(Vec::new());
    };
    json::elements(raw, &path)?
        .into_iter()
        .enumerate()
        .map(|(index, raw)| tool(raw, &path.index(index), losses))
        .collect()
}

fn tool(raw: &RawValue, path: &Path<'_>, losses: &mut Losses) -> Result<Tool, ApiError> {
    let mut tool = Object::parse(raw, path)?;
    let kind: String = tool.optional("type", path)?.unwrap_or_default();
    if !matches!(kind.as_str(), "" | "custom") {
        return Ok(Tool {
            body: ToolBody::Native {
                format: Format::Messages,
                kind,
                raw: raw.to_owned(),
            },
            cache: None,
            extensions: Extensions::default(),
        });
    }
    let parameters = tool.take("input_schema");
    if parameters.is_some_and(|schema| json::kind(schema) != Kind::Object) {
        return Err(path.key("input_schema").invalid("expected an object"));
    }
    Ok(Tool {
        body: ToolBody::Function {
            name: tool.required("name", path)?,
            description: tool.optional("description", path)?,
            parameters: parameters.map(RawValue::to_owned),
            strict: tool.optional("strict", path)?,
        },
        cache: block::cache(&mut tool, path, losses)?,
        extensions: block::extensions(tool, "", |_| Severity::Advisory),
    })
}

type Choice = (Option<ToolChoice>, Option<bool>, Extensions);

fn tool_choice(object: &mut Object<'_>) -> Result<Choice, ApiError> {
    let path = Path::Root.key("tool_choice");
    let Some(raw) = object.take("tool_choice") else {
        return Ok((None, None, Extensions::default()));
    };
    let mut choice = Object::parse(raw, &path)?;
    let kind: String = choice.required("type", &path)?;
    let disable_parallel: Option<bool> = choice.optional("disable_parallel_tool_use", &path)?;
    let tool_choice = match kind.as_str() {
        "auto" => ToolChoice::Auto,
        "any" => ToolChoice::Required,
        "none" => ToolChoice::None,
        "tool" => ToolChoice::Tool(choice.required("name", &path)?),
        _ => {
            let reason = "expected \"auto\", \"any\", \"tool\" or \"none\"";
            return Err(path.key("type").invalid(reason));
        }
    };
    let extensions = block::extensions(choice, "tool_choice.", |_| Severity::Advisory);
    Ok((
        Some(tool_choice),
        disable_parallel.map(|disable| !disable),
        extensions,
    ))
}

fn thinking(object: &mut Object<'_>) -> Result<(Option<Reasoning>, Extensions), ApiError> {
    let path = Path::Root.key("thinking");
    let Some(raw) = object.take("thinking") else {
        return Ok((None, Extensions::default()));
    };
    let mut thinking = Object::parse(raw, &path)?;
    let kind: String = thinking.required("type", &path)?;
    let (mode, budget) = match kind.as_str() {
        "enabled" => (
            ReasoningMode::Enabled,
            Some(thinking.required("budget_tokens", &path)?),
        ),
        "adaptive" => (ReasoningMode::Adaptive, None),
        "disabled" => (ReasoningMode::Disabled, None),
        _ => {
            let reason = "expected \"enabled\", \"adaptive\" or \"disabled\"";
            return Err(path.key("type").invalid(reason));
        }
    };
    let reasoning = Reasoning {
        mode: Some(mode),
        effort: None,
        budget,
        display: thinking.optional("display", &path)?,
    };
    let extensions = block::extensions(thinking, "thinking.", |_| Severity::Advisory);
    Ok((Some(reasoning), extensions))
}

fn metadata(object: &mut Object<'_>) -> Result<(Option<String>, Extensions), ApiError> {
    let path = Path::Root.key("metadata");
    let Some(raw) = object.take("metadata") else {
        return Ok((None, Extensions::default()));
    };
    let mut metadata = Object::parse(raw, &path)?;
    let user = metadata.optional("user_id", &path)?;
    Ok((
        user,
        block::extensions(metadata, "metadata.", |_| Severity::Advisory),
    ))
}

/// Reads `output_config` and its predecessor `output_format`.
fn output(
    object: &mut Object<'_>,
    request: &mut Request,
    losses: &mut Losses,
) -> Result<Extensions, ApiError> {
    let root = Path::Root;
    let mut extensions = Extensions::default();
    let path = root.key("output_config");
    if let Some(raw) = object.take("output_config") {
        let mut config = Object::parse(raw, &path)?;
        if let Some(effort) = config.optional("effort", &path)? {
            request.reasoning.get_or_insert_default().effort = Some(effort);
        }
        if let Some(raw) = config.take("format") {
            let format = format(raw, &path.key("format"), losses)?;
            place(format, "output_config.format", raw, request, &mut extensions);
        }
        extensions
            .0
            .extend(block::extensions(config, "output_config.", |_| Severity::Advisory).0);
    }
    if let Some(raw) = object.take("output_format") {
        let format = format(raw, &root.key("output_format"), losses)?;
        place(format, "output_format", raw, request, &mut extensions);
    }
    Ok(extensions)
}

/// Puts a format of the answer where it belongs: one that only this format has is an extension without which
/// the request means something else.
fn place(
    output: Option<Output>,
    key: &str,
    raw: &RawValue,
    request: &mut Request,
    extensions: &mut Extensions,
) {
    match output {
        Some(output) => request.output = output,
        None => extensions.0.push(Extension {
            format: Format::Messages,
            key: key.to_owned(),
            value: raw.to_owned(),
            severity: Severity::Material,
        }),
    }
}

fn format(raw: &RawValue, path: &Path<'_>, losses: &mut Losses) -> Result<Option<Output>, ApiError> {
    let mut format = Object::parse(raw, path)?;
    let kind: String = format.required("type", path)?;
    if kind != "json_schema" {
        return Ok(None);
    }
    let schema: &RawValue = format.required("schema", path)?;
    if json::kind(schema) != Kind::Object {
        return Err(path.key("schema").invalid("expected an object"));
    }
    let name = format.optional("name", path)?.unwrap_or_default();
    losses.rest(format, path);
    Ok(Some(Output::JsonSchema {
        name,
        description: None,
        schema: schema.to_owned(),
        strict: None,
    }))
}
