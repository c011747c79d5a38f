//! One call to one backend: what it is sent, and its reply as messages.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use config::mcp_route::{Backend, Http, Key, Reach};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use llm::frame::sse::{Event, Sse};
use mcp::{
    Message, Version,
    header::{METHOD, NAME, PARAM, encode},
    json::Object,
    modern::{self, About},
    session::Entry,
};
use tokio::time::{Instant, timeout_at};

use super::stdio::{self, Programs, Talk};
use crate::{
    State,
    body::Pieces,
    upstream::{self, Outgoing},
};

/// Names a session with a backend, and ours with a client.
pub(super) const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
/// Says which revision is spoken.
pub(super) const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
/// Says where in a stream to go on.
pub(super) const LAST_EVENT: HeaderName = HeaderName::from_static("last-event-id");

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const BOTH: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");
const IDENTITY: HeaderValue = HeaderValue::from_static("identity");

/// The largest reply that is no stream.
const MAX_REPLY: usize = 64 * 1024 * 1024;

/// The most that is read of a reply whose status says that it is none.
const MAX_ERROR: usize = 64 * 1024;

/// What a backend is asked.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ask<'a> {
    /// To take a message.
    Post(&'a Message),
    /// For its stream, from after this event on.
    Get(Option<&'a str>),
    /// To end the session.
    Delete,
}

/// A backend's reply.
pub(super) enum Reply {
    /// It took the message, or has no stream, and says nothing.
    Nothing,
    /// One message, and the session that it opened.
    Message(Message, Option<String>),
    /// Several, over time, and the session that it opened.
    Events(Box<Events>, Option<String>),
}

/// Messages as they arrive.
pub(super) struct Events {
    backend: Arc<str>,
    from: From,
    ready: VecDeque<Arrived>,
    ended: bool,
}

/// Where messages come from.
enum From {
    /// A stream of events.
    Http(upstream::Reply, Sse),
    /// A program.
    Program(Talk),
}

impl Reply {
    /// Returns the reply that is what a program says.
    pub(super) fn talk(backend: &Arc<str>, talk: Talk, opened: Option<String>) -> Self {
        let events = Events {
            backend: Arc::clone(backend),
            from: From::Program(talk),
            ready: VecDeque::new(),
            ended: false,
        };
        Reply::Events(Box::new(events), opened)
    }
}

/// One event.
#[derive(Debug)]
pub(super) struct Arrived {
    /// `None` for an event that only says where the stream is.
    pub(super) message: Option<Message>,
    /// The backend's id for the event.
    pub(super) id: Option<String>,
    /// Milliseconds to wait before asking again.
    pub(super) retry: Option<u64>,
}

/// A call that came to nothing.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) backend: Arc<str>,
    pub(super) fault: Fault,
    /// What happened, without anything secret.
    pub(super) reason: String,
    /// What the backend demands of whoever calls it.
    pub(super) challenge: Option<HeaderValue>,
    /// Whether the backend does not know the session, so that the call was certainly not carried out.
    pub(super) lost: bool,
}

/// What kind of failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It was not reached.
    Unreachable,
    /// It did not answer in time.
    Timeout,
    /// It answered with a status that is no success.
    Status(StatusCode),
    /// Its reply broke off.
    Broken,
    /// Its reply is none.
    BadReply,
}

impl Failure {
    pub(super) fn new(backend: &Arc<str>, fault: Fault, reason: impl Into<String>) -> Self {
        Self {
            backend: Arc::clone(backend),
            fault,
            reason: reason.into(),
            challenge: None,
            lost: false,
        }
    }

    /// Returns the word for lists that lack a backend's part.
    pub(super) fn word(&self) -> String {
        match self.fault {
            Fault::Unreachable => "unreachable".to_owned(),
            Fault::Timeout => "timeout".to_owned(),
            Fault::Status(status) => format!("status {}", status.as_u16()),
            Fault::Broken => "connection lost".to_owned(),
            Fault::BadReply => "malformed reply".to_owned(),
        }
    }
}

/// A backend and what is needed to call it.
pub(super) struct Caller<'a> {
    pub(super) state: &'a State,
    pub(super) programs: &'a Programs,
    pub(super) backend: &'a Backend,
    /// The client's headers, of which those are sent on that the route names.
    pub(super) client: &'a HeaderMap,
    /// Headers in which every server is told who calls.
    pub(super) told: &'a [HeaderName],
    pub(super) request_id: &'a HeaderValue,
    /// What servers that keep no session are told of the client.
    pub(super) about: About<'a>,
    /// Whether the client keeps none either.
    pub(super) modern: bool,
    /// Arguments that headers repeat, where the client does not send these headers itself.
    pub(super) repeated: Vec<(String, String)>,
}

impl Caller<'_> {
    /// Asks the backend, in the session of `entry` if there is one; a reply must begin within `limit`.
    pub(super) async fn ask(
        &self,
        entry: Option<&Entry>,
        ask: Ask<'_>,
        limit: Duration,
    ) -> Result<Reply, Failure> {
        let fail = |fault, reason: String| Failure::new(&self.backend.name, fault, reason);
        let in_line = match ask {
            Ask::Post(message) if is_modern(entry) => {
                // Servers of this line are told nothing but requests.
                let Message::Request(_) = message else {
                    return Ok(Reply::Nothing);
                };
                self.stamped(message)
            }
            Ask::Post(_) | Ask::Get(_) | Ask::Delete => None,
        };
        let ask = in_line.as_ref().map_or(ask, Ask::Post);
        let reach = self.backend.reach.as_ref();
        let reach = reach.map_err(|reason| fail(Fault::Unreachable, reason.clone()))?;
        let reach = match reach {
            Reach::Http(http) => http,
            Reach::Program(program) => {
                let call = stdio::Call {
                    programs: self.programs,
                    backend: &self.backend.name,
                    program,
                    entry,
                };
                return call.ask(ask, limit).await;
            }
        };
        let client = self.state.clients.pick_of(&reach.id);
        let client = client.ok_or_else(|| fail(Fault::Unreachable, "it has no endpoint".to_owned()))?;
        let request = self.request(reach, &client.host, entry, ask)?;
        let until = Instant::now() + limit;
        let in_time = || {
            fail(
                Fault::Timeout,
                format!("no answer within {} s", limit.as_secs_f32()),
            )
        };
        let response = match timeout_at(until, client.call(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(fail(Fault::Unreachable, error.to_string())),
            Err(_) => return Err(in_time()),
        };
        let (head, body) = response.into_parts();
        let read = self.read(&head, body, entry, ask);
        timeout_at(until, read).await.unwrap_or_else(|_| Err(in_time()))
    }

    /// Returns a request with what servers of the line without sessions have to be told.
    fn stamped(&self, message: &Message) -> Option<Message> {
        let Message::Request(request) = message else {
            return None;
        };
        let params = modern::stamped(request.params.as_deref(), &self.about)?;
        Some(Message::Request(mcp::Request {
            params: Some(params),
            ..request.clone()
        }))
    }

    /// Adds the headers that repeat what `message` says.
    fn repeat(&self, message: &Message, headers: &mut HeaderMap) -> Option<()> {
        let Message::Request(request) = message else {
            return Some(());
        };
        let value = |text: &str| HeaderValue::try_from(text).ok();
        headers.insert(HeaderName::from_static(METHOD), value(&request.method)?);
        let params = request.params.as_deref().and_then(Object::parse);
        if let Some(params) = &params
            && let Some(name) = modern::name(&request.method, params)
        {
            headers.insert(HeaderName::from_static(NAME), value(&encode(&name))?);
        }
        if self.modern {
            let own = self
                .client
                .iter()
                .filter(|(name, _)| name.as_str().starts_with(PARAM));
            headers.extend(own.map(|(name, value)| (name.clone(), value.clone())));
        }
        for (name, text) in &self.repeated {
            headers.insert(HeaderName::try_from(name).ok()?, value(text)?);
        }
        Some(())
    }

    fn request(
        &self,
        reach: &Http,
        host: &HeaderValue,
        entry: Option<&Entry>,
        ask: Ask<'_>,
    ) -> Result<Request<Outgoing>, Failure> {
        let unfit = |what: &str| {
            Failure::new(
                &self.backend.name,
                Fault::Unreachable,
                format!("{what} cannot be sent"),
            )
        };
        let mut headers = HeaderMap::with_capacity(12);
        headers.insert(header::HOST, host.clone());
        headers.insert(header::ACCEPT_ENCODING, IDENTITY);
        headers.insert(crate::headers::REQUEST_ID, self.request_id.clone());
        for name in ["traceparent", "tracestate"] {
            if let Some(value) = self.client.get(name) {
                headers.insert(name, value.clone());
            }
        }
        for name in self.told {
            if let Some(value) = self.client.get(name) {
                headers.insert(name.clone(), value.clone());
            }
        }
        for (from, to) in &self.backend.forward {
            if let Some(value) = self.client.get(from) {
                headers.insert(to.clone(), value.clone());
            }
        }
        let (method, body) = match ask {
            Ask::Post(message) => {
                headers.insert(header::CONTENT_TYPE, JSON);
                headers.insert(header::ACCEPT, BOTH);
                if is_modern(entry) {
                    self.repeat(message, &mut headers)
                        .ok_or_else(|| unfit("what headers repeat"))?;
                }
                (Method::POST, Bytes::from(message.to_bytes()))
            }
            Ask::Get(last) => {
                headers.insert(header::ACCEPT, EVENTS);
                if let Some(last) = last {
                    let last = HeaderValue::try_from(last).map_err(|_| unfit("the id of its last event"))?;
                    headers.insert(LAST_EVENT, last);
                }
                (Method::GET, Bytes::new())
            }
            Ask::Delete => (Method::DELETE, Bytes::new()),
        };
        if let Some(entry) = entry {
            if !entry.session.is_empty() {
                let session = HeaderValue::try_from(entry.session.as_str());
                headers.insert(SESSION, session.map_err(|_| unfit("its session"))?);
            }
            if let Some(version) = entry.version {
                headers.insert(VERSION, HeaderValue::from_static(version.name()));
            }
        }
        for (name, value) in &reach.headers {
            let mut value = HeaderValue::try_from(value.expose()).map_err(|_| unfit("a header"))?;
            value.set_sensitive(true);
            headers.insert(name.clone(), value);
        }
        let mut path = reach.path.clone();
        // The credential comes last, so that nothing can take its place.
        match &reach.key {
            None => {}
            Some(Key::Header(name, key)) => {
                let mut value = HeaderValue::try_from(key.expose()).map_err(|_| unfit("its key"))?;
                value.set_sensitive(true);
                headers.insert(name.clone(), value);
            }
            Some(Key::Query(name, key)) => {
                path.push(if path.contains('?') { '&' } else { '?' });
                path.push_str(&escaped(name));
                path.push('=');
                path.push_str(&escaped(key.expose()));
            }
        }
        let uri = Uri::try_from(path).map_err(|_| unfit("its path"))?;
        let mut request = Request::new(Outgoing::Whole(Full::new(body)));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        Ok(request)
    }

    async fn read(
        &self,
        head: &http::response::Parts,
        body: upstream::Reply,
        entry: Option<&Entry>,
        ask: Ask<'_>,
    ) -> Result<Reply, Failure> {
        let opened = head
            .headers
            .get(SESSION)
            .and_then(|id| id.to_str().ok())
            .map(str::to_owned);
        match head.status {
            StatusCode::ACCEPTED | StatusCode::NO_CONTENT => return Ok(Reply::Nothing),
            // A backend need not have a stream, nor end sessions.
            StatusCode::METHOD_NOT_ALLOWED if !matches!(ask, Ask::Post(_)) => return Ok(Reply::Nothing),
            status if !status.is_success() => return self.refused(head, body, entry).await,
            _ => {}
        }
        if matches!(ask, Ask::Delete) {
            return Ok(Reply::Nothing);
        }
        let events = |body| {
            Box::new(Events {
                backend: Arc::clone(&self.backend.name),
                from: From::Http(body, Sse::default()),
                ready: VecDeque::new(),
                ended: false,
            })
        };
        if media_type(&head.headers) == Some("text/event-stream") {
            return Ok(Reply::Events(events(body), opened));
        }
        let bytes = self.whole(body, MAX_REPLY).await?;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Reply::Nothing);
        }
        match Message::parse(&bytes) {
            Ok(message) => Ok(Reply::Message(message, opened)),
            // Events under another name.
            Err(error) => answer_among(&bytes).map_or_else(
                || {
                    Err(Failure::new(
                        &self.backend.name,
                        Fault::BadReply,
                        error.to_string(),
                    ))
                },
                |message| Ok(Reply::Message(message, opened)),
            ),
        }
    }

    /// Reads a reply whose status says that it is none; an error that it holds is an answer all the same.
    async fn refused(
        &self,
        head: &http::response::Parts,
        body: upstream::Reply,
        entry: Option<&Entry>,
    ) -> Result<Reply, Failure> {
        let bytes = self.whole(body, MAX_ERROR).await.unwrap_or_default();
        let status = head.status;
        let message = Message::parse(&bytes).ok();
        let said = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
        // Revision 2025-03-26 wants a 404 for a session that is not known; some servers answer 400.
        let in_session = entry.is_some_and(|entry| !entry.session.is_empty());
        let lost = in_session
            && (status == StatusCode::NOT_FOUND
                || (status == StatusCode::BAD_REQUEST
                    && said.contains("session")
                    && !said.contains("initialized")));
        match message {
            Some(message @ Message::Response(_)) if !lost && !demands_login(status) => {
                Ok(Reply::Message(message, None))
            }
            _ => Err(Failure {
                challenge: head.headers.get(header::WWW_AUTHENTICATE).cloned(),
                lost,
                ..Failure::new(
                    &self.backend.name,
                    Fault::Status(status),
                    format!("it answered with status {}", status.as_u16()),
                )
            }),
        }
    }

    async fn whole(&self, mut body: upstream::Reply, limit: usize) -> Result<Bytes, Failure> {
        let fail = |fault, reason: &str| Failure::new(&self.backend.name, fault, reason);
        let mut read = Pieces::default();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| fail(Fault::Broken, "its reply broke off"))?;
            let Ok(data) = frame.into_data() else { continue };
            if read.len() + data.len() > limit {
                return Err(fail(Fault::BadReply, "its reply is too large"));
            }
            read.push(data);
        }
        Ok(read.join())
    }
}

impl Events {
    /// Returns the next event; `None` at the end.
    ///
    /// # Errors
    /// If the stream breaks off.
    pub(super) async fn next(&mut self) -> Result<Option<Arrived>, Failure> {
        loop {
            if let Some(arrived) = self.ready.pop_front() {
                return Ok(Some(arrived));
            }
            if self.ended {
                return Ok(None);
            }
            let (ready, backend) = (&mut self.ready, &self.backend);
            let (body, sse) = match &mut self.from {
                From::Http(body, sse) => (body, sse),
                From::Program(talk) => {
                    let message = talk.next().await;
                    self.ended = message.is_none();
                    ready.extend(message.map(Arrived::message));
                    continue;
                }
            };
            match body.frame().await {
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    let pushed = sse.push_events(&data, |event, _| ready.extend(arrived(backend, &event)));
                    pushed.map_err(|_| Failure::new(backend, Fault::BadReply, "an event is too large"))?;
                }
                Some(Err(_)) => {
                    self.ended = true;
                    return Err(Failure::new(backend, Fault::Broken, "its stream broke off"));
                }
                None => {
                    self.ended = true;
                    sse.finish_events(|event| ready.extend(arrived(backend, &event)));
                }
            }
        }
    }
}

impl Arrived {
    fn message(message: Message) -> Self {
        Self {
            message: Some(message),
            id: None,
            retry: None,
        }
    }
}

/// Returns what an event amounts to: messages, or a place in the stream. What is no message is left out.
fn arrived(backend: &Arc<str>, event: &Event<'_>) -> Vec<Arrived> {
    let data = event.frame.data;
    let place = |message| Arrived {
        message,
        id: event.id.map(str::to_owned),
        retry: event.retry,
    };
    if data.trim().is_empty() {
        return vec![place(None)];
    }
    if let Ok(message) = Message::parse(data.as_bytes()) {
        return vec![place(Some(message))];
    }
    // One message to a line, as some servers have it.
    let lines: Result<Vec<Message>, _> = data.lines().map(|line| Message::parse(line.as_bytes())).collect();
    match lines {
        Ok(messages) => messages.into_iter().map(|message| place(Some(message))).collect(),
        Err(error) => {
            tracing::debug!(%backend, %error, "an event is no message");
            Vec::new()
        }
    }
}

/// Returns the answer in a stream that was not announced as one.
fn answer_among(bytes: &[u8]) -> Option<Message> {
    let mut found = None;
    let mut sse = Sse::default();
    let mut look = |event: Event<'_>| {
        if let Ok(message @ Message::Response(_)) = Message::parse(event.frame.data.as_bytes()) {
            found = Some(message);
        }
    };
    sse.push_events(bytes, |event, _| look(event)).ok()?;
    sse.finish_events(look);
    found
}

/// Returns whether a backend is spoken with in the line without sessions.
pub(super) fn is_modern(entry: Option<&Entry>) -> bool {
    entry
        .and_then(|entry| entry.version)
        .is_some_and(Version::is_modern)
}

/// Returns whether a status is about who calls, which no other answer can stand for.
pub(super) fn demands_login(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
}

/// Returns the media type of a body, without parameters.
pub(super) fn media_type(headers: &HeaderMap) -> Option<&str> {
    let kind = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    kind.split(';').next().map(str::trim)
}

/// Writes `text` as a part of a query (RFC 3986, section 2.1).
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
