//! Nothing vanishes: a member that nobody has heard of, wherever it stands in a request or a reply, is delivered or
//! reported.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use http::HeaderMap;
use llm::{
    ApiError, Call, Endpoint, Field, Format, Inbound, Losses, Reply, Site, Target,
    provider::{AiStudio, Anthropic, Bedrock, GROQ, OPENAI_RESPONSES, Provider},
};
use serde_json::{Value, json};

mod errors;
mod events;
mod replies;
mod requests;

/// A name and a value that no format has.
const MEMBER: &str = "unheard";
const VALUE: &str = "nobody knows this";

/// Where clients of a format ask, and the least that they ask for.
const CLIENTS: &[(Format, &str, &str)] = &[
    (
        Format::OpenAi,
        "/v1/chat/completions",
        r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#,
    ),
    (
        Format::Messages,
        "/anthropic/v1/messages",
        r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#,
    ),
    (
        Format::Responses,
        "/v1/responses",
        r#"{"model":"m","input":"hi"}"#,
    ),
    (
        Format::Gemini,
        "/v1beta/models/m:generateContent",
        r#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}"#,
    ),
];

/// Who answers in a format, and in no other that a client speaks, with a model.
const ANSWERING: &[(Format, &dyn Provider, &str)] = &[
    (Format::OpenAi, &GROQ, "openai/gpt-oss-120b"),
    (Format::Messages, &Anthropic, "claude-sonnet-4-6"),
    (Format::Responses, &OPENAI_RESPONSES, "gpt-5-mini"),
    (Format::Gemini, &AiStudio, "gemini-3-flash-preview"),
    (Format::Converse, &Bedrock, "us.anthropic.claude-sonnet-4-6"),
];

/// Members of replies that repeat the request or break sums down, with all that is in them.
const SILENT: &[&str] = &[
    "metadata",
    "metrics",
    "promptTokensDetails",
    "reasoning",
    "candidatesTokensDetails",
    "text",
    "tool_choice",
    "tools",
];

/// What was neither delivered nor reported, and of how many.
#[derive(Default)]
struct Vanished {
    asked: usize,
    places: BTreeSet<String>,
}

impl Vanished {
    /// Notes what became of the member at `place`, told by `whom`.
    fn note(&mut self, whom: &str, place: &str, is_there: bool) {
        self.asked += 1;
        if !is_there {
            self.places.insert(format!("{whom}: {place}"));
        }
    }

    /// Holds that nothing vanished of at least `enough`.
    #[track_caller]
    fn none_of(&self, enough: usize) {
        assert!(self.asked >= enough, "{} are few", self.asked);
        assert!(
            self.places.is_empty(),
            "{} of {}: {:#?}",
            self.places.len(),
            self.asked,
            self.places
        );
    }
}

/// Returns the files called `name` of the fixtures of `format`.
fn fixtures(format: Format, name: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(format.name());
    let cases = fs::read_dir(folder).expect("the folder of fixtures is there");
    let mut files: Vec<PathBuf> = cases
        .map(|case| case.expect("the folder can be listed").path().join(name))
        .filter(|file| file.exists())
        .collect();
    files.sort();
    files
}

fn read(file: &Path) -> Value {
    let text = fs::read(file).expect("the fixture can be read");
    serde_json::from_slice(&text).expect("the fixture is JSON")
}

/// Returns `document` with the member in one of its objects, for each of them, and where that stands.
fn mutants(document: &Value) -> Vec<(String, Value)> {
    let mut places = Vec::new();
    objects(document, String::new(), &mut places);
    let add = |place: String| {
        let mut more = document.clone();
        let object = more.pointer_mut(&place).expect("the object is there");
        object[MEMBER] = json!(VALUE);
        (place, more)
    };
    places.into_iter().map(add).collect()
}

/// Collects where the objects of `value`, which stands at `place`, stand.
fn objects(value: &Value, place: String, places: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                objects(member, format!("{place}/{key}"), places);
            }
            places.push(place);
        }
        Value::Array(elements) => {
            for (index, element) in elements.iter().enumerate() {
                objects(element, format!("{place}/{index}"), places);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Returns whether `losses` name the member.
fn names(losses: &Losses, format: Format) -> bool {
    let mut losses = losses.iter();
    losses.any(|loss| format.field(&loss.field).contains(MEMBER) || loss.reason.contains(MEMBER))
}

/// Returns whether something is lost of which what stands at `place` of `document` is a part: a member that is known to
/// one format, or that nobody reads, or all that is of a type.
fn lost_with(place: &str, document: &Value, losses: &Losses) -> bool {
    let mut around = vec![document];
    for segment in place.split('/').skip(1) {
        let within = around.last().expect("the document is there");
        around.push(match within {
            Value::Array(elements) => &elements[segment.parse::<usize>().expect("an index")],
            other => &other[segment],
        });
    }
    let is_around = |name: &str| {
        let mut segments = place.split('/');
        let mut types = around.iter().map(|value| &value["type"]);
        // A list is lost by its name, and each of its elements comes alone in a stream.
        segments.any(|segment| segment == name || name.strip_suffix('s') == Some(segment))
            || types.any(|kind| kind == name)
    };
    let last = |path: &str| {
        let name = path.rsplit('.').next().unwrap_or(path);
        is_around(name.trim_end_matches("[]"))
    };
    losses.iter().any(|loss| {
        let known = loss.reason.split_once(" is known to ");
        let part = match &loss.field {
            Field::Reply(part) => last(part),
            Field::Member(path) => last(path),
            _ => false,
        };
        part || known.is_some_and(|(member, _)| last(member))
    })
}

/// Returns whether what stands at `place` of a reply is known to say nothing.
fn is_silent(place: &str) -> bool {
    let place = place.strip_prefix("/response").unwrap_or(place);
    let mut segments = place.split('/').skip(1).take(2);
    segments.any(|segment| SILENT.contains(&segment))
}

/// Returns what becomes of an answer in `upstream` to a client of another format; `None` if they share it.
fn reply(path: &str, body: &str, upstream: Format) -> Option<Reply> {
    let row = ANSWERING.iter().find(|(format, _, _)| *format == upstream);
    let (_, provider, model) = row.expect("somebody answers in every format");
    let body: Value = serde_json::from_str(body).expect("the request is JSON");
    let call = call(path, &body, *provider, model).expect("the request can be said to any upstream");
    matches!(call.reply, Reply::Translate(_)).then_some(call.reply)
}

fn call(
    path: &str,
    document: &Value,
    provider: &'static dyn Provider,
    model: &str,
) -> Result<Call, ApiError> {
    let place = Endpoint::find(path, "").expect("the path is in the table");
    let site = Site::default();
    let target = Target {
        provider,
        site: &site,
        model,
        now: 1_700_000_000,
    };
    Inbound::parse(place, Bytes::from(document.to_string()))?.call(&target, &HeaderMap::new())
}
