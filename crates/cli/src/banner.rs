//! What is said once the gateway listens: where, what it serves, and a line to try it with.

use std::{
    collections::HashSet,
    fmt::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use config::Snapshot;

use crate::source::Source;

/// The facts of a start.
pub(crate) struct Banner<'a> {
    /// Where clients are served, and whether connections are encrypted there.
    pub(crate) addresses: Vec<(SocketAddr, bool)>,
    /// Where the admin listener is.
    pub(crate) admin: Option<SocketAddr>,
    /// Where the configuration came from.
    pub(crate) source: &'a Source,
    /// The models that can be asked for by name, each once.
    pub(crate) models: Vec<String>,
}

impl fmt::Display for Banner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listening: Vec<_> = self
            .addresses
            .iter()
            .map(|(address, encrypted)| format!("http{}://{address}", if *encrypted { "s" } else { "" }))
            .collect();
        write!(
            f,
            "tollgate {} listening on {}",
            env!("CARGO_PKG_VERSION"),
            listening.join(", ")
        )?;
        if let Some(admin) = self.admin {
            write!(f, " (admin http://{admin})")?;
        }
        write!(f, "\nconfiguration: {}\nmodels: {}", self.source, self.summary())?;
        // Where all is encrypted, it takes a name from a certificate to call, which is not known here.
        if let Some((address, _)) = self.addresses.iter().find(|(_, encrypted)| !encrypted) {
            f.write_str("\ntry:")?;
            for line in self.lines(reachable(*address)) {
                write!(f, "\n  {line}")?;
            }
        }
        Ok(())
    }
}

impl Banner<'_> {
    fn summary(&self) -> String {
        let mut summary = self
            .models
            .iter()
            .take(SHOWN)
            .cloned()
            .collect::<Vec<_>>()
            .join(", ");
        if let more @ 1.. = self.models.len().saturating_sub(SHOWN) {
            let _ = write!(summary, " and {more} more");
        }
        match self.source {
            Source::Tools { list, beside } => {
                let none = beside.is_none().then_some("none");
                summary.push_str(none.unwrap_or_default());
                let tools = if list.is_proxied() {
                    "; MCP routes behind Envoy"
                } else {
                    "; MCP servers at /mcp"
                };
                summary.push_str(tools);
            }
            Source::Environment(found) if summary.is_empty() => summary.push_str(&found.others()),
            Source::Environment(found) => {
                let _ = write!(summary, "; {}", found.others());
            }
            Source::Files { .. } | Source::Simulated { .. } if summary.is_empty() => {
                summary.push_str("those that the rules' patterns match");
            }
            Source::Files { .. } | Source::Simulated { .. } => {}
        }
        summary
    }

    /// Returns commands that work as they stand.
    fn lines(&self, address: SocketAddr) -> Vec<String> {
        let sample = match self.source {
            Source::Tools { list, .. } if !list.is_proxied() => {
                return vec![format!(
                    "claude mcp add --transport http tollgate http://{address}/mcp"
                )];
            }
            Source::Environment(found) => found.sample(),
            Source::Files { .. } | Source::Simulated { .. } | Source::Tools { .. } => {
                self.models.first().map(String::as_str)
            }
        };
        let Some(model) = sample else {
            return vec![format!("curl http://{address}/v1/models")];
        };
        let mut lines = vec![curl(address, "/v1/chat/completions", &body(model, "Hello", ""))];
        if let Source::Simulated { .. } = self.source {
            let last = self.models.last().map_or(model, String::as_str);
            let limit = r#","max_tokens":100"#;
            lines.push(curl(
                address,
                "/anthropic/v1/messages",
                &body(last, "Hello", limit),
            ));
            let stream = body(model, "Tell me more", r#","stream":true"#);
            lines.push(curl(address, "/v1/chat/completions", &stream).replacen("curl", "curl -N", 1));
        }
        lines
    }
}

/// Returns the models that requests to the gateway's own address can ask for, the first listener's first.
pub(crate) fn models(snapshot: &Snapshot, address: IpAddr) -> Vec<String> {
    let host = loopback(address).to_string();
    let mut seen = HashSet::new();
    let models = snapshot
        .listeners
        .values()
        .flat_map(|listener| listener.router.models(&host));
    models
        .filter(|model| seen.insert(&*model.id))
        .map(|model| model.id.to_string())
        .collect()
}

fn curl(address: SocketAddr, path: &str, body: &str) -> String {
    let body = body.replace('\'', r"'\''");
    format!("curl http://{address}{path} -H 'content-type: application/json' -d '{body}'")
}

fn body(model: &str, prompt: &str, more: &str) -> String {
    let model = serde_json::Value::from(model);
    format!(r#"{{"model":{model}{more},"messages":[{{"role":"user","content":"{prompt}"}}]}}"#)
}

fn reachable(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(loopback(address.ip()), address.port())
}

/// Returns an address of this machine that a listener on `address` hears.
fn loopback(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        address => address,
    }
}

/// How many models are named.
const SHOWN: usize = 12;
