//! Servers that are programs of this machine.

use std::path::Path;

use serde_json::{Value, json};
use testkit::Client;

use crate::served::{
    PATH, Served, data, modern_headers, modern_request, next, notification, request, resolve, route,
    serve_text,
};

/// A server in a few lines of shell: answers `initialize`, echoes its own process id, asks the client something,
/// and dies when it is told to.
const SERVER: &str = r#"
while read -r line; do
  id=$(printf '%s' "$line" | sed -n 's/.*"id":\([0-9]*\).*/\1/p')
  case "$line" in
    *'"notifications/initialized"'*) eval "$BEGUN" ;;
    *'"initialize"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"sh","version":"1"}}}\n' "$id" ;;
    *'"server/discover"'*) printf '{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"unknown"}}\n' "$id" ;;
    *'"tools/list"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"tools":[]}}\n' "$id" ;;
    *'"die"'*) exit 3 ;;
    *'"ask"'*) printf '{"jsonrpc":"2.0","id":"q","method":"roots/list"}\n'
      read -r answer
      printf '{"jsonrpc":"2.0","id":%s,"result":{"content":[],"answer":%s}}\n' "$id" "$answer" ;;
    *'"deaf"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"pid":%s}}\n' "$id" "$$"; exec sleep 60 <&- ;;
    *'"mute"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"pid":%s}}\n' "$id" "$$"; exec sleep 60 >&- ;;
    *'"endless"'*) head -c 17000000 /dev/zero | tr '\0' x; exec sleep 60 ;;
    *'"mutters"'*) head -c 17000000 /dev/zero | tr '\0' x >&2; printf 'done\n' >&2
      printf '{"jsonrpc":"2.0","id":%s,"result":{"pid":%s}}\n' "$id" "$$" ;;
    *'"naps"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"pid":%s}}\n' "$id" "$$"
      while [ ! -e "$VARIABLE" ]; do sleep 0.05; done ;;
    *'"forks"'*) (trap 'echo ended > "$VARIABLE"; exit 0' TERM; : > "$VARIABLE.up"; while :; do sleep 0.05; done) \
      >/dev/null 2>&1 </dev/null &
      while [ ! -e "$VARIABLE.up" ]; do sleep 0.05; done
      printf '{"jsonrpc":"2.0","id":%s,"result":{"pid":%s}}\n' "$id" "$$" ;;
    *'"slow"'*) printf '{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"%s"}}\n' "$id"
      read -r told
      printf '{"jsonrpc":"2.0","id":%s,"result":{"content":[],"told":%s}}\n' "$id" "$told" ;;
    *'"storm"'*) eval "$STORM"; printf '{"jsonrpc":"2.0","id":%s,"result":{"content":[]}}\n' "$id"; echo done > "$VARIABLE" ;;
    *'"long"'*) head -c 17000000 /dev/zero | tr '\0' x; read -r line ;;
    *'"tools/call"'*) printf 'not a message\n'
      printf '{"jsonrpc":"2.0","id":%s,"result":{"pid":%s,"variable":"%s"}}\n' "$id" "$$" "$VARIABLE" ;;
  esac
done
"#;

/// Serves the program, with `more` said of it.
async fn serve(more: &str) -> Served {
    serve_text(&reference("sh", SERVER, "set", more)).await
}

/// Returns a reference to a program, which has this in its environment.
fn reference(name: &str, script: &str, variable: &str, more: &str) -> String {
    let script = serde_json::to_string(script)
        .expect("a string")
        .replace('$', "$$");
    format!(
        "{{name: {name}, stdio: {{command: sh, args: [\"-c\", {script}], \
         env: [{{name: VARIABLE, value: \"{variable}\"}}]{more}}}}}"
    )
}

/// Waits until a program has written what it was to write.
async fn written(path: &Path) -> String {
    loop {
        match std::fs::read_to_string(path) {
            Ok(text) if !text.is_empty() => return text,
            Ok(_) | Err(_) => tokio::task::yield_now().await,
        }
    }
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

/// A program that takes its time to say what it is, and notes that it was asked.
const LATE: &str = r#"
while read -r line; do
  id=$(printf '%s' "$line" | sed -n 's/.*"id":\([0-9]*\).*/\1/p')
  case "$line" in
    *'"initialize"'*) echo asked >> "$VARIABLE.asked"
      while [ ! -e "$VARIABLE" ]; do sleep 0.05; done
      printf '{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"sh","version":"1"}}}\n' "$id" ;;
    *'"tools/call"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"pid":%s}}\n' "$id" "$$" ;;
  esac
done
"#;

/// Others wait for the same program.
#[tokio::test]
async fn whoever_starts_a_program_that_serves_all_may_go_away() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("go-on");
    let variable = path.display().to_string();
    let mut served = serve_text(&reference("sh", LATE, &variable, ", shared: true")).await;
    let begin = request(0, "initialize", &json!({ "protocolVersion": "2025-06-18" }));
    let mut first = Client::connect(served.address).await;
    first.post(PATH, &[], &begin).await.expect("sent");
    let asked = folder.path().join("go-on.asked");
    assert_eq!(written(&asked).await, "asked\n");
    let mut second = Client::connect(served.address).await;
    second.post(PATH, &[], &begin).await.expect("sent");
    // What comes after it is answered after it has begun to wait.
    let session = request(0, "ping", &json!({}));
    assert_eq!(served.send(&session).await.status, 400);
    drop(first);
    assert_eq!(served.send(&session).await.status, 400);
    std::fs::write(&path, "").expect("written");
    let answer = second.answer().await.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.header("mcp-session-id").clone_into(&mut served.session);
    let called = served.call("sh__pid").await;
    assert!(called["result"]["pid"].is_number(), "{called}");
    assert_eq!(
        written(&asked).await,
        "asked\n",
        "one was started, and asked once"
    );
    served.gateway.drain().await;
}

/// What starts it is what it is: with another environment it is another program, in sessions that are open too.
#[tokio::test]
async fn a_program_with_another_environment_is_another() {
    for more in ["", ", shared: true"] {
        let mut served = serve(more).await;
        served.open().await;
        let first = pid(&served).await;
        let other = reference("sh", SERVER, "other", more);
        let installed = served.gateway.install(resolve(&route(&other))).await;
        installed.expect("the port is served already");
        let called = served.call("sh__pid").await;
        assert_eq!(called["result"]["variable"], "other", "{called}");
        assert_ne!(called["result"]["pid"], first);
        served.gateway.drain().await;
    }
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
    let variable = path.display().to_string();
    let served = serve_text(&reference("sh", &script, &variable, "")).await;
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
    let told = written(&path).await;
    let told: Value = serde_json::from_str(&told).expect("a message");
    assert_eq!(told["method"], "notifications/cancelled");
    assert_eq!(
        told["params"]["requestId"].to_string(),
        begun["params"]["data"].as_str().unwrap_or_default()
    );
    served.gateway.drain().await;
}

/// Serves the program with these variables.
async fn serve_with(variables: &[(&str, &str)], more: &str) -> Served {
    let text = |text: &str| {
        let text = serde_json::to_string(text).expect("a string");
        text.replace('$', "$$")
    };
    let env = variables
        .iter()
        .map(|(name, value)| format!("{{name: {name}, value: {}}}", text(value)));
    let env = env.collect::<Vec<_>>().join(", ");
    let script = text(SERVER);
    let reference =
        format!("{{name: sh, stdio: {{command: sh, args: [\"-c\", {script}], env: [{env}]{more}}}}}");
    serve_text(&reference).await
}

/// Clients number their requests alike: what one cancels is its own.
#[tokio::test]
async fn what_one_client_cancels_is_not_anothers() {
    let mut served = serve(", shared: true").await;
    served.open().await;
    let mut client = testkit::Client::connect(served.address).await;
    let call = request(9, "tools/call", &json!({ "name": "sh__slow" }));
    client.post(PATH, &served.headers(), &call).await.expect("sent");
    client.head().await.expect("a head");
    next(&mut client).await;
    let cancelled = |why: &str| {
        notification(
            "notifications/cancelled",
            &json!({ "requestId": 9, "reason": why }),
        )
    };
    let own = std::mem::take(&mut served.session);
    served.open().await;
    assert_eq!(served.send(&cancelled("another's")).await.status, 202);
    served.session = own;
    assert_eq!(served.send(&cancelled("its own")).await.status, 202);
    let done = data(&next(&mut client).await);
    assert_eq!(done["result"]["told"]["params"]["reason"], "its own", "{done}");
    served.gateway.drain().await;
}

/// A client that does not read loses what nobody could keep, and not the answer.
#[tokio::test]
async fn an_answer_is_not_lost_behind_a_storm() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("done");
    let storm = "data=$(head -c 16000 /dev/zero | tr '\\0' x); n=0; while [ $n -lt 3000 ]; do n=$((n+1)); \
        echo '{\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{\"level\":\"info\",\"data\":\"'$data'\"}}'; done";
    let path = path.to_str().expect("a path");
    let mut served = serve_with(&[("VARIABLE", path), ("STORM", storm)], "").await;
    served.open().await;
    let mut client = testkit::Client::connect(served.address).await;
    let call = request(9, "tools/call", &json!({ "name": "sh__storm" }));
    client.post(PATH, &served.headers(), &call).await.expect("sent");
    client.head().await.expect("a head");
    written(path.as_ref()).await;
    let done = loop {
        let message = data(&next(&mut client).await);
        if message["id"] == 9 {
            break message;
        }
    };
    assert_eq!(done["result"], json!({ "content": [] }), "{done}");
    served.gateway.drain().await;
}

/// Programs may ask as soon as a session is open, before anybody listens.
#[tokio::test]
async fn what_is_asked_before_anybody_listens_is_asked_once_somebody_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("asked");
    let path = path.to_str().expect("a path");
    let begun = "echo '{\"jsonrpc\":\"2.0\",\"id\":\"p\",\"method\":\"ping\"}'; read -r pong; \
        echo '{\"jsonrpc\":\"2.0\",\"id\":\"r\",\"method\":\"roots/list\"}'; \
        printf '%s' \"$pong\" > \"$VARIABLE.new\"; mv \"$VARIABLE.new\" \"$VARIABLE\"";
    let mut served = serve_with(&[("VARIABLE", path), ("BEGUN", begun)], "").await;
    served.open().await;
    let pong: Value = serde_json::from_str(&written(path.as_ref()).await).expect("a message");
    assert_eq!(pong, json!({ "jsonrpc": "2.0", "id": "p", "result": {} }));
    let mut client = served.listen(&[]).await;
    client.head().await.expect("a head");
    assert_eq!(data(&next(&mut client).await)["method"], "ping");
    assert_eq!(data(&next(&mut client).await)["method"], "roots/list");
    served.gateway.drain().await;
}

/// A program that does not read holds nobody up for longer than a call may take, and ends with its session.
#[tokio::test]
async fn a_program_that_does_not_read_is_waited_for_no_longer_than_a_call() {
    let begun = "while :; do sleep 0.05; done";
    let mut served = serve_with(&[("BEGUN", begun)], "}, timeouts: {call: 300ms").await;
    served.open().await;
    let arguments = json!({ "text": "x".repeat(400_000) });
    for _ in 0..3 {
        let params = json!({ "name": "sh__x", "arguments": arguments });
        let called = served.ask("tools/call", params).await;
        assert_eq!(called["error"]["data"]["reason"], "timeout", "{called}");
    }
    served.gateway.drain().await;
}

/// What no longer says anything that can be read is of no use.
#[tokio::test]
async fn a_program_that_says_too_much_at_once_is_ended() {
    let mut served = serve("").await;
    served.open().await;
    let first = pid(&served).await;
    let called = served.call("sh__long").await;
    assert_eq!(called["error"]["code"], -32000, "{called}");
    assert_ne!(pid(&served).await, first);
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
    let variable = told.display().to_string();
    let mut served = serve_text(&reference("sh", &script, &variable, "")).await;
    served.open().await;
    served.gateway.drain().await;
    assert_eq!(std::fs::read_to_string(told).expect("it was asked"), "told\n");
}

#[tokio::test]
async fn a_program_that_does_not_listen_or_speak_any_more_is_started_again() {
    for how in ["sh__deaf", "sh__mute", "sh__endless"] {
        let mut served = serve("").await;
        served.open().await;
        let first = pid(&served).await;
        served.call(how).await;
        // What is asked before its end is known goes down with it.
        let next = loop {
            let called = served.call("sh__pid").await;
            if called["error"].is_null() {
                break called["result"]["pid"].clone();
            }
            assert_eq!(
                called["error"]["data"]["reason"], "connection lost",
                "{how}: {called}"
            );
        };
        assert_ne!(next, first, "{how}");
        served.gateway.drain().await;
    }
}

#[tokio::test]
async fn a_program_may_log_without_end() {
    let mut served = serve("").await;
    served.open().await;
    let first = pid(&served).await;
    let called = served.call("sh__mutters").await;
    assert_eq!(called["result"]["pid"], first, "{called}");
    assert_eq!(pid(&served).await, first);
    served.gateway.drain().await;
}

/// A line of which only the beginning was told would swallow the next.
#[tokio::test]
async fn a_line_is_told_whole_though_nobody_waits_for_its_answer() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("awake");
    let variable = path.display().to_string();
    let reference = reference("sh", SERVER, &variable, "");
    let limit = "timeouts: {tools: [{tool: large, call: 300ms}]}";
    let reference = format!("{}, {limit}}}", reference.strip_suffix('}').expect("an object"));
    let mut served = serve_text(&reference).await;
    served.open().await;
    let first = served.call("sh__naps").await["result"]["pid"].clone();
    let large = json!({ "name": "sh__large", "arguments": { "text": "x".repeat(300_000) } });
    let called = served.send(&request(2, "tools/call", &large)).await.json();
    assert_eq!(called["error"]["data"]["reason"], "timeout", "{called}");
    std::fs::write(&path, "now").expect("written");
    let called = served.call("sh__pid").await;
    assert_eq!(called["result"]["pid"], first, "{called}");
    served.gateway.drain().await;
}

#[tokio::test]
async fn what_a_program_has_started_ends_with_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("told");
    let variable = path.display().to_string();
    let mut served = serve_text(&reference("sh", SERVER, &variable, "")).await;
    served.open().await;
    let called = served.call("sh__forks").await;
    assert!(called["result"]["pid"].is_number(), "{called}");
    served.gateway.drain().await;
    assert_eq!(written(&path).await, "ended\n");
}

#[tokio::test]
async fn a_program_that_does_not_say_what_it_is_is_ended() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ended");
    let variable = path.display().to_string();
    let script = "cat > /dev/null; echo ended > \"$VARIABLE\"";
    for more in ["", ", shared: true"] {
        let reference = reference("sh", script, &variable, more);
        let limit = "timeouts: {initialize: 300ms}";
        let reference = format!("{}, {limit}}}", reference.strip_suffix('}').expect("an object"));
        let served = serve_text(&reference).await;
        let params = json!({ "protocolVersion": "2025-06-18" });
        let answer = served.send(&request(0, "initialize", &params)).await;
        assert_eq!(answer.status, 502, "{}", answer.text());
        assert_eq!(written(&path).await, "ended\n", "while the gateway goes on");
        std::fs::remove_file(&path).expect("removed");
        served.gateway.drain().await;
    }
}

/// What they have been told by their environment may be whose they are.
#[tokio::test]
async fn programs_that_are_told_different_things_are_not_the_same() {
    let both = ["one", "two"].map(|name| reference(name, SERVER, name, ", shared: true"));
    let mut served = serve_text(&both.join(", ")).await;
    served.open().await;
    for name in ["one", "two"] {
        let called = served.call(&format!("{name}__pid")).await;
        assert_eq!(called["result"]["variable"], name, "{called}");
    }
    served.gateway.drain().await;
}
