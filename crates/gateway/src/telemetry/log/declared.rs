//! Records in the forms that resources declare.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use config::{
    Snapshot,
    snapshot::{Endpoint, LogReceiver},
};
use http::{HeaderMap, HeaderName, HeaderValue, Uri, request::Parts};
use llm::ErrorKind;
use policy::access_log::{AccessLog, Condition, Form, Header, Line, Operator, Request, Told as Telling};
use policy::cost::prices::Spent;
use serde_json::{Map, Value, json};

use super::{
    Log, LogRecord, Sender, Writer,
    record::{self, Tools},
};
use crate::{
    facts::{Facts, Outcome},
    server::Connection,
    telemetry::otlp::{Destination, Export, Receiver},
};

/// The declared access logs of a snapshot. Files that stay are not opened anew, and what waits for a receiver that stays is
/// sent.
#[derive(Default)]
pub(crate) struct Logs {
    ports: HashMap<u16, Arc<Declared>>,
    writers: BTreeMap<String, Arc<Writer>>,
    senders: Vec<(LogReceiver, Arc<Sender>)>,
}

/// The declared access logs of one port.
struct Declared {
    logs: Vec<Outlet>,
    /// Headers that forms and conditions ask for; `None` for all of them.
    request: Option<Vec<HeaderName>>,
    response: Vec<HeaderName>,
}

/// One declared access log, and where it goes.
struct Outlet {
    log: AccessLog,
    writers: Vec<Arc<Writer>>,
    senders: Vec<Arc<Sender>>,
}

/// What declared records tell of a request beside its facts.
pub(crate) struct Details {
    declared: Arc<Declared>,
    connection: Arc<Connection>,
    request: HeaderMap,
    response: HeaderMap,
}

impl Logs {
    /// Returns the access logs of `snapshot`.
    pub(crate) fn new(snapshot: &Snapshot, before: &Logs, log: &Log) -> Self {
        let mut logs = Self::default();
        for (port, listener) in &snapshot.listeners {
            let Some(declared) = &listener.access_logs else {
                continue;
            };
            let outlets = declared.iter().map(|declared| Outlet {
                writers: declared
                    .log
                    .files
                    .iter()
                    .map(|path| logs.writer(path, before, log))
                    .collect(),
                senders: declared
                    .receivers
                    .iter()
                    .map(|receiver| logs.sender(receiver, before))
                    .collect(),
                log: declared.log.clone(),
            });
            let declared = Declared::new(outlets.collect());
            logs.ports.insert(*port, Arc::new(declared));
        }
        logs
    }

    fn writer(&mut self, path: &str, before: &Logs, log: &Log) -> Arc<Writer> {
        let known = self.writers.get(path).or_else(|| before.writers.get(path));
        let writer = known.cloned().unwrap_or_else(|| log.writer(path));
        self.writers.insert(path.to_owned(), Arc::clone(&writer));
        writer
    }

    fn sender(&mut self, receiver: &LogReceiver, before: &Logs) -> Arc<Sender> {
        let mut all = self.senders.iter().chain(&before.senders);
        let known = all.find_map(|(known, sender)| (known == receiver).then(|| Arc::clone(sender)));
        let sender = known.unwrap_or_else(|| Arc::new(Sender::start(export(receiver))));
        if !self.senders.iter().any(|(known, _)| known == receiver) {
            self.senders.push((receiver.clone(), Arc::clone(&sender)));
        }
        sender
    }

    /// Returns what has to be kept of a request for its records; nothing where none is declared.
    pub(crate) fn details(&self, connection: &Arc<Connection>, head: &Parts) -> Option<Box<Details>> {
        let declared = self.ports.get(&connection.port.declared)?;
        let request = match &declared.request {
            None => head.headers.clone(),
            Some(names) => pick(&head.headers, names),
        };
        Some(Box::new(Details {
            declared: Arc::clone(declared),
            connection: Arc::clone(connection),
            request,
            response: HeaderMap::new(),
        }))
    }

    /// Opens all files anew.
    pub(crate) fn reopen(&self) {
        self.writers.values().for_each(|writer| writer.reopen());
    }

    /// Waits until everything is written and sent, for at most `limit` each.
    pub(crate) fn flush(&self, limit: Duration) {
        self.writers.values().for_each(|writer| writer.flush(limit));
        self.senders.iter().for_each(|(_, sender)| sender.flush(limit));
    }

    /// Returns how many records were not sent.
    pub(crate) fn dropped(&self) -> u64 {
        self.senders.iter().map(|(_, sender)| sender.dropped()).sum()
    }
}

impl Declared {
    fn new(logs: Vec<Outlet>) -> Self {
        let (mut request, mut response) = (Vec::new(), Vec::new());
        let mut all = false;
        for Outlet { log, .. } in &logs {
            for condition in &log.conditions {
                match condition {
                    Condition::Present(name) => request.push(name.clone()),
                    Condition::Expression(..) => all = true,
                }
            }
            log.operators(|operator| {
                let (names, first, second) = match operator {
                    Operator::Request(first, second) => (&mut request, first, second),
                    Operator::Response(first, second) => (&mut response, first, second),
                    _ => return,
                };
                for header in [Some(first), second.as_ref()].into_iter().flatten() {
                    if let Header::Named(name) = header {
                        names.push(name.clone());
                    }
                }
            });
        }
        Self {
            logs,
            request: (!all).then_some(request),
            response,
        }
    }
}

impl Details {
    /// Keeps what is needed of the answer's headers.
    pub(crate) fn answered(&mut self, headers: &HeaderMap) {
        self.response = pick(headers, &self.declared.response);
    }

    pub(super) fn record(&self, facts: &Facts, outcome: Outcome, elapsed: Duration) {
        let mut request = self.request.clone();
        let model = facts.model.as_deref().map(HeaderValue::from_str);
        if let Some(Ok(model)) = model {
            request.insert(MODEL, model);
        }
        let backend = Tools::of(facts).and_then(|tools| HeaderValue::try_from(tools.backend?).ok());
        if let Some(backend) = backend {
            request.insert(BACKEND, backend);
        }
        let attributes = Request {
            method: facts.method.as_str(),
            path: facts.uri.path_and_query().map_or("/", |path| path.as_str()),
            host: &facts.host,
            id: facts.request_id.to_str().unwrap_or_default(),
            headers: &request,
            code: facts.status.as_u16(),
        };
        let told = Told {
            details: self,
            request: &request,
            facts,
            outcome,
            elapsed,
        };
        for Outlet {
            log,
            writers,
            senders,
        } in &self.declared.logs
        {
            let mut conditions = log.conditions.iter();
            if !conditions.all(|condition| condition.holds(&attributes)) {
                continue;
            }
            if !writers.is_empty() {
                let line = told.line(&log.form);
                writers.iter().for_each(|writer| writer.push(&line));
            }
            if !senders.is_empty() {
                let record = told.record(&log.told);
                senders.iter().for_each(|sender| sender.push(record.clone()));
            }
        }
    }
}

/// Everything that operators may ask for.
struct Told<'a> {
    details: &'a Details,
    request: &'a HeaderMap,
    facts: &'a Facts,
    outcome: Outcome,
    elapsed: Duration,
}

impl Told<'_> {
    fn line(&self, form: &Form) -> Vec<u8> {
        let value = |operator: &Operator| self.value(operator);
        match form {
            Form::Own => super::json(self.facts, self.outcome, self.elapsed),
            Form::Text(line) => {
                let mut text = String::new();
                line.write_text(&mut text, &value);
                text.into_bytes()
            }
            Form::Json(members) => Value::Object(self.members(members)).to_string().into_bytes(),
        }
    }

    fn members(&self, members: &[(String, Line)]) -> Map<String, Value> {
        let value = |operator: &Operator| self.value(operator);
        let members = members
            .iter()
            .map(|(name, line)| (name.clone(), line.to_json(&value)));
        members.collect()
    }

    /// Returns the record as receivers of OTLP are told it: a line is its body, members are attributes.
    fn record(&self, told: &Telling) -> LogRecord {
        if told.text.is_none() && told.members.is_empty() {
            return super::own(self.facts, self.outcome, self.elapsed);
        }
        let mut body = String::new();
        if let Some(line) = &told.text {
            line.write_text(&mut body, &|operator| self.value(operator));
        }
        LogRecord::new(self.facts, body, self.members(&told.members))
    }

    fn value(&self, operator: &Operator) -> Value {
        let (facts, connection) = (self.facts, &self.details.connection);
        let attempt = facts.attempt.as_ref();
        match operator {
            Operator::StartTime(None) => json!(format!("{:.3}", facts.began)),
            Operator::StartTime(Some(format)) => {
                json!(jiff::fmt::strtime::format(format, facts.began).ok())
            }
            Operator::Request(first, second) => self.header(self.request, first, second.as_ref()),
            Operator::Response(first, second) => self.header(&self.details.response, first, second.as_ref()),
            Operator::Protocol => json!(record::protocol(facts.version)),
            Operator::ResponseCode => json!(facts.status.as_u16()),
            Operator::ResponseCodeDetails => json!(self.details_of_code()),
            Operator::ResponseFlags => json!(self.flags()),
            Operator::BytesReceived => json!(facts.bytes_received),
            Operator::BytesSent => json!(facts.bytes_sent),
            Operator::Duration => json!(u64::try_from(self.elapsed.as_millis()).ok()),
            Operator::UpstreamHost => json!(attempt.and_then(|attempt| text(attempt.host.as_ref()?))),
            Operator::UpstreamCluster => json!(attempt.map(|attempt| &*attempt.backend)),
            Operator::DownstreamLocalAddress => json!(connection.local.map(|address| address.to_string())),
            Operator::DownstreamRemoteAddress { port: true } => {
                json!(connection.peer.to_string())
            }
            Operator::DownstreamRemoteAddress { port: false } => {
                json!(connection.peer.ip().to_string())
            }
            Operator::RequestedServerName => {
                json!(connection.secured.as_ref().filter(|name| !name.is_empty()))
            }
            Operator::RouteName => json!(facts.route.as_deref()),
            Operator::DynamicMetadata(namespace, path) => match path.as_slice() {
                [key] if namespace == NAMESPACE => self.metadata(key),
                _ => Value::Null,
            },
            // A connection that ends says no more than the flags do.
            Operator::ConnectionTerminationDetails
            | Operator::UpstreamTransportFailureReason
            | Operator::UpstreamLocalAddress => Value::Null,
        }
    }

    fn header(&self, headers: &HeaderMap, first: &Header, second: Option<&Header>) -> Value {
        let facts = self.facts;
        let find = |header: &Header| match header {
            Header::Method => json!(facts.method.as_str()),
            Header::Path => json!(facts.uri.path_and_query().map(|path| path.as_str())),
            Header::Authority => json!(facts.host),
            Header::Scheme if self.details.connection.secured.is_some() => json!("https"),
            Header::Scheme => json!("http"),
            Header::Status => json!(facts.status.as_str()),
            Header::Named(name) => json!(headers.get(name).and_then(text)),
        };
        match find(first) {
            Value::Null => second.map_or(Value::Null, find),
            found => found,
        }
    }

    /// Returns what the compatibility specification, "Metadata namespace", has under `key`.
    fn metadata(&self, key: &str) -> Value {
        let facts = self.facts;
        let attempt = facts.attempt.as_ref();
        let usage = &facts.usage;
        let known = !usage.is_unknown();
        match key {
            "backend_name" | "ai_service_backend_name" => json!(attempt.map(|attempt| &*attempt.backend)),
            "model_name_override" => json!(attempt.map(|attempt| attempt.model.as_str())),
            "route_name" => json!(facts.route.as_deref()),
            "response_model" => json!(facts.response_model),
            "token_latency_ttft" => {
                let first = attempt.and_then(|attempt| attempt.first_token);
                json!(first.map(|first| u64::try_from(first.as_millis()).ok()))
            }
            "token_latency_itl" => json!(facts.per_token().map(|gap| gap * 1e3)),
            "llm_input_token" => json!(known.then(|| usage.prompt())),
            "llm_cached_input_token" => json!(usage.cache_read),
            "llm_cache_creation_input_token" => json!(usage.cache_write),
            "llm_output_token" => json!(usage.output),
            "llm_reasoning_token" => json!(usage.reasoning),
            "llm_total_token" => json!(known.then(|| usage.total())),
            "usage_cost" => json!(self.spent().map(|(spent, _)| spent.total.amount())),
            "usage_cost_currency" => json!(self.spent().map(|(_, currency)| currency)),
            "mcp_request_id" => json!(self.tools().and_then(|tools| tools.id)),
            "mcp_method" => json!(self.tools().map(|tools| tools.method)),
            "mcp_tool_name" => json!(self.tools().and_then(|tools| tools.tool)),
            "mcp_resource_uri" => json!(self.tools().and_then(|tools| tools.resource)),
            "mcp_backend" => json!(self.tools().and_then(|tools| tools.backend)),
            key => json!(
                facts
                    .log_attributes()
                    .find_map(|(name, value)| (name == key).then(|| text(value))?)
            ),
        }
    }

    fn spent(&self) -> Option<(Spent, &str)> {
        self.facts.bill.as_ref().and_then(|bill| bill.spent())
    }

    fn tools(&self) -> Option<Tools> {
        Tools::of(self.facts)
    }

    fn details_of_code(&self) -> &'static str {
        match (self.outcome, self.facts.error) {
            (Outcome::Dropped, _) => "downstream_remote_disconnect",
            (Outcome::Complete | Outcome::Broken, Some(error)) => error.name(),
            (Outcome::Complete | Outcome::Broken, None) if self.facts.attempt.is_some() => "via_upstream",
            (Outcome::Complete | Outcome::Broken, None) => "direct_response",
        }
    }

    /// Returns the letters that Envoy has for what went wrong.
    fn flags(&self) -> &'static str {
        let asked = self.facts.attempts > 0;
        if self.outcome == Outcome::Dropped {
            return "DC";
        }
        match self.facts.error.map(|error| error.kind) {
            Some(ErrorKind::Timeout) if asked => "UT",
            Some(ErrorKind::Unavailable) if asked => "UF",
            Some(ErrorKind::Unavailable) => "UH",
            Some(ErrorKind::BadUpstream) => "UC",
            Some(ErrorKind::BadReply) => "UPE",
            Some(ErrorKind::RateLimit) if !asked => "RL",
            Some(ErrorKind::NotFound) if !asked => "NR",
            Some(ErrorKind::Authentication | ErrorKind::Permission) if !asked => "UAEX",
            Some(_) | None => "-",
        }
    }
}

/// Returns how a receiver that a resource names is called.
fn export(receiver: &LogReceiver) -> Export {
    let scheme = if receiver.tls.is_some() { "https" } else { "http" };
    let Endpoint { host, port, .. } = &receiver.endpoint;
    let authority = match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    };
    let uri = Uri::builder()
        .scheme(scheme)
        .authority(authority)
        .path_and_query("/")
        .build();
    Export {
        resource: receiver.resource.clone(),
        to: Destination::Otlp(Box::new(Receiver {
            uri: uri.unwrap_or_default(),
            grpc: true,
            headers: receiver.headers.clone(),
            timeout: TIMEOUT,
            compressed: false,
            tls: receiver.tls.clone(),
        })),
    }
}

fn pick(headers: &HeaderMap, names: &[HeaderName]) -> HeaderMap {
    let mut picked = HeaderMap::with_capacity(names.len());
    for name in names {
        if let Some(value) = headers.get(name) {
            picked.insert(name, value.clone());
        }
    }
    picked
}

fn text(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok()
}

const MODEL: HeaderName = HeaderName::from_static("x-ai-eg-model");
const BACKEND: HeaderName = HeaderName::from_static("x-ai-eg-mcp-backend");

/// Where the reference keeps what is known of a request.
const NAMESPACE: &str = "io.envoy.ai_gateway";

/// How long one call to a receiver may take.
const TIMEOUT: Duration = Duration::from_secs(10);
