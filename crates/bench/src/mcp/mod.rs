//! MCP, measured: calls, lists and sessions by few and many clients, and streams on which nothing is said.
//!
//! There is no other proxy in this field, so every case is played with and without the gateway, in turns, and what counts
//! is the difference. A list without it is that of one server.

mod report;
pub(crate) mod server;

use std::{
    fmt::Write as _,
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context, bail};
use bytes::Bytes;
use serde_json::json;

use crate::{
    contender,
    load::Load,
    process::Process,
    run::{DIRECT, Figures, Mock, Plan, Row, TOLLGATE, figures, progress},
};
use server::{SAID, Server};

/// What was measured of MCP.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    cases: Vec<CaseResult>,
    /// Bytes of a stream on which nothing is said.
    idle: Option<f64>,
}

/// One kind of request by so many clients, of the server itself and through the gateway.
#[derive(Debug)]
struct CaseResult {
    case: &'static Case,
    clients: usize,
    direct: Row,
    through: Row,
}

/// One kind of request.
#[derive(Debug)]
struct Case {
    name: &'static str,
    path: &'static str,
    method: &'static str,
    stream: bool,
    /// Servers behind the path.
    backends: usize,
    clients: &'static [usize],
    /// From one request of a client to its next.
    every: Duration,
}

const TOOLS: usize = 10;

const CASES: &[Case] = &[
    Case {
        name: "mcp-call-json",
        path: "/one",
        method: "tools/call",
        stream: false,
        backends: 1,
        clients: CLIENTS,
        every: Duration::ZERO,
    },
    Case {
        name: "mcp-call-paced",
        path: "/one",
        method: "tools/call",
        stream: false,
        backends: 1,
        clients: &[SOME],
        every: Duration::from_millis(16),
    },
    Case {
        name: "mcp-call-sse",
        path: "/sse",
        method: "tools/call",
        stream: true,
        backends: 1,
        clients: CLIENTS,
        every: Duration::ZERO,
    },
    Case {
        name: "mcp-list-8",
        path: "/eight",
        method: "tools/list",
        stream: false,
        backends: 8,
        clients: CLIENTS,
        every: Duration::ZERO,
    },
    Case {
        name: "mcp-list-32",
        path: "/many",
        method: "tools/list",
        stream: false,
        backends: 32,
        clients: CLIENTS,
        every: Duration::ZERO,
    },
    Case {
        name: "mcp-initialize",
        path: "/one",
        method: "initialize",
        stream: false,
        backends: 1,
        clients: CLIENTS,
        every: Duration::ZERO,
    },
];

const CLIENTS: &[usize] = &[1, SOME, 256];
/// The clients that the targets are about.
const SOME: usize = 16;
const STREAMS: usize = 1000;

/// The name of the case with streams on which nothing is said.
const IDLE: &str = "mcp-idle";

/// How long a process is let come to rest before its memory is read.
const REST: Duration = Duration::from_secs(1);

/// Returns the names of all cases.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    CASES.iter().map(|case| case.name).chain([IDLE])
}

/// Measures what `plan` asks for, with the gateway `binary` in front of servers that `mock` plays.
pub(crate) fn measure(plan: &Plan, binary: &Path, dir: &Path, mock: &Mock) -> anyhow::Result<Measured> {
    let (gateway, address) = start(binary, dir, mock.address)?;
    let mut measured = Measured::default();
    // First: what a busy process has let go of would stand in for what streams take.
    if plan.wants(IDLE) {
        progress(IDLE);
        measured.idle = Some(idle(address, &gateway)?);
    }
    for case in CASES.iter().filter(|case| plan.wants(case.name)) {
        for clients in case.clients {
            progress(&format!("{}: {clients} clients", case.name));
            let mut result = CaseResult {
                case,
                clients: *clients,
                direct: Row::of(DIRECT),
                through: Row::of(TOLLGATE),
            };
            for round in 0..plan.rounds {
                let mut turns = [(&mut result.direct, None), (&mut result.through, Some(&gateway))];
                // What the machine does more and more, or less and less, meets both alike.
                if round % 2 == 1 {
                    turns.reverse();
                }
                for (row, gateway) in turns {
                    let figures = match gateway {
                        None => case.run(plan, mock.address, &case.direct(), *clients, None),
                        Some(gateway) => case.run(plan, address, case.path, *clients, Some(gateway)),
                    };
                    row.rounds.push(figures?);
                }
            }
            measured.cases.push(result);
        }
    }
    Ok(measured)
}

/// Starts the gateway in front of mock servers at `upstream`.
fn start(binary: &Path, dir: &Path, upstream: SocketAddr) -> anyhow::Result<(Process, SocketAddr)> {
    let address = contender::free_address()?;
    let resources = dir.join("mcp.yaml");
    fs::write(&resources, resources_of(address.port(), upstream)?)?;
    let mut command = Command::new(binary);
    command.arg("run").arg(&resources);
    command.args([
        "--admin-port",
        &contender::free_address()?.port().to_string(),
        "--access-log",
        "json",
    ]);
    let mut process = Process::start(command, dir, "tollgate-mcp")?;
    let opens = body("initialize");
    contender::answers_to(address, "/one", &opens, || process.ended()).context("the gateway")?;
    Ok((process, address))
}

/// Returns the gateway's resources for mock servers at `upstream`.
pub(crate) fn resources_of(port: u16, upstream: SocketAddr) -> anyhow::Result<String> {
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

    /// Returns the load of so many clients, each with a session of its own.
    fn load(&self, address: SocketAddr, path: &str, clients: usize) -> anyhow::Result<Load> {
        let sessions = match self.method {
            "initialize" => Vec::new(),
            _ => (0..clients)
                .map(|_| open(address, path))
                .collect::<Result<_, _>>()?,
        };
        Ok(Load {
            path: path.to_owned(),
            body: body(self.method),
            sessions,
            fault,
            connections: clients,
            every: self.every,
            ..Load::chat(address, Bytes::new(), self.stream)
        })
    }

    fn run(
        &self,
        plan: &Plan,
        address: SocketAddr,
        path: &str,
        clients: usize,
        gateway: Option<&Process>,
    ) -> anyhow::Result<Figures> {
        let load = Load {
            warm_up: plan.warm_up,
            measured: plan.measured,
            ..self.load(address, path, clients)?
        };
        let (before, outcome) = load.run(|| gateway.map(Process::cpu))?;
        let after = gateway.map(Process::cpu);
        let cpu = before.zip(after).map(|(before, after)| after.since(&before));
        Ok(figures(outcome, cpu, gateway.map(Process::memory)))
    }
}

/// Returns the load of the case called `name` on the gateway at `address`, by as many clients as the targets are about;
/// `None` if there is none.
pub(crate) fn load(name: &str, address: SocketAddr) -> anyhow::Result<Option<Load>> {
    let case = CASES.iter().find(|case| case.name == name);
    case.map(|case| case.load(address, case.path, SOME)).transpose()
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
    thread::sleep(REST);
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
    thread::sleep(REST);
    let after = gateway.memory().resident;
    drop(streams);
    Ok(after.saturating_sub(before) as f64 / STREAMS as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_has_a_route() {
        let yaml =
            resources_of(1975, SocketAddr::from(([127, 0, 0, 1], 1))).expect("a String takes everything");
        for case in CASES {
            assert!(yaml.contains(&format!("path: {}\n", case.path)), "{}", case.name);
            assert!(yaml.contains(&case.direct()), "{}", case.name);
        }
        assert_eq!(yaml.matches("kind: Backend\n").count(), 32);
        assert_eq!(fault(br#"{"result":{}}"#, false), None);
    }
}
