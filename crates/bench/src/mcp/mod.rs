//! MCP, measured: calls, lists and sessions by few and many clients, and streams on which nothing is said.
//!
//! There is no other proxy in this field, so every case is measured with and without the gateway, and what counts is
//! the difference. A list without it is that of one server.

pub(crate) mod server;

use std::{
    fmt::Write as _,
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::Command,
    time::Duration,
};

use anyhow::{Context, bail};
use bytes::Bytes;
use serde_json::json;

use crate::{
    contender,
    load::Load,
    process::Process,
    run::{Figures, Mock, figures},
};
use server::{SAID, Server};

/// What is measured, and how much.
#[derive(Debug, clap::Args)]
pub(crate) struct Plan {
    /// The gateway's binary, of a release build.
    #[arg(long)]
    tollgate: PathBuf,
    /// Only the cases with this in their name; `idle` is a case.
    #[arg(long)]
    only: Vec<String>,
    /// Length of one measurement.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Where configurations and logs go.
    #[arg(long, default_value = "target/bench")]
    dir: PathBuf,
}

/// One kind of request.
struct Case {
    name: &'static str,
    path: &'static str,
    method: &'static str,
    stream: bool,
    /// Servers behind the path.
    backends: usize,
}

const TOOLS: usize = 10;

const CASES: &[Case] = &[
    Case {
        name: "call-json",
        path: "/one",
        method: "tools/call",
        stream: false,
        backends: 1,
    },
    Case {
        name: "call-sse",
        path: "/sse",
        method: "tools/call",
        stream: true,
        backends: 1,
    },
    Case {
        name: "list-8",
        path: "/eight",
        method: "tools/list",
        stream: false,
        backends: 8,
    },
    Case {
        name: "list-32",
        path: "/many",
        method: "tools/list",
        stream: false,
        backends: 32,
    },
    Case {
        name: "initialize",
        path: "/one",
        method: "initialize",
        stream: false,
        backends: 1,
    },
];

const CLIENTS: &[usize] = &[1, 16, 256];
const STREAMS: usize = 1000;

/// The most that the gateway may add to a call by 16 clients: at the median, and at the 99th percentile.
const ADDED: (f64, f64) = (150.0, 2000.0);
/// The most memory of a stream on which nothing is said.
const IDLE: f64 = 20.0 * 1024.0;

/// Measures all of it; returns the table.
pub(crate) fn measure(plan: &Plan) -> anyhow::Result<String> {
    fs::create_dir_all(&plan.dir)?;
    let mock = Mock::start(&plan.dir)?;
    let (gateway, address) = start(plan, mock.address)?;
    let wanted =
        |name: &str| plan.only.is_empty() || plan.only.iter().any(|only| name.contains(only.as_str()));
    let mut out = format!(
        "{:12}{:>8}{:>12}{:>12}{:>12}{:>12}{:>12}{:>12}\n",
        "case", "clients", "a second", "p50 us", "p99 us", "+p50 us", "+p99 us", "CPU us"
    );
    for case in CASES.iter().filter(|case| wanted(case.name)) {
        for clients in CLIENTS {
            let direct = case.run(plan, mock.address, &case.direct(), *clients, None)?;
            let through = case.run(plan, address, case.path, *clients, Some(&gateway))?;
            let added = (through.p50 - direct.p50, through.p99 - direct.p99);
            let judged = case.method == "tools/call" && *clients == 16;
            let missed = judged && (added.0 > ADDED.0 || added.1 > ADDED.1);
            writeln!(
                out,
                "{:12}{clients:>8}{:>12.0}{:>12.0}{:>12.0}{:>12.0}{:>12.0}{:>12.1}{}",
                case.name,
                through.rate,
                through.p50,
                through.p99,
                added.0,
                added.1,
                through.cpu.unwrap_or(f64::NAN),
                if missed { "  MISSED" } else { "" },
            )?;
        }
    }
    if wanted("idle") {
        let each = idle(address, &gateway)?;
        let word = if each > IDLE { "  MISSED" } else { "" };
        writeln!(
            out,
            "{:12}{STREAMS:>8}{:>12.1} KiB a stream{word}",
            "idle",
            each / 1024.0
        )?;
    }
    Ok(out)
}

/// Starts the gateway in front of mock servers at `upstream`.
fn start(plan: &Plan, upstream: SocketAddr) -> anyhow::Result<(Process, SocketAddr)> {
    let address = contender::free_address()?;
    let resources = plan.dir.join("mcp.yaml");
    fs::write(&resources, yaml(address.port(), upstream)?)?;
    let mut command = Command::new(&plan.tollgate);
    command.arg("run").arg(&resources);
    command.args([
        "--admin-port",
        &contender::free_address()?.port().to_string(),
        "--access-log",
        "json",
    ]);
    let mut process = Process::start(command, &plan.dir, "tollgate-mcp")?;
    let opens = body("initialize");
    contender::answers_to(address, "/one", &opens, || process.ended()).context("the gateway")?;
    Ok((process, address))
}

fn yaml(port: u16, upstream: SocketAddr) -> anyhow::Result<String> {
    let mut yaml = format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: bench}}\nspec:\n  gatewayClassName: \
         tollgate\n  listeners: [{{name: http, protocol: HTTP, port: {port}}}]\n"
    );
    let most = CASES.iter().map(|case| case.backends).max().unwrap_or(1);
    for index in 0..most {
        writeln!(
            yaml,
            "---\napiVersion: gateway.envoyproxy.io/v1alpha1\nkind: Backend\nmetadata: {{name: b{index}}}\nspec: \
             {{endpoints: [{{ip: {{address: {}, port: {}}}}}]}}",
            upstream.ip(),
            upstream.port()
        )?;
    }
    // Two cases may share a path.
    let paths = ["/one", "/sse", "/eight", "/many"];
    let cases = paths
        .iter()
        .filter_map(|path| CASES.iter().find(|case| case.path == *path));
    for case in cases {
        let name = case.path.trim_start_matches('/');
        writeln!(
            yaml,
            "---\napiVersion: aigateway.envoyproxy.io/v1beta1\nkind: MCPRoute\nmetadata: {{name: {name}}}\nspec:\n  \
             parentRefs: [{{name: bench}}]\n  path: {}\n  backendRefs:",
            case.path
        )?;
        for index in 0..case.backends {
            let path = Server::path(TOOLS, case.stream);
            writeln!(
                yaml,
                "    - {{group: gateway.envoyproxy.io, kind: Backend, name: b{index}, path: {path}}}"
            )?;
        }
    }
    Ok(yaml)
}

fn body(method: &str) -> Bytes {
    let params = match method {
        "initialize" => json!({ "protocolVersion": "2025-11-25", "capabilities": {},
            "clientInfo": { "name": "bench", "version": "1" } }),
        "tools/call" => json!({ "name": "b0__tool_0", "arguments": { "text": SAID } }),
        _ => json!({}),
    };
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    Bytes::from(request.to_string())
}

impl Case {
    /// Returns the path of the server itself.
    fn direct(&self) -> String {
        Server::path(TOOLS, self.stream)
    }

    fn run(
        &self,
        plan: &Plan,
        address: SocketAddr,
        path: &str,
        clients: usize,
        gateway: Option<&Process>,
    ) -> anyhow::Result<Figures> {
        let sessions = match self.method {
            "initialize" => Vec::new(),
            _ => (0..clients)
                .map(|_| open(address, path))
                .collect::<Result<_, _>>()?,
        };
        let measured = Duration::try_from_secs_f64(plan.seconds)?;
        let load = Load {
            path: path.to_owned(),
            body: body(self.method),
            sessions,
            fault,
            connections: clients,
            warm_up: measured / 10,
            measured,
            ..Load::chat(address, Bytes::new(), self.stream)
        };
        let (before, outcome) = load.run(|| gateway.map(Process::cpu))?;
        let after = gateway.map(Process::cpu);
        let cpu = before.zip(after).map(|(before, after)| after.since(&before));
        if let Some(error) = outcome.errors.first() {
            bail!("{} by {clients}: {error}", self.name);
        }
        Ok(figures(outcome, cpu, gateway.map(Process::memory)))
    }
}

fn fault(reply: &[u8], _: bool) -> Option<String> {
    let reply = String::from_utf8_lossy(reply);
    (!reply.contains(r#""result":{"#)).then(|| reply.chars().take(200).collect())
}

/// Opens a session; returns its id.
fn open(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let body = body("initialize");
    let mut stream = TcpStream::connect(address)?;
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    )?;
    stream.write_all(&body)?;
    let head = head(&mut stream)?;
    let id = head
        .lines()
        .find_map(|line| line.strip_prefix("mcp-session-id: "));
    id.map(str::to_owned)
        .with_context(|| format!("no session: {head}"))
}

fn head(stream: &mut TcpStream) -> anyhow::Result<String> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut read = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let len = stream.read(&mut piece)?;
        read.extend_from_slice(piece.get(..len).unwrap_or_default());
        let text = String::from_utf8_lossy(&read);
        if let Some((head, _)) = text.split_once("\r\n\r\n") {
            return Ok(head.to_owned());
        }
        if len == 0 {
            bail!("the connection ended within a head");
        }
    }
}

/// Returns the bytes that a stream takes on which nothing is said, its connections to both sides included.
fn idle(address: SocketAddr, gateway: &Process) -> anyhow::Result<f64> {
    let sessions: Vec<String> = (0..STREAMS)
        .map(|_| open(address, "/one"))
        .collect::<Result<_, _>>()?;
    let before = gateway.memory().resident;
    let mut streams = Vec::with_capacity(STREAMS);
    for session in &sessions {
        let mut stream = TcpStream::connect(address)?;
        write!(
            stream,
            "GET /one HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\nmcp-session-id: {session}\r\n\r\n"
        )?;
        let head = head(&mut stream)?;
        if !head.starts_with("HTTP/1.1 200") {
            bail!("no stream: {head}");
        }
        streams.push(stream);
    }
    let after = gateway.memory().resident;
    Ok(after.saturating_sub(before) as f64 / STREAMS as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_has_a_route() {
        let yaml = yaml(1975, SocketAddr::from(([127, 0, 0, 1], 1))).expect("a String takes everything");
        for case in CASES {
            assert!(yaml.contains(&format!("path: {}\n", case.path)), "{}", case.name);
            assert!(yaml.contains(&case.direct()), "{}", case.name);
        }
        assert_eq!(yaml.matches("kind: Backend\n").count(), 32);
        assert_eq!(fault(br#"{"result":{}}"#, false), None);
    }
}
