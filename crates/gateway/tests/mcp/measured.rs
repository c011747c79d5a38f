//! What is counted and timed of MCP.

use std::net::SocketAddr;

use gateway::{Gateway, HeaderAttributes, Options, Telemetry};
use serde_json::json;
use testkit::{Reply, client};

use crate::{
    served::{PATH, Served, snapshot},
    server::{echo, echoed, result, start},
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
