//! Authorization, and pages in browsers.

use testkit::Client;

use super::{GATEWAY, policy, serve};
use crate::fixture::{CHAT, MESSAGES};

#[tokio::test]
async fn rules_decide() {
    let rules = "
authorization:
  defaultAction: Deny
  rules:
    - {action: Deny, principal: {headers: [{name: x-team, values: [banned]}]}}
    - action: Allow
      operation: {methods: [POST]}
      principal: {clientCIDRs: [127.0.0.0/8], headers: [{name: x-tier, values: [gold, silver]}]}
";
    let setup = serve(&["m"], &policy("rules", GATEWAY, rules)).await;
    setup.check("m", &[], 403).await;
    setup.check("m", &[("x-tier", "gold")], 200).await;
    setup.check("m", &[("x-tier", "bronze")], 403).await;
    setup
        .check("m", &[("x-tier", "gold"), ("x-team", "banned")], 403)
        .await;
    let denied = setup.ask_at(MESSAGES, "m", &[]).await;
    assert_eq!(denied.json()["error"]["type"], "permission_error");
    let listed = testkit::client::get(setup.served.address, "/v1/models", &[("x-tier", "gold")]).await;
    assert_eq!(listed.status, 403);
}

#[tokio::test]
async fn addresses_decide() {
    for (block, status) in [("127.0.0.1/32", 200), ("192.0.2.0/24", 403), ("::/0", 403)] {
        let rules =
            format!("authorization: {{rules: [{{action: Allow, principal: {{clientCIDRs: ['{block}']}}}}]}}");
        let setup = serve(&["m"], &policy("rules", GATEWAY, &rules)).await;
        // Nobody vouches for what a client says of its address.
        setup
            .check("m", &[("x-forwarded-for", "192.0.2.1")], status)
            .await;
    }
}

const CORS: &str = "
cors:
  allowOrigins: ['https://*.example']
  allowMethods: [GET, POST]
  allowHeaders: [authorization]
  exposeHeaders: [x-request-id]
  maxAge: 10m
authorization: {defaultAction: Allow, rules: [{action: Deny, principal: {headers: [{name: x-team, values: [banned]}]}}]}
";

#[tokio::test]
async fn pages_may_ask_first() {
    let setup = serve(&["m"], &policy("cors", GATEWAY, CORS)).await;
    for (origin, status, allowed) in [
        ("https://a.example", 200, "https://a.example"),
        ("https://evil", 405, ""),
    ] {
        let mut client = Client::connect(setup.served.address).await;
        let request = format!(
            "OPTIONS {CHAT} HTTP/1.1\r\nhost: a\r\norigin: {origin}\r\naccess-control-request-method: POST\r\n\r\n"
        );
        client.send(request).await.expect("sent");
        let answer = client.answer().await.expect("an answer");
        assert_eq!(answer.status, status, "{origin}");
        assert_eq!(answer.header("access-control-allow-origin"), allowed);
        if status == 200 {
            assert_eq!(answer.header("access-control-allow-methods"), "GET,POST");
            assert_eq!(answer.header("access-control-max-age"), "600");
            assert_eq!(answer.body, b"");
        }
    }
    assert!(setup.upstream.requests().is_empty());
}

#[tokio::test]
async fn pages_may_read_answers_and_refusals() {
    let setup = serve(&["m"], &policy("cors", GATEWAY, CORS)).await;
    let origin = ("origin", "https://a.example");
    for (headers, status) in [(&[origin][..], 200), (&[origin, ("x-team", "banned")], 403)] {
        let answer = setup.ask("m", headers).await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("access-control-allow-origin"), "https://a.example");
        assert_eq!(answer.header("access-control-expose-headers"), "x-request-id");
    }
    let other = setup.ask("m", &[("origin", "https://evil")]).await;
    assert_eq!(other.status, 200);
    assert_eq!(other.header("access-control-allow-origin"), "");
    assert_eq!(other.header("vary"), "origin");
}
