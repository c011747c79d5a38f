//! What needs the inside: one request, reply or event at a time.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

use crate::{
    ApiError, Format, Losses, Severity, Site, Target,
    chat::{DecodeReply, Request, Upstream, converse::Converse},
    provider::{Abilities, Bedrock, Flags},
};

mod replies;
mod requests;
mod streams;

/// A model that takes everything that the format has.
const CLAUDE: &str = "us.anthropic.claude-sonnet-4-6";

static SITE: Site = Site {
    prefix: None,
    version: None,
    flags: Flags::NONE,
    abilities: Abilities::NONE,
};

fn target(model: &str) -> Target<'_> {
    Target {
        provider: &Bedrock,
        site: &SITE,
        model,
        now: 1_700_000_000,
    }
}

/// Decodes `document` as the request of a client of `format`, with what every request must have added.
fn request(format: Format, mut document: Value) -> Request {
    let members = document.as_object_mut().unwrap();
    for (key, value) in [
        ("model", json!("m")),
        ("max_tokens", json!(4096)),
        ("messages", json!([{"role": "user", "content": "hi"}])),
    ] {
        members.entry(key).or_insert(value);
    }
    let client = format.client().unwrap();
    client
        .decode_request(document.to_string().as_bytes(), &mut Losses::default())
        .unwrap()
}

/// A document, the losses as words and what reads the reply.
type Encoded = (Value, Vec<String>, Box<dyn DecodeReply>);

/// Encodes `request` for `model`.
fn encode(request: &Request, model: &str) -> Result<Encoded, ApiError> {
    let mut losses = Losses::default();
    let (body, reply) = Converse.encode_request(request, &target(model), &mut losses)?;
    Ok((serde_json::from_slice(&body).unwrap(), words(&losses), reply))
}

/// Returns what reads the reply to a plain request.
fn reply() -> Box<dyn DecodeReply> {
    encode(&request(Format::OpenAi, json!({})), CLAUDE).unwrap().2
}

fn words(losses: &Losses) -> Vec<String> {
    let severe = |severity| match severity {
        Severity::Advisory => "",
        Severity::Material => "!",
    };
    losses
        .iter()
        .map(|loss| format!("{}{}", severe(loss.severity), Format::OpenAi.field(&loss.field)))
        .collect()
}

/// Returns name and folder of every fixture of the format.
fn cases() -> Vec<(String, PathBuf)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/converse");
    let mut cases: Vec<(String, PathBuf)> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.path()))
        .collect();
    cases.sort();
    assert!(cases.len() >= 10);
    cases
}
