//! Answers that break off and are taken up again (revision 2025-11-25, "Resumability and Redelivery").

use serde_json::{Value, json};
use testkit::{Reply, Upstream, client};

use crate::{
    served::{PATH, data, id, request, serve, snapshot},
    server::{answer, echo, event, start},
};

/// A server that names a place and ends its stream, and answers when it is asked from there on.
pub(crate) async fn polled() -> Upstream {
    start(
        "polled",
        Box::new(|received, message| {
            let method = message["method"].as_str().unwrap_or_default();
            if method == "initialize" {
                let result = json!({ "protocolVersion": "2025-11-25", "capabilities": { "tools": {} },
                    "serverInfo": { "name": "polled", "version": "1" } });
                let body = answer(message, result).to_string();
                let headers = [("content-type", "application/json"), ("mcp-session-id", "s")];
                return Some(Reply::whole(200, &headers, &body));
            }
            let done = json!({ "jsonrpc": "2.0", "id": 5,
                "result": { "content": [{ "type": "resource_link", "uri": "u:a" }] } });
            match (received.method.as_str(), received.header("last-event-id")) {
                ("POST", _) if method == "tools/call" => Some(Reply::sse(["id: 41\nretry: 1\ndata: \n\n"])),
                ("GET", "41") => Some(Reply::sse([event("42", &done)])),
                ("GET", "") => Some(Reply::whole(405, &[], "")),
                ("GET", _) => Some(Reply::whole(404, &[], "")),
                _ => None,
            }
        }),
    )
    .await
}

fn expected() -> Value {
    json!({ "jsonrpc": "2.0", "id": 5,
        "result": { "content": [{ "type": "resource_link", "uri": "polled+u:a" }] } })
}

#[tokio::test]
async fn clients_come_back_for_the_rest() {
    let (upstream, other) = (polled().await, echo("other").await);
    let backends = [("polled", upstream.address(), ""), ("other", other.address(), "")];
    let mut served = serve(snapshot("", &backends)).await;
    served.open_with("2025-11-25").await;
    let call = request(5, "tools/call", &json!({ "name": "polled__x" }));
    let begun = served.send(&call).await;
    let frames = begun.frames();
    assert_eq!(frames.len(), 2, "{frames:?}");
    assert_eq!(frames[0], "retry: 1");
    let place = id(&frames[1]).to_owned();
    assert!(!place.is_empty() && frames[1].ends_with("data: "), "{frames:?}");
    let mut rest = served.listen(&[("last-event-id", &place)]).await;
    let rest = rest.answer().await.expect("a reply");
    let frames = rest.frames();
    assert_eq!(data(&frames[0]), expected());
    assert!(
        other.requests().iter().all(|request| request.method == "POST"),
        "only who answered is asked"
    );
}

/// Where it goes on a client may say with a message too: each server is told its own part, and no other.
#[tokio::test]
async fn messages_may_say_where_they_go_on() {
    let (upstream, other) = (polled().await, echo("other").await);
    let backends = [("polled", upstream.address(), ""), ("other", other.address(), "")];
    let mut served = serve(snapshot("", &backends)).await;
    served.open_with("2025-11-25").await;
    let call = request(5, "tools/call", &json!({ "name": "polled__x" }));
    let begun = served.send(&call).await;
    let place = id(&begun.frames()[1]).to_owned();
    for (name, upstream, expected) in [("polled__x", &upstream, "41"), ("other__echo", &other, "")] {
        let headers = [&*served.headers(), &[("last-event-id", &*place)]].concat();
        let call = request(6, "tools/call", &json!({ "name": name }));
        let answer = client::post(served.address, PATH, &headers, &call).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let sent = upstream.requests().pop().expect("the call");
        assert_eq!(sent.header("last-event-id"), expected, "{name}");
    }
    let headers = [&*served.headers(), &[("last-event-id", "e1.x")]].concat();
    let refused = client::post(served.address, PATH, &headers, &call).await;
    assert_eq!(refused.status, 400);
}

/// An error in a stream would be an answer to nothing.
#[tokio::test]
async fn what_cannot_be_gone_on_with_is_refused() {
    let (upstream, other) = (polled().await, echo("other").await);
    let backends = [("polled", upstream.address(), ""), ("other", other.address(), "")];
    let mut served = serve(snapshot("", &backends)).await;
    served.open_with("2025-11-25").await;
    let call = request(5, "tools/call", &json!({ "name": "polled__x" }));
    let begun = served.send(&call).await;
    let place = id(&begun.frames()[1]).to_owned();
    drop(upstream);
    let mut rest = served.listen(&[("last-event-id", &place)]).await;
    assert_eq!(rest.head().await.expect("a head").status, 502);
}

#[tokio::test]
async fn for_clients_that_cannot_the_gateway_does() {
    let (upstream, other) = (polled().await, echo("other").await);
    let backends = [("polled", upstream.address(), ""), ("other", other.address(), "")];
    let mut served = serve(snapshot("", &backends)).await;
    served.open_with("2025-06-18").await;
    let call = request(5, "tools/call", &json!({ "name": "polled__x" }));
    let answer = served.send(&call).await;
    assert_eq!(crate::served::last(&answer), expected(), "{}", answer.text());
}
