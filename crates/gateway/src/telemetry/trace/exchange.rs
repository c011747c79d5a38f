//! The spans of one request and of its attempts, but for what a vocabulary says of it.

use http::StatusCode;
use llm::Format;

use super::{
    Trace, Vocabulary, Words,
    content::Content,
    genai, nanos, openinference,
    span::{Attributes, Kind, Span, Status},
    text,
};
use crate::{
    facts::Outcome,
    telemetry::{decision::Decision, error_type::ErrorType},
    trail::Tried,
};

/// A request that is done, with what it is called to build spans from.
pub(super) struct Exchange<'a> {
    pub(super) trace: &'a Trace,
    pub(super) decision: &'a Decision,
    pub(super) words: Words,
}

impl Exchange<'_> {
    /// Returns the span of the request.
    pub(super) fn span(&self) -> Span {
        let decision = self.decision;
        let (trace, start) = (self.trace, self.start());
        let mut span = Span {
            trace: trace.place.trace,
            id: trace.place.span,
            parent: trace.parent,
            state: self.state(),
            name: String::new(),
            kind: Kind::Internal,
            start,
            end: start + nanos(decision.elapsed),
            attributes: Attributes::default(),
            events: Vec::new(),
            status: Status::Unset,
        };
        let content = match decision.endpoint {
            Some(endpoint) => {
                let request = trace.request.as_deref().unwrap_or_default();
                let streamed = decision.streamed && decision.status.is_success();
                Content::read(endpoint, request, &trace.answer, streamed)
            }
            None => Content::default(),
        };
        span.say(&self.words, |span, vocabulary| match vocabulary {
            Vocabulary::OpenInference(hide) => openinference::describe(span, self, &content, hide),
            Vocabulary::GenAi(capture) => genai::describe(span, self, &content, *capture),
        });
        for (name, value) in decision.span_attributes() {
            span.attributes.set(name.to_owned(), text(value));
        }
        if trace.truncated {
            span.attributes.set("tollgate.truncated", true);
        }
        let first = decision.attempt.as_ref().filter(|_| decision.streamed);
        let first = first.and_then(|attempt| attempt.first_token);
        span.attributes.maybe(
            "tollgate.time_to_first_token",
            first.map(|first| first.as_secs_f64()),
        );
        let retries = decision.trail.tried.len().saturating_sub(1);
        span.attributes.count("retry.count", Some(retries as u64));
        if decision.outcome == Outcome::Dropped {
            span.attributes.set("tollgate.outcome", "client_closed");
        }
        let error = decision.error.filter(|_| self.failed());
        span.attributes
            .maybe("tollgate.error", error.map(ErrorType::name));
        for (name, number) in decision.bill.iter().flat_map(|bill| &bill.costs) {
            span.attributes.set(format!("tollgate.cost.{name}"), *number);
        }
        if let Some((spent, currency)) = decision.bill.as_ref().and_then(|bill| bill.spent()) {
            span.attributes.set("gen_ai.usage.cost", spent.total.amount());
            span.attributes
                .set("gen_ai.usage.cost_currency", currency.to_owned());
        }
        span
    }

    /// Returns the span of an attempt.
    pub(super) fn attempt(&self, tried: &Tried, id: [u8; 8]) -> Span {
        let start = self.start() + nanos(tried.begun.saturating_duration_since(self.decision.start));
        let took = tried.took.unwrap_or(self.decision.elapsed);
        let rule = self.decision.trail.rule.as_ref();
        let mut candidates = rule.into_iter().flat_map(|rule| rule.candidates.iter());
        let candidate = candidates.find(|candidate| candidate.id == tried.candidate);
        let backend = candidate.and_then(|candidate| candidate.backend.as_ref().ok());
        let mut attributes = Attributes::default();
        if self.words.have_openinference() {
            attributes.set("openinference.span.kind", "CHAIN");
        }
        attributes.set("tollgate.candidate", &*tried.candidate);
        attributes.maybe("tollgate.backend", backend.map(|backend| &*backend.id));
        attributes.maybe(
            "gen_ai.provider.name",
            backend.map(|backend| backend.provider.name()),
        );
        let model = candidate.and_then(|candidate| candidate.model.as_deref());
        attributes.maybe("gen_ai.request.model", model.or(self.decision.model.as_deref()));
        attributes.set("tollgate.outcome", tried.outcome);
        let status = match &tried.failure {
            None => Status::Unset,
            Some(failure) => {
                attributes.set("http.response.status_code", u64::from(failure.status));
                attributes.set("error.type", failure.error.name());
                Status::Error(failure.reason.clone().unwrap_or_default())
            }
        };
        Span {
            trace: self.trace.place.trace,
            id,
            parent: Some(self.trace.place.span),
            state: self.state(),
            name: "attempt".to_owned(),
            kind: Kind::Client,
            start,
            end: start + nanos(took),
            attributes,
            events: Vec::new(),
            status,
        }
    }

    pub(super) fn label(&self) -> &'static str {
        self.decision
            .endpoint
            .map_or("unknown", |endpoint| endpoint.label)
    }

    pub(super) fn format(&self) -> Format {
        self.decision
            .endpoint
            .map_or(Format::OpenAi, |endpoint| endpoint.format)
    }

    pub(super) fn start(&self) -> u64 {
        u64::try_from(self.decision.began.as_nanosecond()).unwrap_or_default()
    }

    /// Returns when a stream said its first bytes.
    pub(super) fn first_token(&self) -> Option<u64> {
        let attempt = self
            .decision
            .attempt
            .as_ref()
            .filter(|_| self.decision.streamed)?;
        let at = attempt.start + attempt.first_token?;
        Some(self.start() + nanos(at.saturating_duration_since(self.decision.start)))
    }

    pub(super) fn succeeded(&self) -> bool {
        self.decision.status.is_success() && self.decision.outcome == Outcome::Complete
    }

    /// Returns whether an error was the answer, or ended it. A client that went away has not failed.
    pub(super) fn failed(&self) -> bool {
        self.decision.outcome != Outcome::Dropped && !self.succeeded()
    }

    /// Returns the status that stands for a failure, which may have come after the head was sent.
    pub(super) fn failure_status(&self) -> StatusCode {
        match self.decision.error {
            Some(error) if self.decision.status.is_success() => error.kind.status(),
            Some(_) | None => self.decision.status,
        }
    }

    fn state(&self) -> String {
        self.trace
            .place
            .state
            .as_ref()
            .map_or_else(String::new, |state| text(state).to_owned())
    }
}
