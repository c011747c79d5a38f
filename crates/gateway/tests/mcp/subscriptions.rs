//! What is told unasked, across the two lines of the protocol.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{Client, Gate, Reply, Upstream, upstream::Received};

use crate::{
    served::{
        PATH, Served, data, modern_headers, modern_request, next, notification, open, plain, serve, snapshot,
    },
    server::{echo, event, modern, result, start},
};

const ID: &str = "io.modelcontextprotocol/subscriptionId";

/// A server without sessions that tells, once the gate is open, that tools, prompts and a resource changed.
async fn telling(gate: &Gate) -> Upstream {
    let gate = gate.clone();
    modern(
        "new",
        Box::new(move |_, message| {
            if message["method"] != "subscriptions/listen" {
                return None;
            }
            let tagged = |method: &str, mut params: Value| {
                params["_meta"] = json!({ ID: message["id"] });
                event("", &notification(method, &params))
            };
            let wanted = json!({ "notifications": message["params"]["notifications"] });
            let changed = |what: &str| tagged(&format!("notifications/{what}/list_changed"), json!({}));
            let updated = tagged("notifications/resources/updated", json!({ "uri": "u:a" }));
            let acknowledged = tagged("notifications/subscriptions/acknowledged", wanted);
            let rest = [changed("tools"), changed("tools"), changed("prompts"), updated];
            Some(
                Reply::stream()
                    .frame(acknowledged)
                    .wait(&gate)
                    .frames(&rest)
                    .stall(),
            )
        }),
    )
    .await
}

/// A server with sessions that tells the same, of one resource.
async fn streaming(gate: &Gate) -> Upstream {
    let gate = gate.clone();
    start(
        "old",
        Box::new(move |received, message| {
            if message["method"] == "resources/subscribe" && message["params"]["uri"] == "u:b" {
                return Some(result(message, json!({})));
            }
            let changed = |what: &str| {
                let method = format!("notifications/{what}/list_changed");
                event("", &json!({ "jsonrpc": "2.0", "method": method }))
            };
            let updated = notification("notifications/resources/updated", &json!({ "uri": "u:b" }));
            let rest = [changed("tools"), changed("prompts"), event("", &updated)];
            (received.method == "GET").then(|| {
                Reply::stream()
                    .frame(": hello\n\n")
                    .wait(&gate)
                    .frames(&rest)
                    .stall()
            })
        }),
    )
    .await
}

/// Listens without a session.
async fn listen(served: &Served, wanted: &Value) -> Client {
    let message = modern_request(
        "subscriptions/listen",
        json!({ "notifications": wanted }),
        &json!({}),
    );
    let own = modern_headers(&message);
    let headers: Vec<(&str, &str)> = own.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut client = Client::connect(served.address).await;
    client.post(PATH, &headers, &message).await.expect("sent");
    assert_eq!(client.head().await.expect("a head").status, 200);
    client
}

#[tokio::test]
async fn what_is_wanted_is_told_of_all_and_nothing_else() {
    let gate = Gate::new();
    let (new, old, deaf) = (telling(&gate).await, streaming(&gate).await, echo("deaf").await);
    let served = serve(snapshot(
        "",
        &plain(&[("new", &new), ("old", &old), ("deaf", &deaf)]),
    ))
    .await;
    let wanted = json!({ "promptsListChanged": true, "resourceSubscriptions": ["new+u:a", "old+u:no", "old+u:b", "none+u:c"] });
    let mut client = listen(&served, &wanted).await;
    let first = data(&next(&mut client).await);
    assert_eq!(first["method"], "notifications/subscriptions/acknowledged");
    assert_eq!(first["params"]["_meta"][ID], 5);
    assert_eq!(
        first["params"]["notifications"],
        json!({ "resourceSubscriptions": ["new+u:a", "old+u:b"] }),
        "no server says that it tells of prompts, and one resource is refused"
    );
    let sent = old.requests();
    let subscribed = sent.iter().map(|request| request.json());
    let subscribed = subscribed.filter(|sent| sent["method"] == "resources/subscribe");
    let uris: Vec<Value> = subscribed.map(|sent| sent["params"]["uri"].clone()).collect();
    assert_eq!(uris, ["u:no", "u:b"]);
    gate.open();
    let mut told = Vec::new();
    for _ in 0..2 {
        let message = data(&next(&mut client).await);
        assert_eq!(message["params"]["_meta"][ID], 5);
        told.push(message["params"]["uri"].clone());
    }
    told.sort_by_key(Value::to_string);
    assert_eq!(told, ["new+u:a", "old+u:b"]);
    drop(client);
    new.closed().await;
}

#[tokio::test]
async fn changes_that_follow_closely_are_told_once_and_once_more() {
    let gate = Gate::new();
    let new = telling(&gate).await;
    let served = serve(snapshot("", &plain(&[("new", &new)]))).await;
    let mut client = listen(&served, &json!({ "toolsListChanged": true })).await;
    assert_eq!(
        data(&next(&mut client).await)["params"]["notifications"],
        json!({ "toolsListChanged": true })
    );
    gate.open();
    for _ in 0..2 {
        assert_eq!(
            data(&next(&mut client).await)["method"],
            "notifications/tools/list_changed"
        );
    }
}

#[tokio::test]
async fn sessions_hear_servers_without() {
    let gate = Gate::new();
    let new = telling(&gate).await;
    let served = open(&[("new", &new)]).await;
    assert_eq!(
        served
            .ask("resources/subscribe", json!({ "uri": "new+u:a" }))
            .await["result"],
        json!({})
    );
    let mut client = served.listen(&[]).await;
    client.head().await.expect("a head");
    assert_eq!(data(&next(&mut client).await)["method"], "ping");
    gate.open();
    let mut told = Vec::new();
    for _ in 0..4 {
        let message = data(&next(&mut client).await);
        assert_eq!(message["params"]["_meta"], Value::Null, "{message}");
        told.push(message);
    }
    let updated = notification("notifications/resources/updated", &json!({ "uri": "new+u:a" }));
    assert!(told.contains(&updated), "{told:?}");
    let sent = new.requests().pop().expect("a request").json();
    assert_eq!(
        sent["params"]["notifications"],
        json!({ "toolsListChanged": true, "resourceSubscriptions": ["u:a"] })
    );
}

/// A server that tells something and ends its stream, every time, is not asked less and less often.
#[tokio::test]
async fn streams_in_which_something_is_told_are_asked_for_soon() {
    let answers = |message: &Value| {
        let changed = notification("notifications/tools/list_changed", &json!({}));
        let acknowledged = notification("notifications/subscriptions/acknowledged", &json!({}));
        (message["method"] == "subscriptions/listen")
            .then(|| Reply::sse([event("", &acknowledged), event("", &changed)]))
    };
    let new = modern("new", Box::new(move |_, message| answers(message))).await;
    let served = open(&[("new", &new)]).await;
    let mut of_session = served.listen(&[]).await;
    of_session.head().await.expect("a head");
    let without = listen(&served, &json!({ "toolsListChanged": true })).await;
    let began = Instant::now();
    for mut client in [of_session, without] {
        let mut told = 0;
        while told < 5 {
            let message = data(&next(&mut client).await);
            told += usize::from(message["method"] == "notifications/tools/list_changed");
        }
    }
    assert!(began.elapsed() < Duration::from_secs(7), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_route_that_is_gone_ends_what_is_listened_to() {
    let gate = Gate::new();
    let (new, other) = (telling(&gate).await, echo("other").await);
    let served = serve(snapshot("", &plain(&[("new", &new)]))).await;
    let mut client = listen(&served, &json!({ "toolsListChanged": true })).await;
    next(&mut client).await;
    let changed = snapshot("", &plain(&[("new", &new), ("other", &other)]));
    served
        .gateway
        .install(changed)
        .await
        .expect("the port is served already");
    assert_eq!(
        data(&next(&mut client).await)["method"],
        "notifications/tools/list_changed"
    );
}

/// A session that is opened for a stream ends with it, and one that is opened in vain at once.
#[tokio::test]
async fn sessions_that_are_opened_for_streams_are_ended() {
    let gate = Gate::new();
    let ended = Gate::new();
    let (streams, told) = (gate.clone(), ended.clone());
    let answers = move |received: &Received| match received.method.as_str() {
        "GET" => Some(Reply::stream().frame(": hello\n\n").wait(&streams).stall()),
        "DELETE" => {
            told.open();
            None
        }
        _ => None,
    };
    let old = start("old", Box::new(move |received, _| answers(received))).await;
    let deaf = echo("deaf").await;
    let served = serve(snapshot("", &plain(&[("old", &old), ("deaf", &deaf)]))).await;
    let mut client = listen(&served, &json!({ "toolsListChanged": true })).await;
    next(&mut client).await;
    let ends = |upstream: &Upstream| {
        let requests = upstream.requests();
        requests
            .iter()
            .filter(|request| request.method == "DELETE")
            .count()
    };
    // It was met by three messages, and asked for its stream in a session of two more.
    let asked = deaf.received(7).await;
    assert_eq!(
        asked.last().expect("the end").method,
        "DELETE",
        "it has no stream"
    );
    assert_eq!(ends(&old), 0);
    drop(client);
    ended.wait().await;
    let last = old.requests().pop().expect("the end");
    assert_eq!(
        (last.method.as_str(), last.header("mcp-session-id")),
        ("DELETE", "s-old")
    );
}
