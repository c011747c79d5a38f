//! One program: its life, and the lines that go to and fro.

use std::{
    collections::HashMap,
    io,
    process::{ExitStatus, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use config::mcp_route::Program;
use mcp::{
    Id, Message, Notification, Response,
    json::{self, Object},
    subscription,
};
#[cfg(unix)]
use rustix::process::{Pid, Signal, kill_process};
use serde_json::value::RawValue;
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, Command},
    sync::{Notify, mpsc, watch},
    time::{Instant, timeout},
};
use tracing::{info, warn};

use crate::mcp::call::{Failure, Fault};

/// The longest line that is read.
const MAX_LINE: usize = 16 * 1024 * 1024;

/// The longest line of a program's own log that is written to ours.
const MAX_LOG: usize = 2_000;

/// How many messages wait for a client that does not read; more are lost, which is said in the log.
const QUEUE: usize = 1_024;

/// How long a program may take to end once its input is closed, and again once it is asked to.
const GRACE: Duration = Duration::from_secs(2);

/// A program that runs.
pub(super) struct Process {
    key: Box<str>,
    program: Arc<str>,
    backend: Arc<str>,
    started: Instant,
    /// Milliseconds after the start at which it was last spoken with.
    spoken: AtomicU64,
    stdin: tokio::sync::Mutex<Option<ChildStdin>>,
    open: Mutex<Open>,
    next_id: AtomicU64,
    /// The answer to `initialize`, once there is one: a program that serves several is asked once.
    initialized: tokio::sync::Mutex<Option<Message>>,
    told: AtomicBool,
    stop: Notify,
    dead: watch::Sender<bool>,
}

/// Who waits for what.
#[derive(Default)]
struct Open {
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

/// A request that a program works on, and for whose answer nobody waits.
pub(in crate::mcp) struct Abandoned {
    process: Arc<Process>,
    request: u64,
}

impl Process {
    /// Starts a program.
    #[expect(
        clippy::disallowed_methods,
        reason = "a program serves many requests, and its lines are read whether or not one waits; it ends with its session"
    )]
    pub(super) fn start(backend: &Arc<str>, program: &Program, key: &str) -> io::Result<Arc<Self>> {
        let mut command = Command::new(&program.command);
        command
            .args(&program.args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        for (name, value) in &program.env {
            command.env(name, value.expose());
        }
        if let Some(folder) = &program.cwd {
            command.current_dir(folder);
        }
        let mut child = command.spawn()?;
        let none = || io::Error::from(io::ErrorKind::BrokenPipe);
        let stdin = child.stdin.take().ok_or_else(none)?;
        let stdout = child.stdout.take().ok_or_else(none)?;
        let stderr = child.stderr.take().ok_or_else(none)?;
        let process = Arc::new(Self {
            key: Box::from(key),
            program: Arc::clone(&program.id),
            backend: Arc::clone(backend),
            started: Instant::now(),
            spoken: AtomicU64::new(0),
            stdin: tokio::sync::Mutex::new(Some(stdin)),
            open: Mutex::default(),
            next_id: AtomicU64::new(1),
            initialized: tokio::sync::Mutex::default(),
            told: AtomicBool::new(false),
            stop: Notify::new(),
            dead: watch::Sender::new(false),
        });
        info!(backend = %backend, command = %program.command, "program started");
        let own = Arc::clone(&process);
        tokio::spawn(async move {
            let said = own.hear(BufReader::new(stdout));
            let logged = log(Arc::clone(&own.backend), BufReader::new(stderr));
            let watched = own.watch(&mut child);
            // What a program says last is read before its end is known.
            tokio::join!(said, logged, watched);
        });
        Ok(process)
    }

    /// Returns the answer to `initialize`; asks only once.
    pub(super) async fn initialize(
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
    pub(super) async fn post(self: &Arc<Self>, message: &Message) -> Result<Option<Talk>, String> {
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
    pub(super) fn listen(self: &Arc<Self>) -> Talk {
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

    /// Tells the program to end, and sees to it that it does.
    pub(super) fn stop(&self) {
        self.stop.notify_one();
    }

    /// Waits until the program has ended.
    pub(super) async fn ended(&self) {
        // The sender lives as long as `self`.
        let _ = self.dead.subscribe().wait_for(|dead| *dead).await;
    }

    pub(super) fn is_dead(&self) -> bool {
        *self.dead.borrow()
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    pub(super) fn program(&self) -> &Arc<str> {
        &self.program
    }

    pub(super) fn age(&self) -> Duration {
        self.started.elapsed()
    }

    pub(super) fn idle_for(&self) -> Duration {
        let spoken = Duration::from_millis(self.spoken.load(Ordering::Relaxed));
        self.age().saturating_sub(spoken)
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
        let mut stdin = self.stdin.lock().await;
        let stdin = stdin.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        stdin.write_all(&line).await?;
        stdin.flush().await
    }

    /// Hands out what the program says, until it says no more.
    async fn hear(&self, mut from: impl AsyncBufRead + Unpin) {
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

    /// Waits for the program's end, or brings it about.
    async fn watch(&self, child: &mut Child) {
        let ended = tokio::select! {
            ended = child.wait() => ended,
            () = self.stop.notified() => {
                // A server of this kind ends when its input does (revision 2025-11-25, "Lifecycle", stdio).
                self.stdin.lock().await.take();
                end(child).await
            }
        };
        match ended {
            Ok(status) => info!(backend = %self.backend, %status, "program ended"),
            Err(error) => warn!(backend = %self.backend, %error, "a program's end is not known"),
        }
        self.dead.send_replace(true);
        // Nobody is answered any more.
        *self.open() = Open::default();
    }

    fn open(&self) -> MutexGuard<'_, Open> {
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
        if let Some(number) = self.request {
            self.process.open().requests.remove(&number);
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

/// Writes what a program says about itself to our log.
async fn log(backend: Arc<str>, mut from: impl AsyncBufRead + Unpin) {
    while let Some(line) = next_line(&mut from, MAX_LINE).await {
        let line = String::from_utf8_lossy(&line);
        let shown: String = line.trim_end().chars().take(MAX_LOG).collect();
        if !shown.is_empty() {
            info!(backend = %backend, line = %shown, "program said");
        }
    }
}

/// Returns the next line; `None` at the end, or if there is none of at most `limit` bytes.
async fn next_line(from: &mut (impl AsyncBufRead + Unpin), limit: usize) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    loop {
        let piece = from.fill_buf().await.ok()?;
        if piece.is_empty() {
            return (!line.is_empty()).then_some(line);
        }
        let end = piece.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(piece.len(), |end| end + 1);
        line.extend(piece.iter().take(taken));
        from.consume(taken);
        if end.is_some() {
            return Some(line);
        }
        if line.len() > limit {
            return None;
        }
    }
}

/// Waits for a program to end whose input is closed, asks it to, and at last makes it.
async fn end(child: &mut Child) -> io::Result<ExitStatus> {
    if let Ok(ended) = timeout(GRACE, child.wait()).await {
        return ended;
    }
    terminate(child);
    if let Ok(ended) = timeout(GRACE, child.wait()).await {
        return ended;
    }
    child.kill().await?;
    child.wait().await
}

/// Asks a program to end.
#[cfg(unix)]
fn terminate(child: &Child) {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
    if let Some(pid) = pid.and_then(Pid::from_raw) {
        // One that has ended by now is waited for all the same.
        let _ = kill_process(pid, Signal::TERM);
    }
}

/// There is no asking here.
#[cfg(not(unix))]
fn terminate(_: &Child) {}

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
