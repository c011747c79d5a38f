//! Servers that run more than once: a session stays where it was opened.

use std::{
    collections::HashSet,
    fmt::Write,
    net::SocketAddr,
    num::NonZeroU32,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use config::Snapshot;
use gateway::SessionOptions;
use serde_json::{Value, json};
use testkit::{Reply, Upstream, client, upstream::Received};

use crate::{
    served::{PATH, Served, data, id, last, next, notification, request, resolve, serve, serve_by},
    server::{answer, event, result, start, tool},
};

/// One of several places where a server runs: it knows its own sessions and no other's.
pub(crate) struct Place {
    pub(crate) upstream: Upstream,
}

impl Place {
    /// Starts it; its sessions have the name in theirs.
    pub(crate) async fn start(name: &'static str) -> Self {
        let (known, opened) = (Mutex::<HashSet<String>>::default(), AtomicU32::new(0));
        let own = move |received: &Received, message: &Value| {
            let mut known = known.lock().expect("no panic before");
            if message["method"] == "initialize" {
                let session = format!("{name}-{}", opened.fetch_add(1, Ordering::Relaxed));
                let result = json!({ "protocolVersion": "2025-11-25", "capabilities": { "tools": {} },
                    "serverInfo": { "name": name, "version": "1" } });
                let headers = [
                    ("content-type", "application/json"),
                    ("mcp-session-id", session.as_str()),
                ];
                let reply = Reply::whole(200, &headers, &answer(message, result).to_string());
                known.insert(session);
                return Some(reply);
            }
            if !known.contains(received.header("mcp-session-id")) {
                return Some(Reply::whole(404, &[], "session not found"));
            }
            let done =
                json!({ "jsonrpc": "2.0", "id": message["id"], "result": { "content": [], "at": name } });
            match (received.method.as_str(), message["method"].as_str()) {
                ("POST", Some("tools/list")) => Some(result(message, json!({ "tools": [tool("where")] }))),
                ("POST", Some("tools/call")) if message["params"]["name"] == "later" => {
                    Some(Reply::sse([format!("id: {name}-41\nretry: 1\ndata: \n\n")]))
                }
                ("POST", Some("tools/call")) => Some(result(message, done["result"].clone())),
                ("GET", _) if received.header("last-event-id").starts_with(name) => {
                    let done = json!({ "jsonrpc": "2.0", "id": 7, "result": done["result"] });
                    Some(Reply::sse([event("", &done)]))
                }
                ("GET", _) => {
                    let said =
                        notification("notifications/message", &json!({ "level": "info", "data": name }));
                    Some(Reply::stream().frame(event("", &said)).stall())
                }
                _ => None,
            }
        };
        Self {
            upstream: start(name, Box::new(own)).await,
        }
    }

    /// Returns how many messages of this kind it was sent.
    fn asked(&self, method: &str) -> usize {
        let requests = self.upstream.requests();
        let asked = requests.iter().filter(|request| match method {
            "GET" | "DELETE" => request.method == method,
            _ => request.method == "POST" && request.json()["method"] == method,
        });
        asked.count()
    }
}

/// Returns the snapshot of a route to a server that runs at these addresses, with other resources `beside`.
pub(crate) fn snapshot(kind: Kind, addresses: &[SocketAddr], beside: &str) -> Snapshot {
    let mut text = String::from(
        "{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: g}, spec: {gatewayClassName: t, \
         listeners: [{name: http, protocol: HTTP, port: 1}]}}\n---\napiVersion: aigateway.envoyproxy.io/v1beta1\n\
         kind: MCPRoute\nmetadata: {name: main}\nspec:\n  parentRefs: [{name: g}]\n  backendRefs: ",
    );
    let endpoint = |address: &SocketAddr| match kind {
        Kind::Backend => format!("{{ip: {{address: {}, port: {}}}}}", address.ip(), address.port()),
        Kind::Named => format!("{{fqdn: {{hostname: localhost, port: {}}}}}", address.port()),
        Kind::Service => String::new(),
    };
    let written = match kind {
        Kind::Backend | Kind::Named => {
            let endpoints: Vec<String> = addresses.iter().map(endpoint).collect();
            write!(
                text,
                "[{{group: gateway.envoyproxy.io, kind: Backend, name: many}}]\n---\n{{apiVersion: \
                 gateway.envoyproxy.io/v1alpha1, kind: Backend, metadata: {{name: many}}, spec: {{endpoints: [{}]}}}}\n",
                endpoints.join(", ")
            )
        }
        Kind::Service => {
            text.push_str(
                "[{name: many, port: 80}]\n---\n{apiVersion: v1, kind: Service, metadata: {name: many}, spec: {ports: \
                 [{name: http, port: 80}]}}\n",
            );
            addresses.iter().enumerate().try_for_each(|(index, address)| {
                write!(
                    text,
                    "---\n{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: many-{index}, labels: \
                     {{kubernetes.io/service-name: many}}}}, addressType: IPv4, ports: [{{name: http, port: {}}}], \
                     endpoints: [{{addresses: [{}]}}]}}\n",
                    address.port(),
                    address.ip()
                )
            })
        }
    };
    written.expect("a String takes everything");
    text.push_str(beside);
    resolve(&text)
}

/// How it is said where a server runs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Backend,
    Named,
    Service,
}

/// Returns where a call is served.
pub(crate) async fn place(served: &Served) -> Value {
    let called = served.call("many__where").await;
    assert!(called["error"].is_null(), "{called}");
    called["result"]["at"].clone()
}

/// Opens sessions until there is one at `name`.
pub(crate) async fn open_at(served: &mut Served, name: &str) {
    loop {
        served.session.clear();
        served.open_with("2025-11-25").await;
        if place(served).await == name {
            return;
        }
    }
}

#[tokio::test]
async fn a_session_stays_where_it_was_opened() {
    for kind in [Kind::Backend, Kind::Named, Kind::Service] {
        let (a, b) = (Place::start("a").await, Place::start("b").await);
        let addresses = [&a, &b].map(|place| place.upstream.address());
        let mut here = serve(snapshot(kind, &addresses, "")).await;
        // The other gateway learns of the places in another order.
        let mut there = serve(snapshot(kind, &[addresses[1], addresses[0]], "")).await;
        for name in ["a", "b"] {
            open_at(&mut here, name).await;
            there.session.clone_from(&here.session);
            let opened = [&a, &b].map(|place| place.asked("initialize"));
            for served in [&here, &there].repeat(4) {
                assert_eq!(place(served).await, name, "{kind:?}");
                let listed = served.ask("tools/list", json!({})).await;
                assert!(listed["result"]["_meta"].is_null(), "{listed}");
            }
            assert_eq!(
                [&a, &b].map(|place| place.asked("initialize")),
                opened,
                "{kind:?}"
            );
        }
    }
}

#[tokio::test]
async fn tokens_of_the_other_form_say_it_too() {
    let (a, b) = (Place::start("a").await, Place::start("b").await);
    let addresses = [&a, &b].map(|place| place.upstream.address());
    let options = || SessionOptions {
        compatible: true,
        iterations: NonZeroU32::MIN,
        ..SessionOptions::default()
    };
    let mut here = serve_by(options(), snapshot(Kind::Backend, &addresses, "")).await;
    let mut there = serve_by(options(), snapshot(Kind::Backend, &addresses, "")).await;
    for name in ["a", "b"] {
        open_at(&mut here, name).await;
        assert!(!here.session.starts_with("g1."), "{}", here.session);
        there.session.clone_from(&here.session);
        for served in [&here, &there].repeat(4) {
            assert_eq!(place(served).await, name);
        }
    }
}

#[tokio::test]
async fn streams_answers_and_the_end_are_asked_for_there() {
    let (a, b) = (Place::start("a").await, Place::start("b").await);
    let addresses = [&a, &b].map(|place| place.upstream.address());
    let mut here = serve(snapshot(Kind::Backend, &addresses, "")).await;
    let mut there = serve(snapshot(Kind::Backend, &addresses, "")).await;
    for (at, own, other) in [("a", &a, &b), ("b", &b, &a)] {
        open_at(&mut here, at).await;
        there.session.clone_from(&here.session);
        let before = ["GET", "DELETE"].map(|method| other.asked(method));
        let mut stream = there.listen(&[]).await;
        stream.head().await.expect("a head");
        assert_eq!(data(&next(&mut stream).await)["params"]["data"], at);

        let call = request(7, "tools/call", &json!({ "name": "many__later" }));
        let begun = here.send(&call).await;
        let frames = begun.frames();
        let place = id(frames.last().expect("a place")).to_owned();
        let mut rest = there.listen(&[("last-event-id", &place)]).await;
        let rest = rest.answer().await.expect("a reply");
        assert_eq!(data(&rest.frames()[0])["result"]["at"], at);

        let ended = client::delete(there.address, PATH, &there.headers()).await;
        assert_eq!(ended.status, 200);
        assert_eq!(own.asked("DELETE"), 1);
        assert_eq!(
            ["GET", "DELETE"].map(|method| other.asked(method)),
            before,
            "{at}"
        );
    }
}

#[tokio::test]
async fn a_place_that_is_gone_has_lost_its_sessions() {
    let (a, b) = (Place::start("a").await, Place::start("b").await);
    let addresses = [&a, &b].map(|place| place.upstream.address());
    let mut served = serve(snapshot(Kind::Service, &addresses, "")).await;
    open_at(&mut served, "a").await;
    let mut stream = served.listen(&[]).await;
    stream.head().await.expect("a head");
    assert_eq!(data(&next(&mut stream).await)["params"]["data"], "a");
    let (opened, token) = (b.asked("initialize"), served.session.clone());
    let others = Place::start("c").await;
    // Two are left, and neither is asked in a session that it cannot know.
    let left = snapshot(Kind::Service, &[addresses[1], others.upstream.address()], "");
    served.gateway.install(left).await.expect("the port is served");
    let asked = a.upstream.requests().len();
    let now = place(&served).await;
    assert_ne!(now, "a");
    assert_eq!(place(&served).await, now, "what was opened is remembered");
    assert_eq!(served.session, token);
    assert_eq!(a.asked("tools/call"), 1, "only what was there before");
    assert!(a.upstream.requests().len() <= asked + 1);
    let initialized = b.asked("initialize") - opened + others.asked("initialize");
    assert_eq!(initialized, 1);
    let said = loop {
        let said = data(&next(&mut stream).await);
        if said["method"] == "notifications/message" {
            break said["params"]["data"].clone();
        }
    };
    assert_eq!(said, now, "the stream goes on where the session is");
}

#[tokio::test]
async fn a_place_that_cannot_be_reached_has_lost_its_sessions() {
    let (a, b) = (Place::start("a").await, Place::start("b").await);
    let addresses = [&a, &b].map(|place| place.upstream.address());
    let mut here = serve(snapshot(Kind::Backend, &addresses, "")).await;
    let mut there = serve(snapshot(Kind::Backend, &addresses, "")).await;
    open_at(&mut here, "a").await;
    there.session.clone_from(&here.session);
    let before = b.asked("initialize");
    drop(a);
    let calls = request(1, "tools/call", &json!({ "name": "many__where" }));
    let (one, two, three) = tokio::join!(here.send(&calls), here.send(&calls), there.send(&calls));
    for answer in [one, two, three] {
        assert_eq!(last(&answer)["result"]["at"], "b", "{}", answer.text());
    }
    // One for each gateway, however many requests find out.
    assert_eq!(b.asked("initialize"), before + 2);
    // Whoever opens a session is not held up by the place that is away.
    for _ in 0..8 {
        here.session.clear();
        here.open().await;
        assert_eq!(place(&here).await, "b");
    }
}

#[tokio::test]
async fn a_server_that_runs_once_is_asked_where_it_is_now() {
    let (a, b) = (Place::start("a").await, Place::start("b").await);
    let mut served = serve(snapshot(Kind::Backend, &[a.upstream.address()], "")).await;
    open_at(&mut served, "a").await;
    let moved = snapshot(Kind::Backend, &[b.upstream.address()], "");
    served.gateway.install(moved).await.expect("the port is served");
    // It says itself that it has lost the session.
    assert_eq!(place(&served).await, "b");
    assert_eq!(b.asked("tools/call"), 2);
}
