//! Logging in at the only server of a route.

use serde_json::{Value, json};
use testkit::{Reply, Upstream, client};

use crate::{
    served::{PATH, Served, plain, request, serve, snapshot},
    server::{echo, start},
};

/// A server that wants a token, and says at `found` where it is got.
async fn demanding(found: &'static str) -> Upstream {
    start(
        "one",
        Box::new(move |received, _| match received.method.as_str() {
            "GET" if received.target == found => Some(Reply::json(
                200,
                &json!({ "resource": "https://s.example/mcp", "authorization_servers": ["https://idp.example"],
                         "scopes_supported": ["read"] }),
            )),
            "GET" => Some(Reply::whole(404, &[], "")),
            _ => {
                let challenge = "Bearer resource_metadata=\"https://s.example/x\", scope=\"read\"";
                Some(Reply::whole(401, &[("www-authenticate", challenge)], ""))
            }
        }),
    )
    .await
}

async fn document(served: &Served, headers: &[(&str, &str)]) -> (u16, Value) {
    let path = "/.well-known/oauth-protected-resource/mcp";
    let answer = client::get(served.address, path, headers).await;
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    (answer.status, answer.json())
}

#[tokio::test]
async fn what_the_only_server_says_is_said_of_the_route() {
    for found in [
        "/.well-known/oauth-protected-resource/mcp",
        "/.well-known/oauth-protected-resource",
    ] {
        let upstream = demanding(found).await;
        let served = serve(snapshot("", &plain(&[("one", &upstream)]))).await;
        let headers = [("host", "localhost:1975")];
        let params = json!({ "protocolVersion": "2025-06-18" });
        let opened = client::post(served.address, PATH, &headers, &request(0, "initialize", &params)).await;
        assert_eq!(
            (opened.status, opened.header("www-authenticate")),
            (
                401,
                "Bearer resource_metadata=\"http://localhost:1975/.well-known/oauth-protected-resource/mcp\", \
                 scope=\"read\""
            )
        );
        let expected = |resource: &str| {
            json!({ "resource": resource, "authorization_servers": ["https://idp.example"],
                    "scopes_supported": ["read"] })
        };
        assert_eq!(
            document(&served, &headers).await,
            (200, expected("http://localhost:1975/mcp"))
        );
        let behind = [("host", "tools.example.com"), ("x-forwarded-proto", "https")];
        assert_eq!(
            document(&served, &behind).await,
            (200, expected("https://tools.example.com/mcp"))
        );
    }
}

#[tokio::test]
async fn nothing_is_said_where_there_is_nothing_to_say() {
    let (open, other) = (echo("one").await, echo("two").await);
    let served = serve(snapshot("", &plain(&[("one", &open)]))).await;
    assert_eq!(document(&served, &[]).await.0, 404, "the server asks nobody");
    let before = open.requests().len();
    let served = serve(snapshot("", &plain(&[("one", &open), ("two", &other)]))).await;
    let path = "/.well-known/oauth-protected-resource/mcp";
    assert_eq!(client::get(served.address, path, &[]).await.status, 404);
    assert_eq!(open.requests().len(), before, "of several servers none is asked");
}
