//! One program: its life, and its lines.

mod talk;

use std::{
    io,
    process::{ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use config::mcp_route::Program;
#[cfg(unix)]
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, Command},
    sync::{Notify, mpsc, watch},
    time::{Instant, timeout},
};
use tracing::{info, warn};

pub(in crate::mcp) use talk::{Abandoned, Talk};
use talk::{Beginning, Open};

/// The longest line that is read.
const MAX_LINE: usize = 16 * 1024 * 1024;

/// How many lines wait for a program that does not read.
const MAX_LINES: usize = 16;

/// The longest line of a program's own log that is written to ours.
const MAX_LOG: usize = 2_000;

/// How long a program may take to end once its input is closed, and again once it is asked to.
const GRACE: Duration = Duration::from_secs(2);

/// A program that runs.
pub(super) struct Process {
    key: Box<str>,
    program: Program,
    backend: Arc<str>,
    started: Instant,
    /// Milliseconds after the start at which it was last spoken with.
    spoken: AtomicU64,
    /// Lines for it, which are written one after the other, each whole or not at all.
    lines: mpsc::Sender<Vec<u8>>,
    open: Mutex<Open>,
    next_id: AtomicU64,
    /// What is known of it by now; held while it is asked.
    beginning: tokio::sync::Mutex<Beginning>,
    /// How many wait for that.
    waiting: AtomicUsize,
    told: AtomicBool,
    /// Whether it has answered anything by now.
    answers: AtomicBool,
    stop: Notify,
    stopped: AtomicBool,
    dead: watch::Sender<bool>,
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
        // What it starts in its turn ends with it.
        #[cfg(unix)]
        command.process_group(0);
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
        let (lines, queue) = mpsc::channel(MAX_LINES);
        let process = Arc::new(Self {
            key: Box::from(key),
            program: program.clone(),
            backend: Arc::clone(backend),
            started: Instant::now(),
            spoken: AtomicU64::new(0),
            lines,
            open: Mutex::default(),
            next_id: AtomicU64::new(1),
            beginning: tokio::sync::Mutex::default(),
            waiting: AtomicUsize::new(0),
            told: AtomicBool::new(false),
            answers: AtomicBool::new(false),
            stop: Notify::new(),
            stopped: AtomicBool::new(false),
            dead: watch::Sender::new(false),
        });
        info!(backend = %backend, command = %program.command, "program started");
        let own = Arc::clone(&process);
        tokio::spawn(async move {
            let said = async {
                own.hear(BufReader::new(stdout)).await;
                // One that says no more, or what cannot be read, answers nobody.
                own.stop();
            };
            let logged = log(Arc::clone(&own.backend), BufReader::new(stderr));
            let watched = own.watch(&mut child, write(stdin, queue));
            // What a program says last is read before its end is known.
            tokio::join!(said, logged, watched);
        });
        Ok(process)
    }

    /// Tells the program to end, and sees to it that it does.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.stop.notify_one();
    }

    /// Waits until the program has ended.
    pub(super) async fn ended(&self) {
        // The sender lives as long as `self`.
        let _ = self.dead.subscribe().wait_for(|dead| *dead).await;
    }

    /// Returns whether the program has ended, or was told to.
    pub(super) fn is_over(&self) -> bool {
        self.stopped.load(Ordering::Relaxed) || *self.dead.borrow()
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    pub(super) fn program(&self) -> &Program {
        &self.program
    }

    pub(super) fn age(&self) -> Duration {
        self.started.elapsed()
    }

    pub(super) fn idle_for(&self) -> Duration {
        let spoken = Duration::from_millis(self.spoken.load(Ordering::Relaxed));
        self.age().saturating_sub(spoken)
    }

    /// Waits for the program's end, or brings it about, while it is told what there is to tell.
    async fn watch(&self, child: &mut Child, told: impl Future<Output = ()>) {
        let group = child.id();
        let ended = tokio::select! {
            ended = child.wait() => Some(ended),
            () = self.stop.notified() => None,
            () = told => None,
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                self.stopped.store(true, Ordering::Relaxed);
                // Its input is closed by now, and a server of this kind ends when its input does (revision 2025-11-25,
                // "Lifecycle", stdio).
                end(child, group).await
            }
        };
        ask_to_end(group);
        match ended {
            Ok(status) => info!(backend = %self.backend, %status, "program ended"),
            Err(error) => warn!(backend = %self.backend, %error, "a program's end is not known"),
        }
        self.dead.send_replace(true);
        // Nobody is answered any more.
        *self.open() = Open::default();
    }
}

/// Writes what a program says about itself to our log.
async fn log(backend: Arc<str>, mut from: impl AsyncBufRead + Unpin) {
    while let Some(line) = beginning(&mut from, MAX_LOG).await {
        let line = String::from_utf8_lossy(&line);
        let shown = line.trim_end();
        if !shown.is_empty() {
            info!(backend = %backend, line = %shown, "program said");
        }
    }
}

/// Writes lines, for as long as they are read.
async fn write(mut stdin: ChildStdin, mut queue: mpsc::Receiver<Vec<u8>>) {
    while let Some(line) = queue.recv().await {
        if stdin.write_all(&line).await.is_err() || stdin.flush().await.is_err() {
            return;
        }
    }
}

/// Returns the next line, or `None` at the end. What is longer than `limit` bytes is read and left out.
async fn beginning(from: &mut (impl AsyncBufRead + Unpin), limit: usize) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    let mut any = false;
    loop {
        let piece = from.fill_buf().await.ok()?;
        if piece.is_empty() {
            return any.then_some(line);
        }
        any = true;
        let end = piece.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(piece.len(), |end| end + 1);
        let room = limit.saturating_sub(line.len());
        line.extend(piece.iter().take(taken.min(room)));
        from.consume(taken);
        if end.is_some() {
            return Some(line);
        }
    }
}

/// A line, or the beginning of one that is too long.
struct Line {
    bytes: Vec<u8>,
    whole: bool,
}

/// Returns the next line, or as much of it as exceeds `limit` bytes; `None` at the end.
async fn next_line(from: &mut (impl AsyncBufRead + Unpin), limit: usize) -> Option<Line> {
    let mut bytes = Vec::new();
    // One byte more tells a line that is too long.
    let mut bounded = from.take(limit as u64 + 1);
    bounded.read_until(b'\n', &mut bytes).await.ok()?;
    let whole = bytes.len() <= limit;
    (!bytes.is_empty()).then_some(Line { bytes, whole })
}

/// Waits for a program to end whose input is closed, asks it to, and at last makes it.
async fn end(child: &mut Child, group: Option<u32>) -> io::Result<ExitStatus> {
    if let Ok(ended) = timeout(GRACE, child.wait()).await {
        return ended;
    }
    ask_to_end(group);
    if let Ok(ended) = timeout(GRACE, child.wait()).await {
        return ended;
    }
    make_end(group);
    child.kill().await?;
    child.wait().await
}

/// Asks a program to end, and what it has started.
#[cfg(unix)]
fn ask_to_end(group: Option<u32>) {
    signal(group, Signal::TERM);
}

/// Ends what a program has started.
#[cfg(unix)]
fn make_end(group: Option<u32>) {
    signal(group, Signal::KILL);
}

#[cfg(unix)]
fn signal(group: Option<u32>, signal: Signal) {
    let group = group.and_then(|group| i32::try_from(group).ok());
    if let Some(group) = group.and_then(Pid::from_raw) {
        // It may be that nothing is left of it.
        let _ = kill_process_group(group, signal);
    }
}

/// There is no asking here.
#[cfg(not(unix))]
fn ask_to_end(_: Option<u32>) {}

/// There are no groups here.
#[cfg(not(unix))]
fn make_end(_: Option<u32>) {}
