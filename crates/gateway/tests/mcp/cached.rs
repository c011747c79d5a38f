//! Lists that are kept, and for whom.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use serde_json::{Value, json};
use testkit::{Gate, Reply, Upstream, client, upstream::Received};

use crate::{
    served::{
        PATH, Served, data, modern_headers, modern_request, next, plain, request, serve, snapshot,
        snapshot_beside,
    },
    server::{echo, echoed, event, modern, result, start, tool},
};

/// Returns how often a server was asked for its tools.
fn asked(upstream: &Upstream) -> usize {
    let requests = upstream.requests();
    requests
        .iter()
        .filter(|request| request.json()["method"] == "tools/list")
        .count()
}

async fn list(served: &Served) -> usize {
    let listed = served.ask("tools/list", json!({})).await;
    listed["result"]["tools"].as_array().map_or(0, Vec::len)
}

const KEPT: &str = "listCacheTTL: 1h";

#[tokio::test]
async fn a_list_is_kept_where_the_route_says_so() {
    for (more, times) in [("", 3), (KEPT, 1)] {
        let upstream = echo("one").await;
        let mut served = serve(snapshot("", &[("one", upstream.address(), more)])).await;
        served.open().await;
        assert_eq!((list(&served).await, list(&served).await), (2, 2));
        served.session.clear();
        served.open().await;
        assert_eq!(list(&served).await, 2, "another session of the same caller");
        assert_eq!(asked(&upstream), times, "{more}");
    }
}

#[tokio::test]
async fn a_change_and_a_reload_end_what_is_kept() {
    let gate = Gate::new();
    let streams = gate.clone();
    let changed = json!({ "jsonrpc": "2.0", "method": "notifications/tools/list_changed" });
    let answers = move |received: &Received, message: &Value| match received.method.as_str() {
        "GET" => Some(
            Reply::stream()
                .frame(": hm\n\n")
                .wait(&streams)
                .frame(event("", &changed))
                .stall(),
        ),
        _ => echoed(message),
    };
    let upstream = start("one", Box::new(answers)).await;
    let backends = [("one", upstream.address(), KEPT)];
    let mut served = serve(snapshot("", &backends)).await;
    served.open().await;
    let mut client = served.listen(&[]).await;
    client.head().await.expect("a head");
    assert_eq!(data(&next(&mut client).await)["method"], "ping");
    list(&served).await;
    list(&served).await;
    assert_eq!(asked(&upstream), 1);
    gate.open();
    assert_eq!(
        data(&next(&mut client).await)["method"],
        "notifications/tools/list_changed"
    );
    list(&served).await;
    assert_eq!(asked(&upstream), 2);
    served
        .gateway
        .install(snapshot("", &backends))
        .await
        .expect("the port is served already");
    list(&served).await;
    list(&served).await;
    assert_eq!(asked(&upstream), 3);
}

/// Every caller is given what its own request brought, whatever others were given before.
#[tokio::test]
async fn nobody_is_given_what_somebody_else_was() {
    let whose = |received: &Received, message: &Value| {
        let name = format!("of-{}-{}", received.header("x-user"), received.header("x-client"));
        (message["method"] == "tools/list").then(|| result(message, json!({ "tools": [tool(&name)] })))
    };
    let upstream = start("one", Box::new(whose)).await;
    let keys =
        "---\napiVersion: v1\nkind: Secret\nmetadata: {name: keys}\nstringData: {ann: sk-1, bob: sk-2}\n";
    let route = "  securityPolicy:
    apiKeyAuth:
      credentialRefs: [{name: keys}]
      extractFrom: [{headers: [x-key]}]
      forwardClientIDHeader: x-client
";
    let more = "listCacheTTL: 1h, forwardHeaders: [{name: x-user}]";
    let served = serve(snapshot_beside(keys, route, &[("one", upstream.address(), more)])).await;
    let modern = async |key: &str, user: &str, can: &Value| {
        let message = modern_request("tools/list", json!({}), can);
        let own = modern_headers(&message);
        let own = own.iter().map(|(name, value)| (*name, value.as_str()));
        let headers: Vec<(&str, &str)> = own.chain([("x-key", key), ("x-user", user)]).collect();
        let answer = client::post(served.address, PATH, &headers, &message).await;
        answer.json()["result"]["tools"][0]["name"].clone()
    };
    let legacy = async |key: &str, user: &str| {
        let own = [("x-key", key), ("x-user", user)];
        let params = json!({ "protocolVersion": "2025-06-18", "capabilities": {} });
        let opened = client::post(served.address, PATH, &own, &request(0, "initialize", &params)).await;
        let session = ("mcp-session-id", opened.header("mcp-session-id"));
        let headers = [own[0], own[1], session];
        let listed = client::post(
            served.address,
            PATH,
            &headers,
            &request(1, "tools/list", &json!({})),
        )
        .await;
        listed.json()["result"]["tools"][0]["name"].clone()
    };
    for _ in 0..2 {
        for (key, client) in [("sk-1", "ann"), ("sk-2", "bob")] {
            for user in ["x", "y"] {
                let own = format!("one__of-{user}-{client}");
                assert_eq!(modern(key, user, &json!({})).await, own);
                assert_eq!(modern(key, user, &json!({ "roots": {} })).await, own);
                assert_eq!(legacy(key, user).await, own);
            }
        }
    }
    assert_eq!(
        asked(&upstream),
        8,
        "each was asked for once, with either capabilities"
    );
}

/// What a server gives may depend on what the client has said of itself, in either line.
#[tokio::test]
async fn a_list_is_of_those_who_say_the_same_of_themselves() {
    let upstream = echo("one").await;
    let served = serve(snapshot("", &[("one", upstream.address(), KEPT)])).await;
    let without = async |can: Value, name: &str| {
        let info = json!({ "name": name, "version": "1" });
        let params = json!({ "_meta": { "io.modelcontextprotocol/clientInfo": info } });
        let listed = served.modern("tools/list", params, &can).await;
        assert_eq!(listed.status, 200, "{}", listed.text());
    };
    let within = async |can: Value, name: &str| {
        let params = json!({ "protocolVersion": "2025-06-18", "capabilities": can,
            "clientInfo": { "name": name, "version": "1" } });
        let opened = served.send(&request(0, "initialize", &params)).await;
        let session = [("mcp-session-id", opened.header("mcp-session-id"))];
        let list = request(1, "tools/list", &json!({}));
        assert_eq!(
            client::post(served.address, PATH, &session, &list).await.status,
            200
        );
    };
    let roots = || json!({ "roots": {} });
    for (can, name, times) in [
        (json!({}), "a", 1),
        (json!({}), "a", 1),
        (json!({}), "b", 2),
        (roots(), "b", 3),
        (roots(), "b", 3),
        (json!({}), "b", 3),
    ] {
        without(can.clone(), name).await;
        within(can.clone(), name).await;
        assert_eq!(asked(&upstream), times, "{can} {name}");
    }
}

/// A server without sessions says itself how long its list may be kept, and by whom.
#[tokio::test]
async fn what_a_server_says_of_its_list_holds() {
    for (hints, more, by_one, by_two) in [
        (json!({ "ttlMs": 600_000, "cacheScope": "public" }), "", 1, 1),
        (json!({ "ttlMs": 600_000, "cacheScope": "private" }), "", 1, 2),
        (json!({ "ttlMs": 0, "cacheScope": "public" }), KEPT, 2, 4),
        (json!({}), "", 2, 4),
        (json!({}), KEPT, 1, 2),
    ] {
        let own = hints.clone();
        let lists = move |message: &Value| {
            let mut listed = json!({ "resultType": "complete", "tools": [tool("t")] });
            for (name, value) in own.as_object().expect("an object") {
                listed[name] = value.clone();
            }
            (message["method"] == "tools/list").then(|| result(message, listed))
        };
        let upstream = modern("one", Box::new(move |_, message| lists(message))).await;
        let said = format!("forwardHeaders: [{{name: x-user}}], {more}");
        let served = serve(snapshot("", &[("one", upstream.address(), &said)])).await;
        let list = async |user: &str| {
            let message = modern_request("tools/list", json!({}), &json!({}));
            let own = modern_headers(&message);
            let own = own.iter().map(|(name, value)| (*name, value.as_str()));
            let headers: Vec<(&str, &str)> = own.chain([("x-user", user)]).collect();
            client::post(served.address, PATH, &headers, &message)
                .await
                .json()["result"]["ttlMs"]
                .clone()
        };
        let ttl = hints["ttlMs"].as_u64().unwrap_or(0);
        for _ in 0..2 {
            let told = list("ann").await.as_u64().expect("a number");
            assert!(
                told <= ttl && told + 60_000 >= ttl,
                "what is left of {ttl}: {told}"
            );
        }
        assert_eq!(asked(&upstream), by_one, "{hints} {more}");
        list("bob").await;
        list("bob").await;
        assert_eq!(asked(&upstream), by_two, "{hints} {more}");
    }
}

/// What may not be kept any more stands in for what cannot be had, unless a list has to be whole.
#[tokio::test]
async fn the_last_list_stands_in_for_one_that_cannot_be_had() {
    for closed in [false, true] {
        let down = Arc::new(AtomicBool::new(false));
        let is_down = Arc::clone(&down);
        let lists = move |message: &Value| {
            let listed = json!({ "resultType": "complete", "tools": [tool("t")], "ttlMs": 1, "cacheScope": "private" });
            (message["method"] == "tools/list").then(|| match is_down.load(Ordering::Relaxed) {
                true => Reply::whole(500, &[], ""),
                false => result(message, listed),
            })
        };
        let upstream = modern("one", Box::new(move |_, message| lists(message))).await;
        let route = if closed { "  failureMode: closed" } else { "" };
        let served = serve(snapshot(route, &plain(&[("one", &upstream)]))).await;
        let list = async || served.modern("tools/list", json!({}), &json!({})).await.json();
        assert_eq!(list().await["result"]["tools"][0]["name"], "one__t");
        down.store(true, Ordering::Relaxed);
        let mut listed = list().await;
        while asked(&upstream) < 2 {
            listed = list().await;
        }
        if closed {
            assert_eq!(listed["error"]["code"], -32000, "{listed}");
            continue;
        }
        assert_eq!(listed["result"]["tools"][0]["name"], "one__t");
        let partial = json!([{ "backend": "one", "reason": "status 500", "lastKnown": true }]);
        assert_eq!(listed["result"]["_meta"]["gateway/partial"], partial);
        assert_eq!(listed["result"]["ttlMs"], 0, "nobody else is to keep it");
    }
}
