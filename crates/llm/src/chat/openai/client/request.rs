//! Reads the top level of a request.

use serde_json::value::RawValue;

use super::{
    super::wire::{self, Text},
    conversation::{self, Conversation},
    google, part,
};
use crate::{
    ApiError, Format, Losses, Severity,
    chat::{
        Extensions, Output, Reasoning, ReasoningMode, Request, Sampling, StreamOptions, Tool, ToolBody,
        ToolChoice, converse,
    },
    json::{self, Kind, Object, Path},
};

/// Reads a request; see [`Client::decode_request`](crate::chat::Client::decode_request).
pub(super) fn decode(body: &[u8], losses: &mut Losses) -> Result<Request, ApiError> {
    let root = Path::Root;
    let (mut object, messages) = Object::parse_with_objects(body, "messages")?;
    let model: String = object.required("model", &root)?;
    let Conversation { instructions, turns } = conversation::decode(messages, &root.key("messages"), losses)?;
    let mut extensions = Extensions::default();
    let tools = tools(&mut object, losses)?;
    let tool_choice = tool_choice(&mut object, &mut extensions, losses)?;
    let limit = object.optional("max_tokens", &root)?;
    let user: Option<String> = object.optional("user", &root)?;
    let pseudonym = match user {
        Some(_) => None,
        None => object.optional("safety_identifier", &root)?,
    };
    let mut request = Request {
        model,
        instructions,
        turns,
        tools,
        tool_choice,
        parallel_tool_calls: object.optional("parallel_tool_calls", &root)?,
        output: output(&mut object, losses)?,
        sampling: sampling(&mut object)?,
        reasoning: reasoning(&mut object, losses)?,
        max_output: object.optional("max_completion_tokens", &root)?.or(limit),
        stream: stream(&mut object, losses)?,
        user_is_pseudonym: pseudonym.is_some(),
        user: user.or(pseudonym),
        service_tier: object.optional("service_tier", &root)?,
        extensions,
    };
    google::members(&mut object, &mut request.extensions, losses)?;
    for (key, value) in object.rest() {
        let extension = converse::member(&key, value)
            .unwrap_or_else(|| wire::extension(&*key, value, wire::severity(&key, value)));
        request.extensions.0.push(extension);
    }
    Ok(request)
}

/// Takes a member out that must be there, whatever it is.
pub(super) fn require<'a>(
    object: &mut Object<'a>,
    key: &str,
    path: &Path<'_>,
) -> Result<&'a RawValue, ApiError> {
    object
        .take(key)
        .ok_or_else(|| path.key(key).invalid("this member is required"))
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
    let mut object = Object::parse(raw, path)?;
    let kind: String = object.required("type", path)?;
    if kind != "function" {
        let google = google::tool(&kind, raw, path, losses)?;
        return Ok(Tool {
            body: google.unwrap_or_else(|| ToolBody::Native {
                format: Format::OpenAi,
                kind,
                raw: raw.to_owned(),
            }),
            cache: None,
            extensions: Extensions::default(),
        });
    }
    let at = path.key("function");
    let mut function = Object::parse(require(&mut object, "function", path)?, &at)?;
    let name: String = function.required("name", &at)?;
    if name.is_empty() {
        return Err(at.key("name").invalid("a tool must have a name"));
    }
    let parameters = function.take("parameters");
    if parameters.is_some_and(|raw| json::kind(raw) != Kind::Object) {
        return Err(at.key("parameters").invalid("a JSON schema must be an object"));
    }
    let body = ToolBody::Function {
        name,
        description: function.optional("description", &at)?,
        parameters: parameters.map(ToOwned::to_owned),
        strict: function.optional("strict", &at)?,
    };
    let mut extensions = Extensions::default();
    let mut cache = part::cache_mark(&mut function, &at, &mut extensions, losses)?;
    if cache.is_none() {
        cache = part::cache_mark(&mut object, path, &mut extensions, losses)?;
    }
    losses.rest(function, &at);
    for (key, value) in object.rest() {
        extensions.0.push(wire::extension(key, value, Severity::Advisory));
    }
    Ok(Tool {
        body,
        cache,
        extensions,
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
        let Text(word) = json::read(raw, &path)?;
        return match word.as_ref() {
            "auto" => Ok(Some(ToolChoice::Auto)),
            "none" => Ok(Some(ToolChoice::None)),
            "required" | "any" => Ok(Some(ToolChoice::Required)),
            word => Err(path.invalid(format!(
                "\"{word}\" is not one of \"auto\", \"none\", \"required\" or an object that names a function"
            ))),
        };
    }
    let mut choice = Object::parse(raw, &path)?;
    let kind: String = choice.required("type", &path)?;
    if kind != "function" {
        extensions
            .0
            .push(wire::extension("tool_choice", raw, Severity::Material));
        return Ok(None);
    }
    let at = path.key("function");
    let mut function = Object::parse(require(&mut choice, "function", &path)?, &at)?;
    let name = function.required("name", &at)?;
    losses.rest(function, &at);
    losses.rest(choice, &path);
    Ok(Some(ToolChoice::Tool(name)))
}

fn output(object: &mut Object<'_>, losses: &mut Losses) -> Result<Output, ApiError> {
    let path = Path::Root.key("response_format");
    let Some(raw) = object.take("response_format") else {
        return Ok(Output::Text);
    };
    let mut format = Object::parse(raw, &path)?;
    let kind: String = format.required("type", &path)?;
    let output = match kind.as_str() {
        "text" => Output::Plain,
        "json_object" => Output::JsonObject,
        "json_schema" => {
            let at = path.key("json_schema");
            let mut outer = Object::parse(require(&mut format, "json_schema", &path)?, &at)?;
            let schema = require(&mut outer, "schema", &at)?;
            if json::kind(schema) != Kind::Object {
                return Err(at.key("schema").invalid("a JSON schema must be an object"));
            }
            let output = Output::JsonSchema {
                name: outer.optional("name", &at)?.unwrap_or_default(),
                description: outer.optional("description", &at)?,
                schema: schema.to_owned(),
                strict: outer.optional("strict", &at)?,
            };
            losses.rest(outer, &at);
            output
        }
        kind => {
            return Err(path.key("type").invalid(format!(
                "\"{kind}\" is not one of \"text\", \"json_object\" and \"json_schema\""
            )));
        }
    };
    losses.rest(format, &path);
    Ok(output)
}

fn sampling(object: &mut Object<'_>) -> Result<Sampling, ApiError> {
    let root = Path::Root;
    let wanted: Option<bool> = object.optional("logprobs", &root)?;
    let alternatives: Option<u64> = object.optional("top_logprobs", &root)?;
    // Servers that take `top_k` read -1 as "all tokens", which is what leaving it out means.
    let top_k: Option<i64> = object.optional("top_k", &root)?;
    let choices: Option<u64> = object.optional("n", &root)?;
    if choices == Some(0) {
        return Err(root.key("n").invalid("at least one answer must be asked for"));
    }
    Ok(Sampling {
        temperature: object.optional("temperature", &root)?,
        top_p: object.optional("top_p", &root)?,
        top_k: top_k.and_then(|top_k| u64::try_from(top_k).ok()),
        seed: object.optional("seed", &root)?,
        frequency_penalty: object.optional("frequency_penalty", &root)?,
        presence_penalty: object.optional("presence_penalty", &root)?,
        stop: stop(object)?,
        choices,
        logprobs: (wanted == Some(true)).then(|| alternatives.unwrap_or(0)),
    })
}

fn stop(object: &mut Object<'_>) -> Result<Vec<String>, ApiError> {
    let path = Path::Root.key("stop");
    match object.take("stop") {
        None => Ok(Vec::new()),
        Some(raw) if json::kind(raw) == Kind::String => Ok(vec![json::read(raw, &path)?]),
        Some(raw) => json::read(raw, &path),
    }
}

fn reasoning(object: &mut Object<'_>, losses: &mut Losses) -> Result<Option<Reasoning>, ApiError> {
    let root = Path::Root;
    let effort = object.optional("reasoning_effort", &root)?;
    let path = root.key("thinking");
    let Some(raw) = object.take("thinking") else {
        let path = root.key("reasoning");
        let Some(raw) = object.take("reasoning") else {
            return Ok(effort.map(|effort| Reasoning {
                effort: Some(effort),
                ..Reasoning::default()
            }));
        };
        return routed_reasoning(raw, effort, &path, losses).map(Some);
    };
    let mut thinking = Object::parse(raw, &path)?;
    let kind: String = thinking.required("type", &path)?;
    let mode = match kind.as_str() {
        "enabled" => ReasoningMode::Enabled,
        "disabled" => ReasoningMode::Disabled,
        "adaptive" => ReasoningMode::Adaptive,
        kind => {
            return Err(path.key("type").invalid(format!(
                "\"{kind}\" is not one of \"enabled\", \"disabled\" and \"adaptive\""
            )));
        }
    };
    let shown = thinking
        .optional("includeThoughts", &path)?
        .map(|shown: bool| if shown { "summarized" } else { "omitted" }.to_owned());
    let reasoning = Reasoning {
        mode: Some(mode),
        effort,
        budget: thinking.optional("budget_tokens", &path)?,
        display: thinking.optional("display", &path)?.or(shown),
    };
    losses.rest(thinking, &path);
    Ok(Some(reasoning))
}

/// Reads how much to think as clients of OpenRouter say it (guide "Reasoning Tokens").
fn routed_reasoning(
    raw: &RawValue,
    effort: Option<String>,
    path: &Path<'_>,
    losses: &mut Losses,
) -> Result<Reasoning, ApiError> {
    let mut wire = Object::parse(raw, path)?;
    let mode = wire.optional("enabled", path)?.map(|enabled: bool| {
        if enabled {
            ReasoningMode::Enabled
        } else {
            ReasoningMode::Disabled
        }
    });
    let hidden: Option<bool> = wire.optional("exclude", path)?;
    let reasoning = Reasoning {
        mode,
        effort: wire.optional("effort", path)?.or(effort),
        budget: wire.optional("max_tokens", path)?,
        display: hidden.map(|hidden| if hidden { "omitted" } else { "summarized" }.to_owned()),
    };
    losses.rest(wire, path);
    Ok(reasoning)
}

fn stream(object: &mut Object<'_>, losses: &mut Losses) -> Result<Option<StreamOptions>, ApiError> {
    let root = Path::Root;
    let streamed: Option<bool> = object.optional("stream", &root)?;
    let mut options = StreamOptions::default();
    if let Some(raw) = object.take("stream_options") {
        let path = root.key("stream_options");
        let mut wire = Object::parse(raw, &path)?;
        options.include_usage = wire.optional("include_usage", &path)?.unwrap_or(false);
        losses.rest(wire, &path);
    }
    Ok((streamed == Some(true)).then_some(options))
}
