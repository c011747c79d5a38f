//! Who may call: policies as they are declared, on real sockets.

mod attach;
mod checks;
mod credentials;
mod external;
mod rules;
mod tokens;

use std::fmt::Write;

use config::{Resources, Snapshot, Surroundings};
use gateway::{Gateway, Options};
use serde_json::json;
use testkit::{Reply, Upstream, client::Answer, fixture};

use crate::fixture::{CHAT, Served, options};

/// A gateway whose routes lead to one upstream.
pub(crate) struct Setup {
    pub(crate) served: Served,
    pub(crate) upstream: Upstream,
}

/// Routes called by their names serve models of the same names.
pub(crate) async fn serve(routes: &[&str], policies: &str) -> Setup {
    serve_with(options(), routes, policies).await
}

pub(crate) async fn serve_with(options: Options, routes: &[&str], policies: &str) -> Setup {
    let upstream = Upstream::start(Reply::json(200, &fixture::openai::response("gpt"))).await;
    let gateway = Gateway::start(options).await.expect("the admin port is free");
    let snapshot = snapshot(&upstream, routes, policies);
    gateway.install(snapshot).await.expect("the port is free");
    let address = *gateway.addresses().first().expect("one listener");
    Setup {
        served: Served { gateway, address },
        upstream,
    }
}

pub(crate) fn snapshot(upstream: &Upstream, routes: &[&str], policies: &str) -> Snapshot {
    let address = upstream.address();
    let mut yaml = format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: gateway}}
spec:
  gatewayClassName: tollgate
  listeners: [{{name: http, protocol: HTTP, port: 8080}}]
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIServiceBackend
metadata: {{name: backend}}
spec:
  schema: {{name: OpenAI}}
  backendRef: {{group: gateway.envoyproxy.io, kind: Backend, name: backend}}
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: {{name: backend}}
spec: {{endpoints: [{{ip: {{address: {}, port: {}}}}}]}}
",
        address.ip(),
        address.port()
    );
    for route in routes {
        let written = writeln!(
            yaml,
            "---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIGatewayRoute
metadata: {{name: {route}, labels: {{route: {route}}}}}
spec:
  parentRefs: [{{name: gateway}}]
  rules:
    - name: only
      matches: [{{headers: [{{name: x-ai-eg-model, value: {route}}}]}}]
      backendRefs: [{{name: backend}}]"
        );
        written.expect("a String takes everything");
    }
    yaml.push_str(policies);
    let surroundings = Surroundings {
        environment: &|_| None,
        reader: &|path| Err(format!("{path} is not there")),
    };
    let mut resources = Resources::default();
    let faults = config::parse("test.yaml", &yaml, &surroundings, &mut resources);
    assert!(faults.is_empty(), "{faults:?}\n{yaml}");
    let (mut snapshot, _) = config::resolve(&resources, 0);
    // A declared port cannot be 0, which lets the system choose one.
    let listener = snapshot.listeners.pop_first().map(|(_, listener)| listener);
    snapshot.listeners.insert(0, listener.unwrap_or_default());
    snapshot
}

/// A policy for the targets, which are written as in YAML, with what else it says.
pub(crate) fn policy(name: &str, target: &str, rest: &str) -> String {
    let rest = rest.trim_matches('\n').replace('\n', "\n  ");
    format!(
        "---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: SecurityPolicy
metadata: {{name: {name}}}
spec:
  targetRefs: [{{group: gateway.networking.k8s.io, {target}}}]
  {rest}
"
    )
}

/// The Gateway as a target.
pub(crate) const GATEWAY: &str = "kind: Gateway, name: gateway";

/// A Secret with the keys of two clients.
pub(crate) const KEYS: &str = "---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {one: sk-client-one, two: sk-client-two}
";

/// What lets clients in by their keys.
pub(crate) const BY_KEY: &str = "
apiKeyAuth:
  credentialRefs: [{name: keys}]
  extractFrom: [{headers: [authorization, x-gateway-key]}]
  forwardClientIDHeader: x-client-id
";

impl Setup {
    /// Asks for `model`.
    pub(crate) async fn ask(&self, model: &str, headers: &[(&str, &str)]) -> Answer {
        self.ask_at(CHAT, model, headers).await
    }

    pub(crate) async fn ask_at(&self, path: &str, model: &str, headers: &[(&str, &str)]) -> Answer {
        let body = json!({"model": model, "max_tokens": 8, "messages": [{"role": "user", "content": "hi"}]});
        testkit::client::post(self.served.address, path, headers, &body).await
    }

    /// Asks for `model` and checks the status of the answer; whoever is refused costs no upstream anything.
    pub(crate) async fn check(&self, model: &str, headers: &[(&str, &str)], status: u16) {
        let before = self.upstream.requests().len();
        let answer = self.ask(model, headers).await;
        assert_eq!(answer.status, status, "{model} {headers:?}: {}", answer.text());
        let asked = self.upstream.requests().len() > before;
        assert_eq!(asked, status == 200, "{model} {headers:?}");
        assert!(!answer.text().contains("sk-"), "{}", answer.text());
    }
}
