//! Every way in which a request can end leads to exactly one charge: what was counted, an estimate that is marked as
//! one, or nothing.

use llm::provider;
use serde_json::{Value, json};
use testkit::{Client, Reply, Upstream, fixture};

use super::{Declared, OPENAI_TOKENS, of_user};
use crate::fixture::{CHAT, MESSAGES, MODEL, Served, To, messages, openai, to};

/// What a request is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Charged {
    /// What the upstream has counted.
    Counted,
    /// Something in its place.
    Estimated,
    Nothing,
}

/// Serves one upstream with a limit that counts tokens.
async fn serve(to: To) -> Served {
    Declared::limit(of_user(100_000)).serve([to]).await
}

/// Waits until a request is charged, and checks what; returns it.
async fn charged(served: &Served, expected: Charged, what: &str) -> u64 {
    served.metric_reaches("tollgate_requests_total", &[], 1.0).await;
    let usage = served.admin("/usage").await.json();
    let counters = usage["counters"].as_array().expect("a list");
    let used = counters
        .iter()
        .filter_map(|counter| counter["used"].as_u64())
        .sum();
    let held: u64 = counters
        .iter()
        .filter_map(|counter| counter["held"].as_u64())
        .sum();
    assert_eq!(held, 0, "{what}: {usage}");
    match expected {
        Charged::Counted => assert_eq!(used, OPENAI_TOKENS, "{what}"),
        Charged::Estimated => assert!(used > 0, "{what}"),
        Charged::Nothing => assert_eq!(used, 0, "{what}"),
    }
    used
}

/// Asks and reads the whole answer.
async fn check(to: To, path: &str, body: &Value, expected: Charged) -> u64 {
    let served = serve(to).await;
    testkit::client::post(served.address, path, &[("x-user-id", "alice")], body).await;
    charged(&served, expected, &format!("{path} {body}")).await
}

fn asked(path: &str, stream: bool) -> Value {
    match path {
        MESSAGES => fixture::messages::request(MODEL, stream),
        _ => fixture::openai::request(MODEL, stream),
    }
}

#[tokio::test]
async fn whole_and_streamed_answers_relayed_and_translated() {
    for path in [CHAT, MESSAGES] {
        for stream in [false, true] {
            let reply = match stream {
                true => Reply::sse(fixture::openai::frames("gpt")),
                false => Reply::json(200, &fixture::openai::response("gpt")),
            };
            let upstream = Upstream::start(reply).await;
            check(openai(&upstream), path, &asked(path, stream), Charged::Counted).await;
            let reply = match stream {
                true => Reply::sse(fixture::messages::frames("claude")),
                false => Reply::json(200, &fixture::messages::response("claude")),
            };
            let upstream = Upstream::start(reply).await;
            check(messages(&upstream), path, &asked(path, stream), Charged::Counted).await;
        }
    }
}

#[tokio::test]
async fn documents_are_charged_as_they_are_counted() {
    let usage = json!({ "prompt_tokens": OPENAI_TOKENS, "total_tokens": OPENAI_TOKENS });
    let vector = json!([{ "object": "embedding", "index": 0, "embedding": [0.5] }]);
    let embedding = json!({ "object": "list", "model": "e", "data": vector, "usage": usage });
    let request = json!({ "model": MODEL, "input": "hello" });
    let upstream = Upstream::start(Reply::json(200, &embedding)).await;
    check(openai(&upstream), "/v1/embeddings", &request, Charged::Counted).await;
    // Nobody counts speech: what was read is estimated.
    let upstream = Upstream::start(Reply::whole(200, &[("content-type", "audio/mpeg")], "sound")).await;
    let request = json!({ "model": MODEL, "input": "hello", "voice": "alloy" });
    check(
        openai(&upstream),
        "/v1/audio/speech",
        &request,
        Charged::Estimated,
    )
    .await;
    // A count of tokens is charged like a prompt of as many.
    let upstream = Upstream::start(Reply::json(200, &json!({ "input_tokens": 3 }))).await;
    let request = fixture::messages::request(MODEL, false);
    let path = "/anthropic/v1/messages/count_tokens";
    check(messages(&upstream), path, &request, Charged::Estimated).await;
}

#[tokio::test]
async fn what_fails_is_charged_nothing() {
    for reply in [
        Reply::json(500, &json!({})),
        Reply::json(429, &fixture::openai::error("rate_limit_error", "x", "slow down")),
        Reply::json(400, &fixture::openai::error("invalid_request_error", "x", "no")),
        Reply::new().reset(),
        Reply::whole(200, &[("content-type", "application/json")], "not JSON"),
    ] {
        let upstream = Upstream::start(reply).await;
        check(
            openai(&upstream),
            MESSAGES,
            &asked(MESSAGES, false),
            Charged::Nothing,
        )
        .await;
    }
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_estimated() {
    for path in [CHAT, MESSAGES] {
        for end in [Reply::reset, Reply::end] {
            let begun = Reply::stream().frames(fixture::openai::frames("gpt").into_iter().take(3));
            let upstream = Upstream::start(end(begun)).await;
            check(openai(&upstream), path, &asked(path, true), Charged::Estimated).await;
        }
    }
}

/// Clients may go away at any time: before there is an answer, in the middle, and on `[DONE]`, before the end.
#[tokio::test]
async fn a_client_that_goes_away_is_charged() {
    let frames = fixture::openai::frames("gpt");
    for (count, expected) in [
        (0, Charged::Estimated),
        (2, Charged::Estimated),
        (4, Charged::Estimated),
        (frames.len(), Charged::Counted),
    ] {
        let begun = match count {
            0 => Reply::new(),
            _ => Reply::stream().frames(frames.iter().take(count)),
        };
        let upstream = Upstream::start(begun.stall()).await;
        let served = serve(openai(&upstream)).await;
        let mut client = Client::connect(served.address).await;
        let headers = [("x-user-id", "alice")];
        client
            .post(CHAT, &headers, &asked(CHAT, true))
            .await
            .expect("sent");
        if count > 0 {
            client.head().await.expect("a head");
        } else {
            upstream.received(1).await;
        }
        // The event with the counts was not asked for and is not shown.
        let shown = if count == frames.len() { count - 1 } else { count };
        for _ in 0..shown {
            client.frame().await.expect("an event");
        }
        client.reset();
        charged(&served, expected, &format!("after {count} events")).await;
    }
}

/// A provider may count what it likes: no number of tokens ends the process, or wraps around to next to nothing.
#[tokio::test]
async fn counts_beyond_all_numbers_are_charged_as_the_largest() {
    for count in [json!(u64::MAX), json!(1e25)] {
        let mut response = fixture::openai::response("gpt");
        response["usage"] = json!({ "prompt_tokens": 15, "completion_tokens": count, "total_tokens": count });
        let upstream = Upstream::start(Reply::json(200, &response)).await;
        let served = serve(openai(&upstream)).await;
        let body = asked(CHAT, false);
        testkit::client::post(served.address, CHAT, &[("x-user-id", "alice")], &body).await;
        served.metric_reaches("tollgate_requests_total", &[], 1.0).await;
        let usage = served.admin("/usage").await.json();
        assert_eq!(usage["counters"][0]["used"], u64::MAX, "{usage}");
        assert_eq!(usage["counters"][0]["remaining"], 0, "{usage}");
    }
}

/// Nobody counts this stream: its end is no part of what was said.
#[tokio::test]
async fn a_stream_that_nobody_counts_is_estimated_by_what_it_says() {
    let frames: Vec<_> = fixture::openai::frames("gpt")
        .into_iter()
        .filter(|frame| !frame.contains("\"usage\":{"))
        .collect();
    let upstream = Upstream::start(Reply::sse(frames.clone())).await;
    let body = asked(CHAT, true);
    let used = check(openai(&upstream), CHAT, &body, Charged::Estimated).await;
    let prompt = body.to_string().len().div_ceil(4) as u64;
    let words = frames
        .iter()
        .filter(|frame| frame.contains("\"content\":\""))
        .count() as u64;
    assert!(
        used <= prompt + 2 * words,
        "{used} > {prompt} + 2 * {words}: {frames:?}"
    );
}

/// An answer that its provider goes on with although nobody waits is charged as all that it may be, whole or streamed.
#[tokio::test]
async fn an_answer_for_later_is_charged_as_all_that_it_may_be() {
    const MOST: u64 = 5000;
    let reply = |status: &str, usage: Value| {
        json!({ "id": "resp_1", "object": "response", "created_at": 1, "model": "gpt", "status": status,
                "background": true, "output": [], "error": null, "incomplete_details": null, "usage": usage })
    };
    let event = |kind: &str, reply: Value| {
        let event = json!({ "type": kind, "sequence_number": 0, "response": reply });
        format!("event: {kind}\ndata: {event}\n\n")
    };
    let queued = reply("queued", json!(null));
    let usage =
        json!({ "input_tokens": OPENAI_TOKENS - 5, "output_tokens": 5, "total_tokens": OPENAI_TOKENS });
    let completed = reply("completed", usage);
    let delta = json!({ "type": "response.output_text.delta", "item_id": "m", "output_index": 0,
                        "content_index": 0, "delta": "a" });
    let begun = [
        event("response.queued", queued.clone()),
        format!("event: response.output_text.delta\ndata: {delta}\n\n"),
    ];
    let ended = event("response.completed", completed.clone());
    let cases = [
        (Reply::json(200, &queued), false, true),
        (Reply::sse(begun.clone()), true, true),
        (Reply::json(200, &completed), false, false),
        (Reply::sse(begun.into_iter().chain([ended])), true, false),
    ];
    for (answer, stream, later) in cases {
        let upstream = Upstream::start(answer).await;
        let body = json!({ "model": MODEL, "input": "hi", "background": true, "stream": stream,
                           "max_output_tokens": MOST });
        let to = to(&provider::OPENAI_RESPONSES, upstream.address());
        let expected = if later {
            Charged::Estimated
        } else {
            Charged::Counted
        };
        let used = check(to, "/v1/responses", &body, expected).await;
        assert!(!later || (MOST..MOST + 100).contains(&used), "{used} {body}");
    }
}
