//! Requests that are done on their way to the receiver of spans.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{Trace, Traces, span::Span};
use crate::telemetry::{decision::Decision, otlp::Exporter};

/// The most bytes of exchanges that wait to be exported.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// Makes spans of requests.
pub(crate) struct Tracer {
    pub(crate) settings: Arc<Traces>,
    shared: Arc<Shared>,
}

struct Shared {
    queue: Mutex<Queue>,
    /// Wakes the exporter: there is a batch, or the end.
    wake: Condvar,
    /// Tells that everything was sent.
    sent: Condvar,
    dropped: AtomicU64,
}

#[derive(Default)]
struct Queue {
    done: VecDeque<(Box<Trace>, Arc<Decision>)>,
    bytes: usize,
    sending: bool,
    hurry: bool,
    closed: bool,
}

impl Tracer {
    /// Starts the exporter.
    pub(crate) fn start(settings: Traces) -> Self {
        let settings = Arc::new(settings);
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            wake: Condvar::new(),
            sent: Condvar::new(),
            dropped: AtomicU64::new(0),
        });
        let (of_thread, exported) = (Arc::clone(&shared), Arc::clone(&settings));
        let started = std::thread::Builder::new()
            .name("spans".to_owned())
            .spawn(move || of_thread.run(&exported));
        if let Err(error) = started {
            tracing::error!(%error, "no thread for spans");
        }
        Self { settings, shared }
    }

    /// Takes a request that is done.
    pub(crate) fn take(&self, trace: Box<Trace>, decision: &Arc<Decision>) {
        // What reached no rule has no span.
        if !trace.is_sampled() || decision.trail.rule.is_none() {
            return;
        }
        let size = trace.size();
        let mut queue = self.shared.lock();
        if queue.done.len() >= self.settings.queue || queue.bytes + size > MAX_BYTES {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        queue.bytes += size;
        queue.done.push_back((trace, Arc::clone(decision)));
        let batch = queue.done.len() >= self.settings.batch;
        drop(queue);
        if batch {
            self.shared.wake.notify_one();
        }
    }

    /// Returns how many requests have no span because their turn did not come in time.
    pub(crate) fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Waits until all spans are sent, for at most `limit`.
    pub(crate) fn flush(&self, limit: Duration) {
        let mut queue = self.shared.lock();
        queue.hurry = true;
        self.shared.wake.notify_one();
        // Whether the limit passed does not matter: there is nothing more to be done.
        let _ = self
            .shared
            .sent
            .wait_timeout_while(queue, limit, |queue| queue.sending || !queue.done.is_empty());
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, settings: &Traces) {
        let exporter = match Exporter::new(&settings.export) {
            Ok(exporter) => exporter,
            Err(error) => {
                tracing::error!(%error, "spans cannot be exported");
                return;
            }
        };
        loop {
            let mut queue = self.lock();
            let waits =
                |queue: &mut Queue| queue.done.len() < settings.batch && !queue.closed && !queue.hurry;
            if waits(&mut queue) {
                queue = self
                    .wake
                    .wait_timeout_while(queue, settings.delay, waits)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
            }
            let count = queue.done.len().min(settings.batch);
            let batch: Vec<_> = queue.done.drain(..count).collect();
            queue.bytes -= batch.iter().map(|(trace, _)| trace.size()).sum::<usize>();
            let closed = queue.closed;
            queue.sending = !batch.is_empty();
            queue.hurry &= !queue.done.is_empty();
            drop(queue);
            if !batch.is_empty() {
                let spans: Vec<Span> = batch
                    .iter()
                    .flat_map(|(trace, decision)| trace.spans(decision))
                    .collect();
                if let Err(error) = exporter.spans(&spans) {
                    self.dropped.fetch_add(batch.len() as u64, Ordering::Relaxed);
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        count = spans.len(),
                        "spans were not taken"
                    );
                }
            }
            self.lock().sending = false;
            self.sent.notify_all();
            if closed {
                return;
            }
        }
    }
}
