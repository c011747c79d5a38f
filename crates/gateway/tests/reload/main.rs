//! A thousand reloads under load, with streams open all the while: nothing fails, and nothing is left behind.
//!
//! A program of its own, because it measures the memory of the process that it runs in.

#![expect(clippy::disallowed_methods, reason = "clients ask beside each other")]

use std::{
    fmt::Write as _,
    fs,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use config::{Resources, Snapshot, Surroundings};
use gateway::{Gateway, Options};
use testkit::{Client, Gate, Received, Reply, Script, Upstream, fixture};
use tokio::task::JoinSet;

const RELOADS: usize = 1000;

/// Reloads after which memory is taken to be what it stays.
const WARM_UP: usize = 200;

/// What memory may grow by after that, in bytes: a snapshot that stayed behind with each reload would be ten times as
/// much.
const GROWTH: u64 = 24 << 20;

const CLIENTS: usize = 4;
const STREAMS: usize = 4;
const MODELS: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_reloads_fail_no_request_and_keep_nothing() {
    let gate = Gate::new();
    let held = gate.clone();
    let upstream = Upstream::start(Script::answer(move |request| answer(request, &held))).await;
    let snapshots = [resolved(&upstream, 0), resolved(&upstream, 1)];
    let gateway = Gateway::start(Options::default())
        .await
        .expect("no port is taken");
    install(&gateway, &snapshots[0]).await;
    let address = *gateway.addresses().first().expect("one listener");
    let streams = open(address, &upstream).await;
    let stop = Arc::new(AtomicBool::new(false));
    let served = Arc::new(AtomicUsize::new(0));
    let mut clients = load(address, &stop, &served);
    let mut settled = 0;
    for count in 1..=RELOADS {
        let before = served.load(Ordering::Relaxed);
        install(&gateway, &snapshots[count % 2]).await;
        // Every snapshot serves somebody.
        while served.load(Ordering::Relaxed) == before && !clients.is_empty() {
            tokio::task::yield_now().await;
        }
        if count == WARM_UP {
            settled = resident();
        }
    }
    let grown = resident().saturating_sub(settled);
    stop.store(true, Ordering::Relaxed);
    while let Some(client) = clients.join_next().await {
        client.expect("no request fails");
    }
    gate.open();
    for mut stream in streams {
        let rest = stream.answer().await.expect("the stream goes on");
        assert!(rest.text().contains("[DONE]"), "{}", rest.text());
    }
    assert!(served.load(Ordering::Relaxed) >= RELOADS);
    assert!(grown <= GROWTH, "{grown} bytes more than after {WARM_UP} reloads");
}

/// Answers at once, or with a stream that goes on once the gate is open.
fn answer(request: &Received, gate: &Gate) -> Reply {
    if request.json()["stream"] != true {
        return Reply::json(200, &fixture::openai::response("m"));
    }
    let frames = fixture::openai::frames("m");
    let (first, rest) = frames.split_at(2);
    Reply::stream().frames(first).wait(gate).frames(rest).end()
}

/// Opens streams that stay open.
async fn open(address: SocketAddr, upstream: &Upstream) -> Vec<Client> {
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        let mut client = Client::connect(address).await;
        let body = fixture::openai::request("m-0", true);
        client
            .post(fixture::openai::PATH, &[], &body)
            .await
            .expect("sent");
        streams.push(client);
    }
    upstream.received(STREAMS).await;
    streams
}

/// Asks one request after the other, by several clients, for models that every snapshot has.
fn load(address: SocketAddr, stop: &Arc<AtomicBool>, served: &Arc<AtomicUsize>) -> JoinSet<()> {
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let (stop, served) = (Arc::clone(stop), Arc::clone(served));
        clients.spawn(async move {
            let mut connection = Client::connect(address).await;
            for count in 0.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let plain = (client + count) % 4 == 0;
                let sent = if plain {
                    connection.get("/site", &[]).await
                } else {
                    let model = format!("m-{}", (client * 50 + count) % MODELS);
                    let body = fixture::openai::request(&model, false);
                    connection.post(fixture::openai::PATH, &[], &body).await
                };
                sent.expect("the request is taken");
                let answer = connection.answer().await.expect("there is an answer");
                assert_eq!(answer.status, 200, "{}", answer.text());
                served.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    clients
}

async fn install(gateway: &Arc<Gateway>, snapshot: &Snapshot) {
    let installed = gateway.install(snapshot.clone()).await;
    installed.expect("the port is served already");
}

/// Returns what is declared, a little different by `edition`: another policy, other limits, another path.
fn resolved(upstream: &Upstream, edition: usize) -> Snapshot {
    let address = upstream.address();
    let mut yaml = format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: edge}}
spec: {{gatewayClassName: x, listeners: [{{name: http, protocol: HTTP, port: 80}}]}}
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: {{name: mock}}
spec: {{endpoints: [{{ip: {{address: {}, port: {}}}}}]}}
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIServiceBackend
metadata: {{name: mock}}
spec:
  schema: {{name: OpenAI}}
  backendRef: {{group: gateway.envoyproxy.io, kind: Backend, name: mock}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: site}}
spec:
  parentRefs: [{{name: edge}}]
  rules:
    - matches: [{{path: {{value: /site}}}}]
      backendRefs: [{{group: gateway.envoyproxy.io, kind: Backend, name: mock}}]
    - matches: [{{path: {{value: /edition-{edition}}}}}]
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: BackendTrafficPolicy
metadata: {{name: edge}}
spec:
  targetRefs: [{{group: gateway.networking.k8s.io, kind: Gateway, name: edge}}]
  retry: {{numRetries: {edition}}}
  healthCheck: {{passive: {{}}}}
",
        address.ip(),
        address.port()
    );
    for models in (0..MODELS).collect::<Vec<_>>().chunks(10) {
        let _ = write!(
            yaml,
            "---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIGatewayRoute
metadata: {{name: models-{}}}
spec:
  parentRefs: [{{name: edge}}]
  rules:
",
            models[0]
        );
        for model in models {
            let _ = writeln!(
                yaml,
                "    - {{matches: [{{headers: [{{name: x-ai-eg-model, value: m-{model}}}]}}], backendRefs: [{{name: mock}}]}}"
            );
        }
    }
    let mut resources = Resources::default();
    let surroundings = Surroundings {
        environment: &|_| None,
        reader: &|_| Err("no files".to_owned()),
    };
    let faults = config::parse("reload.yaml", &yaml, &surroundings, &mut resources);
    assert!(faults.is_empty(), "{faults:?}");
    let (mut snapshot, report) = config::resolve(&resources, 0);
    assert!(!report.has_errors(), "{report}");
    // A declared port cannot be 0, which lets the system choose one.
    let listener = snapshot.listeners.pop_first().map(|(_, listener)| listener);
    snapshot.listeners.insert(0, listener.unwrap_or_default());
    snapshot
}

/// Returns how much memory the process holds.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kilobytes.unwrap_or(0_u64) * 1024
}
