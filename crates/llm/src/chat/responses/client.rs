//! Answers clients in this format.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use serde_json::value::RawValue;

use super::{Responses, answer, emit, error, input, wire};
use crate::{
    ApiError, Field, Format, Losses, Severity,
    chat::{
        Client, EncodeStream, Extensions, Output, Part, Reasoning, Request, Response, Sampling,
        StreamOptions, Tool, ToolBody, ToolChoice, openai,
    },
    json::{self, Kind, Object, Path, Shallow},
    name,
};

/// Members that say where the conversation is kept, if it is not all in `input`.
const KEPT_ELSEWHERE: &[&str] = &["previous_response_id", "conversation", "prompt"];

/// Top-level members in values that ask for nothing: defaults, or what no other upstream does anyway.
const NOTHING: &[(&str, &str)] = &[
    ("background", "false"),
    ("store", "false"),
    ("truncation", r#""disabled""#),
    ("metadata", "{}"),
    ("stream_options", "{}"),
    ("include", "[]"),
    ("context_management", "[]"),
];

impl Client for Responses {
    fn decode_request(&self, body: &[u8], losses: &mut Losses) -> Result<Request, ApiError> {
        let root = Path::Root;
        let mut object = Object::parse_slice(body)?;
        let model: String = object.required("model", &root)?;
        let mut extensions = Extensions::default();
        let conversation = conversation(&mut object, losses)?;
        let instructions: Option<String> = object.optional("instructions", &root)?;
        let mut instructions: Vec<Part> = instructions.into_iter().map(Part::text).collect();
        instructions.extend(conversation.instructions);
        let tools = tools(&mut object)?;
        let tool_choice = tool_choice(&mut object, &mut extensions, losses)?;
        let output = output(&mut object, &mut extensions, losses)?;
        let reasoning = reasoning(&mut object, &mut extensions)?;
        let logprobs = include(&mut object, &mut extensions)?;
        let user: Option<String> = object.optional("user", &root)?;
        let pseudonym = match user {
            Some(_) => None,
            None => object.optional("safety_identifier", &root)?,
        };
        let mut request = Request {
            model,
            instructions,
            turns: conversation.turns,
            tools,
            tool_choice,
            parallel_tool_calls: object.optional("parallel_tool_calls", &root)?,
            output,
            sampling: Sampling {
                temperature: object.optional("temperature", &root)?,
                top_p: object.optional("top_p", &root)?,
                logprobs: object.optional("top_logprobs", &root)?.or(logprobs),
                ..Sampling::default()
            },
            reasoning,
            max_output: object.optional("max_output_tokens", &root)?,
            stream: object
                .optional::<bool>("stream", &root)?
                .unwrap_or(false)
                .then_some(StreamOptions {
                    include_usage: true,
                    ..StreamOptions::default()
                }),
            user_is_pseudonym: pseudonym.is_some(),
            user: user.or(pseudonym),
            service_tier: object.optional("service_tier", &root)?,
            extensions,
        };
        stream_options(&mut object, &mut request.extensions)?;
        for (key, value) in object.rest() {
            let nothing = NOTHING
                .iter()
                .any(|(name, said)| key == *name && value.get() == *said);
            if !nothing {
                let severity = wire::severity(&key);
                request.extensions.0.push(wire::extension(key, value, severity));
            }
        }
        Ok(request)
    }

    fn encode_response(&self, response: &Response, losses: &mut Losses) -> Bytes {
        answer::encode(response, losses)
    }

    fn encode_stream(&self, stream: StreamOptions) -> Box<dyn EncodeStream> {
        Box::new(emit::Encoder::new(stream.keep))
    }

    fn encode_error(&self, error: &ApiError) -> Bytes {
        openai::error::encode(error)
    }

    fn encode_error_event(&self, error: &ApiError) -> Bytes {
        error::encode_event(error, 0)
    }

    fn keep_alive(&self, _stream: StreamOptions) -> &'static [u8] {
        emit::KEEP_ALIVE
    }

    fn names_model(&self) -> name::Place {
        name::Place::model_within("response")
    }

    fn echo(&self, request: &Shallow, kept: bool) -> Option<Arc<str>> {
        Some(answer::echo(request, kept))
    }

    fn field(&self, field: &Field) -> Cow<'static, str> {
        Cow::Borrowed(match field {
            Field::Instructions => "instructions",
            Field::Message(index) => return Cow::Owned(format!("input[{index}]")),
            Field::Tool(index) => return Cow::Owned(format!("tools[{index}]")),
            Field::ToolChoice => "tool_choice",
            Field::ParallelToolCalls => "parallel_tool_calls",
            Field::Output => "text.format",
            Field::Temperature => "temperature",
            Field::TopP => "top_p",
            Field::TopK => "top_k",
            Field::Seed => "seed",
            Field::FrequencyPenalty => "frequency_penalty",
            Field::PresencePenalty => "presence_penalty",
            Field::Logprobs => "top_logprobs",
            Field::Stop => "stop",
            Field::Choices => "n",
            Field::Reasoning => "reasoning",
            Field::MaxOutput => "max_output_tokens",
            Field::User => "user",
            Field::ServiceTier => "service_tier",
            Field::Cache => "prompt_cache_breakpoint",
            Field::Extension(key) => return Cow::Owned(key.clone()),
            Field::Reply(part) => part,
            Field::Member(path) => return Cow::Owned(path.to_string()),
        })
    }
}

/// Reads `input`, which may be left out only where the conversation is kept at the provider.
fn conversation(object: &mut Object<'_>, losses: &mut Losses) -> Result<input::Conversation, ApiError> {
    let path = Path::Root.key("input");
    match object.take("input") {
        Some(raw) => input::decode(raw, &path, losses),
        None if KEPT_ELSEWHERE.iter().any(|key| object.peek(key).is_some()) => {
            Ok(input::Conversation::default())
        }
        None => Err(path.invalid("this member is required")),
    }
}

fn tools(object: &mut Object<'_>) -> Result<Vec<Tool>, ApiError> {
    let path = Path::Root.key("tools");
    let Some(raw) = object.take("tools") else {
        return Ok(Vec::new());
    };
    json::elements(raw, &path)?
        .into_iter()
        .enumerate()
        .map(|(index, raw)| tool(raw, &path.index(index)))
        .collect()
}

fn tool(raw: &RawValue, path: &Path<'_>) -> Result<Tool, ApiError> {
    let mut tool = Object::parse(raw, path)?;
    let kind: String = tool.required("type", path)?;
    if kind != "function" {
        return Ok(Tool {
            body: ToolBody::Native {
                format: Format::Responses,
                kind,
                raw: raw.to_owned(),
            },
            cache: None,
            extensions: Extensions::default(),
        });
    }
    let name: String = tool.required("name", path)?;
    if name.is_empty() {
        return Err(path.key("name").invalid("a tool must have a name"));
    }
    let parameters = tool.take("parameters");
    if parameters.is_some_and(|schema| json::kind(schema) != Kind::Object) {
        return Err(path.key("parameters").invalid("a JSON schema must be an object"));
    }
    let body = ToolBody::Function {
        name,
        description: tool.optional("description", path)?,
        parameters: parameters.map(RawValue::to_owned),
        strict: tool.optional("strict", path)?,
    };
    let rest = tool.rest();
    let extensions = rest.map(|(key, value)| wire::extension(key, value, Severity::Advisory));
    Ok(Tool {
        body,
        cache: None,
        extensions: Extensions(extensions.collect()),
    })
}

/// Reads which tool must be called. Shapes beside the four that formats share, such as `allowed_tools`, are
/// kept for this format: ignoring one would let the model call what it must not.
fn tool_choice(
    object: &mut Object<'_>,
    extensions: &mut Extensions,
    losses: &mut Losses,
) -> Result<Option<ToolChoice>, ApiError> {
    let path = Path::Root.key("tool_choice");
    let Some(raw) = object.take("tool_choice") else {
        return Ok(None);
    };
    if json::kind(raw) == Kind::String {
        return match json::read::<String>(raw, &path)?.as_str() {
            "auto" => Ok(Some(ToolChoice::Auto)),
            "none" => Ok(Some(ToolChoice::None)),
            "required" => Ok(Some(ToolChoice::Required)),
            word => Err(path.invalid(format!(
                "\"{word}\" is not one of \"auto\", \"none\", \"required\" or an object that names a tool"
            ))),
        };
    }
    let mut choice = Object::parse(raw, &path)?;
    match choice.required::<String>("type", &path)?.as_str() {
        "function" | "custom" => {
            let name = choice.required("name", &path)?;
            losses.rest(choice, &path);
            Ok(Some(ToolChoice::Tool(name)))
        }
        _ => {
            let severity = wire::severity("tool_choice");
            extensions.0.push(wire::extension("tool_choice", raw, severity));
            Ok(None)
        }
    }
}

/// Reads `text`: the form of the answer, and what else is said of it.
fn output(
    object: &mut Object<'_>,
    extensions: &mut Extensions,
    losses: &mut Losses,
) -> Result<Output, ApiError> {
    let path = Path::Root.key("text");
    let Some(raw) = object.take("text") else {
        return Ok(Output::Text);
    };
    let mut text = Object::parse(raw, &path)?;
    let mut output = Output::Text;
    if let Some(raw) = text.take("format") {
        match format(raw, &path.key("format"), losses)? {
            Some(format) => output = format,
            None => extensions
                .0
                .push(wire::extension("text.format", raw, Severity::Material)),
        }
    }
    keep(text, "text.", extensions);
    Ok(output)
}

/// Reads the form of the answer; `None` if it is one that only this format has.
fn format(raw: &RawValue, path: &Path<'_>, losses: &mut Losses) -> Result<Option<Output>, ApiError> {
    let mut format = Object::parse(raw, path)?;
    let output = match format.required::<String>("type", path)?.as_str() {
        "text" => Output::Plain,
        "json_object" => Output::JsonObject,
        "json_schema" => {
            let schema: &RawValue = format.required("schema", path)?;
            if json::kind(schema) != Kind::Object {
                return Err(path.key("schema").invalid("a JSON schema must be an object"));
            }
            Output::JsonSchema {
                name: format.required("name", path)?,
                description: format.optional("description", path)?,
                schema: schema.to_owned(),
                strict: format.optional("strict", path)?,
            }
        }
        _ => return Ok(None),
    };
    losses.rest(format, path);
    Ok(Some(output))
}

fn reasoning(object: &mut Object<'_>, extensions: &mut Extensions) -> Result<Option<Reasoning>, ApiError> {
    let path = Path::Root.key("reasoning");
    let Some(raw) = object.take("reasoning") else {
        return Ok(None);
    };
    let mut wire = Object::parse(raw, &path)?;
    let effort: Option<String> = wire.optional("effort", &path)?;
    let older = wire.take("generate_summary");
    let summary = wire.take("summary").or(older);
    if let Some(summary) = summary.filter(|summary| summary.get() != r#""auto""#) {
        extensions
            .0
            .push(wire::extension("reasoning.summary", summary, Severity::Advisory));
    }
    keep(wire, "reasoning.", extensions);
    let reasoning = Reasoning {
        effort,
        display: summary.map(|_| "summarized".to_owned()),
        ..Reasoning::default()
    };
    Ok((reasoning != Reasoning::default()).then_some(reasoning))
}

/// Reads what else the answer is to hold; returns the log-probabilities that are asked for. Sealed reasoning is
/// always told.
fn include(object: &mut Object<'_>, extensions: &mut Extensions) -> Result<Option<u64>, ApiError> {
    let path = Path::Root.key("include");
    let Some(raw) = object.take("include") else {
        return Ok(None);
    };
    let mut logprobs = None;
    let mut others = Vec::new();
    for word in json::read::<Vec<String>>(raw, &path)? {
        match word.as_str() {
            "reasoning.encrypted_content" => {}
            "message.output_text.logprobs" => logprobs = Some(0),
            _ => others.push(word),
        }
    }
    if !others.is_empty() {
        let others = json::raw(&others);
        extensions
            .0
            .push(wire::extension("include", &others, Severity::Advisory));
    }
    Ok(logprobs)
}

/// Reads how to stream: events are never padded here, so that not padding them is nothing to ask for.
fn stream_options(object: &mut Object<'_>, extensions: &mut Extensions) -> Result<(), ApiError> {
    let path = Path::Root.key("stream_options");
    let Some(raw) = object.take("stream_options") else {
        return Ok(());
    };
    let mut options = Object::parse(raw, &path)?;
    if options
        .peek("include_obfuscation")
        .is_some_and(|raw| raw.get() == "false")
    {
        options.take("include_obfuscation");
    }
    keep(options, "stream_options.", extensions);
    Ok(())
}

/// Keeps what is left of `object` for this format, behind `prefix`.
fn keep(object: Object<'_>, prefix: &str, extensions: &mut Extensions) {
    let rest = object.rest();
    extensions.0.extend(
        rest.map(|(key, value)| wire::extension(format!("{prefix}{key}"), value, Severity::Advisory)),
    );
}
