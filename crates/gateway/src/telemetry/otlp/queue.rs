//! What is done on its way to a receiver: a bounded queue, and a thread that sends it off in batches.
//!
//! A receiver that is too slow costs what waits for it, which is counted, never requests.

use std::{
    collections::VecDeque,
    error::Error,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{Export, Exporter, SendError};

/// How much waits, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The most that wait to be sent.
    pub queue: usize,
    /// The most that are sent at once.
    pub batch: usize,
    /// How long one may wait for others.
    pub delay: Duration,
}

/// Things that wait to be sent.
pub(crate) struct Queue<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    name: &'static str,
    bounds: Bounds,
    waiting: Mutex<Waiting<T>>,
    /// Wakes the exporter: there is a batch, or the end.
    wake: Condvar,
    /// Tells that everything was sent.
    sent: Condvar,
    dropped: AtomicU64,
}

struct Waiting<T> {
    /// Each with its size in bytes.
    items: VecDeque<(T, usize)>,
    bytes: usize,
    sending: bool,
    hurry: bool,
    closed: bool,
}

impl<T: Send + 'static> Queue<T> {
    /// Starts the thread that hands batches to `send`; `name` is what it sends, in the plural.
    pub(crate) fn start(
        name: &'static str,
        bounds: Bounds,
        export: Export,
        send: impl Fn(&Exporter, Vec<T>) -> Result<(), SendError> + Send + 'static,
    ) -> Self {
        let shared = Arc::new(Shared {
            name,
            bounds,
            waiting: Mutex::new(Waiting {
                items: VecDeque::new(),
                bytes: 0,
                sending: false,
                hurry: false,
                closed: false,
            }),
            wake: Condvar::new(),
            sent: Condvar::new(),
            dropped: AtomicU64::new(0),
        });
        let of_thread = Arc::clone(&shared);
        let started = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || of_thread.run(&export, send));
        if let Err(error) = started {
            tracing::error!(%error, what = name, "no thread for an exporter");
        }
        Self { shared }
    }

    /// Adds what is `size` bytes long, unless too much waits already.
    pub(crate) fn push(&self, item: T, size: usize) {
        let Bounds { queue, batch, .. } = self.shared.bounds;
        let mut waiting = self.shared.lock();
        if waiting.items.len() >= queue || waiting.bytes + size > MAX_BYTES {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        waiting.bytes += size;
        waiting.items.push_back((item, size));
        let is_batch = waiting.items.len() >= batch;
        drop(waiting);
        if is_batch {
            self.shared.wake.notify_one();
        }
    }
}

impl<T> Queue<T> {
    /// Returns how many were not sent: their turn did not come in time, or the receiver did not take them.
    pub(crate) fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Waits until everything is sent, for at most `limit`.
    pub(crate) fn flush(&self, limit: Duration) {
        let mut waiting = self.shared.lock();
        waiting.hurry = true;
        self.shared.wake.notify_one();
        // Whether the limit passed does not matter: there is nothing more to be done.
        let _ = self.shared.sent.wait_timeout_while(waiting, limit, |waiting| {
            waiting.sending || !waiting.items.is_empty()
        });
    }
}

impl<T> Drop for Queue<T> {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_one();
    }
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, Waiting<T>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, export: &Export, send: impl Fn(&Exporter, Vec<T>) -> Result<(), SendError>) {
        let exporter = match Exporter::new(export) {
            Ok(exporter) => exporter,
            Err(error) => {
                tracing::error!(%error, what = self.name, "a signal cannot be exported");
                return;
            }
        };
        loop {
            let (batch, closed) = self.batch();
            if !batch.is_empty() {
                let count = batch.len();
                if let Err(error) = send(&exporter, batch) {
                    self.dropped.fetch_add(count as u64, Ordering::Relaxed);
                    let error = &error as &dyn Error;
                    tracing::warn!(
                        error,
                        count,
                        what = self.name,
                        "the receiver did not take a batch"
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

    /// Waits for a batch; returns it, and whether it is the last.
    fn batch(&self) -> (Vec<T>, bool) {
        let Bounds { batch, delay, .. } = self.bounds;
        let waits =
            |waiting: &mut Waiting<T>| waiting.items.len() < batch && !waiting.closed && !waiting.hurry;
        let mut waiting = self
            .wake
            .wait_timeout_while(self.lock(), delay, waits)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
        let count = waiting.items.len().min(batch);
        let taken: Vec<(T, usize)> = waiting.items.drain(..count).collect();
        waiting.bytes -= taken.iter().map(|(_, size)| size).sum::<usize>();
        waiting.sending = !taken.is_empty();
        waiting.hurry &= !waiting.items.is_empty();
        (taken.into_iter().map(|(item, _)| item).collect(), waiting.closed)
    }
}

/// The most bytes that wait to be sent.
const MAX_BYTES: usize = 64 * 1024 * 1024;
