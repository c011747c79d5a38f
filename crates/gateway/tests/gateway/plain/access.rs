//! Who may use a rule of an HTTPRoute, by its filters; what is taken off requests, and what is told of them.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Received, Reply, Script, Upstream, client};

use super::{EVERYTHING, Setup};

/// A service that lets in whoever says so, and tells who it is.
fn answers(asked: &Received) -> Reply {
    match asked.header("x-ask") {
        "in" => Reply::whole(200, &[("x-user", "u1"), ("x-other", "o")], ""),
        _ => Reply::whole(401, &[("www-authenticate", "Basic")], "not you"),
    }
}

/// A route whose requests the second backend decides about, as `filter` says.
async fn asking(filter: &str) -> Setup {
    let filter = format!(
        "filters: [{{type: ExternalAuth, externalAuth: {{protocol: HTTP, backendRef: {{name: v2, port: 8080}}, {filter}}}}}], "
    );
    let upstreams = vec![
        Upstream::start(Reply::whole(200, &[], "v1")).await,
        Upstream::start(Script::answer(answers)).await,
    ];
    Setup::over(
        &EVERYTHING.replace("backendRefs", &format!("{filter}backendRefs")),
        upstreams,
    )
    .await
}

#[tokio::test]
async fn a_service_decides_about_a_rule() {
    let setup =
        asking("http: {path: /check, allowedHeaders: [x-ask], allowedResponseHeaders: [x-user]}").await;
    let address = setup.served.address;
    let headers = [("x-ask", "in"), ("x-user", "root"), ("x-secret", "s")];
    let answer = client::get(address, "/a?b=c", &headers).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "v1"));
    let [asked, sent] = [
        &setup.upstreams[1].requests()[0],
        &setup.upstreams[0].requests()[0],
    ];
    assert_eq!(
        (asked.target.as_str(), asked.header("x-secret")),
        ("/check/a?b=c", "")
    );
    assert_eq!((sent.header("x-user"), sent.header("x-other")), ("u1", ""));
    let answer = client::get(address, "/", &[]).await;
    assert_eq!((answer.status, answer.text().as_str()), (401, "not you"));
    assert_eq!(answer.header("www-authenticate"), "Basic");
    assert_eq!(setup.upstreams[0].requests().len(), 1);
}

#[tokio::test]
async fn a_service_is_shown_so_much_of_a_request() {
    let setup = asking("http: {allowedHeaders: [x-ask]}, forwardBody: {maxSize: 10}").await;
    let headers = [("x-ask", "in")];
    for (body, status) in [(json!("short"), 200), (json!("much longer than that"), 413)] {
        let answer = client::post(setup.served.address, "/", &headers, &body).await;
        assert_eq!(answer.status, status, "{body}");
    }
    assert_eq!(setup.upstreams[1].requests()[0].body, "\"short\"");
    assert_eq!(setup.upstreams[0].requests()[0].body, "\"short\"");
}

/// Nobody is let in by a service that is not there.
#[tokio::test]
async fn a_service_that_cannot_be_asked_lets_nobody_in() {
    let filter = "filters: [{type: ExternalAuth, externalAuth: {protocol: GRPC, grpc: {}, backendRef: {name: v2, port: \
                  8080}}}], backendRefs";
    let upstreams = vec![
        Upstream::start(Reply::whole(200, &[], "v1")).await,
        Upstream::start(Reply::new().reset()).await,
    ];
    let setup = Setup::over(&EVERYTHING.replace("backendRefs", filter), upstreams).await;
    assert_eq!(client::get(setup.served.address, "/", &[]).await.status, 403);
    assert_eq!(setup.upstreams[0].requests().len(), 0);
}

/// What one backend's policy calls a credential is for no other backend.
#[tokio::test]
async fn credentials_for_models_are_not_handed_on() {
    let setup = Setup::new(&(EVERYTHING.to_owned() + MODELS)).await;
    let headers = [("x-team-key", "sk-team"), ("x-own", "1")];
    assert_eq!(client::get(setup.served.address, "/", &headers).await.status, 200);
    let sent = &setup.upstreams[0].requests()[0];
    assert_eq!((sent.header("x-team-key"), sent.header("x-own")), ("", "1"));
}

#[tokio::test]
async fn the_record_of_a_request_names_its_rule() {
    let setup = Setup::new(EVERYTHING).await;
    let headers = [("x-request-id", "one")];
    assert_eq!(
        client::get(setup.served.address, "/a", &headers).await.status,
        200
    );
    let told = async {
        loop {
            let answer = setup.served.admin("/debug/requests/one").await;
            if answer.status == 200 {
                return answer.json();
            }
            tokio::task::yield_now().await;
        }
    };
    let told = tokio::time::timeout(Duration::from_secs(10), told).await;
    let told: Value = told.expect("the request is recorded");
    assert_eq!(
        (&told["route"], &told["rule"]),
        (&json!("default/everything"), &json!(0))
    );
    assert_eq!(told["candidates"][0]["backend"], "service/default/v1:8080");
    assert_eq!(told["candidates"][0]["leftOut"], Value::Null);
    assert_eq!(told["attempts"][0]["outcome"], "answered");
}

/// A route for models whose backend takes a credential from requests.
const MODELS: &str = "---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIGatewayRoute
metadata: {name: models}
spec:
  parentRefs: [{name: edge}]
  rules: [{matches: [{headers: [{name: x-ai-eg-model, value: m}]}], backendRefs: [{name: models}]}]
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIServiceBackend
metadata: {name: models}
spec: {schema: {name: OpenAI}, backendRef: {name: v3, port: 8080}}
---
apiVersion: v1
kind: Secret
metadata: {name: key}
stringData: {apiKey: configured}
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: BackendSecurityPolicy
metadata: {name: key}
spec:
  targetRefs: [{group: aigateway.envoyproxy.io, kind: AIServiceBackend, name: models}]
  type: APIKey
  apiKey: {secretRef: {name: key}}
  credentialOverride: {fromRequestHeaders: {header: x-team-key}}
";
