//! Spans of conversations with the simulated provider, in both vocabularies, whole and streamed; [`operations`] has those
//! of everything that can be asked for.

mod cases;
mod errors;
mod operations;
mod places;
mod tools;

use std::{
    fs::{self, File},
    process::Stdio,
};

use insta::assert_snapshot;
use serde_json::{Value, json};
use testkit::{Reply, Upstream, client, fixture};

use crate::process::Gateway;

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Returns the spans that a gateway with `variables` exports of `requests`.
async fn spans(variables: &[(&str, &str)], requests: &[(&str, Value)]) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spans");
    let all: Vec<_> = [("OTEL_TRACES_EXPORTER", "console")]
        .into_iter()
        .chain(variables.iter().copied())
        .collect();
    let stdout = Stdio::from(File::create(&path).unwrap());
    let mut gateway = Gateway::start_to(stdout, &["--access-log", "off"], &all);
    for (path, request) in requests {
        let headers = [
            ("traceparent", PARENT),
            ("agent-session-id", "s-1"),
            ("anthropic-version", "2023-06-01"),
        ];
        client::post(gateway.address, path, &headers, request).await;
    }
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

/// Returns `span` without what differs each time.
fn steady(mut span: Value) -> Value {
    for member in ["spanId", "start", "end"] {
        span[member] = member.into();
    }
    if span["name"] == "attempt" {
        span["parentSpanId"] = "of the request".into();
    }
    for event in span["events"].as_array_mut().unwrap() {
        event["time"] = "time".into();
    }
    let attributes = span["attributes"].as_object_mut().unwrap();
    for name in [
        "output.value",
        "gen_ai.response.id",
        "tollgate.time_to_first_token",
    ] {
        if attributes.contains_key(name) {
            attributes.insert(name.to_owned(), name.into());
        }
    }
    for (name, value) in attributes {
        if name.ends_with("tool_call.id") {
            *value = "id".into();
        } else if name == "gen_ai.output.messages" {
            let mut messages: Value = serde_json::from_str(value.as_str().unwrap()).unwrap();
            for part in messages[0]["parts"].as_array_mut().unwrap() {
                if part["type"] == "tool_call" {
                    part["id"] = "id".into();
                }
            }
            *value = messages.to_string().into();
        }
    }
    span
}

fn weather(parameters: &str) -> Value {
    json!({"type": "object", "properties": {parameters: {"type": "string"}}, "required": [parameters]})
}

fn requests() -> Vec<(&'static str, Value)> {
    let chat = "/v1/chat/completions";
    let picture = "data:image/png;base64,iVBORw0KGgo=";
    let tools = json!([{"type": "function", "function": {"name": "get_weather", "description": "Now", "parameters": weather("city")}}]);
    let conversation = json!([
        {"role": "system", "content": "Be kind"},
        {"role": "user", "content": [{"type": "text", "text": "Look"}, {"type": "image_url", "image_url": {"url": picture}}]},
        {"role": "assistant", "content": null, "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "18 degrees"},
    ]);
    let messages = "/anthropic/v1/messages";
    let hello = json!([{"role": "user", "content": "Hello"}]);
    vec![
        (
            chat,
            json!({"model": "sim-1", "messages": conversation, "tools": tools, "temperature": 0.5, "max_tokens": 64, "stop": "END"}),
        ),
        (
            chat,
            json!({"model": "sim-1", "messages": hello, "stream": true, "stream_options": {"include_usage": true}}),
        ),
        (
            chat,
            json!({"model": "sim-1", "messages": [{"role": "user", "content": "What is the weather in Paris?"}], "tools": tools, "stream": true}),
        ),
        (
            messages,
            json!({"model": "claude-sim-1", "messages": hello, "max_tokens": 64, "system": "Be kind", "top_k": 3}),
        ),
        (
            messages,
            json!({"model": "claude-sim-1", "messages": hello, "max_tokens": 64, "stream": true}),
        ),
        (
            "/v1/responses",
            json!({"model": "sim-1", "input": "Hello", "instructions": "Be kind"}),
        ),
        (
            "/v1/responses",
            json!({"model": "sim-1", "input": "Hello", "stream": true}),
        ),
        (
            "/v1beta/models/sim-1:generateContent",
            json!({"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}),
        ),
        (chat, json!({"model": "sim-1", "messages": "no list"})),
    ]
}

fn show(spans: Vec<Value>) -> String {
    let shown: Vec<String> = spans
        .into_iter()
        .map(|span| format!("{:#}", steady(span)))
        .collect();
    shown.join("\n")
}

#[tokio::test]
async fn spans_in_the_words_of_openinference() {
    let spans = spans(&[], &requests()).await;
    let of_requests = spans.iter().filter(|span| span["name"] != "attempt");
    assert!(
        of_requests
            .clone()
            .all(|span| span["parentSpanId"] == "b7ad6b7169203331")
    );
    assert!(
        spans
            .iter()
            .all(|span| span["traceId"] == "0af7651916cd43dd8448eb211c80319c")
    );
    assert_eq!(of_requests.count(), requests().len());
    assert_snapshot!(show(spans));
}

#[tokio::test]
async fn spans_in_the_words_of_opentelemetry() {
    let variables = [
        ("AI_GATEWAY_TRACING_SEMCONV", "gen_ai"),
        ("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "true"),
    ];
    assert_snapshot!(show(spans(&variables, &requests()).await));
}

/// Whoever goes over from one vocabulary to the other may have both: the first gives a span its name and its status, and
/// each says what it says alone.
#[tokio::test]
async fn both_vocabularies_may_be_told_at_once() {
    let content = ("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "true");
    let told = async |vocabularies| {
        let variables = [("AI_GATEWAY_TRACING_SEMCONV", vocabularies), content];
        let spans = spans(&variables, &requests()).await;
        let spans = spans.into_iter().filter(|span| span["name"] != "attempt");
        spans.map(steady).collect::<Vec<_>>()
    };
    let (plain, conventional) = (told("openinference").await, told("gen_ai").await);
    let (one, other) = (
        told("openinference,gen_ai").await,
        told("gen_ai,openinference").await,
    );
    for place in 0..requests().len() {
        for (both, first) in [(&one, &plain), (&other, &conventional)] {
            let (both, first) = (&both[place], &first[place]);
            for member in ["name", "kind", "status"] {
                assert_eq!(both[member], first[member], "{place} {member}");
            }
            let attributes = both["attributes"].as_object().unwrap();
            let events = both["events"].as_array().unwrap();
            let mut expected = 0;
            for alone in [&plain[place], &conventional[place]] {
                for (name, value) in alone["attributes"].as_object().unwrap() {
                    assert_eq!(attributes.get(name), Some(value), "{place} {name}");
                }
                let alone = alone["events"].as_array().unwrap();
                assert!(alone.iter().all(|event| events.contains(event)), "{place}");
                expected += alone.len();
            }
            assert_eq!(events.len(), expected, "{place}");
        }
    }
}

/// Nothing of what was said is in a span that must not hold it.
#[tokio::test]
async fn what_is_hidden_is_nowhere() {
    let canary = "canary-9d1f";
    let requests = vec![
        (
            "/v1/chat/completions",
            json!({"model": "sim-1", "messages": [{"role": "user", "content": canary}],
            "tools": [{"type": "function", "function": {"name": canary, "parameters": weather("city")}}]}),
        ),
        (
            "/v1/chat/completions",
            json!({"model": "sim-1", "messages": [{"role": "user", "content": canary}], "stream": true}),
        ),
        (
            "/v1/chat/completions",
            json!({"model": "sim-1", "messages": canary}),
        ),
    ];
    let hide = [
        ("OPENINFERENCE_HIDE_INPUTS", "true"),
        ("OPENINFERENCE_HIDE_OUTPUTS", "1"),
    ];
    let conventions = [("AI_GATEWAY_TRACING_SEMCONV", "gen_ai")];
    for variables in [&hide[..], &conventions[..]] {
        let spans = spans(variables, &requests).await;
        assert!(!spans.is_empty());
        for span in spans {
            assert!(!span.to_string().contains(canary), "{variables:?}: {span:#}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_signal_reaches_a_receiver() {
    let receiver = Upstream::start(testkit::Reply::json(200, &json!({}))).await;
    let endpoint = format!("http://{}", receiver.address());
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20key"),
    ];
    let mut gateway = Gateway::start(&[], &variables);
    let request = json!({"model": "sim-1", "messages": [{"role": "user", "content": "Hello"}]});
    client::post(gateway.address, "/v1/chat/completions", &[], &request).await;
    gateway.signal("TERM");
    assert_eq!(gateway.ended(), 0);
    for path in ["/v1/traces", "/v1/metrics", "/v1/logs"] {
        let received = receiver.requests();
        let call = received.iter().find(|call| call.target == path);
        let call = call.unwrap_or_else(|| panic!("{path}: nothing came"));
        assert_eq!(call.header("content-type"), "application/x-protobuf");
        assert_eq!(call.header("authorization"), "Bearer key");
        let text = String::from_utf8_lossy(&call.body);
        assert!(text.contains("ai-gateway"), "{path}");
    }
}

/// A route names the vocabulary of its spans, whatever the variable says, and others have that of the process.
#[tokio::test]
async fn a_route_chooses_its_words() {
    let upstream = Upstream::start(Reply::json(200, &fixture::openai::response("gpt"))).await;
    let folder = tempfile::tempdir().unwrap();
    let (file, written) = (folder.path().join("all.yaml"), folder.path().join("spans"));
    fs::write(&file, routes(&upstream)).unwrap();
    let stdout = Stdio::from(File::create(&written).unwrap());
    let arguments = [file.to_str().unwrap(), "--access-log", "off"];
    let variables = [
        ("OTEL_TRACES_EXPORTER", "console"),
        ("AI_GATEWAY_TRACING_SEMCONV", "gen_ai"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "9"),
    ];
    let mut gateway = Gateway::start_to(stdout, &arguments, &variables);
    for model in ["usual", "own", "both"] {
        let request = fixture::openai::request(model, false);
        let answer = client::post(gateway.address, "/v1/chat/completions", &[], &request).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    gateway.signal("TERM");
    assert_eq!(gateway.ended(), 0);
    let written = fs::read_to_string(&written).unwrap();
    let spans = written
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let spans: Vec<Value> = spans.filter(|span| span["name"] != "attempt").collect();
    let check = |name: &str, has: [bool; 2]| {
        let span = spans.iter().find(|span| span["name"] == name);
        let attributes = span.unwrap_or_else(|| panic!("{name}: {spans:?}"))["attributes"].as_object();
        let attributes = attributes.unwrap();
        let found =
            ["gen_ai.operation.name", "openinference.span.kind"].map(|name| attributes.contains_key(name));
        assert_eq!(found, has, "{attributes:?}");
        // Only where messages are told one by one there is no limit.
        assert_eq!(attributes.len() > 9, has[1], "{attributes:?}");
    };
    check("chat usual", [true, false]);
    check("ChatCompletion", [false, true]);
    check("chat both", [true, true]);
}

/// Returns routes for three models of which two have words of their own.
fn routes(upstream: &Upstream) -> String {
    let address = upstream.address();
    let mut yaml = format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: gateway}}
spec:
  gatewayClassName: tollgate
  listeners: [{{name: http, protocol: HTTP, port: 1975}}]
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIServiceBackend
metadata: {{name: up}}
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
    );
    for (model, words) in [
        ("usual", ""),
        ("own", "openinference"),
        ("both", "gen_ai,openinference"),
    ] {
        let words = match words {
            "" => String::new(),
            words => format!(", annotations: {{tollgate.dev/tracing-semconv: \"{words}\"}}"),
        };
        yaml.push_str(&format!(
            "---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIGatewayRoute
metadata: {{name: {model}{words}}}
spec:
  parentRefs: [{{name: gateway}}]
  rules:
    - matches: [{{headers: [{{name: x-ai-eg-model, value: {model}}}]}}]
      backendRefs: [{{name: up}}]
"
        ));
    }
    yaml
}
