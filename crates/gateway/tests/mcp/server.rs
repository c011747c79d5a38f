//! MCP servers that are as simple as can be, and do exactly what a test wants.

use serde_json::{Value, json};
use testkit::{Reply, Script, Upstream, upstream::Received};

/// What a server does with a message that is not about its session; `None` for what it does not know.
pub(crate) type Answer = Box<dyn Fn(&Received, &Value) -> Option<Reply> + Send + Sync>;

/// A server that knows one session, `s-<name>`.
pub(crate) async fn start(name: &'static str, answer: Answer) -> Upstream {
    start_with(capabilities(), name, answer).await
}

/// A server with other capabilities.
pub(crate) async fn start_with(capabilities: Value, name: &'static str, answer: Answer) -> Upstream {
    Upstream::start(Script::answer(move |received| {
        let message = received.json();
        if let Some(reply) = answer(received, &message) {
            return reply;
        }
        match (received.method.as_str(), message["method"].as_str()) {
            ("POST", Some("initialize")) => {
                let result = json!({
                    "protocolVersion": "2025-06-18",
                    "capabilities": capabilities,
                    "serverInfo": { "name": name, "version": "1" },
                });
                let body = json!({ "jsonrpc": "2.0", "id": message["id"], "result": result });
                let session = format!("s-{name}");
                let headers = [
                    ("content-type", "application/json; charset=utf-8"),
                    ("mcp-session-id", session.as_str()),
                    ("set-cookie", "a=b"),
                ];
                Reply::whole(200, &headers, &body.to_string())
            }
            ("POST", _) if message.get("id").is_none() || message.get("method").is_none() => accepted(),
            ("GET", _) => Reply::whole(405, &[], ""),
            ("DELETE", _) => Reply::whole(200, &[], ""),
            _ => Reply::json(
                200,
                &json!({ "jsonrpc": "2.0", "id": message["id"], "error": { "code": -32601, "message": "no" } }),
            ),
        }
    }))
    .await
}

/// A server that keeps no sessions (revision 2026-07-28): it insists on what requests must say, and has no `initialize`.
pub(crate) async fn modern(name: &'static str, answer: Answer) -> Upstream {
    Upstream::start(Script::answer(move |received| {
        let message = received.json();
        let (method, meta) = (message["method"].as_str().unwrap_or_default(), &message["params"]["_meta"]);
        let error = |status: u16, code: i32| {
            let error = json!({ "code": code, "message": "no" });
            Reply::json(status, &json!({ "jsonrpc": "2.0", "id": message["id"], "error": error }))
        };
        let version = &meta["io.modelcontextprotocol/protocolVersion"];
        if received.method != "POST" {
            return Reply::whole(405, &[], "");
        }
        if *version != "2026-07-28" || !meta["io.modelcontextprotocol/clientCapabilities"].is_object() {
            return error(400, -32602);
        }
        let named = message["params"]["name"].as_str().unwrap_or_default();
        if received.header("mcp-protocol-version") != "2026-07-28"
            || received.header("mcp-method") != method
            || (method == "tools/call" && received.header("mcp-name") != named)
        {
            return error(400, -32020);
        }
        if let Some(reply) = answer(received, &message) {
            return reply;
        }
        match method {
            "server/discover" => result(
                &message,
                json!({ "resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": capabilities(),
                    "instructions": format!("use {name}"), "ttlMs": 1000, "cacheScope": "public" }),
            ),
            _ => error(404, -32601),
        }
    }))
    .await
}

/// Returns what a server answers that needs to know something first.
pub(crate) fn input_required(message: &Value, requests: Value, state: &str) -> Reply {
    let mut asked = json!({ "resultType": "input_required", "inputRequests": requests });
    if !state.is_empty() {
        asked["requestState"] = json!(state);
    }
    result(message, asked)
}

/// A server that echoes what its tools are called with, as a document.
pub(crate) async fn echo(name: &'static str) -> Upstream {
    start(name, Box::new(|_, message| echoed(message))).await
}

/// Returns the answer of an echoing server.
pub(crate) fn echoed(message: &Value) -> Option<Reply> {
    match message["method"].as_str()? {
        "tools/list" => Some(result(
            message,
            json!({ "tools": [tool("echo"), tool("hidden")] }),
        )),
        "tools/call" => Some(result(
            message,
            json!({ "content": [{ "type": "text", "text": message["params"].to_string() }] }),
        )),
        _ => None,
    }
}

/// Returns a tool.
pub(crate) fn tool(name: &str) -> Value {
    json!({ "name": name, "inputSchema": { "type": "object" } })
}

/// Returns the answer to `message` as a document.
pub(crate) fn result(message: &Value, result: Value) -> Reply {
    Reply::json(200, &answer(message, result))
}

/// Returns the answer to `message`.
pub(crate) fn answer(message: &Value, result: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": message["id"], "result": result })
}

/// Returns an event.
pub(crate) fn event(id: &str, message: &Value) -> String {
    if id.is_empty() {
        format!("event: message\ndata: {message}\n\n")
    } else {
        format!("event: message\nid: {id}\ndata: {message}\n\n")
    }
}

/// Returns the reply to what is only taken note of.
pub(crate) fn accepted() -> Reply {
    Reply::whole(202, &[], "")
}

/// Everything that a server can do.
pub(crate) fn capabilities() -> Value {
    json!({
        "tools": { "listChanged": true }, "prompts": {}, "logging": {}, "completions": {},
        "resources": { "subscribe": true },
    })
}
