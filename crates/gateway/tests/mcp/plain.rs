//! Refusals as the compatibility specification's gateway says them.

use serde_json::{Value, json};
use testkit::{Reply, Upstream, client};

use crate::{
    served::{PATH, request, serve, snapshot},
    server::{echoed, start},
};

#[tokio::test]
async fn refusals_are_told_in_plain_text() {
    let upstream = start(
        "one",
        Box::new(|_, message| match message["params"]["name"].as_str() {
            Some("broken") => Some(Reply::whole(503, &[], "secret")),
            Some("wrong") => Some(Reply::json(
                200,
                &json!({ "jsonrpc": "2.0", "id": message["id"], "error": { "code": -1, "message": "no" } }),
            )),
            _ => echoed(message),
        }),
    )
    .await;
    let gone = Upstream::refusing();
    let backends = [
        ("one", upstream.address(), "toolSelector: {exclude: [hidden]}"),
        ("gone", gone.address, ""),
    ];
    let mut served = serve(snapshot("  errorFormat: text", &backends)).await;
    served.open().await;
    let session = served.session.clone();
    let check = async |session: &str, message: &Value, status: u16, text: &str| {
        let headers = [("mcp-session-id", session)];
        let headers = &headers[..usize::from(!session.is_empty())];
        let answer = client::post(served.address, PATH, headers, message).await;
        assert_eq!(
            (answer.status, answer.text()),
            (status, text.to_owned()),
            "{message}"
        );
        assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
    };
    let list = request(1, "tools/list", &json!({}));
    check("x", &list, 400, "invalid session ID: session not found").await;
    check("", &list, 400, "missing session ID").await;
    let text = "invalid JSON-RPC message: \"jsonrpc\" must be \"2.0\"";
    check(&session, &json!({}), 400, text).await;
    let named = |name: &str| json!({ "name": name });
    for (method, params, status, text) in [
        ("nope", json!({}), 400, "unsupported method: nope"),
        ("tools/call", json!([]), 400, "invalid params"),
        (
            "tools/call",
            named("x"),
            400,
            "invalid tool name x: it has no prefix",
        ),
        (
            "prompts/get",
            named("x"),
            400,
            "invalid prompt name x: it has no prefix",
        ),
        ("tools/call", named("two__x"), 404, "unknown backend two"),
        (
            "tools/call",
            named("one__hidden"),
            400,
            "invalid tool name: hidden",
        ),
        (
            "tools/call",
            named("gone__x"),
            403,
            "no MCP session found for backend gone",
        ),
        (
            "tools/call",
            named("one__broken"),
            500,
            "call to one failed with status code 503",
        ),
        (
            "resources/read",
            json!({ "uri": "file:///x" }),
            400,
            "invalid resource name file:///x: it has no prefix",
        ),
        (
            "resources/read",
            json!({ "uri": "two+x:y" }),
            404,
            "unknown backend two",
        ),
        (
            "completion/complete",
            json!({ "ref": { "type": "ref/other" } }),
            404,
            "unknown backend ",
        ),
        (
            "logging/setLevel",
            json!({ "level": "loud" }),
            400,
            "invalid set logging level params",
        ),
    ] {
        check(&session, &request(1, method, &params), status, text).await;
    }
    let answer = json!({ "jsonrpc": "2.0", "id": "x", "result": {} });
    check(&session, &answer, 400, "invalid response ID format").await;
    // What a server answers is no refusal, and clients of the later line are told as ever.
    let wrong = served.call("one__wrong").await;
    assert_eq!(wrong["error"]["message"], "no");
    let refused = served.modern("tools/call", named("two__x"), &json!({})).await;
    assert_eq!(
        (refused.status, &refused.json()["error"]["code"]),
        (400, &json!(-32602))
    );
}

#[tokio::test]
async fn a_session_that_cannot_be_opened_is_told_in_plain_text() {
    let gone = Upstream::refusing();
    let served = serve(snapshot("  errorFormat: text", &[("gone", gone.address, "")])).await;
    let params = json!({ "protocolVersion": "2025-06-18" });
    let answer = served.send(&request(0, "initialize", &params)).await;
    assert_eq!(answer.status, 500);
    assert!(
        answer.text().starts_with("failed to create new session: "),
        "{}",
        answer.text()
    );
}
