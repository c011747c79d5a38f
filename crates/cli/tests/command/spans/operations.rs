//! Spans of every operation, as providers answer it, in both vocabularies and with what may be said of it left out.

use std::{collections::BTreeSet, fmt::Write as _, fs::File, process::Stdio, time::Duration};

use insta::assert_snapshot;
use serde_json::Value;
use testkit::{
    Client, Reply, Upstream,
    client::{self, Answer},
};

use super::cases::{Asked, Case, cases};
use crate::process::Gateway;

/// How long it may take until everything is counted.
const PATIENCE: Duration = Duration::from_secs(10);

/// What only clients and models may read where spans hide content.
const CANARY: &str = "canary";

/// Returns the spans that a gateway with `variables` exports of all exchanges, in their order.
async fn spans(variables: &[(&str, &str)]) -> Vec<Value> {
    let replies: Vec<Reply> = cases().into_iter().map(|case| case.reply).collect();
    let upstream = Upstream::start(replies).await;
    let folder = tempfile::tempdir().unwrap();
    let (path, declared) = (folder.path().join("spans"), folder.path().join("declared.yaml"));
    let port = upstream.address().port().to_string();
    std::fs::write(&declared, DECLARED.replace("PORT", &port)).unwrap();
    let all: Vec<_> = [("OTEL_TRACES_EXPORTER", "console")]
        .into_iter()
        .chain(variables.iter().copied())
        .collect();
    let stdout = Stdio::from(File::create(&path).unwrap());
    let arguments = ["--access-log", "off", declared.to_str().unwrap()];
    let mut gateway = Gateway::start_to(stdout, &arguments, &all);
    for (count, case) in cases().into_iter().enumerate() {
        ask(&gateway, &case).await;
        assert_eq!(
            upstream.requests().len(),
            count + 1,
            "{}: calls of the upstream",
            case.name
        );
    }
    // What follows an answer is counted when its last byte is handed over, which its reader may see a moment earlier.
    let reached = async {
        while counted(&gateway).await != OPERATIONS {
            tokio::task::yield_now().await;
        }
    };
    let reached = tokio::time::timeout(PATIENCE, reached).await;
    assert!(reached.is_ok(), "{:?}", counted(&gateway).await);
    gateway.signal("TERM");
    assert_eq!(gateway.ended(), 0);
    let written = std::fs::read_to_string(&path).unwrap();
    let mut spans: Vec<Value> = written
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    // A record follows its answer, which its client may have seen a moment earlier.
    spans.sort_by_key(|span| span["start"].as_u64());
    spans
}

/// Returns the operations that metrics name.
async fn counted(gateway: &Gateway) -> Vec<String> {
    let metrics = client::get(gateway.admin, "/metrics", &[]).await.text();
    let counts = metrics
        .lines()
        .filter(|line| line.starts_with("gen_ai_server_request_duration_seconds_count"));
    let names = counts.filter_map(|line| line.split("gen_ai_operation_name=\"").nth(1)?.split('"').next());
    let names: BTreeSet<&str> = names.collect();
    names.into_iter().map(str::to_owned).collect()
}

/// What metrics call everything that is asked for here.
const OPERATIONS: &[&str] = &[
    "chat",
    "completion",
    "count_tokens",
    "embeddings",
    "generate_content",
    "image_edit",
    "image_generation",
    "messages",
    "moderation",
    "rerank",
    "responses",
    "responses_input_tokens",
    "speech",
    "tokenize",
    "transcription",
    "translation",
];

async fn ask(gateway: &Gateway, case: &Case) -> Answer {
    let headers = [("anthropic-version", "2023-06-01"), ("agent-session-id", "s-1")];
    let mut client = Client::connect(gateway.address).await;
    match &case.asked {
        Asked::Document(request) => client.post(case.path, &headers, request).await.unwrap(),
        Asked::Form(fields) => {
            let mut body = String::new();
            for (name, value) in *fields {
                write!(
                    body,
                    "--b\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
                )
                .unwrap();
            }
            let file = if case.path.contains("images") {
                "image"
            } else {
                "file"
            };
            write!(
                body,
                "--b\r\ncontent-disposition: form-data; name=\"{file}\"; filename=\"said.wav\"\r\n\r\n{CANARY}\r\n--b--\r\n"
            )
            .unwrap();
            let head = format!(
                "POST {} HTTP/1.1\r\nhost: localhost\r\nagent-session-id: s-1\r\n\
                 content-type: multipart/form-data; boundary=b\r\ncontent-length: {}\r\n\r\n",
                case.path,
                body.len()
            );
            client.send(head + &body).await.unwrap();
        }
    }
    // One that breaks off is an answer too.
    client.answer().await.unwrap()
}

/// Says a span, line by line.
pub(super) fn show(span: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let status = &span["status"];
    let mut shown = format!(
        "{}, {}, {}",
        text(&span["name"]),
        text(&span["kind"]),
        text(&status["code"])
    );
    if let Some(description) = status["description"].as_str() {
        write!(shown, ": {description}").unwrap();
    }
    for event in span["events"].as_array().unwrap() {
        write!(shown, "\n  {}: {}", text(&event["name"]), event["attributes"]).unwrap();
    }
    for (name, value) in span["attributes"].as_object().unwrap() {
        if name == "tollgate.time_to_first_token" {
            assert!(value.as_f64().unwrap() > 0.0, "{span:#}");
            continue;
        }
        write!(shown, "\n  {name} = {value}").unwrap();
    }
    shown
}

fn requests(spans: &[Value]) -> Vec<&Value> {
    spans.iter().filter(|span| span["name"] != "attempt").collect()
}

#[tokio::test]
async fn every_operation_has_a_span_in_both_vocabularies() {
    let openinference = spans(&[]).await;
    let conventions = spans(&[
        ("AI_GATEWAY_TRACING_SEMCONV", "gen_ai"),
        ("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "true"),
    ])
    .await;
    let (ours, theirs) = (requests(&openinference), requests(&conventions));
    assert_eq!((ours.len(), theirs.len()), (cases().len(), cases().len()));
    for (case, (one, other)) in cases().iter().zip(ours.into_iter().zip(theirs)) {
        assert_snapshot!(
            format!("operation__{}", case.name),
            format!("{}\n\n{}", show(one), show(other))
        );
    }
}

/// Nothing of what was said is in a span that must not hold it, whatever was asked for.
#[tokio::test]
async fn what_is_hidden_is_in_no_span() {
    let hide = [
        ("OPENINFERENCE_HIDE_INPUTS", "true"),
        ("OPENINFERENCE_HIDE_OUTPUTS", "1"),
    ];
    let hidden = spans(&hide).await;
    let plain = spans(&[("AI_GATEWAY_TRACING_SEMCONV", "gen_ai")]).await;
    for span in hidden.iter().chain(&plain) {
        assert!(!span.to_string().contains(CANARY), "{span:#}");
    }
    let shown: Vec<String> = requests(&hidden).into_iter().map(show).collect();
    assert_snapshot!("operations_hidden", shown.join("\n\n"));
    let shown: Vec<String> = requests(&plain).into_iter().map(show).collect();
    assert_snapshot!("operations_without_content", shown.join("\n\n"));
}

const DECLARED: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: tollgate}
spec:
  gatewayClassName: tollgate
  listeners: [{name: http, protocol: HTTP, port: 1975}]
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIGatewayRoute
metadata: {name: all}
spec:
  parentRefs: [{name: tollgate}]
  rules:
    - matches: [{headers: [{type: Exact, name: x-ai-eg-model, value: m}]}]
      backendRefs: [{name: openai}]
    - matches: [{headers: [{type: Exact, name: x-ai-eg-model, value: claude-m}]}]
      backendRefs: [{name: anthropic}]
    - matches: [{headers: [{type: Exact, name: x-ai-eg-model, value: rerank-m}]}]
      backendRefs: [{name: cohere}]
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIServiceBackend
metadata: {name: openai}
spec:
  schema: {name: OpenAI}
  backendRef: {group: gateway.envoyproxy.io, kind: Backend, name: upstream}
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIServiceBackend
metadata: {name: anthropic}
spec:
  schema: {name: Anthropic}
  backendRef: {group: gateway.envoyproxy.io, kind: Backend, name: upstream}
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIServiceBackend
metadata: {name: cohere}
spec:
  schema: {name: Cohere}
  backendRef: {group: gateway.envoyproxy.io, kind: Backend, name: upstream}
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: {name: upstream}
spec:
  endpoints: [{ip: {address: 127.0.0.1, port: PORT}}]
"#;
