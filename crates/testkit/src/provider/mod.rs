//! An upstream that behaves like a provider: strict about what it takes, deterministic in what it says.
//!
//! What is said follows from the request alone, by `Turn::of`; the formats only read the request and write
//! the answer. Some words in the model's name bring faults about: `fail-429`, `stall`, `stall-stream`.

mod converse;
mod documents;
mod forms;
mod gemini;
mod messages;
mod openai;
mod responses;

use serde_json::Value;

use crate::{
    script::{Reply, Script},
    upstream::{Received, Upstream},
};

/// Which provider is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// Chat completions at `/v1/chat/completions`, and Responses at `/v1/responses`.
    OpenAi,
    /// Messages at `/v1/messages`.
    Messages,
}

/// Which cloud is played, where paths, credentials and framing are its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cloud {
    /// Chat completions and Responses at Azure OpenAI.
    Azure,
    /// Gemini at AI Studio.
    AiStudio,
    /// Gemini at Vertex AI.
    Vertex,
    /// Claude at Vertex AI.
    VertexClaude,
    /// Converse at Amazon Bedrock.
    Converse,
    /// Claude at Amazon Bedrock, through `InvokeModel`.
    InvokeModel,
    /// Rerank and embeddings at Cohere.
    Cohere,
}

impl Provider {
    /// Returns a server that plays the provider and takes only `key`.
    ///
    /// # Panics
    /// If the loopback interface cannot be bound.
    pub async fn start(self, key: &str) -> Upstream {
        Upstream::start(self.script(key)).await
    }

    /// Returns the script that such a server plays.
    pub fn script(self, key: &str) -> Script {
        let key = key.to_owned();
        Script::answer(move |request| self.reply(request, &key))
    }

    /// Returns the reply to one request.
    pub fn reply(self, request: &Received, key: &str) -> Reply {
        match self {
            Provider::OpenAi => openai::reply(request, key),
            Provider::Messages => messages::reply(request, key),
        }
    }
}

impl Cloud {
    /// Returns a server that plays the cloud and takes only `key`.
    ///
    /// # Panics
    /// If the loopback interface cannot be bound.
    pub async fn start(self, key: &str) -> Upstream {
        Upstream::start(self.script(key)).await
    }

    /// Returns the script that such a server plays.
    pub fn script(self, key: &str) -> Script {
        let key = key.to_owned();
        Script::answer(move |request| match self {
            Cloud::Azure => openai::azure(request, &key),
            Cloud::AiStudio => gemini::ai_studio(request, &key),
            Cloud::Vertex => gemini::vertex(request, &key),
            Cloud::VertexClaude => messages::vertex(request, &key),
            Cloud::Converse => converse::reply(request, &key),
            Cloud::InvokeModel => messages::invoke(request, &key),
            Cloud::Cohere => documents::cohere(request, &key),
        })
    }
}

/// What a format has read out of a request.
#[derive(Default)]
struct Asked {
    model: String,
    stream: bool,
    /// The most tokens, that is words, that may be said.
    limit: usize,
    /// What the user said last, all texts together.
    said: String,
    /// What the user showed last: `image/png (96 characters)` or an address.
    shown: Vec<String>,
    /// The results of tools since the last turn of the assistant.
    results: Vec<String>,
    tools: Vec<String>,
    /// The tool that must be called, or an empty name for any.
    forced: Option<String>,
    /// Whether tools must not be called.
    forbidden: bool,
    /// Whether several tools may be called at once.
    parallel: bool,
    schema: Option<Value>,
    thinks: bool,
    /// All text of the conversation, in bytes.
    length: usize,
}

/// What a provider says.
struct Turn {
    thinking: Option<String>,
    text: Option<String>,
    calls: Vec<Called>,
    /// Whether the answer was cut at the limit.
    limited: bool,
}

/// A call of a tool.
struct Called {
    id: String,
    name: String,
    arguments: Value,
}

impl Turn {
    /// Decides what is said.
    fn of(asked: &Asked) -> Self {
        let thinking = asked
            .thinks
            .then(|| format!("The user wrote {} bytes.", asked.said.len()));
        let calls = calls(asked);
        if !calls.is_empty() {
            return Self {
                thinking,
                text: None,
                calls,
                limited: false,
            };
        }
        let text = match &asked.schema {
            Some(schema) => example(schema).to_string(),
            None => speech(asked),
        };
        let (text, limited) = limit(text, asked.limit);
        Self {
            thinking,
            text: Some(text),
            calls,
            limited,
        }
    }

    /// Returns the pieces in which the text is streamed.
    fn pieces(&self) -> Vec<&str> {
        self.text
            .as_deref()
            .map(|text| text.split_inclusive(' ').collect())
            .unwrap_or_default()
    }

    /// Returns input, reasoning and output tokens; reasoning counts as output too.
    fn usage(&self, asked: &Asked) -> (usize, usize, usize) {
        let reasoning = self
            .thinking
            .as_deref()
            .map_or(0, |thinking| thinking.split(' ').count());
        let called: usize = self
            .calls
            .iter()
            .map(|call| 3 + call.arguments.to_string().len() / 4)
            .sum();
        let output = reasoning + called + self.pieces().len();
        (prompt_tokens(asked), reasoning, output)
    }
}

/// Returns how many tokens were asked.
fn prompt_tokens(asked: &Asked) -> usize {
    4 + asked.length / 4
}

/// Decides which tools are called: one for each place that is named in a question about the weather.
fn calls(asked: &Asked) -> Vec<Called> {
    let wanted = asked.said.contains("weather") || asked.forced.is_some();
    let Some(first) = asked.tools.first() else {
        return Vec::new();
    };
    if asked.forbidden || !wanted || !asked.results.is_empty() {
        return Vec::new();
    }
    let name = asked
        .forced
        .as_ref()
        .filter(|forced| !forced.is_empty())
        .unwrap_or(first);
    let mut places: Vec<&str> = PLACES
        .iter()
        .copied()
        .filter(|place| asked.said.contains(place))
        .collect();
    if places.is_empty() {
        places.push("Nowhere");
    }
    places.truncate(if asked.parallel { places.len() } else { 1 });
    places
        .iter()
        .enumerate()
        .map(|(index, place)| Called {
            id: format!("call_{}_{index}", place.to_lowercase()),
            name: name.clone(),
            arguments: serde_json::json!({ "city": place }),
        })
        .collect()
}

fn speech(asked: &Asked) -> String {
    if !asked.results.is_empty() {
        return format!("The tools say: {}", asked.results.join("; "));
    }
    if !asked.shown.is_empty() {
        return format!("I see {}", asked.shown.join(" and "));
    }
    if asked.said.len() > 1000 {
        return format!("You wrote {} bytes", asked.said.len());
    }
    format!("You said: {}", asked.said)
}

/// Cuts `text` to `limit` words; says whether that was needed.
fn limit(text: String, limit: usize) -> (String, bool) {
    let words: Vec<&str> = text.split_inclusive(' ').collect();
    if limit == 0 || words.len() <= limit {
        return (text, false);
    }
    (words.get(..limit).unwrap_or_default().concat(), true)
}

/// Returns a document that fits `schema`.
fn example(schema: &Value) -> Value {
    if let Some(first) = schema.pointer("/enum/0") {
        return first.clone();
    }
    let branch = schema.pointer("/anyOf/0").unwrap_or(schema);
    match branch.get("type").and_then(Value::as_str) {
        Some("object") => branch
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .map(|(key, property)| (key.clone(), example(property)))
            .collect(),
        Some("array") => Value::from(vec![example(branch.get("items").unwrap_or(&Value::Null))]),
        Some("integer") => Value::from(7),
        Some("number") => Value::from(1.5),
        Some("boolean") => Value::from(true),
        _ => Value::from("sample"),
    }
}

/// Returns the fault that the model's name asks for.
fn fault(model: &str) -> Option<Fault> {
    if model.contains("stall-stream") {
        return Some(Fault::StallStream);
    }
    if model.contains("stall") {
        return Some(Fault::Stall);
    }
    let (_, status) = model.split_once("fail-")?;
    Some(Fault::Status(status.get(..3)?.parse().ok()?))
}

/// A fault on demand.
enum Fault {
    /// An error with this status.
    Status(u16),
    /// No answer at all.
    Stall,
    /// A stream that says its first word and then nothing more.
    StallStream,
}

const PLACES: &[&str] = &["Paris", "London", "Tokyo"];
