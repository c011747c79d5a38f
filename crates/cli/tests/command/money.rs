//! What a declared list of prices makes of a request: in its record, its span, and in what `tollgate explain` says.

use std::fs;

use serde_json::{Value, json};
use testkit::{Reply, Upstream, client, fixture};

use crate::process::{Gateway, finish, tollgate};

fn configuration(upstream: &Upstream, prices: &str) -> String {
    let address = upstream.address();
    format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: gateway}}
spec:
  gatewayClassName: tollgate
  listeners: [{{name: http, protocol: HTTP, port: 1975}}]
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIGatewayRoute
metadata: {{name: chat}}
spec:
  parentRefs: [{{name: gateway}}]
  rules: [{{backendRefs: [{{name: up}}]}}]
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIServiceBackend
metadata:
  name: up
  annotations:
    tollgate.dev/prices: \"{prices}\"
spec:
  schema: {{name: OpenAI}}
  backendRef: {{group: gateway.envoyproxy.io, kind: Backend, name: up}}
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: {{name: up}}
spec:
  endpoints: [{{ip: {{address: {}, port: {}}}}}]
",
        address.ip(),
        address.port()
    )
}

#[tokio::test]
async fn a_request_has_a_price() {
    let upstream = Upstream::start(Reply::json(200, &fixture::openai::response("gpt"))).await;
    let folder = tempfile::tempdir().unwrap();
    let (file, written) = (folder.path().join("all.yaml"), folder.path().join("out"));
    fs::write(&file, configuration(&upstream, "USD; gpt-*: input=2, output=10")).unwrap();
    let variables = [("OTEL_TRACES_EXPORTER", "console")];
    let stdout = fs::File::create(&written).unwrap();
    let arguments = [file.to_str().unwrap(), "--access-log", "json"];
    let mut gateway = Gateway::start_to(stdout.into(), &arguments, &variables);
    let request = fixture::openai::request("gpt-5", false);
    let named = [("x-request-id", "priced")];
    let answer = client::post(gateway.address, "/v1/chat/completions", &named, &request).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let admin = gateway.admin.to_string();
    let (code, said, complaint) = finish(tollgate(&["explain", "--admin", &admin, "priced"], &[]), "");
    assert_eq!((code, complaint.as_str()), (0, ""));
    let spent = "spent: 0.000092 USD (prompt 0.000022, answer 0.00007)\n";
    assert!(said.ends_with(spent), "{said}");
    gateway.signal("TERM");
    assert_eq!(gateway.ended(), 0);
    let written = fs::read_to_string(&written).unwrap();
    let lines: Vec<Value> = written
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let record = lines
        .iter()
        .find(|line| line["x-request-id"] == "priced")
        .unwrap();
    assert_eq!(record["gen_ai.usage.cost"], json!(0.000_092));
    assert_eq!(record["gen_ai.usage.cost_currency"], "USD");
    assert!(written.contains("\"gen_ai.usage.cost\":0.000092,"), "{written}");
    let span = lines
        .iter()
        .find(|line| line["name"] == "ChatCompletion")
        .unwrap();
    let attributes = &span["attributes"];
    assert_eq!(attributes["gen_ai.usage.cost"], json!(0.000_092));
    assert_eq!(attributes["llm.cost.total"], json!(0.000_092));
    assert_eq!(attributes["llm.cost.prompt"], json!(0.000_022));
}

#[tokio::test]
async fn a_list_that_is_none_is_reported() {
    let upstream = Upstream::start(Reply::new()).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("all.yaml");
    fs::write(&file, configuration(&upstream, "USD; gpt-*: inputs=2")).unwrap();
    let (code, said, _) = finish(tollgate(&["check", file.to_str().unwrap()], &[]), "");
    assert_eq!(code, 1);
    for part in [
        "InvalidPrices",
        "metadata.annotations[tollgate.dev/prices]",
        "cached-input",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}
