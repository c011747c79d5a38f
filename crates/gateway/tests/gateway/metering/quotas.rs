//! QuotaPolicies as they are declared: which backends are asked, and what is charged to whom.

use testkit::{Reply, Script, Upstream, fixture};

use super::declared::{Declared, TOKENS, answer, limits, quota, snapshot};

const CHECK: &str = "tollgate.dev/limit-mode: check";
const KEY: &str = "ai-gateway-quota_backend_name_default";

/// A quota of each model, in tokens of a year.
fn models(limits: &[(&str, u64)]) -> String {
    let models = limits.iter().map(|(model, limit)| {
        format!("\n- {{modelName: {model}, quota: {{defaultBucket: {{limit: {limit}, duration: 1y}}}}}}")
    });
    format!("perModelQuotas:{}", models.collect::<String>())
}

fn counters(expected: &[(&str, u64)]) -> Vec<(String, u64)> {
    let counters = expected.iter();
    counters
        .map(|(rest, used)| (format!("{KEY}/{rest}"), *used))
        .collect()
}

/// One call may overshoot, the next is refused, and what is refused adds nothing.
#[tokio::test]
async fn a_call_above_the_quota_passes_and_the_next_does_not() {
    let policy = quota("q", CHECK, &["one"], &models(&[("m", 10)]));
    let mut gateway = Declared::serve(&[&[("m", "one")]], &policy).await;
    assert_eq!(gateway.ask("m", &[]).await, 200);
    assert_eq!(gateway.ask("m", &[]).await, 429);
    assert_eq!(gateway.ask("m", &[]).await, 429);
    let expected = counters(&[("one_model_name_override_m", TOKENS)]);
    assert_eq!(gateway.used().await, expected);
}

#[tokio::test]
async fn models_of_other_rules_have_counters_of_their_own() {
    let policy = quota("q", "", &["one"], &models(&[("a", 10), ("b", 10)]));
    let mut gateway = Declared::serve(&[&[("a", "one"), ("b", "one")]], &policy).await;
    assert_eq!(gateway.exhaust("a", &[]).await, 1);
    assert_eq!(gateway.exhaust("b", &[]).await, 1);
    let expected = counters(&[
        ("one_model_name_override_a", TOKENS),
        ("one_model_name_override_b", TOKENS),
    ]);
    assert_eq!(gateway.used().await, expected);
}

/// In one rule an exhausted backend is left out, whatever the others have left.
#[tokio::test]
async fn an_exhausted_backend_is_left_out_while_another_has_quota() {
    let policy = quota("q", CHECK, &["one", "two"], &models(&[("m", 3 * TOKENS - 1)]));
    let mut gateway = Declared::serve(&[&[("m", "one;two")]], &policy).await;
    assert_eq!(gateway.exhaust("m", &[]).await, 6);
    assert_eq!(gateway.backends(), ["one", "one", "one", "two", "two", "two"]);
}

/// Provisioned throughput first, what is paid for by use after it.
#[tokio::test]
async fn a_backend_without_a_quota_takes_what_overflows() {
    let policy = quota("q", "", &["one"], &models(&[("m", 10)]));
    let mut gateway = Declared::serve(&[&[("m", "one;two")]], &policy).await;
    for _ in 0..3 {
        assert_eq!(gateway.ask("m", &[]).await, 200);
    }
    assert_eq!(gateway.backends(), ["one", "two", "two"]);
}

/// Equal regions until one of them is empty.
#[tokio::test]
async fn equal_backends_are_used_until_both_are_empty() {
    let policy = quota("q", "", &["one", "two"], &models(&[("m", 10)]));
    let mut gateway = Declared::serve(&[&[("m", "one two")]], &policy).await;
    assert_eq!(gateway.exhaust("m", &[]).await, 2);
    let mut backends = gateway.backends();
    backends.sort();
    assert_eq!(backends, ["one", "two"]);
}

#[tokio::test]
async fn another_route_to_the_backend_is_charged_too() {
    let policy = quota("q", "", &["one"], &models(&[("up", 10)]));
    let routes: &[&[_]] = &[&[("a", "one=up")], &[("b", "one=up")]];
    let mut gateway = Declared::serve(routes, &policy).await;
    assert_eq!(gateway.ask("b", &[]).await, 200);
    assert_eq!(gateway.ask("a", &[]).await, 429);
    let expected = counters(&[("one_model_name_override_up", TOKENS)]);
    assert_eq!(gateway.used().await, expected);
}

#[tokio::test]
async fn a_shadow_rule_counts_and_does_not_refuse() {
    let rule = "
perModelQuotas:
- modelName: m
  quota:
    bucketRules:
    - clientSelectors: [{headers: [{name: x-team, type: Distinct}]}]
      quota: {limit: 10, duration: 1y}
      shadowMode: true";
    let policy = quota("q", "", &["one"], rule);
    let mut gateway = Declared::serve(&[&[("m", "one")]], &policy).await;
    for _ in 0..3 {
        assert_eq!(gateway.ask("m", &[("x-team", "red")]).await, 200);
    }
    let entry = "one_model_name_override_m_rule-0-x-team-match-0_red";
    assert_eq!(gateway.used().await, counters(&[(entry, 3 * TOKENS)]));
}

/// A share of a backend for each team, of which none uses that of another.
#[tokio::test]
async fn each_team_has_its_share() {
    let rule = "
perModelQuotas:
- modelName: m
  quota:
    defaultBucket: {limit: 1000, duration: 1y}
    bucketRules:
    - clientSelectors: [{headers: [{name: x-team, type: Distinct}]}]
      quota: {limit: 39, duration: 1y}";
    let annotations = format!("{CHECK}, tollgate.dev/quota-buckets: all");
    let all = quota("q", &annotations, &["one"], rule);
    let mut gateway = Declared::serve(&[&[("m", "one")]], &all).await;
    for team in ["red", "blue"] {
        assert_eq!(gateway.exhaust("m", &[("x-team", team)]).await, 2, "{team}");
    }
    let expected = counters(&[
        ("one_model_name_override_m_rule-0-x-team-match-0_blue", 40),
        ("one_model_name_override_m_rule-0-x-team-match-0_red", 40),
        ("one_model_name_override_m_rule-1-match--1_rule-1-match--1", 80),
    ]);
    assert_eq!(gateway.used().await, expected);
}

#[tokio::test]
async fn a_quota_of_the_backend_is_over_all_its_models() {
    let service = "serviceQuota: {quota: {limit: 39, duration: 1y}}";
    let policy = quota("q", CHECK, &["one"], service);
    let mut gateway = Declared::serve(&[&[("a", "one"), ("b", "one")]], &policy).await;
    assert_eq!(gateway.ask("a", &[]).await, 200);
    assert_eq!(gateway.exhaust("b", &[]).await, 1);
    assert_eq!(gateway.ask("a", &[]).await, 429);
    assert_eq!(gateway.used().await, counters(&[("one", 40)]));
}

#[tokio::test]
async fn a_quota_of_nothing_refuses() {
    let policy = quota("q", "", &["one"], &models(&[("m", 0)]));
    let mut gateway = Declared::serve(&[&[("m", "one")]], &policy).await;
    assert_eq!(gateway.ask("m", &[]).await, 429);
    assert_eq!(gateway.upstream.requests().len(), 0);
}

/// What a policy is not for is said for each target and model.
#[tokio::test]
async fn what_a_policy_does_not_reach_is_reported() {
    let upstream = testkit::Upstream::start(testkit::Reply::new()).await;
    let policy = quota("q", "", &["one", "three"], &models(&[("unknown", 10)]));
    let (_, report) = snapshot(&upstream, &[&[("m", "one=up")]], &policy);
    let said = format!("{report:?}");
    for reason in ["three does not exist", "no route asks default/one for"] {
        assert!(said.contains(reason), "{reason}: {said}");
    }
}

/// A quota that is malformed lets nobody through; those who have another backend go there.
#[tokio::test]
async fn a_malformed_quota_lets_nobody_through() {
    let malformed = "perModelQuotas: [{modelName: m, quota: {costExpression: 'total_tokens +', defaultBucket: {limit: 1000, duration: 1y}}}]";
    let policy = quota("q", "", &["one"], malformed);
    let mut gateway = Declared::serve_faulty(&[&[("m", "one"), ("n", "one")]], &policy).await;
    assert_eq!(gateway.ask("m", &[]).await, 500);
    assert_eq!(gateway.ask("n", &[]).await, 200, "of another model");
    let mut gateway = Declared::serve_faulty(&[&[("m", "one;two")]], &policy).await;
    assert_eq!(gateway.ask("m", &[]).await, 200);
    assert_eq!(gateway.backends(), ["two"]);
}

/// A limit that stands beside a fault of its policy holds, and one that is malformed lets nobody through.
#[tokio::test]
async fn limits_do_not_vanish_with_the_faults_beside_them() {
    let (good, bad) = (
        "{limit: {requests: 1, unit: Year}}",
        "{limit: {requests: 9, unit: Year}, cost: {request: {from: Number}}}",
    );
    for (annotations, rules, statuses) in [
        ("tollgate.dev/balance: nonsense", vec![good], [200, 429]),
        ("", vec![good, bad], [500, 500]),
    ] {
        let policy = limits(annotations, "kind: HTTPRoute, name: route-0", &rules);
        let mut gateway = Declared::serve_faulty(&[&[("m", "one")]], &policy).await;
        for status in statuses {
            assert_eq!(gateway.ask("m", &[]).await, status, "{annotations} {rules:?}");
        }
    }
}

/// Whoever is served is told what is left of the tightest limit, be it a quota; who is refused, when the first of the
/// quotas has something left.
#[tokio::test]
async fn clients_are_told_what_is_left_of_quotas() {
    let per = |model: &str, duration: &str| {
        format!(
            "perModelQuotas: [{{modelName: {model}, quota: {{defaultBucket: {{limit: 100, duration: {duration}}}}}}}]"
        )
    };
    let mut policies = quota("later", CHECK, &["two"], &per("m", "1y"));
    policies += &quota("sooner", CHECK, &["one"], &per("m", "1h"));
    policies += &limits(
        "",
        "kind: HTTPRoute, name: route-0",
        &["{limit: {requests: 1000, unit: Hour}}"],
    );
    let mut gateway = Declared::serve(&[&[("m", "one;two")]], &policies).await;
    let left = |answer: &testkit::client::Answer| {
        let left = answer.header("x-ratelimit-remaining");
        left.parse::<u64>().expect("a number")
    };
    let answer = gateway.answer("m", &[]).await;
    assert_eq!((answer.status, left(&answer)), (200, 100));
    let answer = gateway.answer("m", &[]).await;
    assert_eq!((answer.status, left(&answer)), (200, 100 - TOKENS));
    while gateway.ask("m", &[]).await == 200 {}
    let refused = gateway.answer("m", &[]).await;
    assert_eq!((refused.status, left(&refused)), (429, 0));
    let after: u64 = refused.header("retry-after").parse().expect("a number");
    assert!(after <= 3600, "{after}");
}

/// An answer that a filter has kept back was counted by its upstream, whoever's is told in the end; where it is that one
/// after all, it is not charged to who was asked next.
#[tokio::test]
async fn an_answer_that_is_kept_back_is_charged_to_its_backend() {
    let unlimited = "perModelQuotas: [{modelName: m, quota: {defaultBucket: {limit: 100000, duration: 1y}}}]";
    let mut policies = quota("q", "", &["one", "two"], unlimited);
    policies += "---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: BackendTrafficPolicy
metadata: {name: filtered, annotations: {tollgate.dev/retry-on: content-filter}}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: route-0}]
";
    for (second, used) in [(200, TOKENS), (500, 0)] {
        let upstream = Script::answer(move |request| {
            let mut answer = answer();
            if request.target.starts_with("/one") {
                answer["choices"][0]["finish_reason"] = "content_filter".into();
                return Reply::json(200, &answer);
            }
            match second {
                200 => Reply::json(200, &answer),
                status => Reply::json(status, &fixture::openai::error("server_error", "x", "down")),
            }
        });
        let upstream = Upstream::start(upstream).await;
        let mut gateway = Declared::serve_before(upstream, &[&[("m", "one;two")]], &policies).await;
        assert_eq!(gateway.ask("m", &[]).await, 200);
        let mut expected = vec![("one_model_name_override_m", TOKENS)];
        expected.extend((used > 0).then_some(("two_model_name_override_m", used)));
        let found: Vec<_> = gateway
            .used()
            .await
            .into_iter()
            .filter(|(_, used)| *used > 0)
            .collect();
        assert_eq!(found, counters(&expected), "{second}");
    }
}
