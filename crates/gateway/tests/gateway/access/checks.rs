//! A service that decides, asked by gRPC: a real HTTP/2 server, whose answers are made field by field.
#![expect(clippy::disallowed_methods, reason = "servers run beside the test")]

use std::{
    collections::BTreeMap,
    convert::Infallible,
    future::pending,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use policy::protobuf::{Fields, Message};
use testkit::{Upstream, client};
use tokio::{net::TcpListener, task::JoinSet};

use super::{GATEWAY, Setup, external::backend, policy, serve};
use crate::fixture::{CHAT, MESSAGES};

/// A gRPC server for one method; stops when dropped.
struct Service {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    _serving: JoinSet<()>,
}

/// What a CheckRequest says.
#[derive(Clone, Debug, Default)]
struct Asked {
    method: String,
    /// By which they are told.
    told: BTreeMap<u32, String>,
    headers: BTreeMap<String, String>,
    extensions: BTreeMap<String, String>,
    source: String,
    /// What is told of the route, texts among other bytes.
    route: Option<String>,
}

/// How a call is answered.
#[derive(Clone)]
enum Said {
    /// With a CheckResponse.
    Answer(Vec<u8>),
    /// With bytes that are no frame.
    Raw(&'static [u8]),
    /// With a status alone.
    Status(&'static str),
    /// With a message that no status follows.
    Unfinished,
    /// Never.
    Nothing,
}

impl Service {
    async fn start(said: impl Fn(&Asked) -> Said + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("loopback can be bound");
        let address = listener.local_addr().expect("an address");
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let seen = Arc::clone(&asked);
        let said = Arc::new(said);
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, said) = (Arc::clone(&seen), Arc::clone(&said));
                let service = service_fn(move |request| {
                    let (seen, said) = (Arc::clone(&seen), Arc::clone(&said));
                    async move {
                        let asked = read(request).await;
                        let answer = said(&asked);
                        seen.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
                        if matches!(answer, Said::Nothing) {
                            pending::<()>().await;
                        }
                        Ok::<_, Infallible>(write(answer))
                    }
                });
                connections.spawn(async move {
                    let builder = http2::Builder::new(TokioExecutor::new());
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self {
            address,
            asked,
            _serving: serving,
        }
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Reads a CheckRequest; see `envoy/service/auth/v3/attribute_context.proto` for its fields.
async fn read(request: Request<Incoming>) -> Asked {
    let mut asked = Asked {
        method: request.uri().path().to_owned(),
        ..Asked::default()
    };
    assert_eq!(request.headers()["content-type"], "application/grpc");
    assert_eq!(request.headers()["te"], "trailers");
    let body = request.into_body().collect().await.expect("a message").to_bytes();
    let within = |bytes: &[u8], wanted: u32| -> Vec<Vec<u8>> {
        let fields = Fields::of(bytes).map(|field| field.expect("well-formed"));
        let wanted = fields.filter(|(field, _)| *field == wanted);
        wanted
            .map(|(_, value)| value.as_bytes().expect("bytes").to_vec())
            .collect()
    };
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    let pairs = |entries: Vec<Vec<u8>>| -> BTreeMap<String, String> {
        let of = |entry: &[u8], field| within(entry, field).pop().map(text).unwrap_or_default();
        entries.iter().map(|entry| (of(entry, 1), of(entry, 2))).collect()
    };
    let attributes = within(&body[5..], 1).remove(0);
    let address = within(&within(&attributes, 1).remove(0), 1).remove(0);
    asked.source = text(within(&within(&address, 1).remove(0), 2).remove(0));
    asked.extensions = pairs(within(&attributes, 10));
    let route = within(&attributes, 13).pop();
    asked.route = route.map(|route| String::from_utf8_lossy(&route).into_owned());
    let http = within(&within(&attributes, 4).remove(0), 2).remove(0);
    asked.headers = pairs(within(&http, 3));
    for field in [1, 2, 4, 5, 6, 10, 11, 12] {
        if let Some(value) = within(&http, field).pop() {
            asked
                .told
                .insert(field, String::from_utf8_lossy(&value).into_owned());
        }
    }
    asked
}

fn write(said: Said) -> Response<BoxBody<Bytes, Infallible>> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let framed = |message: &[u8]| {
        let length = u32::try_from(message.len()).expect("short");
        Bytes::from([&[0], &length.to_be_bytes()[..], message].concat())
    };
    let body = match said {
        Said::Answer(message) => {
            let body = Full::new(framed(&message));
            body.with_trailers(async { Some(Ok(trailers)) }).boxed()
        }
        Said::Raw(bytes) => Full::new(Bytes::from_static(bytes))
            .with_trailers(async { Some(Ok(trailers)) })
            .boxed(),
        Said::Unfinished => Full::new(framed(&[])).boxed(),
        Said::Status(status) => {
            let mut response = Response::new(Full::default().boxed());
            let status = HeaderValue::from_static(status);
            response.headers_mut().insert("grpc-status", status);
            return response;
        }
        Said::Nothing => Full::default().boxed(),
    };
    let mut response = Response::new(body);
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert("content-type", grpc);
    response
}

/// Returns a CheckResponse.
fn message(write: impl FnOnce(&mut Message)) -> Said {
    let mut message = Message::default();
    write(&mut message);
    Said::Answer(message.into_bytes())
}

/// Writes a HeaderValueOption.
fn header(message: &mut Message, field: u32, name: &str, value: &str, append: bool) {
    message.message(field, |option| {
        option.message(1, |header| {
            header.text(1, name);
            header.text(2, value);
        });
        option.message(2, |flag| flag.varint(1, u64::from(append)));
    });
}

/// Writes metadata of one member, which is a text or an object of texts and numbers.
fn metadata(message: &mut Message, name: &str, value: &dyn Fn(&mut Message)) {
    message.message(4, |object| {
        object.message(1, |entry| {
            entry.text(1, name);
            entry.message(2, value);
        });
    });
}

/// A policy that asks `address` by gRPC.
fn asking(address: SocketAddr, target: &str, rest: &str) -> String {
    let ext_auth = format!(
        "
extAuth:
  grpc: {{backendRefs: [{{group: gateway.envoyproxy.io, kind: Backend, name: authz}}]}}
  {}
",
        rest.replace('\n', "\n  ")
    );
    backend(address) + &policy("asked", target, &ext_auth)
}

async fn guarded(service: &Service, rest: &str) -> Setup {
    serve(&["m"], &asking(service.address, GATEWAY, rest)).await
}

/// A service may be told of the rule; then it is asked once that is known, and of what has none all the same.
#[tokio::test]
async fn a_service_is_told_of_the_route() {
    let service = Service::start(|asked| match asked.headers.get("x-ask").map(String::as_str) {
        Some("in") => message(|_| {}),
        _ => message(|answer| answer.message(1, |status| status.varint(1, 7))),
    })
    .await;
    for (rest, told) in [("includeRouteMetadata: true", true), ("timeout: 20s", false)] {
        let setup = guarded(&service, rest).await;
        for (model, ask, status) in [
            ("m", "in", 200),
            ("m", "out", 403),
            ("unknown", "in", 404),
            ("unknown", "out", 403),
        ] {
            let answer = setup.ask(model, &[("x-ask", ask)]).await;
            assert_eq!(answer.status, status, "{rest} {model} {ask}: {}", answer.text());
            let asked = service.asked();
            let route = asked.last().and_then(|asked| asked.route.clone());
            assert_eq!(route.is_some(), told && model == "m", "{rest} {model} {ask}");
            for text in ["envoy-gateway", "HTTPRoute", "default", "only"] {
                assert!(
                    route.as_ref().is_none_or(|route| route.contains(text)),
                    "{route:?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_request_is_told_and_changed() {
    let service = Service::start(|_| {
        message(|answer| {
            answer.message(3, |ok| {
                header(ok, 2, "x-user", "u1", false);
                header(ok, 2, "x-group", "b", true);
                header(ok, 2, "x-ai-eg-model", "other", false);
                ok.text(5, "x-secret");
                header(ok, 6, "x-told", "1", false);
            });
        })
    })
    .await;
    let rest = "contextExtensions: [{name: tier, value: gold}]\nbodyToExtAuth: {maxRequestBytes: 1000}";
    let setup = guarded(&service, rest).await;
    let headers = [
        ("x-user", "root"),
        ("x-group", "a"),
        ("x-secret", "s"),
        ("x-mine", "1"),
    ];
    let answer = setup.ask_at(&format!("{CHAT}?a=1"), "m", &headers).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("x-told"), "1");
    let asked = service.asked().remove(0);
    assert_eq!(asked.method, "/envoy.service.auth.v3.Authorization/Check");
    assert_eq!(asked.told[&1], answer.header("x-request-id"));
    let told = [2, 4, 6, 10].map(|field| asked.told[&field].as_str());
    assert_eq!(told, ["POST", "/v1/chat/completions?a=1", "http", "HTTP/1.1"]);
    assert!(asked.told[&11].contains("\"model\":\"m\""), "{asked:?}");
    assert_eq!(asked.source, "127.0.0.1");
    assert_eq!(
        (
            asked.headers["x-mine"].as_str(),
            asked.headers[":method"].as_str()
        ),
        ("1", "POST")
    );
    assert_eq!(asked.extensions["tier"], "gold");
    let sent = &setup.upstream.requests()[0];
    let groups: Vec<&str> = sent
        .headers
        .get_all("x-group")
        .iter()
        .flat_map(|value| value.to_str())
        .collect();
    assert_eq!(groups, ["a", "b"]);
    assert_eq!(
        (
            sent.header("x-user"),
            sent.header("x-secret"),
            sent.header("x-mine")
        ),
        ("u1", "", "1")
    );
    assert_eq!(sent.json()["model"], "m");
}

#[tokio::test]
async fn a_service_sees_what_it_is_to_see() {
    let service = Service::start(|_| message(|_| {})).await;
    let setup = guarded(&service, "headersToExtAuth: [x-mine]").await;
    let headers = [("x-mine", "1"), ("x-other", "2"), ("authorization", "Bearer a")];
    setup.check("m", &headers, 200).await;
    let asked = service.asked().remove(0);
    let seen: Vec<&str> = asked.headers.keys().map(String::as_str).collect();
    assert_eq!(
        seen,
        [
            ":authority",
            ":method",
            ":path",
            ":scheme",
            "authorization",
            "x-mine"
        ]
    );
    assert!(!asked.told.contains_key(&11));
}

#[tokio::test]
async fn a_refusal_is_the_answer() {
    let service = Service::start(|asked| {
        let wordy = asked.headers.contains_key("x-wordy");
        message(|answer| {
            answer.message(1, |status| status.varint(1, 7));
            answer.message(2, |denied| {
                denied.message(1, |status| status.varint(1, 402));
                header(denied, 2, "x-why", "because", false);
                if wordy {
                    denied.text(3, "pay first");
                }
            });
        })
    })
    .await;
    let setup = guarded(&service, "failOpen: true").await;
    let answer = setup.ask("m", &[("x-wordy", "1")]).await;
    assert_eq!((answer.status, answer.text().as_str()), (402, "pay first"));
    for path in [CHAT, MESSAGES] {
        let answer = setup.ask_at(path, "m", &[]).await;
        assert_eq!(
            (answer.status, answer.header("x-why")),
            (402, "because"),
            "{path}"
        );
        assert_eq!(answer.json()["error"]["message"], "access denied", "{path}");
    }
}

/// Where the service does not decide nobody is let in, or everybody.
#[tokio::test]
async fn a_service_that_does_not_decide() {
    let refusing = Upstream::refusing();
    let silent = Upstream::start(testkit::Reply::new().reset()).await;
    let mut places = vec![("dead", refusing.address), ("no gRPC", silent.address())];
    let mut services = Vec::new();
    for (name, said) in [
        ("failing", Said::Status("14")),
        ("slow", Said::Nothing),
        ("unfinished", Said::Unfinished),
        ("empty", Said::Raw(b"")),
        ("malformed", Said::Raw(b"\0\0\0\0\x01\xff")),
        ("compressed", Said::Raw(b"\x01\0\0\0\0")),
        ("short", Said::Raw(b"\0\0\0\0\x09\x08")),
    ] {
        let service = Service::start(move |_| said.clone()).await;
        places.push((name, service.address));
        services.push(service);
    }
    for (name, address) in places {
        let asking = |rest: &str| asking(address, GATEWAY, &format!("timeout: 300ms\n{rest}"));
        let setup = serve(&["m"], &asking("statusOnError: 503")).await;
        let answer = setup.ask("m", &[]).await;
        assert_eq!(answer.status, 503, "{name}: {}", answer.text());
        let setup = serve(&["m"], &asking("failOpen: true")).await;
        setup.check("m", &[], 200).await;
    }
}

/// Many requests are told over one connection, and one that is given up takes no other with it.
#[tokio::test]
async fn questions_share_a_connection() {
    let service = Service::start(|asked| match asked.headers.get("x-slow") {
        Some(_) => Said::Nothing,
        None => message(|_| {}),
    })
    .await;
    let setup = guarded(&service, "timeout: 2s").await;
    let slow = [("x-slow", "1")];
    let (slow, one, two) = tokio::join!(setup.ask("m", &slow), setup.ask("m", &[]), setup.ask("m", &[]));
    assert_eq!([slow.status, one.status, two.status], [403, 200, 200]);
    setup.check("m", &[], 200).await;
}

/// A limit for a request, and what it is charged, as the service says.
#[tokio::test]
async fn a_service_says_how_much_is_allowed() {
    let service = Service::start(|asked| {
        let limit = asked.headers.get("x-limit").and_then(|limit| limit.parse().ok());
        message(|answer| {
            if let Some(limit) = limit {
                metadata(answer, "limit", &|value| {
                    value.message(5, |object| {
                        let mut member = |name: &str, write: &dyn Fn(&mut Message)| {
                            object.message(1, |entry| {
                                entry.text(1, name);
                                entry.message(2, write);
                            });
                        };
                        member("requests_per_unit", &|value| value.double(2, limit));
                        member("unit", &|value| value.text(3, "YEAR"));
                    });
                });
            }
        })
    })
    .await;
    let limits = "---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: BackendTrafficPolicy
metadata: {name: limits}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: m}]
  rateLimit:
    type: Global
    global:
      rules:
        - clientSelectors: [{headers: [{name: x-user, type: Distinct}]}]
          limit: {requests: 1, unit: Year, fromMetadata: {namespace: envoy.filters.http.ext_authz, key: limit}}
";
    let setup = serve(&["m"], &(asking(service.address, GATEWAY, "") + limits)).await;
    for (user, limit, passes) in [("a", "", 1), ("b", "3", 3), ("c", "0", 0), ("d", "many", 1)] {
        let headers = [("x-user", user), ("x-limit", limit)];
        for asked in 0..passes + 1 {
            let status = if asked < passes { 200 } else { 429 };
            setup.check("m", &headers, status).await;
        }
    }
}

/// The credential of a call, as the service says; without one the call is not made.
#[tokio::test]
async fn a_service_says_by_which_credential() {
    let service = Service::start(|asked| {
        let team = asked.headers.get("x-team").cloned();
        message(|answer| {
            if let Some(team) = team {
                metadata(answer, "x-aigw-api-key", &|value| {
                    value.text(3, &format!("key-of-{team}"))
                });
            }
        })
    })
    .await;
    let credential = |fallback: bool| {
        format!(
            "---
apiVersion: v1
kind: Secret
metadata: {{name: configured}}
stringData: {{apiKey: configured}}
---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: BackendSecurityPolicy
metadata: {{name: key}}
spec:
  targetRefs: [{{group: aigateway.envoyproxy.io, kind: AIServiceBackend, name: backend}}]
  type: APIKey
  apiKey: {{secretRef: {{name: configured}}}}
  credentialOverride:
    fromDynamicMetadata: {{namespace: envoy.filters.http.ext_authz, fallbackToConfigured: {fallback}}}
"
        )
    };
    for fallback in [true, false] {
        let policies = asking(service.address, GATEWAY, "") + &credential(fallback);
        let setup = serve(&["m"], &policies).await;
        setup.check("m", &[("x-team", "a")], 200).await;
        let status = if fallback { 200 } else { 401 };
        setup.check("m", &[("x-aigw-api-key", "forged")], status).await;
        let sent: Vec<String> = setup
            .upstream
            .requests()
            .iter()
            .map(|sent| sent.header("authorization").to_owned())
            .collect();
        let expected = if fallback {
            vec!["Bearer key-of-a", "Bearer configured"]
        } else {
            vec!["Bearer key-of-a"]
        };
        assert_eq!(sent, expected);
    }
}

/// What is not for models is asked about as well.
#[tokio::test]
async fn lists_show_what_a_service_lets_in() {
    let service = Service::start(|asked| match asked.headers.get("x-in") {
        Some(_) => message(|_| {}),
        None => message(|answer| answer.message(1, |status| status.varint(1, 16))),
    })
    .await;
    let setup = serve(
        &["m", "free"],
        &asking(service.address, "kind: HTTPRoute, name: m", ""),
    )
    .await;
    for (headers, models) in [(&[][..], 1), (&[("x-in", "1")], 2)] {
        let answer = client::get(setup.served.address, "/v1/models", headers).await;
        assert_eq!(
            answer.json()["data"].as_array().map(Vec::len),
            Some(models),
            "{headers:?}"
        );
    }
}
