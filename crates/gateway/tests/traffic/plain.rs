//! HTTPRoutes under a policy: what is handed on as it comes is chosen, tried again, bounded and watched alike.

use std::fmt::Write;

use gateway::Options;
use serde_json::json;
use testkit::{Client, Gate, Received, Reply, Script, Upstream, client::Answer};

use crate::setup::{Backend, Setup, asked, at, nowhere, over};

/// A gateway with one HTTPRoute.
struct Site(Setup);

impl Site {
    /// Serves a rule whose further members are `rule`, by `backends`, under a policy that says `policy`.
    async fn start(rule: &str, policy: &str, backends: &[Backend]) -> Self {
        let mut yaml = format!(
            r"
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{ name: gateway }}
spec:
  gatewayClassName: tollgate
  listeners: [{{ name: http, protocol: HTTP, port: 8080 }}]
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: BackendTrafficPolicy
metadata: {{ name: policy }}
spec:
  targetRefs: [{{ group: gateway.networking.k8s.io, kind: HTTPRoute, name: site }}]
  {policy}
"
        );
        let mut references = String::new();
        for (index, backend) in backends.iter().enumerate() {
            let _ = write!(
                references,
                "{{ group: gateway.envoyproxy.io, kind: Backend, name: b{index}, weight: {} }}, ",
                backend.weight()
            );
            yaml += &backend.document(index);
        }
        let _ = write!(
            yaml,
            r"---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{ name: site }}
spec:
  parentRefs: [{{ name: gateway }}]
  rules: [{{ backendRefs: [{references}], {rule} }}]
"
        );
        Self(Setup::of(Options::default(), &yaml).await)
    }

    async fn get(&self, headers: &[(&str, &str)]) -> Answer {
        testkit::client::get(self.0.address, "/page", headers).await
    }

    async fn post(&self, body: &str) -> Answer {
        testkit::client::post(self.0.address, "/page", &[], &json!(body)).await
    }
}

/// Returns an upstream that says who it is, and what it was sent.
async fn named(name: &'static str) -> Upstream {
    Upstream::start(Script::answer(move |request: &Received| {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        Reply::whole(200, &[("x-backend", name)], &body)
    }))
    .await
}

fn status(status: u16) -> Reply {
    Reply::whole(status, &[("x-backend", "failing")], "it broke")
}

const TWICE: &str = "retry: { numRetries: 1, retryOn: { triggers: [connect-failure, reset, retriable-status-codes], httpStatusCodes: [503] } }";

/// Posts to a site whose one backend has two endpoints, the first of which fails as `failing` says.
#[track_caller]
fn check(rule: &'static str, policy: &'static str, failing: Reply, expected: (u16, usize)) -> impl Future {
    let place = std::panic::Location::caller();
    async move {
        let (first, second) = (Upstream::start(failing).await, named("second").await);
        let policy = format!("loadBalancer: {{ type: RoundRobin }}\n  {policy}");
        let site = Site::start(rule, &policy, &[over(&[&first, &second])]).await;
        let answer = site.post("a body").await;
        let found = (answer.status, asked([&first, &second])[1]);
        assert_eq!(found, expected, "{place}: {}", answer.text());
        if answer.status == 200 {
            assert_eq!(answer.text(), "\"a body\"", "{place}");
        }
    }
}

#[tokio::test]
async fn a_request_is_sent_again_whole() {
    let own = "retry: { codes: [503], attempts: 1 }";
    check("", TWICE, status(503), (200, 1)).await;
    check("", TWICE, status(500), (500, 0)).await;
    check("", TWICE, Reply::new().reset(), (200, 1)).await;
    check("", "timeout: {}", status(503), (503, 0)).await;
    check("", "timeout: {}", Reply::new().reset(), (502, 0)).await;
    check(own, "timeout: {}", status(503), (200, 1)).await;
    check(own, "timeout: {}", Reply::new().reset(), (200, 1)).await;
    check("retry: { attempts: 0 }", TWICE, status(503), (503, 0)).await;
    check(
        "",
        "retry: { numRetries: 1, perRetry: { timeout: 50ms }, retryOn: { triggers: [reset] } }",
        Reply::new().stall(),
        (200, 1),
    )
    .await;
    check(
        "timeouts: { request: 10s, backendRequest: 50ms }, retry: { attempts: 1 }",
        "timeout: {}",
        Reply::new().stall(),
        (200, 1),
    )
    .await;
    check(
        "",
        "timeout: { http: { requestTimeout: 50ms } }",
        Reply::new().stall(),
        (504, 0),
    )
    .await;
    let refused = Reply::whole(200, &[("grpc-status", "14")], "");
    check(
        "",
        "retry: { retryOn: { triggers: [unavailable] } }",
        refused,
        (200, 1),
    )
    .await;
}

/// A rule alone needs no policy.
#[tokio::test]
async fn a_rule_says_itself_what_is_tried_again() {
    let (first, second) = (Upstream::start(status(503)).await, named("second").await);
    let backends = [at(&first), at(&second)];
    let site = Site::start(
        "retry: { codes: [503], attempts: 3, backoff: 1ms }",
        "timeout: {}",
        &backends,
    )
    .await;
    for _ in 0..4 {
        assert_eq!(site.get(&[]).await.status, 200);
    }
    let refusing = Upstream::refusing();
    let backends = [nowhere(refusing.address), at(&second)];
    let site = Site::start("retry: { attempts: 3 }", "timeout: {}", &backends).await;
    for _ in 0..4 {
        assert_eq!(site.get(&[]).await.header("x-backend"), "second");
    }
}

#[tokio::test]
async fn what_is_too_large_to_keep_is_sent_once() {
    let (first, second) = (Upstream::start(status(503)).await, named("second").await);
    let policy = format!("loadBalancer: {{ type: RoundRobin }}\n  {TWICE}");
    let site = Site::start("", &policy, &[over(&[&first, &second])]).await;
    let answer = site.post(&"x".repeat(2 << 20)).await;
    assert_eq!((answer.status, asked([&first, &second])), (503, [1, 0]));
}

#[tokio::test]
async fn a_request_may_be_bounded() {
    let upstream = named("only").await;
    let site = Site::start("", "requestBuffer: { limit: 1Ki }", &[at(&upstream)]).await;
    assert_eq!(site.post("short").await.status, 200);
    assert_eq!(site.post(&"x".repeat(2000)).await.status, 413);
    assert_eq!(asked([&upstream]), [1]);
    let mut client = Client::connect(site.0.address).await;
    let head = "POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunk = format!("7d0\r\n{}\r\n0\r\n\r\n", "x".repeat(2000));
    client.send(format!("{head}{chunk}")).await.expect("sent");
    assert_eq!(client.answer().await.expect("an answer").status, 413);
}

#[tokio::test]
async fn who_fails_is_left_out() {
    let (first, second) = (Upstream::start(status(500)).await, named("second").await);
    let policy = "healthCheck: { passive: { consecutive5XxErrors: 1, maxEjectionPercent: 100, baseEjectionTime: 300s } }\n  \
                  loadBalancer: { type: RoundRobin }";
    let site = Site::start("", policy, &[at(&first), at(&second)]).await;
    assert_eq!(site.get(&[]).await.status, 500, "there is one attempt");
    for _ in 0..5 {
        assert_eq!(site.get(&[]).await.status, 200);
    }
    assert_eq!(asked([&first, &second]), [1, 5]);
}

/// A reply weighs on its backend until it has been handed through.
#[tokio::test]
async fn who_is_asked_too_much_is_not_asked() {
    let gate = Gate::new();
    let held = Reply::chunked(200, &[]).frame("one").wait(&gate).end();
    let upstream = Upstream::start(vec![held, status(200)]).await;
    let policy = "circuitBreaker: { maxParallelRequests: 1 }";
    let site = Site::start("", policy, &[at(&upstream)]).await;
    let mut client = Client::connect(site.0.address).await;
    client.get("/", &[]).await.expect("sent");
    assert_eq!(client.head().await.expect("a head").status, 200);
    assert_eq!(client.piece().await.expect("a piece"), Some(b"one".to_vec()));
    let refused = site.get(&[]).await;
    assert_eq!(
        (refused.status, refused.header("x-envoy-overloaded")),
        (503, "true")
    );
    gate.open();
    assert_eq!(client.piece().await.expect("the end"), None);
    assert_eq!(site.get(&[]).await.status, 200);
}

#[tokio::test]
async fn a_reply_may_last_so_long() {
    for (rule, policy) in [
        ("", "timeout: { http: { maxStreamDuration: 100ms } }"),
        ("timeouts: { request: 100ms }", "timeout: {}"),
        ("", "timeout: { http: { streamIdleTimeout: 100ms } }"),
    ] {
        let upstream = Upstream::start(Reply::chunked(200, &[]).frame("one").stall()).await;
        let site = Site::start(rule, policy, &[at(&upstream)]).await;
        let mut client = Client::connect(site.0.address).await;
        client.get("/", &[]).await.expect("sent");
        assert_eq!(client.head().await.expect("a head").status, 200);
        assert_eq!(client.piece().await.expect("a piece"), Some(b"one".to_vec()));
        assert!(client.piece().await.is_err(), "{rule} {policy}: it breaks off");
    }
}

/// Binds a client as `rule` says and checks that it comes back, by what it was given.
async fn bound(rule: &str, given: &str, brought: &str) {
    let (first, second) = (named("first").await, named("second").await);
    let site = Site::start(
        rule,
        "loadBalancer: { type: RoundRobin }",
        &[over(&[&first, &second])],
    )
    .await;
    let answer = site.get(&[]).await;
    let (own, value) = (
        answer.header("x-backend").to_owned(),
        answer.header(given).to_owned(),
    );
    let value = value.split(';').next().unwrap_or_default();
    assert!(!value.is_empty(), "{rule}: {:?}", answer.headers);
    for _ in 0..4 {
        let answer = site.get(&[(brought, value)]).await;
        assert_eq!(answer.header("x-backend"), own, "{rule}");
        let renewed = rule.contains("idleTimeout");
        assert_eq!(
            !answer.header(given).is_empty(),
            renewed,
            "{rule}: it is bound already"
        );
    }
    let others = [site.get(&[]).await, site.get(&[]).await];
    let others = others.map(|answer| answer.header("x-backend").to_owned());
    assert_ne!(
        others[0], others[1],
        "{rule}: whoever is not bound is served in turn"
    );
}

#[tokio::test]
async fn a_client_comes_back() {
    bound(
        "sessionPersistence: { sessionName: lane }",
        "set-cookie",
        "cookie",
    )
    .await;
    bound(
        "sessionPersistence: { absoluteTimeout: 1h, cookieConfig: { lifetimeType: Permanent } }",
        "set-cookie",
        "cookie",
    )
    .await;
    bound(
        "sessionPersistence: { type: Header, sessionName: X-Lane, absoluteTimeout: 1h }",
        "x-lane",
        "x-lane",
    )
    .await;
    bound(
        "sessionPersistence: { sessionName: lane, absoluteTimeout: 1h, idleTimeout: 5m }",
        "set-cookie",
        "cookie",
    )
    .await;
}

#[tokio::test]
async fn faults_are_made_where_they_are_wanted() {
    let upstream = named("only").await;
    let policy = "faultInjection: { delay: { fixedDelay: 1ms }, abort: { httpStatus: 503 } }";
    let site = Site::start("", policy, &[at(&upstream)]).await;
    let answer = site.get(&[]).await;
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (503, "a fault that a policy wants made")
    );
    assert_eq!(asked([&upstream]), [0]);
    let site = Site::start(
        "",
        "faultInjection: { abort: { grpcStatus: 14 } }",
        &[at(&upstream)],
    )
    .await;
    assert_eq!(site.get(&[]).await.status, 503);
    let told = site.get(&[("content-type", "application/grpc+proto")]).await;
    assert_eq!((told.status, told.header("grpc-status")), (200, "14"));
    assert_eq!(told.header("content-type"), "application/grpc");
}

#[tokio::test]
async fn requests_are_limited() {
    let upstream = named("only").await;
    let policy = "rateLimit: { global: { rules: [{ clientSelectors: [{ headers: [{ name: x-user, type: Distinct }] }], \
                  limit: { requests: 2, unit: Hour } }] } }";
    let site = Site::start("", policy, &[at(&upstream)]).await;
    for (user, expected) in [("a", 200), ("a", 200), ("a", 429), ("b", 200), ("a", 429)] {
        assert_eq!(site.get(&[("x-user", user)]).await.status, expected, "{user}");
    }
    assert_eq!(asked([&upstream]), [3]);
    let redirect = "filters: [{ type: RequestRedirect, requestRedirect: { hostname: other } }]";
    let policy = "rateLimit: { global: { rules: [{ limit: { requests: 1, unit: Hour } }] } }";
    let site = Site::start(redirect, policy, &[]).await;
    for expected in [302, 429] {
        assert_eq!(site.get(&[]).await.status, expected);
    }
}

/// A request that its client breaks off, or that is none, says nothing of whoever would have served it.
#[tokio::test]
async fn what_clients_spoil_is_held_against_nobody() {
    let upstream = named("one").await;
    let policy = "healthCheck: { panicThreshold: 0, passive: { consecutiveGatewayErrors: 1, consecutiveLocalOriginFailures: 1, consecutive5XxErrors: 1, splitExternalLocalOriginErrors: true, maxEjectionPercent: 100 } }";
    for policy in [policy.to_owned(), format!("{policy}\n  {TWICE}")] {
        let site = Site::start("", &policy, &[at(&upstream)]).await;
        let mut client = Client::connect(site.0.address).await;
        let request = "POST /page HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n";
        client.send(request).await.expect("sent");
        let refused = client.answer().await.expect("an answer");
        assert_eq!(refused.status, 400, "{}", refused.text());
        assert_eq!(site.get(&[]).await.status, 200);
    }
}
