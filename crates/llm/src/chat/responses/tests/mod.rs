//! What needs the inside: one request, reply or event at a time, and the format beside the others.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

use crate::{
    ApiError, Format, Losses, Severity, Site, Target,
    chat::{Client, DecodeReply, Request, Upstream, responses::Responses},
    provider::{Abilities, Ask, CredentialKind, Flags, Provider},
};

mod cross;
mod fixtures;
mod replies;
mod requests;
mod streams;

static SITE: Site = Site {
    prefix: None,
    version: None,
    flags: Flags::NONE,
    abilities: Abilities::NONE,
};

/// A server that speaks this format alone.
#[derive(Debug)]
struct Only;

impl Provider for Only {
    fn id(&self) -> &'static str {
        "only"
    }

    fn name(&self) -> &'static str {
        "only"
    }

    fn formats(&self, _operation: crate::Operation, _model: &str) -> &'static [Format] {
        &[Format::Responses]
    }

    fn path(&self, _ask: Ask, _target: &Target<'_>) -> String {
        String::new()
    }

    fn host(&self) -> Option<&'static str> {
        None
    }

    fn credential(&self) -> CredentialKind {
        CredentialKind::Bearer
    }
}

fn target<'a>(provider: &'static dyn Provider, model: &'a str) -> Target<'a> {
    Target {
        provider,
        site: &SITE,
        model,
        now: 1_700_000_000,
    }
}

/// Decodes `document` as a client's request, with what every request must have added.
fn request(document: Value) -> Request {
    try_request(document).unwrap()
}

fn try_request(mut document: Value) -> Result<Request, ApiError> {
    let members = document.as_object_mut().unwrap();
    for (key, value) in [("model", json!("gpt-5")), ("input", json!("hi"))] {
        members.entry(key).or_insert(value);
    }
    Responses.decode_request(document.to_string().as_bytes(), &mut Losses::default())
}

/// Encodes `request` for `model`; returns the document, the losses as words and what reads the reply.
fn encode(request: &Request, model: &str) -> (Value, Vec<String>, Box<dyn DecodeReply>) {
    let mut losses = Losses::default();
    let (body, reply) = Responses
        .encode_request(request, &target(&Only, model), &mut losses)
        .unwrap();
    (serde_json::from_slice(&body).unwrap(), words(&losses), reply)
}

/// Returns the losses in the words of this format; material ones are marked.
fn words(losses: &Losses) -> Vec<String> {
    let severe = |severity| match severity {
        Severity::Advisory => "",
        Severity::Material => "!",
    };
    losses
        .iter()
        .map(|loss| format!("{}{}", severe(loss.severity), Responses.field(&loss.field)))
        .collect()
}

/// Returns name and folder of every fixture of the format.
fn cases() -> Vec<(String, PathBuf)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/responses");
    let mut cases: Vec<(String, PathBuf)> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.path()))
        .collect();
    cases.sort();
    assert!(cases.len() >= 40);
    cases
}

/// Returns the data of the events in `stream`.
fn data(stream: &[u8]) -> Vec<Value> {
    let mut sse = crate::frame::sse::Sse::default();
    let mut events = Vec::new();
    sse.push(stream, |frame, _| {
        let data: Value = serde_json::from_str(frame.data).unwrap();
        assert_eq!(
            frame.event,
            data["type"].as_str(),
            "an event is called what it is"
        );
        events.push(data);
    })
    .unwrap();
    events
}
