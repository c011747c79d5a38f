//! A gateway with MCP routes, and a client of it.

use std::{fmt::Write, net::SocketAddr, sync::Arc};

use config::{Resources, Severity, Snapshot, Surroundings};
use gateway::{Gateway, Options, SessionOptions};
use serde_json::{Value, json};
use testkit::{
    Client, Upstream,
    client::{self, Answer},
};

/// A gateway that serves, and a session with it.
pub(crate) struct Served {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) address: SocketAddr,
    pub(crate) session: String,
}

/// The path of the route.
pub(crate) const PATH: &str = "/mcp";

/// Returns the snapshot of a route at [`PATH`], and of the same at `/other`. `route` is what it says beside its
/// servers, as lines of YAML; `backends` are their names, addresses, and what is said beside.
pub(crate) fn snapshot(route: &str, backends: &[(&str, SocketAddr, &str)]) -> Snapshot {
    snapshot_beside("", route, backends)
}

/// Returns the same with other resources `beside`.
pub(crate) fn snapshot_beside(beside: &str, route: &str, backends: &[(&str, SocketAddr, &str)]) -> Snapshot {
    let mut text = String::from(
        "{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: g}, spec: {gatewayClassName: t, \
         listeners: [{name: http, protocol: HTTP, port: 1}]}}\n",
    );
    let mut refs = String::new();
    for (name, address, more) in backends {
        let endpoint = format!("{{ip: {{address: {}, port: {}}}}}", address.ip(), address.port());
        let reference = format!("{{group: gateway.envoyproxy.io, kind: Backend, name: {name}, {more}}},");
        refs.push_str(&reference);
        writeln!(
            text,
            "---\n{{apiVersion: gateway.envoyproxy.io/v1alpha1, kind: Backend, metadata: {{name: {name}}}, \
             spec: {{endpoints: [{endpoint}]}}}}"
        )
        .expect("a String takes everything");
    }
    for (name, path) in [("main", PATH), ("other", "/other")] {
        writeln!(
            text,
            "---\napiVersion: aigateway.envoyproxy.io/v1beta1\nkind: MCPRoute\nmetadata: {{name: {name}}}\nspec:\n  \
             parentRefs: [{{name: g}}]\n  path: {path}\n  backendRefs: [{refs}]\n{route}"
        )
        .expect("a String takes everything");
    }
    text.push_str(beside);
    resolve(&text)
}

/// Serves a route to one server, that this reference is to.
pub(crate) async fn serve_text(reference: &str) -> Served {
    serve(resolve(&route(reference))).await
}

/// Returns the documents of such a route.
pub(crate) fn route(reference: &str) -> String {
    format!(
        "{{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {{name: g}}, spec: {{gatewayClassName: t, \
         listeners: [{{name: http, protocol: HTTP, port: 1}}]}}}}\n---\napiVersion: aigateway.envoyproxy.io/v1beta1\n\
         kind: MCPRoute\nmetadata: {{name: main}}\nspec:\n  parentRefs: [{{name: g}}]\n  backendRefs: [{reference}]\n"
    )
}

/// Returns the snapshot of these documents.
pub(crate) fn resolve(text: &str) -> Snapshot {
    let mut resources = Resources::default();
    let nothing = Surroundings {
        environment: &|_| None,
        reader: &|_| Err(String::new()),
    };
    let faults = config::parse("test", text, &nothing, &mut resources);
    assert!(
        faults.iter().all(|fault| fault.severity != Severity::Error),
        "{faults:?}"
    );
    let (mut snapshot, report) = config::resolve(&resources, 0);
    assert!(!report.has_errors(), "{report}");
    snapshot.listeners = snapshot
        .listeners
        .into_values()
        .map(|listener| (0, listener))
        .collect();
    snapshot
}

/// Returns what stands behind a route of plain servers.
pub(crate) fn plain<'a>(backends: &[(&'a str, &Upstream)]) -> Vec<(&'a str, SocketAddr, &'a str)> {
    backends
        .iter()
        .map(|(name, upstream)| (*name, upstream.address(), ""))
        .collect()
}

/// Serves `snapshot`, with sessions sealed by a seed that all gateways of a test share.
pub(crate) async fn serve(snapshot: Snapshot) -> Served {
    serve_by(SessionOptions::default(), snapshot).await
}

/// Serves `snapshot` with sessions that are sealed like this, by the same seed.
pub(crate) async fn serve_by(sessions: SessionOptions, snapshot: Snapshot) -> Served {
    let options = Options {
        sessions,
        ..Options::default()
    };
    serve_with(options, snapshot).await
}

/// Serves `snapshot` with these options, with sessions sealed by the same seed.
pub(crate) async fn serve_with(options: Options, snapshot: Snapshot) -> Served {
    let options = Options {
        sessions: SessionOptions {
            seed: Some(config::Secret::new("seed of the test")),
            ..options.sessions
        },
        ..options
    };
    let gateway = Gateway::start(options).await.expect("no admin port");
    gateway.install(snapshot).await.expect("the port is free");
    let address = *gateway.addresses().first().expect("one listener");
    Served {
        gateway,
        address,
        session: String::new(),
    }
}

/// Serves plain servers and opens a session with them.
pub(crate) async fn open(backends: &[(&str, &Upstream)]) -> Served {
    let mut served = serve(snapshot("", &plain(backends))).await;
    served.open().await;
    served
}

impl Served {
    /// Opens a session.
    pub(crate) async fn open(&mut self) -> Answer {
        self.open_with("2025-06-18").await
    }

    /// Opens a session in a revision.
    pub(crate) async fn open_with(&mut self, version: &str) -> Answer {
        let params = json!({
            "protocolVersion": version, "capabilities": { "sampling": {} },
            "clientInfo": { "name": "test", "version": "1" },
        });
        let answer = self.send(&request(0, "initialize", &params)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.header("mcp-session-id").clone_into(&mut self.session);
        answer
    }

    /// Sends a message in the session.
    pub(crate) async fn send(&self, message: &Value) -> Answer {
        client::post(self.address, PATH, &self.headers(), message).await
    }

    /// Asks for something in the session.
    pub(crate) async fn ask(&self, method: &str, params: Value) -> Value {
        let answer = self.send(&request(1, method, &params)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        last(&answer)
    }

    /// Asks for something without a session, with these capabilities.
    pub(crate) async fn modern(&self, method: &str, params: Value, can: &Value) -> Answer {
        let message = modern_request(method, params, can);
        let headers = modern_headers(&message);
        let headers: Vec<(&str, &str)> = headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        client::post(self.address, PATH, &headers, &message).await
    }

    /// Calls a tool without arguments.
    pub(crate) async fn call(&self, name: &str) -> Value {
        self.ask("tools/call", json!({ "name": name })).await
    }

    /// Listens to the session's stream.
    pub(crate) async fn listen(&self, more: &[(&str, &str)]) -> Client {
        let mut client = Client::connect(self.address).await;
        let headers = [&[("accept", "text/event-stream")], &*self.headers(), more].concat();
        client.get(PATH, &headers).await.expect("the request is taken");
        client
    }

    /// Returns the headers of the session.
    pub(crate) fn headers(&self) -> Vec<(&str, &str)> {
        let session = ("mcp-session-id", self.session.as_str());
        Some(session)
            .filter(|_| !self.session.is_empty())
            .into_iter()
            .collect()
    }
}

/// Returns a request.
pub(crate) fn request(id: u32, method: &str, params: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
}

/// Returns a request that says for itself what it needs (revision 2026-07-28).
pub(crate) fn modern_request(method: &str, mut params: Value, can: &Value) -> Value {
    let meta = &mut params["_meta"];
    meta["io.modelcontextprotocol/protocolVersion"] = json!("2026-07-28");
    meta["io.modelcontextprotocol/clientCapabilities"] = can.clone();
    request(5, method, &params)
}

/// Returns the headers that repeat what such a request says.
pub(crate) fn modern_headers(message: &Value) -> Vec<(&'static str, String)> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let params = &message["params"];
    let mut headers = vec![
        ("mcp-protocol-version", "2026-07-28".to_owned()),
        ("mcp-method", text(&message["method"]).unwrap_or_default()),
    ];
    if message["method"] != "completion/complete" {
        headers.extend(
            text(&params["name"])
                .or_else(|| text(&params["uri"]))
                .map(|name| ("mcp-name", name)),
        );
    }
    headers
}

/// Returns a notification.
pub(crate) fn notification(method: &str, params: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "method": method, "params": params })
}

/// Returns the last message of an answer, be it a document or a stream.
pub(crate) fn last(answer: &Answer) -> Value {
    if answer.header("content-type") != "text/event-stream" {
        return answer.json();
    }
    let frames = answer.frames();
    data(frames.last().expect("an event"))
}

/// Returns the message of an event.
pub(crate) fn data(frame: &str) -> Value {
    let line = frame.lines().find_map(|line| line.strip_prefix("data: "));
    serde_json::from_str(line.unwrap_or_default()).unwrap_or_default()
}

/// Returns the id of an event.
pub(crate) fn id(frame: &str) -> &str {
    frame
        .lines()
        .find_map(|line| line.strip_prefix("id: "))
        .unwrap_or_default()
}

/// Waits for the next event that is a message.
pub(crate) async fn next(client: &mut Client) -> String {
    loop {
        let frame = client
            .frame()
            .await
            .expect("the stream is whole")
            .expect("an event");
        if frame.contains("data: {") {
            return frame;
        }
    }
}
