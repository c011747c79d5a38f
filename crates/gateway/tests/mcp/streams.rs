//! The stream that a client listens to.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use testkit::{Client, Gate, Reply, Upstream, upstream::Received};

use crate::{
    served::{Served, data, id, next, notification, open, plain, snapshot},
    server::{echo, event, start},
};

/// A server that streams `events`, then waits at the gate and streams one more.
async fn streaming(name: &'static str, gate: &Gate, events: Vec<String>) -> Upstream {
    let gate = gate.clone();
    start(
        name,
        Box::new(move |received, _| {
            (received.method == "GET").then(|| match received.header("last-event-id") {
                "" => Reply::stream().frames(&events).wait(&gate).end(),
                last => {
                    let again = notification("notifications/message", &json!({ "after": last }));
                    Reply::stream().frame(event("", &again)).stall()
                }
            })
        }),
    )
    .await
}

fn changed(what: &str) -> Value {
    json!({ "jsonrpc": "2.0", "method": format!("notifications/{what}/list_changed") })
}

#[tokio::test]
async fn streams_of_all_servers_are_one() {
    let gate = Gate::new();
    let updated = notification("notifications/resources/updated", &json!({ "uri": "u:a" }));
    let one = streaming("one", &gate, vec![event("41", &changed("tools"))]).await;
    let two = streaming("two", &gate, vec![event("", &updated)]).await;
    let none = echo("none").await;
    let served = open(&[("one", &one), ("two", &two), ("none", &none)]).await;
    let mut client = served.listen(&[]).await;
    let head = client.head().await.expect("a head");
    assert_eq!(head.status, 200);
    assert_eq!(head.headers["content-type"], "text/event-stream");
    assert_eq!(
        data(&next(&mut client).await)["method"],
        "ping",
        "clients of old wait for something"
    );
    let mut seen = Vec::new();
    let mut place = String::new();
    for _ in 0..2 {
        let frame = next(&mut client).await;
        if !id(&frame).is_empty() {
            place = id(&frame).to_owned();
        }
        seen.push(data(&frame));
    }
    assert!(seen.contains(&changed("tools")), "{seen:?}");
    let expected = notification("notifications/resources/updated", &json!({ "uri": "two+u:a" }));
    assert!(seen.contains(&expected), "{seen:?}");

    let mut second = served.listen(&[]).await;
    assert_eq!(second.head().await.expect("a head").status, 409);
    drop(client);
    one.closed().await;
    let mut resumed = served.listen(&[("last-event-id", &place)]).await;
    assert_eq!(resumed.head().await.expect("a head").status, 200);
    next(&mut resumed).await;
    let again = std::iter::from_fn(|| Some(())).take(2);
    let mut after = Vec::new();
    for () in again {
        after.push(data(&next(&mut resumed).await));
    }
    let expected = notification("notifications/message", &json!({ "after": "41" }));
    assert!(after.contains(&expected), "{after:?}");
}

/// A client that comes back may be there before it is seen to have gone.
#[tokio::test]
async fn who_comes_back_is_waited_for() {
    let one = saying("one").await;
    let served = open(&[("one", &one)]).await;
    let mut before = served.listen(&[]).await;
    before.head().await.expect("a head");
    for _ in 0..5 {
        let mut client = served.listen(&[]).await;
        drop(before);
        assert_eq!(client.head().await.expect("a head").status, 200);
        before = client;
    }
}

#[tokio::test]
async fn a_stream_that_ends_is_asked_for_again() {
    let gate = Gate::new();
    gate.open();
    let one = streaming("one", &gate, vec![event("41", &changed("tools"))]).await;
    let served = open(&[("one", &one)]).await;
    let mut client = served.listen(&[]).await;
    client.head().await.expect("a head");
    assert_eq!(data(&next(&mut client).await)["method"], "ping");
    assert_eq!(data(&next(&mut client).await), changed("tools"));
    let again = data(&next(&mut client).await);
    assert_eq!(again["params"]["after"], "41");
}

#[tokio::test]
async fn a_reload_that_changes_what_is_offered_is_told() {
    let (one, two) = (echo("one").await, echo("two").await);
    let served: Served = open(&[("one", &one)]).await;
    let mut client = served.listen(&[]).await;
    client.head().await.expect("a head");
    assert_eq!(data(&next(&mut client).await)["method"], "ping");
    let install = async |backends: &[(&str, &Upstream)]| {
        let next = snapshot("", &plain(backends));
        served
            .gateway
            .install(next)
            .await
            .expect("the port is served already");
    };
    install(&[("one", &one)]).await;
    install(&[("one", &one), ("two", &two)]).await;
    for what in ["tools", "prompts", "resources"] {
        assert_eq!(data(&next(&mut client).await), changed(what));
    }
    // The session goes on, and the new server is in it.
    let listed = served.ask("tools/list", serde_json::json!({})).await;
    assert_eq!(
        listed["result"]["tools"].as_array().map(Vec::len),
        Some(4),
        "{listed}"
    );
    assert_eq!(served.call("two__echo").await["error"], Value::Null);
    assert_eq!(
        two.requests()
            .iter()
            .filter(|request| request.json()["method"] == "initialize")
            .count(),
        1
    );
}

/// A server whose stream says who it is, then stays open.
async fn saying(name: &'static str) -> Upstream {
    let said = notification("notifications/message", &json!({ "level": "info", "data": name }));
    start(
        name,
        Box::new(move |received, _| {
            (received.method == "GET").then(|| Reply::stream().frame(event("", &said)).stall())
        }),
    )
    .await
}

#[tokio::test]
async fn servers_that_a_reload_brings_are_heard_and_those_it_takes_are_not() {
    let (one, two, three) = (saying("one").await, saying("two").await, saying("three").await);
    let served = open(&[("one", &one), ("two", &two)]).await;
    let mut client = served.listen(&[]).await;
    client.head().await.expect("a head");
    let said = async |client: &mut Client, count: usize| {
        let mut said = Vec::new();
        while said.len() < count {
            let message = data(&next(client).await);
            if message["method"] == "notifications/message" {
                said.push(message["params"]["data"].clone());
            }
        }
        said.sort_by_key(Value::to_string);
        said
    };
    assert_eq!(said(&mut client, 2).await, ["one", "two"]);
    let install = async |backends: &[(&str, &Upstream)]| {
        let installed = served.gateway.install(snapshot("", &plain(backends))).await;
        installed.expect("the port is served already");
    };
    install(&[("two", &two), ("three", &three)]).await;
    assert_eq!(said(&mut client, 1).await, ["three"]);
    one.closed().await;
    let streams = |upstream: &Upstream| {
        let requests = upstream.requests();
        requests.iter().filter(|request| request.method == "GET").count()
    };
    assert_eq!([&one, &two, &three].map(streams), [1, 1, 1], "what stays goes on");
    // Another server by the same name is another one.
    install(&[("two", &one), ("three", &three)]).await;
    assert_eq!(said(&mut client, 1).await, ["one"]);
    two.closed().await;
}

/// A server that was away when the session was opened is heard once it is there, and lists have changed.
#[tokio::test]
async fn a_server_that_comes_late_is_heard() {
    let asked = AtomicUsize::new(0);
    let said = notification(
        "notifications/message",
        &json!({ "level": "info", "data": "late" }),
    );
    let comes = move |received: &Received, message: &Value| {
        if message["method"] == "initialize" && asked.fetch_add(1, Ordering::Relaxed) == 0 {
            return Some(Reply::whole(503, &[], ""));
        }
        (received.method == "GET").then(|| Reply::stream().frame(event("", &said)).stall())
    };
    let (one, late) = (echo("one").await, start("late", Box::new(comes)).await);
    let served = open(&[("one", &one), ("late", &late)]).await;
    let mut client = served.listen(&[]).await;
    client.head().await.expect("a head");
    let mut told = Vec::new();
    while told.len() < 5 {
        told.push(data(&next(&mut client).await)["method"].clone());
    }
    let expected = [
        "ping",
        "notifications/tools/list_changed",
        "notifications/prompts/list_changed",
        "notifications/resources/list_changed",
        "notifications/message",
    ];
    assert_eq!(told, expected);
}
