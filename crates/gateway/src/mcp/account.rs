//! What is known of the messages of one request: what a client asks for, who was called for it, and what came of it.
//!
//! The work that answers a message and the facts of its request live side by side, because the facts ride in the body that
//! polls the work. Both hold the account of a message: the work writes it and the facts tell it. They run in the task
//! of one request, so that the lock is never waited for.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderName, HeaderValue};
use mcp::{
    Message,
    json::{self, Object},
};
use serde_json::value::RawValue;

use super::sessions::{Fingerprint, fingerprint};
use crate::{
    facts::Facts,
    telemetry::{attributes::Captured, tools::Ended, trace::Position},
};

/// The longest name, address or id of a client that is told, in bytes.
const MAX_NAME: usize = 512;

/// The longest parameters, and the longest answer, that are kept for a span.
const MAX_CONTENT: usize = 1024 * 1024;

/// The most calls of backends that are told of one message.
const MAX_CALLS: usize = 256;

/// An account, held by the work and by the facts; there is none of what is no message.
#[derive(Clone, Default)]
pub(crate) struct Shared(Option<Arc<Mutex<Account>>>);

/// What is known of one message.
#[derive(Default)]
pub(crate) struct Account {
    /// What the client calls it; `None` for what wants no answer.
    pub(crate) id: Option<String>,
    pub(crate) method: String,
    /// The tool or prompt that is asked for, in the client's words.
    pub(crate) name: Option<String>,
    /// The resource, in the client's words.
    pub(crate) uri: Option<String>,
    /// A word for the session, from which nobody can tell its token.
    pub(crate) session: Option<String>,
    /// The revision that is spoken with the client.
    pub(crate) version: &'static str,
    pub(crate) begun: Option<Instant>,
    /// `None` if the client did not wait.
    pub(crate) took: Option<Duration>,
    pub(crate) calls: Vec<Called>,
    /// The backend that the message names, where none was called.
    pub(crate) meant: Option<Arc<str>>,
    /// When all backends were asked for their part of a list, and when all had answered.
    pub(crate) gathered: Option<(Instant, Instant)>,
    /// How many items there are in a list.
    pub(crate) items: Option<usize>,
    pub(crate) ended: Option<Ended>,
    /// What the client is told is wrong.
    pub(crate) error: Option<String>,
    said: Said,
    pub(crate) position: Option<Position>,
    /// What headers and the message itself say that becomes an attribute.
    pub(crate) captured: Captured,
}

/// What was said, kept for a span alone.
#[derive(Default)]
pub(crate) struct Said {
    pub(crate) params: Option<Box<RawValue>>,
    /// Kept only where spans tell content.
    pub(crate) answer: Option<Box<RawValue>>,
}

/// A backend that was called.
pub(crate) struct Called {
    pub(crate) backend: Arc<str>,
    /// A word for the session with it.
    pub(crate) session: Option<String>,
    /// Whether the session is opened with the call.
    pub(crate) new: bool,
    pub(crate) begun: Instant,
    /// `None` if nobody waited for its answer.
    pub(crate) took: Option<Duration>,
    /// Why it came to nothing.
    pub(crate) failure: Option<&'static str>,
}

impl Shared {
    /// Begins the account of `message`, and leaves it with `facts` too.
    pub(super) fn open(facts: &mut Facts, message: &Message) -> Self {
        let (id, method, params) = match message {
            Message::Request(request) => (Some(request.id.raw()), &request.method, &request.params),
            Message::Notification(notification) => (None, &notification.method, &notification.params),
            // What was asked is a matter of the server's.
            Message::Response(_) => return Self::default(),
        };
        let params = params.as_deref();
        let object = params.and_then(Object::parse);
        let meta = object.as_ref().and_then(|params| params.object("_meta"));
        let member = |name: &str| object.as_ref()?.text(name).map(|text| cut(&text));
        let position = facts.trace.as_mut().map(|trace| {
            let mut named = HeaderMap::new();
            for name in trace.names() {
                let value = meta.as_ref().and_then(|meta| meta.text(name));
                let value = value.and_then(|value| HeaderValue::try_from(&*value).ok());
                named.extend(value.map(|value| (HeaderName::from_static(name), value)));
            }
            trace.message(&named, facts.tools.is_empty())
        });
        let traced = position.as_ref().is_some_and(Position::is_sampled);
        let account = Account {
            id: id.map(|id| cut(&json::text(id).unwrap_or_else(|| id.get().into()))),
            method: cut(method),
            name: member("name").filter(|_| matches!(method.as_str(), "tools/call" | "prompts/get")),
            uri: member("uri").filter(|_| method.starts_with("resources/")),
            said: Said {
                params: params
                    .filter(|params| traced && params.get().len() <= MAX_CONTENT)
                    .map(RawValue::to_owned),
                answer: None,
            },
            begun: Some(Instant::now()),
            captured: facts.attributes().named_by(&facts.captured, meta.as_ref()),
            position,
            ..Account::default()
        };
        let shared = Self(Some(Arc::new(Mutex::new(account))));
        facts.tools.push(shared.clone());
        shared
    }

    /// Lets `note` add to the account.
    pub(super) fn note(&self, note: impl FnOnce(&mut Account)) {
        if let Some(mut account) = self.lock() {
            note(&mut account);
        }
    }

    /// Notes that `backend` is called, in a session if it keeps one.
    pub(super) fn call(&self, backend: &Arc<str>, session: &str, new: bool) {
        self.note(|account| {
            if account.calls.len() < MAX_CALLS {
                account.calls.push(Called {
                    backend: Arc::clone(backend),
                    session: named(session),
                    new,
                    begun: Instant::now(),
                    took: None,
                    failure: None,
                });
            }
        });
    }

    /// Notes that the last call of `backend` has ended, and which session it has opened, if any.
    pub(super) fn called(&self, backend: &Arc<str>, session: &str, failure: Option<&'static str>) {
        self.note(|account| {
            let mut calls = account.calls.iter_mut().rev();
            if let Some(call) = calls.find(|call| call.backend == *backend && call.took.is_none()) {
                call.took = Some(call.begun.elapsed());
                call.failure = failure;
                call.session = named(session).or(call.session.take());
            }
        });
    }

    /// Returns where calls stand that are made for the message, where there are traces.
    pub(super) fn position(&self) -> Option<Position> {
        self.lock()?.position.clone()
    }

    /// Lets `read` look at the account.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Account) -> T) -> Option<T> {
        self.lock().map(|account| read(&account))
    }

    /// Returns what was said.
    pub(crate) fn said(&self) -> Said {
        let said = self.lock().map(|mut account| std::mem::take(&mut account.said));
        said.unwrap_or_default()
    }

    /// Returns the account; nothing that is noted later is told.
    pub(crate) fn take(&self) -> Account {
        self.lock()
            .map(|mut account| std::mem::take(&mut *account))
            .unwrap_or_default()
    }

    fn lock(&self) -> Option<MutexGuard<'_, Account>> {
        let account = self.0.as_ref()?;
        Some(account.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Account {
    /// Notes what the client is answered.
    pub(super) fn end(&mut self, ended: Ended, answer: Option<&RawValue>) {
        self.ended = Some(ended);
        self.took = self.begun.map(|begun| begun.elapsed());
        if let Ended::Error(_) = ended {
            let answer = answer.and_then(Object::parse);
            let error = answer.as_ref().and_then(|answer| answer.object("error"));
            self.error = error.and_then(|error| error.text("message").map(|text| cut(&text)));
        }
        let kept = self.position.as_ref().is_some_and(Position::tells_content);
        self.said.answer = answer
            .filter(|answer| kept && answer.get().len() <= MAX_CONTENT)
            .map(RawValue::to_owned);
    }

    /// Returns the backend that was called last, or else the one that is meant.
    pub(crate) fn backend(&self) -> Option<&Arc<str>> {
        let called = self.calls.last().map(|call| &call.backend);
        called.or(self.meant.as_ref())
    }

    /// Returns whether there will be a span.
    pub(crate) fn is_sampled(&self) -> bool {
        self.position.as_ref().is_some_and(Position::is_sampled)
    }
}

impl Said {
    /// Returns how many bytes it holds.
    pub(crate) fn size(&self) -> usize {
        let length = |raw: &Option<Box<RawValue>>| raw.as_ref().map_or(0, |raw| raw.get().len());
        length(&self.params) + length(&self.answer)
    }
}

/// Returns a word for the session that `token` names.
fn named(token: &str) -> Option<String> {
    (!token.is_empty()).then(|| word(&fingerprint(token)))
}

/// Returns a word for a session.
pub(super) fn word(fingerprint: &Fingerprint) -> String {
    let digit = |half: u8| char::from_digit(u32::from(half), 16).unwrap_or_default();
    let digits = fingerprint
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]);
    let mut word = String::with_capacity(2 * fingerprint.len());
    word.extend(digits);
    word
}

/// Returns as much of a client's word as is told.
fn cut(text: &str) -> String {
    let end = (0..=MAX_NAME.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or(0)).unwrap_or_default().to_owned()
}
