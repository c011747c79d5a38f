//! Lists of several servers as one.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use testkit::{Gate, Reply, Upstream};

use crate::{
    served::{open, plain, serve, snapshot},
    server::{echo, event, result, start, start_with, tool},
};

fn names(result: &Value, list: &str) -> Vec<String> {
    let items = result["result"][list].as_array().expect("a list");
    let name = |item: &Value| item["name"].as_str().expect("a name").to_owned();
    items.iter().map(name).collect()
}

#[tokio::test]
async fn every_page_of_every_server_is_there_in_their_order() {
    let paged = start(
        "paged",
        Box::new(|_, message| {
            let page = match message["params"]["cursor"].as_str() {
                None => json!({ "tools": [tool("a")], "nextCursor": "2" }),
                Some("2") => json!({ "tools": [tool("b")], "nextCursor": "3" }),
                Some(_) => json!({ "tools": [tool("c")], "nextCursor": "3" }),
            };
            (message["method"] == "tools/list").then(|| result(message, page))
        }),
    )
    .await;
    let plain = echo("plain").await;
    let served = open(&[("paged", &paged), ("plain", &plain)]).await;
    for _ in 0..3 {
        let listed = served.ask("tools/list", json!({})).await;
        let expected = ["paged__a", "paged__b", "paged__c", "plain__echo", "plain__hidden"];
        assert_eq!(names(&listed, "tools"), expected);
        assert_eq!(listed["result"].get("_meta"), None);
    }
}

/// Cursors of a list that changes while it is read may be void.
#[tokio::test]
async fn a_list_that_changes_is_read_anew_once() {
    for (void, whole) in [(1, true), (2, false)] {
        let voided = AtomicUsize::new(0);
        let pages = move |message: &Value| {
            let error = json!({ "code": -32602, "message": "invalid cursor" });
            (message["method"] == "tools/list").then(|| match message["params"]["cursor"].as_str() {
                None => result(message, json!({ "tools": [tool("a")], "nextCursor": "2" })),
                Some(_) if voided.fetch_add(1, Ordering::Relaxed) < void => Reply::json(
                    200,
                    &json!({ "jsonrpc": "2.0", "id": message["id"], "error": error }),
                ),
                Some(_) => result(message, json!({ "tools": [tool("b")] })),
            })
        };
        let upstream = start("one", Box::new(move |_, message| pages(message))).await;
        let served = open(&[("one", &upstream)]).await;
        let listed = served.ask("tools/list", json!({})).await;
        if whole {
            assert_eq!(names(&listed, "tools"), ["one__a", "one__b"]);
        } else {
            assert_eq!(listed["error"]["code"], -32000, "{listed}");
        }
    }
}

#[tokio::test]
async fn only_what_is_selected_is_listed_and_can_be_called() {
    let upstream = echo("one").await;
    let more = "toolSelector: {excludeRegex: [\"^hid\"]}";
    let mut served = serve(snapshot("", &[("one", upstream.address(), more)])).await;
    served.open().await;
    let listed = served.ask("tools/list", json!({})).await;
    assert_eq!(names(&listed, "tools"), ["one__echo"]);
    let hidden = served.call("one__hidden").await;
    assert_eq!(hidden["error"]["code"], -32602);
    assert_eq!(hidden["error"]["message"], "unknown tool: one__hidden");
    assert_eq!(served.call("one__echo").await["error"], Value::Null);
}

#[tokio::test]
async fn a_server_that_fails_is_named() {
    let failing = || async {
        let broken = |message: &Value| {
            (message["method"] == "tools/list").then(|| Reply::whole(500, &[], "sk-secret"))
        };
        start("broken", Box::new(move |_, message| broken(message))).await
    };
    let (good, broken) = (echo("good").await, failing().await);
    let served = open(&[("good", &good), ("broken", &broken)]).await;
    let listed = served.ask("tools/list", json!({})).await;
    assert_eq!(names(&listed, "tools"), ["good__echo", "good__hidden"]);
    let partial = json!([{ "backend": "broken", "reason": "status 500" }]);
    assert_eq!(listed["result"]["_meta"]["gateway/partial"], partial);

    let mut closed = serve(snapshot(
        "  failureMode: closed",
        &plain(&[("good", &good), ("broken", &broken)]),
    ))
    .await;
    closed.open().await;
    let listed = closed.ask("tools/list", json!({})).await;
    assert_eq!(listed["error"]["data"]["backends"], partial);
    assert!(!listed.to_string().contains("sk-"));

    let alone = open(&[("broken", &broken)]).await;
    assert_eq!(alone.ask("tools/list", json!({})).await["error"]["code"], -32000);
}

#[tokio::test]
async fn servers_are_asked_for_what_they_have() {
    let tools = start_with(
        json!({ "tools": {} }),
        "tools",
        Box::new(|_, message| crate::server::echoed(message)),
    )
    .await;
    let served = open(&[("tools", &tools)]).await;
    let listed = served.ask("prompts/list", json!({})).await;
    assert_eq!(listed["result"], json!({ "prompts": [] }));
    let set = served.ask("logging/setLevel", json!({ "level": "info" })).await;
    assert_eq!(set["result"], json!({}));
    let asked: Vec<Value> = tools
        .requests()
        .iter()
        .map(|request| request.json()["method"].clone())
        .collect();
    assert_eq!(asked, ["initialize", "notifications/initialized"]);
}

async fn shop(name: &'static str) -> Upstream {
    start(
        name,
        Box::new(move |_, message| {
            let text = json!({ "contents": [{ "uri": message["params"]["uri"], "text": name }] });
            let called =
                json!({ "content": [{ "type": "resource_link", "uri": "shop:item/1", "name": name }] });
            Some(match message["method"].as_str()? {
                "tools/list" => result(message, json!({ "tools": [tool("buy"), tool(name)] })),
                "tools/call" => result(message, called),
                "resources/list" => {
                    let uri = format!("shop:{name}");
                    result(message, json!({ "resources": [{ "uri": uri, "name": name }] }))
                }
                "resources/templates/list" => {
                    let uri = format!("shop:{name}/{{id}}");
                    result(
                        message,
                        json!({ "resourceTemplates": [{ "uriTemplate": uri, "name": name }] }),
                    )
                }
                "resources/read" => result(message, text),
                _ => return None,
            })
        }),
    )
    .await
}

#[tokio::test]
async fn without_prefixes_the_first_to_have_a_name_keeps_it() {
    let (first, second) = (shop("first").await, shop("second").await);
    let backends = plain(&[("first", &first), ("second", &second)]);
    let mut served = serve(snapshot("  toolNamePrefix: never", &backends)).await;
    served.open().await;
    let called = async |name: &str| served.call(name).await["result"]["content"][0]["name"].clone();
    assert_eq!(
        called("second").await,
        "second",
        "known without having been listed"
    );
    let listed = served.ask("tools/list", json!({})).await;
    assert_eq!(names(&listed, "tools"), ["buy", "first", "second__buy", "second"]);
    assert_eq!(called("buy").await, "first");
    assert_eq!(called("second__buy").await, "second");
    let unknown = served.call("sell").await;
    assert_eq!(unknown["error"]["code"], -32602);
    let read = async |uri: &str| served.ask("resources/read", json!({ "uri": uri })).await;
    for (uri, whose) in [
        ("shop:second", "second"),
        ("shop:second/7", "second"),
        ("shop:first/7", "first"),
    ] {
        assert_eq!(
            read(uri).await["result"]["contents"][0],
            json!({ "uri": uri, "text": whose })
        );
    }
    let unknown = read("shop:third").await;
    assert_eq!(unknown["error"]["data"]["uri"], "shop:third");
}

/// One server is no exception: what has its prefix is found unless it is called so.
#[tokio::test]
async fn prefixed_names_are_known_without_prefixes() {
    for mode in ["never", "conditional"] {
        let only = start(
            "only",
            Box::new(|_, message| {
                let name = message["params"]["name"].clone();
                Some(match message["method"].as_str()? {
                    "tools/list" => result(message, json!({ "tools": [tool("a"), tool("only__b")] })),
                    "tools/call" => result(message, json!({ "content": [], "name": name })),
                    "resources/list" => {
                        result(message, json!({ "resources": [{ "uri": "u:a", "name": "a" }] }))
                    }
                    "resources/templates/list" => result(message, json!({ "resourceTemplates": [] })),
                    "resources/read" => {
                        let contents = json!([{ "uri": message["params"]["uri"], "text": "" }]);
                        result(message, json!({ "contents": contents }))
                    }
                    _ => return None,
                })
            }),
        )
        .await;
        let mut served = serve(snapshot(
            &format!("  toolNamePrefix: {mode}"),
            &plain(&[("only", &only)]),
        ))
        .await;
        served.open().await;
        for (name, own) in [
            ("only__a", "a"),
            ("a", "a"),
            ("only__b", "only__b"),
            ("x__y", "x__y"),
        ] {
            assert_eq!(served.call(name).await["result"]["name"], own, "{mode} {name}");
        }
        for (uri, own) in [("only+u:a", "u:a"), ("u:a", "u:a"), ("git+ssh:a", "git+ssh:a")] {
            let read = served.ask("resources/read", json!({ "uri": uri })).await;
            assert_eq!(read["result"]["contents"][0]["uri"], own, "{mode} {uri}");
        }
    }
}

/// Servers tell requests of one session apart by their ids.
#[tokio::test]
async fn lists_that_the_gateway_asks_for_have_ids_of_their_own() {
    let gate = Gate::new();
    let slow = async |name: &'static str| {
        let gate = gate.clone();
        let list = move |_: &testkit::upstream::Received, message: &Value| {
            (message["method"] == "tools/list").then(|| {
                let list = json!({ "jsonrpc": "2.0", "id": message["id"],
                    "result": { "tools": [tool(name)] } })
                .to_string();
                let length = list.len().to_string();
                let headers = [
                    ("content-type", "application/json"),
                    ("content-length", length.as_str()),
                ];
                Reply::new().wait(&gate).head(200, &headers).raw(list)
            })
        };
        start(name, Box::new(list)).await
    };
    let (one, two) = (slow("one").await, slow("two").await);
    let backends = plain(&[("one", &one), ("two", &two)]);
    let mut served = serve(snapshot("  toolNamePrefix: never", &backends)).await;
    served.open().await;
    let both = async { tokio::join!(served.call("one"), served.call("two")) };
    let open = async {
        let asked = one.received(4).await;
        gate.open();
        asked
    };
    let (_, asked) = tokio::join!(both, open);
    let ids: Vec<Value> = asked[2..4]
        .iter()
        .map(|asked| asked.json()["id"].clone())
        .collect();
    assert_ne!(ids[0], ids[1]);
}

/// What a server asks while the gateway looks for a name cannot be told to anybody, and the server is told so.
#[tokio::test]
async fn servers_that_ask_while_names_are_looked_for_are_not_kept_waiting() {
    let gate = Gate::new();
    let waits = gate.clone();
    let list = move |_: &testkit::upstream::Received, message: &Value| {
        let ask = json!({ "jsonrpc": "2.0", "id": "r", "method": "roots/list" });
        let list = json!({ "jsonrpc": "2.0", "id": message["id"], "result": { "tools": [tool("a")] } });
        match message["method"].as_str()? {
            "tools/list" => {
                let reply = Reply::stream().frame(event("", &ask)).wait(&waits);
                Some(reply.frame(event("", &list)).end())
            }
            "tools/call" => Some(result(message, json!({ "content": [] }))),
            _ => None,
        }
    };
    let (one, two) = (start("one", Box::new(list)).await, echo("two").await);
    let backends = plain(&[("one", &one), ("two", &two)]);
    let mut served = serve(snapshot("  toolNamePrefix: never", &backends)).await;
    served.open().await;
    let declined = async {
        let told = one.received(4).await;
        assert_eq!(
            (&told[3].json()["id"], &told[3].json()["error"]["code"]),
            (&json!("r"), &json!(-32601))
        );
        gate.open();
    };
    let (called, ()) = tokio::join!(served.call("a"), declined);
    assert_eq!(called["result"], json!({ "content": [] }), "{called}");
}

#[tokio::test]
async fn prefixed_uris_lead_back() {
    let (first, second) = (shop("first").await, shop("second").await);
    let served = open(&[("first", &first), ("second", &second)]).await;
    let listed = served.ask("resources/list", json!({})).await;
    let uri = &listed["result"]["resources"][1]["uri"];
    assert_eq!(uri, "second+shop:second");
    let read = served.ask("resources/read", json!({ "uri": uri })).await;
    assert_eq!(
        read["result"]["contents"][0],
        json!({ "uri": uri, "text": "second" })
    );
    let called = served.call("second__buy").await;
    assert_eq!(called["result"]["content"][0]["uri"], "second+shop:item/1");
}
