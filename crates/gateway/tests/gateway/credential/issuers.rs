//! The way to those who issue tokens, and what is told of what they issue.

use std::net::SocketAddr;

use config::{
    Secret,
    credential::{Application, AzureProof, Source},
    snapshot::Timeouts,
};
use gateway::{Gateway, Options};
use testkit::{Reply, Tunnel, Upstream, issuer};

use super::{
    bearer,
    token::{ask, azure, serve, upstream},
};
use crate::fixture::{To, openai, options, serve as serve_all, snapshot};

/// Where the gateway finds the proxy on the way to Entra.
const PROXY: &str = "AI_GATEWAY_AZURE_PROXY_URL";

fn at(authority: String) -> Source {
    let application = Application {
        authority,
        tenant: "tenant".to_owned(),
        client: "client".to_owned(),
    };
    azure(AzureProof::Secret(application, Secret::new("s3cr3t")))
}

fn variable(tunnel: SocketAddr) -> [(&'static str, String); 1] {
    [(PROXY, format!("http://me:p%40ss@{tunnel}"))]
}

#[tokio::test]
async fn issuers_are_asked_through_a_proxy() {
    let tunnel = Tunnel::start(Some("Basic bWU6cEBzcw==")).await;
    let issuer = Upstream::start(issuer::issued("entra-1", 3600)).await;
    let upstream = upstream().await;
    let elsewhere = format!("issuer.test:{}", issuer.address().port());
    let source = at(format!("http://{elsewhere}"));
    let served = serve(&upstream, source, &variable(tunnel.address())).await;
    assert_eq!(ask(&served).await.status, 200);
    assert_eq!(upstream.requests()[0].header("authorization"), "Bearer entra-1");
    let asked = tunnel.asked();
    // Upstreams are not called through it.
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert!(asked[0].contains(&elsewhere), "{asked:?}");
}

#[tokio::test]
async fn this_machine_is_asked_directly() {
    let tunnel = Tunnel::start(None).await;
    let issuer = Upstream::start(issuer::issued("entra-1", 3600)).await;
    let upstream = upstream().await;
    let source = at(format!("http://{}", issuer.address()));
    let served = serve(&upstream, source, &variable(tunnel.address())).await;
    assert_eq!(ask(&served).await.status, 200);
    assert_eq!(tunnel.asked().len(), 0);
}

#[tokio::test]
async fn a_variable_that_names_no_proxy_is_told_without_its_value() {
    let options = Options {
        variables: [(PROXY.to_owned(), "socks5://me:s3cr3t@proxy".to_owned())].into(),
        ..options()
    };
    let error = Gateway::start(options).await.err();
    let error = error.expect("there is no proxy").to_string();
    assert!(error.contains(PROXY) && !error.contains("s3cr3t"), "{error}");
}

#[tokio::test]
async fn credentials_tell_how_they_stand() {
    let upstream = upstream().await;
    let good = Upstream::start(issuer::issued("entra-1", 3600)).await;
    let served = serve(&upstream, at(format!("http://{}", good.address())), &[]).await;
    assert_eq!(ask(&served).await.status, 200);
    let told = served.admin("/credentials").await.json();
    let standing = &told["credentials"][0];
    assert_eq!(standing["policy"], "default/token");
    assert_eq!(
        (&standing["ready"], standing["error"].is_null()),
        (&true.into(), true)
    );
    let time = |name: &str| -> jiff::Timestamp {
        let text = standing[name].as_str().expect("a time");
        text.parse().expect("a time")
    };
    let life = time("expires").duration_since(time("issued")).as_secs();
    assert!((3598..=3601).contains(&life), "{told}");

    let bad = Upstream::start(Reply::json(
        401,
        &serde_json::json!({ "error": "invalid_client" }),
    ))
    .await;
    let served = serve(&upstream, at(format!("http://{}", bad.address())), &[]).await;
    assert_eq!(ask(&served).await.status, 503);
    let told = served.admin("/credentials").await;
    let standing = told.json()["credentials"][0].clone();
    assert_eq!(standing["ready"], false);
    assert_eq!(
        standing["error"],
        "the issuer refused with status 401: invalid_client"
    );
    assert!(!told.text().contains("s3cr3t") && !told.text().contains("entra-1"));
}

#[tokio::test]
async fn an_issuer_that_does_not_answer_delays_no_other() {
    let silent = Upstream::start(Reply::new().stall()).await;
    let good = Upstream::start(issuer::issued("entra-1", 3600)).await;
    let (one, other) = (upstream().await, upstream().await);
    let with = |upstream: &Upstream, policy: &str, issuer: &Upstream| {
        let source = at(format!("http://{}", issuer.address()));
        openai(upstream).with(bearer(policy, source))
    };
    let blocked = with(&one, "default/silent", &silent);
    let free = with(&other, "default/good", &good);
    let served = serve_all([To { weight: 0, ..blocked }, free]).await;
    silent.received(1).await;
    assert_eq!(ask(&served).await.status, 200);
    assert_eq!(other.requests()[0].header("authorization"), "Bearer entra-1");
    let told = served.admin("/credentials").await.json();
    let ready = told["credentials"].as_array().expect("a list").iter();
    let ready: Vec<_> = ready.map(|one| (&one["policy"], &one["ready"])).collect();
    assert_eq!(
        ready,
        [
            (&"default/good".into(), &true.into()),
            (&"default/silent".into(), &false.into())
        ]
    );
}

#[tokio::test]
async fn a_changed_key_is_used_without_a_failed_request() {
    let upstream = upstream().await;
    let with = |key: &str| {
        let source = Source::Key(Secret::new(key));
        openai(&upstream).with(bearer("default/key", source))
    };
    let served = serve_all([with("first")]).await;
    for key in ["second", "third"] {
        assert_eq!(ask(&served).await.status, 200);
        let snapshot = snapshot(Timeouts::default(), [with(key)]);
        served.gateway.install(snapshot).await.expect("the port is kept");
    }
    assert_eq!(ask(&served).await.status, 200);
    let keys: Vec<String> = upstream
        .requests()
        .iter()
        .map(|request| request.header("authorization").to_owned())
        .collect();
    assert_eq!(keys, ["Bearer first", "Bearer second", "Bearer third"]);
}
