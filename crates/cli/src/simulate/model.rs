//! The simulated model: a request in the neutral form to an answer, with no chance and no memory in it.
//!
//! It is there to be talked to without a key, so it behaves as models do where clients can tell: it calls tools
//! when asked to, keeps to a schema, stops where it is told to and counts what it reads and writes. What it
//! says is an echo.

use std::hash::{DefaultHasher, Hash, Hasher};

use llm::{
    ApiError, Format, Usage,
    chat::{
        Choice, Finish, FinishReason, Head, Output, Part, PartBody, Reasoned, Reasoning, ReasoningMode,
        Request, Response, Role, Seal, ToolBody, ToolCall, ToolChoice, ToolKind, ToolResult,
    },
    media::{Media, Source},
};
use serde_json::Value;

use super::{instance, tokens};

/// Returns the answer to `request` in the manners of `format`'s own provider. `now` is in seconds since the
/// Unix epoch.
///
/// # Errors
/// A 400, if the request demands a tool that it does not offer, or more answers than can be given.
pub(crate) fn answer(request: &Request, format: Format, now: u64) -> Result<Response, ApiError> {
    let heard = Heard::of(request);
    let tools = Offer::of(request);
    let id = fingerprint(request, &heard);
    let calls = called(request, &heard, &tools)?;
    let mut parts = Vec::new();
    let mut reasoning = 0;
    if let Some(thought) = thought(request, &heard) {
        reasoning = tokens::of(&thought);
        if format == Format::Messages {
            parts.push(reasoned(request, thought, id));
        }
    }
    let (finish, output) = if calls.is_empty() {
        let room = request.max_output.map(|max| max.saturating_sub(reasoning));
        let (text, finish) = limit(say(request, &heard)?, &request.sampling.stop, room);
        let output = tokens::of(&text);
        parts.push(Part::text(text));
        (finish, output)
    } else {
        let output = calls
            .iter()
            .map(|(tool, arguments)| tokens::CALL + tokens::of(tool.name) + tokens::of(arguments))
            .sum();
        parts.extend(calls.into_iter().enumerate().map(|(index, (tool, arguments))| {
            let prefix = if format == Format::Messages {
                "toolu"
            } else {
                "call"
            };
            Part::new(PartBody::ToolCall(ToolCall {
                id: format!("{prefix}_{id:016x}{index:02x}"),
                name: tool.name.to_owned(),
                arguments,
                kind: ToolKind::Function,
            }))
        }));
        (reason(FinishReason::ToolCalls), output)
    };
    let choices = request.sampling.choices.unwrap_or(1);
    if !(1..=MAX_CHOICES).contains(&choices) {
        return Err(
            ApiError::invalid(format!("n: between 1 and {MAX_CHOICES} answers can be given")).with_param("n"),
        );
    }
    let usage = Usage {
        output: Some((reasoning + output) * choices),
        reasoning: Some(reasoning * choices),
        ..tokens::prompt(request)
    };
    let choice = Choice { parts, finish };
    Ok(Response {
        head: Head {
            id: match format {
                Format::Messages => format!("msg_{id:016x}"),
                Format::Responses => format!("resp_{id:016x}"),
                Format::OpenAi | Format::Gemini | Format::Converse | Format::Cohere => {
                    format!("chatcmpl-{id:016x}")
                }
            },
            model: request.model.clone(),
            created: Some(now),
            ..Head::default()
        },
        choices: (0..choices).map(|_| choice.clone()).collect(),
        usage,
    })
}

/// What the last turns hold.
struct Heard<'a> {
    /// The text of the user's last turn that has any.
    text: String,
    /// The media of the last turn.
    media: Vec<&'a Media>,
    /// The results of tools in the last turn.
    results: Vec<&'a ToolResult>,
}

impl<'a> Heard<'a> {
    fn of(request: &'a Request) -> Self {
        let mut heard = Self {
            text: String::new(),
            media: Vec::new(),
            results: Vec::new(),
        };
        let answered = request
            .turns
            .iter()
            .rposition(|turn| turn.role == Role::Assistant)
            .map_or(0, |at| at + 1);
        let new = request.turns.get(answered..).unwrap_or_default();
        for part in new
            .iter()
            .filter(|turn| turn.role == Role::User)
            .flat_map(|turn| &turn.parts)
        {
            match &part.body {
                PartBody::Text(text) => {
                    if !heard.text.is_empty() {
                        heard.text.push('\n');
                    }
                    heard.text.push_str(text);
                }
                PartBody::Media(media) => heard.media.push(media),
                PartBody::SearchResult(result) => heard.text.push_str(&result.to_text()),
                PartBody::ToolResult(result) => heard.results.push(result),
                PartBody::Reasoning(_)
                | PartBody::ToolCall(_)
                | PartBody::Refusal(_)
                | PartBody::Native { .. } => {}
            }
        }
        heard
    }
}

/// A tool that can be called.
#[derive(Clone, Copy)]
struct Offer<'a> {
    name: &'a str,
    parameters: Option<&'a str>,
}

impl<'a> Offer<'a> {
    /// Returns the functions that `request` offers. Tools that a provider runs itself are not simulated.
    fn of(request: &'a Request) -> Vec<Self> {
        let offers = request.tools.iter().filter_map(|tool| match &tool.body {
            ToolBody::Function { name, parameters, .. } => Some(Offer {
                name,
                parameters: parameters.as_deref().map(|raw| raw.get()),
            }),
            ToolBody::Native { .. } => None,
        });
        offers.collect()
    }

    /// Returns arguments after the tool's schema, with words of the prompt where text is wanted.
    fn arguments(&self, prompt: &str) -> String {
        let schema = self.parameters.and_then(|text| serde_json::from_str(text).ok());
        match schema {
            Some(schema) => instance::of(&schema, prompt).to_string(),
            None => "{}".to_owned(),
        }
    }
}

/// Returns the tools that are to be called now and their arguments.
///
/// A turn that brings results is answered in words, even where a call is demanded, so that loops end.
fn called<'a>(
    request: &Request,
    heard: &Heard<'_>,
    tools: &[Offer<'a>],
) -> Result<Vec<(Offer<'a>, String)>, ApiError> {
    let mut chosen = match &request.tool_choice {
        Some(ToolChoice::Tool(name)) => {
            let tool = tools.iter().find(|tool| tool.name == name).copied();
            vec![tool.ok_or_else(|| {
                ApiError::invalid(format!("tool_choice: there is no tool \"{name}\" in tools"))
                    .with_param("tool_choice")
            })?]
        }
        Some(ToolChoice::Required) => {
            let first = tools.first().copied().ok_or_else(|| {
                ApiError::invalid("tool_choice: a tool must be called, but tools is empty")
                    .with_param("tool_choice")
            })?;
            let named = named(&heard.text, tools);
            if named.is_empty() { vec![first] } else { named }
        }
        Some(ToolChoice::None) => Vec::new(),
        Some(ToolChoice::Auto) | None => wanted(&heard.text, tools),
    };
    if !heard.results.is_empty() {
        return Ok(Vec::new());
    }
    if request.parallel_tool_calls == Some(false) {
        chosen.truncate(1);
    }
    let calls = chosen.into_iter().map(|tool| (tool, tool.arguments(&heard.text)));
    Ok(calls.collect())
}

/// Returns the tools that a prompt asks for: those it names, else the first if it asks for any.
fn wanted<'a>(prompt: &str, tools: &[Offer<'a>]) -> Vec<Offer<'a>> {
    let named = named(prompt, tools);
    if !named.is_empty() {
        return named;
    }
    let words = words(prompt);
    let asked = words
        .iter()
        .any(|word| word == "call" || word == "tool" || word == "tools");
    tools.iter().take(usize::from(asked)).copied().collect()
}

/// Returns the tools that a prompt names, in the order of the tools: by their whole name, in which `_` and `-`
/// may be spaces, or by a word of it that says what it is about, as `weather` in `get_weather`.
fn named<'a>(prompt: &str, tools: &[Offer<'a>]) -> Vec<Offer<'a>> {
    let said = words(prompt);
    let lower = prompt.to_lowercase();
    let whole = |tool: &&Offer<'a>| {
        let name = tool.name.to_lowercase();
        lower.contains(&name) || lower.contains(&name.replace(['_', '-'], " "))
    };
    let found: Vec<_> = tools.iter().filter(whole).copied().collect();
    if !found.is_empty() {
        return found;
    }
    let about = |tool: &&Offer<'a>| {
        words(tool.name)
            .iter()
            .any(|word| word.len() > 3 && !VERBS.contains(&word.as_str()) && said.contains(word))
    };
    tools.iter().filter(about).copied().collect()
}

fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

/// Returns what the model says when it calls nothing.
fn say(request: &Request, heard: &Heard<'_>) -> Result<String, ApiError> {
    match &request.output {
        Output::Text | Output::Plain => Ok(prose(request, heard)),
        Output::JsonObject => Ok(serde_json::json!({ "answer": prose(request, heard) }).to_string()),
        Output::JsonSchema { schema, .. } => {
            let schema: Value = serde_json::from_str(schema.get())
                .map_err(|error| ApiError::invalid(format!("the schema of the answer: {error}")))?;
            Ok(instance::of(&schema, &heard.text).to_string())
        }
    }
}

fn prose(request: &Request, heard: &Heard<'_>) -> String {
    if !heard.results.is_empty() {
        let results: Vec<_> = heard
            .results
            .iter()
            .map(|result| {
                let verb = if result.is_error == Some(true) {
                    "failed with"
                } else {
                    "answered"
                };
                let tool = caller(request, &result.call).unwrap_or("the tool");
                format!("{tool} {verb}: {}", gist(&text_of(&result.parts)))
            })
            .collect();
        return format!("Simulated answer of {}. {}", request.model, results.join(" "));
    }
    let mut said = format!("This is {}, a simulated model.", request.model);
    for media in &heard.media {
        said.push_str(&format!(" I was given {}.", describe(media)));
    }
    if heard.text.trim().is_empty() {
        said.push_str(" You said nothing in words.");
    } else {
        said.push_str(&format!(" You said: {}", gist(&heard.text)));
    }
    said
}

/// Returns the name of the tool that the call `id` went to.
fn caller<'a>(request: &'a Request, id: &str) -> Option<&'a str> {
    let parts = request.turns.iter().flat_map(|turn| &turn.parts);
    let mut calls = parts.filter_map(|part| {
        if let PartBody::ToolCall(call) = &part.body {
            Some(call)
        } else {
            None
        }
    });
    calls.find(|call| call.id == id).map(|call| call.name.as_str())
}

fn text_of(parts: &[Part]) -> String {
    let mut text = String::new();
    for part in parts {
        match &part.body {
            PartBody::Text(more) => text.push_str(more),
            PartBody::Media(media) => text.push_str(&format!("[{}]", describe(media))),
            PartBody::SearchResult(result) => text.push_str(&result.to_text()),
            PartBody::Reasoning(_)
            | PartBody::ToolCall(_)
            | PartBody::ToolResult(_)
            | PartBody::Refusal(_)
            | PartBody::Native { .. } => {}
        }
    }
    text
}

/// Returns a text on one line and not longer than an echo should be.
fn gist(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(GIST) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default().trim_end()),
        None => line,
    }
}

fn describe(media: &Media) -> String {
    let kind = media.kind.name();
    let article = if kind.starts_with(['a', 'i']) { "an" } else { "a" };
    match &media.source {
        Source::Inline { media_type, data } => {
            let bytes = data.trim_end_matches('=').len() * 3 / 4;
            format!("{article} {kind} ({media_type}, {bytes} bytes)")
        }
        Source::Text(text) => format!("{article} {kind} of {} characters", text.chars().count()),
        Source::Url(_) => format!("{article} {kind} by address"),
        Source::File { id, .. } => format!("{article} {kind} in the file {id}"),
    }
}

/// Returns what the model thinks, if it is asked to.
fn thought(request: &Request, heard: &Heard<'_>) -> Option<String> {
    let Reasoning {
        mode, effort, budget, ..
    } = request.reasoning.as_ref()?;
    let asked = match mode {
        Some(ReasoningMode::Disabled) => false,
        Some(ReasoningMode::Enabled | ReasoningMode::Adaptive) => true,
        None => {
            budget.is_some_and(|budget| budget > 0) || effort.as_deref().is_some_and(|word| word != "none")
        }
    };
    asked.then(|| {
        format!(
            "The user says \"{}\". An echo with a word about who I am is what helps here.",
            gist(&heard.text)
        )
    })
}

fn reasoned(request: &Request, thought: String, id: u64) -> Part {
    let omitted = request
        .reasoning
        .as_ref()
        .and_then(|asked| asked.display.as_deref())
        == Some("omitted");
    Part::new(PartBody::Reasoning(Reasoned {
        text: if omitted { String::new() } else { thought },
        seal: Some(Seal {
            issuer: Format::Messages,
            bytes: format!("c2ltdWxhdGVk{id:016x}").into(),
        }),
        redacted: false,
    }))
}

/// Cuts `text` before the first stop sequence and at the limit of tokens, and says which of them ended it.
fn limit(mut text: String, stop: &[String], max: Option<u64>) -> (String, Finish) {
    let mut finish = reason(FinishReason::Stop);
    let met = stop
        .iter()
        .filter(|stop| !stop.is_empty())
        .filter_map(|stop| text.find(stop.as_str()).map(|at| (at, stop)))
        .min_by_key(|(at, _)| *at);
    if let Some((at, stop)) = met {
        text.truncate(at);
        finish = Finish {
            stop_sequence: Some(stop.clone()),
            ..reason(FinishReason::StopSequence)
        };
    }
    if let Some(max) = max.filter(|max| tokens::of(&text) > *max) {
        text = tokens::first(&text, max).to_owned();
        finish = reason(FinishReason::Length);
    }
    (text, finish)
}

fn reason(reason: FinishReason) -> Finish {
    Finish {
        reason,
        ..Finish::default()
    }
}

/// Returns a number that is the same for the same conversation, for ids.
fn fingerprint(request: &Request, heard: &Heard<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    request.model.hash(&mut hasher);
    request.turns.len().hash(&mut hasher);
    heard.text.hash(&mut hasher);
    for result in &heard.results {
        result.call.hash(&mut hasher);
    }
    hasher.finish()
}

/// The most answers to one request.
const MAX_CHOICES: u64 = 128;

/// The most characters of a text that are repeated.
const GIST: usize = 240;

/// Words in the names of tools that do not say what a tool is about.
const VERBS: &[&str] = &[
    "call", "create", "data", "fetch", "find", "from", "list", "look", "lookup", "make", "query", "read",
    "search", "send", "show", "tool", "update", "with", "write",
];
