//! Clients with sessions in front of servers without (revision 2026-07-28).

use serde_json::{Value, json};
use testkit::{Client, Gate, Reply, Upstream};

use crate::{
    served::{PATH, Served, data, last, next, notification, open, plain, request, serve, snapshot},
    server::{echo, echoed, event, input_required, modern, result, tool},
};

#[tokio::test]
async fn a_session_holds_servers_of_both_lines() {
    let new = modern("new", Box::new(|_, message| echoed(message))).await;
    let old = echo("old").await;
    let served = open(&[("new", &new), ("old", &old)]).await;
    let listed = served.ask("tools/list", json!({})).await;
    assert_eq!(
        listed["result"]["tools"].as_array().map(Vec::len),
        Some(4),
        "{listed}"
    );
    assert_eq!(listed["result"]["_meta"], Value::Null);
    let called = served.call("new__echo").await;
    assert_eq!(called["error"], Value::Null, "{called}");
    let sent = new.requests().pop().expect("the call");
    assert_eq!(sent.header("mcp-session-id"), "");
    let meta = &sent.json()["params"]["_meta"];
    assert_eq!(
        meta["io.modelcontextprotocol/clientCapabilities"],
        json!({ "sampling": {} }),
        "the client's own"
    );
    assert_eq!(meta["io.modelcontextprotocol/clientInfo"]["name"], "test");
    let methods = |upstream: &Upstream| -> Vec<Value> {
        let requests = upstream.requests();
        requests
            .iter()
            .map(|request| request.json()["method"].clone())
            .collect()
    };
    assert_eq!(methods(&new)[..2], ["initialize", "server/discover"]);
    assert_eq!(methods(&old)[..2], ["initialize", "notifications/initialized"]);
    // Another session knows which line is spoken.
    let mut second = served;
    second.session.clear();
    second.open().await;
    assert_eq!(methods(&new).last(), Some(&json!("server/discover")));
    assert_eq!(
        methods(&new)
            .iter()
            .filter(|method| **method == "initialize")
            .count(),
        1
    );
}

/// A server that wants to know something, twice.
async fn asking() -> Upstream {
    modern(
        "new",
        Box::new(|_, message| {
            let params = &message["params"];
            let ask = json!({ "k": { "method": "sampling/createMessage", "params": { "messages": [] } } });
            (message["method"] == "tools/call").then(|| match params["requestState"].as_str() {
                None => input_required(message, ask, "1"),
                Some("1") => input_required(message, ask, "2"),
                Some(_) => result(message, json!({ "content": [], "got": params["inputResponses"] })),
            })
        }),
    )
    .await
}

#[tokio::test]
async fn a_question_in_a_result_is_asked_in_the_stream() {
    let upstream = asking().await;
    let served = open(&[("new", &upstream)]).await;
    let mut client = Client::connect(served.address).await;
    let call = request(5, "tools/call", &json!({ "name": "new__x" }));
    client.post(PATH, &served.headers(), &call).await.expect("sent");
    assert_eq!(client.head().await.expect("a head").status, 200);
    for round in [1, 2] {
        let asked = data(&next(&mut client).await);
        assert_eq!(asked["method"], "sampling/createMessage");
        let forged = json!({ "jsonrpc": "2.0", "id": "x", "result": {} });
        assert_eq!(served.send(&forged).await.status, 400);
        let reply = json!({ "jsonrpc": "2.0", "id": asked["id"], "result": { "round": round } });
        assert_eq!(served.send(&reply).await.status, 202);
        assert_eq!(served.send(&reply).await.status, 400, "nobody waits any more");
    }
    let done = data(&next(&mut client).await);
    assert_eq!(
        (&done["id"], &done["result"]["got"]),
        (&json!(5), &json!({ "k": { "round": 2 } }))
    );
}

#[tokio::test]
async fn cancelling_ends_the_call() {
    let gate = Gate::new();
    let waiting = gate.clone();
    let upstream = modern(
        "new",
        Box::new(move |_, message| {
            let said = notification("notifications/message", &json!({ "level": "error", "data": 1 }));
            (message["method"] == "tools/call")
                .then(|| Reply::stream().frame(event("", &said)).wait(&waiting).end())
        }),
    )
    .await;
    let served = open(&[("new", &upstream)]).await;
    let mut client = Client::connect(served.address).await;
    let call = request(5, "tools/call", &json!({ "name": "new__x" }));
    client.post(PATH, &served.headers(), &call).await.expect("sent");
    assert_eq!(client.head().await.expect("a head").status, 200);
    next(&mut client).await;
    let cancel = notification("notifications/cancelled", &json!({ "requestId": 5 }));
    assert_eq!(served.send(&cancel).await.status, 202);
    upstream.closed().await;
    assert_eq!(data(&next(&mut client).await)["error"]["code"], -32000);
}

#[tokio::test]
async fn what_is_wanted_of_logs_is_said_with_each_request() {
    let upstream = modern("new", Box::new(|_, message| echoed(message))).await;
    let served: Served = open(&[("new", &upstream)]).await;
    let level = |upstream: &Upstream| {
        let sent = upstream.requests().pop().expect("a request").json();
        sent["params"]["_meta"]["io.modelcontextprotocol/logLevel"].clone()
    };
    served.call("new__echo").await;
    assert_eq!(level(&upstream), Value::Null);
    let told = served
        .ask("logging/setLevel", json!({ "level": "warning" }))
        .await;
    assert_eq!(told["result"], json!({}));
    served.call("new__echo").await;
    assert_eq!(level(&upstream), "warning");
}

#[tokio::test]
async fn marked_arguments_are_repeated_in_headers() {
    let upstream = modern(
        "new",
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
    let served = open(&[("new", &upstream)]).await;
    let params = json!({ "name": "new__t", "arguments": { "region": "é" } });
    let called = served.send(&request(1, "tools/call", &params)).await;
    assert_eq!(last(&called)["error"], Value::Null);
    let sent = upstream.requests().pop().expect("the call");
    assert_eq!(sent.header("mcp-param-region"), "=?base64?w6k=?=");
}

#[tokio::test]
async fn a_resource_that_is_not_there_has_the_code_of_the_line() {
    let upstream = modern(
        "new",
        Box::new(|_, message| {
            let uri = &message["params"]["uri"];
            let error = json!({ "code": -32602, "message": "no", "data": { "uri": uri } });
            (message["method"] == "resources/read").then(|| {
                Reply::json(
                    400,
                    &json!({ "jsonrpc": "2.0", "id": message["id"], "error": error }),
                )
            })
        }),
    )
    .await;
    let served = open(&[("new", &upstream)]).await;
    let uri = "new+test://nothing";
    let read = served.ask("resources/read", json!({ "uri": uri })).await;
    assert_eq!(
        (&read["error"]["code"], &read["error"]["data"]["uri"]),
        (&json!(-32002), &json!(uri))
    );
    let read = served
        .modern("resources/read", json!({ "uri": uri }), &json!({}))
        .await;
    let error = &read.json()["error"];
    assert_eq!(
        (read.status, &error["code"], &error["data"]["uri"]),
        (400, &json!(-32602), &json!(uri))
    );
}

#[tokio::test]
async fn a_line_can_be_pinned() {
    let old = echo("old").await;
    let new = modern("new", Box::new(|_, message| echoed(message))).await;
    let initialize = request(0, "initialize", &json!({ "protocolVersion": "2025-11-25" }));
    // A server that does not speak it is not there, and is asked in no other.
    for (upstream, line, status) in [
        (&old, "legacy", 200),
        (&new, "modern", 200),
        (&old, "modern", 502),
        (&new, "legacy", 502),
    ] {
        let before = upstream.requests().len();
        let more = format!("protocol: {line}");
        let served = serve(snapshot("", &[("one", upstream.address(), &more)])).await;
        assert_eq!(served.send(&initialize).await.status, status, "{line}");
        let asked = upstream.requests().split_off(before);
        let other = if line == "legacy" {
            "server/discover"
        } else {
            "initialize"
        };
        let mut asked = asked.iter();
        assert!(asked.all(|request| request.json()["method"] != other), "{line}");
    }
    for (line, opens, asks) in [("legacy", 200, 400), ("modern", 400, 200), ("any", 200, 200)] {
        let route = format!("  protocol: {line}");
        let served = serve(snapshot(&route, &plain(&[("one", &old)]))).await;
        let opened = served.send(&initialize).await;
        let asked = served.modern("tools/list", json!({}), &json!({})).await;
        assert_eq!((opened.status, asked.status), (opens, asks), "{line}");
        for refused in [opened, asked].iter().filter(|answer| answer.status == 400) {
            assert_eq!(refused.json()["error"]["code"], -32022);
            assert!(refused.json()["error"]["data"]["supported"][0].is_string());
        }
    }
}
