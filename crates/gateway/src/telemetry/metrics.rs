//! What is counted and timed; names, labels and buckets of the `gen_ai_*` families are those of the
//! compatibility specification, "GenAI metrics".
//!
//! Labels come from the configuration, from enums, or from names of models, of which only so many are told
//! apart: a client must not be able to grow the memory of the process.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64},
    },
};

use http::HeaderValue;
use llm::Severity;
use policy::rate_limit::store::Entry;
use prometheus_client::{
    encoding::text,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::{
    attributes::Name,
    histogram::{Bounds, Form, Forms, Histogram},
    labels::{Attempt, GenAi, Limited, Loss, Request, Searched, Target, field},
    names::{Named, Names},
    own::{OwnMetrics, Spending, Unpriced},
    process::Process,
    quotas::QuotaMetrics,
    tools::{Mapped, ToolMetrics},
};
use crate::{
    Options,
    facts::{Attempted, Facts, Outcome},
    meter::Charge,
};

// Bounds that the compatibility specification names, and beyond them where it says that these end too early.
const TOKENS: &[f64] = &[
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];

const DURATION: &[f64] = &[
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84, 327.68,
    655.36, 1310.72,
];

const FIRST_TOKEN: &[f64] = &[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 15.0, 20.0,
    30.0, 45.0, 60.0, 120.0, 300.0, 600.0,
];

const PER_TOKEN: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5,
    5.0, 10.0,
];

type Histograms = Family<GenAi, Histogram, Bounds>;

/// Everything that is counted.
pub(crate) struct Metrics {
    pub(crate) in_flight: Gauge<i64, AtomicI64>,
    /// What is counted of MCP.
    pub(crate) tools: ToolMetrics,
    /// What the process uses and was given.
    pub(crate) process: Arc<Process>,
    /// What is counted of quotas.
    pub(crate) quotas: QuotaMetrics,
    /// What is counted of the gateway's own part.
    pub(crate) own: OwnMetrics,
    registry: Registry,
    /// Held while everything is read, so that gauges are set, and a form is told, for one reader at a time.
    reading: Mutex<()>,
    forms: Forms,
    names: Names,
    token_usage: Histograms,
    duration: Histograms,
    first_token: Histograms,
    per_token: Histograms,
    requests: Family<Request, Counter>,
    attempts: Family<Attempt, Counter>,
    losses: Family<Loss, Counter>,
    search_units: Family<Searched, Counter>,
    limited: Family<Limited, Counter>,
    dropped_records: Gauge<u64, AtomicU64>,
    dropped_spans: Gauge<u64, AtomicU64>,
}

impl Metrics {
    pub(crate) fn new(options: &Options) -> Self {
        let scope = [
            ("otel_scope_name".into(), "envoyproxy/ai-gateway".into()),
            ("otel_scope_schema_url".into(), "".into()),
            ("otel_scope_version".into(), "".into()),
        ];
        let mut registry = Registry::default();
        let pushed = options.telemetry.metrics.as_ref();
        let forms = Forms::new(options.native_histograms || pushed.is_some_and(|push| push.exponential));
        let target: Family<Target, Gauge<i64, AtomicI64>> = Family::default();
        target.get_or_create(&Target).set(1);
        registry.register("target_info", "Who is measured", target);
        let in_flight = Gauge::default();
        registry.register(
            "tollgate_requests_in_flight",
            "Requests being served",
            in_flight.clone(),
        );
        let requests = Family::default();
        registry.register(
            "tollgate_requests",
            "Requests by how they ended",
            requests.clone(),
        );
        let attempts = Family::default();
        registry.register(
            "tollgate_attempts",
            "Calls to upstreams by what came of them",
            attempts.clone(),
        );
        let losses = Family::default();
        registry.register(
            "tollgate_losses",
            "Members that could not be carried",
            losses.clone(),
        );
        let search_units = Family::default();
        registry.register(
            "tollgate_search_units",
            "What rerank cost in the units of providers who count no tokens",
            search_units.clone(),
        );
        let limited = Family::default();
        registry.register(
            "tollgate_limited",
            "Requests and attempts that a limit did not let through, or let through without being asked",
            limited.clone(),
        );
        let quotas = QuotaMetrics::new(&mut registry);
        let own = OwnMetrics::new(&mut registry, &forms);
        let process = Process::register(&mut registry);
        let dropped_records = Gauge::default();
        registry.register(
            "tollgate_access_records_dropped",
            "Access records that could not be written in time",
            dropped_records.clone(),
        );
        let dropped_spans = Gauge::default();
        registry.register(
            "tollgate_spans_dropped",
            "Requests without a span because it could not be exported in time",
            dropped_spans.clone(),
        );
        let scoped = registry.sub_registry_with_labels(scope.into_iter());
        let tools = ToolMetrics::new(scoped, &forms, options);
        let mut family = |name: &str, help: &str, bounds: &'static [f64]| {
            let family = Histograms::new_with_constructor(forms.of(bounds));
            scoped.register(name, help, family.clone());
            family
        };
        Self {
            token_usage: family("gen_ai_client_token_usage", "Tokens used, by type", TOKENS),
            duration: family(
                "gen_ai_server_request_duration_seconds",
                "Time until the last byte of the answer",
                DURATION,
            ),
            first_token: family(
                "gen_ai_server_time_to_first_token_seconds",
                "Time until the first piece of a streamed answer",
                FIRST_TOKEN,
            ),
            per_token: family(
                "gen_ai_server_time_per_output_token_seconds",
                "Mean time between the tokens of a streamed answer",
                PER_TOKEN,
            ),
            in_flight,
            tools,
            process,
            quotas,
            own,
            registry,
            reading: Mutex::default(),
            forms,
            names: Names::default(),
            requests,
            attempts,
            losses,
            search_units,
            limited,
            dropped_records,
            dropped_spans,
        }
    }

    /// Counts one call to an upstream.
    pub(crate) fn attempt(&self, backend: &Arc<str>, outcome: &'static str) {
        let labels = Attempt {
            backend: Arc::clone(backend),
            outcome,
        };
        self.attempts.get_or_create(&labels).inc();
    }

    /// Counts what a limit did not let through. Rules are named by the configuration.
    pub(crate) fn limited(&self, rule: &str, reason: &'static str) {
        let labels = Limited {
            rule: rule.to_owned(),
            reason,
        };
        self.limited.get_or_create(&labels).inc();
    }

    /// Counts one request.
    pub(crate) fn record(&self, facts: &Facts, outcome: Outcome) {
        let unknown = if facts.plain { "plain" } else { "unknown" };
        let mapped = self.mapped(facts.metric_attributes());
        let labels = Request {
            operation: facts.endpoint.map_or(unknown, |endpoint| endpoint.label),
            provider: facts
                .attempt
                .as_ref()
                .map_or("unknown", |attempt| attempt.provider),
            status: facts.status.as_u16(),
            outcome: outcome.name(),
            route: facts.route.clone(),
            mapped: Arc::clone(&mapped),
        };
        self.requests.get_or_create(&labels).inc();
        for loss in facts.losses.iter() {
            let labels = Loss {
                field: field(&loss.field),
                severity: match loss.severity {
                    Severity::Advisory => "advisory",
                    Severity::Material => "material",
                },
            };
            self.losses.get_or_create(&labels).inc();
        }
        if let Some((route, bill)) = facts.route.as_ref().zip(facts.bill.as_ref()) {
            self.own.charged(route, bill, &mapped);
        }
        if let Some(attempt) = &facts.attempt {
            self.record_answer(facts, attempt, outcome, mapped);
        }
    }

    /// Counts what an upstream was asked for and gave; durations are those of the last attempt.
    fn record_answer(&self, facts: &Facts, attempt: &Attempted, outcome: Outcome, mapped: Mapped) {
        let succeeded = facts.status.is_success();
        let failed = !succeeded || outcome != Outcome::Complete;
        let model = facts.model.as_deref().unwrap_or("unknown");
        let response_model = facts.response_model.as_deref().unwrap_or("unknown");
        let [original_model, request_model, response_model] = [
            self.names.label(model, || facts.runtime().names_model(model)),
            self.names.label(&attempt.model, || {
                // What replaces the client's word is declared.
                attempt.model != model || facts.runtime().names_model(model)
            }),
            self.names.label(response_model, || false),
        ];
        let ([original_model, request_model, response_model], mapped) =
            self.together([original_model, request_model, response_model], mapped);
        let mut labels = GenAi {
            operation: facts.endpoint.map_or("unknown", |endpoint| endpoint.label),
            provider: attempt.provider,
            original_model,
            request_model,
            response_model,
            token_type: None,
            error: failed.then(|| error_type(facts, outcome)),
            mapped,
        };
        let elapsed = facts.ended().saturating_duration_since(attempt.start);
        self.duration
            .get_or_create(&labels)
            .observe(elapsed.as_secs_f64());
        labels.error = None;
        if let Some(first) = attempt.first_token {
            self.first_token
                .get_or_create(&labels)
                .observe(first.as_secs_f64());
            if let Some(gap) = facts.per_token() {
                self.per_token.get_or_create(&labels).observe(gap);
            }
        }
        if let Some(charge) = facts.bill.as_ref().and_then(|bill| bill.charge.as_ref()) {
            self.record_charge(charge, facts, &labels);
        }
        if let Some(units) = facts.usage.search_units.filter(|_| succeeded) {
            let labels = Searched {
                provider: attempt.provider,
                model: Arc::clone(&labels.request_model),
            };
            self.search_units.get_or_create(&labels).inc_by(units);
        }
        if !succeeded || facts.usage.is_unknown() {
            return;
        }
        let usage = &facts.usage;
        let prompt = usage
            .input
            .or(usage.cache_read)
            .or(usage.cache_write)
            .map(|_| usage.prompt());
        let counts = [
            ("input", prompt),
            ("cached_input", usage.cache_read),
            ("cache_creation_input", usage.cache_write),
            ("output", usage.output),
            ("reasoning", usage.reasoning),
        ];
        for (token_type, count) in counts {
            if let Some(count) = count {
                labels.token_type = Some(token_type);
                self.token_usage.get_or_create(&labels).observe(count as f64);
            }
        }
    }

    /// Returns the names of models and the labels from headers, or one name for all that clients choose where too many sets
    /// of them are told apart already.
    fn together(&self, models: [Named; 3], mapped: Mapped) -> ([Arc<str>; 3], Mapped) {
        let values = mapped.iter().map(|(_, value)| value);
        let free = models.iter().filter_map(Named::free).chain(values);
        if self.names.together(free) {
            return (models.map(|model| model.name), mapped);
        }
        let models = models.map(|model| match model.free() {
            Some(_) => Named::other(),
            None => model.name,
        });
        (models, others(&mapped))
    }

    /// Counts what an answer with these labels has cost in money.
    fn record_charge(&self, charge: &Charge, facts: &Facts, labels: &GenAi) {
        let (provider, model) = (labels.provider, Arc::clone(&labels.request_model));
        match charge.spent {
            None => self.own.unpriced(Unpriced { provider, model }),
            Some(spent) => {
                let labels = Spending {
                    currency: charge.currency().to_owned(),
                    provider,
                    model,
                    route: facts.route.clone(),
                    mapped: Arc::clone(&labels.mapped),
                };
                self.own.spent(labels, spent.total.amount());
            }
        }
    }

    /// Returns the labels that headers and a message of MCP become.
    pub(crate) fn mapped<'a>(&self, named: impl Iterator<Item = (&'a Name, &'a HeaderValue)>) -> Mapped {
        let mapped: Vec<(Arc<str>, Arc<str>)> = named
            .map(|(name, value)| {
                let value = self.name(value.to_str().unwrap_or("?"));
                (name.label.as_str().into(), value)
            })
            .collect();
        // Nothing is shared by all.
        if mapped.is_empty() {
            return Mapped::default();
        }
        let values = mapped.iter().map(|(_, value)| value);
        match self.names.together(values) {
            true => mapped.into(),
            false => others(&mapped),
        }
    }

    /// Returns everything in the OpenMetrics text format.
    pub(crate) fn encode(
        &self,
        form: Form,
        dropped_records: u64,
        dropped_spans: u64,
        counters: &[Entry],
    ) -> Result<String, fmt::Error> {
        let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        self.quotas.fill(counters);
        self.tools.fill();
        self.dropped_records.set(dropped_records);
        self.dropped_spans.set(dropped_spans);
        self.forms.tell(form);
        let mut out = String::with_capacity(16 * 1024);
        text::encode(&mut out, &self.registry)?;
        Ok(out)
    }

    /// Returns `name` as a label, if it is among those that are told apart.
    pub(crate) fn name(&self, name: &str) -> Arc<str> {
        self.names.label(name, || false).name
    }
}

/// Returns the labels that headers become where their values are not told apart.
fn others(mapped: &[(Arc<str>, Arc<str>)]) -> Mapped {
    let others = mapped.iter().map(|(name, _)| (Arc::clone(name), Named::other()));
    others.collect()
}

/// Returns what failed: more than the constant of the compatibility specification, as it wishes itself.
fn error_type(facts: &Facts, outcome: Outcome) -> &'static str {
    match (facts.error, outcome) {
        (Some(error), _) => error.name(),
        (None, Outcome::Dropped) => "canceled",
        (None, Outcome::Complete | Outcome::Broken) => "_OTHER",
    }
}
