//! Upstreams that are reached through a proxy.

use std::{fs, net::SocketAddr};

use serde_json::json;
use testkit::{Provider, Tunnel, client};

use crate::{
    process::Gateway,
    tls::{NAME, encrypt},
};

/// `user:pass`
const CREDENTIALS: &str = "Basic dXNlcjpwYXNz";

/// Asks through `proxy`, which is `how` it says besides, for an upstream at `host`.
async fn ask(
    proxy: &str,
    how: &str,
    (host, port): (&str, u16),
    tls: &str,
    variables: &[(&str, &str)],
) -> client::Answer {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.yaml");
    let endpoint = match host.parse::<std::net::IpAddr>() {
        Ok(_) => format!("ip: {{address: {host}, port: {port}}}"),
        Err(_) => format!("fqdn: {{hostname: {host}, port: {port}}}"),
    };
    let text = format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: edge, annotations: {{aigateway.envoyproxy.io/gateway-config: edge}}}}
spec: {{gatewayClassName: tollgate, listeners: [{{name: http, protocol: HTTP, port: 1975}}]}}
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: GatewayConfig
metadata: {{name: edge}}
spec: {{forwardProxy: {{address: \"{proxy}\", credentialsRef: {{name: proxy}}{how}}}}}
---
apiVersion: v1
kind: Secret
metadata: {{name: proxy}}
stringData: {{username: user, password: pass}}
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIGatewayRoute
metadata: {{name: chat}}
spec:
  parentRefs: [{{name: edge}}]
  rules:
    - matches: [{{headers: [{{name: x-ai-eg-model, value: gpt-5}}]}}]
      backendRefs: [{{name: up}}]
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIServiceBackend
metadata: {{name: up}}
spec: {{schema: {{name: OpenAI}}, backendRef: {{group: gateway.envoyproxy.io, kind: Backend, name: up}}}}
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: {{name: up}}
spec: {{endpoints: [{{{endpoint}}}]{tls}}}
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: BackendSecurityPolicy
metadata: {{name: up}}
spec:
  targetRefs: [{{group: aigateway.envoyproxy.io, kind: AIServiceBackend, name: up}}]
  type: APIKey
  apiKey: {{secretRef: {{name: up}}}}
---
apiVersion: v1
kind: Secret
metadata: {{name: up}}
stringData: {{apiKey: sk-upstream}}
"
    );
    fs::write(&file, text).unwrap();
    let gateway = Gateway::start(&[file.to_str().unwrap()], variables);
    let request = json!({"model": "gpt-5", "messages": [{"role": "user", "content": "Hello"}]});
    client::post(gateway.address, "/v1/chat/completions", &[], &request).await
}

#[tokio::test]
async fn a_proxy_connects_and_sees_nothing_else() {
    let upstream = Provider::OpenAi.start("sk-upstream").await;
    let port = upstream.address().port();
    let tunnel = Tunnel::start(Some(CREDENTIALS)).await;
    let proxy = tunnel.address().to_string();
    // The name means something to the proxy alone.
    let answer = ask(&proxy, "", ("models.internal", port), "", &[]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(
        tunnel.asked(),
        [format!("CONNECT models.internal:{port} HTTP/1.1")]
    );
    assert_eq!(
        upstream.requests()[0].header("host"),
        format!("models.internal:{port}")
    );
    assert_eq!(upstream.requests()[0].headers.get("proxy-authorization"), None);

    let direct = ", noProxy: [127.0.0.1]";
    let answer = ask(&proxy, direct, ("127.0.0.1", port), "", &[]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(tunnel.asked().len(), 1, "it was called directly");
}

#[tokio::test]
async fn a_proxy_that_refuses_is_like_a_host_that_cannot_be_reached() {
    let tunnel = Tunnel::start(Some("Basic other")).await;
    let proxy = tunnel.address().to_string();
    let answer = ask(&proxy, "", ("models.internal", 443), "", &[]).await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.text().contains("proxy"), "{}", answer.text());
    assert!(!answer.text().contains("pass"), "{}", answer.text());
}

/// TLS to the proxy, and within it TLS to the upstream, end to end.
#[tokio::test]
async fn both_ways_are_encrypted() {
    let upstream = Provider::OpenAi.start("sk-upstream").await;
    let tunnel = Tunnel::start(Some(CREDENTIALS)).await;
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    let proxy: SocketAddr = encrypt(tunnel.address(), &first).await;
    let secured = encrypt(upstream.address(), &second).await;
    let both = folder.path().join("both.pem");
    let authorities = [first, second].map(|file| fs::read_to_string(file).unwrap());
    fs::write(&both, authorities.concat()).unwrap();
    let variables = [("SSL_CERT_FILE", both.to_str().unwrap())];
    let to_proxy = format!(", tls: {{hostname: {NAME}}}");
    let to_upstream = format!(", tls: {{wellKnownCACertificates: System, sni: {NAME}}}");
    let to = (NAME, secured.port());
    let answer = ask(&proxy.to_string(), &to_proxy, to, &to_upstream, &variables).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(
        tunnel.asked(),
        [format!("CONNECT {NAME}:{} HTTP/1.1", secured.port())]
    );
}
