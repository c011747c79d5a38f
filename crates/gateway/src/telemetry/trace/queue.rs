//! Requests that are done on their way to the receiver of spans.

use std::{sync::Arc, time::Duration};

use super::{Trace, Traces, span::Span};
use crate::{
    mcp::account::Account,
    telemetry::{decision::Decision, otlp::Queue},
};

/// Makes spans of requests.
pub(crate) struct Tracer {
    pub(crate) settings: Arc<Traces>,
    queue: Queue<(Box<Trace>, Arc<Decision>)>,
}

impl Tracer {
    /// Starts the exporter.
    pub(crate) fn start(settings: Traces) -> Self {
        let settings = Arc::new(settings);
        let queue = Queue::start(
            "spans",
            settings.bounds,
            settings.export.clone(),
            |exporter, batch| {
                let spans: Vec<Span> = batch
                    .iter()
                    .flat_map(|(trace, decision): &(Box<Trace>, Arc<Decision>)| trace.spans(decision))
                    .collect();
                exporter.spans(&spans)
            },
        );
        Self { settings, queue }
    }

    /// Takes a request that is done.
    pub(crate) fn take(&self, trace: Box<Trace>, decision: &Arc<Decision>) {
        let messages = &decision.messages;
        let rule = decision.trail.rule.as_ref();
        // What reached no rule has no span, nor has what is no message, or is handed on as it comes: spans tell of
        // calls to models and to tools.
        let told = match messages.is_empty() {
            true => trace.is_sampled() && rule.is_some_and(|rule| rule.plain.is_none()),
            false => messages.iter().any(Account::is_sampled),
        };
        if told {
            let size = trace.size();
            self.queue.push((trace, Arc::clone(decision)), size);
        }
    }

    /// Returns how many requests have no span because their turn did not come in time.
    pub(crate) fn dropped(&self) -> u64 {
        self.queue.dropped()
    }

    /// Waits until all spans are sent, for at most `limit`.
    pub(crate) fn flush(&self, limit: Duration) {
        self.queue.flush(limit);
    }
}
