//! What is refused, and how.

use serde_json::{Value, json};
use testkit::{Client, client};

use crate::{
    served::{PATH, open, plain, request, serve, snapshot},
    server::echo,
};

#[tokio::test]
async fn refusals_are_errors_of_the_protocol() {
    let upstream = echo("one").await;
    let served = open(&[("one", &upstream)]).await;
    let session = ("mcp-session-id", served.session.as_str());
    let json = ("content-type", "application/json");
    let check = async |verb: &str, headers: &[(&str, &str)], body: &str, status: u16, code: i32| {
        let mut client = Client::connect(served.address).await;
        let mut text = format!(
            "{verb} {PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n",
            body.len()
        );
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        client
            .send(format!("{text}\r\n{body}"))
            .await
            .expect("the request is taken");
        let answer = client.answer().await.expect("there is a reply");
        assert_eq!(
            answer.status,
            status,
            "{verb} {headers:?} {body} {}",
            answer.text()
        );
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(answer.json()["error"]["code"], code, "{body}");
        answer
    };
    let list = r#"{"jsonrpc":"2.0","id":"a","method":"tools/list"}"#;
    check("POST", &[json, session], "{", 400, -32700).await;
    check("POST", &[json, session], "[]", 400, -32600).await;
    check("POST", &[json, session], "{}", 400, -32600).await;
    check("POST", &[json], list, 400, -32600).await;
    let unknown = check("POST", &[json, ("mcp-session-id", "x")], list, 404, -32001).await;
    assert_eq!(unknown.json()["id"], "a");
    // That comes before whatever else is wrong with a message.
    check("POST", &[json, ("mcp-session-id", "x")], "{", 404, -32001).await;
    // One that is no text is not missing: whoever sends it opens another.
    check("POST", &[json, ("mcp-session-id", "\u{e9}")], list, 404, -32001).await;
    check(
        "POST",
        &[session, ("content-type", "text/plain")],
        list,
        415,
        -32600,
    )
    .await;
    check("POST", &[session], list, 415, -32600).await;
    check(
        "POST",
        &[json, session, ("accept", "text/html")],
        list,
        406,
        -32600,
    )
    .await;
    check(
        "POST",
        &[json, session, ("mcp-protocol-version", "1999-01-01")],
        list,
        400,
        -32022,
    )
    .await;
    check(
        "POST",
        &[json, session, ("origin", "https://evil.example")],
        list,
        403,
        -32000,
    )
    .await;
    check("POST", &[json, session, ("origin", "null")], list, 403, -32000).await;
    check("GET", &[session, ("accept", "application/json")], "", 406, -32600).await;
    check("GET", &[], "", 400, -32600).await;
    check("GET", &[session, ("last-event-id", "x")], "", 400, -32600).await;
    check("DELETE", &[], "", 400, -32600).await;
    let verb = check("PUT", &[session], "", 405, -32600).await;
    assert_eq!(verb.header("allow"), "GET, POST, DELETE");
    let cases = [
        ("nope", json!({}), -32601),
        ("initialize", json!({}), -32602),
        ("initialize", json!({ "protocolVersion": 1 }), -32602),
        ("tools/call", json!({}), -32602),
        ("tools/call", json!([]), -32602),
        ("tools/call", json!({ "name": "one" }), -32602),
        ("tools/call", json!({ "name": "two__x" }), -32602),
        ("tools/list", json!({ "cursor": "x" }), -32602),
        ("resources/read", json!({ "uri": "file:///x" }), -32002),
        ("resources/subscribe", json!({ "uri": "two+file:///x" }), -32602),
        ("completion/complete", json!({}), -32602),
        (
            "completion/complete",
            json!({ "ref": { "type": "ref/other" } }),
            -32602,
        ),
        ("logging/setLevel", json!({ "level": "loud" }), -32602),
    ];
    for (method, params, code) in cases {
        let body = request(1, method, &params).to_string();
        check("POST", &[json, session], &body, 200, code).await;
    }
}

#[tokio::test]
async fn web_pages_cannot_lead_here() {
    let upstream = echo("one").await;
    let host = async |route: &str, host: &str, origin: Option<&str>| {
        let served = serve(snapshot(route, &plain(&[("one", &upstream)]))).await;
        let headers: Vec<(&str, &str)> = [("host", host)]
            .into_iter()
            .chain(origin.map(|origin| ("origin", origin)))
            .collect();
        let params = json!({ "protocolVersion": "2025-06-18" });
        let answer = client::post(served.address, PATH, &headers, &request(0, "initialize", &params)).await;
        answer.status
    };
    for (route, name, origin, status) in [
        ("", "localhost:1975", None, 200),
        ("", "127.0.0.1", Some("http://localhost:6274"), 200),
        ("", "[::1]:1975", None, 200),
        ("", "evil.example.com", None, 403),
        ("", "localhost", Some("http://evil.example.com"), 403),
        (
            "  allowedHosts: [tools.example.com]",
            "tools.example.com:80",
            None,
            200,
        ),
        ("  allowedHosts: [tools.example.com]", "localhost", None, 403),
        (
            "  allowedOrigins: [\"https://app.example.com\"]",
            "localhost",
            Some("https://app.example.com"),
            200,
        ),
        (
            "  allowedOrigins: [\"https://app.example.com\"]",
            "localhost",
            Some("http://localhost"),
            403,
        ),
        ("  hostnames: [tools.example.com]", "tools.example.com", None, 200),
    ] {
        assert_eq!(
            host(route, name, origin).await,
            status,
            "{route} {name} {origin:?}"
        );
    }
}

#[tokio::test]
async fn no_server_at_all_is_an_error_that_names_them() {
    let refusing = testkit::Upstream::refusing();
    let served = serve(snapshot("", &[("gone", refusing.address, "")])).await;
    let params = json!({ "protocolVersion": "2025-06-18" });
    let answer = served.send(&request(0, "initialize", &params)).await;
    assert_eq!(answer.status, 502);
    assert_eq!(answer.json()["error"]["data"]["backends"][0]["backend"], "gone");
    assert_ne!(answer.json()["error"]["message"], Value::Null);
}
