//! Pushes metrics from time to time, for as long as the gateway exists.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError, Weak},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    Destination, Exporter, Push,
    client::Service,
    metrics::{self, Before, Span, Telling},
    print,
};
use crate::{Runtime, telemetry::histogram::Form};

/// The thread that pushes metrics.
pub(crate) struct Pusher(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    pushed: Condvar,
}

#[derive(Default)]
struct State {
    hurry: bool,
    closed: bool,
}

impl Pusher {
    /// Starts to push what `runtime` counts.
    pub(crate) fn start(push: Push, runtime: Weak<Runtime>) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            wake: Condvar::new(),
            pushed: Condvar::new(),
        });
        let of_thread = Arc::clone(&shared);
        let started = std::thread::Builder::new()
            .name("metrics".to_owned())
            .spawn(move || of_thread.run(&push, &runtime));
        if let Err(error) = started {
            tracing::error!(%error, "no thread for metrics");
        }
        Self(shared)
    }

    /// Pushes once more, and waits for that for at most `limit`.
    pub(crate) fn flush(&self, limit: Duration) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.hurry = true;
        self.0.wake.notify_one();
        // Whether the limit passed does not matter: there is nothing more to be done.
        let _ = self
            .0
            .pushed
            .wait_timeout_while(state, limit, |state| state.hurry);
    }
}

impl Drop for Pusher {
    fn drop(&mut self) {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.0.wake.notify_one();
    }
}

impl Shared {
    fn run(&self, push: &Push, runtime: &Weak<Runtime>) {
        let exporter = match Exporter::new(&push.export) {
            Ok(exporter) => exporter,
            Err(error) => {
                tracing::error!(%error, "metrics cannot be pushed");
                return;
            }
        };
        let mut before = push.delta.then(Before::new);
        let mut span = Span { start: now(), end: 0 };
        loop {
            let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let waits = |state: &mut State| !state.hurry && !state.closed;
            let state = self
                .wake
                .wait_timeout_while(state, push.interval, waits)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            let closed = state.closed;
            drop(state);
            let Some(runtime) = runtime.upgrade().filter(|_| !closed) else {
                return;
            };
            span.end = now();
            exporter.push(push, &runtime, span, before.as_mut());
            if push.delta {
                span.start = span.end;
            }
            self.state.lock().unwrap_or_else(PoisonError::into_inner).hurry = false;
            self.pushed.notify_all();
        }
    }
}

impl Exporter {
    fn push(&self, push: &Push, runtime: &Runtime, span: Span, before: Option<&mut Before>) {
        let form = if push.exponential {
            Form::Fine
        } else {
            Form::Declared
        };
        let Ok(text) = runtime.encode_metrics(form) else {
            return;
        };
        let families = metrics::read(&text);
        let telling = Telling {
            resource: &push.export.resource,
            span,
            form,
            rename: &|label| runtime.attributes.attribute_of(label),
        };
        if matches!(push.export.to, Destination::Console) {
            if let Some(line) = metrics::json(&telling, &families, before) {
                print(&line);
            }
            return;
        }
        let message = metrics::request(&telling, &families, before);
        let sent = self
            .client
            .as_ref()
            .map(|client| client.send(Service::Metrics, message));
        if let Some(Err(error)) = sent {
            tracing::warn!(error = &error as &dyn std::error::Error, "metrics were not taken");
        }
    }
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}
