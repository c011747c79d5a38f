//! What needs the inside: one request, reply or event at a time.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

use crate::{
    Losses, Severity, Site, Target,
    chat::{Client, DecodeReply, Request, Upstream, messages::Messages},
    provider::{Abilities, Anthropic, Flags},
};

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

fn target(model: &str) -> Target<'_> {
    Target {
        provider: &Anthropic,
        site: &SITE,
        model,
        now: 1_700_000_000,
    }
}

/// Decodes `document` as a client's request, with what every request must have added.
fn request(mut document: Value) -> Request {
    let members = document.as_object_mut().unwrap();
    for (key, value) in [
        ("model", json!("claude-sonnet-4-5")),
        ("max_tokens", json!(4096)),
        ("messages", json!([{"role": "user", "content": "hi"}])),
    ] {
        members.entry(key).or_insert(value);
    }
    let mut losses = Losses::default();
    Messages
        .decode_request(document.to_string().as_bytes(), &mut losses)
        .unwrap()
}

/// Encodes `request` for `model`; returns the document, the losses as words and what reads the reply.
fn encode(request: &Request, model: &str) -> (Value, Vec<String>, Box<dyn DecodeReply>) {
    let mut losses = Losses::default();
    let (body, reply) = Messages
        .encode_request(request, &target(model), &mut losses)
        .unwrap();
    (serde_json::from_slice(&body).unwrap(), words(&losses), reply)
}

fn words(losses: &Losses) -> Vec<String> {
    let severe = |severity| match severity {
        Severity::Advisory => "",
        Severity::Material => "!",
    };
    losses
        .iter()
        .map(|loss| format!("{}{}", severe(loss.severity), Messages.field(&loss.field)))
        .collect()
}

/// Returns name and folder of every fixture of the format.
fn cases() -> Vec<(String, PathBuf)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/messages");
    let mut cases: Vec<(String, PathBuf)> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.path()))
        .collect();
    cases.sort();
    assert!(cases.len() >= 16);
    cases
}
