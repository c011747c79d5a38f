//! What is known of one request, emitted once.
//!
//! The facts travel with the request and then inside the response body. Whoever ends last emits them: the
//! body when it is handed over, or the drop of whatever held them, which is how a client's disconnect is told
//! from a complete answer. Log and metrics are read from here and nowhere else.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderValue, Method, StatusCode, Uri, Version};
use llm::{Endpoint, Kept, Losses, Observed, Said, Usage, chat::FinishReason};

use crate::{
    Runtime, headers,
    kept::Owner,
    limit::Limiter,
    mcp::account::Shared,
    meter::{Bill, Meter},
    server::{drain::Stopped, usage::UnderWay},
    telemetry::{
        attributes::{Captured, HeaderAttributes, Name, Signal},
        decision::Decision,
        error_type::ErrorType,
        log::declared::Details,
        own::Side,
        trace::Trace,
    },
    trail::Trail,
};

/// What is known of one request.
pub(crate) struct Facts {
    pub(crate) start: Instant,
    pub(crate) began: jiff::Timestamp,
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) version: Version,
    pub(crate) host: String,
    /// Whose the answer is, if it is kept.
    pub(crate) owner: Owner,
    pub(crate) request_id: HeaderValue,
    pub(crate) user_agent: Option<HeaderValue>,
    pub(crate) endpoint: Option<&'static Endpoint>,
    /// The model in the client's words, or how it begins where no route is for it; `None` until one was
    /// looked for.
    pub(crate) model: Option<String>,
    pub(crate) streamed: bool,
    pub(crate) route: Option<Arc<str>>,
    /// Whether a rule of plain requests serves it.
    pub(crate) plain: bool,
    /// The upstream of a plain request.
    pub(crate) upstream: Option<Arc<str>>,
    /// The attempt that answered, or the last one that did not.
    pub(crate) attempt: Option<Attempted>,
    pub(crate) attempts: u32,
    /// Whether the answer tells the number of attempts and the upstream.
    pub(crate) tells_attempts: bool,
    /// Whether the client is told what was lost.
    pub(crate) tells_losses: bool,
    pub(crate) status: StatusCode,
    pub(crate) error: Option<ErrorType>,
    /// What came of the attempts, where the client is told an error of theirs.
    pub(crate) verdict: Option<Verdict>,
    /// When the last byte of the request arrived; `None` once an upstream was called, and for what is not read whole.
    pub(crate) arrived: Option<Instant>,
    pub(crate) usage: Usage,
    /// How much was said, of a stream.
    pub(crate) said: Said,
    /// Whether the upstream goes on with the answer although nobody waits for it.
    pub(crate) later: bool,
    /// What the request owes; `None` where nothing of it is metered.
    pub(crate) meter: Option<Box<Meter>>,
    /// What it was charged, once it is settled.
    pub(crate) bill: Option<Box<Bill>>,
    /// Seconds of audio, where the provider counts those.
    pub(crate) seconds: Option<u64>,
    pub(crate) response_model: Option<String>,
    pub(crate) finish: Option<FinishReason>,
    pub(crate) losses: Losses,
    pub(crate) bytes_received: u64,
    pub(crate) bytes_sent: u64,
    /// What was decided; `None` where nobody may ask.
    pub(crate) trail: Option<Box<Trail>>,
    /// What its span is made of; `None` where there are no spans.
    pub(crate) trace: Option<Box<Trace>>,
    /// What is known of messages of MCP.
    pub(crate) tools: Vec<Shared>,
    /// What declared access records tell; `None` where none is declared.
    pub(crate) details: Option<Box<Details>>,
    /// Headers that become attributes.
    pub(crate) captured: Captured,
    /// Kept until the end, where a policy bounds how long the client's connection is used.
    pub(crate) under_way: Option<UnderWay>,
    /// How and when it ended; `None` until then.
    ended: Option<(Outcome, Instant)>,
    runtime: Arc<Runtime>,
}

/// What is known of one attempt.
#[derive(Clone)]
pub(crate) struct Attempted {
    pub(crate) backend: Arc<str>,
    /// The reference from the rule to it.
    pub(crate) reference: Arc<str>,
    pub(crate) provider: &'static str,
    /// The model in the upstream's words.
    pub(crate) model: String,
    pub(crate) start: Instant,
    /// The upstream's address, as its calls name it.
    pub(crate) host: Option<HeaderValue>,
    /// How many bytes it was sent in place of the client's own.
    pub(crate) replaced: Option<usize>,
    /// From the start of the attempt to the first bytes of a streamed reply.
    pub(crate) first_token: Option<Duration>,
}

/// Whose word it is that attempts came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// An upstream's.
    Theirs,
    /// The gateway's, and why.
    Ours(&'static str),
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The answer, be it an error, was handed over whole.
    Complete,
    /// A streamed answer had to end with an error.
    Broken,
    /// The client went away.
    Dropped,
}

impl Outcome {
    /// Returns the word for logs and metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Outcome::Complete => "complete",
            Outcome::Broken => "broken",
            Outcome::Dropped => "dropped",
        }
    }
}

impl Facts {
    /// Begins the record of a request; counts it as in flight.
    pub(crate) fn open(
        runtime: &Arc<Runtime>,
        head: &http::request::Parts,
        request_id: HeaderValue,
    ) -> Box<Self> {
        runtime.metrics.in_flight.inc();
        Box::new(Self {
            start: Instant::now(),
            began: jiff::Timestamp::now(),
            method: head.method.clone(),
            uri: head.uri.clone(),
            version: head.version,
            host: String::new(),
            owner: None,
            request_id,
            user_agent: head.headers.get(http::header::USER_AGENT).cloned(),
            endpoint: None,
            model: None,
            streamed: false,
            route: None,
            plain: false,
            upstream: None,
            attempt: None,
            attempts: 0,
            tells_attempts: false,
            tells_losses: true,
            // What a proxy's log says of a request that nobody waited for.
            status: StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
            error: None,
            verdict: None,
            arrived: None,
            usage: Usage::default(),
            said: Said::default(),
            later: false,
            meter: None,
            bill: None,
            seconds: None,
            response_model: None,
            finish: None,
            losses: Losses::default(),
            bytes_received: 0,
            bytes_sent: 0,
            tools: Vec::new(),
            details: None,
            under_way: None,
            captured: runtime.attributes.capture(&head.headers),
            trace: runtime
                .tracer
                .as_ref()
                .map(|tracer| Trace::open(&tracer.settings, &head.headers)),
            trail: (runtime.decisions.are_kept() || runtime.tracer.is_some()).then(Box::default),
            runtime: Arc::clone(runtime),
            ended: None,
        })
    }

    /// Takes over what a reply says about itself.
    pub(crate) fn observe(&mut self, observed: &Observed) {
        self.usage = observed.usage;
        self.said = observed.said;
        self.later = observed.later;
        self.seconds = observed.seconds;
        self.response_model.clone_from(&observed.model);
        self.finish = observed.finish.as_ref().map(|finish| finish.reason);
        self.losses.extend(&observed.losses);
        if let Some(error) = &observed.error {
            self.error = Some(ErrorType::upstreams(error));
        }
    }

    /// Keeps an answer for those who may go on from it.
    pub(crate) fn keep(&mut self, kept: Kept) {
        let owner = self.owner.take();
        self.runtime.shelf.put(&self.host, owner, kept, Instant::now());
    }

    /// Notes that the upstream has begun to stream.
    pub(crate) fn first_token(&mut self) {
        if let Some(attempt) = &mut self.attempt {
            attempt.first_token.get_or_insert_with(|| attempt.start.elapsed());
        }
    }

    /// Returns which headers become attributes.
    pub(crate) fn attributes(&self) -> &Arc<HeaderAttributes> {
        &self.runtime.attributes
    }

    /// Returns the attributes of the access record.
    pub(crate) fn log_attributes(&self) -> impl Iterator<Item = (&str, &HeaderValue)> {
        let named = self.runtime.attributes.of(Signal::Logs, &self.captured);
        named.map(|(name, value)| (name.attribute.as_str(), value))
    }

    /// Returns what becomes labels of metrics.
    pub(crate) fn metric_attributes(&self) -> impl Iterator<Item = (&Name, &HeaderValue)> {
        self.runtime.attributes.of(Signal::Metrics, &self.captured)
    }

    /// Returns the mean time between output tokens after the first, in seconds.
    pub(crate) fn per_token(&self) -> Option<f64> {
        let attempt = self.attempt.as_ref()?;
        let after_first = self.usage.output.filter(|output| *output > 1)? - 1;
        let elapsed = self.ended().saturating_duration_since(attempt.start);
        let elapsed = elapsed.checked_sub(attempt.first_token?)?;
        Some(elapsed.as_secs_f64() / after_first as f64)
    }

    /// Returns when it has ended; now, if it has not.
    pub(crate) fn ended(&self) -> Instant {
        self.ended.map_or_else(Instant::now, |(_, at)| at)
    }

    /// Counts what could not be translated for the last attempt, or by its answer.
    pub(crate) fn untranslated(&self, side: Side) {
        let operation = self.endpoint.map_or("unknown", |endpoint| endpoint.label);
        let provider = self
            .attempt
            .as_ref()
            .map_or("unknown", |attempt| attempt.provider);
        self.runtime.metrics.own.untranslated(operation, provider, side);
    }

    /// Returns what goes off when the time to drain is over.
    pub(crate) fn stop(&self) -> Stopped {
        self.runtime.stop.wait()
    }

    /// Returns the seconds since the Unix epoch, by the clock of the request.
    pub(crate) fn now(&self) -> u64 {
        let began = u64::try_from(self.began.as_second()).unwrap_or_default();
        began + self.start.elapsed().as_secs()
    }

    /// Lets go of the bytes that the request came in: whoever keeps a part of them keeps all.
    pub(crate) fn stand_apart(&mut self) {
        if let Ok(uri) = Uri::try_from(self.uri.to_string()) {
            self.uri = uri;
        }
        self.request_id = headers::value_apart(&self.request_id);
        self.user_agent = self.user_agent.as_ref().map(headers::value_apart);
        self.captured = self.captured.apart();
        if let Some(details) = &mut self.details {
            details.stand_apart();
        }
    }

    /// Returns what all requests share.
    pub(crate) fn runtime(&self) -> &Arc<Runtime> {
        &self.runtime
    }

    /// Returns the stores of counters.
    pub(crate) fn limiter(&self) -> &Limiter {
        &self.runtime.limiter
    }

    /// Ends the request: settles what is owed, and has it told of. The one place where that happens.
    pub(crate) fn emit(mut self: Box<Self>, outcome: Outcome) {
        self.end(outcome);
        let runtime = Arc::clone(&self.runtime);
        runtime.ended.push(self);
    }

    /// Settles what is owed. What the request holds on to beyond its record is let go of.
    fn end(&mut self, outcome: Outcome) {
        if let Some(meter) = self.meter.take() {
            self.bill = Some(Box::new(meter.settle(self, outcome)));
        }
        self.runtime.metrics.in_flight.dec();
        self.under_way = None;
        // The connection reads its next request into the same bytes, once nobody else holds them.
        self.stand_apart();
        self.ended = Some((outcome, Instant::now()));
    }

    /// Writes the access record, counts, and keeps what was decided.
    pub(crate) fn tell(mut self: Box<Self>) {
        self.record();
    }

    fn record(&mut self) {
        let Some((outcome, ended)) = self.ended else {
            return;
        };
        let elapsed = ended.saturating_duration_since(self.start);
        self.runtime.metrics.record(self, outcome);
        self.runtime.log.record(self, outcome, elapsed);
        if let Some(trail) = self.trail.take() {
            let mut trace = self.trace.take();
            if let Some(trace) = &mut trace {
                trace.said(self.tools.iter().map(Shared::said));
            }
            let decision = Arc::new(Decision::new(self, trail, outcome, elapsed));
            self.runtime.decisions.keep(&decision);
            if let Some((tracer, trace)) = self.runtime.tracer.as_ref().zip(trace) {
                tracer.take(trace, &decision);
            }
        }
    }
}

impl Drop for Facts {
    fn drop(&mut self) {
        if self.ended.is_none() {
            self.end(Outcome::Dropped);
            self.record();
        }
    }
}
