//! What needs the inside: one request, reply or event at a time.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

use crate::{
    Losses, Severity, Site, Target,
    chat::{Client, DecodeReply, Request, Upstream, gemini::Gemini},
    provider::AiStudio,
};

mod crossing;
mod fixtures;
mod replies;
mod requests;
mod schemas;
mod streams;

const GEMINI_2: &str = "gemini-2.0-flash";
const GEMINI_2_5: &str = "gemini-2.5-flash";
const GEMINI_2_5_PRO: &str = "gemini-2.5-pro";
const GEMINI_3: &str = "gemini-3-flash-preview";
const GEMINI_3_PRO: &str = "gemini-3-pro-preview";

fn target<'a>(site: &'a Site, model: &'a str) -> Target<'a> {
    Target {
        provider: &AiStudio,
        site,
        model,
        now: 1_700_000_000,
    }
}

/// Decodes `document` as a client's request, with what every request must have added.
fn request(mut document: Value) -> Request {
    let members = document.as_object_mut().unwrap();
    members
        .entry("contents")
        .or_insert(json!([{"role": "user", "parts": [{"text": "hi"}]}]));
    let mut losses = Losses::default();
    Gemini
        .decode_request(document.to_string().as_bytes(), &mut losses)
        .unwrap()
}

/// Encodes `request` for `model`; returns the document, the losses as words and what reads the reply.
fn encode(request: &Request, model: &str) -> (Value, Vec<String>, Box<dyn DecodeReply>) {
    let mut losses = Losses::default();
    let (body, reply) = Gemini
        .encode_request(request, &target(&Site::default(), model), &mut losses)
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
        .map(|loss| format!("{}{}", severe(loss.severity), Gemini.field(&loss.field)))
        .collect()
}

/// Returns name and folder of every fixture of the format.
fn cases() -> Vec<(String, PathBuf)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gemini");
    let mut cases: Vec<(String, PathBuf)> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.path()))
        .collect();
    cases.sort();
    assert!(cases.len() >= 30);
    cases
}
