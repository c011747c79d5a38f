//! What a client writes, line by line, and what it is told.
//!
//! Requests are asked beside each other, so that a long one keeps nobody waiting; everything else is told in order. A
//! client with a session hears its stream from the moment on that it says that it is ready. One without (revision
//! 2026-07-28) says in its messages what over HTTP stands in headers too, so these are written here.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use gateway::Gateway;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use mcp::{
    Id, Message, Request, RpcError,
    header::{METHOD, NAME, Repeated, VERSION, encode},
    json::{self, Object},
    message::{Outcome, Payload},
    modern,
};
use serde_json::value::RawValue;
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::{Semaphore, mpsc},
    task::{AbortHandle, JoinSet},
    time::timeout,
};

use super::{
    Front,
    exchange::{self, Arriving},
};

/// The most requests that are asked at once; the next line is read when one is answered.
const MAX_OPEN: usize = 256;

/// Lines that wait until the client reads.
const MAX_UNREAD: usize = 64;

/// How often the rest of an answer is asked for that broke off.
const RESUMES: usize = 8;

/// How long to wait before a stream is asked for again that does not say so.
const WAIT: Duration = Duration::from_millis(500);

/// How long the end of a session may take.
const END_TIMEOUT: Duration = Duration::from_secs(5);

const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
const LAST_EVENT: HeaderName = HeaderName::from_static("last-event-id");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");
const BOTH: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");

/// Serves who writes to `input` and reads `output`, until the former ends; what is asked by then is answered within
/// `patience`. A line may have `limit` bytes.
pub(crate) async fn serve(
    gateway: Arc<Gateway>,
    front: Front,
    (limit, patience): (usize, Duration),
    input: impl AsyncBufRead + Unpin,
    output: impl AsyncWrite + Unpin,
) {
    let (out, said) = mpsc::channel(MAX_UNREAD);
    let talk = Arc::new(Talk {
        gateway,
        front,
        out,
        known: Mutex::default(),
        room: Arc::new(Semaphore::new(MAX_OPEN)),
    });
    let mut tasks = Tasks::default();
    let read = async {
        talk.read(&mut tasks, limit, input).await;
        tasks.listening.abort_all();
        let answered = async { while tasks.asking.join_next().await.is_some() {} };
        if timeout(patience, answered).await.is_err() {
            tasks.asking.abort_all();
        }
        talk.end().await;
        // With this nobody is left who could say more.
        drop((talk, tasks));
    };
    tokio::join!(read, write(said, output));
}

/// Reads to the end of a line, and keeps nothing of it.
async fn pass_line(input: &mut (impl AsyncBufRead + Unpin)) -> io::Result<()> {
    loop {
        let piece = input.fill_buf().await?;
        let end = piece.iter().position(|byte| *byte == b'\n');
        let read = end.map_or(piece.len(), |end| end + 1);
        input.consume(read);
        if end.is_some() || read == 0 {
            return Ok(());
        }
    }
}

/// Writes what is said, a line each, until nobody can say more or nobody reads.
async fn write(mut said: mpsc::Receiver<String>, mut output: impl AsyncWrite + Unpin) {
    while let Some(mut line) = said.recv().await {
        line.push('\n');
        let written = async {
            output.write_all(line.as_bytes()).await?;
            output.flush().await
        };
        if written.await.is_err() {
            return;
        }
    }
}

/// What goes on beside the reading of lines.
#[derive(Default)]
struct Tasks {
    asking: JoinSet<()>,
    listening: JoinSet<()>,
}

struct Talk {
    gateway: Arc<Gateway>,
    front: Front,
    out: mpsc::Sender<String>,
    known: Mutex<Known>,
    /// Room for requests.
    room: Arc<Semaphore>,
}

/// What is known of the client.
#[derive(Default)]
struct Known {
    session: Option<HeaderValue>,
    /// What headers repeat of the tools that were in a list, by their names.
    tools: HashMap<String, Repeated>,
    /// Requests without a session, which are cancelled by letting go of them.
    open: Vec<(Id, AbortHandle)>,
}

impl Talk {
    /// Reads lines until there are no more.
    async fn read(self: &Arc<Self>, tasks: &mut Tasks, limit: usize, mut input: impl AsyncBufRead + Unpin) {
        let bound = u64::try_from(limit).unwrap_or(u64::MAX);
        loop {
            let mut line = Vec::new();
            let read = (&mut input).take(bound).read_until(b'\n', &mut line).await;
            if read.is_err() || line.is_empty() {
                return;
            }
            if line.len() >= limit && !line.ends_with(b"\n") {
                let error = RpcError::invalid_request(format!("a message is longer than {limit} bytes"));
                self.say(error.to_message(None).to_raw().get()).await;
                // Whose it is cannot be told, and what follows is of others.
                if pass_line(&mut input).await.is_err() {
                    return;
                }
                continue;
            }
            let line = line.trim_ascii();
            if !line.is_empty() {
                self.take(tasks, Bytes::copy_from_slice(line)).await;
            }
            while tasks.asking.try_join_next().is_some() {}
        }
    }

    /// Sees to one line.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one client's requests are asked beside each other, and end with its input"
    )]
    async fn take(self: &Arc<Self>, tasks: &mut Tasks, line: Bytes) {
        let payload = match Payload::parse(&line) {
            Ok(payload) => payload,
            Err(error) => return self.say(error.to_message(None).to_raw().get()).await,
        };
        match payload {
            Payload::One(Message::Request(request)) if request.method == "initialize" => {
                self.ask(line, HeaderMap::new(), Some(request.id)).await;
            }
            Payload::One(Message::Request(request)) => {
                // Whoever holds it is never closed.
                let Ok(room) = Arc::clone(&self.room).acquire_owned().await else {
                    return;
                };
                let talk = Arc::clone(self);
                let id = request.id.clone();
                let version = modern_version(&request);
                let in_session = version.is_none();
                // Held until it is noted, so that one that is answered at once is not noted after that.
                let mut known = self.known();
                let asking = tasks.asking.spawn(async move {
                    let headers = match version {
                        None => HeaderMap::new(),
                        Some(version) => talk.repeat(&request, &version).await,
                    };
                    talk.ask(line, headers, Some(request.id.clone())).await;
                    talk.known().open.retain(|(id, _)| *id != request.id);
                    drop(room);
                });
                if !in_session {
                    known.open.push((id, asking));
                }
            }
            Payload::One(Message::Notification(told)) => {
                if told.method == "notifications/cancelled" && self.cancel(told.params.as_deref()) {
                    return;
                }
                let ready = told.method == "notifications/initialized";
                self.ask(line, HeaderMap::new(), None).await;
                if ready && tasks.listening.is_empty() {
                    let talk = Arc::clone(self);
                    tasks.listening.spawn(async move { talk.listen().await });
                }
            }
            Payload::One(Message::Response(_)) => self.ask(line, HeaderMap::new(), None).await,
            Payload::Batch(_) => {
                let talk = Arc::clone(self);
                tasks
                    .asking
                    .spawn(async move { talk.ask(line, HeaderMap::new(), None).await });
            }
        }
    }

    /// Sends a line and says what comes of it; `id` is that of the request that it is.
    async fn ask(&self, line: Bytes, mut headers: HeaderMap, id: Option<Id>) {
        headers.insert(header::CONTENT_TYPE, JSON);
        headers.insert(header::ACCEPT, BOTH);
        let mut last = None;
        let mut answered = false;
        let mut answer = self.send(Method::POST, headers, line).await;
        for _ in 0..=RESUMES {
            let mut arriving = match answer {
                Ok(arriving) => arriving,
                Err(error) => return self.fail(id.as_ref(), error.to_string()).await,
            };
            if !arriving.is_stream() {
                return self.document(arriving, id.as_ref()).await;
            }
            let mut wait = WAIT;
            while let Some(said) = arriving.next().await {
                last = said.id.or(last);
                wait = said.retry.map_or(wait, Duration::from_millis);
                answered |= id.as_ref().is_some_and(|id| answers(&said.text, id));
                self.say(&said.text).await;
            }
            // The server lets its client come back for the answer.
            let (Some(at), false) = (last.as_deref(), answered) else {
                break;
            };
            let Ok(at) = HeaderValue::try_from(at) else { break };
            tokio::time::sleep(wait).await;
            let headers = HeaderMap::from_iter([(header::ACCEPT, EVENTS), (LAST_EVENT, at)]);
            answer = self.send(Method::GET, headers, Bytes::new()).await;
        }
        if let Some(id) = id.filter(|_| !answered) {
            self.fail(Some(&id), "the answer broke off".to_owned()).await;
        }
    }

    /// Says what an answer holds that is no stream.
    async fn document(&self, arriving: Arriving, id: Option<&Id>) {
        let status = arriving.status;
        let session = arriving.headers.get(SESSION).cloned();
        let body = arriving.whole().await;
        if status == StatusCode::ACCEPTED || (body.is_empty() && id.is_none()) {
            return;
        }
        let Ok(message) = serde_json::from_slice::<&RawValue>(&body) else {
            return self.fail(id, format!("status {}", status.as_u16())).await;
        };
        if session.is_some() && status.is_success() {
            self.known().session = session;
        }
        self.say(message.get()).await;
    }

    /// Hands on the stream of the session, for as long as it has one.
    async fn listen(&self) {
        let mut last: Option<String> = None;
        loop {
            let mut headers = HeaderMap::from_iter([(header::ACCEPT, EVENTS)]);
            if let Some(Ok(last)) = last.as_deref().map(HeaderValue::try_from) {
                headers.insert(LAST_EVENT, last);
            }
            let Ok(mut arriving) = self.send(Method::GET, headers, Bytes::new()).await else {
                return;
            };
            if !arriving.is_stream() {
                return;
            }
            let mut wait = WAIT;
            while let Some(said) = arriving.next().await {
                last = said.id.or(last);
                wait = said.retry.map_or(wait, Duration::from_millis);
                self.say(&said.text).await;
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Ends the session.
    async fn end(&self) {
        if self.known().session.is_some() {
            let ended = self.send(Method::DELETE, HeaderMap::new(), Bytes::new());
            // The gateway goes on to end what is left.
            let _ = timeout(END_TIMEOUT, ended).await;
        }
    }

    async fn send(
        &self,
        method: Method,
        mut headers: HeaderMap,
        body: Bytes,
    ) -> Result<Arriving, hyper::Error> {
        let session = self.known().session.clone();
        if let Some(session) = session.filter(|_| !headers.contains_key(VERSION)) {
            headers.insert(SESSION, session);
        }
        exchange::send(&self.gateway, &self.front, method, headers, body).await
    }

    /// Says a message, which is written over one line.
    async fn say(&self, message: &str) {
        if message.trim().is_empty() {
            return;
        }
        // Where JSON has the ends of lines, they are blanks.
        let line = message.replace(['\n', '\r'], " ");
        // Whoever does not read any more is not told.
        let _ = self.out.send(line).await;
    }

    async fn fail(&self, id: Option<&Id>, reason: String) {
        if let Some(id) = id {
            let error = RpcError::new(mcp::error::SERVER, reason);
            self.say(error.to_message(Some(id)).to_raw().get()).await;
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Talk {
    /// Returns the headers that repeat what a request without a session says.
    async fn repeat(&self, request: &Request, version: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut put = |name: &str, value: &str| {
            let header = HeaderName::try_from(name)
                .ok()
                .zip(HeaderValue::try_from(value).ok());
            headers.extend(header);
        };
        put(VERSION, version);
        put(METHOD, &request.method);
        let params = request.object().unwrap_or_default();
        if let Some(name) = modern::name(&request.method, &params) {
            put(NAME, &encode(&name));
        }
        if request.method == "tools/call"
            && let Some(name) = params.text("name")
        {
            if !self.known().tools.contains_key(&*name) {
                self.look(&params, version).await;
            }
            let known = self.known();
            let tool = known.tools.get(&*name);
            for (name, value) in tool
                .into_iter()
                .flat_map(|tool| tool.headers(params.get("arguments")))
            {
                put(&name, &value);
            }
        }
        headers
    }

    /// Asks for the list of tools, which says what headers repeat of them.
    async fn look(&self, params: &Object<'_>, version: &str) {
        let mut own = Object::default();
        if let Some(meta) = params.get("_meta") {
            own.set("_meta", meta.to_owned());
        }
        let request = Request {
            id: Id::text("tollgate-tools"),
            method: "tools/list".to_owned(),
            params: Some(own.to_raw()),
        };
        let mut headers = HeaderMap::from_iter([(header::CONTENT_TYPE, JSON), (header::ACCEPT, BOTH)]);
        for (name, value) in [(VERSION, version), (METHOD, "tools/list")] {
            headers.extend(
                HeaderName::try_from(name)
                    .ok()
                    .zip(HeaderValue::try_from(value).ok()),
            );
        }
        let body = Message::Request(request).to_bytes();
        let Ok(mut arriving) = self.send(Method::POST, headers, Bytes::from(body)).await else {
            return;
        };
        if arriving.is_stream() {
            while let Some(said) = arriving.next().await {
                if let Ok(message) = serde_json::from_str(&said.text) {
                    self.learn(message);
                }
            }
            return;
        }
        if let Ok(message) = serde_json::from_slice(&arriving.whole().await) {
            self.learn(message);
        }
    }

    /// Learns from a list of tools, if `message` is one, what headers repeat of them.
    fn learn(&self, message: &RawValue) {
        let Ok(Message::Response(response)) = Message::read(message) else {
            return;
        };
        let Outcome::Result(result) = &response.outcome else {
            return;
        };
        let Some(result) = Object::parse(result) else {
            return;
        };
        let Some(tools) = result.get("tools").and_then(json::elements) else {
            return;
        };
        let named = tools.into_iter().filter_map(|tool| {
            let name = Object::parse(tool)?.text("name")?.into_owned();
            Some((name, Repeated::read(tool)))
        });
        self.known().tools = named.collect();
    }

    /// Lets go of the request without a session that is to be cancelled; returns whether there is one.
    fn cancel(&self, params: Option<&RawValue>) -> bool {
        let params = params.and_then(Object::parse);
        let id = params
            .as_ref()
            .and_then(|params| Id::parse(params.get("requestId")?));
        let mut known = self.known();
        let at = id.and_then(|id| known.open.iter().position(|(open, _)| *open == id));
        let asked = at.map(|at| known.open.swap_remove(at));
        asked.is_some_and(|(_, asking)| {
            asking.abort();
            true
        })
    }
}

/// Returns the revision without sessions that a request says it is in.
fn modern_version(request: &Request) -> Option<String> {
    let params = request.object()?;
    let meta = params.object("_meta")?;
    Some(meta.text(modern::PROTOCOL_VERSION)?.into_owned())
}

/// Returns whether `text` is the answer to the request called `id`.
fn answers(text: &str, id: &Id) -> bool {
    match Message::parse(text.as_bytes()) {
        Ok(Message::Response(response)) => response.id.as_ref() == Some(id),
        Ok(Message::Request(_) | Message::Notification(_)) | Err(_) => false,
    }
}
