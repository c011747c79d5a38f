//! A service that decides, asked over HTTP.

use std::net::SocketAddr;

use serde_json::{Value, json};
use testkit::{Reply, Script, Upstream, client, upstream::Received};
use tokio::net::TcpSocket;

use super::{GATEWAY, Setup, policy, serve};
use crate::fixture::{CHAT, MESSAGES};

/// The Backend called `authz` at an address.
pub(super) fn backend(address: SocketAddr) -> String {
    format!(
        "---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: Backend
metadata: {{name: authz}}
spec: {{endpoints: [{{ip: {{address: {}, port: {}}}}}]}}
",
        address.ip(),
        address.port()
    )
}

/// What asks the service, with what else is said of the service and of the policy.
pub(super) fn ask(of_service: &str, of_policy: &str) -> String {
    format!(
        "
extAuth:
  http: {{backendRefs: [{{group: gateway.envoyproxy.io, kind: Backend, name: authz}}], {of_service}}}
  {of_policy}
"
    )
}

/// A service that lets in whoever says so, and tells who it is.
fn answers(request: &Received) -> Reply {
    match request.header("x-ask") {
        "in" => Reply::whole(
            200,
            &[
                ("x-user", "u1"),
                ("x-group", "a"),
                ("x-group", "b"),
                ("x-other", "o"),
            ],
            "",
        ),
        "accepted" => Reply::whole(202, &[], ""),
        "login" => Reply::whole(302, &[("location", "https://idp.example/login")], ""),
        "limited" => Reply::whole(429, &[("x-why", "because")], ""),
        _ => Reply::whole(
            403,
            &[("content-type", "text/plain"), ("x-why", "because")],
            "not you",
        ),
    }
}

const TOLD: &str = "path: /check, headersToBackend: [x-user, x-group]";

/// A policy on the Gateway that asks `service`, in front of the model `m`.
async fn guarded(service: &Upstream, of_service: &str, of_policy: &str) -> Setup {
    let policies = backend(service.address()) + &policy("asked", GATEWAY, &ask(of_service, of_policy));
    serve(&["m"], &policies).await
}

#[tokio::test]
async fn a_service_lets_in_and_tells_who_it_is() {
    let service = Upstream::start(Script::answer(answers)).await;
    let setup = guarded(&service, TOLD, "headersToExtAuth: [x-ask]").await;
    let headers = [
        ("x-ask", "in"),
        ("x-user", "root"),
        ("x-secret", "s"),
        ("authorization", "Bearer mine"),
    ];
    let path = format!("{CHAT}?a=1");
    let answer = setup.ask_at(&path, "m", &headers).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let asked = &service.requests()[0];
    assert_eq!(
        (asked.method.as_str(), asked.target.as_str()),
        ("POST", "/check/v1/chat/completions?a=1")
    );
    assert_eq!(
        (asked.header("authorization"), asked.header("x-ask")),
        ("Bearer mine", "in")
    );
    assert_eq!(
        (asked.header("x-secret"), asked.header("x-user"), asked.body.len()),
        ("", "", 0)
    );
    let sent = &setup.upstream.requests()[0];
    let groups: Vec<&str> = sent
        .headers
        .get_all("x-group")
        .iter()
        .flat_map(|value| value.to_str())
        .collect();
    assert_eq!(sent.header("x-user"), "u1");
    assert_eq!(groups, ["a", "b"]);
    assert_eq!(sent.header("x-other"), "");
    // What the service does not say of this request is not believed of its client.
    let without = Upstream::start(Reply::whole(200, &[], "")).await;
    let setup = guarded(&without, TOLD, "").await;
    setup.check("m", &[("x-user", "root")], 200).await;
    assert_eq!(setup.upstream.requests()[0].header("x-user"), "");
}

#[tokio::test]
async fn what_a_service_answers_is_the_answer() {
    let service = Upstream::start(Script::answer(answers)).await;
    let setup = guarded(&service, TOLD, "headersToExtAuth: [x-ask]").await;
    let answer = setup.ask("m", &[("x-ask", "out")]).await;
    assert_eq!((answer.status, answer.text().as_str()), (403, "not you"));
    assert_eq!(
        (answer.header("content-type"), answer.header("x-why")),
        ("text/plain", "because")
    );
    let answer = setup.ask("m", &[("x-ask", "login")]).await;
    assert_eq!(
        (answer.status, answer.header("location")),
        (302, "https://idp.example/login")
    );
    // Only 200 lets in.
    assert_eq!(setup.ask("m", &[("x-ask", "accepted")]).await.status, 202);
    // Without words of its own the client is told in its dialect.
    for (path, member) in [(CHAT, "/error/code"), (MESSAGES, "/error/type")] {
        let answer = setup.ask_at(path, "m", &[("x-ask", "limited")]).await;
        assert_eq!(
            (answer.status, answer.header("x-why")),
            (429, "because"),
            "{path}"
        );
        let document = answer.json();
        assert!(document.pointer(member).is_some(), "{path}: {document}");
        assert_eq!(
            document.pointer("/error/message"),
            Some(&json!("access denied")),
            "{path}"
        );
    }
    assert_eq!(setup.upstream.requests().len(), 0);
}

/// Where the service does not decide nobody is let in, or everybody.
#[tokio::test]
async fn a_service_that_does_not_decide() {
    let refusing = Upstream::refusing();
    let mut places = vec![("dead", refusing.address)];
    let mut services = Vec::new();
    for (name, reply) in [
        ("failing", Reply::whole(500, &[], "x")),
        ("malformed", Reply::new().raw("HTTP/9 what\r\n\r\n").close()),
        ("broken", Reply::new().reset()),
        (
            "cut",
            Reply::new()
                .head(200, &[("content-length", "9")])
                .raw("x")
                .close(),
        ),
        ("slow", Reply::new().stall()),
        (
            "endless",
            Reply::chunked(200, &[])
                .frame(vec![b'x'; 2 * 1024 * 1024])
                .stall(),
        ),
    ] {
        let service = Upstream::start(reply).await;
        places.push((name, service.address()));
        services.push(service);
    }
    for (name, address) in places {
        let asked = |rest: &str| {
            let rest = format!("{rest}timeout: 300ms");
            backend(address) + &policy("asked", GATEWAY, &ask(TOLD, &rest.replace('\n', "\n  ")))
        };
        let setup = serve(&["m"], &asked("")).await;
        let answer = setup.ask("m", &[]).await;
        assert_eq!(answer.status, 403, "{name}: {}", answer.text());
        assert_eq!(
            answer.json()["error"]["code"],
            "authorization_unavailable",
            "{name}"
        );
        assert!(
            !answer.text().contains(&address.port().to_string()),
            "{name}: {}",
            answer.text()
        );
        let setup = serve(&["m"], &asked("statusOnError: 503\n")).await;
        setup.check("m", &[], 503).await;
        let setup = serve(&["m"], &asked("failOpen: true\n")).await;
        setup
            .check("m", &[("x-user", "root"), ("x-mine", "1")], 200)
            .await;
        let sent = &setup.upstream.requests()[0];
        assert_eq!(
            (sent.header("x-user"), sent.header("x-mine")),
            ("", "1"),
            "{name}"
        );
    }
}

/// A service that lets in what says `open sesame` in its body.
async fn reader() -> Upstream {
    Upstream::start(Script::answer(|request| {
        let said = String::from_utf8_lossy(&request.body).contains("open sesame");
        Reply::whole(if said { 200 } else { 403 }, &[], "")
    }))
    .await
}

fn saying(text: &str) -> Value {
    json!({"model": "m", "messages": [{"role": "user", "content": text}]})
}

const BODY: &str = "bodyToExtAuth: {maxRequestBytes: 200}";

/// The body is shown whole or the request is refused, wherever it is known which policy guards it.
#[tokio::test]
async fn a_service_is_shown_the_body() {
    for target in [GATEWAY, "kind: HTTPRoute, name: m"] {
        let service = reader().await;
        let policies = backend(service.address()) + &policy("asked", target, &ask("", BODY));
        let setup = serve(&["m", "free"], &policies).await;
        let address = setup.served.address;
        for (text, status) in [
            ("open sesame", 200),
            ("open barley", 403),
            (&"open sesame".repeat(99), 413),
        ] {
            let answer = client::post(address, CHAT, &[], &saying(text)).await;
            assert_eq!(answer.status, status, "{target} {text}: {}", answer.text());
        }
        let asked = service.requests();
        assert_eq!(asked.len(), 2, "{target}");
        assert_eq!(asked[0].json(), saying("open sesame"), "{target}");
        assert_eq!(asked[0].header("x-envoy-auth-partial-body"), "false");
        // The upstream is sent the same.
        assert_eq!(
            setup.upstream.requests()[0].json()["messages"],
            saying("open sesame")["messages"]
        );
    }
}

/// A form is not held for its upstream, but it is for whoever has to see it.
#[tokio::test]
async fn a_service_is_shown_a_form() {
    for target in [GATEWAY, "kind: HTTPRoute, name: m"] {
        let service = reader().await;
        let shown = "bodyToExtAuth: {maxRequestBytes: 1000}";
        let policies = backend(service.address()) + &policy("asked", target, &ask("", shown));
        let setup = serve(&["m", "free"], &policies).await;
        let form = |said: &str| {
            format!(
                "--b\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nm\r\n--b\r\ncontent-disposition: \
                 form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\n{said}\r\n--b--\r\n"
            )
        };
        for (said, status) in [
            ("open sesame", 200),
            ("closed", 403),
            (&"open sesame".repeat(99), 413),
        ] {
            let mut client = testkit::Client::connect(setup.served.address).await;
            let form = form(said);
            let head = format!(
                "POST /v1/audio/transcriptions HTTP/1.1\r\nhost: localhost\r\ncontent-type: multipart/form-data; \
                 boundary=b\r\ncontent-length: {}\r\n\r\n{form}",
                form.len()
            );
            client.send(head).await.expect("the request is taken");
            let answer = client.answer().await.expect("there is a reply");
            assert_eq!(answer.status, status, "{target} {said}: {}", answer.text());
        }
        let sent = setup.upstream.requests();
        assert_eq!(sent.len(), 1, "{target}");
        assert!(
            String::from_utf8_lossy(&sent[0].body).contains("open sesame"),
            "{target}"
        );
    }
}

/// An HTTPRoute for files, and what its backend answers.
const FILES: &str = "---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: files}
spec:
  parentRefs: [{name: gateway}]
  rules:
    - name: private
      matches: [{path: {type: PathPrefix, value: /private}}]
      backendRefs: [{group: gateway.envoyproxy.io, kind: Backend, name: backend}]
    - name: public
      matches: [{path: {type: PathPrefix, value: /public}}]
      backendRefs: [{group: gateway.envoyproxy.io, kind: Backend, name: backend}]
";

/// Plain requests are guarded as those for models are, by rule as well.
#[tokio::test]
async fn plain_routes_are_guarded() {
    let service = reader().await;
    let rule = "kind: HTTPRoute, name: files, sectionName: private";
    let policies = [
        FILES,
        &backend(service.address()),
        &policy("asked", rule, &ask("", BODY)),
    ]
    .concat();
    let setup = serve(&["m"], &policies).await;
    let address = setup.served.address;
    for (path, text, status) in [
        ("/private/a", "open sesame", 200),
        ("/private/a", "closed", 403),
        ("/private/a", &"open sesame".repeat(99), 413),
        ("/public/a", "closed", 200),
        (CHAT, "closed", 200),
    ] {
        let answer = client::post(address, path, &[], &saying(text)).await;
        assert_eq!(answer.status, status, "{path} {text}: {}", answer.text());
    }
    assert_eq!(setup.upstream.requests()[0].json(), saying("open sesame"));
    assert_eq!(client::get(address, "/private/a", &[]).await.status, 403);
    assert_eq!(client::get(address, "/public/a", &[]).await.status, 200);
}

/// The route of a request that its service has a say in, and the policies of the route that it leads to.
#[tokio::test]
async fn a_service_may_lead_to_another_route() {
    let service = Upstream::start(Reply::whole(200, &[("x-tier", "gold")], "")).await;
    let gold = "---
apiVersion: aigateway.envoyproxy.io/v1beta1
kind: AIGatewayRoute
metadata: {name: gold}
spec:
  parentRefs: [{name: gateway}]
  rules:
    - matches: [{headers: [{name: x-ai-eg-model, value: m}, {name: x-tier, value: gold}]}]
      backendRefs: [{name: backend, modelNameOverride: golden}]
";
    for (rest, closed, expected) in [
        ("recomputeRoute: false", false, Some("m")),
        ("recomputeRoute: true", false, Some("golden")),
        ("recomputeRoute: true", true, None),
    ] {
        let target = "kind: HTTPRoute, name: m";
        let mut policies = [gold, &backend(service.address())].concat();
        policies += &policy("asked", target, &ask("headersToBackend: [x-tier]", rest));
        if closed {
            policies += &policy(
                "gold",
                "kind: HTTPRoute, name: gold",
                "authorization: {defaultAction: Deny}",
            );
        }
        let setup = serve(&["m"], &policies).await;
        let answer = setup.ask("m", &[]).await;
        assert_eq!(
            answer.status,
            if expected.is_some() { 200 } else { 403 },
            "{rest}: {}",
            answer.text()
        );
        let asked = setup.upstream.requests().first().map(Received::json);
        let model = asked.as_ref().and_then(|asked| asked["model"].as_str());
        assert_eq!(model, expected, "{rest}");
    }
}

/// What the service puts into a request counts for what comes after it; its refusals can be read by pages.
#[tokio::test]
async fn a_service_is_asked_before_other_policies() {
    let service = Upstream::start(Script::answer(answers)).await;
    let rest = "cors: {allowOrigins: ['https://app.example']}
authorization: {rules: [{action: Allow, principal: {headers: [{name: x-user, values: [u1]}]}}]}";
    let asked = ask(TOLD, "headersToExtAuth: [x-ask]") + rest;
    let policies = backend(service.address()) + &policy("asked", GATEWAY, &asked);
    let setup = serve(&["m"], &policies).await;
    setup.check("m", &[("x-ask", "in")], 200).await;
    let origin = ("origin", "https://app.example");
    let answer = setup.ask("m", &[origin, ("x-ask", "out")]).await;
    assert_eq!(answer.status, 403);
    assert_eq!(
        answer.header("access-control-allow-origin"),
        "https://app.example"
    );
}

/// A policy whose service is not to be found refuses everybody.
#[tokio::test]
async fn a_service_that_is_not_declared_lets_nobody_in() {
    let setup = serve(&["m"], &policy("asked", GATEWAY, &ask("", ""))).await;
    let answer = setup.ask("m", &[]).await;
    assert_eq!(answer.status, 500, "{}", answer.text());
    assert!(answer.text().contains("cannot be applied"), "{}", answer.text());
}

/// Of several services each has its share, and what is in reserve is asked where the others are not there.
#[tokio::test]
async fn several_services_share_the_work() {
    let start = async || Upstream::start(Script::answer(answers)).await;
    let (first, second) = (start().await, start().await);
    let nobody = Upstream::start(Script::answer(answers)).await.address();
    let named = |name: &str, address| backend(address).replace("name: authz", &format!("name: {name}"));
    let check = async |references: &str, expected: [bool; 2]| {
        let before = [first.requests().len(), second.requests().len()];
        let backends =
            named("first", first.address()) + &named("second", second.address()) + &named("gone", nobody);
        let references = references.replace("{", "{group: gateway.envoyproxy.io, kind: Backend, ");
        let ask = format!("extAuth: {{http: {{backendRefs: [{references}]}}, headersToExtAuth: [x-ask]}}");
        let setup = serve(&["m"], &(backends + &policy("asked", GATEWAY, &ask))).await;
        for _ in 0..12 {
            assert_eq!(
                setup.ask("m", &[("x-ask", "in")]).await.status,
                200,
                "{references}"
            );
        }
        let after = [first.requests().len(), second.requests().len()];
        let asked = [after[0] > before[0], after[1] > before[1]];
        assert_eq!(asked, expected, "{references}");
    };
    check(
        "{name: first, weight: 3}, {name: second, weight: 0}",
        [true, false],
    )
    .await;
    check("{name: first, fallback: true}, {name: second}", [false, true]).await;
    check("{name: first, fallback: true}, {name: gone}", [true, false]).await;
    check("{name: first, fallback: true}", [true, false]).await;
}

/// A service that is not reached is asked again as often as it is to be: of two endpoints one is nowhere.
#[tokio::test]
async fn a_service_is_asked_again_where_it_is_not_reached() {
    let service = Upstream::start(Script::answer(answers)).await;
    // Bound, so that nobody else gets it, and not listening.
    let nowhere = TcpSocket::new_v4().expect("a socket");
    nowhere
        .bind(SocketAddr::from(([127, 0, 0, 1], 0)))
        .expect("a free port");
    let nobody = nowhere.local_addr().expect("bound");
    let endpoint = |port: u16| format!("{{ip: {{address: 127.0.0.1, port: {port}}}}}");
    let both = format!(
        "{}, {}",
        endpoint(service.address().port()),
        endpoint(nobody.port())
    );
    let backend = backend(service.address()).replace(&endpoint(service.address().port()), &both);
    assert!(backend.contains(&both), "{backend}");
    let settings = "backendSettings: {retry: {numRetries: 40}, timeout: {tcp: {connectTimeout: 5s}}}";
    let asked = ask(settings, "headersToExtAuth: [x-ask]");
    let setup = serve(&["m"], &(backend + &policy("asked", GATEWAY, &asked))).await;
    for _ in 0..12 {
        setup.check("m", &[("x-ask", "in")], 200).await;
    }
}
