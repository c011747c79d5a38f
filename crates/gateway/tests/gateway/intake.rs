//! ClientTrafficPolicies on real sockets: what connections and requests of clients are taken, and how.

use std::time::Duration;

use config::{Resources, Snapshot, Surroundings};
use gateway::Gateway;
use testkit::{Client, Received, Reply, Upstream, client, fixture};
use tokio::{io::AsyncReadExt, net::TcpStream};

use crate::{
    fixture::{CHAT, MODEL, Served, options},
    upload::TRANSCRIPTIONS,
};

/// A Gateway whose clients are taken as a policy says, in front of one upstream.
struct Setup {
    served: Served,
    upstream: Upstream,
}

impl Setup {
    async fn new(policy: &str) -> Self {
        let upstream = Upstream::start(Reply::json(200, &fixture::openai::response("gpt"))).await;
        let gateway = Gateway::start(options()).await.expect("the admin port is free");
        let snapshot = snapshot(policy, &upstream);
        gateway.install(snapshot).await.expect("the port is free");
        let address = *gateway.addresses().first().expect("one listener");
        Self {
            served: Served { gateway, address },
            upstream,
        }
    }

    async fn reload(&self, policy: &str) {
        let snapshot = snapshot(policy, &self.upstream);
        self.served
            .gateway
            .install(snapshot)
            .await
            .expect("served already");
    }

    async fn client(&self) -> Client {
        Client::connect(self.served.address).await
    }

    /// Asks for a path of the website with headers; returns the status.
    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> client::Answer {
        client::get(self.served.address, path, headers).await
    }

    /// Returns the last request that the upstream got.
    fn last(&self) -> Received {
        let requests = self.upstream.requests();
        requests.last().expect("a request").clone()
    }
}

fn snapshot(policy: &str, upstream: &Upstream) -> Snapshot {
    let port = upstream.address().port();
    let yaml = format!(
        r"
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{ name: edge }}
spec:
  gatewayClassName: tollgate
  listeners: [{{ name: http, protocol: HTTP, port: 80 }}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{ name: website }}
spec:
  parentRefs: [{{ name: edge }}]
  rules:
    - matches: [{{ path: {{ value: /site }} }}]
      backendRefs: [{{ group: gateway.envoyproxy.io, kind: Backend, name: upstream }}]
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIGatewayRoute
metadata: {{ name: models }}
spec:
  parentRefs: [{{ name: edge }}]
  rules:
    - matches: [{{ headers: [{{ name: x-ai-eg-model, value: {MODEL} }}] }}]
      backendRefs: [{{ name: upstream }}]
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIServiceBackend
metadata: {{ name: upstream }}
spec:
  schema: {{ name: OpenAI }}
  backendRef: {{ group: gateway.envoyproxy.io, kind: Backend, name: upstream }}
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: {{ name: upstream }}
spec: {{ endpoints: [{{ ip: {{ address: 127.0.0.1, port: {port} }} }}] }}
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: ClientTrafficPolicy
metadata: {{ name: clients }}
spec:
  targetRefs: [{{ group: gateway.networking.k8s.io, kind: Gateway, name: edge }}]
  {policy}
"
    );
    let surroundings = Surroundings {
        environment: &|_| None,
        reader: &|_| Err("no files".to_owned()),
    };
    let mut resources = Resources::default();
    let faults = config::parse("test.yaml", &yaml, &surroundings, &mut resources);
    assert_eq!(faults, [], "{yaml}");
    let (mut snapshot, report) = config::resolve(&resources, 0);
    assert!(!report.has_errors(), "{report}\n{yaml}");
    let (_, listener) = snapshot.listeners.pop_first().expect("one port");
    snapshot.listeners.insert(0, listener);
    snapshot
}

/// A request of about `size` bytes.
fn sized(size: usize) -> serde_json::Value {
    let mut request = fixture::openai::request(MODEL, false);
    request["messages"][0]["content"] = "x".repeat(size).into();
    request
}

#[tokio::test]
async fn a_request_fits_or_is_told_that_it_does_not() {
    let setup = Setup::new("connection: { bufferLimit: 64Ki }").await;
    let post = async |size| client::post(setup.served.address, CHAT, &[], &sized(size)).await;
    assert_eq!(post(60_000).await.status, 200);
    let answer = post(70_000).await;
    assert_eq!(answer.status, 413);
    assert_eq!(answer.json()["error"]["type"], "invalid_request_error");
    // More than without a policy, and from the next request on.
    setup.reload("connection: { bufferLimit: 50Mi }").await;
    assert_eq!(post(33 << 20).await.status, 200);
}

#[tokio::test]
async fn requests_arrive_in_time() {
    let policy = "timeout: { http: { requestReceivedTimeout: 200ms } }";
    for policy in [policy, "timeout: { http: { streamIdleTimeout: 200ms } }"] {
        let setup = Setup::new(policy).await;
        let form = "content-type: multipart/form-data; boundary=b\r\n";
        for (path, headers, begun) in [
            (CHAT, "", "{"),
            ("/site", "", "{"),
            (TRANSCRIPTIONS, form, "--b\r\n"),
            (TRANSCRIPTIONS, form, NAMED),
        ] {
            let mut client = setup.client().await;
            let head =
                format!("POST {path} HTTP/1.1\r\nhost: h\r\n{headers}content-length: 1000\r\n\r\n{begun}");
            client.send(head).await.expect("sent");
            let status = client.answer().await.expect("a reply").status;
            assert_eq!(status, 408, "{policy} {path} {begun}");
        }
    }
}

/// A form whose model is known and whose file is on its way.
const NAMED: &str = "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n--b\r\nContent-Disposition: form-data; \
                     name=\"file\"; filename=\"a.wav\"\r\n\r\nx";

/// Returns whether the gateway closes the connection, having said nothing more.
async fn is_closed(client: Client) -> bool {
    let (mut stream, rest) = client.into_stream();
    let mut more = Vec::new();
    let read = stream.read_to_end(&mut more).await;
    rest.is_empty()
        && more.is_empty()
        && (read.is_ok() || read.is_err_and(|error| error.raw_os_error() == Some(104)))
}

#[tokio::test]
async fn connections_end_when_they_were_used_for_long_enough() {
    for policy in [
        "timeout: { http: { idleTimeout: 100ms } }",
        "connection: { maxConnectionDuration: 100ms }",
    ] {
        let setup = Setup::new(policy).await;
        let mut client = setup.client().await;
        client.get("/v1/models", &[]).await.expect("sent");
        assert_eq!(client.answer().await.expect("a reply").status, 200);
        assert!(is_closed(client).await, "{policy}");
    }
    let setup = Setup::new("connection: { maxRequestsPerConnection: 2 }").await;
    let mut client = setup.client().await;
    for last in [false, true] {
        client.get("/v1/models", &[]).await.expect("sent");
        let answer = client.answer().await.expect("a reply");
        assert_eq!(answer.header("connection") == "close", last);
    }
    assert!(is_closed(client).await);
}

#[tokio::test]
async fn a_connection_in_use_is_not_idle() {
    let setup = Setup::new("timeout: { http: { idleTimeout: 100ms } }").await;
    let gate = testkit::Gate::new();
    let slow = Reply::new().wait(&gate);
    let upstream = Upstream::start(slow.head(200, &[("content-length", "2")]).raw("ok")).await;
    let policy = "timeout: { http: { idleTimeout: 100ms } }";
    setup
        .served
        .gateway
        .install(snapshot(policy, &upstream))
        .await
        .expect("served already");
    let mut client = setup.client().await;
    client.get("/site", &[]).await.expect("sent");
    let later = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        gate.open();
    };
    let (answer, ()) = tokio::join!(client.answer(), later);
    assert_eq!(answer.expect("a reply").text(), "ok");
}

#[tokio::test]
async fn there_are_so_many_connections() {
    let setup = Setup::new("connection: { connectionLimit: { value: 1 } }").await;
    let mut first = setup.client().await;
    first.get("/v1/models", &[]).await.expect("sent");
    assert_eq!(first.answer().await.expect("a reply").status, 200);
    assert!(is_closed(setup.client().await).await);
    drop(first);
    // The place is free once the gateway has seen that.
    let free = async {
        loop {
            let mut client = setup.client().await;
            if client.get("/v1/models", &[]).await.is_ok() && client.answer().await.is_ok() {
                return;
            }
        }
    };
    let freed = tokio::time::timeout(Duration::from_secs(10), free).await;
    freed.expect("a place is free again");
}

#[tokio::test]
async fn headers_are_taken_as_the_policy_says() {
    let policy = "headers: { requestID: Generate, withUnderscoresAction: DropHeader, earlyRequestHeaders: { set: [{ name: \
                  x-team, value: front }], remove: [x-secret] }, lateResponseHeaders: { set: [{ name: server, value: \
                  tollgate }] } }";
    let setup = Setup::new(policy).await;
    let sent = [
        ("x-request-id", "mine"),
        ("a_b", "1"),
        ("x-team", "back"),
        ("x-secret", "1"),
    ];
    let answer = setup.get("/site", &sent).await;
    assert_eq!((answer.status, answer.header("server")), (200, "tollgate"));
    let seen = setup.last();
    assert_eq!(
        (seen.header("x-team"), seen.header("x-secret"), seen.header("a_b")),
        ("front", "", "")
    );
    assert_ne!(seen.header("x-request-id"), "mine");
    setup
        .reload("headers: { withUnderscoresAction: RejectRequest }")
        .await;
    assert_eq!(setup.get("/site", &[("a_b", "1")]).await.status, 400);
    assert_eq!(setup.get("/site", &[("a-b", "1")]).await.status, 200);
}

#[tokio::test]
async fn paths_are_read_as_the_policy_says() {
    for (policy, path, status, target) in [
        ("path: {}", "/site/%2Fa", 307, ""),
        (
            "path: { escapedSlashesAction: RejectRequest }",
            "/site/%2Fa",
            400,
            "",
        ),
        (
            "path: { escapedSlashesAction: KeepUnchanged }",
            "/site/%2Fa",
            200,
            "/site/%2Fa",
        ),
        (
            "path: { escapedSlashesAction: UnescapeAndForward }",
            "/site%2Fa",
            200,
            "/site/a",
        ),
        ("path: {}", "/site//a", 200, "/site/a"),
        ("path: { disableMergeSlashes: true }", "/site//a", 200, "/site//a"),
    ] {
        let setup = Setup::new(policy).await;
        assert_eq!(setup.get(path, &[]).await.status, status, "{policy} {path}");
        if status == 200 {
            assert_eq!(setup.last().target, target, "{policy} {path}");
        }
    }
}

#[tokio::test]
async fn health_is_told_without_asking_anybody() {
    let setup = Setup::new("healthCheck: { path: /site/health }").await;
    assert_eq!(setup.get("/site/health", &[]).await.status, 200);
    assert_eq!(setup.upstream.requests().len(), 0);
}

#[tokio::test]
async fn who_asks_may_have_to_be_said() {
    let policy = "clientIPDetection: { customHeader: { name: x-real-ip, failClosed: true } }";
    let setup = Setup::new(policy).await;
    assert_eq!(setup.get("/site", &[]).await.status, 403);
    assert_eq!(
        setup.get("/site", &[("x-real-ip", "192.0.2.1")]).await.status,
        200
    );
}

#[tokio::test]
async fn a_proxy_says_whose_connection_it_is() {
    let line = "PROXY TCP4 192.0.2.7 198.51.100.1 4242 80\r\n";
    let request = "GET /site HTTP/1.1\r\nhost: h\r\n\r\n";
    let setup = Setup::new("proxyProtocol: {}").await;
    let mut client = setup.client().await;
    client.send(format!("{line}{request}")).await.expect("sent");
    assert_eq!(client.answer().await.expect("a reply").status, 200);
    assert_eq!(setup.last().header("x-forwarded-for"), "192.0.2.7");
    let mut client = setup.client().await;
    client.send(request).await.expect("sent");
    assert!(client.answer().await.is_err(), "nobody says whose it is");
    setup.reload("proxyProtocol: { optional: true }").await;
    let mut client = setup.client().await;
    client.send(request).await.expect("sent");
    assert_eq!(client.answer().await.expect("a reply").status, 200);
    assert_eq!(setup.last().header("x-forwarded-for"), "127.0.0.1");
}

#[tokio::test]
async fn windows_of_http2_are_as_the_policy_says() {
    let policy = "http2: { initialStreamWindowSize: 128Ki, initialConnectionWindowSize: 256Ki, maxConcurrentStreams: 7 }";
    let setup = Setup::new(policy).await;
    let stream = TcpStream::connect(setup.served.address).await.expect("listening");
    let (sender, mut connection) = h2::client::handshake(stream).await.expect("HTTP/2 is spoken");
    let asked = async {
        let mut sender = sender.ready().await.expect("ready");
        let request = http::Request::get("http://h/v1/models")
            .body(())
            .expect("a request");
        let (reply, _) = sender.send_request(request, true).expect("sent");
        assert_eq!(reply.await.expect("a reply").status(), 200);
        assert_eq!(sender.current_max_send_streams(), 7);
        let request = http::Request::post("http://h/v1/models")
            .body(())
            .expect("a request");
        let (_reply, mut body) = sender.send_request(request, false).expect("sent");
        body.reserve_capacity(1 << 20);
        let room = std::future::poll_fn(|cx| body.poll_capacity(cx)).await;
        assert_eq!(room.expect("a window").expect("a window"), 128 << 10);
    };
    tokio::select! {
        () = asked => {}
        ended = &mut connection => panic!("the connection ended: {ended:?}"),
    }
}
