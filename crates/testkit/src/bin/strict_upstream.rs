//! Plays the providers for tests in other languages.
//!
//! Takes the key that the providers want as its only argument, prints one line of JSON with their ports and
//! serves until its standard input ends, so that it never outlives who started it.

use std::{io::Write, process::ExitCode};

use testkit::{Cloud, Provider, Script, Upstream, issuer};

#[tokio::main]
async fn main() -> ExitCode {
    let Some(key) = std::env::args().nth(1) else {
        let _ = writeln!(std::io::stderr(), "usage: strict_upstream KEY");
        return ExitCode::from(2);
    };
    let openai = Provider::OpenAi.start(&key).await;
    let messages = Provider::Messages.start(&key).await;
    let gemini = Cloud::AiStudio.start(&key).await;
    let converse = Cloud::Converse.start(&key).await;
    let invoke = Cloud::InvokeModel.start(&key).await;
    let cohere = Cloud::Cohere.start(&key).await;
    let azure = Cloud::Azure.start(&key).await;
    let vertex = Cloud::Vertex.start(&key).await;
    let vertex_claude = Cloud::VertexClaude.start(&key).await;
    let google = Upstream::start(Script::answer(move |request| {
        issuer::exchange(request, GOOGLE_LOGIN, &key, 3600)
    }))
    .await;
    let ports = serde_json::json!({
        "openai": openai.address().port(),
        "messages": messages.address().port(),
        "gemini": gemini.address().port(),
        "converse": converse.address().port(),
        "invoke": invoke.address().port(),
        "cohere": cohere.address().port(),
        "azure": azure.address().port(),
        "vertex": vertex.address().port(),
        "vertex_claude": vertex_claude.address().port(),
        "google_issuer": google.address().port(),
    });
    if writeln!(std::io::stdout(), "{ports}").is_err() {
        return ExitCode::FAILURE;
    }
    // Blocks this thread only: the servers run on the others.
    let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
    ExitCode::SUCCESS
}

/// What a user's login at Google is exchanged for the key with.
const GOOGLE_LOGIN: &[(&str, &str)] = &[
    ("grant_type", "refresh_token"),
    ("client_id", "sdk"),
    ("client_secret", "login-secret"),
    ("refresh_token", "login-token"),
];
