//! Lists of MCP servers on the command line, and what Envoy AI Gateway's MCP proxy is configured with.

use std::{fs, path::Path};

use serde_json::{Value, json};
use testkit::{Client, Reply, Script, Upstream, client};

use crate::process::Gateway;

const ROUTE: (&str, &str) = ("x-ai-eg-mcp-route", "team-a/tools");

/// Stands where Envoy listens for calls to servers.
async fn envoy() -> Upstream {
    Upstream::start(Script::answer(|received| {
        let message = received.json();
        let result = match message["method"].as_str() {
            Some("initialize") => json!({ "protocolVersion": "2025-11-25", "capabilities": { "tools": {} },
                "serverInfo": { "name": "s", "version": "1" } }),
            Some("tools/list") => {
                json!({ "tools": [{ "name": "x", "inputSchema": {} }, { "name": "y", "inputSchema": {} }] })
            }
            Some("tools/call") => json!({ "content": [] }),
            _ if received.method == "GET" => return Reply::whole(405, &[], ""),
            _ => return Reply::whole(202, &[], ""),
        };
        let body = json!({ "jsonrpc": "2.0", "id": message["id"], "result": result }).to_string();
        Reply::whole(
            200,
            &[("content-type", "application/json"), ("mcp-session-id", "s-1")],
            &body,
        )
    }))
    .await
}

fn config(envoy: &Upstream, routes: Value) -> String {
    json!({ "mcpConfig": { "backendListenerAddr": format!("http://{}", envoy.address()), "routes": routes } })
        .to_string()
}

fn route() -> Value {
    json!({ "name": "team-a/tools", "backends": [
        { "name": "alpha", "toolSelector": { "include": ["x"] },
          "forwardHeaders": [{ "name": "x-pat", "backendHeader": "authorization" }] },
        { "name": "beta" } ], "forwardHeaders": ["x-user-id"] })
}

fn request(method: &str, params: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params })
}

async fn open(gateway: &Gateway, path: &str) -> client::Answer {
    let params = json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "t", "version": "1" } });
    let headers = [ROUTE, ("host", "api.example.com")];
    client::post(gateway.address, path, &headers, &request("initialize", &params)).await
}

#[tokio::test]
async fn the_file_of_the_proxy_is_served_behind_envoy() {
    let envoy = envoy().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    fs::write(&file, config(&envoy, json!([route()]))).unwrap();
    let mut gateway = Gateway::start(&["--mcp-config", name(&file)], &[]);
    let opened = open(&gateway, "/any/path").await;
    assert_eq!(opened.status, 200, "{}", opened.text());
    let session = opened.header("mcp-session-id").to_owned();
    let headers = [
        ROUTE,
        ("host", "api.example.com"),
        ("mcp-session-id", &session),
        ("x-pat", "secret"),
        ("x-user-id", "ann"),
    ];
    let send = async |method: &str, params: Value| {
        client::post(gateway.address, "/", &headers, &request(method, &params))
            .await
            .json()
    };
    let listed = send("tools/list", json!({})).await;
    let tools = listed["result"]["tools"].as_array().unwrap();
    let names: Vec<&str> = tools.iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["alpha__x", "beta__x", "beta__y"]);
    let called = send("tools/call", json!({ "name": "alpha__x" })).await;
    assert_eq!(called["error"], Value::Null, "{called}");
    let call = envoy.requests().pop().unwrap();
    let told = [
        "x-ai-eg-mcp-backend",
        "x-ai-eg-mcp-route",
        "authorization",
        "x-user-id",
        "x-pat",
    ];
    assert_eq!(
        told.map(|name| call.header(name)),
        ["alpha", "team-a/tools", "secret", "ann", ""]
    );
    assert_eq!(
        (call.target.as_str(), call.json()["params"]["name"].as_str()),
        ("/", Some("x"))
    );
    // Without the header that Envoy sets there is no route.
    let lost = client::post(gateway.address, "/", &[], &request("ping", &json!({}))).await;
    assert_eq!(lost.status, 404);

    let wrong = json!([route(), { "name": "team-a/wrong", "backends": [{ "name": "a", "toolSelector": { "includeRegex": ["("] } }] }]);
    fs::write(&file, config(&envoy, wrong)).unwrap();
    gateway.hear("malformed regular expression");
    gateway.hear("configuration reloaded");
    assert_eq!(
        open(&gateway, "/").await.status,
        200,
        "one route does not spoil the other"
    );
    fs::write(&file, r#"{"mcpConfig":{}}"#).unwrap();
    gateway.hear("configuration reloaded");
    assert_eq!(
        open(&gateway, "/").await.status,
        404,
        "routes that are gone are not served"
    );
}

#[tokio::test]
async fn tokens_that_nobody_verifies_open_nothing() {
    let envoy = envoy().await;
    let mut guarded = route();
    guarded["authorization"] = json!({ "rules": [{ "source": { "jwt": { "scopes": ["a"] } } }] });
    let config = config(&envoy, json!([guarded]));
    let mut gateway = Gateway::start(&["--mcp-json", &config], &[]);
    assert_eq!(open(&gateway, "/").await.status, 404);
    gateway.signal("TERM");
    let said = gateway.rest().join("\n");
    assert!(said.contains("oauth must be configured"), "{said}");
}

#[tokio::test]
async fn variables_of_the_proxy_are_heard() {
    let envoy = envoy().await;
    let list = json!({ "mcpServers": { "alpha": { "url": format!("http://{}/mcp", envoy.address()) } } })
        .to_string();
    let variables = [
        ("MCP_PROXY_MAX_REQUEST_BODY_SIZE", "500"),
        ("MCP_PROXY_HEARTBEAT_INTERVAL", "10ms"),
    ];
    let gateway = Gateway::start(&["--mcp-json", &list], &variables);
    let params = json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "t", "version": "1" } });
    let opened = client::post(gateway.address, "/mcp", &[], &request("initialize", &params)).await;
    let session = [("mcp-session-id", opened.header("mcp-session-id"))];
    let long = request("tools/call", &json!({ "name": "x".repeat(600) }));
    let refused = client::post(gateway.address, "/mcp", &session, &long).await;
    assert_eq!(refused.status, 413, "{}", refused.text());
    let mut listening = Client::connect(gateway.address).await;
    let accept = [("accept", "text/event-stream")];
    listening
        .get("/mcp", &[&accept[..], &session].concat())
        .await
        .unwrap();
    listening.head().await.unwrap();
    for _ in 0..3 {
        let frame = listening.frame().await.unwrap().unwrap();
        assert!(frame.contains(": keep-alive"), "{frame}");
    }
}

fn name(path: &Path) -> &str {
    path.to_str().unwrap()
}
