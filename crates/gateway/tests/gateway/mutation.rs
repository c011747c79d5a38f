//! What declared changes make of a request, with values that the request brings.

use serde_json::{Value, json};

use crate::access::{BY_KEY, GATEWAY, KEYS, Setup, policy, serve};

/// A route for the model `changed` whose one reference is changed.
fn route(changes: &str) -> String {
    let changes = changes.trim_matches('\n').replace('\n', "\n        ");
    format!(
        "---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIGatewayRoute
metadata: {{name: changed}}
spec:
  parentRefs: [{{name: gateway}}]
  rules:
    - matches: [{{headers: [{{name: x-ai-eg-model, value: changed}}]}}]
      backendRefs:
      - name: backend
        modelNameOverride: gpt
        {changes}
"
    )
}

async fn setup(changes: &str) -> Setup {
    let policies = route(changes) + &policy("keys", GATEWAY, BY_KEY) + KEYS;
    serve(&["m"], &policies).await
}

const KEY: (&str, &str) = ("authorization", "Bearer sk-client-one");

#[tokio::test]
async fn values_come_from_the_request() {
    let setup = setup(
        "
headerMutation:
  set:
  - {name: x-client, valueFrom: {attribute: ClientID}}
  - {name: x-moved, valueFrom: {header: x-from}}
  - {name: x-user, valueFrom: {claim: sub}}
  - {name: content-type, value: application/json; charset=utf-8}
  remove: [x-from, transfer-encoding]
  default:
  - {name: x-tier, value: bronze}
  - {name: x-model, valueFrom: {attribute: Model}}
  append:
  - {name: x-hops, value: tollgate}
bodyMutation:
  set:
  - {path: user, valueFrom: {attribute: ClientID}}
  - {path: /metadata/a.b, json: \"true\"}
  - {path: service_tier, valueFrom: {metadata: {namespace: auth, key: tier}}}
  default:
  - {path: temperature, json: 0.5}
  - {path: max_tokens, json: 99}
  append:
  - {path: stop, json: END}",
    )
    .await;
    let headers = [
        KEY,
        ("x-from", "1"),
        ("x-from", "2"),
        ("x-client", "forged"),
        ("x-user", "forged"),
        ("x-tier", "gold"),
        ("x-hops", "proxy"),
    ];
    let answer = setup.ask("changed", &headers).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let received = &setup.upstream.requests()[0];
    for (name, expected) in [
        ("x-client", "one"),
        ("x-moved", "1, 2"),
        ("x-user", ""),
        ("x-from", ""),
        ("x-tier", "gold"),
        ("x-model", "changed"),
        ("content-type", "application/json; charset=utf-8"),
    ] {
        assert_eq!(received.header(name), expected, "{name}");
    }
    let hops: Vec<_> = received.headers.get_all("x-hops").iter().collect();
    assert_eq!(hops, ["proxy", "tollgate"]);
    let body: Value = serde_json::from_slice(&received.body).expect("a document");
    for (member, expected) in [
        ("/user", json!("one")),
        ("/metadata", json!({"a.b": "true"})),
        ("/temperature", json!(0.5)),
        ("/max_tokens", json!(8)),
        ("/stop", json!(["END"])),
    ] {
        assert_eq!(body.pointer(member), Some(&expected), "{member}");
    }
    assert_eq!(body.get("service_tier"), None);
}

/// A change that the request does not allow refuses it, and nobody is asked.
#[tokio::test]
async fn what_cannot_be_changed_is_not_sent() {
    let setup = setup("bodyMutation: {append: [{path: messages.0.content, value: more}]}").await;
    let answer = setup.ask("changed", &[KEY]).await;
    assert_eq!(answer.status, 500);
    let message = answer.json()["error"]["message"].to_string();
    assert!(
        message.contains("messages.0.content: the path leads to a value that is no list"),
        "{message}"
    );
    assert!(setup.upstream.requests().is_empty());
}
