//! A gateway with one rule, its upstreams and a policy.

use std::{fmt::Write, net::SocketAddr, path::Path, sync::Arc};

use config::{Resources, Snapshot, Surroundings};
use gateway::{Gateway, Options};
use testkit::{
    Reply, Upstream,
    client::{self, Answer},
    fixture,
};

/// The path of the requests.
pub(crate) const PATH: &str = fixture::openai::PATH;

/// A gateway that serves.
pub(crate) struct Setup {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) address: SocketAddr,
    snapshot: Snapshot,
}

/// One backend of the rule.
pub(crate) struct Backend {
    endpoints: Vec<String>,
    /// Further members of its spec.
    says: String,
    priority: u32,
    weight: u32,
}

/// Returns a backend with one endpoint.
pub(crate) fn at(upstream: &Upstream) -> Backend {
    over(&[upstream])
}

/// Returns a backend with several endpoints.
pub(crate) fn over(upstreams: &[&Upstream]) -> Backend {
    Backend {
        endpoints: upstreams.iter().map(|upstream| ip(upstream.address())).collect(),
        says: String::new(),
        priority: 0,
        weight: 1,
    }
}

/// Returns a backend at an address, whoever listens there.
pub(crate) fn nowhere(address: SocketAddr) -> Backend {
    endpoint(ip(address))
}

/// Returns a backend at a Unix socket.
pub(crate) fn socket(path: &Path) -> Backend {
    endpoint(format!("unix: {{ path: {} }}", path.display()))
}

fn ip(address: SocketAddr) -> String {
    format!("ip: {{ address: {}, port: {} }}", address.ip(), address.port())
}

fn endpoint(endpoint: String) -> Backend {
    Backend {
        endpoints: vec![endpoint],
        says: String::new(),
        priority: 0,
        weight: 1,
    }
}

impl Backend {
    /// Returns the same backend at a lower priority.
    pub(crate) fn after(self, priority: u32) -> Self {
        Self { priority, ..self }
    }

    /// Returns the same backend with further members of its spec.
    pub(crate) fn saying(self, says: &str) -> Self {
        Self {
            says: format!(", {says}"),
            ..self
        }
    }

    /// Returns the same backend with another weight.
    pub(crate) fn weighing(self, weight: u32) -> Self {
        Self { weight, ..self }
    }

    /// Returns its weight.
    pub(crate) fn weight(&self) -> u32 {
        self.weight
    }

    /// Returns the document that declares it as `b` and `index`.
    pub(crate) fn document(&self, index: usize) -> String {
        let Self { endpoints, says, .. } = self;
        let endpoints = endpoints.iter().map(|endpoint| format!("{{ {endpoint} }}, "));
        let endpoints: String = endpoints.collect();
        format!(
            r"---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: {{ name: b{index} }}
spec: {{ endpoints: [{endpoints}]{says} }}
"
        )
    }
}

impl Setup {
    /// Returns a gateway that treats `backends` as `policy` says: members of `spec`, and annotations before them.
    pub(crate) async fn start(policy: &str, backends: &[Backend]) -> Self {
        Self::annotated("", policy, backends).await
    }

    /// Returns a gateway whose policy has annotations.
    pub(crate) async fn annotated(annotations: &str, policy: &str, backends: &[Backend]) -> Self {
        Self::with(Options::default(), annotations, policy, backends).await
    }

    /// Returns a gateway with options of its own.
    pub(crate) async fn with(
        options: Options,
        annotations: &str,
        policy: &str,
        backends: &[Backend],
    ) -> Self {
        Self::of(options, &yaml(annotations, policy, backends)).await
    }

    /// Returns a gateway that treats `backends` in no special way, with other documents beside them.
    pub(crate) async fn beside(documents: &str, backends: &[Backend]) -> Self {
        let yaml = yaml("", "timeout: {}", backends);
        Self::of(Options::default(), &format!("{yaml}{documents}")).await
    }

    /// Returns a gateway that serves `yaml`.
    pub(crate) async fn of(options: Options, yaml: &str) -> Self {
        let snapshot = snapshot(yaml);
        let gateway = Gateway::start(options).await.expect("nothing is bound yet");
        gateway
            .install(snapshot.clone())
            .await
            .expect("loopback can be bound");
        let address = *gateway.addresses().first().expect("a listener is declared");
        Self {
            gateway,
            address,
            snapshot,
        }
    }

    /// Installs the same snapshot again.
    pub(crate) async fn reload(&self) {
        let installed = self.gateway.install(self.snapshot.clone()).await;
        installed.expect("loopback can be bound");
    }

    /// Asks for a greeting.
    pub(crate) async fn ask(&self) -> Answer {
        self.ask_with(&[]).await
    }

    /// Asks for a greeting, with headers.
    pub(crate) async fn ask_with(&self, headers: &[(&str, &str)]) -> Answer {
        client::post(self.address, PATH, headers, &fixture::openai::request("m", false)).await
    }

    /// Asks for a greeting, streamed.
    pub(crate) async fn ask_stream(&self) -> Answer {
        client::post(self.address, PATH, &[], &fixture::openai::request("m", true)).await
    }
}

/// Returns an upstream that answers with a greeting.
pub(crate) async fn good() -> Upstream {
    Upstream::start(greeting()).await
}

/// Returns a greeting.
pub(crate) fn greeting() -> Reply {
    Reply::json(200, &fixture::openai::response("gpt"))
}

/// Returns a failure with a status.
pub(crate) fn failure(status: u16) -> Reply {
    Reply::json(status, &fixture::openai::error("server_error", "x", "it broke"))
}

/// Returns how often each upstream was asked.
pub(crate) fn asked<const N: usize>(upstreams: [&Upstream; N]) -> [usize; N] {
    upstreams.map(|upstream| upstream.requests().len())
}

fn snapshot(yaml: &str) -> Snapshot {
    let mut resources = Resources::default();
    let surroundings = Surroundings {
        environment: &|_| None,
        reader: &|path| Err(format!("{path} is not there")),
    };
    let faults = config::parse("test.yaml", yaml, &surroundings, &mut resources);
    assert!(faults.is_empty(), "{faults:?}\n{yaml}");
    let (mut snapshot, report) = config::resolve(&resources, 0);
    assert!(!report.has_errors(), "{report}\n{yaml}");
    // A declared port cannot be 0, which lets the system choose one.
    let listener = snapshot.listeners.pop_first().map(|(_, listener)| listener);
    snapshot.listeners.insert(0, listener.unwrap_or_default());
    snapshot
}

fn yaml(annotations: &str, policy: &str, backends: &[Backend]) -> String {
    let mut references = String::new();
    let mut rest = String::new();
    for (index, backend) in backends.iter().enumerate() {
        let Backend { priority, weight, .. } = backend;
        let _ = write!(
            references,
            "{{ name: b{index}, priority: {priority}, weight: {weight}, modelNameOverride: m{index} }}, "
        );
        let _ = write!(
            rest,
            r"---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIServiceBackend
metadata: {{ name: b{index} }}
spec:
  schema: {{ name: OpenAI }}
  backendRef: {{ group: gateway.envoyproxy.io, kind: Backend, name: b{index} }}
"
        );
        rest += &backend.document(index);
    }
    format!(
        r"
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{ name: gateway }}
spec:
  gatewayClassName: tollgate
  listeners: [{{ name: http, protocol: HTTP, port: 8080 }}]
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIGatewayRoute
metadata: {{ name: route }}
spec:
  parentRefs: [{{ name: gateway }}]
  rules:
    - matches: [{{ headers: [{{ name: x-ai-eg-model, value: m }}] }}]
      backendRefs: [{references}]
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: BackendTrafficPolicy
metadata: {{ name: policy, annotations: {{ {annotations} }} }}
spec:
  targetRefs: [{{ group: gateway.networking.k8s.io, kind: HTTPRoute, name: route }}]
  {policy}
{rest}"
    )
}
