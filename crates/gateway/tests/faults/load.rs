//! Swaps of the configuration and the end of the process, while requests keep coming.

#![expect(clippy::disallowed_methods, reason = "clients ask beside each other")]

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use serde_json::Value;
use testkit::{Client, Gate, Provider, Reply, Script, Upstream};
use tokio::task::JoinSet;

use crate::setup::{Limits, Setup, frames, good, request, snapshot};

/// How many clients ask at the same time.
const CLIENTS: usize = 8;

/// Clients that ask one request after the other until they are stopped.
struct Load {
    clients: JoinSet<()>,
    stop: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
}

impl Load {
    fn start(address: SocketAddr) -> Self {
        let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut clients = JoinSet::new();
        for index in 0..CLIENTS {
            let (stop, served) = (stop.clone(), served.clone());
            clients.spawn(async move {
                let format = [Provider::OpenAi, Provider::Messages][index % 2];
                let mut connection = Client::connect(address).await;
                while !stop.load(Ordering::Relaxed) {
                    let stream = served.load(Ordering::Relaxed) % 2 == 0;
                    let (path, body) = request(format, stream);
                    connection
                        .post(path, &[], &body)
                        .await
                        .expect("the request is taken");
                    let answer = connection.answer().await.expect("there is an answer");
                    let text = answer.text();
                    assert_eq!(answer.status, 200, "{text}");
                    assert!(answer.whole, "{text}");
                    let ended = !stream || text.contains("[DONE]") || text.contains("message_stop");
                    assert!(ended, "{text}");
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        Self {
            clients,
            stop,
            served,
        }
    }

    /// Waits until so many more requests have been served.
    async fn progress(&self, more: usize) {
        let goal = self.served.load(Ordering::Relaxed) + more;
        while self.served.load(Ordering::Relaxed) < goal {
            tokio::task::yield_now().await;
        }
    }

    async fn stop(mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(done) = self.clients.join_next().await {
            if let Err(failed) = done {
                std::panic::resume_unwind(failed.into_panic());
            }
        }
        self.served.load(Ordering::Relaxed)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_swaps_under_load_fail_no_request() {
    let upstreams = [serving(Provider::OpenAi).await, serving(Provider::Messages).await];
    let [openai, messages] = [
        (Provider::OpenAi, upstreams[0].address()),
        (Provider::Messages, upstreams[1].address()),
    ];
    let setup = Setup::start(Limits::Patient, &[openai]).await;
    let load = Load::start(setup.address);
    for swap in 0..200 {
        let backends = match swap % 3 {
            0 => vec![messages],
            1 => vec![openai, messages],
            _ => vec![openai],
        };
        let swapped = setup.gateway.install(snapshot(Limits::Patient, &backends)).await;
        swapped.expect("the port is bound already");
        load.progress(2).await;
    }
    let served = load.stop().await;
    assert!(served >= 400, "{served} requests");
    setup.recorded(served as f64).await;
    assert!(upstreams.iter().all(|upstream| !upstream.requests().is_empty()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_under_load_fails_no_request() {
    let gate = Gate::new();
    let frames = frames(Provider::OpenAi);
    let held = Reply::stream()
        .frames(frames.iter().take(3))
        .wait(&gate)
        .frames(frames.iter().skip(3))
        .end();
    let upstream = Upstream::start(held).await;
    let setup = Setup::start(Limits::Patient, &[(Provider::OpenAi, upstream.address())]).await;
    let mut clients = JoinSet::new();
    for index in 0..4 * CLIENTS {
        let address = setup.address;
        clients.spawn(async move {
            let format = [Provider::OpenAi, Provider::Messages][index % 2];
            let (path, body) = request(format, true);
            let mut connection = Client::connect(address).await;
            connection
                .post(path, &[], &body)
                .await
                .expect("the request is taken");
            connection.answer().await.expect("there is an answer").text()
        });
    }
    upstream.received(4 * CLIENTS).await;
    let draining = {
        let gateway = setup.gateway.clone();
        async move { gateway.drain().await }
    };
    let mut draining = std::pin::pin!(draining);
    let refused = async {
        while tokio::net::TcpStream::connect(setup.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        () = &mut draining => panic!("the end came before the streams had finished"),
        () = refused => {}
    }
    gate.open();
    draining.await;
    let mut whole = 0;
    while let Some(text) = clients.join_next().await {
        let text = text.expect("the client has its answer");
        assert!(text.contains("[DONE]") || text.contains("message_stop"), "{text}");
        assert!(!text.contains("\"error\""), "{text}");
        whole += 1;
    }
    assert_eq!(whole, 4 * CLIENTS);
}

async fn serving(provider: Provider) -> Upstream {
    Upstream::start(Script::answer(move |request| {
        let stream = request.json().get("stream") == Some(&Value::Bool(true));
        good(provider, stream)
    }))
    .await
}
