//! The access record: one line per request.
//!
//! Lines gather in a bounded buffer that a thread of its own writes out, by size or every tenth of a second.
//! A reader of standard output that is too slow costs lines, which are counted, never requests.

use std::{
    io::Write,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{HeaderValue, Version};
use llm::chat::FinishReason;
use serde::Serialize;

use crate::{
    AccessLog,
    facts::{Facts, Outcome},
};

/// Above this many bytes the writer is woken at once.
const FLUSH_AT: usize = 64 * 1024;

/// Above this many bytes lines are dropped.
const MAX_BUFFER: usize = 8 * 1024 * 1024;

/// How often the buffer is written out.
const FLUSH_EVERY: Duration = Duration::from_millis(100);

/// The access log.
pub(crate) struct Log {
    form: AccessLog,
    shared: Arc<Shared>,
}

struct Shared {
    buffer: Mutex<Buffer>,
    /// Wakes the writer: there is much to write, or the end.
    wake: Condvar,
    /// Tells that everything was written.
    written: Condvar,
    dropped: AtomicU64,
}

#[derive(Default)]
struct Buffer {
    lines: Vec<u8>,
    writing: bool,
    closed: bool,
}

impl Log {
    /// Starts the writer, unless there is nothing to be written.
    pub(crate) fn start(form: AccessLog, to: impl Write + Send + 'static) -> Self {
        let shared = Arc::new(Shared {
            buffer: Mutex::default(),
            wake: Condvar::new(),
            written: Condvar::new(),
            dropped: AtomicU64::new(0),
        });
        if form != AccessLog::Off {
            let writer = Arc::clone(&shared);
            let started = std::thread::Builder::new()
                .name("access-log".to_owned())
                .spawn(move || writer.run(to));
            if let Err(error) = started {
                tracing::error!(%error, "no thread for the access log");
            }
        }
        Self { form, shared }
    }

    /// Writes the record of a request.
    pub(crate) fn record(&self, facts: &Facts, outcome: Outcome, elapsed: Duration) {
        match self.form {
            AccessLog::Off => {}
            AccessLog::Json => self.shared.push(|line| {
                // A record holds strings and numbers only; writing to memory cannot fail.
                let _ = serde_json::to_writer(line, &Record::new(facts, outcome, elapsed));
            }),
            AccessLog::Text => self
                .shared
                .push(|line| Record::new(facts, outcome, elapsed).write_text(line)),
        }
    }

    /// Returns how many lines were dropped because they could not be written in time.
    pub(crate) fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Waits until everything is written, for at most `limit`.
    pub(crate) fn flush(&self, limit: Duration) {
        if self.form == AccessLog::Off {
            return;
        }
        let buffer = self.shared.lock();
        self.shared.wake.notify_one();
        // Whether the limit passed does not matter: there is nothing more to be done.
        let _ = self
            .shared
            .written
            .wait_timeout_while(buffer, limit, |buffer| buffer.writing || !buffer.lines.is_empty());
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut line = Vec::with_capacity(768);
        write(&mut line);
        line.push(b'\n');
        let mut buffer = self.lock();
        if buffer.lines.len() + line.len() > MAX_BUFFER {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        buffer.lines.extend_from_slice(&line);
        let much = buffer.lines.len() >= FLUSH_AT;
        drop(buffer);
        if much {
            self.wake.notify_one();
        }
    }

    fn run(&self, mut to: impl Write) {
        let mut lines = Vec::new();
        loop {
            let mut buffer = self.lock();
            if buffer.lines.len() < FLUSH_AT && !buffer.closed {
                buffer = self
                    .wake
                    .wait_timeout(buffer, FLUSH_EVERY)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
            }
            std::mem::swap(&mut buffer.lines, &mut lines);
            let closed = buffer.closed;
            buffer.writing = !lines.is_empty();
            drop(buffer);
            // Whoever closes standard output does not want the records.
            let _ = to.write_all(&lines).and_then(|()| to.flush());
            lines.clear();
            self.lock().writing = false;
            self.written.notify_all();
            if closed {
                return;
            }
        }
    }
}

/// One line; names as in the compatibility specification, "Access logs", where it has one.
#[derive(Serialize)]
struct Record<'a> {
    #[serde(serialize_with = "display")]
    start_time: jiff::Timestamp,
    method: &'a str,
    #[serde(rename = "request.path")]
    path: &'a str,
    protocol: &'static str,
    #[serde(rename = ":authority")]
    host: &'a str,
    response_code: u16,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
    /// Milliseconds.
    duration: f64,
    bytes_received: u64,
    bytes_sent: u64,
    #[serde(rename = "x-request-id")]
    request_id: &'a str,
    #[serde(rename = "user-agent", skip_serializing_if = "Option::is_none")]
    user_agent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_cluster: Option<&'a str>,
    #[serde(skip_serializing_if = "is_zero")]
    attempts: u32,
    #[serde(rename = "gen_ai.operation.name", skip_serializing_if = "Option::is_none")]
    operation: Option<&'static str>,
    #[serde(rename = "gen_ai.provider.name", skip_serializing_if = "Option::is_none")]
    provider: Option<&'a str>,
    #[serde(rename = "gen_ai.request.model", skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    #[serde(
        rename = "gen_ai.request.model_override",
        skip_serializing_if = "Option::is_none"
    )]
    model_override: Option<&'a str>,
    #[serde(rename = "gen_ai.response.model", skip_serializing_if = "Option::is_none")]
    response_model: Option<&'a str>,
    #[serde(
        rename = "gen_ai.response.finish_reason",
        skip_serializing_if = "Option::is_none"
    )]
    finish: Option<&'static str>,
    #[serde(rename = "gen_ai.usage.input_tokens", skip_serializing_if = "Option::is_none")]
    input_tokens: Option<u64>,
    #[serde(
        rename = "gen_ai.usage.cached_input_tokens",
        skip_serializing_if = "Option::is_none"
    )]
    cached_input_tokens: Option<u64>,
    #[serde(
        rename = "gen_ai.usage.output_tokens",
        skip_serializing_if = "Option::is_none"
    )]
    output_tokens: Option<u64>,
    #[serde(
        rename = "gen_ai.usage.reasoning_tokens",
        skip_serializing_if = "Option::is_none"
    )]
    reasoning_tokens: Option<u64>,
    #[serde(rename = "gen_ai.usage.total_tokens", skip_serializing_if = "Option::is_none")]
    total_tokens: Option<u64>,
    #[serde(
        rename = "gen_ai.usage.audio_seconds",
        skip_serializing_if = "Option::is_none"
    )]
    audio_seconds: Option<u64>,
    /// Milliseconds from the start of the attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    time_to_first_token: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    losses: Vec<String>,
}

fn display<S: serde::Serializer>(value: &impl std::fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl<'a> Record<'a> {
    fn new(facts: &'a Facts, outcome: Outcome, elapsed: Duration) -> Self {
        let attempt = facts.attempt.as_ref();
        let known = !facts.usage.is_unknown();
        let dialect = facts.endpoint.map(|endpoint| endpoint.format);
        Self {
            start_time: facts.began,
            method: facts.method.as_str(),
            path: facts.uri.path(),
            protocol: protocol(facts.version),
            host: &facts.host,
            response_code: facts.status.as_u16(),
            outcome: outcome.name(),
            error: facts.error.map(super::metrics::error_name),
            duration: millis(elapsed),
            bytes_received: facts.bytes_received,
            bytes_sent: facts.bytes_sent,
            request_id: text(&facts.request_id),
            user_agent: facts.user_agent.as_ref().map(text),
            route_name: facts.route.as_deref(),
            upstream_cluster: attempt
                .map(|attempt| &*attempt.backend)
                .or(facts.upstream.as_deref()),
            attempts: facts.attempts,
            operation: facts.endpoint.map(|endpoint| endpoint.label),
            provider: attempt.map(|attempt| attempt.provider),
            model: facts.model.as_deref(),
            model_override: attempt
                .map(|attempt| attempt.model.as_str())
                .filter(|model| Some(*model) != facts.model.as_deref()),
            response_model: facts.response_model.as_deref(),
            finish: facts.finish.as_ref().map(finish_name),
            input_tokens: known.then(|| facts.usage.prompt()),
            cached_input_tokens: facts.usage.cache_read,
            output_tokens: facts.usage.output,
            reasoning_tokens: facts.usage.reasoning,
            total_tokens: known.then(|| facts.usage.total()),
            audio_seconds: facts.seconds,
            time_to_first_token: attempt.and_then(|attempt| attempt.first_token).map(millis),
            losses: facts
                .losses
                .iter()
                .filter_map(|loss| Some(dialect?.field(&loss.field).into_owned()))
                .collect(),
        }
    }

    /// Writes what a person looks for: few fields, the long ones last.
    fn write_text(&self, line: &mut Vec<u8>) {
        // Writing to memory cannot fail.
        let _ = write!(
            line,
            "{:.3} {} {} status={} outcome={} duration={:.1}ms",
            self.start_time, self.method, self.path, self.response_code, self.outcome, self.duration
        );
        let mut pair = |name: &str, value: Option<&dyn std::fmt::Display>| {
            if let Some(value) = value {
                let _ = write!(line, " {name}={value}");
            }
        };
        fn show<T: std::fmt::Display>(value: &Option<T>) -> Option<&dyn std::fmt::Display> {
            value.as_ref().map(|value| value as &dyn std::fmt::Display)
        }
        pair("error", show(&self.error));
        pair("model", show(&self.model.map(|model| model.escape_debug())));
        pair("upstream", show(&self.upstream_cluster));
        pair(
            "attempts",
            (self.attempts > 1).then_some(&self.attempts as &dyn std::fmt::Display),
        );
        pair("input_tokens", show(&self.input_tokens));
        pair("output_tokens", show(&self.output_tokens));
        let losses = (!self.losses.is_empty()).then(|| self.losses.join(","));
        pair(
            "losses",
            show(&losses.as_ref().map(|losses| losses.escape_debug())),
        );
        pair("request_id", Some(&self.request_id));
    }
}

fn text(value: &HeaderValue) -> &str {
    value.to_str().unwrap_or("?")
}

fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    }
}

/// Returns the word for the reason of an end.
pub(super) fn finish_name(reason: &FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::StopSequence => "stop_sequence",
        FinishReason::Length => "length",
        FinishReason::ContextWindow => "context_window",
        FinishReason::ToolCalls => "tool_calls",
        FinishReason::ContentFilter => "content_filter",
        FinishReason::Refusal => "refusal",
        FinishReason::Pause => "pause",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Hands on what is written.
    struct Pipe(mpsc::SyncSender<Vec<u8>>);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0
                .send(bytes.to_vec())
                .map_err(|_| std::io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_are_written_without_being_waited_for() {
        let (send, receive) = mpsc::sync_channel(1);
        let log = Log::start(AccessLog::Json, Pipe(send));
        log.shared.push(|line| line.extend_from_slice(b"one"));
        log.flush(Duration::from_secs(10));
        assert_eq!(receive.recv().as_deref(), Ok(&b"one\n"[..]));
    }

    #[test]
    fn a_slow_reader_costs_lines_and_nothing_else() {
        let (send, receive) = mpsc::sync_channel(0);
        let log = Log::start(AccessLog::Json, Pipe(send));
        let long = vec![b'x'; MAX_BUFFER / 8];
        for _ in 0..20 {
            log.shared.push(|line| line.extend_from_slice(&long));
        }
        assert!(log.dropped() > 0);
        drop(receive);
    }
}
