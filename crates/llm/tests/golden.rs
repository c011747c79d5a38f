//! Every fixture, said to every upstream and told to every client: snapshots that are read by eye when they change.
//!
//! A fixture is a folder of its format with what a client may send (`request.json`) and what a provider may
//! answer (`reply.json`, and `reply.sse` or the readable frames of a binary stream, `reply.frames`). Beside it
//! stand `request.snap` and `reply.snap`, and `platforms.snap` beside one of each client. The laws of each format (a document decoded and encoded again, streams
//! against whole replies) are tested with the formats.

use std::{fmt::Write, fs, path::Path};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use insta::{assert_snapshot, glob};
use llm::{
    Call, End, Endpoint, Format, Inbound, Losses, Operation, Provider, Site, Target,
    provider::{
        AZURE_RESPONSES, AiStudio, Anthropic, Ask, Azure, Bedrock, BedrockClaude, CredentialKind,
        OPENAI_RESPONSES, OpenAi, Vertex, VertexClaude,
    },
};
use serde_json::Value;
use testkit::event_stream;

/// The upstreams of the snapshots, each with a model that takes everything.
const UPSTREAMS: &[(&str, &dyn Provider, &str)] = &[
    ("OpenAI", &OpenAi, "gpt-5-mini"),
    ("Anthropic", &Anthropic, "claude-sonnet-4-6"),
    ("Gemini", &AiStudio, "gemini-3-flash-preview"),
    ("Bedrock", &Bedrock, "us.anthropic.claude-sonnet-4-6"),
    ("Responses", &Responses, "gpt-5-mini"),
];

/// Who serves the same formats elsewhere.
const PLATFORMS: &[(&str, &dyn Provider, &str)] = &[
    ("Azure OpenAI", &Azure, "gpt-5-mini"),
    ("Azure OpenAI, Responses", &AZURE_RESPONSES, "gpt-5-mini"),
    ("OpenAI, Responses", &OPENAI_RESPONSES, "gpt-5-mini"),
    (
        "Bedrock, InvokeModel",
        &BedrockClaude,
        "us.anthropic.claude-sonnet-4-6",
    ),
    ("Vertex AI, Claude", &VertexClaude, "claude-sonnet-4-6"),
    ("Vertex AI, Gemini", &Vertex, "gemini-3-flash-preview"),
];

/// Where clients of a format ask, and the least that they ask for.
const CLIENTS: &[(Format, &str, &str)] = &[
    (
        Format::OpenAi,
        "/v1/chat/completions",
        r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":false}"#,
    ),
    (
        Format::Messages,
        "/anthropic/v1/messages",
        r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"}],"stream":false}"#,
    ),
    (
        Format::Responses,
        "/v1/responses",
        r#"{"model":"m","input":"hi","stream":false}"#,
    ),
    (
        Format::Gemini,
        "/v1beta/models/m:generateContent",
        r#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}"#,
    ),
];

/// A server that speaks Responses alone: OpenAI would be asked in chat completions.
#[derive(Debug)]
struct Responses;

impl Provider for Responses {
    fn id(&self) -> &'static str {
        "responses"
    }

    fn name(&self) -> &'static str {
        "responses"
    }

    fn formats(&self, _operation: Operation, _model: &str) -> &'static [Format] {
        &[Format::Responses]
    }

    fn path(&self, ask: Ask, target: &Target<'_>) -> String {
        OpenAi.path(ask, target)
    }

    fn host(&self) -> Option<&'static str> {
        None
    }

    fn credential(&self) -> CredentialKind {
        CredentialKind::Bearer
    }
}

/// 2023-11-14, for replies that do not say when they were made.
const NOW: u64 = 1_700_000_000;

#[test]
fn requests() {
    glob!("fixtures/*/*/request.json", |file| {
        let (format, path, _) = client(file);
        let body = Bytes::from(fs::read(file).expect("the fixture can be read"));
        let mut said = String::new();
        for (name, provider, model) in UPSTREAMS {
            let text = match call(path, body.clone(), *provider, model) {
                Ok(call) if relays(*provider, format, model) => {
                    assert!(call.losses.is_empty(), "a relay loses nothing: {:?}", call.losses);
                    assert_relayed(&body, &call.body);
                    "relayed\n".to_owned()
                }
                called => written(called, format),
            };
            writeln!(said, "== {name}: {text}").expect("a String takes everything");
        }
        snapshot(file, "request", &said);
    });
}

/// Platforms serve the formats of others, in envelopes of their own; one conversation of each client shows them.
#[test]
fn platforms() {
    glob!("fixtures/*/multi_turn/request.json", |file| {
        let (format, path, _) = client(file);
        let body = Bytes::from(fs::read(file).expect("the fixture can be read"));
        let mut said = String::new();
        for (name, provider, model) in PLATFORMS {
            let text = written(call(path, body.clone(), *provider, model), format);
            writeln!(said, "== {name}: {text}").expect("a String takes everything");
        }
        snapshot(file, "platforms", &said);
    });
}

fn written(called: Result<Call, llm::ApiError>, format: Format) -> String {
    match called {
        Ok(call) => format!(
            "{}\n{}{}",
            call.path,
            pretty(&call.body),
            losses(&call.losses, format)
        ),
        Err(error) => format!(
            "refused with {}\n{}",
            error.status,
            pretty(&format.encode_error(&error))
        ),
    }
}

#[test]
fn replies() {
    glob!("fixtures/*/*/reply.json", |file| {
        let upstream = folder(file);
        let whole = Bytes::from(fs::read(file).expect("the fixture can be read"));
        let stream = stream(file);
        let mut told = String::new();
        for (format, path, body) in CLIENTS.iter().filter(|(format, _, _)| *format != upstream) {
            let mut write = |how: &str, text: String| {
                writeln!(told, "== {} client, {how}:\n{text}", format.name())
                    .expect("a String takes everything");
            };
            let (provider, model) = serving(upstream);
            let reply = || {
                call(path, Bytes::from_static(body.as_bytes()), provider, model)
                    .expect("the request can be said to any upstream")
                    .reply
            };
            write(
                "whole",
                match reply().response(whole.clone()) {
                    Ok(answer) => pretty(&answer.body) + &losses(&answer.observed.losses, *format),
                    Err(error) => pretty(&format.encode_error(&error)),
                },
            );
            if let Some(stream) = &stream {
                let text = streamed(reply(), stream, stream.len(), *format);
                for size in [1, 7] {
                    assert_eq!(
                        streamed(reply(), stream, size, *format),
                        text,
                        "in pieces of {size}"
                    );
                }
                write("streamed", text);
            }
        }
        snapshot(file, "reply", &told);
    });
}

/// Returns the format whose folder `file` lies in.
fn folder(file: &Path) -> Format {
    let folder = file.ancestors().nth(2).and_then(Path::file_name);
    let format = folder.and_then(|name| Format::parse(name.to_str()?));
    format.expect("the folder is named for a format")
}

/// Returns the row of the clients of the format whose folder `file` lies in.
fn client(file: &Path) -> (Format, &'static str, &'static str) {
    let format = folder(file);
    let row = CLIENTS.iter().find(|(client, _, _)| *client == format);
    *row.expect("clients speak the format")
}

/// Returns the streamed reply beside the whole one in `file`.
fn stream(file: &Path) -> Option<Vec<u8>> {
    let frames = fs::read_to_string(file.with_extension("frames"));
    let Ok(frames) = frames else {
        return fs::read(file.with_extension("sse")).ok();
    };
    let message = |line: &str| {
        let (name, payload) = line.split_once(' ').expect("a name and a payload");
        event_stream::event(name, &serde_json::from_str(payload).expect("the payload is JSON"))
    };
    Some(frames.lines().flat_map(message).collect())
}

/// Returns an upstream that speaks `format`.
fn serving(format: Format) -> (&'static dyn Provider, &'static str) {
    let row = UPSTREAMS
        .iter()
        .find(|(_, provider, model)| provider.formats(llm::Operation::Chat, model).first() == Some(&format));
    let (_, provider, model) = row.expect("every format has an upstream");
    (*provider, model)
}

fn relays(provider: &dyn Provider, format: Format, model: &str) -> bool {
    provider.formats(llm::Operation::Chat, model).contains(&format)
}

fn call(
    path: &str,
    body: Bytes,
    provider: &'static dyn Provider,
    model: &str,
) -> Result<Call, llm::ApiError> {
    let place = Endpoint::find(path, "").expect("the path is in the table");
    let site = Site::default();
    let target = Target {
        provider,
        site: &site,
        model,
        now: NOW,
    };
    Inbound::parse(place, body)?.call(&target, &HeaderMap::new())
}

/// Holds that a relayed document is the client's but for what must change.
fn assert_relayed(sent: &[u8], relayed: &[u8]) {
    let without = |body: &[u8]| {
        let mut document: Value = serde_json::from_slice(body).expect("a JSON document");
        for key in ["model", "stream_options"] {
            document.as_object_mut().expect("an object").remove(key);
        }
        document
    };
    assert_eq!(without(sent), without(relayed));
}

fn streamed(reply: llm::Reply, bytes: &[u8], size: usize, format: Format) -> String {
    let mut stream = reply.stream();
    let mut told = BytesMut::new();
    for piece in bytes.chunks(size) {
        told.extend_from_slice(&stream.push(Bytes::copy_from_slice(piece)));
    }
    told.extend_from_slice(&stream.end(End::Clean));
    let text = String::from_utf8(told.to_vec()).expect("events are text");
    // How far reading is ahead of writing depends on how a stream is cut.
    let losses = losses(&stream.observed().losses, format);
    let mut losses: Vec<&str> = losses.split_inclusive('\n').collect();
    losses.sort_unstable();
    text + &losses.concat()
}

fn losses(losses: &Losses, format: Format) -> String {
    losses
        .iter()
        .map(|loss| {
            format!(
                "{} loss of {}: {}\n",
                loss.severity,
                format.field(&loss.field),
                loss.reason
            )
        })
        .collect()
}

fn pretty(body: &[u8]) -> String {
    let document: Value = serde_json::from_slice(body).expect("a JSON document");
    format!("{document:#}\n")
}

fn snapshot(file: &Path, name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(file.parent().expect("a fixture lies in a folder"));
    settings.set_prepend_module_to_snapshot(false);
    settings.remove_snapshot_suffix();
    settings.set_omit_expression(true);
    settings.remove_input_file();
    settings.bind(|| assert_snapshot!(name, text));
}
