//! Lists of MCP servers as desktop clients keep them, as the resources that say the same.
//!
//! `{"mcpServers": {"name": {"command": …} | {"url": …}}}` is what Claude writes; VS Code calls the outer member
//! `servers`. What is generated is text, and goes through the same parser as a file: variables in it are replaced
//! there, value by value. What Envoy AI Gateway's MCP proxy is configured with is read as well ([`proxied`]).

use std::{
    env,
    path::{self, Path, PathBuf},
};

use config::{Fault, Severity, mcp_route::is_of_the_call};
use http::{HeaderName, Uri};
use mcp::{json::Object, name};
use serde_json::{Map, Value, json, value::RawValue};

use super::{
    Document, Problem,
    dotenv::{self, Variable},
    file, proxied,
    shape::KNOWN,
    text_of,
};

/// Where a list of servers is.
#[derive(Clone, Debug)]
pub(crate) enum List {
    /// In a file.
    File(PathBuf),
    /// On the command line.
    Text(String),
}

impl List {
    /// Returns the files whose changes matter: its own, and those of variables that it names.
    pub(super) fn watched(&self) -> Vec<PathBuf> {
        let list: Option<Value> = self.text().ok().and_then(|text| serde_json::from_str(&text).ok());
        let folder = self.folder();
        let servers = list.as_ref().and_then(servers).into_iter().flatten();
        let named = servers.filter_map(|(_, server)| env_file(server.as_object()?, &folder));
        self.path().map(Path::to_owned).into_iter().chain(named).collect()
    }

    /// Returns the file, if it is one.
    fn path(&self) -> Option<&Path> {
        match self {
            List::File(path) => Some(path),
            List::Text(_) => None,
        }
    }

    /// Returns the folder that the list is about: that of its file, which editors keep in a folder of their own.
    fn folder(&self) -> PathBuf {
        let folder = self.path().and_then(Path::parent).unwrap_or(Path::new(""));
        let own = folder.file_name().is_some_and(|name| name == ".vscode");
        let folder = folder.parent().filter(|_| own).unwrap_or(folder);
        // Absolute, so that what names it and what is said without it come to the same.
        let here = || env::current_dir().unwrap_or_default();
        path::absolute(folder).unwrap_or_else(|_| here().join(folder))
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

    /// Returns the list without its comments and commas before an end, which editors let people write; all else stays at its
    /// place.
    fn text(&self) -> Result<String, String> {
        let text = match self {
            List::Text(text) => text.clone(),
            List::File(path) => text_of(path)?,
        };
        let mut stripped = text.clone();
        // What cannot be understood is said where the whole is read.
        let is_whole = json_strip_comments::strip(&mut stripped).is_ok();
        Ok(if is_whole { stripped } else { text })
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
            folder: self.folder(),
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
    /// The folder that the list is about.
    folder: PathBuf,
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
        if let Some(repeated) = repeated(text) {
            self.say(Severity::Error, "", repeated);
            return None;
        }
        if list.get(proxied::MEMBER).is_some() {
            return match proxied::resources(&list) {
                Ok(documents) => Some(joined(&documents)),
                Err((path, message)) => {
                    self.say(Severity::Error, &path, message);
                    None
                }
            };
        }
        let Some(servers) = servers(&list) else {
            let message = "expected an object with \"mcpServers\"";
            self.say(Severity::Error, "", message.to_owned());
            return None;
        };
        if list.get("mcpServers").is_some() && list.get("servers").is_some() {
            let message = "\"mcpServers\" is there as well; this has no effect";
            self.say(Severity::Warning, "servers", message.to_owned());
        }
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
            let understood = fits(name, server).and_then(|()| {
                let variables = self.variables(server)?;
                reference(name, server, &variables)
            });
            match understood {
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
        let program = server.contains_key("command");
        for key in server.keys() {
            let message = match key.as_str() {
                key if !KNOWN.iter().any(|(known, _)| *known == key) => "unknown member, which has no effect",
                "url" | "headers" if program => {
                    "a server with a \"command\" is a program; this has no effect"
                }
                "args" | "env" | "envFile" | "cwd" if !program => {
                    "a server that is no program; this has no effect"
                }
                _ => continue,
            };
            self.say(Severity::Warning, &format!("{path}.{key}"), message.to_owned());
        }
    }

    /// Returns the variables of the file that a server names.
    fn variables(&self, server: &Map<String, Value>) -> Result<Vec<Variable>, String> {
        let Some(file) = env_file(server, &self.folder) else {
            return Ok(Vec::new());
        };
        if !server.contains_key("command") {
            return Ok(Vec::new());
        }
        let read = text_of(&file).and_then(|text| dotenv::read(&text));
        read.map_err(|reason| format!("{}: {reason}", file.display()))
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

/// Returns what is said twice, if anything is: two readers could take different ones for it.
fn repeated(text: &str) -> Option<String> {
    let list: &RawValue = serde_json::from_str(text).ok()?;
    let list = match members(list)? {
        Ok(list) => list,
        Err(twice) => return Some(twice),
    };
    for servers in ["mcpServers", "servers"]
        .into_iter()
        .filter_map(|key| list.get(key))
    {
        let servers = match members(servers) {
            Some(Ok(servers)) => servers,
            Some(Err(twice)) => return Some(twice),
            None => continue,
        };
        let twice = servers
            .members()
            .find_map(|(name, server)| Some(format!("{name}: {}", members(server)?.err()?)));
        if twice.is_some() {
            return twice;
        }
    }
    None
}

/// Returns the members of an object, or what is said twice in it; `None` if it is something else.
fn members(raw: &RawValue) -> Option<Result<Object<'_>, String>> {
    let read = || serde_json::from_str::<Object<'_>>(raw.get());
    // Where that is in what is read here is not where it is in the file.
    let said = |error: serde_json::Error| {
        let said = error.to_string();
        said.split(" at line ").next().unwrap_or_default().to_owned()
    };
    raw.get().starts_with('{').then(|| read().map_err(said))
}

/// Checks that a server has a name that it can have, and that its members are what they are taken for.
fn fits(name: &str, server: &Map<String, Value>) -> Result<(), String> {
    name::check(name).map_err(|error| error.to_string())?;
    for (key, value) in server {
        let known = KNOWN.iter().find(|(known, _)| known == key);
        if let Some(expected) = known.and_then(|(_, shape)| shape.misses(value)) {
            return Err(format!("\"{key}\": expected {expected}"));
        }
    }
    let headers = server.get("headers").and_then(Value::as_object);
    for header in headers.into_iter().flat_map(Map::keys) {
        if HeaderName::try_from(header.as_str()).is_err() {
            return Err("\"headers\": expected names of headers".to_owned());
        }
        if is_of_the_call(header) && !header.eq_ignore_ascii_case("host") {
            return Err(format!(
                "\"headers\": the gateway itself says \"{header}\" of its calls"
            ));
        }
    }
    if Value::from(server.clone()).to_string().contains("${input:") {
        let message = "\"${input:…}\" is asked for by an editor; use a variable of the environment";
        return Err(message.to_owned());
    }
    Ok(())
}

/// Returns the servers of a list.
fn servers(list: &Value) -> Option<&Map<String, Value>> {
    list.get("mcpServers")
        .or_else(|| list.get("servers"))?
        .as_object()
}

/// Returns the file of variables that a server names. `folder` is the one that the list is about.
fn env_file(server: &Map<String, Value>, folder: &Path) -> Option<PathBuf> {
    let written = server.get("envFile")?.as_str()?;
    let path = filled(written, |name| match name {
        "workspaceFolder" => Some(folder.display().to_string()),
        "userHome" => Some(env::home_dir().unwrap_or_default().display().to_string()),
        name => Some(env::var(name).unwrap_or_default()),
    });
    Some(folder.join(file::expand(&path.ok()?)))
}

/// Returns `written` with what stands for variables; where there is no such variable, its name.
fn filled(mut written: &str, value: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut whole = String::new();
    while let Some((before, (inner, after))) = written
        .split_once("${")
        .and_then(|(before, inner)| Some((before, inner.split_once('}')?)))
    {
        let inner = inner.strip_prefix("env:").unwrap_or(inner);
        let (name, otherwise) = match inner.split_once(":-") {
            Some((name, otherwise)) => (name, Some(otherwise.to_owned())),
            None => (inner, None),
        };
        whole.push_str(before);
        whole.push_str(&value(name).or(otherwise).ok_or_else(|| name.to_owned())?);
        written = after;
    }
    whole.push_str(written);
    Ok(whole)
}

fn joined(documents: &[Value]) -> String {
    let documents: Vec<String> = documents.iter().map(Value::to_string).collect();
    documents.join("\n---\n")
}

fn route(references: &[Value]) -> Value {
    json!({
        "apiVersion": "aigateway.envoyproxy.io/v1beta1",
        "kind": "MCPRoute",
        "metadata": { "name": "mcp", "namespace": "default" },
        "spec": { "parentRefs": [{ "name": "tollgate" }], "path": "/mcp", "backendRefs": references },
    })
}

/// Returns the reference to a server, and the Backend that it refers to where there is one. `filed` are the variables
/// of its file, over which its own `env` goes.
fn reference(
    name: &str,
    server: &Map<String, Value>,
    filed: &[Variable],
) -> Result<(Value, Option<Value>), String> {
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
        let mut env = pairs(server, "env");
        let own = server.get("env").and_then(Value::as_object);
        let beside = filed
            .iter()
            .filter(|(name, _)| own.is_none_or(|own| !own.contains_key(name)));
        // What the file says is meant as it is written.
        env.extend(beside.map(|(name, value)| json!({ "name": name, "value": value.replace('$', "$$") })));
        let mut stdio = json!({ "command": variables(command), "args": args, "env": env });
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
    // Where a server is has to be known before variables are replaced everywhere else.
    let url = filled(url, |name| env::var(name).ok().filter(|value| !value.is_empty()));
    let url = url.map_err(|name| format!("${{{name}}} in its url is not set"))?;
    let (backend, path) = backend(name, &url)?;
    let path = path.replace('$', "$$");
    reference["group"] = Value::from("gateway.envoyproxy.io");
    reference["kind"] = Value::from("Backend");
    reference["path"] = Value::from(path);
    reference["headers"] = Value::from(pairs(server, "headers"));
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
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    if authority.contains('@') {
        return Err("its url has a name and a password, which belong into \"headers\"".to_owned());
    }
    let written = uri.host().and_then(|host| authority.strip_prefix(host));
    if uri.port_u16().is_none() && written.is_some_and(|port| port.len() > 1) {
        return Err("the port in its url is none".to_owned());
    }
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
    let items = list.into_iter().flatten();
    items
        .map(|item| item.as_str().map_or_else(|| item.to_string(), variables))
        .collect()
}

/// Returns a map as the list of pairs that resources have.
fn pairs(server: &Map<String, Value>, key: &str) -> Vec<Value> {
    let map = server.get(key).and_then(Value::as_object);
    let pairs = map.into_iter().flatten().filter_map(|(name, value)| {
        let value = match value {
            Value::String(text) => variables(text),
            Value::Number(_) | Value::Bool(_) => value.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => return None,
        };
        Some(json!({ "name": name, "value": value }))
    });
    pairs.collect()
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
    fn what_editors_let_people_write_is_read() {
        let (documents, problems) = read_list(
            "{ // of the team\n \"servers\": { /* one */ \"a\": { \"url\": \"https://a.example//mcp\", }, },\n}",
        );
        assert_eq!(problems, [""; 0]);
        assert_eq!(documents[0]["spec"]["backendRefs"][0]["name"], "a");
        let (_, problems) = read_list("{\n \"servers\": {},\n // more\n x }");
        assert!(problems[0].contains("line 4 column 2"), "{problems:?}");
        let (_, problems) = read_list("{ /x\n \"servers\": {} }");
        assert!(problems[0].contains("line 1 column 3"), "{problems:?}");
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
    fn variables_of_files_are_those_of_programs() {
        let folder = tempfile::tempdir().unwrap();
        let editor = folder.path().join(".vscode");
        std::fs::create_dir(&editor).unwrap();
        let file = folder.path().join(".env");
        std::fs::write(&file, "A=1\nB='$x ${Y}'\n").unwrap();
        let check = |written: &str, said: &str| {
            let list = editor.join("mcp.json");
            let server = json!({ "command": "x", "env": { "A": "2" }, "envFile": written });
            std::fs::write(&list, json!({ "servers": { "s": server } }).to_string()).unwrap();
            let list = List::File(list);
            let mut problems = Vec::new();
            let document = list.document(&mut problems);
            let said_of = |problem: &Problem| problem.to_string().contains(said);
            assert_eq!(problems.iter().any(said_of), !said.is_empty(), "{problems:?}");
            (document, list.watched())
        };
        for written in [".env", "${workspaceFolder}/.env", file.to_str().unwrap()] {
            let (document, watched) = check(written, "");
            assert_eq!(watched, [editor.join("mcp.json"), file.clone()], "{written}");
            let document = document.unwrap().text;
            let route: Value = serde_json::from_str(document.split("\n---\n").next().unwrap()).unwrap();
            let env = &route["spec"]["backendRefs"][0]["stdio"]["env"];
            let own = json!({ "name": "A", "value": "2" });
            assert_eq!(
                *env,
                json!([own, { "name": "B", "value": "$$x $${Y}" }]),
                "{written}"
            );
        }
        assert!(check("none", "none: No such file").0.is_none());
        std::fs::write(&file, "A").unwrap();
        assert!(
            check(".env", "line 1 is no NAME=value; it is left out")
                .0
                .is_none()
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
        check(
            r#"{"mcpServers":{"a":{"url":"http://h","envFile":"x"}}}"#,
            "mcpServers.a.envFile: a server that is no program",
        );
        check(
            r#"{"mcpServers":{"a":{"command":"x","url":"http://h"}}}"#,
            "mcpServers.a.url: a server with a \"command\" is a program",
        );
        check(
            r#"{"mcpServers":{"a":{"command":"x"},"a":{"command":"y"}}}"#,
            "duplicate member \"a\"",
        );
        check(
            r#"{"mcpServers":{"a":{"command":"x","command":"y"}}}"#,
            "a: duplicate member \"command\"",
        );
        check(
            r#"{"mcpServers":{"a":{"command":"x"}},"servers":{}}"#,
            "servers: \"mcpServers\" is there",
        );
    }

    /// One that cannot be served is left out, and the others are there.
    #[test]
    fn one_server_does_not_spoil_the_others() {
        let check = |name: &str, server: Value, said: &str| {
            let list = json!({ "mcpServers": { name: server, "good": { "command": "x", "args": ["-p", 8080, true] } } });
            let (documents, problems) = read_list(&list.to_string());
            let good = json!([{ "name": "good", "stdio": { "command": "x", "args": ["-p", "8080", "true"], "env": [] } }]);
            assert_eq!(documents.len(), 1, "{name}");
            assert_eq!(documents[0]["spec"]["backendRefs"], good, "{name}");
            let problem = problems.join("\n");
            assert!(
                problem.contains(said) && problem.contains("it is left out"),
                "{name}: {problem}"
            );
        };
        check("a b", json!({ "command": "x" }), "must not contain ' '");
        check("a__b", json!({ "command": "x" }), "must not contain \"__\"");
        let of = |key: &str, value: Value| json!({ "command": "x", key: value });
        check("a", json!({ "command": 5 }), "\"command\": expected a string");
        check("a", of("args", json!("-c")), "\"args\": expected a list");
        check("a", of("env", json!(["A=1"])), "\"env\": expected an object");
        check(
            "a",
            of("includeTools", json!("t")),
            "\"includeTools\": expected a list of strings",
        );
        check(
            "a",
            of("excludeTools", json!([1])),
            "\"excludeTools\": expected a list of strings",
        );
        check(
            "a",
            of("disabled", json!("true")),
            "\"disabled\": expected true or false",
        );
        check(
            "a",
            of("timeout", json!("30")),
            "\"timeout\": expected a whole number",
        );
        check(
            "a",
            of("env", json!({ "A": "${input:key}" })),
            "asked for by an editor",
        );
        let at = |url: &str| json!({ "url": url });
        check("a", at("http://u:secret@h/"), "a name and a password");
        check("a", at("http://h:99999/"), "the port in its url");
        check(
            "a",
            at("http://${NO_SUCH_VARIABLE_IS_SET}/"),
            "${NO_SUCH_VARIABLE_IS_SET} in its url is not set",
        );
        let with = |header: &str| json!({ "url": "http://h", "headers": { header: "x" } });
        check("a", with("a b"), "expected names of headers");
        check(
            "a",
            with("Content-Length"),
            "the gateway itself says \"Content-Length\"",
        );
    }

    #[test]
    fn where_a_server_is_may_be_a_variable() {
        // Every process that runs tests has one.
        let value = env::var("PATH").unwrap();
        let filled = |written: &str| filled(written, |name| env::var(name).ok());
        assert_eq!(filled("a${PATH}b${env:PATH}"), Ok(format!("a{value}b{value}")));
        assert_eq!(filled("${NO_SUCH_VARIABLE_IS_SET:-c}/${"), Ok("c/${".to_owned()));
        assert_eq!(
            filled("${NO_SUCH_VARIABLE_IS_SET}"),
            Err("NO_SUCH_VARIABLE_IS_SET".to_owned())
        );
    }
}
