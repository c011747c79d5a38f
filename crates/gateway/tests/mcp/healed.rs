//! Sessions of servers that are over, and streams that begin anew.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use testkit::{Client, Gate, Reply, Upstream, client, upstream::Received};

use crate::{
    served::{PATH, data, next, notification, open, plain, request, serve, snapshot},
    server::{accepted, answer, event, result, start},
};

/// A server that forgets all sessions whenever the test says so, and opens others.
#[derive(Clone, Default)]
struct Forgetful(Arc<AtomicUsize>);

impl Forgetful {
    /// Starts it; `answer` is what it does in a session that it knows.
    async fn start(
        &self,
        answer: impl Fn(&Received, &Value) -> Option<Reply> + Send + Sync + 'static,
    ) -> Upstream {
        let own = self.clone();
        let answers = move |received: &Received, message: &Value| {
            let session = format!("s-{}", own.0.load(Ordering::Relaxed));
            if message["method"] == "initialize" {
                return Some(opened(message, &[("mcp-session-id", &session)]));
            }
            if received.header("mcp-session-id") != session {
                return Some(Reply::whole(404, &[], "no such session"));
            }
            answer(received, message)
        };
        start("one", Box::new(answers)).await
    }

    fn forget(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Returns the answer to `initialize`, with these headers.
fn opened(message: &Value, headers: &[(&str, &str)]) -> Reply {
    let can = json!({ "tools": {}, "logging": {}, "resources": { "subscribe": true } });
    let result = json!({ "protocolVersion": "2025-06-18", "capabilities": can,
        "serverInfo": { "name": "one", "version": "1" } });
    let headers = [&[("content-type", "application/json")], headers].concat();
    Reply::whole(200, &headers, &answer(message, result).to_string())
}

fn said(text: &str) -> Value {
    notification("notifications/message", &json!({ "level": "info", "data": text }))
}

fn methods(upstream: &Upstream) -> Vec<String> {
    let requests = upstream.requests();
    let methods = requests
        .iter()
        .map(|received| match received.json()["method"].as_str() {
            Some(method) => method.to_owned(),
            None => received.method.clone(),
        });
    methods.collect()
}

fn count(upstream: &Upstream, method: &str) -> usize {
    methods(upstream).iter().filter(|known| *known == method).count()
}

/// The client cannot know that it would have to say it again.
#[tokio::test]
async fn what_a_client_has_said_is_said_again() {
    let forgetful = Forgetful::default();
    let known = |_: &Received, message: &Value| {
        let known = message.get("id").is_some() && message["method"].is_string();
        known.then(|| result(message, json!({})))
    };
    let upstream = forgetful.start(known).await;
    let served = open(&[("one", &upstream)]).await;
    served.ask("logging/setLevel", json!({ "level": "debug" })).await;
    for (method, uri) in [("subscribe", "u:a"), ("subscribe", "u:b"), ("unsubscribe", "u:b")] {
        let params = json!({ "uri": format!("one+{uri}") });
        let taken = served.ask(&format!("resources/{method}"), params).await;
        assert_eq!(taken["result"], json!({}), "{taken}");
    }
    forgetful.forget();
    let before = upstream.requests().len();
    assert_eq!(served.call("one__x").await["error"], Value::Null);
    let again: Vec<(Value, Value)> = upstream
        .requests()
        .iter()
        .skip(before)
        .map(|received| received.json())
        .map(|message| (message["method"].clone(), message["params"].clone()))
        .collect();
    assert_eq!(again[1].0, "initialize", "after a call that is refused");
    let expected = [
        (json!("notifications/initialized"), Value::Null),
        (json!("logging/setLevel"), json!({ "level": "debug" })),
        (json!("resources/subscribe"), json!({ "uri": "u:a" })),
        (json!("tools/call"), json!({ "name": "x" })),
    ];
    assert_eq!(again[2..], expected);
}

/// Each replica opens a session of its own in place of one that was lost, and any may be given the answer to what was asked
/// in that of another.
#[tokio::test]
async fn what_is_asked_in_a_new_session_is_answered_there() {
    let gate = Gate::new();
    let lost = Arc::new(AtomicBool::new(false));
    let (waits, is_lost, opened_by) = (gate.clone(), Arc::clone(&lost), AtomicUsize::new(0));
    let asks = move |received: &Received, message: &Value| {
        if message["method"] == "initialize" {
            let name = format!("s-{}", opened_by.fetch_add(1, Ordering::Relaxed));
            return Some(opened(message, &[("mcp-session-id", &name)]));
        }
        if is_lost.load(Ordering::Relaxed) && received.header("mcp-session-id") == "s-0" {
            return Some(Reply::whole(404, &[], "no such session"));
        }
        let ask = json!({ "jsonrpc": "2.0", "id": 0, "method": "sampling/createMessage",
            "params": { "_meta": { "progressToken": 0 } } });
        let done = answer(message, json!({ "content": [] }));
        (message["method"] == "tools/call").then(|| {
            let reply = Reply::stream().frame(event("", &ask)).wait(&waits);
            reply.frame(event("", &done)).end()
        })
    };
    let upstream = start("one", Box::new(asks)).await;
    let here = open(&[("one", &upstream)]).await;
    let mut there = serve(snapshot("", &plain(&[("one", &upstream)]))).await;
    there.session.clone_from(&here.session);
    lost.store(true, Ordering::Relaxed);
    let mut answered = Vec::new();
    for (asked_by, answered_by) in [(&here, &there), (&there, &here)] {
        let mut client = Client::connect(asked_by.address).await;
        let call = request(5, "tools/call", &json!({ "name": "one__x" }));
        client.post(PATH, &asked_by.headers(), &call).await.expect("sent");
        client.head().await.expect("a head");
        let asked = data(&next(&mut client).await);
        let token = &asked["params"]["_meta"]["progressToken"];
        let progress = notification(
            "notifications/progress",
            &json!({ "progressToken": token, "progress": 1 }),
        );
        assert_eq!(answered_by.send(&progress).await.status, 202);
        let reply = json!({ "jsonrpc": "2.0", "id": asked["id"], "result": {} });
        assert_eq!(answered_by.send(&reply).await.status, 202);
        let told = upstream.requests();
        let told = told.iter().rev().take(2).rev();
        answered.extend(told.map(|told| {
            (
                told.header("mcp-session-id").to_owned(),
                told.json()["id"].clone(),
            )
        }));
    }
    let expected = [
        ("s-1", Value::Null),
        ("s-1", json!(0)),
        ("s-2", Value::Null),
        ("s-2", json!(0)),
    ];
    assert_eq!(answered, expected.map(|(session, id)| (session.to_owned(), id)));
    gate.open();
}

/// A server may ask for what it needs as soon as it has a session, and what nobody hears then is lost. Nothing was said in it
/// before.
#[tokio::test]
async fn a_new_session_is_listened_to_at_once() {
    let (forgetful, asked) = (Forgetful::default(), AtomicUsize::new(0));
    let streams = move |received: &Received, message: &Value| {
        let is_new = received.header("mcp-session-id") != "s-0";
        match received.method.as_str() {
            "GET" if is_new => Some(Reply::stream().frame(event("", &said("b"))).stall()),
            "GET" if asked.fetch_add(1, Ordering::Relaxed) == 0 => {
                Some(Reply::sse([event("41", &said("a"))]))
            }
            "GET" => Some(Reply::whole(503, &[], "")),
            _ => (message["method"] == "tools/call").then(|| result(message, json!({ "content": [] }))),
        }
    };
    let upstream = forgetful.start(streams).await;
    let served = open(&[("one", &upstream)]).await;
    let mut client = served.listen(&[]).await;
    client.head().await.expect("a head");
    assert_eq!(data(&next(&mut client).await)["method"], "ping");
    assert_eq!(data(&next(&mut client).await), said("a"));
    // After four attempts the next one is four seconds away.
    upstream.received(6).await;
    assert_eq!(count(&upstream, "GET"), 4);
    forgetful.forget();
    let began = Instant::now();
    assert_eq!(served.call("one__x").await["error"], Value::Null);
    assert_eq!(data(&next(&mut client).await), said("b"));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let requests = upstream.requests();
    let streams = requests.iter().filter(|received| received.method == "GET");
    let places: Vec<&str> = streams.map(|received| received.header("last-event-id")).collect();
    assert_eq!(places, ["", "41", "41", "41", ""]);
}

/// An answer belongs to the session in which was asked: in another one it could be to another question.
#[tokio::test]
async fn answers_are_not_carried_to_another_session() {
    let (forgetful, gate) = (Forgetful::default(), Gate::new());
    let waits = gate.clone();
    let asks = move |_: &Received, message: &Value| {
        let ask = json!({ "jsonrpc": "2.0", "id": 0, "method": "sampling/createMessage", "params": {} });
        let done = answer(message, json!({ "content": [] }));
        (message["method"] == "tools/call").then(|| {
            let reply = Reply::stream().frame(event("", &ask)).wait(&waits);
            reply.frame(event("", &done)).end()
        })
    };
    let upstream = forgetful.start(asks).await;
    let served = open(&[("one", &upstream)]).await;
    let mut client = Client::connect(served.address).await;
    let call = request(5, "tools/call", &json!({ "name": "one__x" }));
    client.post(PATH, &served.headers(), &call).await.expect("sent");
    client.head().await.expect("a head");
    let asked = data(&next(&mut client).await);
    forgetful.forget();
    let reply = json!({ "jsonrpc": "2.0", "id": asked["id"], "result": {} });
    assert_eq!(served.send(&reply).await.status, 502);
    assert_eq!(count(&upstream, "initialize"), 1);
    gate.open();
}

#[tokio::test]
async fn an_ended_session_has_no_stream() {
    let (forgetful, gate) = (Forgetful::default(), Gate::new());
    let waits = gate.clone();
    let streams = move |received: &Received, _: &Value| {
        (received.method == "GET").then(|| Reply::stream().frame(event("", &said("a"))).wait(&waits).end())
    };
    let upstream = forgetful.start(streams).await;
    let served = open(&[("one", &upstream)]).await;
    let mut client = served.listen(&[]).await;
    client.head().await.expect("a head");
    assert_eq!(data(&next(&mut client).await)["method"], "ping");
    assert_eq!(data(&next(&mut client).await), said("a"));
    assert_eq!(
        client::delete(served.address, PATH, &served.headers())
            .await
            .status,
        200
    );
    assert_eq!(
        client.frame().await.expect("an orderly end"),
        None,
        "the stream is over"
    );
    forgetful.forget();
    gate.open();
    upstream.closed().await;
    assert_eq!(methods(&upstream).last().map(String::as_str), Some("DELETE"));
    assert_eq!(count(&upstream, "initialize"), 1);
}

/// Serves a server whose streams are these, one after the other, and listens; returns what is said until `last` is.
async fn heard(streams: Vec<Reply>, session: &'static str, last: &str) -> (Upstream, Vec<Value>) {
    let asked = AtomicUsize::new(0);
    let upstream = start(
        "one",
        Box::new(move |received, message| {
            if message["method"] == "initialize" && session.is_empty() {
                return Some(opened(message, &[]));
            }
            (received.method == "GET").then(|| {
                let next = streams.get(asked.fetch_add(1, Ordering::Relaxed));
                next.cloned().unwrap_or_else(|| Reply::whole(405, &[], ""))
            })
        }),
    )
    .await;
    let served = open(&[("one", &upstream)]).await;
    let mut client = served.listen(&[]).await;
    client.head().await.expect("a head");
    let mut heard = Vec::new();
    loop {
        let message = data(&next(&mut client).await);
        if message["method"] == "notifications/message" {
            heard.push(message["params"]["data"].clone());
        }
        if heard.last().is_some_and(|own| own == last) {
            return (upstream, heard);
        }
    }
}

#[tokio::test]
async fn a_stream_whose_place_is_not_known_begins_anew() {
    let plain = [400, 404].map(|status| Reply::whole(status, &[], "invalid event"));
    for refused in [&plain[..], &[error_about_nothing(400)]].concat() {
        let streams = vec![
            Reply::sse([event("41", &said("a"))]),
            refused,
            Reply::stream().frame(event("", &said("b"))).stall(),
        ];
        let (upstream, heard) = heard(streams, "s", "b").await;
        assert_eq!(heard, ["a", "b"]);
        let requests = upstream.requests();
        let places: Vec<&str> = requests
            .iter()
            .filter(|received| received.method == "GET")
            .map(|received| received.header("last-event-id"))
            .collect();
        assert_eq!(places, ["", "41", ""]);
        assert_eq!(count(&upstream, "initialize"), 1);
    }
}

/// Returns a refusal as official SDKs have it, which answers nothing that was asked.
fn error_about_nothing(status: u16) -> Reply {
    let error = json!({ "code": -32000, "message": "Bad Request: no" });
    Reply::json(status, &json!({ "jsonrpc": "2.0", "error": error, "id": null }))
}

/// So is one that somebody else listens to still, such as another replica for a client that has left it.
#[tokio::test]
async fn a_server_that_is_away_for_a_moment_is_heard_later() {
    for refused in [
        Reply::whole(503, &[], ""),
        Reply::whole(409, &[], ""),
        error_about_nothing(409),
    ] {
        let streams = vec![refused, Reply::stream().frame(event("", &said("b"))).stall()];
        let (_, heard) = heard(streams, "s", "b").await;
        assert_eq!(heard, ["b"]);
    }
}

/// A server that wants to be asked at once, again and again, is not.
#[tokio::test]
async fn streams_are_not_asked_for_without_a_pause() {
    let streams =
        ["a", "b", "c", "d"].map(|text| Reply::sse([format!("retry: 0\n{}", event("", &said(text)))]));
    let began = Instant::now();
    let (_, heard) = heard(streams.to_vec(), "s", "d").await;
    assert_eq!(heard, ["a", "b", "c", "d"]);
    assert!(
        began.elapsed() >= Duration::from_millis(300),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn a_server_that_keeps_no_sessions_is_heard() {
    let streams = vec![Reply::stream().frame(event("", &said("b"))).stall()];
    let (_, heard) = heard(streams, "", "b").await;
    assert_eq!(heard, ["b"]);
}

/// What is not there says nothing about the session.
#[tokio::test]
async fn pages_and_methods_that_are_not_there_are_no_lost_sessions() {
    let upstream = start(
        "one",
        Box::new(|received, message| {
            let error = json!({ "code": -32601, "message": "no such method" });
            match (received.method.as_str(), message["method"].as_str()) {
                ("GET", _) => Some(Reply::whole(404, &[], "<pre>Cannot GET /mcp</pre>")),
                (_, Some("prompts/get")) => Some(Reply::json(
                    404,
                    &json!({ "jsonrpc": "2.0", "id": message["id"], "error": error }),
                )),
                (_, Some("tools/call")) => Some(result(message, json!({}))),
                _ => None,
            }
        }),
    )
    .await;
    let served = open(&[("one", &upstream)]).await;
    let mut client = served.listen(&[]).await;
    client.head().await.expect("a head");
    upstream.received(3).await;
    let got = served.ask("prompts/get", json!({ "name": "one__p" })).await;
    assert_eq!(got["error"]["code"], -32601, "{got}");
    assert_eq!(served.call("one__x").await["error"], Value::Null);
    assert_eq!(
        methods(&upstream),
        [
            "initialize",
            "notifications/initialized",
            "GET",
            "prompts/get",
            "tools/call"
        ]
    );
}

/// What has no stream is asked for it once.
#[tokio::test]
async fn pages_for_people_are_no_streams() {
    let page = start(
        "page",
        Box::new(|received, _| {
            let html = [("content-type", "text/html")];
            (received.method == "GET").then(|| Reply::whole(200, &html, "<h1>MCP</h1>"))
        }),
    )
    .await;
    let asked = AtomicUsize::new(0);
    // This one is asked again twice, and the page would be within that time.
    let later = start(
        "later",
        Box::new(move |received, _| {
            (received.method == "GET").then(|| match asked.fetch_add(1, Ordering::Relaxed) {
                0 | 1 => Reply::whole(503, &[], ""),
                _ => Reply::stream().frame(event("", &said("b"))).stall(),
            })
        }),
    )
    .await;
    let served = open(&[("page", &page), ("later", &later)]).await;
    let mut client = served.listen(&[]).await;
    client.head().await.expect("a head");
    while data(&next(&mut client).await) != said("b") {}
    assert_eq!((count(&later, "GET"), count(&page, "GET")), (3, 1));
}

/// Waiting for as long as a server wants is a part of the call.
#[tokio::test]
async fn waits_that_servers_want_are_bounded() {
    let upstream = start(
        "one",
        Box::new(|received, message| match received.method.as_str() {
            "POST" if message["method"] == "tools/call" => {
                Some(Reply::sse(["id: 41\nretry: 18446744073709551615\ndata: \n\n"]))
            }
            "GET" => Some(accepted()),
            _ => None,
        }),
    )
    .await;
    let backends = [("one", upstream.address(), "timeouts: {call: 300ms}")];
    let mut served = serve(snapshot("", &backends)).await;
    served.open().await;
    let called = served.call("one__x").await;
    assert_eq!(called["error"]["code"], -32000, "{called}");
}
