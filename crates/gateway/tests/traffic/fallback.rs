//! Retries and fallback as a policy says, and as clients wish.

use serde_json::json;
use testkit::{Reply, Upstream, client, fixture};

use crate::setup::{Setup, asked, at, failure, good, greeting, nowhere};

/// Asks once and checks the status and how often each upstream was asked.
async fn check(retry: &str, first: Vec<Reply>, status: u16, expected: [usize; 2]) {
    let (first, second) = (Upstream::start(first).await, good().await);
    let policy = format!("retry: {retry}");
    let setup = Setup::start(&policy, &[at(&first), at(&second).after(1)]).await;
    let answer = setup.ask().await;
    assert_eq!(answer.status, status, "{retry}: {}", answer.text());
    assert_eq!(asked([&first, &second]), expected, "{retry}");
}

#[tokio::test]
async fn statuses_are_tried_again_if_they_are_named() {
    let quick = "perRetry: { backOff: { baseInterval: 1ms } }";
    let always = || vec![failure(500)];
    check(&format!("{{ {quick} }}"), always(), 500, [1, 0]).await;
    check(&format!("{{ {quick} }}"), vec![failure(503)], 200, [1, 1]).await;
    check(
        &format!("{{ retryOn: {{ triggers: [5xx] }}, {quick} }}"),
        always(),
        200,
        [1, 1],
    )
    .await;
    check(
        &format!("{{ retryOn: {{ triggers: [gateway-error] }}, {quick} }}"),
        always(),
        500,
        [1, 0],
    )
    .await;
    let named = format!(
        "{{ retryOn: {{ triggers: [retriable-status-codes], httpStatusCodes: [429, 500] }}, {quick} }}"
    );
    check(&named, always(), 200, [1, 1]).await;
    check(&named, vec![failure(429)], 200, [1, 1]).await;
    check(&named, vec![failure(503)], 503, [1, 0]).await;
    let without_trigger = format!("{{ retryOn: {{ triggers: [reset], httpStatusCodes: [500] }}, {quick} }}");
    check(&without_trigger, always(), 500, [1, 0]).await;
    check(&without_trigger, vec![Reply::new().reset()], 200, [1, 1]).await;
    check("{ numRetries: 0 }", vec![failure(503)], 503, [1, 0]).await;
}

#[tokio::test]
async fn attempts_at_a_priority_are_counted() {
    let on = "retryOn: { triggers: [5xx] }, perRetry: { backOff: { baseInterval: 1ms } }";
    let broken = || vec![failure(500)];
    check(
        &format!("{{ numRetries: 5, numAttemptsPerPriority: 1, {on} }}"),
        broken(),
        200,
        [1, 1],
    )
    .await;
    check(
        &format!("{{ numRetries: 5, numAttemptsPerPriority: 3, {on} }}"),
        broken(),
        200,
        [3, 1],
    )
    .await;
    check(
        &format!("{{ numRetries: 1, numAttemptsPerPriority: 3, {on} }}"),
        broken(),
        500,
        [2, 0],
    )
    .await;
    let recovers = vec![failure(500), failure(500), greeting()];
    check(
        &format!("{{ numRetries: 5, numAttemptsPerPriority: 9, {on} }}"),
        recovers,
        200,
        [3, 0],
    )
    .await;
}

#[tokio::test]
async fn one_backend_is_asked_again() {
    let upstream = Upstream::start(vec![failure(500), failure(500), greeting()]).await;
    let retry = "retry: { numRetries: 2, retryOn: { triggers: [5xx] }, perRetry: { backOff: { baseInterval: 1ms } } }";
    let setup = Setup::start(retry, &[at(&upstream)]).await;
    assert_eq!(setup.ask().await.status, 200);
    assert_eq!(asked([&upstream]), [3]);
}

/// However often an upstream fails: that the next one is asked is not bounded by what retries cost.
#[tokio::test]
async fn an_outage_does_not_use_fallback_up() {
    let (refusing, second) = (Upstream::refusing(), good().await);
    let setup = Setup::start(
        "loadBalancer: { type: Random }",
        &[nowhere(refusing.address), at(&second).after(1)],
    )
    .await;
    for _ in 0..150 {
        assert_eq!(setup.ask().await.status, 200);
    }
}

#[tokio::test]
async fn an_attempt_has_its_own_limit() {
    let retry =
        "{ perRetry: { timeout: 100ms, backOff: { baseInterval: 1ms } }, retryOn: { triggers: [reset] } }";
    check(retry, vec![Reply::new().stall()], 200, [1, 1]).await;
    let retry = "{ perRetry: { timeout: 100ms }, retryOn: { triggers: [connect-failure] } }";
    check(retry, vec![Reply::new().stall()], 504, [1, 0]).await;
}

/// Comments keep a stream alive, but are no event.
#[tokio::test]
async fn the_first_event_has_its_own_limit() {
    let chatty = Reply::stream()
        .frame(": hold on\n\n")
        .frame(": hold on\n\n")
        .stall();
    let (first, second) = (
        Upstream::start(chatty).await,
        Upstream::start(Reply::sse(fixture::openai::frames("gpt"))).await,
    );
    let setup = Setup::annotated(
        "tollgate.dev/first-event-timeout: 200ms",
        "loadBalancer: { type: Random }",
        &[at(&first), at(&second).after(1)],
    )
    .await;
    let answer = setup.ask_stream().await;
    assert_eq!((answer.status, answer.whole), (200, true), "{}", answer.text());
    assert_eq!(asked([&first, &second]), [1, 1]);
}

#[tokio::test]
async fn prompts_that_do_not_fit_are_tried_elsewhere_on_demand() {
    let long = fixture::openai::error("invalid_request_error", "context_length_exceeded", "too long");
    let code = |code: &str| {
        let mut document = long.clone();
        document["error"]["code"] = code.into();
        Reply::json(400, &document)
    };
    let mut filtered = fixture::openai::response("gpt");
    filtered["choices"][0]["finish_reason"] = "content_filter".into();
    let filtered = Reply::json(200, &filtered);
    let cases = [
        ("context-length", code("context_length_exceeded"), true),
        ("content-filter", code("context_length_exceeded"), false),
        ("content-filter", code("content_filter"), true),
        ("content-filter", filtered.clone(), true),
        ("context-length", filtered, false),
        ("context-length", code("invalid_value"), false),
    ];
    for (demand, reply, moves) in cases {
        let (first, second) = (Upstream::start(reply).await, good().await);
        let annotation = format!("tollgate.dev/retry-on: {demand}");
        let backends = [at(&first), at(&second).after(1)];
        let setup = Setup::annotated(&annotation, "loadBalancer: { type: Random }", &backends).await;
        setup.ask().await;
        assert_eq!(asked([&first, &second]), [1, usize::from(moves)], "{demand}");
    }
}

/// What was kept back is the answer where nobody answers better.
#[tokio::test]
async fn a_filtered_answer_is_the_last_resort() {
    let mut filtered = fixture::openai::response("gpt");
    filtered["choices"][0]["finish_reason"] = "content_filter".into();
    let (first, second) = (
        Upstream::start(Reply::json(200, &filtered)).await,
        Upstream::start(failure(500)).await,
    );
    let setup = Setup::annotated(
        "tollgate.dev/retry-on: content-filter",
        "loadBalancer: { type: Random }",
        &[at(&first), at(&second).after(1)],
    )
    .await;
    let answer = setup.ask().await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["choices"][0]["finish_reason"], "content_filter");
    assert_eq!(asked([&first, &second]), [1, 1]);
}

#[tokio::test]
async fn clients_may_decline_and_trusted_ones_may_choose() {
    let trusted = "tollgate.dev/fallback-header: trusted";
    let cases = [
        ("", "none", 500, [1, 0, 0]),
        (trusted, "none", 500, [1, 0, 0]),
        ("", "b2", 200, [1, 1, 0]),
        (trusted, "b2", 200, [0, 0, 1]),
        (trusted, "b0, default/b2", 200, [1, 0, 1]),
        (trusted, "m1", 200, [0, 1, 0]),
        (trusted, "nobody", 400, [0, 0, 0]),
    ];
    for (annotations, wish, status, expected) in cases {
        let (first, second, third) = (Upstream::start(failure(500)).await, good().await, good().await);
        let backends = [at(&first), at(&second).after(1), at(&third).after(2)];
        let setup = Setup::annotated(annotations, "loadBalancer: { type: Random }", &backends).await;
        let answer = setup.ask_with(&[("x-ai-eg-fallback", wish)]).await;
        assert_eq!(answer.status, status, "{wish}: {}", answer.text());
        assert_eq!(asked([&first, &second, &third]), expected, "{wish}");
        for request in [&first, &second, &third]
            .iter()
            .flat_map(|upstream| upstream.requests())
        {
            assert_eq!(
                request.header("x-ai-eg-fallback"),
                "",
                "it is the gateway's to know"
            );
        }
    }
}

#[tokio::test]
async fn answers_tell_of_attempts_if_they_are_to() {
    let (first, second) = (Upstream::start(failure(500)).await, good().await);
    let backends = || [at(&first), at(&second).after(1)];
    let setup = Setup::annotated(
        "tollgate.dev/attempt-headers: 'true'",
        "loadBalancer: { type: Random }",
        &backends(),
    )
    .await;
    let answer = setup.ask().await;
    let told = |name| answer.header(name).to_owned();
    assert_eq!(
        (told("x-tollgate-attempts"), told("x-tollgate-backend")),
        ("2".to_owned(), "default/b1".to_owned())
    );
    let setup = Setup::start("loadBalancer: { type: Random }", &backends()).await;
    assert_eq!(setup.ask().await.header("x-tollgate-attempts"), "");
}

#[tokio::test]
async fn what_an_upstream_would_not_hear_is_told_hidden_or_refused() {
    let upstream = good().await;
    // A server of the format that samples from no k likeliest tokens, asked by a client of another one.
    let request = json!({
        "model": "m", "max_tokens": 9, "top_k": 4, "messages": [{"role": "user", "content": "hi"}],
    });
    for (annotations, status, lost) in [
        ("", 200, "top_k"),
        ("tollgate.dev/losses: tell", 200, "top_k"),
        ("tollgate.dev/losses: hide", 200, ""),
        ("tollgate.dev/losses: refuse", 422, ""),
    ] {
        let setup = Setup::annotated(annotations, "loadBalancer: { type: Random }", &[at(&upstream)]).await;
        let answer = client::post(setup.address, fixture::messages::PATH, &[], &request).await;
        assert_eq!(answer.status, status, "{annotations}: {}", answer.text());
        assert_eq!(answer.header("x-tollgate-loss"), lost, "{annotations}");
        if status == 422 {
            let told = answer.json();
            let message = told["error"]["message"].as_str().unwrap_or_default();
            assert!(message.starts_with("top_k cannot be carried"), "{told}");
        }
    }
    // What is heard as it was said is served.
    let setup = Setup::annotated(
        "tollgate.dev/losses: refuse",
        "loadBalancer: { type: Random }",
        &[at(&upstream)],
    )
    .await;
    let mut plain = request;
    plain.as_object_mut().expect("an object").remove("top_k");
    let answer = client::post(setup.address, fixture::messages::PATH, &[], &plain).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test]
async fn what_answers_call_the_model_is_for_a_policy_to_say() {
    let upstream = good().await;
    for (annotations, model, told) in [
        ("", "m", "gpt"),
        ("tollgate.dev/model-name: client", "m", "gpt"),
        ("tollgate.dev/model-name: upstream", "gpt", ""),
    ] {
        let setup = Setup::annotated(annotations, "loadBalancer: { type: Random }", &[at(&upstream)]).await;
        let answer = setup.ask().await;
        assert_eq!(answer.json()["model"], model, "{annotations}");
        assert_eq!(answer.header("x-tollgate-model"), told, "{annotations}");
    }
}
