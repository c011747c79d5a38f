//! Edits and the end while clients ask without pause: no request fails.

use std::{
    fs,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::json;
use testkit::{Client, Reply, Script, Upstream, fixture};
use tokio::task::JoinSet;

use crate::{
    process::Gateway,
    run::{configuration, models, replace},
};

const CLIENTS: usize = 8;
const EDITS: usize = 10;

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::disallowed_methods, reason = "clients ask beside each other")]
async fn neither_edits_nor_the_end_fail_a_request() {
    let upstream = Upstream::start(Script::answer(|request| {
        if request.json()["stream"] == true {
            Reply::sse(fixture::openai::frames("gpt-5"))
        } else {
            Reply::json(200, &fixture::openai::response("gpt-5"))
        }
    }))
    .await;
    let port = upstream.address().port().to_string();
    let written = |edit: usize| configuration("gpt-5").replace("11434", &port) + &format!("# edit {edit}\n");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("routes.yaml");
    fs::write(&file, written(0)).unwrap();
    let mut gateway = Gateway::start(&[file.to_str().unwrap()], &[]);
    let answered = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for index in 0..CLIENTS {
        clients.spawn(ask(gateway.address, index, Arc::clone(&answered)));
    }
    for edit in 1..=EDITS {
        // Each edit adds a model, so that it is seen when it is served.
        let name = format!("model-{edit}");
        replace(&file, &(written(edit) + &crate::run::route(&name, &name)));
        while !models(&gateway).await.contains(&name) {
            gateway.hear("configuration reloaded");
        }
        let before = answered.load(Ordering::Relaxed);
        while answered.load(Ordering::Relaxed) < before + CLIENTS {
            let ended = clients.try_join_next();
            assert!(ended.is_none(), "a client gave up: {ended:?}");
            tokio::task::yield_now().await;
        }
    }
    gateway.signal("TERM");
    while let Some(asked) = clients.join_next().await {
        asked.expect("every request is answered until the port is closed");
    }
    assert_eq!(gateway.ended(), 0);
}

/// Asks until the port is closed, on connections that are kept as long as the gateway keeps them.
async fn ask(address: SocketAddr, index: usize, answered: Arc<AtomicUsize>) {
    let stream = index.is_multiple_of(2);
    let request = json!({
        "model": "gpt-5",
        "stream": stream,
        "messages": [{"role": "user", "content": "Hello"}],
    });
    loop {
        if tokio::net::TcpStream::connect(address).await.is_err() {
            return;
        }
        let mut client = Client::connect(address).await;
        loop {
            client
                .post("/v1/chat/completions", &[], &request)
                .await
                .expect("the request is taken");
            let answer = client.answer().await.expect("there is an answer");
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert!(!stream || answer.text().contains("[DONE]"), "{}", answer.text());
            answered.fetch_add(1, Ordering::Relaxed);
            if answer.header("connection") == "close" {
                break;
            }
        }
    }
}
