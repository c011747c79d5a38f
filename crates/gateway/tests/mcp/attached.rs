//! SecurityPolicies on MCP routes.

use serde_json::json;
use testkit::{Reply, Script, Upstream, client};

use crate::{
    served::{PATH, request, serve, snapshot_beside},
    server::echo,
};

/// What stands after the routes: a policy for one of them.
fn guard(policy: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: Secret
metadata: {{name: keys}}
stringData: {{alice: sk-alice}}
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: SecurityPolicy
metadata: {{name: guard}}
spec:
  targetRefs: [{{group: aigateway.envoyproxy.io, kind: MCPRoute, name: main}}]
  {policy}
"
    )
}

fn initialize() -> serde_json::Value {
    request(
        0,
        "initialize",
        &json!({ "protocolVersion": "2025-06-18", "capabilities": {},
        "clientInfo": { "name": "test", "version": "1" } }),
    )
}

/// A policy for one route guards that route, and its credential goes no further.
#[tokio::test]
async fn a_policy_guards_a_route() {
    let upstream = echo("one").await;
    let policy = "apiKeyAuth: {credentialRefs: [{name: keys}], extractFrom: [{headers: [authorization]}]}";
    let more = "forwardHeaders: [{name: authorization}]";
    let served = serve(snapshot_beside(
        &guard(policy),
        "",
        &[("one", upstream.address(), more)],
    ))
    .await;
    for (path, key, status) in [
        (PATH, "", 401),
        (PATH, "Bearer sk-bob", 401),
        (PATH, "Bearer sk-alice", 200),
        ("/other", "", 200),
    ] {
        let answer = client::post(served.address, path, &[("authorization", key)], &initialize()).await;
        assert_eq!(answer.status, status, "{path} {key}: {}", answer.text());
        assert_eq!(answer.json()["error"].is_object(), status != 200, "{path} {key}");
    }
    for asked in upstream.requests() {
        assert_eq!(asked.header("authorization"), "");
    }
}

/// A service is shown messages, and what it answers is the answer.
#[tokio::test]
async fn a_service_decides() {
    let upstream = echo("one").await;
    let service = Upstream::start(Script::answer(|request| {
        if request.json()["method"] == "initialize" {
            return Reply::whole(200, &[], "");
        }
        match request.header("x-quiet") {
            "" => Reply::whole(402, &[("x-why", "because")], "pay first"),
            _ => Reply::whole(402, &[], ""),
        }
    }))
    .await;
    let policy = "extAuth:
    http: {backendRefs: [{group: gateway.envoyproxy.io, kind: Backend, name: authz}]}
    headersToExtAuth: [x-quiet]
    bodyToExtAuth: {maxRequestBytes: 1000}";
    let address = service.address();
    let backend = format!(
        "---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: {{name: authz}}
spec: {{endpoints: [{{ip: {{address: {}, port: {}}}}}]}}
",
        address.ip(),
        address.port()
    );
    let documents = guard(policy) + &backend;
    let mut served = serve(snapshot_beside(
        &documents,
        "",
        &[("one", upstream.address(), "")],
    ))
    .await;
    served.open().await;
    let ping = request(1, "ping", &json!({}));
    let answer = served.send(&ping).await;
    assert_eq!((answer.status, answer.text().as_str()), (402, "pay first"));
    assert_eq!(answer.header("x-why"), "because");
    let headers = [("mcp-session-id", served.session.as_str()), ("x-quiet", "1")];
    let answer = client::post(served.address, PATH, &headers, &ping).await;
    assert_eq!(
        (answer.status, answer.json()["error"]["message"].as_str()),
        (402, Some("access denied"))
    );
    let asked = service.requests();
    assert_eq!(asked[1].json(), ping);
}
