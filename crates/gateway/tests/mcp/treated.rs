//! BackendTrafficPolicies on MCP routes and their servers.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use serde_json::{Value, json};
use testkit::{Gate, Reply, Upstream, client};

use crate::{
    pinned::{self, Kind, Place},
    served::{PATH, Served, last, plain, request, serve, snapshot_beside},
    server::{echo, echoed, start},
};

/// The routes by the names that policies may give them.
const ROUTE: &str = "group: aigateway.envoyproxy.io, kind: MCPRoute, name: main";
const MADE: &str = "group: gateway.networking.k8s.io, kind: HTTPRoute, name: ai-eg-mcp-main-main";

/// Returns a policy for `target`.
fn policy(target: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: gateway.envoyproxy.io/v1alpha1\nkind: BackendTrafficPolicy\nmetadata: {{name: own}}\nspec:\n  \
         targetRefs: [{{{target}}}]\n{spec}"
    )
}

/// Serves a route to `upstream` under a policy.
async fn treated(target: &str, spec: &str, upstream: &Upstream) -> Served {
    let beside = policy(target, spec);
    let mut served = serve(snapshot_beside(&beside, "", &plain(&[("one", upstream)]))).await;
    served.open().await;
    served
}

fn call(id: u32) -> Value {
    request(id, "tools/call", &json!({ "name": "one__echo" }))
}

#[tokio::test]
async fn requests_are_limited() {
    let limit = "  rateLimit: {type: Local, local: {rules: [{limit: {requests: 3, unit: Hour}}]}}\n";
    for target in [ROUTE, MADE] {
        let upstream = echo("one").await;
        let served = treated(target, limit, &upstream).await;
        for id in 1..3 {
            assert_eq!(served.send(&call(id)).await.status, 200, "{target}");
        }
        let refused = served.send(&call(3)).await;
        assert_eq!(refused.status, 429, "{target}: {}", refused.text());
        assert_eq!(refused.json()["error"]["code"], -32000);
        let seconds: u64 = refused.header("retry-after").parse().expect("a number");
        assert!((1..=3600).contains(&seconds), "{seconds}");
        let params = json!({ "protocolVersion": "2025-06-18" });
        let initialize = request(0, "initialize", &params);
        let other = client::post(served.address, "/other", &[], &initialize).await;
        assert_eq!(other.status, 200, "another route has no limit");
        assert_eq!(
            upstream
                .requests()
                .iter()
                .filter(|request| request.json()["method"] == "tools/call")
                .count(),
            2
        );
    }
}

#[tokio::test]
async fn requests_are_bounded_and_faults_made() {
    let upstream = echo("one").await;
    let served = treated(ROUTE, "  requestBuffer: {limit: 400}\n", &upstream).await;
    let large = request(
        1,
        "tools/call",
        &json!({ "name": "one__echo", "arguments": { "a": "x".repeat(400) } }),
    );
    assert_eq!(served.send(&large).await.status, 413);
    assert_eq!(served.send(&call(2)).await.status, 200);

    let fault = "  faultInjection: {abort: {httpStatus: 418}}\n";
    let served = serve(snapshot_beside(
        &policy(ROUTE, fault),
        "",
        &plain(&[("one", &upstream)]),
    ))
    .await;
    let refused = served.send(&call(1)).await;
    assert_eq!(
        (refused.status, &refused.json()["error"]["code"]),
        (418, &json!(-32000))
    );
}

#[tokio::test]
async fn what_only_asks_is_asked_again() {
    let spec =
        "  retry: {numRetries: 2, retryOn: {triggers: [5xx]}, perRetry: {backOff: {baseInterval: 1ms}}}\n";
    let (lists, calls) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counted = [&lists, &calls].map(Arc::clone);
    let upstream = start(
        "one",
        Box::new(move |_, message| {
            let [lists, calls] = &counted;
            let broken = || Some(Reply::whole(503, &[], ""));
            match message["method"].as_str() {
                Some("tools/list") if lists.fetch_add(1, Ordering::Relaxed) < 2 => broken(),
                Some("tools/call") => {
                    calls.fetch_add(1, Ordering::Relaxed);
                    broken()
                }
                _ => echoed(message),
            }
        }),
    )
    .await;
    let served = treated(ROUTE, spec, &upstream).await;
    let listed = served.ask("tools/list", json!({})).await;
    assert_eq!(
        listed["result"]["tools"].as_array().map(Vec::len),
        Some(2),
        "{listed}"
    );
    assert_eq!(lists.load(Ordering::Relaxed), 3);
    let called = served.call("one__echo").await;
    assert_eq!(called["error"]["data"]["upstreamStatus"], 503, "{called}");
    assert_eq!(calls.load(Ordering::Relaxed), 1, "a tool may have done something");
}

#[tokio::test]
async fn so_much_is_asked_at_once() {
    let gate = Gate::new();
    let entered = Gate::new();
    let (held, seen) = (gate.clone(), entered.clone());
    let upstream = start(
        "one",
        Box::new(move |_, message| {
            let is_call = message["method"] == "tools/call";
            is_call.then(|| {
                let body = json!({ "jsonrpc": "2.0", "id": message["id"], "result": {} });
                Reply::new()
                    .signal(&seen)
                    .wait(&held)
                    .head(
                        200,
                        &[
                            ("content-type", "application/json"),
                            ("content-length", &body.to_string().len().to_string()),
                        ],
                    )
                    .raw(body.to_string())
            })
        }),
    )
    .await;
    let server = "group: aigateway.envoyproxy.io, kind: MCPRoute, name: main, sectionName: one";
    let spec = "  circuitBreaker: {maxParallelRequests: 1}\n";
    let served = treated(server, spec, &upstream).await;
    let second = async {
        entered.wait().await;
        let refused = served.call("one__echo").await;
        assert_eq!(refused["error"]["data"]["reason"], "overloaded", "{refused}");
        gate.open();
    };
    let message = call(1);
    let (first, ()) = tokio::join!(served.send(&message), second);
    assert_eq!(last(&first)["result"], json!({}));
    assert_eq!(
        last(&served.send(&call(2)).await)["result"],
        json!({}),
        "it is free again"
    );
}

#[tokio::test]
async fn calls_take_no_longer_than_a_policy_says() {
    let gate = Gate::new();
    let held = gate.clone();
    let upstream = start(
        "one",
        Box::new(move |_, message| (message["method"] == "tools/call").then(|| Reply::new().wait(&held))),
    )
    .await;
    let served = treated(ROUTE, "  timeout: {http: {requestTimeout: 50ms}}\n", &upstream).await;
    let called = served.call("one__echo").await;
    assert_eq!(called["error"]["data"]["reason"], "timeout", "{called}");
}

#[tokio::test]
async fn endpoints_take_turns_and_keep_their_sessions() {
    let (a, b) = (Place::start("a").await, Place::start("b").await);
    let addresses = [&a, &b].map(|place| place.upstream.address());
    let turns = policy(ROUTE, "  loadBalancer: {type: RoundRobin}\n");
    let mut served = serve(pinned::snapshot(Kind::Backend, &addresses, &turns)).await;
    let mut opened = Vec::new();
    for _ in 0..4 {
        served.session.clear();
        served.open().await;
        let name = pinned::place(&served).await;
        for _ in 0..3 {
            assert_eq!(pinned::place(&served).await, name);
        }
        opened.push(name.to_string());
    }
    opened.sort();
    assert_eq!(opened, ["\"a\"", "\"a\"", "\"b\"", "\"b\""]);
}

#[tokio::test]
async fn an_endpoint_that_fails_is_left_out() {
    let (well, asked) = (Place::start("well").await, Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&asked);
    let ill = start(
        "ill",
        Box::new(move |_, _| {
            counted.fetch_add(1, Ordering::Relaxed);
            Some(Reply::whole(503, &[], ""))
        }),
    )
    .await;
    let health = "  loadBalancer: {type: RoundRobin}\n  retry: {numRetries: 1, retryOn: {triggers: [5xx]}}\n  healthCheck: \
                  {passive: {consecutive5XxErrors: 1, baseEjectionTime: 1h, maxEjectionPercent: 50}}\n";
    let addresses = [ill.address(), well.upstream.address()];
    let beside = policy(ROUTE, health);
    let mut served = serve(pinned::snapshot(Kind::Backend, &addresses, &beside)).await;
    for _ in 0..8 {
        served.session.clear();
        served.open().await;
        assert_eq!(pinned::place(&served).await, "well");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1, "once was enough");
    assert_eq!(served.send(&json!({})).await.status, 400);
    let ended = client::delete(served.address, PATH, &served.headers()).await;
    assert_eq!(ended.status, 200);
}

#[tokio::test]
async fn a_place_that_is_gone_has_lost_its_sessions_under_a_policy_too() {
    let (a, b) = (Place::start("a").await, Place::start("b").await);
    let addresses = [&a, &b].map(|place| place.upstream.address());
    let beside = policy(ROUTE, "  loadBalancer: {type: Random}\n");
    let mut served = serve(pinned::snapshot(Kind::Backend, &addresses, &beside)).await;
    pinned::open_at(&mut served, "a").await;
    drop(a);
    assert_eq!(pinned::place(&served).await, "b");
    let c = Place::start("c").await;
    let left = [addresses[1], c.upstream.address()];
    served.session.clear();
    pinned::open_at(&mut served, "b").await;
    let (token, next) = (
        served.session.clone(),
        pinned::snapshot(Kind::Backend, &left, &beside),
    );
    served.gateway.install(next).await.expect("the port is served");
    assert_eq!(
        (pinned::place(&served).await, served.session),
        (json!("b"), token)
    );
}
