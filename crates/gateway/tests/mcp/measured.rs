//! What is counted and timed of MCP.

use std::net::SocketAddr;

use gateway::{Gateway, HeaderAttributes, Options, Telemetry};
use serde_json::{Value, json};
use testkit::{Gate, Reply, client};

use crate::{
    served::{PATH, Served, notification, request, snapshot},
    server::{answer, echo, echoed, event, result, start, start_with},
};

/// Serves `backends`, and tells what is counted.
async fn serve(backends: &[(&str, SocketAddr, &str)]) -> Served {
    let options = Options {
        admin: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        ..Options::default()
    };
    serve_with(options, backends).await
}

async fn serve_with(options: Options, backends: &[(&str, SocketAddr, &str)]) -> Served {
    let gateway = Gateway::start(options).await.expect("the admin port is free");
    gateway
        .install(snapshot("", backends))
        .await
        .expect("the port is free");
    let address = *gateway.addresses().first().expect("one listener");
    let mut served = Served {
        gateway,
        address,
        session: String::new(),
    };
    served.open().await;
    served
}

/// Returns the value of the series of `name` that has exactly these labels beside those of the scope.
async fn metric(served: &Served, name: &str, labels: &[&str]) -> f64 {
    let admin = served.gateway.admin_address().expect("an admin listener");
    let text = client::get(admin, "/metrics", &[]).await.text();
    let own = |line: &&str| {
        let (found, rest) = line.split_once('{').unwrap_or((line, ""));
        let held = rest.split_once('}').map_or("", |(held, _)| held);
        let count = held
            .split("\",")
            .filter(|label| !label.starts_with("otel_scope"))
            .count();
        found == name && labels.iter().all(|label| held.contains(label)) && count == labels.len()
    };
    let value = text.lines().find(own).and_then(|line| line.rsplit(' ').next());
    value.map_or(0.0, |value| value.parse().expect("a number"))
}

#[tokio::test]
async fn requests_are_counted_by_method_and_end() {
    let fails = start(
        "two",
        Box::new(|_, message| {
            if message["params"]["name"] == "echo" {
                return Some(result(message, json!({ "content": [], "isError": true })));
            }
            echoed(message)
        }),
    )
    .await;
    let (one, gone) = (echo("one").await, testkit::Upstream::refusing());
    let served = serve(&[
        ("one", one.address(), ""),
        ("two", fails.address(), ""),
        ("gone", gone.address, ""),
    ])
    .await;
    served.call("one__echo").await;
    served.call("two__echo").await;
    served.call("nobody__echo").await;
    served.ask("tools/list", json!({})).await;
    served.ask("ping", json!({})).await;
    let check = async |name: &str, labels: &[&str], expected: f64| {
        assert_eq!(metric(&served, name, labels).await, expected, "{name} {labels:?}");
    };
    let (one, two) = ("mcp_backend=\"one\"", "mcp_backend=\"two\"");
    let (call, list) = ("mcp_method_name=\"tools/call\"", "mcp_method_name=\"tools/list\"");
    check("mcp_method_count_total", &[call, "status=\"success\"", one], 1.0).await;
    check("mcp_method_count_total", &[call, "status=\"failed\"", two], 1.0).await;
    check("mcp_method_count_total", &[call, "status=\"error\""], 1.0).await;
    check("mcp_method_count_total", &[list, "status=\"success\""], 1.0).await;
    let opened = ["mcp_method_name=\"initialize\"", "status=\"success\""];
    check("mcp_method_count_total", &opened, 1.0).await;
    // A call and a part of a list.
    check("mcp_request_duration_count", &[one], 2.0).await;
    check(
        "mcp_request_duration_count",
        &["error_type=\"internal_error\"", two],
        1.0,
    )
    .await;
    check(
        "mcp_request_duration_count",
        &["error_type=\"invalid_param\""],
        1.0,
    )
    .await;
    check("mcp_initialization_duration_seconds_count", &[one], 1.0).await;
    // The same in the words of OpenTelemetry's conventions: what clients asked, and what servers were.
    let ours = "mcp_server_operation_duration_seconds_count";
    let version = "mcp_protocol_version=\"2025-06-18\"";
    check(ours, &[call, version], 1.0).await;
    check(ours, &[list, version], 1.0).await;
    for error in ["error_type=\"tool_error\"", "error_type=\"invalid_param\""] {
        check(ours, &[call, version, error], 1.0).await;
    }
    let theirs = "mcp_client_operation_duration_seconds_count";
    check(theirs, &[call, one], 1.0).await;
    check(theirs, &[call, two], 1.0).await;
    check(theirs, &[list, one], 1.0).await;
    let initialize = "mcp_method_name=\"initialize\"";
    check(theirs, &[initialize, one], 1.0).await;
    let gone = "mcp_backend=\"gone\"";
    check(theirs, &[initialize, gone, "error_type=\"unreachable\""], 2.0).await;
    let failed = [
        "mcp_backend=\"gone\"",
        "phase=\"initialize\"",
        "reason=\"unreachable\"",
    ];
    // When the session is opened, and when the list needs it.
    check("mcp_backend_failures_total", &failed, 2.0).await;
    let tools = ["capability_side=\"server\"", "capability_type=\"tools\"", one];
    check("mcp_capabilities_negotiated_total", &tools, 1.0).await;
    let sampling = ["capability_side=\"client\"", "capability_type=\"sampling\""];
    check("mcp_capabilities_negotiated_total", &sampling, 1.0).await;
    let admin = served.gateway.admin_address().expect("an admin listener");
    let text = client::get(admin, "/metrics", &[]).await.text();
    let first = text
        .lines()
        .filter(|line| line.starts_with("mcp_request_duration_bucket"));
    let bounds: Vec<&str> = first
        .filter(|line| line.contains(two) && line.contains("error_type"))
        .filter_map(|line| line.split("le=\"").nth(1)?.split('"').next())
        .collect();
    let expected = [
        "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "5.0", "10.0", "+Inf",
    ];
    assert_eq!(bounds, expected);
}

/// What a message says itself comes before its headers, however it is capitalised; what is not asked for is no label.
#[tokio::test]
async fn headers_and_messages_become_labels() {
    let one = echo("one").await;
    let attributes = HeaderAttributes::parse(None, None, Some("x-team:team.id"), None).expect("a list");
    let options = Options {
        admin: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        telemetry: Telemetry {
            attributes,
            ..Telemetry::default()
        },
        ..Options::default()
    };
    let served = serve_with(options, &[("one", one.address(), "")]).await;
    let call = async |headers: &[(&str, &str)], meta: serde_json::Value| {
        let params = json!({ "name": "one__echo", "_meta": meta });
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params });
        let accept = ("accept", "application/json, text/event-stream");
        let session = ("mcp-session-id", served.session.as_str());
        let headers = [&[accept, session], headers].concat();
        let answer = client::post(served.address, PATH, &headers, &request).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    call(&[("x-team", "red")], json!({})).await;
    call(&[("x-team", "red")], json!({ "X-Team": "blue", "other": "x" })).await;
    call(&[("x-team", "")], json!({})).await;
    let labels = [
        "mcp_method_name=\"tools/call\"",
        "status=\"success\"",
        "mcp_backend=\"one\"",
    ];
    for (team, expected) in [
        (Some("team_id=\"red\""), 1.0),
        (Some("team_id=\"blue\""), 1.0),
        (None, 1.0),
    ] {
        let labels: Vec<&str> = labels.into_iter().chain(team).collect();
        assert_eq!(
            metric(&served, "mcp_method_count_total", &labels).await,
            expected,
            "{team:?}"
        );
    }
}

/// Old dashboards know one duration by another name, and with a unit that is none of its own.
#[tokio::test]
async fn an_old_name_is_there_for_who_asks_for_it() {
    let one = echo("one").await;
    for (old, expected) in [(false, 0.0), (true, 1.0)] {
        let options = Options {
            admin: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
            old_metric_names: old,
            ..Options::default()
        };
        let served = serve_with(options, &[("one", one.address(), "")]).await;
        let labels = ["mcp_backend=\"one\""];
        for (name, expected) in [
            ("mcp_initialization_duration_seconds_count", 1.0),
            ("mcp_initialization_duration_token_count", expected),
        ] {
            assert_eq!(metric(&served, name, &labels).await, expected, "{name} {old}");
        }
    }
}

/// An answer to nothing that was asked, of a client and of a server.
#[tokio::test]
async fn answers_that_are_none_are_counted() {
    let strange = start(
        "one",
        Box::new(|_, message| {
            let lists = message["method"] == "tools/list";
            lists.then(|| Reply::json(200, &json!("what is this?")))
        }),
    )
    .await;
    let served = serve(&[("one", strange.address(), "")]).await;
    let forged = json!({ "jsonrpc": "2.0", "id": "x", "result": {} });
    assert_eq!(served.send(&forged).await.status, 400);
    let error = "error_type=\"unsupported_response\"";
    assert_eq!(metric(&served, "mcp_request_duration_count", &[error]).await, 1.0);
    served.ask("tools/list", json!({})).await;
    let labels = [error, "mcp_backend=\"one\""];
    assert_eq!(metric(&served, "mcp_request_duration_count", &labels).await, 1.0);
}

/// What both sides declare when a session is opened, and what they tell of later.
#[tokio::test]
async fn what_sessions_are_for_is_counted() {
    let can = json!({
        "tools": {}, "prompts": {}, "resources": {}, "logging": {}, "completions": {},
        "experimental": { "a": {}, "b": {} },
    });
    let server = start_with(
        can,
        "one",
        Box::new(|_, message| {
            let told = notification(
                "notifications/progress",
                &json!({ "progressToken": "p", "progress": 1 }),
            );
            let done = answer(
                message,
                json!({ "content": [{ "type": "text", "text": "validating: no" }], "isError": true }),
            );
            (message["method"] == "tools/call").then(|| {
                Reply::stream()
                    .frame(event("", &told))
                    .frame(event("", &done))
                    .end()
            })
        }),
    )
    .await;
    let mut served = serve(&[("one", server.address(), "")]).await;
    let params = json!({
        "protocolVersion": "2025-06-18",
        "capabilities": { "sampling": {}, "elicitation": {}, "roots": { "listChanged": true }, "experimental": { "x": {} } },
        "clientInfo": { "name": "test", "version": "1" },
    });
    let opened = served.send(&request(0, "initialize", &params)).await;
    opened.header("mcp-session-id").clone_into(&mut served.session);
    let check = async |name: &str, labels: &[&str], expected: f64| {
        assert_eq!(metric(&served, name, labels).await, expected, "{name} {labels:?}");
    };
    let one = "mcp_backend=\"one\"";
    // The first of two sessions has declared nothing but sampling.
    for (kind, count) in [
        ("sampling", 2.0),
        ("elicitation", 1.0),
        ("roots", 1.0),
        ("experimental", 1.0),
    ] {
        let kind = format!("capability_type=\"{kind}\"");
        check(
            "mcp_capabilities_negotiated_total",
            &["capability_side=\"client\"", &kind],
            count,
        )
        .await;
    }
    for (kind, count) in [
        ("tools", 2.0),
        ("prompts", 2.0),
        ("resources", 2.0),
        ("logging", 2.0),
        ("completions", 2.0),
        ("experimental", 4.0),
    ] {
        let kind = format!("capability_type=\"{kind}\"");
        check(
            "mcp_capabilities_negotiated_total",
            &["capability_side=\"server\"", &kind, one],
            count,
        )
        .await;
    }
    served.call("one__x").await;
    let progress = notification(
        "notifications/progress",
        &json!({ "progressToken": "p", "progress": 1 }),
    );
    assert_eq!(served.send(&progress).await.status, 400);
    let roots = notification("notifications/roots/list_changed", &json!({}));
    assert_eq!(served.send(&roots).await.status, 202);
    check("mcp_progress_notifications_total", &[], 2.0).await;
    let method = |method: &str| format!("mcp_method_name=\"{method}\"");
    let (told, changed, call) = (
        method("notifications/progress"),
        method("notifications/roots/list_changed"),
        method("tools/call"),
    );
    check("mcp_method_count_total", &[&told, "status=\"success\"", one], 1.0).await;
    check("mcp_method_count_total", &[&told, "status=\"error\""], 1.0).await;
    check("mcp_method_count_total", &[&changed, "status=\"success\""], 1.0).await;
    check("mcp_method_count_total", &[&call, "status=\"failed\"", one], 1.0).await;
    // That its arguments were wrong is what the tool says.
    let wrong = "error_type=\"invalid_param\"";
    check("mcp_request_duration_count", &[wrong, one], 1.0).await;
    check("mcp_request_duration_count", &[wrong], 1.0).await;
}

/// Each way of being refused has its type.
#[tokio::test]
async fn errors_have_types() {
    let (one, two) = (echo("one").await, echo("two").await);
    let served = serve(&[("one", one.address(), ""), ("two", two.address(), "")]).await;
    let check = async |message: Value, kind: &str| {
        served.send(&message).await;
        let label = format!("error_type=\"{kind}\"");
        assert_eq!(
            metric(&served, "mcp_request_duration_count", &[&label]).await,
            1.0,
            "{kind}"
        );
    };
    check(request(1, "no/such", &json!({})), "unsupported_method").await;
    check(
        request(2, "tools/call", &json!({ "name": "nobody__x" })),
        "invalid_param",
    )
    .await;
    let ended = json!({ "jsonrpc": "2.0", "id": 3, "method": "ping" });
    let headers = [
        ("accept", "application/json, text/event-stream"),
        ("mcp-session-id", "not a session"),
    ];
    assert_eq!(
        client::post(served.address, PATH, &headers, &ended).await.status,
        404
    );
    let label = "error_type=\"invalid_session_id\"";
    assert_eq!(metric(&served, "mcp_request_duration_count", &[label]).await, 1.0);
}

/// Failures are counted by what was being done.
#[tokio::test]
async fn failures_are_counted_by_phase_and_reason() {
    let fails = start(
        "one",
        Box::new(|_, message| match message["method"].as_str()? {
            "tools/call" => Some(Reply::whole(429, &[], "")),
            "tools/list" => Some(Reply::stream().frame(": hm\n\n").reset()),
            _ => None,
        }),
    )
    .await;
    let served = serve(&[("one", fails.address(), "")]).await;
    served.call("one__echo").await;
    served.ask("tools/list", json!({})).await;
    for (phase, reason) in [("call", "status"), ("list", "broken")] {
        let (phase, reason) = (format!("phase=\"{phase}\""), format!("reason=\"{reason}\""));
        let labels = ["mcp_backend=\"one\"", &phase, &reason];
        assert_eq!(
            metric(&served, "mcp_backend_failures_total", &labels).await,
            1.0,
            "{labels:?}"
        );
    }
}

#[tokio::test]
async fn sessions_and_streams_are_counted_while_they_last() {
    let gate = Gate::new();
    let held = gate.clone();
    let one = start(
        "one",
        Box::new(move |received, _| {
            (received.method == "GET").then(|| Reply::stream().frame("data: \n\n").wait(&held).stall())
        }),
    )
    .await;
    let mut served = serve(&[("one", one.address(), "")]).await;
    let sessions = async |served: &Served| metric(served, "mcp_sessions_active", &[]).await;
    assert_eq!(sessions(&served).await, 1.0);
    let first = served.session.clone();
    served.session.clear();
    served.open().await;
    served.call("one__echo").await;
    assert_eq!(sessions(&served).await, 2.0);
    let mut stream = served.listen(&[]).await;
    stream.head().await.expect("a head");
    assert_eq!(metric(&served, "mcp_streams_active", &[]).await, 1.0);
    drop(stream);
    one.closed().await;
    while metric(&served, "mcp_streams_active", &[]).await > 0.0 {}
    client::delete(served.address, PATH, &served.headers()).await;
    assert_eq!(sessions(&served).await, 1.0);
    served.session = first;
    client::delete(served.address, PATH, &served.headers()).await;
    assert_eq!(sessions(&served).await, 0.0);
    assert_eq!(
        metric(&served, "mcp_token_derivations_total", &[]).await,
        0.0,
        "ours need none"
    );
}
