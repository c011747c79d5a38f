//! A route that wants tokens, its authorization server, and clients who have them.

use serde_json::{Value, json};
use testkit::{
    Reply, Script, Upstream,
    client::{self, Answer},
    signer::Signer,
};

use crate::{
    served::{PATH, Served, last, request, serve, snapshot_beside},
    server::{answer, capabilities, result, start_with, tool},
};

/// The address of the route, as it is known to clients.
pub(crate) const RESOURCE: &str = "https://tools.example/mcp";

/// A route whose clients log in.
pub(crate) struct Guarded {
    pub(crate) served: Served,
    pub(crate) server: Upstream,
    pub(crate) issuer: Upstream,
    pub(crate) signer: Signer,
}

/// An authorization server whose keys are those of `signer`.
pub(crate) async fn issuer(signer: &Signer) -> Upstream {
    let keys = Signer::keys(&[signer]);
    Upstream::start(Script::answer(move |received| {
        let own = format!("http://{}/realm", received.header("host"));
        match received.target.as_str() {
            "/keys" => Reply::json(200, &keys),
            "/realm/.well-known/openid-configuration" => Reply::json(
                200,
                &json!({
                    "issuer": own, "jwks_uri": format!("http://{}/keys", received.header("host")),
                    "authorization_endpoint": format!("{own}/auth"),
                    "client_id_metadata_document_supported": true,
                }),
            ),
            _ => Reply::whole(404, &[], ""),
        }
    }))
    .await
}

/// A server with two tools, two prompts and two resources.
pub(crate) async fn server() -> Upstream {
    start_with(
        capabilities(),
        "one",
        Box::new(|_, message| match message["method"].as_str()? {
            "tools/list" => Some(result(message, json!({ "tools": [tool("read"), tool("write")] }))),
            "prompts/list" => Some(result(message, json!({ "prompts": [{ "name": "a" }, { "name": "b" }] }))),
            "resources/list" => Some(result(
                message,
                json!({ "resources": [{ "name": "x", "uri": "file:///open/x" }, { "name": "y", "uri": "file:///y" }] }),
            )),
            "resources/templates/list" => Some(result(message, json!({ "resourceTemplates": [] }))),
            "tools/call" | "prompts/get" | "resources/read" | "completion/complete" => {
                Some(Reply::json(200, &answer(message, json!({ "done": true }))))
            }
            _ => None,
        }),
    )
    .await
}

/// Serves a route that takes the tokens of its authorization server. `oauth` and `route` are more lines of YAML.
pub(crate) async fn guard(oauth: &str, route: &str) -> Guarded {
    let signer = Signer::new("k1");
    let issuer = issuer(&signer).await;
    let server = server().await;
    let text = format!(
        "  securityPolicy:
    oauth:
      issuer: http://{}/realm
      protectedResourceMetadata: {{resource: '{RESOURCE}', resourceName: Tools, scopesSupported: [read, write]}}
{oauth}
{route}",
        issuer.address()
    );
    let snapshot = snapshot_beside("", &text, &[("one", server.address(), "")]);
    Guarded {
        served: serve(snapshot).await,
        server,
        issuer,
        signer,
    }
}

impl Guarded {
    /// Returns the name of the authorization server.
    pub(crate) fn realm(&self) -> String {
        format!("http://{}/realm", self.issuer.address())
    }

    /// Returns what a good token says, with `more`.
    pub(crate) fn claims(&self, more: Value) -> Value {
        let mut claims =
            json!({ "iss": self.realm(), "aud": RESOURCE, "sub": "alice", "exp": 4_000_000_000_u64 });
        for (name, value) in more.as_object().expect("an object") {
            claims[name] = value.clone();
        }
        claims
    }

    /// Returns a good token that says `more`.
    pub(crate) fn token(&self, more: Value) -> String {
        format!("Bearer {}", self.signer.token(&self.claims(more)))
    }

    /// Sends a message with a credential, in `session` if it is not empty.
    pub(crate) async fn send(&self, token: &str, session: &str, message: &Value) -> Answer {
        let headers = [("authorization", token), ("mcp-session-id", session)];
        let headers = headers.into_iter().filter(|(_, value)| !value.is_empty());
        client::post(self.served.address, PATH, &headers.collect::<Vec<_>>(), message).await
    }

    /// Opens a session and returns its id.
    pub(crate) async fn open(&self, token: &str) -> String {
        let opened = self.send(token, "", &initialize()).await;
        assert_eq!(opened.status, 200, "{}", opened.text());
        opened.header("mcp-session-id").to_owned()
    }

    /// Returns the names that a list shows.
    pub(crate) async fn list(&self, token: &str, session: &str, method: &str) -> Vec<String> {
        let listed = self.send(token, session, &request(1, method, &json!({}))).await;
        let result = &last(&listed)["result"];
        let items = result
            .as_object()
            .and_then(|result| result.values().find_map(Value::as_array));
        let items = items.into_iter().flatten();
        items
            .map(|item| item["name"].as_str().unwrap_or_default().to_owned())
            .collect()
    }
}

/// Returns the message that opens a session.
pub(crate) fn initialize() -> Value {
    let params = json!({
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "test", "version": "1" },
    });
    request(0, "initialize", &params)
}
