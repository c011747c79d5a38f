//! Clients log in: documents that lead to the authorization server, challenges, and tokens that are not believed.

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use testkit::{client, signer::Signer};

use crate::{
    guarded::{Guarded, RESOURCE, guard, initialize},
    served::request,
};

#[tokio::test]
async fn documents_lead_to_the_authorization_server() {
    let guarded = guard("", "").await;
    let check = async |path: &str, expected: Option<Value>| {
        let answer = client::get(guarded.served.address, path, &[]).await;
        let Some(expected) = expected else {
            assert_eq!(answer.status, 404, "{path}");
            return;
        };
        assert_eq!((answer.status, answer.json()), (200, expected), "{path}");
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(answer.header("access-control-allow-origin"), "*");
        assert_eq!(answer.header("access-control-allow-methods"), "GET");
        assert_eq!(
            answer.header("access-control-allow-headers"),
            "mcp-protocol-version"
        );
    };
    let realm = guarded.realm();
    let resource = json!({
        "resource": RESOURCE, "authorization_servers": [realm], "bearer_methods_supported": ["header"],
        "resource_name": "Tools", "scopes_supported": ["read", "write"],
    });
    // As its server has it, and not what is known of it here.
    let server = json!({
        "issuer": realm, "jwks_uri": format!("http://{}/keys", guarded.issuer.address()),
        "authorization_endpoint": format!("{realm}/auth"), "client_id_metadata_document_supported": true,
    });
    check(
        "/.well-known/oauth-protected-resource/mcp",
        Some(resource.clone()),
    )
    .await;
    check("/.well-known/oauth-protected-resource/other", Some(resource)).await;
    check(
        "/.well-known/oauth-authorization-server/mcp",
        Some(server.clone()),
    )
    .await;
    check("/.well-known/openid-configuration/mcp", Some(server)).await;
    check("/.well-known/oauth-protected-resource", None).await;
    check("/.well-known/oauth-protected-resource/mcp/", None).await;
    check("/.well-known/oauth-authorization-server", None).await;
}

#[tokio::test]
async fn what_clients_are_told_of_the_authorization_server_may_be_declared() {
    let signer = Signer::new("k1");
    let keys = crate::guarded::issuer(&signer).await;
    let route = format!(
        "  securityPolicy:
    oauth:
      issuer: https://idp.example/realm
      protectedResourceMetadata: {{resource: '{RESOURCE}'}}
      authorizationServerMetadata:
        authorization_endpoint: https://login.example/authorize
        jwks_uri: http://{}/keys
        code_challenge_methods_supported: [S256]
      documentsAtRoot: true
",
        keys.address()
    );
    let server = crate::guarded::server().await;
    let snapshot = crate::served::snapshot(&route, &[("one", server.address(), "")]);
    let served = crate::served::serve(snapshot).await;
    let declared = json!({
        "issuer": "https://idp.example/realm", "authorization_endpoint": "https://login.example/authorize",
        "jwks_uri": format!("http://{}/keys", keys.address()), "code_challenge_methods_supported": ["S256"],
    });
    let resource = json!({
        "resource": RESOURCE, "authorization_servers": ["https://idp.example/realm"],
        "bearer_methods_supported": ["header"],
    });
    for (path, expected) in [
        ("/.well-known/oauth-authorization-server/mcp", &declared),
        ("/.well-known/oauth-authorization-server", &declared),
        ("/.well-known/openid-configuration", &declared),
        ("/.well-known/oauth-protected-resource", &resource),
    ] {
        let answer = client::get(served.address, path, &[]).await;
        assert_eq!((answer.status, &answer.json()), (200, expected), "{path}");
    }
    // Nobody but the keys' own place is asked.
    let claims = json!({ "iss": "https://idp.example/realm", "aud": RESOURCE, "sub": "a" });
    let token = format!("Bearer {}", signer.token(&claims));
    let headers = [("authorization", token.as_str())];
    let opened = client::post(served.address, "/mcp", &headers, &initialize()).await;
    assert_eq!(opened.status, 200, "{}", opened.text());
    let asked = keys.requests();
    assert!(asked.iter().all(|request| request.target == "/keys"), "{asked:?}");
}

/// Several routes may lie at one path, told apart by hosts or headers.
#[tokio::test]
async fn documents_are_those_of_the_host_and_of_the_headers() {
    let mut text = String::from(
        "{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: g}, spec: {gatewayClassName: t, \
         listeners: [{name: http, protocol: HTTP, port: 1}]}}\n",
    );
    let routes = [
        ("a", "hostnames: [a.example]"),
        ("b", "hostnames: [b.example]"),
        (
            "c",
            "hostnames: [b.example], headers: [{name: x-tenant, value: c}]",
        ),
    ];
    let keys = Signer::keys(&[&Signer::new("k1")]).to_string();
    for (name, more) in routes {
        let oauth = format!(
            "{{issuer: 'http://127.0.0.1:1/{name}', jwks: {{localJWKS: {{inline: '{keys}'}}}}, \
             protectedResourceMetadata: {{resource: 'https://{name}.example/mcp'}}}}"
        );
        text.push_str(&format!(
            "---\n{{apiVersion: aigateway.envoyproxy.io/v1beta1, kind: MCPRoute, metadata: {{name: {name}}}, \
             spec: {{parentRefs: [{{name: g}}], {more}, backendRefs: [{{name: p, stdio: {{command: none}}}}], \
             securityPolicy: {{oauth: {oauth}}}}}}}\n"
        ));
    }
    let served = crate::served::serve(crate::served::resolve(&text)).await;
    let path = "/.well-known/oauth-protected-resource/mcp";
    for (host, tenant, expected) in [
        ("a.example", "", "https://a.example/mcp"),
        ("b.example", "", "https://b.example/mcp"),
        ("b.example:8080", "d", "https://b.example/mcp"),
        ("b.example", "c", "https://c.example/mcp"),
    ] {
        let headers = [("host", host), ("x-tenant", tenant)];
        let headers = headers.into_iter().filter(|(_, value)| !value.is_empty());
        let answer = client::get(served.address, path, &headers.collect::<Vec<_>>()).await;
        assert_eq!(
            answer.json()["resource"],
            expected,
            "{host} {tenant}: {}",
            answer.text()
        );
        // And so do challenges.
        let headers = [("host", host), ("x-tenant", tenant)];
        let headers = headers.into_iter().filter(|(_, value)| !value.is_empty());
        let refused = client::post(
            served.address,
            "/mcp",
            &headers.collect::<Vec<_>>(),
            &initialize(),
        )
        .await;
        let own = expected.replace("/mcp", "/.well-known/oauth-protected-resource/mcp");
        assert!(
            refused.header("www-authenticate").contains(&own),
            "{host} {tenant}: {}",
            refused.header("www-authenticate")
        );
    }
    let elsewhere = client::get(served.address, path, &[("host", "c.example")]).await;
    assert_eq!(elsewhere.status, 404);
}

#[tokio::test]
async fn an_authorization_server_that_is_not_there_is_not_made_up() {
    let signer = Signer::new("k1");
    let keys = Signer::keys(&[&signer]).to_string();
    let gone = testkit::Upstream::refusing();
    let route = format!(
        "  securityPolicy:
    oauth:
      issuer: http://{}
      jwks: {{localJWKS: {{inline: '{keys}'}}}}
      protectedResourceMetadata: {{resource: '{RESOURCE}'}}
",
        gone.address
    );
    let server = crate::guarded::server().await;
    let snapshot = crate::served::snapshot(&route, &[("one", server.address(), "")]);
    let served = crate::served::serve(snapshot).await;
    let path = "/.well-known/oauth-authorization-server/mcp";
    assert_eq!(client::get(served.address, path, &[]).await.status, 503);
    // Keys that are declared do not depend on it.
    let claims = json!({ "iss": format!("http://{}", gone.address), "aud": RESOURCE, "sub": "a" });
    let token = format!("Bearer {}", signer.token(&claims));
    let headers = [("authorization", token.as_str())];
    let opened = client::post(served.address, "/mcp", &headers, &initialize()).await;
    assert_eq!(opened.status, 200, "{}", opened.text());
}

#[tokio::test]
async fn whoever_is_not_logged_in_is_told_where() {
    let guarded = guard("", "").await;
    let metadata = "resource_metadata=\"https://tools.example/.well-known/oauth-protected-resource/mcp\", \
                    scope=\"read write\"";
    let missing = guarded.send("", "", &initialize()).await;
    assert_eq!(missing.status, 401);
    assert_eq!(missing.header("www-authenticate"), format!("Bearer {metadata}"));
    assert_eq!(missing.header("access-control-allow-origin"), "*");
    assert_eq!(
        missing.header("access-control-expose-headers"),
        "www-authenticate, mcp-session-id"
    );
    let wrong = guarded.send("Bearer a.b.c", "", &initialize()).await;
    assert_eq!(
        wrong.header("www-authenticate"),
        format!(
            "Bearer error=\"invalid_token\", error_description=\"The access token is missing or invalid\", {metadata}"
        )
    );
    assert_eq!(wrong.json()["error"]["code"], -32000);
    assert!(guarded.server.requests().is_empty());
}

/// Tokens that must not be believed, whatever they say.
fn forged(guarded: &Guarded) -> Vec<(&'static str, String)> {
    let Guarded { signer, .. } = guarded;
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let good = guarded.claims(json!({}));
    let token = signer.token(&good);
    let (signed, signature) = token.rsplit_once('.').expect("three parts");
    let (header, _) = signed.split_once('.').expect("two parts");
    let by = |header: Value| signer.signed(&header, &good);
    let with = |claims: Value| signer.token(&guarded.claims(claims));
    let unsigned = |alg: &str| format!("{}.{}.", encode(&json!({ "alg": alg })), encode(&good));
    // What everybody knows of the key is no secret that signs.
    let known = Signer::keys(&[signer])["keys"][0].to_string();
    let shared = |secret: &str| {
        let signed = format!(
            "{}.{}",
            encode(&json!({ "alg": "HS256", "kid": "k1" })),
            encode(&good)
        );
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let signature = hmac::sign(&key, signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    };
    vec![
        ("no algorithm", unsigned("none")),
        ("no algorithm, spelt otherwise", unsigned("nOnE")),
        ("a shared secret", shared(&known)),
        ("an empty secret", shared("")),
        (
            "another algorithm than the key's",
            by(json!({ "alg": "RS256", "kid": "k1" })),
        ),
        (
            "another curve than the key's",
            by(json!({ "alg": "ES384", "kid": "k1" })),
        ),
        (
            "a key that is not known",
            by(json!({ "alg": "ES256", "kid": "k2" })),
        ),
        (
            "an extension",
            by(json!({ "alg": "ES256", "kid": "k1", "crit": ["x"], "x": 1 })),
        ),
        ("another key of the same name", Signer::new("k1").token(&good)),
        (
            "other claims",
            format!(
                "{header}.{}.{signature}",
                encode(&guarded.claims(json!({ "sub": "root" })))
            ),
        ),
        ("no signature", format!("{signed}.")),
        ("two parts", signed.to_owned()),
        ("four parts", format!("{token}.x")),
        ("another issuer", with(json!({ "iss": "https://evil.example" }))),
        (
            "an issuer like ours",
            with(json!({ "iss": format!("{}/", guarded.realm()) })),
        ),
        ("no issuer", with(json!({ "iss": null }))),
        (
            "another audience",
            with(json!({ "aud": "https://other.example/mcp" })),
        ),
        (
            "other audiences",
            with(json!({ "aud": ["https://other.example/mcp", 1] })),
        ),
        ("no audience", with(json!({ "aud": null }))),
        ("one that has expired", with(json!({ "exp": 1_000_000_000 }))),
        ("one whose end is no time", with(json!({ "exp": "never" }))),
        (
            "one that is not valid yet",
            with(json!({ "nbf": 4_000_000_000_u64 })),
        ),
        ("nothing", String::new()),
        ("one without end", "a".repeat(12_000)),
    ]
}

#[tokio::test]
async fn tokens_that_are_not_good_are_not_believed() {
    let guarded = guard("", "").await;
    guarded
        .open(&guarded.token(json!({ "aud": ["x", RESOURCE] })))
        .await;
    let before = guarded.server.requests().len();
    for (what, token) in forged(&guarded) {
        let answer = guarded.send(&format!("Bearer {token}"), "", &initialize()).await;
        assert_eq!(answer.status, 401, "{what}");
        assert!(!answer.text().contains("alice"), "{what}");
    }
    // A token in the query is not looked for, because it would stand in logs.
    let query = format!(
        "/mcp?access_token={}",
        guarded.signer.token(&guarded.claims(json!({})))
    );
    let answer = client::post(guarded.served.address, &query, &[], &initialize()).await;
    assert_eq!(answer.status, 401);
    assert_eq!(guarded.server.requests().len(), before);
}

#[tokio::test]
async fn audiences_may_be_named() {
    let guarded = guard("      audiences: [one, two]", "").await;
    for (audience, status) in [("two", 200), ("three", 401), (RESOURCE, 401)] {
        let token = guarded.token(json!({ "aud": audience }));
        let answer = guarded.send(&token, "", &initialize()).await;
        assert_eq!(answer.status, status, "{audience}");
    }
}

#[tokio::test]
async fn servers_are_told_claims_and_not_tokens() {
    let claims = "      claimToHeaders: [{claim: sub, header: x-user}, {claim: org.team, header: x-team}]";
    let guarded = guard(claims, "").await;
    let token = guarded.token(json!({ "org": { "team": "red" } }));
    let session = guarded.open(&token).await;
    let headers = [
        ("authorization", token.as_str()),
        ("mcp-session-id", session.as_str()),
        ("x-user", "root"),
        ("x-ai-eg-mcp-route", "default/other"),
    ];
    let call = request(1, "tools/call", &json!({ "name": "one__read" }));
    let called = client::post(guarded.served.address, "/mcp", &headers, &call).await;
    assert_eq!(called.json()["result"]["done"], true);
    let end = client::delete(guarded.served.address, "/mcp", &headers).await;
    assert_eq!(end.status, 200);
    let received = guarded.server.requests();
    assert_eq!(received.len(), 4);
    for request in received {
        assert_eq!(
            (request.header("x-user"), request.header("x-team")),
            ("alice", "red")
        );
        assert_eq!(request.header("authorization"), "");
        assert_eq!(request.header("x-ai-eg-mcp-route"), "");
    }
}
