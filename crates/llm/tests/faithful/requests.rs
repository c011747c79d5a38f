//! Requests: what is unheard of reaches the upstream or is reported, or the request is refused.

use llm::{
    Format,
    provider::{
        AiStudio, Anthropic, Bedrock, BedrockClaude, OPENAI_RESPONSES, OpenAi, Provider, VertexClaude,
    },
};
use serde_json::Value;

use super::{VALUE, Vanished, call, fixtures, lost_with, mutants, names, read};

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

#[test]
fn what_clients_of_chat_completions_add_is_delivered_or_reported() {
    check(Format::OpenAi, "/v1/chat/completions");
}

#[test]
fn what_clients_of_messages_add_is_delivered_or_reported() {
    check(Format::Messages, "/anthropic/v1/messages");
}

#[test]
fn what_clients_of_responses_add_is_delivered_or_reported() {
    check(Format::Responses, "/v1/responses");
}

#[test]
fn what_clients_of_gemini_add_is_delivered_or_reported() {
    check(Format::Gemini, "/v1beta/models/m:generateContent");
}

/// Adds the member to every object of every request of `format`, one at a time.
#[track_caller]
fn check(format: Format, path: &str) {
    let mut vanished = Vanished::default();
    for file in fixtures(format, "request.json") {
        let document = read(&file);
        for (place, more) in mutants(&document) {
            for (provider, model) in UPSTREAMS {
                let Ok(call) = call(path, &more, *provider, model) else {
                    continue;
                };
                let is_there = String::from_utf8_lossy(&call.body).contains(VALUE)
                    || names(&call.losses, format)
                    || lost_with(&place, &document, &call.losses)
                    || is_forbidden(&place, &document);
                let whom = format!("{} {}", provider.id(), file.display());
                vanished.note(&whom, &place, is_there);
            }
        }
    }
    vanished.none_of(1000);
}

/// Returns whether what stands at `place` is a tool that must not be called: where tools cannot be forbidden they
/// are not offered, which comes to the same.
fn is_forbidden(place: &str, document: &Value) -> bool {
    let choices = [
        &document["tool_choice"],
        &document["tool_choice"]["type"],
        &document["toolConfig"]["functionCallingConfig"]["mode"],
    ];
    place.starts_with("/tools")
        && choices
            .iter()
            .any(|choice| **choice == "none" || **choice == "NONE")
}
