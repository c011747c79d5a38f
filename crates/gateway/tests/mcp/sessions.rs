//! Sessions: opened with all, carried by the client, ended, lost and found.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use gateway::Options;
use serde_json::{Value, json};
use testkit::{Reply, Upstream, client};

use crate::{
    served::{PATH, notification, open, plain, request, serve, serve_with, snapshot},
    server::{answer, echo, echoed, event, start, start_with},
};

#[tokio::test]
async fn a_session_is_opened_with_every_server() {
    let one = start_with(json!({ "tools": {} }), "one", Box::new(|_, _| None)).await;
    let two = start_with(json!({ "logging": {} }), "two", Box::new(|_, _| None)).await;
    let mut served = serve(snapshot("", &plain(&[("one", &one), ("two", &two)]))).await;
    let opened = served.open().await;
    let result = &opened.json()["result"];
    assert_eq!(result["capabilities"], json!({ "tools": {}, "logging": {} }));
    assert_eq!(result["protocolVersion"], "2025-06-18");
    assert!(served.session.bytes().all(|byte| byte.is_ascii_graphic()));
    for upstream in [one, two] {
        let [initialize, initialized] = upstream.requests().try_into().expect("two messages");
        assert_eq!(
            initialize.json()["params"]["capabilities"],
            json!({ "sampling": {} })
        );
        assert_eq!(initialize.json()["params"]["clientInfo"]["name"], "test");
        assert_eq!(initialize.header("mcp-session-id"), "");
        assert_eq!(initialized.json()["method"], "notifications/initialized");
        assert!(initialized.header("mcp-session-id").starts_with("s-"));
    }
}

/// What is beside what the specification names crosses as well.
/// Which session it is stands in the head of the answer, however long a server takes.
#[tokio::test]
async fn a_session_that_is_opened_slowly_has_an_id() {
    let (slow, fast) = (
        Upstream::start(vec![Reply::new().stall()]).await,
        echo("fast").await,
    );
    let options = Options {
        keep_alive: Duration::from_millis(20),
        ..Options::default()
    };
    let backends = [
        ("slow", slow.address(), "timeouts: {initialize: 300ms}"),
        ("fast", fast.address(), ""),
    ];
    let mut served = serve_with(options, snapshot("", &backends)).await;
    let opened = served.open().await;
    assert_eq!(opened.header("content-type"), "application/json");
    assert!(!served.session.is_empty());
    assert_eq!(served.call("fast__echo").await["error"], Value::Null);
}

#[tokio::test]
async fn what_clients_say_beside_reaches_every_server() {
    let (one, two) = (echo("one").await, echo("two").await);
    let served = serve(snapshot("", &plain(&[("one", &one), ("two", &two)]))).await;
    let params = json!({ "protocolVersion": "2025-06-18", "capabilities": {},
        "clientInfo": { "name": "test", "version": "1" }, "_meta": { "a.b/c": 1.50 } });
    assert_eq!(served.send(&request(0, "initialize", &params)).await.status, 200);
    for upstream in [one, two] {
        let initialize = upstream.requests().swap_remove(0).json();
        assert_eq!(initialize["params"]["_meta"], params["_meta"], "{initialize}");
    }
}

/// The type of an answer, and what makes one of a message.
type Dress = (&'static str, fn(&Value) -> String);

/// Servers differ in how they answer, and in how they say that they have taken note of it.
#[tokio::test]
async fn sessions_are_opened_whatever_the_answers_look_like() {
    let dresses: [Dress; 3] = [
        ("application/json", |done| format!("\u{feff} {done}")),
        ("text/plain", |done| event("", done)),
        ("text/event-stream", |done| {
            let log = notification("notifications/message", &json!({ "level": "info", "data": 1 }));
            format!(
                ": hello\n\n{}id: 1\ndata: \n\n{}",
                event("", &log),
                event("", done)
            )
        }),
    ];
    for (kind, dress) in dresses {
        for taken in [200, 202, 204] {
            let upstream = start(
                "one",
                Box::new(move |received, message| match message["method"].as_str() {
                    Some("initialize") => {
                        let result = json!({ "protocolVersion": "2025-06-18", "capabilities": { "tools": {} },
                            "serverInfo": { "name": "one", "version": "1" } });
                        let headers = [("content-type", kind), ("mcp-session-id", "s")];
                        Some(Reply::whole(200, &headers, &dress(&answer(message, result))))
                    }
                    Some("notifications/initialized") => Some(Reply::whole(taken, &[], "")),
                    _ if received.header("mcp-session-id") != "s" => Some(Reply::whole(404, &[], "")),
                    _ => echoed(message),
                }),
            )
            .await;
            let served = open(&[("one", &upstream)]).await;
            let called = served.call("one__echo").await;
            assert_eq!(called["error"], Value::Null, "{kind} {taken} {called}");
        }
    }
}

/// What changes with the client is every server's business.
#[tokio::test]
async fn changed_roots_are_told_to_every_server() {
    let (one, two) = (echo("one").await, echo("two").await);
    let served = open(&[("one", &one), ("two", &two)]).await;
    let changed = notification(
        "notifications/roots/list_changed",
        &json!({ "_meta": { "a": 1.0 } }),
    );
    assert_eq!(served.send(&changed).await.status, 202);
    for upstream in [one, two] {
        assert_eq!(upstream.received(3).await[2].json(), changed);
    }
}

#[tokio::test]
async fn revisions_are_agreed_on() {
    let (one, two) = (echo("one").await, echo("two").await);
    // Both servers speak 2025-06-18; with one of them, that is the most there is.
    for (backends, asked, agreed) in [
        (vec![("one", &one)], "2025-11-25", "2025-06-18"),
        (vec![("one", &one)], "2025-03-26", "2025-03-26"),
        (vec![("one", &one), ("two", &two)], "2025-11-25", "2025-11-25"),
        (vec![("one", &one), ("two", &two)], "1999-01-01", "2025-11-25"),
    ] {
        let mut served = serve(snapshot("", &plain(&backends))).await;
        let opened = served.open_with(asked).await;
        assert_eq!(opened.json()["result"]["protocolVersion"], agreed, "{asked}");
    }
}

#[tokio::test]
async fn an_ended_session_is_gone() {
    let upstream = echo("one").await;
    let served = open(&[("one", &upstream)]).await;
    let mut client = testkit::Client::connect(served.address).await;
    let end = format!(
        "DELETE {PATH} HTTP/1.1\r\nhost: localhost\r\nmcp-session-id: {}\r\n\r\n",
        served.session
    );
    client.send(end).await.expect("sent");
    assert_eq!(client.answer().await.expect("a reply").status, 200);
    let ended = upstream.requests().pop().expect("the end");
    assert_eq!(
        (ended.method.as_str(), ended.header("mcp-session-id")),
        ("DELETE", "s-one")
    );
    let answer = served.send(&request(1, "tools/list", &json!({}))).await;
    assert_eq!(
        (answer.status, &answer.json()["error"]["code"]),
        (404, &json!(-32001))
    );
}

#[tokio::test]
async fn a_session_is_good_for_its_route_only() {
    let upstream = echo("one").await;
    let served = open(&[("one", &upstream)]).await;
    let list = request(1, "tools/list", &json!({}));
    let mut changed = served.session.clone();
    changed.replace_range(10..11, if &changed[10..11] == "A" { "B" } else { "A" });
    for (path, session, status) in [
        (PATH, &served.session, 200),
        ("/other", &served.session, 404),
        (PATH, &changed, 404),
    ] {
        let answer = client::post(served.address, path, &[("mcp-session-id", session)], &list).await;
        assert_eq!(answer.status, status, "{path}");
    }
}

#[tokio::test]
async fn replicas_share_sessions() {
    let upstream = echo("one").await;
    let here = open(&[("one", &upstream)]).await;
    let mut there = serve(snapshot("", &plain(&[("one", &upstream)]))).await;
    there.session.clone_from(&here.session);
    for served in [&here, &there, &here, &there] {
        assert_eq!(served.call("one__echo").await["error"], Value::Null);
    }
}

/// Tokens that clients could not carry stay, and are good for what the others are.
#[tokio::test]
async fn long_tokens_are_kept() {
    let long = "s".repeat(400);
    let upstream = start(
        "one",
        Box::new(move |received, message| match message["method"].as_str() {
            Some("initialize") => {
                let result = json!({ "protocolVersion": "2025-06-18", "capabilities": { "tools": {} },
                    "serverInfo": { "name": "one", "version": "1" } });
                let body = answer(message, result).to_string();
                let headers = [
                    ("content-type", "application/json"),
                    ("mcp-session-id", long.as_str()),
                ];
                Some(Reply::whole(200, &headers, &body))
            }
            Some(_) if received.header("mcp-session-id") != long => Some(Reply::whole(404, &[], "")),
            _ => echoed(message),
        }),
    )
    .await;
    let small = || snapshot("  maxSessionTokenBytes: 512", &plain(&[("one", &upstream)]));
    let (mut here, mut there) = (serve(small()).await, serve(small()).await);
    here.open().await;
    assert!(here.session.len() < 32, "{}", here.session);
    assert_eq!(here.call("one__echo").await["error"], Value::Null);
    there.session.clone_from(&here.session);
    let list = request(1, "tools/list", &json!({}));
    assert_eq!(there.send(&list).await.status, 404, "it is kept by who opened it");
    let headers = [("mcp-session-id", here.session.as_str())];
    let elsewhere = client::post(here.address, "/other", &headers, &list).await;
    assert_eq!(elsewhere.status, 404, "it is of its route");
    client::delete(here.address, PATH, &here.headers()).await;
    assert_eq!(here.send(&list).await.status, 404);
    let mut large = serve(snapshot("", &plain(&[("one", &upstream)]))).await;
    large.open().await;
    assert!(large.session.len() > 512, "as long as it has to be");
}

#[tokio::test]
async fn seeds_are_turned_under_sessions() {
    let upstream = echo("one").await;
    let served = open(&[("one", &upstream)]).await;
    let options = |seed: &str, fallback: &str| gateway::SessionOptions {
        seed: Some(config::Secret::new(seed)),
        fallback: Some(config::Secret::new(fallback)),
        ..gateway::SessionOptions::default()
    };
    served
        .gateway
        .reseed(&options("another seed of it", "seed of the test"));
    assert_eq!(served.call("one__echo").await["error"], Value::Null);
    served
        .gateway
        .reseed(&options("a third seed of it", "another seed of it"));
    let call = request(1, "tools/call", &json!({ "name": "one__echo" }));
    assert_eq!(served.send(&call).await.status, 404);
}

#[tokio::test]
async fn a_session_that_a_server_lost_is_opened_anew() {
    for status in [404, 400] {
        let lost = Arc::new(AtomicBool::new(false));
        let forgets = Arc::clone(&lost);
        let upstream = start(
            "one",
            Box::new(move |_, message| match message["method"].as_str() {
                Some("initialize") => {
                    forgets.store(false, Ordering::Relaxed);
                    None
                }
                Some("tools/call") if forgets.load(Ordering::Relaxed) => {
                    Some(Reply::whole(status, &[], "no valid session id"))
                }
                _ => echoed(message),
            }),
        )
        .await;
        let served = open(&[("one", &upstream)]).await;
        assert_eq!(served.call("one__echo").await["error"], Value::Null);
        lost.store(true, Ordering::Relaxed);
        let called = served.call("one__echo").await;
        assert_eq!(called["error"], Value::Null, "{status} {called}");
        let again: Vec<Value> = upstream
            .requests()
            .iter()
            .skip(4)
            .map(|request| request.json())
            .collect();
        assert_eq!(again[0]["method"], "initialize");
        assert_eq!(
            again[0]["params"]["capabilities"],
            json!({ "sampling": {} }),
            "the client's own"
        );
    }
}

#[tokio::test]
async fn a_server_that_was_away_does_not_spoil_a_session() {
    let (one, gone) = (echo("one").await, testkit::Upstream::refusing());
    let backends = [("one", one.address(), ""), ("gone", gone.address, "")];
    let mut served = serve(snapshot("", &backends)).await;
    served.open().await;
    assert_eq!(served.call("one__echo").await["error"], Value::Null);
    assert_eq!(served.call("gone__echo").await["error"]["code"], -32602);
    let listed = served.ask("tools/list", json!({})).await;
    assert_eq!(
        listed["result"]["tools"].as_array().map(Vec::len),
        Some(2),
        "{listed}"
    );
}

#[tokio::test]
async fn the_oldest_revision_may_send_several_messages_at_once() {
    let upstream = echo("one").await;
    let mut served = open(&[("one", &upstream)]).await;
    let batch = json!([
        request(1, "ping", &json!({})),
        request(2, "tools/call", &json!({ "name": "one__echo" })),
        request(3, "nope", &json!({})),
    ]);
    assert_eq!(served.send(&batch).await.status, 400);
    served.session.clear();
    served.open_with("2025-03-26").await;
    let answers = served.send(&batch).await.json();
    let ids: Vec<&Value> = answers
        .as_array()
        .expect("a batch")
        .iter()
        .map(|answer| &answer["id"])
        .collect();
    assert_eq!(ids, [1, 2, 3]);
    assert_eq!(answers[2]["error"]["code"], -32601);
    // What need not be answered does not spoil the rest.
    let late = json!({ "jsonrpc": "2.0", "id": "7__i__one__0", "result": {} });
    let answers = served.send(&json!([late, request(4, "ping", &json!({}))])).await;
    assert_eq!((answers.status, &answers.json()[0]["id"]), (200, &json!(4)));
    assert_eq!(served.send(&json!([late])).await.status, 400);
}

#[tokio::test]
async fn clients_are_told_with_whom_they_speak() {
    let (one, two) = (echo("one").await, echo("two").await);
    let alone = vec![("one", &one)];
    let both = vec![("one", &one), ("two", &two)];
    let named = "  serverInfo: {name: acme, title: Acme, version: \"7\"}";
    for (route, backends, name) in [
        ("", &alone, "tollgate"),
        ("  toolNamePrefix: never", &alone, "one"),
        ("  toolNamePrefix: never", &both, "tollgate"),
        (named, &alone, "acme"),
        (
            "  toolNamePrefix: never\n  serverInfo: {name: acme, version: \"7\"}",
            &alone,
            "acme",
        ),
    ] {
        let mut served = serve(snapshot(route, &plain(backends))).await;
        let opened = served.open().await;
        assert_eq!(opened.json()["result"]["serverInfo"]["name"], name, "{route}");
    }
    let served = serve(snapshot(named, &plain(&alone))).await;
    let discovered = served
        .modern("server/discover", json!({}), &json!({}))
        .await
        .json();
    assert_eq!(
        discovered["result"]["_meta"]["io.modelcontextprotocol/serverInfo"],
        json!({ "name": "acme", "title": "Acme", "version": "7" })
    );
}
