//! What declared access records tell of messages of MCP.

use std::{fs, net::SocketAddr};

use config::{kind::envoy_proxy::Setting, snapshot::DeclaredLog};
use gateway::{Gateway, Options, Telemetry};
use policy::access_log::AccessLog;
use serde_json::{Value, json};

use crate::{
    served::{Served, snapshot},
    server::echo,
};

/// One line for each request that a server was called for, with everything that is known of its message.
#[tokio::test]
async fn messages_are_told_under_the_keys_of_the_metadata() {
    let one = echo("one").await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("log");
    let metadata = |key: &str| format!("%DYNAMIC_METADATA(io.envoy.ai_gateway:{key})%");
    let setting = json!({
        "matches": ["request.headers['x-ai-eg-mcp-backend'] != ''"],
        "sinks": [],
        "format": { "type": "JSON", "json": {
            "jsonrpc.request.id": metadata("mcp_request_id"),
            "mcp.method.name": metadata("mcp_method"),
            "mcp.tool.name": metadata("mcp_tool_name"),
            "mcp.resource.uri": metadata("mcp_resource_uri"),
            "mcp.provider.name": metadata("mcp_backend"),
            "backend": "%REQ(X-AI-EG-MCP-BACKEND)%",
            "session": metadata("session.id"),
            "code": "%RESPONSE_CODE%",
            "route": "%ROUTE_NAME%",
        } },
    });
    let setting: Setting = serde_json::from_value(setting).expect("a setting");
    let files = vec![path.display().to_string()];
    let log = AccessLog::parse(setting.format.as_ref(), &setting.matches, files).expect("a sound setting");
    let log = DeclaredLog {
        log,
        receivers: Vec::new(),
    };
    let mut snapshot = snapshot("", &[("one", one.address(), "")]);
    for listener in snapshot.listeners.values_mut() {
        listener.access_logs = Some(vec![log.clone()]);
    }
    let options = Options {
        telemetry: Telemetry::from_environment(&|_| None).expect("the defaults"),
        ..Options::default()
    };
    let gateway = Gateway::start(options).await.expect("no admin port");
    gateway.install(snapshot).await.expect("the port is free");
    let address: SocketAddr = *gateway.addresses().first().expect("one listener");
    let mut served = Served {
        gateway,
        address,
        session: String::new(),
    };
    served.open().await;
    served.call("one__echo").await;
    served
        .ask("resources/read", json!({ "uri": "one+file:///a" }))
        .await;
    // It calls nobody, so that it is no line of a server's.
    served.ask("ping", json!({})).await;
    served.gateway.drain().await;
    let written = fs::read_to_string(&path).expect("there are lines");
    let lines: Vec<Value> = written
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let of = |method: &str, id: &str, tool: Value, uri: Value| {
        json!({
            "jsonrpc.request.id": id, "mcp.method.name": method, "mcp.tool.name": tool, "mcp.resource.uri": uri,
            "mcp.provider.name": "one", "backend": "one", "session": null, "code": 200, "route": "default/main",
        })
    };
    let expected = [
        of("initialize", "0", Value::Null, Value::Null),
        of("tools/call", "1", json!("one__echo"), Value::Null),
        of("resources/read", "1", Value::Null, json!("one+file:///a")),
    ];
    assert_eq!(lines, expected);
}
