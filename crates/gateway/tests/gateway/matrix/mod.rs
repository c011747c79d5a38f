//! Every client with every provider, and the page that says what comes of it.
//!
//! Each cell is asked for the same things: an answer, the same streamed, a loop of two tools, a picture, reasoning
//! that is told back in the next turn, and an answer after a schema. Upstreams are strict, so that what arrives
//! there is what the provider takes. `docs/matrix.md` is what this test finds; it fails when the page says
//! anything else, and writes the page when `TOLLGATE_WRITE_MATRIX` is set.

mod clients;

use std::{fmt::Write, fs};

use clients::{Answered, CLIENTS, Client};
use llm::{Format, Operation, provider};
use testkit::{Cloud, Provider, Script, Upstream};

use crate::fixture::{KEY, MODEL, Served, To, serve, to};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/matrix.md");

/// A provider, who plays it, and a model of it that does all that is asked for.
struct Row {
    name: &'static str,
    provider: &'static dyn llm::Provider,
    played: fn(&str) -> Script,
    model: &'static str,
}

const ROWS: &[Row] = &[
    Row {
        name: "OpenAI",
        provider: &provider::OpenAi,
        played: |key| Provider::OpenAi.script(key),
        model: "gpt-5",
    },
    Row {
        name: "OpenAI, by Responses alone",
        provider: &provider::OPENAI_RESPONSES,
        played: |key| Provider::OpenAi.script(key),
        model: "gpt-5",
    },
    Row {
        name: "a server of chat completions alone",
        provider: &provider::HUNYUAN,
        played: |key| Provider::OpenAi.script(key),
        model: "gpt-5",
    },
    Row {
        name: "Azure OpenAI",
        provider: &provider::Azure,
        played: |key| Cloud::Azure.script(key),
        model: "gpt-5",
    },
    Row {
        name: "Azure OpenAI, by Responses alone",
        provider: &provider::AZURE_RESPONSES,
        played: |key| Cloud::Azure.script(key),
        model: "gpt-5",
    },
    Row {
        name: "Anthropic",
        provider: &provider::Anthropic,
        played: |key| Provider::Messages.script(key),
        model: "claude-sonnet-4-5",
    },
    Row {
        name: "Bedrock, Claude by InvokeModel",
        provider: &provider::BedrockClaude,
        played: |key| Cloud::InvokeModel.script(key),
        model: "anthropic.claude-sonnet-4-5-20250929-v1:0",
    },
    Row {
        name: "Vertex AI, Claude",
        provider: &provider::VertexClaude,
        played: |key| Cloud::VertexClaude.script(key),
        model: "claude-sonnet-4-5@20250929",
    },
    Row {
        name: "Bedrock, Converse",
        provider: &provider::Bedrock,
        played: |key| Cloud::Converse.script(key),
        model: "anthropic.claude-sonnet-4-5-20250929-v1:0",
    },
    Row {
        name: "Gemini, AI Studio",
        provider: &provider::AiStudio,
        played: |key| Cloud::AiStudio.script(key),
        model: "gemini-2.5-pro",
    },
    Row {
        name: "Gemini, Vertex AI",
        provider: &provider::Vertex,
        played: |key| Cloud::Vertex.script(key),
        model: "gemini-2.5-pro",
    },
];

const COLUMNS: &[&str] = &[
    "unary",
    "stream",
    "tools",
    "images",
    "reasoning",
    "structured output",
    "caching",
];

#[tokio::test]
async fn the_page_says_what_every_cell_does() {
    let mut page = String::from(HEAD);
    for client in CLIENTS {
        page.push_str(&format!("\n## {}\n\n{}\n\n", client.name(), client.note()));
        writeln!(page, "| provider | {} |", COLUMNS.join(" | ")).expect("a String takes everything");
        writeln!(page, "|---|{}", "---|".repeat(COLUMNS.len())).expect("a String takes everything");
        for row in ROWS {
            let cells = cells(*client, row).await;
            writeln!(page, "| {} | {} |", row.name, cells.join(" | ")).expect("a String takes everything");
        }
    }
    if std::env::var_os("TOLLGATE_WRITE_MATRIX").is_some() {
        fs::write(PAGE, &page).expect("the page can be written");
    }
    let written = fs::read_to_string(PAGE).unwrap_or_default();
    assert!(written == page, "docs/matrix.md is stale; it should say:\n{page}");
}

/// Returns what comes of each column.
async fn cells(client: Client, row: &Row) -> Vec<String> {
    let upstream = Upstream::start((row.played)(KEY)).await;
    let served = serve([To {
        model: Some(row.model.to_owned()),
        ..to(row.provider, upstream.address())
    }])
    .await;
    let mut cells = Vec::new();
    cells.push(check(client, row, "unary", unary(client, &served, false).await));
    cells.push(check(client, row, "stream", unary(client, &served, true).await));
    cells.push(check(client, row, "tools", tools(client, &served).await));
    cells.push(check(client, row, "images", image(client, &served).await));
    cells.push(check(client, row, "reasoning", reasoning(client, &served).await));
    cells.push(check(
        client,
        row,
        "structured output",
        structured(client, &served).await,
    ));
    let cached = cached(client, &served).await;
    let marked = upstream.requests().last().is_some_and(|sent| {
        let sent = String::from_utf8_lossy(&sent.body).into_owned();
        sent.contains("cache_control") || sent.contains("cachePoint")
    });
    cells.push(match cached {
        None => "–".to_owned(),
        // What is relayed is for the provider to judge.
        Some(Answered { status: 400, .. }) if client == Client::OpenAi && marked => {
            assert!(
                row.provider
                    .formats(Operation::Chat, row.model)
                    .contains(&Format::OpenAi)
            );
            "relayed, and refused there".to_owned()
        }
        Some(answered) if marked => check(client, row, "caching", vec![answered]),
        Some(answered) => {
            let told = check(client, row, "caching", vec![answered]);
            assert_ne!(told, "yes", "{} at {}: marks vanish", client.name(), row.name);
            told
        }
    });
    cells
}

/// Returns what the client was told: `yes`, with what was lost, or why not.
#[track_caller]
fn check(client: Client, row: &Row, column: &str, answers: Vec<Answered>) -> String {
    let mut lost: Vec<String> = Vec::new();
    let shown = column != "reasoning" || answers.iter().any(|answer| answer.thought);
    for answer in answers {
        let cell = format!("{column} of {} at {}", client.name(), row.name);
        assert_eq!(answer.status, 200, "{cell}: {}", answer.text);
        assert!(answer.expected, "{cell}: {}", answer.text);
        for word in answer.losses.split("; ").filter(|word| !word.is_empty()) {
            if !lost.iter().any(|known| known == word) {
                lost.push(word.to_owned());
            }
        }
    }
    let mut told = String::from(if shown { "yes" } else { "yes, not shown" });
    if !lost.is_empty() {
        let lost: Vec<String> = lost.iter().map(|word| format!("`{word}`")).collect();
        told.push_str(&format!("; loses {}", lost.join(", ")));
    }
    told
}

async fn unary(client: Client, served: &Served, stream: bool) -> Vec<Answered> {
    let mut request = client.request(MODEL, "Hello, gate.");
    if stream {
        client.stream(&mut request);
    }
    vec![
        client
            .ask(served, &request, stream, |said| {
                said.text == "You said: Hello, gate."
            })
            .await,
    ]
}

async fn tools(client: Client, served: &Served) -> Vec<Answered> {
    let mut request = client.request(MODEL, "What is the weather in Paris and London?");
    client.tools(&mut request);
    let both = |said: &clients::Said| said.calls == [r#"{"city":"Paris"}"#, r#"{"city":"London"}"#];
    let first = client.ask(served, &request, false, both).await;
    let mut streamed = request.clone();
    client.stream(&mut streamed);
    let second = client.ask(served, &streamed, true, both).await;
    client.results(&mut request, &first.reply, &["sun", "rain"]);
    let third = client.ask(served, &request, false, told_the_weather).await;
    vec![first, second, third]
}

/// Returns whether the model has heard both results, be they texts or JSON.
fn told_the_weather(said: &clients::Said) -> bool {
    said.text.starts_with("The tools say: ") && said.text.contains("sun") && said.text.contains("rain")
}

async fn image(client: Client, served: &Served) -> Vec<Answered> {
    let mut request = client.request(MODEL, "What is this?");
    client.picture(&mut request);
    let seen = format!("I see image/png ({} characters)", testkit::fixture::PIXEL.len());
    vec![
        client
            .ask(served, &request, false, |said| said.text == seen)
            .await,
    ]
}

async fn reasoning(client: Client, served: &Served) -> Vec<Answered> {
    let mut request = client.request(MODEL, "What is the weather in Paris and London?");
    client.think(&mut request);
    client.tools(&mut request);
    let first = client
        .ask(served, &request, false, |said| said.calls.len() == 2)
        .await;
    let mut streamed = request.clone();
    client.stream(&mut streamed);
    let second = client
        .ask(served, &streamed, true, |said| said.calls.len() == 2)
        .await;
    // Where the upstream seals what it thought it takes it back as it was, or refuses.
    client.results(&mut request, &first.reply, &["sun", "rain"]);
    let third = client.ask(served, &request, false, told_the_weather).await;
    vec![first, second, third]
}

async fn structured(client: Client, served: &Served) -> Vec<Answered> {
    let mut request = client.request(MODEL, "Name a place.");
    client.schema(&mut request);
    let fits = |said: &clients::Said| said.text == r#"{"city":"sample"}"#;
    vec![client.ask(served, &request, false, fits).await]
}

async fn cached(client: Client, served: &Served) -> Option<Answered> {
    let mut request = client.request(MODEL, "Hello, gate.");
    if !client.mark(&mut request) {
        return None;
    }
    let said = |said: &clients::Said| said.text == "You said: Hello, gate.";
    Some(client.ask(served, &request, false, said).await)
}

const HEAD: &str = "# Who reaches whom

<!-- Written by a test: TOLLGATE_WRITE_MATRIX=1 cargo test -p tollgate-gateway --test gateway matrix -->

Every client with every provider, as a test finds it that asks each pair for the same: an answer, the same streamed, a
loop with two tools called at once, a picture, reasoning that is told back with its seal in the turn after a tool, an
answer after a schema, and a mark after which the provider is to cache. The upstreams of the test refuse whatever the
provider would refuse. `loses` names what `x-tollgate-loss` tells the client; [translation](translation.md) says what a
loss is.
";
