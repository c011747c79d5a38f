//! What is counted: limits and quotas hold, and everything that was used is charged, however a request ends.

mod both;
mod budgets;
mod cut;
mod declared;
mod late;
mod money;
mod outcomes;
mod quotas;
mod refusals;
mod unreachable;
mod usage;

use std::sync::Arc;

use config::Snapshot;
use gateway::Gateway;
use policy::{
    cost::Costs,
    quota::{Owner, Quota, Together},
    rate_limit::{Limits, Switches, switch},
};
use serde_json::{Value, json};
use testkit::{Client, Reply, Upstream, fixture};

use crate::fixture::{CHAT, MODEL, Served, To, openai, options, snapshot_with};

/// The tokens of the answers in [`fixture`].
const OPENAI_TOKENS: u64 = fixture::USAGE.0 + fixture::USAGE.1;

/// What is declared of a route.
#[derive(Default)]
struct Declared {
    rules: Option<Value>,
    /// Rules that each gateway counts by itself.
    local: Vec<Value>,
    /// By the place of the backend.
    quotas: Vec<(usize, Value)>,
    switches: Switches,
}

impl Declared {
    fn limit(rules: Value) -> Self {
        Self {
            rules: Some(rules),
            ..Self::default()
        }
    }

    fn checked(self) -> Self {
        self.held("check")
    }

    /// Holds the limits in the mode of that name.
    fn held(self, mode: &str) -> Self {
        let mode = switch::Switch::parse(mode, switch::mode).expect("a word");
        Self {
            switches: Switches {
                mode,
                ..Switches::default()
            },
            ..self
        }
    }

    async fn serve(self, candidates: impl IntoIterator<Item = To>) -> Served {
        let gateway = Gateway::start(options()).await.expect("the admin port is free");
        gateway
            .install(self.snapshot(candidates))
            .await
            .expect("the port is free");
        let address = *gateway.addresses().first().expect("one listener");
        Served { gateway, address }
    }

    fn snapshot(self, candidates: impl IntoIterator<Item = To>) -> Snapshot {
        let total = json!([{ "metadataKey": "llm_total_token", "type": "TotalToken" }]);
        let total: Vec<_> = serde_json::from_value(total).expect("costs");
        let (costs, faults) = Costs::parse(&total, &[]);
        assert_eq!(faults, []);
        let limits = self.rules.map(|rules| {
            let spec = json!({ "global": { "rules": rules }, "local": { "rules": self.local } });
            let spec = serde_json::from_value(spec).expect("a spec");
            let (limits, faults) = Limits::parse("default/policy", &spec, &self.switches);
            assert_eq!(faults, []);
            Arc::new(limits)
        });
        snapshot_with(Default::default(), candidates, |rule| {
            rule.costs = Some(Arc::new(costs.clone()));
            rule.limits = limits.clone();
            for (place, written) in &self.quotas {
                let candidates = Arc::make_mut(&mut rule.candidates);
                let candidate = candidates.get_mut(*place).expect("a candidate");
                let backend = candidate.backend.as_mut().expect("a backend");
                let owner = Owner {
                    backend: &backend.id.clone(),
                    policy: "default/quota",
                    switches: &self.switches,
                    together: Together::Any,
                };
                let mut quota = Quota::default();
                let written = serde_json::from_value(written.clone()).expect("a quota");
                quota.limit(owner, &written).expect("well-formed");
                Arc::make_mut(backend).quota = Some(Arc::new(quota));
            }
        })
    }
}

fn of_user(limit: u64) -> Value {
    json!([{
        "clientSelectors": [{ "headers": [{ "name": "x-user-id", "type": "Distinct" }] }],
        "limit": { "requests": limit, "unit": "Year" },
        "cost": {
            "request": { "from": "Number", "number": 0 },
            "response": {
                "from": "Metadata",
                "metadata": { "namespace": "io.envoy.ai_gateway", "key": "llm_total_token" },
            },
        },
    }])
}

fn quota(limit: u64) -> Value {
    json!({ "modelName": MODEL, "quota": { "defaultBucket": { "limit": limit, "duration": "1y" } } })
}

fn request(stream: bool) -> Value {
    let mut request = fixture::openai::request(MODEL, stream);
    request["max_tokens"] = json!(20);
    request
}

async fn ask(served: &Served, user: &str, stream: bool) -> testkit::client::Answer {
    testkit::client::post(served.address, CHAT, &[("x-user-id", user)], &request(stream)).await
}

/// Returns what is held of all counters.
async fn held(served: &Served) -> u64 {
    let usage = served.admin("/usage").await.json();
    let counters = usage["counters"].as_array().expect("a list");
    counters
        .iter()
        .filter_map(|counter| counter["held"].as_u64())
        .sum()
}

/// Returns the counters that are used, by the part of their key that `within` picks, once nothing is held.
async fn used(served: &Served, within: &str) -> u64 {
    loop {
        let usage = served.admin("/usage").await.json();
        let counters = usage["counters"].as_array().expect("a list").clone();
        let mut counters = counters.iter().filter(|counter| {
            counter["counter"]
                .as_str()
                .is_some_and(|key| key.contains(within))
        });
        match counters.next() {
            Some(counter) if counter["held"] == 0 => return counter["used"].as_u64().expect("a number"),
            Some(_) => tokio::task::yield_now().await,
            None => return 0,
        }
    }
}

#[tokio::test]
async fn tokens_are_charged_and_limited_by_user() {
    let upstream = Upstream::start(Reply::json(200, &fixture::openai::response("gpt"))).await;
    let served = Declared::limit(of_user(30))
        .checked()
        .serve([openai(&upstream)])
        .await;
    for _ in 0..2 {
        let answer = ask(&served, "alice", false).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("x-ratelimit-limit"), "30, 30;w=31536000");
    }
    let used = used(&served, "alice").await;
    assert!(used > 30, "{used}");
    let refused = ask(&served, "alice", false).await;
    assert_eq!(refused.status, 429);
    assert_eq!(
        refused.json()["error"]["type"],
        "rate_limit_error",
        "{}",
        refused.text()
    );
    assert_eq!(refused.header("x-ratelimit-remaining"), "0");
    assert!(
        refused
            .header("retry-after")
            .parse::<u64>()
            .is_ok_and(|seconds| seconds > 0)
    );
    // Others have their own.
    assert_eq!(ask(&served, "bob", false).await.status, 200);
    let refused = ["reason=\"rate_limit\"", "status=\"429\""];
    served
        .metric_reaches("tollgate_refusals_total", &refused, 1.0)
        .await;
    let full = served.metric("tollgate_limit_utilization_ratio", &["default/policy/rule/0"]);
    assert!(full.await > 1.0, "the fullest counter is that of alice");
    served
        .metric_reaches("tollgate_limited_total", &["default/policy/rule/0"], 1.0)
        .await;
}

/// What requests have cost is counted by name and route, and told of each of them with the limits that were asked.
#[tokio::test]
async fn costs_are_counted_and_explained() {
    let upstream = Upstream::start(Reply::json(200, &fixture::openai::response("gpt"))).await;
    let served = Declared::limit(of_user(1000)).serve([openai(&upstream)]).await;
    for _ in 0..2 {
        assert_eq!(ask(&served, "alice", false).await.status, 200);
    }
    let labels = ["cost=\"llm_total_token\"", "route=\"default/route\""];
    let spent = 2.0 * OPENAI_TOKENS as f64;
    served
        .metric_reaches("tollgate_costs_total", &labels, spent)
        .await;
    let recent = served.admin("/debug/requests?limit=1").await.json();
    let id = recent[0]["id"].as_str().expect("an id");
    let told = served.admin(&format!("/debug/requests/{id}")).await.json();
    assert_eq!(told["limits"], json!(["default/policy/rule/0"]));
    let costs = json!({ "estimated": false, "charged": { "llm_total_token": OPENAI_TOKENS } });
    assert_eq!(told["costs"], costs);
}

/// An expression that fails breaks no reply: the tokens are charged in its place, and that is counted.
#[tokio::test]
async fn a_cost_that_fails_is_counted() {
    let upstream = Upstream::start(Reply::json(200, &fixture::openai::response("gpt"))).await;
    let cel = "total_tokens > 0u ? output_tokens - 100000u : 0u";
    let costs = json!([{ "metadataKey": "short", "type": "CEL", "cel": cel }]);
    let (costs, faults) = Costs::parse(&serde_json::from_value::<Vec<_>>(costs).expect("costs"), &[]);
    assert_eq!(faults, []);
    let costs = Arc::new(costs);
    let snapshot = snapshot_with(Default::default(), [openai(&upstream)], |rule| {
        rule.costs = Some(Arc::clone(&costs));
    });
    let gateway = Gateway::start(options()).await.expect("the admin port is free");
    gateway.install(snapshot).await.expect("the port is free");
    let address = *gateway.addresses().first().expect("one listener");
    let served = Served { gateway, address };
    assert_eq!(ask(&served, "alice", false).await.status, 200);
    let labels = ["cost=\"short\"", "route=\"default/route\""];
    served
        .metric_reaches("tollgate_cost_failures_total", &labels, 1.0)
        .await;
    served
        .metric_reaches("tollgate_costs_total", &labels, OPENAI_TOKENS as f64)
        .await;
}

#[tokio::test]
async fn requests_that_run_at_the_same_time_do_not_overshoot() {
    let upstream = Upstream::start(Reply::json(200, &fixture::openai::response("gpt"))).await;
    let served = Declared::limit(of_user(200)).serve([openai(&upstream)]).await;
    let served = Arc::new(served);
    let mut calls = Vec::new();
    for _ in 0..40 {
        let served = Arc::clone(&served);
        calls.push(async move { ask(&served, "alice", false).await.status });
    }
    let statuses = join(calls).await;
    let admitted = statuses.iter().filter(|status| **status == 200).count();
    let refused = statuses.iter().filter(|status| **status == 429).count();
    assert_eq!(admitted + refused, 40, "{statuses:?}");
    assert!(admitted > 0 && refused > 0, "{statuses:?}");
    let used = used(&served, "alice").await;
    assert!(used <= 200, "{used}");
    assert_eq!(upstream.requests().len(), admitted);
}

#[tokio::test]
async fn a_client_that_goes_away_is_charged_what_was_said() {
    let begun = Reply::stream().frames(fixture::openai::frames("gpt").into_iter().take(2));
    let upstream = Upstream::start(begun.stall()).await;
    let served = Declared::limit(of_user(1000)).serve([openai(&upstream)]).await;
    let mut client = Client::connect(served.address).await;
    let headers = [("x-user-id", "alice")];
    client.post(CHAT, &headers, &request(true)).await.expect("sent");
    client.head().await.expect("a head");
    client.frame().await.expect("an event");
    client.reset();
    upstream.closed().await;
    served
        .metric_reaches("tollgate_requests_total", &["outcome=\"dropped\""], 1.0)
        .await;
    let used = used(&served, "alice").await;
    let prompt = request(true).to_string().len().div_ceil(4) as u64;
    assert!(used > prompt && used < prompt + 20, "{used}");
}

#[tokio::test]
async fn an_upstream_that_fails_charges_nothing() {
    let upstream = Upstream::start(Reply::json(500, &json!({}))).await;
    let served = Declared::limit(of_user(1000)).serve([openai(&upstream)]).await;
    assert_eq!(ask(&served, "alice", false).await.status, 500);
    assert_eq!(used(&served, "alice").await, 0);
}

#[tokio::test]
async fn a_stream_is_charged_as_it_is_counted() {
    let upstream = Upstream::start(Reply::sse(fixture::openai::frames("gpt"))).await;
    let served = Declared::limit(of_user(1000)).serve([openai(&upstream)]).await;
    let whole = Upstream::start(Reply::json(200, &fixture::openai::response("gpt"))).await;
    let also = Declared::limit(of_user(1000)).serve([openai(&whole)]).await;
    assert_eq!(ask(&served, "alice", true).await.status, 200);
    assert_eq!(ask(&also, "alice", false).await.status, 200);
    assert_eq!(used(&served, "alice").await, OPENAI_TOKENS);
    assert_eq!(used(&also, "alice").await, OPENAI_TOKENS);
}

#[tokio::test]
async fn what_nobody_counts_is_estimated() {
    let mut response = fixture::openai::response("gpt");
    response.as_object_mut().expect("an object").remove("usage");
    let upstream = Upstream::start(Reply::json(200, &response)).await;
    let served = Declared::limit(of_user(1000)).serve([openai(&upstream)]).await;
    assert_eq!(ask(&served, "alice", false).await.status, 200);
    let prompt = request(false).to_string().len().div_ceil(4) as u64;
    assert!(used(&served, "alice").await > prompt);
}

#[tokio::test]
async fn an_exhausted_backend_is_left_out() {
    let first = Upstream::start(Reply::json(200, &fixture::openai::response("first"))).await;
    let second = Upstream::start(Reply::json(200, &fixture::openai::response("second"))).await;
    let declared = Declared {
        quotas: vec![(0, quota(10)), (1, quota(10))],
        ..Declared::default()
    };
    let served = declared.serve([openai(&first), openai(&second).after()]).await;
    for model in ["first", "second"] {
        let answer = ask(&served, "alice", false).await;
        assert_eq!((answer.status, &answer.json()["model"]), (200, &json!(model)));
        // The charge is booked with the last byte, which its reader may see a moment earlier.
        while used(&served, &format!("backend-{}", usize::from(model == "second"))).await == 0 {
            tokio::task::yield_now().await;
        }
    }
    let refused = ask(&served, "alice", false).await;
    assert_eq!(refused.status, 429, "{}", refused.text());
    assert_eq!((first.requests().len(), second.requests().len()), (1, 1));
    let key = format!("ai-gateway-quota_backend_name_default/backend-0_model_name_override_{MODEL}_");
    assert_eq!(used(&served, &key).await, OPENAI_TOKENS);
    let decisions = "ai_gateway_quota_route_decisions_total";
    for result in ["first", "fallback", "exhausted"] {
        let label = format!("result=\"{result}\"");
        served.metric_reaches(decisions, &[&label], 1.0).await;
    }
    served
        .metric_reaches("ai_gateway_quota_fallbacks_total", &[], 1.0)
        .await;
    let labels = ["backend=\"default/backend-0\"", "result=\"exhausted\""];
    served
        .metric_reaches("ai_gateway_quota_checks_total", &labels, 2.0)
        .await;
    let (full, labels) = (OPENAI_TOKENS as f64 / 10.0, ["default/backend-0"]);
    served
        .metric_reaches("ai_gateway_quota_utilization_ratio", &labels, full)
        .await;
}

#[tokio::test]
async fn an_attempt_that_fails_uses_no_quota() {
    let broken = Upstream::start(Reply::json(500, &json!({}))).await;
    let good = Upstream::start(Reply::json(200, &fixture::openai::response("good"))).await;
    let declared = Declared {
        quotas: vec![(0, quota(100)), (1, quota(100))],
        ..Declared::default()
    };
    let served = declared.serve([openai(&broken), openai(&good).after()]).await;
    assert_eq!(ask(&served, "alice", false).await.status, 200);
    assert_eq!(used(&served, "backend-1").await, OPENAI_TOKENS);
    assert_eq!(used(&served, "backend-0").await, 0);
}

#[tokio::test]
async fn counters_outlive_a_reload() {
    let upstream = Upstream::start(Reply::json(200, &fixture::openai::response("gpt"))).await;
    let rules = json!([{ "limit": { "requests": 1, "unit": "Year" } }]);
    let served = Declared::limit(rules.clone()).serve([openai(&upstream)]).await;
    assert_eq!(ask(&served, "alice", false).await.status, 200);
    let again = Declared::limit(rules).snapshot([openai(&upstream)]);
    served.gateway.install(again).await.expect("the port is kept");
    assert_eq!(ask(&served, "alice", false).await.status, 429);
}

/// Runs calls at the same time.
async fn join<F: Future>(calls: Vec<F>) -> Vec<F::Output> {
    let mut calls: Vec<_> = calls.into_iter().map(|call| (Box::pin(call), None)).collect();
    std::future::poll_fn(|cx| {
        for (call, output) in &mut calls {
            if output.is_none()
                && let std::task::Poll::Ready(ready) = call.as_mut().poll(cx)
            {
                *output = Some(ready);
            }
        }
        if calls.iter().all(|(_, output)| output.is_some()) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    calls.into_iter().filter_map(|(_, output)| output).collect()
}

/// Every answer that a client wants to choose from may have as many tokens.
#[tokio::test]
async fn all_answers_of_a_request_are_held() {
    let mut found = Vec::new();
    for answers in [json!(null), json!(1), json!(5)] {
        let upstream = Upstream::start(Reply::new().stall()).await;
        let served = Declared::limit(of_user(2000)).serve([openai(&upstream)]).await;
        let mut client = Client::connect(served.address).await;
        let mut body = fixture::openai::request(MODEL, false);
        body["n"] = answers;
        let headers = [("x-user-id", "alice")];
        client.post(CHAT, &headers, &body).await.expect("sent");
        upstream.received(1).await;
        found.push(held(&served).await);
    }
    let [unsaid, one, five] = found[..] else {
        panic!("{found:?}");
    };
    let each = &fixture::openai::request(MODEL, false)["max_completion_tokens"];
    assert_eq!(Some(five - one), each.as_u64().map(|each| 4 * each), "{found:?}");
    assert!(unsaid.abs_diff(one) <= 1, "{found:?}");
}
