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
use policy::access_log::{AccessLog, Condition, Header, Operator, Request};

use super::{Log, Sender, Writer, record::Tools, told::Told};
use crate::{
    facts::{Facts, Outcome},
    headers,
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
    pub(super) connection: Arc<Connection>,
    request: HeaderMap,
    pub(super) response: HeaderMap,
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

    /// Lets go of the bytes that the headers came in.
    pub(crate) fn stand_apart(&mut self) {
        self.request = headers::apart(&self.request);
        self.response = headers::apart(&self.response);
    }

    pub(super) fn record(&self, facts: &Facts, outcome: Outcome, elapsed: Duration) {
        let mut request = self.request.clone();
        let model = facts.model.as_deref().map(HeaderValue::from_str);
        if let Some(Ok(model)) = model {
            request.insert(MODEL, model);
        }
        // It is the client's, or one of the gateway's own.
        request.insert(headers::REQUEST_ID, facts.request_id.clone());
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

const MODEL: HeaderName = HeaderName::from_static("x-ai-eg-model");
const BACKEND: HeaderName = HeaderName::from_static("x-ai-eg-mcp-backend");

/// How long one call to a receiver may take.
const TIMEOUT: Duration = Duration::from_secs(10);
