//! A gateway with one pool, which an AIGatewayRoute and an HTTPRoute refer to.

use std::{fmt::Write, net::SocketAddr, sync::Arc, time::Duration};

use config::{Resources, Surroundings};
use gateway::{Gateway, Options};
use serde_json::Value;
use testkit::{
    Reply, Upstream,
    client::{self, Answer},
    fixture::openai,
};

/// The path of the OpenAI format.
pub(crate) const PATH: &str = "/v1/chat/completions";

/// A gateway that serves a pool.
pub(crate) struct Setup {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) address: SocketAddr,
}

/// What is declared of a pool.
#[derive(Clone, Default)]
pub(crate) struct Pool {
    /// Where its picker is; it has none without.
    pub(crate) picker: Option<SocketAddr>,
    /// Where the pods are that EndpointSlices name; `None` without any.
    pub(crate) members: Option<Vec<SocketAddr>>,
    /// Annotations.
    pub(crate) annotations: &'static str,
    /// Members of the reference to the picker.
    pub(crate) reference: &'static str,
    /// Members of the rule.
    pub(crate) rule: &'static str,
    /// Whether the picker is called in clear.
    pub(crate) encrypted: bool,
    /// What else is declared.
    pub(crate) beside: String,
}

impl Pool {
    /// Returns a pool whose picker is at `picker`.
    pub(crate) fn of(picker: SocketAddr) -> Self {
        Self {
            picker: Some(picker),
            ..Self::default()
        }
    }

    /// Returns the same pool, of which these pods are known.
    pub(crate) fn with(self, members: &[&Upstream]) -> Self {
        Self {
            members: Some(members.iter().map(|pod| pod.address()).collect()),
            ..self
        }
    }

    /// Returns the same pool, whose requests go to any pod where the picker fails.
    pub(crate) fn open(self) -> Self {
        Self {
            reference: ", failureMode: FailOpen",
            ..self
        }
    }

    /// Returns the same pool with annotations.
    pub(crate) fn annotated(self, annotations: &'static str) -> Self {
        Self { annotations, ..self }
    }

    /// Returns the same pool, beside which something else is declared.
    pub(crate) fn beside(self, beside: &str) -> Self {
        Self {
            beside: beside.to_owned(),
            ..self
        }
    }

    fn yaml(&self) -> String {
        let mut yaml = ROUTES.replace("RULE", self.rule);
        let members = self.members.iter().flatten();
        let mut ports: Vec<String> = members.map(|pod| format!("{{number: {}}}", pod.port())).collect();
        if ports.is_empty() {
            ports.push("{number: 8000}".to_owned());
        }
        let picker = match self.picker {
            Some(_) => format!(
                "endpointPickerRef: {{name: picker, port: {{number: 9002}}{}}}",
                self.reference
            ),
            None => String::new(),
        };
        let _ = write!(
            yaml,
            "---\napiVersion: inference.networking.k8s.io/v1\nkind: InferencePool\nmetadata: {{name: pool, annotations: \
             {{{}}}}}\nspec:\n  selector: {{matchLabels: {{app: llm}}}}\n  targetPorts: [{}]\n  {picker}\n",
            self.annotations,
            ports.join(", "),
        );
        if let Some(picker) = self.picker {
            let protocol = if self.encrypted {
                ""
            } else {
                ", appProtocol: kubernetes.io/h2c"
            };
            let _ = write!(
                yaml,
                "---\napiVersion: v1\nkind: Service\nmetadata: {{name: picker}}\nspec: {{ports: [{{port: \
                 9002{protocol}}}]}}\n---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: \
                 picker-a, labels: {{kubernetes.io/service-name: picker}}}}\naddressType: IPv4\nendpoints: \
                 [{{addresses: [{}]}}]\nports: [{{port: {}}}]\n",
                picker.ip(),
                picker.port(),
            );
        }
        if let Some(members) = &self.members {
            let address = if members.is_empty() {
                ""
            } else {
                "{addresses: [127.0.0.1]}"
            };
            let _ = write!(
                yaml,
                "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: llm-a, labels: {{app: \
                 llm}}}}\naddressType: IPv4\nendpoints: [{address}]\n",
            );
        }
        yaml + &self.beside
    }
}

impl Setup {
    /// Returns a gateway that serves `pool`.
    pub(crate) async fn start(pool: Pool) -> Self {
        let yaml = pool.yaml();
        let mut resources = Resources::default();
        let surroundings = Surroundings {
            environment: &|_| None,
            reader: &|path| Err(format!("{path} is not there")),
        };
        let faults = config::parse("pool.yaml", &yaml, &surroundings, &mut resources);
        assert!(faults.is_empty(), "{faults:?}\n{yaml}");
        let (mut snapshot, report) = config::resolve(&resources, 0);
        assert!(!report.has_errors(), "{report}\n{yaml}");
        // A declared port cannot be 0, which lets the system choose one.
        let listener = snapshot.listeners.pop_first().map(|(_, listener)| listener);
        snapshot.listeners.insert(0, listener.unwrap_or_default());
        let options = Options {
            admin: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
            drain: Duration::from_millis(200),
            ..Options::default()
        };
        let gateway = Gateway::start(options).await.expect("nothing is bound yet");
        gateway.install(snapshot).await.expect("loopback can be bound");
        let address = *gateway.addresses().first().expect("a listener is declared");
        Self { gateway, address }
    }

    /// Asks for a greeting.
    pub(crate) async fn ask(&self) -> Answer {
        self.ask_with(&[], &openai::request("m", false)).await
    }

    /// Asks for a greeting, streamed.
    pub(crate) async fn ask_stream(&self) -> Answer {
        self.ask_with(&[], &openai::request("m", true)).await
    }

    /// Sends a request with headers.
    pub(crate) async fn ask_with(&self, headers: &[(&str, &str)], body: &Value) -> Answer {
        client::post(self.address, PATH, headers, body).await
    }

    /// Returns what is counted.
    pub(crate) async fn metrics(&self) -> String {
        let admin = self.gateway.admin_address().expect("an admin listener");
        client::get(admin, "/metrics", &[]).await.text()
    }
}

/// Returns a pod that answers with a greeting.
pub(crate) async fn pod() -> Upstream {
    Upstream::start(Reply::json(200, &openai::response("m"))).await
}

const ROUTES: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gateway}
spec:
  gatewayClassName: tollgate
  listeners: [{name: http, protocol: HTTP, port: 8080}]
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIGatewayRoute
metadata: {name: models}
spec:
  parentRefs: [{name: gateway}]
  rules:
    - matches: [{headers: [{name: x-ai-eg-model, value: m}]}]
      backendRefs: [{group: inference.networking.k8s.io, kind: InferencePool, name: pool}]
      RULE
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: plain}
spec:
  parentRefs: [{name: gateway}]
  rules:
    - matches: [{path: {type: PathPrefix, value: /plain}}]
      backendRefs: [{group: inference.networking.k8s.io, kind: InferencePool, name: pool}]
";
