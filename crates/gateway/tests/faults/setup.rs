//! A gateway over scripted upstreams, and what can be asked of it afterwards.

use std::{fmt::Write, net::SocketAddr, sync::Arc};

use config::{Resources, Snapshot, Surroundings};
use gateway::{Gateway, Options};
use serde_json::Value;
use testkit::{Provider, Reply, client, fixture};

/// The credential that upstreams want.
pub(crate) const KEY: &str = "sk-upstream";

/// The model that clients ask for; each backend knows it by another name.
pub(crate) const MODEL: &str = "m";

/// A gateway that serves.
pub(crate) struct Setup {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) address: SocketAddr,
    admin: SocketAddr,
}

/// The time limits of the only rule, as they stand in its YAML.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limits {
    /// None that a test could meet.
    Patient,
    /// Attempts must begin to answer soon.
    Attempt,
    /// Upstreams must not fall silent.
    Idle,
}

/// The model's name at a backend.
pub(crate) fn upstream_model(provider: Provider) -> &'static str {
    match provider {
        Provider::OpenAi => "gpt-4o",
        Provider::Messages => "claude-sonnet-4-5",
    }
}

/// Returns the path and a request in the format of a client.
pub(crate) fn request(client: Provider, stream: bool) -> (&'static str, Value) {
    match client {
        Provider::OpenAi => (fixture::openai::PATH, fixture::openai::request(MODEL, stream)),
        Provider::Messages => (fixture::messages::PATH, fixture::messages::request(MODEL, stream)),
    }
}

/// Returns an upstream's greeting, streamed.
pub(crate) fn frames(provider: Provider) -> Vec<String> {
    match provider {
        Provider::OpenAi => fixture::openai::frames(upstream_model(provider)),
        Provider::Messages => fixture::messages::frames(upstream_model(provider)),
    }
}

/// Returns an upstream's greeting in one piece.
pub(crate) fn response(provider: Provider) -> Value {
    match provider {
        Provider::OpenAi => fixture::openai::response(upstream_model(provider)),
        Provider::Messages => fixture::messages::response(upstream_model(provider)),
    }
}

/// Returns a reply without a fault.
pub(crate) fn good(provider: Provider, stream: bool) -> Reply {
    if stream {
        Reply::sse(frames(provider))
    } else {
        Reply::json(200, &response(provider))
    }
}

/// Returns a snapshot of one rule over `backends`, in the order of their priorities.
pub(crate) fn snapshot(limits: Limits, backends: &[(Provider, SocketAddr)]) -> Snapshot {
    let yaml = yaml(limits, backends);
    let mut resources = Resources::default();
    let surroundings = Surroundings {
        environment: &|_| None,
        reader: &|path| Err(format!("{path} is not there")),
    };
    let faults = config::parse("test.yaml", &yaml, &surroundings, &mut resources);
    assert!(faults.is_empty(), "{faults:?}\n{yaml}");
    let (mut snapshot, report) = config::resolve(&resources, 0);
    assert!(!report.has_errors(), "{report}\n{yaml}");
    // A declared port cannot be 0, which lets the system choose one.
    let listener = snapshot.listeners.pop_first().map(|(_, listener)| listener);
    snapshot.listeners.insert(0, listener.unwrap_or_default());
    snapshot
}

fn yaml(limits: Limits, backends: &[(Provider, SocketAddr)]) -> String {
    let timeouts = match limits {
        Limits::Patient => "timeouts: { request: 60s }",
        Limits::Attempt => "timeouts: { request: 60s, backendRequest: 400ms }",
        Limits::Idle => "timeouts: { request: 60s }\n      streamIdleTimeout: 400ms",
    };
    let mut references = String::new();
    let mut rest = String::new();
    for (priority, (provider, address)) in backends.iter().enumerate() {
        let model = upstream_model(*provider);
        let _ = writeln!(
            references,
            "        - {{ name: b{priority}, priority: {priority}, modelNameOverride: {model} }}"
        );
        rest.push_str(&backend(&format!("b{priority}"), *provider, *address));
    }
    format!(
        r"
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {{ name: tollgate }}
spec: {{ controllerName: gateway.envoyproxy.io/gatewayclass-controller }}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{ name: faults, namespace: default }}
spec:
  gatewayClassName: tollgate
  listeners: [{{ name: http, protocol: HTTP, port: 8080 }}]
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIGatewayRoute
metadata: {{ name: faults, namespace: default }}
spec:
  parentRefs: [{{ name: faults }}]
  rules:
    - matches: [{{ headers: [{{ name: x-ai-eg-model, value: {MODEL} }}] }}]
      {timeouts}
      backendRefs:
{references}---
apiVersion: v1
kind: Secret
metadata: {{ name: key, namespace: default }}
stringData: {{ apiKey: {KEY} }}
{rest}"
    )
}

fn backend(name: &str, provider: Provider, address: SocketAddr) -> String {
    let (schema, policy, member) = match provider {
        Provider::OpenAi => ("OpenAI", "APIKey", "apiKey"),
        Provider::Messages => ("Anthropic", "AnthropicAPIKey", "anthropicAPIKey"),
    };
    let (ip, port) = (address.ip(), address.port());
    format!(
        r"---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIServiceBackend
metadata: {{ name: {name}, namespace: default }}
spec:
  schema: {{ name: {schema} }}
  backendRef: {{ group: gateway.envoyproxy.io, kind: Backend, name: {name} }}
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: {{ name: {name}, namespace: default }}
spec: {{ endpoints: [{{ ip: {{ address: {ip}, port: {port} }} }}] }}
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: BackendSecurityPolicy
metadata: {{ name: {name}, namespace: default }}
spec:
  targetRefs: [{{ group: aigateway.envoyproxy.io, kind: AIServiceBackend, name: {name} }}]
  type: {policy}
  {member}: {{ secretRef: {{ name: key }} }}
"
    )
}

impl Setup {
    /// Returns a gateway that serves one rule over `backends`.
    pub(crate) async fn start(limits: Limits, backends: &[(Provider, SocketAddr)]) -> Self {
        let options = Options {
            admin: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
            ..Options::default()
        };
        let gateway = Gateway::start(options).await.expect("loopback can be bound");
        let snapshot = snapshot(limits, backends);
        gateway.install(snapshot).await.expect("loopback can be bound");
        let address = *gateway.addresses().first().expect("a listener is declared");
        let admin = gateway.admin_address().expect("an admin listener is asked for");
        Self {
            gateway,
            address,
            admin,
        }
    }

    /// Returns the sum of the series called `name` whose labels contain `label`.
    pub(crate) async fn metric(&self, name: &str, label: &str) -> f64 {
        let text = client::get(self.admin, "/metrics", &[]).await.text();
        text.lines()
            .filter(|line| line.starts_with(name) && line.contains(label))
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
            .sum()
    }

    /// Waits until nothing is being served, and checks that `requests` were recorded, each once.
    pub(crate) async fn recorded(&self, requests: f64) {
        let settled = async {
            while self.metric("tollgate_requests_in_flight", "").await > 0.0 {
                tokio::task::yield_now().await;
            }
        };
        let limit = std::time::Duration::from_secs(20);
        assert!(
            tokio::time::timeout(limit, settled).await.is_ok(),
            "something stays in flight"
        );
        assert_eq!(self.metric("tollgate_requests_total", "").await, requests);
    }

    /// Returns how often tokens of a kind were recorded, and how many.
    pub(crate) async fn tokens(&self, kind: &str) -> (f64, f64) {
        let label = format!("gen_ai_token_type=\"{kind}\"");
        (
            self.metric("gen_ai_client_token_usage_count", &label).await,
            self.metric("gen_ai_client_token_usage_sum", &label).await,
        )
    }
}
