//! Spans of requests, for those that are sampled.
//!
//! While a request is served only its bytes are kept, by reference. When it is done it goes into a bounded queue, and a
//! thread of its own reads what was said, puts it into the words of a vocabulary and sends it off. A receiver that is
//! too slow costs spans, which are counted, never requests. The bytes of one exchange that are kept are bounded too.

mod content;
pub(crate) mod context;
mod exchange;
mod genai;
mod hide;
mod openinference;
mod queue;
mod sample;
pub(crate) mod span;
mod tools;
mod vocabulary;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use config::words::Vocabularies;
use http::{HeaderMap, HeaderValue};
use mcp::{
    Message,
    json::{self, Object},
};
use serde_json::value::RawValue;

use context::Place;
pub use context::Propagator;
use exchange::Exchange;
pub use hide::Hide;
pub(crate) use hide::is_true;
pub(crate) use queue::Tracer;
pub use sample::Sampler;
use span::Span;
pub use vocabulary::Speech;
use vocabulary::{Vocabulary, Words};

use super::{
    decision::Decision,
    otlp::{Bounds, Export},
};
use crate::mcp::account::Said;

/// The most bytes of a request that are kept for its span.
const MAX_REQUEST: usize = 4 * 1024 * 1024;

/// The most bytes of an answer that are kept for its span.
const MAX_ANSWER: usize = 1024 * 1024;

/// How spans are made.
#[derive(Clone, Debug)]
pub struct Traces {
    /// In which words.
    pub speech: Speech,
    /// Of which requests.
    pub sampler: Sampler,
    /// How places in traces travel.
    pub propagators: Vec<Propagator>,
    /// How much a span may hold.
    pub limits: Limits,
    /// Where spans go.
    pub export: Export,
    /// How many requests wait to be exported.
    pub bounds: Bounds,
}

/// How much a span may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many attributes; none where messages are told one by one, which takes more than is usual.
    pub attributes: usize,
    /// How many characters a text has.
    pub length: usize,
    /// How many events.
    pub events: usize,
}

/// What is kept of a request for its span.
pub(crate) struct Trace {
    settings: Arc<Traces>,
    place: Place,
    parent: Option<[u8; 8]>,
    /// The vocabularies that the route names.
    words: Option<Vocabularies>,
    /// The spans of the attempts.
    attempts: Vec<[u8; 8]>,
    request: Option<Bytes>,
    answer: Vec<Bytes>,
    /// What was said in messages of MCP.
    said: Vec<Said>,
    kept: usize,
    /// Whether not all of the answer is kept.
    truncated: bool,
}

/// Where a message of MCP stands in a trace.
#[derive(Clone)]
pub(crate) struct Position {
    place: Place,
    parent: Option<[u8; 8]>,
    words: Option<Vocabularies>,
    settings: Arc<Traces>,
}

impl Trace {
    /// Begins the span of a request with `headers`.
    pub(crate) fn open(settings: &Arc<Traces>, headers: &HeaderMap) -> Box<Self> {
        let from = settings.extract(headers);
        Box::new(Self {
            place: settings.below(from.as_ref()),
            parent: from.map(|place| place.span),
            settings: Arc::clone(settings),
            words: None,
            attempts: Vec::new(),
            request: None,
            answer: Vec::new(),
            said: Vec::new(),
            kept: 0,
            truncated: false,
        })
    }

    /// Has the request told of in the vocabularies that its route names.
    pub(crate) fn say_in(&mut self, words: Option<Vocabularies>) {
        self.words = words;
    }

    /// Returns whether there will be a span.
    pub(crate) fn is_sampled(&self) -> bool {
        self.place.sampled
    }

    /// Returns the place of the request's span, if there will be one.
    pub(crate) fn place(&self) -> Option<([u8; 16], [u8; 8])> {
        self.is_sampled().then_some((self.place.trace, self.place.span))
    }

    /// Returns where a message stands whose own words about it are `named`, and otherwise those of the request. The
    /// `first` one stands where the request does.
    pub(crate) fn message(&mut self, named: &HeaderMap, first: bool) -> Position {
        let from = self.settings.extract(named);
        let mut position = Position {
            place: self.place.clone(),
            parent: self.parent,
            words: self.words,
            settings: Arc::clone(&self.settings),
        };
        if let Some(from) = &from {
            position.place = self.settings.below(Some(from));
            position.parent = Some(from.span);
        } else if !first {
            position.place.span = new_id();
        }
        if first {
            self.place = position.place.clone();
            self.parent = position.parent;
        }
        position
    }

    /// Returns the names under which messages say where they stand.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        let propagators = self.settings.propagators.iter();
        propagators.flat_map(|propagator| propagator.names().iter().copied())
    }

    /// Keeps what the client sent.
    pub(crate) fn asked(&mut self, bytes: &Bytes) {
        if self.place.sampled && bytes.len() <= MAX_REQUEST {
            self.request = Some(bytes.clone());
        }
    }

    /// Keeps a piece of what the client is sent.
    pub(crate) fn answered(&mut self, bytes: &Bytes) {
        if !self.place.sampled || self.truncated {
            return;
        }
        self.kept += bytes.len();
        if self.kept > MAX_ANSWER {
            self.truncated = true;
            self.answer.clear();
        } else {
            self.answer.push(bytes.clone());
        }
    }

    /// Keeps what was said in messages of MCP, in their order.
    pub(crate) fn said(&mut self, said: impl Iterator<Item = Said>) {
        self.said.extend(said);
    }

    /// Names an attempt, counted from 1, in the headers of its call, in place of what the client named.
    pub(crate) fn call(&mut self, attempt: u32, headers: &mut HeaderMap) {
        let at = usize::try_from(attempt).unwrap_or(1).max(1);
        while self.attempts.len() < at {
            self.attempts.push(new_id());
        }
        let Some(span) = self.attempts.get(at - 1) else {
            return;
        };
        let place = Place {
            span: *span,
            ..self.place.clone()
        };
        for propagator in &self.settings.propagators {
            propagator.inject(&place, headers);
        }
    }

    /// Returns how many bytes of the exchange it holds.
    fn size(&self) -> usize {
        let said: usize = self.said.iter().map(Said::size).sum();
        self.kept + self.request.as_ref().map_or(0, Bytes::len) + said
    }

    /// Returns the spans of the request and of its attempts, within their limits.
    fn spans(&self, decision: &Decision) -> Vec<Span> {
        let words = self.settings.speech.words(self.words);
        let limits = self.settings.limits(&words);
        let mut spans = self.whole_spans(decision, words);
        spans.iter_mut().for_each(|span| span.limit(&limits));
        spans
    }

    fn whole_spans(&self, decision: &Decision, words: Words) -> Vec<Span> {
        let exchange = Exchange {
            trace: self,
            decision,
            words,
        };
        if !decision.messages.is_empty() {
            let messages = decision.messages.iter().zip(&self.said);
            return messages
                .filter_map(|(message, said)| tools::span(&exchange, message, said))
                .collect();
        }
        let mut spans = vec![exchange.span()];
        // An attempt that came to no call has no id yet.
        let ids = self
            .attempts
            .iter()
            .copied()
            .chain(std::iter::repeat_with(new_id));
        let attempts = decision.trail.tried.iter().zip(ids);
        spans.extend(attempts.map(|(tried, id)| exchange.attempt(tried, id)));
        spans
    }
}

impl Traces {
    /// Returns how much a span may hold that speaks in these words.
    fn limits(&self, words: &Words) -> Limits {
        Limits {
            attributes: match words.tell_messages() {
                true => usize::MAX,
                false => self.limits.attributes,
            },
            ..self.limits
        }
    }

    fn extract(&self, headers: &HeaderMap) -> Option<Place> {
        let mut propagators = self.propagators.iter();
        propagators.find_map(|propagator| propagator.extract(headers))
    }

    /// Returns a new place below `from`, or at the top of a trace of its own.
    fn below(&self, from: Option<&Place>) -> Place {
        let trace = from.map_or_else(|| fastrand::u128(1..).to_be_bytes(), |place| place.trace);
        Place {
            trace,
            span: new_id(),
            sampled: self.sampler.samples(&trace, from.map(|place| place.sampled)),
            state: from.and_then(|place| place.state.clone()),
        }
    }
}

impl Position {
    /// Returns whether there will be a span.
    pub(crate) fn is_sampled(&self) -> bool {
        self.place.sampled
    }

    /// Returns whether what tools answer is told.
    pub(crate) fn tells_content(&self) -> bool {
        self.is_sampled() && self.settings.speech.words(self.words).tell_content()
    }

    /// Writes where a call stands that is made for the message into its headers.
    pub(crate) fn inject(&self, headers: &mut HeaderMap) {
        for propagator in &self.settings.propagators {
            propagator.inject(&self.place, headers);
        }
        if let Some(state) = self.state() {
            headers.insert("tracestate", state.clone());
        }
    }

    /// Returns `message` with the same in its parameters (revision 2025-11-25, "_meta"); `None` for an answer, and
    /// where its parameters are none.
    pub(crate) fn named_in(&self, message: &Message) -> Option<Message> {
        let mut message = message.clone();
        let params = match &mut message {
            Message::Request(request) => &mut request.params,
            Message::Notification(notification) => &mut notification.params,
            Message::Response(_) => return None,
        };
        let written = {
            let mut object = match params.as_deref() {
                Some(params) => Object::parse(params)?,
                None => Object::default(),
            };
            let meta = self.meta(object.object("_meta").unwrap_or_default());
            object.set("_meta", meta);
            object.to_raw()
        };
        *params = Some(written);
        Some(message)
    }

    fn meta(&self, mut meta: Object<'_>) -> Box<RawValue> {
        for propagator in &self.settings.propagators {
            for (name, value) in propagator.fields(&self.place) {
                meta.set(name, json::raw(&value));
            }
        }
        if let Some(state) = self.state() {
            meta.set("tracestate", json::raw(text(state)));
        }
        meta.to_raw()
    }

    /// Returns what other systems want handed on, where theirs is among the ways in which places travel.
    fn state(&self) -> Option<&HeaderValue> {
        let state = self.place.state.as_ref()?;
        self.settings
            .propagators
            .contains(&Propagator::TraceContext)
            .then_some(state)
    }
}

fn new_id() -> [u8; 8] {
    fastrand::u64(1..).to_be_bytes()
}

fn text(value: &HeaderValue) -> &str {
    value.to_str().unwrap_or("?")
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
