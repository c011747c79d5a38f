//! What was decided about the last so many requests, for whoever asks why.
//!
//! A ring of slots: a request takes the next one and throws out what was there. What costs time, looking up the
//! candidates and writing JSON, happens when somebody asks. Neither prompts nor answers are kept, and no header but
//! the client's name for itself; credentials are known by the policies that hold them.
//!
//! What is kept of a request's head is copied: a slice of it would hold on to the whole buffer that its connection was
//! read into, thousands of bytes for a word, and the connection would have to begin a new one.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use config::snapshot::{Candidate, Rule};
use http::{HeaderValue, Method, StatusCode, Version};
use llm::{Endpoint, Losses, Severity, Usage, chat::FinishReason};
use serde_json::{Map, Value, json};

use super::{
    attributes::{Captured, HeaderAttributes, Signal},
    error_type::ErrorType,
    log::finish_name,
    tools::Ended,
};
use crate::{
    facts::{Attempted, Facts, Outcome},
    mcp::account::{Account, Shared},
    meter::Bill,
    trail::{Trail, Tried},
};

/// The decisions about recent requests.
pub(crate) struct Decisions {
    slots: Box<[Mutex<Option<Arc<Decision>>>]>,
    next: AtomicUsize,
}

/// What was decided about one request.
pub(crate) struct Decision {
    pub(crate) start: Instant,
    pub(crate) began: jiff::Timestamp,
    pub(crate) elapsed: Duration,
    pub(crate) method: Method,
    /// Without the query, which may hold a key.
    pub(crate) path: Box<str>,
    pub(crate) host: String,
    pub(crate) id: HeaderValue,
    pub(crate) user_agent: Option<HeaderValue>,
    pub(crate) endpoint: Option<&'static Endpoint>,
    pub(crate) model: Option<String>,
    pub(crate) streamed: bool,
    pub(crate) attempt: Option<Attempted>,
    pub(crate) status: StatusCode,
    pub(crate) outcome: Outcome,
    pub(crate) error: Option<ErrorType>,
    pub(crate) usage: Usage,
    pub(crate) seconds: Option<u64>,
    pub(crate) response_model: Option<String>,
    pub(crate) finish: Option<FinishReason>,
    pub(crate) losses: Losses,
    pub(crate) bytes_received: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) trail: Box<Trail>,
    /// What it was charged.
    pub(crate) bill: Option<Box<Bill>>,
    /// The route of MCP.
    pub(crate) route: Option<Arc<str>>,
    /// What is known of messages of MCP.
    pub(crate) messages: Vec<Account>,
    pub(crate) version: Version,
    captured: Captured,
    attributes: Arc<HeaderAttributes>,
}

impl Decisions {
    /// Returns room for `count` requests; 0 keeps none.
    pub(crate) fn new(count: usize) -> Self {
        Self {
            slots: (0..count).map(|_| Mutex::default()).collect(),
            next: AtomicUsize::new(0),
        }
    }

    /// Returns whether anything is kept.
    pub(crate) fn are_kept(&self) -> bool {
        !self.slots.is_empty()
    }

    /// Keeps what was decided about a request.
    pub(crate) fn keep(&self, decision: &Arc<Decision>) {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let slot = turn
            .checked_rem(self.slots.len())
            .and_then(|at| self.slots.get(at));
        if let Some(slot) = slot {
            let before = slot
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .replace(Arc::clone(decision));
            drop(before);
        }
    }

    /// Returns the last `limit` requests in short, the newest first.
    pub(crate) fn list(&self, limit: usize) -> Value {
        self.newest_first()
            .take(limit)
            .map(|decision| decision.summary())
            .collect()
    }

    /// Returns everything about the request `id`; the newest, if clients have given several the same.
    pub(crate) fn find(&self, id: &str) -> Option<Value> {
        self.newest_first()
            .find(|decision| decision.id.as_bytes() == id.as_bytes())
            .map(|decision| decision.document())
    }

    fn newest_first(&self) -> impl Iterator<Item = Arc<Decision>> {
        let count = self.slots.len();
        let next = self.next.load(Ordering::Relaxed).checked_rem(count).unwrap_or(0);
        (1..=count).filter_map(move |back| {
            let slot = self.slots.get((next + count - back) % count)?;
            slot.lock().unwrap_or_else(PoisonError::into_inner).clone()
        })
    }
}

impl Decision {
    /// Takes over what is known of a request, whose record is otherwise done.
    pub(crate) fn new(facts: &mut Facts, trail: Box<Trail>, outcome: Outcome, elapsed: Duration) -> Self {
        Self {
            start: facts.start,
            began: facts.began,
            elapsed,
            method: facts.method.clone(),
            path: facts.uri.path().into(),
            host: std::mem::take(&mut facts.host),
            id: std::mem::replace(&mut facts.request_id, HeaderValue::from_static("")),
            user_agent: facts.user_agent.take(),
            endpoint: facts.endpoint,
            model: facts.model.take(),
            streamed: facts.streamed,
            attempt: facts.attempt.take(),
            status: facts.status,
            outcome,
            error: facts.error,
            usage: facts.usage,
            seconds: facts.seconds,
            response_model: facts.response_model.take(),
            finish: facts.finish.take(),
            losses: std::mem::take(&mut facts.losses),
            bytes_received: facts.bytes_received,
            bytes_sent: facts.bytes_sent,
            trail,
            bill: facts.bill.take(),
            route: facts.route.clone(),
            messages: facts.tools.iter().map(Shared::take).collect(),
            version: facts.version,
            captured: std::mem::take(&mut facts.captured),
            attributes: Arc::clone(facts.attributes()),
        }
    }

    /// Returns the attributes of the span.
    pub(crate) fn span_attributes(&self) -> impl Iterator<Item = (&str, &HeaderValue)> {
        self.attributes_of(&self.captured)
    }

    /// Returns what `captured` means for spans.
    pub(crate) fn attributes_of<'a>(
        &'a self,
        captured: &'a Captured,
    ) -> impl Iterator<Item = (&'a str, &'a HeaderValue)> {
        let named = self.attributes.of(Signal::Spans, captured);
        named.map(|(name, value)| (name.attribute.as_str(), value))
    }

    fn summary(&self) -> Value {
        json!({
            "id": text(&self.id),
            "began": self.began.to_string(),
            "duration": millis(self.elapsed),
            "method": self.method.as_str(),
            "path": self.path,
            "model": self.model,
            "route": self.route_name(),
            "tool": self.messages.first().map(|message| message.name.as_deref().unwrap_or(&message.method)),
            "attempts": self.trail.tried.len() + self.messages.iter().map(|message| message.calls.len()).sum::<usize>(),
            "status": self.status.as_u16(),
            "outcome": self.outcome.name(),
            "error": self.error.map(ErrorType::name),
        })
    }

    fn document(&self) -> Value {
        let rule = self.trail.rule.as_deref();
        let attempt = self.attempt.as_ref();
        json!({
            "id": text(&self.id),
            "began": self.began.to_string(),
            "duration": millis(self.elapsed),
            "method": self.method.as_str(),
            "path": self.path,
            "host": self.host,
            "userAgent": self.user_agent.as_ref().map(text),
            "operation": self.endpoint.map(|endpoint| endpoint.label),
            "model": self.model,
            "streamed": self.streamed,
            "status": self.status.as_u16(),
            "outcome": self.outcome.name(),
            "error": self.error.map(ErrorType::name),
            "refusal": self.trail.refusal,
            "route": self.route_name(),
            "rule": rule.map(|rule| rule.index),
            "ruleName": rule.and_then(|rule| rule.name.as_deref()),
            "candidates": rule.map(|rule| self.candidates(rule)),
            "attempts": self.trail.tried.iter().map(|tried| self.attempt(tried)).collect::<Value>(),
            "messages": self.messages.iter().map(|message| self.message(message)).collect::<Value>(),
            "answer": {
                "model": self.response_model,
                "finish": self.finish.as_ref().map(finish_name),
                "timeToFirstToken": attempt.and_then(|attempt| attempt.first_token).map(millis),
            },
            "losses": self.losses(),
            "usage": self.usage(),
            "costs": self.costs(),
            "limits": rule.map(limits),
            "bytesReceived": self.bytes_received,
            "bytesSent": self.bytes_sent,
        })
    }

    /// Returns what was charged, by the names of the costs; null where nothing is metered.
    fn costs(&self) -> Value {
        let Some(bill) = &self.bill else {
            return Value::Null;
        };
        let costs = bill.costs.iter();
        let costs: Map<String, Value> = costs
            .map(|(name, number)| (name.to_string(), json!(number)))
            .collect();
        let mut told = json!({ "estimated": bill.estimated, "charged": costs });
        if let Some((spent, currency)) = bill.spent() {
            told["money"] = json!({
                "total": spent.total.amount(),
                "prompt": spent.prompt.amount(),
                "answer": spent.answer.amount(),
                "currency": currency,
            });
        }
        told
    }

    fn candidates(&self, rule: &Rule) -> Value {
        let mut candidates: Vec<&Candidate> = rule.candidates.iter().collect();
        candidates.sort_by_key(|candidate| candidate.priority);
        let described = candidates.into_iter().map(|candidate| {
            let backend = candidate.backend.as_ref().ok();
            json!({
                "id": &*candidate.id,
                "backend": backend.map(|backend| &*backend.id),
                "provider": backend.map(|backend| backend.provider.name()),
                "credential": backend
                    .and_then(|backend| backend.credential.as_ref())
                    .map(|credential| &*credential.policy),
                "model": candidate.model.as_deref().or(self.model.as_deref()),
                "quota": backend.is_some_and(|backend| backend.quota.is_some()),
                "priority": candidate.priority,
                "weight": candidate.weight,
                "unusable": candidate.backend.as_ref().err(),
                "leftOut": self.trail.left_out(candidate),
            })
        });
        described.collect()
    }

    fn attempt(&self, tried: &Tried) -> Value {
        let failure = tried.failure.as_ref();
        json!({
            "candidate": &*tried.candidate,
            "begun": millis(tried.begun.saturating_duration_since(self.start)),
            "took": tried.took.map(millis),
            "outcome": tried.outcome,
            "error": failure.map(|failure| failure.error.name()),
            "status": failure.map(|failure| failure.status),
            "reason": failure.and_then(|failure| failure.reason.as_deref()),
        })
    }

    fn route_name(&self) -> Option<&str> {
        let rule = self.trail.rule.as_deref().map(|rule| &*rule.route);
        rule.or(self.route.as_deref())
    }

    /// Returns what was done for one message of MCP.
    fn message(&self, message: &Account) -> Value {
        let after = |at: Instant| millis(at.saturating_duration_since(self.start));
        let calls = message.calls.iter().map(|call| {
            json!({
                "backend": &*call.backend,
                "session": call.session,
                "new": call.new,
                "begun": after(call.begun),
                "took": call.took.map(millis),
                "failure": call.failure,
            })
        });
        json!({
            "id": message.id,
            "method": message.method,
            "name": message.name,
            "uri": message.uri,
            "session": message.session,
            "version": message.version,
            "begun": message.begun.map(after),
            "took": message.took.map(millis),
            "status": message.ended.map_or("abandoned", Ended::status),
            "error": message.ended.and_then(Ended::error),
            "code": message.ended.and_then(Ended::code),
            "items": message.items,
            "calls": calls.collect::<Value>(),
        })
    }

    fn losses(&self) -> Value {
        let dialect = self.endpoint.map(|endpoint| endpoint.format);
        let losses = self.losses.iter().map(|loss| {
            json!({
                "field": dialect.map(|dialect| dialect.field(&loss.field)),
                "severity": match loss.severity {
                    Severity::Advisory => "advisory",
                    Severity::Material => "material",
                },
                "reason": loss.reason,
            })
        });
        losses.collect()
    }

    fn usage(&self) -> Value {
        if self.usage.is_unknown() && self.seconds.is_none() && self.usage.search_units.is_none() {
            return Value::Null;
        }
        json!({
            "input": self.usage.prompt(),
            "cachedInput": self.usage.cache_read,
            "cacheCreationInput": self.usage.cache_write,
            "output": self.usage.output,
            "reasoning": self.usage.reasoning,
            "total": self.usage.total(),
            "audioSeconds": self.seconds,
            "searchUnits": self.usage.search_units,
        })
    }
}

/// Returns the rules of limits that requests of `rule` are held against.
fn limits(rule: &Rule) -> Value {
    let limits = rule.limits.iter().flat_map(|limits| &limits.rules);
    limits.map(|limit| json!(&*limit.id)).collect()
}

fn text(value: &HeaderValue) -> &str {
    value.to_str().unwrap_or("?")
}

fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
