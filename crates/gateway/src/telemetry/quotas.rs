//! What is counted of quotas, and how full the counters of all limits are; names of quotas are those that the compatibility specification plans, "Quota-aware routing".

use std::{
    fmt,
    sync::{Arc, atomic::AtomicU64},
};

use policy::rate_limit::store::Entry;
use prometheus_client::{
    encoding::{EncodeLabel, EncodeLabelSet, LabelSetEncoder},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// Everything that is counted of quotas.
pub(crate) struct QuotaMetrics {
    checks: Family<Checked, Counter>,
    decisions: Family<Decided, Counter>,
    fallbacks: Family<Decided, Counter>,
    utilization: Family<Of, Gauge<f64, AtomicU64>>,
    limits: Family<Of, Gauge<f64, AtomicU64>>,
}

/// What an attempt is counted by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Checked {
    backend: Arc<str>,
    model: Arc<str>,
    result: &'static str,
}

/// What a request is counted by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Decided {
    route: Arc<str>,
    result: Option<&'static str>,
}

/// Whose buckets are looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Of {
    rule: Arc<str>,
}

/// What the quota of a backend said to an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// Something is left.
    Allowed,
    /// Nothing is left.
    Exhausted,
    /// Its counters could not be asked.
    Unknown,
}

/// Where quotas led a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// To the backend that would have been asked without quotas.
    First,
    /// To another one.
    Fallback,
    /// Nowhere.
    Exhausted,
}

impl Decision {
    /// Returns where a request is led that was led here before, by a backend that may be asked.
    pub(crate) fn pass(self) -> Self {
        match self {
            Decision::First => Decision::First,
            Decision::Fallback | Decision::Exhausted => Decision::Fallback,
        }
    }
}

impl QuotaMetrics {
    /// Registers everything.
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let checks = Family::default();
        registry.register(
            "ai_gateway_quota_checks",
            "Attempts that the quota of their backend was asked for",
            checks.clone(),
        );
        let decisions = Family::default();
        registry.register(
            "ai_gateway_quota_route_decisions",
            "Requests by where quotas led them",
            decisions.clone(),
        );
        let fallbacks = Family::default();
        registry.register(
            "ai_gateway_quota_fallbacks",
            "Requests that another backend has served because a quota was used up",
            fallbacks.clone(),
        );
        let utilization = Family::<Of, Gauge<f64, AtomicU64>>::default();
        registry.register(
            "ai_gateway_quota_utilization_ratio",
            "What is used and held of a quota; of the fullest bucket where a rule has several",
            utilization.clone(),
        );
        let limits = Family::<Of, Gauge<f64, AtomicU64>>::default();
        registry.register(
            "tollgate_limit_utilization_ratio",
            "What is used and held of a rate limit; of the fullest counter where a rule has several",
            limits.clone(),
        );
        Self {
            checks,
            decisions,
            fallbacks,
            utilization,
            limits,
        }
    }

    /// Counts an attempt.
    pub(crate) fn check(&self, backend: &Arc<str>, model: Arc<str>, check: Check) {
        let result = match check {
            Check::Allowed => "allowed",
            Check::Exhausted => "exhausted",
            Check::Unknown => "unknown",
        };
        let labels = Checked {
            backend: Arc::clone(backend),
            model,
            result,
        };
        self.checks.get_or_create(&labels).inc();
    }

    /// Counts a request of `route` whose backends have quotas.
    pub(crate) fn decided(&self, route: &Arc<str>, decision: Decision) {
        let result = match decision {
            Decision::First => "first",
            Decision::Fallback => "fallback",
            Decision::Exhausted => "exhausted",
        };
        let mut labels = Decided {
            route: Arc::clone(route),
            result: Some(result),
        };
        self.decisions.get_or_create(&labels).inc();
        if decision == Decision::Fallback {
            labels.result = None;
            self.fallbacks.get_or_create(&labels).inc();
        }
    }

    /// Takes over how full the buckets are.
    pub(crate) fn fill(&self, entries: &[Entry]) {
        self.utilization.clear();
        self.limits.clear();
        for entry in entries {
            let of_quota = entry.counter.starts_with(policy::quota::DOMAIN);
            let gauges = if of_quota { &self.utilization } else { &self.limits };
            let labels = Of {
                rule: Arc::clone(&entry.rule),
            };
            let taken = entry.used.saturating_add(entry.held);
            let full = taken as f64 / entry.limit.max(1) as f64;
            let gauge = gauges.get_or_create(&labels);
            gauge.set(gauge.get().max(full));
        }
    }
}

impl EncodeLabelSet for Checked {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        ("backend", &*self.backend).encode(encoder.encode_label())?;
        ("model", &*self.model).encode(encoder.encode_label())?;
        ("result", self.result).encode(encoder.encode_label())
    }
}

impl EncodeLabelSet for Decided {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        ("route", &*self.route).encode(encoder.encode_label())?;
        if let Some(result) = self.result {
            ("result", result).encode(encoder.encode_label())?;
        }
        Ok(())
    }
}

impl EncodeLabelSet for Of {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        ("rule", &*self.rule).encode(encoder.encode_label())
    }
}
