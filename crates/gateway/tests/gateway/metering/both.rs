//! Requests that limits of this gateway and of all gateways are for: what one of them refuses uses nothing of the other.

use serde_json::{Value, json};
use testkit::{Client, Gate, Redis, Reply, Upstream, fixture};

use super::{Declared, ask, request, unreachable};
use crate::fixture::{CHAT, Served};

/// Serves with limits of so many requests, of all gateways and of this one, and of so many tokens beside the latter.
async fn serve(redis: &Redis, shared: u64, local: u64) -> (Served, Upstream) {
    let upstream = Upstream::start(Reply::json(200, &fixture::openai::response("gpt"))).await;
    let requests = |limit: u64| json!({ "limit": { "requests": limit, "unit": "Year" } });
    let tokens = json!({
        "limit": { "requests": 1000, "unit": "Year" },
        "cost": {
            "request": { "from": "Number", "number": 3 },
            "response": {
                "from": "Metadata",
                "metadata": { "namespace": "io.envoy.ai_gateway", "key": "llm_total_token" },
            },
        },
    });
    let declared = Declared {
        local: vec![requests(local), tokens],
        ..Declared::limit(json!([requests(shared)]))
    };
    let served = unreachable::serve_declared(declared, &upstream, redis.address()).await;
    unreachable::answers(&served).await;
    (served, upstream)
}

/// Returns what is used and held of the counters of this gateway.
async fn local(served: &Served) -> Vec<(Value, Value)> {
    let usage = served.admin("/usage").await.json();
    let counters = usage["counters"].as_array().expect("a list").iter();
    let own = counters.filter(|counter| {
        counter["rule"]
            .as_str()
            .is_some_and(|rule| rule.contains("/local/"))
    });
    own.map(|counter| (counter["used"].clone(), counter["held"].clone()))
        .collect()
}

fn nothing() -> Vec<(Value, Value)> {
    vec![(json!(0), json!(0)); 2]
}

#[tokio::test]
async fn what_all_gateways_refuse_uses_nothing_of_this_one() {
    let redis = Redis::start().await;
    let (served, upstream) = serve(&redis, 0, 5).await;
    for _ in 0..3 {
        assert_eq!(ask(&served, "alice", false).await.status, 429);
        assert_eq!(local(&served).await, nothing());
    }
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn what_both_admit_uses_both() {
    let redis = Redis::start().await;
    let (served, _upstream) = serve(&redis, 5, 2).await;
    for _ in 0..2 {
        assert_eq!(ask(&served, "alice", false).await.status, 200);
    }
    assert_eq!(ask(&served, "alice", false).await.status, 429);
    served.metric_reaches("tollgate_requests_total", &[], 3.0).await;
    // What this gateway refuses is not asked of the others, and uses nothing of its own other rules.
    assert_eq!(redis.admits(2).await.len(), 2);
    let tokens = 2 * (3 + super::OPENAI_TOKENS);
    assert_eq!(
        local(&served).await,
        [(json!(2), json!(0)), (json!(tokens), json!(0))]
    );
}

#[tokio::test]
async fn who_goes_away_meanwhile_uses_nothing() {
    let redis = Redis::start().await;
    let (served, upstream) = serve(&redis, 5, 5).await;
    let gate = Gate::new();
    redis.slow(&gate);
    let mut client = Client::connect(served.address).await;
    client.post(CHAT, &[], &request(false)).await.expect("sent");
    redis.admits(1).await;
    client.reset();
    served.metric_reaches("tollgate_requests_total", &[], 1.0).await;
    assert_eq!(local(&served).await, nothing());
    assert!(upstream.requests().is_empty());
}
