//! What is said with a program: it knows requests by ids of its own, and each message goes to whoever it is for.

use std::{
    collections::{HashMap, VecDeque},
    io,
    sync::{Arc, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use mcp::{
    Id, Message, Notification, Outcome, Request, Response,
    json::{self, Object},
    message::Payload,
    subscription,
};
use serde_json::value::RawValue;
use tokio::{io::AsyncBufRead, sync::mpsc, time::timeout};
use tracing::warn;

use super::{Line, MAX_LINE, Process, next_line};
use crate::mcp::{
    call::{Failure, Fault},
    sessions::Fingerprint,
};

/// How many messages wait for a client that does not read; more are lost, which is said in the log. There is room for an
/// answer beside.
const QUEUE: usize = 1_024;

/// How many messages that nobody listens to wait for somebody who does, and how long each may be.
const MAX_UNHEARD: usize = 32;
const MAX_UNHEARD_LINE: usize = 64 * 1024;

/// Who waits for what.
#[derive(Default)]
pub(super) struct Open {
    /// Requests by the id that the program knows them by.
    requests: HashMap<u64, Asked>,
    /// Who listens to what is said unasked.
    listeners: Vec<mpsc::Sender<Message>>,
    /// What was said while nobody did.
    unheard: VecDeque<Message>,
}

/// A request that the program works on.
struct Asked {
    /// The session of the client.
    whose: Fingerprint,
    /// What the client calls it.
    id: Id,
    /// What the client calls its progress.
    progress: Option<Box<RawValue>>,
    sender: mpsc::Sender<Message>,
    /// Room for the answer, however much was said before.
    answer: mpsc::OwnedPermit<Message>,
}

/// Messages of a program for one request, or for whoever listens.
pub(in crate::mcp) struct Talk {
    messages: mpsc::Receiver<Message>,
    process: Arc<Process>,
    /// The request; `None` for a listener.
    request: Option<u64>,
}

/// A request that a program works on, and for whose answer nobody waits.
pub(in crate::mcp) struct Abandoned {
    process: Arc<Process>,
    request: u64,
}

/// The beginning of what is said with a program, which is asked once what it is, however many want to know.
#[derive(Default)]
pub(super) enum Beginning {
    /// Nothing was said.
    #[default]
    Silent,
    /// It was asked, by somebody who need not be there any more.
    Asked(mpsc::Receiver<Message>),
    /// It has answered so.
    Said(Message),
}

/// Somebody who waits until a program has said what it is.
struct Waiting<'p>(&'p Process);

impl Process {
    /// Returns the answer to `initialize`; asks only once.
    pub(in crate::mcp::stdio) async fn initialize(
        self: &Arc<Self>,
        message: &Message,
        whose: Fingerprint,
        limit: Duration,
    ) -> Result<Message, String> {
        let _waiting = Waiting::new(self);
        let mut beginning = self.beginning.lock().await;
        if let (Beginning::Silent, Message::Request(request)) = (&*beginning, message) {
            let (line, _, messages) = self.register(request, whose)?;
            self.tell(&line).await?;
            *beginning = Beginning::Asked(messages);
        }
        let messages = match &mut *beginning {
            Beginning::Said(answer) => return Ok(answer.clone()),
            Beginning::Asked(messages) => messages,
            Beginning::Silent => return Err("initialize is a request".to_owned()),
        };
        let answer = async {
            while let Some(message) = messages.recv().await {
                if let Message::Response(_) = &message {
                    return Some(message);
                }
            }
            None
        };
        match timeout(limit, answer).await {
            Ok(Some(answer)) => {
                *beginning = Beginning::Said(answer.clone());
                Ok(answer)
            }
            Ok(None) => Err("its program ended without an answer".to_owned()),
            Err(_) => Err("its program did not answer in time".to_owned()),
        }
    }

    /// Hands a message of the session `whose` to the program; returns what it says about it if it is a request.
    pub(in crate::mcp::stdio) async fn post(
        self: &Arc<Self>,
        message: &Message,
        whose: Fingerprint,
    ) -> Result<Option<Talk>, String> {
        let (line, talk) = match message {
            Message::Request(request) => {
                let (line, number, messages) = self.register(request, whose)?;
                let talk = Talk {
                    messages,
                    process: Arc::clone(self),
                    request: Some(number),
                };
                (line, Some(talk))
            }
            Message::Notification(notification) => {
                let once = notification.method == mcp::method::INITIALIZED;
                if once && self.told.swap(true, Ordering::Relaxed) {
                    return Ok(None);
                }
                // What it has answered cannot be cancelled any more.
                let Some(own) = self.with_own_id(notification, whose) else {
                    return Ok(None);
                };
                (Message::Notification(own), None)
            }
            Message::Response(_) => (message.clone(), None),
        };
        self.tell(&line).await?;
        Ok(talk)
    }

    /// Takes note of a request of the session `whose`; returns it as the program is told it, its number, and what the program
    /// will say about it.
    fn register(
        &self,
        request: &Request,
        whose: Fingerprint,
    ) -> Result<(Message, u64, mpsc::Receiver<Message>), String> {
        let number = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, messages) = mpsc::channel(QUEUE + 1);
        let answer = sender.clone().try_reserve_owned();
        let answer = answer.map_err(|_| "there is no room for its answer".to_owned())?;
        let mut request = request.clone();
        let id = std::mem::replace(&mut request.id, number_id(number));
        let progress = request.params.as_deref().and_then(progress);
        if progress.is_some() {
            let marked = request
                .params
                .as_deref()
                .and_then(|params| marked(params, number));
            request.params = marked.or(request.params);
        }
        let asked = Asked {
            whose,
            id,
            progress,
            sender,
            answer,
        };
        self.open().requests.insert(number, asked);
        Ok((Message::Request(request), number, messages))
    }

    async fn tell(&self, message: &Message) -> Result<(), String> {
        let told = self.write(message).await;
        told.map_err(|_| "its program does not listen".to_owned())
    }

    /// Returns what the program says unasked from now on, as all who listen hear it.
    pub(in crate::mcp::stdio) fn listen(self: &Arc<Self>) -> Talk {
        let (sender, messages) = mpsc::channel(QUEUE);
        let mut open = self.open();
        open.listeners.retain(|listener| !listener.is_closed());
        for message in std::mem::take(&mut open.unheard) {
            self.hand(&sender, message);
        }
        open.listeners.push(sender);
        drop(open);
        Talk {
            messages,
            process: Arc::clone(self),
            request: None,
        }
    }

    /// Returns whether somebody waits for an answer, or listens.
    pub(in crate::mcp::stdio) fn is_used(&self) -> bool {
        let open = self.open();
        !open.requests.is_empty() || open.listeners.iter().any(|listener| !listener.is_closed())
    }

    /// The program knows requests by other ids than the client does, and may serve several clients that use the same.
    fn with_own_id(&self, notification: &Notification, whose: Fingerprint) -> Option<Notification> {
        let mut notification = notification.clone();
        if notification.method != mcp::method::CANCELLED {
            return Some(notification);
        }
        let mut params = Object::parse(notification.params.as_ref()?)?;
        let id = Id::parse(params.get("requestId")?)?;
        let open = self.open();
        let mut requests = open.requests.iter();
        let (number, _) = requests.find(|(_, asked)| asked.whose == whose && asked.id == id)?;
        params.set("requestId", json::raw(number));
        notification.params = Some(params.to_raw());
        Some(notification)
    }

    async fn write(&self, message: &Message) -> io::Result<()> {
        let age = u64::try_from(self.age().as_millis()).unwrap_or(u64::MAX);
        self.spoken.store(age, Ordering::Relaxed);
        let taken = self.lines.send(line(message)).await;
        taken.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// Hands out what the program says, until it says no more.
    pub(super) async fn hear(&self, mut from: impl AsyncBufRead + Unpin) {
        while let Some(Line { bytes, whole }) = next_line(&mut from, MAX_LINE).await {
            if !whole {
                // Whose answer it would have been is not known.
                warn!(backend = %self.backend, limit = MAX_LINE, "a program's line is too long");
                return;
            }
            if bytes.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            match Payload::parse(&bytes) {
                Ok(Payload::One(message)) => self.heard(message, bytes.len()),
                // Revision 2025-03-26 allows that.
                Ok(Payload::Batch(messages)) => {
                    for message in messages {
                        self.heard(message, bytes.len());
                    }
                }
                Err(error) => warn!(backend = %self.backend, %error, "a program's line is no message"),
            }
        }
    }

    fn heard(&self, message: Message, size: usize) {
        match message {
            Message::Response(response) => self.answered(response),
            // Whoever asks whether we are there does not mean a client, and there may be none that listens.
            Message::Request(request) if request.method == "ping" => {
                let pong = request.answer(json::empty());
                if self.lines.try_send(line(&pong)).is_err() {
                    tracing::debug!(backend = %self.backend, "a ping was not answered");
                }
            }
            message @ (Message::Request(_) | Message::Notification(_)) => self.said(message, size),
        }
    }

    fn answered(&self, response: Response) {
        let number = response.id.as_ref().and_then(|id| {
            // Some say numbers as strings.
            let number = json::text(id.raw());
            number.as_deref().unwrap_or_else(|| id.raw().get()).parse().ok()
        });
        let waiting = number.and_then(|number: u64| self.open().requests.remove(&number));
        if let Outcome::Result(_) = &response.outcome {
            self.answers.store(true, Ordering::Relaxed);
        }
        // Whoever asked may have gone.
        if let Some(asked) = waiting {
            let answer = Response {
                id: Some(asked.id),
                outcome: response.outcome,
            };
            asked.answer.send(Message::Response(answer));
        }
    }

    /// Hands a message to the request that it says it belongs to. Where it says none, one that a request can have
    /// caused goes to the last, and any other to whoever listens, or will.
    fn said(&self, message: Message, size: usize) {
        let mut open = self.open();
        let message = match of_request(&message).and_then(|number| open.requests.get(&number)) {
            Some(asked) => {
                let told = restored(message, asked.progress.as_deref());
                return self.hand(&asked.sender, told);
            }
            None => message,
        };
        let caused = match &message {
            Message::Request(_) => true,
            Message::Notification(own) => {
                matches!(own.method.as_str(), mcp::method::PROGRESS | mcp::method::MESSAGE)
            }
            Message::Response(_) => false,
        };
        let last = open.requests.iter().max_by_key(|(number, _)| **number);
        let last = last.map(|(_, asked)| asked.sender.clone());
        open.listeners.retain(|listener| !listener.is_closed());
        match last {
            Some(last) if caused || open.listeners.is_empty() => self.hand(&last, message),
            Some(_) | None => {
                if open.listeners.is_empty() {
                    return self.unheard(&mut open, message, size);
                }
                for listener in &open.listeners {
                    self.hand(listener, message.clone());
                }
            }
        }
    }

    /// Keeps a message for whoever listens next.
    fn unheard(&self, open: &mut Open, message: Message, size: usize) {
        if open.unheard.len() >= MAX_UNHEARD || size > MAX_UNHEARD_LINE {
            tracing::debug!(backend = %self.backend, "nobody hears a program's message");
        } else {
            open.unheard.push_back(message);
        }
    }

    fn hand(&self, to: &mpsc::Sender<Message>, message: Message) {
        if to.try_send(message).is_err() {
            tracing::debug!(backend = %self.backend, "nobody hears a program's message");
        }
    }

    /// Ends a program that nobody waits for any more and that has not even said what it is: it has no session, so that nobody
    /// else would.
    fn leave(&self) {
        if !self.answers.load(Ordering::Relaxed) && self.waiting.load(Ordering::Relaxed) == 0 {
            self.stop();
        }
    }

    pub(super) fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Talk {
    /// Returns the next message; `None` when there are no more.
    pub(in crate::mcp) async fn next(&mut self) -> Option<Message> {
        self.messages.recv().await
    }

    /// Returns what the program is to be told if nobody waits for its answer; `None` for a listener.
    pub(in crate::mcp) fn abandoned(&self) -> Option<Abandoned> {
        let process = Arc::clone(&self.process);
        self.request.map(|request| Abandoned { process, request })
    }

    fn close(&self) {
        let Some(number) = self.request else { return };
        let unasked = {
            let mut open = self.process.open();
            open.requests.remove(&number);
            open.requests.is_empty()
        };
        if unasked {
            self.process.leave();
        }
    }
}

impl Abandoned {
    /// Tells the program to give the request up.
    pub(in crate::mcp) async fn tell(self) -> Result<(), Failure> {
        let mut params = Object::default();
        params.set("requestId", json::raw(&self.request));
        let cancelled = Message::Notification(Notification {
            params: Some(params.to_raw()),
            ..Notification::new(mcp::method::CANCELLED)
        });
        let told = self.process.write(&cancelled).await;
        told.map_err(|_| {
            Failure::new(
                &self.process.backend,
                Fault::Broken,
                "its program does not listen",
            )
        })
    }
}

impl<'p> Waiting<'p> {
    fn new(process: &'p Process) -> Self {
        process.waiting.fetch_add(1, Ordering::Relaxed);
        Self(process)
    }

    fn end(&self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
        self.0.leave();
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        self.close();
    }
}

/// Returns a message as a line.
fn line(message: &Message) -> Vec<u8> {
    let mut line = message.to_bytes();
    // A line end inside a message can only stand between its tokens.
    for byte in &mut line {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
    line.push(b'\n');
    line
}

/// Returns what a client calls the progress of a request.
fn progress(params: &RawValue) -> Option<Box<RawValue>> {
    let params = Object::parse(params)?;
    let meta = params.object("_meta")?;
    meta.get("progressToken").map(RawValue::to_owned)
}

/// Returns parameters whose progress is known by the number of the request.
fn marked(params: &RawValue, number: u64) -> Option<Box<RawValue>> {
    let mut params = Object::parse(params)?;
    params.edit("_meta", |meta| {
        let mut meta = Object::parse(meta)?;
        meta.set("progressToken", json::raw(&number));
        Some(meta.to_raw())
    });
    Some(params.to_raw())
}

/// Returns the number of the request that a message says it belongs to.
fn of_request(message: &Message) -> Option<u64> {
    let Message::Notification(notification) = message else {
        return None;
    };
    let params = Object::parse(notification.params.as_deref()?)?;
    match notification.method.as_str() {
        mcp::method::PROGRESS => params.get("progressToken")?.get().parse().ok(),
        _ => params.object("_meta")?.get(subscription::ID)?.get().parse().ok(),
    }
}

/// Returns a message with the client's own word for the progress.
fn restored(message: Message, progress: Option<&RawValue>) -> Message {
    let (Message::Notification(mut notification), Some(progress)) = (message.clone(), progress) else {
        return message;
    };
    let named = notification.params.as_deref().and_then(|params| {
        let mut params = Object::parse(params)?;
        params.edit("progressToken", |_| Some(progress.to_owned()));
        Some(params.to_raw())
    });
    notification.params = named.or(notification.params);
    Message::Notification(notification)
}

fn number_id(number: u64) -> Id {
    Id::parse(&json::raw(&number)).unwrap_or_else(|| Id::text("0"))
}
