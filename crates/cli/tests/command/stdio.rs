//! `tollgate mcp`: the gateway as a program that an MCP client starts.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, Stdio},
    sync::mpsc::{Receiver, sync_channel},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use testkit::{Reply, Script, Upstream};

use crate::process::{finish, tollgate};

/// How long anything may take, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(30);

/// A client that has started the gateway.
struct Talk {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<Value>,
    /// What was said and not waited for.
    aside: Vec<Value>,
}

impl Talk {
    fn start(arguments: &[&str]) -> Self {
        let mut command = tollgate(&[&["mcp"], arguments].concat(), &[("TOLLGATE_PORT", "")]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (say, lines) = sync_channel(4096);
        thread::spawn(move || {
            stdout
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| say.send(serde_json::from_str(&line).unwrap()))
        });
        Self {
            input: child.stdin.take(),
            child,
            lines,
            aside: Vec::new(),
        }
    }

    fn say(&mut self, message: &Value) {
        writeln!(self.input.as_mut().unwrap(), "{message}").unwrap();
    }

    /// Waits for a message that `wanted` wants.
    fn hear(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(message) = self.lines.recv_timeout(left) else {
                panic!("it was not said: {:#?}", self.aside);
            };
            if wanted(&message) {
                return message;
            }
            self.aside.push(message);
        }
    }

    /// Asks for something and returns the answer.
    fn ask(&mut self, id: u32, method: &str, params: Value) -> Value {
        self.say(&request(id, method, params));
        self.hear(|message| message["id"] == id)
    }

    fn open(&mut self, version: &str) -> Value {
        let params = json!({ "protocolVersion": version, "capabilities": { "sampling": {} },
            "clientInfo": { "name": "t", "version": "1" } });
        let opened = self.ask(0, "initialize", params);
        self.say(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
        opened
    }

    /// Says nothing any more, and returns how the gateway ended.
    fn end(mut self) -> i32 {
        drop(self.input.take());
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            thread::park_timeout(Duration::from_millis(5));
        }
        panic!("it does not end: {:#?}", self.aside);
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn request(id: u32, method: &str, params: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
}

/// A server with sessions that asks its client something before it answers a call, and says something unasked.
async fn server() -> Upstream {
    Upstream::start(Script::answer(|received| {
        let message = received.json();
        let answer = |result: Value| {
            let body = json!({ "jsonrpc": "2.0", "id": message["id"], "result": result });
            let headers = [("content-type", "application/json"), ("mcp-session-id", "s-1")];
            Reply::whole(200, &headers, &format!("{body:#}"))
        };
        let events = |messages: &[Value]| {
            let text: String = messages.iter().map(|message| format!("data: {message}\n\n")).collect();
            Reply::whole(200, &[("content-type", "text/event-stream")], &text)
        };
        match (received.method.as_str(), message["method"].as_str()) {
            ("POST", Some("initialize")) => answer(json!({ "protocolVersion": "2025-11-25",
                "capabilities": { "tools": {} }, "serverInfo": { "name": "s", "version": "1" } })),
            ("POST", Some("tools/list")) => answer(json!({ "tools": [{ "name": "x", "inputSchema": {} }] })),
            ("POST", Some("tools/call")) => events(&[
                json!({ "jsonrpc": "2.0", "id": "q", "method": "sampling/createMessage", "params": { "messages": [] } }),
                json!({ "jsonrpc": "2.0", "id": message["id"], "result": { "content": [] } }),
            ]),
            ("GET", _) => Reply::new()
                .head(200, &[("content-type", "text/event-stream")])
                .raw("data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{\"level\":\"info\"}}\n\n")
                .stall(),
            ("DELETE", _) => Reply::whole(200, &[], ""),
            _ => Reply::whole(202, &[], ""),
        }
    }))
    .await
}

fn list(server: &Upstream) -> String {
    json!({ "mcpServers": { "one": { "url": format!("http://{}/mcp", server.address()) } } }).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_with_a_session_is_told_all_that_there_is() {
    let server = server().await;
    let mut talk = Talk::start(&["--mcp-json", &list(&server)]);
    let opened = talk.open("2025-11-25");
    assert_eq!(opened["result"]["protocolVersion"], "2025-11-25", "{opened}");
    let unasked = talk.hear(|message| message["method"] == "notifications/message");
    assert_eq!(unasked["params"]["level"], "info");
    let listed = talk.ask(1, "tools/list", json!({}));
    assert_eq!(listed["result"]["tools"][0]["name"], "one__x", "{listed}");
    talk.say(&request(2, "tools/call", json!({ "name": "one__x" })));
    let asked = talk.hear(|message| message["method"] == "sampling/createMessage");
    talk.say(&json!({ "jsonrpc": "2.0", "id": asked["id"], "result": { "role": "assistant" } }));
    let called = talk.hear(|message| message["id"] == 2);
    assert_eq!(called["result"]["content"], json!([]), "{called}");
    let answered = |request: &testkit::Received| request.json()["id"] == "q";
    while !server.requests().iter().any(answered) {
        server.received(server.requests().len() + 1).await;
    }
    // What cannot be read is said, and what follows is heard.
    talk.input.as_mut().unwrap().write_all(b"{\n\n").unwrap();
    let said = talk.hear(|message| message["error"]["code"] == -32700);
    assert_eq!(said["id"], Value::Null);
    assert_eq!(talk.ask(3, "ping", json!({}))["result"], json!({}));
    talk.say(&request(
        4,
        "tools/call",
        json!({ "name": "x".repeat(9_000_000) }),
    ));
    let said = talk.hear(|message| message["error"]["code"] == -32600);
    assert_eq!(said["id"], Value::Null);
    assert_eq!(talk.ask(5, "ping", json!({}))["result"], json!({}));
    assert_eq!(talk.end(), 0);
    assert!(server.requests().iter().any(|request| request.method == "DELETE"));
}

/// A server without sessions, one of whose tools wants an argument repeated in a header.
async fn modern() -> Upstream {
    Upstream::start(Script::answer(|received| {
        let message = received.json();
        let answer = |result: Value| Reply::json(200, &json!({ "jsonrpc": "2.0", "id": message["id"], "result": result }));
        let schema = json!({ "type": "object", "properties": { "city": { "type": "string", "x-mcp-header": "City" } } });
        match message["method"].as_str() {
            Some("server/discover") => answer(json!({ "resultType": "complete",
                "supportedVersions": ["2026-07-28"], "capabilities": { "tools": {} }, "ttlMs": 0, "cacheScope": "public" })),
            Some("tools/list") => answer(json!({ "resultType": "complete", "tools": [
                { "name": "x", "inputSchema": schema }, { "name": "slow", "inputSchema": {} }] })),
            Some("tools/call") if message["params"]["name"] == "slow" => Reply::new().stall(),
            Some("tools/call") => answer(json!({ "resultType": "complete",
                "content": [{ "type": "text", "text": received.header("mcp-param-city") }] })),
            _ => Reply::whole(405, &[], ""),
        }
    }))
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_a_session_need_not_know_of_headers() {
    let server = modern().await;
    let mut talk = Talk::start(&["--mcp-json", &list(&server), "--path", "/mcp"]);
    let about = |mut params: Value| {
        params["_meta"] = json!({ "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {} });
        params
    };
    let call = json!({ "name": "one__x", "arguments": { "city": "Zürich" } });
    let called = talk.ask(1, "tools/call", about(call));
    let text = "=?base64?WsO8cmljaA==?=";
    assert_eq!(called["result"]["content"][0]["text"], text, "{called}");
    let removed = talk.ask(2, "ping", about(json!({})));
    assert_eq!(removed["error"]["code"], -32601, "{removed}");
    // A call is cancelled by its id, where over HTTP its connection would end.
    talk.say(&request(3, "tools/call", about(json!({ "name": "one__slow" }))));
    let slow = |request: &testkit::Received| request.json()["params"]["name"] == "slow";
    while !server.requests().iter().any(slow) {
        server.received(server.requests().len() + 1).await;
    }
    let cancelled = json!({ "requestId": 3 });
    talk.say(&json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": cancelled }));
    assert_eq!(talk.end(), 0);
}

#[test]
fn what_cannot_be_served_is_said_and_ends_it() {
    let check = |arguments: &[&str], said: &str| {
        let (code, out, err) = finish(tollgate(&[&["mcp"], arguments].concat(), &[]), "");
        assert_eq!(
            (code, out.as_str()),
            (if said.contains("header") { 2 } else { 1 }, ""),
            "{err}"
        );
        assert!(err.contains(said), "{arguments:?}: {err}");
    };
    let list = r#"{"mcpServers":{"one":{"url":"http://127.0.0.1:1/mcp"}}}"#;
    check(
        &["--mcp-json", list, "--path", "/tools"],
        "no MCPRoute is served at /tools",
    );
    check(&["--mcp-json", list, "--port", "0"], "no port is bound");
    check(&["-"], "standard input and output are for messages");
    check(&["--mcp-json", list, "--header", "x"], "header");
    check(&[], "no MCPRoute is served");
    let console = ("OTEL_METRICS_EXPORTER", "console");
    let (code, out, err) = finish(tollgate(&["mcp", "--mcp-json", list], &[console]), "");
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    assert!(err.contains("cannot be console"), "{err}");
}
