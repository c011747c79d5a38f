//! What whoever calls may use: rules about calls and lists, and servers that are selected.

use serde_json::{Value, json};
use testkit::client;

use crate::{
    guarded::{Guarded, guard, initialize, server},
    served::{PATH, request, serve, snapshot},
};

async fn call(
    guarded: &Guarded,
    token: &str,
    session: &str,
    method: &str,
    params: Value,
) -> (u16, Value, String) {
    let answer = guarded.send(token, session, &request(1, method, &params)).await;
    let challenge = answer.header("www-authenticate").to_owned();
    (answer.status, crate::served::last(&answer), challenge)
}

const RULES: &str = "    authorization:
      rules:
        - source: {jwt: {scopes: [read]}}
          target: {tools: [{backend: one, tool: read}]}
        - source: {jwt: {scopes: [read, write], claims: [{name: org.id, values: [o1]}]}}
          target: {tools: [{backend: one, toolRegex: '^wri'}]}
";

#[tokio::test]
async fn rules_decide_about_calls_and_lists() {
    let guarded = guard("", RULES).await;
    let check = async |claims: Value, shown: &[&str], write: u16, challenge: &str| {
        let token = guarded.token(claims);
        let session = guarded.open(&token).await;
        let listed = guarded.list(&token, &session, "tools/list").await;
        assert_eq!(listed, shown, "{token}");
        let params = json!({ "name": "one__write", "arguments": {} });
        let (status, answer, told) = call(&guarded, &token, &session, "tools/call", params).await;
        assert_eq!((status, told.as_str()), (write, challenge), "{answer}");
        if status == 403 {
            assert_eq!(answer["error"]["message"], "access denied");
            assert_eq!(answer["error"]["data"]["reason"], "access_denied");
        }
    };
    let step_up = "Bearer error=\"insufficient_scope\", scope=\"read write\", \
                   resource_metadata=\"https://tools.example/.well-known/oauth-protected-resource/mcp\", \
                   error_description=\"The token is missing required scopes\"";
    let org = json!({ "id": "o1" });
    check(
        json!({ "scope": "read write", "org": org }),
        &["one__read", "one__write"],
        200,
        "",
    )
    .await;
    check(
        json!({ "scp": ["read", "write"], "org": org }),
        &["one__read", "one__write"],
        200,
        "",
    )
    .await;
    check(
        json!({ "scope": "read", "org": org }),
        &["one__read"],
        403,
        step_up,
    )
    .await;
    // What no scope would mend is not asked for.
    check(
        json!({ "scope": "read write", "org": { "id": "o2" } }),
        &["one__read"],
        403,
        "",
    )
    .await;
    check(json!({}), &[], 403, "").await;
    let called = guarded.server.requests();
    let calls = called
        .iter()
        .filter(|request| request.json()["method"] == "tools/call");
    assert_eq!(calls.count(), 2, "what is denied is not asked for");
}

#[tokio::test]
async fn a_tool_that_no_list_shows_is_denied_all_the_same() {
    let guarded = guard("", RULES).await;
    let token = guarded.token(json!({ "scope": "read" }));
    let session = guarded.open(&token).await;
    for name in ["one__nowhere", "one__READ", "one__read "] {
        let (status, answer, _) =
            call(&guarded, &token, &session, "tools/call", json!({ "name": name })).await;
        assert_eq!(status, 403, "{name} {answer}");
    }
}

#[tokio::test]
async fn arguments_decide_and_what_fails_denies() {
    let rules = "    authorization:
      defaultAction: Allow
      rules:
        - action: Deny
          cel: request.mcp.tool == 'write' && request.mcp.params.arguments.path.startsWith('/etc')
        - action: Deny
          cel: request.mcp.tool == 'read' && request.auth.jwt.claims.level < 3
";
    let guarded = guard("", rules).await;
    let check = async |claims: Value, tool: &str, arguments: Value, expected: u16| {
        let token = guarded.token(claims);
        let session = guarded.open(&token).await;
        let params = json!({ "name": tool, "arguments": arguments });
        let (status, answer, _) = call(&guarded, &token, &session, "tools/call", params).await;
        assert_eq!(status, expected, "{tool} {answer}");
    };
    let level = |level: u8| json!({ "level": level });
    check(level(3), "one__write", json!({ "path": "/tmp/a" }), 200).await;
    check(level(3), "one__write", json!({ "path": "/etc/a" }), 403).await;
    // Neither can be told: the argument is no text, or is not there.
    check(level(3), "one__write", json!({ "path": 7 }), 403).await;
    check(level(3), "one__write", json!({}), 403).await;
    check(level(3), "one__read", json!({}), 200).await;
    check(level(2), "one__read", json!({}), 403).await;
    check(json!({}), "one__read", json!({}), 403).await;
    // What arguments decide is shown; what does not depend on them is not.
    let token = guarded.token(json!({}));
    let session = guarded.open(&token).await;
    assert_eq!(guarded.list(&token, &session, "tools/list").await, ["one__write"]);
}

#[tokio::test]
async fn prompts_and_resources_are_governed_too() {
    let rules = "    authorization:
      rules:
        - target:
            prompts: [{backend: one, prompt: a}]
            resources: [{backend: one, uriPrefix: 'file:///open/'}]
";
    let guarded = guard("", rules).await;
    let token = guarded.token(json!({}));
    let session = guarded.open(&token).await;
    let list = async |method: &str| guarded.list(&token, &session, method).await;
    assert_eq!(list("tools/list").await, [""; 0]);
    assert_eq!(list("prompts/list").await, ["one__a"]);
    assert_eq!(list("resources/list").await, ["one__x"]);
    let prompt = |name: &str| json!({ "ref": { "type": "ref/prompt", "name": name }, "argument": {} });
    for (method, params, expected) in [
        ("prompts/get", json!({ "name": "one__a" }), 200),
        ("prompts/get", json!({ "name": "one__b" }), 403),
        ("completion/complete", prompt("one__a"), 200),
        ("completion/complete", prompt("one__b"), 403),
        ("resources/read", json!({ "uri": "one+file:///open/x" }), 200),
        ("resources/read", json!({ "uri": "one+file:///y" }), 403),
        ("resources/subscribe", json!({ "uri": "one+file:///y" }), 403),
        ("tools/call", json!({ "name": "one__read" }), 403),
    ] {
        let (status, answer, _) = call(&guarded, &token, &session, method, params).await;
        assert_eq!(status, expected, "{method} {answer}");
    }
}

#[tokio::test]
async fn servers_are_selected_when_a_session_is_opened() {
    let selector = "  backendSelector:
    rules: [{cel: 'request.mcp.backend in request.auth.jwt.claims.servers'}]
";
    for (more, afterwards) in [("", 200), ("    perRequest: true\n", -32602)] {
        let guarded = guard("", &format!("{selector}{more}")).await;
        let one = guarded.token(json!({ "servers": ["one", "two"] }));
        let session = guarded.open(&one).await;
        assert_eq!(guarded.list(&one, &session, "tools/list").await.len(), 2);
        for servers in [json!(["two"]), json!([]), Value::Null] {
            let none = guarded.token(json!({ "servers": servers }));
            let refused = guarded.send(&none, "", &initialize()).await;
            assert_eq!(
                (refused.status, &refused.json()["error"]["message"]),
                (403, &json!("access denied"))
            );
        }
        // Whether what changes afterwards counts is the route's choice.
        let none = guarded.token(json!({ "servers": [] }));
        let params = json!({ "name": "one__read" });
        let (_, answer, _) = call(&guarded, &none, &session, "tools/call", params).await;
        let code = answer["error"]["code"].as_i64().unwrap_or(200);
        assert_eq!(code, afterwards, "{answer}");
    }
}

#[tokio::test]
async fn clients_cannot_say_which_servers_are_meant() {
    let route = "  backendSelector:
    rules: [{cel: \"request.headers['x-ai-eg-mcp-backend-subset'].contains(request.mcp.backend)\"}]
";
    let server = server().await;
    let served = serve(snapshot(route, &[("one", server.address(), "")])).await;
    let headers = [("x-ai-eg-mcp-backend-subset", "one")];
    let refused = client::post(served.address, PATH, &headers, &initialize()).await;
    assert_eq!(refused.status, 403);
}

/// What a rule forbids by its method is not done, whoever would be asked; what none names is open.
#[tokio::test]
async fn methods_are_governed_where_rules_name_them() {
    let methods = [
        "initialize",
        "ping",
        "logging/setLevel",
        "tools/list",
        "resources/templates/list",
        "server/discover",
        "subscriptions/listen",
    ];
    let server = server().await;
    let backends = [("one", server.address(), "")];
    let rules = |method: &str| {
        let rule = format!("{{action: Deny, target: {{methods: ['{method}']}}}}");
        format!("  securityPolicy: {{authorization: {{defaultAction: Allow, rules: [{rule}]}}}}\n")
    };
    for denied in methods {
        let mut served = serve(snapshot(&rules(denied), &backends)).await;
        let opened = client::post(served.address, PATH, &[], &initialize()).await;
        let expected = if denied == "initialize" { 403 } else { 200 };
        assert_eq!(opened.status, expected, "{denied}: {}", opened.text());
        served.session = opened.header("mcp-session-id").to_owned();
        let before = server.requests().len();
        for method in methods.iter().filter(|method| **method != "initialize") {
            let modern = matches!(*method, "server/discover" | "subscriptions/listen");
            if !modern && served.session.is_empty() || *method == "subscriptions/listen" && *method != denied
            {
                continue;
            }
            let params = match *method {
                "logging/setLevel" => json!({ "level": "info" }),
                "subscriptions/listen" => json!({ "notifications": { "toolsListChanged": true } }),
                _ => json!({}),
            };
            let status = if modern {
                served.modern(method, params, &json!({})).await.status
            } else {
                served.send(&request(1, method, &params)).await.status
            };
            let expected = if *method == denied { 403 } else { 200 };
            assert_eq!(status, expected, "{denied}: {method}");
        }
        if denied == "tools/list" {
            let listed = server.requests().split_off(before);
            let asked = listed
                .iter()
                .filter(|request| request.json()["method"] == "tools/list");
            assert_eq!(asked.count(), 0, "what is denied is not asked for");
        }
    }
}

/// A rule would read one of two arguments, and a server perhaps the other.
#[tokio::test]
async fn what_is_said_twice_is_no_argument() {
    let rules = "    authorization:
      rules: [{cel: 'request.mcp.params.arguments.path.startsWith(\"/open\")'}]
";
    let guarded = guard("", rules).await;
    let token = guarded.token(json!({}));
    let session = guarded.open(&token).await;
    let check = async |arguments: &str, expected: Value| {
        let body = format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\
             \"params\":{{\"name\":\"one__read\",\"arguments\":{arguments}}}}}"
        );
        let head = format!(
            "POST {PATH} HTTP/1.1\r\nhost: localhost\r\nauthorization: {token}\r\nmcp-session-id: {session}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let mut client = testkit::Client::connect(guarded.served.address).await;
        client.send(head + &body).await.expect("sent");
        let answer = client.answer().await.expect("an answer");
        let found = (answer.status, answer.json()["error"]["code"].clone());
        assert_eq!(found, (200, expected), "{arguments}: {}", answer.text());
    };
    check(r#"{"path":"/open/a"}"#, Value::Null).await;
    check(r#"{"path":"/etc","path":"/open/a"}"#, json!(-32602)).await;
    check(r#"{"path":"/open/a","more":[{"a":1,"a":2}]}"#, json!(-32602)).await;
    let called = guarded.server.requests();
    let calls = called
        .iter()
        .filter(|request| request.json()["method"] == "tools/call");
    assert_eq!(calls.count(), 1, "what is refused is not asked for");
}
