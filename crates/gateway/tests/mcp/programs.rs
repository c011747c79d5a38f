//! Servers that are programs of this machine.

use serde_json::{Value, json};

use crate::served::{
    PATH, Served, data, modern_headers, modern_request, next, notification, request, serve_text,
};

/// A server in a few lines of shell: answers `initialize`, echoes its own process id, asks the client something,
/// and dies when it is told to.
const SERVER: &str = r#"
while read -r line; do
  id=$(printf '%s' "$line" | sed -n 's/.*"id":\([0-9]*\).*/\1/p')
  case "$line" in
    *'"initialize"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"sh","version":"1"}}}\n' "$id" ;;
    *'"server/discover"'*) printf '{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"unknown"}}\n' "$id" ;;
    *'"tools/list"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"tools":[]}}\n' "$id" ;;
    *'"die"'*) exit 3 ;;
    *'"ask"'*) printf '{"jsonrpc":"2.0","id":"q","method":"roots/list"}\n'
      read -r answer
      printf '{"jsonrpc":"2.0","id":%s,"result":{"content":[],"answer":%s}}\n' "$id" "$answer" ;;
    *'"slow"'*) printf '{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"%s"}}\n' "$id"
      read -r told
      printf '{"jsonrpc":"2.0","id":%s,"result":{"content":[],"told":%s}}\n' "$id" "$told" ;;
    *'"tools/call"'*) printf 'not a message\n'
      printf '{"jsonrpc":"2.0","id":%s,"result":{"pid":%s,"variable":"%s"}}\n' "$id" "$$" "$VARIABLE" ;;
  esac
done
"#;

/// Serves the program, with `more` said of it.
async fn serve(more: &str) -> Served {
    let script = serde_json::to_string(SERVER)
        .expect("a string")
        .replace('$', "$$");
    let reference = format!(
        "{{name: sh, stdio: {{command: sh, args: [\"-c\", {script}], env: [{{name: VARIABLE, value: set}}]{more}}}}}"
    );
    serve_text(&reference).await
}

async fn pid(served: &Served) -> Value {
    let called = served.call("sh__pid").await;
    assert_eq!(called["result"]["variable"], "set", "{called}");
    called["result"]["pid"].clone()
}

#[tokio::test]
async fn every_session_has_a_program_of_its_own() {
    let mut served = serve("").await;
    served.open().await;
    let (first, session) = (pid(&served).await, served.session.clone());
    assert_eq!(pid(&served).await, first);
    served.session.clear();
    served.open().await;
    assert_ne!(pid(&served).await, first);
    served.session = session;
    assert_eq!(pid(&served).await, first);
    served.gateway.drain().await;
}

#[tokio::test]
async fn one_program_can_serve_all() {
    let mut served = serve(", shared: true").await;
    served.open().await;
    let first = pid(&served).await;
    served.session.clear();
    served.open().await;
    assert_eq!(pid(&served).await, first);
    served.gateway.drain().await;
}

#[tokio::test]
async fn a_program_that_dies_is_started_again() {
    let mut served = serve("").await;
    served.open().await;
    let first = pid(&served).await;
    let died = served.call("sh__die").await;
    assert_eq!(died["error"]["code"], -32000, "{died}");
    assert_ne!(pid(&served).await, first);
    served.gateway.drain().await;
}

#[tokio::test]
async fn programs_ask_clients() {
    let mut served = serve("").await;
    served.open().await;
    let mut client = testkit::Client::connect(served.address).await;
    let call = request(9, "tools/call", &json!({ "name": "sh__ask" }));
    client.post(PATH, &served.headers(), &call).await.expect("sent");
    client.head().await.expect("a head");
    let asked = data(&next(&mut client).await);
    assert_eq!(asked["method"], "roots/list");
    let answer = json!({ "jsonrpc": "2.0", "id": asked["id"], "result": { "roots": [] } });
    assert_eq!(served.send(&answer).await.status, 202);
    let done = data(&next(&mut client).await);
    assert_eq!(done["id"], 9);
    assert_eq!(done["result"]["answer"]["id"], "q");
    served.gateway.drain().await;
}

#[tokio::test]
async fn programs_are_told_what_is_cancelled() {
    let mut served = serve("").await;
    served.open().await;
    let mut client = testkit::Client::connect(served.address).await;
    let call = request(9, "tools/call", &json!({ "name": "sh__slow" }));
    client.post(PATH, &served.headers(), &call).await.expect("sent");
    client.head().await.expect("a head");
    let begun = data(&next(&mut client).await);
    let own: u64 = begun["params"]["data"]
        .as_str()
        .and_then(|id| id.parse().ok())
        .expect("a number");
    let of_nobody = notification("notifications/cancelled", &json!({ "requestId": 8 }));
    let cancelled = notification(
        "notifications/cancelled",
        &json!({ "requestId": 9, "reason": "enough" }),
    );
    for message in [of_nobody, cancelled] {
        assert_eq!(served.send(&message).await.status, 202);
    }
    let done = data(&next(&mut client).await);
    let told = notification(
        "notifications/cancelled",
        &json!({ "requestId": own, "reason": "enough" }),
    );
    assert_eq!(
        (&done["id"], &done["result"]["told"]),
        (&json!(9), &told),
        "by the id that it knows"
    );
    served.gateway.drain().await;
}

/// Whoever has no session cancels by going away.
#[tokio::test]
async fn programs_are_told_that_nobody_waits() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("told");
    let script = SERVER.replace(
        r#"read -r told"#,
        r#"read -r told; printf '%s' "$told" > "$VARIABLE.new"; mv "$VARIABLE.new" "$VARIABLE""#,
    );
    let script = serde_json::to_string(&script)
        .expect("a string")
        .replace('$', "$$");
    let variable = path.display();
    let reference = format!(
        "{{name: sh, stdio: {{command: sh, args: [\"-c\", {script}], env: [{{name: VARIABLE, value: \"{variable}\"}}]}}}}"
    );
    let served = serve_text(&reference).await;
    let mut params = json!({ "name": "sh__slow" });
    params["_meta"]["io.modelcontextprotocol/logLevel"] = json!("debug");
    let call = modern_request("tools/call", params, &json!({}));
    let headers = modern_headers(&call);
    let headers: Vec<(&str, &str)> = headers
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let mut client = testkit::Client::connect(served.address).await;
    client.post(PATH, &headers, &call).await.expect("sent");
    client.head().await.expect("a head");
    let begun = data(&next(&mut client).await);
    drop(client);
    let told = loop {
        match std::fs::read_to_string(&path) {
            Ok(told) => break told,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let told: Value = serde_json::from_str(&told).expect("a message");
    assert_eq!(told["method"], "notifications/cancelled");
    assert_eq!(
        told["params"]["requestId"].to_string(),
        begun["params"]["data"].as_str().unwrap_or_default()
    );
    served.gateway.drain().await;
}

#[tokio::test]
async fn a_program_that_cannot_be_started_is_named() {
    let served = serve_text("{name: none, stdio: {command: /does/not/exist}}").await;
    let params = json!({ "protocolVersion": "2025-06-18" });
    let answer = served.send(&request(0, "initialize", &params)).await;
    assert_eq!(answer.status, 502);
    assert_eq!(answer.json()["error"]["data"]["backends"][0]["backend"], "none");
}

#[tokio::test]
async fn a_program_that_goes_on_is_asked_to_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let told = folder.path().join("told");
    // It goes on when its input ends, and says that it was asked.
    let script =
        SERVER.to_owned() + "trap 'echo told > \"$VARIABLE\"; exit 0' TERM\nwhile :; do sleep 0.05; done\n";
    let script = serde_json::to_string(&script)
        .expect("a string")
        .replace('$', "$$");
    let variable = told.display();
    let reference = format!(
        "{{name: sh, stdio: {{command: sh, args: [\"-c\", {script}], env: [{{name: VARIABLE, value: \"{variable}\"}}]}}}}"
    );
    let mut served = serve_text(&reference).await;
    served.open().await;
    served.gateway.drain().await;
    assert_eq!(std::fs::read_to_string(told).expect("it was asked"), "told\n");
}
