//! Snapshots are swapped under load, and a request sees one of them.

use std::sync::atomic::{AtomicBool, Ordering};

use config::snapshot::Timeouts;
use testkit::{Client, Gate, Reply, Upstream, fixture};
use tokio::net::{TcpListener, TcpStream};

use crate::fixture::{CHAT, MODEL, openai, serve, snapshot};

#[tokio::test]
async fn no_request_fails_while_snapshots_are_swapped() {
    let upstream = Upstream::start(Reply::json(200, &fixture::openai::response("gpt"))).await;
    let served = serve([openai(&upstream)]).await;
    let done = AtomicBool::new(false);
    let load = async {
        let mut client = Client::connect(served.address).await;
        let mut count = 0;
        while !done.load(Ordering::Relaxed) || count == 0 {
            client
                .post(CHAT, &[], &fixture::openai::request(MODEL, false))
                .await
                .expect("sent");
            assert_eq!(client.answer().await.expect("a reply").status, 200);
            count += 1;
        }
    };
    let reload = async {
        for _ in 0..200 {
            let next = snapshot(Timeouts::default(), [openai(&upstream)]);
            served
                .gateway
                .install(next)
                .await
                .expect("the port is served already");
            tokio::task::yield_now().await;
        }
        done.store(true, Ordering::Relaxed);
    };
    tokio::join!(load, reload);
    assert_eq!(upstream.connections(), 1, "pools are carried over");
}

#[tokio::test]
async fn a_request_keeps_the_snapshot_it_began_with() {
    let gate = Gate::new();
    let old = Upstream::start(Reply::new().wait(&gate).reset()).await;
    let fallback = Upstream::start(Reply::json(200, &fixture::openai::response("old"))).await;
    let new = Upstream::start(Reply::json(200, &fixture::openai::response("new"))).await;
    let served = serve([openai(&old), openai(&fallback).after()]).await;
    let mut client = Client::connect(served.address).await;
    client
        .post(CHAT, &[], &fixture::openai::request(MODEL, false))
        .await
        .expect("sent");
    old.received(1).await;
    let next = snapshot(Timeouts::default(), [openai(&new)]);
    served
        .gateway
        .install(next)
        .await
        .expect("the port is served already");
    gate.open();
    assert_eq!(client.answer().await.expect("a reply").json()["model"], "old");
    let answer = served.post(CHAT, &fixture::openai::request(MODEL, false)).await;
    assert_eq!(answer.json()["model"], "new");
}

#[tokio::test]
async fn a_port_that_is_taken_keeps_the_old_snapshot() {
    let upstream = Upstream::start(Reply::json(200, &fixture::openai::response("gpt"))).await;
    let served = serve([openai(&upstream)]).await;
    let mut next = snapshot(Timeouts::default(), []);
    let listener = next.listeners.remove(&0).expect("one listener");
    next.listeners.insert(upstream.address().port(), listener);
    let errors = served.gateway.install(next).await.expect_err("the port is taken");
    assert_eq!(errors[0].address.port(), upstream.address().port());
    let answer = served.post(CHAT, &fixture::openai::request(MODEL, false)).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn ports_come_and_go() {
    let upstream = Upstream::start(Reply::json(200, &fixture::openai::response("gpt"))).await;
    let served = serve([openai(&upstream)]).await;
    let mut client = Client::connect(served.address).await;
    let at = |port: u16| {
        let mut next = snapshot(Timeouts::default(), [openai(&upstream)]);
        if let Some(listener) = next.listeners.remove(&0) {
            next.listeners.insert(port, listener);
        }
        next
    };
    let probe = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = probe.local_addr().expect("bound").port();
    drop(probe);
    for _ in 0..20 {
        served.gateway.install(at(port)).await.expect("the port is free");
        assert_eq!(served.gateway.addresses()[0].port(), port);
        let nothing = config::Snapshot::default();
        served.gateway.install(nothing).await.expect("nothing to bind");
        assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err());
    }
    let closed = client
        .post(CHAT, &[], &fixture::openai::request(MODEL, false))
        .await;
    assert!(
        closed.is_err() || client.head().await.is_err(),
        "an idle connection ends with its port"
    );
}
