//! Servers that want a token, which an authorization server issues to the gateway.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use config::Snapshot;
use serde_json::{Value, json};
use testkit::{Reply, Script, Upstream, issuer};

use crate::{
    served::{request, serve, snapshot_beside},
    server::{echoed, start},
};

const SECRET: &str = "s3cr3t&=";

/// An authorization server that issues `t-1`, `t-2` and so on to those who ask as they should.
async fn authorization() -> Upstream {
    let count = AtomicUsize::new(0);
    Upstream::start(Script::answer(move |received| {
        let own = format!("http://{}/realm", received.header("host"));
        match received.target.as_str() {
            "/.well-known/oauth-authorization-server/realm" => Reply::json(
                200,
                &json!({ "issuer": own, "token_endpoint": format!("{own}/token") }),
            ),
            "/realm/token" => {
                let wanted = [
                    ("grant_type", "client_credentials"),
                    ("client_id", "gateway"),
                    ("client_secret", SECRET),
                    ("scope", "read write"),
                    ("audience", "tools"),
                    ("resource", "https://tools.example/mcp"),
                ];
                let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                issuer::exchange(received, &wanted, &format!("t-{number}"), 3600)
            }
            _ => issuer::refused(404, "not_found"),
        }
    }))
    .await
}

/// A server that takes the token with this number and those after it.
async fn server(least: Arc<AtomicUsize>) -> Upstream {
    start(
        "one",
        Box::new(move |received, message| {
            let token = received.header("authorization").strip_prefix("Bearer t-");
            let number: usize = token.and_then(|number| number.parse().ok()).unwrap_or(0);
            if number < least.load(Ordering::SeqCst) {
                let challenge = [("www-authenticate", "Bearer error=\"invalid_token\"")];
                return Some(Reply::whole(401, &challenge, ""));
            }
            echoed(message)
        }),
    )
    .await
}

fn snapshot(server: &Upstream, authorization: &Upstream, secret: &str) -> Snapshot {
    let more = format!(
        "securityPolicy: {{clientCredentials: {{issuer: 'http://{}/realm', clientID: gateway, \
         clientSecretRef: {{name: one}}, scopes: [read, write], audience: tools, \
         resource: 'https://tools.example/mcp'}}}}",
        authorization.address()
    );
    let beside = format!(
        "---\n{{apiVersion: v1, kind: Secret, metadata: {{name: one}}, stringData: {{client-secret: '{secret}'}}}}\n"
    );
    snapshot_beside(&beside, "", &[("one", server.address(), &more)])
}

/// Returns how often a token was asked for.
fn asked(authorization: &Upstream) -> usize {
    let requests = authorization.requests();
    requests
        .iter()
        .filter(|request| request.target == "/realm/token")
        .count()
}

#[tokio::test]
async fn a_token_is_had_once_and_shown_with_every_call() {
    let (authorization, server) = (authorization().await, server(Arc::new(AtomicUsize::new(1))).await);
    // Two routes are served, each of which is a client of its own.
    let mut served = serve(snapshot(&server, &authorization, SECRET)).await;
    served.open().await;
    let calls = (0..8).map(|_| served.call("one__echo"));
    for answer in join(calls.collect()).await {
        assert!(answer["result"]["content"].is_array(), "{answer}");
    }
    for received in server.requests() {
        assert!(received.header("authorization").starts_with("Bearer t-"));
        for (name, value) in &received.headers {
            let value = String::from_utf8_lossy(value.as_bytes());
            assert!(!value.contains("s3cr3t"), "{name}");
        }
    }
    assert_eq!(asked(&authorization), 2);
}

async fn join<F: Future<Output = Value>>(calls: Vec<F>) -> Vec<Value> {
    let mut calls: Vec<_> = calls.into_iter().map(Box::pin).collect();
    let mut answers = Vec::new();
    std::future::poll_fn(|cx| {
        calls.retain_mut(|call| match call.as_mut().poll(cx) {
            std::task::Poll::Ready(answer) => {
                answers.push(answer);
                false
            }
            std::task::Poll::Pending => true,
        });
        if calls.is_empty() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    answers
}

#[tokio::test]
async fn a_token_that_is_not_taken_any_more_is_renewed_once() {
    let least = Arc::new(AtomicUsize::new(1));
    let (authorization, server) = (authorization().await, server(Arc::clone(&least)).await);
    let mut served = serve(snapshot(&server, &authorization, SECRET)).await;
    served.open().await;
    let before = asked(&authorization);
    // It was revoked while it was good still.
    least.store(before + 1, Ordering::SeqCst);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(40)).await;
    tokio::time::resume();
    let calls = (0..4).map(|_| served.call("one__echo"));
    for answer in join(calls.collect()).await {
        assert!(answer["result"]["content"].is_array(), "{answer}");
    }
    assert_eq!(asked(&authorization), before + 1);
    // A server that takes none does not become a flood of requests for others.
    least.store(usize::MAX, Ordering::SeqCst);
    for _ in 0..3 {
        let refused = served.call("one__echo").await;
        assert_eq!(refused["error"]["data"]["reason"], "status 401", "{refused}");
    }
    assert_eq!(asked(&authorization), before + 1);
}

#[tokio::test]
async fn without_a_token_the_server_is_not_called() {
    let (authorization, server) = (authorization().await, server(Arc::new(AtomicUsize::new(1))).await);
    let served = serve(snapshot(&server, &authorization, "another secret")).await;
    let params = json!({ "protocolVersion": "2025-06-18", "capabilities": {},
        "clientInfo": { "name": "test", "version": "1" } });
    let answer = served.send(&request(0, "initialize", &params)).await;
    assert_eq!(answer.status, 502, "{}", answer.text());
    let backends = &answer.json()["error"]["data"]["backends"];
    assert_eq!(
        backends,
        &json!([{ "backend": "one", "reason": "the credential of default/main/one is not available" }])
    );
    assert!(!answer.text().contains("secret\""), "{}", answer.text());
    assert!(server.requests().is_empty());
}
