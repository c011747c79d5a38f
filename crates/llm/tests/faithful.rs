//! Nothing vanishes: a member that nobody has heard of, wherever it stands in a request, reaches the upstream or
//! is reported, or the request is refused.

use std::{collections::BTreeSet, fs, path::Path};

use bytes::Bytes;
use http::HeaderMap;
use llm::{
    ApiError, Call, Endpoint, Inbound, Loss, Losses, Site, Target,
    provider::{
        AiStudio, Anthropic, Bedrock, BedrockClaude, OPENAI_RESPONSES, OpenAi, Provider, VertexClaude,
    },
};
use serde_json::{Value, json};

/// The upstreams, each with a model that takes everything.
const UPSTREAMS: &[(&dyn Provider, &str)] = &[
    (&OpenAi, "gpt-5-mini"),
    (&OPENAI_RESPONSES, "gpt-5-mini"),
    (&Anthropic, "claude-sonnet-4-6"),
    (&BedrockClaude, "us.anthropic.claude-sonnet-4-6"),
    (&VertexClaude, "claude-sonnet-4-6"),
    (&Bedrock, "us.anthropic.claude-sonnet-4-6"),
    (&AiStudio, "gemini-3-flash-preview"),
];

/// A name and a value that no format has.
const MEMBER: &str = "unheard_of";
const VALUE: &str = "nobody knows this";

#[test]
fn what_clients_of_messages_add_is_delivered_or_reported() {
    check("messages", "/anthropic/v1/messages");
}

/// Adds the member to every object of every fixture of `format`, one at a time.
#[track_caller]
fn check(format: &str, path: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(format);
    let mut vanished = BTreeSet::new();
    let mut asked = 0;
    for case in fs::read_dir(folder).expect("the folder of fixtures is there") {
        let file = case
            .expect("the folder can be listed")
            .path()
            .join("request.json");
        let document: Value = serde_json::from_slice(&fs::read(&file).expect("every case has a request"))
            .expect("the request is JSON");
        let mut places = Vec::new();
        objects(&document, String::new(), &mut places);
        for (provider, model) in UPSTREAMS {
            let plain = call(path, &document, *provider, model).map(|call| call.losses);
            for place in &places {
                let mut more = document.clone();
                let object = more.pointer_mut(place).expect("the object is there");
                object[MEMBER] = json!(VALUE);
                asked += 1;
                let Ok(call) = call(path, &more, *provider, model) else {
                    continue;
                };
                let delivered = String::from_utf8_lossy(&call.body).contains(VALUE);
                let before = plain.as_ref().map_or(0, |losses| losses.iter().count());
                let reported = call.losses.iter().count() > before || lost_with(place, &call.losses);
                if !delivered && !reported && !is_forbidden(place, &document) {
                    vanished.insert(format!("{}: {} of {}", provider.id(), place, file.display()));
                }
            }
        }
    }
    assert!(asked > 1000, "{asked} requests are few");
    assert!(vanished.is_empty(), "{vanished:#?}");
}

/// Returns whether something is lost of which what stands at `place` is a part.
fn lost_with(place: &str, losses: &Losses) -> bool {
    let whole = |loss: &Loss| {
        let member = loss.reason.strip_suffix(" is known to messages only");
        let key = member.map(|member| member.rsplit('.').next().unwrap_or(member));
        let within = |key: &str| place.split('/').any(|segment| segment == key);
        key.is_some_and(within)
    };
    losses.iter().any(whole)
}

/// Returns whether what stands at `place` is a tool that must not be called: where tools cannot be forbidden they
/// are not offered, which comes to the same.
fn is_forbidden(place: &str, document: &Value) -> bool {
    place.starts_with("/tools") && document["tool_choice"]["type"] == "none"
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
