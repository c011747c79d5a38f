//! Sessions belong to whoever opened them.

use serde_json::{Value, json};
use testkit::{client, signer::Signer};

use crate::{
    guarded::{Guarded, guard, initialize, server},
    served::{PATH, request, serve, snapshot_beside},
};

/// Asks for a list; returns the status.
async fn status(guarded: &Guarded, token: &str, session: &str) -> u16 {
    guarded
        .send(token, session, &request(1, "tools/list", &json!({})))
        .await
        .status
}

#[tokio::test]
async fn a_session_is_of_one_subject() {
    let guarded = guard("", "").await;
    let alice = guarded.token(json!({}));
    let session = guarded.open(&alice).await;
    // The subject counts, not the token.
    let renewed = guarded.token(json!({ "jti": "2" }));
    let mallory = guarded.token(json!({ "sub": "mallory" }));
    let nobody = guarded.token(json!({ "sub": null }));
    for (token, expected) in [(&alice, 200), (&renewed, 200), (&mallory, 404), (&nobody, 404)] {
        assert_eq!(status(&guarded, token, &session).await, expected, "{token}");
    }
    // No method, and no verb, is an exception.
    let before = guarded.server.requests().len();
    let all = [
        request(1, "ping", &json!({})),
        request(1, "tools/call", &json!({ "name": "one__read" })),
        json!({ "jsonrpc": "2.0", "method": "notifications/roots/list_changed" }),
        json!({ "jsonrpc": "2.0", "id": "x", "result": {} }),
    ];
    for message in all {
        let answer = guarded.send(&mallory, &session, &message).await;
        assert_eq!(answer.status, 404, "{message}");
        assert_eq!(answer.json()["error"]["code"], -32001, "{message}");
    }
    let headers = [
        ("authorization", mallory.as_str()),
        ("mcp-session-id", session.as_str()),
        ("accept", "text/event-stream"),
    ];
    assert_eq!(
        client::get(guarded.served.address, PATH, &headers).await.status,
        404
    );
    assert_eq!(
        client::delete(guarded.served.address, PATH, &headers)
            .await
            .status,
        404
    );
    assert_eq!(guarded.server.requests().len(), before);
    assert_eq!(status(&guarded, &alice, &session).await, 200);
}

/// Some issuers leave the subject out; that does not make one of all who have their tokens.
#[tokio::test]
async fn tokens_about_nobody_are_not_all_of_one() {
    let guarded = guard("", "").await;
    let token = |more: Value| {
        let mut claims = json!({ "sub": null, "scope": "read" });
        for (name, value) in more.as_object().expect("an object") {
            claims[name] = value.clone();
        }
        guarded.token(claims)
    };
    let first = token(json!({ "sid": "1", "jti": "a" }));
    let session = guarded.open(&first).await;
    let renewed = token(json!({ "sid": "1", "jti": "b", "exp": 4_000_000_001_u64, "scope": "read write" }));
    let other = token(json!({ "sid": "2", "jti": "a" }));
    for (token, expected) in [(&first, 200), (&renewed, 200), (&other, 404)] {
        assert_eq!(status(&guarded, token, &session).await, expected, "{token}");
    }
}

#[tokio::test]
async fn what_is_no_session_of_ours_opens_nothing() {
    let guarded = guard("", "").await;
    let alice = guarded.token(json!({}));
    let session = guarded.open(&alice).await;
    let before = guarded.server.requests().len();
    // Every part of a token counts: the mark, the nonce, the sealed text and its tag.
    let places = (0..session.len()).step_by(7).chain([session.len() - 1]);
    for place in places {
        let mut changed = session.clone().into_bytes();
        changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).expect("ASCII");
        assert_eq!(status(&guarded, &alice, &changed).await, 404, "{place}");
    }
    let (cut, longer) = (session[..session.len() - 4].to_owned(), format!("{session}AAAA"));
    let plain = "ZGVmYXVsdC9tYWluQGFsaWNlQG9uZTo6MWZm".to_owned();
    let twice = format!("{session}{session}");
    for made_up in [
        cut,
        longer,
        plain,
        twice,
        "g1.".to_owned(),
        "x".to_owned(),
        "A".repeat(9_000),
    ] {
        assert_eq!(status(&guarded, &alice, &made_up).await, 404, "{made_up}");
    }
    // Of another route.
    let headers = [
        ("authorization", alice.as_str()),
        ("mcp-session-id", session.as_str()),
    ];
    let list = request(1, "tools/list", &json!({}));
    let answer = client::post(guarded.served.address, "/other", &headers, &list).await;
    assert_eq!(answer.status, 404);
    // One that was ended.
    assert_eq!(guarded.server.requests().len(), before);
    assert_eq!(
        client::delete(guarded.served.address, PATH, &headers)
            .await
            .status,
        200
    );
    assert_eq!(status(&guarded, &alice, &session).await, 404);
}

#[tokio::test]
async fn a_session_ends() {
    let guarded = guard("", "  sessionTTL: 2s").await;
    let alice = guarded.token(json!({}));
    let session = guarded.open(&alice).await;
    let mut said = Vec::new();
    while said.last() != Some(&404) {
        said.push(status(&guarded, &alice, &session).await);
    }
    assert_eq!(said.first(), Some(&200), "it was good before");
    assert!(said.iter().rev().skip(1).all(|status| *status == 200));
}

#[tokio::test]
async fn a_session_is_of_the_client_whose_key_it_is() {
    let server = server().await;
    let keys =
        "---\napiVersion: v1\nkind: Secret\nmetadata: {name: keys}\nstringData: {ann: sk-1, bob: sk-2}\n";
    let route = "  securityPolicy:
    apiKeyAuth:
      credentialRefs: [{name: keys}]
      extractFrom: [{headers: [x-key]}]
      forwardClientIDHeader: x-client
      sanitize: true
";
    let served = serve(snapshot_beside(keys, route, &[("one", server.address(), "")])).await;
    let send = async |key: &str, session: &str, message: &Value| {
        let headers = [("x-key", key), ("mcp-session-id", session), ("x-client", "root")];
        let headers = headers.into_iter().filter(|(_, value)| !value.is_empty());
        client::post(served.address, PATH, &headers.collect::<Vec<_>>(), message).await
    };
    for wrong in ["", "sk-3"] {
        let answer = send(wrong, "", &initialize()).await;
        assert_eq!(answer.status, 401);
        assert!(!answer.header("www-authenticate").contains("resource_metadata"));
    }
    let session = send("sk-1", "", &initialize())
        .await
        .header("mcp-session-id")
        .to_owned();
    let list = request(1, "tools/list", &json!({}));
    assert_eq!(send("sk-1", &session, &list).await.status, 200);
    assert_eq!(send("sk-2", &session, &list).await.status, 404);
    for request in server.requests() {
        assert_eq!((request.header("x-client"), request.header("x-key")), ("ann", ""));
    }
}

/// With keys alone nobody looks at tokens, so that whatever one says is made up.
#[tokio::test]
async fn what_nobody_has_verified_is_no_claim() {
    let server = server().await;
    let keys = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: keys}\nstringData: {ann: sk-1}\n";
    let route = "  securityPolicy:
    apiKeyAuth: {credentialRefs: [{name: keys}], extractFrom: [{headers: [x-key]}]}
    authorization:
      rules:
        - {target: {tools: [{backend: one, tool: write}]}, cel: 'request.auth.jwt.claims.role == \"admin\"'}
        - {target: {tools: [{backend: one, tool: read}]}, cel: '!has(request.auth.jwt.claims.role)'}
";
    let served = serve(snapshot_beside(keys, route, &[("one", server.address(), "")])).await;
    let token = format!(
        "Bearer {}",
        Signer::new("k").token(&json!({ "sub": "ann", "role": "admin" }))
    );
    let send = async |session: &str, message: &Value| {
        let headers = [
            ("x-key", "sk-1"),
            ("authorization", token.as_str()),
            ("mcp-session-id", session),
        ];
        let headers = headers.into_iter().filter(|(_, value)| !value.is_empty());
        client::post(served.address, PATH, &headers.collect::<Vec<_>>(), message).await
    };
    let opened = send("", &initialize()).await;
    let session = opened.header("mcp-session-id");
    for (tool, expected) in [("one__write", 403), ("one__read", 200)] {
        let call = request(1, "tools/call", &json!({ "name": tool }));
        assert_eq!(send(session, &call).await.status, expected, "{tool}");
    }
}
