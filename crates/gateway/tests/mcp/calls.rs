//! Calls to one server: what crosses, and what does not.

use std::{io::Write, net::SocketAddr};

use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use testkit::{Client, Gate, Reply, Upstream, client};

use crate::{
    served::{PATH, data, last, next, notification, open, request, serve, snapshot, snapshot_beside},
    server::{accepted, answer, echo, event, result, start},
};

/// Sends a message as it is written.
async fn raw(address: SocketAddr, session: &str, body: &str) -> client::Answer {
    let mut client = Client::connect(address).await;
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nhost: localhost\r\nmcp-session-id: {session}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    client.send(head).await.expect("the request is taken");
    client.answer().await.expect("there is a reply")
}

#[tokio::test]
async fn what_is_not_known_crosses_as_it_is_written() {
    let upstream = echo("one").await;
    let served = open(&[("one", &upstream)]).await;
    let body = r#"{"jsonrpc":"2.0","id":1.50,"method":"tools/call","params":{"x-new":1e2,"name":"one__echo","arguments":{"n":1.0,"big":12345678901234567890123}}}"#;
    let answer = raw(served.address, &served.session, body).await;
    assert!(
        answer.text().starts_with(r#"{"jsonrpc":"2.0","id":1.50,"#),
        "{}",
        answer.text()
    );
    let sent = upstream.requests().pop().expect("the call");
    let sent = String::from_utf8_lossy(&sent.body).into_owned();
    let expected = body.replace("one__echo", "echo");
    assert_eq!(sent, expected);
}

#[tokio::test]
async fn servers_see_what_is_theirs_and_nothing_else() {
    let upstream = echo("one").await;
    let keyed = echo("two").await;
    let more = "forwardHeaders: [{name: x-user}, {name: x-pat, backendHeader: authorization}]";
    let key = "path: \"/p?a=1\", securityPolicy: {apiKey: {inline: \"s k\", queryParam: key}}";
    let snapshot = snapshot(
        "",
        &[("one", upstream.address(), more), ("two", keyed.address(), key)],
    );
    let mut served = serve(snapshot).await;
    served.open().await;
    let headers = [
        ("mcp-session-id", served.session.as_str()),
        ("authorization", "Bearer client"),
        ("cookie", "a=b"),
        ("x-user", "alice"),
        ("x-user", "of sales"),
        ("x-pat", "Bearer mine"),
        ("x-ai-eg-mcp-backend", "one"),
        ("x-other", "1"),
    ];
    for name in ["one__echo", "two__echo"] {
        let call = request(1, "tools/call", &json!({ "name": name }));
        let answer = client::post(served.address, PATH, &headers, &call).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("set-cookie"), "");
        assert_eq!(answer.header("mcp-session-id"), served.session);
    }
    let sent = upstream.requests().pop().expect("the call");
    for (name, value) in [
        ("authorization", "Bearer mine"),
        ("x-user", "alice"),
        ("mcp-session-id", "s-one"),
        ("mcp-protocol-version", "2025-06-18"),
        ("accept", "application/json, text/event-stream"),
        ("cookie", ""),
        ("x-other", ""),
        ("x-pat", ""),
        ("x-ai-eg-mcp-backend", ""),
    ] {
        assert_eq!(sent.header(name), value, "{name}");
    }
    let users: Vec<&str> = sent
        .headers
        .get_all("x-user")
        .iter()
        .filter_map(|user| user.to_str().ok())
        .collect();
    assert_eq!(users, ["alice", "of sales"]);
    assert_eq!(sent.target, "/mcp");
    let sent = keyed.requests().pop().expect("the call");
    assert_eq!(sent.target, "/p?a=1&key=s%20k");
    assert_eq!(sent.header("authorization"), "");
}

/// What a backend of models takes from requests as its credential is for no server, not even where it is forwarded.
#[tokio::test]
async fn credentials_for_models_are_not_handed_on() {
    let upstream = echo("one").await;
    let more = "forwardHeaders: [{name: x-user}, {name: x-team-key}]";
    let mut served = serve(snapshot_beside(MODELS, "", &[("one", upstream.address(), more)])).await;
    served.open().await;
    let headers = [
        ("mcp-session-id", served.session.as_str()),
        ("x-user", "alice"),
        ("x-team-key", "sk-team"),
    ];
    let call = request(1, "tools/call", &json!({ "name": "one__echo" }));
    let answer = client::post(served.address, PATH, &headers, &call).await;
    assert_eq!(answer.status, 200);
    let sent = upstream.requests().pop().expect("the call");
    assert_eq!((sent.header("x-user"), sent.header("x-team-key")), ("alice", ""));
}

#[tokio::test]
async fn keys_stand_where_they_are_declared() {
    for (more, name, value) in [
        ("inline: k", "authorization", "Bearer k"),
        ("inline: k, header: Authorization", "authorization", "Bearer k"),
        ("inline: k, header: authorization", "authorization", "k"),
        ("inline: k, header: X-Key", "x-key", "k"),
    ] {
        let upstream = echo("one").await;
        let more = format!("securityPolicy: {{apiKey: {{{more}}}}}");
        let mut served = serve(snapshot("", &[("one", upstream.address(), &more)])).await;
        served.open().await;
        for sent in upstream.received(2).await {
            assert_eq!(sent.header(name), value, "{more}");
        }
    }
}

/// A server that says something before it answers, and waits at a gate.
async fn talking(gate: &Gate) -> Upstream {
    let gate = gate.clone();
    start(
        "talk",
        Box::new(move |_, message| {
            let first = notification("notifications/message", &json!({ "data": 1 }));
            let ask = json!({ "jsonrpc": "2.0", "id": 7, "method": "sampling/createMessage",
                "params": { "_meta": { "progressToken": "t" }, "messages": [], "tools": [{ "new": true }] } });
            let done = answer(message, json!({ "content": [] }));
            (message["method"] == "tools/call").then(|| {
                let reply = Reply::stream().frame(event("", &first)).frame(event("", &ask)).wait(&gate);
                reply.frame(event("", &done)).end()
            })
        }),
    )
    .await
}

#[tokio::test]
async fn servers_ask_and_clients_answer() {
    let gate = Gate::new();
    let (upstream, other) = (talking(&gate).await, echo("other").await);
    let served = open(&[("talk", &upstream), ("other", &other)]).await;
    let mut client = Client::connect(served.address).await;
    let call = request(5, "tools/call", &json!({ "name": "talk__x" }));
    client.post(PATH, &served.headers(), &call).await.expect("sent");
    assert_eq!(client.head().await.expect("a head").status, 200);
    assert_eq!(data(&next(&mut client).await)["method"], "notifications/message");
    let asked = data(&next(&mut client).await);
    assert_eq!(asked["method"], "sampling/createMessage");
    assert_eq!(asked["params"]["tools"], json!([{ "new": true }]));
    let (id, token) = (&asked["id"], &asked["params"]["_meta"]["progressToken"]);
    assert!(
        id.as_str().is_some_and(|id| id.starts_with("7__i__talk__")),
        "{id}"
    );

    let forged = json!({ "jsonrpc": "2.0", "id": "7__i__other", "result": {} });
    assert_eq!(served.send(&forged).await.status, 400);
    let progress = notification(
        "notifications/progress",
        &json!({ "progressToken": token, "progress": 1 }),
    );
    assert_eq!(served.send(&progress).await.status, 202);
    let reply = json!({ "jsonrpc": "2.0", "id": id, "result": { "model": "m" } });
    assert_eq!(served.send(&reply).await.status, 202);
    gate.open();
    let done = data(&next(&mut client).await);
    assert_eq!(
        (&done["id"], &done["result"]),
        (&json!(5), &json!({ "content": [] }))
    );

    let told = upstream.received(5).await;
    assert_eq!(told[3].json()["params"]["progressToken"], "t");
    assert_eq!(
        told[4].json(),
        json!({ "jsonrpc": "2.0", "id": 7, "result": { "model": "m" } })
    );
    assert_eq!(other.requests().len(), 2, "only who asked is answered");
}

/// Whoever takes no stream cannot be asked, and the server need not wait for it.
#[tokio::test]
async fn clients_that_take_no_stream_are_not_asked() {
    let gate = Gate::new();
    let upstream = talking(&gate).await;
    let served = open(&[("talk", &upstream)]).await;
    let mut client = Client::connect(served.address).await;
    let call = request(5, "tools/call", &json!({ "name": "talk__x" }));
    let headers = [&[("accept", "application/json")], &*served.headers()].concat();
    client.post(PATH, &headers, &call).await.expect("sent");
    let told = upstream.received(4).await;
    assert_eq!(
        (&told[3].json()["id"], &told[3].json()["error"]["code"]),
        (&json!(7), &json!(-32601))
    );
    gate.open();
    let answer = client.answer().await.expect("a reply").json();
    assert_eq!(answer["result"], json!({ "content": [] }), "{answer}");
}

/// A server could do what it is asked without an id, past everything that decides about it.
#[tokio::test]
async fn requests_without_an_id_reach_nobody() {
    let upstream = echo("one").await;
    let served = open(&[("one", &upstream)]).await;
    for method in ["tools/call", "tools/list", "resources/subscribe", "x/y"] {
        let refused = served
            .send(&notification(method, &json!({ "name": "echo" })))
            .await;
        assert_eq!(
            (refused.status, &refused.json()["error"]["code"]),
            (400, &json!(-32600)),
            "{method}"
        );
    }
    let taken = served
        .send(&notification("notifications/new", &json!({ "a": 1 })))
        .await;
    assert_eq!(
        (taken.status, taken.header("mcp-session-id")),
        (202, served.session.as_str())
    );
    let told = upstream.received(3).await;
    assert_eq!(told.len(), 3, "what is one is handed on");
    assert_eq!(told[2].json()["method"], "notifications/new");
}

#[tokio::test]
async fn cancelling_reaches_who_works_on_it() {
    let gate = Gate::new();
    let (upstream, other) = (talking(&gate).await, echo("other").await);
    let served = open(&[("talk", &upstream), ("other", &other)]).await;
    let mut client = Client::connect(served.address).await;
    let call = request(5, "tools/call", &json!({ "name": "talk__x" }));
    client.post(PATH, &served.headers(), &call).await.expect("sent");
    next_head(&mut client).await;
    let cancel = notification("notifications/cancelled", &json!({ "requestId": 5 }));
    assert_eq!(served.send(&cancel).await.status, 202);
    let told = upstream.received(4).await;
    assert_eq!(told[3].json(), cancel);
    assert_eq!(other.requests().len(), 2);
    drop(client);
    upstream.closed().await;
}

/// Servers do not answer what was cancelled, and leave the stream as it is: it would stay for as long as a call may take.
#[tokio::test]
async fn a_cancelled_call_ends_though_its_server_says_no_more() {
    let upstream = talking(&Gate::new()).await;
    let served = open(&[("talk", &upstream)]).await;
    let mut client = Client::connect(served.address).await;
    let call = request(5, "tools/call", &json!({ "name": "talk__x" }));
    client.post(PATH, &served.headers(), &call).await.expect("sent");
    next_head(&mut client).await;
    let cancel = notification("notifications/cancelled", &json!({ "requestId": 5 }));
    assert_eq!(served.send(&cancel).await.status, 202);
    upstream.closed().await;
    let asked = data(&next(&mut client).await);
    assert_eq!(asked["method"], "sampling/createMessage");
    let last = data(&next(&mut client).await);
    assert_eq!(
        (&last["id"], &last["error"]["code"]),
        (&json!(5), &json!(-32000)),
        "{last}"
    );
}

async fn next_head(client: &mut Client) {
    assert_eq!(client.head().await.expect("a head").status, 200);
    next(client).await;
}

#[tokio::test]
async fn replies_are_understood_in_every_dress() {
    let check = async |content_type: &'static str, dress: fn(&Value) -> String| {
        let upstream = start(
            "one",
            Box::new(move |_, message| {
                let done = answer(message, json!({ "content": [] }));
                (message["method"] == "tools/call")
                    .then(|| Reply::whole(200, &[("content-type", content_type)], &dress(&done)))
            }),
        )
        .await;
        let served = open(&[("one", &upstream)]).await;
        let called = served.call("one__x").await;
        assert_eq!(
            (&called["id"], &called["result"]),
            (&json!(1), &json!({ "content": [] })),
            "{content_type} {called}"
        );
    };
    check("application/json;charset=utf-8", |done| {
        format!("\u{feff} {done}")
    })
    .await;
    check("application/json", |done| event("", done)).await;
    check("text/event-stream", |done| event("", done)).await;
    check("text/event-stream; charset=utf-8", |done| {
        format!(": hello\r\n\r\ndata: nonsense\r\n\r\nevent: message\r\ndata: {done}\r\n\r\n")
    })
    .await;
    check("Text/Event-Stream", |done| event("", done)).await;
    // Revision 2025-03-26 has several messages in one.
    check("application/json", |done| {
        json!([notification("notifications/message", &json!({ "data": 1 })), done]).to_string()
    })
    .await;
    check("text/event-stream", |done| {
        event(
            "",
            &json!([notification("notifications/message", &json!({ "data": 1 })), done]),
        )
    })
    .await;
    // A document may have the name of a stream.
    check("text/event-stream", |done| format!("\n {done}\n")).await;
    // What was not asked is not taken for the answer, and numbers may be written as strings.
    check("text/event-stream", |done| {
        let other = json!({ "jsonrpc": "2.0", "id": 99, "result": { "content": [1] } });
        event("", &other) + &event("", done) + &event("", done)
    })
    .await;
    check("text/event-stream", |done| {
        let mut done = done.clone();
        done["id"] = json!(done["id"].to_string());
        event("", &done)
    })
    .await;
    check("text/event-stream", |done| {
        let text = serde_json::to_string_pretty(done).expect("a document");
        text.lines()
            .map(|line| format!("data: {line}\n"))
            .collect::<String>()
            + "\n"
    })
    .await;
}

/// No coding is asked for; some servers have one all the same.
#[tokio::test]
async fn replies_that_are_compressed_are_read() {
    let upstream = start(
        "one",
        Box::new(|_, message| {
            let done = answer(message, json!({ "content": [] }));
            let (kind, text) = match message["params"]["name"].as_str() {
                Some("stream") => ("text/event-stream", event("", &done)),
                _ => ("application/json", done.to_string()),
            };
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            encoder
                .write_all(text.as_bytes())
                .expect("a Vec takes everything");
            let body = encoder.finish().expect("a Vec takes everything");
            let length = body.len().to_string();
            let headers = [
                ("content-type", kind),
                ("content-length", length.as_str()),
                ("content-encoding", "gzip"),
            ];
            (message["method"] == "tools/call").then(|| Reply::new().head(200, &headers).raw(body))
        }),
    )
    .await;
    let served = open(&[("one", &upstream)]).await;
    for name in ["document", "stream"] {
        let called = served.call(&format!("one__{name}")).await;
        assert_eq!(called["result"], json!({ "content": [] }), "{name} {called}");
    }
    let sent = upstream.requests().pop().expect("the call");
    assert_eq!(sent.header("accept-encoding"), "identity");
}

#[tokio::test]
async fn pings_of_servers_are_answered_here() {
    let upstream = start(
        "one",
        Box::new(|_, message| {
            let ping = json!({ "jsonrpc": "2.0", "id": "p", "method": "ping" });
            match message["method"].as_str() {
                Some("tools/call") => Some(Reply::sse([
                    event("", &ping),
                    event("", &answer(message, json!({ "content": [] }))),
                ])),
                _ => None,
            }
        }),
    )
    .await;
    let served = open(&[("one", &upstream)]).await;
    let answer = served
        .send(&request(1, "tools/call", &json!({ "name": "one__x" })))
        .await;
    assert_eq!(last(&answer)["result"], json!({ "content": [] }));
    let told = upstream.received(4).await;
    assert_eq!(
        told[3].json(),
        json!({ "jsonrpc": "2.0", "id": "p", "result": {} })
    );
}

#[tokio::test]
async fn errors_of_servers_are_answers_and_failures_are_errors() {
    let upstream = start(
        "one",
        Box::new(|_, message| {
            let error =
                json!({ "jsonrpc": "2.0", "id": message["id"], "error": { "code": -1, "message": "own" } });
            let name = message["params"]["name"].as_str().unwrap_or_default();
            (message["method"] == "tools/call").then(|| match name {
                "error" => Reply::json(200, &error),
                "status" => Reply::json(400, &error),
                "teapot" => Reply::whole(418, &[("set-cookie", "a=b")], "sk-secret"),
                "reset" => Reply::new().reset(),
                "cut" => Reply::stream().frame("data: {\n").close(),
                "nothing" => accepted(),
                _ => result(message, json!({})),
            })
        }),
    )
    .await;
    let served = open(&[("one", &upstream)]).await;
    for (name, code, status) in [
        ("error", -1, Value::Null),
        ("status", -1, Value::Null),
        ("teapot", -32000, json!(418)),
        ("reset", -32000, Value::Null),
        ("cut", -32000, Value::Null),
        ("nothing", -32000, Value::Null),
    ] {
        let called = served.call(&format!("one__{name}")).await;
        assert_eq!(called["error"]["code"], code, "{name} {called}");
        assert_eq!(called["error"]["data"]["upstreamStatus"], status, "{name}");
        assert!(!called.to_string().contains("sk-"), "{called}");
    }
}

/// A route for models whose backend takes a credential from requests.
const MODELS: &str = "---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIGatewayRoute
metadata: {name: models}
spec:
  parentRefs: [{name: g}]
  rules: [{matches: [{headers: [{name: x-ai-eg-model, value: m}]}], backendRefs: [{name: models}]}]
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIServiceBackend
metadata: {name: models}
spec: {schema: {name: OpenAI}, backendRef: {group: gateway.envoyproxy.io, kind: Backend, name: one}}
---
apiVersion: v1
kind: Secret
metadata: {name: key}
stringData: {apiKey: configured}
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: BackendSecurityPolicy
metadata: {name: key}
spec:
  targetRefs: [{group: aigateway.envoyproxy.io, kind: AIServiceBackend, name: models}]
  type: APIKey
  apiKey: {secretRef: {name: key}}
  credentialOverride: {fromRequestHeaders: {header: x-team-key}}
";
