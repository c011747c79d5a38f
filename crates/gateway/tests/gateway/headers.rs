//! What crosses the gateway in headers, and what does not.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use gateway::Options;
use testkit::{Reply, Upstream, client, fixture};

use crate::{
    access,
    fixture::{CHAT, KEY, MODEL, openai, options, serve, to},
};

#[tokio::test]
async fn nothing_leaks_upstream() {
    let upstream = Upstream::start(Reply::json(200, &fixture::openai::response("gpt"))).await;
    let served = serve([openai(&upstream)]).await;
    let secrets = [
        ("authorization", "Bearer client-secret"),
        ("x-api-key", "client-secret"),
        ("api-key", "client-secret"),
        ("x-goog-api-key", "client-secret"),
        ("cookie", "client-secret"),
        ("x-aigw-token", "client-secret"),
        ("x-ai-eg-model", "forged"),
        ("x-envoy-original-path", "forged"),
        ("x-hop", "forged"),
        ("connection", "x-hop"),
    ];
    let mine = [
        ("user-agent", "sdk/1"),
        ("openai-organization", "org"),
        ("traceparent", "00-1-2-01"),
    ];
    let headers = [&secrets[..], &mine[..]].concat();
    let answer = client::post(
        served.address,
        CHAT,
        &headers,
        &fixture::openai::request(MODEL, false),
    )
    .await;
    assert_eq!(answer.status, 200);
    let received = &upstream.requests()[0];
    for (name, value) in &received.headers {
        let value = value.to_str().unwrap_or_default();
        assert!(
            !value.contains("client-secret") && value != "forged",
            "{name}: {value}"
        );
    }
    for (name, value) in mine {
        assert_eq!(received.header(name), value);
    }
    assert_eq!(received.header("authorization"), format!("Bearer {KEY}"));
    assert_eq!(received.header("host"), upstream.address().to_string());
    assert_eq!(received.header("accept-encoding"), "identity");
    assert_eq!(received.header("x-request-id"), answer.header("x-request-id"));
}

/// The key in its own header, the deployment and the version in the path, and nothing of the client's.
#[tokio::test]
async fn azure_is_called_in_its_way() {
    let upstream = Upstream::start(Reply::json(200, &fixture::openai::response("gpt"))).await;
    let served = serve([to(&llm::provider::Azure, upstream.address())]).await;
    let headers = [
        ("authorization", "Bearer client-secret"),
        ("api-key", "client-secret"),
    ];
    let request = fixture::openai::request(MODEL, false);
    let answer = client::post(served.address, CHAT, &headers, &request).await;
    assert_eq!(answer.status, 200);
    let received = &upstream.requests()[0];
    assert_eq!(
        received.target,
        format!("/openai/deployments/{MODEL}/chat/completions?api-version=2025-04-01-preview")
    );
    assert_eq!(received.header("api-key"), KEY);
    assert!(!received.headers.contains_key("authorization"));
}

#[tokio::test]
async fn nothing_leaks_to_the_client() {
    let body = fixture::openai::response("gpt").to_string();
    let headers = [
        ("content-type", "application/json"),
        ("set-cookie", "provider=1"),
        ("x-request-id", "req_provider"),
        ("x-ratelimit-remaining-tokens", "5"),
        ("keep-alive", "timeout=5"),
        ("x-hop", "1"),
        ("connection", "keep-alive, x-hop"),
    ];
    let upstream = Upstream::start(Reply::whole(200, &headers, &body)).await;
    let served = serve([openai(&upstream)]).await;
    let request = fixture::openai::request(MODEL, false);
    let answer = client::post(served.address, CHAT, &[("x-request-id", "mine")], &request).await;
    assert_eq!(answer.header("x-request-id"), "mine");
    assert_eq!(answer.header("x-upstream-request-id"), "req_provider");
    assert_eq!(answer.header("x-ratelimit-remaining-tokens"), "5");
    for name in ["set-cookie", "keep-alive", "x-hop", "transfer-encoding"] {
        assert_eq!(answer.header(name), "", "{name}");
    }
    assert_eq!(answer.header("content-length"), body.len().to_string());
    assert!(!answer.text().contains(KEY));
}

/// Where both families of addresses are served, one of the older is told as what it is, not as a part of the newer.
#[tokio::test]
async fn a_client_is_told_by_its_own_address() {
    let everywhere = IpAddr::from(Ipv6Addr::UNSPECIFIED);
    if std::net::TcpListener::bind((everywhere, 0)).is_err() {
        return;
    }
    let route = "---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: site}
spec:
  parentRefs: [{name: gateway}]
  rules: [{backendRefs: [{group: gateway.envoyproxy.io, kind: Backend, name: backend}]}]
";
    let options = Options {
        address: everywhere,
        ..options()
    };
    let setup = access::serve_with(options, &[], route).await;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, setup.served.address.port()));
    assert_eq!(client::get(address, "/page", &[]).await.status, 200);
    let received = &setup.upstream.requests()[0];
    assert_eq!(received.header("x-forwarded-for"), "127.0.0.1");
}
