//! HTTPRoutes on real sockets: what is matched, and what is handed on and back.

mod access;
mod conformance;
mod files;
mod limited;
mod mirror;
mod sticky;
mod streams;
mod tunnel;

use std::sync::Arc;

use config::{Resources, Severity, Surroundings};
use gateway::Gateway;
use testkit::{Received, Reply, Script, Upstream};

use crate::fixture::{KEY, Served, options};

/// The backends that every configuration of these tests may name: Services with one endpoint each.
const BACKENDS: [&str; 3] = ["v1", "v2", "v3"];

/// A gateway with its backends.
struct Setup {
    served: Served,
    upstreams: Vec<Upstream>,
}

impl Setup {
    /// Serves `yaml`, whose backends say who they are.
    async fn new(yaml: &str) -> Self {
        let mut upstreams = Vec::new();
        for name in BACKENDS {
            let reply = Reply::whole(200, &[("x-backend", name), ("x-old", "1")], name);
            upstreams.push(Upstream::start(reply).await);
        }
        Self::over(yaml, upstreams).await
    }

    /// Serves `yaml`, whose backends all do the same.
    async fn answering(yaml: &str, answer: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        let upstream = Upstream::start(Script::answer(answer)).await;
        Self::over(yaml, vec![upstream]).await
    }

    async fn over(yaml: &str, upstreams: Vec<Upstream>) -> Self {
        let mut text = yaml.to_owned();
        for (name, upstream) in BACKENDS.iter().zip(&upstreams) {
            for namespace in ["default", "granted", "refused"] {
                text += &service(name, namespace, upstream.address().port());
            }
        }
        let surroundings = Surroundings {
            environment: &|name| name.ends_with("_API_KEY").then(|| KEY.to_owned()),
            reader: &|_| Err("no files".to_owned()),
        };
        let mut resources = Resources::default();
        let faults = config::parse("case.yaml", &text, &surroundings, &mut resources);
        let faults = faults.iter().filter(|fault| fault.severity == Severity::Error);
        assert_eq!(faults.map(ToString::to_string).collect::<Vec<_>>(), [""; 0]);
        let (mut snapshot, _) = config::resolve(&resources, 0);
        let (_, listener) = snapshot.listeners.pop_first().expect("one port");
        assert!(snapshot.listeners.is_empty(), "one port");
        snapshot.listeners.insert(0, listener);
        let gateway = Gateway::start(options()).await.expect("the admin port is free");
        Arc::clone(&gateway)
            .install(snapshot)
            .await
            .expect("the port is free");
        let address = *gateway.addresses().first().expect("one listener");
        Self {
            served: Served { gateway, address },
            upstreams,
        }
    }
}

/// Returns a Service and its one endpoint.
fn service(name: &str, namespace: &str, port: u16) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{ports: [{{port: \
         8080}}]}}\n---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {name}-a, namespace: \
         {namespace}, labels: {{kubernetes.io/service-name: {name}}}}}\naddressType: IPv4\nendpoints: [{{addresses: \
         [127.0.0.1]}}]\nports: [{{port: {port}}}]\n"
    )
}

/// A Gateway with one listener, and an HTTPRoute that sends everything to the first backend.
const EVERYTHING: &str = "\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  gatewayClassName: tollgate
  listeners: [{name: http, protocol: HTTP, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: everything}
spec:
  parentRefs: [{name: edge}]
  rules: [{backendRefs: [{name: v1, port: 8080}]}]
";
