//! What is counted of the gateway's own part in requests: what it has refused, how long it has kept them, what they have
//! cost, and what went wrong on this side of the upstreams.
//!
//! Labels come from the configuration, from enums, or are bounded. All but the time until the first call is counted where
//! something is the matter, or where a policy asks for it.

use std::{
    fmt,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use http::StatusCode;
use prometheus_client::{
    encoding::{EncodeLabel, EncodeLabelSet, LabelSetEncoder},
    metrics::{
        counter::Counter,
        family::{Family, MetricConstructor},
    },
    registry::Registry,
};

use super::{
    histogram::{Bounds, Forms, Histogram},
    tools::Mapped,
};
use crate::meter::Bill;

/// Everything that is counted of the gateway's own part.
pub(crate) struct OwnMetrics {
    /// What is counted of credentials, for those who have them issued.
    pub(crate) refreshes: Refreshes,
    overhead: Histogram,
    queues: Family<Queued, Histogram, Bounds>,
    refusals: Family<Refused, Counter>,
    costs: Family<Cost, Counter>,
    failures: Family<Cost, Counter>,
    spending: Family<Spending, Counter<f64, AtomicU64>>,
    unpriced: Family<Unpriced, Counter>,
    translations: Family<Translation, Counter>,
}

/// How often credentials were had from their issuers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Refreshes(Family<Refresh, Counter>);

/// What could not be translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// A request, which cannot be said to an upstream.
    Request,
    /// An upstream's answer, which cannot be understood.
    Reply,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Queued {
    backend: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Refused {
    reason: &'static str,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Cost {
    name: Arc<str>,
    route: Arc<str>,
    mapped: Mapped,
}

/// Whom money was spent on, and by whom.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Spending {
    pub(super) currency: String,
    pub(super) provider: &'static str,
    pub(super) model: Arc<str>,
    pub(super) route: Option<Arc<str>>,
    pub(super) mapped: Mapped,
}

/// Who has answered for a price that nobody knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Unpriced {
    pub(super) provider: &'static str,
    pub(super) model: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Translation {
    operation: &'static str,
    provider: &'static str,
    side: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Refresh {
    credential: Arc<str>,
    result: &'static str,
}

impl OwnMetrics {
    /// Registers everything.
    pub(super) fn new(registry: &mut Registry, forms: &Forms) -> Self {
        let overhead = forms.of(WAITS).new_metric();
        registry.register(
            "tollgate_request_overhead_seconds",
            "Time from the last byte of a request until the first upstream is called",
            overhead.clone(),
        );
        let queues = Family::new_with_constructor(forms.of(WAITS));
        registry.register(
            "tollgate_queue_seconds",
            "Time that attempts have waited for a connection to be free, of those that had to",
            queues.clone(),
        );
        let refusals = Family::default();
        registry.register(
            "tollgate_refusals",
            "Requests that the gateway itself has answered with an error, by the reason",
            refusals.clone(),
        );
        let costs = Family::default();
        registry.register(
            "tollgate_costs",
            "What requests have cost, by the names that routes give their costs",
            costs.clone(),
        );
        let failures = Family::default();
        registry.register(
            "tollgate_cost_failures",
            "Expressions of costs that have failed, so that the tokens stood in for them",
            failures.clone(),
        );
        let spending = Family::default();
        registry.register(
            "tollgate_spending",
            "What answers have cost in money, by the prices of their backends",
            spending.clone(),
        );
        let unpriced = Family::default();
        registry.register(
            "tollgate_unpriced",
            "Answers of models that have no prices at a backend where others have",
            unpriced.clone(),
        );
        let translations = Family::default();
        registry.register(
            "tollgate_translation_errors",
            "Requests that could not be said to an upstream, and answers that could not be understood",
            translations.clone(),
        );
        let refreshes = Refreshes::default();
        registry.register(
            "tollgate_credential_refreshes",
            "Credentials that were asked of their issuers, by what came of it",
            refreshes.0.clone(),
        );
        Self {
            refreshes,
            overhead,
            queues,
            refusals,
            costs,
            failures,
            spending,
            unpriced,
            translations,
        }
    }

    /// Notes how long a whole request was kept before the first upstream was called.
    pub(crate) fn prepared(&self, elapsed: Duration) {
        self.overhead.observe(elapsed.as_secs_f64());
    }

    /// Notes how long an attempt has waited for a connection to be free.
    pub(crate) fn queued(&self, backend: &Arc<str>, elapsed: Duration) {
        let labels = Queued {
            backend: Arc::clone(backend),
        };
        self.queues.get_or_create(&labels).observe(elapsed.as_secs_f64());
    }

    /// Counts a request that the gateway itself has answered with an error.
    pub(crate) fn refused(&self, reason: &'static str, status: StatusCode) {
        let labels = Refused {
            reason,
            status: status.as_u16(),
        };
        self.refusals.get_or_create(&labels).inc();
    }

    /// Counts what a request of `route` was charged, and what of that stands in for expressions that have failed.
    pub(crate) fn charged(&self, route: &Arc<str>, bill: &Bill, mapped: &Mapped) {
        let labels = |name: &Arc<str>| Cost {
            name: Arc::clone(name),
            route: Arc::clone(route),
            mapped: Arc::clone(mapped),
        };
        for (name, number) in &bill.costs {
            self.costs.get_or_create(&labels(name)).inc_by(*number);
        }
        for name in &bill.failed {
            self.failures.get_or_create(&labels(name)).inc();
        }
    }

    /// Counts what an answer has cost in money.
    pub(super) fn spent(&self, labels: Spending, amount: f64) {
        self.spending.get_or_create(&labels).inc_by(amount);
    }

    /// Counts an answer that has no price.
    pub(super) fn unpriced(&self, labels: Unpriced) {
        self.unpriced.get_or_create(&labels).inc();
    }

    /// Counts what could not be translated.
    pub(crate) fn untranslated(&self, operation: &'static str, provider: &'static str, side: Side) {
        let labels = Translation {
            operation,
            provider,
            side: match side {
                Side::Request => "request",
                Side::Reply => "reply",
            },
        };
        self.translations.get_or_create(&labels).inc();
    }
}

impl Refreshes {
    /// Counts what came of asking for a credential.
    pub(crate) fn count(&self, credential: &Arc<str>, succeeded: bool) {
        let labels = Refresh {
            credential: Arc::clone(credential),
            result: if succeeded { "success" } else { "error" },
        };
        self.0.get_or_create(&labels).inc();
    }
}

impl EncodeLabelSet for Queued {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        ("backend", &*self.backend).encode(encoder.encode_label())
    }
}

impl EncodeLabelSet for Refused {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        ("reason", self.reason).encode(encoder.encode_label())?;
        ("status", self.status).encode(encoder.encode_label())
    }
}

impl EncodeLabelSet for Cost {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        ("cost", &*self.name).encode(encoder.encode_label())?;
        ("route", &*self.route).encode(encoder.encode_label())?;
        for (label, value) in &*self.mapped {
            (&**label, &**value).encode(encoder.encode_label())?;
        }
        Ok(())
    }
}

impl EncodeLabelSet for Spending {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        ("currency", self.currency.as_str()).encode(encoder.encode_label())?;
        ("gen_ai_provider_name", self.provider).encode(encoder.encode_label())?;
        ("gen_ai_request_model", &*self.model).encode(encoder.encode_label())?;
        if let Some(route) = &self.route {
            ("route", &**route).encode(encoder.encode_label())?;
        }
        for (label, value) in &*self.mapped {
            (&**label, &**value).encode(encoder.encode_label())?;
        }
        Ok(())
    }
}

impl EncodeLabelSet for Unpriced {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        ("gen_ai_provider_name", self.provider).encode(encoder.encode_label())?;
        ("gen_ai_request_model", &*self.model).encode(encoder.encode_label())
    }
}

impl EncodeLabelSet for Translation {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        ("operation", self.operation).encode(encoder.encode_label())?;
        ("provider", self.provider).encode(encoder.encode_label())?;
        ("side", self.side).encode(encoder.encode_label())
    }
}

impl EncodeLabelSet for Refresh {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        ("credential", &*self.credential).encode(encoder.encode_label())?;
        ("result", self.result).encode(encoder.encode_label())
    }
}

/// The bounds of waits on this side: from what a lookup takes to what a client bears.
const WAITS: &[f64] = &[
    0.000_01, 0.000_025, 0.000_05, 0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
    0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];
