//! Spans of MCP: every method in both vocabularies, where they stand, what is sent on of that, and what records and
//! decisions tell of the same messages.

use std::{collections::BTreeMap, fs::File, process::Stdio};

use insta::assert_snapshot;
use serde_json::{Value, json};
use testkit::{Reply, Script, Upstream, client, upstream::Received};

use super::operations::show;
use crate::process::{Gateway, finish, tollgate};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const OTHER: &str = "1bf7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// A header that a request has beside the usual ones.
type Beside = Option<(&'static str, String)>;

/// Everything that a session is used for, in order: a method, its parameters, and a header.
fn asked() -> Vec<(&'static str, Value, Beside)> {
    let meta = json!({"traceparent": format!("00-{OTHER}-{PARENT}-01"), "tracestate": "vendor=1", "Agent-Session-Id": "of the message"});
    let header = || Some(("traceparent", format!("00-{TRACE}-{PARENT}-01")));
    vec![
        ("ping", json!({}), None),
        ("tools/list", json!({}), header()),
        (
            "tools/call",
            json!({"name": "one__echo", "arguments": {"a": 1}, "_meta": meta}),
            header(),
        ),
        (
            "tools/call",
            json!({"name": "two__fails", "arguments": {}}),
            header(),
        ),
        ("tools/call", json!({"name": "nobody__echo"}), None),
        ("prompts/list", json!({}), None),
        ("prompts/get", json!({"name": "one__hello"}), None),
        ("resources/list", json!({}), None),
        ("resources/templates/list", json!({}), None),
        ("resources/read", json!({"uri": "one+file:///a"}), None),
        ("resources/subscribe", json!({"uri": "one+file:///a"}), None),
        ("resources/unsubscribe", json!({"uri": "one+file:///a"}), None),
        (
            "completion/complete",
            json!({"ref": {"type": "ref/prompt", "name": "one__hello"}, "argument": {"name": "who", "value": "an"}}),
            None,
        ),
        ("logging/setLevel", json!({"level": "warning"}), None),
        (
            "notifications/progress",
            json!({"progressToken": "of nobody", "progress": 0.5, "message": "half of it"}),
            None,
        ),
        ("notifications/roots/list_changed", json!({}), None),
        ("nothing/known", json!({}), None),
    ]
}

/// A server that answers everything, called `name`.
async fn server(name: &'static str) -> Upstream {
    Upstream::start(Script::answer(move |received: &Received| {
        let message = received.json();
        let Some(id) = message.get("id") else {
            return Reply::whole(202, &[], "");
        };
        let result = match message["method"].as_str().unwrap_or_default() {
            "initialize" => {
                json!({"protocolVersion": "2025-06-18", "serverInfo": {"name": name, "version": "1"}, "capabilities":
                    {"tools": {}, "prompts": {}, "logging": {}, "completions": {}, "resources": {"subscribe": true}}})
            }
            "tools/list" => json!({"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]}),
            "tools/call" => {
                let fails = message["params"]["name"] == "fails";
                json!({"content": [{"type": "text", "text": "said"}], "isError": fails})
            }
            "prompts/list" => json!({"prompts": [{"name": "hello"}]}),
            "resources/list" => json!({"resources": [{"uri": "file:///a", "name": "a"}, {"uri": "file:///b", "name": "b"}]}),
            "resources/templates/list" => json!({"resourceTemplates": []}),
            "prompts/get" => json!({"messages": []}),
            "resources/read" => json!({"contents": []}),
            "completion/complete" => json!({"completion": {"values": ["ann"]}}),
            _ => json!({}),
        };
        let body = json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string();
        let session = format!("s-{name}");
        let headers = [("content-type", "application/json"), ("mcp-session-id", session.as_str())];
        Reply::whole(200, &headers, &body)
    }))
    .await
}

/// What was told of a session.
struct Told {
    spans: Vec<Value>,
    records: Vec<Value>,
    decision: Value,
    /// The same, for a person.
    explained: String,
    /// What the first server was sent.
    sent: Vec<Received>,
}

/// Plays a session with a gateway that has `variables`.
async fn session(variables: &[(&str, &str)]) -> Told {
    let (one, two) = (server("one").await, server("two").await);
    let folder = tempfile::tempdir().unwrap();
    let (path, declared) = (folder.path().join("told"), folder.path().join("declared.yaml"));
    let text = DECLARED
        .replace("ONE", &one.address().port().to_string())
        .replace("TWO", &two.address().port().to_string());
    std::fs::write(&declared, text).unwrap();
    let all: Vec<_> = [("OTEL_TRACES_EXPORTER", "console")]
        .into_iter()
        .chain(variables.iter().copied())
        .collect();
    let stdout = Stdio::from(File::create(&path).unwrap());
    let arguments = ["--access-log", "json", declared.to_str().unwrap()];
    let mut gateway = Gateway::start_to(stdout, &arguments, &all);
    let client_info = json!({"name": "tests", "title": "Tests", "version": "1"});
    let initialize = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client_info});
    let opened = post(&gateway, "", "initialize", initialize, None).await;
    let session = opened.header("mcp-session-id").to_owned();
    let mut calls = 0;
    for (method, params, header) in asked() {
        let answer = post(&gateway, &session, method, params, header).await;
        calls += usize::from(answer.header("x-request-id") == "r-tools/call");
    }
    assert_eq!(calls, 3);
    post(&gateway, "no session", "ping", json!({}), None).await;
    let decision = client::get(gateway.admin, "/debug/requests/r-tools%2Flist", &[])
        .await
        .json();
    let admin = gateway.admin.to_string();
    let (code, explained, complaint) =
        finish(tollgate(&["explain", "--admin", &admin, "r-tools/list"], &[]), "");
    assert_eq!((code, complaint.as_str()), (0, ""));
    gateway.signal("TERM");
    assert_eq!(gateway.ended(), 0);
    let written = std::fs::read_to_string(&path).unwrap();
    let told: Vec<Value> = written
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (mut spans, records): (Vec<_>, Vec<_>) =
        told.into_iter().partition(|told| told["traceId"].is_string());
    // A record follows its answer, which its client may have seen a moment earlier.
    spans.sort_by_key(|span| span["start"].as_u64());
    Told {
        spans,
        records,
        decision,
        explained,
        sent: one.requests(),
    }
}

async fn post(
    gateway: &Gateway,
    session: &str,
    method: &str,
    params: Value,
    header: Beside,
) -> client::Answer {
    let mut request = json!({"jsonrpc": "2.0", "method": method, "params": params});
    if !method.starts_with("notifications/") {
        request["id"] = format!("id of {method}").into();
    }
    let named = format!("r-{method}");
    let mut headers = vec![
        ("accept", "application/json, text/event-stream"),
        ("x-request-id", named.as_str()),
        ("agent-session-id", "of the request"),
    ];
    if !session.is_empty() {
        headers.push(("mcp-session-id", session));
    }
    headers.extend(header.as_ref().map(|(name, value)| (*name, value.as_str())));
    client::post(gateway.address, "/mcp", &headers, &request).await
}

/// Returns spans without what differs each time: words for sessions are numbered.
fn steady(spans: &[Value]) -> String {
    let mut words = BTreeMap::new();
    let shown = spans.iter().map(|span| {
        let mut span = span.clone();
        let attributes = span["attributes"].as_object_mut().unwrap();
        attributes
            .entry("mcp.session.id")
            .and_modify(|word| number(&mut words, word));
        let mut events: Vec<Value> = span["events"].as_array().unwrap().clone();
        for event in &mut events {
            if let Some(word) = event["attributes"].get_mut("mcp.session.id") {
                number(&mut words, word);
            }
        }
        // Backends are asked at once.
        events.sort_by_key(|event| {
            (
                event["name"] == "exception",
                event["attributes"]["mcp.backend.name"].to_string(),
            )
        });
        span["events"] = events.into();
        show(&span)
    });
    shown.collect::<Vec<_>>().join("\n\n")
}

fn number(words: &mut BTreeMap<String, usize>, word: &mut Value) {
    let text = word.as_str().unwrap().to_owned();
    if !text.is_empty() {
        let next = words.len() + 1;
        *word = format!("session {}", words.entry(text).or_insert(next)).into();
    }
}

#[tokio::test]
async fn every_method_of_mcp_has_a_span() {
    let told = session(&[]).await;
    assert_snapshot!(steady(&told.spans));
}

#[tokio::test]
async fn every_method_of_mcp_has_a_span_in_the_words_of_opentelemetry() {
    let told = session(&[
        ("AI_GATEWAY_TRACING_SEMCONV", "gen_ai"),
        ("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "true"),
    ])
    .await;
    assert_snapshot!(steady(&told.spans));
    let closed = session(&[("AI_GATEWAY_TRACING_SEMCONV", "gen_ai")]).await;
    for span in &closed.spans {
        assert!(!span.to_string().contains("gen_ai.tool.call."), "{span:#}");
    }
}

#[tokio::test]
async fn calls_stand_below_their_message() {
    let told = session(&[]).await;
    let named =
        |name: &str| -> Vec<&Value> { told.spans.iter().filter(|span| span["name"] == name).collect() };
    let (listed, called) = (named("ListTools")[0], named("CallTool")[0]);
    assert_eq!(
        (&listed["traceId"], &listed["parentSpanId"]),
        (&json!(TRACE), &json!(PARENT))
    );
    // What the message says of itself comes before what its headers say.
    assert_eq!(
        (&called["traceId"], &called["parentSpanId"]),
        (&json!(OTHER), &json!(PARENT))
    );
    assert_eq!(called["attributes"]["session.id"], "of the message");
    assert_eq!(listed["attributes"]["session.id"], "of the request");
    for (span, method) in [(listed, "tools/list"), (called, "tools/call")] {
        let sent = told
            .sent
            .iter()
            .find(|sent| sent.json()["method"] == method)
            .unwrap();
        let place = format!(
            "00-{}-{}-01",
            span["traceId"].as_str().unwrap(),
            span["spanId"].as_str().unwrap()
        );
        assert_eq!(sent.header("traceparent"), place);
        assert_eq!(sent.json()["params"]["_meta"]["traceparent"], place);
    }
    let sent = told
        .sent
        .iter()
        .find(|sent| sent.json()["method"] == "tools/call")
        .unwrap();
    assert_eq!(
        (
            sent.header("tracestate"),
            &sent.json()["params"]["_meta"]["tracestate"]
        ),
        ("vendor=1", &json!("vendor=1"))
    );
    assert_eq!(sent.json()["params"]["arguments"], json!({"a": 1}));
    // Those that are not sampled are handed on too, and have no spans.
    let unsampled = session(&[("OTEL_TRACES_SAMPLER", "always_off")]).await;
    assert!(unsampled.spans.is_empty());
    let sent = unsampled
        .sent
        .iter()
        .find(|sent| sent.json()["method"] == "tools/list")
        .unwrap();
    assert!(
        sent.header("traceparent").starts_with(&format!("00-{TRACE}-")),
        "{sent:?}"
    );
    assert!(sent.header("traceparent").ends_with("-00"), "{sent:?}");
}

#[tokio::test]
async fn messages_are_told_in_records_and_decisions() {
    let told = session(&[("OTEL_TRACES_EXPORTER", "none")]).await;
    assert!(told.spans.is_empty());
    let record = |id: &str| {
        told.records
            .iter()
            .find(|record| record["x-request-id"] == id)
            .unwrap()
    };
    let called = told
        .records
        .iter()
        .find(|record| record["mcp.tool.name"] == "one__echo")
        .unwrap();
    assert_eq!(called["jsonrpc.request.id"], "id of tools/call");
    assert_eq!(called["mcp.method.name"], "tools/call");
    assert_eq!(called["mcp.provider.name"], "one");
    assert_eq!(called["session.id"], "of the request");
    assert_eq!(called["mcp.session.id"].as_str().unwrap().len(), 32);
    let read = record("r-resources/read");
    assert_eq!(read["mcp.resource.uri"], "one+file:///a");
    assert_eq!(read["mcp.session.id"], called["mcp.session.id"]);
    assert_eq!(record("r-nothing/known")["rpc.response.status_code"], -32601);
    // Nothing of what was sent on was changed.
    let sent = told
        .sent
        .iter()
        .find(|sent| sent.json()["method"] == "tools/list")
        .unwrap();
    assert_eq!(sent.json()["params"], json!({}));
    assert_eq!(sent.header("traceparent"), format!("00-{TRACE}-{PARENT}-01"));

    let message = &told.decision["messages"][0];
    assert_eq!(told.decision["route"], "default/tools");
    assert_eq!(
        (&message["method"], &message["status"], &message["items"]),
        (&json!("tools/list"), &json!("success"), &json!(2))
    );
    let calls = message["calls"].as_array().unwrap();
    let mut backends: Vec<&str> = calls
        .iter()
        .map(|call| call["backend"].as_str().unwrap())
        .collect();
    backends.sort_unstable();
    assert_eq!(backends, ["one", "two"]);
    assert!(
        calls
            .iter()
            .all(|call| call["took"].as_f64().is_some() && call["failure"].is_null()),
        "{calls:?}"
    );
    for part in [
        "route default/tools",
        "message tools/list id id of tools/list: success after",
        "items: 2",
        "  one, after",
        "ms: answered",
    ] {
        assert!(told.explained.contains(part), "{part}: {}", told.explained);
    }
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
kind: MCPRoute
metadata: {name: tools}
spec:
  parentRefs: [{name: tollgate}]
  path: /mcp
  backendRefs:
    - {group: gateway.envoyproxy.io, kind: Backend, name: one}
    - {group: gateway.envoyproxy.io, kind: Backend, name: two}
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: {name: one}
spec:
  endpoints: [{ip: {address: 127.0.0.1, port: ONE}}]
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: {name: two}
spec:
  endpoints: [{ip: {address: 127.0.0.1, port: TWO}}]
"#;
