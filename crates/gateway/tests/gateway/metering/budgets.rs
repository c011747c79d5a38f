//! Budgets of tokens as BackendTrafficPolicies declare them.

use super::declared::{Declared, TOKENS, limits};

const CHECK: &str = "tollgate.dev/limit-mode: check";
const ROUTE: &str = "kind: HTTPRoute, name: route-0";

/// A rule that is checked with nothing and charged one of the costs.
fn rule(selectors: &str, limit: u64, cost: &str) -> String {
    format!(
        "{{clientSelectors: [{selectors}], limit: {{requests: {limit}, unit: Year}}, cost: {{request: {{from: Number, number: 0}}, \
         response: {{from: Metadata, metadata: {{namespace: io.envoy.ai_gateway, key: {cost}}}}}}}}}"
    )
}

const USER: &str = "{headers: [{name: x-user-id, type: Distinct}]}";
const USER_AND_MODEL: &str =
    "{headers: [{name: x-user-id, type: Distinct}, {name: x-ai-eg-model, value: a}]}";

#[tokio::test]
async fn calls_pass_until_more_than_the_budget_is_used() {
    let policy = limits(CHECK, ROUTE, &[&rule(USER, 2 * TOKENS, "llm_total_token")]);
    let mut gateway = Declared::serve(&[&[("a", "one")]], &policy).await;
    // Budget N and C for each call: floor(N / C) + 1.
    assert_eq!(gateway.exhaust("a", &[("x-user-id", "alice")]).await, 3);
    assert_eq!(gateway.exhaust("a", &[("x-user-id", "bob")]).await, 3);
    // The rule is not for a request without the header.
    assert_eq!(gateway.ask("a", &[]).await, 200);
    let used: Vec<u64> = gateway.used().await.into_iter().map(|(_, used)| used).collect();
    assert_eq!(used, [3 * TOKENS; 2]);
}

#[tokio::test]
async fn budgets_by_user_and_model_are_independent() {
    let rule = rule(USER_AND_MODEL, TOKENS, "llm_total_token");
    let policy = limits("", ROUTE, &[&rule]);
    let mut gateway = Declared::serve(&[&[("a", "one"), ("b", "one")]], &policy).await;
    assert_eq!(gateway.exhaust("a", &[("x-user-id", "alice")]).await, 1);
    assert_eq!(gateway.exhaust("a", &[("x-user-id", "bob")]).await, 1);
    assert_eq!(gateway.ask("b", &[("x-user-id", "alice")]).await, 200);
}

#[tokio::test]
async fn prompts_and_answers_have_budgets_of_their_own() {
    let input = rule(USER, 1000, "llm_input_token");
    let output = rule(USER, 10, "llm_output_token");
    let policy = limits("", ROUTE, &[&input, &output]);
    let mut gateway = Declared::serve(&[&[("a", "one")]], &policy).await;
    let alice = [("x-user-id", "alice")];
    assert_eq!(gateway.exhaust("a", &alice).await, 2);
    let used: Vec<u64> = gateway.used().await.into_iter().map(|(_, used)| used).collect();
    assert_eq!(used, [2 * 15, 2 * 5]);
    let refused = gateway.answer("a", &alice).await;
    assert_eq!(
        refused.header("x-ratelimit-limit"),
        "10, 1000;w=31536000, 10;w=31536000"
    );
    assert_eq!(refused.header("x-ratelimit-remaining"), "0");
    assert_eq!(refused.header("retry-after"), refused.header("x-ratelimit-reset"));
}

#[tokio::test]
async fn rules_have_counters_of_their_own_unless_they_are_shared() {
    let alone = "{limit: {requests: 1, unit: Year}}";
    let shared = "{limit: {requests: 1, unit: Year}, shared: true}";
    let models: &[_] = &[("a", "one"), ("b", "one")];
    let gateway = "kind: Gateway, name: gateway";
    for (rule, admitted) in [(alone, 200), (shared, 429)] {
        let mut gateway = Declared::serve(&[models], &limits("", gateway, &[rule])).await;
        assert_eq!(gateway.ask("a", &[]).await, 200);
        assert_eq!(gateway.ask("b", &[]).await, admitted, "{rule}");
    }
}

#[tokio::test]
async fn clients_are_told_nothing_where_that_is_off() {
    let policy = limits("", ROUTE, &["{limit: {requests: 1, unit: Year}}"]);
    let policy = format!("{policy}      xRateLimitHeaders: Off\n");
    let mut gateway = Declared::serve(&[&[("a", "one")]], &policy).await;
    for status in [200, 429] {
        let answer = gateway.answer("a", &[]).await;
        assert_eq!(answer.status, status);
        assert!(!answer.headers.contains_key("x-ratelimit-limit"));
    }
}

/// A window that slides still knows what the one before it has used, so that its counter outlives it.
#[tokio::test]
async fn a_sliding_window_refuses_and_says_when_there_is_room() {
    let policy = limits(
        "tollgate.dev/limit-window: sliding",
        ROUTE,
        &["{limit: {requests: 1, unit: Day}}"],
    );
    let mut gateway = Declared::serve(&[&[("a", "one")]], &policy).await;
    assert_eq!(gateway.ask("a", &[]).await, 200);
    let refused = gateway.answer("a", &[]).await;
    assert_eq!(refused.status, 429);
    let reset: u64 = refused.header("x-ratelimit-reset").parse().expect("seconds");
    let wait: u64 = refused.header("retry-after").parse().expect("seconds");
    assert!(wait > reset, "{wait} {reset}");
}
