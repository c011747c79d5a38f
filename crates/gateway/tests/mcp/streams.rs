//! The stream that a client listens to.

use serde_json::{Value, json};
use testkit::{Gate, Reply, Upstream};

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
