//! Servers that fail, row by row: when they are asked, when a session is opened, when all are asked for a list.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Gate, Reply, Upstream, client, upstream::Received};

use crate::{
    served::{PATH, Served, last, plain, request, serve, snapshot},
    server::{answer, echo, echoed, event, modern, result, start},
};

/// How a server replies to a message.
type Replies = fn(&Value) -> Reply;

/// A server with sessions that replies like this to calls of tools.
async fn calling(reply: impl Fn(&Value) -> Reply + Send + Sync + 'static) -> Upstream {
    let calls = move |message: &Value| (message["method"] == "tools/call").then(|| reply(message));
    start("bad", Box::new(move |_, message| calls(message))).await
}

async fn alone(more: &str, upstream: &Upstream) -> Served {
    serve(snapshot("", &[("bad", upstream.address(), more)])).await
}

#[tokio::test]
async fn calls_that_come_to_nothing_are_errors_that_say_whose() {
    let check = async |reply: Replies, reason: &str, status: Option<u16>| {
        let (bad, good) = (calling(reply).await, echo("good").await);
        let more = "timeouts: {call: 300ms}";
        let backends = [("bad", bad.address(), more), ("good", good.address(), "")];
        let mut served = serve(snapshot("", &backends)).await;
        served.open().await;
        let call = request(1, "tools/call", &json!({ "name": "bad__x" }));
        let with = served.send(&call).await;
        let without = served
            .modern("tools/call", json!({ "name": "bad__x" }), &json!({}))
            .await;
        for (answer, id) in [(with, 1), (without, 5)] {
            let told = last(&answer);
            assert_eq!((answer.status, &told["id"]), (200, &json!(id)), "{told}");
            let error = &told["error"];
            assert_eq!(error["code"], -32000, "{told}");
            assert_eq!(
                (&error["data"]["backend"], &error["data"]["reason"]),
                (&json!("bad"), &json!(reason))
            );
            assert_eq!(error["data"]["upstreamStatus"], json!(status));
            assert_eq!(
                answer.header("www-authenticate"),
                "",
                "who else is there to ask is not known"
            );
            assert!(!told.to_string().contains("sk-"), "{told}");
        }
        assert_eq!(
            served.call("good__echo").await["error"],
            Value::Null,
            "the others go on"
        );
    };
    check(|_| Reply::whole(500, &[], "sk-1"), "status 500", Some(500)).await;
    check(|_| Reply::whole(503, &[], ""), "status 503", Some(503)).await;
    let challenged = |_: &Value| Reply::whole(401, &[("www-authenticate", "Bearer")], "");
    check(challenged, "status 401", Some(401)).await;
    check(|_| Reply::whole(403, &[], "sk-2"), "status 403", Some(403)).await;
    check(
        |_| Reply::whole(200, &[("content-type", "text/html")], "<p>sk-3"),
        "malformed reply",
        None,
    )
    .await;
    check(|_| Reply::whole(202, &[], ""), "malformed reply", None).await;
    // Clients pass over what is no answer, and wait for one.
    check(
        |call| Reply::json(200, &odd(call, "result", json!(5))),
        "malformed reply",
        None,
    )
    .await;
    check(
        |call| Reply::json(200, &odd(call, "error", json!("no"))),
        "malformed reply",
        None,
    )
    .await;
    let unsaid = |call: &Value| Reply::json(200, &odd(call, "error", json!({ "code": -32050 })));
    check(unsaid, "malformed reply", None).await;
    let streamed = |call: &Value| {
        Reply::stream()
            .frame(event("", &odd(call, "result", Value::Null)))
            .stall()
    };
    check(streamed, "malformed reply", None).await;
    check(|_| Reply::new().reset(), "connection lost", None).await;
    check(
        |_| Reply::stream().frame(": hm\n\n").reset(),
        "connection lost",
        None,
    )
    .await;
    check(
        |_| Reply::stream().frame(": hm\n\n").end(),
        "connection lost",
        None,
    )
    .await;
    check(|_| Reply::new().stall(), "timeout", None).await;
    check(|_| Reply::stream().frame(": hm\n\n").stall(), "timeout", None).await;
}

/// Returns an answer that says what it should not.
fn odd(call: &Value, member: &str, value: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": call["id"], member: value })
}

#[tokio::test]
async fn a_server_that_is_busy_says_for_how_long() {
    let bad = calling(|_| Reply::whole(429, &[("retry-after", "7")], "")).await;
    let mut served = alone("", &bad).await;
    served.open().await;
    let answer = served
        .send(&request(1, "tools/call", &json!({ "name": "bad__x" })))
        .await;
    assert_eq!((answer.status, answer.header("retry-after")), (200, "7"));
    let data = &answer.json()["error"]["data"];
    assert_eq!(
        (&data["upstreamStatus"], &data["retryAfter"]),
        (&json!(429), &json!(7))
    );
}

#[tokio::test]
async fn what_a_server_answers_is_its_answer_whatever_the_status() {
    let own = |message: &Value| {
        let error = json!({ "code": -32050, "message": "own", "data": { "n": 1 } });
        Reply::json(
            500,
            &json!({ "jsonrpc": "2.0", "id": message["id"], "error": error }),
        )
    };
    let failing = |message: &Value| result(message, json!({ "content": [], "isError": true }));
    let (own, failing) = (calling(own).await, calling(failing).await);
    let mut served = alone("", &own).await;
    served.open().await;
    let error = &served.call("bad__x").await["error"];
    assert_eq!(
        (&error["code"], &error["data"]),
        (&json!(-32050), &json!({ "n": 1 }))
    );
    let mut served = alone("", &failing).await;
    served.open().await;
    assert_eq!(
        served.call("bad__x").await["result"]["isError"],
        true,
        "a tool that failed is a result"
    );
}

#[tokio::test]
async fn the_only_server_may_ask_who_calls() {
    let challenge = "Bearer error=\"invalid_token\"";
    for status in [401, 403] {
        let demands = move |received: &Received, _: &Value| {
            let shown = received.header("authorization") == "Bearer upstreams";
            (!shown).then(|| Reply::whole(status, &[("www-authenticate", challenge)], ""))
        };
        let demanding = start("bad", Box::new(demands)).await;
        let open = async |served: &Served, token: &str| {
            let params = json!({ "protocolVersion": "2025-06-18", "capabilities": {} });
            let headers = [("authorization", token)];
            client::post(served.address, PATH, &headers, &request(0, "initialize", &params)).await
        };
        let more = "forwardHeaders: [{name: authorization}]";
        let served = alone(more, &demanding).await;
        let refused = open(&served, "Bearer other").await;
        assert_eq!(
            (refused.status, refused.header("www-authenticate")),
            (status, challenge)
        );
        // Whoever is not let in has not been told which line is spoken, and is not asked in the other.
        let asked = |at: usize| {
            demanding
                .requests()
                .split_off(at)
                .iter()
                .map(|own| own.json()["method"].clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(asked(0), ["initialize"]);
        let fresh = alone("", &demanding).await;
        let refused = fresh.modern("tools/list", json!({}), &json!({})).await;
        assert_eq!(refused.status, status, "{}", refused.text());
        assert_eq!(asked(1), ["server/discover"]);
        let opened = open(&served, "Bearer upstreams").await;
        assert_eq!(opened.status, 200, "{}", opened.text());
        let session = opened.header("mcp-session-id");
        let call = request(1, "tools/call", &json!({ "name": "bad__x" }));
        let headers = [("authorization", "Bearer expired"), ("mcp-session-id", session)];
        let refused = client::post(served.address, PATH, &headers, &call).await;
        assert_eq!(
            (refused.status, refused.header("www-authenticate")),
            (status, challenge)
        );
        assert_eq!(refused.json()["error"]["data"]["upstreamStatus"], status);

        let good = echo("good").await;
        let backends = [("bad", demanding.address(), more), ("good", good.address(), "")];
        let served = serve(snapshot("", &backends)).await;
        let opened = open(&served, "Bearer other").await;
        assert_eq!(
            (opened.status, opened.header("www-authenticate")),
            (200, ""),
            "it is left out"
        );
    }
}

/// Servers that do not open a session, and why they do not.
async fn shut() -> Vec<(Upstream, &'static str)> {
    let refuses = |reply: Replies| async move {
        let opens = |message: &Value| message["method"] == "initialize";
        start(
            "bad",
            Box::new(move |_, message| opens(message).then(|| reply(message))),
        )
        .await
    };
    let error = |message: &Value| {
        let error = json!({ "code": -32603, "message": "no" });
        Reply::json(
            200,
            &json!({ "jsonrpc": "2.0", "id": message["id"], "error": error }),
        )
    };
    vec![
        (refuses(|_| Reply::new().stall()).await, "timeout"),
        (
            refuses(|_| Reply::stream().frame(": hm\n\n").stall()).await,
            "timeout",
        ),
        (refuses(|_| Reply::whole(500, &[], "")).await, "status 500"),
        (refuses(|_| Reply::whole(401, &[], "")).await, "status 401"),
        (refuses(error).await, "malformed reply"),
        (
            refuses(|_| Reply::whole(200, &[("content-type", "application/json")], "{}")).await,
            "malformed reply",
        ),
    ]
}

#[tokio::test]
async fn a_session_is_opened_without_those_that_fail_unless_all_are_needed() {
    for (bad, reason) in shut().await {
        let good = echo("good").await;
        let backends = [
            ("bad", bad.address(), "timeouts: {initialize: 200ms}"),
            ("good", good.address(), ""),
        ];
        let mut served = serve(snapshot("", &backends)).await;
        served.open().await;
        let listed = served.ask("tools/list", json!({})).await;
        assert_eq!(
            listed["result"]["tools"].as_array().map(Vec::len),
            Some(2),
            "{listed}"
        );
        let partial = json!([{ "backend": "bad", "reason": reason }]);
        assert_eq!(listed["result"]["_meta"]["gateway/partial"], partial);
        let called = served.call("bad__x").await;
        assert_eq!(
            (&called["error"]["code"], &called["error"]["data"]["reason"]),
            (&json!(-32602), &json!(reason))
        );

        let closed = serve(snapshot("  failureMode: closed", &backends)).await;
        let params = json!({ "protocolVersion": "2025-06-18", "capabilities": {} });
        let refused = client::post(closed.address, PATH, &[], &request(0, "initialize", &params)).await;
        assert_eq!(refused.status, 502, "{reason}");
        let error = &refused.json()["error"];
        assert_eq!(
            (&error["code"], &error["data"]["backends"][0]["backend"]),
            (&json!(-32000), &json!("bad"))
        );
        // What was opened for nothing is ended: the one before was kept.
        let asked = good.received(6).await;
        let last = asked.last().expect("the end");
        assert_eq!(
            (last.method.as_str(), last.header("mcp-session-id")),
            ("DELETE", "s-good")
        );
    }
    let gone = Upstream::refusing();
    let served = serve(snapshot("", &[("gone", gone.address, "")])).await;
    let params = json!({ "protocolVersion": "2025-06-18", "capabilities": {} });
    let refused = client::post(served.address, PATH, &[], &request(0, "initialize", &params)).await;
    assert_eq!(
        (refused.status, &refused.json()["error"]["code"]),
        (502, &json!(-32000))
    );
}

#[tokio::test]
async fn lists_lack_what_fails_or_are_errors() {
    let error = |message: &Value| {
        let error = json!({ "code": -32603, "message": "no" });
        Reply::json(
            200,
            &json!({ "jsonrpc": "2.0", "id": message["id"], "error": error }),
        )
    };
    let rows: Vec<(Replies, &str)> = vec![
        (|_| Reply::new().stall(), "timeout"),
        (|_| Reply::stream().frame(": hm\n\n").stall(), "timeout"),
        (
            |_| Reply::whole(404, &[("mcp-session-id", "x")], ""),
            "status 404",
        ),
        (|_| Reply::new().reset(), "connection lost"),
        (|_| Reply::stream().frame(": hm\n\n").reset(), "connection lost"),
        (
            |message| result(message, json!({ "tools": 1 })),
            "malformed reply",
        ),
        (error, "malformed reply"),
    ];
    for (reply, reason) in rows {
        let lists = move |message: &Value| (message["method"] == "tools/list").then(|| reply(message));
        let bad = start("bad", Box::new(move |_, message| lists(message))).await;
        let good = echo("good").await;
        let more = "timeouts: {list: 300ms}";
        let backends = [("good", good.address(), ""), ("bad", bad.address(), more)];
        let partial = json!([{ "backend": "bad", "reason": reason }]);
        let ask = async |served: &Served| {
            let without = served.modern("tools/list", json!({}), &json!({})).await;
            [served.ask("tools/list", json!({})).await, last(&without)]
        };
        let mut open = serve(snapshot("", &backends)).await;
        open.open().await;
        for listed in ask(&open).await {
            assert_eq!(
                listed["result"]["tools"].as_array().map(Vec::len),
                Some(2),
                "{listed}"
            );
            assert_eq!(listed["result"]["_meta"]["gateway/partial"], partial, "{listed}");
        }
        let mut closed = serve(snapshot("  failureMode: closed", &backends)).await;
        closed.open().await;
        for listed in ask(&closed).await {
            assert_eq!(
                (&listed["error"]["code"], &listed["error"]["data"]["backends"]),
                (&json!(-32000), &partial)
            );
        }
        let mut alone = serve(snapshot("", &backends[1..])).await;
        alone.open().await;
        for listed in ask(&alone).await {
            assert_eq!(
                listed["error"]["data"]["backends"], partial,
                "there is nothing to be given"
            );
        }
    }
}

#[tokio::test]
async fn a_level_is_set_where_it_can_be_unless_all_are_needed() {
    let sets =
        |message: &Value| (message["method"] == "logging/setLevel").then(|| Reply::whole(500, &[], ""));
    let bad = start("bad", Box::new(move |_, message| sets(message))).await;
    for (route, given) in [("", true), ("  failureMode: closed", false)] {
        let mut served = serve(snapshot(route, &plain(&[("bad", &bad)]))).await;
        served.open().await;
        let set = served.ask("logging/setLevel", json!({ "level": "info" })).await;
        assert_eq!(set["result"].is_object(), given, "{set}");
        assert_eq!(set["error"]["code"] == -32000, !given, "{set}");
    }
}

/// A call, and what is done about it.
struct Late {
    upstream: Upstream,
    /// Opens when the server is told that a call is cancelled.
    cancelled: Gate,
}

/// A server with sessions that begins to answer `method` and never does.
async fn late(method: &'static str) -> Late {
    let cancelled = Gate::new();
    let told = cancelled.clone();
    let answers = move |message: &Value| {
        if message["method"] == "notifications/cancelled" {
            told.open();
        }
        let first =
            json!({ "jsonrpc": "2.0", "method": "notifications/message", "params": { "level": "info" } });
        (message["method"] == method).then(|| Reply::stream().frame(event("", &first)).stall())
    };
    let upstream = start("bad", Box::new(move |_, message| answers(message))).await;
    Late { upstream, cancelled }
}

impl Late {
    /// Returns the id under which the server was asked, once it was told that nobody waits any more.
    async fn cancelled_id(&self, method: &str) -> Value {
        self.cancelled.wait().await;
        let asked: Vec<Value> = self.upstream.requests().iter().map(Received::json).collect();
        let asked_as = |asked: &&Value| asked["method"] == method;
        let id = asked.iter().find(asked_as).expect("it was asked")["id"].clone();
        let told = asked
            .iter()
            .find(|told| told["method"] == "notifications/cancelled");
        assert_eq!(told.expect("it was told")["params"]["requestId"], id);
        id
    }
}

#[tokio::test]
async fn what_takes_too_long_is_cancelled() {
    for (method, params) in [
        ("tools/call", json!({ "name": "bad__x" })),
        ("tools/list", json!({})),
    ] {
        let more = "timeouts: {list: 200ms, call: 200ms}";
        let server = late(method).await;
        let mut served = alone(more, &server.upstream).await;
        served.open().await;
        assert_eq!(served.ask(method, params.clone()).await["error"]["code"], -32000);
        assert_eq!(server.cancelled_id(method).await, 1, "the client's own");

        let server = late(method).await;
        let served = alone(more, &server.upstream).await;
        let told = served.modern(method, params, &json!({})).await;
        assert_eq!(last(&told)["error"]["code"], -32000, "{}", told.text());
        assert_ne!(
            server.cancelled_id(method).await,
            5,
            "many clients share the session"
        );
    }
}

/// Nobody waits for ever for one that begins to answer.
#[tokio::test]
async fn a_level_is_waited_for_no_longer_than_a_list() {
    let server = late("logging/setLevel").await;
    let mut served = alone("timeouts: {list: 200ms}", &server.upstream).await;
    served.open().await;
    let set = served.ask("logging/setLevel", json!({ "level": "info" })).await;
    assert_eq!(set["result"], json!({}), "{set}");
    assert_eq!(server.cancelled_id("logging/setLevel").await, 1);
}

#[tokio::test]
async fn a_server_without_sessions_is_asked_within_its_time() {
    let stalls = |message: &Value| (message["method"] == "tools/call").then(|| Reply::new().stall());
    let upstream = modern(
        "bad",
        Box::new(move |_, message| stalls(message).or_else(|| echoed(message))),
    )
    .await;
    let mut served = alone("timeouts: {call: 200ms}", &upstream).await;
    served.open().await;
    assert_eq!(served.call("bad__x").await["error"]["data"]["reason"], "timeout");
    let told = served
        .modern("tools/call", json!({ "name": "bad__x" }), &json!({}))
        .await;
    assert_eq!(last(&told)["error"]["data"]["reason"], "timeout");
}

#[tokio::test]
async fn a_tool_may_take_its_own_time() {
    let stalls = |message: &Value| (message["method"] == "tools/call").then(|| Reply::new().stall());
    let upstream = start(
        "bad",
        Box::new(move |_, message| stalls(message).or_else(|| echoed(message))),
    )
    .await;
    let more = "timeouts: {call: 1h, tools: [{tool: x, call: 200ms}]}";
    let mut served = alone(more, &upstream).await;
    served.open().await;
    let late = served.call("bad__x").await;
    let reason = "call to bad failed: no answer within 0.2 s";
    assert_eq!(late["error"]["message"], reason, "{late}");
    // Any other tool would be waited for until the client goes away.
    let other = tokio::time::timeout(Duration::from_secs(1), served.call("bad__y")).await;
    assert!(other.is_err(), "{other:?}");
}

#[tokio::test]
async fn an_event_may_be_so_long() {
    let long = |message: &Value| {
        let size = message["params"]["arguments"]["size"].as_u64().unwrap_or(0);
        let answer = answer(
            message,
            json!({ "content": "x".repeat(usize::try_from(size).expect("a size")) }),
        );
        Reply::whole(200, &[("content-type", "text/event-stream")], &event("", &answer))
    };
    let upstream = calling(long).await;
    for (route, limit) in [("", 4 * 1024 * 1024), ("  maxEventBytes: 2048\n", 2048)] {
        let mut served = serve(snapshot(route, &[("bad", upstream.address(), "")])).await;
        served.open().await;
        let call = async |size: u64| {
            let params = json!({ "name": "bad__x", "arguments": { "size": size } });
            served.ask("tools/call", params).await
        };
        let fits = call(limit - 200).await;
        assert!(fits["result"]["content"].is_string(), "{}", fits["error"]);
        let reason = &call(limit).await["error"]["data"]["reason"];
        assert_eq!(*reason, "malformed reply", "{limit}");
    }
}
