//! The way that one request took, kept only where somebody may ask for it.
//!
//! What is known of the request itself is in [`Facts`](crate::facts::Facts); here is what was decided about it, and
//! why. A rule is kept whole: it knows its candidates, those that were never tried among them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use config::snapshot::{Candidate, Rule};
use llm::ApiError;

use crate::telemetry::error_type::ErrorType;

/// The way that one request took.
#[derive(Default)]
pub(crate) struct Trail {
    /// The rule that serves it.
    pub(crate) rule: Option<Arc<Rule>>,
    /// The attempts, in order.
    pub(crate) tried: Vec<Tried>,
    /// Candidates that were passed over although it was their turn, and why.
    pub(crate) passed_over: Vec<(Arc<str>, &'static str)>,
    /// Why no other candidate was tried; `None` where one answered, or none was left.
    pub(crate) stopped: Option<&'static str>,
    /// What the client was told by the gateway itself.
    pub(crate) refusal: Option<String>,
}

/// One attempt.
pub(crate) struct Tried {
    /// The candidate's id.
    pub(crate) candidate: Arc<str>,
    pub(crate) begun: Instant,
    /// Until it was decided what the attempt amounts to; `None` if the client did not wait for that.
    pub(crate) took: Option<Duration>,
    pub(crate) outcome: &'static str,
    /// What the upstream's answer was, or stands for.
    pub(crate) failure: Option<Failure>,
}

/// Why an attempt is not the answer.
pub(crate) struct Failure {
    pub(crate) error: ErrorType,
    pub(crate) status: u16,
    /// In the gateway's words. An upstream's are left out: they may quote what it was asked.
    pub(crate) reason: Option<String>,
}

impl Trail {
    /// Begins an attempt.
    pub(crate) fn begin(&mut self, candidate: &Candidate) {
        self.tried.push(Tried {
            candidate: Arc::clone(&candidate.id),
            begun: Instant::now(),
            took: None,
            outcome: "abandoned",
            failure: None,
        });
    }

    /// Ends the attempt that was begun last.
    pub(crate) fn end(&mut self, outcome: &'static str, failure: Option<Failure>) {
        if let Some(tried) = self.tried.last_mut() {
            tried.took = Some(tried.begun.elapsed());
            tried.outcome = outcome;
            tried.failure = failure;
        }
    }

    /// Notes a refusal that came about before any upstream was asked.
    pub(crate) fn refused(&mut self, error: &ApiError) {
        if self.tried.is_empty() {
            self.refusal = Some(error.message.clone());
        }
    }

    /// Returns why `candidate` was left out; `None` if it was tried.
    pub(crate) fn left_out(&self, candidate: &Candidate) -> Option<&'static str> {
        if self.tried.iter().any(|tried| tried.candidate == candidate.id) {
            return None;
        }
        let passed_over = self.passed_over.iter().find(|(id, _)| *id == candidate.id);
        if let Some((_, why)) = passed_over {
            return Some(why);
        }
        if candidate.weight == 0 {
            return Some("its weight is 0");
        }
        let answered = self.tried.last().is_some_and(|tried| tried.failure.is_none());
        Some(match self.stopped {
            Some(why) => why,
            None if self.tried.is_empty() => "the request did not get that far",
            None if answered => "the answer came before its turn",
            None => "its turn did not come",
        })
    }
}
