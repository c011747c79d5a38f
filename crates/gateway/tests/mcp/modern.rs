//! Clients that keep no session (revision 2026-07-28), in front of servers of either line.

use serde_json::{Value, json};
use testkit::{Client, Gate, Reply, Upstream, client, upstream::Received};

use crate::{
    served::{
        PATH, Served, data, last, modern_headers, modern_request, next, notification, plain, request, serve,
        snapshot,
    },
    server::{answer, echo, echoed, event, input_required, modern, result, start, tool},
};

/// The codes of what is refused, under their statuses.
#[tokio::test]
async fn requests_say_what_they_need_or_are_refused() {
    let upstream = modern("one", Box::new(|_, message| echoed(message))).await;
    let served = serve(snapshot("", &plain(&[("one", &upstream)]))).await;
    let check = async |message: Value, headers: &[(&str, &str)], status: u16, code: i32| {
        let answer = client::post(served.address, PATH, headers, &message).await;
        let told = answer.json();
        assert_eq!(
            (answer.status, &told["error"]["code"]),
            (status, &json!(code)),
            "{message} {headers:?} {told}"
        );
        assert_eq!(told["id"], message["id"]);
        told
    };
    let line = ("mcp-protocol-version", "2026-07-28");
    let list = modern_request("tools/list", json!({}), &json!({}));
    check(
        request(5, "tools/list", &json!({})),
        &[line, ("mcp-method", "tools/list")],
        400,
        -32602,
    )
    .await;
    check(list.clone(), &[line], 400, -32020).await;
    check(list.clone(), &[("mcp-method", "tools/list")], 400, -32020).await;
    check(list.clone(), &[line, ("mcp-method", "prompts/list")], 400, -32020).await;
    check(
        list,
        &[line, ("mcp-method", "tools/list"), ("mcp-method", "tools/list")],
        400,
        -32020,
    )
    .await;
    let call = modern_request("tools/call", json!({ "name": "one__echo" }), &json!({}));
    check(
        call,
        &[line, ("mcp-method", "tools/call"), ("mcp-name", "echo")],
        400,
        -32020,
    )
    .await;
    for removed in [
        "initialize",
        "ping",
        "logging/setLevel",
        "resources/subscribe",
        "nope",
    ] {
        let message = modern_request(removed, json!({}), &json!({}));
        check(message, &[line, ("mcp-method", removed)], 404, -32601).await;
    }
    let mut unknown = modern_request("server/discover", json!({}), &json!({}));
    unknown["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("v999");
    let headers = [
        ("mcp-protocol-version", "v999"),
        ("mcp-method", "server/discover"),
    ];
    let told = check(unknown, &headers, 400, -32022).await;
    assert_eq!(told["error"]["data"]["requested"], "v999");
    assert_eq!(told["error"]["data"]["supported"][0], "2026-07-28");
    for (method, params) in [
        ("tools/call", json!({ "name": "one" })),
        ("tools/call", json!({ "name": "two__x" })),
        ("resources/read", json!({ "uri": "file:///x" })),
    ] {
        let told = served.modern(method, params.clone(), &json!({})).await;
        assert_eq!(
            (told.status, &told.json()["error"]["code"]),
            (400, &json!(-32602)),
            "{params}"
        );
        if method == "resources/read" {
            assert_eq!(told.json()["error"]["data"]["uri"], "file:///x");
        }
    }
    let answer = json!({ "jsonrpc": "2.0", "id": 5, "result": {} });
    assert_eq!(
        client::post(served.address, PATH, &[line], &answer).await.status,
        404
    );
    let note = notification("notifications/cancelled", &json!({ "requestId": 1 }));
    assert_eq!(
        client::post(served.address, PATH, &[line], &note).await.status,
        202
    );
    for verb in ["GET", "DELETE"] {
        let mut client = Client::connect(served.address).await;
        let head =
            format!("{verb} {PATH} HTTP/1.1\r\nhost: localhost\r\nmcp-protocol-version: 2026-07-28\r\n\r\n");
        client.send(head).await.expect("sent");
        let answer = client.answer().await.expect("a reply");
        assert_eq!((answer.status, answer.header("allow")), (405, "POST"));
    }
}

/// A server of each line.
async fn both() -> (Upstream, Upstream, Served) {
    let new = modern("new", Box::new(|_, message| echoed(message))).await;
    let old = echo("old").await;
    let served = serve(snapshot("", &plain(&[("new", &new), ("old", &old)]))).await;
    (new, old, served)
}

#[tokio::test]
async fn servers_of_both_lines_are_one() {
    let (new, old, served) = both().await;
    let found = served.modern("server/discover", json!({}), &json!({})).await;
    assert_eq!(found.header("mcp-session-id"), "");
    let found = &found.json()["result"];
    assert_eq!(found["resultType"], "complete");
    assert_eq!(found["supportedVersions"][0], "2026-07-28");
    assert_eq!(found["capabilities"]["tools"], json!({ "listChanged": true }));
    assert_eq!(
        found["_meta"]["io.modelcontextprotocol/serverInfo"]["name"],
        "tollgate"
    );
    assert_eq!(
        (&found["ttlMs"], &found["cacheScope"]),
        (&json!(0), &json!("private"))
    );

    let listed = served.modern("tools/list", json!({}), &json!({})).await.json();
    let names: Vec<&Value> = listed["result"]["tools"]
        .as_array()
        .expect("tools")
        .iter()
        .map(|tool| &tool["name"])
        .collect();
    assert_eq!(names, ["new__echo", "new__hidden", "old__echo", "old__hidden"]);
    assert_eq!(
        (&listed["result"]["ttlMs"], &listed["result"]["resultType"]),
        (&json!(0), &json!("complete"))
    );

    for name in ["new__echo", "old__echo"] {
        let params = json!({ "name": name, "arguments": { "n": 1 }, "_meta": { "progressToken": "p" } });
        let called = served
            .modern("tools/call", params, &json!({ "sampling": {} }))
            .await;
        assert_eq!((called.status, called.header("mcp-session-id")), (200, ""));
        assert_eq!(called.json()["id"], 5);
        assert_eq!(called.json()["result"]["resultType"], "complete");
    }
    let sent = new.requests().pop().expect("the call").json();
    assert_eq!(
        sent["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"],
        json!({ "sampling": {} })
    );
    assert_eq!(sent["params"]["_meta"]["progressToken"], "p");
    let sent = old.requests().pop().expect("the call");
    assert_eq!(sent.header("mcp-session-id"), "s-old");
    let params = &sent.json()["params"];
    assert_eq!(
        (&params["name"], &params["arguments"]),
        (&json!("echo"), &json!({ "n": 1 }))
    );
    assert_eq!(
        params["_meta"]["io.modelcontextprotocol/protocolVersion"],
        Value::Null
    );
    assert_ne!(sent.json()["id"], 5, "many clients share the session");
}

#[tokio::test]
async fn sessions_are_shared_by_clients_that_are_alike() {
    let old = echo("old").await;
    let more = "forwardHeaders: [{name: x-user}]";
    let served = serve(snapshot("", &[("old", old.address(), more)])).await;
    let call = async |user: &str, can: Value| {
        let message = modern_request("tools/call", json!({ "name": "old__echo" }), &can);
        let own = modern_headers(&message);
        let mut headers: Vec<(&str, &str)> =
            own.iter().map(|(name, value)| (*name, value.as_str())).collect();
        headers.push(("x-user", user));
        assert_eq!(
            client::post(served.address, PATH, &headers, &message)
                .await
                .status,
            200
        );
    };
    let opened = || {
        let requests = old.requests();
        let opened = requests
            .iter()
            .filter(|request| request.json()["method"] == "initialize");
        opened.count()
    };
    for (user, can, sessions) in [
        ("alice", json!({}), 1),
        ("alice", json!({}), 1),
        ("bob", json!({}), 2),
        ("alice", json!({ "sampling": {} }), 3),
        ("bob", json!({}), 3),
    ] {
        call(user, can).await;
        assert_eq!(opened(), sessions, "{user}");
    }
}

/// Clients that share a session may call the progress of what they ask for the same.
#[tokio::test]
async fn progress_in_a_shared_session_is_told_to_whoever_asked() {
    let gate = Gate::new();
    let waits = gate.clone();
    let tells = move |message: &Value| {
        let (token, which) = (
            &message["params"]["_meta"]["progressToken"],
            &message["params"]["arguments"]["which"],
        );
        let progress = json!({ "progressToken": token, "progress": which });
        let progress = event("", &notification("notifications/progress", &progress));
        let done = event("", &answer(message, json!({ "content": [] })));
        (message["method"] == "tools/call")
            .then(|| Reply::stream().wait(&waits).frame(progress).frame(done).end())
    };
    let old = start("old", Box::new(move |_, message| tells(message))).await;
    let served = serve(snapshot("", &plain(&[("old", &old)]))).await;
    let mut clients = Vec::new();
    for which in 0..2 {
        let params = json!({ "name": "old__x", "arguments": { "which": which }, "_meta": { "progressToken": "same" } });
        let message = modern_request("tools/call", params, &json!({}));
        let own = modern_headers(&message);
        let headers: Vec<(&str, &str)> = own.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut client = Client::connect(served.address).await;
        client.post(PATH, &headers, &message).await.expect("sent");
        clients.push(client);
    }
    let mut told: Vec<(Value, Value)> = Vec::new();
    while told.len() < 2 {
        let asked = old.requests();
        let calls = asked
            .iter()
            .map(Received::json)
            .filter(|sent| sent["method"] == "tools/call");
        told = calls
            .map(|sent| {
                (
                    sent["id"].clone(),
                    sent["params"]["_meta"]["progressToken"].clone(),
                )
            })
            .collect();
        if told.len() < 2 {
            old.received(asked.len() + 1).await;
        }
    }
    let sessions = old
        .requests()
        .iter()
        .filter(|sent| sent.json()["method"] == "initialize")
        .count();
    assert_eq!(sessions, 1, "they share it");
    assert!(told[0].0 != told[1].0 && told[0].1 != told[1].1, "{told:?}");
    gate.open();
    for (which, mut client) in clients.into_iter().enumerate() {
        client.head().await.expect("a head");
        let progress = data(&next(&mut client).await);
        assert_eq!(
            progress["params"],
            json!({ "progressToken": "same", "progress": which })
        );
        assert_eq!(data(&next(&mut client).await)["result"]["content"], json!([]));
    }
}

/// A server that asks for a name before it greets, and wants to be reminded.
async fn asking() -> Upstream {
    modern(
        "new",
        Box::new(|_, message| {
            if message["method"] != "tools/call" {
                return None;
            }
            let params = &message["params"];
            let ask = json!({ "who": { "method": "elicitation/create", "params": { "message": "?" } } });
            Some(match params["requestState"].as_str() {
                None => input_required(message, ask, "round 1"),
                Some("round 1") if params["inputResponses"]["who"].is_object() => {
                    result(message, json!({ "content": [], "got": params["inputResponses"] }))
                }
                Some(_) => input_required(message, ask, "round 1"),
            })
        }),
    )
    .await
}

#[tokio::test]
async fn servers_ask_back_and_are_reminded() {
    let upstream = asking().await;
    let served = serve(snapshot("", &plain(&[("new", &upstream)]))).await;
    let can = json!({ "elicitation": {} });
    let asked = served
        .modern("tools/call", json!({ "name": "new__x" }), &can)
        .await
        .json();
    assert_eq!(asked["result"]["resultType"], "input_required");
    assert_eq!(
        asked["result"]["inputRequests"]["who"]["method"],
        "elicitation/create"
    );
    let state = asked["result"]["requestState"]
        .as_str()
        .expect("a state")
        .to_owned();
    assert!(!state.contains("round"), "it is sealed");
    let go_on = async |name: &str, state: &str| {
        let params = json!({ "name": name, "requestState": state,
            "inputResponses": { "who": { "action": "accept" }, "other": {} } });
        served.modern("tools/call", params, &can).await
    };
    for (name, state) in [("new__x", format!("{state}-TAMPERED")), ("new__y", state.clone())] {
        let refused = go_on(name, &state).await;
        assert_eq!(
            (refused.status, &refused.json()["error"]["code"]),
            (400, &json!(-32602)),
            "{name}"
        );
    }
    let done = go_on("new__x", &state).await.json();
    assert_eq!(
        done["result"]["got"],
        json!({ "who": { "action": "accept" }, "other": {} })
    );
    let refused = served
        .modern("tools/call", json!({ "name": "new__x" }), &json!({ "roots": {} }))
        .await;
    let error = &refused.json()["error"];
    assert_eq!((refused.status, &error["code"]), (400, &json!(-32021)));
    assert_eq!(
        error["data"]["requiredCapabilities"],
        json!({ "elicitation": {} })
    );
}

/// A server with sessions that asks in the middle of its stream.
async fn talking(gate: &Gate) -> Upstream {
    let gate = gate.clone();
    start(
        "old",
        Box::new(move |received, message| {
            let told = message.get("method").is_none() && received.method == "POST" && message["id"] == 7;
            if told {
                gate.open();
            }
            let log = |level: &str| notification("notifications/message", &json!({ "level": level, "data": 1 }));
            let progress = notification(
                "notifications/progress",
                &json!({ "progressToken": message["params"]["_meta"]["progressToken"], "progress": 1 }),
            );
            let ask = json!({ "jsonrpc": "2.0", "id": 7, "method": "elicitation/create", "params": { "message": "?" } });
            let done = answer(message, json!({ "content": [] }));
            (message["method"] == "tools/call").then(|| {
                let before = [log("debug"), log("error"), progress].map(|said| event("1", &said));
                let reply = Reply::stream().frames(&before).frame(event("", &ask)).wait(&gate);
                reply.frame(event("", &done)).end()
            })
        }),
    )
    .await
}

#[tokio::test]
async fn a_question_in_a_stream_is_a_result() {
    let gate = Gate::new();
    let upstream = talking(&gate).await;
    let served = serve(snapshot("", &plain(&[("old", &upstream)]))).await;
    let can = json!({ "elicitation": {} });
    let first = json!({ "name": "old__x", "_meta": { "progressToken": 3, "io.modelcontextprotocol/logLevel": "info" } });
    let answer = served.modern("tools/call", first, &can).await;
    let frames = answer.frames();
    let said: Vec<Value> = frames.iter().map(|frame| data(frame)).collect();
    assert!(
        frames.iter().all(|frame| !frame.contains("id: ")),
        "nothing is resumed: {frames:?}"
    );
    assert_eq!(said.len(), 3, "{said:?}");
    assert_eq!(
        said[0]["params"]["level"], "error",
        "what matters less was not asked for"
    );
    assert_eq!(said[1]["params"]["progressToken"], 3);
    let asked = &said[2]["result"];
    assert_eq!(asked["resultType"], "input_required");
    let (key, input) = asked["inputRequests"]
        .as_object()
        .expect("inputs")
        .iter()
        .next()
        .expect("one");
    assert_eq!(
        input,
        &json!({ "method": "elicitation/create", "params": { "message": "?" } })
    );
    let again = json!({ "name": "old__x", "requestState": asked["requestState"],
        "inputResponses": { key.as_str(): { "action": "accept" } } });
    let done = served.modern("tools/call", again.clone(), &can).await;
    assert_eq!(last(&done)["result"]["content"], json!([]), "{}", done.text());
    let requests = upstream.requests();
    let told = requests
        .iter()
        .map(|request| request.json())
        .find(|told| told.get("method").is_none());
    assert_eq!(
        told.expect("an answer"),
        json!({ "jsonrpc": "2.0", "id": 7, "result": { "action": "accept" } })
    );
    let twice = served.modern("tools/call", again, &can).await;
    assert_eq!(
        twice.json()["error"]["code"],
        -32000,
        "what went on does not go on again"
    );
}

#[tokio::test]
async fn what_a_client_cannot_answer_is_not_asked() {
    let gate = Gate::new();
    let upstream = talking(&gate).await;
    let served = serve(snapshot("", &plain(&[("old", &upstream)]))).await;
    let done = served
        .modern(
            "tools/call",
            json!({ "name": "old__x" }),
            &json!({ "sampling": {} }),
        )
        .await;
    assert_eq!(last(&done)["result"]["content"], json!([]), "{}", done.text());
}

#[tokio::test]
async fn marked_arguments_are_held_against_headers() {
    let upstream = start(
        "old",
        Box::new(|_, message| match message["method"].as_str()? {
            "tools/list" => {
                let mut marked = tool("t");
                marked["inputSchema"]["properties"] =
                    json!({ "region": { "type": "string", "x-mcp-header": "Region" } });
                Some(result(message, json!({ "tools": [marked] })))
            }
            _ => echoed(message),
        }),
    )
    .await;
    let served = serve(snapshot("", &plain(&[("old", &upstream)]))).await;
    let call = async |header: Option<&str>| {
        let params = json!({ "name": "old__t", "arguments": { "region": "Hello" } });
        let message = modern_request("tools/call", params, &json!({}));
        let own = modern_headers(&message);
        let mut headers: Vec<(&str, &str)> =
            own.iter().map(|(name, value)| (*name, value.as_str())).collect();
        headers.extend(header.map(|header| ("mcp-param-region", header)));
        client::post(served.address, PATH, &headers, &message)
            .await
            .status
    };
    for (header, status) in [
        (Some("Hello"), 200),
        (Some("=?base64?SGVsbG8=?="), 200),
        (Some("=?base64?SGVsbG8?="), 400),
        (Some("hello"), 400),
        (None, 400),
    ] {
        assert_eq!(call(header).await, status, "{header:?}");
    }
}

#[tokio::test]
async fn going_away_ends_the_call() {
    let gate = Gate::new();
    let waiting = gate.clone();
    let upstream = modern(
        "new",
        Box::new(move |_, message| {
            let first = notification(
                "notifications/progress",
                &json!({ "progressToken": "p", "progress": 1 }),
            );
            (message["method"] == "tools/call")
                .then(|| Reply::stream().frame(event("", &first)).wait(&waiting).end())
        }),
    )
    .await;
    let served = serve(snapshot("", &plain(&[("new", &upstream)]))).await;
    let message = modern_request(
        "tools/call",
        json!({ "name": "new__x", "_meta": { "progressToken": "p" } }),
        &json!({}),
    );
    let own = modern_headers(&message);
    let headers: Vec<(&str, &str)> = own.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut client = Client::connect(served.address).await;
    client.post(PATH, &headers, &message).await.expect("sent");
    assert_eq!(client.head().await.expect("a head").status, 200);
    assert_eq!(data(&next(&mut client).await)["params"]["progressToken"], "p");
    drop(client);
    upstream.closed().await;
}

/// To a server with sessions the end of a connection means nothing.
#[tokio::test]
async fn going_away_cancels_the_call_where_there_are_sessions() {
    let cancelled = Gate::new();
    let told = cancelled.clone();
    let answers = move |message: &Value| {
        if message["method"] == "notifications/cancelled" {
            told.open();
        }
        let token = &message["params"]["_meta"]["progressToken"];
        let first = notification(
            "notifications/progress",
            &json!({ "progressToken": token, "progress": 1 }),
        );
        (message["method"] == "tools/call").then(|| match message["params"]["name"].as_str() {
            Some("slow") => Reply::stream().frame(event("", &first)).stall(),
            _ => Reply::stream()
                .frame(event("", &first))
                .frame(event("", &answer(message, json!({ "content": [] }))))
                .end(),
        })
    };
    let upstream = start("old", Box::new(move |_, message| answers(message))).await;
    let served = serve(snapshot("", &plain(&[("old", &upstream)]))).await;
    let call = async |name: &str| {
        let params = json!({ "name": name, "_meta": { "progressToken": "p" } });
        let message = modern_request("tools/call", params, &json!({}));
        let own = modern_headers(&message);
        let headers: Vec<(&str, &str)> = own.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut client = Client::connect(served.address).await;
        client.post(PATH, &headers, &message).await.expect("sent");
        assert_eq!(client.head().await.expect("a head").status, 200);
        assert_eq!(data(&next(&mut client).await)["params"]["progressToken"], "p");
        client
    };
    let mut answered = call("old__quick").await;
    assert!(data(&next(&mut answered).await)["result"].is_object());
    drop(answered);
    drop(call("old__slow").await);
    cancelled.wait().await;
    let asked: Vec<Value> = upstream.requests().iter().map(|request| request.json()).collect();
    let slow = asked.iter().find(|asked| asked["params"]["name"] == "slow");
    let told: Vec<&Value> = asked
        .iter()
        .filter(|asked| asked["method"] == "notifications/cancelled")
        .collect();
    assert_eq!(told.len(), 1, "what was answered is not cancelled");
    assert_eq!(told[0]["params"]["requestId"], slow.expect("the call")["id"]);
}
