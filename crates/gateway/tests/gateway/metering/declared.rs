//! A gateway whose routes and limits are declared, in front of one upstream that counts what it is told to.

use std::fmt::Write;

use config::{Report, Resources, Snapshot, Surroundings};
use gateway::Gateway;
use serde_json::{Value, json};
use testkit::{Reply, Script, Upstream, client::Answer, fixture};

use crate::fixture::{CHAT, Served, options};

/// What each answer costs, a third of it for the prompt.
pub(super) const TOKENS: u64 = 20;

/// A gateway with the backends `one` and `two`, which lead to the same upstream by other paths.
pub(super) struct Declared {
    pub(super) served: Served,
    pub(super) upstream: Upstream,
    /// How many requests have been made.
    asked: u64,
}

/// One rule of a route: the model that it is for, and its backends as `name` or `name=model upstream`; those after a
/// semicolon are asked later.
pub(super) type Rule<'a> = (&'a str, &'a str);

impl Declared {
    /// Serves routes of such rules, with other documents beside them.
    pub(super) async fn serve(routes: &[&[Rule<'_>]], documents: &str) -> Self {
        Self::begin(counting().await, routes, documents, false).await
    }

    /// The same, in front of another upstream.
    pub(super) async fn serve_before(upstream: Upstream, routes: &[&[Rule<'_>]], documents: &str) -> Self {
        Self::begin(upstream, routes, documents, false).await
    }

    /// The same of documents that have faults.
    pub(super) async fn serve_faulty(routes: &[&[Rule<'_>]], documents: &str) -> Self {
        Self::begin(counting().await, routes, documents, true).await
    }

    async fn begin(upstream: Upstream, routes: &[&[Rule<'_>]], documents: &str, faulty: bool) -> Self {
        let gateway = Gateway::start(options()).await.expect("the admin port is free");
        let (snapshot, report) = snapshot(&upstream, routes, documents);
        assert_eq!(report.has_errors(), faulty, "{report:?}");
        gateway.install(snapshot).await.expect("the port is free");
        let address = *gateway.addresses().first().expect("one listener");
        Self {
            served: Served { gateway, address },
            upstream,
            asked: 0,
        }
    }

    /// Makes one request and waits until it is charged; returns its status.
    pub(super) async fn ask(&mut self, model: &str, headers: &[(&str, &str)]) -> u16 {
        self.answer(model, headers).await.status
    }

    /// The same, with the whole answer.
    pub(super) async fn answer(&mut self, model: &str, headers: &[(&str, &str)]) -> Answer {
        let body = json!({"model": model, "max_tokens": 4, "messages": [{"role": "user", "content": "hi"}]});
        let answer = testkit::client::post(self.served.address, CHAT, headers, &body).await;
        self.asked += 1;
        let asked = self.asked as f64;
        self.served
            .metric_reaches("tollgate_requests_total", &[], asked)
            .await;
        answer
    }

    /// Makes requests until one is refused; returns how many were admitted.
    pub(super) async fn exhaust(&mut self, model: &str, headers: &[(&str, &str)]) -> usize {
        let mut admitted = 0;
        loop {
            match self.ask(model, headers).await {
                200 => admitted += 1,
                status => {
                    assert_eq!(status, 429);
                    return admitted;
                }
            }
            assert!(admitted < 20, "no limit");
        }
    }

    /// Returns the counters without their windows, and what was used of them.
    pub(super) async fn used(&self) -> Vec<(String, u64)> {
        let usage = self.served.admin("/usage").await.json();
        let counters = usage["counters"].as_array().expect("a list");
        let counters = counters.iter().map(|counter| {
            assert_eq!(counter["held"], 0, "{usage}");
            let key = counter["counter"].as_str().expect("a name");
            let (key, _) = key.rsplit_once('_').expect("a window");
            (key.to_owned(), counter["used"].as_u64().expect("a number"))
        });
        counters.collect()
    }

    /// Returns the backends that were asked, in order.
    pub(super) fn backends(&self) -> Vec<String> {
        let requests = self.upstream.requests();
        let paths = requests
            .iter()
            .filter_map(|request| request.target.split('/').nth(1));
        paths.map(str::to_owned).collect()
    }
}

async fn counting() -> Upstream {
    Upstream::start(Script::answer(|_| Reply::json(200, &answer()))).await
}

pub(super) fn answer() -> Value {
    let mut answer = fixture::openai::response("gpt");
    answer["usage"] = json!({
        "prompt_tokens": TOKENS - 5,
        "completion_tokens": 5,
        "total_tokens": TOKENS,
    });
    answer
}

/// Returns what such routes become.
pub(super) fn snapshot(upstream: &Upstream, routes: &[&[Rule<'_>]], documents: &str) -> (Snapshot, Report) {
    let mut yaml = String::from(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gateway}
spec:
  gatewayClassName: tollgate
  listeners: [{name: http, protocol: HTTP, port: 8080}]
",
    );
    let address = upstream.address();
    for backend in ["one", "two"] {
        let written = write!(
            yaml,
            "---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIServiceBackend
metadata: {{name: {backend}}}
spec:
  schema: {{name: OpenAI, prefix: /{backend}/v1}}
  backendRef: {{group: gateway.envoyproxy.io, kind: Backend, name: upstream}}
"
        );
        written.expect("a String takes everything");
    }
    let written = write!(
        yaml,
        "---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: {{name: upstream}}
spec: {{endpoints: [{{ip: {{address: {}, port: {}}}}}]}}
",
        address.ip(),
        address.port()
    );
    written.expect("a String takes everything");
    for (index, rules) in routes.iter().enumerate() {
        yaml.push_str(&route(index, rules));
    }
    yaml.push_str(documents);
    let surroundings = Surroundings {
        environment: &|_| None,
        reader: &|path| Err(format!("{path} is not there")),
    };
    let mut resources = Resources::default();
    let faults = config::parse("test.yaml", &yaml, &surroundings, &mut resources);
    assert!(faults.is_empty(), "{faults:?}\n{yaml}");
    let (mut snapshot, report) = config::resolve(&resources, 0);
    // A declared port cannot be 0, which lets the system choose one.
    let listener = snapshot.listeners.pop_first().map(|(_, listener)| listener);
    snapshot.listeners.insert(0, listener.unwrap_or_default());
    (snapshot, report)
}

fn route(index: usize, rules: &[Rule<'_>]) -> String {
    let mut yaml = format!(
        "---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIGatewayRoute
metadata: {{name: route-{index}}}
spec:
  parentRefs: [{{name: gateway}}]
  llmRequestCosts:
    - {{metadataKey: llm_input_token, type: InputToken}}
    - {{metadataKey: llm_output_token, type: OutputToken}}
    - {{metadataKey: llm_total_token, type: TotalToken}}
  rules:
"
    );
    for (model, backends) in rules {
        yaml.push_str("    - matches: [{headers: [{name: x-ai-eg-model, value: ");
        yaml.push_str(model);
        yaml.push_str("}]}]\n      backendRefs:\n");
        for (priority, group) in backends.split(';').enumerate() {
            for reference in group.split_whitespace() {
                let (name, model) = reference.split_once('=').unwrap_or((reference, ""));
                let written = match model {
                    "" => writeln!(yaml, "        - {{name: {name}, priority: {priority}}}"),
                    _ => writeln!(
                        yaml,
                        "        - {{name: {name}, priority: {priority}, modelNameOverride: {model}}}"
                    ),
                };
                written.expect("a String takes everything");
            }
        }
    }
    yaml
}

/// Returns a QuotaPolicy for backends, with what else its specification says.
pub(super) fn quota(name: &str, annotations: &str, backends: &[&str], rest: &str) -> String {
    let targets = backends.iter().map(|backend| {
        format!("{{group: aigateway.envoyproxy.io, kind: AIServiceBackend, name: {backend}}}")
    });
    let targets = targets.collect::<Vec<_>>().join(", ");
    format!(
        "---
apiVersion: aigateway.envoyproxy.io/v1alpha1
kind: QuotaPolicy
metadata: {{name: {name}, annotations: {{{annotations}}}}}
spec:
  targetRefs: [{targets}]
  {}
",
        rest.trim().replace('\n', "\n  ")
    )
}

/// Returns a BackendTrafficPolicy with global rules, each in flow style.
pub(super) fn limits(annotations: &str, target: &str, rules: &[&str]) -> String {
    let rules = rules.iter().map(|rule| format!("      - {rule}\n"));
    format!(
        "---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: BackendTrafficPolicy
metadata: {{name: limits, annotations: {{{annotations}}}}}
spec:
  targetRefs: [{{group: gateway.networking.k8s.io, {target}}}]
  rateLimit:
    type: Global
    global:
      rules:
{}",
        rules.collect::<String>()
    )
}
