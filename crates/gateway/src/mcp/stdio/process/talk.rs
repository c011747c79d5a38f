//! What is said with a program: it knows requests by ids of its own, and each message goes to whoever it is for.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, MutexGuard, PoisonError, atomic::Ordering},
    time::Duration,
};

use mcp::{
    Id, Message, Notification, Outcome, Response,
    json::{self, Object},
    subscription,
};
use serde_json::value::RawValue;
use tokio::{
    io::{AsyncBufRead, AsyncWriteExt},
    sync::mpsc,
    time::timeout,
};
use tracing::warn;

use super::{MAX_LINE, Process, next_line};
use crate::mcp::call::{Failure, Fault};

/// How many messages wait for a client that does not read; more are lost, which is said in the log.
const QUEUE: usize = 1_024;

/// Who waits for what.
#[derive(Default)]
pub(super) struct Open {
    /// Requests by the id that the program knows them by.
    requests: HashMap<u64, Asked>,
    /// Who listens to what is said unasked.
    listeners: Vec<mpsc::Sender<Message>>,
}

/// A request that the program works on.
struct Asked {
    /// What the client calls it.
    id: Id,
    /// What the client calls its progress.
    progress: Option<Box<RawValue>>,
    sender: mpsc::Sender<Message>,
}

/// Messages of a program for one request, or for whoever listens.
pub(in crate::mcp) struct Talk {
    messages: mpsc::Receiver<Message>,
    process: Arc<Process>,
    /// The request; `None` for a listener.
    request: Option<u64>,
}

/// A line that is being written. One that does not get to its end spoils all that follow, so the program is ended.
struct Writing<'a>(Option<&'a Process>);

/// A request that a program works on, and for whose answer nobody waits.
pub(in crate::mcp) struct Abandoned {
    process: Arc<Process>,
    request: u64,
}

impl Process {
    /// Returns the answer to `initialize`; asks only once.
    pub(in crate::mcp::stdio) async fn initialize(
        self: &Arc<Self>,
        message: &Message,
        limit: Duration,
    ) -> Result<Message, String> {
        let mut known = self.initialized.lock().await;
        if let Some(known) = &*known {
            return Ok(known.clone());
        }
        let talk = self.post(message).await?;
        let mut talk = talk.ok_or("initialize is a request")?;
        let answer = async {
            while let Some(message) = talk.next().await {
                if let Message::Response(_) = &message {
                    return Some(message);
                }
            }
            None
        };
        match timeout(limit, answer).await {
            Ok(Some(answer)) => Ok(known.insert(answer).clone()),
            Ok(None) => Err("its program ended without an answer".to_owned()),
            Err(_) => Err("its program did not answer in time".to_owned()),
        }
    }

    /// Hands a message to the program; returns what it says about it if it is a request.
    pub(in crate::mcp::stdio) async fn post(
        self: &Arc<Self>,
        message: &Message,
    ) -> Result<Option<Talk>, String> {
        let (line, talk) = match message {
            Message::Request(request) => {
                let number = self.next_id.fetch_add(1, Ordering::Relaxed);
                let (sender, messages) = mpsc::channel(QUEUE);
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
                let asked = Asked { id, progress, sender };
                self.open().requests.insert(number, asked);
                let talk = Talk {
                    messages,
                    process: Arc::clone(self),
                    request: Some(number),
                };
                (Message::Request(request), Some(talk))
            }
            Message::Notification(notification) => {
                let once = notification.method == mcp::method::INITIALIZED;
                if once && self.told.swap(true, Ordering::Relaxed) {
                    return Ok(None);
                }
                // What it has answered cannot be cancelled any more.
                let Some(own) = self.with_own_id(notification) else {
                    return Ok(None);
                };
                (Message::Notification(own), None)
            }
            Message::Response(_) => (message.clone(), None),
        };
        self.write(&line)
            .await
            .map_err(|_| "its program does not listen".to_owned())?;
        Ok(talk)
    }

    /// Returns what the program says unasked from now on, as all who listen hear it.
    pub(in crate::mcp::stdio) fn listen(self: &Arc<Self>) -> Talk {
        let (sender, messages) = mpsc::channel(QUEUE);
        let listeners = &mut self.open().listeners;
        listeners.retain(|listener| !listener.is_closed());
        listeners.push(sender);
        Talk {
            messages,
            process: Arc::clone(self),
            request: None,
        }
    }

    /// The program knows requests by other ids than the client does.
    fn with_own_id(&self, notification: &Notification) -> Option<Notification> {
        let mut notification = notification.clone();
        if notification.method != mcp::method::CANCELLED {
            return Some(notification);
        }
        let mut params = Object::parse(notification.params.as_ref()?)?;
        let id = Id::parse(params.get("requestId")?)?;
        let open = self.open();
        let (number, _) = open.requests.iter().find(|(_, asked)| asked.id == id)?;
        params.set("requestId", json::raw(number));
        notification.params = Some(params.to_raw());
        Some(notification)
    }

    async fn write(&self, message: &Message) -> io::Result<()> {
        let age = u64::try_from(self.age().as_millis()).unwrap_or(u64::MAX);
        self.spoken.store(age, Ordering::Relaxed);
        let mut line = message.to_bytes();
        // A line end inside a message can only stand between its tokens.
        for byte in &mut line {
            if matches!(byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
        line.push(b'\n');
        let mut held = self.stdin.lock().await;
        let stdin = held.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        let writing = Writing(Some(self));
        stdin.write_all(&line).await?;
        stdin.flush().await?;
        writing.done();
        Ok(())
    }

    /// Hands out what the program says, until it says no more.
    pub(super) async fn hear(&self, mut from: impl AsyncBufRead + Unpin) {
        while let Some(line) = next_line(&mut from, MAX_LINE).await {
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            match Message::parse(&line) {
                Ok(Message::Response(response)) => self.answered(response),
                Ok(message) => self.said(message),
                Err(error) => warn!(backend = %self.backend, %error, "a program's line is no message"),
            }
        }
    }

    fn answered(&self, response: Response) {
        let number = response.id.as_ref().and_then(|id| id.raw().get().parse().ok());
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
            let _ = asked.sender.try_send(Message::Response(answer));
        }
    }

    /// Hands a message to the request that it says it belongs to. Where it says none, one that a request can have
    /// caused goes to the last, and any other to whoever listens.
    fn said(&self, message: Message) {
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
                    tracing::debug!(backend = %self.backend, "nobody hears a program's message");
                }
                for listener in &open.listeners {
                    self.hand(listener, message.clone());
                }
            }
        }
    }

    fn hand(&self, to: &mpsc::Sender<Message>, message: Message) {
        if to.try_send(message).is_err() {
            tracing::debug!(backend = %self.backend, "nobody hears a program's message");
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
        self.process.open().requests.remove(&number);
        // One that has not even said what it is has no session, so that nobody else would end it.
        if !self.process.answers.load(Ordering::Relaxed) {
            self.process.stop();
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

impl Drop for Talk {
    fn drop(&mut self) {
        self.close();
    }
}

impl Writing<'_> {
    fn done(mut self) {
        self.0 = None;
    }

    fn give_up(&mut self) {
        if let Some(process) = self.0.take() {
            process.stop();
        }
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.give_up();
    }
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
