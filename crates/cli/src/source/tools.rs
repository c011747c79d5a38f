//! Lists of MCP servers as desktop clients keep them, as the resources that say the same.
//!
//! `{"mcpServers": {"name": {"command": …} | {"url": …}}}` is what Claude writes; VS Code calls the outer member
//! `servers`. What is generated is text, and goes through the same parser as a file: variables in it are replaced
//! there, value by value. What Envoy AI Gateway's MCP proxy is configured with is read as well ([`proxied`]).

use std::path::{Path, PathBuf};

use config::{Fault, Severity};
use http::Uri;
use serde_json::{Map, Value, json};

use super::{Document, Problem, proxied, text_of};

/// Where a list of servers is.
#[derive(Clone, Debug)]
pub(crate) enum List {
    /// In a file.
    File(PathBuf),
    /// On the command line.
    Text(String),
}

impl List {
    /// Returns the file, if it is one.
    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            List::File(path) => Some(path),
            List::Text(_) => None,
        }
    }

    /// Returns what the list is called in messages.
    pub(super) fn name(&self) -> String {
        match self {
            List::File(path) => path.display().to_string(),
            List::Text(_) => "--mcp-json".to_owned(),
        }
    }

    /// Returns whether it is what Envoy AI Gateway configures its MCP proxy with.
    pub(crate) fn is_proxied(&self) -> bool {
        let list: Option<Value> = self.text().ok().and_then(|text| serde_json::from_str(&text).ok());
        list.is_some_and(|list| list.get(proxied::MEMBER).is_some())
    }

    fn text(&self) -> Result<String, String> {
        match self {
            List::Text(text) => Ok(text.clone()),
            List::File(path) => text_of(path),
        }
    }

    /// Returns the list as resources; says what is wrong with it.
    pub(super) fn document(&self, problems: &mut Vec<Problem>) -> Option<Document> {
        let text = match (self.text(), self) {
            (Ok(text), _) => text,
            (Err(_), List::Text(_)) => return None,
            (Err(reason), List::File(path)) => {
                let path = path.clone();
                problems.push(Problem::Unreadable { path, reason });
                return None;
            }
        };
        let mut reader = Reader {
            list: self.name(),
            problems,
        };
        let text = reader.resources(&text)?;
        Some(Document {
            name: self.name(),
            text,
        })
    }
}

struct Reader<'a> {
    list: String,
    problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    fn resources(&mut self, text: &str) -> Option<String> {
        let list: Value = match serde_json::from_str(text) {
            Ok(list) => list,
            Err(error) => {
                self.say(Severity::Error, "", format!("malformed JSON: {error}"));
                return None;
            }
        };
        if list.get(proxied::MEMBER).is_some() {
            return match proxied::resources(&list) {
                Ok(documents) => Some(joined(&documents)),
                Err((path, message)) => {
                    self.say(Severity::Error, &path, message);
                    None
                }
            };
        }
        let servers = list.get("mcpServers").or_else(|| list.get("servers"));
        let Some(Value::Object(servers)) = servers else {
            let message = "expected an object with \"mcpServers\"";
            self.say(Severity::Error, "", message.to_owned());
            return None;
        };
        let mut references = Vec::new();
        let mut documents = Vec::new();
        for (name, server) in servers {
            let path = format!("mcpServers.{name}");
            let Value::Object(server) = server else {
                self.say(Severity::Error, &path, "expected an object".to_owned());
                continue;
            };
            if server.get("disabled") == Some(&Value::Bool(true))
                || server.get("enabled") == Some(&Value::Bool(false))
            {
                continue;
            }
            self.remark(&path, server);
            match reference(name, server) {
                Ok((reference, backend)) => {
                    references.push(reference);
                    documents.extend(backend);
                }
                Err(message) => self.say(Severity::Warning, &path, format!("{message}; it is left out")),
            }
        }
        if references.is_empty() {
            self.say(
                Severity::Error,
                "mcpServers",
                "no server is left to be served".to_owned(),
            );
            return None;
        }
        documents.insert(0, route(&references));
        Some(joined(&documents))
    }

    /// Says what is written and not understood.
    fn remark(&mut self, path: &str, server: &Map<String, Value>) {
        for key in server.keys().filter(|key| !KNOWN.contains(&key.as_str())) {
            self.say(
                Severity::Warning,
                &format!("{path}.{key}"),
                "unknown member, which has no effect".to_owned(),
            );
        }
        if Value::from(server.clone()).to_string().contains("${input:") {
            let message = "\"${input:…}\" is asked for by an editor; use a variable of the environment";
            self.say(Severity::Warning, path, message.to_owned());
        }
    }

    fn say(&mut self, severity: Severity, path: &str, message: String) {
        self.problems.push(Problem::Fault(Fault {
            file: self.list.clone(),
            line: 1,
            column: 1,
            path: path.to_owned(),
            message,
            severity,
        }));
    }
}

fn joined(documents: &[Value]) -> String {
    let documents: Vec<String> = documents.iter().map(Value::to_string).collect();
    documents.join("\n---\n")
}

/// Members that are understood, and those that mean something to whoever writes the list only.
const KNOWN: &[&str] = &[
    "type",
    "url",
    "headers",
    "includeTools",
    "excludeTools",
    "command",
    "args",
    "env",
    "cwd",
    "disabled",
    "enabled",
    "timeout",
    "alwaysAllow",
    "autoApprove",
    "description",
];

fn route(references: &[Value]) -> Value {
    json!({
        "apiVersion": "aigateway.envoyproxy.io/v1beta1",
        "kind": "MCPRoute",
        "metadata": { "name": "mcp", "namespace": "default" },
        "spec": { "parentRefs": [{ "name": "tollgate" }], "path": "/mcp", "backendRefs": references },
    })
}

/// Returns the reference to a server, and the Backend that it refers to where there is one.
fn reference(name: &str, server: &Map<String, Value>) -> Result<(Value, Option<Value>), String> {
    let mut reference = json!({ "name": name });
    let include = strings(server, "includeTools");
    let exclude = strings(server, "excludeTools");
    if !include.is_empty() || !exclude.is_empty() {
        reference["toolSelector"] = json!({ "include": include, "exclude": exclude });
    }
    if let Some(seconds) = server.get("timeout").and_then(Value::as_u64).and_then(seconds) {
        reference["timeouts"] = json!({ "call": format!("{seconds}s") });
    }
    if let Some(command) = server.get("command").and_then(Value::as_str) {
        let args = strings(server, "args");
        let mut stdio = json!({ "command": variables(command), "args": args, "env": pairs(server, "env") });
        if let Some(cwd) = server.get("cwd").and_then(Value::as_str) {
            stdio["cwd"] = Value::from(variables(cwd));
        }
        reference["stdio"] = stdio;
        return Ok((reference, None));
    }
    let kind = server.get("type").and_then(Value::as_str).unwrap_or_default();
    if !HTTP.contains(&kind) {
        return Err(format!("type \"{kind}\" is not served"));
    }
    let url = server
        .get("url")
        .and_then(Value::as_str)
        .filter(|url| !url.is_empty());
    let url = url.ok_or("it has neither \"command\" nor \"url\"")?;
    let (backend, path) = backend(name, url)?;
    reference["group"] = Value::from("gateway.envoyproxy.io");
    reference["kind"] = Value::from("Backend");
    reference["path"] = Value::from(path);
    reference["headers"] = pairs(server, "headers");
    Ok((reference, Some(backend)))
}

/// Returns how long a call may take, in seconds. Some clients write these, others milliseconds; nobody means a quarter of
/// an hour by the one or less than a second by the other.
fn seconds(written: u64) -> Option<u64> {
    let seconds = if written < 1000 {
        written
    } else {
        written.div_ceil(1000)
    };
    (1..100_000).contains(&seconds).then_some(seconds)
}

/// What the transport is called that is served.
const HTTP: &[&str] = &["", "http", "streamable-http", "streamable_http", "streamableHttp"];

/// Returns the Backend at `url`, and the path there.
pub(super) fn backend(name: &str, url: &str) -> Result<(Value, String), String> {
    let uri: Uri = url
        .parse()
        .map_err(|error: http::uri::InvalidUri| error.to_string())?;
    let (tls, default) = match uri.scheme_str() {
        Some("https") => (true, 443),
        Some("http") => (false, 80),
        Some(_) | None => return Err("its url must begin with http:// or https://".to_owned()),
    };
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let port = uri.port_u16().unwrap_or(default);
    let endpoint = if host.parse::<std::net::IpAddr>().is_ok() {
        json!({ "ip": { "address": host, "port": port } })
    } else {
        json!({ "fqdn": { "hostname": host, "port": port } })
    };
    let mut spec = json!({ "endpoints": [endpoint] });
    if tls {
        spec["tls"] = json!({ "wellKnownCACertificates": "System", "sni": host });
    }
    let backend = json!({
        "apiVersion": "gateway.envoyproxy.io/v1alpha1",
        "kind": "Backend",
        "metadata": { "name": name, "namespace": "default" },
        "spec": spec,
    });
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    Ok((backend, path.to_owned()))
}

fn strings(server: &Map<String, Value>, key: &str) -> Vec<String> {
    let list = server.get(key).and_then(Value::as_array);
    let items = list.into_iter().flatten().filter_map(Value::as_str);
    items.map(variables).collect()
}

/// Returns a map as the list of pairs that resources have.
fn pairs(server: &Map<String, Value>, key: &str) -> Value {
    let map = server.get(key).and_then(Value::as_object);
    let pairs = map.into_iter().flatten().filter_map(|(name, value)| {
        let value = match value {
            Value::String(text) => variables(text),
            Value::Number(_) | Value::Bool(_) => value.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => return None,
        };
        Some(json!({ "name": name, "value": value }))
    });
    Value::from(pairs.collect::<Vec<_>>())
}

/// Returns `text` with variables as resources have them: VS Code writes `${env:NAME}`.
fn variables(text: &str) -> String {
    text.replace("${env:", "${")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_list(text: &str) -> (Vec<Value>, Vec<String>) {
        let mut problems = Vec::new();
        let document = List::Text(text.to_owned()).document(&mut problems);
        let text = document.map(|document| document.text).unwrap_or_default();
        let documents = text.split("\n---\n").filter(|text| !text.is_empty());
        let documents = documents.map(|text| serde_json::from_str(text).unwrap());
        (
            documents.collect(),
            problems.iter().map(ToString::to_string).collect(),
        )
    }

    #[test]
    fn servers_become_references() {
        let check = |server: Value, reference: Value, backend: Option<Value>| {
            let (documents, problems) = read_list(&json!({ "mcpServers": { "s": server } }).to_string());
            assert_eq!(problems, [""; 0]);
            assert_eq!(documents[0]["spec"]["backendRefs"], json!([reference]));
            assert_eq!(documents.get(1).map(|backend| backend["spec"].clone()), backend);
        };
        check(
            json!({ "command": "npx", "args": ["-y", "${PKG}"], "env": { "A": "${env:B}", "N": 1 }, "cwd": "/x" }),
            json!({ "name": "s", "stdio": { "command": "npx", "args": ["-y", "${PKG}"], "cwd": "/x",
                "env": [{ "name": "A", "value": "${B}" }, { "name": "N", "value": "1" }] } }),
            None,
        );
        check(
            json!({ "type": "http", "url": "https://api.example.com/mcp?a=1", "includeTools": ["t"],
                "headers": { "Authorization": "Bearer ${T}", "x-a": "b" } }),
            json!({ "name": "s", "group": "gateway.envoyproxy.io", "kind": "Backend", "path": "/mcp?a=1",
                "toolSelector": { "include": ["t"], "exclude": [] },
                "headers": [{ "name": "Authorization", "value": "Bearer ${T}" }, { "name": "x-a", "value": "b" }] }),
            Some(
                json!({ "endpoints": [{ "fqdn": { "hostname": "api.example.com", "port": 443 } }],
                "tls": { "wellKnownCACertificates": "System", "sni": "api.example.com" } }),
            ),
        );
        for (timeout, call) in [(60, "60s"), (600_000, "600s"), (1_500, "2s")] {
            check(
                json!({ "command": "x", "timeout": timeout }),
                json!({ "name": "s", "timeouts": { "call": call }, "stdio": { "command": "x", "args": [], "env": [] } }),
                None,
            );
        }
        check(
            json!({ "url": "http://[::1]:8080", "timeout": 0 }),
            json!({ "name": "s", "group": "gateway.envoyproxy.io", "kind": "Backend", "path": "/", "headers": [] }),
            Some(json!({ "endpoints": [{ "ip": { "address": "::1", "port": 8080 } }] })),
        );
    }

    #[test]
    fn what_cannot_be_served_is_said() {
        let check = |text: &str, said: &str| {
            let (_, problems) = read_list(text);
            assert!(
                problems.iter().any(|problem| problem.contains(said)),
                "{text}: {problems:?}"
            );
        };
        check("{", "malformed JSON");
        check("{}", "mcpServers");
        check(
            r#"{"mcpServers":{"a":{"type":"sse","url":"http://h"}}}"#,
            "\"sse\" is not served",
        );
        check(r#"{"mcpServers":{"a":{}}}"#, "neither \"command\" nor \"url\"");
        check(r#"{"servers":{"a":{"url":"ftp://h"}}}"#, "must begin with http");
        check(
            r#"{"mcpServers":{"a":{"command":"x","disabled":true}}}"#,
            "no server is left",
        );
        check(
            r#"{"mcpServers":{"a":{"command":"x","colour":1}}}"#,
            "mcpServers.a.colour: unknown member",
        );
        check(
            r#"{"mcpServers":{"a":{"command":"${input:x}"}}}"#,
            "asked for by an editor",
        );
    }
}
