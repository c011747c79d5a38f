//! The table of what triggers another attempt: in code, in the documentation, and on real sockets.

use policy::traffic::retry::{Failure, TABLE, Trigger, When};
use testkit::{Reply, Upstream, fixture};

use crate::setup::{Setup, asked, at, failure, good};

/// The documentation says what the code does, word for word.
#[test]
fn the_documentation_is_the_table() {
    let documentation = include_str!("../../../../docs/failover.md");
    let mut table = "| what happens | without `retry` | with `retry`, if one of these triggers is named | where there is \
                     nobody else, the client gets |\n|---|---|---|---|\n"
        .to_owned();
    for row in TABLE {
        let named = |triggers: &[Trigger]| {
            let names = triggers.iter().map(|trigger| format!("`{}`", trigger.name()));
            let names: Vec<String> = names.collect();
            if names.is_empty() {
                "if its status is listed".to_owned()
            } else {
                names.join(", ")
            }
        };
        let (usual, with) = match row.when {
            When::Always => ("yes", "always, and it does not count".to_owned()),
            When::Usually(triggers) => ("yes", named(triggers)),
            When::If(triggers) => ("no", named(triggers)),
            When::OnDemand => ("on demand", "on demand".to_owned()),
            When::Never => ("no", "never".to_owned()),
        };
        table.push_str(&format!("| {} | {usual} | {with} | {} |\n", row.words, row.alone));
    }
    assert!(
        documentation.contains(&table),
        "docs/failover.md is to say:\n{table}"
    );
}

/// Returns what an upstream does to cause a failure; `None` where it is not the upstream that does.
fn cause(failed: Failure) -> Option<Vec<Reply>> {
    let message = |code: &str| {
        let mut document = fixture::openai::error("invalid_request_error", "x", "no");
        document["error"]["code"] = code.into();
        Reply::json(400, &document)
    };
    match failed {
        Failure::Reset => Some(vec![Reply::new().reset(), Reply::new().close()]),
        Failure::Timeout => Some(vec![Reply::new().stall()]),
        Failure::GatewayStatus => Some(vec![failure(502), failure(503), failure(504)]),
        Failure::ServerStatus => Some(vec![failure(500), failure(501), failure(529)]),
        Failure::Busy => Some(vec![failure(408), failure(429)]),
        Failure::Conflict => Some(vec![failure(409)]),
        Failure::ClientStatus => Some(vec![failure(400), failure(403), failure(404), failure(422)]),
        Failure::BadReply => Some(vec![Reply::whole(
            200,
            &[("content-type", "application/json")],
            "<html>",
        )]),
        Failure::ContextLength => Some(vec![message("context_length_exceeded")]),
        Failure::ContentFilter => Some(vec![message("content_filter")]),
        Failure::PreviousAnswer => Some(vec![message("previous_response_not_found")]),
        // Tried where the upstream is not there, is full, or cannot be asked.
        Failure::Connect
        | Failure::Overflow
        | Failure::RefusedStream
        | Failure::Unsayable
        | Failure::Unresolved
        | Failure::Deadline
        | Failure::Client => None,
    }
}

/// What the table says happens.
#[tokio::test]
async fn the_table_holds() {
    let mut tried = 0;
    for row in TABLE {
        for reply in cause(row.failure).unwrap_or_default() {
            let limit = "perRetry: { timeout: 100ms, backOff: { baseInterval: 1ms } }";
            let names: Vec<&str> = match row.when {
                When::Usually(triggers) | When::If(triggers) => {
                    triggers.iter().map(|trigger| trigger.name()).collect()
                }
                When::Always | When::OnDemand | When::Never => Vec::new(),
            };
            for name in &names {
                let policy = format!("retry: {{ retryOn: {{ triggers: [{name}] }}, {limit} }}");
                check(row.failure, reply.clone(), &policy, true).await;
            }
            let policy = format!("retry: {{ retryOn: {{ triggers: [connect-failure] }}, {limit} }}");
            check(row.failure, reply.clone(), &policy, row.when == When::Always).await;
            if row.failure != Failure::Timeout {
                let usual = row.failure.usually();
                check(row.failure, reply.clone(), "timeout: {}", usual).await;
            }
            tried += 1;
        }
    }
    assert_eq!(tried, 20, "every failure that an upstream can cause");
}

async fn check(failure: Failure, reply: Reply, policy: &str, moves: bool) {
    let (first, second) = (Upstream::start(reply).await, good().await);
    let setup = Setup::start(policy, &[at(&first), at(&second).after(1)]).await;
    let answer = setup.ask().await;
    assert_eq!(
        asked([&first, &second]),
        [1, usize::from(moves)],
        "{failure:?}, {policy}: {}",
        answer.text()
    );
}
