//! Answers clients in this format.

use std::{borrow::Cow, collections::BTreeMap};

use bytes::Bytes;
use serde_json::{Value, value::RawValue};

use super::{
    Gemini,
    content::Reader,
    emit, error, reply, schema,
    wire::{self, CALLING, CONFIG, THINKING, TOOLS},
};
use crate::{
    ApiError, Field, Format, Losses, Severity,
    chat::{
        Client, EncodeStream, Extension, Extensions, Output, Part, Reasoning, ReasoningMode, Reframe,
        Request, Response, Role, Sampling, StreamOptions, Tool, ToolBody, ToolChoice,
    },
    json::{self, Kind, Object, Path},
    name,
};

impl Client for Gemini {
    fn decode_request(&self, body: &[u8], losses: &mut Losses) -> Result<Request, ApiError> {
        let root = Path::Root;
        let mut object = Object::parse_slice(body)?.renamed(&root, wire::camel)?;
        let contents = object
            .take("contents")
            .ok_or_else(|| root.key("contents").invalid("this member is required"))?;
        let mut reader = Reader::default();
        let instructions = match object.take("systemInstruction") {
            Some(raw) => instructions(raw, &mut reader, &root.key("systemInstruction"), losses)?,
            None => Vec::new(),
        };
        let tools = match object.take("tools") {
            Some(raw) => tools(raw, &root.key("tools"))?,
            None => Vec::new(),
        };
        let model: Option<String> = object.optional("model", &root)?;
        let service_tier: Option<String> = object.optional("serviceTier", &root)?;
        let mut request = Request {
            // The path names the model; one here is the same, as libraries write it.
            model: model.unwrap_or_default(),
            instructions,
            turns: reader.contents(contents, &root.key("contents"))?,
            tools,
            tool_choice: None,
            parallel_tool_calls: None,
            output: Output::Text,
            sampling: Sampling::default(),
            reasoning: None,
            max_output: None,
            stream: None,
            user: None,
            user_is_pseudonym: false,
            service_tier: service_tier.map(|tier| tier.to_ascii_lowercase()),
            extensions: Extensions::default(),
        };
        if let Some(raw) = object.take("toolConfig") {
            tool_config(raw, &mut request, &root.key("toolConfig"))?;
        }
        if let Some(raw) = object.take("generationConfig") {
            generation_config(raw, &mut request, &root.key("generationConfig"))?;
        }
        let rest = wire::extensions(object, "", wire::severity);
        request.extensions.0.extend(rest.0);
        Ok(request)
    }

    fn encode_response(&self, response: &Response, losses: &mut Losses) -> Bytes {
        reply::encode(response, losses)
    }

    fn encode_stream(&self, stream: StreamOptions) -> Box<dyn EncodeStream> {
        Box::new(emit::Encoder::new(stream))
    }

    fn encode_error(&self, error: &ApiError) -> Bytes {
        error::encode(error)
    }

    fn encode_error_event(&self, error: &ApiError) -> Bytes {
        Bytes::from(emit::error_event(error))
    }

    fn keep_alive(&self, stream: StreamOptions) -> &'static [u8] {
        emit::keep_alive(stream)
    }

    fn names_model(&self) -> name::Place {
        name::Place::MODEL_VERSION
    }

    fn reframe(&self, stream: StreamOptions) -> Option<Box<dyn Reframe>> {
        let array = emit::Array::new(stream)?;
        Some(Box::new(array))
    }

    fn field(&self, field: &Field) -> Cow<'static, str> {
        Cow::Borrowed(match field {
            Field::Instructions => "systemInstruction",
            Field::Message(index) => return Cow::Owned(format!("contents[{index}]")),
            // One tool of the document declares many functions.
            Field::Tool(_) => "tools",
            Field::ToolChoice => "toolConfig.functionCallingConfig",
            Field::ParallelToolCalls => "toolConfig",
            Field::Output => "generationConfig.responseSchema",
            Field::Temperature => "generationConfig.temperature",
            Field::TopP => "generationConfig.topP",
            Field::TopK => "generationConfig.topK",
            Field::Seed => "generationConfig.seed",
            Field::FrequencyPenalty => "generationConfig.frequencyPenalty",
            Field::PresencePenalty => "generationConfig.presencePenalty",
            Field::Logprobs => "generationConfig.responseLogprobs",
            Field::Stop => "generationConfig.stopSequences",
            Field::Choices => "generationConfig.candidateCount",
            Field::Reasoning => "generationConfig.thinkingConfig",
            Field::MaxOutput => "generationConfig.maxOutputTokens",
            Field::User => "user",
            Field::ServiceTier => "serviceTier",
            Field::Cache => "cachedContent",
            Field::Extension(key) => return Cow::Owned(key.clone()),
            Field::Reply(part) => part,
            Field::Member(path) => return Cow::Owned(path.to_string()),
        })
    }
}

fn instructions(
    raw: &RawValue,
    reader: &mut Reader,
    path: &Path<'_>,
    losses: &mut Losses,
) -> Result<Vec<Part>, ApiError> {
    if json::kind(raw) == Kind::String {
        return Ok(vec![Part::text(json::read::<String>(raw, path)?)]);
    }
    let mut content = wire::object(raw, path)?;
    let parts = reader.parts(&mut content, Role::System, path)?;
    content.take("role");
    losses.rest(content, path);
    Ok(parts)
}

fn tools(raw: &RawValue, path: &Path<'_>) -> Result<Vec<Tool>, ApiError> {
    let mut tools = Vec::new();
    for (index, raw) in json::elements(raw, path)?.into_iter().enumerate() {
        let path = path.index(index);
        let mut tool = wire::object(raw, &path)?;
        if let Some(raw) = tool.take("functionDeclarations") {
            let path = path.key("functionDeclarations");
            for (index, raw) in json::elements(raw, &path)?.into_iter().enumerate() {
                tools.push(function(raw, &path.index(index))?);
            }
        }
        // Every other member is a tool of the provider's own.
        for Extension { key, value, .. } in wire::extensions(tool, "", |_| Severity::Material).0 {
            tools.push(Tool {
                body: ToolBody::Native {
                    format: Format::Gemini,
                    raw: json::raw(&BTreeMap::from([(&key, &value)])),
                    kind: key,
                },
                cache: None,
                extensions: Extensions::default(),
            });
        }
    }
    Ok(tools)
}

fn function(raw: &RawValue, path: &Path<'_>) -> Result<Tool, ApiError> {
    let mut function = wire::object(raw, path)?;
    let own = function.take("parameters");
    let json_schema = function.take("parametersJsonSchema");
    let parameters = match (own, json_schema) {
        (Some(_), Some(_)) => {
            let reason = "\"parameters\" and \"parametersJsonSchema\" exclude each other";
            return Err(path.invalid(reason));
        }
        (Some(schema), None) => Some(restored(schema, &path.key("parameters"))?),
        (None, Some(schema)) => {
            if json::kind(schema) != Kind::Object {
                return Err(path.key("parametersJsonSchema").invalid("expected an object"));
            }
            Some(schema.to_owned())
        }
        (None, None) => None,
    };
    Ok(Tool {
        body: ToolBody::Function {
            name: function.required("name", path)?,
            description: function.optional("description", path)?,
            parameters,
            strict: None,
        },
        cache: None,
        extensions: wire::extensions(function, "", |_| Severity::Advisory),
    })
}

/// Returns `raw`, a schema in the format's own form, as a JSON schema.
fn restored(raw: &RawValue, path: &Path<'_>) -> Result<Box<RawValue>, ApiError> {
    let schema: Value = json::read(raw, path)?;
    if !schema.is_object() {
        return Err(path.invalid("expected an object"));
    }
    Ok(json::raw(&schema::restore(&schema)))
}

fn tool_config(raw: &RawValue, request: &mut Request, path: &Path<'_>) -> Result<(), ApiError> {
    let mut config = wire::object(raw, path)?;
    let path = path.key("functionCallingConfig");
    if let Some(raw) = config.take("functionCallingConfig") {
        let mut calling = wire::object(raw, &path)?;
        let mode: Option<String> = calling.optional("mode", &path)?;
        let names: Option<Vec<String>> = calling.optional("allowedFunctionNames", &path)?;
        let names = names.unwrap_or_default();
        let extension = |key: &str, value: Box<RawValue>, severity| Extension {
            format: Format::Gemini,
            key: format!("{CALLING}{key}"),
            value,
            severity,
        };
        request.tool_choice = match (mode.as_deref(), names.as_slice()) {
            (None | Some("MODE_UNSPECIFIED"), []) => None,
            (None | Some("MODE_UNSPECIFIED" | "AUTO"), _) => Some(ToolChoice::Auto),
            (Some("NONE"), _) => Some(ToolChoice::None),
            (Some("ANY"), [only]) => Some(ToolChoice::Tool(only.clone())),
            (Some("ANY"), _) => Some(ToolChoice::Required),
            (Some("VALIDATED"), _) => {
                let value = json::raw("VALIDATED");
                let validated = extension("mode", value, Severity::Advisory);
                request.extensions.0.push(validated);
                Some(ToolChoice::Auto)
            }
            (Some(_), _) => {
                let reason = "expected \"AUTO\", \"ANY\", \"NONE\" or \"VALIDATED\"";
                return Err(path.key("mode").invalid(reason));
            }
        };
        let said = matches!(
            request.tool_choice,
            Some(ToolChoice::Tool(_) | ToolChoice::None) | None
        );
        if !said && !names.is_empty() && !names_all(&names, &request.tools) {
            let value = json::raw(&names);
            let only = extension("allowedFunctionNames", value, Severity::Material);
            request.extensions.0.push(only);
        }
        let rest = wire::extensions(calling, CALLING, |_| Severity::Advisory);
        request.extensions.0.extend(rest.0);
    }
    let rest = wire::extensions(config, TOOLS, |_| Severity::Advisory);
    request.extensions.0.extend(rest.0);
    Ok(())
}

/// Returns whether `names` are those of all functions among `tools`.
fn names_all(names: &[String], tools: &[Tool]) -> bool {
    tools.iter().all(|tool| match &tool.body {
        ToolBody::Function { name, .. } => names.contains(name),
        ToolBody::Native { .. } => true,
    })
}

fn generation_config(raw: &RawValue, request: &mut Request, path: &Path<'_>) -> Result<(), ApiError> {
    let mut config = wire::object(raw, path)?;
    request.max_output = whole(&mut config, "maxOutputTokens", path)?;
    let logprobs = config
        .optional::<bool>("responseLogprobs", path)?
        .unwrap_or(false);
    let alternatives = whole(&mut config, "logprobs", path)?;
    request.sampling = Sampling {
        temperature: config.optional("temperature", path)?,
        top_p: config.optional("topP", path)?,
        top_k: whole(&mut config, "topK", path)?,
        seed: config.optional("seed", path)?,
        frequency_penalty: config.optional("frequencyPenalty", path)?,
        presence_penalty: config.optional("presencePenalty", path)?,
        stop: config.optional("stopSequences", path)?.unwrap_or_default(),
        choices: whole(&mut config, "candidateCount", path)?,
        logprobs: logprobs.then(|| alternatives.unwrap_or(0)),
    };
    if let Some(raw) = config.take("thinkingConfig") {
        thinking(raw, request, &path.key("thinkingConfig"))?;
    }
    output(&mut config, request, path)?;
    let rest = wire::extensions(config, CONFIG, |key| match key {
        // Pictures or sound in place of text are another answer.
        "responseModalities" => Severity::Material,
        _ => Severity::Advisory,
    });
    let modalities = |extension: &Extension| {
        extension.key.ends_with("responseModalities") && extension.value.get() == r#"["TEXT"]"#
    };
    let rest = rest.0.into_iter().filter(|extension| !modalities(extension));
    request.extensions.0.extend(rest);
    Ok(())
}

/// Takes a whole number out, which may be written as a fraction.
fn whole(object: &mut Object<'_>, key: &str, path: &Path<'_>) -> Result<Option<u64>, ApiError> {
    match object.optional::<f64>(key, path)? {
        Some(number) if number < 0.0 || number.fract() != 0.0 => {
            Err(path.key(key).invalid("expected a whole number of at least 0"))
        }
        number => Ok(number.map(|number| number as u64)),
    }
}

fn thinking(raw: &RawValue, request: &mut Request, path: &Path<'_>) -> Result<(), ApiError> {
    let mut thinking = wire::object(raw, path)?;
    let budget: Option<i64> = thinking.optional("thinkingBudget", path)?;
    let level: Option<String> = thinking.optional("thinkingLevel", path)?;
    let shown: Option<bool> = thinking.optional("includeThoughts", path)?;
    let level = level.filter(|level| level != "THINKING_LEVEL_UNSPECIFIED");
    let (mode, budget) = match budget.map(u64::try_from) {
        Some(Ok(0)) => (Some(ReasoningMode::Disabled), None),
        Some(Ok(budget)) => (Some(ReasoningMode::Enabled), Some(budget)),
        Some(Err(_)) => (Some(ReasoningMode::Adaptive), None),
        // Models think unless told not to, so who wants to see it wants what there is.
        None if level.is_none() && shown == Some(true) => (Some(ReasoningMode::Adaptive), None),
        None => (None, None),
    };
    let display = match shown {
        Some(true) => "summarized",
        Some(false) | None => "omitted",
    };
    if mode.is_some() || level.is_some() {
        request.reasoning = Some(Reasoning {
            mode,
            effort: level.map(|level| level.to_ascii_lowercase()),
            budget,
            display: (mode != Some(ReasoningMode::Disabled)).then(|| display.to_owned()),
        });
    }
    let rest = wire::extensions(thinking, THINKING, |_| Severity::Advisory);
    request.extensions.0.extend(rest.0);
    Ok(())
}

/// Reads the form of the answer. One that is neither text nor JSON is an extension without which the request
/// means something else.
fn output(config: &mut Object<'_>, request: &mut Request, path: &Path<'_>) -> Result<(), ApiError> {
    let media_type: Option<String> = config.optional("responseMimeType", path)?;
    let mut foreign = |key: &str, value: Box<RawValue>| {
        request.extensions.0.push(Extension {
            format: Format::Gemini,
            key: format!("{CONFIG}{key}"),
            value,
            severity: Severity::Material,
        });
    };
    let schema = match media_type.as_deref() {
        None | Some("" | "text/plain" | "application/json") => {
            let own = config.take("responseSchema");
            let json_schema = config.take("responseJsonSchema");
            match (own, json_schema) {
                (Some(schema), _) => Some(restored(schema, &path.key("responseSchema"))?),
                (None, Some(schema)) if json::kind(schema) == Kind::Object => Some(schema.to_owned()),
                (None, Some(_)) => {
                    return Err(path.key("responseJsonSchema").invalid("expected an object"));
                }
                (None, None) => None,
            }
        }
        Some(other) => {
            foreign("responseMimeType", json::raw(other));
            for key in ["responseSchema", "responseJsonSchema"] {
                if let Some(schema) = config.take(key) {
                    foreign(key, schema.to_owned());
                }
            }
            return Ok(());
        }
    };
    request.output = match schema {
        Some(schema) => Output::JsonSchema {
            name: String::new(),
            description: None,
            schema,
            strict: None,
        },
        None => match media_type.as_deref() {
            Some("application/json") => Output::JsonObject,
            Some("text/plain") => Output::Plain,
            _ => Output::Text,
        },
    };
    Ok(())
}
