//! Whole replies: what is unheard of reaches the client or is reported, or the reply is refused.

use bytes::Bytes;
use llm::Format;

use super::{CLIENTS, VALUE, Vanished, fixtures, is_silent, lost_with, mutants, names, read, reply};

#[test]
fn what_chat_completions_add_is_delivered_or_reported() {
    check(Format::OpenAi, 200);
}

#[test]
fn what_messages_add_is_delivered_or_reported() {
    check(Format::Messages, 200);
}

#[test]
fn what_responses_add_is_delivered_or_reported() {
    check(Format::Responses, 200);
}

#[test]
fn what_gemini_adds_is_delivered_or_reported() {
    check(Format::Gemini, 200);
}

#[test]
fn what_converse_adds_is_delivered_or_reported() {
    check(Format::Converse, 100);
}

/// Adds the member to every object of every reply in `upstream`, one at a time.
#[track_caller]
fn check(upstream: Format, enough: usize) {
    let mut vanished = Vanished::default();
    for file in fixtures(upstream, "reply.json") {
        let document = read(&file);
        for (place, more) in mutants(&document) {
            for (format, path, body) in CLIENTS {
                let Some(reply) = reply(path, body, upstream) else {
                    continue;
                };
                let Ok(answer) = reply.response(Bytes::from(more.to_string())) else {
                    continue;
                };
                let losses = &answer.observed.losses;
                let is_there = String::from_utf8_lossy(&answer.body).contains(VALUE)
                    || names(losses, *format)
                    || lost_with(&place, &document, losses)
                    || is_silent(&place);
                let whom = format!("{} {}", format.name(), file.display());
                vanished.note(&whom, &place, is_there);
            }
        }
    }
    vanished.none_of(enough);
}
