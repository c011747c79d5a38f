//! What of a server clients see, and under which names.

use serde_json::{Value, json};
use testkit::{Upstream, client};

use crate::{
    served::{PATH, Served, request, serve, snapshot},
    server::{echo, result, start, tool},
};

/// A server with something of every kind, which says what it was asked for.
async fn shop(name: &'static str) -> Upstream {
    start(
        name,
        Box::new(|_, message| {
            let params = &message["params"];
            let annotated = |name: &str, annotations: Value| {
                let mut tool = tool(name);
                tool["annotations"] = annotations;
                tool
            };
            Some(match message["method"].as_str()? {
                "tools/list" => result(
                    message,
                    json!({ "tools": [
                        annotated("look", json!({ "readOnlyHint": true })),
                        annotated("buy", json!({ "destructiveHint": false })),
                        tool("burn"),
                    ] }),
                ),
                "tools/call" => result(message, json!({ "content": [], "called": params["name"] })),
                "prompts/list" => result(message, json!({ "prompts": [{ "name": "ask" }, { "name": "secret" }] })),
                "prompts/get" => result(message, json!({ "messages": [], "got": params["name"] })),
                "resources/list" => result(
                    message,
                    json!({ "resources": [{ "uri": "shop:a", "name": "a" }, { "uri": "vault:b", "name": "b" }] }),
                ),
                "resources/templates/list" => result(
                    message,
                    json!({ "resourceTemplates": [{ "uriTemplate": "shop:{x}", "name": "x" },
                                                  { "uriTemplate": "vault:{x}", "name": "y" }] }),
                ),
                "resources/read" => result(message, json!({ "contents": [{ "uri": params["uri"], "text": "t" }] })),
                "resources/subscribe" => result(message, json!({})),
                "completion/complete" => result(message, json!({ "completion": { "values": [] } })),
                _ => return None,
            })
        }),
    )
    .await
}

async fn served(route: &str, shops: &[(&str, &Upstream, &str)]) -> Served {
    let backends: Vec<_> = shops
        .iter()
        .map(|(name, upstream, more)| (*name, upstream.address(), *more))
        .collect();
    let mut served = serve(snapshot(route, &backends)).await;
    served.open().await;
    served
}

/// Returns what a list holds, by this member of its items.
async fn listed(served: &Served, list: &str, member: &str) -> Vec<String> {
    let answer = served.ask(list, json!({})).await;
    let items = answer["result"].as_object().expect("a result").values().next();
    let items = items.and_then(Value::as_array).expect("a list");
    items
        .iter()
        .map(|item| item[member].as_str().expect("a name").to_owned())
        .collect()
}

#[tokio::test]
async fn prompts_and_resources_are_selected_too() {
    let upstream = shop("one").await;
    let more = "promptSelector: {exclude: [secret]}, resourceSelector: {includeRegex: [\"^shop:\"]}";
    for (route, prefix) in [("", ("one__", "one+")), ("  toolNamePrefix: never", ("", ""))] {
        let served = served(route, &[("one", &upstream, more)]).await;
        let (name, uri) = prefix;
        assert_eq!(
            listed(&served, "prompts/list", "name").await,
            [format!("{name}ask")]
        );
        assert_eq!(
            listed(&served, "resources/list", "uri").await,
            [format!("{uri}shop:a")]
        );
        assert_eq!(
            listed(&served, "resources/templates/list", "uriTemplate").await,
            [format!("{uri}shop:{{x}}")]
        );
        let before = upstream.requests().len();
        let reference = |kind: &str, key: &str, value: String| json!({ "ref": { "type": kind, key: value }, "argument": { "name": "x", "value": "" } });
        let check = async |method: &str, hidden: Value, unknown: Value| {
            let hidden = served.ask(method, hidden).await;
            let unknown = served.ask(method, unknown).await;
            assert_eq!(hidden["error"]["code"], unknown["error"]["code"], "{method}");
            assert!(hidden["error"]["code"].is_number(), "{method} {hidden}");
        };
        if !name.is_empty() {
            check(
                "prompts/get",
                json!({ "name": format!("{name}secret") }),
                json!({ "name": "two__x" }),
            )
            .await;
            check(
                "resources/read",
                json!({ "uri": format!("{uri}vault:b") }),
                json!({ "uri": "two+x:y" }),
            )
            .await;
        }
        for (method, hidden) in [
            ("prompts/get", json!({ "name": format!("{name}secret") })),
            ("resources/read", json!({ "uri": format!("{uri}vault:b") })),
            ("resources/subscribe", json!({ "uri": format!("{uri}vault:b") })),
            (
                "completion/complete",
                reference("ref/prompt", "name", format!("{name}secret")),
            ),
            (
                "completion/complete",
                reference("ref/resource", "uri", format!("{uri}vault:{{x}}")),
            ),
        ] {
            let refused = served.ask(method, hidden).await;
            assert!(refused["error"]["code"].is_number(), "{method} {refused}");
        }
        assert_eq!(
            upstream.requests().len(),
            before,
            "nothing of it reaches the server"
        );
        let read = served
            .ask("resources/read", json!({ "uri": format!("{uri}shop:7") }))
            .await;
        assert_eq!(read["result"]["contents"][0]["uri"], format!("{uri}shop:7"));
    }
}

#[tokio::test]
async fn tools_are_selected_by_what_they_say() {
    let upstream = shop("one").await;
    for (annotations, tools) in [
        ("readOnlyHint: true", vec!["one__look"]),
        ("destructiveHint: false", vec!["one__look", "one__buy"]),
        ("openWorldHint: false", vec![]),
    ] {
        let more = format!("toolAnnotations: {{{annotations}}}");
        let served = served("", &[("one", &upstream, &more)]).await;
        // Called before anything was listed.
        for name in ["one__look", "one__buy", "one__burn"] {
            let called = served.call(name).await;
            let offered = tools.contains(&name);
            assert_eq!(
                called["error"].is_null(),
                offered,
                "{annotations} {name} {called}"
            );
        }
        assert_eq!(served.call("one__nothing").await["error"]["code"], -32602);
        assert_eq!(listed(&served, "tools/list", "name").await, tools);
    }
}

#[tokio::test]
async fn tools_and_prompts_have_other_names() {
    let (first, second) = (shop("first").await, shop("second").await);
    let more = "alias: store, rename: [{tool: buy, to: purchase}, {tool: look, to: see, keepOriginal: true}, \
                {prompt: ask, to: secret}]";
    let backends = [
        ("first", &first, more),
        ("second", &second, "toolSelector: {include: [buy]}"),
    ];
    let called = async |served: &Served, name: &str| served.call(name).await["result"]["called"].clone();

    let always = served("", &backends).await;
    assert_eq!(
        listed(&always, "tools/list", "name").await,
        [
            "store__see",
            "store__look",
            "store__purchase",
            "store__burn",
            "second__buy"
        ]
    );
    // What has lost its name to another is not to be had.
    assert_eq!(
        listed(&always, "prompts/list", "name").await,
        ["store__secret", "second__ask", "second__secret"]
    );
    assert_eq!(called(&always, "store__purchase").await, "buy");
    assert_eq!(
        called(&always, "first__purchase").await,
        "buy",
        "by its own name too"
    );
    assert_eq!(called(&always, "store__look").await, "look");
    assert_eq!(called(&always, "store__see").await, "look");
    assert_eq!(always.call("store__buy").await["error"]["code"], -32602);
    let got = always
        .ask("prompts/get", json!({ "name": "store__secret" }))
        .await;
    assert_eq!(got["result"]["got"], "ask");
    let read = always
        .ask("resources/read", json!({ "uri": "store+shop:a" }))
        .await;
    assert_eq!(read["result"]["contents"][0]["uri"], "store+shop:a");

    let never = served("  toolNamePrefix: never", &backends).await;
    assert_eq!(
        listed(&never, "tools/list", "name").await,
        ["see", "look", "purchase", "burn", "buy"]
    );
    assert_eq!(called(&never, "purchase").await, "buy");
    assert_eq!(called(&never, "buy").await, "buy");
    let asked = |upstream: &Upstream| {
        let requests = upstream.requests();
        let calls = requests
            .iter()
            .filter(|request| request.json()["method"] == "tools/call");
        calls.count()
    };
    assert_eq!(asked(&second), 1, "what is called buy is the second's now");
}

#[tokio::test]
async fn names_may_be_longer_or_shorter() {
    let long = "x".repeat(60);
    let name = long.clone();
    let upstream = start(
        "one",
        Box::new(move |_, message| match message["method"].as_str()? {
            "tools/list" => Some(result(message, json!({ "tools": [tool(&name)] }))),
            "tools/call" => Some(result(
                message,
                json!({ "content": [], "called": message["params"]["name"] }),
            )),
            _ => None,
        }),
    )
    .await;
    for (route, length) in [
        ("", 64),
        ("  maxToolNameLength: 32", 32),
        ("  maxToolNameLength: 128", 65),
    ] {
        let served = served(route, &[("one", &upstream, "")]).await;
        let names = listed(&served, "tools/list", "name").await;
        let [name] = names.as_slice() else {
            panic!("{names:?}");
        };
        assert_eq!(name.len(), length, "{name}");
        assert_eq!(served.call(name).await["result"]["called"], long);
    }
}

#[tokio::test]
async fn a_route_may_serve_what_is_below_its_path() {
    let upstream = echo("one").await;
    let backends = [("one", upstream.address(), "")];
    let params = json!({ "protocolVersion": "2025-06-18" });
    let served = serve(snapshot("  pathMatch: prefix", &backends)).await;
    for (path, status) in [
        (PATH, 200),
        ("/mcp/", 200),
        ("/mcp/of/anybody", 200),
        ("/mcpx", 404),
        ("/other", 200),
    ] {
        let answer = client::post(served.address, path, &[], &request(0, "initialize", &params)).await;
        assert_eq!(answer.status, status, "{path}");
    }
}

#[tokio::test]
async fn sessions_end_with_a_change_where_the_route_says_so() {
    let (one, two) = (echo("one").await, echo("two").await);
    let list = request(1, "tools/list", &json!({}));
    let alone = [("one", one.address(), "")];
    let both = [("one", one.address(), ""), ("two", two.address(), "")];
    for (route, after) in [
        ("  onConfigChange: reinit", 404),
        ("  onConfigChange: overlay", 200),
        ("", 200),
    ] {
        let mut served = serve(snapshot(route, &alone)).await;
        served.open().await;
        served
            .gateway
            .install(snapshot(route, &alone))
            .await
            .expect("the port is free");
        assert_eq!(served.send(&list).await.status, 200, "nothing has changed");
        served
            .gateway
            .install(snapshot(route, &both))
            .await
            .expect("the port is free");
        assert_eq!(served.send(&list).await.status, after, "{route}");
        served.session.clear();
        served.open().await;
        assert_eq!(served.send(&list).await.status, 200);
    }
}

#[tokio::test]
async fn one_server_needs_no_prefix_where_the_route_says_so() {
    let (one, two) = (echo("one").await, echo("two").await);
    let route = "  toolNamePrefix: conditional";
    let alone = served(route, &[("one", &one, "")]).await;
    assert_eq!(listed(&alone, "tools/list", "name").await, ["echo", "hidden"]);
    assert_eq!(alone.call("echo").await["error"], Value::Null);
    // A name with a prefix means the same, whatever the mode, unless the server has a thing that is called so.
    alone.call("one__echo").await;
    let named = one.requests().pop().expect("the call").json()["params"]["name"].clone();
    assert_eq!(named, "echo");
    let both = served(route, &[("one", &one, ""), ("two", &two, "")]).await;
    let expected = ["one__echo", "one__hidden", "two__echo", "two__hidden"];
    assert_eq!(listed(&both, "tools/list", "name").await, expected);
}
