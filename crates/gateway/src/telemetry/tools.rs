//! What is counted and timed of MCP; names, labels and buckets are those of the compatibility specification, "MCP
//! metrics".

use std::{fmt, sync::Arc, time::Duration};

use mcp::{Capabilities, Method, error};
use prometheus_client::{
    encoding::{EncodeLabel, EncodeLabelSet, LabelSetEncoder},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::{
    histogram::{Bounds, Forms, Histogram},
    recent::Recent,
};
use crate::Options;

const DURATION: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Those of OpenTelemetry's conventions for MCP.
const OPERATION: &[f64] = &[
    0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0,
];

type Histograms = Family<Labels, Histogram, Bounds>;

/// Everything that is counted of MCP.
pub(crate) struct ToolMetrics {
    duration: Histograms,
    methods: Family<Labels, Counter>,
    initialization: Histograms,
    /// What clients ask of the gateway, and the gateway of backends, in the words of OpenTelemetry.
    served: Histograms,
    asked: Histograms,
    capabilities: Family<Labels, Counter>,
    progress: Family<Labels, Counter>,
    decisions: Family<Labels, Counter>,
    failures: Family<Labels, Counter>,
    partial: Family<Labels, Counter>,
    derivations: Counter,
    streams: Gauge,
    sessions: Gauge,
    /// Sessions that are in use.
    pub(crate) recent: Recent,
}

/// A stream that is open, for as long as it is not dropped.
pub(crate) struct Streaming(Gauge);

/// Labels that headers and messages became, and their values, which are bounded.
pub(crate) type Mapped = Arc<[(Arc<str>, Arc<str>)]>;

/// What is counted of requests whose headers became these labels.
#[derive(Clone, Copy)]
pub(crate) struct Counting<'a> {
    metrics: &'a ToolMetrics,
    mapped: &'a Mapped,
}

/// Labels with their values. All of them come from enums, from the configuration or are bounded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Labels {
    backend: Option<Arc<str>>,
    named: Vec<(&'static str, &'static str)>,
    mapped: Mapped,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// With an answer.
    Success,
    /// With an answer in which the tool says that it has failed; whether its arguments were wrong.
    Failed(bool),
    /// With an error, which has this code.
    Error(i32),
}

impl ToolMetrics {
    /// Registers everything.
    pub(super) fn new(registry: &mut Registry, forms: &Forms, options: &Options) -> Self {
        let mut histograms = |bounds, name: &str, help: &str| {
            let family = Histograms::new_with_constructor(forms.of(bounds));
            registry.register(name, help, family.clone());
            family
        };
        let duration = histograms(
            DURATION,
            "mcp_request_duration",
            "Time of one MCP request, in seconds",
        );
        let initialization = histograms(
            DURATION,
            "mcp_initialization_duration_seconds",
            "Time until a session with a backend is open",
        );
        let served = histograms(
            OPERATION,
            "mcp_server_operation_duration_seconds",
            "Time from a client's MCP request to its answer",
        );
        let asked = histograms(
            OPERATION,
            "mcp_client_operation_duration_seconds",
            "Time from an MCP request to a backend to its answer",
        );
        if options.old_metric_names {
            registry.register(
                "mcp_initialization_duration_token",
                "The same as mcp_initialization_duration_seconds, in seconds too, under the name of old dashboards",
                initialization.clone(),
            );
        }
        let mut counters = |name: &str, help: &str| {
            let family = Family::<Labels, Counter>::default();
            registry.register(name, help, family.clone());
            family
        };
        let methods = counters("mcp_method_count", "MCP requests by method and by how they ended");
        let capabilities = counters("mcp_capabilities_negotiated", "Capabilities that were declared");
        let decisions = counters("mcp_authorization_decisions", "What rules said of requests");
        let failures = counters("mcp_backend_failures", "Calls to backends that came to nothing");
        let partial = counters("mcp_fanout_partial", "Lists that lack a backend's part");
        let progress = counters(
            "mcp_progress_notifications",
            "Notifications of progress, in both directions",
        );
        let derivations = Counter::default();
        let help = "Keys that were derived for session tokens of the compatible form";
        registry.register("mcp_token_derivations", help, derivations.clone());
        let mut gauges = |name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let streams = gauges("mcp_streams_active", "Streams to MCP clients that are open");
        let sessions = gauges(
            "mcp_sessions_active",
            "Sessions of MCP clients that were used of late, or listen",
        );
        Self {
            duration,
            methods,
            initialization,
            served,
            asked,
            capabilities,
            progress,
            decisions,
            failures,
            partial,
            derivations,
            streams,
            sessions,
            recent: Recent::default(),
        }
    }

    /// Counts a stream that is opened, until what is returned is dropped.
    pub(crate) fn streaming(&self) -> Streaming {
        self.streams.inc();
        Streaming(self.streams.clone())
    }

    /// Counts keys that were derived.
    pub(crate) fn derived(&self, keys: u64) {
        if keys > 0 {
            self.derivations.inc_by(keys);
        }
    }

    /// Sets what is counted when it is read.
    pub(crate) fn fill(&self) {
        self.sessions
            .set(i64::try_from(self.recent.count()).unwrap_or(i64::MAX));
    }

    /// Returns what counts requests whose headers became these labels.
    pub(crate) fn of<'a>(&'a self, mapped: &'a Mapped) -> Counting<'a> {
        Counting {
            metrics: self,
            mapped,
        }
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Counting<'_> {
    /// Counts a message with `method`: a client's, which one `backend` has answered if any, or one of a backend that its
    /// client is told. It is timed if `elapsed` is known.
    pub(crate) fn request(
        &self,
        method: &str,
        backend: Option<&Arc<str>>,
        ended: Ended,
        elapsed: Option<Duration>,
    ) {
        let mut labels = self.labels(
            backend,
            ended
                .error()
                .map(|error| ("error_type", error))
                .into_iter()
                .collect(),
        );
        if let Some(elapsed) = elapsed {
            self.metrics
                .duration
                .get_or_create(&labels)
                .observe(elapsed.as_secs_f64());
        }
        labels.named = vec![("mcp_method_name", known(method)), ("status", ended.status())];
        self.metrics.methods.get_or_create(&labels).inc();
    }

    /// Times a request of a client in a revision, from its arrival to its answer.
    pub(crate) fn served(&self, method: &str, version: &'static str, ended: Ended, elapsed: Duration) {
        let named = [
            ("mcp_method_name", known(method)),
            ("mcp_protocol_version", version),
        ];
        let error = ended.operation_error().map(|error| ("error_type", error));
        let labels = self.labels(None, named.into_iter().chain(error).collect());
        let served = self.metrics.served.get_or_create(&labels);
        served.observe(elapsed.as_secs_f64());
    }

    /// Times a request to a backend, up to its answer or to what was wrong with it.
    pub(crate) fn asked(
        &self,
        method: &str,
        backend: &Arc<str>,
        error: Option<&'static str>,
        elapsed: Duration,
    ) {
        let named = [("mcp_method_name", known(method))].into_iter();
        let error = error.map(|error| ("error_type", error));
        let labels = self.labels(Some(backend), named.chain(error).collect());
        let asked = self.metrics.asked.get_or_create(&labels);
        asked.observe(elapsed.as_secs_f64());
    }

    /// Counts one backend's part of what all were asked for, and what was wrong with it if anything was.
    pub(crate) fn part(&self, backend: &Arc<str>, error: Option<&'static str>, elapsed: Duration) {
        let named = error.map(|error| ("error_type", error));
        let labels = self.labels(Some(backend), named.into_iter().collect());
        self.metrics
            .duration
            .get_or_create(&labels)
            .observe(elapsed.as_secs_f64());
        if error.is_some() {
            let labels = Labels {
                named: Vec::new(),
                ..labels
            };
            self.metrics.partial.get_or_create(&labels).inc();
        }
    }

    /// Counts a session that was opened with a backend, which can do these things, and so many that are of no standard.
    pub(crate) fn opened(
        &self,
        backend: &Arc<str>,
        capabilities: Capabilities,
        experimental: usize,
        elapsed: Duration,
    ) {
        let of = |named| self.labels(Some(backend), named);
        let duration = self.metrics.initialization.get_or_create(&of(Vec::new()));
        duration.observe(elapsed.as_secs_f64());
        let kinds = [
            (Capabilities::TOOLS, "tools"),
            (Capabilities::PROMPTS, "prompts"),
            (Capabilities::RESOURCES, "resources"),
            (Capabilities::LOGGING, "logging"),
            (Capabilities::COMPLETIONS, "completions"),
        ];
        for (_, kind) in kinds.into_iter().filter(|(one, _)| capabilities.has(*one)) {
            let labels = of(vec![("capability_side", "server"), ("capability_type", kind)]);
            self.metrics.capabilities.get_or_create(&labels).inc();
        }
        if experimental > 0 {
            let labels = of(vec![
                ("capability_side", "server"),
                ("capability_type", "experimental"),
            ]);
            let counter = self.metrics.capabilities.get_or_create(&labels);
            counter.inc_by(experimental as u64);
        }
    }

    /// Counts what a client can do.
    pub(crate) fn client(&self, kinds: impl Iterator<Item = (&'static str, u64)>) {
        for (kind, count) in kinds {
            let labels = self.labels(
                None,
                vec![("capability_side", "client"), ("capability_type", kind)],
            );
            self.metrics.capabilities.get_or_create(&labels).inc_by(count);
        }
    }

    /// Counts a client's answer to something that nobody has asked.
    pub(crate) fn unasked(&self, elapsed: Duration) {
        let labels = self.labels(None, vec![("error_type", UNSUPPORTED_RESPONSE)]);
        self.metrics
            .duration
            .get_or_create(&labels)
            .observe(elapsed.as_secs_f64());
    }

    /// Counts a notification of progress.
    pub(crate) fn progressed(&self) {
        let labels = self.labels(None, Vec::new());
        self.metrics.progress.get_or_create(&labels).inc();
    }

    /// Counts what rules said of a request.
    pub(crate) fn decided(&self, allowed: bool) {
        let action = if allowed { "allow" } else { "deny" };
        let labels = self.labels(None, vec![("action", action)]);
        self.metrics.decisions.get_or_create(&labels).inc();
    }

    /// Counts a call to a backend that came to nothing.
    pub(crate) fn failed(&self, backend: &Arc<str>, phase: &'static str, reason: &'static str) {
        let labels = self.labels(Some(backend), vec![("phase", phase), ("reason", reason)]);
        self.metrics.failures.get_or_create(&labels).inc();
    }

    fn labels(&self, backend: Option<&Arc<str>>, named: Vec<(&'static str, &'static str)>) -> Labels {
        Labels {
            backend: backend.cloned(),
            named,
            mapped: Arc::clone(self.mapped),
        }
    }
}

impl Ended {
    /// Returns the word for it.
    pub(crate) fn status(self) -> &'static str {
        match self {
            Ended::Success => "success",
            Ended::Failed(_) => "failed",
            Ended::Error(_) => "error",
        }
    }

    /// Returns the code of an error.
    pub(crate) fn code(self) -> Option<i32> {
        match self {
            Ended::Success | Ended::Failed(_) => None,
            Ended::Error(code) => Some(code),
        }
    }

    /// Returns what failed, as OpenTelemetry has it: that a tool says so itself is a kind of its own.
    pub(crate) fn operation_error(self) -> Option<&'static str> {
        match self {
            Ended::Failed(_) => Some("tool_error"),
            Ended::Success | Ended::Error(_) => self.error(),
        }
    }

    /// Returns what failed.
    pub(crate) fn error(self) -> Option<&'static str> {
        match self {
            Ended::Success => None,
            Ended::Failed(true) => Some("invalid_param"),
            Ended::Failed(false) => Some("internal_error"),
            Ended::Error(code) => Some(match code {
                error::INVALID_PARAMS => "invalid_param",
                error::METHOD_NOT_FOUND => "unsupported_method",
                error::INVALID_REQUEST | error::PARSE => "invalid_json_rpc",
                error::SESSION_NOT_FOUND => "invalid_session_id",
                error::UNSUPPORTED_VERSION => "unsupported_protocol_version",
                _ => "internal_error",
            }),
        }
    }
}

/// The type of error of an answer that is none.
pub(crate) const UNSUPPORTED_RESPONSE: &str = "unsupported_response";

/// Returns a method as a label: clients may ask for anything.
fn known(method: &str) -> &'static str {
    Method::known(method).unwrap_or("_other")
}

impl EncodeLabelSet for Labels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        for label in &self.named {
            label.encode(encoder.encode_label())?;
        }
        if let Some(backend) = &self.backend {
            ("mcp_backend", &**backend).encode(encoder.encode_label())?;
        }
        for (label, value) in &*self.mapped {
            (&**label, &**value).encode(encoder.encode_label())?;
        }
        Ok(())
    }
}
